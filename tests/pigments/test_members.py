import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from underpaint.errors import SampleError
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import load_palette
from underpaint.pigments.limits import (
    Circumstances,
    ComparisonSettings,
    distinguishing_methods,
    distinguishing_methods_text,
    group_posterior,
    share_group,
    within_group_prior,
)
from underpaint.pigments.limits._paint_models import component_spectra, grid_paint_model
from underpaint.pigments.limits.comparison import channels_for
from underpaint.pigments.limits.deviance import fit_paint_model

LEAD = ("lead_white", "red_lead", "massicot")
GROUPS = (LEAD, ("vermilion", "calomel"))
NAMES = tuple(name for group in GROUPS for name in group)


def test_without_knowledge_members_are_even() -> None:
    assert list(within_group_prior(LEAD).values()) == pytest.approx([1 / 3] * 3)


def test_the_prior_follows_the_period() -> None:
    prior = within_group_prior(("titanium_white", "zinc_white"), Circumstances(years=(1850, 1860)))
    assert prior["titanium_white"] == pytest.approx(0.01 / 1.01)


def test_the_prior_follows_the_palette() -> None:
    prior = within_group_prior(LEAD, Circumstances(palette={"flake white": 3.0, "red_lead": 1.0}))
    assert prior == pytest.approx({"lead_white": 0.75, "red_lead": 0.25, "massicot": 0.0})


def test_the_prior_leaves_out_what_cannot_hold_enough() -> None:
    prior = within_group_prior(("iron_oxide_red", "prussian_blue"), Circumstances(min_share={"Fe": 0.3}))
    assert prior == {"iron_oxide_red": 1.0, "prussian_blue": 0.0}


@settings(max_examples=50)
@given(st.lists(st.floats(0.0, 1e4), min_size=5, max_size=5))
def test_inside_a_group_the_posterior_follows_the_prior_whatever_the_spectrum(deviances: list[float]) -> None:
    known = Circumstances(years=(1920, 1930), palette={"lead_white": 2.0, "red_lead": 1.0, "vermilion": 1.0})
    by_group, shared = group_posterior(dict(zip(NAMES, deviances, strict=True)), GROUPS, circumstances=known)
    assert sum(by_group) == pytest.approx(1.0)
    for probability, members in zip(by_group, GROUPS, strict=True):
        prior = within_group_prior(members, known)
        assert {name: shared[name] for name in members} == pytest.approx(share_group(probability, prior))


@pytest.mark.parametrize("painted", ["lead_white", "red_lead"])
def test_a_fitted_spectrum_decides_the_group_and_not_its_member(painted: str) -> None:
    instrument, settings = load_instrument("elio"), ComparisonSettings()
    channels = channels_for(instrument, settings.start_kev)
    expected = component_spectra([settings.paint({painted: 1.0})], instrument, channels)[0]
    noise = np.random.default_rng(5).poisson(1e4 * expected.sum(axis=0) / expected.sum()) / 1e4
    drawn = noise[None]
    grids = {name: grid_paint_model(name, instrument, channels, settings) for name in ("red_lead", "lead_white")}
    grids["vermilion"] = grid_paint_model("vermilion", instrument, channels, settings)
    deviances = {
        name: 1e4 * fit_paint_model(drawn, grid, channels.middle_kev).deviance_per_count for name, grid in grids.items()
    }
    by_group, shared = group_posterior(deviances, (("lead_white", "red_lead"), ("vermilion",)))
    assert by_group[0] > 0.999
    assert shared["lead_white"] == shared["red_lead"]


def test_the_spectrum_decides_between_groups() -> None:
    by_group, shared = group_posterior({name: 0.0 if name in LEAD else 30.0 for name in NAMES}, GROUPS)
    assert by_group[0] > 0.999999
    assert shared["massicot"] == pytest.approx(by_group[0] / 3)


def test_the_prior_of_the_groups_counts() -> None:
    by_group, _ = group_posterior(dict.fromkeys(NAMES, 7.0), GROUPS, group_prior=(3.0, 1.0))
    assert by_group == pytest.approx([0.75, 0.25])


