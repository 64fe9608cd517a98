"""CRONO, the MA-XRF scanner of XGLab (Bruker): a list of spectra, and the selection for the pixels.

Layout (there is no public specification; the source is open readers):

- ``/XRF/Spectra`` (spectrum, channel): all spectra, recorded while the motors moved, so not on a regular grid.
- ``/XRF/SpectraSelectedIndex`` (row, column, 1 or more): the spectrum nearest to the centre of each map pixel.
- ``/XRF/EnergyVector`` (channel): energies, in keV.
- ``/XRF/LiveTimes``, ``/XRF/RealTimes`` (spectrum): used if an attribute ``units`` states the unit.
- ``/XRF/MotorsPositions`` (spectrum, 3): motor steps, of a length that the file does not state.

Source: the sources of cronomaxrf 0.0.12 (``gridify.py``, ``crono.py``) and its pages
https://fligt.github.io/cronomaxrf/.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._source import lazy_counts
from underpaint.io.hdf5._cube import ListedCube
from underpaint.io.hdf5._facts import axis_of_energies, read_numbers, unit_of
from underpaint.io.hdf5._links import follow, read_values
from underpaint.io.hdf5.layouts import Layout
from underpaint.io.readers import Format

FORMAT = Format(
    "HDF5 (XGLab CRONO)",
    "HDF5 of XGLab CRONO",
    endings=(
        ".hdf5",
        ".h5",
    ),
    recognised_by="/XRF/Spectra and /XRF/EnergyVector inside",
    source="unpublished; as in the sources of cronomaxrf 0.0.12",
    priority=41,
    parts=True,
)
SPECTRA = "/XRF/Spectra"
ENERGIES = "/XRF/EnergyVector"
SELECTION = "/XRF/SpectraSelectedIndex"
_S_PER_UNIT = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def _is_layout(file: Any) -> bool:
    """Return whether an HDF5 file has the groups of a CRONO scan."""
    return isinstance(follow(file, SPECTRA), h5py.Dataset) and follow(file, ENERGIES) is not None


def _read_scans(path: Path, file: Any) -> list[Scan]:
    """Arrange the selected spectra on a grid; the other spectra are skipped with a note.

    Raises
    ------
    ScanError
        Spectra or selection are missing or contradict each other.
    """
    spectra = follow(file, SPECTRA)
    if spectra.ndim != 2 or spectra.dtype.kind not in "uif":
        raise ScanError(
            f"Cannot read {path}: it is a CRONO scan, but {SPECTRA} is {spectra}, not (spectrum, channel) numbers."
        )
    index = _spectrum_indices(path, file, spectra.shape[0])
    cube = ListedCube(path, spectra, index)
    source = f"{path}::{SPECTRA}"
    axis, axis_notes = axis_of_energies(follow(file, ENERGIES), cube.shape[2])
    present = index >= 0
    return [
        Scan(
            lazy_counts(cube, source),
            axis=axis,
            name=path.stem,
            source=source,
            format=FORMAT.name,
            live_time_s=_times(follow(file, "XRF/LiveTimes"), index, spectra.shape[0]),
            real_time_s=_times(follow(file, "XRF/RealTimes"), index, spectra.shape[0]),
            present=None if present.all() else present,
            notes=(
                *_notes(file, index, spectra.shape[0], calibrated=axis is not None),
                *(() if axis is None else axis_notes),
                *cube.notes,
            ),
        )
    ]


def _spectrum_indices(path: Path, file: Any, n_spectra: int) -> NDArray[np.int64]:
    """Return the (row, column) indices of the pixels' spectra, -1 if missing."""
    item = follow(file, SELECTION)
    if not isinstance(item, h5py.Dataset) or item.ndim not in {2, 3} or item.dtype.kind not in "iu" or item.size == 0:
        raise ScanError(
            f"Cannot read {path}: it is a CRONO scan, but {SELECTION} (row, column, 1), which puts its {n_spectra} "
            f"spectra on a grid, is {'missing' if item is None else item}. Export it again with the maps computed."
        )
    n_pixel = item.shape[0] * item.shape[1]
    if n_pixel > 64 * max(n_spectra, 1):
        raise ScanError(
            f"Cannot read {path}: {SELECTION} has {n_pixel} pixels for {n_spectra} spectra, which is impossible."
        )
    values = read_values(item)
    index = np.asarray(values if item.ndim == 2 else values[:, :, 0], dtype=np.int64)
    if index.max() >= n_spectra or index.max() < 0:
        raise ScanError(
            f"Cannot read {path}: {SELECTION} points at spectrum {index.max()}; the file holds {n_spectra}."
        )
    return np.where(index >= 0, index, -1)


def _times(item: Any, index: NDArray[np.int64], n_spectra: int) -> NDArray[np.float64] | None:
    """Return the times of the selected spectra, in s; None if the unit is unknown."""
    values, unit = read_numbers(item, n_spectra), _S_PER_UNIT.get(unit_of(item))
    if values is None or values.size != n_spectra or unit is None:
        return None
    selected_times = np.where(index >= 0, values.ravel()[index], np.nan) * unit
    return None if not (selected_times > 0).any() else np.where(selected_times > 0, selected_times, np.nan)


def _notes(file: Any, index: NDArray[np.int64], n_spectra: int, *, calibrated: bool) -> tuple[str, ...]:
    n_used = np.unique(index[index >= 0]).size
    notes = [f"{n_used} of {n_spectra} spectra are used for the {index.size} pixels, as the scanner selected them"]
    if not calibrated:
        notes.append("no energy calibration in the file")
    times = {name: follow(file, f"XRF/{name}") for name in ("LiveTimes", "RealTimes")}
    without_unit = [name for name, item in times.items() if item is not None and not unit_of(item)]
    if without_unit:
        notes.append(f"{' and '.join(without_unit)} are in the file without a unit and not used")
    notes.append("motor positions are in steps of unknown length: the distance between pixels is unknown")
    return tuple(notes)


LAYOUT = Layout(_is_layout, _read_scans)
sniff, read = LAYOUT.sniff, LAYOUT.read
