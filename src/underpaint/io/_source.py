"""Cubes in files, which are read and checked block by block."""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Protocol
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from underpaint.data import READERS
from underpaint.errors import ScanError

BLOCK_BYTES = 16 * 2**20
"""Size of a block of full rows in bytes. Several blocks fit into memory."""

MAX_ROW_BYTES = 64 * 2**20
"""Maximum size of a full row in bytes. Longer rows are split into blocks of columns."""

_MAX_NEGATIVE_CHANNEL_FRACTION, _MAX_NEGATIVE_COUNT_FRACTION, _MIN_FRACTION_AT_MINIMUM, _MIN_CHANNELS_AT_MINIMUM = (
    0.02,
    0.2,
    0.2,
    10,
)
"""Limits for negative residues: maximum shares of a spectrum's channels and counts that may be negative. If a constant
was subtracted, minimum share and number of the negative channels at the lowest value.
"""

SAME_CHANNELS = "same_channels"
"""Metadata key of detectors whose channels have equal energies, so that they can be added without calibration."""


class Cube(Protocol):
    """Cube in a file, from which rectangles of pixels can be read."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Return the (row, column, channel) counts of a rectangle of pixels."""


class CheckedCube:
    """NumPy-like interface of a :class:`Cube`, divided into blocks. Blocks are checked by :func:`checked_counts`."""

    ndim = 3

    def __init__(self, cube: Cube, source: str, block_shape: tuple[int, int]) -> None:
        self.cube, self.source, self.name = cube, source, f"counts-{uuid4().hex}"
        self.shape, self.dtype = cube.shape, np.dtype(cube.dtype)
        self.chunks = (
            *(_block_sizes(*sizes) for sizes in zip(self.shape[:2], block_shape, strict=True)),
            self.shape[2:],
        )
        self.residues = np.zeros(self.shape[:2], bool)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a rectangle of pixels. An integer index removes its dimension, as in NumPy."""
        slices = (*key, *(slice(None),) * (3 - len(key))) if isinstance(key, tuple) else (key, slice(None), slice(None))
        rows, columns = (
            _as_range(index, dimension_size) for index, dimension_size in zip(slices[:2], self.shape[:2], strict=True)
        )
        block = self.cube.read(slice(rows.start, rows.stop), slice(columns.start, columns.stop))
        block, residues = checked_counts(block, self.source, (rows.start, columns.start))
        self.residues[rows.start : rows.stop, columns.start : columns.stop] |= residues
        local_indices = tuple(
            0 if isinstance(index, int | np.integer) else slice(None, None, index_range.step)
            for index, index_range in zip(slices[:2], (rows, columns), strict=True)
        )
        return np.asarray(block[(*local_indices, slices[2])])


def _block_sizes(n_pixel: int, block_size: int) -> tuple[int, ...]:
    n_full_blocks, n_remaining = divmod(n_pixel, block_size)
    return (block_size,) * n_full_blocks + (n_remaining,) * (n_remaining > 0)


def lazy_counts(cube: Cube, source: str, row_multiple: int = 1) -> CheckedCube:
    """Return the cube as counts of a scan, in blocks of full rows, which are read and checked when computed.

    The number of rows in a block is a multiple of ``row_multiple``, so that no stored chunk is decompressed twice.
    """
    n_row, n_column, n_channel = cube.shape
    pixel_bytes = n_channel * np.dtype(cube.dtype).itemsize
    row_bytes = n_column * pixel_bytes
    block_columns = n_column if row_bytes <= MAX_ROW_BYTES else max(1, BLOCK_BYTES // pixel_bytes)
    block_rows = max(1, BLOCK_BYTES // (row_bytes * row_multiple)) * row_multiple
    checked_cube = CheckedCube(cube, source, (int(min(n_row, block_rows)), int(block_columns)))
    READERS[checked_cube.name] = checked_cube
    return checked_cube


class MemoryCube:
    """Cube of a (row, column, channel) array in memory."""

    def __init__(self, counts: NDArray[Any]) -> None:
        self.counts, self.dtype = counts, counts.dtype
        self.shape = (int(counts.shape[0]), int(counts.shape[1]), int(counts.shape[2]))

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Return a rectangle of pixels."""
        return self.counts[rows, columns]


