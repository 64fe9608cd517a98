"""Atomic folders of results: written to a working folder, renamed at the end."""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from underpaint.errors import OutputError
from underpaint.io.results.sidecars import copy_sidecars, is_foreign, move_remaining
from underpaint.io.results.stored import JOURNAL, RESULTS_FILE
from underpaint.runtime.files import (
    check_path,
    remove_tree,
    remove_working_folder,
    sync,
    sync_folder,
    working_folder,
    working_folders,
    write_json,
)
from underpaint.runtime.job import resume_parts, settings_of

KIND = "results"
_BLOCKS, _NEW, _OLD, _READY = "blocks", "new", "old", "ready.json"
_ASIDE = re.compile(r"earlier(_\d+x\d+)?(_\d+)?")
_SPARE_BYTES = 64 * 2**20
_MAX_BELOW = "detectability/" + 100 * "n"
"""Longest name of a file in results."""


@dataclass(frozen=True)
class ResultFolder:
    """Folder in which results are written before they are complete.

    Parameters
    ----------
    path : Path
        Folder to write to; it becomes the requested folder.
    blocks : Path
        Folder of finished blocks (:class:`~underpaint.io.BlockStore`) and other data to resume an interrupted run;
        removed at the end.
    earlier : Path
        The results that these replace, if there are any.
    """

    path: Path
    blocks: Path
    earlier: Path


