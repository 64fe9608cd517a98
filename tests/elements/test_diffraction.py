"""Peaks of one detector alone are reported as diffraction and are in no element's area."""

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from numpy.typing import NDArray

import underpaint as up
from underpaint.data import EnergyAxis, Scan, sum_scans, survey
from underpaint.data.maps import Results
from underpaint.data.peaks import peak_counts, resolution_fwhm_kev
from underpaint.elements import fit_elements, prepare_fit
from underpaint.elements.diffraction import plan_diffraction
from underpaint.io import read_results, write_results
from underpaint.physics.atomic import family_lines

AURORA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "aurora" / "prova1.npz"
SHAPE, FANO = (24, 30), 0.115
AXES = EnergyAxis(0.02, -0.01, 1000), EnergyAxis(0.0201, 0.005, 1000)
NOISES, EFFICIENCIES = (0.07, 0.10), (1.0, 0.6)
FAMILIES = {"Ca_K": 1500.0, "Ti_K": 400.0, "Fe_K": 2500.0, "Cu_K": 500.0, "Zn_K": 800.0, "Pb_L": 6000.0}
CRYSTALS = {(3, 4): (0, 5.2, 900.0), (10, 20): (1, 4.51, 900.0), (15, 7): (1, 7.47, 900.0), (20, 25): (0, 13.0, 900.0)}
"""Pixel to detector, energy in keV and counts: off lines, on a faint line of titanium, and where nickel would lie."""


def detector_counts(
    number: int, seed: int, crystals: dict[tuple[int, int], tuple[int, float, float]]
) -> NDArray[np.uint16]:
    """Spectra of paints that change over the rows and columns, as one of the two detectors records them."""
    axis, noise = AXES[number], NOISES[number]
    rng = np.random.default_rng(100 + seed)
    place = np.stack(np.meshgrid(np.linspace(0, 1, SHAPE[0]), np.linspace(0, 1, SHAPE[1]), indexing="ij"))
    expected = np.full((*SHAPE, axis.n_channel), 10.0) * np.exp(-axis.energy_kev / 15.0)
    for order, (name, area) in enumerate(FAMILIES.items()):
        symbol, _, shell = name.partition("_")
        energy, rate = family_lines(symbol, shell, 40.0)
        weights = rate * np.exp(-8.0 * number / energy**3)
        peaks = peak_counts(axis, energy, area * weights / rate.sum(), resolution_fwhm_kev(energy, noise, FANO))
        # ratios of the detectors change with the paint, too
        amount = 0.5 + 0.5 * np.cos(3.0 * place[order % 2] + order) + 0.1 * number * place[1 - order % 2]
        expected += amount[..., None] * peaks
    relief = 1.0 + 0.2 * number * np.sin(6.0 * place[0])
    expected *= EFFICIENCIES[number] * relief[..., None]
    for pixel, (of, energy_kev, area) in crystals.items():
        if of == number:
            energy = np.array([energy_kev])
            expected[pixel] += peak_counts(axis, energy, np.array([area]), resolution_fwhm_kev(energy, noise, FANO))
    return np.random.default_rng(rng.integers(2**31) + number).poisson(expected).astype(np.uint16)


def detectors(seed: int, crystals: dict[tuple[int, int], tuple[int, float, float]]) -> list[Scan]:
    return [
        Scan(da.from_array(detector_counts(number, seed, crystals), chunks=(8, -1, -1)), AXES[number], detector=name)
        for number, name in enumerate(("left", "right"))
    ]


def test_crystals_are_reported_and_no_element() -> None:
    results = fit_elements(sum_scans(detectors(0, CRYSTALS)), families=[*FAMILIES, "Ni_K"], engine="fixed")
    sigmas = results.diffraction.to_numpy()
    threshold = results.settings_of("diffraction")["threshold_sigmas"]
    claimed = {(int(row), int(column)): int(number) for number, row, column in np.argwhere(sigmas > threshold)}
    assert claimed == {pixel: number for pixel, (number, _, _) in CRYSTALS.items()}
    for (row, column), (number, energy, _) in CRYSTALS.items():
        assert abs(results.map("diffraction_kev", f"detector_{number + 1}")[row, column] - energy) < 0.08
    area, sigma = (maps.sel(line="Ni_K").to_numpy()[15, 7] for maps in (results.area, results.area_sigma))
    assert area < 3.0 * sigma
    assert sigma > 300.0
    assert any("7.4" in alert and "Ni K" in alert and "detector right" in alert for alert in results.alerts)


@pytest.mark.parametrize("seed", [1, 2])
def test_none_is_reported_where_there_is_none(seed: int) -> None:
    results = fit_elements(sum_scans(detectors(seed, {})), families=["Fe_K"], engine="fixed")
    assert (results.diffraction < results.settings_of("diffraction")["threshold_sigmas"]).all()
    assert results.alerts == ()


def test_what_all_pixels_have_in_one_detector_is_the_instrument() -> None:
    nickel = {(row, column): (1, 7.47, 400.0) for row in range(SHAPE[0]) for column in range(SHAPE[1])}
    results = fit_elements(sum_scans(detectors(3, nickel)), families=["Fe_K"], engine="fixed")
    assert results.alerts == ()
    (note,) = (note for note in results.process_notes["diffraction"] if "7.4" in note)
    assert "detector right" in note
    assert "the instrument" in note


def test_one_detector_costs_nothing() -> None:
    surveyed = survey(detectors(4, {})[0])
    assert prepare_fit(surveyed, AXES[0], families=["Fe_K"], engine="fixed").diffraction is None
    assert "diffraction" not in fit_elements(surveyed.scan, families=["Fe_K"], engine="fixed").stacks


def test_changed_counts_are_not_compared_with_what_they_were() -> None:
    total = sum_scans(detectors(5, {}))
    assert [scan.detector for scan in total.detectors] == ["left", "right"]
    assert len(total.replace(present=np.ones(SHAPE, bool)).detectors) == 2
    assert total.replace(counts=total.counts[::-1]).detectors == ()


def test_maps_and_findings_survive_in_results(tmp_path: Path) -> None:
    scan = sum_scans(detectors(0, CRYSTALS))
    settings = up.Settings(model="none", calibrated=False, families=("Fe_K", "Ni_K"), engine="fixed")
    results = up.plan(scan, settings).run()
    assert any("diffraction" in alert for alert in results.alerts)
    write_results(tmp_path, results)
    stored: Results = read_results(tmp_path)
    np.testing.assert_array_equal(stored.diffraction, results.diffraction)
    assert stored.alerts == results.alerts


@pytest.mark.skipif(not AURORA.exists(), reason="the measured scan is not here")
def test_a_measured_scan_has_nickel_of_the_instrument() -> None:
    scan = up.load(AURORA)
    compared = plan_diffraction(scan, EnergyAxis(0.02921, -0.017, 1024), 0.084, 0.115)
    assert compared is not None
    (note,) = (note for note in compared.notes if "7.4" in note or "7.5" in note)
    assert "detector 19511" in note
    maps, _, mask = compared([np.asarray(detector.counts) for detector in scan.detectors])
    assert np.isfinite(maps).all()
    assert mask.mean() < 1e-3
