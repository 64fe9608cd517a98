"""What is recorded: energy axis, single spectra, lazy scans, background and the networks' transforms."""

from underpaint.spectrum.axis import DEFAULT_NETWORK_AXIS, XU_NETWORK_AXIS, EnergyAxis
from underpaint.spectrum.scan import Scan
from underpaint.spectrum.spectrum import Spectrum

__all__ = ["DEFAULT_NETWORK_AXIS", "XU_NETWORK_AXIS", "EnergyAxis", "Scan", "Spectrum"]
