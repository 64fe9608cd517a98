"""Stacks in NeXus and PyMca's layout, and any other 3-D array.

Specification:

- NeXus ``NXdata`` group: the attribute ``signal`` names the counts, ``axes`` a dataset for each dimension (or the
  counts carry the attribute ``signal=1``); ``interpretation`` is ``spectrum`` (channels last) or ``image``
  (channels first). An axis in eV or keV gives the energies, axes in units of length the distance of the pixels.
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
from underpaint.io._detectors import PLACE, Place
from underpaint.io._energies import axis_of_line
from underpaint.io._source import SAME_CHANNELS, lazy_counts
from underpaint.io.hdf5._cube import Axis, Hdf5Cube, ListedCube, View, check_stored, grids, named_axes, view_of
from underpaint.io.hdf5._facts import (
    ENERGY_UNITS,
    axis_of_energies,
    axis_of_polynomial,
    bend_of_polynomial,
    fault_of_axis,
    fault_of_times,
    numbers,
    pixel_seconds,
    short_text,
    step_of,
    step_of_axes,
    text,
    units,
)
from underpaint.io.hdf5._links import file_of, follow, identity, items

FORMAT_NAME = "HDF5"
_COUNT_NAMES = ("counts", "data", "spectrum", "spectra", "mca")
_LIVE_TIMES = ("live_time_s", "live_time", "livetime")
_REAL_TIMES = ("real_time_s", "elapsed_time", "real_time", "realtime", "count_time")
_ENERGIES = ("energy", "energies")
_NO_COUNTS = {"truth", "results", "plotselect", "photographs"}
_MAX_LISTING = 10_000
_MIN_CHANNELS = 64
_ENTRY_NAME = re.compile(r"\d+\.\d+")
_LIST_NAME = re.compile(r"mca|xrf|fluo|spectr|xmap|xspress|falcon|hist|/det|/ch\d", re.IGNORECASE)


@dataclass
class Stack:
    """An array that may be counts.

    Parameters
    ----------
    name : str
        Its path in the file.
    dataset : h5py.Dataset
        The array, by its name in its file.
    groups : list of h5py.Group
        NXdata groups whose signal it is.
    entry : str
        Path of its measurement.
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
    lines : list of (str, h5py.Dataset)
        Entry and dataset of one dimension, each of which may be positions.
    faults : list of str
        Why links were not followed.
    """

    stacks: list[Stack]
    lines: list[tuple[str, Any]]
    faults: list[str]


def read_stacks(path: Path, top: Any, shape: tuple[int, int] | None = None) -> list[Scan]:
    """Read every stack of counts in a file, or below a group.

    Raises
    ------
    ScanError
        There is no 3-D array of numbers.
    """
    content = _content(top)
    stacks, notes = _counts(content.stacks)
    if not stacks:
        entries = listing(top)
        refused = f" Links that are not followed: {'; '.join(content.faults[:4])}" if content.faults else ""
        raise ScanError(
            f"Cannot read {path if top.name == '/' else f'{path}::{top.name}'} as a scan: it holds no 3-D array (row, "
            f"column, channel) of numbers, {f'only {entries}' if entries else 'nor any other'}.{refused}"
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
        description = "nothing there" if item is None else f"{item}"
        raise ScanError(
            f"Cannot read {path}::{name} as a scan ({description}): a list (spectrum, channel) or "
            f"a 3-D array (row, column, channel) of numbers is needed. The file holds {listing(file) or 'no array'}."
        )
    content = _content(file)
    stack = next((each for each in content.stacks if identity(each.dataset) == identity(item)), None)
    stack = stack or Stack("/" + name.strip("/"), item)
    signals = [each for each in _parents(file, name) if _is_same(_signal(each), item)]
    stack = replace(stack, dataset=item, groups=[*signals, *stack.groups])
    return [
        replace(scan, name=_scan_name(path, stack, scan.detector)) for scan in _scans(path, [stack], content, shape)
    ]


def _parents(file: Any, name: str) -> Iterator[Any]:
    group = follow(file, name)
    yield group if isinstance(group, h5py.Group) else follow(file, name.strip("/").rpartition("/")[0])


def listing(file: Any) -> str:
    """Name the first arrays of a file, with their sizes, and its links."""
    names: list[str] = []

    def keep(name: str, item: Any) -> bool | None:
        if isinstance(item, h5py.Dataset):
            names.append(f"/{name} {item.shape}")
        return True if len(names) > _MAX_LISTING else None

    file.visititems(keep)
    links = _links(file)
    if links:
        names.append(f"links, which are not followed ({', '.join(links[:8])})")
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _links(file: Any) -> list[str]:
    """Return the links of a file and their targets."""
    names: list[str] = []

    def keep(name: str, link: Any) -> bool | None:
        if isinstance(link, h5py.ExternalLink):
            names.append(f"/{name} to {link.path} in {link.filename}")
        elif isinstance(link, h5py.SoftLink):
            names.append(f"/{name} to {link.path}")
        return True if len(names) > _MAX_LISTING else None

    file.visititems_links(keep)
    return names


def _is_counts(item: Any) -> bool:
    return isinstance(item, h5py.Dataset) and 2 <= item.ndim <= 4 and item.dtype.kind in "uif" and 0 not in item.shape


def _is_same(first: Any, second: Any) -> bool:
    return first is not None and second is not None and identity(first) == identity(second)


def _signal(group: Any) -> Any:
    """Return the counts of an NXdata group; None for other groups."""
    if not isinstance(group, h5py.Group) or text(group.attrs.get("NX_class", "")) != "NXdata":
        return None
    named = _read_or_none(group, text(group.attrs["signal"])) if "signal" in group.attrs else None
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


# --- which arrays ------------------------------------------------------------------------------------


def _content(top: Any) -> Content:
    """Visit everything below a group once, including links to other files."""
    content, entries = Content([], [], []), {"": _entry_above(top)}
    signals: list[tuple[Any, Any]] = []
    above = top.name.rstrip("/")
    for path, item in items(top, content.faults):
        name = item.name if file_of(item) == file_of(top) else above + path
        if _NO_COUNTS & set(name.split("/")):
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
            content.lines.append((entry, item))
    for stack in content.stacks:
        # Groups that name their axes come first.
        groups = [group for signal, group in signals if _is_same(signal, stack.dataset)]
        stack.groups = sorted(groups, key=lambda group: "axes" not in group.attrs and "axes" not in stack.dataset.attrs)
    return content


def _is_entry(group: Any, name: str) -> bool:
    is_numbered = name.count("/") == 1 and _ENTRY_NAME.fullmatch(name[1:]) is not None
    return is_numbered or text(group.attrs.get("NX_class", "")) == "NXentry"


def _entry_above(top: Any) -> str:
    """Return the entry of a group, possibly itself."""
    parts = top.name.strip("/").split("/")
    for n_part in range(1, len(parts) + 1 if parts != [""] else 0):
        name = "/" + "/".join(parts[:n_part])
        if _is_entry(follow(top, name), name):
            return name
    return ""


def _counts(stacks: list[Stack]) -> tuple[list[Stack], tuple[str, ...]]:
    """Return those that are counts, with notes on those that are not.

    Arrays of three or four dimensions, preferably those named as counts by NXdata or their name; without any, lists of
    spectra.
    """
    maps = [stack for stack in stacks if stack.dataset.ndim > 2]
    signals = [stack for stack in maps if stack.groups]
    counted = [stack for stack in maps if stack.name.rsplit("/", 1)[1].lower() in _COUNT_NAMES]
    chosen = [stack for stack in maps if stack in signals or stack in counted] or maps
    chosen = chosen or [stack for stack in stacks if _is_list(stack)]
    spectra = max((stack for stack in chosen), key=lambda stack: max(stack.dataset.shape), default=None)
    images = [stack for stack in chosen if spectra is not None and _are_images(stack.dataset, spectra.dataset)]
    notes = tuple(f"left out: {stack.name} {stack.dataset.shape}, images, not spectra" for stack in images)
    return sorted((stack for stack in chosen if stack not in images), key=lambda stack: stack.name), notes


def _is_list(stack: Stack) -> bool:
    dataset = stack.dataset
    if dataset.ndim != 2 or dataset.shape[1] < _MIN_CHANNELS:
        return False
    is_spectrum = text(dataset.attrs.get("interpretation", "")) == "spectrum"
    listed = (_read_or_none(dataset.parent, name) for name in _ENERGIES)
    is_calibrated = any(isinstance(item, h5py.Dataset) and item.shape == dataset.shape[1:] for item in listed)
    return is_spectrum or is_calibrated or _LIST_NAME.search(stack.name) is not None


def _are_images(dataset: Any, spectra: Any) -> bool:
    """Whether an array has the rows and columns of another one, and too few values per pixel for a spectrum."""
    if dataset.ndim != 3 or max(spectra.shape) < 2 * _MIN_CHANNELS:
        return False
    pixels = list(spectra.shape)
    pixels.remove(max(pixels))
    rest = list(dataset.shape)
    for size in pixels:
        if size in rest:
            rest.remove(size)
    return dataset is not spectra and len(rest) == 1 and rest[0] < _MIN_CHANNELS


# --- an array and its metadata -------------------------------------------------------------------------


class Neighbours:
    """Datasets next to counts: in their group, its ``info`` (PyMca), or the NXdata group that names them.

    Links out of the folder are not followed, and listed in ``faults``.
    """

    def __init__(self, stack: Stack) -> None:
        name = stack.dataset.name.rsplit("/", 1)[1]
        self._places = [(stack.dataset.parent, place) for place in ("", "info/", f"{name}_info/")]
        self._places += [(group, "") for group in stack.groups]
        self.faults: list[str] = []

    def item(self, *names: str) -> Any:
        """Return the first dataset with one of the names, or None."""
        for name in names:
            for group, place in self._places:
                try:
                    item = follow(group, place + name)
                except ScanError as error:
                    self._refused(name, error)
                    continue
                if isinstance(item, h5py.Dataset):
                    return item
        return None

    def value(self, read: Callable[..., Any], item: Any, *rest: Any) -> Any:
        """Return the values read from a dataset; None if unavailable."""
        try:
            return read(item, *rest)
        except ScanError as error:
            self._refused(item.name, error)
            return None

    def _refused(self, name: str, error: ScanError) -> None:
        fault = f"{name} ignored: {error}"
        if fault not in self.faults:
            self.faults.append(fault)


@dataclass(frozen=True)
class Pixels:
    """Location of a scan's pixels in arrays of one value per pixel, and its detector.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    stored : tuple of int
        Sizes of the counts without their channels.
    detector : (int, int) or None
        The dimension of the detectors among ``stored``, and the number of this one.
    index : (n_row, n_column) array, or None
        For a list of spectra, the index of each pixel's spectrum.
    """

    shape: tuple[int, int]
    stored: tuple[int, ...]
    detector: tuple[int, int] | None = None
    index: NDArray[np.int64] | None = None

    def pick(self, values: NDArray[Any]) -> NDArray[Any] | None:
        """Return (n_row, n_column) values; None for another number of values than pixels."""
        n_detector = 1 if self.detector is None else self.stored[self.detector[0]]
        n_pixel = int(np.prod(self.stored)) // n_detector
        if values.size == 1:
            return np.full(self.shape, values.flat[0])
        if self.detector is not None and values.size == n_pixel * n_detector:
            values = np.take(values.reshape(self.stored), self.detector[1], axis=self.detector[0])
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
    named = [scan if len(scans) > 1 else replace(scan, name=path.stem) for scan in scans]
    return [replace(scan, notes=(*scan.notes, *notes)) for scan in named]


def _scan_name(path: Path, stack: Stack, detector: str) -> str:
    return f"{path.stem}{stack.name.replace('/', '_')}{f'_{detector}' if detector and stack.dataset.ndim == 4 else ''}"


def _scans_of(path: Path, stack: Stack, content: Content, shape: tuple[int, int] | None) -> list[Scan]:
    """Read the detectors of one array, mostly one."""
    dataset, neighbours = stack.dataset, Neighbours(stack)
    check_stored(path, dataset)
    axes = named_axes(dataset, stack.groups)
    listed = [neighbours.item(name) for name in (*_ENERGIES, "channels", "channel")]
    lengths = tuple({int(item.size) for item in listed if item is not None and item.ndim == 1})
    positions = [item for entry, item in content.lines if entry == stack.entry][:_MAX_LISTING]
    view = view_of(dataset, axes, lengths, positions, shape)
    if view.detector is None:
        return [_scan(path, stack, view, axes, positions, shape, None)]
    return [
        _scan(path, stack, view, axes, positions, shape, number) for number in range(int(dataset.shape[view.detector]))
    ]


def _scan(
    path: Path,
    stack: Stack,
    view: View,
    axes: list[Axis],
    positions: list[Any],
    shape: tuple[int, int] | None,
    detector: int | None,
) -> Scan:
    dataset, neighbours = stack.dataset, Neighbours(stack)
    place = None if view.detector is None or detector is None else (view.detector, detector)
    energies = axes[view.order[-1]] if axes else ("", None)
    notes: list[str] = [view.note] if view.note else []
    step, index = None, None
    cube: Hdf5Cube | ListedCube
    if len(view.order) == 3:
        cube = Hdf5Cube(path, dataset, view.order, place)
        if axes:
            row, column = (axes[number][1] for number in view.order[:2])
            step = step_of_axes(step_of(row, cube.shape[0])[0], step_of(column, cube.shape[1])[0])
    else:
        index, step, grid_notes = _grid(path, stack, view, positions, shape)
        notes += grid_notes
        cube = ListedCube(path, dataset, index, view.order, place)  # type: ignore[arg-type]
    stored = tuple(int(size) for number, size in enumerate(dataset.shape) if number != view.order[-1])
    within = None if place is None else (place[0] - (view.order[-1] < place[0]), place[1])
    pixels = Pixels(cube.shape[:2], stored, within, index)
    axis, converted = _energy_axis(neighbours, energies, cube.shape[2])
    stored_notes = neighbours.value(short_text, neighbours.item("notes")) or ""
    axis_notes = (*(() if axis is None else converted), *_axis_notes(neighbours, energies, axis, cube.shape[2]))
    if any(words in stored_notes for words in ("no energy calibration", "energy axis cannot be used")):
        axis_notes = ()
    present = neighbours.value(numbers, neighbours.item("present"), cube.shape[0] * cube.shape[1])
    stored_step = neighbours.value(numbers, neighbours.item("step_mm"), 2)
    if stored_step is not None:
        step = float(stored_step.flat[0]), float(stored_step.flat[-1])
    live, real = (_times(neighbours, names, pixels) for names in (_LIVE_TIMES, _REAL_TIMES))
    name = str(neighbours.value(short_text, neighbours.item("detector")) or "")
    name = name if detector is None else f"{name or 'detector'} {detector + 1}"
    source = f"{path}::{stack.name}"
    is_row_first = not isinstance(cube, ListedCube) and dataset.chunks is not None
    return Scan(
        lazy_counts(cube, source, int(dataset.chunks[view.order[0]]) if is_row_first else 1),
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
            **({} if _is_converted(neighbours) else {PLACE: _place(stack, view, axes)}),
            **({} if detector is None else {SAME_CHANNELS: True}),
        },
    )


def _is_converted(neighbours: Neighbours) -> bool:
    """Whether ``underpaint convert`` wrote an array; it writes only detectors."""
    return all(neighbours.item(name) is not None for name in ("detector", "source", "metadata"))


def _place(stack: Stack, view: View, axes: list[Axis]) -> Place:
    """Return entry and positions, and whether the array is marked as computed or combined from others."""
    dataset = stack.dataset
    marks = [text(each.attrs.get("type", "")) for each in (dataset, dataset.parent)]
    classes = text(dataset.parent.attrs.get("NX_class", ""))
    is_virtual = any(bool(each.attrs.get("virtual", False)) for each in (dataset, dataset.parent))
    computed = is_virtual or any("virtual" in mark.lower() for mark in marks) or classes == "NXprocess"
    places = [numbers(axes[number][1], int(dataset.shape[number])) for number in view.order[:-1]] if axes else []
    usable = len(places) == 2 and all(each is not None and each.ndim == 1 for each in places)
    gathered: tuple[str, ...] = ()
    if dataset.is_virtual:
        inside = (source for source in dataset.virtual_sources() if source.file_name == ".")
        gathered = tuple(dict.fromkeys("/" + source.dset_name.strip("/") for source in inside))
    return Place(stack.entry, (places[0], places[1]) if usable else None, computed, gathered)  # type: ignore[arg-type]


def _grid(
    path: Path, stack: Stack, view: View, positions: list[Any], shape: tuple[int, int] | None
) -> tuple[NDArray[np.int64], tuple[float, float] | None, list[str]]:
    """Arrange a list of spectra on the given rows and columns, else by its positions, else on one row."""
    n_spectrum = int(stack.dataset.shape[view.order[0]])
    grid = next(iter(grids(positions, n_spectrum)), None)
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
    values = numbers(item, int(item.size))
    return None if values is None else step_of(item, int(item.size), values[spectra])[0]


def _energy_axis(neighbours: Neighbours, energies: Axis, n_channel: int) -> tuple[EnergyAxis | None, tuple[str, ...]]:
    """Gain and zero, PyMca's polynomial, the energies of NXdata, or an array ``energy``; with notes."""
    gain = neighbours.value(numbers, neighbours.item("gain_kev"), 1)
    zero = neighbours.value(numbers, neighbours.item("zero_kev"), 1)
    if gain is not None:
        return axis_of_line(gain.flat[0], 0.0 if zero is None else zero.flat[0], n_channel)
    places = (
        (axis_of_polynomial, neighbours.item("calibration")),
        (axis_of_energies, _named_energies(energies)),
        (axis_of_energies, neighbours.item(*_ENERGIES)),
    )
    axes = (neighbours.value(read, item, n_channel) for read, item in places)
    return next((each for each in axes if each is not None and each[0] is not None), (None, ()))


