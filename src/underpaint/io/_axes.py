"""Which dimension of an array holds the channels, where the file does not say."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import ScanError


def channel_dimension(
    shape: tuple[int, ...], lengths: tuple[int, ...], plane: Callable[[int], NDArray[Any]]
) -> tuple[int, str]:
    """Return the dimension of the channels of (row, column, channel) counts in any order, and a note or "".

    Parameters
    ----------
    shape : tuple of int
        Of the array.
    lengths : tuple of int
        Numbers of energies or channels that are listed beside the array.
    plane : callable
        Returns the array at an index of its first dimension, for looking at a few.

    Notes
    -----
    The dimension of listed energies, if just one has this length, else the longest. Where the last dimension is shorter
    than another one, the values decide between the two, if they can: counts differ much more between channels than
    between rows or columns.
    """
    fitting = [number for number, size in enumerate(shape) if size in lengths]
    if len(fitting) == 1:
        return fitting[0], ""
    last = len(shape) - 1
    longest = max(range(len(shape)), key=lambda number: (shape[number], number))
    if longest == last or shape[longest] == shape[last]:
        return last, ""
    chosen, why = longest, "the longest one"
    if longest > 0:
        spread = {number: _spread(shape, number, plane) for number in (longest, last)}
        if max(spread.values()) > 1.5 * min(spread.values()):
            chosen, why = max(spread, key=lambda number: spread[number]), "its counts differ most"
    size = " x ".join(map(str, shape))
    return chosen, f"of {size} numbers the dimension {chosen + 1}, of {shape[chosen]}, is read as the channels: {why}"


def _spread(shape: tuple[int, ...], number: int, plane: Callable[[int], NDArray[Any]]) -> float:
    """Standard deviation over mean of the counts along a dimension, summed over the others in some planes."""
    try:
        planes = [plane(int(index)) for index in np.unique(np.linspace(0, shape[0] - 1, 3).round())]
    except ScanError:
        return 0.0
    others = tuple(own for own in range(len(shape) - 1) if own != number - 1)
    profile = np.nan_to_num(np.sum(planes, axis=0, dtype=np.float64)).sum(axis=others)
    mean = float(profile.mean())
    return float(profile.std()) / mean if mean > 0 else 0.0
