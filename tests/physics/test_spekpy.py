"""The tube against spekpy, from Monte Carlo data of electrons in thick anodes (Poludniowski 2021)."""

import numpy as np
import pytest
from numpy.typing import NDArray

from underpaint.physics.forward import source_spectrum
from underpaint.physics.instrument import Geometry, Instrument, Tube

spekpy = pytest.importorskip("spekpy", reason="spekpy is a cross-check of the development extra")
Array = NDArray[np.float64]
EDGES_KEV = np.arange(8.0, 40.1, 4.0)
ANODES = ("W", "Mo", "Rh")
"""spekpy has no others."""


def theirs(anode: str, **kinds: bool) -> tuple[Array, Array]:
    """Energies and photons per 0.1 keV behind 127 um of beryllium, electrons straight onto the anode."""
    tube = spekpy.Spek(kvp=40.0, th=15.0, dk=0.1, targ=anode, physics="casim", **kinds).filter("Be", 0.127)
    energy, photons = tube.get_spectrum()
    return np.asarray(energy), np.asarray(photons) * 0.1


def ours(anode: str) -> tuple[Array, Array, Array]:
    tube = Tube(anode=anode, voltage_kv=40.0, takeoff_angle_deg=15.0, electron_angle_deg=75.0)
    return source_spectrum(Instrument(tube=tube, geometry=Geometry(source_air_cm=0.0)))


@pytest.mark.parametrize("anode", ANODES)
def test_shape_of_the_continuum(anode: str) -> None:
    """Shares of 4 keV from 8 to 40 keV: within 12 %, where the two are furthest apart (below W L edges, at the end)."""
    energy, weight, width = ours(anode)
    mine = np.histogram(energy[width > 0], bins=EDGES_KEV, weights=weight[width > 0])[0]
    other = np.histogram(theirs(anode, char=False)[0], bins=EDGES_KEV, weights=theirs(anode, char=False)[1])[0]
    np.testing.assert_allclose(mine / mine.sum(), other / other.sum(), rtol=0.12)


@pytest.mark.parametrize(("anode", "low", "high"), [("W", 8.0, 13.0), ("Mo", 16.0, 21.0), ("Rh", 19.0, 24.0)])
def test_lines_over_the_continuum(anode: str, low: float, high: float) -> None:
    """Ebel's lines are 0.60 to 0.68 of spekpy's. Both say so of thick anodes; which is nearer is not settled here."""
    energy, weight, width = ours(anode)
    continuum = weight[(width > 0) & (energy > 8.0)].sum()
    mine = weight[(width == 0) & (energy > low) & (energy < high)].sum() / continuum
    at, smooth = theirs(anode, char=False)
    lines = theirs(anode, brem=False)[1]
    other = lines[(at > low) & (at < high)].sum() / smooth[at > 8.0].sum()
    assert 0.55 < mine / other < 0.72
