"""Candidates fitted to simulated counts: what comes back, which wins, and what cannot be fitted."""

from dataclasses import replace

import numpy as np
import pytest

from underpaint.data import EnergyAxis, Spectrum
from underpaint.errors import CalibrationError, SampleError, ScanError
from underpaint.lab.evaluation.candidates.candidate import (
    Candidate,
    fraction_parameters,
    fractions_from_parameters,
    ground_film,
    paint_film,
    without_pigment,
)
from underpaint.lab.evaluation.candidates.fit import EvaluationPoint, evaluate_models, fit_candidates
from underpaint.lab.evaluation.candidates.measured import merge_channels, poisson_deviance
from underpaint.physics.forward import count, emit, render
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import Paint, Stratigraphy

INSTRUMENT = load_instrument("silver_30kv")
AXIS = EnergyAxis(INSTRUMENT.detector.gain_kev, INSTRUMENT.detector.zero_kev, INSTRUMENT.detector.n_channel)
TRUE_TOP, TRUE_BELOW = 8.0, 20.0


def stack(name: str, *paints: tuple[dict[str, float], float]) -> Candidate:
    films = [paint_film(Paint(pigments), thickness) for pigments, thickness in paints]
    return Candidate(name, (*films, ground_film("chalk", 150.0)))


RIGHT = stack("right", ({"vermilion": 1.0}, 15.0), ({"chrome_oxide_green": 1.0}, 30.0))
SWAPPED = stack("swapped", ({"chrome_oxide_green": 1.0}, 20.0), ({"vermilion": 1.0}, 10.0))
MIXED = stack("mixed", ({"vermilion": 1.0, "chrome_oxide_green": 1.0}, 30.0))


def counted(truth: Stratigraphy, counts: float, seed: int = 4) -> Spectrum:
    expected = np.asarray(render(emit([truth], INSTRUMENT), INSTRUMENT.detector, AXIS))[0]
    drawn = count(expected / expected.sum() * counts, rng=np.random.default_rng(seed))
    return Spectrum(np.asarray(drawn, dtype=float), AXIS)


@pytest.fixture(scope="module")
def spectrum() -> Spectrum:
    truth = stack("truth", ({"vermilion": 1.0}, TRUE_TOP), ({"chrome_oxide_green": 1.0}, TRUE_BELOW))
    return counted(truth.stratigraphy_at(truth.initial_parameters), 2e5)


def test_thickness_comes_back_within_its_error(spectrum: Spectrum) -> None:
    (fit,) = fit_candidates(merge_channels(spectrum, INSTRUMENT, model_error=0.0), [RIGHT], INSTRUMENT)
    sigma = np.sqrt(np.diag(fit.covariance))[:2]
    pulls = (fit.parameter_values[:2] - np.log([TRUE_TOP, TRUE_BELOW])) / sigma
    # four standard deviations: one chance in 16,000 for a right model
    assert np.all(np.abs(pulls) < 4)
    assert fit.is_converged
    # the deviance of a right model is chi-squared with n_channel degrees of freedom; sparse channels add a little
    assert fit.deviance / fit.n_channel < 1.3


def test_the_right_order_fits_better_than_the_swapped_and_than_one_layer(spectrum: Spectrum) -> None:
    fits = fit_candidates(merge_channels(spectrum, INSTRUMENT), [SWAPPED, MIXED, RIGHT], INSTRUMENT)
    assert fits[0].candidate.name == "right"
    assert min(fit.deviance for fit in fits[1:]) - fits[0].deviance > 25
    assert fits[0].aic == pytest.approx(fits[0].deviance + 2 * (3 + 5))


def test_mass_shares_come_back_within_their_errors() -> None:
    truth = stack("truth", ({"vermilion": 0.2, "chrome_oxide_green": 0.5, "lead_white": 0.3}, 12.0))
    initial = stack("begun", ({"vermilion": 1.0, "chrome_oxide_green": 1.0, "lead_white": 1.0}, 30.0))
    merged = merge_channels(counted(truth.stratigraphy_at(truth.initial_parameters), 2e5), INSTRUMENT, model_error=0.0)
    (fit,) = fit_candidates(merged, [initial], INSTRUMENT)
    pulls = (fit.parameter_values[1:3] - truth.initial_parameters[1:3]) / np.sqrt(np.diag(fit.covariance))[1:3]
    assert np.all(np.abs(pulls) < 4)
    assert fit.candidate.mass_fractions(fit.parameter_values)[0]["chrome_oxide_green"] == pytest.approx(0.5, abs=0.03)


