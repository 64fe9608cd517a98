"""Energy calibration of a scan from its lines."""

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
    search_near,
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
from underpaint.calibrate._scatter import ScatterReference, simple_samples, tube_of
from underpaint.calibrate._tube import DEFAULT_REFERENCE, TubeEstimate, find_tube, missing_anode_reason
from underpaint.data import EnergyAxis, Scan, survey
from underpaint.data.pile_up import self_convolution
from underpaint.errors import CalibrationError
from underpaint.physics.forward import Detail, emit, render
from underpaint.physics.instrument import Detector, Instrument
from underpaint.runtime.progress import Progress, no_progress
from underpaint.runtime.threads import one_blas_thread

Array = NDArray[np.float64]

ARGON = "Ar_K"
ARGON_OVERLAP_ANODES = ("Pd", "Ag")
"""Anodes whose scattered L lines overlap argon's."""
_SCATTER_RANGE_KEV = (14.0, 19.0)


def argon_counts(model: GroupModel, response: Response) -> float:
    """Return the counts of argon's K lines; zero if the lines are not significant."""
    areas = model.areas(model.design(response))
    return float(sum(area for group, area in zip(model.groups, areas[:-1], strict=True) if group.family == ARGON))


def seen_air_cm(argon: float, counts: Array, response: Response, reference: ScatterReference) -> float:
    """Return the air path in the detector's view, cm, from the ratio of argon lines to scatter from 14 to 19 keV.

    Parameters
    ----------
    argon : float
        Counts of argon's K lines.
    counts : (n_channel,) array
        Sum spectrum.
    response : Response
        Energy axis and resolution of the spectrum.
    reference : ScatterReference
        Tube and scattering angle.
    """
    axis = EnergyAxis(0.05, 0.0, int(_SCATTER_RANGE_KEV[1] / 0.05) + 2)
    tube = tube_of(reference)
    tube_with_air = tube.model_copy(update={"geometry": tube.geometry.model_copy(update={"seen_air_cm": 1.0})})
    detector = Detector(noise_fwhm_kev=response.noise_fwhm_kev, fano=response.fano)
    without_air, with_air = (
        np.asarray(render(emit(simple_samples(), instrument, detail=Detail(orders=1)), detector, axis))
        for instrument in (tube, tube_with_air)
    )
    air = with_air - without_air
    is_argon_range = axis.energy_kev < 4.0
    # the background under the line is scatter from the air
    ratio_per_cm = air[:, is_argon_range].sum(axis=1) / _scatter_counts(without_air, axis)
    measured_ratio = argon / _scatter_counts(counts[None, :], response.axis(counts.size))[0]
    return float(measured_ratio / np.exp(np.log(ratio_per_cm).mean()))


def _scatter_counts(counts: Array, axis: EnergyAxis) -> Array:
    in_range = (axis.energy_kev > _SCATTER_RANGE_KEV[0]) & (axis.energy_kev < _SCATTER_RANGE_KEV[1])
    return np.asarray(counts[:, in_range].sum(axis=1))


_MIN_COUNTS, _MIN_DOUBT_COUNTS = 3000, 1e5
_MIN_CHANNELS = 64
_MIN_PEAKS = 4
_MIN_LINES = 3
_MIN_SPAN_KEV = 2.0
_MIN_SCORE = 0.12
_MIN_SCORE_RATIO = 1.08
_MIN_PHOTON_KEV = 0.4
_LINE_ERROR_KEV, _MAX_AGREEMENT_SIGMAS, _MIN_AGREEING_SHARE = 0.003, 2.5, 0.65
_MAX_GAIN_ERROR, _MIN_NOISE_KEV = 0.0015, 0.025
_MIN_FAMILIES = 2
# There are 5 candidate lines per keV, so that an agreement within 3 eV occurs by chance once in 13 times, 3.7 bits. A
# free search tries 100,000 different axes, 17 bits; few of these also have correct widths and intensities. A search
# near the file's axis tries about 500 axes, 9 bits.
_LINES_PER_KEV = 5.0
_MISS_BITS = -3.0
_MIN_CONFIRMATION_BITS, _MIN_EVIDENCE_BITS, _MIN_CERTAIN_BITS = 9.0, 13.0, 17.0
_MIN_OVERRULING_RATIO, _N_RIVALS = 1.2, 4
# Largest difference at which a refined axis is considered equal to the file's, and typical error of headers.
_GAIN_TOLERANCE, _ZERO_TOLERANCE_KEV = 0.002, 0.02
_TYPICAL_GAIN_ERROR, _TYPICAL_ZERO_ERROR_KEV = 0.006, 0.05
# Argon's line (2.96 keV) is excluded, since the scattered L lines of a silver anode overlap it.
_REGRESSION_RANGE_KEV = (3.2, 16.0)
_MIN_LINE_SIGNIFICANCE = 10.0
_N_ROUNDS = 2
_MIN_NOTED_DEVIATION_EV = 20.0
_COMPARISON_ENERGY_KEV = 6.40


