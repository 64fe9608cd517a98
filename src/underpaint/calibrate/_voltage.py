"""The tube's voltage from the end of the scattered continuum (Duane & Hunt 1915), pile-up above it considered.

The end is faint: the continuum falls to nothing there, and what Compton scatter sends back ends keV below. So the
spectrum above the pigments' lines is fitted with what simple samples scatter under a tube of each voltage, and the
voltage that fits best is taken.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from underpaint.calibrate._angle import lowest
from underpaint.calibrate._scatter import LOWEST_KEV, Lamp, UpperPart, misfit_of

Array = NDArray[np.float64]

LOWEST_KV, HIGHEST_KV = 16.0, 60.0
"""Tubes of scanners run between these."""
_REACH_KEV = 10.0
_COARSE_KV, _FINE_KV, _SPAN_KV = 2.0, 0.5, 3.0
_MARGIN_KV = 0.7
_LEAST_RISE = 25.0
_MOST_ERROR_KV = 0.5
_MODEL_ERROR_KV = 0.15
"""What simple samples under a modelled tube are wrong by, beside counting."""


@dataclass(frozen=True)
class Voltage:
    """A tube voltage, or what is known of it.

    Parameters
    ----------
    voltage_kv : float or None
        kV; None where the end of the continuum was not recorded.
    error_kv : float
        One standard deviation, kV.
    reason : str
        Why it is unknown; empty where it is known.
    best_kv : float
        The voltage whose continuum fits best, known or not: another's would leave more of the continuum to be
        explained by lines.
    """

    voltage_kv: float | None
    best_kv: float
    error_kv: float = float("nan")
    reason: str = ""


def guess_voltage(data: UpperPart, lamp: Lamp) -> Voltage:
    """Return the voltage whose scattered continuum fits best, and unknown where its end is not seen.

    Parameters
    ----------
    data : UpperPart
        The spectrum.
    lamp : Lamp
        Anode and angle, or usual ones; its voltage does not matter.
    """
    coarse = np.arange(LOWEST_KV, min(data.axis.stop_kev + 2 * _SPAN_KV, HIGHEST_KV) + 1e-6, _COARSE_KV)
    start = float(coarse[np.argmin(_misfits(data, lamp, coarse, LOWEST_KEV))])
    fine = np.arange(max(start - _SPAN_KV, LOWEST_KV), start + _SPAN_KV + 1e-6, _FINE_KV)
    return _judged(fine, _misfits(data, lamp, fine, max(start - _REACH_KEV, LOWEST_KEV)), data)


def _misfits(data: UpperPart, lamp: Lamp, voltages_kv: Array, from_kev: float) -> Array:
    return np.asarray([misfit_of(data, replace(lamp, voltage_kv=float(kv)), from_kev) for kv in voltages_kv])


def _judged(fine: Array, misfit: Array, data: UpperPart) -> Voltage:
    best = int(np.argmin(misfit))
    voltage, error = lowest(fine, misfit, int((data.axis.energy_kev > fine[best] - _REACH_KEV).sum()))
    stop = data.axis.stop_kev
    beyond = fine > stop - _MARGIN_KV
    if voltage > stop - _MARGIN_KV or (beyond.any() and misfit[beyond].min() - misfit[best] < _LEAST_RISE):
        return Voltage(None, voltage, reason=f"the continuum goes on to the last channel at {stop:.1f} keV")
    if not error < _MOST_ERROR_KV:
        return Voltage(None, voltage, reason=f"too few counts near its end (about {voltage:.0f} kV)")
    return Voltage(voltage, voltage, float(np.hypot(error, _MODEL_ERROR_KV)))
