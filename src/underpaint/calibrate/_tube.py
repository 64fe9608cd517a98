"""Joint estimate of anode, voltage and scattering angle from scatter above the pigments' lines.

The voltage is the end of the scattered continuum (Duane & Hunt 1915), with pile-up above it. The end is faint: the
continuum vanishes there, and Compton scatter ends keV below. The spectrum above the pigments' lines is therefore fitted
with the scatter of simple samples under a tube of each voltage, and the best voltage is used.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from underpaint.calibrate._anode import ANODES, guess_anode
from underpaint.calibrate._patterns import line_groups
from underpaint.calibrate._refine import Response
from underpaint.calibrate._scatter import (
    LOWEST_KEV,
    ScatterReference,
    UpperPart,
    misfit_of,
    misfits_without,
    upper_part,
)
from underpaint.physics.atomic import SHELLS, atomic_number, compton_energy, edge_energy

Array = NDArray[np.float64]

ANGLES_DEG = (60.0, 175.0)
_MARGIN_KEV = 0.7
_ALIKE_SIGMAS = 2.0
_SPANS_DEG = ((18.0, 6.0), (6.0, 2.0))
"""Reach on either side and step of the two rounds."""


def refine_angle(data: UpperPart, reference: ScatterReference) -> tuple[float, float]:
    """Return the angle that fits best near a guess, and its deviation, degree.

    Parameters
    ----------
    data : UpperPart
        The spectrum.
    reference : ScatterReference
        Anode, voltage and a first guess of the angle.
    """
    angle, error = reference.angle_deg, float("nan")
    for reach, step in _SPANS_DEG:
        # integer degrees, so that scans share the cross sections
        middle = round(angle)
        angles = np.clip(np.arange(middle - reach, middle + reach + 1e-6, step), *ANGLES_DEG)
        angles = np.unique(angles)
        window = line_window(reference.anode)
        misfit = np.asarray(
            [misfit_of(data, replace(reference, angle_deg=float(candidate_deg)), *window) for candidate_deg in angles]
        )
        n_bin = int((window[1] - window[0]) / data.axis.gain_kev)
        angle, error = lowest(angles, misfit, n_bin)
    return angle, error


def line_window(anode: str) -> tuple[float, float]:
    """Energy range of an anode's K lines and their Compton peaks, keV."""
    energy = np.concatenate([group.energy_kev for group in line_groups(f"{anode}_K")])
    lowest_kev = float(compton_energy(energy, ANGLES_DEG[1]).min())
    return lowest_kev - _MARGIN_KEV, float(energy.max()) + _MARGIN_KEV


