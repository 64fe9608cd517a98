"""Detector: efficiency, resolution, escape, and counts that are conserved by the response."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from strategies import monochromatic
from underpaint.data import EnergyAxis
from underpaint.errors import InstrumentError
from underpaint.physics.forward import ORDERS, SCATTER, efficiency, emit, render, resolution_sigma, response_matrix
from underpaint.physics.forward.response import Shape, detector_shape, escape_lines, escape_share
from underpaint.physics.instrument import Detector
from underpaint.physics.materials import Paint, Stratigraphy, ground_layer

ENERGY = np.asarray([3.69, 6.404, 10.551, 20.216, 35.0])
WIDE = EnergyAxis(0.01, 0.0, 5000)


def sample() -> Stratigraphy:
    return Stratigraphy((Paint({"vermilion": 1.0}).layer(20.0), ground_layer("chalk", 100.0)))


def test_resolution_at_manganese() -> None:
    """The default detector has 143 eV at Mn K-alpha: noise of 70 eV and 2.355**2 * 3.85 eV * 0.114 * 5.899 keV."""
    fwhm = 2.354820045 * resolution_sigma(Detector(), np.asarray([5.899]))[0]
    assert fwhm == pytest.approx(np.sqrt(0.07**2 + 2.354820045**2 * 0.00385 * 0.114 * 5.899))
    assert fwhm == pytest.approx(0.139, abs=0.002)


def test_efficiency_is_a_share() -> None:
    energy = np.linspace(0.5, 45.0, 400)
    share = efficiency(Detector(), energy)
    assert np.all((share >= 0) & (share <= 1))
    assert share[np.searchsorted(energy, 8.0)] > 0.95
    thicker = efficiency(Detector(thickness_um=900.0), energy)
    assert np.all(thicker >= share)


def test_efficiency_of_a_thick_crystal_behind_nothing_is_one() -> None:
    bare = Detector(
        thickness_um=1e6, dead_layer_um=0.0, window=Detector().window.model_copy(update={"thickness_um": 0})
    )
    np.testing.assert_allclose(efficiency(bare, ENERGY), 1.0)


def test_escape() -> None:
    """None below silicon's edge (1.839 keV), most just above it, under 2 % everywhere."""
    energy = np.asarray([1.5, 1.83, 1.9, 3.69, 6.4, 20.0])
    share = escape_share(Detector(), energy)
    assert not share[:2].any()
    assert np.all(np.diff(share[2:]) < 0)
    assert 0.005 < share[2] < 0.02
    # Reed & Ware 1972 give 0.5 % at Fe K-alpha and 1 to 2 % at the edge
    assert share[4] == pytest.approx(0.005, abs=0.003)


def test_escape_peak_lies_a_silicon_line_below() -> None:
    detector = Detector(tail_fraction=0.0, shelf_fraction=0.0)
    spectrum = response_matrix(detector, WIDE, np.asarray([6.404]))[0]
    below = spectrum.copy()
    below[WIDE.energy_kev > 5.5] = 0
    assert WIDE.energy_kev[below.argmax()] == pytest.approx(6.404 - 1.740, abs=0.011)


@pytest.mark.parametrize("fields", [{}, {"tail_fraction": 0.0, "shelf_fraction": 0.0}, {"tail_fraction": 0.05}])
def test_rows_sum_to_efficiency(fields: dict[str, float]) -> None:
    detector = Detector(**fields)
    rows = response_matrix(detector, WIDE, ENERGY).sum(axis=1)
    np.testing.assert_allclose(rows, efficiency(detector, ENERGY), rtol=1e-3)


def test_responses_are_not_negative() -> None:
    assert response_matrix(Detector(), WIDE, ENERGY).min() >= 0


