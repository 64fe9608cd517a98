"""Resample a cube to the grid of the element maps by averaging the reflectance over each map pixel."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from underpaint.reflectance.cube import ReflectanceCube
from underpaint.reflectance.registration import Matrix, transform_positions

Window = tuple[slice, slice]
_MAX_POINTS_PER_SIDE = 16
"""Maximum number of sampling points along each side of a map pixel. If a map pixel covers more pixels of the cube, only
a subset of them is averaged."""


class Resampler:
    """Function that returns the mean reflectance in each pixel of the maps.

    The cube is sampled at evenly spaced points within a map pixel, about one point per pixel of the cube. The mean is
    taken over the points with a value, and is NaN if these are less than half of the points.

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
        cube_corners = transform_positions(matrix, corners)
        pixel_sides = [
            np.hypot(*(transform_positions(matrix, corners + unit_step) - cube_corners).T)
            for unit_step in ([1, 0], [0, 1])
        ]
        self.cube_pixels_per_map_pixel = float(max((pixel_sides[0] * pixel_sides[1]).max(), 1.0))
        self.points_per_side = int(np.clip(np.ceil(np.max(pixel_sides) - 1e-3), 1, _MAX_POINTS_PER_SIDE))

    def windows(self) -> Iterator[Window]:
        """Yield windows of the maps, each covering about one block of the cube."""
        n_row, n_column = self.shape
        n_pixel = max(
            1, int(self.cube.block_bytes / (4 * self.cube.stored_cube.shape[2] * self.cube_pixels_per_map_pixel))
        )
        rows = min(max(1, n_pixel // n_column), n_row)
        columns = n_column if n_pixel >= n_column else n_pixel
        for row in range(0, n_row, rows):
            for column in range(0, n_column, columns):
                yield slice(row, min(row + rows, n_row)), slice(column, min(column + columns, n_column))

    def __call__(self, window: Window) -> NDArray[np.float32]:
        """Return the (n_row, n_column, n_band) reflectance of a window of the maps."""
        rows, columns = window
        window_shape = (rows.stop - rows.start, columns.stop - columns.start)
        n_pixel, points_per_side = window_shape[0] * window_shape[1], self.points_per_side
        sample_offsets = (np.arange(points_per_side) + 0.5) / points_per_side
        sample_rows = (rows.start + np.arange(window_shape[0])[:, None] + sample_offsets).ravel()
        sample_columns = (columns.start + np.arange(window_shape[1])[:, None] + sample_offsets).ravel()
        positions = np.stack(np.meshgrid(sample_columns, sample_rows), axis=2).reshape(-1, 2)
        pixel_row, pixel_column = (np.arange(n_pixels).repeat(points_per_side) for n_pixels in window_shape)
        pixel_index = (pixel_row[:, None] * window_shape[1] + pixel_column).ravel()
        x, y = np.floor(transform_positions(self.matrix, positions)).astype(np.int64).T
        n_row, n_column, n_band = self.cube.shape
        is_inside = (x >= 0) & (y >= 0) & (x < n_column) & (y < n_row)
        mean_reflectance = np.full((n_pixel, n_band), np.nan, dtype=np.float32)
        if not is_inside.any():
            return mean_reflectance.reshape(*window_shape, n_band)
        x, y, pixel_index = x[is_inside], y[is_inside], pixel_index[is_inside]
        first_pixel, last_pixel = (int(y.min()), int(x.min())), (int(y.max()) + 1, int(x.max()) + 1)
        spectra = self.cube.read(slice(first_pixel[0], last_pixel[0]), slice(first_pixel[1], last_pixel[1])).reshape(
            -1, n_band
        )
        cube_index = (y - first_pixel[0]) * (last_pixel[1] - first_pixel[1]) + (x - first_pixel[1])
        sum_matrix = csr_array((np.ones(x.size, np.float32), (pixel_index, cube_index)), shape=(n_pixel, len(spectra)))
        is_valid = np.isfinite(spectra)
        if is_valid.all():
            reflectance_sum, n_valid = sum_matrix @ spectra, sum_matrix.sum(axis=1)[:, None]
        else:
            reflectance_sum, n_valid = (
                sum_matrix @ np.where(is_valid, spectra, np.float32(0)),
                sum_matrix @ is_valid.astype(np.float32),
            )
        is_covered = n_valid >= 0.5 * points_per_side**2
        np.divide(
            reflectance_sum, n_valid, out=mean_reflectance, where=np.broadcast_to(is_covered, mean_reflectance.shape)
        )
        return mean_reflectance.reshape(*window_shape, n_band)
