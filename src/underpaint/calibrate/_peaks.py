"""Peaks of a spectrum with unknown energy axis, and search for the axes on which common elements explain the peaks."""

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
_MIN_WIDTH_PEAKS = 3
_MAX_WIDTH_PEAKS = 1000
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
        Centre (fractional channel), net height (counts per channel) and significance (standard deviations).
    fwhm_channels : (n_channel,) array
        FWHM of a peak at each channel, channels.
    net : (n_channel,) array
        Smoothed counts above the background.
    deviation : (n_channel,) array
        Standard deviation of ``net``.
    """

    channel: NDArray[np.float64]
    height: NDArray[np.float64]
    significance: NDArray[np.float64]
    fwhm_channels: NDArray[np.float64]
    net: NDArray[np.float64]
    deviation: NDArray[np.float64]


def recorded_channels(counts: NDArray[np.float64]) -> slice:
    """Return the range of channels without noise at the low end, and without overflow or padding at the high end.

    Noise decreases from the first recorded channels. Overflow is a last channel with far more counts than the channels
    before it. Padding are zeros that truncate the continuum.

    Parameters
    ----------
    counts : (n_channel,) array
        Sum spectrum with at least one count.
    """
    first_channel, last_channel = (int(channel) for channel in np.flatnonzero(counts > 0)[[0, -1]])
    smoothed = gaussian_filter1d(counts, 1.0)
    rising = np.flatnonzero(np.diff(smoothed[first_channel : last_channel + 1]) > 0)
    rising = rising[rising > 1]
    end_of_noise = first_channel + int(rising[0]) if rising.size else first_channel
    start = (
        end_of_noise
        if counts[first_channel : first_channel + 3].max() > _MIN_NOISE_RATIO * (counts[end_of_noise] + 1.0)
        else first_channel
    )
    last_counts = counts[max(last_channel - _N_LAST_CHANNELS, 0) : last_channel]
    stop = counts.size
    if last_counts.size and counts[last_channel] > _MIN_OVERFLOW_RATIO * (np.median(last_counts) + 1.0):
        stop, last_counts = last_channel, last_counts[-_N_LAST_CHANNELS // 2 :]
    if (
        last_channel + 1 < counts.size
        and last_counts.size
        and last_counts[-_TRUNCATION_CHANNELS:].mean() > _MIN_TRUNCATION_COUNTS
    ):
        stop = min(stop, last_channel + 1)
    return slice(start, stop)


def find_spectrum_peaks(counts: NDArray[np.float64], min_significance: float = 6.0) -> Peaks | None:
    """Return the sharp peaks of a spectrum; None if their width cannot be determined."""
    typical_fwhm = _typical_fwhm(counts)
    if typical_fwhm is None:
        return None
    peaks = _peaks_at_width(counts, np.full(counts.size, typical_fwhm), min_significance)
    if peaks.channel.size < _MIN_WIDTH_PEAKS:
        return peaks
    return _peaks_at_width(counts, _width_law(counts, peaks, typical_fwhm), min_significance)


def prominent_maxima(
    values: NDArray[np.float64], min_prominence: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the prominent local maxima and their prominences, as defined by :func:`scipy.signal.find_peaks`.

    SciPy's function is not used, since its import takes longer than the calibration of a scan.

    Parameters
    ----------
    values : (n_channel,) array
        Values.
    min_prominence : (n_channel,) array
        Smallest prominence of a maximum at each channel.

    Returns
    -------
    maxima, prominences : (n_maximum,) arrays
        Channels and prominences.
    """
    inner = values[1:-1]
    maxima = np.flatnonzero((inner > values[:-2]) & (inner >= values[2:])) + 1
    bases = np.array([_higher_base(values, maximum) for maximum in maxima.tolist()])
    prominence = values[maxima] - bases.reshape(maxima.shape)
    is_prominent = prominence >= min_prominence[maxima]
    return maxima[is_prominent], prominence[is_prominent]


