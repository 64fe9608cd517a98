"""Robust statistics without scipy.stats, which takes half a second to import."""

import numpy as np
from numpy.typing import NDArray


def theil_slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the slope of Theil (1950) and Sen (1968), which is the median over all pairs of points that differ in x.

    Parameters
    ----------
    x, y : (n_point,) arrays
        Coordinates; at least two values of ``x`` must differ. Memory is proportional to the square of ``n_point``.
    """
    is_larger = x[:, None] > x
    return float(np.median((y[:, None] - y)[is_larger] / (x[:, None] - x)[is_larger]))
