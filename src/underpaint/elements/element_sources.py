"""Usual sources of the elements of a scan: pigments, grounds, driers, impurities, air, the instrument."""

from collections.abc import Iterable, Sequence

from underpaint.physics.atomic import atomic_number
from underpaint.physics.materials import library, mix_elements
from underpaint.physics.materials.library import data_table
from underpaint.physics.materials.paint import components_of

AIR = ("Ar",)
METAL_PARTS = ("Fe", "Ni", "Cu", "Zn", "Zr", "W", "Au", "Mo", "Ag")
"""Tube housings, collimators, solder, contacts, and gold or tungsten behind a detector."""
ACCOMPANYING = {
    "Sr": {"Ca": 1.0, "Ba": 0.3},
    "Mn": {"Fe": 0.1},
    "Ti": {"Fe": 0.1},
    "Zr": {"Ti": 0.1, "Fe": 0.1},
    "Cd": {"Zn": 0.05},
    "As": {"Co": 1.0, "Cu": 0.05},
    "Ni": {"Co": 0.5, "Cu": 0.05},
    "Bi": {"Co": 0.5, "Pb": 0.02},
    "Zn": {"Cu": 0.1},
    "Fe": {"Ca": 0.1, "Co": 0.3, "Zn": 0.05, "Cu": 0.1},
    "Cu": {"Pb": 0.02},
    "Ag": {"Pb": 0.01},
    "Ba": {"Ca": 0.05},
}
"""Impurities by host element: largest ratio of net counts to the host's (from memory, unverified).

Chalk contains strontium, whose lines are far less absorbed than calcium's; earths contain manganese and titanium; ores
of zinc, copper, lead and cobalt contain the elements listed.
"""
MINERALS = ("Al", "Si", "P", "S", "Cl", "K", "Ti", "Mn", "Fe", "Sr")
"""Elements from earths, chalk, dust and salt in any painting."""
MINERALS_OF_GROUNDS = ("Al", "Si", "P", "S", "Cl", "K", "Ca")
"""Elements of chalk, gypsum, clay, quartz, bone, salt and size, from grounds, supports and dirt."""
MIN_FRACTION = 1e-3
"""Mass fraction from which an element counts as a constituent of a material."""
_FIRST_K, _LAST_K, _FIRST_L, _FIRST_M = 13, 60, 35, 74


def elements_of(pigments: Iterable[str]) -> set[str]:
    """Return the elements of pigments of the library, their accessories included."""
    elements: set[str] = set()
    for name in pigments:
        pigment = library()[name]
        elements |= {symbol for symbol, part in pigment.mass_fractions.items() if part >= MIN_FRACTION}
        elements |= set(pigment.accessory)
    return elements


def ground_elements() -> set[str]:
    """Return the elements of the library's grounds, supports and coatings."""
    elements = elements_of(name for row in data_table("grounds")["ground"] for name in row["pigments"])
    for kind in ("support", "coating"):
        for row in data_table(f"{kind}s")[kind]:
            elements |= {symbol for symbol, part in mix_elements(components_of(row)).items() if part >= MIN_FRACTION}
    return elements


def drier_elements() -> set[str]:
    """Return the metals of the library's driers."""
    return {str(row["element"]) for row in data_table("driers")["drier"]}


def known_families(pigments: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the line families that are usual in a scan of a painting.

    Parameters
    ----------
    pigments : sequence of str, optional
        Names from the library; by default all of it.

    Returns
    -------
    tuple of str
        K, L and M families of their elements, of grounds, supports, driers, minerals, air and metal parts.
    """
    names = [pigment.name for pigment in library()] if pigments is None else pigments
    ordinary = {*ground_elements(), *drier_elements(), *AIR, *METAL_PARTS, *MINERALS}
    symbols = sorted(elements_of(names) | ordinary, key=atomic_number)
    return tuple(family for symbol in symbols for family in families_of_element(symbol))


def families_of_element(symbol: str) -> tuple[str, ...]:
    """Return the families of an element between 1.2 and about 40 keV."""
    number = atomic_number(symbol)
    shells = (("K", _FIRST_K <= number <= _LAST_K), ("L", number >= _FIRST_L), ("M", number >= _FIRST_M))
    return tuple(f"{symbol}_{shell}" for shell, is_usable in shells if is_usable)
