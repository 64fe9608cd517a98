"""Calibration errors of probabilities, and coverage of prediction sets and of thickness intervals."""

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
from underpaint.lab.evaluation.simulated import HeldOutSet
from underpaint.pigments.weights import PredictionSets

COUNT_DECADES = ((1e3, 1e4), (1e4, 1e5), (1e5, 1e6))
NOMINAL_COVERAGES = (0.90, 0.99)
INTERVAL_COVERAGE = 0.90
MIN_BIN_SPECTRA = 1000
"""Minimum number of spectra for which a coverage is compared with its nominal value."""


def decade_name(count_decade: tuple[float, float]) -> str:
    """Return the key of a decade of total counts in the record of scores, such as "1e3-1e4"."""
    return f"{count_decade[0]:.0e}-{count_decade[1]:.0e}".replace("e+0", "e")


def draw_total_counts(count_decade: tuple[float, float], n_spectra: int, seed: tuple[int, ...]) -> NDArray[np.float64]:
    """Draw (n_spectra,) total counts, log-uniform in a decade."""
    min_log_counts, max_log_counts = np.log(count_decade)
    return np.asarray(np.exp(np.random.default_rng(seed).uniform(min_log_counts, max_log_counts, n_spectra)))


@dataclass(frozen=True)
class DecadeSpectra:
    """Spectra of the held-out set with total counts that are log-uniform in a decade.

    Parameters
    ----------
    total_counts : (n,) array
        Mean total counts of each spectrum within the recorded range.
    spectra : Spectra
    """

    total_counts: NDArray[np.float64]
    spectra: Spectra


def draw_spectra_by_decade(held_out_spectra: HeldOutSet, seed: int) -> list[DecadeSpectra]:
    """Draw spectra of the held-out set for each of ``COUNT_DECADES``."""
    counts_by_decade = [
        draw_total_counts(count_decade, len(held_out_spectra), (seed, decade_number))
        for decade_number, count_decade in enumerate(COUNT_DECADES)
    ]
    return [
        DecadeSpectra(total_counts, held_out_spectra.draw_spectra(total_counts, (seed, decade_number, 1)))
        for decade_number, total_counts in enumerate(counts_by_decade)
    ]


class AnswersByDecade:
    """Answers of a model for the held-out set in each decade of total counts.

    Parameters
    ----------
    held_out_spectra : HeldOutSet
    spectra_by_decade : sequence of DecadeSpectra
        Spectra for each of ``COUNT_DECADES``.
    probability : sequence of (n, n_group) arrays
        Probabilities of the groups in each decade. NaN ("no answer") counts as absent.

    Attributes
    ----------
    labels : list of (n, n_group) bool arrays
        For each decade, whether each group is present in each spectrum at the total counts of the spectrum.
    is_scored : list of (n, n_group) bool arrays
        False for labels that are present but not visible.
    is_calibration_row : (n,) bool array
        True for spectra of every second instrument, with which prediction sets are calibrated.
    """

    def __init__(
        self,
        held_out_spectra: HeldOutSet,
        spectra_by_decade: Sequence[DecadeSpectra],
        probability: Sequence[NDArray[np.floating]],
    ) -> None:
        group_columns = held_out_spectra.columns(held_out_spectra.groups)
        self.groups = held_out_spectra.groups
        self.labels = [
            held_out_spectra.is_present(decade_spectra.total_counts)[:, group_columns]
            for decade_spectra in spectra_by_decade
        ]
        self.is_calibration_row = held_out_spectra.instrument_index % 2 == 0
        self.probability = [
            np.nan_to_num(group_probability.astype(np.float64), nan=0.0) for group_probability in probability
        ]
        self.is_scored = [
            ~labels | held_out_spectra.is_visible(decade_spectra.total_counts)[:, group_columns]
            for decade_spectra, labels in zip(spectra_by_decade, self.labels, strict=True)
        ]


