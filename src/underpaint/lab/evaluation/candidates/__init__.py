"""Candidates of layers fitted by maximum likelihood, for the bounds of layer order and a baseline."""

from underpaint.lab.evaluation.candidates.candidate import Candidate, ground_film, paint_film
from underpaint.lab.evaluation.candidates.compare import compare, find_order, goodness
from underpaint.lab.evaluation.candidates.fit import StratigraphyFit, fit_candidates
from underpaint.lab.evaluation.candidates.measured import Measured, measured
from underpaint.lab.evaluation.candidates.proposals import Suspects, layer_pigments, propose, suspects

__all__ = [
    "Candidate",
    "Measured",
    "StratigraphyFit",
    "Suspects",
    "compare",
    "find_order",
    "fit_candidates",
    "goodness",
    "ground_film",
    "layer_pigments",
    "measured",
    "paint_film",
    "propose",
    "suspects",
]
