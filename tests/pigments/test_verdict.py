"""What two runs state together, from draws that are made up."""

from dataclasses import replace

import numpy as np
import pytest

from underpaint.data import EnergyAxis, Spectrum
from underpaint.pigments.explain import CandidateGroups, Explanation
from underpaint.pigments.explain.explanation import Fit, Misfit
from underpaint.pigments.explain.record import explanation_record
from underpaint.pigments.explain.states import MAX_LAYERS
from underpaint.pigments.explain.verdict import (
    Draws,
    layer_result,
    number_of_layers,
    pair_orders,
    pool_draws,
    presence,
)
from underpaint.pigments.explain.words import explanation_sentences

GROUPS = ("mercury_red", "iron_pigment")
MEMBERS = (("vermilion",), ("iron_oxide_red", "prussian_blue"))
N = 400


def draws(seed: int, *, top_um: float = 40.0, spread: float = 0.2, swapped: float = 0.0) -> Draws:
    """Return draws of mercury red over an iron pigment; ``swapped``: share of them that have it under."""
    rng = np.random.default_rng(seed)
    is_in_layer = np.zeros((N, MAX_LAYERS, 2), dtype=np.bool_)
    is_in_layer[:, 0, 0] = is_in_layer[:, 1, 1] = True
    under = rng.random(N) < swapped
    is_in_layer[under] = is_in_layer[under][:, [1, 0, 2]]
    thickness = np.full((N, MAX_LAYERS), np.nan)
    thickness[:, :2] = top_um * np.exp(spread * rng.normal(size=(N, 2)))
    return Draws(
        GROUPS,
        MEMBERS,
        np.full(N, 2),
        is_in_layer,
        rng.integers(0, 2, (N, MAX_LAYERS, 2)) * np.asarray([0, 1]),
        thickness,
        is_in_layer.astype(np.float64),
        is_in_layer.argmax(axis=1),
    )


def test_what_both_runs_give_is_determined() -> None:
    runs = [draws(1), draws(2)]
    (order,) = pair_orders(runs)
    assert (order.above, order.below, order.determined) == ("mercury_red", "iron_pigment", True)
    assert number_of_layers(runs).determined == 2
    top = layer_result(runs, 0)
    assert top.thickness.determined
    assert top.thickness.low < 40.0 < top.thickness.high < 1.6 * top.thickness.low * 1.6
    assert top.presence == {"mercury_red": 1.0}
    assert presence(runs) == {"mercury_red": 1.0, "iron_pigment": 1.0}
    assert len(pool_draws(runs)) == 2 * N


def test_runs_that_differ_determine_nothing() -> None:
    differing = [draws(1, top_um=20.0), draws(2, top_um=60.0, swapped=0.2)]
    assert not pair_orders(differing)[0].determined
    thickness = layer_result(differing, 0).thickness
    assert not thickness.determined
    assert "different answers" in thickness.reason
    # the pooled probability alone would do
    pair = [draws(1), draws(2, swapped=0.07)]
    assert pair_orders(pair)[0].probability > 0.95
    assert not pair_orders(pair)[0].determined
    other = replace(draws(2), n_layer=np.where(np.arange(N) < 30, 3, 2))
    assert number_of_layers([draws(1), other]).determined is None


@pytest.mark.parametrize(
    ("top_um", "spread", "determined", "open_low", "open_high"),
    [(40.0, 0.2, True, False, False), (380.0, 0.05, True, False, True), (5.2, 0.02, True, True, False)],
)
def test_an_end_that_was_only_allowed_is_open(
    top_um: float, spread: float, *, determined: bool, open_low: bool, open_high: bool
) -> None:
    estimate = layer_result(
        [draws(1, top_um=top_um, spread=spread), draws(2, top_um=top_um, spread=spread)], 0
    ).thickness
    assert (estimate.determined, estimate.open_low, estimate.open_high) == (determined, open_low, open_high)


def test_a_wide_thickness_is_not_determined() -> None:
    estimate = layer_result([draws(1, spread=0.75), draws(2, spread=0.75)], 0).thickness
    assert not estimate.determined
    assert "is too wide" in estimate.reason


def test_a_thickness_that_depends_on_the_pigment_is_given_by_pigment() -> None:
    assert not layer_result([draws(1), draws(2)], 1).thickness_by_member
    runs = []
    for seed in (1, 2):
        run = draws(seed, top_um=20.0)
        run.thickness_um[:, 1] *= np.where(run.member_index[:, 1, 1] == 1, 2.5, 1.0)
        runs.append(run)
    by_member = layer_result(runs, 1).thickness_by_member
    assert set(by_member) == {"iron_oxide_red", "prussian_blue"}
    assert by_member["prussian_blue"].low > by_member["iron_oxide_red"].median


def test_layers_of_one_group_are_not_counted() -> None:
    runs = [replace(draws(seed), groups=GROUPS[:1], members=MEMBERS[:1]) for seed in (1, 2)]
    assert number_of_layers(runs).determined is None


def explanation(runs: list[Draws], *, chi_square: float = 100.0) -> Explanation:
    """Return an explanation of some runs; at a chi-square of 100 for 100 bins the best draw describes the spectrum."""
    axis, flat = EnergyAxis(0.04, 3.0, 100), np.full(100, 50.0)
    misfit = Misfit(4.51, 900.0, 300.0, 20.0, "Ti_K")
    fit = Fit(axis, flat, flat, flat * 0, flat, flat, chi_square, 100, (misfit,) if chi_square > 150 else ())
    return Explanation(
        Spectrum(flat, axis, name="spot"), CandidateGroups(GROUPS, (0.0, 0.0)), "chalk", fit, tuple(runs)
    )


def test_words_begin_with_the_verdict_in_group_names() -> None:
    words = explanation_sentences(explanation([draws(1), draws(2)]))
    assert words[0] == "mercury red begins above iron pigment (P 1.00)."
    assert words[1].startswith("Thickness of the top layer (mercury red): 4")
    assert words[3].startswith("Two layers of paint are distinguishable (P 1.00)")
    assert not any("log evidence" in sentence for sentence in words)
    sentences_of_runs = explanation_sentences(explanation([draws(1), replace(draws(2), log_evidence=30.0)]))
    assert any("differ by 30 in log evidence" in sentence for sentence in sentences_of_runs)
    assert sentences_of_runs[1].startswith("Thickness of the top layer (mercury red): not determined")


def test_words_say_what_is_not_determined_and_why() -> None:
    words = "\n".join(explanation_sentences(explanation([draws(1, top_um=20.0), draws(2, top_um=60.0, swapped=0.2)])))
    assert "order of the layers is not determined" in words
    assert (
        "Thickness of the top layer (mercury red): not determined; two independent runs give different answers" in words
    )


def test_nothing_is_stated_where_nothing_describes_the_spectrum() -> None:
    withheld = explanation([draws(1), draws(2)], chi_square=300.0)
    words = "\n".join(explanation_sentences(withheld))
    assert "not stated" in words
    assert "At 4.51 keV there are more counts than expected: 900 instead of 300 ± 30" in words
    assert "(+20 sigma of counting noise and model error); Ti K has a line" in words
    assert "begins above" not in words
    values = explanation_record(withheld)
    assert values["order"] is values["layers"] is values["number_of_layers"] is None
    assert explanation_record(explanation([draws(1), draws(2)]))["layers"][0]["thickness_um"]["determined"]