def test_the_phases_would_distinguish_lead_white_from_red_lead() -> None:
    ways = {difference.method: difference for difference in distinguishing_methods("lead_white", "red_lead")}
    assert (ways["X-ray diffraction"].first, ways["X-ray diffraction"].second) == ("hydrocerussite", "minium")
    assert ways["colour"].second == "orange-red"
    assert all("unverified" in difference.source for difference in ways.values())
    assert distinguishing_methods_text("lead_white", "red_lead").startswith(
        "lead white and red lead would be told apart by colour"
    )


def test_soft_lines_come_from_the_formulas() -> None:
    soft = [
        difference
        for difference in distinguishing_methods("chalk", "gypsum")
        if difference.method == "XRF below 2.8 keV"
    ]
    assert [(difference.first, difference.second) for difference in soft] == [("nothing", "S")]


def test_a_method_that_the_table_leaves_out_for_one_pigment_is_left_out() -> None:
    assert "zincite" in distinguishing_methods_text("zinc_white", "lithopone")
    for first, second in (
        ("zinc_white", "zinc_sulfide_white"),
        ("copper_resinate", "azurite"),
        ("carmine_lake", "chalk"),
    ):
        ways = [
            difference
            for difference in distinguishing_methods(first, second)
            if not difference.method.startswith("XRF")
        ]
        assert not [difference for difference in ways if "nothing" in (difference.first, difference.second)]
    assert "X-ray diffraction" not in distinguishing_methods_text("copper_resinate", "azurite")


@pytest.mark.parametrize(
    ("first", "second", "elements"),
    [
        ("lead_white", "lead_tin_yellow", ("Pb", "Sn, Pb")),
        ("zinc_white", "lithopone", ("Zn", "Zn, Ba")),
        ("naples_yellow", "chrome_yellow", ("Sb, Pb", "Cr, Pb")),
        ("chalk", "indigo", ("Ca", "nothing")),
    ],
)
def test_included_lines_put_elements_that_xrf_shows_first(first: str, second: str, elements: tuple[str, str]) -> None:
    difference = distinguishing_methods(first, second, include_lines=True)[0]
    assert (difference.method, difference.first, difference.second) == ("XRF", *elements)
    assert "XRF" not in [method.method for method in distinguishing_methods(first, second)]
    assert (
        f"told apart by XRF, unless other paint there holds the same elements ({elements[0]} / {elements[1]}); "
        in distinguishing_methods_text(first, second, include_lines=True)
    )


def test_the_lines_do_not_distinguish_pigments_of_the_same_elements() -> None:
    assert distinguishing_methods("lead_white", "red_lead", include_lines=True) == distinguishing_methods(
        "lead_white", "red_lead"
    )


def test_nothing_distinguishes_a_pigment_from_itself() -> None:
    assert distinguishing_methods("azurite", "azurite") == []
    assert "lists no method" in distinguishing_methods_text("azurite", "azurite")


def test_every_pigment_of_the_default_palette_has_a_row_of_other_methods() -> None:
    names = load_palette().pigments
    without = [name for name in names if name != "vermilion" and not distinguishing_methods(name, "vermilion")]
    assert without == []


def test_impossible_circumstances_are_refused() -> None:
    with pytest.raises(SampleError, match="exclude all of them"):
        within_group_prior(LEAD, Circumstances(palette={"vermilion": 1.0}))
    with pytest.raises(SampleError, match="1900 to 1800"):
        Circumstances(years=(1900, 1800))
    with pytest.raises(SampleError, match="not negative"):
        Circumstances(palette={"vermilion": -1.0})
    with pytest.raises(SampleError, match="between 0 and 1"):
        Circumstances(min_share={"Fe": 2.0})
    with pytest.raises(SampleError, match=r"probability of 1\.5"):
        share_group(1.5, {"vermilion": 1.0})
    with pytest.raises(SampleError, match="2 groups with 1 prior"):
        group_posterior(dict.fromkeys(NAMES, 0.0), GROUPS, group_prior=(1.0,))
