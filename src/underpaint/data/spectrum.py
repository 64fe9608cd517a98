"""A single spectrum."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.data.axis import EnergyAxis


@dataclass(frozen=True)
class Spectrum:
    """A spectrum with its energy axis.

    Parameters
    ----------
    counts : (n_channel,) array
        Counts per channel.
    axis : EnergyAxis or None
        Energy axis; None if the file does not state it.
    live_time_s, real_time_s : float or None
        Live time and real time, in s; None if unknown.
    name : str
        Name for display.
    """

    counts: NDArray[np.float64]
    axis: EnergyAxis | None = None
    live_time_s: float | None = None
    real_time_s: float | None = None
    name: str = ""
