"""Detection of diffraction peaks: sharp peaks in a single detector of a scan.

A crystal reflects X-rays of one energy into one direction (Bragg), whereas fluorescence is isotropic. The spectra of
the detectors are therefore compared, after correction for differences of efficiency, energy axis and resolution, which
are smooth functions of energy and the same in the whole scan. A difference common to all pixels is due to the
instrument.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import dask
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from scipy.ndimage import maximum_filter1d
from scipy.special import ndtr, ndtri

from underpaint.data import EnergyAxis, Scan, valid_spectra
from underpaint.data.maps import Results
from underpaint.data.peaks import resolution_fwhm_kev
from underpaint.elements._families import CANDIDATES
from underpaint.physics.atomic import family_lines
from underpaint.units import FWHM_PER_SIGMA

Array = NDArray[Any]
Single = NDArray[np.float32]

EXPECTED_FALSE_PEAKS = 0.01
"""Expected number of false peaks per scan, which determines the required significance."""
MIN_SIGMAS = 5.0
MIN_PIXELS = 30
"""Smallest number of spectra for a comparison."""
MAX_DIFFERING_SHARE, MIN_DIFFERING_SPECTRA = 0.01, 3
"""Largest fraction and number of spectra that differ at one energy because of crystals. If more spectra differ, paint
absorbs the lines of a buried element more on the path to one detector than to the other."""
RATIO_ERROR = 0.1
"""Smallest error of the ratio of a line between detectors, whose paths through the paint differ; it is increased if the
scan requires it."""
MIN_EXCESS_RATIO = 0.75
"""Smallest ratio of the excess of a peak in one detector to the peak expected from the others."""
BACKGROUND_ERROR = 0.01
"""Relative error of the linear background under a peak."""
MIN_INSTRUMENT_RATIO, MIN_PROMINENCE = 1.5, 0.2
"""Smallest ratios, for a note, of a peak in the sum spectrum to the expected peak, and of its excess to all counts."""
_RATIO_ERRORS = (0.1, 0.14, 0.2, 0.28, 0.4, 0.6, 0.9)
_MAX_SAMPLED_BYTES, _N_SAMPLED_PIXELS = 64 * 2**20, 4096
_MIN_ENERGY_KEV, _REFERENCE_KEV = 2.0, 5.9
_BIN_FWHM, _PROBE_STEP_FWHM, _PROBE_RANGE_FWHM, _BASE_WIDENING_FWHM = 0.25, 0.4, 1.6, 0.25
_LOG_KNOT_STEP = 0.2
_MODEL_ERROR = 0.03
_EFFICIENCY_PRIOR = np.array([1.0, 1.0, 0.5, 0.3, 3.0])
"""Standard deviations of the prior of the coefficients of :func:`_efficiency_terms`."""
_N_COMPONENTS, _PRIOR_RATIO = 6, 0.3
_N_ROUNDS = 6
_CLIP_SIGMAS = 4.0
_STRONG_PIXEL_SHARE, _MAX_STRONG_SQUARED, _MAX_SQUARED = 0.05, 1.8, 5.1
"""Fraction of pixels with the strongest peaks, and limits of squared deviations, in sigmas: for the 75 % quantile of
these pixels and the 95 % quantile of all. The limits are a third above those of normal errors, 1.3 and 3.8."""
_MAX_LISTED = 6


@dataclass(frozen=True)
class Comparison:
    """Comparison of one detector with the sum of the other detectors.

    Parameters
    ----------
    spectrum, other : (n_merged, n_probe) arrays
        Matrices from binned counts of the detector, and of the others, to peak areas on the scale of the detector.
    share : (n_merged,) array
        Expected counts of the detector per count of the others, for peaks.
    level : float
        Ratio of all counts of the scan to the counts expected from ``share``.
    window : (n_merged, n_probe) array
        One for bins within half a FWHM of each energy, else zero.
    components : (n_merged, n_component) array
        Principal components of the spectra of the others, for scores of unit variance.
    offsets : (n_component,) array
        Offsets of the scores, for a mean of zero.
    systematic : (3 + n_component, n_probe) array
        Coefficients of the systematic difference: constant, per count, per count of the peak, and the last times each
        score.
    ratio_error : (n_probe,) array
        Relative error of the ratio of peaks.
    scale : (n_probe,) array
        Ratio of the observed deviations to those from counting statistics and ``ratio_error``.
    """

    spectrum: Single
    other: Single
    share: Single
    level: float
    window: Single
    components: Single
    offsets: Array
    systematic: Array
    ratio_error: Array
    scale: Array

    def measured(self, detector_counts: Array, other_counts: Array) -> tuple[Array, Array, Array, Array]:
        """Return (n, n_probe) excess, its variance and expected peak area, and (n, 1) expected counts."""
        expected = other_counts @ self.share
        relative_counts = self.relative(detector_counts.sum(axis=1), expected)
        peak = relative_counts * (other_counts @ self.other)
        variance = detector_counts @ self.spectrum**2 + relative_counts**2 * (other_counts @ self.other**2) + 1.0
        variance += (BACKGROUND_ERROR * (detector_counts @ self.window)) ** 2
        excess = detector_counts @ self.spectrum - peak
        return excess, variance, peak, relative_counts * expected[:, None]

    def relative(self, counts: Single, expected: Single) -> Single:
        """Return the (n, 1) ratio of counts to expected counts relative to the scan, which differs with the relief."""
        return np.asarray(np.clip(counts / np.maximum(self.level * expected, 1.0), 0.2, 5.0)[:, None])

    def terms(self, other_counts: Single, peak: Array, expected: Array) -> Array:
        """Return the (n_term, n, n_probe) terms of the systematic difference between detectors.

        The ratio depends on the paint, since the path through upper layers differs between detectors.
        """
        scores = (
            other_counts / np.maximum(other_counts.sum(axis=1, keepdims=True), 1.0)
        ) @ self.components + self.offsets
        constant_terms = np.ones_like(peak), np.broadcast_to(expected, peak.shape)
        return np.stack([*constant_terms, peak, *(peak * np.clip(score, -4.0, 4.0)[:, None] for score in scores.T)])

    def sigmas(self, detector_counts: Single, other_counts: Single) -> Array:
        """Return the (n, n_probe) significance, sigmas, of the excess of a detector's peaks over the others.

        The significance is zero if the other detectors also have most of the peak, which is then a line of an element.
        """
        excess, variance, peak, expected = self.measured(detector_counts, other_counts)
        excess = excess - np.einsum("anp,ap->np", self.terms(other_counts, peak, expected), self.systematic)
        sigma = self.scale * np.sqrt(variance + (self.ratio_error * _strongest_nearby(peak)) ** 2)
        return np.where(excess > MIN_EXCESS_RATIO * peak, excess / sigma, 0.0)


@dataclass(frozen=True)
class Diffraction:
    """Comparison of the detectors of a scan, for the counts of any block; it can be sent to other processes.

    Parameters
    ----------
    detectors : tuple of str
        Names of the detectors.
    energy_kev : (n_probe,) array
        Energies at which peaks are tested, in keV.
    fwhm_kev : (n_probe,) array
        FWHM of a peak at these energies, in keV.
    channels : (n_probe, 2) int array
        First channel of a peak, and the channel after the last.
    merge : int
        Number of channels per bin.
    comparisons : tuple of Comparison
        Comparison of each detector with the others.
    threshold : float
        Smallest significance of a diffraction peak, in sigmas.
    notes : tuple of str
        Notes on differences in the sum spectra.
    """

    detectors: tuple[str, ...]
    energy_kev: Array
    fwhm_kev: Array
    channels: NDArray[np.intp]
    merge: int
    comparisons: tuple[Comparison, ...]
    threshold: float
    notes: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the maps, one per detector."""
        return tuple(f"detector_{number}" for number in range(1, len(self.detectors) + 1))

    def __call__(
        self, detectors: Sequence[NDArray[Any]], present: NDArray[np.bool_] | None = None
    ) -> tuple[Single, Single, NDArray[np.bool_]]:
        """Return maps of peaks in a single detector, and corrected spectra.

        Parameters
        ----------
        detectors : sequence of (n_row, n_column, n_channel) arrays
            Counts of each detector.
        present : (n_row, n_column) bool array or None
            Mask of present spectra.

        Returns
        -------
        maps : (n_row, n_column, n_detector, 2) array
            Significance, sigmas, and energy, keV, of the strongest peak of each detector; NaN without a spectrum.
        corrected : (n, n_channel) array
            Summed counts of the pixels with such a peak; at the peak, counts are those expected from other detectors.
        is_candidate : (n_row, n_column) bool array
            Mask of these pixels.
        """
        shape = detectors[0].shape[:2]
        spectra = [array.reshape(-1, array.shape[-1]) for array in detectors]
        maps = np.full((len(spectra[0]), len(spectra), 2), np.nan, np.float32)
        is_valid = np.logical_and.reduce([valid_spectra(array) for array in spectra])
        if present is not None:
            is_valid &= present.ravel()
        binned = [_binned(array[is_valid], self.merge, len(self.comparisons[0].share)) for array in spectra]
        total = np.sum(binned, axis=0)
        all_sigmas = [
            comparison.sigmas(single, total - single)
            for comparison, single in zip(self.comparisons, binned, strict=True)
        ]
        for detector_index, sigmas in enumerate(all_sigmas):
            best_probe = sigmas.argmax(axis=1)
            maps[is_valid, detector_index, 0] = sigmas[np.arange(len(best_probe)), best_probe]
            maps[is_valid, detector_index, 1] = self.energy_kev[best_probe]
        is_candidate = np.nan_to_num(maps[:, :, 0]).max(axis=1) > self.threshold
        detector_counts = [array[is_candidate].astype(np.float32) for array in spectra]
        summed_counts = np.sum(detector_counts, axis=0)
        corrected = summed_counts.copy()
        for sigmas, single, comparison in zip(all_sigmas, detector_counts, self.comparisons, strict=True):
            other_counts = summed_counts - single
            expected_share = np.repeat(comparison.share, self.merge)
            expected_share = np.pad(
                expected_share, (0, max(summed_counts.shape[1] - expected_share.size, 0)), mode="edge"
            )[: summed_counts.shape[1]]
            expected = other_counts * expected_share
            expected *= comparison.relative(single.sum(axis=1), expected.sum(axis=1))
            is_replaced = self._peak_mask(sigmas[is_candidate[is_valid]] > MIN_SIGMAS, summed_counts.shape[1])
            corrected += np.where(is_replaced, expected - single, 0.0)
        return maps.reshape(*shape, len(spectra), 2), corrected, is_candidate.reshape(shape)

    def _peak_mask(self, peaks: NDArray[np.bool_], n_channel: int) -> NDArray[np.bool_]:
        """Return the (n, n_channel) mask of the channels of (n, n_probe) peaks."""
        in_peak = np.zeros((len(peaks), n_channel), bool)
        for probe in np.flatnonzero(peaks.any(axis=0)):
            first_channel, stop_channel = self.channels[probe]
            in_peak[peaks[:, probe], first_channel:stop_channel] = True
        return in_peak

    def results(self, maps: Single, step_mm: tuple[float, float] | None) -> Results:
        """Return (n_row, n_column, n_detector, 2) significances and energies as results."""
        settings = {"detectors": list(self.detectors), "threshold_sigmas": self.threshold}
        facts: dict[str, Any] = {"step_mm": step_mm, "notes": self.notes, "settings": settings}
        return Results.of_diffraction(self.keys, maps[..., 0], maps[..., 1], **facts)

    def findings(self, results: Results) -> tuple[str, ...]:
        """Return texts on the diffraction peaks in results, most frequent first."""
        groups: list[tuple[int, str]] = []
        for key, name in zip(self.keys, self.detectors, strict=True):
            sigmas, energy_map = results.map("diffraction", key), results.map("diffraction_kev", key)
            rows, columns = np.nonzero(np.nan_to_num(sigmas) > self.threshold)
            order = np.argsort(energy_map[rows, columns])
            rows, columns = rows[order], columns[order]
            energies_kev = energy_map[rows, columns]
            while energies_kev.size:
                is_near = energies_kev <= energies_kev[0] + float(
                    np.interp(energies_kev[0], self.energy_kev, self.fwhm_kev)
                )
                groups.append(
                    (
                        int(is_near.sum()),
                        self._describe_group(name, sigmas, energies_kev[is_near], rows[is_near], columns[is_near]),
                    )
                )
                rows, columns, energies_kev = rows[~is_near], columns[~is_near], energies_kev[~is_near]
        groups.sort(key=lambda group: -group[0])
        unlisted = groups[_MAX_LISTED:]
        unlisted_text = (
            f"diffraction at {len(unlisted)} more energies, in {sum(n_pixel for n_pixel, _ in unlisted)} pixels: see "
            "the maps of diffraction in results.h5."
        )
        return (*(text for _, text in groups[:_MAX_LISTED]), *((unlisted_text,) if unlisted else ()))

    def _describe_group(
        self, name: str, sigmas: Single, energies_kev: Array, rows: NDArray[np.intp], columns: NDArray[np.intp]
    ) -> str:
        best_index = int(sigmas[rows, columns].argmax())
        peak_kev = float(energies_kev[best_index])
        n_pixel = "1 pixel" if len(rows) == 1 else f"{len(rows)} pixels"
        family = _family_at(peak_kev, float(np.interp(peak_kev, self.energy_kev, self.fwhm_kev)))
        return (
            f"diffraction, not an element: only detector {name} has a sharp peak at {peak_kev:.2f} keV in {n_pixel} "
            f"(most significant at row {rows[best_index]}, column {columns[best_index]}: "
            f"{sigmas[rows[best_index], columns[best_index]]:.0f} sigma)"
            + (f"; it resembles {family}" if family else "")
            + ". Areas of these pixels are those of the other detectors; their uncertainties include the difference."
        )


