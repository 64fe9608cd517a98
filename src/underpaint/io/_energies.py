"""Parsing of numbers, and of energies, coefficients or lists into the linear energy axis of a spectrum, keV.

Shared by all readers. A stated unit is used; without one, eV and keV are distinguished by size: no X-ray tube for
paintings reaches 200 keV, and no channel is wider than 1 keV.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.errors import CalibrationError

MAX_ENERGY_KEV = 200.0
"""An energy above this without a unit is in eV: no X-ray tube for paintings reaches it in keV."""
HIGHEST_KEV = 250.0
"""An axis that ends above it is no X-ray spectrum's: its numbers are of another unit, or damaged."""
MAX_CHANNEL_KEV = 1.0
"""A wider channel parts no lines; without a unit it is eV."""
CURVATURE_KEV = 0.005
"""Largest deviation of energies read as a linear axis; lines closer than 50 eV are not resolved."""
_MIN_CHANNEL_KEV = 5e-4
_PLACEHOLDER = 1e-6
"""A gain that differs from 1 by no more is 1, fitted to points."""
_UNIT_KEV = {"kev": 1.0, "ev": 1e-3, "mev": 1e3}
NO_CALIBRATION = "no energy calibration in the file"

Axis = tuple[EnergyAxis | None, tuple[str, ...]]
"""An axis, or None, and the reader's notes."""


def unit_of(text: str) -> str:
    """Return ``"kev"``, ``"ev"`` or ``"mev"`` for a text with a unit (``Energy (keV)``), else ``""``."""
    match = re.search(r"(?i)(?<![a-z])([km]?)ev(?![a-z])", text)
    return f"{match[1].lower()}ev" if match else ""


def number(text: str | None) -> float | None:
    """Read a number with a decimal point or comma; None without one."""
    try:
        value = float((text or "").strip().replace(",", "."))
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def last_number(line: str) -> float | None:
    """Read the last number of a line of a list, after commas, semicolons or spaces; None without one."""
    words = re.split(r"[,;\s]+", line.strip())
    try:
        return float(words[-1])
    except ValueError:
        return None


def seconds(text: str | None) -> float | None:
    """Read a time in s; None for 0 or none."""
    value = number(text)
    return value if value is not None and value > 0 else None


def axis_of_coefficients(coefficients: Sequence[float], n_channel: int, unit: str = "") -> Axis:
    """Axis from ``zero + gain * channel + quadratic * channel**2 + ...``.

    Parameters
    ----------
    coefficients : sequence of float
        Zero, gain, and higher ones, in ``unit``.
    n_channel : int
        Number of channels.
    unit : str
        ``"kev"``, ``"ev"``, ``"mev"``, or ``""`` for no unit: then eV or keV by size.

    Returns
    -------
    EnergyAxis or None
        None without a calibration (all zero, or the placeholder 0, 1), or with an impossible one.
    """
    zero, gain, *curved = (*(float(value) for value in coefficients), 0.0, 0.0)[: max(2, len(coefficients))]
    if gain == 0.0 or (not unit and abs(gain - 1.0) < _PLACEHOLDER and not any(curved)):
        return None, (NO_CALIBRATION,)
    if not np.isfinite([zero, gain, *curved]).all():
        return None, (_refusal(gain, zero),)
    if any(curved):
        with np.errstate(over="ignore", invalid="ignore"):
            energy = np.polynomial.polynomial.polyval(np.arange(n_channel, dtype=float), [zero, gain, *curved])
        return _straightened(energy, unit)
    return _line(gain, zero, n_channel, unit)


def axis_of_list(energy: NDArray[np.float64], n_channel: int, unit: str = "") -> Axis:
    """Axis through a list of the channels' energies; None if they are not linear, or not one per channel."""
    if energy.size != n_channel or n_channel < 2:
        return None, (f"energy calibration ignored: {energy.size} energies for {n_channel} channels",)
    if not unit and energy[0] in {0, 1} and bool((np.diff(energy) == 1).all()):
        return None, (NO_CALIBRATION,)
    return _straightened(energy, unit)


def axis_of_line(gain: float, zero: float, n_channel: int, unit: str = "") -> Axis:
    """Return the axis of a gain and a zero in ``unit`` or by size; None for placeholders and impossible values."""
    return _line(float(gain), float(zero), n_channel, unit)


def _straightened(energy: NDArray[np.float64], unit: str) -> Axis:
    """Linear axis through energies that are curved or rounded by a few eV, with a note on the deviation."""
    channel = np.arange(energy.size)
    if not np.isfinite(energy).all():
        return None, ("energy calibration ignored: an energy is not a number",)
    scale = _UNIT_KEV[unit or _unit_by_size(float(np.abs(energy).max()), float(energy[-1] - energy[0]) / energy.size)]
    gain, zero = float(energy[-1] - energy[0]) / (energy.size - 1), float(energy[0])
    deviation = np.abs(energy - zero - gain * channel).max()
    if deviation <= 0.05 * abs(gain):
        return _line(gain, zero, energy.size, unit)
    gain, zero = (float(value) for value in np.polyfit(channel, energy, 1))
    deviation_kev = float(np.abs(energy - zero - gain * channel).max()) * scale
    if deviation_kev > min(CURVATURE_KEV, 0.5 * abs(gain) * scale) + 0.05 * abs(gain) * scale:
        note = (
            f"energy calibration ignored: its energies are up to {1000 * deviation_kev:.3g} eV off a linear axis, "
            f"{1000 * CURVATURE_KEV:g} eV at most are read; find it with `underpaint calibrate`"
        )
        return None, (note,)
    axis, notes = _line(gain, zero, energy.size, unit)
    straight = f"energies are read as a linear axis, {1000 * deviation_kev:.2g} eV off at most"
    return axis, notes if axis is None else (*notes, straight)


def _line(gain: float, zero: float, n_channel: int, unit: str) -> Axis:
    by_size = unit or _unit_by_size(max(abs(zero), abs(zero + gain * n_channel)), gain)
    scale = _UNIT_KEV[by_size]
    try:
        axis = EnergyAxis(gain * scale, zero * scale, n_channel)
    except CalibrationError:
        return None, (_refusal(gain * scale, zero * scale),)
    if not (_MIN_CHANNEL_KEV <= axis.gain_kev <= MAX_CHANNEL_KEV and 0.0 < axis.stop_kev <= HIGHEST_KEV):
        return None, (_refusal(axis.gain_kev, axis.zero_kev, axis.stop_kev),)
    guessed = not unit and by_size == "ev"
    return axis, ((f"energies without a unit are taken as eV, by their size ({gain:g} a channel)",) if guessed else ())


def _unit_by_size(largest: float, gain: float) -> str:
    return "ev" if largest > MAX_ENERGY_KEV or gain > MAX_CHANNEL_KEV else "kev"


def _refusal(gain_kev: float, zero_kev: float, stop_kev: float | None = None) -> str:
    end = "" if stop_kev is None else f", up to {stop_kev:g} keV"
    return (
        f"energy calibration ignored: {gain_kev:g} keV a channel from {zero_kev:g} keV{end}; a channel is "
        f"{_MIN_CHANNEL_KEV:g} to {MAX_CHANNEL_KEV:g} keV wide and the last ends between 0 and "
        f"{HIGHEST_KEV:g} keV; find it with `underpaint calibrate`"
    )
