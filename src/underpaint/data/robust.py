"""Statistics robust to outliers; also in scipy.stats, which takes half a second to import."""

import numpy as np
from numpy.typing import NDArray


def theil_slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the slope of Theil (1950) and Sen (1968): the median over all pairs of points that differ in x.

    Parameters
    ----------
    x, y : (n_point,) arrays
        At least two values of ``x`` differ; memory grows with the square of ``n_point``.
    """
    right = x[:, None] > x
    return float(np.median((y[:, None] - y)[right] / (x[:, None] - x)[right]))
