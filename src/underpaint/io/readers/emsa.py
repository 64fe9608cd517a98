"""Reader of single spectra in the EMSA/MAS text format (``.msa``, ``.emsa`` or ``.txt``).

The header has lines ``#KEYWORD : value`` and ends at ``#SPECTRUM``. The numbers follow and end at ``#ENDOFDATA``. If
``DATATYPE`` is Y, the numbers are counts, separated by commas or spaces, with any number of counts per line. If
``DATATYPE`` is XY, the numbers are pairs of energy and counts. The energy of channel n is ``OFFSET + n * XPERCHAN`` in
``XUNITS`` (keV or eV). If the file states no unit, the size of the energies decides. If there is no ``OFFSET``, channel
``CHOFFSET`` has energy 0. If an XY file has no ``XPERCHAN``, the pairs give the energy axis. ``LIVETIME`` and
``REALTIME`` are in seconds. Numbers with decimal commas are separated by semicolons, spaces, or commas followed by a
space.

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
_MAX_FILE_BYTES = 64 * 2**20
_POINT_SEPARATOR, _COMMA_SEPARATOR = re.compile(r"[,;\s]+"), re.compile(r"\s*;\s*|,?\s+|,$")
"""Patterns of the separators between numbers with decimal points, and between numbers with decimal commas."""


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a file begins like an EMSA/MAS file."""
    first_lines = head.lstrip(b"\xef\xbb\xbf \r\n").splitlines()[:1]
    return bool(first_lines) and first_lines[0].upper().startswith(b"#FORMAT") and b"EMSA" in first_lines[0].upper()


def read(path: Path, part_name: str | None, shape: tuple[int, int] | None) -> Scan:
    """Read an EMSA/MAS file with data type Y or XY as a scan of one pixel.

    Raises
    ------
    ScanError
        The file is truncated, or its numbers contradict its header.
    """
    file_text = "\n".join(read_limited(path, _MAX_FILE_BYTES, "single EMSA spectrum").decode("latin-1").splitlines())
    file_sections = re.split(r"(?im)^[ \t]*#(?:SPECTRUM|ENDOFDATA)\b.*", file_text, maxsplit=2)
    if len(file_sections) != 3:
        raise ScanError(
            f"Cannot read {path}: the file is cut off (no #ENDOFDATA). Copy the file from the instrument again."
        )
    fields = _header_fields(file_sections[0])
    energy, counts = _parse_columns(file_sections[1], fields, path)
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


def _header_fields(header_text: str) -> dict[str, str]:
    key_value_parts = (line.lstrip("#").partition(":") for line in header_text.splitlines() if line.startswith("#"))
    return {
        keyword.split()[0].upper(): field_value.strip()
        for keyword, _, field_value in key_value_parts
        if keyword.strip()
    }


def _parse_columns(
    data_text: str, fields: dict[str, str], path: Path
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64]]:
    """Return energies (None for data type Y) and counts. The declared number of channels decides the decimal sign."""
    text_lines = [text_line.strip() for text_line in data_text.splitlines() if text_line.strip()]
    is_paired = fields.get("DATATYPE", "Y").upper() == "XY"
    n_declared = parse_number(fields.get("NPOINTS"))
    comma_is_likely = any(
        re.search(r"\d,\d", fields.get(keyword, "")) for keyword in ("XPERCHAN", "OFFSET", "NPOINTS", "LIVETIME")
    )
    parsed_tables = [
        _parse_rows(text_lines, decimal_comma=comma_is_likely),
        _parse_rows(text_lines, decimal_comma=not comma_is_likely),
    ]
    for number_rows in parsed_tables:
        energy_and_counts = (
            None
            if number_rows is None
            else _energies_and_counts(number_rows, n_declared)
            if is_paired
            else _as_counts_only(number_rows, n_declared)
        )
        if energy_and_counts is not None:
            return energy_and_counts
    data_fields = [
        number_text for text_line in text_lines for number_text in _POINT_SEPARATOR.split(text_line) if number_text
    ]
    invalid_text = next((number_text for number_text in data_fields if parse_number(number_text) is None), None)
    if invalid_text is not None:
        raise ScanError(
            f"Cannot read {path}: {invalid_text[:30]!r} is not a number. Copy the file from the instrument again."
        )
    raise ScanError(
        f"Cannot read {path}: its header declares {fields.get('NPOINTS')} channels, its {len(text_lines)} lines hold "
        f"{len(data_fields)} numbers. Copy the file from the instrument again."
    )


def _parse_rows(text_lines: list[str], *, decimal_comma: bool) -> list[list[float]] | None:
    separator_pattern = _COMMA_SEPARATOR if decimal_comma else _POINT_SEPARATOR
    try:
        return [
            [float(number_text.replace(",", ".")) for number_text in separator_pattern.split(text_line) if number_text]
            for text_line in text_lines
        ]
    except ValueError:
        return None


def _as_counts_only(
    number_rows: list[list[float]], n_declared: float | None
) -> tuple[None, NDArray[np.float64]] | None:
    counts = np.array([parsed_count for number_row in number_rows for parsed_count in number_row])
    return (None, counts) if counts.size >= 2 and n_declared in {None, counts.size} else None


def _energies_and_counts(
    number_rows: list[list[float]], n_declared: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the energies and counts of pairs. Each line has one or several pairs.

    If the pairs are not a plausible spectrum, only the first two numbers of each line are read.
    """
    if all(len(number_row) % 2 == 0 for number_row in number_rows):
        energy_count_pairs = [
            pair for number_row in number_rows for pair in zip(number_row[::2], number_row[1::2], strict=True)
        ]
        if _are_plausible_pairs(energy_count_pairs, n_declared):
            energy, counts = np.array(energy_count_pairs).T
            return energy, counts
    energy_count_pairs = [(number_row[0], number_row[1]) for number_row in number_rows if len(number_row) > 1]
    if _are_plausible_pairs(energy_count_pairs, n_declared):
        energy, counts = np.array(energy_count_pairs).T
        return energy, counts
    return None


def _are_plausible_pairs(energy_count_pairs: list[tuple[float, float]], n_declared: float | None) -> bool:
    return (
        len(energy_count_pairs) >= 2
        and n_declared in {None, len(energy_count_pairs)}
        and all(energy_count_pair[0] <= next_pair[0] for energy_count_pair, next_pair in pairwise(energy_count_pairs))
    )


def _axis(energy: NDArray[np.float64] | None, fields: dict[str, str], n_channel: int) -> Axis:
    unit = energy_unit(fields.get("XUNITS", "")) or energy_unit(fields.get("XLABEL", ""))
    gain, zero = parse_number(fields.get("XPERCHAN")), parse_number(fields.get("OFFSET"))
    if gain is None:
        return (None, (NO_CALIBRATION,)) if energy is None else axis_of_list(energy, n_channel, unit)
    if zero is None:
        zero = -gain * (parse_number(fields.get("CHOFFSET")) or 0.0)
    return axis_of_coefficients((zero, gain), n_channel, unit)
