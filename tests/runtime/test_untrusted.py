"""Text and settings from outside: shown as text, bounded, refused in words."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Group
from rich.table import Table

from underpaint.cli._console import progress, say, say_error, say_warning, show, show_json
from underpaint.cli._progress_rate import progress_with_rate
from underpaint.errors import SampleError
from underpaint.runtime.untrusted import fault_of_name, plain_json, plain_text, read_toml

EVIL = "\x1b[2J\x1b]0;title\x07[red]r[/red] :smile: \x9b1m\r\u202eend"
PLAIN = r"\x1b[2J\x1b]0;title\x07[red]r[/red] :smile: \x9b1m\x0d\u202eend"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (EVIL, PLAIN),
        ("Bleiweiß, 鉛白, العربية\n\tx", "Bleiweiß, 鉛白, العربية\n\tx"),
        ("\udcff\x00\x7f", r"\udcff\x00\x7f"),
    ],
)
def test_text_is_shown_as_text(text: str, shown: str) -> None:
    assert plain_text(text) == shown


def test_json_keeps_its_values() -> None:
    value = {"name": EVIL, "more": ["é", "\udcff"]}
    text = plain_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert plain_text(text) == text


def test_all_that_prints_shows_text_as_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    table = Table(title=EVIL)
    table.add_column(EVIL)
    table.add_row(EVIL)
    say(EVIL)
    say_error(EVIL)
    say_warning(EVIL)
    show(table)
    show(Group(EVIL, table))
    with progress(quiet=False) as step:
        step(EVIL, 1, 2)
    with progress_with_rate(quiet=False, unit="x") as step:
        step(EVIL, 1, 2)
    show_json({"a": EVIL})
    out, error = capsys.readouterr()
    assert out.count(PLAIN) == 8
    assert error.count(PLAIN) >= 2
    assert plain_text(out) == out
    assert EVIL not in error


@pytest.mark.parametrize("text", ["a\nb", "a\tb", "\x1b", "\u202e", "x" * 2001])
def test_names_that_cannot_be_shown(text: str) -> None:
    assert fault_of_name(text)
    assert plain_text(fault_of_name(text)) == fault_of_name(text)


@pytest.mark.parametrize("text", ["vermilion", "Bleiweiß (α)", "x" * 2000, ""])
def test_names_that_can(text: str) -> None:
    assert fault_of_name(text) == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x = " + b"[" * 20_000, "not TOML"),
        (b"x = " + b"9" * 9000, "not TOML"),
        (b"a" + b".a" * 60 + b" = 1", "more than 50 parts"),
        (b"x" * (5 * 2**20), "up to 4194304 are allowed"),
        (b"\xff", "not TOML"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.toml").write_bytes(content)
    with pytest.raises(SampleError, match=message):
        read_toml(tmp_path / "x.toml", SampleError, "the palette")


def test_long_tables_and_sentences_are_read(tmp_path: Path) -> None:
    text = "x = [" + "1.0, " * 5000 + "]\nnote = '" + "A sentence (of some words), and more. " * 100 + "'\n"
    (tmp_path / "x.toml").write_text(text)
    assert len(read_toml(tmp_path / "x.toml", SampleError, "the palette")["x"]) == 5000


def test_a_stream_that_is_no_terminal_gets_no_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    say(EVIL, style="bold")
    assert stream.getvalue() == PLAIN + "\n"
