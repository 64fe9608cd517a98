"""Tables of scatter at one geometry: from the beam into directions, on to the detector, and to which energies."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from underpaint.physics.atomic import (
    compton_energy,
    differential_scatter,
    line_production,
    line_table,
    mass_attenuation,
    profile_integrals,
    profile_mixture,
    scattering_momentum,
)
from underpaint.physics.forward.ordinates import COSINES, SHARES
from underpaint.physics.forward.source import AIR, AIR_DENSITY
from underpaint.physics.forward.stack import Array
from underpaint.physics.instrument import Geometry
from underpaint.units import ELECTRON_REST_KEV

Numbers = NDArray[np.float64]
NODES_KEV = np.asarray([3.0, *np.geomspace(5.0, 60.0, 17)])
"""Energies at which scattered tube radiation is followed; between them, everything is interpolated."""
ANGLES_DEG = np.linspace(0.0, 180.0, 25)
"""Scattering angles of the tables that directions look up."""
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
    # what the electrons' binding forbids is taken up by the rest: the scattering function gives the total
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
    """Return (n_profile, n_energy, n_grid) shares by bin; no electron gives the photon energy."""
    momentum = scattering_momentum(energy[:, None], np.minimum(edges, energy[:, None] * (1.0 - 1e-9)), angle_deg)
    return np.diff(profile_integrals(momentum), axis=2)


def in_two_bins(energy: Numbers, grid: Numbers) -> Numbers:
    """Return (n_energy, n_grid) shares of the two nearest bins, which keep the mean energy."""
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
