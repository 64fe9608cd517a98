"""The tube's anode from the pair of peaks that the sample scatters back: Rayleigh and, below it, Compton."""

from dataclasses import dataclass

import numpy as np

from underpaint.calibrate._patterns import line_groups
from underpaint.calibrate._peaks import Peaks
from underpaint.calibrate._refine import Response
from underpaint.spectrum.axis import EnergyAxis
from underpaint.units import ELECTRON_REST_KEV

ANODES = ("Mo", "Rh", "Pd", "Ag")
_ANGLES_DEG = (75.0, 165.0)
_LEAST_SIGNIFICANCE = 8.0


@dataclass(frozen=True)
class Anode:
    """An anode and the angle through which its lines were scattered.

    Parameters
    ----------
    symbol : str
        Element symbol.
    scatter_angle_deg : float
        Angle between beam and detected photon, degree.
    significance : float
        The weaker of the two peaks over its deviation.
    """

    symbol: str
    scatter_angle_deg: float
    significance: float


def guess_anode(peaks: Peaks, response: Response, axis: EnergyAxis) -> Anode | None:
    """Return the anode whose K-alpha is seen together with its Compton peak; None where no pair is seen."""
    found = [own for symbol in ANODES if (own := _pair(peaks, response, axis, symbol)) is not None]
    return max(found, key=lambda own: own.significance, default=None)


def _pair(peaks: Peaks, response: Response, axis: EnergyAxis, symbol: str) -> Anode | None:
    line = line_groups(f"{symbol}_K")[0].centre_kev
    if line > axis.stop_kev:
        return None
    energy = axis.zero_kev + axis.gain_kev * peaks.channel
    sharp = np.abs(energy - line) < 0.35 * float(response.fwhm_kev(line))
    low, high = (_compton_kev(line, angle) for angle in reversed(_ANGLES_DEG))
    shifted = (energy > low) & (energy < high)
    if not (sharp.any() and shifted.any()):
        return None
    rayleigh = float(peaks.significance[sharp].max())
    top = int(np.flatnonzero(shifted)[peaks.significance[shifted].argmax()])
    # A Compton peak stands above the Rayleigh peak in paint (light binder), or close to it: not far below.
    if peaks.height[top] < 0.3 * peaks.height[sharp].max():
        return None
    weaker = min(rayleigh, float(peaks.significance[top]))
    if weaker < _LEAST_SIGNIFICANCE:
        return None
    return Anode(symbol, _angle_deg(line, float(energy[top])), weaker)


def _compton_kev(energy_kev: float, angle_deg: float) -> float:
    return float(energy_kev / (1 + energy_kev / ELECTRON_REST_KEV * (1 - np.cos(np.deg2rad(angle_deg)))))


def _angle_deg(energy_kev: float, shifted_kev: float) -> float:
    cosine = 1 - (energy_kev / shifted_kev - 1) * ELECTRON_REST_KEV / energy_kev
    return float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))
