"""Characteristic lines (names, energies, radiative rates) and cross sections of fluorescence and scatter.

Each table is an array; its axes are a set of elements and the energies of the exciting photons. Scatter cross sections
also depend on the scattering angle. The momentum of electrons broadens the Compton peak.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import xraylib
import xraylib_np
from numpy.typing import NDArray

from underpaint.errors import SampleError, UnderpaintError
from underpaint.physics.atomic.elements import atomic_number, symbol
from underpaint.runtime.threads import one_openmp_thread
from underpaint.units import ELECTRON_REST_KEV

SHELLS = ("K", "L1", "L2", "L3", "M1", "M2", "M3", "M4", "M5")
OUTER_SHELLS = (
    "L1",
    "L2",
    "L3",
    "M1",
    "M2",
    "M3",
    "M4",
    "M5",
    "N1",
    "N2",
    "N3",
    "N4",
    "N5",
    "N6",
    "N7",
    "O1",
    "O2",
    "O3",
    "O4",
    "O5",
    # the tables give some lines as sums over outer shells: K-O, L3-O45
    "O",
    "O45",
)
MIN_LINE_KEV = 1.0
"""Lowest energy of a line, in keV; air and the detector's window absorb lines of lower energy."""
MIN_RADIATIVE_RATE = 1e-3
"""Smallest radiative rate of a line, as a fraction of the shell's photons; weaker lines are omitted."""
MERGE_DISTANCE_KEV = 0.02
"""Energy difference in keV below which lines of a shell are merged: a tenth of the best resolution of a silicon
detector."""


@dataclass(frozen=True)
class LineTable:
    """Characteristic lines as arrays of shape (n_line,).

    Parameters
    ----------
    atomic_number : int array
        Atomic number of the emitting element.
    name : tuple of str
        Element and IUPAC name, such as ``Fe-KL3``. Merged lines have the name of the strongest line.
    family : tuple of str
        Element and main shell: ``Fe_K``, ``Pb_L``.
    shell : int array
        Shell with the vacancy, as an index into ``SHELLS``.
    energy_kev : float array
        Photon energy in keV.
    rate : float array
        Radiative rate: the line's fraction of the photons that the shell emits.
    """

    atomic_number: NDArray[np.int64]
    name: tuple[str, ...]
    family: tuple[str, ...]
    shell: NDArray[np.int64]
    energy_kev: NDArray[np.float64]
    rate: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.name)


def line_table(elements: Iterable[str], highest_kev: float = np.inf) -> LineTable:
    """Return the lines, sorted by atomic number, of shells with an absorption edge below ``highest_kev``."""
    lines = [
        (z, name, family, shell, energy, rate)
        for z in sorted(atomic_number(name) for name in elements)
        for name, family, shell, energy, rate in _element_lines(z)
        if edge_energy(z, shell) < highest_kev
    ]
    atomic_numbers, names, families, shells, energies, rates = zip(*lines, strict=True) if lines else ((),) * 6
    return LineTable(
        np.asarray(atomic_numbers, dtype=np.int64),
        tuple(names),
        tuple(families),
        np.asarray(shells, dtype=np.int64),
        np.asarray(energies, dtype=np.float64),
        np.asarray(rates, dtype=np.float64),
    )


@cache
def edge_energy(z: int, shell: int) -> float:
    """Return the energy in keV of a shell's absorption edge (xraylib); infinite if the element lacks the shell."""
    try:
        return float(xraylib.EdgeEnergy(z, shell))
    except ValueError:
        return float("inf")


