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
from underpaint.physics.forward.ordinates import COSINES, SHARES
from underpaint.physics.forward.source import air_transmission
from underpaint.physics.forward.stack import Array
from underpaint.physics.instrument import AIR, AIR_DENSITY, Geometry, Instrument
from underpaint.units import ELECTRON_REST_KEV

Numbers = NDArray[np.float64]
NODE_ENERGIES_KEV = np.asarray([3.0, *np.geomspace(5.0, 60.0, 17)])
"""Energies, keV, at which scattered tube radiation is computed; other energies are interpolated."""
ANGLES_DEG = np.linspace(0.0, 180.0, 25)
"""Scattering angles of the tables, in degrees; they are interpolated for each direction."""
N_AZIMUTHS = 8
"""Number of azimuth angles over which cross sections between two directions are averaged."""
SHIFTED_GRID_KEV = ((0.5, 10.0, 0.05), (10.0, 120.0, 0.1))
"""Start, stop and width, keV, of the bins of Compton-scattered photons."""


@dataclass(frozen=True)
class Directed:
    """Cross sections of first and second scatter by direction, for one geometry.

    Differential cross sections are 4 pi d(sigma)/d(Omega). First axes of length two are coherent, Compton.

    Parameters
    ----------
    coherent : (n_element, n_energy) array
        Differential coherent cross section from the beam to the detector at the source energies, cm2/g.
    compton : (n_profile, n_element, n_energy) array
        Differential Compton cross section from the beam to the detector, by basis profile, cm2/g.
    into : (2, 2, n_element, n_direction, n_node) array
        Cross sections from the beam into downward and upward directions (second axis) of the cells, cm2/g. Their sum
        over all directions is the total cross section.
    out : (2, 2, n_element, n_direction, n_node) array
        Differential cross sections from those directions to the detector, cm2/g.
    profile : (n_profile, n_energy, n_grid) array
        Fraction of the photons of an energy that Compton scatter to the detector moves into each bin.
    shifted_attenuation : (n_element, n_energy) array
        Total mass attenuation at the mean energy after Compton scatter to the detector, cm2/g.
    """

    coherent: Array
    compton: Array
    into: Array
    out: Array
    profile: Array
    shifted_attenuation: Array


def directed_scatter(elements: tuple[str, ...], energy_kev: Numbers, geometry: Geometry) -> Directed:
    """Return the cross sections of scatter by direction for a geometry, as numpy arrays."""
    angle_deg = geometry.scattering_angle_deg
    compton_kev = compton_energy(energy_kev, angle_deg)
    coherent, compton = (
        4.0 * np.pi * table[..., 0] for table in differential_scatter(elements, energy_kev, [angle_deg])
    )
    nodes = nodes_below(float(energy_kev.max()))
    tables = np.stack(differential_scatter(elements, nodes, ANGLES_DEG))
    # the beam travels down; towards the detector is up
    beam_weights = _angle_weights(-np.sin(np.radians(geometry.incidence_angle_deg)))
    detector_weights = _angle_weights(np.sin(np.radians(geometry.takeoff_angle_deg)))
    direction_weight = 2.0 * np.pi * SHARES[:, None]
    centre_kev, width_kev = shifted_grid(float(energy_kev.max()))
    edge_kev = np.append(centre_kev - width_kev / 2.0, centre_kev[-1] + width_kev[-1] / 2.0)
    profile = _profile_shares(energy_kev, edge_kev, angle_deg)
    mixture = profile_mixture(elements)
    # binding excludes some electrons; the scattering function already gives the total, so the rest is scaled up
    allowed_share = np.maximum(mixture @ profile.sum(axis=2), 0.01)
    return Directed(
        coherent,
        mixture.T[:, :, None] * compton / allowed_share,
        direction_weight * np.einsum("szga,uka->suzkg", tables, beam_weights),
        4.0 * np.pi * np.einsum("szga,uka->suzkg", tables, detector_weights),
        profile,
        attenuations(elements, compton_kev),
    )


