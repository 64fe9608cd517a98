"""Labels of what a spectrum cannot show are left open before a network is fine-tuned on them."""

import numpy as np

from underpaint.data import EnergyAxis
from underpaint.lab.training import labelled_spectra
from underpaint.lab.training.finetuning import hide_invisible_labels
from underpaint.lab.training.library import UNKNOWN
from underpaint.physics.forward import count, emit, render
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import Paint, Stratigraphy, ground_layer
from underpaint.pigments.weights import load_card

PAINTED = ("azurite", "vermilion", "chalk")


def test_a_pigment_under_thick_paint_is_neither_present_nor_absent() -> None:
    elio, card = load_instrument("elio"), load_card("default")
    azurite, vermilion = (Paint({name: 1.0}) for name in PAINTED[:2])
    ground = ground_layer("chalk", 200.0)
    hidden = Stratigraphy((vermilion.layer(150.0), azurite.layer(20.0), ground))
    shown = Stratigraphy((azurite.layer(20.0), vermilion.layer(150.0), ground))
    expected = np.repeat(np.asarray(render(emit([hidden, shown], elio), elio.detector)), 8, axis=0)
    counts = count(1e5 * expected / expected.sum(axis=1, keepdims=True), rng=np.random.default_rng(0))
    axis = EnergyAxis(elio.detector.gain_kev, elio.detector.zero_kev, elio.detector.n_channel)
    data = labelled_spectra(counts, axis, [PAINTED] * 16, card)
    result = hide_invisible_labels(data)

    def labels(name: str) -> list[list[int]]:
        of_name = result.labels[:, result.names.index(name)]
        return [sorted(set(of_name[:8].tolist())), sorted(set(of_name[8:].tolist()))]

    assert labels("copper_green_blue") == [[UNKNOWN], [1]]
    assert labels("azurite") == [[UNKNOWN], [1]]
    assert labels("mercury_red") == [[1], [1]]
    assert labels("zinc_pigment") == [[0], [0]]  # nobody painted it