def _higher_base(values: NDArray[np.float64], maximum: int) -> float:
    """Return the base of a maximum: the higher of the minima on both sides, up to the next higher value."""
    higher = np.flatnonzero(values > values[maximum])
    position = np.searchsorted(higher, maximum)
    left, right = np.concatenate([[-1], higher, [values.size]])[[position, position + 1]]
    return float(max(values[left + 1 : maximum].min(), values[maximum + 1 : right].min()))


def _width(values: NDArray[np.float64], maximum: int, level: float) -> float:
    """Return the width, channels, of a maximum at a level."""
    is_below = (values[:maximum] <= level)[::-1], values[maximum + 1 :] <= level
    left, right = maximum - 1 - int(np.argmax(is_below[0])), maximum + 1 + int(np.argmax(is_below[1]))
    left_fraction = (level - values[left]) / (values[left + 1] - values[left])
    right_fraction = (level - values[right]) / (values[right - 1] - values[right])
    return float(right - left - left_fraction - right_fraction)


def _typical_fwhm(counts: NDArray[np.float64]) -> float | None:
    """Return the typical FWHM, channels, of prominent peaks at the weakest smoothing with peaks; None without peaks."""
    fwhm: float | None = None
    for sigma in _SMOOTHING_SIGMAS:
        smoothed = gaussian_filter1d(counts, sigma)
        noise = np.sqrt(np.maximum(smoothed, 1.0) / (2 * np.sqrt(np.pi) * sigma))
        maxima, prominence = prominent_maxima(smoothed, 5 * noise)
        is_strong = prominence > 0.3 * smoothed[maxima]
        if is_strong.sum() < _MIN_WIDTH_PEAKS:
            continue
        half_heights = smoothed[maxima] - 0.5 * prominence
        widths = [
            _width(smoothed, maximum, half_height)
            for maximum, half_height in zip(maxima[is_strong], half_heights[is_strong], strict=True)
        ]
        squared_fwhm = np.quantile(widths, 0.4) ** 2 - (FWHM_PER_SIGMA * sigma) ** 2
        fwhm = float(np.sqrt(max(squared_fwhm, 4.0)))
        if fwhm > FWHM_PER_SIGMA * sigma * 0.8:
            return fwhm
    return fwhm


def _peaks_at_width(counts: NDArray[np.float64], fwhm: NDArray[np.float64], min_significance: float) -> Peaks:
    sigma = max(0.4 * float(np.median(fwhm)) / FWHM_PER_SIGMA, 0.5)
    above_background = counts - snip(counts, fwhm, window_per_fwhm=1.5)
    net = gaussian_filter1d(above_background, sigma)
    noise_factor = 1 / (2 * np.sqrt(np.pi) * sigma)
    deviation = np.sqrt(np.maximum(gaussian_filter1d(counts, 2 * sigma), 1.0) * min(noise_factor, 1.0))
    maxima, _ = prominent_maxima(net, 0.5 * min_significance * deviation)
    maxima = maxima[net[maxima] >= min_significance * deviation[maxima]]
    centre = np.array([_parabola_maximum(net, int(channel)) for channel in maxima])
    return Peaks(centre, net[maxima], net[maxima] / deviation[maxima], fwhm, net, deviation)


def _parabola_maximum(net: NDArray[np.float64], maximum: int) -> float:
    """Return the maximum of the parabola through the logarithms of the three highest channels."""
    left, centre, right = np.log(np.maximum(net[maximum - 1 : maximum + 2], 1e-3))
    curvature = left - 2 * centre + right
    return maximum + float(np.clip(0.5 * (left - right) / curvature, -0.5, 0.5)) if curvature < 0 else float(maximum)


