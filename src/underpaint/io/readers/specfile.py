"""Spectra in SPEC files, as beamlines and PyMca write them: ``.mca``, ``.spec``, ``.dat``.

Text of lines ``#X ...``: ``#F`` opens the file, ``#S number title`` a scan. A spectrum is a line ``@A`` of counts,
which goes on in the next where it ends with a backslash; ``#@CALIB`` has the coefficients (zero, gain, quadratic) of
its energies, ``#@CHANN`` the number of channels, the first, the last and the step, ``#@CTIME`` the preset, live and
real time in s. A scan whose head has several ``#@CALIB`` has as many detectors, and their spectra come in turn.
Where PyMca saves a single spectrum, there is no ``@A``: lines of numbers stand below ``#L channel  counts  energy``.

Source: Certified Scientific Software, SPEC: standard data file format; PyMca5 and silx, ``specfile``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._energies import NO_CALIBRATION, Axis, axis_of_coefficients, parse_number, parse_seconds
from underpaint.io._single import FileSpectrum, is_channel_or_energy, list_scan, read_limited, spectra_in_columns
from underpaint.io.readers import Format

FORMAT = Format(
    "SPEC",
    "SPEC file, a list of spectra",
    endings=(
        ".mca",
        ".spec",
        ".dat",
    ),
    recognised_by="first line #F or #S; spectra are the lines @A",
    source="Certified Scientific Software: SPEC standard data file format; PyMca5, silx: specfile",
    parts=True,
)
_MAX_BYTES = 512 * 2**20
_MAX_DETECTORS = 1000


@dataclass
class _Part:
    """A scan of the file: its number, the values of its head lines, its spectra."""

    number: str
    fields: dict[str, list[str]] = field(default_factory=dict)
    spectra: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the columns of its lines, in lower case; none without a table of channels."""
        labels = tuple(re.split(r"\s{2,}|\t", self.fields.get("L", [""])[0].strip().lower()))
        return labels if "channel" in labels else ()


def sniff(path: Path, head: bytes) -> bool:
    """Whether a file's first bytes are those of a SPEC file."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return bool(re.match(rb"#F \S|#S \d+ |#S \d+\s*[\r\n]", text)) or (
        text.startswith((b"#@", b"#D ")) and b"@A " in text.replace(b"@A\t", b"@A ")
    )


def read(path: Path, name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read the spectra of a SPEC file as one row of pixels, a scan for each detector.

    Parameters
    ----------
    path : Path
        The file.
    name : str or None
        One spectrum: ``SCAN.POINT`` (``3.1``), or its number from 1.

    Raises
    ------
    ScanError
        There is no spectrum, or one has other content than numbers.
    """
    text = read_limited(path, _MAX_BYTES, "SPEC file").decode("latin-1")
    by_detector: dict[int, list[FileSpectrum]] = {}
    for part in _parts(text):
        for detector, spectrum in _spectra(part, path) if part.spectra else _columns(part, path):
            by_detector.setdefault(detector, []).append(spectrum)
    if not by_detector:
        raise ScanError(
            f"Cannot read {path}: a SPEC file without spectra in it (no line @A). Give the file of the detector's "
            "spectra, or export them with PyMca as HDF5."
        )
    if len(by_detector) == 1:
        return [list_scan(by_detector[0], path, FORMAT.name, name)]
    return [
        _named(list_scan(spectra, path, FORMAT.name, name), path, detector + 1)
        for detector, spectra in by_detector.items()
    ]


def _named(scan: Scan, path: Path, detector: int) -> Scan:
    return replace(scan, source=f"{path}::{detector}", name=f"{path.stem}_{detector}", detector=str(detector))


def _parts(text: str) -> Iterator[_Part]:
    """Scans of the file; spectra before the first one are a separate scan."""
    part, counts = _Part("1"), None
    for line in text.splitlines():
        if counts is not None:
            counts.append(line.rstrip("\\ \t"))
        elif line.startswith("@A"):
            counts = [re.sub(r"^@A\d*", "", line).rstrip("\\ \t")]
        elif line.startswith("#S "):
            yield part
            part = _Part(([*line.split(), "1"])[1])
        elif line.startswith("#"):
            key, _, value = line[1:].partition(" ")
            part.fields.setdefault(key, []).append(value.strip())
        elif line.strip() and part.labels:
            part.lines.append(line)
        if counts is not None and not line.rstrip().endswith("\\"):
            part.spectra.append(" ".join(counts))
            counts = None
    if counts is not None:
        part.spectra.append(" ".join(counts))
    yield part


