"""The anode from the pair of scattered peaks, on spectra that the forward model made."""

import numpy as np
import pytest

from underpaint.calibrate import calibrate
from underpaint.data import Scan
from underpaint.physics.forward import count, emit, render
from underpaint.physics.instrument import Geometry, Instrument, Tube
from underpaint.physics.materials import Paint, Stratigraphy, ground_layer, support_layer

PAIRS = (("vermilion", "zinc_white"), ("lead_white", "iron_oxide_red"), ("azurite", "lead_white"))


def scan(anode: str, incidence_deg: float) -> Scan:
    """Three heavy and light paints over chalk and canvas, a million counts each."""
    instrument = Instrument(
        tube=Tube(anode=anode, voltage_kv=40.0),
        geometry=Geometry(incidence_angle_deg=incidence_deg, takeoff_angle_deg=50.0),
    )
    below = (ground_layer("chalk", 120.0), support_layer("canvas"))
    samples = [Stratigraphy((Paint({first: 0.6, second: 0.4}).layer(30.0), *below)) for first, second in PAIRS]
    expected = render(emit(samples, instrument), instrument.detector)
    expected = expected / expected.sum(axis=1, keepdims=True) * 1e6
    return Scan(
        counts=count(expected, rng=np.random.default_rng(1))[None], axis=None, name="virtual", format="simulated"
    )


@pytest.mark.parametrize("incidence_deg", [60.0, 75.0])
@pytest.mark.parametrize("anode", ["Mo", "Rh", "Pd", "Ag"])
def test_anodes_whose_scattered_lines_are_recorded(anode: str, incidence_deg: float) -> None:
    """A Compton peak far lower than the Rayleigh peak, as heavy paint scatters, must not mislead."""
    assert calibrate(scan(anode, incidence_deg)).anode == anode


@pytest.mark.parametrize("anode", ["Cu", "W"])
def test_anodes_that_paint_hides_are_not_guessed(anode: str) -> None:
    assert calibrate(scan(anode, 60.0)).anode is None
