"""Tables of text: one spectrum, or the spectra of pixels line by line.

Specification:

- Lines of numbers parted by commas, semicolons, tabs or spaces (with semicolons, tabs or spaces the decimal sign may
  be a comma); a heading of one line and lines that begin with ``#`` are allowed.
- One spectrum: two columns, channel or energy and counts. The first is taken as energies where its heading says
  ``energy``, ``keV`` or ``eV``, or where it does not count channels one by one; in eV where the heading says so or a
  number is over 200.
- Pixels: the first two columns are row and column (headings ``row``, ``column``, or ``y``, ``x``), whole numbers; then
  the counts of each channel, whose headings may be energies. Without such headings each line is a pixel, from left
  to right and top to bottom, in as many rows and columns as are given.

Source: RFC 4180 (2005) for the comma-separated form; the columns are this project's own definition, since no
standard names them.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import ScanError
from underpaint.io._energies import axis_of_values
from underpaint.io._source import lazy_counts, probe, spectrum_counts, told
from underpaint.spectrum import EnergyAxis, Scan

FORMAT = "CSV"
_SEPARATORS = (";", "\t", ",", " ")
_LONGEST_LINE = 4 * 2**20
_LARGEST_INDEX = 1_000_000
_LARGEST_SPECTRUM = 16 * 2**20
_ROW, _COLUMN = {"row", "y", "line"}, {"column", "col", "x"}
_MOST_PIXELS_A_SPECTRUM = 64
_NO_TEXT = set(range(9))


@dataclass(frozen=True)
class Manner:
    """How a table is written: the separator, a decimal comma, the headings."""

    separator: str
    decimal_comma: bool
    headings: tuple[str, ...]

    def words(self, line: bytes) -> list[str]:
        """Split a line; of spaces, several are one separator."""
        text = line.decode("latin-1").strip().removeprefix("ï»¿")
        words = text.split() if self.separator == " " else [word.strip() for word in text.split(self.separator)]
        if words and not words[-1]:
            words.pop()
        return [word.replace(",", ".") for word in words] if self.decimal_comma else words


class TableCube:
    """Lines of a file put on a grid; each is read and split when its pixel is wanted."""

    dtype: np.dtype[Any] = np.dtype(np.float64)

    def __init__(self, path: Path, manner: Manner, places: NDArray[np.int64], n_channel: int, skip: int) -> None:
        self.path, self.manner, self.places, self.skip = path, manner, places, skip
        self.shape = (places.shape[0], places.shape[1], n_channel)

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a rectangle of pixels; those without a line are zero."""
        places = self.places[rows, columns]
        block = np.zeros((*places.shape, self.shape[2]))
        with probe(lambda: self.path.open("rb"), str(self.path)) as stream:
            for row, column in np.argwhere(places >= 0):
                stream.seek(int(places[row, column]))
                block[row, column] = self._counts(stream.readline(_LONGEST_LINE))
        return block

    def _counts(self, line: bytes) -> NDArray[np.float64]:
        counts = _numbers(self.manner.words(line)[self.skip :], self.path)
        if counts.size != self.shape[2]:
            message = f"Cannot read {self.path}: a line has {counts.size} counts, the first {self.shape[2]}."
            raise ScanError(message)
        return counts


def is_csv(path: Path, head: bytes) -> bool:
    """Whether a file is lines of two or more numbers, after a heading of at most one line."""
    return not set(head) & _NO_TEXT and _manner(_beginning(path)) is not None


def read_csv(path: Path, shape: tuple[int, int] | None = None) -> list[Scan]:
    """Read a spectrum or a table of pixels.

    Parameters
    ----------
    path : Path
        The file.
    shape : (int, int) or None
        Rows and columns of a table without headings.

    Raises
    ------
    ScanError
        A line is not of numbers, has too few or too many, or is of a pixel that another has.
    """
    manner = _manner(_beginning(path))
    if manner is None:
        message = f"Cannot read {path}: its lines are not two or more numbers each."
        raise ScanError(message)
    placed = len(manner.headings) > 2 and manner.headings[0] in _ROW and manner.headings[1] in _COLUMN
    lines = _line_starts(path, manner, placed=placed)
    width = len(manner.words(_line(path, int(lines[0, 0]))))
    if width == 2 and not placed:
        return [_spectrum(path, manner)]
    return [_table(path, manner, lines, width, shape, placed=placed)]


