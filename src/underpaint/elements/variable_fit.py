"""Element areas by a linear fit whose line ratios vary as the forward model predicts.

    y = sum_f a_f (m_f + d_f) + scatter + background + noise
    S = diag(v + model error) + sum_f a_f**2 sum_k c_fk c_fk' + N**2 sum_k s_k s_k'
    P = (A' S^-1 A)^-1 A' S^-1,   area = P y
    sigma_f**2 = P_f**2 y + sum_g Q_fg a_g**2 + e_f N**2 + (AREA_ERROR a_f)**2,   Q_fg = sum_k (P_f c_gk)**2

A are the free columns: mean shapes m_f, the anode's lines, splines, mean scatter, sum peaks. Their changes c_fk and s_k
come from the stratigraphies nearest in composition to a class of pixels. P is that of the class; each pixel's deviation
follows from its counts y, its areas a and their total N, so it remains correct where the class fits badly. This is
generalised least squares (Aitken 1935) with a covariance from the forward model.
"""

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
"""Model error over the counts of a bin."""
SLOPE_ERROR = 0.02
"""Model error over slope times FWHM: faults of the axis and of the resolution."""
AREA_ERROR = 0.005
"""Relative error of an area: atomic data, response."""
SHOWN_SIGMAS = 8.0
"""Deviations from which the sum of a class shows a family: its pixels were selected by noisy areas."""
PIXEL_SIGMAS = 10.0
"""Deviations from which one pixel among thousands shows a family."""
SHOWN_SHARE = 2e-4
"""Share of the counts from which it is shown: faults of the response and traces in the instrument are smaller."""
N_CLASSES = 32
BINS_PER_FWHM = 3.0
HIDDEN_RATIO = 3.0
"""Ratio of a family's deviation to that over the smooth background alone, above which other families hide it."""
_PEAK_STEP_FWHM = 0.7
"""Between the energies at which peaks of no family are looked for: 8 % of a peak's deviations are lost between two."""
_PEAK_MARGIN_KEV = 0.1
_MIN_LEFT = 0.02
"""Share of a peak's squared length that must be independent of the columns of the fit for it to be detectable."""
_SOURCE_FWHM = 0.7, 1.2, 2.2
"""Half width of the window on a line of the source, and the limits of the adjacent windows."""
_N_ROUNDS = 3
_MIN_BETTER = 0.8
_MIN_LEARNED = 0.02
"""Share of the prior's variance that a spectrum must remove for a hidden family to be measured."""
_MISFIT_FWHM = 2.0
_SEED = 0
_OF_THE_CLASS = ("solution", "shapes", "common", "noise")
"""Attributes of a solver that describe its class, not pixels."""


class Bins:
    """Bins of a share of the peak width over the channels used.

    Parameters
    ----------
    axis : EnergyAxis
    detector : Detector
        Its resolution.
    used : (n_channel,) bool array
        Channels used; those between the first and the last are.
    per_fwhm : float
        Bins for one peak width; infinity makes a bin of every channel.
    """

    def __init__(
        self, axis: EnergyAxis, detector: Detector, used: NDArray[np.bool_], per_fwhm: float = BINS_PER_FWHM
    ) -> None:
        fwhm = fwhm_channels(detector, axis)
        first, self.stop = int(np.flatnonzero(used)[0]), int(np.flatnonzero(used)[-1]) + 1
        starts = [first]
        while (following := starts[-1] + max(1, round(float(fwhm[starts[-1]]) / per_fwhm))) < self.stop:
            starts.append(following)
        self.start = np.asarray(starts)
        self.width = np.diff(np.append(self.start, self.stop)).astype(np.float64)
        self.fwhm = fwhm[self.start]
        self.per_fwhm = float(np.median(self.fwhm / self.width))
        self.energy_kev = axis.energy_kev[self.start] + 0.5 * (self.width - 1.0) * axis.gain_kev

    def __len__(self) -> int:
        return self.start.size

    def __call__(self, counts: NDArray[Any], dtype: Any = None) -> NDArray[Any]:
        """Return (..., n_bin) sums of (..., n_channel) counts."""
        return np.add.reduceat(counts[..., : self.stop], self.start, axis=-1, dtype=dtype)


