"""Whether a probability means what it says: calibration error, conformal sets, intervals of thickness."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from underpaint.evaluate.answering import Answered
from underpaint.evaluate.groups import mean
from underpaint.evaluate.scores import expected_calibration_error
from underpaint.evaluate.simulated import Answer, HeldOut
from underpaint.maps import SURFACE_UM, from_scale, on_scale

DECADES = ((1e3, 1e4), (1e4, 1e5), (1e5, 1e6))
LEVELS = (0.90, 0.99)
INTERVAL = 0.90
SURE_BIN = 1000
"""Spectra from which the coverage of a bin is judged."""


def decade_name(decade: tuple[float, float]) -> str:
    """Return a decade of counts as the figures name it."""
    return f"{decade[0]:.0e}-{decade[1]:.0e}".replace("e+0", "e")


def counts_within(decade: tuple[float, float], n: int, seed: tuple[int, ...]) -> NDArray[np.float64]:
    """Draw (n,) counts, log-uniform in a decade."""
    low, high = np.log(decade)
    return np.asarray(np.exp(np.random.default_rng(seed).uniform(low, high, n)))


class ByDecade:
    """A model's answers to the held-out set in each decade of counts.

    Parameters
    ----------
    held : HeldOut
    answer : callable
    seed : int

    Attributes
    ----------
    probability : list of (n, n_group) arrays
        One for each of ``DECADES``.
    counted : list of (n, n_group) bool arrays
        False where a present label does not show.
    calibrates : (n,) bool array
        True for the spectra of every second instrument, on which sets may be calibrated.
    """

    def __init__(self, held: HeldOut, answer: Answer, seed: int) -> None:
        columns = held.columns(held.groups)
        self.groups, self.labels = held.groups, held.labels[:, columns] == 1
        self.calibrates = held.machine % 2 == 0
        self.probability: list[NDArray[np.float64]] = []
        self.counted: list[NDArray[np.bool_]] = []
        for number, decade in enumerate(DECADES):
            totals = counts_within(decade, len(held), (seed, number))
            found = answer(held.counted(totals, (seed, number, 1)))
            self.probability.append(np.nan_to_num(found.astype(np.float64), nan=0.0))
            self.counted.append(~self.labels | held.visible(totals)[:, columns])


def calibration_error(answers: ByDecade) -> dict[str, Any]:
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
            (own[kept[:, column], column], answers.labels[kept[:, column], column])
            for own, kept in zip(answers.probability, answers.counted, strict=True)
        ]
        by_decade[group] = {
            decade_name(decade): expected_calibration_error(*part) for decade, part in zip(DECADES, parts, strict=True)
        }
        found, truth = (np.concatenate(each) for each in zip(*parts, strict=True))
        pooled[group] = expected_calibration_error(found, truth)
        brier[group] = float(np.mean((found - truth) ** 2)) if truth.size else float("nan")
    return {"ece": pooled, "mean_ece": mean(list(pooled.values())), "ece_by_decade": by_decade, "brier": brier}


def conformal_threshold(score: NDArray[np.floating], level: float) -> float:
    """Return the score up to which an answer belongs to the set, from the scores of right answers.

    Parameters
    ----------
    score : (n,) array
        ``1 - p`` of what is true, in calibration spectra.
    level : float
        Coverage wanted.

    Returns
    -------
    float
        The ``ceil((n + 1) level)``-th smallest; one where n is too small to tell.

    References
    ----------
    V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World (2005), section 4.2.
    """
    rank = int(np.ceil((score.size + 1) * level))
    return 1.0 if rank > score.size else float(np.sort(score)[rank - 1])


def in_set(probability: NDArray[np.floating], threshold: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return whether "present" and "absent" belong to the set."""
    return 1.0 - probability <= threshold, probability <= threshold


def conformal_coverage(answers: ByDecade) -> dict[str, Any]:
    """Calibrate sets on half of the instruments and count how often they hold the truth in the others.

    Returns
    -------
    dict
        ``{"0.9": {group: {decade: {"coverage", "set_size", "n", "holds"}}}, ...}``; ``holds`` is None in bins that are
        too small to tell, else whether the coverage is at least nominal less two standard errors.
    """
    return {
        f"{level:g}": {
            group: {decade_name(decade): _bin(answers, column, number, level) for number, decade in enumerate(DECADES)}
            for column, group in enumerate(answers.groups)
        }
        for level in LEVELS
    }


def _bin(answers: ByDecade, column: int, number: int, level: float) -> dict[str, Any]:
    kept = answers.counted[number][:, column]
    found, truth = answers.probability[number][:, column], answers.labels[:, column]
    right = np.where(truth, 1.0 - found, found)
    threshold = conformal_threshold(right[kept & answers.calibrates], level)
    tested = kept & ~answers.calibrates
    present, absent = in_set(found[tested], threshold)
    covered = np.where(truth[tested], present, absent)
    return judged(covered, present.astype(int) + absent, level) | {"threshold": threshold}


def judged(covered: NDArray[np.bool_], size: NDArray[np.integer], level: float) -> dict[str, Any]:
    """Return the coverage of sets, (n,) arrays, and whether it is what was promised."""
    n = int(covered.size)
    if not n:
        return {"coverage": float("nan"), "set_size": float("nan"), "n": 0, "holds": None}
    least = level - 2.0 * np.sqrt(level * (1.0 - level) / n)
    coverage = float(covered.mean())
    holds = bool(coverage >= least) if n >= SURE_BIN else None
    return {"coverage": coverage, "set_size": float(size.mean()), "n": n, "holds": holds}


def thickness_intervals(held: HeldOut, answers: Sequence[Answered]) -> dict[str, Any] | None:
    """Return how often the intervals of the surface layer's thickness hold the truth, by decade.

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
    truth = on_scale(SURFACE_UM, held.surface_um)
    half = float(norm.ppf(0.5 + INTERVAL / 2.0))
    table: dict[str, Any] = {}
    for decade, own in zip(DECADES, answers, strict=True):
        if own.quantity is None or own.sigma is None:
            return None
        middle, sigma = own.quantity[:, column], own.sigma[:, column]
        known = np.isfinite(truth) & np.isfinite(middle)
        apart = np.abs(middle - truth)[known]
        table[decade_name(decade)] = {
            "coverage": float((apart <= half * sigma[known]).mean()),
            "width": float(np.median(from_scale(SURFACE_UM, 2.0 * half * sigma[known]))),
            "median_ratio": float(np.exp(np.median(apart))),
            "n": int(known.sum()),
        }
    return table
