"""Metadata of HyperSpy's signals in HDF5 files (``.hspy``) and zarr stores (``.zspy``).

The counts are the array ``Experiments/<title>/data``. The attributes ``scale``, ``offset``, ``size``, ``units``,
``name`` and ``navigate`` of ``axis-0``, ``axis-1`` ... describe its dimensions. The attributes ``live_time`` and
``real_time`` of ``metadata/Acquisition_instrument/SEM/Detector/EDS`` (or ``TEM``) are in s per pixel.

Source: the documentation of rosettasciio, "HSpy - HyperSpy's HDF5 Specification" and "ZSpy" (2022-2026).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from underpaint.data import EnergyAxis
from underpaint.io._energies import Axis, axis_of_gain_and_zero

EXPERIMENTS_GROUP = "Experiments"
TIME_PATHS = tuple(f"metadata/Acquisition_instrument/{instrument}/Detector/EDS" for instrument in ("SEM", "TEM"))
_MM_PER_UNIT = {"mm": 1.0, "um": 1e-3, "µm": 1e-3, "μm": 1e-3, "nm": 1e-6, "cm": 10.0, "m": 1000.0}
_ENERGY_UNITS = {"kev", "ev"}


@dataclass(frozen=True)
class Signal:
    """Dimensions of a signal, and their calibration.

    Parameters
    ----------
    dimension_order : tuple of int
        Indices of the row, column and channel dimensions. Rows or columns may be absent.
    axis : EnergyAxis or None
        Energy axis of the channels; None if unknown.
    step_mm : (float, float) or None
        Distances between neighbouring rows and between neighbouring columns, in mm.
    notes : tuple of str
        Notes for the user on the energy axis.
    """

    dimension_order: tuple[int, ...]
    axis: EnergyAxis | None
    step_mm: tuple[float, float] | None
    notes: tuple[str, ...] = ()


def read_axes(axes: Sequence[Mapping[str, Any]], shape: tuple[int, ...]) -> Signal | None:
    """Interpret the attributes of an array's axes. Return None unless exactly one dimension is the channels."""
    if len(axes) != len(shape) or not 1 <= len(shape) <= 3:
        return None
    energy_dimensions = [
        dimension for dimension, axis_attributes in enumerate(axes) if _axis_unit(axis_attributes) in _ENERGY_UNITS
    ]
    signal_dimensions = energy_dimensions or [
        dimension for dimension, axis_attributes in enumerate(axes) if not axis_attributes.get("navigate", False)
    ]
    if len(signal_dimensions) != 1:
        return None
    channel_dimension = signal_dimensions[0]
    pixel_dimensions = [dimension for dimension in range(len(shape)) if dimension != channel_dimension]
    channel_axis = axes[channel_dimension]
    gain, zero = _finite_number(channel_axis.get("scale")), _finite_number(channel_axis.get("offset"))
    # A scale of 1 without a unit means that the axis is not calibrated.
    unit = _axis_unit(channel_axis) if _axis_unit(channel_axis) in _ENERGY_UNITS else ""
    axis: Axis = None, ()
    if (
        gain is not None
        and zero is not None
        and (unit or (gain != 1.0 and _axis_unit(channel_axis) in {"", "<undefined>"}))
    ):
        axis = axis_of_gain_and_zero(gain, zero, shape[channel_dimension], unit)
    steps_mm = [_step_mm(axes[dimension]) for dimension in pixel_dimensions]
    step_mm = (steps_mm[0], steps_mm[1]) if len(steps_mm) == 2 and steps_mm[0] and steps_mm[1] else None
    return Signal((*pixel_dimensions, channel_dimension), axis[0], step_mm, axis[1])


def _axis_unit(axis: Mapping[str, Any]) -> str:
    return str(axis.get("units", "")).strip().lower()


def _finite_number(attribute: Any) -> float | None:
    return float(attribute) if isinstance(attribute, int | float | np.number) and np.isfinite(attribute) else None


def _step_mm(axis: Mapping[str, Any]) -> float | None:
    axis_scale, unit_mm = _finite_number(axis.get("scale")), _MM_PER_UNIT.get(_axis_unit(axis))
    return abs(axis_scale) * unit_mm if axis_scale and unit_mm else None


def valid_seconds(attribute: Any) -> float | None:
    """Return an attribute as a time in s, or None if it is not a positive number."""
    time_s = _finite_number(attribute)
    return time_s if time_s is not None and time_s > 0 else None