class DoubtedAxisError(CalibrationError):
    """The lines of a scan with sufficient counts do not fit the file's axis."""


@dataclass(frozen=True)
class Calibration:
    """Energy axis and resolution from the lines of a scan.

    Parameters
    ----------
    axis : EnergyAxis
        The calibrated axis.
    noise_fwhm_kev : float
        Electronic noise, FWHM, in keV.
    fano : float
        Fano factor.
    residual_ev : dict
        Measured centre minus tabulated energy of each unblended line (``Fe-KL3``), in eV.
    uncertainty_ev : dict
        Standard deviation of the measured centre of each of these lines, in eV.
    gain_uncertainty_kev, zero_uncertainty_kev : float
        Standard deviations of gain and zero, in keV; they are correlated.
    axis_uncertainty_ev : float
        Largest standard deviation of the energy axis between 3 and 15 keV (or the end of the axis), in eV.
    families : tuple of str
        Line families used for the axis (``Fe_K``), most significant first.
    missing : tuple of str
        Values that cannot be determined, with the reason.
    anode : str or None
        Element symbol of the tube's anode (Mo, Rh, Pd or Ag), from its scattered K lines; None: unknown.
    scatter_angle_deg : float or None
        Scattering angle, degree, from the Compton shift.
    score : float
        Fraction of the weight of the peaks that the axis explains, 0 to 1.
    previous_axis : EnergyAxis or None
        Energy axis of the file.
    noise_uncertainty_kev, fano_uncertainty : float
        Standard deviations of noise, keV, and Fano factor; they are correlated.
    voltage_kv, voltage_uncertainty_kv : float or None
        Tube voltage from the end of the continuum, and its standard deviation, in kV; only with ``tube=True``.
    scatter_angle_uncertainty_deg : float or None
        Standard deviation of the scattering angle, in degrees.
    seen_air_cm : float or None
        Air path in the detector's view, cm, from argon's line; accurate within a factor of 2.5.
    line_counts, line_energy_kev : dict
        Counts and tabulated energy, keV, of each unblended line.
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
        return max((abs(value) for value in self.residual_ev.values()), default=float("nan"))

    def fwhm_kev(self, energy_kev: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Return the FWHM of a peak, in keV."""
        response = Response(self.axis.gain_kev, self.axis.zero_kev, self.noise_fwhm_kev, self.fano)
        return response.fwhm_kev(energy_kev)


