"""Depth of origin: closed forms, and what a painter would expect."""

import numpy as np
import pytest

from strategies import monochromatic
from underpaint.errors import SampleError
from underpaint.physics.atomic import mass_attenuation
from underpaint.physics.forward import depth_of_origin, emit
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import Layer, Paint, Stratigraphy, ground_layer


def test_thick_metal_has_the_closed_form() -> None:
    """95 % of a line come from above ``3.0 / s``, s the attenuation in plus out; no other line excites zinc."""
    instrument = monochromatic(15.0)
    layer = Layer({"Zn": 1.0}, 7.1, 60.0)
    result = depth_of_origin(Stratigraphy((layer,)), instrument)
    line = result.lines.name.index("Zn-KL3")
    energy = np.asarray([15.0, result.lines.energy_kev[line]])
    into, out = mass_attenuation("Zn", energy) * 7.1e-4
    geometry = instrument.geometry
    slope = into / np.sin(np.radians(geometry.incidence_angle_deg))
    slope += out / np.sin(np.radians(geometry.takeoff_angle_deg))
    # 2 %: scattered light reaches a little deeper, and slices are interpolated
    assert result.information_depth_um(0.95)[line] == pytest.approx(-np.log(0.05) / slope, rel=0.02)


def test_shares_are_those_of_the_emission() -> None:
    top, below = Paint({"vermilion": 1.0}).layer(20.0), Paint({"lead_white": 1.0}).layer(30.0)
    stratigraphy = Stratigraphy((top, below, ground_layer("chalk", 100.0)))
    result, emission = depth_of_origin(stratigraphy, Instrument()), emit([stratigraphy], Instrument())
    photons = emission.layer_photons[0]
    strong = photons.sum(axis=0) > 1e-4 * photons.sum(axis=0).max()
    expected = (photons / np.maximum(photons.sum(axis=0), 1e-300))[:, strong]
    np.testing.assert_allclose(result.share[:, strong], expected, atol=2e-3)
    np.testing.assert_allclose(result.share[:, strong].sum(axis=0), 1.0)
    assert result.share[1, result.lines.name.index("Pb-L3M5")] > 0.9
    # hard lines come from deeper than soft ones
    depth, names = result.information_depth_um(), result.lines.name
    assert depth[names.index("Pb-L2M4")] > depth[names.index("Pb-M5N7")]


def test_absent_lines_have_no_depth() -> None:
    lead = Layer({"Pb": 1.0}, 11.3, 500.0)
    result = depth_of_origin(Stratigraphy((lead, ground_layer("chalk", 100.0))), monochromatic(14.0))
    assert np.isfinite(result.information_depth_um()[result.lines.name.index("Pb-L3M5")])


@pytest.mark.parametrize("share", [0.0, 1.0, 2.0])
def test_impossible_shares_are_refused(share: float) -> None:
    result = depth_of_origin(Stratigraphy((Layer({"Zn": 1.0}, 7.1, 5.0),)), monochromatic(15.0))
    with pytest.raises(SampleError, match="between 0 and 1"):
        result.information_depth_um(share)
