"""The anode is right, or unknown, on scans that the forward model makes; never another one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from underpaint.calibrate._anode import guess_anode
from underpaint.calibrate._refine import Response
from underpaint.physics.forward import emit, render
from underpaint.physics.instrument import Detector, Geometry, Instrument, Tube
from underpaint.physics.materials import Paint, Stratigraphy, ground_layer, support_layer

DETECTOR = Detector(gain_kev=0.02, zero_kev=0.01, n_channel=2048, noise_fwhm_kev=0.08)
RESPONSE = Response(DETECTOR.gain_kev, DETECTOR.zero_kev, DETECTOR.noise_fwhm_kev, DETECTOR.fano)
GEOMETRIES = [(60.0, 60.0), (90.0, 50.0), (60.0, 30.0)]
VOLTAGES = {"Cr": 20, "Cu": 40, "Mo": 45, "Rh": 40, "Pd": 45, "Ag": 45, "W": 45, "Au": 45}
CLEAR_OF_FLUORESCENCE = ("Mo", "Rh", "Pd", "Ag")


def layers(sample: str) -> Stratigraphy:
    light = (Paint({"chalk": 0.9, "iron_oxide_red": 0.1}).layer(30.0), ground_layer("chalk", 150.0))
    middle = (Paint({"emerald_green": 1.0}).layer(20.0), Paint({"zinc_white": 1.0}).layer(20.0))
    heavy = (Paint({"vermilion": 1.0}).layer(30.0), ground_layer("lead_white", 150.0))
    kinds = {
        "light": (*light, support_layer("canvas")),
        "middle": (*middle, ground_layer("chalk", 150.0)),
        "heavy": heavy,
    }
    return Stratigraphy(kinds[sample])


def sum_spectrum(anode: str, voltage_kv: float, angles: tuple[float, float], sample: str) -> NDArray[np.float64]:
    instrument = Instrument(
        tube=Tube(anode=anode, voltage_kv=voltage_kv),
        geometry=Geometry(incidence_angle_deg=angles[0], takeoff_angle_deg=angles[1]),
        detector=DETECTOR,
    )
    expected = np.asarray(render(emit([layers(sample)], instrument), DETECTOR))[0]
    return np.asarray(np.random.default_rng(3).poisson(expected / expected.sum() * 1e7), dtype=np.float64)


@pytest.mark.parametrize("angles", GEOMETRIES)
@pytest.mark.parametrize("sample", ["light", "middle", "heavy"])
@pytest.mark.parametrize("anode", VOLTAGES)
def test_no_anode_is_taken_for_another(anode: str, sample: str, angles: tuple[float, float]) -> None:
    anode_guess = guess_anode(sum_spectrum(anode, VOLTAGES[anode], angles, sample), RESPONSE)
    assert anode_guess is None or anode_guess.symbol == anode


@pytest.mark.parametrize("angles", GEOMETRIES)
@pytest.mark.parametrize("sample", ["light", "middle"])
@pytest.mark.parametrize("anode", CLEAR_OF_FLUORESCENCE)
def test_scattered_k_lines_name_the_anode(anode: str, sample: str, angles: tuple[float, float]) -> None:
    anode_guess = guess_anode(sum_spectrum(anode, VOLTAGES[anode], angles, sample), RESPONSE)
    assert anode_guess is not None
    assert anode_guess.symbol == anode
    assert anode_guess.scatter_angle_deg == pytest.approx(sum(angles), abs=12)


def test_a_weak_compton_peak_of_a_heavy_sample_is_enough() -> None:
    anode_guess = guess_anode(sum_spectrum("Rh", 40, (90.0, 50.0), "heavy"), RESPONSE)
    assert anode_guess is not None
    assert anode_guess.symbol == "Rh"


def test_a_tube_that_cannot_excite_its_k_lines_is_not_molybdenum() -> None:
    assert guess_anode(sum_spectrum("Cu", 20, (60.0, 30.0), "light"), RESPONSE) is None
