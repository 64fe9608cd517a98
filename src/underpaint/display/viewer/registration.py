"""A photograph laid over the maps: by points that somebody marks, or by mutual information."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.optimize import minimize

from underpaint.errors import MissingExtraError, ScanError

Matrix = NDArray[np.float64]
Image = NDArray[np.float32]
LEAST_POINTS = 2
_COARSE, _FINE = 32, 120
"""Pixels along the longer side of the maps at which places are searched, and at which the best one is refined."""
_BINS = 12
_COMPONENTS = 3
_SCALES = np.arange(1.0, 0.49, -0.0625)
_TURNS_DEG = (0.0, -3.0, 3.0, -6.0, 6.0)
_SHIFTS = np.linspace(-0.15, 0.15, 11)
_REACH = 4.0
_MOST_TRIED, _APART = 8, 0.04
"""Starts that are refined; they lie apart by this share of the photograph's longer side, or they end at one place."""
_LEAST_SIMILARITY = 0.6
"""Nats: noise laid over a panel reaches 0.05, stripes that are not its own 0.45, its own picture 4 to 5."""
DOUBTFUL_SIMILARITY = 3.0
"""Below, the place is doubtful: a picture of the same painting on its side reaches 2."""
_SLIDES = np.linspace(-0.2, 0.2, 25)
_MOST_SLIDES, _LEAST_GAIN = 4, 0.01


@dataclass(frozen=True)
class Registration:
    """Where a photograph lies.

    Parameters
    ----------
    matrix : (3, 3) array
        Takes a place on the maps (column, row, 1) to one on the photograph (x, y, 1), both in pixels; the middle of
        the first pixel is (0.5, 0.5).
    how : str
        "points" or "mutual information".
    error_px : float or None
        Root mean square distance of the points from where the matrix puts them, in pixels of the maps; None where as
        many points were given as the transform has freedom for.
    similarity : float or None
        Mutual information of a pixel of the maps and the photograph over it, nats, summed over the components compared.
    """

    matrix: Matrix
    how: Literal["points", "mutual information"]
    error_px: float | None = None
    similarity: float | None = None


def by_points(on_photograph: Sequence[tuple[float, float]], on_maps: Sequence[tuple[float, float]]) -> Registration:
    """Lay a photograph by points that belong together.

    Parameters
    ----------
    on_photograph, on_maps : sequence of (x, y)
        Two points allow for shift, turn and scale; three for shear; four and more for perspective.

    Raises
    ------
    ScanError
        There are too few points, or they lie on a line.
    MissingExtraError
        scikit-image is not installed.
    """
    transform = _skimage("transform")
    there, here = (np.asarray(own, dtype=np.float64).reshape(-1, 2) for own in (on_photograph, on_maps))
    if len(here) != len(there) or len(here) < LEAST_POINTS:
        raise ScanError(
            f"Cannot lay the photograph by {min(len(here), len(there))} pairs of points: mark at least {LEAST_POINTS} "
            "places on both pictures; four or more allow for perspective."
        )
    if not (_spread(here) and _spread(there)):
        raise ScanError(
            "Cannot lay the photograph by these points: they lie on a line or on top of each other. Spread them."
        )
    freedom = {2: transform.SimilarityTransform, 3: transform.AffineTransform}
    found = freedom.get(len(here), transform.ProjectiveTransform).from_estimate(here, there)
    if not found or not np.isfinite(found.params).all():
        raise ScanError("Cannot lay the photograph by these points: no transform joins them. Mark them anew.")
    matrix = np.asarray(found.params, dtype=np.float64)
    error = _distance(np.asarray(np.linalg.inv(matrix), dtype=np.float64), there, here) if len(here) > 4 else None
    return Registration(matrix, "points", error)


