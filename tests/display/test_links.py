"""Links in a results folder lead nowhere, and a results file refers to no other file."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from test_result_site import box, get, parsed, post
from viewer_fakes import SHAPE, results

from underpaint.display.report import write_report
from underpaint.display.viewer.result_site import ResultSite
from underpaint.display.viewer.server import Answer, file_answer
from underpaint.errors import OutputError, ScanError
from underpaint.io import read_results, read_summary
from underpaint.io.results import contained
from underpaint.io.results.contained import has_file, open_contained
from underpaint.io.results.pictures import registration_of
from underpaint.io.results.regions import read_regions
from underpaint.io.results.sidecars import copy_sidecars, move_remaining

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="few users of Windows may make links")
PRIVATE = b"private"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return results(tmp_path)


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A file that nothing may read or change."""
    (tmp_path / "private").mkdir()
    path = tmp_path / "private" / "report.html"
    path.write_bytes(PRIVATE)
    return path


def plant(link: Path, target: Path) -> None:
    """Put a link where a file or nothing was."""
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def test_a_file_is_opened_only_where_no_step_is_a_link(folder: Path, private: Path) -> None:
    plant(folder / "report.html", private)
    (folder / "linked").symlink_to(private.parent)
    names: tuple[str, ...]
    for names in (("report.html",), ("linked", "report.html")):
        with pytest.raises(ScanError, match="it is a link, and links in a folder of results are not followed"):
            open_contained(folder, *names)
        assert not has_file(folder, *names)
        assert file_answer(folder, *names) is None
    for names in (("..", "private", "report.html"), ("../private/report.html",), (str(private),), ("",), ("a\0",)):
        with pytest.raises(ScanError, match="it is not the name of a file or folder"):
            open_contained(folder, *names)


def test_a_folder_that_the_user_reaches_by_a_link_is_opened(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "shortcut").symlink_to(folder)
    assert read_summary(tmp_path / "shortcut")["name"] == "panel"
    assert has_file(tmp_path / "shortcut", "report.html")


@pytest.mark.parametrize("name", ["C:\\x.html", "a:b", "..\\x", "con.html", "nul"])
def test_names_that_lead_elsewhere_on_windows_are_refused_there(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contained, "_IS_WINDOWS", True)
    with pytest.raises(ScanError, match="it is not the name of a file or folder"):
        open_contained(folder, name)


def test_a_junction_of_windows_is_a_link(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Junction:
        st_mode = 0o040755
        st_reparse_tag = 0xA0000003

    monkeypatch.setattr(Path, "lstat", lambda _: Junction())
    with pytest.raises(ScanError, match="it is a link"):
        open_contained(folder, "regions", "a.png")


def test_a_pipe_is_no_file_and_blocks_nobody(folder: Path) -> None:
    os.mkfifo(folder / "pipe.html")
    with pytest.raises(ScanError, match="not a regular file"):
        open_contained(folder, "pipe.html")


def external(file: Any) -> None:
    file["entry/other"] = h5py.ExternalLink("elsewhere.h5", "/")


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (2,))
    file.create_virtual_dataset("entry/other", layout)


def stored_outside(file: Any) -> None:
    file.create_dataset("entry/other", (7,), "u1", external=[("/etc/passwd", 0, 7)])


def larger_than_the_file(file: Any) -> None:
    file.create_dataset("entry/other", (10**5, 10**5), "f4", chunks=(100, 100))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (external, "is a link to another file"),
        (virtual, "takes its values from another file"),
        (stored_outside, "takes its values from another file"),
        (larger_than_the_file, "more than the file can contain"),
    ],
)
def test_a_results_file_that_refers_to_another_is_refused_by_all(
    folder: Path, change: Callable[[Any], None], words: str
) -> None:
    with h5py.File(folder / "results.h5", "a") as file:
        change(file)
    for read in (read_results, read_summary, ResultSite, write_report):
        with pytest.raises(ScanError, match=words):
            read(folder)


def test_a_results_file_that_is_a_link_is_refused_by_all(folder: Path, tmp_path: Path) -> None:
    (folder / "results.h5").rename(tmp_path / "moved.h5")
    plant(folder / "results.h5", tmp_path / "moved.h5")
    for read in (read_results, ResultSite, write_report):
        with pytest.raises(ScanError, match="it is a link"):
            read(folder)


