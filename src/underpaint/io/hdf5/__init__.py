"""Reading of HDF5 files, and writing of scans and virtual panels to HDF5 files."""

from underpaint.io.hdf5._facts import read_settings, read_truth, save_scan

__all__ = ["read_settings", "read_truth", "save_scan"]
