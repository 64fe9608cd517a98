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
from underpaint.calibrate._tube import USUAL, TubeEstimate, find_tube, no_anode
from underpaint.data import EnergyAxis, Scan, survey
from underpaint.data.pile_up import self_convolution
from underpaint.errors import CalibrationError
from underpaint.physics.forward import Detail, emit, render
from underpaint.physics.instrument import Detector, Instrument
from underpaint.runtime.progress import Progress, no_progress
from underpaint.runtime.threads import one_blas_thread

Array = NDArray[np.float64]

ARGON = "Ar_K"
HIDDEN_UNDER = ("Pd", "Ag")
"""Anodes whose scattered L lines overlap argon's."""
_SCATTER_KEV = (14.0, 19.0)


def argon_counts(model: GroupModel, response: Response) -> float:
    """Return the counts of argon's K lines; zero if not significant."""
    areas = model.areas(model.design(response))
    return float(sum(area for group, area in zip(model.groups, areas[:-1], strict=True) if group.family == ARGON))


def seen_air_cm(argon: float, counts: Array, response: Response, reference: ScatterReference) -> float:
    """Return the path in air, cm, for the measured ratio of argon to scatter from 14 to 19 keV.

    Parameters
    ----------
    argon : float
        Counts of argon's K lines.
    counts : (n_channel,) array
        Sum spectrum.
    response : Response
        Its axis and resolution.
    reference : ScatterReference
        Tube and scattering angle.
    """
    axis = EnergyAxis(0.05, 0.0, int(_SCATTER_KEV[1] / 0.05) + 2)
    tube = tube_of(reference)
    with_air = tube.model_copy(update={"geometry": tube.geometry.model_copy(update={"seen_air_cm": 1.0})})
    detector = Detector(noise_fwhm_kev=response.noise_fwhm_kev, fano=response.fano)
    dark, bright = (
        np.asarray(render(emit(simple_samples(), instrument, detail=Detail(orders=1)), detector, axis))
        for instrument in (tube, with_air)
    )
    air = bright - dark
    low = axis.energy_kev < 4.0
    # the background under the line is scatter from the air
    per_cm = air[:, low].sum(axis=1) / _between(dark, axis)
    measured = argon / _between(counts[None, :], response.axis(counts.size))[0]
    return float(measured / np.exp(np.log(per_cm).mean()))


def _between(counts: Array, axis: EnergyAxis) -> Array:
    inside = (axis.energy_kev > _SCATTER_KEV[0]) & (axis.energy_kev < _SCATTER_KEV[1])
    return np.asarray(counts[:, inside].sum(axis=1))


