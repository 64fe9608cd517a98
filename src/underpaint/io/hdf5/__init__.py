"""HDF5: stacks of NeXus and PyMca, CRONO, XRF-Maps and PyXRF; and the virtual panels that ``underpaint`` writes."""

from underpaint.io.hdf5._read import read_hdf5
from underpaint.io.hdf5._write import read_settings, read_truth, save_scan

__all__ = ["read_hdf5", "read_settings", "read_truth", "save_scan"]