def _named_energies(energies: Axis) -> Any:
    name, item = energies
    return item if units(item) in ENERGY_UNITS or "energ" in name.lower() else None


def _axis_notes(neighbours: Neighbours, energies: Axis, axis: EnergyAxis | None, n_channel: int) -> tuple[str, ...]:
    """Return notes on a missing, unusable or curved axis."""
    if axis is not None:
        bend = neighbours.value(bend_of_polynomial, neighbours.item("calibration"), n_channel) or 0.0
        bent = f"the file's energy axis is curved and read as the nearest line, {1000 * bend:.1f} eV off at most"
        return (bent,) if bend > 0 and neighbours.item("gain_kev") is None else ()
    gain = neighbours.value(numbers, neighbours.item("gain_kev"), 1)
    places = (neighbours.item("calibration"), _named_energies(energies), neighbours.item(*_ENERGIES))
    faults = [fault for item in places if (fault := neighbours.value(fault_of_axis, item, n_channel))]
    if gain is not None:
        faults = [f"its gain_kev is {gain.flat[0]:g} keV a channel, or its zero_kev is impossible"]
    return (f"the file's energy axis cannot be used: {faults[0]}" if faults else "no energy calibration in the file",)


def _time_notes(neighbours: Neighbours, pixels: Pixels) -> tuple[str, ...]:
    """Return notes on unknown live times; a converted file already has them."""
    faults = (
        neighbours.value(fault_of_times, neighbours.item(name), pixels.pick, pixels.shape) for name in _LIVE_TIMES
    )
    return tuple(fault for fault in faults if fault)[:1]


def _times(neighbours: Neighbours, names: tuple[str, ...], pixels: Pixels) -> Any:
    for name in names:
        item = neighbours.item(name)
        # larch stores microseconds without stating the unit.
        is_larch = name in {"livetime", "realtime"} and item is not None and not units(item)
        if is_larch and "mca detector" not in text(item.parent.attrs.get("type", "")):
            continue
        times = neighbours.value(pixel_seconds, item, pixels.shape, pixels.pick, "us" if is_larch else "s")
        if times is not None:
            return times
    return None
