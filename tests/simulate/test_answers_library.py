"""Training libraries without a gap between trace and pigment: what is drawn, and what its labels say."""

from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest

from underpaint.data import DEFAULT_NETWORK_AXIS
from underpaint.data.maps import AMOUNT_EDGES, amount_class
from underpaint.physics.forward import emit, render
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import Layer, Paint, Stratigraphy, library, load_palette, support_layer
from underpaint.simulate import LibrarySettings, RandomStratigraphies, StratigraphySampler, simulate_library
from underpaint.simulate.labels import element_shares, group_names, lines_needed
from underpaint.simulate.randomise import INSTRUMENT_KINDS, any_detector, any_instrument
from underpaint.simulate.recipes import paper_mixtures

PALETTE = tuple(load_palette("every_group").pigments)


@cache
def drawn(n: int, *, seed: int = 3, palette: tuple[str, ...] = PALETTE) -> list[Stratigraphy]:
    sampler = StratigraphySampler(RandomStratigraphies(palette=palette, gapless=True, varied_supports=True))
    rng = np.random.default_rng(seed)
    return [sampler.draw(rng) for _ in range(n)]


def test_every_group_of_the_library_has_a_pigment_in_the_palette() -> None:
    assert {group for name in PALETTE for group in library()[name].groups} >= {each.name for each in library().groups}


@pytest.mark.parametrize("element", ["Hg", "Cd", "Sb", "Br", "Ni", "Au", "Pb", "Fe"])
def test_elements_have_every_amount_from_ten_ppm_on(element: str) -> None:
    shares = [
        layer.mass_fractions.get(element, 0.0) for sample in drawn(600) for layer in sample.layers if layer.pigments
    ]
    classes = np.bincount(amount_class(np.asarray(shares)), minlength=len(AMOUNT_EDGES) + 1)
    # up to 3 %: pigments above that are dense, light or mixed with others
    assert np.all(classes[1:8] >= 4), classes


def test_a_held_out_mixture_is_not_drawn_under_a_minor_pigment() -> None:
    mixtures = [mixture for mixture in paper_mixtures().values() if len(mixture) <= 3]
    palette = tuple(sorted({name for mixture in mixtures for name in mixture}))
    for sample in drawn(400, palette=palette):
        for layer in sample.layers[:-3]:
            total = sum(layer.pigments.values())
            shares = {name: part / total for name, part in layer.pigments.items()}
            for mixture in mixtures:
                near = all(abs(shares.get(name, 0.0) - mixture.get(name, 0.0)) < 0.15 for name in {*shares, *mixture})
                assert not (near and set(mixture) <= set(shares))


def test_supports_have_something_behind_them_now_and_then() -> None:
    behind = [sample.layers[-1].name for sample in drawn(600) if "support" in sample.layers[-2].name]
    assert {"support: aluminium plate", "support: wood panel", "support: cardboard"} <= set(behind)


def test_instruments_of_every_kind_are_drawn() -> None:
    rng = np.random.default_rng(5)
    instruments = [any_instrument(rng) for _ in range(200)]
    assert len(INSTRUMENT_KINDS) == 5
    assert any(each.optic is not None for each in instruments)
    assert any(each.source_spectrum is not None for each in instruments)
    assert any(each.geometry.detector_air_cm == 0 for each in instruments)
    assert any(len(each.filters) == 2 for each in instruments)
    assert any(any_detector(rng).filters for _ in range(20))


def visible_in(stratigraphy: Stratigraphy, names: tuple[str, ...]) -> np.ndarray:
    instrument = load_instrument("elio")
    emission = emit([stratigraphy], instrument)
    expected = np.asarray(render(emission, instrument.detector, DEFAULT_NETWORK_AXIS))
    needed, hidden = lines_needed([stratigraphy], emission, expected, names, instrument.detector, DEFAULT_NETWORK_AXIS)
    assert not (hidden >= needed).any()
    return np.asarray(needed[0])


