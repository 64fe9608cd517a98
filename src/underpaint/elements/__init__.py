"""Scan -> element maps: net counts of each line family, by a linear fit, with their uncertainties."""

from underpaint.elements._families import CANDIDATES
from underpaint.elements.evidence import LineEvidence, line_evidence
from underpaint.elements.fit import ElementFit, FitPlan, fit_elements, plan_fit, prepare_fit
from underpaint.elements.known import known_families
from underpaint.elements.overlaps import deviation, interference_sigma, overlaps
from underpaint.elements.unlikeness import Leftovers, leftovers

__all__ = [
    "CANDIDATES",
    "ElementFit",
    "FitPlan",
    "Leftovers",
    "LineEvidence",
    "deviation",
    "fit_elements",
    "interference_sigma",
    "known_families",
    "leftovers",
    "line_evidence",
    "overlaps",
    "plan_fit",
    "prepare_fit",
]
