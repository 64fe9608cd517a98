"""Estimate of anode, voltage and scattering angle from the scatter above the lines of pigments.

The voltage is the end of the scattered continuum (Duane & Hunt 1915). The end is not sharp: the continuum vanishes
gradually, Compton scatter ends some keV below, and pile-up extends above. The spectrum above the lines of pigments is
therefore fitted with the scatter of simple samples for a range of voltages.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from underpaint.calibrate._anode import ANODES, guess_anode
from underpaint.calibrate._patterns import line_groups
from underpaint.calibrate._refine import Response
from underpaint.calibrate._scatter import (
    MIN_SCATTER_KEV,
    ScatterReference,
    UpperPart,
    misfit_of,
    misfits_without,
    upper_part,
)
from underpaint.physics.atomic import SHELLS, atomic_number, compton_energy, edge_energy

Array = NDArray[np.float64]

ANGLES_DEG = (60.0, 175.0)
_LINE_MARGIN_KEV = 0.7
_FIT_RANGE_SIGMAS = 2.0
_SEARCH_ROUNDS_DEG = ((18.0, 6.0), (6.0, 2.0))
"""Half-range and step of the two rounds of the search for the angle, in degrees."""


def refine_angle(data: UpperPart, reference: ScatterReference) -> tuple[float, float]:
    """Return the best angle near an approximate one, and its standard deviation, in degrees.

    Parameters
    ----------
    data : UpperPart
        Spectrum.
    reference : ScatterReference
        Anode, voltage and approximate angle.
    """
    angle, error = reference.angle_deg, float("nan")
    for half_range, step in _SEARCH_ROUNDS_DEG:
        # integer degrees, so that scans share cached cross sections
        centre = round(angle)
        angles = np.clip(np.arange(centre - half_range, centre + half_range + 1e-6, step), *ANGLES_DEG)
        angles = np.unique(angles)
        window = line_window(reference.anode)
        misfit = np.asarray(
            [misfit_of(data, replace(reference, angle_deg=float(candidate_deg)), *window) for candidate_deg in angles]
        )
        n_bin = int((window[1] - window[0]) / data.axis.gain_kev)
        angle, error = parabola_minimum(angles, misfit, n_bin)
    return angle, error


def line_window(anode: str) -> tuple[float, float]:
    """Return the range of energies, keV, of an anode's K lines and their Compton peaks."""
    line_kev = np.concatenate([group.energy_kev for group in line_groups(f"{anode}_K")])
    min_compton_kev = float(compton_energy(line_kev, ANGLES_DEG[1]).min())
    return min_compton_kev - _LINE_MARGIN_KEV, float(line_kev.max()) + _LINE_MARGIN_KEV


def parabola_minimum(values: Array, misfit: Array, n_bin: int) -> tuple[float, float]:
    """Return the minimum of a parabola fitted to chi squared, and the standard deviation of its position.

    The fit includes all points near the smallest chi squared and one more on either side; at a flat minimum, three
    points would not determine the width.

    Parameters
    ----------
    values : (n_value,) array
        Increasing values of the parameter.
    misfit : (n_value,) array
        Chi squared of each value.
    n_bin : int
        Number of data; if the smallest chi squared is larger, the standard deviation is increased.
    """
    best_index = int(np.argmin(misfit))
    scale = max(float(misfit[best_index]) / max(n_bin, 1), 1.0)
    near_minimum = np.flatnonzero(misfit < misfit[best_index] + _FIT_RANGE_SIGMAS**2 * scale)
    fitted = slice(max(min(int(near_minimum[0]) - 1, misfit.size - 3), 0), max(int(near_minimum[-1]) + 2, 3))
    curvature, slope, _ = np.polyfit(values[fitted] - values[best_index], misfit[fitted], 2)
    if curvature <= 0:
        return float(values[best_index]), float("inf")
    vertex = float(np.clip(values[best_index] - slope / (2.0 * curvature), values[fitted][0], values[fitted][-1]))
    return vertex, float(np.sqrt(scale / curvature))


