"""Register a photograph or a reflectance cube to the element maps, by marked points or by mutual information."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2, vq
from scipy.ndimage import gaussian_filter, map_coordinates, spline_filter1d
from scipy.optimize import minimize

from underpaint.errors import ScanError
from underpaint.io.results.result_maps import ResultMaps
from underpaint.runtime.progress import Progress, no_progress
from underpaint.runtime.untrusted import read_bounded

Matrix = NDArray[np.float64]
Image = NDArray[np.float32]
MIN_POINTS = 2
_MAX_MAPS = 8
_COARSE_SIZE_PX, _FINE_SIZE_PX = 32, 120
"""Size of the maps in the search and in the refinement, in pixels along the longer side."""
_N_VALUE_BINS = 12
"""Number of bins for the values of a map component in the computation of mutual information."""
_MAX_COMPONENTS = 3
_START_SCALES = np.arange(1.0, 0.49, -0.0625)
"""Scales of the initial transforms: the fraction of the picture that the maps cover."""
_START_ROTATIONS_DEG = (0.0, -3.0, 3.0, -6.0, 6.0)
_START_SHIFTS = np.linspace(-0.15, 0.15, 11)
"""Shifts of the maps from the picture's centre in the initial transforms, as fractions of its width and height."""
_OPTIMISATION_LIMIT_PX = 4.0
"""Maximum change of each parameter in one optimisation, in pixels of the resampled maps."""
_MAX_INITIAL_TRANSFORMS, _MIN_TRANSFORM_DISTANCE = 8, 0.04
"""Maximum number of initial transforms that are refined, and the minimum distance between them, as a fraction of the
picture's longer side. Transforms closer together would converge to the same optimum."""
_MIN_SIMILARITY = 0.4
"""Minimum mutual information of an accepted registration, in nats above that expected by chance."""
_SIDE_SHIFTS = np.linspace(-0.2, 0.2, 25)
"""Shifts tried for each side of the maps, as fractions of the maps' width or height."""
_MAX_SHIFT_ROUNDS, _MIN_SHIFT_GAIN = 4, 0.01
"""Maximum number of rounds of shifts, and minimum gain of a round that is followed by another, in nats."""
_N_COLORS, _N_SAMPLED_PIXELS = 20, 4000
"""Number of typical colours of the picture, and number of pixels from which these colours are determined."""
_N_TILES_PER_SIDE = 5
"""Number of tiles along each side of the maps."""
_MAX_TILE_SHIFT_PX, _TILE_SHIFT_STEP_PX = 3.0, 0.5
"""Largest scored shift of a tile, and step between shifts, in pixels of the maps."""
_TILE_SCORE_WEIGHT, _MISPLACED_TILE_LIKELIHOOD = 0.05, 0.02
"""Weight of a tile's score, and likelihood of a misplaced tile. The weight is below one because neighbouring pixels are
correlated."""
_N_FIT_ITERATIONS = 2
_HOMOGRAPHY_PRECISION = (0.0, 0.5, 0.5, 0.0, 0.5, 0.5, 1.0, 1.0)
"""Inverse prior standard deviation of each of a homography's eight parameters, in 1/pixel."""
_MIN_COST_CURVATURE = 0.05
"""Lower limit of the eigenvalues of the cost's curvature. The limit keeps the covariance finite."""
_POSITION_GRID = np.stack(np.meshgrid(*2 * (np.linspace(-1, 1, 7),)), axis=2).reshape(-1, 2)
"""Regular grid of positions on the maps. The coordinates run from -1 to 1."""
_TRANSFORM_MODELS = {
    "SimilarityTransform": np.array(
        [[1.0, 0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 1, 0, 0], [0, 0, 1, 0, -1, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0, 0]]
    ).T,
    "AffineTransform": np.eye(8)[:, :6],
    "ProjectiveTransform": np.eye(8),
}
"""Transforms of scikit-image, from simple to complex. Each matrix converts a transform's parameters to those of a
homography."""
_MIN_GAIN_PER_PARAMETER = 2.0
"""A more complex transform is chosen if it gains more log likelihood than this per additional parameter."""
_MAX_WELL_ERROR_PX, _MAX_ERROR_PX, _MAX_POINT_ERROR_PX = 0.6, 1.2, 1.0
"""Maximum errors, in pixels of the maps: for the verdict "well" of an automatic registration, for its acceptance, and
for the verdict "well" of marked points."""
_MAX_RIVAL_SIMILARITY_RATIO = 0.95
"""The verdict is "doubtful" if the similarity at another position exceeds this fraction of the similarity at the best
position. On virtual twins, the fraction is up to 0.91 if the best position is right, and 0.975 if this position is
wrong by 4 pixels."""
_MIN_COVERED_FRACTION = 0.5
"""The verdict is "well" only if the maps cover at least this fraction of the picture's width and height."""
Verdict = Literal["well", "doubtful"]


@dataclass(frozen=True)
class Registration:
    """Position of a picture relative to the maps.

    Parameters
    ----------
    matrix : (3, 3) array
        Matrix that transforms a position on the maps (column, row, 1) to a position on the picture (x, y, 1), both in
        pixels. The centre of the first pixel is at (0.5, 0.5).
    method : str
        "points" or "mutual information".
    error_px : float or None
        Error of a position, in pixels of the maps. For marked points, it is the root mean square residual, or None if
        there are too few points for residuals. For mutual information, it is the standard deviation of a position,
        averaged over the maps.
    similarity : float or None
        Mutual information of the maps and the picture, in nats per pixel of the maps, summed over the map components.
    verdict : str
        "well" or "doubtful". The estimated error is below one pixel of the maps if the verdict is "well".
    """

    matrix: Matrix
    method: Literal["points", "mutual information"]
    error_px: float | None = None
    similarity: float | None = None
    verdict: Verdict = "well"