def test_a_link_instead_of_the_photograph_is_neither_shown_nor_followed_when_it_is_removed(
    folder: Path, private: Path
) -> None:
    picture = private.parent / "picture.jpg"
    Image.new("RGB", (40, 24)).save(picture)
    before = picture.read_bytes()
    plant(folder / "photograph.jpg", picture)
    plant(folder / "photograph_registered.png", picture)
    site = ResultSite(folder)
    (facts,) = site.pictures.facts()
    assert "it is a link" in facts["broken"]
    with pytest.raises(ScanError, match="it is a link"):
        get(site, "pictures", "photograph", "preview")
    assert site(request("GET", "pictures", "photograph", "registered")) is None
    assert site.pictures.add(before, "visible") == "visible_1"  # beside it
    site.pictures.remove("photograph")
    assert picture.read_bytes() == before
    assert not (folder / "photograph.jpg").is_symlink()
    site.close()


def request(method: str, *parts: str) -> Any:
    from underpaint.display.viewer.server import Request

    return Request(method, parts)


def test_regions_are_neither_read_nor_written_through_links(folder: Path, private: Path) -> None:
    record = private.parent / "regions.json"
    record.write_text('{"regions": []}')
    plant(folder / "regions.json", record)
    site = ResultSite(folder)
    with pytest.raises(ScanError, match="it is a link"):
        get(site, "regions")
    (folder / "regions").symlink_to(private.parent)
    sleeve = {"name": "report", "corners": box(1, 1, 3, 4)}
    with pytest.raises(OutputError, match="it is a link"):
        post(site, "regions", regions=[sleeve], version="")
    (folder / "regions").unlink()
    post(site, "regions", regions=[sleeve], version="")
    assert record.read_text() == '{"regions": []}'
    assert sorted(path.name for path in private.parent.iterdir()) == ["regions.json", "report.html"]
    assert [region.name for region in read_regions(folder)] == ["report"]
    site.close()


def test_a_report_shows_nothing_that_links_lead_to(folder: Path, private: Path) -> None:
    picture = private.parent / "picture.png"
    Image.fromarray(np.full(SHAPE, 255, np.uint8)).save(picture)
    (folder / "regions").mkdir()
    plant(folder / "regions" / "stolen.png", picture)
    plant(folder / "photograph_registered.png", picture)
    (folder / "photograph.json").write_text('{"how": "points", "error_px": 0.4}')
    plant(folder / "report.html", private)
    path = write_report(folder)
    words = path.read_text("utf-8")
    assert "stolen.png" in words
    assert "it is a link or not a file" in words
    assert "data:image/jpeg" not in words
    assert private.read_bytes() == PRIVATE


def test_links_come_along_as_links(folder: Path, private: Path, tmp_path: Path) -> None:
    plant(folder / "notes.html", private)
    (folder / "folder").mkdir()
    plant(folder / "folder" / "more.html", private)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "results.h5").write_bytes((folder / "results.h5").read_bytes())
    copy_sidecars(folder, tmp_path / "new")
    move_remaining(folder, tmp_path / "new", None)
    assert sorted(path.name for path in (tmp_path / "new").rglob("*.html")) == ["more.html", "notes.html"]
    for name in ("notes.html", "folder/more.html"):
        assert (tmp_path / "new" / name).is_symlink()


def test_opening_the_view_does_not_open_the_scan(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    monkeypatch.setattr("underpaint.io.results.sidecars.load", lambda *given, **_: opened.append(given))
    site = ResultSite(folder)
    assert parsed(get(site, "about"))["scan"]["state"] == "closed"
    assert parsed(get(site, "pixel", row=3, column=4))["spectrum"] is None
    assert opened == []
    site.close()


@pytest.mark.parametrize("place", ["there", "beside"])
def test_a_pipe_instead_of_the_scan_blocks_nobody(folder: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "panel.h5").unlink()
    os.mkfifo(tmp_path / "panel.h5" if place == "there" else folder / "panel.h5")
    site = ResultSite(folder)
    post(site, "scan")
    with pytest.raises(ScanError, match=r"is missing.*Put the file or folder"):
        site.source.scan()  # a pipe that is opened waits for a writer, without end
    site.close()


def test_a_path_of_the_results_quotes_nothing_of_the_file_that_it_names(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "panel.h5").write_text("root:secret")
    site = ResultSite(folder)
    post(site, "scan")
    with pytest.raises(ScanError, match="cannot be read as a scan") as caught:
        site.source.scan()
    assert "secret" not in str(caught.value)
    site.close()


def test_a_picture_that_cannot_be_written_leaves_the_others_and_their_places(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = folder.parent / "picture.png"
    Image.fromarray(np.full((24, 40, 3), 90, np.uint8)).save(picture)
    site = ResultSite(folder)
    assert site.pictures.add(picture.read_bytes(), "visible") == "photograph"
    points = [[0, 0, 0, 0], [40, 0, 20, 0], [0, 24, 0, 12], [40, 24, 20, 12]]
    site.pictures.register("photograph", {"points": points})
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name.startswith("photograph")}
    assert len(before) == 3

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        with pytest.raises(OutputError, match="No space left on device"):
            site.pictures.add(picture.read_bytes(), "visible")
    assert [facts["key"] for facts in site.pictures.facts()] == ["photograph"]
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name.startswith("photograph")} == before
    # A kill right after the new picture is there leaves a registration of the old one: it no longer counts.
    assert registration_of(folder) is not None
    Image.fromarray(np.full((24, 40, 3), 30, np.uint8)).save(folder / "photograph.jpg")
    assert registration_of(folder) is None
    site.close()


