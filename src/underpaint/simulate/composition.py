"""What pigments and groups are made of, as a network reads it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from underpaint.physics.materials import library

ELEMENTS = (
    *("Al", "Si", "P", "S", "Cl", "K", "Ca", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "As", "Se", "Br"),
    *("Sr", "Y", "Zr", "Mo", "Ag", "Cd", "Sn", "Sb", "Ba", "W", "Au", "Hg", "Pb", "Bi"),
)
"""Elements of pigments whose lines a scanner may record."""
GROUP = "group"
"""Last column: one for a group, of which one element is all that is known."""


def composition(materials: Sequence[str]) -> NDArray[np.float32]:
    """Return (n_material, n_element + 1) square roots of mass fractions, and whether it is a group.

    A group is one part of its element. The root keeps a few per cent of an element, whose lines may be the strongest
    of all, in view.
    """
    groups = {group.name: group.element for group in library().groups}
    table = np.zeros((len(materials), len(ELEMENTS) + 1), dtype=np.float32)
    for row, name in zip(table, materials, strict=True):
        fractions = {groups[name]: 1.0} if name in groups else library()[name].mass_fractions
        row[:-1] = [np.sqrt(fractions.get(element, 0.0)) for element in ELEMENTS]
        row[-1] = name in groups
    return table
