"""Element areas from a linear fit in which line ratios vary as the forward model predicts.

    y = sum_f a_f (m_f + d_f) + scatter + background + noise
    S = diag(v + model error) + sum_f a_f**2 sum_k c_fk c_fk' + N**2 sum_k s_k s_k'
    P = (A' S^-1 A)^-1 A' S^-1,   area = P y
    sigma_f**2 = P_f**2 y + sum_g Q_fg a_g**2 + e_f N**2 + (AREA_ERROR a_f)**2,   Q_fg = sum_k (P_f c_gk)**2

A contains the free columns: mean shapes m_f, lines of the anode, splines, mean scatter and sum peaks. The shape changes
c_fk of families and s_k of scatter come from simulated stratigraphies. The composition of the stratigraphies resembles
that of a class of pixels. All pixels of a class have the same matrix P. The standard deviation of an area depends on
the pixel's counts y, areas a and total counts N. Standard deviations are therefore correct even for pixels that differ
from the rest of their class. The method is generalised least squares (Aitken 1935) with a covariance from the forward
model.
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
FloatArray = NDArray[np.float32]

COUNTS_ERROR = 0.005
"""Model error, as a fraction of the counts of a bin."""
AXIS_AND_WIDTH_ERROR = 0.02
"""Model error due to errors of energy axis and resolution, as a fraction of the spectrum's slope times the FWHM."""
AREA_ERROR = 0.005
"""Relative error of an area, due to errors of atomic data and detector response."""
MIN_CLASS_SIGMAS = 8.0
"""Smallest significance, in standard deviations, of a family that is detected in the sum spectrum of a class."""
MIN_PIXEL_SIGMAS = 10.0
"""Smallest significance, in standard deviations, of a family that is detected in one of thousands of pixels."""
MIN_AREA_FRACTION = 2e-4
"""Smallest area of a detected family, as a fraction of all counts. Response errors and traces give smaller areas."""
N_PIXEL_CLASSES = 32
BINS_PER_FWHM = 3.0
MIN_HIDDEN_RATIO = 3.0
"""Minimum factor by which other lines increase the standard deviation of a hidden family's area."""
_PEAK_STEP_FWHM = 0.7
"""Distance between neighbouring unassigned peaks, in FWHM. A peak midway between two unassigned peaks loses 8 % of its
significance."""
_PEAK_MARGIN_KEV = 0.1
_MIN_INDEPENDENT_FRACTION = 0.02
"""Minimum fraction of a peak's squared norm that is independent of the fit's columns, for the peak to be fitted."""
_SOURCE_WINDOW_FWHM = 0.7, 1.2, 2.2
"""Half-width of the window of a source line, and limits of the adjacent windows, in FWHM."""
_N_SHAPE_ITERATIONS = 3
_MAX_MISFIT_RATIO = 0.8
_MIN_LEARNED_FRACTION = 0.02
"""Minimum fraction of a weak family's prior variance that the data must remove for the family to be measured."""
_MISFIT_SMOOTHING_FWHM = 2.0
_SEED = 0
_PLANNING_ATTRIBUTES = ("solution", "shapes", "common", "noise")
"""Attributes of a class fit that are needed to plan a fit, but not to fit pixels."""


class Bins:
    """Bins of neighbouring channels; the width of a bin is proportional to the peak width.

    Parameters
    ----------
    axis : EnergyAxis
        Energy axis of the spectra.
    detector : Detector
        Detector whose resolution is used.
    is_fitted : (n_channel,) bool array
        Channels to fit. Bins extend from the first to the last fitted channel.
    bins_per_fwhm : float
        Number of bins per FWHM; infinity gives a bin for every channel.
    """

    def __init__(
        self, axis: EnergyAxis, detector: Detector, is_fitted: NDArray[np.bool_], bins_per_fwhm: float = BINS_PER_FWHM
    ) -> None:
        fwhm = fwhm_channels(detector, axis)
        first_channel, self.stop = int(np.flatnonzero(is_fitted)[0]), int(np.flatnonzero(is_fitted)[-1]) + 1
        first_channels = [first_channel]
        while (
            next_channel := first_channels[-1] + max(1, round(float(fwhm[first_channels[-1]]) / bins_per_fwhm))
        ) < self.stop:
            first_channels.append(next_channel)
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
        """Sum (..., n_channel) counts within each bin; return the (..., n_bin) sums."""
        return np.add.reduceat(counts[..., : self.stop], self.start, axis=-1, dtype=dtype)


