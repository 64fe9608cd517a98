"""Reader of cubes in HDF5 files of any layout. The cube is a 3-D dataset, with a list of its bands' wavelengths.

The list of wavelengths is a 1-D dataset or an attribute whose name contains ``wavelength``, ``lambda`` or ``band``. The
band dimension is the one whose length is the number of wavelengths. MATLAB files of version 7.3 are HDF5 files.

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
from underpaint.io.hdf5._stack import list_arrays
from underpaint.io.hdf5.layouts import MAGIC, open_scan

_WAVELENGTH_LIST_NAME = re.compile(r"wave_?length|lambda|band_?(cent|name)|^bands?$|^wl$", re.IGNORECASE)
_MAX_LIST_LENGTH = 2**16


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a file starts with the signature of HDF5."""
    return path.is_file() and head.startswith(MAGIC)


def read(path: Path, dataset_path: str | None, n_band: int | None) -> CubeParts:
    """Read the only 3-D dataset of a file, or the dataset at ``dataset_path``.

    Parameters
    ----------
    path : Path
    dataset_path : str or None
        Path of the dataset in the file.
    n_band : int or None
        Number of wavelengths in a separate file; None if there is no such file.

    Raises
    ------
    ScanError
        The file has no 3-D dataset of numbers, or it has several and none was chosen.
    """
    with open_scan(path) as file:
        datasets = [hdf5_object for _, hdf5_object in walk(file, [])]
        dataset = _select_dataset(path, file, dataset_path, datasets)
        wavelength_lists = _wavelength_lists(dataset, datasets)
        matching_lists = [
            (wavelengths, unit) for wavelengths, unit in wavelength_lists if wavelengths.size in dataset.shape
        ]
        wavelengths, unit = matching_lists[0] if matching_lists else (None, "")
        band_dimension, dimension_note = _band_dimension(
            dataset.shape, n_band if wavelengths is None else wavelengths.size
        )
        rows, columns = (dimension for dimension in range(3) if dimension != band_dimension)
        cube = Hdf5Cube(path, dataset, (rows, columns, band_dimension))
        return CubeParts(cube, wavelengths, unit, notes=(*cube.notes, *dimension_note))


def _band_dimension(shape: tuple[int, ...], n_band: int | None) -> tuple[int, tuple[str, ...]]:
    """Return the index of the band dimension, and a note if another dimension could be the bands.

    If several dimensions have the length ``n_band``, the last one is preferred, then the first. If none has this
    length, the shorter of the first and last dimension is assumed. Most images have more rows than bands.
    """
    matching_dimensions = [dimension for dimension in (2, 0, 1) if shape[dimension] == n_band]
    if len(matching_dimensions) == 1:
        return matching_dimensions[0], ()
    assumed_dimension = (
        matching_dimensions[0] if matching_dimensions else min((2, 0), key=lambda dimension: shape[dimension])
    )
    shape_text = " x ".join(map(str, shape))
    return assumed_dimension, (
        f"dimension {assumed_dimension + 1} of the dataset of {shape_text} numbers is read as the bands",
    )


def _select_dataset(path: Path, file: Any, dataset_path: str | None, datasets: list[Any]) -> Any:
    if dataset_path is not None:
        dataset_item = follow(file, dataset_path)
        if not _is_cube(dataset_item):
            raise ScanError(
                f"Cannot read {path}::{dataset_path} as a cube: a 3-D dataset of numbers is needed. The file holds "
                f"{list_arrays(file) or 'no array'}."
            )
        return dataset_item
    cubes = sorted(
        (dataset_item for dataset_item in datasets if _is_cube(dataset_item)),
        key=lambda dataset_item: dataset_item.size,
    )
    if not cubes:
        raise ScanError(
            f"Cannot read {path} as a cube: it holds no 3-D dataset of numbers, {list_arrays(file) or 'nor any other'}."
        )
    if len(cubes) > 1 and cubes[-2].size == cubes[-1].size:
        cube_paths = ", ".join(str(dataset_item.name) for dataset_item in cubes[-2:])
        raise ScanError(f"Cannot read {path} as one cube: it holds several ({cube_paths}). Name one: FILE::NAME.")
    return cubes[-1]


def _is_cube(hdf5_object: Any) -> bool:
    return (
        isinstance(hdf5_object, h5py.Dataset)
        and hdf5_object.ndim == 3
        and hdf5_object.dtype.kind in "uif"
        and 0 not in hdf5_object.shape
    )


def _wavelength_lists(dataset: Any, datasets: list[Any]) -> list[tuple[NDArray[np.float64], str]]:
    """Return the lists of wavelengths and their units. Lists in attributes precede those in datasets."""
    wavelength_lists = []
    for attribute_owner in (dataset, dataset.parent, dataset.file):
        for attribute_name, attribute_value in attribute_owner.attrs.items():
            list_values = np.asarray(attribute_value)
            if (
                _WAVELENGTH_LIST_NAME.search(attribute_name)
                and list_values.dtype.kind in "iuf"
                and 1 < list_values.size <= _MAX_LIST_LENGTH
            ):
                unit = as_text(
                    attribute_owner.attrs.get("wavelength_units", attribute_owner.attrs.get("wavelength_unit", ""))
                )
                wavelength_lists.append((list_values.astype(np.float64).ravel(), unit))
    named_datasets = [
        list_dataset for list_dataset in datasets if _WAVELENGTH_LIST_NAME.search(list_dataset.name.rsplit("/", 1)[1])
    ]
    for list_dataset in sorted(
        named_datasets, key=lambda list_dataset: list_dataset.parent.name != dataset.parent.name
    ):
        wavelengths = read_numbers(list_dataset, _MAX_LIST_LENGTH)
        if (
            wavelengths is not None and wavelengths.size > 1 and max(list_dataset.shape) == list_dataset.size
        ):  # MATLAB writes lists with the shape (1, n)
            wavelength_lists.append((wavelengths.ravel(), unit_of(list_dataset)))
    return wavelength_lists
