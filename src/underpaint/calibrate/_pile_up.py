"""What two photons taken for one leave in a spectrum: the spectrum folded with itself."""

import numpy as np
from numpy.typing import NDArray

from underpaint.spectrum.axis import EnergyAxis
from underpaint.spectrum.background import snip

Array = NDArray[np.float64]
_TYPICAL_SHARE = 0.01


def pile_up_shape(counts: Array, axis: EnergyAxis) -> Array:
    """Return (n_channel,) the spectrum of two photons taken for one: the spectrum folded with itself.

    Energies add up, channel numbers do not: the axis' zero shifts it.
    """
    length = 1 << int(np.ceil(np.log2(2 * counts.size)))
    folded = np.fft.irfft(np.fft.rfft(counts / counts.sum(), n=length) ** 2, n=length)
    place = np.arange(counts.size) - axis.zero_kev / axis.gain_kev
    return np.asarray(np.maximum(np.interp(place, np.arange(length), folded), 0.0))


def sum_peaks(counts: Array, axis: EnergyAxis, fwhm_channels: Array, window_per_fwhm: float) -> Array:
    """Return (n_channel,) the peaks among what piles up, clipped free of what is slow, one count in all or none."""
    piled = _TYPICAL_SHARE * counts.sum() * pile_up_shape(counts, axis)
    peaks = np.maximum(piled - snip(piled, fwhm_channels, window_per_fwhm=window_per_fwhm), 0.0)
    return np.asarray(peaks / max(peaks.sum(), 1e-30))
