"""What two independent runs say together: layers, order, thickness, shares; or that it is not determined."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any

import numpy as np

from underpaint.pigments.explain.sampling import Sample
from underpaint.pigments.explain.states import (
    MOST_LAYERS,
    THICKNESS_UM,
    Flags,
    Integers,
    Numbers,
    PaintPrior,
)

LEVEL = 0.90
"""Probability of the intervals."""
SURE = 0.95
"""Least probability, in each run, of what is stated."""
WIDEST = 8.0
"""Largest ratio of the ends of a thickness that is called determined."""
WIDEST_SHARE = 0.6
"""Largest difference of the ends of a share."""
OPEN_END = 1.3
"""An interval that comes this near, as a ratio, to the end of what was allowed is open there."""
FAR_APART = 5.0
"""Difference of the runs' log evidence from which one of them missed likely layers, and no number is given."""
RUNS_DIFFER = "two independent runs give different answers"
LIKELY = 0.1
"""Least probability of a pigment that is named."""
MATTERS = 0.3
"""Share of a thickness' variance between pigments from which it is stated by pigment."""


@dataclass(frozen=True)
class Draws:
    """Draws of one run's posterior, in physical units.

    Parameters
    ----------
    groups : tuple of str
    members : tuple of tuple of str
        Names of the pigments of each group.
    n_layer : (n,) int array
    holds : (n, MOST_LAYERS, n_group) bool array
        Whether a layer holds one of the group's own members; see ``States``.
    member : (n, MOST_LAYERS, n_group) int array
    thickness_um : (n, MOST_LAYERS) array
        NaN in layers that do not exist.
    share : (n, MOST_LAYERS, n_group) array
        Of the mass of a layer's dry pigments, in pigments of a group; one of two groups counts in both.
    top_layer : (n, n_group) int array
        Uppermost layer with more than a trace of a group; MOST_LAYERS where it is in none.
    log_evidence : float
    families : tuple of str
        Line families.
    from_surface : (n, n_family) array
        Share of each family's counts from the uppermost layer; NaN where there are none.
    """

    groups: tuple[str, ...]
    members: tuple[tuple[str, ...], ...]
    n_layer: Integers
    holds: Flags
    member: Integers
    thickness_um: Numbers
    share: Numbers
    top_layer: Integers
    log_evidence: float = 0.0
    families: tuple[str, ...] = ()
    from_surface: Numbers = field(default_factory=lambda: np.empty((0, 0)))

    def __len__(self) -> int:
        return len(self.n_layer)


def draws_of(prior: PaintPrior, sample: Sample) -> Draws:
    """Return a sample in physical units."""
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


def pooled(runs: Sequence[Draws]) -> Draws:
    """Return the draws of several runs in one, each with the same weight."""
    first = runs[0]
    names = ("n_layer", "holds", "member", "thickness_um", "share", "top_layer", "from_surface")
    arrays: dict[str, Any] = {name: np.concatenate([getattr(run, name) for run in runs]) for name in names}
    return replace(first, **arrays, log_evidence=float(np.mean([run.log_evidence for run in runs])))


@dataclass(frozen=True)
class LayerNumber:
    """How many layers of paint there are.

    Parameters
    ----------
    probability : tuple of float
        Of one, two, three.
    determined : int or None
        The number, where each run gives it ``SURE``.
    """

    probability: tuple[float, ...]
    determined: int | None


@dataclass(frozen=True)
class PairOrder:
    """That one group begins above another: its uppermost layer lies above the other's.

    Parameters
    ----------
    above, below : str
    probability : float
    determined : bool
        Whether each run gives it ``SURE``.
    """

    above: str
    below: str
    probability: float
    determined: bool


