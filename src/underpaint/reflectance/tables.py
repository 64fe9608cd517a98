"""Read tables of reflectance spectra: CSV files and ENVI spectral libraries."""

import csv
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import ScanError
from underpaint.io.cubes._wavelengths import WAVENUMBER, find_unit, to_nm
from underpaint.runtime.untrusted import fault_of_name, read_bounded

MAX_BYTES = 256 * 2**20
MAX_WAVELENGTH_UM = 100.0
"""Wavelengths without a unit are assumed to be in um if none is above this number, otherwise in nm."""
MIN_WAVELENGTH_NM, MAX_WAVELENGTH_NM = 100.0, 100_000.0
MAX_FRACTION, MAX_PER_CENT = 2.0, 200.0
"""Limits of the 98th percentile of the values. Values are fractions up to the first limit, per cent up to the second
limit, and reflectance times 10,000 above."""


@dataclass(frozen=True)
class SpectrumTable:
    """Spectra with common wavelengths.

    Parameters
    ----------
    names : tuple of str
    wavelength_nm : (n_band,) array
        Increasing, without repeated values.
    reflectance : (n, n_band) array
        Fractions; NaN where the file has no usable value.
    notes : tuple of str
        Changes and assumptions made while reading, for the user.
    """

    names: tuple[str, ...]
    wavelength_nm: NDArray[np.float64]
    reflectance: NDArray[np.float64]
    notes: tuple[str, ...] = ()


def read_table(path: Path) -> SpectrumTable:
    """Read a CSV file (comma, semicolon or tab) or an ENVI spectral library (path of the header or the data file).

    Raises
    ------
    ScanError
        The file cannot be read, is neither CSV nor ENVI, or contains invalid wavelengths or no reflectance.
    """
    header = _find_envi_header(path)
    notes: list[str] = []
    names, wavelength, reflectance, unit_text = _read_envi(header, path) if header else _read_csv(path, notes)
    if wavelength.size < 2 or not np.isfinite(wavelength).all() or (wavelength <= 0).any():
        raise ScanError(
            f"Cannot read {path}: it has {wavelength.size} wavelengths, {int((wavelength > 0).sum())} of them positive "
            "numbers; at least two are needed, all of them positive. Correct the column or row of wavelengths."
        )
    for name in names:
        if name_fault := fault_of_name(name):
            raise ScanError(
                f"Cannot read {path}: a spectrum's name is not usable: {name_fault}. Correct the name in the file."
            )
    wavelength_unit = find_unit(unit_text)
    if not wavelength_unit:
        wavelength_unit = "um" if wavelength.max() <= MAX_WAVELENGTH_UM else "nm"
        notes.append(f"{path.name}: wavelengths without a unit are assumed to be in {wavelength_unit}")
    file_wavelength, wavelength = wavelength, to_nm(wavelength, wavelength_unit)
    if not np.array_equal(file_wavelength, wavelength):
        notes.append(
            f"{path.name}: {'wavenumbers' if wavelength_unit == WAVENUMBER else 'wavelengths'} converted to nm"
        )
    if wavelength.max() > MAX_WAVELENGTH_NM or wavelength.min() < MIN_WAVELENGTH_NM:
        raise ScanError(
            f"Cannot read {path}: its wavelengths run from {wavelength.min():g} to {wavelength.max():g} nm; those of "
            f"reflectance spectra lie between {MIN_WAVELENGTH_NM:g} and {MAX_WAVELENGTH_NM:,.0f} nm. Correct the "
            "wavelengths or their unit (nm, um or cm-1)."
        )
    reflectance, divisor = _as_fractions(reflectance, path)
    if divisor != 1.0:
        notes.append(f"{path.name}: reflectance divided by {divisor:g}")
    wavelength_order = np.argsort(wavelength, kind="stable")
    if (np.diff(wavelength) <= 0).any():
        notes.append(f"{path.name}: spectra sorted by wavelength; values of repeated wavelengths averaged")
    unique_wavelengths, unique_index = np.unique(wavelength, return_inverse=True)
    if unique_wavelengths.size < wavelength.size:
        with np.errstate(invalid="ignore"):
            is_finite = np.isfinite(reflectance)
            n_values = np.stack(
                [np.bincount(unique_index, row, unique_wavelengths.size) for row in is_finite.astype(float)]
            )
            value_sum = np.stack(
                [
                    np.bincount(unique_index, row, unique_wavelengths.size)
                    for row in np.where(is_finite, reflectance, 0.0)
                ]
            )
            reflectance = np.where(n_values > 0, value_sum / np.maximum(n_values, 1), np.nan)
    else:
        reflectance = reflectance[:, wavelength_order]
    return SpectrumTable(tuple(names), unique_wavelengths, reflectance, tuple(notes))


