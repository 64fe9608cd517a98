"""HDF5, ripple, npz and single spectra; formats that are not known."""

import lzma
import pickle
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from underpaint import io
from underpaint.data import EnergyAxis, Scan
from underpaint.errors import OutputError, ScanError
from underpaint.io import _source

Cube = NDArray[np.int64]
PURE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "pure_elements"


# --- npz -------------------------------------------------------------------------------------------


def test_more_counts_than_any_detector_counts_are_refused() -> None:
    """Their sum would wrap round, and look like a scan."""
    counts = np.ones((4, 4, 64), np.uint64)
    counts[1, 2, 3] = 2**64 - 1
    with pytest.raises(ScanError, match=r"contains 1\.84e\+19 counts; up to 1e\+12 are possible"):
        io.survey(Scan(counts, name="damaged"))


def test_npz_with_calibration(tmp_path: Path, cube: Cube) -> None:
    path = tmp_path / "mon scan é.npz"
    np.savez_compressed(path, cube=cube, gain_kev=0.5, zero_kev=-0.1, live_time_s=2.0, step_mm=[0.5, 0.25])
    scan = io.load(path)
    np.testing.assert_array_equal(scan.counts.compute(), cube)
    assert scan.axis == EnergyAxis(0.5, -0.1, 8)
    assert (scan.step_mm, scan.name) == ((0.5, 0.25), "mon scan é")
    np.testing.assert_array_equal(scan.live_time_s, np.full((3, 4), 2.0))


def test_npz_named_array(tmp_path: Path, cube: Cube) -> None:
    path = tmp_path / "two.npz"
    other = np.random.default_rng(8).integers(0, 90, cube.shape)
    np.savez(path, det_1=cube, det_2=other, note=np.array("text"))
    scan = io.load(f"{path}::det_2")
    np.testing.assert_array_equal(scan.counts.compute(), other)
    assert (scan.detector, scan.axis) == ("2", None)
    with pytest.raises(ScanError, match=r"det_1.*det_2.*without energy calibration they cannot be aligned"):
        io.load(path)
    with pytest.raises(ScanError, match=r"no array of that name, only det_1 \(3, 4, 8\) int64, det_2"):
        io.load(f"{path}::det_3")
    with pytest.raises(ScanError, match="a non-empty 3-D array"):
        io.load(f"{path}::note")
    assert [scan.name for scan in io.load_all(path)] == ["two_det_1", "two_det_2"]


def test_npz_detectors_on_one_axis_are_added(tmp_path: Path, cube: Cube) -> None:
    other = np.random.default_rng(8).integers(0, 90, cube.shape)
    np.savez(tmp_path / "two.npz", a=cube, b=other, gain_kev=0.02)
    np.testing.assert_allclose(io.load(tmp_path / "two.npz").counts.compute(), cube + other)


def test_npz_never_unpickles(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", cube=np.array([[[{}]]], dtype=object), allow_pickle=True)
    with pytest.raises(ScanError, match="of numbers is needed"):
        io.load(tmp_path / "objects.npz")


def test_damaged_npz(tmp_path: Path, cube: Cube) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, cube=cube)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ScanError, match="archive is damaged"):
        io.load(path)


@pytest.mark.parametrize("gain", [np.array("0.02"), np.array([])], ids=["text", "empty"])
def test_npz_whose_calibration_is_no_number(tmp_path: Path, cube: Cube, gain: NDArray[Any]) -> None:
    np.savez(tmp_path / "a.npz", cube=cube, gain_kev=gain)
    with pytest.raises(ScanError, match=r"gain_kev: it holds .* a number is needed"):
        io.load(tmp_path / "a.npz")


def test_npz_that_promises_more_than_it_holds(tmp_path: Path, cube: Cube) -> None:
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<i8", "fortran_order": False, "shape": (10**6, 10**6, 9)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("cube.npy", header.getvalue() + cube.tobytes())
    with pytest.raises(
        ScanError, match=r"cube\.npy declares \(1000000, 1000000, 9\) int64, 72000000000000 bytes, and holds"
    ):
        io.load(tmp_path / "a.npz")


