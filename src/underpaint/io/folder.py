"""A folder of results that is whole or not there: written beside its place, renamed at the end."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import OutputError

RESULTS_FILE = "results.h5"
_MARK = ".underpaint-part"
_BLOCKS = "blocks"
_SPARE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class ResultFolder:
    """Where results are written before they are whole.

    Parameters
    ----------
    path : Path
        Write here; it becomes the folder asked for.
    blocks : Path
        Place of finished blocks; it is removed when all is done.
    """

    path: Path
    blocks: Path

    def load_block(self, name: str) -> NDArray[Any] | None:
        """Return a finished block's array, or None where it was not finished."""
        file = self.blocks / f"{name}.npy"
        return np.load(file, allow_pickle=False) if file.is_file() else None

    def save_block(self, name: str, values: NDArray[Any]) -> None:
        """Keep a finished block's array, so that an interrupted run can go on from it.

        Raises
        ------
        OutputError
            The block cannot be written.
        """
        part = self.blocks / f"{name}.part"
        try:
            with part.open("wb") as stream:
                np.save(stream, values, allow_pickle=False)
            part.replace(self.blocks / f"{name}.npy")
        except OSError as error:
            message = f"Cannot write {part}: {error}. The disk may be full; make room and run again."
            raise OutputError(message) from error


@contextmanager
def result_folder(
    path: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    needed_bytes: int = _SPARE_BYTES,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[ResultFolder]:
    """Open a folder for results; it appears whole at the end of the ``with`` block, or not at all.

    Parameters
    ----------
    path : str or Path
        The folder to make. What is written goes to ``<path>.part`` until the end.
    resume : bool
        Go on from the finished blocks of an interrupted run, and keep them if this one is interrupted too.
    overwrite : bool
        Replace results that are there.
    needed_bytes : int
        Space that must be free.
    settings : mapping or None
        What the blocks depend on (JSON-serialisable); blocks of a run with other settings are thrown away.

    Raises
    ------
    OutputError
        The folder exists and neither flag is given, or holds something other than results; the place is not
        writable or too small; or the disk fills up meanwhile.
    """
    target = Path(path).resolve()
    part = target.with_name(target.name + ".part")
    _check_target(target, replace_allowed=resume or overwrite)
    try:
        place = _prepare(part, settings, resume=resume)
        _check_space(part, needed_bytes)
    except OSError as error:
        raise _explained(error, target) from error
    try:
        yield place
        _publish(part, target)
    except BaseException as error:
        _clear(part, keep_blocks=resume)
        if isinstance(error, OSError) and not isinstance(error, OutputError) and error.errno is not None:
            raise _explained(error, target) from error
        raise


def is_finished(path: str | Path) -> bool:
    """Whether a folder holds the results of a run that came to its end."""
    return (Path(path) / RESULTS_FILE).is_file()


def _check_target(target: Path, *, replace_allowed: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        message = f"Cannot write results to {target}: it is a file. Give the name of a folder with --out."
        raise OutputError(message)
    if not any(target.iterdir()):
        return
    if not replace_allowed:
        message = (
            f"Cannot write results to {target}: the folder exists and is not empty. "
            "Give another one with --out, or --overwrite to replace it, or --resume to go on."
        )
        raise OutputError(message)
    if not is_finished(target):
        message = (
            f"Cannot replace {target}: it holds no {RESULTS_FILE}, so it is not a folder of results. "
            "Nothing was touched; give another one with --out."
        )
        raise OutputError(message)


def _prepare(part: Path, settings: Mapping[str, Any] | None, *, resume: bool) -> ResultFolder:
    if part.exists() and not (part / _MARK).is_file():
        message = f"Cannot write to {part}: it exists and was not made by an interrupted run. Move it away."
        raise OutputError(message)
    fingerprint = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
    if part.exists() and not (resume and (part / _MARK).read_text("utf-8") == fingerprint):
        shutil.rmtree(part)
    blocks = part / _BLOCKS
    blocks.mkdir(parents=True, exist_ok=True)
    (part / _MARK).write_text(fingerprint, "utf-8")
    return ResultFolder(part, blocks)


def _check_space(part: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(part).free
    if free >= needed_bytes:
        return
    _clear(part, keep_blocks=False)
    message = (
        f"Cannot write results to {part.parent}: {free / 2**20:.0f} MB are free, "
        f"{needed_bytes / 2**20:.0f} MB needed. "
        "Make room, or give a folder on another disk with --out."
    )
    raise OutputError(message)


def _publish(part: Path, target: Path) -> None:
    """Put the part in its place; what was there goes only once the new is there."""
    shutil.rmtree(part / _BLOCKS)
    (part / _MARK).unlink()
    old = target.with_name(target.name + ".old")
    if is_finished(old):
        shutil.rmtree(old)
    if target.exists() and any(target.iterdir()):
        target.replace(old)
    elif target.exists():
        target.rmdir()
    try:
        part.replace(target)
    except OSError:
        if old.exists():
            old.replace(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _clear(part: Path, *, keep_blocks: bool) -> None:
    if not keep_blocks or not any((part / _BLOCKS).glob("*.npy")):
        shutil.rmtree(part, ignore_errors=True)
        return
    for entry in part.iterdir():
        if entry.name in {_BLOCKS, _MARK}:
            continue
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def _explained(error: OSError, target: Path) -> OutputError:
    if isinstance(error, OutputError):
        return error
    message = (
        f"Cannot write results to {target}: {error.strerror or error}. "
        "Check that the place exists, is writable and has space, or give another one with --out."
    )
    return OutputError(message)
