"""From a good guess of the axis to gain, zero, noise and Fano factor, and the lines that prove them."""

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

_CRYSTAL = Detector()
_BACKGROUND_FWHM = 2.0
_FIT_RANGE_KEV = (1.6, 17.0)
_MODEL_ERROR = 0.02
_FANO = 0.115
_FANO_SPREAD = 0.008
_NOISE_RANGE_KEV = (0.02, 0.30)
_FANO_RANGE = (0.08, 0.16)
_MIN_SIGNIFICANCE = 6.0
_BLEND_LIMIT = 0.15
# Tails and curved background move the strong lines of simulated detectors by about one eV, soft ones downwards.
_SHAPE_ERROR_KEV = 0.001
# Soft lines of real detectors are up to 6 eV above a linear axis. With this, an earlier axis fitted to many lines may
# be more accurate than one through the few lines of this spectrum.
_REAL_SHAPE_ERROR_KEV = 0.003
_FILE_GAIN_SPREAD, _FILE_ZERO_SPREAD_KEV = 0.001, 0.01
_NEIGHBOUR_ERROR = 0.05
_WIDTH_ERROR = 0.015
_IUPAC = {("K", True): "KL3", ("K", False): "KM3", ("L", True): "L3M5", ("M", True): "M5N7"}


@dataclass(frozen=True)
class Response:
    """Energy axis and resolution.

    Parameters
    ----------
    gain_kev, zero_kev, noise_fwhm_kev : float
        keV.
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
        """Peak width, keV."""
        return resolution_fwhm_kev(np.asarray(energy_kev, dtype=np.float64), self.noise_fwhm_kev, self.fano)


@dataclass(frozen=True)
class LineFit:
    """One line group, measured individually.

    Parameters
    ----------
    name : str
        ``Fe-KL3``.
    energy_kev, offset_kev, error_kev : float
        Tabulated energy; measured minus tabulated; one standard deviation of the measured: its counts, and 5 % of the
        neighbours that were subtracted.
    channel : float
        Measured centre, channels.
    area, significance : float
        Counts, and counts over their deviation.
    blended : bool
        True if other lines contribute more than 15 % of the counts under the peak.
    fwhm_error : float
        One standard deviation of the peak's width over that width.
    leading : bool
        Whether it is the strongest group of its family.
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
    """The spectrum as background plus line groups (their escape peaks with them) and sum peaks, with free areas.

    Sum peaks overlap lines from 10 to 17 keV and escape peaks those of calcium to iron; without them, the overlapped
    lines would be displaced.
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
        # The electronic threshold is not a peak: channels below the first recorded ones are not fitted.
        self.used &= np.arange(counts.size) > np.flatnonzero(counts > 0)[0] + int(2 * np.median(fwhm))

    def design(self, response: Response) -> NDArray[np.float64]:
        """(n_channel, n_group + 1) counts per channel for one count in each group, and in the sum peaks."""
        axis = response.axis(self.counts.size)
        width = response.fwhm_kev(self._energy_kev)
        columns = peak_columns(axis, self._energy_kev, self._share, width, self._group, len(self.groups))
        return np.column_stack([columns, self.sum_peaks])

    def areas(self, design: NDArray[np.float64]) -> NDArray[np.float64]:
        """Non-negative areas that fit best, counts."""
        weighted = (design / self.sigma[:, None])[self.used]
        scale = np.maximum(np.sqrt((weighted**2).sum(axis=0)), 1e-12)
        target = ((self.counts - self.background) / self.sigma)[self.used]
        return np.asarray(nnls(weighted / scale, target, maxiter=20 * scale.size)[0] / scale)

    def satellites(self, response: Response, areas: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n_channel,) counts of the lines that are too weak for a group, by the areas of the groups they go with.

        They are excluded from the fit, which their uncertain ratios would bias; but they can make up half of a weak
        line of another element.
        """
        axis = response.axis(self.counts.size)
        total = np.zeros(self.counts.size)
        for group, area in zip(self.groups, areas[:-1], strict=True):
            width = response.fwhm_kev(group.satellite_kev)
            total += area * peak_counts(axis, group.satellite_kev, group.satellite_share / group.strength, width)
        return total

    def residual(self, design: NDArray[np.float64], areas: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weighted misfit over the channels in use."""
        return np.asarray(((design @ areas + self.background - self.counts) / self.sigma)[self.used])


def _with_escape(group: LineGroup) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Energies, keV, and counts over the group's of its lines and, behind them, of silicon's escape."""
    energy, share = group.energy_kev, group.share / group.strength
    escaped = escape_share(_CRYSTAL, energy)
    lost = share * escaped / (1.0 - escaped)
    escapes = [(energy - line_kev, lost * rate) for line_kev, rate in escape_lines(_CRYSTAL) if lost.max() > 1e-5]
    energies, counts = zip((energy, share), *escapes, strict=True)
    return np.concatenate(energies), np.concatenate(counts)


def candidate_groups(response: Response, counts: NDArray[np.float64]) -> list[LineGroup]:
    """Line groups of all candidate families of the spectrum."""
    axis = response.axis(counts.size)
    stop = min(axis.stop_kev, _FIT_RANGE_KEV[1])
    families = [line_groups(family) for family in COMMON_FAMILIES + RARE_FAMILIES + SCATTERED_L_FAMILIES]
    fitting = [groups for groups in families if groups and _FIT_RANGE_KEV[0] < groups[0].centre_kev < stop]
    return [group for groups in fitting for group in groups if group.centre_kev < stop]


def significant_groups(model: GroupModel, response: Response) -> list[LineGroup]:
    """Return the families whose strongest group is significant, with all their groups."""
    design = model.design(response)
    areas = model.areas(design)
    areas_of = {
        group.family
        for group, column, area in zip(model.groups, design.T[:-1], areas[:-1], strict=True)
        if group.leading and area > _MIN_SIGNIFICANCE * _area_error(model, column)
    }
    return [group for group in model.groups if group.family in areas_of]


def _area_error(model: GroupModel, column: NDArray[np.float64]) -> float:
    """Deviation of a group's area with the model error, for known neighbours."""
    information = float(np.sum((column / model.sigma)[model.used] ** 2))
    return float(1 / np.sqrt(max(information, 1e-30)))


def fit_response(model: GroupModel, start: Response, *, axis_free: bool = True) -> Response:
    """Refine gain, zero, noise and Fano factor together; the areas are solved inside each step.

    A prior keeps the Fano factor near 0.115: few lines cannot separate it from the noise.
    """
    centre_kev = 8.0

    def response(values: NDArray[np.float64]) -> Response:
        gain = start.gain_kev * (1 + 1e-3 * values[0])
        pinned = start.zero_kev + (centre_kev - start.zero_kev) / start.gain_kev * (start.gain_kev - gain)
        return Response(float(gain), float(pinned + 1e-2 * values[1]), float(values[2]), float(values[3]))

    def misfit(values: NDArray[np.float64]) -> NDArray[np.float64]:
        columns = response(values)
        design = model.design(columns)
        return np.append(model.residual(design, model.areas(design)), (columns.fano - _FANO) / _FANO_SPREAD)

    reach = 20.0 if axis_free else 1e-6
    first = [0.0, 0.0, np.clip(start.noise_fwhm_kev, 0.03, 0.28), np.clip(start.fano, 0.085, 0.155)]
    low = [-reach, -reach, _NOISE_RANGE_KEV[0], _FANO_RANGE[0]]
    high = [reach, reach, _NOISE_RANGE_KEV[1], _FANO_RANGE[1]]
    step = [1e-2, 1e-2, 1e-3, 1e-2]
    fit = least_squares(
        misfit,
        first,
        bounds=(low, high),
        loss="soft_l1",
        x_scale=[1, 1, 0.02, 0.01],
        diff_step=step,
        max_nfev=25,
    )
    return response(fit.x)


def measure_lines(model: GroupModel, response: Response) -> list[LineFit]:
    """Measure the centre of each line group with a separate peak, after subtraction of the other groups."""
    design = model.design(response)
    areas = model.areas(design)
    modelled = design @ areas + model.satellites(response, areas)
    rank: dict[str, int] = {}
    lines = []
    for number, group in enumerate(model.groups):
        rank[group.family] = rank.get(group.family, -1) + 1
        name = _IUPAC.get((group.family[-1], rank[group.family] == 0))
        if name is None or rank[group.family] > 1 or areas[number] <= 0:
            continue
        other_lines = modelled - design[:, number] * areas[number]
        fit = _measure(model, response, group, other_lines, f"{group.family[:-2]}-{name}")
        if fit is not None:
            lines.append(fit)
    return lines


def proven_lines(lines: Sequence[LineFit]) -> list[LineFit]:
    """Exclude weaker lines of families whose leading line is not among them.

    A family whose leading line is overlapped is not proven: its presumed weaker line (bromine's KM3, where mercury
    overlaps KL3) may be the residual of neighbouring lines at any energy.
    """
    leading = {family_of(line) for line in lines if line.leading}
    return [line for line in lines if family_of(line) in leading]


def family_of(line: LineFit) -> str:
    """Return the family of a line, ``Fe_K``."""
    symbol, transition = line.name.split("-")
    return f"{symbol}_{transition[0]}"


def _measure(
    model: GroupModel, response: Response, group: LineGroup, other_lines: NDArray[np.float64], name: str
) -> LineFit | None:
    """Fit area, shift, width and a straight background in a window of one FWHM on either side."""
    axis = response.axis(model.counts.size)
    fwhm = float(response.fwhm_kev(group.centre_kev))
    window = np.abs(axis.energy_kev - group.centre_kev) < 1.1 * fwhm
    if window.sum() < 6:
        return None
    x = axis.energy_kev[window] - group.centre_kev
    y = (model.counts - model.background - other_lines)[window]
    sigma = np.sqrt(np.maximum(model.counts[window], 1.0))
    edges = np.append(axis.energy_kev[window], axis.energy_kev[window][-1] + axis.gain_kev) - 0.5 * axis.gain_kev
    height = max(float(y.max()), 1.0)
    scale = height * fwhm / axis.gain_kev
    straight = np.stack([np.full(x.size, height), height * x / fwhm], axis=1)

    def peak(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return scale * _peak_and_slopes(group, edges, values[1], values[2], response)

    def misfit(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((values[0] * peak(values)[:, 0] + straight @ values[3:] - y) / sigma)

    def slopes(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.hstack([peak(values) * [1.0, values[0], values[0]], straight]) / sigma[:, None]

    low, high = [0.0, -0.6 * fwhm, 0.7, -0.5, -0.5], [5.0, 0.6 * fwhm, 1.4, 0.5, 0.5]
    fit = least_squares(misfit, [1.0, 0.0, 1.0, 0.0, 0.0], jac=slopes, bounds=(low, high), max_nfev=60)
    inverse = np.linalg.pinv(fit.jac)
    variance = np.maximum((inverse**2).sum(axis=1), 1e-12)
    pulled = float(inverse[1] @ (_NEIGHBOUR_ERROR * other_lines[window] / sigma))
    inflate = max(1.0, float(np.sqrt(2 * fit.cost / max(window.sum() - 5, 1))))
    area, offset = fit.x[0] * scale, float(fit.x[1])
    area_error = float(np.sqrt(variance[0])) * scale
    core = np.abs(x) < 0.6 * fwhm
    foreign = float(np.clip(other_lines[window][core], 0, None).sum() / max(np.clip(y[core], 0, None).sum(), 1.0))
    blended = foreign > _BLEND_LIMIT or abs(offset) > 0.55 * fwhm
    energy = group.centre_kev
    return LineFit(
        name, energy, offset, float(np.hypot(np.sqrt(variance[1]) * inflate, pulled)), axis.channel(energy + offset),
        area, area / max(area_error, 1e-9), blended, float(np.sqrt(variance[2])) * inflate, group.leading,
    )  # fmt: skip


def _peak_and_slopes(
    group: LineGroup, edges_kev: NDArray[np.float64], shift_kev: float, widening: float, response: Response
) -> NDArray[np.float64]:
    """Return (n_channel, 3) counts of a group of one count, and how they change with its shift and its widening."""
    sigma = (response.fwhm_kev(group.energy_kev) * widening / FWHM_PER_SIGMA)[:, None]
    z = (edges_kev - group.energy_kev[:, None] - shift_kev) / sigma
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    curves = np.stack([ndtr(z), -density / sigma, -density * z / widening])
    return np.asarray(np.diff(np.einsum("l,kle->ek", group.share / group.strength, curves), axis=0))


def regress_axis(
    lines: Sequence[LineFit], response: Response, prior: EnergyAxis | None = None
) -> tuple[Response, NDArray[np.float64]]:
    """Fit gain and zero to the measured centres; a few wrong lines do not pull.

    A misassigned line (a residual of neighbours, for example) can be off by any amount. The loss is therefore Cauchy's,
    under which distant outliers have little weight. A prior axis enters as two more measurements, of gain and zero,
    under the same loss: it decides where few lines leave the axis open, and has little weight where many contradict it.

    Parameters
    ----------
    lines : sequence of LineFit
        Lines; at least two without a prior.
    response : Response
        Starting values.
    prior : EnergyAxis, optional
        The file's axis.

    Returns
    -------
    Response, (2, 2) array
        The response with its new axis; covariance of (gain, zero), keV.
    """
    energy = np.array([line.energy_kev for line in lines])
    channel = np.array([line.channel for line in lines])
    error = np.array([line.error_kev for line in lines])
    real = np.hypot(error, _REAL_SHAPE_ERROR_KEV)
    sigma = np.hypot(error, _SHAPE_ERROR_KEV) if prior is None else real
    centre = float(np.average(channel, weights=1 / sigma**2))
    # rows of (energy at the centre, gain) and the measured values, each over its deviation
    design = np.stack([np.ones_like(channel), channel - centre], axis=1) / sigma[:, None]
    target = energy / sigma
    if prior is not None:
        spread = _FILE_GAIN_SPREAD * prior.gain_kev
        design = np.vstack([design, [0.0, 1.0 / spread], np.array([1.0, -centre]) / _FILE_ZERO_SPREAD_KEV])
        target = np.append(target, [prior.gain_kev / spread, prior.zero_kev / _FILE_ZERO_SPREAD_KEV])

    def misfit(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(design @ values - target)

    middle = response.zero_kev + response.gain_kev * centre
    fit = least_squares(misfit, [middle, response.gain_kev], loss="cauchy", x_scale=[1e-3, 1e-6])
    fitted = replace(response, gain_kev=float(fit.x[1]), zero_kev=float(fit.x[0] - fit.x[1] * centre))
    off = misfit(fit.x) ** 2
    trusted = design / np.sqrt(1.0 + off)[:, None]
    trusted[: sigma.size] *= (sigma / real)[:, None]
    inflate = max(1.0, float(np.sum(np.minimum(off, 9.0)) / max(len(target) - 2, 1)))
    inner = np.linalg.pinv(trusted.T @ trusted) * inflate
    to_gain_zero = np.array([[0.0, 1.0], [1.0, -centre]])
    return fitted, to_gain_zero @ inner @ to_gain_zero.T


def resolution_errors(lines: Sequence[LineFit], response: Response) -> tuple[float, float]:
    """Return one standard deviation of noise, keV, and of the Fano factor.

    From the straight line ``FWHM**2 = noise**2 + 2.355**2 * 3.85 eV * fano * energy`` through the lines' widths, each
    good to its counts and to 1.5 percent, with the same prior of the Fano factor as ``fit_response``.
    """
    energy = np.array([line.energy_kev for line in lines])
    width = np.asarray(response.fwhm_kev(energy))
    error = 2.0 * width**2 * np.hypot([line.fwhm_error for line in lines], _WIDTH_ERROR)
    slope = FWHM_PER_SIGMA**2 * EPSILON_SI_KEV * energy
    design = np.stack([np.ones_like(energy), slope], axis=1) / error[:, None]
    information = design.T @ design + np.diag([0.0, _FANO_SPREAD**-2])
    covariance = np.linalg.pinv(information)
    noise = max(response.noise_fwhm_kev, _NOISE_RANGE_KEV[0])
    return float(np.sqrt(covariance[0, 0]) / (2.0 * noise)), float(np.sqrt(covariance[1, 1]))


def guess_noise(fwhm_channels: NDArray[np.float64], gain_kev: float, zero_kev: float) -> float:
    """Electronic noise, keV FWHM, from the width law of the peaks at half the spectrum's strong lines."""
    energy = zero_kev + gain_kev * np.arange(fwhm_channels.size)
    inside = (energy > 3) & (energy < 13)
    mask = inside if inside.any() else np.ones(energy.size, dtype=bool)
    expected = resolution_fwhm_kev(np.asarray(energy, dtype=np.float64), 0.0, _FANO)
    squared = float(np.median((fwhm_channels[mask] * gain_kev) ** 2 - expected[mask] ** 2))
    return float(np.clip(np.sqrt(max(squared, 0.0)), 0.04, 0.25))
