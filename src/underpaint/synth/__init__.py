"""Distributions of stratigraphies -> labelled spectra; mock-up recipes -> virtual panels."""

from underpaint.synth.draw import RandomStratigraphies, StratigraphySampler
from underpaint.synth.explicit import ExplicitSettings, load_job, simulate, simulate_spectra
from underpaint.synth.jobs import LibrarySettings
from underpaint.synth.labels import visibility
from underpaint.synth.library import simulate_library
from underpaint.synth.outputs import Outputs, outputs_for
from underpaint.synth.panel import Panel, PanelSettings, make_panel, save_panel
from underpaint.synth.photons import Photons, read_photons
from underpaint.synth.recipes import PanelRecipe, load_recipe, paper_classes, paper_mixtures

__all__ = [
    "ExplicitSettings",
    "LibrarySettings",
    "Outputs",
    "Panel",
    "PanelRecipe",
    "PanelSettings",
    "Photons",
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
    "simulate_spectra",
    "visibility",
]
