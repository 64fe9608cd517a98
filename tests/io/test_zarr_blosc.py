"""Chunks of a zarr store packed with Blosc: read where sound, refused where the library would leave its buffer."""

import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from underpaint.errors import ScanError
from underpaint.io import load
from underpaint.io.readers.zarr import blosc_fault

CUBE = np.random.default_rng(3).poisson(3.0, (3, 4, 256)).astype(np.uint16)


def store(folder: Path, version: int) -> Path:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    compressor = (
        pytest.importorskip("numcodecs").Blosc(cname="lz4", shuffle=1)
        if version == 2
        else zarr.codecs.BloscCodec(cname="lz4")
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = zarr.create_group(folder / "a.zarr", zarr_format=version)
        array = root.create_array(
            "counts", shape=CUBE.shape, dtype=CUBE.dtype, chunks=(2, 4, 256), compressors=compressor
        )
        array[:] = CUBE
    return folder / "a.zarr"


def a_chunk(place: Path) -> Path:
    return next(
        entry for entry in sorted(place.rglob("*")) if entry.is_file() and entry.name.replace(".", "").isdecimal()
    )


@pytest.mark.parametrize("version", [2, 3])
def test_sound_blosc_chunks_are_read(tmp_path: Path, version: int) -> None:
    np.testing.assert_array_equal(load(store(tmp_path, version)).counts.compute(), CUBE)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [(4, 2**31, "declares"), (8, 0, "blocks of 0"), (12, 2**30, "declares"), (16, 2**30, "outside")],
)
def test_blosc_chunks_that_point_outside_are_refused(tmp_path: Path, place: int, value: int, message: str) -> None:
    path = store(tmp_path, 2)
    chunk = a_chunk(path)
    content = bytearray(chunk.read_bytes())
    assert blosc_fault(bytes(content), 2 * 4 * 256 * 2) == ""
    struct.pack_into("<I", content, place, value)
    chunk.write_bytes(bytes(content))
    with pytest.raises(ScanError, match=message):
        load(path).counts.compute()


def test_a_cut_blosc_chunk_is_refused(tmp_path: Path) -> None:
    path = store(tmp_path, 2)
    chunk = a_chunk(path)
    chunk.write_bytes(chunk.read_bytes()[:7])
    with pytest.raises(ScanError, match="the header alone has 16"):
        load(path).counts.compute()


@pytest.mark.parametrize("packing", ["lz4", "zstd", "blosclz", "zlib"])
@pytest.mark.parametrize("items", [np.uint8, np.uint16, np.float64])
def test_whatever_blosc_packs_is_sound(packing: str, items: type) -> None:
    blosc = pytest.importorskip("numcodecs").Blosc
    for size in (1, 100, 40_000):
        noisy: NDArray[np.generic] = np.random.default_rng(size).integers(0, 200, size).astype(items)
        for values in (np.zeros_like(noisy), noisy):
            for block in (0, 2048):
                packed = bytes(blosc(cname=packing, blocksize=block).encode(values))
                assert blosc_fault(packed, values.nbytes) == ""
