"""Order against its bound, answers by group, and the Monte Carlo panels, on cases worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from underpaint.data import DEFAULT_NETWORK_AXIS
from underpaint.data.maps import PLACES, at_place
from underpaint.errors import ScanError
from underpaint.lab.evaluation.answering import ModelAnswers, Spectra, run_model
from underpaint.lab.evaluation.groups import summarise_scores
from underpaint.lab.evaluation.monte_carlo import panel_scores, read_panels
from underpaint.lab.evaluation.order import (
    PigmentPair,
    draw_pair_spectra,
    fit_order_claims,
    network_order_claims,
    order_bound,
    order_scores,
    pairs_from_deviances,
    rival_deviances,
)
from underpaint.physics.instrument import load_instrument
from underpaint.pigments.predict import open_model
from underpaint.pigments.weights import ModelAxis, ModelCard
from underpaint.simulate.instrument_inputs import InstrumentConditions, conditions_of

TOP, BELOW = "mercury_red", "lead_pigment"
PAIRS = [
    PigmentPair("vermilion", "lead_white", np.ones(4), {"swapped": 500.0, "mixed": 100.0}),
    PigmentPair("lead_white", "vermilion", np.ones(4), {"swapped": 10.0, "mixed": 100.0}),
]


def card_with(names: tuple[str, ...], kinds: str = "group", groups: tuple[tuple[str, ...], ...] = ()) -> ModelCard:
    n = len(names)
    return ModelCard.model_validate(
        {
            "name": "toy", "axis": ModelAxis(start_kev=1.0, bin_kev=0.04, n_bin=4), "names": names,
            "kinds": (kinds,) * n, "groups": groups or ((),) * n, "labels": names, "elements": ((),) * n,
        }
    )  # fmt: skip


def test_the_bound_is_that_of_the_likelihood_ratio() -> None:
    figures = order_bound(PAIRS, 1e5)
    assert figures["resolvable"] == ["vermilion over lead_white"]
    assert figures["accuracy"] == pytest.approx(norm.cdf(5.0))
    assert PAIRS[0].counts_needed == pytest.approx(2.5e4)
    assert order_bound(PAIRS, 1e3)["resolvable_share"] == 0.0


def test_an_abstention_is_not_right_where_the_order_can_be_determined() -> None:
    claims = np.asarray([[1, 1, 0, -1], [0, 0, 0, -1]], dtype=np.int8)
    figures = order_scores(claims, PAIRS, 1e5)
    assert (figures["accuracy"], figures["abstained"], figures["wrong"]) == (0.5, 0.25, 0.25)
    assert (figures["abstained_on_rest"], figures["wrong_on_rest"]) == (0.75, 0.25)
    assert order_scores(None, PAIRS, 1e5)["accuracy"] is None


def test_orders_are_read_from_places() -> None:
    names = tuple(at_place(group, place) for place in PLACES for group in (BELOW, TOP))
    given = {
        "right": (0.95, 0.95, 0.02, 0.97, 0.97, 0.02),
        "together": (0.95, 0.95, 0.95, 0.95, 0.1, 0.1),
        "unsure": (0.95, 0.95, 0.5, 0.6, 0.6, 0.5),
    }
    probability = np.asarray(list(given.values()), dtype=np.float32)
    claims = network_order_claims(ModelAnswers(card_with(names), probability, probability), PAIRS[:1], 3)
    assert claims is not None
    assert claims.tolist() == [[1, -1, 0]]
    plain = ModelAnswers(card_with((TOP, BELOW)), probability[:, :2], probability[:, :2])
    assert network_order_claims(plain, PAIRS[:1], 3) is None


def test_an_order_that_shows_is_resolved_and_one_that_is_buried_is_not() -> None:
    instrument = load_instrument("elio")
    (pair, swapped) = pairs_from_deviances(rival_deviances(("azurite", "vermilion"), instrument), instrument)
    assert (pair.upper_pigment, pair.lower_pigment) == ("azurite", "vermilion")
    for candidate in (pair, swapped):
        assert 1e3 < candidate.counts_needed < 1e5
        assert candidate.deviance_at(2e5) == pytest.approx(2 * candidate.deviance_at(1e5))


@pytest.mark.parametrize(("counts", "claim"), [(2e5, 1), (300, 0)])
def test_a_fit_tells_the_order_where_counts_allow_and_is_silent_elsewhere(counts: float, claim: int) -> None:
    instrument = load_instrument("elio")
    pairs = pairs_from_deviances({"azurite over vermilion": {}}, instrument)
    probability = np.full((1, 2), 0.95, dtype=np.float32)
    answered = ModelAnswers(card_with(("copper_green_blue", TOP)), probability, probability)
    claims = fit_order_claims(answered, draw_pair_spectra(pairs, instrument, counts, 1, 0), pairs, 1, instrument)
    assert claims.tolist() == [[claim]]


def test_a_model_of_members_answers_groups_by_the_likeliest() -> None:
    card = card_with(("red_lead", "lead_white", "vermilion"), "member", ((BELOW,), (BELOW,), (TOP,)))
    probability = np.asarray([[0.2, 0.7, 0.1]], dtype=np.float32)
    probability_of_groups = ModelAnswers(card, probability, probability).probability_by_group(
        [TOP, BELOW, "tin_pigment"]
    )
    np.testing.assert_allclose(probability_of_groups, [[0.1, 0.7, np.nan]])


def test_answers_come_back_in_the_order_of_the_spectra() -> None:
    model = open_model("default", threads=1)
    rng = np.random.default_rng(0)
    counts = rng.poisson(5.0, (6, 1000)) * (1 + np.arange(6))[:, None]
    counts[3] = 0
    recorded = np.tile(np.asarray([[1.0, 41.0]], np.float32), (6, 1))
    conditions = np.stack([InstrumentConditions(anode=anode).inputs() for anode in ("Rh", "Mo", "Rh", "W", "Mo", "Ag")])
    answers = run_model(model, Spectra(counts, DEFAULT_NETWORK_AXIS, recorded, conditions)).probability
    alone = run_model(model, Spectra(counts[4:5], DEFAULT_NETWORK_AXIS, recorded[4:5], conditions[4:5])).probability
    np.testing.assert_allclose(answers[4], alone[0], atol=1e-5)
    assert np.isnan(answers[3]).all()
    assert np.isfinite(answers[[0, 1, 2, 4, 5]]).all()


def test_instrument_conditions_can_be_read_back() -> None:
    known = conditions_of(load_instrument("elio"))
    back = InstrumentConditions.from_inputs(known.inputs())
    assert back.anode == known.anode
    for name, value in known.facts().items():
        assert name == "anode" or back.facts()[name] == pytest.approx(value, rel=1e-6)
    assert InstrumentConditions.from_inputs(InstrumentConditions().inputs()) == InstrumentConditions()


def test_macro_figures_leave_out_what_is_everywhere_and_what_cannot_be_seen() -> None:
    labels = np.asarray([[1, 1, 1], [1, 0, 1], [1, 0, 0]])
    visible = np.asarray([[True, True, False], [True, False, True], [True, False, False]])
    probability = np.asarray([[0.9, 0.9, 0.0], [0.9, 0.8, 0.9], [0.9, 0.1, 0.1]])
    figures = summarise_scores(probability, labels, visible, ("always", "sometimes", "buried"))
    # "always" has no negatives; "sometimes": one hit, one false alarm; "buried": one hit, one invisible
    assert figures["macro_f1"] == pytest.approx((2 / 3 + 1.0) / 2)
    assert figures["names"]["buried"]["n_invisible"] == 1
    assert figures["exact"] == pytest.approx(2 / 3)


def write_panels(folder: Path) -> None:
    energy = 0.01 * np.arange(4096)
    vermilion = 1e5 * np.exp(-0.5 * ((energy - 9.99) / 0.06) ** 2) + 10.0
    np.savez(folder / "mc_panels.npz", conv=np.stack([vermilion] * 3)[None])
    facts = {
        "samples": [
            {
                "name": "red",
                "layers_from_surface": [{"components": {"VM": 1.0, "CaCO3": 1.0}, "elements": {"Hg": 0.5, "Ca": 0.5}}],
                "lines": [
                    {"el": "Hg", "line": "L3M5", "counts": float(vermilion.sum()), "energy_keV": 9.99},
                    {"el": "Ca", "line": "KL3", "counts": 1.0, "energy_keV": 3.69},
                ],
            }
        ],
        "materials": {"VM": {"formula": {"Hg": 1, "S": 1}}, "CaCO3": {"formula": {"Ca": 1, "C": 1, "O": 3}}},
        "tube": {"anode": "Rh", "kV": 40},
        "geometry": {"take_in_deg": 60.0, "take_off_deg": 60.0, "scattering_angle_deg": 120.0},
        "detector": {"gain_keV": 0.01, "zero_keV": 0.0, "air_path_cm": 1.5, "noise_fwhm_keV": 0.07, "fano": 0.114},
    }
    (folder / "mc_panels.json").write_text(json.dumps(facts), encoding="utf-8")


def test_panels_are_judged_by_what_is_there_and_shows(tmp_path: Path) -> None:
    write_panels(tmp_path)
    panels = read_panels(tmp_path)
    groups = (TOP, "calcium_white", "tin_pigment")

    def claims_tin(spectra: Spectra) -> np.ndarray:
        assert spectra.counts.sum(axis=1) == pytest.approx(np.full(4, 1e4), rel=0.05)
        return np.tile(np.asarray([[0.9, 0.1, 0.8]], np.float32), (len(spectra), 1))

    figures = panel_scores(panels, claims_tin, groups, 1e4, 4, 0)
    red = figures["samples"]["red"]
    assert (red["there"], red["visible"]) == ([TOP, "calcium_white"], [TOP])
    assert red["found"] == {TOP: 4, "tin_pigment": 4}
    assert figures["missed"] == 0
    assert figures["claimed_without_its_element"] == 4


def test_a_folder_without_panels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"mc_panels\.json and mc_panels\.npz"):
        read_panels(tmp_path)
