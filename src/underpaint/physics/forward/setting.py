"""Quantities that do not depend on the sample: the incident radiation and the atomic data."""

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
NODES_KEV = np.asarray([3.0, *np.geomspace(5.0, 60.0, 17)])
"""Energies at which scattered tube radiation is followed; between them, everything is interpolated."""
ANGLES_DEG = np.linspace(0.0, 180.0, 25)
"""Scattering angles of the tables, interpolated for each direction."""
AZIMUTHS = 8
"""Points of the mean over the azimuth between two directions."""
SHIFTED_STEPS_KEV = ((0.5, 10.0, 0.05), (10.0, 120.0, 0.1))
"""From, to and width of the bins of shifted photons."""


@dataclass(frozen=True)
class Directed:
    """First and second scatter by direction, at one geometry; a first axis of two is coherent, Compton.

    Parameters
    ----------
    coherent : (n_element, n_energy) array
        4 pi d(sigma)/d(Omega) from the beam to the detector at every source energy, cm2/g.
    compton : (n_profile, n_element, n_energy) array
        The same, split by the profiles that an element mixes.
    into : (2, 2, n_element, n_direction, n_node) array
        From the beam into downward and upward directions (second axis) of the cells: cross sections whose sum over
        all directions is the total one, cm2/g.
    out : (2, 2, n_element, n_direction, n_node) array
        From those directions to the detector: 4 pi d(sigma)/d(Omega), cm2/g.
    profile : (n_profile, n_energy, n_grid) array
        Share of the photons of an energy that Compton scatter to the detector puts into each bin.
    shifted_attenuation : (n_element, n_energy) array
        Total attenuation at the mean energy after Compton scatter to the detector, cm2/g.
    """

    coherent: Array
    compton: Array
    into: Array
    out: Array
    profile: Array
    shifted_attenuation: Array


def directed_scatter(elements: tuple[str, ...], energy: Numbers, geometry: Geometry) -> Directed:
    """Return scatter by direction at one geometry, numpy."""
    angle = geometry.scattering_angle_deg
    shifted = compton_energy(energy, angle)
    coherent, compton = (4.0 * np.pi * table[..., 0] for table in differential_scatter(elements, energy, [angle]))
    nodes = nodes_below(float(energy.max()))
    tables = np.stack(differential_scatter(elements, nodes, ANGLES_DEG))
    # the beam travels down; towards the detector is up
    beam = _between(-np.sin(np.radians(geometry.incidence_angle_deg)))
    detector = _between(np.sin(np.radians(geometry.takeoff_angle_deg)))
    share = 2.0 * np.pi * SHARES[:, None]
    grid, width = shifted_grid(float(energy.max()))
    edges = np.append(grid - width / 2.0, grid[-1] + width[-1] / 2.0)
    profile = _profiles(energy, edges, angle)
    mixture = profile_mixture(elements)
    # electrons that binding excludes are compensated by the others: the scattering function gives the total
    allowed = np.maximum(mixture @ profile.sum(axis=2), 0.01)
    return Directed(
        coherent,
        mixture.T[:, :, None] * compton / allowed,
        share * np.einsum("szga,uka->suzkg", tables, beam),
        4.0 * np.pi * np.einsum("szga,uka->suzkg", tables, detector),
        profile,
        attenuations(elements, shifted),
    )


@lru_cache
def shifted_grid(highest_kev: float) -> tuple[Numbers, Numbers]:
    """Return middles and widths, keV, of the bins of photons that Compton scatter has shifted."""
    edges = np.concatenate([np.arange(low, high, step) for low, high, step in SHIFTED_STEPS_KEV])
    edges = edges[: int(np.searchsorted(edges, highest_kev)) + 1]
    return (edges[1:] + edges[:-1]) / 2.0, np.diff(edges)


@lru_cache
def nodes_below(highest_kev: float) -> Numbers:
    """Return the nodes that a source up to some energy, keV, needs."""
    return NODES_KEV[: int(np.searchsorted(NODES_KEV, highest_kev)) + 1]


