"""Writing of HDF5 files. A full disk raises an error and does not end the process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import h5py


@contextmanager
def new_hdf5(path: str | Path) -> Iterator[tuple[Any, Callable[[], None]]]:
    """Create an HDF5 file for writing. An existing file is replaced.

    Parameters
    ----------
    path : str or Path
        The file.

    Yields
    ------
    (h5py.File, callable)
        The open file, and a function that raises the first write error, if any. Call this function during long writes.

    Raises
    ------
    OSError
        The file cannot be written completely and must not be used.
    """
    with _Stream(path) as stream:
        with h5py.File(stream, "w") as file:
            yield file, stream.check
        stream.check()


class _Stream(FileIO):
    """File that records the first write error and discards all later data, so that HDF5 can close the file."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, "w+")
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the recorded write error, if any."""
        if self._error is not None:
            raise self._error

    def write(self, data: Any) -> int:
        """Write all data, or record the error."""
        remaining_data = memoryview(data).cast("B")
        n_byte = len(remaining_data)
        try:
            while self._error is None and len(remaining_data):
                remaining_data = remaining_data[super().write(remaining_data) or 0 :]
        except OSError as error:
            self._error = error
        return n_byte

    def truncate(self, n_byte: int | None = None) -> int:
        """Set the length of the file, unless a write has failed."""
        try:
            return super().truncate(n_byte) if self._error is None else n_byte or 0
        except OSError as error:
            self._error = error
            return n_byte or 0
