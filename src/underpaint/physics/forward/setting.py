"""Inputs of the transport that do not depend on the layers: source, geometry and atomic data."""

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from underpaint.physics.atomic import (
    SHELLS,
    AtomicTables,
    LineTable,
    compton_energy,
    differential_scatter,
    edge_energy,
    line_production,
    line_table,
    mass_attenuation,
    profile_integrals,
    profile_mixture,
    scattering_momentum,
    total_scatter,
)
from underpaint.physics.forward.ordinates import COSINES, DIRECTION_WEIGHTS
from underpaint.physics.forward.source import air_transmission
from underpaint.physics.forward.stack import Array
from underpaint.physics.instrument import AIR, AIR_DENSITY, Geometry, Instrument
from underpaint.units import ELECTRON_REST_KEV

FloatArray = NDArray[np.float64]
NODE_ENERGIES_KEV = np.asarray([3.0, *np.geomspace(5.0, 60.0, 17)])
"""Energies in keV at which scattered tube radiation is computed; results are interpolated between these energies."""
ANGLES_DEG = np.linspace(0.0, 180.0, 25)
"""Scattering angles, in degrees, of the tables of cross sections; the tables are interpolated for each direction."""
N_AZIMUTHS = 8
"""Number of azimuth angles over which cross sections between two directions are averaged."""
COMPTON_GRID_KEV = ((0.5, 10.0, 0.05), (10.0, 120.0, 0.1))
"""Bins of Compton-scattered photons: start, stop and bin width in keV, for two ranges."""


@dataclass(frozen=True)
class DirectionalScatter:
    """Cross sections of first and second scatter, by direction, for one geometry.

    Differential cross sections are 4 pi d(sigma)/d(Omega). A first axis of length two holds coherent and Compton
    scatter.

    Parameters
    ----------
    coherent : (n_element, n_energy) array
        Differential cross section for coherent scatter from the beam to the detector, at the source energies, in cm2/g.
    compton : (n_profile, n_element, n_energy) array
        Differential cross section for Compton scatter from the beam to the detector, by basis profile, in cm2/g.
    beam_to_cells : (2, 2, n_element, n_direction, n_node) array
        Cross sections for scatter from the beam into the directions of the cells, in cm2/g. The second axis holds
        downward and upward directions. Summed over all directions, the cross sections give the total cross section.
    cells_to_detector : (2, 2, n_element, n_direction, n_node) array
        Differential cross sections for scatter from the directions of the cells to the detector, in cm2/g.
    profile : (n_profile, n_energy, n_grid) array
        Fraction of photons of each source energy that Compton scatter to the detector moves into each bin.
    shifted_attenuation : (n_element, n_energy) array
        Total mass attenuation at the mean energy after Compton scatter to the detector, in cm2/g.
    """

    coherent: Array
    compton: Array
    beam_to_cells: Array
    cells_to_detector: Array
    profile: Array
    shifted_attenuation: Array


def directional_scatter(elements: tuple[str, ...], energy_kev: FloatArray, geometry: Geometry) -> DirectionalScatter:
    """Return the cross sections of scatter, by direction, for a geometry, as numpy arrays."""
    angle_deg = geometry.scattering_angle_deg
    compton_kev = compton_energy(energy_kev, angle_deg)
    coherent, compton = (
        4.0 * np.pi * cross_section[..., 0] for cross_section in differential_scatter(elements, energy_kev, [angle_deg])
    )
    node_kev = node_energies(float(energy_kev.max()))
    node_tables = np.stack(differential_scatter(elements, node_kev, ANGLES_DEG))
    # the beam travels downward, photons to the detector travel upward
    beam_weights = _angle_weights(-np.sin(np.radians(geometry.incidence_angle_deg)))
    detector_weights = _angle_weights(np.sin(np.radians(geometry.takeoff_angle_deg)))
    direction_weight = 2.0 * np.pi * DIRECTION_WEIGHTS[:, None]
    centre_kev, width_kev = compton_grid(float(energy_kev.max()))
    edge_kev = np.append(centre_kev - width_kev / 2.0, centre_kev[-1] + width_kev[-1] / 2.0)
    profile = _profile_fractions(energy_kev, edge_kev, angle_deg)
    profile_coefficients = profile_mixture(elements)
    # Binding cuts off part of the profile. The scattering function already accounts for binding, so the profile is
    # normalised.
    allowed_fraction = np.maximum(profile_coefficients @ profile.sum(axis=2), 0.01)
    return DirectionalScatter(
        coherent,
        profile_coefficients.T[:, :, None] * compton / allowed_fraction,
        direction_weight * np.einsum("szga,uka->suzkg", node_tables, beam_weights),
        4.0 * np.pi * np.einsum("szga,uka->suzkg", node_tables, detector_weights),
        profile,
        mass_attenuations(elements, compton_kev),
    )


