"""Paints, grounds, supports and coatings as layers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from underpaint.errors import SampleError
from underpaint.physics.materials.formula import mass_fractions
from underpaint.physics.materials.library import data_table, library, mix_elements
from underpaint.physics.materials.stratigraphy import Layer

DEFAULT_BINDER = "linseed_oil"


@dataclass(frozen=True)
class Paint:
    """Dry pigments in a binder.

    Parameters
    ----------
    pigments : mapping of str to float
        Mass share of the dry mixture by pigment name, synonym or abbreviation; any scale.
    pigment_to_binder : float
        Mass of pigment per mass of binder; infinity for no binder. Xu et al. 2022 use 3.
    binder : str
        Name from the library.
    density : float, optional
        Density of the paint, in g/cm3; by default from the volumes of its components.
    formulas : mapping of str to str
        Chemical formula by pigment, where it differs from the library: another hydrate, or a published formula.
    driers : mapping of str to float
        Mass of metal per mass of binder, by drier of the library: ``{"lead_drier": 0.005}``; none by default.

    Raises
    ------
    SampleError
        A pigment, binder or drier is unknown; a share is negative or all are zero; the ratio is not positive; or the
        driers exceed the binder.
    """

    pigments: Mapping[str, float]
    pigment_to_binder: float = 3.0
    binder: str = DEFAULT_BINDER
    density: float | None = None
    formulas: Mapping[str, str] = field(default_factory=dict)
    driers: Mapping[str, float] = field(default_factory=dict)
    _shares: Mapping[str, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        total = sum(self.pigments.values())
        if not total > 0 or any(share < 0 for share in self.pigments.values()):
            raise SampleError(
                f"Cannot mix {dict(self.pigments)}: shares must not be negative and must not all be zero."
            )
        if not self.pigment_to_binder > 0:
            raise SampleError(
                f"Cannot mix a paint with {self.pigment_to_binder} g pigment per g binder; it must be positive."
            )
        shares: dict[str, float] = {}
        for name, share in self.pigments.items():
            key = library()[name].name
            shares[key] = shares.get(key, 0.0) + share / total
        object.__setattr__(self, "_shares", MappingProxyType(shares))

    @property
    def pigment_fraction(self) -> float:
        """Mass fraction of pigment in the paint."""
        if self.pigment_to_binder == float("inf"):
            return 1.0
        return self.pigment_to_binder / (1.0 + self.pigment_to_binder)

    def layer(self, thickness_um: float) -> Layer:
        """Return a dry film of this paint, ``thickness_um`` thick."""
        binder, pigment_fraction = named_row("binder", self.binder), self.pigment_fraction
        medium = mix_elements(self._binder_components(binder))
        fractions = {element: (1.0 - pigment_fraction) * fraction for element, fraction in medium.items()}
        if pigment_fraction == 1.0:
            fractions = {}
        volume = (1.0 - pigment_fraction) / binder["density"]
        for name, share in self._shares.items():
            pigment = library()[name]
            volume += pigment_fraction * share / pigment.density
            pigment_fractions = mass_fractions(self.formulas[name]) if name in self.formulas else pigment.mass_fractions
            for element, fraction in pigment_fractions.items():
                fractions[element] = fractions.get(element, 0.0) + pigment_fraction * share * fraction
        label = ", ".join(library()[name].label for name in self._shares)
        contents = {name: pigment_fraction * share for name, share in self._shares.items()}
        density = 1.0 / volume if self.density is None else self.density
        return Layer(fractions, density, thickness_um, label, contents)

    def _binder_components(self, binder: Mapping[str, Any]) -> dict[str, float]:
        """Return the binder with its driers, by mass share of each formula."""
        components = components_of(binder)
        drier_fractions: dict[str, float] = {}
        for name, metal_fraction in self.driers.items():
            row = named_row("drier", name)
            drier_fractions[row["formula"]] = metal_fraction / mass_fractions(row["formula"])[row["element"]]
        total = sum(drier_fractions.values())
        if any(metal_fraction < 0 for metal_fraction in self.driers.values()) or not total < 1:
            raise SampleError(
                f"Cannot dry {binder['label']} with {dict(self.driers)}: the mass of metal per mass of binder "
                "must not be negative, and the driers must not exceed the binder; typical are 0.0005 to 0.01."
            )
        return (
            components
            if not drier_fractions
            else {**{formula: (1.0 - total) * share for formula, share in components.items()}, **drier_fractions}
        )


def ground_layer(name: str, thickness_um: float) -> Layer:
    """Return a ground of the library as a layer."""
    row = named_row("ground", name)
    ratio = float("inf") if row.get("pure") else row["pigment_to_binder"]
    paint = Paint(row["pigments"], pigment_to_binder=ratio, binder=row.get("binder", DEFAULT_BINDER))
    return _renamed(paint.layer(thickness_um), f"ground: {row['label']}")


def support_layer(name: str, thickness_um: float | None = None) -> Layer:
    """Return a support (canvas, wood, paper, copper plate, wall) as a layer; the default is a typical thickness, um."""
    return _layer_from_table("support", name, thickness_um)


def coating_layer(name: str, thickness_um: float | None = None) -> Layer:
    """Return a varnish or dirt as a layer; the default is a typical thickness, in um."""
    return _layer_from_table("coating", name, thickness_um)


def pigment_share(layer: Layer, element: str) -> dict[str, float]:
    """Return the fraction of an element's mass in a layer that is due to each pigment.

    The remainder to one is from other sources (impurities, driers); the result is empty if the layer lacks the element.
    """
    total = layer.mass_fractions.get(element, 0.0)
    if total <= 0:
        return {}
    masses = {
        name: layer_fraction * library()[name].mass_fractions.get(element, 0.0)
        for name, layer_fraction in layer.pigments.items()
    }
    return {name: mass / total for name, mass in masses.items() if mass > 0}


def named_row(kind: str, name: str) -> dict[str, Any]:
    """Return an entry of the tables of binders, driers, grounds, supports or coatings.

    Raises
    ------
    SampleError
        The table has no such entry.
    """
    rows: list[dict[str, Any]] = data_table(f"{kind}s")[kind]
    for row in rows:
        if name in (row["name"], row["label"]):
            return row
    raise SampleError(f"No {kind} is called {name!r}; there are {', '.join(row['name'] for row in rows)}.")


def components_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the mass fraction by formula of an entry of the binders, supports or coatings."""
    return dict(row.get("components") or {row["formula"]: 1.0})


def _layer_from_table(kind: str, name: str, thickness_um: float | None) -> Layer:
    row = named_row(kind, name)
    fractions = mix_elements(components_of(row))
    thickness = row["thickness_um"] if thickness_um is None else thickness_um
    return Layer(fractions, row["density"], thickness, f"{kind}: {row['label']}")


def _renamed(layer: Layer, name: str) -> Layer:
    return Layer(layer.mass_fractions, layer.density, layer.thickness_um, name, layer.pigments)
