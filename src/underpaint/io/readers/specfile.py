"""Reader of SPEC files with spectra from beamlines and PyMca (``.mca``, ``.spec`` or ``.dat``).

Header lines begin with ``#``. ``#F`` begins the file, and ``#S number title`` begins a scan. A spectrum is a line
``@A`` of counts. If the line ends with a backslash, the next line continues it. ``#@CALIB`` has zero, gain and
quadratic term of the energies. ``#@CHANN`` has the number of channels, the first channel, the last channel and the
step. ``#@CTIME`` has the preset, live and real time in s. A scan with several lines ``#@CALIB`` has as many detectors,
whose spectra alternate. If PyMca saves a single spectrum, there is no ``@A``. Lines of numbers follow ``#L channel
counts energy``.

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
from underpaint.io._single import FileSpectrum, is_channel_or_energy, read_limited, scan_of_spectra, spectra_in_columns
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
_MAX_FILE_BYTES = 512 * 2**20
_MAX_DETECTORS = 1000


@dataclass
class _SpecScan:
    """Scan in a SPEC file: its number, header values, texts of spectra, and lines of a table."""

    number: str
    fields: dict[str, list[str]] = field(default_factory=dict)
    spectra: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def labels(self) -> tuple[str, ...]:
        """Lower-case headings of the table's columns, or an empty tuple if the scan is not a table of channels."""
        labels = tuple(re.split(r"\s{2,}|\t", self.fields.get("L", [""])[0].strip().lower()))
        return labels if "channel" in labels else ()


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a file begins like a SPEC file."""
    head_text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return bool(re.match(rb"#F \S|#S \d+ |#S \d+\s*[\r\n]", head_text)) or (
        head_text.startswith((b"#@", b"#D ")) and b"@A " in head_text.replace(b"@A\t", b"@A ")
    )


def read(path: Path, part_name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read the spectra of a SPEC file as one row of pixels, with a separate scan for each detector.

    Parameters
    ----------
    path : Path
        The file.
    part_name : str or None
        The only spectrum to read: ``SCAN.POINT`` (such as ``3.1``), or its number in the file from 1.

    Raises
    ------
    ScanError
        The file contains no spectrum, or a spectrum contains anything but numbers.
    """
    file_text = read_limited(path, _MAX_FILE_BYTES, "SPEC file").decode("latin-1")
    spectra_by_detector: dict[int, list[FileSpectrum]] = {}
    for spec_scan in _spec_scans(file_text):
        for detector_index, spectrum in (
            _scan_spectra(spec_scan, path) if spec_scan.spectra else _table_spectra(spec_scan, path)
        ):
            spectra_by_detector.setdefault(detector_index, []).append(spectrum)
    if not spectra_by_detector:
        raise ScanError(
            f"Cannot read {path}: a SPEC file without spectra in it (no line @A). Give the file of the detector's "
            "spectra, or export them with PyMca as HDF5."
        )
    if len(spectra_by_detector) == 1:
        return [scan_of_spectra(spectra_by_detector[0], path, FORMAT.name, part_name)]
    return [
        _with_detector(scan_of_spectra(spectra, path, FORMAT.name, part_name), path, detector_index + 1)
        for detector_index, spectra in spectra_by_detector.items()
    ]


def _with_detector(scan: Scan, path: Path, detector: int) -> Scan:
    return scan.replace(source=f"{path}::{detector}", name=f"{path.stem}_{detector}", detector=str(detector))


def _spec_scans(file_text: str) -> Iterator[_SpecScan]:
    """Yield the scans of the file. Spectra before the first ``#S`` form a separate scan."""
    spec_scan, counts_lines = _SpecScan("1"), None
    for text_line in file_text.splitlines():
        if counts_lines is not None:
            counts_lines.append(text_line.rstrip("\\ \t"))
        elif text_line.startswith("@A"):
            counts_lines = [re.sub(r"^@A\d*", "", text_line).rstrip("\\ \t")]
        elif text_line.startswith("#S "):
            yield spec_scan
            spec_scan = _SpecScan(([*text_line.split(), "1"])[1])
        elif text_line.startswith("#"):
            header_key, _, header_value = text_line[1:].partition(" ")
            spec_scan.fields.setdefault(header_key, []).append(header_value.strip())
        elif text_line.strip() and spec_scan.labels:
            spec_scan.lines.append(text_line)
        if counts_lines is not None and not text_line.rstrip().endswith("\\"):
            spec_scan.spectra.append(" ".join(counts_lines))
            counts_lines = None
    if counts_lines is not None:
        spec_scan.spectra.append(" ".join(counts_lines))
    yield spec_scan