def test_npz_whose_packed_numbers_are_damaged(tmp_path: Path, cube: Cube) -> None:
    np.savez_compressed(tmp_path / "a.npz", cube=cube)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[60:64] = b"\xff" * 4
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ScanError, match="Cannot read"):
        io.load(tmp_path / "a.npz")


def test_npz_cube_travels_without_its_counts(tmp_path: Path, cube: Cube) -> None:
    np.savez(tmp_path / "a.npz", cube=cube)
    scan = io.load(tmp_path / "a.npz")
    scan.counts.compute()
    copy: Any = pickle.loads(pickle.dumps(scan.counts))  # noqa: S301
    np.testing.assert_array_equal(copy.compute(), cube)


def test_counts_that_cannot_be(tmp_path: Path, cube: Cube) -> None:
    wrong = cube.astype(float)
    wrong[2, 1, 5] = -1.0
    np.savez(tmp_path / "a.npz", cube=wrong)
    with pytest.raises(ScanError, match=r"pixel \(row 2, column 1\) holds .* counts in channel 5"):
        io.load(tmp_path / "a.npz").counts.compute()


def test_empty_scan(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", cube=np.zeros((0, 4, 8)))
    with pytest.raises(ScanError, match="non-empty"):
        io.load(tmp_path / "a.npz")


def test_live_time_of_another_shape(tmp_path: Path, cube: Cube) -> None:
    np.savez(tmp_path / "a.npz", cube=cube, live_time_s=np.ones((4, 3)))
    with pytest.raises(ScanError, match=r"live_time_s has the shape \(4, 3\)"):
        io.load(tmp_path / "a.npz")


# --- HDF5 ------------------------------------------------------------------------------------------


def pymca_stack(path: Path, cube: Cube, info: str) -> Path:
    with h5py.File(path, "w") as file:
        measurement = file.create_group("entry/measurement")
        mca = measurement.create_group("mca_0") if info == "group" else measurement
        mca["data"] = cube
        place = mca.require_group("info") if info == "group" else mca
        place["calibration"] = [0.1, 0.5, 0.0]
        place["live_time"] = np.full(cube.shape[:2], 1.5)
    return path


@pytest.mark.parametrize("info", ["beside", "group"])
def test_pymca_stack(tmp_path: Path, cube: Cube, info: str) -> None:
    scan = io.load(pymca_stack(tmp_path / "stack.h5", cube, info))
    np.testing.assert_array_equal(scan.counts.compute(), cube)
    assert scan.axis == EnergyAxis(0.5, 0.1, 8)
    np.testing.assert_array_equal(scan.live_time_s, np.full((3, 4), 1.5))


def test_pymcas_unknown_calibration_is_none(tmp_path: Path, cube: Cube) -> None:
    path = pymca_stack(tmp_path / "stack.h5", cube, "beside")
    with h5py.File(path, "r+") as file:
        file["entry/measurement/calibration"][...] = [0.0, 1.0, 0.0]
    scan = io.load(path)
    assert scan.axis is None
    assert scan.notes == ("no energy calibration in the file",)


def test_hdf5_by_path(tmp_path: Path, cube: Cube) -> None:
    path = tmp_path / "any.h5"
    with h5py.File(path, "w") as file:
        file["a/first"], file["a/second"], file["flat"] = cube, cube[::-1] // 2, np.ones(4)
    np.testing.assert_array_equal(io.load(f"{path}::/a/second").counts.compute(), cube[::-1] // 2)
    with pytest.raises(ScanError, match=r"/a/first.*/a/second.*cannot be aligned"):
        io.load(path)
    with pytest.raises(ScanError, match=r"a 3-D array .* is needed. The file holds /a/first"):
        io.load(f"{path}::/flat")
    with pytest.raises(ScanError, match="nothing there"):
        io.load(f"{path}::/none")


def test_hdf5_of_images(tmp_path: Path, cube: Cube) -> None:
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file["entry/measurement/data"] = np.moveaxis(cube, 2, 0)
        file["entry/measurement/data"].attrs["interpretation"] = "image"
    np.testing.assert_array_equal(io.load(tmp_path / "images.h5").counts.compute(), cube)


def test_hdf5_blocks_follow_the_stored_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cube = np.random.default_rng(0).integers(0, 99, (20, 3, 8))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("counts", data=cube, chunks=(4, 3, 2)).attrs["interpretation"] = "spectrum"
    monkeypatch.setattr(_source, "BLOCK_BYTES", 7 * 3 * 8 * 8)
    scan = io.load(tmp_path / "a.h5")
    assert scan.counts.chunks[0] == (4, 4, 4, 4, 4)
    np.testing.assert_array_equal(scan.counts.compute(), cube)


def test_settings_and_truth_of_other_files(tmp_path: Path, cube: Cube) -> None:
    path = pymca_stack(tmp_path / "stack.h5", cube, "beside")
    assert (io.read_settings(path), io.read_truth(path)) == ({}, {})
    (tmp_path / "a.txt").write_text("x")
    for read in (io.read_settings, io.read_truth):
        with pytest.raises(ScanError, match="Check that it is an HDF5 file"):
            read(tmp_path / "a.txt")


def test_hdf5_of_links_alone_names_them(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["data"] = h5py.ExternalLink("../other.h5", "/counts")
        file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")
    message = r"only links, which are not followed \(/a to /b, /b to /a, /data to /counts in \.\./other\.h5\)"
    with pytest.raises(ScanError, match=message):
        io.load(tmp_path / "links.h5")
    h5py.File(tmp_path / "none.h5", "w").close()
    with pytest.raises(ScanError, match="of numbers, nor any other"):
        io.load(tmp_path / "none.h5")


def test_hdf5_without_cube_and_damaged(tmp_path: Path, cube: Cube) -> None:
    with h5py.File(tmp_path / "none.h5", "w") as file:
        file["image"] = np.ones((4, 4))
    with pytest.raises(ScanError, match=r"no 3-D array .* only /image \(4, 4\)"):
        io.load(tmp_path / "none.h5")
    intact = pymca_stack(tmp_path / "stack.h5", cube, "beside")
    (tmp_path / "cut.h5").write_bytes(intact.read_bytes()[:1500])
    with pytest.raises(ScanError, match="damaged"):
        io.load(tmp_path / "cut.h5")


def panel(cube: Cube) -> Scan:
    present = np.ones(cube.shape[:2], dtype=bool)
    present[1, 1] = False
    return Scan(
        cube.astype(np.uint32),
        EnergyAxis(0.5, 0.1, 8),
        name="panel",
        live_time_s=np.full(cube.shape[:2], 0.5),
        step_mm=(1.0, 2.0),
        detector="SDD",
        present=present,
        notes=("simulated",),
    )


def test_panel_round_trip(tmp_path: Path, cube: Cube) -> None:
    scan, path = panel(cube), tmp_path / "panel.h5"
    truth = {"strip": np.arange(12).reshape(3, 4), "names": np.array(["zinc white", "été"])}
    io.save_scan(scan, path, truth=truth, settings={"seed": 1})
    again = io.load(path)
    np.testing.assert_array_equal(again.counts.compute(), cube)
    assert again.counts.dtype == np.uint32
    for name in ("axis", "name", "step_mm", "detector", "notes"):
        assert getattr(again, name) == getattr(scan, name)
    np.testing.assert_array_equal(again.live_time_s, scan.live_time_s)
    np.testing.assert_array_equal(again.present, scan.present)
    assert io.read_settings(path) == {"seed": 1}
    read = io.read_truth(path)
    np.testing.assert_array_equal(read["strip"], truth["strip"])
    assert read["names"].tolist() == ["zinc white", "été"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["panel.h5"]


def test_panel_is_nexus(tmp_path: Path, cube: Cube) -> None:
    io.save_scan(panel(cube), tmp_path / "panel.h5")
    with h5py.File(tmp_path / "panel.h5") as file:
        data = file[file.attrs["default"]][file["entry"].attrs["default"]]
        assert (data.attrs["NX_class"], data.attrs["signal"]) == ("NXdata", "counts")
        assert data["counts"].compression == "gzip"
        np.testing.assert_allclose(data["calibration"][()], [0.1, 0.5, 0.0])


def test_panel_that_cannot_be_written(tmp_path: Path, cube: Cube) -> None:
    with pytest.raises(OutputError, match="Cannot write"):
        io.save_scan(panel(cube), tmp_path / "no folder" / "panel.h5")
    wrong = cube.astype(float)
    wrong[0, 0, 0] = -1
    np.savez(tmp_path / "a.npz", cube=wrong)
    with pytest.raises(ScanError, match="holds"):
        io.save_scan(io.load(tmp_path / "a.npz"), tmp_path / "panel.h5")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.npz"]


# --- ripple ----------------------------------------------------------------------------------------


def ripple(path: Path, cube: Cube, kind: str, order: str, record_by: str, **extra: object) -> Path:
    names = {"i": "signed", "u": "unsigned", "f": "float"}
    dtype = np.dtype({"big-endian": ">", "little-endian": "<"}[order] + kind)
    header = {
        "width": cube.shape[1],
        "height": cube.shape[0],
        "depth": cube.shape[2],
        "offset": 3,
        "data-length": dtype.itemsize,
        "data-type": names[dtype.kind],
        "byte-order": order,
        "record-by": record_by,
    } | {key.replace("_", "-"): value for key, value in extra.items()}
    path.write_text("key\tvalue\n" + "".join(f"{key}\t{value}\n" for key, value in header.items()))
    ordered = cube if record_by == "vector" else np.moveaxis(cube, 2, 0)
    path.with_suffix(".raw").write_bytes(b"xyz" + ordered.astype(dtype).tobytes())
    return path


@pytest.mark.parametrize("record_by", ["vector", "image"])
@pytest.mark.parametrize("order", ["big-endian", "little-endian"])
@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"])
def test_ripple(tmp_path: Path, cube: Cube, kind: str, order: str, record_by: str) -> None:
    header = ripple(tmp_path / "mon scan é.rpl", cube, kind, order, record_by)
    for path in (header, header.with_suffix(".raw")):
        counts = io.load(path).counts.compute()
        np.testing.assert_array_equal(counts, cube)
        assert counts.dtype == np.dtype(kind)


def test_ripple_calibration(tmp_path: Path, cube: Cube) -> None:
    extra = {
        "depth_scale": 20,
        "depth_origin": -100,
        "depth_units": "eV",
        "width_scale": 250,
        "width_units": "um",
    }
    path = ripple(tmp_path / "a.rpl", cube, "u2", "big-endian", "vector", **extra, height_scale=0.5, height_units="mm")
    scan = io.load(path)
    assert scan.axis is not None
    assert [scan.axis.gain_kev, scan.axis.zero_kev] == pytest.approx([0.02, -0.1])
    assert scan.step_mm == (0.5, 0.25)


@pytest.mark.parametrize(
    ("extra", "gain_kev"),
    [
        ({"depth_scale": 0.02}, 0.02),
        ({"depth_scale": 0.02, "depth_units": "keV"}, 0.02),
        ({"ev_per_chan": 20}, 0.02),
        ({"depth_scale": 1}, None),
        ({"depth_scale": 0.02, "depth_units": "nm"}, None),
    ],
)
def test_ripple_units(tmp_path: Path, cube: Cube, extra: dict[str, object], gain_kev: float | None) -> None:
    scan = io.load(ripple(tmp_path / "a.rpl", cube, "u2", "big-endian", "vector", **extra))
    assert (None if scan.axis is None else scan.axis.gain_kev) == gain_kev
    assert bool(scan.notes) == (gain_kev is None)


def test_ripple_that_promises_more_than_it_holds(tmp_path: Path, cube: Cube) -> None:
    path = ripple(tmp_path / "a.rpl", cube, "u2", "big-endian", "vector", width=4_000_000_000)
    with pytest.raises(ScanError, match=r"need \d+ bytes, a.raw holds 195"):
        io.load(path)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"width": 0}, "width is 0; it must be an integer, 1 or more"),
        ({"depth": "many"}, "depth is 'many'; a number is needed"),
        ({"data_type": "complex"}, "data-type complex"),
        ({"data_length": 3}, "data-length 3"),
        ({"record_by": "dont-care"}, "record-by is 'dont-care'"),
    ],
)
def test_ripple_header_with_nonsense(tmp_path: Path, cube: Cube, extra: dict[str, object], message: str) -> None:
    header = ripple(tmp_path / "a.rpl", cube, "u2", "big-endian", "vector")
    text = header.read_text()
    for key, value in extra.items():
        text += f"{key.replace('_', '-')}\t{value}\n"
    header.write_text(text)
    with pytest.raises(ScanError, match=message):
        io.load(header)


