"""Metadata of HyperSpy's signals, in HDF5 (``.hspy``) and zarr (``.zspy``).

Layout: ``Experiments/<title>/data``, its dimensions described by the attributes of ``axis-0``, ``axis-1`` ...:
``scale``, ``offset``, ``size``, ``units``, ``name``, ``navigate``; times in the attributes of
``metadata/Acquisition_instrument/SEM/Detector/EDS`` (or ``TEM``): ``live_time``, ``real_time``, s a pixel.

Source: the documentation of rosettasciio, "HSpy - HyperSpy's HDF5 Specification" and "ZSpy" (2022-2026).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from underpaint.data import EnergyAxis
from underpaint.io._energies import Axis, axis_of_line

EXPERIMENTS = "Experiments"
TIMES = tuple(f"metadata/Acquisition_instrument/{kind}/Detector/EDS" for kind in ("SEM", "TEM"))
_UNIT_MM = {"mm": 1.0, "um": 1e-3, "µm": 1e-3, "μm": 1e-3, "nm": 1e-6, "cm": 10.0, "m": 1000.0}
_ENERGY_UNITS = {"kev", "ev"}


@dataclass(frozen=True)
class Signal:
    """How a signal's dimensions are read.

    Parameters
    ----------
    order : tuple of int
        Dimensions of rows, columns (if present) and channels.
    axis : EnergyAxis or None
        Energies of the channels.
    step_mm : (float, float) or None
        Distance of the pixels.
    notes : tuple of str
        Notes on the energies.
    """

    order: tuple[int, ...]
    axis: EnergyAxis | None
    step_mm: tuple[float, float] | None
    notes: tuple[str, ...] = ()


def read_axes(axes: Sequence[Mapping[str, Any]], shape: tuple[int, ...]) -> Signal | None:
    """Return the signal that the attributes of an array's axes describe; None without a spectrum."""
    if len(axes) != len(shape) or not 1 <= len(shape) <= 3:
        return None
    energies = [number for number, each in enumerate(axes) if _unit(each) in _ENERGY_UNITS]
    signals = energies or [number for number, each in enumerate(axes) if not each.get("navigate", False)]
    if len(signals) != 1:
        return None
    channel = signals[0]
    pixels = [number for number in range(len(shape)) if number != channel]
    line = axes[channel]
    gain, zero = _number(line.get("scale")), _number(line.get("offset"))
    # Without a unit, a scale of 1 is that of an uncalibrated axis.
    unit = _unit(line) if _unit(line) in _ENERGY_UNITS else ""
    axis: Axis = None, ()
    if gain is not None and zero is not None and (unit or (gain != 1.0 and _unit(line) in {"", "<undefined>"})):
        axis = axis_of_line(gain, zero, shape[channel], unit)
    steps = [_step_mm(axes[number]) for number in pixels]
    step = (steps[0], steps[1]) if len(steps) == 2 and steps[0] and steps[1] else None
    return Signal((*pixels, channel), axis[0], step, axis[1])


def _unit(axis: Mapping[str, Any]) -> str:
    return str(axis.get("units", "")).strip().lower()


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float | np.number) and np.isfinite(value) else None


def _step_mm(axis: Mapping[str, Any]) -> float | None:
    scale, unit_mm = _number(axis.get("scale")), _UNIT_MM.get(_unit(axis))
    return abs(scale) * unit_mm if scale and unit_mm else None


def seconds(value: Any) -> float | None:
    """Return a time in s; None if invalid."""
    time = _number(value)
    return time if time is not None and time > 0 else None