def _scan_spectra(spec_scan: _SpecScan, path: Path) -> Iterator[tuple[int, FileSpectrum]]:
    """Yield the detector and spectrum of each ``@A`` in the order of the file."""
    calibrations, time_fields = spec_scan.fields.get("@CALIB", []), spec_scan.fields.get("@CTIME", [])
    n_detector = len(calibrations) if len(calibrations) > 1 and len(spec_scan.spectra) % len(calibrations) == 0 else 1
    if n_detector > _MAX_DETECTORS:
        raise ScanError(
            f"Cannot read {path}: scan {spec_scan.number} has {n_detector} detectors; at most {_MAX_DETECTORS} are "
            "allowed."
        )
    for index, counts_text in enumerate(spec_scan.spectra):
        point_index, detector_index = divmod(index, n_detector)
        spectrum_name = f"{spec_scan.number}.{point_index + 1}"
        try:
            counts = np.array(counts_text.split(), dtype=np.float64)
        except ValueError as error:
            raise ScanError(
                f"Cannot read {path}::{spectrum_name}: its spectrum must be numbers ({error}). Copy the file again."
            ) from error
        _check_channels(spec_scan.fields.get("@CHANN", []), counts.size, f"{path}::{spectrum_name}")
        axis, notes = _axis(
            calibrations[detector_index : detector_index + 1], spec_scan.fields.get("@CHANN", []), counts.size
        )
        time_text = (
            time_fields[index]
            if len(time_fields) == len(spec_scan.spectra)
            else time_fields[0]
            if time_fields and len(time_fields) == 1
            else ""
        )
        live_time, real_time = (parse_seconds(time_word) for time_word in ([*time_text.split(), "", "", ""])[1:3])
        header_fields = {
            header_key: " | ".join(header_values[:3])
            for header_key, header_values in spec_scan.fields.items()
            if len(header_values) < 4
        }
        yield (
            detector_index,
            FileSpectrum(counts, axis, live_time, real_time, spectrum_name, notes=notes, metadata=header_fields),
        )


def _table_spectra(spec_scan: _SpecScan, path: Path) -> Iterator[tuple[int, FileSpectrum]]:
    """Yield the detector and spectrum of a scan that is a table with one line per channel."""
    labels = spec_scan.labels
    if not labels or not spec_scan.lines:
        return
    try:
        channel_table = np.array([table_line.split() for table_line in spec_scan.lines], dtype=np.float64).T
    except ValueError as error:
        raise ScanError(
            f"Cannot read {path}: a line of scan {spec_scan.number} does not have {len(labels)} numbers ({error})."
        ) from error
    if len(channel_table) != len(labels) or channel_table.shape[1] < 2:
        raise ScanError(
            f"Cannot read {path}: scan {spec_scan.number} has {channel_table.shape[1]} lines of "
            f"{len(channel_table)} numbers below {len(labels)} labels. Two lines or more of as many "
            "numbers as labels are needed; copy the file again."
        )
    axis_columns = [column for column, column_label in enumerate(labels) if is_channel_or_energy(column_label)]
    for detector_index, spectrum in enumerate(spectra_in_columns(channel_table, labels, axis_columns, path)):
        yield detector_index, replace(spectrum, name=f"{spec_scan.number}.1")


def _check_channels(channel_fields: list[str], n_channel: int, location: str) -> None:
    n_expected = parse_number((channel_fields[0].split() or [""])[0]) if channel_fields else None
    if n_channel < 2 or (n_expected is not None and n_channel != n_expected):
        raise ScanError(
            f"Cannot read {location}: a spectrum of {n_channel} channels, where "
            f"{channel_fields[0].split()[0] if channel_fields else 2} "
            "were declared. The file is truncated or edited; copy the file again."
        )


def _axis(calibration: list[str], channel_fields: list[str], n_channel: int) -> Axis:
    """Return the energy axis of ``#@CALIB``, in which channel numbers start at the first channel in ``#@CHANN``."""
    parsed_coefficients = [parse_number(number_text) for number_text in calibration[0].split()] if calibration else []
    coefficients = [parsed_coefficient for parsed_coefficient in parsed_coefficients if parsed_coefficient is not None]
    if len(coefficients) < 2 or len(coefficients) < len(parsed_coefficients):
        return None, (NO_CALIBRATION,)
    first_channel = parse_number(([*channel_fields[0].split(), "", ""])[1]) if channel_fields else None
    if first_channel and coefficients[:2] != [0.0, 1.0]:
        shifted_polynomial = np.polynomial.Polynomial(coefficients)(np.polynomial.Polynomial([first_channel, 1.0]))
        coefficients = shifted_polynomial.coef.tolist()
    return axis_of_coefficients(coefficients, n_channel)