@contextmanager
def result_folder(
    path: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    needed_bytes: int = _SPARE_BYTES,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[ResultFolder]:
    """Open a folder for results, which is published atomically at the end of the ``with`` block.

    Parameters
    ----------
    path : str or Path
        The folder to make. Output goes to a working folder next to it until the end
        (:func:`underpaint.runtime.files.working_folder`).
    resume : bool
        Resume from the finished blocks of an interrupted run; otherwise they are discarded.
    overwrite : bool
        Replace existing results, and discard finished blocks of a run with other settings. Users' additions are kept
        (:func:`~underpaint.io.results.sidecars.copy_sidecars`).
    needed_bytes : int
        Space that must be free.
    settings : mapping or None
        What the blocks depend on (JSON-serialisable).

    Raises
    ------
    OutputError
        The folder exists and neither flag is given, or contains other files than results; the run to resume had other
        settings; another run is writing there; the place is not writable or too small; or the disk fills up meanwhile.

    Notes
    -----
    What is interrupted, by an error, Ctrl-C or a kill, leaves its blocks in the working folder, if there are any; its
    mark says which results it is for. Of two runs at once the second is refused.
    """
    target = Path(path).resolve()
    check_path(target)
    check_path(target / _MAX_BELOW)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with working_folder(target, kind=KIND, exclusive=True) as work:
            try:
                place = ResultFolder(work.path / _NEW, work.path / _BLOCKS, target)
                for left in work.abandoned:
                    _finish_replacing(left, target)
                _check_target(target, replace_allowed=resume or overwrite, resumable=settings is not None)
                resume_parts(work, target, settings or {}, parts=_BLOCKS, resume=resume, afresh=overwrite)
                for left in work.abandoned:
                    if not (left / _OLD).exists():
                        remove_working_folder(left)
                place.path.mkdir()
                _check_space(place, needed_bytes)
                yield place
                _check_target(
                    target, replace_allowed=resume or overwrite, resumable=settings is not None
                )  # it may have appeared meanwhile
                _publish(work.path, target)
            except BaseException:
                # Finished blocks stay for a run that goes on; so do results that could not take their place.
                complete = (work.path / _READY).exists()
                work.keep = complete or any(place.blocks.rglob(JOURNAL))
                if not complete and place.path.exists():
                    remove_tree(place.path)
                raise
    except OSError as error:
        if isinstance(error, OutputError) or error.errno is None:
            raise
        raise _explained(error, target) from error


def recover(path: str | Path) -> None:
    """Finish what a kill has stopped while results took their place, and remove what they no longer need.

    Raises
    ------
    OutputError
        Another run writes there just now.
    """
    target = Path(path).resolve()
    if not any(_readiness(folder)[0] for folder in working_folders(target)):
        return
    with working_folder(target, kind=KIND, exclusive=True) as work:
        for left in work.abandoned:
            if _readiness(left)[0]:
                _finish_replacing(left, target)
                if is_finished(target) and not (left / _OLD).exists():
                    remove_working_folder(left)


def is_finished(path: str | Path) -> bool:
    """Whether a folder holds the results of a run that came to its end."""
    return (Path(path) / RESULTS_FILE).is_file()


def unfinished(path: str | Path) -> dict[str, Any]:
    """Return the settings of the run whose finished blocks wait to be gone on from; {} where there is none."""
    return next(
        (settings for left in working_folders(Path(path).resolve()) if (settings := settings_of(left, _BLOCKS))), {}
    )


def _check_target(target: Path, *, replace_allowed: bool, resumable: bool) -> None:
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        kind = "link" if target.is_symlink() else "file"
        raise OutputError(f"Cannot write results to {target}: it is a {kind}. Give the name of a folder with --out.")
    if not any(target.iterdir()):
        return
    if not replace_allowed:
        raise OutputError(
            f"Cannot write results to {target}: the folder exists and is not empty. "
            f"Give another one with --out, or --overwrite to replace it{', or --resume to go on' if resumable else ''}."
        )
    if is_foreign(target):
        raise OutputError(
            f"Cannot replace {target}: the {RESULTS_FILE} in it was not made by underpaint. Nothing was touched; give "
            "another folder with --out."
        )
    if not is_finished(target):
        raise OutputError(
            f"Cannot replace {target}: it holds no {RESULTS_FILE}, so it is not a folder of results. "
            "Nothing was touched; give another one with --out."
        )


def _readiness(folder: Path) -> tuple[bool, str | None]:
    """Return whether the replacement by new results had started, and the folder name for files of maps of another size.

    A record that this program did not write is none.
    """
    try:
        earlier_folder = json.loads((folder / _READY).read_text("utf-8"))["aside"]
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return False, None
    named = earlier_folder is None or (isinstance(earlier_folder, str) and _ASIDE.fullmatch(earlier_folder) is not None)
    return (True, earlier_folder) if named else (False, None)


def _check_space(place: ResultFolder, needed_bytes: int) -> None:
    # The blocks of an interrupted run need no more space.
    used = sum(4096 * (entry.stat().st_size // 4096) for entry in place.blocks.rglob("*") if entry.is_file())
    free = shutil.disk_usage(place.path).free + used
    if free >= needed_bytes:
        return
    raise OutputError(
        f"Cannot write results to {place.earlier.parent}: {free / 2**20:.0f} MB are free, "
        f"{needed_bytes / 2**20:.0f} MB needed. "
        "Free space, or choose a folder on another disk with --out."
    )


def _publish(folder: Path, target: Path) -> None:
    """Publish new results, with users' additions to the old ones up to this moment.

    A kill at any moment leaves the old results, or the new, or both in the working folder, from which the next run
    completes the replacement; and blocks to resume from until the new results exist.
    """
    earlier_folder = copy_sidecars(target, folder / _NEW)
    sync(folder / _NEW)
    write_json(folder / _READY, {"aside": None if earlier_folder is None else earlier_folder.name})
    try:
        _swap(folder, target)
    except OSError:
        if not (folder / _OLD).exists():
            (folder / _READY).unlink(missing_ok=True)
        raise
    _clear_old(folder, target)


def _swap(folder: Path, target: Path) -> None:
    new, old = folder / _NEW, folder / _OLD
    if target.exists() and any(target.iterdir()):
        target.rename(old)
    elif target.exists():
        target.rmdir()
    try:
        new.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    sync_folder(target.parent)


def _finish_replacing(folder: Path, target: Path) -> None:
    """Complete a replacement of results that a kill interrupted."""
    new, old = folder / _NEW, folder / _OLD
    if not _readiness(folder)[0]:
        return
    if not target.exists() and new.is_dir():
        new.rename(target)
    elif not target.exists() and old.is_dir():
        old.rename(target)
    if old.is_dir() and is_finished(target):
        _clear_old(folder, target)


def _clear_old(folder: Path, target: Path) -> None:
    """Remove replaced results, after moving the users' additions."""
    old = folder / _OLD
    if old.is_dir():
        move_remaining(old, target, _readiness(folder)[1])
        sync_folder(target)
        remove_tree(old)


def _explained(error: OSError, target: Path) -> OutputError:
    message = (
        f"Cannot write results to {target}: {error.strerror or error}. "
        "Check that the place exists, is writable and has space, or choose another one with --out."
    )
    return OutputError(message)
