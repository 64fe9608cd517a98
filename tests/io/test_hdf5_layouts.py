"""HDF5 files as other programs write them: by their own writers, else laid out as their sources do."""

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from underpaint import io
from underpaint.data import EnergyAxis
from underpaint.errors import ScanError
from underpaint.io import _source
from underpaint.io.hdf5 import _cube

Cube = NDArray[np.int64]


# --- NeXus, by silx and PyMca ----------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["keV", "eV"])
def test_nxdata_of_silx(tmp_path: Path, cube: Cube, unit: str) -> None:
    nxdata = pytest.importorskip("silx.io.nxdata", reason="silx is not installed")
    scale = {"keV": 1.0, "eV": 1000.0}[unit]
    path = tmp_path / "silx.h5"
    axes = [0.25 * np.arange(3), 0.5 * np.arange(4), scale * (0.1 + 0.5 * np.arange(8))]
    nxdata.save_NXdata(
        str(path), cube, axes, signal_name="fluo", axes_names=["y", "x", "energy"], interpretation="spectrum"
    )
    with h5py.File(path, "r+") as file:
        group = next(item for item in file["entry"].values() if item.attrs.get("NX_class") == "NXdata")
        inside = group.name
        group["energy"].attrs["units"] = unit
        group["y"].attrs["units"] = group["x"].attrs["units"] = "mm"
        file["entry/other"] = np.ones((3, 4, 8))
    for location in (path, f"{path}::{inside}", f"{path}::{inside}/fluo"):
        scan = io.load(location)
        np.testing.assert_array_equal(scan.counts.compute(), cube)
        assert scan.axis is not None
        assert [scan.axis.gain_kev, scan.axis.zero_kev] == pytest.approx([0.5, 0.1])
        assert scan.step_mm == (0.25, 0.5)


def test_nxdata_with_energies_first(tmp_path: Path, cube: Cube) -> None:
    with h5py.File(tmp_path / "a.nxs", "w") as file:
        group = file.create_group("entry/fluo")
        group.attrs.update({"NX_class": "NXdata", "signal": "intensity", "axes": ["energy", "y", "x"]})
        group["intensity"] = np.moveaxis(cube, 2, 0)
        group["energy"] = 100.0 + 500.0 * np.arange(8)
        group["energy"].attrs["units"] = "eV"
        group["y"], group["x"] = np.arange(3.0), np.arange(4.0)
    scan = io.load(tmp_path / "a.nxs")
    np.testing.assert_array_equal(scan.counts.compute(), cube)
    assert scan.axis == EnergyAxis(0.5, 0.1, 8)
    assert scan.step_mm is None  # axes without unit


def test_nxdata_of_the_older_kind(tmp_path: Path, cube: Cube) -> None:
    with h5py.File(tmp_path / "a.nxs", "w") as file:
        group = file.create_group("entry/detector")
        group.attrs["NX_class"] = "NXdata"
        group["mine"] = cube
        group["mine"].attrs.update({"signal": 1, "axes": "y:x:energy"})
        group["energy"] = 0.5 * np.arange(8)
        file["entry/noise"] = np.ones((3, 4, 8))
    scan = io.load(tmp_path / "a.nxs")
    np.testing.assert_array_equal(scan.counts.compute(), cube)
    assert scan.axis == EnergyAxis(0.5, 0.0, 8)


def test_two_links_to_the_same_counts_are_one_detector(tmp_path: Path, cube: Cube) -> None:
    with h5py.File(tmp_path / "a.nxs", "w") as file:
        file["entry/instrument/mca/data"] = cube
        group = file.create_group("entry/plot")
        group.attrs.update({"NX_class": "NXdata", "signal": "data"})
        group["data"] = h5py.SoftLink("/entry/instrument/mca/data")
        file["entry/copy/data"] = file["entry/instrument/mca/data"]
    np.testing.assert_array_equal(io.load(tmp_path / "a.nxs").counts.compute(), cube)


def test_stack_of_pymca(tmp_path: Path, cube: Cube) -> None:
    save = pytest.importorskip("PyMca5.PyMcaIO.ArraySave", reason="PyMca5 is not installed")
    path = tmp_path / "pymca.h5"
    save.save3DArrayAsHDF5(cube.astype(np.float32), str(path), interpretation="spectrum")
    scan = io.load(path)
    np.testing.assert_array_equal(scan.counts.compute(), cube)


