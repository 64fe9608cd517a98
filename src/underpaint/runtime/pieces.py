"""Store the output of a long job in chunks. Each chunk is a complete file, so that the job can be resumed."""

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
    json_types,
    remove_working_folder,
    rename_finished,
    working_folder,
    working_folders,
    write_error,
)
from underpaint.runtime.job import resume_parts

OUTPUT_KIND = "pieces"
_CHUNK_FOLDER = "pieces"


class ChunkStore:
    """Store of the chunks of an unfinished file, in a working folder next to the file.

    The chunks and the joined file are written under temporary names and then renamed. A file with its final name is
    therefore complete.

    Parameters
    ----------
    target : Path
        File to make.
    work_folder : WorkingFolder
        Folder of the chunks.
    job_settings : dict
        JSON-serialisable settings with which the file is made.
    n_chunk : int
        Number of chunks.
    """

    def __init__(self, target: Path, work_folder: WorkingFolder, job_settings: dict[str, Any], n_chunk: int) -> None:
        self.target = target
        self._work, self._job, self._total = work_folder, job_settings, n_chunk
        self._folder = work_folder.path / _CHUNK_FOLDER

    def missing_chunks(self) -> list[int]:
        """Return the indices of the unfinished chunks."""
        return [index for index in range(self._total) if not self._path(index).exists()]

    def save(self, index: int, chunk_bytes: bytes) -> None:
        """Store a chunk, given as the bytes of an HDF5 file."""
        draft_path = self._work.path / f"{index:06d}.tmp"
        draft_path.write_bytes(chunk_bytes)
        rename_finished(draft_path, self._path(index))

    def join(self, write_chunks: Callable[[h5py.File, Iterator[h5py.File]], None]) -> None:
        """Write the file from its chunks in order. The chunks are removed when the store is closed."""
        draft_path = self._work.path / "joined.tmp"
        with h5py.File(draft_path, "w") as output_file:
            write_chunks(output_file, self._open_all())
            output_file.attrs["job"] = json.dumps(self._job)
        rename_finished(draft_path, self.target, replace=False)
        self._work.is_kept = False

    def _path(self, index: int) -> Path:
        return self._folder / f"{index:06d}.h5"

    def _open_all(self) -> Iterator[h5py.File]:
        for index in range(self._total):
            with h5py.File(self._path(index), "r") as chunk:
                yield chunk


@contextmanager
def open_chunk_store(target: Path, job_settings: dict[str, Any], n_chunk: int) -> Iterator[ChunkStore]:
    """Yield the chunk store of a file, including chunks of an interrupted call. Chunks are kept until they are joined.

    Parameters
    ----------
    target : Path
        File to make.
    job_settings : dict
        JSON-serialisable settings with which the file is made. The settings must equal those of the interrupted call.
    n_chunk : int
        Number of chunks.

    Raises
    ------
    OutputError
        The file exists, was started with other settings, is being written by another process, or cannot be written.
    """
    check_path(target)
    if target.exists():
        raise OutputError(f"Cannot write {target}: it exists. Delete the file or choose another name.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with working_folder(target, output_kind=OUTPUT_KIND, is_exclusive=True) as work_folder:
            resume_parts(work_folder, target, job_settings, parts_name=_CHUNK_FOLDER)
            for abandoned_folder in work_folder.abandoned_folders:
                remove_working_folder(abandoned_folder)
            work_folder.is_kept = True
            yield ChunkStore(target, work_folder, json_types(job_settings), n_chunk)
    except OSError as error:
        if isinstance(error, OutputError) or error.filename is None:
            raise
        raise write_error(target, error) from error


def is_finished(target: Path, job_settings: dict[str, Any]) -> bool:
    """Return whether a file exists, is complete, and was made with the given settings."""
    if not target.is_file():
        return False
    try:
        with h5py.File(target, "r") as output_file:
            return bool(json.loads(output_file.attrs.get("job", "null")) == json_types(job_settings))
    except (OSError, ValueError):
        return False


def finalize_interrupted(target: Path, job_settings: dict[str, Any]) -> bool:
    """Remove the remaining chunks of a finished file, and return whether there were any."""
    if not (working_folders(target) and is_finished(target, job_settings)):
        return False
    with working_folder(target, output_kind=OUTPUT_KIND, is_exclusive=True) as work_folder:
        for abandoned_folder in work_folder.abandoned_folders:
            remove_working_folder(abandoned_folder)
        return bool(work_folder.abandoned_folders)
