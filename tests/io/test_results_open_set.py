"""What cannot be excluded and what nothing explains survive the way to the disk and back."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from underpaint.data.maps import CANNOT_EXCLUDE, STATES, Results, UnexplainedLine
from underpaint.errors import OutputError
from underpaint.io import read_results, write_results

STATE = np.array([[[0, 1], [2, 255]]], np.uint8)
MAPS = Results.of_states(
    ("lead_pigment", "mercury_red"),
    ("lead", "mercury"),
    STATE,
    step_mm=(1.0, 0.5),
    notes=("Absent means ...",),
    settings={"cover_um": 50.0},
)
LINES = (
    UnexplainedLine("Ti_K", 40, 0.4, 210.0, 55.0, "not in the palette", ("titanium white",)),
    UnexplainedLine("Ni_K", 0, 0.0, 3.0, 7.0, "not found there"),
)


def test_states_survive(tmp_path: Path) -> None:
    write_results(tmp_path, MAPS)
    results = read_results(tmp_path, lazily=False)
    np.testing.assert_array_equal(results.stacks["state"].values, STATE)
    assert results.stacks["state"].values.dtype == np.uint8
    assert (results.stacks["state"].keys, results.step_mm) == (MAPS.stacks["state"].keys, MAPS.step_mm)
    assert [results.label(name) for name in MAPS.materials] == ["lead", "mercury"]
    assert (results.process_notes, results.process_settings) == (MAPS.process_notes, MAPS.process_settings)
    with tifffile.TiffFile(tmp_path / "detectability" / "lead_pigment.tif") as tiff:
        np.testing.assert_array_equal(tiff.asarray(), [[0, CANNOT_EXCLUDE]])
        assert "2: cannot be excluded" in tiff.pages[0].description
    with h5py.File(tmp_path / "results.h5") as file:
        meaning = json.loads(file["entry/detectability/results/state"].attrs["meaning"])
    assert meaning == {str(key): words for key, words in STATES.items()}


def test_unexplained_lines_and_unlikeness_survive(tmp_path: Path) -> None:
    score, peak_kev = np.array([[[1.5], [np.nan], [7.0]], [[3.0], [np.nan], [4.5]]], np.float32)[:, None]
    unlike = Results.of_unlikeness(score, peak_kev, settings={"known": ["Fe_K"]})
    score = score[:, :, 0]
    write_results(tmp_path, unlike | Results(unexplained=LINES, ordinary=(("Ar_K", "air"),)))
    results = read_results(tmp_path)
    assert (results.unexplained, results.ordinary) == (LINES, (("Ar_K", "air"),))
    np.testing.assert_array_equal(results.unlikeness, score)
    assert (results.unlike_share, results.settings_of("open_set")) == (0.5, {"known": ["Fe_K"]})
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "unlikeness.tif").reshape(score.shape), score)


def test_without_a_map_the_lines_alone_survive(tmp_path: Path) -> None:
    write_results(tmp_path, Results(unexplained=LINES))
    results = read_results(tmp_path)
    assert (results.unexplained, dict(results.stacks)) == (LINES, {})


def test_results_without_either(tmp_path: Path) -> None:
    write_results(tmp_path, Results(summary={"name": "panel"}))
    results = read_results(tmp_path)
    assert (results.unexplained, dict(results.stacks), results.summary["name"]) == (None, {}, "panel")


def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path) -> None:
    bad = Results.of_states(("../x",), ("x",), STATE[:, :, :1])
    with pytest.raises(OutputError, match="names become file names"):
        write_results(tmp_path / "out", bad)
