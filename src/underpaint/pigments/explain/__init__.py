"""One spectrum -> what is known of the layers under it."""

from underpaint.pigments.explain.candidate import Candidate, ground_film, paint_film
from underpaint.pigments.explain.compare import compare, find_order, goodness
from underpaint.pigments.explain.explanation import Explanation, explain
from underpaint.pigments.explain.fit import StratigraphyFit, fit_candidates
from underpaint.pigments.explain.measured import Measured, measured
from underpaint.pigments.explain.proposals import Suspects, laid, propose, suspects
from underpaint.pigments.explain.region import pixel_mask, read_pixel, read_region, read_spot, region_spectrum
from underpaint.pigments.explain.spectrum_model import ModelError
from underpaint.pigments.explain.wanted import Wanted, given_groups, seen_by_network

__all__ = [
    "Candidate",
    "Explanation",
    "Measured",
    "ModelError",
    "StratigraphyFit",
    "Suspects",
    "Wanted",
    "compare",
    "explain",
    "find_order",
    "fit_candidates",
    "given_groups",
    "goodness",
    "ground_film",
    "laid",
    "measured",
    "paint_film",
    "pixel_mask",
    "propose",
    "read_pixel",
    "read_region",
    "read_spot",
    "region_spectrum",
    "seen_by_network",
    "suspects",
]