def automatically(photograph: Image, maps: Sequence[NDArray[np.float32]]) -> Registration:
    """Lay a photograph where it shares most information with the maps.

    Parameters
    ----------
    photograph : (height, width, 3) array
        0 to 1.
    maps : sequence of (n_row, n_column) arrays
        Maps with structure, NaN where there is none; their principal components are compared.

    Returns
    -------
    Registration
        An affine transform, refined to a projective one. The photograph is expected upright, with the painting on a
        half of it at least, and turned by less than some ten degrees.

    Raises
    ------
    ScanError
        The maps show nothing to compare with, or share nothing with the photograph.

    References
    ----------
    Maes et al. 1997, IEEE Trans. Med. Imaging 16, 187, doi:10.1109/42.563664: registration by mutual information.
    """
    parts = _components(maps)
    n_row, n_column = parts[0].shape
    coarse = _Comparison(photograph, parts, min(1.0, _COARSE / max(n_row, n_column)))
    starts = sorted(_starts(photograph.shape, (n_row, n_column)), key=coarse.unlike)
    apart = _APART * max(photograph.shape[:2])
    refined = [_climb(coarse, start, 6) for start in _distinct(starts, (n_row, n_column), apart)]
    best = _past_stripes(coarse, min(refined, key=coarse.unlike), (n_row, n_column))
    fine = _Comparison(photograph, parts, min(1.0, _FINE / max(n_row, n_column)))
    for n_free in (6, 8, 8):
        best = _climb(fine, best, n_free)
    if -fine.unlike(best) < _LEAST_SIMILARITY:
        raise ScanError(
            "Cannot lay the photograph by itself: it shares nothing with the maps, wherever it lies. Is it upright, "
            "and of this painting? Mark points instead."
        )
    return Registration(best, "mutual information", None, -fine.unlike(best))


def warped(photograph: Image, matrix: Matrix, shape: tuple[int, int], scale: int) -> Image:
    """Return the (scale n_row, scale n_column, 3) photograph as it lies over the maps; black outside.

    Raises
    ------
    MissingExtraError
        scikit-image is not installed.
    """
    transform = _skimage("transform")
    # From middles of pixels of the picture made, counted from 0, to those of the photograph.
    to_maps = np.array([[1 / scale, 0, 0.5 / scale], [0, 1 / scale, 0.5 / scale], [0, 0, 1.0]])
    back = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1.0]])
    whole = transform.ProjectiveTransform(back @ matrix @ to_maps)
    size = (shape[0] * scale, shape[1] * scale)
    # Shrunk without smoothing, a fine canvas would shimmer.
    shrink = _photograph_pixels(matrix, shape) / scale
    smooth = gaussian_filter(photograph, (0.4 * shrink, 0.4 * shrink, 0)) if shrink > 1.5 else photograph
    return np.asarray(transform.warp(smooth, whole, output_shape=size, order=1), dtype=np.float32)


def place(matrix: NDArray[np.floating], at: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return where a matrix puts (n, 2) places (x, y)."""
    moved = np.column_stack([at, np.ones(len(at))]) @ matrix.T
    return np.asarray(moved[:, :2] / moved[:, 2:])


class _Comparison:
    """The maps and the photograph at one resolution, and how unlike they are under a transform."""

    def __init__(self, photograph: Image, parts: Sequence[NDArray[np.float64]], factor: float) -> None:
        n_row, n_column = parts[0].shape
        sigma = 0.4 / factor if factor < 1 else 0.0
        rows, columns = (np.linspace(0.5, size - 0.5, max(round(size * factor), 8)) for size in (n_row, n_column))
        self.pixel = max(columns[1] - columns[0], rows[1] - rows[0])
        grid = np.meshgrid(columns, rows)
        self.at = np.column_stack([own.ravel() for own in grid])
        index = np.array([grid[1].ravel() - 0.5, grid[0].ravel() - 0.5])
        shown = [map_coordinates(gaussian_filter(own, sigma), index, order=1, mode="nearest") for own in parts]
        self.parts = [_binned(own) for own in shown]
        # As fine as the maps: what they cannot show only adds noise.
        blur = 0.3 * max(photograph.shape[0] / n_row, photograph.shape[1] / n_column) / factor
        self.channels = [_binned(gaussian_filter(own, blur)) for own in _opponent(photograph)]

    def unlike(self, matrix: Matrix) -> float:
        """Return minus the mutual information of a pixel of the maps; one off the photograph has none."""
        there = place(matrix, self.at)
        height, width = self.channels[0].shape
        inside = (there > 0).all(axis=1) & (there[:, 0] < width) & (there[:, 1] < height)
        if inside.mean() < 0.5:
            return 0.0
        columns, rows = there[inside].astype(np.intp).T
        seen = [own[rows, columns] for own in self.channels]
        found = sum(_information(one[inside], other) for one in self.parts for other in seen)
        return -float(found) * float(inside.mean())


def _binned(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return to which of ``_BINS`` equal parts of its range each value belongs."""
    low, high = np.percentile(values, (1, 99))
    share = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.clip(share * _BINS, 0, _BINS - 1).astype(np.intp)


def _information(one: NDArray[np.intp], other: NDArray[np.intp]) -> float:
    """Return the mutual information of two binned pictures, nats."""
    joint = np.bincount(_BINS * one + other, minlength=_BINS**2).reshape(_BINS, _BINS) / max(one.size, 1)
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / apart[there])).sum())


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
        found = start @ back @ moved @ to_middle
        return np.asarray(found / found[2, 2])

    found = minimize(
        lambda free: comparison.unlike(matrix_of(free)),
        np.zeros(n_free),
        method="Powell",
        bounds=[(-_REACH, _REACH)] * n_free,
        options={"xtol": 0.01, "ftol": 1e-6, "maxfev": 700},
    )
    return matrix_of(np.asarray(found.x))


