"""One spectrum -> the stratigraphies that could have made it, with intervals."""

from underpaint.pigments.explain.candidate import Candidate, Film, ground_film, paint_film
from underpaint.pigments.explain.evidence import Evidence, Line, Order, find_order
from underpaint.pigments.explain.explanation import (
    Explanation,
    Goodness,
    compare,
    explain,
    goodness,
    propose_from_network,
)
from underpaint.pigments.explain.fit import StratigraphyFit, fit_candidates
from underpaint.pigments.explain.intervals import Interval, intervals
from underpaint.pigments.explain.measured import Measured, measured
from underpaint.pigments.explain.proposals import Suspects, laid, propose, suspects
from underpaint.pigments.explain.region import pixel_mask, read_pixel, read_region, read_spot, region_spectrum

__all__ = [
    "Candidate",
    "Evidence",
    "Explanation",
    "Film",
    "Goodness",
    "Interval",
    "Line",
    "Measured",
    "Order",
    "StratigraphyFit",
    "Suspects",
    "compare",
    "explain",
    "find_order",
    "fit_candidates",
    "goodness",
    "ground_film",
    "intervals",
    "laid",
    "measured",
    "paint_film",
    "pixel_mask",
    "propose",
    "propose_from_network",
    "read_pixel",
    "read_region",
    "read_spot",
    "region_spectrum",
    "suspects",
]
