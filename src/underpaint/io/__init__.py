"""Files in and out: one file per format; scans and spectra in, results out."""

from underpaint.io.hdf5 import read_settings, read_truth, save_scan
from underpaint.io.load import load, load_all, read_spectrum, split_location
from underpaint.spectrum.rebin import sum_scans

__all__ = [
    "load",
    "load_all",
    "read_settings",
    "read_spectrum",
    "read_truth",
    "save_scan",
    "split_location",
    "sum_scans",
]