def test_detectors_of_pymca_are_added_or_chosen(tmp_path: Path, cube: Cube) -> None:
    path = tmp_path / "two.h5"
    other = np.random.default_rng(8).integers(0, 90, cube.shape)
    with h5py.File(path, "w") as file:
        for number, counts in enumerate((cube, other)):
            mca = file.create_group(f"entry/measurement/mca_{number}")
            mca["data"] = counts
            mca["info/calibration"], mca["info/live_time"] = [0.1, 0.5, 0.0], np.full(cube.shape[:2], 1.5)
            mca["info/elapsed_time"] = np.full(cube.shape[:2], 2.0)
    total = io.load(path)
    np.testing.assert_allclose(total.counts.compute(), cube + other)
    np.testing.assert_array_equal(total.live_time_s, np.full((3, 4), 3.0))
    second = io.load(path, detector="mca_1")
    np.testing.assert_array_equal(second.counts.compute(), other)
    np.testing.assert_array_equal(second.real_time_s, np.full((3, 4), 2.0))
    with pytest.raises(ScanError, match=r"Cannot read detector 'mca_7' .* none of the 2 detectors has this name"):
        io.load(path, detector="mca_7")


def test_list_of_spectra_by_path(tmp_path: Path, cube: Cube) -> None:
    path = tmp_path / "list.h5"
    with h5py.File(path, "w") as file:
        file["1.1/measurement/fluo"] = cube.reshape(12, 8)
    scan = io.load(f"{path}::/1.1/measurement/fluo", shape=(3, 4))
    np.testing.assert_array_equal(scan.counts.compute(), cube)
    row = io.load(f"{path}::/1.1/measurement/fluo")
    assert row.shape == (1, 12, 8)
    assert "read as one row" in row.notes[0]
    with pytest.raises(ScanError, match="12 spectra do not fill 5 x 5 pixels"):
        io.load(f"{path}::/1.1/measurement/fluo", shape=(5, 5))


# --- CRONO, as cronomaxrf reads it -----------------------------------------------------------------


def crono(path: Path, cube: Cube, *, missing: bool = False, times: str = "") -> tuple[Path, NDArray[np.int64]]:
    """More spectra than pixels, in the order in which the motors came by: rows there and back."""
    n_row, n_column, n_channel = cube.shape
    rng = np.random.default_rng(3)
    index = 2 * np.arange(n_row * n_column).reshape(n_row, n_column) + 1
    index[1::2] = index[1::2, ::-1]
    spectra = rng.integers(0, 9, (2 * n_row * n_column + 2, n_channel)).astype(np.uint16)
    spectra[index] = cube
    selected = index.astype(np.int32)[:, :, None].copy()
    if missing:
        selected[0, 0] = -1
    with h5py.File(path, "w") as file:
        file["XRF/Spectra"] = spectra
        file["XRF/EnergyVector"] = 0.1 + 0.5 * np.arange(n_channel)
        file["XRF/SpectraSelectedIndex"] = selected
        file["XRF/MotorsPositions"] = rng.normal(size=(len(spectra), 3))
        file["XRF/LiveTimes"] = 1000.0 * np.arange(1, len(spectra) + 1)
        if times:
            file["XRF/LiveTimes"].attrs["units"] = times
        file["Configuration/Settings"] = b"{}"
    return path, index


def test_crono(tmp_path: Path, cube: Cube) -> None:
    path, _ = crono(tmp_path / "a.HDF5", cube)
    scan = io.load(path)
    np.testing.assert_array_equal(scan.counts.compute(), cube)
    assert scan.axis == EnergyAxis(0.5, 0.1, 8)
    assert (scan.format, scan.live_time_s, scan.present) == ("HDF5 (XGLab CRONO)", None, None)
    assert scan.notes[0].startswith("12 of 26 spectra are used for the 12 pixels")
    assert any("without a unit" in note for note in scan.notes)
    np.testing.assert_array_equal(scan.counts[1:3, 1:2].compute(), cube[1:3, 1:2])


