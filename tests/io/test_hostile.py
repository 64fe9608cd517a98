"""Files that somebody hostile has prepared are refused with a reason, or shown as text."""

import os
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="onnx, which makes hostile networks, is not installed")
from hostile_files import NAMES, Hostile, hostile_files, judge, try_hostile, worker
from underpaint.runtime.untrusted import plain_text

pytestmark = pytest.mark.skipif(
    not (hasattr(os, "fork") and Path("/proc/self/status").exists()), reason="bounds on a process are those of Linux"
)
LEAST_FILES = 150


def test_there_are_enough_and_none_twice() -> None:
    names = [each.name for each in hostile_files()]
    assert len(names) >= LEAST_FILES
    assert len(set(names)) == len(names)


@pytest.mark.robust
def test_no_hostile_file_is_accepted_or_crashes() -> None:
    n_tried, accepted, crashes = try_hostile()
    assert n_tried >= LEAST_FILES
    assert accepted == []
    assert crashes == []


def test_some_hostile_files(tmp_path: Path) -> None:
    """One of each kind, in the usual run of the tests."""
    kinds: dict[tuple[str, str], Hostile] = {}
    for each in hostile_files():
        kinds.setdefault((each.name.partition(":")[0].partition(" ")[0], each.action), each)
    with worker() as ask:
        for number, each in enumerate(kinds.values()):
            folder = tmp_path / str(number)
            folder.mkdir()
            answer = ask(each.action, folder / each.write(folder))
            assert judge(each, answer) == "", (each.name, answer)


@pytest.mark.parametrize(
    ("answer", "expected", "verdict"),
    [
        ({"outcome": "read", "text": "x"}, "refused", "accepted"),
        ({"outcome": "refused", "text": "Cannot read x: no."}, "refused", ""),
        ({"outcome": "refused", "text": "x" * 5000}, "refused", "accepted"),
        ({"outcome": "traceback", "text": "ValueError"}, "refused", "crash"),
        ({"outcome": "killed", "text": "code -9"}, "bounded", "crash"),
        ({"outcome": "read", "text": "a\x1b[2J"}, "shown", "accepted"),
        ({"outcome": "read", "text": "the-private-text-of-another-folder"}, "bounded", "accepted"),
    ],
)
def test_the_measure_itself(answer: dict[str, str], expected: str, verdict: str) -> None:
    hostile = Hostile("a", "scan", lambda _: "", expected)
    assert judge(hostile, answer) == verdict


def test_a_flood_of_memory_and_a_crash_are_seen(tmp_path: Path) -> None:
    with worker() as ask:
        assert ask("flood", tmp_path)["outcome"] == "traceback"
        assert ask("abort", tmp_path)["outcome"] == "killed"
        assert ask("palette", tmp_path / "none.toml")["outcome"] == "refused"


def test_names_are_seen_in_what_is_shown(tmp_path: Path) -> None:
    """The measure of names rests on text that is there: every name, but for what a terminal obeys."""
    shown = {name: each for name in NAMES for each in hostile_files() if each.name == f"name of a scan: {name!a}"}
    assert len(shown) == len(NAMES)
    with worker() as ask:
        for number, (name, each) in enumerate(shown.items()):
            folder = tmp_path / str(number)
            folder.mkdir()
            text = ask(each.action, folder / each.write(folder))["text"]
            assert plain_text(name) in text, (name, text)
