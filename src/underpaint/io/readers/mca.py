"""Reader of single spectra in Amptek's text format (``.mca``), and of folders with one such file per pixel.

The numbers in the name of a file identify its pixel:

- A single running number (``None_1``, ``scan_0``, with or without date and time) counts the pixels row by row, from 0
  or 1.
- Words or letters may mark row and column, in any order: ``r000_c001``, ``row1_col2``, ``x12_y03``, ``Y003X012``,
  ``line3-column4``, ``Zeile1_Spalte2``. Row and column may be positions, as in ``x0.5_y-1.5``.
- Two separate numbers at the end (``scan_0001_0002``, ``12-34``) are row and column.

Dates and times in the names are ignored.
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
from underpaint.io._energies import NO_CALIBRATION, Axis, axis_of_coefficients, energy_unit, parse_number, parse_seconds
from underpaint.io._single import FileSpectrum, spectrum_scan
from underpaint.io._source import entries_inside, is_outside, lazy_counts, try_read
from underpaint.io.readers import Format

_DATE_REGEX = r"(?:19|20)\d\d([-_.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
_TIME_REGEX = r"(?:[01]\d|2[0-3])([-_.]?)[0-5]\d\2[0-5]\d"
_DATE_TIME_PATTERN = re.compile(rf"(?<!\d){_DATE_REGEX}(?:[T _-]?{_TIME_REGEX})?(?!\d)")
_CLOCK_PATTERN = re.compile(r"(?<!\d)(?:[01]\d|2[0-3])[-.][0-5]\d[-.][0-5]\d(?!\d)")
_POSITION_REGEX = r"[ _=]?(-?)(\d+(?:[.,]\d+)?)"
_ROW_PATTERN = re.compile(rf"(?i)(?<![a-z])(?:row|riga|line|ligne|zeile|reihe|rij|r|y){_POSITION_REGEX}")
_COLUMN_PATTERN = re.compile(rf"(?i)(?<![a-z])(?:column|colonna|colonne|spalte|kolom|pixel|col|c|x){_POSITION_REGEX}")
_PAIR_PATTERN = re.compile(r"^(?P<series>(?:.*[ _.-])?)(?P<row>\d+)[ _x,-](?P<column>\d+)$")
_NUMBER_PATTERN = re.compile(r"^(?P<series>.*?)[ _.-]?(?P<number>\d+)$")


@dataclass(frozen=True)
class FileSeries:
    """Files of one scan, whose names differ only in their numbers.

    Parameters
    ----------
    names_by_pixel : dict of (int, int) to str
        File names by the (row, column) in the name, or by (0, running number).
    rows_named : bool
        Whether words or letters in the names mark the row.
    has_pairs : bool
        Whether the names contain a row and a column.
    """

    names_by_pixel: dict[tuple[int, int], str]
    has_pairs: bool
    rows_named: bool = False

    @property
    def running_numbers(self) -> list[int]:
        """Running numbers of the files in ascending order."""
        return sorted(running_number for _, running_number in self.names_by_pixel)

    def transposed(self) -> "FileSeries":
        """Return the series with rows and columns exchanged."""
        return FileSeries(
            {(row, column): file_name for (column, row), file_name in self.names_by_pixel.items()}, self.has_pairs
        )


def group_into_series(file_names: Iterable[str]) -> tuple[dict[str, FileSeries], list[str]]:
    """Return series of file names that differ only in numbers, and the names that belong to no series."""
    stems = {
        file_name: _CLOCK_PATTERN.sub("*", _DATE_TIME_PATTERN.sub("*", file_name.rpartition(".")[0]))
        for file_name in file_names
    }
    row_column_series, remaining_stems = _group_by_row_and_column(stems)
    paired_series, remaining_stems = _group_pairs(remaining_stems)
    running_groups: dict[str, dict[tuple[int, int], str]] = {}
    ungrouped = []
    for file_name, stem in remaining_stems.items():
        match = _NUMBER_PATTERN.match(stem)
        if match is None or match["series"].lower().startswith("spot"):
            ungrouped.append(file_name)
        else:
            _add_to_series(running_groups, match["series"], (0, int(match["number"])), file_name, ungrouped)
    running_series = {
        series_name: FileSeries(names_by_pixel, has_pairs=False)
        for series_name, names_by_pixel in running_groups.items()
    }
    return {**row_column_series, **paired_series, **running_series}, ungrouped


def _group_by_row_and_column(stems: dict[str, str]) -> tuple[dict[str, FileSeries], dict[str, str]]:
    matches_by_name: dict[str, tuple[str, re.Match[str], re.Match[str]]] = {}
    for file_name, stem in stems.items():
        row, column = _ROW_PATTERN.search(_split_letter(stem)), _COLUMN_PATTERN.search(_split_letter(stem))
        if row is not None and column is not None:
            series_name = _COLUMN_PATTERN.sub("", _ROW_PATTERN.sub("", _split_letter(stem), count=1), count=1)
            matches_by_name[file_name] = re.sub(r"\W", "", series_name).strip("_"), row, column
    rows, columns = (
        _integer_positions([name_matches[group_index] for name_matches in matches_by_name.values()])
        for group_index in (1, 2)
    )
    series_and_pixel = {
        file_name: (series_name, (row, column))
        for (file_name, (series_name, *_)), row, column in zip(matches_by_name.items(), rows, columns, strict=True)
    }
    # A third number identifies the series, unless it is different for every pixel.
    has_running_number = len(
        {(re.sub(r"\d", "", series_name), pixel) for series_name, pixel in series_and_pixel.values()}
    ) == len(series_and_pixel)
    files_by_series: dict[str, dict[tuple[int, int], str]] = {}
    duplicate_names: list[str] = []
    for file_name, (series_name, pixel) in series_and_pixel.items():
        _add_to_series(
            files_by_series,
            re.sub(r"\d+", "", series_name) if has_running_number else series_name,
            pixel,
            file_name,
            duplicate_names,
        )
    remaining_stems = {
        file_name: stem
        for file_name, stem in stems.items()
        if file_name not in series_and_pixel or file_name in duplicate_names
    }
    return {
        group_name: FileSeries(names_by_pixel, has_pairs=True, rows_named=True)
        for group_name, names_by_pixel in files_by_series.items()
    }, remaining_stems


def _integer_positions(matches: list[Any]) -> list[int]:
    """Convert positions to integers, in units of their last decimal place.

    If a hyphen precedes all positions, it is a separator, not a minus sign.
    """
    is_hyphen_sign = not all(match[1] for match in matches)
    decimal_positions = [Decimal(match[2].replace(",", ".")) for match in matches]
    n_decimal = max((-int(decimal_position.as_tuple().exponent) for decimal_position in decimal_positions), default=0)
    return [
        int(decimal_position.scaleb(n_decimal)) * (-1 if is_hyphen_sign and match[1] else 1)
        for decimal_position, match in zip(decimal_positions, matches, strict=True)
    ]


def _split_letter(stem: str) -> str:
    """Insert a space between each number and the letter after it, as in Y003X012."""
    return re.sub(r"(?<=\d)(?=[A-Za-z])", " ", stem)


def _group_pairs(stems: dict[str, str]) -> tuple[dict[str, FileSeries], dict[str, str]]:
    """Group names that end in two numbers.

    If the second number is different in all names, it is a running number.
    """
    files_by_series: dict[str, dict[tuple[int, int], str]] = {}
    remaining_stems: dict[str, str] = {}
    duplicate_names: list[str] = []
    for file_name, stem in stems.items():
        match = _PAIR_PATTERN.match(stem)
        if match is None or stem.lower().startswith("spot"):
            remaining_stems[file_name] = stem
        else:
            _add_to_series(
                files_by_series,
                match["series"].rstrip(" _.-"),
                (int(match["row"]), int(match["column"])),
                file_name,
                duplicate_names,
            )
    remaining_stems |= {file_name: stems[file_name] for file_name in duplicate_names}
    series = {}
    for series_name, names_by_pixel in files_by_series.items():
        row_numbers, column_numbers = ({pixel[index] for pixel in names_by_pixel} for index in (0, 1))
        if len(column_numbers) < len(names_by_pixel):
            series[series_name] = FileSeries(names_by_pixel, has_pairs=True)
        elif len(row_numbers) > 1:
            series[series_name] = FileSeries(
                {(0, column): file_name for (_, column), file_name in names_by_pixel.items()}, has_pairs=False
            )
        else:
            remaining_stems |= {file_name: stems[file_name] for file_name in names_by_pixel.values()}
    return series, remaining_stems


def _add_to_series(
    files_by_series: dict[str, dict[tuple[int, int], str]],
    series_name: str,
    pixel: tuple[int, int],
    file_name: str,
    duplicate_names: list[str],
) -> None:
    """Add a file name to its series, or to the duplicates if its pixel has a name already (``a_1`` and ``a_01``)."""
    names_by_pixel = files_by_series.setdefault(series_name, {})
    if pixel in names_by_pixel:
        duplicate_names.append(file_name)
    else:
        names_by_pixel[pixel] = file_name


def steps_and_origin(position_numbers: Iterable[int]) -> tuple[int, int]:
    """Return the step and the first value of row or column numbers, which may be positions (0, 50, 100)."""
    distinct_numbers = sorted(set(position_numbers))
    common_step = 0
    for position_number in distinct_numbers[1:]:
        common_step = gcd(common_step, position_number - distinct_numbers[0])
    return common_step or 1, distinct_numbers[0]


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
_DATA_TAG, _END_TAG, _CALIBRATION_TAG = b"<<DATA>>", b"<<END>>", b"<<CALIBRATION>>"
_HEAD_BYTES = 2048
_MAX_GRID_FILE_BYTES = 4096
_MAX_COUNT = 2**32 - 1
_MAX_LISTED_SERIES = 6
_MAX_DEVIATION_CHANNELS = 2.0
"""Maximum deviation in channels of calibration points from a straight line. Users select peaks to about one channel."""
_FIELD_PATTERN = re.compile(rb"^([A-Z][A-Z0-9_ ]*?) - ?([^\r\n]*)", re.MULTILINE)
_ROW_WORDS, _COLUMN_WORDS = ("righe", "rows", "row"), ("colonne", "columns", "column", "cols")


def _is_mca(head: bytes) -> bool:
    """Return whether a file begins like an ``.mca`` spectrum."""
    return head.lstrip(b"\xef\xbb\xbf \r\n").startswith(MAGIC)


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a file is an ``.mca`` spectrum, or a folder or one of its subfolders contains such files."""
    return _is_mca(head) if head else bool(_spectra_folders(path))


