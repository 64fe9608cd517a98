"""Cubes that are read piece by piece: what a format gives, checked, as a dask array."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from underpaint.errors import ScanError

BLOCK_BYTES = 16 * 2**20
"""Size of a block of whole rows; small enough that a few at a time are no burden, large enough for a task."""

LONGEST_ROW_BYTES = 64 * 2**20
"""A longer row is cut into blocks of columns, so that a block stays small whatever the scan's shape."""

SAME_CHANNELS = "same_channels"
"""Key in a scan's metadata: its detectors share their channels' energies and can be added without calibration."""


class Cube(Protocol):
    """A file's cube: it knows its shape and reads a rectangle of rows and columns."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Return (row, column, channel) counts."""


class CheckedCube:
    """Array-like over a :class:`Cube`, for dask; refuses negative counts and such as are not numbers."""

    ndim = 3

    def __init__(self, cube: Cube, source: str) -> None:
        self.cube, self.source = cube, source
        self.shape, self.dtype = cube.shape, np.dtype(cube.dtype)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a rectangle; integers drop their axis as in numpy."""
        parts = (*key, *(slice(None),) * (3 - len(key))) if isinstance(key, tuple) else (key, slice(None), slice(None))
        rows, columns = (_as_range(part, size) for part, size in zip(parts[:2], self.shape[:2], strict=True))
        block = self.cube.read(slice(rows.start, rows.stop), slice(columns.start, columns.stop))
        check_counts(block, self.source, (rows.start, columns.start))
        picked = tuple(
            0 if isinstance(part, int | np.integer) else slice(None, None, span.step)
            for part, span in zip(parts[:2], (rows, columns), strict=True)
        )
        return np.asarray(block[(*picked, parts[2])])


def lazy_counts(cube: Cube, source: str, row_multiple: int = 1) -> da.Array:
    """Return the cube as a dask array of whole-row blocks, read and checked when computed.

    Blocks have a multiple of ``row_multiple`` rows, so that no stored piece is unpacked twice.
    """
    n_row, n_column, n_channel = cube.shape
    pixel_bytes = n_channel * np.dtype(cube.dtype).itemsize
    row_bytes = n_column * pixel_bytes
    columns = n_column if row_bytes <= LONGEST_ROW_BYTES else max(1, BLOCK_BYTES // pixel_bytes)
    rows = max(1, BLOCK_BYTES // (row_bytes * row_multiple)) * row_multiple
    return da.from_array(
        CheckedCube(cube, source),
        chunks=(int(min(n_row, rows)), int(columns), n_channel),
        name=f"counts-{uuid4().hex}",
        asarray=False,
        fancy=False,
        meta=np.empty((0, 0, 0), dtype=cube.dtype),
    )


def check_counts(block: NDArray[Any], source: str, origin: tuple[int, int] = (0, 0)) -> None:
    """Raise ScanError that names the first pixel with a negative, infinite or missing count."""
    if block.dtype.kind == "u" or block.size == 0:
        return
    bad = block < 0 if block.dtype.kind == "i" else ~((block >= 0) & (block < np.inf))
    if not bad.any():
        return
    row, column, channel = (int(index) for index in np.argwhere(bad)[0])
    message = (
        f"Cannot use {source}: pixel (row {origin[0] + row}, column {origin[1] + column}) holds "
        f"{block[row, column, channel]} counts in channel {channel}; counts must be finite and not negative. "
        "Export the raw counts again, without background removed."
    )
    raise ScanError(message)


def probe(action: Callable[[], Any], source: str) -> Any:
    """Run a reader; turn what the operating system says into a ScanError."""
    try:
        return action()
    except OSError as error:
        message = f"Cannot read {source}: {error.strerror or error}. Check the path and that you may read it."
        raise ScanError(message) from error


def leads_out(entry: Path, folder: Path) -> bool:
    """Whether a folder's entry is a link to something outside of it."""
    return entry.is_symlink() and not entry.resolve().is_relative_to(folder.resolve())


def own_entries(folder: Path, entries: Iterable[Path]) -> list[Path]:
    """Return a folder's entries; raise ScanError where one is a link that leads out of it."""
    found = list(entries)
    for entry in found:
        if leads_out(entry, folder):
            message = f"Cannot read {folder}: {entry.name} in it is a link that leads elsewhere. Put the file there."
            raise ScanError(message)
    return found


def told(error: Exception) -> str:
    """Return the first line of what a library says, cut short: damaged files can make it repeat their content."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _as_range(part: Any, size: int) -> range:
    if isinstance(part, slice):
        return range(*part.indices(size))
    start = int(part) % size
    return range(start, start + 1)
