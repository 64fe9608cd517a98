"""The commands: what opens a page, and the process that works for one."""

import stat
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import pytest
from start_fakes import LINES, counts, panel, spectra_folder, two_detectors
from typer.testing import CliRunner
from viewer_fakes import SHAPE, results, scan

import underpaint.display.viewer
from underpaint.cli import _view, app
from underpaint.display.viewer.runs import CANCELLED, DONE, FAILED, RUNNING, Run
from underpaint.errors import ScanError
from underpaint.runtime.progress import no_progress

WAITING = """
import sys, time
from pathlib import Path
from underpaint.cli import _view, app
def wait(job, step):
    step("Waiting", 0, 1)
    try:
        time.sleep(600)
    finally:
        Path(job["scan"]).unlink()
_view._JOB_FUNCTIONS["wait"] = wait
sys.argv = ["underpaint", "work"]
app()
"""


class FakeServer:
    """Is closed as soon as it is waited for."""

    address = "http://127.0.0.1:1/token/"
    visited = threading.Event()

    def wait(self) -> None:
        """Wait for nothing."""
        raise KeyboardInterrupt


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was served and what the browser was sent to."""
    reports: list[Any] = []

    @contextmanager
    def serve(*given: object, **named: object) -> Iterator[FakeServer]:
        reports.append((given, named))
        yield FakeServer()

    monkeypatch.setattr(underpaint.display.viewer, "serve", serve)
    monkeypatch.setattr(underpaint.display.viewer, "serve_start", serve)
    monkeypatch.setattr(webbrowser, "open", lambda address: reports.append(redirection(address)))
    return reports


def redirection(address: str) -> tuple[str, str, int, int]:
    """Return the address that a browser sees, what stands in its file, and who may read that and list its folder."""
    path = Path(url2pathname(urlsplit(address).path))
    mode, folder_mode = (stat.S_IMODE(file_path.stat().st_mode) for file_path in (path, path.parent))
    return address, path.read_text("utf-8"), mode, folder_mode


def test_no_command_opens_the_start_page(opened: list[Any]) -> None:
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 0
    assert "The start page is at http://127.0.0.1:1/token/" in result.output
    assert "--help" in result.output
    served, (address, page, mode, folder_mode) = opened
    assert served == ((), {})
    assert "token" not in address
    assert f"url={FakeServer.address}" in page
    if sys.platform != "win32":
        assert (mode, folder_mode) == (0o600, 0o700)
    assert not Path(url2pathname(urlsplit(address).path)).parent.exists()


def test_a_folder_opens_its_maps_and_no_browser_where_none_is_wanted(opened: list[Any]) -> None:
    result = CliRunner().invoke(app, ["view", "results", "--no-browser", "--scan", "a.h5"])
    assert result.exit_code == 0
    assert opened == [((Path("results"),), {"port": 0, "host": "127.0.0.1", "scan": "a.h5"})]


def test_another_host_is_warned_of(opened: list[Any]) -> None:
    result = CliRunner().invoke(app, ["view", "results", "--host", "0.0.0.0", "--no-browser"])  # noqa: S104 - warned of
    assert "Warning: Listening on 0.0.0.0: anyone on the network who knows the address" in result.output
    assert "Error" not in result.output
    assert opened[0][1]["host"] == "0.0.0.0"  # noqa: S104


def test_the_worker_tells_what_a_scan_holds(tmp_path: Path) -> None:
    scan(tmp_path / "panel.h5")
    state = Run({"what": "look", "scan": str(tmp_path / "panel.h5")}).wait(300)
    assert state["state"] == DONE, state
    assert state["result"]["shape"][:2] == list(SHAPE)
    assert state["result"]["out"] == str(tmp_path / "panel_underpaint")
    assert not state["result"]["finished"]


def test_the_worker_stops_where_it_is_and_clears_what_is_half_made(tmp_path: Path) -> None:
    half_made = tmp_path / "half_made"
    half_made.touch()
    run = Run({"what": "wait", "scan": str(half_made)}, (sys.executable, "-c", WAITING))
    while run.state()["step"] != "Waiting" and run.state()["state"] == RUNNING:
        time.sleep(0.02)
    run.cancel()
    assert run.wait(300)["state"] == CANCELLED
    assert not half_made.exists()
    assert run._process is not None
    assert run._process.returncode == 1


def test_the_worker_writes_the_report(tmp_path: Path) -> None:
    folder = results(tmp_path)
    state = Run({"what": "report", "folder": str(folder), "form": "html", "subject": "Portrait"}).wait(300)
    assert state["state"] == DONE, state
    assert state["result"] == {"file": "report.html"}
    assert "Portrait" in (folder / "report.html").read_text("utf-8")


@pytest.mark.parametrize("name", ["results.h5", "thesis.txt"])
def test_what_is_there_already_is_refused_in_the_words_of_the_page(tmp_path: Path, name: str) -> None:
    (tmp_path / "panel.h5").touch()
    (tmp_path / "panel_underpaint").mkdir()
    (tmp_path / "panel_underpaint" / name).write_text("mine")
    state = Run({"what": "identify", "scan": str(tmp_path / "panel.h5")}).wait(120)
    assert state["state"] == FAILED
    assert ("Tick “replace the results" if name == "results.h5" else "Move it or rename it") in state["error"]
    assert "--" not in state["error"]
    assert (tmp_path / "panel_underpaint" / name).read_text() == "mine"


def job(task: str, **settings: str) -> dict[str, Any]:
    """Do a job in this process; return its result, or raise."""
    return _view._JOB_FUNCTIONS[task]({"what": task, **settings}, no_progress)


def test_a_look_offers_the_detectors_and_each_has_separate_results(tmp_path: Path) -> None:
    path = two_detectors(tmp_path / "two.h5")
    added = job("look", scan=str(path))
    assert [each["name"] for each in added["detectors"]] == ["det1", "det2"]
    assert (added["detector"], added["out"]) == ("", str(tmp_path / "two_underpaint"))
    second = job("look", scan=str(path), detector="det2")
    assert second["out"] == str(tmp_path / "two_det2_underpaint")
    assert second["total_counts"] < 0.5 * added["total_counts"]
    assert job("look", scan=str(panel(tmp_path / "one.h5")))["detectors"] == []


def test_detectors_that_cannot_be_added_are_chosen_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "two.npz"
    shifted = np.roll(counts(LINES, seed=2), 60, axis=2)
    np.savez(path, left=counts(LINES, seed=1), right=shifted)
    facts = job("look", scan=str(path))
    assert (facts["detector"], len(facts["detectors"])) == ("left", 2)
    assert "one of them is chosen below" in facts["notes"][0]


def test_spectra_without_a_grid_get_rows_and_columns(tmp_path: Path) -> None:
    folder = spectra_folder(tmp_path / "spectra", 12)
    assert job("look", scan=str(folder), shape="3x4")["shape"][:2] == [3, 4]
    for shape, words in (("", "no grid file"), ("3", "ROWSxCOLUMNS"), ("0x4", "ROWSxCOLUMNS")):
        with pytest.raises(ScanError, match=words):
            job("look", scan=str(folder), shape=shape)


@pytest.mark.parametrize("step", ["x", "0", "-1", "nan", "inf", "1x2x3", "1e9", "0.5x"])
def test_a_pixel_size_is_one_number_or_two(tmp_path: Path, step: str) -> None:
    with pytest.raises(ScanError, match="Cannot use a pixel size"):
        job("identify", scan=str(panel(tmp_path / "panel.h5")), step=step)
    assert not (tmp_path / "panel_underpaint").exists()


@pytest.mark.parametrize(("step", "expected"), [("0.5", (0.5, 0.5)), ("0,5 × 1", (0.5, 1.0)), ("", None)])
def test_a_pixel_size_is_read_as_people_write_it(step: str, expected: tuple[float, float] | None) -> None:
    assert _view._parse_step_mm({"step": step}) == expected


def test_scans_of_one_name_have_separate_results(tmp_path: Path) -> None:
    results(tmp_path)
    np.savez(tmp_path / "panel.npz", counts=counts(LINES))
    assert job("look", scan=str(tmp_path / "panel.npz"))["out"] == str(tmp_path / "panel_underpaint_2")
    assert job("look", scan=str(tmp_path / "panel.h5"))["out"] == str(tmp_path / "panel_underpaint")
