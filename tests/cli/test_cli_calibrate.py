"""``underpaint calibrate``: one instrument file for each detector, and a picture with what was found."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from underpaint.calibrate import Calibration
from underpaint.calibrate.calibration import _require_lines
from underpaint.cli import app
from underpaint.data import EnergyAxis
from underpaint.data.peaks import peak_counts
from underpaint.display.plot.spectra import calibration_figure, calibration_words
from underpaint.errors import CalibrationError
from underpaint.physics.instrument import load_instrument

AXIS = EnergyAxis(0.03, 0.02, 512)
PEAKS = {"Ca": 3.691, "CaKb": 4.013, "Fe": 6.4, "FeKb": 7.058, "Cu": 8.041, "CuKb": 8.905, "Pb": 10.55, "PbLb": 12.61}


def pixels(seed: int) -> np.ndarray:
    """Lines of calcium, iron, copper and lead over a flat background, two by two pixels."""
    strength = np.array([1e5, 1.2e4, 1e5, 1.3e4, 1e5, 1.3e4, 1e5, 7e4])
    lines = peak_counts(AXIS, np.array(list(PEAKS.values())), strength, 0.15)
    return np.random.default_rng(seed).poisson((lines + 100.0) / 2, size=(2, 2, AXIS.n_channel)).astype(np.uint32)


def test_each_detector_gets_its_instrument(tmp_path: Path) -> None:
    source = tmp_path / "two.npz"
    np.savez(source, left=pixels(1), right=pixels(2))
    command = ["calibrate", str(source), "--out", str(tmp_path / "own.toml"), "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    left, right = json.loads(result.stdout)
    assert left["voltage_kv"] is None
    assert right["gain_kev"] == pytest.approx(AXIS.gain_kev, rel=5e-3)
    assert any(text.startswith("voltage: the spectrum ends at 15.4 keV") for text in left["missing"])
    assert sorted(path.name for path in tmp_path.glob("*.toml")) == ["own_left.toml", "own_right.toml"]
    assert load_instrument(tmp_path / "own_left.toml").detector.n_channel == AXIS.n_channel
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 1


def test_json_without_out_writes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("one.npz", counts=pixels(1))
    done = CliRunner().invoke(app, ["calibrate", "one.npz", "--json"])
    assert json.loads(done.stdout)["instrument"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["one.npz"]


def test_every_file_that_was_written_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", counts=pixels(1))
    names = ["own.toml", "own.png", "straight.h5"]
    toml, png, straight = (str(tmp_path / name) for name in names)
    command = ["calibrate", str(tmp_path / "one.npz"), "--out", toml, "--picture", png, "--without-drift", straight]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert all(f"Wrote {tmp_path / name}" in done.stdout for name in names)
    np.savez(tmp_path / "two.npz", left=pixels(1), right=pixels(2))
    done = CliRunner().invoke(app, ["info", str(tmp_path / "two.npz"), "--picture", str(tmp_path / "pic.png")])
    assert f"Wrote {tmp_path / 'pic_1.png'}\nWrote {tmp_path / 'pic_2.png'}" in done.stdout
    assert len(list(tmp_path.glob("pic*"))) == 2


@pytest.mark.parametrize(
    ("n_line", "message"),
    [
        (0, "no unblended line was found, and three"),
        (1, "1 unblended line was found, assigned to Hg-L3M5, and three"),
        (2, "2 unblended lines over 1.8 keV were found, assigned to Hg-L3M5, Hg-L2M4, and three"),
    ],
)
def test_lines_too_few_to_calibrate_by_are_named_as_what_they_are_taken_for(n_line: int, message: str) -> None:
    names = {"Hg-L3M5": 9.99, "Hg-L2M4": 11.8}
    lines: list[Any] = [SimpleNamespace(name=name, energy_kev=energy) for name, energy in names.items()]
    with pytest.raises(CalibrationError, match=message):
        _require_lines(lines[:n_line], "gold", None)


def test_the_picture_tells_what_was_found_and_what_not() -> None:
    calibration = Calibration(
        AXIS, 0.08, 0.115, {}, {}, 1e-6, 1e-3, 1.0, ("Fe_K",), ("air path: no argon line detected",), "Rh", 120.0,
        voltage_kv=14.0, voltage_uncertainty_kv=0.2,
    )  # fmt: skip
    figure = calibration_figure(calibration, pixels(3).sum((0, 1)).astype(float))
    shown = [text.get_text() for text in (*figure.texts, *figure.axes[0].texts)]
    assert any("14.0 ± 0.2 kV" in text for text in shown)
    assert any("Not found: air path" in text for text in shown)
    assert "end: 14.0 kV" in shown
    assert any("scattering angle 120°" in text for text in calibration_words(calibration))
