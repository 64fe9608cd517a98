"""Block-by-block reading of spectral image cubes and their wavelengths, from ENVI, HDF5 and TIFF files.

The stored values are reflectance or a camera's counts. :mod:`underpaint.reflectance.cube` converts counts to
reflectance.
"""

from underpaint.io.cubes._open import StoredCube, open_cube

__all__ = ["StoredCube", "open_cube"]
