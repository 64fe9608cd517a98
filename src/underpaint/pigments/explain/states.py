"""Batches of stratigraphies as arrays, and the prior probability of stratigraphies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from underpaint.errors import SampleError
from underpaint.physics.materials import Paint, Pigment, library
from underpaint.physics.materials.library import mix_elements
from underpaint.physics.materials.paint import DEFAULT_BINDER, formula_fractions, material_table_row
from underpaint.pigments.explain.known import KnownLayers
from underpaint.units import CM_PER_UM

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
MAX_LAYERS = 3
LAYER_INDICES = np.arange(MAX_LAYERS)
LAYER_NUMBER_PRIOR = (0.15, 0.50, 0.35)
"""Prior probabilities of one, two and three layers of paint."""
LAYERS_PER_GROUP_PRIOR = ((1.0,), (0.75, 0.25), (0.65, 0.28, 0.07))
"""Prior probabilities that a group is in one, two or three layers, for stratigraphies of one, two and three layers."""
GROUP_MIXING_PROBABILITY = 0.5
"""Prior probability that each further group is mixed with the first group in a stratigraphy of one layer."""
THICKNESS_RANGE_UM, GROUND_RANGE_UM = (5.0, 400.0), (50.0, 500.0)
"""Ranges of the thickness of a layer and of the ground, in um. The logarithm of the thickness is uniformly
distributed."""
BINDER_FRACTION_RANGE, GROUND_BINDER_FRACTION_RANGE = (0.15, 0.40), (0.0, 0.25)
"""Ranges of the mass fraction of binder in a layer and in the ground. The fraction is uniformly distributed."""
LOG_MASS_SIGMA, LOG_DENSITY_SIGMA = 1.5, 0.10
"""Standard deviations of two logarithms: that of a pigment's mass, and that of a layer's density relative to volume
additivity."""
MAX_MEMBERS_PER_GROUP = 8
"""Maximum number of considered pigments per group, which are the first pigments of the group in the library."""
MAX_TRACE_MASS_FRACTION = 0.05
"""A layer with at most this fraction of the total mass of a group's element contains only a trace of the group."""
N_LAYER_COORDINATES = 3
"""Number of coordinates of a layer besides the shares: thickness, density and binder."""


@dataclass
class States:
    """A batch of stratigraphies of paint over a ground.

    Every continuous quantity has a coordinate with a standard normal prior.

    Parameters
    ----------
    n_layer : (n,) int array
    is_in_layer : (n, MAX_LAYERS, n_group) bool array
        True where a layer contains a group. Layer 0 is at the surface.
    member_index : (n, MAX_LAYERS, n_group) int array
        Index of the pigment in its group.
    x : (n, n_coordinate) array
        Coordinates of each layer (thickness, density, binder, logarithms of the pigments' masses), followed by
        thickness and binder of the ground.
    """

    n_layer: IntArray
    is_in_layer: BoolArray
    member_index: IntArray
    x: FloatArray

    def __len__(self) -> int:
        return len(self.n_layer)

    @property
    def n_group(self) -> int:
        """Number of groups."""
        return int(self.is_in_layer.shape[2])

    @property
    def layer_coordinates(self) -> FloatArray:
        """(n, MAX_LAYERS, 3 + n_group) view of the coordinates of the paint layers."""
        return self.x[:, :-2].reshape(len(self), MAX_LAYERS, N_LAYER_COORDINATES + self.n_group)

    def select(self, index: NDArray[np.integer] | list[int]) -> "States":
        """Return copies of the states at the given indices."""
        return States(self.n_layer[index], self.is_in_layer[index], self.member_index[index], self.x[index])

    @property
    def field_arrays(self) -> tuple[IntArray, BoolArray, IntArray, FloatArray]:
        """Arrays of the batch, in the order of the parameters of ``States``."""
        return self.n_layer, self.is_in_layer, self.member_index, self.x

    def replace(self, rows: NDArray[np.integer], other_states: "States", other_rows: NDArray[np.integer]) -> None:
        """Replace some states by states of another batch."""
        for old_array, new_array in zip(self.field_arrays, other_states.field_arrays, strict=True):
            old_array[rows] = new_array[other_rows]

    def permute_layers(self, row: int, layer_order: Sequence[int]) -> None:
        """Change the order of the layers of one state."""
        self.is_in_layer[row], self.member_index[row] = (
            self.is_in_layer[row, layer_order],
            self.member_index[row, layer_order],
        )
        layer_coordinates = self.layer_coordinates[row]
        layer_coordinates[:] = layer_coordinates[layer_order]

    def is_active(self) -> BoolArray:
        """Return a boolean (n, n_coordinate) array, true for coordinates that affect the spectrum."""
        layer_exists = (self.n_layer[:, None] > LAYER_INDICES)[..., None]
        has_several_groups = self.is_in_layer.sum(axis=2, keepdims=True) > 1
        is_layer_active = np.broadcast_to(layer_exists, (len(self), MAX_LAYERS, N_LAYER_COORDINATES))
        is_paint_active = np.concatenate(
            [is_layer_active, self.is_in_layer & layer_exists & has_several_groups], axis=2
        ).reshape(len(self), -1)
        return np.concatenate([is_paint_active, np.ones((len(self), 2), dtype=np.bool_)], axis=1)

    def structure_keys(self) -> list[bytes]:
        """Return a key for each state, which identifies the groups in its layers."""
        return [is_in_layer.tobytes() for is_in_layer in self.is_in_layer]

    def composition_keys(self) -> list[bytes]:
        """Return a key for each state, which identifies the pigments in its layers."""
        return [
            member_codes.tobytes()
            for member_codes in np.where(self.is_in_layer, self.member_index + 1, 0).astype(np.int16)
        ]


