"""The check of names and words."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOL = runpy.run_path(str(ROOT / "tools" / "wording.py"))
GLOSSARY = "| Term | Unit | Meaning | Not |\n|---|---|---|---|\n| executor | | computes | crew, hand that computes |\n"


def tree(root: Path, code: str = '"""Add."""\n', page: str = "") -> Path:
    for name, text in (("docs/reference/glossary.md", GLOSSARY), ("src/underpaint/a.py", code), ("README.md", page)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    (root / "CHANGELOG.md").touch()
    return root


def test_the_sources_use_the_glossary() -> None:
    assert TOOL["main"]() == 0


@pytest.mark.parametrize(
    "code",
    [
        "own = 1\n",
        "def asked() -> None: ...\n",
        "def f(own_rate: float) -> None: ...\n",
        "class Told: ...\n",
        "import numpy as found\n",
        "for one in ():\n    pass\n",
        '"""The crew."""\n',
        "# the hand that computes\n",
        'f"a crew of {1}"\n',
    ],
)
def test_odd_names_and_replaced_words_fail(code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert TOOL["main"](tree(tmp_path, code)) == 1
    assert "src/underpaint/a.py:1:" in capsys.readouterr().out


@pytest.mark.parametrize(
    "code", ["owner = 1\n", "found_axis = 1\n", 'x = {"crew": 1}\n', "x.own = 1\n", '"""Screwed."""\n']
)
def test_usual_names_keys_and_other_words_pass(code: str, tmp_path: Path) -> None:
    assert TOOL["main"](tree(tmp_path, code)) == 0


def test_pages_are_checked(tmp_path: Path) -> None:
    assert TOOL["main"](tree(tmp_path, page="The crew and\na crew.\n")) == 1
