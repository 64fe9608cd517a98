"""Gaussian peaks on an energy axis: the resolution of a silicon detector, counts per channel."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from underpaint.spectrum.axis import EnergyAxis
from underpaint.units import EPSILON_SI_KEV, FWHM_PER_SIGMA

_REACH_SIGMAS = 6.0


def resolution_fwhm_kev(
    energy_kev: float | NDArray[np.float64], noise_fwhm_kev: float, fano: float
) -> NDArray[np.float64]:
    """Return the full width at half maximum of a peak, keV.

    ``FWHM^2 = noise^2 + 2.355^2 * 3.85 eV * fano * energy``.

    Parameters
    ----------
    energy_kev : float or array
        Photon energy, keV.
    noise_fwhm_kev : float
        Electronic noise, FWHM, keV.
    fano : float
        Fano factor.
    """
    variance = noise_fwhm_kev**2 + FWHM_PER_SIGMA**2 * EPSILON_SI_KEV * fano * np.maximum(energy_kev, 0.0)
    return np.asarray(np.sqrt(variance), dtype=np.float64)


def peak_counts(
    axis: EnergyAxis,
    energy_kev: NDArray[np.float64],
    area: NDArray[np.float64],
    fwhm_kev: NDArray[np.float64] | float,
) -> NDArray[np.float64]:
    """Return the summed counts per channel of Gaussian peaks, integrated over each channel.

    Parameters
    ----------
    axis : EnergyAxis
        Energy axis.
    energy_kev, area : (n_line,) arrays
        Centres, keV, and counts of the lines.
    fwhm_kev : float or (n_line,) array
        Widths, keV.

    Returns
    -------
    (n_channel,) array
        Counts per channel; a line outside the axis adds what falls inside.
    """
    sigma = np.broadcast_to(np.asarray(fwhm_kev, dtype=np.float64) / FWHM_PER_SIGMA, energy_kev.shape)
    counts = np.zeros(axis.n_channel)
    for energy, counts_of_line, width in zip(energy_kev, area, sigma, strict=True):
        first, last = _span(axis, float(energy), float(width))
        if last <= first:
            continue
        edges = axis.zero_kev + axis.gain_kev * (np.arange(first, last + 1) - 0.5)
        counts[first:last] += counts_of_line * np.diff(ndtr((edges - energy) / width))
    return counts


def _span(axis: EnergyAxis, energy: float, sigma: float) -> tuple[int, int]:
    first = int(np.floor(axis.channel(energy - _REACH_SIGMAS * sigma)))
    last = int(np.ceil(axis.channel(energy + _REACH_SIGMAS * sigma))) + 1
    return max(first, 0), min(last, axis.n_channel)
