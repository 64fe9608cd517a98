"""Random stratigraphies that resemble easel paintings of five centuries."""

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from underpaint.physics.materials import Layer, Paint, Stratigraphy, library, support_layer
from underpaint.simulate.randomise import choose, choose_weighted, log_uniform
from underpaint.simulate.recipes import paper_mixtures

GROUNDS: tuple[tuple[float, Mapping[str, float]], ...] = (
    (0.36, {"chalk": 1.0}),
    (0.12, {"gypsum": 1.0}),
    (0.12, {"lead_white": 1.0}),
    (0.10, {"lead_white": 0.5, "chalk": 0.5}),
    (0.10, {"titanium_white": 0.3, "chalk": 0.7}),
    (0.06, {"titanium_white": 0.4, "zinc_white": 0.2, "chalk": 0.4}),
    (0.06, {"zinc_white": 0.3, "chalk": 0.7}),
    (0.08, {"red_earth": 0.7, "chalk": 0.3}),
)
"""Weight of each ground, and its mean dry composition as mass fractions. The composition of drawn grounds varies around
this mean composition.
"""

TRACE_ELEMENTS = (
    "Fe",
    "Ti",
    "K",
    "Ca",
    "Mn",
    "Zn",
    "Cu",
    "Pb",
    "Sr",
    "Ba",
    "Ni",
    "Co",
    "Cr",
    "As",
    "Cl",
    "S",
    "Zr",
    "Sn",
)
"""Elements that impurities, driers and dirt add to layers. These elements come from no pigment and are not labelled."""

SUPPORTS = ("canvas", "canvas", "wood", "paper")

MIN_MASS_FRACTION = 1e-5
"""Smallest mass fraction of minor pigments and of bare elements (elements that come from no pigment)."""
MAX_MINOR_FRACTION, MAX_BARE_FRACTION = 0.1, 0.03
"""Largest mass fraction of a minor pigment in the dry paint, and of a bare element in a layer."""
BINDERS = (
    ("linseed_oil", 0.6),
    ("egg_yolk", 0.1),
    ("acrylic", 0.1),
    ("casein", 0.07),
    ("gum_arabic", 0.07),
    ("lime", 0.06),
)
METAL_LEAVES = ("gold_leaf", "silver_leaf", "part_gold")
LEAF_PROBABILITY, LEAF_THICKNESS_UM = 0.05, (0.1, 2.0)
VARIED_SUPPORTS = (
    ("canvas", 0.45),
    ("wood", 0.15),
    ("paper", 0.1),
    ("cardboard", 0.05),
    ("parchment", 0.07),
    ("wall", 0.05),
    ("gypsum_wall", 0.03),
    ("copper_plate", 0.03),
    ("aluminium_plate", 0.02),
    ("none", 0.05),
)
THIN_SUPPORTS = ("canvas", "paper", "parchment", "none")
BACKINGS: tuple[tuple[str, float, tuple[float, float]], ...] = (
    ("air", 0.4, (0.0, 0.0)),
    ("wood", 0.25, (3e3, 3e4)),
    ("cardboard", 0.12, (300.0, 4e3)),
    ("aluminium_plate", 0.1, (300.0, 3e3)),
    ("iron_plate", 0.05, (300.0, 2e3)),
    ("gypsum_wall", 0.08, (3e3, 1e4)),
)
"""Backings of thin supports: name, weight, and smallest and largest thickness in um."""


