"""Split of stratigraphies into training, validation and test set."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import TrainingError
from underpaint.lab.training.settings import TrainSettings


@dataclass(frozen=True)
class Split:
    """Rows of a library: (n,) index arrays that share no stratigraphy."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def split_by_settings(source: NDArray[np.int64], settings: TrainSettings) -> Split:
    """Split by the seed, shares and fold of a training; otherwise as :func:`split_by_source`."""
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
    """Split the rows of a library so that no stratigraphy is in two sets.

    Parameters
    ----------
    source : (n,) array
        Index of each row's stratigraphy.
    seed : int
        Seed of the split; the test set does not depend on the fold.
    validation_share, test_share : float
        Share of the stratigraphies for the test, and of the rest for validation.
    fold : int
        Which share of the rest is the validation set.

    Raises
    ------
    TrainingError
        There are too few stratigraphies for the shares.
    """
    order = np.random.default_rng(seed).permutation(np.unique(source))
    n_test = round(test_share * order.size)
    rest = order[n_test:]
    n_validation = max(1, round(validation_share * rest.size))
    if n_validation >= rest.size:
        raise TrainingError(
            f"Cannot split {order.size} stratigraphies into training, validation ({validation_share:g}) "
            f"and test ({test_share:g}): none is left to train on. Use a larger library or smaller shares."
        )
    first = min(fold * n_validation, rest.size - n_validation)
    validation = rest[first : first + n_validation]
    return Split(
        train=np.flatnonzero(~np.isin(source, order[:n_test]) & ~np.isin(source, validation)),
        validation=np.flatnonzero(np.isin(source, validation)),
        test=np.flatnonzero(np.isin(source, order[:n_test])),
    )
