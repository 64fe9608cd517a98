"""Fit of gain, zero, electronic noise and Fano factor to the lines of a spectrum, starting from approximate values."""

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
_RELATIVE_MODEL_ERROR = 0.02
_TYPICAL_FANO = 0.115
_FANO_SPREAD = 0.008
_NOISE_RANGE_KEV = (0.02, 0.30)
_FANO_RANGE = (0.08, 0.16)
_MIN_GROUP_SIGMAS = 6.0
_MAX_BLENDED_SHARE = 0.15
_LINE_SHAPE_ERROR_KEV = 0.001
"""Error of line centres due to peak tails and curved background in keV. The value comes from simulated strong lines."""
_NONLINEARITY_ERROR_KEV = 0.003
"""Error of line centres due to the non-linearity of real detectors, in keV. Low-energy lines are up to 6 eV above a
linear axis. The axis in a file was often fitted to many lines. Such an axis may be more accurate than a fit to the few
lines of one spectrum.
"""
_FILE_GAIN_SPREAD, _FILE_ZERO_SPREAD_KEV = 0.001, 0.01
_NEIGHBOUR_AREA_ERROR = 0.05
_RELATIVE_WIDTH_ERROR = 0.015
_LINE_NAMES = {("K", True): "KL3", ("K", False): "KM3", ("L", True): "L3M5", ("M", True): "M5N7"}


