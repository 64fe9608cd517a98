"""Compute the shape of pile-up from the self-convolution of spectra.

Photons pile up only within a pixel. The self-convolution of the sum spectrum would contain impossible pairs of photons,
such as pairs from different paints. The self-convolution of the sum spectrum would also contain too few of the possible
pairs. The self-convolution is therefore computed for each tile of the survey, because the paint in a tile is nearly
uniform.
"""

import numpy as np
from numpy.typing import NDArray

from underpaint.data.axis import EnergyAxis
from underpaint.data.background import snip

Array = NDArray[np.float64]
_TYPICAL_PILE_UP_PROBABILITY = 0.01
MAX_PILE_UP_PROBABILITY = 0.05


def self_convolution(spectra: Array, pixels_per_tile: Array | None = None) -> tuple[Array, Array]:
    """Return the self-convolutions of spectra for pairs and for triples of photons, summed over tiles.

    Parameters
    ----------
    spectra : (n_tile, n_channel) array
        Sum spectrum of each tile, in counts.
    pixels_per_tile : (n_tile,) array, optional
        Number of pixels in each tile; one by default.

    Returns
    -------
    twofold, threefold : (n,) arrays
        Self-convolutions for pairs and triples, both divided by the sum of that for pairs.
    """
    tile_weights = np.ones(len(spectra)) if pixels_per_tile is None else np.maximum(pixels_per_tile, 1.0)
    fft_length = 1 << int(np.ceil(np.log2(3 * spectra.shape[1])))
    mean_counts = spectra.sum() / tile_weights.sum()
    pair_transform, triple_transform = (
        np.zeros(fft_length // 2 + 1, dtype=complex),
        np.zeros(fft_length // 2 + 1, dtype=complex),
    )
    for spectrum, n_pixel in zip(spectra, tile_weights, strict=True):
        tile_transform = np.fft.rfft(spectrum / n_pixel / mean_counts, n=fft_length)
        pair_transform += n_pixel * tile_transform**2
        triple_transform += n_pixel * tile_transform**3
    pair_convolution, triple_convolution = (
        np.fft.irfft(pair_transform, n=fft_length),
        np.fft.irfft(triple_transform, n=fft_length),
    )
    return np.maximum(pair_convolution, 0.0) / pair_convolution.sum(), np.maximum(
        triple_convolution, 0.0
    ) / pair_convolution.sum()


def pile_up_shape(self_convolutions: tuple[Array, Array], axis: EnergyAxis) -> tuple[Array, Array]:
    """Return the (n_channel,) shapes of pile-up at very low probability and at ``MAX_PILE_UP_PROBABILITY``.

    The recorded spectrum already contains pile-up, so its self-convolution overestimates triples. Let p be the Fourier
    transform of the spectrum without pile-up, q that of the recorded spectrum, and x the pile-up probability. Then ``q
    = p exp(x (p - 1))`` (Wielopolski & Gardner 1976), and the transform of the pile-up is ``x q**2 - 3/2 x**2 q**3``.
    For smaller probabilities, the shape is a linear combination of the two returned shapes. Energies add up, but
    channel numbers do not, so the pile-up is shifted by the zero of the axis.

    Parameters
    ----------
    self_convolutions : pair of (n,) arrays
        Result of ``self_convolution``.
    axis : EnergyAxis
        Energy axis of the spectrum.
    """
    channels, zero_channels = np.arange(axis.n_channel), axis.zero_kev / axis.gain_kev
    pair_shape, triple_shape = (
        np.interp(channels - n_extra_photons * zero_channels, np.arange(convolution.size), convolution)
        for n_extra_photons, convolution in enumerate(self_convolutions, start=1)
    )
    return np.asarray(pair_shape), np.asarray(pair_shape - 1.5 * MAX_PILE_UP_PROBABILITY * triple_shape)


def sum_peaks(
    self_convolutions: tuple[Array, Array],
    counts: float,
    axis: EnergyAxis,
    fwhm_channels: Array,
    window_per_fwhm: float,
) -> Array:
    """Return the sum peaks of the pile-up, without its smooth part, normalised to a total of one count.

    Parameters
    ----------
    self_convolutions : pair of (n,) arrays
        Result of ``self_convolution``.
    counts : float
        Total counts of the spectrum.
    axis : EnergyAxis
        Energy axis of the spectrum.
    fwhm_channels : (n_channel,) array
        FWHM of peaks, in channels.
    window_per_fwhm : float
        Half-width of the clipping window, relative to the FWHM. Structures wider than the window are removed.

    Returns
    -------
    (n_channel,) array
        Counts of the sum peaks; zeros if there are no sum peaks.
    """
    pile_up = _TYPICAL_PILE_UP_PROBABILITY * counts * pile_up_shape(self_convolutions, axis)[0]
    peak_counts = np.maximum(pile_up - snip(pile_up, fwhm_channels, window_per_fwhm=window_per_fwhm), 0.0)
    return np.asarray(peak_counts / max(peak_counts.sum(), 1e-30))
