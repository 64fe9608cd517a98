"""EDF files as fabio and PyMca write them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from underpaint import io
from underpaint.data import EnergyAxis
from underpaint.errors import ScanError

Cube = NDArray[np.int64]
KINDS = ["u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
HEADER = {"MCA a": "0.1", "MCA b": "0.5", "MCA c": "0.0"}


def fabio_edf(path: Path, frames: NDArray[Any], header: dict[str, str] | None = None) -> Path:
    module = pytest.importorskip("fabio.edfimage", reason="fabio is not installed")
    image = module.EdfImage(data=frames[0], header=dict(header or {}))
    for frame in frames[1:]:
        image.append_frame(data=frame, header=dict(header or {}))
    image.write(str(path))
    return path


def pymca_edf(path: Path, frames: NDArray[Any], order: str = "LowByteFirst") -> Path:
    module = pytest.importorskip("PyMca5.PyMcaIO.EdfFile", reason="PyMca5 is not installed")
    file = module.EdfFile(str(path), "wb+")
    for frame in frames:
        file.WriteImage(dict(HEADER), frame, ByteOrder=order)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_fabio_are_rows(tmp_path: Path, cube: Cube, kind: str) -> None:
    scan = io.load(fabio_edf(tmp_path / "stack.edf", cube.astype(kind), HEADER))
    np.testing.assert_array_equal(scan.counts.compute(), cube)
    assert scan.counts.dtype == np.dtype(kind)
    assert scan.axis == EnergyAxis(0.5, 0.1, 8)
    np.testing.assert_array_equal(scan.counts[1:3, 1:3].compute(), cube[1:3, 1:3])


@pytest.mark.parametrize("order", ["LowByteFirst", "HighByteFirst"])
@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4", "u4", "f4", "f8"])
def test_frames_of_pymca_are_rows(tmp_path: Path, cube: Cube, kind: str, order: str) -> None:
    scan = io.load(pymca_edf(tmp_path / "no ending", cube.astype(kind), order))
    np.testing.assert_array_equal(scan.counts.compute(), cube)
    assert scan.axis == EnergyAxis(0.5, 0.1, 8)


def test_rows_as_pymca_stacks_them(tmp_path: Path, cube: Cube) -> None:
    stack = pytest.importorskip("PyMca5.PyMcaIO.EDFStack", reason="PyMca5 is not installed")
    lines = cube.astype(np.int32)
    files = [str(pymca_edf(tmp_path / f"line_{number}.edf", line[None])) for number, line in enumerate(lines)]
    np.testing.assert_array_equal(io.load(tmp_path).counts.compute(), stack.EDFStack(files).data)


def test_folder_of_lines_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    lines = np.arange(12 * 3 * 8).reshape(12, 3, 8).astype(np.int32)
    for number, line in enumerate(lines):
        fabio_edf(tmp_path / f"été_{number}.edf", line[None])
    scan = io.load(tmp_path)
    np.testing.assert_array_equal(scan.counts.compute(), lines)
    assert scan.notes == ("no energy calibration in the file",)


def test_a_missing_line_is_noted(tmp_path: Path) -> None:
    lines = np.arange(6 * 3 * 8).reshape(6, 3, 8).astype(np.int32)
    for number in (0, 1, 2, 4, 5):
        fabio_edf(tmp_path / f"p_{number:04d}.edf", lines[number][None])
    scan = io.load(tmp_path)
    assert scan.notes[-1] == "the numbered files lack 3: all rows below are shifted up"
    np.testing.assert_array_equal(scan.counts.compute(), lines[[0, 1, 2, 4, 5]])
    with pytest.raises(ScanError, match="its 5 numbered files lack 3,"):
        io.load(f"{tmp_path}::images")


def test_images_of_channels(tmp_path: Path, cube: Cube) -> None:
    images = np.moveaxis(cube, 2, 0).astype(np.int32)
    path = fabio_edf(tmp_path / "images.edf", images)
    np.testing.assert_array_equal(io.load(f"{path}::images").counts.compute(), cube)
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, image in enumerate(images):
        fabio_edf(folder / f"map_{number:04d}.edf", image[None])
    np.testing.assert_array_equal(io.load(f"{folder}::images").counts[1:, 2:].compute(), cube[1:, 2:])


def test_a_spectrum_a_frame(tmp_path: Path, cube: Cube) -> None:
    for number, line in enumerate(cube.astype(np.int32)):
        fabio_edf(tmp_path / f"line_{number}.edf", line[:, None, :])
    np.testing.assert_array_equal(io.load(tmp_path).counts.compute(), cube)


def second_of_xia(cube: Cube) -> Cube:
    return np.random.default_rng(1).poisson(2.0 * cube).astype(np.int32)


def xia(folder: Path, cube: Cube) -> Path:
    for number, line in enumerate(cube.astype(np.int32)):
        for detector in (0, 1):
            counts = line if detector == 0 else second_of_xia(cube)[number]
            fabio_edf(folder / f"art_xia{detector:02d}_0001_0000_{number:04d}.edf", counts[None])
        fabio_edf(folder / f"art_xiaS0_0001_0000_{number:04d}.edf", (line + second_of_xia(cube)[number])[None])
        lives = [np.tile([index, 100, 10, 9, 1000 * (index + 1) + number, 10], (line.shape[0], 1)) for index in (0, 1)]
        fabio_edf(folder / f"art_xiast_0001_0000_{number:04d}.edf", np.hstack(lives).astype(np.int32)[None])
    return folder


def test_detectors_of_xia_with_their_live_times(tmp_path: Path, cube: Cube) -> None:
    folder = xia(tmp_path, cube)
    scan = io.load(folder)
    np.testing.assert_array_equal(scan.counts.compute(), cube + second_of_xia(cube))
    first, second = io.load_all(folder)
    np.testing.assert_array_equal(second.counts.compute(), second_of_xia(cube))
    assert (first.detector, second.detector) == ("00", "01")
    assert second.live_time_s is not None
    np.testing.assert_allclose(second.live_time_s, np.tile([[2.0], [2.001], [2.002]], 4))
    np.testing.assert_array_equal(io.load(folder, detector="01").counts.compute(), second_of_xia(cube))


def test_statistics_of_another_size_give_no_live_times(tmp_path: Path, cube: Cube) -> None:
    folder = xia(tmp_path, cube)
    (folder / "art_xiast_0001_0000_0001.edf").write_bytes((folder / "art_xia00_0001_0000_0001.edf").read_bytes())
    scan = io.load(folder)
    np.testing.assert_array_equal(scan.counts.compute(), cube + second_of_xia(cube))
    assert scan.live_time_s is None


def test_scans_that_share_a_folder(tmp_path: Path, cube: Cube) -> None:
    for name in ("a_", "b_"):
        fabio_edf(tmp_path / f"{name}1.edf", cube.astype(np.int32))
    with pytest.raises(ScanError, match=r"belong to 2 series \(a_, b_\)\. Pick one"):
        io.load(tmp_path)
    np.testing.assert_array_equal(io.load(f"{tmp_path}::a_").counts.compute(), cube)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"Dim_1 = 8", b"Dim_1 = 9", r"declares 4 x 9 numbers up to byte \d+; the file holds \d+ bytes"),
        (b"Dim_1 = 8", b"Dim_1 = x", "dim_1 is 'x'; it must be an integer"),
        (b"Dim_1 = 8", b"Dim_1 = 99999999999999", "The?|the file holds"),
        (b"SignedInteger", b"SignedIntegex", "has the DataType"),
        (b"}\n", b"  ", "has no end"),
    ],
)
def test_header_with_nonsense(tmp_path: Path, cube: Cube, old: bytes, new: bytes, message: str) -> None:
    path = fabio_edf(tmp_path / "a.edf", cube[:1].astype(np.int32))
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    with pytest.raises(ScanError, match=message):
        io.load(path)


def test_cut_off_and_unlike_frames(tmp_path: Path, cube: Cube) -> None:
    path = fabio_edf(tmp_path / "a.edf", cube.astype(np.int32))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ScanError, match="The file is cut off"):
        io.load(path)
    fabio_edf(tmp_path / "folder_1.edf", cube[:1].astype(np.int32))
    fabio_edf(tmp_path / "folder_2.edf", cube[:1, :2].astype(np.int32))
    path.unlink()
    with pytest.raises(ScanError, match="the frames of a stack must be equal"):
        io.load(tmp_path)


def test_compressed_frames_are_refused(tmp_path: Path, cube: Cube) -> None:
    path = fabio_edf(tmp_path / "a.edf", cube[:1].astype(np.int32), {"Compression": "GzipCompression"})
    with pytest.raises(ScanError, match=r"packed \(gzipcompression\)"):
        io.load(path)


@pytest.mark.parametrize(
    ("fields", "gain_kev", "note"),
    [
        ({"MCA a": "-100", "MCA b": "80", "MCA c": "0"}, 0.08, "read as eV"),
        ({"McaCalib": "[-0.1, 0.08, 0.0]"}, 0.08, ""),
        ({"MCA a": "0", "MCA b": "0.08", "MCA c": "1e-3"}, None, "from a linear axis"),
        ({"MCA a": "0", "MCA b": "1", "MCA c": "0"}, None, "no energy calibration"),
    ],
)
def test_calibration_in_any_unit(tmp_path: Path, fields: dict[str, str], gain_kev: float | None, note: str) -> None:
    path = fabio_edf(tmp_path / "a.edf", np.ones((2, 3, 512), np.int32), fields)
    scan = io.load(path)
    assert (scan.axis and scan.axis.gain_kev) == (gain_kev and pytest.approx(gain_kev))
    assert any(note in text for text in (*scan.notes, ""))
