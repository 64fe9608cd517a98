"""Datasets of an HDF5 file as cubes; what cannot be read is refused before memory is taken."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.errors import ScanError
from underpaint.io._source import told

_LARGEST_CHUNK = 128 * 2**20
_LARGEST_RATIO = 10_000
_FILTER_NAMES = {307: "bzip2", 32000: "lzf", 32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32015: "zstd"}
_FIRST_PLUGIN_FILTER = 256
READ_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, MemoryError, OverflowError)
"""What h5py raises on damaged files."""


class Hdf5Cube:
    """One 3-D dataset of a file; opened anew for each block, so that no handle outlives a read.

    Any process can read it, and the file can be replaced in between on every system.

    Parameters
    ----------
    path : Path
        The file.
    dataset : h5py.Dataset
        Its counts.
    order : (int, int, int)
        Which of its dimensions are rows, columns and channels.

    Attributes
    ----------
    notes : tuple of str
        Whether parts of the counts were never written.
    """

    def __init__(self, path: Path, dataset: Any, order: tuple[int, int, int] = (0, 1, 2)) -> None:
        check_stored(path, dataset)
        self.path, self.name, self.order = _own_file(path, dataset), dataset.name, order
        self.dtype: np.dtype[Any] = dataset.dtype
        n_row, n_column, n_channel = (int(dataset.shape[own]) for own in order)
        self.shape = (n_row, n_column, n_channel)
        self.notes = _unwritten(dataset)

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a rectangle of pixels."""
        key = [slice(None)] * 3
        key[self.order[0]], key[self.order[1]] = rows, columns
        return np.ascontiguousarray(np.transpose(_read(self.path, self.name, tuple(key)), self.order))


class ListedCube:
    """Spectra in a list, (spectrum, channel), put on a grid by their place in it; -1 where a pixel has none."""

    def __init__(self, path: Path, dataset: Any, index: NDArray[np.int64]) -> None:
        check_stored(path, dataset)
        self.path, self.name, self.index = _own_file(path, dataset), dataset.name, index
        self.dtype: np.dtype[Any] = dataset.dtype
        self.shape = (index.shape[0], index.shape[1], int(dataset.shape[1]))
        self.notes = _unwritten(dataset)

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a rectangle of pixels; spectra that lie close together in the file in one piece."""
        index = self.index[rows, columns]
        wanted = np.unique(index[index >= 0])
        counts = np.zeros((*index.shape, self.shape[2]), dtype=self.dtype)
        if wanted.size == 0:
            return counts
        if wanted[-1] - wanted[0] < 2 * wanted.size:
            start = int(wanted[0])
            spectra, place = _read(self.path, self.name, slice(start, int(wanted[-1]) + 1)), index - start
        else:
            spectra, place = _read(self.path, self.name, wanted), np.searchsorted(wanted, index)
        there = index >= 0
        counts[there] = spectra[place[there]]
        return counts


def check_stored(path: Path, dataset: Any) -> None:
    """Refuse a dataset that lies outside the file's folder, is not stored, cannot be unpacked, or cannot fit.

    Raises
    ------
    ScanError
        With the reason.
    """
    what = f"{path}::{dataset.name}"
    _check_links(path, dataset, what)
    _check_filters(dataset, what)
    if dataset.is_virtual or dataset.external:
        return
    held = _own_file(path, dataset).stat().st_size
    chunk = int(np.prod(dataset.chunks, dtype=np.float64)) * dataset.dtype.itemsize if dataset.chunks else 0
    promised = float(np.prod(dataset.shape, dtype=np.float64)) * dataset.dtype.itemsize
    if dataset.id.get_storage_size() == 0:
        message = f"Cannot read {what}: its header promises {dataset.shape}, but no counts were ever written to it."
        raise ScanError(message)
    most = _LARGEST_RATIO * held if dataset.chunks else held  # only pieces can be packed
    if promised > most or chunk > max(_LARGEST_CHUNK, 64 * held):
        message = (
            f"Cannot read {what}: it promises {dataset.shape} numbers, {promised / 1e6:.0f} MB, in pieces of "
            f"{chunk / 1e6:.0f} MB; the file holds {held / 1e6:.3f} MB, which cannot be. It is damaged; copy it again."
        )
        raise ScanError(message)


def _unwritten(dataset: Any) -> tuple[str, ...]:
    """Tell of pieces that were never written, as an aborted scan leaves them: HDF5 reads zeros there."""
    if dataset.chunks is None or dataset.is_virtual:
        return ()
    wanted, there = 1, int(dataset.id.get_num_chunks())
    for size, chunk in zip(dataset.shape, dataset.chunks, strict=True):
        wanted *= -(-size // chunk)
    if there >= wanted:
        return ()
    return (
        f"{wanted - there} of {wanted} pieces of the counts were never written (an aborted scan?) and read as zero",
    )


def _own_file(path: Path, dataset: Any) -> Path:
    """Return the file that holds a dataset: another one where an external link led to it."""
    found = Path(dataset.file.filename)
    return path if found == path else found


def _check_links(path: Path, dataset: Any, what: str) -> None:
    """Counts may lie in other files (external links, virtual and external datasets) only beside this one."""
    folder = path.resolve().parent
    # The library names an opened file as it was asked for, from the working folder; links are named from the file's.
    files = [Path(dataset.file.filename).resolve()]
    if dataset.is_virtual:
        files += [folder / source.file_name for source in dataset.virtual_sources() if source.file_name != "."]
    files += [folder / name for name, *_ in dataset.external or ()]
    for file in files:
        if not file.resolve().is_relative_to(folder):
            message = f"Cannot read {what}: its counts lie in {file}, outside the file's folder. Copy that file here."
            raise ScanError(message)
        if "%" not in file.name and not file.is_file():  # HDF5 would read zeros
            message = f"Cannot read {what}: its counts lie in {file}, which is not there. Copy that file here."
            raise ScanError(message)


def _check_filters(dataset: Any, what: str) -> None:
    properties = dataset.id.get_create_plist()
    codes = [properties.get_filter(number)[0] for number in range(properties.get_nfilters())]
    if any(code >= _FIRST_PLUGIN_FILTER for code in codes) and find_spec("hdf5plugin") is not None:
        __import__("hdf5plugin")  # registers its filters with HDF5
    for code in codes:
        if not h5py.h5z.filter_avail(code):
            message = (
                f"Cannot read {what}: it is packed with the HDF5 filter {code} ({_FILTER_NAMES.get(code, 'unknown')}), "
                'which is not installed. Run `pip install "underpaint[hdf5]"`, or repack the file with '
                "`h5repack -f GZIP=1`."
            )
            raise ScanError(message)


def _read(path: Path, name: str, key: Any) -> NDArray[Any]:
    try:
        with h5py.File(path, "r") as file:
            return np.asarray(file[name][key])
    except READ_ERRORS as error:
        message = f"Cannot read {path}::{name}: {told(error)}. The file is damaged or was changed; copy it again."
        raise ScanError(message) from error
