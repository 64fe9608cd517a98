"""Damaged files: what is read, or a message that says what is wrong; never a traceback, a hang or much memory."""

import os
import resource
import shutil
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from underpaint import io
from underpaint.errors import UnderpaintError

CUBE = np.random.default_rng(7).integers(0, 50, (6, 5, 16))
MORE_MEMORY_MB = 200
EXAMPLES = int(os.environ.get("UNDERPAINT_FUZZ_EXAMPLES", "40"))


def _crono(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["XRF/Spectra"] = CUBE.reshape(30, 16).astype(np.uint16)
        file["XRF/EnergyVector"] = 0.02 * np.arange(16)
        file["XRF/SpectraSelectedIndex"] = np.arange(30).reshape(6, 5, 1)


def _xrf_maps(path: Path) -> None:
    with h5py.File(path, "w") as file:
        images = np.moveaxis(np.tile(CUBE, 2), 2, 0).astype(np.float32)
        file.create_dataset("MAPS/Spectra/mca_arr", data=images, chunks=(16, 1, 1), compression="gzip")
        file["MAPS/Spectra/Energy_Calibration"] = [0.0, 0.02, 0.0]
        file["MAPS/Spectra/Elapsed_Livetime"] = np.ones((6, 5))


def _pyxrf(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name in ("det1", "det2"):
            file.create_dataset(f"xrfmap/{name}/counts", data=CUBE, compression="gzip")


def _nexus(path: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        group = file.create_group("entry/fluo")
        group.attrs.update({"NX_class": "NXdata", "signal": "data", "axes": ["y", "x", "energy"]})
        group["data"], group["energy"] = CUBE, 0.02 * np.arange(16)
        group["y"], group["x"] = np.arange(6.0), np.arange(5.0)


def _edf(path: Path) -> None:
    with path.open("wb") as stream:
        for line in CUBE.astype("<i4"):
            text = "{\nByteOrder = LowByteFirst ;\nDataType = SignedInteger ;\nDim_1 = 16 ;\nDim_2 = 5 ;\n"
            stream.write(text.ljust(510).encode() + b"}\n" + line.tobytes())


def _tiff(path: Path) -> None:
    tifffile.imwrite(path, np.moveaxis(np.tile(CUBE, 2), 2, 0).astype(np.uint16), photometric="minisblack")


def _tiff_packed(path: Path) -> None:
    images = np.moveaxis(np.tile(CUBE, 2), 2, 0).astype(np.uint16)
    tifffile.imwrite(path, images, photometric="minisblack", compression="zlib")


def _table(path: Path) -> None:
    np.savetxt(path, CUBE.reshape(15, 32), fmt="%d", delimiter=",")


def _spectrum(path: Path) -> None:
    np.savetxt(path, np.stack([0.02 * np.arange(16), CUBE[0, 0]], axis=1), delimiter=";")


def _datastack(path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store = zarr.storage.ZipStore(path, mode="w")
        zarr.create_array(store, name="maxrf_cube", data=CUBE.astype(np.float32), chunks=(2, 2, 16))
        store.close()


WRITERS: dict[str, Callable[[Path], None]] = {
    writer.__name__.strip("_"): writer
    for writer in (_crono, _xrf_maps, _pyxrf, _nexus, _edf, _tiff, _tiff_packed, _table, _spectrum, _datastack)
}


@cache
def content_of(kind: str) -> bytes:
    folder = Path(mkdtemp())
    WRITERS[kind](folder / "file")
    content = (folder / "file").read_bytes()
    shutil.rmtree(folder)
    return content


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read_all(path: Path) -> None:
    """Read it, or be told what is wrong with it."""
    try:
        for scan in io.load_all(path):
            scan.counts.compute(scheduler="synchronous")
            _ = scan.live_time_s, scan.axis
    except UnderpaintError as error:
        message = str(error)
    else:
        return
    assert message.startswith("Cannot"), message
    assert len(message) < 2000, message


@pytest.mark.parametrize("kind", WRITERS)
def test_whole_files_are_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content_of(kind))
    assert io.load_all(path)[0].counts.compute().sum() > 0


@pytest.mark.parametrize("kind", WRITERS)
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_damaged_files_are_read_or_refused(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    content = bytearray(content_of(kind))
    for _ in range(data.draw(st.integers(0, 4), "flips")):
        place = data.draw(st.integers(0, min(len(content) - 1, data.draw(st.sampled_from([600, 2500, 10**9])))))
        content[place] = data.draw(st.one_of(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]), st.integers(0, 255)))
    if data.draw(st.booleans(), "cut"):
        del content[data.draw(st.integers(1, len(content)), "length") :]
    path = tmp_path / "file"
    path.write_bytes(content)
    before = peak_mb()
    read_all(path)
    assert peak_mb() - before < MORE_MEMORY_MB
    assert path.read_bytes() == bytes(content)