def test_crono_times_and_missing_pixels(tmp_path: Path, cube: Cube) -> None:
    path, index = crono(tmp_path / "a.HDF5", cube, missing=True, times="ms")
    scan = io.load(path)
    assert scan.present is not None
    assert not scan.present[0, 0]
    assert scan.live_time_s is not None
    np.testing.assert_allclose(scan.live_time_s.ravel()[1:], (index + 1.0).ravel()[1:])
    expected = cube.copy()
    expected[0, 0] = 0
    np.testing.assert_array_equal(scan.counts.compute(), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"SpectraSelectedIndex": None}, "SpectraSelectedIndex .* is missing"),
        ({"SpectraSelectedIndex": np.full((3, 4, 1), 999)}, "points at spectrum 999; the file holds 26"),
        ({"SpectraSelectedIndex": np.zeros((300, 400, 1), int)}, "has 120000 pixels for 26 spectra"),
        ({"Spectra": np.zeros(5)}, r"not \(spectrum, channel\) numbers"),
    ],
)
def test_crono_with_nonsense(tmp_path: Path, cube: Cube, change: dict[str, Any], message: str) -> None:
    path, _ = crono(tmp_path / "a.HDF5", cube)
    with h5py.File(path, "r+") as file:
        for name, value in change.items():
            del file[f"XRF/{name}"]
            if value is not None:
                file[f"XRF/{name}"] = value
    with pytest.raises(ScanError, match=message):
        io.load(path)


# --- XRF-Maps, as hdf5_io.cpp writes it ------------------------------------------------------------


def xrf_maps(path: Path, cube: Cube, version: int) -> Path:
    with h5py.File(path, "w") as file:
        images = np.moveaxis(cube, 2, 0).astype(np.float32)
        chunks = (8, 1, 1) if version == 10 else (1, 3, 4)
        new = version == 10
        place = file.create_group("MAPS/Spectra" if new else "MAPS")
        place.create_dataset("mca_arr", data=images, chunks=chunks, compression="gzip", compression_opts=7)
        place["Energy" if new else "energy"] = (0.1 + 0.5 * np.arange(8)).astype(np.float32)
        place["Energy_Calibration" if new else "energy_calib"] = np.array([0.1, 0.5, 0.0], dtype=np.float32)
        if new:
            place["Elapsed_Livetime"] = np.full(cube.shape[:2], 0.9, np.float32)
            place["Elapsed_Realtime"] = np.full(cube.shape[:2], 1.0, np.float32)
            place["Integrated_Spectra/Spectra"] = images.sum(axis=(1, 2))
        scan = file.require_group("MAPS/Scan" if new else "MAPS")
        scan["x_axis"], scan["y_axis"] = 0.02 * np.arange(4), 0.05 * np.arange(3)
        file["MAPS/XRF_Analyzed/ROI/Counts_Per_Sec"] = np.ones((5, 3, 4), np.float32)
    return path


@pytest.mark.parametrize("version", [9, 10])
def test_xrf_maps(tmp_path: Path, cube: Cube, version: int) -> None:
    scan = io.load(xrf_maps(tmp_path / "2xfm_0001.mda.h51", cube, version))
    np.testing.assert_array_equal(scan.counts.compute(), cube)
    assert scan.axis is not None
    assert [scan.axis.gain_kev, scan.axis.zero_kev] == pytest.approx([0.5, 0.1])
    assert (scan.format, scan.detector, scan.step_mm) == ("HDF5 (XRF-Maps)", "1", None)
    assert "0.05 by 0.02 apart" in scan.notes[0]
    if version == 10:
        assert scan.live_time_s is not None
        np.testing.assert_allclose(scan.live_time_s, np.full((3, 4), 0.9), rtol=1e-6)


def test_xrf_maps_step_with_unit(tmp_path: Path, cube: Cube) -> None:
    path = xrf_maps(tmp_path / "a.h5", cube, 10)
    with h5py.File(path, "r+") as file:
        for axis_name in "xy":
            file[f"MAPS/Scan/{axis_name}_axis"].attrs["units"] = "um"
    assert io.load(path).step_mm == pytest.approx((5e-5, 2e-5))


# --- PyXRF, as write_db_to_hdf_base writes it ------------------------------------------------------


