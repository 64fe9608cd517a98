"""Estimate of anode, tube voltage and scattering angle from the scattered radiation above the lines of pigments.

The scattered continuum ends at the energy that corresponds to the voltage (Duane & Hunt 1915). The end of the continuum
is not sharp. The counts decrease gradually, Compton scatter ends some keV lower, and pile-up extends to higher
energies. The scatter of simple samples is therefore calculated for several voltages, and fitted to the spectrum.
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
    UpperSpectrum,
    cut_upper_spectrum,
    misfits_without_lines,
    scatter_misfit,
)
from underpaint.physics.atomic import SHELLS, atomic_number, compton_energy, edge_energy

Array = NDArray[np.float64]

SCATTER_ANGLE_RANGE_DEG = (60.0, 175.0)
_LINE_MARGIN_KEV = 0.7
_FIT_RANGE_SIGMAS = 2.0
_SEARCH_ROUNDS_DEG = ((18.0, 6.0), (6.0, 2.0))
"""Half-range and step of each round of the angle search, in degrees."""


def refine_angle(upper_spectrum: UpperSpectrum, reference: ScatterReference) -> tuple[float, float]:
    """Refine an approximate scattering angle. Return the angle and its standard deviation, in degrees.

    Parameters
    ----------
    upper_spectrum : UpperSpectrum
        Part of the sum spectrum above the lines of pigments.
    reference : ScatterReference
        Anode, voltage and approximate angle.
    """
    angle_deg, error_deg = reference.angle_deg, float("nan")
    for half_range_deg, step_deg in _SEARCH_ROUNDS_DEG:
        # whole degrees, so that different scans use the same cached cross sections
        centre_deg = round(angle_deg)
        angles_deg = np.clip(
            np.arange(centre_deg - half_range_deg, centre_deg + half_range_deg + 1e-6, step_deg),
            *SCATTER_ANGLE_RANGE_DEG,
        )
        angles_deg = np.unique(angles_deg)
        window_kev = line_window_kev(reference.anode)
        misfits = np.asarray(
            [
                scatter_misfit(upper_spectrum, replace(reference, angle_deg=float(candidate_angle_deg)), *window_kev)
                for candidate_angle_deg in angles_deg
            ]
        )
        n_bins = int((window_kev[1] - window_kev[0]) / upper_spectrum.axis.gain_kev)
        angle_deg, error_deg = parabola_minimum(angles_deg, misfits, n_bins)
    return angle_deg, error_deg


def line_window_kev(anode: str) -> tuple[float, float]:
    """Return the lowest and the highest energy of an anode's K lines and their Compton peaks, with a margin, in keV."""
    line_kev = np.concatenate([group.energy_kev for group in line_groups(f"{anode}_K")])
    min_compton_kev = float(compton_energy(line_kev, SCATTER_ANGLE_RANGE_DEG[1]).min())
    return min_compton_kev - _LINE_MARGIN_KEV, float(line_kev.max()) + _LINE_MARGIN_KEV


def parabola_minimum(parameters: Array, misfits: Array, n_bin: int) -> tuple[float, float]:
    """Fit a parabola to chi squared. Return the position of its minimum and the standard deviation of this position.

    All points near the smallest chi squared are fitted, and one more point on either side of them. At a flat minimum,
    three points would not determine the curvature.

    Parameters
    ----------
    parameters : (n_value,) array
        Increasing values of the fit parameter.
    misfits : (n_value,) array
        Chi squared at each value.
    n_bin : int
        Number of fitted bins. If the smallest chi squared exceeds this number, the standard deviation is increased.
    """
    best_index = int(np.argmin(misfits))
    misfit_scale = max(float(misfits[best_index]) / max(n_bin, 1), 1.0)
    indices_near_minimum = np.flatnonzero(misfits < misfits[best_index] + _FIT_RANGE_SIGMAS**2 * misfit_scale)
    fit_slice = slice(
        max(min(int(indices_near_minimum[0]) - 1, misfits.size - 3), 0), max(int(indices_near_minimum[-1]) + 2, 3)
    )
    quadratic_coefficient, linear_coefficient, _ = np.polyfit(
        parameters[fit_slice] - parameters[best_index], misfits[fit_slice], 2
    )
    if quadratic_coefficient <= 0:
        return float(parameters[best_index]), float("inf")
    vertex_position = float(
        np.clip(
            parameters[best_index] - linear_coefficient / (2.0 * quadratic_coefficient),
            parameters[fit_slice][0],
            parameters[fit_slice][-1],
        )
    )
    return vertex_position, float(np.sqrt(misfit_scale / quadratic_coefficient))


