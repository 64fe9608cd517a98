"""Identification of the channel dimension of an array, for files that do not state it."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

ENERGY_NAME = re.compile(r"energ|channel|^mca$|^bins?$", re.IGNORECASE)
"""Names of the dimension of the channels."""
_MAX_VALUES_READ = 16_000_000
_MAX_FIRST_INDICES = 256
"""Maximum number of indices read along the first dimension, along which most files are chunked."""


def channel_dimension(
    shape: tuple[int, ...], lengths: tuple[int, ...], read_part: Callable[[tuple[slice, ...]], NDArray[Any]]
) -> tuple[int, str]:
    """Return the dimension of the channels of an array of counts, and a note ("" without doubt).

    Parameters
    ----------
    shape : tuple of int
        Shape of the array. In two dimensions, the last one is the channels.
    lengths : tuple of int
        Lengths of lists of energies or channels next to the array.
    read_part : callable
        Returns the array at a slice of each dimension.

    Notes
    -----
    The channels are the only dimension whose length is in ``lengths``, else the longest dimension. If the last
    dimension is shorter than another one, the values decide between the two where possible: counts differ much more
    between channels than between rows or columns.
    """
    matching = [dimension for dimension, size in enumerate(shape) if size in lengths]
    if len(matching) == 1:
        return matching[0], ""
    last = len(shape) - 1
    longest = max(range(len(shape)), key=lambda dimension: (shape[dimension], dimension))
    if longest == last or len(shape) == 2 or shape[longest] == shape[last]:
        return last, ""
    spread = _spread(shape, (longest, last), read_part)
    channel_dim, reason = longest, "the longest one"
    if max(spread.values()) > 1.5 * min(spread.values()):
        channel_dim, reason = max(spread, key=lambda dimension: spread[dimension]), "its counts differ most"
    size = " x ".join(map(str, shape))
    return (
        channel_dim,
        f"of {size} numbers the dimension {channel_dim + 1}, of {shape[channel_dim]}, is read as the channels: "
        f"{reason}",
    )


def _spread(
    shape: tuple[int, ...], dimensions: tuple[int, int], read_part: Callable[[tuple[slice, ...]], NDArray[Any]]
) -> dict[int, float]:
    """Return standard deviation over mean of the counts along each dimension, summed over all others."""
    max_indices = {
        dimension: min(shape[dimension], _MAX_FIRST_INDICES if dimension == 0 else 4096) for dimension in dimensions
    }
    n_others = max(1, _MAX_VALUES_READ // math.prod(max_indices.values()))
    slices = tuple(
        slice(None, None, -(-size // max_indices.get(dimension, n_others))) for dimension, size in enumerate(shape)
    )
    values = np.nan_to_num(np.asarray(read_part(slices), dtype=np.float64))
    profiles = {
        dimension: values.sum(axis=tuple(summed for summed in range(len(shape)) if summed != dimension))
        for dimension in dimensions
    }
    return {
        dimension: float(summed.std() / summed.mean()) if summed.mean() > 0 else 0.0
        for dimension, summed in profiles.items()
    }
