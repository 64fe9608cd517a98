"""Reading of HDF5 datasets as cubes, and identification of their row, column, detector and channel dimensions.

Data that cannot be read are refused before memory is allocated for them.
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
from underpaint.io.hdf5._facts import as_text, unit_of
from underpaint.io.hdf5._links import (
    MAX_COMPRESSION_RATIO,
    READ_ERRORS,
    check_sources,
    file_of,
    follow,
    read_part,
    read_values,
)

_MAX_CHUNK_BYTES = 128 * 2**20
_FILTER_NAMES = {307: "bzip2", 32000: "lzf", 32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32015: "zstd"}
_FIRST_PLUGIN_FILTER = 256


class Hdf5Cube:
    """Cube of an HDF5 dataset.

    The file is opened again for each block, so that no file stays open.

    Any process can therefore read the cube, and the file can be replaced between reads on every operating system.

    Parameters
    ----------
    path : Path
        The file.
    dataset : h5py.Dataset
        Dataset that holds the counts.
    dimension_order : (int, int, int)
        Indices of the row, column and channel dimensions.
    detector : (int, int) or None
        Index of the detector dimension, and index of the detector to read; None if there is no detector dimension.

    Attributes
    ----------
    notes : tuple of str
        Notes for the user on counts that were never written.
    """

    def __init__(
        self,
        path: Path,
        dataset: Any,
        dimension_order: tuple[int, int, int] = (0, 1, 2),
        detector_index: tuple[int, int] | None = None,
    ) -> None:
        check_readable(path, dataset)
        self.path, self.name, self.dimension_order, self.detector = (
            file_of(dataset),
            dataset.name,
            dimension_order,
            detector_index,
        )
        self.dtype: np.dtype[Any] = dataset.dtype
        n_row, n_column, n_channel = (int(dataset.shape[dimension]) for dimension in dimension_order)
        self.shape = (n_row, n_column, n_channel)
        self.notes = _unwritten_notes(dataset)

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a rectangle of pixels."""
        slices: dict[int, slice | int] = {
            self.dimension_order[0]: rows,
            self.dimension_order[1]: columns,
            self.dimension_order[2]: slice(None),
        }
        return _read_slices(self.path, self.name, slices, self.dimension_order, self.detector)


