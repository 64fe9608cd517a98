"""What a file says of energies and times and cannot be used is told, and never taken for what is not there."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from underpaint.io import convert_scan, load
from underpaint.repair import find_faulty_pixels, with_equal_live_time

COUNTS = np.random.default_rng(0).poisson(5.0, (4, 5, 16)).astype(np.uint16)
TIMES = np.ones((4, 5))
UNKNOWN = np.array([(0.0, np.nan, -3.0, 1.0, 1.0), *[(1.0,) * 5] * 3])


def scan_with(folder: Path, **datasets: Any) -> Path:
    path = folder / "scan.h5"
    with h5py.File(path, "w") as file:
        file["data"] = COUNTS
        for name, values in datasets.items():
            file[name] = values
    return path


@pytest.mark.parametrize(
    ("datasets", "note"),
    [
        ({"calibration": [np.nan, 0.03, 0]}, "/calibration holds nan, 0.03, 0; energies must increase"),
        ({"calibration": [0, -0.03, 0]}, "/calibration holds 0, -0.03, 0; energies must increase"),
        ({"calibration": [1e9, 1e9, 0]}, "/calibration holds 1e+09, 1e+09, 0; .* end between 0 and 250 keV"),
        ({"energy": np.linspace(30, 0, 16)}, "/energy runs from 30 to 0; energies"),
        ({"energy": np.linspace(-30, -1, 16)}, "/energy runs from -30 to -1; energies"),
        ({"energy": np.linspace(0, 30, 10)}, "/energy holds 10 numbers for 16 channels"),
        ({"gain_kev": -0.02}, "its gain_kev is -0.02 keV per channel"),
    ],
)
def test_an_axis_that_cannot_be_used_is_noted(tmp_path: Path, datasets: dict[str, Any], note: str) -> None:
    scan = load(scan_with(tmp_path, **datasets))
    assert scan.axis is None
    assert len(scan.notes) == 1
    assert scan.notes[0].startswith("the file's energy axis cannot be used: ")
    assert all(part in scan.notes[0] for part in note.split(" .* "))


@pytest.mark.parametrize("datasets", [{}, {"calibration": [0, 1, 0]}, {"energy": 17.4}])
def test_a_file_without_an_axis_has_none(tmp_path: Path, datasets: dict[str, Any]) -> None:
    assert load(scan_with(tmp_path, **datasets)).notes == ("no energy calibration in the file",)


@pytest.mark.parametrize(
    ("times", "note"),
    [
        (UNKNOWN, "/live_time unknown in 3 of 20 pixels: 0, negative or no number"),
        (0 * TIMES, "/live_time ignored: none of its times is above 0"),
        (np.ones((3, 3)), "/live_time ignored: it has 9 values for 20 pixels"),
    ],
)
def test_live_times_that_are_unknown_are_noted(tmp_path: Path, times: Any, note: str) -> None:
    assert load(scan_with(tmp_path, live_time=times)).notes[1:] == (note,)
    done = convert_scan(tmp_path / "scan.h5", tmp_path / "again.h5").target
    assert note in load(done).notes


def test_pixels_that_become_missing_for_want_of_a_live_time_are_counted(tmp_path: Path) -> None:
    scan = load(scan_with(tmp_path, live_time=UNKNOWN))
    assert not find_faulty_pixels(scan).is_short.any()
    mended, step = with_equal_live_time(scan)
    assert mended.present is not None
    assert "3 of 20 pixels of unknown or very short live time are now marked as missing" in step.description
    assert "missing" not in with_equal_live_time(load(scan_with(tmp_path, live_time=TIMES)))[1].description
