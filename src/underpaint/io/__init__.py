"""Reading of scans and spectra in all supported formats, and writing of results."""

from underpaint.data import Survey, survey
from underpaint.io.convert import convert_scan, photographs_of, save_photographs
from underpaint.io.describe import ScanInfo, describe, describe_all, scan_info, summarise_scan
from underpaint.io.hdf5 import read_settings, read_truth, save_scan
from underpaint.io.load import load, load_all, read_spectrum, split_location
from underpaint.io.readers import Format, formats
from underpaint.io.results.folder import ResultFolder, is_finished, recover, result_folder
from underpaint.io.results.nexus import (
    read_results,
    read_summary,
    write_results,
    write_tiff,
)
from underpaint.io.results.stored import BlockStore, StoredMaps

__all__ = [
    "BlockStore",
    "Format",
    "ResultFolder",
    "ScanInfo",
    "StoredMaps",
    "Survey",
    "convert_scan",
    "describe",
    "describe_all",
    "formats",
    "is_finished",
    "load",
    "load_all",
    "photographs_of",
    "read_results",
    "read_settings",
    "read_spectrum",
    "read_summary",
    "read_truth",
    "recover",
    "result_folder",
    "save_photographs",
    "save_scan",
    "scan_info",
    "split_location",
    "summarise_scan",
    "survey",
    "write_results",
    "write_tiff",
]
