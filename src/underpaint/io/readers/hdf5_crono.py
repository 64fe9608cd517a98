"""Reader of files from CRONO, the MA-XRF scanner of XGLab (Bruker).

Layout (no specification is published):

- ``/XRF/Spectra`` (spectrum, channel): all spectra, which are not on a regular grid, since the motors move during each
  spectrum.
- ``/XRF/SpectraSelectedIndex`` (row, column, 1 or more): index of the spectrum nearest to the centre of each pixel.
- ``/XRF/EnergyVector`` (channel): energies of the channels in keV.
- ``/XRF/LiveTimes``, ``/XRF/RealTimes`` (spectrum): times, which are used only if the attribute ``units`` is present.
- ``/XRF/MotorsPositions`` (spectrum, 3): positions in motor steps. The file does not state the length of a step.

Source: the source code of cronomaxrf 0.0.12 (``gridify.py``, ``crono.py``) and its pages
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
SPECTRA_PATH = "/XRF/Spectra"
ENERGIES_PATH = "/XRF/EnergyVector"
SELECTION_PATH = "/XRF/SpectraSelectedIndex"
_S_PER_UNIT = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def _is_layout(file: Any) -> bool:
    """Return whether an HDF5 file has the layout of CRONO."""
    return isinstance(follow(file, SPECTRA_PATH), h5py.Dataset) and follow(file, ENERGIES_PATH) is not None


def _read_scans(path: Path, file: Any) -> list[Scan]:
    """Arrange the spectra that the file selects for the pixels on a grid. All other spectra are skipped, with a note.

    Raises
    ------
    ScanError
        The spectra or the selected indices are missing, or they contradict each other.
    """
    spectra = follow(file, SPECTRA_PATH)
    if spectra.ndim != 2 or spectra.dtype.kind not in "uif":
        raise ScanError(
            f"Cannot read {path}: it is a CRONO scan, but {SPECTRA_PATH} is {spectra}, not (spectrum, channel) numbers."
        )
    spectrum_indices = _spectrum_indices(path, file, spectra.shape[0])
    cube = ListedCube(path, spectra, spectrum_indices)
    source = f"{path}::{SPECTRA_PATH}"
    axis, axis_notes = axis_of_energies(follow(file, ENERGIES_PATH), cube.shape[2])
    is_present = spectrum_indices >= 0
    return [
        Scan(
            lazy_counts(cube, source),
            axis=axis,
            name=path.stem,
            source=source,
            format=FORMAT.name,
            live_time_s=_selected_times(follow(file, "XRF/LiveTimes"), spectrum_indices, spectra.shape[0]),
            real_time_s=_selected_times(follow(file, "XRF/RealTimes"), spectrum_indices, spectra.shape[0]),
            present=None if is_present.all() else is_present,
            notes=(
                *_notes(file, spectrum_indices, spectra.shape[0], is_calibrated=axis is not None),
                *(() if axis is None else axis_notes),
                *cube.notes,
            ),
        )
    ]


def _spectrum_indices(path: Path, file: Any, n_spectra: int) -> NDArray[np.int64]:
    """Return the (row, column) index of each pixel's spectrum, or -1 for pixels without a spectrum."""
    selection = follow(file, SELECTION_PATH)
    if (
        not isinstance(selection, h5py.Dataset)
        or selection.ndim not in {2, 3}
        or selection.dtype.kind not in "iu"
        or selection.size == 0
    ):
        raise ScanError(
            f"Cannot read {path}: it is a CRONO scan, but {SELECTION_PATH} (row, column, 1), which puts its "
            f"{n_spectra} "
            f"spectra on a grid, is {'missing' if selection is None else selection}. Export the file again with "
            "the maps "
            "computed."
        )
    n_pixel = selection.shape[0] * selection.shape[1]
    if n_pixel > 64 * max(n_spectra, 1):
        raise ScanError(
            f"Cannot read {path}: {SELECTION_PATH} has {n_pixel} pixels for {n_spectra} spectra, which is impossible."
        )
    selected_indices = read_values(selection)
    spectrum_indices = np.asarray(
        selected_indices if selection.ndim == 2 else selected_indices[:, :, 0], dtype=np.int64
    )
    if spectrum_indices.max() >= n_spectra or spectrum_indices.max() < 0:
        raise ScanError(
            f"Cannot read {path}: {SELECTION_PATH} points at spectrum {spectrum_indices.max()}; the file holds "
            f"{n_spectra}."
        )
    return np.where(spectrum_indices >= 0, spectrum_indices, -1)


def _selected_times(dataset: Any, spectrum_indices: NDArray[np.int64], n_spectra: int) -> NDArray[np.float64] | None:
    """Return the time of each pixel's spectrum in s, or None if the unit is unknown."""
    stored_times, seconds_per_unit = read_numbers(dataset, n_spectra), _S_PER_UNIT.get(unit_of(dataset))
    if stored_times is None or stored_times.size != n_spectra or seconds_per_unit is None:
        return None
    selected_times = np.where(spectrum_indices >= 0, stored_times.ravel()[spectrum_indices], np.nan) * seconds_per_unit
    return None if not (selected_times > 0).any() else np.where(selected_times > 0, selected_times, np.nan)


def _notes(file: Any, spectrum_indices: NDArray[np.int64], n_spectra: int, *, is_calibrated: bool) -> tuple[str, ...]:
    n_used_spectrum = np.unique(spectrum_indices[spectrum_indices >= 0]).size
    notes = [
        f"{n_used_spectrum} of {n_spectra} spectra are used for the {spectrum_indices.size} pixels, as the scanner "
        "selected them"
    ]
    if not is_calibrated:
        notes.append("no energy calibration in the file")
    time_datasets = {dataset_name: follow(file, f"XRF/{dataset_name}") for dataset_name in ("LiveTimes", "RealTimes")}
    names_without_unit = [
        dataset_name for dataset_name, dataset in time_datasets.items() if dataset is not None and not unit_of(dataset)
    ]
    if names_without_unit:
        notes.append(f"{' and '.join(names_without_unit)} are in the file without a unit and not used")
    notes.append("motor positions are in steps of unknown length: the distance between pixels is unknown")
    return tuple(notes)


LAYOUT = Layout(_is_layout, _read_scans)
sniff, read = LAYOUT.sniff, LAYOUT.read
