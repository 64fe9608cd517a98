"""Sum peaks and pile-up: closed forms of two lines, photons conserved, and photons drawn one by one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.errors import InstrumentError
from underpaint.physics.forward import live_share, pile_up, response_matrix
from underpaint.physics.instrument import Detector

Array = NDArray[np.float64]
AXIS = EnergyAxis(0.02, -0.05, 2048)
DETECTOR = Detector(pulse_pair_us=0.5, tail_fraction=0.0, shelf_fraction=0.0)
LINES = np.asarray([5.0, 8.0])


def two_lines() -> Array:
    """60 % of the counts at 5 keV, 40 % at 8."""
    rows = response_matrix(DETECTOR, AXIS, LINES)
    # escape peaks left out, so that there are two energies alone
    rows[:, AXIS.energy_kev < 4.0] = 0.0
    rows[1, AXIS.energy_kev < 7.0] = 0.0
    return np.asarray(np.asarray([0.6, 0.4]) @ (rows / rows.sum(axis=1, keepdims=True))[None])


def area(spectrum: Array, energy_kev: float) -> float:
    return float(spectrum[np.abs(AXIS.energy_kev - energy_kev) < 0.5].sum())


def test_sum_peaks_have_the_closed_form() -> None:
    """To first order r1 r2 tau at twice the mixed place, r**2 tau at the equal ones; x = 0.01 leaves 2 % for more."""
    rate = 20_000.0
    chance = rate * 0.5e-6
    recorded = pile_up(two_lines(), rate, DETECTOR, AXIS)[0]
    for energy, share in ((10.0, 0.36), (13.0, 0.48), (16.0, 0.16)):
        assert area(recorded, energy) == pytest.approx(chance * share, rel=0.03)


def test_energy_is_conserved() -> None:
    """No photon's energy is lost while the sums stay on the axis, and there are 1 / (1 + x) pulses a photon."""
    rate = 200_000.0
    before, after = two_lines()[0], pile_up(two_lines(), rate, DETECTOR, AXIS)[0]
    assert after.sum() == pytest.approx(1.0 / 1.1, rel=1e-4)
    assert after @ AXIS.energy_kev == pytest.approx(before @ AXIS.energy_kev, rel=1e-3)


def test_against_photons_drawn_one_by_one() -> None:
    """A hundred thousand pulses a spectrum: 3 standard deviations of the counts in each sum peak."""
    rate, resolution, rng = 400_000.0, 0.5e-6, np.random.default_rng(11)
    arrival = np.cumsum(rng.exponential(1.0 / rate, 400_000))
    energy = rng.choice(LINES, p=[0.6, 0.4], size=arrival.size)
    pulses: list[float] = []
    first = -1.0
    for when, deposited in zip(arrival, energy, strict=True):
        if when - first < resolution and pulses:
            pulses[-1] += deposited
        else:
            first = when
            pulses.append(deposited)
    expected = pile_up(two_lines() * arrival.size, rate, DETECTOR, AXIS)[0]
    for total in (5.0, 8.0, 10.0, 13.0, 16.0, 15.0, 18.0):
        drawn = int(np.isclose(pulses, total).sum())
        assert area(expected, total) == pytest.approx(drawn, abs=3.0 * np.sqrt(drawn) + 0.01 * drawn)


def test_without_resolution_nothing_changes() -> None:
    spectrum = two_lines()
    assert pile_up(spectrum, 1e6, Detector(), AXIS) is spectrum
    np.testing.assert_allclose(pile_up(spectrum, 0.0, DETECTOR, AXIS), spectrum, atol=1e-12)


def test_batch_takes_a_rate_each() -> None:
    spectra = np.repeat(two_lines(), 2, axis=0)
    both = pile_up(spectra, np.asarray([1e4, 1e5]), DETECTOR, AXIS)
    np.testing.assert_allclose(both[1], pile_up(spectra[:1], 1e5, DETECTOR, AXIS)[0], atol=1e-15)
    assert area(both[1], 13.0) > 5 * area(both[0], 13.0)


def test_torch_equals_numpy() -> None:
    torch = pytest.importorskip("torch", reason="torch comes with the extra underpaint[train]")
    expected = pile_up(two_lines(), 1e5, DETECTOR, AXIS)
    tensor = torch.asarray(two_lines()).requires_grad_(True)
    recorded = pile_up(tensor, 1e5, DETECTOR, AXIS)
    np.testing.assert_allclose(recorded.detach(), expected, atol=1e-14)
    recorded.sum().backward()
    assert torch.isfinite(tensor.grad).all()


@pytest.mark.parametrize("rate", [-1.0, np.nan, np.inf])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(InstrumentError, match="count rate"):
        pile_up(two_lines(), rate, DETECTOR, AXIS)


def test_live_time() -> None:
    """Paralysable: half of the time is dead at ln 2 over the dead time."""
    detector = Detector(dead_time_us=2.0)
    assert live_share(np.log(2.0) / 2e-6, detector) == pytest.approx(0.5)
    assert live_share(0.0, detector) == 1.0
