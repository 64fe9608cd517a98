"""Amounts of elements from a network's log-odds: median, interval, and probability of reaching a threshold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import INTERVAL_PROBABILITY

AMOUNT_OUTPUTS = ("amount", "amount_low", "amount_high", "amount_reached")
_MAX_PERCENT = 100.0
_LOG_ODDS_OF_POINTS = {
    "amount": 0.0,
    "amount_low": float(np.log((0.5 + 0.5 * INTERVAL_PROBABILITY) / (0.5 - 0.5 * INTERVAL_PROBABILITY))),
}
_LOG_ODDS_OF_POINTS["amount_high"] = -_LOG_ODDS_OF_POINTS["amount_low"]
_MIN_DIFFERENCE = 1e-6


@dataclass(frozen=True)
class Amounts:
    """Amounts to compute, and the thresholds from which an element counts as a pigment.

    Parameters
    ----------
    names : tuple of str
        Names of the groups, with places.
    columns : (n_name,) int array
        Indices among the amounts of the network.
    edges : (n_edge,) array
        Mass fractions for which the network predicts log-odds.
    threshold : (n_name,) array
        Mass fraction from which the element of each group counts as a pigment.
    """

    names: tuple[str, ...]
    columns: NDArray[np.intp]
    edges: NDArray[np.float64]
    threshold: NDArray[np.float64]

    def __call__(self, log_odds: NDArray[np.float32]) -> dict[str, NDArray[np.float16]]:
        """Return (n, n_name) arrays of amounts, mass per cent, and of the probability of reaching the threshold.

        The amounts are the median and the 5 and 95 % points.

        Parameters
        ----------
        log_odds : (n, n_amount n_edge) array
            Log-odds that the mass fraction reaches each edge; they decrease from edge to edge.

        Notes
        -----
        Between edges, log-odds are interpolated linearly in the logarithm of the mass fraction. A 5 % point below the
        lowest edge becomes 0, so that there is only an upper limit. A 95 % point above the highest edge becomes 100 %.
        """
        log_odds_by_edge = log_odds.reshape(len(log_odds), -1, self.edges.size)[:, self.columns]
        values: dict[str, NDArray[np.floating]] = {
            name: self._amount_at(log_odds_by_edge, target_log_odds)
            for name, target_log_odds in _LOG_ODDS_OF_POINTS.items()
        }
        values["amount_low"][log_odds_by_edge[..., 0] < _LOG_ODDS_OF_POINTS["amount_low"]] = 0.0
        values["amount_high"][log_odds_by_edge[..., -1] > _LOG_ODDS_OF_POINTS["amount_high"]] = _MAX_PERCENT
        values["amount_reached"] = 1.0 / (1.0 + np.exp(-self._log_odds_at_threshold(log_odds_by_edge)))
        return {name: point_values.astype(np.float16) for name, point_values in values.items()}

    def empty_arrays(self, shape: Sequence[int]) -> dict[str, NDArray[np.float16]]:
        """Return (*shape, n_name) arrays of NaN, "no answer", with the names that a call returns."""
        return {name: np.full((*shape, len(self.names)), np.nan, np.float16) for name in AMOUNT_OUTPUTS}

    def _amount_at(self, log_odds_by_edge: NDArray[np.float32], target_log_odds: float) -> NDArray[np.float32]:
        """Return the mass per cent at which the log-odds cross a value, limited to the range of the edges."""
        n_above = (log_odds_by_edge > target_log_odds).sum(axis=-1)
        edge_index = np.clip(n_above - 1, 0, self.edges.size - 2)[..., None]
        log_odds_below, log_odds_above = (
            np.take_along_axis(log_odds_by_edge, edge_index + step, axis=-1)[..., 0] for step in (0, 1)
        )
        edge_fraction = np.clip(
            (log_odds_below - target_log_odds) / np.maximum(log_odds_below - log_odds_above, _MIN_DIFFERENCE), 0.0, 1.0
        )
        log_edges = np.log(self.edges)
        log_share = log_edges[edge_index[..., 0]] + edge_fraction * np.diff(log_edges)[edge_index[..., 0]]
        return np.asarray(100.0 * np.exp(log_share), np.float32)

    def _log_odds_at_threshold(self, log_odds_by_edge: NDArray[np.float32]) -> NDArray[np.float32]:
        log_edges = np.log(self.edges)
        upper_edge = np.clip(np.searchsorted(self.edges, self.threshold), 1, self.edges.size - 1)
        edge_fraction = (np.log(self.threshold) - log_edges[upper_edge - 1]) / (
            log_edges[upper_edge] - log_edges[upper_edge - 1]
        )
        name_index = np.arange(len(self.names))
        return np.asarray(
            (1.0 - edge_fraction) * log_odds_by_edge[:, name_index, upper_edge - 1]
            + edge_fraction * log_odds_by_edge[:, name_index, upper_edge],
            np.float32,
        )
