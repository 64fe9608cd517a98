"""Areas are recovered without bias and with honest deviations; the two engines agree on a real scan."""

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from underpaint.calibrate import calibrate, calibrated_instrument, with_calibration
from underpaint.data import EnergyAxis, Scan
from underpaint.data.peaks import peak_counts, resolution_fwhm_kev
from underpaint.elements import fit_elements
from underpaint.errors import CalibrationError, CoverageError, MissingExtraError, ScanError
from underpaint.physics.atomic import compton_energy, family_lines
from underpaint.physics.forward import efficiency, emit, render
from underpaint.physics.instrument import Detector, Geometry, Instrument, Tube
from underpaint.physics.materials import load_palette
from underpaint.simulate import RandomStratigraphies, StratigraphySampler

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
AURORA = SHARED / "data" / "aurora" / "prova1.npz"

AXIS = EnergyAxis(0.02, -0.01, 1300)
NOISE, FANO = 0.08, 0.115
INSTRUMENT = Instrument(
    note="",
    tube=Tube(anode="Rh", voltage_kv=40.0),
    detector=Detector(noise_fwhm_kev=NOISE, fano=FANO, shelf_fraction=0.0, tail_fraction=0.0),
)


def lines_of(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    symbol, shell = name.split("_")
    energy, rate = family_lines(symbol, shell, 40.0)
    detected = rate * efficiency(INSTRUMENT.detector, energy)
    return energy, detected / detected.sum()


def spectrum_of(areas: dict[str, float], scatter: float = 2000.0) -> NDArray[np.float64]:
    """Gaussian lines on a curved continuum, with the tube's Rayleigh and Compton peaks; no escape."""
    energy = AXIS.energy_kev
    counts = 30.0 * np.exp(-0.5 * ((energy - 13) / 8) ** 2) * (energy > 0.9)
    for name, area in areas.items():
        line, share = lines_of(name)
        counts = counts + peak_counts(AXIS, line, area * share, resolution_fwhm_kev(line, NOISE, FANO))
    line, share = lines_of("Rh_K")
    shifted = compton_energy(line, INSTRUMENT.geometry.scattering_angle_deg)
    counts = counts + peak_counts(AXIS, line, 0.2 * scatter * share, resolution_fwhm_kev(line, NOISE, FANO))
    return counts + peak_counts(AXIS, shifted, scatter * share, 0.75)


AREAS = {"Ca_K": 500.0, "Fe_K": 1500.0, "Cu_K": 300.0, "Hg_L": 2000.0, "Pb_L": 8000.0}


def poisson_scan(areas: dict[str, float], shape: tuple[int, int] = (30, 30), seed: int = 1) -> Scan:
    counts = np.random.default_rng(seed).poisson(spectrum_of(areas), size=(*shape, AXIS.n_channel))
    return Scan(counts, AXIS)


@pytest.mark.parametrize("factor", [0.03, 1.0])
def test_areas_are_unbiased_and_their_deviations_honest(factor: float) -> None:
    areas = {name: factor * area for name, area in AREAS.items()}
    families = (*AREAS, "Zn_K", "Co_K")
    maps = fit_elements(poisson_scan(areas), families=families, instrument=INSTRUMENT)
    for name in families:
        pull = (maps[name] - areas.get(name, 0.0)) / maps.map("area_sigma", name)
        # 900 pixels: the spread of the pulls is known to 0.024. Model errors, which are the same in all pixels, are in
        # the deviation and not in the spread. These spectra have no escape peaks, and the ratios of a
        # thin sample, which paint hardly has.
        assert 0.3 < pull.std() < 1.1
        bias, sigma = float(maps[name].mean()) - areas.get(name, 0.0), float(maps.map("area_sigma", name).mean())
        assert abs(bias) < 0.06 * areas.get(name, 0.0) + 0.3 * sigma


def test_lines_just_below_the_first_recorded_channel_are_left_out() -> None:
    # counts begin at 1.8 keV: of Al K, at 1.49 keV, a tail of 1e-4 is left, and of Mg K next to nothing
    scan = poisson_scan(AREAS)
    cut = Scan(np.where(AXIS.energy_kev > 1.8, np.asarray(scan.counts), 0), AXIS)
    with pytest.raises(CoverageError, match=r"Cannot fit Mg_K, Al_K: .* 1\.97-"):
        fit_elements(cut, families=(*AREAS, "Mg_K", "Al_K"), instrument=INSTRUMENT)
    maps = fit_elements(cut, instrument=INSTRUMENT)
    assert set(AREAS) <= set(maps.lines)
    assert abs(float(maps["Ca_K"].mean()) - AREAS["Ca_K"]) < 0.06 * AREAS["Ca_K"]


def test_the_families_are_found() -> None:
    areas = {**AREAS, "Ti_K": 600.0, "Zn_K": 400.0}
    maps = fit_elements(poisson_scan(areas), instrument=INSTRUMENT)
    assert set(areas) == set(maps.lines)


def test_overlapping_families_are_separated() -> None:
    arsenic = fit_elements(poisson_scan({"As_K": 3000.0, "Cu_K": 3000.0}), instrument=INSTRUMENT)
    lead = fit_elements(poisson_scan({"Pb_L": 3000.0, "Cu_K": 3000.0}), instrument=INSTRUMENT)
    both = fit_elements(poisson_scan({"Pb_L": 3000.0, "As_K": 3000.0, "Cu_K": 500.0}), instrument=INSTRUMENT)
    assert "As_K" in arsenic.lines
    assert "Pb_L" not in arsenic.lines
    assert "Pb_L" in lead.lines
    assert "As_K" not in lead.lines
    assert float(both["As_K"].mean()) == pytest.approx(3000, rel=0.1)
    assert float(both["Pb_L"].mean()) == pytest.approx(3000, rel=0.1)


def test_a_family_of_few_pixels_is_found_in_the_maximum_spectrum() -> None:
    counts = np.random.default_rng(2).poisson(spectrum_of(AREAS), size=(40, 40, AXIS.n_channel))
    counts[3, 5] += np.random.default_rng(3).poisson(spectrum_of({"Au_L": 6000.0}, scatter=0.0))
    maps = fit_elements(Scan(counts, AXIS), instrument=INSTRUMENT)
    assert "Au_L" in maps.lines
    assert float(maps["Au_L"][3, 5]) == pytest.approx(6000, rel=0.15)


def test_without_an_instrument_the_resolution_is_fitted() -> None:
    maps = fit_elements(poisson_scan(AREAS))
    assert maps.settings_of("elements")["noise_fwhm_kev"] == pytest.approx(NOISE, abs=0.012)
    assert set(AREAS) <= set(maps.lines)


def test_the_anodes_lines_are_no_element() -> None:
    areas = {**AREAS, "Zn_K": 400.0}
    with_anode = fit_elements(poisson_scan(areas), instrument=INSTRUMENT)
    without = fit_elements(poisson_scan(areas))
    assert "Rh_K" not in with_anode.lines
    assert with_anode.settings_of("elements")["scatter"][-1] == "Compton"
    assert ("Rh_K" in without.lines) == any("Rh_K" in note for note in without.notes)


def test_blocks_do_not_change_the_result() -> None:
    scan = poisson_scan(AREAS, shape=(12, 7))
    cut = Scan(scan.counts.rechunk((5, 7, -1)), AXIS)
    in_blocks = fit_elements(scan, instrument=INSTRUMENT)
    rechunked = fit_elements(cut, instrument=INSTRUMENT)
    assert in_blocks.lines == rechunked.lines
    np.testing.assert_allclose(in_blocks.area, rechunked.area, rtol=1e-5, atol=1e-3)


def test_pixels_without_an_answer_are_nan() -> None:
    counts = np.asarray(poisson_scan(AREAS, shape=(4, 4)).counts, dtype=np.float64)
    counts[0, 0], counts[1, 1, 7], counts[2, 2, 9] = 0.0, np.nan, -4.0
    present = np.ones((4, 4), dtype=bool)
    present[3, 3] = False
    maps = fit_elements(Scan(counts, AXIS, present=present), instrument=INSTRUMENT)
    is_missing = np.isnan(maps["Pb_L"])
    assert [tuple(place) for place in np.argwhere(is_missing)] == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_progress_is_reported() -> None:
    steps: list[tuple[int, int]] = []
    fit_elements(poisson_scan(AREAS), instrument=INSTRUMENT, progress=lambda done, rows: steps.append((done, rows)))
    assert steps[-1] == (30, 30)


def test_what_cannot_be_fitted_is_refused() -> None:
    scan = poisson_scan(AREAS, shape=(2, 2))
    with pytest.raises(CoverageError, match="Cannot fit Ag_K, Sb_K: the strongest line is not in the recorded range"):
        fit_elements(with_end(scan, 900), families=("Fe_K", "Ag_K", "Sb_K"), instrument=INSTRUMENT)
    with pytest.raises(CalibrationError, match="no energy axis"):
        fit_elements(Scan(scan.counts))
    with pytest.raises(ScanError, match="has 0 counts in total"):
        fit_elements(Scan(np.zeros((2, 2, 1300)), AXIS))
    with pytest.raises(ValueError, match="engines are 'underpaint', 'fixed', 'pymca'"):
        fit_elements(scan, engine="other")


def with_end(scan: Scan, n_channel: int) -> Scan:
    return Scan(scan.counts[:, :, :n_channel], EnergyAxis(AXIS.gain_kev, AXIS.zero_kev, n_channel))


def test_a_missing_engine_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("PyMca5"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"pip install underpaint\[pymca\]"):
        fit_elements(poisson_scan(AREAS, shape=(2, 2)), instrument=INSTRUMENT, engine="pymca")


@pytest.mark.skipif(not AURORA.is_file(), reason="the aurora scan is not beside the repository")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("detector", ["det_10264", "det_19511"])
def test_both_engines_agree_on_a_real_scan(detector: str) -> None:
    pytest.importorskip("PyMca5", reason="PyMca is not installed")
    with np.load(AURORA) as arrays:
        raw = Scan(arrays[detector][::2, ::2], name=detector)
    calibration = calibrate(raw)
    scan, instrument = with_calibration(raw, calibration), calibrated_instrument(raw, calibration)
    ours = fit_elements(scan, instrument=instrument)
    theirs = fit_elements(scan, families=ours.lines, instrument=instrument, engine="pymca")
    for name in ("Ca_K", "Ti_K", "Fe_K", "Cu_K", "Hg_L", "Pb_L"):
        assert np.corrcoef(ours[name].ravel(), theirs[name].ravel())[0, 1] > 0.99, name
        # Line ratios and background differ between the engines, not the counts by more than a tenth.
        assert float(ours[name].sum() / theirs[name].sum()) == pytest.approx(1.0, abs=0.1), name
    assert "As_K" not in ours.lines


@pytest.mark.parametrize("anode", ["Rh", "Mo"])
def test_scatter_of_an_anode_that_is_not_named_is_no_element(anode: str) -> None:
    tube = Tube.model_validate({"anode": anode, "voltage_kv": 40.0})
    geometry = Geometry.model_validate({"incidence_angle_deg": 55.0, "takeoff_angle_deg": 50.0})
    instrument = Instrument(name="", tube=tube, geometry=geometry, detector=INSTRUMENT.detector)
    palette = load_palette("old_master").pigments
    sampler, rng = StratigraphySampler(RandomStratigraphies(palette=palette)), np.random.default_rng(1)
    emission = emit([sampler.draw(rng) for _ in range(30)], instrument, single=True)
    expected = np.asarray(render(emission, instrument.detector, AXIS), np.float64)
    expected *= 2e4 / expected.sum(axis=1, keepdims=True)
    results = fit_elements(Scan(rng.poisson(expected)[:, None], AXIS))
    assert {"Fe_K", "Pb_L"} <= set(results.lines)
    assert "Mo_K" not in results.lines
    assert f"{anode}_K" in results.settings_of("elements")["scatter"]
