"""Order of two pigments, from a network's probabilities at the surface and below."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import PLACED_PROBABILITY, PRESENT_PROBABILITY, Results

NOT_BOTH, ON_TOP, BELOW, TOGETHER, NOT_DETERMINED = 0, 1, 2, 3, 4
ORDERS = {
    NOT_BOTH: "not both present",
    ON_TOP: "the first on top",
    BELOW: "the second on top",
    TOGETHER: "both at the surface",
    NOT_DETERMINED: "not determined",
}
"""Meaning of the values of :func:`order_map`."""
MIN_MAJORITY = 0.5


@dataclass(frozen=True)
class LayerOrder:
    """Order of two groups, over the pixels in which both are present.

    Parameters
    ----------
    first, second : str
        Names of the groups.
    n_pixel : int
        Pixels that hold both.
    on_top, below, together : float
        Shares of these pixels where the first lies on top, the second does, both lie at the surface. The rest is not
        determined.
    of_paint : float
        Share of these pixels whose order is that of their paint: their own spectrum does not determine it.
    """

    first: str
    second: str
    n_pixel: int
    on_top: float
    below: float
    together: float
    of_paint: float = 0.0

    @property
    def not_determined(self) -> float:
        """Share of these pixels where the order is not determined."""
        return max(1.0 - self.on_top - self.below - self.together, 0.0)

    @property
    def answer(self) -> int:
        """The key of ``ORDERS`` that holds for more than half of these pixels, else ``NOT_DETERMINED``."""
        shares = {ON_TOP: self.on_top, BELOW: self.below, TOGETHER: self.together}
        best = max(shares, key=lambda key: shares[key])
        return best if shares[best] > MIN_MAJORITY else NOT_DETERMINED


def order_map(results: Results, first: str, second: str) -> NDArray[np.uint8]:
    """Return (n_row, n_column) keys of ``ORDERS``: which of two groups lies on top, where both are present.

    Parameters
    ----------
    results : Results
        Results of a model with places.
    first, second : str
        Groups or pigments.

    Raises
    ------
    KeyError
        There are no maps of their places.

    Notes
    -----
    The first is on top where it is at the surface and the second is below and not at the surface. A network gives the
    probabilities of the three alone, not their correlation; in any case, all three hold with a probability of at least
    their sum minus two (Bonferroni). An order is given from a least probability of
    ``PLACED_PROBABILITY`` on; the orders exclude each other, so no two of them reach it. Where none is given, it is
    that of the pixel's paint, if its layers were sampled and state one.
    """
    return _with_paints(results, first, second, _order_of_pixels(results, first, second))


def _with_paints(results: Results, first: str, second: str, of_pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    order = of_pixels.copy()
    label = results.map("paint") if results.paints else np.zeros(order.shape, np.uint8)
    for area in results.paints:
        for pair, answer in (((first, second), ON_TOP), ((second, first), BELOW)):
            if pair in area.orders:
                order[(order == NOT_DETERMINED) & (label == area.number)] = answer
    return order


def _order_of_pixels(results: Results, first: str, second: str) -> NDArray[np.uint8]:
    surface = [results[name, "surface"].astype(np.float64) for name in (first, second)]
    below = [results[name, "below"].astype(np.float64) for name in (first, second)]
    order = np.full(surface[0].shape, NOT_DETERMINED, np.uint8)
    order[surface[0] + below[1] - surface[1] - 1.0 >= PLACED_PROBABILITY] = ON_TOP
    order[surface[1] + below[0] - surface[0] - 1.0 >= PLACED_PROBABILITY] = BELOW
    order[surface[0] + surface[1] - 1.0 >= PLACED_PROBABILITY] = TOGETHER
    both = (results[first] > PRESENT_PROBABILITY) & (results[second] > PRESENT_PROBABILITY)
    order[~both] = NOT_BOTH
    return order


def layer_orders(
    results: Results, names: Sequence[str] | None = None, *, least_share: float = 0.001
) -> list[LayerOrder]:
    """Return how each pair of groups lies that share enough pixels, the most widespread pair first.

    Parameters
    ----------
    results : Results
        Results; the list is empty for a model without places.
    names : sequence of str or None
        Groups to pair; None: all.
    least_share : float
        Minimum fraction of the pixels with an answer in which both are present.
    """
    if not {"surface", "below"} <= set(results.places):
        return []
    n_known = max(int(results.has_prediction.sum()), 1)
    paired = combinations(results.groups if names is None else names, 2)
    pairs = [_order(results, first, second) for first, second in paired]
    return sorted((order for order in pairs if order.n_pixel > least_share * n_known), key=lambda order: -order.n_pixel)


def _order(results: Results, first: str, second: str) -> LayerOrder:
    of_pixels = _order_of_pixels(results, first, second)
    order_keys = _with_paints(results, first, second, of_pixels)
    n_pixel = int((order_keys != NOT_BOTH).sum())
    on_top, below, together = (float((order_keys == key).sum()) / max(n_pixel, 1) for key in (ON_TOP, BELOW, TOGETHER))
    of_paint = (order_keys != of_pixels).sum() / max(n_pixel, 1)
    return LayerOrder(first, second, n_pixel, on_top, below, together, float(of_paint))
