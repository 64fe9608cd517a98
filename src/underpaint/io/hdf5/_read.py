"""Any HDF5 file as scans: its layout is told by the groups and arrays in it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._source import told
from underpaint.io.hdf5._crono import is_crono, read_crono
from underpaint.io.hdf5._hyperspy import is_hyperspy, read_hyperspy
from underpaint.io.hdf5._links import READ_ERRORS, open_file
from underpaint.io.hdf5._pyxrf import is_pyxrf, read_pyxrf
from underpaint.io.hdf5._stack import read_named, read_stacks
from underpaint.io.hdf5._xrf_maps import is_xrf_maps, read_xrf_maps

_LAYOUTS: tuple[tuple[Callable[[Any], bool], Callable[[Path, Any], list[Scan]]], ...] = (
    (is_hyperspy, read_hyperspy),
    (is_crono, read_crono),
    (is_xrf_maps, read_xrf_maps),
    (is_pyxrf, read_pyxrf),
)


def read_hdf5(path: Path, name: str | None = None, shape: tuple[int, int] | None = None) -> list[Scan]:
    """Read the scans of an HDF5 file, one a detector, or the one at the path ``name`` inside it.

    No counts are read: they are when the scans' dask arrays are computed.

    Parameters
    ----------
    path : Path
        The file; opened for reading only.
    name : str or None
        A dataset, or a group that holds one.
    shape : (int, int) or None
        Rows and columns, for a named list of spectra (spectrum, channel).

    Raises
    ------
    ScanError
        The file is damaged, holds no 3-D array of numbers, or none of that name.
    """
    try:
        with open_file(path) as file:
            if name is not None:
                return _named(path, file, name, shape)
            for is_layout, read_layout in _LAYOUTS:
                if is_layout(file):
                    return read_layout(path, file)
            return read_stacks(path, file, shape)
    except ScanError:
        raise
    except READ_ERRORS as error:
        raise ScanError(
            f"Cannot read {path}: the HDF5 file is damaged or locked ({told(error)}). Copy it again."
        ) from error


def _named(path: Path, file: Any, name: str, shape: tuple[int, int] | None) -> list[Scan]:
    """Read one array, or those of a group; where a layout knows it, with what the layout says about it."""
    inside = "/" + name.strip("/")
    for is_layout, read_layout in _LAYOUTS:
        known = read_layout(path, file) if is_layout(file) else []
        chosen = [scan for scan in known if f"{scan.source}/".startswith(f"{path}::{inside}/")]
        if chosen:
            return chosen
    return read_named(path, file, name, shape)