def calibrate(
    scan: Scan, *, instrument: Instrument | None = None, tube: bool = False, progress: Progress | None = None
) -> Calibration:
    """Determine energy axis, resolution and anode of a scan from its lines, without prior knowledge of elements.

    Peaks of the sum spectrum are matched to the line patterns of elements in paintings. The search starts near the axis
    of the file or instrument, which is refined by least squares if the lines confirm it. Without an axis, or if that
    axis explains few peaks, all gains are tried that give the peaks a plausible resolution of a silicon detector.

    Parameters
    ----------
    scan : Scan
        Scan; its axis may be None.
    instrument : Instrument, optional
        Instrument whose gain and zero are used if the file has no axis.
    tube : bool
        Also estimate voltage and air path, and fit anode and angle with the scatter of the forward model; takes some
        seconds more.
    progress : callable or None
        Called with (step, completed, total).

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
    summary = survey(scan)
    total = summary.total
    _require_counts(total, scan.name)
    recorded = recorded_channels(total)
    tiles, total = summary.tiles[:, : recorded.stop].copy(), total[: recorded.stop].copy()
    tiles[:, : recorded.start], total[: recorded.start] = 0.0, 0.0
    peaks = find_spectrum_peaks(total)
    if peaks is None or peaks.channel.size < _MIN_PEAKS:
        _fail(
            scan.name,
            f"only {0 if peaks is None else peaks.channel.size} peaks are detected, at least {_MIN_PEAKS} are",
        )
    data = _Data(total, tiles, summary.tile_pixels, peaks, scan.name)
    with one_blas_thread():
        refined = _best_axis(data, _stated_axis(scan, instrument))
        if not tube:
            return _with_anode(refined, scan)
        (progress or no_progress)("Estimating the tube's voltage", 0, 1)
        return _with_tube(refined, scan)


def _require_counts(total: NDArray[np.float64], name: str) -> None:
    if total.size < _MIN_CHANNELS:
        raise CalibrationError(
            f"Cannot calibrate scan {name!r}: it has {total.size} channels; at least {_MIN_CHANNELS} are needed. "
            "Check that the file is not a picture and that its axes are in the order (row, column, channel)."
        )
    if total.sum() == 0:
        raise CalibrationError(f"Cannot calibrate scan {name!r}: it has no counts. Check the export.")
    if total.sum() < _MIN_COUNTS:
        _fail(name, f"the scan has {total.sum():.0f} counts, at least {_MIN_COUNTS} are")


def _fail(name: str, fault: str, error_type: type[CalibrationError] = CalibrationError) -> NoReturn:
    raise error_type(
        f"Cannot calibrate scan {name!r} from its lines: {fault} needed. "
        "Pass an instrument file that has gain_kev and zero_kev of the detector."
    )


def _stated_axis(scan: Scan, instrument: Instrument | None) -> EnergyAxis | None:
    if scan.axis is not None or instrument is None:
        return scan.axis
    return EnergyAxis(instrument.detector.gain_kev, instrument.detector.zero_kev, scan.shape[2])


@dataclass(frozen=True)
class _Data:
    """Sum spectrum of a scan, sum spectra and numbers of pixels of its tiles, and its peaks."""

    total: NDArray[np.float64]
    tiles: NDArray[np.float64]
    pixels: NDArray[np.float64]
    peaks: Peaks
    name: str


def _best_axis(data: _Data, prior: EnergyAxis | None) -> "_RefinedAxis":
    """Return the refined axis of the file, unless another axis explains the lines far better."""
    if prior is None:
        refined = _refine_axis(data, _best_hypothesis(search_axis(data.peaks, data.total.size), data.name), None)
        if not _is_proven(refined):
            _fail(data.name, f"{_describe_lines(refined)}, which other axes may explain as well; more lines are")
        return refined
    near_hypothesis = search_near(data.peaks, data.total.size, prior)
    refined_near = _try_refine_axis(data, near_hypothesis, prior)
    if refined_near is not None and _is_certain(refined_near):
        return refined_near
    hypotheses = search_axis(data.peaks, data.total.size, _N_RIVALS)
    if (
        hypotheses
        and hypotheses[0].score > _MIN_OVERRULING_RATIO * near_hypothesis.score
        and _are_different(hypotheses[0], near_hypothesis)
    ):
        refined_other = _try_refine_axis(data, hypotheses[0], None)
        if refined_other is not None and _is_certain(refined_other):
            return refined_other
    if refined_near is None or not _is_confirmed(refined_near, prior):
        error_type = DoubtedAxisError if data.total.sum() > _MIN_DOUBT_COUNTS else CalibrationError
        _fail(data.name, "they neither confirm the file's axis nor prove another axis; more lines are", error_type)
    return refined_near


def _try_refine_axis(data: _Data, start: Hypothesis, prior: EnergyAxis | None) -> "_RefinedAxis | None":
    try:
        return _refine_axis(data, start, prior)
    except CalibrationError:
        return None


def _is_confirmed(refined: "_RefinedAxis", prior: EnergyAxis) -> bool:
    """Return whether the lines confirm an axis near the file's; a larger difference requires more lines."""
    if not _is_consistent(refined):
        return False
    gain_difference = abs(refined.response.gain_kev / prior.gain_kev - 1.0)
    zero_difference_kev = abs(refined.response.zero_kev - prior.zero_kev)
    if gain_difference < _GAIN_TOLERANCE and zero_difference_kev < _ZERO_TOLERANCE_KEV and _has_known_gain(refined):
        return True
    is_typical = gain_difference < _TYPICAL_GAIN_ERROR and zero_difference_kev < _TYPICAL_ZERO_ERROR_KEV
    min_bits = _MIN_CONFIRMATION_BITS if is_typical else _MIN_EVIDENCE_BITS
    has_several_lines = _energy_span_kev(refined.lines) > _MIN_SPAN_KEV and _n_families(refined) >= _MIN_FAMILIES
    return has_several_lines and refined.evidence_bits > min_bits