def _as_fractions(reflectance: NDArray[np.float64], path: Path) -> tuple[NDArray[np.float64], float]:
    """Return reflectance as fractions and the divisor used. Values outside the range of reflectance become NaN."""
    reflectance = np.where(np.isfinite(reflectance) & (reflectance > -1e4) & (reflectance < 1e6), reflectance, np.nan)
    if not np.isfinite(reflectance).any():
        raise ScanError(
            f"Cannot read {path}: it holds no reflectance (0 to 1, 0 to 100 per cent, or 0 to 10,000). Check the file."
        )
    high_percentile = float(np.nanpercentile(reflectance, 98))
    divisor = 1.0 if high_percentile <= MAX_FRACTION else 100.0 if high_percentile <= MAX_PER_CENT else 10_000.0
    reflectance = reflectance / divisor
    return np.where((reflectance > -0.1) & (reflectance < MAX_FRACTION), reflectance, np.nan), divisor


def _read_csv(path: Path, notes: list[str]) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64], str]:
    """Return names, wavelengths, values and text with the unit; assumptions are appended to ``notes``."""
    file_bytes = read_bounded(path, MAX_BYTES, ScanError)
    if b"\0" in file_bytes[:4096]:
        raise ScanError(
            f"Cannot read {path} as a table of spectra: it is a binary file. Give CSV with names and wavelengths, or "
            "an ENVI spectral library (.hdr beside .sli)."
        )
    file_text = file_bytes.decode("utf-8-sig", errors="replace")
    delimiter = max("\t;,", key=file_text[:20_000].count)
    rows = [
        [cell.strip() for cell in row] for row in csv.reader(file_text.splitlines(), delimiter=delimiter) if any(row)
    ]
    rows = [row for row in rows if row and not row[0].startswith("#")]
    if len(rows) < 2 or len(rows[0]) < 2:
        raise ScanError(
            f"Cannot read {path} as a table of spectra: it has {len(rows)} rows of {len(rows[0]) if rows else 0} "
            "columns. Put wavelengths in the first column and a named spectrum in each further one, or the same by "
            "rows."
        )
    n_column = max(map(len, rows))
    cells = [row + [""] * (n_column - len(row)) for row in rows]
    has_decimal_comma = delimiter != ","
    if has_decimal_comma and any(re.fullmatch(r"[-+]?\d*,\d+\s*%?", cell) for row in cells for cell in row):
        notes.append(f"{path.name}: decimal commas read as points")
    first_row = [_parse_number(cell, has_decimal_comma=has_decimal_comma) for cell in cells[0][1:]]
    first_column = [_parse_number(row[0], has_decimal_comma=has_decimal_comma) for row in cells[1:]]
    if np.isfinite(first_row).all() and not np.isfinite(first_column).all():
        notes.append(f"{path.name}: the first row is assumed to contain the wavelengths")
        names, wavelength = [row[0] for row in cells[1:]], np.asarray(first_row)
        row_values = [
            [_parse_number(cell, has_decimal_comma=has_decimal_comma) for cell in row[1:]] for row in cells[1:]
        ]
        return names, wavelength, np.asarray(row_values), cells[0][0]
    if not np.isfinite(first_column).any():
        raise ScanError(
            f"Cannot read {path} as a table of spectra: neither its first row nor its first column holds wavelengths. "
            "Put wavelengths in the first column and a named spectrum in each further column, or the same in rows."
        )
    if not re.search(r"wave|lambda|λ|nm|[uµμ]m|cm", cells[0][0].casefold()):
        notes.append(f"{path.name}: the first column, {cells[0][0][:40]!r}, is assumed to contain the wavelengths")
    spectrum_rows = [
        row for row, wavelength_value in zip(cells[1:], first_column, strict=True) if np.isfinite(wavelength_value)
    ]
    wavelength = np.asarray([wavelength_value for wavelength_value in first_column if np.isfinite(wavelength_value)])
    reflectance = np.asarray(
        [[_parse_number(cell, has_decimal_comma=has_decimal_comma) for cell in row[1:]] for row in spectrum_rows]
    ).T
    names = [cell or f"column {column_number}" for column_number, cell in enumerate(cells[0][1:], 2)]
    return names, wavelength, reflectance, cells[0][0]


