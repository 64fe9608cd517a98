"""Spectra of very many channels are calibrated in little memory."""

import tracemalloc

import numpy as np
import pytest

from underpaint.calibrate import calibrate
from underpaint.calibrate._peaks import _PeakLookup, find_spectrum_peaks
from underpaint.data import Scan
from underpaint.errors import CalibrationError

N_CHANNEL = 65_536
MOST_MB = 250


def combs(period: int, width: float) -> np.ndarray:
    """As many peaks as find room: noise looks no other."""
    place = np.arange(N_CHANNEL) % period - period // 2
    expected = 1.0 + 3000 * np.exp(-0.5 * (place / width) ** 2) * np.ones((3, 3, 1))
    return np.random.default_rng(0).poisson(expected).astype(np.uint16)


@pytest.mark.parametrize(("period", "width"), [(24, 3.0), (8, 1.0)])
def test_very_many_peaks_take_little_memory(period: int, width: float) -> None:
    scan = Scan(combs(period, width), name="comb")
    tracemalloc.start()
    try:
        with pytest.raises(CalibrationError):
            calibrate(scan)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST_MB * 2**20


def test_the_nearest_peak_is_that_of_least_distance() -> None:
    counts = combs(24, 3.0).sum(axis=(0, 1))[:2048].astype(np.float64)
    peaks = find_spectrum_peaks(counts)
    assert peaks is not None
    assert peaks.channel.size > 50
    lookup = _PeakLookup(peaks, counts.size)
    fine = np.linspace(0, counts.size, lookup.nearest_peak.size, endpoint=False)
    distance = np.abs(fine[:, None] - peaks.channel[None, :])
    np.testing.assert_allclose(distance[np.arange(fine.size), lookup.nearest_peak], distance.min(axis=1), atol=1e-9)
