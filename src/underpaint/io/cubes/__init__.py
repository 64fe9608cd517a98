"""Spectral image cubes on disk (ENVI, HDF5 and TIFF stacks), read block by block, with their wavelengths.

The stored values may be reflectance or the counts of a camera. :mod:`underpaint.reflectance.cube` converts counts to
reflectance.
"""

from underpaint.io.cubes._open import StoredCube, open_cube

__all__ = ["StoredCube", "open_cube"]
