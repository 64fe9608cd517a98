"""Calibration by hand: the axis through lines that a person assigns to channels."""

from typing import Any

import numpy as np
import pytest

from underpaint.calibrate import axis_through_lines, instrument_by_hand, peak_channels
from underpaint.data import Scan
from underpaint.errors import CalibrationError
from underpaint.physics.instrument import load_instrument
from underpaint.simulate import PanelSettings, make_panel


def test_three_lines_give_the_least_squares_axis_and_their_residuals() -> None:
    channel, energy_kev = np.array([100.0, 300.0, 500.0]), np.array([2.003, 4.0, 6.003])
    axis, residual_ev = axis_through_lines(channel.tolist(), energy_kev.tolist(), 1024)
    assert axis.gain_kev == pytest.approx(0.01)
    assert axis.zero_kev == pytest.approx(1.002)
    assert residual_ev == pytest.approx([-1.0, 2.0, -1.0])


@pytest.mark.parametrize(
    ("channel", "energy_kev", "words"),
    [
        ([], [], "peaks at 0 channels"),
        ([10.0], [1.0], "peaks at 1 channels"),
        ([10.0, 10.0], [1.0, 2.0], "peaks at 1 channels"),
        ([10.0, 2000.0], [1.0, 2.0], "from 0 to 1023"),
        ([10.0, float("nan")], [1.0, 2.0], "from 0 to 1023"),
        ([10.0, 20.0], [1.0, 6400.0], "6400 keV"),
        ([10.0, 20.0], [1.0, -2.0], "-2 keV"),
        ([10.0, 20.0], [1.0, float("nan")], "nan keV"),
        ([10.0, 500.0], [6.0, 1.0], "eV per channel"),
        ([10.0, 11.0], [1.0, 9.0], "eV per channel"),
    ],
)
def test_lines_that_give_no_axis_are_refused_in_words(channel: Any, energy_kev: Any, words: str) -> None:
    with pytest.raises(CalibrationError, match=words):
        axis_through_lines(channel, energy_kev, 1024)


def test_peaks_of_a_flat_spectrum_are_none() -> None:
    assert peak_channels(np.zeros(1024)).size == 0


def test_an_axis_set_roughly_is_refined_and_one_that_nothing_confirms_is_used_as_set() -> None:
    panel = make_panel(PanelSettings(recipe="fig7", cell_pixels=1, gap_pixels=1)).scan
    total = panel.counts.sum(axis=(0, 1)).compute()
    scan = Scan(total[None, None, :], name="panel")
    assert panel.axis is not None
    peaks = peak_channels(total)
    iron = panel.axis.channel(6.404)
    assert abs(peaks - iron).min() < 1.0
    axis, _ = axis_through_lines(
        [panel.axis.channel(3.69) + 1, panel.axis.channel(10.55) - 1], [3.69, 10.55], total.size
    )
    base = load_instrument("elio")
    instrument, calibration = instrument_by_hand(scan, axis, base)
    assert calibration is not None
    assert instrument.detector.gain_kev == pytest.approx(panel.axis.gain_kev, rel=5e-4)
    assert instrument.tube == base.tube

    empty = Scan(np.ones((1, 1, total.size)), name="empty")
    instrument, calibration = instrument_by_hand(empty, axis)
    assert calibration is None
    assert (instrument.detector.gain_kev, instrument.detector.zero_kev) == (axis.gain_kev, axis.zero_kev)
    assert "set by hand" in instrument.note