@lru_cache
def compton_grid(highest_kev: float) -> tuple[FloatArray, FloatArray]:
    """Return centres and widths, in keV, of the bins of Compton-scattered photons up to ``highest_kev``."""
    bin_edges = np.concatenate(
        [np.arange(start_kev, stop_kev, bin_width) for start_kev, stop_kev, bin_width in COMPTON_GRID_KEV]
    )
    bin_edges = bin_edges[: int(np.searchsorted(bin_edges, highest_kev)) + 1]
    return (bin_edges[1:] + bin_edges[:-1]) / 2.0, np.diff(bin_edges)


@lru_cache
def node_energies(highest_kev: float) -> FloatArray:
    """Return the node energies, in keV, for a source with photons up to ``highest_kev``."""
    return NODE_ENERGIES_KEV[: int(np.searchsorted(NODE_ENERGIES_KEV, highest_kev)) + 1]


def node_weights(energy_kev: FloatArray, nodes: FloatArray) -> FloatArray:
    """Return (n_energy, n_node) weights for linear interpolation, proportional to energy below the first node."""
    interpolation_weights = np.asarray([np.interp(energy_kev, nodes, unit_row) for unit_row in np.eye(nodes.size)]).T
    return np.asarray(interpolation_weights * np.minimum(energy_kev / nodes[0], 1.0)[:, None])


def _angle_weights(cosine_to_normal: float) -> FloatArray:
    """Return (2, n_direction, n_angle) weights for interpolation in ``ANGLES_DEG``, averaged over the azimuth.

    Scattering angles are those between a given direction and the directions of the cells, downward and upward.
    ``cosine_to_normal`` is the cosine of the angle between the given direction and the upward normal.
    """
    azimuth = (np.arange(N_AZIMUTHS) + 0.5) * np.pi / N_AZIMUTHS
    sine_to_normal = np.sqrt(1.0 - cosine_to_normal**2)
    weights_by_sign = []
    for vertical_sign in (-1.0, 1.0):
        cosine_of_scattering = cosine_to_normal * vertical_sign * COSINES[:, None] + sine_to_normal * np.sqrt(
            1.0 - COSINES[:, None] ** 2
        ) * np.cos(azimuth)
        angle_deg = np.degrees(np.arccos(np.clip(cosine_of_scattering, -1.0, 1.0)))
        interpolation_weights = np.asarray(
            [np.interp(angle_deg, ANGLES_DEG, unit_row) for unit_row in np.eye(ANGLES_DEG.size)]
        )
        weights_by_sign.append(interpolation_weights.mean(axis=2).T)
    return np.asarray(weights_by_sign)


def _profile_fractions(energy_kev: FloatArray, edge_kev: FloatArray, angle_deg: float) -> FloatArray:
    """Return the (n_profile, n_energy, n_grid) fractions of scattered photons per bin; no photon gains energy."""
    momentum = scattering_momentum(
        energy_kev[:, None], np.minimum(edge_kev, energy_kev[:, None] * (1.0 - 1e-9)), angle_deg
    )
    return np.diff(profile_integrals(momentum), axis=2)


def nearest_bin_weights(energy_kev: FloatArray, grid_kev: FloatArray) -> FloatArray:
    """Return (n_energy, n_grid) weights that divide photons between the two nearest bins and keep the mean energy."""
    return np.asarray([np.interp(energy_kev, grid_kev, unit_row) for unit_row in np.eye(grid_kev.size)]).T


def air_emission(energy_kev: FloatArray, grid_kev: FloatArray, geometry: Geometry) -> FloatArray:
    """Return the (n_energy, n_grid) photons, per 4 pi, from the air that the detector sees: argon lines and scatter.

    The air is treated as a thin sample.
    """
    air_elements, areal_density = tuple(AIR), AIR_DENSITY * geometry.seen_air_cm
    areal_by_element = np.asarray([AIR[element] for element in air_elements]) * areal_density
    angle_deg = geometry.scattering_angle_deg
    scatter = [
        4.0 * np.pi * cross_section[..., 0]
        for cross_section in differential_scatter(air_elements, energy_kev, [angle_deg])
    ]
    lines = line_table(["Ar"])
    argon_production = (
        line_production(lines, tuple(float(photon_kev) for photon_kev in energy_kev)).T * AIR["Ar"] * areal_density
    )
    emitted_photons = argon_production @ nearest_bin_weights(lines.energy_kev, grid_kev) + (
        areal_by_element @ scatter[0]
    )[:, None] * nearest_bin_weights(energy_kev, grid_kev)
    return np.asarray(
        emitted_photons
        + (areal_by_element @ scatter[1])[:, None]
        * nearest_bin_weights(compton_energy(energy_kev, angle_deg), grid_kev)
    )


