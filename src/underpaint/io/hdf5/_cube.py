"""Datasets of an HDF5 file as cubes; what cannot be read is refused before memory is taken."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.errors import ScanError
from underpaint.io._source import told
from underpaint.io.hdf5._links import LARGEST_RATIO, READ_ERRORS, check_sources, file_of, read_part

_LARGEST_CHUNK = 128 * 2**20
_FILTER_NAMES = {307: "bzip2", 32000: "lzf", 32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32015: "zstd"}
_FIRST_PLUGIN_FILTER = 256


class Hdf5Cube:
    """Rows, columns and channels of a dataset; opened anew for each block, so that no handle outlives a read.

    Any process can read it, and the file can be replaced in between on every system.

    Parameters
    ----------
    path : Path
        The file.
    dataset : h5py.Dataset
        Its counts.
    order : (int, int, int)
        Which of its dimensions are rows, columns and channels.
    detector : (int, int) or None
        The dimension of the detectors, and which of them is read; None where there is no such dimension.

    Attributes
    ----------
    notes : tuple of str
        Whether parts of the counts were never written.
    """

    def __init__(
        self,
        path: Path,
        dataset: Any,
        order: tuple[int, int, int] = (0, 1, 2),
        detector: tuple[int, int] | None = None,
    ) -> None:
        check_stored(path, dataset)
        self.path, self.name, self.order, self.detector = file_of(dataset), dataset.name, order, detector
        self.dtype: np.dtype[Any] = dataset.dtype
        n_row, n_column, n_channel = (int(dataset.shape[number]) for number in order)
        self.shape = (n_row, n_column, n_channel)
        self.notes = _unwritten(dataset)

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a rectangle of pixels."""
        parts: dict[int, slice | int] = {self.order[0]: rows, self.order[1]: columns, self.order[2]: slice(None)}
        return _read(self.path, self.name, parts, self.order, self.detector)


class ListedCube:
    """Spectra in a list, put on a grid by their place in it; -1 where a pixel has none.

    Parameters
    ----------
    path, dataset, detector
        As for :class:`Hdf5Cube`.
    index : (n_row, n_column) array
        The place of each pixel in the list.
    order : (int, int)
        Which of the dataset's dimensions are spectra and channels.
    """

    def __init__(
        self,
        path: Path,
        dataset: Any,
        index: NDArray[np.int64],
        order: tuple[int, int] = (0, 1),
        detector: tuple[int, int] | None = None,
    ) -> None:
        check_stored(path, dataset)
        self.path, self.name, self.order, self.detector = file_of(dataset), dataset.name, order, detector
        self.dtype: np.dtype[Any] = dataset.dtype
        self.index = index
        self.shape = (index.shape[0], index.shape[1], int(dataset.shape[order[1]]))
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
            spectra, place = self._spectra(slice(start, int(wanted[-1]) + 1)), index - start
        else:
            spectra, place = self._spectra(wanted), np.searchsorted(wanted, index)
        there = index >= 0
        counts[there] = spectra[place[there]]
        return counts

    def _spectra(self, places: Any) -> NDArray[Any]:
        parts = {self.order[0]: places, self.order[1]: slice(None)}
        return _read(self.path, self.name, parts, self.order, self.detector)


def check_stored(path: Path, dataset: Any) -> None:
    """Refuse a dataset that lies outside the file's folder, is not stored, cannot be unpacked, or cannot fit.

    Raises
    ------
    ScanError
        With the reason.
    """
    what = f"{path}::{dataset.name}"
    held = check_sources(dataset)
    _check_filters(dataset, what)
    if dataset.is_virtual or dataset.external:
        return
    chunk = int(np.prod(dataset.chunks, dtype=np.float64)) * dataset.dtype.itemsize if dataset.chunks else 0
    promised = float(np.prod(dataset.shape, dtype=np.float64)) * dataset.dtype.itemsize
    if dataset.id.get_storage_size() == 0:
        raise ScanError(
            f"Cannot read {what}: its header promises {dataset.shape}, but no counts were ever written to it."
        )
    most = LARGEST_RATIO * held if dataset.chunks else held  # only pieces can be packed
    if promised > most or chunk > max(_LARGEST_CHUNK, 64 * held):
        raise ScanError(
            f"Cannot read {what}: it promises {dataset.shape} numbers, {promised / 1e6:.0f} MB, in pieces of "
            f"{chunk / 1e6:.0f} MB; the file holds {held / 1e6:.3f} MB, which cannot be. It is damaged; copy it again."
        )


def _unwritten(dataset: Any) -> tuple[str, ...]:
    """Tell of pieces that were never written, as an aborted scan leaves them: HDF5 reads zeros there."""
    if dataset.is_virtual:
        share = sum(source.vspace.get_select_npoints() for source in dataset.virtual_sources()) / dataset.size
        return () if share >= 1 else (f"{1 - share:.0%} of the counts are in no source of the file and read as zero",)
    if dataset.chunks is None:
        return ()
    wanted, there = 1, int(dataset.id.get_num_chunks())
    for size, chunk in zip(dataset.shape, dataset.chunks, strict=True):
        wanted *= -(-size // chunk)
    if there >= wanted:
        return ()
    return (
        f"{wanted - there} of {wanted} pieces of the counts were never written (an aborted scan?) and read as zero",
    )


def _check_filters(dataset: Any, what: str) -> None:
    properties = dataset.id.get_create_plist()
    codes = [properties.get_filter(number)[0] for number in range(properties.get_nfilters())]
    if any(code >= _FIRST_PLUGIN_FILTER for code in codes) and find_spec("hdf5plugin") is not None:
        __import__("hdf5plugin")  # registers its filters with HDF5
    for code in codes:
        if not h5py.h5z.filter_avail(code):
            raise ScanError(
                f"Cannot read {what}: it is packed with the HDF5 filter {code} ({_FILTER_NAMES.get(code, 'unknown')}), "
                'which is not installed. Run `pip install "underpaint[hdf5]"`, or repack the file with '
                "`h5repack -f GZIP=1`."
            )


def _read(
    path: Path, name: str, parts: Mapping[int, Any], order: tuple[int, ...], detector: tuple[int, int] | None
) -> NDArray[Any]:
    """Read parts of a dataset's dimensions, and put these in order."""
    whole = {**parts, **({} if detector is None else {detector[0]: slice(detector[1], detector[1] + 1)})}
    try:
        values = read_part(path, name, tuple(whole[number] for number in sorted(whole)))
    except READ_ERRORS as error:
        raise ScanError(
            f"Cannot read {path}::{name}: {told(error)}. The file is damaged or was changed; copy it again."
        ) from error
    if detector is None:
        return np.ascontiguousarray(np.transpose(values, order))
    return np.ascontiguousarray(np.transpose(values, (*order, detector[0]))[..., 0])
