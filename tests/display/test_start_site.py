"""The start page: files are listed, jobs run beside it and can be cancelled, results are opened."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from viewer_fakes import results

from underpaint.display.viewer.runs import CANCELLED, DONE, FAILED, Run, Runs
from underpaint.display.viewer.server import Request
from underpaint.display.viewer.start_site import MOST_RECENT, StartSite, recent, remember
from underpaint.errors import ScanError

WORKER = """
import json, sys, threading
job = json.loads(sys.stdin.readline())
def tell(**what): print(json.dumps(what), flush=True)
tell(progress=["Working", 1, 4])
if job["what"] == "wait":
    sys.stdin.read()
elif job["what"] == "fail":
    tell(error="Cannot do it: of course not.")
elif job["what"] == "break":
    raise SystemExit("the worker broke")
else:
    tell(result={"echo": job["scan"]})
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[StartSite]:
    (tmp_path / "home").mkdir()
    own = StartSite(tmp_path / "home")
    yield own
    own.close()


def ask(site: StartSite, method: str, *parts: str, query: dict[str, str] | None = None, **sent: object) -> Any:
    answer = site(Request(method, parts, query or {}, json.dumps(sent).encode()))
    assert answer is not None
    assert isinstance(answer.body, bytes)
    return json.loads(answer.body)


def run(what: str) -> Run:
    return Run({"what": what, "scan": "a.h5"}, (sys.executable, "-c", WORKER))


def test_a_run_tells_how_far_it_is_and_what_came_of_it() -> None:
    state = run("echo").wait(60)
    assert state["state"] == DONE
    assert state["result"] == {"echo": "a.h5"}
    assert (state["done"], state["total"]) == (1, 4)


@pytest.mark.parametrize(("what", "words"), [("fail", "of course not"), ("break", "the worker broke")])
def test_a_run_that_fails_says_why(what: str, words: str) -> None:
    state = run(what).wait(60)
    assert state["state"] == FAILED
    assert words in state["error"]


def test_a_cancelled_run_ends() -> None:
    own = run("wait")
    own.cancel()
    assert own.wait(60)["state"] == CANCELLED
    assert own._process is not None
    assert own._process.returncode is not None


def test_closing_the_server_cancels_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run.__init__, "__defaults__", ((sys.executable, "-c", WORKER), None))
    runs = Runs()
    own = runs.start({"what": "wait", "scan": "a.h5"})
    runs.close()
    assert own.state()["state"] == CANCELLED
    assert runs.get(own.key) is own


def test_a_folder_is_listed_by_what_it_holds(site: StartSite) -> None:
    results(site.home)
    (site.home / "notes.docx").write_text("x")
    (site.home / ".hidden").write_text("x")
    (site.home / "other_underpaint.part").mkdir()
    found = ask(site, "GET", "list")
    kinds = {own["name"]: own["kind"] for own in found["entries"]}
    assert kinds == {"panel.h5": "scan", "panel_underpaint": "results", "notes.docx": "file"}
    assert found["path"] == str(site.home)


@pytest.mark.parametrize("path", ["relative", "/no/such/folder"])
def test_what_is_no_folder_is_not_listed(site: StartSite, path: str) -> None:
    with pytest.raises(ScanError, match="it is no folder"):
        ask(site, "GET", "list", query={"path": path})


def test_a_path_is_that_of_a_folder_or_a_scan_or_of_nothing(site: StartSite) -> None:
    results(site.home)
    scan = site.home / "panel.h5"
    assert ask(site, "GET", "kind", query={"path": str(site.home)})["kind"] == "folder"
    for text in (str(scan), f"{scan}::/entry/counts"):
        assert ask(site, "GET", "kind", query={"path": text}) == {"kind": "scan", "folder": str(site.home)}
    for text, words in (
        (str(site.home / "nowhere"), "no such file or folder"),
        ("panel.h5", "whole path"),
        ("", "path"),
    ):
        with pytest.raises(ScanError, match=words):
            ask(site, "GET", "kind", query={"path": text})


def test_the_folder_that_was_looked_into_last_is_offered_first(site: StartSite) -> None:
    folder = results(site.home)
    assert not ask(site, "GET", "list")["results"]
    assert ask(site, "GET", "list", query={"path": str(folder)})["results"]
    remember(folder)
    for again in (site, StartSite()):
        assert ask(again, "GET", "list")["path"] == str(folder)
        assert [own["place"] for own in ask(again, "GET", "choices")["recent"]] == [str(folder.parent)]
    again = StartSite(site.home.parent)
    assert ask(again, "GET", "list")["path"] == str(site.home.parent)


def test_the_choices_are_those_of_the_package(site: StartSite) -> None:
    found = ask(site, "GET", "choices")
    assert any(own["name"] == "elio" and "Rh anode" in own["label"] for own in found["instruments"])
    assert "default" in found["models"]
    assert all("pigments)" in own["label"] for own in found["palettes"])


def test_opened_results_are_shown_and_listed_as_recent(site: StartSite) -> None:
    folder = results(site.home)
    address = ask(site, "POST", "open", folder=str(folder))["address"]
    assert ask(site, "POST", "open", folder=str(folder))["address"] == address
    assert ask(site, "GET", *address.strip("/").split("/"), "about")["title"] == "panel"
    assert [own["folder"] for own in recent()] == [str(folder)]
    assert site(Request("GET", ("open", "7", "about"))) is None


def test_results_that_went_are_recent_no_more(tmp_path: Path) -> None:
    for number in range(MOST_RECENT + 3):
        folder = tmp_path / f"result_{number}"
        folder.mkdir()
        (folder / "results.h5").write_bytes(b"")
        remember(folder)
    assert len(recent()) == MOST_RECENT
    (tmp_path / f"result_{MOST_RECENT + 2}" / "results.h5").unlink()
    assert len(recent()) == MOST_RECENT - 1
    (tmp_path / "state" / "recent.json").write_text("damaged")
    assert recent() == []


@pytest.mark.parametrize("sent", [{}, {"what": "identify"}, {"what": "remove", "scan": "a.h5"}])
def test_only_known_jobs_are_run(site: StartSite, sent: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runs, "start", lambda *_: pytest.fail("it was run"))
    with pytest.raises(ScanError, match="choose a scan first"):
        site(Request("POST", ("run",), {}, json.dumps(sent).encode()))


def test_a_path_that_is_no_utf8_is_refused_in_words(site: StartSite) -> None:
    with pytest.raises(ScanError, match=r"Cannot look for '/\\ud800'"):
        ask(site, "POST", "open", folder="/\ud800")
    with pytest.raises(ScanError, match="no text in UTF-8"):
        ask(site, "POST", "run", what="identify", scan="/a.h5", out="/\ud800")
