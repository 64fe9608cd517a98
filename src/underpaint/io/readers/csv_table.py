"""Reader of text tables that hold one spectrum, or the spectrum of one pixel in each line.

Specification:

- Each line has numbers separated by commas, semicolons, tabs or spaces. Decimal commas are allowed inside quotation
  marks, or if the separator is not a comma. One or two lines of headings (names, units) and lines that begin with ``#``
  are allowed.
- A table of two columns is one spectrum: channel or energy, and counts. The first column is energies if its heading
  contains ``energy``, ``keV`` or ``eV``, or if its values are not successive channel numbers. Energies are in eV if the
  heading states eV, or if it states no unit and a value is above 200.
- In a table with more columns, one heading names the energy or channel. If another heading is counts, the table is one
  spectrum. If the other headings name detectors (``d1``, ``det 2``), the table has one spectrum per detector. All other
  columns are ignored. Three columns without headings are channel, counts and energy, as in PyMca's files.
- A table of one column and 32 lines or more is one spectrum, with one channel per line, as in PyMca.
- A table of pixels begins with the columns ``row`` and ``column``, or ``y`` and ``x``, in either order. These two
  columns hold integers, or positions if their headings contain a unit of length (``y_mm``). The counts of each channel
  follow, and their headings may be energies. If there are no headings for rows and columns, each line is the spectrum
  of one pixel, with 32 channels or more. The pixels are then in the order of the rows, and the user
  gives the number of rows and columns.

Source: RFC 4180 (2005) for comma-separated values, and PyMca ``PyMca5/PyMcaGui/pymca/McaWindow.py`` for the table of
three columns. No standard exists for the other tables, which this project defines.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._energies import NO_CALIBRATION, Axis, axis_of_list, energy_unit
from underpaint.io._single import (
    FileSpectrum,
    are_channel_numbers,
    detector_scans,
    is_channel_or_energy,
    read_limited,
    spectra_in_columns,
    spectrum_scan,
)
from underpaint.io._source import first_bytes, first_line, lazy_counts, try_read
from underpaint.io.readers import Format

FORMAT = Format(
    "CSV",
    "CSV, one spectrum or a table of pixels",
    endings=(
        ".csv",
        ".txt",
        ".dat",
    ),
    recognised_by="lines of numbers, at most one heading",
    source="RFC 4180; the columns are this project's definition",
    priority=90,
)
_SEPARATORS = (";", "\t", ",", " ")
_MAX_LINE_BYTES = 4 * 2**20
_READ_BYTES = 2**16
_MAX_HEADINGS = 2
_MAX_PIXEL_INDEX = 1_000_000
_MAX_SPECTRUM_BYTES = 16 * 2**20
_ROW_HEADINGS, _COLUMN_HEADINGS = {"row", "y", "line"}, {"column", "col", "x"}
_MM_PER_UNIT = {"mm": 1.0, "um": 1e-3, "µm": 1e-3, "cm": 10.0}
_LENGTH_PATTERN = re.compile(r"([a-z]+)[\W_]*(mm|um|µm|cm)\W*")
_STEP_TOLERANCE = 0.25
"""Maximum deviation of a position from the nearest point of a regular grid, in steps of the grid."""
_MAX_PIXELS_PER_SPECTRUM = 64
_BINARY_BYTES = set(range(9))
_MIN_CHANNELS = 32
"""Minimum number of channels of a spectrum."""


@dataclass(frozen=True)
class CsvDialect:
    """Text format of a table: separator, decimal sign, headings, number of heading lines, and line ending."""

    separator: str
    decimal_comma: bool
    headings: tuple[str, ...]
    n_heading: int = 0
    line_ending: bytes = b"\n"

    def fields(self, line: bytes) -> list[str]:
        """Split a line into fields. Consecutive spaces are one separator."""
        line_text = line.decode("latin-1").strip().removeprefix("ï»¿")
        cells = (
            line_text.split()
            if self.separator == " "
            else [cell.strip() for cell in _split_cells(line_text, self.separator)]
        )
        if cells and not cells[-1]:
            cells.pop()
        if self.separator == "," and "." in line_text:
            return cells  # if a quoted number has a decimal point, its commas separate thousands
        return [cell.replace(",", ".") for cell in cells] if self.decimal_comma else cells

    def read_line(self, stream: BinaryIO) -> bytes:
        """Read a line with its ending. The ending may be a carriage return without a line feed."""
        if self.line_ending == b"\n":
            return stream.readline(_MAX_LINE_BYTES)
        line_start, line_buffer = stream.tell(), b""
        while len(line_buffer) < _MAX_LINE_BYTES and (chunk := stream.read(_READ_BYTES)):
            line_buffer += chunk
            if self.line_ending in chunk:
                break
        line_end = line_buffer.find(self.line_ending) + 1
        line = line_buffer[: min(line_end, _MAX_LINE_BYTES)] if line_end else line_buffer
        stream.seek(line_start + len(line))
        return line


class TableCube:
    """Cube of a table with one pixel per line. Lines are read and parsed when needed."""

    dtype: np.dtype[Any] = np.dtype(np.float64)

    def __init__(
        self, path: Path, dialect: CsvDialect, line_offsets: NDArray[np.int64], n_channel: int, n_skipped: int
    ) -> None:
        self.path, self.dialect, self.line_offsets, self.n_skipped = path, dialect, line_offsets, n_skipped
        self.shape = (line_offsets.shape[0], line_offsets.shape[1], n_channel)

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a rectangle of pixels. If a pixel has no line, its counts are zero."""
        line_offsets = self.line_offsets[rows, columns]
        block = np.zeros((*line_offsets.shape, self.shape[2]))
        with try_read(lambda: self.path.open("rb"), str(self.path)) as stream:
            for row, column in np.argwhere(line_offsets >= 0):
                stream.seek(int(line_offsets[row, column]))
                block[row, column] = self._parse_line_counts(self.dialect.read_line(stream))
        return block

    def _parse_line_counts(self, line: bytes) -> NDArray[np.float64]:
        counts = _parse_numbers(self.dialect.fields(line)[self.n_skipped :], self.path)
        if counts.size != self.shape[2]:
            raise ScanError(
                f"Cannot read {self.path}: a line has {counts.size} counts, but the first line has {self.shape[2]}."
            )
        return counts


