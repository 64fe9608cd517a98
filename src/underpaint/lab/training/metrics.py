"""Scores of a labelled set by name, with those of always yes."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class NameFigures:
    """Scores of one name.

    Parameters
    ----------
    name : str
        Pigment or group.
    n_spectra : int
        Spectra in which the label counts (absent, or present and visible).
    prevalence : float
        Share of spectra with the name; also the precision of a random ranking.
    auprc : float
        Area under the precision-recall curve; NaN without a positive.
    accuracy, sensitivity, precision, f1 : float
        At probability 0.5; NaN where not defined.
    always_yes_f1 : float
        F1 of the answer "present" everywhere.
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
        """Return the figures for JSON."""
        return asdict(self)


def figures_by_name(
    names: tuple[str, ...], log_odds: NDArray[np.float32], labels: NDArray[Any], weight: NDArray[Any]
) -> tuple[NameFigures, ...]:
    """Score every name on the spectra in which its label counts.

    Parameters
    ----------
    names : tuple of str
        Names of the columns.
    log_odds, labels, weight : (n, n_name) arrays
        Answers, truths (0 or 1) and 1 where the label counts.
    """
    return tuple(
        _figures(name, log_odds[used, column], labels[used, column] > 0.5)
        for column, name in enumerate(names)
        for used in (weight[:, column] > 0,)
    )


def macro_mean(figures: tuple[NameFigures, ...], quantity: str) -> float:
    """Mean of a figure over the names that have one; NaN when none has."""
    values = np.array([getattr(each, quantity) for each in figures], dtype=np.float64)
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def average_precision(score: NDArray[Any], truth: NDArray[np.bool_]) -> float:
    """Area under the precision-recall curve as the step-wise sum; ties count as one threshold."""
    if not truth.any():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    ranked, true = score[order], np.cumsum(truth[order])
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    true, called = true[last_of_tie], np.flatnonzero(last_of_tie) + 1
    recall = true / true[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * true / called))


def _figures(name: str, log_odds: NDArray[Any], truth: NDArray[np.bool_]) -> NameFigures:
    claimed = log_odds > 0
    hits, n_true, n_claimed, n_all = int((claimed & truth).sum()), int(truth.sum()), int(claimed.sum()), truth.size
    return NameFigures(
        name=name,
        n_spectra=n_all,
        prevalence=_ratio(n_true, n_all),
        auprc=average_precision(log_odds, truth),
        accuracy=_ratio(int((claimed == truth).sum()), n_all),
        sensitivity=_ratio(hits, n_true),
        precision=_ratio(hits, n_claimed),
        f1=_ratio(2 * hits, n_true + n_claimed) if n_true else float("nan"),
        always_yes_f1=_ratio(2 * n_true, n_true + n_all) if n_true else float("nan"),
    )


def _ratio(part: int, total: int) -> float:
    return part / total if total else float("nan")