def test_peak_has_the_resolution_and_the_place() -> None:
    detector = Detector(tail_fraction=0.0, shelf_fraction=0.0)
    energy = np.asarray([10.551])
    row = response_matrix(detector, WIDE, energy)[0]
    near = np.abs(WIDE.energy_kev - energy) < 0.6
    mean = np.average(WIDE.energy_kev[near], weights=row[near])
    spread = np.sqrt(np.average((WIDE.energy_kev[near] - mean) ** 2, weights=row[near]))
    assert mean == pytest.approx(10.551, abs=1e-4)
    # a channel's width adds its own variance
    assert spread == pytest.approx(np.hypot(resolution_sigma(detector, energy)[0], 0.01 / np.sqrt(12)), rel=1e-3)


def test_intrinsic_spread_widens_the_peak() -> None:
    plain, spread = (response_matrix(Detector(), WIDE, np.asarray([10.0]), value)[0] for value in (0.0, 0.1))
    assert spread.max() < plain.max()
    assert spread.sum() == pytest.approx(plain.sum(), rel=1e-6)


def test_coarse_axis_equals_the_sum_of_the_fine_one() -> None:
    """Everything is integrated over each channel."""
    emission = emit([sample()], monochromatic(20.216))
    detector = Detector()
    fine = render(emission, detector, EnergyAxis(0.01, 1.005, 2400))
    coarse = render(emission, detector, EnergyAxis(0.04, 1.02, 600))
    np.testing.assert_allclose(coarse[0], fine[0].reshape(600, 4).sum(axis=1), rtol=1e-6, atol=1e-6 * fine.max())
    assert coarse.sum() == pytest.approx(fine.sum(), rel=1e-4)


def test_default_axis_is_the_detectors() -> None:
    emission = emit([sample()], monochromatic(20.216))
    detector = Detector(n_channel=2048, gain_kev=0.02, zero_kev=-0.05)
    expected = render(emission, detector)
    assert expected.shape == (1, 2048)
    np.testing.assert_array_equal(expected, render(emission, detector, EnergyAxis(0.02, -0.05, 2048)))


def test_rendered_counts_are_photons_times_efficiency() -> None:
    emission = emit([sample()], monochromatic(20.216))
    detector = Detector()
    expected = emission.line_photons[0] @ efficiency(detector, emission.lines.energy_kev)
    expected += emission.coherent[0] @ efficiency(detector, emission.source_kev)
    expected += emission.shifted[0] @ efficiency(detector, emission.compton_kev)
    assert render(emission, detector, WIDE).sum() == pytest.approx(expected, rel=2e-3)


def test_compton_peak_stands_at_its_energy() -> None:
    """Rh K-alpha scattered by 105 degrees arrives at 19.26 keV."""
    water = Stratigraphy((Paint({"chalk": 1.0}).layer(500.0),))
    spectrum = render(emit([water], monochromatic(20.216)), Detector(), WIDE)[0]
    window = (WIDE.energy_kev > 17.5) & (WIDE.energy_kev < 19.9)
    top = WIDE.energy_kev[window][spectrum[window].argmax()]
    assert top == pytest.approx(20.216 / (1 + 20.216 / 510.99895 * (1 - np.cos(np.radians(105.0)))), abs=0.03)


def test_germanium_escapes_in_two_peaks() -> None:
    """Ge K-alpha and K-beta lie 1.1 keV apart and leave peaks of their own; silicon's lie together."""
    assert len(escape_lines(Detector())) == 1
    germanium = Detector(material="Ge", density=5.32, tail_fraction=0.0, shelf_fraction=0.0)
    alpha, beta = escape_lines(germanium)
    assert alpha[0] == pytest.approx(9.876, abs=0.02)
    assert beta[0] == pytest.approx(10.985, abs=0.02)
    row = response_matrix(germanium, WIDE, np.asarray([20.0]))[0]
    areas = [row[np.abs(WIDE.energy_kev - 20.0 + kev) < 0.3].sum() for kev, _ in (alpha, beta)]
    assert areas[0] / areas[1] == pytest.approx(alpha[1] / beta[1], rel=0.1)


