"""Pile-up, two photons counted as one: the self-convolution of the spectrum, pixel by pixel.

Photons pile up only within a pixel. The self-convolution of the sum spectrum contains pairs that cannot occur (lines of
two paints, for example) and too few of those that do. It is therefore computed by tile of the survey, in which
the paint is uniform.
"""

import numpy as np
from numpy.typing import NDArray

from underpaint.data.axis import EnergyAxis
from underpaint.data.background import snip

Array = NDArray[np.float64]
_TYPICAL_SHARE = 0.01
MAX_CHANCE = 0.05


def self_convolution(spectra: Array, pixels: Array | None = None) -> tuple[Array, Array]:
    """Return spectra folded with themselves once and twice, added up, by channel; one count in all, or about one.

    Parameters
    ----------
    spectra : (n_tile, n_channel) array
        Counts.
    pixels : (n_tile,) array, optional
        Over how many pixels each is a sum.
    """
    weights = np.ones(len(spectra)) if pixels is None else np.maximum(pixels, 1.0)
    length = 1 << int(np.ceil(np.log2(3 * spectra.shape[1])))
    usual = spectra.sum() / weights.sum()
    pairs, threes = np.zeros(length // 2 + 1, dtype=complex), np.zeros(length // 2 + 1, dtype=complex)
    for row, size in zip(spectra, weights, strict=True):
        wave = np.fft.rfft(row / size / usual, n=length)
        pairs += size * wave**2
        threes += size * wave**3
    twice, thrice = np.fft.irfft(pairs, n=length), np.fft.irfft(threes, n=length)
    return np.maximum(twice, 0.0) / twice.sum(), np.maximum(thrice, 0.0) / twice.sum()


def pile_up_shape(folds: tuple[Array, Array], axis: EnergyAxis) -> tuple[Array, Array]:
    """Return (n_channel,) pile-up of two photons at a low rate, and at a pile-up probability of one in twenty.

    The recorded spectrum already contains piled-up photons, so its self-convolution overestimates triples. With the
    pile-up probability x, its Fourier transform is ``q = p exp(x (p - 1))``, solved for the pile-up
    (Wielopolski & Gardner 1976): ``x q**2 - 3/2 x**2 q**3``. Any smaller chance is a mixture of both shapes. Energies
    add up, channel numbers do not: the axis' zero shifts them.

    Parameters
    ----------
    folds : pair of (n,) arrays
        From ``self_convolution``.
    axis : EnergyAxis
        Of the spectrum.
    """
    channel, zero = np.arange(axis.n_channel), axis.zero_kev / axis.gain_kev
    pairs, threes = (
        np.interp(channel - more * zero, np.arange(fold.size), fold) for more, fold in enumerate(folds, start=1)
    )
    return np.asarray(pairs), np.asarray(pairs - 1.5 * MAX_CHANCE * threes)


def sum_peaks(
    folds: tuple[Array, Array], counts: float, axis: EnergyAxis, fwhm_channels: Array, window_per_fwhm: float
) -> Array:
    """Return the (n_channel,) peaks of the pile-up without its smooth part, normalised to one count, or zero.

    Parameters
    ----------
    folds : pair of (n,) arrays
        From ``self_convolution``.
    counts : float
        Total counts of the spectrum.
    axis : EnergyAxis
        Of the spectrum.
    fwhm_channels : (n_channel,) array
        Widths of its peaks.
    window_per_fwhm : float
        Wider structures are the smooth part.
    """
    piled = _TYPICAL_SHARE * counts * pile_up_shape(folds, axis)[0]
    peaks = np.maximum(piled - snip(piled, fwhm_channels, window_per_fwhm=window_per_fwhm), 0.0)
    return np.asarray(peaks / max(peaks.sum(), 1e-30))
