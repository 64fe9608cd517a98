"""Repairs: what was done to a scan of known truth is found, and taken back."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.ndimage import shift as shifted

from underpaint.data import EnergyAxis, Scan
from underpaint.errors import CalibrationError, ScanError
from underpaint.physics.forward import pile_up
from underpaint.physics.instrument import Detector
from underpaint.repair import (
    RowShift,
    binned,
    cropped,
    find_faulty_pixels,
    find_row_shift,
    fingerprint,
    masked,
    with_equal_live_time,
    with_pixels_repaired,
    with_rows_aligned,
    without_sum_peaks,
)

N_CHANNEL = 64
AXIS = EnergyAxis(0.2, 0.1, N_CHANNEL)


def painting(seed: int, n_row: int, n_column: int) -> NDArray[np.float64]:
    """Expected counts of smooth patches of three paints, (n_row, n_column, n_channel)."""
    rng = np.random.default_rng(seed)
    amounts = np.stack([gaussian_filter(rng.normal(size=(n_row, n_column)), 2.5) for _ in range(3)], axis=2)
    amounts = np.exp(1.5 * amounts / amounts.std())
    spectra = np.stack([np.exp(-0.5 * ((np.arange(N_CHANNEL) - centre) / 2.0) ** 2) for centre in (15, 30, 45)])
    return np.asarray(20.0 * amounts @ spectra + 1.0)


def with_odd_rows_shifted(expected: NDArray[np.float64], columns: float) -> NDArray[np.float64]:
    moved = expected.copy()
    moved[1::2] = shifted(expected[1::2], (0, columns, 0), order=3, mode="nearest")
    return np.maximum(moved, 0.0)


@pytest.mark.parametrize("columns", [-1.3, 0.45, 2.0])
def test_shifted_rows_are_found_within_their_error(columns: float) -> None:
    recorded = with_odd_rows_shifted(painting(1, 40, 60), columns)
    shift = find_row_shift(Scan(np.random.default_rng(0).poisson(recorded).astype(np.uint16)))
    assert shift.is_significant
    assert abs(shift.columns - columns) < max(0.08, 4 * shift.error_columns)
    assert shift.error_columns < 0.1


def test_straight_rows_are_left_alone() -> None:
    shift = find_row_shift(Scan(np.random.default_rng(0).poisson(painting(2, 40, 60)).astype(np.uint16)))
    assert not shift.is_significant
    assert "are not significantly shifted: " in shift.describe()


def test_aligned_rows_are_nearer_to_the_truth_and_lose_no_count() -> None:
    truth = painting(3, 20, 60)
    recorded = with_odd_rows_shifted(truth, 1.4)
    scan = Scan(recorded, live_time_s=np.full((20, 60), 2.0))
    straight, step = with_rows_aligned(scan, RowShift(1.4, 0.02))
    counts = straight.counts.compute()
    inner = (slice(1, None, 2), slice(5, -5))
    assert np.abs(counts[inner] - truth[inner]).mean() < 0.3 * np.abs(recorded[inner] - truth[inner]).mean()
    np.testing.assert_allclose(counts[::2], recorded[::2], rtol=1e-6)
    assert straight.live_time_s is not None
    np.testing.assert_allclose(straight.live_time_s[inner], 2.0)
    assert straight.present is not None
    assert not straight.present[1::2, -1].any()
    assert straight.present[:, 5:-5].all()
    assert step.as_record()["shift_columns"] == 1.4
    aligned, _ = with_rows_aligned(Scan(np.ones((4, 8, 3))), RowShift(0.3, 0.0))
    np.testing.assert_allclose(aligned.counts.compute()[1], 1.0, rtol=1e-6)


def test_rows_are_aligned_alike_in_any_blocks() -> None:
    counts = painting(4, 21, 30)
    aligned, _ = with_rows_aligned(Scan(counts), RowShift(-0.6, 0.0))
    other_scan = Scan(counts)
    other_scan = other_scan.replace(counts=other_scan.counts.rechunk({0: 5}))
    other, _ = with_rows_aligned(other_scan, RowShift(-0.6, 0.0))
    # two products and a sum for each pixel, no matrix product: bits do not depend on the block
    np.testing.assert_array_equal(aligned.counts.compute(), other.counts.compute())


def test_moved_rows_are_linear_between_two_pixels() -> None:
    ramp = np.broadcast_to(np.arange(10.0)[None, :, None], (2, 10, 3))
    live = np.arange(20.0).reshape(2, 10)
    live[1, 4] = np.nan
    moved, _ = with_rows_aligned(Scan(ramp, live_time_s=live), RowShift(2.25, 0.0))
    row = moved.counts.compute()[1, :, 0]
    np.testing.assert_allclose(row[:7], np.arange(7) + 2.25, rtol=1e-6)
    assert row[7] == 9.0  # three quarters are recorded, scaled up
    assert (row[8:] == 0).all()
    assert moved.present is not None
    np.testing.assert_array_equal(moved.present[1], np.arange(10) < 8)
    assert moved.live_time_s is not None
    np.testing.assert_array_equal(np.isnan(moved.live_time_s[1]), [False, True, True, *[False] * 7])
    np.testing.assert_allclose(moved.live_time_s[1, 3:7], np.arange(13, 17) + 2.25)


def test_rows_of_a_uniform_surface_cannot_be_compared() -> None:
    for seed in range(4):
        counts = np.random.default_rng(seed).poisson(np.full((24, 40, 64), 3.0))
        with pytest.raises(ScanError, match="no common structure, as on a uniform surface"):
            find_row_shift(Scan(counts, EnergyAxis(0.04, 0.0, 64)))


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ScanError, match="at least 8 of 16"):
        find_row_shift(Scan(np.ones((4, 4, 8))))
    with pytest.raises(ScanError, match="pixels of a row are equal"):
        find_row_shift(Scan(np.ones((10, 20, 8))))


def test_dead_and_short_pixels_are_found_and_mended() -> None:
    truth = 10 * painting(5, 24, 20)
    counts = np.random.default_rng(1).poisson(truth).astype(np.uint32)
    dead, short = [(0, 0), (7, 9), (16, 3)], [(12, 12), (15, 19)]
    for place in dead:
        counts[place] = 0
    for place in short:
        counts[place] //= 20
    scan = Scan(counts)
    scan = scan.replace(counts=scan.counts.rechunk({0: 8}))
    faulty = find_faulty_pixels(scan)
    assert {tuple(pixel) for pixel in np.argwhere(faulty.is_dead)} == set(dead)
    assert {tuple(pixel) for pixel in np.argwhere(faulty.is_short)} == set(short)
    mended, step = with_pixels_repaired(scan, faulty)
    result = mended.counts.compute()
    for row, column in dead + short:
        around = [
            counts[r, c]
            for r in range(max(row - 1, 0), min(row + 2, 24))
            for c in range(max(column - 1, 0), min(column + 2, 20))
            if (r, c) != (row, column)
        ]
        np.testing.assert_allclose(result[row, column], np.mean(around, axis=0), rtol=1e-5)
    sound = ~faulty.is_faulty
    np.testing.assert_array_equal(result[sound], counts[sound])
    assert len(step.as_record()["dead"]) == 3
    assert any("3 dead and 2 short" in note for note in mended.notes)


def test_pixels_that_the_live_time_explains_are_not_short() -> None:
    live = np.ones((10, 10))
    live[4, 4] = 0.1
    counts = np.random.default_rng(2).poisson(1000 * live[:, :, None] * np.ones(16))
    assert not find_faulty_pixels(Scan(counts, live_time_s=live)).is_faulty.any()
    assert find_faulty_pixels(Scan(counts)).is_short[4, 4]


def test_too_many_faulty_pixels_are_refused() -> None:
    counts = np.ones((4, 5, 3))
    counts[:2] = 0
    scan = Scan(counts)
    with pytest.raises(ScanError, match="10 of 20 are dead"):
        with_pixels_repaired(scan, find_faulty_pixels(scan))


def test_equal_live_time_gives_rates() -> None:
    live = np.random.default_rng(3).uniform(0.5, 1.5, (6, 7))
    live[2, 2] = np.nan
    counts = 100.0 * np.nan_to_num(live)[:, :, None] * np.arange(1, 9)
    scan, step = with_equal_live_time(Scan(counts, live_time_s=live))
    median = float(np.nanmedian(live))
    result = scan.counts.compute()
    recorded = np.isfinite(live)
    np.testing.assert_allclose(result[recorded], np.broadcast_to(100.0 * median * np.arange(1, 9), (41, 8)), rtol=1e-5)
    assert scan.present is not None
    assert not scan.present[2, 2]
    assert step.as_record()["unknown"] == [[2, 2]]
    with pytest.raises(ScanError, match="its file has none"):
        with_equal_live_time(Scan(counts))


def test_sum_peaks_are_taken_out_as_they_came() -> None:
    detector = Detector(pulse_pair_us=0.5)
    single = np.zeros((6, 256))
    single[:, 20:120] = 50.0
    single[:, 40], single[:, 90] = 5e4, 2e4
    axis = EnergyAxis(0.1, -0.3, 256)
    rate = np.array([1e3, 1e4, 5e4, 1e5, 2e5, 4e5])
    photons = single.sum(axis=1)
    recorded = np.asarray(pile_up(single, rate, detector, axis))
    live = (photons / rate)[:, None]
    scan, step = without_sum_peaks(Scan(recorded[:, None, :], axis=axis, live_time_s=live), 0.5)
    result = scan.counts.compute()[:, 0]
    assert recorded[-1, 80 - 3] > 0.05 * recorded[-1, 40]
    # triples beyond the last channel were never recorded
    np.testing.assert_allclose(result, single, atol=3.0, rtol=3e-3)
    assert step.as_record()["most_chance"] == pytest.approx(0.2, rel=1e-3)


def test_sum_peaks_need_axis_times_and_a_possible_rate() -> None:
    counts, live = np.full((2, 2, N_CHANNEL), 100.0), np.ones((2, 2))
    with pytest.raises(CalibrationError, match="no energy axis"):
        without_sum_peaks(Scan(counts, live_time_s=live), 0.5)
    with pytest.raises(ScanError, match="live time of some pixels"):
        without_sum_peaks(Scan(counts, axis=AXIS), 0.5)
    with pytest.raises(ScanError, match="Check the pulse-pair resolution"):
        without_sum_peaks(Scan(counts, axis=AXIS, live_time_s=live), 1e3)


def test_crop_mask_and_bins() -> None:
    counts = np.random.default_rng(4).poisson(3.0, (7, 9, 5)).astype(np.uint16)
    live = np.arange(63.0).reshape(7, 9)
    scan = Scan(counts, live_time_s=live, step_mm=(0.5, 0.25))
    part, step = cropped(scan, (1, 6), (2, 9))
    np.testing.assert_array_equal(part.counts.compute(), counts[1:6, 2:9])
    np.testing.assert_array_equal(part.live_time_s, live[1:6, 2:9])
    assert step.as_record()["shape"] == [7, 9, 5]
    mask = np.zeros((7, 9), bool)
    mask[2:4, 3:8] = True
    masked_scan, _ = masked(scan, mask)
    np.testing.assert_array_equal(masked_scan.present, mask)
    np.testing.assert_array_equal(masked_scan.counts.compute(), counts)
    added, step = binned(masked_scan, 2, 3)
    expected = counts[:6].astype(int).reshape(3, 2, 3, 3, 5).sum(axis=(1, 3))
    np.testing.assert_array_equal(added.counts.compute(), expected)
    assert added.step_mm == (1.0, 0.75)
    np.testing.assert_array_equal(added.present, mask[:6].reshape(3, 2, 3, 3).all(axis=(1, 3)))
    assert "1 rows and 0 columns omitted" in step.description
    with pytest.raises(ScanError, match="rows 0 to 6"):
        cropped(scan, (3, 9), (0, 2))
    with pytest.raises(ScanError, match="Give a mask of the size of the scan"):
        masked(scan, mask[:2])
    with pytest.raises(ScanError, match="10 x 1"):
        binned(scan, 10, 1)


def test_bins_of_many_rows_hold_all_counts() -> None:
    counts = np.random.default_rng(5).poisson(3.0, (50, 40, 4)).astype(np.uint16)
    added, _ = binned(Scan(counts), 20, 7)
    np.testing.assert_array_equal(
        added.counts.compute(), counts[:40, :35].astype(int).reshape(2, 20, 5, 7, 4).sum(axis=(1, 3))
    )


def test_a_fingerprint_tells_every_byte(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"counts")
    first, folder = fingerprint(tmp_path / "a"), fingerprint(tmp_path)
    (tmp_path / "a").write_bytes(b"Counts")
    assert fingerprint(tmp_path / "a") != first
    assert fingerprint(tmp_path) != folder
