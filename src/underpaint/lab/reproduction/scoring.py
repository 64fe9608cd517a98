"""Scores of an arm: by pigment and by elementary group, over folds or pooled, with the paper's and the baselines."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.lab.evaluation import Scores, score
from underpaint.lab.evaluation.groups import group_outputs
from underpaint.lab.reproduction.arms import Answers
from underpaint.lab.reproduction.simulation import paper_outputs
from underpaint.simulate.recipes import paper_classes, paper_table3

PAPER_ARMS = ("simulation", "experimental_no_finetune", "experimental_finetune")
SCORES = ("accuracy", "sensitivity", "f1", "auprc", "ece")


def over_folds(answers: Answers, arm: str = "") -> dict[str, Any]:
    """Return the figures of an arm whose folds include every pigment: mean and spread over the folds.

    Returns
    -------
    dict
        ``{pigment: {accuracy, sensitivity, f1, auprc, ece, f1_spread, majority_accuracy, always_yes, paper},
        "mean": {...}, "groups": {group: {...}, "mean": {...}}}``; the paper's three only if it has the arm.
    """
    folds = [
        (_with_groups(answer), _with_groups(truth))
        for answer, truth in zip(answers.probability, answers.label, strict=True)
    ]
    rows = [
        _row([_score(answer[:, column], truth[:, column]) for answer, truth in folds])
        for column in range(folds[0][0].shape[1])
    ]
    return _table(rows, arm)


def pooled(answers: Answers) -> dict[str, Any]:
    """Return the figures of an arm with held-out parts: its folds pooled, then one score per output.

    An output counts in the folds whose training included it; its scores in the others are under ``not_learned``.
    """
    answer, truth = (_with_groups(np.concatenate(each)) for each in (answers.probability, answers.label))
    learned = _with_groups(
        np.concatenate(
            [np.tile(row, (len(label), 1)) for row, label in zip(answers.learned, answers.label, strict=True)]
        )
    )
    rows = []
    for column in range(answer.shape[1]):
        learned_here = learned[:, column]
        row = _row([_score(answer[learned_here, column], truth[learned_here, column])])
        if not learned_here.all():
            missing = _score(answer[~learned_here, column], truth[~learned_here, column])
            row["not_learned"] = {"sensitivity": missing.sensitivity, "n_positive": missing.n_positive}
        rows.append(row)
    return _table(rows, "")


def _with_groups(values: NDArray[Any]) -> NDArray[Any]:
    """Return (n, n_pigment + n_group) values: for a group, those of its most probable pigment, or the truth of any."""
    group_labels = paper_outputs().groups
    members = [[column for column, groups in enumerate(group_labels) if name in groups] for name in group_names()]
    return np.concatenate([values, *(values[:, columns].max(axis=1, keepdims=True) for columns in members)], axis=1)


def group_names() -> tuple[str, ...]:
    """Return the elementary groups of the paper's pigments, which a spectrum can distinguish."""
    return group_outputs(paper_classes()).names


def _score(answer: NDArray[np.float32], truth: NDArray[np.bool_]) -> Scores:
    return score(answer, truth, np.ones(truth.size, dtype=bool))


def _row(scores: list[Scores]) -> dict[str, Any]:
    centre = _average([each.f1 for each in scores])
    return {
        **{key: _average([getattr(each, key) for each in scores]) for key in SCORES},
        "f1_spread": _average([abs(each.f1 - centre) ** 2 for each in scores]) ** 0.5,
        "majority_accuracy": _average([each.majority_accuracy for each in scores]),
        "always_yes": {"f1": _average([each.always_yes_f1 for each in scores])},
    }


def _table(rows: list[dict[str, Any]], arm: str) -> dict[str, Any]:
    pigments = dict(zip(paper_outputs().names, rows, strict=False))
    groups = dict(zip(group_names(), rows[len(pigments) :], strict=True))
    if arm in PAPER_ARMS:
        for name, row in pigments.items():
            row["paper"] = paper_table3()[name][PAPER_ARMS.index(arm)]
    return {**pigments, "mean": _mean(pigments), "groups": {**groups, "mean": _mean(groups)}}


def _mean(figures: dict[str, dict[str, Any]]) -> dict[str, Any]:
    rows = list(figures.values())
    keys = (*SCORES, "f1_spread", "majority_accuracy")
    mean: dict[str, Any] = {key: _average([row[key] for row in rows]) for key in keys}
    mean["always_yes"] = {"f1": _average([row["always_yes"]["f1"] for row in rows])}
    if "paper" in rows[0]:
        mean["paper"] = np.mean([row["paper"] for row in rows], axis=0).tolist()
    return mean


def _average(values: list[float]) -> float:
    """Return the mean of defined values; NaN without any."""
    finite = [value for value in values if not np.isnan(value)]
    return float(np.mean(finite)) if finite else float("nan")
