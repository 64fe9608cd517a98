"""Layers and stratigraphies, from the surface down."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from underpaint.errors import SampleError

FRACTION_SUM_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Layer:
    """A homogeneous layer with its elemental composition.

    Parameters
    ----------
    mass_fractions : mapping of str to float
        Mass fraction of each element, by symbol; the sum is one within 1e-6.
    density : float
        Density in g/cm3.
    thickness_um : float
        Thickness in um.
    name : str
        Name for display.
    pigments : mapping of str to float
        Mass fraction of each pigment in a paint layer, by name; the remainder to one is binder. Empty for other layers.

    Raises
    ------
    SampleError
        A fraction is negative, the fractions do not sum to one, or density or thickness is not positive.
    """

    mass_fractions: Mapping[str, float]
    density: float
    thickness_um: float
    name: str = ""
    pigments: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mass_fractions", MappingProxyType(dict(self.mass_fractions)))
        object.__setattr__(self, "pigments", MappingProxyType(dict(self.pigments)))
        fraction_sum = float(sum(self.mass_fractions.values()))
        layer_label = f"layer {self.name!r}" if self.name else "the layer"
        if any(not fraction >= 0 for fraction in self.mass_fractions.values()):
            raise SampleError(
                f"Cannot use {layer_label}: a mass fraction is negative or not a number ({dict(self.mass_fractions)})."
            )
        if not abs(fraction_sum - 1.0) <= FRACTION_SUM_TOLERANCE:
            raise SampleError(
                f"Cannot use {layer_label}: its mass fractions sum to {fraction_sum:.8g}; "
                "they must sum to 1 within 1e-6."
            )
        if not (np.isfinite(self.density) and self.density > 0):
            raise SampleError(f"Cannot use {layer_label}: density is {self.density} g/cm3; it must be positive.")
        if not (np.isfinite(self.thickness_um) and self.thickness_um > 0):
            raise SampleError(f"Cannot use {layer_label}: thickness is {self.thickness_um} um; it must be positive.")

    @property
    def areal_density(self) -> float:
        """Mass per area in g/cm2."""
        return self.density * self.thickness_um * 1e-4


@dataclass(frozen=True)
class Stratigraphy:
    """Layers listed from the surface down.

    Raises
    ------
    SampleError
        The stratigraphy has no layers.
    """

    layers: tuple[Layer, ...]
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise SampleError("Cannot use a stratigraphy without layers; give at least one.")