def _width_law(counts: NDArray[np.float64], peaks: Peaks, typical_fwhm: float) -> NDArray[np.float64]:
    """Return the (n_channel,) FWHM, channels; its square is a linear fit to the widths of single peaks."""
    above_background = counts - snip(counts, peaks.fwhm_channels, window_per_fwhm=2.0)
    fwhm = np.array([_gaussian_fwhm(above_background, centre, typical_fwhm) for centre in peaks.channel])
    is_strong = peaks.significance > min(30.0, float(np.median(peaks.significance)))
    is_single = np.isfinite(fwhm) & (fwhm > 0.4 * typical_fwhm) & (fwhm < 2.0 * typical_fwhm) & is_strong
    if is_single.sum() < _MIN_WIDTH_PEAKS:
        return np.full(counts.size, typical_fwhm)
    # The slope uses all pairs of peaks; for noise in many channels these would take gigabytes.
    selection = np.argsort(-peaks.significance[is_single], kind="stable")[:_MAX_WIDTH_PEAKS]
    slope = theil_slope(peaks.channel[is_single][selection], fwhm[is_single][selection] ** 2)
    # The width must neither decrease with the channel nor vanish at the first channel.
    slope = max(slope, 0.0)
    offset = float(np.median(fwhm[is_single] ** 2 - slope * peaks.channel[is_single]))
    squared_fwhm = offset + slope * np.arange(counts.size)
    return np.asarray(np.sqrt(np.clip(squared_fwhm, (0.4 * typical_fwhm) ** 2, (2.5 * typical_fwhm) ** 2)))


def _gaussian_fwhm(above_background: NDArray[np.float64], centre: float, typical_fwhm: float) -> float:
    """Return the FWHM, channels, from a parabola fitted to the logarithm of a peak's upper half; NaN if it fails."""
    half_range = max(round(0.6 * typical_fwhm), 2)
    first_channel, last_channel = (
        max(round(centre) - half_range, 0),
        min(round(centre) + half_range + 1, above_background.size),
    )
    channels, values = np.arange(first_channel, last_channel) - centre, above_background[first_channel:last_channel]
    is_used = values > 0.4 * values.max()
    if is_used.sum() < 3:
        return float("nan")
    curvature = np.polyfit(channels[is_used], np.log(values[is_used]), 2, w=np.sqrt(values[is_used]))[0]
    return float(FWHM_PER_SIGMA * np.sqrt(-0.5 / curvature)) if curvature < 0 else float("nan")


GAIN_RANGE_KEV = (0.004, 0.062)
_GAIN_STEP = 1.0015
_ZERO_RANGE_KEV = 0.6
_ZERO_STEP_KEV = 0.02
_ZERO_PEAK_RANGE_KEV = 1.2
_NEAR_GAIN_RANGE, _NEAR_ZERO_RANGE_KEV = 0.035, 0.12
_NOISE_RANGE_KEV = (0.02, 0.25)
_TYPICAL_FANO = 0.115
_MATCH_SIGMA_PER_FWHM = 0.17
_STEPS_PER_CHANNEL = 4
_MIN_CREDIT = 1e-3
_RARE_WEIGHT = 0.55
_ZERO_SPREAD_KEV = 0.5
_MAX_ZERO_PEAK_KEV = 0.15


@dataclass(frozen=True)
class Hypothesis:
    """An energy axis with its score.

    Parameters
    ----------
    gain_kev, zero_kev : float
        Channel width and energy of channel 0, in keV.
    score : float
        Fraction of the weight of the peaks that lines explain, times the prior, 0 to 1.
    """

    gain_kev: float
    zero_kev: float
    score: float


@dataclass(frozen=True)
class _Lines:
    """Line groups as flat arrays, family after family; the strongest group of a family is the first.

    Parameters
    ----------
    energy_kev : (n_line,) array
        Centre of each group, in keV.
    relative : (n_line,) array
        Intensity relative to the strongest group of the family.
    prior : (n_line,) array
        Weight of the element.
    family : (n_line,) array
        Index of the family.
    first : (n_family,) array
        Index of the strongest group of each family.
    """

    energy_kev: NDArray[np.float64]
    relative: NDArray[np.float64]
    prior: NDArray[np.float64]
    family: NDArray[np.intp]
    first: NDArray[np.intp]

    @property
    def strongest_in_family(self) -> NDArray[np.intp]:
        """(n_line,) index of the strongest group of each group's family."""
        return self.first[self.family]


