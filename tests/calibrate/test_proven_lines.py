"""Lines that do not belong to what they are taken for must not pull the energy axis."""

from dataclasses import replace

import numpy as np
import pytest

from underpaint.calibrate._refine import LineFit, Response, proven_lines, regress_axis

TRUE = Response(0.02, 0.03, 0.1, 0.115)


def line(name: str, energy_kev: float, off_kev: float = 0.0, *, leading: bool = True) -> LineFit:
    channel = (energy_kev + off_kev - TRUE.zero_kev) / TRUE.gain_kev
    return LineFit(name, energy_kev, 0.0, 1e-4, channel, 1e6, 1e3, is_blended=False, is_leading=leading)


LINES = [line("Ca-KL3", 3.69), line("Fe-KL3", 6.40), line("Cu-KL3", 8.04), line("Zn-KL3", 8.63), line("Sr-KL3", 14.14)]


def test_a_weaker_line_counts_only_beside_its_leading_one() -> None:
    iron, bromine = line("Fe-KM3", 7.06, leading=False), line("Br-KM3", 13.29, leading=False)
    assert proven_lines([*LINES, iron, bromine]) == [*LINES, iron]


@pytest.mark.parametrize("off_kev", [0.006, 0.02, -0.04])
def test_one_line_that_is_off_does_not_move_the_axis(off_kev: float) -> None:
    response, covariance = regress_axis([*LINES, line("Se-KL3", 11.21, off_kev)], replace(TRUE, zero_kev=0.0))
    assert abs(response.gain_kev / TRUE.gain_kev - 1) < 2e-4
    assert abs(response.zero_kev - TRUE.zero_kev) < 1.5e-3
    assert np.all(np.linalg.eigvalsh(covariance) > 0)
