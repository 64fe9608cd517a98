"""Splits of the mock-up spectra into fine-tuning and test sets, at random as in the paper or by structure."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.simulate.mockups import Mockups

FINETUNE_FRACTION = 0.2
"""Fraction of all spectra used for fine-tuning, as in the paper, whatever the size of the test set."""
N_THICKNESS_CLASS = 3
MIN_THIRD_FRACTION = 0.1
"""Minimum fraction of all spectra in each third of the thickness range."""


@dataclass(frozen=True)
class Split:
    """Index arrays of the rows for fine-tuning and of the rows for testing."""

    name: str
    finetune_rows: NDArray[np.int64]
    test_rows: NDArray[np.int64]


def random_splits(n_spectra: int, seed: int, folds: int) -> list[Split]:
    """Return splits as in the paper, with a random fifth of the spectra for fine-tuning and the others for testing."""
    splits = []
    for fold in range(folds):
        shuffled_rows = np.random.default_rng(seed + fold).permutation(n_spectra)
        n_finetune = round(FINETUNE_FRACTION * n_spectra)
        splits.append(Split(f"random {fold}", np.sort(shuffled_rows[:n_finetune]), np.sort(shuffled_rows[n_finetune:])))
    return splits


def splits_by_group(groups: Mapping[str, NDArray[np.bool_]], seed: int) -> list[Split]:
    """Return one split for each group of spectra. The test set of a split is its group.

    The fine-tuning set is ``FINETUNE_FRACTION`` of all spectra, drawn at random from the other groups.
    """
    splits = []
    for group_number, (group_name, is_test) in enumerate(groups.items()):
        training_rows = np.flatnonzero(~is_test)
        n_finetune = min(max(round(FINETUNE_FRACTION * is_test.size), 10), training_rows.size)
        finetune_rows = np.random.default_rng((seed, group_number)).choice(
            training_rows, size=n_finetune, replace=False
        )
        splits.append(Split(group_name, np.sort(finetune_rows), np.flatnonzero(is_test)))
    return splits


def structure_families(mockups: Mockups) -> dict[str, NDArray[np.bool_]]:
    """Return a mask of spectra for each top paint and each family of bottom paints (1 to 6), by name."""
    groups = {str(top_name): mockups.top == top_name for top_name in np.unique(mockups.top)}
    bottom_family = np.asarray([_bottom_family(name) for name in mockups.bottom])
    return groups | {
        str(family_name): bottom_family == family_name for family_name in np.unique(bottom_family) if family_name
    }


def thickness_thirds(mockups: Mockups) -> dict[str, NDArray[np.bool_]]:
    """Return masks of the spectra with thin, medium and thick top layers, each about a third of the spectra.

    The result is empty if a thickness is unknown, or if a mask selects less than ``MIN_THIRD_FRACTION`` of the spectra.
    """
    if np.isnan(mockups.top_um).any():
        return {}
    thickness_limits_um = np.quantile(mockups.top_um, np.linspace(0.0, 1.0, N_THICKNESS_CLASS + 1)[1:-1])
    thickness_third = np.digitize(mockups.top_um, thickness_limits_um)
    if np.bincount(thickness_third, minlength=N_THICKNESS_CLASS).min() < MIN_THIRD_FRACTION * thickness_third.size:
        return {}
    masks_by_third = [thickness_third == third_number for third_number in np.unique(thickness_third)]
    return {
        f"{mockups.top_um[third_mask].min():.0f}-{mockups.top_um[third_mask].max():.0f} um": third_mask
        for third_mask in masks_by_third
    }


def _bottom_family(bottom_name: str) -> str:
    """Return the family of a bottom paint, for example ``Bottom 2`` for its variant ``Bottom 2B``."""
    return bottom_name[:-1] if bottom_name[-1:].isalpha() and bottom_name[-2:-1].isdigit() else bottom_name
