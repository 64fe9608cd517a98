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

REFERENCE_ENERGY_KEV, MIN_SPLIT_DEPTH, SPLIT_DEPTHS = 10.0, 15.0, (1.0, 4.0, 12.0)
"""Layers are split at ``SPLIT_DEPTHS`` if their optical depth exceeds ``MIN_SPLIT_DEPTH``. Optical depths are along the
normal, at the reference energy."""


@dataclass(frozen=True)
class Stack:
    """A batch of stratigraphies as padded arrays, numpy or torch.

    Parameters
    ----------
    fractions : (n_sample, n_layer, n_element) array
        Mass fractions; zero in layers that do not exist.
    areal_density : (n_sample, n_layer) array
        Areal density in g/cm2 (density in g/cm3 times thickness in cm); zero in layers that do not exist.
    elements : tuple of str
        Elements of the last axis of ``fractions``; they must be the elements of the setting.

    Raises
    ------
    SampleError
        The shapes do not match.
    """

    fractions: Array
    areal_density: Array
    elements: tuple[str, ...]

    def __post_init__(self) -> None:
        if (
            tuple(self.fractions.shape) != (*self.areal_density.shape, len(self.elements))
            or self.areal_density.ndim != 2
        ):
            raise SampleError(
                f"Cannot stack layers: areal densities of shape {tuple(self.areal_density.shape)} and mass fractions "
                f"of shape {tuple(self.fractions.shape)} do not match {len(self.elements)} elements; give (n_sample, "
                "n_layer) and (n_sample, n_layer, n_element)."
            )

    def __len__(self) -> int:
        return int(self.areal_density.shape[0])

    def part(self, sample_indices: Any) -> "Stack":
        """Return the samples with the indices ``sample_indices``."""
        return Stack(self.fractions[sample_indices], self.areal_density[sample_indices], self.elements)


@dataclass(frozen=True)
class SplitLayers:
    """Stratigraphies whose thick layers are split into parts.

    Parameters
    ----------
    stratigraphies : list of Stratigraphy
        Stratigraphies of the parts.
    layer_of_part : (n_sample, n_layer, n_part) array or None
        One where a part belongs to a layer, else zero; None if no layer is split.
    """

    stratigraphies: list[Stratigraphy]
    layer_of_part: NDArray[np.float64] | None


def split_thick_layers(stratigraphies: Sequence[Stratigraphy]) -> SplitLayers:
    """Split opaque layers into parts, to make cells thin near the surface, where most emission originates."""
    parts_by_layer = [[_split_layer(layer) for layer in sample_parts.layers] for sample_parts in stratigraphies]
    if all(len(layer_parts) == 1 for sample_parts in parts_by_layer for layer_parts in sample_parts):
        return SplitLayers(list(stratigraphies), None)
    matrix_shape = (
        len(parts_by_layer),
        max(map(len, parts_by_layer)),
        max(sum(map(len, sample_parts)) for sample_parts in parts_by_layer),
    )
    layer_of_part = np.zeros(matrix_shape)
    for sample_index, sample_parts in enumerate(parts_by_layer):
        first_part = 0
        for layer_index, layer_parts in enumerate(sample_parts):
            layer_of_part[sample_index, layer_index, first_part : first_part + len(layer_parts)] = 1.0
            first_part += len(layer_parts)
    split_stratigraphies = [
        Stratigraphy(tuple(part for layer_parts in sample_parts for part in layer_parts), whole_stratigraphy.name)
        for sample_parts, whole_stratigraphy in zip(parts_by_layer, stratigraphies, strict=True)
    ]
    return SplitLayers(split_stratigraphies, layer_of_part)


def join_layer_parts(photons: Array, layer_of_part: NDArray[np.float64]) -> Array:
    """Sum the (n, n_part, n_line) photons of parts; return the (n, n_layer, n_line) photons of layers."""
    return np.matmul(layer_of_part.astype(photons.dtype), photons)


def _split_layer(layer: Layer) -> list[Layer]:
    """Return the parts of a layer from the top down, or the layer itself if it is not opaque."""
    energy_kev = np.asarray([REFERENCE_ENERGY_KEV])
    attenuation = sum(
        fraction * float(mass_attenuation(name, energy_kev)[0]) for name, fraction in layer.mass_fractions.items()
    )
    optical_depth = layer.areal_density * attenuation
    if optical_depth < MIN_SPLIT_DEPTH:
        return [layer]
    relative_face_depths = np.asarray([0.0, *(face_depth / optical_depth for face_depth in SPLIT_DEPTHS), 1.0])
    return [
        replace(layer, thickness_um=float(thickness_fraction) * layer.thickness_um)
        for thickness_fraction in np.diff(relative_face_depths)
    ]


def stack_layers(stratigraphies: Sequence[Stratigraphy], elements: Sequence[str]) -> Stack:
    """Convert stratigraphies to padded numpy arrays.

    Raises
    ------
    SampleError
        The batch is empty, or a layer contains an element that is not among ``elements``.
    """
    if not stratigraphies:
        raise SampleError("Cannot simulate an empty batch; give at least one stratigraphy.")
    element_index = {name: element_position for element_position, name in enumerate(elements)}
    n_layers = max(len(stratigraphy.layers) for stratigraphy in stratigraphies)
    fractions, areal_density = (
        np.zeros((len(stratigraphies), n_layers, len(element_index))),
        np.zeros((len(stratigraphies), n_layers)),
    )
    for sample_index, stratigraphy in enumerate(stratigraphies):
        for layer_index, layer in enumerate(stratigraphy.layers):
            areal_density[sample_index, layer_index] = layer.areal_density
            for name, fraction in layer.mass_fractions.items():
                if name not in element_index:
                    raise SampleError(
                        f"Cannot simulate {layer.name or 'a layer'}: it contains {name}, which is not among the "
                        f"elements {', '.join(elements)}. Add {name} to them."
                    )
                fractions[sample_index, layer_index, element_index[name]] = fraction
    return Stack(fractions, areal_density, tuple(elements))
