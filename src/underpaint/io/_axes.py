"""Dimension of the channels of an array, if the file does not state it."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

ENERGY_NAME = re.compile(r"energ|channel|^mca$|^bins?$", re.IGNORECASE)
"""Names of the dimension of the channels."""
_MAX_LOOK = 16_000_000
_MAX_FIRST = 256
"""Places along the first dimension that are looked at: files are mostly stored in pieces along it."""


def channel_dimension(
    shape: tuple[int, ...], lengths: tuple[int, ...], look: Callable[[tuple[slice, ...]], NDArray[Any]]
) -> tuple[int, str]:
    """Return the dimension of the channels of an array of counts, and a note or "".

    Parameters
    ----------
    shape : tuple of int
        Of the array. Of two dimensions the last are the channels.
    lengths : tuple of int
        Lengths of lists of energies or channels next to the array.
    look : callable
        Returns the array at a slice of each dimension.

    Notes
    -----
    The dimension with the length of listed energies, if unique, else the longest. If the last dimension is shorter than
    another one, the values decide between the two where possible: counts differ much more between channels than between
    rows or columns.
    """
    fitting = [number for number, size in enumerate(shape) if size in lengths]
    if len(fitting) == 1:
        return fitting[0], ""
    last = len(shape) - 1
    longest = max(range(len(shape)), key=lambda number: (shape[number], number))
    if longest == last or len(shape) == 2 or shape[longest] == shape[last]:
        return last, ""
    spread = _spread(shape, (longest, last), look)
    chosen, reason = longest, "the longest one"
    if max(spread.values()) > 1.5 * min(spread.values()):
        chosen, reason = max(spread, key=lambda number: spread[number]), "its counts differ most"
    size = " x ".join(map(str, shape))
    return (
        chosen,
        f"of {size} numbers the dimension {chosen + 1}, of {shape[chosen]}, is read as the channels: {reason}",
    )


def _spread(
    shape: tuple[int, ...], numbers: tuple[int, int], look: Callable[[tuple[slice, ...]], NDArray[Any]]
) -> dict[int, float]:
    """Standard deviation over mean of the counts along dimensions, each summed over all others."""
    most = {number: min(shape[number], _MAX_FIRST if number == 0 else 4096) for number in numbers}
    rest = max(1, _MAX_LOOK // math.prod(most.values()))
    key = tuple(slice(None, None, -(-size // most.get(number, rest))) for number, size in enumerate(shape))
    values = np.nan_to_num(np.asarray(look(key), dtype=np.float64))
    profiles = {
        number: values.sum(axis=tuple(each for each in range(len(shape)) if each != number)) for number in numbers
    }
    return {number: float(each.std() / each.mean()) if each.mean() > 0 else 0.0 for number, each in profiles.items()}