def _split_cells(line_text: str, separator: str) -> list[str]:
    """Split a line at the separators that are outside quotation marks, and remove these marks."""
    if '"' not in line_text:
        return line_text.split(separator)
    quoted_sections = line_text.split('"')
    quoted_sections[::2] = [quoted_section.replace(separator, "\x00") for quoted_section in quoted_sections[::2]]
    return "".join(quoted_sections).split("\x00")


@dataclass(frozen=True)
class _CoordinateColumns:
    """Index of the column with the rows (0 or 1), and length in mm of the unit of positions (None for integers)."""

    row_column: int
    unit_mm: float | None


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a file begins with at most two lines of headings, followed by lines of numbers."""
    if not head or set(head) & _BINARY_BYTES:
        return False
    first_lines = _first_lines(path)
    return _detect_dialect(first_lines) is not None or _is_single_column(first_lines)


def read(path: Path, part_name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read a table of one or several spectra, or a table of pixels.

    Parameters
    ----------
    path : Path
        The file.
    shape : (int, int) or None
        Numbers of rows and columns, for a table of pixels without headings.

    Raises
    ------
    ScanError
        A line contains text, has too few or too many numbers, or belongs to the same pixel as another line.
    """
    first_lines = _first_lines(path)
    dialect = _detect_dialect(first_lines)
    if dialect is None and _is_single_column(first_lines):
        return [_read_single_column(path)]
    if dialect is None:
        raise ScanError(f"Cannot read {path}: its lines must hold two or more numbers each.")
    coordinate_columns = _coordinate_columns(dialect.headings)
    line_offsets, coordinates = _line_starts(path, dialect, coordinate_columns)
    numbers_per_line = len(dialect.fields(_read_line(path, int(line_offsets[0]), dialect)))
    if coordinate_columns is None:
        _check_headings(path, dialect, numbers_per_line)
        headings = dialect.headings if len(dialect.headings) == numbers_per_line else ()
        axis_columns = [index for index, heading in enumerate(headings) if is_channel_or_energy(heading)]
        if numbers_per_line in {2, 3} or axis_columns:
            return _read_spectra(path, dialect, numbers_per_line, axis_columns)
        if numbers_per_line < _MIN_CHANNELS:
            raise ScanError(
                f"Cannot read {path}: lines of {numbers_per_line} numbers are too short for the spectra of pixels, "
                "which have "
                f"{_MIN_CHANNELS} channels or more. Name the columns in a heading (energy, counts)."
            )
    return [_read_table(path, dialect, line_offsets, coordinates, numbers_per_line, shape, coordinate_columns)]