def register_by_points(
    on_picture: Sequence[tuple[float, float]], on_maps: Sequence[tuple[float, float]], picture: str = "photograph"
) -> Registration:
    """Register a picture by pairs of corresponding points on the picture and on the maps.

    Parameters
    ----------
    on_picture, on_maps : sequence of (x, y)
        Corresponding positions, in pixels. Two pairs determine shift, rotation and scale; three also determine shear,
        and four or more also perspective.
    picture : str
        Kind of picture to be named in messages.

    Raises
    ------
    ScanError
        There are too few points, or they are collinear.
    """
    from skimage import transform

    picture_points, map_points = (
        np.asarray(points, dtype=np.float64).reshape(-1, 2) for points in (on_picture, on_maps)
    )
    if len(map_points) != len(picture_points) or len(map_points) < MIN_POINTS:
        n_pair = min(len(map_points), len(picture_points))
        raise ScanError(
            f"Cannot register the {picture} by {n_pair} pair{'' if n_pair == 1 else 's'} of points: at least "
            f"{MIN_POINTS} are needed, and four or more determine perspective as well. Mark more points."
        )
    if not (np.isfinite(picture_points).all() and np.isfinite(map_points).all()):
        raise ScanError(
            f"Cannot register the {picture} by these points: a coordinate is not finite. Mark the point again."
        )
    if not (_is_spread_out(map_points) and _is_spread_out(picture_points)):
        raise ScanError(
            f"Cannot register the {picture} by these points: they are collinear or coincide. Spread them out."
        )
    transforms = {2: transform.SimilarityTransform, 3: transform.AffineTransform}
    try:
        transform_type = transforms.get(len(map_points), transform.ProjectiveTransform)
        estimated_transform = transform_type.from_estimate(map_points, picture_points)
        matrix = (
            np.asarray(estimated_transform.params, dtype=np.float64) if estimated_transform else np.full((3, 3), np.nan)
        )
        inverse = np.asarray(np.linalg.inv(matrix), dtype=np.float64)
    except np.linalg.LinAlgError:
        matrix = inverse = np.full((3, 3), np.nan)
    if not (np.isfinite(matrix).all() and np.isfinite(inverse).all()):
        raise ScanError(f"Cannot register the {picture} by these points: no transform fits them. Mark them again.")
    rms_error = _rms_point_distance(inverse, picture_points, map_points) if len(map_points) > 4 else None
    is_reliable = rms_error is None or rms_error <= _MAX_POINT_ERROR_PX
    return Registration(matrix, "points", rms_error, verdict="well" if is_reliable else "doubtful")


def register_automatically(picture: NDArray[np.floating], maps: Sequence[NDArray[np.float32]]) -> Registration:
    """Register a picture by maximising its mutual information with the maps.

    Parameters
    ----------
    picture : (height, width, n_channel) array
        A photograph, or the components of a cube (:func:`cube_components`).
    maps : sequence of (n_row, n_column) arrays
        Maps that show structures; NaN where there is no value. The principal components of the maps are compared with
        the picture.

    Returns
    -------
    Registration
        The simplest of a similarity, an affine and a projective transform whose likelihood is close to the best. The
        search assumes that the picture is rotated by less than about ten degrees, and that the maps cover at least half
        of it.

    Raises
    ------
    ScanError
        The maps have no structure, or their mutual information with the picture is too small.

    Notes
    -----
    In the last step, the maps are divided into tiles. Each tile is shifted separately and scored by the joint histogram
    of map values and colours in other tiles. The transform is fitted to the best shifts, and their scatter determines
    its error. If the picture shows another painting, the shifts are random.

    The verdict is "doubtful" if the error is too large, or if the maps cover less than half of the picture's width or
    height. The verdict is also "doubtful" if a position several pixels away is nearly as similar, as on a panel of
    identical patches.

    References
    ----------
    Maes et al. 1997, IEEE Trans. Med. Imaging 16, 187, doi:10.1109/42.563664: registration by mutual information.
    """
    map_components = _map_components(maps)
    n_row, n_column = map_components[0].shape
    picture_shape = (int(picture.shape[0]), int(picture.shape[1]))
    coarse_comparison = _Comparison(picture, map_components, min(1.0, _COARSE_SIZE_PX / max(n_row, n_column)))
    initial_transforms = sorted(
        _initial_transforms(picture_shape, (n_row, n_column)), key=coarse_comparison.negative_similarity
    )
    min_distance = _MIN_TRANSFORM_DISTANCE * max(picture_shape)
    refined_transforms = [
        _optimise_transform(coarse_comparison, initial_transform, 6)
        for initial_transform in _distinct_transforms(initial_transforms, (n_row, n_column), min_distance)
    ]
    best_transform = _shift_past_stripes(
        coarse_comparison, min(refined_transforms, key=coarse_comparison.negative_similarity), (n_row, n_column)
    )
    fine_comparison = _Comparison(picture, map_components, min(1.0, _FINE_SIZE_PX / max(n_row, n_column)))
    for n_free in (6, 8):
        best_transform = _optimise_transform(fine_comparison, best_transform, n_free)
    best_transform, error_px = _simplest_transform(fine_comparison, best_transform)
    similarity = fine_comparison.similarity(best_transform)
    rival_transform = _best_rival_transform(fine_comparison, best_transform)
    if fine_comparison.similarity(rival_transform) > similarity:
        better_transform, rival_error_px = _simplest_transform(fine_comparison, rival_transform)
        if fine_comparison.similarity(better_transform) > similarity:
            best_transform, rival_transform, error_px, similarity = (
                better_transform,
                best_transform,
                rival_error_px,
                fine_comparison.similarity(better_transform),
            )
    if similarity < _MIN_SIMILARITY or error_px > _MAX_ERROR_PX:
        raise ScanError(
            "Cannot register the picture automatically: no position of it matches the maps (similarity "
            f"{similarity:.2f} nats, at least {_MIN_SIMILARITY:g} needed; error {error_px:.1f} pixels of the maps, at "
            f"most {_MAX_ERROR_PX:g} allowed). Check that the picture is upright and of this painting, or mark points."
        )
    has_rival = (
        _transform_distance_px(rival_transform, best_transform, (n_row, n_column)) > _MAX_ERROR_PX
        and fine_comparison.similarity(rival_transform) > _MAX_RIVAL_SIMILARITY_RATIO * similarity
    )
    is_reliable = (
        error_px <= _MAX_WELL_ERROR_PX
        and not has_rival
        and _covered_fraction(best_transform, picture_shape, (n_row, n_column)) >= _MIN_COVERED_FRACTION
    )
    return Registration(
        best_transform, "mutual information", error_px, similarity, "well" if is_reliable else "doubtful"
    )