def _energy_after_backscatter(energy_kev: FloatArray, n_scatters: int) -> FloatArray:
    """Return the photon energy, in keV, after ``n_scatters`` Compton scatters by 180 degrees."""
    return energy_kev / (1.0 + 2.0 * n_scatters * energy_kev / ELECTRON_REST_KEV)


def distribution_after_one_compton(energy_kev: FloatArray, edge_kev: FloatArray) -> FloatArray:
    """Return the fraction of photons per bin if energies are uniform between backward and forward Compton scatter."""
    min_energy = _energy_after_backscatter(energy_kev, 1)[:, None]
    cumulative_fraction = np.clip(
        (edge_kev - min_energy) / np.maximum(energy_kev[:, None] - min_energy, 1e-9), 0.0, 1.0
    )
    return np.diff(cumulative_fraction, axis=1)


def distribution_after_two_compton(energy_kev: FloatArray, edge_kev: FloatArray) -> FloatArray:
    """Return the fraction of photons per bin after two Compton scatters, from a triangular distribution of energies."""
    min_energy = _energy_after_backscatter(energy_kev, 2)[:, None]
    relative_position = np.clip((edge_kev - min_energy) / np.maximum(energy_kev[:, None] - min_energy, 1e-9), 0.0, 1.0)
    cumulative_fraction = np.where(
        relative_position < 0.5, 2.0 * relative_position**2, 1.0 - 2.0 * (1.0 - relative_position) ** 2
    )
    return np.diff(cumulative_fraction, axis=1)


def mass_attenuations(elements: tuple[str, ...], energy_kev: FloatArray) -> FloatArray:
    """Return the (n_element, n_energy) total mass attenuation coefficients, in cm2/g."""
    return np.stack([mass_attenuation(name, energy_kev) for name in elements])


MIN_EXCITING_KEV = 2.0
"""Lowest energy of exciting lines, in keV. Lines of lower energy excite only lines that paint absorbs almost
completely."""
MAX_GROUP_ENERGY_RATIO = 1.04
"""Largest ratio between line energies in an exciting group; grouping changes no result by more than 5e-5."""
EDGE_ELEMENTS = range(11, 84)
"""Atomic numbers of elements whose absorption edges separate groups of lines: sodium to bismuth."""
ANGLE_STEP_DEG = 0.25
"""Step, in degrees, for numerical derivatives of scatter with respect to the angles."""