class Evidence(NamedTuple):
    """Fit of spectra, each array (n, n_column): families, then lines of the source, then unassigned peaks.

    Attributes
    ----------
    area, sigma
        Net counts, and one standard deviation; for lines of the source above the adjacent counts.
    sigma_if_absent
        One that the area would have if the family were absent, from which limits of detection follow: without the
        error of its own ratios, which grows with its area.
    under
        Counts that lie under it.
    hidden
        Whether lines of other families lie there, so that far fewer counts would be seen without them.
    """

    area: Single
    sigma: Single
    sigma_if_absent: Single
    under: Single
    hidden: NDArray[np.bool_]


@dataclass(frozen=True)
class Solution:
    """Fit of a spectrum by generalised least squares: coefficients of all columns, and the matrix for the free ones.

    Parameters
    ----------
    coefficients : (n_column,) array
        Of the free columns, then of the changes.
    gain : (n_column, n_bin) array
        Coefficients are ``gain @ counts``.
    covariance : (n_column, n_column) array
        Of the coefficients.
    columns : (n_column, n_bin) array
    """

    coefficients: Array
    gain: Array
    covariance: Array
    columns: Array

    @property
    def model(self) -> Array:
        """(n_bin,) fitted counts."""
        return self.coefficients @ self.columns


def solve(spectrum: Array, free: Array, changes: Array, variance: Array) -> Solution:
    """Fit free columns, and changes with coefficients of zero mean and unit variance, (n, n_bin) each."""
    columns = np.concatenate([free, changes])
    scale = np.ones(len(columns))
    scale[: len(free)] = np.maximum(np.sqrt((free**2 / variance).sum(axis=1)), 1e-30)
    scaled = columns / scale[:, None]
    weighted = scaled / variance
    normal = weighted @ scaled.T
    normal[np.diag_indices_from(normal)] += np.where(np.arange(len(normal)) < len(free), 1e-9, 1.0)
    inverse = np.linalg.inv(normal)
    gain = inverse @ weighted / scale[:, None]
    return Solution(gain @ spectrum, gain, inverse / np.outer(scale, scale), columns)


