"""What is concluded: pigment maps, element maps, what would not be seen, and their comparison (values only)."""

from underpaint.data.maps.detectability import (
    ABSENT,
    CANNOT_EXCLUDE,
    NO_ANSWER,
    PRESENT,
    STATES,
    UNDECIDED,
    DetectabilityMaps,
)
from underpaint.data.maps.maps import PRESENT_PROBABILITY, ElementMaps, PigmentMaps
from underpaint.data.maps.open_set import UNLIKE_SIGMA, OpenSet, UnexplainedLine, UnlikenessMap
from underpaint.data.maps.places import PLACED_PROBABILITY, PLACES, Place, at_place, split_place
from underpaint.data.maps.quantities import (
    LEVEL,
    SURFACE_UM,
    Estimate,
    QuantityMaps,
    from_scale,
    material_of,
    on_scale,
    share_of,
    slope,
)
from underpaint.data.maps.results import Results

__all__ = [
    "ABSENT",
    "CANNOT_EXCLUDE",
    "LEVEL",
    "NO_ANSWER",
    "PLACED_PROBABILITY",
    "PLACES",
    "PRESENT",
    "PRESENT_PROBABILITY",
    "STATES",
    "SURFACE_UM",
    "UNDECIDED",
    "UNLIKE_SIGMA",
    "DetectabilityMaps",
    "ElementMaps",
    "Estimate",
    "OpenSet",
    "PigmentMaps",
    "Place",
    "QuantityMaps",
    "Results",
    "UnexplainedLine",
    "UnlikenessMap",
    "at_place",
    "from_scale",
    "material_of",
    "on_scale",
    "share_of",
    "slope",
    "split_place",
]
