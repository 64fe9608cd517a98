"""Calibration of the answers: error of probabilities, coverage of conformal sets and of intervals of thickness."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from underpaint.data.maps import SURFACE_UM, from_unbounded, to_unbounded
from underpaint.lab.evaluation.answering import ModelAnswers, Spectra
from underpaint.lab.evaluation.groups import mean
from underpaint.lab.evaluation.scores import expected_calibration_error
from underpaint.lab.evaluation.simulated import HeldOut
from underpaint.pigments.weights import PredictionSets

DECADES = ((1e3, 1e4), (1e4, 1e5), (1e5, 1e6))
LEVELS = (0.90, 0.99)
INTERVAL = 0.90
SURE_BIN = 1000
"""Least number of spectra for a judgement of a bin's coverage."""


def decade_name(decade: tuple[float, float]) -> str:
    """Return the name of a decade of counts in the figures."""
    return f"{decade[0]:.0e}-{decade[1]:.0e}".replace("e+0", "e")


def counts_within(decade: tuple[float, float], n: int, seed: tuple[int, ...]) -> NDArray[np.float64]:
    """Draw (n,) counts, log-uniform in a decade."""
    low, high = np.log(decade)
    return np.asarray(np.exp(np.random.default_rng(seed).uniform(low, high, n)))


@dataclass(frozen=True)
class CountedSet:
    """The held-out set at counts that are log-uniform in a decade.

    Parameters
    ----------
    totals : (n,) array
        Counts of each spectrum within the recorded range, on average.
    spectra : Spectra
    """

    totals: NDArray[np.float64]
    spectra: Spectra


def counted_by_decade(held: HeldOut, seed: int) -> list[CountedSet]:
    """Return the held-out set once for each of ``DECADES``."""
    totals = [counts_within(decade, len(held), (seed, number)) for number, decade in enumerate(DECADES)]
    return [CountedSet(total, held.counted(total, (seed, number, 1))) for number, total in enumerate(totals)]


class AnswersByDecade:
    """Answers to the held-out set in each decade of counts.

    Parameters
    ----------
    held : HeldOut
    drawn : sequence of Drawn
        One for each of ``DECADES``.
    probability : sequence of (n, n_group) arrays
        The answers; NaN ("no answer") counts as no.

    Attributes
    ----------
    labels : list of (n, n_group) bool arrays
        What is present at the counts of each decade.
    counted : list of (n, n_group) bool arrays
        False where a present label does not show.
    calibrates : (n,) bool array
        True for the spectra of every second instrument, on which sets may be calibrated.
    """

    def __init__(self, held: HeldOut, drawn: Sequence[CountedSet], probability: Sequence[NDArray[np.floating]]) -> None:
        columns = held.columns(held.groups)
        self.groups = held.groups
        self.labels = [held.present(draw.totals)[:, columns] for draw in drawn]
        self.calibrates = held.machine % 2 == 0
        self.probability = [np.nan_to_num(values.astype(np.float64), nan=0.0) for values in probability]
        self.counted = [
            ~labels | held.visible(draw.totals)[:, columns] for draw, labels in zip(drawn, self.labels, strict=True)
        ]


def calibration_error(answers: AnswersByDecade) -> dict[str, Any]:
    """Return expected calibration error and Brier score by group, over all decades and in each.

    Returns
    -------
    dict
        ``ece``: by group over all decades, ten bins; ``ece_by_decade``, ``brier``, ``mean_ece``.
    """
    by_decade: dict[str, dict[str, float]] = {}
    pooled, brier = {}, {}
    for column, group in enumerate(answers.groups):
        parts = [
            (probability[counted[:, column], column], labels[counted[:, column], column])
            for probability, counted, labels in zip(answers.probability, answers.counted, answers.labels, strict=True)
        ]
        by_decade[group] = {
            decade_name(decade): expected_calibration_error(*part) for decade, part in zip(DECADES, parts, strict=True)
        }
        probability, truth = (np.concatenate(each) for each in zip(*parts, strict=True))
        pooled[group] = expected_calibration_error(probability, truth)
        brier[group] = float(np.mean((probability - truth) ** 2)) if truth.size else float("nan")
    return {"ece": pooled, "mean_ece": mean(list(pooled.values())), "ece_by_decade": by_decade, "brier": brier}


def conformal_threshold(score: NDArray[np.floating], level: float) -> float:
    """Return the score up to which an answer belongs to the set, from the scores of right answers.

    Parameters
    ----------
    score : (n,) array
        ``1 - p`` of what is true, in calibration spectra.
    level : float
        Nominal coverage.

    Returns
    -------
    float
        The ``ceil((n + 1) level)``-th smallest; one where n is too small.

    References
    ----------
    V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World (2005), section 4.2.
    """
    rank = int(np.ceil((score.size + 1) * level))
    return 1.0 if rank > score.size else float(np.sort(score)[rank - 1])


