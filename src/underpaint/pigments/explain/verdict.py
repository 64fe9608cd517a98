"""Joint results of two independent runs: layers, order, thickness and shares, or the reason for no result."""

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

INTERVAL_PROBABILITY = 0.90
"""Probability that the true value is inside a stated interval."""
MIN_PROBABILITY = 0.95
"""Probability that a result must reach in every run to be stated."""
MAX_THICKNESS_RATIO = 8.0
"""Maximum ratio of the upper to the lower limit of a determined thickness."""
MAX_SHARE_INTERVAL_WIDTH = 0.6
"""Maximum difference between the limits of a determined share."""
MAX_OPEN_LIMIT_RATIO = 1.3
"""Maximum ratio between the limit of an open interval and the limit of the allowed range."""
MAX_EVIDENCE_DIFFERENCE = 5.0
"""Maximum difference between the log evidences of two runs. A larger difference shows that a run missed likely layers,
and no values are then stated."""
RUNS_DIFFER_REASON = "two independent runs give different answers"
MIN_PIGMENT_PROBABILITY = 0.1
"""Minimum probability of a pigment that is listed."""
MIN_PIGMENT_VARIANCE_FRACTION = 0.3
"""If at least this fraction of a thickness's variance lies between pigments, a thickness is stated for each pigment."""


@dataclass(frozen=True)
class Draws:
    """Posterior draws of one run, in physical units.

    Parameters
    ----------
    groups : tuple of str
    members : tuple of tuple of str
        Names of the pigments of each group.
    n_layer : (n,) int array
    is_in_layer : (n, MAX_LAYERS, n_group) bool array
        True where a layer contains a member of a group, as in ``States``.
    member_index : (n, MAX_LAYERS, n_group) int array
    thickness_um : (n, MAX_LAYERS) array
        Thickness of each layer, NaN for missing layers.
    group_share : (n, MAX_LAYERS, n_group) array
        Mass fraction of each group in a layer's dry pigments. A pigment of two groups counts in both groups.
    uppermost_layer : (n, n_group) int array
        Uppermost layer with more than a trace of a group, or MAX_LAYERS for absent groups.
    log_evidence : float
    line_families : tuple of str
        Names of the line families.
    surface_share : (n, n_family) array
        Fraction of each family's counts that comes from the uppermost layer, NaN without counts.
    """

    groups: tuple[str, ...]
    members: tuple[tuple[str, ...], ...]
    n_layer: IntArray
    is_in_layer: BoolArray
    member_index: IntArray
    thickness_um: FloatArray
    group_share: FloatArray
    uppermost_layer: IntArray
    log_evidence: float = 0.0
    line_families: tuple[str, ...] = ()
    surface_share: FloatArray = field(default_factory=lambda: np.empty((0, 0)))

    def __len__(self) -> int:
        return len(self.n_layer)


def draws_of(prior: PaintPrior, sample: Sample) -> Draws:
    """Return the draws of a posterior sample in physical units."""
    states, physical_states = sample.states, prior.to_physical_units(sample.states)
    is_in_group = (
        prior.is_pigment_of_group[np.arange(len(prior.groups)), states.member_index] * states.is_in_layer[..., None]
    )
    return Draws(
        prior.groups,
        tuple(tuple(pigment.name for pigment in members) for members in prior.members),
        states.n_layer,
        states.is_in_layer,
        states.member_index,
        physical_states.thickness_um,
        np.einsum("nlg,nlgh->nlh", physical_states.group_share, is_in_group),
        prior.uppermost_layers(states),
        sample.log_evidence,
    )


def pool_draws(runs: Sequence[Draws]) -> Draws:
    """Return the draws of several runs as one set of draws with equal weights."""
    first_run = runs[0]
    field_names = (
        "n_layer",
        "is_in_layer",
        "member_index",
        "thickness_um",
        "group_share",
        "uppermost_layer",
        "surface_share",
    )
    pooled_arrays: dict[str, Any] = {
        field_name: np.concatenate([getattr(run, field_name) for run in runs]) for field_name in field_names
    }
    return replace(first_run, **pooled_arrays, log_evidence=float(np.mean([run.log_evidence for run in runs])))


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
    """Order of two groups. The uppermost layer of the first group is above the uppermost layer of the second group.

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
        Quantiles of the draws of both runs. The limits enclose a probability of 90 %.
    determined : bool
        Whether the value is determined.
    reason : str
        Reason why the value is not determined, empty for determined values.
    open_low, open_high : bool
        Whether the limit is that of the allowed range, because the spectrum sets no limit.
    """

    low: float
    median: float
    high: float
    determined: bool
    reason: str = ""
    open_low: bool = False
    open_high: bool = False


