"""Reading of arrays of counts from HDF5 files in the layouts of NeXus and PyMca, or in any other layout.

Specification:

- In an ``NXdata`` group of NeXus, the attribute ``signal`` names the counts, or the counts have the attribute
  ``signal=1``. The attribute ``axes`` names a dataset for each dimension. ``interpretation`` is ``spectrum`` (channels
  last) or ``image`` (channels first). An axis in eV or keV holds the energies. Axes in units of length hold the
  positions of rows and columns.
- PyMca writes ``calibration`` (zero, gain and quadratic term in keV) and ``live_time`` (s) into the group of the counts
  or its subgroup ``info``.
- ``gain_kev``, ``zero_kev``, ``live_time_s``, ``real_time_s``, ``step_mm``, ``present``, ``detector`` and ``notes`` are
  in the group of the counts, where :func:`underpaint.io.save_scan` writes them.

Source: the NeXus manual (NXdata, https://manual.nexusformat.org/classes/base_classes/NXdata.html), silx
``src/silx/io/nxdata``, PyMca ``PyMca5/PyMcaIO/HDF5Stack1D.py`` and ``ArraySave.py``.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Scan
from underpaint.errors import ScanError
from underpaint.io._detectors import LOCATION_KEY, ArrayLocation
from underpaint.io._energies import axis_of_gain_and_zero
from underpaint.io._source import SAME_CHANNELS, lazy_counts
from underpaint.io.hdf5._cube import (
    Hdf5Cube,
    Interpretation,
    ListedCube,
    NamedDimension,
    check_readable,
    interpret_dimensions,
    named_axes,
    pixel_grids,
)
from underpaint.io.hdf5._facts import (
    ENERGY_UNITS,
    as_text,
    axis_fault,
    axis_of_energies,
    axis_of_polynomial,
    pixel_seconds,
    polynomial_deviation_kev,
    read_numbers,
    short_text,
    step_of_axes,
    step_of_positions,
    times_fault,
    unit_of,
)
from underpaint.io.hdf5._links import file_of, follow, object_id, walk

FORMAT_NAME = "HDF5"
_COUNTS_NAMES = ("counts", "data", "spectrum", "spectra", "mca")
_LIVE_TIME_NAMES = ("live_time_s", "live_time", "livetime")
_REAL_TIME_NAMES = ("real_time_s", "elapsed_time", "real_time", "realtime", "count_time")
_ENERGY_NAMES = ("energy", "energies")
_NON_COUNTS_GROUPS = {"truth", "results", "plotselect", "photographs"}
_MAX_LISTED_OBJECTS = 10_000
_MIN_CHANNELS = 64
_ENTRY_PATTERN = re.compile(r"\d+\.\d+")
_LIST_PATTERN = re.compile(r"mca|xrf|fluo|spectr|xmap|xspress|falcon|hist|/det|/ch\d", re.IGNORECASE)


@dataclass
class Stack:
    """Array that may contain counts.

    Parameters
    ----------
    name : str
        Path of the array in the file.
    dataset : h5py.Dataset
        The array.
    groups : list of h5py.Group
        NXdata groups that have this array as their signal.
    entry : str
        Path of the array's measurement in the file.
    """

    name: str
    dataset: Any
    groups: list[Any] = field(default_factory=list)
    entry: str = ""


@dataclass
class FileContent:
    """Arrays of an HDF5 file, or of a group in it.

    Parameters
    ----------
    stacks : list of Stack
        Arrays with two to four dimensions.
    vectors : list of (str, h5py.Dataset)
        Measurement and dataset of each 1-D array, which may hold positions.
    faults : list of str
        Reasons why links were not followed.
    """

    stacks: list[Stack]
    vectors: list[tuple[str, Any]]
    faults: list[str]


def read_stacks(path: Path, top_group: Any, shape: tuple[int, int] | None = None) -> list[Scan]:
    """Read all arrays of counts in a file, or below a group in it.

    Raises
    ------
    ScanError
        There is no 3-D array of numbers.
    """
    file_content = _read_content(top_group)
    stacks, notes = _select_counts(file_content.stacks)
    if not stacks:
        array_list = list_arrays(top_group)
        refused_links = (
            f" Links that are not followed: {'; '.join(file_content.faults[:4])}" if file_content.faults else ""
        )
        raise ScanError(
            f"Cannot read {path if top_group.name == '/' else f'{path}::{top_group.name}'} as a scan: it holds no "
            "3-D array (row, "
            "column, channel) of numbers, "
            f"{f'only {array_list}' if array_list else 'nor any other array'}.{refused_links}"
        )
    return _scans(path, stacks, file_content, shape, (*notes, *file_content.faults))


def read_named(path: Path, file: Any, object_path: str, shape: tuple[int, int] | None) -> list[Scan]:
    """Read the counts at a path in the file, which may be a dataset, an NXdata group, or a group of such objects.

    Raises
    ------
    ScanError
        The path does not exist, or contains no counts.
    """
    hdf5_object = follow(file, object_path)
    if isinstance(hdf5_object, h5py.Group):
        signal = _signal(hdf5_object)
        if not _is_counts(signal):
            return read_stacks(path, hdf5_object, shape)
        hdf5_object = signal
    if not _is_counts(hdf5_object):
        description = "nothing there" if hdf5_object is None else f"shape {hdf5_object.shape}, type {hdf5_object.dtype}"
        raise ScanError(
            f"Cannot read {path}::{object_path} as a scan ({description}): a list (spectrum, channel) or "
            "a 3-D array (row, column, channel) of numbers is needed. The file holds "
            f"{list_arrays(file) or 'no array'}."
        )
    file_content = _read_content(file)
    stack = next(
        (
            known_stack
            for known_stack in file_content.stacks
            if object_id(known_stack.dataset) == object_id(hdf5_object)
        ),
        None,
    )
    stack = stack or Stack("/" + object_path.strip("/"), hdf5_object)
    signal_groups = [
        known_stack
        for known_stack in _parent_groups(file, object_path)
        if _is_same_object(_signal(known_stack), hdf5_object)
    ]
    stack = replace(stack, dataset=hdf5_object, groups=[*signal_groups, *stack.groups])
    return [
        scan.replace(name=_scan_name(path, stack, scan.detector)) for scan in _scans(path, [stack], file_content, shape)
    ]


def _parent_groups(file: Any, object_path: str) -> Iterator[Any]:
    group = follow(file, object_path)
    yield group if isinstance(group, h5py.Group) else follow(file, object_path.strip("/").rpartition("/")[0])


def list_arrays(file: Any) -> str:
    """Return a text that lists the first arrays of a file with their shapes, and the file's links."""
    array_texts: list[str] = []

    def collect(object_path: str, hdf5_object: Any) -> bool | None:
        if isinstance(hdf5_object, h5py.Dataset):
            array_texts.append(f"/{object_path} {hdf5_object.shape}")
        return True if len(array_texts) > _MAX_LISTED_OBJECTS else None

    file.visititems(collect)
    link_list = _list_links(file)
    if link_list:
        array_texts.append(f"links, which are not followed ({', '.join(link_list[:8])})")
    return ", ".join(array_texts[:8]) + (f" and {len(array_texts) - 8} more" if len(array_texts) > 8 else "")


