"""The scattering angle from the Compton shift of the tube's lines, their spread by the electrons' motion included."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from underpaint.calibrate._patterns import line_groups
from underpaint.calibrate._scatter import Lamp, UpperPart, misfit_of
from underpaint.physics.atomic import compton_energy

Array = NDArray[np.float64]

ANGLES_DEG = (60.0, 175.0)
_MARGIN_KEV = 0.7
_ALIKE_SIGMAS = 2.0
_SPANS_DEG = ((18.0, 6.0), (6.0, 2.0))
"""Reach on either side and step of the two rounds."""


def refine_angle(data: UpperPart, lamp: Lamp) -> tuple[float, float]:
    """Return the angle that fits best near a guess, and its deviation, degree.

    Parameters
    ----------
    data : UpperPart
        The spectrum.
    lamp : Lamp
        Anode, voltage and a first guess of the angle.
    """
    angle, error = lamp.angle_deg, float("nan")
    for reach, step in _SPANS_DEG:
        # whole degrees: their cross sections are then shared between scans
        middle = round(angle)
        angles = np.clip(np.arange(middle - reach, middle + reach + 1e-6, step), *ANGLES_DEG)
        angles = np.unique(angles)
        window = line_window(lamp.anode)
        misfit = np.asarray([misfit_of(data, replace(lamp, angle_deg=float(own)), *window) for own in angles])
        n_bin = int((window[1] - window[0]) / data.axis.gain_kev)
        angle, error = lowest(angles, misfit, n_bin)
    return angle, error


def line_window(anode: str) -> tuple[float, float]:
    """Energies between which an anode's K lines and their Compton peaks lie, keV."""
    energy = np.concatenate([group.energy_kev for group in line_groups(f"{anode}_K")])
    lowest_kev = float(compton_energy(energy, ANGLES_DEG[1]).min())
    return lowest_kev - _MARGIN_KEV, float(energy.max()) + _MARGIN_KEV


def lowest(values: Array, misfit: Array, n_bin: int) -> tuple[float, float]:
    """Return where the parabola through the lowest points is lowest, and its deviation.

    It goes through all points that fit about as well as the best, and one more on either side: where the bottom is
    flat, three points alone would say little of how wide it is.

    Parameters
    ----------
    values, misfit : (n_value,) arrays
        Rising values and chi squared of each.
    n_bin : int
        Number of data; a misfit above it makes the deviation larger.
    """
    best = int(np.argmin(misfit))
    unit = max(float(misfit[best]) / max(n_bin, 1), 1.0)
    like = np.flatnonzero(misfit < misfit[best] + _ALIKE_SIGMAS**2 * unit)
    near = slice(max(min(int(like[0]) - 1, misfit.size - 3), 0), max(int(like[-1]) + 2, 3))
    curvature, slope, _ = np.polyfit(values[near] - values[best], misfit[near], 2)
    if curvature <= 0:
        return float(values[best]), float("inf")
    vertex = float(np.clip(values[best] - slope / (2.0 * curvature), values[near][0], values[near][-1]))
    return vertex, float(np.sqrt(unit / curvature))
