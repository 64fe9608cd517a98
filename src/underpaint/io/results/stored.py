"""Maps on disk, written block by block and read one at a time, so that memory does not grow with their number."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import OutputError, ScanError

_KEPT_BYTES = 24 * 2**20
RESULTS_FILE = "results.h5"
JOURNAL = "finished"
"""Name of a store's file of one byte a block, 1 for those that are finished."""


class StoredMaps:
    """An array (n_row, n_column, n_map) on disk, of which ``maps[rows, columns, index]`` reads one map.

    Parameters
    ----------
    shape : (int, int, int)
    dtype : dtype
    read : callable
        Returns the (n_row, n_column) map of an index. The last ones are cached, up to 24 MB.
    """

    def __init__(self, shape: tuple[int, int, int], dtype: Any, read: Callable[[int], NDArray[Any]]) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._read = read
        self._kept: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, key: tuple[slice, slice, int]) -> NDArray[Any]:
        """Return a map, or a part of it, without reading the others."""
        rows, columns, index = key
        return np.asarray(self._map(index)[rows, columns])

    def _map(self, index: int) -> NDArray[Any]:
        with self._lock:
            if index not in self._kept:
                self._kept[index] = self._read(index)
                self._kept[index].flags.writeable = False
            self._kept.move_to_end(index)
            image = self._kept[index]
            while len(self._kept) > 1 and len(self._kept) * image.nbytes > _KEPT_BYTES:
                self._kept.popitem(last=False)
        return image


class BlockStore:
    """Stacks of maps in a folder, one file of plain numbers each, and which blocks of them are finished.

    A stored block survives a kill of the process; one that was interrupted counts as not started. (HDF5 does not
    guarantee this, so results are written to it when complete.)

    Parameters
    ----------
    folder : Path
        Folder of only these files; made if missing.
    shape : (int, int)
        Rows and columns of the maps.
    """

    def __init__(self, folder: Path, shape: tuple[int, int]) -> None:
        self.folder, self.shape = folder, shape
        folder.mkdir(parents=True, exist_ok=True)

    def finished(self) -> set[int]:
        """Return the numbers of the finished blocks."""
        path = self.folder / JOURNAL
        numbers = np.frombuffer(path.read_bytes(), np.uint8) if path.is_file() else np.zeros(0, np.uint8)
        return {int(index) for index in np.flatnonzero(numbers)}

    def put(self, number: int, rows: slice, columns: slice, stacks: Mapping[str, NDArray[Any]]) -> None:
        """Write a block's (n_row, n_column, n_map) values of each stack, then note that it is finished.

        Raises
        ------
        OutputError
            The disk is full, or fails.
        """
        try:
            for name, values in stacks.items():
                self._put(name, rows, columns, values)
            with _opened(self.folder / JOURNAL) as stream:
                stream.seek(number)
                stream.write(b"\1")
                _flush(stream)
        except OSError as error:
            raise OutputError(
                f"Cannot write {self.folder}: {error}. The disk may be full; make room, and go on with --resume."
            ) from error

    def stack(self, name: str, n_map: int) -> StoredMaps:
        """Return the maps of a stack, to be read one at a time.

        Raises
        ------
        ScanError
            They are not all there.
        """
        path = next(iter(self.folder.glob(f"{name}.*")), self.folder / name)
        dtype = np.dtype(path.suffix[1:] or "uint8")
        n_pixel = self.shape[0] * self.shape[1]
        if not path.is_file() or path.stat().st_size != n_map * n_pixel * dtype.itemsize:
            raise ScanError(
                f"Cannot read {path}: it does not contain {n_map} maps of {self.shape} pixels. Start again."
            )

        def read(index: int) -> NDArray[Any]:
            values = np.fromfile(path, dtype, n_pixel, offset=index * n_pixel * dtype.itemsize)
            return values.reshape(self.shape)

        return StoredMaps((*self.shape, n_map), dtype, read)

    def _put(self, name: str, rows: slice, columns: slice, values: NDArray[Any]) -> None:
        n_row, n_column = self.shape
        whole_rows = columns.stop - columns.start == n_column
        maps = np.ascontiguousarray(np.moveaxis(values, 2, 0))
        with _opened(self.folder / f"{name}.{values.dtype.name}") as stream:
            for index, image in enumerate(maps):
                for offset, run in enumerate([image.reshape(-1)] if whole_rows else image):
                    first = (index * n_row + rows.start + offset) * n_column + columns.start
                    stream.seek(first * values.itemsize)
                    stream.write(run.data)
            _flush(stream)  # before the journal lists it, since a power cut could otherwise make the journal wrong


def _opened(path: Path) -> Any:
    """Open a file for random writes; it is made if missing."""
    path.touch()
    return path.open("r+b")


def _flush(stream: Any) -> None:
    stream.flush()
    os.fsync(stream.fileno())
