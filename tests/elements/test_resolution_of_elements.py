"""The element fit takes its peak width from the one formula of the spectrum room."""

import numpy as np
import pytest

from underpaint.data import EnergyAxis
from underpaint.elements import _families
from underpaint.elements._families import fwhm_channels
from underpaint.physics.instrument import Detector


def test_width_is_the_detectors_in_channels() -> None:
    axis = EnergyAxis(0.02, 0.0, 1024)
    detector = Detector(noise_fwhm_kev=0.08, fano=0.115)
    at_iron = round(axis.channel(6.4))
    expected = np.sqrt(0.08**2 + 2.354820045**2 * 3.85e-3 * 0.115 * axis.energy_kev[at_iron]) / 0.02
    assert fwhm_channels(detector, axis)[at_iron] == pytest.approx(expected)


def test_width_follows_the_formula_of_the_spectrum_room(monkeypatch: pytest.MonkeyPatch) -> None:
    axis = EnergyAxis(0.02, 0.0, 64)
    monkeypatch.setattr(_families, "resolution_fwhm_kev", lambda energy, _noise, _fano: np.full(energy.size, 0.2))
    np.testing.assert_allclose(fwhm_channels(Detector(), axis), 10.0)
