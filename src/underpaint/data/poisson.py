"""How much one count is worth in stored values: rates, normalised or rescaled stacks are not counts.

There are two criteria. Values that are integer multiples of one number (of the scan, or of each pixel) are counts times
that number, if their noise agrees. And counts have a variance equal to their mean; scaled counts, the scale times their
mean. The variance is computed from fourth differences along the channels of each pixel, in which lines and background
nearly vanish, so that it does not matter whether neighbouring pixels hold other paint. Where channels are not
independent (smoothed, or moved to another energy axis) the scatter grows when channels are added up, and says nothing
of a scale. Whole numbers that were scaled and rounded leave out some numbers (a factor above 1) or scatter less than
counts do (below 1). The square root or the logarithm of counts does not scatter more where it is larger.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data.robust import theil_slope

Array = NDArray[np.float64]

AS_COUNTS = (0.6, 1.6)
"""Scales that are ignored: dead-time correction multiplies counts by 1.0 to 1.5, with little effect on deviations."""
_DIFFERENCE = np.array([1.0, -4.0, 6.0, -4.0, 1.0])
_MERGED = (1, 2, 4)
"""Channels that are added up, to see whether they are independent."""
_N_GROUP, _MIN_IN_GROUP = 24, 5
_MIN_VALUES, _MIN_IN_PIXEL = 200, 40
_MAX_ERROR = 0.2
_AGREES = (0.5, 2.0)
_INDEPENDENT = (0.75, 1.35)
_OFF_WHOLE, _RESOLVED = 0.02, 0.1
_MAX_LEVELS = 4000
_SHARE_WITH_QUANTUM = 0.8
_MAX_LEVELS_OF_SIZE, _MIN_PER_LEVEL, _MIN_IN_LEVEL = 24, 300, 60
_MIN_MEAN, _UNDER_DISPERSED = 0.8, 0.75
_MIN_RISE, _MIN_RANGE = 0.5, 3.0
_MIN_LEVELS, _MIN_BRIGHT = 4, 3.0
_WITH_LINES = 1.3
_NEARBY = 4
_OF_ROUNDING, _DEPENDENT = 0.25, 1.8
_MIN_FITTING = 0.999
_MIN_DISTINCT, _USUAL, _ADDS_UP = 8, 0.9, (1.2, 30.0)
_MIN_SHARED = 0.3
_MIN_SCALE, _RISES = 0.01, (0.5, 1.5)
_SMOOTHED = 3.0
_COMBED, _N_TRIED = 200, 1001
_COMB_FACTORS, _MIN_COMBED = (1.1, 40.0), 4
_MIN_LEFT_OUT, _MAX_MET = 50.0, 0.02


@dataclass(frozen=True)
class Scale:
    """Stored value per count.

    Parameters
    ----------
    value : float
        1: they are counts. Of values with a scale for each pixel, the median.
    uncertainty : float
        One standard deviation; 0 if exact.
    of_pixel : bool
        Whether each pixel has a separate scale.
    rounding : float or None
        For integers that are rounded scaled counts: offset added before division by the scale: 0 if rounded to nearest,
        0.5 if rounded down. None without rounding.
    """

    value: float
    uncertainty: float = 0.0
    of_pixel: bool = False
    rounding: float | None = None


class Sample:
    """Values of some pixels, to decide whether they are counts.

    Parameters
    ----------
    values : (n_pixel, n_channel) array
        As stored, 0 or more; without the missing pixels.
    """

    def __init__(self, values: NDArray[Any]) -> None:
        spectra = np.asarray(values, dtype=np.float64)
        self._spectra = spectra[spectra.sum(axis=1) > 0]
        self._levels = np.unique(self._spectra)
        self._whole = bool((self._levels == np.rint(self._levels)).all())
        self._resolution = _resolution(values.dtype)

    @cached_property
    def _is_measured(self) -> bool:
        return self._levels.size >= _MIN_DISTINCT and _looks_measured(self._spectra)

    @cached_property
    def _variances(self) -> tuple[Array, Array]:
        return _variances(self._spectra, without_lines=True)

    def scale(self) -> Scale | None:
        """Estimate the value of one count; None if undetermined: too few values, smoothed, or without noise."""
        spectra = self._spectra
        if (spectra > 0).sum() < _MIN_VALUES or not self._is_measured:
            return None
        exact = quantum(self._levels, self._resolution)
        if (exact is None or exact == 1) and self._whole:
            rounded = _comb(spectra, self._levels) or _under_dispersed(spectra, *self._variances)
            if rounded is not None:
                return rounded
            if exact == 1:  # no multiples of anything larger
                return Scale(1.0)
        scales = [scale for scale in (scatter(_merged(spectra, size)) for size in _MERGED) if scale is not None]
        if scales and scales[0].value < AS_COUNTS[0] and scales[-1].value > _SMOOTHED * scales[0].value:
            return None
        if not scales or any(AS_COUNTS[0] <= scale.value <= AS_COUNTS[1] for scale in scales):
            return Scale(1.0) if scales else None
        first = scales[0]
        if exact is not None and _within(first.value / exact, _AGREES):
            return Scale(exact)
        each = [quantum(spectrum, self._resolution) for spectrum in spectra if (spectrum > 0).sum() >= _MIN_IN_PIXEL]
        estimates = [value for value in each if value is not None]
        if len(estimates) > _SHARE_WITH_QUANTUM * max(len(each), 1) and _within(
            first.value / np.median(estimates), _AGREES
        ):
            return Scale(float(np.median(estimates)), of_pixel=True)
        independent = all(_within(scale.value / first.value, _INDEPENDENT) for scale in scales)
        return first if independent and first.uncertainty < _MAX_ERROR * first.value else None

    def transform(self) -> str:
        """Return the function of the counts, "square root" or "logarithm"; "" if the values are proportional to them.

        The variance of counts, also scaled, rises as their mean; that of their square root is the same everywhere, and
        that of their logarithm falls.
        """
        if not self._is_measured:
            return ""
        mean, variance = self._variances
        mean, variance = mean[mean.size // 3 :], variance[mean.size // 3 :]  # the faintest are 0 or 1 count
        if self._whole:
            mean, variance = mean[variance > _OF_ROUNDING], variance[variance > _OF_ROUNDING]
        if mean.size < _MIN_LEVELS or mean[-1] < self._whole * _MIN_BRIGHT or not (variance > 0).all():
            return ""
        rise = theil_slope(np.log(mean), np.log(variance))
        if rise < -_MIN_RISE and mean[-1] > _MIN_RANGE / 2 * mean[0]:
            return "logarithm"
        return "square root" if rise < _MIN_RISE and mean[-1] > _MIN_RANGE * mean[0] else ""


def as_quanta(block: NDArray[Any], usual: float) -> NDArray[np.float32]:
    """Return (n_row, n_column, n_channel) values in units of each pixel's quantum, or of ``usual`` without one."""
    resolution, counts = _resolution(block.dtype), np.empty(block.shape, np.float32)
    for index in np.ndindex(block.shape[:2]):
        spectrum = block[index].astype(np.float64)
        usable = np.isfinite(spectrum).all() and (spectrum > 0).sum() >= _MIN_IN_PIXEL
        exact = quantum(spectrum, resolution) if usable else None
        counts[index] = spectrum / usual if exact is None else np.rint(spectrum / exact)
    return counts


