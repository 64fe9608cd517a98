"""HDF5: shared parts of its readers, and scans and virtual panels written by ``underpaint``."""

from underpaint.io.hdf5._facts import read_settings, read_truth, save_scan

__all__ = ["read_settings", "read_truth", "save_scan"]
