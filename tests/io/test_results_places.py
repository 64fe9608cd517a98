"""Places, thickness and shares on disk: what is kept, and that it is read as it was."""

import csv
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from place_fakes import SHAPE, SIGMA, THIN_UM, placed_maps
from underpaint import io
from underpaint.data import EnergyAxis, Scan
from underpaint.data.maps import SURFACE_UM


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    summary = io.summarise_scan(Scan(np.ones((*SHAPE, 8)), EnergyAxis(0.5, 0.1, 8)))
    io.write_results(tmp_path, replace(placed_maps(), summary=summary))
    return tmp_path


def test_groups_are_kept_at_each_place_and_members_where_they_are_somewhere(folder: Path) -> None:
    maps, before = io.read_results(folder, lazily=False), placed_maps()
    left_out = {*before.stacks["probability"].keys} - {*maps.stacks["probability"].keys}
    assert left_out == {("vermilion", "below"), ("azurite", "surface"), ("azurite", "below")}
    np.testing.assert_array_equal(maps.probability, before.probability)
    np.testing.assert_array_equal(maps["lead_white", "below"], before["lead_white", "below"])
    with pytest.raises(KeyError, match="There is no map of azurite at place 'surface'"):
        maps["azurite", "surface"]


def test_quantities_are_read_as_they_were(folder: Path) -> None:
    maps, before = io.read_results(folder, lazily=False), placed_maps()
    for quantity in ("quantity", "quantity_sigma"):
        assert maps.stacks[quantity].keys == before.stacks[quantity].keys
        np.testing.assert_allclose(maps.stacks[quantity].values, before.stacks[quantity].values, rtol=1e-5)
    for after, expected in zip(maps.estimate(SURFACE_UM), before.estimate(SURFACE_UM), strict=True):
        np.testing.assert_allclose(after, expected, rtol=1e-5)


def test_others_find_thickness_with_deviation_and_interval(folder: Path) -> None:
    with h5py.File(folder / "results.h5") as file:
        results = file["entry/pigments/results"]
        thickness = results["quantities/thickness_um.surface"]
        assert thickness.attrs["units"] == "um"
        assert thickness[0, 0] == pytest.approx(THIN_UM)
        assert results["deviations/thickness_um.surface"][0, 0] == pytest.approx(THIN_UM * SIGMA)
        ends = [results[f"intervals/thickness_um.surface.{end}_90"][0, 0] for end in ("low", "high")]
    assert ends == pytest.approx([THIN_UM * np.exp(-1.645 * SIGMA), THIN_UM * np.exp(1.645 * SIGMA)], rel=1e-3)
    assert tifffile.imread(folder / "quantities" / "thickness_um.surface.low_90.tif")[0, 0] == pytest.approx(ends[0])


def test_pictures_are_of_what_is_there(folder: Path) -> None:
    pigments = {path.stem for path in (folder / "pigments").glob("*.tif")}
    assert {"lead_pigment.below", "lead_pigment.surface", "vermilion.surface", "mercury_red"} <= pigments
    assert not [name for name in pigments if name.startswith(("copper", "azurite", "mercury_red.below"))]
    assert not list((folder / "quantities").glob("share.copper*"))


def test_the_summary_has_medians_of_thickness_and_shares(folder: Path) -> None:
    with (folder / "summary.csv").open(encoding="utf-8") as stream:
        rows = {row["name"]: row for row in csv.DictReader(stream)}
    thickness = [float(rows["thickness_um.surface"][f"median_{key}"]) for key in ("low", "value", "high")]
    assert THIN_UM * 0.5 < thickness[0] < thickness[1] < thickness[2]
    assert float(rows["share.mercury_red"]["median_value"]) == pytest.approx(0.5)
    assert float(rows["mercury_red.surface"]["share_above_half"]) == pytest.approx(0.5)
    assert "azurite" in rows
    assert not rows.keys() & {"azurite.surface", "share.copper_green_blue"}
