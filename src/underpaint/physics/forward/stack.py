"""Stratigraphies as padded arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import SampleError
from underpaint.physics.atomic import mass_attenuation
from underpaint.physics.materials import Layer, Stratigraphy

Array = Any
"""An array of numpy or torch: the array API's type has no name in Python."""

CUT_AT_KEV, THICK, CUT_AT = 10.0, 15.0, (1.0, 4.0, 12.0)
"""Layers of more optical depths than ``THICK``, straight across at this energy, are cut at these depths."""


@dataclass(frozen=True)
class Stack:
    """A batch of stratigraphies as padded arrays, numpy or torch.

    Parameters
    ----------
    fractions : (n_sample, n_layer, n_element) array
        Mass fractions; zero in layers that do not exist.
    areal : (n_sample, n_layer) array
        Areal density, g/cm2 (density in g/cm3 times thickness in cm); zero in layers that do not exist.
    elements : tuple of str
        The elements of the last axis of ``fractions``: those of the setting, in its order.

    Raises
    ------
    SampleError
        The shapes do not match.
    """

    fractions: Array
    areal: Array
    elements: tuple[str, ...]

    def __post_init__(self) -> None:
        if tuple(self.fractions.shape) != (*self.areal.shape, len(self.elements)) or self.areal.ndim != 2:
            raise SampleError(
                f"Cannot stack layers: areal densities of shape {tuple(self.areal.shape)} and mass fractions of shape "
                f"{tuple(self.fractions.shape)} do not match {len(self.elements)} elements; give (n_sample, "
                "n_layer) and (n_sample, n_layer, n_element)."
            )

    def __len__(self) -> int:
        return int(self.areal.shape[0])

    def part(self, rows: Any) -> "Stack":
        """Return some of the samples."""
        return Stack(self.fractions[rows], self.areal[rows], self.elements)


@dataclass(frozen=True)
class Cut:
    """Stratigraphies whose thick layers are cut, and the layer of each part.

    Parameters
    ----------
    stratigraphies : list of Stratigraphy
    layer_of_part : (n_sample, n_layer, n_part) array or None
        One where a part belongs to a layer; None without cuts.
    """

    stratigraphies: list[Stratigraphy]
    layer_of_part: NDArray[np.float64] | None


def cut_thick(stratigraphies: Sequence[Stratigraphy]) -> Cut:
    """Cut very opaque layers: their emission comes from the top, where the cells must be."""
    parts = [[_parts(layer) for layer in entry.layers] for entry in stratigraphies]
    if all(len(pieces) == 1 for entry in parts for pieces in entry):
        return Cut(list(stratigraphies), None)
    shape = (len(parts), max(map(len, parts)), max(sum(map(len, entry)) for entry in parts))
    layer_of_part = np.zeros(shape)
    for row, entry in enumerate(parts):
        start = 0
        for level, pieces in enumerate(entry):
            layer_of_part[row, level, start : start + len(pieces)] = 1.0
            start += len(pieces)
    cut = [
        Stratigraphy(tuple(piece for pieces in entry for piece in pieces), source.name)
        for entry, source in zip(parts, stratigraphies, strict=True)
    ]
    return Cut(cut, layer_of_part)


def joined(photons: Array, layer_of_part: NDArray[np.float64]) -> Array:
    """Return (n, n_layer, n_line) photons of layers from those of their parts, (n, n_part, n_line)."""
    return np.matmul(layer_of_part.astype(photons.dtype), photons)


def _parts(layer: Layer) -> list[Layer]:
    """Return a layer, or its parts from the top down."""
    at = np.asarray([CUT_AT_KEV])
    attenuation = sum(part * float(mass_attenuation(name, at)[0]) for name, part in layer.mass_fractions.items())
    depth = layer.areal_density * attenuation
    if depth < THICK:
        return [layer]
    faces = np.asarray([0.0, *(face / depth for face in CUT_AT), 1.0])
    return [replace(layer, thickness_um=float(share) * layer.thickness_um) for share in np.diff(faces)]


def stack_layers(stratigraphies: Sequence[Stratigraphy], elements: Sequence[str]) -> Stack:
    """Return stratigraphies as padded numpy arrays over the given elements.

    Raises
    ------
    SampleError
        The batch is empty, or a layer contains an element that is not among ``elements``.
    """
    if not stratigraphies:
        raise SampleError("Cannot simulate an empty batch; give at least one stratigraphy.")
    index = {name: position for position, name in enumerate(elements)}
    depth = max(len(entry.layers) for entry in stratigraphies)
    fractions, areal = np.zeros((len(stratigraphies), depth, len(index))), np.zeros((len(stratigraphies), depth))
    for row, entry in enumerate(stratigraphies):
        for level, layer in enumerate(entry.layers):
            areal[row, level] = layer.areal_density
            for name, fraction in layer.mass_fractions.items():
                if name not in index:
                    raise SampleError(
                        f"Cannot simulate {layer.name or 'a layer'}: there are no atomic tables for {name}."
                    )
                fractions[row, level, index[name]] = fraction
    return Stack(fractions, areal, tuple(elements))
