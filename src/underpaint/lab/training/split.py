"""Splits of a library by stratigraphy into training, validation and test set."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import TrainingError
from underpaint.lab.training.settings import TrainSettings


@dataclass(frozen=True)
class Split:
    """Row indices of the training, validation and test set. Each stratigraphy is in only one set."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def split_by_settings(source: NDArray[np.int64], settings: TrainSettings) -> Split:
    """Split rows by stratigraphy, with the seed, fractions and fold of the settings."""
    return split_by_source(
        source,
        seed=settings.seed,
        validation_share=settings.validation_share,
        test_share=settings.test_share,
        fold=settings.fold or 0,
    )


def split_by_source(
    source: NDArray[np.int64], *, seed: int, validation_share: float, test_share: float, fold: int = 0
) -> Split:
    """Split the rows of a library so that each stratigraphy is in only one set.

    Parameters
    ----------
    source : (n,) array
        Index of the stratigraphy of each row.
    seed : int
        Seed of the split. The test set does not depend on the fold.
    validation_share, test_share : float
        The test set has a fraction ``test_share`` of the stratigraphies. The validation set has a fraction
        ``validation_share`` of all other stratigraphies.
    fold : int
        Index of the fold that is the validation set.

    Raises
    ------
    TrainingError
        There are too few stratigraphies for the fractions.
    """
    shuffled_sources = np.random.default_rng(seed).permutation(np.unique(source))
    n_test = round(test_share * shuffled_sources.size)
    remaining_sources = shuffled_sources[n_test:]
    n_validation = max(1, round(validation_share * remaining_sources.size))
    if n_validation >= remaining_sources.size:
        raise TrainingError(
            f"Cannot split {shuffled_sources.size} stratigraphies into training, validation ({validation_share:g}) "
            f"and test ({test_share:g}): none remains for training. Use a larger library or smaller shares."
        )
    first_validation_index = min(fold * n_validation, remaining_sources.size - n_validation)
    validation_sources = remaining_sources[first_validation_index : first_validation_index + n_validation]
    return Split(
        train=np.flatnonzero(~np.isin(source, shuffled_sources[:n_test]) & ~np.isin(source, validation_sources)),
        validation=np.flatnonzero(np.isin(source, validation_sources)),
        test=np.flatnonzero(np.isin(source, shuffled_sources[:n_test])),
    )
