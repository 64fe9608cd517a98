"""Atomic data for a set of elements and an exciting spectrum, as plain arrays.

Also how atoms scatter photons: angles, energies and the spread by the electrons' motion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import xraylib
import xraylib_np
from numpy.typing import NDArray

from underpaint.errors import SampleError
from underpaint.physics.atomic.elements import atomic_number
from underpaint.physics.atomic.lines import LineTable, edge_energy, line_table
from underpaint.units import ELECTRON_REST_KEV

Array = NDArray[np.float64]
LOWEST_KEV = 0.1
"""xraylib's tables begin here."""
FIRST_KISSEL = 13
"""Lighter elements have no Kissel cross sections at the energies of a tube; plain ones are right for them."""
HEAVIEST = 92
"""Form factors and Compton profiles end at uranium."""


@dataclass(frozen=True)
class AtomicTables:
    """What the transport needs to know of atoms; any source of data will do.

    Parameters
    ----------
    elements : tuple of str
        Symbols; the first axis of the per-element arrays.
    energy_kev : (n_energy,) array
        Exciting energies, keV.
    lines : LineTable
        n_line lines.
    line_element : (n_line,) int array
        Index into ``elements``.
    mass_attenuation : (n_element, n_energy) array
        Total, at the exciting energies, cm2/g.
    line_attenuation : (n_element, n_line) array
        Total, at the lines' energies, cm2/g.
    production : (n_line, n_energy) array
        Photons of the line per exciting photon and unit areal mass of its element, cm2/g.
    line_production : (n_line, n_line) array
        The same with line m (second axis) as the exciting photon, cm2/g.
    """

    elements: tuple[str, ...]
    energy_kev: Array
    lines: LineTable
    line_element: NDArray[np.int64]
    mass_attenuation: Array
    line_attenuation: Array
    production: Array
    line_production: Array


def atomic_tables(elements: Sequence[str], energy_kev: Array) -> AtomicTables:
    """Return xraylib's tables (Kissel photoelectric cross sections, full cascade) for some elements.

    Raises
    ------
    SampleError
        An element lies beyond uranium, where the tables end.
    """
    beyond = [name for name in elements if atomic_number(name) > HEAVIEST]
    if beyond:
        raise SampleError(
            f"Cannot simulate {', '.join(beyond)}: the tables of cross sections end at U (element {HEAVIEST})."
        )
    energies = tuple(float(value) for value in energy_kev)
    names = tuple(sorted(set(elements), key=atomic_number))
    lines = line_table(names, max(energies))
    at_lines = tuple(float(value) for value in lines.energy_kev)
    order = {atomic_number(name): index for index, name in enumerate(names)}
    return AtomicTables(
        names,
        np.asarray(energies),
        lines,
        np.asarray([order[int(number)] for number in lines.atomic_number], dtype=np.int64),
        np.stack([_attenuation(atomic_number(name), energies) for name in names]),
        np.stack([_attenuation(atomic_number(name), at_lines) for name in names]),
        line_production(lines, energies),
        line_production(lines, at_lines),
    )


def mass_attenuation(element: str, energy_kev: Array) -> Array:
    """Return the total mass attenuation of an element, cm2/g (xraylib: ``CS_Total_Kissel``, plain below Al)."""
    return _attenuation(atomic_number(element), tuple(float(value) for value in energy_kev))


def compound_attenuation(mass_fractions: dict[str, float], energy_kev: Array) -> Array:
    """Return the total mass attenuation of a mixture, cm2/g (sum over the elements by mass)."""
    parts = [fraction * mass_attenuation(name, energy_kev) for name, fraction in mass_fractions.items()]
    return np.asarray(np.sum(parts, axis=0))


def line_production(lines: LineTable, energies: tuple[float, ...]) -> Array:
    """Return (n_line, n_energy) production cross sections, cm2/g of the line's element."""
    rows = [
        rate * _shell(int(number), int(shell), energies)
        for number, shell, rate in zip(lines.atomic_number, lines.shell, lines.rate, strict=True)
    ]
    return np.stack(rows) if rows else np.zeros((0, len(energies)))


@lru_cache(maxsize=4096)
def _attenuation(number: int, energies: tuple[float, ...]) -> Array:
    clipped = np.maximum(np.asarray(energies, dtype=np.float64), LOWEST_KEV)
    # Kissel's photoelectric tables of light elements stop at some keV and are zero beyond (Be 3.5, C 9, O 18)
    total = xraylib_np.CS_Total if number < FIRST_KISSEL else xraylib_np.CS_Total_Kissel
    return np.asarray(total(np.asarray([number]), clipped)[0])


@lru_cache(maxsize=4096)
def _shell(number: int, shell: int, energies: tuple[float, ...]) -> Array:
    grid = np.asarray(energies, dtype=np.float64)
    values = np.zeros(grid.size)
    above = grid > edge_energy(number, shell)
    if above.any():
        values[above] = xraylib_np.CS_FluorShell_Kissel_Cascade(np.asarray([number]), np.asarray([shell]), grid[above])[
            0, 0
        ]
    return values


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
