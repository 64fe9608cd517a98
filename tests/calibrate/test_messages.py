import numpy as np
import pytest

from underpaint.calibrate import calibrate
from underpaint.errors import CalibrationError
from underpaint.spectrum import Scan


def test_a_picture_is_no_scan() -> None:
    with pytest.raises(CalibrationError, match="3 channels; a spectrum has at least 64"):
        calibrate(Scan(np.ones((4, 5, 3)), name="photograph"))


def test_a_scan_without_counts_is_called_empty() -> None:
    with pytest.raises(CalibrationError, match="no counts at all"):
        calibrate(Scan(np.zeros((2, 2, 128)), name="dark"))