def _list_links(file: Any) -> list[str]:
    """List the links in a file with their targets."""
    link_texts: list[str] = []

    def collect(link_path: str, link: Any) -> bool | None:
        if isinstance(link, h5py.ExternalLink):
            link_texts.append(f"/{link_path} to {link.path} in {link.filename}")
        elif isinstance(link, h5py.SoftLink):
            link_texts.append(f"/{link_path} to {link.path}")
        return True if len(link_texts) > _MAX_LISTED_OBJECTS else None

    file.visititems_links(collect)
    return link_texts


def _is_counts(hdf5_object: Any) -> bool:
    return (
        isinstance(hdf5_object, h5py.Dataset)
        and 2 <= hdf5_object.ndim <= 4
        and hdf5_object.dtype.kind in "uif"
        and 0 not in hdf5_object.shape
    )


def _is_same_object(first_object: Any, second_object: Any) -> bool:
    return (
        first_object is not None and second_object is not None and object_id(first_object) == object_id(second_object)
    )


def _signal(group: Any) -> Any:
    """Return the dataset that is the signal of an NXdata group, or None for other groups."""
    if not isinstance(group, h5py.Group) or as_text(group.attrs.get("NX_class", "")) != "NXdata":
        return None
    named_signal = _read_or_none(group, as_text(group.attrs["signal"])) if "signal" in group.attrs else None
    if isinstance(named_signal, h5py.Dataset):
        return named_signal
    group_members = (_read_or_none(group, member_name) for member_name in group)
    return next(
        (member for member in group_members if isinstance(member, h5py.Dataset) and "signal" in member.attrs), None
    )


