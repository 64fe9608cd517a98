"""Functions that return matplotlib figures without changing the state of pyplot."""

from underpaint.display.plot.breakdown import breakdown_figure
from underpaint.display.plot.comparison import overlay, pigment_row, scatter
from underpaint.display.plot.figure import close_fit, save_png, to_png
from underpaint.display.plot.images import (
    detectability_gallery,
    element_gallery,
    element_map,
    pigment_map,
    shown_map,
    state_map,
    unlikeness_map,
)
from underpaint.display.plot.layers import place_gallery, thickness_map
from underpaint.display.plot.spectra import spectrum
from underpaint.physics.atomic import line_labels, siegbahn

__all__ = [
    "breakdown_figure",
    "close_fit",
    "detectability_gallery",
    "element_gallery",
    "element_map",
    "line_labels",
    "overlay",
    "pigment_map",
    "pigment_row",
    "place_gallery",
    "save_png",
    "scatter",
    "shown_map",
    "siegbahn",
    "spectrum",
    "state_map",
    "thickness_map",
    "to_png",
    "unlikeness_map",
]
