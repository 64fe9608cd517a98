"""Estimate the slowly varying background of spectra by peak clipping (SNIP)."""

import numpy as np
from numpy.typing import NDArray

_MAX_SIDE_RATIO = 1.3
_MIN_TESTED_COUNTS = 10.0
_MAX_SUM_PER_ROOT = 75.0
_FILTER_WIDTH_PER_FWHM = 1.5


def snip(
    counts: NDArray[np.floating] | NDArray[np.integer],
    fwhm_channels: float | NDArray[np.float64],
    *,
    window_per_fwhm: float = 2.0,
    low_statistics: bool = False,
) -> NDArray[np.float64]:
    """Estimate the background of one or many spectra by statistics-sensitive non-linear peak clipping.

    Parameters
    ----------
    counts : (..., n_channel) array
        Counts per channel, 0 or more.
    fwhm_channels : float or (n_channel,) array
        Full width at half maximum (FWHM) of peaks, in channels. The width of the clipping window is proportional to the
        FWHM.
    window_per_fwhm : float
        Half-width of the widest clipping window, relative to the FWHM. A value of 2 removes peaks. A value of 2 also
        lowers structures ten times as wide as a peak by a third, and thirty times as wide by a twentieth.
    low_statistics : bool
        Whether spectra are first smoothed with :func:`low_statistics_filter`. Smoothing is required below about ten
        counts per channel.

    Returns
    -------
    (..., n_channel) array
        Background counts per channel, which never exceed those of the (filtered) spectrum.

    Raises
    ------
    ValueError
        A width is not positive, or a count is negative or not a number.

    References
    ----------
    C. G. Ryan et al., Nucl. Instrum. Methods B 34 (1988) 396-402: clipping, LLS operator, filter.
    M. Morhac et al., Nucl. Instrum. Methods A 401 (1997) 113-132: windows from wide to narrow.
    """
    spectra = np.asarray(counts, dtype=np.float64)
    fwhm = np.broadcast_to(np.asarray(fwhm_channels, dtype=np.float64), spectra.shape[-1:])
    _check_input(spectra, fwhm)
    if low_statistics:
        spectra = low_statistics_filter(spectra, fwhm)
    half_widths = np.maximum(np.rint(window_per_fwhm * fwhm), 1).astype(np.intp)
    return _from_lls(_clip_peaks(_to_lls(spectra), half_widths))


def low_statistics_filter(
    counts: NDArray[np.float64], fwhm_channels: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean counts around each channel, in the widest window that has few counts and no slope.

    Parameters
    ----------
    counts : (..., n_channel) array
        Counts per channel.
    fwhm_channels : float or (n_channel,) array
        FWHM of peaks, in channels. Windows extend over up to 1.5 FWHM on either side, in steps of one channel.

    Returns
    -------
    (..., n_channel) array
        Filtered counts. Near the ends of the spectrum, the windows are smaller.

    References
    ----------
    C. G. Ryan et al., Nucl. Instrum. Methods B 34 (1988) 396-402, section 2. The sum over a window must be below 75
    times the square root of the channel's counts. The ratio of the sums right and left of the channel must be between
    1/1.3 and 1.3. Windows with fewer than ten counts are not tested.
    """
    n_channel = counts.shape[-1]
    channel_index = np.arange(n_channel)
    max_half_width = np.minimum(channel_index, n_channel - 1 - channel_index)
    fwhm = np.broadcast_to(np.asarray(fwhm_channels, dtype=np.float64), (n_channel,))
    half_widths = np.minimum(np.rint(_FILTER_WIDTH_PER_FWHM * fwhm).astype(np.intp), max_half_width)
    cumulative_counts = np.concatenate([np.zeros((*counts.shape[:-1], 1)), np.cumsum(counts, axis=-1)], axis=-1)
    filtered_counts = counts.astype(np.float64, copy=True)
    is_unfiltered = np.ones(counts.shape, dtype=bool)
    for half_width in range(int(half_widths.max()), 0, -1):
        channels = channel_index[half_widths >= half_width]
        window_sum, side_ratio = _window_sum_and_ratio(cumulative_counts, counts, channels, half_width)
        is_untested = window_sum < _MIN_TESTED_COUNTS
        has_few_counts = window_sum < _MAX_SUM_PER_ROOT * np.sqrt(counts[..., channels])
        is_flat = (side_ratio >= 1 / _MAX_SIDE_RATIO) & (side_ratio <= _MAX_SIDE_RATIO)
        is_accepted = (is_untested | (has_few_counts & is_flat)) & is_unfiltered[..., channels]
        filtered_counts[..., channels] = np.where(
            is_accepted, window_sum / (2 * half_width + 1), filtered_counts[..., channels]
        )
        is_unfiltered[..., channels] &= ~is_accepted
    return filtered_counts


def _window_sum_and_ratio(
    cumulative_counts: NDArray[np.float64], counts: NDArray[np.float64], channels: NDArray[np.intp], half_width: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    left_sum = cumulative_counts[..., channels] - cumulative_counts[..., channels - half_width]
    right_sum = cumulative_counts[..., channels + half_width + 1] - cumulative_counts[..., channels + 1]
    return left_sum + counts[..., channels] + right_sum, (right_sum + 1) / (left_sum + 1)


def _check_input(spectra: NDArray[np.float64], fwhm: NDArray[np.float64]) -> None:
    if not np.all(fwhm > 0):
        raise ValueError(f"Cannot clip peaks: a peak width is {float(fwhm.min())} channels; it must be positive.")
    if spectra.size and not float(spectra.min()) >= 0:
        raise ValueError(
            f"Cannot clip peaks: the smallest count is {float(spectra.min())}; counts must be 0 or more. "
            "Mask damaged channels or pixels."
        )


def _to_lls(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.log(np.log(np.sqrt(counts + 1) + 1) + 1), dtype=np.float64)


def _from_lls(lls_counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.maximum((np.exp(np.exp(lls_counts) - 1) - 1) ** 2 - 1, 0.0), dtype=np.float64)


def _clip_peaks(lls_counts: NDArray[np.float64], half_widths: NDArray[np.intp]) -> NDArray[np.float64]:
    n_channel = lls_counts.shape[-1]
    max_half_width = min(int(half_widths.max()), (n_channel - 1) // 2)
    for half_width in range(max_half_width, 0, -1):
        channels = slice(half_width, n_channel - half_width)
        window_mean = 0.5 * (lls_counts[..., : n_channel - 2 * half_width] + lls_counts[..., 2 * half_width :])
        clipped_counts = np.minimum(lls_counts[..., channels], window_mean)
        # each channel is clipped only with windows up to its own half-width, which is smaller at low energies
        lls_counts[..., channels] = np.where(
            half_widths[channels] >= half_width, clipped_counts, lls_counts[..., channels]
        )
    return lls_counts
