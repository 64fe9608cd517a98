"""What two photons taken for one leave in a spectrum: the spectrum folded with itself, pixel by pixel.

Photons pile up with those of their own pixel. The sum over a scan folded with itself holds pairs that never met (of
two paints' lines, say) and too few of those that did; so a scan is folded in the tiles of its survey, within
which paints are alike.
"""

import numpy as np
from numpy.typing import NDArray

from underpaint.data.axis import EnergyAxis
from underpaint.data.background import snip

Array = NDArray[np.float64]
_TYPICAL_SHARE = 0.01
MOST_CHANCE = 0.05


def folded(spectra: Array, pixels: Array | None = None) -> tuple[Array, Array]:
    """Return spectra folded with themselves once and twice, added up, by channel; one count in all, or about one.

    Parameters
    ----------
    spectra : (n_tile, n_channel) array
        Counts.
    pixels : (n_tile,) array, optional
        Over how many pixels each is a sum.
    """
    own = np.ones(len(spectra)) if pixels is None else np.maximum(pixels, 1.0)
    length = 1 << int(np.ceil(np.log2(3 * spectra.shape[1])))
    usual = spectra.sum() / own.sum()
    pairs, threes = np.zeros(length // 2 + 1, dtype=complex), np.zeros(length // 2 + 1, dtype=complex)
    for row, size in zip(spectra, own, strict=True):
        wave = np.fft.rfft(row / size / usual, n=length)
        pairs += size * wave**2
        threes += size * wave**3
    twice, thrice = np.fft.irfft(pairs, n=length), np.fft.irfft(threes, n=length)
    return np.maximum(twice, 0.0) / twice.sum(), np.maximum(thrice, 0.0) / twice.sum()


def pile_up_shape(folds: tuple[Array, Array], axis: EnergyAxis) -> tuple[Array, Array]:
    """Return what two photons taken for one leave, and the same where one in twenty meets another, (n_channel,) each.

    The recorded spectrum holds photons that met already: folded with itself it counts threes that are not there. With
    the chance x of meeting, its Fourier transform is ``q = p exp(x (p - 1))``, solved for what is not single
    (Wielopolski & Gardner 1976): ``x q**2 - 3/2 x**2 q**3``. Any smaller chance is a mixture of both shapes. Energies
    add up, channel numbers do not: the axis' zero shifts them.

    Parameters
    ----------
    folds : pair of (n,) arrays
        From ``folded``.
    axis : EnergyAxis
        Of the spectrum.
    """
    channel, zero = np.arange(axis.n_channel), axis.zero_kev / axis.gain_kev
    pairs, threes = (
        np.interp(channel - more * zero, np.arange(fold.size), fold) for more, fold in enumerate(folds, start=1)
    )
    return np.asarray(pairs), np.asarray(pairs - 1.5 * MOST_CHANCE * threes)


def sum_peaks(
    folds: tuple[Array, Array], counts: float, axis: EnergyAxis, fwhm_channels: Array, window_per_fwhm: float
) -> Array:
    """Return (n_channel,) the peaks among what piles up, clipped free of what is slow, one count in all or none.

    Parameters
    ----------
    folds : pair of (n,) arrays
        From ``folded``.
    counts : float
        Of the whole spectrum.
    axis : EnergyAxis
        Of the spectrum.
    fwhm_channels : (n_channel,) array
        Widths of its peaks.
    window_per_fwhm : float
        What is wider is slow.
    """
    piled = _TYPICAL_SHARE * counts * pile_up_shape(folds, axis)[0]
    peaks = np.maximum(piled - snip(piled, fwhm_channels, window_per_fwhm=window_per_fwhm), 0.0)
    return np.asarray(peaks / max(peaks.sum(), 1e-30))