def _read_or_none(group: Any, object_path: str) -> Any:
    """Return the object at a path, or None if the object is missing or a link to it is refused."""
    try:
        return follow(group, object_path)
    except ScanError:
        return None


# --- selection of arrays -----------------------------------------------------------------------------


def _read_content(top_group: Any) -> FileContent:
    """Return the arrays in a group and all its subgroups, including those that links include from other files."""
    file_content, entry_by_path = FileContent([], [], []), {"": _enclosing_entry(top_group)}
    signals_and_groups: list[tuple[Any, Any]] = []
    top_path = top_group.name.rstrip("/")
    for path, hdf5_object in walk(top_group, file_content.faults):
        object_path = hdf5_object.name if file_of(hdf5_object) == file_of(top_group) else top_path + path
        if _NON_COUNTS_GROUPS & set(object_path.split("/")):
            continue
        parent_path = path.rpartition("/")[0]
        entry_path = entry_by_path.get(parent_path, "")
        if isinstance(hdf5_object, h5py.Group):
            entry_by_path[path] = object_path if not entry_path and _is_entry(hdf5_object, object_path) else entry_path
            if _is_counts(signal := _signal(hdf5_object)):
                signals_and_groups.append((signal, hdf5_object))
        elif _is_counts(hdf5_object):
            file_content.stacks.append(Stack(object_path, hdf5_object, [], entry_path))
        elif hdf5_object.ndim == 1 and hdf5_object.size > 1 and hdf5_object.dtype.kind in "iuf":
            file_content.vectors.append((entry_path, hdf5_object))
    for stack in file_content.stacks:
        # Groups that name the axes of their signal come first.
        groups = [group for signal, group in signals_and_groups if _is_same_object(signal, stack.dataset)]
        stack.groups = sorted(groups, key=lambda group: "axes" not in group.attrs and "axes" not in stack.dataset.attrs)
    return file_content


def _is_entry(group: Any, group_path: str) -> bool:
    is_numbered = group_path.count("/") == 1 and _ENTRY_PATTERN.fullmatch(group_path[1:]) is not None
    return is_numbered or as_text(group.attrs.get("NX_class", "")) == "NXentry"


def _enclosing_entry(top_group: Any) -> str:
    """Return the path of the NXentry that contains a group or is this group, or "" if there is none."""
    path_parts = top_group.name.strip("/").split("/")
    for n_part in range(1, len(path_parts) + 1 if path_parts != [""] else 0):
        group_path = "/" + "/".join(path_parts[:n_part])
        if _is_entry(follow(top_group, group_path), group_path):
            return group_path
    return ""


