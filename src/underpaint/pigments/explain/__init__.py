"""One spectrum -> what is known of the layers under it."""

from underpaint.pigments.explain.explanation import Explanation, explain
from underpaint.pigments.explain.region import pixel_mask, read_pixel, read_region, read_spot, region_spectrum
from underpaint.pigments.explain.spectrum_model import ModelError
from underpaint.pigments.explain.wanted import Wanted, given_groups, seen_by_network

__all__ = [
    "Explanation",
    "ModelError",
    "Wanted",
    "explain",
    "given_groups",
    "pixel_mask",
    "read_pixel",
    "read_region",
    "read_spot",
    "region_spectrum",
    "seen_by_network",
]
