from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from underpaint.errors import SampleError
from underpaint.physics.instrument import Instrument, load_instrument
from underpaint.physics.materials import load_palette
from underpaint.pigments.limits import MODEL_COUNTS, ComparisonSettings, Separation, composite, separate
from underpaint.pigments.limits._paint_models import component_spectra, grid_paint_model
from underpaint.pigments.limits.comparison import channels_for, shown_elements
from underpaint.pigments.limits.composites import mixtures_for
from underpaint.pigments.limits.deviance import fit_paint_model

SMALL = ("lead_white", "red_lead", "iron_oxide_red", "prussian_blue", "vermilion", "indigo", "carbon_black")


@cache
def elio() -> Instrument:
    return load_instrument("elio")


@cache
def small() -> Separation:
    return separate(SMALL, elio(), composites=False)


def made_up(needed: list[list[float]]) -> Separation:
    return Separation(SMALL[: len(needed)], np.asarray(needed), (), "made up", ComparisonSettings())


def members(separation: Separation, counts: float) -> set[tuple[str, ...]]:
    return {group.pigments for group in separation.groups(counts)}


def test_lead_iron_and_blind_pigments_are_groups_at_the_counts_of_a_scan() -> None:
    expected = {SMALL[:2], SMALL[2:4], SMALL[4:5], SMALL[5:]}
    assert members(small(), 1e4) == expected
    assert members(small(), 1e5) == expected


def test_groups_name_the_elements_that_all_members_show() -> None:
    shown = {group.pigments[0]: group.elements for group in small().groups(1e5)}
    assert shown == {"lead_white": ("Pb",), "iron_oxide_red": ("Fe",), "vermilion": ("Hg",), "indigo": ()}


def test_elements_far_apart_part_at_once_and_look_alikes_never_in_a_scan() -> None:
    assert small().counts_needed("vermilion", "lead_white") < 100
    assert small().counts_needed("lead white", "minium") > MODEL_COUNTS


def test_a_pair_parts_at_the_same_counts_in_either_order() -> None:
    mutual = small().mutual_counts
    assert np.array_equal(mutual, mutual.T)
    assert np.all(np.isinf(np.diag(mutual)))
    assert small().counts_needed("red_lead", "vermilion") == small().counts_needed("vermilion", "red_lead")


def test_iron_oxide_holds_more_iron_than_prussian_blue_can() -> None:
    # one way: rich iron oxide cannot be Prussian blue, but Prussian blue can be dilute iron oxide
    rich, dilute = SMALL.index("iron_oxide_red"), SMALL.index("prussian_blue")
    assert small().exclusion_counts[rich, dilute] < 0.2 * small().exclusion_counts[dilute, rich]
    assert small().counts_needed("iron_oxide_red", "prussian_blue") == small().exclusion_counts[dilute, rich]


def test_a_pigment_is_indistinguishable_from_itself() -> None:
    assert np.diag(small().exclusion_counts).min() > 5 * MODEL_COUNTS


def test_the_same_material_under_two_names_never_parts() -> None:
    # its own interpolation error on both sides: the calculation says so instead of parting them
    twins = made_up([[1e8, 1.2e8], [0.9e8, 1e8]])
    assert twins.counts_needed("lead_white", "red_lead") == float("inf")
    for counts in (1.0, 1e6, 1e10, 1e15):
        assert members(twins, counts) == {("lead_white", "red_lead")}


def test_no_two_members_of_a_group_part() -> None:
    for counts in (10.0, 1e3, 1e5, 1e7):
        for group in small().groups(counts):
            pairs = [(first, second) for first in group.pigments for second in group.pigments if first != second]
            assert all(small().counts_needed(*pair) >= counts for pair in pairs)


@settings(max_examples=60)
@given(st.lists(st.floats(0.5, 9.0), min_size=42, max_size=42), st.floats(0.5, 8.0), st.floats(0.1, 3.0))
def test_groups_only_merge_as_counts_fall(decades: list[float], start: float, fall: float) -> None:
    needed = np.full((7, 7), 1e9)
    needed[~np.eye(7, dtype=bool)] = 10.0 ** np.asarray(decades)
    separation = made_up(needed.tolist())
    many, few = separation.groups(10.0 ** (start + fall)), separation.groups(10.0**start)
    assert len(few) <= len(many)
    for group in many:
        assert sum(set(group.pigments) <= set(group_of_few.pigments) for group_of_few in few) == 1


def test_neighbours_are_alike_to_some_members_only() -> None:
    # a resembles b, b resembles c, a and c part: b goes with the one it resembles more
    chain = made_up([[1e9, 1e6, 1e2], [1e6, 1e9, 1e5], [1e2, 1e5, 1e9]])
    groups = {group.pigments: group.neighbours for group in chain.groups(1e4)}
    assert groups == {("lead_white", "red_lead"): ("iron_oxide_red",), ("iron_oxide_red",): ("red_lead",)}


