"""Reader of the GSECARS text format (APS, sector 13) with one spectrum per detector (``.mca`` or ``.xrf``).

The header has lines ``KEY: values``, with ``VERSION``, ``ELEMENTS`` (number of detectors) and ``CHANNELS``.
``REAL_TIME`` and ``LIVE_TIME`` (in s), ``CAL_OFFSET``, ``CAL_SLOPE`` and ``CAL_QUAD`` (in keV) have one value per
detector. ``ENVIRONMENT`` lines are metadata of the beamline. After ``DATA:``, each line has the counts of all detectors
in one channel. All detectors recorded at the same time, and each detector has a separate energy axis.

Source: header names in the example files of xraylarch (M. Newville, MIT licence); M. Rivers, EPICS MCA software, the
ASCII format of its IDL and Python readers.
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._energies import axis_of_coefficients, parse_number, parse_seconds
from underpaint.io._single import FileSpectrum, detector_scans, read_limited
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
_MAX_FILE_BYTES = 64 * 2**20
_MAX_DETECTORS, _MAX_CHANNELS = 1000, 65536


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a file begins like a GSECARS file."""
    return head.lstrip(b"\xef\xbb\xbf \r\n").startswith(b"VERSION:") and bool(
        re.search(rb"(?m)^ELEMENTS:", head.replace(b"\r", b"\n"))
    )


def read(path: Path, part_name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read each detector as a scan of one pixel, or only the detector with the number ``part_name`` (from 1).

    Raises
    ------
    ScanError
        The file is truncated, or a line does not have one number per detector.
    """
    file_text = read_limited(path, _MAX_FILE_BYTES, "single spectrum of some detectors").decode("latin-1")
    header_text, _, data_text = "\n".join(file_text.splitlines()).partition("\nDATA:")
    fields = _header_fields(header_text)
    counts = _parse_counts(data_text, fields, path)
    spectra = []
    for detector_index in range(counts.shape[1]):
        zero, gain, quadratic = (
            _detector_value(fields, field_name, detector_index)
            for field_name in ("CAL_OFFSET", "CAL_SLOPE", "CAL_QUAD")
        )
        axis, notes = axis_of_coefficients(
            (parse_number(zero) or 0.0, parse_number(gain) or 0.0, parse_number(quadratic) or 0.0), len(counts)
        )
        live_time, real_time = (
            parse_seconds(_detector_value(fields, field_name, detector_index))
            for field_name in ("LIVE_TIME", "REAL_TIME")
        )
        detector = str(detector_index + 1)
        spectra.append(
            FileSpectrum(counts[:, detector_index], axis, live_time, real_time, detector, detector, notes, dict(fields))
        )
    return detector_scans(spectra, path, FORMAT.name, part_name)


def _header_fields(header_text: str) -> dict[str, str]:
    """Return the values of the header by their keys.

    ``ENVIRONMENT`` occurs in several lines. The key of an ``ENVIRONMENT`` line is the name inside its value.
    """
    fields: dict[str, str] = {}
    for header_line in header_text.splitlines():
        field_name, separator, field_value = header_line.partition(":")
        if field_name.strip() == "ENVIRONMENT":
            field_name, separator, field_value = field_value.partition("=")
            field_value = field_value.strip(' "')
        if separator and not field_name.startswith("ROI"):
            fields[field_name.strip()] = field_value.strip()
    return fields


def _parse_counts(data_text: str, fields: dict[str, str], path: Path) -> NDArray[np.float64]:
    """Return the counts as a (channel, detector) array."""
    n_detector, n_channel = (parse_number(fields.get(field_name)) for field_name in ("ELEMENTS", "CHANNELS"))
    if not (
        n_detector is not None
        and n_channel is not None
        and n_detector in range(1, _MAX_DETECTORS + 1)
        and n_channel in range(2, _MAX_CHANNELS + 1)
    ):
        raise ScanError(
            f"Cannot read {path}: a GSECARS spectrum of {fields.get('CHANNELS')} channels and {fields.get('ELEMENTS')} "
            f"detectors; 2 to {_MAX_CHANNELS} and 1 to {_MAX_DETECTORS} are allowed. Copy the file again."
        )
    try:
        counts_in_lines = np.array(data_text.split(), dtype=np.float64)
    except ValueError as error:
        raise ScanError(
            f"Cannot read {path}: a GSECARS spectrum, but its data must be numbers ({error}). Copy the file again."
        ) from error
    if counts_in_lines.size != n_detector * n_channel:
        raise ScanError(
            f"Cannot read {path}: a GSECARS spectrum of {n_channel:g} channels and {n_detector:g} detectors that holds "
            f"{counts_in_lines.size} numbers. The file is cut off or edited; copy the file again."
        )
    return counts_in_lines.reshape(int(n_channel), int(n_detector))


def _detector_value(fields: dict[str, str], field_name: str, detector_index: int) -> str | None:
    detector_values = fields.get(field_name, "").split()
    return detector_values[detector_index] if detector_index < len(detector_values) else None
