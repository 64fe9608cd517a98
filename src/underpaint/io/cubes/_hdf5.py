"""Cubes in HDF5 files, of any layout: a 3-D dataset of numbers, and a list of as many wavelengths as bands.

The wavelengths are a 1-D dataset or an attribute whose name holds ``wavelength``, ``lambda`` or ``band``. The band
dimension is the one as long as they are. MATLAB files of version 7.3 are HDF5.

Source: The HDF Group, HDF5 file format 3.0.
"""

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.errors import ScanError
from underpaint.io.cubes._parts import CubeParts
from underpaint.io.hdf5._cube import Hdf5Cube
from underpaint.io.hdf5._facts import as_text, read_numbers, unit_of
from underpaint.io.hdf5._links import follow, walk
from underpaint.io.hdf5._stack import listing
from underpaint.io.hdf5.layouts import MAGIC, open_scan

_LIST_NAME = re.compile(r"wave_?length|lambda|band_?(cent|name)|^bands?$|^wl$", re.IGNORECASE)
_MAX_LIST = 2**16


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a file starts with the signature of HDF5."""
    return path.is_file() and head.startswith(MAGIC)


def read(path: Path, name: str | None, n_band: int | None) -> CubeParts:
    """Find the cube of a file, or read the dataset of a name.

    Parameters
    ----------
    path : Path
    name : str or None
        Path of the dataset in the file.
    n_band : int or None
        Length of a list of wavelengths beside the file.

    Raises
    ------
    ScanError
        It holds no 3-D dataset of numbers, or several.
    """
    with open_scan(path) as file:
        datasets = [item for _, item in walk(file, [])]
        dataset = _select_dataset(path, file, name, datasets)
        lists = _lists(dataset, datasets)
        fitting = [(values, unit) for values, unit in lists if values.size in dataset.shape]
        values, unit = fitting[0] if fitting else (None, "")
        band, note = _band_dimension(dataset.shape, n_band if values is None else values.size)
        rows, columns = (number for number in range(3) if number != band)
        cube = Hdf5Cube(path, dataset, (rows, columns, band))
        return CubeParts(cube, values, unit, notes=(*cube.notes, *note))


def _band_dimension(shape: tuple[int, ...], n_band: int | None) -> tuple[int, tuple[str, ...]]:
    """Return the dimension of the bands, and a note where more than one could be.

    The last one where bands are stored pixel by pixel, the first one where they are images; pictures are mostly larger
    than they have bands.
    """
    fitting = [number for number in (2, 0, 1) if shape[number] == n_band]
    if len(fitting) == 1:
        return fitting[0], ()
    chosen = fitting[0] if fitting else min((2, 0), key=lambda number: shape[number])
    size = " x ".join(map(str, shape))
    return chosen, (f"of {size} numbers the dimension {chosen + 1}, of {shape[chosen]}, is read as the bands",)


def _select_dataset(path: Path, file: Any, name: str | None, datasets: list[Any]) -> Any:
    if name is not None:
        item = follow(file, name)
        if not _is_cube(item):
            raise ScanError(
                f"Cannot read {path}::{name} as a cube: a 3-D dataset of numbers is needed. The file holds "
                f"{listing(file) or 'no array'}."
            )
        return item
    cubes = sorted((item for item in datasets if _is_cube(item)), key=lambda item: item.size)
    if not cubes:
        raise ScanError(
            f"Cannot read {path} as a cube: it holds no 3-D dataset of numbers, {listing(file) or 'nor any other'}."
        )
    if len(cubes) > 1 and cubes[-2].size == cubes[-1].size:
        names = ", ".join(str(item.name) for item in cubes[-2:])
        raise ScanError(f"Cannot read {path} as one cube: it holds several ({names}). Name one: FILE::NAME.")
    return cubes[-1]


def _is_cube(item: Any) -> bool:
    return isinstance(item, h5py.Dataset) and item.ndim == 3 and item.dtype.kind in "uif" and 0 not in item.shape


def _lists(dataset: Any, datasets: list[Any]) -> list[tuple[NDArray[np.float64], str]]:
    """Return lists of wavelengths with their units: attributes of the dataset first, then its neighbours'."""
    lists = []
    for owner in (dataset, dataset.parent, dataset.file):
        for key, value in owner.attrs.items():
            entries = np.asarray(value)
            if _LIST_NAME.search(key) and entries.dtype.kind in "iuf" and 1 < entries.size <= _MAX_LIST:
                unit = as_text(owner.attrs.get("wavelength_units", owner.attrs.get("wavelength_unit", "")))
                lists.append((entries.astype(np.float64).ravel(), unit))
    named = [item for item in datasets if _LIST_NAME.search(item.name.rsplit("/", 1)[1])]
    for item in sorted(named, key=lambda item: item.parent.name != dataset.parent.name):
        values = read_numbers(item, _MAX_LIST)
        if values is not None and values.size > 1 and max(item.shape) == item.size:  # MATLAB's lists are 1 x n
            lists.append((values.ravel(), unit_of(item)))
    return lists
