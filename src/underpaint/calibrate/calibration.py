"""Energy calibration of a scan from its characteristic lines."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from underpaint.calibrate._anode import guess_anode
from underpaint.calibrate._peaks import (
    GAIN_RANGE_KEV,
    Hypothesis,
    Peaks,
    find_spectrum_peaks,
    recorded_channels,
    search_axis,
    search_near_axis,
)
from underpaint.calibrate._refine import (
    GroupModel,
    LineFit,
    Response,
    candidate_groups,
    family_of,
    fit_response,
    guess_noise,
    measure_lines,
    proven_lines,
    regress_axis,
    resolution_errors,
    significant_groups,
)
from underpaint.calibrate._scatter import ScatterReference, simple_samples, tube_instrument
from underpaint.calibrate._tube import DEFAULT_REFERENCE, TubeEstimate, find_tube, missing_anode_reason
from underpaint.data import EnergyAxis, Scan, survey
from underpaint.data.pile_up import self_convolution
from underpaint.errors import CalibrationError
from underpaint.physics.forward import Detail, emit, render
from underpaint.physics.instrument import Detector, Instrument
from underpaint.runtime.progress import Progress, no_progress
from underpaint.runtime.threads import one_blas_thread

Array = NDArray[np.float64]

ARGON_FAMILY = "Ar_K"
ARGON_OVERLAP_ANODES = ("Pd", "Ag")
"""Anodes whose scattered L lines overlap argon's K lines."""
_SCATTER_RANGE_KEV = (14.0, 19.0)


def argon_counts(model: GroupModel, response: Response) -> float:
    """Return the counts of argon's K lines, or zero if these lines are not significant."""
    group_areas = model.fit_areas(model.design_matrix(response))
    return float(
        sum(
            group_counts
            for group, group_counts in zip(model.groups, group_areas[:-1], strict=True)
            if group.family == ARGON_FAMILY
        )
    )


def seen_air_cm(argon_line_counts: float, counts: Array, response: Response, reference: ScatterReference) -> float:
    """Estimate the air path in the detector's view, in cm, from the ratio of argon line counts to scatter counts.

    Parameters
    ----------
    argon_line_counts : float
        Counts of argon's K lines in the sum spectrum.
    counts : (n_channel,) array
        Sum spectrum.
    response : Response
        Energy axis and resolution of the spectrum.
    reference : ScatterReference
        Anode, tube voltage and scattering angle.
    """
    axis = EnergyAxis(0.05, 0.0, int(_SCATTER_RANGE_KEV[1] / 0.05) + 2)
    instrument_without_air = tube_instrument(reference)
    instrument_with_air = instrument_without_air.model_copy(
        update={"geometry": instrument_without_air.geometry.model_copy(update={"seen_air_cm": 1.0})}
    )
    detector = Detector(noise_fwhm_kev=response.noise_fwhm_kev, fano=response.fano)
    counts_without_air, counts_with_air = (
        np.asarray(render(emit(simple_samples(), instrument, detail=Detail(orders=1)), detector, axis))
        for instrument in (instrument_without_air, instrument_with_air)
    )
    air_counts = counts_with_air - counts_without_air
    is_argon_range = axis.energy_kev < 4.0
    # the air also scatters, which adds background below argon's line
    ratio_per_cm = air_counts[:, is_argon_range].sum(axis=1) / _scatter_counts(counts_without_air, axis)
    measured_ratio = argon_line_counts / _scatter_counts(counts[None, :], response.axis(counts.size))[0]
    return float(measured_ratio / np.exp(np.log(ratio_per_cm).mean()))


def _scatter_counts(counts: Array, axis: EnergyAxis) -> Array:
    is_scatter_range = (axis.energy_kev > _SCATTER_RANGE_KEV[0]) & (axis.energy_kev < _SCATTER_RANGE_KEV[1])
    return np.asarray(counts[:, is_scatter_range].sum(axis=1))


