"""Batches of stratigraphies as arrays, and their prior."""

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

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
MAX_LAYERS = 3
LAYERS = np.arange(MAX_LAYERS)
P_LAYERS = (0.15, 0.50, 0.35)
"""Prior probability of one, two and three layers of paint."""
P_SPREAD = ((1.0,), (0.75, 0.25), (0.65, 0.28, 0.07))
"""Prior probability that a group is in one, two or three layers, for stratigraphies of one, two and three layers."""
P_MIXED = 0.5
"""Prior probability that another group is mixed with the first, in stratigraphies of one layer."""
THICKNESS_RANGE_UM, GROUND_RANGE_UM = (5.0, 400.0), (50.0, 500.0)
"""Ranges of the thickness, with uniform logarithm."""
BINDER_RANGE, GROUND_BINDER_RANGE = (0.15, 0.40), (0.0, 0.25)
"""Ranges of the mass fraction of binder, with uniform prior."""
SHARE_SIGMA, DENSITY_SIGMA = 1.5, 0.10
"""Standard deviations of the logarithms of a pigment's mass, and of a layer's density about volume additivity."""
MAX_MEMBERS = 8
"""Maximum number of pigments of a group that are considered, in the order of the library."""
MAX_TRACE_FRACTION = 0.05
"""Maximum fraction of a group's element in a layer that counts as a trace."""
N_LAYER_COORDINATES = 3
"""Number of coordinates of a layer before the shares: thickness, density, binder."""


@dataclass
class States:
    """A batch of stratigraphies of paint over a ground.

    Every continuous quantity is represented by a coordinate with a standard normal prior.

    Parameters
    ----------
    n_layer : (n,) int array
    holds : (n, MAX_LAYERS, n_group) bool array
        Whether a group lies in a layer, 0 at the surface.
    member : (n, MAX_LAYERS, n_group) int array
        Index of the pigment within the group.
    x : (n, n_coordinate) array
        Coordinates: thickness, density, binder and logarithms of the pigments' masses for each layer, then thickness
        and binder of the ground.
    """

    n_layer: IntArray
    holds: BoolArray
    member: IntArray
    x: FloatArray

    def __len__(self) -> int:
        return len(self.n_layer)

    @property
    def n_group(self) -> int:
        """Number of groups."""
        return int(self.holds.shape[2])

    @property
    def layers(self) -> FloatArray:
        """(n, MAX_LAYERS, 3 + n_group) view of the coordinates of the layers of paint."""
        return self.x[:, :-2].reshape(len(self), MAX_LAYERS, N_LAYER_COORDINATES + self.n_group)

    def rows(self, index: NDArray[np.integer] | list[int]) -> "States":
        """Return copies of some states."""
        return States(self.n_layer[index], self.holds[index], self.member[index], self.x[index])

    @property
    def arrays(self) -> tuple[IntArray, BoolArray, IntArray, FloatArray]:
        """The arrays in the order of the parameters."""
        return self.n_layer, self.holds, self.member, self.x

    def replace(self, rows: NDArray[np.integer], other: "States", other_rows: NDArray[np.integer]) -> None:
        """Replace some states by states of another batch."""
        for old_array, new_array in zip(self.arrays, other.arrays, strict=True):
            old_array[rows] = new_array[other_rows]

    def permute_layers(self, row: int, order: Sequence[int]) -> None:
        """Put the layers of one state into another order."""
        self.holds[row], self.member[row] = self.holds[row, order], self.member[row, order]
        layers = self.layers[row]
        layers[:] = layers[order]

    def active(self) -> BoolArray:
        """Return a boolean (n, n_coordinate) array, true for active coordinates; shares need several pigments."""
        exists = (self.n_layer[:, None] > LAYERS)[..., None]
        holds_several = self.holds.sum(axis=2, keepdims=True) > 1
        layer_part = np.broadcast_to(exists, (len(self), MAX_LAYERS, N_LAYER_COORDINATES))
        layered = np.concatenate([layer_part, self.holds & exists & holds_several], axis=2).reshape(len(self), -1)
        return np.concatenate([layered, np.ones((len(self), 2), dtype=np.bool_)], axis=1)

    def structures(self) -> list[bytes]:
        """Return a key of the groups in each layer, for comparison."""
        return [holds.tobytes() for holds in self.holds]

    def compositions(self) -> list[bytes]:
        """Return a key of the pigments in each layer, for comparison."""
        return [row.tobytes() for row in np.where(self.holds, self.member + 1, 0).astype(np.int16)]


def concatenate_states(parts: Sequence[States]) -> States:
    """Concatenate several batches of states."""
    return States(*(np.concatenate(arrays) for arrays in zip(*(part.arrays for part in parts), strict=True)))


