"""One spectrum -> the stratigraphies that could have made it, with intervals."""

from underpaint.explain.candidate import Candidate, Film, ground_film, paint_film
from underpaint.explain.evidence import Evidence, Line, Order, find_order
from underpaint.explain.explanation import (
    Explanation,
    Goodness,
    compare,
    explain,
    goodness,
    propose_from_network,
)
from underpaint.explain.fit import StratigraphyFit, fit_candidates
from underpaint.explain.intervals import Interval, intervals
from underpaint.explain.measured import Measured, measured
from underpaint.explain.proposals import Suspects, laid, propose, suspects
from underpaint.explain.region import pixel_mask, read_pixel, read_region, region_spectrum

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
    "region_spectrum",
    "suspects",
]
