"""A spectrum is taken apart into families, scatter and background that add up to the fit; elements can be chosen."""

import numpy as np
import pytest
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Scan, Spectrum
from underpaint.display.plot.spectra import spectrum_fit_figure
from underpaint.elements import fit_elements, fit_spectrum
from underpaint.elements.line_ratios import _simulated_photons, simulate_line_counts
from underpaint.errors import CalibrationError, CoverageError, ScanError
from underpaint.physics.forward import efficiency, emit, render
from underpaint.physics.instrument import Detector, Instrument, Tube
from underpaint.physics.materials import Layer, Paint, Stratigraphy

AXIS = EnergyAxis(0.02, 0.0, 1500)
DETECTOR = Detector(noise_fwhm_kev=0.08, fano=0.115, gain_kev=AXIS.gain_kev, n_channel=AXIS.n_channel)
INSTRUMENT = Instrument(tube=Tube(anode="Rh", voltage_kv=40.0), detector=DETECTOR)
CHALK = Layer({"Ca": 0.4, "C": 0.12, "O": 0.48}, 2.0, 200.0)


def rendered(*layers: Layer) -> NDArray[np.float64]:
    """Expected counts of layers, a million in all: by the forward model, from which the fit has its ratios, too."""
    return rendered_one(Stratigraphy((*layers, CHALK)))


def rendered_one(stratigraphy: Stratigraphy) -> NDArray[np.float64]:
    """Expected counts of a stratigraphy."""
    counts = np.asarray(render(emit([stratigraphy], INSTRUMENT), DETECTOR, AXIS))[0]
    return np.asarray(1e6 * counts / counts.sum())


VERMILION_ON_LEAD = rendered(Paint({"vermilion": 1.0}).layer(20.0), Paint({"lead_white": 1.0}).layer(80.0))


def spectrum(seed: int = 0) -> Spectrum:
    counts = np.random.default_rng(seed).poisson(VERMILION_ON_LEAD).astype(np.float64)
    return Spectrum(counts, AXIS, name="spot")


def test_the_parts_add_up_and_describe_the_spectrum() -> None:
    fit = fit_spectrum(spectrum(), instrument=INSTRUMENT)
    used = np.isfinite(fit.fitted)
    parts = sum(family.counts for family in fit.families.values()) + fit.scatter + fit.background
    np.testing.assert_allclose(parts[used], fit.fitted[used], rtol=1e-9, atol=1e-6)
    # the fit's own forward model made the spectrum; what is left is counting noise, and the 200 changes follow some
    assert 0.3 < fit.chi_square < 1.3
    np.testing.assert_allclose(fit.residual[used], (fit.counts - fit.fitted)[used])
    assert {"Hg_L", "Pb_L"} <= {name for name, family in fit.families.items() if family.present}
    assert not fit.families["As_K"].present
    assert not fit.families["Bi_L"].present
    labels = spectrum_fit_figure(fit).axes[0].texts
    assert labels
    assert min(label.get_position()[1] for label in labels) > fit.counts.max()


def test_lead_under_vermilion_has_no_arsenic_in_the_maps() -> None:
    """With one ratio for the scan lead's L-alpha, which vermilion absorbs more than L-beta, looks like arsenic."""
    bare = rendered(Paint({"lead_white": 1.0}).layer(80.0))
    counts = np.random.default_rng(1).poisson(np.stack([[VERMILION_ON_LEAD, bare]] * 20) / 10)
    scan = Scan(counts, AXIS)
    ours = fit_elements(scan, families=["As_K", "Pb_L"], instrument=INSTRUMENT)
    assert (ours["As_K"] < 5 * ours.map("area_sigma", "As_K")).all()
    fixed = fit_elements(scan, families=["As_K", "Pb_L", "Hg_L", "Ca_K"], instrument=INSTRUMENT, engine="fixed")
    assert (np.abs(fixed["As_K"]) > 5 * fixed.map("area_sigma", "As_K")).mean() > 0.4


