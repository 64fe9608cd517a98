"""Element areas from a linear fit with line ratios that vary as the forward model predicts.

    y = sum_f a_f (m_f + d_f) + scatter + background + noise
    S = diag(v + model error) + sum_f a_f**2 sum_k c_fk c_fk' + N**2 sum_k s_k s_k'
    P = (A' S^-1 A)^-1 A' S^-1,   area = P y
    sigma_f**2 = P_f**2 y + sum_g Q_fg a_g**2 + e_f N**2 + (AREA_ERROR a_f)**2,   Q_fg = sum_k (P_f c_gk)**2

A are the free columns: mean shapes m_f, lines of the anode, splines, mean scatter and sum peaks. Their changes c_fk and
s_k are from simulated stratigraphies of similar composition to a class of pixels. The matrix P is that of the class.
The standard deviation of a pixel follows from its counts y, its areas a and its total counts N, so that it remains
correct where the class describes the pixel badly. The method is generalised least squares (Aitken 1935) with a
covariance from the forward model.
"""

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from dask.system import CPU_COUNT
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import minimize_scalar, nnls

from underpaint.data import EnergyAxis
from underpaint.data.peaks import peak_columns, resolution_fwhm_kev
from underpaint.data.pile_up import pile_up_shape, self_convolution
from underpaint.elements._families import fwhm_channels
from underpaint.elements._selection import background_columns
from underpaint.elements.line_ratios import LineCounts, LineRatios
from underpaint.physics.instrument import Detector
from underpaint.runtime.threads import one_blas_thread

Array = NDArray[np.float64]
Single = NDArray[np.float32]

COUNTS_ERROR = 0.005
"""Model error relative to the counts of a bin."""
SLOPE_ERROR = 0.02
"""Model error relative to slope times FWHM, from errors of the energy axis and of the resolution."""
AREA_ERROR = 0.005
"""Relative error of an area, from atomic data and response."""
MIN_CLASS_SIGMAS = 8.0
"""Smallest significance, standard deviations, of a detected family in the sum of a class."""
MIN_PIXEL_SIGMAS = 10.0
"""Smallest significance, standard deviations, of a detected family in one of thousands of pixels."""
MIN_AREA_SHARE = 2e-4
"""Smallest area of a detected family relative to all counts; errors of the response and traces are smaller."""
N_CLASSES = 32
BINS_PER_FWHM = 3.0
MIN_HIDDEN_RATIO = 3.0
"""Smallest ratio of a family's deviation to that over the background alone at which others hide the family."""
_PEAK_STEP_FWHM = 0.7
"""Distance between the energies of unassigned peaks, FWHM; a peak between two of them loses 8 % of significance."""
_PEAK_MARGIN_KEV = 0.1
_MIN_INDEPENDENT_SHARE = 0.02
"""Smallest fraction of the squared norm of a detectable peak that is independent of the columns of the fit."""
_SOURCE_WINDOW_FWHM = 0.7, 1.2, 2.2
"""Half-width of the window of a source line, and limits of the adjacent windows, FWHM."""
_N_ROUNDS = 3
_MAX_MISFIT_RATIO = 0.8
_MIN_LEARNED_SHARE = 0.02
"""Smallest fraction of the prior variance that the data must remove to measure a weak family."""
_MISFIT_SMOOTHING_FWHM = 2.0
_SEED = 0
_CLASS_ATTRIBUTES = ("solution", "shapes", "common", "noise")
"""Attributes of a solver that are not needed to fit pixels."""


