"""Paint mixtures, layer structures, the panel of Figure 7 and the simulation grid of Xu et al. 2022."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from underpaint.errors import SampleError
from underpaint.physics.materials import Layer, Paint, Stratigraphy, ground_layer, library
from underpaint.runtime.untrusted import read_toml


@dataclass(frozen=True)
class PanelRecipe:
    """Recipe of a panel of crossing paint strips. Every top paint crosses every bottom paint, on one ground.

    Parameters
    ----------
    top_paints, bottom_paints : mapping of str to (mapping of str to float)
        Mass fractions of the dry pigments, by name of the paint and of the pigment.
    pigment_to_binder : float
        Mass ratio of pigment to binder.
    binder, ground : str
        Names of the binder and the ground in the materials library.
    top_thickness_um, bottom_thickness_um, ground_thickness_um : (float, float)
        Smallest and largest thickness of each layer, in um.
    formulas : mapping of str to str
        Chemical formulas that replace those of the materials library, by pigment name.
    """

    top_paints: Mapping[str, Mapping[str, float]]
    bottom_paints: Mapping[str, Mapping[str, float]]
    pigment_to_binder: float
    binder: str
    ground: str
    top_thickness_um: tuple[float, float]
    bottom_thickness_um: tuple[float, float]
    ground_thickness_um: tuple[float, float]
    formulas: Mapping[str, str] = field(default_factory=dict)

    def top(self, name: str, thickness_um: float) -> Layer:
        """Return a layer of the named top paint."""
        return self._make_paint(self.top_paints[name]).layer(thickness_um)

    def bottom(self, name: str, thickness_um: float) -> Layer:
        """Return a layer of the named bottom paint."""
        return self._make_paint(self.bottom_paints[name]).layer(thickness_um)

    def _make_paint(self, mass_fractions: Mapping[str, float]) -> Paint:
        return Paint(
            dict(mass_fractions), pigment_to_binder=self.pigment_to_binder, binder=self.binder, formulas=self.formulas
        )


@lru_cache
def _paper_data() -> dict[str, Any]:
    paper_toml = (files("underpaint.simulate") / "data" / "xu2022.toml").read_text("utf-8")
    return tomllib.loads(paper_toml)


def paper_mixtures() -> dict[str, dict[str, float]]:
    """Return the mass fractions of every top and bottom paint, by pigment name, from Table 2 of Xu et al. 2022."""
    paper_data = _paper_data()
    return {
        paint_name: _mass_fractions(mixture)
        for paint_name, mixture in (paper_data["tops"] | paper_data["bottoms"]).items()
    }


def table2_recipe() -> PanelRecipe:
    """Return the recipe with the 4 top and 16 bottom paints of Table 2 of Xu et al. 2022."""
    paper_data = _paper_data()
    return _panel_recipe(paper_data, list(paper_data["tops"]), list(paper_data["bottoms"]))


def figure7_recipe() -> PanelRecipe:
    """Return the recipe with 4 top paints (rows) across 6 bottom paints (columns), from Figure 7 of Xu et al. 2022."""
    paper_data = _paper_data()
    return _panel_recipe(paper_data, paper_data["figure_7"]["rows"], paper_data["figure_7"]["columns"])


def paper_classes() -> tuple[str, ...]:
    """Return the pigment names of the 11 network outputs of Xu et al. 2022."""
    paper_data = _paper_data()
    return tuple(paper_data["abbreviations"][abbreviation] for abbreviation in paper_data["simulation"]["classes"])


def paper_formulas() -> dict[str, str]:
    """Return the formulas that differ from the materials library, by pigment name, from Table 1 of Xu et al. 2022."""
    paper_data = _paper_data()
    return {
        paper_data["abbreviations"][abbreviation]: formula for abbreviation, formula in paper_data["formulas"].items()
    }


def paper_table3() -> dict[str, list[list[float]]]:
    """Return accuracy, sensitivity and F1 of three models, by pigment name, from Table 3 of Xu et al. 2022."""
    paper_data = _paper_data()
    return {
        paper_data["abbreviations"][abbreviation]: model_scores
        for abbreviation, model_scores in paper_data["table_3"].items()
    }


def paper_grid(materials: str = "table2") -> list[tuple[str, str, float, float]]:
    """Return the 16,224 structures of the simulation set of Xu et al. 2022.

    Parameters
    ----------
    materials : {"table2", "table1"}
        The paper does not name its thirteen materials. "table2" takes the abbreviations below Table 2. "table1" takes
        the twelve materials of Table 1 and the substitute for emerald green.

    Returns
    -------
    list of (str, str, float, float)
        Top pigment, bottom pigment, thickness of the top layer and thickness of the bottom layer, in um.
    """
    paper_data = _paper_data()
    simulation_table, name_by_abbreviation = paper_data["simulation"], paper_data["abbreviations"]
    abbreviations = simulation_table["materials" if materials == "table2" else "materials_of_table_1"]
    pigments = [name_by_abbreviation.get(abbreviation, abbreviation) for abbreviation in abbreviations]
    top_thicknesses_um, bottom_thicknesses_um = (
        _grid_values(simulation_table["top_thickness_um"]),
        _grid_values(simulation_table["bottom_thickness_um"]),
    )
    return [
        (top_pigment, bottom_pigment, top_um, bottom_um)
        for top_pigment in pigments
        for bottom_pigment in pigments
        for top_um in top_thicknesses_um
        for bottom_um in bottom_thicknesses_um
    ]


def paper_stratigraphy(top_pigment: str, bottom_pigment: str, top_um: float, bottom_um: float) -> Stratigraphy:
    """Return the stratigraphy of one pigment over another on the ground of Xu et al. 2022.

    The name ``substitute`` means the mixture of verdigris and sodium arsenite that replaces emerald green.
    """
    mixtures = {"substitute": _mass_fractions(_paper_data()["substitute"])}
    return paper_layers(
        [mixtures.get(material, {material: 1.0}) for material in (top_pigment, bottom_pigment)], (top_um, bottom_um)
    )


def paper_layers(paints: Sequence[Mapping[str, float]], thickness_um: Sequence[float]) -> Stratigraphy:
    """Return paint layers on the ground of the paper's simulation set, with the paper's binder and formulas.

    Parameters
    ----------
    paints : sequence of mapping of str to float
        Mass fractions of each layer's dry pigments, by pigment name. The uppermost layer comes first.
    thickness_um : sequence of float
        Thickness of each layer, in um.
    """
    paper_data = _paper_data()
    pigment_to_binder, binder = paper_data["pigment_to_binder"], paper_data["binder"]
    layers = [
        Paint(
            dict(mass_fractions), pigment_to_binder=pigment_to_binder, binder=binder, formulas=paper_formulas()
        ).layer(layer_thickness_um)
        for mass_fractions, layer_thickness_um in zip(paints, thickness_um, strict=True)
    ]
    return Stratigraphy((*layers, ground_layer(paper_data["ground"], paper_data["simulation"]["ground_thickness_um"])))


def load_recipe(name_or_path: str | Path) -> PanelRecipe:
    """Return the recipe with the name ``fig7`` or ``table2``, or read a recipe from a TOML file.

    Raises
    ------
    SampleError
        The file is missing, is not TOML, lacks a field, or names an unknown pigment.
    """
    recipe_name = str(name_or_path)
    if recipe_name in {"fig7", "table2"}:
        return figure7_recipe() if recipe_name == "fig7" else table2_recipe()
    path = Path(name_or_path)
    if not path.is_file():
        raise SampleError(f"No panel recipe {recipe_name!r}: the name is neither a file nor one of fig7, table2.")
    try:
        recipe_table = read_toml(path, SampleError, "the panel recipe")
        return _panel_recipe(recipe_table, list(recipe_table["tops"]), list(recipe_table["bottoms"]))
    except (KeyError, TypeError) as error:
        raise SampleError(
            f"Cannot use the panel recipe {recipe_name!r}: {error}. A recipe needs tops, bottoms, pigment_to_binder, "
            f"binder, "
            "ground, top_thickness_um, bottom_thickness_um and ground_thickness_um."
        ) from error


def _panel_recipe(recipe_table: Mapping[str, Any], top_names: list[str], bottom_names: list[str]) -> PanelRecipe:
    name_by_abbreviation = recipe_table.get("abbreviations", {})
    return PanelRecipe(
        top_paints={name: _mass_fractions(recipe_table["tops"][name], name_by_abbreviation) for name in top_names},
        bottom_paints={
            name: _mass_fractions(recipe_table["bottoms"][name], name_by_abbreviation) for name in bottom_names
        },
        pigment_to_binder=float(recipe_table["pigment_to_binder"]),
        binder=recipe_table["binder"],
        ground=recipe_table["ground"],
        top_thickness_um=_limit_pair(recipe_table["top_thickness_um"]),
        bottom_thickness_um=_limit_pair(recipe_table["bottom_thickness_um"]),
        ground_thickness_um=_limit_pair(recipe_table["ground_thickness_um"]),
        formulas={
            library()[name_by_abbreviation.get(abbreviation, abbreviation)].name: formula
            for abbreviation, formula in recipe_table.get("formulas", {}).items()
        },
    )


def _mass_fractions(
    mixture: Mapping[str, float], name_by_abbreviation: Mapping[str, str] | None = None
) -> dict[str, float]:
    name_by_abbreviation = _paper_data()["abbreviations"] if name_by_abbreviation is None else name_by_abbreviation
    fraction_sum = sum(mixture.values())
    if not fraction_sum > 0:
        raise SampleError(
            f"Cannot mix {dict(mixture)}: the shares sum to {fraction_sum}, and a positive sum is needed."
        )
    return {
        library()[name_by_abbreviation.get(abbreviation, abbreviation)].name: fraction / fraction_sum
        for abbreviation, fraction in mixture.items()
    }


def _limit_pair(limit_values: Any) -> tuple[float, float]:
    minimum, maximum = limit_values
    return float(minimum), float(maximum)


def _grid_values(range_table: Mapping[str, float]) -> list[float]:
    n_values = round((range_table["stop"] - range_table["start"]) / range_table["step"]) + 1
    return [float(grid_value) for grid_value in np.linspace(range_table["start"], range_table["stop"], n_values)]
