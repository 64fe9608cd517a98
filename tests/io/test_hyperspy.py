"""HyperSpy's own files, as rosettasciio writes them, with the channels anywhere; and the same layout in zarr."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from underpaint import io
from underpaint.data import EnergyAxis
from underpaint.errors import ScanError

COUNTS: NDArray[np.uint16] = np.random.default_rng(0).poisson(3.0, (6, 8, 128)).astype(np.uint16)
TIMES = {"live_time": 0.1, "real_time": 0.11}


def axes(unit: str, order: tuple[int, ...]) -> list[dict[str, Any]]:
    kev = {"keV": 1.0, "eV": 1000.0}[unit]
    pixel = {"scale": 0.5, "offset": 0.0, "units": "mm", "navigate": True}
    energy = {
        "name": "Energy",
        "size": 128,
        "scale": 0.02 * kev,
        "offset": -0.1 * kev,
        "units": unit,
        "navigate": False,
    }
    described = [{"name": "y", "size": 6, **pixel}, {"name": "x", "size": 8, **pixel, "scale": 0.25}, energy]
    return [{"_type": "UniformDataAxis", "is_binned": False, **described[number]} for number in order]


def hspy(path: Path, unit: str = "keV", order: tuple[int, ...] = (0, 1, 2), titles: tuple[str, ...] = ("map",)) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs.update({"file_format": "HyperSpy", "file_format_version": "3.3"})
        for title in titles:
            counts = COUNTS if title == titles[0] else COUNTS[::-1]
            group = file.create_group(f"Experiments/{title}")
            group.create_dataset("data", data=np.transpose(counts, order), chunks=True)
            for number, each in enumerate(axes(unit, order)):
                group.create_group(f"axis-{number}").attrs.update(each)
            group.create_group("metadata/Acquisition_instrument/TEM/Detector/EDS").attrs.update(TIMES)
            group["learning_results/factors"] = np.ones((3, 4, 128))
    return path


def zspy(path: Path, version: int) -> Path:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    root = zarr.create_group(path, zarr_format=version)
    root.create_array("Experiments/map/data", data=COUNTS, chunks=(2, 2, 128))
    for number, each in enumerate(axes("eV", (0, 1, 2))):
        root.require_group(f"Experiments/map/axis-{number}").attrs.update(each)
    root.require_group("Experiments/map/metadata/Acquisition_instrument/SEM/Detector/EDS").attrs.update(TIMES)
    root.create_array("Experiments/map/learning_results/factors", data=np.ones((3, 4, 128)))
    return path


def test_a_single_spectrum(tmp_path: Path) -> None:
    path = hspy(tmp_path / "a.hspy")
    with h5py.File(path, "r+") as file:
        group = file["Experiments/map"]
        for name in ("data", "axis-0", "axis-1"):
            del group[name]
        group["data"] = COUNTS[0, 0]
        group.move("axis-2", "axis-0")
    scan = io.load(path)
    np.testing.assert_array_equal(scan.counts.compute(), COUNTS[:1, :1])
    assert scan.axis == EnergyAxis(0.02, -0.1, 128)
    assert np.asarray(scan.live_time_s).tolist() == [[0.1]]


def check(scan: Any) -> None:
    np.testing.assert_array_equal(scan.counts.compute(), COUNTS)
    assert scan.axis is not None
    assert [scan.axis.gain_kev, scan.axis.zero_kev] == pytest.approx([0.02, -0.1])
    np.testing.assert_allclose(scan.live_time_s, 0.1)
    np.testing.assert_allclose(scan.real_time_s, 0.11)
    assert scan.step_mm == (0.5, 0.25)


@pytest.mark.parametrize("unit", ["keV", "eV"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (0, 2, 1)])
def test_hspy_with_the_channels_anywhere(tmp_path: Path, unit: str, order: tuple[int, ...]) -> None:
    check(io.load(hspy(tmp_path / "a.hspy", unit, order)))


@pytest.mark.parametrize("version", [2, 3])
def test_zspy(tmp_path: Path, version: int) -> None:
    check(io.load(zspy(tmp_path / "a.zspy", version)))


def test_hspy_of_rosettasciio(tmp_path: Path) -> None:
    writer = pytest.importorskip("rsciio.hspy", reason="rosettasciio is not installed")
    metadata = {
        "General": {"title": "map"},
        "Signal": {"signal_type": "EDS_SEM"},
        "Acquisition_instrument": {"SEM": {"Detector": {"EDS": TIMES}}},
    }
    empty: dict[str, Any] = {
        name: {} for name in ("original_metadata", "learning_results", "tmp_parameters", "package_info", "models")
    }
    signal = {"data": COUNTS, "axes": axes("keV", (0, 1, 2)), "metadata": metadata, **empty}
    signal |= {"package": "exspy", "package_version": "0.3", "attributes": {"_lazy": False}}
    writer.file_writer(str(tmp_path / "a.hspy"), signal)
    check(io.load(tmp_path / "a.hspy"))


def test_several_signals_are_several_scans(tmp_path: Path) -> None:
    path = hspy(tmp_path / "a.hspy", titles=("left", "right"))
    with pytest.raises(ScanError, match=r"a\.hspy::/Experiments/left .*; .*a\.hspy::/Experiments/right "):
        io.load(path)
    assert io.load(f"{path}::/Experiments/right").axis == EnergyAxis(0.02, -0.1, 128)