def _coordinate_columns(headings: tuple[str, ...]) -> _CoordinateColumns | None:
    """Return the order and unit of the two coordinate columns, or None if the headings name no coordinates."""
    if len(headings) < 3:
        return None
    length_matches = [_LENGTH_PATTERN.fullmatch(heading) for heading in headings[:2]]
    axis_names = [match[1] if match else heading for match, heading in zip(length_matches, headings, strict=False)]
    units_mm = {_MM_PER_UNIT[match[2]] if match else None for match in length_matches}
    row_index = next((index for index, axis_name in enumerate(axis_names) if axis_name in _ROW_HEADINGS), None)
    if row_index is None or axis_names[1 - row_index] not in _COLUMN_HEADINGS or len(units_mm) != 1:
        return None
    return _CoordinateColumns(row_index, units_mm.pop())


def _check_headings(path: Path, dialect: CsvDialect, numbers_per_line: int) -> None:
    """Refuse a table with fewer headings than columns, or with coordinates in other columns than the first two."""
    n_heading = len(dialect.headings)
    if dialect.separator == "," and 1 < n_heading < numbers_per_line <= 2 * n_heading:
        raise ScanError(
            f"Cannot read {path}: {n_heading} headings are above lines of {numbers_per_line} numbers; decimal "
            "commas look like "
            "separators. Write decimal points, or separate the columns by semicolons."
        )
    misplaced_headings = [
        coordinate_heading
        for coordinate_heading in dialect.headings
        if coordinate_heading in _ROW_HEADINGS | _COLUMN_HEADINGS
    ]
    if misplaced_headings and numbers_per_line > 2:
        raise ScanError(
            f"Cannot read {path}: its column {misplaced_headings[0]!r} is a coordinate, not counts. "
            "Name the first two columns row and column (or y and x), followed by the counts."
        )


def _first_lines(path: Path) -> bytes:
    """Return the first lines of a file, without a last line that is incomplete."""
    file_head = first_bytes(path, _MAX_LINE_BYTES)
    return file_head if len(file_head) < _MAX_LINE_BYTES else file_head.rpartition(_line_ending(file_head))[0]


def _line_ending(file_head: bytes) -> bytes:
    return b"\r" if b"\r" in file_head and b"\n" not in file_head else b"\n"


def _detect_dialect(head: bytes) -> CsvDialect | None:
    lines = [line for line in head.splitlines() if line.strip()][:40]
    data_lines = [line for line in lines if not line.lstrip().startswith(b"#")]
    if not data_lines:
        return None
    for separator in _SEPARATORS:
        for decimal_comma in (False, True):
            detected_headings = _detect_headings(data_lines, separator, decimal_comma=decimal_comma)
            if detected_headings is not None:
                headings, n_heading = detected_headings
                return CsvDialect(separator, decimal_comma, headings, n_heading, _line_ending(head))
    return None


def _detect_headings(lines: list[bytes], separator: str, *, decimal_comma: bool) -> tuple[tuple[str, ...], int] | None:
    """Return the headings and the number of heading lines, or None if the lines are not a table.

    In a table, each line has two or more numbers, and all lines have equally many.

    If a second line of headings contains energy units, they are appended to the headings of the first line.
    """
    dialect = CsvDialect(separator, decimal_comma, ())
    line_widths = [len(fields) if _are_numbers(fields) else 0 for fields in map(dialect.fields, lines[:20])]
    n_heading = next((index for index, line_width in enumerate(line_widths[: _MAX_HEADINGS + 1]) if line_width), 0)
    numbers_per_line = line_widths[n_heading]
    if numbers_per_line < 2 or any(line_width != numbers_per_line for line_width in line_widths[n_heading:]):
        return None
    heading_rows = [[cell.strip('"').lower() for cell in dialect.fields(line)] for line in lines[:n_heading]]
    heading = heading_rows[0] if heading_rows else []
    if n_heading > 1 and len(heading_rows[1]) == len(heading):
        headings_with_units = (
            f"{quantity} {unit}" if energy_unit(unit) else quantity
            for quantity, unit in zip(*heading_rows, strict=True)
        )
        heading = [cell.strip() for cell in headings_with_units]
    return tuple(heading), n_heading


