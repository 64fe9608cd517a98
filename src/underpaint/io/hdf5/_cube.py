"""Datasets of an HDF5 file as cubes: which dimensions are rows, columns, detectors and channels, and how they are read.

Unreadable data are refused before memory is allocated.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.errors import ScanError
from underpaint.io._axes import ENERGY_NAME, channel_dimension
from underpaint.io._source import first_line
from underpaint.io.hdf5._facts import text, units
from underpaint.io.hdf5._links import MAX_RATIO, READ_ERRORS, check_sources, file_of, follow, read_part, read_values

_MAX_CHUNK = 128 * 2**20
_FILTER_NAMES = {307: "bzip2", 32000: "lzf", 32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32015: "zstd"}
_FIRST_PLUGIN_FILTER = 256


class Hdf5Cube:
    """Rows, columns and channels of a dataset; opened again for each block, so that no handle stays open.

    Any process can read it, and the file can be replaced in between on every system.

    Parameters
    ----------
    path : Path
        The file.
    dataset : h5py.Dataset
        Its counts.
    order : (int, int, int)
        Its dimensions of rows, columns and channels.
    detector : (int, int) or None
        The dimension of the detectors, and the one to read; None without such a dimension.

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
    """Spectra in a list, arranged on a grid by their index; -1 for missing pixels.

    Parameters
    ----------
    path, dataset, detector
        As for :class:`Hdf5Cube`.
    index : (n_row, n_column) array
        The place of each pixel in the list.
    order : (int, int)
        The dataset's dimensions of spectra and channels.
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
        """Read a rectangle of pixels; spectra close together in the file are read at once."""
        index = self.index[rows, columns]
        indices = np.unique(index[index >= 0])
        counts = np.zeros((*index.shape, self.shape[2]), dtype=self.dtype)
        if indices.size == 0:
            return counts
        if indices[-1] - indices[0] < 2 * indices.size:
            start = int(indices[0])
            spectra, place = self._spectra(slice(start, int(indices[-1]) + 1)), index - start
        else:
            spectra, place = self._spectra(indices), np.searchsorted(indices, index)
        valid = index >= 0
        counts[valid] = spectra[place[valid]]
        return counts

    def _spectra(self, places: Any) -> NDArray[Any]:
        parts = {self.order[0]: places, self.order[1]: slice(None)}
        return _read(self.path, self.name, parts, self.order, self.detector)


def check_stored(path: Path, dataset: Any) -> None:
    """Refuse a dataset that is outside the file's folder, not stored, cannot be decompressed or cannot be complete.

    Raises
    ------
    ScanError
        With the reason.
    """
    location = f"{path}::{dataset.name}"
    stored_bytes = check_sources(dataset)
    _check_filters(dataset, location)
    if dataset.is_virtual or dataset.external:
        return
    chunk = int(np.prod(dataset.chunks, dtype=np.float64)) * dataset.dtype.itemsize if dataset.chunks else 0
    declared_bytes = float(np.prod(dataset.shape, dtype=np.float64)) * dataset.dtype.itemsize
    if dataset.id.get_storage_size() == 0:
        raise ScanError(
            f"Cannot read {location}: its header promises {dataset.shape}, but no counts were ever written to it."
        )
    most = MAX_RATIO * stored_bytes if dataset.chunks else stored_bytes  # only pieces can be packed
    if declared_bytes > most or chunk > max(_MAX_CHUNK, 64 * stored_bytes):
        raise ScanError(
            f"Cannot read {location}: it declares {dataset.shape} numbers, {declared_bytes / 1e6:.0f} MB, in pieces of "
            f"{chunk / 1e6:.0f} MB; the file contains {stored_bytes / 1e6:.3f} MB, which is impossible. It is damaged; "
            "copy it again."
        )


def _unwritten(dataset: Any) -> tuple[str, ...]:
    """Return notes on chunks that were never written, as in an aborted scan: HDF5 reads zeros there."""
    if dataset.is_virtual:
        share = sum(source.vspace.get_select_npoints() for source in dataset.virtual_sources()) / dataset.size
        return () if share >= 1 else (f"{1 - share:.0%} of the counts are in no source of the file and read as zero",)
    if dataset.chunks is None:
        return ()
    expected, stored = 1, int(dataset.id.get_num_chunks())
    for size, chunk in zip(dataset.shape, dataset.chunks, strict=True):
        expected *= -(-size // chunk)
    if stored >= expected:
        return ()
    return (
        f"{expected - stored} of {expected} chunks of the counts were never written (an aborted scan?) and read as "
        "zero",
    )


def _check_filters(dataset: Any, location: str) -> None:
    properties = dataset.id.get_create_plist()
    codes = [properties.get_filter(number)[0] for number in range(properties.get_nfilters())]
    if any(code >= _FIRST_PLUGIN_FILTER for code in codes) and find_spec("hdf5plugin") is not None:
        __import__("hdf5plugin")  # registers its filters with HDF5
    for code in codes:
        if not h5py.h5z.filter_avail(code):
            raise ScanError(
                f"Cannot read {location}: it is packed with the HDF5 filter {code} "
                f"({_FILTER_NAMES.get(code, 'unknown')}), "
                'which is not installed. Run `pip install "underpaint[hdf5]"`, or repack the file with '
                "`h5repack -f GZIP=1`."
            )


def _read(
    path: Path, name: str, parts: Mapping[int, Any], order: tuple[int, ...], detector: tuple[int, int] | None
) -> NDArray[Any]:
    """Read parts of a dataset's dimensions, and reorder these."""
    selection = {**parts, **({} if detector is None else {detector[0]: slice(detector[1], detector[1] + 1)})}
    try:
        values = read_part(path, name, tuple(selection[number] for number in sorted(selection)))
    except READ_ERRORS as error:
        raise ScanError(
            f"Cannot read {path}::{name}: {first_line(error)}. The file is damaged or was changed; copy it again."
        ) from error
    if detector is None:
        return np.ascontiguousarray(np.transpose(values, order))
    return np.ascontiguousarray(np.transpose(values, (*order, detector[0]))[..., 0])


