"""What the answers of a measured scan are held against: scatter, and the place in another detector."""

import numpy as np
import pytest

from underpaint.data.maps import Results
from underpaint.lab.evaluation.measured_scan import (
    amount_agreement,
    below_scatter_correlation,
    contradicting_places,
    determined_places,
)

SHAPE = (40, 50)
PLACES = ("lead_pigment", "lead_pigment.surface", "lead_pigment.below")


def places(surface: np.ndarray, below: np.ndarray) -> Results:
    """Return lead everywhere, with probabilities at the surface and below."""
    return Results.of_pigments(
        names=PLACES,
        probability=np.stack([np.full(SHAPE, 0.99), surface, below], axis=2).astype(np.float32),
        kinds=("group",) * 3,
        groups=tuple((name,) for name in PLACES),
        labels=("lead",) * 3,
        elements=(("Pb_L",),) * 3,
    )


def with_scatter(results: Results, area: np.ndarray, compton: np.ndarray) -> Results:
    maps = [values[:, :, None].astype(np.float32) for values in (area, compton)]
    lines = Results.of_lines(("Pb_L",), maps[0], np.ones_like(maps[0]))
    return results | lines | Results.of_scatter(("Compton",), maps[1], np.ones_like(maps[1]))


def test_below_that_follows_scatter_differs_from_one_that_follows_lead() -> None:
    rng = np.random.default_rng(1)
    area, compton = rng.uniform(1e3, 1e4, SHAPE), rng.uniform(1e3, 2e3, SHAPE)
    surface = np.full(SHAPE, 0.5)
    by_lead = below_scatter_correlation(with_scatter(places(surface, area / 1e4), area, compton))
    by_scatter = below_scatter_correlation(with_scatter(places(surface, 1.0 - compton / 2e3), area, compton))
    assert by_lead == pytest.approx(0.0, abs=0.1)
    assert by_scatter == pytest.approx(-1.0, abs=0.01)
    assert below_scatter_correlation(places(surface, surface)) is None


def test_places_that_contradict_are_counted_among_those_that_are_stated() -> None:
    left = np.broadcast_to(np.arange(SHAPE[1]) < 10, SHAPE)
    surface, below = np.where(left, 0.9, 0.5), np.where(left, 0.1, 0.5)
    first, second = places(surface, below), places(np.full(SHAPE, 0.05), np.full(SHAPE, 0.95))
    assert determined_places(first)["lead_pigment"] == pytest.approx(0.2)
    assert determined_places(second)["mean"] == 1.0
    assert contradicting_places(first, second) == {"lead_pigment": 1.0, "mean": 1.0}
    assert contradicting_places(second, second) == {"lead_pigment": 0.0, "mean": 0.0}


def test_amounts_agree_where_their_intervals_overlap() -> None:
    everywhere = places(np.full(SHAPE, 0.9), np.full(SHAPE, 0.9))
    value = np.full((*SHAPE, 1), 2.0, np.float32)
    higher = np.where(np.arange(SHAPE[1])[None, :, None] < 5, 10.0, 3.0).astype(np.float32) * np.ones_like(value)
    first, second = (
        everywhere | Results.of_amounts(("lead_pigment",), each, 0.6 * each, 1.5 * each, np.ones_like(each))
        for each in (value, higher)
    )
    share = 1.0 - 5 / SHAPE[1]
    assert amount_agreement(first, second) == {"lead_pigment": pytest.approx(share), "mean": pytest.approx(share)}
    assert amount_agreement(everywhere, everywhere) == {}