@dataclass(frozen=True)
class LayerResult:
    """Results for one layer.

    Parameters
    ----------
    layer : int
        Index of the layer, 0 at the surface.
    thickness : Estimate
    thickness_by_member : dict of str to Estimate
        Thickness for each pigment, or an empty mapping if the thickness does not depend on the pigment.
    shares : dict of str to Estimate
        Mass fractions of the groups that are likely in the layer, from the draws that contain the group.
    presence : dict of str to float
        Probability that each of these groups is in the layer.
    """

    layer: int
    thickness: Estimate
    thickness_by_member: dict[str, Estimate]
    shares: dict[str, Estimate]
    presence: dict[str, float]


def number_of_layers(runs: Sequence[Draws]) -> LayerNumber:
    """Return the number of paint layers according to all runs."""
    probability_by_run = np.asarray(
        [[(run.n_layer == layer + 1).mean() for layer in range(MAX_LAYERS)] for run in runs]
    )
    likeliest_layer = int(probability_by_run.mean(axis=0).argmax())
    # a single group has one layer by assumption, since neighbouring layers of the same group are indistinguishable
    is_certain = len(runs[0].groups) > 1 and bool((probability_by_run[:, likeliest_layer] >= MIN_PROBABILITY).all())
    return LayerNumber(tuple(probability_by_run.mean(axis=0).tolist()), likeliest_layer + 1 if is_certain else None)


def pair_orders(runs: Sequence[Draws]) -> list[PairOrder]:
    """Return the more probable order of every pair of groups."""
    groups = runs[0].groups
    orders = []
    for upper_index, lower_index in permutations(range(len(groups)), 2):
        probability_by_run = [_begins_above(run, upper_index, lower_index) for run in runs]
        reverse_by_run = [_begins_above(run, lower_index, upper_index) for run in runs]
        mean_probability, mean_reverse_probability = float(np.mean(probability_by_run)), float(np.mean(reverse_by_run))
        if mean_probability > mean_reverse_probability or (
            mean_probability == mean_reverse_probability and upper_index < lower_index
        ):
            orders.append(
                PairOrder(
                    groups[upper_index],
                    groups[lower_index],
                    mean_probability,
                    min(probability_by_run) >= MIN_PROBABILITY,
                )
            )
    return orders


def _begins_above(run: Draws, upper_index: int, lower_index: int) -> float:
    """Return the probability that both groups are present and that the upper group begins above the lower group."""
    is_lower_present = run.uppermost_layer[:, lower_index] < MAX_LAYERS
    return float(
        (is_lower_present & (run.uppermost_layer[:, upper_index] < run.uppermost_layer[:, lower_index])).mean()
    )


def presence(runs: Sequence[Draws]) -> dict[str, float]:
    """Return the probability that each group is in any layer of paint."""
    presence_by_run = [(run.group_share > 0).any(axis=1).mean(axis=0) for run in runs]
    return dict(zip(runs[0].groups, np.mean(presence_by_run, axis=0).tolist(), strict=True))


def layer_result(runs: Sequence[Draws], layer: int) -> LayerResult:
    """Return the results for a layer, from the draws that contain this layer."""
    has_layer = [run.n_layer > layer for run in runs]
    thickness = _thickness_estimate(
        [run.thickness_um[is_selected, layer] for run, is_selected in zip(runs, has_layer, strict=True)]
    )
    shares, presence_by_group = {}, {}
    for group_index, group in enumerate(runs[0].groups):
        contains_group = [
            run.group_share[run_has_layer, layer, group_index] > 0
            for run, run_has_layer in zip(runs, has_layer, strict=True)
        ]
        group_probability = float(np.concatenate(contains_group).mean()) if sum(map(len, contains_group)) else 0.0
        if group_probability >= 0.5:
            group_shares = [
                run.group_share[run_has_layer, layer, group_index][run_contains_group]
                for run, run_has_layer, run_contains_group in zip(runs, has_layer, contains_group, strict=True)
            ]
            shares[group], presence_by_group[group] = _share_estimate(group_shares), group_probability
    thickness_by_member = {} if thickness.reason == RUNS_DIFFER_REASON else _thickness_by_member(runs, layer)
    if evidence_difference(runs) > MAX_EVIDENCE_DIFFERENCE:
        thickness, thickness_by_member = _as_not_determined(thickness), {}
        shares = {name: _as_not_determined(estimate) for name, estimate in shares.items()}
    return LayerResult(layer, thickness, thickness_by_member, shares, presence_by_group)


def surface_shares(runs: Sequence[Draws]) -> dict[str, Estimate]:
    """Return the share of each line family's counts that comes from the uppermost layer."""
    shares: dict[str, Estimate] = {}
    for family_index, family in enumerate(runs[0].line_families):
        family_shares = [run.surface_share[:, family_index] for run in runs]
        estimate = _share_estimate([run_shares[np.isfinite(run_shares)] for run_shares in family_shares])
        shares[family] = (
            estimate if evidence_difference(runs) <= MAX_EVIDENCE_DIFFERENCE else _as_not_determined(estimate)
        )
    return shares