def test_lines_show_whatever_brings_them() -> None:
    paint = Paint({"vermilion": 1.0}).layer(60.0)
    trace = {**{element: 0.998 * part for element, part in paint.mass_fractions.items()}, "Fe": 0.002}
    top = Layer(trace, paint.density, 60.0, "red", paint.pigments)
    sample = Stratigraphy((top, Paint({"chalk": 1.0}).layer(100.0), support_layer("copper_plate")))
    names = (
        "iron_pigment",
        "iron_pigment.surface",
        "iron_pigment.below",
        "copper_green_blue",
        "copper_green_blue.below",
    )
    iron, iron_above, iron_below, copper, copper_below = visible_in(sample, names)
    assert iron == pytest.approx(iron_above)
    assert iron < 1e7
    assert np.isnan(iron_below)
    assert copper == pytest.approx(copper_below)
    assert np.isfinite(copper)


def test_amounts_are_those_of_paint_and_ground_and_not_of_the_support() -> None:
    top, ground = Paint({"vermilion": 1.0}).layer(60.0), Paint({"chalk": 1.0}).layer(100.0)
    sample = Stratigraphy((top, ground, support_layer("copper_plate")))
    names = ("copper_green_blue", "mercury_red", "mercury_red.below", "calcium_white", "calcium_white.surface")
    shares = element_shares([sample], names)[0]
    expected = [0.0, top.mass_fractions["Hg"], 0.0, ground.mass_fractions["Ca"], 0.0]
    np.testing.assert_allclose(shares, expected, rtol=1e-6)


def test_the_library_holds_lines_and_amounts_of_every_group_and_place(tmp_path: Path) -> None:
    settings = LibrarySettings(
        n_stratigraphies=8, renders=2, chunk=4, seed=3, palette="every_group", places=True, gapless=True, varied=True
    )
    with h5py.File(simulate_library(settings, tmp_path / "library.h5", workers=1)) as file:
        needed, hidden, amount, expected = (
            file[name][()] for name in ("lines_needed", "lines_hidden", "amount", "expected")
        )
        labels = file["labels"][()]
    n_group = len(library().groups)
    assert needed.shape == amount.shape == (16, 3 * n_group)
    assert np.all(np.isfinite(expected))
    np.testing.assert_array_equal(np.isnan(hidden), np.isnan(needed))
    assert not np.any(np.isfinite(needed) & (hidden > needed / 9))
    # what the model's error hides for good is hidden at some counts, or at all
    assert np.all(hidden[np.isinf(needed)] > 0)
    anywhere, surface, below = needed[:, :n_group], needed[:, n_group : 2 * n_group], needed[:, 2 * n_group :]
    # what a place brings is there anywhere
    assert not np.isnan(anywhere[~np.isnan(surface)]).any()
    assert not np.isnan(anywhere[~np.isnan(below)]).any()
    # a pigment's element has an amount
    assert np.all(amount[:, :n_group][labels[:, :n_group] == 1] > 0)
    # a chunk's stratigraphies come once for each render
    np.testing.assert_array_equal(amount[:4], amount[4:8])


def test_amounts_of_answers_name_groups_alone() -> None:
    assert group_names(("mercury_red", "vermilion", "mercury_red.below")) == ("mercury_red", "mercury_red.below")


def test_what_a_seed_draws_without_the_new_settings_stays() -> None:
    sampler = StratigraphySampler(RandomStratigraphies(palette=load_palette("easel_15_to_20").pigments))
    rng = np.random.default_rng(1)
    thickness = [[layer.thickness_um for layer in sampler.draw(rng).layers] for _ in range(3)]
    # of version 0.1.0: order and number of the draws are part of every training library and of the element fit
    expected = [[80.564, 87.753, 56.211, 500.0], [10.138, 111.253, 150.0], [85.149, 7.39, 12.942, 228.883, 500.0]]
    assert [len(row) for row in thickness] == [len(row) for row in expected]
    np.testing.assert_allclose(np.concatenate(thickness), np.concatenate(expected), atol=1e-3)
