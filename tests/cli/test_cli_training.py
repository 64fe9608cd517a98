"""A model of one's own, and one adapted to a scan, from the command line."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from underpaint.calibrate import Calibration
from underpaint.cli import app
from underpaint.data import EnergyAxis, Scan
from underpaint.io import save_scan
from underpaint.lab.training import load_trainable
from underpaint.lab.training.adapting import AdaptReport, AdaptSettings
from underpaint.lab.training.instrument_model import (
    InstrumentModelReport,
    InstrumentModelSettings,
    Sizes,
    TransferredNetwork,
)
from underpaint.lab.training.paired import Comparison
from underpaint.physics.instrument import load_instrument
from underpaint.simulate.instrument_inputs import InstrumentConditions

SIZES = Sizes(n_stratigraphies=600, n_held_out=300, epochs=7)
LOST = Comparison(0.95, 0.94, -0.01, 0.004, 600, 11)


def call(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def words(result: Any) -> str:
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", result.output).split())


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def training_calls(monkeypatch: pytest.MonkeyPatch) -> list[InstrumentModelSettings]:
    """Stand in for the training, which has its own tests."""
    calls: list[InstrumentModelSettings] = []

    def stand_in(settings: InstrumentModelSettings, progress: Any) -> InstrumentModelReport:
        progress("Training", 1, 2)
        calls.append(settings)
        start = load_trainable("default")
        transferred = TransferredNetwork(start.network, ("vermilion", "chalk"), ("smalt",))
        return InstrumentModelReport(
            start, settings.out / "own.onnx", SIZES, transferred, {"simulation": 2.5, "training": 1.25},
            {"groups at 1e+05": LOST}, {"smalt": 0.87},
        )  # fmt: skip

    monkeypatch.setattr("underpaint.cli._finetune.train_instrument_model", stand_in)
    return calls


def test_instrument_and_palette_are_read_and_the_result_reported(training_calls: list[InstrumentModelSettings]) -> None:
    Path("mine.toml").write_text('name = "mine"\npigments = ["vermilion", "chalk", "smalt"]\n', "utf-8")
    done = call("train", "--instrument", "elio", "--palette", "mine.toml", "--minutes", "3")
    assert done.exit_code == 0, done.output
    (settings,) = training_calls
    assert settings.instrument == load_instrument("elio")
    assert (settings.palette, settings.minutes, settings.out) == (
        ("vermilion", "chalk", "smalt"),
        3.0,
        Path("elio_mine"),
    )
    output = words(done)
    for line in (
        "Simulated 600 stratigraphies for training and 300 held out, and trained 7 epochs.",
        "Training in this call took 3.8 minutes (simulation 2.5, training 1.2).",
        "Weights transferred from default: 2 of 3 names; re-initialised: smalt.",
        "groups at 1e+05 │ 11 │ 0.950 │ 0.940 │ -0.010 │ 0.004",
        "smalt 0.87",
        "Use it with --model elio_mine/own.onnx",
    ):
        assert line in output


@pytest.mark.parametrize("arguments", [(), ("--instrument", "elio"), ("--palette", "old_master")])
def test_neither_file_nor_both_options_is_refused(arguments: tuple[str, ...]) -> None:
    done = call("train", *arguments)
    assert done.exit_code == 1
    assert "neither a CONFIG file nor both --instrument and --palette" in words(done)


def test_a_file_beside_the_options_is_refused() -> None:
    done = call("train", "own.toml", "--palette", "old_master")
    assert done.exit_code == 1
    assert "Omit the file or the options" in words(done)


def test_an_unknown_instrument_is_named() -> None:
    done = call("train", "--instrument", "nobodys", "--palette", "old_master")
    assert done.exit_code == 1
    assert "No instrument 'nobodys'" in words(done)


@pytest.fixture
def scan() -> Path:
    save_scan(Scan(np.ones((2, 2, 64), np.uint16), axis=EnergyAxis(0.02, 0.0, 64), name="painting"), "painting.h5")
    return Path("painting.h5")


@pytest.mark.parametrize(("gain", "decision"), [(0.05, "Adapted (tuned)"), (0.001, "Kept the model as it is")])
def test_adapting_says_what_was_decided(
    scan: Path, gain: float, decision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stand_in(spectra: Scan, settings: AdaptSettings, *, known_instrument: Any, progress: Any) -> AdaptReport:
        assert (spectra.shape, settings.out) == ((2, 2, 64), Path("there"))
        assert known_instrument == load_instrument("elio")
        start, axis = load_trainable("default"), EnergyAxis(0.02, 0.0, 64)
        calibration = Calibration(axis, 0.1, 0.11, {}, {}, 0.0, 0.0, 0.0, (), ("voltage: too few counts",))
        compared = Comparison(0.8, 0.8 + gain, gain, 0.01, 100, 6)
        model = settings.out / "default_adapted.onnx" if gain > 0.02 else None
        return AdaptReport(
            start, {"tuned": start}, InstrumentConditions(),
            known_instrument.model_copy(update={"note": "From the lines"}),
            calibration,
            {"given": 0.3, "tuned": 0.2}, "tuned", compared, model, SIZES, {"fitting": 0.1},
        )  # fmt: skip

    monkeypatch.setattr("underpaint.cli._finetune.adapt", stand_in)
    done = call("adapt", scan, "--out", "there", "--instrument", "elio")
    assert done.exit_code == 0, done.output
    output = words(done)
    assert decision in output
    assert "- not found: voltage: too few counts" in output
    assert "tuned (lowest) │ 0.2000" in output
    assert ("--model there/default_adapted.onnx" in output) == (gain > 0.02)
    as_json = json.loads(call("adapt", scan, "--out", "there", "--instrument", "elio", "--json").stdout)
    assert as_json["taken"] == (gain > 0.02)


def test_labels_lead_to_fine_tuning(scan: Path) -> None:
    done = call("adapt", scan, "--labels", "none.csv")
    assert done.exit_code == 1
    assert "none.csv" in words(done)
    assert "none.csv: it is missing" in words(done)
