"""How atoms scatter photons: angles, energies and the spread by the electrons' motion (xraylib)."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import xraylib
import xraylib_np
from numpy.typing import NDArray

from underpaint.physics.atomic.elements import atomic_number
from underpaint.units import ELECTRON_REST_KEV

Array = NDArray[np.float64]
INVERSE_FINE_STRUCTURE = 137.036
"""Momentum in units of m c per atomic unit of momentum, inverted."""
HIGHEST_NUMBER = 92
HIGHEST_MOMENTUM = 100.0
"""Biggs 1975 tabulates profiles up to this momentum, atomic units."""
PROFILE_RANK = 5
"""Profiles that all elements' are mixed from; five leave 1 % of any element's electrons misplaced at most."""


def compton_energy(energy_kev: Array, angle_deg: float) -> Array:
    """Return the energy of a photon after Compton scatter from a free electron at rest, keV (Compton 1923, eq. 5).

    Parameters
    ----------
    energy_kev : (n_energy,) array
        keV.
    angle_deg : float
        Scattering angle, degree.
    """
    lost = energy_kev / ELECTRON_REST_KEV * (1.0 - np.cos(np.radians(angle_deg)))
    return np.asarray(energy_kev / (1.0 + lost))


def differential_scatter(
    elements: Sequence[str], energy_kev: Sequence[float] | Array, angle_deg: Sequence[float] | Array
) -> tuple[Array, Array]:
    """Return coherent and Compton d(sigma)/d(Omega) with form factors and scattering functions.

    Parameters
    ----------
    elements : sequence of str
        Symbols.
    energy_kev : (n_energy,) array
        keV.
    angle_deg : (n_angle,) array
        Scattering angles, degree.

    Returns
    -------
    (n_element, n_energy, n_angle) arrays
        cm2/g/sr.
    """
    energies = tuple(float(value) for value in energy_kev)
    angles = tuple(float(value) for value in angle_deg)
    pairs = [_differential(atomic_number(name), energies, angles) for name in elements]
    return np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])


def total_scatter(elements: Sequence[str], energy_kev: Sequence[float] | Array) -> tuple[Array, Array]:
    """Return total coherent and Compton cross sections, (n_element, n_energy), cm2/g."""
    energies = tuple(float(value) for value in energy_kev)
    pairs = [_total(atomic_number(name), energies) for name in elements]
    return np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])


def profile_mixture(elements: Sequence[str]) -> Array:
    """Return (n_element, n_profile) shares in which an element mixes ``profile_integrals``."""
    return _profiles()[1][[atomic_number(name) - 1 for name in elements]]


def profile_integrals(momentum: Array) -> Array:
    """Return the share of the electrons whose momentum along the scattering vector lies below some values.

    Parameters
    ----------
    momentum : array
        Atomic units.

    Returns
    -------
    (n_profile, *momentum.shape) array
        Integrals of the profiles that ``profile_mixture`` mixes (singular value decomposition of the Compton
        profiles of Biggs 1975, which are per electron and even in momentum).
    """
    grid, _, integrals = _profiles()
    inside = np.interp(np.abs(momentum), grid, np.arange(grid.size, dtype=np.float64))
    index = np.minimum(inside.astype(np.int64), grid.size - 2)
    part = inside - index
    half = integrals[:, index] * (1.0 - part) + integrals[:, index + 1] * part
    return np.asarray(np.where(momentum < 0, -half, half))


def scattering_momentum(energy_kev: Array, scattered_kev: Array, angle_deg: float) -> Array:
    """Return the electron's momentum, atomic units, that gives the scattered photon its energy (Cooper 1985, eq. 3).

    Parameters
    ----------
    energy_kev, scattered_kev : arrays
        Before and after, keV; broadcast.
    angle_deg : float
        Scattering angle, degree.
    """
    cosine = np.cos(np.radians(angle_deg))
    transfer = np.sqrt(energy_kev**2 + scattered_kev**2 - 2.0 * energy_kev * scattered_kev * cosine)
    beyond = scattered_kev - energy_kev + energy_kev * scattered_kev * (1.0 - cosine) / ELECTRON_REST_KEV
    return np.asarray(INVERSE_FINE_STRUCTURE * beyond / transfer)


@lru_cache(maxsize=4096)
def _differential(number: int, energies: tuple[float, ...], angles: tuple[float, ...]) -> tuple[Array, Array]:
    grid, angle, z = np.asarray(energies), np.radians(angles), np.asarray([number])
    return xraylib_np.DCS_Rayl(z, grid, angle)[0], xraylib_np.DCS_Compt(z, grid, angle)[0]


@lru_cache(maxsize=4096)
def _total(number: int, energies: tuple[float, ...]) -> tuple[Array, Array]:
    grid, z = np.asarray(energies), np.asarray([number])
    return xraylib_np.CS_Rayl(z, grid)[0], xraylib_np.CS_Compt(z, grid)[0]


@lru_cache(maxsize=1)
def _profiles() -> tuple[Array, Array, Array]:
    """Return momenta (n,), mixtures (92, n_profile) and integrals from zero (n_profile, n)."""
    momentum = np.concatenate([[0.0], np.geomspace(0.01, HIGHEST_MOMENTUM, 300)])
    profiles = np.asarray(
        [[xraylib.ComptonProfile(number, p) for p in momentum] for number in range(1, HIGHEST_NUMBER + 1)]
    )
    step = np.diff(momentum)
    integrals = np.concatenate(
        [np.zeros((HIGHEST_NUMBER, 1)), np.cumsum((profiles[:, 1:] + profiles[:, :-1]) / 2.0 * step, axis=1)], axis=1
    )
    # half of the electrons move either way
    integrals *= 0.5 / integrals[:, -1:]
    left, strength, right = np.linalg.svd(integrals, full_matrices=False)
    return momentum, left[:, :PROFILE_RANK] * strength[:PROFILE_RANK], right[:PROFILE_RANK]