_MIN_SCAN_COUNTS, _MIN_DOUBT_COUNTS = 3000, 1e5
_MIN_CHANNELS = 64
_MIN_PEAKS = 4
_MIN_LINES = 3
_MIN_LINE_SPAN_KEV = 2.0
_MIN_AXIS_SCORE = 0.12
_MIN_AXIS_SCORE_RATIO = 1.08
_MIN_PHOTON_KEV = 0.4
_LINE_ERROR_KEV, _MAX_AGREEMENT_SIGMAS, _MIN_AGREEING_SHARE = 0.003, 2.5, 0.65
_MAX_GAIN_ERROR, _MIN_NOISE_KEV = 0.0015, 0.025
_MIN_FAMILIES = 2
# There are 5 candidate lines per keV. A peak therefore agrees with a line within 3 eV by chance once in 13 times (3.7
# bits). A free search tries 100,000 different axes (17 bits), few of which also give correct widths and intensities. A
# search near the file's axis tries about 500 axes (9 bits).
_CANDIDATE_LINES_PER_KEV = 5.0
_DEVIATING_LINE_BITS = -3.0
_MIN_CONFIRMATION_BITS, _MIN_EVIDENCE_BITS, _MIN_CERTAIN_BITS = 9.0, 13.0, 17.0
_MIN_RIVAL_SCORE_RATIO, _N_RIVAL_AXES = 1.2, 4
# A refined axis within these tolerances counts as the file's axis. The last two values are typical errors of axes in
# file headers.
_GAIN_TOLERANCE, _ZERO_TOLERANCE_KEV = 0.002, 0.02
_TYPICAL_GAIN_ERROR, _TYPICAL_ZERO_ERROR_KEV = 0.006, 0.05
# Argon's line (2.96 keV) is excluded, because scattered L lines of a silver anode overlap it.
_REGRESSION_RANGE_KEV = (3.2, 16.0)
_MIN_LINE_SIGNIFICANCE = 10.0
_N_FIT_ROUNDS = 2
_MIN_NOTED_DEVIATION_EV = 20.0
_COMPARISON_ENERGY_KEV = 6.40


class DoubtedAxisError(CalibrationError):
    """The scan has enough counts, but its lines do not fit the file's energy axis."""


