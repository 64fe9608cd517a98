"""Fit of gain, zero, noise and Fano factor to the lines of a spectrum, from approximate values."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, nnls
from scipy.special import ndtr

from underpaint.calibrate._patterns import (
    COMMON_FAMILIES,
    RARE_FAMILIES,
    SCATTERED_L_FAMILIES,
    LineGroup,
    line_groups,
)
from underpaint.data.axis import EnergyAxis
from underpaint.data.background import snip
from underpaint.data.peaks import peak_columns, peak_counts, resolution_fwhm_kev
from underpaint.data.pile_up import self_convolution, sum_peaks
from underpaint.physics.forward.response import escape_lines, escape_share
from underpaint.physics.instrument import Detector
from underpaint.units import EPSILON_SI_KEV, FWHM_PER_SIGMA

_SILICON_DETECTOR = Detector()
_BACKGROUND_FWHM = 2.0
_FIT_RANGE_KEV = (1.6, 17.0)
_MODEL_ERROR = 0.02
_TYPICAL_FANO = 0.115
_FANO_SPREAD = 0.008
_NOISE_RANGE_KEV = (0.02, 0.30)
_FANO_RANGE = (0.08, 0.16)
_MIN_SIGNIFICANCE = 6.0
_MAX_BLENDED_SHARE = 0.15
_LINE_SHAPE_ERROR_KEV = 0.001
"""Error of line centres from tails and curved background, keV, as for strong lines of simulated detectors."""
_NONLINEARITY_ERROR_KEV = 0.003
"""Error of line centres of real detectors, in keV; low-energy lines are up to 6 eV above a linear axis.

A file's axis, fitted to many lines, may therefore be more accurate than a fit to the few lines of a spectrum.
"""
_FILE_GAIN_SPREAD, _FILE_ZERO_SPREAD_KEV = 0.001, 0.01
_NEIGHBOUR_AREA_ERROR = 0.05
_WIDTH_ERROR = 0.015
_LINE_NAMES = {("K", True): "KL3", ("K", False): "KM3", ("L", True): "L3M5", ("M", True): "M5N7"}


@dataclass(frozen=True)
class Response:
    """Energy axis and resolution.

    Parameters
    ----------
    gain_kev, zero_kev : float
        Width of a channel and energy of channel 0, in keV.
    noise_fwhm_kev : float
        Electronic noise, FWHM, in keV.
    fano : float
        Fano factor.
    """

    gain_kev: float
    zero_kev: float
    noise_fwhm_kev: float
    fano: float

    def axis(self, n_channel: int) -> EnergyAxis:
        """Return the energy axis."""
        return EnergyAxis(self.gain_kev, self.zero_kev, n_channel)

    def fwhm_kev(self, energy_kev: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Return the FWHM of a peak, in keV."""
        return resolution_fwhm_kev(np.asarray(energy_kev, dtype=np.float64), self.noise_fwhm_kev, self.fano)


@dataclass(frozen=True)
class LineFit:
    """Individual measurement of a line group.

    Parameters
    ----------
    name : str
        Element and IUPAC name, ``Fe-KL3``.
    energy_kev : float
        Tabulated energy in keV.
    offset_kev : float
        Measured minus tabulated energy, in keV.
    error_kev : float
        Standard deviation of the measured energy, keV, from counting statistics and a 5 % uncertainty of the subtracted
        neighbouring lines.
    channel : float
        Measured centre, channels.
    area : float
        Net counts.
    significance : float
        Net counts divided by their standard deviation.
    blended : bool
        Whether other lines contribute more than 15 % of the counts under the peak.
    fwhm_error : float
        Relative standard deviation of the width of the peak.
    leading : bool
        Whether this is the strongest group of its family.
    """

    name: str
    energy_kev: float
    offset_kev: float
    error_kev: float
    channel: float
    area: float
    significance: float
    blended: bool
    fwhm_error: float = float("inf")
    leading: bool = True


