"""From photons at the detector's window to expected counts per channel."""

from functools import lru_cache

import numpy as np
import xraylib
from numpy.typing import NDArray
from scipy.special import erf, erfc, erfcx

from underpaint.atomic import atomic_number, edge_energy, mass_attenuation
from underpaint.forward.emission import Emission
from underpaint.forward.source import filter_transmission
from underpaint.instrument import Detector
from underpaint.spectrum import EnergyAxis
from underpaint.units import CM_PER_UM, EPSILON_SI_KEV, FWHM_PER_SIGMA

Array = NDArray[np.float64]
WINDOW_SIGMAS = 6.0
"""A Gaussian is computed this far from its centre; beyond lie 2e-9 of it."""
TAIL_WIDTHS = 20.0
"""An exponential tail is computed this many decay lengths down; beyond lie 2e-9 of it."""


def render(emission: Emission, detector: Detector, axis: EnergyAxis | None = None) -> Array:
    """Return expected counts of a batch: efficiency, peak, shelf, tail and escape as one matrix product.

    Parameters
    ----------
    emission : Emission
        From ``emit``.
    detector : Detector
        Crystal, window and response.
    axis : EnergyAxis, optional
        Channels to count in; by default the detector's own. Peaks are integrated over each channel.

    Returns
    -------
    (n_sample, n_channel) array
        Expected counts on the emission's scale.
    """
    axis = EnergyAxis(detector.gain_kev, detector.zero_kev, detector.n_channel) if axis is None else axis
    photons = emission.line_photons
    seen = np.flatnonzero(photons.any(axis=0))
    expected = photons[:, seen] @ response_matrix(detector, axis, emission.lines.energy_kev[seen])
    continuum = emission.width_kev / np.sqrt(12.0)
    expected += emission.coherent @ response_matrix(detector, axis, emission.source_kev, continuum)
    shifted = response_matrix(detector, axis, emission.compton_kev, emission.compton_width_kev / np.sqrt(12.0))
    expected += (emission.compton + emission.multiple) @ shifted
    return np.asarray(expected)


def resolution_sigma(detector: Detector, energy_kev: Array) -> Array:
    """Return the peak's standard deviation, keV: electronic noise and charge statistics in quadrature."""
    noise = (detector.noise_fwhm_kev / FWHM_PER_SIGMA) ** 2
    return np.sqrt(noise + EPSILON_SI_KEV * detector.fano * np.maximum(energy_kev, 0.0))


def efficiency(detector: Detector, energy_kev: Array) -> Array:
    """Return the share of photons that interact in the crystal behind window and dead layer."""
    crystal = mass_attenuation(detector.material, energy_kev) * detector.density * CM_PER_UM
    absorbed = -np.expm1(-crystal * detector.thickness_um) * np.exp(-crystal * detector.dead_layer_um)
    return np.asarray(absorbed * filter_transmission(detector.window, energy_kev))


def escape_share(detector: Detector, energy_kev: Array) -> Array:
    """Return the share of detected photons that lose a K photon of the crystal (Reed & Ware 1972, eq. 4)."""
    number = atomic_number(detector.material)
    jump, fluorescence = float(xraylib.JumpFactor(number, 0)), float(xraylib.FluorYield(number, 0))
    at_line = float(mass_attenuation(detector.material, np.asarray([escape_line_kev(detector)]))[0])
    at_photon = mass_attenuation(detector.material, energy_kev)
    ratio = at_line / at_photon
    share = 0.5 * fluorescence * (1.0 - 1.0 / jump) * (1.0 - ratio * np.log1p(1.0 / ratio))
    return np.asarray(np.where(energy_kev > edge_energy(number, 0), share, 0.0))


def response_matrix(detector: Detector, axis: EnergyAxis, energy_kev: Array, spread_kev: Array | float = 0.0) -> Array:
    """Return (n_energy, n_channel) counts per photon of each energy.

    Parameters
    ----------
    spread_kev : (n_energy,) array or float
        Standard deviation that the photons themselves have (bins of a continuum, Compton profile), keV.
    """
    spread = np.broadcast_to(np.asarray(spread_kev, dtype=np.float64), energy_kev.shape)
    detected, escaped = efficiency(detector, energy_kev), escape_share(detector, energy_kev)
    matrix = (detected * (1.0 - escaped))[:, None] * _peaks(detector, axis, energy_kev, spread)
    shifted = energy_kev - escape_line_kev(detector)
    strong = escaped > 1e-6
    if strong.any():
        matrix[strong] += (detected * escaped)[strong, None] * _peaks(detector, axis, shifted[strong], spread[strong])
    return matrix