def um_text(value_um: float) -> str:
    """Return a thickness as a text with two significant digits: "8.4", "120"."""
    return f"{float(f'{value_um:.2g}'):g}"


def _as_not_determined(estimate: Estimate) -> Estimate:
    return replace(estimate, determined=False, reason=RUNS_DIFFER_REASON)


def evidence_difference(runs: Sequence[Draws]) -> float:
    """Return the difference between the largest and the smallest log evidence of the runs."""
    return float(np.ptp([run.log_evidence for run in runs]))


def _thickness_estimate(thickness_by_run: Sequence[FloatArray]) -> Estimate:
    min_um, max_um = THICKNESS_RANGE_UM
    log_thickness = [np.log(run_thickness) for run_thickness in thickness_by_run]
    if disagreement := _disagreement(log_thickness):
        return _estimate(thickness_by_run, disagreement)
    estimate = _estimate(thickness_by_run, "")
    open_low, open_high = estimate.low <= MAX_OPEN_LIMIT_RATIO * min_um, estimate.high >= max_um / MAX_OPEN_LIMIT_RATIO
    if open_low and open_high:
        return _estimate(thickness_by_run, "the spectrum gives no limit")
    if not (open_low or open_high) and estimate.high > MAX_THICKNESS_RATIO * estimate.low:
        return _estimate(
            thickness_by_run, f"the interval of {um_text(estimate.low)} to {um_text(estimate.high)} um is too wide"
        )
    return Estimate(estimate.low, estimate.median, estimate.high, True, "", open_low, open_high)


def _share_estimate(shares_by_run: Sequence[FloatArray]) -> Estimate:
    if disagreement := _disagreement(shares_by_run):
        return _estimate(shares_by_run, disagreement)
    estimate = _estimate(shares_by_run, "")
    is_interval_wide = estimate.high - estimate.low > MAX_SHARE_INTERVAL_WIDTH
    return _estimate(shares_by_run, "the interval is too wide" if is_interval_wide else "")


def _estimate(values_by_run: Sequence[FloatArray], reason: str) -> Estimate:
    all_values = np.concatenate(values_by_run)
    if not all_values.size:
        return Estimate(np.nan, np.nan, np.nan, False, "no draw has this layer")
    low, median, high = np.quantile(
        all_values, [(1 - INTERVAL_PROBABILITY) / 2, 0.5, (1 + INTERVAL_PROBABILITY) / 2]
    ).tolist()
    return Estimate(low, median, high, not reason, reason)


def _disagreement(values_by_run: Sequence[FloatArray]) -> str:
    """Return the reason why the draws of two runs do not agree on a value, or "" if they agree."""
    if any(run_values.size < 10 for run_values in values_by_run):
        return "too few draws contain it"
    lower_limits, medians, upper_limits = np.asarray(
        [
            np.quantile(run_values, [(1 - INTERVAL_PROBABILITY) / 2, 0.5, (1 + INTERVAL_PROBABILITY) / 2])
            for run_values in values_by_run
        ]
    ).T
    interval_half_width = float(np.mean(upper_limits - lower_limits)) / 2
    median_difference = float(np.ptp(medians))
    return RUNS_DIFFER_REASON if median_difference > max(interval_half_width, 1e-3) else ""


def _thickness_by_member(runs: Sequence[Draws], layer: int) -> dict[str, Estimate]:
    """Return the thickness for each likely pigment of the group that affects it, or {} if no group affects it."""
    all_draws = pool_draws(runs)
    layer_exists = all_draws.n_layer > layer
    max_between_fraction, thickness_by_member = MIN_PIGMENT_VARIANCE_FRACTION, {}
    for group_index, member_names in enumerate(all_draws.members):
        is_selected = layer_exists & all_draws.is_in_layer[:, layer, group_index]
        if is_selected.sum() < 0.5 * max(int(layer_exists.sum()), 1):
            continue
        log_thickness, member_index = (
            np.log(all_draws.thickness_um[is_selected, layer]),
            all_draws.member_index[is_selected, layer, group_index],
        )
        listed_indices = [
            member for member in range(len(member_names)) if (member_index == member).mean() >= MIN_PIGMENT_PROBABILITY
        ]
        if len(listed_indices) < 2 or log_thickness.var() == 0:
            continue
        member_means = np.asarray([log_thickness[member_index == member].mean() for member in listed_indices])
        member_weights = np.asarray([(member_index == member).mean() for member in listed_indices])
        between_fraction = float(
            (member_weights * (member_means - np.average(member_means, weights=member_weights)) ** 2).sum()
            / member_weights.sum()
            / log_thickness.var()
        )
        if between_fraction > max_between_fraction:
            max_between_fraction = between_fraction
            thickness_by_member = {
                member_names[member]: _estimate([np.exp(log_thickness[member_index == member])], "")
                for member in listed_indices
            }
    return thickness_by_member
