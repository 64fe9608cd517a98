"""Energy axis, resolution and anode of a scan, found from its own lines."""

from underpaint.calibrate.calibration import (
    Calibration,
    calibrate,
    calibrated_instrument,
    sum_and_max,
    with_calibration,
)

__all__ = ["Calibration", "calibrate", "calibrated_instrument", "sum_and_max", "with_calibration"]
