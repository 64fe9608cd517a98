"""Which of two pigments lies on top, from what a network says of the surface and of what is below it."""

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
"""What the numbers of :func:`order_map` mean."""
LEAST_MAJORITY = 0.5


@dataclass(frozen=True)
class LayerOrder:
    """How two groups that are both there lie to each other, over the pixels that hold both.

    Parameters
    ----------
    one, other : str
        Names of the groups.
    n_pixel : int
        Pixels that hold both.
    on_top, below, together : float
        Shares of these pixels where the first lies on top, the second does, both lie at the surface. The rest is not
        determined.
    of_paint : float
        Share of these pixels whose order is that of their paint: their own spectrum does not determine it.
    """

    one: str
    other: str
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
        return best if shares[best] > LEAST_MAJORITY else NOT_DETERMINED


def order_map(results: Results, one: str, other: str) -> NDArray[np.uint8]:
    """Return (n_row, n_column) keys of ``ORDERS``: which of two groups lies on top, where both are present.

    Parameters
    ----------
    results : Results
        Of a model that knows places.
    one, other : str
        Groups or pigments.

    Raises
    ------
    KeyError
        There are no maps of their places.

    Notes
    -----
    The first is on top where it is at the surface and the second is below and not at the surface. A network gives the
    probabilities of the three alone, not how they hang together; whatever that is, all three hold with a probability of
    at least their sum less two (Bonferroni). An order is given from a least probability of
    ``PLACED_PROBABILITY`` on; the orders exclude each other, so no two of them reach it. Where none is given, it is
    that of the pixel's paint, if its layers were sampled and state one.
    """
    order = _order_of_pixels(results, one, other)
    label = results.map("paint") if results.paints else np.zeros(order.shape, np.uint8)
    for area in results.paints:
        for pair, answer in (((one, other), ON_TOP), ((other, one), BELOW)):
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
        Of a model without places there are none.
    names : sequence of str or None
        Groups to pair; None: all.
    least_share : float
        Of the answered pixels, that hold both.
    """
    if not {"surface", "below"} <= set(results.places):
        return []
    n_known = max(int(results.answered.sum()), 1)
    paired = combinations(results.groups if names is None else names, 2)
    pairs = [_order(results, one, other) for one, other in paired]
    return sorted((own for own in pairs if own.n_pixel > least_share * n_known), key=lambda own: -own.n_pixel)


def _order(results: Results, one: str, other: str) -> LayerOrder:
    found = order_map(results, one, other)
    n_pixel = int((found != NOT_BOTH).sum())
    on_top, below, together = (float((found == key).sum()) / max(n_pixel, 1) for key in (ON_TOP, BELOW, TOGETHER))
    of_paint = (found != _order_of_pixels(results, one, other)).sum() / max(n_pixel, 1)
    return LayerOrder(one, other, n_pixel, on_top, below, together, float(of_paint))
