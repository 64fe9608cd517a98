"""Joint results of two independent runs: layers, order, thickness, shares; or that these are not determined."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any

import numpy as np

from underpaint.pigments.explain.sampling import Sample
from underpaint.pigments.explain.states import (
    MAX_LAYERS,
    THICKNESS_RANGE_UM,
    BoolArray,
    FloatArray,
    IntArray,
    PaintPrior,
)

LEVEL = 0.90
"""Probability of the intervals."""
MIN_PROBABILITY = 0.95
"""Minimum probability, in each run, of stated results."""
MAX_THICKNESS_RATIO = 8.0
"""Maximum ratio of the limits of a thickness that counts as determined."""
MAX_SHARE_WIDTH = 0.6
"""Maximum difference of the limits of a share that counts as determined."""
OPEN_END_RATIO = 1.3
"""Ratio to the limit of the allowed range within which an interval is open."""
MAX_EVIDENCE_DIFFERENCE = 5.0
"""Maximum difference of the runs' log evidence; above it, a run missed likely layers, and no values are stated."""
RUNS_DIFFER = "two independent runs give different answers"
MIN_PIGMENT_PROBABILITY = 0.1
"""Minimum probability of a pigment that is listed."""
MIN_VARIANCE_FRACTION = 0.3
"""A thickness is stated separately for each pigment if at least this fraction of its variance lies between pigments."""


@dataclass(frozen=True)
class Draws:
    """Draws of one run's posterior, in physical units.

    Parameters
    ----------
    groups : tuple of str
    members : tuple of tuple of str
        Names of the pigments of each group.
    n_layer : (n,) int array
    holds : (n, MAX_LAYERS, n_group) bool array
        Whether a layer holds one of the group's own members; see ``States``.
    member : (n, MAX_LAYERS, n_group) int array
    thickness_um : (n, MAX_LAYERS) array
        NaN in layers that do not exist.
    share : (n, MAX_LAYERS, n_group) array
        Mass fraction of a layer's dry pigments that belongs to each group; a pigment of two groups counts in both.
    top_layer : (n, n_group) int array
        Uppermost layer with more than a trace of a group; MAX_LAYERS without one.
    log_evidence : float
    families : tuple of str
        Line families.
    from_surface : (n, n_family) array
        Fraction of each family's counts from the uppermost layer; NaN without counts.
    """

    groups: tuple[str, ...]
    members: tuple[tuple[str, ...], ...]
    n_layer: IntArray
    holds: BoolArray
    member: IntArray
    thickness_um: FloatArray
    share: FloatArray
    top_layer: IntArray
    log_evidence: float = 0.0
    families: tuple[str, ...] = ()
    from_surface: FloatArray = field(default_factory=lambda: np.empty((0, 0)))

    def __len__(self) -> int:
        return len(self.n_layer)


def draws_of(prior: PaintPrior, sample: Sample) -> Draws:
    """Return the draws of a posterior sample in physical units."""
    states, physical = sample.states, prior.physical(sample.states)
    carries = prior.carries[np.arange(len(prior.groups)), states.member] * states.holds[..., None]
    return Draws(
        prior.groups,
        tuple(tuple(pigment.name for pigment in members) for members in prior.members),
        states.n_layer,
        states.holds,
        states.member,
        physical.thickness_um,
        np.einsum("nlg,nlgh->nlh", physical.share, carries),
        prior.top_layer(states),
        sample.log_evidence,
    )


def pool_draws(runs: Sequence[Draws]) -> Draws:
    """Return the draws of several runs in one, each with the same weight."""
    first = runs[0]
    names = ("n_layer", "holds", "member", "thickness_um", "share", "top_layer", "from_surface")
    arrays: dict[str, Any] = {name: np.concatenate([getattr(run, name) for run in runs]) for name in names}
    return replace(first, **arrays, log_evidence=float(np.mean([run.log_evidence for run in runs])))


@dataclass(frozen=True)
class LayerNumber:
    """Number of layers of paint.

    Parameters
    ----------
    probability : tuple of float
        Probability of one, two and three layers.
    determined : int or None
        The number of layers, if its probability is at least ``MIN_PROBABILITY`` in each run.
    """

    probability: tuple[float, ...]
    determined: int | None


@dataclass(frozen=True)
class PairOrder:
    """Order of two groups: the uppermost layer of the first is above the uppermost layer of the second.

    Parameters
    ----------
    above, below : str
    probability : float
    determined : bool
        Whether the probability is at least ``MIN_PROBABILITY`` in each run.
    """

    above: str
    below: str
    probability: float
    determined: bool