def _is_proven(refined: "_RefinedAxis") -> bool:
    """Return whether it is improbable that another axis fits these lines by chance."""
    has_evidence = _n_families(refined) >= _MIN_FAMILIES and refined.evidence_bits > _MIN_EVIDENCE_BITS
    return has_evidence and _is_consistent(refined) and _has_known_gain(refined)


def _has_known_gain(refined: "_RefinedAxis") -> bool:
    error = np.sqrt(refined.covariance[0, 0])
    return bool(error < _MAX_GAIN_ERROR * refined.response.gain_kev)


def _is_consistent(refined: "_RefinedAxis") -> bool:
    """Return whether most lines fit the axis, with a plausible resolution."""
    agreeing = refined.agreeing
    has_resolution = refined.response.noise_fwhm_kev > _MIN_NOISE_KEV
    return bool(has_resolution and agreeing.size and agreeing.mean() > _MIN_AGREEING_SHARE)


def _n_families(refined: "_RefinedAxis") -> int:
    return len(set(map(family_of, refined.lines)))


def _energy_span_kev(lines: Sequence[LineFit]) -> float:
    energies = [line.energy_kev for line in lines]
    return max(energies, default=0.0) - min(energies, default=0.0)


def _is_certain(refined: "_RefinedAxis") -> bool:
    return _is_proven(refined) and refined.evidence_bits > _MIN_CERTAIN_BITS


def _describe_lines(refined: "_RefinedAxis") -> str:
    names = ", ".join(line.name for line in refined.lines)
    return f"a gain of {1e3 * refined.response.gain_kev:.2f} eV is based on {names}"


def _best_hypothesis(hypotheses: list[Hypothesis], name: str) -> Hypothesis:
    if not hypotheses:
        min_gain_ev, max_gain_ev = (1e3 * gain_kev for gain_kev in GAIN_RANGE_KEV)
        _fail(
            name,
            f"no gain from {min_gain_ev:.0f} to {max_gain_ev:.0f} eV gives its peaks the width of a silicon detector, "
            "which is",
        )
    if hypotheses[0].score < _MIN_SCORE:
        _fail(name, f"the best axis explains {hypotheses[0].score:.0%} of the peaks, {_MIN_SCORE:.0%} are")
    best_hypothesis = hypotheses[0]
    rivals = [other for other in hypotheses[1:] if _are_different(best_hypothesis, other)]
    if rivals and best_hypothesis.score < _MIN_SCORE_RATIO * rivals[0].score:
        _fail(
            name,
            f"gains of {1e3 * best_hypothesis.gain_kev:.2f} and {1e3 * rivals[0].gain_kev:.2f} eV "
            "explain the peaks equally well, more lines are",
        )
    return best_hypothesis


def _are_different(first: Hypothesis, second: Hypothesis) -> bool:
    energy_kev = 8.0
    channel = (energy_kev - first.zero_kev) / first.gain_kev
    return abs(second.zero_kev + second.gain_kev * channel - energy_kev) > 0.08


@dataclass(frozen=True)
class _RefinedAxis:
    """An axis fitted by least squares, with the lines that it is based on."""

    response: Response
    covariance: NDArray[np.float64]
    lines: tuple[LineFit, ...]
    model: GroupModel
    score: float
    folds: tuple[NDArray[np.float64], NDArray[np.float64]]

    @property
    def deviations(self) -> NDArray[np.float64]:
        """(n_line,) standard deviations of the line centres, keV, including the non-linearity of real detectors."""
        return np.hypot([line.error_kev for line in self.lines], _LINE_ERROR_KEV)

    @property
    def agreeing(self) -> NDArray[np.bool_]:
        """(n_line,) boolean array, true for lines that fit the axis."""
        return np.abs([line.offset_kev for line in self.lines]) < _MAX_AGREEMENT_SIGMAS * self.deviations

    @property
    def evidence_bits(self) -> float:
        """Evidence for the axis, bits: ``-log2`` of the probability that a wrong axis fits these lines."""
        probability = np.minimum(2.0 * _MAX_AGREEMENT_SIGMAS * self.deviations * _LINES_PER_KEV, 1.0)
        return float(np.where(self.agreeing, -np.log2(probability), _MISS_BITS).sum())