class Evidence(NamedTuple):
    """Fit of n spectra. Arrays are (n, n_column); the columns are families, source lines and unassigned peaks.

    Attributes
    ----------
    area, sigma
        Net counts, and the standard deviation of the net counts. Net counts of a source line are counts above the level
        of the adjacent channels.
    sigma_if_absent
        Standard deviation that the area would have if the family were absent; it gives the limit of detection. Errors
        of the family's line ratios are not included, since they are proportional to the area.
    background
        Background counts below the lines.
    is_hidden
        Whether overlapping lines of other families considerably increase the limit of detection.
    """

    area: FloatArray
    sigma: FloatArray
    sigma_if_absent: FloatArray
    background: FloatArray
    is_hidden: NDArray[np.bool_]


@dataclass(frozen=True)
class LeastSquaresFit:
    """Fit of a spectrum by generalised least squares.

    Parameters
    ----------
    coefficients : (n_column,) array
        Coefficients of the free columns, followed by coefficients of the shape changes.
    covariance : (n_column, n_column) array
        Covariance of the coefficients.
    columns : (n_column, n_bin) array
        Free columns of the fit, followed by shape changes.
    variance : (n_bin,) array
        Variance of the counts.
    """

    coefficients: Array
    covariance: Array
    columns: Array
    variance: Array

    @cached_property
    def gain(self) -> Array:
        """(n_column, n_bin) matrix that converts counts to coefficients."""
        return self.covariance @ (self.columns / self.variance)

    @property
    def model(self) -> Array:
        """(n_bin,) fitted counts."""
        return self.coefficients @ self.columns


def fit_least_squares(spectrum: Array, free_columns: Array, changes: Array, variance: Array) -> LeastSquaresFit:
    """Fit a spectrum by free columns, and by shape changes whose coefficients have a normal prior.

    Free columns and changes are (n, n_bin) arrays. The prior of the coefficients of changes has mean 0 and variance 1.
    """
    columns = np.concatenate([free_columns, changes])
    column_norms = np.ones(len(columns))
    column_norms[: len(free_columns)] = np.maximum(np.sqrt((free_columns**2 / variance).sum(axis=1)), 1e-30)
    scaled_columns = columns / column_norms[:, None]
    weighted_columns = scaled_columns / variance
    normal_matrix = weighted_columns @ scaled_columns.T
    normal_matrix[np.diag_indices_from(normal_matrix)] += np.where(
        np.arange(len(normal_matrix)) < len(free_columns), 1e-9, 1.0
    )
    inverse_matrix = np.linalg.inv(normal_matrix)
    return LeastSquaresFit(
        inverse_matrix @ (weighted_columns @ spectrum) / column_norms,
        inverse_matrix / np.outer(column_norms, column_norms),
        columns,
        variance,
    )


