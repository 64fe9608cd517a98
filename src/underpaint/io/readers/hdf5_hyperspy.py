"""Reader of HyperSpy's HDF5 files. :mod:`underpaint.io._hyperspy` describes their axes."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._detectors import LOCATION_KEY, ArrayLocation
from underpaint.io._hyperspy import EXPERIMENTS_GROUP, TIME_PATHS, read_axes, valid_seconds
from underpaint.io._source import MemoryCube, lazy_counts
from underpaint.io.hdf5._cube import Hdf5Cube, ListedCube, check_readable
from underpaint.io.hdf5._facts import as_text
from underpaint.io.hdf5._links import follow, read_values
from underpaint.io.hdf5.layouts import Layout
from underpaint.io.readers import Format

FORMAT = Format(
    "HDF5 (HyperSpy)",
    "HyperSpy signal, in HDF5 or zarr",
    endings=(
        ".hspy",
        ".zspy",
    ),
    recognised_by="Experiments/*/data with axis-0",
    source="documentation of rosettasciio: HSpy and ZSpy specification (2022-2026)",
    priority=40,
    parts=True,
)
_MAX_SPECTRUM_CHANNELS = 2**17


def _is_layout(file: Any) -> bool:
    """Return whether an HDF5 file contains a signal with HyperSpy's axes."""
    return bool(_signals(file))


def _read_scans(path: Path, file: Any) -> list[Scan]:
    """Read each signal as a separate scan.

    Raises
    ------
    ScanError
        No signal has exactly one channel dimension and at most two pixel dimensions.
    """
    scans = [
        scan
        for signal_name, signal_group in _signals(file).items()
        if (scan := _scan(path, signal_name, signal_group)) is not None
    ]
    if not scans:
        signal_list = ", ".join(
            f"{signal_name} {signal_group['data'].shape}" for signal_name, signal_group in _signals(file).items()
        )
        raise ScanError(
            f"Cannot read {path}: it is a HyperSpy file, but none of its signals ({signal_list}) has one dimension of "
            "energies and two of pixels at most. Save such a signal."
        )
    return scans


def _signals(file: Any) -> dict[str, Any]:
    experiments_group = follow(file, EXPERIMENTS_GROUP)
    signal_groups = (
        {signal_name: follow(experiments_group, signal_name) for signal_name in experiments_group}
        if isinstance(experiments_group, h5py.Group)
        else {}
    )
    return {
        signal_name: signal_group
        for signal_name, signal_group in signal_groups.items()
        if isinstance(signal_group, h5py.Group)
        and isinstance(follow(signal_group, "data"), h5py.Dataset)
        and isinstance(follow(signal_group, "axis-0"), h5py.Group)
    }


def _scan(path: Path, name: str, group: Any) -> Scan | None:
    dataset = follow(group, "data")
    axis_groups = [follow(group, f"axis-{dimension}") for dimension in range(dataset.ndim)]
    axis_attributes = [
        {attribute_name: _decode(attribute_value) for attribute_name, attribute_value in axis_group.attrs.items()}
        for axis_group in axis_groups
        if isinstance(axis_group, h5py.Group)
    ]
    signal = read_axes(axis_attributes, dataset.shape)
    if signal is None or dataset.dtype.kind not in "uif" or 0 in dataset.shape:
        return None
    cube: Hdf5Cube | ListedCube | MemoryCube
    if len(signal.dimension_order) == 3:
        cube = Hdf5Cube(
            path, dataset, (signal.dimension_order[0], signal.dimension_order[1], signal.dimension_order[2])
        )
    elif len(signal.dimension_order) == 2:
        cube = ListedCube(
            path, dataset, np.arange(dataset.shape[signal.dimension_order[0]])[None], signal.dimension_order
        )
    elif dataset.size > _MAX_SPECTRUM_CHANNELS:
        return None
    else:
        check_readable(path, dataset)
        cube = MemoryCube(read_values(dataset)[None, None])
    time_group = next(
        (axis_group for time_path in TIME_PATHS if isinstance(axis_group := follow(group, time_path), h5py.Group)), None
    )
    live_time, real_time = (
        None if time_group is None else valid_seconds(time_group.attrs.get(attribute_name))
        for attribute_name in ("live_time", "real_time")
    )
    source = f"{path}::/{EXPERIMENTS_GROUP}/{name}/data"
    return Scan(
        lazy_counts(cube, source, int(dataset.chunks[signal.dimension_order[0]]) if dataset.chunks else 1),
        axis=signal.axis,
        name=path.stem,
        source=source,
        format=FORMAT.name,
        live_time_s=None if live_time is None else np.full(cube.shape[:2], live_time),
        real_time_s=None if real_time is None else np.full(cube.shape[:2], real_time),
        step_mm=signal.step_mm,
        notes=(
            *getattr(cube, "notes", ()),
            *(signal.notes if signal.axis is not None else ("no energy calibration in the file",)),
        ),
        metadata={LOCATION_KEY: ArrayLocation(f"/{EXPERIMENTS_GROUP}/{name}")},
    )


def _decode(attribute: Any) -> Any:
    return as_text(attribute) if isinstance(attribute, bytes | str) else attribute


LAYOUT = Layout(_is_layout, _read_scans)
sniff, read = LAYOUT.sniff, LAYOUT.read
