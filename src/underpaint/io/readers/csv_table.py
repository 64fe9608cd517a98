"""Tables of text: one spectrum, or the spectra of pixels line by line.

Specification:

- Lines of numbers parted by commas, semicolons, tabs or spaces (with semicolons, tabs or spaces, and within quotation
  marks, the decimal sign may be a comma); a heading of one line or two (names, units) and lines that begin with ``#``
  are allowed.
- One spectrum: two columns, channel or energy and counts. The first is taken as energies where its heading says
  ``energy``, ``keV`` or ``eV``, or where it does not count channels one by one; in eV where the heading says so or a
  number is over 200.
- More columns whose headings name one as energy or channel: one spectrum where another is named counts (others are
  left out), or one for each detector (``d1``, ``det 2``). Three columns without headings: channel, counts and energy,
  as PyMca saves them.
- One column: the counts of a spectrum, channel by channel, as PyMca reads them; 32 lines or more.
- Pixels: the first two columns are row and column in either order (headings ``row``, ``column``, or ``y``, ``x``),
  whole numbers, or positions where the headings name a unit of length (``y_mm``); then the counts of each channel,
  whose headings may be energies. Without such headings each line is a pixel of 32 channels or more, from left to
  right and top to bottom, in as many rows and columns as are given.

Source: RFC 4180 (2005) for the comma-separated form; PyMca ``PyMca5/PyMcaGui/pymca/McaWindow.py`` for its three
columns; the others are this project's own definition, since no standard names them.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._energies import NO_CALIBRATION, Axis, axis_of_list, unit_of
from underpaint.io._single import (
    FileSpectrum,
    detector_scans,
    is_channel_or_energy,
    is_counting,
    read_content,
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
_MAX_LINE = 4 * 2**20
_PIECE = 2**16
_MAX_HEADINGS = 2
_MAX_INDEX = 1_000_000
_MAX_SPECTRUM = 16 * 2**20
_ROW, _COLUMN = {"row", "y", "line"}, {"column", "col", "x"}
_UNIT_MM = {"mm": 1.0, "um": 1e-3, "µm": 1e-3, "cm": 10.0}
_LENGTH = re.compile(r"([a-z]+)[\W_]*(mm|um|µm|cm)\W*")
_OFF_STEP = 0.25
"""Tolerance of regular positions, as a share of the step."""
_MAX_PIXELS_A_SPECTRUM = 64
_NO_TEXT = set(range(9))
_MIN_CHANNELS = 32
"""Minimum number of channels of a spectrum."""


@dataclass(frozen=True)
class CsvDialect:
    """Dialect of a table: separator, decimal comma, headings and their lines, line ending."""

    separator: str
    decimal_comma: bool
    headings: tuple[str, ...]
    n_heading: int = 0
    end: bytes = b"\n"

    def words(self, line: bytes) -> list[str]:
        """Split a line; of spaces, several are one separator."""
        text = line.decode("latin-1").strip().removeprefix("ï»¿")
        words = text.split() if self.separator == " " else [word.strip() for word in _cells(text, self.separator)]
        if words and not words[-1]:
            words.pop()
        if self.separator == "," and "." in text:
            return words  # commas within quotation marks are of thousands, not decimal
        return [word.replace(",", ".") for word in words] if self.decimal_comma else words

    def line(self, stream: BinaryIO) -> bytes:
        """Read a line with its ending, possibly a lone carriage return."""
        if self.end == b"\n":
            return stream.readline(_MAX_LINE)
        begin, content = stream.tell(), b""
        while len(content) < _MAX_LINE and (piece := stream.read(_PIECE)):
            content += piece
            if self.end in piece:
                break
        stop = content.find(self.end) + 1
        line = content[: min(stop, _MAX_LINE)] if stop else content
        stream.seek(begin + len(line))
        return line


class TableCube:
    """Lines of a file arranged on a grid; each is read and parsed on demand."""

    dtype: np.dtype[Any] = np.dtype(np.float64)

    def __init__(self, path: Path, manner: CsvDialect, places: NDArray[np.int64], n_channel: int, skip: int) -> None:
        self.path, self.manner, self.places, self.skip = path, manner, places, skip
        self.shape = (places.shape[0], places.shape[1], n_channel)

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a rectangle of pixels; those without a line are zero."""
        places = self.places[rows, columns]
        block = np.zeros((*places.shape, self.shape[2]))
        with try_read(lambda: self.path.open("rb"), str(self.path)) as stream:
            for row, column in np.argwhere(places >= 0):
                stream.seek(int(places[row, column]))
                block[row, column] = self._counts(self.manner.line(stream))
        return block

    def _counts(self, line: bytes) -> NDArray[np.float64]:
        counts = _numbers(self.manner.words(line)[self.skip :], self.path)
        if counts.size != self.shape[2]:
            raise ScanError(f"Cannot read {self.path}: a line has {counts.size} counts, the first {self.shape[2]}.")
        return counts


