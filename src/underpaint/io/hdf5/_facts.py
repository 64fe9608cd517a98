"""What lies beside the counts: energy axes, times, steps; each read only where its size is right."""

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.io._energies import HIGHEST_KEV, axis_of_line, axis_of_values
from underpaint.spectrum import EnergyAxis

_UNIT_MM = {"mm": 1.0, "millimeter": 1.0, "um": 1e-3, "µm": 1e-3, "micron": 1e-3, "cm": 10.0, "m": 1000.0}
_UNIT_S = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_LARGEST_TEXT = 2**16


def text(value: Any) -> str:
    """Return an attribute or string dataset as str."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.ravel()[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def short_text(item: Any) -> str:
    """Return a dataset's single string; "" for anything else."""
    if not isinstance(item, h5py.Dataset) or item.size != 1 or item.dtype.itemsize > _LARGEST_TEXT:
        return ""
    return text(item[()])


def units(item: Any) -> str:
    """Return the lower-case ``units`` attribute of a dataset, "" where it has none."""
    value = item.attrs.get("units", "") if isinstance(item, h5py.Dataset) else ""
    return text(value).strip().lower()


def numbers(item: Any, largest: int) -> NDArray[np.float64] | None:
    """Return a dataset of at most ``largest`` numbers as floats; None where it is something else."""
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "buif" or not 0 < item.size <= largest:
        return None
    return np.asarray(item[()], dtype=np.float64)


def axis_of_energies(item: Any, n_channel: int) -> EnergyAxis | None:
    """Return the even energy axis that a dataset of ``n_channel`` energies (keV or eV) lists, else None."""
    energy = numbers(item, n_channel)
    return None if energy is None else axis_of_values(energy.ravel(), n_channel, units(item))


def axis_of_polynomial(item: Any, n_channel: int) -> EnergyAxis | None:
    """Return the axis of polynomial coefficients in keV (zero, gain, 0), and not of the 0, 1, 0 of unknown ones."""
    values = numbers(item, 8)
    if values is None or not 2 <= values.size <= 3:
        return None
    zero, gain, *curved = values.ravel().tolist()
    return None if any(curved) or [zero, gain] == [0.0, 1.0] else axis_of_line(gain, zero, n_channel)


def fault_of_axis(item: Any, n_channel: int) -> str:
    """Say why a dataset of energies, or of a polynomial's coefficients, gives no axis; "" where it is neither."""
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "buif" or item.size < 2:
        return ""
    if item.size > 3 and item.size != n_channel:
        return f"{item.name} holds {item.size} numbers for {n_channel} channels"
    values = item[()].ravel().tolist()
    if values[:2] == [0.0, 1.0]:
        return ""
    polynomial = ", ".join(f"{own:g}" for own in values[:3])
    what = f"holds {polynomial}" if len(values) <= 3 else f"runs from {values[0]:g} to {values[-1]:g}"
    return f"{item.name} {what}; channels must rise evenly, and end between 0 and {HIGHEST_KEV:g} keV"


def fault_of_times(item: Any, shape: tuple[int, ...]) -> str:
    """Say which pixels' times a dataset leaves unknown; "" where it tells all."""
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "buif":
        return ""
    n_pixel = shape[0] * shape[1]
    if item.size not in {1, n_pixel}:
        return f"{item.name} left out: it holds {item.size} numbers for {n_pixel} pixels"
    n_unknown = int((~(np.asarray(item[()], dtype=np.float64) > 0)).sum())
    if n_unknown == item.size:
        return f"{item.name} left out: none of its times is above 0"
    return f"{item.name} unknown in {n_unknown} of {n_pixel} pixels: 0, negative or no number" if n_unknown else ""


def pixel_seconds(item: Any, shape: tuple[int, ...], *, unit_needed: bool = False) -> NDArray[np.float64] | None:
    """Return times of the pixels, s, from as many numbers as pixels or from one; not positive ones are NaN.

    A dataset without ``units`` is taken to be in seconds, or refused (``unit_needed``).
    """
    values = numbers(item, shape[0] * shape[1])
    unit = units(item)
    if values is None or values.size not in {1, shape[0] * shape[1]} or (unit_needed and unit not in _UNIT_S):
        return None
    known = np.where(values > 0, values, np.nan) * _UNIT_S.get(unit, 1.0)
    full = np.full(shape[:2], known.flat[0]) if values.size == 1 else known.reshape(shape[:2])
    return None if np.isnan(full).all() else full


def step_of(item: Any, n_pixel: int) -> tuple[float | None, float | None]:
    """Return the median distance between ``n_pixel`` positions: in mm where the unit is known, and as it is written."""
    positions = numbers(item, n_pixel)
    if positions is None or positions.size != n_pixel or n_pixel < 2:
        return None, None
    step = float(np.nanmedian(np.abs(np.diff(positions.ravel()))))
    unit_mm = _UNIT_MM.get(units(item))
    return (None if unit_mm is None or not step > 0 else step * unit_mm), step


def both(row_mm: float | None, column_mm: float | None) -> tuple[float, float] | None:
    """Return a step if it is known along rows and columns."""
    return None if row_mm is None or column_mm is None else (row_mm, column_mm)
