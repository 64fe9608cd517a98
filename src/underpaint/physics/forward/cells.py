"""Transport of radiation between the depth cells of flat layers, in discrete directions.

Array dimensions: ``n`` samples, ``j`` layers, ``c`` cells (of all layers, from the surface down), ``k`` directions,
``m`` photon energies.
"""

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from underpaint.physics.forward.ordinates import COSINES, SHARES, cell_shares
from underpaint.physics.forward.stack import Array

MAX_SERIES_DEPTH = 0.03
"""Optical depth below which the absorbed fraction is computed from a series (error 2e-7), for precision."""
MAX_DEPTH = 40.0
"""Limit of optical depths (transmission 4e-18). Smaller transmissions and their products would be subnormal numbers in
single precision, with which processors are a hundred times slower."""
MAX_LAYER_DEPTH = 24.0
"""Limit of the optical depth of one layer: only one minus the transmission is used there, and 4e-11 is negligible."""
MIN_PHOTONS = 1e-30
"""Photons that are added to every cell, so that no product becomes a subnormal number."""
MIN_DEPTH = 1e-12
"""Smallest optical depth, to avoid division by zero."""


@dataclass(frozen=True)
class Cells:
    """Attenuation in the cells. Track lengths are per photon, relative to the areal density of the cell.

    Parameters
    ----------
    areal : (n, c, 1) array
        Areal density of a cell, in g/cm2.
    transmission : (n, c, k, m) array
        Transmission of a cell in a direction.
    escape : (n, c, k, m) array
        Fraction of the photons emitted uniformly in a cell, by direction, that leave the cell.
    mean_track : (n, c, k, m) array
        Mean track length in a cell of photons that enter it.
    mean_inner_track : (n, c, k, m) array
        Mean track length in a cell of photons emitted uniformly in it.
    """

    areal: Array
    transmission: Array
    escape: Array
    mean_track: Array
    mean_inner_track: Array


def make_cells(normal_depth: Array, areal: Array, n_cells: int) -> Cells:
    """Return the cells of stacked layers.

    Parameters
    ----------
    normal_depth : (n, j, m) array
        Optical depth of each layer along the normal, at each energy.
    areal : (n, j) array
        Areal density of each layer, in g/cm2.
    n_cells : int
        Number of cells per layer, even.
    """
    xp = array_namespace(normal_depth)
    thickness_share, cosine = as_array(cell_shares(n_cells), normal_depth), as_array(COSINES, normal_depth)[:, None]
    # the cells are symmetric within their layer: only half of them are computed
    depth = normal_depth[:, :, None, None, :] * (thickness_share[: n_cells // 2, None, None] / cosine)
    transmitted, escape = transmission(depth)
    absorbed = xp.where(depth < MAX_SERIES_DEPTH, _absorbed_series(depth), (1.0 - escape) / (depth + MIN_DEPTH))
    quantities = (transmitted, escape, escape / cosine, absorbed / cosine)
    return Cells(
        xp.reshape(areal[:, :, None] * thickness_share, (areal.shape[0], -1, 1)),
        *(_with_mirror_image(xp, quantity, n_cells) for quantity in quantities),
    )


def limited_transmission(depth: Array, max_depth: float = MAX_DEPTH) -> Array:
    """Return ``exp(-depth)``, or ``exp(-max_depth)`` where that is larger."""
    xp = array_namespace(depth)
    return xp.exp(-xp.clip(depth, max=max_depth))


def transmission(depth: Array) -> tuple[Array, Array]:
    """Return the transmission, and its mean over the layer, ``(1 - exp(-d)) / d`` (one at zero depth)."""
    xp = array_namespace(depth)
    absorbed = -xp.expm1(-depth)
    return 1.0 - absorbed, xp.where(depth > MIN_DEPTH, absorbed / (depth + MIN_DEPTH), 1.0)


def isotropic_tracks(cells: Cells, production: Array) -> Array:
    """Return the track length in every cell of photons that are emitted uniformly and isotropically in the cells.

    Parameters
    ----------
    production : (n, c, m) array
        Photons emitted in each cell.

    Returns
    -------
    (n, c, m) array
        Total track length, photons times g/cm2.
    """
    xp = array_namespace(production)
    direction_weight = as_array(SHARES, production)[:, None]
    photons = production[:, :, None, :] * (0.5 * direction_weight)
    leaving = photons * cells.escape + MIN_PHOTONS
    entering = photons_from_above(cells, leaving) + photons_from_below(cells, leaving)
    return cells.areal * xp.sum(entering * cells.mean_track + 2.0 * photons * cells.mean_inner_track, axis=2)


def directed_tracks(cells: Cells, down: Array, up: Array) -> tuple[Array, Array]:
    """Return the track lengths of downward and of upward photons in every cell.

    Parameters
    ----------
    down, up : (n, c, k, m) arrays
        Photons emitted in each cell by direction.

    Returns
    -------
    (n, c, k, m) arrays
        Total track length, photons times g/cm2.
    """
    areal = cells.areal[..., None]
    down_track = (
        photons_from_above(cells, down * cells.escape + MIN_PHOTONS) * cells.mean_track + down * cells.mean_inner_track
    )
    up_track = (
        photons_from_below(cells, up * cells.escape + MIN_PHOTONS) * cells.mean_track + up * cells.mean_inner_track
    )
    return areal * down_track, areal * up_track


def photons_from_above(cells: Cells, leaving: Array) -> Array:
    """Return the (n, c, k, m) photons that enter each cell from above; ``leaving`` are those that leave each cell."""
    return _swept_flux(cells.transmission, leaving, range(leaving.shape[1]))


def photons_from_below(cells: Cells, leaving: Array) -> Array:
    """Return the (n, c, k, m) photons that enter each cell from below; ``leaving`` are those that leave each cell."""
    return _swept_flux(cells.transmission, leaving, range(leaving.shape[1] - 1, -1, -1))


def as_array(values: Any, like: Array) -> Array:
    """Return values as an array of the same library, precision and device."""
    return array_namespace(like).asarray(values, dtype=like.dtype, device=like.device)


def repeated_for_cells(values: Array, n_cells: int) -> Array:
    """Repeat the values of layers, (n, j, ...), for the cells of each layer, (n, c, ...)."""
    return array_namespace(values).repeat(values, n_cells, axis=1)


def _swept_flux(transmission_by_cell: Array, leaving: Array, cell_order: range) -> Array:
    entering = {}
    flux = 0.0 * transmission_by_cell[:, 0]
    for cell in cell_order:
        entering[cell] = flux
        flux = flux * transmission_by_cell[:, cell] + leaving[:, cell]
    return array_namespace(transmission_by_cell).stack([entering[cell] for cell in range(len(entering))], axis=1)


def _with_mirror_image(xp: Any, upper_half: Array, n_cells: int) -> Array:
    """Complete the cells of each layer from its upper half: (n, j, c / 2, ...) -> (n, j * c, ...)."""
    all_cells = xp.concat([upper_half, xp.flip(upper_half, axis=2)], axis=2)
    return xp.reshape(all_cells, (all_cells.shape[0], all_cells.shape[1] * n_cells, *all_cells.shape[3:]))


def _absorbed_series(depth: Array) -> Array:
    """Return ``(d - 1 + exp(-d)) / d**2`` for small optical depths ``d``."""
    return 0.5 - depth * (1.0 / 6.0 - depth * (1.0 / 24.0 - depth / 120.0))