class MappedCube:
    """Cube of an uncompressed array in a file. Each read maps the file into memory again, so that no file stays open.

    Parameters
    ----------
    path : Path
        The file.
    offset : int
        Number of bytes before the array.
    stored_shape : (int, int, int)
        Shape of the array in the file.
    dtype : dtype
        Type of the stored values, with their byte order.
    dimension_order : (int, int, int)
        Indices of the row, column and channel dimensions in ``stored_shape``.
    """

    def __init__(
        self,
        path: Path,
        offset: int,
        stored_shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        dimension_order: tuple[int, int, int],
    ) -> None:
        self.path, self.offset, self.stored_shape, self.stored_dtype, self.dimension_order = (
            path,
            offset,
            stored_shape,
            dtype,
            dimension_order,
        )
        self.dtype = dtype.newbyteorder("=")
        self.shape = (
            stored_shape[dimension_order[0]],
            stored_shape[dimension_order[1]],
            stored_shape[dimension_order[2]],
        )

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a rectangle of pixels."""
        try:
            mapped_array = np.memmap(self.path, self.stored_dtype, "r", self.offset, self.stored_shape)
        except (OSError, ValueError) as error:
            raise ScanError(
                f"Cannot read {self.path}: {first_line(error)}. The file was changed or is truncated; copy the "
                "file again."
            ) from error
        return np.ascontiguousarray(mapped_array.transpose(self.dimension_order)[rows, columns], dtype=self.dtype)


def spectrum_counts(counts: NDArray[Any], source: str) -> CheckedCube:
    """Check the (n_channel,) counts of a single spectrum, and return them as a (1, 1, n_channel) array.

    Raises
    ------
    ScanError
        A value is not a number, or the negative values are not residues.
    """
    checked_cube = lazy_counts(MemoryCube(np.array(counts)[None, None, :]), source)
    counts_read = checked_cube[:]
    if counts_read.dtype.kind == "f" and np.isnan(counts_read).any():
        channel = int(np.argmax(~np.isfinite(counts)))
        raise ScanError(
            f"Cannot use {source}: it holds {counts[channel]} counts in channel {channel}; they must be numbers. "
            "Export the spectrum again."
        )
    return checked_cube


def checked_counts(
    block: NDArray[Any], source: str, first_pixel: tuple[int, int] = (0, 0)
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Set small negative residues to zero. Set all channels of a pixel to NaN if any is not finite.

    A zero peak or a live-time correction leaves a few small negative values. Subtraction of a constant leaves many
    channels at the lowest value. Both kinds of negative values are residues. Removal of the background leaves negative
    values all over the spectrum, and such spectra are refused.

    Parameters
    ----------
    block : (n_row, n_column, n_channel) array
        Stored values, which are not modified.
    source : str
        Source of the block in error messages.
    first_pixel : (int, int)
        Row and column of the block's first pixel in error messages.

    Returns
    -------
    (array, (n_row, n_column) bool array)
        The counts, and a mask of the pixels where residues were set to zero.

    Raises
    ------
    ScanError
        A pixel has negative values that are not residues.
    """
    if block.dtype.kind == "u" or block.size == 0:
        return block, np.zeros(block.shape[:2], bool)
    lowest_counts = block.min(axis=2)
    has_residues = lowest_counts < 0
    if block.dtype.kind == "f":
        missing_pixels = ~(np.isfinite(lowest_counts) & np.isfinite(block.max(axis=2)))
        has_residues &= ~missing_pixels
        if missing_pixels.any():
            block = np.where(missing_pixels[:, :, None], block.dtype.type(np.nan), block)
    if has_residues.any():
        spectra = block[has_residues]
        invalid_indices = np.flatnonzero(~_are_residues(spectra))
        if invalid_indices.size:
            row, column = (int(index[invalid_indices[0]]) for index in np.nonzero(has_residues))
            raise ScanError(
                _negative_counts_message(
                    spectra[invalid_indices[0]], source, (first_pixel[0] + row, first_pixel[1] + column)
                )
            )
        block = block.copy()
        block[has_residues] = np.maximum(spectra, 0)
    return block, has_residues


def _are_residues(spectra: NDArray[Any]) -> NDArray[np.bool_]:
    """Return an (n,) mask of the spectra whose negative values are residues."""
    counts = spectra.astype(np.float64)
    is_negative = counts < 0
    n_negative = is_negative.sum(axis=1)
    has_few_negative = n_negative <= _MAX_NEGATIVE_CHANNEL_FRACTION * counts.shape[1]
    lowest_counts = counts.min(axis=1, keepdims=True)
    n_at_minimum = (counts <= 0.999 * lowest_counts).sum(axis=1)
    has_lowest_channels = (n_at_minimum >= _MIN_FRACTION_AT_MINIMUM * n_negative) & (
        n_at_minimum >= _MIN_CHANNELS_AT_MINIMUM
    )
    negative_sum, positive_sum = -np.minimum(counts, 0).sum(axis=1), np.maximum(counts, 0).sum(axis=1)
    return np.asarray(
        (has_few_negative | has_lowest_channels) & (negative_sum <= _MAX_NEGATIVE_COUNT_FRACTION * positive_sum)
    )


