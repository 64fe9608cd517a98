"""Gain, zero and noise are recovered from spectra made of tabulated lines, and from a real scan."""

from pathlib import Path

import numpy as np
import pytest
import xraylib
from numpy.typing import NDArray
from typer.testing import CliRunner

from underpaint.calibrate import Calibration, calibrate, calibrated_instrument, contradiction, with_calibration
from underpaint.cli import app
from underpaint.data import EnergyAxis, Scan
from underpaint.errors import CalibrationError, ScanError
from underpaint.io import load
from underpaint.physics.instrument import load_instrument, save_instrument

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
AURORA = SHARED / "data" / "aurora" / "prova1.npz"
FWHM_PER_SIGMA = 2.354820045

LINES = {
    "K": ["KL2", "KL3", "KM2", "KM3", "KM5", "KN2", "KN3"],
    "L": ["L1M2", "L1M3", "L1N2", "L1N3", "L2M1", "L2M4", "L2N1", "L2N4", "L2O4",
          "L3M1", "L3M4", "L3M5", "L3N1", "L3N4", "L3N5"],
}  # fmt: skip

PALETTES = {
    "lead white, vermilion, chalk": {"Ca_K": 0.5, "Fe_K": 0.3, "Hg_L": 1.0, "Pb_L": 3.0, "Sr_K": 0.05},
    "zinc and chromium": {"Ca_K": 0.3, "Ba_L": 0.4, "Cr_K": 1.0, "Fe_K": 0.2, "Zn_K": 3.0, "Pb_L": 0.5},
    "copper green on lead": {"Ar_K": 0.05, "Ca_K": 0.2, "Mn_K": 0.05, "Fe_K": 0.3, "Cu_K": 2.0, "Pb_L": 2.0},
    "titanium white, cobalt": {"Ca_K": 0.5, "Ti_K": 1.5, "Fe_K": 0.5, "Co_K": 1.0, "Ni_K": 0.1, "Zn_K": 1.0},
    "cadmium, emerald green": {"Ca_K": 0.3, "Fe_K": 0.3, "Cu_K": 1.5, "As_K": 1.5, "Zn_K": 1, "Se_K": 0.4, "Cd_L": 0.3},
    "earths": {"K_K": 0.3, "Ca_K": 1.0, "Ti_K": 0.1, "Mn_K": 0.2, "Fe_K": 3.0, "Zn_K": 0.1, "Sr_K": 0.1},
}  # fmt: skip