def node_weights(energy: Numbers, nodes: Numbers) -> Numbers:
    """Return (n_energy, n_node) linear interpolation weights; below the first node they fade with the energy."""
    hats = np.asarray([np.interp(energy, nodes, row) for row in np.eye(nodes.size)]).T
    return np.asarray(hats * np.minimum(energy / nodes[0], 1.0)[:, None])


def _between(cosine: float) -> Numbers:
    """Return (2, n_direction, n_angle) mean over the azimuth of the hats of ``ANGLES_DEG``.

    Scattering angles lie between a fixed direction and the downward and upward directions of the cells.
    """
    azimuth = (np.arange(AZIMUTHS) + 0.5) * np.pi / AZIMUTHS
    sine = np.sqrt(1.0 - cosine**2)
    result = []
    for way in (-1.0, 1.0):
        along = cosine * way * COSINES[:, None] + sine * np.sqrt(1.0 - COSINES[:, None] ** 2) * np.cos(azimuth)
        angle = np.degrees(np.arccos(np.clip(along, -1.0, 1.0)))
        hats = np.asarray([np.interp(angle, ANGLES_DEG, row) for row in np.eye(ANGLES_DEG.size)])
        result.append(hats.mean(axis=2).T)
    return np.asarray(result)


def _profiles(energy: Numbers, edges: Numbers, angle_deg: float) -> Numbers:
    """Return (n_profile, n_energy, n_grid) shares by bin; photons gain no energy."""
    momentum = scattering_momentum(energy[:, None], np.minimum(edges, energy[:, None] * (1.0 - 1e-9)), angle_deg)
    return np.diff(profile_integrals(momentum), axis=2)


def in_two_bins(energy: Numbers, grid: Numbers) -> Numbers:
    """Return (n_energy, n_grid) shares of the two nearest bins that preserve the mean energy."""
    return np.asarray([np.interp(energy, grid, row) for row in np.eye(grid.size)]).T


def air_response(energy: Numbers, grid: Numbers, geometry: Geometry) -> Numbers:
    """Return (n_energy, n_grid) photons per 4 pi from the air in view, thin: argon's lines, coherent and Compton."""
    names, areal = tuple(AIR), AIR_DENSITY * geometry.seen_air_cm
    share = np.asarray([AIR[name] for name in names]) * areal
    angle = geometry.scattering_angle_deg
    tables = [4.0 * np.pi * table[..., 0] for table in differential_scatter(names, energy, [angle])]
    lines = line_table(["Ar"])
    argon = line_production(lines, tuple(float(value) for value in energy)).T * AIR["Ar"] * areal
    response = argon @ in_two_bins(lines.energy_kev, grid) + (share @ tables[0])[:, None] * in_two_bins(energy, grid)
    return np.asarray(response + (share @ tables[1])[:, None] * in_two_bins(compton_energy(energy, angle), grid))


def _lowest(energy: Numbers, times: int) -> Numbers:
    """Return the energy after back scatter, keV."""
    return energy / (1.0 + 2.0 * times * energy / ELECTRON_REST_KEV)


def after_one_shift(energy: Numbers, edges: Numbers) -> Numbers:
    """Return shares by bin of photons spread evenly between back and forward Compton scatter."""
    low = _lowest(energy, 1)[:, None]
    below = np.clip((edges - low) / np.maximum(energy[:, None] - low, 1e-9), 0.0, 1.0)
    return np.diff(below, axis=1)


def after_two_shifts(energy: Numbers, edges: Numbers) -> Numbers:
    """Return shares by bin after two Compton scatters: the sum of two even spreads is a triangle."""
    low = _lowest(energy, 2)[:, None]
    place = np.clip((edges - low) / np.maximum(energy[:, None] - low, 1e-9), 0.0, 1.0)
    below = np.where(place < 0.5, 2.0 * place**2, 1.0 - 2.0 * (1.0 - place) ** 2)
    return np.diff(below, axis=1)


