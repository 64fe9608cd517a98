"""Resuming of long tasks; their settings are stored with the finished parts, and must be the same.

A task that writes one file or folder keeps finished parts in a working folder next to its target
(:func:`resume_parts`). A task that writes a folder of many files stores its settings there (:func:`resume_folder`).
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from underpaint.errors import OutputError
from underpaint.runtime.files import WorkingFolder, claim_folder, is_link, is_plain, plain, write_json

_SETTINGS = "settings.json"
_DIGEST = re.compile("[0-9a-f]{16,}")


def differences(earlier: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Return texts on the settings in which two runs differ, without the values of nested settings and digests."""
    names = (name for name in sorted({*earlier, *current}) if earlier.get(name) != current.get(name))
    return [_difference(name, earlier.get(name), current.get(name)) for name in names]


def _difference(name: str, earlier: Any, current: Any) -> str:
    if any(isinstance(value, dict) for value in (earlier, current)) or _DIGEST.fullmatch(str(current)):
        return f"{name} (changed)"
    return f"{name} ({earlier!r} before, {current!r} now)"


def resume_folder(
    folder: Path, settings: Mapping[str, Any], *, note: str = _SETTINGS, markers: Iterable[str] = ()
) -> dict[str, Any]:
    """Make the folder of a task, or check that an existing folder was started with the same settings.

    Parameters
    ----------
    folder : Path
        Folder of the task's files.
    settings : mapping
        Settings on which the files depend, JSON-serialisable. Settings that are missing in the folder, which an earlier
        version may have started, are not compared.
    note : str
        Name of the file that stores the settings.
    markers : iterable of str
        Names of other files that identify a folder of underpaint.

    Returns
    -------
    dict
        Stored settings.

    Raises
    ------
    OutputError
        The folder was started with other settings, its file of settings is damaged, or it contains other files.
    """
    path = folder / note
    claim_folder(folder, notes=(note, *markers))
    if not path.is_file():
        write_json(path, settings)
        return dict(plain(settings))
    try:
        earlier = dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise OutputError(
            f"Cannot resume in {folder}: its {note} is damaged ({error}). Choose another folder."
        ) from error
    current = {name: value for name, value in plain(settings).items() if name in earlier}
    changed = differences({name: earlier[name] for name in current}, current)
    if changed:
        raise OutputError(
            f"Cannot resume in {folder}: it was started with other settings: {', '.join(changed)}. Choose "
            "another folder, or delete this one."
        )
    return earlier


def resume_parts(
    work: WorkingFolder,
    target: Path,
    settings: Mapping[str, Any],
    *,
    parts: str,
    resume: bool = True,
    afresh: bool = False,
) -> Path:
    """Return the folder of finished parts of an interrupted run with the same settings, or an empty folder.

    Parameters
    ----------
    work : WorkingFolder
        Working folder of the target.
    target : Path
        File or folder to make.
    settings : mapping
        Settings on which the parts depend, JSON-serialisable.
    parts : str
        Name of the folder of parts.
    resume : bool
        Whether finished parts are reused.
    afresh : bool
        Whether finished parts with other settings are ignored instead of an error.

    Raises
    ------
    OutputError
        An interrupted run had other settings, and ``afresh`` is false.
    """
    current = plain(settings)
    write_json(work.path / _SETTINGS, current)
    interrupted = {
        abandoned: earlier
        for abandoned in work.abandoned
        if resume and (earlier := settings_of(abandoned, parts)) is not None
    }
    matching = next((abandoned for abandoned, earlier in interrupted.items() if earlier == current), None)
    if matching is not None:
        (matching / parts).rename(work.path / parts)
    elif interrupted and not afresh:
        first_folder = next(iter(interrupted))
        changed = ", ".join(differences(interrupted[first_folder], current))
        raise OutputError(
            f"Cannot resume {target}: it was started with other settings: {changed}. Use the earlier settings, "
            f"or give another name. The finished parts are in {first_folder}: delete that folder to start again."
        )
    (work.path / parts).mkdir(exist_ok=True)
    return work.path / parts


def settings_of(folder: Path, parts: str) -> dict[str, Any] | None:
    """Return the settings of the parts in a working folder; None if it has no parts."""
    if is_link(folder) or is_link(folder / parts) or not is_plain(folder / parts, deep=True):
        return None
    try:
        return dict(json.loads((folder / _SETTINGS).read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