MIN_VOLTAGE_KV, MAX_VOLTAGE_KV = 16.0, 60.0
"""Range of the tube voltages of scanners, in kV."""
_FIT_RANGE_KEV = 10.0
_COARSE_STEP_KV, _FINE_STEP_KV, _FINE_RANGE_KV = 2.0, 0.5, 3.0
_END_MARGIN_KV = 0.7
_MIN_MISFIT_RISE = 25.0
_MAX_ERROR_KV = 0.5
_VOLTAGE_MODEL_ERROR_KV = 0.15
"""Error of the voltage from the model of samples and tube, in kV."""


@dataclass(frozen=True)
class Voltage:
    """Estimate of a tube voltage.

    Parameters
    ----------
    voltage_kv : float or None
        Tube voltage in kV; None if the end of the continuum was not recorded.
    best_kv : float
        Voltage whose continuum fits best, kV, also if the voltage is unknown. Fits of lines need it.
    error_kv : float
        Standard deviation in kV.
    reason : str
        Reason why the voltage is unknown; empty if known.
    """

    voltage_kv: float | None
    best_kv: float
    error_kv: float = float("nan")
    reason: str = ""


def guess_voltage(data: UpperPart, reference: ScatterReference) -> Voltage:
    """Return the voltage whose scattered continuum fits best; unknown if the end of the continuum is not detected.

    Parameters
    ----------
    data : UpperPart
        Spectrum.
    reference : ScatterReference
        Anode and angle, or default values; the voltage is not used.
    """
    coarse_kv = np.arange(
        MIN_VOLTAGE_KV, min(data.axis.stop_kev + 2 * _FINE_RANGE_KV, MAX_VOLTAGE_KV) + 1e-6, _COARSE_STEP_KV
    )
    start_kv = float(coarse_kv[np.argmin(_misfits(data, reference, coarse_kv, MIN_SCATTER_KEV))])
    fine_kv = np.arange(max(start_kv - _FINE_RANGE_KV, MIN_VOLTAGE_KV), start_kv + _FINE_RANGE_KV + 1e-6, _FINE_STEP_KV)
    return _evaluate_voltage(
        fine_kv, _misfits(data, reference, fine_kv, max(start_kv - _FIT_RANGE_KEV, MIN_SCATTER_KEV)), data
    )


def _misfits(data: UpperPart, reference: ScatterReference, voltages_kv: Array, from_kev: float) -> Array:
    return np.asarray([misfit_of(data, replace(reference, voltage_kv=float(kv)), from_kev) for kv in voltages_kv])


def _evaluate_voltage(voltages_kv: Array, misfit: Array, data: UpperPart) -> Voltage:
    best_index = int(np.argmin(misfit))
    voltage_kv, error_kv = parabola_minimum(
        voltages_kv, misfit, int((data.axis.energy_kev > voltages_kv[best_index] - _FIT_RANGE_KEV).sum())
    )
    stop_kev = data.axis.stop_kev
    is_unrecorded = voltages_kv > stop_kev - _END_MARGIN_KV
    if voltage_kv > stop_kev - _END_MARGIN_KV or (
        is_unrecorded.any() and misfit[is_unrecorded].min() - misfit[best_index] < _MIN_MISFIT_RISE
    ):
        return Voltage(None, voltage_kv, reason=f"the continuum extends to the last channel at {stop_kev:.1f} keV")
    if not error_kv < _MAX_ERROR_KV:
        return Voltage(
            None, voltage_kv, reason=f"too few counts near the end of the continuum (about {voltage_kv:.0f} kV)"
        )
    return Voltage(voltage_kv, voltage_kv, float(np.hypot(error_kv, _VOLTAGE_MODEL_ERROR_KV)))


DEFAULT_REFERENCE = ScatterReference("Rh", 120.0, 40.0)
"""Default for values that cannot be determined."""
_FIT_WINDOW_KEV = (15.5, 28.0)
_COARSE_ANGLES_DEG = np.arange(66.0, 165.0, 14.0)
_TRIAL_ANGLES_DEG = (95.0, 120.0, 145.0)
_MAX_SPREAD_KV = 1.0
_MIN_MISFIT_DROP = 25.0
_MIN_MISFIT_LEAD = 12.0
_EDGE_MARGIN_KEV = 0.6
_ANGLE_MARGIN_DEG = 6.0
_MAX_ERROR_DEG = 4.0
_MIN_CERTAIN_SIGMAS = 20.0


