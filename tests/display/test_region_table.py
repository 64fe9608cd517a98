"""The table of regions: means, shares and their errors, the difference of two regions, and its CSV."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from viewer_fakes import SHAPE, results

from underpaint.display.viewer.region_table import Cell, Row, difference, region_table, table_rows
from underpaint.io.results.result_maps import ResultMaps


@pytest.fixture
def maps(tmp_path: Path) -> Iterator[ResultMaps]:
    opened = ResultMaps(results(tmp_path))
    yield opened
    opened.close()


def mask(rows: slice, columns: slice) -> np.ndarray:
    inside = np.zeros(SHAPE, dtype=np.bool_)
    inside[rows, columns] = True
    return inside


def row_of(maps: ResultMaps, rows: list[Row], name: str) -> list[Cell]:
    entries = [maps.entries[row.map] for row in rows]
    return next(row.cells for row, entry in zip(rows, entries, strict=True) if entry.name == name)


def test_elements_have_their_mean_and_its_standard_error(maps: ResultMaps) -> None:
    rows = region_table(maps, [mask(slice(0, 4), slice(0, 5)), mask(slice(0, 11), slice(0, 1))])
    mercury, lead = row_of(maps, rows, "Hg_L"), row_of(maps, rows, "Pb_L")
    assert (mercury[0].value, mercury[0].n) == (400.0, 20)
    assert mercury[0].error == pytest.approx(10 / math.sqrt(20))  # even: counting alone
    by_row = 1000 - 50.0 * np.arange(11)
    assert lead[1].value == pytest.approx(by_row.mean())
    assert lead[1].error == pytest.approx(by_row.std(ddof=1) / math.sqrt(11))  # the paint varies more than the noise


def test_groups_have_the_share_of_their_pixels_with_an_error_even_where_it_is_all(maps: ResultMaps) -> None:
    left, right = mask(slice(0, 11), slice(0, 10)), mask(slice(0, 11), slice(10, 20))
    none = mask(slice(11, 12), slice(0, 20))
    cells = row_of(maps, region_table(maps, [left, right, none]), "mercury_red")
    assert [cell.value for cell in cells[:2]] == [1.0, 0.0]
    assert all(0 < cell.error < 0.02 for cell in cells[:2])
    assert cells[2].n == 0
    assert math.isnan(cells[2].value)
    change, sigma = difference(cells[0], cells[1])
    assert change == 1.0
    assert sigma == pytest.approx(1.0 / math.hypot(cells[0].error, cells[1].error))


def test_the_csv_of_two_regions_holds_their_difference(maps: ResultMaps) -> None:
    rows = region_table(maps, [mask(slice(0, 4), slice(0, 4)), mask(slice(0, 4), slice(12, 16))])
    head, *lines = table_rows(maps, ["a", "b"], rows)
    mercury = dict(zip(head, next(line for line in lines if line[1] == "Hg_L"), strict=True))
    assert mercury["a: value"] == "400"
    assert mercury["b: value"] == "5"
    assert mercury["difference"] == "395"
    assert float(mercury["difference_in_standard_errors"]) == pytest.approx(395 / math.hypot(10 / 4, 10 / 4), rel=1e-4)
    assert {line[0] for line in lines} >= {"element", "group", "member"}
    assert "state" not in {line[0] for line in lines}
    assert "difference" not in table_rows(maps, ["a"], rows)[0]


def test_two_noisy_regions_of_one_paint_do_not_differ() -> None:
    rng = np.random.default_rng(4)
    sigmas = []
    for _ in range(200):
        cells = [Cell(float(rng.normal(100, 2.0)), 2.0, 25) for _ in range(2)]
        sigmas.append(difference(*cells)[1])
    assert np.std(sigmas) == pytest.approx(1.0, abs=0.15)
