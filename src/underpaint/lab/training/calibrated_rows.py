"""Probabilities put right on held-out spectra, for a network that has no calibration of its own."""

from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from underpaint.lab.networks import DefaultNetwork
from underpaint.lab.training.calibration import platt
from underpaint.lab.training.checkpoint import Trained
from underpaint.lab.training.library import Library
from underpaint.lab.training.paired import answers_of
from underpaint.lab.training.settings import TrainSettings


def calibrated_rows(trained: Trained, library: Library, rows: NDArray[np.int64], settings: TrainSettings) -> Trained:
    """Calibrate a default network by name: scale and shift (Platt 1999) go into the weights of its answers.

    Parameters
    ----------
    trained : Trained
        Stays as it is. A network of layers comes back as it came: training has calibrated it.
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
