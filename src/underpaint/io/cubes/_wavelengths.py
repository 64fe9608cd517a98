"""Wavelengths of a cube's bands: in nm, um, Angstrom or cm-1, or without a unit; in the file or beside it."""

import re

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import ScanError

LOWEST_NM, HIGHEST_NM = 200.0, 16000.0
"""Bands outside are not those of a reflectance camera."""
_LONGEST_UM = 25.0
"""Numbers up to this are um where no unit is stated, above they are nm."""
_UNITS_NM = {
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 1.0),
    **dict.fromkeys(
        ("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"), 1e3
    ),
    **dict.fromkeys(("a", "å", "angstrom", "angstroms"), 0.1),
}
WAVENUMBER = "cm-1"
"""Unit of wavenumbers; 1e7 divided by a wavenumber is the wavelength in nm."""
_NO_UNIT = {"", "unknown", "none", "index", "n/a"}
LISTED = ("wavelengths", "wavelength")
"""Names of a file beside a cube that lists its wavelengths."""


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
    stated = unit_in(unit)
    if not stated and unit.strip(" {}\"'").lower() not in _NO_UNIT:
        raise ScanError(
            f"Cannot read the wavelengths of {source}: their unit is {unit!r}; nm, um, Angstrom and cm-1 are read. "
            "Convert them, or put a list in nm beside the file (wavelengths.txt)."
        )
    if not np.isfinite(values).all() or (values <= 0).any():
        raise ScanError(
            f"Cannot read the wavelengths of {source}: band {int(np.argmin(np.isfinite(values) & (values > 0)))} has "
            "none above 0. Correct it in the file, or put a list of all wavelengths beside it (wavelengths.txt)."
        )
    by_size = "um" if values.max() <= _LONGEST_UM else "nm"
    nm = to_nm(values, stated or by_size)
    notes: tuple[str, ...] = ()
    if not _plausible(nm):
        nm = to_nm(values, by_size)
        notes = (f"the wavelengths are stated in {stated or 'no unit'}, and are {by_size} by their size",)
    elif not stated:
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


def unit_in(text: str) -> str:
    """Return the unit of wavelengths, or "cm-1", that a text states, as in "Wavelength (nm)"; "" where it states none.

    Examples
    --------
    >>> unit_in("wavenumber (cm-1)"), unit_in("lambda_um"), unit_in("name")
    ('cm-1', 'um', '')
    """
    plain = text.strip(" {}\"'").lower()
    if re.search(r"wave ?number|\bcm ?(\^?\(?-1|⁻¹)|\b1 ?/ ?cm", plain):
        return WAVENUMBER
    words = [plain] if plain == "a" else re.split(r"[\W_]+", plain)
    return next((word for word in words if word in _UNITS_NM and (word != "a" or plain == "a")), "")


def to_nm(values: NDArray[np.float64], unit: str) -> NDArray[np.float64]:
    """Return wavelengths in nm from numbers above zero in a unit of :func:`unit_in`."""
    return 1e7 / values if unit == WAVENUMBER else values * _UNITS_NM[unit]
