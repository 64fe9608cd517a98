"""Element maps of a scan: net counts of line families and their uncertainties, from a linear fit."""

from underpaint.elements._families import CANDIDATES
from underpaint.elements.element_sources import known_families
from underpaint.elements.evidence import LineEvidence, line_evidence
from underpaint.elements.fit import ElementFit, fit_elements, plan_all_families, prepare_fit, valid_part
from underpaint.elements.fixed_fit import FitPlan, plan_fit
from underpaint.elements.quantities import Quantifier, QuantityRequest, quantify
from underpaint.elements.spectrum_fit import Family, SpectrumFit, fit_spectrum
from underpaint.elements.standards import parse_composition, scale_from_standard
from underpaint.elements.unlikeness import Unlikeness, unlikeness
from underpaint.elements.variable_fit import Evidence, VariableFit

__all__ = [
    "CANDIDATES",
    "ElementFit",
    "Evidence",
    "Family",
    "FitPlan",
    "LineEvidence",
    "Quantifier",
    "QuantityRequest",
    "SpectrumFit",
    "Unlikeness",
    "VariableFit",
    "fit_elements",
    "fit_spectrum",
    "known_families",
    "line_evidence",
    "parse_composition",
    "plan_all_families",
    "plan_fit",
    "prepare_fit",
    "quantify",
    "scale_from_standard",
    "unlikeness",
    "valid_part",
]
