"""Random paintings: stratigraphies as easel paintings of five centuries have them."""

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from underpaint.physics.materials import Layer, Paint, Stratigraphy, library, support_layer
from underpaint.simulate.randomise import choose, log_uniform
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
"""Weight and dry composition of the grounds that are drawn; the shares are then scattered."""

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
"""Impurities, driers and dirt: present without their pigment, so they are never labels."""

SUPPORTS = ("canvas", "canvas", "wood", "paper")


class RandomStratigraphies(BaseModel):
    """How random stratigraphies are drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    palette: tuple[str, ...] = Field(description="pigment names to draw from")
    max_paint_layers: int = Field(3, ge=1, le=6)
    max_pigments_per_layer: int = Field(4, ge=1, le=8)
    thickness_um: tuple[float, float] = Field((5.0, 200.0), description="range, log-uniform, um")
    ground_thickness_um: tuple[float, float] = (40.0, 300.0)
    pigment_to_binder: tuple[float, float] = Field((1.0, 6.0), description="range, log-uniform")
    traces: bool = Field(True, description="add impurities of 30 ppm to 1 % of unlabelled elements")
    exclude_paper_mixtures: bool = Field(
        True, description="refuse paints with the pigment set of a Table 2 mixture within 15 wt% of it"
    )


class StratigraphySampler:
    """Draws stratigraphies; one instance serves any number of generators."""

    def __init__(self, settings: RandomStratigraphies) -> None:
        self._settings = settings
        self._by_group = _by_group(settings.palette)
        self._held_out = list(paper_mixtures().values()) if settings.exclude_paper_mixtures else []

    def draw(self, rng: np.random.Generator) -> Stratigraphy:
        """Draw one to three paint layers over a ground over a support."""
        settings = self._settings
        n_layer = int(rng.integers(1, settings.max_paint_layers + 1))
        paints = [self._paint_layer(rng) for _ in range(n_layer)]
        layers = [*paints, self._ground(rng), *_support(rng)]
        return Stratigraphy(tuple(layers))

    def _paint_layer(self, rng: np.random.Generator) -> Layer:
        while True:
            shares = self._shares(rng)
            if not any(too_close(shares, mixture) for mixture in self._held_out):
                return self._layer(rng, shares, log_uniform(rng, *self._settings.thickness_um))

    def _shares(self, rng: np.random.Generator) -> dict[str, float]:
        count = int(rng.integers(1, self._settings.max_pigments_per_layer + 1))
        names = list(self._by_group)
        picked: dict[str, float] = {}
        while len(picked) < count:
            # a group first and then one of its members, so that well-stocked groups do not crowd out the others
            members = self._by_group[names[int(rng.integers(len(names)))]]
            picked[members[int(rng.integers(len(members)))]] = 0.0
            count = min(count, len(self._settings.palette))
        # a concentration under one gives dominant and minor pigments, down to a few per mille
        weights = rng.dirichlet(np.full(len(picked), 0.8)) * 0.98 + 0.02 / len(picked)
        return {name: float(weight) for name, weight in zip(picked, weights, strict=True)}

    def _ground(self, rng: np.random.Generator) -> Layer:
        known = [(weight, dict(dry)) for weight, dry in GROUNDS if all(name in library() for name in dry)]
        picked = int(choose(rng, [str(index) for index in range(len(known))], [weight for weight, _ in known]))
        dry = known[picked][1]
        scattered = {name: share * float(rng.lognormal(0, 0.3)) for name, share in dry.items()}
        total = sum(scattered.values())
        shares = {name: share / total for name, share in scattered.items()}
        return self._layer(rng, shares, float(rng.uniform(*self._settings.ground_thickness_um)))

    def _layer(self, rng: np.random.Generator, shares: Mapping[str, float], thickness_um: float) -> Layer:
        ratio = log_uniform(rng, *self._settings.pigment_to_binder)
        layer = Paint(dict(shares), pigment_to_binder=ratio).layer(thickness_um)
        return _with_traces(rng, layer) if self._settings.traces else layer


def too_close(shares: Mapping[str, float], mixture: Mapping[str, float], tolerance: float = 0.15) -> bool:
    """Tell whether two dry mixtures hold the same pigments with every share within ``tolerance`` (mass)."""
    return set(shares) == set(mixture) and all(abs(shares[name] - mixture[name]) < tolerance for name in shares)


def _by_group(palette: Sequence[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in palette:
        for group in library()[name].groups or ("blind",):
            groups.setdefault(group, []).append(library()[name].name)
    return groups


def _with_traces(rng: np.random.Generator, layer: Layer) -> Layer:
    count = int(rng.integers(0, 4))
    if count == 0:
        return layer
    traces = {
        str(element): log_uniform(rng, 3e-5, 1e-2) for element in rng.choice(TRACE_ELEMENTS, size=count, replace=False)
    }
    scale = 1.0 - sum(traces.values())
    fractions = {element: fraction * scale for element, fraction in layer.mass_fractions.items()}
    for element, fraction in traces.items():
        fractions[element] = fractions.get(element, 0.0) + fraction
    pigments = {name: fraction * scale for name, fraction in layer.pigments.items()}
    return Layer(fractions, layer.density, layer.thickness_um, layer.name, pigments)


def _support(rng: np.random.Generator) -> list[Layer]:
    if rng.random() < 0.1:
        return []
    return [support_layer(SUPPORTS[int(rng.integers(len(SUPPORTS)))])]