def concatenate_states(batches: Sequence[States]) -> States:
    """Concatenate several batches of states."""
    return States(*(np.concatenate(arrays) for arrays in zip(*(batch.field_arrays for batch in batches), strict=True)))


def log_prior_of_x(states: States, is_active: BoolArray) -> FloatArray:
    """Return the (n,) log prior density of the active coordinates, without the constant of the normal distribution."""
    return np.asarray(-0.5 * np.where(is_active, states.x**2, 0.0).sum(axis=1))


@dataclass(frozen=True)
class PhysicalStates:
    """Stratigraphies of a batch in physical units.

    Parameters
    ----------
    thickness_um : (n, MAX_LAYERS) array
        Thickness of each layer, NaN for missing layers.
    group_share : (n, MAX_LAYERS, n_group) array
        Mass fraction of each group in the dry pigments of a layer.
    density_factor : (n, MAX_LAYERS) array
        Ratio of the density to the density from volume additivity.
    binder_fraction : (n, MAX_LAYERS) array
        Mass fraction of the binder.
    ground_thickness_um, ground_binder_fraction : (n,) arrays
        Thickness of the ground in um, and mass fraction of binder in the ground.
    """

    thickness_um: FloatArray
    group_share: FloatArray
    density_factor: FloatArray
    binder_fraction: FloatArray
    ground_thickness_um: FloatArray
    ground_binder_fraction: FloatArray