def _beginning(path: Path) -> bytes:
    """Return whole lines from a file's beginning."""

    def read() -> bytes:
        with path.open("rb") as stream:
            return stream.read(_LONGEST_LINE)

    found: bytes = probe(read, str(path))
    return found if len(found) < _LONGEST_LINE else found.rpartition(b"\n")[0]


def _manner(head: bytes) -> Manner | None:
    lines = [line for line in head.splitlines() if line.strip()][:40]
    told = [line for line in lines if not line.lstrip().startswith(b"#")]
    if not told:
        return None
    for separator in _SEPARATORS:
        for decimal_comma in (False, True)[: 1 if separator == "," else 2]:
            found = _headings(told, separator, decimal_comma=decimal_comma)
            if found is not None:
                return Manner(separator, decimal_comma, found)
    return None


def _headings(lines: list[bytes], separator: str, *, decimal_comma: bool) -> tuple[str, ...] | None:
    """Return the headings (none: empty) if the lines below are equally many numbers, two or more; else None."""
    plain = Manner(separator, decimal_comma, ())
    widths = [len(words) if _are_numbers(words) else 0 for words in map(plain.words, lines[:20])]
    first = widths[0] if widths[0] else widths[1] if len(widths) > 1 else 0
    if first < 2 or any(width != first for width in widths[1:]):
        return None
    heading = [] if widths[0] else [word.strip('"').lower() for word in plain.words(lines[0])]
    return tuple(heading)


def _are_numbers(words: list[str]) -> bool:
    try:
        return bool([float(word) for word in words])
    except ValueError:
        return False


def _numbers(words: list[str], path: Path) -> NDArray[np.float64]:
    try:
        return np.array([float(word) for word in words], dtype=np.float64)
    except ValueError as error:
        message = f"Cannot read {path}: {told(error)}. The lines below the heading must be of numbers."
        raise ScanError(message) from error


def _line(path: Path, place: int) -> bytes:
    with probe(lambda: path.open("rb"), str(path)) as stream:
        stream.seek(place)
        found: bytes = stream.readline(_LONGEST_LINE)
        return found


def _line_starts(path: Path, manner: Manner, *, placed: bool) -> NDArray[np.int64]:
    """(line, 3) first byte, row and column of each line of numbers; rows and columns zero where not given."""
    starts: list[tuple[int, int, int]] = []
    position, headed = 0, not manner.headings
    with probe(lambda: path.open("rb"), str(path)) as stream:
        while line := stream.readline(_LONGEST_LINE):
            begin, position = position, position + len(line)
            if not line.endswith(b"\n") and len(line) == _LONGEST_LINE:
                message = f"Cannot read {path}: a line is longer than {_LONGEST_LINE} bytes."
                raise ScanError(message)
            if not line.strip() or line.lstrip().startswith(b"#"):
                continue
            if not headed:
                headed = True
                continue
            row, column = _place(manner.words(line), path) if placed else (0, 0)
            starts.append((begin, row, column))
    if not starts:
        message = f"Cannot read {path}: there are no lines below the heading."
        raise ScanError(message)
    return np.array(starts, dtype=np.int64)


def _place(words: list[str], path: Path) -> tuple[int, int]:
    row, column = _numbers([*words[:2], *["nan"] * (2 - len(words))], path)
    if not (0 <= row < _LARGEST_INDEX and 0 <= column < _LARGEST_INDEX and row.is_integer() and column.is_integer()):
        message = f"Cannot read {path}: row {row:g}, column {column:g}; both must be whole numbers from 0."
        raise ScanError(message)
    return int(row), int(column)


def _spectrum(path: Path, manner: Manner) -> Scan:
    if probe(path.stat, str(path)).st_size > _LARGEST_SPECTRUM:
        message = f"Cannot read {path}: two columns of over {_LARGEST_SPECTRUM} bytes are no spectrum."
        raise ScanError(message)
    lines = [line for line in probe(path.read_bytes, str(path)).splitlines() if line.strip()]
    told = [line for line in lines if not line.lstrip().startswith(b"#")][1 if manner.headings else 0 :]
    pairs = [_numbers(manner.words(line), path) for line in told]
    odd = next((number for number, pair in enumerate(pairs) if pair.size != 2), None)
    if odd is not None or len(pairs) < 2:
        line = pairs[odd].size if odd is not None else 0
        message = f"Cannot read {path}: a spectrum has two numbers a line and two lines or more; a line has {line}."
        raise ScanError(message)
    first, counts = np.array(pairs).T
    axis = _spectrum_axis(first, manner.headings, path)
    return Scan(
        spectrum_counts(counts, str(path)),
        axis=axis,
        name=path.stem,
        source=str(path),
        format=FORMAT,
        notes=("a single spectrum", *(() if axis is not None else ("no energy calibration in the file",))),
    )


