"""Fine-tuning as a user does it: own spectra and a table of labels in, a model for `identify` out."""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from underpaint.cli import app
from underpaint.data import EnergyAxis
from underpaint.data.maps import at_place
from underpaint.io import read_results, save_scan
from underpaint.lab.training import load_checkpoint
from underpaint.pigments.weights import load_card
from underpaint.simulate import Panel, PanelSettings, make_panel

SIDE = 2
SHORT = ("--dense-epochs", "1", "--epochs", "1")


def call(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(own) for own in arguments])


def words(result: Any) -> str:
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", result.output).split())


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def panel() -> Panel:
    return make_panel(PanelSettings(recipe="fig7", cell_pixels=SIDE, gap_pixels=0, counts=3e4, seed=1))


@pytest.fixture(scope="module")
def panel_file(panel: Panel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("panel") / "strips.h5"
    save_scan(panel.scan, path)
    return path


def pigments(panel: Panel, row: int, column: int) -> str:
    painted = {key.split("/")[1] for key, share in panel.truth.items() if "/" in key and share[row, column] > 0}
    return ";".join(sorted((painted | {"chalk"}) & set(load_card("default").names)))


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture
def pixel_table(panel: Panel, tmp_path: Path) -> Path:
    places = [(row, column) for row in range(panel.scan.shape[0]) for column in range(panel.scan.shape[1])]
    rows = [(*own, pigments(panel, *own), f"{own[0] // SIDE} on {own[1] // SIDE}") for own in places]
    return write_table(tmp_path / "labels.csv", ("row", "column", "pigments", "structure"), rows)


def emsa(counts: np.ndarray[Any, Any], axis: EnergyAxis) -> str:
    head = {"FORMAT": "EMSA/MAS Spectral Data File", "NPOINTS": counts.size, "DATATYPE": "Y", "XUNITS": "keV"}
    head |= {"XPERCHAN": axis.gain_kev, "OFFSET": axis.zero_kev, "SPECTRUM": "data here"}
    lines = [f"#{key:<12}: {value}" for key, value in head.items()]
    return "\n".join((*lines, *(f"{value:.1f}," for value in counts), "#ENDOFDATA   :"))


def test_a_scan_with_labels_becomes_a_model_that_identify_takes(panel_file: Path, pixel_table: Path) -> None:
    done = call("finetune", "--spectra", panel_file, "--labels", pixel_table, *SHORT)
    assert done.exit_code == 0, done.output
    said = words(done)
    for line in ("stem │ 17,904 │ loaded │ frozen │ trained", "presence │ 36,378 │ loaded │ trained │ trained"):
        assert line in said
    assert "names were in no training spectrum" in said
    assert "labels (of pigments and groups, by place) were left open" in said
    model = Path("strips_finetuned", "default_finetuned.onnx")
    assert f"--model {model}" in said
    card = load_card(model)
    assert card.name == "default_finetuned"
    assert "Fine-tuned from 'default' on" in card.limits[0]
    assert card.training.config["labels"] == "labels.csv"
    report = json.loads(Path("strips_finetuned", "report.json").read_text("utf-8"))
    assert report[report["chosen"]]["test"]["macro_f1"] > report["before"]["test"]["macro_f1"]
    found = call("identify", panel_file, "--model", model, "--out", "found")
    assert found.exit_code == 0, found.output
    maps = read_results("found")
    assert {name for name, kind in zip(card.names, card.kinds, strict=True) if kind == "group"} <= {
        at_place(*key) for key in maps.named_places
    }
    # labelled where mercury was, calomel nowhere: even shares of the given network would hold vermilion under one half
    mercury = maps["mercury_red"] > 0.9
    assert mercury.mean() > 0.3
    assert np.mean(maps["vermilion"][mercury] > 0.5) > 0.9


def test_a_folder_of_spectra_of_different_lengths(panel: Panel, tmp_path: Path) -> None:
    folder, axis = tmp_path / "spots", panel.scan.require_axis()
    folder.mkdir()
    coarse = EnergyAxis(2 * axis.gain_kev, axis.zero_kev + axis.gain_kev / 2, axis.n_channel // 2)
    rows = []
    for number in range(24):
        row, column = number // 4 % 8, 3 * (number % 4)
        counts, own = np.asarray(panel.scan.counts[row, column]), axis
        if number % 2:
            counts, own = counts.reshape(-1, 2).sum(axis=1), coarse
        (folder / f"spot_{number}.msa").write_text(emsa(counts, own), "utf-8")
        rows.append((f"spot_{number}.msa", pigments(panel, row, column)))
    (folder / "notes.txt").write_text("no spectrum, and not named", "utf-8")
    table = write_table(tmp_path / "spots.csv", ("file", "pigments"), rows)
    done = call("finetune", "--spectra", folder, "--labels", table, *SHORT, "--out", "ours", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["n_spectra"] == {"training": 15, "validation": 4, "test": 5}
    assert told["model"] == str(Path("ours", "default_finetuned.onnx"))


def test_an_interrupted_fine_tuning_goes_on_to_the_same_end(
    panel_file: Path, pixel_table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("finetune", "--spectra", panel_file, "--labels", pixel_table, "--dense-epochs", "1", "--epochs", "2")
    free = torch.optim.Adam.step

    def stop_in_the_last_epoch(own: Any, closure: Any = None) -> Any:
        if Path("broken/all/last.ckpt").is_file():
            raise KeyboardInterrupt
        return free(own, closure)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", stop_in_the_last_epoch)
        stopped = call(*arguments, "--quiet", "--out", "broken")
    assert stopped.exit_code == 130
    assert not list(Path("broken").glob("*.onnx"))
    for out in ("broken", "whole"):
        assert call(*arguments, "--quiet", "--out", out).exit_code == 0
    resumed, unbroken = (load_checkpoint(Path(own, "all", "best.ckpt")).network for own in ("broken", "whole"))
    for name, value in unbroken.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_a_folder_begun_with_other_labels_is_refused(panel_file: Path, pixel_table: Path) -> None:
    arguments = ("finetune", "--spectra", panel_file, "--labels", pixel_table, *SHORT, "--quiet", "--out", "run")
    assert call(*arguments).exit_code == 0
    pixel_table.write_text(pixel_table.read_text("utf-8").replace("chalk", "gypsum", 1), "utf-8")
    again = call(*arguments)
    assert again.exit_code == 1
    assert "it was started with other settings: spectra_and_labels (changed)" in words(again)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, 0, "vermillion"), (0, 1, "ochre")], r"vermillion \(near: vermilion\S*.*\).*does not know them"),
        ([(0, 0, "vermilion"), (0, 1, "")], "Cannot fine-tune on 2 structures .* at least 5 are needed"),
        ([(0, 99, "vermilion")], "column is '99', the scan has columns 0 to 11"),
        ([(0, 0, "chalk"), (0, 0, "gypsum")], "line 3 .* same spectrum as line 2"),
    ],
)
def test_labels_that_cannot_serve_are_refused(
    panel_file: Path, tmp_path: Path, rows: list[tuple[object, ...]], message: str
) -> None:
    table = write_table(tmp_path / "bad.csv", ("row", "column", "pigments"), rows)
    done = call("finetune", "--spectra", panel_file, "--labels", table)
    assert done.exit_code == 1
    assert re.search(message, words(done))
    assert not Path("strips_finetuned", "dense").exists()


def test_spectra_without_labels_and_settings_with_spectra_are_refused(panel_file: Path, tmp_path: Path) -> None:
    alone = call("finetune", "--spectra", panel_file)
    assert alone.exit_code == 1
    assert "Cannot fine-tune without spectra and labels" in words(alone)
    both = call("finetune", tmp_path / "settings.toml", "--spectra", panel_file)
    assert both.exit_code == 1
    assert "at once" in words(both)
