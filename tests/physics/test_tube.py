"""The tube against the source of the Monte Carlo panels: PyMca's Ebel continuum and K lines, XMI-MSIM's L lines."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from underpaint.physics.forward import source_spectrum
from underpaint.physics.instrument import Geometry, Instrument, Tube

REFERENCE = Path(__file__).resolve().parents[2].parent / "shared" / "reference"
Array = NDArray[np.float64]
pytestmark = pytest.mark.skipif(
    not (REFERENCE / "mc_panels.npz").is_file(), reason="the Monte Carlo panels are not beside this repository"
)


@pytest.fixture(scope="module")
def ours() -> tuple[Array, Array, Array]:
    return source_spectrum(Instrument(tube=Tube(anode="Rh", voltage_kv=40.0), geometry=Geometry(source_air_cm=0.0)))


@pytest.fixture(scope="module")
def lines() -> Array:
    facts = json.loads((REFERENCE / "mc_panels.json").read_text("utf-8"))
    return np.asarray([line[:2] for line in facts["tube"]["lines"]])


def test_continuum(ours: tuple[Array, Array, Array]) -> None:
    """Same formula; PyMca counts photoelectric absorption in the anode alone, we all of it."""
    energy, weight, width = ours
    with np.load(REFERENCE / "mc_panels.npz", allow_pickle=False) as arrays:
        nodes, photons = arrays["tube_cont_energy_keV"], arrays["tube_cont_phot_per_s_sr_mA_keV"]
    bins = (width > 0) & (energy > 4.1)
    ratio = weight[bins] / width[bins] / np.interp(energy[bins], nodes, photons)
    np.testing.assert_allclose(ratio, 1.0, atol=0.02)


def ratio_between(ours: tuple[Array, Array, Array], lines: Array, low: float, high: float) -> float:
    energy, weight, width = ours
    inside = (width == 0) & (energy > low) & (energy < high)
    theirs = (lines[:, 0] > low) & (lines[:, 0] < high)
    return float(weight[inside].sum() / lines[theirs, 1].sum())


def test_k_lines(ours: tuple[Array, Array, Array], lines: Array) -> None:
    """PyMca takes 6.0e13 where Ebel 1999 (and XMI-MSIM) have 5.0e13; beyond that factor, yields differ by 3 %."""
    assert ratio_between(ours, lines, 20.0, 23.5) * 6.0 / 5.0 == pytest.approx(1.0, abs=0.05)


def test_l_lines(ours: tuple[Array, Array, Array], lines: Array) -> None:
    """XMI-MSIM takes one mean yield for the three L shells, we each shell's own: L3 agrees, L1 and L2 come lower."""
    assert ratio_between(ours, lines, 2.6, 2.8) == pytest.approx(1.0, abs=0.03)
    assert ratio_between(ours, lines, 2.6, 3.2) == pytest.approx(1.0, abs=0.10)