MIN_VOLTAGE_KV, MAX_VOLTAGE_KV = 16.0, 60.0
"""Tube voltages of scanners, in kV."""
_VOLTAGE_FIT_RANGE_KEV = 10.0
_COARSE_STEP_KV, _FINE_STEP_KV, _FINE_RANGE_KV = 2.0, 0.5, 3.0
_AXIS_END_MARGIN_KV = 0.7
_MIN_MISFIT_RISE = 25.0
_MAX_VOLTAGE_ERROR_KV = 0.5
_VOLTAGE_MODEL_ERROR_KV = 0.15
"""Error of the estimated voltage due to the simplified samples and tube, in kV."""


@dataclass(frozen=True)
class VoltageEstimate:
    """Estimate of the tube voltage from the end of the scattered continuum.

    Parameters
    ----------
    voltage_kv : float or None
        Tube voltage in kV, or None if it is unknown.
    best_kv : float
        Voltage in kV whose continuum fits best, even if the fit does not determine the voltage. The fits of the anode's
        lines use this voltage.
    error_kv : float
        Standard deviation of the voltage, in kV.
    reason : str
        Reason why the voltage is unknown, or "" if it is known.
    """

    voltage_kv: float | None
    best_kv: float
    error_kv: float = float("nan")
    reason: str = ""


def guess_voltage(upper_spectrum: UpperSpectrum, reference: ScatterReference) -> VoltageEstimate:
    """Return the voltage whose scattered continuum fits best, or the reason why the spectrum does not determine it.

    Parameters
    ----------
    upper_spectrum : UpperSpectrum
        Part of the sum spectrum above the lines of pigments.
    reference : ScatterReference
        Anode and angle, or default values. The voltage of the reference is ignored.
    """
    coarse_voltages_kv = np.arange(
        MIN_VOLTAGE_KV, min(upper_spectrum.axis.stop_kev + 2 * _FINE_RANGE_KV, MAX_VOLTAGE_KV) + 1e-6, _COARSE_STEP_KV
    )
    coarse_best_kv = float(
        coarse_voltages_kv[np.argmin(_voltage_misfits(upper_spectrum, reference, coarse_voltages_kv, MIN_SCATTER_KEV))]
    )
    fine_voltages_kv = np.arange(
        max(coarse_best_kv - _FINE_RANGE_KV, MIN_VOLTAGE_KV), coarse_best_kv + _FINE_RANGE_KV + 1e-6, _FINE_STEP_KV
    )
    return _evaluate_voltage(
        fine_voltages_kv,
        _voltage_misfits(
            upper_spectrum, reference, fine_voltages_kv, max(coarse_best_kv - _VOLTAGE_FIT_RANGE_KEV, MIN_SCATTER_KEV)
        ),
        upper_spectrum,
    )


def _voltage_misfits(
    upper_spectrum: UpperSpectrum, reference: ScatterReference, voltages_kv: Array, min_kev: float
) -> Array:
    return np.asarray(
        [
            scatter_misfit(upper_spectrum, replace(reference, voltage_kv=float(voltage_kv)), min_kev)
            for voltage_kv in voltages_kv
        ]
    )


