"""Stacks in NeXus and PyMca's layout, and any other 3-D array.

Specification:

- NeXus ``NXdata`` group: the attribute ``signal`` names the counts, ``axes`` a dataset for each dimension (or the
  counts carry the attribute ``signal=1``); ``interpretation`` is ``spectrum`` (channels last) or ``image``
  (channels first). An axis in eV or keV gives the energies, axes in units of length the distance of the pixels.
- PyMca: ``calibration`` (zero, gain, quadratic; keV) and ``live_time`` (s) beside the counts or in their group
  ``info``.
- ``gain_kev``, ``zero_kev``, ``live_time_s``, ``real_time_s``, ``step_mm``, ``present``, ``detector``, ``notes``
  beside the counts, as :func:`underpaint.io.save_scan` writes them.

Source: the NeXus manual (NXdata, https://manual.nexusformat.org/classes/base_classes/NXdata.html), silx
``src/silx/io/nxdata``, PyMca ``PyMca5/PyMcaIO/HDF5Stack1D.py`` and ``ArraySave.py``.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from underpaint.errors import ScanError
from underpaint.io._energies import axis_of_line
from underpaint.io._source import lazy_counts
from underpaint.io.hdf5._cube import Hdf5Cube, ListedCube
from underpaint.io.hdf5._facts import (
    axis_of_energies,
    axis_of_polynomial,
    both,
    fault_of_axis,
    fault_of_times,
    numbers,
    pixel_seconds,
    short_text,
    step_of,
    text,
    units,
)
from underpaint.spectrum import EnergyAxis, Scan

FORMAT = "HDF5"
_COUNT_NAMES = ("counts", "data", "spectrum", "spectra", "mca")
_LIVE_TIMES = ("live_time_s", "live_time")
_NO_COUNTS = {"truth", "results", "plotselect"}
_LARGEST_LISTING = 10_000


def read_stacks(path: Path, file: Any) -> list[Scan]:
    """Read every stack of counts in a file.

    Raises
    ------
    ScanError
        There is no 3-D array of numbers.
    """
    found = _stacks(file)
    if not found:
        there = listing(file)
        message = (
            f"Cannot read {path} as a scan: it holds no 3-D array (row, column, channel) of numbers, "
            f"{f'only {there}' if there else 'nor any other'}."
        )
        raise ScanError(message)
    alone = len(found) == 1
    return [_scan(path, dataset, group, path.stem if alone else None) for dataset, group in found]


def read_named(path: Path, file: Any, name: str, shape: tuple[int, int] | None) -> Scan:
    """Read the stack at a path inside the file: a dataset, an NXdata group, or a group that holds one stack.

    Raises
    ------
    ScanError
        There is nothing, or it is no stack.
    """
    item = file.get(name)
    group = item if isinstance(item, h5py.Group) else None
    if group is not None:
        item = _signal(group)
        inside = _stacks(group)
        item, group = inside[0] if item is None and len(inside) == 1 else (item, group)
    elif isinstance(item, h5py.Dataset) and isinstance(item.parent, h5py.Group):
        group = item.parent if _is_same(_signal(item.parent), item) else None
    if _is_list(item):
        return _listed(path, item, shape)
    if not _is_stack(item):
        there = "nothing there" if item is None else f"{item}"
        message = (
            f"Cannot read {path}::{name} as a scan ({there}): a list (spectrum, channel) or "
            f"a 3-D array (row, column, channel) of numbers is needed. The file holds {listing(file) or 'no array'}."
        )
        raise ScanError(message)
    return _scan(path, item, group)


def listing(file: Any) -> str:
    """Name the first arrays of a file, with their sizes, and its links."""
    found: list[str] = []

    def keep(name: str, item: Any) -> bool | None:
        if isinstance(item, h5py.Dataset):
            found.append(f"/{name} {item.shape}")
        return True if len(found) > _LARGEST_LISTING else None

    file.visititems(keep)
    links = _links(file)
    if links:
        found.append(f"links, which are not followed ({', '.join(links[:8])})")
    return ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")


def _links(file: Any) -> list[str]:
    """Name the links of a file and what they lead to."""
    found: list[str] = []

    def keep(name: str, link: Any) -> bool | None:
        if isinstance(link, h5py.ExternalLink):
            found.append(f"/{name} to {link.path} in {link.filename}")
        elif isinstance(link, h5py.SoftLink):
            found.append(f"/{name} to {link.path}")
        return True if len(found) > _LARGEST_LISTING else None

    file.visititems_links(keep)
    return found


def _is_stack(item: Any) -> bool:
    return isinstance(item, h5py.Dataset) and item.ndim == 3 and item.dtype.kind in "uif" and 0 not in item.shape


def _is_list(item: Any) -> bool:
    return isinstance(item, h5py.Dataset) and item.ndim == 2 and item.dtype.kind in "uif" and 0 not in item.shape


def _is_same(first: Any, second: Any) -> bool:
    return first is not None and first.id == second.id


def _signal(group: Any) -> Any:
    """Return the counts that an NXdata group names; None where the group is something else."""
    if text(group.attrs.get("NX_class", "")) != "NXdata":
        return None
    named = group.get(text(group.attrs["signal"])) if "signal" in group.attrs else None
    if isinstance(named, h5py.Dataset):
        return named
    members = (group.get(name) for name in group)
    return next((own for own in members if isinstance(own, h5py.Dataset) and "signal" in own.attrs), None)


def _stacks(top: Any) -> list[tuple[Any, Any]]:
    """3-D arrays outside ground truth and results, with the NXdata group whose signal they are, if they are one.

    Those that NXdata or their name calls counts, if any are.
    """
    signals: list[tuple[Any, Any]] = []
    plain: list[tuple[Any, Any]] = []

    def keep(name: str, item: Any) -> None:
        if _NO_COUNTS & set(name.split("/")):
            return
        if isinstance(item, h5py.Group):
            signal = _signal(item)
            if _is_stack(signal):
                signals.append((signal, item))
        elif _is_stack(item):
            plain.append((item, None))

    top.visititems(keep)
    counted = [own for own in plain if own[0].name.rsplit("/", 1)[1].lower() in _COUNT_NAMES]
    unique: list[tuple[Any, Any]] = []
    for own in (*signals, *(counted if signals else counted or plain)):
        if not any(_is_same(own[0], other[0]) for other in unique):
            unique.append(own)
    return sorted(unique, key=lambda own: str(own[0].name))


def _axes(dataset: Any, group: Any) -> list[Any]:
    """Return the axis dataset of each dimension, None where the group names none."""
    if group is None:
        return [None] * 3
    own = dataset.attrs if "axes" in dataset.attrs else group.attrs
    names = np.ravel(own.get("axes", []))
    if names.size == 1:  # the older way: one text, parted by colons or commas
        names = np.array(text(names[0]).strip("[]").replace(",", ":").split(":"))
    found = [group.get(text(name).strip()) if text(name).strip() not in {"", "."} else None for name in names]
    return found if len(found) == dataset.ndim else [None] * 3


def _order(dataset: Any, axes: list[Any]) -> tuple[int, int, int]:
    """Rows, columns and channels: channels are where the energies are, else first in images, else last."""
    energies = [number for number, own in enumerate(axes) if units(own) in {"ev", "kev"}]
    if energies:
        channel = energies[0]
    else:
        interpretation = text(dataset.attrs.get("interpretation", dataset.parent.attrs.get("interpretation", "")))
        channel = 0 if interpretation == "image" else 2
    row, column = (number for number in range(3) if number != channel)
    return row, column, channel


def _scan(path: Path, dataset: Any, group: Any, name: str | None = None) -> Scan:
    axes = _axes(dataset, group)
    order = _order(dataset, axes)
    cube = Hdf5Cube(path, dataset, order)
    source = f"{path}::{cube.name}"
    n_row, n_column, n_channel = cube.shape
    axis = _energy_axis(dataset, axes[order[2]], n_channel)
    notes = short_text(_beside(dataset, "notes"))
    own = _axis_notes(dataset, axes[order[2]], axis, n_channel)
    own = () if any(word in notes for word in ("no energy calibration", "energy axis cannot be used")) else own
    present = numbers(_beside(dataset, "present"), n_row * n_column)
    step = numbers(_beside(dataset, "step_mm"), 2)
    by_axes = both(step_of(axes[order[0]], n_row)[0], step_of(axes[order[1]], n_column)[0])
    return Scan(
        lazy_counts(cube, source, 1 if dataset.chunks is None else int(dataset.chunks[order[0]])),
        axis=axis,
        name=name or f"{path.stem}{cube.name.replace('/', '_')}",
        source=source,
        format=FORMAT,
        live_time_s=_times(dataset, _LIVE_TIMES, cube.shape),
        real_time_s=_times(dataset, ("real_time_s", "elapsed_time", "real_time"), cube.shape),
        step_mm=by_axes if step is None else (float(step.flat[0]), float(step.flat[-1])),
        detector=short_text(_beside(dataset, "detector")),
        present=None if present is None or present.shape != cube.shape[:2] else present.astype(bool),
        notes=(*filter(None, notes.split("\n")), *cube.notes, *own, *_time_notes(dataset, cube.shape)),
    )


def _listed(path: Path, dataset: Any, shape: tuple[int, int] | None) -> Scan:
    """Read (spectrum, channel) as a scan of the given rows and columns, else as one row."""
    n_spectrum, n_channel = (int(size) for size in dataset.shape)
    rows, columns = shape or (1, n_spectrum)
    if rows * columns != n_spectrum:
        message = (
            f"Cannot read {path}::{dataset.name}: its {n_spectrum} spectra do not fill {rows} x {columns} pixels. "
            "Give rows and columns whose product is their number."
        )
        raise ScanError(message)
    cube = ListedCube(path, dataset, np.arange(n_spectrum).reshape(rows, columns))
    source = f"{path}::{dataset.name}"
    axis = _energy_axis(dataset, None, n_channel)
    told = () if shape else ("a list of spectra, read as one row: give rows and columns (--shape) for a map",)
    return Scan(
        lazy_counts(cube, source),
        axis=axis,
        name=f"{path.stem}{dataset.name.replace('/', '_')}",
        source=source,
        format=FORMAT,
        live_time_s=_times(dataset, _LIVE_TIMES, cube.shape),
        real_time_s=_times(dataset, ("real_time_s", "elapsed_time", "real_time"), cube.shape),
        notes=(
            *told,
            *cube.notes,
            *_axis_notes(dataset, None, axis, n_channel),
            *_time_notes(dataset, cube.shape),
        ),
    )


def _beside(dataset: Any, name: str) -> Any:
    """A dataset beside the counts or in their ``info`` group, as PyMca's stacks keep them."""
    own_name = dataset.name.rsplit("/", 1)[1]
    for place in ("", "info/", f"{own_name}_info/"):
        item = dataset.parent.get(place + name)
        if isinstance(item, h5py.Dataset):
            return item
    return None


