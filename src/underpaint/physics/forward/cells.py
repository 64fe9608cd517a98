"""Transport of radiation between the depth cells of flat layers, in discrete directions.

Array dimensions: ``n`` samples, ``j`` layers, ``c`` cells, ``k`` directions, ``m`` photon energies. The cells are those
of all layers, from the surface down.
"""

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from underpaint.physics.forward.ordinates import COSINES, DIRECTION_WEIGHTS, cell_thickness_fractions
from underpaint.physics.forward.stack import Array

MAX_SERIES_OPTICAL_DEPTH = 0.03
"""Optical depth below which a series is used for the absorbed fraction (error 2e-7), to avoid cancellation."""
MAX_OPTICAL_DEPTH = 40.0
"""Largest optical depth (transmission 4e-18). Smaller transmissions could become subnormal numbers in single precision.
Subnormal numbers make processors a hundred times slower."""
MAX_LAYER_OPTICAL_DEPTH = 24.0
"""Largest optical depth of one layer; the transmission at this depth, 4e-11, is negligible."""
MIN_CELL_PHOTONS = 1e-30
"""Number of photons added to every cell, so that no product becomes a subnormal number."""
MIN_OPTICAL_DEPTH = 1e-12
"""Smallest optical depth, to avoid division by zero."""


@dataclass(frozen=True)
class Cells:
    """Attenuation in the cells. Track lengths are per photon, in units of the cell's areal density.

    Parameters
    ----------
    areal_density : (n, c, 1) array
        Areal density of a cell, in g/cm2.
    transmission : (n, c, k, m) array
        Transmission of each cell in each direction.
    escape : (n, c, k, m) array
        Fraction of photons that leave the cell in which they are emitted; emission is uniform in the cell.
    mean_track : (n, c, k, m) array
        Mean track length, in the cell, of photons that enter the cell.
    mean_inner_track : (n, c, k, m) array
        Mean track length, in the cell, of photons that are emitted uniformly in the cell.
    """

    areal_density: Array
    transmission: Array
    escape: Array
    mean_track: Array
    mean_inner_track: Array


