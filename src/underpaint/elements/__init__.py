"""Scan -> element maps: net counts of each line family, by a linear fit, with their uncertainties."""

from underpaint.elements._families import CANDIDATES
from underpaint.elements.fit import FitPlan, fit_elements, plan_fit

__all__ = ["CANDIDATES", "FitPlan", "fit_elements", "plan_fit"]
