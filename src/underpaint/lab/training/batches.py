"""Batches of spectra from a library in memory, with new Poisson noise in every epoch."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from underpaint.data.maps import at_place, material_of, split_place
from underpaint.lab.training.library import Library
from underpaint.lab.training.settings import TrainSettings

_MIN_NORMAL_COUNTS = 30.0
"""Expected counts above which a normal distribution replaces the Poisson distribution."""
_ALL_UNKNOWN_PROBABILITY, _UNKNOWN_PROBABILITY = 0.25, 0.1
"""Probability that all instrument conditions of a spectrum become NaN, and probability that one condition does."""


class Batch(NamedTuple):
    """Input and label tensors of one training step.

    ``weight`` (n, n_name) is 1 for labels in the loss, else 0. ``instrument`` (n, n_input) is NaN for unknown
    conditions. ``quantity`` (n, n_quantity) is NaN for undefined quantities and for materials that are not visible.
    ``log_counts_over_needed`` (n, n_name) is the logarithm of total counts divided by counts needed. It is NaN for
    groups that are not visible. ``amount`` (n, n_amount) is the class of each amount. ``instrument``, ``quantity`` and
    ``amount`` have no columns if the library does not contain them.
    """

    counts: Tensor
    recorded_kev: Tensor
    labels: Tensor
    weight: Tensor
    instrument: Tensor
    quantity: Tensor
    log_counts_over_needed: Tensor | None = None
    amount: Tensor | None = None


class Batches:
    """Batches of all given rows of a library, once per epoch.

    Parameters
    ----------
    library : Library
        Spectra in memory.
    rows : (n,) array
        Rows to use.
    settings : TrainSettings
        Batch size, range of counts, and seed.
    shuffle : bool
        True for training. The order, noise and counts of spectra change between epochs only if ``shuffle`` is True.

    Notes
    -----
    Random numbers depend only on seed and epoch. A resumed run therefore has the same random numbers as an
    uninterrupted run.
    """

    def __init__(self, library: Library, rows: NDArray[np.int64], settings: TrainSettings, *, shuffle: bool) -> None:
        self.library, self.rows, self.settings, self.shuffle = library, rows, settings, shuffle
        self.epoch = 0

    def __len__(self) -> int:
        """Return the number of batches in an epoch. A last training batch with a single spectrum is left out."""
        n_full_batch, n_remaining_row = divmod(self.rows.size, self.settings.batch)
        return max(1, n_full_batch + (n_remaining_row > 1 if self.shuffle else n_remaining_row > 0))

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the batches of the current epoch."""
        rng = np.random.default_rng((self.settings.seed, 1 + self.epoch if self.shuffle else 0))
        rows = rng.permutation(self.rows) if self.shuffle else self.rows
        for batch_number in range(len(self)):
            batch_rows = rows[batch_number * self.settings.batch : (batch_number + 1) * self.settings.batch]
            yield make_batch(self.library, batch_rows, self.settings, rng)


def make_batch(library: Library, rows: NDArray[np.int64], settings: TrainSettings, rng: np.random.Generator) -> Batch:
    """Draw counts for the given rows, and mask present labels that are not visible at these counts.

    For networks that predict visible lines, a present label far below the limit of detection counts as absent.
    """
    spectra = library.spectra[rows].astype(np.float32)
    labels = library.labels[rows]
    if library.has_noise:
        counts, total_counts = spectra, spectra.sum(axis=1)
    elif settings.follows_paper_protocol:
        counts, total_counts = _noise_free_counts(library, rows, spectra, settings)
    else:
        total_counts = _draw_log_uniform(rng, settings.counts_min, settings.counts_max, rows.size)
        counts = draw_poisson(spectra * (total_counts / spectra.sum(axis=1))[:, None], rng)
    is_present = labels == 1
    # the paper also trains on labels that are not visible
    is_visible = settings.follows_paper_protocol or library.counts_needed[rows] <= total_counts[:, None]
    if library.max_absent_counts is not None:
        is_far_below_limit = is_present & (library.max_absent_counts[rows] >= total_counts[:, None])
        is_present, labels = is_present & ~is_far_below_limit, np.where(is_far_below_limit, 0, labels)
    label_weight = (labels == 0) | (is_present & is_visible)
    batch_arrays = (
        counts,
        library.recorded[rows],
        is_present.astype(np.float32),
        label_weight.astype(np.float32),
        _instrument_inputs(library, rows, rng),
        _surface_quantities(library, rows, is_present & is_visible),
        _log_counts_over_needed(library, rows, total_counts, is_present & is_visible),
        np.empty((rows.size, 0), dtype=np.uint8) if library.amount is None else library.amount[rows],
    )
    return Batch(*(torch.from_numpy(batch_array) for batch_array in batch_arrays))


