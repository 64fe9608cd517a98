import numpy as np
import pytest

from underpaint.calibrate import Calibration, calibrate, calibrated_instrument, describe_assumptions
from underpaint.data import EnergyAxis, Scan
from underpaint.errors import CalibrationError
from underpaint.physics.instrument import load_instrument


def test_a_picture_is_no_scan() -> None:
    with pytest.raises(CalibrationError, match="3 channels, and at least 64 are needed"):
        calibrate(Scan(np.ones((4, 5, 3)), name="photograph"))


def test_a_scan_without_counts_is_called_empty() -> None:
    with pytest.raises(CalibrationError, match="no counts"):
        calibrate(Scan(np.zeros((2, 2, 128)), name="dark"))


def test_usual_values_in_an_instrument_are_noted() -> None:
    axis = EnergyAxis(0.02, 0.0, 1024)
    calibration = Calibration(axis, 0.08, 0.115, {}, {}, 0.0, 0.0, 0.0, ("Fe_K",), anode="Ag", scatter_angle_deg=120.0)
    assert describe_assumptions(calibration).startswith("Assumed, not measured: 40 kV, 0 cm of air in the")
    scan = Scan(np.ones((1, 1, 1024)), axis)
    assert "Assumed, not measured" in calibrated_instrument(scan, calibration).note
    assert "Assumed" not in calibrated_instrument(scan, calibration, load_instrument("elio")).note
