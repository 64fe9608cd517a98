"""How much one count is worth in stored values: rates, normalised or rescaled stacks are not counts.

Two things tell. Values that are whole multiples of one number (of the whole scan, or of each pixel) are counts times
that number, if they scatter as such. And counts scatter with a variance that equals their mean; values that are counts
times a scale, with the scale times their mean. The scatter is taken from the fourth differences along the channels of
each pixel, where lines and background leave next to nothing, so that it does not matter whether neighbouring pixels
hold other paint. Where channels are not independent (smoothed, or moved to another energy axis) the scatter grows when
channels are added up, and says nothing of a scale.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

AS_COUNTS = (0.6, 1.6)
"""Scales that are left alone: dead-time correction multiplies counts by 1.0 to 1.5, and shifts no deviation by much."""
_DIFFERENCE = np.array([1.0, -4.0, 6.0, -4.0, 1.0])
_MERGED = (1, 2, 4)
"""Channels that are added up, to see whether they are independent."""
_N_GROUP, _LEAST_IN_GROUP = 24, 5
_LEAST_VALUES, _LEAST_IN_PIXEL = 200, 40
_MOST_ERROR = 0.2
_AGREES = (0.5, 2.0)
_INDEPENDENT = (0.75, 1.35)
_OFF_WHOLE, _RESOLVED = 0.02, 0.1
_MOST_LEVELS = 4000
_SHARE_WITH_QUANTUM = 0.8


@dataclass(frozen=True)
class Scale:
    """Stored value per count.

    Parameters
    ----------
    value : float
        1: they are counts. Of values with a scale for each pixel, the median.
    uncertainty : float
        One standard deviation; 0 where the scale is exact.
    of_pixel : bool
        Each pixel has a scale of its own.
    """

    value: float
    uncertainty: float = 0.0
    of_pixel: bool = False


def find_scale(values: NDArray[Any]) -> Scale | None:
    """Estimate what one count is worth from the values of some pixels.

    Parameters
    ----------
    values : (n_pixel, n_channel) array
        As stored, 0 or more; without the missing pixels.

    Returns
    -------
    Scale or None
        None where the values do not tell: too few, smoothed, or without noise.
    """
    spectra = np.asarray(values, dtype=np.float64)
    spectra = spectra[spectra.sum(axis=1) > 0]
    if (spectra > 0).sum() < _LEAST_VALUES:
        return None
    scales = [scale for scale in (scatter(_merged(spectra, size)) for size in _MERGED) if scale is not None]
    if not scales or any(AS_COUNTS[0] <= scale.value <= AS_COUNTS[1] for scale in scales):
        return Scale(1.0) if scales else None
    first, resolution = scales[0], _resolution(values.dtype)
    exact = quantum(spectra, resolution)
    if exact is not None and _within(first.value / exact, _AGREES):
        return Scale(exact)
    each = [quantum(spectrum, resolution) for spectrum in spectra if (spectrum > 0).sum() >= _LEAST_IN_PIXEL]
    known = [value for value in each if value is not None]
    if len(known) > _SHARE_WITH_QUANTUM * max(len(each), 1) and _within(first.value / np.median(known), _AGREES):
        return Scale(float(np.median(known)), of_pixel=True)
    independent = all(_within(scale.value / first.value, _INDEPENDENT) for scale in scales)
    return first if independent and first.uncertainty < _MOST_ERROR * first.value else None


def in_own_quanta(block: NDArray[Any], usual: float) -> NDArray[np.float32]:
    """Return (n_row, n_column, n_channel) values in units of each pixel's quantum; of ``usual`` where it has none."""
    resolution, counts = _resolution(block.dtype), np.empty(block.shape, np.float32)
    for index in np.ndindex(block.shape[:2]):
        spectrum = block[index].astype(np.float64)
        known = np.isfinite(spectrum).all() and (spectrum > 0).sum() >= _LEAST_IN_PIXEL
        exact = quantum(spectrum, resolution) if known else None
        counts[index] = spectrum / usual if exact is None else np.rint(spectrum / exact)
    return counts


def quantum(values: Array, resolution: float) -> float | None:
    """Return the largest number of which all values are whole multiples; None where there is none.

    Parameters
    ----------
    values : array
        0 or more.
    resolution : float
        Relative rounding of the values.
    """
    levels = np.unique(values[values > 0])
    levels = levels[np.diff(levels, prepend=0.0) > 4 * resolution * levels][:_MOST_LEVELS]
    if not levels.size or levels[0] <= 0:
        return None
    smallest = float(np.diff(levels, prepend=0.0).min())
    return next((own for part in (1, 2, 3) if (own := _fitted(levels, smallest / part, resolution)) is not None), None)


def _fitted(levels: Array, guess: float, resolution: float) -> float | None:
    """Fit a quantum to more and more levels, as far as it says which multiple each of them is."""
    size = 2
    while True:
        used = levels[:size]
        multiples = np.rint(used / guess)
        if 4 * resolution * multiples[-1] > _RESOLVED:
            return guess if size > 2 else None
        guess = float(used @ multiples / (multiples @ multiples))
        if np.abs(used / guess - multiples).max() > _OFF_WHOLE + 4 * resolution * multiples[-1]:
            return None
        if size >= levels.size:
            return guess * float(np.gcd.reduce(multiples.astype(np.int64)))
        size *= 2


def scatter(spectra: Array) -> Scale | None:
    """Return variance over mean from fourth differences; of the fainter half of the channels, which lines spare."""
    if spectra.shape[1] < _N_GROUP * _LEAST_IN_GROUP:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(spectra, _DIFFERENCE.size, axis=1)
    squared = np.sum((windows @ _DIFFERENCE) ** 2, axis=0)
    expected = np.sum(windows @ _DIFFERENCE**2, axis=0)
    order = np.argsort(expected, kind="stable")
    order = order[expected[order] > 0]
    if order.size < _N_GROUP * _LEAST_IN_GROUP:
        return None
    groups = np.array_split(order, _N_GROUP)[: _N_GROUP // 2]
    ratio = np.array([squared[own].sum() / expected[own].sum() for own in groups])
    value = float(np.median(ratio))
    return Scale(value, float(1.25 * ratio.std() / np.sqrt(ratio.size))) if value > 0 else None


def _merged(spectra: Array, size: int) -> Array:
    whole = spectra.shape[1] // size * size
    return np.asarray(spectra[:, :whole].reshape(len(spectra), -1, size).sum(axis=2))


def _resolution(dtype: np.dtype[Any]) -> float:
    return float(np.finfo(dtype if dtype.kind == "f" else np.float64).eps)


def _within(value: float, limits: tuple[float, float]) -> bool:
    return bool(limits[0] <= value <= limits[1])