_MIN_COUNTS, _PLENTY_COUNTS = 3000, 1e5
_MIN_CHANNELS = 64
_MIN_PEAKS = 4
_MIN_LINES = 3
_MIN_SPAN_KEV = 2.0
_MIN_SCORE = 0.12
_MIN_LEAD = 1.08
_SOFTEST_PHOTON_KEV = 0.4
_LINE_ERROR_KEV, _AGREE_SIGMAS, _MIN_AGREEING = 0.003, 2.5, 0.65
_MAX_GAIN_ERROR, _MIN_NOISE_KEV = 0.0015, 0.025
_MIN_FAMILIES = 2
# There are 5 candidate lines per keV, so an agreement within 3 eV occurs by chance once in 13 times: 3.7 bits. A free
# search tries 100,000 different axes, 17 bits, few of which also have correct widths and intensities. Near the file's
# axis, about 500 are tried, 9 bits.
_LINES_PER_KEV = 5.0
_BITS_OF_A_MISS = -3.0
_BEARING_OUT_BITS, _MIN_EVIDENCE_BITS, _OVERWHELMING_BITS = 9.0, 13.0, 17.0
_OVERRULING_LEAD, _RIVALS = 1.2, 4
# Difference up to which a refined axis is the file's, and the usual error of headers.
_SAME_GAIN, _SAME_ZERO_KEV = 0.002, 0.02
_USUAL_GAIN_OFF, _USUAL_ZERO_OFF_KEV = 0.006, 0.05
# Argon's line (2.96 keV) overlaps the scattered L lines of a silver tube and is excluded.
_REGRESSION_RANGE_KEV = (3.2, 16.0)
_MIN_LINE_SIGNIFICANCE = 10.0
_ROUNDS = 2
_NOTEWORTHY_EV = 20.0
_COMPARED_AT_KEV = 6.40


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
        Electronic noise, FWHM, keV.
    fano : float
        Fano factor.
    residual_ev : dict
        For each unblended line (``Fe-KL3``): measured centre minus tabulated energy, eV.
    uncertainty_ev : dict
        For each of these lines: one standard deviation of the measured centre, eV.
    gain_uncertainty_kev, zero_uncertainty_kev : float
        One standard deviation, keV; they are correlated.
    axis_uncertainty_ev : float
        Largest standard deviation of the axis between 3 and 15 keV (or its end), eV.
    families : tuple of str
        Line families that the axis rests on (``Fe_K``), most significant first.
    missing : tuple of str
        What could not be found, in words.
    anode : str or None
        Element symbol of the tube's anode (Mo, Rh, Pd or Ag), from its scattered K lines; None: unknown.
    scatter_angle_deg : float or None
        Scattering angle, degree, from the Compton shift.
    score : float
        Explained share of the peaks, 0 to 1.
    noise_uncertainty_kev, fano_uncertainty : float
        One standard deviation; they are correlated.
    voltage_kv, voltage_uncertainty_kv : float or None
        Tube voltage from the end of the continuum, and one standard deviation, kV; only with ``tube=True``.
    scatter_angle_uncertainty_deg : float or None
        One standard deviation, degree.
    seen_air_cm : float or None
        Path in air in the detector's view, cm, from argon's line; accurate within a factor of 2.5.
    line_counts, line_energy_kev : dict
        For each unblended line: counts, and tabulated energy, keV.
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
        """Largest absolute residual of the unblended lines from 3 to 15 keV, eV."""
        return max((abs(value) for value in self.residual_ev.values()), default=float("nan"))

    def fwhm_kev(self, energy_kev: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Width of a peak, keV FWHM."""
        response = Response(self.axis.gain_kev, self.axis.zero_kev, self.noise_fwhm_kev, self.fano)
        return response.fwhm_kev(energy_kev)


def calibrate(
    scan: Scan, *, instrument: Instrument | None = None, tube: bool = False, progress: Progress | None = None
) -> Calibration:
    """Find energy axis, resolution and anode of a scan from its lines, without prior knowledge of elements.

    Peaks of the sum spectrum are matched to the line patterns of elements in paintings near the file's (or the
    instrument's) axis, which is refined by least squares if the lines confirm it. Without an axis, or if the file's
    explains so little that many lines may prove another, all gains are searched at which the peaks have the width of a
    silicon detector's.

    Parameters
    ----------
    scan : Scan
        The scan; its axis may be None.
    instrument : Instrument, optional
        Its channel width and zero are used if the file has no axis.
    tube : bool
        Also estimate voltage and air path, and compare anode and angle with the scatter of the forward model; takes
        some seconds more.
    progress : callable or None
        Called with (what is being done, done, in all).

    Returns
    -------
    Calibration
        Axis, resolution, residuals per line, anode; with ``tube`` also voltage and air path.

    Raises
    ------
    CalibrationError
        The scan has too few counts, or its lines neither confirm the file's axis nor prove another. ScanError The scan
        cannot be read, or has no counts.
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
        refined = _best_axis(data, _hint(scan, instrument))
        if not tube:
            return _with_anode(refined, scan)
        (progress or no_progress)("Estimating the tube's voltage", 0, 1)
        return _with_tube(refined, scan)


def _require_counts(total: NDArray[np.float64], name: str) -> None:
    if total.size < _MIN_CHANNELS:
        raise CalibrationError(
            f"Cannot calibrate scan {name!r}: it has {total.size} channels; a spectrum has at least {_MIN_CHANNELS}. "
            "Is it a picture, or are its axes in another order than (row, column, channel)?"
        )
    if total.sum() == 0:
        raise CalibrationError(f"Cannot calibrate scan {name!r}: it has no counts. Check the export.")
    if total.sum() < _MIN_COUNTS:
        _fail(name, f"the scan has {total.sum():.0f} counts, at least {_MIN_COUNTS} are")


def _fail(name: str, fault: str, kind: type[CalibrationError] = CalibrationError) -> NoReturn:
    raise kind(
        f"Cannot calibrate scan {name!r} from its lines: {fault} needed. "
        "Pass an instrument file that has gain_kev and zero_kev of the detector."
    )


def _hint(scan: Scan, instrument: Instrument | None) -> EnergyAxis | None:
    if scan.axis is not None or instrument is None:
        return scan.axis
    return EnergyAxis(instrument.detector.gain_kev, instrument.detector.zero_kev, scan.shape[2])


@dataclass(frozen=True)
class _Data:
    """Sum spectrum of a scan, sums over its tiles and their pixels, and its peaks."""

    total: NDArray[np.float64]
    tiles: NDArray[np.float64]
    pixels: NDArray[np.float64]
    peaks: Peaks
    name: str


def _best_axis(data: _Data, prior: EnergyAxis | None) -> "_Refined":
    """Return the file's axis refined, unless another one explains the lines far better."""
    if prior is None:
        refined = _refined(data, _best_hypothesis(search_axis(data.peaks, data.total.size), data.name), None)
        if not _proven(refined):
            _fail(data.name, f"{_describe_lines(refined)}, which other axes might explain, too; more lines are")
        return refined
    near = search_near(data.peaks, data.total.size, prior)
    refined_near = _refined_or_none(data, near, prior)
    if refined_near is not None and _overwhelming(refined_near):
        return refined_near
    hypotheses = search_axis(data.peaks, data.total.size, _RIVALS)
    if hypotheses and hypotheses[0].score > _OVERRULING_LEAD * near.score and _disagree(hypotheses[0], near):
        refined_other = _refined_or_none(data, hypotheses[0], None)
        if refined_other is not None and _overwhelming(refined_other):
            return refined_other
    if refined_near is None or not _is_confirmed(refined_near, prior):
        kind = DoubtedAxisError if data.total.sum() > _PLENTY_COUNTS else CalibrationError
        _fail(data.name, "they neither confirm the file's axis nor prove another one; more lines are", kind)
    return refined_near


def _refined_or_none(data: _Data, start: Hypothesis, prior: EnergyAxis | None) -> "_Refined | None":
    try:
        return _refined(data, start, prior)
    except CalibrationError:
        return None


def _is_confirmed(refined: "_Refined", prior: EnergyAxis) -> bool:
    """Whether the lines confirm an axis near the file's; the farther off, the more lines are required."""
    if not _consistent(refined):
        return False
    gain_off = abs(refined.response.gain_kev / prior.gain_kev - 1.0)
    zero_off_kev = abs(refined.response.zero_kev - prior.zero_kev)
    if gain_off < _SAME_GAIN and zero_off_kev < _SAME_ZERO_KEV and _gain_known(refined):
        return True
    usual = gain_off < _USUAL_GAIN_OFF and zero_off_kev < _USUAL_ZERO_OFF_KEV
    min_bits = _BEARING_OUT_BITS if usual else _MIN_EVIDENCE_BITS
    several = _spread_kev(refined.lines) > _MIN_SPAN_KEV and _n_family(refined) >= _MIN_FAMILIES
    return several and refined.evidence_bits > min_bits


def _proven(refined: "_Refined") -> bool:
    """Whether hardly any other axis would fit these lines by chance."""
    several = _n_family(refined) >= _MIN_FAMILIES and refined.evidence_bits > _MIN_EVIDENCE_BITS
    return several and _consistent(refined) and _gain_known(refined)


def _gain_known(refined: "_Refined") -> bool:
    error = np.sqrt(refined.covariance[0, 0])
    return bool(error < _MAX_GAIN_ERROR * refined.response.gain_kev)


def _consistent(refined: "_Refined") -> bool:
    """Whether most lines fit the axis, with the width of a detector."""
    agreeing = refined.agreeing
    wide = refined.response.noise_fwhm_kev > _MIN_NOISE_KEV
    return bool(wide and agreeing.size and agreeing.mean() > _MIN_AGREEING)


def _n_family(refined: "_Refined") -> int:
    return len(set(map(family_of, refined.lines)))


def _spread_kev(lines: Sequence[LineFit]) -> float:
    energies = [line.energy_kev for line in lines]
    return max(energies, default=0.0) - min(energies, default=0.0)


def _overwhelming(refined: "_Refined") -> bool:
    return _proven(refined) and refined.evidence_bits > _OVERWHELMING_BITS


def _describe_lines(refined: "_Refined") -> str:
    names = ", ".join(line.name for line in refined.lines)
    return f"gain {1e3 * refined.response.gain_kev:.2f} eV rests on {names}"


def _best_hypothesis(hypotheses: list[Hypothesis], name: str) -> Hypothesis:
    if not hypotheses:
        low, high = (1e3 * gain for gain in GAIN_RANGE_KEV)
        _fail(
            name,
            f"with no gain from {low:.0f} to {high:.0f} eV are its peaks as wide as a silicon detector's, which is",
        )
    if hypotheses[0].score < _MIN_SCORE:
        _fail(name, f"the best axis explains {hypotheses[0].score:.0%} of the peaks, {_MIN_SCORE:.0%} are")
    best = hypotheses[0]
    rivals = [second for second in hypotheses[1:] if _disagree(best, second)]
    if rivals and best.score < _MIN_LEAD * rivals[0].score:
        _fail(
            name,
            f"gains of {1e3 * best.gain_kev:.2f} and {1e3 * rivals[0].gain_kev:.2f} eV "
            "explain the peaks equally well, more lines are",
        )
    return best


def _disagree(first: Hypothesis, second: Hypothesis) -> bool:
    at_kev = 8.0
    channel = (at_kev - first.zero_kev) / first.gain_kev
    return abs(second.zero_kev + second.gain_kev * channel - at_kev) > 0.08


@dataclass(frozen=True)
class _Refined:
    """A hypothesis after least squares, with the lines that prove it."""

    response: Response
    covariance: NDArray[np.float64]
    lines: tuple[LineFit, ...]
    model: GroupModel
    score: float
    folds: tuple[NDArray[np.float64], NDArray[np.float64]]

    @property
    def deviations(self) -> NDArray[np.float64]:
        """(n_line,) deviations of the lines' centres, keV, including the non-linearity of real detectors."""
        return np.hypot([line.error_kev for line in self.lines], _LINE_ERROR_KEV)

    @property
    def agreeing(self) -> NDArray[np.bool_]:
        """(n_line,) whether a line fits the axis."""
        return np.abs([line.offset_kev for line in self.lines]) < _AGREE_SIGMAS * self.deviations

    @property
    def evidence_bits(self) -> float:
        """Evidence for the axis: minus the logarithm (base 2) of the probability that a wrong axis fits these lines."""
        chance = np.minimum(2.0 * _AGREE_SIGMAS * self.deviations * _LINES_PER_KEV, 1.0)
        return float(np.where(self.agreeing, -np.log2(chance), _BITS_OF_A_MISS).sum())


def _refined(data: _Data, start: Hypothesis, prior: EnergyAxis | None) -> _Refined:
    noise = guess_noise(data.peaks.fwhm_channels, start.gain_kev, start.zero_kev)
    response = Response(start.gain_kev, start.zero_kev, noise, 0.115)
    covariance = np.full((2, 2), np.nan)
    lines: list[LineFit] = []
    # A zero peak and noise are not photons: they neither pile up nor have lines.
    photons = response.axis(data.total.size).energy_kev > _SOFTEST_PHOTON_KEV
    total, folds = np.where(photons, data.total, 0.0), self_convolution(np.where(photons, data.tiles, 0.0), data.pixels)
    if not total.any():
        _fail(data.name, "no line is significant, three are")
    for _ in range(_ROUNDS):
        model = GroupModel(total, candidate_groups(response, total), response, folds)
        model = GroupModel(total, significant_groups(model, response), response, folds)
        if not model.groups:
            _fail(data.name, "no line is significant, three are")
        response = fit_response(model, response)
        lines = _usable_lines(model, response)
        _require_lines(lines, data.name, prior)
        response, covariance = regress_axis(lines, response, prior)
    response = fit_response(model, response, axis_free=False)
    return _Refined(response, covariance, tuple(_usable_lines(model, response)), model, start.score, folds)


def _usable_lines(model: GroupModel, response: Response) -> list[LineFit]:
    return proven_lines([line for line in measure_lines(model, response) if _usable(line)])


def _usable(line: LineFit) -> bool:
    low, high = _REGRESSION_RANGE_KEV
    return not line.blended and line.significance > _MIN_LINE_SIGNIFICANCE and low < line.energy_kev < high


def _require_lines(lines: list[LineFit], name: str, prior: EnergyAxis | None) -> None:
    span = _spread_kev(lines)
    if not lines or (prior is None and (len(lines) < _MIN_LINES or span < _MIN_SPAN_KEV)):
        names = ", ".join(line.name for line in lines)
        few = ("no unblended line was", "1 unblended line was")
        count_text = few[len(lines)] if len(lines) < 2 else f"{len(lines)} unblended lines over {span:.1f} keV were"
        assignment = f", taken for {names}" if names else ""
        _fail(name, f"{count_text} found{assignment}; three over 2 keV are")


def _with_anode(refined: _Refined, scan: Scan) -> Calibration:
    calibration = _from_lines(refined, scan)
    anode = guess_anode(refined.model.counts, refined.response)
    if anode is None:
        return replace(calibration, missing=(no_anode(calibration.axis.stop_kev),))
    return replace(calibration, anode=anode.symbol, scatter_angle_deg=anode.scatter_angle_deg)


def _with_tube(refined: _Refined, scan: Scan) -> Calibration:
    total = refined.model.counts
    tube = find_tube(total, refined.response, refined.folds)
    calibration = replace(
        _from_lines(refined, scan),
        anode=tube.anode,
        scatter_angle_deg=tube.angle_deg,
        scatter_angle_uncertainty_deg=tube.angle_error_deg,
        voltage_kv=tube.voltage_kv,
        voltage_uncertainty_kv=tube.voltage_error_kv,
        missing=tube.missing,
    )
    path, reason = _air(refined, total, tube)
    return replace(calibration, seen_air_cm=path, missing=(*calibration.missing, *reason))


def _air(refined: _Refined, total: NDArray[np.float64], tube: TubeEstimate) -> tuple[float | None, tuple[str, ...]]:
    """Return the path in air, cm, or why it is unknown."""
    if tube.anode in HIDDEN_UNDER:
        return None, (f"air path: argon's line is overlapped by the scattered L lines of the {tube.anode} anode",)
    argon = argon_counts(refined.model, refined.response)
    if argon == 0:
        return None, ("air path: no argon line detected",)
    reference = ScatterReference(
        tube.anode or USUAL.anode, tube.angle_deg or USUAL.angle_deg, tube.voltage_kv or USUAL.voltage_kv
    )
    return seen_air_cm(argon, total, refined.response, reference), ()


def _from_lines(refined: _Refined, scan: Scan) -> Calibration:
    response, lines, covariance = refined.response, refined.lines, refined.covariance
    axis = response.axis(scan.shape[2])
    ends = np.array([[axis.channel(energy), 1.0] for energy in (3.0, min(15.0, axis.stop_kev))])
    spread = np.sqrt(np.einsum("ei,ij,ej->e", ends, covariance, ends))
    ranked = sorted(lines, key=lambda line: -line.significance)
    noise_error, fano_error = resolution_errors(lines, response)
    return Calibration(
        axis=axis,
        noise_fwhm_kev=response.noise_fwhm_kev,
        fano=response.fano,
        residual_ev={line.name: 1e3 * line.offset_kev for line in lines},
        uncertainty_ev={line.name: 1e3 * line.error_kev for line in lines},
        gain_uncertainty_kev=float(np.sqrt(covariance[0, 0])),
        zero_uncertainty_kev=float(np.sqrt(covariance[1, 1])),
        axis_uncertainty_ev=float(1e3 * spread.max()),
        families=tuple(dict.fromkeys(family_of(line) for line in ranked)),
        score=refined.score,
        previous_axis=scan.axis,
        noise_uncertainty_kev=noise_error,
        fano_uncertainty=fano_error,
        line_counts={line.name: line.area for line in lines},
        line_energy_kev={line.name: line.energy_kev for line in lines},
    )


def describe_estimates(calibration: Calibration) -> str:
    """Describe the results: axis, resolution and other values from the spectrum."""
    other_families = {
        "anode": calibration.anode,
        "voltage": calibration.voltage_kv,
        "scattering angle": calibration.scatter_angle_deg,
        "path in air in the detector's view": calibration.seen_air_cm,
    }
    names = ["axis", "resolution", *(name for name, value in other_families.items() if value is not None)]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def describe_assumptions(calibration: Calibration) -> str:
    """Name the assumed values of an instrument without a base; "" if there are none."""
    defaults = Instrument.model_validate({})
    values = {
        f"anode {defaults.tube.anode}": calibration.anode,
        f"{defaults.tube.voltage_kv:g} kV": calibration.voltage_kv,
        f"scattering through {defaults.geometry.scattering_angle_deg:.0f}°": calibration.scatter_angle_deg,
        f"{defaults.geometry.seen_air_cm:g} cm of air seen": calibration.seen_air_cm,
    }
    assumed = [name for name, value in values.items() if value is None]
    return f"Assumed, not measured: {', '.join(assumed)}; correct values that you know better." if assumed else ""


def calibration_notes(header: EnergyAxis | None, calibration: Calibration) -> tuple[str, ...]:
    """Describe the difference of the file's axis from the calibrated one, where relevant."""
    if header is None:
        families = ", ".join(name.replace("_", " ") for name in calibration.families[:6]) or "no line"
        return (f"The file has no usable energy axis; the axis was found from {families}.",)
    channel = calibration.axis.channel(_COMPARED_AT_KEV)
    off_ev = 1e3 * (header.zero_kev + header.gain_kev * channel - _COMPARED_AT_KEV)
    if abs(off_ev) < _NOTEWORTHY_EV:
        return ()
    side = "high" if off_ev > 0 else "low"
    return (f"The file's energy axis reads {abs(off_ev):.0f} eV {side} at Fe K; the axis found in the lines is used.",)


def with_calibration(scan: Scan, calibration: Calibration) -> Scan:
    """Return the same scan on the calibrated axis."""
    return replace(scan, axis=calibration.axis)


def line_ratios(calibrations: Sequence[Calibration]) -> dict[str, tuple[float, ...]]:
    """Return the counts of each line common to all detectors relative to the first detector, softest lines first.

    Ratios that decrease towards soft lines indicate more air, a thicker window or a collimator; their common value
    indicates the solid angle.

    Parameters
    ----------
    calibrations : sequence of Calibration
        One per detector.

    Returns
    -------
    dict of str to tuple of float
        By line (``Ca-KL3``), one number per detector, 1 for the first.
    """
    first = calibrations[0].line_counts
    common = [
        name
        for name in first
        if all(calibration.line_counts.get(name, 0.0) > 0 for calibration in calibrations) and first[name] > 0
    ]
    common.sort(key=lambda name: calibrations[0].line_energy_kev[name])
    return {
        name: tuple(float(calibration.line_counts[name] / first[name]) for calibration in calibrations)
        for name in common
    }
