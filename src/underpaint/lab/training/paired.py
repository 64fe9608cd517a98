"""Comparison of two networks on the same spectra by the gain in F1 and its standard error."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from underpaint.lab.training.batches import Batch, Batches
from underpaint.lab.training.library import Library
from underpaint.lab.training.module import log_odds
from underpaint.lab.training.settings import TrainSettings

_N_RESAMPLE = 400
_MIN_GAIN_SIGMAS = 2.0
"""Minimum significant gain, in standard errors."""


@dataclass(frozen=True)
class Answers:
    """Answers of a network for labelled spectra.

    Parameters
    ----------
    names : tuple of str
        Names of the columns.
    log_odds, labels, weight : (n, n_name) arrays
        Answers, true labels (0 or 1), and weights. Labels with a weight of 1 are scored.
    source : (n,) array
        Index of the stratigraphy of each spectrum.
    """

    names: tuple[str, ...]
    log_odds: NDArray[np.float32]
    labels: NDArray[np.float32]
    weight: NDArray[np.float32]
    source: NDArray[np.int64]

    def select_output_names(self, names: Sequence[str]) -> "Answers":
        """Return the answers for the given names, in the order of the names."""
        name_columns = [self.names.index(name) for name in names]
        selected_arrays = (self.log_odds[:, name_columns], self.labels[:, name_columns], self.weight[:, name_columns])
        return Answers(tuple(names), *selected_arrays, source=self.source)

    def loss(self) -> float:
        """Return the mean binary cross-entropy over the scored labels."""
        logits, labels, label_weights = (
            torch.from_numpy(answer_array) for answer_array in (self.log_odds, self.labels, self.weight)
        )
        loss_sum = binary_cross_entropy_with_logits(logits, labels, weight=label_weights, reduction="sum")
        return float(loss_sum / label_weights.sum().clamp_min(1.0))


@dataclass(frozen=True)
class Comparison:
    """Macro F1 of two networks on the same spectra.

    Parameters
    ----------
    before, after : float
        Mean F1, at a probability of 0.5, of the names that are present and visible in any spectrum.
    gain, standard_error : float
        ``after`` minus ``before``, and the standard deviation of this difference over resampled stratigraphies.
    n_spectra, n_name : int
        Numbers of spectra and of names.
    """

    before: float
    after: float
    gain: float
    standard_error: float
    n_spectra: int
    n_name: int

    @property
    def is_better(self) -> bool:
        """Whether the gain exceeds two standard errors."""
        return self.gain > _MIN_GAIN_SIGMAS * self.standard_error

    def as_dict(self) -> dict[str, Any]:
        """Return the scores for JSON."""
        return asdict(self)


def answers_of(
    network: nn.Module,
    names: tuple[str, ...],
    library: Library,
    settings: TrainSettings,
    conditions: NDArray[np.float32] | None = None,
) -> Answers:
    """Return the answers of a network for all spectra of a library. Each spectrum is drawn once at random.

    Parameters
    ----------
    network : Module
        Network of any kind, which is run in evaluation mode.
    names : tuple of str
        Outputs of the network.
    library : Library
        Library with labelled spectra. The names of the library must be among ``names``. Only answers for the names of
        the library are returned.
    settings : TrainSettings
        Range of counts, batch size and seed.
    conditions : (n_input,) array or None
        Instrument conditions, an input of networks that predict layers; None if unknown.
    """
    network.eval()
    logits, labels, label_weights = [], [], []
    name_columns = [names.index(name) for name in library.names]
    with torch.inference_mode():
        for batch in Batches(library, np.arange(len(library)), settings, shuffle=False):
            logits.append(
                log_odds(network, batch._replace(instrument=batch_conditions(batch, conditions)))[:, name_columns]
            )
            labels.append(batch.labels)
            label_weights.append(batch.weight)
    answers, true_labels, joined_weights = (
        torch.cat(batch_arrays).float().numpy() for batch_arrays in (logits, labels, label_weights)
    )
    return Answers(library.names, answers, true_labels, joined_weights, library.source)


def batch_conditions(batch: Batch, conditions: NDArray[np.float32] | None) -> Tensor:
    """Repeat instrument conditions for the n spectra of a batch, as an (n, n_input) tensor. Unknown ones are NaN."""
    if conditions is None:
        return torch.full_like(batch.instrument, torch.nan)
    return torch.from_numpy(conditions).expand(len(batch.counts), -1)[:, : batch.instrument.shape[1]]


def compare(answers_before: Answers, answers_after: Answers, *, seed: int = 0) -> Comparison:
    """Compare the answers of two networks for the same spectra.

    Parameters
    ----------
    answers_before, answers_after : Answers
        Answers of the two networks, with the same names and spectra.
    seed : int
        Seed of the resampling.

    Notes
    -----
    Stratigraphies are resampled instead of spectra, because spectra of one stratigraphy are correlated. Both networks
    are scored on the same resamples. Spectra that are difficult for both therefore add no noise to the difference.
    """
    unique_sources, source_index = np.unique(answers_before.source, return_inverse=True)
    rng = np.random.default_rng(seed)
    resample_weights = rng.multinomial(
        unique_sources.size, np.full(unique_sources.size, 1.0 / unique_sources.size), _N_RESAMPLE
    ).astype(np.float64)
    resample_weights = np.concatenate((np.ones((1, unique_sources.size)), resample_weights))
    is_scored_name = ((answers_before.labels > 0.5) & (answers_before.weight > 0)).any(axis=0)
    f1_before, f1_after = (
        _macro_f1(_sums_by_source(answers, source_index, unique_sources.size)[:, :, is_scored_name], resample_weights)
        for answers in (answers_before, answers_after)
    )
    gain = f1_after - f1_before
    return Comparison(
        before=float(f1_before[0]),
        after=float(f1_after[0]),
        gain=float(gain[0]),
        standard_error=float(gain[1:].std(ddof=1)),
        n_spectra=len(answers_before.source),
        n_name=int(is_scored_name.sum()),
    )


def _sums_by_source(answers: Answers, source_index: NDArray[np.int64], n_source: int) -> NDArray[np.float64]:
    """Return the numerator and denominator of F1 for each stratigraphy and name.

    The numerator is the number of true positives. The denominator is half the number of claims and positive labels.
    """
    is_scored = answers.weight > 0
    is_claimed, is_positive = (answers.log_odds > 0) & is_scored, (answers.labels > 0.5) & is_scored
    f1_sums = np.zeros((2, n_source, len(answers.names)))
    np.add.at(f1_sums[0], source_index, is_claimed & is_positive)
    np.add.at(f1_sums[1], source_index, 0.5 * (is_claimed.astype(np.float64) + is_positive))
    return f1_sums


def _macro_f1(f1_sums: NDArray[np.float64], resample_weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (n_resample,) macro F1, averaged over the names that are claimed or present."""
    n_true_positive, f1_denominator = resample_weights @ f1_sums[0], resample_weights @ f1_sums[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        f1_by_name = np.where(f1_denominator > 0, n_true_positive / f1_denominator, np.nan)
    return np.asarray(np.nanmean(f1_by_name, axis=1), dtype=np.float64)