class GroupModel:
    """Model of a spectrum: background, line groups with their escape peaks, and sum peaks, with free areas.

    Sum peaks overlap lines from 10 to 17 keV, and escape peaks overlap the lines of calcium to iron. A model without
    them would displace the overlapped lines.

    Parameters
    ----------
    counts : (n_channel,) array
        Sum spectrum.
    groups : sequence of LineGroup
        Line groups to fit.
    response : Response
        Energy axis and resolution.
    folds : pair of (n,) arrays, optional
        Result of ``self_convolution``; by default that of the sum spectrum.
    """

    def __init__(
        self,
        counts: NDArray[np.float64],
        groups: Sequence[LineGroup],
        response: Response,
        folds: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    ) -> None:
        self.counts = counts
        self.groups = tuple(groups)
        axis = response.axis(counts.size)
        fwhm = response.fwhm_kev(axis.energy_kev) / axis.gain_kev
        self.background = snip(counts, fwhm, window_per_fwhm=_BACKGROUND_FWHM)
        patterns = [_with_escape(group) for group in self.groups]
        self._energy_kev = np.concatenate([energy for energy, _ in patterns] or [np.zeros(0)])
        self._share = np.concatenate([share for _, share in patterns] or [np.zeros(0)])
        self._group = np.repeat(np.arange(len(patterns)), [energy.size for energy, _ in patterns])
        self.sum_peaks = sum_peaks(
            self_convolution(counts[None, :]) if folds is None else folds,
            float(counts.sum()),
            axis,
            fwhm,
            _BACKGROUND_FWHM,
        )
        self.sigma = np.sqrt(np.maximum(counts, 1.0) + (_MODEL_ERROR * counts) ** 2)
        self.used = (axis.energy_kev > _FIT_RANGE_KEV[0]) & (axis.energy_kev < _FIT_RANGE_KEV[1])
        # The electronic threshold would look like a peak: the first recorded channels are not fitted.
        self.used &= np.arange(counts.size) > np.flatnonzero(counts > 0)[0] + int(2 * np.median(fwhm))

    def design(self, response: Response) -> NDArray[np.float64]:
        """Return the (n_channel, n_group + 1) counts per channel for one count of each group and of the sum peaks."""
        axis = response.axis(self.counts.size)
        width = response.fwhm_kev(self._energy_kev)
        columns = peak_columns(axis, self._energy_kev, self._share, width, self._group, len(self.groups))
        return np.column_stack([columns, self.sum_peaks])

    def areas(self, design: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the best non-negative areas, counts."""
        weighted = (design / self.sigma[:, None])[self.used]
        scale = np.maximum(np.sqrt((weighted**2).sum(axis=0)), 1e-12)
        target = ((self.counts - self.background) / self.sigma)[self.used]
        return np.asarray(nnls(weighted / scale, target, maxiter=20 * scale.size)[0] / scale)

    def satellites(self, response: Response, areas: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (n_channel,) counts of the satellites of the groups, for given areas of the groups.

        The fit does not include satellites, since their uncertain ratios would bias it. They can contribute half of the
        counts at a weak line of another element.
        """
        axis = response.axis(self.counts.size)
        total = np.zeros(self.counts.size)
        for group, area in zip(self.groups, areas[:-1], strict=True):
            width = response.fwhm_kev(group.satellite_kev)
            total += area * peak_counts(axis, group.satellite_kev, group.satellite_share / group.strength, width)
        return total

    def residual(self, design: NDArray[np.float64], areas: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the residuals of the fitted channels, in standard deviations."""
        return np.asarray(((design @ areas + self.background - self.counts) / self.sigma)[self.used])


def _with_escape(group: LineGroup) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return energies, keV, and relative counts of the lines of a group, followed by those of their escape peaks."""
    energy, share = group.energy_kev, group.share / group.strength
    escaped = escape_share(_SILICON_DETECTOR, energy)
    escape_counts = share * escaped / (1.0 - escaped)
    escape_peaks = [
        (energy - line_kev, escape_counts * rate)
        for line_kev, rate in escape_lines(_SILICON_DETECTOR)
        if escape_counts.max() > 1e-5
    ]
    all_kev, all_counts = zip((energy, share), *escape_peaks, strict=True)
    return np.concatenate(all_kev), np.concatenate(all_counts)


def candidate_groups(response: Response, counts: NDArray[np.float64]) -> list[LineGroup]:
    """Return the line groups of all candidate families in the range of the spectrum."""
    axis = response.axis(counts.size)
    stop_kev = min(axis.stop_kev, _FIT_RANGE_KEV[1])
    families = [line_groups(family) for family in COMMON_FAMILIES + RARE_FAMILIES + SCATTERED_L_FAMILIES]
    in_range = [groups for groups in families if groups and _FIT_RANGE_KEV[0] < groups[0].centre_kev < stop_kev]
    return [group for groups in in_range for group in groups if group.centre_kev < stop_kev]


def significant_groups(model: GroupModel, response: Response) -> list[LineGroup]:
    """Return all groups of the families whose strongest group is significant."""
    design = model.design(response)
    areas = model.areas(design)
    significant_families = {
        group.family
        for group, column, area in zip(model.groups, design.T[:-1], areas[:-1], strict=True)
        if group.leading and area > _MIN_SIGNIFICANCE * _area_error(model, column)
    }
    return [group for group in model.groups if group.family in significant_families]


def _area_error(model: GroupModel, column: NDArray[np.float64]) -> float:
    """Return the standard deviation of the area of a group, if all other areas are known."""
    information = float(np.sum((column / model.sigma)[model.used] ** 2))
    return float(1 / np.sqrt(max(information, 1e-30)))


def fit_response(model: GroupModel, start: Response, *, axis_free: bool = True) -> Response:
    """Return gain, zero, noise and Fano factor fitted together; the areas are fitted in each step.

    A prior keeps the Fano factor near 0.115, since few lines do not determine both Fano factor and noise.
    """
    fixed_kev = 8.0

    def response(values: NDArray[np.float64]) -> Response:
        gain = start.gain_kev * (1 + 1e-3 * values[0])
        zero = start.zero_kev + (fixed_kev - start.zero_kev) / start.gain_kev * (start.gain_kev - gain)
        return Response(float(gain), float(zero + 1e-2 * values[1]), float(values[2]), float(values[3]))

    def misfit(values: NDArray[np.float64]) -> NDArray[np.float64]:
        candidate = response(values)
        design = model.design(candidate)
        return np.append(model.residual(design, model.areas(design)), (candidate.fano - _TYPICAL_FANO) / _FANO_SPREAD)

    axis_limit = 20.0 if axis_free else 1e-6
    initial = [0.0, 0.0, np.clip(start.noise_fwhm_kev, 0.03, 0.28), np.clip(start.fano, 0.085, 0.155)]
    lower = [-axis_limit, -axis_limit, _NOISE_RANGE_KEV[0], _FANO_RANGE[0]]
    upper = [axis_limit, axis_limit, _NOISE_RANGE_KEV[1], _FANO_RANGE[1]]
    steps = [1e-2, 1e-2, 1e-3, 1e-2]
    fit = least_squares(
        misfit,
        initial,
        bounds=(lower, upper),
        loss="soft_l1",
        x_scale=[1, 1, 0.02, 0.01],
        diff_step=steps,
        max_nfev=25,
    )
    return response(fit.x)


def measure_lines(model: GroupModel, response: Response) -> list[LineFit]:
    """Return the measured centre of each line group with a separate peak, after subtraction of the other groups."""
    design = model.design(response)
    areas = model.areas(design)
    modelled = design @ areas + model.satellites(response, areas)
    group_rank: dict[str, int] = {}
    lines = []
    for index, group in enumerate(model.groups):
        group_rank[group.family] = group_rank.get(group.family, -1) + 1
        name = _LINE_NAMES.get((group.family[-1], group_rank[group.family] == 0))
        if name is None or group_rank[group.family] > 1 or areas[index] <= 0:
            continue
        other_lines = modelled - design[:, index] * areas[index]
        fit = _measure_line(model, response, group, other_lines, f"{group.family[:-2]}-{name}")
        if fit is not None:
            lines.append(fit)
    return lines


def proven_lines(lines: Sequence[LineFit]) -> list[LineFit]:
    """Return the lines of families whose strongest line is among the lines.

    A family whose strongest line is overlapped is not proven: a weaker line (such as bromine's KM3, where mercury
    overlaps KL3) may be a residual of neighbouring lines.
    """
    leading = {family_of(line) for line in lines if line.leading}
    return [line for line in lines if family_of(line) in leading]


def family_of(line: LineFit) -> str:
    """Return the family of a line, ``Fe_K``."""
    symbol, transition = line.name.split("-")
    return f"{symbol}_{transition[0]}"


def _measure_line(
    model: GroupModel, response: Response, group: LineGroup, other_lines: NDArray[np.float64], name: str
) -> LineFit | None:
    """Return the fit of area, shift, width and a linear background within one FWHM of a line group; None if too few."""
    axis = response.axis(model.counts.size)
    fwhm = float(response.fwhm_kev(group.centre_kev))
    window = np.abs(axis.energy_kev - group.centre_kev) < 1.1 * fwhm
    if window.sum() < 6:
        return None
    offset_axis_kev = axis.energy_kev[window] - group.centre_kev
    net = (model.counts - model.background - other_lines)[window]
    sigma = np.sqrt(np.maximum(model.counts[window], 1.0))
    edges_kev = np.append(axis.energy_kev[window], axis.energy_kev[window][-1] + axis.gain_kev) - 0.5 * axis.gain_kev
    height = max(float(net.max()), 1.0)
    area_scale = height * fwhm / axis.gain_kev
    linear_background = np.stack([np.full(offset_axis_kev.size, height), height * offset_axis_kev / fwhm], axis=1)

    def peak(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return area_scale * _peak_and_slopes(group, edges_kev, values[1], values[2], response)

    def misfit(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((values[0] * peak(values)[:, 0] + linear_background @ values[3:] - net) / sigma)

    def slopes(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.hstack([peak(values) * [1.0, values[0], values[0]], linear_background]) / sigma[:, None]

    lower, upper = [0.0, -0.6 * fwhm, 0.7, -0.5, -0.5], [5.0, 0.6 * fwhm, 1.4, 0.5, 0.5]
    fit = least_squares(misfit, [1.0, 0.0, 1.0, 0.0, 0.0], jac=slopes, bounds=(lower, upper), max_nfev=60)
    inverse = np.linalg.pinv(fit.jac)
    variance = np.maximum((inverse**2).sum(axis=1), 1e-12)
    neighbour_error = float(inverse[1] @ (_NEIGHBOUR_AREA_ERROR * other_lines[window] / sigma))
    error_factor = max(1.0, float(np.sqrt(2 * fit.cost / max(window.sum() - 5, 1))))
    area, offset = fit.x[0] * area_scale, float(fit.x[1])
    area_error = float(np.sqrt(variance[0])) * area_scale
    in_core = np.abs(offset_axis_kev) < 0.6 * fwhm
    blended_share = float(
        np.clip(other_lines[window][in_core], 0, None).sum() / max(np.clip(net[in_core], 0, None).sum(), 1.0)
    )
    blended = blended_share > _MAX_BLENDED_SHARE or abs(offset) > 0.55 * fwhm
    energy_kev = group.centre_kev
    return LineFit(
        name, energy_kev, offset, float(np.hypot(np.sqrt(variance[1]) * error_factor, neighbour_error)),
        axis.channel(energy_kev + offset),
        area, area / max(area_error, 1e-9), blended, float(np.sqrt(variance[2])) * error_factor, group.leading,
    )  # fmt: skip


def _peak_and_slopes(
    group: LineGroup, edges_kev: NDArray[np.float64], shift_kev: float, widening: float, response: Response
) -> NDArray[np.float64]:
    """Return the (n_channel, 3) counts of a group with one count, and their derivatives by shift and widening."""
    sigma = (response.fwhm_kev(group.energy_kev) * widening / FWHM_PER_SIGMA)[:, None]
    z = (edges_kev - group.energy_kev[:, None] - shift_kev) / sigma
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    curves = np.stack([ndtr(z), -density / sigma, -density * z / widening])
    return np.asarray(np.diff(np.einsum("l,kle->ek", group.share / group.strength, curves), axis=0))


def regress_axis(
    lines: Sequence[LineFit], response: Response, prior: EnergyAxis | None = None
) -> tuple[Response, NDArray[np.float64]]:
    """Fit gain and zero to the measured centres, robustly against a few misassigned lines.

    A misassigned line, such as a residual of neighbouring lines, can have any error. The Cauchy loss gives distant
    outliers little weight. A prior axis is included as two more measurements, of gain and zero, with the same loss: it
    determines the axis where there are few lines, and has little weight if many lines contradict it.

    Parameters
    ----------
    lines : sequence of LineFit
        Lines; at least two without a prior.
    response : Response
        Initial values.
    prior : EnergyAxis, optional
        Energy axis of the file.

    Returns
    -------
    Response
        Response with the fitted axis.
    (2, 2) array
        Covariance of gain and zero, keV squared.
    """
    energy_kev = np.array([line.energy_kev for line in lines])
    channel = np.array([line.channel for line in lines])
    error_kev = np.array([line.error_kev for line in lines])
    full_error = np.hypot(error_kev, _NONLINEARITY_ERROR_KEV)
    sigma = np.hypot(error_kev, _LINE_SHAPE_ERROR_KEV) if prior is None else full_error
    centre = float(np.average(channel, weights=1 / sigma**2))
    # design rows (energy at the centre, gain) and measured values, each divided by its standard deviation
    design = np.stack([np.ones_like(channel), channel - centre], axis=1) / sigma[:, None]
    target = energy_kev / sigma
    if prior is not None:
        gain_spread_kev = _FILE_GAIN_SPREAD * prior.gain_kev
        design = np.vstack([design, [0.0, 1.0 / gain_spread_kev], np.array([1.0, -centre]) / _FILE_ZERO_SPREAD_KEV])
        target = np.append(target, [prior.gain_kev / gain_spread_kev, prior.zero_kev / _FILE_ZERO_SPREAD_KEV])

    def misfit(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(design @ values - target)

    centre_kev = response.zero_kev + response.gain_kev * centre
    fit = least_squares(misfit, [centre_kev, response.gain_kev], loss="cauchy", x_scale=[1e-3, 1e-6])
    fitted_response = replace(response, gain_kev=float(fit.x[1]), zero_kev=float(fit.x[0] - fit.x[1] * centre))
    squared_residual = misfit(fit.x) ** 2
    weighted_design = design / np.sqrt(1.0 + squared_residual)[:, None]
    weighted_design[: sigma.size] *= (sigma / full_error)[:, None]
    variance_factor = max(1.0, float(np.sum(np.minimum(squared_residual, 9.0)) / max(len(target) - 2, 1)))
    covariance = np.linalg.pinv(weighted_design.T @ weighted_design) * variance_factor
    transformation = np.array([[0.0, 1.0], [1.0, -centre]])
    return fitted_response, transformation @ covariance @ transformation.T


def resolution_errors(lines: Sequence[LineFit], response: Response) -> tuple[float, float]:
    """Return the standard deviations of the noise, keV, and of the Fano factor.

    They are those of a linear fit ``FWHM**2 = noise**2 + 2.355**2 * 3.85 eV * fano * energy`` to the widths of the
    lines. The errors of the widths are those of the counts and 1.5 %; the prior is that of ``fit_response``.
    """
    energy_kev = np.array([line.energy_kev for line in lines])
    fwhm_kev = np.asarray(response.fwhm_kev(energy_kev))
    error = 2.0 * fwhm_kev**2 * np.hypot([line.fwhm_error for line in lines], _WIDTH_ERROR)
    slope = FWHM_PER_SIGMA**2 * EPSILON_SI_KEV * energy_kev
    design = np.stack([np.ones_like(energy_kev), slope], axis=1) / error[:, None]
    information = design.T @ design + np.diag([0.0, _FANO_SPREAD**-2])
    covariance = np.linalg.pinv(information)
    noise = max(response.noise_fwhm_kev, _NOISE_RANGE_KEV[0])
    return float(np.sqrt(covariance[0, 0]) / (2.0 * noise)), float(np.sqrt(covariance[1, 1]))


def guess_noise(fwhm_channels: NDArray[np.float64], gain_kev: float, zero_kev: float) -> float:
    """Return the electronic noise, keV FWHM, from the widths of the peaks between 3 and 13 keV."""
    energy_kev = zero_kev + gain_kev * np.arange(fwhm_channels.size)
    in_range = (energy_kev > 3) & (energy_kev < 13)
    is_used = in_range if in_range.any() else np.ones(energy_kev.size, dtype=bool)
    fano_fwhm_kev = resolution_fwhm_kev(np.asarray(energy_kev, dtype=np.float64), 0.0, _TYPICAL_FANO)
    squared_noise = float(np.median((fwhm_channels[is_used] * gain_kev) ** 2 - fano_fwhm_kev[is_used] ** 2))
    return float(np.clip(np.sqrt(max(squared_noise, 0.0)), 0.04, 0.25))
