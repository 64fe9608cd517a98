"""Resample a cube to the grid of the element maps: the mean reflectance over the area of each map pixel."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from underpaint.reflectance.cube import ReflectanceCube
from underpaint.reflectance.registration import Matrix, place

Window = tuple[slice, slice]
_MAX_POINTS_PER_SIDE = 16
"""Maximum number of sampling points along each side of a map pixel. If more pixels of the cube fall within, a subset is
averaged."""


class Resampler:
    """The mean reflectance in each pixel of the maps.

    The cube is sampled at evenly spaced points within a map pixel, about one point per pixel of the cube, and missing
    values are left out of the mean. The mean is NaN if less than half of the points have a value.

    Parameters
    ----------
    cube : ReflectanceCube
    matrix : (3, 3) array
        Maps (column, row, 1) on the element maps to (x, y, 1) on the cube, in pixels. The centre of the first pixel is
        at 0.5.
    shape : (int, int)
        Rows and columns of the maps.
    """

    def __init__(self, cube: ReflectanceCube, matrix: Matrix, shape: tuple[int, int]) -> None:
        self.cube, self.matrix, self.shape = cube, matrix, shape
        corners = np.array([[0, 0], [shape[1], 0], [0, shape[0]], [shape[1], shape[0]]], dtype=np.float64)
        origin = place(matrix, corners)
        sides = [np.hypot(*(place(matrix, corners + step) - origin).T) for step in ([1, 0], [0, 1])]
        self.cube_pixels_per_map_pixel = float(max((sides[0] * sides[1]).max(), 1.0))
        self.points_per_side = int(np.clip(np.ceil(np.max(sides) - 1e-3), 1, _MAX_POINTS_PER_SIDE))

    def windows(self) -> Iterator[Window]:
        """Yield windows of the maps, each covering about one block of the cube."""
        n_row, n_column = self.shape
        n_pixel = max(1, int(self.cube.block_bytes / (4 * self.cube.stored.shape[2] * self.cube_pixels_per_map_pixel)))
        rows = min(max(1, n_pixel // n_column), n_row)
        columns = n_column if n_pixel >= n_column else n_pixel
        for row in range(0, n_row, rows):
            for column in range(0, n_column, columns):
                yield slice(row, min(row + rows, n_row)), slice(column, min(column + columns, n_column))

    def __call__(self, window: Window) -> NDArray[np.float32]:
        """Return the (n_row, n_column, n_band) reflectance of a window of the maps."""
        rows, columns = window
        size = (rows.stop - rows.start, columns.stop - columns.start)
        n_pixel, points_per_side = size[0] * size[1], self.points_per_side
        steps = (np.arange(points_per_side) + 0.5) / points_per_side
        sample_rows = (rows.start + np.arange(size[0])[:, None] + steps).ravel()
        sample_columns = (columns.start + np.arange(size[1])[:, None] + steps).ravel()
        positions = np.stack(np.meshgrid(sample_columns, sample_rows), axis=2).reshape(-1, 2)
        pixel_row, pixel_column = (np.arange(each).repeat(points_per_side) for each in size)
        pixel = (pixel_row[:, None] * size[1] + pixel_column).ravel()
        x, y = np.floor(place(self.matrix, positions)).astype(np.int64).T
        n_row, n_column, n_band = self.cube.shape
        is_inside = (x >= 0) & (y >= 0) & (x < n_column) & (y < n_row)
        values = np.full((n_pixel, n_band), np.nan, dtype=np.float32)
        if not is_inside.any():
            return values.reshape(*size, n_band)
        x, y, pixel = x[is_inside], y[is_inside], pixel[is_inside]
        first, last = (int(y.min()), int(x.min())), (int(y.max()) + 1, int(x.max()) + 1)
        spectra = self.cube.read(slice(first[0], last[0]), slice(first[1], last[1])).reshape(-1, n_band)
        source = (y - first[0]) * (last[1] - first[1]) + (x - first[1])
        mixing = csr_array((np.ones(x.size, np.float32), (pixel, source)), shape=(n_pixel, len(spectra)))
        is_valid = np.isfinite(spectra)
        if is_valid.all():
            total, weight = mixing @ spectra, mixing.sum(axis=1)[:, None]
        else:
            total, weight = mixing @ np.where(is_valid, spectra, np.float32(0)), mixing @ is_valid.astype(np.float32)
        is_covered = weight >= 0.5 * points_per_side**2
        np.divide(total, weight, out=values, where=np.broadcast_to(is_covered, values.shape))
        return values.reshape(*size, n_band)
