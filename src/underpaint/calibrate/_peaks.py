"""Search for the peaks of a spectrum, and for energy axes that place these peaks at lines of common elements."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from underpaint.calibrate._patterns import COMMON_FAMILIES, RARE_FAMILIES, line_groups
from underpaint.data.axis import EnergyAxis
from underpaint.data.background import snip
from underpaint.data.robust import theil_slope
from underpaint.units import EPSILON_SI_KEV, FWHM_PER_SIGMA

_SMOOTHING_SIGMAS = (1.0, 2.0, 4.0, 8.0)
_MIN_PEAKS_FOR_WIDTH = 3
_MAX_PEAKS_FOR_WIDTH = 1000
_N_LAST_CHANNELS = 16
_MIN_NOISE_RATIO = 3.0
_MIN_OVERFLOW_RATIO = 10.0
_TRUNCATION_CHANNELS, _MIN_TRUNCATION_COUNTS = 4, 5.0


@dataclass(frozen=True)
class Peaks:
    """Peaks of a spectrum, in channels.

    Parameters
    ----------
    channel, height, significance : (n_peak,) arrays
        Centre (fractional channel), height above the background (counts per channel) and significance (standard
        deviations).
    fwhm_channels : (n_channel,) array
        FWHM of a peak at each channel, in channels.
    net_counts : (n_channel,) array
        Smoothed counts above the background.
    deviation : (n_channel,) array
        Standard deviation of ``net_counts``.
    """

    channel: NDArray[np.float64]
    height: NDArray[np.float64]
    significance: NDArray[np.float64]
    fwhm_channels: NDArray[np.float64]
    net_counts: NDArray[np.float64]
    deviation: NDArray[np.float64]


def recorded_channels(counts: NDArray[np.float64]) -> slice:
    """Return the range of channels that contain the spectrum, without noise, overflow and padding.

    Noise is a steep decrease of the counts in the first recorded channels. Overflow is a last channel with far more
    counts than the channels before it. Padding is a run of empty channels after a continuum that has not reached zero.

    Parameters
    ----------
    counts : (n_channel,) array
        Sum spectrum with at least one count.
    """
    first_channel, last_channel = (int(channel) for channel in np.flatnonzero(counts > 0)[[0, -1]])
    smoothed_counts = gaussian_filter1d(counts, 1.0)
    rising_channels = np.flatnonzero(np.diff(smoothed_counts[first_channel : last_channel + 1]) > 0)
    rising_channels = rising_channels[rising_channels > 1]
    end_of_noise = first_channel + int(rising_channels[0]) if rising_channels.size else first_channel
    start_channel = (
        end_of_noise
        if counts[first_channel : first_channel + 3].max() > _MIN_NOISE_RATIO * (counts[end_of_noise] + 1.0)
        else first_channel
    )
    counts_before_last = counts[max(last_channel - _N_LAST_CHANNELS, 0) : last_channel]
    stop_channel = counts.size
    if counts_before_last.size and counts[last_channel] > _MIN_OVERFLOW_RATIO * (np.median(counts_before_last) + 1.0):
        stop_channel, counts_before_last = last_channel, counts_before_last[-_N_LAST_CHANNELS // 2 :]
    if (
        last_channel + 1 < counts.size
        and counts_before_last.size
        and counts_before_last[-_TRUNCATION_CHANNELS:].mean() > _MIN_TRUNCATION_COUNTS
    ):
        stop_channel = min(stop_channel, last_channel + 1)
    return slice(start_channel, stop_channel)


def find_spectrum_peaks(counts: NDArray[np.float64], min_significance: float = 6.0) -> Peaks | None:
    """Return the sharp peaks of a spectrum, or None if too few prominent peaks determine their width."""
    typical_fwhm = _typical_fwhm(counts)
    if typical_fwhm is None:
        return None
    peaks = _peaks_at_width(counts, np.full(counts.size, typical_fwhm), min_significance)
    if peaks.channel.size < _MIN_PEAKS_FOR_WIDTH:
        return peaks
    return _peaks_at_width(counts, _fitted_widths(counts, peaks, typical_fwhm), min_significance)


def prominent_maxima(
    values: NDArray[np.float64], min_prominence: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the prominent local maxima and their prominences, as defined by :func:`scipy.signal.find_peaks`.

    SciPy's function is not used, because its import takes longer than the calibration of a scan.

    Parameters
    ----------
    values : (n_channel,) array
        Values.
    min_prominence : (n_channel,) array
        Minimum prominence required of a maximum at each channel.

    Returns
    -------
    maxima, prominences : (n_maximum,) arrays
        Channels and prominences of the maxima.
    """
    values_inside = values[1:-1]
    maxima = np.flatnonzero((values_inside > values[:-2]) & (values_inside >= values[2:])) + 1
    maximum_bases = np.array([_higher_base(values, maximum) for maximum in maxima.tolist()])
    prominences = values[maxima] - maximum_bases.reshape(maxima.shape)
    is_prominent = prominences >= min_prominence[maxima]
    return maxima[is_prominent], prominences[is_prominent]