def register_any_orientation(
    picture: NDArray[np.floating], maps: Sequence[NDArray[np.float32]], progress: Progress = no_progress
) -> Registration:
    """Register a picture automatically, even if it is mirrored or rotated by a multiple of 90 degrees.

    The upright orientation is tried first. Other orientations are tried only if the upright one is refused or doubtful.
    Other orientations are accepted only if their verdict is "well".

    Parameters
    ----------
    picture, maps
        See :func:`register_automatically`.
    progress : callable
        Called with the name of the task, the number of orientations tried, and the number of all orientations.

    Raises
    ------
    ScanError
        The upright orientation is refused, and no other orientation has the verdict "well".
    """
    upright_registration: Registration | None = None
    refusal_error = ScanError()
    orientations = [(quarter_turns, is_mirrored) for is_mirrored in (False, True) for quarter_turns in range(4)]
    for n_tried, (quarter_turns, is_mirrored) in enumerate(orientations):
        progress("Registering the cube to the maps", n_tried, len(orientations))
        rotated_picture = np.rot90(picture[:, ::-1] if is_mirrored else picture, quarter_turns)
        try:
            registration = register_automatically(rotated_picture, maps)
        except ScanError as error:
            refusal_error = error if n_tried == 0 else refusal_error
            continue
        if registration.verdict == "well":
            return replace(
                registration,
                matrix=_matrix_to_original(picture.shape, quarter_turns, is_mirrored=is_mirrored) @ registration.matrix,
            )
        upright_registration = registration if n_tried == 0 else upright_registration
    if upright_registration is None:
        raise refusal_error
    return upright_registration


def _matrix_to_original(shape: tuple[int, ...], quarter_turns: int, *, is_mirrored: bool) -> Matrix:
    """Return the matrix from positions on a picture that was mirrored, then rotated, to positions on the original."""
    height, width = shape[:2]
    to_original = np.array([[-1.0, 0, width], [0, 1, 0], [0, 0, 1]]) if is_mirrored else np.eye(3)
    for _ in range(quarter_turns):
        to_original = to_original @ np.array([[0, -1.0, width], [1, 0, 0], [0, 0, 1]])
        height, width = width, height
    return to_original


