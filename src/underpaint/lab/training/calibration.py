"""Calibration of probabilities, intervals and prediction sets on held-out spectra."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import binom
from torch import nn

from underpaint.errors import TrainingError
from underpaint.lab.networks import Calibration, DefaultNetwork
from underpaint.lab.networks.calibration import LOG10_COUNTS
from underpaint.lab.training.batches import Batches
from underpaint.lab.training.checkpoint import TrainedNetwork
from underpaint.lab.training.library import Library
from underpaint.lab.training.module import run_network
from underpaint.lab.training.paired import answers_of
from underpaint.lab.training.settings import TrainSettings
from underpaint.pigments.weights import UNBOUNDED_LOG_ODDS, PredictionSets

NOMINAL_COVERAGES = (0.9, 0.99)
"""Nominal coverages of the prediction sets."""
_DECADE_EDGES = (1e3, 1e4, 1e5, 1e6)
_INTERVAL_COVERAGE = 0.9
_INTERVAL_SIGMAS = 1.6449
_MIN_PULLS = 20
_FAILURE_PROBABILITY = 0.05
"""Probability that a coverage is below its nominal value (Vovk, Machine Learning 92, 2013, prop. 2a)."""
_PRIOR_WEIGHT = 4.0
"""Weight, in spectra, of the prior for unchanged log-odds. The prior prevents overfitting of rare pigments."""


@dataclass(frozen=True)
class _CalibrationAnswers:
    """Answers of a network for calibration spectra, and the labels of the spectra.

    ``pulls`` (n, n_quantity) are the errors of quantities divided by their predicted standard deviations. ``amounts``
    (n, n_amount, n_edge) are the log-odds that a mass fraction reaches each class edge. ``is_reached`` states whether
    the true mass fraction reaches the class edge.
    """

    log_odds: NDArray[np.float64]
    labels: NDArray[np.bool_]
    is_scored: NDArray[np.bool_]
    pulls: NDArray[np.float64]
    amounts: NDArray[np.float64]
    is_reached: NDArray[np.bool_]


def calibrate_network(
    trained_model: TrainedNetwork, library: Library, rows: NDArray[np.int64], settings: TrainSettings
) -> TrainedNetwork:
    """Calibrate a network of layers at several total counts, and compute prediction sets with nominal coverages.

    Parameters
    ----------
    trained_model : TrainedNetwork
        Network to calibrate. The values of the network's :class:`underpaint.lab.networks.Calibration` are changed in
        place.
    library : Library
        Expected spectra with labels, places and quantities.
    rows : (n,) array
        Rows that the network was not trained on.
        Half of the stratigraphies are used for the calibration, and the other half for the prediction sets.
    settings : TrainSettings
        Batch size and seed. The range of counts is not used.

    Returns
    -------
    TrainedNetwork
        The calibrated network, with the prediction sets (``sets``) in its model card.

    Raises
    ------
    TrainingError
        The network has no calibration, or there are fewer than two held-out stratigraphies.

    Notes
    -----
    Probabilities of each output are calibrated at 1e3, 1e4, 1e5 and 1e6 counts by Platt scaling (Platt, Advances in
    Large Margin Classifiers, 1999). The log-odds of an amount have one scale and one shift for all class edges.
    Standard deviations are scaled so that 90 % intervals contain 90 % of the true values. Prediction sets are from
    Mondrian conformal prediction, with classes by group, decade of counts and true label (Vovk et al., Algorithmic
    Learning in a Random World, 2005, chapter 4).
    """
    calibration = getattr(trained_model.network, "calibration", None)
    if not isinstance(calibration, Calibration):
        raise TrainingError(
            f"Cannot calibrate {trained_model.card.name}: a {trained_model.card.kind} network has no calibration. "
            "Use layers."
        )
    calibration_rows, prediction_set_rows = _split_sources(library, rows, settings.seed)
    calibration.reset()
    for level_index, log10_counts in enumerate(LOG10_COUNTS):
        answers = _run_on_draw(
            trained_model.network, library, calibration_rows, settings, 10.0**log10_counts, 10.0**log10_counts
        )
        _fit_count_level(calibration, level_index, answers)
    prediction_sets = _prediction_sets(trained_model, library, prediction_set_rows, settings)
    return TrainedNetwork(trained_model.network, trained_model.card.model_copy(update={"sets": prediction_sets}))


def reset_calibration(network: nn.Module) -> None:
    """Reset the calibration of a network, if it has one, before further training."""
    calibration = getattr(network, "calibration", None)
    if isinstance(calibration, Calibration):
        calibration.reset()


def _split_sources(library: Library, rows: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    shuffled_sources = np.random.default_rng(seed).permutation(np.unique(library.source[rows]))
    if shuffled_sources.size < 2:
        raise TrainingError(
            f"Cannot calibrate on {shuffled_sources.size} held-out stratigraphies: at least two are "
            "needed. Use a thousand or more."
        )
    is_in_first_half = np.isin(library.source[rows], shuffled_sources[: shuffled_sources.size // 2])
    return rows[is_in_first_half], rows[~is_in_first_half]


def _run_on_draw(
    network: nn.Module,
    library: Library,
    rows: NDArray[np.int64],
    settings: TrainSettings,
    min_counts: float,
    max_counts: float,
) -> _CalibrationAnswers:
    """Run the network on one random spectrum per row, with log-uniform total counts between two limits."""
    count_settings = settings.model_copy(update={"counts_min": min_counts, "counts_max": max_counts})
    log_odds, labels, is_scored, pulls, amounts, is_reached = [], [], [], [], [], []
    with torch.inference_mode():
        for batch in Batches(library, rows, count_settings, shuffle=False):
            logits, quantity_mean, quantity_sigma, *amount_outputs = run_network(network.eval(), batch)
            log_odds.append(logits.numpy())
            labels.append(batch.labels.numpy() > 0)
            is_scored.append(batch.weight.numpy() > 0)
            pulls.append(((batch.quantity - quantity_mean) / quantity_sigma).numpy())
            n_amount = 0 if batch.amount is None or not amount_outputs else batch.amount.shape[1]
            amount_logits = (
                amount_outputs[0].reshape(len(logits), n_amount, -1).numpy()
                if n_amount
                else np.zeros((len(logits), 0, 1))
            )
            amounts.append(amount_logits)
            amount_class = np.zeros((len(logits), 0)) if batch.amount is None else batch.amount[:, :n_amount].numpy()
            is_reached.append(amount_class[:, :, None] > np.arange(amount_logits.shape[2]))
    return _CalibrationAnswers(
        log_odds=np.concatenate(log_odds).astype(np.float64),
        labels=np.concatenate(labels),
        is_scored=np.concatenate(is_scored),
        pulls=np.concatenate(pulls).astype(np.float64),
        amounts=np.concatenate(amounts).astype(np.float64),
        is_reached=np.concatenate(is_reached),
    )


def _fit_count_level(calibration: Calibration, level_index: int, answers: _CalibrationAnswers) -> None:
    for output_index in range(answers.log_odds.shape[1]):
        is_scored = answers.is_scored[:, output_index]
        platt_scale, platt_shift = fit_platt_scaling(
            answers.log_odds[is_scored, output_index], answers.labels[is_scored, output_index]
        )
        calibration.scale[level_index, output_index], calibration.shift[level_index, output_index] = (
            platt_scale,
            platt_shift,
        )
    for quantity_index, absolute_pulls in enumerate(np.abs(answers.pulls).T):
        finite_pulls = absolute_pulls[~np.isnan(absolute_pulls)]
        if finite_pulls.size >= _MIN_PULLS:
            calibration.widen[level_index, quantity_index] = (
                float(np.quantile(finite_pulls, _INTERVAL_COVERAGE)) / _INTERVAL_SIGMAS
            )
    for amount_index in range(answers.amounts.shape[1]):
        platt_scale, platt_shift = fit_platt_scaling(
            answers.amounts[:, amount_index].ravel(), answers.is_reached[:, amount_index].ravel()
        )
        calibration.amount_scale[level_index, amount_index], calibration.amount_shift[level_index, amount_index] = (
            platt_scale,
            platt_shift,
        )


def fit_platt_scaling(log_odds: NDArray[np.float64], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Fit the scale and shift of log-odds, with a weak prior for a scale of 1 and a shift of 0.

    Parameters
    ----------
    log_odds : (n,) array
    truth : (n,) bool array
    """
    label_sign = np.where(truth, 1.0, -1.0)

    def loss_and_gradient(scale_and_shift: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        log_scale, platt_shift = scale_and_shift
        platt_scale = np.exp(log_scale)
        label_margin = label_sign * (platt_scale * log_odds + platt_shift)
        loss_slope = -label_sign / (1.0 + np.exp(np.minimum(label_margin, 500.0)))
        loss_value = np.logaddexp(0.0, -label_margin).sum() + 0.5 * _PRIOR_WEIGHT * (log_scale**2 + platt_shift**2)
        scale_gradient = (loss_slope * log_odds).sum() * platt_scale + _PRIOR_WEIGHT * log_scale
        return float(loss_value), np.array([scale_gradient, loss_slope.sum() + _PRIOR_WEIGHT * platt_shift])

    optimum = minimize(loss_and_gradient, np.zeros(2), jac=True, method="L-BFGS-B", bounds=((-2.0, 2.0), (-10.0, 10.0)))
    return float(np.exp(optimum.x[0])), float(optimum.x[1])


def _prediction_sets(
    trained_model: TrainedNetwork, library: Library, rows: NDArray[np.int64], settings: TrainSettings
) -> PredictionSets:
    model_card = trained_model.card
    group_columns = [
        group_column for group_column, output_kind in enumerate(model_card.kinds) if output_kind == "group"
    ]
    present_from = np.empty((len(NOMINAL_COVERAGES), len(_DECADE_EDGES) - 1, len(group_columns)))
    absent_to = np.empty_like(present_from)
    for decade_index, (min_counts, max_counts) in enumerate(pairwise(_DECADE_EDGES)):
        answers = _run_on_draw(trained_model.network, library, rows, settings, min_counts, max_counts)
        for group_index, output_index in enumerate(group_columns):
            is_scored, is_present = answers.is_scored[:, output_index], answers.labels[:, output_index]
            for level_index, nominal_coverage in enumerate(NOMINAL_COVERAGES):
                present_scores = np.sort(answers.log_odds[is_scored & is_present, output_index])
                absent_scores = np.sort(-answers.log_odds[is_scored & ~is_present, output_index])
                present_from[level_index, decade_index, group_index] = _set_threshold(present_scores, nominal_coverage)
                absent_to[level_index, decade_index, group_index] = -_set_threshold(absent_scores, nominal_coverage)
    return PredictionSets(
        names=tuple(model_card.names[group_column] for group_column in group_columns),
        levels=NOMINAL_COVERAGES,
        counts=_DECADE_EDGES,
        present_from=_thresholds_as_tuples(present_from),
        absent_to=_thresholds_as_tuples(absent_to),
    )


def _set_threshold(scores: NDArray[np.float64], nominal_coverage: float) -> float:
    """Return the minimum score of an answer in a prediction set.

    In 19 of 20 random held-out sets, at most a fraction ``1 - nominal_coverage`` of the true answers has a lower score.
    Reaching the nominal coverage on average would not be enough, because a model is calibrated only once.
    """
    threshold_rank = int(binom.ppf(_FAILURE_PROBABILITY, scores.size, 1.0 - nominal_coverage))
    return float(scores[threshold_rank - 1]) if threshold_rank >= 1 else -UNBOUNDED_LOG_ODDS


def _thresholds_as_tuples(thresholds: NDArray[np.float64]) -> Sequence[Sequence[Sequence[float]]]:
    return tuple(
        tuple(tuple(round(float(threshold), 4) for threshold in threshold_row) for threshold_row in decade_table)
        for decade_table in thresholds
    )


def calibrate_outputs(
    trained_model: TrainedNetwork, library: Library, rows: NDArray[np.int64], settings: TrainSettings
) -> TrainedNetwork:
    """Return a default network whose weights calibrate each output by Platt scaling (Platt 1999).

    Parameters
    ----------
    trained_model : TrainedNetwork
        Network to calibrate. It is not changed. A network of layers is returned as it is, because its calibration is
        part of its training.
    library : Library
        Expected spectra with labels. Outputs without labels are not changed.
    rows : (n,) array
        Rows that the network was not trained on.
    settings : TrainSettings
        Range of counts, batch size and seed.
    """
    if not isinstance(trained_model.network, DefaultNetwork):
        return trained_model
    network = deepcopy(trained_model.network)
    answers = answers_of(network, trained_model.card.names, library.select_rows(rows), settings)
    for answer_column, name in enumerate(answers.names):
        is_scored = answers.weight[:, answer_column] > 0
        platt_scale, platt_shift = fit_platt_scaling(
            answers.log_odds[is_scored, answer_column].astype(np.float64),
            answers.labels[is_scored, answer_column] > 0.5,
        )
        _rescale_output(network, trained_model.card.names.index(name), platt_scale, platt_shift)
    return TrainedNetwork(network, trained_model.card)


def _rescale_output(network: DefaultNetwork, output_row: int, platt_scale: float, platt_shift: float) -> None:
    """Scale and shift one output of the network, in its deep path and in its linear path."""
    with torch.no_grad():
        for output_layer in (network.dense, network.linear):
            _scale_row(output_layer, output_row, platt_scale)
        network.dense.bias[output_row] += platt_shift


def _scale_row(linear_layer: nn.Linear, output_row: int, row_scale: float) -> None:
    linear_layer.weight[output_row] *= row_scale
    linear_layer.bias[output_row] *= row_scale
