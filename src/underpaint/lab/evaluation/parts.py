"""Splits of the mock-up spectra into fine-tuning and test set: the paper's, and others with held-out structures."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.simulate.mockups import Mockups

USED_SHARE = 0.2
"""Share of all spectra used for fine-tuning, as in the paper, whatever is held out."""
N_THICKNESS = 3
LEAST_SHARE = 0.1
"""Least share of all spectra in each third of the thickness."""


@dataclass(frozen=True)
class Part:
    """Rows to fine-tune on, and rows to test on: (n,) index arrays."""

    name: str
    used: NDArray[np.int64]
    tested: NDArray[np.int64]


def random_pixels(n_spectra: int, seed: int, folds: int) -> list[Part]:
    """Return the paper's parts: a random fifth of the spectra is used, the others are the test."""
    parts = []
    for fold in range(folds):
        order = np.random.default_rng(seed + fold).permutation(n_spectra)
        n_used = round(USED_SHARE * n_spectra)
        parts.append(Part(f"random {fold}", np.sort(order[:n_used]), np.sort(order[n_used:])))
    return parts


def held_out(groups: Mapping[str, NDArray[np.bool_]], seed: int) -> list[Part]:
    """Return a part for each group of spectra: it is the test, and the paper's fifth is drawn from the others."""
    parts = []
    for number, (name, tested) in enumerate(groups.items()):
        rest = np.flatnonzero(~tested)
        n_used = min(max(round(USED_SHARE * tested.size), 10), rest.size)
        used = np.random.default_rng((seed, number)).choice(rest, size=n_used, replace=False)
        parts.append(Part(name, np.sort(used), np.flatnonzero(tested)))
    return parts


def families(mockups: Mockups) -> dict[str, NDArray[np.bool_]]:
    """Return which spectra belong to each top and each family of bottoms (1 to 6)."""
    groups = {str(top): mockups.top == top for top in np.unique(mockups.top)}
    numbers = np.asarray([_family(name) for name in mockups.bottom])
    return groups | {str(number): numbers == number for number in np.unique(numbers) if number}


def thicknesses(mockups: Mockups) -> dict[str, NDArray[np.bool_]]:
    """Return which spectra belong to each third of the thickness of the top.

    Empty where a thickness is unknown, or where a third holds less than ``LEAST_SHARE`` of the spectra.
    """
    if np.isnan(mockups.top_um).any():
        return {}
    borders = np.quantile(mockups.top_um, np.linspace(0.0, 1.0, N_THICKNESS + 1)[1:-1])
    third = np.digitize(mockups.top_um, borders)
    if np.bincount(third, minlength=N_THICKNESS).min() < LEAST_SHARE * third.size:
        return {}
    return {
        f"{mockups.top_um[third == each].min():.0f}-{mockups.top_um[third == each].max():.0f} um": third == each
        for each in np.unique(third)
    }


def _family(bottom: str) -> str:
    """Return the family of a bottom and its variants: ``Bottom 2B`` belongs to ``Bottom 2``."""
    return bottom[:-1] if bottom[-1:].isalpha() and bottom[-2:-1].isdigit() else bottom
