"""The file's axis is a strong prior: refined where it explains the lines, overruled by overwhelming evidence alone."""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from test_calibrate import PALETTES, expected_spectrum

from underpaint.calibrate import Calibration, calibrate
from underpaint.calibrate._peaks import recorded_channels
from underpaint.calibrate._refine import LineFit, Response, regress_axis
from underpaint.data import EnergyAxis, Scan
from underpaint.errors import CalibrationError

Array = NDArray[np.float64]
SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
BRUKER = EnergyAxis(0.009999, -0.955, 4096)
WHITE = PALETTES["lead white, vermilion, chalk"]


def spectrum(axis: EnergyAxis, areas: dict[str, float], counts: float = 3e6, zero_peak: float = 0.0) -> Array:
    expected = counts * expected_spectrum(axis, 0.08, 0.115, areas)
    expected += zero_peak * np.exp(-0.5 * (axis.energy_kev / 0.04) ** 2)
    return np.asarray(np.random.default_rng(7).poisson(expected), dtype=np.float64)


def calibrated(counts: Array, axis: EnergyAxis | None) -> Calibration | None:
    """Return the calibration, None where it cannot tell."""
    try:
        return calibrate(Scan(counts[None, None, :], axis))
    except CalibrationError:
        return None


def assert_right(calibration: Calibration | None, true: EnergyAxis) -> None:
    assert calibration is not None
    assert calibration.axis.gain_kev == pytest.approx(true.gain_kev, rel=2e-3)
    assert calibration.axis.zero_kev == pytest.approx(true.zero_kev, abs=0.020)


def test_a_zero_peak_says_where_zero_is() -> None:
    counts = spectrum(BRUKER, WHITE, zero_peak=2e5)
    assert_right(calibrated(counts, None), BRUKER)
    assert_right(calibrated(counts, EnergyAxis(0.010, -0.960, 4096)), BRUKER)


@pytest.mark.parametrize("factor", [2.0, 0.87])
def test_many_lines_overrule_an_axis_that_explains_none(factor: float) -> None:
    true = EnergyAxis(0.02, -0.02, 2048)
    assert_right(calibrated(spectrum(true, WHITE), EnergyAxis(factor * 0.02, 0.0, 2048)), true)


@pytest.mark.parametrize("areas", [{"Cu_K": 1.0}, {"Fe_K": 1.0}, {"Cu_K": 1.0, "Ni_K": 0.3}], ids=str)
def test_few_lines_neither_replace_the_axis_nor_make_one(areas: dict[str, float]) -> None:
    counts = spectrum(BRUKER, areas, zero_peak=2e5)
    with_axis, alone = calibrated(counts, BRUKER), calibrated(counts, None)
    for calibration in (with_axis, alone):
        if calibration is not None:
            assert_right(calibration, BRUKER)


def test_what_no_line_bears_out_is_left_to_the_file() -> None:
    axis = EnergyAxis(0.01, -0.4, 2048)
    with pytest.raises(CalibrationError, match="neither confirm the file's axis nor prove another axis"):
        calibrate(Scan(spectrum(axis, {"Fe_K": 1.0})[None, None, :], EnergyAxis(0.0125, -0.4, 2048)))


def test_a_cropped_spectrum_is_read_by_its_axis() -> None:
    full_axis = EnergyAxis(0.01, 0.0, 4096)
    counts = spectrum(full_axis, PALETTES["copper green on lead"])[400:1500]
    cropped = EnergyAxis(0.01, 4.0, counts.size)
    assert_right(calibrated(counts, cropped), cropped)


def test_noise_overflow_and_padding_are_no_spectrum() -> None:
    counts = np.full(1000, 50.0)
    counts[:10], counts[10:18] = 0.0, [9e4, 5e4, 9e3, 2e3, 400.0, 90.0, 60.0, 40.0]
    counts[900] = 1e5
    counts[901:] = 0.0
    recorded = recorded_channels(counts)
    assert 15 <= recorded.start <= 18
    assert recorded.stop == 900
    faint = np.where(np.arange(1000) < 700, 50.0, 0.0)
    faint[700:750] = np.linspace(50.0, 0.0, 50)
    assert recorded_channels(faint).stop == 1000


