"""Reader of files from XRF-Maps, the program of the Advanced Photon Source.

Specification:

- ``/MAPS/Spectra/mca_arr`` (version 10; formerly ``/MAPS/mca_arr``): counts (channel, row, column) as floats.
- ``/MAPS/Spectra/Energy_Calibration`` (formerly ``/MAPS/energy_calib``): zero, gain and quadratic term in keV.
- ``/MAPS/Spectra/Energy`` (formerly ``/MAPS/energy``): energies of the channels in keV.
- ``/MAPS/Spectra/Elapsed_Livetime``, ``Elapsed_Realtime`` (row, column): times in s.
- ``/MAPS/Scan/x_axis``, ``y_axis`` (formerly ``/MAPS/x_axis``, ``y_axis``): positions in the unit of the motors.
- Each file holds one detector. The files ``NAME.h50``, ``NAME.h51`` ... are the detectors of one scan, and ``NAME.h5``
  is their average.

Source: AdvancedPhotonSource/XRF-Maps, ``src/io/file/hdf5_io.cpp`` (``save_spectra_volume``), and for the older paths
the readers of mapspy and uProbeX.
"""

from pathlib import Path
from typing import Any

import h5py

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._energies import Axis
from underpaint.io._source import lazy_counts
from underpaint.io.hdf5._cube import Hdf5Cube
from underpaint.io.hdf5._facts import (
    axis_of_energies,
    axis_of_polynomial,
    pixel_seconds,
    step_of_axes,
    step_of_positions,
)
from underpaint.io.hdf5._links import follow
from underpaint.io.hdf5.layouts import Layout
from underpaint.io.readers import Format

FORMAT = Format(
    "HDF5 (XRF-Maps)",
    "HDF5 of XRF-Maps (APS)",
    endings=(
        ".h5",
        ".h50",
    ),
    recognised_by="/MAPS/Spectra/mca_arr or /MAPS/mca_arr inside",
    source="XRF-Maps source, src/io/file/hdf5_io.cpp",
    priority=42,
    parts=True,
)
_COUNTS_PATHS = ("MAPS/Spectra/mca_arr", "MAPS/mca_arr")
_CALIBRATION_PATHS = ("MAPS/Spectra/Energy_Calibration", "MAPS/energy_calib")
_ENERGY_PATHS = ("MAPS/Spectra/Energy", "MAPS/energy")


def _is_layout(file: Any) -> bool:
    """Return whether an HDF5 file has the layout of XRF-Maps."""
    return isinstance(_first_existing(file, _COUNTS_PATHS), h5py.Dataset)


def _read_scans(path: Path, file: Any) -> list[Scan]:
    """Read the detector of an XRF-Maps file as a scan.

    Raises
    ------
    ScanError
        The counts are not a (channel, row, column) array of numbers.
    """
    dataset = _first_existing(file, _COUNTS_PATHS)
    if dataset.ndim != 3 or dataset.dtype.kind not in "uif" or 0 in dataset.shape:
        raise ScanError(
            f"Cannot read {path}: it is an XRF-Maps file, but {dataset.name} is {dataset.shape}, not (channel, "
            "row, column)."
        )
    cube = Hdf5Cube(path, dataset, (1, 2, 0))
    source = f"{path}::{cube.name}"
    axis, axis_notes = _axis(file, cube.shape[2])
    step_mm, notes = _step_and_notes(file, cube.shape)
    return [
        Scan(
            lazy_counts(cube, source, 1 if dataset.chunks is None else int(dataset.chunks[1])),
            axis=axis,
            name=path.stem,
            source=source,
            format=FORMAT.name,
            live_time_s=pixel_seconds(follow(file, "MAPS/Spectra/Elapsed_Livetime"), cube.shape),
            real_time_s=pixel_seconds(follow(file, "MAPS/Spectra/Elapsed_Realtime"), cube.shape),
            step_mm=step_mm,
            detector=_detector_number(path),
            notes=(*notes, *cube.notes, *(axis_notes if axis is not None else ("no energy calibration in the file",))),
        )
    ]


def _first_existing(file: Any, object_paths: tuple[str, ...]) -> Any:
    return next(
        (
            hdf5_object
            for hdf5_object in (follow(file, object_path) for object_path in object_paths)
            if hdf5_object is not None
        ),
        None,
    )


def _axis(file: Any, n_channel: int) -> Axis:
    polynomial_axis = axis_of_polynomial(_first_existing(file, _CALIBRATION_PATHS), n_channel)
    return (
        polynomial_axis
        if polynomial_axis[0] is not None
        else axis_of_energies(_first_existing(file, _ENERGY_PATHS), n_channel)
    )


def _step_and_notes(file: Any, shape: tuple[int, int, int]) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    position_items = [
        _first_existing(file, (f"MAPS/Scan/{axis_name}_axis", f"MAPS/{axis_name}_axis")) for axis_name in "yx"
    ]
    (row_mm, row_step), (column_mm, column_step) = (
        step_of_positions(position_item, n_position)
        for position_item, n_position in zip(position_items, shape[:2], strict=True)
    )
    step_mm = step_of_axes(row_mm, column_mm)
    if step_mm is not None or row_step is None or column_step is None:
        return step_mm, ()
    return None, (
        f"pixels are {row_step:g} by {column_step:g} apart (rows by columns), in a unit that the file does not state",
    )


def _detector_number(path: Path) -> str:
    """Return the detector number after the ending ``.h5``, or "" for the average of the detectors."""
    file_number = path.suffix.lower().removeprefix(".h5")
    return file_number if file_number.isdigit() else ""


LAYOUT = Layout(_is_layout, _read_scans)
sniff, read = LAYOUT.sniff, LAYOUT.read