def _evaluate_voltage(voltages_kv: Array, misfits: Array, upper_spectrum: UpperSpectrum) -> VoltageEstimate:
    best_index = int(np.argmin(misfits))
    voltage_kv, error_kv = parabola_minimum(
        voltages_kv,
        misfits,
        int((upper_spectrum.axis.energy_kev > voltages_kv[best_index] - _VOLTAGE_FIT_RANGE_KEV).sum()),
    )
    stop_kev = upper_spectrum.axis.stop_kev
    is_unrecorded = voltages_kv > stop_kev - _AXIS_END_MARGIN_KV
    if voltage_kv > stop_kev - _AXIS_END_MARGIN_KV or (
        is_unrecorded.any() and misfits[is_unrecorded].min() - misfits[best_index] < _MIN_MISFIT_RISE
    ):
        return VoltageEstimate(
            None, voltage_kv, reason=f"the continuum extends to the last channel at {stop_kev:.1f} keV"
        )
    if not error_kv < _MAX_VOLTAGE_ERROR_KV:
        return VoltageEstimate(
            None, voltage_kv, reason=f"too few counts near the end of the continuum (about {voltage_kv:.0f} kV)"
        )
    return VoltageEstimate(voltage_kv, voltage_kv, float(np.hypot(error_kv, _VOLTAGE_MODEL_ERROR_KV)))


DEFAULT_REFERENCE = ScatterReference("Rh", 120.0, 40.0)
"""Anode, angle and voltage that are assumed for values that the spectrum does not determine."""
_FIT_WINDOW_KEV = (15.5, 28.0)
_COARSE_ANGLES_DEG = np.arange(66.0, 165.0, 14.0)
_TRIAL_ANGLES_DEG = (95.0, 120.0, 145.0)
_MAX_VOLTAGE_SPREAD_KV = 1.0
_MIN_MISFIT_DROP = 25.0
_MIN_MISFIT_DIFFERENCE = 12.0
_EDGE_VOLTAGE_MARGIN_KEV = 0.6
_ANGLE_MARGIN_DEG = 6.0
_MAX_ANGLE_ERROR_DEG = 4.0
_MIN_ANODE_SIGMAS = 20.0


@dataclass(frozen=True)
class TubeEstimate:
    """Tube parameters estimated from scattered radiation. Parameters that cannot be determined are None.

    Parameters
    ----------
    anode : str or None
        Element symbol.
    angle_deg, angle_error_deg : float or None
        Scattering angle and its standard deviation, in degrees.
    voltage_kv, voltage_error_kv : float or None
        Tube voltage and its standard deviation, in kV.
    missing : tuple of str
        Parameters that cannot be determined, each with the reason.
    """

    anode: str | None = None
    angle_deg: float | None = None
    angle_error_deg: float | None = None
    voltage_kv: float | None = None
    voltage_error_kv: float | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class _TubeFit:
    """Anode, voltage and best angle, and chi squared of their fit."""

    reference: ScatterReference
    misfit: float


def find_tube(counts: Array, response: Response, convolutions: tuple[Array, Array] | None = None) -> TubeEstimate:
    """Estimate anode, voltage and scattering angle from a sum spectrum.

    Parameters
    ----------
    counts : (n_channel,) array
        Sum spectrum in counts.
    response : Response
        Energy axis and resolution of the spectrum.
    convolutions : pair of (n,) arrays, optional
        Result of ``self_convolution``, by default for the sum spectrum.
    """
    upper_spectrum = cut_upper_spectrum(counts, response, convolutions)
    if upper_spectrum is None:
        reason = f"the spectrum ends at {response.axis(counts.size).stop_kev:.1f} keV, below the scattered K lines"
        return TubeEstimate(missing=(f"anode: {reason}", f"voltage: {reason}", "scattering angle: no anode"))
    anode_guess = guess_anode(counts, response)
    reference = (
        DEFAULT_REFERENCE
        if anode_guess is None
        else ScatterReference(anode_guess.symbol, anode_guess.scatter_angle_deg, DEFAULT_REFERENCE.voltage_kv)
    )
    voltage = guess_voltage(upper_spectrum, reference)
    reference = replace(reference, voltage_kv=voltage.best_kv)
    tube_fit = _best_anode(upper_spectrum, reference, voltage)
    if tube_fit is None and anode_guess is not None and anode_guess.significance > _MIN_ANODE_SIGMAS:
        refined_reference = replace(reference, angle_deg=refine_angle(upper_spectrum, reference)[0])
        tube_fit = (
            _TubeFit(refined_reference, float("nan")) if _has_both_peaks(upper_spectrum, refined_reference) else None
        )
    if tube_fit is None:
        voltage = _voltage_at_any_angle(upper_spectrum, voltage)
    elif anode_guess is None or anode_guess.symbol != tube_fit.reference.anode:
        voltage = guess_voltage(upper_spectrum, tube_fit.reference)
    return _make_estimate(upper_spectrum, tube_fit, voltage)


