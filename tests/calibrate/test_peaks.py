"""Maxima of a spectrum, beside scipy.signal, which is too slow to import for a command that should answer at once."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks, peak_widths

from underpaint.calibrate._peaks import _width_at_level, prominent_maxima


@pytest.mark.parametrize("sigma", [0.5, 2.0, 8.0])
def test_maxima_prominences_and_widths_are_those_of_scipy(sigma: float) -> None:
    rng = np.random.default_rng(3)
    for mean in rng.uniform(0.1, 200.0, 10):
        values = gaussian_filter1d(rng.poisson(mean, 2048).astype(float), sigma)
        least = rng.uniform(0.1, 3.0) * np.sqrt(values + 1.0)
        tops, prominence = prominent_maxima(values, least)
        expected, facts = find_peaks(values, prominence=least)
        np.testing.assert_array_equal(tops, expected)
        np.testing.assert_allclose(prominence, facts["prominences"])
        level = values[tops] - 0.5 * prominence
        widths = [_width_at_level(values, top, half) for top, half in zip(tops, level, strict=True)]
        np.testing.assert_allclose(widths, peak_widths(values, expected, rel_height=0.5)[0], rtol=1e-9)


def test_a_flat_spectrum_has_no_maxima() -> None:
    tops, prominence = prominent_maxima(np.zeros(64), np.ones(64))
    assert tops.size == prominence.size == 0