class RandomStratigraphies(BaseModel):
    """Settings of the distribution from which stratigraphies are drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    palette: tuple[str, ...] = Field(description="names of the pigments that paints may contain")
    max_paint_layers: int = Field(3, ge=1, le=6)
    max_pigments_per_layer: int = Field(4, ge=1, le=8)
    thickness_um: tuple[float, float] = Field(
        (5.0, 200.0), description="smallest and largest thickness of paint layers in um (log-uniform)"
    )
    ground_thickness_um: tuple[float, float] = (40.0, 300.0)
    pigment_to_binder: tuple[float, float] = Field(
        (1.0, 6.0), description="smallest and largest mass ratio of pigment to binder (log-uniform)"
    )
    traces: bool = Field(True, description="add elements without labels, with mass fractions of 30 ppm to 1 %")
    exclude_paper_mixtures: bool = Field(
        True,
        description="exclude paints with the pigments of a mixture in Table 2, if mass fractions agree within 15 %",
    )
    gapless: bool = Field(
        False,
        description="add minor pigments and bare elements, with mass fractions of 10 ppm or more",
    )
    varied_supports: bool = Field(
        False, description="draw from all supports, and put random backings behind thin supports"
    )


class StratigraphySampler:
    """Sampler of random stratigraphies. Each call of ``draw`` takes a random number generator."""

    def __init__(self, settings: RandomStratigraphies) -> None:
        self._settings = settings
        self._pigments_by_group = _pigments_by_group(settings.palette)
        self._held_out_mixtures = list(paper_mixtures().values()) if settings.exclude_paper_mixtures else []

    def draw(self, rng: np.random.Generator) -> Stratigraphy:
        """Draw a stratigraphy: paint layers, a ground, and a support."""
        settings = self._settings
        n_layer = int(rng.integers(1, settings.max_paint_layers + 1))
        paint_layers = [self._draw_paint_layer(rng) for _ in range(n_layer)]
        if settings.gapless:
            paint_layers = self._with_leaf(rng, paint_layers)
        ground_layer = self._draw_ground(rng)
        support_layers = _draw_varied_support(rng) if settings.varied_supports else _draw_support(rng)
        return Stratigraphy((*paint_layers, ground_layer, *support_layers))

    def _with_leaf(self, rng: np.random.Generator, paint_layers: list[Layer]) -> list[Layer]:
        """Add a metal leaf above, between or below the paint layers, with the probability ``LEAF_PROBABILITY``."""
        leaf_names = [leaf_name for leaf_name in METAL_LEAVES if leaf_name in self._settings.palette]
        if not leaf_names or rng.random() > LEAF_PROBABILITY:
            return paint_layers
        leaf_paint = Paint({leaf_names[int(rng.integers(len(leaf_names)))]: 1.0}, pigment_to_binder=float("inf"))
        leaf_position = int(rng.integers(len(paint_layers) + 1))
        return [
            *paint_layers[:leaf_position],
            leaf_paint.layer(log_uniform(rng, *LEAF_THICKNESS_UM)),
            *paint_layers[leaf_position:],
        ]

    def _draw_paint_layer(self, rng: np.random.Generator) -> Layer:
        while True:
            mass_fractions = self._random_fractions(rng)
            if self._settings.gapless:
                mass_fractions = self._with_minor_pigments(rng, mass_fractions)
            if not any(self._is_held_out(mass_fractions, mixture) for mixture in self._held_out_mixtures):
                return self._make_layer(rng, mass_fractions, log_uniform(rng, *self._settings.thickness_um))

    def _random_fractions(self, rng: np.random.Generator) -> dict[str, float]:
        n_pigments = int(rng.integers(1, self._settings.max_pigments_per_layer + 1))
        groups = list(self._pigments_by_group)
        mass_fractions: dict[str, float] = {}
        while len(mass_fractions) < n_pigments:
            # first a group is drawn, then one of its members, so that groups with many members are not more frequent
            members = self._pigments_by_group[groups[int(rng.integers(len(groups)))]]
            mass_fractions[members[int(rng.integers(len(members)))]] = 0.0
            n_pigments = min(n_pigments, len(self._settings.palette))
        # a Dirichlet concentration below one often gives one dominant pigment, and others down to a few per mille
        random_fractions = rng.dirichlet(np.full(len(mass_fractions), 0.8)) * 0.98 + 0.02 / len(mass_fractions)
        return {pigment: float(weight) for pigment, weight in zip(mass_fractions, random_fractions, strict=True)}

    def _with_minor_pigments(self, rng: np.random.Generator, mass_fractions: Mapping[str, float]) -> dict[str, float]:
        """Add up to two minor pigments, each with a mass fraction of 10 ppm to 10 %."""
        groups, mixture = list(self._pigments_by_group), dict(mass_fractions)
        for _ in range(int(rng.integers(0, 3))):
            members = self._pigments_by_group[groups[int(rng.integers(len(groups)))]]
            pigment, fraction = (
                members[int(rng.integers(len(members)))],
                log_uniform(rng, MIN_MASS_FRACTION, MAX_MINOR_FRACTION),
            )
            mixture.setdefault(pigment, fraction)
        fraction_sum = sum(mixture.values())
        return {pigment: fraction / fraction_sum for pigment, fraction in mixture.items()}

    def _is_held_out(self, mass_fractions: Mapping[str, float], mixture: Mapping[str, float]) -> bool:
        if not self._settings.gapless:
            return is_similar_mixture(mass_fractions, mixture)
        # a held-out mixture remains held out if a minor pigment is added
        return set(mixture) <= set(mass_fractions) and is_similar_mixture(
            mass_fractions, {pigment: mixture.get(pigment, 0.0) for pigment in mass_fractions}
        )

    def _draw_ground(self, rng: np.random.Generator) -> Layer:
        grounds = [
            (weight, dict(composition))
            for weight, composition in GROUNDS
            if all(pigment in library() for pigment in composition)
        ]
        ground_index = int(
            choose(rng, [str(index) for index in range(len(grounds))], [weight for weight, _ in grounds])
        )
        composition = grounds[ground_index][1]
        varied_composition = {
            pigment: fraction * float(rng.lognormal(0, 0.3)) for pigment, fraction in composition.items()
        }
        fraction_sum = sum(varied_composition.values())
        mass_fractions = {pigment: fraction / fraction_sum for pigment, fraction in varied_composition.items()}
        return self._make_layer(rng, mass_fractions, float(rng.uniform(*self._settings.ground_thickness_um)))

    def _make_layer(self, rng: np.random.Generator, mass_fractions: Mapping[str, float], thickness_um: float) -> Layer:
        pigment_to_binder = log_uniform(rng, *self._settings.pigment_to_binder)
        if self._settings.gapless:
            paint = Paint(
                dict(mass_fractions), pigment_to_binder=pigment_to_binder, binder=choose_weighted(rng, BINDERS)
            )
            return (
                _layer_with_bare_elements(rng, paint.layer(thickness_um))
                if self._settings.traces
                else paint.layer(thickness_um)
            )
        layer = Paint(dict(mass_fractions), pigment_to_binder=pigment_to_binder).layer(thickness_um)
        return _layer_with_traces(rng, layer) if self._settings.traces else layer


def is_similar_mixture(
    mass_fractions: Mapping[str, float], mixture: Mapping[str, float], tolerance: float = 0.15
) -> bool:
    """Return whether two dry mixtures have the same pigments, with mass fractions that agree within ``tolerance``."""
    return set(mass_fractions) == set(mixture) and all(
        abs(mass_fractions[pigment] - mixture[pigment]) < tolerance for pigment in mass_fractions
    )


def _pigments_by_group(palette: Sequence[str]) -> dict[str, list[str]]:
    pigments_by_group: dict[str, list[str]] = {}
    for pigment in palette:
        for group in library()[pigment].groups or ("blind",):
            pigments_by_group.setdefault(group, []).append(library()[pigment].name)
    return pigments_by_group


def _layer_with_traces(rng: np.random.Generator, layer: Layer) -> Layer:
    n_elements = int(rng.integers(0, 4))
    if n_elements == 0:
        return layer
    return _layer_with_elements(
        layer,
        {
            str(element): log_uniform(rng, 3e-5, 1e-2)
            for element in rng.choice(TRACE_ELEMENTS, size=n_elements, replace=False)
        },
    )


def _layer_with_bare_elements(rng: np.random.Generator, layer: Layer) -> Layer:
    """Add up to three elements to a layer, to imitate impurities, driers and dirt."""
    elements = sorted({*TRACE_ELEMENTS, *(group.element for group in library().groups)})
    chosen_elements = rng.choice(elements, size=int(rng.integers(0, 4)), replace=False)
    return _layer_with_elements(
        layer, {str(element): log_uniform(rng, MIN_MASS_FRACTION, MAX_BARE_FRACTION) for element in chosen_elements}
    )


def _layer_with_elements(layer: Layer, added_fractions: Mapping[str, float]) -> Layer:
    """Return a layer to which elements are added. The mass fractions of the added elements refer to the new layer."""
    remaining_fraction = 1.0 - sum(added_fractions.values())
    mass_fractions = {element: fraction * remaining_fraction for element, fraction in layer.mass_fractions.items()}
    for element, fraction in added_fractions.items():
        mass_fractions[element] = mass_fractions.get(element, 0.0) + fraction
    pigments = {pigment: fraction * remaining_fraction for pigment, fraction in layer.pigments.items()}
    return Layer(mass_fractions, layer.density, layer.thickness_um, layer.name, pigments)


def _draw_support(rng: np.random.Generator) -> list[Layer]:
    if rng.random() < 0.1:
        return []
    return [support_layer(SUPPORTS[int(rng.integers(len(SUPPORTS)))])]


def _draw_varied_support(rng: np.random.Generator) -> list[Layer]:
    """Return a random support. Thin supports also get a random backing."""
    support_name = choose_weighted(rng, VARIED_SUPPORTS)
    layers = [] if support_name == "none" else [support_layer(support_name)]
    if support_name in THIN_SUPPORTS:
        thickness_limits = {backing_name: limits_um for backing_name, _, limits_um in BACKINGS}
        backing = choose_weighted(rng, [(backing_name, weight) for backing_name, weight, _ in BACKINGS])
        if backing != "air":
            layers.append(support_layer(backing, log_uniform(rng, *thickness_limits[backing])))
    return layers
