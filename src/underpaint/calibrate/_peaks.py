"""Peaks of a spectrum with unknown axis and resolution, and the axes on which common elements explain them."""

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
_MIN_FOR_WIDTH = 3
_MAX_FOR_WIDTH = 1000
_END_CHANNELS = 16
_EDGE_FALL = 3.0
_OVERFLOW = 10.0
_CUT_CHANNELS, _CUT_COUNTS = 4, 5.0


@dataclass(frozen=True)
class Peaks:
    """Peaks of a spectrum, in channels.

    Parameters
    ----------
    channel, height, significance : (n_peak,) arrays
        Centre (fractional channel), net height (counts per channel) and height over its deviation.
    fwhm_channels : (n_channel,) array
        Width law of the sharp peaks along the spectrum, channels.
    net : (n_channel,) array
        Smoothed counts above the background.
    deviation : (n_channel,) array
        One standard deviation of ``net``.
    """

    channel: NDArray[np.float64]
    height: NDArray[np.float64]
    significance: NDArray[np.float64]
    fwhm_channels: NDArray[np.float64]
    net: NDArray[np.float64]
    deviation: NDArray[np.float64]


def recorded_channels(counts: NDArray[np.float64]) -> slice:
    """Return the range of channels with a spectrum: no noise at the low end, no overflow or padding at the high end.

    Noise decreases from the first recorded channels; overflow is a last channel far above those before it; padding is
    zeros after a continuum that had not ended.

    Parameters
    ----------
    counts : (n_channel,) array
        Sum spectrum with at least one count.
    """
    first, last = (int(end) for end in np.flatnonzero(counts > 0)[[0, -1]])
    smooth = gaussian_filter1d(counts, 1.0)
    rising = np.flatnonzero(np.diff(smooth[first : last + 1]) > 0)
    rising = rising[rising > 1]
    bottom = first + int(rising[0]) if rising.size else first
    start = bottom if counts[first : first + 3].max() > _EDGE_FALL * (counts[bottom] + 1.0) else first
    before = counts[max(last - _END_CHANNELS, 0) : last]
    stop = counts.size
    if before.size and counts[last] > _OVERFLOW * (np.median(before) + 1.0):
        stop, before = last, before[-_END_CHANNELS // 2 :]
    if last + 1 < counts.size and before.size and before[-_CUT_CHANNELS:].mean() > _CUT_COUNTS:
        stop = min(stop, last + 1)
    return slice(start, stop)


def find_spectrum_peaks(counts: NDArray[np.float64], min_significance: float = 6.0) -> Peaks | None:
    """Find the sharp peaks; None if even their width is undetermined."""
    typical = _typical_fwhm(counts)
    if typical is None:
        return None
    first = _peaks_at_width(counts, np.full(counts.size, typical), min_significance)
    if first.channel.size < _MIN_FOR_WIDTH:
        return first
    return _peaks_at_width(counts, _width_law(counts, first, typical), min_significance)


def prominent_maxima(
    values: NDArray[np.float64], min_prominence: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the prominent local maxima and their prominences, as defined by :func:`scipy.signal.find_peaks`.

    Importing SciPy's function takes longer than the calibration of a scan.

    Parameters
    ----------
    values, min_prominence : (n_channel,) arrays
    """
    middle = values[1:-1]
    tops = np.flatnonzero((middle > values[:-2]) & (middle >= values[2:])) + 1
    bases = np.array([_base(values, top) for top in tops.tolist()])
    prominence = values[tops] - bases.reshape(tops.shape)
    is_prominent = prominence >= min_prominence[tops]
    return tops[is_prominent], prominence[is_prominent]


def _base(values: NDArray[np.float64], top: int) -> float:
    """Higher one of the lowest values on both sides, up to the next higher channel."""
    higher = np.flatnonzero(values > values[top])
    side = np.searchsorted(higher, top)
    first, last = np.concatenate([[-1], higher, [values.size]])[[side, side + 1]]
    return float(max(values[first + 1 : top].min(), values[top + 1 : last].min()))


def _width(values: NDArray[np.float64], top: int, level: float) -> float:
    """Distance in channels between the two places where a maximum falls below a level."""
    falls = (values[:top] <= level)[::-1], values[top + 1 :] <= level
    left, right = top - 1 - int(np.argmax(falls[0])), top + 1 + int(np.argmax(falls[1]))
    before = (level - values[left]) / (values[left + 1] - values[left])
    after = (level - values[right]) / (values[right - 1] - values[right])
    return float(right - left - before - after)


def _typical_fwhm(counts: NDArray[np.float64]) -> float | None:
    """Width of most prominent peaks at the finest smoothing that has any."""
    best: float | None = None
    for sigma in _SMOOTHING_SIGMAS:
        smooth = gaussian_filter1d(counts, sigma)
        noise = np.sqrt(np.maximum(smooth, 1.0) / (2 * np.sqrt(np.pi) * sigma))
        tops, prominence = prominent_maxima(smooth, 5 * noise)
        strong = prominence > 0.3 * smooth[tops]
        if strong.sum() < _MIN_FOR_WIDTH:
            continue
        level = smooth[tops] - 0.5 * prominence
        widths = [_width(smooth, top, half) for top, half in zip(tops[strong], level[strong], strict=True)]
        squared = np.quantile(widths, 0.4) ** 2 - (FWHM_PER_SIGMA * sigma) ** 2
        best = float(np.sqrt(max(squared, 4.0)))
        if best > FWHM_PER_SIGMA * sigma * 0.8:
            return best
    return best


def _peaks_at_width(counts: NDArray[np.float64], fwhm: NDArray[np.float64], min_significance: float) -> Peaks:
    sigma = max(0.4 * float(np.median(fwhm)) / FWHM_PER_SIGMA, 0.5)
    above = counts - snip(counts, fwhm, window_per_fwhm=1.5)
    net = gaussian_filter1d(above, sigma)
    narrowing = 1 / (2 * np.sqrt(np.pi) * sigma)
    deviation = np.sqrt(np.maximum(gaussian_filter1d(counts, 2 * sigma), 1.0) * min(narrowing, 1.0))
    tops, _ = prominent_maxima(net, 0.5 * min_significance * deviation)
    tops = tops[net[tops] >= min_significance * deviation[tops]]
    centre = np.array([_vertex(net, int(channel)) for channel in tops])
    return Peaks(centre, net[tops], net[tops] / deviation[tops], fwhm, net, deviation)


def _vertex(net: NDArray[np.float64], top: int) -> float:
    """Top of the parabola through the logarithms of the three highest channels."""
    left, middle, right = np.log(np.maximum(net[top - 1 : top + 2], 1e-3))
    curvature = left - 2 * middle + right
    return top + float(np.clip(0.5 * (left - right) / curvature, -0.5, 0.5)) if curvature < 0 else float(top)


def _width_law(counts: NDArray[np.float64], peaks: Peaks, typical: float) -> NDArray[np.float64]:
    """Squared width as a linear function of the channel, from the peaks that appear single."""
    above = counts - snip(counts, peaks.fwhm_channels, window_per_fwhm=2.0)
    width = np.array([_gaussian_fwhm(above, centre, typical) for centre in peaks.channel])
    strong = peaks.significance > min(30.0, float(np.median(peaks.significance)))
    good = np.isfinite(width) & (width > 0.4 * typical) & (width < 2.0 * typical) & strong
    if good.sum() < _MIN_FOR_WIDTH:
        return np.full(counts.size, typical)
    # All pairs are used: for noise in very many channels, gigabytes.
    rank = np.argsort(-peaks.significance[good], kind="stable")[:_MAX_FOR_WIDTH]
    slope = theil_slope(peaks.channel[good][rank], width[good][rank] ** 2)
    # The width must not decrease with the channel, nor vanish at the first.
    slope = max(slope, 0.0)
    offset = float(np.median(width[good] ** 2 - slope * peaks.channel[good]))
    squared = offset + slope * np.arange(counts.size)
    return np.asarray(np.sqrt(np.clip(squared, (0.4 * typical) ** 2, (2.5 * typical) ** 2)))


def _gaussian_fwhm(above: NDArray[np.float64], centre: float, typical: float) -> float:
    """FWHM from a parabola fitted to the logarithm over the upper half of the peak, NaN where it fails."""
    reach = max(round(0.6 * typical), 2)
    first, last = max(round(centre) - reach, 0), min(round(centre) + reach + 1, above.size)
    channels, values = np.arange(first, last) - centre, above[first:last]
    use = values > 0.4 * values.max()
    if use.sum() < 3:
        return float("nan")
    curvature = np.polyfit(channels[use], np.log(values[use]), 2, w=np.sqrt(values[use]))[0]
    return float(FWHM_PER_SIGMA * np.sqrt(-0.5 / curvature)) if curvature < 0 else float("nan")


GAIN_RANGE_KEV = (0.004, 0.062)
_GAIN_STEP = 1.0015
_ZERO_RANGE_KEV = 0.6
_ZERO_STEP_KEV = 0.02
_ZERO_PEAK_RANGE_KEV = 1.2
_NEAR_GAIN, _NEAR_ZERO_KEV = 0.035, 0.12
_NOISE_RANGE_KEV = (0.02, 0.25)
_TYPICAL_FANO = 0.115
_MATCH_PER_FWHM = 0.17
_LUT_PER_CHANNEL = 4
_MIN_CREDIT = 1e-3
_RARE_WEIGHT = 0.55
_ZERO_PRIOR_KEV = 0.5
_AT_ZERO_KEV = 0.15


@dataclass(frozen=True)
class Hypothesis:
    """An energy axis and how well it explains the peaks.

    Parameters
    ----------
    gain_kev, zero_kev : float
        Channel width and energy of channel 0, keV.
    score : float
        Explained share of the peaks' weight, 0 to 1, with the priors.
    """

    gain_kev: float
    zero_kev: float
    score: float


@dataclass(frozen=True)
class _Lines:
    """The search's line groups as flat arrays, family after family, the strongest group of each first."""

    energy_kev: NDArray[np.float64]
    relative: NDArray[np.float64]
    prior: NDArray[np.float64]
    family: NDArray[np.intp]
    first: NDArray[np.intp]

    @property
    def leader(self) -> NDArray[np.intp]:
        """The strongest group of each group's family."""
        return self.first[self.family]


def search_axis(peaks: Peaks, n_channel: int, n_best: int = 12) -> list[Hypothesis]:
    """Return the best distinct axes, best first, over all gains at which the peaks' width is that of a detector.

    Some electronics record a zero peak at 0 keV: for each gain, the lowest peak is also tried as such.

    Parameters
    ----------
    peaks : Peaks
        Peaks in channels.
    n_channel : int
        Length of the spectrum.
    n_best : int
        Number of hypotheses to return.
    """
    regular = np.arange(-_ZERO_RANGE_KEV, _ZERO_RANGE_KEV + 1e-9, _ZERO_STEP_KEV)
    lowest = float(peaks.channel.min())
    grid = []
    for gain in _possible_gains(peaks):
        with_zero_peak = -float(gain) * lowest
        possible = -_ZERO_PEAK_RANGE_KEV < with_zero_peak < -_ZERO_STEP_KEV
        grid.append((float(gain), np.append(regular, with_zero_peak) if possible else regular))
    return _best_of(_Lookup(peaks, n_channel), grid, n_best)


def search_near(peaks: Peaks, n_channel: int, axis: EnergyAxis) -> Hypothesis:
    """Return the axis that explains most among those that differ little from one, the file's.

    Parameters
    ----------
    peaks, n_channel
        As in ``search_axis``.
    axis : EnergyAxis
        Axis near which to search.
    """
    steps = int(np.log1p(_NEAR_GAIN) / np.log(_GAIN_STEP))
    gains = axis.gain_kev * _GAIN_STEP ** np.arange(-steps, steps + 1)
    zeros = axis.zero_kev + np.arange(-_NEAR_ZERO_KEV, _NEAR_ZERO_KEV + 1e-9, _ZERO_STEP_KEV)
    lookup = _Lookup(peaks, n_channel, axis.zero_kev)
    return _best_of(lookup, [(float(gain), zeros) for gain in gains], 1)[0]


def _best_of(lookup: "_Lookup", grid: Sequence[tuple[float, NDArray[np.float64]]], n_best: int) -> list[Hypothesis]:
    lines = _flatten(COMMON_FAMILIES + RARE_FAMILIES)
    rows = [(gain, zeros, _scores(lookup, lines, gain, zeros)) for gain, zeros in grid]
    tops = [Hypothesis(gain, float(zeros[k]), float(score[k])) for gain, zeros, score in rows for k in _tops(score)]
    tops.sort(key=lambda hypothesis: -hypothesis.score)
    polished = [_polish(lookup, lines, hypothesis) for hypothesis in tops[: 8 * n_best]]
    polished.sort(key=lambda hypothesis: -hypothesis.score)
    return _distinct(polished, n_best, lookup.peaks)


def _possible_gains(peaks: Peaks) -> NDArray[np.float64]:
    """Gains at which the peaks' width is that of a silicon detector."""
    steps = int(np.log(GAIN_RANGE_KEV[1] / GAIN_RANGE_KEV[0]) / np.log(_GAIN_STEP))
    gains = GAIN_RANGE_KEV[0] * _GAIN_STEP ** np.arange(steps + 1)
    centre = float(np.average(peaks.channel, weights=np.log(peaks.significance)))
    width = float(np.interp(centre, np.arange(peaks.fwhm_channels.size), peaks.fwhm_channels))
    fano = FWHM_PER_SIGMA**2 * EPSILON_SI_KEV * _TYPICAL_FANO
    noise_squared = (width * gains) ** 2 - fano * gains * centre
    # A tenth of the squared width accounts for its uncertainty.
    slack = 0.15 * (width * gains) ** 2
    low, high = _NOISE_RANGE_KEV
    return np.asarray(gains[(noise_squared + slack > low**2) & (noise_squared - slack < high**2)])


def _flatten(families: tuple[str, ...]) -> _Lines:
    split = [entry for entry in map(line_groups, families) if entry]
    groups = [group for entry in split for group in entry]
    size = [len(entry) for entry in split]
    strongest = np.repeat([entry[0].strength for entry in split], size)
    return _Lines(
        np.array([group.centre_kev for group in groups]),
        np.array([group.strength for group in groups]) / strongest,
        np.array([1.0 if group.common else _RARE_WEIGHT for group in groups]),
        np.repeat(np.arange(len(split)), size),
        np.cumsum([0, *size[:-1]]),
    )


class _Lookup:
    """Nearest peak, closeness and net height at any fractional channel."""

    def __init__(self, peaks: Peaks, n_channel: int, usual_zero_kev: float = 0.0) -> None:
        self.peaks = peaks
        self.usual_zero_kev = usual_zero_kev
        self.n_channel = n_channel
        self.weight = np.log2(1 + peaks.significance / 4)
        fine = np.arange(n_channel * _LUT_PER_CHANNEL) / _LUT_PER_CHANNEL
        # The peaks are sorted; a matrix of distances from each channel to each peak would take gigabytes.
        self.nearest = np.searchsorted((peaks.channel[1:] + peaks.channel[:-1]) / 2, fine)
        tolerance = _MATCH_PER_FWHM * np.interp(fine, np.arange(n_channel), peaks.fwhm_channels)
        self.match = np.exp(-0.5 * ((fine - peaks.channel[self.nearest]) / tolerance) ** 2)
        self.net = np.interp(fine, np.arange(n_channel), np.maximum(peaks.net, 0.0))
        self.slack = 4 * np.interp(fine, np.arange(n_channel), peaks.deviation)
        occupied = np.flatnonzero(peaks.fwhm_channels > 0)
        self.last = float(occupied[-1])

    def index(self, channel: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Index into the fine tables, and whether the channel was recorded."""
        inside = (channel >= 2) & (channel <= self.n_channel - 3)
        fine = np.clip(channel, 0, self.n_channel - 1) * _LUT_PER_CHANNEL
        return np.rint(fine).astype(np.intp).clip(0, self.match.size - 1), inside


def _evaluate(
    lookup: _Lookup, lines: _Lines, gain: float, zeros: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Credit of each line for explaining its nearest peak, (n_zero, n_line), and that peak's number."""
    channel = (lines.energy_kev[None, :] - zeros[:, None]) / gain
    index, inside = lookup.index(channel)
    match = lookup.match[index] * inside
    net, slack = lookup.net[index], lookup.slack[index]
    expected = lines.relative[None, :] * net[:, lines.leader]
    # A line expected from the strongest line of its family but missing from the spectrum is evidence against the
    # family.
    present = np.where(inside, np.minimum(1.0, (net + slack) / np.maximum(0.4 * expected, 1e-9)), 1.0)
    visible = inside & (expected > 2 * slack)
    root = np.sqrt(lines.relative)[None, :] * visible
    total = np.add.reduceat(root, lines.first, axis=1)
    matched = np.add.reduceat(root * match, lines.first, axis=1)
    support = np.minimum.reduceat(present, lines.first, axis=1) * inside[:, lines.first]
    support *= np.divide(matched, total, out=np.zeros_like(total), where=total > 0)
    weight_of_counts = np.minimum(1.0, 2.5 * expected / np.maximum(net, 1e-9))
    return support[:, lines.family] * match * weight_of_counts * lines.prior, lookup.nearest[index]


def _scores(lookup: _Lookup, lines: _Lines, gain: float, zeros: NDArray[np.float64]) -> NDArray[np.float64]:
    credit, nearest = _evaluate(lookup, lines, gain, zeros)
    explained = np.zeros((zeros.size, lookup.weight.size))
    # Few lines are at a peak; the others would take most of the time.
    row, line = np.nonzero(credit > _MIN_CREDIT)
    np.maximum.at(explained, (row, nearest[row, line]), credit[row, line])
    # No lines are expected below 1.5 keV, where thresholds and noise resemble peaks.
    energy = gain * lookup.peaks.channel[None, :] + zeros[:, None]
    weight = np.where(energy < 1.5, 0.0, lookup.weight[None, :])
    zero_peak = np.abs(energy[:, 0]) < _AT_ZERO_KEV
    possible = lookup.weight.sum() - np.where(zero_peak, lookup.weight[0], 0.0)
    score = (explained * weight).sum(axis=1) / np.maximum(possible, 1e-9)
    # A zero peak determines the zero; otherwise a large zero is unusual.
    off = np.where(zero_peak, 0.0, zeros - lookup.usual_zero_kev)
    return np.asarray(score * np.exp(-0.5 * (off / (2 * _ZERO_PRIOR_KEV)) ** 2))


def _tops(score: NDArray[np.float64]) -> list[int]:
    return [int(k) for k in np.argsort(score)[-3:]]


def _polish(lookup: _Lookup, lines: _Lines, start: Hypothesis) -> Hypothesis:
    """Fit the axis to the peaks that the hypothesis explains; return the better of the two."""
    best = start
    for _ in range(3):
        credit, nearest = _evaluate(lookup, lines, best.gain_kev, np.array([best.zero_kev]))
        use = credit[0] > 0.2
        if np.unique(nearest[0][use]).size < 3:
            return best
        weight = np.sqrt(credit[0][use] * lookup.weight[nearest[0][use]])
        gain, zero = np.polyfit(lookup.peaks.channel[nearest[0][use]], lines.energy_kev[use], 1, w=weight)
        if not (gain > 0 and abs(zero - start.zero_kev) < 0.5 * _ZERO_RANGE_KEV):
            return best
        score = float(_scores(lookup, lines, float(gain), np.array([zero]))[0])
        if score <= best.score:
            return best
        best = Hypothesis(float(gain), float(zero), score)
    return best


def _distinct(hypotheses: list[Hypothesis], n_best: int, peaks: Peaks) -> list[Hypothesis]:
    """Drop hypotheses that differ from a better one by less than a third of a peak's width everywhere."""
    ends = np.array([peaks.channel.min(), peaks.channel.max()])
    width = float(np.median(peaks.fwhm_channels))
    distinct: list[Hypothesis] = []
    for candidate in hypotheses:
        shifts = [
            np.abs((candidate.gain_kev - selected.gain_kev) * ends + candidate.zero_kev - selected.zero_kev)
            / selected.gain_kev
            for selected in distinct
        ]
        if all(shift.max() > 0.33 * width for shift in shifts):
            distinct.append(candidate)
        if len(distinct) == n_best:
            break
    return distinct
