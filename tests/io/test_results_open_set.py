"""What cannot be excluded and what nothing explains survive the way to the disk and back."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from underpaint.data.maps import CANNOT_EXCLUDE, STATES, DetectabilityMaps, OpenSet, UnexplainedLine, UnlikenessMap
from underpaint.errors import OutputError
from underpaint.io import read_detectability, read_maps, read_open_set, write_results

STATE = np.array([[[0, 1], [2, 255]]], np.uint8)
MAPS = DetectabilityMaps(
    ("lead_pigment", "mercury_red"), ("lead", "mercury"), STATE, (1.0, 0.5), ("Absent means ...",), {"cover_um": 50.0}
)
LINES = (
    UnexplainedLine("Ti_K", 40, 0.4, 210.0, 55.0, "not in the palette", ("titanium white",)),
    UnexplainedLine("Ni_K", 0, 0.0, 3.0, 7.0, "not found there"),
)


def write(place: Path, detectability: DetectabilityMaps | None = None, open_set: OpenSet | None = None) -> None:
    facts = {"name": "panel"}
    write_results(
        place,
        pigments=None,
        elements=None,
        scan_summary=facts,
        settings={},
        detectability=detectability,
        open_set=open_set,
    )


def test_states_survive(tmp_path: Path) -> None:
    write(tmp_path, MAPS)
    found = read_detectability(tmp_path)
    assert found is not None
    assert found.state.dtype == np.uint8
    np.testing.assert_array_equal(found.state, STATE)
    for name in ("names", "labels", "step_mm", "notes", "settings"):
        assert getattr(found, name) == getattr(MAPS, name)
    with tifffile.TiffFile(tmp_path / "detectability" / "lead_pigment.tif") as tiff:
        np.testing.assert_array_equal(tiff.asarray(), [[0, CANNOT_EXCLUDE]])
        assert "2: cannot be excluded" in tiff.pages[0].description
    with h5py.File(tmp_path / "results.h5") as file:
        meaning = json.loads(file["entry/detectability/results/state"].attrs["meaning"])
    assert meaning == {str(key): words for key, words in STATES.items()}


def test_unexplained_lines_and_unlikeness_survive(tmp_path: Path) -> None:
    score = np.array([[1.5, np.nan, 7.0]], np.float32)
    own = UnlikenessMap(score, np.array([[3.0, np.nan, 4.5]], np.float32), None, {"known": ["Fe_K"]})
    write(tmp_path, open_set=OpenSet(LINES, (("Ar_K", "air"),), own))
    found = read_open_set(tmp_path)
    assert found is not None
    assert (found.lines, found.ordinary) == (LINES, (("Ar_K", "air"),))
    assert found.unlikeness is not None
    np.testing.assert_array_equal(found.unlikeness.score, score)
    assert (found.unlikeness.share, found.unlikeness.settings) == (0.5, own.settings)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "unlikeness.tif").reshape(score.shape), score)


def test_without_a_map_the_lines_alone_survive(tmp_path: Path) -> None:
    write(tmp_path, open_set=OpenSet(LINES))
    found = read_open_set(tmp_path)
    assert found is not None
    assert (found.lines, found.unlikeness) == (LINES, None)


def test_results_without_either(tmp_path: Path) -> None:
    write(tmp_path)
    assert read_detectability(tmp_path) is None
    assert read_open_set(tmp_path) is None
    assert read_maps(tmp_path)[2]["name"] == "panel"


def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path) -> None:
    bad = DetectabilityMaps(("../x",), ("x",), STATE[:, :, :1])
    with pytest.raises(OutputError, match="names become file names"):
        write(tmp_path / "out", bad)
