"""Linear energy axes in keV, from calibration coefficients or from lists of energies.

All readers use this module. If the file states no unit, the size of the values decides between eV and keV. No X-ray
tube for paintings reaches 200 kV, and no channel is wider than 1 keV.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.errors import CalibrationError

MAX_ENERGY_KEV = 200.0
"""Maximum energy in keV. Larger values without a unit are in eV, since no X-ray tube for paintings reaches 200 kV."""
MAX_AXIS_KEV = 250.0
"""Maximum energy of an axis in keV. If an axis exceeds this energy, its unit is wrong or its values are damaged."""
MAX_CHANNEL_KEV = 1.0
"""Maximum width of a channel in keV. Wider channels cannot separate lines, so a larger gain without a unit is in eV."""
MAX_CURVATURE_KEV = 0.005
"""Maximum deviation of energies from a linear axis in keV. Lines closer than ten times this value are not resolved."""
_MIN_CHANNEL_KEV = 5e-4
_PLACEHOLDER_GAIN_TOLERANCE = 1e-6
"""Maximum difference between 1 and a gain that is only a placeholder."""
_KEV_PER_UNIT = {"kev": 1.0, "ev": 1e-3, "mev": 1e3}
NO_CALIBRATION = "no energy calibration in the file"

Axis = tuple[EnergyAxis | None, tuple[str, ...]]
"""Energy axis (None if the file has no usable one), and notes for the user."""


def energy_unit(text_with_unit: str) -> str:
    """Return the unit in a text such as ``Energy (keV)``: ``"kev"``, ``"ev"``, ``"mev"`` or ``""``."""
    match = re.search(r"(?i)(?<![a-z])([km]?)ev(?![a-z])", text_with_unit)
    return f"{match[1].lower()}ev" if match else ""


def parse_number(number_text: str | None) -> float | None:
    """Convert a text with a decimal point or comma to a number, or return None if it is not a number."""
    try:
        parsed_number = float((number_text or "").strip().replace(",", "."))
    except ValueError:
        return None
    return parsed_number if np.isfinite(parsed_number) else None


def last_number(list_line: str) -> float | None:
    """Return the last number in a line of text, or None if the line does not end with a number."""
    line_fields = re.split(r"[,;\s]+", list_line.strip())
    try:
        return float(line_fields[-1])
    except ValueError:
        return None


def parse_seconds(time_text: str | None) -> float | None:
    """Return the time in s that a text states, or None if the text is not a positive number."""
    time_s = parse_number(time_text)
    return time_s if time_s is not None and time_s > 0 else None


def axis_of_coefficients(coefficients: Sequence[float], n_channel: int, unit: str = "") -> Axis:
    """Return the energy axis of the polynomial ``zero + gain * channel + quadratic * channel**2 + ...``.

    Parameters
    ----------
    coefficients : sequence of float
        Zero, gain and higher-order coefficients, in ``unit``.
    n_channel : int
        Number of channels.
    unit : str
        ``"kev"``, ``"ev"`` or ``"mev"``. For ``""`` (unknown), the size of the energies decides between eV and keV.

    Returns
    -------
    EnergyAxis or None
        None if the coefficients are all zero, are the placeholder 0, 1, or give impossible energies.
    """
    zero, gain, *higher_orders = (*(float(coefficient) for coefficient in coefficients), 0.0, 0.0)[
        : max(2, len(coefficients))
    ]
    if gain == 0.0 or (not unit and abs(gain - 1.0) < _PLACEHOLDER_GAIN_TOLERANCE and not any(higher_orders)):
        return None, (NO_CALIBRATION,)
    if not np.isfinite([zero, gain, *higher_orders]).all():
        return None, (_refusal_note(gain, zero),)
    if any(higher_orders):
        with np.errstate(over="ignore", invalid="ignore"):
            energy = np.polynomial.polynomial.polyval(np.arange(n_channel, dtype=float), [zero, gain, *higher_orders])
        return _linear_axis(energy, unit)
    return _axis_with_notes(gain, zero, n_channel, unit)


def axis_of_list(energy: NDArray[np.float64], n_channel: int, unit: str = "") -> Axis:
    """Return the axis of a list of energies, or None if they are not linear or their number is not ``n_channel``."""
    if energy.size != n_channel or n_channel < 2:
        return None, (f"energy calibration ignored: {energy.size} energies for {n_channel} channels",)
    if not unit and energy[0] in {0, 1} and bool((np.diff(energy) == 1).all()):
        return None, (NO_CALIBRATION,)
    return _linear_axis(energy, unit)


def axis_of_gain_and_zero(gain: float, zero: float, n_channel: int, unit: str = "") -> Axis:
    """Return the energy axis with a given gain and zero, or None if the energies are impossible.

    If ``unit`` is "", the size of the energies decides between eV and keV.
    """
    return _axis_with_notes(float(gain), float(zero), n_channel, unit)


def _linear_axis(energy: NDArray[np.float64], unit: str) -> Axis:
    """Fit a linear axis to energies. Return it with notes, or None if the energies deviate by more than a few eV."""
    channel_numbers = np.arange(energy.size)
    if not np.isfinite(energy).all():
        return None, ("energy calibration ignored: an energy is not a number",)
    kev_per_unit = _KEV_PER_UNIT[
        unit or _unit_by_size(float(np.abs(energy).max()), float(energy[-1] - energy[0]) / energy.size)
    ]
    gain, zero = float(energy[-1] - energy[0]) / (energy.size - 1), float(energy[0])
    max_deviation = np.abs(energy - zero - gain * channel_numbers).max()
    if max_deviation <= 0.05 * abs(gain):
        return _axis_with_notes(gain, zero, energy.size, unit)
    gain, zero = (float(coefficient) for coefficient in np.polyfit(channel_numbers, energy, 1))
    deviation_kev = float(np.abs(energy - zero - gain * channel_numbers).max()) * kev_per_unit
    if deviation_kev > min(MAX_CURVATURE_KEV, 0.5 * abs(gain) * kev_per_unit) + 0.05 * abs(gain) * kev_per_unit:
        refusal_text = (
            f"energy calibration ignored: its energies deviate by up to {1000 * deviation_kev:.3g} eV from a linear "
            f"axis, at most {1000 * MAX_CURVATURE_KEV:g} eV are allowed; find the axis with `underpaint calibrate`"
        )
        return None, (refusal_text,)
    axis, notes = _axis_with_notes(gain, zero, energy.size, unit)
    linear_note = f"energies are read as a linear axis, which deviates by at most {1000 * deviation_kev:.2g} eV"
    return axis, notes if axis is None else (*notes, linear_note)


def _axis_with_notes(gain: float, zero: float, n_channel: int, unit: str) -> Axis:
    unit_used = unit or _unit_by_size(max(abs(zero), abs(zero + gain * n_channel)), gain)
    kev_per_unit = _KEV_PER_UNIT[unit_used]
    try:
        axis = EnergyAxis(gain * kev_per_unit, zero * kev_per_unit, n_channel)
    except CalibrationError:
        return None, (_refusal_note(gain * kev_per_unit, zero * kev_per_unit),)
    if not (_MIN_CHANNEL_KEV <= axis.gain_kev <= MAX_CHANNEL_KEV and 0.0 < axis.stop_kev <= MAX_AXIS_KEV):
        return None, (_refusal_note(axis.gain_kev, axis.zero_kev, axis.stop_kev),)
    is_unit_guessed = not unit and unit_used == "ev"
    return axis, (
        (f"energies without a unit are read as eV, which their values suggest ({gain:g} per channel)",)
        if is_unit_guessed
        else ()
    )


def _unit_by_size(largest_value: float, gain: float) -> str:
    return "ev" if largest_value > MAX_ENERGY_KEV or gain > MAX_CHANNEL_KEV else "kev"


def _refusal_note(gain_kev: float, zero_kev: float, stop_kev: float | None = None) -> str:
    end_text = "" if stop_kev is None else f", up to {stop_kev:g} keV"
    return (
        f"energy calibration ignored: {gain_kev:g} keV per channel from {zero_kev:g} keV{end_text}; channels must be "
        f"{_MIN_CHANNEL_KEV:g} to {MAX_CHANNEL_KEV:g} keV wide and the last one end between 0 and "
        f"{MAX_AXIS_KEV:g} keV; find the axis with `underpaint calibrate`"
    )
