"""A picture registered to the maps, a photograph or a cube: by points that somebody marks, or by mutual information."""

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
LEAST_POINTS = 2
_MOST_MAPS = 8
_COARSE, _FINE = 32, 120
"""Pixels along the longer side of the maps at which places are searched, and at which the best one is refined."""
_BINS = 12
_COMPONENTS = 3
_SCALES = np.arange(1.0, 0.49, -0.0625)
_TURNS_DEG = (0.0, -3.0, 3.0, -6.0, 6.0)
_SHIFTS = np.linspace(-0.15, 0.15, 11)
_REACH = 4.0
_MOST_TRIED, _MIN_DISTANCE = 8, 0.04
"""Starts that are refined; they lie apart by this share of the photograph's longer side, or they end at one place."""
_LEAST_SIMILARITY = 0.4
"""Nats over what chance brings."""
_SLIDES = np.linspace(-0.2, 0.2, 25)
_MOST_SLIDES, _LEAST_GAIN = 4, 0.01


_COLORS, _SAMPLE = 20, 4000
_TILES = 5
"""Parts of the maps, along each side, whose own places are compared."""
_REACH_PX, _STEP_PX = 3.0, 0.5
_EVIDENCE, _ELSEWHERE = 0.05, 0.02
"""Share of a part's score that counts, for neighbouring pixels are alike; likelihood of a part that lies elsewhere."""
_REFINED = 2
_HELD = (0.0, 0.5, 0.5, 0.0, 0.5, 0.5, 1.0, 1.0)
"""One over the pixels by which the numbers of a homography may still move the sides of the maps."""
_LEAST_CURVATURE = 0.05
_GRID = np.stack(np.meshgrid(*2 * (np.linspace(-1, 1, 7),)), axis=2).reshape(-1, 2)
"""Places all over the maps, from -1 to 1."""
_MODELS = {
    "SimilarityTransform": np.array(
        [[1.0, 0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 1, 0, 0], [0, 0, 1, 0, -1, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0, 0]]
    ).T,
    "AffineTransform": np.eye(8)[:, :6],
    "ProjectiveTransform": np.eye(8),
}
"""Names in scikit-image, from simple to complex, and how their parameters set the eight numbers of a homography."""
_LEAST_GAIN_PER_PARAMETER = 2.0
"""By which the logarithm of the likelihood must improve for each parameter that a more complex model adds."""
_WELL_PX, _WRONG_PX, _POINTS_PX = 0.6, 1.2, 1.0
_MIN_RIVAL_SIMILARITY = 0.95
"""Share of the similarity from which another place counts as nearly as good: virtual twins have up to 0.91 at a right
place, 0.975 at one 4 pixels off."""
_LEAST_COVERED = 0.5
"""Share of the picture's width and height that the maps cover, for the verdict "well"."""
Verdict = Literal["well", "doubtful"]


@dataclass(frozen=True)
class Registration:
    """Where a picture lies.

    Parameters
    ----------
    matrix : (3, 3) array
        Takes a place on the maps (column, row, 1) to one on the photograph (x, y, 1), both in pixels; the middle of
        the first pixel is (0.5, 0.5).
    method : str
        "points" or "mutual information".
    error_px : float or None
        Root mean square distance, in pixels of the maps, of the points from where the matrix puts them; None where as
        many were given as the transform has freedom for. Without points: standard deviation of a place.
    similarity : float or None
        Mutual information of a pixel of the maps and the picture over it, nats, summed over the components compared.
    verdict : str
        "well": under one pixel of the maps, as far as it can be told; or "doubtful".
    """

    matrix: Matrix
    method: Literal["points", "mutual information"]
    error_px: float | None = None
    similarity: float | None = None
    verdict: Verdict = "well"


