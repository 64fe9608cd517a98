"""One survey of a scan: what is missing counts nowhere, and what is wrong with the values is said."""

import dask.array as da
import numpy as np
import pytest

from underpaint.data import EnergyAxis, Scan, survey
from underpaint.errors import ScanError

RNG = np.random.default_rng(2)
COUNTS = RNG.poisson(3.0, (37, 5, 8)).astype(np.uint16)
PRESENT = RNG.random((37, 5)) > 0.3


def test_missing_pixels_count_nowhere() -> None:
    for chunks in ((10, -1, -1), (10, 2, 7)):
        scan = Scan(da.from_array(COUNTS, chunks=chunks), present=PRESENT, live_time_s=np.where(PRESENT, 2.0, np.nan))
        surveyed = survey(scan)
        np.testing.assert_array_equal(surveyed.total, COUNTS[PRESENT].sum(axis=0))
        np.testing.assert_array_equal(surveyed.highest, COUNTS[PRESENT].max(axis=0))
        np.testing.assert_array_equal(surveyed.pixel_counts, np.where(PRESENT, COUNTS.sum(axis=2), 0))
        assert (surveyed.n_pixel, surveyed.read_share, surveyed.scan.notes) == (PRESENT.sum(), 1.0, ())
        assert surveyed.sum_spectrum().live_time_s == 2.0 * PRESENT.sum()
        np.testing.assert_array_equal(scan.max_spectrum().counts, surveyed.highest)


def test_tiles_hold_every_pixel_once() -> None:
    surveyed = survey(Scan(da.from_array(COUNTS, chunks=(10, 2, 8)), present=PRESENT))
    assert surveyed.tiles.shape == (16 * 5, 8)
    np.testing.assert_array_equal(surveyed.tiles.sum(axis=0), COUNTS[PRESENT].sum(axis=0))
    first = PRESENT[:2, 0]
    np.testing.assert_array_equal(surveyed.tiles[0], COUNTS[:2, 0][first].sum(axis=0))
    assert (surveyed.tile_pixels[0], surveyed.tile_pixels.sum()) == (first.sum(), PRESENT.sum())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_a_pixel_with_values_that_are_no_counts_is_missing(bad: float) -> None:
    counts = COUNTS.astype(np.float32)
    counts[4, 2, 3] = bad
    surveyed = survey(Scan(counts, EnergyAxis(0.1, 0.0, 8)))
    sound = np.ones((37, 5), bool)
    sound[4, 2] = False
    np.testing.assert_array_equal(surveyed.scan.present, sound)
    np.testing.assert_array_equal(surveyed.total, COUNTS[sound].sum(axis=0))
    assert (surveyed.n_pixel, surveyed.pixel_counts[4, 2]) == (37 * 5 - 1, 0)
    assert surveyed.scan.notes[0].startswith("1 of 185 pixels contain values that are not counts")


def test_a_scan_without_a_single_number_is_refused() -> None:
    with pytest.raises(ScanError, match=r"none of its 20 pixels contains counts; .*NaN"):
        survey(Scan(np.full((4, 5, 8), np.nan)))
    assert survey(Scan(np.zeros((4, 5, 8)))).total.sum() == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_wall_at_the_highest_value_is_reported(dtype: type) -> None:
    peak = 300.0 * np.exp(-0.5 * ((np.arange(64) - 20) / 4.0) ** 2) + 2.0
    true = RNG.poisson(peak, (12, 10, 64))
    true[:, 5:] = RNG.poisson(0.5 * peak, (12, 5, 64))
    surveyed = survey(Scan(np.minimum(true, 255).astype(dtype)))
    touched = np.isin(np.arange(64), np.flatnonzero((true >= 255).any(axis=(0, 1)))).sum()
    assert surveyed.scan.notes[0].startswith(
        f"clipped: values stop at 255 in 50 % of the pixels and in {touched} of 64"
    )
    assert survey(Scan(true.astype(np.uint16))).scan.notes == ()


def test_peaks_cut_flat_at_any_height_are_reported() -> None:
    peak = 300.0 * np.exp(-0.5 * ((np.arange(64) - 20) / 6.0) ** 2) + 2.0
    surveyed = survey(Scan(np.minimum(RNG.poisson(peak, (12, 10, 64)), 200)))
    assert surveyed.scan.notes[0].startswith("clipped: values stop at 200 in 100 % of the pixels")


@pytest.mark.parametrize("mean", [0.01, 0.5, 3.0, 254.0, 5000.0])
def test_counts_of_any_height_are_not_called_clipped(mean: float) -> None:
    assert survey(Scan(RNG.poisson(mean, (12, 10, 256)).astype(np.uint16))).scan.notes == ()
