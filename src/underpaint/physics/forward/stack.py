"""Batches of stratigraphies as padded arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import SampleError
from underpaint.physics.atomic import mass_attenuation
from underpaint.physics.materials import Layer, Stratigraphy

Array = Any
"""A numpy or torch array; the array API standard defines no Python type."""

CUT_ENERGY_KEV, MIN_CUT_DEPTH, CUT_DEPTHS = 10.0, 15.0, (1.0, 4.0, 12.0)
"""Layers with an optical depth (along the normal, at this energy) above ``MIN_CUT_DEPTH`` are cut at ``CUT_DEPTHS``."""


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
        Elements of the last axis of ``fractions``, equal to those of the setting.

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
        """Return the samples with the indices ``rows``."""
        return Stack(self.fractions[rows], self.areal[rows], self.elements)


@dataclass(frozen=True)
class CutLayers:
    """Stratigraphies whose thick layers are cut into parts.

    Parameters
    ----------
    stratigraphies : list of Stratigraphy
        Stratigraphies of the parts.
    layer_of_part : (n_sample, n_layer, n_part) array or None
        One for parts that belong to a layer, else zero; None if no layer is cut.
    """

    stratigraphies: list[Stratigraphy]
    layer_of_part: NDArray[np.float64] | None


def cut_thick(stratigraphies: Sequence[Stratigraphy]) -> CutLayers:
    """Cut opaque layers into parts: most emission comes from near the surface, where cells must be thin."""
    parts_by_layer = [[_cut_layer(layer) for layer in entry.layers] for entry in stratigraphies]
    if all(len(layer_parts) == 1 for entry in parts_by_layer for layer_parts in entry):
        return CutLayers(list(stratigraphies), None)
    shape = (len(parts_by_layer), max(map(len, parts_by_layer)), max(sum(map(len, entry)) for entry in parts_by_layer))
    layer_of_part = np.zeros(shape)
    for row, entry in enumerate(parts_by_layer):
        start = 0
        for layer_index, layer_parts in enumerate(entry):
            layer_of_part[row, layer_index, start : start + len(layer_parts)] = 1.0
            start += len(layer_parts)
    cut = [
        Stratigraphy(tuple(part for layer_parts in entry for part in layer_parts), source.name)
        for entry, source in zip(parts_by_layer, stratigraphies, strict=True)
    ]
    return CutLayers(cut, layer_of_part)


def joined_layers(photons: Array, layer_of_part: NDArray[np.float64]) -> Array:
    """Return the (n, n_layer, n_line) photons of layers from those of their parts, (n, n_part, n_line)."""
    return np.matmul(layer_of_part.astype(photons.dtype), photons)


def _cut_layer(layer: Layer) -> list[Layer]:
    """Return the parts of a layer from the top down; the layer itself if it is not opaque."""
    energy_kev = np.asarray([CUT_ENERGY_KEV])
    attenuation = sum(
        fraction * float(mass_attenuation(name, energy_kev)[0]) for name, fraction in layer.mass_fractions.items()
    )
    depth = layer.areal_density * attenuation
    if depth < MIN_CUT_DEPTH:
        return [layer]
    faces = np.asarray([0.0, *(face / depth for face in CUT_DEPTHS), 1.0])
    return [replace(layer, thickness_um=float(share) * layer.thickness_um) for share in np.diff(faces)]


def stack_layers(stratigraphies: Sequence[Stratigraphy], elements: Sequence[str]) -> Stack:
    """Return stratigraphies as padded numpy arrays.

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
        for layer_index, layer in enumerate(entry.layers):
            areal[row, layer_index] = layer.areal_density
            for name, fraction in layer.mass_fractions.items():
                if name not in index:
                    raise SampleError(
                        f"Cannot simulate {layer.name or 'a layer'}: it contains {name}, which is not among the "
                        f"elements {', '.join(elements)}. Add {name} to them."
                    )
                fractions[row, layer_index, index[name]] = fraction
    return Stack(fractions, areal, tuple(elements))
