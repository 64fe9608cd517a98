"""Values that the readers of spectral image cubes return."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.io._source import Cube


@dataclass(frozen=True)
class CubeParts:
    """Content of a spectral image cube's file.

    Parameters
    ----------
    cube : Cube
    wavelength : (n_band,) array or None
        Wavelengths of the bands in ``unit``; None if unknown.
    unit : str
    bad_band : bool array or None
    scale : float or None
        Stored value for a reflectance of 1.
    missing : float or None
        Stored value that marks missing data.
    notes : tuple of str
    """

    cube: Cube
    wavelength: NDArray[np.float64] | None = None
    unit: str = ""
    bad_band: NDArray[np.bool_] | None = None
    scale: float | None = None
    missing: float | None = None
    notes: tuple[str, ...] = ()
