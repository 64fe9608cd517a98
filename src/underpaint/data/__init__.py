"""Data model: energy axes, spectra, lazy scans, results, background and transforms of network inputs."""

from underpaint.data.axis import DEFAULT_NETWORK_AXIS, XU_NETWORK_AXIS, EnergyAxis
from underpaint.data.rebin import rebin, rebin_matrix, rebin_scan, sum_scans
from underpaint.data.scan import READERS, Scan, Survey, require_scan, survey, valid_spectra
from underpaint.data.spectrum import Spectrum

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
    "require_scan",
    "sum_scans",
    "survey",
    "valid_spectra",
]
