"""Wavelengths of a cube's bands: stated in nm, um or Angstrom, or without a unit; listed in the file or beside it."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import ScanError
from underpaint.io._energies import last_number
from underpaint.io._source import entries_inside, try_read

LOWEST_NM, HIGHEST_NM = 200.0, 16000.0
"""Bands outside are not those of a reflectance camera."""
_LONGEST_UM = 25.0
"""Numbers up to this are um where no unit is stated, above they are nm."""
_UNITS_NM = {
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 1.0),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre"), 1e3),
    **dict.fromkeys(("a", "å", "angstrom", "angstroms"), 0.1),
}
_NO_UNIT = {"", "unknown", "none", "index", "n/a"}
_NAMES = ("{0}.txt", "{0}.csv", "{0}_wavelengths.txt", "{0}_wavelength.txt", "wavelengths.txt", "wavelength.txt")
_MAX_LIST_BYTES = 2**22


def in_nm(values: NDArray[np.float64], unit: str, source: str) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return wavelengths in nm, with notes on what was assumed.

    Parameters
    ----------
    values : (n_band,) array
        As stored.
    unit : str
        As stated; "" where it is not.
    source : str
        For messages.

    Raises
    ------
    ScanError
        A value is no number, the unit is no length, or the wavelengths are not those of a camera.
    """
    stated = unit.strip(" {}\"'").lower()
    if stated not in _UNITS_NM and stated not in _NO_UNIT:
        raise ScanError(
            f"Cannot read the wavelengths of {source}: their unit is {unit!r}; nm, um and Angstrom are read. Convert "
            "them, or put a list in nm beside the file (wavelengths.txt)."
        )
    if not np.isfinite(values).all() or (values <= 0).any():
        raise ScanError(
            f"Cannot read the wavelengths of {source}: band {int(np.argmin(np.isfinite(values) & (values > 0)))} has "
            "none above 0. Correct it in the file, or put a list of all wavelengths beside it (wavelengths.txt)."
        )
    by_size = "um" if values.max() <= _LONGEST_UM else "nm"
    nm = values * _UNITS_NM.get(stated, _UNITS_NM[by_size])
    notes: tuple[str, ...] = ()
    if not _plausible(nm):
        nm = values * _UNITS_NM[by_size]
        notes = (f"the wavelengths are stated in {stated or 'no unit'}, and are {by_size} by their size",)
    elif stated in _NO_UNIT:
        notes = (f"wavelengths without a unit are taken as {by_size}, by their size",)
    if not _plausible(nm):
        raise ScanError(
            f"Cannot use the wavelengths of {source}: they run from {values.min():g} to {values.max():g} "
            f"{stated or '(no unit)'}; bands of a camera lie between {LOWEST_NM:g} and {HIGHEST_NM:g} nm. Put a list "
            "of the right ones beside the file (wavelengths.txt)."
        )
    return nm, notes


def _plausible(nm: NDArray[np.float64]) -> bool:
    return bool(nm.min() >= LOWEST_NM and nm.max() <= HIGHEST_NM)


def list_beside(folder: Path, stem: str, name: str | None, source: str) -> Path | None:
    """Return the list of wavelengths beside a cube, or the one that was named; None without one.

    Raises
    ------
    ScanError
        The named one does not exist, or one is a link to another place.
    """
    if name is not None:
        listed = next((path for path in (folder / name, Path(name)) if path.is_file()), None)
        if listed is None:
            raise ScanError(
                f"Cannot read {source}: the list of wavelengths {name} is neither in its folder nor a path. Correct it."
            )
        return listed
    candidates = (folder / pattern.format(stem) for pattern in _NAMES)
    return next(iter(entries_inside(folder, [path for path in candidates if path.is_file()])), None)


def read_list(path: Path) -> tuple[NDArray[np.float64], str]:
    """Return the numbers of a text file, the last of each line, and the unit that its first lines state.

    Raises
    ------
    ScanError
        It is too large for a list of wavelengths, or holds no number.
    """
    if path.stat().st_size > _MAX_LIST_BYTES:
        raise ScanError(f"Cannot read {path}: it is too large for a list of wavelengths. Give a number for each line.")
    lines = try_read(path.read_bytes, str(path)).decode("utf-8", "replace").splitlines()
    values = [value for value in map(last_number, lines) if value is not None]
    if not values:
        raise ScanError(f"Cannot read {path}: it holds no wavelengths. Write one number in each line, nm or um.")
    return np.array(values), _unit_of(lines[:3])


def _unit_of(lines: Sequence[str]) -> str:
    words = re.split(r"[\s,;()\[\]{}:/]+", " ".join(lines).lower())
    return next((word for word in words if word in _UNITS_NM and word != "a"), "")