def _spectrum_axis(first: NDArray[np.float64], headings: tuple[str, ...], path: Path) -> EnergyAxis | None:
    heading = headings[0] if headings else ""
    counting = bool((np.diff(first) == 1).all()) and first[0] in {0, 1}
    said = re.search(r"energy|\bk?ev\b", heading)
    if counting and not said:
        return None
    unit = "kev" if "kev" in heading else "ev" if re.search(r"\bev\b", heading) else ""
    axis = axis_of_values(first, first.size, unit)
    if axis is None:
        message = f"Cannot read {path}: its first column is neither channels nor energies that rise in even steps."
        raise ScanError(message)
    return axis


def _table(
    path: Path, manner: Manner, lines: NDArray[np.int64], width: int, shape: tuple[int, int] | None, *, placed: bool
) -> Scan:
    skip = 2 if placed else 0
    if width <= skip:
        message = f"Cannot read {path}: after row and column its lines hold no counts. Copy it again."
        raise ScanError(message)
    places = _grid(path, lines) if placed else _filled(path, lines, shape)
    axis = _heading_axis(manner.headings[skip:], width - skip)
    cube = TableCube(path, manner, places, width - skip, skip)
    one_row = () if placed or shape else ("each line is a pixel, read as one row: give rows and columns (--shape)",)
    return Scan(
        lazy_counts(cube, str(path)),
        axis=axis,
        name=path.stem,
        source=str(path),
        format=FORMAT,
        present=None if (places >= 0).all() else places >= 0,
        notes=(*one_row, *(() if axis is not None else ("no energy calibration in the file",))),
    )


def _grid(path: Path, lines: NDArray[np.int64]) -> NDArray[np.int64]:
    """Put the lines at their rows and columns; numbers may begin at 0 or 1."""
    places, rows, columns = lines.T
    rows, columns = rows - rows.min(), columns - columns.min()
    n_row, n_column = int(rows.max()) + 1, int(columns.max()) + 1
    if n_row * n_column > _MOST_PIXELS_A_SPECTRUM * lines.shape[0]:
        message = (
            f"Cannot read {path}: {lines.shape[0]} lines for {n_row} x {n_column} pixels; the rows and columns "
            "must be numbers of pixels, not positions."
        )
        raise ScanError(message)
    grid = np.full((n_row, n_column), -1, dtype=np.int64)
    grid[rows, columns] = places
    if int((grid >= 0).sum()) != lines.shape[0]:
        message = f"Cannot read {path}: {lines.shape[0]} lines are of {int((grid >= 0).sum())} pixels; some are twice."
        raise ScanError(message)
    return grid


def _filled(path: Path, lines: NDArray[np.int64], shape: tuple[int, int] | None) -> NDArray[np.int64]:
    rows, columns = shape or (1, lines.shape[0])
    if rows * columns != lines.shape[0]:
        message = f"Cannot read {path}: its {lines.shape[0]} lines do not fill {rows} x {columns} pixels."
        raise ScanError(message)
    return lines[:, 0].reshape(rows, columns)


def _heading_axis(headings: tuple[str, ...], n_channel: int) -> EnergyAxis | None:
    """Return the axis that headings such as 1.02, 1.02 keV or 1020 eV tell; not that of channel numbers."""
    found = [re.fullmatch(r"([-+.\deE]+)\s*(k?ev)?", heading) for heading in headings]
    if not found or not all(found):
        return None
    try:
        energies = np.array([float(own[1]) for own in found if own])
    except ValueError:
        return None
    unit = next((own[2] for own in found if own and own[2]), "")
    if not unit and (np.diff(energies) == 1).all():
        return None
    return axis_of_values(energies, n_channel, unit)
