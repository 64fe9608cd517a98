"""What is concluded: pigment maps, element maps, and the comparison of the two (values only)."""

from underpaint.maps.maps import ElementMaps, PigmentMaps

__all__ = ["ElementMaps", "PigmentMaps"]
