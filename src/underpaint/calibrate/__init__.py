"""Estimate of a scan's energy axis, resolution, X-ray tube and axis drift from its lines and scattered radiation."""

from underpaint.calibrate._excitation import Beam, beam_contradiction, find_beam
from underpaint.calibrate._knowledge import (
    BEAM_RANGE_KEV,
    Knowledge,
    calibrated_instrument,
    contradiction,
    deviation_note,
    merge_knowledge,
)
from underpaint.calibrate.calibration import (
    Calibration,
    DoubtedAxisError,
    calibrate,
    calibration_notes,
    describe_assumptions,
    line_ratios,
    with_calibration,
)
from underpaint.calibrate.drift import Drift, find_drift, without_drift
from underpaint.calibrate.resolve import (
    ORIGINS,
    CalibratedScan,
    axis_through_lines,
    check_beam,
    check_instrument,
    instrument_by_hand,
    peak_channels,
    resolve_energy_axis,
)

__all__ = [
    "BEAM_RANGE_KEV",
    "ORIGINS",
    "Beam",
    "CalibratedScan",
    "Calibration",
    "DoubtedAxisError",
    "Drift",
    "Knowledge",
    "axis_through_lines",
    "beam_contradiction",
    "calibrate",
    "calibrated_instrument",
    "calibration_notes",
    "check_beam",
    "check_instrument",
    "contradiction",
    "describe_assumptions",
    "deviation_note",
    "find_beam",
    "find_drift",
    "instrument_by_hand",
    "line_ratios",
    "merge_knowledge",
    "peak_channels",
    "resolve_energy_axis",
    "with_calibration",
    "without_drift",
]
