"""Resume long tasks. Settings are stored with the finished parts, and a resumed task must have the same settings.

A task that writes one file or folder stores finished parts in a working folder next to its target
(:func:`resume_parts`). A task that writes a folder of many files stores its settings in that folder
(:func:`resume_folder`).
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from underpaint.errors import OutputError
from underpaint.runtime.files import (
    WorkingFolder,
    claim_folder,
    has_only_files_and_folders,
    is_link,
    json_types,
    write_json,
)

_SETTINGS_FILE = "settings.json"
_DIGEST_PATTERN = re.compile("[0-9a-f]{16,}")


def setting_differences(earlier_settings: Mapping[str, Any], current_settings: Mapping[str, Any]) -> list[str]:
    """Describe each setting in which two runs differ. The values of nested settings and digests are omitted."""
    names = (
        name
        for name in sorted({*earlier_settings, *current_settings})
        if earlier_settings.get(name) != current_settings.get(name)
    )
    return [_difference_text(name, earlier_settings.get(name), current_settings.get(name)) for name in names]


def _difference_text(name: str, earlier_value: Any, current_value: Any) -> str:
    if any(isinstance(value, dict) for value in (earlier_value, current_value)) or _DIGEST_PATTERN.fullmatch(
        str(current_value)
    ):
        return f"{name} (changed)"
    return f"{name} ({earlier_value!r} before, {current_value!r} now)"


def resume_folder(
    folder: Path, settings: Mapping[str, Any], *, settings_file: str = _SETTINGS_FILE, marker_files: Iterable[str] = ()
) -> dict[str, Any]:
    """Create the folder of a task, or check that an existing folder stores the same settings.

    Parameters
    ----------
    folder : Path
        Folder of the task's files.
    settings : mapping
        JSON-serialisable settings on which the files depend. Settings that are missing in a folder of an earlier
        version are not compared.
    settings_file : str
        Name of the file that stores the settings.
    marker_files : iterable of str
        Names of other files that identify a folder of underpaint.

    Returns
    -------
    dict
        Settings that the folder stores.

    Raises
    ------
    OutputError
        The folder stores other settings, contains files of another program, or has a damaged file of settings.
    """
    path = folder / settings_file
    claim_folder(folder, known_files=(settings_file, *marker_files))
    if not path.is_file():
        write_json(path, settings)
        return dict(json_types(settings))
    try:
        earlier_settings = dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise OutputError(
            f"Cannot resume in {folder}: its {settings_file} is damaged ({error}). Choose another folder."
        ) from error
    current_settings = {name: value for name, value in json_types(settings).items() if name in earlier_settings}
    changed_settings = setting_differences(
        {name: earlier_settings[name] for name in current_settings}, current_settings
    )
    if changed_settings:
        raise OutputError(
            f"Cannot resume in {folder}: it was started with other settings: {', '.join(changed_settings)}. Choose "
            "another folder, or delete this one."
        )
    return earlier_settings


def resume_parts(
    work_folder: WorkingFolder,
    target: Path,
    settings: Mapping[str, Any],
    *,
    parts_name: str,
    reuse_parts: bool = True,
    ignore_other_settings: bool = False,
) -> Path:
    """Return the folder of finished parts. The folder is empty unless an interrupted run had the same settings.

    Parameters
    ----------
    work_folder : WorkingFolder
        Working folder of the target.
    target : Path
        File or folder to make.
    settings : mapping
        JSON-serialisable settings on which the parts depend.
    parts_name : str
        Name of the folder of parts.
    reuse_parts : bool
        Whether finished parts are reused.
    ignore_other_settings : bool
        Whether finished parts with other settings are ignored. If false, finished parts with other settings cause an
        error.

    Raises
    ------
    OutputError
        An interrupted run had other settings, and ``ignore_other_settings`` is false.
    """
    current_settings = json_types(settings)
    write_json(work_folder.path / _SETTINGS_FILE, current_settings)
    settings_by_folder = {
        abandoned_folder: earlier_settings
        for abandoned_folder in work_folder.abandoned_folders
        if reuse_parts and (earlier_settings := settings_of(abandoned_folder, parts_name)) is not None
    }
    matching_folder = next(
        (
            abandoned_folder
            for abandoned_folder, earlier_settings in settings_by_folder.items()
            if earlier_settings == current_settings
        ),
        None,
    )
    if matching_folder is not None:
        (matching_folder / parts_name).rename(work_folder.path / parts_name)
    elif settings_by_folder and not ignore_other_settings:
        first_folder = next(iter(settings_by_folder))
        changed_settings = ", ".join(setting_differences(settings_by_folder[first_folder], current_settings))
        raise OutputError(
            f"Cannot resume {target}: it was started with other settings: {changed_settings}. Use the earlier "
            f"settings, or give another name. The finished parts are in {first_folder}: delete that folder to start "
            "again."
        )
    (work_folder.path / parts_name).mkdir(exist_ok=True)
    return work_folder.path / parts_name


def settings_of(folder: Path, parts_name: str) -> dict[str, Any] | None:
    """Return the settings of the parts in a working folder; None for a folder without parts."""
    if (
        is_link(folder)
        or is_link(folder / parts_name)
        or not has_only_files_and_folders(folder / parts_name, recursive=True)
    ):
        return None
    try:
        return dict(json.loads((folder / _SETTINGS_FILE).read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
