"""
What a spectrum consists of
===========================

The forward model gives the origin of each count: the element, the layer, and how often the radiation was scattered
before it left the paint. The example is vermilion over lead white on chalk, recorded by an ELIO.
"""

import matplotlib.pyplot as plt
import numpy as np

from underpaint.physics.forward.breakdown import breakdown
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import Paint, Stratigraphy, ground_layer

layers = (Paint({"vermilion": 1.0}).layer(30.0), Paint({"lead_white": 1.0}).layer(100.0), ground_layer("chalk", 150.0))
parts = breakdown(Stratigraphy(layers), load_instrument("elio"), counts=1e5)

figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
energy_kev = parts.axis.energy_kev
axes.fill_between(energy_kev, np.maximum(parts.total, 1e-3), color="0.85", label="all")
for depth, counts in parts.by_layer().items():
    name = "scattered light" if depth is None else parts.layer_names[depth]
    axes.plot(energy_kev, counts, label=name, linewidth=0.9)
axes.set(yscale="log", xlim=(1, 25), ylim=(0.1, None), xlabel="energy, keV", ylabel="expected counts of 1e5")
legend = axes.legend()
