"""Stratigraphies as padded arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from underpaint.errors import SampleError
from underpaint.sample import Stratigraphy

Array = Any
"""An array of numpy or torch: the array API's type has no name in Python."""


@dataclass(frozen=True)
class Stack:
    """A batch of stratigraphies as padded arrays, numpy or torch.

    Parameters
    ----------
    fractions : (n_sample, n_layer, n_element) array
        Mass fractions; zero in layers that do not exist.
    areal : (n_sample, n_layer) array
        Areal density, g/cm2 (density in g/cm3 times thickness in cm); zero in layers that do not exist.
    """

    fractions: Array
    areal: Array

    def __len__(self) -> int:
        return int(self.areal.shape[0])

    def part(self, rows: Any) -> "Stack":
        """Return some of the samples."""
        return Stack(self.fractions[rows], self.areal[rows])


def stack_layers(stratigraphies: Sequence[Stratigraphy], elements: Sequence[str]) -> Stack:
    """Return stratigraphies as padded numpy arrays over the given elements.

    Raises
    ------
    SampleError
        The batch is empty, or a layer holds an element that is not among ``elements``.
    """
    if not stratigraphies:
        message = "Cannot simulate an empty batch; give at least one stratigraphy."
        raise SampleError(message)
    index = {name: position for position, name in enumerate(elements)}
    depth = max(len(entry.layers) for entry in stratigraphies)
    fractions, areal = np.zeros((len(stratigraphies), depth, len(index))), np.zeros((len(stratigraphies), depth))
    for row, entry in enumerate(stratigraphies):
        for level, layer in enumerate(entry.layers):
            areal[row, level] = layer.areal_density
            for name, fraction in layer.mass_fractions.items():
                if name not in index:
                    message = f"Cannot simulate {layer.name or 'a layer'}: there are no atomic tables for {name}."
                    raise SampleError(message)
                fractions[row, level, index[name]] = fraction
    return Stack(fractions, areal)
