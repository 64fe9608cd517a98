"""Files that appear whole or not at all, and places that one process at a time writes to."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import ENOENT, ENOLCK, ENOSYS, EOPNOTSUPP
from pathlib import Path

from filelock import FileLock, Timeout

from underpaint.errors import OutputError

_NO_LOCKS = (ENOLCK, ENOSYS, EOPNOTSUPP)
"""What file systems say that know no locks: some on a network."""


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside a file; what was written there takes the file's place at the end, or is removed.

    Parameters
    ----------
    path : path
        The file to make; one that is there is replaced.

    Raises
    ------
    OutputError
        The file cannot be written; what was there before is untouched.
    """
    target = Path(path)
    part = target.with_name(target.name + ".part")
    try:
        yield part
        part.replace(target)
    except OSError as error:
        reason = error.strerror or error
        message = f"Cannot write {target}: {reason}. Check that the folder exists, is writable and has space."
        raise OutputError(message) from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def written_alone(path: str | Path) -> Iterator[None]:
    """Keep every other process from writing to a place; the system frees it when this one ends, however it ends.

    Parameters
    ----------
    path : path
        The file or folder, there or not; its own folder must be there. ``<path>.lock`` beside it is held meanwhile.

    Raises
    ------
    OutputError
        Another one writes to it just now.
    OSError
        The folder is not there, or not writable.
    """
    target = Path(path)
    if not target.parent.is_dir():  # the lock would make it
        raise FileNotFoundError(ENOENT, os.strerror(ENOENT), str(target.parent))
    lock = FileLock(target.with_name(target.name + ".lock"), blocking=False)
    try:
        lock.acquire()
    except Timeout:
        message = (
            f"Cannot write to {target}: another run is writing there just now. Wait for its end, stop it, or give "
            "another place with --out."
        )
        raise OutputError(message) from None
    except NotImplementedError:
        pass  # older releases say so of a file system that knows no locks
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield
    finally:
        _free(lock)


def _free(lock: FileLock) -> None:
    """Let go of a lock, and leave no file of it; only Windows forbids to remove it while it is held."""
    held_name = Path(lock.lock_file)
    if lock.is_locked and os.name != "nt":
        held_name.unlink(missing_ok=True)
    lock.release()
    if os.name == "nt":
        with suppress(OSError):
            held_name.unlink()
