"""maxrf4u's datastack, laid out as its ``storage.py`` writes it."""

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from underpaint import io
from underpaint.errors import ScanError

zarr = pytest.importorskip("zarr", reason="zarr is not installed")


def datastack(path: Path, cube: NDArray[Any], **more: NDArray[Any]) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store = zarr.storage.ZipStore(path, mode="w")
        zarr.create_group(store)
        for name, values in {"maxrf_cube": cube.astype(np.float32), **more}.items():
            zarr.create_array(store, name=name, data=values, chunks=tuple(min(size, 2) for size in values.shape))
        store.close()
    return path


def test_cube_and_its_latest_energies(tmp_path: Path, cube: NDArray[np.int64]) -> None:
    energies = 0.1 + 0.5 * np.arange(8)
    path = datastack(
        tmp_path / "a.datastack",
        cube,
        maxrf_maxspectrum=cube.max(axis=(0, 1)),
        maxrf_energies=2 * energies,
        maxrf_energies_=energies,
    )
    scan = io.load(path)
    np.testing.assert_array_equal(scan.counts.compute(), cube)
    np.testing.assert_array_equal(scan.counts[1:2, 1:3].compute(), cube[1:2, 1:3])
    assert scan.axis is not None
    assert [scan.axis.gain_kev, scan.axis.zero_kev] == pytest.approx([0.5, 0.1])
    assert "smooths the spectra" in scan.notes[0]


def test_without_calibration_and_by_name(tmp_path: Path, cube: NDArray[np.int64]) -> None:
    path = datastack(tmp_path / "a.datastack", cube, mine=2 * cube)
    assert io.load(path).axis is None
    np.testing.assert_array_equal(io.load(f"{path}::mine").counts.compute(), 2 * cube)
    with pytest.raises(ScanError, match=r"other \(row, column, channel\) is needed; the zarr store contains"):
        io.load(f"{path}::other")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [100000, 100000, 4096]}, "which is impossible"),
        ({"codecs": [{"name": "numcodecs.pickle"}]}, r"encoded with numcodecs\.pickle, which is not allowed"),
        ({"shape": "many"}, "damaged"),
    ],
)
def test_metadata_with_nonsense(tmp_path: Path, cube: NDArray[np.int64], change: dict[str, Any], message: str) -> None:
    intact, path = datastack(tmp_path / "whole", cube), tmp_path / "a.datastack"
    with zipfile.ZipFile(intact) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "maxrf_cube/zarr.json":
                content = json.dumps({**json.loads(content), **change}).encode()
            new.writestr(name, content)
    with pytest.raises(ScanError, match=message):
        io.load(path)
