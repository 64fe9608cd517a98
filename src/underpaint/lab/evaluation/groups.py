"""Scores of equivalence groups over the visible labels, with the baselines that need no spectrum."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.lab.evaluation.scores import Scores, score
from underpaint.simulate.outputs import Outputs, outputs_for

SHOWN = ("f1", "sensitivity", "precision", "auprc", "accuracy", "majority_accuracy", "always_yes_f1")


def group_outputs(pigments: Sequence[str]) -> Outputs:
    """Return the groups that a network for some pigments answers."""
    outputs = outputs_for(pigments)
    return outputs.only([name for name, kind in zip(outputs.names, outputs.kinds, strict=True) if kind == "group"])


def score_names(
    probability: NDArray[np.floating], labels: NDArray[Any], visible: NDArray[np.bool_], names: Sequence[str]
) -> dict[str, Scores]:
    """Score every name over its visible labels; all arrays are (n_spectrum, n_name)."""
    return {
        name: score(probability[:, column], labels[:, column].astype(bool), visible[:, column])
        for column, name in enumerate(names)
    }


def names_with_score(table: dict[str, Scores]) -> list[str]:
    """Return the names that have a score: those present in some spectra and absent in others."""
    return [name for name, scores in table.items() if scores.n_positive and scores.n_negative]


def macro_f1(table: dict[str, Scores]) -> float:
    """Return the mean F1 of the names that have one; NaN where none has."""
    return mean([table[name].f1 for name in names_with_score(table)])


def summarise(
    probability: NDArray[np.floating], labels: NDArray[Any], visible: NDArray[np.bool_], names: Sequence[str]
) -> dict[str, Any]:
    """Return macro F1, that of always yes, and the scores by name.

    Parameters
    ----------
    probability, labels, visible : (n_spectrum, n_name) arrays
        NaN ("no answer") counts as no. Present labels that are not visible count neither for nor against.

    Returns
    -------
    dict
        ``macro_f1``, ``always_yes_macro_f1``, ``exact`` (share of the spectra whose counted answers are all right) and
        ``names``: by name the scores, ``prevalence`` and the number of ``n_positive``, ``n_negative``, ``n_invisible``.
    """
    table = score_names(probability, labels, visible, names)
    counted = (labels == 0) | visible
    right = (np.nan_to_num(probability, nan=0.0) > 0.5) == (labels == 1)
    return {
        "macro_f1": macro_f1(table),
        "always_yes_macro_f1": mean([table[name].always_yes_f1 for name in names_with_score(table)]),
        "exact": float((right | ~counted).all(axis=1).mean()),
        "names": {name: _row(scores) for name, scores in table.items()},
    }


def mean(values: Sequence[float]) -> float:
    """Return the mean of some values; NaN of none."""
    return float(np.mean(values)) if len(values) else float("nan")


def _row(scores: Scores) -> dict[str, float | int]:
    figures = {name: getattr(scores, name) for name in (*SHOWN, "n_positive", "n_negative", "n_invisible")}
    total = scores.n_positive + scores.n_negative
    return {**figures, "prevalence": scores.n_positive / total if total else float("nan")}
