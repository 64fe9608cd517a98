"""Stacks in NeXus and PyMca's layout, and any other 3-D array.

Specification:

- NeXus ``NXdata`` group: the attribute ``signal`` names the counts, ``axes`` a dataset for each dimension (or the
  counts carry the attribute ``signal=1``); ``interpretation`` is ``spectrum`` (channels last) or ``image``
  (channels first). An axis in eV or keV gives the energies, axes in units of length the distance between pixels.
- PyMca: ``calibration`` (zero, gain, quadratic; keV) and ``live_time`` (s) next to the counts or in their group
  ``info``.
- ``gain_kev``, ``zero_kev``, ``live_time_s``, ``real_time_s``, ``step_mm``, ``present``, ``detector``, ``notes``
  next to the counts, as :func:`underpaint.io.save_scan` writes them.

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
    interpret,
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
    """An array that may be counts.

    Parameters
    ----------
    name : str
        Path of the array in the file.
    dataset : h5py.Dataset
        The array.
    groups : list of h5py.Group
        NXdata groups whose signal is the array.
    entry : str
        Path of the measurement that the array belongs to.
    """

    name: str
    dataset: Any
    groups: list[Any] = field(default_factory=list)
    entry: str = ""


@dataclass
class Content:
    """Content of a file, or of a group.

    Parameters
    ----------
    stacks : list of Stack
        Arrays of two to four dimensions.
    vectors : list of (str, h5py.Dataset)
        Entry and dataset of each 1-D array, which may be positions.
    faults : list of str
        Reasons why links were not followed.
    """

    stacks: list[Stack]
    vectors: list[tuple[str, Any]]
    faults: list[str]


def read_stacks(path: Path, top: Any, shape: tuple[int, int] | None = None) -> list[Scan]:
    """Read every stack of counts in a file, or below a group.

    Raises
    ------
    ScanError
        There is no 3-D array of numbers.
    """
    content = _content(top)
    stacks, notes = _select_counts(content.stacks)
    if not stacks:
        entries = listing(top)
        refused = f" Links that are not followed: {'; '.join(content.faults[:4])}" if content.faults else ""
        raise ScanError(
            f"Cannot read {path if top.name == '/' else f'{path}::{top.name}'} as a scan: it holds no 3-D array (row, "
            f"column, channel) of numbers, {f'only {entries}' if entries else 'nor any other array'}.{refused}"
        )
    return _scans(path, stacks, content, shape, (*notes, *content.faults))


def read_named(path: Path, file: Any, name: str, shape: tuple[int, int] | None) -> list[Scan]:
    """Read the stack at a path inside the file: a dataset, an NXdata group, or a group of stacks.

    Raises
    ------
    ScanError
        The path does not exist or is not a stack.
    """
    item = follow(file, name)
    if isinstance(item, h5py.Group):
        signal = _signal(item)
        if not _is_counts(signal):
            return read_stacks(path, item, shape)
        item = signal
    if not _is_counts(item):
        description = "nothing there" if item is None else f"shape {item.shape}, type {item.dtype}"
        raise ScanError(
            f"Cannot read {path}::{name} as a scan ({description}): a list (spectrum, channel) or "
            f"a 3-D array (row, column, channel) of numbers is needed. The file holds {listing(file) or 'no array'}."
        )
    content = _content(file)
    stack = next((candidate for candidate in content.stacks if object_id(candidate.dataset) == object_id(item)), None)
    stack = stack or Stack("/" + name.strip("/"), item)
    signal_groups = [candidate for candidate in _parent_groups(file, name) if _is_same_object(_signal(candidate), item)]
    stack = replace(stack, dataset=item, groups=[*signal_groups, *stack.groups])
    return [
        replace(scan, name=_scan_name(path, stack, scan.detector)) for scan in _scans(path, [stack], content, shape)
    ]


def _parent_groups(file: Any, name: str) -> Iterator[Any]:
    group = follow(file, name)
    yield group if isinstance(group, h5py.Group) else follow(file, name.strip("/").rpartition("/")[0])


def listing(file: Any) -> str:
    """Name the first arrays of a file, with their sizes, and its links."""
    names: list[str] = []

    def collect(name: str, item: Any) -> bool | None:
        if isinstance(item, h5py.Dataset):
            names.append(f"/{name} {item.shape}")
        return True if len(names) > _MAX_LISTED_OBJECTS else None

    file.visititems(collect)
    links = _links(file)
    if links:
        names.append(f"links, which are not followed ({', '.join(links[:8])})")
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _links(file: Any) -> list[str]:
    """Return the links of a file and their targets."""
    names: list[str] = []

    def collect(name: str, link: Any) -> bool | None:
        if isinstance(link, h5py.ExternalLink):
            names.append(f"/{name} to {link.path} in {link.filename}")
        elif isinstance(link, h5py.SoftLink):
            names.append(f"/{name} to {link.path}")
        return True if len(names) > _MAX_LISTED_OBJECTS else None

    file.visititems_links(collect)
    return names


def _is_counts(item: Any) -> bool:
    return isinstance(item, h5py.Dataset) and 2 <= item.ndim <= 4 and item.dtype.kind in "uif" and 0 not in item.shape


def _is_same_object(first: Any, second: Any) -> bool:
    return first is not None and second is not None and object_id(first) == object_id(second)


def _signal(group: Any) -> Any:
    """Return the signal dataset of an NXdata group; None for other groups."""
    if not isinstance(group, h5py.Group) or as_text(group.attrs.get("NX_class", "")) != "NXdata":
        return None
    named = _read_or_none(group, as_text(group.attrs["signal"])) if "signal" in group.attrs else None
    if isinstance(named, h5py.Dataset):
        return named
    members = (_read_or_none(group, name) for name in group)
    return next((each for each in members if isinstance(each, h5py.Dataset) and "signal" in each.attrs), None)


def _read_or_none(group: Any, name: str) -> Any:
    """Return the object at a path; None if missing or behind a link that is not followed."""
    try:
        return follow(group, name)
    except ScanError:
        return None


# --- selection of arrays -----------------------------------------------------------------------------


def _content(top: Any) -> Content:
    """Visit everything below a group once, including links to other files."""
    content, entries = Content([], [], []), {"": _enclosing_entry(top)}
    signals: list[tuple[Any, Any]] = []
    top_path = top.name.rstrip("/")
    for path, item in walk(top, content.faults):
        name = item.name if file_of(item) == file_of(top) else top_path + path
        if _NON_COUNTS_GROUPS & set(name.split("/")):
            continue
        parent = path.rpartition("/")[0]
        entry = entries.get(parent, "")
        if isinstance(item, h5py.Group):
            entries[path] = name if not entry and _is_entry(item, name) else entry
            if _is_counts(signal := _signal(item)):
                signals.append((signal, item))
        elif _is_counts(item):
            content.stacks.append(Stack(name, item, [], entry))
        elif item.ndim == 1 and item.size > 1 and item.dtype.kind in "iuf":
            content.vectors.append((entry, item))
    for stack in content.stacks:
        # Groups that name their axes come first.
        groups = [group for signal, group in signals if _is_same_object(signal, stack.dataset)]
        stack.groups = sorted(groups, key=lambda group: "axes" not in group.attrs and "axes" not in stack.dataset.attrs)
    return content


def _is_entry(group: Any, name: str) -> bool:
    is_numbered = name.count("/") == 1 and _ENTRY_PATTERN.fullmatch(name[1:]) is not None
    return is_numbered or as_text(group.attrs.get("NX_class", "")) == "NXentry"


def _enclosing_entry(top: Any) -> str:
    """Return the entry that contains a group, or the group if it is an entry; "" without an entry."""
    parts = top.name.strip("/").split("/")
    for n_part in range(1, len(parts) + 1 if parts != [""] else 0):
        name = "/" + "/".join(parts[:n_part])
        if _is_entry(follow(top, name), name):
            return name
    return ""


def _select_counts(stacks: list[Stack]) -> tuple[list[Stack], tuple[str, ...]]:
    """Return the arrays that hold counts, and a note on each image stack that is left out.

    Arrays of three or four dimensions are preferred to lists of spectra, and among these the signals of NXdata and
    arrays named as counts.
    """
    maps = [stack for stack in stacks if stack.dataset.ndim > 2]
    signals = [stack for stack in maps if stack.groups]
    named_as_counts = [stack for stack in maps if stack.name.rsplit("/", 1)[1].lower() in _COUNTS_NAMES]
    selected = [stack for stack in maps if stack in signals or stack in named_as_counts] or maps
    selected = selected or [stack for stack in stacks if _is_list(stack)]
    spectra = max((stack for stack in selected), key=lambda stack: max(stack.dataset.shape), default=None)
    images = [stack for stack in selected if spectra is not None and _is_image_stack(stack.dataset, spectra.dataset)]
    notes = tuple(f"left out: {stack.name} {stack.dataset.shape}, images, not spectra" for stack in images)
    return sorted((stack for stack in selected if stack not in images), key=lambda stack: stack.name), notes


def _is_list(stack: Stack) -> bool:
    dataset = stack.dataset
    if dataset.ndim != 2 or dataset.shape[1] < _MIN_CHANNELS:
        return False
    is_spectrum = as_text(dataset.attrs.get("interpretation", "")) == "spectrum"
    energy_items = (_read_or_none(dataset.parent, name) for name in _ENERGY_NAMES)
    is_calibrated = any(isinstance(item, h5py.Dataset) and item.shape == dataset.shape[1:] for item in energy_items)
    return is_spectrum or is_calibrated or _LIST_PATTERN.search(stack.name) is not None


def _is_image_stack(dataset: Any, spectra_dataset: Any) -> bool:
    """Return whether an array has the rows and columns of the spectra, and too few values per pixel for a spectrum."""
    if dataset.ndim != 3 or max(spectra_dataset.shape) < 2 * _MIN_CHANNELS:
        return False
    pixel_sizes = list(spectra_dataset.shape)
    pixel_sizes.remove(max(pixel_sizes))
    remaining_sizes = list(dataset.shape)
    for size in pixel_sizes:
        if size in remaining_sizes:
            remaining_sizes.remove(size)
    return dataset is not spectra_dataset and len(remaining_sizes) == 1 and remaining_sizes[0] < _MIN_CHANNELS


# --- an array and its metadata -------------------------------------------------------------------------


class Neighbours:
    """Datasets next to counts: in the same group, its ``info`` (PyMca), or the NXdata group whose signal they are.

    Links out of the folder are not followed but listed in ``faults``.
    """

    def __init__(self, stack: Stack) -> None:
        name = stack.dataset.name.rsplit("/", 1)[1]
        self._search_paths = [(stack.dataset.parent, prefix) for prefix in ("", "info/", f"{name}_info/")]
        self._search_paths += [(group, "") for group in stack.groups]
        self.faults: list[str] = []

    def item(self, *names: str) -> Any:
        """Return the first dataset with one of the names, or None."""
        for name in names:
            for group, prefix in self._search_paths:
                try:
                    item = follow(group, prefix + name)
                except ScanError as error:
                    self._add_fault(name, error)
                    continue
                if isinstance(item, h5py.Dataset):
                    return item
        return None

    def value(self, read_function: Callable[..., Any], item: Any, *arguments: Any) -> Any:
        """Return the values read from a dataset; None if unavailable."""
        try:
            return read_function(item, *arguments)
        except ScanError as error:
            self._add_fault(item.name, error)
            return None

    def _add_fault(self, name: str, error: ScanError) -> None:
        fault = f"{name} ignored: {error}"
        if fault not in self.faults:
            self.faults.append(fault)


@dataclass(frozen=True)
class Pixels:
    """Position of a scan's pixels and detector in arrays of one value per pixel.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    stored_shape : tuple of int
        Sizes of the counts without their channels.
    detector : (int, int) or None
        Index of the detector dimension in ``stored_shape``, and index of this detector.
    index : (n_row, n_column) array, or None
        For a list of spectra, the index of each pixel's spectrum.
    """

    shape: tuple[int, int]
    stored_shape: tuple[int, ...]
    detector: tuple[int, int] | None = None
    index: NDArray[np.int64] | None = None

    def pick(self, values: NDArray[Any]) -> NDArray[Any] | None:
        """Return (n_row, n_column) values; None if the number of values fits neither pixels nor detectors."""
        n_detector = 1 if self.detector is None else self.stored_shape[self.detector[0]]
        n_pixel = int(np.prod(self.stored_shape)) // n_detector
        if values.size == 1:
            return np.full(self.shape, values.flat[0])
        if self.detector is not None and values.size == n_pixel * n_detector:
            values = np.take(values.reshape(self.stored_shape), self.detector[1], axis=self.detector[0])
        if values.size == n_pixel:
            return values.ravel()[self.index] if self.index is not None else values.reshape(self.shape)
        if self.detector is not None and values.size == n_detector:
            return np.full(self.shape, values.ravel()[self.detector[1]])
        return None


def _scans(
    path: Path, stacks: list[Stack], content: Content, shape: tuple[int, int] | None, notes: tuple[str, ...] = ()
) -> list[Scan]:
    try:
        scans = [scan for stack in stacks for scan in _scans_of(path, stack, content, shape)]
    except ScanError as error:
        entries = list(dict.fromkeys(stack.entry for stack in stacks))
        if len(entries) == 1:
            raise
        raise ScanError(
            f"Cannot read {path} as one scan: it has {len(entries)} measurements, and not all can be read. Give one "
            f"of them: {'; '.join(f'{path}::{entry}' for entry in entries)}. ({error})"
        ) from error
    named_scans = [scan if len(scans) > 1 else replace(scan, name=path.stem) for scan in scans]
    return [replace(scan, notes=(*scan.notes, *notes)) for scan in named_scans]


def _scan_name(path: Path, stack: Stack, detector: str) -> str:
    return f"{path.stem}{stack.name.replace('/', '_')}{f'_{detector}' if detector and stack.dataset.ndim == 4 else ''}"


def _scans_of(path: Path, stack: Stack, content: Content, shape: tuple[int, int] | None) -> list[Scan]:
    """Read the detectors of one array as a scan each; most arrays have only one."""
    dataset, neighbours = stack.dataset, Neighbours(stack)
    check_readable(path, dataset)
    axes = named_axes(dataset, stack.groups)
    energy_lists = [neighbours.item(name) for name in (*_ENERGY_NAMES, "channels", "channel")]
    lengths = tuple({int(item.size) for item in energy_lists if item is not None and item.ndim == 1})
    positions = [item for entry, item in content.vectors if entry == stack.entry][:_MAX_LISTED_OBJECTS]
    interpretation = interpret(dataset, axes, lengths, positions, shape)
    if interpretation.detector is None:
        return [_scan(path, stack, interpretation, axes, positions, shape, None)]
    return [
        _scan(path, stack, interpretation, axes, positions, shape, detector)
        for detector in range(int(dataset.shape[interpretation.detector]))
    ]


def _scan(
    path: Path,
    stack: Stack,
    interpretation: Interpretation,
    axes: list[NamedDimension],
    positions: list[Any],
    shape: tuple[int, int] | None,
    detector: int | None,
) -> Scan:
    dataset, neighbours = stack.dataset, Neighbours(stack)
    detector_index = (
        None if interpretation.detector is None or detector is None else (interpretation.detector, detector)
    )
    channel_dimension = axes[interpretation.order[-1]] if axes else ("", None)
    notes: list[str] = [interpretation.note] if interpretation.note else []
    step, index = None, None
    cube: Hdf5Cube | ListedCube
    if len(interpretation.order) == 3:
        cube = Hdf5Cube(path, dataset, interpretation.order, detector_index)
        if axes:
            row, column = (axes[dimension][1] for dimension in interpretation.order[:2])
            step = step_of_axes(step_of_positions(row, cube.shape[0])[0], step_of_positions(column, cube.shape[1])[0])
    else:
        index, step, grid_notes = _arrange_on_grid(path, stack, interpretation, positions, shape)
        notes += grid_notes
        cube = ListedCube(path, dataset, index, interpretation.order, detector_index)  # type: ignore[arg-type]
    stored = tuple(int(size) for dimension, size in enumerate(dataset.shape) if dimension != interpretation.order[-1])
    pixel_detector = (
        None
        if detector_index is None
        else (detector_index[0] - (interpretation.order[-1] < detector_index[0]), detector_index[1])
    )
    pixels = Pixels(cube.shape[:2], stored, pixel_detector, index)
    axis, unit_notes = _energy_axis(neighbours, channel_dimension, cube.shape[2])
    stored_notes = neighbours.value(short_text, neighbours.item("notes")) or ""
    axis_notes = (
        *(() if axis is None else unit_notes),
        *_axis_notes(neighbours, channel_dimension, axis, cube.shape[2]),
    )
    if any(words in stored_notes for words in ("no energy calibration", "energy axis cannot be used")):
        axis_notes = ()
    present = neighbours.value(read_numbers, neighbours.item("present"), cube.shape[0] * cube.shape[1])
    stored_step = neighbours.value(read_numbers, neighbours.item("step_mm"), 2)
    if stored_step is not None:
        step = float(stored_step.flat[0]), float(stored_step.flat[-1])
    live, real = (_times(neighbours, names, pixels) for names in (_LIVE_TIME_NAMES, _REAL_TIME_NAMES))
    name = str(neighbours.value(short_text, neighbours.item("detector")) or "")
    name = name if detector is None else f"{name or 'detector'} {detector + 1}"
    source = f"{path}::{stack.name}"
    is_row_first = not isinstance(cube, ListedCube) and dataset.chunks is not None
    return Scan(
        lazy_counts(cube, source, int(dataset.chunks[interpretation.order[0]]) if is_row_first else 1),
        axis=axis,
        name=_scan_name(path, stack, name),
        source=source,
        format=FORMAT_NAME,
        live_time_s=live,
        real_time_s=real,
        step_mm=step,
        detector=name,
        present=None if present is None or present.shape != cube.shape[:2] else present.astype(bool),
        notes=(
            *filter(None, stored_notes.split("\n")),
            *notes,
            *cube.notes,
            *axis_notes,
            *_time_notes(neighbours, pixels),
            *neighbours.faults,
        ),
        metadata={
            **({} if _was_converted(neighbours) else {LOCATION_KEY: _array_location(stack, interpretation, axes)}),
            **({} if detector is None else {SAME_CHANNELS: True}),
        },
    )


def _was_converted(neighbours: Neighbours) -> bool:
    """Return whether ``underpaint convert`` wrote an array; it writes only detectors."""
    return all(neighbours.item(name) is not None for name in ("detector", "source", "metadata"))


def _array_location(stack: Stack, interpretation: Interpretation, axes: list[NamedDimension]) -> ArrayLocation:
    """Return the array's entry and positions, and whether the file marks it as computed or combined from others."""
    dataset = stack.dataset
    type_attributes = [as_text(item.attrs.get("type", "")) for item in (dataset, dataset.parent)]
    nexus_class = as_text(dataset.parent.attrs.get("NX_class", ""))
    is_virtual = any(bool(item.attrs.get("virtual", False)) for item in (dataset, dataset.parent))
    computed = is_virtual or any("virtual" in mark.lower() for mark in type_attributes) or nexus_class == "NXprocess"
    positions = (
        [read_numbers(axes[dimension][1], int(dataset.shape[dimension])) for dimension in interpretation.order[:-1]]
        if axes
        else []
    )
    has_positions = len(positions) == 2 and all(item is not None and item.ndim == 1 for item in positions)
    gathered: tuple[str, ...] = ()
    if dataset.is_virtual:
        local_sources = (source for source in dataset.virtual_sources() if source.file_name == ".")
        gathered = tuple(dict.fromkeys("/" + source.dset_name.strip("/") for source in local_sources))
    return ArrayLocation(stack.entry, (positions[0], positions[1]) if has_positions else None, computed, gathered)  # type: ignore[arg-type]


