"""Atomic data, materials of paintings, instruments, and the forward model: from layers to spectra."""
