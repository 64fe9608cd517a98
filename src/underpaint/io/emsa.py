"""Single spectra in the EMSA/MAS text format, ``.msa``, ``.emsa`` or ``.txt``.

Lines ``#KEYWORD : value`` up to ``#SPECTRUM``, numbers up to ``#ENDOFDATA``. ``DATATYPE`` Y: counts, parted by commas
or spaces, several a line; XY: one energy and one count a line. Energy of channel n is ``OFFSET + n * XPERCHAN`` in
``XUNITS`` (keV or eV); of XY files that leave ``XPERCHAN`` out it is the first column, where its steps are even.
``LIVETIME`` and ``REALTIME`` are in seconds.

Source: ISO 22029:2022; R. F. Egerton et al., EMSA/MAS standard file format for spectral-data exchange, EMSA Bulletin
21 (1991) 35.
"""

from pathlib import Path

import numpy as np

from underpaint.errors import CalibrationError, ScanError
from underpaint.io._source import probe
from underpaint.spectrum import EnergyAxis, Spectrum

_UNIT_KEV = {"kev": 1.0, "ev": 1e-3, "": 1.0}
_LARGEST_BYTES = 64 * 2**20


def is_emsa(head: bytes) -> bool:
    """Whether a file's first bytes are those of an EMSA/MAS file."""
    first = head.lstrip(b"\xef\xbb\xbf \r\n").split(b"\n", 1)[0].upper()
    return first.startswith(b"#FORMAT") and b"EMSA" in first


def read_emsa(path: Path) -> Spectrum:
    """Read one EMSA/MAS file, data type Y or XY.

    Raises
    ------
    ScanError
        The file is cut off, its numbers do not fit its header, or a count is negative or not a number.
    """
    size = probe(path.stat, str(path)).st_size
    if size > _LARGEST_BYTES:
        message = f"Cannot read {path}: {size} bytes are no single EMSA spectrum (at most {_LARGEST_BYTES})."
        raise ScanError(message)
    text = probe(path.read_bytes, str(path)).decode("latin-1")
    head, _, rest = text.partition("#SPECTRUM")
    body, end, _ = rest.partition("#ENDOFDATA")
    if not end:
        message = f"Cannot read {path}: the file is cut off (no #ENDOFDATA). Copy it from the instrument again."
        raise ScanError(message)
    fields = _fields(head)
    counts = _counts(body, fields, path)
    return Spectrum(
        counts,
        _axis(fields, counts.size) or _axis_of_pairs(body, fields, counts.size),
        _positive(fields.get("LIVETIME")),
        _positive(fields.get("REALTIME")),
        path.stem,
    )


def _fields(head: str) -> dict[str, str]:
    pairs = (line.lstrip("#").partition(":") for line in head.splitlines() if line.startswith("#"))
    return {key.split()[0].upper(): value.strip() for key, _, value in pairs if key.strip()}


def _counts(body: str, fields: dict[str, str], path: Path) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    lines = _lines(body)
    words = (
        [line[1] for line in lines if len(line) > 1] if _is_xy(fields) else [word for line in lines for word in line]
    )
    try:
        counts = np.array(words, dtype=np.float64)
    except ValueError as error:
        message = f"Cannot read {path}: {error}. The data lines must hold numbers."
        raise ScanError(message) from error
    expected = _positive(fields.get("NPOINTS"))
    if counts.size < 2 or (expected is not None and counts.size != int(expected)):
        message = f"Cannot read {path}: its header promises {fields.get('NPOINTS')} channels, it holds {counts.size}."
        raise ScanError(message)
    return counts


def _lines(body: str) -> list[list[str]]:
    return [line.replace(",", " ").split() for line in body.splitlines()[1:] if line.strip()]


def _is_xy(fields: dict[str, str]) -> bool:
    return fields.get("DATATYPE", "Y").strip().upper() == "XY"


def _axis_of_pairs(body: str, fields: dict[str, str], n_channel: int) -> EnergyAxis | None:
    """Axis from the first column of an XY file that does not say XPERCHAN."""
    unit_kev = _UNIT_KEV.get(fields.get("XUNITS", "").lower())
    if unit_kev is None or not _is_xy(fields) or "XPERCHAN" in fields:
        return None
    try:
        energy = np.array([line[0] for line in _lines(body) if len(line) > 1], dtype=np.float64)
        gain = float(energy[-1] - energy[0]) / (n_channel - 1)
        if energy.size != n_channel or not np.allclose(np.diff(energy), gain, rtol=0.02, atol=0):
            return None
        return EnergyAxis(gain * unit_kev, float(energy[0]) * unit_kev, n_channel)
    except (ValueError, CalibrationError):
        return None


def _axis(fields: dict[str, str], n_channel: int) -> EnergyAxis | None:
    unit_kev = _UNIT_KEV.get(fields.get("XUNITS", "").lower())
    try:
        gain, zero = float(fields["XPERCHAN"]), float(fields.get("OFFSET", "0"))
        return None if unit_kev is None else EnergyAxis(gain * unit_kev, zero * unit_kev, n_channel)
    except (KeyError, ValueError, CalibrationError):
        return None


def _positive(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if np.isfinite(value) and value > 0 else None
