"""Files appear whole or not at all, and one process at a time writes them."""

import subprocess
import sys
from errno import ENOLCK
from pathlib import Path

import pytest

from underpaint.errors import OutputError
from underpaint.files import whole_file, written_alone


def test_a_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with whole_file(target) as part:
        part.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def broken() -> None:
        with whole_file(target) as part:
            part.write_text("ne")
            message = "half way"
            raise ValueError(message)

    with pytest.raises(ValueError, match="half"):
        broken()
    assert target.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    def write() -> None:
        with whole_file(tmp_path / "no" / "a.txt") as part:
            part.write_text("x")

    with pytest.raises(OutputError, match=r"Cannot write .*Check that the folder exists"):
        write()


HOLD = """
import sys, time
from underpaint.files import written_alone
with written_alone(sys.argv[1]):
    print(1, flush=True)
    time.sleep(60)
"""


def test_a_place_is_written_by_one_process_and_free_when_it_dies(tmp_path: Path) -> None:
    target = tmp_path / "results"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(target)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(OutputError, match=r"results: another run is writing there just now"):
            written_alone(target).__enter__()
        holder.kill()
    assert [own.name for own in tmp_path.iterdir()] == ["results.lock"]
    with written_alone(target):
        assert [own.name for own in tmp_path.iterdir()] == ["results.lock"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(ENOLCK, "no locks"), NotImplementedError()])
def test_a_file_system_without_locks_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("filelock.FileLock.acquire", refused)
    with written_alone(tmp_path / "results"):
        assert not list(tmp_path.glob("results"))
    monkeypatch.undo()
    with written_alone(tmp_path / "results"):
        pass
