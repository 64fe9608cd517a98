"""Detection of diffraction peaks: sharp peaks in a single detector of a scan.

A crystal reflects X-rays of one energy into one direction (Bragg), whereas fluorescence is isotropic. Comparing the
spectra of several detectors therefore reveals diffraction. Differences of efficiency, energy axis and resolution are
corrected first. The corrected differences are smooth functions of energy, and the same in all pixels. A peak that
differs between detectors in all pixels is due to the instrument.
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
FloatArray = NDArray[np.float32]

EXPECTED_FALSE_PEAKS = 0.01
"""Expected number of false peaks per scan; the required significance follows from this number."""
MIN_PEAK_SIGMAS = 5.0
MIN_COMPARED_PIXELS = 30
"""Smallest number of spectra for comparing detectors."""
MAX_CRYSTAL_FRACTION, MAX_CRYSTAL_SPECTRA = 0.01, 3
"""Largest fraction and largest number of spectra in which crystals may cause differences between detectors at one
energy. If more spectra differ, the cause is paint: absorption differs between the paths to the detectors."""
MIN_RATIO_ERROR = 0.1
"""Smallest relative error of the ratio of a line's counts in different detectors. Paths through the paint differ
between detectors. Scans with larger differences between detectors have a larger error."""
MIN_EXCESS_RATIO = 0.75
"""Smallest ratio of a diffraction peak's excess area to the area expected from the other detectors."""
BACKGROUND_ERROR = 0.01
"""Relative error of the linear background below a peak."""
MIN_INSTRUMENT_RATIO, MIN_EXCESS_FRACTION = 1.5, 0.2
"""Minimum ratios for a note on a peak of the sum spectrum: peak to expected area, and excess area to peak counts."""
_PEAK_RATIO_ERRORS = (0.1, 0.14, 0.2, 0.28, 0.4, 0.6, 0.9)
_MAX_SAMPLED_BYTES, _N_SAMPLED_PIXELS = 64 * 2**20, 4096
_MIN_ENERGY_KEV, _REFERENCE_KEV = 2.0, 5.9
_BIN_WIDTH_FWHM, _PROBE_STEP_FWHM, _PROBE_RANGE_FWHM, _BASE_WIDENING_FWHM = 0.25, 0.4, 1.6, 0.25
_LOG_ENERGY_KNOT_STEP = 0.2
_COUNT_MODEL_ERROR = 0.03
_EFFICIENCY_PRIOR_SIGMAS = np.array([1.0, 1.0, 0.5, 0.3, 3.0])
"""Prior standard deviations of the coefficients of :func:`_efficiency_terms`."""
_N_PRINCIPAL_COMPONENTS, _PEAK_RATIO_PRIOR_SIGMA = 6, 0.3
_N_RESPONSE_ITERATIONS = 6
_MAX_RESIDUAL_SIGMAS = 4.0
_STRONG_PIXEL_FRACTION, _MAX_STRONG_SQUARED_DEVIATION, _MAX_SQUARED_DEVIATION = 0.05, 1.8, 5.1
"""Fraction of pixels whose peaks count as strongest, and two limits of squared deviations, in sigma squared. The first
limit applies to the 75 % quantile over the pixels with the strongest peaks. The second limit applies to the 95 %
quantile over all pixels. For normal errors, the quantiles are 1.3 and 3.8; the limits are a third higher."""
_MAX_LISTED_GROUPS = 6


