"""Scores of the outputs of a network on labelled spectra, and scores of the baseline "always yes"."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class NameScores:
    """Scores of one output of a network.

    Parameters
    ----------
    name : str
        Name of the pigment or group.
    n_spectra : int
        Number of scored spectra. A spectrum is scored if the label is absent, or is present and visible.
    prevalence : float
        Fraction of spectra with the name, which is the precision of a random ranking.
    auprc : float
        Area under the precision-recall curve, or NaN without positive spectra.
    accuracy, sensitivity, precision, f1 : float
        Scores at a probability threshold of 0.5, or NaN if they are undefined.
    always_yes_f1 : float
        F1 of the baseline that answers "present" for every spectrum.
    """

    name: str
    n_spectra: int
    prevalence: float
    auprc: float
    accuracy: float
    sensitivity: float
    precision: float
    f1: float
    always_yes_f1: float

    def as_dict(self) -> dict[str, Any]:
        """Return the scores for JSON."""
        return asdict(self)


def scores_by_name(
    names: tuple[str, ...], log_odds: NDArray[np.float32], labels: NDArray[Any], label_weights: NDArray[Any]
) -> tuple[NameScores, ...]:
    """Return the scores of every name over its scored spectra.

    Parameters
    ----------
    names : tuple of str
        Names of the columns.
    log_odds, labels, label_weights : (n, n_name) arrays
        Answers, true labels (0 or 1), and weights. Labels with a weight of 1 are scored.
    """
    return tuple(
        _name_scores(name, log_odds[is_scored, name_column], labels[is_scored, name_column] > 0.5)
        for name_column, name in enumerate(names)
        for is_scored in (label_weights[:, name_column] > 0,)
    )


def macro_mean(scores: tuple[NameScores, ...], score_name: str) -> float:
    """Return the mean of a score over all names with a defined score, or NaN if there are none."""
    score_values = np.array([getattr(name_scores, score_name) for name_scores in scores], dtype=np.float64)
    finite_scores = score_values[np.isfinite(score_values)]
    return float(finite_scores.mean()) if finite_scores.size else float("nan")


def average_precision(score: NDArray[Any], truth: NDArray[np.bool_]) -> float:
    """Return the average precision. Tied scores share one threshold."""
    if not truth.any():
        return float("nan")
    descending_order = np.argsort(-score, kind="stable")
    sorted_scores, n_true_positive = score[descending_order], np.cumsum(truth[descending_order])
    is_last_of_tie = np.append(sorted_scores[1:] != sorted_scores[:-1], True)
    n_true_positive, n_claimed = n_true_positive[is_last_of_tie], np.flatnonzero(is_last_of_tie) + 1
    recall = n_true_positive / n_true_positive[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * n_true_positive / n_claimed))


def _name_scores(name: str, log_odds: NDArray[Any], is_present: NDArray[np.bool_]) -> NameScores:
    is_claimed = log_odds > 0
    n_true_positive, n_positive, n_claimed, n_spectra = (
        int((is_claimed & is_present).sum()),
        int(is_present.sum()),
        int(is_claimed.sum()),
        is_present.size,
    )
    return NameScores(
        name=name,
        n_spectra=n_spectra,
        prevalence=_ratio(n_positive, n_spectra),
        auprc=average_precision(log_odds, is_present),
        accuracy=_ratio(int((is_claimed == is_present).sum()), n_spectra),
        sensitivity=_ratio(n_true_positive, n_positive),
        precision=_ratio(n_true_positive, n_claimed),
        f1=_ratio(2 * n_true_positive, n_positive + n_claimed) if n_positive else float("nan"),
        always_yes_f1=_ratio(2 * n_positive, n_positive + n_spectra) if n_positive else float("nan"),
    )


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else float("nan")
