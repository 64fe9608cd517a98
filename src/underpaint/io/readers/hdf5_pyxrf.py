"""Reader of files from PyXRF, the program of the National Synchrotron Light Source II (BNL).

Specification:

- ``/xrfmap/det1/counts``, ``det2`` ... (row, column, channel): counts of each detector, which may be absent.
- ``/xrfmap/detsum/counts``: sum of the detectors, channel by channel. All detectors have the same energy axis.
- ``/xrfmap/positions/pos`` (2, row, column) with ``name`` (``x_pos``, ``y_pos``): positions in the unit of the motors.
- ``/xrfmap/scalers/val`` (row, column, scaler) with ``name``: counts of the scalers.
- ``/xrfmap/scan_metadata``: attributes such as ``instrument_mono_incident_energy`` (keV).
- The HDF5 file does not contain the energy axis. PyXRF stores it in a parameter file (default 0.01 keV per channel).

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
    """Return whether an HDF5 file has the layout of PyXRF."""
    return bool(_detector_names(file))


def _read_scans(path: Path, file: Any) -> list[Scan]:
    """Read each detector as a scan, or the sum of the detectors if the file contains only the sum.

    Raises
    ------
    ScanError
        The counts are not a (row, column, channel) array of numbers.
    """
    detector_names = _detector_names(file)
    selected_names = [detector_name for detector_name in detector_names if detector_name != "detsum"] or detector_names
    return [_scan(path, file, detector_name, is_single=len(selected_names) == 1) for detector_name in selected_names]


def _detector_names(file: Any) -> list[str]:
    top_group = follow(file, _TOP_GROUP)
    if not isinstance(top_group, h5py.Group):
        return []
    return sorted(
        group_name
        for group_name in top_group
        if group_name.startswith("det") and isinstance(follow(top_group, f"{group_name}/counts"), h5py.Dataset)
    )


def _scan(path: Path, file: Any, detector_name: str, *, is_single: bool) -> Scan:
    dataset = follow(file, f"{_TOP_GROUP}/{detector_name}/counts")
    if dataset.ndim != 3 or dataset.dtype.kind not in "uif" or 0 in dataset.shape:
        raise ScanError(
            f"Cannot read {path}: it is a PyXRF file, but {dataset.name} is {dataset.shape}, not (row, column, "
            "channel)."
        )
    cube = Hdf5Cube(path, dataset)
    source = f"{path}::/{_TOP_GROUP}/{detector_name}/counts"
    axis, axis_notes = axis_of_energies(follow(file, f"{_TOP_GROUP}/{detector_name}/energy"), cube.shape[2])
    if axis is None:
        axis_notes = ("no energy calibration in the file; PyXRF's default is 0.01 keV per channel",)
    sum_note = ("the counts are the sum of all detectors, added by PyXRF",) if detector_name == "detsum" else ()
    incident_kev = _incident_kev(file)
    return Scan(
        lazy_counts(cube, source, 1 if dataset.chunks is None else int(dataset.chunks[0])),
        axis=axis,
        name=path.stem if is_single else f"{path.stem}_{detector_name}",
        source=source,
        format=FORMAT.name,
        detector=detector_name,
        notes=(*sum_note, *cube.notes, *axis_notes, *_position_notes(file, cube.shape)),
        metadata={SAME_CHANNELS: True, **({} if incident_kev is None else {"incident_energy_kev": incident_kev})},
    )


def _incident_kev(file: Any) -> float | None:
    metadata_group = follow(file, f"{_TOP_GROUP}/scan_metadata")
    energy_kev = None if metadata_group is None else metadata_group.attrs.get("instrument_mono_incident_energy")
    return float(energy_kev) if isinstance(energy_kev, int | float | np.number) else None


def _position_notes(file: Any, shape: tuple[int, int, int]) -> tuple[str, ...]:
    axis_positions = read_numbers(follow(file, f"{_TOP_GROUP}/positions/pos"), 4 * shape[0] * shape[1])
    if axis_positions is None or axis_positions.shape[1:] != shape[:2]:
        return ()
    axis_names = _axis_names(follow(file, f"{_TOP_GROUP}/positions/name"))
    median_steps = {
        axis_name: _median_step(positions, axis_name)
        for axis_name, positions in zip(axis_names, axis_positions, strict=False)
    }
    step_text = ", ".join(
        f"{axis_name} {median_step:g}" for axis_name, median_step in median_steps.items() if median_step
    )
    return (f"distances between pixels, in a unit that the file does not state: {step_text}",) if step_text else ()


def _axis_names(dataset: Any) -> list[str]:
    if not isinstance(dataset, h5py.Dataset) or dataset.size > _MAX_NAMES:
        return []
    return [as_text(axis_name) for axis_name in np.ravel(read_values(dataset))]


def _median_step(positions: NDArray[np.float64], axis_name: str) -> float:
    position_steps = np.abs(np.diff(positions, axis=1 if axis_name.startswith("x") else 0))
    return float(np.nanmedian(position_steps)) if position_steps.size else 0.0


LAYOUT = Layout(_is_layout, _read_scans)
sniff, read = LAYOUT.sniff, LAYOUT.read
