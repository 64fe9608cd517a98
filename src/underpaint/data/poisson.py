"""Estimate the scale of stored values, that is, the value of one count in rates or in normalised counts.

There are two criteria. First, if all values of a scan or a pixel are integer multiples of a number, this number is the
scale, unless the noise contradicts it. Second, the variance of counts equals their mean, so the variance of scaled
counts is the scale times their mean. The variance is computed from fourth differences along the channels of a pixel.
Lines and background nearly vanish in fourth differences. Differences between neighbouring pixels are not used, because
their paints may differ.

In smoothed or rebinned spectra, channels are not independent. The ratio of variance to mean then increases if channels
are summed, and it does not determine a scale. Counts that were multiplied by a factor above 1 and rounded lack certain
integers. Counts that were multiplied by a factor below 1 and rounded have a variance below their mean. The variance of
the square root or of the logarithm of counts does not increase with the mean.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data.robust import theil_slope

Array = NDArray[np.float64]

COUNTS_SCALE_RANGE = (0.6, 1.6)
"""Values with a scale in this range are treated as counts, because dead-time correction multiplies counts by 1.0 to
1.5."""
_FOURTH_DIFFERENCE = np.array([1.0, -4.0, 6.0, -4.0, 1.0])
_BIN_SIZES = (1, 2, 4)
"""Numbers of channels per bin at which the independence of channels is tested."""
_N_CHANNEL_GROUPS, _MIN_CHANNELS_PER_GROUP = 24, 5
_MIN_POSITIVE_VALUES, _MIN_VALUES_PER_PIXEL = 200, 40
_MAX_RELATIVE_SCALE_ERROR = 0.2
_QUANTUM_AGREEMENT_RANGE = (0.5, 2.0)
_BINNED_SCALE_RATIO_RANGE = (0.75, 1.35)
_MAX_MULTIPLE_ERROR, _MAX_ROUNDING_ERROR = 0.02, 0.1
_MAX_FITTED_VALUES = 4000
_MIN_QUANTUM_SHARE = 0.8
_MAX_MEAN_CLASSES, _MIN_VALUES_PER_CLASS, _MIN_WINDOWS_PER_CLASS = 24, 300, 60
_MIN_CLASS_MEAN, _MAX_DISPERSION = 0.8, 0.75
_MIN_VARIANCE_SLOPE, _MIN_MEAN_RATIO = 0.5, 3.0
_MIN_MEAN_CLASSES, _MIN_LARGEST_MEAN = 4, 3.0
_MIN_LINE_VARIANCE_RATIO = 1.3
_MAX_NEIGHBOUR_DISTANCE = 4
_MAX_ROUNDING_VARIANCE, _MAX_BINNED_DISPERSION_RATIO = 0.25, 1.8
_MIN_MULTIPLES_SHARE = 0.999
_MIN_DISTINCT_VALUES, _NOISE_QUANTILE, _BINNED_VARIANCE_RATIO_RANGE = 8, 0.9, (1.2, 30.0)
_MIN_HALVES_CORRELATION = 0.3
_MIN_SCALE, _VARIANCE_SLOPE_RANGE = 0.01, (0.5, 1.5)
_MIN_SMOOTHING_RATIO = 3.0
_MAX_TESTED_INTEGER, _N_TESTED_FACTORS = 200, 1001
_ROUNDED_SCALE_RANGE, _MIN_TESTED_SPECTRA = (1.1, 40.0), 4
_MIN_EXPECTED_OCCURRENCES, _MAX_OCCURRENCE_RATIO = 50.0, 0.02


@dataclass(frozen=True)
class Scale:
    """Stored value of one count.

    Parameters
    ----------
    value : float
        Stored value of one count; 1 for unscaled counts. If each pixel has its own scale, the median over the pixels.
    uncertainty : float
        Standard deviation of the scale; 0 if the scale is exact.
    is_per_pixel : bool
        Whether each pixel has its own scale.
    rounding : float or None
        Offset to add to stored values before dividing by the scale: 0 if they were rounded to the nearest integer, 0.5
        if they were rounded down, None if they were not rounded.
    """

    value: float
    uncertainty: float = 0.0
    is_per_pixel: bool = False
    rounding: float | None = None


class Sample:
    """Stored values of some pixels of a scan, from which the scale is estimated.

    Parameters
    ----------
    values : (n_pixel, n_channel) array
        Stored values of pixels that are not missing; 0 or more.
    """

    def __init__(self, values: NDArray[Any]) -> None:
        spectra = np.asarray(values, dtype=np.float64)
        self._spectra = spectra[spectra.sum(axis=1) > 0]
        self._unique_values = np.unique(self._spectra)
        self._is_integer = bool((self._unique_values == np.rint(self._unique_values)).all())
        self._resolution = _relative_rounding_error(values.dtype)

    @cached_property
    def _is_measured(self) -> bool:
        return self._unique_values.size >= _MIN_DISTINCT_VALUES and _looks_measured(self._spectra)

    @cached_property
    def _variances(self) -> tuple[Array, Array]:
        return _variances(self._spectra, exclude_lines=True)

    def scale(self) -> Scale | None:
        """Return the scale; None if it is undetermined, because the values are too few, smoothed or noise-free."""
        spectra = self._spectra
        if (spectra > 0).sum() < _MIN_POSITIVE_VALUES or not self._is_measured:
            return None
        common_quantum = quantum(self._unique_values, self._resolution)
        if (common_quantum is None or common_quantum == 1) and self._is_integer:
            rounded_scale = _scale_from_missing_integers(spectra, self._unique_values) or _scale_from_dispersion(
                spectra, *self._variances
            )
            if rounded_scale is not None:
                return rounded_scale
            if common_quantum == 1:  # the values are not multiples of a larger number
                return Scale(1.0)
        scales = [
            scale
            for scale in (scale_from_variance(sum_channels(spectra, bin_size)) for bin_size in _BIN_SIZES)
            if scale is not None
        ]
        if (
            scales
            and scales[0].value < COUNTS_SCALE_RANGE[0]
            and scales[-1].value > _MIN_SMOOTHING_RATIO * scales[0].value
        ):
            return None
        if not scales or any(COUNTS_SCALE_RANGE[0] <= scale.value <= COUNTS_SCALE_RANGE[1] for scale in scales):
            return Scale(1.0) if scales else None
        unbinned_scale = scales[0]
        if common_quantum is not None and _is_in_range(unbinned_scale.value / common_quantum, _QUANTUM_AGREEMENT_RANGE):
            return Scale(common_quantum)
        pixel_quanta = [
            quantum(spectrum, self._resolution) for spectrum in spectra if (spectrum > 0).sum() >= _MIN_VALUES_PER_PIXEL
        ]
        known_quanta = [pixel_quantum for pixel_quantum in pixel_quanta if pixel_quantum is not None]
        if len(known_quanta) > _MIN_QUANTUM_SHARE * max(len(pixel_quanta), 1) and _is_in_range(
            unbinned_scale.value / np.median(known_quanta), _QUANTUM_AGREEMENT_RANGE
        ):
            return Scale(float(np.median(known_quanta)), is_per_pixel=True)
        is_independent = all(
            _is_in_range(scale.value / unbinned_scale.value, _BINNED_SCALE_RATIO_RANGE) for scale in scales
        )
        return (
            unbinned_scale
            if is_independent and unbinned_scale.uncertainty < _MAX_RELATIVE_SCALE_ERROR * unbinned_scale.value
            else None
        )

    def transform(self) -> str:
        """Return which function of counts was stored: "square root", "logarithm", or "" if proportional to counts.

        The variance of counts is proportional to their mean, also if they are scaled. The variance of the square root
        of counts is constant. The variance of the logarithm of counts decreases with the mean.
        """
        if not self._is_measured:
            return ""
        mean, variance = self._variances
        mean, variance = (
            mean[mean.size // 3 :],
            variance[mean.size // 3 :],
        )  # without the smallest means, which belong to 0 or 1 count
        if self._is_integer:
            mean, variance = mean[variance > _MAX_ROUNDING_VARIANCE], variance[variance > _MAX_ROUNDING_VARIANCE]
        if mean.size < _MIN_MEAN_CLASSES or mean[-1] < self._is_integer * _MIN_LARGEST_MEAN or not (variance > 0).all():
            return ""
        variance_slope = theil_slope(np.log(mean), np.log(variance))
        if variance_slope < -_MIN_VARIANCE_SLOPE and mean[-1] > _MIN_MEAN_RATIO / 2 * mean[0]:
            return "logarithm"
        return "square root" if variance_slope < _MIN_VARIANCE_SLOPE and mean[-1] > _MIN_MEAN_RATIO * mean[0] else ""


def in_units_of_quantum(block: NDArray[Any], default_quantum: float) -> NDArray[np.float32]:
    """Return values, (n_row, n_column, n_channel), divided by the quantum of their pixel or by ``default_quantum``."""
    relative_rounding_error, counts = _relative_rounding_error(block.dtype), np.empty(block.shape, np.float32)
    for pixel_index in np.ndindex(block.shape[:2]):
        spectrum = block[pixel_index].astype(np.float64)
        is_usable = np.isfinite(spectrum).all() and (spectrum > 0).sum() >= _MIN_VALUES_PER_PIXEL
        pixel_quantum = quantum(spectrum, relative_rounding_error) if is_usable else None
        counts[pixel_index] = spectrum / default_quantum if pixel_quantum is None else np.rint(spectrum / pixel_quantum)
    return counts


def quantum(values: Array, relative_rounding_error: float) -> float | None:
    """Return the largest number of which all values are integer multiples; None if there is no such number.

    Parameters
    ----------
    values : array
        Values, 0 or more.
    relative_rounding_error : float
        Relative rounding error of the values.
    """
    distinct_values = np.unique(values[values > 0])
    distinct_values = distinct_values[
        np.diff(distinct_values, prepend=0.0) > 4 * relative_rounding_error * distinct_values
    ][:_MAX_FITTED_VALUES]
    if not distinct_values.size or distinct_values[0] <= 0:
        return None
    smallest_step = float(np.diff(distinct_values, prepend=0.0).min())
    return next(
        (
            value
            for divisor in (1, 2, 3)
            if (value := _fit_quantum(distinct_values, smallest_step / divisor, relative_rounding_error)) is not None
        ),
        None,
    )


def _fit_quantum(distinct_values: Array, quantum_guess: float, relative_rounding_error: float) -> float | None:
    """Fit the quantum to more and more distinct values; return None if they are not multiples of a quantum."""
    n_fitted = 2
    while True:
        fitted_values = distinct_values[:n_fitted]
        multiples = np.rint(fitted_values / quantum_guess)
        if 4 * relative_rounding_error * multiples[-1] > _MAX_ROUNDING_ERROR:
            return quantum_guess if n_fitted > 2 else None
        quantum_guess = float(fitted_values @ multiples / (multiples @ multiples))
        if (
            np.abs(fitted_values / quantum_guess - multiples).max()
            > _MAX_MULTIPLE_ERROR + 4 * relative_rounding_error * multiples[-1]
        ):
            return None
        if n_fitted >= distinct_values.size:
            return quantum_guess * float(np.gcd.reduce(multiples.astype(np.int64)))
        n_fitted *= 2


def scale_from_variance(spectra: Array) -> Scale | None:
    """Return the ratio of variance to mean, computed from fourth differences in the channels with the fewest counts."""
    if spectra.shape[1] < _N_CHANNEL_GROUPS * _MIN_CHANNELS_PER_GROUP:
        return None
    squared_difference_sum = np.sum(np.diff(spectra, 4, axis=1) ** 2, axis=0)
    expected_sum = _window_sums(spectra.sum(axis=0), _FOURTH_DIFFERENCE**2)
    channels_by_mean = np.argsort(expected_sum, kind="stable")
    channels_by_mean = channels_by_mean[expected_sum[channels_by_mean] > 0]
    if channels_by_mean.size < _N_CHANNEL_GROUPS * _MIN_CHANNELS_PER_GROUP:
        return None
    channel_groups = np.array_split(channels_by_mean, _N_CHANNEL_GROUPS)[: _N_CHANNEL_GROUPS // 2]
    variance_ratio = np.array(
        [
            squared_difference_sum[channel_group].sum() / expected_sum[channel_group].sum()
            for channel_group in channel_groups
        ]
    )
    scale_value = float(np.median(variance_ratio))
    return (
        Scale(scale_value, float(1.25 * variance_ratio.std() / np.sqrt(variance_ratio.size)))
        if scale_value > 0
        else None
    )


def _variances(spectra: Array, *, exclude_lines: bool = False) -> tuple[Array, Array]:
    """Return the mean and the variance of the values in windows of five channels, for classes of similar mean.

    The variance is computed from fourth differences along each spectrum, and lines increase it. If ``exclude_lines`` is
    true, the variance is also computed after subtracting the scaled spectrum of a similar nearby pixel. The smaller
    variance counts.
    """
    n_mean_classes = int(np.clip(spectra.size // _MIN_VALUES_PER_CLASS, 6, _MAX_MEAN_CLASSES))
    if spectra.size == 0 or spectra.shape[1] < 2 * _FOURTH_DIFFERENCE.size or not spectra.any():
        return np.empty(0), np.empty(0)
    mean, difference_norm = (
        _window_sums(spectra, np.ones(_FOURTH_DIFFERENCE.size)) / _FOURTH_DIFFERENCE.size,
        float((_FOURTH_DIFFERENCE**2).sum()),
    )
    max_value = spectra.max()
    is_window_used = mean > 0
    if np.count_nonzero(spectra == max_value) > len(spectra):  # the spectra are clipped
        is_window_used &= (
            np.lib.stride_tricks.sliding_window_view(spectra, _FOURTH_DIFFERENCE.size, axis=1).max(axis=2) < max_value
        )
    if not is_window_used.any():
        return np.empty(0), np.empty(0)
    class_edges = np.geomspace(mean[is_window_used].min(), mean[is_window_used].max(), n_mean_classes + 1)
    class_index = np.clip(np.searchsorted(class_edges, mean[is_window_used], side="right") - 1, 0, n_mean_classes - 1)

    def sum_by_class(window_values: Array) -> Array:
        return np.bincount(class_index, window_values[is_window_used], n_mean_classes).astype(np.float64)

    window_expectation = _window_sums(
        spectra, _FOURTH_DIFFERENCE**2 / difference_norm
    )  # on the flanks of lines, the expectation is smaller than the mean
    n_window, expected_sum = np.bincount(class_index, minlength=n_mean_classes), sum_by_class(window_expectation)
    is_populated = n_window >= _MIN_WINDOWS_PER_CLASS
    variance_ratio = sum_by_class(np.diff(spectra, 4, axis=1) ** 2 / difference_norm) / np.maximum(expected_sum, 1e-300)
    if exclude_lines and len(spectra) > 2:
        partner_index = _similar_spectra(spectra)
        scale_factor = (spectra.sum(axis=1) / spectra[partner_index].sum(axis=1))[:, None]
        squared_difference = (
            np.diff(spectra - scale_factor * spectra[partner_index], 4, axis=1) ** 2
            / difference_norm
            / (1 + scale_factor**2)
        )
        pair_mean = (mean + scale_factor**2 * mean[partner_index]) / (1 + scale_factor**2)
        class_index = np.clip(
            np.searchsorted(class_edges, pair_mean[is_window_used], side="right") - 1, 0, n_mean_classes - 1
        )
        pair_mean = (window_expectation + scale_factor**2 * window_expectation[partner_index]) / (1 + scale_factor**2)
        pair_ratio = sum_by_class(squared_difference) / np.maximum(sum_by_class(pair_mean), 1e-300)
        n_pairs = np.bincount(class_index, minlength=n_mean_classes)
        variance_ratio = np.where(
            (n_pairs >= _MIN_WINDOWS_PER_CLASS) & (_MIN_LINE_VARIANCE_RATIO * pair_ratio < variance_ratio),
            pair_ratio,
            variance_ratio,
        )
    class_mean = (expected_sum / np.maximum(n_window, 1))[is_populated]
    return class_mean, np.asarray(variance_ratio[is_populated] * class_mean)


def _window_sums(spectra: Array, weights: Array) -> Array:
    """Return weighted sums over windows of neighbouring channels along the last axis. The weights are symmetric."""
    n_window = spectra.shape[-1] - weights.size + 1
    return np.asarray(
        sum(
            weight * spectra[..., channel_offset : channel_offset + n_window]
            for channel_offset, weight in enumerate(weights)
        )
    )


def _looks_measured(spectra: Array) -> bool:
    """Return whether spectra look measured: noise added to a shape that many spectra have in common.

    The variance of noise adds up over channels, but squared differences of a computed curve do not. If random numbers
    have no common shape, the sums of their halves are uncorrelated. No scale can be determined for computed curves and
    random numbers.
    """
    squared_differences = [np.diff(sum_channels(spectra, bin_size), 4, axis=1) ** 2 for bin_size in (1, 2)]
    if any(squared_difference.size == 0 for squared_difference in squared_differences):
        return False
    unbinned_variance, binned_variance = (
        float(np.mean(squared_difference[squared_difference <= np.quantile(squared_difference, _NOISE_QUANTILE)]))
        for squared_difference in squared_differences
    )
    if not (unbinned_variance > 0 and _is_in_range(binned_variance / unbinned_variance, _BINNED_VARIANCE_RATIO_RANGE)):
        return False
    # a single spectrum is divided into its even and its odd channels
    spectrum_halves = (
        (spectra[::2], spectra[1::2])
        if len(spectra) > 1
        else (spectra[:, : spectra.shape[1] // 2 * 2 : 2], spectra[:, 1::2])
    )
    first_half_sum, second_half_sum = (half_spectra.sum(axis=0) for half_spectra in spectrum_halves)
    return bool(
        first_half_sum.std() > 0
        and second_half_sum.std() > 0
        and np.corrcoef(first_half_sum, second_half_sum)[0, 1] > _MIN_HALVES_CORRELATION
    )


def _similar_spectra(spectra: Array) -> NDArray[np.intp]:
    """Return, for each pixel, the index of the nearby pixel with the most similar spectrum, (n_pixel,).

    Spectra are compared in wide energy bands. The noise of wide bands is independent of fourth differences, so the
    choice of a pixel does not bias the variance.
    """
    band_starts = np.arange(0, spectra.shape[1], max(spectra.shape[1] // 32, 1))
    band_counts = np.add.reduceat(spectra, band_starts, axis=1)
    band_shape = np.sqrt(band_counts / band_counts.sum(axis=1, keepdims=True))
    distances = [
        distance
        for distance in range(-_MAX_NEIGHBOUR_DISTANCE, _MAX_NEIGHBOUR_DISTANCE + 1)
        if 0 < abs(distance) < len(spectra)
    ]
    dissimilarity = [((band_shape - np.roll(band_shape, distance, axis=0)) ** 2).sum(axis=1) for distance in distances]
    best_distance = np.array(distances)[np.argmin(dissimilarity, axis=0)]
    return np.asarray((np.arange(len(spectra)) - best_distance) % len(spectra))


def _scale_from_dispersion(spectra: Array, mean: Array, variance: Array) -> Scale | None:
    """Return the scale of rounded values that were counts times a factor below 1; None for other values."""
    mean, variance = mean[mean >= _MIN_CLASS_MEAN], variance[mean >= _MIN_CLASS_MEAN]
    if mean.size < 2 * _MIN_MEAN_CLASSES:
        return None
    # rounding is too coarse for small values, and lines increase the variance of large values
    central_range = slice(mean.size // 4, -(mean.size // 4) or None)
    dispersion = _subtract_rounding_variance(variance)[central_range] / mean[central_range]
    scale_value, standard_error = (
        float(np.median(dispersion)),
        float(1.25 * dispersion.std() / np.sqrt(dispersion.size)),
    )
    if not _MIN_SCALE < scale_value < min(_MAX_DISPERSION, 1 - 4 * standard_error):
        return None
    binned_mean, binned_variance = _variances(sum_channels(spectra, 2), exclude_lines=True)
    binned_mean, binned_variance = (
        binned_mean[binned_mean >= _MIN_CLASS_MEAN],
        binned_variance[binned_mean >= _MIN_CLASS_MEAN],
    )
    if binned_mean.size < 2 * _MIN_MEAN_CLASSES or not (binned_variance > 0).all():
        return None
    variance_slope = theil_slope(np.log(binned_mean), np.log(_subtract_rounding_variance(binned_variance)))
    binned_central_range = slice(binned_mean.size // 4, -(binned_mean.size // 4) or None)
    is_independent = np.median(
        (binned_variance / binned_mean)[binned_central_range]
    ) <= _MAX_BINNED_DISPERSION_RATIO * np.median((variance / mean)[central_range])
    return (
        Scale(scale_value, standard_error, rounding=0.0)
        if is_independent and _is_in_range(variance_slope, _VARIANCE_SLOPE_RANGE)
        else None
    )


def _subtract_rounding_variance(variance: Array) -> Array:
    return np.asarray(np.maximum(variance - 1 / 12, variance / 2))


def _scale_from_missing_integers(spectra: Array, distinct_values: Array) -> Scale | None:
    """Return the scale of rounded values that were counts times a factor above 1; None for other values.

    The scale is derived from the integers that never occur.
    """
    occurrences = np.bincount(
        spectra[(spectra > 0) & (spectra < _MAX_TESTED_INTEGER)].astype(int), minlength=_MAX_TESTED_INTEGER
    )
    integers = np.arange(_MAX_TESTED_INTEGER)
    low_factor, high_factor = _ROUNDED_SCALE_RANGE
    if len(spectra) < _MIN_TESTED_SPECTRA:  # if there are few spectra, the factor may be a dead-time correction
        low_factor = COUNTS_SCALE_RANGE[1]
    factors = np.geomspace(high_factor, low_factor, int(4 * _MAX_TESTED_INTEGER * np.log(high_factor / low_factor)))
    tolerance = integers * 0.5 * (factors[0] / factors[1] - 1)
    factor_candidates = []  # pairs: index of a factor (largest factor first), and rounding offset
    for rounding in (0.0, 0.5):
        deviation = np.abs(integers + rounding - factors[:, None] * np.rint((integers + rounding) / factors[:, None]))
        is_missing = deviation > 0.5 + tolerance
        is_missing[:, 0] = False
        # occurrences of the nearest possible integer below, or of that above, whichever are fewer
        nearest_integer_below = np.maximum.accumulate(np.where(is_missing, 0, integers), axis=1)
        nearest_integer_above = np.minimum.accumulate(
            np.where(is_missing, _MAX_TESTED_INTEGER, integers)[:, ::-1], axis=1
        )[:, ::-1]
        nearest_occurrences = np.minimum(
            occurrences[nearest_integer_below], np.append(occurrences, 0)[nearest_integer_above]
        )
        expected_occurrences, occurrences_of_missing = (
            (is_missing * nearest_occurrences).sum(axis=1),
            is_missing @ occurrences,
        )
        factor_candidates += [
            (factor_index, rounding)
            for factor_index in np.flatnonzero(
                (expected_occurrences > _MIN_EXPECTED_OCCURRENCES)
                & (occurrences_of_missing < _MAX_OCCURRENCE_RATIO * expected_occurrences)
            )
        ]
    last_rejected_factor = {0.0: np.inf, 0.5: np.inf}  # for each rounding offset
    for factor_index, rounding in sorted(factor_candidates):
        factor = float(factors[factor_index])
        if not 0.98 * last_rejected_factor[rounding] < factor < last_rejected_factor[rounding] < np.inf:
            scale = _refine_factor(distinct_values[distinct_values > 0], factor, rounding)
            if scale is not None:
                return scale
            last_rejected_factor[rounding] = factor
    return None


def _refine_factor(distinct_values: Array, factor: float, rounding: float) -> Scale | None:
    """Refine the scale with larger and larger values; return None if some values are not rounded multiples of it."""
    min_factor, max_factor = 0.97 * factor, 1.01 * factor
    for max_value in (_MAX_TESTED_INTEGER, 10 * _MAX_TESTED_INTEGER, 100 * _MAX_TESTED_INTEGER):
        fitted_values = distinct_values[distinct_values < max_value] + rounding
        factors = np.linspace(min_factor, max_factor, _N_TESTED_FACTORS)
        deviation = np.abs(fitted_values - factors[:, None] * np.rint(fitted_values / factors[:, None]))
        fitting_fraction = (
            deviation <= 0.5 + 1e-6 + (max_factor - min_factor) / _N_TESTED_FACTORS * fitted_values / factor
        ).mean(axis=1)
        if fitting_fraction.max() < _MIN_MULTIPLES_SHARE:
            return None
        # the largest of the best factors are used, because they exclude the most integers
        best_range = np.split(
            best_factor_indices := np.flatnonzero(fitting_fraction == fitting_fraction.max()),
            np.flatnonzero(np.diff(best_factor_indices) > 1) + 1,
        )[-1]
        min_factor, max_factor = (
            factors[max(best_range[0] - 1, 0)],
            factors[min(best_range[-1] + 1, _N_TESTED_FACTORS - 1)],
        )
    return Scale(float(np.mean(factors[best_range])), rounding=rounding)


def sum_channels(spectra: Array, bin_size: int) -> Array:
    """Return sums over ``bin_size`` neighbouring channels of each spectrum, (n, n_channel // bin_size)."""
    n_channel_used = spectra.shape[1] // bin_size * bin_size
    return np.asarray(spectra[:, :n_channel_used].reshape(len(spectra), -1, bin_size).sum(axis=2))


def _relative_rounding_error(dtype: np.dtype[Any]) -> float:
    return float(np.finfo(dtype if dtype.kind == "f" else np.float64).eps)


def _is_in_range(value: float, value_range: tuple[float, float]) -> bool:
    return bool(value_range[0] <= value <= value_range[1])
