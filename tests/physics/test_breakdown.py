import numpy as np
import pytest

from underpaint.errors import SampleError
from underpaint.physics.forward.breakdown import Breakdown, breakdown
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import Layer, Paint, Stratigraphy, ground_layer

PAINTING = Stratigraphy(
    (
        Paint({"vermilion": 1.0}).layer(20.0),
        Paint({"lead_white": 0.9, "zinc_white": 0.1}).layer(60.0),
        ground_layer("chalk", 150.0),
    )
)


@pytest.fixture(scope="module")
def taken_apart() -> Breakdown:
    return breakdown(PAINTING, load_instrument("elio"), counts=1e5)


def test_the_parts_sum_to_the_whole(taken_apart: Breakdown) -> None:
    highest = taken_apart.total.max()
    for split in (taken_apart.by_element(), taken_apart.by_family(), taken_apart.by_layer(), taken_apart.by_order()):
        np.testing.assert_allclose(sum(split.values()), taken_apart.total, rtol=1e-9, atol=1e-12 * highest)
    assert sum(part.counts for part in taken_apart.parts) == pytest.approx(1e5, rel=1e-9)


def test_lines_come_from_the_layers_that_hold_their_element(taken_apart: Breakdown) -> None:
    layers = {part.layer for part in taken_apart.parts if part.element == "Zn"}
    assert layers == {1}
    assert {part.layer for part in taken_apart.parts if part.element == "Hg"} == {0}
    scatter = [part for part in taken_apart.parts if part.family == "scatter"]
    assert [part.order for part in scatter] == ["coherent", "compton", "multiple"]
    assert all(part.layer is None for part in scatter)


def test_no_more_is_detected_than_arrives(taken_apart: Breakdown) -> None:
    assert all(part.counts <= part.photons * (1 + 1e-9) for part in taken_apart.parts)
    assert all(part.photons >= 0 for part in taken_apart.parts)


def test_the_primary_is_the_strongest_order(taken_apart: Breakdown) -> None:
    orders = {name: spectrum.sum() for name, spectrum in taken_apart.by_order().items()}
    assert orders["primary"] > orders["secondary"] > orders["tertiary"] > 0


def test_counts_must_be_positive() -> None:
    alloy = Stratigraphy((Layer({"Cu": 1.0}, 8.9, 10.0),))
    with pytest.raises(SampleError, match="-3"):
        breakdown(alloy, load_instrument("elio"), counts=-3.0)