def test_ripple_without_its_numbers(tmp_path: Path, cube: Cube) -> None:
    header = ripple(tmp_path / "a.rpl", cube, "u2", "big-endian", "vector")
    header.with_suffix(".raw").unlink()
    with pytest.raises(ScanError, match=r"a\.raw, is not next to it"):
        io.load(header)


# --- single spectra --------------------------------------------------------------------------------

EMSA = """#FORMAT      : EMSA/MAS Spectral Data File
#NPOINTS     : 4.
#XUNITS      : {units}
#DATATYPE    : {kind}
#XPERCHAN    : {gain}
#OFFSET      : -0.4
#LIVETIME    : 30.0
#SPECTRUM    : Spectral Data Starts Here
{data}
#ENDOFDATA   :
"""


@pytest.mark.parametrize(("kind", "data"), [("XY", "0, 1.\n1, 2.\n2, 0.\n3, 5."), ("Y", "1., 2., 0.,\n5.")])
def test_emsa(tmp_path: Path, kind: str, data: str) -> None:
    path = tmp_path / "spectrum"
    path.write_text(EMSA.format(units="keV", kind=kind, gain=0.2, data=data))
    spectrum = io.read_spectrum(path)
    np.testing.assert_array_equal(spectrum.counts, [1, 2, 0, 5])
    assert spectrum.axis == EnergyAxis(0.2, -0.4, 4)
    assert spectrum.live_time_s == 30.0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("1\n2\n3", "declares 4. channels, its 3 lines hold 3 numbers"),
        ("1\n2\n-30000\n4", "-30000 counts in channel 2"),
        ("1\n2\nx\n4", "'x' is not a number"),
    ],
)
def test_emsa_with_nonsense(tmp_path: Path, data: str, message: str) -> None:
    path = tmp_path / "a.msa"
    path.write_text(EMSA.format(units="keV", kind="Y", gain=0.01, data=data))
    with pytest.raises(ScanError, match=message):
        io.read_spectrum(path)