def _select_counts(stacks: list[Stack]) -> tuple[list[Stack], tuple[str, ...]]:
    """Return the arrays that are probably counts, and a note on each stack of images that is left out.

    Arrays with three or four dimensions are preferred to lists of spectra. If there are several, NXdata signals and
    arrays that are named like counts are preferred.
    """
    map_stacks = [stack for stack in stacks if stack.dataset.ndim > 2]
    signal_stacks = [stack for stack in map_stacks if stack.groups]
    stacks_named_counts = [stack for stack in map_stacks if stack.name.rsplit("/", 1)[1].lower() in _COUNTS_NAMES]
    selected_stacks = [
        stack for stack in map_stacks if stack in signal_stacks or stack in stacks_named_counts
    ] or map_stacks
    selected_stacks = selected_stacks or [stack for stack in stacks if _is_spectrum_list(stack)]
    largest_stack = max((stack for stack in selected_stacks), key=lambda stack: max(stack.dataset.shape), default=None)
    image_stacks = [
        stack
        for stack in selected_stacks
        if largest_stack is not None and _is_image_stack(stack.dataset, largest_stack.dataset)
    ]
    notes = tuple(f"left out: {stack.name} {stack.dataset.shape}, images, not spectra" for stack in image_stacks)
    return sorted(
        (stack for stack in selected_stacks if stack not in image_stacks), key=lambda stack: stack.name
    ), notes


def _is_spectrum_list(stack: Stack) -> bool:
    dataset = stack.dataset
    if dataset.ndim != 2 or dataset.shape[1] < _MIN_CHANNELS:
        return False
    is_marked_spectrum = as_text(dataset.attrs.get("interpretation", "")) == "spectrum"
    energy_datasets = (_read_or_none(dataset.parent, energy_name) for energy_name in _ENERGY_NAMES)
    is_calibrated = any(
        isinstance(dataset_item, h5py.Dataset) and dataset_item.shape == dataset.shape[1:]
        for dataset_item in energy_datasets
    )
    return is_marked_spectrum or is_calibrated or _LIST_PATTERN.search(stack.name) is not None


def _is_image_stack(dataset: Any, spectra_dataset: Any) -> bool:
    """Return whether an array has as many pixels as the spectra, but too few values per pixel to be spectra."""
    if dataset.ndim != 3 or max(spectra_dataset.shape) < 2 * _MIN_CHANNELS:
        return False
    pixel_sizes = list(spectra_dataset.shape)
    pixel_sizes.remove(max(pixel_sizes))
    remaining_sizes = list(dataset.shape)
    for pixel_size in pixel_sizes:
        if pixel_size in remaining_sizes:
            remaining_sizes.remove(pixel_size)
    return dataset is not spectra_dataset and len(remaining_sizes) == 1 and remaining_sizes[0] < _MIN_CHANNELS


# --- an array and its metadata -------------------------------------------------------------------------


class NeighbourDatasets:
    """Datasets in the group of the counts, in its subgroup ``info``, or in the NXdata group of the counts.

    Links out of the file's folder are listed in ``faults`` and are not followed.
    """

    def __init__(self, stack: Stack) -> None:
        name = stack.dataset.name.rsplit("/", 1)[1]
        self._search_paths = [(stack.dataset.parent, prefix) for prefix in ("", "info/", f"{name}_info/")]
        self._search_paths += [(group, "") for group in stack.groups]
        self.faults: list[str] = []

    def find(self, *dataset_names: str) -> Any:
        """Return the dataset with the first of the given names that exists, or None if none exists."""
        for dataset_name in dataset_names:
            for group, name_prefix in self._search_paths:
                try:
                    dataset = follow(group, name_prefix + dataset_name)
                except ScanError as error:
                    self._add_fault(dataset_name, error)
                    continue
                if isinstance(dataset, h5py.Dataset):
                    return dataset
        return None

    def read(self, read_function: Callable[..., Any], dataset: Any, *arguments: Any) -> Any:
        """Return what ``read_function`` reads from a dataset, or None if the dataset is missing or refused."""
        try:
            return read_function(dataset, *arguments)
        except ScanError as error:
            self._add_fault(dataset.name, error)
            return None

    def _add_fault(self, dataset_name: str, error: ScanError) -> None:
        fault = f"{dataset_name} ignored: {error}"
        if fault not in self.faults:
            self.faults.append(fault)