@lru_cache
def shifted_grid(highest_kev: float) -> tuple[Numbers, Numbers]:
    """Return the centres and widths, keV, of the bins of Compton-scattered photons up to ``highest_kev``."""
    edges = np.concatenate([np.arange(start_kev, stop_kev, step) for start_kev, stop_kev, step in SHIFTED_GRID_KEV])
    edges = edges[: int(np.searchsorted(edges, highest_kev)) + 1]
    return (edges[1:] + edges[:-1]) / 2.0, np.diff(edges)


@lru_cache
def nodes_below(highest_kev: float) -> Numbers:
    """Return the nodes, keV, for a source with photons up to ``highest_kev``."""
    return NODE_ENERGIES_KEV[: int(np.searchsorted(NODE_ENERGIES_KEV, highest_kev)) + 1]


def node_weights(energy: Numbers, nodes: Numbers) -> Numbers:
    """Return (n_energy, n_node) linear interpolation weights; below the first node they decrease with the energy."""
    weights = np.asarray([np.interp(energy, nodes, row) for row in np.eye(nodes.size)]).T
    return np.asarray(weights * np.minimum(energy / nodes[0], 1.0)[:, None])


def _angle_weights(cosine: float) -> Numbers:
    """Return (2, n_direction, n_angle) interpolation weights of ``ANGLES_DEG``, averaged over the azimuth.

    The scattering angles are those between a direction with this cosine to the upward normal and the downward and
    upward directions of the cells.
    """
    azimuth = (np.arange(N_AZIMUTHS) + 0.5) * np.pi / N_AZIMUTHS
    sine = np.sqrt(1.0 - cosine**2)
    by_sign = []
    for vertical_sign in (-1.0, 1.0):
        cosine_of_scattering = cosine * vertical_sign * COSINES[:, None] + sine * np.sqrt(
            1.0 - COSINES[:, None] ** 2
        ) * np.cos(azimuth)
        angle_deg = np.degrees(np.arccos(np.clip(cosine_of_scattering, -1.0, 1.0)))
        weights = np.asarray([np.interp(angle_deg, ANGLES_DEG, row) for row in np.eye(ANGLES_DEG.size)])
        by_sign.append(weights.mean(axis=2).T)
    return np.asarray(by_sign)


def _profile_shares(energy: Numbers, edges: Numbers, angle_deg: float) -> Numbers:
    """Return the (n_profile, n_energy, n_grid) fractions of photons per bin; photons cannot gain energy."""
    momentum = scattering_momentum(energy[:, None], np.minimum(edges, energy[:, None] * (1.0 - 1e-9)), angle_deg)
    return np.diff(profile_integrals(momentum), axis=2)


def in_two_bins(energy: Numbers, grid: Numbers) -> Numbers:
    """Return (n_energy, n_grid) weights of the two nearest bins that preserve the mean energy."""
    return np.asarray([np.interp(energy, grid, row) for row in np.eye(grid.size)]).T


def air_response(energy: Numbers, grid: Numbers, geometry: Geometry) -> Numbers:
    """Return (n_energy, n_grid) photons per 4 pi from the air in the detector's view: argon lines and scatter.

    The air is treated as a thin sample.
    """
    names, areal_density = tuple(AIR), AIR_DENSITY * geometry.seen_air_cm
    areal_by_element = np.asarray([AIR[name] for name in names]) * areal_density
    angle_deg = geometry.scattering_angle_deg
    scatter = [
        4.0 * np.pi * cross_section[..., 0] for cross_section in differential_scatter(names, energy, [angle_deg])
    ]
    lines = line_table(["Ar"])
    argon_production = line_production(lines, tuple(float(value) for value in energy)).T * AIR["Ar"] * areal_density
    response = argon_production @ in_two_bins(lines.energy_kev, grid) + (areal_by_element @ scatter[0])[
        :, None
    ] * in_two_bins(energy, grid)
    return np.asarray(
        response + (areal_by_element @ scatter[1])[:, None] * in_two_bins(compton_energy(energy, angle_deg), grid)
    )