@dataclass(frozen=True)
class TubeEstimate:
    """Tube parameters from scattered radiation; None for values that cannot be determined.

    Parameters
    ----------
    anode : str or None
        Element symbol.
    angle_deg, angle_error_deg : float or None
        Scattering angle and its standard deviation, in degrees.
    voltage_kv, voltage_error_kv : float or None
        Tube voltage and its standard deviation, in kV.
    missing : tuple of str
        Values that cannot be determined, with the reason.
    """

    anode: str | None = None
    angle_deg: float | None = None
    angle_error_deg: float | None = None
    voltage_kv: float | None = None
    voltage_error_kv: float | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Fit:
    """Anode and voltage at the best angle, and chi squared."""

    reference: ScatterReference
    misfit: float


def find_tube(counts: Array, response: Response, folds: tuple[Array, Array] | None = None) -> TubeEstimate:
    """Estimate the tube from a sum spectrum.

    Parameters
    ----------
    counts : (n_channel,) array
        Sum spectrum in counts.
    response : Response
        Energy axis and resolution of the spectrum.
    folds : pair of (n,) arrays, optional
        Result of ``self_convolution``; by default that of the sum spectrum.
    """
    data = upper_part(counts, response, folds)
    if data is None:
        reason = f"the spectrum ends at {response.axis(counts.size).stop_kev:.1f} keV, below the scattered K lines"
        return TubeEstimate(missing=(f"anode: {reason}", f"voltage: {reason}", "scattering angle: no anode"))
    guess = guess_anode(counts, response)
    reference = (
        DEFAULT_REFERENCE
        if guess is None
        else ScatterReference(guess.symbol, guess.scatter_angle_deg, DEFAULT_REFERENCE.voltage_kv)
    )
    voltage = guess_voltage(data, reference)
    reference = replace(reference, voltage_kv=voltage.best_kv)
    fit = _best_anode(data, reference, voltage)
    if fit is None and guess is not None and guess.significance > _MIN_CERTAIN_SIGMAS:
        refined = replace(reference, angle_deg=refine_angle(data, reference)[0])
        fit = _Fit(refined, float("nan")) if _has_both_peaks(data, refined) else None
    if fit is None:
        voltage = _voltage_at_any_angle(data, voltage)
    elif guess is None or guess.symbol != fit.reference.anode:
        voltage = guess_voltage(data, fit.reference)
    return _make_estimate(data, fit, voltage)


def _voltage_at_any_angle(data: UpperPart, voltage: Voltage) -> Voltage:
    """Return the voltage if it hardly depends on the angle, which is unknown without an anode; else unknown."""
    if voltage.voltage_kv is None:
        return voltage
    estimates = [guess_voltage(data, replace(DEFAULT_REFERENCE, angle_deg=angle)) for angle in _TRIAL_ANGLES_DEG]
    voltages = [estimate.voltage_kv for estimate in estimates if estimate.voltage_kv is not None]
    if len(voltages) < len(estimates) or max(voltages) - min(voltages) > _MAX_SPREAD_KV:
        reason = f"the end of the continuum depends on the scattering angle (about {voltage.voltage_kv:.0f} kV)"
        return Voltage(None, voltage.best_kv, reason=reason)
    half_range = 0.5 * (max(voltages) - min(voltages))
    median = float(np.median(voltages))
    return Voltage(median, median, float(np.hypot(max(estimate.error_kv for estimate in estimates), half_range)))


def _best_anode(data: UpperPart, reference: ScatterReference, voltage: Voltage) -> _Fit | None:
    """Return the only anode whose lines explain the residual of the continuum; None if there is no such anode."""
    excited = [
        anode
        for anode in ANODES
        if edge_energy(atomic_number(anode), SHELLS.index("K")) < _max_edge_kev(reference, voltage)
    ]
    window_kev = _FIT_WINDOW_KEV[0], min(_FIT_WINDOW_KEV[1], data.axis.stop_kev)
    fits = sorted(
        _fit_angles(data, [replace(reference, anode=anode) for anode in excited], window_kev),
        key=lambda fit: fit.misfit,
    )
    if not fits:
        return None
    best_fit, scale = fits[0], _misfit_scale(data, fits[0].misfit, window_kev)
    # anodes are compared at their best angle: weak peaks fit badly on the coarse grid of angles
    candidates = [
        replace(fit.reference, angle_deg=refine_angle(data, fit.reference)[0])
        for fit in fits
        if _is_rival(fit, best_fit, scale)
    ]
    if not _has_both_peaks(data, candidates[0]):
        return None
    # an anode without both peaks is not a rival, since its Compton peak may coincide with that of the best anode
    return (
        None if any(_has_both_peaks(data, rival) for rival in candidates[1:]) else _Fit(candidates[0], best_fit.misfit)
    )