def _spectra(part: _Part, path: Path) -> Iterator[tuple[int, FileSpectrum]]:
    """Detector and spectrum, in the order of the file."""
    calibrations, times = part.fields.get("@CALIB", []), part.fields.get("@CTIME", [])
    n_detector = len(calibrations) if len(calibrations) > 1 and len(part.spectra) % len(calibrations) == 0 else 1
    if n_detector > _MAX_DETECTORS:
        raise ScanError(
            f"Cannot read {path}: scan {part.number} has {n_detector} detectors; {_MAX_DETECTORS} at most can be."
        )
    for place, text in enumerate(part.spectra):
        point, detector = divmod(place, n_detector)
        label = f"{part.number}.{point + 1}"
        try:
            counts = np.array(text.split(), dtype=np.float64)
        except ValueError as error:
            raise ScanError(
                f"Cannot read {path}::{label}: its spectrum must be numbers ({error}). Copy the file again."
            ) from error
        _check_number(part.fields.get("@CHANN", []), counts.size, f"{path}::{label}")
        axis, notes = _axis(calibrations[detector : detector + 1], part.fields.get("@CHANN", []), counts.size)
        seconds_of = times[place] if len(times) == len(part.spectra) else times[0] if times and len(times) == 1 else ""
        live, real = (parse_seconds(word) for word in ([*seconds_of.split(), "", "", ""])[1:3])
        fields = {key: " | ".join(values[:3]) for key, values in part.fields.items() if len(values) < 4}
        yield detector, FileSpectrum(counts, axis, live, real, label, notes=notes, metadata=fields)


def _columns(part: _Part, path: Path) -> Iterator[tuple[int, FileSpectrum]]:
    """Detector and spectrum of a scan that is a table with a line for each channel."""
    labels = part.labels
    if not labels or not part.lines:
        return
    try:
        table = np.array([line.split() for line in part.lines], dtype=np.float64).T
    except ValueError as error:
        raise ScanError(
            f"Cannot read {path}: a line of scan {part.number} is not of {len(labels)} numbers ({error})."
        ) from error
    if len(table) != len(labels) or table.shape[1] < 2:
        raise ScanError(
            f"Cannot read {path}: scan {part.number} has {table.shape[1]} lines of {len(table)} numbers below "
            f"{len(labels)} labels. Two lines or more of as many numbers as labels are needed; copy the file again."
        )
    columns = [column for column, label in enumerate(labels) if is_channel_or_energy(label)]
    for detector, spectrum in enumerate(spectra_in_columns(table, labels, columns, path)):
        yield detector, replace(spectrum, name=f"{part.number}.1")


def _check_number(declared: list[str], size: int, location: str) -> None:
    expected = parse_number((declared[0].split() or [""])[0]) if declared else None
    if size < 2 or (expected is not None and size != expected):
        raise ScanError(
            f"Cannot read {location}: a spectrum of {size} channels, where {declared[0].split()[0] if declared else 2} "
            "were announced. The file is cut off or edited; copy it again."
        )


def _axis(calibration: list[str], declared: list[str], n_channel: int) -> Axis:
    """Axis of ``#@CALIB``; it counts channels as ``#@CHANN`` does, whose first need not be 0."""
    values = [parse_number(word) for word in calibration[0].split()] if calibration else []
    numbers_given = [value for value in values if value is not None]
    if len(numbers_given) < 2 or len(numbers_given) < len(values):
        return None, (NO_CALIBRATION,)
    first = parse_number(([*declared[0].split(), "", ""])[1]) if declared else None
    if first and numbers_given[:2] != [0.0, 1.0]:
        shifted = np.polynomial.Polynomial(numbers_given)(np.polynomial.Polynomial([first, 1.0]))
        numbers_given = shifted.coef.tolist()
    return axis_of_coefficients(numbers_given, n_channel)
