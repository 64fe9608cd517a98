"""Rebinning conserves counts; sums and spectra of scans."""

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from underpaint.data import EnergyAxis, Scan
from underpaint.data.rebin import rebin, rebin_matrix, rebin_scan, sum_scans
from underpaint.errors import CalibrationError, ScanError

RNG = np.random.default_rng(5)
COUNTS = RNG.integers(0, 100, (5, 4, 30)).astype(np.uint16)
AXIS = EnergyAxis(0.1, 0.05, 30)


def test_rebinning_to_the_same_axis_changes_nothing() -> None:
    np.testing.assert_allclose(rebin(COUNTS, AXIS, AXIS.edges_kev), COUNTS, rtol=1e-6)


@given(gain=st.floats(0.01, 0.7), zero=st.floats(-1.0, 1.0))
def test_counts_and_mean_energy_are_kept_when_all_is_covered(gain: float, zero: float) -> None:
    n_channel = int(6.0 / gain) + 2
    wide = EnergyAxis(gain, -1.1 - abs(zero) - gain + zero, n_channel + int(4 / gain))
    moved = rebin(COUNTS[0, 0], AXIS, wide.edges_kev).astype(float)
    total = COUNTS[0, 0].sum()
    assert moved.sum() == pytest.approx(total, rel=1e-5)
    mean_shift = (moved @ wide.energy_kev - COUNTS[0, 0] @ AXIS.energy_kev) / total
    assert abs(mean_shift) < 0.5 * gain


def test_cumulative_counts_at_shared_borders_are_kept() -> None:
    edges = np.array([0.0, 0.33, 1.0, 2.5, 3.0])
    moved = rebin(COUNTS, AXIS, edges)
    cumulative = np.concatenate([[0.0], np.cumsum(COUNTS[2, 1])])
    np.testing.assert_allclose(moved[2, 1], np.diff(np.interp(edges, AXIS.edges_kev, cumulative)), rtol=1e-5)


def test_outside_the_record_there_is_nothing() -> None:
    moved = rebin(COUNTS, AXIS, np.array([-2.0, -1.0, 3.2, 4.0]))
    assert moved[..., 0].max() == 0
    assert moved[..., 2].max() == 0
    np.testing.assert_allclose(moved[..., 1], COUNTS.sum(axis=2), rtol=1e-5)
    assert rebin_matrix(AXIS, np.array([7.0, 8.0])).nnz == 0


def test_wrong_borders_and_lengths() -> None:
    with pytest.raises(CalibrationError, match="increasing energies"):
        rebin(COUNTS, AXIS, np.array([1.0, 0.5]))
    with pytest.raises(CalibrationError, match="the counts have 29 channels, but their energy axis has 30"):
        rebin(COUNTS[..., :29], AXIS, AXIS.edges_kev)


def scan(counts: np.ndarray[tuple[int, ...], np.dtype[np.uint16]], axis: EnergyAxis | None, name: str) -> Scan:
    return Scan(da.from_array(counts, chunks=(2, -1, -1)), axis, name=name, live_time_s=np.full(counts.shape[:2], 2.0))


def test_detectors_are_added_on_the_first_ones_axis() -> None:
    shifted = EnergyAxis(0.1, 0.15, 30)
    total = sum_scans([scan(COUNTS, AXIS, "a"), scan(COUNTS, shifted, "b")])
    expected = COUNTS.astype(float)
    expected[..., 1:] += COUNTS[..., :-1]
    np.testing.assert_allclose(total.counts.compute(), expected, rtol=1e-5)
    assert total.axis == AXIS
    assert total.live_time_s is not None
    assert total.live_time_s[0, 0] == 4.0
    assert "2 detectors (a, b)" in total.notes[-1]


def test_detectors_that_cannot_be_added() -> None:
    with pytest.raises(ScanError, match="a: 5 x 4, b: 4 x 4"):
        sum_scans([scan(COUNTS, AXIS, "a"), scan(COUNTS[:4], AXIS, "b")])
    with pytest.raises(CalibrationError, match="no energy axis"):
        sum_scans([scan(COUNTS, AXIS, "a"), scan(COUNTS, None, "b")])
    with pytest.raises(ScanError, match="the list is empty"):
        sum_scans([])


def test_rebinned_scan_is_lazy_and_whole() -> None:
    coarse = EnergyAxis(0.2, 0.1, 15)
    moved = rebin_scan(scan(COUNTS, AXIS, "a"), coarse)
    assert moved.axis == coarse
    expected = COUNTS.reshape(5, 4, 15, 2).sum(axis=3)
    np.testing.assert_allclose(moved.counts.compute(), expected, rtol=1e-5)
