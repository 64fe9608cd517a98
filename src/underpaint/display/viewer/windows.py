"""Maps of an energy window: the scan's counts with channels first, and net counts over a linear background.

A scan on disk is stored spectrum by spectrum, so that a map of a few channels reads all of it. It is therefore copied
once with the channels first: into memory where it is small, else into a file of the user's cache folder.
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

MEMORY_BYTES = 96 * 2**20
"""Scans that take no more than this as float32 are held in memory."""
SHARE_OF_FILE = 0.5
"""Largest cache file, of the size of the scan's files."""
MAX_FILES = 4
"""Number of scans in the cache; the one opened longest ago is removed first."""
_BLOCK_BYTES = 48 * 2**20
_BINS_TOGETHER = 8
_MERGED = (1, 2, 4, 8, 16, 32)
_MARGIN = 1.1
"""Allowance for the sample from which the size of the file is estimated."""
_SUFFIX = ".channels.h5"
_COUNTS = "counts"


@dataclass(frozen=True)
class ChannelStore:
    """The counts of a scan, channels first.

    Parameters
    ----------
    counts : (n_bin, n_row, n_column) array or dataset
        Missing spectra are zero.
    merged : int
        Channels in a bin.
    """

    counts: Any
    merged: int

    def bins(self, first: int, last: int) -> tuple[int, int]:
        """Return the first bin of a range of channels (last one included), and the one after its last."""
        n_bin = self.counts.shape[0]
        start = min(max(first // self.merged, 0), n_bin - 1)
        return start, min(max(last // self.merged + 1, start + 1), n_bin)

    def window(
        self, first: int, last: int, *, background: bool = True
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the (n_row, n_column) counts of a range of channels and their standard deviations.

        Parameters
        ----------
        first, last : int
            Channels, both included.
        background : bool
            Whether a straight line is subtracted between the mean counts on either side: of a quarter as many
            channels as the window has, three at least.
        """
        start, stop = self.bins(first, last)
        side = max(-(-(stop - start) // 4), -(-3 // self.merged)) if background else 0
        left, right = max(start - side, 0), min(stop + side, self.counts.shape[0])
        part = np.asarray(self.counts[left:right], dtype=np.float32)
        net = part[start - left : stop - left].sum(axis=0)
        variance = net.copy()
        sides = [each for each in (part[: start - left], part[stop - left :]) if len(each)] if background else []
        for each in sides:
            weight = np.float32((stop - start) / (len(each) * len(sides)))
            counts = each.sum(axis=0)
            net -= weight * counts
            variance += weight**2 * counts
        return net, np.sqrt(np.maximum(variance, 1.0))


class Windows:
    """The channel store of one scan, opened once.

    Parameters
    ----------
    folder : Path or None
        Of the cache files; None: the user's cache folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._store: ChannelStore | None = None
        self._file: h5py.File | None = None
        self._lock = threading.RLock()

    def open(self, scan: Scan) -> ChannelStore | None:
        """Return the store of a scan; None where the scan is large and its cache file does not exist yet."""
        with self._lock:
            if self._store is None and fits_memory(scan):
                self._store = ChannelStore(np.concatenate([part for _, part in _parts(scan, 1)], axis=1), 1)
            elif self._store is None and (path := store_path(scan, self._folder)).is_file():
                try:
                    self._file = h5py.File(path, "r")
                    self._store = ChannelStore(self._file[_COUNTS], int(self._file.attrs["merged"]))
                    os.utime(path)
                except (OSError, KeyError):  # damaged, or another program's: it is made again
                    self._close()
                    return None
            return self._store

    def size(self, scan: Scan) -> int:
        """Return the size of the scan's cache file, in bytes; 0 where there is none."""
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
    """Return whether the scan's counts are held in memory."""
    return int(np.prod(scan.shape)) * 4 <= MEMORY_BYTES


def store_path(scan: Scan, folder: Path | None = None) -> Path:
    """Return the path of a scan's cache file, which changes when the scan does.

    Raises
    ------
    ScanError
        The scan has no file.
    """
    if not scan.source:
        raise ScanError("Cannot make window maps: the scan has no file. Save it with `up.save_scan` and open that.")
    identity = f"{sorted(file_facts(scan.source).items())} {scan.source} {scan.shape}"
    return (folder or cache.cache_folder() / "windows") / f"{sha256(identity.encode()).hexdigest()[:24]}{_SUFFIX}"


def write_store(scan: Scan, folder: Path | None = None, progress: Progress = no_progress) -> Path:
    """Write the cache file of a scan and return its path; the file appears whole or not at all.

    Channels are merged by twos as long as the file would exceed half of the scan's size.

    Raises
    ------
    ScanError
        Half of the scan's size is not enough.
    OutputError
        The cache folder cannot be written.
    """
    path = store_path(scan, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    limit = SHARE_OF_FILE * float(file_facts(scan.source)["scan size"])
    merged = _channels_to_merge(scan, limit)
    n_row, n_column, n_channel = scan.shape
    n_bin = -(-n_channel // merged)
    heights = [rows.stop - rows.start for rows in _rows(scan)]
    with atomic_write(path) as part:
        with h5py.File(part, "w") as file:
            counts = file.create_dataset(
                _COUNTS,
                (n_bin, n_row, n_column),
                scan.counts.dtype if merged == 1 else _wider(scan.counts.dtype),
                chunks=(min(_BINS_TOGETHER, n_bin), max(heights), n_column),
                compression="gzip",
                compression_opts=1,
                shuffle=scan.counts.dtype.itemsize > 1,
            )
            file.attrs["merged"] = merged
            for number, (rows, block) in enumerate(_parts(scan, merged)):
                progress("Sorting the counts by channel", number, len(heights))
                counts[:, rows] = block
        size = part.stat().st_size
        if size > limit:
            raise ScanError(
                f"Cannot keep the counts by channel: {size / 2**20:.0f} MB would be needed, and half of the scan's "
                f"size, {limit / 2**20:.0f} MB, is allowed. Use the element maps."
            )
    cache.remove_oldest(path.parent, f"*{_SUFFIX}", MAX_FILES)
    return path


def _channels_to_merge(scan: Scan, limit: float) -> int:
    """Return how many channels a bin needs for the file to stay within a limit, from a sample of the rows."""
    rows = list(_rows(scan))
    middle = rows[len(rows) // 2]
    sample = slice(middle.start, min(middle.start + 8, middle.stop))
    share = scan.shape[0] / (sample.stop - sample.start)
    counts = _valid(scan, sample)
    for merged in _MERGED:
        if share * _MARGIN * len(zlib.compress(_channel_first(counts, merged).tobytes(), 1)) <= limit:
            return merged
    return _MERGED[-1]


def _rows(scan: Scan) -> Iterator[slice]:
    """Yield ranges of rows of some ten MB each, which begin and end where the reader's blocks do."""
    most = max(1, _BLOCK_BYTES // (scan.shape[1] * scan.shape[2] * scan.counts.dtype.itemsize))
    first = 0
    for rows in scan.row_blocks():
        if rows.stop - first > most and rows.start > first:
            yield slice(first, rows.start)
            first = rows.start
    yield slice(first, scan.shape[0])


def _parts(scan: Scan, merged: int) -> Iterator[tuple[slice, NDArray[Any]]]:
    for rows in _rows(scan):
        yield rows, _channel_first(_valid(scan, rows), merged)


def _valid(scan: Scan, rows: slice) -> NDArray[Any]:
    """Read (n_row, n_column, n_channel) counts; those of missing spectra, and invalid ones, are zero."""
    counts = scan.read(rows, slice(0, scan.shape[1]))
    if counts.dtype.kind == "f":
        counts = np.nan_to_num(counts, nan=0.0, posinf=0.0, neginf=0.0)
    return counts if scan.present is None else np.where(scan.present[rows][:, :, None], counts, 0)


def _channel_first(counts: NDArray[Any], merged: int) -> NDArray[Any]:
    """Return (n_bin, n_row, n_column) counts of so many channels a bin."""
    n_row, n_column, n_channel = counts.shape
    if merged > 1:
        padded = np.pad(counts, ((0, 0), (0, 0), (0, -n_channel % merged)))
        counts = padded.reshape(n_row, n_column, -1, merged).sum(axis=3, dtype=_wider(counts.dtype))
    return np.ascontiguousarray(np.moveaxis(counts, 2, 0))


def _wider(kind: np.dtype[Any]) -> np.dtype[Any]:
    """Return a type for sums of a few counts."""
    return np.dtype({"u1": "u2", "i1": "i2", "u2": "u4", "i2": "i4"}.get(kind.str[1:], kind.str))
