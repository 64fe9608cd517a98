"""Which of two groups lies on top; places, thickness and shares as values."""

import numpy as np
import pytest
from scipy.stats import lognorm

from place_fakes import SHAPE, SIGMA, THIN_UM, placed_maps
from underpaint.data.maps import PLACED_PROBABILITY, SURFACE_UM, Results, Stack
from underpaint.data.paint_areas import PaintArea
from underpaint.display.report.layers import place_shares, share_below_in_paint
from underpaint.errors import ScanError
from underpaint.pigments.predict.order import (
    BOTH_AT_SURFACE,
    FIRST_ON_TOP,
    NOT_BOTH_PRESENT,
    NOT_DETERMINED,
    SECOND_ON_TOP,
    layer_orders,
    order_map,
)


def pair(first: tuple[float, float], other: tuple[float, float], *, anywhere: float = 0.99) -> Results:
    """Two groups in one pixel; of each the probability at the surface, and below."""
    names = ("a", "b", "a.surface", "b.surface", "a.below", "b.below")
    values = np.array([[[anywhere, 0.99, first[0], other[0], first[1], other[1]]]], np.float32)
    groups = tuple((name,) for name in names)
    return Results.of_pigments(names, values, kinds=("group",) * 6, groups=groups, labels=names, elements=((),) * 6)


@pytest.mark.parametrize(
    ("first", "other", "order"),
    [
        ((0.95, 0.1), (0.05, 0.95), FIRST_ON_TOP),
        ((0.05, 0.95), (0.95, 0.1), SECOND_ON_TOP),
        ((0.95, 0.9), (0.05, 0.95), FIRST_ON_TOP),
        ((0.95, 0.1), (0.95, 0.1), BOTH_AT_SURFACE),
        ((0.1, 0.9), (0.1, 0.9), NOT_DETERMINED),
        ((0.9, 0.1), (0.1, 0.9), NOT_DETERMINED),
        ((0.85, 0.1), (0.85, 0.1), NOT_DETERMINED),
        ((0.5, 0.5), (0.5, 0.5), NOT_DETERMINED),
    ],
)
def test_an_order_is_given_from_a_least_probability_of_three_quarters(
    first: tuple[float, float], other: tuple[float, float], order: int
) -> None:
    assert order_map(pair(first, other), "a", "b")[0, 0] == order


def test_the_least_probability_holds_however_the_answers_hang_together() -> None:
    rng = np.random.default_rng(0)
    for weights in rng.dirichlet(np.full(8, 0.3), 2000):
        joint = weights.reshape(2, 2, 2)  # a at the surface, b below, b at the surface
        surface, below, second_surface = joint[1].sum(), joint[:, 1].sum(), joint[:, :, 1].sum()
        order = order_map(pair((surface, 0.0), (second_surface, below)), "a", "b")[0, 0]
        assert order != FIRST_ON_TOP or joint[1, 1, 0] > PLACED_PROBABILITY - 1e-6


def test_a_pixel_that_does_not_hold_both_has_no_order() -> None:
    assert order_map(pair((0.9, 0.1), (0.1, 0.9), anywhere=0.4), "a", "b")[0, 0] == NOT_BOTH_PRESENT


def test_orders_are_counted_over_the_pixels_that_hold_both() -> None:
    (layer_order,) = layer_orders(placed_maps())
    assert (layer_order.first_group, layer_order.second_group) == ("mercury_red", "lead_pigment")
    assert layer_order.n_pixel == (SHAPE[0] - 1) * 20
    assert layer_order.first_on_top_share == pytest.approx(1 - 48 / layer_order.n_pixel)
    assert layer_order.undetermined_share == pytest.approx(48 / layer_order.n_pixel)
    assert layer_order.order_key == FIRST_ON_TOP


