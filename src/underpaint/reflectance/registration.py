"""Register a photograph or a cube to the element maps, by marked points or by mutual information."""

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
"""Resolution of the search and of the refinement: pixels along the longer side of the maps."""
_BINS = 12
"""Bins of the values of a map component, for mutual information."""
_COMPONENTS = 3
_START_SCALES = np.arange(1.0, 0.49, -0.0625)
"""Scales of the initial transforms: fraction of the picture that the maps fill."""
_START_ROTATIONS_DEG = (0.0, -3.0, 3.0, -6.0, 6.0)
_START_SHIFTS = np.linspace(-0.15, 0.15, 11)
"""Shifts of the initial transforms from the centre, as fractions of the picture's width and height."""
_CLIMB_LIMIT_PX = 4.0
"""Bound of each parameter in one optimisation, in pixels of the comparison."""
_MAX_STARTS, _MIN_START_DISTANCE = 8, 0.04
"""Number of initial transforms that are refined, and their minimum distance as a fraction of the picture's longer side.
Closer ones would converge to the same transform."""
_MIN_SIMILARITY = 0.4
"""Mutual information, nats, in excess of that expected by chance, below which a registration is refused."""
_SLIDES = np.linspace(-0.2, 0.2, 25)
"""Shifts tried for each side of the maps, as fractions of the width or height."""
_MAX_SLIDE_ROUNDS, _MIN_SLIDE_GAIN = 4, 0.01
"""Number of rounds of shifts, and the gain in nats below which they stop."""
_COLORS, _CLUSTER_SAMPLE = 20, 4000
"""Number of typical colours of the picture, and of the pixels from which they are determined."""
_TILES = 5
"""Number of tiles along each side of the maps; the transform of each tile is compared with the others."""
_TILE_REACH_PX, _TILE_STEP_PX = 3.0, 0.5
"""Largest shift of a tile that is scored, and the step between shifts, in pixels of the maps."""
_EVIDENCE_WEIGHT, _OUTLIER_LIKELIHOOD = 0.05, 0.02
"""Weight of a tile's score, below one because neighbouring pixels are correlated; likelihood of a misplaced tile."""
_N_REFINEMENT = 2
_HOMOGRAPHY_PRECISION = (0.0, 0.5, 0.5, 0.0, 0.5, 0.5, 1.0, 1.0)
"""Prior precision (one over the standard deviation, pixels) of the eight parameters of a homography."""
_MIN_CURVATURE = 0.05
"""Lower bound of the eigenvalues of the curvature, so that the covariance is finite."""
_GRID = np.stack(np.meshgrid(*2 * (np.linspace(-1, 1, 7),)), axis=2).reshape(-1, 2)
"""Grid of positions over the maps, in coordinates from -1 to 1."""
_MODELS = {
    "SimilarityTransform": np.array(
        [[1.0, 0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 1, 0, 0], [0, 0, 1, 0, -1, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0, 0]]
    ).T,
    "AffineTransform": np.eye(8)[:, :6],
    "ProjectiveTransform": np.eye(8),
}
"""Transforms of scikit-image, simplest first, with the matrix from their parameters to those of a homography."""
_MIN_GAIN_PER_PARAMETER = 2.0
"""Gain in log likelihood that each further parameter of a more complex model must bring."""
_MAX_WELL_ERROR_PX, _MAX_ERROR_PX, _MAX_POINT_ERROR_PX = 0.6, 1.2, 1.0
"""Maximum error of the verdict "well"; error above which a registration is refused; maximum error of marked points for
"well". In pixels of the maps."""
_MIN_RIVAL_SIMILARITY = 0.95
"""Similarity of another position, relative to the best one, above which the verdict is "doubtful". On virtual twins the
ratio is up to 0.91 if the best position is right, and 0.975 if it is wrong by 4 pixels."""
_MIN_COVERED_FRACTION = 0.5
"""Fraction of the picture's width and height that the maps must cover for the verdict "well"."""
Verdict = Literal["well", "doubtful"]


@dataclass(frozen=True)
class Registration:
    """Position of a picture relative to the maps.

    Parameters
    ----------
    matrix : (3, 3) array
        Transforms a position on the maps (column, row, 1) to one on the picture (x, y, 1), both in pixels. The centre
        of the first pixel is at (0.5, 0.5).
    method : str
        "points" or "mutual information".
    error_px : float or None
        Error in pixels of the maps. By points: root mean square residual, None if there are no more points than the
        transform needs. By mutual information: standard deviation of a position, averaged over the maps.
    similarity : float or None
        Mutual information of the maps and the picture per pixel of the maps, nats, summed over the map components.
    verdict : str
        "well" if the estimated error is below one pixel of the maps, otherwise "doubtful".
    """

    matrix: Matrix
    method: Literal["points", "mutual information"]
    error_px: float | None = None
    similarity: float | None = None
    verdict: Verdict = "well"