def test_a_prior_decides_only_what_the_lines_leave_open() -> None:
    prior, true = EnergyAxis(0.02, 0.0, 2048), Response(0.0202, -0.03, 0.08, 0.115)

    def line(energy_kev: float) -> LineFit:
        channel = (energy_kev - true.zero_kev) / true.gain_kev
        return LineFit("Fe-KL3", energy_kev, 0.0, 1e-3, channel, 1e5, 100.0, is_blended=False)

    many, error = regress_axis([line(energy) for energy in (3.7, 4.5, 6.4, 8.0, 10.5, 12.6)], true, prior)
    assert many.gain_kev == pytest.approx(true.gain_kev, rel=1e-3)
    assert np.sqrt(error[0, 0]) < 1e-3 * true.gain_kev
    with_prior, _ = regress_axis([line(6.4)], true, prior)
    alone, wide = regress_axis([line(6.4), line(7.06)], true)
    assert abs(with_prior.gain_kev / prior.gain_kev - 1) < 0.01
    assert np.sqrt(wide[0, 0]) > 1.5e-3 * alone.gain_kev


def msa(path: Path) -> tuple[Array, EnergyAxis]:
    text = path.read_text(encoding="latin-1")
    gain, zero = (
        float(re.search(rf"#{name}\s*:\s*(\S+)", text)[1])  # type: ignore[index]
        for name in ("XPERCHAN", "OFFSET")
    )
    body = re.split(r"#SPECTRUM.*\n", text)[1].split("#")[0]
    values = np.asarray([float(value) for value in re.findall(r"[-+.\deE]+", body)])
    counts = values if "#DATATYPE    : Y\n" in text else values[1::2]
    # at the edge of the zero peak the file has small negative residues
    return np.maximum(counts, 0.0), EnergyAxis(gain, zero, counts.size)


@cache
def with_the_axis_of_the_file(name: str) -> Calibration | None:
    return calibrated(*msa(SHARED / name))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the measured data are not beside the repository")
@pytest.mark.parametrize(
    "name",
    [
        "bruker_m4/Cu_50kv_50_ma_Rh_vac_D1.msa",
        "bruker_m4/Fe_50kv_50_ma_Rh_vac_D1.msa",
        "bruker_m4/Steel_50kv_50_ma_Rh_vac_D1.msa",
        "bruker_m4/Acrylic_50kv_50_ma_Rh_vac_D1.msa",
        "pure_elements/Cu.txt",
        "pure_elements/stainless_steel.txt",
        "pure_elements/Al.txt",
    ],
)
def test_measured_metals_and_plastic_are_right_or_left_alone(name: str) -> None:
    counts, axis = msa(SHARED / name)
    for calibration in (with_the_axis_of_the_file(name), calibrated(counts, None)):
        if calibration is not None:
            assert_right(calibration, axis)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the measured data are not beside the repository")
@pytest.mark.parametrize("metal", ["Cu", "Fe", "Steel"])
def test_the_axis_of_a_common_scanner_is_borne_out(metal: str) -> None:
    name = f"bruker_m4/{metal}_50kv_50_ma_Rh_vac_D1.msa"
    _, axis = msa(SHARED / name)
    assert_right(with_the_axis_of_the_file(name), axis)


def test_channels_wider_than_are_searched_are_left_to_the_file() -> None:
    axis = EnergyAxis(0.1, 0.0, 256)
    counts = spectrum(axis, {"Sr_K": 1.0, "Zr_K": 0.3, "Se_K": 0.5, "Pb_L": 0.5})
    for factor in (1.0, 0.87):
        assert calibrated(counts, EnergyAxis(factor * axis.gain_kev, 0.0, axis.n_channel)) is None
    with pytest.raises(CalibrationError, match="no gain from 4 to 62 eV gives its peaks the width"):
        calibrate(Scan(counts[None, None, :], None))