def in_set(probability: NDArray[np.floating], threshold: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return whether "present" and "absent" belong to the set."""
    return 1.0 - probability <= threshold, probability <= threshold


def conformal_coverage(answers: AnswersByDecade) -> dict[str, Any]:
    """Calibrate sets on half of the instruments and return their coverage on the others.

    Returns
    -------
    dict
        ``{"0.9": {group: {decade: {"coverage", "set_size", "n", "holds"}}}, ...}``; ``holds`` is None in bins of less
        than ``SURE_BIN`` spectra, else whether the coverage is at least nominal less two standard errors.
    """
    return _by_level(answers.groups, lambda column, number, level: _calibrated_bin(answers, column, number, level))


def stated_coverage(answers: AnswersByDecade, answered: Sequence[ModelAnswers], sets: PredictionSets) -> dict[str, Any]:
    """Return the coverage of the prediction sets of a model's card over all held-out spectra.

    Parameters
    ----------
    answers : ByDecade
    answered : sequence of Answered
        The same answers, with their log-odds.
    sets : PredictionSets
        Of the card.

    Returns
    -------
    dict
        As of :func:`conformal_coverage`.
    """
    return _by_level(answers.groups, lambda *which: _stated_bin(answers, answered, sets, *which))


def _by_level(groups: Sequence[str], figures_of: Callable[[int, int, float], dict[str, Any]]) -> dict[str, Any]:
    return {
        f"{level:g}": {
            group: {decade_name(decade): figures_of(column, number, level) for number, decade in enumerate(DECADES)}
            for column, group in enumerate(groups)
        }
        for level in LEVELS
    }


def _calibrated_bin(answers: AnswersByDecade, column: int, number: int, level: float) -> dict[str, Any]:
    counted = answers.counted[number][:, column]
    probability, truth = answers.probability[number][:, column], answers.labels[number][:, column]
    right = np.where(truth, 1.0 - probability, probability)
    threshold = conformal_threshold(right[counted & answers.calibrates], level)
    tested = counted & ~answers.calibrates
    return _set_coverage(truth[tested], *in_set(probability[tested], threshold), level)


def _stated_bin(
    answers: AnswersByDecade,
    answered: Sequence[ModelAnswers],
    sets: PredictionSets,
    column: int,
    number: int,
    level: float,
) -> dict[str, Any]:
    group = answers.groups[column]
    if group not in sets.names or level not in sets.levels or DECADES[number][0] not in sets.counts[:-1]:
        return coverage_figures(np.zeros(0, np.bool_), np.zeros(0, np.int64), level)
    place = sets.levels.index(level), sets.counts.index(DECADES[number][0]), sets.names.index(group)
    present_from, absent_to = (table[place[0]][place[1]][place[2]] for table in (sets.present_from, sets.absent_to))
    tested = answers.counted[number][:, column]
    log_odds = answered[number].log_odds[tested, answered[number].card.names.index(group)]
    return _set_coverage(answers.labels[number][tested, column], log_odds >= present_from, log_odds <= absent_to, level)


def _set_coverage(
    truth: NDArray[np.bool_], present: NDArray[np.bool_], absent: NDArray[np.bool_], level: float
) -> dict[str, Any]:
    return coverage_figures(np.where(truth, present, absent), present.astype(np.int64) + absent, level)


def coverage_figures(covered: NDArray[np.bool_], size: NDArray[np.integer], level: float) -> dict[str, Any]:
    """Return coverage and mean size of n sets, and whether the coverage reaches its nominal level."""
    n = int(covered.size)
    if not n:
        return {"coverage": float("nan"), "set_size": float("nan"), "n": 0, "holds": None}
    least = level - 2.0 * np.sqrt(level * (1.0 - level) / n)
    coverage = float(covered.mean())
    holds = bool(coverage >= least) if n >= SURE_BIN else None
    return {"coverage": coverage, "set_size": float(size.mean()), "n": n, "holds": holds}


def thickness_intervals(held: HeldOut, answers: Sequence[ModelAnswers]) -> dict[str, Any] | None:
    """Return the coverage of the intervals of the surface layer's thickness, by decade.

    Parameters
    ----------
    held : HeldOut
    answers : sequence of Answered
        One for each of ``DECADES``.

    Returns
    -------
    dict or None
        By decade: ``coverage`` of the 90 % interval, its median ``width`` (upper end over lower), ``median_ratio``
        (median of estimate over truth, either way up), ``n``. None where the model has no thickness.
    """
    card = answers[0].card
    if SURFACE_UM not in card.quantities:
        return None
    column = card.quantities.index(SURFACE_UM)
    truth = to_unbounded(SURFACE_UM, held.surface_um)
    half = float(norm.ppf(0.5 + INTERVAL / 2.0))
    table: dict[str, Any] = {}
    for decade, answer in zip(DECADES, answers, strict=True):
        if answer.quantity is None or answer.sigma is None:
            return None
        middle, sigma = answer.quantity[:, column], answer.sigma[:, column]
        known = np.isfinite(truth) & np.isfinite(middle)
        distance = np.abs(middle - truth)[known]
        table[decade_name(decade)] = {
            "coverage": float((distance <= half * sigma[known]).mean()),
            "width": float(np.median(from_unbounded(SURFACE_UM, 2.0 * half * sigma[known]))),
            "median_ratio": float(np.exp(np.median(distance))),
            "n": int(known.sum()),
        }
    return table