def _higher_base(values: NDArray[np.float64], maximum: int) -> float:
    """Return the base of a maximum.

    On each side of the maximum, the lowest value before the next higher value is found. The base is the higher of these
    two lowest values.
    """
    higher_channels = np.flatnonzero(values > values[maximum])
    next_higher_index = np.searchsorted(higher_channels, maximum)
    left_channel, right_channel = np.concatenate([[-1], higher_channels, [values.size]])[
        [next_higher_index, next_higher_index + 1]
    ]
    return float(max(values[left_channel + 1 : maximum].min(), values[maximum + 1 : right_channel].min()))


def _width_at_level(values: NDArray[np.float64], maximum: int, level: float) -> float:
    """Return the width of a maximum at the height ``level``, in channels."""
    is_below_level = (values[:maximum] <= level)[::-1], values[maximum + 1 :] <= level
    left_channel, right_channel = (
        maximum - 1 - int(np.argmax(is_below_level[0])),
        maximum + 1 + int(np.argmax(is_below_level[1])),
    )
    left_fraction = (level - values[left_channel]) / (values[left_channel + 1] - values[left_channel])
    right_fraction = (level - values[right_channel]) / (values[right_channel - 1] - values[right_channel])
    return float(right_channel - left_channel - left_fraction - right_fraction)


def _typical_fwhm(counts: NDArray[np.float64]) -> float | None:
    """Return the typical FWHM of prominent peaks in channels, or None if there are too few peaks.

    Stronger smoothing is tried until there are enough peaks.
    """
    fwhm: float | None = None
    for sigma in _SMOOTHING_SIGMAS:
        smoothed_counts = gaussian_filter1d(counts, sigma)
        counts_deviation = np.sqrt(np.maximum(smoothed_counts, 1.0) / (2 * np.sqrt(np.pi) * sigma))
        maxima, prominences = prominent_maxima(smoothed_counts, 5 * counts_deviation)
        is_strong = prominences > 0.3 * smoothed_counts[maxima]
        if is_strong.sum() < _MIN_PEAKS_FOR_WIDTH:
            continue
        half_heights = smoothed_counts[maxima] - 0.5 * prominences
        peak_widths = [
            _width_at_level(smoothed_counts, maximum, half_height)
            for maximum, half_height in zip(maxima[is_strong], half_heights[is_strong], strict=True)
        ]
        squared_fwhm = np.quantile(peak_widths, 0.4) ** 2 - (FWHM_PER_SIGMA * sigma) ** 2
        fwhm = float(np.sqrt(max(squared_fwhm, 4.0)))
        if fwhm > FWHM_PER_SIGMA * sigma * 0.8:
            return fwhm
    return fwhm