def _min_energy(energy: Numbers, n_scatters: int) -> Numbers:
    """Return the energy after a number of Compton scatters by 180 degrees, in keV."""
    return energy / (1.0 + 2.0 * n_scatters * energy / ELECTRON_REST_KEV)


def after_one_shift(energy: Numbers, edges: Numbers) -> Numbers:
    """Return the fraction per bin of photons with energies uniform between back and forward Compton scatter."""
    min_energy = _min_energy(energy, 1)[:, None]
    cumulative = np.clip((edges - min_energy) / np.maximum(energy[:, None] - min_energy, 1e-9), 0.0, 1.0)
    return np.diff(cumulative, axis=1)


def after_two_shifts(energy: Numbers, edges: Numbers) -> Numbers:
    """Return the fraction per bin of photons after two Compton scatters: a triangular distribution of energies."""
    min_energy = _min_energy(energy, 2)[:, None]
    position = np.clip((edges - min_energy) / np.maximum(energy[:, None] - min_energy, 1e-9), 0.0, 1.0)
    cumulative = np.where(position < 0.5, 2.0 * position**2, 1.0 - 2.0 * (1.0 - position) ** 2)
    return np.diff(cumulative, axis=1)


def attenuations(elements: tuple[str, ...], energy: Numbers) -> Numbers:
    """Return the (n_element, n_energy) total mass attenuation coefficients, cm2/g."""
    return np.stack([mass_attenuation(name, energy) for name in elements])


MIN_EXCITING_KEV = 2.0
"""Lowest energy of exciting lines, keV: lines below it excite only lines that paint absorbs almost completely."""
MAX_GROUP_RATIO = 1.04
"""Largest ratio of energies of lines that are grouped as exciting lines; no result changes by more than 5e-5."""
EDGE_ELEMENTS = range(11, 84)
"""Atomic numbers of elements whose absorption edges separate groups of lines: sodium to bismuth."""
ANGLE_STEP_DEG = 0.25
"""Step of the numerical derivatives of scatter with respect to the angles, in degrees."""