def test_elements_lines_and_shells_can_be_chosen() -> None:
    scan = Scan(np.asarray(spectrum().counts)[None, None], AXIS)
    assert fit_elements(scan, families=["Pb", "Hg_L"], instrument=INSTRUMENT).lines == ("Pb_L", "Pb_M", "Hg_L")
    shells = fit_elements(scan, families=["Pb_L3", "Pb_L2"], instrument=INSTRUMENT)
    assert shells.lines == ("Pb_L3", "Pb_L2")
    family_area = fit_elements(scan, families=["Pb_L"], instrument=INSTRUMENT)["Pb_L"].item()
    assert 0.5 < shells["Pb_L3"].item() / family_area < 0.95
    changed = fit_elements(scan, add=["Bi_L"], drop=["Hg"], instrument=INSTRUMENT).lines
    assert "Bi_L" in changed
    assert not any(name.startswith("Hg") for name in changed)
    only = fit_spectrum(spectrum(), families=["Pb", "Hg"], instrument=INSTRUMENT)
    assert set(only.families) == {"Pb_L", "Pb_M", "Hg_L", "Hg_M"}


def test_a_limit_of_detection_is_what_absent_lines_scatter_by() -> None:
    areas = [fit_spectrum(spectrum(seed), instrument=INSTRUMENT).families["Ni_K"] for seed in range(12)]
    scatter = np.std([family.area for family in areas])
    # twelve draws: the scatter is known to a fifth; the limit holds model errors, too
    assert 3 * scatter < 2.0 * areas[0].detection_limit
    assert all(family.area < family.detection_limit for family in areas)


def test_hardness_is_the_ratio_of_the_lines() -> None:
    """Mercury's edge at 12.28 keV lies between lead's L-alpha and L-beta: vermilion on top takes away L-beta."""
    bare = Stratigraphy((Paint({"lead_white": 1.0}).layer(80.0), CHALK))
    covered = Stratigraphy((Paint({"vermilion": 1.0}).layer(20.0), *bare.layers))
    emission = emit([bare, covered], INSTRUMENT)
    energy, lead = emission.lines.energy_kev, np.asarray([name == "Pb_L" for name in emission.lines.family])
    counts = np.asarray(emission.line_photons) * efficiency(DETECTOR, energy)
    alpha = lead & (np.abs(energy - 10.5) < 0.3)
    true = np.log(counts[:, lead & ~alpha].sum(axis=1) / counts[:, alpha].sum(axis=1))
    spectra = [Spectrum(np.round(rendered_one(stratigraphy)), AXIS) for stratigraphy in (bare, covered)]
    fits = [fit_spectrum(spectrum, instrument=INSTRUMENT) for spectrum in spectra]
    (first, first_sigma), (second, second_sigma) = (
        (fit.families["Pb_L"].hardness, fit.families["Pb_L"].hardness_sigma) for fit in fits
    )
    assert second < first - 3 * np.hypot(first_sigma, second_sigma)
    # tails and escape of L-beta fall under L-alpha: a few per cent of the ratio, alike in both
    assert second - first == pytest.approx(true[1] - true[0], abs=3 * np.hypot(first_sigma, second_sigma) + 0.03)


def test_bad_spectra_are_refused() -> None:
    with pytest.raises(CalibrationError, match="no energy axis"):
        fit_spectrum(Spectrum(np.ones(100), None))
    with pytest.raises(ScanError, match="it has 0 counts"):
        fit_spectrum(Spectrum(np.zeros(AXIS.n_channel), AXIS))
    with pytest.raises(CoverageError, match="not in the recorded range"):
        fit_spectrum(spectrum(), add=["U_K"], instrument=INSTRUMENT)


def test_ratios_are_simulated_once_a_source() -> None:
    other = INSTRUMENT.model_copy(update={"detector": DETECTOR.model_copy(update={"noise_fwhm_kev": 0.1})})
    simulate_line_counts(INSTRUMENT)
    known = _simulated_photons.cache_info().misses
    simulate_line_counts(other)
    assert _simulated_photons.cache_info().misses == known
