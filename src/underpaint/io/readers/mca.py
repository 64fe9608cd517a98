"""Amptek-style ``.mca`` text files (``<<PMCA SPECTRUM>>``): single spectra, and folders of them as scans.

The numbers in a file's name identify the pixel:

- One number that runs (``None_1``, ``scan_0``, behind a date and time or not): pixels in rows, counted from 0 or 1.
- Row and column by name, in any order: ``r000_c001``, ``row1_col2``, ``x12_y03``, ``Y003X012``, ``line3-column4``,
  ``Zeile1_Spalte2``; also positions, ``x0.5_y-1.5``.
- Two numbers at the end, set off from the name (``scan_0001_0002``, ``12-34``): row and column.

Dates and times in names are ignored.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._energies import NO_CALIBRATION, Axis, axis_of_coefficients, number, seconds, unit_of
from underpaint.io._single import FileSpectrum, spectrum_scan
from underpaint.io._source import entries_inside, is_outside, lazy_counts, try_read
from underpaint.io.readers import Format

_DATE = r"(?:19|20)\d\d([-_.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
_TIME = r"(?:[01]\d|2[0-3])([-_.]?)[0-5]\d\2[0-5]\d"
_STAMP = re.compile(rf"(?<!\d){_DATE}(?:[T _-]?{_TIME})?(?!\d)")
_CLOCK = re.compile(r"(?<!\d)(?:[01]\d|2[0-3])[-.][0-5]\d[-.][0-5]\d(?!\d)")
_PLACE = r"[ _=]?(-?)(\d+(?:[.,]\d+)?)"
_ROW = re.compile(rf"(?i)(?<![a-z])(?:row|riga|line|ligne|zeile|reihe|rij|r|y){_PLACE}")
_COLUMN = re.compile(rf"(?i)(?<![a-z])(?:column|colonna|colonne|spalte|kolom|pixel|col|c|x){_PLACE}")
_PAIR = re.compile(r"^(?P<series>(?:.*[ _.-])?)(?P<row>\d+)[ _x,-](?P<column>\d+)$")
_NUMBER = re.compile(r"^(?P<series>.*?)[ _.-]?(?P<number>\d+)$")


@dataclass(frozen=True)
class Series:
    """Files whose names differ only in their numbers.

    Parameters
    ----------
    places : dict of (int, int) to str
        File names by row and column as counted in the names; those of one running number by (0, number).
    rows_named : bool
        Whether the names identify the row.
    in_grid : bool
        Whether the names have a row and a column.
    """

    places: dict[tuple[int, int], str]
    in_grid: bool
    rows_named: bool = False

    @property
    def numbers(self) -> list[int]:
        """Running numbers in order; of a series that is not in a grid."""
        return sorted(number for _, number in self.places)

    def turned(self) -> "Series":
        """Return the series with the first number as the column."""
        return Series({(row, column): name for (column, row), name in self.places.items()}, self.in_grid)


def series_of(names: Iterable[str]) -> tuple[dict[str, Series], list[str]]:
    """Group file names (with ending) into series by their text without numbers; also return names without numbers."""
    stems = {name: _CLOCK.sub("*", _STAMP.sub("*", name.rpartition(".")[0])) for name in names}
    named, rest = _with_row_and_column(stems)
    paired, rest = _pairs(rest)
    single: dict[str, dict[tuple[int, int], str]] = {}
    odd = []
    for name, stem in rest.items():
        match = _NUMBER.match(stem)
        if match is None or match["series"].lower().startswith("spot"):
            odd.append(name)
        else:
            _put(single, match["series"], (0, int(match["number"])), name, odd)
    running = {key: Series(places, in_grid=False) for key, places in single.items()}
    return {**named, **paired, **running}, odd


def _with_row_and_column(stems: dict[str, str]) -> tuple[dict[str, Series], dict[str, str]]:
    by_name: dict[str, tuple[str, re.Match[str], re.Match[str]]] = {}
    for name, stem in stems.items():
        row, column = _ROW.search(_split_letter(stem)), _COLUMN.search(_split_letter(stem))
        if row is not None and column is not None:
            left = _COLUMN.sub("", _ROW.sub("", _split_letter(stem), count=1), count=1)
            by_name[name] = re.sub(r"\W", "", left).strip("_"), row, column
    rows, columns = (_whole_places([match[side] for match in by_name.values()]) for side in (1, 2))
    matched = {
        name: (left, (row, column))
        for (name, (left, *_)), row, column in zip(by_name.items(), rows, columns, strict=True)
    }
    # An additional number identifies the series, or increases with the pixels: then it is redundant.
    running = len({(re.sub(r"\d", "", left), place) for left, place in matched.values()}) == len(matched)
    groups: dict[str, dict[tuple[int, int], str]] = {}
    odd: list[str] = []
    for name, (left, place) in matched.items():
        _put(groups, re.sub(r"\d+", "", left) if running else left, place, name, odd)
    rest = {name: stem for name, stem in stems.items() if name not in matched or name in odd}
    return {key: Series(places, in_grid=True, rows_named=True) for key, places in groups.items()}, rest


def _whole_places(matches: list[Any]) -> list[int]:
    """Return rows or columns as integers in units of the last decimal place; a hyphen in all of them is a separator."""
    is_sign = not all(match[1] for match in matches)
    places = [Decimal(match[2].replace(",", ".")) for match in matches]
    n_decimal = max((-int(place.as_tuple().exponent) for place in places), default=0)
    return [
        int(place.scaleb(n_decimal)) * (-1 if is_sign and match[1] else 1)
        for place, match in zip(places, matches, strict=True)
    ]


def _split_letter(stem: str) -> str:
    """Separate a letter from the number before it, as in Y003X012."""
    return re.sub(r"(?<=\d)(?=[A-Za-z])", " ", stem)


def _pairs(stems: dict[str, str]) -> tuple[dict[str, Series], dict[str, str]]:
    """Series of two numbers; if the second runs through all files, it is the pixel number."""
    groups: dict[str, dict[tuple[int, int], str]] = {}
    rest: dict[str, str] = {}
    odd: list[str] = []
    for name, stem in stems.items():
        match = _PAIR.match(stem)
        if match is None or stem.lower().startswith("spot"):
            rest[name] = stem
        else:
            _put(groups, match["series"].rstrip(" _.-"), (int(match["row"]), int(match["column"])), name, odd)
    rest |= {name: stems[name] for name in odd}
    series = {}
    for key, places in groups.items():
        rows, columns = ({place[side] for place in places} for side in (0, 1))
        if len(columns) < len(places):
            series[key] = Series(places, in_grid=True)
        elif len(rows) > 1:
            series[key] = Series({(0, column): name for (_, column), name in places.items()}, in_grid=False)
        else:
            rest |= {name: stems[name] for name in places.values()}
    return series, rest


def _put(
    groups: dict[str, dict[tuple[int, int], str]], key: str, place: tuple[int, int], name: str, odd: list[str]
) -> None:
    """Add a name to its series; a duplicate (``a_1`` and ``a_01``) is invalid."""
    places = groups.setdefault(key, {})
    if place in places:
        odd.append(name)
    else:
        places[place] = name


def steps_and_origin(values: Iterable[int]) -> tuple[int, int]:
    """Return the step and the first of numbers of rows or columns that may be positions (0, 50, 100)."""
    distinct = sorted(set(values))
    step = 0
    for value in distinct[1:]:
        step = gcd(step, value - distinct[0])
    return step or 1, distinct[0]


FORMAT = Format(
    "Amptek .mca",
    "Amptek .mca, one spectrum or a folder of a map",
    endings=(".mca",),
    recognised_by="first line <<PMCA SPECTRUM>>; a folder of such files",
    source="Amptek, DPPMCA software: the text files that it writes",
    priority=40,
)
MAGIC = b"<<PMCA SPECTRUM>>"
GRID_FILE = "colonneXrighe.txt"
_DATA, _END, _CALIBRATION = b"<<DATA>>", b"<<END>>", b"<<CALIBRATION>>"
_HEAD_BYTES = 2048
_MAX_GRID_FILE_BYTES = 4096
_MAX_COUNT = 2**32 - 1
_SERIES_SHOWN = 6
_MAX_SCATTER = 2.0
"""Tolerance of calibration points from their line, channels: peaks are selected to about a channel."""
_FIELD = re.compile(rb"^([A-Z][A-Z0-9_ ]*?) - ?([^\r\n]*)", re.MULTILINE)
_ROW_WORDS, _COLUMN_WORDS = ("righe", "rows", "row"), ("colonne", "columns", "column", "cols")


def _begins(head: bytes) -> bool:
    """Whether a file's first bytes are those of an ``.mca`` spectrum."""
    return head.lstrip(b"\xef\xbb\xbf \r\n").startswith(MAGIC)


