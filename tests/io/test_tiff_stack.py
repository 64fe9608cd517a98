"""TIFF stacks, written by tifffile."""

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from underpaint import io
from underpaint.data import EnergyAxis
from underpaint.errors import ScanError

Cube = NDArray[np.int64]


@pytest.fixture
def cube() -> Cube:
    """(3, 4, 32) counts, each pixel different."""
    return np.random.default_rng(7).integers(0, 50, (3, 4, 32))


def images(cube: Cube, kind: str = "u2") -> NDArray[np.int64]:
    return np.ascontiguousarray(np.moveaxis(cube, 2, 0)).astype(kind)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["u1", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("big", [False, True])
def test_pages_are_channels(
    tmp_path: Path, cube: Cube, kind: str, order: str, compression: str | None, big: bool
) -> None:
    path = tmp_path / "stack"
    tifffile.imwrite(
        path, images(cube, kind), byteorder=order, compression=compression, bigtiff=big, photometric="minisblack"
    )
    scan = io.load(path)
    np.testing.assert_array_equal(scan.counts.compute(), cube)
    assert scan.counts.dtype == np.dtype(kind)
    np.testing.assert_array_equal(scan.counts[1:3, 2:].compute(), cube[1:3, 2:])


@pytest.mark.parametrize("scale", [1.0, 1000.0])
@pytest.mark.parametrize("name", ["stack.txt", "energies.txt", "stack_energies.txt"])
def test_energies_beside_the_stack(tmp_path: Path, cube: Cube, name: str, scale: float) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, images(cube), photometric="minisblack")
    lines = [f"{channel},{scale * (0.1 + 0.5 * channel):.3f}" for channel in range(32)]
    (tmp_path / name).write_text("channel,energy\n" + "\n".join(lines))
    scan = io.load(path)
    assert scan.axis is not None
    assert [scan.axis.gain_kev, scan.axis.zero_kev] == pytest.approx([0.5, 0.1])
    assert scan.notes[0] == f"energies from {name}"


def test_energies_given(tmp_path: Path, cube: Cube) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, images(cube), photometric="minisblack")
    (tmp_path / "mine.csv").write_text("\n".join(str(0.5 * channel) for channel in range(32)))
    assert io.load(f"{path}::mine.csv").axis == EnergyAxis(0.5, 0.0, 32)
    assert io.load(path).axis is None
    with pytest.raises(ScanError, match=r"list of energies other\.txt is neither"):
        io.load(f"{path}::other.txt")


@pytest.mark.parametrize("energies", [[1.0, 2.0], [1, 2, 3, 4, 5, 6, 7, 9], [8, 7, 6, 5, 4, 3, 2, 1]])
def test_energies_that_cannot_be(tmp_path: Path, cube: Cube, energies: list[float]) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", images(cube), photometric="minisblack")
    (tmp_path / "energies.txt").write_text("\n".join(map(str, energies)))
    with pytest.raises(ScanError, match=r"lists \d energies for 32 channels"):
        io.load(tmp_path / "stack.tif")


def test_folder_of_images(tmp_path: Path) -> None:
    cube = np.arange(3 * 4 * 12).reshape(3, 4, 12)
    for number, image in enumerate(images(cube)):
        tifffile.imwrite(tmp_path / f"ch_{number}.tif", image)
    (tmp_path / "energies.txt").write_text("\n".join(str(0.5 * channel) for channel in range(12)))
    scan = io.load(tmp_path)
    np.testing.assert_array_equal(scan.counts.compute(), cube)
    assert scan.axis == EnergyAxis(0.5, 0.0, 12)
    tifffile.imwrite(tmp_path / "ch_12.tif", np.ones((9, 9), np.uint16))
    with pytest.raises(ScanError, match=r"ch_12\.tif differs from ch_0\.tif"):
        io.load(tmp_path)


