"""Scan -> element maps: net counts of each line family, by a linear fit, with their uncertainties."""

from underpaint.elements._families import CANDIDATES
from underpaint.elements.evidence import LineEvidence, line_evidence
from underpaint.elements.fit import ElementFit, fit_elements, prepare_fit
from underpaint.elements.fixed_fit import FitPlan, plan_fit
from underpaint.elements.known import known_families
from underpaint.elements.spectrum_fit import Family, SpectrumFit, fit_spectrum
from underpaint.elements.unlikeness import Leftovers, leftovers

__all__ = [
    "CANDIDATES",
    "ElementFit",
    "Family",
    "FitPlan",
    "Leftovers",
    "LineEvidence",
    "SpectrumFit",
    "fit_elements",
    "fit_spectrum",
    "known_families",
    "leftovers",
    "line_evidence",
    "plan_fit",
    "prepare_fit",
]