@dataclass(frozen=True)
class Response:
    """Energy axis and resolution of a detector.

    Parameters
    ----------
    gain_kev, zero_kev : float
        Width of a channel and energy of channel 0, in keV.
    noise_fwhm_kev : float
        FWHM of the electronic noise, in keV.
    fano : float
        Fano factor.
    """

    gain_kev: float
    zero_kev: float
    noise_fwhm_kev: float
    fano: float

    def axis(self, n_channel: int) -> EnergyAxis:
        """Return the energy axis for a number of channels."""
        return EnergyAxis(self.gain_kev, self.zero_kev, n_channel)

    def fwhm_kev(self, energy_kev: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Return the FWHM of a peak at each energy, in keV."""
        return resolution_fwhm_kev(np.asarray(energy_kev, dtype=np.float64), self.noise_fwhm_kev, self.fano)


@dataclass(frozen=True)
class LineFit:
    """Measured centre, area and width of one line group.

    Parameters
    ----------
    name : str
        Element and IUPAC name of the group's strongest line, ``Fe-KL3``.
    energy_kev : float
        Tabulated energy in keV.
    offset_kev : float
        Measured minus tabulated energy, in keV.
    error_kev : float
        Standard deviation of the measured energy, in keV. The standard deviation includes counting statistics and a 5 %
        uncertainty of the subtracted neighbouring lines.
    channel : float
        Measured centre in channels.
    area : float
        Net counts of the peak.
    significance : float
        Net counts divided by their standard deviation.
    is_blended : bool
        Whether other lines add more than 15 % of the line's counts, or the centre is at the limit of its range.
    fwhm_error : float
        Standard deviation of the peak width, relative to the width.
    is_leading : bool
        Whether this is the strongest group of its family.
    """

    name: str
    energy_kev: float
    offset_kev: float
    error_kev: float
    channel: float
    area: float
    significance: float
    is_blended: bool
    fwhm_error: float = float("inf")
    is_leading: bool = True


class GroupModel:
    """Model of a spectrum: background, line groups with their escape peaks, and sum peaks. Areas are fitted.

    Sum peaks overlap lines from 10 to 17 keV. Escape peaks overlap the lines of calcium to iron. Without these peaks in
    the model, the fitted centres of overlapped lines would be biased.

    Parameters
    ----------
    counts : (n_channel,) array
        Sum spectrum.
    groups : sequence of LineGroup
        Line groups to fit.
    response : Response
        Energy axis and resolution.
    convolutions : pair of (n,) arrays, optional
        Result of ``self_convolution``, by default for the sum spectrum.
    """

    def __init__(
        self,
        counts: NDArray[np.float64],
        groups: Sequence[LineGroup],
        response: Response,
        convolutions: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    ) -> None:
        self.counts = counts
        self.groups = tuple(groups)
        axis = response.axis(counts.size)
        fwhm = response.fwhm_kev(axis.energy_kev) / axis.gain_kev
        self.background = snip(counts, fwhm, window_per_fwhm=_BACKGROUND_FWHM)
        line_patterns = [_lines_with_escape_peaks(group) for group in self.groups]
        self._energy_kev = np.concatenate([energy_kev for energy_kev, _ in line_patterns] or [np.zeros(0)])
        self._photon_fraction = np.concatenate(
            [photon_fraction for _, photon_fraction in line_patterns] or [np.zeros(0)]
        )
        self._group_index = np.repeat(
            np.arange(len(line_patterns)), [energy_kev.size for energy_kev, _ in line_patterns]
        )
        self.sum_peaks = sum_peaks(
            self_convolution(counts[None, :]) if convolutions is None else convolutions,
            float(counts.sum()),
            axis,
            fwhm,
            _BACKGROUND_FWHM,
        )
        self.sigma = np.sqrt(np.maximum(counts, 1.0) + (_RELATIVE_MODEL_ERROR * counts) ** 2)
        self.is_fitted = (axis.energy_kev > _FIT_RANGE_KEV[0]) & (axis.energy_kev < _FIT_RANGE_KEV[1])
        # The first recorded channels are not fitted, because the electronic threshold resembles a peak.
        self.is_fitted &= np.arange(counts.size) > np.flatnonzero(counts > 0)[0] + int(2 * np.median(fwhm))

    def design_matrix(self, response: Response) -> NDArray[np.float64]:
        """Return (n_channel, n_group + 1) spectra: each group with one count, and the sum peaks in the last column."""
        axis = response.axis(self.counts.size)
        fwhm_kev = response.fwhm_kev(self._energy_kev)
        group_columns = peak_columns(
            axis, self._energy_kev, self._photon_fraction, fwhm_kev, self._group_index, len(self.groups)
        )
        return np.column_stack([group_columns, self.sum_peaks])

    def fit_areas(self, design_matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the least-squares areas of the groups and of the sum peaks (non-negative, in counts)."""
        weighted_design = (design_matrix / self.sigma[:, None])[self.is_fitted]
        column_norms = np.maximum(np.sqrt((weighted_design**2).sum(axis=0)), 1e-12)
        scaled_net_counts = ((self.counts - self.background) / self.sigma)[self.is_fitted]
        return np.asarray(
            nnls(weighted_design / column_norms, scaled_net_counts, maxiter=20 * column_norms.size)[0] / column_norms
        )

    def satellite_counts(self, response: Response, areas: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the counts of all satellites in each channel, for given areas of the groups.

        Satellites are not fitted, because their uncertain intensity ratios would bias the fit. At a weak line of
        another element, satellites can contribute half of the counts.
        """
        axis = response.axis(self.counts.size)
        total_counts = np.zeros(self.counts.size)
        for group, area in zip(self.groups, areas[:-1], strict=True):
            fwhm_kev = response.fwhm_kev(group.satellite_kev)
            total_counts += area * peak_counts(
                axis, group.satellite_kev, group.satellite_fraction / group.strength, fwhm_kev
            )
        return total_counts

    def residuals(self, design_matrix: NDArray[np.float64], areas: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return modelled minus measured counts of the fitted channels, in standard deviations."""
        return np.asarray(((design_matrix @ areas + self.background - self.counts) / self.sigma)[self.is_fitted])


def _lines_with_escape_peaks(group: LineGroup) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return energies (keV) and relative counts: first the lines of a group, then their escape peaks."""
    energy_kev, photon_fraction = group.energy_kev, group.photon_fraction / group.strength
    escape_fraction = escape_share(_SILICON_DETECTOR, energy_kev)
    escape_counts = photon_fraction * escape_fraction / (1.0 - escape_fraction)
    escape_peaks = [
        (energy_kev - line_kev, escape_counts * escape_rate)
        for line_kev, escape_rate in escape_lines(_SILICON_DETECTOR)
        if escape_counts.max() > 1e-5
    ]
    all_energies_kev, all_counts = zip((energy_kev, photon_fraction), *escape_peaks, strict=True)
    return np.concatenate(all_energies_kev), np.concatenate(all_counts)


def candidate_groups(response: Response, counts: NDArray[np.float64]) -> list[LineGroup]:
    """Return the line groups of all candidate families that lie in the fitted range of the spectrum."""
    axis = response.axis(counts.size)
    stop_kev = min(axis.stop_kev, _FIT_RANGE_KEV[1])
    groups_by_family = [line_groups(family) for family in COMMON_FAMILIES + RARE_FAMILIES + SCATTERED_L_FAMILIES]
    groups_in_range = [
        groups for groups in groups_by_family if groups and _FIT_RANGE_KEV[0] < groups[0].centre_kev < stop_kev
    ]
    return [group for groups in groups_in_range for group in groups if group.centre_kev < stop_kev]


def significant_groups(model: GroupModel, response: Response) -> list[LineGroup]:
    """Return the groups of every family whose strongest group is significant."""
    design_matrix = model.design_matrix(response)
    areas = model.fit_areas(design_matrix)
    significant_families = {
        group.family
        for group, group_column, area in zip(model.groups, design_matrix.T[:-1], areas[:-1], strict=True)
        if group.is_leading and area > _MIN_GROUP_SIGMAS * _area_error(model, group_column)
    }
    return [group for group in model.groups if group.family in significant_families]


def _area_error(model: GroupModel, group_column: NDArray[np.float64]) -> float:
    """Return the standard deviation of a group's area, in counts, if all other areas are known exactly."""
    fisher_information = float(np.sum((group_column / model.sigma)[model.is_fitted] ** 2))
    return float(1 / np.sqrt(max(fisher_information, 1e-30)))


def fit_response(model: GroupModel, start_response: Response, *, axis_free: bool = True) -> Response:
    """Fit gain, zero, noise and Fano factor together with the areas of the line groups.

    A prior keeps the Fano factor near 0.115, because a few lines cannot determine both the Fano factor and the noise.
    """
    pivot_kev = 8.0

    def response_from(parameters: NDArray[np.float64]) -> Response:
        gain_kev = start_response.gain_kev * (1 + 1e-3 * parameters[0])
        zero_kev = start_response.zero_kev + (pivot_kev - start_response.zero_kev) / start_response.gain_kev * (
            start_response.gain_kev - gain_kev
        )
        return Response(
            float(gain_kev), float(zero_kev + 1e-2 * parameters[1]), float(parameters[2]), float(parameters[3])
        )

    def weighted_residuals(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        candidate_response = response_from(parameters)
        design_matrix = model.design_matrix(candidate_response)
        return np.append(
            model.residuals(design_matrix, model.fit_areas(design_matrix)),
            (candidate_response.fano - _TYPICAL_FANO) / _FANO_SPREAD,
        )

    max_axis_change = 20.0 if axis_free else 1e-6
    initial_values = [
        0.0,
        0.0,
        np.clip(start_response.noise_fwhm_kev, 0.03, 0.28),
        np.clip(start_response.fano, 0.085, 0.155),
    ]
    lower_bounds = [-max_axis_change, -max_axis_change, _NOISE_RANGE_KEV[0], _FANO_RANGE[0]]
    upper_bounds = [max_axis_change, max_axis_change, _NOISE_RANGE_KEV[1], _FANO_RANGE[1]]
    step_sizes = [1e-2, 1e-2, 1e-3, 1e-2]
    fit = least_squares(
        weighted_residuals,
        initial_values,
        bounds=(lower_bounds, upper_bounds),
        loss="soft_l1",
        x_scale=[1, 1, 0.02, 0.01],
        diff_step=step_sizes,
        max_nfev=25,
    )
    return response_from(fit.x)


def measure_lines(model: GroupModel, response: Response) -> list[LineFit]:
    """Measure each line group separately, after subtraction of all other groups."""
    design_matrix = model.design_matrix(response)
    areas = model.fit_areas(design_matrix)
    modelled_counts = design_matrix @ areas + model.satellite_counts(response, areas)
    group_rank: dict[str, int] = {}
    line_fits = []
    for group_index, group in enumerate(model.groups):
        group_rank[group.family] = group_rank.get(group.family, -1) + 1
        transition = _LINE_NAMES.get((group.family[-1], group_rank[group.family] == 0))
        if transition is None or group_rank[group.family] > 1 or areas[group_index] <= 0:
            continue
        neighbour_counts = modelled_counts - design_matrix[:, group_index] * areas[group_index]
        line_fit = _measure_line(model, response, group, neighbour_counts, f"{group.family[:-2]}-{transition}")
        if line_fit is not None:
            line_fits.append(line_fit)
    return line_fits


def proven_lines(lines: Sequence[LineFit]) -> list[LineFit]:
    """Return the lines of each family whose strongest line was measured.

    A family is not proven if only weaker lines were measured, because these may be residuals of neighbouring lines. An
    example is bromine's KM3 if mercury overlaps bromine's KL3.
    """
    leading_families = {family_of(line) for line in lines if line.is_leading}
    return [line for line in lines if family_of(line) in leading_families]


def family_of(line: LineFit) -> str:
    """Return the name of a line's family, ``Fe_K``."""
    symbol, transition = line.name.split("-")
    return f"{symbol}_{transition[0]}"


def _measure_line(
    model: GroupModel, response: Response, group: LineGroup, neighbour_counts: NDArray[np.float64], line_name: str
) -> LineFit | None:
    """Fit area, shift, width and linear background of a line group. Return None if the peak has too few channels."""
    axis = response.axis(model.counts.size)
    fwhm = float(response.fwhm_kev(group.centre_kev))
    is_in_window = np.abs(axis.energy_kev - group.centre_kev) < 1.1 * fwhm
    if is_in_window.sum() < 6:
        return None
    offset_axis_kev = axis.energy_kev[is_in_window] - group.centre_kev
    net_counts = (model.counts - model.background - neighbour_counts)[is_in_window]
    sigma = np.sqrt(np.maximum(model.counts[is_in_window], 1.0))
    edges_kev = (
        np.append(axis.energy_kev[is_in_window], axis.energy_kev[is_in_window][-1] + axis.gain_kev)
        - 0.5 * axis.gain_kev
    )
    peak_height = max(float(net_counts.max()), 1.0)
    area_scale = peak_height * fwhm / axis.gain_kev
    linear_background = np.stack(
        [np.full(offset_axis_kev.size, peak_height), peak_height * offset_axis_kev / fwhm], axis=1
    )

    def peak_and_slopes(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        return area_scale * _peak_and_slopes(group, edges_kev, parameters[1], parameters[2], response)

    def weighted_residuals(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(
            (parameters[0] * peak_and_slopes(parameters)[:, 0] + linear_background @ parameters[3:] - net_counts)
            / sigma
        )

    def jacobian(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        return (
            np.hstack([peak_and_slopes(parameters) * [1.0, parameters[0], parameters[0]], linear_background])
            / sigma[:, None]
        )

    lower_bounds, upper_bounds = [0.0, -0.6 * fwhm, 0.7, -0.5, -0.5], [5.0, 0.6 * fwhm, 1.4, 0.5, 0.5]
    fit = least_squares(
        weighted_residuals, [1.0, 0.0, 1.0, 0.0, 0.0], jac=jacobian, bounds=(lower_bounds, upper_bounds), max_nfev=60
    )
    inverse_jacobian = np.linalg.pinv(fit.jac)
    parameter_variances = np.maximum((inverse_jacobian**2).sum(axis=1), 1e-12)
    neighbour_error_kev = float(inverse_jacobian[1] @ (_NEIGHBOUR_AREA_ERROR * neighbour_counts[is_in_window] / sigma))
    error_factor = max(1.0, float(np.sqrt(2 * fit.cost / max(is_in_window.sum() - 5, 1))))
    area, offset_kev = fit.x[0] * area_scale, float(fit.x[1])
    area_error = float(np.sqrt(parameter_variances[0])) * area_scale
    is_in_core = np.abs(offset_axis_kev) < 0.6 * fwhm
    blended_share = float(
        np.clip(neighbour_counts[is_in_window][is_in_core], 0, None).sum()
        / max(np.clip(net_counts[is_in_core], 0, None).sum(), 1.0)
    )
    is_blended = blended_share > _MAX_BLENDED_SHARE or abs(offset_kev) > 0.55 * fwhm
    energy_kev = group.centre_kev
    return LineFit(
        name=line_name,
        energy_kev=energy_kev,
        offset_kev=offset_kev,
        error_kev=float(np.hypot(np.sqrt(parameter_variances[1]) * error_factor, neighbour_error_kev)),
        channel=axis.channel(energy_kev + offset_kev),
        area=area,
        significance=area / max(area_error, 1e-9),
        is_blended=is_blended,
        fwhm_error=float(np.sqrt(parameter_variances[2])) * error_factor,
        is_leading=group.is_leading,
    )


def _peak_and_slopes(
    group: LineGroup, edges_kev: NDArray[np.float64], shift_kev: float, width_factor: float, response: Response
) -> NDArray[np.float64]:
    """Return the (n_channel, 3) spectrum of a group with one count and its derivatives by shift and width factor."""
    sigma = (response.fwhm_kev(group.energy_kev) * width_factor / FWHM_PER_SIGMA)[:, None]
    z = (edges_kev - group.energy_kev[:, None] - shift_kev) / sigma
    gaussian_density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    derivative_curves = np.stack([ndtr(z), -gaussian_density / sigma, -gaussian_density * z / width_factor])
    return np.asarray(
        np.diff(np.einsum("l,kle->ek", group.photon_fraction / group.strength, derivative_curves), axis=0)
    )


def regress_axis(
    lines: Sequence[LineFit], response: Response, prior_axis: EnergyAxis | None = None
) -> tuple[Response, NDArray[np.float64]]:
    """Fit gain and zero to the measured line centres. The fit tolerates a few misassigned lines.

    A misassigned line, such as a residual of neighbouring lines, can be far from its tabulated energy. The Cauchy loss
    gives such outliers little weight. A prior axis adds two measurements, gain and zero, with the same loss. With few
    lines, the prior determines the axis. If many lines contradict the prior, it has little weight.

    Parameters
    ----------
    lines : sequence of LineFit
        Measured lines. Without a prior axis, at least two lines are needed.
    response : Response
        Initial gain and zero, and the resolution, which is not changed.
    prior_axis : EnergyAxis, optional
        Energy axis of the file.

    Returns
    -------
    Response
        Response with the fitted gain and zero.
    (2, 2) array
        Covariance of gain and zero, in keV squared.
    """
    energy_kev = np.array([line.energy_kev for line in lines])
    channels = np.array([line.channel for line in lines])
    error_kev = np.array([line.error_kev for line in lines])
    full_error_kev = np.hypot(error_kev, _NONLINEARITY_ERROR_KEV)
    sigma_kev = np.hypot(error_kev, _LINE_SHAPE_ERROR_KEV) if prior_axis is None else full_error_kev
    mean_channel = float(np.average(channels, weights=1 / sigma_kev**2))
    # columns: energy at the mean channel, and gain; each row is divided by the standard deviation of its line
    design_matrix = np.stack([np.ones_like(channels), channels - mean_channel], axis=1) / sigma_kev[:, None]
    scaled_energies = energy_kev / sigma_kev
    if prior_axis is not None:
        gain_spread_kev = _FILE_GAIN_SPREAD * prior_axis.gain_kev
        design_matrix = np.vstack(
            [design_matrix, [0.0, 1.0 / gain_spread_kev], np.array([1.0, -mean_channel]) / _FILE_ZERO_SPREAD_KEV]
        )
        scaled_energies = np.append(
            scaled_energies, [prior_axis.gain_kev / gain_spread_kev, prior_axis.zero_kev / _FILE_ZERO_SPREAD_KEV]
        )

    def weighted_residuals(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(design_matrix @ parameters - scaled_energies)

    centre_kev = response.zero_kev + response.gain_kev * mean_channel
    fit = least_squares(weighted_residuals, [centre_kev, response.gain_kev], loss="cauchy", x_scale=[1e-3, 1e-6])
    fitted_response = replace(response, gain_kev=float(fit.x[1]), zero_kev=float(fit.x[0] - fit.x[1] * mean_channel))
    squared_residual = weighted_residuals(fit.x) ** 2
    weighted_design = design_matrix / np.sqrt(1.0 + squared_residual)[:, None]
    weighted_design[: sigma_kev.size] *= (sigma_kev / full_error_kev)[:, None]
    variance_factor = max(1.0, float(np.sum(np.minimum(squared_residual, 9.0)) / max(len(scaled_energies) - 2, 1)))
    covariance = np.linalg.pinv(weighted_design.T @ weighted_design) * variance_factor
    covariance_transformation = np.array([[0.0, 1.0], [1.0, -mean_channel]])
    return fitted_response, covariance_transformation @ covariance @ covariance_transformation.T


def resolution_errors(lines: Sequence[LineFit], response: Response) -> tuple[float, float]:
    """Return the standard deviation of the noise (in keV) and that of the Fano factor.

    Both standard deviations result from a linear fit of ``FWHM**2 = noise**2 + 2.355**2 * 3.85 eV * fano * energy`` to
    the line widths. The error of each width includes counting statistics and 1.5 % of the width. The prior of the Fano
    factor is that of ``fit_response``.
    """
    energy_kev = np.array([line.energy_kev for line in lines])
    fwhm_kev = np.asarray(response.fwhm_kev(energy_kev))
    squared_fwhm_error = 2.0 * fwhm_kev**2 * np.hypot([line.fwhm_error for line in lines], _RELATIVE_WIDTH_ERROR)
    fano_slope = FWHM_PER_SIGMA**2 * EPSILON_SI_KEV * energy_kev
    design_matrix = np.stack([np.ones_like(energy_kev), fano_slope], axis=1) / squared_fwhm_error[:, None]
    information_matrix = design_matrix.T @ design_matrix + np.diag([0.0, _FANO_SPREAD**-2])
    covariance = np.linalg.pinv(information_matrix)
    noise_fwhm_kev = max(response.noise_fwhm_kev, _NOISE_RANGE_KEV[0])
    return float(np.sqrt(covariance[0, 0]) / (2.0 * noise_fwhm_kev)), float(np.sqrt(covariance[1, 1]))


def guess_noise(fwhm_channels: NDArray[np.float64], gain_kev: float, zero_kev: float) -> float:
    """Estimate the electronic noise (FWHM in keV) from the peak widths between 3 and 13 keV."""
    energy_kev = zero_kev + gain_kev * np.arange(fwhm_channels.size)
    is_in_energy_range = (energy_kev > 3) & (energy_kev < 13)
    is_used_channel = is_in_energy_range if is_in_energy_range.any() else np.ones(energy_kev.size, dtype=bool)
    fano_fwhm_kev = resolution_fwhm_kev(np.asarray(energy_kev, dtype=np.float64), 0.0, _TYPICAL_FANO)
    squared_noise = float(
        np.median((fwhm_channels[is_used_channel] * gain_kev) ** 2 - fano_fwhm_kev[is_used_channel] ** 2)
    )
    return float(np.clip(np.sqrt(max(squared_noise, 0.0)), 0.04, 0.25))
