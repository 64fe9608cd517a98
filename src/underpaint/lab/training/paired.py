"""Comparison of two networks on the same spectra: the gain and its standard error."""

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

_RESAMPLES = 400
_NOISE = 2.0
"""Standard errors that a significant difference exceeds."""


@dataclass(frozen=True)
class Answers:
    """Log-odds of some spectra with their labels.

    Parameters
    ----------
    names : tuple of str
        Of the columns.
    log_odds, labels, weight : (n, n_name) arrays
        Answers, truth (0 or 1), and 1 where a label counts at the spectrum's counts.
    source : (n,) array
        The stratigraphy of each spectrum.
    """

    names: tuple[str, ...]
    log_odds: NDArray[np.float32]
    labels: NDArray[np.float32]
    weight: NDArray[np.float32]
    source: NDArray[np.int64]

    def only(self, names: Sequence[str]) -> "Answers":
        """Return the columns of ``names``, in their order."""
        columns = [self.names.index(name) for name in names]
        parts = (self.log_odds[:, columns], self.labels[:, columns], self.weight[:, columns])
        return Answers(tuple(names), *parts, source=self.source)

    def loss(self) -> float:
        """Return the mean binary cross-entropy over the labels that count."""
        logits, labels, weight = (torch.from_numpy(each) for each in (self.log_odds, self.labels, self.weight))
        total = binary_cross_entropy_with_logits(logits, labels, weight=weight, reduction="sum")
        return float(total / weight.sum().clamp_min(1.0))


@dataclass(frozen=True)
class Comparison:
    """Macro F1 of two networks on the same counts.

    Parameters
    ----------
    before, after : float
        Mean F1 of the names present and visible in any spectrum, at probability 0.5.
    gain, standard_error : float
        After less before, and its standard deviation over resampled stratigraphies.
    n_spectra, n_name : int
        Sizes of the comparison.
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
        return self.gain > _NOISE * self.standard_error

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        return asdict(self)


def answers_of(
    network: nn.Module,
    names: tuple[str, ...],
    library: Library,
    settings: TrainSettings,
    conditions: NDArray[np.float32] | None = None,
) -> Answers:
    """Run a network on all spectra of a library, each with one draw of counts that depends on the seed alone.

    Parameters
    ----------
    network : Module
        Of any kind; run in evaluation mode.
    names : tuple of str
        What it answers.
    library : Library
        Its labels may be any of ``names``; only these are returned.
    settings : TrainSettings
        Counts, batch and seed.
    conditions : (n_input,) array or None
        Instrument conditions for networks of layers; None: unknown.
    """
    network.eval()
    logits, labels, weight = [], [], []
    columns = [names.index(name) for name in library.names]
    with torch.inference_mode():
        for batch in Batches(library, np.arange(len(library)), settings, shuffle=False):
            logits.append(log_odds(network, batch._replace(instrument=instrument_of(batch, conditions)))[:, columns])
            labels.append(batch.labels)
            weight.append(batch.weight)
    answers, truth, counts = (torch.cat(each).float().numpy() for each in (logits, labels, weight))
    return Answers(library.names, answers, truth, counts, library.source)


def instrument_of(batch: Batch, conditions: NDArray[np.float32] | None) -> Tensor:
    """Return (n, n_input) instrument conditions of a batch: the same for all spectra, or NaN."""
    if conditions is None:
        return torch.full_like(batch.instrument, torch.nan)
    return torch.from_numpy(conditions).expand(len(batch.counts), -1)[:, : batch.instrument.shape[1]]


def compare(before: Answers, after: Answers, *, seed: int = 0) -> Comparison:
    """Compare two networks' answers about the same counts.

    Parameters
    ----------
    before, after : Answers
        Of the same names, spectra and counts.
    seed : int
        Of the resampling.

    Notes
    -----
    Stratigraphies are resampled, not spectra: those of one stratigraphy are alike. Both networks are scored on the
    same resamples, so what is hard for both adds no noise to the difference.
    """
    source, place = np.unique(before.source, return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(source.size, np.full(source.size, 1.0 / source.size), _RESAMPLES).astype(np.float64)
    drawn = np.concatenate((np.ones((1, source.size)), drawn))
    present = ((before.labels > 0.5) & (before.weight > 0)).any(axis=0)
    f1_before, f1_after = (
        _macro_f1(_counts(each, place, source.size)[:, :, present], drawn) for each in (before, after)
    )
    gain = f1_after - f1_before
    return Comparison(
        before=float(f1_before[0]),
        after=float(f1_after[0]),
        gain=float(gain[0]),
        standard_error=float(gain[1:].std(ddof=1)),
        n_spectra=len(before.source),
        n_name=int(present.sum()),
    )


def _counts(answers: Answers, place: NDArray[np.int64], n_source: int) -> NDArray[np.float64]:
    """Return (2, n_source, n_name): hits, and half of the claims and present labels, by stratigraphy."""
    counts = answers.weight > 0
    claimed, true = (answers.log_odds > 0) & counts, (answers.labels > 0.5) & counts
    sums = np.zeros((2, n_source, len(answers.names)))
    np.add.at(sums[0], place, claimed & true)
    np.add.at(sums[1], place, 0.5 * (claimed.astype(np.float64) + true))
    return sums


def _macro_f1(counts: NDArray[np.float64], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n_resample,) F1, the mean of the names that are claimed or present."""
    hits, either = drawn @ counts[0], drawn @ counts[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        each = np.where(either > 0, hits / either, np.nan)
    return np.asarray(np.nanmean(each, axis=1), dtype=np.float64)