SECOND, THIRD = np.random.default_rng(9).integers(0, 60, (2, 3, 4, 8))


def pyxrf(path: Path, cube: Cube, *, each: bool) -> Path:
    with h5py.File(path, "w") as file:
        parts = {"det1": cube, "det2": SECOND, "det3": THIRD} if each else {}
        for name, counts in {**parts, "detsum": cube + SECOND + THIRD}.items():
            data = file.create_group(f"xrfmap/{name}").create_dataset("counts", data=counts, compression="gzip")
            data.attrs["comments"] = f"Experimental data from {name}"
        file["xrfmap/positions/name"] = np.array([b"x_pos", b"y_pos"])
        file["xrfmap/positions/pos"] = np.stack([np.tile(0.5 * np.arange(4), (3, 1)), np.tile([[0], [2], [4]], 4)])
        file["xrfmap/scalers/name"] = np.array([b"i0"])
        file["xrfmap/scalers/val"] = np.ones((*cube.shape[:2], 1))
        file.create_group("xrfmap/scan_metadata").attrs["instrument_mono_incident_energy"] = 12.0
    return path


def test_pyxrf_detectors_are_added_channel_by_channel(tmp_path: Path, cube: Cube) -> None:
    path = pyxrf(tmp_path / "scan2D_1.h5", cube, each=True)
    scan = io.load(path)
    np.testing.assert_array_equal(scan.counts.compute(), cube + SECOND + THIRD)
    assert scan.axis is None
    assert [element.detector for element in io.load_all(path)] == ["det1", "det2", "det3"]
    np.testing.assert_array_equal(io.load(path, detector="det2").counts.compute(), SECOND)
    np.testing.assert_array_equal(io.load(f"{path}::/xrfmap/det3/counts").counts.compute(), THIRD)
    np.testing.assert_array_equal(io.load(f"{path}::/xrfmap/detsum").counts.compute(), cube + SECOND + THIRD)


def test_pyxrf_with_the_sum_only(tmp_path: Path, cube: Cube) -> None:
    scan = io.load(pyxrf(tmp_path / "scan2D_1.h5", cube, each=False))
    np.testing.assert_array_equal(scan.counts.compute(), cube + SECOND + THIRD)
    assert (scan.detector, scan.metadata["incident_energy_kev"]) == ("detsum", 12.0)
    assert "the sum of all detectors" in scan.notes[0]
    assert "x_pos 0.5, y_pos 2" in scan.notes[-1]


# --- sizes, links, filters -------------------------------------------------------------------------


def test_opening_reads_a_few_spectra_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.h5"
    with h5py.File(path, "w", libver="latest") as file:
        large = file.create_dataset("counts", shape=(1000, 1000, 1000), dtype="u4", chunks=(1, 1000, 1000))
        large[0] = np.ones((1000, 1000), np.uint32)
        file["calibration"] = [0.1, 0.5, 0.0]
    read, plain = [], _cube._read_slices

    def counted(*arguments: Any) -> Any:
        read.append(plain(*arguments))
        return read[-1]

    monkeypatch.setattr(_cube, "_read_slices", counted)
    scan = io.load(path)
    assert sum(block.shape[0] * block.shape[1] for block in read) <= 3 * 256
    assert scan.counts.nbytes == 4_000_000_000
    assert scan.counts.chunks[0][0] * 4_000_000 <= _source.BLOCK_BYTES
    assert "999 of 1000 chunks of the counts were never written (an aborted scan?) and read as zero" in scan.notes