def sniff(path: Path, head: bytes) -> bool:
    """Whether a file is an ``.mca`` spectrum, or a folder or its subfolder contains some."""
    return _begins(head) if head else bool(_spectra_folders(path))


def read(path: Path, name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read one ``.mca`` file, or a folder of them, one per pixel, by the numbers in their names.

    Parameters
    ----------
    path : Path
        The file; the spectra's folder; or its parent with the grid file and one folder per detector.
    name : str or None
        One of these folders.
    shape : (int, int) or None
        Rows and columns; None reads them from the grid file (``righe`` rows, ``colonne`` columns), or from the names.

    Raises
    ------
    ScanError
        No spectra, no grid, or the two do not fit together.
    """
    if path.is_file():
        return [_read_file(path)]
    folder = path if name is None else path / name
    return [_read_folder(subfolder, folder, shape) for subfolder in _spectra_folders(folder)]


def _read_file(path: Path) -> Scan:
    """Read one ``.mca`` file as a scan of one pixel.

    Raises
    ------
    ScanError
        The file is truncated, has no data, or has invalid counts.
    """
    text = try_read(path.read_bytes, str(path))
    counts = _parse_counts(_data_section(text, path), path).astype(np.float64)
    fields = _fields(text)
    axis, notes = _axis(text, counts.size)
    live, real = seconds(fields.get("LIVE_TIME")), seconds(fields.get("REAL_TIME"))
    return spectrum_scan(FileSpectrum(counts, axis, live, real, notes=notes, metadata=fields), path, FORMAT.name)


def _spectra_folders(folder: Path) -> list[Path]:
    """Folders with ``.mca`` files: this one, or else its subfolders."""
    if _mca_files(folder):
        return [folder]
    below = sorted(entry for entry in try_read(lambda: list(folder.iterdir()), str(folder)) if entry.is_dir())
    return entries_inside(folder, (entry for entry in below if _mca_files(entry)))


@dataclass(frozen=True)
class Grid:
    """Rows, columns and dwell time of a raster, and their source."""

    n_row: int
    n_column: int
    dwell_s: float | None = None
    source: Path | None = None


class McaFolder:
    """The cube of a folder of ``.mca`` files; pixels without a file are zero."""

    dtype: np.dtype[Any] = np.dtype(np.uint32)

    def __init__(self, folder: Path, names: Mapping[int, str], grid: Grid, n_channel: int) -> None:
        self.folder, self.names = folder, dict(names)
        self.shape = (grid.n_row, grid.n_column, n_channel)

    def read(self, rows: slice, columns: slice) -> NDArray[np.uint32]:
        """Read and check the files of a rectangle of pixels."""
        row_range, column_range = range(rows.start, rows.stop), range(columns.start, columns.stop)
        block = np.zeros((len(row_range), len(column_range), self.shape[2]), dtype=np.uint32)
        for i, row in enumerate(row_range):
            for j, column in enumerate(column_range):
                name = self.names.get(row * self.shape[1] + column + 1)
                if name is not None:
                    block[i, j] = self._read_pixel(self.folder / name, row, column)
        return block

    def _read_pixel(self, path: Path, row: int, column: int) -> NDArray[np.int64]:
        location = f"{path} (pixel row {row}, column {column})"
        counts = _parse_counts(_data_section(try_read(path.read_bytes, location), location), location)
        if counts.size != self.shape[2]:
            raise ScanError(
                f"Cannot use {location}: it has {counts.size} channels, the scan's first "
                f"spectrum {self.shape[2]}. "
                "All spectra of a scan must have equally many; move files of other measurements elsewhere."
            )
        return counts


def _read_folder(folder: Path, top: Path, shape: tuple[int, int] | None) -> Scan:
    numbered, grid, notes = _pixels(folder, top, shape)
    present = _presence(numbered, grid)
    if not present.all():
        notes.append(f"{int((~present).sum())} of {present.size} pixels have no file; they count as not measured")
    first = folder / numbered[min(numbered)]
    text = try_read(first.read_bytes, str(first))
    n_channel = _parse_counts(_data_section(text, first), first).size
    axis, axis_note = _axis(text, n_channel)
    live, real, time_notes = _times(folder, numbered, grid, _calibration_section(text))
    fields = _fields(text)
    if grid.dwell_s is not None:
        fields["dwell_time_s"] = str(grid.dwell_s)
    return Scan(
        lazy_counts(McaFolder(folder, numbered, grid, n_channel), str(folder)),
        axis=axis,
        name=folder.name,
        source=str(folder),
        format=FORMAT.name,
        live_time_s=live,
        real_time_s=real,
        detector=fields.get("SERIAL_NUMBER", ""),
        present=None if present.all() else present,
        notes=(*notes, *axis_note, *time_notes),
        metadata=fields,
    )


def _mca_files(folder: Path) -> list[str]:
    entries = try_read(lambda: list(folder.iterdir()), str(folder))
    spectra = (entry for entry in entries if entry.suffix.lower() == ".mca" and entry.name[0] != ".")
    return sorted(entry.name for entry in entries_inside(folder, spectra))


def _pixels(folder: Path, top: Path, shape: tuple[int, int] | None) -> tuple[dict[int, str], Grid, list[str]]:
    """Files by pixel (from 1, row by row), the grid, and notes."""
    by_name, skipped = series_of(_mca_files(folder))
    notes = [f"{len(skipped)} spectra are not pixels and were skipped: {', '.join(skipped[:4])}"] if skipped else []
    if not by_name:
        raise ScanError(
            f"Cannot read {folder} as a scan: it has no numbered .mca files (None_1.mca, None_2.mca ..., or with row "
            "and column: r0_c0.mca); dates and times are not pixel numbers. Give the folder of the pixels' spectra, "
            "or number them in the order of the pixels."
        )
    if len(by_name) > 1:
        counted = [f"{stem or '(number only)'}: {len(files.places)}" for stem, files in sorted(by_name.items())]
        listed = ", ".join([*counted[:_SERIES_SHOWN], *(["..."] if len(counted) > _SERIES_SHOWN else [])])
        raise ScanError(
            f"Cannot read {folder} as one scan: its .mca files have several series of names ({listed}). "
            "Move each series to a separate folder; if they are one scan, name row and column (r0_c0.mca, "
            "x0.5_y1.5.mca) or number the files in the order of the pixels (NAME_1.mca)."
        )
    (series,) = by_name.values()
    pixel_grid = Grid(*shape) if shape is not None else _find_grid(folder, top)
    if series.in_grid:
        numbered, grid, note = _in_grid(series, pixel_grid, folder)
        return numbered, grid, [*notes, *note]
    if pixel_grid is None:
        raise ScanError(
            f"Cannot read {folder} as a scan: {len(series.places)} spectra, but no grid file ({GRID_FILE} with the "
            "lines 'righe <rows>' and 'colonne <columns>') in it or one level above. Add one, or give "
            "the shape (`--shape ROWSxCOLUMNS`; Python: `shape=(rows, columns)`)."
        )
    series = _without_step(series, pixel_grid)
    first = _first_number(series.numbers, pixel_grid)
    _check_grid(pixel_grid, [place - first + 1 for place in series.numbers], first, folder, explicit=shape is not None)
    return {place - first + 1: name for (_, place), name in series.places.items()}, pixel_grid, notes


def _without_step(series: Series, grid: Grid) -> Series:
    """Number the files of a complete series that counts in steps (0, 10, 20) one by one."""
    step, first = steps_and_origin(series.numbers)
    n_file = len(series.places)
    if step == 1 or n_file != grid.n_row * grid.n_column or (series.numbers[-1] - first) // step != n_file - 1:
        return series
    return replace(series, places={(0, (place - first) // step): name for (_, place), name in series.places.items()})


def _first_number(numbers: list[int], grid: Grid) -> int:
    """Return the number of the first pixel: 0 if it exists, else 1, or the first of a complete series."""
    complete = len(numbers) == numbers[-1] - numbers[0] + 1 == grid.n_row * grid.n_column
    return 0 if numbers[0] == 0 else numbers[0] if complete else 1


def _in_grid(series: Series, stated: Grid | None, folder: Path) -> tuple[dict[int, str], Grid, list[str]]:
    """Files whose names have a row and a column; unidentified ones are transposed if the grid requires it."""
    for candidate in (series,) if series.rows_named else (series, series.turned()):
        rows, columns = ([place[side] for place in candidate.places] for side in (0, 1))
        row_step, first_row = _places(rows, None if stated is None else stated.n_row)
        column_step, first_column = _places(columns, None if stated is None else stated.n_column)
        n_row, n_column = (max(rows) - first_row) // row_step + 1, (max(columns) - first_column) // column_step + 1
        grid = stated or Grid(n_row, n_column)
        if n_row > grid.n_row or n_column > grid.n_column or 2 * len(rows) < grid.n_row * grid.n_column:
            continue
        numbered = {
            (row - first_row) // row_step * grid.n_column + (column - first_column) // column_step + 1: name
            for (row, column), name in candidate.places.items()
        }
        choice = "first" if candidate is series else "second"
        note = [] if candidate.rows_named else [f"the {choice} number in the files' names is taken as the row"]
        return numbered, grid, note
    rows, columns = ([place[side] for place in series.places] for side in (0, 1))
    spans = f"rows {min(rows)} to {max(rows)} and columns {min(columns)} to {max(columns)}"
    counted = f"{spans} in the names of {len(rows)} spectra"
    if stated is None:
        raise ScanError(
            f"Cannot read {folder} as a scan: {counted} leave more than half of the pixels out. If the names have no "
            "row and column, number the files in the order of the pixels (NAME_1.mca, NAME_2.mca ...)."
        )
    raise ScanError(
        f"Cannot read {folder} as a scan: {_origin(stated)} says {stated.n_row} rows x {stated.n_column} columns, but "
        f"there are {counted}. Correct the grid file, or give the shape that the names count (`--shape ROWSxCOLUMNS`; "
        "Python: `load(path, shape=(rows, columns))`); if a number names the series, move each to another folder."
    )


def _places(numbers: list[int], n_place: int | None) -> tuple[int, int]:
    """Step and first number of rows or columns: counted from 0 or 1 if they fit the known number."""
    step, first = steps_and_origin(numbers)
    if n_place is not None and first <= 1 and max(numbers) - first < n_place:
        return 1, first
    if n_place is not None and first >= 1 and max(numbers) <= n_place:
        return 1, 1
    return step, first


def _origin(grid: Grid) -> str:
    return "the given shape" if grid.source is None else str(grid.source)


def _find_grid(folder: Path, top: Path) -> Grid | None:
    for place in dict.fromkeys((folder, top, folder.parent)):
        for candidate in _grid_candidates(place):
            grid = _parse_grid(candidate)
            if grid is not None:
                return grid
    return None


def _grid_candidates(place: Path) -> list[Path]:
    texts = [entry for entry in try_read(lambda: list(place.iterdir()), str(place)) if entry.suffix.lower() == ".txt"]
    files = (entry for entry in texts if entry.is_file() and not is_outside(entry, place))
    small = [entry for entry in files if entry.stat().st_size <= _MAX_GRID_FILE_BYTES]
    return sorted(small, key=lambda entry: (entry.name != GRID_FILE, entry.name))


def _parse_grid(path: Path) -> Grid | None:
    """Rows and columns of a grid file; None if the text has neither."""
    words: dict[str, str] = {}
    for line in try_read(path.read_bytes, str(path)).decode("latin-1").splitlines():
        parts = line.replace("=", " ").replace(":", " ").split()
        if len(parts) >= 2:
            words[parts[0].lower()] = parts[1].replace(",", ".")
    rows = next((words[word] for word in _ROW_WORDS if word in words), None)
    columns = next((words[word] for word in _COLUMN_WORDS if word in words), None)
    if rows is None or columns is None:
        return None
    return Grid(_positive_integer(rows, path), _positive_integer(columns, path), seconds(words.get("dwell-time")), path)


def _positive_integer(text: str, path: Path) -> int:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (value >= 1 and value.is_integer()):
        raise ScanError(f"Cannot use the grid file {path}: {text!r} is not a number of rows or columns (1, 2, 3 ...).")
    return int(value)


def _check_grid(grid: Grid, numbers: list[int], first: int, folder: Path, *, explicit: bool) -> None:
    """Refuse a grid that contradicts the numbering (shifted to start at 1); single missing files are allowed."""
    n_pixel = grid.n_row * grid.n_column
    missing = n_pixel - len(numbers)
    ends_early = not explicit and numbers[-1] < n_pixel - 1
    if (
        grid.n_row < 1
        or grid.n_column < 1
        or numbers[0] < 1
        or numbers[-1] > n_pixel
        or ends_early
        or 2 * missing > n_pixel
    ):
        raise ScanError(
            f"Cannot read {folder} as a scan: {_origin(grid)} says {grid.n_row} rows x {grid.n_column} "
            f"columns = {n_pixel} pixels, but there are {len(numbers)} spectra, numbered {numbers[0] + first - 1} to "
            f"{numbers[-1] + first - 1}. Correct the grid file, or give the shape (`--shape ROWSxCOLUMNS`; Python: "
            "`load(path, shape=(rows, columns))`); a scan that stopped early is read with its planned shape if half of "
            "its pixels are there."
        )


def _presence(numbered: Mapping[int, str], grid: Grid) -> NDArray[np.bool_]:
    present = np.zeros(grid.n_row * grid.n_column, dtype=bool)
    present[np.fromiter(numbered, dtype=np.int64) - 1] = True
    return present.reshape(grid.n_row, grid.n_column)


def _times(
    folder: Path, numbered: Mapping[int, str], grid: Grid, calibration: bytes
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None, list[str]]:
    """Live and real time of each pixel from the files' heads; a time of 0 is unknown."""
    live, real = np.full(grid.n_row * grid.n_column, np.nan), np.full(grid.n_row * grid.n_column, np.nan)
    n_other = 0
    for pixel, name in numbered.items():
        head = try_read(partial(_head, folder / name), str(folder / name))
        live[pixel - 1] = _time(head, b"\nLIVE_TIME - ")
        real[pixel - 1] = _time(head, b"\nREAL_TIME - ")
        n_other += _calibration_section(head) != calibration
    notes = []
    if np.isnan(live).all():
        notes.append("live time is unknown (0 in the files)")
    if n_other:
        notes.append(f"{n_other} spectra have another calibration than the first; the first one's is used for all")
    shape = (grid.n_row, grid.n_column)
    return _times_or_none(live, shape), _times_or_none(real, shape), notes


def _times_or_none(time_s: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64] | None:
    return None if np.isnan(time_s).all() else time_s.reshape(shape)


def _head(path: Path) -> bytes:
    with path.open("rb", buffering=0) as stream:
        return stream.read(_HEAD_BYTES)


def _time(head: bytes, label: bytes) -> float:
    start = head.find(label)
    if start < 0:
        return float("nan")
    value = seconds(head[start + len(label) : head.find(b"\n", start + len(label))].decode("latin-1"))
    return float("nan") if value is None else value


def _data_section(text: bytes, location: Path | str) -> bytes:
    start, stop = text.find(_DATA), text.rfind(_END)
    if not _begins(text[:64]) or start < 0:
        raise ScanError(
            f"Cannot read {location}: it is not an .mca spectrum (no {MAGIC.decode()} or no <<DATA>> in it)."
        )
    if stop < start:
        raise ScanError(
            f"Cannot read {location}: the file is cut off (no <<END>> after its data). Copy it from the instrument "
            "again."
        )
    return text[start + len(_DATA) : stop]


def _parse_counts(section: bytes, location: Path | str) -> NDArray[np.int64]:
    """Parse integers quickly; other content is examined for the error message."""
    if section.translate(None, b"0123456789 \t\r\n"):
        _refuse_numbers(section, location)
    if not section.strip():
        raise ScanError(f"Cannot read {location}: its data section is empty. Copy it from the instrument again.")
    counts = np.fromstring(section, dtype=np.int64, sep=" ")
    if counts.max() > _MAX_COUNT:  # longer numbers saturate at the largest of the type
        channel = int(counts.argmax())
        raise ScanError(
            f"Cannot read {location}: channel {channel} holds {section.split()[channel].decode()[:30]} counts, more "
            f"than can be ({_MAX_COUNT}). The file is damaged; copy it again."
        )
    return counts


def _refuse_numbers(section: bytes, location: Path | str) -> None:
    for channel, word in enumerate(section.split()):
        if not word.isdigit():
            raise ScanError(
                f"Cannot read {location}: channel {channel} holds {word.decode('latin-1')!r}; "
                "counts must be non-negative integers."
            )


def _fields(text: bytes) -> dict[str, str]:
    head = text[: max(text.find(_DATA), 0)].decode("latin-1").encode("utf-8")
    return {key.decode(): value.decode().strip() for key, value in _FIELD.findall(head)}


def _calibration_section(text: bytes) -> bytes:
    start = text.find(_CALIBRATION)
    if start < 0:
        return b""
    return text[start + len(_CALIBRATION) : text.find(b"<<", start + len(_CALIBRATION))]


def _axis(text: bytes, n_channel: int) -> Axis:
    """Straight line through the calibration points (channel, energy)."""
    points = []
    for line in _calibration_section(text).decode("latin-1").replace(",", ".").splitlines():
        pair = [number(word) for word in line.split()]
        if len(pair) == 2 and None not in pair:
            points.append(pair)
    channel, energy = np.array(points, dtype=np.float64).reshape(-1, 2).T
    if np.unique(channel).size < 2:
        return None, (NO_CALIBRATION,)
    gain, zero = (float(value) for value in np.polyfit(channel, energy, 1))
    off = float(np.abs(energy - zero - gain * channel).max() / abs(gain)) if gain else 0.0
    if off > _MAX_SCATTER:
        note = (
            f"energy calibration ignored: its points are up to {off:.1f} channels off a line, "
            f"{_MAX_SCATTER:g} at most are read; find it with `underpaint calibrate`"
        )
        return None, (note,)
    return axis_of_coefficients((zero, gain), n_channel, unit_of(_fields(text).get("LABEL", "")))