def _arrange_on_grid(
    path: Path, stack: Stack, interpretation: Interpretation, positions: list[Any], shape: tuple[int, int] | None
) -> tuple[NDArray[np.int64], tuple[float, float] | None, list[str]]:
    """Arrange a list of spectra on the given rows and columns, else by its positions, else on one row."""
    n_spectrum = int(stack.dataset.shape[interpretation.order[0]])
    grid = next(iter(pixel_grids(positions, n_spectrum)), None)
    if grid is not None and shape in {None, grid[2].shape}:
        rows, columns, index = grid
        step = step_of_axes(_grid_step(rows, index[:, 0]), _grid_step(columns, index[0]))
        note = (
            f"{n_spectrum} spectra are put on {index.shape[0]} x {index.shape[1]} pixels by {rows.name}, {columns.name}"
        )
        return index, step, [note]
    n_row, n_column = shape or (1, n_spectrum)
    if n_row * n_column != n_spectrum:
        raise ScanError(
            f"Cannot read {path}::{stack.name}: its {n_spectrum} spectra do not fill {n_row} x {n_column} pixels. "
            "Give rows and columns whose product is their number."
        )
    note = "a list of spectra, read as one row: give rows and columns (--shape) for a map"
    return np.arange(n_spectrum).reshape(n_row, n_column), None, [] if shape else [note]


