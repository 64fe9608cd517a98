"""What is recorded: energy axis, single spectra, lazy scans, background and the networks' transforms."""

import sys

if "xarray" not in sys.modules:
    # dask.array would import xarray, and with it pandas, only to know its arrays when it is given one
    sys.modules["xarray"] = None  # type: ignore[assignment]
    import dask.array  # noqa: F401

    del sys.modules["xarray"]

from underpaint.data._survey import READERS, Survey, survey
from underpaint.data.axis import DEFAULT_NETWORK_AXIS, XU_NETWORK_AXIS, EnergyAxis
from underpaint.data.rebin import rebin, rebin_matrix, rebin_scan, sum_scans
from underpaint.data.scan import Scan, sound_spectra
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
    "sound_spectra",
    "sum_scans",
    "survey",
]
