"""Sets hold the truth as often as they promise, and intervals are counted as they are."""

import numpy as np
import pytest
from numpy.typing import NDArray

from underpaint.data.maps import SURFACE_UM
from underpaint.lab.evaluation.answering import ModelAnswers
from underpaint.lab.evaluation.calibration import (
    COUNT_DECADES,
    AnswersByDecade,
    DecadeSpectra,
    calibration_error,
    conformal_coverage,
    conformal_threshold,
    coverage_scores,
    decade_name,
    stated_coverage,
    thickness_intervals,
)
from underpaint.lab.evaluation.simulated import HeldOutSet
from underpaint.pigments.weights import ModelAxis, ModelCard, PredictionSets
from underpaint.simulate.instrument_inputs import INSTRUMENT_INPUTS

N = 6000
GROUP = "mercury_red"


def held_out(labels: NDArray[np.uint8], surface_um: float = 20.0) -> HeldOutSet:
    n = len(labels)
    return HeldOutSet(
        expected=np.full((n, 4), 0.25, np.float32),
        recorded=np.tile(np.asarray([[1.0, 41.0]], np.float32), (n, 1)),
        labels=labels[:, None],
        counts_needed=np.where(labels[:, None] == 1, 0.0, np.inf).astype(np.float32),
        surface_um=np.full(n, surface_um, np.float32),
        surface_share=np.ones((n, 1), np.float32),
        instrument=np.repeat(np.arange(n // 10)[:, None] * np.ones(len(INSTRUMENT_INPUTS)), 10, axis=0).astype("f4"),
        names=(GROUP,),
        kinds=("group",),
        materials=(GROUP,),
    )


def by_decade(probability: NDArray[np.float64], labels: NDArray[np.uint8]) -> AnswersByDecade:
    data = held_out(labels)
    sets = [DecadeSpectra(np.full(len(data), low), data.draw_spectra(low, (1,))) for low, _ in COUNT_DECADES]
    return AnswersByDecade(data, sets, [probability[:, None]] * len(COUNT_DECADES))


def card(**update: object) -> ModelCard:
    fields = {
        "name": "toy",
        "axis": ModelAxis(start_kev=1.0, bin_kev=0.04, n_bin=4),
        "names": (GROUP,),
        "kinds": ("group",),
        "groups": ((GROUP,),),
        "labels": (GROUP,),
        "elements": (("Hg_L",),),
    }
    return ModelCard.model_validate(fields | update)


def test_the_threshold_is_the_order_statistic_of_the_theory() -> None:
    scores = np.arange(1, 100) / 100.0
    assert conformal_threshold(scores, 0.90) == pytest.approx(0.90)
    assert conformal_threshold(scores[:5], 0.90) == 1.0  # six spectra cannot promise nine in ten


def test_sets_of_a_poor_model_still_hold_the_truth() -> None:
    rng = np.random.default_rng(3)
    labels = (rng.random(N) < 0.3).astype(np.uint8)
    probability = np.clip(0.5 + 0.2 * (labels - 0.5) + 0.25 * rng.normal(size=N), 0, 1)
    table = conformal_coverage(by_decade(probability, labels))
    for level in ("0.9", "0.99"):
        row = table[level][GROUP][decade_name(COUNT_DECADES[0])]
        assert row["coverage"] == pytest.approx(float(level), abs=0.02)
        assert row["holds"]
        assert row["set_size"] > 1.0


def test_a_probability_that_says_too_much_has_an_error() -> None:
    labels = (np.arange(N) % 2).astype(np.uint8)
    figures = calibration_error(by_decade(np.where(labels == 1, 0.75, 0.25), labels))
    assert figures["ece"][GROUP] == pytest.approx(0.25)
    assert figures["brier"][GROUP] == pytest.approx(0.0625)


def test_the_sets_of_a_card_are_taken_as_they_are() -> None:
    labels = (np.arange(N) % 2).astype(np.uint8)
    answers = by_decade(np.where(labels == 1, 0.9, 0.1), labels)
    log_odds = np.where(labels == 1, 2.0, -2.0).astype(np.float32)[:, None]
    answered = [ModelAnswers(card(), log_odds, log_odds)] * len(COUNT_DECADES)
    tables = {"present_from": (((1.0,),) * 3, ((3.0,),) * 3), "absent_to": (((-1.0,),) * 3, ((-1.0,),) * 3)}
    sets = PredictionSets(names=(GROUP,), levels=(0.9, 0.99), counts=(1e3, 1e4, 1e5, 1e6), **tables)
    table = stated_coverage(answers, answered, sets)
    first = decade_name(COUNT_DECADES[0])
    assert (table["0.9"][GROUP][first]["coverage"], table["0.9"][GROUP][first]["set_size"]) == (1.0, 1.0)
    # present, in half of the spectra, is asked for more than is given
    assert (table["0.99"][GROUP][first]["coverage"], table["0.99"][GROUP][first]["holds"]) == (0.5, False)


def test_small_bins_are_not_judged() -> None:
    assert coverage_scores(np.ones(999, np.bool_), np.ones(999, np.int64), 0.9)["holds"] is None
    assert coverage_scores(np.zeros(1000, np.bool_), np.ones(1000, np.int64), 0.9)["holds"] is False
    assert coverage_scores(np.zeros(0, np.bool_), np.ones(0, np.int64), 0.9)["n"] == 0


def test_intervals_of_thickness_are_counted() -> None:
    labels = np.zeros(1000, np.uint8)
    rng = np.random.default_rng(1)
    data = held_out(labels)
    middle = (np.log(20.0) + 0.2 * rng.normal(size=(1000, 1))).astype(np.float32)
    layers_card = card(quantities=(SURFACE_UM,))
    right, narrow = (
        ModelAnswers(layers_card, middle, middle, middle, np.full_like(middle, sigma)) for sigma in (0.2, 0.1)
    )
    table = thickness_intervals(data, [right, narrow, right])
    assert table is not None
    assert table["1e3-1e4"]["coverage"] == pytest.approx(0.90, abs=0.03)
    assert table["1e4-1e5"]["coverage"] == pytest.approx(0.59, abs=0.04)  # 1.645 sigma of half the width
    assert table["1e3-1e4"]["width"] == pytest.approx(np.exp(2 * 1.645 * 0.2), rel=1e-3)
    assert thickness_intervals(data, [ModelAnswers(card(), middle, middle)] * 3) is None