def _grid_step(item: Any, spectra: NDArray[np.int64]) -> float | None:
    values = read_numbers(item, int(item.size))
    return None if values is None else step_of_positions(item, int(item.size), values[spectra])[0]


def _energy_axis(
    neighbours: Neighbours, channel_dimension: NamedDimension, n_channel: int
) -> tuple[EnergyAxis | None, tuple[str, ...]]:
    """Return the axis, with notes, from gain and zero, PyMca's polynomial, NXdata energies, or an array ``energy``."""
    gain = neighbours.value(read_numbers, neighbours.item("gain_kev"), 1)
    zero = neighbours.value(read_numbers, neighbours.item("zero_kev"), 1)
    if gain is not None:
        return axis_of_gain_and_zero(gain.flat[0], 0.0 if zero is None else zero.flat[0], n_channel)
    axis_sources = (
        (axis_of_polynomial, neighbours.item("calibration")),
        (axis_of_energies, _named_energies(channel_dimension)),
        (axis_of_energies, neighbours.item(*_ENERGY_NAMES)),
    )
    axes = (neighbours.value(read, item, n_channel) for read, item in axis_sources)
    return next((each for each in axes if each is not None and each[0] is not None), (None, ()))


def _named_energies(channel_dimension: NamedDimension) -> Any:
    name, item = channel_dimension
    return item if unit_of(item) in ENERGY_UNITS or "energ" in name.lower() else None