def plan_diffraction(scan: Scan, axis: EnergyAxis, noise_fwhm_kev: float, fano: float) -> Diffraction | None:
    """Return the comparison of the detectors of a scan; None for a single detector, or if comparison is impossible.

    Parameters
    ----------
    scan : Scan
        Scan with its detectors, from :func:`underpaint.load`.
    axis : EnergyAxis
        Energy axis of the scan.
    noise_fwhm_kev, fano : float
        Resolution of the sum spectrum: electronic noise, keV, and Fano factor.

    Raises
    ------
    ScanError
        A block cannot be read.
    """
    if len(scan.detectors) < 2:
        return None
    resolution = partial(resolution_fwhm_kev, noise_fwhm_kev=noise_fwhm_kev, fano=fano)
    fwhm_kev = resolution(_REFERENCE_KEV)
    merge = max(int(_BIN_FWHM * float(fwhm_kev) / axis.gain_kev), 1)
    n_merged = axis.n_channel // merge
    samples, totals = _sample_spectra(scan, merge, n_merged)
    if len(samples[0]) < MIN_PIXELS or min(spectrum.sum() for spectrum in totals) <= 0:
        return None
    binned_axis = EnergyAxis(axis.gain_kev * merge, axis.zero_kev + 0.5 * (merge - 1) * axis.gain_kev, n_merged)
    energy_kev, width_kev = _probe_energies(binned_axis, resolution, np.min(totals, axis=0))
    if not energy_kev.size:
        return None
    names = tuple(detector.detector or str(number) for number, detector in enumerate(scan.detectors, 1))
    n_tests = scan.n_pixel * energy_kev.size * len(names)
    threshold = max(float(-ndtri(EXPECTED_FALSE_PEAKS / n_tests)), MIN_SIGMAS)
    comparisons, notes = [], []
    for name, sample, total in zip(names, samples, totals, strict=True):
        other_total = np.sum(totals, axis=0) - total
        other_sample = np.sum(samples, axis=0) - sample
        comparison = _make_comparison(sample, other_sample, total, other_total, binned_axis, energy_kev, width_kev)
        comparisons.append(comparison)
        notes += _scan_differences(name, comparison, total, other_total, energy_kev, width_kev)
        n_differing = maximum_filter1d((comparison.sigmas(sample, other_sample) > threshold).sum(axis=0), 5)
        is_paint = n_differing > max(MAX_DIFFERING_SHARE * len(sample), MIN_DIFFERING_SPECTRA)
        comparisons[-1] = replace(comparison, scale=np.where(is_paint, np.inf, comparison.scale))
        notes += _paint_note(name, energy_kev[is_paint & (n_differing == maximum_filter1d(n_differing, 9))])
    limits_kev = energy_kev[:, None] + 0.8 * width_kev[:, None] * np.array([-1.0, 1.0]) - axis.zero_kev
    channels = np.clip(np.rint(limits_kev / axis.gain_kev), 0, axis.n_channel).astype(np.intp) + np.array([0, 1])
    return Diffraction(names, energy_kev, width_kev, channels, merge, tuple(comparisons), threshold, tuple(notes))


