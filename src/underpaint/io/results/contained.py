"""Safe opening of files in a results folder of unknown origin. Links are not followed."""

import hashlib
import math
import os
import stat
from collections import deque
from io import BufferedReader
from pathlib import Path, PureWindowsPath
from typing import Any

import h5py

from underpaint.errors import ScanError
from underpaint.io.results.stored import RESULTS_FILE
from underpaint.runtime.files import is_link_status

DAMAGE_ERRORS = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, RecursionError)
"""Errors that h5py raises for a damaged or malicious ``results.h5``."""
_IS_WINDOWS = os.name == "nt"
_OPEN_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
_MAX_COMPRESSION_RATIO = 1100
"""Maximum compression ratio of datasets. Deflate is the only compression in results, and its maximum is 1032."""
_MAX_UNCHECKED_BYTES = 2**20
_accepted_files: deque[tuple[int, int, int, int]] = deque(maxlen=16)


def has_file(folder: Path, *path_parts: str) -> bool:
    """Return whether :func:`open_contained` can open a file."""
    try:
        return stat.S_ISREG(_file_status(folder, path_parts).st_mode)
    except (OSError, ScanError):
        return False


def open_contained(folder: Path, *path_parts: str) -> BufferedReader:
    """Open a file in a results folder for reading without following links.

    Parameters
    ----------
    folder : Path
        Results folder. The folder itself may be a link, since the user named it.
    *names : str
        Names of the subfolders and of the file, from the results folder inwards.

    Raises
    ------
    ScanError
        A name leads out of the folder or is a link, or the file is a pipe, device or folder.
    OSError
        The file does not exist or cannot be read.
    """
    file_status = _file_status(folder, path_parts)
    path = folder.joinpath(*path_parts)
    if not stat.S_ISREG(file_status.st_mode):
        raise ScanError(f"Cannot read {path}: it is not a regular file. Move it out of the results folder.")
    stream = os.fdopen(os.open(path, _OPEN_FLAGS), "rb")
    if not os.path.samestat(file_status, os.fstat(stream.fileno())):
        stream.close()
        raise ScanError(f"Cannot read {path}: it was replaced while it was opened. Try again.")
    return stream


def digest_contained(folder: Path, *path_parts: str) -> str | None:
    """Return the SHA-256 hash of a file in a results folder, or None if the file does not exist.

    Raises the errors of :func:`open_contained`.
    """
    try:
        with open_contained(folder, *path_parts) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def read_contained_text(folder: Path, *path_parts: str) -> str:
    """Return the content of a UTF-8 text file in a results folder.

    Raises the errors of :func:`open_contained`.
    """
    with open_contained(folder, *path_parts) as stream:
        return stream.read().decode("utf-8")


def open_results_file(folder: Path) -> Any:
    """Open the ``results.h5`` of a folder for reading. A file that refers to other files is refused.

    Returns
    -------
    h5py.File

    Raises
    ------
    ScanError
        The file does not exist, is a link, or refers to other files.
    DAMAGE_ERRORS
        The file is damaged.
    """
    path = folder / RESULTS_FILE
    try:
        with open_contained(folder, RESULTS_FILE) as stream:
            opened_status = os.fstat(stream.fileno())
            file = h5py.File(path, "r")
            is_same_file = os.path.samestat(path.lstat(), opened_status)
    except (FileNotFoundError, NotADirectoryError) as error:
        if not folder.exists():
            reason = "the folder does not exist"
        else:
            reason = f"there is no {RESULTS_FILE} in it" if folder.is_dir() else "it is a file, not a folder"
        raise ScanError(f"Cannot read results from {folder}: {reason}. Give a folder of results.") from error
    try:
        reason = _refusal_reason(file, opened_status) if is_same_file else "the file was replaced while it was opened"
    except BaseException:
        file.close()
        raise
    if reason:
        file.close()
        raise ScanError(
            f"Cannot read {path}: {reason}. Results written by underpaint have no such content; do not use this file."
        )
    return file


def _file_status(folder: Path, path_parts: tuple[str, ...]) -> os.stat_result:
    """Check every part of a file's path in a folder, and return the status of the file."""
    path = folder
    file_status = folder.stat()
    for path_part in path_parts:
        path = path / path_part
        if _is_invalid_name(path_part):
            raise ScanError(f"Cannot read {path_part!r} in {folder}: it is not the name of a file or folder.")
        file_status = path.lstat()
        if is_link_status(file_status):
            raise ScanError(
                f"Cannot use {path}: it is a link, and links in a folder of results are not followed. "
                "Put the file itself there."
            )
    return file_status


def _is_invalid_name(name: str) -> bool:
    if name in {"", ".", ".."} or any(character in name for character in "/\0"):
        return True
    return _IS_WINDOWS and (any(character in name for character in "\\:") or PureWindowsPath(name).is_reserved())


def _refusal_reason(file: Any, file_status: os.stat_result) -> str:
    """Return why an HDF5 file must be refused, or "" if it can be read.

    A file is refused if an object in it refers to another file or declares too much data.
    """
    file_identity = (file_status.st_dev, file_status.st_ino, file_status.st_size, file_status.st_mtime_ns)
    if file_identity in _accepted_files:  # this runs for every map, since the file is opened again each time
        return ""
    root_group = file.id

    def check_object(object_path: bytes) -> str | None:
        link_type = root_group.links.get_info(object_path).type
        if link_type == h5py.h5l.TYPE_SOFT:
            return None
        if link_type != h5py.h5l.TYPE_HARD:
            return f"its {object_path.decode(errors='replace')!r} is a link to another file"
        item_id = h5py.h5o.open(root_group, object_path)
        return _dataset_refusal_reason(item_id, object_path) if isinstance(item_id, h5py.h5d.DatasetID) else None

    reason = root_group.links.visit(check_object) or ""
    if not reason:
        _accepted_files.append(file_identity)
    return reason


def _dataset_refusal_reason(dataset: Any, object_path: bytes) -> str | None:
    creation_properties = dataset.get_create_plist()
    if creation_properties.get_layout() == h5py.h5d.VIRTUAL or creation_properties.get_external_count():
        return f"its {object_path.decode(errors='replace')!r} takes its values from another file"
    declared_bytes = math.prod(dataset.shape or ()) * dataset.get_type().get_size()
    if declared_bytes > _MAX_UNCHECKED_BYTES and declared_bytes > _MAX_COMPRESSION_RATIO * dataset.get_storage_size():
        return (
            f"its {object_path.decode(errors='replace')!r} declares {declared_bytes / 2**20:.0f} MB, more than the "
            "file can contain"
        )
    return None
