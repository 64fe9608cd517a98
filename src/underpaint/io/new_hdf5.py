"""Writing of HDF5 files, where a full disk raises an error instead of ending the process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import h5py


@contextmanager
def new_hdf5(path: str | Path) -> Iterator[tuple[Any, Callable[[], None]]]:
    """Open a new HDF5 file for writing, and replace an existing file.

    Parameters
    ----------
    path : str or Path
        The file.

    Yields
    ------
    (h5py.File, callable)
        The callable raises a previous write error. Long writes call it repeatedly.

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
    """File that keeps the first write error and discards later data, so that HDF5 can close it."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, "w+")
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise a previous write error."""
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