class Bins:
    """Bins of channels with widths proportional to the peak width.

    Parameters
    ----------
    axis : EnergyAxis
        Energy axis of the spectra.
    detector : Detector
        Detector whose resolution is used.
    used : (n_channel,) bool array
        Channels to fit; bins extend from the first to the last.
    per_fwhm : float
        Number of bins per FWHM; infinity gives a bin for every channel.
    """

    def __init__(
        self, axis: EnergyAxis, detector: Detector, used: NDArray[np.bool_], per_fwhm: float = BINS_PER_FWHM
    ) -> None:
        fwhm = fwhm_channels(detector, axis)
        first_channel, self.stop = int(np.flatnonzero(used)[0]), int(np.flatnonzero(used)[-1]) + 1
        first_channels = [first_channel]
        while (
            next_start := first_channels[-1] + max(1, round(float(fwhm[first_channels[-1]]) / per_fwhm))
        ) < self.stop:
            first_channels.append(next_start)
        self.start = np.asarray(first_channels)
        self.width = np.diff(np.append(self.start, self.stop)).astype(np.float64)
        self.fwhm = fwhm[self.start]
        self.per_fwhm = float(np.median(self.fwhm / self.width))
        self.energy_kev = axis.energy_kev[self.start] + 0.5 * (self.width - 1.0) * axis.gain_kev

    def __len__(self) -> int:
        return self.start.size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bins) and self.stop == other.stop and np.array_equal(self.start, other.start)

    def __hash__(self) -> int:
        return hash((self.stop, self.start.tobytes()))

    def __call__(self, counts: NDArray[Any], dtype: Any = None) -> NDArray[Any]:
        """Return the (..., n_bin) sums of (..., n_channel) counts in the bins."""
        return np.add.reduceat(counts[..., : self.stop], self.start, axis=-1, dtype=dtype)


class Evidence(NamedTuple):
    """Fit of n spectra; all arrays are (n, n_column), for families, lines of the source and unassigned peaks.

    Attributes
    ----------
    area, sigma
        Net counts and their standard deviation. For lines of the source, net counts above the adjacent channels.
    sigma_if_absent
        Standard deviation of the area if the family were absent, which gives the limit of detection. It does not
        include errors of the family's line ratios, which are proportional to the area.
    under
        Background counts under the lines.
    hidden
        Whether lines of other families overlap and considerably increase the limit of detection.
    """

    area: Single
    sigma: Single
    sigma_if_absent: Single
    under: Single
    hidden: NDArray[np.bool_]


@dataclass(frozen=True)
class Solution:
    """Fit of a spectrum by generalised least squares.

    Parameters
    ----------
    coefficients : (n_column,) array
        Coefficients of the free columns, then of the changes.
    covariance : (n_column, n_column) array
        Covariance of the coefficients.
    columns : (n_column, n_bin) array
        Free columns, then changes.
    variance : (n_bin,) array
        Variance of the counts.
    """

    coefficients: Array
    covariance: Array
    columns: Array
    variance: Array

    @cached_property
    def gain(self) -> Array:
        """(n_column, n_bin) matrix from counts to coefficients."""
        return self.covariance @ (self.columns / self.variance)

    @property
    def model(self) -> Array:
        """(n_bin,) fitted counts."""
        return self.coefficients @ self.columns


def solve(spectrum: Array, free_columns: Array, changes: Array, variance: Array) -> Solution:
    """Return the fit of a spectrum with free columns, and with changes whose coefficients have a normal prior.

    Free columns and changes are (n, n_bin) arrays; the prior of the coefficients of changes has mean 0 and variance 1.
    """
    columns = np.concatenate([free_columns, changes])
    scale = np.ones(len(columns))
    scale[: len(free_columns)] = np.maximum(np.sqrt((free_columns**2 / variance).sum(axis=1)), 1e-30)
    scaled = columns / scale[:, None]
    weighted = scaled / variance
    normal = weighted @ scaled.T
    normal[np.diag_indices_from(normal)] += np.where(np.arange(len(normal)) < len(free_columns), 1e-9, 1.0)
    inverse = np.linalg.inv(normal)
    return Solution(inverse @ (weighted @ spectrum) / scale, inverse / np.outer(scale, scale), columns, variance)


