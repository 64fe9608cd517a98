"""--detector and --shape on the commands that read scans."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from underpaint import io
from underpaint.cli import app
from underpaint.data import EnergyAxis, Scan
from underpaint.errors import ScanError
from underpaint.io import save_scan
from underpaint.physics.atomic import family_lines
from underpaint.physics.instrument import load_instrument

CUBE = np.random.default_rng(11).integers(0, 50, (2, 6, 64))
BRIGHT = np.random.default_rng(12).integers(0, 150, (2, 6, 64))


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(dataset) for dataset in arguments], env={"COLUMNS": "300"})


@pytest.fixture
def two_detectors(tmp_path: Path) -> Path:
    """A file of two detectors as PyXRF lays them out."""
    path = tmp_path / "two.h5"
    with h5py.File(path, "w") as file:
        file["xrfmap/det1/counts"], file["xrfmap/det2/counts"] = CUBE, BRIGHT
    return path


@pytest.fixture
def spectra_list(tmp_path: Path) -> Path:
    """Twelve spectra without a grid, one a line."""
    path = tmp_path / "list.csv"
    np.savetxt(path, CUBE.reshape(12, 64), fmt="%d", delimiter=",")
    return path


@pytest.mark.parametrize(
    ("choice", "counts", "word"),
    [("det2", BRIGHT, "alone"), ("2", BRIGHT, "alone"), ("1", CUBE, "alone"), ("sum", CUBE + BRIGHT, "are added")],
)
def test_info_of_one_detector_or_of_the_sum(two_detectors: Path, choice: str, counts: Any, word: str) -> None:
    done = run("info", two_detectors, "--detector", choice, "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["total_counts"] == counts.sum()
    assert any(word in note and "det1, det2" in note for note in facts["notes"])


def test_a_detector_that_is_not_there(two_detectors: Path) -> None:
    done = run("info", two_detectors, "--detector", "3")
    assert done.exit_code == 1
    assert "none of the 2 detectors has this name. Give a name or a number from 1 to 2: det1, det2." in done.output


@pytest.mark.parametrize(("choice", "counts"), [("det2", BRIGHT), ("sum", CUBE + BRIGHT)])
def test_convert_writes_the_requested_detector(two_detectors: Path, choice: str, counts: Any) -> None:
    target = two_detectors.parent / "one.h5"
    done = run("convert", two_detectors, target, "--detector", choice)
    assert done.exit_code == 0, done.output
    (scan,) = io.load_all(target)
    np.testing.assert_array_equal(scan.counts.compute(), counts)


def test_convert_puts_a_list_of_spectra_on_its_grid(spectra_list: Path) -> None:
    target = spectra_list.parent / "map.h5"
    assert run("convert", spectra_list, target, "--shape", "2x6").exit_code == 0
    np.testing.assert_array_equal(io.load(target).counts.compute(), CUBE)


def test_info_says_that_a_list_wants_a_shape(spectra_list: Path) -> None:
    alone = json.loads(run("info", spectra_list, "--json").stdout)
    given = json.loads(run("info", spectra_list, "--shape", "3X4", "--json").stdout)
    assert (alone["shape"], given["shape"]) == ([1, 12, 64], [3, 4, 64])
    assert any("--shape" in note for note in alone["notes"])
    assert not any("--shape" in note for note in given["notes"])


@pytest.mark.parametrize("text", ["12", "2x", "0x12", "2x6x1", "axb"])
def test_a_shape_that_is_none_is_refused(spectra_list: Path, text: str) -> None:
    done = run("info", spectra_list, "--shape", text)
    assert done.exit_code == 2
    assert "is not ROWSxCOLUMNS" in done.output


def test_any_row_of_spectra_can_be_folded(tmp_path: Path) -> None:
    one_row = Scan(CUBE.reshape(1, 12, 64), axis=EnergyAxis(0.02, 0.0, 64), live_time_s=np.arange(1.0, 13.0)[None])
    save_scan(one_row, tmp_path / "row.h5")
    scan = io.load(tmp_path / "row.h5", shape=(2, 6))
    np.testing.assert_array_equal(scan.counts.compute(), CUBE)
    np.testing.assert_array_equal(scan.live_time_s, np.arange(1.0, 13.0).reshape(2, 6))


def test_a_shape_does_not_reorder_a_map(tmp_path: Path) -> None:
    save_scan(Scan(CUBE, axis=EnergyAxis(0.02, 0.0, 64)), tmp_path / "map.h5")
    assert io.load(tmp_path / "map.h5", shape=(2, 6)).shape == (2, 6, 64)
    with pytest.raises(ScanError, match=r"as 3 rows x 4 columns = 12 pixels: it holds 2 x 6 = 12"):
        io.load(tmp_path / "map.h5", shape=(3, 4))


@pytest.mark.parametrize("command", ["identify", "elements"])
def test_commands_with_results_know_both(command: str) -> None:
    shown = run(command, "--help").output
    assert "--detector" in shown
    assert "--shape" in shown


def test_elements_of_one_detector_say_so(tmp_path: Path) -> None:
    detector = load_instrument("elio").detector
    energy_kev = EnergyAxis(detector.gain_kev, detector.zero_kev, 1024).energy_kev
    expected = np.full(1024, 2.0)
    for element in ("Ca", "Fe", "Cu"):
        for line, share in zip(*family_lines(element, "K"), strict=True):
            expected += 4000 * share * np.exp(-0.5 * ((energy_kev - line) / 0.06) ** 2)
    counts = np.random.default_rng(5).poisson(np.tile(expected, (12, 1)))
    with h5py.File(tmp_path / "lists.h5", "w") as file:
        file["xrfmap/det1/counts"], file["xrfmap/det2/counts"] = counts[None], 0 * counts[None]
    arguments = ("elements", tmp_path / "lists.h5", "--detector", "1", "--shape", "3x4", "--instrument", "elio")
    done = run(*arguments, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert any("detector det1 alone, of 2" in note for note in record["notes"])
    with h5py.File(tmp_path / "out" / "results.h5") as file:
        shapes = {dataset.shape for dataset in file["entry/elements/results/parameters"].values() if dataset.ndim == 2}
    assert shapes == {(3, 4)}