def test_sizes_that_cannot_be(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        huge = file.create_dataset("counts", shape=(10**6, 10**6, 4096), dtype="u4", chunks=(1, 1, 4096))
        huge[0, 0] = 1
        file.create_dataset("none/counts", shape=(3, 4, 8), dtype="u4")
        lump = file.create_dataset("lump/counts", (4000, 4000, 60), "u4", chunks=(4000, 4000, 60), compression="gzip")
        lump.id.write_direct_chunk((0, 0, 0), b"\x00" * 64)
    with pytest.raises(ScanError, match=r"it declares \(1000000, 1000000, 4096\) numbers.*which is impossible"):
        io.load(f"{tmp_path / 'huge.h5'}::/counts")
    with pytest.raises(ScanError, match="no counts were written"):
        io.load(f"{tmp_path / 'huge.h5'}::/none/counts")
    with pytest.raises(ScanError, match="in chunks of 3840 MB"):
        io.load(f"{tmp_path / 'huge.h5'}::/lump/counts")


def test_unpacked_counts_must_fit_into_the_file(tmp_path: Path, cube: Cube) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["counts"] = cube.astype(np.uint16)
    content, sizes = path.read_bytes(), np.array([3, 4, 8], "<u8").tobytes()
    assert content.count(sizes) >= 1
    path.write_bytes(content.replace(sizes, np.array([3000, 4, 8], "<u8").tobytes()))
    with pytest.raises(ScanError, match=r"which is impossible|damaged"):
        io.load(path)


def test_long_rows_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_source, "MAX_ROW_BYTES", 1000)
    monkeypatch.setattr(_source, "BLOCK_BYTES", 640)
    counts = np.arange(2 * 100 * 8).reshape(2, 100, 8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["counts"] = counts
        file["counts"].attrs["interpretation"] = "spectrum"
    scan = io.load(tmp_path / "a.h5")
    assert max(scan.counts.chunks[1]) == 10
    np.testing.assert_array_equal(scan.counts.compute(), counts)


def test_counts_in_other_files(tmp_path: Path, cube: Cube, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = tmp_path / "scans", tmp_path / "elsewhere"
    inside.mkdir()
    outside.mkdir()
    for folder in (inside, outside):
        with h5py.File(folder / "raw.h5", "w") as file:
            file["counts"] = cube
    for number, target in enumerate(("raw.h5", "../elsewhere/raw.h5")):
        with h5py.File(inside / f"master{number}.h5", "w") as file:
            file["linked"] = h5py.ExternalLink(target, "/counts")
            layout = h5py.VirtualLayout(cube.shape, cube.dtype)
            layout[:] = h5py.VirtualSource(target, "counts", cube.shape)
            file.create_virtual_dataset("virtual", layout)
    for name in ("linked", "virtual"):
        np.testing.assert_array_equal(io.load(f"{inside / 'master0.h5'}::/{name}").counts.compute(), cube)
        with pytest.raises(ScanError, match="outside the file's folder"):
            io.load(f"{inside / 'master1.h5'}::/{name}")
    monkeypatch.chdir(tmp_path)  # a name from the working folder, as people type it
    for name in ("raw.h5", "master0.h5::/linked", "master0.h5::/virtual"):
        np.testing.assert_array_equal(io.load(f"scans/{name}").counts.compute(), cube)
    with pytest.raises(ScanError, match="outside the file's folder"):
        io.load("scans/master1.h5::/linked")
    (inside / "raw.h5").unlink()
    with pytest.raises(ScanError, match=r"raw\.h5, which does not exist"):
        io.load(f"{inside / 'master0.h5'}::/virtual")


def test_filter_that_is_not_there(tmp_path: Path, cube: Cube) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((3, 4, 8))
        properties.set_filter(31999, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple(cube.shape)
        h5py.h5d.create(file.id, b"counts", h5py.h5t.NATIVE_INT64, space, properties)
    with pytest.raises(ScanError, match=r'HDF5 filter 31999 .*pip install "underpaint\[hdf5\]"'):
        io.load(tmp_path / "a.h5")


@pytest.mark.parametrize("packing", ["Bitshuffle", "Blosc", "LZ4", "Zstd"])
def test_filters_of_hdf5plugin(tmp_path: Path, cube: Cube, packing: str) -> None:
    plugin = pytest.importorskip("hdf5plugin", reason="hdf5plugin is not installed")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("counts", data=cube, chunks=(2, 2, 8), compression=getattr(plugin, packing)())
    np.testing.assert_array_equal(io.load(tmp_path / "a.h5").counts.compute(), cube)


def test_inputs_stay_as_they_are(tmp_path: Path, cube: Cube) -> None:
    path, _ = crono(tmp_path / "a.HDF5", cube)
    before = path.read_bytes()
    path.chmod(0o444)
    os.utime(path, (1, 1))
    io.describe(path)
    assert path.read_bytes() == before
    assert path.stat().st_mtime == 1