def calibration_error(answers: AnswersByDecade) -> dict[str, Any]:
    """Return the expected calibration error and the Brier score of each group.

    Returns
    -------
    dict
        ``ece`` and ``brier`` by group over all decades, ``ece_by_decade``, and ``mean_ece``, the mean over the groups.
        The expected calibration error is computed with ten bins of probability.
    """
    ece_by_decade: dict[str, dict[str, float]] = {}
    ece_by_group, brier_by_group = {}, {}
    for group_column, group in enumerate(answers.groups):
        answers_by_decade = [
            (probability[is_scored[:, group_column], group_column], labels[is_scored[:, group_column], group_column])
            for probability, is_scored, labels in zip(
                answers.probability, answers.is_scored, answers.labels, strict=True
            )
        ]
        ece_by_decade[group] = {
            decade_name(count_decade): expected_calibration_error(*answers_in_decade)
            for count_decade, answers_in_decade in zip(COUNT_DECADES, answers_by_decade, strict=True)
        }
        probability, truth = (np.concatenate(decade_arrays) for decade_arrays in zip(*answers_by_decade, strict=True))
        ece_by_group[group] = expected_calibration_error(probability, truth)
        brier_by_group[group] = float(np.mean((probability - truth) ** 2)) if truth.size else float("nan")
    return {
        "ece": ece_by_group,
        "mean_ece": mean(list(ece_by_group.values())),
        "ece_by_decade": ece_by_decade,
        "brier": brier_by_group,
    }


def conformal_threshold(nonconformity: NDArray[np.floating], nominal_coverage: float) -> float:
    """Return the nonconformity score up to which an answer belongs to the prediction set.

    Parameters
    ----------
    nonconformity : (n,) array
        Nonconformity score ``1 - p`` of the true answer for each calibration spectrum.
    nominal_coverage : float
        Nominal coverage of the prediction sets.

    Returns
    -------
    float
        The ``ceil((n + 1) nominal_coverage)``-th smallest of the n scores, or 1 if n is too small.

    References
    ----------
    V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World (2005), section 4.2.
    """
    threshold_rank = int(np.ceil((nonconformity.size + 1) * nominal_coverage))
    return 1.0 if threshold_rank > nonconformity.size else float(np.sort(nonconformity)[threshold_rank - 1])