class PixelClassFit:
    """Fit of the pixels of one class; these pixels have similar compositions.

    Parameters
    ----------
    line_ratios : LineRatios
        Shapes of families and scatter.
    bins : Bins
        Bins of the fit.
    mean_spectrum : (n_bin,) array
        Mean spectrum of the class, in counts.
    n_spectra : int
        Number of spectra in the mean.
    initial_area : (n_family,) array
        Initial area of each family.
    free_columns : (n_column, n_bin) array
        Free columns other than families and scatter: lines of the source, background, sum peaks.
    source_matrices : (2, n_source, n_bin) array
        Matrices that convert counts to net counts of source lines, and to background counts below source lines.
    peak_shapes : (n_peak, n_bin) array
        Shapes of unassigned peaks.
    """

    def __init__(
        self,
        line_ratios: LineRatios,
        bins: Bins,
        mean_spectrum: Array,
        n_spectra: int,
        initial_area: Array,
        free_columns: Array,
        source_matrices: Array,
        peak_shapes: Array,
    ) -> None:
        self.mean, self.common = mean_spectrum.astype(np.float32), line_ratios.mean_shapes
        n_family, n_counts = len(line_ratios.names), float(mean_spectrum.sum())
        min_variance = max(0.02 * float(mean_spectrum.mean()), 0.2)
        variance = np.maximum(gaussian_filter1d(mean_spectrum / bins.width, 1.0) * bins.width, min_variance)
        modelled_counts, residual = variance, np.zeros(len(bins))
        for _ in range(_N_SHAPE_ITERATIONS):
            self.shapes = shapes = line_ratios.shapes_near(initial_area)
            shape_changes = np.concatenate(
                [
                    *(
                        family_changes * family_area
                        for family_changes, family_area in zip(shapes.changes, initial_area, strict=True)
                    ),
                    shapes.scatter_changes * n_counts,
                ]
            )
            slope_error = AXIS_AND_WIDTH_ERROR * bins.fwhm * np.abs(np.gradient(modelled_counts / bins.width))
            model_variance = (COUNTS_ERROR * modelled_counts) ** 2 + slope_error**2
            # if the model does not describe the class, the misfit determines the model error
            excess_misfit = gaussian_filter1d(
                residual**2 - variance / n_spectra, _MISFIT_SMOOTHING_FWHM * bins.per_fwhm
            )
            error_variance = np.maximum(model_variance, excess_misfit)
            all_free_columns = np.concatenate([shapes.templates, free_columns, shapes.scatter])
            self.solution = fit_least_squares(mean_spectrum, all_free_columns, shape_changes, variance + error_variance)
            residual = mean_spectrum - self.solution.model
            self.misfit = float(np.mean(residual**2 / (variance / n_spectra + model_variance)))
            initial_area = np.maximum(self.solution.coefficients[:n_family], 0.0)
            modelled_counts = np.maximum(self.solution.model, 0.0)
            variance = np.maximum(modelled_counts, min_variance)
        self.n_free, self.noise = len(all_free_columns), variance / n_spectra + model_variance
        no_columns = np.zeros((0, len(bins)))
        self.beside, self.under, self.hidden = (
            no_columns.T.astype(np.float32),
            np.zeros(1, np.float32),
            np.zeros(1, bool),
        )
        self._store_matrices(self.solution.gain[:n_family], error_variance, no_columns)
        # families that are not significant in the sum spectrum of the class are constrained near zero
        class_evidence = self(self.mean[None] * n_spectra)
        summed_areas, sigma = (
            evidence_array[0].astype(np.float64)
            for evidence_array in (class_evidence.area, class_evidence.sigma_if_absent)
        )
        is_weak = summed_areas < MIN_CLASS_SIGMAS * sigma
        max_weak_areas = (0.5 * np.maximum(summed_areas, 0.0) + sigma) / n_spectra
        weak_changes = shapes.templates[is_weak] * max_weak_areas[is_weak, None]
        all_free_columns = np.concatenate([shapes.templates[~is_weak], free_columns, shapes.scatter])
        constrained_solution = fit_least_squares(
            mean_spectrum, all_free_columns, np.concatenate([weak_changes, shape_changes]), variance + error_variance
        )
        family_gains = self.solution.gain[:n_family].copy()
        family_gains[~is_weak] = constrained_solution.gain[: (~is_weak).sum()]
        # a weak family is measured without a prior on its own area, but with priors on other weak families
        weak_rows = slice(len(all_free_columns), len(all_free_columns) + int(is_weak.sum()))
        learned_fraction = 1.0 - np.diag(constrained_solution.covariance)[weak_rows]
        is_learned = learned_fraction > _MIN_LEARNED_FRACTION
        learned_families = np.flatnonzero(is_weak)[is_learned]
        family_gains[learned_families] = (
            constrained_solution.gain[weak_rows][is_learned]
            * (max_weak_areas[learned_families] / learned_fraction[is_learned])[:, None]
        )
        all_gains: Array = np.concatenate(
            [family_gains, source_matrices[0], _peak_area_matrix(self.solution, peak_shapes, variance + error_variance)]
        )
        self._store_matrices(all_gains, error_variance, weak_changes, is_weak)
        self.beside = np.ascontiguousarray(source_matrices[1].T, np.float32)
        all_shapes = np.concatenate([shapes.templates, np.zeros_like(source_matrices[0]), peak_shapes])
        smooth_counts = self.parts()[n_family:].sum(axis=0)
        self.under = (_background_under_peaks(all_shapes, variance) / n_counts).astype(np.float32)
        clear_counts = _background_under_peaks(all_shapes, np.maximum(smooth_counts, min_variance))
        absent_sigma = self(self.mean[None]).sigma_if_absent[0]
        self.hidden = absent_sigma > MIN_HIDDEN_RATIO * np.sqrt(clear_counts)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the attributes for planning, which take several megabytes."""
        return {name: attribute for name, attribute in self.__dict__.items() if name not in _PLANNING_ATTRIBUTES}

    def hardness(self, is_strongest: NDArray[np.bool_]) -> tuple[Array, Array]:
        """Return the (n_family,) hardness of families, and the (n_family,) standard deviation of the hardness.

        Hardness is the logarithm of the ratio of the weaker lines to the strongest line, relative to the ratio in
        random paint. Hardness is NaN for families with a single line.

        Parameters
        ----------
        is_strongest : (n_family, n_bin) bool array
            Bins of each family's strongest line.
        """
        hardness, sigma = np.full((2, len(is_strongest)), np.nan)
        change_counts = [len(changes_of_family) for changes_of_family in self.shapes.changes]
        first_rows = self.n_free + np.cumsum([0, *change_counts])
        for index, (mean_shape, first_row, n_changes) in enumerate(
            zip(self.shapes.templates, first_rows, change_counts, strict=False)
        ):
            change_rows = slice(first_row, first_row + n_changes)
            area, change_columns = float(self.solution.coefficients[index]), self.solution.columns[change_rows]
            strongest_fraction, other_fraction = (
                float(mean_shape[is_strongest[index]].sum()),
                float(mean_shape[~is_strongest[index]].sum()),
            )
            if not n_changes or min(strongest_fraction, other_fraction) <= 0 or area <= 0:
                continue
            hardness_gradient = (
                change_columns[:, ~is_strongest[index]].sum(axis=1) / other_fraction
                - change_columns[:, is_strongest[index]].sum(axis=1) / strongest_fraction
            ) / area
            paint_ratio = float(
                self.common[index, ~is_strongest[index]].sum() / self.common[index, is_strongest[index]].sum()
            )
            hardness[index] = (
                np.log(other_fraction / strongest_fraction / paint_ratio)
                + self.solution.coefficients[change_rows] @ hardness_gradient
            )
            sigma[index] = np.sqrt(
                hardness_gradient @ self.solution.covariance[change_rows, change_rows] @ hardness_gradient
            )
        return hardness, sigma

    def parts(self) -> Array:
        """Return (n, n_bin) fitted counts: of each family including shape changes, and of every other free column."""
        components = self.solution.coefficients[: self.n_free, None] * self.solution.columns[: self.n_free]
        family_index = np.concatenate(
            [np.full(len(changes_of_family), index) for index, changes_of_family in enumerate(self.shapes.changes)]
        )
        change_counts = self.solution.coefficients[self.n_free :, None] * self.solution.columns[self.n_free :]
        np.add.at(components, family_index, change_counts[: family_index.size])
        components[-1] += change_counts[family_index.size :].sum(axis=0)
        return np.asarray(components)

    def _store_matrices(
        self, gains: Array, error_variance: Array, weak_changes: Array, is_weak: NDArray[np.bool_] | None = None
    ) -> None:
        """Store matrices that convert counts to areas and variances; weak families add to the variance of others."""
        shapes, n_counts = self.shapes, max(float(self.mean.sum()), 1e-9)
        n_family = len(shapes.templates)
        is_same_family = np.eye(n_family, len(gains))
        interference_variance = np.stack(
            [((gains @ family_changes.T) ** 2).sum(axis=1) for family_changes in shapes.changes]
        )
        self.by_others = (interference_variance * (1.0 - is_same_family)).astype(np.float32)
        self.by_itself = (np.diag(interference_variance) + AREA_ERROR**2).astype(np.float32)
        weak_variance = (gains @ weak_changes.T) ** 2
        if is_weak is not None:
            weak_variance[:n_family][is_weak] *= 1.0 - np.eye(len(weak_changes))
        count_variance = (gains**2 @ error_variance + weak_variance.sum(axis=1)) / n_counts**2 + (
            (gains @ shapes.scatter_changes.T) ** 2
        ).sum(1)
        self.gain, self.squared = (np.ascontiguousarray(matrix.T, np.float32) for matrix in (gains, gains**2))
        self.flat = count_variance.astype(np.float32)

    def __call__(self, counts: FloatArray) -> Evidence:
        """Fit the (n, n_bin) counts of pixels."""
        area, total_counts = counts @ self.gain, counts.sum(axis=1, keepdims=True)
        variance = counts @ self.squared
        variance += total_counts**2 * self.flat
        n_family, n_source = self.by_itself.size, self.beside.shape[1]
        squared_areas = np.maximum(area[:, :n_family], 0.0) ** 2
        variance += squared_areas @ self.by_others
        sigma = variance.copy()
        sigma[:, :n_family] += squared_areas * self.by_itself
        background_counts = total_counts * self.under
        background_counts[:, n_family : n_family + n_source] = counts @ self.beside
        return Evidence(
            area,
            np.sqrt(sigma, out=sigma),
            np.sqrt(variance, out=variance),
            background_counts,
            np.broadcast_to(self.hidden, area.shape),
        )


def _background_under_peaks(peak_shapes: Array, variance: Array) -> Array:
    """Return the (n,) background counts below peaks: the variance of a peak's area if the peak is fitted alone.

    Peak shapes are normalised to one count.
    """
    squared_norm = (peak_shapes**2 / variance).sum(axis=1)
    return np.asarray(np.where(squared_norm > 0, 1.0 / np.where(squared_norm > 0, squared_norm, 1.0), 0.0))


def _peak_area_matrix(solution: LeastSquaresFit, peak_shapes: Array, variance: Array) -> Array:
    """Return the (n_peak, n_bin) matrix that converts counts to peak areas.

    Each peak is fitted together with all columns of a solution, but without the other peaks. The rows of peaks that are
    nearly a linear combination of the columns are zero.
    """
    weighted_peaks = peak_shapes / variance
    residual_peaks = weighted_peaks - (weighted_peaks @ solution.columns.T) @ solution.gain
    squared_norm, peak_norm = (residual_peaks * peak_shapes).sum(axis=1), (weighted_peaks * peak_shapes).sum(axis=1)
    is_independent = squared_norm > _MIN_INDEPENDENT_FRACTION * peak_norm
    return np.asarray(
        np.where(is_independent, 1.0 / np.where(is_independent, squared_norm, 1.0), 0.0)[:, None] * residual_peaks
    )


class VariableFit:
    """Fit of a scan; each class of pixels is fitted separately.

    Parameters
    ----------
    sample : (n, n_channel) array
        Spectra of the scan, in counts; they determine the classes.
    detector : Detector
        Detector with resolution and crystal.
    axis : EnergyAxis
        Energy axis of the scan.
    is_fitted : (n_channel,) bool array
        Channels to fit.
    families : sequence of str
        Families to fit; families outside the axis are ignored.
    simulations : sequence of LineCounts
        Simulations for the instrument, or for several likely instruments.
    excitation_kev : float
        Highest photon energy in keV.
    anode_templates : (n, n_channel) array
        Templates of the scattered lines of the source.
    n_pixel_classes : int
        Largest number of classes.
    bins_per_fwhm : float
        Number of bins per FWHM; infinity gives a bin for every channel.
    peaks : bool
        Whether unassigned peaks are fitted as well.

    Attributes
    ----------
    names : tuple of str
        Families, in the order of the first columns of the result.
    detector : Detector
    n_source : int
        Number of source lines; their columns follow those of the families.
    peak_kev : (n_peak,) array
        Energies of the unassigned peaks, in keV. Unassigned peaks are the last columns of the result.
    """

    def __init__(
        self,
        sample: NDArray[Any],
        detector: Detector,
        axis: EnergyAxis,
        is_fitted: NDArray[np.bool_],
        families: Sequence[str],
        simulations: Sequence[LineCounts],
        excitation_kev: float,
        anode_templates: Array,
        n_pixel_classes: int = N_PIXEL_CLASSES,
        bins_per_fwhm: float = BINS_PER_FWHM,
        *,
        peaks: bool = False,
    ) -> None:
        self.bins = Bins(axis, detector, is_fitted, bins_per_fwhm)
        self.detector, self.n_source = detector, len(anode_templates)
        self.peak_kev = _peak_energies(self.bins, detector) if peaks else np.empty(0)
        line_ratios = LineRatios(simulations, detector, axis, self.bins, families, excitation_kev)
        self.names = line_ratios.names
        sample = sample[sample.any(axis=1)]
        counts = self.bins(sample, np.float32)
        mean_spectrum = counts.mean(axis=0, dtype=np.float64)
        anode_templates = self.bins(anode_templates)
        free_columns, area = _scatter_and_background_columns(line_ratios, self.bins, mean_spectrum, anode_templates)
        peak_shapes, source_matrices = (
            _peak_shapes(self.peak_kev, self.bins, detector, axis),
            _source_matrices(anode_templates, self.bins),
        )

        def make_class_fit(
            class_members: NDArray[np.intp], start_areas: Array, peaks: Array = peak_shapes
        ) -> PixelClassFit:
            piled_up = self.bins(
                pile_up_shape(self_convolution(sample[class_members].mean(axis=0, dtype=np.float64)[None]), axis)[0]
            )
            class_columns, mean_spectrum = (
                np.concatenate([free_columns, piled_up[None]]),
                counts[class_members].mean(0, np.float64),
            )
            return PixelClassFit(
                line_ratios,
                self.bins,
                mean_spectrum,
                len(class_members),
                start_areas,
                class_columns,
                source_matrices,
                peaks,
            )

        with one_blas_thread(), warnings.catch_warnings(), ThreadPoolExecutor(CPU_COUNT) as thread_pool:
            warnings.simplefilter("ignore", UserWarning)  # k-means warns of empty classes
            self.first = make_class_fit(np.arange(len(counts)), area, peak_shapes[:0])
            pixel_areas = self._areas_with_mean_matrix(counts)
            class_coordinates = self._class_coordinates(pixel_areas, counts)
            rng = np.random.default_rng(_SEED)
            class_centres, class_labels = kmeans2(
                class_coordinates, min(n_pixel_classes, len(np.unique(class_coordinates, axis=0))), minit="++", rng=rng
            )
            class_members = [np.flatnonzero(class_labels == index) for index in np.unique(class_labels)]
            self.centres = class_centres[np.unique(class_labels)].astype(np.float32)
            class_start_areas = [
                np.maximum(pixel_areas[member_indices].mean(axis=0, dtype=np.float64), 0.0)
                for member_indices in class_members
            ]
            self.classes = list(thread_pool.map(make_class_fit, class_members, class_start_areas))
        self.weights = np.asarray([len(member_indices) for member_indices in class_members])

    def __call__(self, counts: NDArray[Any]) -> Evidence:
        """Fit the (n, n_channel) counts of pixels."""
        binned_counts = self.bins(counts, np.float32)
        class_index = self.class_indices(binned_counts)
        result_shape = len(binned_counts), self.classes[0].gain.shape[1]
        area, sigma, absent_sigma, background_counts = np.empty((4, *result_shape), np.float32)
        evidence = Evidence(area, sigma, absent_sigma, background_counts, np.empty(result_shape, bool))
        for index in np.unique(class_index):
            is_member = class_index == index
            for target_array, class_array in zip(evidence, self.classes[index](binned_counts[is_member]), strict=True):
                target_array[is_member] = class_array
        return evidence

    def class_indices(self, counts: FloatArray) -> NDArray[np.intp]:
        """Return the (n,) index of the nearest class for (n, n_bin) counts."""
        class_coordinates = self._class_coordinates(self._areas_with_mean_matrix(counts), counts)
        return np.asarray(np.argmin((self.centres**2).sum(axis=1) - 2.0 * class_coordinates @ self.centres.T, axis=1))

    def detected_families(self) -> list[str]:
        """Return the families detected in the sum spectrum of at least one class."""
        is_detected = np.zeros(len(self.names), bool)
        for class_fit, n_spectra in zip(self.classes, self.weights, strict=True):
            class_evidence = class_fit(class_fit.mean[None] * n_spectra)
            is_detected |= self._is_significant(
                class_evidence, MIN_CLASS_SIGMAS, MIN_AREA_FRACTION * n_spectra * class_fit.mean.sum()
            )
        return [name for name, is_family_detected in zip(self.names, is_detected, strict=True) if is_family_detected]

    def families_in_pixels(self, sample: NDArray[Any]) -> list[str]:
        """Return the families that are significant in at least one of (n, n_channel) spectra."""
        total_counts = self.bins(sample, np.float32).sum(axis=1, keepdims=True)
        is_detected = self._is_significant(
            self(sample), MIN_PIXEL_SIGMAS, MIN_AREA_FRACTION * np.maximum(total_counts, 1.0)
        )
        return [name for name, is_family_detected in zip(self.names, is_detected, strict=True) if is_family_detected]

    def _is_significant(self, fit: Evidence, sigmas: float, min_counts: Any) -> NDArray[np.bool_]:
        """Return the (n_family,) mask of families above ``sigmas`` and ``min_counts`` in at least one spectrum."""
        area, sigma = (evidence_array[:, : len(self.names)] for evidence_array in (fit.area, fit.sigma_if_absent))
        return np.asarray(((area > sigmas * sigma) & (area > min_counts)).any(axis=0))

    def _areas_with_mean_matrix(self, counts: FloatArray) -> FloatArray:
        """Return the (n, n_family) areas of (n, n_bin) counts, by the matrix of the scan's mean spectrum."""
        return counts @ self.first.gain[:, : len(self.names)]

    @staticmethod
    def _class_coordinates(area: FloatArray, counts: FloatArray) -> FloatArray:
        """Return coordinates for classifying pixels: square roots of area fractions, and the log of total counts."""
        total_counts = np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
        return np.concatenate([np.sqrt(np.maximum(area, 0.0) / total_counts), 0.1 * np.log(total_counts)], axis=1)


