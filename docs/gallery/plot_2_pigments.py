"""
Pigments at the surface and below
=================================

Probabilities of four groups by the shipped network, at the surface and below it. White pixels have no answer.
"""

import underpaint as up
from underpaint.simulate import PanelSettings

panel = up.make_panel(PanelSettings(recipe="fig7", cell_pixels=3, gap_pixels=1))
results = up.identify(panel.scan, calibrated=False)
groups = ["mercury_red", "lead_pigment", "iron_pigment", "copper_green_blue"]
shown = results.probability.sel(group=groups, place=["surface", "below"])
grid = shown.plot.imshow(row="place", col="group", origin="upper", vmin=0, vmax=1, aspect=1.3, size=2.2)