def _instrument_inputs(library: Library, rows: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the instrument conditions, with all or single conditions of random spectra set to NaN."""
    if library.instrument is None:
        return np.empty((rows.size, 0), dtype=np.float32)
    conditions = library.instrument[rows].copy()
    is_unknown = rng.random((rows.size, len(library.instrument_inputs))) < _UNKNOWN_PROBABILITY
    anode_columns = [
        input_column for input_column, name in enumerate(library.instrument_inputs) if name.startswith("anode_")
    ]
    is_unknown[:, anode_columns] = is_unknown[
        :, anode_columns[:1]
    ]  # all columns of the anode are known, or all are unknown
    is_unknown |= rng.random((rows.size, 1)) < _ALL_UNKNOWN_PROBABILITY
    conditions[is_unknown] = np.nan
    return conditions


def _surface_quantities(
    library: Library, rows: NDArray[np.int64], is_visible: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return thickness and mass fractions of the surface layer, with NaN for materials that are not visible."""
    if library.quantities is None:
        return np.empty((rows.size, 0), dtype=np.float32)
    quantities = library.quantities[rows].copy()
    for quantity_column, name in enumerate(library.quantity_names):
        material = material_of(name)
        if material is not None:
            quantities[~is_visible[:, library.names.index(at_place(material, "surface"))], quantity_column] = np.nan
    return quantities


def _log_counts_over_needed(
    library: Library, rows: NDArray[np.int64], total_counts: NDArray[np.float32], is_visible: NDArray[np.bool_]
) -> NDArray[np.float32]:
    is_group = np.array([output_kind == "group" for output_kind in library.kinds], dtype=bool)
    has_no_place = np.array([split_place(name)[1] == "anywhere" for name in library.names], dtype=bool)
    is_scored = is_visible & is_group & has_no_place & (library.counts_needed[rows] > 0)
    counts_needed = np.where(is_scored, library.counts_needed[rows], np.nan)
    return np.log(total_counts[:, None] / counts_needed).astype(np.float32)


def draw_poisson(expected_counts: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw Poisson counts. For speed, a rounded normal distribution is used above 30 expected counts.

    Parameters
    ----------
    expected_counts : (...) array
        Expected counts, which must not be negative.
    rng : Generator
        Random number generator.

    Returns
    -------
    (...) float32 array
        Integers. Mean and variance are accurate to 1 %. Above 30 expected counts, the skewness is neglected.
    """
    counts = rng.standard_normal(expected_counts.shape, dtype=np.float32)
    counts *= np.sqrt(expected_counts)
    counts += expected_counts
    np.rint(counts, out=counts)
    has_few_counts = expected_counts < _MIN_NORMAL_COUNTS
    counts[has_few_counts] = rng.poisson(expected_counts[has_few_counts])
    return counts


def _noise_free_counts(
    library: Library, rows: NDArray[np.int64], spectra: NDArray[np.float32], settings: TrainSettings
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    library_counts = library.total_counts
    total_counts = (
        np.full(rows.size, settings.counts_scale, dtype=np.float32) if library_counts is None else library_counts[rows]
    )
    return spectra * (total_counts / spectra.sum(axis=1))[:, None], total_counts


def _draw_log_uniform(
    rng: np.random.Generator, min_value: float, max_value: float, n_drawn_value: int
) -> NDArray[np.float32]:
    return np.exp(rng.uniform(np.log(min_value), np.log(max_value), n_drawn_value)).astype(np.float32)