def _peaks_at_width(counts: NDArray[np.float64], fwhm: NDArray[np.float64], min_significance: float) -> Peaks:
    sigma = max(0.4 * float(np.median(fwhm)) / FWHM_PER_SIGMA, 0.5)
    above_background = counts - snip(counts, fwhm, window_per_fwhm=1.5)
    net_counts = gaussian_filter1d(above_background, sigma)
    noise_factor = 1 / (2 * np.sqrt(np.pi) * sigma)
    deviation = np.sqrt(np.maximum(gaussian_filter1d(counts, 2 * sigma), 1.0) * min(noise_factor, 1.0))
    maxima, _ = prominent_maxima(net_counts, 0.5 * min_significance * deviation)
    maxima = maxima[net_counts[maxima] >= min_significance * deviation[maxima]]
    peak_centres = np.array([_parabola_maximum(net_counts, int(channel)) for channel in maxima])
    return Peaks(peak_centres, net_counts[maxima], net_counts[maxima] / deviation[maxima], fwhm, net_counts, deviation)


def _parabola_maximum(net_counts: NDArray[np.float64], maximum: int) -> float:
    """Return the channel of the vertex of the parabola through the logarithms of a maximum and its two neighbours."""
    log_left, log_centre, log_right = np.log(np.maximum(net_counts[maximum - 1 : maximum + 2], 1e-3))
    second_difference = log_left - 2 * log_centre + log_right
    return (
        maximum + float(np.clip(0.5 * (log_left - log_right) / second_difference, -0.5, 0.5))
        if second_difference < 0
        else float(maximum)
    )


def _fitted_widths(counts: NDArray[np.float64], peaks: Peaks, typical_fwhm: float) -> NDArray[np.float64]:
    """Return the FWHM at each channel, in channels.

    A straight line is fitted to the squared widths of well-separated strong peaks.
    """
    above_background = counts - snip(counts, peaks.fwhm_channels, window_per_fwhm=2.0)
    fwhm = np.array([_gaussian_fwhm(above_background, centre, typical_fwhm) for centre in peaks.channel])
    is_strong = peaks.significance > min(30.0, float(np.median(peaks.significance)))
    is_single = np.isfinite(fwhm) & (fwhm > 0.4 * typical_fwhm) & (fwhm < 2.0 * typical_fwhm) & is_strong
    if is_single.sum() < _MIN_PEAKS_FOR_WIDTH:
        return np.full(counts.size, typical_fwhm)
    # The slope is calculated from all pairs of peaks. The pairs of very many noise peaks would fill gigabytes.
    selected_peaks = np.argsort(-peaks.significance[is_single], kind="stable")[:_MAX_PEAKS_FOR_WIDTH]
    squared_fwhm_slope = theil_slope(peaks.channel[is_single][selected_peaks], fwhm[is_single][selected_peaks] ** 2)
    # The width must not decrease with increasing channel, and must not be zero at the first channel.
    squared_fwhm_slope = max(squared_fwhm_slope, 0.0)
    squared_fwhm_offset = float(np.median(fwhm[is_single] ** 2 - squared_fwhm_slope * peaks.channel[is_single]))
    squared_fwhm = squared_fwhm_offset + squared_fwhm_slope * np.arange(counts.size)
    return np.asarray(np.sqrt(np.clip(squared_fwhm, (0.4 * typical_fwhm) ** 2, (2.5 * typical_fwhm) ** 2)))


def _gaussian_fwhm(above_background: NDArray[np.float64], centre: float, typical_fwhm: float) -> float:
    """Fit a parabola to the logarithm of a peak's upper part. Return the FWHM in channels, or NaN if the fit fails."""
    half_range_channels = max(round(0.6 * typical_fwhm), 2)
    first_channel, last_channel = (
        max(round(centre) - half_range_channels, 0),
        min(round(centre) + half_range_channels + 1, above_background.size),
    )
    channels, values = np.arange(first_channel, last_channel) - centre, above_background[first_channel:last_channel]
    is_upper_part = values > 0.4 * values.max()
    if is_upper_part.sum() < 3:
        return float("nan")
    log_curvature = np.polyfit(
        channels[is_upper_part], np.log(values[is_upper_part]), 2, w=np.sqrt(values[is_upper_part])
    )[0]
    return float(FWHM_PER_SIGMA * np.sqrt(-0.5 / log_curvature)) if log_curvature < 0 else float("nan")