@dataclass(frozen=True)
class PixelIndices:
    """Indices by which the pixels and the detector of a scan are found in arrays of one value per pixel.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    stored_shape : tuple of int
        Shape of the array of counts without the channel dimension.
    detector : (int, int) or None
        Index of the detector dimension in ``stored_shape``, and index of the detector; None if there is no detector
        dimension.
    index : (n_row, n_column) array, or None
        Index of each pixel's spectrum in a list of spectra; None for a grid.
    """

    shape: tuple[int, int]
    stored_shape: tuple[int, ...]
    detector: tuple[int, int] | None = None
    index: NDArray[np.int64] | None = None

    def pick(self, stored_values: NDArray[Any]) -> NDArray[Any] | None:
        """Arrange values as (n_row, n_column), or return None if their number fits neither pixels nor detectors."""
        n_detector = 1 if self.detector is None else self.stored_shape[self.detector[0]]
        n_pixel = int(np.prod(self.stored_shape)) // n_detector
        if stored_values.size == 1:
            return np.full(self.shape, stored_values.flat[0])
        if self.detector is not None and stored_values.size == n_pixel * n_detector:
            stored_values = np.take(stored_values.reshape(self.stored_shape), self.detector[1], axis=self.detector[0])
        if stored_values.size == n_pixel:
            return stored_values.ravel()[self.index] if self.index is not None else stored_values.reshape(self.shape)
        if self.detector is not None and stored_values.size == n_detector:
            return np.full(self.shape, stored_values.ravel()[self.detector[1]])
        return None


def _scans(
    path: Path,
    stacks: list[Stack],
    file_content: FileContent,
    shape: tuple[int, int] | None,
    notes: tuple[str, ...] = (),
) -> list[Scan]:
    try:
        scans = [scan for stack in stacks for scan in _scans_of(path, stack, file_content, shape)]
    except ScanError as error:
        entry_paths = list(dict.fromkeys(stack.entry for stack in stacks))
        if len(entry_paths) == 1:
            raise
        raise ScanError(
            f"Cannot read {path} as one scan: it has {len(entry_paths)} measurements, and not all can be read. "
            "Give one "
            f"of them: {'; '.join(f'{path}::{entry_path}' for entry_path in entry_paths)}. ({error})"
        ) from error
    named_scans = [scan if len(scans) > 1 else scan.replace(name=path.stem) for scan in scans]
    return [scan.replace(notes=(*scan.notes, *notes)) for scan in named_scans]


def _scan_name(path: Path, stack: Stack, detector: str) -> str:
    return f"{path.stem}{stack.name.replace('/', '_')}{f'_{detector}' if detector and stack.dataset.ndim == 4 else ''}"


def _scans_of(path: Path, stack: Stack, file_content: FileContent, shape: tuple[int, int] | None) -> list[Scan]:
    """Read each detector of an array as a separate scan.

    Most arrays contain only one detector.
    """
    dataset, neighbours = stack.dataset, NeighbourDatasets(stack)
    check_readable(path, dataset)
    axes = named_axes(dataset, stack.groups)
    energy_lists = [neighbours.find(name) for name in (*_ENERGY_NAMES, "channels", "channel")]
    list_lengths = tuple(
        {int(dataset_item.size) for dataset_item in energy_lists if dataset_item is not None and dataset_item.ndim == 1}
    )
    position_datasets = [
        dataset_item for entry_path, dataset_item in file_content.vectors if entry_path == stack.entry
    ][:_MAX_LISTED_OBJECTS]
    interpretation = interpret_dimensions(dataset, axes, list_lengths, position_datasets, shape)
    if interpretation.detector is None:
        return [_scan(path, stack, interpretation, axes, position_datasets, shape, None)]
    return [
        _scan(path, stack, interpretation, axes, position_datasets, shape, detector)
        for detector in range(int(dataset.shape[interpretation.detector]))
    ]


