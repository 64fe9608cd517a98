"""From a network's answer to candidates, evidence and words; the network is a stand-in."""

from pathlib import Path

import numpy as np
import pytest

import underpaint.pigments.explain.explanation as door
from underpaint.data import Spectrum
from underpaint.data.maps import Results
from underpaint.display.plot import save_png
from underpaint.display.plot.explanation import explanation_figure
from underpaint.errors import SampleError
from underpaint.physics.forward import count, emit, render
from underpaint.physics.forward.response import axis_of
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import Paint, library
from underpaint.pigments.explain import Candidate, Explanation, explain, ground_film, measured, paint_film, propose
from underpaint.pigments.explain.candidate import label_of
from underpaint.pigments.explain.evidence import Line, Order, alike
from underpaint.pigments.explain.proposals import MOST_CANDIDATES, Suspects, laid, made_pure, rivals_of, suspects
from underpaint.pigments.explain.words import in_words

INSTRUMENT = load_instrument("silver_30kv")
AXIS = axis_of(INSTRUMENT.detector)


def answered(**probability: float) -> Results:
    """The answer of a network at one pixel, groups and members by name."""
    groups = {own.name for own in library().groups}
    names = sorted(probability, key=lambda name: name not in groups)
    kinds = tuple("group" if name in groups else "member" for name in names)
    belongs = tuple((name,) if name in groups else library()[name].groups for name in names)
    values = np.asarray([probability[name] for name in names], np.float32)[None, None]
    return Results.of_pigments(names, values, kinds=kinds, groups=belongs, labels=names, elements=((),) * len(names))


def stack(*paints: tuple[tuple[str, ...], float]) -> Candidate:
    films = [paint_film(Paint(dict.fromkeys(names, 1.0)), um) for names, um in paints]
    return Candidate(" over ".join(label_of(names) for names, _ in paints), (*films, ground_film("chalk", 150.0)))


def drawn(truth: Candidate, counts: float) -> Spectrum:
    expected = np.asarray(render(emit([truth.at(truth.start)], INSTRUMENT), INSTRUMENT.detector, AXIS))[0]
    own = count(expected / expected.sum() * counts, rng=np.random.default_rng(8))
    return Spectrum(own.astype(np.float64), AXIS, name="panel, pixel (1, 2)")


@pytest.fixture(scope="module")
def found() -> Explanation:
    """Vermilion over azurite, with tin's pigment suspected, which is not there."""
    spectrum = drawn(stack((("vermilion",), 10.0), (("azurite",), 30.0)), 1e5)
    own = Suspects(("vermilion", "azurite"), ("zinc_white",), {"mercury_red": 1.0, "copper_green_blue": 0.9})
    return explain(spectrum, measured(spectrum, INSTRUMENT), propose(own, "chalk"), INSTRUMENT, found=own)


def test_every_group_that_is_present_sends_its_likeliest_member() -> None:
    own = suspects(
        answered(lead_pigment=0.99, mercury_red=0.8, tin_pigment=0.2, red_lead=0.3, lead_white=0.6, vermilion=0.7),
        "chalk",
    )
    assert own.pigments == ("lead_white", "vermilion")
    assert [set(library()[name].groups) & {"tin_pigment"} for name in own.hidden] == [{"tin_pigment"}]


def test_what_the_ground_brings_is_left_to_it_unless_it_is_all_there_is() -> None:
    both = suspects(answered(calcium_white=0.9, mercury_red=0.8, chalk=0.7, vermilion=0.7), "chalk")
    assert both.pigments == ("vermilion",)
    assert "left to the ground" in both.notes[0]
    alone = suspects(answered(calcium_white=0.9, chalk=0.7), "chalk")
    assert alone.pigments == ("chalk",)


def test_a_composite_pigment_stands_for_one_of_its_groups_and_leaves_the_others_their_own() -> None:
    likely = answered(lead_pigment=1.0, chromium_pigment=0.9, lead_white=0.3, chrome_orange=0.7, viridian=0.1)
    assert set(suspects(likely, "chalk").pigments) == {"lead_white", "chrome_orange"}
    unlikely = answered(lead_pigment=1.0, chromium_pigment=0.9, lead_white=0.3, chrome_orange=0.4, viridian=0.1)
    assert set(suspects(unlikely, "chalk").pigments) == {"lead_white", "viridian"}


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_proposals_hold_one_layer_and_both_orders_and_are_few(count: int) -> None:
    names = ("vermilion", "azurite", "zinc_white", "iron_oxide_red")[:count]
    candidates = propose(Suspects(names, (), {}), "chalk")
    ways = [laid(own) for own in candidates]
    assert ways[0] == (frozenset(names),)
    assert len(set(ways)) == len(ways) <= MOST_CANDIDATES - (count if count > 1 else 0)
    # each pigment alone above or below the others
    for name in names if 1 < count < 4 else ():
        rest = frozenset(names) - {name}
        assert (frozenset({name}), rest) in ways
        assert (rest, frozenset({name})) in ways
    # no lead above: it may be primed with lead white
    assert (frozenset(names), frozenset({"lead_white"})) in ways


