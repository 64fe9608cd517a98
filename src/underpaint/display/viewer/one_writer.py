"""Lock that admits one writer at a time to a folder of results, even if several tabs or viewers are open."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock

from underpaint.errors import OutputError
from underpaint.runtime.files import exclusive_lock, is_link

_TIME_LIMIT_S = 10.0
_RETRY_PAUSE_S = 0.05
_writer_lock = Lock()


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Wait for other writers, and then hold the lock for saving regions, pictures or a session in a folder.

    Raises
    ------
    OutputError
        Another writer held the lock for more than ten seconds, or the folder cannot be written.
    """
    with _writer_lock, ExitStack() as open_locks:
        end_s = time.monotonic() + _TIME_LIMIT_S
        while True:
            try:
                open_locks.enter_context(exclusive_lock(folder / "viewer"))
                break
            except OutputError:
                if time.monotonic() > end_s:
                    raise
                time.sleep(_RETRY_PAUSE_S)
            except OSError as error:
                raise OutputError(
                    f"Cannot save in {folder}: {error.strerror or error}. Check that the folder is writable."
                ) from error
        yield


def folder_inside(folder: Path, name: str) -> Path:
    """Return a folder inside a folder of results, after creating the inner folder if necessary.

    Raises
    ------
    OutputError
        The folder cannot be created, or it is a link.
    """
    path = folder / name
    try:
        path.mkdir(exist_ok=True)
        if not is_link(path):
            return path
        reason = "it is a link, and links are not followed; put a folder there"
    except OSError as error:
        reason = error.strerror or str(error)
    raise OutputError(f"Cannot save {name} in {path}: {reason}. Check that the folder is writable.")