@dataclass(frozen=True)
class Comparison:
    """Comparison of one detector with the sum of the other detectors.

    Parameters
    ----------
    detector_matrix, other_matrix : (n_merged, n_probe) arrays
        Matrices that convert binned counts of the detector, and of the other detectors, to peak areas. Peak areas of
        the other detectors are scaled to those of the detector.
    count_ratio : (n_merged,) array
        Expected ratio of the detector's peak counts to those of the other detectors, for each bin.
    scan_ratio : float
        Ratio of the detector's counts in the whole scan to the counts expected from ``count_ratio``.
    peak_window : (n_merged, n_probe) array
        One for bins within half a FWHM of a tested energy, else zero.
    components : (n_merged, n_component) array
        Principal components of the other detectors' spectra, scaled to give scores of unit variance.
    score_offsets : (n_component,) array
        Offsets that give the scores a mean of zero.
    systematic_coefficients : (3 + n_component, n_probe) array
        Coefficients of the systematic difference of peak areas between detectors. The terms are a constant, the
        expected counts, the expected peak area, and the expected peak area times each score.
    ratio_error : (n_probe,) array
        Relative error of the ratio of peak areas in different detectors.
    deviation_ratio : (n_probe,) array
        Ratio of the observed deviations to the deviations that counting statistics and ``ratio_error`` explain.
    """

    detector_matrix: FloatArray
    other_matrix: FloatArray
    count_ratio: FloatArray
    scan_ratio: float
    peak_window: FloatArray
    components: FloatArray
    score_offsets: Array
    systematic_coefficients: Array
    ratio_error: Array
    deviation_ratio: Array

    def peak_excess(self, detector_counts: Array, other_counts: Array) -> tuple[Array, Array, Array, Array]:
        """Return (n, n_probe) excess areas, variances of the excess, and expected areas, and (n, 1) expected counts."""
        expected_counts = other_counts @ self.count_ratio
        relief_factor = self.relative_counts(detector_counts.sum(axis=1), expected_counts)
        expected_area = relief_factor * (other_counts @ self.other_matrix)
        variance = (
            detector_counts @ self.detector_matrix**2 + relief_factor**2 * (other_counts @ self.other_matrix**2) + 1.0
        )
        variance += (BACKGROUND_ERROR * (detector_counts @ self.peak_window)) ** 2
        excess_area = detector_counts @ self.detector_matrix - expected_area
        return excess_area, variance, expected_area, relief_factor * expected_counts[:, None]

    def relative_counts(self, counts: FloatArray, expected_counts: FloatArray) -> FloatArray:
        """Return the (n, 1) ratio of counts to expected counts, which surface relief changes, over ``scan_ratio``."""
        return np.asarray(np.clip(counts / np.maximum(self.scan_ratio * expected_counts, 1.0), 0.2, 5.0)[:, None])

    def systematic_terms(self, other_counts: FloatArray, expected_area: Array, expected_counts: Array) -> Array:
        """Return the (n_term, n, n_probe) terms of the systematic difference between detectors.

        The ratio of peak areas depends on the paint, since the paths through upper layers differ between detectors.
        """
        component_scores = (
            other_counts / np.maximum(other_counts.sum(axis=1, keepdims=True), 1.0)
        ) @ self.components + self.score_offsets
        constant_terms = np.ones_like(expected_area), np.broadcast_to(expected_counts, expected_area.shape)
        return np.stack(
            [
                *constant_terms,
                expected_area,
                *(expected_area * np.clip(pixel_score, -4.0, 4.0)[:, None] for pixel_score in component_scores.T),
            ]
        )

    def excess_sigmas(self, detector_counts: FloatArray, other_counts: FloatArray) -> Array:
        """Return the (n, n_probe) significance, in sigmas, of a detector's peak excess over the other detectors.

        If the other detectors also show most of a peak, the significance is zero: the peak is a line of an element.
        """
        excess_area, variance, expected_area, expected_counts = self.peak_excess(detector_counts, other_counts)
        excess_area = excess_area - np.einsum(
            "anp,ap->np",
            self.systematic_terms(other_counts, expected_area, expected_counts),
            self.systematic_coefficients,
        )
        sigma = self.deviation_ratio * np.sqrt(
            variance + (self.ratio_error * _max_over_near_energies(expected_area)) ** 2
        )
        return np.where(excess_area > MIN_EXCESS_RATIO * expected_area, excess_area / sigma, 0.0)


