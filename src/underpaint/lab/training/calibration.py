"""Calibration on held-out spectra: of probabilities, intervals and prediction sets."""

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
from underpaint.lab.training.checkpoint import Trained
from underpaint.lab.training.library import Library
from underpaint.lab.training.module import ask
from underpaint.lab.training.paired import answers_of
from underpaint.lab.training.settings import TrainSettings
from underpaint.pigments.weights import UNBOUNDED_LOG_ODDS, PredictionSets

LEVELS = (0.9, 0.99)
"""Coverages of the prediction sets."""
_DECADES = (1e3, 1e4, 1e5, 1e6)
_INTERVAL = 0.9
_Z_OF_INTERVAL = 1.6449
_LEAST_DISTANCES = 20
_DOUBT = 0.05
"""Probability with which a set may cover less than it states (V. Vovk, Machine Learning 92, 2013, proposition 2a)."""
_PRIOR = 4.0
"""Weight, in spectra, of leaving a name's log-odds as they are; rare names would be overfitted without."""


@dataclass(frozen=True)
class _Answers:
    """Answers of a network to some spectra, and the truth; arrays (n, n_name) and (n, n_quantity).

    ``amounts`` (n, n_amount, n_edge) are log-odds that a share reaches each edge, ``reached`` whether it does.
    """

    log_odds: NDArray[np.float64]
    labels: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    distance: NDArray[np.float64]
    amounts: NDArray[np.float64]
    reached: NDArray[np.bool_]


def calibrate_network(trained: Trained, library: Library, rows: NDArray[np.int64], settings: TrainSettings) -> Trained:
    """Calibrate a network of layers by count level, and find prediction sets of stated coverage.

    Parameters
    ----------
    trained : Trained
        Its network is changed in place: the numbers of its :class:`underpaint.lab.networks.Calibration` are fitted.
    library : Library
        Expected spectra with labels, places and quantities.
    rows : (n,) array
        Rows that the network was not trained on. One half of their stratigraphies fits the calibration, the other
        the sets.
    settings : TrainSettings
        Batch size and seed; the counts are those of the levels.

    Returns
    -------
    Trained
        With ``sets`` in its card.

    Raises
    ------
    TrainingError
        The network has no calibration, or fewer than two stratigraphies were held out.

    Notes
    -----
    Probabilities: Platt scaling by name (J. Platt, Advances in Large Margin Classifiers, 1999), at 1e3, 1e4, 1e5 and
    1e6 counts; amounts: the same, one for all edges. Deviations: scaled so that 90 % intervals cover 90 %. Sets:
    Mondrian conformal prediction (V. Vovk et al., Algorithmic Learning in a Random World, 2005, chapter 4), by name,
    by decade of counts and by the truth.
    """
    calibration = getattr(trained.network, "calibration", None)
    if not isinstance(calibration, Calibration):
        raise TrainingError(
            f"Cannot calibrate {trained.card.name}: a {trained.card.kind} network has no calibration. Use layers."
        )
    first, second = _halves(library, rows, settings.seed)
    calibration.reset()
    for level, power in enumerate(LOG10_COUNTS):
        answers = _ask(trained.network, library, first, settings, 10.0**power, 10.0**power)
        _fit_level(calibration, level, answers)
    sets = _prediction_sets(trained, library, second, settings)
    return Trained(trained.network, trained.card.model_copy(update={"sets": sets}))


def uncalibrate(network: nn.Module) -> None:
    """Remove the calibration of a network before further training; one without calibration is not changed."""
    calibration = getattr(network, "calibration", None)
    if isinstance(calibration, Calibration):
        calibration.reset()