def by_points(
    on_picture: Sequence[tuple[float, float]], on_maps: Sequence[tuple[float, float]], picture: str = "photograph"
) -> Registration:
    """Lay a picture by points that belong together.

    Parameters
    ----------
    on_picture, on_maps : sequence of (x, y)
        Two points allow for shift, turn and scale; three for shear; four and more for perspective.
    picture : str
        What the picture is, for messages.

    Raises
    ------
    ScanError
        There are too few points, or they lie on a line.
    """
    from skimage import transform

    picture_points, at = (np.asarray(points, dtype=np.float64).reshape(-1, 2) for points in (on_picture, on_maps))
    if len(at) != len(picture_points) or len(at) < LEAST_POINTS:
        count = min(len(at), len(picture_points))
        raise ScanError(
            f"Cannot lay the {picture} by {count} pair{'' if count == 1 else 's'} of points: mark at least "
            f"{LEAST_POINTS} places on both pictures; four or more allow for perspective."
        )
    if not (np.isfinite(picture_points).all() and np.isfinite(at).all()):
        raise ScanError(f"Cannot lay the {picture} by these points: a place is no finite number. Mark it anew.")
    if not (_spread(at) and _spread(picture_points)):
        raise ScanError(
            f"Cannot lay the {picture} by these points: they lie on a line or on top of each other. Spread them."
        )
    freedom = {2: transform.SimilarityTransform, 3: transform.AffineTransform}
    try:
        estimated = freedom.get(len(at), transform.ProjectiveTransform).from_estimate(at, picture_points)
        matrix = np.asarray(estimated.params, dtype=np.float64) if estimated else np.full((3, 3), np.nan)
        inverse = np.asarray(np.linalg.inv(matrix), dtype=np.float64)
    except np.linalg.LinAlgError:
        matrix = inverse = np.full((3, 3), np.nan)
    if not (np.isfinite(matrix).all() and np.isfinite(inverse).all()):
        raise ScanError(f"Cannot lay the {picture} by these points: no transform joins them. Mark them anew.")
    error = _distance(inverse, picture_points, at) if len(at) > 4 else None
    well = error is None or error <= _POINTS_PX
    return Registration(matrix, "points", error, verdict="well" if well else "doubtful")


def automatically(picture: NDArray[np.floating], maps: Sequence[NDArray[np.float32]]) -> Registration:
    """Lay a picture where it shares most information with the maps.

    Parameters
    ----------
    picture : (height, width, n_channel) array
        A photograph, or components of a cube (:func:`cube_components`).
    maps : sequence of (n_row, n_column) arrays
        Maps with structure, NaN where there is none; their principal components are compared.

    Returns
    -------
    Registration
        A similarity, affine or projective transform, the simplest that matches about as well as the others. The
        picture is expected upright, with the painting on a half of it at least, and turned by less than some ten
        degrees.

    Raises
    ------
    ScanError
        The maps show nothing to compare with, or share nothing with the picture.

    Notes
    -----
    At the end, parts of the maps are moved one by one, and scored by what the other parts say about which values of
    both pictures belong together. The transform follows them, and their disagreement is its error: where a picture is
    of another painting, they go anywhere.

    Panels of stripes match those of another panel nearly as well. So where the maps cover less than half of the
    picture's width or height, the verdict is "doubtful". So it is where a place that is moved by some pixels matches
    nearly as well, as on a panel of equal fields.

    References
    ----------
    Maes et al. 1997, IEEE Trans. Med. Imaging 16, 187, doi:10.1109/42.563664: registration by mutual information.
    """
    parts = _components(maps)
    n_row, n_column = parts[0].shape
    size = (int(picture.shape[0]), int(picture.shape[1]))
    coarse = _Comparison(picture, parts, min(1.0, _COARSE / max(n_row, n_column)))
    starts = sorted(_starts(size, (n_row, n_column)), key=coarse.unlike)
    min_distance = _MIN_DISTANCE * max(size)
    refined = [_climb(coarse, start, 6) for start in _distinct(starts, (n_row, n_column), min_distance)]
    best = _past_stripes(coarse, min(refined, key=coarse.unlike), (n_row, n_column))
    fine = _Comparison(picture, parts, min(1.0, _FINE / max(n_row, n_column)))
    for n_free in (6, 8):
        best = _climb(fine, best, n_free)
    best, error_px = _simplest(fine, best)
    similarity = fine.similarity(best)
    rival = _rival(fine, best)
    if fine.similarity(rival) > similarity:
        better, its_error_px = _simplest(fine, rival)
        if fine.similarity(better) > similarity:
            best, rival, error_px, similarity = better, best, its_error_px, fine.similarity(better)
    if similarity < _LEAST_SIMILARITY or error_px > _WRONG_PX:
        raise ScanError(
            "Cannot lay the picture by itself: it shares nothing with the maps, wherever it lies. Is it upright, "
            "and of this painting? Mark points instead."
        )
    has_rival = (
        _apart_px(rival, best, (n_row, n_column)) > _WRONG_PX
        and fine.similarity(rival) > _MIN_RIVAL_SIMILARITY * similarity
    )
    well = error_px <= _WELL_PX and not has_rival and _covered(best, size, (n_row, n_column)) >= _LEAST_COVERED
    return Registration(best, "mutual information", error_px, similarity, "well" if well else "doubtful")


