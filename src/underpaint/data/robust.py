"""Compute robust statistics without scipy.stats, whose import takes half a second."""

import numpy as np
from numpy.typing import NDArray


def theil_slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the slope of Theil (1950) and Sen (1968): the median of the slopes of all pairs of points.

    Parameters
    ----------
    x, y : (n_point,) arrays
        Coordinates of the points. At least two values of ``x`` must differ. The memory needed is proportional to the
        square of ``n_point``.
    """
    is_larger = x[:, None] > x
    return float(np.median((y[:, None] - y)[is_larger] / (x[:, None] - x)[is_larger]))