def test_emsa_cut_off(tmp_path: Path) -> None:
    text = EMSA.format(units="keV", kind="Y", gain=0.01, data="1\n2\n3\n4")
    (tmp_path / "a.msa").write_text(text[: text.index("#ENDOFDATA")])
    with pytest.raises(ScanError, match="cut off"):
        io.read_spectrum(tmp_path / "a.msa")


def test_emsa_of_a_horiba(tmp_path: Path) -> None:
    path = PURE / "Cu.txt"
    if not path.is_file():
        pytest.skip("the pure element spectra are not there (shared/data/pure_elements)")
    spectrum = io.read_spectrum(path)
    assert spectrum.axis == EnergyAxis(0.01, -0.4, 4096)
    assert abs(spectrum.axis.energy_kev[spectrum.counts.argmax()] - 8.04) < 0.03


# --- what is no scan -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"hello, world\n", "it is text that begins 'hello"),
        (b"\x00\x01\x02binary", "it is binary data"),
        (b"\xfd7zXZ\x00....", r"archive \(xz\). Extract the archive"),
        (b"\x1f\x8b....", r"archive \(gzip\)"),
        (b"name".ljust(257, b"\x00") + b"ustar\x0000", r"archive \(tar\)"),
        (
            bytes(112) + b"\x00\x20\x01\x00" + bytes(40),
            r"a Canberra or Genie spectrum \(CNF\). Export the spectrum .* as .spe",
        ),
        (
            b"\xff\xff\x01\x00" + bytes(12) + b"07OCT24" + bytes(20),
            r"an Ortec spectrum \(CHN\). Export the spectrum from Maestro",
        ),
        (b"\x93NUMPY\x01\x00v\x00{", r"a single numpy array \(.npy\). Put the array into an .npz"),
        (b"\x80\x04\x95\x00\x00", "a Python pickle, which could run code"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "a PNG picture. A scan is a spectrum for each pixel"),
        (b"<?xml version='1.0'?>\n<!-- a --><xrfResult/>", r"XML of another kind \(<xrfResult>\). Export"),
        (b"<!DOCTYPE html><html>", "a web page. The download failed"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"[attenuators]\nkapton = 0, -, 0.0\n", "a configuration of PyMca's fit. Give the spectrum"),
        (b'{"counts": [1, 2]}', "JSON text. Export the spectra"),
    ],
)
def test_unknown_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "what.npz"
    path.write_bytes(content)
    with pytest.raises(ScanError, match=message):
        io.load(path)


