"""Long jobs in pieces: each is a finished file or not there, so that a job can be killed at any moment and goes on."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py

from underpaint.errors import OutputError

JOB = "job.json"


class Pieces:
    """The folder ``OUT.part`` beside a file that is being made.

    A piece is written under a temporary name and renamed; so is the file, once all pieces are joined. Nothing that
    bears its final name was ever written to.

    Parameters
    ----------
    target : Path
        The file to make.
    job : dict
        What makes the file, as plain values; a call with another job is refused.
    total : int
        Number of pieces.

    Raises
    ------
    OutputError
        The file exists, or was begun with another job.
    """

    def __init__(self, target: Path, job: dict[str, Any], total: int) -> None:
        self.target = target
        self._folder = target.with_name(target.name + ".part")
        self._total = total
        if target.exists():
            message = f"Cannot write {target}: it exists. Delete it or choose another name."
            raise OutputError(message)
        self._job = json.loads(json.dumps(job))
        self._begin(self._job)

    def missing(self) -> list[int]:
        """Return the indices of the pieces that are still to be made."""
        return [index for index in range(self._total) if not self._path(index).exists()]

    def save(self, index: int, data: bytes) -> None:
        """Keep a piece, the bytes of an HDF5 file."""
        # the process in the name: two that make the same file do not write to one
        temporary = self._folder / f"{index:06d}.{os.getpid()}.tmp"
        temporary.write_bytes(data)
        temporary.replace(self._path(index))

    def join(self, write: Callable[[h5py.File, Iterator[h5py.File]], None]) -> None:
        """Make the file from its pieces, in their order, and remove them."""
        joined = self._folder / f"joined.{os.getpid()}.tmp"
        with h5py.File(joined, "w") as file:
            write(file, self._open_all())
            file.attrs["job"] = json.dumps(self._job)
        joined.replace(self.target)
        clear(self.target)

    def _begin(self, job: dict[str, Any]) -> None:
        if self._folder.is_file():
            message = f"Cannot resume {self._folder}: an earlier version began it. Delete it or choose another name."
            raise OutputError(message)
        self._folder.mkdir(parents=True, exist_ok=True)
        note = self._folder / JOB
        if not note.exists():
            temporary = self._folder / f"{JOB}.{os.getpid()}.tmp"
            temporary.write_text(json.dumps(job), "utf-8")
            temporary.replace(note)
        begun = json.loads(note.read_text("utf-8"))
        if begun != job:
            differ = ", ".join(sorted(key for key in begun | job if begun.get(key) != job.get(key)))
            message = (
                f"Cannot resume {self._folder}: it was begun with other settings ({differ}). "
                "Delete it or choose another name."
            )
            raise OutputError(message)

    def _path(self, index: int) -> Path:
        return self._folder / f"{index:06d}.h5"

    def _open_all(self) -> Iterator[h5py.File]:
        for index in range(self._total):
            with h5py.File(self._path(index), "r") as piece:
                yield piece


def is_finished(target: Path, job: dict[str, Any]) -> bool:
    """Tell whether a file is there, whole, and made by this job."""
    if not target.exists():
        return False
    try:
        with h5py.File(target, "r") as file:
            return bool(json.loads(file.attrs.get("job", "null")) == json.loads(json.dumps(job)))
    except OSError:
        return False


def was_cut_off_at_the_end(target: Path, job: dict[str, Any]) -> bool:
    """Tell whether a file was finished by this job but its pieces were not removed; remove them."""
    left = target.with_name(target.name + ".part").is_dir() and is_finished(target, job)
    if left:
        clear(target)
    return left


def clear(target: Path) -> None:
    """Remove the pieces of a file that is finished; a kill between its renaming and this leaves them behind."""
    shutil.rmtree(target.with_name(target.name + ".part"), ignore_errors=True)
