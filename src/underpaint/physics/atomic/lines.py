"""Characteristic lines: which there are, where, and how strong within their shell."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import xraylib
from numpy.typing import NDArray

from underpaint.errors import UnderpaintError
from underpaint.physics.atomic.elements import atomic_number, symbol

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
    # given for some shells as a whole: K-O, L3-O45
    "O",
    "O45",
)
LOWEST_LINE_KEV = 1.0
"""Softer lines are lost in a centimetre of air and in the detector's window."""
WEAKEST_RATE = 1e-3
"""Lines under this share of their shell's emission are left out."""
MERGED_WITHIN_KEV = 0.02
"""Lines of one shell closer than this act as one: a tenth of the best resolution of a silicon detector."""


@dataclass(frozen=True)
class LineTable:
    """Characteristic lines as plain arrays, all (n_line,).

    Parameters
    ----------
    atomic_number : int array
    name : tuple of str
        IUPAC name with the element: ``Fe-KL3``. Merged lines bear the strongest one's name.
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
        ``Fe_K``, ``Pb_L``; names that are no line family are left out.
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
        found = _strongest(element, shell, excitation_kev)
        if not found or shell not in _GREEK:
            continue
        first[f"{element} {_GREEK[shell]}"] = found[0]
        if len(found) > 1 and shell in _SECOND:
            second[f"{element} {_SECOND[shell]}"] = found[1]
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
    other = int(np.argmax(np.where(above, share, 0.0)))
    return [float(energy[top]), float(energy[other])]
