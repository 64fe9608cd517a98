"""The slowly varying background under the peaks of a spectrum, by peak clipping (SNIP)."""

import numpy as np
from numpy.typing import NDArray

_SLOPE_LIMIT = 1.3
_SUM_FLOOR = 10.0
_SUM_PER_ROOT = 75.0
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
        Counts per channel, not negative.
    fwhm_channels : float or (n_channel,) array
        Full width at half maximum of the detector's peaks, in channels; the clipping window follows it.
    window_per_fwhm : float
        Half width of the widest clipping window over the FWHM. 2 excludes peaks; a hump ten times as wide as a peak
        loses a third of its height, one thirty times as wide a twentieth.
    low_statistics : bool
        Smooth with the count-dependent digital filter of the paper first; required below about ten counts per channel.

    Returns
    -------
    (..., n_channel) array
        Background counts per channel, nowhere above the (filtered) spectrum.

    Raises
    ------
    ValueError
        The width is not positive, or a count is negative or not a number.

    References
    ----------
    C. G. Ryan et al., Nucl. Instrum. Methods B 34 (1988) 396-402: clipping, LLS operator, filter.
    M. Morhac et al., Nucl. Instrum. Methods A 401 (1997) 113-132: windows from wide to narrow.
    """
    spectra = np.asarray(counts, dtype=np.float64)
    fwhm = np.broadcast_to(np.asarray(fwhm_channels, dtype=np.float64), spectra.shape[-1:])
    _check(spectra, fwhm)
    if low_statistics:
        spectra = low_statistics_filter(spectra, fwhm)
    reach = np.maximum(np.rint(window_per_fwhm * fwhm), 1).astype(np.intp)
    return _from_lls(_clip(_to_lls(spectra), reach))


def low_statistics_filter(
    counts: NDArray[np.float64], fwhm_channels: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Average each channel over the widest window with few counts and no slope.

    Parameters
    ----------
    counts : (..., n_channel) array
        Counts per channel.
    fwhm_channels : float or (n_channel,) array
        Peak width, channels; windows start at 1.5 widths on either side and shrink by one channel at a time.

    Returns
    -------
    (..., n_channel) array
        Filtered counts. Channels next to the ends use the window that still fits.

    References
    ----------
    C. G. Ryan et al., Nucl. Instrum. Methods B 34 (1988) 396-402, section 2 (sum under 75 roots of the count, slope
    under 1.3; under ten total counts the slope is not tested).
    """
    n_channel = counts.shape[-1]
    index = np.arange(n_channel)
    room = np.minimum(index, n_channel - 1 - index)
    fwhm = np.broadcast_to(np.asarray(fwhm_channels, dtype=np.float64), (n_channel,))
    reach = np.minimum(np.rint(_FILTER_WIDTH_PER_FWHM * fwhm).astype(np.intp), room)
    cumulative = np.concatenate([np.zeros((*counts.shape[:-1], 1)), np.cumsum(counts, axis=-1)], axis=-1)
    filtered = counts.astype(np.float64, copy=True)
    open_still = np.ones(counts.shape, dtype=bool)
    for width in range(int(reach.max()), 0, -1):
        indices = index[reach >= width]
        total, slope = _window_sums(cumulative, counts, indices, width)
        few = total < _SUM_FLOOR
        small = total < _SUM_PER_ROOT * np.sqrt(counts[..., indices])
        flat = (slope >= 1 / _SLOPE_LIMIT) & (slope <= _SLOPE_LIMIT)
        take = (few | (small & flat)) & open_still[..., indices]
        filtered[..., indices] = np.where(take, total / (2 * width + 1), filtered[..., indices])
        open_still[..., indices] &= ~take
    return filtered


def _window_sums(
    cumulative: NDArray[np.float64], counts: NDArray[np.float64], indices: NDArray[np.intp], width: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    left = cumulative[..., indices] - cumulative[..., indices - width]
    right = cumulative[..., indices + width + 1] - cumulative[..., indices + 1]
    return left + counts[..., indices] + right, (right + 1) / (left + 1)


def _check(spectra: NDArray[np.float64], fwhm: NDArray[np.float64]) -> None:
    if not np.all(fwhm > 0):
        raise ValueError(f"Cannot clip peaks: a peak width is {float(fwhm.min())} channels; it must be positive.")
    if spectra.size and not float(spectra.min()) >= 0:
        raise ValueError(
            f"Cannot clip peaks: the lowest count is {float(spectra.min())}; counts must be 0 or more. "
            "Mask the channels or pixels that are damaged."
        )


def _to_lls(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.log(np.log(np.sqrt(counts + 1) + 1) + 1), dtype=np.float64)


def _from_lls(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.maximum((np.exp(np.exp(values) - 1) - 1) ** 2 - 1, 0.0), dtype=np.float64)


def _clip(values: NDArray[np.float64], reach: NDArray[np.intp]) -> NDArray[np.float64]:
    n_channel = values.shape[-1]
    widest = min(int(reach.max()), (n_channel - 1) // 2)
    for width in range(widest, 0, -1):
        inner = slice(width, n_channel - width)
        mean = 0.5 * (values[..., : n_channel - 2 * width] + values[..., 2 * width :])
        clipped = np.minimum(values[..., inner], mean)
        # A channel is clipped once the window has shrunk to its reach: low energies have narrower windows.
        values[..., inner] = np.where(reach[inner] >= width, clipped, values[..., inner])
    return values
