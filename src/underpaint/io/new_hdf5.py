"""A new HDF5 file on a disk that may fill up: HDF5 itself ends the process where it cannot write what it holds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import h5py


@contextmanager
def new_hdf5(path: str | Path) -> Iterator[tuple[Any, Callable[[], None]]]:
    """Open a new HDF5 file to write to; one that is there is replaced.

    Parameters
    ----------
    path : str or Path
        The file.

    Yields
    ------
    (h5py.File, callable)
        The callable raises what has failed up to now: what writes for long calls it now and then.

    Raises
    ------
    OSError
        It cannot be written, or not to its end; what is there is then not to be used.
    """
    with _Stream(path) as stream:
        with h5py.File(stream, "w") as file:
            yield file, stream.check
        stream.check()


class _Stream(FileIO):
    """Writes to nowhere once a write has failed, and does not tell HDF5, which can then close its file."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, "w+")
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise what has failed."""
        if self._error is not None:
            raise self._error

    def write(self, data: Any) -> int:
        """Write all of it, or take note of why not."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while self._error is None and len(rest):
                rest = rest[super().write(rest) or 0 :]
        except OSError as error:
            self._error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the file's length, unless a write has failed."""
        try:
            return super().truncate(size) if self._error is None else size or 0
        except OSError as error:
            self._error = error
            return size or 0
