"""Long jobs in chunks, each a complete file or absent, so that a job can be killed at any time and resumed."""

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


class ChunkStore:
    """Chunks of a file that is being made, in a working folder next to it.

    A chunk is written under a temporary name and renamed, as is the file once all chunks are joined. A file with its
    final name is always complete.

    Parameters
    ----------
    target : Path
        The file to make.
    work : WorkingFolder
        Folder of the chunks.
    job : dict
        Settings of the file, as plain values.
    total : int
        Number of chunks.
    """

    def __init__(self, target: Path, work: WorkingFolder, job: dict[str, Any], total: int) -> None:
        self.target = target
        self._work, self._job, self._total = work, job, total
        self._folder = work.path / _PIECES

    def missing(self) -> list[int]:
        """Return the indices of the chunks that are not done."""
        return [index for index in range(self._total) if not self._path(index).exists()]

    def save(self, index: int, data: bytes) -> None:
        """Store a chunk, the bytes of an HDF5 file."""
        draft = self._work.path / f"{index:06d}.tmp"
        draft.write_bytes(data)
        publish(draft, self._path(index))

    def join(self, write: Callable[[h5py.File, Iterator[h5py.File]], None]) -> None:
        """Write the file from its chunks, in their order, and mark the chunks for removal."""
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
def open_chunk_store(target: Path, job: dict[str, Any], total: int) -> Iterator[ChunkStore]:
    """Open the chunk store of a file, with the chunks of an interrupted call if any; they are kept until joined.

    Parameters
    ----------
    target : Path
        The file to make.
    job : dict
        Settings of the file, as plain values; a call with other settings is refused.
    total : int
        Number of chunks.

    Raises
    ------
    OutputError
        The file exists, was started with other settings, is being written by another process, or cannot be written.
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
            yield ChunkStore(target, work, plain(job), total)
    except OSError as error:
        if isinstance(error, OutputError) or error.filename is None:
            raise
        raise write_error(target, error) from error


def is_finished(target: Path, job: dict[str, Any]) -> bool:
    """Return whether a file exists, is complete and was made with these settings."""
    if not target.is_file():
        return False
    try:
        with h5py.File(target, "r") as file:
            return bool(json.loads(file.attrs.get("job", "null")) == plain(job))
    except (OSError, ValueError):
        return False


def finalize_interrupted(target: Path, job: dict[str, Any]) -> bool:
    """Return whether a file is finished but its chunks were not removed yet; remove them."""
    if not (working_folders(target) and is_finished(target, job)):
        return False
    with working_folder(target, kind=KIND, exclusive=True) as work:
        for left in work.abandoned:
            remove_working_folder(left)
        return bool(work.abandoned)