def search_axis(peaks: Peaks, n_channel: int, n_best: int = 12) -> list[Hypothesis]:
    """Return the best distinct energy axes, best first, over all gains that give a plausible detector resolution.

    Some electronics record a zero peak at 0 keV; for each gain, the lowest peak is also tried as zero peak.

    Parameters
    ----------
    peaks : Peaks
        Peaks in channels.
    n_channel : int
        Number of channels of the spectrum.
    n_best : int
        Number of axes to return.
    """
    zeros = np.arange(-_ZERO_RANGE_KEV, _ZERO_RANGE_KEV + 1e-9, _ZERO_STEP_KEV)
    first_peak = float(peaks.channel.min())
    grid = []
    for gain in _possible_gains(peaks):
        zero_of_peak = -float(gain) * first_peak
        is_possible = -_ZERO_PEAK_RANGE_KEV < zero_of_peak < -_ZERO_STEP_KEV
        grid.append((float(gain), np.append(zeros, zero_of_peak) if is_possible else zeros))
    return _best_hypotheses(_PeakLookup(peaks, n_channel), grid, n_best)


def search_near(peaks: Peaks, n_channel: int, axis: EnergyAxis) -> Hypothesis:
    """Return the best energy axis near a given axis, such as that of the file.

    Parameters
    ----------
    peaks : Peaks
        Peaks in channels.
    n_channel : int
        Number of channels of the spectrum.
    axis : EnergyAxis
        Axis near which to search.
    """
    n_steps = int(np.log1p(_NEAR_GAIN_RANGE) / np.log(_GAIN_STEP))
    gains = axis.gain_kev * _GAIN_STEP ** np.arange(-n_steps, n_steps + 1)
    zeros = axis.zero_kev + np.arange(-_NEAR_ZERO_RANGE_KEV, _NEAR_ZERO_RANGE_KEV + 1e-9, _ZERO_STEP_KEV)
    lookup = _PeakLookup(peaks, n_channel, axis.zero_kev)
    return _best_hypotheses(lookup, [(float(gain), zeros) for gain in gains], 1)[0]


def _best_hypotheses(
    lookup: "_PeakLookup", grid: Sequence[tuple[float, NDArray[np.float64]]], n_best: int
) -> list[Hypothesis]:
    lines = _line_arrays(COMMON_FAMILIES + RARE_FAMILIES)
    scores_by_gain = [(gain, zeros, _axis_scores(lookup, lines, gain, zeros)) for gain, zeros in grid]
    candidates = [
        Hypothesis(gain, float(zeros[index]), float(score[index]))
        for gain, zeros, score in scores_by_gain
        for index in _best_indices(score)
    ]
    candidates.sort(key=lambda hypothesis: -hypothesis.score)
    refined = [_refine_hypothesis(lookup, lines, hypothesis) for hypothesis in candidates[: 8 * n_best]]
    refined.sort(key=lambda hypothesis: -hypothesis.score)
    return _distinct_hypotheses(refined, n_best, lookup.peaks)


def _possible_gains(peaks: Peaks) -> NDArray[np.float64]:
    """Return the gains, keV, at which the width of the peaks is a plausible resolution of a silicon detector."""
    n_steps = int(np.log(GAIN_RANGE_KEV[1] / GAIN_RANGE_KEV[0]) / np.log(_GAIN_STEP))
    gains = GAIN_RANGE_KEV[0] * _GAIN_STEP ** np.arange(n_steps + 1)
    centre = float(np.average(peaks.channel, weights=np.log(peaks.significance)))
    width = float(np.interp(centre, np.arange(peaks.fwhm_channels.size), peaks.fwhm_channels))
    fano_term = FWHM_PER_SIGMA**2 * EPSILON_SI_KEV * _TYPICAL_FANO
    noise_squared = (width * gains) ** 2 - fano_term * gains * centre
    # The tolerance accounts for the uncertainty of the width.
    tolerance = 0.15 * (width * gains) ** 2
    min_noise, max_noise = _NOISE_RANGE_KEV
    return np.asarray(gains[(noise_squared + tolerance > min_noise**2) & (noise_squared - tolerance < max_noise**2)])


