"""Counts at which a question about layers is answered."""

import numpy as np
import pytest

from underpaint.data import Spectrum
from underpaint.errors import SampleError
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import Paint, Stratigraphy, ground_layer
from underpaint.pigments.explain import ModelError, given_groups, planning, search
from underpaint.pigments.explain.mixture import Mixture, Modes
from underpaint.pigments.explain.planning import (
    AnsweredShares,
    OrderQuestion,
    answered_shares,
    expected_spectrum,
    likeliest_layers,
)
from underpaint.pigments.explain.spectrum_model import SpectrumModel
from underpaint.pigments.explain.states import MAX_LAYERS, PaintPrior, States

INSTRUMENT = load_instrument("silver_30kv")
AZURITE_OVER_LEAD = Stratigraphy(
    (Paint({"azurite": 1.0}).layer(30.0), Paint({"lead_white": 1.0}).layer(30.0), ground_layer("chalk", 150.0))
)
QUESTION = OrderQuestion("lead_pigment", "copper_green_blue")


@pytest.fixture
def short_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search few structures, enough for two groups, and simulate few scans."""
    sizes = {"N_SCREENED": 60, "N_NEIGHBOURS": 10, "N_OPTIMISED": 3, "N_VARIANTS": 2, "N_OPTIMISATION_ROUNDS": 4}
    for name, value in sizes.items():
        monkeypatch.setattr(search, name, value)
    monkeypatch.setattr(planning, "N_SCAN", 100)


def test_a_question_names_two_groups_or_their_pigments() -> None:
    assert OrderQuestion.from_text("lead_white under azurite") == QUESTION
    assert OrderQuestion.from_text("lead_pigment under copper_green_blue") == QUESTION
    for text, fault in (
        ("lead_pigment", "lead_pigment under mercury_red"),
        ("azurite under malachite", "needs two different groups"),
        ("emerald_green under azurite", "Name one group"),
        ("kryptonite under azurite", "kryptonite"),
    ):
        with pytest.raises(SampleError, match=fault):
            OrderQuestion.from_text(text)


@pytest.mark.parametrize("text", ["lead under mercury", "Pb under Hg", "lead_white under mercuri red"])
def test_loose_words_and_elements_lead_to_the_groups_of_the_results(text: str) -> None:
    groups = ("tin_pigment", "lead_pigment", "mercury_red", "iron_pigment")
    with pytest.raises(SampleError) as fault:
        OrderQuestion.from_text(text, groups)
    assert 'Did you mean "lead_pigment under mercury_red"?' in str(fault.value)
    assert str(fault.value).endswith(f"The groups are {', '.join(groups)}.")


def test_counts_needed_lie_between_those_that_were_simulated() -> None:
    planned = AnsweredShares(np.asarray([1e3, 1e4, 1e5]), np.asarray([0.0, 0.25, 0.75]), np.asarray([0.1, 0.5, 0.9]))
    assert planned.counts_needed(0.5) == pytest.approx(10**4.5)
    assert planned.counts_needed(0.25) == pytest.approx(1e4)
    assert planned.counts_needed(0.9) == float("inf")
    assert AnsweredShares(np.asarray([1e3]), np.asarray([0.9]), np.asarray([0.99])).counts_needed() == 1e3
    # a share that falls again is not reached
    fallen = AnsweredShares(np.asarray([1e3, 1e4, 1e5]), np.asarray([0.6, 0.4, 0.8]), np.asarray([0.1, 0.5, 0.9]))
    assert 1e4 < fallen.counts_needed() < 1e5


def test_noise_changes_the_residuals_as_if_it_had_been_measured() -> None:
    rate, axis = expected_spectrum(AZURITE_OVER_LEAD, INSTRUMENT)
    counts = rate * 1e5 / rate.sum()
    prior = PaintPrior(("copper_green_blue", "lead_pigment"))
    model = SpectrumModel(Spectrum(counts, axis), INSTRUMENT, prior, ModelError())
    expected = model.counts
    model.set_reference(expected)
    states = prior.draw(6, np.random.default_rng(1))
    before, _ = model.evaluate(states)
    noise = np.random.default_rng(2).poisson(expected) - expected
    change = model.residual_changes(states, noise[None])[0]
    model.counts = expected + noise
    model.set_reference(expected)
    after, _ = model.evaluate(states)
    np.testing.assert_allclose(after - before, change, atol=0.01 * np.abs(change).max())


def test_a_mode_counts_for_both_answers_by_its_draws() -> None:
    """Lead in both layers: in some draws only a trace of it is in the upper layer, so that copper begins above it."""
    prior = PaintPrior(("copper_green_blue", "lead_pigment"))
    is_in_layer = np.zeros((2, MAX_LAYERS, 2), dtype=np.bool_)
    is_in_layer[0, 0, 0] = is_in_layer[0, 1, 1] = True
    is_in_layer[1, 0] = True
    is_in_layer[1, 1, 1] = True
    states = States(
        np.full(2, 2), is_in_layer, np.zeros(is_in_layer.shape, np.int64), np.zeros((2, prior.n_coordinate))
    )
    states.layer_coordinates[1, 0, -1] = -1.5  # little lead in the upper layer
    jacobians = [np.zeros((int(active.sum()), 1), np.float32) for active in states.is_active()]
    mixture = Mixture(prior, Modes(states, np.zeros(2), jacobians), 1.0)
    log_yes, log_no = planning._log_fractions(mixture, QUESTION, prior)
    assert log_yes[0] == 0.0
    assert 0.05 < np.exp(log_yes[1]) < 0.95
    np.testing.assert_allclose(np.exp(log_yes) + np.exp(log_no), 1.0)


def test_more_counts_answer_more_scans(short_search: None) -> None:
    """Azurite over lead white: hopeless at a thousand counts, plain at a million."""
    candidates = given_groups(["azurite", "lead_pigment"])
    planned = answered_shares(AZURITE_OVER_LEAD, INSTRUMENT, candidates, QUESTION, (1e3, 1e6, 3e6))
    assert planned.answered_share[0] < 0.1
    assert planned.answered_share[1] > 0.9
    assert len(planned.counts) == 2  # no need to go on
    assert 1e3 < planned.counts_needed() < 1e6


def test_the_layers_planned_for_are_those_of_the_spectrum(short_search: None) -> None:
    rate, axis = expected_spectrum(AZURITE_OVER_LEAD, INSTRUMENT)
    spectrum = Spectrum(np.random.default_rng(0).poisson(rate * 1e6 / rate.sum()).astype(np.float64), axis)
    candidates = given_groups(["azurite", "lead_white"])
    layers, probability, n_structures = likeliest_layers(spectrum, INSTRUMENT, candidates, QUESTION)
    assert layers is not None
    assert n_structures > 1
    assert probability > 0.95
    assert layers.layers[0].mass_fractions.get("Cu", 0.0) > 0.1
    assert layers.layers[0].thickness_um == pytest.approx(30.0, rel=0.5)
    again, _ = expected_spectrum(layers, INSTRUMENT)
    shape, truth = again / again.sum(), rate / rate.sum()
    lines = truth > 0.2 * truth.max()
    np.testing.assert_allclose(shape[lines], truth[lines], rtol=0.25)
