"""Energy axis, resolution, tube and drift of a scan, found from its own lines and scatter."""

from underpaint.calibrate.calibration import (
    Calibration,
    assumed_in_words,
    calibrate,
    calibrated_instrument,
    calibration_notes,
    contradiction,
    found_in_words,
    with_calibration,
)
from underpaint.calibrate.detectors import line_ratios
from underpaint.calibrate.drift import Drift, find_drift, without_drift

__all__ = [
    "Calibration",
    "Drift",
    "assumed_in_words",
    "calibrate",
    "calibrated_instrument",
    "calibration_notes",
    "contradiction",
    "find_drift",
    "found_in_words",
    "line_ratios",
    "with_calibration",
    "without_drift",
]