@dataclass(frozen=True)
class Diffraction:
    """Picklable comparison of a scan's detectors, which can be applied to the counts of any block.

    Parameters
    ----------
    detectors : tuple of str
        Names of the detectors.
    energy_kev : (n_probe,) array
        Energies at which peaks are tested, in keV.
    fwhm_kev : (n_probe,) array
        FWHM of a peak at each tested energy, in keV.
    peak_channels : (n_probe, 2) int array
        First channel of each peak, and stop channel (exclusive).
    channels_per_bin : int
        Number of channels per bin.
    comparisons : tuple of Comparison
        Comparison of each detector with the others.
    threshold : float
        Smallest significance of a diffraction peak, in sigmas.
    notes : tuple of str
        Notes on differences between the detectors' sum spectra.
    """

    detectors: tuple[str, ...]
    energy_kev: Array
    fwhm_kev: Array
    peak_channels: NDArray[np.intp]
    channels_per_bin: int
    comparisons: tuple[Comparison, ...]
    threshold: float
    notes: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the maps, one per detector."""
        return tuple(f"detector_{detector_number}" for detector_number in range(1, len(self.detectors) + 1))

    def __call__(
        self, detectors: Sequence[NDArray[Any]], is_present: NDArray[np.bool_] | None = None
    ) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
        """Return maps of the peaks that only one detector shows, and corrected spectra.

        Parameters
        ----------
        detectors : sequence of (n_row, n_column, n_channel) arrays
            Counts of each detector.
        is_present : (n_row, n_column) bool array or None
            Mask of present spectra.

        Returns
        -------
        maps : (n_row, n_column, n_detector, 2) array
            Significance (in sigmas) and energy (in keV) of the strongest peak of each detector; NaN for missing
            spectra.
        corrected : (n, n_channel) array
            Counts, summed over the detectors, of the n pixels with a diffraction peak. Counts at the peak are replaced
            by the counts that the other detectors predict.
        is_candidate : (n_row, n_column) bool array
            Mask of the n pixels with a diffraction peak.
        """
        block_shape = detectors[0].shape[:2]
        spectra_by_detector = [
            detector_spectra.reshape(-1, detector_spectra.shape[-1]) for detector_spectra in detectors
        ]
        maps = np.full((len(spectra_by_detector[0]), len(spectra_by_detector), 2), np.nan, np.float32)
        is_valid = np.logical_and.reduce([valid_spectra(detector_spectra) for detector_spectra in spectra_by_detector])
        if is_present is not None:
            is_valid &= is_present.ravel()
        binned_by_detector = [
            _bin_channels(detector_spectra[is_valid], self.channels_per_bin, len(self.comparisons[0].count_ratio))
            for detector_spectra in spectra_by_detector
        ]
        summed_bins = np.sum(binned_by_detector, axis=0)
        all_sigmas = [
            comparison.excess_sigmas(single_detector_counts, summed_bins - single_detector_counts)
            for comparison, single_detector_counts in zip(self.comparisons, binned_by_detector, strict=True)
        ]
        for detector_index, peak_sigmas in enumerate(all_sigmas):
            best_probe = peak_sigmas.argmax(axis=1)
            maps[is_valid, detector_index, 0] = peak_sigmas[np.arange(len(best_probe)), best_probe]
            maps[is_valid, detector_index, 1] = self.energy_kev[best_probe]
        is_candidate = np.nan_to_num(maps[:, :, 0]).max(axis=1) > self.threshold
        detector_counts = [
            detector_spectra[is_candidate].astype(np.float32) for detector_spectra in spectra_by_detector
        ]
        summed_counts = np.sum(detector_counts, axis=0)
        corrected_counts = summed_counts.copy()
        for peak_sigmas, single_detector_counts, comparison in zip(
            all_sigmas, detector_counts, self.comparisons, strict=True
        ):
            other_counts = summed_counts - single_detector_counts
            expected_ratio = np.repeat(comparison.count_ratio, self.channels_per_bin)
            expected_ratio = np.pad(
                expected_ratio, (0, max(summed_counts.shape[1] - expected_ratio.size, 0)), mode="edge"
            )[: summed_counts.shape[1]]
            expected_counts = other_counts * expected_ratio
            expected_counts *= comparison.relative_counts(
                single_detector_counts.sum(axis=1), expected_counts.sum(axis=1)
            )
            is_replaced = self._peak_mask(peak_sigmas[is_candidate[is_valid]] > MIN_PEAK_SIGMAS, summed_counts.shape[1])
            corrected_counts += np.where(is_replaced, expected_counts - single_detector_counts, 0.0)
        return (
            maps.reshape(*block_shape, len(spectra_by_detector), 2),
            corrected_counts,
            is_candidate.reshape(block_shape),
        )

    def _peak_mask(self, is_peak: NDArray[np.bool_], n_channel: int) -> NDArray[np.bool_]:
        """Return the (n, n_channel) mask of the channels that (n, n_probe) peaks cover."""
        is_in_peak = np.zeros((len(is_peak), n_channel), bool)
        for probe in np.flatnonzero(is_peak.any(axis=0)):
            first_channel, stop_channel = self.peak_channels[probe]
            is_in_peak[is_peak[:, probe], first_channel:stop_channel] = True
        return is_in_peak

    def results(self, maps: FloatArray, step_mm: tuple[float, float] | None) -> Results:
        """Convert (n_row, n_column, n_detector, 2) significances and energies to results."""
        settings = {"detectors": list(self.detectors), "threshold_sigmas": self.threshold}
        result_fields: dict[str, Any] = {"step_mm": step_mm, "notes": self.notes, "settings": settings}
        return Results.of_diffraction(self.keys, maps[..., 0], maps[..., 1], **result_fields)

    def findings(self, results: Results) -> tuple[str, ...]:
        """Return texts that describe the diffraction peaks in results, most frequent peaks first."""
        peak_groups: list[tuple[int, str]] = []
        for map_name, detector_name in zip(self.keys, self.detectors, strict=True):
            peak_sigmas, energy_map = results.map("diffraction", map_name), results.map("diffraction_kev", map_name)
            rows, columns = np.nonzero(np.nan_to_num(peak_sigmas) > self.threshold)
            energy_order = np.argsort(energy_map[rows, columns])
            rows, columns = rows[energy_order], columns[energy_order]
            energies_kev = energy_map[rows, columns]
            while energies_kev.size:
                is_in_group = energies_kev <= energies_kev[0] + float(
                    np.interp(energies_kev[0], self.energy_kev, self.fwhm_kev)
                )
                peak_groups.append(
                    (
                        int(is_in_group.sum()),
                        self._describe_group(
                            detector_name,
                            peak_sigmas,
                            energies_kev[is_in_group],
                            rows[is_in_group],
                            columns[is_in_group],
                        ),
                    )
                )
                rows, columns, energies_kev = rows[~is_in_group], columns[~is_in_group], energies_kev[~is_in_group]
        peak_groups.sort(key=lambda peak_group: -peak_group[0])
        unlisted_groups = peak_groups[_MAX_LISTED_GROUPS:]
        unlisted_text = (
            f"diffraction at {len(unlisted_groups)} more energies, in {sum(n_pixel for n_pixel, _ in unlisted_groups)} "
            "pixels: see the maps of diffraction in results.h5."
        )
        return (
            *(group_text for _, group_text in peak_groups[:_MAX_LISTED_GROUPS]),
            *((unlisted_text,) if unlisted_groups else ()),
        )

    def _describe_group(
        self,
        detector_name: str,
        peak_sigmas: FloatArray,
        energies_kev: Array,
        rows: NDArray[np.intp],
        columns: NDArray[np.intp],
    ) -> str:
        best_index = int(peak_sigmas[rows, columns].argmax())
        peak_kev = float(energies_kev[best_index])
        n_pixel = "1 pixel" if len(rows) == 1 else f"{len(rows)} pixels"
        family = _family_at(peak_kev, float(np.interp(peak_kev, self.energy_kev, self.fwhm_kev)))
        return (
            f"diffraction, not an element: only detector {detector_name} has a sharp peak at {peak_kev:.2f} keV in "
            f"{n_pixel} (most significant at row {rows[best_index]}, column {columns[best_index]}: "
            f"{peak_sigmas[rows[best_index], columns[best_index]]:.0f} sigma)"
            + (f"; it resembles {family}" if family else "")
            + ". Element areas of these pixels are from the other detectors; uncertainties include the difference."
        )


def plan_diffraction(scan: Scan, axis: EnergyAxis, noise_fwhm_kev: float, fano: float) -> Diffraction | None:
    """Prepare the comparison of a scan's detectors; return None for a single detector, or if it is impossible.

    Parameters
    ----------
    scan : Scan
        Scan with its detectors, from :func:`underpaint.load`.
    axis : EnergyAxis
        Energy axis of the scan.
    noise_fwhm_kev, fano : float
        Resolution of the sum spectrum: electronic noise (FWHM in keV) and Fano factor.

    Raises
    ------
    ScanError
        A block cannot be read.
    """
    if len(scan.detectors) < 2:
        return None
    peak_resolution = partial(resolution_fwhm_kev, noise_fwhm_kev=noise_fwhm_kev, fano=fano)
    fwhm_kev = peak_resolution(_REFERENCE_KEV)
    channels_per_bin = max(int(_BIN_WIDTH_FWHM * float(fwhm_kev) / axis.gain_kev), 1)
    n_bins = axis.n_channel // channels_per_bin
    samples_by_detector, sums_by_detector = _sample_spectra(scan, channels_per_bin, n_bins)
    if (
        len(samples_by_detector[0]) < MIN_COMPARED_PIXELS
        or min(detector_sum.sum() for detector_sum in sums_by_detector) <= 0
    ):
        return None
    binned_axis = EnergyAxis(
        axis.gain_kev * channels_per_bin, axis.zero_kev + 0.5 * (channels_per_bin - 1) * axis.gain_kev, n_bins
    )
    energy_kev, width_kev = _probe_energies(binned_axis, peak_resolution, np.min(sums_by_detector, axis=0))
    if not energy_kev.size:
        return None
    detector_names = tuple(
        detector.detector or str(detector_number) for detector_number, detector in enumerate(scan.detectors, 1)
    )
    n_tests = scan.n_pixel * energy_kev.size * len(detector_names)
    threshold = max(float(-ndtri(EXPECTED_FALSE_PEAKS / n_tests)), MIN_PEAK_SIGMAS)
    comparisons, notes = [], []
    for detector_name, detector_sample, sum_counts in zip(
        detector_names, samples_by_detector, sums_by_detector, strict=True
    ):
        other_sum = np.sum(sums_by_detector, axis=0) - sum_counts
        other_sample = np.sum(samples_by_detector, axis=0) - detector_sample
        comparison = _make_comparison(
            detector_sample, other_sample, sum_counts, other_sum, binned_axis, energy_kev, width_kev
        )
        comparisons.append(comparison)
        notes += _describe_scan_differences(detector_name, comparison, sum_counts, other_sum, energy_kev, width_kev)
        n_differing = maximum_filter1d(
            (comparison.excess_sigmas(detector_sample, other_sample) > threshold).sum(axis=0), 5
        )
        is_paint = n_differing > max(MAX_CRYSTAL_FRACTION * len(detector_sample), MAX_CRYSTAL_SPECTRA)
        comparisons[-1] = replace(comparison, deviation_ratio=np.where(is_paint, np.inf, comparison.deviation_ratio))
        notes += _describe_paint_peaks(
            detector_name, energy_kev[is_paint & (n_differing == maximum_filter1d(n_differing, 9))]
        )
    peak_limits_kev = energy_kev[:, None] + 0.8 * width_kev[:, None] * np.array([-1.0, 1.0]) - axis.zero_kev
    channels = np.clip(np.rint(peak_limits_kev / axis.gain_kev), 0, axis.n_channel).astype(np.intp) + np.array([0, 1])
    return Diffraction(
        detector_names, energy_kev, width_kev, channels, channels_per_bin, tuple(comparisons), threshold, tuple(notes)
    )


def _bin_channels(counts: NDArray[Any], channels_per_bin: int, n_bins: int) -> FloatArray:
    """Sum (n, n_channel) counts over neighbouring channels to (n, n_merged) counts; channels left over are omitted."""
    binned_counts = np.zeros((len(counts), n_bins), np.float32)
    for channel_offset in range(channels_per_bin):
        binned_counts += counts[:, channel_offset : channel_offset + n_bins * channels_per_bin : channels_per_bin]
    return binned_counts


def _sample_spectra(scan: Scan, channels_per_bin: int, n_bins: int) -> tuple[list[FloatArray], list[Array]]:
    """Return, for each detector, binned spectra of a sample of pixels, and the sum spectrum of all pixels read."""
    blocks = list(scan.blocks())
    n_bytes = sum(detector.counts.nbytes for detector in scan.detectors)
    n_blocks = min(max(int(len(blocks) * _MAX_SAMPLED_BYTES / n_bytes), 1), len(blocks))
    rng = np.random.default_rng(0)
    samples_by_detector: list[list[FloatArray]] = [[] for _ in scan.detectors]
    sums_by_detector = [np.zeros(n_bins) for _ in scan.detectors]
    for index in np.unique(np.linspace(0, len(blocks) - 1, n_blocks).astype(int)):
        block = blocks[index]
        block_counts = dask.compute(*(detector.counts[block] for detector in scan.detectors), scheduler=dask.get)
        detector_spectra = [
            np.asarray(detector_block).reshape(-1, detector_block.shape[-1]) for detector_block in block_counts
        ]
        is_valid = np.logical_and.reduce([valid_spectra(spectra) for spectra in detector_spectra])
        if scan.present is not None:
            is_valid &= scan.present[block].ravel()
        valid_rows = np.flatnonzero(is_valid)
        sampled_rows = rng.permutation(len(valid_rows))[: -(-_N_SAMPLED_PIXELS // n_blocks)]
        for detector_index, spectra in enumerate(detector_spectra):
            binned_counts = _bin_channels(spectra[valid_rows], channels_per_bin, n_bins)
            sums_by_detector[detector_index] += binned_counts.sum(axis=0, dtype=np.float64)
            samples_by_detector[detector_index].append(binned_counts[sampled_rows])
    return [np.concatenate(sample_blocks) for sample_blocks in samples_by_detector], sums_by_detector


def _probe_energies(
    binned_axis: EnergyAxis, peak_resolution: Callable[[float], Any], min_counts: Array
) -> tuple[Array, Array]:
    """Return, in keV, the energies at which peaks are tested, and the FWHM of a peak at each energy."""
    recorded_channels = np.flatnonzero(min_counts > 0)
    if not recorded_channels.size:
        return np.zeros(0), np.zeros(0)
    energies_kev: list[float] = []
    widths_kev: list[float] = []
    energy_kev, stop_kev = (
        max(_MIN_ENERGY_KEV, float(binned_axis.energy_kev[recorded_channels[0]])),
        float(binned_axis.energy_kev[recorded_channels[-1]]),
    )
    while True:
        width_kev = float(peak_resolution(energy_kev))
        if not energies_kev:
            energy_kev += _PROBE_RANGE_FWHM * width_kev
        if energy_kev + _PROBE_RANGE_FWHM * width_kev > stop_kev:
            return np.asarray(energies_kev), np.asarray(widths_kev)
        energies_kev.append(energy_kev)
        widths_kev.append(width_kev)
        energy_kev += _PROBE_STEP_FWHM * width_kev


def _make_comparison(
    detector_sample: FloatArray,
    other_sample: FloatArray,
    detector_sum: Array,
    other_sum: Array,
    binned_axis: EnergyAxis,
    energy_kev: Array,
    width_kev: Array,
) -> Comparison:
    """Compare one detector with the others, from the spectra of sampled pixels and from sum spectra."""
    peak_filters, peak_window = _peak_filters(binned_axis, energy_kev, width_kev)
    detector_response, other_response, count_ratio = _fit_response_difference(
        detector_sum, other_sum, binned_axis, energy_kev, width_kev, peak_filters
    )
    detector_matrix = (detector_response @ peak_filters).astype(np.float32)
    other_matrix = (other_response @ (count_ratio[:, None] * peak_filters)).astype(np.float32)
    components, score_offsets = _principal_components(other_sample)
    zero_coefficients, unit_ratios = np.zeros((3 + len(score_offsets), energy_kev.size)), np.ones(energy_kev.size)
    count_ratio = (other_response @ count_ratio).astype(np.float32)
    scan_ratio = float(detector_sum.sum() / (other_sum @ count_ratio))
    initial_comparison = Comparison(
        detector_matrix,
        other_matrix,
        count_ratio,
        scan_ratio,
        peak_window.astype(np.float32),
        components,
        score_offsets,
        zero_coefficients,
        0 * unit_ratios,
        unit_ratios,
    )
    excess_area, variance, expected_area, expected_counts = initial_comparison.peak_excess(
        detector_sample, other_sample
    )
    nearby_peak = _max_over_near_energies(expected_area)
    coefficients, ratio_error, deviation_ratio = (
        zero_coefficients,
        np.full(energy_kev.size, MIN_RATIO_ERROR),
        unit_ratios,
    )
    systematic_terms = initial_comparison.systematic_terms(other_sample, expected_area, expected_counts)
    residual = excess_area - np.median(excess_area, axis=0)
    for _ in range(4):
        sigma = np.sqrt(variance + (ratio_error * nearby_peak) ** 2)
        deviation = np.abs(residual / sigma)
        typical_deviation = np.maximum(np.median(deviation, axis=0) / ndtri(0.75), 1.0)
        regression_weight = (deviation < _MAX_RESIDUAL_SIGMAS * typical_deviation) / sigma**2
        coefficients = _weighted_regression(excess_area, systematic_terms, regression_weight)
        residual = excess_area - np.einsum("anp,ap->np", systematic_terms, coefficients)
        ratio_error = _ratio_errors(residual, variance, nearby_peak)
    sigma = np.sqrt(variance + (ratio_error * nearby_peak) ** 2)
    deviation_ratio = np.maximum(np.median(np.abs(residual / sigma), axis=0) / ndtri(0.75), 1.0)
    return replace(
        initial_comparison,
        systematic_coefficients=coefficients,
        ratio_error=ratio_error,
        deviation_ratio=deviation_ratio,
    )


def _principal_components(spectra: FloatArray) -> tuple[FloatArray, Array]:
    """Return the principal components of (n, n_merged) spectra, and offsets that give scores a mean of zero."""
    normalised_spectra = spectra / np.maximum(spectra.sum(axis=1, keepdims=True), 1.0)
    mean_spectrum = normalised_spectra.mean(axis=0, dtype=np.float64)
    root_mean_spectrum = np.sqrt(
        mean_spectrum + 1e-3 * mean_spectrum.max()
    )  # division by the root of the mean spectrum makes counting noise uniform
    _, singular_values, component_vectors = np.linalg.svd(
        (normalised_spectra - mean_spectrum) / root_mean_spectrum, full_matrices=False
    )
    selected_components = slice(0, min(_N_PRINCIPAL_COMPONENTS, len(spectra) // 20))
    components = (component_vectors[selected_components] / root_mean_spectrum).T / np.maximum(
        singular_values[selected_components] / np.sqrt(len(spectra)), 1e-12
    )
    return components.astype(np.float32), -mean_spectrum @ components


def _weighted_regression(excess_area: Array, systematic_terms: Array, weight: Array) -> Array:
    """Return (n_term, n_probe) regression coefficients of (n_term, n, n_probe) terms; their prior mean is zero."""
    term_norms = np.sqrt(np.maximum((systematic_terms**2 * weight).sum(axis=1), 1e-30))
    scaled_terms = systematic_terms / term_norms[:, None]
    normal_matrix = np.einsum("anp,bnp,np->pab", scaled_terms, scaled_terms, weight, optimize=True)
    # coefficients of peak areas have a prior with mean zero and standard deviation _PEAK_RATIO_PRIOR_SIGMA
    prior_precision = 1.0 / (_PEAK_RATIO_PRIOR_SIGMA * term_norms) ** 2
    prior_precision[:2] = 1e-3
    diagonal_indices = np.arange(len(systematic_terms))
    normal_matrix[:, diagonal_indices, diagonal_indices] += prior_precision.T
    weighted_moments = np.einsum("anp,np,np->pa", scaled_terms, excess_area, weight, optimize=True)
    return np.asarray(np.linalg.solve(normal_matrix, weighted_moments[..., None])[..., 0].T / term_norms)


def _ratio_errors(residual: Array, variance: Array, nearby_peak: Array) -> Array:
    """Return the (n_probe,) smallest errors of peak-area ratios that explain the residuals of the strongest peaks.

    Pixels are selected by the counts of the other detectors, so that diffraction does not bias the selection.
    """
    ratio_errors = np.full(residual.shape[1], MIN_RATIO_ERROR)
    n_strong = max(MIN_COMPARED_PIXELS, round(_STRONG_PIXEL_FRACTION * len(residual)))
    for probe in range(residual.shape[1]):
        strong_pixels = np.argsort(-nearby_peak[:, probe])[:n_strong]
        for ratio_error in _PEAK_RATIO_ERRORS:
            ratio_errors[probe] = ratio_error
            deviation = residual[:, probe] / np.sqrt(variance[:, probe] + (ratio_error * nearby_peak[:, probe]) ** 2)
            if (
                np.quantile(deviation[strong_pixels] ** 2, 0.75) < _MAX_STRONG_SQUARED_DEVIATION
                and np.quantile(deviation**2, 0.95) < _MAX_SQUARED_DEVIATION
            ):
                break
    return np.asarray(maximum_filter1d(ratio_errors, 3))


def _max_over_near_energies(peak_area: Array) -> Array:
    """Return the largest peak area near each energy, since shape errors of a strong peak affect its flanks."""
    return np.asarray(maximum_filter1d(np.abs(peak_area), 5, axis=1))


def _peak_filters(binned_axis: EnergyAxis, energy_kev: Array, width_kev: Array) -> tuple[Array, Array]:
    """Return (n_merged, n_probe) weights that give peak areas above a linear background, and masks of the peaks."""
    distance_kev = binned_axis.energy_kev[:, None] - energy_kev
    sigma = width_kev * np.hypot(1.0, _BASE_WIDENING_FWHM) / FWHM_PER_SIGMA
    peak_shape = np.exp(-0.5 * (distance_kev / sigma) ** 2)
    area_filters = np.zeros_like(distance_kev)
    for probe, half_range_kev in enumerate(_PROBE_RANGE_FWHM * width_kev):
        is_in_range = np.abs(distance_kev[:, probe]) <= half_range_kev
        fit_columns = np.stack(
            [peak_shape[is_in_range, probe], np.ones(is_in_range.sum()), distance_kev[is_in_range, probe]], axis=1
        )
        fit_columns[:, 0] /= peak_shape[:, probe].sum()
        area_filters[is_in_range, probe] = np.linalg.pinv(fit_columns)[0]
    return area_filters, np.abs(distance_kev) < 0.5 * width_kev


def _fit_response_difference(
    detector_sum: Array,
    other_sum: Array,
    binned_axis: EnergyAxis,
    energy_kev: Array,
    width_kev: Array,
    peak_filters: Array,
) -> tuple[Array, Array, Array]:
    """Fit the differences of energy axis, resolution and efficiency between a detector and the others.

    Returns
    -------
    detector_response, other_response : (n_merged, n_merged) arrays
        Matrices that bring counts of the detector, and of the others, to a common axis and a common resolution.
    count_ratio : (n_merged,) array
        Ratio of the detector's peak counts to those of the others, for each bin.
    """
    centre_kev = binned_axis.energy_kev
    fwhm_kev = np.interp(centre_kev, energy_kev, width_kev)
    base_variance = (_BASE_WIDENING_FWHM * fwhm_kev / FWHM_PER_SIGMA) ** 2
    is_used = (centre_kev > _MIN_ENERGY_KEV) & (centre_kev < energy_kev[-1] + _PROBE_RANGE_FWHM * width_kev[-1])
    linear_terms = np.stack([np.ones_like(centre_kev), (centre_kev - centre_kev.mean()) / centre_kev.std()])
    splines = _log_splines(centre_kev)
    energy_shift_kev, variance = np.zeros_like(centre_kev), np.zeros_like(centre_kev)
    count_ratio = np.full(centre_kev.size, detector_sum.sum() / other_sum.sum())
    for _ in range(_N_RESPONSE_ITERATIONS):
        detector_response = _spread_matrix(
            binned_axis, np.zeros_like(centre_kev), base_variance + np.maximum(-variance, 0.0)
        )
        other_response = _spread_matrix(binned_axis, energy_shift_kev, base_variance + np.maximum(variance, 0.0))
        detector_counts, other_counts = detector_sum @ detector_response, other_sum @ other_response
        first_derivative = np.gradient(other_counts, centre_kev)
        second_derivative = np.gradient(first_derivative, centre_kev)
        fit_columns = np.concatenate(
            [
                splines * other_counts,
                -linear_terms * first_derivative * count_ratio,
                0.5 * linear_terms * second_derivative * count_ratio,
            ]
        )
        deviation = np.sqrt(
            detector_counts + count_ratio**2 * other_counts + (_COUNT_MODEL_ERROR * detector_counts) ** 2 + 1.0
        )
        bin_weight = is_used / deviation
        for _ in range(5):
            scaled_columns = (fit_columns * bin_weight).T
            column_norms = np.maximum(np.linalg.norm(scaled_columns, axis=0), 1e-30)
            coefficients = (
                np.linalg.lstsq(scaled_columns / column_norms, detector_counts * bin_weight, rcond=1e-8)[0]
                / column_norms
            )
            misfit = (detector_counts - coefficients @ fit_columns) / deviation
            # reduce the weight of instrument lines and Compton peaks, which differ between detectors
            bin_weight = is_used / deviation / (1.0 + (misfit / 2.0) ** 2)
        n_knot = len(splines)
        count_ratio = np.maximum(coefficients[:n_knot] @ splines, 1e-3 * count_ratio.mean())
        max_shift_kev = 0.25 * fwhm_kev
        energy_shift_kev = energy_shift_kev + np.clip(
            coefficients[n_knot : n_knot + 2] @ linear_terms, -max_shift_kev, max_shift_kev
        )
        variance = np.clip(
            variance + np.clip(coefficients[n_knot + 2 :] @ linear_terms, -(max_shift_kev**2), max_shift_kev**2),
            -base_variance * 9,
            base_variance * 9,
        )
    return (
        detector_response,
        other_response,
        _peak_ratio(detector_sum @ detector_response, other_sum @ other_response, centre_kev, energy_kev, peak_filters),
    )


def _peak_ratio(
    detector_counts: Array, other_counts: Array, centre_kev: Array, energy_kev: Array, peak_filters: Array
) -> Array:
    """Return the (n_merged,) ratio of peak areas between detectors.

    The ratio of total counts differs from the ratio of peak areas, since scatter is anisotropic. Absorption by air,
    windows and dead layers is proportional to the third power of the wavelength. All other factors of the ratio vary
    slowly with energy.
    """
    detector_areas, other_areas = (
        np.maximum(detector_counts @ peak_filters, 0.0),
        np.maximum(other_counts @ peak_filters, 0.0),
    )
    relative_errors = [
        np.sqrt(counts @ peak_filters**2 + 1.0) / np.maximum(peak_areas, 1.0)
        for counts, peak_areas in ((detector_counts, detector_areas), (other_counts, other_areas))
    ]
    area_product = detector_areas * other_areas
    peak_probes = np.flatnonzero(
        (area_product == maximum_filter1d(area_product, 5)) & (np.maximum(*relative_errors) < 1.0 / MIN_PEAK_SIGMAS)
    )
    if not peak_probes.size:
        return np.full(centre_kev.size, detector_counts.sum() / other_counts.sum())
    log_ratio = np.log(detector_areas[peak_probes] / other_areas[peak_probes])
    deviation = np.sqrt(
        _COUNT_MODEL_ERROR**2 + relative_errors[0][peak_probes] ** 2 + relative_errors[1][peak_probes] ** 2
    )
    median_log_ratio = float(np.median(log_ratio))
    efficiency_columns, misfit = _efficiency_terms(energy_kev[peak_probes]), (log_ratio - median_log_ratio) / deviation
    coefficients = np.zeros(len(_EFFICIENCY_PRIOR_SIGMAS))
    for _ in range(4 * _N_RESPONSE_ITERATIONS):
        # least absolute deviations are robust against instrument lines and Compton peaks
        peak_weight = 1.0 / (deviation * np.sqrt(np.maximum(np.abs(misfit), 1.0)))
        augmented_design = np.concatenate(
            [efficiency_columns * peak_weight[:, None], np.diag(1.0 / _EFFICIENCY_PRIOR_SIGMAS)]
        )
        weighted_target = np.append(
            (log_ratio - median_log_ratio) * peak_weight, np.zeros(len(_EFFICIENCY_PRIOR_SIGMAS))
        )
        coefficients = np.linalg.lstsq(augmented_design, weighted_target, rcond=None)[0]
        misfit = (log_ratio - median_log_ratio - efficiency_columns @ coefficients) / deviation
    min_kev, max_kev = energy_kev[peak_probes][[0, -1]]
    return np.exp(
        median_log_ratio + _efficiency_terms(np.clip(centre_kev, 0.9 * min_kev, 1.1 * max_kev)) @ coefficients
    )


def _efficiency_terms(energy_kev: Array) -> Array:
    """Return (n, n_term) terms whose weighted sum is the log ratio of the efficiencies of two detectors."""
    log_energy = np.log(energy_kev / 8.0)
    return np.stack(
        [np.ones_like(energy_kev), log_energy, log_energy**2, log_energy**3, (2.0 / energy_kev) ** 3], axis=-1
    )


def _log_splines(energy_kev: Array) -> Array:
    """Return (n_knot, n) quadratic splines whose knots are uniform in the logarithm of energy."""
    log_energy = np.log(np.maximum(energy_kev, 0.5 * _MIN_ENERGY_KEV))
    first_log_energy, last_log_energy = float(log_energy[0]), float(log_energy[-1]) + 1e-9
    n_intervals = max(round((last_log_energy - first_log_energy) / _LOG_ENERGY_KNOT_STEP), 1)
    spline_knots = np.concatenate(
        [[first_log_energy] * 2, np.linspace(first_log_energy, last_log_energy, n_intervals + 1), [last_log_energy] * 2]
    )
    return np.asarray(BSpline.design_matrix(log_energy, spline_knots, 2).toarray().T)


def _spread_matrix(binned_axis: EnergyAxis, shift_kev: Array, variance: Array) -> Array:
    """Return the (n, n) matrix that shifts and widens spectra: fractions of each channel's counts in all channels."""
    distance_kev = binned_axis.edges_kev - (binned_axis.energy_kev + shift_kev)[:, None]
    return np.asarray(np.diff(ndtr(distance_kev / np.sqrt(np.maximum(variance, 1e-9))[:, None]), axis=1))