GAIN_RANGE_KEV = (0.004, 0.062)
_GAIN_STEP_FACTOR = 1.0015
_ZERO_RANGE_KEV = 0.6
_ZERO_STEP_KEV = 0.02
_ZERO_PEAK_RANGE_KEV = 1.2
_NEAR_GAIN_RANGE, _NEAR_ZERO_RANGE_KEV = 0.035, 0.12
_NOISE_RANGE_KEV = (0.02, 0.25)
_TYPICAL_FANO = 0.115
_MATCH_SIGMA_PER_FWHM = 0.17
_STEPS_PER_CHANNEL = 4
_MIN_CREDIT = 1e-3
_RARE_ELEMENT_WEIGHT = 0.55
_ZERO_SPREAD_KEV = 0.5
_MAX_ZERO_PEAK_KEV = 0.15


@dataclass(frozen=True)
class Hypothesis:
    """A candidate energy axis and its score.

    Parameters
    ----------
    gain_kev, zero_kev : float
        Channel width and energy of channel 0, in keV.
    score : float
        Prior times the weight of the explained peaks, as a fraction of the weight of all peaks (0 to 1).
    """

    gain_kev: float
    zero_kev: float
    score: float


@dataclass(frozen=True)
class _LineArrays:
    """Line groups of all families as flat arrays. Each family starts with its strongest group.

    Parameters
    ----------
    energy_kev : (n_line,) array
        Centre of each group, in keV.
    relative_intensity : (n_line,) array
        Intensity relative to the strongest group of the family.
    element_weight : (n_line,) array
        Weight of the group's element, lower for elements that are rare in paintings.
    family_index : (n_line,) array
        Index of the group's family.
    first_in_family : (n_family,) array
        Index of the strongest group of each family.
    """

    energy_kev: NDArray[np.float64]
    relative_intensity: NDArray[np.float64]
    element_weight: NDArray[np.float64]
    family_index: NDArray[np.intp]
    first_in_family: NDArray[np.intp]

    @property
    def strongest_in_family(self) -> NDArray[np.intp]:
        """Index of the strongest group in the family of each group, as an (n_line,) array."""
        return self.first_in_family[self.family_index]


def search_axis(peaks: Peaks, n_channel: int, n_best: int = 12) -> list[Hypothesis]:
    """Return the best distinct energy axes, best first, of all gains that give a plausible detector resolution.

    Some electronics record a zero peak at 0 keV. For each gain, the lowest peak is also tried as this zero peak.

    Parameters
    ----------
    peaks : Peaks
        Peaks in channels.
    n_channel : int
        Number of channels of the spectrum.
    n_best : int
        Maximum number of axes to return.
    """
    zeros_kev = np.arange(-_ZERO_RANGE_KEV, _ZERO_RANGE_KEV + 1e-9, _ZERO_STEP_KEV)
    first_peak = float(peaks.channel.min())
    axis_grid = []
    for gain in _possible_gains(peaks):
        zero_of_peak = -float(gain) * first_peak
        is_possible_zero = -_ZERO_PEAK_RANGE_KEV < zero_of_peak < -_ZERO_STEP_KEV
        axis_grid.append((float(gain), np.append(zeros_kev, zero_of_peak) if is_possible_zero else zeros_kev))
    return _best_hypotheses(_PeakLookup(peaks, n_channel), axis_grid, n_best)


def search_near_axis(peaks: Peaks, n_channel: int, axis: EnergyAxis) -> Hypothesis:
    """Return the best energy axis close to a given axis, such as the axis of the scan's file.

    Parameters
    ----------
    peaks : Peaks
        Peaks in channels.
    n_channel : int
        Number of channels of the spectrum.
    axis : EnergyAxis
        Axis around which the search takes place.
    """
    n_steps = int(np.log1p(_NEAR_GAIN_RANGE) / np.log(_GAIN_STEP_FACTOR))
    gains_kev = axis.gain_kev * _GAIN_STEP_FACTOR ** np.arange(-n_steps, n_steps + 1)
    zeros_kev = axis.zero_kev + np.arange(-_NEAR_ZERO_RANGE_KEV, _NEAR_ZERO_RANGE_KEV + 1e-9, _ZERO_STEP_KEV)
    lookup = _PeakLookup(peaks, n_channel, axis.zero_kev)
    return _best_hypotheses(lookup, [(float(gain), zeros_kev) for gain in gains_kev], 1)[0]


