"""Compute Gaussian peaks on an energy axis, and the resolution of a silicon detector."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from underpaint.data.axis import EnergyAxis
from underpaint.units import EPSILON_SI_KEV, FWHM_PER_SIGMA

_PEAK_RANGE_SIGMAS = 6.0


def resolution_fwhm_kev(
    energy_kev: float | NDArray[np.float64], noise_fwhm_kev: float, fano: float
) -> NDArray[np.float64]:
    """Return the full width at half maximum (FWHM) of a peak, in keV.

    ``FWHM^2 = noise^2 + 2.355^2 * 3.85 eV * fano * energy``.

    Parameters
    ----------
    energy_kev : float or array
        Photon energy in keV.
    noise_fwhm_kev : float
        FWHM of the electronic noise, in keV.
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
    """Return the counts of a sum of Gaussian peaks, integrated over each channel.

    Parameters
    ----------
    axis : EnergyAxis
        Energy axis.
    energy_kev, area : (n_line,) arrays
        Energy, in keV, and counts of each line.
    fwhm_kev : float or (n_line,) array
        FWHM of the peaks, in keV.

    Returns
    -------
    (n_channel,) array
        Counts per channel. The parts of peaks beyond the ends of the axis are omitted.
    """
    return peak_columns(axis, energy_kev, area, fwhm_kev, np.zeros(energy_kev.size, dtype=np.intp), 1)[:, 0]


def peak_columns(
    axis: EnergyAxis,
    energy_kev: NDArray[np.float64],
    area: NDArray[np.float64],
    fwhm_kev: NDArray[np.float64] | float,
    set_index: NDArray[np.intp],
    n_set: int,
) -> NDArray[np.float64]:
    """Return a sum of Gaussian peaks (:func:`peak_counts`) for each of several sets of lines.

    Parameters
    ----------
    axis, energy_kev, area, fwhm_kev
        See :func:`peak_counts`.
    set_index : (n_line,) array
        Index of the set to which each line belongs.
    n_set : int
        Number of sets.

    Returns
    -------
    (n_channel, n_set) array
        Counts per channel.
    """
    sigma = np.broadcast_to(np.asarray(fwhm_kev, dtype=np.float64) / FWHM_PER_SIGMA, energy_kev.shape)
    centre_channel, half_range_channels = (
        (energy_kev - axis.zero_kev) / axis.gain_kev,
        _PEAK_RANGE_SIGMAS * sigma / axis.gain_kev,
    )
    first_channel = np.floor(centre_channel - half_range_channels)
    channels = first_channel[:, None] + np.arange(int(np.ceil(2 * np.max(half_range_channels, initial=0.0))) + 3)
    edges_kev = axis.zero_kev + axis.gain_kev * (channels - 0.5)
    counts = area[:, None] * np.diff(ndtr((edges_kev - energy_kev[:, None]) / sigma[:, None]), axis=1)
    is_on_axis = (channels[:, :-1] >= 0) & (channels[:, :-1] < axis.n_channel)
    flat_index = (set_index[:, None] * axis.n_channel + channels[:, :-1])[is_on_axis].astype(np.intp)
    summed_counts = np.bincount(flat_index, counts[is_on_axis], minlength=n_set * axis.n_channel)
    return np.asarray(summed_counts.reshape(n_set, axis.n_channel).T)
