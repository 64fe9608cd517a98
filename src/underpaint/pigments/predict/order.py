"""Order of two groups in depth, from a network's probabilities of each group at the surface and below."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import PLACED_PROBABILITY, PRESENT_PROBABILITY, Results

NOT_BOTH_PRESENT, FIRST_ON_TOP, SECOND_ON_TOP, BOTH_AT_SURFACE, NOT_DETERMINED = 0, 1, 2, 3, 4
ORDER_TEXTS = {
    NOT_BOTH_PRESENT: "not both present",
    FIRST_ON_TOP: "the first on top",
    SECOND_ON_TOP: "the second on top",
    BOTH_AT_SURFACE: "both at the surface",
    NOT_DETERMINED: "not determined",
}
"""Texts for the values of :func:`order_map`."""
MIN_MAJORITY_SHARE = 0.5


@dataclass(frozen=True)
class LayerOrder:
    """Order of two groups in the pixels in which both are present.

    Parameters
    ----------
    first_group, second_group : str
        Names of the groups.
    n_pixel : int
        Number of pixels in which both groups are present.
    first_on_top_share, second_on_top_share, both_at_surface_share : float
        Fractions of the pixels with both groups. The fractions are those with the first group on top, with the second
        group on top, and with both groups at the surface. The order is not determined in the remaining pixels.
    from_paint_share : float
        Fraction of the pixels with both groups that have the order of their paint, because their spectrum determines no
        order.
    """

    first_group: str
    second_group: str
    n_pixel: int
    first_on_top_share: float
    second_on_top_share: float
    both_at_surface_share: float
    from_paint_share: float = 0.0

    @property
    def undetermined_share(self) -> float:
        """Fraction of the pixels with both groups in which the order is not determined."""
        return max(1.0 - self.first_on_top_share - self.second_on_top_share - self.both_at_surface_share, 0.0)

    @property
    def order_key(self) -> int:
        """Order in most pixels with both groups, as a key of ``ORDER_TEXTS``, or ``NOT_DETERMINED``."""
        share_by_order = {
            FIRST_ON_TOP: self.first_on_top_share,
            SECOND_ON_TOP: self.second_on_top_share,
            BOTH_AT_SURFACE: self.both_at_surface_share,
        }
        most_common_order = max(share_by_order, key=lambda order_key: share_by_order[order_key])
        return most_common_order if share_by_order[most_common_order] > MIN_MAJORITY_SHARE else NOT_DETERMINED


def order_map(results: Results, first_group: str, second_group: str) -> NDArray[np.uint8]:
    """Return an (n_row, n_column) map of the order of two groups, whose values are keys of ``ORDER_TEXTS``.

    Parameters
    ----------
    results : Results
        Results of a model with places.
    first_group, second_group : str
        Groups or pigments.

    Raises
    ------
    KeyError
        The results have no maps of the groups at the surface and below.

    Notes
    -----
    The first group is on top if three conditions hold. The first group is at the surface, the second group is below,
    and the second group is not at the surface. A network predicts the probabilities of these three conditions, but not
    their correlation. The probability that all three conditions are true is at least the sum of their probabilities
    minus two (Bonferroni). An order is stated if the lower bound of its probability reaches ``PLACED_PROBABILITY``. At
    most one order reaches this limit, because the orders are mutually exclusive. A pixel without a stated order has the
    order of its paint, if the sampled layers of the paint determine an order.
    """
    return _fill_from_paints(results, first_group, second_group, _order_of_pixels(results, first_group, second_group))


def _fill_from_paints(
    results: Results, first_group: str, second_group: str, pixel_orders: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    order_values = pixel_orders.copy()
    paint_map = results.map("paint") if results.paints else np.zeros(order_values.shape, np.uint8)
    for paint_area in results.paints:
        for group_pair, order_key in (
            ((first_group, second_group), FIRST_ON_TOP),
            ((second_group, first_group), SECOND_ON_TOP),
        ):
            if group_pair in paint_area.orders:
                order_values[(order_values == NOT_DETERMINED) & (paint_map == paint_area.number)] = order_key
    return order_values


def _order_of_pixels(results: Results, first_group: str, second_group: str) -> NDArray[np.uint8]:
    surface_probability = [results[name, "surface"].astype(np.float64) for name in (first_group, second_group)]
    below_probability = [results[name, "below"].astype(np.float64) for name in (first_group, second_group)]
    order_values = np.full(surface_probability[0].shape, NOT_DETERMINED, np.uint8)
    order_values[surface_probability[0] + below_probability[1] - surface_probability[1] - 1.0 >= PLACED_PROBABILITY] = (
        FIRST_ON_TOP
    )
    order_values[surface_probability[1] + below_probability[0] - surface_probability[0] - 1.0 >= PLACED_PROBABILITY] = (
        SECOND_ON_TOP
    )
    order_values[surface_probability[0] + surface_probability[1] - 1.0 >= PLACED_PROBABILITY] = BOTH_AT_SURFACE
    is_both_present = (results[first_group] > PRESENT_PROBABILITY) & (results[second_group] > PRESENT_PROBABILITY)
    order_values[~is_both_present] = NOT_BOTH_PRESENT
    return order_values


def layer_orders(results: Results, names: Sequence[str] | None = None, *, min_share: float = 0.001) -> list[LayerOrder]:
    """Return the order of each pair of groups that occurs in enough pixels, the most frequent pair first.

    Parameters
    ----------
    results : Results
        Results of a network. For a model without places, the list is empty.
    names : sequence of str or None
        Groups of the pairs, or None for all groups.
    min_share : float
        Minimum fraction of pixels in which both groups are present, among the pixels with a result.
    """
    if not {"surface", "below"} <= set(results.places):
        return []
    n_with_result = max(int(results.has_prediction.sum()), 1)
    group_pairs = combinations(results.groups if names is None else names, 2)
    orders = [_layer_order(results, first_group, second_group) for first_group, second_group in group_pairs]
    return sorted(
        (order for order in orders if order.n_pixel > min_share * n_with_result), key=lambda order: -order.n_pixel
    )


def _layer_order(results: Results, first_group: str, second_group: str) -> LayerOrder:
    pixel_orders = _order_of_pixels(results, first_group, second_group)
    order_keys = _fill_from_paints(results, first_group, second_group, pixel_orders)
    n_pixel = int((order_keys != NOT_BOTH_PRESENT).sum())
    first_on_top_share, second_on_top_share, both_at_surface_share = (
        float((order_keys == order_key).sum()) / max(n_pixel, 1)
        for order_key in (FIRST_ON_TOP, SECOND_ON_TOP, BOTH_AT_SURFACE)
    )
    from_paint_share = (order_keys != pixel_orders).sum() / max(n_pixel, 1)
    return LayerOrder(
        first_group,
        second_group,
        n_pixel,
        first_on_top_share,
        second_on_top_share,
        both_at_surface_share,
        float(from_paint_share),
    )
