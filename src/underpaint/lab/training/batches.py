"""Batches straight from memory, with fresh Poisson noise at every step."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from underpaint.data.maps import at_place, material_of, split_place
from underpaint.lab.training.library import Library
from underpaint.lab.training.settings import TrainSettings

_GAUSS_FROM_COUNTS = 30.0
_SILENT_CHANCE, _GAP_CHANCE = 0.25, 0.1
"""Probability that all instrument conditions are left out, and that a single one is."""


class Batch(NamedTuple):
    """Tensors of one step: inputs of the network, then labels with weight 1 where they count in the loss.

    ``instrument`` (n, n_input) is NaN where unknown; ``quantity`` (n, n_quantity) is NaN where there is nothing
    to answer at these counts. Both have no columns where the library has none. ``excess`` (n, n_name) is, for visible
    groups, the logarithm of the counts over those needed to see them; NaN elsewhere. ``amount`` (n, n_amount) is the
    class of each amount, and has no columns where the library has none.
    """

    counts: Tensor
    recorded: Tensor
    labels: Tensor
    weight: Tensor
    instrument: Tensor
    quantity: Tensor
    excess: Tensor | None = None
    amount: Tensor | None = None


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
    The random numbers depend on the seed and the epoch alone, so a resumed run draws the same as an unbroken one.
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
            selected = rows[step * self.settings.batch : (step + 1) * self.settings.batch]
            yield make_batch(self.library, selected, self.settings, rng)


def make_batch(library: Library, rows: NDArray[np.int64], settings: TrainSettings, rng: np.random.Generator) -> Batch:
    """Draw the counts of some rows and mask the labels that these counts cannot show.

    A present label without visible lines counts neither for nor against; where labels are those of visible lines, one
    that is far too weak is absent.
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
    # The paper trains on every label, visible or not.
    visible = settings.paper_protocol or library.counts_needed[rows] <= total[:, None]
    if library.hidden is not None:
        hidden = present & (library.hidden[rows] >= total[:, None])
        present, labels = present & ~hidden, np.where(hidden, 0, labels)
    weight = (labels == 0) | (present & visible)
    arrays = (
        counts,
        library.recorded[rows],
        present.astype(np.float32),
        weight.astype(np.float32),
        _instrument_inputs(library, rows, rng),
        _quantities(library, rows, present & visible),
        _excess(library, rows, total, present & visible),
        np.empty((rows.size, 0), dtype=np.uint8) if library.amount is None else library.amount[rows],
    )
    return Batch(*(torch.from_numpy(each) for each in arrays))


def _instrument_inputs(library: Library, rows: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return instrument conditions for the network: all, none, or with random gaps."""
    if library.instrument is None:
        return np.empty((rows.size, 0), dtype=np.float32)
    values = library.instrument[rows].copy()
    gap = rng.random((rows.size, len(library.instrument_inputs))) < _GAP_CHANCE
    of_anode = [index for index, name in enumerate(library.instrument_inputs) if name.startswith("anode_")]
    gap[:, of_anode] = gap[:, of_anode[:1]]  # the anode is known or it is not
    gap |= rng.random((rows.size, 1)) < _SILENT_CHANCE
    values[gap] = np.nan
    return values


def _quantities(library: Library, rows: NDArray[np.int64], weight: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the quantities to answer: mass shares of the visible materials at the surface, and its thickness."""
    if library.quantities is None:
        return np.empty((rows.size, 0), dtype=np.float32)
    values = library.quantities[rows].copy()
    for column, name in enumerate(library.quantity_names):
        material = material_of(name)
        if material is not None:
            values[~weight[:, library.names.index(at_place(material, "surface"))], column] = np.nan
    return values


def _excess(
    library: Library, rows: NDArray[np.int64], total: NDArray[np.float32], visible: NDArray[np.bool_]
) -> NDArray[np.float32]:
    groups = np.array([kind == "group" for kind in library.kinds], dtype=bool)
    anywhere = np.array([split_place(name)[1] == "anywhere" for name in library.names], dtype=bool)
    scored = visible & groups & anywhere & (library.counts_needed[rows] > 0)
    needed = np.where(scored, library.counts_needed[rows], np.nan)
    return np.log(total[:, None] / needed).astype(np.float32)


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