class ListedCube:
    """Cube of a list of spectra, which are arranged on a grid of pixels.

    Parameters
    ----------
    path, dataset, detector
        As for :class:`Hdf5Cube`.
    index : (n_row, n_column) array
        Index in the list of each pixel's spectrum; -1 for missing pixels.
    dimension_order : (int, int)
        Indices of the spectrum and channel dimensions.
    """

    def __init__(
        self,
        path: Path,
        dataset: Any,
        spectrum_indices: NDArray[np.int64],
        dimension_order: tuple[int, int] = (0, 1),
        detector_index: tuple[int, int] | None = None,
    ) -> None:
        check_readable(path, dataset)
        self.path, self.name, self.dimension_order, self.detector = (
            file_of(dataset),
            dataset.name,
            dimension_order,
            detector_index,
        )
        self.dtype: np.dtype[Any] = dataset.dtype
        self.index = spectrum_indices
        self.shape = (spectrum_indices.shape[0], spectrum_indices.shape[1], int(dataset.shape[dimension_order[1]]))
        self.notes = _unwritten_notes(dataset)

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a rectangle of pixels. Spectra that are close together in the file are read with one access."""
        spectrum_indices = self.index[rows, columns]
        distinct_indices = np.unique(spectrum_indices[spectrum_indices >= 0])
        counts = np.zeros((*spectrum_indices.shape, self.shape[2]), dtype=self.dtype)
        if distinct_indices.size == 0:
            return counts
        if distinct_indices[-1] - distinct_indices[0] < 2 * distinct_indices.size:
            first_index = int(distinct_indices[0])
            spectra, spectrum_position = (
                self._read_spectra(slice(first_index, int(distinct_indices[-1]) + 1)),
                spectrum_indices - first_index,
            )
        else:
            spectra, spectrum_position = (
                self._read_spectra(distinct_indices),
                np.searchsorted(distinct_indices, spectrum_indices),
            )
        has_spectrum = spectrum_indices >= 0
        counts[has_spectrum] = spectra[spectrum_position[has_spectrum]]
        return counts

    def _read_spectra(self, spectrum_selection: Any) -> NDArray[Any]:
        slices = {self.dimension_order[0]: spectrum_selection, self.dimension_order[1]: slice(None)}
        return _read_slices(self.path, self.name, slices, self.dimension_order, self.detector)


def check_readable(path: Path, dataset: Any) -> None:
    """Refuse a dataset that is outside the file's folder, empty, impossible to decompress, or implausibly large.

    Raises
    ------
    ScanError
        The dataset is refused; the message states the reason.
    """
    location = f"{path}::{dataset.name}"
    stored_bytes = check_sources(dataset)
    _check_filters(dataset, location)
    if dataset.is_virtual or dataset.external:
        return
    chunk_bytes = int(np.prod(dataset.chunks, dtype=np.float64)) * dataset.dtype.itemsize if dataset.chunks else 0
    declared_bytes = float(np.prod(dataset.shape, dtype=np.float64)) * dataset.dtype.itemsize
    if dataset.id.get_storage_size() == 0:
        raise ScanError(
            f"Cannot read {location}: its header declares {dataset.shape} values, but no counts were written to it."
        )
    max_bytes = (
        MAX_COMPRESSION_RATIO * stored_bytes if dataset.chunks else stored_bytes
    )  # only chunks can be compressed
    if declared_bytes > max_bytes or chunk_bytes > max(_MAX_CHUNK_BYTES, 64 * stored_bytes):
        raise ScanError(
            f"Cannot read {location}: it declares {dataset.shape} numbers, {declared_bytes / 1e6:.0f} MB, in chunks of "
            f"{chunk_bytes / 1e6:.0f} MB; the file contains {stored_bytes / 1e6:.3f} MB, which is impossible. It is "
            "damaged; copy the file again."
        )


def _unwritten_notes(dataset: Any) -> tuple[str, ...]:
    """Return notes on chunks that were never written, as in an aborted scan. HDF5 reads such chunks as zeros."""
    if dataset.is_virtual:
        written_fraction = (
            sum(source.vspace.get_select_npoints() for source in dataset.virtual_sources()) / dataset.size
        )
        return (
            ()
            if written_fraction >= 1
            else (f"{1 - written_fraction:.0%} of the counts are in none of the source files and are read as zero",)
        )
    if dataset.chunks is None:
        return ()
    n_expected_chunk, n_stored_chunk = 1, int(dataset.id.get_num_chunks())
    for dimension_size, chunk_size in zip(dataset.shape, dataset.chunks, strict=True):
        n_expected_chunk *= -(-dimension_size // chunk_size)
    if n_stored_chunk >= n_expected_chunk:
        return ()
    return (
        f"{n_expected_chunk - n_stored_chunk} of {n_expected_chunk} chunks of the counts were never written (an "
        "aborted scan?) and "
        "read as zero",
    )


def _check_filters(dataset: Any, location: str) -> None:
    properties = dataset.id.get_create_plist()
    filter_codes = [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]
    if any(filter_code >= _FIRST_PLUGIN_FILTER for filter_code in filter_codes) and find_spec("hdf5plugin") is not None:
        __import__("hdf5plugin")  # the import registers decompression filters with HDF5
    for filter_code in filter_codes:
        if not h5py.h5z.filter_avail(filter_code):
            raise ScanError(
                f"Cannot read {location}: it is compressed with the HDF5 filter {filter_code} "
                f"({_FILTER_NAMES.get(filter_code, 'unknown')}), "
                'which is not installed. Run `pip install "underpaint[hdf5]"`, or repack the file with '
                "`h5repack -f GZIP=1`."
            )


def _read_slices(
    path: Path,
    dataset_path: str,
    slices: Mapping[int, Any],
    dimension_order: tuple[int, ...],
    detector_index: tuple[int, int] | None,
) -> NDArray[Any]:
    """Read one slice per dimension of a dataset, and return the dimensions in the given order."""
    slices_by_dimension = {
        **slices,
        **({} if detector_index is None else {detector_index[0]: slice(detector_index[1], detector_index[1] + 1)}),
    }
    try:
        stored_values = read_part(
            path, dataset_path, tuple(slices_by_dimension[dimension] for dimension in sorted(slices_by_dimension))
        )
    except READ_ERRORS as error:
        raise ScanError(
            f"Cannot read {path}::{dataset_path}: {first_line(error)}. The file is damaged or was changed; copy it "
            "again."
        ) from error
    if detector_index is None:
        return np.ascontiguousarray(np.transpose(stored_values, dimension_order))
    return np.ascontiguousarray(np.transpose(stored_values, (*dimension_order, detector_index[0]))[..., 0])


NamedDimension = tuple[str, Any]
"""Name of a dimension ("" if unnamed), and the dataset that describes this dimension (None if there is none)."""
MAX_DETECTORS = 32
_DETECTOR_NAME = re.compile(r"^det|detector|element|sensor", re.IGNORECASE)
_PIXEL_NAME = re.compile(r"^([xy]|rows?|col(umn)?s?|dim[01]|.*_[xy]|[xy]_.*|sam?[xyz].*|s[xyz]|pos.*)$", re.IGNORECASE)
_MAX_VALUES_READ = 4_000_000
_N_BANDS = 32


@dataclass(frozen=True)
class Interpretation:
    """Meaning of a dataset's dimensions.

    Parameters
    ----------
    dimension_order : tuple of int
        Indices of the (row, column, channel) or (spectrum, channel) dimensions.
    detector : int or None
        Index of the detector dimension; None if there is none.
    note : str
        Note for the user on a guess; "" if nothing was guessed.
    """

    dimension_order: tuple[int, ...]
    detector: int | None = None
    note: str = ""

    def map_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the numbers of rows and columns, or the number of spectra for a list."""
        return tuple(int(shape[dimension]) for dimension in self.dimension_order[:-1])


