"""Identification of the channel dimension of an array in a file that does not state it."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

ENERGY_NAME = re.compile(r"energ|channel|^mca$|^bins?$", re.IGNORECASE)
"""Pattern of names that mark a dimension as the channel dimension."""
_MAX_VALUES_READ = 16_000_000
_MAX_FIRST_INDICES = 256
"""Maximum number of indices that are read along the first dimension. Most files are chunked along this dimension."""


def channel_dimension(
    shape: tuple[int, ...], list_lengths: tuple[int, ...], read_part: Callable[[tuple[slice, ...]], NDArray[Any]]
) -> tuple[int, str]:
    """Return the index of the channel dimension of an array, and a note if the choice is a guess ("" otherwise).

    Parameters
    ----------
    shape : tuple of int
        Shape of the array. In a 2-D array, the last dimension is assumed to be the channels.
    list_lengths : tuple of int
        Lengths of the lists of energies or channels that the file stores next to the array.
    read_part : callable
        Takes one slice per dimension, and returns this part of the array.

    Notes
    -----
    If only one dimension has a length in ``list_lengths``, this dimension is the channels. If not, the longest
    dimension is assumed to be the channels. If the last dimension is shorter than the longest, the counts decide
    between the last and the longest where possible. Counts vary much more between channels than between rows or
    columns.
    """
    matching_dimensions = [
        dimension for dimension, dimension_size in enumerate(shape) if dimension_size in list_lengths
    ]
    if len(matching_dimensions) == 1:
        return matching_dimensions[0], ""
    last_dimension = len(shape) - 1
    longest_dimension = max(range(len(shape)), key=lambda dimension: (shape[dimension], dimension))
    if longest_dimension == last_dimension or len(shape) == 2 or shape[longest_dimension] == shape[last_dimension]:
        return last_dimension, ""
    relative_spreads = _relative_spreads(shape, (longest_dimension, last_dimension), read_part)
    channel_dim, guess_reason = longest_dimension, "it is the longest one"
    if max(relative_spreads.values()) > 1.5 * min(relative_spreads.values()):
        channel_dim, guess_reason = (
            max(relative_spreads, key=lambda dimension: relative_spreads[dimension]),
            "its counts differ most",
        )
    shape_text = " x ".join(map(str, shape))
    return (
        channel_dim,
        f"dimension {channel_dim + 1} of the array of {shape_text} numbers is read as the channels: {guess_reason}",
    )


def _relative_spreads(
    shape: tuple[int, ...], dimensions: tuple[int, int], read_part: Callable[[tuple[slice, ...]], NDArray[Any]]
) -> dict[int, float]:
    """Sum the counts over all other dimensions, and return the relative standard deviation along each dimension."""
    max_sampled_sizes = {
        dimension: min(shape[dimension], _MAX_FIRST_INDICES if dimension == 0 else 4096) for dimension in dimensions
    }
    max_other_sampled = max(1, _MAX_VALUES_READ // math.prod(max_sampled_sizes.values()))
    slices = tuple(
        slice(None, None, -(-dimension_size // max_sampled_sizes.get(dimension, max_other_sampled)))
        for dimension, dimension_size in enumerate(shape)
    )
    sampled_counts = np.nan_to_num(np.asarray(read_part(slices), dtype=np.float64))
    count_profiles = {
        dimension: sampled_counts.sum(axis=tuple(summed for summed in range(len(shape)) if summed != dimension))
        for dimension in dimensions
    }
    return {
        dimension: float(summed.std() / summed.mean()) if summed.mean() > 0 else 0.0
        for dimension, summed in count_profiles.items()
    }