def _voltage_at_any_angle(upper_spectrum: UpperSpectrum, voltage: VoltageEstimate) -> VoltageEstimate:
    """Estimate the voltage at several angles. If the estimates disagree, return a reason instead of a voltage."""
    if voltage.voltage_kv is None:
        return voltage
    voltage_estimates = [
        guess_voltage(upper_spectrum, replace(DEFAULT_REFERENCE, angle_deg=angle_deg))
        for angle_deg in _TRIAL_ANGLES_DEG
    ]
    voltages_kv = [
        voltage_estimate.voltage_kv for voltage_estimate in voltage_estimates if voltage_estimate.voltage_kv is not None
    ]
    if len(voltages_kv) < len(voltage_estimates) or max(voltages_kv) - min(voltages_kv) > _MAX_VOLTAGE_SPREAD_KV:
        reason = f"the end of the continuum depends on the scattering angle (about {voltage.voltage_kv:.0f} kV)"
        return VoltageEstimate(None, voltage.best_kv, reason=reason)
    half_range_kv = 0.5 * (max(voltages_kv) - min(voltages_kv))
    median_kv = float(np.median(voltages_kv))
    return VoltageEstimate(
        median_kv,
        median_kv,
        float(np.hypot(max(voltage_estimate.error_kv for voltage_estimate in voltage_estimates), half_range_kv)),
    )


def _best_anode(
    upper_spectrum: UpperSpectrum, reference: ScatterReference, voltage: VoltageEstimate
) -> _TubeFit | None:
    """Return the anode whose scattered lines fit, or None if no anode or more than one anode fits."""
    excited_anodes = [
        anode
        for anode in ANODES
        if edge_energy(atomic_number(anode), SHELLS.index("K")) < _max_edge_kev(reference, voltage)
    ]
    window_kev = _FIT_WINDOW_KEV[0], min(_FIT_WINDOW_KEV[1], upper_spectrum.axis.stop_kev)
    tube_fits = sorted(
        _fit_angles(upper_spectrum, [replace(reference, anode=anode) for anode in excited_anodes], window_kev),
        key=lambda tube_fit: tube_fit.misfit,
    )
    if not tube_fits:
        return None
    best_fit, misfit_scale = tube_fits[0], _misfit_scale(upper_spectrum, tube_fits[0].misfit, window_kev)
    # each anode gets its best angle first, because weak peaks fit badly on the coarse grid of angles
    rival_references = [
        replace(tube_fit.reference, angle_deg=refine_angle(upper_spectrum, tube_fit.reference)[0])
        for tube_fit in tube_fits
        if _is_rival(tube_fit, best_fit, misfit_scale)
    ]
    if not _has_both_peaks(upper_spectrum, rival_references[0]):
        return None
    # A rival needs both peaks, because a single peak may coincide with a peak of the best anode.
    return (
        None
        if any(_has_both_peaks(upper_spectrum, rival) for rival in rival_references[1:])
        else _TubeFit(rival_references[0], best_fit.misfit)
    )


def _is_rival(tube_fit: _TubeFit, best_fit: _TubeFit, misfit_scale: float) -> bool:
    return tube_fit.misfit - best_fit.misfit < _MIN_MISFIT_DIFFERENCE * misfit_scale


def _has_both_peaks(upper_spectrum: UpperSpectrum, reference: ScatterReference) -> bool:
    """Return whether the Rayleigh lines and the Compton lines each improve the fit."""
    window_kev = line_window_kev(reference.anode)
    misfit = scatter_misfit(upper_spectrum, reference, *window_kev)
    return min(
        misfits_without_lines(upper_spectrum, reference, *window_kev)
    ) - misfit > _MIN_MISFIT_DROP * _misfit_scale(upper_spectrum, misfit, window_kev)


