"""A monochromatic beam is recognised from a sum spectrum, and no tube is taken for one."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import xraylib
from numpy.typing import NDArray

import underpaint as up
from underpaint.calibrate import find_beam
from underpaint.data import EnergyAxis
from underpaint.data.peaks import resolution_fwhm_kev

DATA = Path(__file__).parents[2].parent / "shared" / "data"
AXIS = EnergyAxis(0.04, -0.1, 1200)
NOISE_KEV, FANO = 0.08, 0.115
SAMPLES: dict[str, dict[str, float]] = {
    "lead white": {"Pb": 1.0, "Ca": 0.1, "Fe": 0.02},
    "vermilion": {"Hg": 1.0, "Pb": 0.5, "Ca": 0.1},
    "azurite": {"Cu": 1.0, "Pb": 0.2, "Ca": 0.2},
    "ochre": {"Fe": 1.0, "Ca": 0.4, "Mn": 0.03},
    "zinc white": {"Zn": 1.0, "Sr": 0.1, "Ba": 0.2},
    "plastic": {"Ca": 0.01},
    "copper": {"Cu": 1.0},
    "iron": {"Fe": 1.0},
    "silver": {"Ag": 1.0},
    "tin": {"Sn": 1.0},
}
FLUORESCENCE = dict.fromkeys(SAMPLES, 0.7) | {"plastic": 0.02, "copper": 0.97, "iron": 0.97}
ANODES = {"Rh": 40, "Ag": 45, "Mo": 45, "W": 50, "Cu": 30, "Cr": 25, "Pd": 40, "Au": 50}


def gaussians(energy_kev: NDArray[np.float64], area: NDArray[np.float64], spread: float = 0.0) -> NDArray[np.float64]:
    sigma = np.hypot(resolution_fwhm_kev(energy_kev, NOISE_KEV, FANO) / 2.3548, spread * energy_kev)
    shape = np.exp(-0.5 * ((AXIS.energy_kev[:, None] - energy_kev) / sigma) ** 2) / sigma
    return np.asarray(shape @ area) * AXIS.gain_kev


@cache
def lines(element: str, excitation_kev: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    number, energies_and_rates = xraylib.SymbolToAtomicNumber(element), []
    for line in (*range(xraylib.KP5_LINE, xraylib.KL1_LINE + 1), *range(xraylib.L3Q1_LINE, xraylib.L1L2_LINE + 1)):
        try:
            energy = xraylib.LineEnergy(number, line)
            energies_and_rates.append((energy, xraylib.CS_FluorLine_Kissel(number, line, excitation_kev)))
        except ValueError:
            continue
    return np.array([pair[0] for pair in energies_and_rates]), np.array([pair[1] for pair in energies_and_rates])


def aluminium(energy_kev: NDArray[np.float64]) -> NDArray[np.float64]:
    """Transmission of one micrometre, by the cube law."""
    return np.exp(-6.9e-3 * (10.0 / np.maximum(energy_kev, 1.0)) ** 3)


def fluorescence(sample: str, excitation_kev: float) -> NDArray[np.float64]:
    spectrum = np.zeros(AXIS.n_channel)
    for element, amount in SAMPLES[sample].items():
        energy, area = lines(element, excitation_kev)
        if energy.size:
            spectrum += gaussians(energy, amount * area * np.exp(-((1.3 / energy) ** 3)))
    return np.asarray(spectrum / max(spectrum.sum(), 1e-12))


def compton(energy_kev: NDArray[np.float64], angle_deg: float) -> NDArray[np.float64]:
    return np.asarray(energy_kev / (1.0 + energy_kev / 511.0 * (1.0 - np.cos(np.radians(angle_deg)))))


def counted(expected: NDArray[np.float64], total: float, pile_up: float, seed: int) -> NDArray[np.float64]:
    expected = expected / expected.sum()
    sums = np.roll(np.convolve(expected, expected), round(AXIS.zero_kev / AXIS.gain_kev))[: AXIS.n_channel]
    return np.random.default_rng(seed).poisson(total * (expected + pile_up * sums)).astype(np.float64)


def by_tube(anode: str, voltage_kv: float, sample: str, filter_um: float, angle_deg: float) -> NDArray[np.float64]:
    """Sum spectrum under a tube: Kramers' continuum through aluminium, scattered, with the anode's lines."""
    energy = np.maximum(AXIS.energy_kev, 0.3)
    number = xraylib.SymbolToAtomicNumber(anode)
    through = aluminium(AXIS.energy_kev) ** filter_um
    continuum = np.clip(voltage_kv / energy - 1.0, 0.0, None) * np.exp(-((3.0 / energy) ** 1.5)) * through
    line, area = lines(anode, voltage_kv * 0.8)
    area = area * aluminium(line) ** filter_um
    scattered = np.zeros(AXIS.n_channel)
    if line.size and area.sum() > 0:
        scattered = gaussians(line, area) + gaussians(compton(line, angle_deg), 2.0 * area, 0.012)
        scattered *= 0.5 * (number > 23) / scattered.sum()
    share = FLUORESCENCE[sample]
    fluorescent = fluorescence(sample, 0.7 * voltage_kv)
    return np.asarray(share * fluorescent + (1.0 - share) * (continuum / continuum.sum() + scattered))


def by_beam(energy_kev: float, sample: str, angle_deg: float) -> NDArray[np.float64]:
    energies = np.array([energy_kev])
    scatter = gaussians(energies, np.ones(1)) + gaussians(compton(energies, angle_deg), np.full(1, 3.0), 0.012)
    tail = np.exp((AXIS.energy_kev - energy_kev) / 2.0) * (AXIS.energy_kev < energy_kev) * (AXIS.energy_kev > 1.0)
    scatter = scatter / scatter.sum() + 0.02 * tail / tail.sum()
    share = FLUORESCENCE[sample]
    return np.asarray(share * fluorescence(sample, energy_kev) + (1.0 - share) * scatter)


def look(counts: NDArray[np.float64], axis: EnergyAxis = AXIS) -> float | None:
    beam = find_beam(counts, axis, resolution_fwhm_kev(axis.energy_kev, NOISE_KEV, FANO))
    return None if beam is None else beam.energy_kev


@pytest.mark.parametrize("anode", ANODES)
def test_no_tube_is_taken_for_a_beam(anode: str) -> None:
    energies = []
    for number, sample in enumerate(SAMPLES):
        rng = np.random.default_rng((ord(anode[0]), number))
        low = [float(rng.choice([15.0, 20.0]))] if number % 4 == 0 else []
        for voltage_kv in (float(ANODES[anode]), *low):
            expected = by_tube(anode, voltage_kv, sample, float(rng.choice([0.0, 100.0, 500.0])), rng.uniform(90, 150))
            energies.append(look(counted(expected, 10 ** rng.uniform(4.5, 7), float(rng.choice([0.0, 0.01])), number)))
    assert len(energies) == 13
    assert set(energies) == {None}


@pytest.mark.parametrize("energy_kev", [8.0, 9.0, 10.5, 12.5, 13.5, 16.0, 17.44, 18.6, 21.2, 25.0, 30.0, 35.0, 40.0])
def test_a_beam_is_recognised(energy_kev: float) -> None:
    # on copper elastic and Compton peak hide under its K-beta at 9.0 keV, under the sum of two K-alpha at 16.0 keV
    samples = ("lead white", "ochre", "plastic", "copper")[: 3 if energy_kev in (9.0, 16.0) else 4]
    for number, sample in enumerate(samples):
        rng = np.random.default_rng((int(10 * energy_kev), number))
        expected = by_beam(energy_kev, sample, float(rng.uniform(85, 150)))
        excitation_kev = look(counted(expected, 10 ** rng.uniform(5, 7), float(rng.choice([0.0, 0.005])), number))
        assert excitation_kev == pytest.approx(energy_kev, abs=0.06), sample


def test_a_beam_hidden_under_the_lines_of_the_sample_is_not_guessed() -> None:
    hidden = by_beam(9.0, "copper", 120.0)
    assert look(counted(hidden, 1e6, 0.005, 1)) is None
    few = by_beam(21.2, "copper", 120.0)
    assert look(counted(few, 1e3, 0.0, 2)) is None


def test_neither_an_empty_nor_a_flat_spectrum_shows_a_beam() -> None:
    assert look(np.zeros(AXIS.n_channel)) is None
    assert look(np.random.default_rng(1).poisson(20.0, AXIS.n_channel).astype(float)) is None


def gsecars(path: Path) -> tuple[NDArray[np.float64], EnergyAxis]:
    """First detector of a GSECARS multi-detector file."""
    text = path.read_text()
    head, _, data = text.partition("DATA:")
    facts = {key: value.split() for key, _, value in (line.partition(":") for line in head.splitlines())}
    counts = np.array([float(line.split()[0]) for line in data.splitlines() if line.strip()])
    return counts, EnergyAxis(float(facts["CAL_SLOPE"][0]), float(facts["CAL_OFFSET"][0]), counts.size)


@pytest.mark.parametrize(
    ("name", "energy_kev"), [("srm1832.mca", 12.5), ("axorf4_21kev_i050.xrf", 21.0), ("xrf_spectra.mca", 11.8)]
)
def test_beams_of_beamlines_are_recognised(name: str, energy_kev: float) -> None:
    path = DATA / "spectrum_formats" / name
    if not path.is_file():
        pytest.skip("shared measurements are not here")
    assert look(*gsecars(path)) == pytest.approx(energy_kev, abs=0.1)


def test_steel_at_16_kev_is_recognised() -> None:
    path = DATA / "spectrum_formats" / "Steel.spe"
    if not path.is_file():
        pytest.skip("shared measurements are not here")
    counts = np.array(path.read_text().partition("$DATA:")[2].partition("$")[0].split(), dtype=float)[2:]
    # gain and zero of the fit configuration beside it
    assert look(counts, EnergyAxis(0.0119282, -0.0061245, counts.size)) == pytest.approx(16.0, abs=0.1)


def test_a_beam_of_17_kev_is_no_sum_of_photons() -> None:
    path = DATA / "spectrum_formats" / "XRFSpectrum.mca"
    if not path.is_file():
        pytest.skip("shared measurements are not here")
    counts = np.asarray(up.load(path).counts, dtype=float).ravel()
    # the axis that its lines give; the scatter holds a tenth of all counts
    assert look(counts, EnergyAxis(0.005029, -0.4938, counts.size)) == pytest.approx(17.4, abs=0.1)


def test_measured_tubes_are_not_taken_for_beams() -> None:
    if not (DATA / "cave_paintings" / "spectra.npz").is_file():
        pytest.skip("shared measurements are not here")
    cave = np.load(DATA / "cave_paintings" / "spectra.npz")["counts"][0].astype(float)
    assert {look(spectrum, EnergyAxis(0.02008, 0.0, spectrum.size)) for spectrum in (*cave[::7], cave.sum(axis=0))} == {
        None
    }
    aurora = np.load(DATA / "aurora" / "prova1.npz")["det_10264"].astype(float)
    for spectrum in (aurora.sum(axis=(0, 1)), aurora[30, 60]):
        assert look(spectrum, EnergyAxis(0.02921, -0.017, spectrum.size)) is None
    for path in sorted((DATA / "pure_elements").glob("*.txt")):
        rows = [line for line in path.read_text("latin-1").splitlines() if line and not line.startswith("#")]
        values = np.array([[float(number) for number in line.replace(",", " ").split()] for line in rows])
        assert look(values[:, -1], EnergyAxis(0.01, -0.4, len(values))) is None, path.name