@dataclass(frozen=True)
class Setting:
    """Source, geometry and atomic data as arrays of one library, precision and device.

    All cross sections are in cm2/g. Scattered radiation is represented by photons of n_node energies (nodes).

    Parameters
    ----------
    elements : tuple of str
        Symbols of the n_element elements.
    lines : LineTable
        Lines of these elements.
    line_element : (n_line,) int array
        Index of the element of each line.
    source_kev, width_kev : (n_energy,) numpy arrays
        Energy and bin width (zero for lines) of the source spectrum, in keV.
    weight : (n_energy,) array
        Number of photons of the source.
    attenuation : (n_element, n_energy) array
        Mass attenuation at the source energies.
    line_attenuation : (n_element, n_line) array
        Mass attenuation at the line energies.
    production : (n_line, n_energy) array
        Production of lines by the source photons.
    scattered_production : (n_line, n_energy) array
        Production of lines by the source photons after Compton scatter.
    line_production : (n_line, n_line) array
        Production of lines (first axis) by other lines (second axis).
    line_scatter : (2, n_element, n_line) array
        Total coherent and Compton scatter of lines.
    member : (n_line, n_exciting) array
        One for lines that belong to an exciting group of lines of an element, else zero.
    exciting_element : (n_exciting,) int array
        Index of the element of each exciting group.
    family : (n_line, n_family) array
        One for lines that belong to a family (element and main shell), else zero.
    sin_in, sin_out : () arrays
        Sines of incidence and take-off angle.
    hat : (n_energy, n_node) array
        Interpolation weights of the source energies at the nodes.
    node_attenuation : (2, n_element, n_node) array
        Mass attenuation at the nodes, and at the mean energy after Compton scatter from the nodes.
    air_lines, air_source, air_grid : arrays
        Transmission of the air path to the detector at the energies of lines, source and grid.
    grid_kev, grid_width_kev : (n_grid,) numpy arrays
        Centres and widths of the bins of Compton-scattered photons, in keV.
    beam_shift, beam_shift_twice : (n_energy, n_grid) arrays
        Energy distribution of the source's photons after one and two Compton scatters in any direction.
    beam_unshifted : (n_energy, n_grid) array
        Energy distribution of the source's photons without Compton scatter.
    line_shift : (n_line, n_grid) array
        Energy distribution of lines after one Compton scatter.
    by_air : (n_energy, n_grid) array
        Scatter from the air in the detector's view, per photon of the source.
    scatter : Directed
        Cross sections of scatter by direction.
    """

    elements: tuple[str, ...]
    lines: LineTable
    line_element: Array
    source_kev: Numbers
    width_kev: Numbers
    weight: Array
    attenuation: Array
    line_attenuation: Array
    production: Array
    scattered_production: Array
    line_production: Array
    line_scatter: Array
    member: Array
    exciting_element: Array
    family: Array
    sin_in: Array
    sin_out: Array
    hat: Array
    node_attenuation: Array
    air_lines: Array
    air_source: Array
    air_grid: Array
    grid_kev: Numbers
    grid_width_kev: Numbers
    beam_unshifted: Array
    beam_shift: Array
    beam_shift_twice: Array
    line_shift: Array
    by_air: Array
    scatter: Directed

    def to(self, like: Array) -> "Setting":
        """Return the setting as arrays of the library, precision and device of ``like``."""
        converted: Setting = _converted(self, like)
        return converted

    def at_angles(self, incidence_angle_deg: Array, takeoff_angle_deg: Array, geometry: Geometry) -> "Setting":
        """Return the setting at other angles, as torch tensors with derivatives; exact to first order in the change.

        ``geometry`` must be the geometry of this setting. If its ``scatter_angle_deg`` is set, it stays the same.
        """
        changes = (
            (incidence_angle_deg, geometry.incidence_angle_deg, "incidence_angle_deg"),
            (takeoff_angle_deg, geometry.takeoff_angle_deg, "takeoff_angle_deg"),
        )
        scatter = self.scatter
        for angle, value, name in changes:
            lower_tables, upper_tables = (
                _converted(self._scatter_of(geometry.model_copy(update={name: value + step})), self.weight)
                for step in (-ANGLE_STEP_DEG, ANGLE_STEP_DEG)
            )
            scatter = Directed(
                *(
                    getattr(scatter, field.name)
                    + (angle - value)
                    * (getattr(upper_tables, field.name) - getattr(lower_tables, field.name))
                    / (2.0 * ANGLE_STEP_DEG)
                    for field in fields(Directed)
                )
            )
        xp = array_namespace(self.weight)
        radian = np.pi / 180.0
        return replace(
            self,
            scatter=scatter,
            sin_in=xp.sin(incidence_angle_deg * radian),
            sin_out=xp.sin(takeoff_angle_deg * radian),
        )

    def _scatter_of(self, geometry: Geometry) -> Directed:
        return directed_scatter(self.elements, self.source_kev, geometry)


