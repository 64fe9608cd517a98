"""Files of a results folder of unknown origin, opened without following links out of it."""

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

DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, RecursionError)
"""Errors of reading a damaged or hostile ``results.h5``."""
_WINDOWS = os.name == "nt"
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
_MAX_PACKED = 1100
"""Deflate, the only compression in results, reduces data to 1/1032 of their size at most."""
_SMALL_BYTES = 2**20
_examined: deque[tuple[int, int, int, int]] = deque(maxlen=16)


def has_file(folder: Path, *names: str) -> bool:
    """Whether :func:`open_contained` would open a file."""
    try:
        return stat.S_ISREG(_status(folder, names).st_mode)
    except (OSError, ScanError):
        return False


def open_contained(folder: Path, *names: str) -> BufferedReader:
    """Open a file in a results folder for reading, and follow no link on the way.

    Parameters
    ----------
    folder : Path
        May itself be a link, since the user named it.
    *names : str
        Of the folders below it, and of the file.

    Raises
    ------
    ScanError
        A name leads out of the folder, or is a link, pipe, device or folder. OSError The file does not exist or cannot
        be read.
    """
    before = _status(folder, names)
    path = folder.joinpath(*names)
    if not stat.S_ISREG(before.st_mode):
        raise ScanError(f"Cannot read {path}: it is no regular file. Move it out of the folder of results.")
    stream = os.fdopen(os.open(path, _FLAGS), "rb")
    if not os.path.samestat(before, os.fstat(stream.fileno())):
        stream.close()
        raise ScanError(f"Cannot read {path}: it was replaced while it was opened. Try again.")
    return stream


def digest_contained(folder: Path, *names: str) -> str | None:
    """Return the SHA-256 of a file of a results folder, None if it does not exist; raises as :func:`open_contained`."""
    try:
        with open_contained(folder, *names) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def read_contained_text(folder: Path, *names: str) -> str:
    """Return a text file (UTF-8) of a results folder, opened by :func:`open_contained`, whose errors it raises."""
    with open_contained(folder, *names) as stream:
        return stream.read().decode("utf-8")


def open_results_file(folder: Path) -> Any:
    """Open ``results.h5`` of a folder for reading; nothing in it may refer to another file.

    Returns
    -------
    h5py.File

    Raises
    ------
    ScanError
        It is not there, is a link, or refers to other files.
    DAMAGE
        It is damaged.
    """
    path = folder / RESULTS_FILE
    try:
        with open_contained(folder, RESULTS_FILE) as stream:
            opened = os.fstat(stream.fileno())
            file = h5py.File(path, "r")
            same = os.path.samestat(path.lstat(), opened)
    except (FileNotFoundError, NotADirectoryError) as error:
        if not folder.exists():
            reason = "the folder does not exist"
        else:
            reason = f"there is no {RESULTS_FILE} in it" if folder.is_dir() else "it is a file, not a folder"
        raise ScanError(f"Cannot read results from {folder}: {reason}. Give a folder of results.") from error
    try:
        reason = _reason_against(file, opened) if same else "the file was replaced while it was opened"
    except BaseException:
        file.close()
        raise
    if reason:
        file.close()
        raise ScanError(
            f"Cannot read {path}: {reason}. Results written by underpaint have no such content; do not use it."
        )
    return file


def _status(folder: Path, names: tuple[str, ...]) -> os.stat_result:
    """Return the status of a file in a folder, after a check of every part of its path."""
    path = folder
    status = folder.stat()
    for name in names:
        path = path / name
        if _is_no_name(name):
            raise ScanError(f"Cannot read {name!r} in {folder}: it is not the name of a file or folder.")
        status = path.lstat()
        if is_link_status(status):
            raise ScanError(
                f"Cannot use {path}: it is a link, and links in a folder of results are not followed. "
                "Put the file itself there."
            )
    return status


def _is_no_name(name: str) -> bool:
    if name in {"", ".", ".."} or any(sign in name for sign in "/\0"):
        return True
    return _WINDOWS and (any(sign in name for sign in "\\:") or PureWindowsPath(name).is_reserved())


def _reason_against(file: Any, status: os.stat_result) -> str:
    """Return which object of an HDF5 file refers to another file or declares more than it has; "" if none."""
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if identity in _examined:  # maps that are read one by one open the file for each
        return ""
    root = file.id

    def look(name: bytes) -> str | None:
        kind = root.links.get_info(name).type
        if kind == h5py.h5l.TYPE_SOFT:
            return None
        if kind != h5py.h5l.TYPE_HARD:
            return f"its {name.decode(errors='replace')!r} is a link to another file"
        item_id = h5py.h5o.open(root, name)
        return _reason_against_dataset(item_id, name) if isinstance(item_id, h5py.h5d.DatasetID) else None

    reason = root.links.visit(look) or ""
    if not reason:
        _examined.append(identity)
    return reason


def _reason_against_dataset(dataset: Any, name: bytes) -> str | None:
    layout = dataset.get_create_plist()
    if layout.get_layout() == h5py.h5d.VIRTUAL or layout.get_external_count():
        return f"its {name.decode(errors='replace')!r} takes its values from another file"
    size = math.prod(dataset.shape or ()) * dataset.get_type().get_size()
    if size > _SMALL_BYTES and size > _MAX_PACKED * dataset.get_storage_size():
        return f"its {name.decode(errors='replace')!r} claims {size / 2**20:.0f} MB, more than the file can contain"
    return None
