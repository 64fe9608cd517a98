"""Xu et al. 2022, run again: its simulation set, virtual mock-ups, training, tables and figures beside the paper's."""

from underpaint.reproduce.measured import read_mockups
from underpaint.reproduce.mockups import Mockups, make_mockups
from underpaint.reproduce.plan import Plan, quick
from underpaint.reproduce.simulation import mockup_library, simulation_set
from underpaint.reproduce.studies import STUDIES, reproduce

__all__ = [
    "STUDIES",
    "Mockups",
    "Plan",
    "make_mockups",
    "mockup_library",
    "quick",
    "read_mockups",
    "reproduce",
    "simulation_set",
]