def read(path: Path, part_name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read an ``.mca`` file, or a folder with one file per pixel. The numbers in the names identify the pixels.

    Parameters
    ----------
    path : Path
        An ``.mca`` file, a folder of such files, or a folder with a grid file and one subfolder per detector.
    part_name : str or None
        Name of a subfolder.
    shape : (int, int) or None
        Numbers of rows and columns. If None, they are taken from the grid file (``righe`` is rows, ``colonne`` is
        columns) or from the file names.

    Raises
    ------
    ScanError
        There are no spectra, the grid is unknown, or the spectra do not fit the grid.
    """
    if path.is_file():
        return [_read_file(path)]
    folder = path if part_name is None else path / part_name
    return [_read_folder(subfolder, folder, shape) for subfolder in _spectra_folders(folder)]


def _read_file(path: Path) -> Scan:
    """Read an ``.mca`` file as a scan of one pixel.

    Raises
    ------
    ScanError
        The file is truncated, has no counts, or has invalid counts.
    """
    file_content = try_read(path.read_bytes, str(path))
    counts = _parse_counts(_data_section(file_content, path), path).astype(np.float64)
    fields = _header_fields(file_content)
    axis, notes = _axis(file_content, counts.size)
    live_time_s, real_time_s = parse_seconds(fields.get("LIVE_TIME")), parse_seconds(fields.get("REAL_TIME"))
    return spectrum_scan(
        FileSpectrum(counts, axis, live_time_s, real_time_s, notes=notes, metadata=fields), path, FORMAT.name
    )


def _spectra_folders(folder: Path) -> list[Path]:
    """Return the given folder if it contains ``.mca`` files, otherwise its subfolders that contain such files."""
    if _mca_files(folder):
        return [folder]
    subfolders = sorted(
        subfolder for subfolder in try_read(lambda: list(folder.iterdir()), str(folder)) if subfolder.is_dir()
    )
    return entries_inside(folder, (subfolder for subfolder in subfolders if _mca_files(subfolder)))


@dataclass(frozen=True)
class Grid:
    """Numbers of rows and columns, dwell time, and the grid file that states them."""

    n_row: int
    n_column: int
    dwell_s: float | None = None
    source: Path | None = None


class McaFolder:
    """Cube of a folder of ``.mca`` files. The counts of a pixel without a file are zero."""

    dtype: np.dtype[Any] = np.dtype(np.uint32)

    def __init__(self, folder: Path, names_by_number: Mapping[int, str], grid: Grid, n_channel: int) -> None:
        self.folder, self.names = folder, dict(names_by_number)
        self.shape = (grid.n_row, grid.n_column, n_channel)

    def read(self, rows: slice, columns: slice) -> NDArray[np.uint32]:
        """Read and check the files of a rectangle of pixels."""
        row_range, column_range = range(rows.start, rows.stop), range(columns.start, columns.stop)
        block = np.zeros((len(row_range), len(column_range), self.shape[2]), dtype=np.uint32)
        for block_row, row in enumerate(row_range):
            for block_column, column in enumerate(column_range):
                file_name = self.names.get(row * self.shape[1] + column + 1)
                if file_name is not None:
                    block[block_row, block_column] = self._read_pixel(self.folder / file_name, row, column)
        return block

    def _read_pixel(self, path: Path, row: int, column: int) -> NDArray[np.int64]:
        location = f"{path} (pixel row {row}, column {column})"
        counts = _parse_counts(_data_section(try_read(path.read_bytes, location), location), location)
        if counts.size != self.shape[2]:
            raise ScanError(
                f"Cannot use {location}: it has {counts.size} channels, the scan's first spectrum has {self.shape[2]}. "
                "All spectra of a scan must have the same number; move files of other measurements elsewhere."
            )
        return counts


def _read_folder(folder: Path, top_folder: Path, shape: tuple[int, int] | None) -> Scan:
    names_by_pixel, grid, notes = _pixel_files(folder, top_folder, shape)
    is_present = _presence_mask(names_by_pixel, grid)
    if not is_present.all():
        notes.append(
            f"{int((~is_present).sum())} of {is_present.size} pixels have no file; these pixels count as not measured"
        )
    first_file = folder / names_by_pixel[min(names_by_pixel)]
    first_content = try_read(first_file.read_bytes, str(first_file))
    n_channel = _parse_counts(_data_section(first_content, first_file), first_file).size
    axis, axis_note = _axis(first_content, n_channel)
    live_time, real_time, time_notes = _pixel_times(folder, names_by_pixel, grid, _calibration_section(first_content))
    fields = _header_fields(first_content)
    if grid.dwell_s is not None:
        fields["dwell_time_s"] = str(grid.dwell_s)
    return Scan(
        lazy_counts(McaFolder(folder, names_by_pixel, grid, n_channel), str(folder)),
        axis=axis,
        name=folder.name,
        source=str(folder),
        format=FORMAT.name,
        live_time_s=live_time,
        real_time_s=real_time,
        detector=fields.get("SERIAL_NUMBER", ""),
        present=None if is_present.all() else is_present,
        notes=(*notes, *axis_note, *time_notes),
        metadata=fields,
    )


def _mca_files(folder: Path) -> list[str]:
    folder_entries = try_read(lambda: list(folder.iterdir()), str(folder))
    spectra = (
        folder_entry
        for folder_entry in folder_entries
        if folder_entry.suffix.lower() == ".mca" and folder_entry.name[0] != "."
    )
    return sorted(folder_entry.name for folder_entry in entries_inside(folder, spectra))


def _pixel_files(
    folder: Path, top_folder: Path, shape: tuple[int, int] | None
) -> tuple[dict[int, str], Grid, list[str]]:
    """Return the file name of each pixel, the grid, and notes. Pixels are numbered row by row from 1."""
    series_by_name, skipped_names = group_into_series(_mca_files(folder))
    notes = (
        [f"{len(skipped_names)} spectra are not pixels and were skipped: {', '.join(skipped_names[:4])}"]
        if skipped_names
        else []
    )
    if not series_by_name:
        raise ScanError(
            f"Cannot read {folder} as a scan: it has no numbered .mca files (None_1.mca, None_2.mca ..., or with row "
            "and column: r0_c0.mca); dates and times are not pixel numbers. Give the folder of the pixels' spectra, "
            "or number them in the order of the pixels."
        )
    if len(series_by_name) > 1:
        series_sizes = [
            f"{stem or '(number only)'}: {len(files.names_by_pixel)}" for stem, files in sorted(series_by_name.items())
        ]
        series_list = ", ".join(
            [*series_sizes[:_MAX_LISTED_SERIES], *(["..."] if len(series_sizes) > _MAX_LISTED_SERIES else [])]
        )
        raise ScanError(
            f"Cannot read {folder} as one scan: its .mca files have several series of names ({series_list}). "
            "Move each series to a separate folder; if they are one scan, name row and column (r0_c0.mca, "
            "x0.5_y1.5.mca) or number the files in the order of the pixels (NAME_1.mca)."
        )
    (series,) = series_by_name.values()
    pixel_grid = Grid(*shape) if shape is not None else _find_grid(folder, top_folder)
    if series.has_pairs:
        names_by_pixel, grid, note = _pair_pixels(series, pixel_grid, folder)
        return names_by_pixel, grid, [*notes, *note]
    if pixel_grid is None:
        raise ScanError(
            f"Cannot read {folder} as a scan: {len(series.names_by_pixel)} spectra, but no grid file ({GRID_FILE} "
            "with the lines 'righe <rows>' and 'colonne <columns>') in it or one level above. Add one, or give "
            "the shape (`--shape ROWSxCOLUMNS`; Python: `shape=(rows, columns)`)."
        )
    series = _renumbered(series, pixel_grid)
    first_number = _first_number(series.running_numbers, pixel_grid)
    _check_grid(
        pixel_grid,
        [file_number - first_number + 1 for file_number in series.running_numbers],
        first_number,
        folder,
        is_shape_given=shape is not None,
    )
    return (
        {file_number - first_number + 1: file_name for (_, file_number), file_name in series.names_by_pixel.items()},
        pixel_grid,
        notes,
    )


def _renumbered(series: FileSeries, grid: Grid) -> FileSeries:
    """Number files that have a constant step (0, 10, 20) consecutively, if there is one file per pixel of the grid."""
    number_step, first_number = steps_and_origin(series.running_numbers)
    n_file = len(series.names_by_pixel)
    if (
        number_step == 1
        or n_file != grid.n_row * grid.n_column
        or (series.running_numbers[-1] - first_number) // number_step != n_file - 1
    ):
        return series
    return replace(
        series,
        names_by_pixel={
            (0, (file_number - first_number) // number_step): file_name
            for (_, file_number), file_name in series.names_by_pixel.items()
        },
    )


def _first_number(file_numbers: list[int], grid: Grid) -> int:
    """Return the running number of the first pixel.

    The first number is 0 if a file has the number 0, the lowest number of a complete series, or 1.
    """
    is_complete = len(file_numbers) == file_numbers[-1] - file_numbers[0] + 1 == grid.n_row * grid.n_column
    return 0 if file_numbers[0] == 0 else file_numbers[0] if is_complete else 1


def _pair_pixels(series: FileSeries, stated_grid: Grid | None, folder: Path) -> tuple[dict[int, str], Grid, list[str]]:
    """Arrange files by two numbers in their names. The first is the row, or the column if only this fits the grid."""
    for oriented_series in (series,) if series.rows_named else (series, series.transposed()):
        row_numbers, column_numbers = ([pixel[index] for pixel in oriented_series.names_by_pixel] for index in (0, 1))
        row_step, first_row = _step_and_first(row_numbers, None if stated_grid is None else stated_grid.n_row)
        column_step, first_column = _step_and_first(
            column_numbers, None if stated_grid is None else stated_grid.n_column
        )
        n_row, n_column = (
            (max(row_numbers) - first_row) // row_step + 1,
            (max(column_numbers) - first_column) // column_step + 1,
        )
        grid = stated_grid or Grid(n_row, n_column)
        if n_row > grid.n_row or n_column > grid.n_column or 2 * len(row_numbers) < grid.n_row * grid.n_column:
            continue
        names_by_pixel = {
            (row - first_row) // row_step * grid.n_column + (column - first_column) // column_step + 1: file_name
            for (row, column), file_name in oriented_series.names_by_pixel.items()
        }
        ordinal = "first" if oriented_series is series else "second"
        notes = [] if oriented_series.rows_named else [f"the {ordinal} number in the files' names is read as the row"]
        return names_by_pixel, grid, notes
    row_numbers, column_numbers = ([pixel[index] for pixel in series.names_by_pixel] for index in (0, 1))
    span_text = (
        f"rows {min(row_numbers)} to {max(row_numbers)} and columns {min(column_numbers)} to {max(column_numbers)}"
    )
    counted_text = f"{span_text} in the names of {len(row_numbers)} spectra"
    if stated_grid is None:
        raise ScanError(
            f"Cannot read {folder} as a scan: {counted_text} leave more than half of the pixels out. If the names "
            "have no row and column, number the files in the order of the pixels (NAME_1.mca, NAME_2.mca ...)."
        )
    raise ScanError(
        f"Cannot read {folder} as a scan: {_grid_source(stated_grid)} says {stated_grid.n_row} rows x "
        f"{stated_grid.n_column} columns, but "
        f"there are {counted_text}. Correct the grid file, or give the shape that the names count (`--shape "
        "ROWSxCOLUMNS`; "
        "Python: `load(path, shape=(rows, columns))`); if a number names the series, move each to another folder."
    )


def _step_and_first(position_numbers: list[int], n_position: int | None) -> tuple[int, int]:
    """Return the step and the first value of row or column numbers.

    The numbers are assumed to start at 0 or 1 if they then fit the number of rows or columns.
    """
    common_step, first_number = steps_and_origin(position_numbers)
    if n_position is not None and first_number <= 1 and max(position_numbers) - first_number < n_position:
        return 1, first_number
    if n_position is not None and first_number >= 1 and max(position_numbers) <= n_position:
        return 1, 1
    return common_step, first_number


def _grid_source(grid: Grid) -> str:
    return "the given shape" if grid.source is None else str(grid.source)


def _find_grid(folder: Path, top_folder: Path) -> Grid | None:
    for searched_folder in dict.fromkeys((folder, top_folder, folder.parent)):
        for grid_file in _grid_candidates(searched_folder):
            grid = _parse_grid(grid_file)
            if grid is not None:
                return grid
    return None


def _grid_candidates(folder: Path) -> list[Path]:
    text_files = [
        text_file
        for text_file in try_read(lambda: list(folder.iterdir()), str(folder))
        if text_file.suffix.lower() == ".txt"
    ]
    files = (text_file for text_file in text_files if text_file.is_file() and not is_outside(text_file, folder))
    small_files = [text_file for text_file in files if text_file.stat().st_size <= _MAX_GRID_FILE_BYTES]
    return sorted(small_files, key=lambda text_file: (text_file.name != GRID_FILE, text_file.name))


def _parse_grid(path: Path) -> Grid | None:
    """Return the grid that a grid file states, or None if the file does not state rows and columns."""
    values_by_word: dict[str, str] = {}
    for text_line in try_read(path.read_bytes, str(path)).decode("latin-1").splitlines():
        line_words = text_line.replace("=", " ").replace(":", " ").split()
        if len(line_words) >= 2:
            values_by_word[line_words[0].lower()] = line_words[1].replace(",", ".")
    rows = next((values_by_word[key_word] for key_word in _ROW_WORDS if key_word in values_by_word), None)
    columns = next((values_by_word[key_word] for key_word in _COLUMN_WORDS if key_word in values_by_word), None)
    if rows is None or columns is None:
        return None
    return Grid(
        _positive_integer(rows, path),
        _positive_integer(columns, path),
        parse_seconds(values_by_word.get("dwell-time")),
        path,
    )


def _positive_integer(number_text: str, path: Path) -> int:
    try:
        parsed_number = float(number_text)
    except ValueError:
        parsed_number = 0.0
    if not (parsed_number >= 1 and parsed_number.is_integer()):
        raise ScanError(
            f"Cannot use the grid file {path}: {number_text!r} is not a number of rows or columns (1, 2, 3 ...)."
        )
    return int(parsed_number)


def _check_grid(grid: Grid, pixel_numbers: list[int], first_number: int, folder: Path, *, is_shape_given: bool) -> None:
    """Refuse a grid that the numbers of the files contradict.

    Up to half of the grid's files may be missing.
    """
    n_pixel = grid.n_row * grid.n_column
    n_missing = n_pixel - len(pixel_numbers)
    is_scan_cut_short = not is_shape_given and pixel_numbers[-1] < n_pixel - 1
    if (
        grid.n_row < 1
        or grid.n_column < 1
        or pixel_numbers[0] < 1
        or pixel_numbers[-1] > n_pixel
        or is_scan_cut_short
        or 2 * n_missing > n_pixel
    ):
        raise ScanError(
            f"Cannot read {folder} as a scan: {_grid_source(grid)} says {grid.n_row} rows x {grid.n_column} "
            f"columns = {n_pixel} pixels, but there are {len(pixel_numbers)} spectra, numbered "
            f"{pixel_numbers[0] + first_number - 1} to "
            f"{pixel_numbers[-1] + first_number - 1}. Correct the grid file, or give the shape (`--shape "
            "ROWSxCOLUMNS`; "
            "Python: "
            "`load(path, shape=(rows, columns))`); a scan that stopped early is read with its planned shape if half of "
            "its pixels are there."
        )


def _presence_mask(names_by_number: Mapping[int, str], grid: Grid) -> NDArray[np.bool_]:
    is_present = np.zeros(grid.n_row * grid.n_column, dtype=bool)
    is_present[np.fromiter(names_by_number, dtype=np.int64) - 1] = True
    return is_present.reshape(grid.n_row, grid.n_column)


def _pixel_times(
    folder: Path, names_by_number: Mapping[int, str], grid: Grid, calibration: bytes
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None, list[str]]:
    """Return the live times and real times of the pixels in s, and notes. Times that are unknown or 0 are NaN."""
    live_time, real_time = np.full(grid.n_row * grid.n_column, np.nan), np.full(grid.n_row * grid.n_column, np.nan)
    n_other_calibration = 0
    for pixel, file_name in names_by_number.items():
        head = try_read(partial(_read_head, folder / file_name), str(folder / file_name))
        live_time[pixel - 1] = _time_of(head, b"\nLIVE_TIME - ")
        real_time[pixel - 1] = _time_of(head, b"\nREAL_TIME - ")
        n_other_calibration += _calibration_section(head) != calibration
    notes = []
    if np.isnan(live_time).all():
        notes.append("live time is unknown (0 in the files)")
    if n_other_calibration:
        notes.append(
            f"{n_other_calibration} spectra have another calibration than the first spectrum, whose calibration is "
            "used for all"
        )
    shape = (grid.n_row, grid.n_column)
    return _times_or_none(live_time, shape), _times_or_none(real_time, shape), notes


def _times_or_none(time_s: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64] | None:
    return None if np.isnan(time_s).all() else time_s.reshape(shape)


def _read_head(path: Path) -> bytes:
    with path.open("rb", buffering=0) as stream:
        return stream.read(_HEAD_BYTES)


def _time_of(head: bytes, time_label: bytes) -> float:
    label_start = head.find(time_label)
    if label_start < 0:
        return float("nan")
    time_s = parse_seconds(
        head[label_start + len(time_label) : head.find(b"\n", label_start + len(time_label))].decode("latin-1")
    )
    return float("nan") if time_s is None else time_s


def _data_section(file_content: bytes, location: Path | str) -> bytes:
    data_start, data_stop = file_content.find(_DATA_TAG), file_content.rfind(_END_TAG)
    if not _is_mca(file_content[:64]) or data_start < 0:
        raise ScanError(
            f"Cannot read {location}: it is not an .mca spectrum (no {MAGIC.decode()} or no <<DATA>> in it)."
        )
    if data_stop < data_start:
        raise ScanError(
            f"Cannot read {location}: the file is cut off (no <<END>> after its data). Copy the file from the "
            "instrument "
            "again."
        )
    return file_content[data_start + len(_DATA_TAG) : data_stop]


def _parse_counts(data_section: bytes, location: Path | str) -> NDArray[np.int64]:
    """Return the counts in a data section, or raise ScanError if it contains anything but integers."""
    if data_section.translate(None, b"0123456789 \t\r\n"):
        _raise_invalid_counts(data_section, location)
    if not data_section.strip():
        raise ScanError(f"Cannot read {location}: its data section is empty. Copy the file from the instrument again.")
    counts = np.fromstring(data_section, dtype=np.int64, sep=" ")
    if counts.max() > _MAX_COUNT:  # NumPy reads numbers above the type's maximum as this maximum
        channel = int(counts.argmax())
        raise ScanError(
            f"Cannot read {location}: channel {channel} holds {data_section.split()[channel].decode()[:30]} "
            "counts, more "
            f"than possible ({_MAX_COUNT}). The file is damaged; copy the file again."
        )
    return counts


def _raise_invalid_counts(data_section: bytes, location: Path | str) -> None:
    for channel, number_text in enumerate(data_section.split()):
        if not number_text.isdigit():
            raise ScanError(
                f"Cannot read {location}: channel {channel} holds {number_text.decode('latin-1')!r}; "
                "counts must be non-negative integers."
            )


def _header_fields(file_content: bytes) -> dict[str, str]:
    head = file_content[: max(file_content.find(_DATA_TAG), 0)].decode("latin-1").encode("utf-8")
    return {
        field_name.decode(): field_value.decode().strip() for field_name, field_value in _FIELD_PATTERN.findall(head)
    }


def _calibration_section(file_content: bytes) -> bytes:
    section_start = file_content.find(_CALIBRATION_TAG)
    if section_start < 0:
        return b""
    return file_content[
        section_start + len(_CALIBRATION_TAG) : file_content.find(b"<<", section_start + len(_CALIBRATION_TAG))
    ]


def _axis(file_content: bytes, n_channel: int) -> Axis:
    """Fit a straight line to the calibration points (channel, energy), and return it as an energy axis."""
    calibration_points = []
    for text_line in _calibration_section(file_content).decode("latin-1").replace(",", ".").splitlines():
        calibration_point = [parse_number(number_text) for number_text in text_line.split()]
        if len(calibration_point) == 2 and None not in calibration_point:
            calibration_points.append(calibration_point)
    channel, energy = np.array(calibration_points, dtype=np.float64).reshape(-1, 2).T
    if np.unique(channel).size < 2:
        return None, (NO_CALIBRATION,)
    gain, zero = (float(coefficient) for coefficient in np.polyfit(channel, energy, 1))
    deviation_channels = float(np.abs(energy - zero - gain * channel).max() / abs(gain)) if gain else 0.0
    if deviation_channels > _MAX_DEVIATION_CHANNELS:
        note = (
            f"energy calibration ignored: its points deviate by up to {deviation_channels:.1f} channels from a line, "
            f"at most {_MAX_DEVIATION_CHANNELS:g} are allowed; find the axis with `underpaint calibrate`"
        )
        return None, (note,)
    return axis_of_coefficients((zero, gain), n_channel, energy_unit(_header_fields(file_content).get("LABEL", "")))