def test_unknown_files_are_not_unpacked_to_see_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(*_: object, **__: object) -> None:
        pytest.fail("it was unpacked, which takes as much memory as its first bytes ask for")

    monkeypatch.setattr(lzma, "LZMAFile", unpack)
    (tmp_path / "a").write_bytes(b"\x5d\xff\xff\xff\x7f" + b"\xff" * 8 + b"\x00" * 600)
    with pytest.raises(ScanError, match="no format known here"):
        io.load(tmp_path / "a")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="there is no such file or folder"):
        io.load(tmp_path / "nowhere")
    with pytest.raises(ScanError, match="the folder is empty"):
        io.load(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ScanError, match=r"holds 1 entries \(notes\.txt\), but no \.mca spectra"):
        io.load(tmp_path)


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"x")

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ScanError, match=r"Permission denied\. Check the path and that you may read it"):
        io.load(path)


def test_name_in_a_file_without_names(mca_folder: Path) -> None:
    with pytest.raises(ScanError, match=r"None_1\.mca is none of them\. Drop ::x"):
        io.load(f"{mca_folder / '10264' / 'None_1.mca'}::x")


def test_colons_in_a_path_that_exists(tmp_path: Path, cube: Cube) -> None:
    path = tmp_path / "a::b.npz"
    np.savez(path, cube=cube)
    assert io.load(path).shape == (3, 4, 8)
    assert io.load(f"{path}::cube").shape == (3, 4, 8)


