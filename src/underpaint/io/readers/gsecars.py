"""Spectra of several detectors side by side, as GSECARS (APS, sector 13) writes them: ``.mca``, ``.xrf``, any number.

A text header ``KEY: values`` with ``VERSION``, ``ELEMENTS`` (detectors), ``CHANNELS`` and a value for each detector of
``REAL_TIME``, ``LIVE_TIME`` (s), ``CAL_OFFSET``, ``CAL_SLOPE``, ``CAL_QUAD`` (keV); ``ENVIRONMENT`` lines are what the
beamline knows. After ``DATA:`` a line for each channel with the counts of each detector. The detectors are those of one
spectrum, each with its own axis.

Source: the names in the headers, on files of xraylarch's examples (M. Newville, MIT licence); M. Rivers, EPICS MCA
software, the ASCII format of its IDL and Python readers.
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._energies import axis_of_coefficients, number, seconds
from underpaint.io._single import FileSpectrum, detector_scans, read_content
from underpaint.io.readers import Format

FORMAT = Format(
    "GSECARS multi-detector",
    "GSECARS spectrum of several detectors",
    endings=(
        ".mca",
        ".xrf",
    ),
    recognised_by="lines VERSION: and ELEMENTS:",
    source="names of its header; M. Rivers, EPICS MCA software",
    parts=True,
)
_MAX_BYTES = 64 * 2**20
_MAX_DETECTORS, _MAX_CHANNELS = 1000, 65536


def sniff(path: Path, head: bytes) -> bool:
    """Whether a file's first bytes are those of a GSECARS spectrum."""
    return head.lstrip(b"\xef\xbb\xbf \r\n").startswith(b"VERSION:") and bool(
        re.search(rb"(?m)^ELEMENTS:", head.replace(b"\r", b"\n"))
    )


def read(path: Path, name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read each detector as a scan of one pixel, called by its number from 1; ``name`` picks one.

    Raises
    ------
    ScanError
        The file is cut off, or its lines do not hold a count for each detector.
    """
    text = read_content(path, _MAX_BYTES, "single spectrum of some detectors").decode("latin-1")
    head, _, body = "\n".join(text.splitlines()).partition("\nDATA:")
    fields = _fields(head)
    counts = _counts(body, fields, path)
    spectra = []
    for place in range(counts.shape[1]):
        zero, gain, curved = (_value(fields, key, place) for key in ("CAL_OFFSET", "CAL_SLOPE", "CAL_QUAD"))
        axis, notes = axis_of_coefficients(
            (number(zero) or 0.0, number(gain) or 0.0, number(curved) or 0.0), len(counts)
        )
        live, real = (seconds(_value(fields, key, place)) for key in ("LIVE_TIME", "REAL_TIME"))
        detector = str(place + 1)
        spectra.append(FileSpectrum(counts[:, place], axis, live, real, detector, detector, notes, dict(fields)))
    return detector_scans(spectra, path, FORMAT.name, name)


def _fields(head: str) -> dict[str, str]:
    """Values by key; of the keys that occur more than once (``ENVIRONMENT``) each by the name in its value."""
    fields: dict[str, str] = {}
    for line in head.splitlines():
        key, colon, value = line.partition(":")
        if key.strip() == "ENVIRONMENT":
            key, colon, value = value.partition("=")
            value = value.strip(' "')
        if colon and not key.startswith("ROI"):
            fields[key.strip()] = value.strip()
    return fields


def _counts(body: str, fields: dict[str, str], path: Path) -> NDArray[np.float64]:
    """(channel, detector) counts."""
    n_detector, n_channel = (number(fields.get(key)) for key in ("ELEMENTS", "CHANNELS"))
    if not (
        n_detector is not None
        and n_channel is not None
        and n_detector in range(1, _MAX_DETECTORS + 1)
        and n_channel in range(2, _MAX_CHANNELS + 1)
    ):
        raise ScanError(
            f"Cannot read {path}: a GSECARS spectrum of {fields.get('CHANNELS')} channels and {fields.get('ELEMENTS')} "
            f"detectors; 2 to {_MAX_CHANNELS} and 1 to {_MAX_DETECTORS} can be. Copy it again."
        )
    try:
        values = np.array(body.split(), dtype=np.float64)
    except ValueError as error:
        raise ScanError(
            f"Cannot read {path}: a GSECARS spectrum, but its data must be numbers ({error}). Copy it again."
        ) from error
    if values.size != n_detector * n_channel:
        raise ScanError(
            f"Cannot read {path}: a GSECARS spectrum of {n_channel:g} channels and {n_detector:g} detectors that holds "
            f"{values.size} numbers. It is cut off or edited; copy it again."
        )
    return values.reshape(int(n_channel), int(n_detector))


def _value(fields: dict[str, str], key: str, place: int) -> str | None:
    values = fields.get(key, "").split()
    return values[place] if place < len(values) else None