def test_derivatives_are_those_of_the_expected_counts(spectrum: Spectrum) -> None:
    merged = merge_channels(spectrum, INSTRUMENT)
    place, levels = MIXED.initial_parameters, np.asarray([-3.0, 0.1, -0.2, 0.05, 0.02])
    (answer,) = evaluate_models([EvaluationPoint(MIXED, place, levels)], merged, INSTRUMENT)
    for index in range(len(levels)):
        step = np.zeros(5)
        step[index] = 1e-3
        forward, back = evaluate_models(
            [EvaluationPoint(MIXED, place, levels + step), EvaluationPoint(MIXED, place, levels - step)],
            merged,
            INSTRUMENT,
        )
        slope = (forward.expected_counts - back.expected_counts) / 2e-3
        error = np.abs(answer.jacobian[:, place.size + index] - slope).sum() / np.abs(slope).sum()
        # the bend is taken at a channel's energy, not at that of the photons that the detector spreads into it
        assert error < 0.02


def test_fits_side_by_side_are_those_of_each_alone(spectrum: Spectrum) -> None:
    merged = merge_channels(spectrum, INSTRUMENT)
    together = {fit.candidate.name: fit for fit in fit_candidates(merged, [RIGHT, MIXED], INSTRUMENT)}
    (alone,) = fit_candidates(merged, [RIGHT], INSTRUMENT)
    np.testing.assert_allclose(together["right"].parameter_values[:2], alone.parameter_values[:2], atol=0.02)
    assert together["right"].deviance == pytest.approx(alone.deviance, abs=0.1)


def test_shares_and_their_parameters_are_inverse() -> None:
    shares = np.asarray([0.1, 0.25, 0.6, 0.05])
    np.testing.assert_allclose(fractions_from_parameters(np.asarray(fraction_parameters(shares))), shares, rtol=1e-12)


def test_leaving_a_pigment_out_takes_its_layer_where_it_was_alone() -> None:
    less = without_pigment(RIGHT, "vermilion")
    assert less is not None
    assert [film.paint_pigments for film in less.films] == [("chrome_oxide_green",), ()]
    assert without_pigment(less, "chrome_oxide_green") is None


def test_the_model_error_weighs_on_strong_channels_alone(spectrum: Spectrum) -> None:
    merged = merge_channels(spectrum, INSTRUMENT)
    exact = replace(merged, model_error=0.0)
    off = merged.counts * 1.02 + 0.5
    assert exact.deviance(off) == pytest.approx(poisson_deviance(merged.counts, off))
    assert merged.deviance(off) < exact.deviance(off)
    weak = merged.with_counts(np.asarray([3.0, 0.0, 7.0]))
    expected = np.asarray([2.0, 0.5, 9.0])
    assert weak.deviance(expected) == pytest.approx(poisson_deviance(weak.counts, expected), rel=2e-3)
    assert np.sum(weak.residuals(expected) ** 2) == pytest.approx(weak.deviance(expected))


def test_what_cannot_be_fitted_is_refused(spectrum: Spectrum) -> None:
    with pytest.raises(CalibrationError, match="Calibrate"):
        merge_channels(Spectrum(spectrum.counts), INSTRUMENT)
    with pytest.raises(ScanError, match=r"no counts above 2\.8 keV"):
        merge_channels(Spectrum(np.zeros(AXIS.n_channel), AXIS), INSTRUMENT)
    with pytest.raises(ScanError, match="negative or not numbers"):
        merge_channels(Spectrum(spectrum.counts - 1.0, AXIS), INSTRUMENT)
    with pytest.raises(SampleError, match="0 to 100 %"):
        merge_channels(spectrum, INSTRUMENT, model_error=-0.1)
    with pytest.raises(SampleError, match=r"0\.3 to 400 um"):
        paint_film(Paint({"vermilion": 1.0}), 1e4)
