"""What in a file is a detector of one scan, and what a sum, a copy, a map or another scan, as facilities store them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from underpaint import io
from underpaint.errors import ScanError

Cube = NDArray[Any]
N_CHANNEL = 512
GAIN_KEV = 0.04


def expected(rows: int = 6, columns: int = 8, seed: int = 0, scale: float = 1.0) -> NDArray[np.float64]:
    """Mean counts of a picture of three paints in patches: lines on a falling background."""
    energy = GAIN_KEV * np.arange(N_CHANNEL)
    paints = []
    for lines in ((6.40, 7.06, 3.69), (8.05, 8.90, 2.98), (10.55, 12.61, 2.34)):
        peaks = sum(np.exp(-0.5 * ((energy - line) / 0.07) ** 2) / (order + 1) for order, line in enumerate(lines))
        paints.append(60 * peaks + 2.0 * np.exp(-energy / 8) * (energy > 1))
    which = np.random.default_rng(seed).integers(0, 3, (rows, columns))
    return scale * np.array(paints)[which]


def detectors(n_detector: int, *, seed: int = 1, **picture: Any) -> list[Cube]:
    rng = np.random.default_rng(seed)
    return [rng.poisson(expected(**picture) * (1 - 0.1 * each)).astype("u4") for each in range(n_detector)]


def total(scan: Any) -> float:
    return float(scan.counts.sum().compute(scheduler="synchronous"))


def write(path: Path, arrays: dict[str, Any], marks: dict[str, dict[str, Any]] | None = None) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
        for name, each in (marks or {}).items():
            file.require_group(name).attrs.update(each) if name not in file else file[name].attrs.update(each)
    return path


# --- sums, copies and what was computed ---------------------------------------------------------------


def larch(path: Path, counts: list[Cube]) -> Path:
    arrays: dict[str, Any] = {}
    for number, each in enumerate(counts, start=1):
        arrays |= {f"xrmmap/mca{number}/counts": each, f"xrmmap/mca{number}/energy": GAIN_KEV * np.arange(N_CHANNEL)}
        arrays[f"xrmmap/mca{number}/livetime"] = np.full(each.shape[:2], 90_000)
    arrays["xrmmap/mcasum/counts"] = np.sum(counts, axis=0).astype("f8")
    arrays["xrmmap/mcasum/energy"] = GAIN_KEV * np.arange(N_CHANNEL)
    marks = {f"xrmmap/mca{number}": {"type": "mca detector"} for number in range(1, len(counts) + 1)}
    return write(path, arrays, {**marks, "xrmmap/mcasum": {"type": "virtual mca detector"}})


def test_a_stored_sum_is_not_added_to_its_detectors(tmp_path: Path) -> None:
    counts = detectors(4)
    scan = io.load(larch(tmp_path / "map.h5", counts))
    assert total(scan) == np.sum(counts)
    assert scan.live_time_s is not None
    np.testing.assert_allclose(scan.live_time_s, 0.36)  # four times 90,000 microseconds
    assert any("left out: /xrmmap/mcasum/counts, the sum" in note for note in scan.notes)
    alone = io.load(tmp_path / "map.h5", detector="mcasum")
    assert total(alone) == np.sum(counts)
    assert len(io.load_all(tmp_path / "map.h5")) == 4


CORRECTIONS: dict[str, Callable[[Cube], Cube]] = {
    "scaled": lambda raw: raw * 1.0374,
    "scaled and rounded": lambda raw: np.round(raw * 1.0374).astype("u4"),
    "by pixel": lambda raw: (raw * np.linspace(1.0, 1.3, 48).reshape(6, 8, 1)).astype("f4"),
    "by channel": lambda raw: raw * np.linspace(1.0, 1.2, N_CHANNEL),
    "normalised": lambda raw: raw / raw.max(),
    "without background": lambda raw: np.maximum(raw - 1.5 * np.exp(-GAIN_KEV * np.arange(N_CHANNEL) / 8), 0),
    "exact copy": lambda raw: raw.copy(),
}


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_corrected_copies_beside_raw_counts_are_left_out(tmp_path: Path, correction: str) -> None:
    raw = detectors(2)
    arrays: dict[str, Any] = {f"entry/a{number}/data": CORRECTIONS[correction](each) for number, each in enumerate(raw)}
    arrays |= {f"entry/raw{number}/data": each for number, each in enumerate(raw)}
    arrays |= {f"entry/{each}{n}/gain_kev": GAIN_KEV for each in ("a", "raw") for n in range(2)}
    scan = io.load(write(tmp_path / "dawn.nxs", arrays))
    assert total(scan) == np.sum(raw)
    assert sum(note.startswith("left out: ") for note in scan.notes) == 2


def test_a_fit_beside_raw_counts_is_left_out(tmp_path: Path) -> None:
    (raw,) = detectors(1)
    scan = io.load(write(tmp_path / "a.h5", {"entry/data": raw, "fit/data": expected()}))
    assert total(scan) == raw.sum()


def test_a_sum_of_corrected_detectors_is_recognised(tmp_path: Path) -> None:
    raw = detectors(3)
    dead = np.random.default_rng(5).uniform(1.0, 1.2, (3, 6, 8, 1))
    arrays: dict[str, Any] = {f"d{number}/counts": each for number, each in enumerate(raw)}
    arrays |= {f"d{number}/gain_kev": GAIN_KEV for number in range(3)}
    arrays["all/counts"] = np.sum(np.array(raw) * dead, axis=0)
    assert total(io.load(write(tmp_path / "a.h5", arrays))) == np.sum(raw)


FILTERS: dict[str, Callable[[Cube], Cube]] = {
    "smoothed": lambda raw: uniform_filter1d(raw.astype("f4"), 5, axis=2),
    "smoothed and rounded": lambda raw: np.round(gaussian_filter1d(raw.astype("f4"), 1.5, axis=2)).astype("u4"),
    "moved by a channel": lambda raw: np.roll(raw, 1, axis=2),
    "moved by 30 channels": lambda raw: np.roll(raw, 30, axis=2),
    "moved and scaled": lambda raw: np.roll(raw, -2, axis=2) * np.linspace(1.0, 1.3, 48).reshape(6, 8, 1),
    "interpolated": lambda raw: resampled(raw, 1.0, 0.37),
    "on another gain": lambda raw: resampled(raw, 1.01, 0.0),
    "two channels in one": lambda raw: raw.reshape(6, 8, -1, 2).sum(axis=3),
}


def resampled(raw: Cube, stretch: float, shift: float) -> Cube:
    channel = np.arange(raw.shape[2])
    values = [np.interp(channel * stretch + shift, channel, spectrum) for spectrum in raw.reshape(-1, raw.shape[2])]
    return np.reshape(values, raw.shape)


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("copying", FILTERS)
def test_smoothed_moved_and_resampled_copies_are_left_out(tmp_path: Path, copying: str, scale: float) -> None:
    raw = detectors(2, scale=scale)
    copy = FILTERS[copying](raw[0])
    arrays: dict[str, Any] = {"a/counts": raw[0], "b/counts": raw[1], "c/counts": copy}
    arrays |= {f"{each}/gain_kev": GAIN_KEV for each in "ab"} | {"c/gain_kev": GAIN_KEV * N_CHANNEL / copy.shape[2]}
    scan = io.load(write(tmp_path / "a.h5", arrays))
    assert total(scan) == np.sum(raw)
    assert any("left out: /c/counts, computed from /a/counts" in note for note in scan.notes)


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("copying", FILTERS)
def test_a_second_detector_is_added_however_it_was_treated(tmp_path: Path, copying: str, scale: float) -> None:
    raw = detectors(2, scale=scale)
    second = FILTERS[copying](raw[1])
    arrays: dict[str, Any] = {"a/counts": raw[0], "c/counts": second, "a/gain_kev": GAIN_KEV}
    arrays["c/gain_kev"] = GAIN_KEV * N_CHANNEL / second.shape[2]
    assert len(io.load_all(write(tmp_path / "a.h5", arrays), counts_scale=1)) == 2


@pytest.mark.parametrize("correction", ["none", "rounded"])
def test_a_sum_of_more_detectors_than_the_file_holds_stands_for_them(tmp_path: Path, correction: str) -> None:
    raw = detectors(4, scale=10.0)
    summed = np.sum(raw, axis=0) if correction == "none" else np.round(1.03 * np.sum(raw, axis=0)).astype("u4")
    arrays = {f"{name}/counts": each for name, each in zip("abz", (*raw[:2], summed), strict=True)}
    arrays |= {f"{name}/gain_kev": GAIN_KEV for name in "abz"}
    scan = io.load(write(tmp_path / "a.h5", arrays))
    assert total(scan) == summed.sum()
    assert sum("contained in the sum /z/counts" in note for note in scan.notes) == 2


def test_detectors_of_one_name_are_distinguished(tmp_path: Path) -> None:
    for number, counts in enumerate(detectors(2), start=1):
        (tmp_path / f"det{number}").mkdir()
        for pixel, spectrum in enumerate(counts.reshape(48, -1), start=1):
            numbers = "\n".join(map(str, spectrum))
            (tmp_path / f"det{number}" / f"s_{pixel}.mca").write_text(
                f"<<PMCA SPECTRUM>>\nSERIAL_NUMBER - 7\n<<CALIBRATION>>\n0 0\n100 4\n<<DATA>>\n{numbers}\n<<END>>\n"
            )
    scans = io.load_all(tmp_path, shape=(6, 8))
    assert [scan.detector for scan in scans] == ["7 (det1)", "7 (det2)"]
    assert any("detectors of one name" in note for note in scans[0].notes)


def test_detectors_that_differ_are_all_added(tmp_path: Path) -> None:
    """Rates of detectors that see the same picture are no copies of each other, however they are scaled."""
    raw = detectors(3)
    for scale in (1.0, 0.1, 10.0):
        arrays: dict[str, Any] = {f"d{number}/counts": scale * each for number, each in enumerate(raw)}
        arrays |= {f"d{number}/gain_kev": GAIN_KEV for number in range(3)}
        scan = io.load(write(tmp_path / f"a{scale}.h5", arrays), counts_scale=1)
        assert total(scan) == pytest.approx(scale * np.sum(raw), rel=1e-5)


@pytest.mark.parametrize("ending", ["npz", "zarr"])
def test_sums_and_copies_in_other_containers(tmp_path: Path, ending: str) -> None:
    first, second = detectors(2)
    arrays = {"det_1": first, "det_2": second, "det_sum": first + second, "det_1_corr": 1.05 * first}
    path = tmp_path / f"a.{ending}"
    if ending == "npz":
        np.savez(path, **{**arrays, "gain_kev": np.array(GAIN_KEV)}, allow_pickle=False)
    else:
        zarr = pytest.importorskip("zarr", reason="zarr is not installed")
        root = zarr.create_group(path)
        for name, values in arrays.items():
            root.create_array(f"{name}/counts", data=values).attrs["gain_kev"] = GAIN_KEV
    assert total(io.load(path)) == first.sum() + second.sum()


def test_maps_and_pictures_are_no_detectors(tmp_path: Path) -> None:
    (raw,) = detectors(1)
    maps = np.random.default_rng(3).poisson(50, (6, 8, 12))
    arrays = {"entry/counts": raw, "entry/gain_kev": GAIN_KEV, "roi/data": maps, "images/data": np.moveaxis(maps, 2, 0)}
    scan = io.load(write(tmp_path / "a.h5", arrays))
    assert total(scan) == raw.sum()
    assert sum("images, not spectra" in note for note in scan.notes) == 2


# --- several scans -----------------------------------------------------------------------------------


def entries(path: Path, *, marked: bool) -> Path:
    arrays: dict[str, Any] = {}
    for number in (1, 2):
        for each, counts in enumerate(detectors(2, seed=number, scale=float(number))):
            arrays |= {
                f"{number}.1/measurement/det{each}/data": counts,
                f"{number}.1/measurement/det{each}/gain_kev": 0.04,
            }
    marks = {f"{number}.1": {"NX_class": "NXentry"} for number in (1, 2)} if marked else {}
    return write(path, arrays, marks)


@pytest.mark.parametrize("marked", [False, True])
def test_two_entries_are_two_scans(tmp_path: Path, marked: bool) -> None:
    path = entries(tmp_path / "esrf.h5", marked=marked)
    with pytest.raises(ScanError, match=r"contains 2 scans .*esrf\.h5::/1\.1 \(6 x 8 pixels\); .*esrf\.h5::/2\.1 "):
        io.load(path)
    with pytest.raises(ScanError, match="contains 2 scans"):
        io.load_all(path)
    assert total(io.load(f"{path}::/2.1")) == np.sum(detectors(2, seed=2, scale=2.0))


def test_entries_come_before_the_order_of_dimensions(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).poisson(3.0, (2, 6, 8, 4, N_CHANNEL))
    path = write(tmp_path / "two.h5", {f"{number}.1/measurement/mca": counts[number - 1] for number in (1, 2)})
    with pytest.raises(ScanError, match=r"has 2 measurements.*two\.h5::/1\.1; .*two\.h5::/2\.1\."):
        io.load(path)


def test_a_map_of_few_rows_is_no_list_of_detectors(tmp_path: Path) -> None:
    """Rows that look alike, but for more than the scatter."""
    counts = np.random.default_rng(0).poisson(np.tile(expected(4, 8, scale=10.0), (1, 4, 1)))
    assert io.load(write(tmp_path / "a.h5", {"counts": counts})).shape == (4, 32, N_CHANNEL)


def test_arrays_of_two_sizes_are_two_scans(tmp_path: Path) -> None:
    arrays = {"a/counts": detectors(1)[0], "b/counts": detectors(1, rows=5, columns=7)[0]}
    path = write(tmp_path / "two.h5", arrays)
    with pytest.raises(ScanError, match=r"two\.h5::/a/counts \(6 x 8 pixels\); .*two\.h5::/b/counts \(5 x 7 pixels\)"):
        io.load(path)


def test_two_pictures_of_one_size_are_two_scans(tmp_path: Path) -> None:
    arrays = {"a/counts": detectors(1, seed=1)[0], "b/counts": detectors(1, seed=2)[0]}
    arrays["b/counts"] = np.random.default_rng(4).poisson(expected(seed=7)).astype("u4")
    with pytest.raises(ScanError, match="they show different images"):
        io.load(write(tmp_path / "two.h5", arrays))


def test_a_dataset_that_gathers_others_of_the_file_stands_for_them(tmp_path: Path) -> None:
    (raw,) = detectors(1)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["parts/upper/counts"], file["parts/lower/counts"] = raw[:3], raw[3:]
        layout = h5py.VirtualLayout(raw.shape, raw.dtype)
        layout[:3] = h5py.VirtualSource(".", "parts/upper/counts", (3, 8, N_CHANNEL))
        layout[3:] = h5py.VirtualSource(".", "parts/lower/counts", (3, 8, N_CHANNEL))
        file.create_virtual_dataset("counts", layout)
    np.testing.assert_array_equal(io.load(tmp_path / "a.h5").counts.compute(), raw)


# --- detectors that do not work ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (lambda raw: 0 * raw, "no counts"),
        (lambda raw: np.full_like(raw, 65535), "the same number, 65535"),
        (lambda raw: np.broadcast_to(raw[:1, :1], raw.shape), "the same spectrum in all pixels"),
        (lambda raw: (np.random.default_rng(0).random(raw.shape) < 0.001).astype("u4"), "it was off or blocked"),
        (lambda raw: np.where(np.arange(N_CHANNEL) < 100, 65535, raw), "are at 65535"),
    ],
)
def test_detectors_that_do_not_work_are_left_out(tmp_path: Path, fault: Callable[[Cube], Cube], word: str) -> None:
    counts = detectors(3)
    counts[1] = fault(counts[1])
    arrays: dict[str, Any] = {}
    for number, each in enumerate(counts):
        arrays |= {f"mca_{number}/data": each, f"mca_{number}/gain_kev": GAIN_KEV, f"mca_{number}/live_time": 0.5}
    scan = io.load(write(tmp_path / "a.h5", arrays))
    assert total(scan) == counts[0].sum() + counts[2].sum()
    np.testing.assert_allclose(np.asarray(scan.live_time_s), 1.0)
    assert any("/mca_1/data, a detector that does not work" in note and word in note for note in scan.notes)


# --- detectors in one array ----------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", [0, 1, 2, 3])
def test_four_dimensions(tmp_path: Path, dimension: int) -> None:
    counts = detectors(4)
    path = write(tmp_path / "a.h5", {"entry/detector/data": np.stack(counts, axis=dimension)})
    assert [scan.detector for scan in io.load_all(path)] == [f"detector {number}" for number in (1, 2, 3, 4)]
    np.testing.assert_array_equal(io.load(path, detector="detector 3").counts.compute(), counts[2])
    np.testing.assert_allclose(io.load(path).counts.compute(), np.sum(counts, axis=0))


def test_four_dimensions_whose_detectors_nothing_tells(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).poisson(3.0, (6, 8, 4, N_CHANNEL))
    path = write(tmp_path / "a.h5", {"data": counts})
    with pytest.raises(ScanError, match=r"more than one dimension of its .* values may be the detectors"):
        io.load(path)
    scan = io.load(path, shape=(6, 8))
    assert scan.shape == (6, 8, N_CHANNEL)
    assert total(scan) == counts.sum()


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_lists_of_several_detectors_are_put_on_the_grid_of_their_positions(tmp_path: Path, noise: float) -> None:
    counts, rng = detectors(4), np.random.default_rng(2)
    arrays = {"entry/measurement/xspress3/data": np.stack([each.reshape(48, -1) for each in counts], axis=1)}
    arrays["entry/measurement/pseudo/x"] = np.tile(np.arange(8.0), 6) + noise * rng.uniform(-1, 1, 48)
    arrays["entry/measurement/pseudo/y"] = np.repeat(np.arange(6.0), 8)
    arrays["entry/measurement/xspress3/live_time"] = np.arange(1.0, 193.0).reshape(48, 4)
    path = write(tmp_path / "maxiv.h5", arrays)
    scan = io.load(path)
    np.testing.assert_allclose(scan.counts.compute(), np.sum(counts, axis=0))
    np.testing.assert_allclose(np.asarray(scan.live_time_s).ravel(), np.arange(1.0, 193.0).reshape(48, 4).sum(axis=1))


def test_lists_without_positions_are_refused_or_given_a_shape(tmp_path: Path) -> None:
    counts = detectors(4)
    path = write(tmp_path / "a.h5", {"data": np.stack([each.reshape(48, -1) for each in counts], axis=1)})
    with pytest.raises(ScanError, match=r"48 spectra of 4 detectors.*Give --shape 48x4 for a map, --shape 1x48"):
        io.load(path)
    assert total(io.load(path, shape=(6, 8))) == np.sum(counts)
    assert io.load(path, shape=(48, 4)).shape == (48, 4, N_CHANNEL)


def test_lists_of_spectra_in_a_measurement(tmp_path: Path) -> None:
    """As Bliss of the ESRF writes them: links to detectors of their own groups."""
    counts = detectors(2)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number, each in enumerate(counts):
            file[f"1.1/instrument/fx_det{number}/data"] = each.reshape(48, -1)
            file[f"1.1/instrument/fx_det{number}/data"].attrs["interpretation"] = "spectrum"
            file[f"1.1/instrument/fx_det{number}/live_time"] = np.full(48, 0.25)
            file[f"1.1/instrument/fx_det{number}/calibration"] = [-0.1, GAIN_KEV, 0.0]
            file[f"1.1/measurement/fx_det{number}"] = h5py.SoftLink(f"/1.1/instrument/fx_det{number}/data")
        file["1.1"].attrs["NX_class"] = "NXentry"
        file["1.1/measurement/samy"], file["1.1/measurement/samz"] = (
            np.tile(np.arange(8), 6),
            np.repeat(np.arange(6), 8),
        )
    scan = io.load(tmp_path / "a.h5")
    assert scan.shape == (6, 8, N_CHANNEL)  # rows by samz, the vertical one
    assert total(scan) == np.sum(counts)
    assert scan.axis is not None
    assert scan.axis.zero_kev == -0.1
    np.testing.assert_allclose(np.asarray(scan.live_time_s), 0.5)


# --- dimensions in any order ---------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(2, 0, 1), (0, 2, 1), (0, 1, 2)])
@pytest.mark.parametrize("energies", [False, True])
@pytest.mark.parametrize("ending", ["h5", "npz", "zarr"])
def test_channels_are_found_in_any_order(
    tmp_path: Path, order: tuple[int, int, int], energies: bool, ending: str
) -> None:
    (raw,) = detectors(1)
    arrays: dict[str, Any] = {"counts": np.transpose(raw, order)}
    if energies:
        arrays["energy"] = -0.1 + GAIN_KEV * np.arange(N_CHANNEL)
    path = tmp_path / f"a.{ending}"
    if ending == "h5":
        write(path, arrays)
    elif ending == "npz":
        np.savez(path, **arrays)
    else:
        root = pytest.importorskip("zarr", reason="zarr is not installed").create_group(path)
        for name, values in arrays.items():
            root.create_array(name, data=values)
    scan = io.load(path)
    np.testing.assert_array_equal(scan.counts.compute(), raw)
    assert (scan.axis is not None) == energies
    assert energies or order == (0, 1, 2) or any("is read as the channels" in note for note in scan.notes)


def test_rows_longer_than_the_spectra(tmp_path: Path) -> None:
    (raw,) = detectors(1, rows=3, columns=700)
    scan = io.load(write(tmp_path / "a.h5", {"counts": raw}))
    np.testing.assert_array_equal(scan.counts.compute(), raw)
    assert any("x 512 numbers is read as the channels: its counts differ most" in note for note in scan.notes)


@pytest.mark.parametrize("shift", [0, 3])
def test_detectors_without_energies_are_added_where_their_peaks_agree(tmp_path: Path, shift: int) -> None:
    first, second = detectors(2)
    path = write(tmp_path / "a.h5", {"d1/counts": first, "d2/counts": np.roll(second, shift, axis=2)})
    if shift:
        with pytest.raises(ScanError, match="without energy calibration they cannot be aligned"):
            io.load(path)
    else:
        scan = io.load(path)
        np.testing.assert_allclose(scan.counts.compute(), first + second)
        assert any("added channel by channel" in note for note in scan.notes)