def test_folder_with_a_missing_image(tmp_path: Path, cube: Cube) -> None:
    for number, image in enumerate(images(cube)):
        tifffile.imwrite(tmp_path / f"map2_{number:04d}.tif", image)
    tifffile.imwrite(tmp_path / "map2_0034.tif", np.ones((3, 4), np.uint16))
    with pytest.raises(ScanError, match="its 33 numbered images lack 32, 33,"):
        io.load(tmp_path)
    (tmp_path / "map2_0034.tif").rename(tmp_path / "map2_0032.tif")
    assert io.load(tmp_path).shape == (3, 4, 33)
    (tmp_path / "map2_0020.tif").unlink()
    with pytest.raises(ScanError, match="its 32 numbered images lack 20,"):
        io.load(tmp_path)
    np.savetxt(tmp_path / "energies.txt", 0.02 * np.arange(32))
    assert io.load(tmp_path).axis == EnergyAxis(0.02, 0.0, 32)


def test_folder_numbered_in_steps(tmp_path: Path, cube: Cube) -> None:
    for number, image in enumerate(images(cube)):
        tifffile.imwrite(tmp_path / f"{100 + 20 * number} eV.tif", image)
    np.testing.assert_array_equal(io.load(tmp_path).counts.compute(), cube)


def test_several_numbers_a_pixel(tmp_path: Path, cube: Cube) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, cube.astype(np.uint16), photometric="minisblack", planarconfig="contig")
    np.testing.assert_array_equal(io.load(path).counts.compute(), cube)


def test_photographs_are_no_stacks(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "photo.tif", np.zeros((5, 6, 3), np.uint8), photometric="rgb")
    tifffile.imwrite(tmp_path / "map.tif", np.zeros((5, 6), np.float32))
    for name in ("photo.tif", "map.tif"):
        with pytest.raises(ScanError, match="has one image"):
            io.load(tmp_path / name)


def test_rows_or_maps_as_pages_are_no_stack(tmp_path: Path, cube: Cube) -> None:
    rows = np.ascontiguousarray(np.tile(cube, 4)).astype("u2")
    tifffile.imwrite(tmp_path / "rows.tif", rows, photometric="minisblack")
    with pytest.raises(ScanError, match=r"3 images of 4 x 128, and spectra have 32 channels or more"):
        io.load(tmp_path / "rows.tif")
    (tmp_path / "maps").mkdir()
    for element in ("Ca", "Fe", "Hg"):
        tifffile.imwrite(tmp_path / "maps" / f"{element}.tif", cube[:, :, 0].astype("f4"))
    with pytest.raises(ScanError, match="3 images of 3 x 4"):
        io.load(tmp_path / "maps")


def test_cut_off(tmp_path: Path, cube: Cube) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, images(cube), photometric="minisblack")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ScanError):
        io.load(path).counts.compute()


def test_a_size_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.ones((2, 4, 4), np.uint16), photometric="minisblack")
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        places = [page.tags[name].valueoffset for page in file.pages for name in ("ImageWidth", "ImageLength")]
    for place in places:
        content[place : place + 2] = (60000).to_bytes(2, "little")
    path.write_bytes(bytes(content))
    with pytest.raises(ScanError, match="14400 MB, and holds"):
        io.load(path)


def test_images_that_are_rows_of_spectra_are_refused(tmp_path: Path) -> None:
    channel = np.arange(256)
    spectrum = 2 + 200 * np.exp(-0.5 * ((channel - np.array([[80], [150]])) / 3) ** 2).sum(axis=0)
    counts = np.random.default_rng(0).poisson(np.linspace(0.5, 2.0, 40)[:, None, None] * spectrum, (40, 48, 256))
    tifffile.imwrite(tmp_path / "rows.tif", counts.astype("u2"), photometric="minisblack")
    with pytest.raises(ScanError, match=r"has 40 images of 48 x 256.*not for each row"):
        io.load(tmp_path / "rows.tif")
    tifffile.imwrite(tmp_path / "channels.tif", np.moveaxis(counts, 2, 0).astype("u2"), photometric="minisblack")
    np.testing.assert_array_equal(io.load(tmp_path / "channels.tif").counts.compute(), counts)


def test_what_the_library_says_of_a_damaged_file_goes_to_no_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    entries = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 32), (273, 4, 1, 8), (278, 4, 1, 8), (279, 4, 1, 10)]
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    circle = struct.pack("<I", 8)
    (tmp_path / "a.tif").write_bytes(struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + body + circle)
    with pytest.raises(ScanError):
        io.load(tmp_path / "a.tif")
    assert capfd.readouterr() == ("", "")