# --- description -----------------------------------------------------------------------------------


def test_describe(mca_folder: Path, cube: Cube) -> None:
    (mca_folder / "10264" / "None_6.mca").unlink()
    info = io.describe(mca_folder)
    recorded = cube.copy()
    recorded[1, 1] = 0
    assert info.shape == (3, 4, 8)
    assert (info.n_missing, info.n_empty) == (1, 0)
    assert info.total_counts == recorded.sum()
    assert info.mean_pixel_counts == pytest.approx(recorded.sum() / 11)
    assert info.max_pixel_counts == recorded.sum(axis=2).max()
    np.testing.assert_array_equal(info.sum_spectrum.counts, recorded.sum(axis=(0, 1)))
    np.testing.assert_array_equal(info.max_spectrum.counts, recorded.max(axis=(0, 1)))
    assert (info.live_time_s, info.real_time_s) == (None, 3.004)
    assert info.facts()["gain_kev"] == pytest.approx(0.5)


def test_a_table_with_energies_in_npz_is_a_list_of_spectra(tmp_path: Path) -> None:
    counts = np.random.default_rng(3).poisson(9, (5, 200))
    energy = 0.02 + 0.1 * np.arange(200)
    for table in (counts, counts.T):
        np.savez(tmp_path / "list.npz", cps=table, energy_kev=energy, names=np.array(list("abcde")))
        scan = io.load(tmp_path / "list.npz")
        assert scan.shape == (1, 5, 200)
        np.testing.assert_array_equal(scan.counts.compute()[0], counts)
        assert scan.axis is not None
        assert (scan.axis.gain_kev, scan.axis.zero_kev) == pytest.approx((0.1, 0.02))