class ClassSolver:
    """The fit of pixels of about one composition.

    Parameters
    ----------
    ratios : LineRatios
    bins : Bins
    mean : (n_bin,) array
        Mean spectrum of the class, counts.
    n : int
        Number of spectra in the mean.
    area : (n_family,) array
        Initial areas.
    others : (n_column, n_bin) array
        Other free columns: lines of the source, background, sum peaks.
    source : (2, n_source, n_bin) array
        Net counts of lines of the source, and those under them.
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
        least = max(0.02 * float(mean.mean()), 0.2)
        variance = np.maximum(gaussian_filter1d(mean / bins.width, 1.0) * bins.width, least)
        model, residual = variance, np.zeros(len(bins))
        for _ in range(_N_ROUNDS):
            self.shapes = shapes = ratios.near(area)
            changes = np.concatenate(
                [
                    *(of_family * size for of_family, size in zip(shapes.changes, area, strict=True)),
                    shapes.scatter_changes * n_counts,
                ]
            )
            slope = SLOPE_ERROR * bins.fwhm * np.abs(np.gradient(model / bins.width))
            usual = (COUNTS_ERROR * model) ** 2 + slope**2
            # where the model does not describe the class, the misfit gives its error
            misfit_detected = gaussian_filter1d(residual**2 - variance / n, _MISFIT_FWHM * bins.per_fwhm)
            error = np.maximum(usual, misfit_detected)
            free = np.concatenate([shapes.templates, free_columns, shapes.scatter])
            self.solution = solve(mean, free, changes, variance + error)
            residual = mean - self.solution.model
            self.misfit = float(np.mean(residual**2 / (variance / n + usual)))
            area = np.maximum(self.solution.coefficients[:n_family], 0.0)
            model = np.maximum(self.solution.model, 0.0)
            variance = np.maximum(model, least)
        self.n_free, self.noise = len(free), variance / n + usual
        none = np.zeros((0, len(bins)))
        self.beside, self.under, self.hidden = none.T.astype(np.float32), np.zeros(1, np.float32), np.zeros(1, bool)
        self._set(self.solution.gain[:n_family], error, none)
        # a family that the sum of the class does not show is constrained near zero
        shown = self(self.mean[None] * n)
        summed, sigma = (values[0].astype(np.float64) for values in (shown.area, shown.sigma_if_absent))
        hidden = summed < SHOWN_SIGMAS * sigma
        most = (0.5 * np.maximum(summed, 0.0) + sigma) / n
        unseen = shapes.templates[hidden] * most[hidden, None]
        free = np.concatenate([shapes.templates[~hidden], free_columns, shapes.scatter])
        solved = solve(mean, free, np.concatenate([unseen, changes]), variance + error)
        gain = self.solution.gain[:n_family].copy()
        gain[~hidden] = solved.gain[: (~hidden).sum()]
        # a hidden family is measured without its prior, the others with theirs
        of_hidden = slice(len(free), len(free) + int(hidden.sum()))
        learned = 1.0 - np.diag(solved.covariance)[of_hidden]
        is_learned = learned > _MIN_LEARNED
        rows = np.flatnonzero(hidden)[is_learned]
        gain[rows] = solved.gain[of_hidden][is_learned] * (most[rows] / learned[is_learned])[:, None]
        of_all: Array = np.concatenate([gain, source[0], _residual_peaks(self.solution, peaks, variance + error)])
        self._set(of_all, error, unseen, hidden)
        self.beside = np.ascontiguousarray(source[1].T, np.float32)
        shapes_of_all = np.concatenate([shapes.templates, np.zeros_like(source[0]), peaks])
        smooth = self.parts()[n_family:].sum(axis=0)
        self.under = (_counts_under(shapes_of_all, variance) / n_counts).astype(np.float32)
        clear = _counts_under(shapes_of_all, np.maximum(smooth, least))
        absent = self(self.mean[None]).sigma_if_absent[0]
        self.hidden = absent > HIDDEN_RATIO * np.sqrt(clear)

    def __getstate__(self) -> dict[str, Any]:
        """Omit the description of the class: megabytes that a worker does not need to fit pixels."""
        return {name: value for name, value in self.__dict__.items() if name not in _OF_THE_CLASS}

    def hardness(self, soft: NDArray[np.bool_]) -> tuple[Array, Array]:
        """Return (n_family,) logarithms of hard over soft counts of families, over those of paint, and deviations.

        Parameters
        ----------
        soft : (n_family, n_bin) bool array
            Bins of each family's strongest line; all others are hard. NaN for a family with one kind of bins only.
        """
        value, sigma = np.full((2, len(soft)), np.nan)
        sizes = [len(changes_of_family) for changes_of_family in self.shapes.changes]
        starts = self.n_free + np.cumsum([0, *sizes])
        for index, (mean, start, size) in enumerate(zip(self.shapes.templates, starts, sizes, strict=False)):
            changes = slice(start, start + size)
            area, columns = float(self.solution.coefficients[index]), self.solution.columns[changes]
            low, high = float(mean[soft[index]].sum()), float(mean[~soft[index]].sum())
            if not size or min(low, high) <= 0 or area <= 0:
                continue
            slope = (columns[:, ~soft[index]].sum(axis=1) / high - columns[:, soft[index]].sum(axis=1) / low) / area
            usual = float(self.common[index, ~soft[index]].sum() / self.common[index, soft[index]].sum())
            value[index] = np.log(high / low / usual) + self.solution.coefficients[changes] @ slope
            sigma[index] = np.sqrt(slope @ self.solution.covariance[changes, changes] @ slope)
        return value, sigma

    def parts(self) -> Array:
        """Return the (n, n_bin) contributions of each family, with its changes, and of each other free column."""
        parts = self.solution.coefficients[: self.n_free, None] * self.solution.columns[: self.n_free]
        owner = np.concatenate(
            [np.full(len(changes_of_family), index) for index, changes_of_family in enumerate(self.shapes.changes)]
        )
        changes = self.solution.coefficients[self.n_free :, None] * self.solution.columns[self.n_free :]
        np.add.at(parts, owner, changes[: owner.size])
        parts[-1] += changes[owner.size :].sum(axis=0)
        return np.asarray(parts)

    def _set(self, gain: Array, error: Array, unseen: Array, hidden: NDArray[np.bool_] | None = None) -> None:
        """Store the matrices from counts to areas and deviations; hidden families are an error of the others."""
        shapes, n_counts = self.shapes, max(float(self.mean.sum()), 1e-9)
        n_family = len(shapes.templates)
        same = np.eye(n_family, len(gain))
        interference = np.stack([((gain @ change.T) ** 2).sum(axis=1) for change in shapes.changes])
        self.by_others = (interference * (1.0 - same)).astype(np.float32)
        self.by_itself = (np.diag(interference) + AREA_ERROR**2).astype(np.float32)
        by_unseen = (gain @ unseen.T) ** 2
        if hidden is not None:
            by_unseen[:n_family][hidden] *= 1.0 - np.eye(len(unseen))
        flat = (gain**2 @ error + by_unseen.sum(axis=1)) / n_counts**2 + ((gain @ shapes.scatter_changes.T) ** 2).sum(1)
        self.gain, self.squared = (np.ascontiguousarray(matrix.T, np.float32) for matrix in (gain, gain**2))
        self.flat = flat.astype(np.float32)

    def __call__(self, counts: Single) -> Evidence:
        """Return the fit of (n, n_bin) counts."""
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
    """Return the (n,) counts under shapes of one count: the variance of an area fitted alone."""
    length = (shapes**2 / variance).sum(axis=1)
    return np.asarray(np.where(length > 0, 1.0 / np.where(length > 0, length, 1.0), 0.0))


def _residual_peaks(solution: Solution, peaks: Array, variance: Array) -> Array:
    """Return the (n_peak, n_bin) matrix from counts to areas of peaks, in addition to all columns of a solution.

    Zero for a peak that the columns make up together.
    """
    weighted = peaks / variance
    unexplained = weighted - (weighted @ solution.columns.T) @ solution.gain
    length, counts = (unexplained * peaks).sum(axis=1), (weighted * peaks).sum(axis=1)
    clear = length > _MIN_LEFT * counts
    return np.asarray(np.where(clear, 1.0 / np.where(clear, length, 1.0), 0.0)[:, None] * unexplained)


class VariableFit:
    """The fit of a scan: a solver for each class of pixels, ready for any block.

    Parameters
    ----------
    sample : (n, n_channel) array
        Spectra of the scan from which the classes are made, counts.
    detector : Detector
        Resolution and crystal.
    axis : EnergyAxis
    used : (n_channel,) bool array
        Channels used.
    families : sequence of str
        Families to fit; those outside the axis are ignored.
    simulated : sequence of LineCounts
        Of the instrument, or of those that may be it.
    excitation_kev : float
        Highest photon energy, keV.
    anode : (n, n_channel) array
        Lines of the source as the sample scatters them.
    n_classes : int
    per_fwhm : float
        Bins for one peak width; infinity makes a bin of every channel.
    peaks : bool
        Whether to find unassigned peaks as well.

    Attributes
    ----------
    names : tuple of str
        Families: the first columns of the result.
    detector : Detector
    n_source : int
        Lines of the source, the next ones.
    peak_kev : (n_peak,) array
        Energies of the last ones, keV.
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
        free_columns, area = _free_columns(ratios, self.bins, mean, anode)
        shapes, source = _peaks(self.peak_kev, self.bins, detector, axis), _source_rows(anode, self.bins)

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
        area, sigma, absent, under = np.empty((4, *shape), np.float32)
        shown = Evidence(area, sigma, absent, under, np.empty(shape, bool))
        for index in np.unique(label):
            of_class = label == index
            for target, part in zip(shown, self.classes[index](binned[of_class]), strict=True):
                target[of_class] = part
        return shown

    def class_of(self, counts: Single) -> NDArray[np.intp]:
        """Return (n,) the index of the class that each of (n, n_bin) counts is nearest to."""
        points = self._points(self._areas(counts), counts)
        return np.asarray(np.argmin((self.centres**2).sum(axis=1) - 2.0 * points @ self.centres.T, axis=1))

    def shown(self) -> list[str]:
        """Return the families detected in the sum spectrum of at least one class."""
        visible = np.zeros(len(self.names), bool)
        for class_solver, size in zip(self.classes, self.weights, strict=True):
            shown = class_solver(class_solver.mean[None] * size)
            visible |= self._stand_out(shown, SHOWN_SIGMAS, SHOWN_SHARE * size * class_solver.mean.sum())
        return [name for name, is_shown in zip(self.names, visible, strict=True) if is_shown]

    def shown_by_pixels(self, sample: NDArray[Any]) -> list[str]:
        """Return the families that are certain in at least one of (n, n_channel) spectra."""
        total = self.bins(sample, np.float32).sum(axis=1, keepdims=True)
        visible = self._stand_out(self(sample), PIXEL_SIGMAS, SHOWN_SHARE * np.maximum(total, 1.0))
        return [name for name, is_shown in zip(self.names, visible, strict=True) if is_shown]

    def _stand_out(self, shown: Evidence, sigmas: float, counts: Any) -> NDArray[np.bool_]:
        """Return (n_family,) whether any spectrum has a family above ``sigmas`` deviations and ``counts`` counts."""
        area, sigma = (part[:, : len(self.names)] for part in (shown.area, shown.sigma_if_absent))
        return np.asarray(((area > sigmas * sigma) & (area > counts)).any(axis=0))

    def _areas(self, counts: Single) -> Single:
        """Return (n, n_family) areas of (n, n_bin) counts by the fit of the mean spectrum."""
        return counts @ self.first.gain[:, : len(self.names)]

    @staticmethod
    def _points(area: Single, counts: Single) -> Single:
        """Return pixels' coordinates for the classes, roots of shares, whose noise is uniform, and their counts."""
        total = np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
        return np.concatenate([np.sqrt(np.maximum(area, 0.0) / total), 0.1 * np.log(total)], axis=1)


