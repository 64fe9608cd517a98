"""Files appear whole or not at all, and one process at a time writes them."""

import json
import os
import subprocess
import sys
from errno import ENOLCK
from pathlib import Path
from typing import Any

import pytest

from underpaint.errors import OutputError
from underpaint.pipeline.run import check_new_file
from underpaint.runtime import files
from underpaint.runtime.files import (
    atomic_write,
    check_path,
    claim_folder,
    exclusive_lock,
    is_reserved,
    new_files,
    remove_tree,
    rename_finished,
    working_folder,
)


def test_a_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_write(target) as part:
        part.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def broken() -> None:
        with atomic_write(target) as part:
            part.write_text("ne")
            raise ValueError("half way")

    with pytest.raises(ValueError, match="half"):
        broken()
    assert target.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_write(tmp_path / "no" / "a.txt") as part:
            part.write_text("x")

    with pytest.raises(OutputError, match=r"Cannot write .*Check that the folder exists"):
        write()


HOLD = """
import sys, time
from underpaint.runtime.files import exclusive_lock
with exclusive_lock(sys.argv[1]):
    print(1, flush=True)
    time.sleep(60)
"""


def test_a_place_is_written_by_one_process_and_free_when_it_dies(tmp_path: Path) -> None:
    target = tmp_path / "results"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(target)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(OutputError, match=r"results: another run is writing to it"):
            exclusive_lock(target).__enter__()
        holder.kill()
    assert len(list(tmp_path.iterdir())) == 1
    with exclusive_lock(target):
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(ENOLCK, "no locks"), NotImplementedError()])
def test_a_file_system_without_locks_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("filelock.FileLock.acquire", refused)
    with exclusive_lock(tmp_path / "results"):
        assert not list(tmp_path.glob("results"))
        with pytest.raises(OutputError, match="another run"):  # by the number of the process
            exclusive_lock(tmp_path / "results").__enter__()
    monkeypatch.undo()
    with exclusive_lock(tmp_path / "results"):
        pass


NEIGHBOURS = ("a.txt.part", "a.txt.lock", "a.txt.old", ".a.txt.part", ".underpaint-mine", "a.txt.tmp")


def test_neighbours_of_any_name_are_left_alone(tmp_path: Path) -> None:
    for name in NEIGHBOURS:
        (tmp_path / name).write_text("mine")
    folder = tmp_path / ".underpaint-12345678"
    folder.mkdir()
    (folder / "underpaint.json").write_text(json.dumps({"target": "a.txt"}))  # says nothing of this program
    with atomic_write(tmp_path / "a.txt") as part, exclusive_lock(tmp_path / "a.txt"):
        part.write_text("new")
    assert all((tmp_path / name).read_text() == "mine" for name in NEIGHBOURS)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([*NEIGHBOURS, folder.name, "a.txt"])


KILLED = """
import os, sys
from underpaint.runtime.files import atomic_write
with atomic_write(sys.argv[1]) as part:
    part.write_text("half")
    os._exit(9)
"""


def test_what_a_kill_left_goes_with_the_next_of_the_same_name_alone(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / name)], check=False)
    assert len(list(tmp_path.glob(".underpaint-*"))) == 2
    with atomic_write(tmp_path / "a.txt") as part:
        part.write_text("whole")
    (left,) = tmp_path.glob(".underpaint-*")
    assert (left / "b.txt").read_text() == "half"