def test_rivals_are_one_layer_the_swapped_one_and_each_pigment_moved() -> None:
    best = stack((("vermilion", "zinc_white"), 10.0), (("azurite",), 20.0))
    above, below = frozenset({"vermilion", "zinc_white"}), frozenset({"azurite"})
    assert {laid(own) for own in rivals_of(best)} == {
        (above | below,),
        (below, above),
        (frozenset({"zinc_white"}), frozenset({"azurite", "vermilion"})),
        (frozenset({"vermilion"}), frozenset({"azurite", "zinc_white"})),
    }


def test_a_composite_pigment_is_tried_as_a_pure_one() -> None:
    pure = made_pure(stack((("lead_white", "chrome_orange"), 20.0)))
    assert pure is not None
    (other,) = pure.pigments - {"lead_white"}
    assert library()[other].groups == ("chromium_pigment",)
    assert made_pure(stack((("lead_white", "vermilion"), 20.0))) is None


def test_the_order_is_found_and_claimed_by_the_projects_criterion(found: Explanation) -> None:
    assert laid(found.best.candidate) == (frozenset({"vermilion"}), frozenset({"azurite"}))
    assert found.order.determined
    assert found.order.swapped is not None
    assert found.order.swapped > 25
    assert found.goodness.fits
    assert found.goodness.dispersion == 1.0


def test_lines_speak_for_what_is_there_and_against_what_is_not(found: Explanation) -> None:
    own = {entry.pigment: entry for entry in found.evidence}
    assert own["vermilion"].needed
    assert own["vermilion"].layers == (0,)
    mercury = own["vermilion"].lines[0]
    assert mercury.family == "Hg_L"
    assert mercury.there
    assert mercury.expected == pytest.approx(mercury.measured, abs=5 * mercury.uncertainty)
    assert not own["zinc_white"].present
    assert "malachite" in own["azurite"].as_well
    assert not found.unexplained
    assert Line("Zn_K", 3.0, 10.0, 400.0).missing
    assert not Line("Zn_K", 350.0, 30.0, 400.0).missing


def test_the_parts_sum_to_the_fit(found: Explanation) -> None:
    merged = round(found.measured.axis.gain_kev / found.parts.axis.gain_kev)
    first = int(np.argmin(np.abs(found.parts.axis.energy_kev - found.measured.axis.start_kev)))
    fitted = found.best.expected
    whole = found.parts.total[first : first + merged * fitted.size].reshape(-1, merged).sum(axis=1)
    # scatter's levels are taken at a channel's energy here, at the photons' in the fit
    np.testing.assert_allclose(whole.sum(), fitted.sum(), rtol=5e-3)


def test_words_name_what_was_measured_and_what_nobody_can_know(found: Explanation) -> None:
    words = "\n".join(in_words(found))
    for part in (
        "could have made the spectrum",
        "vermilion, in layer 1. For it: Hg L",
        "would be told apart by",
        "The order of the layers is determined: vermilion over azurite",
        "zinc white, n",
    ):
        assert part in words


def test_a_line_that_no_candidate_carries_is_named() -> None:
    spectrum = drawn(stack((("vermilion", "titanium_white"), 20.0)), 1e5)
    answer = explain(spectrum, measured(spectrum, INSTRUMENT), [stack((("vermilion",), 20.0))], INSTRUMENT)
    assert "Ti_K" in [line.family for line in answer.unexplained]
    assert "nothing in the best stratigraphy carries Ti" in "\n".join(in_words(answer))
    assert not answer.goodness.fits
    assert answer.goodness.dispersion > 1.0


def test_members_of_a_group_that_show_the_same_are_tried_in_its_place() -> None:
    assert "red_lead" in alike("lead_white")
    assert not {"lead_tin_yellow", "chrome_yellow"} & set(alike("lead_white"))


def test_the_picture_shows_fit_layers_and_residuals(found: Explanation, tmp_path: Path) -> None:
    figure = explanation_figure(found)
    upper, middle, lower = figure.axes
    labels = [text.get_text() for axes in (upper, middle) for text in axes.get_legend().get_texts()]  # type: ignore[union-attr]
    for part in ("measured", "fitted", "Hg", "1  vermilion", "2  azurite", "scatter"):
        assert any(label.startswith(part) for label in labels), part
    residuals = lower.lines[-1].get_ydata()
    np.testing.assert_allclose(np.asarray(residuals), found.measured.residuals(found.best.expected))
    save_png(figure, tmp_path / "spot.png")
    assert (tmp_path / "spot.png").stat().st_size > 10_000


def test_without_candidates_or_pigments_there_is_nothing_to_compare(
    found: Explanation, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SampleError, match="there is none"):
        explain(found.spectrum, found.measured, [], INSTRUMENT)
    monkeypatch.setattr(door, "identify", lambda *_, **__: answered(mercury_red=0.02))
    with pytest.raises(SampleError, match=r"no pigment group .*mercury_red, 0\.02.*--layers"):
        door.propose_from_network(found.spectrum, "chalk")


def test_an_order_needs_a_stratigraphy_that_fits_and_rivals_that_do_not() -> None:
    assert Order(layered=True, mixed=30.0, swapped=9.5, other=None).determined
    assert not Order(layered=True, mixed=30.0, swapped=8.5, other=None).determined
    assert not Order(layered=True, mixed=30.0, swapped=None, other=None).determined
    assert not Order(layered=True, mixed=300.0, swapped=300.0, other=None, explained=False).determined