def _negative_counts_message(spectrum: NDArray[Any], source: str, pixel: tuple[int, int]) -> str:
    counts = spectrum.astype(np.float64)
    channel, n_negative = int(np.argmin(counts)), int((counts < 0).sum())
    negative_sum, positive_sum = -np.minimum(counts, 0).sum(), np.maximum(counts, 0).sum()
    return (
        f"Cannot use {source}: pixel (row {pixel[0]}, column {pixel[1]}) holds {counts[channel]:.6g} counts in channel "
        f"{channel}; {n_negative} of its {counts.size} channels are negative, with {negative_sum:.3g} counts compared "
        f"with {positive_sum:.3g} positive ones. Negative values are allowed in up to "
        f"{_MAX_NEGATIVE_CHANNEL_FRACTION:.0%} of the channels, with less than {_MAX_NEGATIVE_COUNT_FRACTION:.0%} of "
        "the counts. Export the raw counts without background removal, or as unsigned if 16-bit numbers overflowed."
    )


def try_read(action: Callable[[], Any], source: str) -> Any:
    """Call a function that reads a file, and convert errors of the operating system to ScanError."""
    try:
        return action()
    except OSError as error:
        raise ScanError(
            f"Cannot read {source}: {error.strerror or error}. Check the path and that you may read it."
        ) from error


def is_outside(folder_entry: Path, folder: Path) -> bool:
    """Return whether an entry of a folder is a link to a place outside the folder."""
    return folder_entry.is_symlink() and not folder_entry.resolve().is_relative_to(folder.resolve())


def entries_inside(folder: Path, folder_entries: Iterable[Path]) -> list[Path]:
    """Return the entries of a folder, or raise ScanError if an entry is a link to a place outside the folder."""
    entry_list = list(folder_entries)
    for folder_entry in entry_list:
        if is_outside(folder_entry, folder):
            raise ScanError(
                f"Cannot read {folder}: {folder_entry.name} in it is a link to another place. Copy the file there."
            )
    return entry_list


def missing_file_numbers(files: Sequence[Path]) -> list[int]:
    """Return the numbers that are missing in the names of files, such as 2 for ``map_0001`` and ``map_0003``.

    The list is empty if the names differ in more than one number, or if most steps between numbers exceed 1.
    """
    split_names = [re.split(r"(\d+)", file.stem) for file in files]
    if len({len(split_name) for split_name in split_names}) != 1:
        return []
    varying_parts = [set(name_part) for name_part in zip(*split_names, strict=True) if len(set(name_part)) > 1]
    if len(varying_parts) != 1 or not all(name_part.isdecimal() for name_part in varying_parts[0]):
        return []
    file_numbers = sorted({int(name_part) for name_part in varying_parts[0]})
    number_steps = [next_number - file_number for file_number, next_number in pairwise(file_numbers)]
    if not number_steps or median(number_steps) != 1 or sum(number_steps) > 2 * len(file_numbers):
        return []
    return sorted(set(range(file_numbers[0], file_numbers[-1])) - set(file_numbers))


def number_list(numbers: Sequence[int]) -> str:
    """Return the first few numbers of a list as text for a note or message."""
    return ", ".join(map(str, numbers[:5])) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")


def natural_sort_key(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts file names by their numbers, so that scan_9 comes before scan_10."""
    return [(int(name_part) if name_part.isdecimal() else -1, name_part) for name_part in re.split(r"(\d+)", path.stem)]


def first_bytes(path: Path, max_bytes: int) -> bytes:
    """Return the first ``max_bytes`` bytes of a file, or raise the errors of :func:`try_read`."""

    def read() -> bytes:
        with path.open("rb") as stream:
            return stream.read(max_bytes)

    file_head: bytes = try_read(read, str(path))
    return file_head


def first_line(error: Exception) -> str:
    """Return the first line of a library's error message, cut to 200 characters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _as_range(index: Any, dimension_size: int) -> range:
    if isinstance(index, slice):
        return range(*index.indices(dimension_size))
    first_index = int(index) % dimension_size
    return range(first_index, first_index + 1)