def cube_components(channels: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """Return the principal components of a cube that have at least 1 % of the variance, at most three.

    The shape of the result is (height, width, n).

    Parameters
    ----------
    channels : sequence of (height, width) arrays
        Logarithm of reflectance; NaN where missing.
    """
    centred_channels = []
    for channel in channels:
        channel_values = np.asarray(channel, dtype=np.float64).ravel()
        median = float(np.nanmedian(channel_values))
        centred_channels.append(np.nan_to_num(channel_values, nan=median) - median)
    channel_matrix = np.asarray(centred_channels)
    eigenvalues, eigenvectors = np.linalg.eigh(channel_matrix @ channel_matrix.T)
    component_indices = [
        index
        for index in np.argsort(eigenvalues)[::-1][:_MAX_COMPONENTS]
        if eigenvalues[index] > 0.01 * eigenvalues.sum()
    ]
    return np.stack(
        [(eigenvectors[:, index] @ channel_matrix).reshape(np.shape(channels[0])) for index in component_indices],
        axis=2,
    )


def high_contrast_maps(maps: ResultMaps) -> list[NDArray[np.float32]]:
    """Return the maps with the highest contrast: maps of line families or, if there are none, of groups or pigments."""
    entry_kinds = [entry.kind for entry in maps.entries]
    map_kind = "element" if "element" in entry_kinds else "group" if "group" in entry_kinds else "member"
    candidate_maps = [maps.values(index) for index, entry_kind in enumerate(entry_kinds) if entry_kind == map_kind]
    map_contrasts = [float(np.nanpercentile(values, 95) - np.nanpercentile(values, 5)) for values in candidate_maps]
    indices_by_contrast = np.argsort(map_contrasts)[::-1][:_MAX_MAPS]
    return [candidate_maps[index] for index in indices_by_contrast]


def read_points(
    path: str | Path, picture_shape: tuple[int, int], map_shape: tuple[int, int]
) -> list[tuple[float, float, float, float]]:
    """Read pairs of points from a text file: x and y on the picture, then column and row on the maps, in pixels.

    Parameters
    ----------
    path : str or Path
    picture_shape, map_shape : (int, int)
        Numbers of rows and columns of the picture and of the maps. Points outside are refused.

    Raises
    ------
    ScanError
        The file cannot be read, a line after the first does not hold four numbers, or a point lies outside the picture
        or the maps.
    """
    file_text = read_bounded(Path(path), 2**20, ScanError).decode("utf-8", "replace")
    axis_limits = (
        ("x", picture_shape[1], "picture"), ("y", picture_shape[0], "picture"),
        ("column", map_shape[1], "maps"), ("row", map_shape[0], "maps"),
    )  # fmt: skip
    points = []
    for line_index, line in enumerate(file_text.splitlines()):
        cells = [cell for cell in re.split(r"[,;\s]+", line.strip()) if cell]
        try:
            x, y, column, row = map(float, cells)
        except ValueError as error:
            if not cells or cells[0].startswith("#") or line_index == 0:
                continue
            raise ScanError(
                f"Cannot read {path}: line {line_index + 1} is {line[:60]!r}; it must hold four numbers, x and y on "
                "the picture and column and row on the maps, in pixels. Correct the line."
            ) from error
        for coordinate, (coordinate_name, max_value, image_name) in zip((x, y, column, row), axis_limits, strict=True):
            if not 0 <= coordinate <= max_value:  # also refuses NaN
                raise ScanError(
                    f"Cannot use {path}: in line {line_index + 1}, {line[:60]!r}, {coordinate_name} is {coordinate:g} "
                    f"pixels; the {image_name} allow{'s' if image_name == 'picture' else ''} 0 to {max_value}. Correct "
                    "the line."
                )
        points.append((x, y, column, row))
    return points


def warp_to_maps(photograph: Image, matrix: Matrix, shape: tuple[int, int], scale: int) -> Image:
    """Return the photograph resampled to a grid ``scale`` times finer than that of the maps.

    The array has the shape (scale * n_row, scale * n_column, 3). Pixels outside the photograph are black.
    """
    from skimage import transform

    # from pixel indices of the output, where pixel centres are integers, to positions on the maps
    output_to_maps = np.array([[1 / scale, 0, 0.5 / scale], [0, 1 / scale, 0.5 / scale], [0, 0, 1.0]])
    to_pixel_index = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1.0]])
    output_to_picture = transform.ProjectiveTransform(to_pixel_index @ matrix @ output_to_maps)
    output_shape = (shape[0] * scale, shape[1] * scale)
    # smoothing before the reduction avoids false patterns of the canvas texture
    reduction_factor = _map_pixel_side(matrix, shape) / scale
    smoothed_photograph = (
        gaussian_filter(photograph, (0.4 * reduction_factor, 0.4 * reduction_factor, 0))
        if reduction_factor > 1.5
        else photograph
    )
    return np.asarray(
        transform.warp(smoothed_photograph, output_to_picture, output_shape=output_shape, order=1), dtype=np.float32
    )