def _best_hypotheses(
    lookup: "_PeakLookup", axis_grid: Sequence[tuple[float, NDArray[np.float64]]], n_best: int
) -> list[Hypothesis]:
    line_arrays = _line_arrays(COMMON_FAMILIES + RARE_FAMILIES)
    scores_by_gain = [
        (gain_kev, zeros_kev, _axis_scores(lookup, line_arrays, gain_kev, zeros_kev))
        for gain_kev, zeros_kev in axis_grid
    ]
    candidate_hypotheses = [
        Hypothesis(gain_kev, float(zeros_kev[zero_index]), float(scores[zero_index]))
        for gain_kev, zeros_kev, scores in scores_by_gain
        for zero_index in _best_zero_indices(scores)
    ]
    candidate_hypotheses.sort(key=lambda hypothesis: -hypothesis.score)
    refined_hypotheses = [
        _refine_hypothesis(lookup, line_arrays, hypothesis) for hypothesis in candidate_hypotheses[: 8 * n_best]
    ]
    refined_hypotheses.sort(key=lambda hypothesis: -hypothesis.score)
    return _distinct_hypotheses(refined_hypotheses, n_best, lookup.peaks)


def _possible_gains(peaks: Peaks) -> NDArray[np.float64]:
    """Return the gains (keV per channel) at which the peaks are about as wide as those of a silicon detector."""
    n_steps = int(np.log(GAIN_RANGE_KEV[1] / GAIN_RANGE_KEV[0]) / np.log(_GAIN_STEP_FACTOR))
    gains_kev = GAIN_RANGE_KEV[0] * _GAIN_STEP_FACTOR ** np.arange(n_steps + 1)
    mean_channel = float(np.average(peaks.channel, weights=np.log(peaks.significance)))
    fwhm_channels = float(np.interp(mean_channel, np.arange(peaks.fwhm_channels.size), peaks.fwhm_channels))
    fano_width_per_kev = FWHM_PER_SIGMA**2 * EPSILON_SI_KEV * _TYPICAL_FANO
    noise_squared = (fwhm_channels * gains_kev) ** 2 - fano_width_per_kev * gains_kev * mean_channel
    # The tolerance accounts for the uncertainty of the peak width.
    width_tolerance = 0.15 * (fwhm_channels * gains_kev) ** 2
    min_noise_kev, max_noise_kev = _NOISE_RANGE_KEV
    return np.asarray(
        gains_kev[
            (noise_squared + width_tolerance > min_noise_kev**2) & (noise_squared - width_tolerance < max_noise_kev**2)
        ]
    )


def _line_arrays(families: tuple[str, ...]) -> _LineArrays:
    groups_by_family = [family_groups for family_groups in map(line_groups, families) if family_groups]
    groups = [group for family_groups in groups_by_family for group in family_groups]
    groups_per_family = [len(family_groups) for family_groups in groups_by_family]
    strongest_strengths = np.repeat(
        [family_groups[0].strength for family_groups in groups_by_family], groups_per_family
    )
    return _LineArrays(
        np.array([group.centre_kev for group in groups]),
        np.array([group.strength for group in groups]) / strongest_strengths,
        np.array([1.0 if group.is_common else _RARE_ELEMENT_WEIGHT for group in groups]),
        np.repeat(np.arange(len(groups_by_family)), groups_per_family),
        np.cumsum([0, *groups_per_family[:-1]]),
    )