def _binned(counts: NDArray[Any], merge: int, n_merged: int) -> Single:
    """Return the (n, n_merged) sums of neighbouring channels of (n, n_channel) counts; a remainder is omitted."""
    binned = np.zeros((len(counts), n_merged), np.float32)
    for offset in range(merge):
        binned += counts[:, offset : offset + n_merged * merge : merge]
    return binned


def _sample_spectra(scan: Scan, merge: int, n_merged: int) -> tuple[list[Single], list[Array]]:
    """Return binned spectra of a sample of pixels for each detector, and the sums over all pixels that were read."""
    blocks = list(scan.blocks())
    n_bytes = sum(detector.counts.nbytes for detector in scan.detectors)
    n_blocks = min(max(int(len(blocks) * _MAX_SAMPLED_BYTES / n_bytes), 1), len(blocks))
    rng = np.random.default_rng(0)
    samples: list[list[Single]] = [[] for _ in scan.detectors]
    totals = [np.zeros(n_merged) for _ in scan.detectors]
    for index in np.unique(np.linspace(0, len(blocks) - 1, n_blocks).astype(int)):
        block = blocks[index]
        block_counts = dask.compute(*(detector.counts[block] for detector in scan.detectors), scheduler=dask.get)
        detector_spectra = [np.asarray(counts).reshape(-1, counts.shape[-1]) for counts in block_counts]
        is_valid = np.logical_and.reduce([valid_spectra(spectra) for spectra in detector_spectra])
        if scan.present is not None:
            is_valid &= scan.present[block].ravel()
        valid_rows = np.flatnonzero(is_valid)
        selection = rng.permutation(len(valid_rows))[: -(-_N_SAMPLED_PIXELS // n_blocks)]
        for detector_index, spectra in enumerate(detector_spectra):
            binned = _binned(spectra[valid_rows], merge, n_merged)
            totals[detector_index] += binned.sum(axis=0, dtype=np.float64)
            samples[detector_index].append(binned[selection])
    return [np.concatenate(sample) for sample in samples], totals


def _probe_energies(binned_axis: EnergyAxis, resolution: Callable[[float], Any], total: Array) -> tuple[Array, Array]:
    """Return the energies at which peaks are tested, and the FWHM at these energies, in keV."""
    recorded = np.flatnonzero(total > 0)
    if not recorded.size:
        return np.zeros(0), np.zeros(0)
    energies: list[float] = []
    widths: list[float] = []
    energy_kev, stop_kev = (
        max(_MIN_ENERGY_KEV, float(binned_axis.energy_kev[recorded[0]])),
        float(binned_axis.energy_kev[recorded[-1]]),
    )
    while True:
        width_kev = float(resolution(energy_kev))
        if not energies:
            energy_kev += _PROBE_RANGE_FWHM * width_kev
        if energy_kev + _PROBE_RANGE_FWHM * width_kev > stop_kev:
            return np.asarray(energies), np.asarray(widths)
        energies.append(energy_kev)
        widths.append(width_kev)
        energy_kev += _PROBE_STEP_FWHM * width_kev


def _make_comparison(
    sample: Single,
    other_sample: Single,
    total: Array,
    other_total: Array,
    binned_axis: EnergyAxis,
    energy_kev: Array,
    width_kev: Array,
) -> Comparison:
    """Return the comparison of one detector with the others, from a sample and from sum spectra."""
    peaks, window = _peak_filters(binned_axis, energy_kev, width_kev)
    spread_this, spread_others, expected_share = _fit_response_difference(
        total, other_total, binned_axis, energy_kev, width_kev, peaks
    )
    detector_matrix = (spread_this @ peaks).astype(np.float32)
    other_matrix = (spread_others @ (expected_share[:, None] * peaks)).astype(np.float32)
    components, offsets = _principal_components(other_sample)
    zeros, ones = np.zeros((3 + len(offsets), energy_kev.size)), np.ones(energy_kev.size)
    expected_share = (spread_others @ expected_share).astype(np.float32)
    level = float(total.sum() / (other_total @ expected_share))
    initial = Comparison(
        detector_matrix,
        other_matrix,
        expected_share,
        level,
        window.astype(np.float32),
        components,
        offsets,
        zeros,
        0 * ones,
        ones,
    )
    excess, variance, peak, expected = initial.measured(sample, other_sample)
    nearby_peak = _strongest_nearby(peak)
    coefficients, error, scale = zeros, np.full(energy_kev.size, RATIO_ERROR), ones
    terms = initial.terms(other_sample, peak, expected)
    residual = excess - np.median(excess, axis=0)
    for _ in range(4):
        sigma = np.sqrt(variance + (error * nearby_peak) ** 2)
        deviation = np.abs(residual / sigma)
        typical_deviation = np.maximum(np.median(deviation, axis=0) / ndtri(0.75), 1.0)
        weight = (deviation < _CLIP_SIGMAS * typical_deviation) / sigma**2
        coefficients = _weighted_regression(excess, terms, weight)
        residual = excess - np.einsum("anp,ap->np", terms, coefficients)
        error = _ratio_errors(residual, variance, nearby_peak)
    sigma = np.sqrt(variance + (error * nearby_peak) ** 2)
    scale = np.maximum(np.median(np.abs(residual / sigma), axis=0) / ndtri(0.75), 1.0)
    return replace(initial, systematic=coefficients, ratio_error=error, scale=scale)


def _principal_components(spectra: Single) -> tuple[Single, Array]:
    """Return the principal components of (n, n_merged) spectra, and the offsets of the scores."""
    normalised = spectra / np.maximum(spectra.sum(axis=1, keepdims=True), 1.0)
    mean = normalised.mean(axis=0, dtype=np.float64)
    root_mean = np.sqrt(mean + 1e-3 * mean.max())  # for uniform counting noise
    _, singular_values, vectors = np.linalg.svd((normalised - mean) / root_mean, full_matrices=False)
    selected = slice(0, min(_N_COMPONENTS, len(spectra) // 20))
    components = (vectors[selected] / root_mean).T / np.maximum(
        singular_values[selected] / np.sqrt(len(spectra)), 1e-12
    )
    return components.astype(np.float32), -mean @ components


def _weighted_regression(excess: Array, terms: Array, weight: Array) -> Array:
    """Return the (n_term, n_probe) coefficients of (n_term, n, n_probe) terms, with a prior near zero."""
    norms = np.sqrt(np.maximum((terms**2 * weight).sum(axis=1), 1e-30))
    scaled = terms / norms[:, None]
    normal_matrix = np.einsum("anp,bnp,np->pab", scaled, scaled, weight, optimize=True)
    # prior of ratios: mean zero, standard deviation _PRIOR_RATIO
    prior = 1.0 / (_PRIOR_RATIO * norms) ** 2
    prior[:2] = 1e-3
    diagonal = np.arange(len(terms))
    normal_matrix[:, diagonal, diagonal] += prior.T
    target = np.einsum("anp,np,np->pa", scaled, excess, weight, optimize=True)
    return np.asarray(np.linalg.solve(normal_matrix, target[..., None])[..., 0].T / norms)


def _ratio_errors(residual: Array, variance: Array, nearby_peak: Array) -> Array:
    """Return the (n_probe,) smallest errors of the ratio that explain the residuals of the strongest peaks.

    The pixels are selected by the counts of the other detectors, so that diffraction does not bias the selection.
    """
    errors = np.full(residual.shape[1], RATIO_ERROR)
    n_strong = max(MIN_PIXELS, round(_STRONG_PIXEL_SHARE * len(residual)))
    for probe in range(residual.shape[1]):
        strong_pixels = np.argsort(-nearby_peak[:, probe])[:n_strong]
        for error in _RATIO_ERRORS:
            errors[probe] = error
            deviation = residual[:, probe] / np.sqrt(variance[:, probe] + (error * nearby_peak[:, probe]) ** 2)
            if (
                np.quantile(deviation[strong_pixels] ** 2, 0.75) < _MAX_STRONG_SQUARED
                and np.quantile(deviation**2, 0.95) < _MAX_SQUARED
            ):
                break
    return np.asarray(maximum_filter1d(errors, 3))


def _strongest_nearby(peak: Array) -> Array:
    """Return the strongest peak near each energy, since errors of its shape affect its flanks."""
    return np.asarray(maximum_filter1d(np.abs(peak), 5, axis=1))


def _peak_filters(binned_axis: EnergyAxis, energy_kev: Array, width_kev: Array) -> tuple[Array, Array]:
    """Return (n_merged, n_probe) weights for the area of a peak over a linear background, and masks of the peaks."""
    distance_kev = binned_axis.energy_kev[:, None] - energy_kev
    sigma = width_kev * np.hypot(1.0, _BASE_WIDENING_FWHM) / FWHM_PER_SIGMA
    shape = np.exp(-0.5 * (distance_kev / sigma) ** 2)
    peaks = np.zeros_like(distance_kev)
    for probe, range_kev in enumerate(_PROBE_RANGE_FWHM * width_kev):
        in_range = np.abs(distance_kev[:, probe]) <= range_kev
        columns = np.stack([shape[in_range, probe], np.ones(in_range.sum()), distance_kev[in_range, probe]], axis=1)
        columns[:, 0] /= shape[:, probe].sum()
        peaks[in_range, probe] = np.linalg.pinv(columns)[0]
    return peaks, np.abs(distance_kev) < 0.5 * width_kev


def _fit_response_difference(
    total: Array, other_total: Array, binned_axis: EnergyAxis, energy_kev: Array, width_kev: Array, peaks: Array
) -> tuple[Array, Array, Array]:
    """Return shift, difference of resolution, and ratio between a detector and the others, from sum spectra.

    Returns
    -------
    this, other_total : (n_merged, n_merged) arrays
        Matrices from the counts of the detector, and of the others, to counts on a common axis with common resolution.
    ratio : (n_merged,) array
        Counts of the detector per count of the others.
    """
    centre_kev = binned_axis.energy_kev
    fwhm_kev = np.interp(centre_kev, energy_kev, width_kev)
    base_variance = (_BASE_WIDENING_FWHM * fwhm_kev / FWHM_PER_SIGMA) ** 2
    is_used = (centre_kev > _MIN_ENERGY_KEV) & (centre_kev < energy_kev[-1] + _PROBE_RANGE_FWHM * width_kev[-1])
    linear_terms = np.stack([np.ones_like(centre_kev), (centre_kev - centre_kev.mean()) / centre_kev.std()])
    splines = _log_splines(centre_kev)
    shift_kev, variance = np.zeros_like(centre_kev), np.zeros_like(centre_kev)
    ratio = np.full(centre_kev.size, total.sum() / other_total.sum())
    for _ in range(_N_ROUNDS):
        spread_this = _spread_matrix(binned_axis, np.zeros_like(centre_kev), base_variance + np.maximum(-variance, 0.0))
        spread_others = _spread_matrix(binned_axis, shift_kev, base_variance + np.maximum(variance, 0.0))
        target, reference = total @ spread_this, other_total @ spread_others
        first_derivative = np.gradient(reference, centre_kev)
        second_derivative = np.gradient(first_derivative, centre_kev)
        columns = np.concatenate(
            [
                splines * reference,
                -linear_terms * first_derivative * ratio,
                0.5 * linear_terms * second_derivative * ratio,
            ]
        )
        deviation = np.sqrt(target + ratio**2 * reference + (_MODEL_ERROR * target) ** 2 + 1.0)
        weight = is_used / deviation
        for _ in range(5):
            scaled = (columns * weight).T
            norms = np.maximum(np.linalg.norm(scaled, axis=0), 1e-30)
            solution = np.linalg.lstsq(scaled / norms, target * weight, rcond=1e-8)[0] / norms
            misfit = (target - solution @ columns) / deviation
            # reduces the weight of elements of the instrument and of different Compton peaks
            weight = is_used / deviation / (1.0 + (misfit / 2.0) ** 2)
        n_knot = len(splines)
        ratio = np.maximum(solution[:n_knot] @ splines, 1e-3 * ratio.mean())
        max_shift_kev = 0.25 * fwhm_kev
        shift_kev = shift_kev + np.clip(solution[n_knot : n_knot + 2] @ linear_terms, -max_shift_kev, max_shift_kev)
        variance = np.clip(
            variance + np.clip(solution[n_knot + 2 :] @ linear_terms, -(max_shift_kev**2), max_shift_kev**2),
            -base_variance * 9,
            base_variance * 9,
        )
    return (
        spread_this,
        spread_others,
        _peak_ratio(total @ spread_this, other_total @ spread_others, centre_kev, energy_kev, peaks),
    )


def _peak_ratio(target: Array, reference: Array, centre_kev: Array, energy_kev: Array, peaks: Array) -> Array:
    """Return the (n_merged,) ratio of peaks, which differs from that of all counts, since scatter is anisotropic.

    Absorption by air, windows and dead layers is proportional to the third power of the wavelength; other factors vary
    slowly with energy.
    """
    measured, reference_counts = np.maximum(target @ peaks, 0.0), np.maximum(reference @ peaks, 0.0)
    errors = [
        np.sqrt(counts @ peaks**2 + 1.0) / np.maximum(area, 1.0)
        for counts, area in ((target, measured), (reference, reference_counts))
    ]
    product = measured * reference_counts
    peak_probes = np.flatnonzero((product == maximum_filter1d(product, 5)) & (np.maximum(*errors) < 1.0 / MIN_SIGMAS))
    if not peak_probes.size:
        return np.full(centre_kev.size, target.sum() / reference.sum())
    log_ratio = np.log(measured[peak_probes] / reference_counts[peak_probes])
    deviation = np.sqrt(_MODEL_ERROR**2 + errors[0][peak_probes] ** 2 + errors[1][peak_probes] ** 2)
    median = float(np.median(log_ratio))
    columns, misfit = _efficiency_terms(energy_kev[peak_probes]), (log_ratio - median) / deviation
    solution = np.zeros(len(_EFFICIENCY_PRIOR))
    for _ in range(4 * _N_ROUNDS):
        # least absolute deviations are robust against elements of the instrument and Compton peaks
        weight = 1.0 / (deviation * np.sqrt(np.maximum(np.abs(misfit), 1.0)))
        design = np.concatenate([columns * weight[:, None], np.diag(1.0 / _EFFICIENCY_PRIOR)])
        target_values = np.append((log_ratio - median) * weight, np.zeros(len(_EFFICIENCY_PRIOR)))
        solution = np.linalg.lstsq(design, target_values, rcond=None)[0]
        misfit = (log_ratio - median - columns @ solution) / deviation
    min_kev, max_kev = energy_kev[peak_probes][[0, -1]]
    return np.exp(median + _efficiency_terms(np.clip(centre_kev, 0.9 * min_kev, 1.1 * max_kev)) @ solution)


def _efficiency_terms(energy: Array) -> Array:
    """Return the (n, n_term) terms of the logarithm of the ratio of two efficiencies."""
    log_energy = np.log(energy / 8.0)
    return np.stack([np.ones_like(energy), log_energy, log_energy**2, log_energy**3, (2.0 / energy) ** 3], axis=-1)


def _log_splines(energy: Array) -> Array:
    """Return (n_knot, n) quadratic splines with knots uniform in the logarithm of energy."""
    log_energy = np.log(np.maximum(energy, 0.5 * _MIN_ENERGY_KEV))
    start, stop = float(log_energy[0]), float(log_energy[-1]) + 1e-9
    n_intervals = max(round((stop - start) / _LOG_KNOT_STEP), 1)
    knots = np.concatenate([[start] * 2, np.linspace(start, stop, n_intervals + 1), [stop] * 2])
    return np.asarray(BSpline.design_matrix(log_energy, knots, 2).toarray().T)


def _spread_matrix(binned_axis: EnergyAxis, shift: Array, variance: Array) -> Array:
    """Return the (n, n) matrix of the fractions of each channel's counts in all channels after shift and widening."""
    distance_kev = binned_axis.edges_kev - (binned_axis.energy_kev + shift)[:, None]
    return np.asarray(np.diff(ndtr(distance_kev / np.sqrt(np.maximum(variance, 1e-9))[:, None]), axis=1))


def _family_at(energy_kev: float, fwhm_kev: float) -> str:
    """Return the family with the nearest strong line within half a FWHM; "" if there is none."""
    nearest_family, min_distance_kev = "", 0.5 * fwhm_kev
    for family in CANDIDATES:
        symbol, _, shell = family.partition("_")
        line_kev, rate = family_lines(symbol, shell, 60.0)
        strong_kev = line_kev[rate > 0.3 * rate.max(initial=0.0)]
        distance_kev = float(np.abs(strong_kev - energy_kev).min(initial=np.inf))
        if distance_kev < min_distance_kev:
            nearest_family, min_distance_kev = family, distance_kev
    return nearest_family.replace("_", " ")


def _paint_note(name: str, energies: Array) -> list[str]:
    if not energies.size:
        return []
    listed = ", ".join(f"{energy:.1f}" for energy in dict.fromkeys(np.round(energies, 1)))
    return [
        f"detector {name} has peaks at {listed} keV that the others lack, in too many pixels for crystals: paint "
        "absorbs these lines less on the path to this detector. They are treated as elements."
    ]


def _scan_differences(
    name: str, comparison: Comparison, total: Array, other_total: Array, energy_kev: Array, fwhm_kev: Array
) -> list[str]:
    """Return texts on peaks of the sum spectra that are stronger in one detector."""
    excess, variance, peak, _ = (values[0] for values in comparison.measured(total[None], other_total[None]))
    deviation = np.hypot(RATIO_ERROR * _strongest_nearby(peak[None])[0], np.sqrt(variance))
    measured_peak = excess + peak
    is_reported = (measured_peak == maximum_filter1d(measured_peak, 5)) & (excess > MIN_SIGMAS * deviation)
    is_reported &= (excess > MIN_PROMINENCE * (total @ comparison.window)) & (
        measured_peak > MIN_INSTRUMENT_RATIO * peak
    )
    notes = []
    for probe in np.flatnonzero(is_reported):
        family = _family_at(float(energy_kev[probe]), float(fwhm_kev[probe]))
        comparison_text = (
            "a peak"
            if peak[probe] < 0.1 * measured_peak[probe]
            else f"{measured_peak[probe] / peak[probe]:.1f} times the peak"
        )
        notes.append(
            f"differs between the detectors in the whole scan: detector {name} has {comparison_text} at "
            f"{energy_kev[probe]:.2f} keV "
            f"{f'({family}) ' if family else ''}expected from the others: it is due to the instrument (a "
            "fluorescing part, or scatter at another angle), not to the sample."
        )
    return notes
