"""Materials: pigments, the pigment library, paints, layers and stratigraphies."""

from underpaint.physics.materials.formula import mass_fractions, parse_formula
from underpaint.physics.materials.library import (
    DEFAULT_PALETTE,
    PIGMENT_SHARE,
    Library,
    Palette,
    Pigment,
    PigmentGroup,
    library,
    load_palette,
    mix_elements,
    palette_names,
    pigment_to_binder_in_oil,
    save_palette,
)
from underpaint.physics.materials.paint import Paint, coating_layer, ground_layer, pigment_share, support_layer
from underpaint.physics.materials.stratigraphy import Layer, Stratigraphy

__all__ = [
    "DEFAULT_PALETTE",
    "PIGMENT_SHARE",
    "Layer",
    "Library",
    "Paint",
    "Palette",
    "Pigment",
    "PigmentGroup",
    "Stratigraphy",
    "coating_layer",
    "ground_layer",
    "library",
    "load_palette",
    "mass_fractions",
    "mix_elements",
    "palette_names",
    "parse_formula",
    "pigment_share",
    "pigment_to_binder_in_oil",
    "save_palette",
    "support_layer",
]
