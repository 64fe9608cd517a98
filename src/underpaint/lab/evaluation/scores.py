"""Scores of yes-or-no answers, and of the trivial baselines "always yes" and "majority"."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata


@dataclass(frozen=True)
class Scores:
    """Scores of one pigment or group over the scored spectra. Undefined scores are NaN."""

    n_positive: int
    n_negative: int
    n_invisible: int
    accuracy: float
    sensitivity: float
    precision: float
    f1: float
    auprc: float
    auroc: float
    ece: float
    brier: float
    always_yes_f1: float
    majority_accuracy: float

    def as_dict(self) -> dict[str, float | int]:
        """Return the scores as plain values for JSON."""
        return asdict(self)


def score(
    probability: NDArray[np.floating], label: NDArray[np.bool_], is_visible: NDArray[np.bool_], threshold: float = 0.5
) -> Scores:
    """Return the scores of one pigment or group.

    Parameters
    ----------
    probability : (n,) array
        Probability from the model. NaN ("no answer") counts as absent.
    label : (n,) bool array
        Whether the pigment or group is in the sample.
    is_visible : (n,) bool array
        Whether a present label is visible at the counts of the spectrum. Labels that are present but not visible are
        not scored.
    threshold : float
        Probability above which the answer is yes.
    """
    is_scored = ~label | is_visible
    truth, scored_probability = label[is_scored], np.nan_to_num(probability[is_scored], nan=0.0)
    is_claimed = scored_probability > threshold
    n_true_positive = int((is_claimed & truth).sum())
    n_positive, n_negative = int(truth.sum()), int((~truth).sum())
    return Scores(
        n_positive=n_positive,
        n_negative=n_negative,
        n_invisible=int((~is_scored).sum()),
        accuracy=_ratio(int((is_claimed == truth).sum()), truth.size),
        sensitivity=_ratio(n_true_positive, n_positive),
        precision=_ratio(n_true_positive, int(is_claimed.sum())),
        f1=_ratio(2 * n_true_positive, int(is_claimed.sum()) + n_positive),
        auprc=average_precision(scored_probability, truth),
        auroc=auroc(scored_probability, truth),
        ece=expected_calibration_error(scored_probability, truth),
        brier=float(np.mean((scored_probability - truth) ** 2)) if truth.size else float("nan"),
        always_yes_f1=_ratio(2 * n_positive, truth.size + n_positive),
        majority_accuracy=_ratio(max(n_positive, n_negative), truth.size),
    )


def auroc(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve as the Mann-Whitney statistic, in which ties count half."""
    n_positive, n_negative = int(truth.sum()), int((~truth).sum())
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    _, unique_index, tie_sizes = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(tie_sizes) - (tie_sizes - 1) / 2.0
    return float((mean_rank[unique_index][truth].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def average_precision(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Return the average precision. Tied scores share one threshold."""
    n_positive = int(truth.sum())
    if n_positive == 0:
        return float("nan")
    descending_order = np.argsort(-scores, kind="stable")
    is_last_of_tie = np.r_[np.diff(scores[descending_order]) != 0, True]
    true_positives = np.cumsum(truth[descending_order])[is_last_of_tie]
    n_claimed = np.flatnonzero(is_last_of_tie) + 1
    return float(np.sum(np.diff(np.r_[0, true_positives]) / n_positive * true_positives / n_claimed))


def expected_calibration_error(probability: NDArray[np.floating], truth: NDArray[np.bool_], n_bin: int = 10) -> float:
    """Return the mean absolute difference between mean probability and frequency in bins, weighted by bin size."""
    if truth.size == 0:
        return float("nan")
    bin_index = np.clip((probability * n_bin).astype(int), 0, n_bin - 1)
    weighted_gaps = [
        abs(float(probability[bin_index == bin_number].mean()) - float(truth[bin_index == bin_number].mean()))
        * np.mean(bin_index == bin_number)
        for bin_number in range(n_bin)
        if np.any(bin_index == bin_number)
    ]
    return float(sum(weighted_gaps))


def spearman(first_values: NDArray[np.floating], second_values: NDArray[np.floating]) -> float:
    """Return the rank correlation of the values that are finite in both arrays, or NaN if either is constant."""
    is_finite = np.isfinite(first_values) & np.isfinite(second_values)
    ranks = [rankdata(ranked_values[is_finite]) for ranked_values in (first_values, second_values)]
    return (
        float("nan") if any(np.ptp(ranked_values) == 0 for ranked_values in ranks) else float(np.corrcoef(ranks)[0, 1])
    )


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else float("nan")


def counts_key(counts: float) -> str:
    """Return the key of total counts in the records of scores, for example "1e5"."""
    return f"{counts:.0e}".replace("e+0", "e")