def _parse_number(cell: str, *, has_decimal_comma: bool) -> float:
    cell = cell.strip("% ")
    cell = re.sub(r"\s*(nm|um|µm|μm)$", "", cell)
    if has_decimal_comma:
        cell = cell.replace(",", ".")
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def _find_envi_header(path: Path) -> Path | None:
    """Return the path of the ENVI header at ``path`` or in the same folder; None if there is no header."""
    for candidate in (path, path.with_suffix(".hdr"), path.with_name(path.name + ".hdr")):
        if candidate.is_file():
            with candidate.open("rb") as file:
                if file.read(4) == b"ENVI":
                    return candidate
    return None


def _read_envi(header: Path, path: Path) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64], str]:
    header_entries = envi_entries(read_bounded(header, MAX_BYTES, ScanError).decode("utf-8", errors="replace"))
    try:
        n_band, n_spectrum = int(header_entries["samples"]), int(header_entries["lines"])
        numpy_types = {"1": "u1", "2": "i2", "3": "i4", "4": "f4", "5": "f8", "12": "u2", "13": "u4"}
        dtype = np.dtype(
            (">" if header_entries.get("byte order", "0") == "1" else "<") + numpy_types[header_entries["data type"]]
        )
        offset_bytes = int(header_entries.get("header offset", "0"))
        scale = float(header_entries.get("reflectance scale factor", "1"))
        wavelength = np.asarray([float(cell) for cell in header_entries["wavelength"].split(",")])
        if min(n_band, n_spectrum) < 1 or wavelength.size != n_band or offset_bytes < 0 or not scale > 0:
            raise ValueError(f"{n_spectrum} spectra of {n_band} bands, {wavelength.size} wavelengths")
    except (KeyError, ValueError) as error:
        raise ScanError(
            f"Cannot read {header}: the header of the spectral library is incomplete ({str(error)[:100]}). The header "
            "needs samples, lines, data type and wavelength; export it again."
        ) from error
    data_path = next((candidate for candidate in _data_file_candidates(header, path) if candidate.is_file()), None)
    if data_path is None:
        raise ScanError(
            f"Cannot read {header}: its data file is missing. Copy {header.with_suffix('.sli').name} beside it."
        )
    file_bytes = read_bounded(data_path, MAX_BYTES, ScanError)
    if len(file_bytes) - offset_bytes < n_band * n_spectrum * dtype.itemsize:
        raise ScanError(
            f"Cannot read {data_path}: it has {len(file_bytes)} bytes, too few for {n_spectrum} spectra of {n_band} "
            "bands. Copy it again."
        )
    stored_values = (
        np.frombuffer(file_bytes, dtype, n_band * n_spectrum, offset_bytes)
        .reshape(n_spectrum, n_band)
        .astype(np.float64)
    )
    if header_entries.get("data ignore value", "").casefold() not in {"", "nan"}:
        with suppress(ValueError):
            stored_values = np.where(stored_values == float(header_entries["data ignore value"]), np.nan, stored_values)
    names = [cell.strip() for cell in header_entries.get("spectra names", "").split(",")]
    if len(names) != n_spectrum:
        names = [f"spectrum {index + 1}" for index in range(n_spectrum)]
    return names, wavelength, stored_values / scale, header_entries.get("wavelength units", "")


def _data_file_candidates(header: Path, path: Path) -> list[Path]:
    candidates = [header.with_suffix(extension) for extension in (".sli", ".SLI", ".slb", ".lib", ".dat", ".img", "")]
    return [*([path] if path != header else []), *candidates]


def envi_entries(header_text: str) -> dict[str, str]:
    """Return the entries of an ENVI header as a dictionary, with keys in lower case and values without braces."""
    entries_by_key = {}
    for key, braced_value, plain_value in re.findall(
        r"(?m)^\s*([^=\n{}]+?)\s*=\s*(?:\{([^}]*)\}|([^\n{]*))", header_text
    ):
        entries_by_key[key.casefold()] = " ".join((braced_value or plain_value).split())
    return entries_by_key
