"""One writer at a time in a results folder, whether two tabs of one viewer or two viewers."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock

from underpaint.errors import OutputError
from underpaint.runtime.files import exclusive_lock, is_link

_PATIENCE_S = 10.0
_PAUSE_S = 0.05
_turn = Lock()


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Wait until nobody else saves regions, pictures or a session in a folder, and keep others waiting meanwhile.

    Raises
    ------
    OutputError
        Another one has been writing for ten seconds, or the folder cannot be written.
    """
    with _turn, ExitStack() as held:
        end = time.monotonic() + _PATIENCE_S
        while True:
            try:
                held.enter_context(exclusive_lock(folder / "viewer"))
                break
            except OutputError:
                if time.monotonic() > end:
                    raise
                time.sleep(_PAUSE_S)
            except OSError as error:
                raise OutputError(
                    f"Cannot save in {folder}: {error.strerror or error}. Check that the folder is writable."
                ) from error
        yield


def folder_inside(folder: Path, name: str) -> Path:
    """Return a folder inside a folder of results, made if needed.

    Raises
    ------
    OutputError
        It cannot be made, or is a link.
    """
    place = folder / name
    try:
        place.mkdir(exist_ok=True)
        if not is_link(place):
            return place
        reason = "it is a link, which is not followed; put a folder there"
    except OSError as error:
        reason = error.strerror or str(error)
    raise OutputError(f"Cannot save {name} in {place}: {reason}. Check that the folder is writable.")
