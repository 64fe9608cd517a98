"""Resuming long tasks: the settings are stored with the finished parts and must be the same.

A task that writes one file or folder keeps its finished parts in a working folder next to it (:func:`resume_parts`);
one that writes a folder of many files keeps a note of its settings there (:func:`resume_folder`).
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
    """Return texts on the settings in which two runs differ; nested settings and digests are not printed."""
    names = (name for name in sorted({*earlier, *current}) if earlier.get(name) != current.get(name))
    return [_difference(name, earlier.get(name), current.get(name)) for name in names]


def _difference(name: str, earlier: Any, current: Any) -> str:
    if any(isinstance(value, dict) for value in (earlier, current)) or _DIGEST.fullmatch(str(current)):
        return f"{name} (changed)"
    return f"{name} ({earlier!r} before, {current!r} now)"


def resume_folder(
    folder: Path, settings: Mapping[str, Any], *, note: str = _SETTINGS, markers: Iterable[str] = ()
) -> dict[str, Any]:
    """Make a folder for a task with these settings, or check that it was started with them.

    Parameters
    ----------
    folder : Path
        Folder of the task's files.
    settings : mapping
        What the files depend on; JSON-serialisable. In a folder that an earlier version started, settings that did not
        exist then are not compared.
    note : str
        Name of the file that stores the settings.
    markers : iterable of str
        Other files that show that underpaint made the folder.

    Returns
    -------
    dict
        The settings as first stored.

    Raises
    ------
    OutputError
        The folder was started with other settings, its note is damaged, or it contains files of another origin.
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
            f"Cannot resume in {folder}: it was started with other settings: {', '.join(changed)}. Choose another "
            "folder, or delete this one."
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
    """Return the folder of finished parts: those of an interrupted run with the same settings, else empty.

    Parameters
    ----------
    work : WorkingFolder
        Working folder of the target; leftovers of interrupted runs are removed unless they hold replaced results.
    target : Path
        File or folder to make.
    settings : mapping
        What the parts depend on; JSON-serialisable.
    parts : str
        Name of the folder of parts.
    resume, afresh : bool
        Whether finished parts are reused; whether those of other settings are discarded.

    Raises
    ------
    OutputError
        An interrupted run had other settings, and ``afresh`` is false.
    """
    current = plain(settings)
    write_json(work.path / _SETTINGS, current)
    interrupted = {
        left: earlier for left in work.abandoned if resume and (earlier := settings_of(left, parts)) is not None
    }
    same = next((left for left, earlier in interrupted.items() if earlier == current), None)
    if same is not None:
        (same / parts).rename(work.path / parts)
    elif interrupted and not afresh:
        first = next(iter(interrupted))
        changed = ", ".join(differences(interrupted[first], current))
        raise OutputError(
            f"Cannot resume {target}: it was started with other settings: {changed}. Use the earlier settings, or give "
            f"another name. The finished parts are in {first}: delete that folder to start again."
        )
    (work.path / parts).mkdir(exist_ok=True)
    return work.path / parts


def settings_of(folder: Path, parts: str) -> dict[str, Any] | None:
    """Return the settings of the parts in a working folder; None where it has no parts."""
    if is_link(folder) or is_link(folder / parts) or not is_plain(folder / parts, deep=True):
        return None
    try:
        return dict(json.loads((folder / _SETTINGS).read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