def attenuations(elements: tuple[str, ...], energy: Numbers) -> Numbers:
    """Return (n_element, n_energy) total mass attenuation, cm2/g."""
    return np.stack([mass_attenuation(name, energy) for name in elements])


LOWEST_EXCITING_KEV = 2.0
"""Softer lines excite only lines below 2 keV, which paint absorbs almost completely."""
GROUPED_WITHIN = 1.04
"""Lines whose energies differ by less than this factor may be grouped for excitation; no line changes by 5e-5."""
EDGES_OF = range(11, 84)
"""Elements whose absorption edges separate groups of lines: sodium to bismuth, those of paint."""
ANGLE_STEP_DEG = 0.25
"""Step of the numerical derivatives of scatter to the angles."""


@dataclass(frozen=True)
class Setting:
    """Source, geometry and atomic data as arrays of one library, precision and device.

    ``n_node`` energies represent the scattered radiation; ``hat`` spreads every source energy over its two neighbouring
    nodes.

    Parameters
    ----------
    elements : tuple of str
    lines : LineTable
    line_element : (n_line,) int array
    source_kev, width_kev : (n_energy,) numpy arrays
        keV; width of the bin, zero for lines.
    weight : (n_energy,) array
        Photons of the source.
    attenuation : (n_element, n_energy) array
        cm2/g, as all cross sections here.
    line_attenuation : (n_element, n_line) array
    production : (n_line, n_energy) array
    scattered_production : (n_line, n_energy) array
        Production by the source's photons after Compton scatter.
    line_production : (n_line, n_line) array
        Production of the first axis' line by the second's.
    line_scatter : (2, n_element, n_line) array
        Total coherent and Compton scatter of lines.
    member : (n_line, n_exciting) array
        One where a line belongs to an exciting group of lines of its element.
    exciting_element : (n_exciting,) int array
    family : (n_line, n_family) array
        One where a line belongs to a family (element and main shell).
    sin_in, sin_out : () arrays
        Sines of incidence and take-off angle.
    hat : (n_energy, n_node) array
    node_attenuation : (2, n_element, n_node) array
        At the nodes, and after mean Compton scatter from them.
    air_lines, air_source, air_grid : arrays
        Transmission of the detector's air path.
    grid_kev, grid_width_kev : (n_grid,) numpy arrays
        Bins of photons that Compton scatter has shifted, keV.
    beam_shift, beam_shift_twice : (n_energy, n_grid) arrays
        Energy distribution of the source's photons after one and two Compton scatters in any direction.
    beam_unshifted : (n_energy, n_grid) array
        The same before scatter.
    line_shift : (n_line, n_grid) array
        Energy distribution of lines after one Compton scatter.
    by_air : (n_energy, n_grid) array
        Scatter from the air in the detector's view, per photon of the source.
    scatter : Directed
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
        moved: Setting = _converted(self, like)
        return moved

    def at_angles(self, incidence_angle_deg: Array, takeoff_angle_deg: Array, geometry: Geometry) -> "Setting":
        """Return the setting at angles that carry derivatives (torch), exact to first order about ``geometry``.

        The setting must belong to ``geometry``. A stated ``scatter_angle_deg`` is kept.
        """
        steps = (
            (incidence_angle_deg, geometry.incidence_angle_deg, "incidence_angle_deg"),
            (takeoff_angle_deg, geometry.takeoff_angle_deg, "takeoff_angle_deg"),
        )
        scatter = self.scatter
        for angle, at, name in steps:
            low, high = (
                _converted(self._scatter_of(geometry.model_copy(update={name: at + step})), self.weight)
                for step in (-ANGLE_STEP_DEG, ANGLE_STEP_DEG)
            )
            scatter = Directed(
                *(
                    getattr(scatter, field.name)
                    + (angle - at) * (getattr(high, field.name) - getattr(low, field.name)) / (2.0 * ANGLE_STEP_DEG)
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
    """Return the numpy setting of an instrument whose source spectrum is given.

    Parameters
    ----------
    tables : AtomicTables
        On the source's energies.
    source : (energy_kev, weight, width_kev)
        From ``source_spectrum``.
    """
    geometry, (energy, weight, width) = instrument.geometry, source
    grid, grid_width = shifted_grid(float(energy.max()))
    nodes = nodes_below(float(energy.max()))
    shifted = compton_energy(energy, 90.0)
    line_kev = tables.lines.energy_kev
    edges = np.append(grid - grid_width / 2.0, grid[-1] + grid_width[-1] / 2.0)
    air = geometry.detector_air_cm
    member = exciting_groups(tables)
    return Setting(
        elements=tables.elements,
        lines=tables.lines,
        line_element=tables.line_element,
        source_kev=energy,
        width_kev=width,
        weight=weight,
        attenuation=tables.mass_attenuation,
        line_attenuation=tables.line_attenuation,
        production=tables.production,
        scattered_production=line_production(tables.lines, tuple(float(value) for value in shifted)),
        line_production=tables.line_production,
        line_scatter=np.stack(total_scatter(tables.elements, line_kev)) if len(line_kev) else np.zeros((2, 0, 0)),
        member=member,
        exciting_element=tables.line_element[member.argmax(axis=0)],
        family=_families(tables.lines),
        sin_in=np.asarray(np.sin(np.radians(geometry.incidence_angle_deg))),
        sin_out=np.asarray(np.sin(np.radians(geometry.takeoff_angle_deg))),
        hat=node_weights(energy, nodes),
        node_attenuation=np.stack(
            [attenuations(tables.elements, nodes), attenuations(tables.elements, compton_energy(nodes, 90.0))]
        ),
        air_lines=air_transmission(air, line_kev),
        air_source=air_transmission(air, energy),
        air_grid=air_transmission(air, grid),
        grid_kev=grid,
        grid_width_kev=grid_width,
        beam_unshifted=in_two_bins(energy, grid),
        beam_shift=after_one_shift(energy, edges),
        beam_shift_twice=after_two_shifts(energy, edges),
        line_shift=after_one_shift(line_kev, edges),
        by_air=air_response(energy, grid, geometry),
        scatter=directed_scatter(tables.elements, energy, geometry),
    )


def _families(lines: LineTable) -> Numbers:
    names = sorted(set(lines.family))
    return np.asarray([[float(family == name) for name in names] for family in lines.family])


def exciting_groups(tables: AtomicTables) -> Numbers:
    """Return (n_line, n_group) ones where a line belongs to an exciting group.

    Lines of an element within ``GROUPED_WITHIN`` of each other, with no absorption edge of any element between them,
    have nearly the same attenuation; the remaining difference is of second order.
    """
    # edges of all elements, present or not: a spectrum must not depend on the others in its batch
    edges = np.asarray([edge_energy(number, shell) for number in EDGES_OF for shell in range(len(SHELLS))])
    energy, element = tables.lines.energy_kev, tables.line_element
    groups: list[list[int]] = []
    for line in np.lexsort((energy, element)):
        if energy[line] < LOWEST_EXCITING_KEV:
            continue
        first = groups[-1][0] if groups else line
        like = bool(groups) and element[first] == element[line] and energy[line] < GROUPED_WITHIN * energy[first]
        if like and not np.any((edges > energy[first]) & (edges <= energy[line])):
            groups[-1].append(int(line))
        else:
            groups.append([int(line)])
    member = np.zeros((len(energy), max(len(groups), 1)))
    for index, group in enumerate(groups):
        member[group, index] = 1.0
    return member


def _converted(value: Any, like: Array) -> Any:
    """Return a dataclass with its arrays (but those in keV) as arrays of the library of ``like``."""
    xp = array_namespace(like)
    changed = {}
    for field in fields(value):
        entry = getattr(value, field.name)
        if isinstance(entry, Directed):
            changed[field.name] = _converted(entry, like)
        elif isinstance(entry, np.ndarray) and not field.name.endswith("_kev"):
            is_integer = entry.dtype.kind in "ib"
            kind = {} if is_integer else {"dtype": like.dtype}
            changed[field.name] = xp.asarray(entry, device=like.device, **kind)
    return replace(value, **changed)
