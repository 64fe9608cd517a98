"""Drift along the rows is found, and taken out again."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from underpaint.calibrate import Calibration, Drift, calibrate, find_drift, line_ratios, without_drift
from underpaint.calibrate import drift as drift_module
from underpaint.calibrate._patterns import line_groups
from underpaint.calibrate._refine import LineFit
from underpaint.data import EnergyAxis, Scan
from underpaint.data.peaks import peak_counts, resolution_fwhm_kev
from underpaint.errors import CalibrationError

AXIS = EnergyAxis(0.02, 0.01, 1024)
FAMILIES = ("Ca_K", "Fe_K", "Cu_K", "Zn_K", "Pb_L")
LINES = ("Ca-KL3", "Fe-KL3", "Cu-KL3", "Zn-KL3", "Pb-L3M5")
KNOWN = Calibration(AXIS, 0.08, 0.115, dict.fromkeys(LINES, 0.0), {}, 0.0, 0.0, 0.0, FAMILIES)


def row(
    axis: EnergyAxis, families: tuple[str, ...] = FAMILIES, share: "dict[str, float] | None" = None
) -> NDArray[np.float64]:
    expected = np.full(axis.n_channel, 20.0)
    for family in families:
        for group in line_groups(family):
            width = resolution_fwhm_kev(group.energy_kev, 0.08, 0.115)
            photons = 2e5 * (share or {}).get(family, 1.0) * group.photon_fraction
            expected += peak_counts(axis, group.energy_kev, photons, width)
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


@pytest.mark.parametrize("drift_ev", [0.0, 10.0])
def test_lines_that_unknown_elements_shift_in_some_rows_are_no_drift(drift_ev: float) -> None:
    """Where calcium and lead are weak, tin and arsenic shift their lines by many eV; iron and copper stay."""
    shifts_ev = np.linspace(-0.5, 0.5, 8) * drift_ev
    last_rows = {"Ca_K": 0.03, "Sn_L": 0.05, "Pb_L": 0.03, "As_K": 0.05, "Zn_K": 0.0}
    families = (*FAMILIES, "Sn_L", "As_K")
    shares = [{"Sn_L": 0.0, "As_K": 0.0}] * 6 + [last_rows] * 2
    rows = [
        30 * row(EnergyAxis(AXIS.gain_kev, AXIS.zero_kev - 1e-3 * shift_ev, AXIS.n_channel), families, share)
        for shift_ev, share in zip(shifts_ev, shares, strict=True)
    ]
    spectra = np.random.default_rng(4).poisson(np.stack(rows)[:, None, :] / 2, size=(8, 2, AXIS.n_channel))
    drift = find_drift(Scan(spectra), KNOWN, n_block=4)
    block_shifts_ev = shifts_ev.reshape(4, 2).mean(axis=1)
    assert drift.significant == (drift_ev > 0)
    assert np.all(np.abs(drift.shift_ev - block_shifts_ev) < np.maximum(3.0 * drift.error_ev, 0.1 * drift_ev))
    assert drift.error_ev.max() < 1.0


@pytest.mark.parametrize("drift_ev", [0.0, 10.0])
def test_two_displaced_lines_do_not_move_the_axis(drift_ev: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of some rows of the virtual panel, without drift: calcium and lead are weak there, and overlapped."""
    measured = {"Ca-KL3": (3.69, -14.07, 0.8), "Fe-KL3": (6.40, 0.05, 0.06), "Cu-KL3": (8.04, 0.1, 0.18)}
    measured |= {"Zn-KL3": (8.63, -0.06, 0.07), "Pb-L3M5": (10.55, 7.9, 0.33)}
    lines = [
        LineFit(name, energy_kev, 1e-3 * (offset_ev + drift_ev), 1e-3 * error_ev, 0.0, 1e4, 100.0, is_blended=False)
        for name, (energy_kev, offset_ev, error_ev) in measured.items()
    ]
    monkeypatch.setattr(drift_module, "measure_lines", lambda *_: lines)
    drift = find_drift(scan(0.0), KNOWN, n_block=1)
    assert drift.shift_ev[0] == pytest.approx(drift_ev, abs=0.5)
    assert drift.error_ev[0] < 1.0


def test_a_block_with_a_large_error_shows_no_drift() -> None:
    shifts_ev, errors_ev = np.asarray([0.3, -2.6, 0.2, 0.0]), np.asarray([0.15, 2.5, 0.2, 0.2])
    drift = Drift(np.arange(4), np.arange(1, 5), shifts_ev, errors_ev, np.zeros(4))
    assert not drift.significant
    assert "is steady along the rows: -2.6 ± 2.5 to +0.3 ± 0.1 eV at 6.4 keV" in drift.describe()
    assert replace(drift, shift_ev=np.asarray([0.3, -2.6, 9.2, 0.0])).significant


def test_a_scan_of_other_channels_is_refused() -> None:
    with pytest.raises(CalibrationError, match="512 channels, and its calibration has 1024"):
        find_drift(Scan(np.ones((2, 2, 512))), KNOWN)


def test_detectors_are_compared_line_by_line() -> None:
    energy = {"Ca-KL3": 3.69, "Cu-KL3": 8.05, "Ar-KL3": 2.96}
    first = replace(KNOWN, line_counts={"Cu-KL3": 100.0, "Ca-KL3": 50.0}, line_energy_kev=energy)
    second = replace(KNOWN, line_counts={"Ca-KL3": 10.0, "Cu-KL3": 200.0, "Ar-KL3": 5.0}, line_energy_kev=energy)
    assert line_ratios([first, second]) == {"Ca-KL3": (1.0, 0.2), "Cu-KL3": (1.0, 2.0)}
    assert list(line_ratios([first, second])) == ["Ca-KL3", "Cu-KL3"]