def test_a_save_over_newer_regions_is_refused_and_sends_them(folder: Path) -> None:
    site = ResultSite(folder)
    first = {"name": "first", "corners": box(1, 1, 3, 4)}
    version = post(site, "regions", regions=[first], version="")["version"]
    other = ResultSite(folder)
    post(other, "regions", regions=[first, first | {"name": "theirs"}], version=version)
    body = {"regions": [first, first | {"name": "mine"}], "version": version}
    answer = conflict(site, body)
    assert answer.status == 409
    assert [region["name"] for region in parsed(answer)["regions"]] == ["first", "theirs"]
    assert [region.name for region in read_regions(folder)] == ["first", "theirs"]
    assert conflict(site, body | {"version": parsed(answer)["version"]}).status == 200
    assert [region.name for region in read_regions(folder)] == ["first", "mine"]
    assert sorted(path.name for path in (folder / "regions").iterdir()) == ["first.png", "mine.png"]
    for viewed in (site, other):
        viewed.close()


def conflict(site: ResultSite, body: dict[str, Any]) -> Answer:
    import json

    from underpaint.display.viewer.server import Request

    answer = site(Request("POST", ("regions",), {}, json.dumps(body).encode()))
    assert answer is not None
    return answer


@pytest.mark.parametrize(
    "sent", [{}, {"regions": None, "version": ""}, {"regions": []}, {"regions": [1], "version": ""}]
)
def test_a_page_that_sends_no_list_of_regions_removes_none(folder: Path, sent: dict[str, Any]) -> None:
    site = ResultSite(folder)
    post(site, "regions", regions=[{"name": "sleeve", "corners": box(1, 1, 3, 4)}], version="")
    with pytest.raises(ScanError, match="Cannot"):
        post(site, "regions", **sent)
    assert [region.name for region in read_regions(folder)] == ["sleeve"]
    site.close()


def test_a_mask_replaces_nothing_of_somebody_else(folder: Path) -> None:
    (folder / "regions").mkdir()
    (folder / "regions" / "sleeve.png").write_bytes(b"theirs")
    site = ResultSite(folder)
    post(site, "regions", regions=[{"name": "sleeve", "corners": box(1, 1, 3, 4)}], version="")
    assert (folder / "regions" / "sleeve.png").read_bytes() == b"theirs"
    assert read_regions(folder)[0].mask_file == "sleeve_2.png"
    site.close()


SERVER = """
import sys, time
from underpaint.display.viewer.runs import Runs
runs = Runs()
run = runs.start({"what": "wait", "scan": sys.argv[1]})
print(run._process.pid, flush=True)
time.sleep(600)
"""
WORKER = """
import sys, time
from pathlib import Path
from underpaint.cli import _view, app
_view._CANCEL_TIMEOUT_S = 1.0
def wait(job, step):
    Path(job["scan"]).write_text("begun")
    while True:  # as a library that puts interrupts off
        try: time.sleep(600)
        except KeyboardInterrupt: pass
_view._JOB_FUNCTIONS["wait"] = wait
sys.argv = ["underpaint", "work"]
app()
"""