def any_way_up(
    picture: NDArray[np.floating], maps: Sequence[NDArray[np.float32]], progress: Progress = no_progress
) -> Registration:
    """Lay a picture automatically that may lie on its side, on its head or mirrored, as a scanner may record it.

    Upright first; the other ways only where that is refused or doubtful, and taken only where they lie well.

    Parameters
    ----------
    picture, maps
        As for :func:`automatically`.
    progress : callable

    Raises
    ------
    ScanError
        As for :func:`automatically`.
    """
    first: Registration | None = None
    refusal = ScanError()
    ways = [(turns, mirrored) for mirrored in (False, True) for turns in range(4)]
    for number, (turns, mirrored) in enumerate(ways):
        progress("Registering the cube to the maps", number, len(ways))
        turned = np.rot90(picture[:, ::-1] if mirrored else picture, turns)
        try:
            registered = automatically(turned, maps)
        except ScanError as error:
            refusal = error if number == 0 else refusal
            continue
        if registered.verdict == "well":
            return replace(registered, matrix=_turned_back(picture.shape, turns, mirrored=mirrored) @ registered.matrix)
        first = registered if number == 0 else first
    if first is None:
        raise refusal
    return first


def _turned_back(shape: tuple[int, ...], turns: int, *, mirrored: bool) -> Matrix:
    """Return what takes places on a picture that was mirrored, and then turned by quarters, to the picture."""
    height, width = shape[:2]
    back = np.array([[-1.0, 0, width], [0, 1, 0], [0, 0, 1]]) if mirrored else np.eye(3)
    for _ in range(turns):
        back = back @ np.array([[0, -1.0, width], [1, 0, 0], [0, 0, 1]])
        height, width = width, height
    return back