def test_members_of_a_group_stand_side_by_side_in_the_order() -> None:
    place = {small().pigments[index]: row for row, index in enumerate(small().similarity_order())}
    for group in small().groups(1e5):
        rows = sorted(place[name] for name in group.pigments)
        assert rows[-1] - rows[0] == len(rows) - 1


@pytest.mark.parametrize(
    ("thickness", "ratio", "ground", "tolerance"),
    # below thin paint the ground's soft lines fall by many decades over the grid, which costs a per cent of them
    [(35.0, 1.7, 90.0, 3e-3), (60.0, 6.0, 200.0, 3e-3), (5.0, 0.5, 60.0, 1.5e-2)],
)
def test_the_grid_reproduces_the_forward_model(thickness: float, ratio: float, ground: float, tolerance: float) -> None:
    settings, channels = ComparisonSettings(), channels_for(elio(), 2.8)
    grid = grid_paint_model("lead_white", elio(), channels, settings)
    place = np.log([thickness, ratio, ground])
    exact = component_spectra([settings.paint({"lead_white": 1.0}, place)], elio(), channels)[0].sum(axis=0)
    from_grid = np.exp(grid.log_spectra(place)[0]).sum(axis=0)
    strong = exact > 1e-3 * exact.max()
    assert np.max(np.abs(from_grid[strong] / exact[strong] - 1.0)) < tolerance


def test_the_slopes_of_the_grid_are_its_differences() -> None:
    channels = channels_for(elio(), 2.8)
    grid = grid_paint_model("vermilion", elio(), channels, ComparisonSettings())
    place = np.log([20.0, 2.0, 120.0])
    for axis, slope in enumerate(grid.log_spectra(place)[1]):
        move = 1e-5 * np.eye(3)[axis]
        difference = (grid.log_spectra(place + move)[0] - grid.log_spectra(place - move)[0]) / 2e-5
        assert np.allclose(slope, difference, rtol=1e-4, atol=1e-4)


def test_scatter_does_not_part_pigments() -> None:
    # another level and a bend of all scatter are free, and cost nothing
    settings, channels = ComparisonSettings(), channels_for(elio(), 2.8)
    grid = grid_paint_model("vermilion", elio(), channels, settings)
    parts = component_spectra([settings.paint({"vermilion": 1.0})], elio(), channels)[0]
    bend = (channels.middle_kev / 10.0) ** 0.3
    parts[2:] *= np.stack([1.5 * bend, 0.7 * bend])
    assert fit_paint_model(parts, grid, channels.middle_kev).counts_needed > MODEL_COUNTS


def test_chrome_yellow_is_lead_white_with_chromium() -> None:
    chrome_yellow = composite("chrome_yellow", ("lead_white", "chrome_oxide_green"), elio(), ComparisonSettings())
    assert chrome_yellow.counts_needed > MODEL_COUNTS
    assert sum(chrome_yellow.mixture.values()) == pytest.approx(1.0)
    assert chrome_yellow.mixture["lead_white"] == pytest.approx(0.77, abs=0.05)


def test_a_mixture_without_the_lead_does_not_pass() -> None:
    assert (
        composite("chrome_yellow", ("zinc_white", "chrome_oxide_green"), elio(), ComparisonSettings()).counts_needed
        < 100
    )


def test_mixtures_show_the_elements_of_the_pigment() -> None:
    palette = load_palette().pigments
    assert ("lead_white", "chrome_oxide_green") in mixtures_for("chrome_yellow", palette)
    for name in ("chrome_yellow", "lithopone", "cadmium_orange", "chrome_green"):
        for mixture in mixtures_for(name, palette):
            assert name not in mixture
            assert frozenset().union(*map(shown_elements, mixture)) == shown_elements(name)
    assert mixtures_for("vermilion", palette) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [({"thickness_um": 500.0}, "thickness of 500 um"), ({"ratio_range": (5.0, 1.0)}, "ratio of 3 by mass")],
)
def test_impossible_questions_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(SampleError, match=message):
        replace(ComparisonSettings(), **change)  # type: ignore[arg-type]


def test_no_counts_no_pigments_and_unknown_ones_are_refused() -> None:
    with pytest.raises(SampleError, match="at 0 counts"):
        small().groups(0)
    with pytest.raises(SampleError, match="none was given"):
        separate([], elio())
    with pytest.raises(SampleError, match="were compared"):
        small().counts_needed("azurite", "lead_white")
    with pytest.raises(SampleError, match=r"ends at 2.5 keV"):
        channels_for(elio().model_copy(update={"tube": elio().tube.model_copy(update={"voltage_kv": 2.5})}), 2.8)
