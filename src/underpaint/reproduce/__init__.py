"""Xu et al. 2022, run again: its simulation set, virtual mock-ups, training, and tables beside the paper's."""

from underpaint.reproduce.mockups import Mockups, make_mockups
from underpaint.reproduce.plan import Plan, quick
from underpaint.reproduce.simulation import mockup_library, simulation_set
from underpaint.reproduce.table3 import table3

__all__ = ["Mockups", "Plan", "make_mockups", "mockup_library", "quick", "simulation_set", "table3"]