def _misfit_scale(upper_spectrum: UpperSpectrum, misfit: float, window_kev: tuple[float, float]) -> float:
    """Return chi squared per bin, or 1 if it is smaller. Differences of chi squared are compared with this value."""
    return max(misfit / max((window_kev[1] - window_kev[0]) / upper_spectrum.axis.gain_kev, 1.0), 1.0)


def _max_edge_kev(reference: ScatterReference, voltage: VoltageEstimate) -> float:
    """Return the edge energy, in keV, up to which the tube excites visible lines."""
    return reference.voltage_kv - _EDGE_VOLTAGE_MARGIN_KEV if voltage.voltage_kv is not None else float("inf")


def _fit_angles(
    upper_spectrum: UpperSpectrum, references: list[ScatterReference], window_kev: tuple[float, float]
) -> list[_TubeFit]:
    """Fit each reference at its best angle. The references differ in their anodes."""
    angles_deg = np.union1d(_COARSE_ANGLES_DEG, [reference.angle_deg for reference in references])
    # the outer loop is over angles, because all anodes share the cached cross sections of one angle
    misfits = [
        [
            scatter_misfit(upper_spectrum, replace(reference, angle_deg=float(candidate_angle_deg)), *window_kev)
            for reference in references
        ]
        for candidate_angle_deg in angles_deg
    ]
    tube_fits = []
    for reference, reference_misfits in zip(references, np.transpose(misfits), strict=True):
        refined_reference = replace(
            reference, angle_deg=parabola_minimum(angles_deg, reference_misfits, upper_spectrum.axis.n_channel)[0]
        )
        tube_fits.append(
            _TubeFit(
                refined_reference,
                min(scatter_misfit(upper_spectrum, refined_reference, *window_kev), float(reference_misfits.min())),
            )
        )
    return tube_fits


def _make_estimate(upper_spectrum: UpperSpectrum, tube_fit: _TubeFit | None, voltage: VoltageEstimate) -> TubeEstimate:
    missing_values = () if voltage.voltage_kv is not None else (f"voltage: {voltage.reason}",)
    tube_estimate = TubeEstimate(voltage_kv=voltage.voltage_kv, missing=missing_values)
    if voltage.voltage_kv is not None:
        tube_estimate = replace(tube_estimate, voltage_error_kv=voltage.error_kv)
    if tube_fit is None:
        return replace(
            tube_estimate,
            missing=(missing_anode_reason(upper_spectrum.axis.stop_kev), *missing_values, "scattering angle: no anode"),
        )
    angle_deg, error_deg = refine_angle(upper_spectrum, replace(tube_fit.reference, voltage_kv=voltage.best_kv))
    if not SCATTER_ANGLE_RANGE_DEG[0] + _ANGLE_MARGIN_DEG < angle_deg < SCATTER_ANGLE_RANGE_DEG[1] - _ANGLE_MARGIN_DEG:
        return replace(
            tube_estimate,
            missing=(missing_anode_reason(upper_spectrum.axis.stop_kev), *missing_values, "scattering angle: no anode"),
        )
    tube_estimate = replace(tube_estimate, anode=tube_fit.reference.anode)
    if not error_deg < _MAX_ANGLE_ERROR_DEG:
        return replace(
            tube_estimate,
            missing=(
                *missing_values,
                f"scattering angle: the Compton peak is too weak (about {angle_deg:.0f} degrees)",
            ),
        )
    return replace(tube_estimate, angle_deg=angle_deg, angle_error_deg=error_deg)


def missing_anode_reason(stop_kev: float) -> str:
    """Return why a spectrum that ends at ``stop_kev`` (in keV) determines no anode, as text."""
    if stop_kev < 20.0:
        return f"anode: the spectrum ends at {stop_kev:.1f} keV, below the scattered K lines"
    return (
        "anode: no pair of Rayleigh and Compton peaks of Mo, Rh, Pd or Ag is detected, and "
        "other anodes (Cr, Cu, W, Au) cannot be determined from a scan's lines"
    )
