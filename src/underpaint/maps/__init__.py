"""What is concluded: pigment maps, element maps, what would not be seen, and their comparison (values only)."""

from underpaint.maps.detectability import ABSENT, CANNOT_EXCLUDE, NO_ANSWER, PRESENT, STATES, DetectabilityMaps
from underpaint.maps.maps import ElementMaps, PigmentMaps
from underpaint.maps.open_set import UNLIKE_SIGMA, OpenSet, UnexplainedLine, UnlikenessMap
from underpaint.maps.places import PLACES, Place, at_place, split_place
from underpaint.maps.quantities import SURFACE_UM, from_scale, material_of, on_scale, share_of

__all__ = [
    "ABSENT",
    "CANNOT_EXCLUDE",
    "NO_ANSWER",
    "PLACES",
    "PRESENT",
    "STATES",
    "SURFACE_UM",
    "UNLIKE_SIGMA",
    "DetectabilityMaps",
    "ElementMaps",
    "OpenSet",
    "PigmentMaps",
    "Place",
    "UnexplainedLine",
    "UnlikenessMap",
    "at_place",
    "from_scale",
    "material_of",
    "on_scale",
    "share_of",
    "split_place",
]
