"""Single spectra in the EMSA/MAS text format, ``.msa``, ``.emsa`` or ``.txt``.

Lines ``#KEYWORD : value`` up to ``#SPECTRUM``, numbers up to ``#ENDOFDATA``. ``DATATYPE`` Y: counts, separated by
commas or spaces, any number per line; XY: pairs of energy and counts. The energy of channel n is
``OFFSET + n * XPERCHAN`` in ``XUNITS`` (keV or eV; by size if the file states none); without ``OFFSET``, channel
``CHOFFSET`` has the energy 0. If an XY file has no ``XPERCHAN``, the axis is that of its pairs. ``LIVETIME`` and
``REALTIME`` are in seconds. Decimal commas are allowed: numbers are then separated by semicolons, spaces, or commas
followed by a space.

Source: ISO 22029:2022; R. F. Egerton et al., EMSA/MAS standard file format for spectral-data exchange, EMSA Bulletin
21 (1991) 35.
"""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._energies import (
    NO_CALIBRATION,
    Axis,
    axis_of_coefficients,
    axis_of_list,
    energy_unit,
    parse_number,
    parse_seconds,
)
from underpaint.io._single import FileSpectrum, read_limited, spectrum_scan
from underpaint.io.readers import Format

FORMAT = Format(
    "EMSA/MAS",
    "EMSA/MAS spectrum",
    endings=(
        ".msa",
        ".emsa",
        ".txt",
    ),
    recognised_by="first line #FORMAT with EMSA",
    source="ISO 22029:2022; R. Egerton et al., EMSA Bulletin 21 (1991) 35",
)
_MAX_BYTES = 64 * 2**20
_POINT_SEPARATOR, _COMMA_SEPARATOR = re.compile(r"[,;\s]+"), re.compile(r"\s*;\s*|,?\s+|,$")
"""Separators of numbers with decimal points, and with decimal commas."""


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a file's first bytes are those of an EMSA/MAS file."""
    first = head.lstrip(b"\xef\xbb\xbf \r\n").splitlines()[:1]
    return bool(first) and first[0].upper().startswith(b"#FORMAT") and b"EMSA" in first[0].upper()


def read(path: Path, name: str | None, shape: tuple[int, int] | None) -> Scan:
    """Read one EMSA/MAS file, data type Y or XY, as a scan of one pixel.

    Raises
    ------
    ScanError
        The file is truncated, or its numbers do not fit its header.
    """
    text = "\n".join(read_limited(path, _MAX_BYTES, "single EMSA spectrum").decode("latin-1").splitlines())
    parts = re.split(r"(?im)^[ \t]*#(?:SPECTRUM|ENDOFDATA)\b.*", text, maxsplit=2)
    if len(parts) != 3:
        raise ScanError(f"Cannot read {path}: the file is cut off (no #ENDOFDATA). Copy it from the instrument again.")
    fields = _fields(parts[0])
    energy, counts = _columns(parts[1], fields, path)
    axis, notes = _axis(energy, fields, counts.size)
    spectrum = FileSpectrum(
        counts,
        axis,
        parse_seconds(fields.get("LIVETIME")),
        parse_seconds(fields.get("REALTIME")),
        fields.get("TITLE", ""),
        notes=notes,
        metadata=fields,
    )
    return spectrum_scan(spectrum, path, FORMAT.name)


def _fields(head: str) -> dict[str, str]:
    pairs = (line.lstrip("#").partition(":") for line in head.splitlines() if line.startswith("#"))
    return {key.split()[0].upper(): value.strip() for key, _, value in pairs if key.strip()}


def _columns(body: str, fields: dict[str, str], path: Path) -> tuple[NDArray[np.float64] | None, NDArray[np.float64]]:
    """Return energies (None without pairs) and counts, with the decimal sign that yields the declared channels."""
    lines = [line.strip() for line in body.splitlines() if line.strip()]
    is_paired = fields.get("DATATYPE", "Y").upper() == "XY"
    declared = parse_number(fields.get("NPOINTS"))
    comma_is_likely = any(
        re.search(r"\d,\d", fields.get(key, "")) for key in ("XPERCHAN", "OFFSET", "NPOINTS", "LIVETIME")
    )
    readings = [
        _parse_rows(lines, decimal_comma=comma_is_likely),
        _parse_rows(lines, decimal_comma=not comma_is_likely),
    ]
    for rows in readings:
        columns = (
            None
            if rows is None
            else _energies_and_counts(rows, declared)
            if is_paired
            else _counts_only(rows, declared)
        )
        if columns is not None:
            return columns
    fields_of_data = [word for line in lines for word in _POINT_SEPARATOR.split(line) if word]
    invalid = next((word for word in fields_of_data if parse_number(word) is None), None)
    if invalid is not None:
        raise ScanError(f"Cannot read {path}: {invalid[:30]!r} is not a number. Copy it from the instrument again.")
    raise ScanError(
        f"Cannot read {path}: its header declares {fields.get('NPOINTS')} channels, its {len(lines)} lines hold "
        f"{len(fields_of_data)} numbers. Copy it from the instrument again."
    )


def _parse_rows(lines: list[str], *, decimal_comma: bool) -> list[list[float]] | None:
    separators = _COMMA_SEPARATOR if decimal_comma else _POINT_SEPARATOR
    try:
        return [[float(word.replace(",", ".")) for word in separators.split(line) if word] for line in lines]
    except ValueError:
        return None


def _counts_only(rows: list[list[float]], declared: float | None) -> tuple[None, NDArray[np.float64]] | None:
    counts = np.array([value for row in rows for value in row])
    return (None, counts) if counts.size >= 2 and declared in {None, counts.size} else None


def _energies_and_counts(
    rows: list[list[float]], declared: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the pairs, one or several per line; or the first two numbers of each line if it is a channel."""
    if all(len(row) % 2 == 0 for row in rows):
        pairs = [pair for row in rows for pair in zip(row[::2], row[1::2], strict=True)]
        if _is_plausible(pairs, declared):
            energy, counts = np.array(pairs).T
            return energy, counts
    pairs = [(row[0], row[1]) for row in rows if len(row) > 1]
    if _is_plausible(pairs, declared):
        energy, counts = np.array(pairs).T
        return energy, counts
    return None


def _is_plausible(pairs: list[tuple[float, float]], declared: float | None) -> bool:
    return len(pairs) >= 2 and declared in {None, len(pairs)} and all(a[0] <= b[0] for a, b in pairwise(pairs))


def _axis(energy: NDArray[np.float64] | None, fields: dict[str, str], n_channel: int) -> Axis:
    unit = energy_unit(fields.get("XUNITS", "")) or energy_unit(fields.get("XLABEL", ""))
    gain, offset = parse_number(fields.get("XPERCHAN")), parse_number(fields.get("OFFSET"))
    if gain is None:
        return (None, (NO_CALIBRATION,)) if energy is None else axis_of_list(energy, n_channel, unit)
    if offset is None:
        offset = -gain * (parse_number(fields.get("CHOFFSET")) or 0.0)
    return axis_of_coefficients((offset, gain), n_channel, unit)
