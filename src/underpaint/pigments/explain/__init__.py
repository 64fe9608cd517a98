"""Explanation of a spectrum by layers of paint, with the uncertainty of each result."""

from underpaint.pigments.explain.candidate_groups import CandidateGroups, given_groups, groups_by_network
from underpaint.pigments.explain.explanation import Explanation, explain
from underpaint.pigments.explain.region import pixel_mask, read_pixel, read_region, read_spot, region_spectrum
from underpaint.pigments.explain.spectrum_model import ModelError

__all__ = [
    "CandidateGroups",
    "Explanation",
    "ModelError",
    "explain",
    "given_groups",
    "groups_by_network",
    "pixel_mask",
    "read_pixel",
    "read_region",
    "read_spot",
    "region_spectrum",
]
