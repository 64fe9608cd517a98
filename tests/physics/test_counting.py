"""Counts: Poisson, reproducible; and the rule by which a line shows."""

import numpy as np
import pytest

from underpaint.data import EnergyAxis
from underpaint.errors import SampleError
from underpaint.physics.forward import count, counts_needed
from underpaint.physics.instrument import Detector

AXIS = EnergyAxis(0.01, 0.0, 2048)


def test_same_seed_same_counts() -> None:
    expected = np.linspace(0.0, 50.0, 1000)
    first, second = (count(expected, rng=np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.int32
    assert (first != count(expected, rng=np.random.default_rng(8))).any()


def test_counts_are_poisson() -> None:
    """Mean and variance of 40,000 draws lie within five standard errors."""
    drawn = count(np.full(40_000, 12.0), rng=np.random.default_rng(1)).astype(float)
    assert drawn.mean() == pytest.approx(12.0, abs=5 * np.sqrt(12.0 / 40_000))
    assert drawn.var() == pytest.approx(12.0, rel=5 * np.sqrt(2.0 / 40_000))


@pytest.mark.parametrize("bad", [-1e-9, float("nan"), 1e18])
def test_impossible_counts_are_refused(bad: float) -> None:
    with pytest.raises(SampleError, match="expected counts of a channel range"):
        count(np.asarray([1.0, bad]), rng=np.random.default_rng(0))


def test_nothing_to_count() -> None:
    assert count(np.zeros(0), rng=np.random.default_rng(0)).size == 0


def test_counts_needed_by_hand() -> None:
    """FWHM at 6.4 keV is 143.1 eV: half of it on either side covers channels 633 to 647, fifteen of them."""
    lines, energy = np.asarray([[3.0]]), np.asarray([6.4])
    expected = np.ones((1, 2048))
    signal, under = 3.0 / 2048, (15.0 - 3.0) / 2048
    needed = counts_needed(lines, energy, expected, AXIS, Detector())
    assert needed[0] == pytest.approx(18.0 * under / signal**2)


def test_lines_without_background_need_nine_counts() -> None:
    lines, energy = np.asarray([[20.0]]), np.asarray([6.4])
    expected = np.zeros((1, 2048))
    expected[0, 640] = 20.0
    expected[0, 1000] = 60.0
    assert counts_needed(lines, energy, expected, AXIS, Detector())[0] == pytest.approx(9.0 / 0.25)


def test_more_signal_needs_fewer_counts() -> None:
    expected = np.ones((3, 2048))
    lines = np.asarray([[1.0], [2.0], [4.0]])
    needed = counts_needed(lines, np.asarray([6.4]), expected, AXIS, Detector())
    assert np.all(np.diff(needed) < 0)


def test_absent_lines_are_never_seen() -> None:
    expected = np.ones((1, 2048))
    assert np.isinf(counts_needed(np.zeros((1, 1)), np.asarray([6.4]), expected, AXIS, Detector())[0])
    # beyond the recorded range
    assert np.isinf(counts_needed(np.ones((1, 1)), np.asarray([25.0]), expected, AXIS, Detector())[0])
    # inside the axis, but not recorded
    expected[0, :700] = 0
    assert np.isinf(counts_needed(np.ones((1, 1)), np.asarray([6.4]), expected, AXIS, Detector())[0])