def transform_positions(matrix: NDArray[np.floating], positions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return positions (x, y) after a projective transform, (n, 2)."""
    homogeneous_positions = positions @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(homogeneous_positions[:, :2] / homogeneous_positions[:, 2:])


class _Comparison:
    """Compare the maps with the picture at one resolution, for any transform.

    Each pixel of the picture is replaced by the index of the nearest of :data:`_N_COLORS` typical colours. The typical
    colours are determined from all channels together, because pigments differ in more than one channel.
    """

    def __init__(
        self, picture: NDArray[np.floating], components: Sequence[NDArray[np.float64]], reduction_factor: float
    ) -> None:
        n_row, n_column = components[0].shape
        smoothing_sigma = 0.4 / reduction_factor if reduction_factor < 1 else 0.0
        rows, columns = (
            np.linspace(0.5, n_pixel - 0.5, max(round(n_pixel * reduction_factor), 8)) for n_pixel in (n_row, n_column)
        )
        self.pixel = max(columns[1] - columns[0], rows[1] - rows[0])
        grid = np.meshgrid(columns, rows)
        self.at = np.column_stack([coordinates.ravel() for coordinates in grid])
        sample_indices = np.array([grid[1].ravel() - 0.5, grid[0].ravel() - 0.5])
        resampled_components = [
            map_coordinates(gaussian_filter(component, smoothing_sigma), sample_indices, order=1, mode="nearest")
            for component in components
        ]
        self.parts = [_bin_indices(component) for component in resampled_components]
        # bins of the joint histograms of all components, which are counted at once
        self.histogram_rows = _N_COLORS * (np.array(self.parts) + _N_VALUE_BINS * np.arange(len(self.parts))[:, None])
        n_pixels = np.arange(self.at.shape[0] + 1)
        self.n_log_n = n_pixels * np.log(np.maximum(n_pixels, 1))
        # picture details finer than the resolution of the maps would only add noise
        blur_sigma = 0.3 * max(picture.shape[0] / n_row, picture.shape[1] / n_column) / reduction_factor
        self.colors = _color_indices(gaussian_filter(picture.astype(np.float32), (blur_sigma, blur_sigma, 0)))
        self.size = (n_row, n_column)

    def similarity(self, matrix: Matrix) -> float:
        """Return the mutual information above chance, in nats per map pixel.

        The result is 0 if more than half of the map pixels lie outside the picture.
        """
        colors, is_inside = self._colors_at(matrix, self.at)
        n_part, n_pixel, n_inside = len(self.parts), is_inside.size, int(np.count_nonzero(is_inside))
        if n_inside < 0.5 * n_pixel:
            return 0.0
        histogram_bins = self.histogram_rows[:, is_inside] + colors[is_inside]
        histogram = np.bincount(histogram_bins.ravel(), minlength=n_part * _N_VALUE_BINS * _N_COLORS).reshape(
            n_part, _N_VALUE_BINS, _N_COLORS
        )
        # n_inside times the mutual information: the sum of n log(n n_inside / (n_row n_column)) over all bins
        information = (
            self.n_log_n[histogram].sum()
            - self.n_log_n[histogram.sum(axis=1)].sum()
            - self.n_log_n[histogram.sum(axis=2)].sum()
            + n_part * self.n_log_n[n_inside]
        )
        chance_information = 0.5 * n_part * (_N_VALUE_BINS - 1) * (_N_COLORS - 1)
        return float(information - chance_information) / n_pixel

    def negative_similarity(self, matrix: Matrix) -> float:
        """Return the negative of :meth:`similarity`, to be minimised."""
        return -self.similarity(matrix)

    def fit_transform(self, matrix: Matrix, parameter_matrix: NDArray[np.float64]) -> tuple[Matrix, float]:
        """Return the transform that best fits the shifts of all tiles of the maps, and its error.

        Parameters
        ----------
        matrix : (3, 3) array
            Initial transform.
        parameter_matrix : (8, n_parameter) array
            Value of ``_TRANSFORM_MODELS``: the matrix that converts parameters of the transform to the eight parameters
            of a homography.

        Returns
        -------
        (matrix, float)
            The transform, and the standard deviation of a position in pixels of the maps (root mean square over the
            maps).

        Notes
        -----
        The sum of the tiles' scores is maximised by a linearised homography near the identity (shift, scale, rotation,
        shear, perspective). The score of each tile has a lower limit, so that misplaced tiles, such as those over
        hidden paint, hardly count. The standard deviation is determined from the curvature at the maximum. For the
        standard deviation, all eight parameters are free, because a simpler transform would not reduce the uncertainty.
        """
        centres, scores = self.tile_scores(matrix)
        map_centre, scale = np.array(self.size[::-1]) / 2, max(self.size) / 2
        position_derivatives, prior_precision = (
            _homography_rows((centres - map_centre) / scale),
            np.array(_HOMOGRAPHY_PRECISION),
        )
        relative_score = _TILE_SCORE_WEIGHT * (scores - scores.max(axis=(1, 2), keepdims=True))
        likelihood = np.log(np.exp(relative_score) + _MISPLACED_TILE_LIKELIHOOD)
        # without smoothing, each grid position would be a local maximum
        likelihood = gaussian_filter(likelihood, (0, 0.7, 0.7))
        tile_index, splines = np.arange(len(centres)), spline_filter1d(spline_filter1d(likelihood, axis=1), axis=2)

        def tile_log_likelihood(homography: NDArray[np.float64]) -> NDArray[np.float64]:
            right_steps, down_steps = (position_derivatives @ homography).reshape(2, -1) / _TILE_SHIFT_STEP_PX + (
                scores.shape[1] - 1
            ) / 2
            return np.asarray(
                map_coordinates(splines, [tile_index, down_steps, right_steps], mode="nearest", prefilter=False)
            )

        def cost(homography: NDArray[np.float64]) -> float:
            return float(-tile_log_likelihood(homography).sum() + 0.5 * ((prior_precision * homography) ** 2).sum())

        n_parameter = parameter_matrix.shape[1]
        bounds = [(-_MAX_TILE_SHIFT_PX, _MAX_TILE_SHIFT_PX)] * n_parameter
        optimum = minimize(
            lambda parameters: cost(parameter_matrix @ parameters),
            np.zeros(n_parameter),
            method="Powell",
            bounds=bounds,
            options={"ftol": 1e-5},
        )
        homography = parameter_matrix @ np.asarray(optimum.x)
        parameter_steps = _TILE_SHIFT_STEP_PX * np.eye(8)
        cost_curvature = np.array(
            [
                [
                    cost(homography + first_step + second_step) - cost(homography + first_step - second_step)
                    - cost(homography - first_step + second_step) + cost(homography - first_step - second_step)
                    for second_step in parameter_steps
                ]
                for first_step in parameter_steps
            ]
        ) / (4 * _TILE_SHIFT_STEP_PX**2)  # fmt: skip
        eigenvalues, eigenvectors = np.linalg.eigh(cost_curvature)
        parameter_covariance = (eigenvectors / np.maximum(eigenvalues, _MIN_COST_CURVATURE)) @ eigenvectors.T
        position_rows = _homography_rows(_POSITION_GRID * map_centre / scale)
        position_variance = np.einsum("ij,jk,ik->i", position_rows, parameter_covariance, position_rows)
        a, b, c, d, e, f, g, h = homography / scale
        homography_matrix = np.array([[1 + b, c, a], [e, 1 + f, d], [-g, -h, 1]])
        unit_matrix = np.array(
            [[1 / scale, 0, -map_centre[0] / scale], [0, 1 / scale, -map_centre[1] / scale], [0, 0, 1]]
        )
        fitted_matrix = matrix @ np.linalg.inv(unit_matrix) @ homography_matrix @ unit_matrix
        return np.asarray(fitted_matrix / fitted_matrix[2, 2]), float(np.sqrt(2.0 * position_variance.mean()))

    def tile_scores(self, matrix: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the centres of the tiles, (n, 2), and the scores of the shifted tiles, (n, n_step, n_step).

        The score of a tile is its log likelihood ratio, in nats, by the joint histogram of map values and colours in
        other tiles. The second and third dimensions of the scores are the shifts down and to the right, from -3 to 3
        pixels of the maps.
        """
        n_row, n_column = self.size
        tile_column = np.minimum((_N_TILES_PER_SIDE * self.at[:, 0] / n_column).astype(int), _N_TILES_PER_SIDE - 1)
        tile_row = np.minimum((_N_TILES_PER_SIDE * self.at[:, 1] / n_row).astype(int), _N_TILES_PER_SIDE - 1)
        tile_index, tile_fold = _N_TILES_PER_SIDE * tile_row + tile_column, (tile_row + tile_column) % 2
        shifts_px = np.arange(-_MAX_TILE_SHIFT_PX, _MAX_TILE_SHIFT_PX + _TILE_SHIFT_STEP_PX / 2, _TILE_SHIFT_STEP_PX)
        fold_tables = [self._tables(matrix, tile_fold != fold_index) for fold_index in (0, 1)]
        scores = np.zeros((shifts_px.size, shifts_px.size, _N_TILES_PER_SIDE**2))
        for i, down_px in enumerate(shifts_px):
            for j, right_px in enumerate(shifts_px):
                colors, is_inside = self._colors_at(matrix, self.at + np.array([right_px, down_px]))
                pixel_score = np.zeros(tile_index.size)
                for fold_index in (0, 1):
                    is_scored = is_inside & (tile_fold == fold_index)
                    for map_bins, log_ratio_table in zip(self.parts, fold_tables[fold_index], strict=True):
                        pixel_score[is_scored] += log_ratio_table[map_bins[is_scored], colors[is_scored]]
                scores[i, j] = np.bincount(tile_index, pixel_score, _N_TILES_PER_SIDE**2)
        tiles = np.unique(tile_index)
        centres = np.array([self.at[tile_index == tile_number].mean(axis=0) for tile_number in tiles])
        return centres, np.moveaxis(scores, 2, 0)[tiles]

    def _colors_at(
        self, matrix: Matrix, map_positions: NDArray[np.float64]
    ) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Return the colour index of the picture at each position on the maps, and whether the picture covers it."""
        x, y = transform_positions(matrix, map_positions).T
        height, width = self.colors.shape
        is_inside = (x > 0) & (y > 0) & (x < width) & (y < height)
        columns, rows = np.where(is_inside, x, 0).astype(np.intp), np.where(is_inside, y, 0).astype(np.intp)
        return self.colors[rows, columns], is_inside

    def _tables(self, matrix: Matrix, is_used: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
        """Return the :func:`_log_likelihood_ratio` table of each map component's values and the picture's colours."""
        colors, is_inside = self._colors_at(matrix, self.at)
        is_used = is_used & is_inside
        return [_log_likelihood_ratio(_joint_histogram(map_bins[is_used], colors[is_used])) for map_bins in self.parts]


def _log_likelihood_ratio(histogram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log ratio of the joint probability of a value and a colour to the product of their probabilities."""
    joint_probability = (histogram + 0.5) / (histogram + 0.5).sum()
    return np.asarray(
        np.log(
            joint_probability
            / (joint_probability.sum(axis=1, keepdims=True) * joint_probability.sum(axis=0, keepdims=True))
        )
    )


