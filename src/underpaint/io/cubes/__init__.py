"""Block-by-block reading of spectral image cubes and their wavelengths, from ENVI, HDF5 and TIFF files.

The stored values are reflectance or a camera's counts. :mod:`underpaint.reflectance.cube` converts counts to
reflectance.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import ScanError
from underpaint.io._list_files import list_beside, read_list
from underpaint.io._source import Cube, first_bytes
from underpaint.io.cubes import _envi, _hdf5, _tiff
from underpaint.io.cubes._parts import CubeParts
from underpaint.io.cubes._wavelengths import LIST_NAMES, find_unit, wavelengths_in_nm
from underpaint.io.load import HEAD_BYTES, guess_file_type, split_location

__all__ = ["StoredCube", "open_cube"]

MAX_BANDS = 8192
_READERS = (_hdf5, _tiff, _envi)


@dataclass(frozen=True)
class StoredCube:
    """Spectral image cube in a file, with its wavelengths and metadata.

    Parameters
    ----------
    cube : Cube
        Reads the values of a rectangle of pixels in all bands.
    wavelength_nm : (n_band,) array or None
        Wavelengths of the bands in nm, in the stored order; None if unknown.
    bad_band : (n_band,) bool array
        True for the bands that the file marks as bad.
    scale : float or None
        Stored value for a reflectance of 1; None if the file does not state it.
    missing : float or None
        Stored value that marks missing data; None if the file does not state it.
    source : str
    notes : tuple of str
        Notes for the user on assumptions, for example about units.
    """

    cube: Cube
    wavelength_nm: NDArray[np.float64] | None
    bad_band: NDArray[np.bool_]
    scale: float | None
    missing: float | None
    source: str
    notes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of rows, columns and bands."""
        return self.cube.shape


def open_cube(location: str | Path, n_band: int | None = None) -> StoredCube:
    """Open a spectral image cube, whose values are read only when needed.

    Parameters
    ----------
    location : str or Path
        An ENVI header or its data file, an HDF5 file, a TIFF stack, or a folder of TIFF images. In ``FILE::NAME``, NAME
        is a dataset of an HDF5 file. For other formats, NAME is the list of wavelengths.
    n_band : int or None
        Number of bands, such as that of a reference cube; None if unknown.

    Raises
    ------
    ScanError
        The file does not exist, has an unknown format, or is damaged or inconsistent.

    Notes
    -----
    The wavelengths are in the cube's file or in a text file, which has one number in nm or um per band. A text file
    with wavelengths is in the folder of the cube, and is called ``FILE.txt``, ``FILE.csv``, ``FILE_wavelengths.txt`` or
    ``wavelengths.txt``.
    """
    path, name = split_location(location)
    if not (path.is_file() or path.is_dir()):
        raise ScanError(f"Cannot read {location}: it is a pipe or a device, not a file. Save the cube in a file first.")
    head = first_bytes(path, HEAD_BYTES) if path.is_file() else b""
    if path.is_file() and not head:
        raise ScanError(f"Cannot read {path}: the file is empty. Copy the file from the camera again.")
    reader = next((reader for reader in _READERS if reader.sniff(path, head)), None)
    if reader is None:
        fault_text = "the folder holds no stack of TIFF images." if path.is_dir() else guess_file_type(head)
        raise ScanError(
            f"Cannot read {path} as a cube: {fault_text} Known are ENVI (header and data), HDF5 and TIFF stacks."
        )
    folder = path if path.is_dir() else path.parent
    wavelength_file = list_beside(folder, path.stem, None if reader is _hdf5 else name, str(path), LIST_NAMES)
    wavelengths, first_lines = read_list(wavelength_file, LIST_NAMES) if wavelength_file is not None else (None, [])
    unit = find_unit(" ".join(first_lines))
    cube_parts = reader.read(path, name, n_band if wavelengths is None else wavelengths.size)
    n_band = cube_parts.cube.shape[2]
    if n_band > MAX_BANDS:
        raise ScanError(
            f"Cannot use {path} as a cube: it has {n_band} bands, and cameras have at most {MAX_BANDS}. Check which "
            "dimension holds the bands, and name the dataset: FILE::NAME."
        )
    notes, wavelength_nm = cube_parts.notes, None
    if cube_parts.wavelength is not None and (name is None or reader is _hdf5):
        wavelengths, unit, wavelength_file = cube_parts.wavelength, cube_parts.unit, None
    if wavelengths is not None:
        _check_length(wavelengths.size, n_band, wavelength_file or path)
        wavelength_nm, unit_notes = wavelengths_in_nm(wavelengths, unit, str(wavelength_file or path))
        notes = (*notes, *((f"wavelengths from {wavelength_file.name}",) if wavelength_file else ()), *unit_notes)
    return StoredCube(
        cube_parts.cube,
        wavelength_nm,
        _bad_bands(cube_parts, path),
        cube_parts.scale,
        cube_parts.missing,
        str(location),
        notes,
    )


def _bad_bands(cube_parts: CubeParts, path: Path) -> NDArray[np.bool_]:
    if cube_parts.bad_band is None:
        return np.zeros(cube_parts.cube.shape[2], dtype=bool)
    _check_length(cube_parts.bad_band.size, cube_parts.cube.shape[2], path, "marks of bad bands (bbl)")
    return cube_parts.bad_band


def _check_length(n_listed: int, n_band: int, list_file: Path, quantity_name: str = "wavelengths") -> None:
    if n_listed != n_band:
        raise ScanError(
            f"Cannot use {list_file}: it lists {n_listed} {quantity_name} for {n_band} bands; as many as bands are "
            "needed. Correct "
            "the list, or the number of bands."
        )