def _refine_axis(data: _Data, start: Hypothesis, prior: EnergyAxis | None) -> _RefinedAxis:
    noise = guess_noise(data.peaks.fwhm_channels, start.gain_kev, start.zero_kev)
    response = Response(start.gain_kev, start.zero_kev, noise, 0.115)
    covariance = np.full((2, 2), np.nan)
    lines: list[LineFit] = []
    # A zero peak and noise are not photons, so that they are excluded from pile-up and lines.
    is_photon = response.axis(data.total.size).energy_kev > _MIN_PHOTON_KEV
    total, convolutions = (
        np.where(is_photon, data.total, 0.0),
        self_convolution(np.where(is_photon, data.tiles, 0.0), data.pixels),
    )
    if not total.any():
        _fail(data.name, "no line is significant, three are")
    for _ in range(_N_ROUNDS):
        model = GroupModel(total, candidate_groups(response, total), response, convolutions)
        model = GroupModel(total, significant_groups(model, response), response, convolutions)
        if not model.groups:
            _fail(data.name, "no line is significant, three are")
        response = fit_response(model, response)
        lines = _usable_lines(model, response)
        _require_lines(lines, data.name, prior)
        response, covariance = regress_axis(lines, response, prior)
    response = fit_response(model, response, axis_free=False)
    return _RefinedAxis(response, covariance, tuple(_usable_lines(model, response)), model, start.score, convolutions)


def _usable_lines(model: GroupModel, response: Response) -> list[LineFit]:
    return proven_lines([line for line in measure_lines(model, response) if _is_usable(line)])


def _is_usable(line: LineFit) -> bool:
    min_kev, max_kev = _REGRESSION_RANGE_KEV
    return not line.blended and line.significance > _MIN_LINE_SIGNIFICANCE and min_kev < line.energy_kev < max_kev


def _require_lines(lines: list[LineFit], name: str, prior: EnergyAxis | None) -> None:
    span_kev = _energy_span_kev(lines)
    if not lines or (prior is None and (len(lines) < _MIN_LINES or span_kev < _MIN_SPAN_KEV)):
        names = ", ".join(line.name for line in lines)
        few_texts = ("no unblended line was", "1 unblended line was")
        count_text = (
            few_texts[len(lines)] if len(lines) < 2 else f"{len(lines)} unblended lines over {span_kev:.1f} keV were"
        )
        assignment = f", assigned to {names}" if names else ""
        _fail(name, f"{count_text} found{assignment}; three over 2 keV are")


def _with_anode(refined: _RefinedAxis, scan: Scan) -> Calibration:
    calibration = _make_calibration(refined, scan)
    anode = guess_anode(refined.model.counts, refined.response)
    if anode is None:
        return replace(calibration, missing=(missing_anode_reason(calibration.axis.stop_kev),))
    return replace(calibration, anode=anode.symbol, scatter_angle_deg=anode.scatter_angle_deg)


def _with_tube(refined: _RefinedAxis, scan: Scan) -> Calibration:
    total = refined.model.counts
    tube = find_tube(total, refined.response, refined.folds)
    calibration = replace(
        _make_calibration(refined, scan),
        anode=tube.anode,
        scatter_angle_deg=tube.angle_deg,
        scatter_angle_uncertainty_deg=tube.angle_error_deg,
        voltage_kv=tube.voltage_kv,
        voltage_uncertainty_kv=tube.voltage_error_kv,
        missing=tube.missing,
    )
    path, reason = _air_path_cm(refined, total, tube)
    return replace(calibration, seen_air_cm=path, missing=(*calibration.missing, *reason))


def _air_path_cm(
    refined: _RefinedAxis, total: NDArray[np.float64], tube: TubeEstimate
) -> tuple[float | None, tuple[str, ...]]:
    """Return the air path in the detector's view, cm, and the reason if it is unknown."""
    if tube.anode in ARGON_OVERLAP_ANODES:
        return None, (f"air path: argon's line is overlapped by the scattered L lines of the {tube.anode} anode",)
    argon = argon_counts(refined.model, refined.response)
    if argon == 0:
        return None, ("air path: no argon line detected",)
    reference = ScatterReference(
        tube.anode or DEFAULT_REFERENCE.anode,
        tube.angle_deg or DEFAULT_REFERENCE.angle_deg,
        tube.voltage_kv or DEFAULT_REFERENCE.voltage_kv,
    )
    return seen_air_cm(argon, total, refined.response, reference), ()


