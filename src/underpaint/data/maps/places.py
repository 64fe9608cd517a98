"""Where in a painting a pigment lies: names of answers carry it, ``vermilion.surface`` beside ``vermilion``."""

from typing import Literal, TypeAlias, get_args

Place: TypeAlias = Literal["anywhere", "surface", "below"]
"""In any layer; in the uppermost layer of paint; in any layer under that one, the ground among them."""
PLACES: tuple[Place, ...] = get_args(Place)
PLACED_PROBABILITY = 0.75
"""From it a place, or an order of layers, is stated. At one half networks place paint below where there is none, and
give orders that no spectrum can tell."""


def at_place(name: str, place: Place) -> str:
    """Return the name of a pigment or group at a place; anywhere it is the plain name."""
    return name if place == "anywhere" else f"{name}.{place}"


def split_place(name: str) -> tuple[str, Place]:
    """Return the pigment or group that a name speaks of, and the place.

    Raises
    ------
    ValueError
        The name ends in a place that is none of :data:`PLACES`.
    """
    material, _, place = name.partition(".")
    for known in PLACES:
        if place == known or (not place and known == "anywhere"):
            return material, known
    raise ValueError(f"{name!r} ends in no place; there are {', '.join(PLACES)}")