def family_lines(
    element: str, shell: str, excitation_kev: float = 40.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the energies (in keV) and the relative intensities (with a sum of one) of a line family.

    The intensities are those of a thin sample that is excited by photons of one energy, 0.7 times ``excitation_kev``.
    If the family's highest edge is above this energy, the photons are just above the edge. Intensities are computed
    from Kissel cross sections with cascade (xraylib).

    Parameters
    ----------
    element : str
        Symbol, such as "Pb".
    shell : str
        Main shell ("L") or subshell ("L3").
    excitation_kev : float
        Tube voltage or highest photon energy, in keV.

    Returns
    -------
    energy_kev, intensity : (n_line,) arrays
    """
    z = atomic_number(element)
    lines = [
        line
        for line in _element_lines(z)
        if SHELLS[line[2]].startswith(shell) and edge_energy(z, line[2]) < excitation_kev
    ]
    if not lines:
        return np.zeros(0), np.zeros(0)
    photon_kev = max(0.7 * excitation_kev, min(excitation_kev, 1.02 * max(edge_energy(z, line[2]) for line in lines)))
    intensity = np.asarray([shell_production(z, line[2], photon_kev) * line[4] for line in lines])
    return np.asarray([line[3] for line in lines]), intensity / intensity.sum()


@cache
def shell_production(z: int, shell: int, photon_kev: float) -> float:
    """Return the fluorescence production cross section of a shell in cm2/g (Kissel, full cascade)."""
    if photon_kev <= edge_energy(z, shell):
        return 0.0
    try:
        return float(xraylib.CS_FluorShell_Kissel_Cascade(z, shell, photon_kev))
    except ValueError:
        return 0.0


@cache
def _element_lines(z: int) -> tuple[tuple[str, str, int, float, float], ...]:
    """Return (name, family, shell, energy in keV, rate) for each line of an element; close lines are merged."""
    return tuple(
        line
        for shell in range(len(SHELLS))
        for line in _merge_close_lines([*_shell_lines(z, shell)])
        if line[3] > MIN_LINE_KEV
    )


def _shell_lines(z: int, shell: int) -> Iterable[tuple[str, str, int, float, float]]:
    vacancy_shell, element = SHELLS[shell], symbol(z)
    for outer_shell in OUTER_SHELLS:
        line_code = getattr(xraylib, f"{vacancy_shell}{outer_shell}_LINE", None)
        if line_code is None:
            continue
        try:
            rate, energy = float(xraylib.RadRate(z, line_code)), float(xraylib.LineEnergy(z, line_code))
        except ValueError:
            continue
        if rate > MIN_RADIATIVE_RATE:
            yield f"{element}-{vacancy_shell}{outer_shell}", f"{element}_{vacancy_shell[0]}", shell, energy, rate


def _merge_close_lines(lines: list[tuple[str, str, int, float, float]]) -> list[tuple[str, str, int, float, float]]:
    merged_lines: list[tuple[str, str, int, float, float]] = []
    for line in sorted(lines, key=lambda entry: entry[3]):
        if merged_lines and line[3] - merged_lines[-1][3] < MERGE_DISTANCE_KEV:
            previous_line = merged_lines.pop()
            rate = previous_line[4] + line[4]
            strongest_line = max(previous_line, line, key=lambda entry: entry[4])
            merged_lines.append(
                (
                    strongest_line[0],
                    line[1],
                    line[2],
                    (previous_line[3] * previous_line[4] + line[3] * line[4]) / rate,
                    rate,
                )
            )
        else:
            merged_lines.append(line)
    return merged_lines


_STRONGEST_LINE_LABELS = {"K": "Kα", "L": "Lα", "M": "M"}
_SECOND_LINE_LABELS = {"K": "Kβ", "L": "Lβ"}
_MIN_SECOND_LINE_RATIO = 0.1
_MIN_LINE_SEPARATION_KEV = 0.25


def siegbahn(family: str) -> str:
    """Return the label of a line family: "Hg L" for ``Hg_L``."""
    return family.replace("_", " ")


def line_labels(families: Iterable[str], excitation_kev: float = 40.0) -> Mapping[str, float]:
    """Return labels and energies (in keV): first the strongest line of each family, then the second lines.

    Parameters
    ----------
    families : iterable of str
        Line families such as ``Fe_K``; other names are ignored.
    excitation_kev : float
        Highest energy of the exciting photons, in keV.

    Returns
    -------
    mapping of str to float
        For instance ``{"Fe Kα": 6.40, "Fe Kβ": 7.06}``.
    """
    strongest_lines: dict[str, float] = {}
    second_lines: dict[str, float] = {}
    for family in families:
        element, _, shell = family.partition("_")
        energies_kev = _strongest_line_energies(element, shell, excitation_kev)
        if not energies_kev or shell not in _STRONGEST_LINE_LABELS:
            continue
        strongest_lines[f"{element} {_STRONGEST_LINE_LABELS[shell]}"] = energies_kev[0]
        if len(energies_kev) > 1 and shell in _SECOND_LINE_LABELS:
            second_lines[f"{element} {_SECOND_LINE_LABELS[shell]}"] = energies_kev[1]
    return {**strongest_lines, **second_lines}


def _strongest_line_energies(element: str, shell: str, excitation_kev: float) -> list[float]:
    """Return the energy in keV of the strongest line and, if present, of the second line at higher energy."""
    try:
        energy, intensity = family_lines(element, shell, excitation_kev)
    except (UnderpaintError, ValueError, KeyError):
        return []
    if energy.size == 0 or not intensity.max() > 0:
        return []
    strongest_index = int(np.argmax(intensity))
    is_second = (energy > energy[strongest_index] + _MIN_LINE_SEPARATION_KEV) & (
        intensity > _MIN_SECOND_LINE_RATIO * intensity[strongest_index]
    )
    if not is_second.any():
        return [float(energy[strongest_index])]
    second_index = int(np.argmax(np.where(is_second, intensity, 0.0)))
    return [float(energy[strongest_index]), float(energy[second_index])]


Array = NDArray[np.float64]
MIN_TABLE_KEV = 0.1
"""Lowest energy of xraylib's tables, in keV."""
MIN_KISSEL_ATOMIC_NUMBER = 13
"""Lowest atomic number for which Kissel cross sections are used. For lighter elements, Kissel cross sections end below
tube energies."""
MAX_ATOMIC_NUMBER = 92
"""Highest atomic number (uranium) of the tables of form factors and Compton profiles."""


@dataclass(frozen=True)
class AtomicTables:
    """Atomic data of a set of elements for the transport calculation.

    Parameters
    ----------
    elements : tuple of str
        Symbols of the n_element elements.
    energy_kev : (n_energy,) array
        Energies of the exciting photons, in keV.
    lines : LineTable
        The n_line lines of these elements.
    line_element : (n_line,) int array
        Element of each line, as an index into ``elements``.
    mass_attenuation : (n_element, n_energy) array
        Total mass attenuation coefficient at the exciting energies, in cm2/g.
    line_attenuation : (n_element, n_line) array
        Total mass attenuation coefficient at the line energies, in cm2/g.
    production : (n_line, n_energy) array
        Cross section for production of each line by the exciting photons, in cm2/g of the line's element.
    line_production : (n_line, n_line) array
        Cross section for production of each line (first axis) by photons of each line (second axis), in cm2/g.
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
    """Return xraylib's data for the given elements (Kissel photoelectric cross sections, full cascade).

    Raises
    ------
    SampleError
        An element is heavier than uranium, where the tables end.
    """
    too_heavy_elements = [name for name in elements if atomic_number(name) > MAX_ATOMIC_NUMBER]
    if too_heavy_elements:
        raise SampleError(
            f"Cannot simulate {', '.join(too_heavy_elements)}: the tables of cross sections end at U (element "
            f"{MAX_ATOMIC_NUMBER}). Remove these elements."
        )
    energies = _cache_key(energy_kev)
    names = tuple(sorted(set(elements), key=atomic_number))
    lines = line_table(names, max(energies))
    line_energies = _cache_key(lines.energy_kev)
    index_by_number = {atomic_number(name): index for index, name in enumerate(names)}
    return AtomicTables(
        names,
        np.asarray(energies),
        lines,
        np.asarray([index_by_number[int(z)] for z in lines.atomic_number], dtype=np.int64),
        np.stack([_element_attenuation(atomic_number(name), energies) for name in names]),
        np.stack([_element_attenuation(atomic_number(name), line_energies) for name in names]),
        line_production(lines, energies),
        line_production(lines, line_energies),
    )


def mass_attenuation(element: str, energy_kev: Array) -> Array:
    """Return the total mass attenuation of an element in cm2/g (xraylib; Kissel cross sections for Al and heavier)."""
    return _element_attenuation(atomic_number(element), _cache_key(energy_kev))


def compound_attenuation(mass_fractions: dict[str, float], energy_kev: Array) -> Array:
    """Return the total mass attenuation of a mixture in cm2/g: the sum over elements, weighted by mass fraction."""
    attenuation_by_element = [
        mass_fraction * mass_attenuation(name, energy_kev) for name, mass_fraction in mass_fractions.items()
    ]
    return np.asarray(np.sum(attenuation_by_element, axis=0))


def line_production(lines: LineTable, energies: tuple[float, ...]) -> Array:
    """Return (n_line, n_energy) production cross sections, in cm2/g of the line's element."""
    production = [
        rate * _shell_production(int(z), int(shell), energies)
        for z, shell, rate in zip(lines.atomic_number, lines.shell, lines.rate, strict=True)
    ]
    return np.stack(production) if production else np.zeros((0, len(energies)))


def _cache_key(energies_or_angles: Sequence[float] | Array) -> tuple[float, ...]:
    return tuple(np.asarray(energies_or_angles, dtype=np.float64).tolist())


@lru_cache(maxsize=4096)
def _element_attenuation(z: int, energies: tuple[float, ...]) -> Array:
    clipped_energy_kev = np.maximum(np.asarray(energies, dtype=np.float64), MIN_TABLE_KEV)
    # Kissel's photoelectric cross sections of light elements are zero above a limit: Be 3.5 keV, C 9 keV, O 18 keV
    cross_section = xraylib_np.CS_Total if z < MIN_KISSEL_ATOMIC_NUMBER else xraylib_np.CS_Total_Kissel
    with one_openmp_thread():
        return np.asarray(cross_section(np.asarray([z]), clipped_energy_kev)[0])


@lru_cache(maxsize=4096)
def _shell_production(z: int, shell: int, energies: tuple[float, ...]) -> Array:
    energy_kev = np.asarray(energies, dtype=np.float64)
    cross_section = np.zeros(energy_kev.size)
    is_excited = energy_kev > edge_energy(z, shell)
    if is_excited.any():
        with one_openmp_thread():
            cross_section[is_excited] = xraylib_np.CS_FluorShell_Kissel_Cascade(
                np.asarray([z]), np.asarray([shell]), energy_kev[is_excited]
            )[0, 0]
    return cross_section


INVERSE_FINE_STRUCTURE = 137.036
"""Momentum ``m c`` of an electron in atomic units: the inverse of the fine-structure constant."""
MAX_MOMENTUM = 100.0
"""Highest momentum of the Compton profiles of Biggs 1975, in atomic units."""
N_BASIS_PROFILES = 5
"""Number of basis profiles; with five profiles, at most 1 % of an element's electrons have a wrong momentum."""


def compton_energy(energy_kev: Array, angle_deg: float) -> Array:
    """Return the photon energy in keV after Compton scatter by a free electron at rest (Compton 1923, equation 5).

    Parameters
    ----------
    energy_kev : (n_energy,) array
        Photon energy before the scatter event, in keV.
    angle_deg : float
        Scattering angle in degrees.
    """
    relative_energy_loss = energy_kev / ELECTRON_REST_KEV * (1.0 - np.cos(np.radians(angle_deg)))
    return np.asarray(energy_kev / (1.0 + relative_energy_loss))


def differential_scatter(
    elements: Sequence[str], energy_kev: Sequence[float] | Array, angle_deg: Sequence[float] | Array
) -> tuple[Array, Array]:
    """Return differential cross sections of coherent and of Compton scatter by bound electrons.

    Parameters
    ----------
    elements : sequence of str
        Symbols.
    energy_kev : (n_energy,) array
        Photon energies in keV.
    angle_deg : (n_angle,) array
        Scattering angles in degrees.

    Returns
    -------
    coherent, compton : (n_element, n_energy, n_angle) arrays
        Differential cross sections, in cm2/g/sr, from form factors and scattering functions.
    """
    energies = _cache_key(energy_kev)
    scattering_angles = _cache_key(angle_deg)
    element_tables = [
        _differential_cross_sections(atomic_number(name), energies, scattering_angles) for name in elements
    ]
    return np.stack([element_table[0] for element_table in element_tables]), np.stack(
        [element_table[1] for element_table in element_tables]
    )


def total_scatter(elements: Sequence[str], energy_kev: Sequence[float] | Array) -> tuple[Array, Array]:
    """Return the total cross sections of coherent and of Compton scatter, (n_element, n_energy) each, in cm2/g."""
    energies = _cache_key(energy_kev)
    element_tables = [_total_cross_sections(atomic_number(name), energies) for name in elements]
    return np.stack([element_table[0] for element_table in element_tables]), np.stack(
        [element_table[1] for element_table in element_tables]
    )


def profile_mixture(elements: Sequence[str]) -> Array:
    """Return the (n_element, n_profile) weights of the basis profiles whose sum is an element's Compton profile."""
    return _compton_profile_basis()[1][[atomic_number(name) - 1 for name in elements]]


def profile_integrals(momentum: Array) -> Array:
    """Return the integrals of the basis profiles from zero to a given momentum along the scattering vector.

    Parameters
    ----------
    momentum : array
        Momentum, in atomic units; negative momenta give negative integrals.

    Returns
    -------
    (n_profile, *momentum.shape) array
        Integrals of the basis profiles. Weighted by the coefficients of ``profile_mixture``, the integrals sum to the
        integrated Compton profile of an element, per electron. The basis is from the singular value decomposition of
        the profiles of Biggs 1975.
    """
    momentum_grid, _, basis_integrals = _compton_profile_basis()
    grid_position = np.interp(np.abs(momentum), momentum_grid, np.arange(momentum_grid.size, dtype=np.float64))
    grid_index = np.minimum(grid_position.astype(np.int64), momentum_grid.size - 2)
    interpolation_weight = grid_position - grid_index
    interpolated_integrals = (
        basis_integrals[:, grid_index] * (1.0 - interpolation_weight)
        + basis_integrals[:, grid_index + 1] * interpolation_weight
    )
    return np.asarray(np.where(momentum < 0, -interpolated_integrals, interpolated_integrals))


def scattering_momentum(energy_kev: Array, scattered_kev: Array, angle_deg: float) -> Array:
    """Return the electron momentum, in atomic units, for a given scattered energy (Cooper 1985, equation 3).

    Parameters
    ----------
    energy_kev, scattered_kev : arrays
        Photon energies before and after the scatter event, in keV; the arrays are broadcast.
    angle_deg : float
        Scattering angle in degrees.
    """
    scattering_cosine = np.cos(np.radians(angle_deg))
    momentum_transfer_kev = np.sqrt(
        energy_kev**2 + scattered_kev**2 - 2.0 * energy_kev * scattered_kev * scattering_cosine
    )
    energy_excess_kev = (
        scattered_kev - energy_kev + energy_kev * scattered_kev * (1.0 - scattering_cosine) / ELECTRON_REST_KEV
    )
    return np.asarray(INVERSE_FINE_STRUCTURE * energy_excess_kev / momentum_transfer_kev)


@lru_cache(maxsize=4096)
def _differential_cross_sections(
    z: int, energies: tuple[float, ...], scattering_angles: tuple[float, ...]
) -> tuple[Array, Array]:
    energy_kev, angle_rad, atomic_numbers = np.asarray(energies), np.radians(scattering_angles), np.asarray([z])
    with one_openmp_thread():
        return xraylib_np.DCS_Rayl(atomic_numbers, energy_kev, angle_rad)[0], xraylib_np.DCS_Compt(
            atomic_numbers, energy_kev, angle_rad
        )[0]


@lru_cache(maxsize=4096)
def _total_cross_sections(z: int, energies: tuple[float, ...]) -> tuple[Array, Array]:
    energy_kev, atomic_numbers = np.asarray(energies), np.asarray([z])
    with one_openmp_thread():
        return xraylib_np.CS_Rayl(atomic_numbers, energy_kev)[0], xraylib_np.CS_Compt(atomic_numbers, energy_kev)[0]


@lru_cache(maxsize=1)
def _compton_profile_basis() -> tuple[Array, Array, Array]:
    """Return (n,) momenta, (92, n_profile) coefficients of the elements, and (n_profile, n) basis integrals."""
    momentum_grid = np.concatenate([[0.0], np.geomspace(0.01, MAX_MOMENTUM, 300)])
    profiles = np.asarray(
        [
            [xraylib.ComptonProfile(z, momentum_value) for momentum_value in momentum_grid]
            for z in range(1, MAX_ATOMIC_NUMBER + 1)
        ]
    )
    momentum_steps = np.diff(momentum_grid)
    cumulative_profiles = np.concatenate(
        [
            np.zeros((MAX_ATOMIC_NUMBER, 1)),
            np.cumsum((profiles[:, 1:] + profiles[:, :-1]) / 2.0 * momentum_steps, axis=1),
        ],
        axis=1,
    )
    # half of the electrons have positive momentum, and half have negative momentum
    cumulative_profiles *= 0.5 / cumulative_profiles[:, -1:]
    profile_coefficients, singular_values, basis_integrals = np.linalg.svd(cumulative_profiles, full_matrices=False)
    return (
        momentum_grid,
        profile_coefficients[:, :N_BASIS_PROFILES] * singular_values[:N_BASIS_PROFILES],
        basis_integrals[:N_BASIS_PROFILES],
    )