@dataclass(frozen=True)
class Estimate:
    """An interval of a thickness (um) or of a share of mass.

    Parameters
    ----------
    low, median, high : float
        Quantiles of the draws of both runs; the ends hold ``LEVEL`` between them.
    determined : bool
    reason : str
        Why it is not determined; empty where it is.
    open_low, open_high : bool
        Whether the end is that of what was allowed: the spectrum gives none.
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
    """What is known of one layer.

    Parameters
    ----------
    layer : int
        0 at the surface.
    thickness : Estimate
    by_member : dict of str to Estimate
        Thickness by pigment where that matters; else empty.
    shares : dict of str to Estimate
        Of the groups that are likely there, given that they are.
    presence : dict of str to float
        Probability of each of these groups to lie in this layer.
    """

    layer: int
    thickness: Estimate
    by_member: dict[str, Estimate]
    shares: dict[str, Estimate]
    presence: dict[str, float]


def number_of_layers(runs: Sequence[Draws]) -> LayerNumber:
    """Return how many layers the runs give."""
    each = np.asarray([[(run.n_layer == number + 1).mean() for number in range(MOST_LAYERS)] for run in runs])
    likeliest = int(each.mean(axis=0).argmax())
    # of one group there is one layer by assumption: equal neighbours are not told apart
    sure = len(runs[0].groups) > 1 and bool((each[:, likeliest] >= SURE).all())
    return LayerNumber(tuple(each.mean(axis=0).tolist()), likeliest + 1 if sure else None)


def pair_orders(runs: Sequence[Draws]) -> list[PairOrder]:
    """Return, of every pair of groups, the likelier order."""
    groups = runs[0].groups
    orders = []
    for above, below in permutations(range(len(groups)), 2):
        each = [_begins_above(run, above, below) for run in runs]
        reverse = [_begins_above(run, below, above) for run in runs]
        mean, other = float(np.mean(each)), float(np.mean(reverse))
        if mean > other or (mean == other and above < below):
            orders.append(PairOrder(groups[above], groups[below], mean, min(each) >= SURE))
    return orders


def _begins_above(run: Draws, above: int, below: int) -> float:
    """Return the probability that both groups are there and one begins above the other."""
    there = run.top_layer[:, below] < MOST_LAYERS
    return float((there & (run.top_layer[:, above] < run.top_layer[:, below])).mean())


def presence(runs: Sequence[Draws]) -> dict[str, float]:
    """Return the probability of each group to lie in some layer of paint."""
    there = [(run.share > 0).any(axis=1).mean(axis=0) for run in runs]
    return dict(zip(runs[0].groups, np.mean(there, axis=0).tolist(), strict=True))


def layer_verdict(runs: Sequence[Draws], layer: int) -> LayerVerdict:
    """Return what the draws that have a layer say of it."""
    there = [run.n_layer > layer for run in runs]
    thickness = _thickness([run.thickness_um[rows, layer] for run, rows in zip(runs, there, strict=True)])
    shares, present = {}, {}
    for column, group in enumerate(runs[0].groups):
        holds = [run.share[having, layer, column] > 0 for run, having in zip(runs, there, strict=True)]
        chance = float(np.concatenate(holds).mean()) if sum(map(len, holds)) else 0.0
        if chance >= 0.5:
            values = [run.share[having, layer, column][on] for run, having, on in zip(runs, there, holds, strict=True)]
            shares[group], present[group] = _share(values), chance
    by_member = {} if thickness.reason == RUNS_DIFFER else _by_member(runs, layer)
    if evidence_apart(runs) > FAR_APART:
        thickness, by_member = _not_determined(thickness), {}
        shares = {name: _not_determined(estimate) for name, estimate in shares.items()}
    return LayerVerdict(layer, thickness, by_member, shares, present)


def surface_shares(runs: Sequence[Draws]) -> dict[str, Estimate]:
    """Return the share of each line family's counts that comes from the uppermost layer."""
    shares: dict[str, Estimate] = {}
    for column, family in enumerate(runs[0].families):
        values = [run.from_surface[:, column] for run in runs]
        estimate = _share([values_of_run[np.isfinite(values_of_run)] for values_of_run in values])
        shares[family] = estimate if evidence_apart(runs) <= FAR_APART else _not_determined(estimate)
    return shares


def um_text(value_um: float) -> str:
    """Return a thickness with two digits: "8.4", "120"."""
    return f"{float(f'{value_um:.2g}'):g}"


def _not_determined(estimate: Estimate) -> Estimate:
    return replace(estimate, determined=False, reason=RUNS_DIFFER)


def evidence_apart(runs: Sequence[Draws]) -> float:
    """Return by how much the runs differ in log evidence."""
    return float(np.ptp([run.log_evidence for run in runs]))


def _thickness(values: Sequence[Numbers]) -> Estimate:
    low, high = THICKNESS_UM
    logs = [np.log(values_of_run) for values_of_run in values]
    if reason := _disagreement(logs):
        return _estimate(values, reason)
    estimate = _estimate(values, "")
    open_low, open_high = estimate.low <= OPEN_END * low, estimate.high >= high / OPEN_END
    if open_low and open_high:
        return _estimate(values, "the spectrum does not see it")
    if not (open_low or open_high) and estimate.high > WIDEST * estimate.low:
        return _estimate(values, f"it may be anything from {um_text(estimate.low)} to {um_text(estimate.high)} um")
    return Estimate(estimate.low, estimate.median, estimate.high, True, "", open_low, open_high)


def _share(values: Sequence[Numbers]) -> Estimate:
    if reason := _disagreement(values):
        return _estimate(values, reason)
    estimate = _estimate(values, "")
    wide = estimate.high - estimate.low > WIDEST_SHARE
    return _estimate(values, "it may be nearly anything" if wide else "")


def _estimate(values: Sequence[Numbers], reason: str) -> Estimate:
    every = np.concatenate(values)
    if not every.size:
        return Estimate(np.nan, np.nan, np.nan, False, "there is no such layer")
    low, median, high = np.quantile(every, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2]).tolist()
    return Estimate(low, median, high, not reason, reason)


def _disagreement(values: Sequence[Numbers]) -> str:
    """Return why two runs do not give the same interval; empty where they do."""
    if any(values_of_run.size < 10 for values_of_run in values):
        return "too few draws have it"
    low, median, high = np.asarray(
        [np.quantile(values_of_run, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2]) for values_of_run in values]
    ).T
    half_width = float(np.mean(high - low)) / 2
    apart = float(np.ptp(median))
    return RUNS_DIFFER if apart > max(half_width, 1e-3) else ""


def _by_member(runs: Sequence[Draws], layer: int) -> dict[str, Estimate]:
    """Return the thickness by the pigment on which it depends most, where it does."""
    both = pooled(runs)
    there = both.n_layer > layer
    best, by_member = MATTERS, {}
    for column, names in enumerate(both.members):
        rows = there & both.holds[:, layer, column]
        if rows.sum() < 0.5 * max(int(there.sum()), 1):
            continue
        logs, member = np.log(both.thickness_um[rows, layer]), both.member[rows, layer, column]
        likely = [index for index in range(len(names)) if (member == index).mean() >= LIKELY]
        if len(likely) < 2 or logs.var() == 0:
            continue
        means = np.asarray([logs[member == index].mean() for index in likely])
        weights = np.asarray([(member == index).mean() for index in likely])
        between = float(
            (weights * (means - np.average(means, weights=weights)) ** 2).sum() / weights.sum() / logs.var()
        )
        if between > best:
            best = between
            by_member = {names[index]: _estimate([np.exp(logs[member == index])], "") for index in likely}
    return by_member