def _scan(
    path: Path,
    stack: Stack,
    interpretation: Interpretation,
    axes: list[NamedDimension],
    position_datasets: list[Any],
    shape: tuple[int, int] | None,
    detector: int | None,
) -> Scan:
    dataset, neighbours = stack.dataset, NeighbourDatasets(stack)
    detector_index = (
        None if interpretation.detector is None or detector is None else (interpretation.detector, detector)
    )
    channel_dimension = axes[interpretation.dimension_order[-1]] if axes else ("", None)
    notes: list[str] = [interpretation.note] if interpretation.note else []
    step_mm, spectrum_indices = None, None
    cube: Hdf5Cube | ListedCube
    if len(interpretation.dimension_order) == 3:
        cube = Hdf5Cube(path, dataset, interpretation.dimension_order, detector_index)
        if axes:
            row_positions, column_positions = (axes[dimension][1] for dimension in interpretation.dimension_order[:2])
            step_mm = step_of_axes(
                step_of_positions(row_positions, cube.shape[0])[0],
                step_of_positions(column_positions, cube.shape[1])[0],
            )
    else:
        spectrum_indices, step_mm, grid_notes = _arrange_on_grid(path, stack, interpretation, position_datasets, shape)
        notes += grid_notes
        cube = ListedCube(path, dataset, spectrum_indices, interpretation.dimension_order, detector_index)  # type: ignore[arg-type]
    stored_sizes = tuple(
        int(dimension_size)
        for dimension, dimension_size in enumerate(dataset.shape)
        if dimension != interpretation.dimension_order[-1]
    )
    detector_position = (
        None
        if detector_index is None
        else (detector_index[0] - (interpretation.dimension_order[-1] < detector_index[0]), detector_index[1])
    )
    pixel_indices = PixelIndices(cube.shape[:2], stored_sizes, detector_position, spectrum_indices)
    axis, unit_notes = _energy_axis(neighbours, channel_dimension, cube.shape[2])
    stored_notes = neighbours.read(short_text, neighbours.find("notes")) or ""
    axis_notes = (
        *(() if axis is None else unit_notes),
        *_axis_notes(neighbours, channel_dimension, axis, cube.shape[2]),
    )
    if any(
        calibration_phrase in stored_notes
        for calibration_phrase in ("no energy calibration", "energy axis cannot be used")
    ):
        axis_notes = ()
    is_present = neighbours.read(read_numbers, neighbours.find("present"), cube.shape[0] * cube.shape[1])
    stored_step = neighbours.read(read_numbers, neighbours.find("step_mm"), 2)
    if stored_step is not None:
        step_mm = float(stored_step.flat[0]), float(stored_step.flat[-1])
    live_time_s, real_time_s = (
        _read_times(neighbours, time_names, pixel_indices) for time_names in (_LIVE_TIME_NAMES, _REAL_TIME_NAMES)
    )
    detector_name = str(neighbours.read(short_text, neighbours.find("detector")) or "")
    detector_name = detector_name if detector is None else f"{detector_name or 'detector'} {detector + 1}"
    source = f"{path}::{stack.name}"
    is_row_first = not isinstance(cube, ListedCube) and dataset.chunks is not None
    return Scan(
        lazy_counts(cube, source, int(dataset.chunks[interpretation.dimension_order[0]]) if is_row_first else 1),
        axis=axis,
        name=_scan_name(path, stack, detector_name),
        source=source,
        format=FORMAT_NAME,
        live_time_s=live_time_s,
        real_time_s=real_time_s,
        step_mm=step_mm,
        detector=detector_name,
        present=None if is_present is None or is_present.shape != cube.shape[:2] else is_present.astype(bool),
        notes=(
            *filter(None, stored_notes.split("\n")),
            *notes,
            *cube.notes,
            *axis_notes,
            *_time_notes(neighbours, pixel_indices),
            *neighbours.faults,
        ),
        metadata={
            **({} if _was_converted(neighbours) else {LOCATION_KEY: _array_location(stack, interpretation, axes)}),
            **({} if detector is None else {SAME_CHANNELS: True}),
        },
    )


