"""Metadata of HyperSpy's signals, in HDF5 (``.hspy``) and zarr (``.zspy``).

Layout: ``Experiments/<title>/data``, its dimensions described by the attributes of ``axis-0``, ``axis-1`` ...:
``scale``, ``offset``, ``size``, ``units``, ``name``, ``navigate``; times in the attributes of
``metadata/Acquisition_instrument/SEM/Detector/EDS`` (or ``TEM``): ``live_time``, ``real_time``, s per pixel.

Source: the documentation of rosettasciio, "HSpy - HyperSpy's HDF5 Specification" and "ZSpy" (2022-2026).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from underpaint.data import EnergyAxis
from underpaint.io._energies import Axis, axis_of_line

EXPERIMENTS = "Experiments"
TIME_PATHS = tuple(f"metadata/Acquisition_instrument/{kind}/Detector/EDS" for kind in ("SEM", "TEM"))
_MM_PER_UNIT = {"mm": 1.0, "um": 1e-3, "µm": 1e-3, "μm": 1e-3, "nm": 1e-6, "cm": 10.0, "m": 1000.0}
_ENERGY_UNITS = {"kev", "ev"}


@dataclass(frozen=True)
class Signal:
    """Interpretation of a signal's dimensions.

    Parameters
    ----------
    order : tuple of int
        Indices of the dimensions of rows, columns (if present) and channels.
    axis : EnergyAxis or None
        Energies of the channels.
    step_mm : (float, float) or None
        Distance between pixels along rows and columns.
    notes : tuple of str
        Notes on the energies.
    """

    order: tuple[int, ...]
    axis: EnergyAxis | None
    step_mm: tuple[float, float] | None
    notes: tuple[str, ...] = ()


def read_axes(axes: Sequence[Mapping[str, Any]], shape: tuple[int, ...]) -> Signal | None:
    """Return the signal that the attributes of an array's axes describe; None if no dimension is a spectrum."""
    if len(axes) != len(shape) or not 1 <= len(shape) <= 3:
        return None
    energies = [dimension for dimension, axis_attributes in enumerate(axes) if _unit(axis_attributes) in _ENERGY_UNITS]
    signals = energies or [
        dimension for dimension, axis_attributes in enumerate(axes) if not axis_attributes.get("navigate", False)
    ]
    if len(signals) != 1:
        return None
    channel = signals[0]
    pixels = [dimension for dimension in range(len(shape)) if dimension != channel]
    channel_axis = axes[channel]
    gain, zero = _number(channel_axis.get("scale")), _number(channel_axis.get("offset"))
    # Without a unit, a scale of 1 means an uncalibrated axis.
    unit = _unit(channel_axis) if _unit(channel_axis) in _ENERGY_UNITS else ""
    axis: Axis = None, ()
    if gain is not None and zero is not None and (unit or (gain != 1.0 and _unit(channel_axis) in {"", "<undefined>"})):
        axis = axis_of_line(gain, zero, shape[channel], unit)
    steps = [_step_mm(axes[dimension]) for dimension in pixels]
    step = (steps[0], steps[1]) if len(steps) == 2 and steps[0] and steps[1] else None
    return Signal((*pixels, channel), axis[0], step, axis[1])


def _unit(axis: Mapping[str, Any]) -> str:
    return str(axis.get("units", "")).strip().lower()


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float | np.number) and np.isfinite(value) else None


def _step_mm(axis: Mapping[str, Any]) -> float | None:
    scale, unit_mm = _number(axis.get("scale")), _MM_PER_UNIT.get(_unit(axis))
    return abs(scale) * unit_mm if scale and unit_mm else None


def valid_seconds(value: Any) -> float | None:
    """Return a time in s; None if invalid."""
    time = _number(value)
    return time if time is not None and time > 0 else None