def _simplest_transform(comparison: _Comparison, matrix: Matrix) -> tuple[Matrix, float]:
    """Return the refined transform with the best penalised likelihood, and the standard deviation of a position."""
    from skimage import transform

    map_positions = (_POSITION_GRID + 1) / 2 * np.array(comparison.size[::-1])
    candidates = []
    for name, parameter_matrix in _TRANSFORM_MODELS.items():
        fitted_matrix = np.asarray(
            getattr(transform, name).from_estimate(map_positions, transform_positions(matrix, map_positions)).params,
            dtype=np.float64,
        )
        for _ in range(_N_FIT_ITERATIONS):
            fitted_matrix, error_px = comparison.fit_transform(fitted_matrix, parameter_matrix)
        log_likelihood = _TILE_SCORE_WEIGHT * comparison.at.shape[0] * comparison.similarity(fitted_matrix)
        candidates.append(
            (log_likelihood - _MIN_GAIN_PER_PARAMETER * parameter_matrix.shape[1], fitted_matrix, error_px)
        )
    _, best_matrix, error_px = max(candidates, key=lambda candidate: candidate[0])
    return best_matrix, error_px


def _covered_fraction(matrix: Matrix, picture_shape: tuple[int, int], shape: tuple[int, int]) -> float:
    """Return the fraction of the picture's width or of its height that the maps cover, whichever is smaller."""
    corners = transform_positions(
        matrix, np.array([[0, 0], [shape[1], 0], [0, shape[0]], shape[::-1]], dtype=np.float64)
    )
    clipped_corners = np.clip(corners, 0, picture_shape[::-1])
    return float(((clipped_corners.max(axis=0) - clipped_corners.min(axis=0)) / picture_shape[::-1]).min())


