"""Energies that a file lists, as the even axis of a spectrum."""

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import CalibrationError
from underpaint.spectrum import EnergyAxis

LARGEST_ENERGY_KEV = 200.0
"""Above it an energy without unit is taken to be in eV: no X-ray tube for paintings reaches it in keV."""
HIGHEST_KEV = 1000.0
"""An axis that ends above it is no X-ray spectrum's: its numbers are of another unit, or damaged."""
_UNIT_KEV = {"kev": 1.0, "ev": 1e-3}


def axis_of_values(energy: NDArray[np.float64], n_channel: int, unit: str = "") -> EnergyAxis | None:
    """Return the even axis through a list of energies; None where they are not even or not as many as channels."""
    if energy.size != n_channel or n_channel < 2 or not np.isfinite(energy).all():
        return None
    unit_kev = _UNIT_KEV.get(unit, 1e-3 if energy.max() > LARGEST_ENERGY_KEV else 1.0)
    gain = (energy[-1] - energy[0]) / (n_channel - 1)
    if np.abs(energy - energy[0] - gain * np.arange(n_channel)).max() > 0.05 * abs(gain):
        return None
    return axis_of_line(gain * unit_kev, energy[0] * unit_kev, n_channel)


def axis_of_line(gain_kev: float, zero_kev: float, n_channel: int) -> EnergyAxis | None:
    """Return the axis, or None where gain or zero cannot be."""
    try:
        axis = EnergyAxis(float(gain_kev), float(zero_kev), n_channel)
    except CalibrationError:
        return None
    return axis if 0.0 < axis.stop_kev <= HIGHEST_KEV else None
