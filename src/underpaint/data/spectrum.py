"""A single recorded spectrum."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.data.axis import EnergyAxis


@dataclass(frozen=True)
class Spectrum:
    """One spectrum with its calibration.

    Parameters
    ----------
    counts : (n_channel,) array
        Counts per channel.
    axis : EnergyAxis or None
        Energy calibration; None if the file has none.
    live_time_s, real_time_s : float or None
        Times in seconds; None if unknown.
    """

    counts: NDArray[np.float64]
    axis: EnergyAxis | None = None
    live_time_s: float | None = None
    real_time_s: float | None = None
    name: str = ""