def _cells(text: str, separator: str) -> list[str]:
    """Split at separators that are not within quotation marks, which fall away."""
    if '"' not in text:
        return text.split(separator)
    parts = text.split('"')
    parts[::2] = [part.replace(separator, "\x00") for part in parts[::2]]
    return "".join(parts).split("\x00")


@dataclass(frozen=True)
class _Places:
    """Order of the first two columns; the unit of their positions in mm, None for pixel numbers."""

    row: int
    unit_mm: float | None


def sniff(path: Path, head: bytes) -> bool:
    """Whether a file is lines of numbers, after headings of two lines at most."""
    if not head or set(head) & _NO_TEXT:
        return False
    begin = _beginning(path)
    return _detect_dialect(begin) is not None or _is_column(begin)


def read(path: Path, name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
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
        A line has other content than numbers, too few or too many of them, or the pixel of another line.
    """
    begin = _beginning(path)
    manner = _detect_dialect(begin)
    if manner is None and _is_column(begin):
        return [_column(path)]
    if manner is None:
        raise ScanError(f"Cannot read {path}: its lines are not two or more numbers each.")
    placed = _placed(manner.headings)
    starts, places = _line_starts(path, manner, placed)
    width = len(manner.words(_line(path, int(starts[0]), manner)))
    if placed is None:
        _check_headings(path, manner, width)
        headings = manner.headings if len(manner.headings) == width else ()
        columns = [number for number, heading in enumerate(headings) if is_channel_or_energy(heading)]
        if width in {2, 3} or columns:
            return _spectra(path, manner, width, columns)
        if width < _MIN_CHANNELS:
            raise ScanError(
                f"Cannot read {path}: lines of {width} numbers are no pixels of {width} channels; spectra have "
                f"{_MIN_CHANNELS} channels or more. Name the columns in a heading (energy, counts)."
            )
    return [_table(path, manner, starts, places, width, shape, placed)]


def _placed(headings: tuple[str, ...]) -> _Places | None:
    """Return how the first two columns define a line's pixel; None if their headings do not."""
    if len(headings) < 3:
        return None
    lengths = [_LENGTH.fullmatch(heading) for heading in headings[:2]]
    names = [match[1] if match else heading for match, heading in zip(lengths, headings, strict=False)]
    units = {_UNIT_MM[match[2]] if match else None for match in lengths}
    row = next((number for number, name in enumerate(names) if name in _ROW), None)
    if row is None or names[1 - row] not in _COLUMN or len(units) != 1:
        return None
    return _Places(row, units.pop())


def _check_headings(path: Path, manner: CsvDialect, width: int) -> None:
    """Refuse a heading of fewer columns than decimal commas make of its lines, or of coordinates elsewhere."""
    n_heading = len(manner.headings)
    if manner.separator == "," and 1 < n_heading < width <= 2 * n_heading:
        raise ScanError(
            f"Cannot read {path}: {n_heading} headings are above {width} numbers a line; decimal commas look like "
            "separators. Write decimal points, or separate the columns by semicolons."
        )
    misplaced = [heading for heading in manner.headings if heading in _ROW | _COLUMN]
    if misplaced and width > 2:
        raise ScanError(
            f"Cannot read {path}: its column {misplaced[0]!r} is a coordinate, which must not be counted. "
            "Head the first two columns row and column (or y and x), followed by the counts."
        )


def _beginning(path: Path) -> bytes:
    """Return complete lines from the start of a file."""
    content = first_bytes(path, _MAX_LINE)
    return content if len(content) < _MAX_LINE else content.rpartition(_end(content))[0]


def _end(content: bytes) -> bytes:
    return b"\r" if b"\r" in content and b"\n" not in content else b"\n"


def _detect_dialect(head: bytes) -> CsvDialect | None:
    lines = [line for line in head.splitlines() if line.strip()][:40]
    data_lines = [line for line in lines if not line.lstrip().startswith(b"#")]
    if not data_lines:
        return None
    for separator in _SEPARATORS:
        for decimal_comma in (False, True):
            headings_read = _headings(data_lines, separator, decimal_comma=decimal_comma)
            if headings_read is not None:
                headings, n_heading = headings_read
                return CsvDialect(separator, decimal_comma, headings, n_heading, _end(head))
    return None


def _headings(lines: list[bytes], separator: str, *, decimal_comma: bool) -> tuple[tuple[str, ...], int] | None:
    """Return the headings and their lines, if the lines below have as many numbers, two or more; else None.

    Of a second line of headings units of energy are joined to those of the first.
    """
    plain = CsvDialect(separator, decimal_comma, ())
    widths = [len(words) if _are_numbers(words) else 0 for words in map(plain.words, lines[:20])]
    n_heading = next((number for number, width in enumerate(widths[: _MAX_HEADINGS + 1]) if width), 0)
    first = widths[n_heading]
    if first < 2 or any(width != first for width in widths[n_heading:]):
        return None
    rows = [[word.strip('"').lower() for word in plain.words(line)] for line in lines[:n_heading]]
    heading = rows[0] if rows else []
    if n_heading > 1 and len(rows[1]) == len(heading):
        joined = (f"{name} {unit}" if unit_of(unit) else name for name, unit in zip(*rows, strict=True))
        heading = [word.strip() for word in joined]
    return tuple(heading), n_heading


def _number_lines(content: bytes) -> list[bytes]:
    """Lines of data, without empty lines, comments and headings."""
    lines = [line.strip() for line in content.splitlines()]
    lines = [line for line in lines if line and not line.startswith(b"#")]
    return lines if not lines or _are_numbers([lines[0].decode("latin-1")]) else lines[1:]


def _is_column(content: bytes) -> bool:
    words = [line.decode("latin-1") for line in _number_lines(content)[:_MIN_CHANNELS]]
    return len(words) == _MIN_CHANNELS and _are_numbers(words)


def _column(path: Path) -> Scan:
    content = read_content(path, _MAX_SPECTRUM, "single spectrum in a column")
    counts = _numbers([line.decode("latin-1") for line in _number_lines(content)], path)
    steps = np.diff(counts)
    if (steps > 0).all() and np.allclose(steps, steps.mean()):
        raise ScanError(
            f"Cannot read {path}: its only column increases regularly from {counts[0]:g} to {counts[-1]:g}: channels "
            "or energies, no counts. Give a file with counts in the only or the second column."
        )
    return spectrum_scan(FileSpectrum(counts, None, notes=(NO_CALIBRATION,)), path, FORMAT.name)


def _are_numbers(words: list[str]) -> bool:
    try:
        return bool([float(word) for word in words])
    except ValueError:
        return False


def _numbers(words: list[str], path: Path) -> NDArray[np.float64]:
    try:
        return np.array([float(word) for word in words], dtype=np.float64)
    except ValueError as error:
        raise ScanError(
            f"Cannot read {path}: {first_line(error)}. The lines below the heading must be of numbers."
        ) from error


def _line(path: Path, place: int, manner: CsvDialect) -> bytes:
    with try_read(lambda: path.open("rb"), str(path)) as stream:
        stream.seek(place)
        return manner.line(stream)


def _line_starts(
    path: Path, manner: CsvDialect, placed: _Places | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(line,) first byte of each line of numbers, and (line, 2) its row and column; zero without positions."""
    starts: list[int] = []
    places: list[tuple[float, float]] = []
    position, n_heading = 0, manner.n_heading
    with try_read(lambda: path.open("rb"), str(path)) as stream:
        while line := manner.line(stream):
            begin, position = position, position + len(line)
            if not line.endswith(manner.end) and len(line) >= _MAX_LINE:
                raise ScanError(f"Cannot read {path}: a line is longer than {_MAX_LINE} bytes.")
            if not line.strip() or line.lstrip().startswith(b"#"):
                continue
            if n_heading:
                n_heading -= 1
                continue
            starts.append(begin)
            places.append(_place(manner.words(line), placed, path) if placed else (0.0, 0.0))
    if not starts:
        raise ScanError(f"Cannot read {path}: there are no lines below the heading.")
    return np.array(starts, dtype=np.int64), np.array(places, dtype=np.float64)


def _place(words: list[str], placed: _Places, path: Path) -> tuple[float, float]:
    pair = _numbers([*words[:2], *["nan"] * (2 - len(words))], path)
    row, column = float(pair[placed.row]), float(pair[1 - placed.row])
    if placed.unit_mm is not None and np.isfinite(pair).all():
        return row, column
    if not (0 <= row < _MAX_INDEX and 0 <= column < _MAX_INDEX and row.is_integer() and column.is_integer()):
        raise ScanError(f"Cannot read {path}: row {row:g}, column {column:g}; both must be integers from 0.")
    return row, column


def _spectra(path: Path, manner: CsvDialect, width: int, columns: list[int]) -> list[Scan]:
    """Read the spectrum, or the detectors, of a table with a line for each channel."""
    content = read_content(path, _MAX_SPECTRUM, "spectrum in columns")
    lines = [line for line in content.splitlines() if line.strip() and not line.lstrip().startswith(b"#")]
    rows = [_numbers(manner.words(line), path) for line in lines[manner.n_heading :]]
    odd = next((row.size for row in rows if row.size != width), 0)
    if odd or len(rows) < 2:
        raise ScanError(
            f"Cannot read {path}: a spectrum has {width} numbers a line and two lines or more; a line has {odd}."
        )
    table = np.array(rows).T
    headings = manner.headings if len(manner.headings) == width else (*manner.headings[:1], *[""] * width)[:width]
    columns = columns or ([0] if width == 2 else _channel_and_energy(table, path))
    spectra = spectra_in_columns(table, headings, columns, path)
    if len(spectra) == 1:
        return [spectrum_scan(spectra[0], path, FORMAT.name)]
    return detector_scans(spectra, path, FORMAT.name, None)


def _channel_and_energy(table: NDArray[np.float64], path: Path) -> list[int]:
    """Return the columns of channel and energy of three without headings; the third has the counts."""
    rising = [bool((np.diff(column) > 0).all()) for column in table]
    if not (is_counting(table[0]) and sum(rising) == 2):
        raise ScanError(
            f"Cannot read {path}: of its three columns without known headings the first must count the channels and "
            f"another increase as energies; {sum(rising)} rise. Name the columns in a heading (channel, counts, "
            "energy)."
        )
    return [0, rising.index(True, 1)]


def _table(
    path: Path,
    manner: CsvDialect,
    starts: NDArray[np.int64],
    coordinates: NDArray[np.float64],
    width: int,
    shape: tuple[int, int] | None,
    placed: _Places | None,
) -> Scan:
    skip = 2 if placed else 0
    if width <= skip:
        raise ScanError(f"Cannot read {path}: after row and column its lines have no counts. Copy it again.")
    step_mm = None
    if placed is None:
        places = _filled(path, starts, shape)
    elif placed.unit_mm is None:
        places = _grid(path, starts, coordinates.astype(np.int64))
    else:
        steps, indices = zip(*(_steps(path, values) for values in coordinates.T), strict=True)
        places = _grid(path, starts, np.stack(indices, axis=1))
        step_mm = (steps[0] * placed.unit_mm, steps[1] * placed.unit_mm) if min(steps) > 0 else None
    axis, axis_notes = _heading_axis(manner.headings[skip:], width - skip)
    headings = manner.headings[skip:]
    if axis is None and width - skip < _MIN_CHANNELS and not all(map(re.compile(r"\d").search, headings)):
        raise ScanError(
            f"Cannot read {path}: its {width - skip} columns of numbers ({', '.join(headings[:5])}) are no channels of "
            f"a spectrum, which has {_MIN_CHANNELS} or more. Give the table of the spectra, not of maps."
        )
    cube = TableCube(path, manner, places, width - skip, skip)
    one_row = () if placed or shape else ("each line is a pixel, read as one row: give rows and columns (--shape)",)
    return Scan(
        lazy_counts(cube, str(path)),
        axis=axis,
        name=path.stem,
        source=str(path),
        format=FORMAT.name,
        step_mm=step_mm,
        present=None if (places >= 0).all() else places >= 0,
        notes=(*one_row, *axis_notes),
    )


def _steps(path: Path, values: NDArray[np.float64]) -> tuple[float, NDArray[np.int64]]:
    """Return the step between positions, 0 if all are equal, and the number of each position."""
    differences = np.diff(np.unique(values))
    if differences.size == 0:
        return 0.0, np.zeros(values.size, dtype=np.int64)
    differences = differences[differences > _OFF_STEP * np.median(differences)]  # rounded positions differ slightly
    step = float(np.median(differences))
    numbers = (values - values.min()) / step
    if np.abs(numbers - np.round(numbers)).max() > _OFF_STEP or numbers.max() > _MAX_INDEX:
        raise ScanError(
            f"Cannot read {path}: its positions are not regular ({step:g} mostly). Give the row and column of "
            "each pixel."
        )
    return step, np.round(numbers).astype(np.int64)


def _grid(path: Path, starts: NDArray[np.int64], coordinates: NDArray[np.int64]) -> NDArray[np.int64]:
    """Arrange the lines by row and column; numbers may start at 0 or 1."""
    rows, columns = coordinates.T
    rows, columns = rows - rows.min(), columns - columns.min()
    n_row, n_column = int(rows.max()) + 1, int(columns.max()) + 1
    if n_row * n_column > _MAX_PIXELS_A_SPECTRUM * starts.size:
        raise ScanError(
            f"Cannot read {path}: {starts.size} lines for {n_row} x {n_column} pixels; the rows and columns "
            "must be numbers of pixels, not positions."
        )
    grid = np.full((n_row, n_column), -1, dtype=np.int64)
    grid[rows, columns] = starts
    if int((grid >= 0).sum()) != starts.size:
        raise ScanError(
            f"Cannot read {path}: {starts.size} lines are of {int((grid >= 0).sum())} pixels; some are twice."
        )
    return grid


def _filled(path: Path, starts: NDArray[np.int64], shape: tuple[int, int] | None) -> NDArray[np.int64]:
    rows, columns = shape or (1, starts.size)
    if rows * columns != starts.size:
        raise ScanError(f"Cannot read {path}: its {starts.size} lines do not fill {rows} x {columns} pixels.")
    return starts.reshape(rows, columns)


def _heading_axis(headings: tuple[str, ...], n_channel: int) -> Axis:
    """Axis from headings such as 1.02, 1.02 keV or 1020 eV; not from channel numbers."""
    matches = [re.fullmatch(r"([-+.\deE]+)\s*(k?ev)?", heading) for heading in headings]
    try:
        energies = np.array([float(match[1]) for match in matches if match])
    except ValueError:
        energies = np.array([])
    if energies.size != n_channel:
        return None, (NO_CALIBRATION,)
    unit = next((match[2] for match in matches if match and match[2]), "")
    if not unit and (np.diff(energies) == 1).all():
        return None, (NO_CALIBRATION,)
    return axis_of_list(energies, n_channel, unit)