def _is_rival(fit: _Fit, best_fit: _Fit, scale: float) -> bool:
    return fit.misfit - best_fit.misfit < _MIN_MISFIT_LEAD * scale


def _has_both_peaks(data: UpperPart, reference: ScatterReference) -> bool:
    """Return whether both Rayleigh and Compton lines improve the fit: one of them may be fluorescence or background."""
    window = line_window(reference.anode)
    misfit = misfit_of(data, reference, *window)
    return min(misfits_without(data, reference, *window)) - misfit > _MIN_MISFIT_DROP * _misfit_scale(
        data, misfit, window
    )


def _misfit_scale(data: UpperPart, misfit: float, window: tuple[float, float]) -> float:
    """Return chi squared per bin of the best fit, at least 1, by which differences of chi squared are scaled."""
    return max(misfit / max((window[1] - window[0]) / data.axis.gain_kev, 1.0), 1.0)


def _max_edge_kev(reference: ScatterReference, voltage: Voltage) -> float:
    """Return the energy, keV, below which edges are excited; lines are too weak just above their edge."""
    return reference.voltage_kv - _EDGE_MARGIN_KEV if voltage.voltage_kv is not None else float("inf")


def _fit_angles(data: UpperPart, references: list[ScatterReference], window: tuple[float, float]) -> list[_Fit]:
    """Return the fits of references, with different anodes and the same angle, at their best angle."""
    angles = np.union1d(_COARSE_ANGLES_DEG, [reference.angle_deg for reference in references])
    # the outer loop is over angles, since anodes share the cross sections of an angle and the cache is small
    misfits = [
        [misfit_of(data, replace(reference, angle_deg=float(candidate_deg)), *window) for reference in references]
        for candidate_deg in angles
    ]
    fits = []
    for reference, misfit in zip(references, np.transpose(misfits), strict=True):
        refined = replace(reference, angle_deg=parabola_minimum(angles, misfit, data.axis.n_channel)[0])
        fits.append(_Fit(refined, min(misfit_of(data, refined, *window), float(misfit.min()))))
    return fits


def _make_estimate(data: UpperPart, fit: _Fit | None, voltage: Voltage) -> TubeEstimate:
    missing = () if voltage.voltage_kv is not None else (f"voltage: {voltage.reason}",)
    estimate = TubeEstimate(voltage_kv=voltage.voltage_kv, missing=missing)
    if voltage.voltage_kv is not None:
        estimate = replace(estimate, voltage_error_kv=voltage.error_kv)
    if fit is None:
        return replace(
            estimate, missing=(missing_anode_reason(data.axis.stop_kev), *missing, "scattering angle: no anode")
        )
    angle_deg, error_deg = refine_angle(data, replace(fit.reference, voltage_kv=voltage.best_kv))
    if not ANGLES_DEG[0] + _ANGLE_MARGIN_DEG < angle_deg < ANGLES_DEG[1] - _ANGLE_MARGIN_DEG:
        return replace(
            estimate, missing=(missing_anode_reason(data.axis.stop_kev), *missing, "scattering angle: no anode")
        )
    estimate = replace(estimate, anode=fit.reference.anode)
    if not error_deg < _MAX_ERROR_DEG:
        return replace(
            estimate,
            missing=(*missing, f"scattering angle: the Compton peak is too weak (about {angle_deg:.0f} degrees)"),
        )
    return replace(estimate, angle_deg=angle_deg, angle_error_deg=error_deg)


def missing_anode_reason(stop_kev: float) -> str:
    """Return a text on why no anode is determined from a spectrum that ends at ``stop_kev``, in keV."""
    if stop_kev < 20.0:
        return f"anode: the spectrum ends at {stop_kev:.1f} keV, below the scattered K lines"
    return (
        "anode: no pair of Rayleigh and Compton peaks of Mo, Rh, Pd or Ag is detected; "
        "other anodes (Cr, Cu, W, Au) cannot be determined from a scan's lines"
    )