def by_points(
    on_picture: Sequence[tuple[float, float]], on_maps: Sequence[tuple[float, float]], picture: str = "photograph"
) -> Registration:
    """Register a picture by pairs of corresponding points.

    Parameters
    ----------
    on_picture, on_maps : sequence of (x, y)
        Corresponding positions in pixels. Two pairs determine shift, rotation and scale, three also shear, four or more
        also perspective.
    picture : str
        Kind of the picture, for messages.

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
        count = min(len(map_points), len(picture_points))
        raise ScanError(
            f"Cannot register the {picture} by {count} pair{'' if count == 1 else 's'} of points: at least "
            f"{MIN_POINTS} are needed, and four or more determine perspective as well. Mark more points."
        )
    if not (np.isfinite(picture_points).all() and np.isfinite(map_points).all()):
        raise ScanError(
            f"Cannot register the {picture} by these points: a coordinate is not finite. Mark the point again."
        )
    if not (_spread(map_points) and _spread(picture_points)):
        raise ScanError(
            f"Cannot register the {picture} by these points: they are collinear or coincide. Spread them out."
        )
    transforms = {2: transform.SimilarityTransform, 3: transform.AffineTransform}
    try:
        kind = transforms.get(len(map_points), transform.ProjectiveTransform)
        estimated = kind.from_estimate(map_points, picture_points)
        matrix = np.asarray(estimated.params, dtype=np.float64) if estimated else np.full((3, 3), np.nan)
        inverse = np.asarray(np.linalg.inv(matrix), dtype=np.float64)
    except np.linalg.LinAlgError:
        matrix = inverse = np.full((3, 3), np.nan)
    if not (np.isfinite(matrix).all() and np.isfinite(inverse).all()):
        raise ScanError(f"Cannot register the {picture} by these points: no transform fits them. Mark them again.")
    error = _distance(inverse, picture_points, map_points) if len(map_points) > 4 else None
    is_reliable = error is None or error <= _MAX_POINT_ERROR_PX
    return Registration(matrix, "points", error, verdict="well" if is_reliable else "doubtful")


def automatically(picture: NDArray[np.floating], maps: Sequence[NDArray[np.float32]]) -> Registration:
    """Register a picture by maximising its mutual information with the maps.

    Parameters
    ----------
    picture : (height, width, n_channel) array
        A photograph, or components of a cube (:func:`cube_components`).
    maps : sequence of (n_row, n_column) arrays
        Maps with structure, NaN where there is no value. Their principal components are compared.

    Returns
    -------
    Registration
        A similarity, affine or projective transform: the simplest whose likelihood is close to the best. The search
        assumes that the picture is upright, rotated by less than about ten degrees, and that the maps cover at least
        half of it.

    Raises
    ------
    ScanError
        The maps have no structure, or share too little information with the picture.

    Notes
    -----
    In the last step the maps are divided into tiles. Each tile is shifted separately and scored by the joint histogram
    of map values and colours in the other tiles. The transform is fitted to the best shifts, and their scatter gives
    its error. For a picture of another painting the shifts are random.

    The verdict is "doubtful" in two further cases: the maps cover less than half of the picture's width or height, or a
    position some pixels away has nearly the same similarity, as on a panel of identical patches.

    References
    ----------
    Maes et al. 1997, IEEE Trans. Med. Imaging 16, 187, doi:10.1109/42.563664: registration by mutual information.
    """
    parts = _components(maps)
    n_row, n_column = parts[0].shape
    size = (int(picture.shape[0]), int(picture.shape[1]))
    coarse = _Comparison(picture, parts, min(1.0, _COARSE_SIZE_PX / max(n_row, n_column)))
    starts = sorted(_starts(size, (n_row, n_column)), key=coarse.negative_similarity)
    min_distance = _MIN_START_DISTANCE * max(size)
    refined = [_climb(coarse, start, 6) for start in _distinct(starts, (n_row, n_column), min_distance)]
    best = _past_stripes(coarse, min(refined, key=coarse.negative_similarity), (n_row, n_column))
    fine = _Comparison(picture, parts, min(1.0, _FINE_SIZE_PX / max(n_row, n_column)))
    for n_free in (6, 8):
        best = _climb(fine, best, n_free)
    best, error_px = _simplest(fine, best)
    similarity = fine.similarity(best)
    rival = _rival(fine, best)
    if fine.similarity(rival) > similarity:
        better, its_error_px = _simplest(fine, rival)
        if fine.similarity(better) > similarity:
            best, rival, error_px, similarity = better, best, its_error_px, fine.similarity(better)
    if similarity < _MIN_SIMILARITY or error_px > _MAX_ERROR_PX:
        raise ScanError(
            "Cannot register the picture automatically: no position of it matches the maps (similarity "
            f"{similarity:.2f} nats, at least {_MIN_SIMILARITY:g} needed; error {error_px:.1f} pixels of the maps, at "
            f"most {_MAX_ERROR_PX:g} allowed). Check that it is upright and of this painting, or mark points."
        )
    has_rival = (
        _apart_px(rival, best, (n_row, n_column)) > _MAX_ERROR_PX
        and fine.similarity(rival) > _MIN_RIVAL_SIMILARITY * similarity
    )
    is_reliable = (
        error_px <= _MAX_WELL_ERROR_PX
        and not has_rival
        and _covered(best, size, (n_row, n_column)) >= _MIN_COVERED_FRACTION
    )
    return Registration(best, "mutual information", error_px, similarity, "well" if is_reliable else "doubtful")


def any_way_up(
    picture: NDArray[np.floating], maps: Sequence[NDArray[np.float32]], progress: Progress = no_progress
) -> Registration:
    """Register a picture automatically that may be rotated by quarter turns or mirrored.

    The upright orientation is tried first. The others are tried only if the result is refused or doubtful, and
    accepted only with the verdict "well".

    Parameters
    ----------
    picture, maps
        See :func:`automatically`.
    progress : callable
        Called with the task, the number of orientations tried and their total.

    Raises
    ------
    ScanError
        The upright orientation is refused and no other one is registered well.
    """
    upright_registration: Registration | None = None
    refusal = ScanError()
    orientations = [(turns, mirrored) for mirrored in (False, True) for turns in range(4)]
    for number, (turns, mirrored) in enumerate(orientations):
        progress("Registering the cube to the maps", number, len(orientations))
        turned = np.rot90(picture[:, ::-1] if mirrored else picture, turns)
        try:
            registered = automatically(turned, maps)
        except ScanError as error:
            refusal = error if number == 0 else refusal
            continue
        if registered.verdict == "well":
            return replace(registered, matrix=_turned_back(picture.shape, turns, mirrored=mirrored) @ registered.matrix)
        upright_registration = registered if number == 0 else upright_registration
    if upright_registration is None:
        raise refusal
    return upright_registration


def _turned_back(shape: tuple[int, ...], turns: int, *, mirrored: bool) -> Matrix:
    """Return the matrix from positions on a mirrored and then rotated picture to positions on the original picture."""
    height, width = shape[:2]
    to_original = np.array([[-1.0, 0, width], [0, 1, 0], [0, 0, 1]]) if mirrored else np.eye(3)
    for _ in range(turns):
        to_original = to_original @ np.array([[0, -1.0, width], [1, 0, 0], [0, 0, 1]])
        height, width = width, height
    return to_original


def cube_components(channels: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """Return the principal components of bands that hold 1 % or more of the variance, (height, width, n), n up to 3.

    Parameters
    ----------
    channels : sequence of (height, width) arrays
        Logarithms of reflectance; NaN where missing.
    """
    rows = []
    for channel in channels:
        flat = np.asarray(channel, dtype=np.float64).ravel()
        middle = float(np.nanmedian(flat))
        rows.append(np.nan_to_num(flat, nan=middle) - middle)
    stacked = np.asarray(rows)
    values, vectors = np.linalg.eigh(stacked @ stacked.T)
    components = [index for index in np.argsort(values)[::-1][:_COMPONENTS] if values[index] > 0.01 * values.sum()]
    return np.stack([(vectors[:, index] @ stacked).reshape(np.shape(channels[0])) for index in components], axis=2)


def telling_maps(maps: ResultMaps) -> list[NDArray[np.float32]]:
    """Return the maps with the highest contrast: of line families, or of pigments if there are none."""
    kinds = [entry.kind for entry in maps.entries]
    chosen_kind = "element" if "element" in kinds else "group" if "group" in kinds else "member"
    candidates = [maps.values(index) for index, kind in enumerate(kinds) if kind == chosen_kind]
    contrast = [float(np.nanpercentile(values, 95) - np.nanpercentile(values, 5)) for values in candidates]
    order = np.argsort(contrast)[::-1][:_MAX_MAPS]
    return [candidates[index] for index in order]


def read_points(
    path: str | Path, picture: tuple[int, int], maps: tuple[int, int]
) -> list[tuple[float, float, float, float]]:
    """Read pairs of points from a text file: x and y on the picture, column and row on the maps, in pixels.

    Parameters
    ----------
    path : str or Path
    picture, maps : (int, int)
        Rows and columns of the picture and of the maps; points outside are an error.

    Raises
    ------
    ScanError
        The file cannot be read, a line after the first does not hold four numbers, or a point lies outside.
    """
    text = read_bounded(Path(path), 2**20, ScanError).decode("utf-8", "replace")
    limits = (
        ("x", picture[1], "picture"), ("y", picture[0], "picture"),
        ("column", maps[1], "maps"), ("row", maps[0], "maps"),
    )  # fmt: skip
    points = []
    for number, line in enumerate(text.splitlines()):
        words = [word for word in re.split(r"[,;\s]+", line.strip()) if word]
        try:
            x, y, column, row = map(float, words)
        except ValueError as error:
            if not words or words[0].startswith("#") or number == 0:
                continue
            raise ScanError(
                f"Cannot read {path}: line {number + 1} is {line[:60]!r}; it must hold four numbers, x and y on the "
                "picture and column and row on the maps, in pixels. Correct the line."
            ) from error
        for value, (name, maximum, image) in zip((x, y, column, row), limits, strict=True):
            if not 0 <= value <= maximum:  # NaN fails as well
                raise ScanError(
                    f"Cannot use {path}: in line {number + 1}, {line[:60]!r}, {name} is {value:g} pixels; the {image} "
                    f"allow{'s' if image == 'picture' else ''} 0 to {maximum}. Correct the line."
                )
        points.append((x, y, column, row))
    return points


def warped(photograph: Image, matrix: Matrix, shape: tuple[int, int], scale: int) -> Image:
    """Return the picture resampled to the maps, (scale n_row, scale n_column, 3); black outside the picture."""
    from skimage import transform

    # from pixel centres of the new picture, counted from 0, to positions on the maps
    to_maps = np.array([[1 / scale, 0, 0.5 / scale], [0, 1 / scale, 0.5 / scale], [0, 0, 1.0]])
    to_pixel_index = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1.0]])
    to_picture = transform.ProjectiveTransform(to_pixel_index @ matrix @ to_maps)
    size = (shape[0] * scale, shape[1] * scale)
    # smoothing before reduction avoids aliasing of fine canvas
    shrink = _photograph_pixels(matrix, shape) / scale
    smooth = gaussian_filter(photograph, (0.4 * shrink, 0.4 * shrink, 0)) if shrink > 1.5 else photograph
    return np.asarray(transform.warp(smooth, to_picture, output_shape=size, order=1), dtype=np.float32)


def place(matrix: NDArray[np.floating], at: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return positions (x, y), (n, 2), transformed by a matrix."""
    moved = np.column_stack([at, np.ones(len(at))]) @ matrix.T
    return np.asarray(moved[:, :2] / moved[:, 2:])