@dataclass(frozen=True)
class Setting:
    """Source, geometry and atomic data as arrays of one library, precision and device.

    All cross sections are in cm2/g. Photons of n_node energies (nodes) represent the scattered source radiation.

    Parameters
    ----------
    elements : tuple of str
        Symbols of the n_element elements.
    lines : LineTable
        Lines of these elements.
    line_element : (n_line,) int array
        Index of the element of each line.
    source_kev, width_kev : (n_energy,) numpy arrays
        Energies and bin widths (zero for lines) of the source spectrum, in keV.
    weight : (n_energy,) array
        Number of source photons at each energy.
    attenuation : (n_element, n_energy) array
        Mass attenuation at the source energies.
    line_attenuation : (n_element, n_line) array
        Mass attenuation at the line energies.
    production : (n_line, n_energy) array
        Production of lines by the source photons.
    scattered_production : (n_line, n_energy) array
        Production of lines by source photons after Compton scatter.
    line_production : (n_line, n_line) array
        Production of lines (first axis) by other lines (second axis).
    line_scatter : (2, n_element, n_line) array
        Total cross sections for coherent and for Compton scatter of lines.
    group_membership : (n_line, n_exciting) array
        One for lines that belong to an exciting group, else zero. A group consists of lines of one element.
    exciting_element : (n_exciting,) int array
        Index of the element of each exciting group.
    family_membership : (n_line, n_family) array
        One for lines that belong to a family, else zero. A family is an element's lines of one main shell.
    sin_incidence, sin_takeoff : () arrays
        Sines of incidence and take-off angle.
    source_node_weights : (n_energy, n_node) array
        Weights of the nodes that represent each source energy.
    node_attenuation : (2, n_element, n_node) array
        Mass attenuation at the nodes, and at the mean energies of node photons after Compton scatter.
    air_lines, air_source, air_grid : arrays
        Transmission of the air path to the detector, at the energies of the lines, the source and the grid.
    grid_kev, grid_width_kev : (n_grid,) numpy arrays
        Centres and widths of the bins of Compton-scattered photons, in keV.
    source_after_one_compton, source_after_two_compton : (n_energy, n_grid) arrays
        Energy distributions of source photons after one and after two Compton scatters into any direction.
    source_unshifted : (n_energy, n_grid) array
        Energy distribution of source photons without Compton scatter.
    lines_after_one_compton : (n_line, n_grid) array
        Energy distribution of line photons after one Compton scatter.
    air_scatter : (n_energy, n_grid) array
        Photons from the air that the detector sees, per source photon.
    scatter : DirectionalScatter
        Cross sections of scatter, by direction.
    """

    elements: tuple[str, ...]
    lines: LineTable
    line_element: Array
    source_kev: FloatArray
    width_kev: FloatArray
    weight: Array
    attenuation: Array
    line_attenuation: Array
    production: Array
    scattered_production: Array
    line_production: Array
    line_scatter: Array
    group_membership: Array
    exciting_element: Array
    family_membership: Array
    sin_incidence: Array
    sin_takeoff: Array
    source_node_weights: Array
    node_attenuation: Array
    air_lines: Array
    air_source: Array
    air_grid: Array
    grid_kev: FloatArray
    grid_width_kev: FloatArray
    source_unshifted: Array
    source_after_one_compton: Array
    source_after_two_compton: Array
    lines_after_one_compton: Array
    air_scatter: Array
    scatter: DirectionalScatter

    def to(self, reference_array: Array) -> "Setting":
        """Convert the setting to the library, precision and device of ``reference_array``."""
        converted_setting: Setting = _convert_arrays(self, reference_array)
        return converted_setting

    def at_angles(self, incidence_angle_deg: Array, takeoff_angle_deg: Array, geometry: Geometry) -> "Setting":
        """Return the setting at other angles, as differentiable torch tensors, to first order in the change of angles.

        ``geometry`` must be the geometry of this setting. If ``geometry`` has a ``scatter_angle_deg``, that angle is
        kept.
        """
        angle_changes = (
            (incidence_angle_deg, geometry.incidence_angle_deg, "incidence_angle_deg"),
            (takeoff_angle_deg, geometry.takeoff_angle_deg, "takeoff_angle_deg"),
        )
        scatter = self.scatter
        for new_angle, reference_angle, name in angle_changes:
            lower_tables, upper_tables = (
                _convert_arrays(
                    self._directional_scatter_at(geometry.model_copy(update={name: reference_angle + angle_step})),
                    self.weight,
                )
                for angle_step in (-ANGLE_STEP_DEG, ANGLE_STEP_DEG)
            )
            scatter = DirectionalScatter(
                *(
                    getattr(scatter, scatter_field.name)
                    + (new_angle - reference_angle)
                    * (getattr(upper_tables, scatter_field.name) - getattr(lower_tables, scatter_field.name))
                    / (2.0 * ANGLE_STEP_DEG)
                    for scatter_field in fields(DirectionalScatter)
                )
            )
        xp = array_namespace(self.weight)
        radians_per_degree = np.pi / 180.0
        return replace(
            self,
            scatter=scatter,
            sin_incidence=xp.sin(incidence_angle_deg * radians_per_degree),
            sin_takeoff=xp.sin(takeoff_angle_deg * radians_per_degree),
        )

    def _directional_scatter_at(self, geometry: Geometry) -> DirectionalScatter:
        return directional_scatter(self.elements, self.source_kev, geometry)