def fit_noise_fwhm(
    sum_counts: Array, detector: Detector, plan_spectra: Callable[[Array, Detector], VariableFit]
) -> float:
    """Return the electronic noise (FWHM in keV) for which the fit of the sum spectrum is best.

    Parameters
    ----------
    sum_counts : (n_channel,) array
        Sum spectrum in counts.
    detector : Detector
        Detector whose electronic noise is the initial value.
    plan_spectra : callable
        Function that plans the fit of (n, n_channel) spectra for a given detector.
    """

    def misfit(noise_fwhm_kev: float) -> float:
        return plan_spectra(
            sum_counts[None], detector.model_copy(update={"noise_fwhm_kev": noise_fwhm_kev})
        ).first.misfit

    initial_noise_kev = detector.noise_fwhm_kev
    best_noise = minimize_scalar(
        misfit, bounds=(0.6 * initial_noise_kev, 1.3 * initial_noise_kev), method="bounded", options={"maxiter": 8}
    )
    # the misfit of a poor fit hardly depends on the peak width
    return float(best_noise.x) if best_noise.fun < _MAX_MISFIT_RATIO * misfit(initial_noise_kev) else initial_noise_kev


def _scatter_and_background_columns(
    line_ratios: LineRatios, bins: Bins, mean_spectrum: Array, anode_templates: Array
) -> tuple[Array, Array]:
    """Return (n, n_bin) columns of scattered lines and background, and initial areas of families."""
    peak_templates = np.concatenate([line_ratios.mean_shapes, anode_templates])
    residual = mean_spectrum
    weight = 1.0 / np.sqrt(np.maximum(mean_spectrum, 1e-3 * float(mean_spectrum.max())) + (0.01 * mean_spectrum) ** 2)
    for _ in range(2):
        background = _background_columns(residual, bins)
        design = np.concatenate([peak_templates, background]) * weight
        column_norms = np.maximum(np.sqrt((design**2).sum(axis=1)), 1e-30)
        area = (
            nnls((design / column_norms[:, None]).T, mean_spectrum * weight, maxiter=50 * column_norms.size)[0]
            / column_norms
        )
        residual = np.maximum(mean_spectrum - area[: len(peak_templates)] @ peak_templates, 0.0)
    return np.concatenate([anode_templates, _background_columns(residual, bins)]), area[: len(line_ratios.names)]