def test_a_link_in_place_of_a_working_folder_or_its_mark_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "underpaint.json").write_text(
        json.dumps({"program": "underpaint", "target": "a.txt", "kind": "file"})
    )
    (tmp_path / "home" / "thesis.txt").write_text("mine")
    (tmp_path / ".underpaint-abcdefgh").symlink_to(tmp_path / "home")
    with atomic_write(tmp_path / "a.txt") as part:
        part.write_text("new")
    assert (tmp_path / "home" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("mark", ["[" * 100_000, '{"program": "underpaint", "target": ["a.txt"]}', "x" * 10**6, "\xff"])
def test_a_mark_that_this_program_has_not_written_stops_nobody(tmp_path: Path, mark: str) -> None:
    folder = tmp_path / ".underpaint-abcdefgh"
    folder.mkdir()
    (folder / "underpaint.json").write_bytes(mark.encode("latin-1"))
    with atomic_write(tmp_path / "a.txt") as part:
        part.write_text("new")
    assert [entry.name for entry in folder.iterdir()] == ["underpaint.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="few users of Windows may make links and pipes")
@pytest.mark.parametrize("name", ["lock", "settings.json", "anything"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_working_folder_that_holds_a_link_or_a_pipe_is_not_ours(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    folder = tmp_path / ".underpaint-abcdefgh"
    folder.mkdir()
    (folder / "underpaint.json").write_text(json.dumps({"program": "underpaint", "target": "a.txt", "kind": "file"}))
    (folder / name).symlink_to(tmp_path / "thesis.txt") if kind == "link" else os.mkfifo(folder / name)
    with atomic_write(tmp_path / "a.txt") as part:
        part.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(["underpaint.json", name])


@pytest.mark.skipif(sys.platform == "win32", reason="few users of Windows may make links")
def test_what_a_removed_folder_links_to_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    (tmp_path / "folder").symlink_to(tmp_path / "home")
    remove_tree(tmp_path / "folder")
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o755


def test_a_file_that_appeared_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_write(tmp_path / "a.txt", replace=False) as part:
            part.write_text("new")
            (tmp_path / "a.txt").write_text("mine")

    with pytest.raises(OutputError, match="is not replaced"):
        write()
    assert (tmp_path / "a.txt").read_text() == "mine"
    (tmp_path / "a.txt").unlink()
    with atomic_write(tmp_path / "a.txt", replace=False) as part:
        part.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
def test_a_device_or_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="a device or a pipe"), atomic_write(tmp_path / "pipe") as part:
        part.write_text("x")
    assert (tmp_path / "pipe").is_fifo()


def test_files_and_folders_are_flushed_before_and_after_they_take_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed, fsync, replace = list[str](), os.fsync, os.replace

    def name_of(descriptor: int) -> str:
        return Path(f"/proc/self/fd/{descriptor}").readlink().name

    def noted(descriptor: int) -> None:
        if Path("/proc/self/fd").is_dir():
            flushed.append(name_of(descriptor))
        fsync(descriptor)

    def renamed(source: Any, target: Any) -> None:
        flushed.append(f"> {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", renamed)
    part = tmp_path / "part"
    (part / "below").mkdir(parents=True)
    (part / "below" / "a.txt").write_text("x")
    rename_finished(part, tmp_path / "whole")
    if Path("/proc/self/fd").is_dir():
        place = flushed.index("> whole")
        assert flushed[:place] == ["a.txt", "below", "part"]
        assert flushed[place + 1 :] == [tmp_path.name]


# --- Windows, by what it does differently ----------------------------------------------------------------


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: its name (asked for in one place), no flush of folders, no removal of what is held."""
    monkeypatch.setattr(files, "is_windows", lambda: True)
    opened, unlink = os.open, Path.unlink

    def no_folders(path: Any, *arguments: Any, **options: Any) -> int:
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    def no_locks(path: Path, missing_ok: bool = False) -> None:
        if path.name == "lock" and path.exists() and files._lock(path.parent) is None:
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(os, "open", no_folders)
    monkeypatch.setattr(Path, "unlink", no_locks)


def test_windows_writes_whole_files_and_leaves_nothing(windows: None, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a.txt")], check=False)
    for text in ("old", "new"):
        with atomic_write(tmp_path / "a.txt") as part:
            part.write_text(text)
    assert (tmp_path / "a.txt").read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_windows_waits_for_whoever_holds_a_file_open(
    windows: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, tries = os.replace, list[int]()
    monkeypatch.setattr("time.sleep", lambda _: None)

    def held(source: Any, target: Any) -> None:
        tries.append(1)
        if len(tries) < 4:
            raise PermissionError(13, "Access is denied")
        replace(source, target)

    (tmp_path / "part").write_text("new")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", held)
        rename_finished(tmp_path / "part", tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "new"
    (tmp_path / "part").write_text("newer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Access is denied")))
        with pytest.raises(OutputError, match="another program has the file open"):
            rename_finished(tmp_path / "part", tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.parametrize("name", ["con", "AUX.h5", "nul", "COM1.txt", "lpt¹", "end.", "end ", "a:b", "what?", "a|b"])
def test_names_that_windows_keeps_for_itself(windows: None, tmp_path: Path, name: str) -> None:
    assert is_reserved(name)
    with pytest.raises(OutputError, match="Windows cannot make a file called"):
        check_path(tmp_path / name)


@pytest.mark.parametrize("name", ["console", "aux_1", "com10", "painting.h5", "Gemälde", ".git", "con_underpaint"])
def test_usual_names_are_not_reserved(name: str) -> None:
    assert not is_reserved(name)


def test_a_path_too_long_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match="too long"), atomic_write(tmp_path / ("n" * 300)):
        pytest.fail("the work was begun")
    monkeypatch.setattr(files, "is_windows", lambda: True)
    with pytest.raises(OutputError, match=r"has \d+ characters, Windows allows 247"):
        check_path(tmp_path / "folder" / ("n" * 250))


def test_a_name_that_is_not_utf8_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"caf\\xe9\.txt: its name is not valid UTF-8"):
        check_path(tmp_path / os.fsdecode(b"caf\xe9.txt"))


def test_two_at_once_step_back_and_one_goes_on(tmp_path: Path) -> None:
    with working_folder(tmp_path / "a", is_exclusive=True) as first, working_folder(tmp_path / "b", is_exclusive=True):
        with (
            pytest.raises(OutputError, match="another run"),
            working_folder(tmp_path / "a", output_kind="other", is_exclusive=True),
        ):
            pass
        with working_folder(tmp_path / "a"):  # asks for no turn of its own
            assert first.path.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_several_calls_is_not_one_of_other_things(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.json").write_text("mine")
    with pytest.raises(OutputError, match="contains files of other origin"):
        claim_folder(tmp_path / "mine", known_files=("settings.json",))
    for _ in range(2):
        claim_folder(tmp_path / "new" / "parts")
        (tmp_path / "new" / "parts" / "stage.json").write_text("{}")
    assert [entry.name for entry in (tmp_path / "mine").iterdir()] == ["report.json"]


def test_a_file_that_comes_to_be_there_during_a_command_is_not_replaced(tmp_path: Path) -> None:
    target, old = tmp_path / "a.txt", tmp_path / "old.txt"
    old.write_text("old")

    def write_late() -> None:
        with atomic_write(target) as part:
            part.write_text("ours")
            target.write_text("mine")

    with new_files([target, old]):
        with pytest.raises(OutputError, match="already exists"):
            write_late()
        assert target.read_text() == "mine"
        target.unlink()
        for text in ("ours", "ours again"):  # what the command made itself it may write anew
            with atomic_write(target) as part:
                part.write_text(text)
        with atomic_write(old) as part:
            part.write_text("new")
    assert (target.read_text(), old.read_text()) == ("ours again", "new")
    with atomic_write(target) as part:
        part.write_text("another command")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_no_place_to_write_to_found_before_the_work(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="it is a device or a pipe"):
        check_new_file(tmp_path / "pipe", overwrite=True)


def test_a_folder_that_may_not_be_written_to_is_found_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("underpaint.pipeline.run.os.access", lambda *_: False)
    with pytest.raises(OutputError, match=r"is not writable. Give a writable folder"):
        check_new_file(tmp_path / "a.txt")
