"""Photons pile up within their pixel; threes are not counted as pairs."""

import numpy as np
import pytest
from scipy.optimize import nnls

from underpaint.data import EnergyAxis
from underpaint.data.pile_up import pile_up_shape, self_convolution
from underpaint.physics.forward import pile_up
from underpaint.physics.instrument import Detector

AXIS = EnergyAxis(0.05, -0.1, 640)


def line(energy_kev: float) -> np.ndarray:
    counts = np.exp(-0.5 * ((AXIS.energy_kev - energy_kev) / 0.07) ** 2)
    return np.asarray(1e5 * counts / counts.sum())


def at(spectrum: np.ndarray, energy_kev: float) -> float:
    return float(spectrum[round(AXIS.channel(energy_kev))])


def test_lines_of_two_pixels_do_not_add_up() -> None:
    iron, lead = line(6.4), line(10.55)
    separate, _ = pile_up_shape(self_convolution(np.stack([iron, lead])), AXIS)
    together, _ = pile_up_shape(self_convolution((iron + lead)[None, :]), AXIS)
    assert at(separate, 6.4 + 10.55) < 1e-9 * at(separate, 12.8)
    assert at(together, 6.4 + 10.55) > at(together, 12.8)


@pytest.mark.parametrize("chance", [0.003, 0.02, 0.05])
def test_what_piles_up_lies_between_the_two_shapes(chance: float) -> None:
    single = np.stack([line(6.4) + 0.5 * line(3.7), 3.0 * line(8.05)])
    detector = Detector(pulse_pair_us=1.0)
    rate = 1e6 * chance * single.sum(axis=1) / single.sum(axis=1).mean()
    recorded = np.asarray(pile_up(single, rate, detector, AXIS))
    pairs, fewer = pile_up_shape(self_convolution(recorded), AXIS)
    above = AXIS.energy_kev > 10.0
    both, alone = (
        nnls(np.stack(shapes, axis=1)[above], recorded.sum(axis=0)[above])[1]
        / np.linalg.norm(recorded.sum(axis=0)[above])
        for shapes in ((pairs, fewer), (pairs,))
    )
    assert both < 0.3 * alone
