"""No command replaces what is there: asked of every option that the commands have, so that a new one cannot forget."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.models import ArgumentInfo
from typer.testing import CliRunner

from underpaint import io
from underpaint.cli import app
from underpaint.cli._outputs import parameter_declarations
from underpaint.data import EnergyAxis, Scan
from underpaint.data.maps import Results

INPUTS = {
    *{
        ("explain", "region"),
        ("fit", "region"),
        ("view", "folder"),
        ("report", "folder"),
        ("paints", "folder"),
        ("paints", "known"),
        ("plan", "folder"),
        ("repair", "mask"),
        ("compare", "a"),
        ("compare", "b"),
        ("add-reflectance", "file"),
    },
    *{("score", "folder"), ("score", "sheets"), ("reflect", "xrf"), ("reflect", "library"), ("reflect", "points")},
    *{("mosaic", "positions"), ("simulate", "config"), ("train", "config"), ("finetune", "config")},
    *{("finetune", "labels"), ("adapt", "labels"), ("evaluate", "reference"), ("evaluate", "instrument_model")},
    *{("reproduce", "mockups"), ("reproduce", "labels")},
}
"""Paths that are read; every other one is written."""
NEEDED = {
    "identify": ["scan.h5"],
    "elements": ["scan.h5"],
    "info": ["scan.h5"],
    "calibrate": ["scan.h5"],
    "explain": ["scan.h5", "--pixel", "0,0"],
    "fit": ["scan.h5"],
    "report": ["results"],
    "plan": ["results", "--question", "lead_pigment under mercury_red"],
    "reflect": ["scan.h5", "--xrf", "results"],
    "score": ["results"],
    "compare": ["results", "results"],
    "convert": ["scan.h5", "target", "new.h5"],
    "repair": ["scan.h5", "--crop", "0:1,0:1", "out", "new.h5"],
    "mosaic": ["scan.h5", "--positions", "stage.csv", "out", "new.h5"],
    "simulate": ["job.toml", "--explain", "out", "new.h5"],
    "adapt": ["scan.h5"],
    "finetune": ["--spectra", "scan.h5", "--labels", "labels.csv"],
    "train": ["--instrument", "elio", "--palette", "old_master"],
    "groups": ["--palette", "xu2022"],
}
JOB = """
[[stratigraphy]]
name = "one"
layer = [{ pigments = { vermilion = 1 }, thickness_um = 30 }]
"""


def commands(group: typer.Typer, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for value in group.registered_commands:
        assert value.callback is not None
        yield (*before, value.name or value.callback.__name__), value.callback
    for below in group.registered_groups:
        assert below.typer_instance is not None
        yield from commands(below.typer_instance, (*before, str(below.name)))


COMMANDS = dict(commands(app))
OUTPUTS = [
    (names, name)
    for names, command in COMMANDS.items()
    for name, (kind, _) in parameter_declarations(command).items()
    if "Path" in str(kind) and (names[-1], name) not in INPUTS
]
WITH_ENDING = [
    (names, name)
    for names, name in OUTPUTS
    for _, declaration in [parameter_declarations(COMMANDS[names])[name]]
    if declaration is not None and re.search(r"\.\w", declaration.metavar or "")
]
REPLACING = [(names, name) for names, name in OUTPUTS if "overwrite" in parameter_declarations(COMMANDS[names])]


@pytest.fixture(autouse=True)
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    counts = np.random.default_rng(0).poisson(3.0, (2, 3, 512)).astype(np.uint16)
    io.save_scan(Scan(counts, axis=EnergyAxis(0.02, 0.0, 512), name="scan"), "scan.h5")
    Path("job.toml").write_text(JOB)
    Path("stage.csv").write_text("tile,row_mm,column_mm\nscan.h5,0,0\n")
    Path("labels.csv").write_text("row,column,pigments\n0,0,vermilion\n")
    ones = np.ones((2, 3, 1), np.float32)
    io.write_results("results", Results.of_lines(("Fe_K",), ones, ones))


def call(names: tuple[str, ...], name: str, value: str, *more: str) -> Any:
    """Run a command with what it needs and one output."""
    declared, needed, arguments = parameter_declarations(COMMANDS[names]), iter(NEEDED.get(names[-1], [])), list[str]()
    for word in needed:
        if word not in declared:
            arguments.append(word)
        elif word != name:
            arguments += spelled(word, declared[word][1], next(needed))
        else:
            next(needed)
    return CliRunner().invoke(app, [*names, *arguments, *spelled(name, declared[name][1], value), *more])


def spelled(name: str, about: Any, value: str) -> list[str]:
    words = (*(about.param_decls or ()), about.default)
    option = next((word for word in words if str(word).startswith("--")), f"--{name.replace('_', '-')}")
    return [value] if isinstance(about, ArgumentInfo) else [option, value]


def contents() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def test_every_command_looks_at_its_outputs_first() -> None:
    assert len(COMMANDS) > 15
    assert [names for names, command in COMMANDS.items() if not hasattr(command, "__wrapped__")] == []
    declared = {(names[-1], name) for names, command in COMMANDS.items() for name in parameter_declarations(command)}
    assert declared >= INPUTS
    assert len(OUTPUTS) > 15


@pytest.mark.parametrize(
    ("names", "name"), OUTPUTS, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_a_file_that_is_there_is_not_replaced(names: tuple[str, ...], name: str) -> None:
    Path("mine.h5").write_text("mine")
    before = contents()
    done = call(names, name, "mine.h5")
    assert done.exit_code in {1, 2}, done.output
    assert "mine.h5" in done.output
    assert contents() == before


@pytest.mark.parametrize(
    ("names", "name"), WITH_ENDING, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_a_file_of_another_ending_is_refused_before_the_work(names: tuple[str, ...], name: str) -> None:
    before = contents()
    done = call(names, name, "new.xyz")
    assert done.exit_code == 1, done.output
    assert "Cannot write new.xyz: this file must end in ." in done.output
    assert contents() == before


@pytest.mark.parametrize(("form", "ending"), [("html", "pdf"), ("pdf", "html")])
def test_a_report_of_the_other_form_is_refused(form: str, ending: str) -> None:
    done = CliRunner().invoke(app, ["report", "results", "--format", form, "--out", f"new.{ending}"])
    assert f"new.{ending}: this file must end in .{form}, but ends in .{ending}" in done.output


def test_results_in_place_of_a_scan_are_named() -> None:
    done = CliRunner().invoke(app, ["identify", "results"])
    assert "results: it is a results folder, not a scan" in done.output


@pytest.mark.parametrize(
    ("names", "name"), REPLACING, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_an_input_is_never_replaced(names: tuple[str, ...], name: str) -> None:
    """Neither the scan nor, for a folder of results, a file in it; a hard link to the scan is the scan."""
    source = "results/results.h5" if names[-1] == "report" else "scan.h5"
    if not any(name_or_path in NEEDED.get(names[-1], []) for name_or_path in (source, "results")):
        pytest.skip("reads no scan")
    Path("link.h5").hardlink_to(source)
    before = contents()
    for value in (source, "link.h5") if source == "scan.h5" else (source,):
        done = call(names, name, value, "--overwrite")
        assert done.exit_code in {1, 2}, done.output
        assert contents() == before


def test_the_numbers_of_a_ripple_are_an_input_too() -> None:
    np.arange(24, dtype="<u2").tofile("cube.raw")
    keys = {"width": 2, "height": 3, "depth": 4, "offset": 0, "data-type": "unsigned", "data-length": 2}
    text = "key\tvalue\n" + "".join(f"{key}\t{value}\n" for key, value in keys.items())
    Path("cube.rpl").write_text(text + "byte-order\tlittle-endian\nrecord-by\tvector\n")
    before = contents()
    done = CliRunner().invoke(app, ["info", "cube.rpl", "--picture", "cube.raw", "--overwrite"])
    assert done.exit_code == 1
    assert "it is part of the input cube.rpl" in done.output
    assert contents() == before


@pytest.mark.parametrize("arguments", [["info", "scan.h5", "--picture", "old.png"]])
def test_overwrite_replaces(arguments: list[str]) -> None:
    Path("old.png").write_text("old")
    assert CliRunner().invoke(app, arguments).exit_code == 1
    done = CliRunner().invoke(app, [*arguments, "--overwrite"])
    assert done.exit_code == 0, done.output
    assert Path("old.png").read_bytes().startswith(b"\x89PNG")


def test_a_report_replaces_only_a_file_of_its_default_name() -> None:
    for _ in range(2):
        assert CliRunner().invoke(app, ["report", "results"]).exit_code == 0
    assert CliRunner().invoke(app, ["report", "results", "--out", "results/report.html"]).exit_code == 1
    assert CliRunner().invoke(app, ["report", "results", "--out", "results/report.html", "--overwrite"]).exit_code == 0


def test_a_table_of_another_kind_is_not_replaced_by_that_of_many_scans() -> None:
    Path("underpaint_summary.csv").write_text("mine")
    done = CliRunner().invoke(app, ["elements", "scan.h5", "scan.h5"])
    assert "is not a summary of scans" in done.output
    assert Path("underpaint_summary.csv").read_text() == "mine"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_terminal_without_greek_letters_shows_escapes(encoding: str) -> None:
    """As on Windows; what cannot be shown must not end the command."""
    code = (
        "from underpaint.cli._console import escape_unencodable, say, say_error, show_json; escape_unencodable();"
        r"say('\u03b1 \udce9'); say_error('\u2192'); show_json({'\u03b1': '\U0001f600'})"
    )
    env = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=env, check=False)
    assert done.returncode == 0, done.stderr.decode()
    first, rest = done.stdout.decode("ascii").split("\n", 1)
    assert first.strip() == r"\u03b1 \udce9"
    assert json.loads(rest) == {"\u03b1": "\U0001f600"}
