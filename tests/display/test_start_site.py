"""The start page: files are listed, jobs run beside it and can be cancelled, results are opened."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from start_fakes import FEW_LINES, counts, spectra_folder
from viewer_fakes import results

from underpaint.display.viewer.runs import CANCELLED, DONE, FAILED, Run, Runs
from underpaint.display.viewer.server import Request
from underpaint.display.viewer.start_site import MAX_RECENT, StartSite, recent_results, remember_folder
from underpaint.errors import InstrumentError, OutputError, SampleError, ScanError, UnderpaintError
from underpaint.physics.instrument import load_instrument, save_instrument
from underpaint.physics.materials import Palette, load_palette, save_palette

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

IDENTIFYING = "import sys; sys.stdin.readline(); sys.stdin.read()"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[StartSite]:
    (tmp_path / "home").mkdir()
    opened = StartSite(tmp_path / "home")
    yield opened
    opened.close()


def ask(site: StartSite, method: str, *parts: str, query: dict[str, str] | None = None, **sent: object) -> Any:
    answer = site(Request(method, parts, query or {}, json.dumps(sent).encode()))
    assert answer is not None
    assert isinstance(answer.body, bytes)
    return json.loads(answer.body)


def run(task: str) -> Run:
    return Run({"what": task, "scan": "a.h5"}, (sys.executable, "-c", WORKER))


def test_a_run_tells_how_far_it_is_and_what_came_of_it() -> None:
    state = run("echo").wait(60)
    assert state["state"] == DONE
    assert state["result"] == {"echo": "a.h5"}
    assert (state["done"], state["total"]) == (1, 4)


@pytest.mark.parametrize(("task", "words"), [("fail", "of course not"), ("break", "the worker broke")])
def test_a_run_that_fails_says_why(task: str, words: str) -> None:
    state = run(task).wait(60)
    assert state["state"] == FAILED
    assert words in state["error"]


def test_a_cancelled_run_ends() -> None:
    waiting = run("wait")
    waiting.cancel()
    assert waiting.wait(60)["state"] == CANCELLED
    assert waiting._process is not None
    assert waiting._process.returncode is not None


def test_closing_the_server_cancels_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run.__init__, "__defaults__", ((sys.executable, "-c", WORKER), None))
    runs = Runs()
    waiting = runs.start({"what": "wait", "scan": "a.h5"})
    runs.close()
    assert waiting.state()["state"] == CANCELLED
    assert runs.get(waiting.key) is waiting


def test_a_folder_is_listed_by_what_it_holds(site: StartSite) -> None:
    results(site.home)
    (site.home / "notes.docx").write_text("x")
    (site.home / ".hidden").write_text("x")
    (site.home / "other_underpaint.part").mkdir()
    answer = ask(site, "GET", "list")
    kinds = {each["name"]: each["kind"] for each in answer["entries"]}
    assert kinds == {"panel.h5": "scan", "panel_underpaint": "results", "notes.docx": "file"}
    assert answer["path"] == str(site.home)


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
        ("panel.h5", "absolute path"),
        ("", "path"),
    ):
        with pytest.raises(ScanError, match=words):
            ask(site, "GET", "kind", query={"path": text})


def test_the_folder_that_was_looked_into_last_is_offered_first(site: StartSite) -> None:
    folder = results(site.home)
    assert not ask(site, "GET", "list")["results"]
    assert ask(site, "GET", "list", query={"path": str(folder)})["results"]
    remember_folder(folder)
    for again in (site, StartSite()):
        assert ask(again, "GET", "list")["path"] == str(folder)
        assert [each["place"] for each in ask(again, "GET", "choices")["recent"]] == [str(folder.parent)]
    again = StartSite(site.home.parent)
    assert ask(again, "GET", "list")["path"] == str(site.home.parent)


def test_the_choices_are_those_of_the_package(site: StartSite) -> None:
    answer = ask(site, "GET", "choices")
    assert any(each["name"] == "elio" and "Rh anode" in each["label"] for each in answer["instruments"])
    assert "default" in answer["models"]
    assert all("pigments)" in each["label"] for each in answer["palettes"])


def test_opened_results_are_shown_and_listed_as_recent(site: StartSite) -> None:
    folder = results(site.home)
    address = ask(site, "POST", "open", folder=str(folder))["address"]
    assert ask(site, "POST", "open", folder=str(folder))["address"] == address
    assert ask(site, "GET", *address.strip("/").split("/"), "about")["title"] == "panel"
    assert [each["folder"] for each in recent_results()] == [str(folder)]
    assert site(Request("GET", ("open", "7", "about"))) is None


def test_results_that_went_are_recent_no_more(tmp_path: Path) -> None:
    for number in range(MAX_RECENT + 3):
        folder = tmp_path / f"result_{number}"
        folder.mkdir()
        (folder / "results.h5").write_bytes(b"")
        remember_folder(folder)
    assert len(recent_results()) == MAX_RECENT
    (tmp_path / f"result_{MAX_RECENT + 2}" / "results.h5").unlink()
    assert len(recent_results()) == MAX_RECENT - 1
    (tmp_path / "state" / "recent.json").write_text("damaged")
    assert recent_results() == []


@pytest.mark.parametrize("sent", [{}, {"what": "identify"}, {"what": "remove", "scan": "a.h5"}])
def test_only_known_jobs_are_run(site: StartSite, sent: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runs, "start", lambda *_: pytest.fail("it was run"))
    with pytest.raises(ScanError, match="choose a scan first"):
        site(Request("POST", ("run",), {}, json.dumps(sent).encode()))


def test_a_path_that_is_no_utf8_is_refused_in_words(site: StartSite) -> None:
    with pytest.raises(ScanError, match=r"Cannot look for '/\\ud800'"):
        ask(site, "POST", "open", folder="/\ud800")
    with pytest.raises(ScanError, match="not UTF-8 text"):
        ask(site, "POST", "run", what="identify", scan="/a.h5", out="/\ud800")


def test_a_folder_of_spectra_is_one_entry_and_its_files_are_folded(site: StartSite) -> None:
    folder = spectra_folder(site.home / "spectra")
    (site.home / "photographs").mkdir()
    entries = {entry["name"]: entry for entry in ask(site, "GET", "list")["entries"]}
    assert entries["spectra"]["kind"] == "scan"
    assert entries["photographs"]["kind"] == "folder"
    inside = ask(site, "GET", "list", query={"path": str(folder)})
    assert (inside["scan"], inside["folded"], inside["entries"]) == (True, 30, [])


def test_a_folder_per_detector_is_one_scan_and_a_folder_of_scans_is_not(site: StartSite) -> None:
    for name in ("left", "right"):
        spectra_folder(site.home / name, 3)
    assert ask(site, "GET", "list")["scan"]
    (site.home / "notes").mkdir()
    assert not ask(site, "GET", "list")["scan"]


def test_an_instrument_and_a_palette_in_files_are_recognised_by_what_they_hold(site: StartSite) -> None:
    save_instrument(load_instrument("elio"), site.home / "ours.toml")
    save_palette(Palette("mine", ("vermilion", "lead_white")), site.home / "pigments.toml")
    (site.home / "other.toml").write_text("[project]\nname = 'x'\n", encoding="utf-8")
    entries = {entry["name"]: entry["kind"] for entry in ask(site, "GET", "list")["entries"]}
    assert entries == {"ours.toml": "settings", "pigments.toml": "settings", "other.toml": "settings"}
    ours = ask(site, "GET", "kind", query={"path": str(site.home / "ours.toml")})
    assert (ours["kind"], ours["name"], "Rh anode" in ours["label"]) == (
        "instrument",
        str(site.home / "ours.toml"),
        True,
    )
    mine = ask(site, "GET", "kind", query={"path": str(site.home / "pigments.toml")})
    assert (mine["kind"], mine["pigments"]) == ("palette", ["vermilion", "lead_white"])
    (site.home / "broken.toml").write_text("pigments = [", encoding="utf-8")
    for name, error in (("other.toml", InstrumentError), ("broken.toml", SampleError)):
        with pytest.raises(error, match=name):
            ask(site, "GET", "kind", query={"path": str(site.home / name)})


def test_a_palette_is_saved_offered_again_and_replaced_only_on_request(site: StartSite) -> None:
    saved = ask(site, "POST", "palette", name="Flood 1743", pigments=["vermilion", "chalk"])
    assert load_palette(saved["name"]).pigments == ("vermilion", "chalk")
    assert saved["name"] in {entry["name"] for entry in ask(StartSite(site.home), "GET", "choices")["palettes"]}
    with pytest.raises(OutputError, match="exists"):
        ask(site, "POST", "palette", name="Flood 1743", pigments=["azurite"])
    assert load_palette(saved["name"]).pigments == ("vermilion", "chalk")
    ask(site, "POST", "palette", name="Flood 1743", pigments=["azurite"], replace=True)
    assert load_palette(saved["name"]).pigments == ("azurite",)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "con", "baroque", "x" * 61, None, 3])
def test_a_palette_has_a_name_that_is_a_file_name_and_new(site: StartSite, name: object) -> None:
    with pytest.raises(SampleError, match="Cannot save the palette"):
        ask(site, "POST", "palette", name=name, pigments=["chalk"])


@pytest.mark.parametrize("pigments", [[], ["unobtainium"], "chalk", [1]])
def test_a_palette_holds_known_pigments(site: StartSite, pigments: object) -> None:
    with pytest.raises(SampleError):
        ask(site, "POST", "palette", name="mine", pigments=pigments)


def send(site: StartSite, folder: Path, name: object, body: bytes, size: object = None, piece: int = 4) -> Any:
    now = ask(site, "POST", "upload", folder=str(folder), name=name, size=len(body) if size is None else size)
    for number in range(-(-len(body) // piece)):
        part = body[number * piece : (number + 1) * piece]
        answer = site(Request("POST", ("upload", now["upload"]), {"piece": str(number)}, part))
        assert answer is not None
        assert isinstance(answer.body, bytes)
        now = json.loads(answer.body)
    return now


@pytest.mark.parametrize("body", [b"", b"1", b"0123456789"])
def test_an_upload_appears_under_its_name_when_it_is_complete(site: StartSite, body: bytes) -> None:
    now = send(site, site.home, "scan.h5", body)
    assert now["complete"]
    assert Path(now["path"]).read_bytes() == body
    assert [entry.name for entry in site.home.iterdir()] == ["scan.h5"]


def test_an_upload_never_replaces_a_file_even_one_that_appears_meanwhile(site: StartSite) -> None:
    (site.home / "scan.h5").write_bytes(b"mine")
    with pytest.raises(OutputError, match="already contains a file with this name"):
        send(site, site.home, "scan.h5", b"theirs")
    now = ask(site, "POST", "upload", folder=str(site.home), name="other.h5", size=3)
    (site.home / "other.h5").write_bytes(b"mine, too")
    with pytest.raises(OutputError, match="already exists"):
        site(Request("POST", ("upload", now["upload"]), {"piece": "0"}, b"abc"))
    assert (site.home / "scan.h5").read_bytes() == b"mine"
    assert (site.home / "other.h5").read_bytes() == b"mine, too"
    assert len(list(site.home.iterdir())) == 2


def test_an_upload_that_is_cancelled_or_out_of_order_leaves_nothing(site: StartSite) -> None:
    first, second, third = (ask(site, "POST", "upload", folder=str(site.home), name=f"{n}.h5", size=9) for n in "abc")
    assert not [entry for entry in site.home.iterdir() if entry.suffix == ".h5"]
    assert ask(site, "DELETE", "upload", first["upload"]) == {}
    assert site(Request("DELETE", ("upload", first["upload"]))) is None
    with pytest.raises(OutputError, match="not sent in order"):
        site(Request("POST", ("upload", second["upload"]), {"piece": "1"}, b"abc"))
    site(Request("POST", ("upload", third["upload"]), {"piece": "0"}, b"abc"))
    site.close()
    assert list(site.home.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["", "..", "../up.h5", "a/b.h5", "a\\b.h5", ".hidden", "con", "a\0b", "\ud800", None, 7]
)
def test_an_upload_has_a_plain_file_name(site: StartSite, name: object) -> None:
    with pytest.raises(OutputError, match="not a valid file name"):
        send(site, site.home, name, b"1")
    assert list(site.home.iterdir()) == []


@pytest.mark.parametrize("size", [-1, "3", True, 1.5, 2**60, 2000])
def test_an_upload_has_a_size_that_the_disk_can_take(
    site: StartSite, size: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OutputError, match="Cannot upload"):
        send(site, site.home, "scan.h5", b"123", size=size)
    assert list(site.home.iterdir()) == []


def test_lines_assigned_to_channels_give_the_axis_and_its_residuals(site: StartSite) -> None:
    lines = [{"channel": 369.0, "energy_kev": 3.69}, {"channel": 640.0, "energy_kev": 6.4}]
    axis = ask(site, "POST", "axis", lines=lines, n_channel=2048)
    assert (round(axis["gain_kev"], 6), round(axis["zero_kev"], 6)) == (0.01, 0.0)
    assert max(map(abs, axis["residual_ev"])) < 1e-6


@pytest.mark.parametrize("lines", [None, "x", [1], [{"channel": "a", "energy_kev": 1}], [{}], [{"channel": 1}] * 99])
def test_lines_that_are_none_are_refused_in_words(site: StartSite, lines: object) -> None:
    with pytest.raises(UnderpaintError, match="Cannot calibrate"):
        ask(site, "POST", "axis", lines=lines, n_channel=2048)


def test_a_calibration_by_hand_is_saved_beside_the_scan_and_refined_by_its_lines(
    site: StartSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = counts(FEW_LINES, (12, 12)).sum(axis=(0, 1))
    look = Run({"what": "look", "scan": "x"}, (sys.executable, "-c", WORKER))
    look.wait(60)
    result = {"sum": total.tolist(), "name": "x", "out": str(site.home / "x_underpaint")}
    monkeypatch.setattr(look, "state", lambda: {"state": DONE, "result": result})
    monkeypatch.setattr(site.runs, "get", lambda key: look if key == "look" else None)
    (site.home / "x_calibrated.toml").write_text("mine", encoding="utf-8")
    lines = [{"channel": 368.0, "energy_kev": 3.69}, {"channel": 641.0, "energy_kev": 6.4}]
    saved = ask(site, "POST", "calibration", run="look", lines=lines)
    assert saved["name"] == str(site.home / "x_calibrated_2.toml")
    assert (site.home / "x_calibrated.toml").read_text(encoding="utf-8") == "mine"
    assert saved["found"] == ["Fe_K", "Ca_K"]
    detector = load_instrument(saved["name"]).detector
    assert detector.gain_kev == pytest.approx(0.01, rel=1e-3)
    assert abs(detector.zero_kev) < 0.01
    with pytest.raises(ScanError, match="no longer knows this scan"):
        ask(site, "POST", "calibration", run="gone", lines=lines)


def test_the_queue_names_its_runs_and_two_do_not_write_to_one_folder(
    site: StartSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run.__init__, "__defaults__", ((sys.executable, "-c", IDENTIFYING), None))
    first = ask(site, "POST", "run", what="identify", scan="a.h5", out="/x/a_underpaint", step="0.5")
    with pytest.raises(OutputError, match="another run in the queue"):
        ask(site, "POST", "run", what="identify", scan="a.npz", out="/x/a_underpaint")
    ask(site, "POST", "run", what="look", scan="a.h5")
    (state,) = ask(site, "GET", "queue")["runs"]
    assert (state["run"], state["job"]["step"], state["job"]["trust_instrument"]) == (first["run"], "0.5", False)
    ask(site, "DELETE", "run", query={"run": first["run"]})
    assert site.runs.get(first["run"]).wait(60)["state"] == CANCELLED  # type: ignore[union-attr]
    assert ask(site, "POST", "run", what="identify", scan="a.npz", out="/x/a_underpaint")["run"] != first["run"]
