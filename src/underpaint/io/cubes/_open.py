"""The reader that a cube's content asks for, and what all of them check."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import ScanError
from underpaint.io._list_files import list_beside, read_list
from underpaint.io._source import Cube, first_bytes
from underpaint.io.cubes import _envi, _hdf5, _tiff
from underpaint.io.cubes._parts import CubeParts
from underpaint.io.cubes._wavelengths import LISTED, in_nm, unit_in
from underpaint.io.load import HEAD_BYTES, guess_file_type, split_location

MAX_BANDS = 8192
_READERS = (_hdf5, _tiff, _envi)


@dataclass(frozen=True)
class StoredCube:
    """A cube as it is stored.

    Parameters
    ----------
    cube : Cube
        Reads (row, column, band) rectangles.
    wavelength_nm : (n_band,) array or None
        Of the bands in the order stored; None where neither the file nor a list beside it says.
    bad_band : (n_band,) bool array
        Bands that the file itself declares bad.
    scale : float or None
        Stored value of a reflectance of 1, where the file says.
    missing : float or None
        Stored value that stands for none, where the file says.
    source : str
    notes : tuple of str
        What was assumed.
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
        """Rows, columns and bands."""
        return self.cube.shape


def open_cube(location: str | Path, n_band: int | None = None) -> StoredCube:
    """Open a cube of spectral images; its values are read when they are needed.

    Parameters
    ----------
    location : str or Path
        An ENVI header or its data file, an HDF5 file, a TIFF stack or a folder of TIFF images. ``FILE::NAME`` picks a
        dataset of an HDF5 file; of the others it names the list of wavelengths.
    n_band : int or None
        Number of bands where it is known, as of a reference.

    Raises
    ------
    ScanError
        It does not exist, is of another kind, damaged, or contradicts itself.

    Notes
    -----
    Wavelengths come from the file, or from a text file of one number a band: ``FILE.txt``, ``FILE.csv``,
    ``FILE_wavelengths.txt`` or ``wavelengths.txt`` beside it; nm or um.
    """
    path, name = split_location(location)
    if not (path.is_file() or path.is_dir()):
        raise ScanError(f"Cannot read {location}: it is a pipe or a device, not a file. Save the cube in a file first.")
    head = first_bytes(path, HEAD_BYTES) if path.is_file() else b""
    if path.is_file() and not head:
        raise ScanError(f"Cannot read {path}: the file is empty. Copy it from the camera again.")
    reader = next((reader for reader in _READERS if reader.sniff(path, head)), None)
    if reader is None:
        kind = "the folder holds no stack of TIFF images." if path.is_dir() else guess_file_type(head)
        raise ScanError(f"Cannot read {path} as a cube: {kind} Known are ENVI (header and data), HDF5 and TIFF stacks.")
    folder = path if path.is_dir() else path.parent
    listed = list_beside(folder, path.stem, None if reader is _hdf5 else name, str(path), LISTED)
    values, first_lines = read_list(listed, LISTED) if listed is not None else (None, [])
    unit = unit_in(" ".join(first_lines))
    parts = reader.read(path, name, n_band if values is None else values.size)
    n_band = parts.cube.shape[2]
    if n_band > MAX_BANDS:
        raise ScanError(
            f"Cannot use {path} as a cube: it has {n_band} bands, and cameras have at most {MAX_BANDS}. Check which of "
            "its dimensions is which, and name the dataset: FILE::NAME."
        )
    notes, wavelength_nm = parts.notes, None
    if parts.wavelength is not None and (name is None or reader is _hdf5):
        values, unit, listed = parts.wavelength, parts.unit, None
    if values is not None:
        _check_number(values.size, n_band, listed or path)
        wavelength_nm, assumed = in_nm(values, unit, str(listed or path))
        notes = (*notes, *((f"wavelengths from {listed.name}",) if listed else ()), *assumed)
    return StoredCube(parts.cube, wavelength_nm, _bad(parts, path), parts.scale, parts.missing, str(location), notes)


def _bad(parts: CubeParts, path: Path) -> NDArray[np.bool_]:
    if parts.bad_band is None:
        return np.zeros(parts.cube.shape[2], dtype=bool)
    _check_number(parts.bad_band.size, parts.cube.shape[2], path, "marks of bad bands (bbl)")
    return parts.bad_band


def _check_number(number: int, n_band: int, listed: Path, kind: str = "wavelengths") -> None:
    if number != n_band:
        raise ScanError(
            f"Cannot use {listed}: it lists {number} {kind} for {n_band} bands; as many as bands are needed. Correct "
            "the list, or the number of bands."
        )
