"""Scores of an arm by pigment and by elementary group, next to scores of the paper and baselines."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.lab.evaluation import Scores, score
from underpaint.lab.evaluation.groups import group_outputs
from underpaint.lab.reproduction.arms import Answers
from underpaint.lab.reproduction.simulation import paper_outputs
from underpaint.simulate.recipes import paper_classes, paper_table3

PAPER_ARMS = ("simulation", "experimental_no_finetune", "experimental_finetune")
SCORE_NAMES = ("accuracy", "sensitivity", "f1", "auprc", "ece")


def scores_over_folds(answers: Answers, arm: str = "") -> dict[str, Any]:
    """Return the mean scores over the folds of an arm. Every training set must contain every pigment.

    Returns
    -------
    dict
        ``{pigment: {accuracy, sensitivity, f1, auprc, ece, f1_spread, majority_accuracy, always_yes, paper}, "mean":
        {...}, "groups": {group: {...}, "mean": {...}}}``. ``f1_spread`` is the standard deviation of F1 over the folds.
        ``paper`` has the three scores of the paper, for arms of the paper.
    """
    answers_and_labels_by_fold = [
        (_with_group_columns(probability), _with_group_columns(is_present))
        for probability, is_present in zip(answers.probability, answers.label, strict=True)
    ]
    score_rows = [
        _mean_scores(
            [
                _score_all_visible(probability[:, name_column], is_present[:, name_column])
                for probability, is_present in answers_and_labels_by_fold
            ]
        )
        for name_column in range(answers_and_labels_by_fold[0][0].shape[1])
    ]
    return _scores_by_name(score_rows, arm)


def pooled_scores(answers: Answers) -> dict[str, Any]:
    """Return the scores of an arm with held-out structures, computed from the pooled answers of all folds.

    The scores of an output are from the folds whose training set contains the output. ``not_learned`` is the
    sensitivity of the output in all other folds.
    """
    probability, is_present = (
        _with_group_columns(np.concatenate(fold_arrays)) for fold_arrays in (answers.probability, answers.label)
    )
    is_learned = _with_group_columns(
        np.concatenate(
            [
                np.tile(score_row, (len(fold_labels), 1))
                for score_row, fold_labels in zip(answers.is_learned, answers.label, strict=True)
            ]
        )
    )
    score_rows = []
    for name_column in range(probability.shape[1]):
        learned_rows = is_learned[:, name_column]
        score_row = _mean_scores(
            [_score_all_visible(probability[learned_rows, name_column], is_present[learned_rows, name_column])]
        )
        if not learned_rows.all():
            scores_not_learned = _score_all_visible(
                probability[~learned_rows, name_column], is_present[~learned_rows, name_column]
            )
            score_row["not_learned"] = {
                "sensitivity": scores_not_learned.sensitivity,
                "n_positive": scores_not_learned.n_positive,
            }
        score_rows.append(score_row)
    return _scores_by_name(score_rows, "")


def _with_group_columns(pigment_columns: NDArray[Any]) -> NDArray[Any]:
    """Return (n, n_pigment + n_group) columns, in which a group has the maximum over its pigments."""
    group_labels = paper_outputs().groups
    member_columns = [
        [pigment_column for pigment_column, groups in enumerate(group_labels) if name in groups]
        for name in group_names()
    ]
    return np.concatenate(
        [
            pigment_columns,
            *(pigment_columns[:, columns_of_group].max(axis=1, keepdims=True) for columns_of_group in member_columns),
        ],
        axis=1,
    )


def group_names() -> tuple[str, ...]:
    """Return the names of the paper's elementary groups, which XRF can distinguish."""
    return group_outputs(paper_classes()).names


def _score_all_visible(probability: NDArray[np.float32], is_present: NDArray[np.bool_]) -> Scores:
    return score(probability, is_present, np.ones(is_present.size, dtype=bool))


def _mean_scores(scores: list[Scores]) -> dict[str, Any]:
    mean_f1 = _nanmean([fold_scores.f1 for fold_scores in scores])
    return {
        **{
            score_name: _nanmean([getattr(fold_scores, score_name) for fold_scores in scores])
            for score_name in SCORE_NAMES
        },
        "f1_spread": _nanmean([abs(fold_scores.f1 - mean_f1) ** 2 for fold_scores in scores]) ** 0.5,
        "majority_accuracy": _nanmean([fold_scores.majority_accuracy for fold_scores in scores]),
        "always_yes": {"f1": _nanmean([fold_scores.always_yes_f1 for fold_scores in scores])},
    }


def _scores_by_name(score_rows: list[dict[str, Any]], arm: str) -> dict[str, Any]:
    pigments = dict(zip(paper_outputs().names, score_rows, strict=False))
    groups = dict(zip(group_names(), score_rows[len(pigments) :], strict=True))
    if arm in PAPER_ARMS:
        for name, score_row in pigments.items():
            score_row["paper"] = paper_table3()[name][PAPER_ARMS.index(arm)]
    return {**pigments, "mean": _mean_over_names(pigments), "groups": {**groups, "mean": _mean_over_names(groups)}}


def _mean_over_names(scores_by_name: dict[str, dict[str, Any]]) -> dict[str, Any]:
    score_rows = list(scores_by_name.values())
    score_names = (*SCORE_NAMES, "f1_spread", "majority_accuracy")
    mean_scores: dict[str, Any] = {
        score_name: _nanmean([score_row[score_name] for score_row in score_rows]) for score_name in score_names
    }
    mean_scores["always_yes"] = {"f1": _nanmean([score_row["always_yes"]["f1"] for score_row in score_rows])}
    if "paper" in score_rows[0]:
        mean_scores["paper"] = np.mean([score_row["paper"] for score_row in score_rows], axis=0).tolist()
    return mean_scores


def _nanmean(score_values: list[float]) -> float:
    """Return the mean of the values that are not NaN, or NaN if there are none."""
    finite_values = [score_value for score_value in score_values if not np.isnan(score_value)]
    return float(np.mean(finite_values)) if finite_values else float("nan")
