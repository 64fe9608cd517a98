"""Batches straight from memory, with fresh Poisson noise at every step."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from underpaint.train.library import Library
from underpaint.train.settings import TrainSettings

_GAUSS_FROM_COUNTS = 30.0


class Batch(NamedTuple):
    """Tensors of one step: counts, recorded range, labels, and 1 where a label counts in the loss."""

    counts: Tensor
    recorded: Tensor
    labels: Tensor
    weight: Tensor


class Batches:
    """All rows of a split once per epoch.

    Parameters
    ----------
    library : Library
        Spectra in memory.
    rows : (n,) array
        Rows to use.
    settings : TrainSettings
        Batch size, counts and seed.
    shuffle : bool
        True for training: new order, noise and counts at every epoch. False repeats the same ones.

    Notes
    -----
    The random numbers depend on the seed and the epoch alone, so a resumed run sees what the unbroken one would.
    """

    def __init__(self, library: Library, rows: NDArray[np.int64], settings: TrainSettings, *, shuffle: bool) -> None:
        self.library, self.rows, self.settings, self.shuffle = library, rows, settings, shuffle
        self.epoch = 0

    def __len__(self) -> int:
        """Return the number of batches; a training step of a single spectrum is left out."""
        n_full, rest = divmod(self.rows.size, self.settings.batch)
        return max(1, n_full + (rest > 1 if self.shuffle else rest > 0))

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the batches of the epoch."""
        rng = np.random.default_rng((self.settings.seed, 1 + self.epoch if self.shuffle else 0))
        rows = rng.permutation(self.rows) if self.shuffle else self.rows
        for step in range(len(self)):
            own = rows[step * self.settings.batch : (step + 1) * self.settings.batch]
            yield make_batch(self.library, own, self.settings, rng)


def make_batch(library: Library, rows: NDArray[np.int64], settings: TrainSettings, rng: np.random.Generator) -> Batch:
    """Draw the counts of some rows and mask the labels that these counts cannot show.

    A present label that is too weak to be seen counts neither for nor against.
    """
    spectra = library.spectra[rows].astype(np.float32)
    labels = library.labels[rows]
    if library.counted:
        counts, total = spectra, spectra.sum(axis=1)
    elif settings.paper_protocol:
        counts, total = _noise_free(library, rows, spectra, settings)
    else:
        total = _log_uniform(rng, settings.counts_min, settings.counts_max, rows.size)
        counts = poisson(spectra * (total / spectra.sum(axis=1))[:, None], rng)
    present = labels == 1
    # The paper trains on every label, seen or not.
    visible = settings.paper_protocol or library.counts_needed[rows] <= total[:, None]
    weight = (labels == 0) | (present & visible)
    return Batch(
        torch.from_numpy(counts),
        torch.from_numpy(library.recorded[rows]),
        torch.from_numpy(present.astype(np.float32)),
        torch.from_numpy(weight.astype(np.float32)),
    )


def poisson(expected: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw counts; above thirty a rounded normal stands in for the Poisson distribution, which is several times faster.

    Parameters
    ----------
    expected : (...) array
        Expected counts, not negative.
    rng : Generator
        Source of the random numbers.

    Returns
    -------
    (...) float32 array
        Whole numbers. Mean and variance are exact to 1 %; the skewness of the strong channels (under 0.19) is left out.
    """
    counts = rng.standard_normal(expected.shape, dtype=np.float32)
    counts *= np.sqrt(expected)
    counts += expected
    np.rint(counts, out=counts)
    weak = expected < _GAUSS_FROM_COUNTS
    counts[weak] = rng.poisson(expected[weak])
    return counts


def _noise_free(
    library: Library, rows: NDArray[np.int64], spectra: NDArray[np.float32], settings: TrainSettings
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    given = library.total_counts
    total = np.full(rows.size, settings.counts_scale, dtype=np.float32) if given is None else given[rows]
    return spectra * (total / spectra.sum(axis=1))[:, None], total


def _log_uniform(rng: np.random.Generator, low: float, high: float, size: int) -> NDArray[np.float32]:
    return np.exp(rng.uniform(np.log(low), np.log(high), size)).astype(np.float32)