def cube_components(channels: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """Return (height, width, n) principal components of bands with a hundredth of the contrast or more, n up to 3.

    Parameters
    ----------
    channels : sequence of (height, width) arrays
        Logarithms of reflectance; NaN where there is none.
    """
    rows = []
    for channel in channels:
        flat = np.asarray(channel, dtype=np.float64).ravel()
        middle = float(np.nanmedian(flat))
        rows.append(np.nan_to_num(flat, nan=middle) - middle)
    stacked = np.asarray(rows)
    values, vectors = np.linalg.eigh(stacked @ stacked.T)
    telling = [index for index in np.argsort(values)[::-1][:_COMPONENTS] if values[index] > 0.01 * values.sum()]
    return np.stack([(vectors[:, index] @ stacked).reshape(np.shape(channels[0])) for index in telling], axis=2)


def telling_maps(maps: ResultMaps) -> list[NDArray[np.float32]]:
    """Return the maps that show most: the line families with most counts, or the pigments where there are none."""
    kinds = [entry.kind for entry in maps.entries]
    chosen_kind = "element" if "element" in kinds else "group" if "group" in kinds else "member"
    candidates = [maps.values(index) for index, kind in enumerate(kinds) if kind == chosen_kind]
    contrast = [float(np.nanpercentile(values, 95) - np.nanpercentile(values, 5)) for values in candidates]
    order = np.argsort(contrast)[::-1][:_MOST_MAPS]
    return [candidates[index] for index in order]


def read_points(
    path: str | Path, picture: tuple[int, int], maps: tuple[int, int]
) -> list[tuple[float, float, float, float]]:
    """Read pairs of places from a text file: x and y on the picture, column and row on the maps, pixels.

    Parameters
    ----------
    path : str or Path
    picture, maps : (int, int)
        Rows and columns of the picture and of the maps, within which the places lie.

    Raises
    ------
    ScanError
        The file cannot be read, a line after the first is not four numbers, or a place lies outside.
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
                f"Cannot read {path}: line {number + 1} is {line[:60]!r}; four numbers are needed, x and y on the "
                "picture and column and row on the maps, in pixels. Correct it."
            ) from error
        for value, (name, most, image) in zip((x, y, column, row), limits, strict=True):
            if not 0 <= value <= most:  # NaN fails as well
                raise ScanError(
                    f"Cannot use {path}: in line {number + 1}, {line[:60]!r}, {name} is {value:g} pixels; the {image} "
                    f"allow{'s' if image == 'picture' else ''} 0 to {most}. Correct the line."
                )
        points.append((x, y, column, row))
    return points


def warped(photograph: Image, matrix: Matrix, shape: tuple[int, int], scale: int) -> Image:
    """Return the (scale n_row, scale n_column, 3) photograph as it lies over the maps; black outside."""
    from skimage import transform

    # From middles of pixels of the picture made, counted from 0, to those of the photograph.
    to_maps = np.array([[1 / scale, 0, 0.5 / scale], [0, 1 / scale, 0.5 / scale], [0, 0, 1.0]])
    back = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1.0]])
    to_picture = transform.ProjectiveTransform(back @ matrix @ to_maps)
    size = (shape[0] * scale, shape[1] * scale)
    # Shrunk without smoothing, a fine canvas would shimmer.
    shrink = _photograph_pixels(matrix, shape) / scale
    smooth = gaussian_filter(photograph, (0.4 * shrink, 0.4 * shrink, 0)) if shrink > 1.5 else photograph
    return np.asarray(transform.warp(smooth, to_picture, output_shape=size, order=1), dtype=np.float32)


def place(matrix: NDArray[np.floating], at: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return where a matrix puts (n, 2) places (x, y)."""
    moved = np.column_stack([at, np.ones(len(at))]) @ matrix.T
    return np.asarray(moved[:, :2] / moved[:, 2:])


class _Comparison:
    """The maps and the picture at one resolution, and how unlike they are under a transform.

    Of the picture counts which of some typical colours a pixel is nearest to, in all of its channels together: pigments
    differ in their colour, not in one channel.
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
        # As fine as the maps: what they cannot show only adds noise.
        blur = 0.3 * max(picture.shape[0] / n_row, picture.shape[1] / n_column) / factor
        self.colors = _clustered(gaussian_filter(picture.astype(np.float32), (blur, blur, 0)))
        self.size = (n_row, n_column)

    def similarity(self, matrix: Matrix) -> float:
        """Return the mutual information of a pixel of the maps, nats, less what chance brings; none off the picture."""
        colors, inside = self._colors_at(matrix, self.at)
        if inside.mean() < 0.5:
            return 0.0
        by_chance = 0.5 * (_BINS - 1) * (_COLORS - 1) / inside.sum()
        information = sum(_information(part[inside], colors[inside]) - by_chance for part in self.parts)
        return float(information) * float(inside.mean())

    def unlike(self, matrix: Matrix) -> float:
        """Return minus the similarity, to be made small."""
        return -self.similarity(matrix)

    def fitted(self, matrix: Matrix, model: NDArray[np.float64]) -> tuple[Matrix, float]:
        """Return a matrix that parts of the maps agree on, and how sure it is.

        Parameters
        ----------
        matrix : (3, 3) array
            Where to begin.
        model : (8, n_parameter) array
            How the parameters of the change set the eight numbers of a homography, one of ``_MODELS``.

        Returns
        -------
        (matrix, float)
            Standard deviation of a place, root mean square over the maps, pixels of the maps.

        Notes
        -----
        A homography near the identity, linearised (shift, stretch, turn, shear, perspective), maximises the sum of what
        the parts score where it puts them; a part that is nowhere near its best place, as over hidden paint, counts no
        further. The deviation is that of the curvature at the maximum, with all eight numbers free: a simple model does
        not make the place any surer.
        """
        at, scores = self.part_scores(matrix)
        middle, scale = np.array(self.size[::-1]) / 2, max(self.size) / 2
        rows, held = _homography_rows((at - middle) / scale), np.array(_HELD)
        likelihood = np.log(np.exp(_EVIDENCE * (scores - scores.max(axis=(1, 2), keepdims=True))) + _ELSEWHERE)
        # Smooth, or the places that were tried would be peaks of their own.
        likelihood = gaussian_filter(likelihood, (0, 0.7, 0.7))
        numbers, splines = np.arange(len(at)), spline_filter1d(spline_filter1d(likelihood, axis=1), axis=2)

        def of_parts(free: NDArray[np.float64]) -> NDArray[np.float64]:
            right, down = (rows @ free).reshape(2, -1) / _STEP_PX + (scores.shape[1] - 1) / 2
            return np.asarray(map_coordinates(splines, [numbers, down, right], mode="nearest", prefilter=False))

        def unlike(free: NDArray[np.float64]) -> float:
            return float(-of_parts(free).sum() + 0.5 * ((held * free) ** 2).sum())

        n_parameter = model.shape[1]
        bounds = [(-_REACH_PX, _REACH_PX)] * n_parameter
        best = minimize(
            lambda parameters: unlike(model @ parameters),
            np.zeros(n_parameter),
            method="Powell",
            bounds=bounds,
            options={"ftol": 1e-5},
        )
        free = model @ np.asarray(best.x)
        steps = _STEP_PX * np.eye(8)
        curvature = np.array(
            [
                [
                    unlike(free + step + other_step) - unlike(free + step - other_step)
                    - unlike(free - step + other_step) + unlike(free - step - other_step)
                    for other_step in steps
                ]
                for step in steps
            ]
        ) / (4 * _STEP_PX**2)  # fmt: skip
        values, vectors = np.linalg.eigh(curvature)
        covariance = (vectors / np.maximum(values, _LEAST_CURVATURE)) @ vectors.T
        reached = _homography_rows(_GRID * middle / scale)
        variance = np.einsum("ij,jk,ik->i", reached, covariance, reached)
        a, b, c, d, e, f, g, h = free / scale
        moving = np.array([[1 + b, c, a], [e, 1 + f, d], [-g, -h, 1]])
        to_unit = np.array([[1 / scale, 0, -middle[0] / scale], [0, 1 / scale, -middle[1] / scale], [0, 0, 1]])
        better = matrix @ np.linalg.inv(to_unit) @ moving @ to_unit
        return np.asarray(better / better[2, 2]), float(np.sqrt(2.0 * variance.mean()))

    def part_scores(self, matrix: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the middles of parts of the maps, (n, 2), and what each scores when moved, (n, n_step, n_step) nats.

        A part is scored by how often its values and the picture's colours meet in other parts; the first dimension is
        the move down, the second that to the right, from -3 to 3 pixels of the maps.
        """
        n_row, n_column = self.size
        column = np.minimum((_TILES * self.at[:, 0] / n_column).astype(int), _TILES - 1)
        row = np.minimum((_TILES * self.at[:, 1] / n_row).astype(int), _TILES - 1)
        tile, fold = _TILES * row + column, (row + column) % 2
        steps = np.arange(-_REACH_PX, _REACH_PX + _STEP_PX / 2, _STEP_PX)
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
        middles = np.array([self.at[tile == index].mean(axis=0) for index in tiles])
        return middles, np.moveaxis(scores, 2, 0)[tiles]

    def _colors_at(self, matrix: Matrix, at: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Return the picture's colours at places of the maps, and which of these lie on it."""
        positions = place(matrix, at)
        height, width = self.colors.shape
        inside = (positions > 0).all(axis=1) & (positions[:, 0] < width) & (positions[:, 1] < height)
        columns, rows = np.where(inside[:, None], positions, 0).astype(np.intp).T
        return self.colors[rows, columns], inside

    def _tables(self, matrix: Matrix, chosen: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
        """Return for each component the logarithm of how much more often a value meets a colour than by chance."""
        colors, inside = self._colors_at(matrix, self.at)
        chosen = chosen & inside
        return [_log_ratio(_joint(part[chosen], colors[chosen])) for part in self.parts]


def _log_ratio(joint: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of how much more often a value meets a colour than by chance."""
    share = (joint + 0.5) / (joint + 0.5).sum()
    return np.asarray(np.log(share / (share.sum(axis=1, keepdims=True) * share.sum(axis=0, keepdims=True))))


def _simplest(comparison: _Comparison, matrix: Matrix) -> tuple[Matrix, float]:
    """Return the simplest transform that matches about as well as a projective one, refined, and its deviation."""
    from skimage import transform

    grid = (_GRID + 1) / 2 * np.array(comparison.size[::-1])
    candidates = []
    for name, model in _MODELS.items():
        fitted = np.asarray(getattr(transform, name).from_estimate(grid, place(matrix, grid)).params, dtype=np.float64)
        for _ in range(_REFINED):
            fitted, error_px = comparison.fitted(fitted, model)
        likelihood = _EVIDENCE * comparison.at.shape[0] * comparison.similarity(fitted)
        candidates.append((likelihood - _LEAST_GAIN_PER_PARAMETER * model.shape[1], fitted, error_px))
    _, best, error_px = max(candidates, key=lambda candidate: candidate[0])
    return best, error_px


def _covered(matrix: Matrix, size: tuple[int, int], shape: tuple[int, int]) -> float:
    """Return the share of the width or of the height of a picture that the maps cover, the smaller one."""
    corners = place(matrix, np.array([[0, 0], [shape[1], 0], [0, shape[0]], shape[::-1]], dtype=np.float64))
    extent = np.clip(corners, 0, size[::-1])
    return float(((extent.max(axis=0) - extent.min(axis=0)) / size[::-1]).min())


def _homography_rows(at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return by how much (n, 2) places move along x, then along y, with each of eight numbers of a homography."""
    x, y = at.T
    zero, unit = np.zeros_like(x), np.ones_like(x)
    return np.concatenate(
        [
            np.column_stack([unit, x, y, zero, zero, zero, x * x, x * y]),
            np.column_stack([zero, zero, zero, unit, x, y, x * y, y * y]),
        ]
    )


def _clustered(picture: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return which of :data:`_COLORS` typical colours each pixel of a picture is nearest to."""
    flat = picture.reshape(-1, picture.shape[2])
    some = flat[:: max(1, len(flat) // _SAMPLE)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of colours that no pixel has, as in a flat picture
        centres, _ = kmeans2(some, _COLORS, minit="++", seed=0)
    return np.asarray(vq(flat, centres)[0].reshape(picture.shape[:2]), dtype=np.intp)


def _binned(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return to which of ``_BINS`` equal parts of its range each value belongs."""
    low, high = np.percentile(values, (1, 99))
    share = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.clip(share * _BINS, 0, _BINS - 1).astype(np.intp)


def _joint(values: NDArray[np.intp], colors: NDArray[np.intp]) -> NDArray[np.float64]:
    return np.bincount(_COLORS * values + colors, minlength=_BINS * _COLORS).reshape(_BINS, _COLORS).astype(np.float64)


def _information(values: NDArray[np.intp], colors: NDArray[np.intp]) -> float:
    """Return the mutual information of a binned map and a clustered picture, nats."""
    joint = _joint(values, colors) / max(values.size, 1)
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    positive = joint > 0
    return float((joint[positive] * np.log(joint[positive] / independent[positive])).sum())


def _climb(comparison: _Comparison, start: Matrix, n_free: int) -> Matrix:
    """Refine a transform: six numbers, or eight with perspective, in units of about one pixel of the comparison.

    No number goes far: on a painting of stripes a long step ends one stripe off.
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
        # About the middle, so that a turn is not a shift as well.
        to_middle, back = np.eye(3), np.eye(3)
        to_middle[:2, 2], back[:2, 2] = -middle, middle
        transformed = start @ back @ moved @ to_middle
        return np.asarray(transformed / transformed[2, 2])

    minimum = minimize(
        lambda free: comparison.unlike(matrix_of(free)),
        np.zeros(n_free),
        method="Powell",
        bounds=[(-_REACH, _REACH)] * n_free,
        options={"xtol": 0.01, "ftol": 1e-6, "maxfev": 700},
    )
    return matrix_of(np.asarray(minimum.x))


def _past_stripes(comparison: _Comparison, start: Matrix, shape: tuple[int, int]) -> Matrix:
    """Move the sides of the maps, two opposite ones at a time, over all nearby places, as long as that is better.

    On a painting of stripes a side that lies one stripe off is a dead end: no small step from there is better.
    """
    best = start
    for _ in range(_MOST_SLIDES):
        before = comparison.unlike(best)
        for axis, size in enumerate(reversed(shape)):
            slid = min((best @ _slide(axis, size, sides) for sides in product(_SLIDES, _SLIDES)), key=comparison.unlike)
            best = min(best, _climb(comparison, slid, 6), key=comparison.unlike)
        if comparison.unlike(best) > before - _LEAST_GAIN:
            break
    return best


def _rival(comparison: _Comparison, matrix: Matrix) -> Matrix:
    """Return the place that matches best among those moved by a few pixels of the maps or more, refined."""
    shifts = [np.unique(np.round(_SLIDES * size)) for size in reversed(comparison.size)]
    moves = [np.array([[1, 0, right], [0, 1, down], [0, 0, 1.0]]) for right, down in product(*shifts)]
    away = [matrix @ move for move in moves if np.hypot(*move[:2, 2]) > 2 * _WRONG_PX]
    return _climb(comparison, min(away, key=comparison.unlike), 6)


def _apart_px(first: Matrix, second: Matrix, shape: tuple[int, int]) -> float:
    """Return the root mean square distance of two places of the maps on the picture, pixels of the maps."""
    grid = (_GRID + 1) / 2 * np.array(shape[::-1])
    return _distance(np.asarray(np.linalg.inv(second), dtype=np.float64), place(first, grid), grid)


def _slide(axis: int, size: int, moved: tuple[float, float]) -> Matrix:
    """Return what moves the first and the last side of the maps along an axis, by shares of its length."""
    first, last = moved
    slid = np.eye(3)
    slid[axis, axis], slid[axis, 2] = 1.0 + last - first, first * size
    return slid


def _starts(photograph: tuple[int, ...], shape: tuple[int, int]) -> list[Matrix]:
    """Return places to try: the painting fills a share of the photograph, turned and shifted a little."""
    height, width = photograph[:2]
    n_row, n_column = shape
    fit = min(width / n_column, height / n_row)
    starts = []
    for share in _SCALES:
        for turn in np.deg2rad(_TURNS_DEG):
            cos, sin = share * fit * np.cos(turn), share * fit * np.sin(turn)
            for right in _SHIFTS:
                for down in _SHIFTS:
                    x = width * (0.5 + right) - cos * n_column / 2 + sin * n_row / 2
                    y = height * (0.5 + down) - sin * n_column / 2 - cos * n_row / 2
                    starts.append(np.array([[cos, -sin, x], [sin, cos, y], [0, 0, 1.0]]))
    return starts


def _distinct(starts: Sequence[Matrix], shape: tuple[int, int], min_distance: float) -> list[Matrix]:
    """Return the first of the starts whose corners lie farther apart, root mean square, than some photograph's pixels.

    The best starts are neighbours: on a painting of stripes they would all climb to the same wrong stripe.
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
        if len(chosen) == _MOST_TRIED:
            break
    return chosen


def _components(maps: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float64]]:
    """Return the principal components of the maps, each stretched to its own percentiles."""
    rows = []
    for values in maps:
        filled = np.nan_to_num(np.asarray(values, dtype=np.float64), nan=0.0)
        top = np.percentile(filled, 99)
        flat = np.sqrt(np.clip(filled, 0, top if top > 0 else filled.max())).ravel()
        if flat.std() > 1e-9:
            rows.append((flat - flat.mean()) / flat.std())
    if not rows:
        raise ScanError(
            "Cannot lay the photograph by itself: the maps show nothing to compare it with. Mark points instead."
        )
    _, _, axes = np.linalg.svd(np.asarray(rows), full_matrices=False)
    return [component.reshape(maps[0].shape) for component in axes[:_COMPONENTS]]


def _photograph_pixels(matrix: Matrix, shape: tuple[int, int]) -> float:
    """Return how many pixels of the photograph lie along one of the maps."""
    n_row, n_column = shape
    corners = place(matrix, np.array([[0, 0], [n_column, 0], [0, n_row]], dtype=np.float64))
    across, down = (np.linalg.norm(corners[index] - corners[0]) for index in (1, 2))
    return float(max(across / n_column, down / n_row))


def _spread(at: NDArray[np.floating]) -> bool:
    """Whether points lie apart, and three or more of them not on a line."""
    sizes = np.linalg.svd(at - at.mean(axis=0), compute_uv=False)
    return bool(sizes[0] > 1e-6 and (len(at) < 3 or sizes[1] > 1e-3 * sizes[0]))


def _distance(matrix: Matrix, on_picture: NDArray[np.floating], on_maps: NDArray[np.floating]) -> float:
    return float(np.sqrt(((place(matrix, on_picture) - on_maps) ** 2).sum(axis=1).mean()))
