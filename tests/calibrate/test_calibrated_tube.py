"""Anode, voltage and angle of a tube that the forward model knows, and what is said where they are not recorded."""

from functools import lru_cache

import numpy as np
import pytest

from underpaint.calibrate._refine import Response
from underpaint.calibrate._tube import TubeEstimate, find_tube
from underpaint.data import EnergyAxis
from underpaint.data.pile_up import pile_up_shape, self_convolution
from underpaint.physics.forward import emit, render
from underpaint.physics.instrument import Detector, Geometry, Instrument, Tube
from underpaint.physics.materials import Paint, Stratigraphy, ground_layer, support_layer

PAINTING = Stratigraphy(
    (Paint({"azurite": 0.5, "lead_white": 0.5}).layer(20.0), ground_layer("chalk", 120.0), support_layer("canvas"))
)


@lru_cache
def estimated_tube(anode: str, voltage_kv: float, n_channel: int) -> TubeEstimate:
    detector = Detector(gain_kev=0.02, zero_kev=0.01, n_channel=n_channel, noise_fwhm_kev=0.08)
    geometry = Geometry(incidence_angle_deg=70.0, takeoff_angle_deg=45.0)
    instrument = Instrument(tube=Tube(anode=anode, voltage_kv=voltage_kv), geometry=geometry, detector=detector)
    expected = np.asarray(render(emit([PAINTING], instrument), detector), dtype=np.float64)[0]
    counts = np.random.default_rng(4).poisson(expected / expected.sum() * 1e8).astype(np.float64)
    return find_tube(counts, Response(0.02, 0.01, 0.08, detector.fano))


def test_a_tube_is_known_by_its_scattered_light() -> None:
    tube = estimated_tube("Rh", 33.0, 2048)
    assert tube.anode == "Rh"
    assert tube.voltage_kv == pytest.approx(33.0, abs=1.0)
    assert tube.angle_deg == pytest.approx(115.0, abs=5.0)
    assert tube.missing == ()


@pytest.mark.slow
def test_a_continuum_that_goes_on_tells_no_voltage() -> None:
    tube = estimated_tube("Rh", 45.0, 1500)
    assert tube.anode == "Rh"
    assert tube.voltage_kv is None
    assert any(text.startswith("voltage: the continuum extends to the last channel at 30") for text in tube.missing)


@pytest.mark.slow
def test_tungsten_is_not_guessed_though_its_voltage_shows() -> None:
    tube = estimated_tube("W", 33.0, 2048)
    assert tube.anode is None
    assert tube.angle_deg is None
    assert tube.voltage_kv is None or tube.voltage_kv == pytest.approx(33.0, abs=1.0)
    assert any(text.startswith("anode: no pair") for text in tube.missing)


def test_two_photons_at_once_add_their_energies() -> None:
    axis = EnergyAxis(0.02, -0.1, 1024)
    counts = np.zeros(1024)
    counts[[round(axis.channel(4.0)), round(axis.channel(6.4))]] = 100.0
    shape = pile_up_shape(self_convolution(counts[None, :]), axis)[0]
    assert axis.energy_kev[np.argmax(shape)] == pytest.approx(10.4, abs=0.02)


def test_an_anode_is_found_though_the_spectrum_ends_with_the_continuum() -> None:
    tube = estimated_tube("Rh", 27.0, 1365)
    assert tube.anode == "Rh"
    assert tube.angle_deg == pytest.approx(115.0, abs=5.0)
    assert tube.voltage_kv is None or tube.voltage_kv == pytest.approx(27.0, abs=1.0)
