"""Distributions of stratigraphies -> labelled spectra; mock-up recipes -> virtual panels."""

from underpaint.synth.draw import RandomStratigraphies, StratigraphySampler
from underpaint.synth.explicit import ExplicitSettings, load_job, simulate, simulate_spectra
from underpaint.synth.labels import visibility
from underpaint.synth.library import LibrarySettings, simulate_library
from underpaint.synth.outputs import Outputs, outputs_for
from underpaint.synth.panel import Panel, PanelSettings, make_panel, save_panel
from underpaint.synth.recipes import PanelRecipe, load_recipe, paper_classes, paper_mixtures

__all__ = [
    "ExplicitSettings",
    "LibrarySettings",
    "Outputs",
    "Panel",
    "PanelRecipe",
    "PanelSettings",
    "RandomStratigraphies",
    "StratigraphySampler",
    "load_job",
    "load_recipe",
    "make_panel",
    "outputs_for",
    "paper_classes",
    "paper_mixtures",
    "save_panel",
    "simulate",
    "simulate_library",
    "simulate_spectra",
    "visibility",
]