def test_a_run_does_not_outlive_a_server_that_is_killed(tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    begun_file = tmp_path / "begun"
    command = (sys.executable, "-c", WORKER)
    code = f"from underpaint.display.viewer import runs\nruns.Run.__init__.__defaults__ = ({command!r}, None)\n"
    server = subprocess.Popen([sys.executable, "-c", code + SERVER, str(begun_file)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    worker = psutil.Process(int(server.stdout.readline()))
    while not begun_file.is_file():
        time.sleep(0.05)
    server.kill()
    server.wait()
    server.stdout.close()
    assert psutil.wait_procs([worker], timeout=60)[1] == []


def test_the_address_is_on_no_command_line_and_the_view_ends_at_sigterm(folder: Path, tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    browser = tmp_path / "browser"
    browser.write_text(
        f"#!{sys.executable}\nimport sys, time\nopen(sys.argv[0] + '.seen', 'w').write(sys.argv[1])\ntime.sleep(60)\n"
    )
    browser.chmod(0o755)
    environment = os.environ | {"BROWSER": f"{browser} %s &"}
    view = subprocess.Popen(
        [sys.executable, "-m", "underpaint", "view", str(folder)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert view.stdout is not None
    address = view.stdout.readline().rsplit(" ", 1)[1].strip()
    token = address.rstrip("/").rsplit("/", 1)[1]
    opened_file = Path(f"{browser}.seen")
    while not (opened_file.is_file() and opened_file.read_text()):
        time.sleep(0.05)
    family = [view.pid, *(child.pid for child in psutil.Process(view.pid).children(recursive=True))]
    lines = [psutil.Process(pid).cmdline() for pid in family if psutil.pid_exists(pid)]
    assert any(str(browser) in " ".join(line) for line in lines)
    assert token not in str(lines)
    redirection = Path(opened_file.read_text().removeprefix("file://"))
    assert token in redirection.read_text()
    for child in psutil.Process(view.pid).children():
        child.kill()
    view.terminate()
    assert view.wait(60) == 0
    view.stdout.close()
    assert not redirection.parent.exists()


def test_two_runs_at_once_and_the_others_wait_for_their_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from underpaint.display.viewer.runs import CANCELLED, DONE, QUEUED, RUNNING, Run, Runs

    script = (
        "import json,sys,time,pathlib\njob=json.loads(sys.stdin.readline())\n"
        "while not pathlib.Path(job['scan']).exists(): time.sleep(0.02)\nprint(json.dumps({'result': {}}))\n"
    )
    monkeypatch.setattr(Run.__init__, "__defaults__", ((sys.executable, "-c", script), None))
    runs = Runs()
    gate = tmp_path / "gate"
    four = [runs.start({"what": "identify", "scan": str(gate)}) for _ in range(4)]
    short = runs.start({"what": "look", "scan": str(gate)})
    assert [run.state()["state"] for run in four] == [RUNNING, RUNNING, QUEUED, QUEUED]
    assert short.state()["state"] == RUNNING
    four[2].cancel()
    assert four[2].wait(10)["state"] == CANCELLED
    assert four[2]._process is None
    gate.touch()
    assert four[3].wait(30)["state"] == DONE
    runs.close()
    with pytest.raises(OutputError, match="is being closed"):
        runs.start({"what": "look", "scan": str(gate)})


def test_an_instrument_of_the_results_that_is_no_file_is_not_opened(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    site = ResultSite(folder, str(tmp_path / "panel.h5"))
    jobs: list[dict[str, Any]] = []

    def begin(job: dict[str, Any]) -> str:
        jobs.append(job)
        return "key"

    monkeypatch.setattr(site.results, "begin", begin)
    for name in (str(tmp_path / "pipe.toml"), "\\\\server\\share\\a.toml", {"a": 1}, "elio"):
        site.results.summary["settings"]["instrument"] = name
        post(site, "explain", row=3, column=4)
    assert [job["instrument"] for job in jobs] == ["elio"] * 4
    site.close()


def test_a_save_waits_for_another_process_that_is_saving(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("underpaint.display.viewer.one_writer._TIME_LIMIT_S", 600.0)
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom underpaint.display.viewer.one_writer import one_writer\n"
        "folder = Path(sys.argv[1])\nwith one_writer(folder):\n    print('locked', flush=True)\n    time.sleep(1)\n"
        "    print((folder / 'regions.json').exists(), flush=True)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "locked\n"
    site = ResultSite(folder)
    post(site, "regions", regions=[{"name": "sleeve", "corners": box(1, 1, 3, 4)}], version="")
    assert (folder / "regions.json").exists()
    assert other.stdout.readline() == "False\n"  # not saved before the other process had finished
    other.wait()
    other.stdout.close()
    assert not [path for path in folder.iterdir() if path.name.endswith(".lock") or path.name.startswith(".")]
    site.close()