Axis = tuple[str, Any]
"""Name of a dimension, or "", and the dataset that describes it, or None."""
MAX_DETECTORS = 32
_DETECTOR_NAME = re.compile(r"^det|detector|element|sensor", re.IGNORECASE)
_PIXEL_NAME = re.compile(r"^([xy]|rows?|col(umn)?s?|dim[01]|.*_[xy]|[xy]_.*|sam?[xyz].*|s[xyz]|pos.*)$", re.IGNORECASE)
_MAX_LOOK = 4_000_000
_N_BANDS = 32


@dataclass(frozen=True)
class View:
    """How a dataset is read.

    Parameters
    ----------
    order : tuple of int
        Its dimensions of (rows, columns, channels), or of (spectra, channels).
    detector : int or None
        Its dimension of detectors.
    note : str
        Note on a guess.
    """

    order: tuple[int, ...]
    detector: int | None = None
    note: str = ""

    def map_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the sizes of rows and columns, or the number of spectra."""
        return tuple(int(shape[number]) for number in self.order[:-1])


def view_of(
    dataset: Any,
    axes: Sequence[Axis],
    lengths: tuple[int, ...],
    positions: Sequence[Any],
    shape: tuple[int, int] | None,
) -> View:
    """Identify the dimensions of 2-D to 4-D counts by their axes, attributes, sizes and values.

    Parameters
    ----------
    dataset : h5py.Dataset
        The counts.
    axes : sequence of (str, h5py.Dataset or None)
        Its dimensions as the file names them.
    lengths : tuple of int
        Lengths of lists of energies next to it.
    positions : sequence of h5py.Dataset
        1-D datasets that may be positions of its pixels.
    shape : (int, int) or None
        Rows and columns, if given.

    Raises
    ------
    ScanError
        It is ambiguous.
    """
    channel, note = _channel(dataset, axes, lengths)
    rest = [number for number in range(dataset.ndim) if number != channel]
    if dataset.ndim == 2:
        return View((rest[0], channel), None, note)
    detector = _detector(dataset, axes, channel, rest, positions, shape)
    pixels = [number for number in rest if number != detector]
    return View((*pixels, channel), detector, note)


def _channel(dataset: Any, axes: Sequence[Axis], lengths: tuple[int, ...]) -> tuple[int, str]:
    named = [number for number, (_, item) in enumerate(axes) if units(item) in {"ev", "kev"}]
    named = named or [number for number, (name, _) in enumerate(axes) if ENERGY_NAME.search(name)]
    if not named:
        unnamed = [number for number, (name, _) in enumerate(axes) if not _is_pixel(name)]
        named = unnamed if len(unnamed) == 1 else []
    if named:
        return named[0], ""
    interpretation = text(dataset.attrs.get("interpretation", dataset.parent.attrs.get("interpretation", "")))
    if interpretation in {"spectrum", "image"}:
        return (dataset.ndim - 1 if interpretation == "spectrum" else 0), ""
    return channel_dimension(dataset.shape, lengths, lambda key: _look(dataset, key))


def _detector(
    dataset: Any,
    axes: Sequence[Axis],
    channel: int,
    rest: Sequence[int],
    positions: Sequence[Any],
    shape: tuple[int, int] | None,
) -> int | None:
    """Return the dimension of the detectors; None for a three-dimensional dataset without one."""
    sizes = {number: int(dataset.shape[number]) for number in rest}
    named = [number for number in rest if number < len(axes) and _DETECTOR_NAME.search(axes[number][0])]
    if len(named) == 1:
        return named[0]
    if len(rest) == 2:
        return _detector_of_list(dataset, axes, channel, rest, positions, shape)
    single = next((number for number in rest if sizes[number] == 1), None)
    if single is not None:
        remaining = [number for number in rest if number != single]
        result = _detector_of_list(dataset, axes, channel, remaining, positions, shape)
        return single if result is None else result
    fitting = [number for number in rest if tuple(sizes[each] for each in rest if each != number) == shape]
    if len(fitting) == 1:
        return fitting[0]
    few = [number for number in rest if sizes[number] <= MAX_DETECTORS]
    if len(few) == 1:
        return few[0]
    unlike = {number: _unlikeness(dataset, channel, number, rest)[0] for number in few}
    ranked = sorted(few, key=lambda number: unlike[number])
    if len(ranked) > 1 and 3.0 * max(unlike[ranked[0]], 1.0) < unlike[ranked[1]]:
        return ranked[0]
    size = " x ".join(str(each) for each in dataset.shape)
    raise ScanError(
        f"Cannot read {dataset.file.filename}::{dataset.name}: of its {size} numbers more than one dimension may be "
        "the detectors. Give rows and columns with --shape, as --shape "
        f"{dataset.shape[rest[0]]}x{dataset.shape[rest[1]]}."
    )


def _detector_of_list(
    dataset: Any,
    axes: Sequence[Axis],
    channel: int,
    rest: Sequence[int],
    positions: Sequence[Any],
    shape: tuple[int, int] | None,
) -> int | None:
    """Distinguish (spectrum, detector, channel) from (row, column, channel)."""
    few, many = sorted(rest, key=lambda number: int(dataset.shape[number]))
    n_few, n_many = int(dataset.shape[few]), int(dataset.shape[many])
    map_shape = tuple(int(dataset.shape[number]) for number in rest)
    described = [number for number in rest if number < len(axes) and _is_pixel(axes[number][0])]
    if not 2 <= n_few <= MAX_DETECTORS or n_many < 2 * n_few or shape == map_shape or len(described) == 2:
        return None
    if shape is not None and shape[0] * shape[1] == n_many:
        return few
    by_position = [item for item in positions if item.shape == (n_many,)]
    by_column = [item for item in positions if item.shape == (n_few,) and _is_pixel(item.name)]
    if by_column and not grids(by_position, n_many):
        return None
    unlike, picture = _unlikeness(dataset, channel, few, rest)
    if unlike > max(3.0, 0.05 * picture / n_few):  # the picture is of all detectors, and scatters as they do together
        return None
    if grids(by_position, n_many):
        return few
    if picture < 5.0:
        return None
    raise ScanError(
        f"Cannot read {dataset.file.filename}::{dataset.name}: {n_many} x {n_few} spectra may be a map, or "
        f"{n_many} spectra of {n_few} detectors: all {n_few} show the same image. Give --shape "
        f"{map_shape[0]}x{map_shape[1]} for a map, --shape 1x{n_many}, or its rows and columns, for detectors."
    )


def _unlikeness(dataset: Any, channel: int, number: int, rest: Sequence[int]) -> tuple[float, float]:
    """Chi squared a degree of freedom: of slices along a dimension against one picture; and of that picture.

    Detectors record the same image with different efficiencies by energy band: their counts are a product of the two
    within noise. Rows or columns are not.
    """
    pixels = [each for each in rest if each != number]
    size = int(dataset.shape[channel]) * int(dataset.shape[number])
    most = max(2, int((_MAX_LOOK / size) ** (1 / len(pixels))))
    key: list[Any] = [slice(None)] * dataset.ndim
    for each in pixels:
        key[each] = slice(None, None, -(-int(dataset.shape[each]) // most))
    counts = np.moveaxis(_look(dataset, tuple(key)), (number, channel), (-2, -1)).astype(np.float64)
    counts = counts.reshape(-1, *counts.shape[-2:])
    edges = np.searchsorted(np.cumsum(counts.sum(axis=(0, 1))), np.linspace(0, counts.sum(), _N_BANDS + 1)[:-1])
    bands = np.add.reduceat(counts, np.unique(edges), axis=2)
    bright = bands.mean(axis=(0, 1)) > 1
    if not bright.any() or len(bands) < 2:
        return 0.0, 0.0
    bands = bands[:, :, bright]
    picture, efficiency = bands.sum(axis=1, keepdims=True), bands.sum(axis=0, keepdims=True)
    total = np.maximum(bands.sum(axis=(0, 1), keepdims=True), 1.0)
    unlike = _chi_squared(bands, picture * efficiency / total)
    flat = _chi_squared(picture, np.broadcast_to(total / len(bands), picture.shape))
    return unlike * bands.shape[1] / max(bands.shape[1] - 1, 1), flat


def _chi_squared(counts: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    return float(((counts - expected) ** 2 / np.maximum(expected, 1.0)).mean())


def _look(dataset: Any, key: Any) -> NDArray[Any]:
    """Read a part of the counts, to identify their dimensions."""
    check_sources(dataset)
    try:
        return np.asarray(np.nan_to_num(dataset[key]))
    except READ_ERRORS as error:
        raise ScanError(
            f"Cannot read {dataset.file.filename}::{dataset.name}: it is damaged ({error}). Copy the file again."
        ) from error


# --- positions ---------------------------------------------------------------------------------------


def grids(positions: Sequence[Any], n_spectrum: int) -> list[tuple[Any, Any, NDArray[np.int64]]]:
    """Return datasets of positions along rows and columns that arrange a list of spectra on a full grid.

    Returns
    -------
    list of (h5py.Dataset, h5py.Dataset, (n_row, n_column) array)
        Positions along rows and columns, and the number of the spectrum of each pixel.
    """
    moving = []
    for item in positions:
        if item.shape != (n_spectrum,) or item.dtype.kind not in "iuf":
            continue
        place = _places(np.asarray(read_values(item), dtype=np.float64))
        if place is not None:
            moving.append((item, place))
    result = []
    for (name, places), (second_name, second_places) in combinations(moving, 2):
        n_one, n_other = int(places.max()) + 1, int(second_places.max()) + 1
        if n_one * n_other != n_spectrum or np.unique(places * n_other + second_places).size != n_spectrum:
            continue
        changes = [np.count_nonzero(np.diff(each)) for each in (places, second_places)]
        directions = _direction(name.name), _direction(second_name.name)
        first_is_rows = directions[0] > directions[1] or (directions[0] == directions[1] and changes[0] <= changes[1])
        (rows, at_row), (columns, at_column) = (
            ((name, places), (second_name, second_places))
            if first_is_rows
            else ((second_name, second_places), (name, places))
        )
        index = np.empty((int(at_row.max()) + 1, int(at_column.max()) + 1), np.int64)
        index[at_row, at_column] = np.arange(n_spectrum)
        result.append((rows, columns, index))
    # Datasets named as positions come before counters that happen to be regular.
    return sorted(result, key=lambda grid: -sum(bool(_is_pixel(item.name)) for item in grid[:2]))


def _is_pixel(name: str) -> bool:
    return _PIXEL_NAME.match(name.rsplit("/", 1)[-1]) is not None


def _direction(name: str) -> str:
    """Return the last or first letter of a name if it is x, y or z, else ""; rows follow the later one of two."""
    last = name.rsplit("/", 1)[-1].lower()
    return next((letter for letter in (last[-1], last[0]) if letter in "xyz"), "")


def _places(values: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Number positions from 0 by level; None without clear levels."""
    if not np.isfinite(values).all():
        return None
    ordered = np.sort(values)
    gaps = np.diff(ordered)
    if not gaps.size or gaps.max() <= 0:
        return None
    between = gaps > 0.3 * gaps.max()
    if between.sum() + 1 >= values.size or gaps[~between].max(initial=0.0) > 0.1 * gaps.max():
        return None
    starts = ordered[1:][between]
    return np.searchsorted(starts, values, side="right").astype(np.int64)


def named_axes(dataset: Any, groups: Sequence[Any]) -> list[Axis]:
    """Return name and dataset of each dimension; an empty list if no group names them."""
    for group in groups:
        source = dataset.attrs if "axes" in dataset.attrs else group.attrs
        names = [text(name).strip() for name in np.ravel(source.get("axes", []))]
        if len(names) == 1:  # the older way: one text, parted by colons or commas
            names = [name.strip() for name in names[0].strip("[]").replace(",", ":").split(":")]
        if len(names) == dataset.ndim:
            return [("" if name == "." else name, _axis(group, name)) for name in names]
    return []


def _axis(group: Any, name: str) -> Any:
    item = follow(group, name) if name not in {"", "."} else None
    return item if isinstance(item, h5py.Dataset) else None
