"""Maps on disk, which are written block by block and read one map at a time to limit memory use."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import OutputError, ScanError

_CACHE_BYTES = 24 * 2**20
RESULTS_FILE = "results.h5"
JOURNAL_NAME = "finished"
"""Name of a file with one byte per block. The byte of a finished block is 1."""


class StoredMaps:
    """Array (n_row, n_column, n_map) on disk. ``maps[rows, columns, index]`` reads a single map.

    Parameters
    ----------
    shape : (int, int, int)
        Shape of the array.
    dtype : dtype
        Type of the values.
    read : callable
        Takes the index of a map, and returns the (n_row, n_column) map. Recently used maps are cached, up to 24 MB.
    """

    def __init__(self, shape: tuple[int, int, int], dtype: Any, read: Callable[[int], NDArray[Any]]) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._read = read
        self._cache: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, key: tuple[slice, slice, int]) -> NDArray[Any]:
        """Read and return a single map, or a part of it."""
        rows, columns, index = key
        return np.asarray(self._cached_map(index)[rows, columns])

    def _cached_map(self, index: int) -> NDArray[Any]:
        with self._lock:
            if index not in self._cache:
                self._cache[index] = self._read(index)
                self._cache[index].flags.writeable = False
            self._cache.move_to_end(index)
            image = self._cache[index]
            while len(self._cache) > 1 and len(self._cache) * image.nbytes > _CACHE_BYTES:
                self._cache.popitem(last=False)
        return image


class BlockStore:
    """Stacks of maps in a folder, with one binary file per stack and a record of finished blocks.

    If the process is killed, stored blocks survive, and an interrupted block counts as not started. HDF5 files do not
    survive a kill, so results are written to HDF5 only when they are complete.

    Parameters
    ----------
    folder : Path
        Folder that contains only the files of the store, and is created if it does not exist.
    shape : (int, int)
        Numbers of rows and columns of the maps.
    """

    def __init__(self, folder: Path, shape: tuple[int, int]) -> None:
        self.folder, self.shape = folder, shape
        folder.mkdir(parents=True, exist_ok=True)

    def finished(self) -> set[int]:
        """Return the numbers of the finished blocks."""
        path = self.folder / JOURNAL_NAME
        finished_flags = np.frombuffer(path.read_bytes(), np.uint8) if path.is_file() else np.zeros(0, np.uint8)
        return {int(index) for index in np.flatnonzero(finished_flags)}

    def put(self, index: int, rows: slice, columns: slice, stacks: Mapping[str, NDArray[Any]]) -> None:
        """Write a block as one (n_row, n_column, n_map) array per stack, and mark the block as finished.

        Raises
        ------
        OutputError
            The disk is full or fails.
        """
        try:
            for name, map_block in stacks.items():
                self._write_maps(name, rows, columns, map_block)
            with _open_for_update(self.folder / JOURNAL_NAME) as stream:
                stream.seek(index)
                stream.write(b"\1")
                _flush(stream)
        except OSError as error:
            raise OutputError(
                f"Cannot write {self.folder}: {error}. The disk may be full; free space, and continue with --resume."
            ) from error

    def stack(self, name: str, n_map: int) -> StoredMaps:
        """Return the maps of a stack, which are read one at a time.

        Raises
        ------
        ScanError
            The file is missing or incomplete.
        """
        path = next(iter(self.folder.glob(f"{name}.*")), self.folder / name)
        dtype = np.dtype(path.suffix[1:] or "uint8")
        n_pixel = self.shape[0] * self.shape[1]
        if not path.is_file() or path.stat().st_size != n_map * n_pixel * dtype.itemsize:
            raise ScanError(
                f"Cannot read {path}: it does not contain {n_map} maps of {self.shape} pixels. Start again."
            )

        def read(index: int) -> NDArray[Any]:
            flat_map = np.fromfile(path, dtype, n_pixel, offset=index * n_pixel * dtype.itemsize)
            return flat_map.reshape(self.shape)

        return StoredMaps((*self.shape, n_map), dtype, read)

    def _write_maps(self, name: str, rows: slice, columns: slice, map_block: NDArray[Any]) -> None:
        n_row, n_column = self.shape
        has_full_rows = columns.stop - columns.start == n_column
        maps = np.ascontiguousarray(np.moveaxis(map_block, 2, 0))
        with _open_for_update(self.folder / f"{name}.{map_block.dtype.name}") as stream:
            for index, image in enumerate(maps):
                for row_offset, row_values in enumerate([image.reshape(-1)] if has_full_rows else image):
                    first_value_index = (index * n_row + rows.start + row_offset) * n_column + columns.start
                    stream.seek(first_value_index * map_block.itemsize)
                    stream.write(row_values.data)
            _flush(stream)  # in case of a power cut, the maps must be on the disk before the journal says so


def _open_for_update(path: Path) -> Any:
    """Open a file for writes at any position. The file is created if it does not exist."""
    path.touch()
    return path.open("r+b")


def _flush(stream: Any) -> None:
    stream.flush()
    os.fsync(stream.fileno())
