"""cite and desktop."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from underpaint._version import __version__
from underpaint.cli import app
from underpaint.cli._about import _launcher_name_and_text, _quote_exec_argument


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def test_what_to_cite_names_this_version_and_the_paper() -> None:
    text = run("cite")
    assert f"underpaint. Version {__version__}." in text
    assert "Xu, Bingjie Jenny; " in text
    assert "https://doi.org/10.1039/d2ja00246a." in text


def test_info_without_a_file_names_versions_for_reports_of_faults() -> None:
    versions = json.loads(run("info", "--json"))
    assert versions["underpaint"] == __version__
    assert versions["numpy"] == np.__version__
    assert "system" in versions
    assert "numpy" in run("info")


def test_bibtex_has_two_balanced_entries() -> None:
    text = run("cite", "--format", "bibtex")
    assert text.count("@") == 2
    assert text.count("{") == text.count("}")
    assert f"version = {{{__version__}}}" in text
    assert "pages = {2672--2682}" in text


def test_the_citation_file_is_valid_yaml_with_the_version() -> None:
    yaml = pytest.importorskip("yaml")
    facts = yaml.safe_load(run("cite", "--format", "cff"))
    assert facts["version"] == __version__
    assert facts["cff-version"] == "1.2.0"


def test_a_starter_is_replaced_only_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert "Wrote" in run("desktop")
    again = CliRunner().invoke(app, ["desktop"])
    assert again.exit_code != 0
    assert "already exists" in again.output
    run("desktop", "--overwrite")
    run("desktop", "--out", str(tmp_path / "mine.desktop"))
    assert (tmp_path / "mine.desktop").is_file()


@pytest.mark.parametrize("argument", ["/usr/bin/python3", "/a b/py", '/a"b', "/a$b`c", "/a\\b", "/100%/py"])
def test_arguments_of_exec_are_quoted_as_the_specification_says(argument: str) -> None:
    in_file = _quote_exec_argument(argument)
    # a reader of the file undoes the escapes of strings, then those of quoted arguments, then those of field codes
    as_string = in_file.replace("\\\\", "\\")
    assert (as_string[0], as_string[-1]) == ('"', '"')
    assert re.sub(r"\\(.)", r"\1", as_string[1:-1]).replace("%%", "%") == argument


@pytest.mark.parametrize(
    ("platform", "name"),
    [("win32", "underpaint.bat"), ("darwin", "underpaint.command"), ("linux", "underpaint.desktop")],
)
def test_each_system_has_its_starter(platform: str, name: str) -> None:
    made, text = _launcher_name_and_text(platform)
    assert made == name
    assert "-m underpaint" in text.replace('"', "")


@pytest.mark.skipif(sys.platform != "linux", reason="the starter of Linux")
def test_the_starter_of_linux_opens_the_start_page(tmp_path: Path) -> None:
    run("desktop", "--out", str(tmp_path / "starter.desktop"))
    lines = (tmp_path / "starter.desktop").read_text(encoding="utf-8").splitlines()
    entry = dict(line.split("=", 1) for line in lines if "=" in line)
    command = shlex.split(entry["Exec"].replace("\\\\", "\\").replace("%%", "%"))
    environment = os.environ | {"BROWSER": "true", "HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            words = (word for line in process.stdout for word in line.split())
            address = next(word for word in words if word.startswith("http://127.0.0.1:"))
            with urllib.request.urlopen(address.rstrip("."), timeout=20) as page:  # noqa: S310 (this machine)
                assert b"underpaint" in page.read()
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)