def _past_stripes(comparison: _Comparison, start: Matrix, shape: tuple[int, int]) -> Matrix:
    """Move the sides of the maps, two opposite ones at a time, over all nearby places, as long as that is better.

    On a painting of stripes a side that lies one stripe off is a dead end: no small step from there is better.
    """
    best = start
    for _ in range(_MOST_SLIDES):
        before = comparison.unlike(best)
        for axis, size in enumerate(reversed(shape)):
            slid = min((best @ _slide(axis, size, own) for own in product(_SLIDES, _SLIDES)), key=comparison.unlike)
            best = min(best, _climb(comparison, slid, 6), key=comparison.unlike)
        if comparison.unlike(best) > before - _LEAST_GAIN:
            break
    return best


def _slide(axis: int, size: int, moved: tuple[float, float]) -> Matrix:
    """Return what moves the first and the last side of the maps along an axis, by shares of its length."""
    first, last = moved
    found = np.eye(3)
    found[axis, axis], found[axis, 2] = 1.0 + last - first, first * size
    return found


def _starts(photograph: tuple[int, ...], shape: tuple[int, int]) -> list[Matrix]:
    """Return places to try: the painting fills a share of the photograph, turned and shifted a little."""
    height, width = photograph[:2]
    n_row, n_column = shape
    fit = min(width / n_column, height / n_row)
    found = []
    for share in _SCALES:
        for turn in np.deg2rad(_TURNS_DEG):
            cos, sin = share * fit * np.cos(turn), share * fit * np.sin(turn)
            for right in _SHIFTS:
                for down in _SHIFTS:
                    x = width * (0.5 + right) - cos * n_column / 2 + sin * n_row / 2
                    y = height * (0.5 + down) - sin * n_column / 2 - cos * n_row / 2
                    found.append(np.array([[cos, -sin, x], [sin, cos, y], [0, 0, 1.0]]))
    return found


def _distinct(starts: Sequence[Matrix], shape: tuple[int, int], apart: float) -> list[Matrix]:
    """Return the first of the starts whose corners lie farther apart, root mean square, than some photograph's pixels.

    The best starts are neighbours: on a painting of stripes they would all climb to the same wrong stripe.
    """
    n_row, n_column = shape
    corners = np.array([[0, 0], [n_column, 0], [0, n_row], [n_column, n_row]], dtype=np.float64)
    chosen: list[Matrix] = []
    laid: list[NDArray[np.float64]] = []
    for start in starts:
        own = place(start, corners)
        if all(np.sqrt(((own - other) ** 2).sum(axis=1).mean()) > apart for other in laid):
            chosen.append(start)
            laid.append(own)
        if len(chosen) == _MOST_TRIED:
            break
    return chosen


def _components(maps: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float64]]:
    """Return the principal components of the maps, each stretched to its own percentiles."""
    rows = []
    for own in maps:
        filled = np.nan_to_num(np.asarray(own, dtype=np.float64), nan=0.0)
        top = np.percentile(filled, 99)
        flat = np.sqrt(np.clip(filled, 0, top if top > 0 else filled.max())).ravel()
        if flat.std() > 1e-9:
            rows.append((flat - flat.mean()) / flat.std())
    if not rows:
        raise ScanError(
            "Cannot lay the photograph by itself: the maps show nothing to compare it with. Mark points instead."
        )
    _, _, axes = np.linalg.svd(np.asarray(rows), full_matrices=False)
    return [own.reshape(maps[0].shape) for own in axes[:_COMPONENTS]]


def _opponent(photograph: Image) -> list[NDArray[np.float64]]:
    """Return lightness, and red against green and blue."""
    red, green, blue = (photograph[:, :, channel].astype(np.float64) for channel in range(3))
    return [0.3 * red + 0.6 * green + 0.1 * blue, red - 0.5 * (green + blue)]


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


def _distance(matrix: Matrix, there: NDArray[np.floating], here: NDArray[np.floating]) -> float:
    return float(np.sqrt(((place(matrix, there) - here) ** 2).sum(axis=1).mean()))


def _skimage(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(f"skimage.{name}")
    except ImportError as error:
        raise MissingExtraError(
            "Laying a photograph over the maps needs scikit-image. Install it: pip install 'underpaint[view]'."
        ) from error
