"""
What a tube emits
=================

The pictures show source spectra at the sample for the preset instruments: continua as curves, anode lines as bars.
"""

import matplotlib.pyplot as plt

from underpaint.physics.forward import source_spectrum
from underpaint.physics.instrument import load_instrument, preset_names

figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
for name in preset_names():
    instrument = load_instrument(name)
    energy_kev, photons, width_kev = source_spectrum(instrument)
    share, is_line = photons / photons.sum(), width_kev == 0
    density = share[~is_line] / width_kev[~is_line]
    label = f"{name}: {instrument.tube.anode}, {instrument.tube.voltage_kv:g} kV"
    (curve,) = axes.plot(energy_kev[~is_line], density, label=label, linewidth=0.9)
    axes.vlines(energy_kev[is_line], 1e-5, share[is_line], color=curve.get_color(), linewidth=0.9)
axes.set(yscale="log", ylim=(1e-5, 1), xlabel="energy, keV", ylabel="share of the photons: per keV, and per line")
legend = axes.legend()