def make_cells(normal_depth: Array, areal_density: Array, n_cells: int) -> Cells:
    """Return the depth cells of stacked layers.

    Parameters
    ----------
    normal_depth : (n, j, m) array
        Optical depth of each layer along the normal, at each energy.
    areal_density : (n, j) array
        Areal density of each layer, in g/cm2.
    n_cells : int
        Number of cells per layer; an even number.
    """
    xp = array_namespace(normal_depth)
    relative_thickness, cosine = (
        as_array(cell_thickness_fractions(n_cells), normal_depth),
        as_array(COSINES, normal_depth)[:, None],
    )
    # cells are symmetric within a layer, so that only half of the cells are computed
    slanted_depth = normal_depth[:, :, None, None, :] * (relative_thickness[: n_cells // 2, None, None] / cosine)
    transmitted_fraction, escape = transmission(slanted_depth)
    absorbed_fraction = xp.where(
        slanted_depth < MAX_SERIES_OPTICAL_DEPTH,
        _absorbed_fraction_series(slanted_depth),
        (1.0 - escape) / (slanted_depth + MIN_OPTICAL_DEPTH),
    )
    upper_halves = (transmitted_fraction, escape, escape / cosine, absorbed_fraction / cosine)
    return Cells(
        xp.reshape(areal_density[:, :, None] * relative_thickness, (areal_density.shape[0], -1, 1)),
        *(_append_mirror_image(xp, half_array, n_cells) for half_array in upper_halves),
    )


def limited_transmission(depth: Array, max_depth: float = MAX_OPTICAL_DEPTH) -> Array:
    """Return ``exp(-depth)``; depths above ``max_depth`` are set to ``max_depth``."""
    xp = array_namespace(depth)
    return xp.exp(-xp.clip(depth, max=max_depth))


def transmission(depth: Array) -> tuple[Array, Array]:
    """Return the transmission through the optical depth ``d``, and the mean over depths, ``(1 - exp(-d)) / d``."""
    xp = array_namespace(depth)
    absorbed_fraction = -xp.expm1(-depth)
    return 1.0 - absorbed_fraction, xp.where(
        depth > MIN_OPTICAL_DEPTH, absorbed_fraction / (depth + MIN_OPTICAL_DEPTH), 1.0
    )


def isotropic_track_lengths(cells: Cells, production: Array) -> Array:
    """Return the total track length in every cell; photons are emitted uniformly and isotropically in the cells.

    Parameters
    ----------
    production : (n, c, m) array
        Photons emitted in each cell.

    Returns
    -------
    (n, c, m) array
        Total track length in each cell, in photons times g/cm2.
    """
    xp = array_namespace(production)
    direction_weight = as_array(DIRECTION_WEIGHTS, production)[:, None]
    photons = production[:, :, None, :] * (0.5 * direction_weight)
    leaving_photons = photons * cells.escape + MIN_CELL_PHOTONS
    entering_photons = photons_from_above(cells, leaving_photons) + photons_from_below(cells, leaving_photons)
    return cells.areal_density * xp.sum(
        entering_photons * cells.mean_track + 2.0 * photons * cells.mean_inner_track, axis=2
    )


def directed_track_lengths(cells: Cells, downward_photons: Array, upward_photons: Array) -> tuple[Array, Array]:
    """Return the total track lengths, in every cell, of downward and of upward photons.

    Parameters
    ----------
    downward_photons, upward_photons : (n, c, k, m) arrays
        Photons emitted in each cell, by direction.

    Returns
    -------
    (n, c, k, m) arrays
        Total track lengths, in photons times g/cm2.
    """
    areal_density = cells.areal_density[..., None]
    downward_track = (
        photons_from_above(cells, downward_photons * cells.escape + MIN_CELL_PHOTONS) * cells.mean_track
        + downward_photons * cells.mean_inner_track
    )
    upward_track = (
        photons_from_below(cells, upward_photons * cells.escape + MIN_CELL_PHOTONS) * cells.mean_track
        + upward_photons * cells.mean_inner_track
    )
    return areal_density * downward_track, areal_density * upward_track


def photons_from_above(cells: Cells, leaving_photons: Array) -> Array:
    """Return the (n, c, k, m) photons that enter each cell from above, given the photons that leave each cell."""
    return _flux_into_cells(cells.transmission, leaving_photons, range(leaving_photons.shape[1]))


def photons_from_below(cells: Cells, leaving_photons: Array) -> Array:
    """Return the (n, c, k, m) photons that enter each cell from below, given the photons that leave each cell."""
    return _flux_into_cells(cells.transmission, leaving_photons, range(leaving_photons.shape[1] - 1, -1, -1))


def as_array(values: Any, reference_array: Array) -> Array:
    """Convert values to an array with the library, precision and device of ``reference_array``."""
    return array_namespace(reference_array).asarray(values, dtype=reference_array.dtype, device=reference_array.device)


def repeat_for_cells(values: Array, n_cells: int) -> Array:
    """Repeat (n, j, ...) values of layers for the cells of each layer; return (n, c, ...) values."""
    return array_namespace(values).repeat(values, n_cells, axis=1)


def _flux_into_cells(transmission_by_cell: Array, leaving_photons: Array, cell_order: range) -> Array:
    entering_flux = {}
    passing_photons = 0.0 * transmission_by_cell[:, 0]
    for cell in cell_order:
        entering_flux[cell] = passing_photons
        passing_photons = passing_photons * transmission_by_cell[:, cell] + leaving_photons[:, cell]
    return array_namespace(transmission_by_cell).stack(
        [entering_flux[cell] for cell in range(len(entering_flux))], axis=1
    )


def _append_mirror_image(xp: Any, upper_half: Array, n_cells: int) -> Array:
    """Append the mirror image of the upper half of each layer's cells: (n, j, c / 2, ...) -> (n, j * c, ...)."""
    mirrored_cells = xp.concat([upper_half, xp.flip(upper_half, axis=2)], axis=2)
    return xp.reshape(
        mirrored_cells, (mirrored_cells.shape[0], mirrored_cells.shape[1] * n_cells, *mirrored_cells.shape[3:])
    )


def _absorbed_fraction_series(depth: Array) -> Array:
    """Return ``(d - 1 + exp(-d)) / d**2`` for small optical depths ``d``."""
    return 0.5 - depth * (1.0 / 6.0 - depth * (1.0 / 24.0 - depth / 120.0))
