"""Xu et al. 2022, run again: simulation set, virtual mock-ups, training, tables and figures."""

from underpaint.lab.reproduction.measured import read_mockups
from underpaint.lab.reproduction.mockups import make_mockups
from underpaint.lab.reproduction.plan import Plan, quick
from underpaint.lab.reproduction.simulation import mockup_library, simulation_set
from underpaint.lab.reproduction.studies import STUDIES, reproduce

__all__ = [
    "STUDIES",
    "Plan",
    "make_mockups",
    "mockup_library",
    "quick",
    "read_mockups",
    "reproduce",
    "simulation_set",
]
