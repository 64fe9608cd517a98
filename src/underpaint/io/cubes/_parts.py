"""Contents of a cube's file, as its reader returns them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.io._source import Cube


@dataclass(frozen=True)
class CubeParts:
    """Contents of a cube's file.

    Parameters
    ----------
    cube : Cube
    wavelength : (n_band,) array or None
        Wavelengths in ``unit``, which is "" if the file does not state it.
    unit : str
    bad_band : bool array or None
    scale : float or None
        Stored value of a reflectance of 1.
    missing : float or None
        Stored value that marks missing values.
    notes : tuple of str
    """

    cube: Cube
    wavelength: NDArray[np.float64] | None = None
    unit: str = ""
    bad_band: NDArray[np.bool_] | None = None
    scale: float | None = None
    missing: float | None = None
    notes: tuple[str, ...] = ()
