"""A cube on the grid of the element maps: each of their pixels gets the mean of the cube over its area."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from underpaint.reflectance.cube import BLOCK_BYTES, ReflectanceCube
from underpaint.reflectance.registration import Matrix, place

Window = tuple[slice, slice]
_MOST_ACROSS = 16
"""Points along a pixel of the maps; where it holds more of the cube's, some of them are enough."""


class Resampler:
    """The mean reflectance in each pixel of the maps.

    Means are over evenly spread points, at least one for each pixel of the cube, of the values that are there; NaN
    where less than half of a pixel of the maps lies on the cube.

    Parameters
    ----------
    cube : ReflectanceCube
    matrix : (3, 3) array
        Takes (column, row, 1) of the maps to (x, y, 1) of the cube, pixels; the middle of the first one is 0.5.
    shape : (int, int)
        Rows and columns of the maps.
    """

    def __init__(self, cube: ReflectanceCube, matrix: Matrix, shape: tuple[int, int]) -> None:
        self.cube, self.matrix, self.shape = cube, matrix, shape
        corners = np.array([[0, 0], [shape[1], 0], [0, shape[0]], [shape[1], shape[0]]], dtype=np.float64)
        origin = place(matrix, corners)
        sides = [np.hypot(*(place(matrix, corners + step) - origin).T) for step in ([1, 0], [0, 1])]
        self.pixels_in_one = float(max((sides[0] * sides[1]).max(), 1.0))
        self.across = int(np.clip(np.ceil(np.max(sides) - 1e-3), 1, _MOST_ACROSS))

    def windows(self) -> Iterator[Window]:
        """Yield windows of the maps, each over about :data:`~underpaint.reflectance.cube.BLOCK_BYTES` of the cube."""
        n_row, n_column = self.shape
        n_pixel = max(1, int(BLOCK_BYTES / (4 * self.cube.stored.shape[2] * self.pixels_in_one)))
        rows = min(max(1, n_pixel // n_column), n_row)
        columns = n_column if n_pixel >= n_column else n_pixel
        for row in range(0, n_row, rows):
            for column in range(0, n_column, columns):
                yield slice(row, min(row + rows, n_row)), slice(column, min(column + columns, n_column))

    def __call__(self, window: Window) -> NDArray[np.float32]:
        """Return the (n_row, n_column, n_band) reflectance of a window of the maps."""
        rows, columns = window
        size = (rows.stop - rows.start, columns.stop - columns.start)
        n_pixel, across = size[0] * size[1], self.across
        steps = (np.arange(across) + 0.5) / across
        down = (rows.start + np.arange(size[0])[:, None] + steps).ravel()
        right = (columns.start + np.arange(size[1])[:, None] + steps).ravel()
        at = np.stack(np.meshgrid(right, down), axis=2).reshape(-1, 2)
        pixel = (np.arange(size[0]).repeat(across)[:, None] * size[1] + np.arange(size[1]).repeat(across)).ravel()
        x, y = np.floor(place(self.matrix, at)).astype(np.int64).T
        n_row, n_column, n_band = self.cube.shape
        inside = (x >= 0) & (y >= 0) & (x < n_column) & (y < n_row)
        values = np.full((n_pixel, n_band), np.nan, dtype=np.float32)
        if not inside.any():
            return values.reshape(*size, n_band)
        x, y, pixel = x[inside], y[inside], pixel[inside]
        first, last = (int(y.min()), int(x.min())), (int(y.max()) + 1, int(x.max()) + 1)
        spectra = self.cube.read(slice(first[0], last[0]), slice(first[1], last[1])).reshape(-1, n_band)
        source = (y - first[0]) * (last[1] - first[1]) + (x - first[1])
        mixing = csr_array((np.ones(x.size, np.float32), (pixel, source)), shape=(n_pixel, len(spectra)))
        known = np.isfinite(spectra)
        if known.all():
            total, weight = mixing @ spectra, mixing.sum(axis=1)[:, None]
        else:
            total, weight = mixing @ np.where(known, spectra, np.float32(0)), mixing @ known.astype(np.float32)
        enough = weight >= 0.5 * across**2
        np.divide(total, weight, out=values, where=np.broadcast_to(enough, values.shape))
        return values.reshape(*size, n_band)