def _was_converted(neighbours: NeighbourDatasets) -> bool:
    """Return whether ``underpaint convert``, which writes only detectors, has written an array."""
    return all(neighbours.find(name) is not None for name in ("detector", "source", "metadata"))


def _array_location(stack: Stack, interpretation: Interpretation, axes: list[NamedDimension]) -> ArrayLocation:
    """Return the location of an array, with its positions, the arrays it contains, and whether it is computed."""
    dataset = stack.dataset
    type_attributes = [as_text(hdf5_object.attrs.get("type", "")) for hdf5_object in (dataset, dataset.parent)]
    nexus_class = as_text(dataset.parent.attrs.get("NX_class", ""))
    is_virtual = any(bool(hdf5_object.attrs.get("virtual", False)) for hdf5_object in (dataset, dataset.parent))
    is_computed = (
        is_virtual or any("virtual" in type_mark.lower() for type_mark in type_attributes) or nexus_class == "NXprocess"
    )
    positions = (
        [
            read_numbers(axes[dimension][1], int(dataset.shape[dimension]))
            for dimension in interpretation.dimension_order[:-1]
        ]
        if axes
        else []
    )
    has_positions = len(positions) == 2 and all(
        hdf5_object is not None and hdf5_object.ndim == 1 for hdf5_object in positions
    )
    part_names: tuple[str, ...] = ()
    if dataset.is_virtual:
        local_sources = (source for source in dataset.virtual_sources() if source.file_name == ".")
        part_names = tuple(dict.fromkeys("/" + source.dset_name.strip("/") for source in local_sources))
    return ArrayLocation(stack.entry, (positions[0], positions[1]) if has_positions else None, is_computed, part_names)  # type: ignore[arg-type]


def _arrange_on_grid(
    path: Path,
    stack: Stack,
    interpretation: Interpretation,
    position_datasets: list[Any],
    shape: tuple[int, int] | None,
) -> tuple[NDArray[np.int64], tuple[float, float] | None, list[str]]:
    """Arrange a list of spectra by the given rows and columns, by the positions in the file, or in one row."""
    n_spectrum = int(stack.dataset.shape[interpretation.dimension_order[0]])
    position_grid = next(iter(pixel_grids(position_datasets, n_spectrum)), None)
    if position_grid is not None and shape in {None, position_grid[2].shape}:
        row_positions, column_positions, spectrum_indices = position_grid
        step_mm = step_of_axes(
            _grid_step(row_positions, spectrum_indices[:, 0]), _grid_step(column_positions, spectrum_indices[0])
        )
        grid_note = (
            f"{n_spectrum} spectra are put on {spectrum_indices.shape[0]} x {spectrum_indices.shape[1]} pixels by "
            f"{row_positions.name}, {column_positions.name}"
        )
        return spectrum_indices, step_mm, [grid_note]
    n_row, n_column = shape or (1, n_spectrum)
    if n_row * n_column != n_spectrum:
        raise ScanError(
            f"Cannot read {path}::{stack.name}: its {n_spectrum} spectra do not fill {n_row} x {n_column} pixels. "
            "Give rows and columns whose product is their number."
        )
    grid_note = "a list of spectra, read as one row: give rows and columns (--shape) for a map"
    return np.arange(n_spectrum).reshape(n_row, n_column), None, [] if shape else [grid_note]


def _grid_step(dataset: Any, spectrum_indices: NDArray[np.int64]) -> float | None:
    positions = read_numbers(dataset, int(dataset.size))
    return None if positions is None else step_of_positions(dataset, int(dataset.size), positions[spectrum_indices])[0]