def quantum(values: Array, resolution: float) -> float | None:
    """Return the largest number of which all values are integer multiples; None without one.

    Parameters
    ----------
    values : array
        0 or more.
    resolution : float
        Relative rounding of the values.
    """
    levels = np.unique(values[values > 0])
    levels = levels[np.diff(levels, prepend=0.0) > 4 * resolution * levels][:_MAX_LEVELS]
    if not levels.size or levels[0] <= 0:
        return None
    smallest = float(np.diff(levels, prepend=0.0).min())
    return next(
        (value for part in (1, 2, 3) if (value := _fitted(levels, smallest / part, resolution)) is not None), None
    )


def _fitted(levels: Array, guess: float, resolution: float) -> float | None:
    """Fit a quantum to increasingly many levels, as far as the multiple of each is determined."""
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
    if spectra.shape[1] < _N_GROUP * _MIN_IN_GROUP:
        return None
    squared = np.sum(np.diff(spectra, 4, axis=1) ** 2, axis=0)
    expected = _windowed(spectra.sum(axis=0), _DIFFERENCE**2)
    order = np.argsort(expected, kind="stable")
    order = order[expected[order] > 0]
    if order.size < _N_GROUP * _MIN_IN_GROUP:
        return None
    groups = np.array_split(order, _N_GROUP)[: _N_GROUP // 2]
    ratio = np.array([squared[group].sum() / expected[group].sum() for group in groups])
    value = float(np.median(ratio))
    return Scale(value, float(1.25 * ratio.std() / np.sqrt(ratio.size))) if value > 0 else None


def _variances(spectra: Array, *, without_lines: bool = False) -> tuple[Array, Array]:
    """Return mean and variance of the values, by their size; of windows of five channels.

    From fourth differences of each pixel, which lines increase; with ``without_lines``, from those of the difference to
    a scaled neighbour of the same paint.
    """
    n_level = int(np.clip(spectra.size // _MIN_PER_LEVEL, 6, _MAX_LEVELS_OF_SIZE))
    if spectra.size == 0 or spectra.shape[1] < 2 * _DIFFERENCE.size or not spectra.any():
        return np.empty(0), np.empty(0)
    mean, norm = _windowed(spectra, np.ones(_DIFFERENCE.size)) / _DIFFERENCE.size, float((_DIFFERENCE**2).sum())
    top = spectra.max()
    used = mean > 0
    if np.count_nonzero(spectra == top) > len(spectra):  # clipped
        used &= np.lib.stride_tricks.sliding_window_view(spectra, _DIFFERENCE.size, axis=1).max(axis=2) < top
    if not used.any():
        return np.empty(0), np.empty(0)
    edges = np.geomspace(mean[used].min(), mean[used].max(), n_level + 1)
    level = np.clip(np.searchsorted(edges, mean[used], side="right") - 1, 0, n_level - 1)

    def sums(values: Array) -> Array:
        return np.bincount(level, values[used], n_level).astype(np.float64)

    expected = _windowed(spectra, _DIFFERENCE**2 / norm)  # on flanks of lines less than the mean
    n_window, total = np.bincount(level, minlength=n_level), sums(expected)
    has_enough = n_window >= _MIN_IN_LEVEL
    ratio = sums(np.diff(spectra, 4, axis=1) ** 2 / norm) / np.maximum(total, 1e-300)
    if without_lines and len(spectra) > 2:
        partner = _similar_spectra(spectra)
        factor = (spectra.sum(axis=1) / spectra[partner].sum(axis=1))[:, None]
        squared_difference = np.diff(spectra - factor * spectra[partner], 4, axis=1) ** 2 / norm / (1 + factor**2)
        of_both = (mean + factor**2 * mean[partner]) / (1 + factor**2)
        level = np.clip(np.searchsorted(edges, of_both[used], side="right") - 1, 0, n_level - 1)
        of_both = (expected + factor**2 * expected[partner]) / (1 + factor**2)
        by_pairs = sums(squared_difference) / np.maximum(sums(of_both), 1e-300)
        n_pair = np.bincount(level, minlength=n_level)
        ratio = np.where((n_pair >= _MIN_IN_LEVEL) & (_WITH_LINES * by_pairs < ratio), by_pairs, ratio)
    mean_of_level = (total / np.maximum(n_window, 1))[has_enough]
    return mean_of_level, np.asarray(ratio[has_enough] * mean_of_level)


def _windowed(spectra: Array, weights: Array) -> Array:
    """Sum windows of neighbouring channels with symmetric weights, along the last axis."""
    n_window = spectra.shape[-1] - weights.size + 1
    return np.asarray(sum(weight * spectra[..., first : first + n_window] for first, weight in enumerate(weights)))


def _looks_measured(spectra: Array) -> bool:
    """Whether spectra look measured: noise on a shape common to many of them.

    The variance of noise is additive over channels, that of a computed curve is not; and two halves of random numbers
    without a shape do not correlate. Neither determines a scale.
    """
    squared = [np.diff(_merged(spectra, size), 4, axis=1) ** 2 for size in (1, 2)]
    if any(each.size == 0 for each in squared):
        return False
    first, wide = (float(np.mean(each[each <= np.quantile(each, _USUAL)])) for each in squared)
    if not (first > 0 and _within(wide / first, _ADDS_UP)):
        return False
    # Of one spectrum, the even and the odd channels.
    halves = (
        (spectra[::2], spectra[1::2])
        if len(spectra) > 1
        else (spectra[:, : spectra.shape[1] // 2 * 2 : 2], spectra[:, 1::2])
    )
    half_a, half_b = (half.sum(axis=0) for half in halves)
    return bool(half_a.std() > 0 and half_b.std() > 0 and np.corrcoef(half_a, half_b)[0, 1] > _MIN_SHARED)


def _similar_spectra(spectra: Array) -> NDArray[np.intp]:
    """Return the nearby pixel with the most similar spectrum in wide bands.

    Their noise is independent of fourth differences, so the choice causes no bias.
    """
    starts = np.arange(0, spectra.shape[1], max(spectra.shape[1] // 32, 1))
    bands = np.add.reduceat(spectra, starts, axis=1)
    shape = np.sqrt(bands / bands.sum(axis=1, keepdims=True))
    steps = [step for step in range(-_NEARBY, _NEARBY + 1) if 0 < abs(step) < len(spectra)]
    unlike = [((shape - np.roll(shape, step, axis=0)) ** 2).sum(axis=1) for step in steps]
    best = np.array(steps)[np.argmin(unlike, axis=0)]
    return np.asarray((np.arange(len(spectra)) - best) % len(spectra))


def _under_dispersed(spectra: Array, mean: Array, variance: Array) -> Scale | None:
    """Return the scale of integers that are rounded counts times less than 1, from their variance."""
    mean, variance = mean[mean >= _MIN_MEAN], variance[mean >= _MIN_MEAN]
    if mean.size < 2 * _MIN_LEVELS:
        return None
    # Small values are rounded too coarsely, and lines increase large ones.
    middle = slice(mean.size // 4, -(mean.size // 4) or None)
    ratio = _without_rounding(variance)[middle] / mean[middle]
    value, error = float(np.median(ratio)), float(1.25 * ratio.std() / np.sqrt(ratio.size))
    if not _MIN_SCALE < value < min(_UNDER_DISPERSED, 1 - 4 * error):
        return None
    wide_mean, wide = _variances(_merged(spectra, 2), without_lines=True)
    wide_mean, wide = wide_mean[wide_mean >= _MIN_MEAN], wide[wide_mean >= _MIN_MEAN]
    if wide_mean.size < 2 * _MIN_LEVELS or not (wide > 0).all():
        return None
    rise = theil_slope(np.log(wide_mean), np.log(_without_rounding(wide)))
    wide_middle = slice(wide_mean.size // 4, -(wide_mean.size // 4) or None)
    independent = np.median((wide / wide_mean)[wide_middle]) <= _DEPENDENT * np.median((variance / mean)[middle])
    return Scale(value, error, rounding=0.0) if independent and _within(rise, _RISES) else None


def _without_rounding(variance: Array) -> Array:
    return np.asarray(np.maximum(variance - 1 / 12, variance / 2))


def _comb(spectra: Array, levels: Array) -> Scale | None:
    """Return the scale of integers that are rounded counts times more than 1: some integers never occur."""
    occupied = np.bincount(spectra[(spectra > 0) & (spectra < _COMBED)].astype(int), minlength=_COMBED)
    numbers = np.arange(_COMBED)
    low_factor, high_factor = _COMB_FACTORS
    if len(spectra) < _MIN_COMBED:  # a factor of few spectra may be that of their dead time
        low_factor = AS_COUNTS[1]
    factors = np.geomspace(high_factor, low_factor, int(4 * _COMBED * np.log(high_factor / low_factor)))
    slack = numbers * 0.5 * (factors[0] / factors[1] - 1)
    suspects = []  # by factor, the largest first, then by rounding
    for rounding in (0.0, 0.5):
        off = np.abs(numbers + rounding - factors[:, None] * np.rint((numbers + rounding) / factors[:, None]))
        is_off = off > 0.5 + slack
        is_off[:, 0] = False
        # The lesser of the nearest numbers below and above that can be there.
        below = np.maximum.accumulate(np.where(is_off, 0, numbers), axis=1)
        above = np.minimum.accumulate(np.where(is_off, _COMBED, numbers)[:, ::-1], axis=1)[:, ::-1]
        nearest = np.minimum(occupied[below], np.append(occupied, 0)[above])
        usual, occurring = (is_off * nearest).sum(axis=1), is_off @ occupied
        suspects += [
            (index, rounding) for index in np.flatnonzero((usual > _MIN_LEFT_OUT) & (occurring < _MAX_MET * usual))
        ]
    refused = {0.0: np.inf, 0.5: np.inf}  # the last factor that larger levels contradict, by rounding
    for index, rounding in sorted(suspects):
        factor = float(factors[index])
        if not 0.98 * refused[rounding] < factor < refused[rounding] < np.inf:
            scale = _sharpened(levels[levels > 0], factor, rounding)
            if scale is not None:
                return scale
            refused[rounding] = factor
    return None


def _sharpened(levels: Array, factor: float, rounding: float) -> Scale | None:
    """Refine a scale with increasing levels; None if some are not rounded multiples of it."""
    low, high = 0.97 * factor, 1.01 * factor
    for largest in (_COMBED, 10 * _COMBED, 100 * _COMBED):
        used = levels[levels < largest] + rounding
        factors = np.linspace(low, high, _N_TRIED)
        off = np.abs(used - factors[:, None] * np.rint(used / factors[:, None]))
        share = (off <= 0.5 + 1e-6 + (high - low) / _N_TRIED * used / factor).mean(axis=1)
        if share.max() < _MIN_FITTING:
            return None
        # The largest ones: smaller scales skip fewer integers.
        fitting = np.split(places := np.flatnonzero(share == share.max()), np.flatnonzero(np.diff(places) > 1) + 1)[-1]
        low, high = factors[max(fitting[0] - 1, 0)], factors[min(fitting[-1] + 1, _N_TRIED - 1)]
    return Scale(float(np.mean(factors[fitting])), rounding=rounding)


def _merged(spectra: Array, size: int) -> Array:
    n_used = spectra.shape[1] // size * size
    return np.asarray(spectra[:, :n_used].reshape(len(spectra), -1, size).sum(axis=2))


def _resolution(dtype: np.dtype[Any]) -> float:
    return float(np.finfo(dtype if dtype.kind == "f" else np.float64).eps)


def _within(value: float, limits: tuple[float, float]) -> bool:
    return bool(limits[0] <= value <= limits[1])
