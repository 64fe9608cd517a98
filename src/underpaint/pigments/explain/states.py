"""Stratigraphies as batches of arrays, and what is believed of them before a spectrum is seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from underpaint.errors import SampleError
from underpaint.physics.materials import Paint, Pigment, library
from underpaint.physics.materials.library import mix_elements
from underpaint.physics.materials.paint import DEFAULT_BINDER, components_of, named_row
from underpaint.pigments.explain.known import Known
from underpaint.units import CM_PER_UM

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]
Integers = NDArray[np.int64]
MOST_LAYERS = 3
LAYERS = np.arange(MOST_LAYERS)
P_LAYERS = (0.15, 0.50, 0.35)
"""Prior probability of one, two and three layers of paint."""
P_SPREAD = ((1.0,), (0.75, 0.25), (0.65, 0.28, 0.07))
"""Of one, two and three layers: prior probability that a group lies in one of them, in two, in all."""
MIXED = 0.5
"""Prior probability that a further group lies with the first where there is but one layer."""
THICKNESS_UM, GROUND_UM = (5.0, 400.0), (50.0, 500.0)
"""Logarithms are uniform between these."""
BINDER, GROUND_BINDER = (0.15, 0.40), (0.0, 0.25)
"""Mass share of the binder, uniform."""
SHARE_SIGMA, DENSITY_SIGMA = 1.5, 0.10
"""Standard deviations of the logarithms of a pigment's mass, and of a layer's density about volume additivity."""
MOST_MEMBERS = 8
"""Pigments of a group that are tried, in the library's order, the commonest first."""
TRACE = 0.05
"""Less than this share of a group's element in a layer does not count as lying there."""
LAYER_HEAD = 3
"""Coordinates of a layer ahead of its shares: thickness, density, binder."""


@dataclass
class States:
    """A batch of stratigraphies of paint over a ground.

    Every continuous quantity is a standard normal coordinate, so that the prior of ``x`` is the same everywhere and
    what a spectrum does not tell follows it.

    Parameters
    ----------
    n_layer : (n,) int array
    holds : (n, MOST_LAYERS, n_group) bool array
        Whether a group lies in a layer, 0 at the surface.
    member : (n, MOST_LAYERS, n_group) int array
        Which pigment of the group it is.
    x : (n, n_coordinate) array
        Layer after layer thickness, density, binder and the logarithms of the pigments' masses; then thickness and
        binder of the ground.
    """

    n_layer: Integers
    holds: Flags
    member: Integers
    x: Numbers

    def __len__(self) -> int:
        return len(self.n_layer)

    @property
    def n_group(self) -> int:
        """Columns of ``holds``."""
        return int(self.holds.shape[2])

    @property
    def layers(self) -> Numbers:
        """(n, MOST_LAYERS, 3 + n_group) view of the coordinates that belong to layers."""
        return self.x[:, :-2].reshape(len(self), MOST_LAYERS, LAYER_HEAD + self.n_group)

    def rows(self, index: NDArray[np.integer] | list[int]) -> "States":
        """Return copies of some states."""
        return States(self.n_layer[index], self.holds[index], self.member[index], self.x[index])

    @property
    def arrays(self) -> tuple[Integers, Flags, Integers, Numbers]:
        """The arrays in the order of the parameters."""
        return self.n_layer, self.holds, self.member, self.x

    def replace(self, rows: NDArray[np.integer], other: "States", picked: NDArray[np.integer]) -> None:
        """Put some states of another batch in place of some of these."""
        for mine, new in zip(self.arrays, other.arrays, strict=True):
            mine[rows] = new[picked]

    def permute_layers(self, row: int, order: Sequence[int]) -> None:
        """Put the layers of one state into another order."""
        self.holds[row], self.member[row] = self.holds[row, order], self.member[row, order]
        layers = self.layers[row]
        layers[:] = layers[order]

    def active(self) -> Flags:
        """Return (n, n_coordinate) which coordinates act: shares only where a layer holds several pigments."""
        there = (self.n_layer[:, None] > LAYERS)[..., None]
        several = self.holds.sum(axis=2, keepdims=True) > 1
        head = np.broadcast_to(there, (len(self), MOST_LAYERS, LAYER_HEAD))
        layered = np.concatenate([head, self.holds & there & several], axis=2).reshape(len(self), -1)
        return np.concatenate([layered, np.ones((len(self), 2), dtype=np.bool_)], axis=1)

    def structures(self) -> list[bytes]:
        """Return what tells which group lies where, for comparison."""
        return [holds.tobytes() for holds in self.holds]

    def compositions(self) -> list[bytes]:
        """Return what tells which pigment lies where, for comparison."""
        return [row.tobytes() for row in np.where(self.holds, self.member + 1, 0).astype(np.int16)]