def family(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    symbol, shell = name.split("_")
    atomic_number = xraylib.SymbolToAtomicNumber(symbol)
    energy, rate = [], []
    for line in LINES[shell]:
        code = getattr(xraylib, f"{line}_LINE")
        try:
            rate.append(xraylib.CS_FluorLine_Kissel_Cascade(atomic_number, code, 35.0))
            energy.append(xraylib.LineEnergy(atomic_number, code))
        except ValueError:
            rate = rate[: len(energy)]
    return np.array(energy), np.array(rate) / np.sum(rate)


def expected_spectrum(
    axis: EnergyAxis, noise_kev: float, fano: float, areas: dict[str, float], anode: str = "Rh"
) -> NDArray[np.float64]:
    """Gaussians on a sloping continuum with a Compton hump, one count in all."""
    energy = axis.energy_kev
    spectrum = 0.02 * axis.gain_kev * np.exp(-0.5 * ((energy - 14) / 9) ** 2) * (energy > 0.8)
    peaks = [(e, area * share, 0.0) for name, area in areas.items() for e, share in zip(*family(name), strict=True)]
    for line, share in zip(*family(f"{anode}_K"), strict=True):
        compton = line / (1 + line / 510.999 * (1 - np.cos(np.deg2rad(125))))
        peaks += [(line, 0.1 * share, 0.0), (compton, 0.6 * share, 0.55)]
    for centre, area, extra in peaks:
        fwhm = np.sqrt(noise_kev**2 + FWHM_PER_SIGMA**2 * 3.85e-3 * fano * centre + extra**2)
        sigma = fwhm / FWHM_PER_SIGMA
        shape = np.exp(-0.5 * ((energy - centre) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
        spectrum += area * axis.gain_kev * shape
    normalised: NDArray[np.float64] = spectrum / spectrum.sum()
    return normalised


def random_scan(
    seed: int, palette: dict[str, float], total_counts: float = 3e6, anode: str = "Rh"
) -> tuple[Scan, EnergyAxis, float]:
    rng = np.random.default_rng(seed)
    gain = float(np.exp(rng.uniform(np.log(0.0055), np.log(0.038))))
    n_channel = int(min(2 ** np.ceil(np.log2(24 / gain)), 4096))
    axis = EnergyAxis(gain, float(rng.uniform(-0.12, 0.12)), n_channel)
    noise = float(rng.uniform(0.05, 0.12))
    areas = {name: area * float(rng.uniform(0.6, 1.6)) for name, area in palette.items()}
    spectrum = expected_spectrum(axis, noise, 0.115, areas, anode)
    counts = rng.poisson(spectrum[None, None, :] * total_counts / 4, size=(2, 2, n_channel))
    return Scan(counts), axis, noise


def axis_error_ev(fitted: EnergyAxis, true: EnergyAxis) -> float:
    """Largest difference of the two axes between 3 and 15 keV, eV."""
    channel = np.array([true.channel(3.0), true.channel(min(15.0, true.stop_kev))])
    difference = (fitted.gain_kev - true.gain_kev) * channel + fitted.zero_kev - true.zero_kev
    return float(1e3 * np.abs(difference).max())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("palette", PALETTES)
def test_random_instruments_are_recovered_from_their_spectra_alone(palette: str, seed: int) -> None:
    scan, true, noise = random_scan(97 * seed + len(palette), PALETTES[palette])
    calibration = calibrate(scan)
    assert axis_error_ev(calibration.axis, true) < 10
    assert calibration.largest_residual_ev < 10
    # Fano factor and noise trade against each other; the width itself is what counts.
    expected = np.sqrt(noise**2 + FWHM_PER_SIGMA**2 * 3.85e-3 * 0.115 * 6.4)
    assert float(calibration.fwhm_kev(6.4)) == pytest.approx(expected, rel=0.04)


@pytest.mark.parametrize("seed", range(3))
def test_a_wrong_axis_in_the_file_does_not_mislead(seed: int) -> None:
    scan, true, _ = random_scan(seed, PALETTES["lead white, vermilion, chalk"])
    wrong = EnergyAxis(true.gain_kev * 1.02, true.zero_kev - 0.06, true.n_channel)
    calibration = calibrate(scan.with_axis(wrong))
    assert axis_error_ev(calibration.axis, true) < 10
    assert calibration.previous_axis == wrong
    assert contradiction(true, calibration) == ""
    assert "does not fit the lines of the scan" in contradiction(wrong, calibration)


@pytest.mark.parametrize("seed", range(3))
def test_few_counts_suffice(seed: int) -> None:
    scan, true, _ = random_scan(seed + 11, PALETTES["lead white, vermilion, chalk"], total_counts=1e5)
    assert axis_error_ev(calibrate(scan).axis, true) < 15


@pytest.mark.parametrize("anode", ["Rh", "Ag", "Mo"])
def test_the_anode_is_read_from_its_scattered_lines(anode: str) -> None:
    axis = EnergyAxis(0.02, 0.01, 2048)
    areas = PALETTES["lead white, vermilion, chalk"]
    spectrum = expected_spectrum(axis, 0.08, 0.115, areas, anode)
    counts = np.random.default_rng(5).poisson(spectrum * 1e7)[None, None, :]
    calibration = calibrate(Scan(counts))
    assert calibration.anode == anode
    assert calibration.scatter_angle_deg == pytest.approx(125, abs=5)


def test_a_spectrum_that_ends_early_says_why_the_anode_is_unknown() -> None:
    axis = EnergyAxis(0.016, 0.0, 1024)
    spectrum = expected_spectrum(axis, 0.08, 0.115, PALETTES["lead white, vermilion, chalk"])
    calibration = calibrate(Scan(np.random.default_rng(5).poisson(spectrum * 1e6)[None, None, :]))
    assert calibration.anode is None
    assert any("ends at 16.4 keV" in text for text in calibration.missing)


def test_too_few_counts_are_refused() -> None:
    with pytest.raises(CalibrationError, match="has 1024 counts, and at least 3000 are needed"):
        calibrate(Scan(np.ones((1, 1, 1024), dtype=int)))


def test_a_spectrum_without_lines_is_refused() -> None:
    counts = np.random.default_rng(1).poisson(200.0, size=(1, 1, 1024))
    with pytest.raises(CalibrationError, match="Cannot calibrate scan 'scan' from its lines"):
        calibrate(Scan(counts))


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ScanError, match="NaN, infinite or negative"):
        calibrate(Scan(np.full((1, 1, 1024), -3)))


def test_the_instrument_carries_the_calibration(tmp_path: Path) -> None:
    scan, true, _ = random_scan(3, PALETTES["lead white, vermilion, chalk"])
    calibration = calibrate(scan)
    base = load_instrument("elio")
    instrument = calibrated_instrument(scan, calibration, base)
    assert instrument.detector.gain_kev == calibration.axis.gain_kev
    assert instrument.detector.n_channel == true.n_channel
    assert instrument.tube.voltage_kv == base.tube.voltage_kv
    save_instrument(instrument, tmp_path / "found.toml")
    assert load_instrument(tmp_path / "found.toml") == instrument
    assert with_calibration(scan, calibration).axis == calibration.axis


def measured_scan(detector: str) -> NDArray[np.uint16]:
    """Return the (30, 60, 1024) counts of every second row and column."""
    with np.load(AURORA) as arrays:
        return np.asarray(arrays[detector][::2, ::2])


def measured_residuals_ev(counts: NDArray[np.float64], calibration: Calibration) -> dict[str, float]:
    """Centres of single Gaussians on a straight line, fitted here, minus tabulated energies, eV."""
    from scipy.optimize import curve_fit

    def peak(x: NDArray[np.float64], *p: float) -> NDArray[np.float64]:
        return np.asarray(p[0] * np.exp(-0.5 * ((x - p[1]) / p[2]) ** 2) + p[3] + p[4] * (x - x.mean()))

    tabulated = {"Ca": 3.6905, "Ti": 4.5089, "Fe": 6.3996, "Cu": 8.0413}
    energy = calibration.axis.energy_kev
    residuals = {}
    for name, centre in tabulated.items():
        use = np.abs(energy - centre) < 0.13
        start = [counts[use].max(), centre, 0.06, counts[use].min(), 0.0]
        fit, _ = curve_fit(peak, energy[use], counts[use], start, sigma=np.sqrt(counts[use]))
        residuals[name] = 1e3 * (fit[1] - centre)
    return residuals


@pytest.mark.skipif(not AURORA.is_file(), reason="the aurora scan is not beside the repository")
@pytest.mark.parametrize(
    ("detector", "gain_kev", "zero_kev", "fwhm_kev"),
    [("det_10264", 0.02921, -0.017, 0.150), ("det_19511", 0.02918, -0.001, 0.131)],
)
def test_both_detectors_of_a_real_scan(detector: str, gain_kev: float, zero_kev: float, fwhm_kev: float) -> None:
    counts = measured_scan(detector)
    calibration = calibrate(Scan(counts, name=detector), tube=True)
    # beyond, zirconium's K-alpha stands 15 eV off, beside what may be strontium's K-beta
    inside = [off for line, off in calibration.residual_ev.items() if 3 < calibration.line_energy_kev[line] < 15]
    assert max(map(abs, inside)) < 10
    assert max(map(abs, measured_residuals_ev(counts.sum((0, 1), dtype=np.float64), calibration).values())) < 10
    assert axis_error_ev(calibration.axis, EnergyAxis(gain_kev, zero_kev, 1024)) < 10
    assert float(calibration.fwhm_kev(6.404)) == pytest.approx(fwhm_kev, rel=0.03)
    assert calibration.anode == "Ag"
    assert {"Ca_K", "Ti_K", "Fe_K", "Cu_K", "Pb_L", "Hg_L"} <= set(calibration.families)


@pytest.mark.skipif(not AURORA.is_file(), reason="the aurora scan is not beside the repository")
def test_the_rounded_axis_of_a_real_file_is_overruled() -> None:
    header = EnergyAxis(0.0290, 0.0, 1024)
    calibration = calibrate(Scan(measured_scan("det_10264"), header))
    assert axis_error_ev(calibration.axis, EnergyAxis(0.02921, -0.017, 1024)) < 10


def test_conversion_offers_the_axis_that_was_found(tmp_path: Path) -> None:
    scan, true, _ = random_scan(3, PALETTES["lead white, vermilion, chalk"])
    axes = {"bare": None, "wrong": EnergyAxis(true.gain_kev * 1.02, true.zero_kev, true.n_channel), "right": true}
    for name, axis in axes.items():
        source, plain, calibrated = (tmp_path / f"{name}{ending}" for ending in (".npz", "_kept.h5", "_found.h5"))
        arrays = {"cube": np.asarray(scan.counts)}
        if axis is not None:
            arrays |= {"gain_kev": np.asarray(axis.gain_kev), "zero_kev": np.asarray(axis.zero_kev)}
        np.savez(source, allow_pickle=False, **arrays)
        done = CliRunner().invoke(app, ["convert", str(source), str(plain)])
        assert done.exit_code == 0, done.output
        assert ("--axis found" in " ".join(done.output.split())) == (name != "right")
        assert load(plain).axis == axis
        done = CliRunner().invoke(app, ["convert", str(source), str(calibrated), "--axis", "found"])
        assert done.exit_code == 0, done.output
        written = load(calibrated)
        assert axis_error_ev(written.require_axis(), true) < 10
        np.testing.assert_array_equal(written.counts.compute(), scan.counts)