def _data_lines(file_content: bytes) -> list[bytes]:
    """Return the lines of numbers, without empty lines, comments and headings."""
    lines = [line.strip() for line in file_content.splitlines()]
    lines = [line for line in lines if line and not line.startswith(b"#")]
    return lines if not lines or _are_numbers([lines[0].decode("latin-1")]) else lines[1:]


def _is_single_column(first_lines: bytes) -> bool:
    fields = [line.decode("latin-1") for line in _data_lines(first_lines)[:_MIN_CHANNELS]]
    return len(fields) == _MIN_CHANNELS and _are_numbers(fields)


def _read_single_column(path: Path) -> Scan:
    file_content = read_limited(path, _MAX_SPECTRUM_BYTES, "single spectrum in a column")
    counts = _parse_numbers([line.decode("latin-1") for line in _data_lines(file_content)], path)
    count_steps = np.diff(counts)
    if (count_steps > 0).all() and np.allclose(count_steps, count_steps.mean()):
        raise ScanError(
            f"Cannot read {path}: its only column increases regularly from {counts[0]:g} to {counts[-1]:g}: channels "
            "or energies, not counts. Give a file with counts in the only or the second column."
        )
    return spectrum_scan(FileSpectrum(counts, None, notes=(NO_CALIBRATION,)), path, FORMAT.name)


def _are_numbers(fields: list[str]) -> bool:
    try:
        return bool([float(cell) for cell in fields])
    except ValueError:
        return False


def _parse_numbers(fields: list[str], path: Path) -> NDArray[np.float64]:
    try:
        return np.array([float(cell) for cell in fields], dtype=np.float64)
    except ValueError as error:
        raise ScanError(
            f"Cannot read {path}: {first_line(error)}. The lines below the heading must hold numbers."
        ) from error


def _read_line(path: Path, offset: int, dialect: CsvDialect) -> bytes:
    with try_read(lambda: path.open("rb"), str(path)) as stream:
        stream.seek(offset)
        return dialect.read_line(stream)