def _homography_rows(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return derivatives of (n, 2) positions with respect to a homography's parameters, (2 n, 8): first x, then y."""
    x, y = positions.T
    zeros, ones = np.zeros_like(x), np.ones_like(x)
    return np.concatenate(
        [
            np.column_stack([ones, x, y, zeros, zeros, zeros, x * x, x * y]),
            np.column_stack([zeros, zeros, zeros, ones, x, y, x * y, y * y]),
        ]
    )


def _color_indices(picture: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return, for each pixel of a picture, the index of the nearest of :data:`_N_COLORS` typical colours."""
    pixels = picture.reshape(-1, picture.shape[2])
    sampled_pixels = pixels[:: max(1, len(pixels) // _N_SAMPLED_PIXELS)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy warns of empty clusters, which occur in uniform pictures
        color_centres, _ = kmeans2(sampled_pixels, _N_COLORS, minit="++", seed=0)
    return np.asarray(vq(pixels, color_centres)[0].reshape(picture.shape[:2]), dtype=np.intp)


def _bin_indices(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the bin index of each value. The bins have equal width, from the 1st to the 99th percentile."""
    lower_limit, upper_limit = np.percentile(values, (1, 99))
    relative_values = (
        (values - lower_limit) / (upper_limit - lower_limit) if upper_limit > lower_limit else np.zeros_like(values)
    )
    return np.clip(relative_values * _N_VALUE_BINS, 0, _N_VALUE_BINS - 1).astype(np.intp)


def _joint_histogram(values: NDArray[np.intp], colors: NDArray[np.intp]) -> NDArray[np.float64]:
    return (
        np.bincount(_N_COLORS * values + colors, minlength=_N_VALUE_BINS * _N_COLORS)
        .reshape(_N_VALUE_BINS, _N_COLORS)
        .astype(np.float64)
    )


def _optimise_transform(comparison: _Comparison, initial_matrix: Matrix, n_free: int) -> Matrix:
    """Return a refined transform with six free parameters, or with eight, which include perspective.

    A change of a parameter by one shifts the edges of the maps by about one pixel. The parameters are bounded, because
    a large step on a striped painting leads to the neighbouring stripe.
    """
    n_column, n_row = comparison.at.max(axis=0)
    pixel_side = comparison.pixel * float(np.sqrt(abs(np.linalg.det(initial_matrix[:2, :2]))))
    parameter_units = np.array([1 / n_column, 1 / n_row, 1, 1 / n_column, 1 / n_row, 1]) * pixel_side
    map_centre = np.array([n_column / 2, n_row / 2])
    perspective_units = np.array([1 / n_column**2, 1 / n_row**2])

    def matrix_of(parameters: NDArray[np.float64]) -> Matrix:
        update_matrix = np.eye(3)
        update_matrix[:2, :2] += (parameters[[0, 1, 3, 4]] * parameter_units[[0, 1, 3, 4]]).reshape(2, 2) / pixel_side
        update_matrix[:2, 2] = parameters[[2, 5]]
        if n_free > 6:
            update_matrix[2, :2] = parameters[6:] * perspective_units
        # rotate around the centre of the maps, so that rotation and shift are independent
        to_centre, from_centre = np.eye(3), np.eye(3)
        to_centre[:2, 2], from_centre[:2, 2] = -map_centre, map_centre
        transformed_matrix = initial_matrix @ from_centre @ update_matrix @ to_centre
        return np.asarray(transformed_matrix / transformed_matrix[2, 2])

    optimum = minimize(
        lambda parameters: comparison.negative_similarity(matrix_of(parameters)),
        np.zeros(n_free),
        method="Powell",
        bounds=[(-_OPTIMISATION_LIMIT_PX, _OPTIMISATION_LIMIT_PX)] * n_free,
        options={"xtol": 0.01, "ftol": 1e-6, "maxfev": 700},
    )
    return matrix_of(np.asarray(optimum.x))


def _shift_past_stripes(comparison: _Comparison, initial_matrix: Matrix, shape: tuple[int, int]) -> Matrix:
    """Shift pairs of opposite sides of the maps until the similarity stops rising, and return the best transform.

    On a striped painting, an alignment that is wrong by one stripe is a local optimum, which small steps cannot leave.
    """
    best_matrix = initial_matrix
    for _ in range(_MAX_SHIFT_ROUNDS):
        previous_cost = comparison.negative_similarity(best_matrix)
        for axis, axis_length in enumerate(reversed(shape)):
            candidates = (
                best_matrix @ _side_shift_matrix(axis, axis_length, side_shifts)
                for side_shifts in product(_SIDE_SHIFTS, _SIDE_SHIFTS)
            )
            shifted_matrix = min(candidates, key=comparison.negative_similarity)
            best_matrix = min(
                best_matrix, _optimise_transform(comparison, shifted_matrix, 6), key=comparison.negative_similarity
            )
        if comparison.negative_similarity(best_matrix) > previous_cost - _MIN_SHIFT_GAIN:
            break
    return best_matrix


def _best_rival_transform(comparison: _Comparison, matrix: Matrix) -> Matrix:
    """Return the best transform among those shifted by several pixels of the maps or more, after refinement."""
    shifts = [np.unique(np.round(_SIDE_SHIFTS * axis_length)) for axis_length in reversed(comparison.size)]
    shift_matrices = [
        np.array([[1, 0, right_px], [0, 1, down_px], [0, 0, 1.0]]) for right_px, down_px in product(*shifts)
    ]
    shifted_matrices = [
        matrix @ shift_matrix for shift_matrix in shift_matrices if np.hypot(*shift_matrix[:2, 2]) > 2 * _MAX_ERROR_PX
    ]
    return _optimise_transform(comparison, min(shifted_matrices, key=comparison.negative_similarity), 6)


def _transform_distance_px(first_transform: Matrix, second_transform: Matrix, shape: tuple[int, int]) -> float:
    """Return the root mean square distance between positions under two transforms, in pixels of the maps."""
    map_positions = (_POSITION_GRID + 1) / 2 * np.array(shape[::-1])
    return _rms_point_distance(
        np.asarray(np.linalg.inv(second_transform), dtype=np.float64),
        transform_positions(first_transform, map_positions),
        map_positions,
    )


def _side_shift_matrix(axis: int, axis_length: int, side_shifts: tuple[float, float]) -> Matrix:
    """Return the matrix that shifts each of two opposite sides of the maps along an axis.

    The shifts are fractions of the length of the maps along this axis, and may differ between the two sides.
    """
    first_shift, last_shift = side_shifts
    matrix = np.eye(3)
    matrix[axis, axis], matrix[axis, 2] = 1.0 + last_shift - first_shift, first_shift * axis_length
    return matrix


def _initial_transforms(picture_shape: tuple[int, ...], shape: tuple[int, int]) -> list[Matrix]:
    """Return initial transforms: combinations of several scales, small rotations and small shifts."""
    height, width = picture_shape[:2]
    n_row, n_column = shape
    fill_scale = min(width / n_column, height / n_row)
    initial_transforms = []
    for filled_fraction in _START_SCALES:
        for angle in np.deg2rad(_START_ROTATIONS_DEG):
            cos, sin = filled_fraction * fill_scale * np.cos(angle), filled_fraction * fill_scale * np.sin(angle)
            for right_shift in _START_SHIFTS:
                for down_shift in _START_SHIFTS:
                    x = width * (0.5 + right_shift) - cos * n_column / 2 + sin * n_row / 2
                    y = height * (0.5 + down_shift) - sin * n_column / 2 - cos * n_row / 2
                    initial_transforms.append(np.array([[cos, -sin, x], [sin, cos, y], [0, 0, 1.0]]))
    return initial_transforms


def _distinct_transforms(transforms: Sequence[Matrix], shape: tuple[int, int], min_distance: float) -> list[Matrix]:
    """Return up to ``_MAX_INITIAL_TRANSFORMS`` transforms that differ by more than ``min_distance`` picture pixels.

    The best initial transforms resemble each other. On a striped painting, all might converge to the same wrong stripe.
    """
    n_row, n_column = shape
    corners = np.array([[0, 0], [n_column, 0], [0, n_row], [n_column, n_row]], dtype=np.float64)
    distinct_transforms: list[Matrix] = []
    known_corners: list[NDArray[np.float64]] = []
    for transform in transforms:
        transformed_corners = transform_positions(transform, corners)
        if all(
            np.sqrt(((transformed_corners - other_corners) ** 2).sum(axis=1).mean()) > min_distance
            for other_corners in known_corners
        ):
            distinct_transforms.append(transform)
            known_corners.append(transformed_corners)
        if len(distinct_transforms) == _MAX_INITIAL_TRANSFORMS:
            break
    return distinct_transforms


def _map_components(maps: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float64]]:
    """Return the principal components of the maps, which are first clipped and standardised."""
    standardised_maps = []
    for map_counts in maps:
        filled_map = np.nan_to_num(np.asarray(map_counts, dtype=np.float64), nan=0.0)
        upper_limit = np.percentile(filled_map, 99)
        map_values = np.sqrt(np.clip(filled_map, 0, upper_limit if upper_limit > 0 else filled_map.max())).ravel()
        if map_values.std() > 1e-9:
            standardised_maps.append((map_values - map_values.mean()) / map_values.std())
    if not standardised_maps:
        raise ScanError(
            "Cannot register the picture automatically: the maps are uniform, so the picture cannot be compared with "
            "them. Mark points."
        )
    _, _, principal_axes = np.linalg.svd(np.asarray(standardised_maps), full_matrices=False)
    return [axis.reshape(maps[0].shape) for axis in principal_axes[:_MAX_COMPONENTS]]


def _map_pixel_side(matrix: Matrix, shape: tuple[int, int]) -> float:
    """Return the side length of a map pixel, in pixels of the picture."""
    n_row, n_column = shape
    corners = transform_positions(matrix, np.array([[0, 0], [n_column, 0], [0, n_row]], dtype=np.float64))
    width, height = (np.linalg.norm(corners[index] - corners[0]) for index in (1, 2))
    return float(max(width / n_column, height / n_row))


def _is_spread_out(points: NDArray[np.floating]) -> bool:
    """Return whether points are distinct. Three or more points must also not be collinear."""
    singular_values = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return bool(singular_values[0] > 1e-6 and (len(points) < 3 or singular_values[1] > 1e-3 * singular_values[0]))


def _rms_point_distance(
    matrix: Matrix, picture_points: NDArray[np.floating], map_points: NDArray[np.floating]
) -> float:
    return float(np.sqrt(((transform_positions(matrix, picture_points) - map_points) ** 2).sum(axis=1).mean()))
