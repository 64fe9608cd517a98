"""PyXRF, the program of the National Synchrotron Light Source II (BNL): one cube per detector, and the sum.

Specification:

- ``/xrfmap/det1/counts``, ``det2`` ... (row, column, channel): one detector each, if these were saved.
- ``/xrfmap/detsum/counts``: the sum, channel by channel (all detectors are tuned to the same energies).
- ``/xrfmap/positions/pos`` (2, row, column) with ``name`` (``x_pos``, ``y_pos``): in the motors' unit.
- ``/xrfmap/scalers/val`` (row, column, scaler) with ``name``.
- ``/xrfmap/scan_metadata``: attributes, as ``instrument_mono_incident_energy`` (keV).
- The energy axis is not in the file but in PyXRF's parameter file (0.01 keV per channel unless changed).

Source: NSLS-II/PyXRF, ``pyxrf/model/load_data_from_db.py`` (``write_db_to_hdf_base``) and ``docs/data_input.rst``.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._source import SAME_CHANNELS, lazy_counts
from underpaint.io.hdf5._cube import Hdf5Cube
from underpaint.io.hdf5._facts import as_text, axis_of_energies, read_numbers
from underpaint.io.hdf5._links import follow, read_values
from underpaint.io.hdf5.layouts import Layout
from underpaint.io.readers import Format

FORMAT = Format(
    "HDF5 (PyXRF)",
    "HDF5 of PyXRF (NSLS-II)",
    endings=(".h5",),
    recognised_by="/xrfmap/det*/counts inside",
    source="PyXRF source, pyxrf/model/load_data_from_db.py",
    priority=43,
    parts=True,
)
_TOP_GROUP = "xrfmap"
_MAX_NAMES = 64


def _is_layout(file: Any) -> bool:
    """Return whether an HDF5 file has the group and the counts of PyXRF."""
    return bool(_detectors(file))


def _read_scans(path: Path, file: Any) -> list[Scan]:
    """Read each detector, or the sum if only the sum was saved.

    Raises
    ------
    ScanError
        The counts are not (row, column, channel) numbers.
    """
    detectors = _detectors(file)
    selected = [name for name in detectors if name != "detsum"] or detectors
    return [_scan(path, file, name, is_single=len(selected) == 1) for name in selected]


def _detectors(file: Any) -> list[str]:
    top = follow(file, _TOP_GROUP)
    if not isinstance(top, h5py.Group):
        return []
    return sorted(
        name for name in top if name.startswith("det") and isinstance(follow(top, f"{name}/counts"), h5py.Dataset)
    )


def _scan(path: Path, file: Any, name: str, *, is_single: bool) -> Scan:
    dataset = follow(file, f"{_TOP_GROUP}/{name}/counts")
    if dataset.ndim != 3 or dataset.dtype.kind not in "uif" or 0 in dataset.shape:
        raise ScanError(
            f"Cannot read {path}: it is of PyXRF, but {dataset.name} is {dataset.shape}, not (row, column, channel)."
        )
    cube = Hdf5Cube(path, dataset)
    source = f"{path}::/{_TOP_GROUP}/{name}/counts"
    axis, axis_notes = axis_of_energies(follow(file, f"{_TOP_GROUP}/{name}/energy"), cube.shape[2])
    if axis is None:
        axis_notes = ("no energy calibration in the file; PyXRF's default is 0.01 keV per channel",)
    sum_note = ("the counts are the sum of all detectors, as PyXRF added them",) if name == "detsum" else ()
    incident_kev = _incident_kev(file)
    return Scan(
        lazy_counts(cube, source, 1 if dataset.chunks is None else int(dataset.chunks[0])),
        axis=axis,
        name=path.stem if is_single else f"{path.stem}_{name}",
        source=source,
        format=FORMAT.name,
        detector=name,
        notes=(*sum_note, *cube.notes, *axis_notes, *_positions(file, cube.shape)),
        metadata={SAME_CHANNELS: True, **({} if incident_kev is None else {"incident_energy_kev": incident_kev})},
    )


def _incident_kev(file: Any) -> float | None:
    group = follow(file, f"{_TOP_GROUP}/scan_metadata")
    value = None if group is None else group.attrs.get("instrument_mono_incident_energy")
    return float(value) if isinstance(value, int | float | np.number) else None


def _positions(file: Any, shape: tuple[int, int, int]) -> tuple[str, ...]:
    values = read_numbers(follow(file, f"{_TOP_GROUP}/positions/pos"), 4 * shape[0] * shape[1])
    if values is None or values.shape[1:] != shape[:2]:
        return ()
    names = _names(follow(file, f"{_TOP_GROUP}/positions/name"))
    steps = {name: _step(value, name) for name, value in zip(names, values, strict=False)}
    step_text = ", ".join(f"{name} {step:g}" for name, step in steps.items() if step)
    return (f"distances between pixels, in a unit that the file does not state: {step_text}",) if step_text else ()


def _names(item: Any) -> list[str]:
    if not isinstance(item, h5py.Dataset) or item.size > _MAX_NAMES:
        return []
    return [as_text(value) for value in np.ravel(read_values(item))]


def _step(positions: NDArray[np.float64], name: str) -> float:
    steps = np.abs(np.diff(positions, axis=1 if name.startswith("x") else 0))
    return float(np.nanmedian(steps)) if steps.size else 0.0


LAYOUT = Layout(_is_layout, _read_scans)
sniff, read = LAYOUT.sniff, LAYOUT.read