@dataclass(frozen=True)
class Calibration:
    """Result of an energy calibration: axis, resolution, and tube values if determined.

    Parameters
    ----------
    axis : EnergyAxis
        Calibrated energy axis.
    noise_fwhm_kev : float
        FWHM of the electronic noise, in keV.
    fano : float
        Fano factor.
    residual_ev : dict
        Measured centre minus tabulated energy of each unblended line (``Fe-KL3``), in eV.
    uncertainty_ev : dict
        Standard deviation of the measured centre of each unblended line, in eV.
    gain_uncertainty_kev, zero_uncertainty_kev : float
        Standard deviations of gain and zero, in keV. The errors of gain and zero are correlated.
    axis_uncertainty_ev : float
        Largest standard deviation of the axis between 3 and 15 keV, in eV. If the axis ends below 15 keV, its end is
        the upper limit.
    families : tuple of str
        Line families to which the axis was fitted (``Fe_K``), most significant first.
    missing : tuple of str
        Values that the spectrum does not determine, each with the reason.
    anode : str or None
        Element symbol of the tube's anode (Mo, Rh, Pd or Ag), from its scattered K lines. None if unknown.
    scatter_angle_deg : float or None
        Scattering angle from the Compton shift, in degrees.
    score : float
        Weight of the peaks that the axis explains, divided by the weight of all peaks (0 to 1).
    previous_axis : EnergyAxis or None
        Energy axis of the scan's file.
    noise_uncertainty_kev, fano_uncertainty : float
        Standard deviations of the noise (in keV) and of the Fano factor. The errors of noise and Fano factor are
        correlated.
    voltage_kv, voltage_uncertainty_kv : float or None
        Tube voltage from the end of the continuum, and its standard deviation, in kV. The voltage is only determined
        with ``tube=True``.
    scatter_angle_uncertainty_deg : float or None
        Standard deviation of the scattering angle, in degrees.
    seen_air_cm : float or None
        Air path in the detector's view in cm, estimated from argon's line within a factor of 2.5.
    line_counts, line_energy_kev : dict
        Counts of each unblended line, and its tabulated energy in keV.
    """

    axis: EnergyAxis
    noise_fwhm_kev: float
    fano: float
    residual_ev: dict[str, float]
    uncertainty_ev: dict[str, float]
    gain_uncertainty_kev: float
    zero_uncertainty_kev: float
    axis_uncertainty_ev: float
    families: tuple[str, ...]
    missing: tuple[str, ...] = ()
    anode: str | None = None
    scatter_angle_deg: float | None = None
    score: float = 0.0
    previous_axis: EnergyAxis | None = None
    noise_uncertainty_kev: float = float("nan")
    fano_uncertainty: float = float("nan")
    voltage_kv: float | None = None
    voltage_uncertainty_kv: float | None = None
    scatter_angle_uncertainty_deg: float | None = None
    seen_air_cm: float | None = None
    line_counts: dict[str, float] = field(default_factory=dict)
    line_energy_kev: dict[str, float] = field(default_factory=dict)

    @property
    def largest_residual_ev(self) -> float:
        """Largest absolute residual of the unblended lines from 3 to 15 keV, in eV."""
        return max((abs(line_residual_ev) for line_residual_ev in self.residual_ev.values()), default=float("nan"))

    def fwhm_kev(self, energy_kev: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Return the FWHM of a peak at each energy, in keV."""
        response = Response(self.axis.gain_kev, self.axis.zero_kev, self.noise_fwhm_kev, self.fano)
        return response.fwhm_kev(energy_kev)


def calibrate(
    scan: Scan, *, instrument: Instrument | None = None, tube: bool = False, progress: Progress | None = None
) -> Calibration:
    """Determine energy axis, resolution and anode of a scan from its lines. The elements need not be known.

    Peaks of the sum spectrum are matched to lines of elements that occur in paintings. The search starts near the axis
    of the file or instrument. If the lines confirm this axis, a least-squares fit refines it. If there is no axis, or
    if the axis explains few peaks, all plausible gains are tried. A gain is plausible if the peak widths agree with the
    resolution of a silicon detector.

    Parameters
    ----------
    scan : Scan
        Scan with or without an energy axis.
    instrument : Instrument, optional
        Instrument whose gain and zero are the initial axis if the file has no axis.
    tube : bool
        Also estimate voltage and air path, and estimate anode and angle by fits of the forward model. These estimates
        take some seconds.
    progress : callable or None
        Called with the step's name, the number of completed parts, and the number of all parts.

    Returns
    -------
    Calibration

    Raises
    ------
    CalibrationError
        The scan has too few counts, or its lines neither confirm the file's axis nor prove another axis.
    ScanError
        The scan cannot be read, or has no counts.
    """
    scan_survey = survey(scan)
    total_counts = scan_survey.total
    _require_counts(total_counts, scan.name)
    recorded_range = recorded_channels(total_counts)
    tile_counts, total_counts = (
        scan_survey.tiles[:, : recorded_range.stop].copy(),
        total_counts[: recorded_range.stop].copy(),
    )
    tile_counts[:, : recorded_range.start], total_counts[: recorded_range.start] = 0.0, 0.0
    peaks = find_spectrum_peaks(total_counts)
    if peaks is None or peaks.channel.size < _MIN_PEAKS:
        _raise_failure(
            scan.name,
            f"only {0 if peaks is None else peaks.channel.size} peaks are detected, and at least {_MIN_PEAKS} are "
            f"needed",
        )
    calibration_data = _CalibrationData(total_counts, tile_counts, scan_survey.tile_pixels, peaks, scan.name)
    with one_blas_thread():
        refined_axis = _best_axis(calibration_data, _file_or_instrument_axis(scan, instrument))
        if not tube:
            return _calibration_with_anode(refined_axis, scan)
        (progress or no_progress)("Estimating the tube's voltage", 0, 1)
        return _calibration_with_tube(refined_axis, scan)


def _require_counts(total_counts: NDArray[np.float64], scan_name: str) -> None:
    if total_counts.size < _MIN_CHANNELS:
        raise CalibrationError(
            f"Cannot calibrate scan {scan_name!r}: it has {total_counts.size} channels, and at least {_MIN_CHANNELS} "
            f"are needed. "
            "Check that the file is not a picture and that its axes are in the order (row, column, channel)."
        )
    if total_counts.sum() == 0:
        raise CalibrationError(f"Cannot calibrate scan {scan_name!r}: it has no counts. Check the export.")
    if total_counts.sum() < _MIN_SCAN_COUNTS:
        _raise_failure(
            scan_name, f"the scan has {total_counts.sum():.0f} counts, and at least {_MIN_SCAN_COUNTS} are needed"
        )


def _raise_failure(scan_name: str, fault: str, error_type: type[CalibrationError] = CalibrationError) -> NoReturn:
    raise error_type(
        f"Cannot calibrate scan {scan_name!r} from its lines: {fault}. "
        "Pass an instrument file that has gain_kev and zero_kev of the detector."
    )


def _file_or_instrument_axis(scan: Scan, instrument: Instrument | None) -> EnergyAxis | None:
    if scan.axis is not None or instrument is None:
        return scan.axis
    return EnergyAxis(instrument.detector.gain_kev, instrument.detector.zero_kev, scan.shape[2])


@dataclass(frozen=True)
class _CalibrationData:
    """Sum spectrum and peaks of a scan, and for each tile its sum spectrum and its number of pixels."""

    total_counts: NDArray[np.float64]
    tile_counts: NDArray[np.float64]
    tile_pixels: NDArray[np.float64]
    peaks: Peaks
    scan_name: str


def _best_axis(calibration_data: _CalibrationData, file_axis: EnergyAxis | None) -> "_RefinedAxis":
    """Refine the file's axis. Return the refined axis, or another axis if it explains the lines far better."""
    if file_axis is None:
        refined_axis = _refine_axis(
            calibration_data,
            _best_hypothesis(
                search_axis(calibration_data.peaks, calibration_data.total_counts.size), calibration_data.scan_name
            ),
            None,
        )
        if not _is_proven(refined_axis):
            _raise_failure(
                calibration_data.scan_name,
                f"{_describe_lines(refined_axis)}, which other axes may explain as well, and more lines are needed",
            )
        return refined_axis
    near_hypothesis = search_near_axis(calibration_data.peaks, calibration_data.total_counts.size, file_axis)
    refined_near_axis = _try_refine_axis(calibration_data, near_hypothesis, file_axis)
    if refined_near_axis is not None and _is_certain(refined_near_axis):
        return refined_near_axis
    hypotheses = search_axis(calibration_data.peaks, calibration_data.total_counts.size, _N_RIVAL_AXES)
    if (
        hypotheses
        and hypotheses[0].score > _MIN_RIVAL_SCORE_RATIO * near_hypothesis.score
        and _are_different(hypotheses[0], near_hypothesis)
    ):
        refined_rival_axis = _try_refine_axis(calibration_data, hypotheses[0], None)
        if refined_rival_axis is not None and _is_certain(refined_rival_axis):
            return refined_rival_axis
    if refined_near_axis is None or not _is_confirmed(refined_near_axis, file_axis):
        error_type = DoubtedAxisError if calibration_data.total_counts.sum() > _MIN_DOUBT_COUNTS else CalibrationError
        _raise_failure(
            calibration_data.scan_name,
            "the lines neither confirm the file's axis nor prove another axis, and more lines are needed",
            error_type,
        )
    return refined_near_axis


def _try_refine_axis(
    calibration_data: _CalibrationData, start_hypothesis: Hypothesis, file_axis: EnergyAxis | None
) -> "_RefinedAxis | None":
    try:
        return _refine_axis(calibration_data, start_hypothesis, file_axis)
    except CalibrationError:
        return None


def _is_confirmed(refined_axis: "_RefinedAxis", file_axis: EnergyAxis) -> bool:
    """Return whether the lines confirm a refined axis near the file's axis.

    The larger the difference between the two axes, the more lines are needed.
    """
    if not _is_consistent(refined_axis):
        return False
    gain_difference = abs(refined_axis.response.gain_kev / file_axis.gain_kev - 1.0)
    zero_difference_kev = abs(refined_axis.response.zero_kev - file_axis.zero_kev)
    if (
        gain_difference < _GAIN_TOLERANCE
        and zero_difference_kev < _ZERO_TOLERANCE_KEV
        and _has_known_gain(refined_axis)
    ):
        return True
    is_typical_error = gain_difference < _TYPICAL_GAIN_ERROR and zero_difference_kev < _TYPICAL_ZERO_ERROR_KEV
    min_evidence_bits = _MIN_CONFIRMATION_BITS if is_typical_error else _MIN_EVIDENCE_BITS
    has_several_lines = (
        _energy_span_kev(refined_axis.lines) > _MIN_LINE_SPAN_KEV and _n_families(refined_axis) >= _MIN_FAMILIES
    )
    return has_several_lines and refined_axis.evidence_bits > min_evidence_bits


def _is_proven(refined_axis: "_RefinedAxis") -> bool:
    """Return whether a wrong axis is unlikely to fit these lines by chance."""
    has_evidence = _n_families(refined_axis) >= _MIN_FAMILIES and refined_axis.evidence_bits > _MIN_EVIDENCE_BITS
    return has_evidence and _is_consistent(refined_axis) and _has_known_gain(refined_axis)


def _has_known_gain(refined_axis: "_RefinedAxis") -> bool:
    gain_error_kev = np.sqrt(refined_axis.covariance[0, 0])
    return bool(gain_error_kev < _MAX_GAIN_ERROR * refined_axis.response.gain_kev)


def _is_consistent(refined_axis: "_RefinedAxis") -> bool:
    """Return whether most lines fit the axis, and the resolution is plausible."""
    line_agreement = refined_axis.is_agreeing
    has_resolution = refined_axis.response.noise_fwhm_kev > _MIN_NOISE_KEV
    return bool(has_resolution and line_agreement.size and line_agreement.mean() > _MIN_AGREEING_SHARE)


def _n_families(refined_axis: "_RefinedAxis") -> int:
    return len(set(map(family_of, refined_axis.lines)))


def _energy_span_kev(lines: Sequence[LineFit]) -> float:
    energies_kev = [line.energy_kev for line in lines]
    return max(energies_kev, default=0.0) - min(energies_kev, default=0.0)


def _is_certain(refined_axis: "_RefinedAxis") -> bool:
    return _is_proven(refined_axis) and refined_axis.evidence_bits > _MIN_CERTAIN_BITS


def _describe_lines(refined_axis: "_RefinedAxis") -> str:
    line_names = ", ".join(line.name for line in refined_axis.lines)
    return f"a gain of {1e3 * refined_axis.response.gain_kev:.2f} eV is based on {line_names}"


def _best_hypothesis(hypotheses: list[Hypothesis], scan_name: str) -> Hypothesis:
    if not hypotheses:
        min_gain_ev, max_gain_ev = (1e3 * gain_kev for gain_kev in GAIN_RANGE_KEV)
        _raise_failure(
            scan_name,
            f"no gain from {min_gain_ev:.0f} to {max_gain_ev:.0f} eV gives its peaks the width of a silicon detector, "
            "which is needed",
        )
    if hypotheses[0].score < _MIN_AXIS_SCORE:
        _raise_failure(
            scan_name,
            f"the best axis explains {hypotheses[0].score:.0%} of the peaks, and {_MIN_AXIS_SCORE:.0%} are needed",
        )
    best_hypothesis = hypotheses[0]
    rival_hypotheses = [
        rival_hypothesis for rival_hypothesis in hypotheses[1:] if _are_different(best_hypothesis, rival_hypothesis)
    ]
    if rival_hypotheses and best_hypothesis.score < _MIN_AXIS_SCORE_RATIO * rival_hypotheses[0].score:
        _raise_failure(
            scan_name,
            f"gains of {1e3 * best_hypothesis.gain_kev:.2f} and {1e3 * rival_hypotheses[0].gain_kev:.2f} eV "
            "explain the peaks equally well, and more lines are needed",
        )
    return best_hypothesis


def _are_different(first_hypothesis: Hypothesis, second_hypothesis: Hypothesis) -> bool:
    energy_kev = 8.0
    channel = (energy_kev - first_hypothesis.zero_kev) / first_hypothesis.gain_kev
    return abs(second_hypothesis.zero_kev + second_hypothesis.gain_kev * channel - energy_kev) > 0.08


@dataclass(frozen=True)
class _RefinedAxis:
    """An axis fitted by least squares, and the lines to which it was fitted."""

    response: Response
    covariance: NDArray[np.float64]
    lines: tuple[LineFit, ...]
    model: GroupModel
    score: float
    convolutions: tuple[NDArray[np.float64], NDArray[np.float64]]

    @property
    def deviations(self) -> NDArray[np.float64]:
        """Standard deviation of each line centre in keV, including the non-linearity of real detectors."""
        return np.hypot([line.error_kev for line in self.lines], _LINE_ERROR_KEV)

    @property
    def is_agreeing(self) -> NDArray[np.bool_]:
        """Whether each line fits the axis, as an (n_line,) boolean array."""
        return np.abs([line.offset_kev for line in self.lines]) < _MAX_AGREEMENT_SIGMAS * self.deviations

    @property
    def evidence_bits(self) -> float:
        """Evidence for the axis in bits: ``-log2`` of the probability that a wrong axis fits these lines by chance."""
        chance_probability = np.minimum(2.0 * _MAX_AGREEMENT_SIGMAS * self.deviations * _CANDIDATE_LINES_PER_KEV, 1.0)
        return float(np.where(self.is_agreeing, -np.log2(chance_probability), _DEVIATING_LINE_BITS).sum())


def _refine_axis(
    calibration_data: _CalibrationData, start_hypothesis: Hypothesis, file_axis: EnergyAxis | None
) -> _RefinedAxis:
    noise_fwhm_kev = guess_noise(
        calibration_data.peaks.fwhm_channels, start_hypothesis.gain_kev, start_hypothesis.zero_kev
    )
    response = Response(start_hypothesis.gain_kev, start_hypothesis.zero_kev, noise_fwhm_kev, 0.115)
    covariance = np.full((2, 2), np.nan)
    lines: list[LineFit] = []
    # Zero peak and noise are not photons, so they are excluded from pile-up and from the fit of lines.
    is_photon = response.axis(calibration_data.total_counts.size).energy_kev > _MIN_PHOTON_KEV
    photon_counts, convolutions = (
        np.where(is_photon, calibration_data.total_counts, 0.0),
        self_convolution(np.where(is_photon, calibration_data.tile_counts, 0.0), calibration_data.tile_pixels),
    )
    if not photon_counts.any():
        _raise_failure(calibration_data.scan_name, "no line is significant, and three lines are needed")
    for _ in range(_N_FIT_ROUNDS):
        model = GroupModel(photon_counts, candidate_groups(response, photon_counts), response, convolutions)
        model = GroupModel(photon_counts, significant_groups(model, response), response, convolutions)
        if not model.groups:
            _raise_failure(calibration_data.scan_name, "no line is significant, and three lines are needed")
        response = fit_response(model, response)
        lines = _usable_lines(model, response)
        _require_lines(lines, calibration_data.scan_name, file_axis)
        response, covariance = regress_axis(lines, response, file_axis)
    response = fit_response(model, response, axis_free=False)
    return _RefinedAxis(
        response, covariance, tuple(_usable_lines(model, response)), model, start_hypothesis.score, convolutions
    )


def _usable_lines(model: GroupModel, response: Response) -> list[LineFit]:
    return proven_lines([line for line in measure_lines(model, response) if _is_usable(line)])


def _is_usable(line: LineFit) -> bool:
    min_kev, max_kev = _REGRESSION_RANGE_KEV
    return not line.is_blended and line.significance > _MIN_LINE_SIGNIFICANCE and min_kev < line.energy_kev < max_kev


def _require_lines(lines: list[LineFit], scan_name: str, file_axis: EnergyAxis | None) -> None:
    span_kev = _energy_span_kev(lines)
    if not lines or (file_axis is None and (len(lines) < _MIN_LINES or span_kev < _MIN_LINE_SPAN_KEV)):
        line_names = ", ".join(line.name for line in lines)
        few_lines_texts = ("no unblended line was", "1 unblended line was")
        count_text = (
            few_lines_texts[len(lines)]
            if len(lines) < 2
            else f"{len(lines)} unblended lines over {span_kev:.1f} keV were"
        )
        assignment_text = f", assigned to {line_names}" if line_names else ""
        _raise_failure(scan_name, f"{count_text} found{assignment_text}, and three lines over 2 keV are needed")


def _calibration_with_anode(refined_axis: _RefinedAxis, scan: Scan) -> Calibration:
    calibration = _make_calibration(refined_axis, scan)
    anode_guess = guess_anode(refined_axis.model.counts, refined_axis.response)
    if anode_guess is None:
        return replace(calibration, missing=(missing_anode_reason(calibration.axis.stop_kev),))
    return replace(calibration, anode=anode_guess.symbol, scatter_angle_deg=anode_guess.scatter_angle_deg)


def _calibration_with_tube(refined_axis: _RefinedAxis, scan: Scan) -> Calibration:
    photon_counts = refined_axis.model.counts
    tube_estimate = find_tube(photon_counts, refined_axis.response, refined_axis.convolutions)
    calibration = replace(
        _make_calibration(refined_axis, scan),
        anode=tube_estimate.anode,
        scatter_angle_deg=tube_estimate.angle_deg,
        scatter_angle_uncertainty_deg=tube_estimate.angle_error_deg,
        voltage_kv=tube_estimate.voltage_kv,
        voltage_uncertainty_kv=tube_estimate.voltage_error_kv,
        missing=tube_estimate.missing,
    )
    air_path_cm, missing_reasons = _air_path_cm(refined_axis, photon_counts, tube_estimate)
    return replace(calibration, seen_air_cm=air_path_cm, missing=(*calibration.missing, *missing_reasons))


def _air_path_cm(
    refined_axis: _RefinedAxis, photon_counts: NDArray[np.float64], tube_estimate: TubeEstimate
) -> tuple[float | None, tuple[str, ...]]:
    """Return the air path in the detector's view, in cm. If the path is unknown, return None and the reason."""
    if tube_estimate.anode in ARGON_OVERLAP_ANODES:
        return None, (
            f"air path: argon's line is overlapped by the scattered L lines of the {tube_estimate.anode} anode",
        )
    argon_line_counts = argon_counts(refined_axis.model, refined_axis.response)
    if argon_line_counts == 0:
        return None, ("air path: no argon line detected",)
    reference = ScatterReference(
        tube_estimate.anode or DEFAULT_REFERENCE.anode,
        tube_estimate.angle_deg or DEFAULT_REFERENCE.angle_deg,
        tube_estimate.voltage_kv or DEFAULT_REFERENCE.voltage_kv,
    )
    return seen_air_cm(argon_line_counts, photon_counts, refined_axis.response, reference), ()


def _make_calibration(refined_axis: _RefinedAxis, scan: Scan) -> Calibration:
    response, lines, covariance = refined_axis.response, refined_axis.lines, refined_axis.covariance
    axis = response.axis(scan.shape[2])
    axis_end_design = np.array([[axis.channel(energy_kev), 1.0] for energy_kev in (3.0, min(15.0, axis.stop_kev))])
    axis_end_errors = np.sqrt(np.einsum("ei,ij,ej->e", axis_end_design, covariance, axis_end_design))
    lines_by_significance = sorted(lines, key=lambda line: -line.significance)
    noise_error, fano_error = resolution_errors(lines, response)
    return Calibration(
        axis=axis,
        noise_fwhm_kev=response.noise_fwhm_kev,
        fano=response.fano,
        residual_ev={line.name: 1e3 * line.offset_kev for line in lines},
        uncertainty_ev={line.name: 1e3 * line.error_kev for line in lines},
        gain_uncertainty_kev=float(np.sqrt(covariance[0, 0])),
        zero_uncertainty_kev=float(np.sqrt(covariance[1, 1])),
        axis_uncertainty_ev=float(1e3 * axis_end_errors.max()),
        families=tuple(dict.fromkeys(family_of(line) for line in lines_by_significance)),
        score=refined_axis.score,
        previous_axis=scan.axis,
        noise_uncertainty_kev=noise_error,
        fano_uncertainty=fano_error,
        line_counts={line.name: line.area for line in lines},
        line_energy_kev={line.name: line.energy_kev for line in lines},
    )


def describe_estimates(calibration: Calibration) -> str:
    """Return a text that lists the values determined from the spectrum, such as axis, resolution and anode."""
    estimate_by_quantity = {
        "anode": calibration.anode,
        "voltage": calibration.voltage_kv,
        "scattering angle": calibration.scatter_angle_deg,
        "air path in the detector's view": calibration.seen_air_cm,
    }
    quantity_names = [
        "axis",
        "resolution",
        *(quantity_name for quantity_name, estimate in estimate_by_quantity.items() if estimate is not None),
    ]
    return f"{', '.join(quantity_names[:-1])} and {quantity_names[-1]}"


def describe_assumptions(calibration: Calibration) -> str:
    """Return a text that lists the values that are assumed instead of measured, or "" if there are none."""
    default_instrument = Instrument.model_validate({})
    value_by_assumption = {
        f"anode {default_instrument.tube.anode}": calibration.anode,
        f"{default_instrument.tube.voltage_kv:g} kV": calibration.voltage_kv,
        f"scattering angle {default_instrument.geometry.scattering_angle_deg:.0f}°": calibration.scatter_angle_deg,
        f"{default_instrument.geometry.seen_air_cm:g} cm of air in the detector's view": calibration.seen_air_cm,
    }
    assumed_values = [assumption for assumption, estimate in value_by_assumption.items() if estimate is None]
    return (
        f"Assumed, not measured: {', '.join(assumed_values)}. Correct the values that you know better."
        if assumed_values
        else ""
    )


def calibration_notes(file_axis: EnergyAxis | None, calibration: Calibration) -> tuple[str, ...]:
    """Return a note if the file has no axis, or an axis that is wrong by 20 eV or more at Fe K."""
    if file_axis is None:
        families = ", ".join(family.replace("_", " ") for family in calibration.families[:6]) or "no line"
        return (f"The file has no usable energy axis, so the axis was determined from {families}.",)
    channel = calibration.axis.channel(_COMPARISON_ENERGY_KEV)
    deviation_ev = 1e3 * (file_axis.zero_kev + file_axis.gain_kev * channel - _COMPARISON_ENERGY_KEV)
    if abs(deviation_ev) < _MIN_NOTED_DEVIATION_EV:
        return ()
    deviation_direction = "high" if deviation_ev > 0 else "low"
    return (
        f"The file's energy axis reads {abs(deviation_ev):.0f} eV {deviation_direction} at Fe K, "
        "so the axis from "
        "the lines is used.",
    )


def with_calibration(scan: Scan, calibration: Calibration) -> Scan:
    """Return the scan with its axis replaced by the calibrated axis."""
    return scan.replace(axis=calibration.axis)


def line_ratios(calibrations: Sequence[Calibration]) -> dict[str, tuple[float, ...]]:
    """Return the counts of each line relative to the first detector, lowest energy first.

    Only lines that all detectors recorded are compared. Ratios that decrease towards low energies indicate a longer air
    path, a thicker window or a collimator. If all ratios of a detector are equal, only its solid angle differs.

    Parameters
    ----------
    calibrations : sequence of Calibration
        Calibration of each detector.

    Returns
    -------
    dict of str to tuple of float
        One ratio per detector, for each line (``Ca-KL3``).
    """
    reference_counts = calibrations[0].line_counts
    common_lines = [
        line
        for line in reference_counts
        if all(calibration.line_counts.get(line, 0.0) > 0 for calibration in calibrations)
        and reference_counts[line] > 0
    ]
    common_lines.sort(key=lambda line: calibrations[0].line_energy_kev[line])
    return {
        line: tuple(float(calibration.line_counts[line] / reference_counts[line]) for calibration in calibrations)
        for line in common_lines
    }