def test_without_places_there_is_no_order() -> None:
    maps = placed_maps()
    probability = maps.stacks["probability"]
    indices = [index for index, (_, place) in enumerate(probability.keys) if place == "anywhere"]
    keys = tuple(probability.keys[index] for index in indices)
    plain = Results({"probability": Stack(keys, probability.values[:, :, indices])}, maps.materials)
    assert plain.places == ("anywhere",)
    assert layer_orders(plain) == []
    with pytest.raises(KeyError, match="predicts no places"):
        order_map(plain, "mercury_red", "lead_pigment")
    with pytest.raises(ScanError, match="contain no quantities"):
        plain.estimate(SURFACE_UM)


def test_the_interval_of_a_thickness_is_that_of_its_logarithm() -> None:
    maps = placed_maps()
    for level in (0.5, 0.9, 0.99):
        _, low, high = maps.estimate(SURFACE_UM, level)
        expected = lognorm.interval(level, SIGMA, scale=THIN_UM)
        assert (low[0, 0], high[0, 0]) == pytest.approx(expected, rel=1e-5)
    assert np.isnan(maps.estimate(SURFACE_UM).value[-1]).all()
    with pytest.raises(ValueError, match="probability 90"):
        maps.estimate(SURFACE_UM, 90)


def test_an_interval_over_a_factor_of_ten_determines_nothing() -> None:
    determined = placed_maps().is_determined(SURFACE_UM)
    assert determined[:-1, :30].all()
    assert not determined[:, 30:].any()
    assert not determined[-1].any()


def test_one_map_is_taken_by_name_and_place() -> None:
    maps = placed_maps()
    assert maps.groups == ("mercury_red", "lead_pigment", "copper_green_blue")
    assert maps.pigments == ("vermilion", "lead_white", "azurite")
    np.testing.assert_array_equal(maps.pigment_at("vermilion", "surface"), maps["vermilion", "surface"])
    np.testing.assert_array_equal(maps["vermilion", "anywhere"], maps["vermilion"])
    assert float(maps.share.sel(group="lead_pigment", quantile=0.5)[0, 0]) == 0.5
    with pytest.raises(KeyError, match="No map is called"):
        maps["smalt", "surface"]


def with_paint(results: Results, *pairs: tuple[str, str, bool]) -> Results:
    """One paint over all, whose posterior gives orders, determined or not."""
    order = [{"above": above, "below": below, "probability": 0.97, "determined": sure} for above, below, sure in pairs]
    area = PaintArea(1, results.has_prediction.size, 1.0, explanation={"order": order})
    return results | Results.of_paints(np.ones(results.shape, np.uint8), [area])


def test_an_open_order_is_that_of_the_paint() -> None:
    """Orders of pixels are unchanged; where pixels leave the order open, the order of the paint is used and counted."""
    maps = placed_maps()
    before = order_map(maps, "mercury_red", "lead_pigment")
    painted = with_paint(maps, ("lead_pigment", "mercury_red", True))
    after = order_map(painted, "mercury_red", "lead_pigment")
    assert (before == NOT_DETERMINED).any()
    np.testing.assert_array_equal(after, np.where(before == NOT_DETERMINED, SECOND_ON_TOP, before))
    (pair_of_groups,) = layer_orders(painted)
    assert pair_of_groups.from_paint_share == pytest.approx((before == NOT_DETERMINED).sum() / pair_of_groups.n_pixel)
    unsure = with_paint(maps, ("lead_pigment", "mercury_red", False))
    np.testing.assert_array_equal(order_map(unsure, "mercury_red", "lead_pigment"), before)
    assert layer_orders(unsure)[0].from_paint_share == 0.0


def test_a_group_at_an_open_depth_is_below_where_its_paint_has_it_there() -> None:
    maps = placed_maps()
    painted = with_paint(maps, ("mercury_red", "lead_pigment", True))
    before, after = ({row.name: row for row in place_shares(results)} for results in (maps, painted))
    assert before["lead_pigment"].unplaced > 0
    assert after["lead_pigment"].unplaced == 0
    gained = before["lead_pigment"].unplaced
    assert after["lead_pigment"].below == pytest.approx(before["lead_pigment"].below + gained)
    assert after["mercury_red"] == before["mercury_red"]
    assert share_below_in_paint(maps) == 0.0 < share_below_in_paint(painted)
