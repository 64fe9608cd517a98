"""Scores of equivalence groups over the visible labels, and of the trivial baselines "always yes" and "majority"."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.lab.evaluation.scores import Scores, score
from underpaint.simulate.outputs import Outputs, outputs_for

SCORE_NAMES = ("f1", "sensitivity", "precision", "auprc", "accuracy", "majority_accuracy", "always_yes_f1")


def group_outputs(pigments: Sequence[str]) -> Outputs:
    """Return the groups that are outputs of a network for the given pigments."""
    outputs = outputs_for(pigments)
    return outputs.select_output_names(
        [name for name, output_kind in zip(outputs.names, outputs.kinds, strict=True) if output_kind == "group"]
    )


def score_names(
    probability: NDArray[np.floating], labels: NDArray[Any], is_visible: NDArray[np.bool_], names: Sequence[str]
) -> dict[str, Scores]:
    """Return the scores of every name over its visible labels, from (n_spectrum, n_name) arrays."""
    return {
        name: score(probability[:, name_column], labels[:, name_column].astype(bool), is_visible[:, name_column])
        for name_column, name in enumerate(names)
    }


def names_with_score(scores_by_name: dict[str, Scores]) -> list[str]:
    """Return the names that are present in some spectra and absent in others, and therefore have a score."""
    return [name for name, scores in scores_by_name.items() if scores.n_positive and scores.n_negative]


def macro_f1(scores_by_name: dict[str, Scores]) -> float:
    """Return the mean F1 of the names that have a score, or NaN if no name has one."""
    return mean([scores_by_name[name].f1 for name in names_with_score(scores_by_name)])


def summarise_scores(
    probability: NDArray[np.floating], labels: NDArray[Any], is_visible: NDArray[np.bool_], names: Sequence[str]
) -> dict[str, Any]:
    """Return the macro F1 of the answers, the macro F1 of the baseline "always yes", and the scores of each name.

    Parameters
    ----------
    probability, labels, is_visible : (n_spectrum, n_name) arrays
        A probability of NaN ("no answer") counts as absent. Labels that are present but not visible are not scored.

    Returns
    -------
    dict
        ``macro_f1``, ``always_yes_macro_f1``, ``exact`` and ``names``.
        ``exact`` is the fraction of spectra in which all scored answers are right.
        ``names`` has the scores of each name, its ``prevalence``, and its numbers of labels.
        ``n_positive``, ``n_negative`` and ``n_invisible`` count positive, negative and invisible labels.
    """
    scores_by_name = score_names(probability, labels, is_visible, names)
    is_scored = (labels == 0) | is_visible
    is_correct = (np.nan_to_num(probability, nan=0.0) > 0.5) == (labels == 1)
    return {
        "macro_f1": macro_f1(scores_by_name),
        "always_yes_macro_f1": mean([scores_by_name[name].always_yes_f1 for name in names_with_score(scores_by_name)]),
        "exact": float((is_correct | ~is_scored).all(axis=1).mean()),
        "names": {name: _score_row(scores) for name, scores in scores_by_name.items()},
    }


def mean(values: Sequence[float]) -> float:
    """Return the mean, or NaN if there are no values."""
    return float(np.mean(values)) if len(values) else float("nan")


def _score_row(scores: Scores) -> dict[str, float | int]:
    score_by_name = {name: getattr(scores, name) for name in (*SCORE_NAMES, "n_positive", "n_negative", "n_invisible")}
    n_scored = scores.n_positive + scores.n_negative
    return {**score_by_name, "prevalence": scores.n_positive / n_scored if n_scored else float("nan")}