def make_setting(instrument: Instrument, tables: AtomicTables, source: tuple[Numbers, Numbers, Numbers]) -> Setting:
    """Return the setting of an instrument, as numpy arrays.

    Parameters
    ----------
    instrument : Instrument
    tables : AtomicTables
        Atomic data at the energies of the source.
    source : (energy_kev, weight, width_kev)
        Result of ``source_spectrum``.
    """
    geometry, (energy_kev, weight, width_kev) = instrument.geometry, source
    centre_kev, bin_width_kev = shifted_grid(float(energy_kev.max()))
    node_kev = nodes_below(float(energy_kev.max()))
    shifted_kev = compton_energy(energy_kev, 90.0)
    line_kev = tables.lines.energy_kev
    edge_kev = np.append(centre_kev - bin_width_kev / 2.0, centre_kev[-1] + bin_width_kev[-1] / 2.0)
    detector_air_cm = geometry.detector_air_cm
    member = exciting_groups(tables)
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
        scattered_production=line_production(tables.lines, tuple(float(value) for value in shifted_kev)),
        line_production=tables.line_production,
        line_scatter=np.stack(total_scatter(tables.elements, line_kev)) if len(line_kev) else np.zeros((2, 0, 0)),
        member=member,
        exciting_element=tables.line_element[member.argmax(axis=0)],
        family=_family_members(tables.lines),
        sin_in=np.asarray(np.sin(np.radians(geometry.incidence_angle_deg))),
        sin_out=np.asarray(np.sin(np.radians(geometry.takeoff_angle_deg))),
        hat=node_weights(energy_kev, node_kev),
        node_attenuation=np.stack(
            [attenuations(tables.elements, node_kev), attenuations(tables.elements, compton_energy(node_kev, 90.0))]
        ),
        air_lines=air_transmission(detector_air_cm, line_kev),
        air_source=air_transmission(detector_air_cm, energy_kev),
        air_grid=air_transmission(detector_air_cm, centre_kev),
        grid_kev=centre_kev,
        grid_width_kev=bin_width_kev,
        beam_unshifted=in_two_bins(energy_kev, centre_kev),
        beam_shift=after_one_shift(energy_kev, edge_kev),
        beam_shift_twice=after_two_shifts(energy_kev, edge_kev),
        line_shift=after_one_shift(line_kev, edge_kev),
        by_air=air_response(energy_kev, centre_kev, geometry),
        scatter=directed_scatter(tables.elements, energy_kev, geometry),
    )


def _family_members(lines: LineTable) -> Numbers:
    names = sorted(set(lines.family))
    return np.asarray([[float(family == name) for name in names] for family in lines.family])


def exciting_groups(tables: AtomicTables) -> Numbers:
    """Return an (n_line, n_group) array: one for lines that belong to an exciting group, else zero.

    Lines of an element whose energies differ by less than ``MAX_GROUP_RATIO``, with no absorption edge between them,
    have nearly the same attenuation; the remaining difference is of second order.
    """
    # edges of all elements, also absent ones: a spectrum must not depend on the other samples of its batch
    edge_kev = np.asarray([edge_energy(z, shell) for z in EDGE_ELEMENTS for shell in range(len(SHELLS))])
    energy_kev, element = tables.lines.energy_kev, tables.line_element
    groups: list[list[int]] = []
    for line in np.lexsort((energy_kev, element)):
        if energy_kev[line] < MIN_EXCITING_KEV:
            continue
        first_line = groups[-1][0] if groups else line
        same_group = (
            bool(groups)
            and element[first_line] == element[line]
            and energy_kev[line] < MAX_GROUP_RATIO * energy_kev[first_line]
        )
        if same_group and not np.any((edge_kev > energy_kev[first_line]) & (edge_kev <= energy_kev[line])):
            groups[-1].append(int(line))
        else:
            groups.append([int(line)])
    member = np.zeros((len(energy_kev), max(len(groups), 1)))
    for index, group in enumerate(groups):
        member[group, index] = 1.0
    return member


def _converted(value: Any, like: Array) -> Any:
    """Return a dataclass with its arrays, except energies, as arrays of the same kind as ``like``."""
    xp = array_namespace(like)
    converted_fields = {}
    for field in fields(value):
        entry = getattr(value, field.name)
        if isinstance(entry, Directed):
            converted_fields[field.name] = _converted(entry, like)
        elif isinstance(entry, np.ndarray) and not field.name.endswith("_kev"):
            is_integer = entry.dtype.kind in "ib"
            dtype = {} if is_integer else {"dtype": like.dtype}
            converted_fields[field.name] = xp.asarray(entry, device=like.device, **dtype)
    return replace(value, **converted_fields)
