"""Amounts of groups' elements from a network's log-odds: median, interval, and whether a threshold is reached."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import INTERVAL_PROBABILITY

AMOUNT_OUTPUTS = ("amount", "amount_low", "amount_high", "amount_reached")
_MAX_PERCENT = 100.0
UPPER_PROBABILITY = 0.97
"""Probability, by the network, at which the 95 % point of an amount is read.

The network is overconfident about hidden pigments: on Monte Carlo panels its 95 % point lies above the amount of 79 to
89 % of them, its 97 % point above that of 91 to 96 %.
"""
_ODDS = {
    "amount": 0.0,
    "amount_low": float(np.log((0.5 + 0.5 * INTERVAL_PROBABILITY) / (0.5 - 0.5 * INTERVAL_PROBABILITY))),
    "amount_high": float(np.log((1.0 - UPPER_PROBABILITY) / UPPER_PROBABILITY)),
}
_MIN_DIFFERENCE = 1e-6


@dataclass(frozen=True)
class Amounts:
    """Amounts to compute, and the thresholds above which an element counts as a pigment.

    Parameters
    ----------
    names : tuple of str
        Names of the groups, with places.
    columns : (n_name,) int array
        Indices among the amounts of the network.
    edges : (n_edge,) array
        Mass fractions to which the network's log-odds belong.
    threshold : (n_name,) array
        Mass fraction from which each group's element counts as a pigment.
    """

    names: tuple[str, ...]
    columns: NDArray[np.intp]
    edges: NDArray[np.float64]
    threshold: NDArray[np.float64]

    def __call__(self, log_odds: NDArray[np.float32]) -> dict[str, NDArray[np.float16]]:
        """Return (n, n_name) median, 5 and 95 % points, mass per cent, and the probability of reaching the threshold.

        Parameters
        ----------
        log_odds : (n, n_amount n_edge) array
            That the mass fraction reaches each edge; they fall from edge to edge.

        Notes
        -----
        Between edges log-odds are linear in the logarithm of the mass fraction. A 5 % point under the lowest edge is
        0: there is an upper limit alone. A 95 % point over the highest edge is 100 %.
        """
        odds = log_odds.reshape(len(log_odds), -1, self.edges.size)[:, self.columns]
        values: dict[str, NDArray[np.floating]] = {
            name: self._point(odds, target_log_odds) for name, target_log_odds in _ODDS.items()
        }
        values["amount_low"][odds[..., 0] < _ODDS["amount_low"]] = 0.0
        values["amount_high"][odds[..., -1] > _ODDS["amount_high"]] = _MAX_PERCENT
        values["amount_reached"] = 1.0 / (1.0 + np.exp(-self._at_threshold(odds)))
        return {name: point_values.astype(np.float16) for name, point_values in values.items()}

    def empty(self, shape: Sequence[int]) -> dict[str, NDArray[np.float16]]:
        """Return arrays (*shape, n_name) of "no answer" by the names of what a call returns."""
        return {name: np.full((*shape, len(self.names)), np.nan, np.float16) for name in AMOUNT_OUTPUTS}

    def _point(self, odds: NDArray[np.float32], target_log_odds: float) -> NDArray[np.float32]:
        """Return the mass per cent at which falling log-odds cross a value; the outermost edges beyond them."""
        n_above = (odds > target_log_odds).sum(axis=-1)
        before = np.clip(n_above - 1, 0, self.edges.size - 2)[..., None]
        left, right = (np.take_along_axis(odds, before + step, axis=-1)[..., 0] for step in (0, 1))
        fraction = np.clip((left - target_log_odds) / np.maximum(left - right, _MIN_DIFFERENCE), 0.0, 1.0)
        log_edges = np.log(self.edges)
        log_share = log_edges[before[..., 0]] + fraction * np.diff(log_edges)[before[..., 0]]
        return np.asarray(100.0 * np.exp(log_share), np.float32)

    def _at_threshold(self, odds: NDArray[np.float32]) -> NDArray[np.float32]:
        log_edges = np.log(self.edges)
        upper_edge = np.clip(np.searchsorted(self.edges, self.threshold), 1, self.edges.size - 1)
        fraction = (np.log(self.threshold) - log_edges[upper_edge - 1]) / (
            log_edges[upper_edge] - log_edges[upper_edge - 1]
        )
        name_index = np.arange(len(self.names))
        return np.asarray(
            (1.0 - fraction) * odds[:, name_index, upper_edge - 1] + fraction * odds[:, name_index, upper_edge],
            np.float32,
        )
