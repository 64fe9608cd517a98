"""Conversion of wavelengths in um, Angstrom, cm-1 or an unknown unit to nm."""

import re

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import ScanError

LOWEST_NM, HIGHEST_NM = 200.0, 16000.0
"""Lowest and highest plausible wavelength of a reflectance camera in nm."""
_MAX_WAVELENGTH_UM = 25.0
"""Maximum wavelength in um. Larger numbers without a unit are in nm."""
_NM_PER_UNIT = {
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 1.0),
    **dict.fromkeys(
        ("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"), 1e3
    ),
    **dict.fromkeys(("a", "å", "angstrom", "angstroms"), 0.1),
}
WAVENUMBER = "cm-1"
"""Unit of wavenumbers. The wavelength in nm is 1e7 divided by the wavenumber."""
_NO_UNIT_WORDS = {"", "unknown", "none", "index", "n/a"}
LIST_NAMES = ("wavelengths", "wavelength")
"""Name of a text file with a cube's wavelengths, in plural and singular."""


def wavelengths_in_nm(
    stored_wavelengths: NDArray[np.float64], unit: str, source: str
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Convert wavelengths to nm, and return them with notes on an assumed unit.

    Parameters
    ----------
    stored_wavelengths : (n_band,) array
        As stored.
    unit : str
        Unit that the file states; "" if none.
    source : str
        File that contains the wavelengths, for error messages.

    Raises
    ------
    ScanError
        A value is not a number, the unit is not one of length, or a wavelength is implausible for a camera.
    """
    stated_unit = find_unit(unit)
    if not stated_unit and unit.strip(" {}\"'").lower() not in _NO_UNIT_WORDS:
        raise ScanError(
            f"Cannot read the wavelengths of {source}: their unit is {unit!r}; only nm, um, Angstrom and cm-1 are "
            "known. "
            "Convert them, or put a list in nm beside the file (wavelengths.txt)."
        )
    if not np.isfinite(stored_wavelengths).all() or (stored_wavelengths <= 0).any():
        raise ScanError(
            f"Cannot read the wavelengths of {source}: band "
            f"{int(np.argmin(np.isfinite(stored_wavelengths) & (stored_wavelengths > 0)))} has "
            "no wavelength above 0. Correct it in the file, or put a list of all wavelengths beside it "
            "(wavelengths.txt)."
        )
    unit_by_size = "um" if stored_wavelengths.max() <= _MAX_WAVELENGTH_UM else "nm"
    wavelength_nm = to_nm(stored_wavelengths, stated_unit or unit_by_size)
    notes: tuple[str, ...] = ()
    if not _are_camera_wavelengths(wavelength_nm):
        wavelength_nm = to_nm(stored_wavelengths, unit_by_size)
        notes = (
            f"the file states the wavelengths in {stated_unit or 'no unit'}, but their values suggest {unit_by_size}, "
            f"so they are read as {unit_by_size}",
        )
    elif not stated_unit:
        notes = (f"wavelengths without a unit are read as {unit_by_size}, which their values suggest",)
    if not _are_camera_wavelengths(wavelength_nm):
        raise ScanError(
            f"Cannot use the wavelengths of {source}: they run from {stored_wavelengths.min():g} to "
            f"{stored_wavelengths.max():g} "
            f"{stated_unit or '(no unit)'}; bands of a camera lie between {LOWEST_NM:g} and {HIGHEST_NM:g} nm. Put "
            "a list "
            "of the correct wavelengths beside the file (wavelengths.txt)."
        )
    return wavelength_nm, notes


def _are_camera_wavelengths(wavelength_nm: NDArray[np.float64]) -> bool:
    return bool(wavelength_nm.min() >= LOWEST_NM and wavelength_nm.max() <= HIGHEST_NM)


def find_unit(text_with_unit: str) -> str:
    """Return the unit that a text such as "Wavelength (nm)" contains, or "" if it contains none.

    Examples
    --------
    >>> find_unit("wavenumber (cm-1)"), find_unit("lambda_um"), find_unit("name")
    ('cm-1', 'um', '')
    """
    plain_text = text_with_unit.strip(" {}\"'").lower()
    if re.search(r"wave ?number|\bcm ?(\^?\(?-1|⁻¹)|\b1 ?/ ?cm", plain_text):
        return WAVENUMBER
    text_words = [plain_text] if plain_text == "a" else re.split(r"[\W_]+", plain_text)
    return next(
        (
            unit_word
            for unit_word in text_words
            if unit_word in _NM_PER_UNIT and (unit_word != "a" or plain_text == "a")
        ),
        "",
    )


def to_nm(stored_wavelengths: NDArray[np.float64], unit: str) -> NDArray[np.float64]:
    """Convert positive wavelengths or wavenumbers to nm, from a unit of :func:`find_unit`."""
    return 1e7 / stored_wavelengths if unit == WAVENUMBER else stored_wavelengths * _NM_PER_UNIT[unit]
