"""Maps of energy windows: a copy of the scan's counts with channels first, and net counts above a background.

A scan on disk is stored spectrum by spectrum, so a map of a few channels requires reading the whole scan. The counts
are therefore copied once with the channels first: a small scan into memory, a large scan into the user's cache folder.
"""

import os
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io.results.provenance import file_facts
from underpaint.runtime import cache
from underpaint.runtime.files import atomic_write
from underpaint.runtime.progress import Progress, no_progress

MAX_MEMORY_BYTES = 96 * 2**20
"""Maximum size of a scan that is held in memory as float32, in bytes."""
MAX_CACHE_FRACTION = 0.5
"""Maximum size of a cache file as a fraction of the size of the scan's files."""
MAX_CACHE_FILES = 4
"""Maximum number of scans in the cache; the least recently opened scan is removed first."""
_BLOCK_BYTES = 48 * 2**20
_BINS_PER_CHUNK = 8
_BIN_WIDTHS = (1, 2, 4, 8, 16, 32)
_SIZE_MARGIN = 1.1
"""Safety factor for the estimated size of the cache file."""
_CACHE_SUFFIX = ".channels.h5"
_COUNTS_KEY = "counts"


@dataclass(frozen=True)
class ChannelStore:
    """Counts of a scan, with the channels as the first dimension.

    Parameters
    ----------
    counts : (n_bin, n_row, n_column) array or dataset
        Counts; zero for missing spectra.
    bin_width : int
        Number of channels in a bin.
    """

    counts: Any
    bin_width: int

    def bins(self, first_channel: int, last_channel: int) -> tuple[int, int]:
        """Return the start bin and the exclusive stop bin of a range of channels that includes ``last_channel``."""
        n_bin = self.counts.shape[0]
        start_bin = min(max(first_channel // self.bin_width, 0), n_bin - 1)
        return start_bin, min(max(last_channel // self.bin_width + 1, start_bin + 1), n_bin)

    def window(
        self, first_channel: int, last_channel: int, *, background: bool = True
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the (n_row, n_column) counts of a range of channels and their standard deviations.

        Parameters
        ----------
        first_channel, last_channel : int
            First and last channel, both included.
        background : bool
            Whether to subtract a linear background between the mean counts on the two sides of the window. Each side
            has at least three channels, and at least a quarter of the window's width.
        """
        start_bin, stop_bin = self.bins(first_channel, last_channel)
        side_width = max(-(-(stop_bin - start_bin) // 4), -(-3 // self.bin_width)) if background else 0
        left_bin, right_bin = max(start_bin - side_width, 0), min(stop_bin + side_width, self.counts.shape[0])
        bin_counts = np.asarray(self.counts[left_bin:right_bin], dtype=np.float32)
        net_counts = bin_counts[start_bin - left_bin : stop_bin - left_bin].sum(axis=0)
        variance = net_counts.copy()
        background_sides = (
            [
                background_bins
                for background_bins in (bin_counts[: start_bin - left_bin], bin_counts[stop_bin - left_bin :])
                if len(background_bins)
            ]
            if background
            else []
        )
        for background_bins in background_sides:
            background_weight = np.float32((stop_bin - start_bin) / (len(background_bins) * len(background_sides)))
            background_counts = background_bins.sum(axis=0)
            net_counts -= background_weight * background_counts
            variance += background_weight**2 * background_counts
        return net_counts, np.sqrt(np.maximum(variance, 1.0))


class ChannelStoreCache:
    """Cache of the channel store of one scan.

    Parameters
    ----------
    folder : Path or None
        Folder of the cache files; by default the user's cache folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._store: ChannelStore | None = None
        self._file: h5py.File | None = None
        self._lock = threading.RLock()

    def open(self, scan: Scan) -> ChannelStore | None:
        """Return the store of a scan; None if the scan is large and its cache file does not exist yet."""
        with self._lock:
            if self._store is None and fits_memory(scan):
                self._store = ChannelStore(
                    np.concatenate([part for _, part in _channel_first_blocks(scan, 1)], axis=1), 1
                )
            elif self._store is None and (path := store_path(scan, self._folder)).is_file():
                try:
                    self._file = h5py.File(path, "r")
                    self._store = ChannelStore(self._file[_COUNTS_KEY], int(self._file.attrs["merged"]))
                    os.utime(path)
                except (OSError, KeyError):  # the file is damaged or from another program, and will be replaced
                    self._close()
                    return None
            return self._store

    def size(self, scan: Scan) -> int:
        """Return the size of the scan's cache file, in bytes; 0 if it does not exist."""
        try:
            return store_path(scan, self._folder).stat().st_size
        except OSError:
            return 0

    def remove(self, scan: Scan) -> None:
        """Remove the scan's cache file."""
        with self._lock:
            self._close()
            store_path(scan, self._folder).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        self._store = None
        if self._file is not None:
            self._file.close()
            self._file = None


def fits_memory(scan: Scan) -> bool:
    """Return whether the scan's counts fit into ``MAX_MEMORY_BYTES``."""
    return int(np.prod(scan.shape)) * 4 <= MAX_MEMORY_BYTES


def store_path(scan: Scan, folder: Path | None = None) -> Path:
    """Return the path of a scan's cache file. The file name is a hash of the scan's properties.

    Raises
    ------
    ScanError
        The scan has no file.
    """
    if not scan.source:
        raise ScanError(
            "Cannot make window maps: the scan has no file. Save the scan with `up.save_scan` and open the new file."
        )
    identity = f"{sorted(file_facts(scan.source).items())} {scan.source} {scan.shape}"
    return (folder or cache.cache_folder() / "windows") / f"{sha256(identity.encode()).hexdigest()[:24]}{_CACHE_SUFFIX}"


def write_store(scan: Scan, folder: Path | None = None, progress: Progress = no_progress) -> Path:
    """Write the cache file of a scan and return its path; an interrupted call leaves no partial file.

    Channels are merged into bins of 2, 4, 8 ... until the file is at most half as large as the scan.

    Raises
    ------
    ScanError
        The file would be more than half as large as the scan.
    OutputError
        The cache folder cannot be written.
    """
    path = store_path(scan, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    max_bytes = MAX_CACHE_FRACTION * float(file_facts(scan.source)["scan size"])
    bin_width = _choose_bin_width(scan, max_bytes)
    n_row, n_column, n_channel = scan.shape
    n_bin = -(-n_channel // bin_width)
    block_heights = [row_slice.stop - row_slice.start for row_slice in _row_slices(scan)]
    with atomic_write(path) as partial_path:
        with h5py.File(partial_path, "w") as file:
            counts = file.create_dataset(
                _COUNTS_KEY,
                (n_bin, n_row, n_column),
                scan.counts.dtype if bin_width == 1 else _sum_dtype(scan.counts.dtype),
                chunks=(min(_BINS_PER_CHUNK, n_bin), max(block_heights), n_column),
                compression="gzip",
                compression_opts=1,
                shuffle=scan.counts.dtype.itemsize > 1,
            )
            file.attrs["merged"] = bin_width
            for block_number, (row_slice, block) in enumerate(_channel_first_blocks(scan, bin_width)):
                progress("Sorting the counts by channel", block_number, len(block_heights))
                counts[:, row_slice] = block
        n_byte = partial_path.stat().st_size
        if n_byte > max_bytes:
            raise ScanError(
                f"Cannot save the counts by channel: {n_byte / 2**20:.0f} MB are needed, and half of the scan's "
                f"size, {max_bytes / 2**20:.0f} MB, is allowed. Use the element maps."
            )
    cache.remove_oldest(path.parent, f"*{_CACHE_SUFFIX}", MAX_CACHE_FILES)
    return path


def _choose_bin_width(scan: Scan, max_bytes: float) -> int:
    """Estimate from a sample of rows how many channels per bin keep the file below ``max_bytes``."""
    row_slices = list(_row_slices(scan))
    middle_rows = row_slices[len(row_slices) // 2]
    sample_rows = slice(middle_rows.start, min(middle_rows.start + 8, middle_rows.stop))
    row_ratio = scan.shape[0] / (sample_rows.stop - sample_rows.start)
    counts = _read_counts(scan, sample_rows)
    for bin_width in _BIN_WIDTHS:
        if row_ratio * _SIZE_MARGIN * len(zlib.compress(_channel_first(counts, bin_width).tobytes(), 1)) <= max_bytes:
            return bin_width
    return _BIN_WIDTHS[-1]


def _row_slices(scan: Scan) -> Iterator[slice]:
    """Yield slices of rows that consist of whole blocks of the reader and have at most ``_BLOCK_BYTES``."""
    max_rows = max(1, _BLOCK_BYTES // (scan.shape[1] * scan.shape[2] * scan.counts.dtype.itemsize))
    first_row = 0
    for reader_rows in scan.row_blocks():
        if reader_rows.stop - first_row > max_rows and reader_rows.start > first_row:
            yield slice(first_row, reader_rows.start)
            first_row = reader_rows.start
    yield slice(first_row, scan.shape[0])


def _channel_first_blocks(scan: Scan, bin_width: int) -> Iterator[tuple[slice, NDArray[Any]]]:
    for row_slice in _row_slices(scan):
        yield row_slice, _channel_first(_read_counts(scan, row_slice), bin_width)


def _read_counts(scan: Scan, row_slice: slice) -> NDArray[Any]:
    """Read (n_row, n_column, n_channel) counts. Missing spectra and invalid values become zero."""
    counts = scan.read(row_slice, slice(0, scan.shape[1]))
    if counts.dtype.kind == "f":
        counts = np.nan_to_num(counts, nan=0.0, posinf=0.0, neginf=0.0)
    return counts if scan.present is None else np.where(scan.present[row_slice][:, :, None], counts, 0)


def _channel_first(counts: NDArray[Any], bin_width: int) -> NDArray[Any]:
    """Return (n_bin, n_row, n_column) counts in bins of ``bin_width`` channels."""
    n_row, n_column, n_channel = counts.shape
    if bin_width > 1:
        padded_counts = np.pad(counts, ((0, 0), (0, 0), (0, -n_channel % bin_width)))
        counts = padded_counts.reshape(n_row, n_column, -1, bin_width).sum(axis=3, dtype=_sum_dtype(counts.dtype))
    return np.ascontiguousarray(np.moveaxis(counts, 2, 0))


def _sum_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a data type that can hold the sum of a few channels."""
    return np.dtype({"u1": "u2", "i1": "i2", "u2": "u4", "i2": "i4"}.get(dtype.str[1:], dtype.str))
