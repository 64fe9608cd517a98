"""What is recorded: energy axis, single spectra, lazy scans, background and the networks' transforms."""

from underpaint.spectrum.axis import EnergyAxis
from underpaint.spectrum.scan import Scan
from underpaint.spectrum.spectrum import Spectrum

__all__ = ["EnergyAxis", "Scan", "Spectrum"]
