"""Drift along the rows is found, and taken out again."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from underpaint.calibrate import Calibration, calibrate, find_drift, line_ratios, without_drift
from underpaint.calibrate._patterns import line_groups
from underpaint.data import EnergyAxis, Scan
from underpaint.data.peaks import peak_counts, resolution_fwhm_kev
from underpaint.errors import CalibrationError

AXIS = EnergyAxis(0.02, 0.01, 1024)
FAMILIES = ("Ca_K", "Fe_K", "Cu_K", "Zn_K", "Pb_L")
LINES = ("Ca-KL3", "Fe-KL3", "Cu-KL3", "Zn-KL3", "Pb-L3M5")
KNOWN = Calibration(AXIS, 0.08, 0.115, dict.fromkeys(LINES, 0.0), {}, 0.0, 0.0, 0.0, FAMILIES)


def row(axis: EnergyAxis, families: tuple[str, ...] = FAMILIES) -> NDArray[np.float64]:
    expected = np.full(axis.n_channel, 20.0)
    for family in families:
        for group in line_groups(family):
            width = resolution_fwhm_kev(group.energy_kev, 0.08, 0.115)
            expected += peak_counts(axis, group.energy_kev, 2e5 * group.photon_fraction, width)
    return expected


def scan(drift_ev: float) -> Scan:
    shifts = np.linspace(-0.5, 0.5, 8) * drift_ev
    rows = [row(EnergyAxis(AXIS.gain_kev, AXIS.zero_kev - 1e-3 * shift, AXIS.n_channel)) for shift in shifts]
    return Scan(np.random.default_rng(2).poisson(np.stack(rows)[:, None, :] / 2, size=(8, 2, AXIS.n_channel)))


def test_a_drift_is_found_and_taken_out() -> None:
    moving = scan(12.0)
    drift = find_drift(moving, KNOWN, n_block=4)
    assert drift.significant
    assert drift.span_ev == pytest.approx(12.0 * 6 / 7, abs=1.5)
    assert "drifts along the rows" in drift.describe()
    straight = without_drift(moving, KNOWN, drift)
    assert straight.axis == AXIS
    assert np.asarray(straight.counts.sum()) == pytest.approx(float(moving.counts.sum()), rel=1e-4)
    assert find_drift(straight, KNOWN, n_block=4).span_ev < 1.5


def test_a_drift_is_found_where_paints_lie_in_different_rows() -> None:
    """The axis of the whole follows the lines of some rows; those of the others are off in it, and that is no shape."""
    below, above = ("Ca_K", "Co_K", "Zn_K", "Pb_L"), ("Cr_K", "Fe_K", "Cu_K")
    shifts = [(families, shift) for families, shift in ((below, -20.0), (above, 20.0)) for _ in range(4)]
    axes = [EnergyAxis(AXIS.gain_kev, AXIS.zero_kev - 1e-3 * shift, AXIS.n_channel) for _, shift in shifts]
    rows = np.stack([row(axis, families) for axis, (families, _) in zip(axes, shifts, strict=True)])
    moving = Scan(np.random.default_rng(3).poisson(rows[:, None, :] / 2, size=(8, 2, AXIS.n_channel)))
    calibration = calibrate(moving)
    drift = find_drift(moving, calibration, n_block=4)
    assert drift.significant
    again = calibrate(without_drift(moving, calibration, drift))
    assert again.axis.gain_kev == pytest.approx(AXIS.gain_kev, rel=1e-3)
    assert max(map(abs, again.residual_ev.values())) < 5.0


def test_a_steady_scan_does_not_drift() -> None:
    drift = find_drift(scan(0.0), KNOWN, n_block=4)
    assert not drift.significant
    assert "is steady" in drift.describe()


def test_a_scan_of_other_channels_is_refused() -> None:
    with pytest.raises(CalibrationError, match="512 channels, and its calibration has 1024"):
        find_drift(Scan(np.ones((2, 2, 512))), KNOWN)


def test_detectors_are_compared_line_by_line() -> None:
    energy = {"Ca-KL3": 3.69, "Cu-KL3": 8.05, "Ar-KL3": 2.96}
    first = replace(KNOWN, line_counts={"Cu-KL3": 100.0, "Ca-KL3": 50.0}, line_energy_kev=energy)
    second = replace(KNOWN, line_counts={"Ca-KL3": 10.0, "Cu-KL3": 200.0, "Ar-KL3": 5.0}, line_energy_kev=energy)
    assert line_ratios([first, second]) == {"Ca-KL3": (1.0, 0.2), "Cu-KL3": (1.0, 2.0)}
    assert list(line_ratios([first, second])) == ["Ca-KL3", "Cu-KL3"]