def set_membership(probability: NDArray[np.floating], threshold: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the masks of the prediction sets that contain "present", and of those that contain "absent"."""
    return 1.0 - probability <= threshold, probability <= threshold


def conformal_coverage(answers: AnswersByDecade) -> dict[str, Any]:
    """Calibrate prediction sets on half of the instruments, and return the coverage on the other half.

    Returns
    -------
    dict
        ``{"0.9": {group: {decade: {"coverage", "set_size", "n", "holds"}}}, ...}``.
        ``holds`` states whether the coverage reaches its nominal value minus two standard errors.
        ``holds`` is None for fewer than ``MIN_BIN_SPECTRA`` spectra.
    """
    return _scores_by_nominal_coverage(
        answers.groups,
        lambda group_column, decade_index, nominal_coverage: _coverage_of_new_sets(
            answers, group_column, decade_index, nominal_coverage
        ),
    )


def stated_coverage(
    answers: AnswersByDecade, model_answers: Sequence[ModelAnswers], prediction_sets: PredictionSets
) -> dict[str, Any]:
    """Return the coverage, over all held-out spectra, of the prediction sets in a model card.

    Parameters
    ----------
    answers : AnswersByDecade
    model_answers : sequence of ModelAnswers
        The same answers with their log-odds, for each of ``COUNT_DECADES``.
    prediction_sets : PredictionSets
        Prediction sets of the model card.

    Returns
    -------
    dict
        Scores, as from :func:`conformal_coverage`.
    """
    return _scores_by_nominal_coverage(
        answers.groups, lambda *bin_index: _coverage_of_card_sets(answers, model_answers, prediction_sets, *bin_index)
    )


def _scores_by_nominal_coverage(
    groups: Sequence[str], scores_of_bin: Callable[[int, int, float], dict[str, Any]]
) -> dict[str, Any]:
    return {
        f"{nominal_coverage:g}": {
            group: {
                decade_name(count_decade): scores_of_bin(group_column, decade_index, nominal_coverage)
                for decade_index, count_decade in enumerate(COUNT_DECADES)
            }
            for group_column, group in enumerate(groups)
        }
        for nominal_coverage in NOMINAL_COVERAGES
    }


def _coverage_of_new_sets(
    answers: AnswersByDecade, group_column: int, decade_index: int, nominal_coverage: float
) -> dict[str, Any]:
    is_scored = answers.is_scored[decade_index][:, group_column]
    probability, is_present = (
        answers.probability[decade_index][:, group_column],
        answers.labels[decade_index][:, group_column],
    )
    nonconformity = np.where(is_present, 1.0 - probability, probability)
    threshold = conformal_threshold(nonconformity[is_scored & answers.is_calibration_row], nominal_coverage)
    is_test_row = is_scored & ~answers.is_calibration_row
    return _prediction_set_scores(
        is_present[is_test_row], *set_membership(probability[is_test_row], threshold), nominal_coverage
    )


def _coverage_of_card_sets(
    answers: AnswersByDecade,
    model_answers: Sequence[ModelAnswers],
    prediction_sets: PredictionSets,
    group_column: int,
    decade_index: int,
    nominal_coverage: float,
) -> dict[str, Any]:
    group = answers.groups[group_column]
    if (
        group not in prediction_sets.names
        or nominal_coverage not in prediction_sets.levels
        or COUNT_DECADES[decade_index][0] not in prediction_sets.counts[:-1]
    ):
        return coverage_scores(np.zeros(0, np.bool_), np.zeros(0, np.int64), nominal_coverage)
    row_index = (
        prediction_sets.levels.index(nominal_coverage),
        prediction_sets.counts.index(COUNT_DECADES[decade_index][0]),
        prediction_sets.names.index(group),
    )
    min_present_log_odds, max_absent_log_odds = (
        threshold_table[row_index[0]][row_index[1]][row_index[2]]
        for threshold_table in (prediction_sets.present_from, prediction_sets.absent_to)
    )
    is_test_row = answers.is_scored[decade_index][:, group_column]
    log_odds = model_answers[decade_index].log_odds[is_test_row, model_answers[decade_index].card.names.index(group)]
    return _prediction_set_scores(
        answers.labels[decade_index][is_test_row, group_column],
        log_odds >= min_present_log_odds,
        log_odds <= max_absent_log_odds,
        nominal_coverage,
    )


def _prediction_set_scores(
    is_present: NDArray[np.bool_],
    contains_present: NDArray[np.bool_],
    contains_absent: NDArray[np.bool_],
    nominal_coverage: float,
) -> dict[str, Any]:
    return coverage_scores(
        np.where(is_present, contains_present, contains_absent),
        contains_present.astype(np.int64) + contains_absent,
        nominal_coverage,
    )


def coverage_scores(
    is_covered: NDArray[np.bool_], set_size: NDArray[np.integer], nominal_coverage: float
) -> dict[str, Any]:
    """Return coverage and mean size of prediction sets, and whether the coverage reaches its nominal value."""
    n_prediction_set = int(is_covered.size)
    if not n_prediction_set:
        return {"coverage": float("nan"), "set_size": float("nan"), "n": 0, "holds": None}
    min_coverage = nominal_coverage - 2.0 * np.sqrt(nominal_coverage * (1.0 - nominal_coverage) / n_prediction_set)
    coverage = float(is_covered.mean())
    is_reached = bool(coverage >= min_coverage) if n_prediction_set >= MIN_BIN_SPECTRA else None
    return {"coverage": coverage, "set_size": float(set_size.mean()), "n": n_prediction_set, "holds": is_reached}


def thickness_intervals(held_out_spectra: HeldOutSet, answers: Sequence[ModelAnswers]) -> dict[str, Any] | None:
    """Return the coverage of the thickness intervals of the surface layer in each decade of total counts.

    Parameters
    ----------
    held_out_spectra : HeldOutSet
    answers : sequence of ModelAnswers
        Answers for each of ``COUNT_DECADES``.

    Returns
    -------
    dict or None
        Scores by decade, or None for models that do not predict the thickness.
        ``coverage`` is the fraction of true thicknesses within the 90 % interval.
        ``width`` is the median ratio of upper to lower limit of the interval.
        ``median_ratio`` is the median ratio of estimate and truth, with the larger value divided by the smaller.
        ``n`` is the number of spectra.
    """
    model_card = answers[0].card
    if SURFACE_UM not in model_card.quantities:
        return None
    quantity_column = model_card.quantities.index(SURFACE_UM)
    true_thickness = to_unbounded(SURFACE_UM, held_out_spectra.surface_um)
    half_width_sigmas = float(norm.ppf(0.5 + INTERVAL_COVERAGE / 2.0))
    scores_by_decade: dict[str, Any] = {}
    for count_decade, model_answers in zip(COUNT_DECADES, answers, strict=True):
        if model_answers.quantity is None or model_answers.sigma is None:
            return None
        thickness_estimate, sigma = model_answers.quantity[:, quantity_column], model_answers.sigma[:, quantity_column]
        is_finite = np.isfinite(true_thickness) & np.isfinite(thickness_estimate)
        absolute_error = np.abs(thickness_estimate - true_thickness)[is_finite]
        scores_by_decade[decade_name(count_decade)] = {
            "coverage": float((absolute_error <= half_width_sigmas * sigma[is_finite]).mean()),
            "width": float(np.median(from_unbounded(SURFACE_UM, 2.0 * half_width_sigmas * sigma[is_finite]))),
            "median_ratio": float(np.exp(np.median(absolute_error))),
            "n": int(is_finite.sum()),
        }
    return scores_by_decade
