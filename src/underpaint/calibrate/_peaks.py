"""Peaks of a spectrum whose energy axis and resolution are unknown."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from underpaint.data.background import snip
from underpaint.data.robust import theil_slope
from underpaint.units import FWHM_PER_SIGMA

_SMOOTHING_SIGMAS = (1.0, 2.0, 4.0, 8.0)
_LEAST_FOR_WIDTH = 3
_MOST_FOR_WIDTH = 1000
_END_CHANNELS = 16
_EDGE_FALL = 3.0
_OVERFLOW = 10.0
_CUT_CHANNELS, _CUT_COUNTS = 4, 5.0


@dataclass(frozen=True)
class Peaks:
    """Peaks found in a spectrum, in channels.

    Parameters
    ----------
    channel, height, significance : (n_peak,) arrays
        Centre (fractional channel), net height (counts per channel) and height over its own deviation.
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
    """Return the channels that hold a spectrum: without noise at the low end, and overflow and padding at the high.

    Noise is what falls from the first recorded channels; overflow, a last channel far above those before it; padding,
    zeros behind a continuum that had not ended yet.

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


def find_spectrum_peaks(counts: NDArray[np.float64], least_significance: float = 6.0) -> Peaks | None:
    """Find the sharp peaks; None where not even their width can be told."""
    typical = _typical_fwhm(counts)
    if typical is None:
        return None
    first = _peaks_at_width(counts, np.full(counts.size, typical), least_significance)
    if first.channel.size < _LEAST_FOR_WIDTH:
        return first
    return _peaks_at_width(counts, _width_law(counts, first, typical), least_significance)


def prominent_maxima(
    values: NDArray[np.float64], least_prominence: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the local maxima that stand out, and their prominences, as :func:`scipy.signal.find_peaks` defines them.

    Importing that takes longer than the calibration of a scan.

    Parameters
    ----------
    values, least_prominence : (n_channel,) arrays
    """
    middle = values[1:-1]
    tops = np.flatnonzero((middle > values[:-2]) & (middle >= values[2:])) + 1
    bases = np.array([_base(values, top) for top in tops.tolist()])
    prominence = values[tops] - bases.reshape(tops.shape)
    kept = prominence >= least_prominence[tops]
    return tops[kept], prominence[kept]


def _base(values: NDArray[np.float64], top: int) -> float:
    """Higher one of the lowest values on both sides, as far as nothing is higher than the top."""
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
    """Width of most prominent peaks at the finest smoothing that still shows some."""
    best: float | None = None
    for sigma in _SMOOTHING_SIGMAS:
        smooth = gaussian_filter1d(counts, sigma)
        noise = np.sqrt(np.maximum(smooth, 1.0) / (2 * np.sqrt(np.pi) * sigma))
        tops, prominence = prominent_maxima(smooth, 5 * noise)
        strong = prominence > 0.3 * smooth[tops]
        if strong.sum() < _LEAST_FOR_WIDTH:
            continue
        level = smooth[tops] - 0.5 * prominence
        widths = [_width(smooth, top, half) for top, half in zip(tops[strong], level[strong], strict=True)]
        squared = np.quantile(widths, 0.4) ** 2 - (FWHM_PER_SIGMA * sigma) ** 2
        best = float(np.sqrt(max(squared, 4.0)))
        if best > FWHM_PER_SIGMA * sigma * 0.8:
            return best
    return best


def _peaks_at_width(counts: NDArray[np.float64], fwhm: NDArray[np.float64], least_significance: float) -> Peaks:
    sigma = max(0.4 * float(np.median(fwhm)) / FWHM_PER_SIGMA, 0.5)
    above = counts - snip(counts, fwhm, window_per_fwhm=1.5)
    net = gaussian_filter1d(above, sigma)
    narrowing = 1 / (2 * np.sqrt(np.pi) * sigma)
    deviation = np.sqrt(np.maximum(gaussian_filter1d(counts, 2 * sigma), 1.0) * min(narrowing, 1.0))
    tops, _ = prominent_maxima(net, 0.5 * least_significance * deviation)
    tops = tops[net[tops] >= least_significance * deviation[tops]]
    centre = np.array([_vertex(net, int(channel)) for channel in tops])
    return Peaks(centre, net[tops], net[tops] / deviation[tops], fwhm, net, deviation)


def _vertex(net: NDArray[np.float64], top: int) -> float:
    """Top of the parabola through the logarithms of the three highest channels."""
    left, middle, right = np.log(np.maximum(net[top - 1 : top + 2], 1e-3))
    curvature = left - 2 * middle + right
    return top + float(np.clip(0.5 * (left - right) / curvature, -0.5, 0.5)) if curvature < 0 else float(top)


def _width_law(counts: NDArray[np.float64], peaks: Peaks, typical: float) -> NDArray[np.float64]:
    """Squared width as a straight line along the channels, from the peaks that look single."""
    above = counts - snip(counts, peaks.fwhm_channels, window_per_fwhm=2.0)
    width = np.array([_gaussian_fwhm(above, centre, typical) for centre in peaks.channel])
    strong = peaks.significance > min(30.0, float(np.median(peaks.significance)))
    good = np.isfinite(width) & (width > 0.4 * typical) & (width < 2.0 * typical) & strong
    if good.sum() < _LEAST_FOR_WIDTH:
        return np.full(counts.size, typical)
    # It takes all pairs: of noise in very many channels, gigabytes.
    rank = np.argsort(-peaks.significance[good], kind="stable")[:_MOST_FOR_WIDTH]
    slope = theil_slope(peaks.channel[good][rank], width[good][rank] ** 2)
    # The law may neither fall along the channels nor vanish at the first.
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