def interpret_dimensions(
    dataset: Any,
    axes: Sequence[NamedDimension],
    list_lengths: tuple[int, ...],
    position_datasets: Sequence[Any],
    shape: tuple[int, int] | None,
) -> Interpretation:
    """Identify the dimensions of a 2-D to 4-D array of counts from its axes, attributes, shape and values.

    Parameters
    ----------
    dataset : h5py.Dataset
        The counts.
    axes : sequence of (str, h5py.Dataset or None)
        Name and dataset of each dimension in the file.
    list_lengths : tuple of int
        Lengths of the lists of energies that the file stores next to the dataset.
    position_datasets : sequence of h5py.Dataset
        1-D datasets that may hold the positions of the pixels.
    shape : (int, int) or None
        Numbers of rows and columns; None if the user did not give them.

    Raises
    ------
    ScanError
        The dimensions are ambiguous.
    """
    channel_dim, channel_note = _channel_dimension(dataset, axes, list_lengths)
    other_dimensions = [dimension for dimension in range(dataset.ndim) if dimension != channel_dim]
    if dataset.ndim == 2:
        return Interpretation((other_dimensions[0], channel_dim), None, channel_note)
    detector = _detector_dimension(dataset, axes, channel_dim, other_dimensions, position_datasets, shape)
    pixel_dimensions = [dimension for dimension in other_dimensions if dimension != detector]
    return Interpretation((*pixel_dimensions, channel_dim), detector, channel_note)


def _channel_dimension(dataset: Any, axes: Sequence[NamedDimension], list_lengths: tuple[int, ...]) -> tuple[int, str]:
    candidate_dimensions = [
        dimension for dimension, (_, axis_dataset) in enumerate(axes) if unit_of(axis_dataset) in {"ev", "kev"}
    ]
    candidate_dimensions = candidate_dimensions or [
        dimension for dimension, (dimension_name, _) in enumerate(axes) if ENERGY_NAME.search(dimension_name)
    ]
    if not candidate_dimensions:
        unnamed_dimensions = [
            dimension for dimension, (dimension_name, _) in enumerate(axes) if not _is_pixel_name(dimension_name)
        ]
        candidate_dimensions = unnamed_dimensions if len(unnamed_dimensions) == 1 else []
    if candidate_dimensions:
        return candidate_dimensions[0], ""
    interpretation = as_text(dataset.attrs.get("interpretation", dataset.parent.attrs.get("interpretation", "")))
    if interpretation in {"spectrum", "image"}:
        return (dataset.ndim - 1 if interpretation == "spectrum" else 0), ""
    return channel_dimension(dataset.shape, list_lengths, lambda slices: _read_counts(dataset, slices))