class _Comparison:
    """The maps and the picture at one resolution, with their similarity under a transform.

    The picture is reduced to the index of the nearest of :data:`_COLORS` typical colours. The typical colours are
    determined in all channels together, because pigments differ in colour rather than in one channel.
    """

    def __init__(self, picture: NDArray[np.floating], parts: Sequence[NDArray[np.float64]], factor: float) -> None:
        n_row, n_column = parts[0].shape
        sigma = 0.4 / factor if factor < 1 else 0.0
        rows, columns = (np.linspace(0.5, size - 0.5, max(round(size * factor), 8)) for size in (n_row, n_column))
        self.pixel = max(columns[1] - columns[0], rows[1] - rows[0])
        grid = np.meshgrid(columns, rows)
        self.at = np.column_stack([axis.ravel() for axis in grid])
        index = np.array([grid[1].ravel() - 0.5, grid[0].ravel() - 0.5])
        shown = [map_coordinates(gaussian_filter(part, sigma), index, order=1, mode="nearest") for part in parts]
        self.parts = [_binned(part) for part in shown]
        # detail finer than the maps would only add noise
        blur = 0.3 * max(picture.shape[0] / n_row, picture.shape[1] / n_column) / factor
        self.colors = _clustered(gaussian_filter(picture.astype(np.float32), (blur, blur, 0)))
        self.size = (n_row, n_column)

    def similarity(self, matrix: Matrix) -> float:
        """Return the mutual information per map pixel in excess of chance, nats; 0 if half lie off the picture."""
        colors, inside = self._colors_at(matrix, self.at)
        if inside.mean() < 0.5:
            return 0.0
        by_chance = 0.5 * (_BINS - 1) * (_COLORS - 1) / inside.sum()
        information = sum(_information(part[inside], colors[inside]) - by_chance for part in self.parts)
        return float(information) * float(inside.mean())

    def negative_similarity(self, matrix: Matrix) -> float:
        """Return the negative similarity, for minimisation."""
        return -self.similarity(matrix)

    def fitted(self, matrix: Matrix, model: NDArray[np.float64]) -> tuple[Matrix, float]:
        """Return the transform that fits all tiles of the maps, and its error.

        Parameters
        ----------
        matrix : (3, 3) array
            Initial transform.
        model : (8, n_parameter) array
            Matrix from the parameters of the model to the eight parameters of a homography, one of ``_MODELS``.

        Returns
        -------
        (matrix, float)
            The transform, and the standard deviation of a position, root mean square over the maps, in pixels of the
            maps.

        Notes
        -----
        A linearised homography near the identity (shift, scale, rotation, shear, perspective) maximises the sum of the
        tiles' scores. The score of a tile far from its best shift, as over hidden paint, is bounded below. The standard
        deviation follows from the curvature at the maximum with all eight parameters free, whatever the model: a
        simple model does not reduce the uncertainty.
        """
        centres, scores = self.tile_scores(matrix)
        middle, scale = np.array(self.size[::-1]) / 2, max(self.size) / 2
        rows, precision = _homography_rows((centres - middle) / scale), np.array(_HOMOGRAPHY_PRECISION)
        relative = _EVIDENCE_WEIGHT * (scores - scores.max(axis=(1, 2), keepdims=True))
        likelihood = np.log(np.exp(relative) + _OUTLIER_LIKELIHOOD)
        # without smoothing, each shift on the grid would be a local maximum
        likelihood = gaussian_filter(likelihood, (0, 0.7, 0.7))
        tile_index, splines = np.arange(len(centres)), spline_filter1d(spline_filter1d(likelihood, axis=1), axis=2)

        def tile_log_likelihood(free: NDArray[np.float64]) -> NDArray[np.float64]:
            right, down = (rows @ free).reshape(2, -1) / _TILE_STEP_PX + (scores.shape[1] - 1) / 2
            return np.asarray(map_coordinates(splines, [tile_index, down, right], mode="nearest", prefilter=False))

        def cost(free: NDArray[np.float64]) -> float:
            return float(-tile_log_likelihood(free).sum() + 0.5 * ((precision * free) ** 2).sum())

        n_parameter = model.shape[1]
        bounds = [(-_TILE_REACH_PX, _TILE_REACH_PX)] * n_parameter
        best = minimize(
            lambda parameters: cost(model @ parameters),
            np.zeros(n_parameter),
            method="Powell",
            bounds=bounds,
            options={"ftol": 1e-5},
        )
        free = model @ np.asarray(best.x)
        steps = _TILE_STEP_PX * np.eye(8)
        curvature = np.array(
            [
                [
                    cost(free + step + other_step) - cost(free + step - other_step)
                    - cost(free - step + other_step) + cost(free - step - other_step)
                    for other_step in steps
                ]
                for step in steps
            ]
        ) / (4 * _TILE_STEP_PX**2)  # fmt: skip
        values, vectors = np.linalg.eigh(curvature)
        covariance = (vectors / np.maximum(values, _MIN_CURVATURE)) @ vectors.T
        position_rows = _homography_rows(_GRID * middle / scale)
        variance = np.einsum("ij,jk,ik->i", position_rows, covariance, position_rows)
        a, b, c, d, e, f, g, h = free / scale
        moving = np.array([[1 + b, c, a], [e, 1 + f, d], [-g, -h, 1]])
        to_unit = np.array([[1 / scale, 0, -middle[0] / scale], [0, 1 / scale, -middle[1] / scale], [0, 0, 1]])
        better = matrix @ np.linalg.inv(to_unit) @ moving @ to_unit
        return np.asarray(better / better[2, 2]), float(np.sqrt(2.0 * variance.mean()))

    def tile_scores(self, matrix: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the centres of the tiles of the maps, (n, 2), and their scores, (n, n_step, n_step), in nats.

        The score of a tile is its log likelihood ratio under the joint histogram of map values and colours in other
        tiles. The second dimension is the shift down, the third the shift to the right, -3 to 3 pixels of the maps.
        """
        n_row, n_column = self.size
        column = np.minimum((_TILES * self.at[:, 0] / n_column).astype(int), _TILES - 1)
        row = np.minimum((_TILES * self.at[:, 1] / n_row).astype(int), _TILES - 1)
        tile, fold = _TILES * row + column, (row + column) % 2
        steps = np.arange(-_TILE_REACH_PX, _TILE_REACH_PX + _TILE_STEP_PX / 2, _TILE_STEP_PX)
        tables = [self._tables(matrix, fold != each) for each in (0, 1)]
        scores = np.zeros((steps.size, steps.size, _TILES**2))
        for i, down in enumerate(steps):
            for j, right in enumerate(steps):
                colors, inside = self._colors_at(matrix, self.at + np.array([right, down]))
                score = np.zeros(tile.size)
                for each in (0, 1):
                    chosen = inside & (fold == each)
                    for part, table in zip(self.parts, tables[each], strict=True):
                        score[chosen] += table[part[chosen], colors[chosen]]
                scores[i, j] = np.bincount(tile, score, _TILES**2)
        tiles = np.unique(tile)
        centres = np.array([self.at[tile == index].mean(axis=0) for index in tiles])
        return centres, np.moveaxis(scores, 2, 0)[tiles]

    def _colors_at(self, matrix: Matrix, at: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Return the colour indices of the picture at positions of the maps, and which positions lie on the picture."""
        positions = place(matrix, at)
        height, width = self.colors.shape
        is_inside = (positions > 0).all(axis=1) & (positions[:, 0] < width) & (positions[:, 1] < height)
        columns, rows = np.where(is_inside[:, None], positions, 0).astype(np.intp).T
        return self.colors[rows, columns], is_inside

    def _tables(self, matrix: Matrix, chosen: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
        """Return for each map component the log ratio of :func:`_log_ratio` between its values and the colours."""
        colors, inside = self._colors_at(matrix, self.at)
        chosen = chosen & inside
        return [_log_ratio(_joint(part[chosen], colors[chosen])) for part in self.parts]


def _log_ratio(joint: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of the joint frequency of value and colour over that expected if they were independent."""
    share = (joint + 0.5) / (joint + 0.5).sum()
    return np.asarray(np.log(share / (share.sum(axis=1, keepdims=True) * share.sum(axis=0, keepdims=True))))


def _simplest(comparison: _Comparison, matrix: Matrix) -> tuple[Matrix, float]:
    """Return the refined transform with the best likelihood, penalised per parameter, and its standard deviation."""
    from skimage import transform

    grid = (_GRID + 1) / 2 * np.array(comparison.size[::-1])
    candidates = []
    for name, model in _MODELS.items():
        fitted = np.asarray(getattr(transform, name).from_estimate(grid, place(matrix, grid)).params, dtype=np.float64)
        for _ in range(_N_REFINEMENT):
            fitted, error_px = comparison.fitted(fitted, model)
        likelihood = _EVIDENCE_WEIGHT * comparison.at.shape[0] * comparison.similarity(fitted)
        candidates.append((likelihood - _MIN_GAIN_PER_PARAMETER * model.shape[1], fitted, error_px))
    _, best, error_px = max(candidates, key=lambda candidate: candidate[0])
    return best, error_px


def _covered(matrix: Matrix, size: tuple[int, int], shape: tuple[int, int]) -> float:
    """Return the fraction of the picture's width or height that the maps cover, whichever is smaller."""
    corners = place(matrix, np.array([[0, 0], [shape[1], 0], [0, shape[0]], shape[::-1]], dtype=np.float64))
    clipped = np.clip(corners, 0, size[::-1])
    return float(((clipped.max(axis=0) - clipped.min(axis=0)) / size[::-1]).min())


def _homography_rows(at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (2 n, 8) derivatives of x, then of y, of (n, 2) positions by the parameters of a homography."""
    x, y = at.T
    zeros, ones = np.zeros_like(x), np.ones_like(x)
    return np.concatenate(
        [
            np.column_stack([ones, x, y, zeros, zeros, zeros, x * x, x * y]),
            np.column_stack([zeros, zeros, zeros, ones, x, y, x * y, y * y]),
        ]
    )


def _clustered(picture: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return for each pixel of a picture the index of the nearest of :data:`_COLORS` typical colours."""
    flat = picture.reshape(-1, picture.shape[2])
    sampled = flat[:: max(1, len(flat) // _CLUSTER_SAMPLE)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy warns of empty clusters, as in a uniform picture
        centres, _ = kmeans2(sampled, _COLORS, minit="++", seed=0)
    return np.asarray(vq(flat, centres)[0].reshape(picture.shape[:2]), dtype=np.intp)


def _binned(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the index of the bin of each value; ``_BINS`` equal bins span the 1st to 99th percentile."""
    lower, upper = np.percentile(values, (1, 99))
    scaled = (values - lower) / (upper - lower) if upper > lower else np.zeros_like(values)
    return np.clip(scaled * _BINS, 0, _BINS - 1).astype(np.intp)


def _joint(values: NDArray[np.intp], colors: NDArray[np.intp]) -> NDArray[np.float64]:
    return np.bincount(_COLORS * values + colors, minlength=_BINS * _COLORS).reshape(_BINS, _COLORS).astype(np.float64)


def _information(values: NDArray[np.intp], colors: NDArray[np.intp]) -> float:
    """Return the mutual information of a binned map and a clustered picture, nats."""
    joint_frequency = _joint(values, colors) / max(values.size, 1)
    independent = joint_frequency.sum(axis=1, keepdims=True) * joint_frequency.sum(axis=0, keepdims=True)
    positive = joint_frequency > 0
    return float((joint_frequency[positive] * np.log(joint_frequency[positive] / independent[positive])).sum())


def _climb(comparison: _Comparison, start: Matrix, n_free: int) -> Matrix:
    """Refine a transform: six parameters, or eight with perspective, in units of about one pixel of the comparison.

    The parameters are bounded, because on a striped painting a large step ends at the neighbouring stripe.
    """
    n_column, n_row = comparison.at.max(axis=0)
    pixel = comparison.pixel * float(np.sqrt(abs(np.linalg.det(start[:2, :2]))))
    units = np.array([1 / n_column, 1 / n_row, 1, 1 / n_column, 1 / n_row, 1]) * pixel
    middle = np.array([n_column / 2, n_row / 2])
    perspective = np.array([1 / n_column**2, 1 / n_row**2])

    def matrix_of(free: NDArray[np.float64]) -> Matrix:
        moved = np.eye(3)
        moved[:2, :2] += (free[[0, 1, 3, 4]] * units[[0, 1, 3, 4]]).reshape(2, 2) / pixel
        moved[:2, 2] = free[[2, 5]]
        if n_free > 6:
            moved[2, :2] = free[6:] * perspective
        # about the centre of the maps, so that a rotation does not shift them
        to_middle, back = np.eye(3), np.eye(3)
        to_middle[:2, 2], back[:2, 2] = -middle, middle
        transformed = start @ back @ moved @ to_middle
        return np.asarray(transformed / transformed[2, 2])

    minimum = minimize(
        lambda free: comparison.negative_similarity(matrix_of(free)),
        np.zeros(n_free),
        method="Powell",
        bounds=[(-_CLIMB_LIMIT_PX, _CLIMB_LIMIT_PX)] * n_free,
        options={"xtol": 0.01, "ftol": 1e-6, "maxfev": 700},
    )
    return matrix_of(np.asarray(minimum.x))


def _past_stripes(comparison: _Comparison, start: Matrix, shape: tuple[int, int]) -> Matrix:
    """Shift pairs of opposite sides of the maps to all positions nearby, until the similarity stops rising.

    On a striped painting an alignment that is off by one stripe is a local optimum: no small step improves it.
    """
    best = start
    for _ in range(_MAX_SLIDE_ROUNDS):
        before = comparison.negative_similarity(best)
        for axis, size in enumerate(reversed(shape)):
            candidates = (best @ _slide(axis, size, sides) for sides in product(_SLIDES, _SLIDES))
            slid = min(candidates, key=comparison.negative_similarity)
            best = min(best, _climb(comparison, slid, 6), key=comparison.negative_similarity)
        if comparison.negative_similarity(best) > before - _MIN_SLIDE_GAIN:
            break
    return best


def _rival(comparison: _Comparison, matrix: Matrix) -> Matrix:
    """Return the best transform among those shifted by some pixels of the maps or more, refined."""
    shifts = [np.unique(np.round(_SLIDES * size)) for size in reversed(comparison.size)]
    shift_matrices = [np.array([[1, 0, right], [0, 1, down], [0, 0, 1.0]]) for right, down in product(*shifts)]
    shifted_matrices = [matrix @ move for move in shift_matrices if np.hypot(*move[:2, 2]) > 2 * _MAX_ERROR_PX]
    return _climb(comparison, min(shifted_matrices, key=comparison.negative_similarity), 6)


def _apart_px(first: Matrix, second: Matrix, shape: tuple[int, int]) -> float:
    """Return the root mean square distance between two transforms of the maps, in pixels of the maps."""
    grid = (_GRID + 1) / 2 * np.array(shape[::-1])
    return _distance(np.asarray(np.linalg.inv(second), dtype=np.float64), place(first, grid), grid)


def _slide(axis: int, size: int, moved: tuple[float, float]) -> Matrix:
    """Return the matrix that shifts the two sides of the maps at the ends of an axis, by fractions of its length."""
    first_shift, last_shift = moved
    matrix = np.eye(3)
    matrix[axis, axis], matrix[axis, 2] = 1.0 + last_shift - first_shift, first_shift * size
    return matrix


def _starts(photograph: tuple[int, ...], shape: tuple[int, int]) -> list[Matrix]:
    """Return initial transforms: the maps fill a fraction of the picture, with small rotations and shifts."""
    height, width = photograph[:2]
    n_row, n_column = shape
    fit = min(width / n_column, height / n_row)
    starts = []
    for fraction in _START_SCALES:
        for angle in np.deg2rad(_START_ROTATIONS_DEG):
            cos, sin = fraction * fit * np.cos(angle), fraction * fit * np.sin(angle)
            for right in _START_SHIFTS:
                for down in _START_SHIFTS:
                    x = width * (0.5 + right) - cos * n_column / 2 + sin * n_row / 2
                    y = height * (0.5 + down) - sin * n_column / 2 - cos * n_row / 2
                    starts.append(np.array([[cos, -sin, x], [sin, cos, y], [0, 0, 1.0]]))
    return starts


def _distinct(starts: Sequence[Matrix], shape: tuple[int, int], min_distance: float) -> list[Matrix]:
    """Return the first ``_MAX_STARTS`` transforms whose corners lie at least ``min_distance`` apart, picture pixels.

    The best initial transforms are neighbours. On a striped painting all of them would converge to the same wrong
    stripe.
    """
    n_row, n_column = shape
    corners = np.array([[0, 0], [n_column, 0], [0, n_row], [n_column, n_row]], dtype=np.float64)
    chosen: list[Matrix] = []
    chosen_corners: list[NDArray[np.float64]] = []
    for start in starts:
        moved = place(start, corners)
        if all(np.sqrt(((moved - other) ** 2).sum(axis=1).mean()) > min_distance for other in chosen_corners):
            chosen.append(start)
            chosen_corners.append(moved)
        if len(chosen) == _MAX_STARTS:
            break
    return chosen


def _components(maps: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float64]]:
    """Return the principal components of the maps, each clipped at its 99th percentile and standardised."""
    rows = []
    for values in maps:
        filled = np.nan_to_num(np.asarray(values, dtype=np.float64), nan=0.0)
        top = np.percentile(filled, 99)
        flat = np.sqrt(np.clip(filled, 0, top if top > 0 else filled.max())).ravel()
        if flat.std() > 1e-9:
            rows.append((flat - flat.mean()) / flat.std())
    if not rows:
        raise ScanError(
            "Cannot register the picture automatically: the maps are uniform, so there is nothing to compare it with. "
            "Mark points."
        )
    _, _, axes = np.linalg.svd(np.asarray(rows), full_matrices=False)
    return [component.reshape(maps[0].shape) for component in axes[:_COMPONENTS]]


def _photograph_pixels(matrix: Matrix, shape: tuple[int, int]) -> float:
    """Return the side of a map pixel in pixels of the picture."""
    n_row, n_column = shape
    corners = place(matrix, np.array([[0, 0], [n_column, 0], [0, n_row]], dtype=np.float64))
    width, height = (np.linalg.norm(corners[index] - corners[0]) for index in (1, 2))
    return float(max(width / n_column, height / n_row))


def _spread(at: NDArray[np.floating]) -> bool:
    """Return whether points are distinct and, if there are three or more, not collinear."""
    sizes = np.linalg.svd(at - at.mean(axis=0), compute_uv=False)
    return bool(sizes[0] > 1e-6 and (len(at) < 3 or sizes[1] > 1e-3 * sizes[0]))


def _distance(matrix: Matrix, on_picture: NDArray[np.floating], on_maps: NDArray[np.floating]) -> float:
    return float(np.sqrt(((place(matrix, on_picture) - on_maps) ** 2).sum(axis=1).mean()))