def lowest(values: Array, misfit: Array, n_bin: int) -> tuple[float, float]:
    """Return the minimum of the parabola through the lowest points, and its deviation.

    It is fitted to all points about as good as the best, and one more on either side: at a flat minimum, three points
    would not determine its width.

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


LOWEST_KV, HIGHEST_KV = 16.0, 60.0
"""Tubes of scanners run between these."""
_REACH_KEV = 10.0
_COARSE_KV, _FINE_KV, _SPAN_KV = 2.0, 0.5, 3.0
_MARGIN_KV = 0.7
_MIN_RISE = 25.0
_MAX_ERROR_KV = 0.5
_MODEL_ERROR_KV = 0.15
"""Relative error of the model of simple samples and tube, besides counting."""


@dataclass(frozen=True)
class Voltage:
    """Estimate of a tube voltage.

    Parameters
    ----------
    voltage_kv : float or None
        kV; None where the end of the continuum was not recorded.
    error_kv : float
        One standard deviation, kV.
    reason : str
        Why it is unknown; empty if known.
    best_kv : float
        The voltage whose continuum fits best, known or not; with another one, lines would have to explain part of the
        continuum.
    """

    voltage_kv: float | None
    best_kv: float
    error_kv: float = float("nan")
    reason: str = ""


def guess_voltage(data: UpperPart, reference: ScatterReference) -> Voltage:
    """Return the voltage whose scattered continuum fits best; unknown if its end is not detected.

    Parameters
    ----------
    data : UpperPart
        The spectrum.
    reference : ScatterReference
        Anode and angle, or usual ones; its voltage does not matter.
    """
    coarse = np.arange(LOWEST_KV, min(data.axis.stop_kev + 2 * _SPAN_KV, HIGHEST_KV) + 1e-6, _COARSE_KV)
    start = float(coarse[np.argmin(_misfits(data, reference, coarse, LOWEST_KEV))])
    fine = np.arange(max(start - _SPAN_KV, LOWEST_KV), start + _SPAN_KV + 1e-6, _FINE_KV)
    return _evaluate_voltage(fine, _misfits(data, reference, fine, max(start - _REACH_KEV, LOWEST_KEV)), data)


def _misfits(data: UpperPart, reference: ScatterReference, voltages_kv: Array, from_kev: float) -> Array:
    return np.asarray([misfit_of(data, replace(reference, voltage_kv=float(kv)), from_kev) for kv in voltages_kv])


def _evaluate_voltage(fine: Array, misfit: Array, data: UpperPart) -> Voltage:
    best = int(np.argmin(misfit))
    voltage, error = lowest(fine, misfit, int((data.axis.energy_kev > fine[best] - _REACH_KEV).sum()))
    stop = data.axis.stop_kev
    beyond = fine > stop - _MARGIN_KV
    if voltage > stop - _MARGIN_KV or (beyond.any() and misfit[beyond].min() - misfit[best] < _MIN_RISE):
        return Voltage(None, voltage, reason=f"the continuum extends to the last channel at {stop:.1f} keV")
    if not error < _MAX_ERROR_KV:
        return Voltage(None, voltage, reason=f"too few counts near its end (about {voltage:.0f} kV)")
    return Voltage(voltage, voltage, float(np.hypot(error, _MODEL_ERROR_KV)))


USUAL = ScatterReference("Rh", 120.0, 40.0)
"""Default for values that are not determined."""
_WINDOW_KEV = (15.5, 28.0)
_FIRST_ANGLES_DEG = np.arange(66.0, 165.0, 14.0)
_ANY_ANGLES_DEG = (95.0, 120.0, 145.0)
_MAX_SPREAD_KV = 1.0
_MIN_DROP = 25.0
_MIN_LEAD = 12.0
_EDGE_MARGIN_KEV = 0.6
_AT_END_DEG = 6.0
_MAX_ERROR_DEG = 4.0
_SURE_SIGMAS = 20.0


@dataclass(frozen=True)
class TubeEstimate:
    """Tube parameters from scattered radiation; None if undetermined, with the reason.

    Parameters
    ----------
    anode : str or None
        Element symbol.
    angle_deg, angle_error_deg : float or None
        Scattering angle and one standard deviation, degree.
    voltage_kv, voltage_error_kv : float or None
        Tube voltage and one standard deviation, kV.
    missing : tuple of str
        Texts on what could not be determined.
    """

    anode: str | None = None
    angle_deg: float | None = None
    angle_error_deg: float | None = None
    voltage_kv: float | None = None
    voltage_error_kv: float | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Fit:
    """An anode's lines at their best angle, and chi squared."""

    reference: ScatterReference
    misfit: float


def find_tube(counts: Array, response: Response, folds: tuple[Array, Array] | None = None) -> TubeEstimate:
    """Estimate the tube from a sum spectrum.

    Parameters
    ----------
    counts : (n_channel,) array
        Sum spectrum, counts.
    response : Response
        Its axis and resolution.
    folds : pair of (n,) arrays, optional
        Pile-up from ``self_convolution``; by default that of the sum spectrum.
    """
    data = upper_part(counts, response, folds)
    if data is None:
        early = f"the spectrum ends at {response.axis(counts.size).stop_kev:.1f} keV, below the scattered K lines"
        return TubeEstimate(missing=(f"anode: {early}", f"voltage: {early}", "scattering angle: no anode"))
    first = guess_anode(counts, response)
    reference = USUAL if first is None else ScatterReference(first.symbol, first.scatter_angle_deg, USUAL.voltage_kv)
    voltage = guess_voltage(data, reference)
    reference = replace(reference, voltage_kv=voltage.best_kv)
    fit = _best_anode(data, reference, voltage)
    if fit is None and first is not None and first.significance > _SURE_SIGMAS:
        near = replace(reference, angle_deg=refine_angle(data, reference)[0])
        fit = _Fit(near, float("nan")) if _has_both_peaks(data, near) else None
    if fit is None:
        voltage = _voltage_at_any_angle(data, voltage)
    elif first is None or first.symbol != fit.reference.anode:
        voltage = guess_voltage(data, fit.reference)
    return _make_estimate(data, fit, voltage)


def _voltage_at_any_angle(data: UpperPart, voltage: Voltage) -> Voltage:
    """Return a voltage that does not depend on the angle, which is unknown without an anode."""
    if voltage.voltage_kv is None:
        return voltage
    estimates = [guess_voltage(data, replace(USUAL, angle_deg=angle)) for angle in _ANY_ANGLES_DEG]
    voltages = [estimate.voltage_kv for estimate in estimates if estimate.voltage_kv is not None]
    if len(voltages) < len(estimates) or max(voltages) - min(voltages) > _MAX_SPREAD_KV:
        reason = f"its end depends on the scattering angle (about {voltage.voltage_kv:.0f} kV)"
        return Voltage(None, voltage.best_kv, reason=reason)
    spread = 0.5 * (max(voltages) - min(voltages))
    middle = float(np.median(voltages))
    return Voltage(middle, middle, float(np.hypot(max(estimate.error_kv for estimate in estimates), spread)))


