import numpy as np
import pytest

from underpaint.errors import CalibrationError
from underpaint.explain import compare, fit_thickness
from underpaint.forward import count, emit, render
from underpaint.instrument import load_instrument
from underpaint.sample import Paint, Stratigraphy, ground_layer
from underpaint.spectrum import EnergyAxis, Spectrum

INSTRUMENT = load_instrument("silver_30kv")
AXIS = EnergyAxis(INSTRUMENT.detector.gain_kev, INSTRUMENT.detector.zero_kev, INSTRUMENT.detector.n_channel)


def _stack(upper: str, lower: str, top_um: float, bottom_um: float) -> Stratigraphy:
    layers = (Paint({upper: 1.0}).layer(top_um), Paint({lower: 1.0}).layer(bottom_um), ground_layer("chalk", 150.0))
    return Stratigraphy(layers)


@pytest.fixture(scope="module")
def spectrum() -> Spectrum:
    truth = _stack("vermilion", "chrome_oxide_green", 8.0, 20.0)
    expected = np.asarray(render(emit([truth], INSTRUMENT), INSTRUMENT.detector, AXIS))
    counts = count(expected / expected.sum() * 2e5, rng=np.random.default_rng(4))
    return Spectrum(np.asarray(counts[0], dtype=float), AXIS)


def test_thickness_comes_back_within_its_interval(spectrum: Spectrum) -> None:
    fit = fit_thickness(spectrum, _stack("vermilion", "chrome_oxide_green", 15.0, 30.0), INSTRUMENT)
    pulls = (fit.thickness_um[:2] - [8.0, 20.0]) / fit.uncertainty_um[:2]
    # four standard deviations: one chance in 16,000 for a right model
    assert np.all(np.abs(pulls) < 4)
    # the deviance of a right model is chi-squared with n_channel degrees of freedom; sparse channels add a little
    assert fit.deviance / fit.n_channel < 1.3


def test_the_right_order_fits_better_than_the_swapped_one(spectrum: Spectrum) -> None:
    right = _stack("vermilion", "chrome_oxide_green", 10.0, 25.0)
    swapped = _stack("chrome_oxide_green", "vermilion", 20.0, 10.0)
    best, other = compare(spectrum, [swapped, right], INSTRUMENT)
    assert "vermilion" in best.stratigraphy.layers[0].pigments
    assert other.deviance - best.deviance > 25


def test_a_spectrum_without_an_axis_is_refused(spectrum: Spectrum) -> None:
    with pytest.raises(CalibrationError, match="calibrate"):
        fit_thickness(Spectrum(spectrum.counts), _stack("vermilion", "red_lead", 5.0, 5.0), INSTRUMENT)