class ClassSolver:
    """Fit of the pixels of a class of similar composition.

    Parameters
    ----------
    ratios : LineRatios
        Shapes of families and scatter.
    bins : Bins
        Bins of the fit.
    mean : (n_bin,) array
        Mean spectrum of the class, in counts.
    n : int
        Number of spectra in the mean.
    area : (n_family,) array
        Initial areas.
    free_columns : (n_column, n_bin) array
        Other free columns: lines of the source, background, sum peaks.
    source : (2, n_source, n_bin) array
        Matrices from counts to net counts of lines of the source, and to counts under them.
    peaks : (n_peak, n_bin) array
        Shapes of unassigned peaks.
    """

    def __init__(
        self,
        ratios: LineRatios,
        bins: Bins,
        mean: Array,
        n: int,
        area: Array,
        free_columns: Array,
        source: Array,
        peaks: Array,
    ) -> None:
        self.mean, self.common = mean.astype(np.float32), ratios.common
        n_family, n_counts = len(ratios.names), float(mean.sum())
        min_variance = max(0.02 * float(mean.mean()), 0.2)
        variance = np.maximum(gaussian_filter1d(mean / bins.width, 1.0) * bins.width, min_variance)
        model, residual = variance, np.zeros(len(bins))
        for _ in range(_N_ROUNDS):
            self.shapes = shapes = ratios.near(area)
            changes = np.concatenate(
                [
                    *(family_changes * size for family_changes, size in zip(shapes.changes, area, strict=True)),
                    shapes.scatter_changes * n_counts,
                ]
            )
            slope = SLOPE_ERROR * bins.fwhm * np.abs(np.gradient(model / bins.width))
            model_variance = (COUNTS_ERROR * model) ** 2 + slope**2
            # if the model does not describe the class, the misfit determines the model error
            excess_misfit = gaussian_filter1d(residual**2 - variance / n, _MISFIT_SMOOTHING_FWHM * bins.per_fwhm)
            error_variance = np.maximum(model_variance, excess_misfit)
            all_free = np.concatenate([shapes.templates, free_columns, shapes.scatter])
            self.solution = solve(mean, all_free, changes, variance + error_variance)
            residual = mean - self.solution.model
            self.misfit = float(np.mean(residual**2 / (variance / n + model_variance)))
            area = np.maximum(self.solution.coefficients[:n_family], 0.0)
            model = np.maximum(self.solution.model, 0.0)
            variance = np.maximum(model, min_variance)
        self.n_free, self.noise = len(all_free), variance / n + model_variance
        no_columns = np.zeros((0, len(bins)))
        self.beside, self.under, self.hidden = (
            no_columns.T.astype(np.float32),
            np.zeros(1, np.float32),
            np.zeros(1, bool),
        )
        self._store_matrices(self.solution.gain[:n_family], error_variance, no_columns)
        # families that are not significant in the sum of the class are constrained near zero
        class_fit = self(self.mean[None] * n)
        summed, sigma = (values[0].astype(np.float64) for values in (class_fit.area, class_fit.sigma_if_absent))
        is_weak = summed < MIN_CLASS_SIGMAS * sigma
        max_area = (0.5 * np.maximum(summed, 0.0) + sigma) / n
        weak_changes = shapes.templates[is_weak] * max_area[is_weak, None]
        all_free = np.concatenate([shapes.templates[~is_weak], free_columns, shapes.scatter])
        constrained = solve(mean, all_free, np.concatenate([weak_changes, changes]), variance + error_variance)
        gain = self.solution.gain[:n_family].copy()
        gain[~is_weak] = constrained.gain[: (~is_weak).sum()]
        # a weak family is measured without its prior, all others with the priors of weak families
        weak_rows = slice(len(all_free), len(all_free) + int(is_weak.sum()))
        learned_share = 1.0 - np.diag(constrained.covariance)[weak_rows]
        is_learned = learned_share > _MIN_LEARNED_SHARE
        families = np.flatnonzero(is_weak)[is_learned]
        gain[families] = (
            constrained.gain[weak_rows][is_learned] * (max_area[families] / learned_share[is_learned])[:, None]
        )
        all_gains: Array = np.concatenate(
            [gain, source[0], _residual_peaks(self.solution, peaks, variance + error_variance)]
        )
        self._store_matrices(all_gains, error_variance, weak_changes, is_weak)
        self.beside = np.ascontiguousarray(source[1].T, np.float32)
        all_shapes = np.concatenate([shapes.templates, np.zeros_like(source[0]), peaks])
        smooth_counts = self.parts()[n_family:].sum(axis=0)
        self.under = (_counts_under(all_shapes, variance) / n_counts).astype(np.float32)
        clear_counts = _counts_under(all_shapes, np.maximum(smooth_counts, min_variance))
        absent_sigma = self(self.mean[None]).sigma_if_absent[0]
        self.hidden = absent_sigma > MIN_HIDDEN_RATIO * np.sqrt(clear_counts)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the description of the class, megabytes that are not needed to fit pixels."""
        return {name: value for name, value in self.__dict__.items() if name not in _CLASS_ATTRIBUTES}

    def hardness(self, is_strongest: NDArray[np.bool_]) -> tuple[Array, Array]:
        """Return the hardness of families and its standard deviation, (n_family,) each.

        Hardness is the logarithm of the ratio of the other lines to the strongest line, relative to random paint; NaN
        if a family has only one of them.

        Parameters
        ----------
        is_strongest : (n_family, n_bin) bool array
            Bins of each family's strongest line.
        """
        value, sigma = np.full((2, len(is_strongest)), np.nan)
        sizes = [len(changes_of_family) for changes_of_family in self.shapes.changes]
        first_rows = self.n_free + np.cumsum([0, *sizes])
        for index, (mean, start, size) in enumerate(zip(self.shapes.templates, first_rows, sizes, strict=False)):
            changes = slice(start, start + size)
            area, columns = float(self.solution.coefficients[index]), self.solution.columns[changes]
            strongest_share, other_share = (
                float(mean[is_strongest[index]].sum()),
                float(mean[~is_strongest[index]].sum()),
            )
            if not size or min(strongest_share, other_share) <= 0 or area <= 0:
                continue
            slope = (
                columns[:, ~is_strongest[index]].sum(axis=1) / other_share
                - columns[:, is_strongest[index]].sum(axis=1) / strongest_share
            ) / area
            paint_ratio = float(
                self.common[index, ~is_strongest[index]].sum() / self.common[index, is_strongest[index]].sum()
            )
            value[index] = (
                np.log(other_share / strongest_share / paint_ratio) + self.solution.coefficients[changes] @ slope
            )
            sigma[index] = np.sqrt(slope @ self.solution.covariance[changes, changes] @ slope)
        return value, sigma

    def parts(self) -> Array:
        """Return the (n, n_bin) fitted counts of each family with its shape changes, and of every other free column."""
        parts = self.solution.coefficients[: self.n_free, None] * self.solution.columns[: self.n_free]
        family_index = np.concatenate(
            [np.full(len(changes_of_family), index) for index, changes_of_family in enumerate(self.shapes.changes)]
        )
        changes = self.solution.coefficients[self.n_free :, None] * self.solution.columns[self.n_free :]
        np.add.at(parts, family_index, changes[: family_index.size])
        parts[-1] += changes[family_index.size :].sum(axis=0)
        return np.asarray(parts)

    def _store_matrices(
        self, gain: Array, error: Array, weak_changes: Array, is_weak: NDArray[np.bool_] | None = None
    ) -> None:
        """Store the matrices from counts to areas and variances; weak families are an error of all others."""
        shapes, n_counts = self.shapes, max(float(self.mean.sum()), 1e-9)
        n_family = len(shapes.templates)
        is_same_family = np.eye(n_family, len(gain))
        interference = np.stack([((gain @ change.T) ** 2).sum(axis=1) for change in shapes.changes])
        self.by_others = (interference * (1.0 - is_same_family)).astype(np.float32)
        self.by_itself = (np.diag(interference) + AREA_ERROR**2).astype(np.float32)
        weak_variance = (gain @ weak_changes.T) ** 2
        if is_weak is not None:
            weak_variance[:n_family][is_weak] *= 1.0 - np.eye(len(weak_changes))
        count_variance = (gain**2 @ error + weak_variance.sum(axis=1)) / n_counts**2 + (
            (gain @ shapes.scatter_changes.T) ** 2
        ).sum(1)
        self.gain, self.squared = (np.ascontiguousarray(matrix.T, np.float32) for matrix in (gain, gain**2))
        self.flat = count_variance.astype(np.float32)

    def __call__(self, counts: Single) -> Evidence:
        """Return the fit of (n, n_bin) counts of pixels."""
        area, total = counts @ self.gain, counts.sum(axis=1, keepdims=True)
        variance = counts @ self.squared
        variance += total**2 * self.flat
        n_family, n_source = self.by_itself.size, self.beside.shape[1]
        squares = np.maximum(area[:, :n_family], 0.0) ** 2
        variance += squares @ self.by_others
        sigma = variance.copy()
        sigma[:, :n_family] += squares * self.by_itself
        under = total * self.under
        under[:, n_family : n_family + n_source] = counts @ self.beside
        return Evidence(
            area,
            np.sqrt(sigma, out=sigma),
            np.sqrt(variance, out=variance),
            under,
            np.broadcast_to(self.hidden, area.shape),
        )


def _counts_under(shapes: Array, variance: Array) -> Array:
    """Return the (n,) counts under peaks of given shapes: the variance of the area of each peak if fitted alone.

    The shapes are normalised to one count.
    """
    squared_norm = (shapes**2 / variance).sum(axis=1)
    return np.asarray(np.where(squared_norm > 0, 1.0 / np.where(squared_norm > 0, squared_norm, 1.0), 0.0))


def _residual_peaks(solution: Solution, peaks: Array, variance: Array) -> Array:
    """Return the (n_peak, n_bin) matrix from counts to areas of peaks, each added to all columns of a solution.

    Rows are zero for peaks that are nearly a combination of the columns.
    """
    weighted = peaks / variance
    unexplained = weighted - (weighted @ solution.columns.T) @ solution.gain
    squared_norm, counts = (unexplained * peaks).sum(axis=1), (weighted * peaks).sum(axis=1)
    is_independent = squared_norm > _MIN_INDEPENDENT_SHARE * counts
    return np.asarray(
        np.where(is_independent, 1.0 / np.where(is_independent, squared_norm, 1.0), 0.0)[:, None] * unexplained
    )


class VariableFit:
    """Fit of a scan, with a solver for each class of pixels.

    Parameters
    ----------
    sample : (n, n_channel) array
        Spectra of the scan, counts, from which the classes are determined.
    detector : Detector
        Detector with resolution and crystal.
    axis : EnergyAxis
        Energy axis of the scan.
    used : (n_channel,) bool array
        Channels to fit.
    families : sequence of str
        Families to fit; families outside the axis are ignored.
    simulated : sequence of LineCounts
        Simulations for the instrument, or for several likely instruments.
    excitation_kev : float
        Highest photon energy in keV.
    anode : (n, n_channel) array
        Templates of the scattered lines of the source.
    n_classes : int
        Largest number of classes.
    per_fwhm : float
        Number of bins per FWHM; infinity gives a bin for every channel.
    peaks : bool
        Whether unassigned peaks are fitted as well.

    Attributes
    ----------
    names : tuple of str
        Families, the first columns of the result.
    detector : Detector
    n_source : int
        Number of lines of the source, the next columns.
    peak_kev : (n_peak,) array
        Energies of the unassigned peaks, keV, the last columns.
    """

    def __init__(
        self,
        sample: NDArray[Any],
        detector: Detector,
        axis: EnergyAxis,
        used: NDArray[np.bool_],
        families: Sequence[str],
        simulated: Sequence[LineCounts],
        excitation_kev: float,
        anode: Array,
        n_classes: int = N_CLASSES,
        per_fwhm: float = BINS_PER_FWHM,
        *,
        peaks: bool = False,
    ) -> None:
        self.bins = Bins(axis, detector, used, per_fwhm)
        self.detector, self.n_source = detector, len(anode)
        self.peak_kev = _peak_energies(self.bins, detector) if peaks else np.empty(0)
        ratios = LineRatios(simulated, detector, axis, self.bins, families, excitation_kev)
        self.names = ratios.names
        sample = sample[sample.any(axis=1)]
        counts = self.bins(sample, np.float32)
        mean = counts.mean(axis=0, dtype=np.float64)
        anode = self.bins(anode)
        free_columns, area = _other_columns(ratios, self.bins, mean, anode)
        shapes, source = _peak_shapes(self.peak_kev, self.bins, detector, axis), _source_matrices(anode, self.bins)

        def solver(members: NDArray[np.intp], start: Array, peaks: Array = shapes) -> ClassSolver:
            piled_up = self.bins(
                pile_up_shape(self_convolution(sample[members].mean(axis=0, dtype=np.float64)[None]), axis)[0]
            )
            columns, mean = np.concatenate([free_columns, piled_up[None]]), counts[members].mean(0, np.float64)
            return ClassSolver(ratios, self.bins, mean, len(members), start, columns, source, peaks)

        with one_blas_thread(), warnings.catch_warnings(), ThreadPoolExecutor(CPU_COUNT) as threads:
            warnings.simplefilter("ignore", UserWarning)  # a class may stay empty
            self.first = solver(np.arange(len(counts)), area, shapes[:0])
            areas = self._areas(counts)
            points = self._points(areas, counts)
            rng = np.random.default_rng(_SEED)
            centres, label = kmeans2(points, min(n_classes, len(np.unique(points, axis=0))), minit="++", rng=rng)
            members = [np.flatnonzero(label == index) for index in np.unique(label)]
            self.centres = centres[np.unique(label)].astype(np.float32)
            starts = [np.maximum(areas[indices].mean(axis=0, dtype=np.float64), 0.0) for indices in members]
            self.classes = list(threads.map(solver, members, starts))
        self.weights = np.asarray([len(of_class) for of_class in members])

    def __call__(self, counts: NDArray[Any]) -> Evidence:
        """Return the fit of (n, n_channel) counts."""
        binned = self.bins(counts, np.float32)
        label = self.class_of(binned)
        shape = len(binned), self.classes[0].gain.shape[1]
        area, sigma, absent_sigma, under = np.empty((4, *shape), np.float32)
        result = Evidence(area, sigma, absent_sigma, under, np.empty(shape, bool))
        for index in np.unique(label):
            of_class = label == index
            for target, part in zip(result, self.classes[index](binned[of_class]), strict=True):
                target[of_class] = part
        return result

    def class_of(self, counts: Single) -> NDArray[np.intp]:
        """Return the (n,) index of the nearest class for (n, n_bin) counts."""
        points = self._points(self._areas(counts), counts)
        return np.asarray(np.argmin((self.centres**2).sum(axis=1) - 2.0 * points @ self.centres.T, axis=1))

    def shown(self) -> list[str]:
        """Return the families detected in the sum spectrum of at least one class."""
        is_detected = np.zeros(len(self.names), bool)
        for class_solver, size in zip(self.classes, self.weights, strict=True):
            class_fit = class_solver(class_solver.mean[None] * size)
            is_detected |= self._is_significant(
                class_fit, MIN_CLASS_SIGMAS, MIN_AREA_SHARE * size * class_solver.mean.sum()
            )
        return [name for name, is_shown in zip(self.names, is_detected, strict=True) if is_shown]

    def shown_by_pixels(self, sample: NDArray[Any]) -> list[str]:
        """Return the families that are significant in at least one of (n, n_channel) spectra."""
        total = self.bins(sample, np.float32).sum(axis=1, keepdims=True)
        is_detected = self._is_significant(self(sample), MIN_PIXEL_SIGMAS, MIN_AREA_SHARE * np.maximum(total, 1.0))
        return [name for name, is_shown in zip(self.names, is_detected, strict=True) if is_shown]

    def _is_significant(self, fit: Evidence, sigmas: float, counts: Any) -> NDArray[np.bool_]:
        """Return an (n_family,) mask, true if any spectrum has a family above ``sigmas`` deviations and ``counts``."""
        area, sigma = (part[:, : len(self.names)] for part in (fit.area, fit.sigma_if_absent))
        return np.asarray(((area > sigmas * sigma) & (area > counts)).any(axis=0))

    def _areas(self, counts: Single) -> Single:
        """Return the (n, n_family) areas of (n, n_bin) counts, with the matrix of the mean spectrum."""
        return counts @ self.first.gain[:, : len(self.names)]

    @staticmethod
    def _points(area: Single, counts: Single) -> Single:
        """Return the coordinates of pixels for the classes: square roots of fractions of areas, and log counts."""
        total = np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
        return np.concatenate([np.sqrt(np.maximum(area, 0.0) / total), 0.1 * np.log(total)], axis=1)


def fitted_noise(total: Array, detector: Detector, make: Callable[[Array, Detector], VariableFit]) -> float:
    """Return the electronic noise, keV FWHM, for which the fit of the sum spectrum is best.

    Parameters
    ----------
    total : (n_channel,) array
        Sum spectrum in counts.
    detector : Detector
        Detector whose noise is the initial value.
    make : callable
        Function that plans the fit of (n, n_channel) spectra for a detector.
    """

    def misfit(noise: float) -> float:
        return make(total[None], detector.model_copy(update={"noise_fwhm_kev": noise})).first.misfit

    start = detector.noise_fwhm_kev
    optimum = minimize_scalar(misfit, bounds=(0.6 * start, 1.3 * start), method="bounded", options={"maxiter": 8})
    # the misfit of a poor fit hardly depends on the width of the peaks
    return float(optimum.x) if optimum.fun < _MAX_MISFIT_RATIO * misfit(start) else start


def _other_columns(ratios: LineRatios, bins: Bins, mean: Array, anode: Array) -> tuple[Array, Array]:
    """Return the (n, n_bin) columns of scatter lines and background, and initial areas, from the mean spectrum."""
    peaks = np.concatenate([ratios.common, anode])
    residual = mean
    weight = 1.0 / np.sqrt(np.maximum(mean, 1e-3 * float(mean.max())) + (0.01 * mean) ** 2)
    for _ in range(2):
        background = _background(residual, bins)
        design = np.concatenate([peaks, background]) * weight
        scale = np.maximum(np.sqrt((design**2).sum(axis=1)), 1e-30)
        area = nnls((design / scale[:, None]).T, mean * weight, maxiter=50 * scale.size)[0] / scale
        residual = np.maximum(mean - area[: len(peaks)] @ peaks, 0.0)
    return np.concatenate([anode, _background(residual, bins)]), area[: len(ratios.names)]


def _source_matrices(templates: Array, bins: Bins) -> Array:
    """Return the (2, n, n_bin) matrices from counts to net counts of the strongest line, and to counts under it."""
    bin_index = np.arange(len(bins))
    matrices = np.zeros((2, len(templates), len(bins)))
    for index, template in enumerate(templates):
        distance = np.abs(bin_index - template.argmax()) / bins.per_fwhm
        is_line, is_flank = (
            distance < _SOURCE_WINDOW_FWHM[0],
            (distance > _SOURCE_WINDOW_FWHM[1]) & (distance < _SOURCE_WINDOW_FWHM[2]),
        )
        matrices[1, index] = is_flank * (bins.width[is_line].sum() / max(float(bins.width[is_flank].sum()), 1.0))
        matrices[0, index] = is_line - matrices[1, index]
    return matrices


def _peak_energies(bins: Bins, detector: Detector) -> Array:
    """Return the energies of unassigned peaks, in keV."""
    energies_kev, stop_kev = (
        [float(bins.energy_kev[0]) + _PEAK_MARGIN_KEV],
        float(bins.energy_kev[-1]) - _PEAK_MARGIN_KEV,
    )
    while energies_kev[-1] < stop_kev:
        fwhm = float(resolution_fwhm_kev(energies_kev[-1], detector.noise_fwhm_kev, detector.fano))
        energies_kev.append(energies_kev[-1] + _PEAK_STEP_FWHM * fwhm)
    return np.asarray(energies_kev[:-1])


def _peak_shapes(energy_kev: Array, bins: Bins, detector: Detector, axis: EnergyAxis) -> Array:
    """Return (n_peak, n_bin) Gaussian peaks of one count."""
    fwhm = resolution_fwhm_kev(energy_kev, detector.noise_fwhm_kev, detector.fano)
    column = np.arange(energy_kev.size)
    return np.asarray(bins(peak_columns(axis, energy_kev, np.ones(energy_kev.size), fwhm, column, energy_kev.size).T))


def _background(counts: Array, bins: Bins) -> Array:
    """Return the (n_spline, n_bin) columns of the background."""
    width = np.full(len(bins), bins.per_fwhm)
    return background_columns(counts / bins.width, width, bins.energy_kev, np.ones(len(bins), bool)).T * bins.width