def _source_matrices(templates: Array, bins: Bins) -> Array:
    """Return (2, n, n_bin) matrices that convert counts to net and to background counts of the strongest line."""
    bin_index = np.arange(len(bins))
    matrices = np.zeros((2, len(templates), len(bins)))
    for index, template in enumerate(templates):
        distance_fwhm = np.abs(bin_index - template.argmax()) / bins.per_fwhm
        is_line, is_flank = (
            distance_fwhm < _SOURCE_WINDOW_FWHM[0],
            (distance_fwhm > _SOURCE_WINDOW_FWHM[1]) & (distance_fwhm < _SOURCE_WINDOW_FWHM[2]),
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
    """Return (n_peak, n_bin) Gaussian peaks, normalised to one count."""
    fwhm = resolution_fwhm_kev(energy_kev, detector.noise_fwhm_kev, detector.fano)
    column_index = np.arange(energy_kev.size)
    return np.asarray(
        bins(peak_columns(axis, energy_kev, np.ones(energy_kev.size), fwhm, column_index, energy_kev.size).T)
    )


def _background_columns(counts: Array, bins: Bins) -> Array:
    """Return the (n_spline, n_bin) columns of the background."""
    peak_width = np.full(len(bins), bins.per_fwhm)
    return background_columns(counts / bins.width, peak_width, bins.energy_kev, np.ones(len(bins), bool)).T * bins.width
