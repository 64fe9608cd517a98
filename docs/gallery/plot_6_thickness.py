"""
Thickness of the uppermost paint, with its interval
===================================================

The network gives a thickness with a 90 % interval. Where the spectrum does not determine it, the interval spans orders
of magnitude. Each dot is a pixel of a virtual panel with known thickness.
"""

import matplotlib.pyplot as plt
import numpy as np

import underpaint as up
from underpaint.simulate import PanelSettings

panel = up.make_panel(PanelSettings(recipe="fig7", cell_pixels=3, gap_pixels=0))
results = up.identify(panel.scan, calibrated=False)
low, median, high = (results.thickness.sel(quantile=at).values.ravel() for at in (0.05, 0.5, 0.95))
true = panel.truth["top_thickness_um"].ravel()
held = np.mean((low <= true) & (true <= high))

figure, axes = plt.subplots(figsize=(5.5, 5), layout="constrained")
axes.errorbar(true, median, yerr=(median - low, high - median), fmt=".", alpha=0.35, linewidth=0.8)
axes.axline((10, 10), slope=1, color="black", linewidth=0.8)
axes.set(xscale="log", yscale="log", xlabel="true thickness, um", ylabel="thickness from the network, um")
title = axes.set_title(f"{100 * held:.0f} % of the intervals hold the true value")