def _best_anode(data: UpperPart, reference: ScatterReference, voltage: Voltage) -> _Fit | None:
    """Return the anode whose lines explain the residual of the continuum; None if none or two do."""
    excited = [
        anode for anode in ANODES if edge_energy(atomic_number(anode), SHELLS.index("K")) < _highest(reference, voltage)
    ]
    window = _WINDOW_KEV[0], min(_WINDOW_KEV[1], data.axis.stop_kev)
    fits = sorted(
        _fitted(data, [replace(reference, anode=anode) for anode in excited], window), key=lambda fit: fit.misfit
    )
    if not fits:
        return None
    best, unit = fits[0], _unit(data, fits[0].misfit, window)
    # the peaks are compared at their best angle: on the coarse grid of angles a faint one appears fainter
    near = [
        replace(fit.reference, angle_deg=refine_angle(data, fit.reference)[0])
        for fit in fits
        if _rivals(fit, best, unit)
    ]
    if not _has_both_peaks(data, near[0]):
        return None
    # an anode without both peaks is not a rival: its Compton peak may coincide with this one's
    return None if any(_has_both_peaks(data, rival) for rival in near[1:]) else _Fit(near[0], best.misfit)


def _rivals(fit: _Fit, best: _Fit, unit: float) -> bool:
    return fit.misfit - best.misfit < _MIN_LEAD * unit


def _has_both_peaks(data: UpperPart, reference: ScatterReference) -> bool:
    """Whether the spectrum requires Rayleigh and Compton lines: either alone may be fluorescence or a hump."""
    window = line_window(reference.anode)
    misfit = misfit_of(data, reference, *window)
    return min(misfits_without(data, reference, *window)) - misfit > _MIN_DROP * _unit(data, misfit, window)


def _unit(data: UpperPart, misfit: float, window: tuple[float, float]) -> float:
    """Return chi squared per datum of the best fit, at least 1; model errors increase it."""
    return max(misfit / max((window[1] - window[0]) / data.axis.gain_kev, 1.0), 1.0)


def _highest(reference: ScatterReference, voltage: Voltage) -> float:
    """Return the highest edge that the tube may excite; up to half a kilovolt above an edge, lines are too weak."""
    return reference.voltage_kv - _EDGE_MARGIN_KEV if voltage.voltage_kv is not None else float("inf")


def _fitted(data: UpperPart, references: list[ScatterReference], window: tuple[float, float]) -> list[_Fit]:
    """Return each anode's best angle; all references start from the same angle."""
    angles = np.union1d(_FIRST_ANGLES_DEG, [reference.angle_deg for reference in references])
    # angle by angle: all anodes share the cross sections of an angle, and few are cached
    misfits = [
        [misfit_of(data, replace(reference, angle_deg=float(candidate_deg)), *window) for reference in references]
        for candidate_deg in angles
    ]
    fits = []
    for reference, misfit in zip(references, np.transpose(misfits), strict=True):
        near = replace(reference, angle_deg=lowest(angles, misfit, data.axis.n_channel)[0])
        fits.append(_Fit(near, min(misfit_of(data, near, *window), float(misfit.min()))))
    return fits


def _make_estimate(data: UpperPart, fit: _Fit | None, voltage: Voltage) -> TubeEstimate:
    missing = () if voltage.voltage_kv is not None else (f"voltage: {voltage.reason}",)
    estimate = TubeEstimate(voltage_kv=voltage.voltage_kv, missing=missing)
    if voltage.voltage_kv is not None:
        estimate = replace(estimate, voltage_error_kv=voltage.error_kv)
    if fit is None:
        return replace(estimate, missing=(no_anode(data.axis.stop_kev), *missing, "scattering angle: no anode"))
    angle, error = refine_angle(data, replace(fit.reference, voltage_kv=voltage.best_kv))
    if not ANGLES_DEG[0] + _AT_END_DEG < angle < ANGLES_DEG[1] - _AT_END_DEG:
        return replace(estimate, missing=(no_anode(data.axis.stop_kev), *missing, "scattering angle: no anode"))
    estimate = replace(estimate, anode=fit.reference.anode)
    if not error < _MAX_ERROR_DEG:
        return replace(estimate, missing=(*missing, f"scattering angle: the Compton peak is too faint ({angle:.0f}?)"))
    return replace(estimate, angle_deg=angle, angle_error_deg=error)


def no_anode(stop_kev: float) -> str:
    """Return why no anode is found in a spectrum that ends at an energy, keV."""
    if stop_kev < 20.0:
        return f"anode: the spectrum ends at {stop_kev:.1f} keV, below the scattered K lines"
    return (
        "anode: no pair of Rayleigh and Compton peaks of Mo, Rh, Pd or Ag is detected; "
        "other anodes (Cr, Cu, W, Au) cannot be determined from a scan's lines"
    )
