"""Window maps: the counts sorted by channel, in memory and in the cache, and what a map of a window holds."""

from pathlib import Path

import numpy as np
import pytest
from viewer_fakes import AXIS, SHAPE, scan

from underpaint.data import Scan, Spectrum
from underpaint.display.viewer import windows
from underpaint.display.viewer.fit_requests import Refits
from underpaint.display.viewer.windows import ChannelStore, ChannelStoreCache, store_path, write_store
from underpaint.errors import CalibrationError, CoverageError, ScanError
from underpaint.io import load, save_scan

PEAK = 100.0 * np.indices(SHAPE)[0] + np.indices(SHAPE)[1]


@pytest.fixture
def opened(tmp_path: Path) -> Scan:
    scan(tmp_path / "panel.h5")
    return load(tmp_path / "panel.h5")


@pytest.fixture
def noisy(tmp_path: Path) -> Scan:
    """Counts that no compression makes small: the file is larger than twice what the cache may take."""
    counts = np.random.default_rng(1).poisson(3.0, (*SHAPE, 512)).astype(np.uint16)
    save_scan(Scan(counts, name="noisy"), tmp_path / "noisy.h5")
    return load(tmp_path / "noisy.h5")


def test_a_window_holds_the_net_counts_and_their_deviation(opened: Scan) -> None:
    store = ChannelStoreCache().open(opened)
    assert store is not None
    net, sigma = store.window(498, 502)
    np.testing.assert_allclose(net, PEAK - 1, atol=1e-3)  # five channels, one count of background in each
    # Gross counts, and the background's five channels from three on either side.
    np.testing.assert_allclose(sigma**2, PEAK + 4 + (5 / 6) ** 2 * 6, rtol=1e-5)
    gross, _ = store.window(498, 502, background=False)
    np.testing.assert_allclose(gross, PEAK + 4)


def test_at_the_end_of_the_axis_one_side_gives_the_background(opened: Scan) -> None:
    store = ChannelStoreCache().open(opened)
    assert store is not None
    for first, last in ((0, 5), (AXIS.n_channel - 4, AXIS.n_channel + 50)):
        np.testing.assert_allclose(store.window(first, last)[0], 0.0, atol=1e-4)


def test_missing_spectra_count_as_nothing(tmp_path: Path) -> None:
    counts = np.full((3, 4, 64), 2.0, dtype=np.float32)
    counts[0, 0] = np.nan
    present = np.ones((3, 4), dtype=np.bool_)
    present[1, 1] = False
    store = ChannelStoreCache().open(Scan(counts, present=present))
    assert store is not None
    gross, _ = store.window(10, 19, background=False)
    np.testing.assert_array_equal(gross[[0, 1, 2], [0, 1, 2]], [0.0, 0.0, 20.0])


def test_a_large_scan_is_kept_in_at_most_half_of_its_size(
    noisy: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "MAX_MEMORY_BYTES", 0)
    held = ChannelStoreCache(tmp_path / "cache")
    assert held.open(noisy) is None
    path = write_store(noisy, tmp_path / "cache")
    assert path.stat().st_size <= 0.5 * (tmp_path / "noisy.h5").stat().st_size
    assert held.size(noisy) == path.stat().st_size
    store = held.open(noisy)
    assert store is not None
    assert store.bin_width > 1
    start, stop = store.bins(100, 163)
    expected = np.asarray(noisy.counts)[:, :, start * store.bin_width : stop * store.bin_width].sum(axis=2)
    np.testing.assert_array_equal(store.window(100, 163, background=False)[0], expected)
    held.remove(noisy)
    assert not path.exists()


def test_a_cache_of_an_earlier_scan_and_a_broken_one_are_not_used(
    noisy: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "MAX_MEMORY_BYTES", 0)
    path = write_store(noisy, tmp_path / "cache")
    path.write_bytes(b"no HDF5")
    assert ChannelStoreCache(tmp_path / "cache").open(noisy) is None
    source = tmp_path / "noisy.h5"
    save_scan(Scan(np.ones((*SHAPE, 512), dtype=np.uint16), name="noisy"), tmp_path / "new.h5")
    (tmp_path / "new.h5").replace(source)
    assert store_path(load(source), tmp_path / "cache") != path


def test_a_write_that_breaks_off_leaves_nothing(noisy: Scan, tmp_path: Path) -> None:
    def stop(task: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_store(noisy, tmp_path / "cache", stop)
    assert list((tmp_path / "cache").glob("*.h5")) == []


def test_a_scan_without_a_file_says_what_to_do() -> None:
    with pytest.raises(ScanError, match="has no file"):
        store_path(Scan(np.ones((2, 2, 8))))


def test_the_bins_of_a_range_hold_it() -> None:
    store = ChannelStore(np.zeros((16, 1, 1)), 4)
    assert store.bins(5, 9) == (1, 3)
    assert store.bins(-20, -10) == (0, 1)
    assert store.bins(900, 990) == (15, 16)


def test_without_an_axis_nothing_is_fitted(opened: Scan) -> None:
    with pytest.raises(CalibrationError, match="no energy axis"):
        Refits(None, None, None)(opened.pixel(0, 0))


@pytest.fixture
def fits() -> Refits:
    """Refits of a scan with iron, on a flat background."""
    counts = 20.0 + 500.0 * np.exp(-0.5 * ((AXIS.energy_kev - 6.4) / 0.06) ** 2)
    return Refits(100 * counts, counts, AXIS)


def test_a_line_that_is_left_out_is_not_fitted_and_one_that_is_added_is(fits: Refits) -> None:
    counts = 20.0 + 500.0 * np.exp(-0.5 * ((AXIS.energy_kev - 6.4) / 0.06) ** 2)
    spectrum = Spectrum(counts, name="pixel")
    usual = fits(spectrum)
    areas = {line["name"]: line["area"] for line in usual["families"]}
    assert areas["Fe_K"] == pytest.approx(500 * np.sqrt(2 * np.pi) * 0.06 / AXIS.gain_kev, rel=0.15)
    changed = fits(spectrum, add=["Eu_L"], drop=["Fe_K"])
    names = {line["name"] for line in changed["families"]}
    assert "Eu_L" in names
    assert "Fe_K" not in names
    assert changed["chi_square"] > usual["chi_square"]
    with pytest.raises(CoverageError, match="Au_K"):
        fits(spectrum, add=["Au_K"])
