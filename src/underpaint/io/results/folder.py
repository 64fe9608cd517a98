"""Atomic publication of results, which are written to a working folder that is renamed when complete."""

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
from underpaint.io.results.stored import JOURNAL_NAME, RESULTS_FILE
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

FOLDER_KIND = "results"
_BLOCKS_NAME, _NEW_NAME, _OLD_NAME, _READY_NAME = "blocks", "new", "old", "ready.json"
_EARLIER_PATTERN = re.compile(r"earlier(_\d+x\d+)?(_\d+)?")
_MIN_FREE_BYTES = 64 * 2**20
_LONGEST_RELATIVE_PATH = "detectability/" + 100 * "n"
"""Longest path of a file in a results folder, relative to this folder."""


@dataclass(frozen=True)
class ResultFolder:
    """Working folder of a run, in which results are written until they are complete.

    Parameters
    ----------
    path : Path
        Temporary folder for the results. At the end, it is renamed to the requested folder.
    blocks : Path
        Folder for finished blocks (:class:`~underpaint.io.BlockStore`) and other data from which an interrupted run can
        resume. The folder is removed at the end.
    earlier : Path
        Requested folder, whose results, if any, will be replaced.
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
    needed_bytes: int = _MIN_FREE_BYTES,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[ResultFolder]:
    """Create a working folder for results, and publish them atomically at the end of the ``with`` block.

    Parameters
    ----------
    path : str or Path
        Folder to create. Until the end, results are written to a working folder next to the folder to create
        (:func:`underpaint.runtime.files.working_folder`).
    resume : bool
        Whether to resume from the finished blocks of an interrupted run. If false, the blocks are discarded.
    overwrite : bool
        Whether to replace existing results, and to discard finished blocks of a run with other settings. Files that
        users added are kept (:func:`~underpaint.io.results.sidecars.copy_sidecars`).
    needed_bytes : int
        Free disk space in bytes that the run requires.
    settings : mapping or None
        Settings on which the blocks depend, in types that JSON can store.

    Raises
    ------
    OutputError
        The folder exists and neither ``resume`` nor ``overwrite`` is true, or it contains files that are not results.
        The run to resume had other settings, or another run is writing to the folder. The folder cannot be written, or
        the disk is full.

    Notes
    -----
    If a run fails, is interrupted by Ctrl-C or is killed, its finished blocks remain in the working folder. A mark in
    the working folder names the results folder. If two runs write to one folder at the same time, the second is
    refused.
    """
    target = Path(path).resolve()
    check_path(target)
    check_path(target / _LONGEST_RELATIVE_PATH)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with working_folder(target, output_kind=FOLDER_KIND, is_exclusive=True) as work_folder:
            try:
                output_folder = ResultFolder(work_folder.path / _NEW_NAME, work_folder.path / _BLOCKS_NAME, target)
                for abandoned_folder in work_folder.abandoned_folders:
                    _finish_replacing(abandoned_folder, target)
                _check_target(target, replace_allowed=resume or overwrite, resumable=settings is not None)
                resume_parts(
                    work_folder,
                    target,
                    settings or {},
                    parts_name=_BLOCKS_NAME,
                    reuse_parts=resume,
                    ignore_other_settings=overwrite,
                )
                for abandoned_folder in work_folder.abandoned_folders:
                    if not (abandoned_folder / _OLD_NAME).exists():
                        remove_working_folder(abandoned_folder)
                output_folder.path.mkdir()
                _check_space(output_folder, needed_bytes)
                yield output_folder
                _check_target(
                    target, replace_allowed=resume or overwrite, resumable=settings is not None
                )  # another program may have created the folder during the run
                _publish(work_folder.path, target)
            except BaseException:
                # A later run can resume from finished blocks, or from complete results that were not published.
                is_complete = (work_folder.path / _READY_NAME).exists()
                work_folder.is_kept = is_complete or any(output_folder.blocks.rglob(JOURNAL_NAME))
                if not is_complete and output_folder.path.exists():
                    remove_tree(output_folder.path)
                raise
    except OSError as error:
        if isinstance(error, OutputError) or error.errno is None:
            raise
        raise _write_error(error, target) from error


def recover(path: str | Path) -> None:
    """If a kill interrupted the replacement of results, complete it and remove the working folder.

    Raises
    ------
    OutputError
        Another run is writing to the folder.
    """
    target = Path(path).resolve()
    if not any(_replacement_record(folder)[0] for folder in working_folders(target)):
        return
    with working_folder(target, output_kind=FOLDER_KIND, is_exclusive=True) as work_folder:
        for abandoned_folder in work_folder.abandoned_folders:
            if _replacement_record(abandoned_folder)[0]:
                _finish_replacing(abandoned_folder, target)
                if is_finished(target) and not (abandoned_folder / _OLD_NAME).exists():
                    remove_working_folder(abandoned_folder)


def is_finished(path: str | Path) -> bool:
    """Return whether a folder holds the results of a complete run."""
    return (Path(path) / RESULTS_FILE).is_file()


def unfinished_settings(path: str | Path) -> dict[str, Any]:
    """Return the settings of an interrupted run that can be resumed, or {} if there is no such run."""
    return next(
        (
            settings
            for folder in working_folders(Path(path).resolve())
            if (settings := settings_of(folder, _BLOCKS_NAME))
        ),
        {},
    )


def _check_target(target: Path, *, replace_allowed: bool, resumable: bool) -> None:
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        entry_type = "link" if target.is_symlink() else "file"
        raise OutputError(
            f"Cannot write results to {target}: it is a {entry_type}. Give the name of a folder with --out."
        )
    if not any(target.iterdir()):
        return
    if not replace_allowed:
        is_replaceable = is_finished(target) and not is_foreign(target)
        alternatives_text = f", or --overwrite to replace it{', or --resume to continue' if resumable else ''}"
        raise OutputError(
            f"Cannot write results to {target}: the folder exists and is not empty. "
            f"Give another one with --out{alternatives_text if is_replaceable else ''}."
        )
    if is_foreign(target):
        raise OutputError(
            f"Cannot replace {target}: the {RESULTS_FILE} in it was not written by underpaint. Nothing was changed; "
            "give another folder with --out."
        )
    if not is_finished(target):
        raise OutputError(
            f"Cannot replace {target}: it holds no {RESULTS_FILE}, so it is not a folder of results. "
            "Nothing was changed; give another folder with --out."
        )


def _replacement_record(folder: Path) -> tuple[bool, str | None]:
    """Return whether a replacement had started, and the name of the folder for files that belong to earlier maps.

    The returned folder name is None unless earlier and new maps differ in shape.

    Records that underpaint did not write are ignored.
    """
    try:
        earlier_folder = json.loads((folder / _READY_NAME).read_text("utf-8"))["aside"]
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return False, None
    is_valid = earlier_folder is None or (
        isinstance(earlier_folder, str) and _EARLIER_PATTERN.fullmatch(earlier_folder) is not None
    )
    return (True, earlier_folder) if is_valid else (False, None)


def _check_space(output_folder: ResultFolder, needed_bytes: int) -> None:
    # The blocks of an interrupted run already occupy a part of the required disk space.
    n_reusable_bytes = sum(
        4096 * (block_file.stat().st_size // 4096)
        for block_file in output_folder.blocks.rglob("*")
        if block_file.is_file()
    )
    free_bytes = shutil.disk_usage(output_folder.path).free + n_reusable_bytes
    if free_bytes >= needed_bytes:
        return
    raise OutputError(
        f"Cannot write results to {output_folder.earlier.parent}: {free_bytes / 2**20:.0f} MB are free, "
        f"{needed_bytes / 2**20:.0f} MB needed. "
        "Free space, or choose a folder on another disk with --out."
    )


def _publish(folder: Path, target: Path) -> None:
    """Publish new results with the files that users added to the old results.

    If the process is killed, old or new results remain in place, or both remain in the working folder. The next run
    then completes the interrupted replacement. Finished blocks are kept until the new results are in place.
    """
    earlier_folder = copy_sidecars(target, folder / _NEW_NAME)
    sync(folder / _NEW_NAME)
    write_json(folder / _READY_NAME, {"aside": None if earlier_folder is None else earlier_folder.name})
    try:
        _replace_target(folder, target)
    except OSError:
        if not (folder / _OLD_NAME).exists():
            (folder / _READY_NAME).unlink(missing_ok=True)
        raise
    _remove_old(folder, target)


def _replace_target(folder: Path, target: Path) -> None:
    new_folder, old_folder = folder / _NEW_NAME, folder / _OLD_NAME
    if target.exists() and any(target.iterdir()):
        target.rename(old_folder)
    elif target.exists():
        target.rmdir()
    try:
        new_folder.rename(target)
    except OSError:
        if old_folder.exists():
            old_folder.rename(target)
        raise
    sync_folder(target.parent)


def _finish_replacing(folder: Path, target: Path) -> None:
    """Complete a replacement of results that was interrupted by a kill."""
    new_folder, old_folder = folder / _NEW_NAME, folder / _OLD_NAME
    if not _replacement_record(folder)[0]:
        return
    if not target.exists() and new_folder.is_dir():
        new_folder.rename(target)
    elif not target.exists() and old_folder.is_dir():
        old_folder.rename(target)
    if old_folder.is_dir() and is_finished(target):
        _remove_old(folder, target)


def _remove_old(folder: Path, target: Path) -> None:
    """Move files that users added to replaced results, then remove these results."""
    old_folder = folder / _OLD_NAME
    if old_folder.is_dir():
        move_remaining(old_folder, target, _replacement_record(folder)[1])
        sync_folder(target)
        remove_tree(old_folder)


def _write_error(error: OSError, target: Path) -> OutputError:
    message = (
        f"Cannot write results to {target}: {error.strerror or error}. "
        "Check that the folder exists, is writable and has space, or choose another one with --out."
    )
    return OutputError(message)
