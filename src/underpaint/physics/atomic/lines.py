"""Characteristic lines: names, energies and relative intensities within their shell; cross sections and scatter.

The tables are plain arrays for a set of elements and an exciting spectrum. Scatter depends on the angle; Compton
scatter is broadened by the momentum of the electrons.
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
from underpaint.units import ELECTRON_REST_KEV

SHELLS = ("K", "L1", "L2", "L3", "M1", "M2", "M3", "M4", "M5")
OUTER = (
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
    # tabulated for some shells as a sum: K-O, L3-O45
    "O",
    "O45",
)
LOWEST_LINE_KEV = 1.0
"""Softer lines are lost in a centimetre of air and in the detector's window."""
WEAKEST_RATE = 1e-3
"""Lines with a smaller share of their shell's emission are omitted."""
MERGED_WITHIN_KEV = 0.02
"""Lines of one shell closer than this act as one: a tenth of the best resolution of a silicon detector."""


@dataclass(frozen=True)
class LineTable:
    """Characteristic lines as plain arrays, all (n_line,).

    Parameters
    ----------
    atomic_number : int array
    name : tuple of str
        IUPAC name with the element: ``Fe-KL3``. Merged lines have the name of the strongest one.
    family : tuple of str
        Element and main shell: ``Fe_K``, ``Pb_L``.
    shell : int array
        Index into ``SHELLS`` of the vacancy.
    energy_kev : float array
        keV.
    rate : float array
        Radiative rate: share of the shell's emitted photons.
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
    """Return the lines of the elements whose shells can be excited below ``highest_kev`` keV, by element."""
    rows = [
        (number, name, family, shell, energy, rate)
        for number in sorted(atomic_number(name) for name in elements)
        for name, family, shell, energy, rate in _lines(number)
        if edge_energy(number, shell) < highest_kev
    ]
    numbers, names, families, shells, energies, rates = zip(*rows, strict=True) if rows else ((),) * 6
    return LineTable(
        np.asarray(numbers, dtype=np.int64),
        tuple(names),
        tuple(families),
        np.asarray(shells, dtype=np.int64),
        np.asarray(energies, dtype=np.float64),
        np.asarray(rates, dtype=np.float64),
    )


@cache
def edge_energy(number: int, shell: int) -> float:
    """Return the energy of a shell's absorption edge, keV; infinite where the element lacks it (xraylib)."""
    try:
        return float(xraylib.EdgeEnergy(number, shell))
    except ValueError:
        return float("inf")


