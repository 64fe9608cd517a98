"""Common sources of elements in a scan: pigments, grounds, driers, impurities, air and instrument."""

from collections.abc import Iterable, Sequence

from underpaint.physics.atomic import atomic_number
from underpaint.physics.materials import library, mix_elements
from underpaint.physics.materials.library import data_table
from underpaint.physics.materials.paint import formula_fractions

AIR_ELEMENTS = ("Ar",)
INSTRUMENT_METALS = ("Fe", "Ni", "Cu", "Zn", "Zr", "W", "Au", "Mo", "Ag")
"""Elements of tube housings, collimators, solder, contacts, and parts behind a detector (gold, tungsten)."""
IMPURITY_RATIOS = {
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
"""Largest ratio of the net counts of an impurity to those of its host element (from memory, unverified).

Keys are the impurities. Chalk contains strontium, whose lines are absorbed far less than the lines of calcium. Earths
contain manganese and titanium. Ores of zinc, copper, lead and cobalt contain the other impurities.
"""
MINERAL_ELEMENTS = ("Al", "Si", "P", "S", "Cl", "K", "Ti", "Mn", "Fe", "Sr")
"""Elements from earths, chalk, dust and salt that occur in almost any painting."""
GROUND_MINERAL_ELEMENTS = ("Al", "Si", "P", "S", "Cl", "K", "Ca")
"""Elements of grounds, supports and dirt (chalk, gypsum, clay, quartz, bone, salt, size)."""
MIN_CONSTITUENT_FRACTION = 1e-3
"""Smallest mass fraction of an element that counts as a constituent of a material."""
_FIRST_K_ATOMIC_NUMBER, _LAST_K_ATOMIC_NUMBER, _FIRST_L_ATOMIC_NUMBER, _FIRST_M_ATOMIC_NUMBER = 13, 60, 35, 74


def elements_of_pigments(pigments: Iterable[str]) -> set[str]:
    """Return the elements of the given library pigments, including accessory elements."""
    elements: set[str] = set()
    for pigment_name in pigments:
        pigment = library()[pigment_name]
        elements |= {
            symbol
            for symbol, mass_fraction in pigment.mass_fractions.items()
            if mass_fraction >= MIN_CONSTITUENT_FRACTION
        }
        elements |= set(pigment.accessory)
    return elements


def ground_elements() -> set[str]:
    """Return the elements of the library's grounds, supports and coatings."""
    elements = elements_of_pigments(
        pigment_name for table_row in data_table("grounds")["ground"] for pigment_name in table_row["pigments"]
    )
    for material_kind in ("support", "coating"):
        for table_row in data_table(f"{material_kind}s")[material_kind]:
            elements |= {
                symbol
                for symbol, mass_fraction in mix_elements(formula_fractions(table_row)).items()
                if mass_fraction >= MIN_CONSTITUENT_FRACTION
            }
    return elements


def drier_elements() -> set[str]:
    """Return the metals of the library's driers."""
    return {str(driers_row["element"]) for driers_row in data_table("driers")["drier"]}


def known_families(pigments: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the line families that are common in scans of paintings.

    Parameters
    ----------
    pigments : sequence of str, optional
        Names of library pigments; by default all pigments of the library.

    Returns
    -------
    tuple of str
        K, L and M families of elements in the pigments, grounds, supports, driers, minerals, air and metal parts.
    """
    pigment_names = [pigment.name for pigment in library()] if pigments is None else pigments
    other_elements = {*ground_elements(), *drier_elements(), *AIR_ELEMENTS, *INSTRUMENT_METALS, *MINERAL_ELEMENTS}
    symbols = sorted(elements_of_pigments(pigment_names) | other_elements, key=atomic_number)
    return tuple(family for symbol in symbols for family in families_of_element(symbol))


def families_of_element(symbol: str) -> tuple[str, ...]:
    """Return the line families of an element between 1.2 and about 40 keV."""
    z = atomic_number(symbol)
    usable_shells = (
        ("K", _FIRST_K_ATOMIC_NUMBER <= z <= _LAST_K_ATOMIC_NUMBER),
        ("L", z >= _FIRST_L_ATOMIC_NUMBER),
        ("M", z >= _FIRST_M_ATOMIC_NUMBER),
    )
    return tuple(f"{symbol}_{shell}" for shell, is_usable in usable_shells if is_usable)
