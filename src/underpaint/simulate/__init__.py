"""Simulation of labelled spectra: training libraries of random stratigraphies, and scans of virtual mock-up panels."""

from underpaint.simulate.draw import RandomStratigraphies, StratigraphySampler
from underpaint.simulate.explicit import load_job, simulate
from underpaint.simulate.jobs import LibrarySettings
from underpaint.simulate.labels import visibility
from underpaint.simulate.library import simulate_library
from underpaint.simulate.mockups import Panel, PanelSettings, make_panel, save_panel
from underpaint.simulate.outputs import Outputs, outputs_for
from underpaint.simulate.photons import read_photons
from underpaint.simulate.recipes import load_recipe, paper_classes, paper_mixtures

__all__ = [
    "LibrarySettings",
    "Outputs",
    "Panel",
    "PanelSettings",
    "RandomStratigraphies",
    "StratigraphySampler",
    "load_job",
    "load_recipe",
    "make_panel",
    "outputs_for",
    "paper_classes",
    "paper_mixtures",
    "read_photons",
    "save_panel",
    "simulate",
    "simulate_library",
    "visibility",
]
