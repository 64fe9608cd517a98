"""Atomic data, materials of paintings, instruments, and the forward model that computes spectra of layers."""