def _detector_dimension(
    dataset: Any,
    axes: Sequence[NamedDimension],
    channel_dim: int,
    other_dimensions: Sequence[int],
    position_datasets: Sequence[Any],
    shape: tuple[int, int] | None,
) -> int | None:
    """Return the index of the detector dimension, or None if a 3-D dataset has no such dimension."""
    dimension_sizes = {dimension: int(dataset.shape[dimension]) for dimension in other_dimensions}
    candidate_dimensions = [
        dimension
        for dimension in other_dimensions
        if dimension < len(axes) and _DETECTOR_NAME.search(axes[dimension][0])
    ]
    if len(candidate_dimensions) == 1:
        return candidate_dimensions[0]
    if len(other_dimensions) == 2:
        return _detector_dimension_of_list(dataset, axes, channel_dim, other_dimensions, position_datasets, shape)
    single_dimension = next((dimension for dimension in other_dimensions if dimension_sizes[dimension] == 1), None)
    if single_dimension is not None:
        remaining_dimensions = [dimension for dimension in other_dimensions if dimension != single_dimension]
        detector_dimension = _detector_dimension_of_list(
            dataset, axes, channel_dim, remaining_dimensions, position_datasets, shape
        )
        return single_dimension if detector_dimension is None else detector_dimension
    matching_dimensions = [
        dimension
        for dimension in other_dimensions
        if tuple(
            dimension_sizes[pixel_dimension] for pixel_dimension in other_dimensions if pixel_dimension != dimension
        )
        == shape
    ]
    if len(matching_dimensions) == 1:
        return matching_dimensions[0]
    short_dimensions = [dimension for dimension in other_dimensions if dimension_sizes[dimension] <= MAX_DETECTORS]
    if len(short_dimensions) == 1:
        return short_dimensions[0]
    misfits = {
        dimension: _product_misfit(dataset, channel_dim, dimension, other_dimensions)[0]
        for dimension in short_dimensions
    }
    sorted_dimensions = sorted(short_dimensions, key=lambda dimension: misfits[dimension])
    if len(sorted_dimensions) > 1 and 3.0 * max(misfits[sorted_dimensions[0]], 1.0) < misfits[sorted_dimensions[1]]:
        return sorted_dimensions[0]
    shape_text = " x ".join(str(pixel_dimension) for pixel_dimension in dataset.shape)
    raise ScanError(
        f"Cannot read {dataset.file.filename}::{dataset.name}: more than one dimension of its {shape_text} values "
        "may be the "
        "detectors. Give rows and columns with --shape, e.g. --shape "
        f"{dataset.shape[other_dimensions[0]]}x{dataset.shape[other_dimensions[1]]}."
    )


def _detector_dimension_of_list(
    dataset: Any,
    axes: Sequence[NamedDimension],
    channel_dim: int,
    other_dimensions: Sequence[int],
    position_datasets: Sequence[Any],
    shape: tuple[int, int] | None,
) -> int | None:
    """Return the index of the detector dimension of a (spectrum, detector, channel) array, or None for other arrays."""
    short_dimension, long_dimension = sorted(other_dimensions, key=lambda dimension: int(dataset.shape[dimension]))
    short_size, long_size = int(dataset.shape[short_dimension]), int(dataset.shape[long_dimension])
    map_shape = tuple(int(dataset.shape[dimension]) for dimension in other_dimensions)
    pixel_dimensions = [
        dimension for dimension in other_dimensions if dimension < len(axes) and _is_pixel_name(axes[dimension][0])
    ]
    if (
        not 2 <= short_size <= MAX_DETECTORS
        or long_size < 2 * short_size
        or shape == map_shape
        or len(pixel_dimensions) == 2
    ):
        return None
    if shape is not None and shape[0] * shape[1] == long_size:
        return short_dimension
    long_datasets = [dataset_item for dataset_item in position_datasets if dataset_item.shape == (long_size,)]
    short_datasets = [
        dataset_item
        for dataset_item in position_datasets
        if dataset_item.shape == (short_size,) and _is_pixel_name(dataset_item.name)
    ]
    if short_datasets and not pixel_grids(long_datasets, long_size):
        return None
    product_misfit, image_contrast = _product_misfit(dataset, channel_dim, short_dimension, other_dimensions)
    if product_misfit > max(
        3.0, 0.05 * image_contrast / short_size
    ):  # the image is the sum of all detectors, so it has their combined noise
        return None
    if pixel_grids(long_datasets, long_size):
        return short_dimension
    if image_contrast < 5.0:
        return None
    raise ScanError(
        f"Cannot read {dataset.file.filename}::{dataset.name}: {long_size} x {short_size} spectra may be a map, or "
        f"{long_size} spectra of {short_size} detectors, which all show the same image. Give --shape "
        f"{map_shape[0]}x{map_shape[1]} for a map, --shape 1x{long_size}, or its rows and columns, for detectors."
    )