class _PeakLookup:
    """Tables for fractional channels: index of the nearest peak, agreement with the peak's centre, and net counts."""

    def __init__(self, peaks: Peaks, n_channel: int, expected_zero_kev: float = 0.0) -> None:
        self.peaks = peaks
        self.expected_zero_kev = expected_zero_kev
        self.n_channel = n_channel
        self.peak_weight = np.log2(1 + peaks.significance / 4)
        fine_channels = np.arange(n_channel * _STEPS_PER_CHANNEL) / _STEPS_PER_CHANNEL
        # A binary search finds the nearest peaks, because a matrix of all channels by all peaks would take gigabytes.
        self.nearest_peak = np.searchsorted((peaks.channel[1:] + peaks.channel[:-1]) / 2, fine_channels)
        tolerance_channels = _MATCH_SIGMA_PER_FWHM * np.interp(fine_channels, np.arange(n_channel), peaks.fwhm_channels)
        self.position_match = np.exp(
            -0.5 * ((fine_channels - peaks.channel[self.nearest_peak]) / tolerance_channels) ** 2
        )
        self.net_counts = np.interp(fine_channels, np.arange(n_channel), np.maximum(peaks.net_counts, 0.0))
        self.tolerance_counts = 4 * np.interp(fine_channels, np.arange(n_channel), peaks.deviation)
        usable_channels = np.flatnonzero(peaks.fwhm_channels > 0)
        self.last_channel = float(usable_channels[-1])

    def index(self, channel: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Return the table index of each channel, and a mask of the channels inside the recorded range."""
        is_recorded = (channel >= 2) & (channel <= self.n_channel - 3)
        fine_channel = np.clip(channel, 0, self.n_channel - 1) * _STEPS_PER_CHANNEL
        return np.rint(fine_channel).astype(np.intp).clip(0, self.position_match.size - 1), is_recorded


def _line_credits(
    lookup: _PeakLookup, line_arrays: _LineArrays, gain_kev: float, zeros_kev: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return how well each line explains its nearest peak (0 to 1), and the peak's index: (n_zero, n_line) arrays."""
    channel = (line_arrays.energy_kev[None, :] - zeros_kev[:, None]) / gain_kev
    table_index, is_recorded = lookup.index(channel)
    position_match = lookup.position_match[table_index] * is_recorded
    net_counts, tolerance_counts = lookup.net_counts[table_index], lookup.tolerance_counts[table_index]
    expected_counts = line_arrays.relative_intensity[None, :] * net_counts[:, line_arrays.strongest_in_family]
    # The strongest line of a family predicts its other lines. If one of them is missing, the family is improbable.
    line_presence = np.where(
        is_recorded, np.minimum(1.0, (net_counts + tolerance_counts) / np.maximum(0.4 * expected_counts, 1e-9)), 1.0
    )
    is_visible_line = is_recorded & (expected_counts > 2 * tolerance_counts)
    line_weight = np.sqrt(line_arrays.relative_intensity)[None, :] * is_visible_line
    family_weight = np.add.reduceat(line_weight, line_arrays.first_in_family, axis=1)
    matched_line_weight = np.add.reduceat(line_weight * position_match, line_arrays.first_in_family, axis=1)
    family_support = (
        np.minimum.reduceat(line_presence, line_arrays.first_in_family, axis=1)
        * is_recorded[:, line_arrays.first_in_family]
    )
    family_support *= np.divide(
        matched_line_weight, family_weight, out=np.zeros_like(family_weight), where=family_weight > 0
    )
    counts_agreement = np.minimum(1.0, 2.5 * expected_counts / np.maximum(net_counts, 1e-9))
    return family_support[
        :, line_arrays.family_index
    ] * position_match * counts_agreement * line_arrays.element_weight, lookup.nearest_peak[table_index]


def _axis_scores(
    lookup: _PeakLookup, line_arrays: _LineArrays, gain_kev: float, zeros_kev: NDArray[np.float64]
) -> NDArray[np.float64]:
    line_credit, nearest_peak = _line_credits(lookup, line_arrays, gain_kev, zeros_kev)
    peak_credit = np.zeros((zeros_kev.size, lookup.peak_weight.size))
    # Most lines are not at a peak, so only lines that explain a peak are added.
    zero_index, line_index = np.nonzero(line_credit > _MIN_CREDIT)
    np.maximum.at(peak_credit, (zero_index, nearest_peak[zero_index, line_index]), line_credit[zero_index, line_index])
    # Below 1.5 keV, detector thresholds and noise resemble peaks, so peaks there have no weight.
    peak_kev = gain_kev * lookup.peaks.channel[None, :] + zeros_kev[:, None]
    peak_weight = np.where(peak_kev < 1.5, 0.0, lookup.peak_weight[None, :])
    is_zero_peak = np.abs(peak_kev[:, 0]) < _MAX_ZERO_PEAK_KEV
    max_score = lookup.peak_weight.sum() - np.where(is_zero_peak, lookup.peak_weight[0], 0.0)
    score = (peak_credit * peak_weight).sum(axis=1) / np.maximum(max_score, 1e-9)
    # A zero peak determines the zero. Without a zero peak, a zero far from the expected value is improbable.
    zero_deviation_kev = np.where(is_zero_peak, 0.0, zeros_kev - lookup.expected_zero_kev)
    return np.asarray(score * np.exp(-0.5 * (zero_deviation_kev / (2 * _ZERO_SPREAD_KEV)) ** 2))


def _best_zero_indices(scores: NDArray[np.float64]) -> list[int]:
    return [int(index) for index in np.argsort(scores)[-3:]]


def _refine_hypothesis(lookup: _PeakLookup, line_arrays: _LineArrays, start_hypothesis: Hypothesis) -> Hypothesis:
    """Fit an axis to the peaks that a start axis explains. Return the axis with the better score of both."""
    hypothesis = start_hypothesis
    for _ in range(3):
        line_credit, nearest_peak = _line_credits(
            lookup, line_arrays, hypothesis.gain_kev, np.array([hypothesis.zero_kev])
        )
        is_matched_line = line_credit[0] > 0.2
        if np.unique(nearest_peak[0][is_matched_line]).size < 3:
            return hypothesis
        peak_fit_weight = np.sqrt(
            line_credit[0][is_matched_line] * lookup.peak_weight[nearest_peak[0][is_matched_line]]
        )
        gain_kev, zero_kev = np.polyfit(
            lookup.peaks.channel[nearest_peak[0][is_matched_line]],
            line_arrays.energy_kev[is_matched_line],
            1,
            w=peak_fit_weight,
        )
        if not (gain_kev > 0 and abs(zero_kev - start_hypothesis.zero_kev) < 0.5 * _ZERO_RANGE_KEV):
            return hypothesis
        score = float(_axis_scores(lookup, line_arrays, float(gain_kev), np.array([zero_kev]))[0])
        if score <= hypothesis.score:
            return hypothesis
        hypothesis = Hypothesis(float(gain_kev), float(zero_kev), score)
    return hypothesis


def _distinct_hypotheses(hypotheses: list[Hypothesis], n_best: int, peaks: Peaks) -> list[Hypothesis]:
    """Return the axes that differ by at least a third of a peak width from every better axis."""
    outer_peak_channels = np.array([peaks.channel.min(), peaks.channel.max()])
    fwhm = float(np.median(peaks.fwhm_channels))
    distinct_hypotheses: list[Hypothesis] = []
    for candidate_hypothesis in hypotheses:
        channel_shifts = [
            np.abs(
                (candidate_hypothesis.gain_kev - accepted_hypothesis.gain_kev) * outer_peak_channels
                + candidate_hypothesis.zero_kev
                - accepted_hypothesis.zero_kev
            )
            / accepted_hypothesis.gain_kev
            for accepted_hypothesis in distinct_hypotheses
        ]
        if all(channel_shift.max() > 0.33 * fwhm for channel_shift in channel_shifts):
            distinct_hypotheses.append(candidate_hypothesis)
        if len(distinct_hypotheses) == n_best:
            break
    return distinct_hypotheses