def family_lines(
    element: str, shell: str, excitation_kev: float = 40.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the energies (keV) and relative intensities (sum one) of a line family.

    Intensities are those of a thin sample under photons of 0.7 times ``excitation_kev`` (where that lies above the
    family's highest edge; else just above it), Kissel cross sections with cascade (xraylib).

    Parameters
    ----------
    element, shell : str
        "Pb", "L"; or one shell of the family, "L3".
    excitation_kev : float
        Tube voltage or highest photon energy, keV.
    """
    number = atomic_number(element)
    rows = [
        row
        for row in _lines(number)
        if SHELLS[row[2]].startswith(shell) and edge_energy(number, row[2]) < excitation_kev
    ]
    if not rows:
        return np.zeros(0), np.zeros(0)
    exciting = max(0.7 * excitation_kev, min(excitation_kev, 1.02 * max(edge_energy(number, row[2]) for row in rows)))
    strength = np.asarray([shell_production(number, row[2], exciting) * row[4] for row in rows])
    return np.asarray([row[3] for row in rows]), strength / strength.sum()


@cache
def shell_production(number: int, shell: int, energy_kev: float) -> float:
    """Return photons emitted by a shell's vacancies per photon and unit areal mass, cm2/g (Kissel, full cascade)."""
    if energy_kev <= edge_energy(number, shell):
        return 0.0
    try:
        return float(xraylib.CS_FluorShell_Kissel_Cascade(number, shell, energy_kev))
    except ValueError:
        return 0.0


@cache
def _lines(number: int) -> tuple[tuple[str, str, int, float, float], ...]:
    """Return (name, family, shell, keV, rate) of an element's lines, close ones merged."""
    return tuple(
        line
        for shell in range(len(SHELLS))
        for line in _merged([*_shell_lines(number, shell)])
        if line[3] > LOWEST_LINE_KEV
    )


def _shell_lines(number: int, shell: int) -> Iterable[tuple[str, str, int, float, float]]:
    vacancy, element = SHELLS[shell], symbol(number)
    for outer in OUTER:
        constant = getattr(xraylib, f"{vacancy}{outer}_LINE", None)
        if constant is None:
            continue
        try:
            rate, energy = float(xraylib.RadRate(number, constant)), float(xraylib.LineEnergy(number, constant))
        except ValueError:
            continue
        if rate > WEAKEST_RATE:
            yield f"{element}-{vacancy}{outer}", f"{element}_{vacancy[0]}", shell, energy, rate


def _merged(lines: list[tuple[str, str, int, float, float]]) -> list[tuple[str, str, int, float, float]]:
    result: list[tuple[str, str, int, float, float]] = []
    for line in sorted(lines, key=lambda entry: entry[3]):
        if result and line[3] - result[-1][3] < MERGED_WITHIN_KEV:
            last = result.pop()
            rate = last[4] + line[4]
            strongest = max(last, line, key=lambda entry: entry[4])
            result.append((strongest[0], line[1], line[2], (last[3] * last[4] + line[3] * line[4]) / rate, rate))
        else:
            result.append(line)
    return result


_GREEK = {"K": "Kα", "L": "Lα", "M": "M"}
_SECOND = {"K": "Kβ", "L": "Lβ"}
_SECOND_SHARE = 0.1
_APART_KEV = 0.25


def siegbahn(family: str) -> str:
    """Write ``Hg_L`` as "Hg L" for people."""
    return family.replace("_", " ")


def line_labels(families: Iterable[str], excitation_kev: float = 40.0) -> Mapping[str, float]:
    """Return labels with their energies (keV), the strongest line of every family before any second line.

    Parameters
    ----------
    families : iterable of str
        ``Fe_K``, ``Pb_L``; other names are ignored.
    excitation_kev : float
        Energy that excites, keV.

    Returns
    -------
    mapping of str to float
        For instance ``{"Fe Kα": 6.40, "Fe Kβ": 7.06}``.
    """
    first: dict[str, float] = {}
    second: dict[str, float] = {}
    for family in families:
        element, _, shell = family.partition("_")
        line = _strongest(element, shell, excitation_kev)
        if not line or shell not in _GREEK:
            continue
        first[f"{element} {_GREEK[shell]}"] = line[0]
        if len(line) > 1 and shell in _SECOND:
            second[f"{element} {_SECOND[shell]}"] = line[1]
    return {**first, **second}


def _strongest(element: str, shell: str, excitation_kev: float) -> list[float]:
    """Energy of the strongest line, and of the strongest one clearly above it."""
    try:
        energy, share = family_lines(element, shell, excitation_kev)
    except (UnderpaintError, ValueError, KeyError):
        return []
    if energy.size == 0 or not share.max() > 0:
        return []
    top = int(np.argmax(share))
    above = (energy > energy[top] + _APART_KEV) & (share > _SECOND_SHARE * share[top])
    if not above.any():
        return [float(energy[top])]
    strongest = int(np.argmax(np.where(above, share, 0.0)))
    return [float(energy[top]), float(energy[strongest])]


Array = NDArray[np.float64]
LOWEST_KEV = 0.1
"""Lowest energy of xraylib's tables."""
FIRST_KISSEL = 13
"""Lighter elements have no Kissel cross sections at the energies of a tube; plain ones are right for them."""
HEAVIEST = 92
"""Form factors and Compton profiles end at uranium."""


@dataclass(frozen=True)
class AtomicTables:
    """Atomic data that the transport needs, from any source.

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
        An element is heavier than uranium, the last one of the tables.
    """
    beyond = [name for name in elements if atomic_number(name) > HEAVIEST]
    if beyond:
        raise SampleError(
            f"Cannot simulate {', '.join(beyond)}: the tables of cross sections end at U (element {HEAVIEST})."
        )
    energies = _key(energy_kev)
    names = tuple(sorted(set(elements), key=atomic_number))
    lines = line_table(names, max(energies))
    at_lines = _key(lines.energy_kev)
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
    return _attenuation(atomic_number(element), _key(energy_kev))


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


def _key(values: Sequence[float] | Array) -> tuple[float, ...]:
    return tuple(np.asarray(values, dtype=np.float64).tolist())


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
"""Number of basis profiles; five reproduce the profile of every element with at most 1 % of its electrons misplaced."""


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
    energies = _key(energy_kev)
    angles = _key(angle_deg)
    pairs = [_differential(atomic_number(name), energies, angles) for name in elements]
    return np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])


def total_scatter(elements: Sequence[str], energy_kev: Sequence[float] | Array) -> tuple[Array, Array]:
    """Return total coherent and Compton cross sections, (n_element, n_energy), cm2/g."""
    energies = _key(energy_kev)
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