def _peaks(detector: Detector, axis: EnergyAxis, energy: Array, spread: Array) -> Array:
    """Gaussian, exponential tail and shelf of unit area together (Campbell & Wang 1991, eqs. 1-3)."""
    sigma = np.hypot(resolution_sigma(detector, energy), spread)
    full = 1.0 - detector.tail_fraction - detector.shelf_fraction
    matrix = full * _gaussian(axis, energy, sigma)
    if detector.tail_fraction > 0:
        matrix += detector.tail_fraction * _tail(axis, energy, sigma, detector.tail_width_kev)
    if detector.shelf_fraction > 0:
        matrix += detector.shelf_fraction * _shelf(axis, energy, sigma)
    return matrix


def _gaussian(axis: EnergyAxis, energy: Array, sigma: Array) -> Array:
    reach = WINDOW_SIGMAS * sigma
    columns = _columns(axis, energy - reach, energy + reach)
    edges = axis.start_kev + axis.gain_kev * np.arange(columns.shape[1] + 1) + axis.gain_kev * columns[:, :1]
    below = 0.5 * erf(np.clip((edges - energy[:, None]) / (np.sqrt(2.0) * sigma[:, None]), -6.0, 6.0))
    return _place(axis, columns, np.diff(below, axis=1))


def _tail(axis: EnergyAxis, energy: Array, sigma: Array, width: float) -> Array:
    """Exponential below the peak folded with the Gaussian, at the channels' centres."""
    reach = WINDOW_SIGMAS * sigma
    columns = _columns(axis, energy - reach - TAIL_WIDTHS * width, energy + reach)
    offset = (_centres(axis, columns) - energy[:, None]) / sigma[:, None]
    slope = sigma[:, None] / width
    argument = (offset + slope) / np.sqrt(2.0)
    # erfcx keeps the product of a huge exponential and a tiny erfc finite; far down erfc is 2 and erfcx overflows
    near = np.exp(-0.5 * offset**2) * erfcx(np.maximum(argument, -5.0))
    far = 2.0 * np.exp(np.minimum(offset * slope + 0.5 * slope**2, 0.0))
    return _place(axis, columns, np.where(argument > -5.0, near, far) * axis.gain_kev / (2.0 * width))


def _shelf(axis: EnergyAxis, energy: Array, sigma: Array) -> Array:
    """Even from zero to the peak, with an edge as soft as the peak is wide."""
    reach = WINDOW_SIGMAS * sigma
    columns = _columns(axis, energy - reach, energy + reach)
    offset = (_centres(axis, columns) - energy[:, None]) / (np.sqrt(2.0) * sigma[:, None])
    edge = _place(axis, columns, 0.5 * erfc(offset))
    edge[np.arange(axis.n_channel) < columns[:, :1]] = 1.0
    positive = np.clip(axis.edges_kev, 0.0, None)
    edge *= np.diff(positive)
    edge /= np.maximum(energy, axis.gain_kev)[:, None]
    return edge


def _columns(axis: EnergyAxis, low_kev: Array, high_kev: Array) -> NDArray[np.int64]:
    """Return (n_energy, n_near) channels from each low energy on, enough for the widest range; some off the axis."""
    first = np.floor((low_kev - axis.start_kev) / axis.gain_kev).astype(np.int64)
    last = np.floor((high_kev - axis.start_kev) / axis.gain_kev).astype(np.int64)
    return first[:, None] + np.arange(int((last - first).max(initial=0)) + 1)


def _centres(axis: EnergyAxis, columns: NDArray[np.int64]) -> Array:
    return np.asarray(axis.zero_kev + axis.gain_kev * columns)


def _place(axis: EnergyAxis, columns: NDArray[np.int64], values: Array) -> Array:
    """Return (n_energy, n_channel) rows that are zero but for the values at their columns."""
    matrix = np.zeros((len(columns), axis.n_channel))
    for row, near, first in zip(matrix, values, columns[:, 0], strict=True):
        start, stop = max(int(first), 0), min(int(first) + near.size, row.size)
        if start < stop:
            row[start:stop] = near[start - first : stop - first]
    return matrix


def escape_line_kev(detector: Detector) -> float:
    """Return the mean energy of the K photon that the crystal loses, keV."""
    return _mean_k_line(atomic_number(detector.material))


@lru_cache
def _mean_k_line(number: int) -> float:
    return float(xraylib.LineEnergy(number, xraylib.KL3_LINE))
