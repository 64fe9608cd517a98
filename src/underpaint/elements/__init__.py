"""Scan -> element maps: net counts of each line family, by a linear fit, with their uncertainties."""

from underpaint.elements._families import CANDIDATES
from underpaint.elements.evidence import LineEvidence, line_evidence
from underpaint.elements.fit import ElementFit, fit_elements, prepare_fit
from underpaint.elements.fixed_fit import FitPlan, plan_fit
from underpaint.elements.known import known_families
from underpaint.elements.quantities import Quantifier, QuantityRequest, quantify
from underpaint.elements.spectrum_fit import Family, SpectrumFit, fit_spectrum
from underpaint.elements.standards import parse_composition, scale_from_standard
from underpaint.elements.unlikeness import Leftovers, leftovers

__all__ = [
    "CANDIDATES",
    "ElementFit",
    "Family",
    "FitPlan",
    "Leftovers",
    "LineEvidence",
    "Quantifier",
    "QuantityRequest",
    "SpectrumFit",
    "fit_elements",
    "fit_spectrum",
    "known_families",
    "leftovers",
    "line_evidence",
    "parse_composition",
    "plan_fit",
    "prepare_fit",
    "quantify",
    "scale_from_standard",
]