def joined(parts: Sequence[States]) -> States:
    """Return the states of several batches in one."""
    return States(*(np.concatenate(arrays) for arrays in zip(*(part.arrays for part in parts), strict=True)))


def log_prior_of_x(states: States, active: Flags) -> Numbers:
    """Return (n,) log density of the coordinates that act, but for the normal's constant."""
    return np.asarray(-0.5 * np.where(active, states.x**2, 0.0).sum(axis=1))


@dataclass(frozen=True)
class Physical:
    """States in physical units.

    Parameters
    ----------
    thickness_um : (n, MOST_LAYERS) array
        NaN in layers that do not exist.
    share : (n, MOST_LAYERS, n_group) array
        Of the mass of the layer's dry pigments.
    density_factor, binder : (n, MOST_LAYERS) arrays
        Over volume additivity; mass share.
    ground_um, ground_binder : (n,) arrays
    """

    thickness_um: Numbers
    share: Numbers
    density_factor: Numbers
    binder: Numbers
    ground_um: Numbers
    ground_binder: Numbers


class PaintPrior:
    """What may lie under a spectrum.

    One to three layers of paint lie over a ground. Each group lies in one layer, two or three (repeats are allowed);
    neighbouring layers do not hold the same groups.

    Parameters
    ----------
    groups : sequence of str
        Pigment groups of the library.
    ground : str
        Name of the ground of the library.
    absent : sequence of float, optional
        Prior probability of each group not to be there at all; zero by default.
    pigments : mapping of str to sequence of str, optional
        The pigments of a group that are possible, where that is known.
    known : Known, optional
        What another method has shown of order and thickness; groups of its order are among ``groups``.

    Raises
    ------
    SampleError
        No group, or an unknown group or ground.
    """

    def __init__(
        self,
        groups: Sequence[str],
        ground: str = "chalk",
        absent: Sequence[float] | None = None,
        pigments: Mapping[str, Sequence[str]] | None = None,
        known: Known | None = None,
    ) -> None:
        if not groups:
            raise SampleError("Cannot explain a spectrum without a pigment group: give at least one.")
        self.groups = tuple(groups)
        self.ground = ground
        self.absent = np.zeros(len(groups)) if absent is None else np.asarray(absent, dtype=np.float64)
        self.members = tuple(_members(group, set(groups), (pigments or {}).get(group, ())) for group in groups)
        self.order = () if known is None else tuple(self.groups.index(name) for name in known.order)
        top_um = None if known is None else known.thickness_um
        self.log_um = np.log([top_um or THICKNESS_UM, *(THICKNESS_UM,) * (MOST_LAYERS - 1)])
        self.n_coordinate = MOST_LAYERS * (LAYER_HEAD + len(groups)) + 2
        self._log_members = np.log([len(pigments) for pigments in self.members])
        self._log_spread = self._spread_table()
        self._tabulate()

    def _spread_table(self) -> Numbers:
        """Return (MOST_LAYERS, n_group, MOST_LAYERS + 1) log prior of a group in so many layers of so many."""
        table = np.full((MOST_LAYERS, len(self.groups), MOST_LAYERS + 1), -np.inf)
        with np.errstate(divide="ignore"):
            table[:, :, 0] = np.log(self.absent)
        for n_layer, chances in enumerate(P_SPREAD, start=1):
            for spread, chance in enumerate(chances, start=1):
                table[n_layer - 1, :, spread] = np.log1p(-self.absent) + np.log(chance / comb(n_layer, spread))
        return table

    def _tabulate(self) -> None:
        """Fill the tables of compositions and densities."""
        oil = named_row("binder", DEFAULT_BINDER)
        oil_fractions = mix_elements(components_of(oil))
        row = named_row("ground", self.ground)
        ground = Paint(row["pigments"], pigment_to_binder=np.inf).layer(1.0)
        pigments = [pigment for members in self.members for pigment in members]
        known = [oil_fractions, ground.mass_fractions, *(pigment.mass_fractions for pigment in pigments)]
        self.elements = tuple(sorted({element for fractions in known for element in fractions}))
        vector = {name: index for index, name in enumerate(self.elements)}
        most = max(map(len, self.members))
        self.composition = np.zeros((len(self.groups), most, len(self.elements)))
        self.density = np.ones((len(self.groups), most))
        for group, members in enumerate(self.members):
            for index, pigment in enumerate(members):
                self.density[group, index] = pigment.density
                for element, fraction in pigment.mass_fractions.items():
                    self.composition[group, index, vector[element]] = fraction
        self.carries = np.zeros((len(self.groups), most, len(self.groups)))
        for group, members in enumerate(self.members):
            for index, pigment in enumerate(members):
                self.carries[group, index] = [name in pigment.groups for name in self.groups]
        self.key_element = np.asarray([vector[library().group(name).element] for name in self.groups])
        self.oil = np.asarray([oil_fractions.get(name, 0.0) for name in self.elements])
        self.oil_density = float(oil["density"])
        self.ground_fractions = np.asarray([ground.mass_fractions.get(name, 0.0) for name in self.elements])
        self.ground_density = ground.density

    def is_valid(self, states: States) -> Flags:
        """Return (n,) whether no layer is empty, no neighbours hold the same, and what must be is there, in order."""
        there = states.n_layer[:, None] > LAYERS
        filled = (states.holds.any(axis=2) == there).all(axis=1)
        same = (states.holds[:, 1:] == states.holds[:, :-1]).all(axis=2) & there[:, 1:]
        missing = ~states.holds.any(axis=1) & (self.absent == 0)
        uppermost = np.where(states.holds.any(axis=1), states.holds.argmax(axis=1), MOST_LAYERS)[:, self.order]
        ordered = (np.diff(uppermost, axis=1) > 0).all(axis=1)
        return np.asarray(filled & ~same.any(axis=1) & ~missing.any(axis=1) & ordered)

    def log_layout(self, states: States) -> Numbers:
        """Return (n,) log prior of the number of layers and of which groups lie where; minus infinity if invalid."""
        spread = states.holds.sum(axis=1)
        log_spread = self._log_spread[states.n_layer[:, None] - 1, np.arange(len(self.groups)), spread].sum(axis=1)
        mixed = np.where(states.n_layer == 1, np.log(MIXED) * ((spread > 0).sum(axis=1) - 1), 0.0)
        # with one layer, MIXED stands for its prior, too: all lie together by chance
        number = np.where(states.n_layer == 1, 0.0, np.log(P_LAYERS)[states.n_layer - 1])
        return np.where(self.is_valid(states), number + mixed + log_spread, -np.inf)

    def log_discrete(self, states: States) -> Numbers:
        """Return (n,) log prior of all that is not continuous: the layout and the members."""
        return np.asarray(self.log_layout(states) - (states.holds * self._log_members).sum(axis=(1, 2)))

    def draw(self, n: int, rng: np.random.Generator) -> States:
        """Draw states of the prior."""
        parts, count = [], 0
        while count < n:
            states = self._proposed(2 * n, rng)
            parts.append(states.rows(np.flatnonzero(self.is_valid(states))))
            count += len(parts[-1])
        return joined(parts).rows(np.arange(n))

    def _proposed(self, n: int, rng: np.random.Generator) -> States:
        """Draw states, invalid ones among them."""
        shape = (n, MOST_LAYERS, len(self.groups))
        n_layer = rng.choice(MOST_LAYERS, n, p=P_LAYERS) + 1
        spread = np.stack([rng.choice(np.arange(1, len(chances) + 1), shape[::2], p=chances) for chances in P_SPREAD])
        spread = spread[n_layer - 1, np.arange(n)] * (rng.random(shape[::2]) >= self.absent)
        # the layers that a group lies in are those of the smallest of random numbers
        keys = np.where((n_layer[:, None] > LAYERS)[..., None], rng.random(shape), 2.0)
        holds = keys.argsort(axis=1).argsort(axis=1) < spread[:, None]
        return States(n_layer, holds, self.draw_members(n, rng), rng.normal(size=(n, self.n_coordinate)))

    def draw_members(self, n: int, rng: np.random.Generator) -> Integers:
        """Draw (n, MOST_LAYERS, n_group) members."""
        counts = np.asarray([len(members) for members in self.members])
        return rng.integers(counts, size=(n, MOST_LAYERS, len(self.groups)))

    def physical(self, states: States) -> Physical:
        """Return states in physical units."""
        layers = states.layers
        there = states.n_layer[:, None] > LAYERS
        log_share = np.clip(SHARE_SIGMA * layers[..., LAYER_HEAD:], -12.0, 12.0)
        mass = np.where(states.holds, np.exp(log_share), 0.0)
        return Physical(
            np.where(there, np.exp(uniform(layers[..., 0], (self.log_um[:, 0], self.log_um[:, 1]))), np.nan),
            mass / np.maximum(mass.sum(axis=2, keepdims=True), 1e-30),
            np.exp(DENSITY_SIGMA * layers[..., 1]),
            uniform(layers[..., 2], BINDER),
            log_uniform(states.x[:, -2], GROUND_UM),
            uniform(states.x[:, -1], GROUND_BINDER),
        )

    def stack(self, states: States) -> tuple[Numbers, Numbers]:
        """Return (n, MOST_LAYERS + 1, n_element) mass fractions and (n, MOST_LAYERS + 1) areal densities, g/cm2."""
        physical, n = self.physical(states), len(states)
        column, there = np.arange(len(self.groups)), states.n_layer[:, None] > LAYERS
        binder = physical.binder[..., None]
        pigment = np.einsum("nlg,nlge->nle", physical.share, self.composition[column, states.member])
        volume = (physical.share / self.density[column, states.member]).sum(axis=2) * (1.0 - physical.binder)
        density = physical.density_factor / (volume + physical.binder / self.oil_density)
        fractions = np.zeros((n, MOST_LAYERS + 1, len(self.elements)))
        areal = np.zeros((n, MOST_LAYERS + 1))
        fractions[:, :-1] = np.where(there[..., None], pigment * (1.0 - binder) + binder * self.oil, 0.0)
        areal[:, :-1] = np.where(there, density * np.nan_to_num(physical.thickness_um) * CM_PER_UM, 0.0)
        below, oil = (np.arange(n), states.n_layer), physical.ground_binder
        fractions[below] = self.ground_fractions * (1.0 - oil[:, None]) + oil[:, None] * self.oil
        ground_density = 1.0 / ((1.0 - oil) / self.ground_density + oil / self.oil_density)
        areal[below] = ground_density * physical.ground_um * CM_PER_UM
        return fractions, areal

    def masses(self, states: States) -> Numbers:
        """Return (n, MOST_LAYERS, n_group) areal density, g/cm2, of each group's element in each layer of paint."""
        fractions, areal = self.stack(states)
        there = states.n_layer[:, None] > LAYERS
        return np.asarray(fractions[:, :-1, self.key_element] * (areal[:, :-1] * there)[..., None])

    def top_layer(self, states: States) -> Integers:
        """Return (n, n_group) the uppermost layer that holds more than a trace of each group; MOST_LAYERS: none."""
        masses = self.masses(states)
        counts = masses > TRACE * masses.sum(axis=1, keepdims=True)
        return np.asarray(np.where(counts.any(axis=1), counts.argmax(axis=1), MOST_LAYERS))

    def keep_mass(self, old: States, new: States, row: int, layer: int, group: int) -> float:
        """Give a layer with another member of a group the old mass of the group's element.

        The member's share and the layer's thickness are moved in ``new``; returned is the log ratio of the priors of
        what was moved (the logarithm of the thickness is uniform and is only shifted), minus infinity where the
        thickness would leave its range.
        """
        holds = old.holds[row, layer]
        before, after = old.member[row, layer], new.member[row, layer]
        if not holds[group] or before[group] == after[group]:
            return 0.0
        ratio = 0.0
        coordinates, element = new.layers[row, layer], self.key_element[group]
        rich = self.composition[group, :, element]
        mass_before = self._mass_per_um(old, row, layer, group)
        if holds.sum() > 1:
            share = LAYER_HEAD + group
            moved = coordinates[share] + np.log(rich[before[group]] / rich[after[group]]) / SHARE_SIGMA
            ratio = 0.5 * float(coordinates[share] ** 2 - moved**2)
            coordinates[share] = moved
        low, high = self.log_um[layer]
        scaled = ndtr(coordinates[0]) + np.log(mass_before / self._mass_per_um(new, row, layer, group)) / (high - low)
        if not 1e-6 < scaled < 1.0 - 1e-6:
            return -np.inf
        coordinates[0] = ndtri(scaled)
        return ratio

    def _mass_per_um(self, states: States, row: int, layer: int, group: int) -> float:
        """Return a group's element by volume of a layer, in some unit."""
        column, member, coordinates = np.arange(len(self.groups)), states.member[row, layer], states.layers[row, layer]
        share = np.where(states.holds[row, layer], np.exp(SHARE_SIGMA * coordinates[LAYER_HEAD:]), 0.0)
        share /= share.sum()
        binder = float(uniform(coordinates[2], BINDER))
        volume = (share / self.density[column, member]).sum() * (1.0 - binder) + binder / self.oil_density
        return float(share[group] * self.composition[group, member[group], self.key_element[group]] / volume)


def uniform(x: Numbers, bounds: tuple[float | Numbers, float | Numbers]) -> Numbers:
    """Return what is uniform between two bounds from a standard normal."""
    return np.asarray(bounds[0] + (bounds[1] - bounds[0]) * ndtr(x))


def log_uniform(x: Numbers, bounds: tuple[float, float]) -> Numbers:
    """Return what has a uniform logarithm between two bounds from a standard normal."""
    return np.exp(uniform(x, (float(np.log(bounds[0])), float(np.log(bounds[1])))))


def _members(group: str, groups: set[str], known: Sequence[str]) -> tuple[Pigment, ...]:
    """Return the known pigments of a group, else those that bring no other group than the given ones, else all."""
    if known:
        return tuple(library()[name] for name in known)
    every = library().members(group)
    fitting = [pigment for pigment in every if set(pigment.groups) <= groups]
    return tuple((fitting or list(every))[:MOST_MEMBERS])
