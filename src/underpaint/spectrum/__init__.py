"""What is recorded: energy axis, single spectra, lazy scans, background and the networks' transforms."""

from underpaint.spectrum._survey import READERS, Survey, survey
from underpaint.spectrum.axis import DEFAULT_NETWORK_AXIS, XU_NETWORK_AXIS, EnergyAxis
from underpaint.spectrum.rebin import rebin, rebin_matrix, rebin_scan, sum_scans
from underpaint.spectrum.scan import Scan, sound_spectra
from underpaint.spectrum.spectrum import Spectrum

__all__ = [
    "DEFAULT_NETWORK_AXIS",
    "READERS",
    "XU_NETWORK_AXIS",
    "EnergyAxis",
    "Scan",
    "Spectrum",
    "Survey",
    "rebin",
    "rebin_matrix",
    "rebin_scan",
    "sound_spectra",
    "sum_scans",
    "survey",
]