def fitted_noise(total: Array, detector: Detector, make: Callable[[Array, Detector], VariableFit]) -> float:
    """Return the electronic noise, keV FWHM, at which the sum spectrum is fitted best.

    Parameters
    ----------
    total : (n_channel,) array
        Sum spectrum, counts.
    detector : Detector
        Its noise is the starting value.
    make : callable
        Plans the fit of (n, n_channel) spectra for a detector.
    """

    def misfit(noise: float) -> float:
        return make(total[None], detector.model_copy(update={"noise_fwhm_kev": noise})).first.misfit

    start = detector.noise_fwhm_kev
    best = minimize_scalar(misfit, bounds=(0.6 * start, 1.3 * start), method="bounded", options={"maxiter": 8})
    # where the fit is poor, the misfit says little about the width of the peaks
    return float(best.x) if best.fun < _MIN_BETTER * misfit(start) else start


def _free_columns(ratios: LineRatios, bins: Bins, mean: Array, anode: Array) -> tuple[Array, Array]:
    """Return the (n, n_bin) columns other than the families, and initial areas, from the mean spectrum."""
    peaks = np.concatenate([ratios.common, anode])
    rest = mean
    weight = 1.0 / np.sqrt(np.maximum(mean, 1e-3 * float(mean.max())) + (0.01 * mean) ** 2)
    for _ in range(2):
        background = _background(rest, bins)
        design = np.concatenate([peaks, background]) * weight
        scale = np.maximum(np.sqrt((design**2).sum(axis=1)), 1e-30)
        area = nnls((design / scale[:, None]).T, mean * weight, maxiter=50 * scale.size)[0] / scale
        rest = np.maximum(mean - area[: len(peaks)] @ peaks, 0.0)
    return np.concatenate([anode, _background(rest, bins)]), area[: len(ratios.names)]


