"""Directions (discrete ordinates) of isotropic radiation in flat layers, and the depth cells of a layer.

In flat layers, only the cosine ``mu`` of a photon's angle to the normal matters. Along its slanted path through a layer
of optical depth ``d``, the photon traverses the optical depth ``d / mu``. Averaged over all directions, exponentials
become exponential integrals: the transmission of isotropic radiation is ``E2(d)``. Six directions represent all
directions (Chandrasekhar 1950). For layers of optical depth 0.0005 to 30, the error is at most 0.05 % of the
transmission and 0.25 % of the absorption. ``tools/fit_ordinates.py`` fitted the directions.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

COSINES = np.asarray([2.9732617169e-4, 3.1267696034e-3, 2.3045550295e-2, 0.11982330054, 0.39459543220, 0.82602034147])
"""Cosines of the angles between the directions and the normal of the layers."""
DIRECTION_WEIGHTS = np.asarray([8.641567e-4, 6.6260819e-3, 4.27358059e-2, 0.1702256494, 0.3836009849, 0.3959473213])
DIRECTION_WEIGHTS /= DIRECTION_WEIGHTS.sum()
"""Weights of the directions in a half-space. The weights sum to one, so that photons are conserved."""


@lru_cache
def cell_thickness_fractions(n_cells: int) -> NDArray[np.float64]:
    """Return cell thicknesses as fractions of the layer; cells near both faces are thinner (cosine spacing)."""
    cell_edges = 0.5 * (1.0 - np.cos(np.pi * np.arange(n_cells + 1) / n_cells))
    return np.diff(cell_edges)