def _make_calibration(refined: _RefinedAxis, scan: Scan) -> Calibration:
    response, lines, covariance = refined.response, refined.lines, refined.covariance
    axis = response.axis(scan.shape[2])
    limits = np.array([[axis.channel(energy), 1.0] for energy in (3.0, min(15.0, axis.stop_kev))])
    limit_errors = np.sqrt(np.einsum("ei,ij,ej->e", limits, covariance, limits))
    by_significance = sorted(lines, key=lambda line: -line.significance)
    noise_error, fano_error = resolution_errors(lines, response)
    return Calibration(
        axis=axis,
        noise_fwhm_kev=response.noise_fwhm_kev,
        fano=response.fano,
        residual_ev={line.name: 1e3 * line.offset_kev for line in lines},
        uncertainty_ev={line.name: 1e3 * line.error_kev for line in lines},
        gain_uncertainty_kev=float(np.sqrt(covariance[0, 0])),
        zero_uncertainty_kev=float(np.sqrt(covariance[1, 1])),
        axis_uncertainty_ev=float(1e3 * limit_errors.max()),
        families=tuple(dict.fromkeys(family_of(line) for line in by_significance)),
        score=refined.score,
        previous_axis=scan.axis,
        noise_uncertainty_kev=noise_error,
        fano_uncertainty=fano_error,
        line_counts={line.name: line.area for line in lines},
        line_energy_kev={line.name: line.energy_kev for line in lines},
    )


def describe_estimates(calibration: Calibration) -> str:
    """Return a text that lists the values determined from the spectrum: axis, resolution and others."""
    estimates = {
        "anode": calibration.anode,
        "voltage": calibration.voltage_kv,
        "scattering angle": calibration.scatter_angle_deg,
        "air path in the detector's view": calibration.seen_air_cm,
    }
    names = ["axis", "resolution", *(name for name, value in estimates.items() if value is not None)]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def describe_assumptions(calibration: Calibration) -> str:
    """Return a text on values that are assumed, not measured; "" if there are none."""
    defaults = Instrument.model_validate({})
    values = {
        f"anode {defaults.tube.anode}": calibration.anode,
        f"{defaults.tube.voltage_kv:g} kV": calibration.voltage_kv,
        f"scattering angle {defaults.geometry.scattering_angle_deg:.0f}°": calibration.scatter_angle_deg,
        f"{defaults.geometry.seen_air_cm:g} cm of air in the detector's view": calibration.seen_air_cm,
    }
    assumed = [name for name, value in values.items() if value is None]
    return f"Assumed, not measured: {', '.join(assumed)}; correct values that you know better." if assumed else ""


def calibration_notes(file_axis: EnergyAxis | None, calibration: Calibration) -> tuple[str, ...]:
    """Return notes on a relevant difference between the axis of the file and the calibrated axis."""
    if file_axis is None:
        families = ", ".join(name.replace("_", " ") for name in calibration.families[:6]) or "no line"
        return (f"The file has no usable energy axis; the axis was determined from {families}.",)
    channel = calibration.axis.channel(_COMPARISON_ENERGY_KEV)
    deviation_ev = 1e3 * (file_axis.zero_kev + file_axis.gain_kev * channel - _COMPARISON_ENERGY_KEV)
    if abs(deviation_ev) < _MIN_NOTED_DEVIATION_EV:
        return ()
    direction = "high" if deviation_ev > 0 else "low"
    return (
        f"The file's energy axis reads {abs(deviation_ev):.0f} eV {direction} at Fe K; "
        "the axis from the lines is used.",
    )


def with_calibration(scan: Scan, calibration: Calibration) -> Scan:
    """Return the scan with the calibrated axis."""
    return replace(scan, axis=calibration.axis)


def line_ratios(calibrations: Sequence[Calibration]) -> dict[str, tuple[float, ...]]:
    """Return the counts of lines relative to the first detector, for lines of all detectors, lowest energy first.

    Ratios that decrease towards low energies indicate more air, a thicker window or a collimator; a constant ratio
    indicates a different solid angle.

    Parameters
    ----------
    calibrations : sequence of Calibration
        Calibration of each detector.

    Returns
    -------
    dict of str to tuple of float
        Ratio for each detector, by line (``Ca-KL3``).
    """
    reference_counts = calibrations[0].line_counts
    common = [
        name
        for name in reference_counts
        if all(calibration.line_counts.get(name, 0.0) > 0 for calibration in calibrations)
        and reference_counts[name] > 0
    ]
    common.sort(key=lambda name: calibrations[0].line_energy_kev[name])
    return {
        name: tuple(float(calibration.line_counts[name] / reference_counts[name]) for calibration in calibrations)
        for name in common
    }
