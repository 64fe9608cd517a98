"""Lines too weak for a group of their own, and fits with a flat bottom."""

import numpy as np
import pytest

from underpaint.calibrate._patterns import line_groups
from underpaint.calibrate._refine import GroupModel, Response, measure_lines
from underpaint.calibrate._tube import parabola_minimum
from underpaint.data.peaks import peak_counts
from underpaint.physics.atomic import family_lines

RESPONSE = Response(0.03, 0.0, 0.08, 0.115)


def counts_of(**areas: float) -> np.ndarray:
    axis = RESPONSE.axis(1024)
    total = np.full(1024, 2e4)
    for family, area in areas.items():
        symbol, shell = family.split("_")
        energy, share = family_lines(symbol, shell, 35.0)
        total += area * peak_counts(axis, energy, share, RESPONSE.fwhm_kev(energy))
    return total


def test_leads_weakest_line_goes_with_lines_of_its_subshell() -> None:
    host = next(group for group in line_groups("Pb_L") if 15.77 < group.satellite_kev.max(initial=0.0) < 15.79)
    assert host.centre_kev == pytest.approx(15.16, abs=0.02)
    assert host.satellite_fraction.sum() < 0.2 * host.strength


def test_zirconium_is_no_line_to_calibrate_by_beside_lead() -> None:
    groups = [*line_groups("Pb_L"), *line_groups("Zr_K")]
    with_lead = measure_lines(GroupModel(counts_of(Pb_L=6e7, Zr_K=1.2e5), groups, RESPONSE), RESPONSE)
    alone = measure_lines(GroupModel(counts_of(Zr_K=1.2e5), groups, RESPONSE), RESPONSE)
    assert next(line for line in with_lead if line.name == "Zr-KL3").is_blended
    zirconium = next(line for line in alone if line.name == "Zr-KL3")
    assert not zirconium.is_blended
    assert abs(zirconium.offset_kev) < 0.002


def test_lowest_of_a_parabola_is_its_vertex() -> None:
    values = np.arange(10.0, 20.0)
    vertex, error = parabola_minimum(values, 3.0 + 4.0 * (values - 14.3) ** 2, 100)
    assert vertex == pytest.approx(14.3)
    assert error == pytest.approx(0.5)


def test_a_flat_bottom_is_not_taken_for_its_lowest_ripple() -> None:
    values = np.arange(10.0, 20.0)
    misfit = np.maximum(np.abs(values - 14.5) - 2.0, 0.0) ** 2 * 400.0 + 100.0
    misfit[2] -= 1.0  # at 12, the left end of the bottom
    vertex, error = parabola_minimum(values, misfit, 100)
    assert vertex == pytest.approx(14.5, abs=0.6)
    assert error > 0.1