def log_prior_of_x(states: States, active: BoolArray) -> FloatArray:
    """Return the (n,) log density of the active coordinates, without the constant of the normal distribution."""
    return np.asarray(-0.5 * np.where(active, states.x**2, 0.0).sum(axis=1))


@dataclass(frozen=True)
class Physical:
    """States in physical units.

    Parameters
    ----------
    thickness_um : (n, MAX_LAYERS) array
        NaN in layers that do not exist.
    share : (n, MAX_LAYERS, n_group) array
        Mass fraction of each group in the dry pigments of the layer.
    density_factor : (n, MAX_LAYERS) array
        Ratio of the density to that of volume additivity.
    binder : (n, MAX_LAYERS) array
        Mass fraction of the binder.
    ground_um, ground_binder : (n,) arrays
        Thickness of the ground, and mass fraction of its binder.
    """

    thickness_um: FloatArray
    share: FloatArray
    density_factor: FloatArray
    binder: FloatArray
    ground_um: FloatArray
    ground_binder: FloatArray


class PaintPrior:
    """Prior of the layers of paint.

    One to three layers of paint are on a ground. Each group is in one, two or three layers; neighbouring layers do not
    contain the same groups.

    Parameters
    ----------
    groups : sequence of str
        Pigment groups of the library.
    ground : str
        Name of the ground of the library.
    absent : sequence of float, optional
        Prior probability that each group is absent; zero by default.
    pigments : mapping of str to sequence of str, optional
        Possible pigments of a group, if restricted.
    known : Known, optional
        Order and thickness from another method; the groups of its order are among ``groups``.

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
        self.log_um = np.log([top_um or THICKNESS_RANGE_UM, *(THICKNESS_RANGE_UM,) * (MAX_LAYERS - 1)])
        self.n_coordinate = MAX_LAYERS * (N_LAYER_COORDINATES + len(groups)) + 2
        self._log_members = np.log([len(pigments) for pigments in self.members])
        self._log_spread = self._spread_table()
        self._tabulate()

    def _spread_table(self) -> FloatArray:
        """Return the (MAX_LAYERS, n_group, MAX_LAYERS + 1) log prior.

        Axes: number of layers minus one, group, and number of layers that contain the group.
        """
        table = np.full((MAX_LAYERS, len(self.groups), MAX_LAYERS + 1), -np.inf)
        with np.errstate(divide="ignore"):
            table[:, :, 0] = np.log(self.absent)
        for n_layer, probabilities in enumerate(P_SPREAD, start=1):
            for spread, probability in enumerate(probabilities, start=1):
                table[n_layer - 1, :, spread] = np.log1p(-self.absent) + np.log(probability / comb(n_layer, spread))
        return table

    def _tabulate(self) -> None:
        """Compute the tables of compositions and densities."""
        oil = named_row("binder", DEFAULT_BINDER)
        oil_fractions = mix_elements(components_of(oil))
        row = named_row("ground", self.ground)
        ground = Paint(row["pigments"], pigment_to_binder=np.inf).layer(1.0)
        pigments = [pigment for members in self.members for pigment in members]
        compositions = [oil_fractions, ground.mass_fractions, *(pigment.mass_fractions for pigment in pigments)]
        self.elements = tuple(sorted({element for fractions in compositions for element in fractions}))
        element_index = {name: index for index, name in enumerate(self.elements)}
        max_members = max(map(len, self.members))
        self.composition = np.zeros((len(self.groups), max_members, len(self.elements)))
        self.density = np.ones((len(self.groups), max_members))
        for group, members in enumerate(self.members):
            for index, pigment in enumerate(members):
                self.density[group, index] = pigment.density
                for element, fraction in pigment.mass_fractions.items():
                    self.composition[group, index, element_index[element]] = fraction
        self.carries = np.zeros((len(self.groups), max_members, len(self.groups)))
        for group, members in enumerate(self.members):
            for index, pigment in enumerate(members):
                self.carries[group, index] = [name in pigment.groups for name in self.groups]
        self.key_element = np.asarray([element_index[library().group(name).element] for name in self.groups])
        self.oil = np.asarray([oil_fractions.get(name, 0.0) for name in self.elements])
        self.oil_density = float(oil["density"])
        self.ground_fractions = np.asarray([ground.mass_fractions.get(name, 0.0) for name in self.elements])
        self.ground_density = ground.density

    def is_valid(self, states: States) -> BoolArray:
        """Return a boolean (n,) array, true for valid states.

        In a valid state no layer is empty, neighbouring layers hold different groups, every required group is present,
        and groups of a known order are in that order.
        """
        exists = states.n_layer[:, None] > LAYERS
        filled = (states.holds.any(axis=2) == exists).all(axis=1)
        is_same = (states.holds[:, 1:] == states.holds[:, :-1]).all(axis=2) & exists[:, 1:]
        missing = ~states.holds.any(axis=1) & (self.absent == 0)
        uppermost = np.where(states.holds.any(axis=1), states.holds.argmax(axis=1), MAX_LAYERS)[:, self.order]
        is_ordered = (np.diff(uppermost, axis=1) > 0).all(axis=1)
        return np.asarray(filled & ~is_same.any(axis=1) & ~missing.any(axis=1) & is_ordered)

    def log_layout(self, states: States) -> FloatArray:
        """Return the (n,) log prior of the number of layers and of the groups in each; minus infinity if invalid."""
        spread = states.holds.sum(axis=1)
        log_spread = self._log_spread[states.n_layer[:, None] - 1, np.arange(len(self.groups)), spread].sum(axis=1)
        mixed_term = np.where(states.n_layer == 1, np.log(P_MIXED) * ((spread > 0).sum(axis=1) - 1), 0.0)
        # for one layer, P_MIXED includes the prior of the number of layers
        number_term = np.where(states.n_layer == 1, 0.0, np.log(P_LAYERS)[states.n_layer - 1])
        return np.where(self.is_valid(states), number_term + mixed_term + log_spread, -np.inf)

    def log_discrete(self, states: States) -> FloatArray:
        """Return the (n,) log prior of the discrete quantities: groups in each layer, and their members."""
        return np.asarray(self.log_layout(states) - (states.holds * self._log_members).sum(axis=(1, 2)))

    def draw(self, n: int, rng: np.random.Generator) -> States:
        """Draw states from the prior."""
        batches, n_drawn = [], 0
        while n_drawn < n:
            states = self._draw_with_invalid(2 * n, rng)
            batches.append(states.rows(np.flatnonzero(self.is_valid(states))))
            n_drawn += len(batches[-1])
        return concatenate_states(batches).rows(np.arange(n))

    def _draw_with_invalid(self, n: int, rng: np.random.Generator) -> States:
        """Draw states, of which some may be invalid."""
        shape = (n, MAX_LAYERS, len(self.groups))
        n_layer = rng.choice(MAX_LAYERS, n, p=P_LAYERS) + 1
        spread = np.stack([rng.choice(np.arange(1, len(chances) + 1), shape[::2], p=chances) for chances in P_SPREAD])
        spread = spread[n_layer - 1, np.arange(n)] * (rng.random(shape[::2]) >= self.absent)
        # a group is in the layers with its smallest random keys
        random_keys = np.where((n_layer[:, None] > LAYERS)[..., None], rng.random(shape), 2.0)
        holds = random_keys.argsort(axis=1).argsort(axis=1) < spread[:, None]
        return States(n_layer, holds, self.draw_members(n, rng), rng.normal(size=(n, self.n_coordinate)))

    def draw_members(self, n: int, rng: np.random.Generator) -> IntArray:
        """Draw (n, MAX_LAYERS, n_group) members."""
        counts = np.asarray([len(members) for members in self.members])
        return rng.integers(counts, size=(n, MAX_LAYERS, len(self.groups)))

    def physical(self, states: States) -> Physical:
        """Return states in physical units."""
        layers = states.layers
        exists = states.n_layer[:, None] > LAYERS
        log_share = np.clip(SHARE_SIGMA * layers[..., N_LAYER_COORDINATES:], -12.0, 12.0)
        mass = np.where(states.holds, np.exp(log_share), 0.0)
        return Physical(
            np.where(exists, np.exp(uniform(layers[..., 0], (self.log_um[:, 0], self.log_um[:, 1]))), np.nan),
            mass / np.maximum(mass.sum(axis=2, keepdims=True), 1e-30),
            np.exp(DENSITY_SIGMA * layers[..., 1]),
            uniform(layers[..., 2], BINDER_RANGE),
            log_uniform(states.x[:, -2], GROUND_RANGE_UM),
            uniform(states.x[:, -1], GROUND_BINDER_RANGE),
        )

    def stack(self, states: States) -> tuple[FloatArray, FloatArray]:
        """Return (n, MAX_LAYERS + 1, n_element) mass fractions and (n, MAX_LAYERS + 1) areal densities, in g/cm2."""
        physical, n = self.physical(states), len(states)
        column, exists = np.arange(len(self.groups)), states.n_layer[:, None] > LAYERS
        binder = physical.binder[..., None]
        pigment = np.einsum("nlg,nlge->nle", physical.share, self.composition[column, states.member])
        volume = (physical.share / self.density[column, states.member]).sum(axis=2) * (1.0 - physical.binder)
        density = physical.density_factor / (volume + physical.binder / self.oil_density)
        fractions = np.zeros((n, MAX_LAYERS + 1, len(self.elements)))
        areal_density = np.zeros((n, MAX_LAYERS + 1))
        fractions[:, :-1] = np.where(exists[..., None], pigment * (1.0 - binder) + binder * self.oil, 0.0)
        areal_density[:, :-1] = np.where(exists, density * np.nan_to_num(physical.thickness_um) * CM_PER_UM, 0.0)
        ground_index, oil_fraction = (np.arange(n), states.n_layer), physical.ground_binder
        fractions[ground_index] = (
            self.ground_fractions * (1.0 - oil_fraction[:, None]) + oil_fraction[:, None] * self.oil
        )
        ground_density = 1.0 / ((1.0 - oil_fraction) / self.ground_density + oil_fraction / self.oil_density)
        areal_density[ground_index] = ground_density * physical.ground_um * CM_PER_UM
        return fractions, areal_density

    def masses(self, states: States) -> FloatArray:
        """Return the (n, MAX_LAYERS, n_group) areal densities in g/cm2 of the groups' elements in each paint layer."""
        fractions, areal_density = self.stack(states)
        exists = states.n_layer[:, None] > LAYERS
        return np.asarray(fractions[:, :-1, self.key_element] * (areal_density[:, :-1] * exists)[..., None])

    def top_layer(self, states: States) -> IntArray:
        """Return the (n, n_group) uppermost layer with more than a trace of each group; MAX_LAYERS without one."""
        masses = self.masses(states)
        is_present = masses > MAX_TRACE_FRACTION * masses.sum(axis=1, keepdims=True)
        return np.asarray(np.where(is_present.any(axis=1), is_present.argmax(axis=1), MAX_LAYERS))

    def keep_mass(self, old: States, new: States, row: int, layer: int, group: int) -> float:
        """Keep the mass of a group's element in a layer in which the group's member was replaced.

        The share of the member and the thickness of the layer are adjusted in ``new``. Returned is the log ratio of the
        priors of the adjusted quantities (the logarithm of the thickness has a uniform prior); minus infinity if the
        thickness would leave its range.
        """
        holds = old.holds[row, layer]
        before, after = old.member[row, layer], new.member[row, layer]
        if not holds[group] or before[group] == after[group]:
            return 0.0
        log_prior_ratio = 0.0
        coordinates, element = new.layers[row, layer], self.key_element[group]
        element_fraction = self.composition[group, :, element]
        mass_before = self._mass_per_um(old, row, layer, group)
        if holds.sum() > 1:
            share_index = N_LAYER_COORDINATES + group
            log_ratio = np.log(element_fraction[before[group]] / element_fraction[after[group]])
            adjusted_share = coordinates[share_index] + log_ratio / SHARE_SIGMA
            log_prior_ratio = 0.5 * float(coordinates[share_index] ** 2 - adjusted_share**2)
            coordinates[share_index] = adjusted_share
        low, high = self.log_um[layer]
        mass_ratio = mass_before / self._mass_per_um(new, row, layer, group)
        quantile = ndtr(coordinates[0]) + np.log(mass_ratio) / (high - low)
        if not 1e-6 < quantile < 1.0 - 1e-6:
            return -np.inf
        coordinates[0] = ndtri(quantile)
        return log_prior_ratio

    def _mass_per_um(self, states: States, row: int, layer: int, group: int) -> float:
        """Return the mass of a group's element per thickness of a layer, in arbitrary units."""
        column, member, coordinates = np.arange(len(self.groups)), states.member[row, layer], states.layers[row, layer]
        share = np.where(states.holds[row, layer], np.exp(SHARE_SIGMA * coordinates[N_LAYER_COORDINATES:]), 0.0)
        share /= share.sum()
        binder = float(uniform(coordinates[2], BINDER_RANGE))
        volume = (share / self.density[column, member]).sum() * (1.0 - binder) + binder / self.oil_density
        return float(share[group] * self.composition[group, member[group], self.key_element[group]] / volume)


def uniform(x: FloatArray, bounds: tuple[float | FloatArray, float | FloatArray]) -> FloatArray:
    """Transform standard normal coordinates to a uniform distribution between two bounds."""
    return np.asarray(bounds[0] + (bounds[1] - bounds[0]) * ndtr(x))


def log_uniform(x: FloatArray, bounds: tuple[float, float]) -> FloatArray:
    """Transform standard normal coordinates to a distribution with uniform logarithm between two bounds."""
    return np.exp(uniform(x, (float(np.log(bounds[0])), float(np.log(bounds[1])))))


def _members(group: str, groups: set[str], pigment_names: Sequence[str]) -> tuple[Pigment, ...]:
    """Return the named pigments; without names, the pigments of the group that belong to no group outside ``groups``.

    If every pigment of the group also belongs to another group, all are returned.
    """
    if pigment_names:
        return tuple(library()[name] for name in pigment_names)
    all_members = library().members(group)
    allowed_members = [pigment for pigment in all_members if set(pigment.groups) <= groups]
    return tuple((allowed_members or list(all_members))[:MAX_MEMBERS])