def _line_starts(
    path: Path, dialect: CsvDialect, coordinate_columns: _CoordinateColumns | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the (n_line,) offsets of lines in bytes, and their (n_line, 2) rows and columns (zeros if not stated)."""
    line_offsets: list[int] = []
    coordinates: list[tuple[float, float]] = []
    next_offset, n_heading = 0, dialect.n_heading
    with try_read(lambda: path.open("rb"), str(path)) as stream:
        while line := dialect.read_line(stream):
            line_offset, next_offset = next_offset, next_offset + len(line)
            if not line.endswith(dialect.line_ending) and len(line) >= _MAX_LINE_BYTES:
                raise ScanError(f"Cannot read {path}: a line is longer than {_MAX_LINE_BYTES} bytes.")
            if not line.strip() or line.lstrip().startswith(b"#"):
                continue
            if n_heading:
                n_heading -= 1
                continue
            line_offsets.append(line_offset)
            coordinates.append(
                _coordinates_of_line(dialect.fields(line), coordinate_columns, path)
                if coordinate_columns
                else (0.0, 0.0)
            )
    if not line_offsets:
        raise ScanError(f"Cannot read {path}: there are no lines below the heading.")
    return np.array(line_offsets, dtype=np.int64), np.array(coordinates, dtype=np.float64)


def _coordinates_of_line(fields: list[str], coordinate_columns: _CoordinateColumns, path: Path) -> tuple[float, float]:
    coordinates = _parse_numbers([*fields[:2], *["nan"] * (2 - len(fields))], path)
    row, column = (
        float(coordinates[coordinate_columns.row_column]),
        float(coordinates[1 - coordinate_columns.row_column]),
    )
    if coordinate_columns.unit_mm is not None and np.isfinite(coordinates).all():
        return row, column
    if not (
        0 <= row < _MAX_PIXEL_INDEX and 0 <= column < _MAX_PIXEL_INDEX and row.is_integer() and column.is_integer()
    ):
        raise ScanError(f"Cannot read {path}: row {row:g}, column {column:g}; both must be integers from 0.")
    return row, column


def _read_spectra(path: Path, dialect: CsvDialect, numbers_per_line: int, axis_columns: list[int]) -> list[Scan]:
    """Read the spectrum of each detector from a table with one line per channel."""
    file_content = read_limited(path, _MAX_SPECTRUM_BYTES, "spectrum in columns")
    lines = [line for line in file_content.splitlines() if line.strip() and not line.lstrip().startswith(b"#")]
    rows = [_parse_numbers(dialect.fields(line), path) for line in lines[dialect.n_heading :]]
    unequal_width = next((row.size for row in rows if row.size != numbers_per_line), 0)
    if unequal_width or len(rows) < 2:
        raise ScanError(
            f"Cannot read {path}: a spectrum needs {numbers_per_line} numbers per line and two lines or more; a "
            "line has "
            f"{unequal_width}."
        )
    table = np.array(rows).T
    headings = (
        dialect.headings
        if len(dialect.headings) == numbers_per_line
        else (*dialect.headings[:1], *[""] * numbers_per_line)[:numbers_per_line]
    )
    axis_columns = axis_columns or ([0] if numbers_per_line == 2 else _channel_and_energy(table, path))
    spectra = spectra_in_columns(table, headings, axis_columns, path)
    if len(spectra) == 1:
        return [spectrum_scan(spectra[0], path, FORMAT.name)]
    return detector_scans(spectra, path, FORMAT.name, None)


def _channel_and_energy(table: NDArray[np.float64], path: Path) -> list[int]:
    """Return which of three columns without headings are the channels and the energies."""
    is_increasing = [bool((np.diff(table_column) > 0).all()) for table_column in table]
    if not (are_channel_numbers(table[0]) and sum(is_increasing) == 2):
        raise ScanError(
            f"Cannot read {path}: of its three columns without known headings, the first must number the channels, and "
            f"one other must increase as energies do, but {sum(is_increasing)} columns increase. Name the columns "
            "in a heading "
            "(channel, counts, energy)."
        )
    return [0, is_increasing.index(True, 1)]


def _read_table(
    path: Path,
    dialect: CsvDialect,
    line_offsets: NDArray[np.int64],
    coordinates: NDArray[np.float64],
    numbers_per_line: int,
    shape: tuple[int, int] | None,
    coordinate_columns: _CoordinateColumns | None,
) -> Scan:
    n_coordinate_column = 2 if coordinate_columns else 0
    if numbers_per_line <= n_coordinate_column:
        raise ScanError(f"Cannot read {path}: after row and column its lines have no counts. Copy the file again.")
    step_mm = None
    if coordinate_columns is None:
        grid_offsets = _arrange_on_shape(path, line_offsets, shape)
    elif coordinate_columns.unit_mm is None:
        grid_offsets = _arrange_by_coordinates(path, line_offsets, coordinates.astype(np.int64))
    else:
        step_sizes, grid_indices = zip(
            *(_step_and_indices(path, axis_coordinates) for axis_coordinates in coordinates.T), strict=True
        )
        grid_offsets = _arrange_by_coordinates(path, line_offsets, np.stack(grid_indices, axis=1))
        step_mm = (
            (step_sizes[0] * coordinate_columns.unit_mm, step_sizes[1] * coordinate_columns.unit_mm)
            if min(step_sizes) > 0
            else None
        )
    axis, axis_notes = _heading_axis(dialect.headings[n_coordinate_column:], numbers_per_line - n_coordinate_column)
    headings = dialect.headings[n_coordinate_column:]
    if (
        axis is None
        and numbers_per_line - n_coordinate_column < _MIN_CHANNELS
        and not all(map(re.compile(r"\d").search, headings))
    ):
        raise ScanError(
            f"Cannot read {path}: its {numbers_per_line - n_coordinate_column} columns of numbers "
            f"({', '.join(headings[:5])}) are not the "
            f"channels of a spectrum, which has {_MIN_CHANNELS} or more. Give the table of the spectra, not of maps."
        )
    cube = TableCube(path, dialect, grid_offsets, numbers_per_line - n_coordinate_column, n_coordinate_column)
    grid_note = (
        ()
        if coordinate_columns or shape
        else ("each line is a pixel, read as one row: give rows and columns (--shape)",)
    )
    return Scan(
        lazy_counts(cube, str(path)),
        axis=axis,
        name=path.stem,
        source=str(path),
        format=FORMAT.name,
        step_mm=step_mm,
        present=None if (grid_offsets >= 0).all() else grid_offsets >= 0,
        notes=(*grid_note, *axis_notes),
    )


def _step_and_indices(path: Path, coordinates: NDArray[np.float64]) -> tuple[float, NDArray[np.int64]]:
    """Return the step between positions (0 if all positions are equal), and the grid index of each position."""
    coordinate_differences = np.diff(np.unique(coordinates))
    if coordinate_differences.size == 0:
        return 0.0, np.zeros(coordinates.size, dtype=np.int64)
    coordinate_differences = coordinate_differences[
        coordinate_differences > _STEP_TOLERANCE * np.median(coordinate_differences)
    ]  # rounding shifts positions by small amounts
    median_step = float(np.median(coordinate_differences))
    grid_positions = (coordinates - coordinates.min()) / median_step
    if (
        np.abs(grid_positions - np.round(grid_positions)).max() > _STEP_TOLERANCE
        or grid_positions.max() > _MAX_PIXEL_INDEX
    ):
        raise ScanError(
            f"Cannot read {path}: its positions are not regular (median step {median_step:g}). Give the row and "
            "column of "
            "each pixel."
        )
    return median_step, np.round(grid_positions).astype(np.int64)


def _arrange_by_coordinates(
    path: Path, line_offsets: NDArray[np.int64], coordinates: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Arrange the lines of pixels on a grid. The numbers of rows and columns may start at 0 or 1."""
    rows, columns = coordinates.T
    rows, columns = rows - rows.min(), columns - columns.min()
    n_row, n_column = int(rows.max()) + 1, int(columns.max()) + 1
    if n_row * n_column > _MAX_PIXELS_PER_SPECTRUM * line_offsets.size:
        raise ScanError(
            f"Cannot read {path}: {line_offsets.size} lines for {n_row} x {n_column} pixels; the rows and columns "
            "must be integers, not positions."
        )
    grid_offsets = np.full((n_row, n_column), -1, dtype=np.int64)
    grid_offsets[rows, columns] = line_offsets
    if int((grid_offsets >= 0).sum()) != line_offsets.size:
        raise ScanError(
            f"Cannot read {path}: {line_offsets.size} lines belong to {int((grid_offsets >= 0).sum())} pixels; "
            "some pixels "
            "occur twice."
        )
    return grid_offsets


def _arrange_on_shape(path: Path, line_offsets: NDArray[np.int64], shape: tuple[int, int] | None) -> NDArray[np.int64]:
    n_row, n_column = shape or (1, line_offsets.size)
    if n_row * n_column != line_offsets.size:
        raise ScanError(f"Cannot read {path}: its {line_offsets.size} lines do not fill {n_row} x {n_column} pixels.")
    return line_offsets.reshape(n_row, n_column)


def _heading_axis(headings: tuple[str, ...], n_channel: int) -> Axis:
    """Return the energy axis of headings such as 1.02, 1.02 keV or 1020 eV, or None if they are channel numbers."""
    heading_matches = [re.fullmatch(r"([-+.\deE]+)\s*(k?ev)?", heading) for heading in headings]
    try:
        energies = np.array([float(match[1]) for match in heading_matches if match])
    except ValueError:
        energies = np.array([])
    if energies.size != n_channel:
        return None, (NO_CALIBRATION,)
    unit = next((match[2] for match in heading_matches if match and match[2]), "")
    if not unit and (np.diff(energies) == 1).all():
        return None, (NO_CALIBRATION,)
    return axis_of_list(energies, n_channel, unit)