def _source_rows(templates: Array, bins: Bins) -> Array:
    """Return (2, n, n_bin): from counts to net counts of templates' strongest lines, and to counts under them."""
    place = np.arange(len(bins))
    rows = np.zeros((2, len(templates), len(bins)))
    for index, template in enumerate(templates):
        distance = np.abs(place - template.argmax()) / bins.per_fwhm
        line, flank = distance < _SOURCE_FWHM[0], (distance > _SOURCE_FWHM[1]) & (distance < _SOURCE_FWHM[2])
        rows[1, index] = flank * (bins.width[line].sum() / max(float(bins.width[flank].sum()), 1.0))
        rows[0, index] = line - rows[1, index]
    return rows


def _peak_energies(bins: Bins, detector: Detector) -> Array:
    """Return the energies at which peaks of no family are looked for, keV."""
    energy, stop = [float(bins.energy_kev[0]) + _PEAK_MARGIN_KEV], float(bins.energy_kev[-1]) - _PEAK_MARGIN_KEV
    while energy[-1] < stop:
        fwhm = float(resolution_fwhm_kev(energy[-1], detector.noise_fwhm_kev, detector.fano))
        energy.append(energy[-1] + _PEAK_STEP_FWHM * fwhm)
    return np.asarray(energy[:-1])


def _peaks(energy_kev: Array, bins: Bins, detector: Detector, axis: EnergyAxis) -> Array:
    """Return (n_peak, n_bin) Gaussian peaks of one count."""
    fwhm = resolution_fwhm_kev(energy_kev, detector.noise_fwhm_kev, detector.fano)
    each = np.arange(energy_kev.size)
    return np.asarray(bins(peak_columns(axis, energy_kev, np.ones(energy_kev.size), fwhm, each, energy_kev.size).T))


def _background(counts: Array, bins: Bins) -> Array:
    """Return the background's (n_spline, n_bin) columns."""
    width = np.full(len(bins), bins.per_fwhm)
    return background_columns(counts / bins.width, width, bins.energy_kev, np.ones(len(bins), bool)).T * bins.width
