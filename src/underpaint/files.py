"""Files that appear whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from underpaint.errors import OutputError


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