@dataclass(frozen=True)
class Estimate:
    """Credible interval of a thickness (um) or of a mass fraction.

    Parameters
    ----------
    low, median, high : float
        Quantiles of the draws of both runs; the limits enclose the probability ``LEVEL``.
    determined : bool
        Whether the value is determined.
    reason : str
        Reason why the value is not determined; else empty.
    open_low, open_high : bool
        Whether the limit is that of the allowed range, so that the spectrum gives no limit.
    """

    low: float
    median: float
    high: float
    determined: bool
    reason: str = ""
    open_low: bool = False
    open_high: bool = False


@dataclass(frozen=True)
class LayerVerdict:
    """Results for one layer.

    Parameters
    ----------
    layer : int
        Index of the layer, 0 at the surface.
    thickness : Estimate
    by_member : dict of str to Estimate
        Thickness for each pigment, if it depends on the pigment; else empty.
    shares : dict of str to Estimate
        Mass fractions of the groups that are likely in this layer, given that they are present.
    presence : dict of str to float
        Probability that each of these groups is in this layer.
    """

    layer: int
    thickness: Estimate
    by_member: dict[str, Estimate]
    shares: dict[str, Estimate]
    presence: dict[str, float]


def number_of_layers(runs: Sequence[Draws]) -> LayerNumber:
    """Return the number of layers from all runs."""
    probability_by_run = np.asarray(
        [[(run.n_layer == index + 1).mean() for index in range(MAX_LAYERS)] for run in runs]
    )
    likeliest = int(probability_by_run.mean(axis=0).argmax())
    # of one group there is one layer by assumption: equal neighbours are not told apart
    is_certain = len(runs[0].groups) > 1 and bool((probability_by_run[:, likeliest] >= MIN_PROBABILITY).all())
    return LayerNumber(tuple(probability_by_run.mean(axis=0).tolist()), likeliest + 1 if is_certain else None)


def pair_orders(runs: Sequence[Draws]) -> list[PairOrder]:
    """Return the likelier order of every pair of groups."""
    groups = runs[0].groups
    orders = []
    for above, below in permutations(range(len(groups)), 2):
        probability_by_run = [_begins_above(run, above, below) for run in runs]
        reverse = [_begins_above(run, below, above) for run in runs]
        mean_probability, mean_reverse = float(np.mean(probability_by_run)), float(np.mean(reverse))
        if mean_probability > mean_reverse or (mean_probability == mean_reverse and above < below):
            orders.append(
                PairOrder(groups[above], groups[below], mean_probability, min(probability_by_run) >= MIN_PROBABILITY)
            )
    return orders


def _begins_above(run: Draws, above: int, below: int) -> float:
    """Return the probability that both groups are present and the first begins above the second."""
    is_below_present = run.top_layer[:, below] < MAX_LAYERS
    return float((is_below_present & (run.top_layer[:, above] < run.top_layer[:, below])).mean())


def presence(runs: Sequence[Draws]) -> dict[str, float]:
    """Return the probability that each group is in a layer of paint."""
    presence_by_run = [(run.share > 0).any(axis=1).mean(axis=0) for run in runs]
    return dict(zip(runs[0].groups, np.mean(presence_by_run, axis=0).tolist(), strict=True))


def layer_verdict(runs: Sequence[Draws], layer: int) -> LayerVerdict:
    """Return the results for a layer, from the draws that have this layer."""
    layer_exists = [run.n_layer > layer for run in runs]
    thickness = _thickness_estimate(
        [run.thickness_um[rows, layer] for run, rows in zip(runs, layer_exists, strict=True)]
    )
    shares, present = {}, {}
    for column, group in enumerate(runs[0].groups):
        holds = [run.share[has_layer, layer, column] > 0 for run, has_layer in zip(runs, layer_exists, strict=True)]
        probability = float(np.concatenate(holds).mean()) if sum(map(len, holds)) else 0.0
        if probability >= 0.5:
            values = [
                run.share[has_layer, layer, column][is_held]
                for run, has_layer, is_held in zip(runs, layer_exists, holds, strict=True)
            ]
            shares[group], present[group] = _share_estimate(values), probability
    by_member = {} if thickness.reason == RUNS_DIFFER else _thickness_by_member(runs, layer)
    if evidence_difference(runs) > MAX_EVIDENCE_DIFFERENCE:
        thickness, by_member = _as_not_determined(thickness), {}
        shares = {name: _as_not_determined(estimate) for name, estimate in shares.items()}
    return LayerVerdict(layer, thickness, by_member, shares, present)