def _axis_notes(
    neighbours: Neighbours, channel_dimension: NamedDimension, axis: EnergyAxis | None, n_channel: int
) -> tuple[str, ...]:
    """Return notes on a missing, unusable or curved axis."""
    if axis is not None:
        deviation_kev = neighbours.value(polynomial_deviation_kev, neighbours.item("calibration"), n_channel) or 0.0
        curvature_note = (
            "the file's energy axis is not linear; it is approximated by a straight line, which deviates by at most "
            f"{1000 * deviation_kev:.1f} eV"
        )
        return (curvature_note,) if deviation_kev > 0 and neighbours.item("gain_kev") is None else ()
    gain = neighbours.value(read_numbers, neighbours.item("gain_kev"), 1)
    axis_items = (neighbours.item("calibration"), _named_energies(channel_dimension), neighbours.item(*_ENERGY_NAMES))
    faults = [fault for item in axis_items if (fault := neighbours.value(axis_fault, item, n_channel))]
    if gain is not None:
        faults = [f"its gain_kev is {gain.flat[0]:g} keV per channel, which is impossible, or its zero_kev is"]
    return (f"the file's energy axis cannot be used: {faults[0]}" if faults else "no energy calibration in the file",)


def _time_notes(neighbours: Neighbours, pixels: Pixels) -> tuple[str, ...]:
    """Return notes on unknown live times; a converted file already has them."""
    faults = (
        neighbours.value(times_fault, neighbours.item(name), pixels.pick, pixels.shape) for name in _LIVE_TIME_NAMES
    )
    return tuple(fault for fault in faults if fault)[:1]


def _times(neighbours: Neighbours, names: tuple[str, ...], pixels: Pixels) -> Any:
    for name in names:
        item = neighbours.item(name)
        # larch stores microseconds without stating the unit.
        is_larch = name in {"livetime", "realtime"} and item is not None and not unit_of(item)
        if is_larch and "mca detector" not in as_text(item.parent.attrs.get("type", "")):
            continue
        times = neighbours.value(pixel_seconds, item, pixels.shape, pixels.pick, "us" if is_larch else "s")
        if times is not None:
            return times
    return None
