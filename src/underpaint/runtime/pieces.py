"""Long jobs in chunks; each chunk is a complete file, so that an interrupted job can be resumed."""

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

OUTPUT_KIND = "pieces"
_CHUNK_FOLDER = "pieces"


class ChunkStore:
    """Store of the chunks of an unfinished file, in a working folder next to the file.

    Chunks, and finally the joined file, are written with a temporary name and then renamed, so that files with their
    final name are complete.

    Parameters
    ----------
    target : Path
        File to make.
    work : WorkingFolder
        Folder of the chunks.
    job : dict
        Settings of the file, JSON-serialisable.
    total : int
        Number of chunks.
    """

    def __init__(self, target: Path, work: WorkingFolder, job: dict[str, Any], total: int) -> None:
        self.target = target
        self._work, self._job, self._total = work, job, total
        self._folder = work.path / _CHUNK_FOLDER

    def missing(self) -> list[int]:
        """Return the indices of the unfinished chunks."""
        return [index for index in range(self._total) if not self._path(index).exists()]

    def save(self, index: int, data: bytes) -> None:
        """Store a chunk, the bytes of an HDF5 file."""
        draft = self._work.path / f"{index:06d}.tmp"
        draft.write_bytes(data)
        publish(draft, self._path(index))

    def join(self, write: Callable[[h5py.File, Iterator[h5py.File]], None]) -> None:
        """Write the file from its chunks in their order; the chunks are removed when the store is closed."""
        draft = self._work.path / "joined.tmp"
        with h5py.File(draft, "w") as file:
            write(file, self._open_all())
            file.attrs["job"] = json.dumps(self._job)
        publish(draft, self.target, replace=False)
        self._work.keep = False

    def _path(self, index: int) -> Path:
        return self._folder / f"{index:06d}.h5"

    def _open_all(self) -> Iterator[h5py.File]:
        for index in range(self._total):
            with h5py.File(self._path(index), "r") as chunk:
                yield chunk


@contextmanager
def open_chunk_store(target: Path, job: dict[str, Any], total: int) -> Iterator[ChunkStore]:
    """Open the chunk store of a file, with the chunks of an interrupted call; chunks are kept until they are joined.

    Parameters
    ----------
    target : Path
        File to make.
    job : dict
        Settings of the file, JSON-serialisable; they must be those of the interrupted call.
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
        with working_folder(target, kind=OUTPUT_KIND, exclusive=True) as work:
            resume_parts(work, target, job, parts=_CHUNK_FOLDER)
            for abandoned in work.abandoned:
                remove_working_folder(abandoned)
            work.keep = True
            yield ChunkStore(target, work, plain(job), total)
    except OSError as error:
        if isinstance(error, OutputError) or error.filename is None:
            raise
        raise write_error(target, error) from error


def is_finished(target: Path, job: dict[str, Any]) -> bool:
    """Return whether a file exists, is complete, and was made with the given settings."""
    if not target.is_file():
        return False
    try:
        with h5py.File(target, "r") as file:
            return bool(json.loads(file.attrs.get("job", "null")) == plain(job))
    except (OSError, ValueError):
        return False


def finalize_interrupted(target: Path, job: dict[str, Any]) -> bool:
    """Remove the chunks of a finished file; return whether there were any."""
    if not (working_folders(target) and is_finished(target, job)):
        return False
    with working_folder(target, kind=OUTPUT_KIND, exclusive=True) as work:
        for abandoned in work.abandoned:
            remove_working_folder(abandoned)
        return bool(work.abandoned)