def _family_at(energy_kev: float, fwhm_kev: float) -> str:
    """Return the family with the nearest strong line within half a FWHM; "" if there is no such line."""
    nearest_family, min_distance_kev = "", 0.5 * fwhm_kev
    for family in CANDIDATES:
        symbol, _, shell = family.partition("_")
        line_kev, line_intensity = family_lines(symbol, shell, 60.0)
        strong_kev = line_kev[line_intensity > 0.3 * line_intensity.max(initial=0.0)]
        distance_kev = float(np.abs(strong_kev - energy_kev).min(initial=np.inf))
        if distance_kev < min_distance_kev:
            nearest_family, min_distance_kev = family, distance_kev
    return nearest_family.replace("_", " ")


def _describe_paint_peaks(detector_name: str, energies_kev: Array) -> list[str]:
    if not energies_kev.size:
        return []
    listed_energies = ", ".join(f"{energy_kev:.1f}" for energy_kev in dict.fromkeys(np.round(energies_kev, 1)))
    return [
        f"detector {detector_name} has peaks at {listed_energies} keV that the others lack, in too many pixels for "
        "crystals: paint absorbs these lines less on the path to this detector. The peaks are attributed to elements."
    ]


def _describe_scan_differences(
    detector_name: str,
    comparison: Comparison,
    detector_sum: Array,
    other_sum: Array,
    energy_kev: Array,
    fwhm_kev: Array,
) -> list[str]:
    """Return texts on sum-spectrum peaks that are stronger in this detector than in the others."""
    excess_area, variance, expected_area, _ = (
        area_array[0] for area_array in comparison.peak_excess(detector_sum[None], other_sum[None])
    )
    deviation = np.hypot(MIN_RATIO_ERROR * _max_over_near_energies(expected_area[None])[0], np.sqrt(variance))
    measured_peak = excess_area + expected_area
    is_reported = (measured_peak == maximum_filter1d(measured_peak, 5)) & (excess_area > MIN_PEAK_SIGMAS * deviation)
    is_reported &= (excess_area > MIN_EXCESS_FRACTION * (detector_sum @ comparison.peak_window)) & (
        measured_peak > MIN_INSTRUMENT_RATIO * expected_area
    )
    notes = []
    for probe in np.flatnonzero(is_reported):
        family = _family_at(float(energy_kev[probe]), float(fwhm_kev[probe]))
        comparison_text = (
            "a peak"
            if expected_area[probe] < 0.1 * measured_peak[probe]
            else f"{measured_peak[probe] / expected_area[probe]:.1f} times the peak"
        )
        notes.append(
            f"detector {detector_name} has in the whole scan {comparison_text} at {energy_kev[probe]:.2f} keV "
            f"{f'({family}) ' if family else ''}expected from the others: the difference is due to the instrument (a "
            "fluorescing part, or scatter at another angle), not to the sample."
        )
    return notes
