"""Long jobs in pieces: each is a finished file or not there, so that a job can be killed at any moment and goes on."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from underpaint.errors import OutputError
from underpaint.runtime.files import (
    WorkingFolder,
    check_path,
    plain,
    publish,
    remove_working_folder,
    working_folder,
    working_folders,
    write_error,
)
from underpaint.runtime.job import resume_parts

KIND = "pieces"
_PIECES = "pieces"


class Pieces:
    """Pieces of a file that is being made, in a working folder beside it.

    A piece is written under a temporary name and renamed; so is the file, once all pieces are joined. Nothing that
    bears its final name was ever written to.

    Parameters
    ----------
    target : Path
        The file to make.
    work : WorkingFolder
        Where the pieces lie.
    job : dict
        What makes the file, as plain values.
    total : int
        Number of pieces.
    """

    def __init__(self, target: Path, work: WorkingFolder, job: dict[str, Any], total: int) -> None:
        self.target = target
        self._work, self._job, self._total = work, job, total
        self._folder = work.path / _PIECES

    def missing(self) -> list[int]:
        """Return the indices of the pieces that are still to be made."""
        return [index for index in range(self._total) if not self._path(index).exists()]

    def save(self, index: int, data: bytes) -> None:
        """Keep a piece, the bytes of an HDF5 file."""
        draft = self._work.path / f"{index:06d}.tmp"
        draft.write_bytes(data)
        publish(draft, self._path(index))

    def join(self, write: Callable[[h5py.File, Iterator[h5py.File]], None]) -> None:
        """Make the file from its pieces, in their order; they are not needed any more."""
        joined = self._work.path / "joined.tmp"
        with h5py.File(joined, "w") as file:
            write(file, self._open_all())
            file.attrs["job"] = json.dumps(self._job)
        publish(joined, self.target, replace=False)
        self._work.keep = False

    def _path(self, index: int) -> Path:
        return self._folder / f"{index:06d}.h5"

    def _open_all(self) -> Iterator[h5py.File]:
        for index in range(self._total):
            with h5py.File(self._path(index), "r") as piece:
                yield piece


@contextmanager
def open_chunk_store(target: Path, job: dict[str, Any], total: int) -> Iterator[Pieces]:
    """Open the pieces of a file, those that an interrupted call has left or none; they stay until they are joined.

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
        The file exists, was begun with another job, is being made just now, or cannot be written.
    """
    check_path(target)
    if target.exists():
        raise OutputError(f"Cannot write {target}: it exists. Delete it or choose another name.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with working_folder(target, kind=KIND, exclusive=True) as work:
            resume_parts(work, target, job, parts=_PIECES)
            for left in work.abandoned:
                remove_working_folder(left)
            work.keep = True
            yield Pieces(target, work, plain(job), total)
    except OSError as error:
        if isinstance(error, OutputError) or error.filename is None:
            raise
        raise write_error(target, error) from error


def is_finished(target: Path, job: dict[str, Any]) -> bool:
    """Tell whether a file is there, whole, and made by this job."""
    if not target.is_file():
        return False
    try:
        with h5py.File(target, "r") as file:
            return bool(json.loads(file.attrs.get("job", "null")) == plain(job))
    except (OSError, ValueError):
        return False


def finalize_interrupted(target: Path, job: dict[str, Any]) -> bool:
    """Tell whether a file was finished by this job but its pieces were not removed; remove them."""
    if not (working_folders(target) and is_finished(target, job)):
        return False
    with working_folder(target, kind=KIND, exclusive=True) as work:
        for left in work.abandoned:
            remove_working_folder(left)
        return bool(work.abandoned)
