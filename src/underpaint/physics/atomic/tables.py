"""Atomic data for a set of elements and an exciting spectrum, as plain arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import xraylib_np
from numpy.typing import NDArray

from underpaint.errors import SampleError
from underpaint.physics.atomic.elements import atomic_number
from underpaint.physics.atomic.lines import LineTable, edge_energy, line_table

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
