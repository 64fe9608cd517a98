"""The tutorial's commands run as printed; what they write holds what the page shows."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch comes with the extra underpaint[train]")

from underpaint.lab.reproduction.studies import STUDIES

# .ci/run calls this file on its own: minutes of training, however small
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorials" / "reproduce-the-paper.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run every command of the page's shell blocks, in a folder of its own."""
    place = tmp_path_factory.mktemp("tutorial")
    for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL):
        for line in block.strip().splitlines():
            program, *arguments = shlex.split(line)
            assert program == "underpaint"
            command = [sys.executable, "-m", "underpaint", *arguments, "--quiet"]
            done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False, timeout=900)
            assert done.returncode == 0, done.stderr
    return place / "quick"


def read(folder: Path, name: str) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((folder / f"{name}.json").read_text("utf-8"))
    return figures


def test_every_study_is_written(folder: Path) -> None:
    for name in STUDIES:
        about = read(folder, name)["about"]
        assert "virtual" in about["note"]
        assert about["plan"]["grid_step"] > 1


def test_the_page_shows_pictures_that_the_run_writes(folder: Path) -> None:
    pictures = re.findall(r"\.\./reproduce/(\w+\.png)", PAGE.read_text("utf-8"))
    assert len(pictures) == 8
    for name in pictures:
        assert (folder / name).stat().st_size > 10_000


def test_table_3_has_its_arms_and_those_that_hold_out(folder: Path) -> None:
    table = read(folder, "table3")
    arms = {"simulation", "experimental_no_finetune", "experimental_finetune"}
    arms |= {"structure_out_paper_network", "structure_out_default_network"}
    assert arms <= set(table)
    for arm in arms:
        assert len(table[arm]) == 11 + 2
        assert {"accuracy", "sensitivity", "f1", "auprc", "ece", "always_yes"} <= set(table[arm]["vermilion"])
    assert table["simulation"]["vermilion"]["paper"] == [0.987, 0.997, 0.955]
    assert set(table["about"]["seconds"]) > arms


def test_tables_are_written_for_people_too(folder: Path) -> None:
    for name in ("table3", "limits", "comparison"):
        assert (folder / f"{name}.csv").read_text("utf-8").count("\n") > 5
        assert "<table>" in (folder / f"{name}.html").read_text("utf-8")


def test_a_second_call_trains_nothing_again(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "networks").rglob("last.ckpt")}
    command = [sys.executable, "-m", "underpaint", "reproduce", "figure10", "--quick", "--out", str(folder), "--quiet"]
    subprocess.run(command, check=True, timeout=300)
    assert {path: path.stat().st_mtime_ns for path in (folder / "networks").rglob("last.ckpt")} == before


def test_a_folder_keeps_to_its_plan(folder: Path) -> None:
    command = [sys.executable, "-m", "underpaint", "reproduce", "figure10", "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode != 0
    assert "started with other settings" in " ".join(done.stderr.split())


def test_an_unknown_study_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "underpaint", "reproduce", "figure7", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode != 0
    assert "Give all, table3" in " ".join(done.stderr.split())
