"""The paints of a painting, on maps whose areas are known."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from underpaint import io
from underpaint.data import EnergyAxis, Scan
from underpaint.data.maps import NO_ANSWER, NOT_DETECTED, PRESENT, SURFACE_UM, TRACE, Results
from underpaint.data.paint_areas import MIXED
from underpaint.errors import ScanError
from underpaint.io.results.result_maps import ResultMaps
from underpaint.pigments.paints import find_paints, split_by_depth, with_summed_spectra
from underpaint.pigments.paints.areas import _merged_interleaved, stabilised_areas
from underpaint.pipeline.paints import candidate_groups_of, paints_of_folder, replace_paints, with_paints

SHAPE = (40, 50)
LINES = ("Fe_K", "Hg_L", "Pb_L")
COUNTS = np.asarray([[20.0, 900.0, 5000.0], [700.0, 20.0, 5000.0], [20.0, 20.0, 3000.0]])
"""Of a red, a brown and a white."""


def truth() -> "np.ndarray[tuple[int, int], np.dtype[np.int64]]":
    area = np.full(SHAPE, 2)
    area[:, :30] = 0
    area[10:30, 20:40] = 1
    return area


@pytest.fixture(scope="module")
def results() -> Results:
    """Maps of three paints, each of a thickness that slowly varies by 20 %, with counting noise on a background."""
    rng = np.random.default_rng(3)
    area = truth()
    thickness = 1.0 + 0.2 * np.sin(np.linspace(0.0, 4.0, SHAPE[1]))[None, :, None]
    background = 200.0
    counts = rng.poisson(COUNTS[area] * thickness + background) - background
    sigma = np.sqrt(np.maximum(counts + background, 1.0))
    counts[0, 0] = np.nan
    elements = Results.of_lines(LINES, counts.astype(np.float32), sigma.astype(np.float32), step_mm=(0.5, 2.0))
    state = np.stack([np.where(area == 0, PRESENT, NOT_DETECTED), np.where(area == 1, TRACE, NOT_DETECTED)], axis=2)
    state[0, 0] = NO_ANSWER
    return elements | Results.of_states(("mercury_red", "iron_pigment"), ("mercury", "iron"), state.astype(np.uint8))


@pytest.fixture(scope="module")
def painted(results: Results) -> Results:
    return results | find_paints(results)


def test_areas_of_one_paint_get_one_number(painted: Results) -> None:
    label, area = painted.map("paint"), truth()
    assert label[0, 0] == NO_ANSWER
    assert len(painted.paints) == 3
    order = np.argsort(-np.bincount(area.ravel()))
    known = (label != NO_ANSWER) & (label != MIXED)
    assert known.mean() > 0.98
    assert (order[label[known].astype(int) - 1] == area[known]).mean() > 0.995


def test_paints_carry_area_and_groups(painted: Results) -> None:
    label = painted.map("paint")
    for paint in painted.paints:
        assert paint.n_pixel == int((label == paint.number).sum())
        assert paint.area_mm2 == pytest.approx(paint.n_pixel * 0.5 * 2.0)
    red, brown = (int(label[20, column]) for column in (5, 35))
    assert painted.paints[red - 1].groups == {"mercury_red": PRESENT}
    assert painted.paints[brown - 1].groups == {"iron_pigment": TRACE}
    assert painted.paints[brown - 1].lines["Fe_K"] == pytest.approx(700.0, rel=0.25)


def test_labelled_map(painted: Results) -> None:
    assert painted.paint.dims == ("row", "column")
    assert "paint" in painted.to_dataset()


@pytest.mark.parametrize("level", [300.0, 4e4])
def test_noise_on_the_scale_is_one(level: float) -> None:
    rng = np.random.default_rng(0)
    # what varies at a paint's usual rate counts as noise, too; other pixels show how the noise grows
    expected = np.concatenate([level * (1.0 + 0.03 * rng.normal(size=5000)), rng.uniform(10.0, 2.0 * level, 5000)])
    counts = rng.poisson(expected + 50.0)[None, :]
    area, sigma = (counts - 50.0).astype(np.float32), np.sqrt(counts).astype(np.float32)
    values = stabilised_areas(area, sigma, np.ones(area.shape, bool))
    assert values[:, :5000].std() == pytest.approx(1.0, rel=0.1)


def test_thin_edges_are_mixed() -> None:
    rng = np.random.default_rng(1)
    level = np.full((30, 40, 2), 100.0)
    level[:, 20:, 0] = 4000.0
    level[:, 20, 0] = 1500.0  # half a pixel of each
    counts = rng.poisson(level).astype(np.float32)
    painted = find_paints(Results.of_lines(("Fe_K", "Pb_L"), counts, np.sqrt(np.maximum(counts, 1.0))))
    label = painted.map("paint")
    assert len(painted.paints) == 2
    assert len(np.unique(label[:, :20])) == len(np.unique(label[:, 21:])) == 1


def test_components_of_one_paint_that_are_interleaved_are_one_paint() -> None:
    rng = np.random.default_rng(5)
    label = np.zeros((30, 30), np.int64)
    label[:, 10:20] = rng.integers(1, 3, (30, 10))  # noise of one paint, described by two components
    label[:, 20:] = 3
    label[5:25, 25] = 4  # a line on paint 3
    label[0, 0] = -1
    label[10:20, 2:6] = np.repeat([[5, 5, 6, 6]], 10, axis=0)  # stripes of two pixels
    merged = _merged_interleaved(label, 7)
    assert merged[1] == merged[2]
    assert len(set(merged.tolist())) == 6


def test_a_bare_scan_is_one_paint() -> None:
    counts = np.random.default_rng(2).poisson(400.0, (20, 20, 1)).astype(np.float32)
    painted = find_paints(Results.of_lines(("Pb_L",), counts, np.sqrt(counts)))
    assert len(painted.paints) == 1
    assert painted.paints[0].share > 0.98


def test_without_lines_there_is_an_error_and_a_note() -> None:
    counts = np.zeros((5, 5, 1), np.float32)
    empty = Results.of_lines(("Fe_K",), counts, counts + 1.0)
    with pytest.raises(ScanError, match=r"no line exceeds 5 .* of the 25 pixels.*Scan longer"):
        find_paints(empty)
    assert not with_paints(empty).paints
    assert "no line exceeds" in with_paints(empty).process_notes["paints"][0]
    with pytest.raises(ScanError, match="contain no elements"):
        find_paints(Results())


def test_spectra_are_summed_by_paint(painted: Results) -> None:
    rng = np.random.default_rng(4)
    counts = rng.poisson(3.0, (*SHAPE, 16)).astype(np.uint16)
    areas = with_summed_spectra(Scan(counts, axis=EnergyAxis(0.1, 0.0, 16)), painted.map("paint"), painted.paints)
    for area in areas:
        assert area.spectrum is not None
        np.testing.assert_array_equal(area.spectrum, counts[painted.map("paint") == area.number].sum(axis=0))
    with pytest.raises(ScanError, match=r"40 rows x 49 columns.*40 x 50"):
        with_summed_spectra(Scan(counts[:, 1:], axis=EnergyAxis(0.1, 0.0, 16)), painted.map("paint"), painted.paints)


def test_paints_are_written_and_replaced(tmp_path: Path, results: Results, painted: Results) -> None:
    spectra = tuple(replace(area, spectrum=np.arange(4.0), explanation={"words": ["One."]}) for area in painted.paints)
    io.write_results(tmp_path, results)
    before = io.read_results(tmp_path, lazily=False)
    for written in (painted, replace(painted, paints=spectra)):
        replace_paints(tmp_path, written)
        again = io.read_results(tmp_path, lazily=False)
        np.testing.assert_array_equal(again.map("paint"), painted.map("paint"))
        np.testing.assert_array_equal(again.area, before.area)
        assert [area.record() for area in again.paints] == [area.record() for area in written.paints]
    assert again.paints[0].stratigraphy == ("One.",)
    np.testing.assert_array_equal(again.paints[0].spectrum, np.arange(4.0))
    assert (tmp_path / "paints.csv").read_text("utf-8").count("\n") == 1 + len(painted.paints)
    assert again.summary["written"] == before.summary["written"]
    with closing(ResultMaps(tmp_path)) as maps:
        (index,) = [index for index, entry in enumerate(maps.entries) if entry.process == "paints"]
        shown = np.where(painted.map("paint") == NO_ANSWER, np.nan, painted.map("paint").astype(float))
        np.testing.assert_array_equal(maps.values(index), shown)  # number 3 is a paint, and no state of old


def explained(results: Results, number: int, **shares: tuple[float, float] | None) -> Results:
    """Return results with a posterior of one paint: ends of the shares from the surface, or None: not determined."""
    record = {
        family: {"determined": False, "low": None, "median": None, "high": None}
        if ends is None
        else {"determined": True, "low": ends[0], "median": float(np.mean(ends)), "high": ends[1]}
        for family, ends in shares.items()
    }
    areas = [
        replace(area, explanation={"words": [], "from_surface": record}) if area.number == number else area
        for area in results.paints
    ]
    return replace(results, paints=tuple(areas))


def test_lines_are_split_by_the_posterior_of_their_paint(painted: Results) -> None:
    assert not split_by_depth(painted).stacks
    depth = split_by_depth(explained(painted, 1, Pb_L=(0.2, 0.4), Hg_L=None))
    mask = painted.map("paint") == 1
    area, sigma = painted["Pb_L"][mask], painted.map("area_sigma", "Pb_L")[mask]
    surface, below = (depth.map("depth", "Pb_L", place) for place in ("surface", "below"))
    np.testing.assert_allclose(surface[mask], 0.3 * area, rtol=1e-5)
    np.testing.assert_allclose((surface + below)[mask], area, rtol=1e-5)
    expected = np.hypot(0.3 * sigma, 0.2 / 3.29 * area)
    np.testing.assert_allclose(depth.map("depth_sigma", "Pb_L", "surface")[mask], expected, rtol=1e-4)
    assert np.isnan(surface[~mask]).all()
    assert depth.depth.dims == ("line", "place", "row", "column")
    assert depth.depth.line.values.tolist() == ["Pb_L"]


def test_lines_by_depth_are_written_and_go_with_their_posterior(
    tmp_path: Path, results: Results, painted: Results
) -> None:
    io.write_results(tmp_path, results)
    known = explained(painted, 1, Pb_L=(0.2, 0.4))
    replace_paints(tmp_path, known | split_by_depth(known))
    again = io.read_results(tmp_path)
    expected = split_by_depth(known)
    np.testing.assert_array_equal(again.depth, expected.depth)
    np.testing.assert_array_equal(again.depth_sigma, expected.depth_sigma)
    assert "depth" in again.to_dataset()
    assert {path.name for path in (tmp_path / "depth").iterdir()} == {"Pb_L.surface.tif", "Pb_L.below.tif"}
    replace_paints(tmp_path, painted)
    assert "depth" not in io.read_results(tmp_path).stacks
    assert not list((tmp_path / "depth").iterdir())


def test_thickness_is_that_of_the_paint_where_the_pixel_does_not_determine_it(painted: Results) -> None:
    value = np.full((*SHAPE, 1), 20.0, np.float32)
    sigma = np.full((*SHAPE, 1), 2.0, np.float32)  # a factor of 700 between the ends
    sigma[:, :5] = 0.1
    network = Results.of_pigments(
        ["mercury_red"], np.ones((*SHAPE, 1), np.float32), kinds=["group"], groups=[("mercury_red",)],
        labels=["mercury"], elements=[("Hg_L",)], quantities=([SURFACE_UM], value, sigma),
    )  # fmt: skip
    layers = {"layers": [{"thickness_um": {"low": 30.0, "median": 40.0, "high": 60.0}}]}
    areas = tuple(replace(area, explanation=layers) if area.number == 1 else area for area in painted.paints)
    results = replace(painted | network, paints=areas)
    replaced = results.thickness_of_paint
    first = painted.map("paint") == 1
    assert replaced.any()
    np.testing.assert_array_equal(replaced, first & (sigma[..., 0] > 1.0))
    thickness = results.thickness.transpose("row", "column", "quantile").values
    np.testing.assert_allclose(thickness[replaced], [[30.0, 40.0, 60.0]] * int(replaced.sum()))
    np.testing.assert_allclose(thickness[~replaced][:, 1], 20.0)
    assert not (painted | network).thickness_of_paint.any()


def test_folder_without_its_scan_gets_areas_alone(tmp_path: Path, results: Results) -> None:
    io.write_results(tmp_path, results)
    painted = paints_of_folder(tmp_path)
    assert len(painted.paints) == 3
    assert painted.paints[0].spectrum is None
    assert "spectra of the paints were not summed" in painted.process_notes["paints"][0]
    with pytest.raises(ScanError, match="paints 1 to 3"):
        paints_of_folder(tmp_path, explained=(7,))
    with pytest.raises(ScanError, match="scan"):
        paints_of_folder(tmp_path, explained=(1,))


def test_groups_to_look_for_are_those_of_the_paint(painted: Results) -> None:
    names = ("mercury_red", "iron_pigment", "zinc_pigment")
    chance = np.zeros((*SHAPE, 3), np.float32)
    chance[..., 0], chance[..., 1], chance[..., 2] = 0.7, 0.02, 0.4
    network = Results.of_pigments(
        names, chance, kinds=("group",) * 3, groups=[(name,) for name in names], labels=names, elements=[()] * 3
    )
    paint = next(paint for paint in painted.paints if "mercury_red" in paint.groups)
    groups = candidate_groups_of(paint, painted | network, "chalk")
    assert dict(zip(groups.groups, groups.absent, strict=True)) == {
        "mercury_red": 0.0,  # present by its state
        "zinc_pigment": pytest.approx(0.6),
    }