def test_germanium_makes_more_pairs_of_a_photon() -> None:
    """2.96 eV a pair in place of silicon's 3.85 eV: the peak is as narrow as that, by either way to its width."""
    germanium = Detector(material="Ge", density=5.32, tail_fraction=0.0, shelf_fraction=0.0)
    energy = np.asarray([10.0])
    sigma = resolution_sigma(germanium, energy)[0]
    assert sigma == pytest.approx(np.sqrt((0.07 / 2.354820045) ** 2 + 0.00296 * 0.114 * 10.0))
    row = response_matrix(germanium, WIDE, energy)[0]
    spread = np.sqrt(np.average((WIDE.energy_kev - 10.0) ** 2, weights=row))
    assert spread == pytest.approx(np.hypot(sigma, 0.01 / np.sqrt(12)), rel=1e-3)


def test_crystals_without_a_pair_energy_are_refused() -> None:
    cadmium = Detector(material="Cd", density=5.85)
    with pytest.raises(InstrumentError, match=r"detector of 'Cd'.*Si and Ge only"):
        resolution_sigma(cadmium, ENERGY)
    with pytest.raises(InstrumentError, match="detector of 'Cd'"):
        response_matrix(cadmium, WIDE, ENERGY)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"shelf_fraction": 0.4, "tail_fraction": 0.3, "long_tail_fraction": 0.3}, "sum to 1; the sum must be below 1"),
        ({"noise_fwhm_kev": 1e3}, "less than or equal to 5"),
        ({"tail_width_kev": 1e9}, "less than or equal to 20"),
        ({"gain_kev": 1e-12}, "greater than or equal to 0.0001"),
        ({"zero_kev": -1e300}, "greater than or equal to -1000"),
    ],
)
def test_impossible_detectors_are_refused(fields: dict[str, float], words: str) -> None:
    """They gave negative counts, or asked for more memory than there is."""
    with pytest.raises(ValidationError, match=words):
        Detector(**fields)


def tensors(**changed: float) -> Shape:
    torch = pytest.importorskip("torch", reason="torch comes with the extra underpaint[train]")
    numbers = asdict(detector_shape(Detector(), WIDE)) | changed
    return Shape(**{name: torch.tensor(value, dtype=torch.float64) for name, value in numbers.items()})


def test_torch_equals_numpy() -> None:
    spread = np.asarray([0.0, 0.0, 0.0, 0.1, 0.2])
    expected = response_matrix(Detector(), WIDE, ENERGY, spread)
    np.testing.assert_allclose(response_matrix(Detector(), WIDE, ENERGY, spread, shape=tensors()), expected, atol=1e-14)


@pytest.mark.parametrize("name", sorted(Shape.__dataclass_fields__))
def test_derivatives_to_the_response(name: str) -> None:
    """Autograd against central differences, for gain and zero as for all else."""
    torch = pytest.importorskip("torch", reason="torch comes with the extra underpaint[train]")
    emission = emit([sample()], monochromatic(20.216))
    photons = {field: torch.asarray(getattr(emission, field)) for field in (*ORDERS, *SCATTER)}
    weights = torch.asarray(np.random.default_rng(3).uniform(0.0, 1.0, WIDE.n_channel))

    def total(shape: Shape) -> Any:
        return (render(replace(emission, **photons), Detector(), WIDE, shape=shape)[0] * weights).sum()

    tail = {} if name == "long_tail_fraction" else {"long_tail_fraction": 0.01}
    middle = tensors(long_tail_fraction=0.01)
    getattr(middle, name).requires_grad_(True)
    total(middle).backward()
    at = float(getattr(middle, name).detach())
    step = 1e-6 * max(abs(at), 0.1)
    difference = float(total(tensors(**tail, **{name: at + step})) - total(tensors(**tail, **{name: at - step}))) / (
        2.0 * step
    )
    assert float(getattr(middle, name).grad) == pytest.approx(difference, rel=1e-4)
