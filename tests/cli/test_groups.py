import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from underpaint.cli import app


@pytest.fixture(autouse=True)
def palette(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("mine.toml").write_text('pigments = ["lead_white", "red_lead", "viridian", "chrome_yellow"]\n')


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["pigments", *arguments])


def test_groups_as_json_with_a_figure() -> None:
    result = run(
        "groups", "--palette", "mine.toml", "--counts", "1e4", "--json", "--quiet", "--out-figure", "pairs.png"
    )
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["counts"] == 1e4
    lead = record["groups"][0]
    assert lead["pigments"] == ["lead_white", "red_lead"]
    assert lead["prior"] == {"lead_white": 0.5, "red_lead": 0.5}
    assert "would be told apart by" in lead["pairs"][0]["would_be_told_apart_by"]
    mixtures = {tuple(composite["mixture"]): composite["told_apart"] for composite in record["composites"]}
    assert mixtures[("lead_white", "viridian")] is False
    assert record["counts_needed"][0][0] is None
    assert Path("pairs.png").read_bytes().startswith(b"\x89PNG")


def test_groups_as_a_table() -> None:
    result = run("groups", "--palette", "mine.toml", "--no-mixtures")
    text = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout)
    assert result.exit_code == 0, result.output
    assert "3 groups at 1e+05 counts, elio" in text
    assert "lead_white, red_lead" in text
    assert "not by the spectrum" in text


def test_groups_of_a_ground_that_does_not_exist() -> None:
    result = run("groups", "--palette", "mine.toml", "--ground", "moonlight")
    assert result.exit_code == 1
    assert "No ground is called 'moonlight'" in result.output


def test_the_library_is_what_pigments_shows_by_default() -> None:
    assert json.loads(run("--json").stdout) == json.loads(run("list", "--json").stdout)
    assert "vermilion" in run("show", "VM").stdout
