"""Which line families lie under one another's strongest line, and how they interfere there."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import Results
from underpaint.physics.atomic import family_lines

_ERROR, _NEAR_KEV, _LEAST_SHARE = 0.1, 0.15, 0.02
"""Error of another family's lines so near to this one's strongest, over their net counts; fainter ones are left out."""


@lru_cache(maxsize=1024)
def overlaps(family: str, others: tuple[str, ...]) -> tuple[tuple[int, float], ...]:
    """Return which of some line families interfere with one, and by how many of its counts for one of theirs.

    A tenth of the counts that they have under its strongest line: layers above change the ratios of their lines, and
    the fit, which takes one ratio for the whole scan, then finds arsenic beside lead, or bromine beside mercury.

    Parameters
    ----------
    family : str
        ``As_K``.
    others : tuple of str
        Families fitted with it; itself may be among them.

    Returns
    -------
    tuple of (int, float)
        Index in ``others``, and one standard deviation over the net counts of that family.
    """
    energy, share = _lines(family)
    strongest = energy[share.argmax()]
    found = []
    for index, other in enumerate(others):
        beside, shares = _lines(other)
        near = float(shares[np.abs(beside - strongest) < _NEAR_KEV].sum())
        if other != family and near > _LEAST_SHARE:
            found.append((index, _ERROR * near))
    return tuple(found)


def deviation(results: Results, family: str) -> NDArray[np.float64]:
    """Return (n_row, n_column) one standard deviation, counts: of counting, and of interference by others."""
    counting = results.map("area_sigma", family).astype(np.float64)
    lines = results.lines
    return np.hypot(counting, interference_sigma(family, lines, lambda other: results[lines[other]]))


def interference_sigma(family: str, others: tuple[str, ...], counts_of: Callable[[int], Any]) -> NDArray[np.float64]:
    """Return one standard deviation of a family's counts for interference by neighbouring lines.

    Parameters
    ----------
    family, others
        As of :func:`overlaps`.
    counts_of : callable
        Returns the net counts, numbers or maps of them, of the family with an index; asked only of those that overlap.

    Returns
    -------
    array
        Counts, as many as ``counts_of`` returns; 0 where nothing overlaps.
    """
    variance = np.zeros(())
    for other, share in overlaps(family, others):
        variance = variance + (share * np.maximum(counts_of(other), 0.0)) ** 2
    return np.asarray(np.sqrt(variance), dtype=np.float64)


@lru_cache(maxsize=256)
def _lines(family: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return energies, keV, and shares of a family's lines."""
    element, _, shell = family.partition("_")
    energy, rate = family_lines(element, shell)
    return energy, rate / rate.sum()
