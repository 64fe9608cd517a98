"""HDF5: what its readers share, and the scans and virtual panels that ``underpaint`` writes."""

from underpaint.io.hdf5._facts import read_settings, read_truth, save_scan

__all__ = ["read_settings", "read_truth", "save_scan"]
