"""The public benchmark: what is in the folder, and how sheets of answers are scored."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import underpaint as up
from underpaint.cli import app
from underpaint.data.maps import split_place
from underpaint.errors import BenchmarkError, OutputError
from underpaint.lab.evaluation.benchmark import (
    SHEET_COLUMNS,
    make_benchmark,
    read_sheet,
    read_truths,
    score_answers,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_benchmark(tmp_path_factory.mktemp("benchmark"), quick=True)


def write_sheet(path: Path, lines: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, SHEET_COLUMNS)
        writer.writeheader()
        writer.writerows(lines)
    return path


def true_lines(folder: Path) -> list[dict[str, Any]]:
    """The truth, as someone would answer by patch who knows it."""
    lines = []
    for panel, truth in read_truths(folder).items():
        for patch in np.unique(truth.patch[truth.patch > 0]):
            shown = truth.is_present[truth.patch == patch].any(axis=0)
            for name, value in zip(truth.names, shown, strict=True):
                group, place = split_place(name)
                lines.append({"panel": panel, "group": group, "place": place, "patch": patch, "value": int(value)})
    return lines


def test_scans_open_and_do_not_tell_what_is_in_them(folder: Path) -> None:
    description = json.loads((folder / "benchmark.json").read_text(encoding="utf-8"))
    assert description["license"] == "CC0-1.0"
    for name, panel in description["panels"].items():
        scan = up.load(folder / panel["scan"])
        assert scan.shape[:2] == read_truths(folder)[name].shape
        content = (folder / panel["scan"]).read_bytes()
        assert b"vermilion" not in content
        assert b"benchmark_palette" not in content
        header = (folder / panel["reflectance"]).read_text(encoding="ascii").lower()
        assert f"lines = {2 * scan.shape[0]}\n" in header
        assert not any(word in header for word in ("vermilion", "azurite", "revigo 0", "gds"))


def test_every_place_has_groups_to_tell_apart(folder: Path) -> None:
    for truth in read_truths(folder).values():
        inside = truth.patch > 0
        shown, absent = (
            (truth.is_present & truth.is_visible)[inside].any(axis=0),
            (~truth.is_present)[inside].any(axis=0),
        )
        distinguished = {
            split_place(name)[1] for name, good in zip(truth.names, np.asarray(shown & absent), strict=True) if good
        }
        assert distinguished == {"anywhere", "surface", "below"}


@pytest.mark.parametrize("form", ["csv", "json"])
def test_the_truth_scores_one(folder: Path, tmp_path: Path, form: str) -> None:
    truths = read_truths(folder)
    lines = true_lines(folder)
    sheet = tmp_path / f"sheet.{form}"
    if form == "csv":
        write_sheet(sheet, lines)
    else:
        sheet.write_text(json.dumps(lines, default=int), encoding="utf-8")
    scores = score_answers(read_sheet(sheet, truths), truths)
    for places in scores.values():
        for scored in places.values():
            assert (scored["macro_f1"], scored["missed"], scored["false_claims"], scored["answered"]) == (
                1.0,
                0.0,
                0.0,
                1.0,
            )


def test_wrong_answers_and_missing_ones_count(folder: Path, tmp_path: Path) -> None:
    truths = read_truths(folder)
    lines = [line | {"value": 1 - line["value"]} for line in true_lines(folder) if line["place"] == "anywhere"]
    places = score_answers(read_sheet(write_sheet(tmp_path / "sheet.csv", lines), truths), truths)["b"]
    assert places["anywhere"]["macro_f1"] == 0.0
    assert places["anywhere"]["false_claims"] == 1.0
    assert places["surface"] is None


def test_a_pixel_is_answered_alone(folder: Path, tmp_path: Path) -> None:
    truths = read_truths(folder)
    line = {"panel": "b", "group": "mercury_red", "place": "below", "row": 3, "column": 4, "value": 0.75}
    answers = read_sheet(write_sheet(tmp_path / "sheet.csv", [line]), truths)["b"]
    assert np.argwhere(np.isfinite(answers)).tolist() == [[3, 4, truths["b"].names.index("mercury_red.below")]]
    assert np.nanmax(answers) == 0.75


def test_the_empty_sheet_is_no_answer(folder: Path) -> None:
    truths = read_truths(folder)
    scores = score_answers(read_sheet(folder / "sheet.csv", truths), truths)
    assert all(scored is None for places in scores.values() for scored in places.values())


GOOD = {"panel": "b", "group": "mercury_red", "place": "surface", "patch": 1, "value": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"panel": "z"}, "z is not in this benchmark"),
        ({"group": "gold"}, "gold.surface is not in this benchmark"),
        ({"place": "left"}, "place 'left' is none of anywhere, surface, below"),
        ({"value": 7}, "value 7 is no probability"),
        ({"value": "nan"}, "value nan is no probability"),
        ({"value": "yes"}, "could not convert"),
        ({"patch": 99}, "patch 99 is not in panel b"),
        ({"patch": ""}, "either a patch, or a row and a column"),
        ({"row": 1, "column": 1}, "either a patch, or a row and a column"),
        ({"patch": "", "row": 1, "column": 999}, "column 999 is outside panel b"),
        ({"patch": "", "row": -1, "column": 1}, "row -1, column 1 is outside panel b"),
    ],
)
def test_a_line_that_cannot_be_is_refused_with_its_number(
    folder: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    sheet = write_sheet(tmp_path / "sheet.csv", [GOOD, GOOD | change])
    with pytest.raises(BenchmarkError, match=rf"Cannot read answer 2 of .*{message}.*Columns are panel, group"):
        read_sheet(sheet, read_truths(folder))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"[1, 2]", b"[{", b"a,b\n1,2\n"])
def test_what_is_no_sheet_is_refused(folder: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sheet").write_bytes(content)
    with pytest.raises(BenchmarkError, match="Cannot read"):
        read_sheet(tmp_path / "sheet", read_truths(folder))


def test_nothing_is_written_over(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="already contains a benchmark"):
        make_benchmark(folder, quick=True)
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="files of other origin"):
        make_benchmark(tmp_path, quick=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("content", ["", "{}", '{"format": "another", "panels": {}}', "[]"])
def test_a_folder_that_is_no_benchmark_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "benchmark.json").write_text(content, encoding="utf-8")
    with pytest.raises(BenchmarkError):
        read_truths(tmp_path)


def test_scoring_needs_no_torch() -> None:
    code = "import sys, underpaint.lab.evaluation.benchmark; print({'torch', 'lightning'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "set()", done.stderr


def test_a_sheet_is_scored_on_the_command_line(folder: Path, tmp_path: Path) -> None:
    sheet = write_sheet(tmp_path / "mine.csv", true_lines(folder))
    done = CliRunner().invoke(app, ["benchmark", "score", str(folder), str(sheet), "--json", str(tmp_path / "s.json")])
    assert done.exit_code == 0, done.output
    figures = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert figures["benchmark"]["quick"] is True
    assert figures["methods"][str(sheet)]["c"]["below"]["macro_f1"] == 1.0


def test_methods_that_ship_beat_always_yes(folder: Path) -> None:
    from underpaint.lab.evaluation.benchmark import METHODS

    truths = read_truths(folder)
    scan = up.load(folder / "b.h5")
    for title in ("underpaint, default network", "always yes"):
        answers = METHODS[title](scan, truths["b"])
        scored = score_answers({"b": answers}, truths)["b"]
        if title == "always yes":
            assert scored["surface"]["macro_f1"] == scored["surface"]["always_yes_macro_f1"]
        else:
            gains = {place: each["macro_f1"] - each["always_yes_macro_f1"] for place, each in scored.items()}
            assert min(gains["anywhere"], gains["surface"]) > 0.2
            assert gains["below"] > 0.0
