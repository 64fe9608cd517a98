"""Scores of yes-or-no answers, with the baselines that need no spectrum."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata


@dataclass(frozen=True)
class Scores:
    """Scores of one name over the spectra that count; NaN where a score is undefined."""

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
        """Return plain values for JSON."""
        return asdict(self)


def score(
    probability: NDArray[np.floating], label: NDArray[np.bool_], visible: NDArray[np.bool_], threshold: float = 0.5
) -> Scores:
    """Score one name.

    Parameters
    ----------
    probability : (n,) array
        Answers; NaN ("no answer") counts as no.
    label : (n,) bool array
        Whether the name is in the sample.
    visible : (n,) bool array
        Whether a present label shows at these counts. Present but invisible labels count neither for nor
        against and are left out.
    """
    counted = ~label | visible
    truth, answer = label[counted], np.nan_to_num(probability[counted], nan=0.0)
    claimed = answer > threshold
    hit = int((claimed & truth).sum())
    n_positive, n_negative = int(truth.sum()), int((~truth).sum())
    return Scores(
        n_positive=n_positive,
        n_negative=n_negative,
        n_invisible=int((~counted).sum()),
        accuracy=_ratio(int((claimed == truth).sum()), truth.size),
        sensitivity=_ratio(hit, n_positive),
        precision=_ratio(hit, int(claimed.sum())),
        f1=_ratio(2 * hit, int(claimed.sum()) + n_positive),
        auprc=average_precision(answer, truth),
        auroc=auroc(answer, truth),
        ece=expected_calibration_error(answer, truth),
        brier=float(np.mean((answer - truth) ** 2)) if truth.size else float("nan"),
        always_yes_f1=_ratio(2 * n_positive, truth.size + n_positive),
        majority_accuracy=_ratio(max(n_positive, n_negative), truth.size),
    )


def auroc(score_: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve, ties counted half (Mann-Whitney)."""
    n_positive, n_negative = int(truth.sum()), int((~truth).sum())
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    values, inverse, counts = np.unique(score_, return_inverse=True, return_counts=True)
    del values
    mean_rank = np.cumsum(counts) - (counts - 1) / 2.0
    return float((mean_rank[inverse][truth].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def average_precision(score_: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Return the area under the precision-recall curve as average precision; tied scores enter together."""
    n_positive = int(truth.sum())
    if n_positive == 0:
        return float("nan")
    order = np.argsort(-score_, kind="stable")
    last = np.r_[np.diff(score_[order]) != 0, True]
    hits = np.cumsum(truth[order])[last]
    shown = np.flatnonzero(last) + 1
    return float(np.sum(np.diff(np.r_[0, hits]) / n_positive * hits / shown))


def expected_calibration_error(probability: NDArray[np.floating], truth: NDArray[np.bool_], n_bin: int = 10) -> float:
    """Return the mean distance between probability and frequency over equal-width bins, weighted by their size."""
    if truth.size == 0:
        return float("nan")
    bins = np.clip((probability * n_bin).astype(int), 0, n_bin - 1)
    gaps = [
        abs(float(probability[bins == index].mean()) - float(truth[bins == index].mean())) * np.mean(bins == index)
        for index in range(n_bin)
        if np.any(bins == index)
    ]
    return float(sum(gaps))


def spearman(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Return the rank correlation over what is finite in both; NaN where one side is constant."""
    known = np.isfinite(first) & np.isfinite(second)
    ranks = [rankdata(each[known]) for each in (first, second)]
    return float("nan") if any(np.ptp(each) == 0 for each in ranks) else float(np.corrcoef(ranks)[0, 1])


def _ratio(part: int, total: int) -> float:
    return part / total if total else float("nan")


def counts_key(counts: float) -> str:
    """Return the name of a number of counts in the figures: "1e5"."""
    return f"{counts:.0e}".replace("e+0", "e")