class PaintPrior:
    """Prior probability distribution of the layers of paint.

    One to three layers of paint lie on a ground. Each group is in one, two or three layers. Two neighbouring layers do
    not contain identical sets of groups.

    Parameters
    ----------
    groups : sequence of str
        Pigment groups of the library.
    ground : str
        Name of the ground of the library.
    absence_probability : sequence of float, optional
        Prior probability that each group is absent, 0 by default.
    pigments : mapping of str to sequence of str, optional
        Possible pigments of each group that is restricted to some of its pigments.
    known_layers : KnownLayers, optional
        Order and thickness from another method. The groups of the known order must be among ``groups``.

    Raises
    ------
    SampleError
        No group is given, or a group or the ground is unknown.
    """

    def __init__(
        self,
        groups: Sequence[str],
        ground: str = "chalk",
        absence_probability: Sequence[float] | None = None,
        pigments: Mapping[str, Sequence[str]] | None = None,
        known_layers: KnownLayers | None = None,
    ) -> None:
        if not groups:
            raise SampleError("Cannot explain a spectrum without a pigment group: give at least one.")
        self.groups = tuple(groups)
        self.ground = ground
        self.absence_probability = (
            np.zeros(len(groups)) if absence_probability is None else np.asarray(absence_probability, dtype=np.float64)
        )
        self.members = tuple(_members(group, set(groups), (pigments or {}).get(group, ())) for group in groups)
        self.known_order = () if known_layers is None else tuple(self.groups.index(name) for name in known_layers.order)
        top_thickness_range_um = None if known_layers is None else known_layers.thickness_um
        self.log_thickness_range = np.log(
            [top_thickness_range_um or THICKNESS_RANGE_UM, *(THICKNESS_RANGE_UM,) * (MAX_LAYERS - 1)]
        )
        self.n_coordinate = MAX_LAYERS * (N_LAYER_COORDINATES + len(groups)) + 2
        self.log_members = np.log([len(pigments) for pigments in self.members])
        self._log_spread = self._spread_table()
        self._compute_tables()

    def _spread_table(self) -> FloatArray:
        """Return the (MAX_LAYERS, n_group, MAX_LAYERS + 1) log prior of the number of layers that contain a group.

        The axes are the number of layers minus one, the group, and the number of layers that contain the group.
        """
        log_spread_table = np.full((MAX_LAYERS, len(self.groups), MAX_LAYERS + 1), -np.inf)
        with np.errstate(divide="ignore"):
            log_spread_table[:, :, 0] = np.log(self.absence_probability)
        for n_layer, layer_number_probabilities in enumerate(LAYERS_PER_GROUP_PRIOR, start=1):
            for n_layer_with_group, probability in enumerate(layer_number_probabilities, start=1):
                log_spread_table[n_layer - 1, :, n_layer_with_group] = np.log1p(-self.absence_probability) + np.log(
                    probability / comb(n_layer, n_layer_with_group)
                )
        return log_spread_table

    def _compute_tables(self) -> None:
        """Compute the compositions and densities of pigments, binder and ground."""
        oil_row = material_table_row("binder", DEFAULT_BINDER)
        oil_mass_fractions = mix_elements(formula_fractions(oil_row))
        ground_row = material_table_row("ground", self.ground)
        ground_paint = Paint(ground_row["pigments"], pigment_to_binder=np.inf).layer(1.0)
        pigments = [pigment for members in self.members for pigment in members]
        element_mass_fractions = [
            oil_mass_fractions,
            ground_paint.mass_fractions,
            *(pigment.mass_fractions for pigment in pigments),
        ]
        self.elements = tuple(
            sorted({element for mass_fractions in element_mass_fractions for element in mass_fractions})
        )
        element_index = {name: table_index for table_index, name in enumerate(self.elements)}
        max_members = max(map(len, self.members))
        self.element_fractions = np.zeros((len(self.groups), max_members, len(self.elements)))
        self.member_density = np.ones((len(self.groups), max_members))
        for group, members in enumerate(self.members):
            for table_index, pigment in enumerate(members):
                self.member_density[group, table_index] = pigment.density
                for element, mass_fraction in pigment.mass_fractions.items():
                    self.element_fractions[group, table_index, element_index[element]] = mass_fraction
        self.is_pigment_of_group = np.zeros((len(self.groups), max_members, len(self.groups)))
        for group, members in enumerate(self.members):
            for table_index, pigment in enumerate(members):
                self.is_pigment_of_group[group, table_index] = [name in pigment.groups for name in self.groups]
        self.key_element_index = np.asarray([element_index[library().group(name).element] for name in self.groups])
        self.oil_fractions = np.asarray([oil_mass_fractions.get(name, 0.0) for name in self.elements])
        self.oil_density = float(oil_row["density"])
        self.ground_fractions = np.asarray([ground_paint.mass_fractions.get(name, 0.0) for name in self.elements])
        self.ground_density = ground_paint.density

    def is_valid(self, states: States) -> BoolArray:
        """Return a boolean (n,) array, true for valid states.

        In a valid state, no layer is empty and neighbouring layers contain different groups. Every required group is
        present, and groups of known order are in this order.
        """
        layer_exists = states.n_layer[:, None] > LAYER_INDICES
        is_filled = (states.is_in_layer.any(axis=2) == layer_exists).all(axis=1)
        is_same_as_above = (states.is_in_layer[:, 1:] == states.is_in_layer[:, :-1]).all(axis=2) & layer_exists[:, 1:]
        is_missing = ~states.is_in_layer.any(axis=1) & (self.absence_probability == 0)
        uppermost_layer = np.where(states.is_in_layer.any(axis=1), states.is_in_layer.argmax(axis=1), MAX_LAYERS)[
            :, self.known_order
        ]
        is_ordered = (np.diff(uppermost_layer, axis=1) > 0).all(axis=1)
        return np.asarray(is_filled & ~is_same_as_above.any(axis=1) & ~is_missing.any(axis=1) & is_ordered)

    def log_layout_prior(self, states: States) -> FloatArray:
        """Return the (n,) log prior of the layers and the groups in each layer, or -inf for invalid states."""
        n_layer_with_group = states.is_in_layer.sum(axis=1)
        log_spread = self._log_spread[states.n_layer[:, None] - 1, np.arange(len(self.groups)), n_layer_with_group].sum(
            axis=1
        )
        log_mixing_prior = np.where(
            states.n_layer == 1, np.log(GROUP_MIXING_PROBABILITY) * ((n_layer_with_group > 0).sum(axis=1) - 1), 0.0
        )
        # for one layer, the mixing probability includes the prior of the number of layers
        log_layer_number_prior = np.where(states.n_layer == 1, 0.0, np.log(LAYER_NUMBER_PRIOR)[states.n_layer - 1])
        return np.where(self.is_valid(states), log_layer_number_prior + log_mixing_prior + log_spread, -np.inf)

    def log_discrete_prior(self, states: States) -> FloatArray:
        """Return the (n,) log prior of the groups in each layer and of their members."""
        return np.asarray(self.log_layout_prior(states) - (states.is_in_layer * self.log_members).sum(axis=(1, 2)))

    def draw(self, n: int, rng: np.random.Generator) -> States:
        """Draw states from the prior."""
        batches, n_drawn = [], 0
        while n_drawn < n:
            states = self._draw_with_invalid(2 * n, rng)
            batches.append(states.select(np.flatnonzero(self.is_valid(states))))
            n_drawn += len(batches[-1])
        return concatenate_states(batches).select(np.arange(n))

    def _draw_with_invalid(self, n: int, rng: np.random.Generator) -> States:
        """Draw states, of which some may be invalid."""
        shape = (n, MAX_LAYERS, len(self.groups))
        n_layer = rng.choice(MAX_LAYERS, n, p=LAYER_NUMBER_PRIOR) + 1
        n_layer_with_group = np.stack(
            [
                rng.choice(np.arange(1, len(spread_probabilities) + 1), shape[::2], p=spread_probabilities)
                for spread_probabilities in LAYERS_PER_GROUP_PRIOR
            ]
        )
        n_layer_with_group = n_layer_with_group[n_layer - 1, np.arange(n)] * (
            rng.random(shape[::2]) >= self.absence_probability
        )
        # a group is in the layers that have its smallest random keys
        random_keys = np.where((n_layer[:, None] > LAYER_INDICES)[..., None], rng.random(shape), 2.0)
        is_in_layer = random_keys.argsort(axis=1).argsort(axis=1) < n_layer_with_group[:, None]
        return States(n_layer, is_in_layer, self.draw_members(n, rng), rng.normal(size=(n, self.n_coordinate)))

    def draw_members(self, n: int, rng: np.random.Generator) -> IntArray:
        """Draw an (n, MAX_LAYERS, n_group) array of indices of members."""
        member_counts = np.asarray([len(members) for members in self.members])
        return rng.integers(member_counts, size=(n, MAX_LAYERS, len(self.groups)))

    def to_physical_units(self, states: States) -> PhysicalStates:
        """Return states in physical units."""
        layer_coordinates = states.layer_coordinates
        layer_exists = states.n_layer[:, None] > LAYER_INDICES
        log_share = np.clip(LOG_MASS_SIGMA * layer_coordinates[..., N_LAYER_COORDINATES:], -12.0, 12.0)
        relative_mass = np.where(states.is_in_layer, np.exp(log_share), 0.0)
        return PhysicalStates(
            np.where(
                layer_exists,
                np.exp(
                    uniform(layer_coordinates[..., 0], (self.log_thickness_range[:, 0], self.log_thickness_range[:, 1]))
                ),
                np.nan,
            ),
            relative_mass / np.maximum(relative_mass.sum(axis=2, keepdims=True), 1e-30),
            np.exp(LOG_DENSITY_SIGMA * layer_coordinates[..., 1]),
            uniform(layer_coordinates[..., 2], BINDER_FRACTION_RANGE),
            log_uniform(states.x[:, -2], GROUND_RANGE_UM),
            uniform(states.x[:, -1], GROUND_BINDER_FRACTION_RANGE),
        )

    def mass_fractions_and_densities(self, states: States) -> tuple[FloatArray, FloatArray]:
        """Return (n, MAX_LAYERS + 1, n_element) mass fractions and (n, MAX_LAYERS + 1) areal densities in g/cm2."""
        physical_states, n = self.to_physical_units(states), len(states)
        group_index, layer_exists = np.arange(len(self.groups)), states.n_layer[:, None] > LAYER_INDICES
        binder_fraction = physical_states.binder_fraction[..., None]
        pigment_fractions = np.einsum(
            "nlg,nlge->nle", physical_states.group_share, self.element_fractions[group_index, states.member_index]
        )
        layer_density = physical_states.density_factor / self._specific_volume(physical_states, states.member_index)
        mass_fractions = np.zeros((n, MAX_LAYERS + 1, len(self.elements)))
        areal_density = np.zeros((n, MAX_LAYERS + 1))
        mass_fractions[:, :-1] = np.where(
            layer_exists[..., None],
            pigment_fractions * (1.0 - binder_fraction) + binder_fraction * self.oil_fractions,
            0.0,
        )
        areal_density[:, :-1] = np.where(
            layer_exists, layer_density * np.nan_to_num(physical_states.thickness_um) * CM_PER_UM, 0.0
        )
        ground_index, oil_fraction = (np.arange(n), states.n_layer), physical_states.ground_binder_fraction
        mass_fractions[ground_index] = (
            self.ground_fractions * (1.0 - oil_fraction[:, None]) + oil_fraction[:, None] * self.oil_fractions
        )
        ground_density = 1.0 / ((1.0 - oil_fraction) / self.ground_density + oil_fraction / self.oil_density)
        areal_density[ground_index] = ground_density * physical_states.ground_thickness_um * CM_PER_UM
        return mass_fractions, areal_density

    def element_areal_densities(self, states: States) -> FloatArray:
        """Return the (n, MAX_LAYERS, n_group) areal densities of the groups' elements in the paint layers, in g/cm2."""
        mass_fractions, areal_density = self.mass_fractions_and_densities(states)
        layer_exists = states.n_layer[:, None] > LAYER_INDICES
        return np.asarray(
            mass_fractions[:, :-1, self.key_element_index] * (areal_density[:, :-1] * layer_exists)[..., None]
        )

    def uppermost_layers(self, states: States) -> IntArray:
        """Return the (n, n_group) uppermost layer with more than a trace of each group, or MAX_LAYERS for no layer."""
        masses = self.element_areal_densities(states)
        is_present = masses > MAX_TRACE_MASS_FRACTION * masses.sum(axis=1, keepdims=True)
        return np.asarray(np.where(is_present.any(axis=1), is_present.argmax(axis=1), MAX_LAYERS))

    def replace_members(self, states: States, member_index: IntArray) -> tuple[States, FloatArray]:
        """Return states with other members, and the (n,) log determinants of the derivatives of their coordinates.

        Shares and thicknesses are adjusted so that the masses of the groups' elements in each layer remain. A thickness
        that would exceed its range enters the range at the other end, so that every replacement can be reversed.
        """
        group_index, layer_exists = np.arange(len(self.groups)), states.n_layer[:, None] > LAYER_INDICES
        new_states = States(states.n_layer, states.is_in_layer, member_index, states.x.copy())
        coordinates = new_states.layer_coordinates
        is_changed_group = states.is_in_layer & (member_index != states.member_index)
        old_fractions, new_fractions = (
            self.element_fractions[group_index, members, self.key_element_index]
            for members in (states.member_index, member_index)
        )
        has_several_groups = states.is_in_layer.sum(axis=2, keepdims=True) > 1
        coordinates[..., N_LAYER_COORDINATES:] += np.where(
            is_changed_group & has_several_groups, np.log(old_fractions / new_fractions) / LOG_MASS_SIGMA, 0.0
        )
        log_mass_ratio = self._log_mass_per_um(states) - self._log_mass_per_um(new_states)
        min_log_um, max_log_um = self.log_thickness_range.T
        old_x = coordinates[..., 0].copy()
        quantile = (ndtr(old_x) + log_mass_ratio / (max_log_um - min_log_um)) % 1.0
        coordinates[..., 0] = np.where(
            is_changed_group.any(axis=2) & layer_exists, ndtri(np.clip(quantile, 1e-9, 1.0 - 1e-9)), old_x
        )
        return new_states, 0.5 * (coordinates[..., 0] ** 2 - old_x**2).sum(axis=1)

    def _log_mass_per_um(self, states: States) -> FloatArray:
        """Return the (n, MAX_LAYERS) log mass of the groups' elements per thickness, up to a constant."""
        physical_states, members = self.to_physical_units(states), states.member_index
        element_fractions = self.element_fractions[np.arange(len(self.groups)), members, self.key_element_index]
        element_mass = (physical_states.group_share * element_fractions).sum(axis=2)
        return np.asarray(np.log(np.maximum(element_mass, 1e-30) / self._specific_volume(physical_states, members)))

    def _specific_volume(self, physical_states: PhysicalStates, member_index: IntArray) -> FloatArray:
        """Return the (n, MAX_LAYERS) volume of each layer's paint per mass in cm3/g, from volume additivity."""
        shares, binder_fraction = physical_states.group_share, physical_states.binder_fraction
        pigment_volume = (shares / self.member_density[np.arange(len(self.groups)), member_index]).sum(axis=2)
        return np.asarray(pigment_volume * (1.0 - binder_fraction) + binder_fraction / self.oil_density)


def uniform(x: FloatArray, bounds: tuple[float | FloatArray, float | FloatArray]) -> FloatArray:
    """Transform standard normal coordinates to a uniform distribution between two bounds."""
    return np.asarray(bounds[0] + (bounds[1] - bounds[0]) * ndtr(x))


def log_uniform(x: FloatArray, bounds: tuple[float, float]) -> FloatArray:
    """Transform standard normal coordinates to a distribution with uniform logarithm between two bounds."""
    return np.exp(uniform(x, (float(np.log(bounds[0])), float(np.log(bounds[1])))))


def _members(group: str, allowed_groups: set[str], pigment_names: Sequence[str]) -> tuple[Pigment, ...]:
    """Return the named pigments, or by default the group's pigments that belong only to allowed groups.

    If every pigment of the group also belongs to a group that is not allowed, all pigments of the group are returned.
    """
    if pigment_names:
        return tuple(library()[name] for name in pigment_names)
    all_members = library().members(group)
    allowed_members = [pigment for pigment in all_members if set(pigment.groups) <= allowed_groups]
    return tuple((allowed_members or list(all_members))[:MAX_MEMBERS_PER_GROUP])
