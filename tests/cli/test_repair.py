"""`underpaint repair` and `underpaint mosaic`, as a person calls them."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from underpaint.cli import app
from underpaint.data import EnergyAxis, Scan
from underpaint.io import load, read_settings, save_scan
from underpaint.repair import fingerprint

RUNNER = CliRunner()
COUNTS = np.random.default_rng(0).poisson(20.0, (12, 20, 32)).astype(np.uint16)


@pytest.fixture
def original(tmp_path: Path) -> Path:
    counts = COUNTS.copy()
    counts[5, 5] = 0
    save_scan(Scan(counts, axis=EnergyAxis(0.5, 0.0, 32), step_mm=(1.0, 1.0)), tmp_path / "a.h5")
    return tmp_path / "a.h5"


def test_repairs_are_done_in_order_and_written_down(original: Path, tmp_path: Path) -> None:
    out, before = tmp_path / "b.h5", original.read_bytes()
    call = ["repair", str(original), "--out", str(out), "--crop", "0:12,0:18", "--pixels", "--bin", "2x3", "--json"]
    done = RUNNER.invoke(app, call)
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert [repair["repair"] for repair in record["repairs"]] == ["crop", "pixels", "bin"]
    assert record["repairs"][1]["dead"] == [[5, 5]]
    assert record["original_blake2b"] == fingerprint(original)
    assert original.read_bytes() == before
    assert read_settings(out)["repairs"] == record["repairs"]
    assert load(out).shape == (6, 6, 32)
    assert RUNNER.invoke(app, call).exit_code == 1


def test_rows_that_are_straight_are_left_and_given_shifts_are_used(original: Path, tmp_path: Path) -> None:
    done = RUNNER.invoke(app, ["repair", str(original), "--out", str(tmp_path / "c.h5"), "--row-shift", "1"])
    assert done.exit_code == 0, done.output
    assert "odd rows shifted by -1.00 columns" in done.stdout
    np.testing.assert_array_equal(load(tmp_path / "c.h5").counts.compute()[1, :19], COUNTS[1, 1:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "d.h5"], "no repair was requested"),
        (["--out", "d.txt", "--pixels"], "must end in .h5"),
        (["--out", "d.h5", "--live-time"], "its file has none"),
        (["--out", "d.h5", "--crop", "3"], "two ranges"),
        (["--out", "d.h5", "--bin", "0x2"], "--bin '0x2' is not ROWSxCOLUMNS"),
    ],
)
def test_what_cannot_be_repaired_is_refused(
    original: Path, options: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(original.parent)
    done = RUNNER.invoke(app, ["repair", str(original), *options])
    assert done.exit_code != 0
    assert message in " ".join(done.output.replace("│", " ").split())
    assert not Path("d.h5").exists()


def test_sum_peaks_of_a_scan_without_an_axis_lie_on_the_instruments(tmp_path: Path) -> None:
    save_scan(Scan(COUNTS, live_time_s=np.full(COUNTS.shape[:2], 1.0)), tmp_path / "a.h5")
    call = ["repair", str(tmp_path / "a.h5"), "--out", str(tmp_path / "b.h5"), "--sum-peaks", "1"]
    assert "Cannot calibrate scan" in RUNNER.invoke(app, call).output
    done = RUNNER.invoke(app, [*call, "--instrument", "elio"])
    assert done.exit_code == 0, done.output
    assert "The energy axis of the instrument" in done.stdout
    axis = load(tmp_path / "b.h5").axis
    assert axis is not None
    assert read_settings(tmp_path / "b.h5")["repairs"][0]["gain_kev"] == axis.gain_kev


def test_tiles_without_overlap_and_uncovered_pixels_are_reported(tmp_path: Path) -> None:
    for name, columns in (("left", slice(0, 9)), ("right", slice(11, 20))):
        save_scan(Scan(COUNTS[:, columns], step_mm=(0.3, 0.3)), tmp_path / f"{name}.h5")
    (tmp_path / "stage.csv").write_text("tile,row_mm,column_mm\nleft,0,0\nright,-1e-9,3.3\n", encoding="utf-8")
    names = [str(tmp_path / f"{name}.h5") for name in ("left", "right")]
    done = RUNNER.invoke(
        app, ["mosaic", *names, "--positions", str(tmp_path / "stage.csv"), "--out", str(tmp_path / "whole.h5")]
    )
    assert done.exit_code == 0, done.output
    assert "left.h5 overlaps too little with other tiles" in done.stdout
    assert "24 pixels are in no tile" in done.stdout
    assert "-0.00" not in done.stdout


def test_a_mosaic_is_made_of_the_tiles_that_can_be_read(tmp_path: Path) -> None:
    for name, columns in (("left", slice(0, 12)), ("right", slice(8, 20))):
        save_scan(Scan(COUNTS[:, columns]), tmp_path / f"{name}.h5")
    (tmp_path / "broken.h5").write_text("nothing")
    (tmp_path / "stage.csv").write_text("tile,row_mm,column_mm\nleft,0,0\nright,0,4\nbroken,9,9\n", encoding="utf-8")
    names = [str(tmp_path / f"{name}.h5") for name in ("left", "right", "broken")]
    out = tmp_path / "whole.h5"
    done = RUNNER.invoke(
        app,
        ["mosaic", *names, "--positions", str(tmp_path / "stage.csv"), "--step-mm", "0.5", "--no-register",
         "--out", str(out)],
    )  # fmt: skip
    assert done.exit_code == 1
    assert done.output.count("broken.h5") == 1
    repaired = load(out)
    np.testing.assert_array_equal(repaired.counts.compute(), COUNTS)
    assert repaired.step_mm == (0.5, 0.5)
    assert list(read_settings(out)["failed"]) == [names[2]]
