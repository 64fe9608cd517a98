"""Light between the cells of flat layers, direction by direction.

Shapes: ``n`` samples, ``j`` layers, ``c`` cells (those of all layers, from the surface down), ``k`` directions,
``m`` energies of the light.
"""

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from underpaint.physics.forward.ordinates import COSINES, SHARES, cell_shares
from underpaint.physics.forward.stack import Array

SERIES_BELOW = 0.03
"""Below this optical depth the absorbed share is computed from its series (error 2e-7), since the formula loses
precision."""
DEEPEST = 40.0
"""Optical depths are limited to this value, a transmission of 4e-18. Smaller transmissions and their products would be
subnormal in single precision, which slows processors down a hundredfold."""
DEEPEST_LAYER = 24.0
"""The same for one layer, where only one minus the transmission matters and 4e-11 is negligible."""
FAINTEST_LIGHT = 1e-30
"""Photons that are everywhere, so that none of the sweep's products becomes subnormal."""
MIN_DEPTH = 1e-12
"""Smallest depth, to avoid division by zero."""


@dataclass(frozen=True)
class Cells:
    """Attenuation of radiation of some energies in the cells. Tracks are per photon and g/cm2 of the cell.

    Parameters
    ----------
    areal : (n, c, 1) array
        Areal density of a cell, g/cm2.
    transmission : (n, c, k, m) array
        Transmission of a cell in a direction.
    escape : (n, c, k, m) array
        Share of photons emitted uniformly in a cell, by direction, that leave it.
    track : (n, c, k, m) array
        Mean track of a photon that enters the cell.
    inner_track : (n, c, k, m) array
        Mean track within the cell of photons emitted uniformly in it.
    """

    areal: Array
    transmission: Array
    escape: Array
    track: Array
    inner_track: Array


def make_cells(vertical: Array, areal: Array, cells: int) -> Cells:
    """Return the cells of stacked layers.

    Parameters
    ----------
    vertical : (n, j, m) array
        Optical depth of each layer straight across, at each energy.
    areal : (n, j) array
        g/cm2.
    cells : int
        Even number of cells a layer.
    """
    xp = array_namespace(vertical)
    share, cosine = as_array(cell_shares(cells), vertical), as_array(COSINES, vertical)[:, None]
    # the cells are symmetric within their layer: only half of them are computed
    depth = vertical[:, :, None, None, :] * (share[: cells // 2, None, None] / cosine)
    passed, mean = transmission(depth)
    transmitted = xp.where(depth < SERIES_BELOW, _kept_series(depth), (1.0 - mean) / (depth + MIN_DEPTH))
    parts = (passed, mean, mean / cosine, transmitted / cosine)
    return Cells(
        xp.reshape(areal[:, :, None] * share, (areal.shape[0], -1, 1)),
        *(_mirrored(xp, part, cells) for part in parts),
    )


def attenuated(depth: Array, deepest: float = DEEPEST) -> Array:
    """Return ``exp(-depth)``, and never less than ``exp(-deepest)``."""
    xp = array_namespace(depth)
    return xp.exp(-xp.clip(depth, max=deepest))


def transmission(depth: Array) -> tuple[Array, Array]:
    """Return the transmission, and its mean over the depth ``(1 - exp(-d)) / d`` (one at zero)."""
    xp = array_namespace(depth)
    lost = -xp.expm1(-depth)
    return 1.0 - lost, xp.where(depth > MIN_DEPTH, lost / (depth + MIN_DEPTH), 1.0)


def isotropic_tracks(cells: Cells, production: Array) -> Array:
    """Return the track in every cell of photons emitted uniformly and isotropically in the cells.

    Parameters
    ----------
    production : (n, c, m) array
        Photons emitted in each cell.

    Returns
    -------
    (n, c, m) array
        Total track, photons times g/cm2.
    """
    xp = array_namespace(production)
    share = as_array(SHARES, production)[:, None]
    each = production[:, :, None, :] * (0.5 * share)
    leaving = each * cells.escape + FAINTEST_LIGHT
    entering = from_above(cells, leaving) + from_below(cells, leaving)
    return cells.areal * xp.sum(entering * cells.track + 2.0 * each * cells.inner_track, axis=2)


def directed_tracks(cells: Cells, down: Array, up: Array) -> tuple[Array, Array]:
    """Return the tracks of downward and of upward photons in every cell.

    Parameters
    ----------
    down, up : (n, c, k, m) arrays
        Photons emitted in each cell by direction.

    Returns
    -------
    (n, c, k, m) arrays
        Total track, photons times g/cm2.
    """
    areal = cells.areal[..., None]
    going_down = from_above(cells, down * cells.escape + FAINTEST_LIGHT) * cells.track + down * cells.inner_track
    going_up = from_below(cells, up * cells.escape + FAINTEST_LIGHT) * cells.track + up * cells.inner_track
    return areal * going_down, areal * going_up


def from_above(cells: Cells, leaving: Array) -> Array:
    """Return the (n, c, k, m) photons that enter each cell from above, from those ``leaving`` their own cells."""
    return _swept(cells.transmission, leaving, range(leaving.shape[1]))


def from_below(cells: Cells, leaving: Array) -> Array:
    """Return (n, c, k, m) photons that enter each cell from below."""
    return _swept(cells.transmission, leaving, range(leaving.shape[1] - 1, -1, -1))


def as_array(values: Any, like: Array) -> Array:
    """Return values as an array of the same library, precision and device."""
    return array_namespace(like).asarray(values, dtype=like.dtype, device=like.device)


def per_cell(values: Array, cells: int) -> Array:
    """Repeat values of layers, (n, j, ...), for their cells: (n, c, ...)."""
    return array_namespace(values).repeat(values, cells, axis=1)


def _swept(passed: Array, leaving: Array, path: range) -> Array:
    entering = {}
    flux = 0.0 * passed[:, 0]
    for cell in path:
        entering[cell] = flux
        flux = flux * passed[:, cell] + leaving[:, cell]
    return array_namespace(passed).stack([entering[cell] for cell in range(len(entering))], axis=1)


def _mirrored(xp: Any, part: Array, cells: int) -> Array:
    """(n, j, c / 2, ...) -> (n, j * c, ...), the second half of each layer mirroring the first."""
    full = xp.concat([part, xp.flip(part, axis=2)], axis=2)
    return xp.reshape(full, (full.shape[0], full.shape[1] * cells, *full.shape[3:]))


def _kept_series(depth: Array) -> Array:
    """Return ``(d - 1 + exp(-d)) / d**2`` for small depths."""
    return 0.5 - depth * (1.0 / 6.0 - depth * (1.0 / 24.0 - depth / 120.0))
