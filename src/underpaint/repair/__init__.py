"""Repairs of scans before the analysis: rows, pixels, live times, sum peaks, cropping, binning, mosaics."""

from underpaint.repair.mirrored import find_row_direction, note_mirrored_rows, with_rows_mirrored
from underpaint.repair.mosaic import Tile, join_tiles, positions_of, read_positions
from underpaint.repair.pixels import (
    binned,
    cropped,
    find_faulty_pixels,
    masked,
    with_equal_live_time,
    with_pixels_repaired,
    without_sum_peaks,
)
from underpaint.repair.record import Step, fingerprint
from underpaint.repair.rows import RowShift, find_row_shift, with_rows_aligned

__all__ = [
    "RowShift",
    "Step",
    "Tile",
    "binned",
    "cropped",
    "find_faulty_pixels",
    "find_row_direction",
    "find_row_shift",
    "fingerprint",
    "join_tiles",
    "masked",
    "note_mirrored_rows",
    "positions_of",
    "read_positions",
    "with_equal_live_time",
    "with_pixels_repaired",
    "with_rows_aligned",
    "with_rows_mirrored",
    "without_sum_peaks",
]