def _product_misfit(
    dataset: Any, channel_dim: int, dimension: int, other_dimensions: Sequence[int]
) -> tuple[float, float]:
    """Return chi squared per degree of freedom of two models of the counts, to identify a detector dimension.

    The first model is the product of one image and the efficiency of each detector. The second model is a uniform
    image.

    Detectors record the same image, and their efficiencies depend on the energy band. The counts of detectors are
    therefore products of image and efficiency, within noise. If a dimension is rows or columns, its counts are not such
    products.
    """
    pixel_dimensions = [pixel_dimension for pixel_dimension in other_dimensions if pixel_dimension != dimension]
    n_value = int(dataset.shape[channel_dim]) * int(dataset.shape[dimension])
    max_sampled_sizes = max(2, int((_MAX_VALUES_READ / n_value) ** (1 / len(pixel_dimensions))))
    slices: list[Any] = [slice(None)] * dataset.ndim
    for pixel_dimension in pixel_dimensions:
        slices[pixel_dimension] = slice(None, None, -(-int(dataset.shape[pixel_dimension]) // max_sampled_sizes))
    counts = np.moveaxis(_read_counts(dataset, tuple(slices)), (dimension, channel_dim), (-2, -1)).astype(np.float64)
    counts = counts.reshape(-1, *counts.shape[-2:])
    band_edges = np.searchsorted(np.cumsum(counts.sum(axis=(0, 1))), np.linspace(0, counts.sum(), _N_BANDS + 1)[:-1])
    band_counts = np.add.reduceat(counts, np.unique(band_edges), axis=2)
    bright_bands = band_counts.mean(axis=(0, 1)) > 1
    if not bright_bands.any() or len(band_counts) < 2:
        return 0.0, 0.0
    band_counts = band_counts[:, :, bright_bands]
    summed_image, detector_efficiency = band_counts.sum(axis=1, keepdims=True), band_counts.sum(axis=0, keepdims=True)
    total_counts = np.maximum(band_counts.sum(axis=(0, 1), keepdims=True), 1.0)
    product_misfit = _chi_squared(band_counts, summed_image * detector_efficiency / total_counts)
    image_contrast = _chi_squared(summed_image, np.broadcast_to(total_counts / len(band_counts), summed_image.shape))
    return product_misfit * band_counts.shape[1] / max(band_counts.shape[1] - 1, 1), image_contrast


def _chi_squared(measured_counts: NDArray[np.float64], expected_counts: NDArray[np.float64]) -> float:
    return float(((measured_counts - expected_counts) ** 2 / np.maximum(expected_counts, 1.0)).mean())


def _read_counts(dataset: Any, slices: Any) -> NDArray[Any]:
    """Read a part of the counts, by which their dimensions are identified."""
    check_sources(dataset)
    try:
        return np.asarray(np.nan_to_num(dataset[slices]))
    except READ_ERRORS as error:
        raise ScanError(
            f"Cannot read {dataset.file.filename}::{dataset.name}: it is damaged ({error}). Copy the file again."
        ) from error


# --- positions ---------------------------------------------------------------------------------------


def pixel_grids(position_datasets: Sequence[Any], n_spectrum: int) -> list[tuple[Any, Any, NDArray[np.int64]]]:
    """Return pairs of position datasets that arrange a list of spectra on a full grid.

    Returns
    -------
    list of (h5py.Dataset, h5py.Dataset, (n_row, n_column) array)
        Datasets of the row and column positions, and the index of each pixel's spectrum in the list.
    """
    level_positions = []
    for position_dataset in position_datasets:
        if position_dataset.shape != (n_spectrum,) or position_dataset.dtype.kind not in "iuf":
            continue
        level_numbers = _level_numbers(np.asarray(read_values(position_dataset), dtype=np.float64))
        if level_numbers is not None:
            level_positions.append((position_dataset, level_numbers))
    full_grids = []
    for (first_dataset, first_levels), (second_dataset, second_levels) in combinations(level_positions, 2):
        n_first_position, n_second_position = int(first_levels.max()) + 1, int(second_levels.max()) + 1
        if (
            n_first_position * n_second_position != n_spectrum
            or np.unique(first_levels * n_second_position + second_levels).size != n_spectrum
        ):
            continue
        n_level_changes = [np.count_nonzero(np.diff(level_array)) for level_array in (first_levels, second_levels)]
        axis_letters = _axis_letter(first_dataset.name), _axis_letter(second_dataset.name)
        is_first_rows = axis_letters[0] > axis_letters[1] or (
            axis_letters[0] == axis_letters[1] and n_level_changes[0] <= n_level_changes[1]
        )
        (row_dataset, row_levels), (column_dataset, column_levels) = (
            ((first_dataset, first_levels), (second_dataset, second_levels))
            if is_first_rows
            else ((second_dataset, second_levels), (first_dataset, first_levels))
        )
        spectrum_indices = np.empty((int(row_levels.max()) + 1, int(column_levels.max()) + 1), np.int64)
        spectrum_indices[row_levels, column_levels] = np.arange(n_spectrum)
        full_grids.append((row_dataset, column_dataset, spectrum_indices))
    # Datasets whose names mean positions come first, since a counter can be regular by chance.
    return sorted(
        full_grids, key=lambda grid: -sum(bool(_is_pixel_name(position_dataset.name)) for position_dataset in grid[:2])
    )


def _is_pixel_name(object_path: str) -> bool:
    return _PIXEL_NAME.match(object_path.rsplit("/", 1)[-1]) is not None


def _axis_letter(object_path: str) -> str:
    """Return x, y or z if a dataset's name ends or begins with this letter, otherwise "".

    Of two position datasets, that with the later letter in the alphabet holds the positions of the rows.
    """
    object_name = object_path.rsplit("/", 1)[-1].lower()
    return next((axis_letter for axis_letter in (object_name[-1], object_name[0]) if axis_letter in "xyz"), "")


def _level_numbers(positions: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Return the index of the level at which each position is, or None if the positions have no distinct levels."""
    if not np.isfinite(positions).all():
        return None
    sorted_positions = np.sort(positions)
    position_gaps = np.diff(sorted_positions)
    if not position_gaps.size or position_gaps.max() <= 0:
        return None
    is_gap = position_gaps > 0.3 * position_gaps.max()
    if is_gap.sum() + 1 >= positions.size or position_gaps[~is_gap].max(initial=0.0) > 0.1 * position_gaps.max():
        return None
    level_starts = sorted_positions[1:][is_gap]
    return np.searchsorted(level_starts, positions, side="right").astype(np.int64)


def named_axes(dataset: Any, groups: Sequence[Any]) -> list[NamedDimension]:
    """Return the name and dataset of each dimension. The list is empty if no group names the dimensions."""
    for group in groups:
        attributes = dataset.attrs if "axes" in dataset.attrs else group.attrs
        dimension_names = [as_text(dimension_name).strip() for dimension_name in np.ravel(attributes.get("axes", []))]
        if len(dimension_names) == 1:  # in an older convention, one text contains all names
            dimension_names = [
                dimension_name.strip() for dimension_name in dimension_names[0].strip("[]").replace(",", ":").split(":")
            ]
        if len(dimension_names) == dataset.ndim:
            return [
                ("" if dimension_name == "." else dimension_name, _axis_dataset(group, dimension_name))
                for dimension_name in dimension_names
            ]
    return []


def _axis_dataset(group: Any, dimension_name: str) -> Any:
    axis_dataset = follow(group, dimension_name) if dimension_name not in {"", "."} else None
    return axis_dataset if isinstance(axis_dataset, h5py.Dataset) else None
