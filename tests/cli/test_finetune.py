"""Fine-tuning as a user does it: own spectra and a table of labels in, a model for `identify` out."""

import csv
import json
import re
import shutil
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
from underpaint.pigments.weights import ModelCard, load_card
from underpaint.simulate import Panel, PanelSettings, make_panel

SIDE = 2
EPOCHS = ("--dense-epochs", "1", "--epochs", "2")


def call(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


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


@pytest.fixture
def without_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write an empty file in place of the exported network, which takes as long as the training."""

    def write_empty_file(_: Any, card: ModelCard, folder: Path) -> Path:
        path = Path(folder, f"{card.name}.onnx")
        path.touch()
        return path

    monkeypatch.setattr("underpaint.lab.training.export", write_empty_file)


def pigments(panel: Panel, row: int, column: int) -> str:
    painted = {key.split("/")[1] for key, share in panel.truth.items() if "/" in key and share[row, column] > 0}
    return ";".join(sorted((painted | {"chalk"}) & set(load_card("default").names)))


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture(scope="module")
def pixel_table(panel: Panel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    n_row, n_column, _ = panel.scan.shape
    rows = [
        (row, column, pigments(panel, row, column), f"{row // SIDE} on {column // SIDE}")
        for row in range(n_row)
        for column in range(n_column)
    ]
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    return write_table(path, ("row", "column", "pigments", "structure"), rows)


@pytest.fixture(scope="module")
def finetuned(panel_file: Path, pixel_table: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Folder in which ``finetune`` has run with its default output, and what the command printed."""
    folder = tmp_path_factory.mktemp("finetuned")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "200")
        done = call("finetune", "--spectra", panel_file, "--labels", pixel_table, *EPOCHS)
    assert done.exit_code == 0, done.output
    return folder, words(done)


def emsa(counts: np.ndarray[Any, Any], axis: EnergyAxis) -> str:
    head = {"FORMAT": "EMSA/MAS Spectral Data File", "NPOINTS": counts.size, "DATATYPE": "Y", "XUNITS": "keV"}
    head |= {"XPERCHAN": axis.gain_kev, "OFFSET": axis.zero_kev, "SPECTRUM": "data here"}
    lines = [f"#{key:<12}: {value}" for key, value in head.items()]
    return "\n".join((*lines, *(f"{value:.1f}," for value in counts), "#ENDOFDATA   :"))


def test_a_scan_with_labels_becomes_a_model_that_identify_takes(
    panel_file: Path, finetuned: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, without_report: None
) -> None:
    folder, output = finetuned
    for line in ("stem │ 17,904 │ loaded │ frozen │ trained", "presence │ 36,378 │ loaded │ trained │ trained"):
        assert line in output
    assert "names were in no training spectrum" in output
    assert "labels of pigments and groups by place were treated as unknown" in output
    model = Path("strips_finetuned", "default_finetuned.onnx")
    assert f"--model {model}" in output
    monkeypatch.chdir(folder)
    card = load_card(model)
    assert card.name == "default_finetuned"
    assert "Fine-tuned from 'default' on" in card.limits[0]
    assert card.training.config["labels"] == "labels.csv"
    report = json.loads(Path("strips_finetuned", "report.json").read_text("utf-8"))
    assert report[report["chosen"]]["test"]["macro_f1"] > report["before"]["test"]["macro_f1"]
    arguments = ("--model", model, "--instrument", "elio", "--no-elements", "--out", "results")
    done = call("identify", panel_file, *arguments)
    assert done.exit_code == 0, done.output
    maps = read_results("results")
    assert {name for name, kind in zip(card.names, card.kinds, strict=True) if kind == "group"} <= {
        at_place(*key) for key in maps.named_places
    }
    # labelled where mercury was, calomel nowhere: even shares of the given network would hold vermilion under one half
    mercury = maps["mercury_red"] > 0.9
    assert mercury.mean() > 0.3
    assert np.mean(maps["vermilion"][mercury] > 0.5) > 0.9


def test_a_folder_of_spectra_of_different_lengths(panel: Panel, tmp_path: Path, without_export: None) -> None:
    folder, axis = tmp_path / "spots", panel.scan.require_axis()
    folder.mkdir()
    coarse = EnergyAxis(2 * axis.gain_kev, axis.zero_kev + axis.gain_kev / 2, axis.n_channel // 2)
    rows = []
    for number in range(24):
        row, column = number // 4 % 8, 3 * (number % 4)
        counts, spectrum_axis = np.asarray(panel.scan.counts[row, column]), axis
        if number % 2:
            counts, spectrum_axis = counts.reshape(-1, 2).sum(axis=1), coarse
        (folder / f"spot_{number}.msa").write_text(emsa(counts, spectrum_axis), "utf-8")
        rows.append((f"spot_{number}.msa", pigments(panel, row, column)))
    (folder / "notes.txt").write_text("no spectrum, and not named", "utf-8")
    table = write_table(tmp_path / "spots.csv", ("file", "pigments"), rows)
    done = call(
        "finetune",
        "--spectra",
        folder,
        "--labels",
        table,
        "--dense-epochs",
        "1",
        "--epochs",
        "1",
        "--out",
        "ours",
        "--json",
    )
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["n_spectra"] == {"training": 15, "validation": 4, "test": 5}
    assert record["model"] == str(Path("ours", "default_finetuned.onnx"))


def test_an_interrupted_fine_tuning_goes_on_to_the_same_end(
    panel_file: Path,
    pixel_table: Path,
    finetuned: tuple[Path, str],
    without_export: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = ("finetune", "--spectra", panel_file, "--labels", pixel_table, *EPOCHS)
    step = torch.optim.Adam.step

    def stop_in_the_last_epoch(optimiser: Any, closure: Any = None) -> Any:
        if Path("interrupted/all/last.ckpt").is_file():
            raise KeyboardInterrupt
        return step(optimiser, closure)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", stop_in_the_last_epoch)
        stopped = call(*arguments, "--quiet", "--out", "interrupted")
    assert stopped.exit_code == 130
    assert not list(Path("interrupted").glob("*.onnx"))
    assert call(*arguments, "--quiet", "--out", "interrupted").exit_code == 0
    folders = Path("interrupted"), finetuned[0] / "strips_finetuned"
    resumed, uninterrupted = (load_checkpoint(folder / "all" / "best.ckpt").network for folder in folders)
    for name, value in uninterrupted.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_a_folder_of_a_run_with_other_labels_is_refused(
    panel_file: Path, pixel_table: Path, finetuned: tuple[Path, str], tmp_path: Path
) -> None:
    shutil.copytree(finetuned[0] / "strips_finetuned", "run")
    table = tmp_path / pixel_table.name
    table.write_text(pixel_table.read_text("utf-8").replace("chalk", "gypsum", 1), "utf-8")
    again = call("finetune", "--spectra", panel_file, "--labels", table, *EPOCHS, "--quiet", "--out", "run")
    assert again.exit_code == 1
    assert "it was started with other settings: spectra_and_labels (changed)" in words(again)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, 0, "vermillion"), (0, 1, "ochre")], r"vermillion \(near: vermilion\S*.*\).*no outputs of the model"),
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