def surface_shares(runs: Sequence[Draws]) -> dict[str, Estimate]:
    """Return the share of each line family's counts that comes from the uppermost layer."""
    shares: dict[str, Estimate] = {}
    for column, family in enumerate(runs[0].families):
        values = [run.from_surface[:, column] for run in runs]
        estimate = _share_estimate([values_of_run[np.isfinite(values_of_run)] for values_of_run in values])
        shares[family] = (
            estimate if evidence_difference(runs) <= MAX_EVIDENCE_DIFFERENCE else _as_not_determined(estimate)
        )
    return shares


def um_text(value_um: float) -> str:
    """Return a thickness with two digits: "8.4", "120"."""
    return f"{float(f'{value_um:.2g}'):g}"


def _as_not_determined(estimate: Estimate) -> Estimate:
    return replace(estimate, determined=False, reason=RUNS_DIFFER)


def evidence_difference(runs: Sequence[Draws]) -> float:
    """Return the difference of the runs' log evidence."""
    return float(np.ptp([run.log_evidence for run in runs]))


def _thickness_estimate(values: Sequence[FloatArray]) -> Estimate:
    low, high = THICKNESS_RANGE_UM
    log_thickness = [np.log(values_of_run) for values_of_run in values]
    if reason := _disagreement(log_thickness):
        return _estimate(values, reason)
    estimate = _estimate(values, "")
    open_low, open_high = estimate.low <= OPEN_END_RATIO * low, estimate.high >= high / OPEN_END_RATIO
    if open_low and open_high:
        return _estimate(values, "the spectrum gives no limit")
    if not (open_low or open_high) and estimate.high > MAX_THICKNESS_RATIO * estimate.low:
        return _estimate(values, f"it may be anything from {um_text(estimate.low)} to {um_text(estimate.high)} um")
    return Estimate(estimate.low, estimate.median, estimate.high, True, "", open_low, open_high)


def _share_estimate(values: Sequence[FloatArray]) -> Estimate:
    if reason := _disagreement(values):
        return _estimate(values, reason)
    estimate = _estimate(values, "")
    is_wide = estimate.high - estimate.low > MAX_SHARE_WIDTH
    return _estimate(values, "the interval is too wide" if is_wide else "")


def _estimate(values: Sequence[FloatArray], reason: str) -> Estimate:
    all_values = np.concatenate(values)
    if not all_values.size:
        return Estimate(np.nan, np.nan, np.nan, False, "there is no such layer")
    low, median, high = np.quantile(all_values, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2]).tolist()
    return Estimate(low, median, high, not reason, reason)


def _disagreement(values: Sequence[FloatArray]) -> str:
    """Return why the intervals of two runs differ; "" if they agree."""
    if any(values_of_run.size < 10 for values_of_run in values):
        return "too few draws have it"
    low, median, high = np.asarray(
        [np.quantile(values_of_run, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2]) for values_of_run in values]
    ).T
    interval_half_width = float(np.mean(high - low)) / 2
    median_difference = float(np.ptp(median))
    return RUNS_DIFFER if median_difference > max(interval_half_width, 1e-3) else ""


def _thickness_by_member(runs: Sequence[Draws], layer: int) -> dict[str, Estimate]:
    """Return the thickness for each likely pigment of the group on which it depends most; empty if on none."""
    all_draws = pool_draws(runs)
    layer_exists = all_draws.n_layer > layer
    max_between, by_member = MIN_VARIANCE_FRACTION, {}
    for column, names in enumerate(all_draws.members):
        rows = layer_exists & all_draws.holds[:, layer, column]
        if rows.sum() < 0.5 * max(int(layer_exists.sum()), 1):
            continue
        log_thickness, member = np.log(all_draws.thickness_um[rows, layer]), all_draws.member[rows, layer, column]
        listed_indices = [index for index in range(len(names)) if (member == index).mean() >= MIN_PIGMENT_PROBABILITY]
        if len(listed_indices) < 2 or log_thickness.var() == 0:
            continue
        means = np.asarray([log_thickness[member == index].mean() for index in listed_indices])
        weights = np.asarray([(member == index).mean() for index in listed_indices])
        between_fraction = float(
            (weights * (means - np.average(means, weights=weights)) ** 2).sum() / weights.sum() / log_thickness.var()
        )
        if between_fraction > max_between:
            max_between = between_fraction
            by_member = {
                names[index]: _estimate([np.exp(log_thickness[member == index])], "") for index in listed_indices
            }
    return by_member