def _line_arrays(families: tuple[str, ...]) -> _Lines:
    groups_by_family = [family_groups for family_groups in map(line_groups, families) if family_groups]
    groups = [group for family_groups in groups_by_family for group in family_groups]
    n_groups = [len(family_groups) for family_groups in groups_by_family]
    strongest = np.repeat([family_groups[0].strength for family_groups in groups_by_family], n_groups)
    return _Lines(
        np.array([group.centre_kev for group in groups]),
        np.array([group.strength for group in groups]) / strongest,
        np.array([1.0 if group.common else _RARE_WEIGHT for group in groups]),
        np.repeat(np.arange(len(groups_by_family)), n_groups),
        np.cumsum([0, *n_groups[:-1]]),
    )


class _PeakLookup:
    """Tables of the nearest peak, the agreement with its position, and the net counts at fractional channels."""

    def __init__(self, peaks: Peaks, n_channel: int, expected_zero_kev: float = 0.0) -> None:
        self.peaks = peaks
        self.expected_zero_kev = expected_zero_kev
        self.n_channel = n_channel
        self.weight = np.log2(1 + peaks.significance / 4)
        fine_channels = np.arange(n_channel * _STEPS_PER_CHANNEL) / _STEPS_PER_CHANNEL
        # The peaks are sorted; a matrix of distances between channels and peaks would take gigabytes.
        self.nearest = np.searchsorted((peaks.channel[1:] + peaks.channel[:-1]) / 2, fine_channels)
        tolerance = _MATCH_SIGMA_PER_FWHM * np.interp(fine_channels, np.arange(n_channel), peaks.fwhm_channels)
        self.match = np.exp(-0.5 * ((fine_channels - peaks.channel[self.nearest]) / tolerance) ** 2)
        self.net = np.interp(fine_channels, np.arange(n_channel), np.maximum(peaks.net, 0.0))
        self.slack = 4 * np.interp(fine_channels, np.arange(n_channel), peaks.deviation)
        occupied = np.flatnonzero(peaks.fwhm_channels > 0)
        self.last = float(occupied[-1])

    def index(self, channel: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Return the indices of channels in the tables, and whether the channels were recorded."""
        is_recorded = (channel >= 2) & (channel <= self.n_channel - 3)
        fine_channel = np.clip(channel, 0, self.n_channel - 1) * _STEPS_PER_CHANNEL
        return np.rint(fine_channel).astype(np.intp).clip(0, self.match.size - 1), is_recorded


def _evaluate(
    lookup: _PeakLookup, lines: _Lines, gain: float, zeros: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the credit of each line for explaining its nearest peak, and the index of that peak, (n_zero, n_line)."""
    channel = (lines.energy_kev[None, :] - zeros[:, None]) / gain
    index, is_recorded = lookup.index(channel)
    match = lookup.match[index] * is_recorded
    net, tolerance = lookup.net[index], lookup.slack[index]
    expected = lines.relative[None, :] * net[:, lines.strongest_in_family]
    # A line that is expected from the strongest line of its family, but missing, is evidence against the family.
    presence = np.where(is_recorded, np.minimum(1.0, (net + tolerance) / np.maximum(0.4 * expected, 1e-9)), 1.0)
    is_visible = is_recorded & (expected > 2 * tolerance)
    line_weight = np.sqrt(lines.relative)[None, :] * is_visible
    family_weight = np.add.reduceat(line_weight, lines.first, axis=1)
    matched_weight = np.add.reduceat(line_weight * match, lines.first, axis=1)
    support = np.minimum.reduceat(presence, lines.first, axis=1) * is_recorded[:, lines.first]
    support *= np.divide(matched_weight, family_weight, out=np.zeros_like(family_weight), where=family_weight > 0)
    weight_of_counts = np.minimum(1.0, 2.5 * expected / np.maximum(net, 1e-9))
    return support[:, lines.family] * match * weight_of_counts * lines.prior, lookup.nearest[index]


def _axis_scores(lookup: _PeakLookup, lines: _Lines, gain: float, zeros: NDArray[np.float64]) -> NDArray[np.float64]:
    credit, nearest = _evaluate(lookup, lines, gain, zeros)
    peak_credit = np.zeros((zeros.size, lookup.weight.size))
    # Only lines with credit are added, since most lines are not at a peak.
    zero_index, line = np.nonzero(credit > _MIN_CREDIT)
    np.maximum.at(peak_credit, (zero_index, nearest[zero_index, line]), credit[zero_index, line])
    # No lines are expected below 1.5 keV, where thresholds and noise resemble peaks.
    peak_kev = gain * lookup.peaks.channel[None, :] + zeros[:, None]
    weight = np.where(peak_kev < 1.5, 0.0, lookup.weight[None, :])
    zero_peak = np.abs(peak_kev[:, 0]) < _MAX_ZERO_PEAK_KEV
    max_score = lookup.weight.sum() - np.where(zero_peak, lookup.weight[0], 0.0)
    score = (peak_credit * weight).sum(axis=1) / np.maximum(max_score, 1e-9)
    # A zero peak determines the zero; without one, a large zero is improbable.
    zero_deviation = np.where(zero_peak, 0.0, zeros - lookup.expected_zero_kev)
    return np.asarray(score * np.exp(-0.5 * (zero_deviation / (2 * _ZERO_SPREAD_KEV)) ** 2))


def _best_indices(scores: NDArray[np.float64]) -> list[int]:
    return [int(index) for index in np.argsort(scores)[-3:]]


def _refine_hypothesis(lookup: _PeakLookup, lines: _Lines, start: Hypothesis) -> Hypothesis:
    """Return the axis fitted to the peaks that a hypothesis explains, or the hypothesis if its score is better."""
    hypothesis = start
    for _ in range(3):
        credit, nearest = _evaluate(lookup, lines, hypothesis.gain_kev, np.array([hypothesis.zero_kev]))
        is_used = credit[0] > 0.2
        if np.unique(nearest[0][is_used]).size < 3:
            return hypothesis
        weight = np.sqrt(credit[0][is_used] * lookup.weight[nearest[0][is_used]])
        gain, zero = np.polyfit(lookup.peaks.channel[nearest[0][is_used]], lines.energy_kev[is_used], 1, w=weight)
        if not (gain > 0 and abs(zero - start.zero_kev) < 0.5 * _ZERO_RANGE_KEV):
            return hypothesis
        score = float(_axis_scores(lookup, lines, float(gain), np.array([zero]))[0])
        if score <= hypothesis.score:
            return hypothesis
        hypothesis = Hypothesis(float(gain), float(zero), score)
    return hypothesis


def _distinct_hypotheses(hypotheses: list[Hypothesis], n_best: int, peaks: Peaks) -> list[Hypothesis]:
    """Return the hypotheses that differ from all better ones by a third of a peak's width or more somewhere."""
    end_channels = np.array([peaks.channel.min(), peaks.channel.max()])
    fwhm = float(np.median(peaks.fwhm_channels))
    distinct: list[Hypothesis] = []
    for candidate in hypotheses:
        shifts = [
            np.abs((candidate.gain_kev - accepted.gain_kev) * end_channels + candidate.zero_kev - accepted.zero_kev)
            / accepted.gain_kev
            for accepted in distinct
        ]
        if all(shift.max() > 0.33 * fwhm for shift in shifts):
            distinct.append(candidate)
        if len(distinct) == n_best:
            break
    return distinct
