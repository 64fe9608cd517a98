"""On an axis whose lines lie nowhere no pigment is claimed; an anode that is not known is asked for."""

import numpy as np
import pytest

import underpaint as up
from underpaint.calibrate import resolve_energy_axis
from underpaint.data import EnergyAxis, Scan
from underpaint.data.peaks import peak_counts, resolution_fwhm_kev
from underpaint.errors import CoverageError
from underpaint.physics.atomic import family_lines

RIGHT = EnergyAxis(0.02, -0.1, 2048)


def metal(symbol: str, axis: EnergyAxis) -> Scan:
    """Return spectra of a pure metal under a tube without lines of its own, with an axis as its header states it."""
    energy = RIGHT.energy_kev
    hump = np.exp(-(((energy - 14.0) / 8.0) ** 2)) * (energy > 1.0)
    line_kev, rate = family_lines(symbol, "K", 40.0)
    width = resolution_fwhm_kev(line_kev, 0.09, 0.115)
    lines = peak_counts(RIGHT, line_kev, 7e4 * rate / rate.sum(), width)
    expected = lines + 3e4 * hump / hump.sum()
    return Scan(np.random.default_rng(1).poisson(np.broadcast_to(expected, (3, 4, 2048))), axis)


@pytest.mark.parametrize(("symbol", "factor"), [("Fe", 1.015), ("Cu", 2.0)])
def test_no_pigment_is_claimed_on_an_axis_that_the_lines_contradict(symbol: str, factor: float) -> None:
    scan = metal(symbol, EnergyAxis(0.02 * factor, -0.1, 2048))
    axis = resolve_energy_axis(scan)
    assert axis.is_doubted
    assert "could not be checked" in axis.alerts[0]
    with pytest.raises(CoverageError, match="do not lie where the file's energy axis"):
        up.identify(scan)
    assert up.identify(scan, calibrated=False).groups  # as told


def test_a_pure_metal_on_the_right_axis_is_answered_and_the_anode_requested() -> None:
    maps = up.identify(metal("Fe", RIGHT))
    assert (maps["iron_pigment"] > 0.5).all()
    assert any("anode is not known" in note for note in maps.notes)


def test_too_few_counts_are_no_contradiction() -> None:
    scan = metal("Fe", EnergyAxis(0.0203, -0.1, 2048))
    few = Scan(np.random.default_rng(2).binomial(np.asarray(scan.counts), 0.01), scan.axis)
    axis = resolve_energy_axis(few)
    assert not axis.is_doubted
    assert axis.alerts