def _energy_axis(dataset: Any, energies: Any, n_channel: int) -> EnergyAxis | None:
    """Gain and zero, PyMca's polynomial, the energies that NXdata names, or an array ``energy``."""
    gain, zero = numbers(_beside(dataset, "gain_kev"), 1), numbers(_beside(dataset, "zero_kev"), 1)
    if gain is not None:
        return axis_of_line(gain.flat[0], 0.0 if zero is None else zero.flat[0], n_channel)
    found = axis_of_polynomial(_beside(dataset, "calibration"), n_channel)
    if found is None and units(energies) in {"ev", "kev"}:
        found = axis_of_energies(energies, n_channel)
    return found or axis_of_energies(_beside(dataset, "energy"), n_channel)


def _axis_notes(dataset: Any, energies: Any, axis: EnergyAxis | None, n_channel: int) -> tuple[str, ...]:
    """Say that the file has no axis, or why the one that it has cannot be used."""
    if axis is not None:
        return ()
    gain = numbers(_beside(dataset, "gain_kev"), 1)
    named = energies if units(energies) in {"ev", "kev"} else None
    places = (_beside(dataset, "calibration"), named, _beside(dataset, "energy"))
    faults = [fault for item in places if (fault := fault_of_axis(item, n_channel))]
    if gain is not None:
        faults = [f"its gain_kev is {gain.flat[0]:g} keV a channel, or its zero_kev cannot be"]
    return (f"the file's energy axis cannot be used: {faults[0]}" if faults else "no energy calibration in the file",)


def _time_notes(dataset: Any, shape: tuple[int, int, int]) -> tuple[str, ...]:
    """Say which live times are unknown; of a file that was converted the note is there already."""
    faults = (fault_of_times(_beside(dataset, name), shape) for name in _LIVE_TIMES)
    return tuple(fault for fault in faults if fault)[:1]


def _times(dataset: Any, names: tuple[str, ...], shape: tuple[int, int, int]) -> Any:
    found = (pixel_seconds(_beside(dataset, name), shape) for name in names)
    return next((times for times in found if times is not None), None)
