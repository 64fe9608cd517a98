"""An instrument as the numbers that a network is told about it."""

import math

import numpy as np
from numpy.typing import NDArray

from underpaint.forward import resolution_sigma
from underpaint.instrument import Detector, Instrument
from underpaint.units import FWHM_PER_SIGMA

ANODES = ("Cr", "Cu", "Mo", "Rh", "Pd", "Ag", "W", "Au")
QUANTITIES = ("voltage_kv", "incidence_deg", "takeoff_deg", "scatter_deg", "fwhm_kev")
INSTRUMENT_INPUTS = (*(f"anode_{anode}" for anode in ANODES), *QUANTITIES)
"""What the columns are: an anode one of eight, then what can be measured."""
_SCALES = (50.0, 90.0, 90.0, 180.0, 0.15)
_MN_K_ALPHA_KEV = 5.895


def instrument_inputs(instrument: Instrument, detector: Detector | None = None) -> NDArray[np.float32]:
    """Return (n_input,) numbers of order one about an instrument, as :data:`INSTRUMENT_INPUTS` names them.

    Parameters
    ----------
    instrument : Instrument
        Its tube and geometry. An explicit source spectrum has no anode and no voltage: NaN, for "not known".
    detector : Detector or None
        Another one than the instrument's; of it the resolution (FWHM at Mn K-alpha) is told.

    Returns
    -------
    (n_input,) float32 array
        NaN where not known. An anode that is none of :data:`ANODES` leaves all of their columns zero.
    """
    geometry, known = instrument.geometry, instrument.source_spectrum is None
    sigma = float(resolution_sigma(detector or instrument.detector, np.asarray(_MN_K_ALPHA_KEV)))
    values = (
        instrument.tube.voltage_kv if known else math.nan,
        geometry.incidence_angle_deg,
        geometry.takeoff_angle_deg,
        geometry.scattering_angle_deg,
        sigma * FWHM_PER_SIGMA,
    )
    anode = [float(instrument.tube.anode == each) if known else math.nan for each in ANODES]
    scaled = [value / scale for value, scale in zip(values, _SCALES, strict=True)]
    return np.asarray([*anode, *scaled], dtype=np.float32)
