"""Scan -> element maps: net counts of each line family, by a linear fit."""

from underpaint.elements.families import CANDIDATES, find_families
from underpaint.elements.fit import fit_elements

__all__ = ["CANDIDATES", "find_families", "fit_elements"]
