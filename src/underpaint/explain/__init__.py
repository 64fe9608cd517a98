"""One spectrum -> the stratigraphies that could have made it, with intervals."""

from underpaint.explain.fit import StratigraphyFit, compare, fit_thickness

__all__ = ["StratigraphyFit", "compare", "fit_thickness"]
