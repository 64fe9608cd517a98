"""Pixels and regions: read, checked and summed."""

import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from underpaint.data import EnergyAxis, Scan
from underpaint.errors import ScanError
from underpaint.io import load, save_scan
from underpaint.io._source import CheckedCube
from underpaint.pigments.explain import pixel_mask, read_pixel, read_region, region, region_spectrum
from underpaint.pigments.explain.region import region_counts

SHAPE = (5, 7)
MASK = np.zeros(SHAPE, dtype=bool)
MASK[1, 2] = MASK[3, 4:6] = True


def scan(**more: object) -> Scan:
    counts = np.arange(5 * 7 * 16, dtype=np.uint16).reshape(5, 7, 16)
    return Scan(counts, axis=EnergyAxis(0.1, 0.0, 16), name="panel", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["mask.npy", "mask.png", "mask.tif", "mask.csv"])
def test_a_region_is_the_same_from_every_kind_of_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith(".npy"):
        np.save(path, MASK)
    elif name.endswith(".png"):
        Image.fromarray(MASK.astype(np.uint8) * 255).save(path)
    elif name.endswith(".tif"):
        tifffile.imwrite(path, MASK.astype(np.uint8))
    else:
        path.write_text("row,column\n1,2\n3,4\n\n3,5\n")
    np.testing.assert_array_equal(read_region(path, SHAPE), MASK)


def test_a_regions_spectrum_is_the_sum_of_its_pixels() -> None:
    panel = scan(live_time_s=np.full(SHAPE, 0.5))
    spectrum = region_spectrum(panel, MASK)
    np.testing.assert_array_equal(spectrum.counts, np.asarray(panel.counts)[MASK].sum(axis=0))
    assert spectrum.live_time_s == 1.5
    assert spectrum.name == "panel, region of 3 pixels"
    single = region_spectrum(panel, pixel_mask(1, 2, SHAPE))
    np.testing.assert_array_equal(single.counts, np.asarray(panel.counts)[1, 2])
    assert single.name == "panel, pixel (1, 2)"


def test_no_more_of_a_file_is_read_than_a_region_or_pixel_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_scan(scan(), tmp_path / "panel.h5")
    opened = load(tmp_path / "panel.h5")
    read: list[tuple[int, ...]] = []
    original = CheckedCube.__getitem__

    def recorded(cube: CheckedCube, key: object) -> object:
        counts = original(cube, key)
        read.append(counts.shape[:2])
        return counts

    monkeypatch.setattr(CheckedCube, "__getitem__", recorded)
    monkeypatch.setattr(region, "_MAX_READ_BYTES", 4 * 16 * 2 * 2)  # two rows of the four columns that the region spans
    total, highest = region_counts(opened, MASK)
    np.testing.assert_array_equal(total, np.asarray(scan().counts)[MASK].sum(axis=0))
    np.testing.assert_array_equal(highest, np.asarray(scan().counts)[MASK].max(axis=0))
    assert read == [(2, 4), (1, 4)]
    np.testing.assert_array_equal(opened.pixel(3, 4).counts, np.asarray(scan().counts)[3, 4])
    assert read[2:] == [(1, 1)]
    with pytest.raises(IndexError):
        opened.pixel(5, 0)


def test_missing_pixels_of_a_region_are_left_out() -> None:
    is_present = np.ones(SHAPE, dtype=bool)
    is_present[1, 2] = False
    panel = scan(present=is_present)
    np.testing.assert_array_equal(region_spectrum(panel, MASK).counts, np.asarray(panel.counts)[3, 4:6].sum(axis=0))
    with pytest.raises(ScanError, match="none of its 1 pixels has a spectrum"):
        region_spectrum(panel, pixel_mask(1, 2, SHAPE))


def test_a_pixel_is_two_numbers_inside_the_scan() -> None:
    assert read_pixel("3, 4") == (3, 4)
    for text in ("3", "a,b", "1,2,3", "1.5,2"):
        with pytest.raises(ScanError, match="--pixel 12,40"):
            read_pixel(text)
    with pytest.raises(ScanError, match=r"no pixel \(-1, 0\); rows are 0 to 4, columns 0 to 6"):
        pixel_mask(-1, 0, SHAPE)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("region.txt", "1,2", "'.txt' are not supported"),
        ("region.csv", "row,column\n9,9\n", r"no pixel \(9, 9\)"),
        ("region.csv", "row,column\n1,2\n\n1,two\n", r"line 4 is '1,two', not the row and column of a pixel"),
        ("region.csv", "1,two\n1,2\n", r"line 1 is '1,two'.* counted from 0"),
        ("region.csv", "1.5,2.5\n1,2\n", r"line 1 is '1\.5,2\.5', not the row"),
        ("region.csv", "1,2\n3\n", r"line 2 is '3', not the row"),
        ("region.csv", "1,2\n1.5,2\n", r"line 2 is '1\.5,2', not the row"),
        ("region.csv", "column,row\n1,2\n", r"its columns are 'column,row', and would be taken for row and column"),
        ("region.csv", "x,y\n1,2\n", r"Put the row first"),
        ("region.csv", "", "no pixel belongs to it"),
        ("region.npy", "not an array", "Cannot read the region"),
        ("region.png", "not a picture", "Cannot read the region"),
    ],
)
def test_a_region_that_cannot_be_used_is_refused(name: str, text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ScanError, match=words):
        read_region(path, SHAPE)


def test_nan_of_a_mask_lies_outside(tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", np.where(MASK, 1.0, np.nan))
    np.testing.assert_array_equal(read_region(tmp_path / "mask.npy", SHAPE), MASK)


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", MASK.T)
    with pytest.raises(ScanError, match="the mask has 7 x 5 pixels, the scan 5 rows x 7 columns"):
        read_region(tmp_path / "mask.npy", SHAPE)
    with pytest.raises(ScanError, match="no such file"):
        read_region(tmp_path / "other.npy", SHAPE)


@pytest.mark.parametrize("name", ["mask.npy", "mask.png", "mask.tif"])
def test_a_mask_of_another_size_is_refused_before_it_is_unpacked(name: str, tmp_path: Path) -> None:
    path, side = tmp_path / name, 9500
    if name.endswith(".npy"):
        with path.open("wb") as stream:
            header = {"descr": "|b1", "fortran_order": False, "shape": (side, side)}
            np.lib.format.write_array_header_1_0(stream, header)
            stream.truncate(stream.tell() + side**2)
    elif name.endswith(".png"):
        Image.new("1", (side, side)).save(path)
    else:
        tifffile.imwrite(path, np.zeros((side, side), np.uint8), compression="zlib")
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ScanError, match=f"the mask has {side} x {side} pixels"):
                read_region(path, SHAPE)
        assert tracemalloc.get_traced_memory()[1] < side**2 / 4
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["datetime64[s]", "complex64", "S4"])
def test_a_mask_of_no_numbers_is_refused(kind: str, tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", np.zeros(SHAPE, kind))
    with pytest.raises(ScanError, match="not numbers"):
        read_region(tmp_path / "mask.npy", SHAPE)