def _halves(library: Library, rows: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    sources = np.random.default_rng(seed).permutation(np.unique(library.source[rows]))
    if sources.size < 2:
        raise TrainingError(
            f"Cannot calibrate on {sources.size} held-out stratigraphies; two are the least, a thousand are well."
        )
    in_first = np.isin(library.source[rows], sources[: sources.size // 2])
    return rows[in_first], rows[~in_first]


def _ask(
    network: nn.Module, library: Library, rows: NDArray[np.int64], settings: TrainSettings, low: float, high: float
) -> _Answers:
    """Run the network on one draw of each row, with counts log-uniform between two numbers."""
    at_counts = settings.model_copy(update={"counts_min": low, "counts_max": high})
    log_odds, labels, counted, distance, amounts, reached = [], [], [], [], [], []
    with torch.inference_mode():
        for batch in Batches(library, rows, at_counts, shuffle=False):
            logits, mean, sigma, *rest = ask(network.eval(), batch)
            log_odds.append(logits.numpy())
            labels.append(batch.labels.numpy() > 0)
            counted.append(batch.weight.numpy() > 0)
            distance.append(((batch.quantity - mean) / sigma).numpy())
            n_amount = 0 if batch.amount is None or not rest else batch.amount.shape[1]
            each = rest[0].reshape(len(logits), n_amount, -1).numpy() if n_amount else np.zeros((len(logits), 0, 1))
            amounts.append(each)
            held = np.zeros((len(logits), 0)) if batch.amount is None else batch.amount[:, :n_amount].numpy()
            reached.append(held[:, :, None] > np.arange(each.shape[2]))
    return _Answers(
        log_odds=np.concatenate(log_odds).astype(np.float64),
        labels=np.concatenate(labels),
        counted=np.concatenate(counted),
        distance=np.concatenate(distance).astype(np.float64),
        amounts=np.concatenate(amounts).astype(np.float64),
        reached=np.concatenate(reached),
    )


def _fit_level(calibration: Calibration, level: int, answers: _Answers) -> None:
    for name in range(answers.log_odds.shape[1]):
        used = answers.counted[:, name]
        scale, shift = platt(answers.log_odds[used, name], answers.labels[used, name])
        calibration.scale[level, name], calibration.shift[level, name] = scale, shift
    for quantity, distance in enumerate(np.abs(answers.distance).T):
        known = distance[~np.isnan(distance)]
        if known.size >= _LEAST_DISTANCES:
            calibration.widen[level, quantity] = float(np.quantile(known, _INTERVAL)) / _Z_OF_INTERVAL
    for amount in range(answers.amounts.shape[1]):
        scale, shift = platt(answers.amounts[:, amount].ravel(), answers.reached[:, amount].ravel())
        calibration.amount_scale[level, amount], calibration.amount_shift[level, amount] = scale, shift


def platt(log_odds: NDArray[np.float64], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the most likely scale and shift of log-odds, with a weak prior at one and zero.

    Parameters
    ----------
    log_odds : (n,) array
    truth : (n,) bool array
    """
    sign = np.where(truth, 1.0, -1.0)

    def loss(numbers: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        log_scale, shift = numbers
        scale = np.exp(log_scale)
        margin = sign * (scale * log_odds + shift)
        slope = -sign / (1.0 + np.exp(np.minimum(margin, 500.0)))
        total = np.logaddexp(0.0, -margin).sum() + 0.5 * _PRIOR * (log_scale**2 + shift**2)
        by_scale = (slope * log_odds).sum() * scale + _PRIOR * log_scale
        return float(total), np.array([by_scale, slope.sum() + _PRIOR * shift])

    solution = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=((-2.0, 2.0), (-10.0, 10.0)))
    return float(np.exp(solution.x[0])), float(solution.x[1])


def _prediction_sets(
    trained: Trained, library: Library, rows: NDArray[np.int64], settings: TrainSettings
) -> PredictionSets:
    card = trained.card
    groups = [index for index, kind in enumerate(card.kinds) if kind == "group"]
    present_from = np.empty((len(LEVELS), len(_DECADES) - 1, len(groups)))
    absent_to = np.empty_like(present_from)
    for decade, (low, high) in enumerate(pairwise(_DECADES)):
        answers = _ask(trained.network, library, rows, settings, low, high)
        for column, name in enumerate(groups):
            used, truth = answers.counted[:, name], answers.labels[:, name]
            for level, coverage in enumerate(LEVELS):
                present = np.sort(answers.log_odds[used & truth, name])
                absent = np.sort(-answers.log_odds[used & ~truth, name])
                present_from[level, decade, column] = _lowest(present, coverage)
                absent_to[level, decade, column] = -_lowest(absent, coverage)
    return PredictionSets(
        names=tuple(card.names[index] for index in groups),
        levels=LEVELS,
        counts=_DECADES,
        present_from=_nested(present_from),
        absent_to=_nested(absent_to),
    )


def _lowest(scores: NDArray[np.float64], coverage: float) -> float:
    """Return the score from which an answer belongs to the set: below it lies at most ``1 - coverage`` of the truth.

    At most in 19 of 20 draws of the held-out spectra, and not on average over them: a model is calibrated once.
    """
    rank = int(binom.ppf(_DOUBT, scores.size, 1.0 - coverage))
    return float(scores[rank - 1]) if rank >= 1 else -UNBOUNDED_LOG_ODDS


def _nested(values: NDArray[np.float64]) -> Sequence[Sequence[Sequence[float]]]:
    return tuple(tuple(tuple(round(float(each), 4) for each in row) for row in table) for table in values)


def calibrate_rows(trained: Trained, library: Library, rows: NDArray[np.int64], settings: TrainSettings) -> Trained:
    """Calibrate a default network by name: scale and shift (Platt 1999) go into the weights of its answers.

    Parameters
    ----------
    trained : Trained
        Not changed. A network of layers is returned as it is: training has calibrated it.
    library : Library
        Expected spectra; names that they do not speak of stay as they are.
    rows : (n,) array
        Those that the network was not trained on.
    settings : TrainSettings
        Counts, batch and seed.
    """
    if not isinstance(trained.network, DefaultNetwork):
        return trained
    network = deepcopy(trained.network)
    answers = answers_of(network, trained.card.names, library.rows(rows), settings)
    for column, name in enumerate(answers.names):
        used = answers.weight[:, column] > 0
        scale, shift = platt(answers.log_odds[used, column].astype(np.float64), answers.labels[used, column] > 0.5)
        _restate(network, trained.card.names.index(name), scale, shift)
    return Trained(network, trained.card)


def _restate(network: DefaultNetwork, row: int, scale: float, shift: float) -> None:
    """Scale and shift one answer: the sum of the deep path's row and the linear one's."""
    with torch.no_grad():
        for layer in (network.dense, network.linear):
            _scale_row(layer, row, scale)
        network.dense.bias[row] += shift


def _scale_row(layer: nn.Linear, row: int, scale: float) -> None:
    layer.weight[row] *= scale
    layer.bias[row] *= scale