def _energy_axis(
    neighbours: NeighbourDatasets, channel_dimension: NamedDimension, n_channel: int
) -> tuple[EnergyAxis | None, tuple[str, ...]]:
    """Return the energy axis and notes, from gain and zero, PyMca's polynomial, NXdata axes or ``energy``."""
    gain = neighbours.read(read_numbers, neighbours.find("gain_kev"), 1)
    zero = neighbours.read(read_numbers, neighbours.find("zero_kev"), 1)
    if gain is not None:
        return axis_of_gain_and_zero(gain.flat[0], 0.0 if zero is None else zero.flat[0], n_channel)
    axis_sources = (
        (axis_of_polynomial, neighbours.find("calibration")),
        (axis_of_energies, _named_energies(channel_dimension)),
        (axis_of_energies, neighbours.find(*_ENERGY_NAMES)),
    )
    candidate_axes = (neighbours.read(read_axis, dataset, n_channel) for read_axis, dataset in axis_sources)
    return next(
        (
            axis_and_notes
            for axis_and_notes in candidate_axes
            if axis_and_notes is not None and axis_and_notes[0] is not None
        ),
        (None, ()),
    )


def _named_energies(channel_dimension: NamedDimension) -> Any:
    dimension_name, dataset = channel_dimension
    return dataset if unit_of(dataset) in ENERGY_UNITS or "energ" in dimension_name.lower() else None


def _axis_notes(
    neighbours: NeighbourDatasets, channel_dimension: NamedDimension, axis: EnergyAxis | None, n_channel: int
) -> tuple[str, ...]:
    """Return notes on an energy axis that is missing, unusable or non-linear."""
    if axis is not None:
        deviation_kev = neighbours.read(polynomial_deviation_kev, neighbours.find("calibration"), n_channel) or 0.0
        curvature_note = (
            "the file's energy axis is not linear; the linear axis that is used deviates by at most "
            f"{1000 * deviation_kev:.1f} eV"
        )
        return (curvature_note,) if deviation_kev > 0 and neighbours.find("gain_kev") is None else ()
    gain = neighbours.read(read_numbers, neighbours.find("gain_kev"), 1)
    axis_items = (neighbours.find("calibration"), _named_energies(channel_dimension), neighbours.find(*_ENERGY_NAMES))
    faults = [fault for dataset in axis_items if (fault := neighbours.read(axis_fault, dataset, n_channel))]
    if gain is not None:
        faults = [f"its gain_kev is {gain.flat[0]:g} keV per channel, which is impossible, or its zero_kev is"]
    return (f"the file's energy axis cannot be used: {faults[0]}" if faults else "no energy calibration in the file",)


def _time_notes(neighbours: NeighbourDatasets, pixels: PixelIndices) -> tuple[str, ...]:
    """Return notes on pixels of unknown live time. A converted file already contains notes on unknown times."""
    faults = (
        neighbours.read(times_fault, neighbours.find(dataset_name), pixels.pick, pixels.shape)
        for dataset_name in _LIVE_TIME_NAMES
    )
    return tuple(fault for fault in faults if fault)[:1]


def _read_times(neighbours: NeighbourDatasets, dataset_names: tuple[str, ...], pixels: PixelIndices) -> Any:
    for dataset_name in dataset_names:
        dataset = neighbours.find(dataset_name)
        # larch stores times in microseconds without a unit.
        is_larch_file = dataset_name in {"livetime", "realtime"} and dataset is not None and not unit_of(dataset)
        if is_larch_file and "mca detector" not in as_text(dataset.parent.attrs.get("type", "")):
            continue
        pixel_times = neighbours.read(pixel_seconds, dataset, pixels.shape, pixels.pick, "us" if is_larch_file else "s")
        if pixel_times is not None:
            return pixel_times
    return None
