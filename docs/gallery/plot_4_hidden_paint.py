"""
How deep a paint can lie
========================

The lines of buried vermilion become weaker as the lead white above it gets thicker. Soft lines disappear first: sulphur
is absorbed by a few micrometres, while mercury's L lines are still detected where no red is visible.
"""

import matplotlib.pyplot as plt
import numpy as np

from underpaint.physics.forward import axis_of, emit, render
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import Paint, Stratigraphy, ground_layer

elio = load_instrument("elio")
thickness_um = np.array([1.0, 5.0, 20.0, 60.0])
below = (Paint({"vermilion": 1.0}).layer(20.0), ground_layer("chalk", 150.0))
samples = [Stratigraphy((Paint({"lead_white": 1.0}).layer(float(um)), *below)) for um in thickness_um]
counts = np.asarray(render(emit(samples, elio), elio.detector))
counts *= 1e5 / counts.sum(axis=1, keepdims=True)

figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
for um, spectrum in zip(thickness_um, counts, strict=True):
    axes.semilogy(axis_of(elio.detector).energy_kev, spectrum, label=f"{um:g} um", linewidth=0.9)
axes.set(xlim=(1, 16), ylim=(0.5, None), xlabel="energy, keV", ylabel="expected counts of 1e5")
legend = axes.legend(title="lead white")
