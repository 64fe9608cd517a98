"""Folders of .mca files: the pixel by the numbers in the files' names."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mca_files import mca_text
from numpy.typing import NDArray

from underpaint import io
from underpaint.errors import ScanError
from underpaint.io.readers.mca import group_into_series

Namer = Callable[[int, int], str]
N_ROW, N_COLUMN = 3, 4
COUNTS = np.random.default_rng(7).integers(0, 50, (N_ROW, N_COLUMN, 8))

IN_GRID: dict[str, Namer] = {
    "r_c": lambda row, column: f"r{row:03d}_c{column:03d}",
    "x_y": lambda row, column: f"x{column:02d}_y{row:02d}",
    "YX": lambda row, column: f"Y{row:03d}X{column:03d}",
    "XY": lambda row, column: f"X{column}Y{row}",
    "row col": lambda row, column: f"row{row + 1}_col{column + 1}",
    "line column": lambda row, column: f"scan3 Line_{row}-Column_{column}",
    "pair": lambda row, column: f"scan_{row + 1:04d}_{column + 1:04d}",
    "pair alone": lambda row, column: f"{row}-{column}",
    "positions": lambda row, column: f"x{50 * column}_y{20 * row}",
    "numbered too": lambda row, column: f"p_{row * N_COLUMN + column:04d}_r{row}_c{column}",
    "stamped": lambda row, column: f"20241007_110{row}0{column}_r{row}_c{column}",
}
RUNNING: dict[str, Namer] = {
    "from 0": lambda row, column: f"scan_{row * N_COLUMN + column}",
    "from 1": lambda row, column: f"None_{row * N_COLUMN + column + 1}",
    "from 100": lambda row, column: f"p{row * N_COLUMN + column + 100:05d}",
    "number alone": lambda row, column: f"{row * N_COLUMN + column:03d}",
    "session": lambda row, column: f"scan_2_{row * N_COLUMN + column}",
    "stamp": lambda row, column: f"2024-10-07_11-0{row}-0{column}_{row * N_COLUMN + column + 1}",
    "stamp 2": lambda row, column: f"20241007_110{row}0{column}_25kV_{row * N_COLUMN + column + 1}",
    "stamp and running pairs": lambda row, column: f"07_{row}_{row * N_COLUMN + column}",
}


def write(folder: Path, namer: Namer, counts: NDArray[np.int64] = COUNTS, grid: tuple[int, int] | None = None) -> Path:
    folder.mkdir()
    for row, column in np.ndindex(counts.shape[:2]):
        (folder / f"{namer(row, column)}.mca").write_text(mca_text(counts[row, column]), "latin-1")
    if grid is not None:
        (folder / "colonneXrighe.txt").write_text(f"righe {grid[0]}\ncolonne {grid[1]}\n")
    return folder


@pytest.mark.parametrize("kind", IN_GRID)
@pytest.mark.parametrize("grid", [None, (N_ROW, N_COLUMN)])
def test_row_and_column_in_the_name(tmp_path: Path, kind: str, grid: tuple[int, int] | None) -> None:
    scan = io.load(write(tmp_path / "a", IN_GRID[kind], grid=grid))
    np.testing.assert_array_equal(scan.counts.compute(), COUNTS)
    assert any("read as the row" in note for note in scan.notes) == kind.startswith("pair")
    assert scan.present is None


@pytest.mark.parametrize("kind", RUNNING)
@pytest.mark.parametrize("by_file", [True, False])
def test_one_running_number(tmp_path: Path, kind: str, by_file: bool) -> None:
    folder = write(tmp_path / "a", RUNNING[kind], grid=(N_ROW, N_COLUMN) if by_file else None)
    scan = io.load(folder, shape=None if by_file else (N_ROW, N_COLUMN))
    np.testing.assert_array_equal(scan.counts.compute(), COUNTS)


def test_columns_first_where_the_grid_file_asks(tmp_path: Path) -> None:
    scan = io.load(write(tmp_path / "a", lambda row, column: f"scan_{column}_{row}", grid=(N_ROW, N_COLUMN)))
    np.testing.assert_array_equal(scan.counts.compute(), COUNTS)
    assert any("the second number in the files' names is read as the row" in note for note in scan.notes)


@pytest.mark.parametrize("kind", ["r_c", "pair", "from 0"])
def test_gaps_are_missing_pixels(tmp_path: Path, kind: str) -> None:
    namer = (IN_GRID | RUNNING)[kind]
    folder = write(tmp_path / "a", namer, grid=(N_ROW, N_COLUMN) if kind == "from 0" else None)
    (folder / f"{namer(1, 2)}.mca").unlink()
    present = io.load(folder).present
    assert present is not None
    assert np.argwhere(~present).tolist() == [[1, 2]]


def advice(folder: Path) -> str:
    with pytest.raises(ScanError) as caught:
        io.load(folder)
    return str(caught.value)


def test_a_grid_file_that_the_names_contradict(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", IN_GRID["r_c"], grid=(2, 6))
    message = advice(folder)
    assert "rows 0 to 2 and columns 0 to 3 in the names of 12 spectra" in message
    assert "give the shape that the names count" in message
    np.testing.assert_array_equal(io.load(folder, shape=(N_ROW, N_COLUMN)).counts.compute(), COUNTS)


def test_names_of_date_and_time_alone_are_no_grid(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", lambda row, column: f"2024-10-07_11-0{row}-0{column}", grid=(N_ROW, N_COLUMN))
    assert "dates and times are not pixel numbers" in advice(folder)
    for place, path in enumerate(sorted(folder.glob("*.mca"))):
        path.rename(folder / f"p_{place}.mca")  # what it says
    np.testing.assert_array_equal(io.load(folder).counts.compute(), COUNTS)


def test_detectors_in_the_names_are_several_series(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", IN_GRID["r_c"])
    for path in sorted(folder.glob("*.mca")):
        (folder / f"{path.stem}_det2.mca").write_bytes(path.read_bytes())
    assert "several series of names" in advice(folder)


def test_several_series_in_a_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", lambda row, column: f"map{row // 2}_{4 * (row % 2) + column}", grid=(2, 4))
    assert "Move each series to a separate folder" in advice(folder)
    (folder / "one").mkdir()
    for path in folder.glob("map0_*.mca"):
        path.rename(folder / "one" / path.name)
    np.testing.assert_array_equal(io.load(folder / "one").counts.compute(), COUNTS[:2])


def test_numbers_without_a_grid_ask_for_one(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", RUNNING["from 0"])
    assert "no grid file" in advice(folder)
    np.testing.assert_array_equal(io.load(folder, shape=(N_ROW, N_COLUMN)).counts.compute(), COUNTS)
    (folder / "colonneXrighe.txt").write_text("righe 3\ncolonne 4\n")
    np.testing.assert_array_equal(io.load(folder).counts.compute(), COUNTS)


def test_positions_that_are_no_grid(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", lambda row, column: f"x{column * 17 + row}_y{row * 13 + column}")
    assert "leave more than half of the pixels out" in advice(folder)


@settings(max_examples=100)
@given(
    shape=st.tuples(st.integers(2, 12), st.integers(2, 12)),
    first=st.integers(0, 1),
    digits=st.integers(1, 4),
    words=st.sampled_from([("r", "c"), ("row", "col"), ("y", "x"), ("ROW", "COL"), ("line", "column")]),
    turned=st.booleans(),
    between=st.sampled_from(["", "_", "-", "__"]),
    before=st.sampled_from(["", "scan_", "map12_", "2024-10-07_"]),
)
def test_named_rows_and_columns_are_found_in_any_order(
    shape: tuple[int, int], first: int, digits: int, words: tuple[str, str], turned: bool, between: str, before: str
) -> None:
    names = {}
    for row, column in np.ndindex(shape):
        parts = [f"{word}{number + first:0{digits}d}" for word, number in zip(words, (row, column), strict=True)]
        names[f"{before}{between.join(reversed(parts) if turned else parts)}.mca"] = (row + first, column + first)
    by_name, odd = group_into_series(names)
    (series,) = by_name.values()
    assert not odd
    assert series.has_pairs
    assert {name: place for place, name in series.names_by_pixel.items()} == names


def test_spots_are_no_pixels() -> None:
    by_name, odd = group_into_series(["None_1.mca", "None_2.mca", "SPOT_1.mca", "dark.mca"])
    assert list(by_name) == ["None"]
    assert odd == ["SPOT_1.mca", "dark.mca"]
    assert re.match("None", by_name["None"].names_by_pixel[0, 1])


@pytest.mark.parametrize(
    "name",
    [
        lambda row, column: f"pt_x{column * 0.5:.1f}_y{row * 0.5:.1f}.mca",
        lambda row, column: f"x{column * 0.5:.1f}_y{row * 0.25:.2f}.mca".replace(".", ",", 2),
        lambda row, column: f"X{column - 4}_Y{row - 3}.mca",
        lambda row, column: f"x{-2.5 + 0.5 * column:.1f} y{10 * row}.mca",
        lambda row, column: f"Zeile{row}_Spalte{column}.mca",
        lambda row, column: f"ligne{row}_colonne{column}.mca",
        lambda row, column: f"line_{row}_pixel_{column}.mca",
        lambda row, column: f"row-{row}-col-{column}.mca",
        lambda row, column: f"s_{10 * (8 * row + column)}.mca",
    ],
)
def test_positions_words_and_steps(tmp_path: Path, name: Callable[[int, int], str]) -> None:
    counts = np.random.default_rng(0).integers(0, 50, (6, 8, 16))
    for row, column in np.ndindex(6, 8):
        (tmp_path / name(row, column)).write_text(mca_text(counts[row, column]), "latin-1")
    np.testing.assert_array_equal(io.load(tmp_path, shape=(6, 8)).counts.compute(), counts)
