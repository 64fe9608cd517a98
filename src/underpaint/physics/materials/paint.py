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
        Mass share of each pigment in the dry mixture, by name, synonym or abbreviation, on any scale.
    pigment_to_binder : float
        Mass ratio of pigment to binder; infinity if there is no binder. Xu et al., 2022 use a ratio of 3.
    binder : str
        Name of the binder in the library.
    density : float, optional
        Density of the paint, in g/cm3; by default, it follows from the volumes of the components.
    formulas : mapping of str to str
        Chemical formulas, by pigment, that differ from the library: another hydrate, or a published formula.
    driers : mapping of str to float
        Mass ratio of a drier's metal to the binder, by name of the drier: ``{"lead_drier": 0.005}``. By default, there
        are no driers.

    Raises
    ------
    SampleError
        A pigment, binder or drier is unknown, a share is negative, all shares are zero, the ratio is not positive, or
        the driers exceed the binder.
    """

    pigments: Mapping[str, float]
    pigment_to_binder: float = 3.0
    binder: str = DEFAULT_BINDER
    density: float | None = None
    formulas: Mapping[str, str] = field(default_factory=dict)
    driers: Mapping[str, float] = field(default_factory=dict)
    _pigment_shares: Mapping[str, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        total_share = sum(self.pigments.values())
        if not total_share > 0 or any(share < 0 for share in self.pigments.values()):
            raise SampleError(
                f"Cannot mix {dict(self.pigments)}: shares must not be negative and must not all be zero."
            )
        if not self.pigment_to_binder > 0:
            raise SampleError(
                f"Cannot mix a paint with {self.pigment_to_binder} g pigment per g binder; the ratio must be positive."
            )
        share_by_pigment: dict[str, float] = {}
        for name, share in self.pigments.items():
            library_name = library()[name].name
            share_by_pigment[library_name] = share_by_pigment.get(library_name, 0.0) + share / total_share
        object.__setattr__(self, "_pigment_shares", MappingProxyType(share_by_pigment))

    @property
    def pigment_fraction(self) -> float:
        """Mass fraction of pigment in the paint."""
        if self.pigment_to_binder == float("inf"):
            return 1.0
        return self.pigment_to_binder / (1.0 + self.pigment_to_binder)

    def layer(self, thickness_um: float) -> Layer:
        """Return a dry film of this paint, ``thickness_um`` thick."""
        binder, pigment_fraction = material_table_row("binder", self.binder), self.pigment_fraction
        binder_fractions = mix_elements(self._binder_components(binder))
        element_fractions = {
            element: (1.0 - pigment_fraction) * mass_fraction for element, mass_fraction in binder_fractions.items()
        }
        if pigment_fraction == 1.0:
            element_fractions = {}
        specific_volume = (1.0 - pigment_fraction) / binder["density"]
        for pigment_name, share in self._pigment_shares.items():
            pigment = library()[pigment_name]
            specific_volume += pigment_fraction * share / pigment.density
            pigment_fractions = (
                mass_fractions(self.formulas[pigment_name]) if pigment_name in self.formulas else pigment.mass_fractions
            )
            for element, mass_fraction in pigment_fractions.items():
                element_fractions[element] = (
                    element_fractions.get(element, 0.0) + pigment_fraction * share * mass_fraction
                )
        layer_name = ", ".join(library()[pigment_name].label for pigment_name in self._pigment_shares)
        layer_pigments = {
            pigment_name: pigment_fraction * share for pigment_name, share in self._pigment_shares.items()
        }
        density = 1.0 / specific_volume if self.density is None else self.density
        return Layer(element_fractions, density, thickness_um, layer_name, layer_pigments)

    def _binder_components(self, binder: Mapping[str, Any]) -> dict[str, float]:
        """Return the mass fraction of each compound in the binder, including driers."""
        components = formula_fractions(binder)
        drier_fractions: dict[str, float] = {}
        for drier_name, metal_fraction in self.driers.items():
            drier_row = material_table_row("drier", drier_name)
            drier_fractions[drier_row["formula"]] = (
                metal_fraction / mass_fractions(drier_row["formula"])[drier_row["element"]]
            )
        drier_total = sum(drier_fractions.values())
        if any(metal_fraction < 0 for metal_fraction in self.driers.values()) or not drier_total < 1:
            raise SampleError(
                f"Cannot dry {binder['label']} with {dict(self.driers)}: the mass of metal per mass of binder "
                "must not be negative, and the driers must not exceed the binder; typical values are 0.0005 to 0.01."
            )
        return (
            components
            if not drier_fractions
            else {**{formula: (1.0 - drier_total) * share for formula, share in components.items()}, **drier_fractions}
        )


def ground_layer(name: str, thickness_um: float) -> Layer:
    """Return a ground of the library as a layer."""
    ground_row = material_table_row("ground", name)
    pigment_to_binder = float("inf") if ground_row.get("pure") else ground_row["pigment_to_binder"]
    paint = Paint(
        ground_row["pigments"], pigment_to_binder=pigment_to_binder, binder=ground_row.get("binder", DEFAULT_BINDER)
    )
    return _rename_layer(paint.layer(thickness_um), f"ground: {ground_row['label']}")


def support_layer(name: str, thickness_um: float | None = None) -> Layer:
    """Return a support (canvas, wood, paper, copper plate, wall) as a layer; the default thickness is typical."""
    return _layer_from_table("support", name, thickness_um)


def coating_layer(name: str, thickness_um: float | None = None) -> Layer:
    """Return a coating (varnish, dirt) as a layer; the default thickness is typical."""
    return _layer_from_table("coating", name, thickness_um)


def pigment_share(layer: Layer, element: str) -> dict[str, float]:
    """Return, for each pigment, the fraction of an element's mass in a layer that the pigment contributes.

    The remainder to one is from other sources (impurities, driers). The result is empty if the layer lacks the element.
    """
    element_fraction = layer.mass_fractions.get(element, 0.0)
    if element_fraction <= 0:
        return {}
    element_masses = {
        name: layer_fraction * library()[name].mass_fractions.get(element, 0.0)
        for name, layer_fraction in layer.pigments.items()
    }
    return {name: element_mass / element_fraction for name, element_mass in element_masses.items() if element_mass > 0}


def material_table_row(material_kind: str, name: str) -> dict[str, Any]:
    """Return an entry of the table of binders, driers, grounds, supports or coatings.

    Raises
    ------
    SampleError
        The table has no such entry.
    """
    table_rows: list[dict[str, Any]] = data_table(f"{material_kind}s")[material_kind]
    for table_row in table_rows:
        if name in (table_row["name"], table_row["label"]):
            return table_row
    raise SampleError(
        f"No {material_kind} is called {name!r}; there are {', '.join(table_row['name'] for table_row in table_rows)}."
    )


def formula_fractions(table_row: Mapping[str, Any]) -> dict[str, float]:
    """Return the mass fraction of each compound in a binder, support or coating, given its table entry."""
    return dict(table_row.get("components") or {table_row["formula"]: 1.0})


def _layer_from_table(material_kind: str, name: str, thickness_um: float | None) -> Layer:
    table_row = material_table_row(material_kind, name)
    element_fractions = mix_elements(formula_fractions(table_row))
    layer_thickness_um = table_row["thickness_um"] if thickness_um is None else thickness_um
    return Layer(element_fractions, table_row["density"], layer_thickness_um, f"{material_kind}: {table_row['label']}")


def _rename_layer(layer: Layer, name: str) -> Layer:
    return Layer(layer.mass_fractions, layer.density, layer.thickness_um, name, layer.pigments)
