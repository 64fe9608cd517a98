"""Peak clipping leaves a smooth background alone and takes peaks off it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.data.background import low_statistics_filter, snip
from underpaint.data.peaks import peak_counts, resolution_fwhm_kev

CHANNEL = np.arange(600)
SLOPE = 2000.0 * np.exp(-CHANNEL / 300.0) + 100.0


def peak(centre: float, fwhm: float, height: float) -> NDArray[np.float64]:
    return np.asarray(height * np.exp(-4 * np.log(2) * ((CHANNEL - centre) / fwhm) ** 2))


def test_a_smooth_background_is_kept() -> None:
    assert snip(SLOPE, 6.0) == pytest.approx(SLOPE, rel=0.01)


@pytest.mark.parametrize("centre", [80.0, 300.5, 520.0])
def test_a_peak_is_taken_off(centre: float) -> None:
    background = snip(SLOPE + peak(centre, 6.0, 20000.0), 6.0)
    # The foot of a peak 10 to 200 times as high as the background stays under it for a few per cent.
    assert background == pytest.approx(SLOPE, rel=0.06)


def test_the_window_follows_the_width() -> None:
    narrow, wide = 4.0, 16.0
    fwhm = np.interp(CHANNEL, [100, 500], [narrow, wide])
    spectrum = SLOPE + peak(100, narrow, 5000.0) + peak(500, wide, 5000.0)
    assert snip(spectrum, fwhm) == pytest.approx(SLOPE, rel=0.06)
    assert snip(spectrum, narrow)[500] > 2 * SLOPE[500]


def test_a_broad_hump_passes_as_background() -> None:
    hump = SLOPE + peak(300, 200.0, 1000.0)
    assert snip(hump, 6.0) == pytest.approx(hump, rel=0.05)


def test_many_spectra_are_clipped_as_each_alone() -> None:
    rng = np.random.default_rng(3)
    spectra = rng.poisson(SLOPE + peak(200, 6.0, 900.0), size=(5, 600))
    together = snip(spectra, 6.0, low_statistics=True)
    alone = np.stack([snip(spectrum, 6.0, low_statistics=True) for spectrum in spectra])
    np.testing.assert_allclose(together, alone)


def test_the_filter_removes_the_bias_at_few_counts() -> None:
    spectra = np.random.default_rng(1).poisson(2.0, size=(200, 600))
    plain, filtered = snip(spectra, 6.0).mean(), snip(spectra, 6.0, low_statistics=True).mean()
    assert plain < 0.3
    assert filtered > 3 * plain


def test_the_filter_keeps_the_flank_of_a_strong_peak() -> None:
    spectrum = SLOPE + peak(300, 6.0, 1e6)
    near = slice(294, 307)
    np.testing.assert_allclose(low_statistics_filter(spectrum, 6.0)[near], spectrum[near], rtol=0.3)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 10**6), min_size=3, max_size=120), st.floats(0.5, 30.0))
def test_it_is_never_above_the_spectrum_nor_below_zero(counts: list[int], fwhm: float) -> None:
    background = snip(np.array(counts), fwhm)
    assert np.all(background >= 0)
    assert np.all(background <= np.array(counts) + 1e-6 * (1 + np.array(counts)))


def test_negative_counts_and_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="smallest count is -1"):
        snip(np.array([3.0, -1.0, 2.0]), 1.0)
    with pytest.raises(ValueError, match="smallest count is nan"):
        snip(np.array([3.0, np.nan, 2.0]), 1.0)
    with pytest.raises(ValueError, match=r"peak width is 0\.0 channels"):
        snip(np.array([3.0, 1.0, 2.0]), 0.0)


def test_a_peak_keeps_its_area_and_width() -> None:
    axis = EnergyAxis(0.01, 0.0, 1000)
    counts = peak_counts(axis, np.array([6.4]), np.array([1000.0]), 0.15)
    centre = np.average(axis.energy_kev, weights=counts)
    sigma = np.sqrt(np.average((axis.energy_kev - centre) ** 2, weights=counts))
    assert counts.sum() == pytest.approx(1000.0, rel=1e-6)
    assert centre == pytest.approx(6.4, abs=1e-6)
    assert 2.3548 * sigma == pytest.approx(0.15, rel=2e-3)


def test_a_line_outside_the_axis_adds_nothing() -> None:
    axis = EnergyAxis(0.01, 0.0, 100)
    assert peak_counts(axis, np.array([6.4, -3.0]), np.array([1.0, 1.0]), 0.15).sum() == 0


def test_the_resolution_at_iron() -> None:
    # 2.355^2 * 3.85 eV * 0.114 * 6400 eV = 15577 eV^2; with 70 eV of noise 143 eV.
    assert float(resolution_fwhm_kev(6.4, 0.07, 0.114)) == pytest.approx(0.1431, abs=2e-4)


@pytest.mark.parametrize(("low_statistics", "rtol"), [(False, 0.02), (True, 0.10)])
def test_clipping_is_that_of_pymca(low_statistics: bool, rtol: float) -> None:
    """PyMca's snip1d clips with the same windows; its filter for few counts weighs the window otherwise, 6 % here."""
    fitting = pytest.importorskip("PyMca5.PyMcaMath.fitting.SpecfitFuns", reason="PyMca comes with underpaint[pymca]")
    place = np.arange(1500)
    truth = 200.0 * np.exp(-place / 500.0) + 5.0
    for centre, height in ((300, 2e3), (320, 8e2), (700, 5e3), (1000, 3e2)):
        truth = truth + height * np.exp(-0.5 * ((place - centre) / 5.0) ** 2)
    counts = np.random.default_rng(0).poisson(truth).astype(float)
    theirs = fitting.snip1d(counts, 24, int(low_statistics))
    ours = snip(counts, 12.0, low_statistics=low_statistics)
    assert np.corrcoef(theirs, ours)[0, 1] > 0.999
    assert ours.mean() == pytest.approx(theirs.mean(), rel=rtol)