def make_setting(
    instrument: Instrument, tables: AtomicTables, source: tuple[FloatArray, FloatArray, FloatArray]
) -> Setting:
    """Return the setting of an instrument, as numpy arrays.

    Parameters
    ----------
    instrument : Instrument
    tables : AtomicTables
        Atomic data at the energies of the source.
    source : (energy_kev, weight, width_kev)
        Spectrum of the source, from ``source_spectrum``.
    """
    geometry, (energy_kev, weight, width_kev) = instrument.geometry, source
    centre_kev, bin_width_kev = compton_grid(float(energy_kev.max()))
    node_kev = node_energies(float(energy_kev.max()))
    shifted_kev = compton_energy(energy_kev, 90.0)
    line_kev = tables.lines.energy_kev
    edge_kev = np.append(centre_kev - bin_width_kev / 2.0, centre_kev[-1] + bin_width_kev[-1] / 2.0)
    detector_air_cm = geometry.detector_air_cm
    group_membership = exciting_groups(tables)
    return Setting(
        elements=tables.elements,
        lines=tables.lines,
        line_element=tables.line_element,
        source_kev=energy_kev,
        width_kev=width_kev,
        weight=weight,
        attenuation=tables.mass_attenuation,
        line_attenuation=tables.line_attenuation,
        production=tables.production,
        scattered_production=line_production(tables.lines, tuple(float(photon_kev) for photon_kev in shifted_kev)),
        line_production=tables.line_production,
        line_scatter=np.stack(total_scatter(tables.elements, line_kev)) if len(line_kev) else np.zeros((2, 0, 0)),
        group_membership=group_membership,
        exciting_element=tables.line_element[group_membership.argmax(axis=0)],
        family_membership=_family_members(tables.lines),
        sin_incidence=np.asarray(np.sin(np.radians(geometry.incidence_angle_deg))),
        sin_takeoff=np.asarray(np.sin(np.radians(geometry.takeoff_angle_deg))),
        source_node_weights=node_weights(energy_kev, node_kev),
        node_attenuation=np.stack(
            [
                mass_attenuations(tables.elements, node_kev),
                mass_attenuations(tables.elements, compton_energy(node_kev, 90.0)),
            ]
        ),
        air_lines=air_transmission(detector_air_cm, line_kev),
        air_source=air_transmission(detector_air_cm, energy_kev),
        air_grid=air_transmission(detector_air_cm, centre_kev),
        grid_kev=centre_kev,
        grid_width_kev=bin_width_kev,
        source_unshifted=nearest_bin_weights(energy_kev, centre_kev),
        source_after_one_compton=distribution_after_one_compton(energy_kev, edge_kev),
        source_after_two_compton=distribution_after_two_compton(energy_kev, edge_kev),
        lines_after_one_compton=distribution_after_one_compton(line_kev, edge_kev),
        air_scatter=air_emission(energy_kev, centre_kev, geometry),
        scatter=directional_scatter(tables.elements, energy_kev, geometry),
    )


def _family_members(lines: LineTable) -> FloatArray:
    family_names = sorted(set(lines.family))
    return np.asarray([[float(family == family_name) for family_name in family_names] for family in lines.family])


def exciting_groups(tables: AtomicTables) -> FloatArray:
    """Return an (n_line, n_group) array that is one for lines that belong to an exciting group, else zero.

    A group contains lines of one element. The ratio of line energies in a group is below ``MAX_GROUP_ENERGY_RATIO``,
    and no absorption edge is between the lines. The lines of a group therefore have nearly the same attenuation.
    Grouping has an error of second order.
    """
    # edges of absent elements are included, so that a spectrum does not depend on the other samples of the batch
    edge_kev = np.asarray([edge_energy(z, shell) for z in EDGE_ELEMENTS for shell in range(len(SHELLS))])
    energy_kev, line_element = tables.lines.energy_kev, tables.line_element
    groups: list[list[int]] = []
    for line_index in np.lexsort((energy_kev, line_element)):
        if energy_kev[line_index] < MIN_EXCITING_KEV:
            continue
        first_index = groups[-1][0] if groups else line_index
        is_same_group = (
            bool(groups)
            and line_element[first_index] == line_element[line_index]
            and energy_kev[line_index] < MAX_GROUP_ENERGY_RATIO * energy_kev[first_index]
        )
        if is_same_group and not np.any((edge_kev > energy_kev[first_index]) & (edge_kev <= energy_kev[line_index])):
            groups[-1].append(int(line_index))
        else:
            groups.append([int(line_index)])
    is_member = np.zeros((len(energy_kev), max(len(groups), 1)))
    for index, line_indices in enumerate(groups):
        is_member[line_indices, index] = 1.0
    return is_member


def _convert_arrays(instance: Any, reference_array: Array) -> Any:
    """Convert all arrays of a dataclass, except energies, to the library and device of ``reference_array``."""
    xp = array_namespace(reference_array)
    converted_fields = {}
    for dataclass_field in fields(instance):
        field_value = getattr(instance, dataclass_field.name)
        if isinstance(field_value, DirectionalScatter):
            converted_fields[dataclass_field.name] = _convert_arrays(field_value, reference_array)
        elif isinstance(field_value, np.ndarray) and not dataclass_field.name.endswith("_kev"):
            is_integer = field_value.dtype.kind in "ib"
            dtype = {} if is_integer else {"dtype": reference_array.dtype}
            converted_fields[dataclass_field.name] = xp.asarray(field_value, device=reference_array.device, **dtype)
    return replace(instance, **converted_fields)
