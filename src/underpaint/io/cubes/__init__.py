"""Cubes of spectral images as they lie on disk: ENVI, HDF5 and TIFF stacks, read block by block, with wavelengths.

What is stored may be reflectance or the counts of a camera; :mod:`underpaint.reflectance.cube` makes reflectance of it.
"""

from underpaint.io.cubes._open import StoredCube, open_cube

__all__ = ["StoredCube", "open_cube"]
