"""Selection of the arrays of a file that are the detectors of one scan.

A file can also contain other scans, faulty detectors, sums of detectors, and corrected, smoothed or fitted copies.
Array names differ between beamlines, so arrays are classified by the noise in a sample of pixels. The noise of two
detectors is independent. A derived array contains the noise of the array from which it was computed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Scan, rebin
from underpaint.data.poisson import COUNTS_SCALE_RANGE, scale_from_variance, sum_channels
from underpaint.errors import ScanError
from underpaint.io._source import SAME_CHANNELS
from underpaint.runtime.threads import one_blas_thread

LOCATION_KEY = "place"
"""Temporary metadata key for the :class:`ArrayLocation` of a scan's array."""
NUMBERED_DETECTOR = re.compile(r"(.+ )?detector \d+")
"""Pattern of the names of detectors that are stored together in one array."""
_DERIVED_NAME = re.compile(r"corr|dtc|norm|fit|process|result|background|residual|smooth|deconv|copy", re.IGNORECASE)
_SUM_NAME = re.compile(r"sum|total|_all\b|average|mean", re.IGNORECASE)
_N_SAMPLE_BLOCKS, _SAMPLE_BLOCK_COLUMNS = 8, 8
_MIN_SAMPLE_COUNTS = 200
_MAX_UNITS_PER_VALUE = 1e6
_MIN_PEAK_CHANNELS = 64
_MIN_PEAK_CORRELATION = 0.6
_MAX_COUNT_RATE_RATIO = 100.0
_MIN_IMAGE_CORRELATION = 0.4
_N_FILTER_WEIGHTS = 13
_MAX_SHIFT_CHANNELS = 128
_SEGMENT_CHANNELS, _MIN_VALUES_PER_WEIGHT = 64, 20
_MAX_RESIDUAL_RATIO = 0.6
_MIN_SHARED_NOISE_FRACTION = 0.5


@dataclass(frozen=True)
class ArrayLocation:
    """Location of an array in its file.

    Parameters
    ----------
    entry : str
        Path of the array's measurement in the file; "" if the file has no separate measurements.
    positions : tuple of (n,) arrays, or None
        Positions of the rows and of the columns; None if the file has none.
    is_computed : bool
        Whether the file marks the array as computed from other arrays.
    part_names : tuple of str
        Names of the arrays whose detectors this array contains.
    """

    entry: str = ""
    positions: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    is_computed: bool = False
    part_names: tuple[str, ...] = ()


def detectors_of_one_scan(scans: Sequence[Scan], location: str | Path, *, include_faulty: bool = False) -> list[Scan]:
    """Select the detectors of one scan, and note which arrays were left out.

    Parameters
    ----------
    scans : sequence of Scan
        All arrays of a file or folder, each read as a scan.
    location : str or Path
        The file or folder, for error messages.
    include_faulty : bool
        Whether faulty detectors are returned too.

    Raises
    ------
    ScanError
        The arrays belong to several scans.
    """
    if len(scans) == 1:
        return [_without_location(scans[0], ())]
    array_locations: list[ArrayLocation] = [scan.metadata.get(LOCATION_KEY, ArrayLocation()) for scan in scans]
    pixel_samples = [_sample_pixels(scan) for scan in scans]
    exclusion_reasons: dict[int, str] = {}
    _exclude_gathered_parts(scans, array_locations, exclusion_reasons)
    for group_indices in _group_by_shape(scans):
        _exclude_computed(scans, array_locations, pixel_samples, group_indices, exclusion_reasons)
    with one_blas_thread():  # the many least squares are too small for several threads
        _exclude_filtered(scans, array_locations, pixel_samples, exclusion_reasons)
    remaining_indices = [index for index in range(len(scans)) if index not in exclusion_reasons]
    _refuse_several_scans(scans, array_locations, pixel_samples, remaining_indices, location)
    if not include_faulty:
        _exclude_faulty(pixel_samples, remaining_indices, exclusion_reasons)
    selected_scans = [scan for index, scan in enumerate(scans) if index not in exclusion_reasons]
    if _have_same_channels(
        selected_scans, [pixel_samples[index] for index in range(len(scans)) if index not in exclusion_reasons]
    ):
        note = (
            "without energy calibration: added channel by channel, since all detectors have peaks in the same channels"
        )
        selected_scans = [
            scan.replace(metadata={**scan.metadata, SAME_CHANNELS: True}, notes=(*scan.notes, note))
            for scan in selected_scans
        ]
    notes = tuple(
        f"left out: {name_in_file(scans[index])}, {exclusion_reason}"
        for index, exclusion_reason in sorted(exclusion_reasons.items())
    )
    return [_without_location(scan, notes) for scan in _with_unique_names(selected_scans)]


def _with_unique_names(scans: list[Scan]) -> list[Scan]:
    """Append the path in the file to the names of detectors that share a name, such as a repeated serial number."""
    detector_names = [scan.detector for scan in scans]
    is_repeated = [bool(name) and detector_names.count(name) > 1 for name in detector_names]
    note = "detectors of one name: if one detector measured twice, read them one by one (--detector)"
    return [
        scan.replace(detector=f"{scan.detector} ({_last_path_part(scan)})", notes=(*scan.notes, note))
        if is_name_repeated
        else scan
        for scan, is_name_repeated in zip(scans, is_repeated, strict=True)
    ]


def _last_path_part(scan: Scan) -> str:
    """Return the name of the folder or group that contains the counts, or the name of the counts if there is none."""
    path_parts = [path_part for path_part in re.split(r"[/\\]", name_in_file(scan)) if path_part]
    return path_parts[-2] if len(path_parts) > 1 and "::" in scan.source else path_parts[-1]


def name_in_file(scan: Scan) -> str:
    """Return the name of a scan's array in its file. If the array has several detectors, append the detector's name.

    The path of the file is returned if the array has no name.
    """
    name = scan.source.rpartition("::")[2] or scan.source
    return f"{name} {scan.detector}" if NUMBERED_DETECTOR.fullmatch(scan.detector) else name


def _without_location(scan: Scan, notes: tuple[str, ...]) -> Scan:
    if LOCATION_KEY not in scan.metadata and not notes:
        return scan
    metadata = {
        metadata_key: metadata_value
        for metadata_key, metadata_value in scan.metadata.items()
        if metadata_key != LOCATION_KEY
    }
    return scan.replace(metadata=metadata, notes=(*scan.notes, *notes))


def _group_by_shape(scans: Sequence[Scan]) -> list[list[int]]:
    """Group scans of the same shape, and return the indices of the scans in each group."""
    return [
        [index for index, scan in enumerate(scans) if scan.shape == shape]
        for shape in dict.fromkeys(scan.shape for scan in scans)
    ]


def _sample_pixels(scan: Scan) -> NDArray[np.float64] | str:
    """Return the (n_pixel, n_channel) counts of pixels spread over the scan, or the error message if reading fails.

    Scans of the same shape are sampled at the same pixels.
    """
    n_row, n_column, n_channel = scan.shape
    block_width = min(n_column, _SAMPLE_BLOCK_COLUMNS)
    rows = np.unique(np.linspace(0, n_row - 1, _N_SAMPLE_BLOCKS).round().astype(int))
    # The sampled columns advance by three blocks per row, so that the sampled pixels are not on a diagonal.
    first_columns = [
        round((3 * index % _N_SAMPLE_BLOCKS) / (_N_SAMPLE_BLOCKS - 1) * (n_column - block_width))
        for index in range(len(rows))
    ]
    try:
        pixel_blocks = [
            np.asarray(scan.counts[int(row), first_column : first_column + block_width], dtype=np.float64).reshape(
                -1, n_channel
            )
            for row, first_column in zip(rows, first_columns, strict=True)
        ]
    except ScanError as error:
        return str(error)
    return np.nan_to_num(np.concatenate(pixel_blocks))


def _as_counts(array_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide the values of each pixel by their common divisor, or return them unchanged if there is none."""
    if _is_integer(array_values):
        common_divisor = int(np.gcd.reduce(array_values[array_values > 0].astype(np.int64), initial=0))
        return array_values / common_divisor if common_divisor > 1 else array_values
    value_units = np.ones(len(array_values))
    for index, spectrum in enumerate(array_values):
        distinct_values = np.unique(spectrum[spectrum > 0])
        if distinct_values.size == 0:
            continue
        value_gaps = np.append(np.diff(distinct_values), distinct_values[0])
        value_units[index] = value_gaps[value_gaps > 1e-3 * distinct_values[0]].min()
        if distinct_values[-1] > _MAX_UNITS_PER_VALUE * value_units[index]:
            return array_values
    counts = array_values / value_units[:, None]
    return np.round(counts) if (np.abs(counts - np.round(counts)) <= 0.02).all() else array_values


# --- arrays derived from others -----------------------------------------------------------------------


def _exclude_gathered_parts(
    scans: Sequence[Scan], array_locations: Sequence[ArrayLocation], exclusion_reasons: dict[int, str]
) -> None:
    """Exclude arrays whose detectors another array contains."""
    for containing_scan, array_location in zip(scans, array_locations, strict=True):
        for index, scan in enumerate(scans):
            if scan is not containing_scan and name_in_file(scan) in array_location.part_names:
                exclusion_reasons[index] = f"a part of {name_in_file(containing_scan)}"


def _exclude_computed(
    scans: Sequence[Scan],
    array_locations: Sequence[ArrayLocation],
    pixel_samples: Sequence[NDArray[np.float64] | str],
    group_indices: Sequence[int],
    exclusion_reasons: dict[int, str],
) -> None:
    """Exclude arrays that are copies, corrected copies or sums of other arrays of the same shape."""
    counts_by_index: dict[int, NDArray[np.float64]] = {}
    readable_indices = [index for index in group_indices if not isinstance(pixel_samples[index], str)]
    for index in group_indices:
        pixel_sample = pixel_samples[index]
        if index in exclusion_reasons:
            continue
        if not isinstance(pixel_sample, str):
            counts_by_index[index] = pixel_sample
        elif readable_indices:
            exclusion_reasons[index] = f"no counts: {pixel_sample}"
    # Arrays of raw counts come first, so that they are kept and the arrays computed from them are excluded.
    sorted_indices = sorted(
        counts_by_index,
        key=lambda index: (array_locations[index].is_computed, *_rawness(scans[index], counts_by_index[index])),
    )
    is_integer = {index: _is_integer(pixel_sample) for index, pixel_sample in counts_by_index.items()}
    counts_by_index = {index: _as_counts(pixel_sample) for index, pixel_sample in counts_by_index.items()}
    selected_indices: list[int] = []
    for index in sorted_indices:
        copied_index = next(
            (
                reference_index
                for reference_index in selected_indices
                if _is_proportional(counts_by_index[index], counts_by_index[reference_index])
            ),
            None,
        )
        if copied_index is None:
            selected_indices.append(index)
        else:
            exclusion_reasons[index] = f"a copy of {name_in_file(scans[copied_index])}, or the same counts scaled"
    for index in sorted(selected_indices, key=lambda earlier_index: -counts_by_index[earlier_index].sum()):
        other_indices = [
            reference_index
            for reference_index in selected_indices
            if reference_index != index
            and reference_index not in exclusion_reasons
            and is_integer[reference_index] >= is_integer[index]
            and _is_derived(scans[reference_index]) <= _is_derived(scans[index])
        ]
        part_positions = _parts_of_sum(
            counts_by_index[index], [counts_by_index[reference_index] for reference_index in other_indices]
        )
        if part_positions:
            part_names = ", ".join(
                name_in_file(scans[other_indices[part_position]]) for part_position in part_positions
            )
            exclusion_reasons[index] = f"the sum, or the average, of {part_names}"
            continue
        is_named_sum = array_locations[index].is_computed or _SUM_NAME.search(name_in_file(scans[index])) is not None
        summands = [
            reference_index
            for reference_index in other_indices
            if _contains_counts(counts_by_index[index], counts_by_index[reference_index])
            and (is_named_sum or _is_summand(counts_by_index[index], counts_by_index[reference_index]))
        ]
        if (
            sum(counts_by_index[reference_index].sum() for reference_index in summands)
            > 0.75 * counts_by_index[index].sum()
            and len(summands) > 1
        ):
            exclusion_reasons[index] = (
                f"the sum of {', '.join(name_in_file(scans[reference_index]) for reference_index in summands)}, by its "
                "name and size"
            )
            continue
        for reference_index in summands:
            exclusion_reasons[reference_index] = (
                f"contained in the sum {name_in_file(scans[index])}, which has more detectors than the file"
            )
        if is_named_sum and not summands and len(other_indices) > 1 and array_locations[index].is_computed:
            exclusion_reasons[index] = "the file marks it as computed from others"
    remaining_indices = [index for index in selected_indices if index not in exclusion_reasons]
    for n_earlier_index, index in enumerate(remaining_indices):
        raw_index = next(
            (
                earlier_index
                for earlier_index in remaining_indices[:n_earlier_index]
                if earlier_index not in exclusion_reasons
                and _is_computed_from(counts_by_index[index], counts_by_index[earlier_index])
            ),
            None,
        )
        if raw_index is not None:
            exclusion_reasons[index] = (
                f"computed from {name_in_file(scans[raw_index])}: corrected, fitted or without background"
            )


def _rawness(scan: Scan, counts: NDArray[np.float64]) -> tuple[bool, bool, float]:
    """Return a key that sorts arrays of integers first, then names of raw data, then arrays with fewer counts."""
    return not _is_integer(counts), _is_derived(scan), float(counts.sum())


def _is_derived(scan: Scan) -> bool:
    return _DERIVED_NAME.search(name_in_file(scan)) is not None


def _is_proportional(spectra: NDArray[np.float64], reference_spectra: NDArray[np.float64]) -> bool:
    """Return whether each spectrum is a multiple of the reference spectrum of the same pixel."""
    count_ratio = np.divide(
        spectra.sum(axis=1),
        reference_spectra.sum(axis=1),
        out=np.zeros(len(spectra)),
        where=reference_spectra.sum(axis=1) > 0,
    )
    if np.count_nonzero(reference_spectra) < _MIN_SAMPLE_COUNTS // 4 or not (count_ratio > 0).any():
        return bool(reference_spectra.any() and np.array_equal(spectra, reference_spectra))
    return bool(
        (np.abs(spectra - count_ratio[:, None] * reference_spectra) <= 1e-4 * spectra + 1e-6 * spectra.max()).all()
    )


def _parts_of_sum(sum_counts: NDArray[np.float64], part_counts: Sequence[NDArray[np.float64]]) -> list[int]:
    """Return the indices of the arrays whose weighted sum is ``sum_counts``, or an empty list if there are none."""
    if len(part_counts) < 2 or sum_counts.sum() < _MIN_SAMPLE_COUNTS:
        return []
    part_columns = np.stack([part_array.ravel() for part_array in part_counts], axis=1)
    part_weights = _nonnegative_weights(part_columns, sum_counts.ravel())
    used_indices = [
        index
        for index, counts_of_part in enumerate(part_weights * part_columns.sum(axis=0))
        if counts_of_part > 0.02 * sum_counts.sum()
    ]
    if len(used_indices) < 2:
        return []
    if _residual_over_variance(sum_counts.ravel(), part_columns, part_weights) < 0.1:
        return used_indices
    if sum_counts.shape[1] < 16 * len(part_counts):
        return []
    # Corrections differ from pixel to pixel, so the weights are fitted in each pixel.
    row_weights = [
        _nonnegative_weights(np.stack([part_array[row] for part_array in part_counts], axis=1), sum_counts[row])
        for row in range(len(sum_counts))
    ]
    summed_residual = sum(
        _residual_over_variance(
            sum_counts[row], np.stack([part_array[row] for part_array in part_counts], axis=1), weights_of_row
        )
        * sum_counts[row].sum()
        for row, weights_of_row in enumerate(row_weights)
    )
    return used_indices if summed_residual < 0.1 * sum_counts.sum() else []


def _nonnegative_weights(part_columns: NDArray[np.float64], sum_counts: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.optimize import nnls  # importing scipy.optimize takes 0.1 s, and few files have several detectors

    # There are only as many normal equations as summed arrays.
    gram_matrix = part_columns.T @ part_columns
    part_norms = np.sqrt(np.diag(gram_matrix))
    is_positive = part_norms > 0
    part_weights = np.zeros(part_columns.shape[1])
    if is_positive.any():
        normal_matrix = gram_matrix[np.ix_(is_positive, is_positive)] / np.outer(
            part_norms[is_positive], part_norms[is_positive]
        ) + 1e-9 * np.eye(int(is_positive.sum()))
        cholesky_factor = np.linalg.cholesky(normal_matrix)
        part_weights[is_positive] = (
            nnls(
                cholesky_factor.T,
                np.linalg.solve(cholesky_factor, part_columns.T[is_positive] @ sum_counts / part_norms[is_positive]),
            )[0]
            / part_norms[is_positive]
        )
    return part_weights


def _residual_over_variance(
    sum_counts: NDArray[np.float64], part_columns: NDArray[np.float64], part_weights: NDArray[np.float64]
) -> float:
    """Return the squared residual of a weighted sum, divided by its expected variance for independent counts."""
    residual_counts = sum_counts - part_columns @ part_weights
    expected_variance = sum_counts.sum() + (part_columns @ part_weights**2).sum()
    return float((residual_counts**2).sum() / expected_variance) if expected_variance > 0 else 0.0


def _contains_counts(sum_counts: NDArray[np.float64], part_counts: NDArray[np.float64]) -> bool:
    return bool(np.count_nonzero(part_counts) >= _MIN_SAMPLE_COUNTS and (sum_counts >= part_counts * (1 - 1e-6)).all())


def _is_computed_from(candidate_counts: NDArray[np.float64], raw_counts: NDArray[np.float64]) -> bool:
    """Return whether the noise of two arrays shows that one was computed from the raw counts of the other.

    The second differences of raw counts along the channels have a variance of six times the counts. A multiple of the
    candidate's second differences is subtracted from those of the raw counts. If the candidate is an independent
    detector, the variance of the residual is at least that of the raw counts. If the candidate is a fit without noise,
    the variance of the residual equals that of the raw counts. If the candidate is a corrected copy, or a copy without
    background, the residual almost vanishes. Corrections may differ from pixel to pixel.
    """
    has_enough_counts = (
        min(np.count_nonzero(candidate_counts), np.count_nonzero(raw_counts)) >= _MIN_SAMPLE_COUNTS
        and raw_counts.sum() >= 5 * _MIN_SAMPLE_COUNTS
    )
    if not _is_integer(raw_counts) or not has_enough_counts:
        return False
    count_ratios = np.divide(
        raw_counts.sum(axis=1),
        candidate_counts.sum(axis=1),
        out=np.zeros(len(candidate_counts)),
        where=candidate_counts.sum(axis=1) > 0,
    )
    raw_differences = np.diff(raw_counts, 2, axis=1)
    if (raw_differences**2).sum() < 0.7 * 6 * raw_counts.sum():
        return False  # ``raw_counts`` were smoothed, so they are not raw
    for candidate_differences in (
        np.diff(candidate_counts, 2, axis=1),
        np.diff(count_ratios[:, None] * candidate_counts, 2, axis=1),
    ):
        difference_ratio = float(
            (candidate_differences * raw_differences).sum() / max((candidate_differences**2).sum(), 1e-30)
        )
        if (
            difference_ratio > 0
            and ((raw_differences - difference_ratio * candidate_differences) ** 2).sum() < 0.3 * 6 * raw_counts.sum()
        ):
            return True
    total_ratio = raw_counts.sum() / candidate_counts.sum()
    if _is_integer(candidate_counts) or not 0.5 < total_ratio < 2.0:
        return False
    # The noise of a smoothed detector shows only in sums of channels.
    difference_curves = [
        np.diff(sum_channels(raw_counts - total_ratio * candidate_counts, n_summed_channel), 2, axis=1)
        for n_summed_channel in (1, 4, 8)
    ]
    return all((second_differences**2).sum() < 1.25 * 6 * raw_counts.sum() for second_differences in difference_curves)


def _exclude_filtered(
    scans: Sequence[Scan],
    array_locations: Sequence[ArrayLocation],
    pixel_samples: Sequence[NDArray[np.float64] | str],
    exclusion_reasons: dict[int, str],
) -> None:
    """Exclude arrays that are smoothed, shifted or rebinned copies of other arrays."""
    counts_by_index = {
        index: _as_counts(pixel_sample)
        for index, pixel_sample in enumerate(pixel_samples)
        if index not in exclusion_reasons
        and not isinstance(pixel_sample, str)
        and pixel_sample.sum() >= 5 * _MIN_SAMPLE_COUNTS
    }
    counts_by_index = {
        index: pixel_sample[:: 1 + len(counts_by_index) // 8] for index, pixel_sample in counts_by_index.items()
    }
    sorted_indices = sorted(
        counts_by_index,
        key=lambda index: (array_locations[index].is_computed, *_rawness(scans[index], counts_by_index[index])),
    )
    for n_earlier_index, first_index in enumerate(sorted_indices):
        for second_index in sorted_indices[:n_earlier_index]:
            have_one_source = scans[first_index].source == scans[second_index].source
            if (
                scans[first_index].shape[:2] != scans[second_index].shape[:2]
                or have_one_source
                or {first_index, second_index} & set(exclusion_reasons)
            ):
                continue
            for copy_index, raw_index in ((first_index, second_index), (second_index, first_index)):
                resampled_arrays = _rebinned_to(scans[raw_index], scans[copy_index], counts_by_index[raw_index])
                if any(
                    _is_filtered(
                        counts_by_index[copy_index], resampled_counts, _noise_scale(counts_by_index[raw_index])
                    )
                    for resampled_counts in resampled_arrays
                ):
                    exclusion_reasons[copy_index] = (
                        f"computed from {name_in_file(scans[raw_index])}: smoothed, shifted or rebinned, since it "
                        "has the same "
                        "noise"
                    )
                    break


def _rebinned_to(scan: Scan, target_scan: Scan, counts: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Convert the counts of a scan to the channels of another scan in several ways, and return all results.

    The counts are left unchanged, rebinned to the energies of the other scan, or stretched to its number of channels.
    """
    n_channel, n_target_channel = counts.shape[1], target_scan.shape[2]
    resampled_arrays = [counts] if n_channel == n_target_channel else []
    if scan.axis is not None and target_scan.axis is not None and scan.axis != target_scan.axis:
        resampled_arrays.append(rebin(counts, scan.axis, target_scan.axis.edges_kev).astype(np.float64))
    if n_channel != n_target_channel:
        resampled_edges = np.linspace(-0.5, n_channel - 0.5, n_target_channel + 1)
        resampled_arrays.append(rebin(counts, EnergyAxis(1.0, 0.0, n_channel), resampled_edges).astype(np.float64))
    return resampled_arrays


def _noise_scale(counts: NDArray[np.float64]) -> float:
    """Return the ratio of the variance of counts to their mean, at most 1.

    If the values are not integers, characteristic lines bias this estimate.
    """
    counts_scale = scale_from_variance(counts)
    return 1.0 if counts_scale is None else min(1.0, counts_scale.value)


def _is_filtered(copy_counts: NDArray[np.float64], raw_counts: NDArray[np.float64], noise_scale: float) -> bool:
    """Return whether weighted sums of nearby raw channels reproduce an array better than independent noise allows.

    If the arrays are independent detectors, the variance of the residual is at least the propagated variance of the
    weighted sum. The weights may vary linearly along each segment of the spectrum.
    """
    segment_channels = max(_SEGMENT_CHANNELS, _MIN_VALUES_PER_WEIGHT * 2 * _N_FILTER_WEIGHTS // len(copy_counts))
    margin_channels = min(_MAX_SHIFT_CHANNELS, copy_counts.shape[1] // 4) + _N_FILTER_WEIGHTS // 2
    padded_counts = np.pad(raw_counts, ((0, 0), (margin_channels, margin_channels)))
    segment_starts = np.arange(0, max(copy_counts.shape[1] - segment_channels, 0) + 1, segment_channels)
    segment_starts = segment_starts[
        np.argsort(
            [
                -copy_counts[:, segment_start : segment_start + segment_channels].sum()
                for segment_start in segment_starts
            ],
            kind="stable",
        )
    ]
    residual_ratios: list[float] = []
    for segment_start in segment_starts:
        segment = copy_counts[:, segment_start : segment_start + segment_channels]
        if np.count_nonzero(segment) < _MIN_VALUES_PER_WEIGHT * _N_FILTER_WEIGHTS or (
            len(residual_ratios) > 1 and min(residual_ratios) > _MAX_RESIDUAL_RATIO
        ):
            break
        raw_neighbourhood = padded_counts[:, segment_start : segment_start + segment.shape[1] + 2 * margin_channels]
        raw_windows = np.lib.stride_tricks.sliding_window_view(raw_neighbourhood, segment.shape[1], axis=1)
        residual_ratios.append(
            min(
                _residual_ratio(segment, raw_windows[:, window_start : window_start + _N_FILTER_WEIGHTS], noise_scale)
                for window_start in _best_window_starts(segment, raw_windows)
            )
        )
    return bool(residual_ratios) and float(np.median(residual_ratios)) <= _MAX_RESIDUAL_RATIO


def _best_window_starts(segment: NDArray[np.float64], raw_windows: NDArray[np.float64]) -> set[int]:
    """Return the first windows of two shifts: the shift that correlates best with a segment's noise, and no shift."""
    unshifted_start, filter_half_width = raw_windows.shape[1] // 2, _N_FILTER_WEIGHTS // 2
    second_differences = np.diff(raw_windows, 2, axis=2)
    difference_norms = np.sqrt(np.einsum("plc,plc->l", second_differences, second_differences))
    shift_correlations = np.einsum("pc,plc->l", np.diff(segment, 2, axis=1), second_differences) / np.maximum(
        difference_norms, 1e-30
    )
    best_start = int(np.argmax(shift_correlations[filter_half_width : shift_correlations.size - filter_half_width]))
    return {best_start, unshifted_start - filter_half_width}


def _residual_ratio(segment: NDArray[np.float64], raw_windows: NDArray[np.float64], noise_scale: float) -> float:
    """Fit a segment by a weighted sum of windows. Return the squared residual divided by the propagated variance."""
    window_counts = np.moveaxis(raw_windows, 1, 2).reshape(-1, _N_FILTER_WEIGHTS)
    segment_position = np.tile(np.linspace(-1, 1, segment.shape[1]), len(segment))[:, None]
    window_weights = np.linalg.lstsq(
        np.hstack([window_counts, segment_position * window_counts]), segment.ravel(), rcond=1e-9
    )[0]
    local_weights = window_weights[:_N_FILTER_WEIGHTS] + segment_position * window_weights[_N_FILTER_WEIGHTS:]
    squared_residual = float(((segment.ravel() - (local_weights * window_counts).sum(axis=1)) ** 2).sum())
    return squared_residual / max(noise_scale * float((local_weights**2 * window_counts).sum()), 1e-30)


def _is_summand(sum_counts: NDArray[np.float64], part_counts: NDArray[np.float64]) -> bool:
    """Return whether the noise of two arrays shows that one is a summand of the other.

    A corrected copy of an array does not count as a sum that contains the array.
    """
    counts_scales = [scale_from_variance(counts) for counts in (sum_counts, part_counts)]
    if any(
        counts_scale is None or not COUNTS_SCALE_RANGE[0] <= counts_scale.value <= COUNTS_SCALE_RANGE[1]
        for counts_scale in counts_scales
    ):
        return False
    return _shared_noise(sum_counts, part_counts) > _MIN_SHARED_NOISE_FRACTION and not _is_computed_from(
        sum_counts, part_counts
    )


def _shared_noise(sum_counts: NDArray[np.float64], part_counts: NDArray[np.float64]) -> float:
    """Return the share of an array's noise that a second array, which has more counts, also contains.

    The share is 0 for independent detectors and 1 for a summand.

    One array is scaled to the other and subtracted, so that the spectra cancel. If the arrays are independent, the
    variance of this difference is the sum of their variances. The result is the median over segments of the spectrum.
    """
    if min(sum_counts.sum(), part_counts.sum()) < 5 * _MIN_SAMPLE_COUNTS:
        return 0.0
    noise_scales = _noise_scale(sum_counts), _noise_scale(part_counts)
    shared_fractions = []
    segment_edges = np.searchsorted(np.cumsum(part_counts.sum(axis=0)), np.linspace(0, part_counts.sum(), 17)[1:-1])
    for sum_segment, part_segment in zip(
        *(np.split(counts, np.unique(segment_edges), axis=1) for counts in (sum_counts, part_counts)), strict=True
    ):
        if sum_segment.shape[1] < 8 or part_segment.sum() <= 0:
            continue
        count_ratio = sum_segment.sum() / part_segment.sum()
        shared_variance = count_ratio * noise_scales[1] * np.convolve(part_segment.sum(axis=0), [1, 4, 1], "valid")
        expected_variance = (
            noise_scales[0] * np.convolve(sum_segment.sum(axis=0), [1, 4, 1], "valid") + count_ratio * shared_variance
        )
        squared_differences = (np.diff(sum_segment - count_ratio * part_segment, 2, axis=1) ** 2).sum(axis=0)
        channel_weights = 1 / np.maximum(expected_variance, 1e-30)
        shared_fractions.append(
            float(
                (channel_weights * (expected_variance - squared_differences)).sum()
                / (2 * channel_weights * shared_variance).sum()
            )
        )
    return float(np.median(shared_fractions)) if shared_fractions else 0.0


def _is_integer(array_values: NDArray[np.float64]) -> bool:
    return bool(np.array_equal(array_values, np.round(array_values)))


# --- several scans -----------------------------------------------------------------------------------


def _refuse_several_scans(
    scans: Sequence[Scan],
    array_locations: Sequence[ArrayLocation],
    pixel_samples: Sequence[NDArray[np.float64] | str],
    candidate_indices: Sequence[int],
    location: str | Path,
) -> None:
    scan_groups: list[list[int]] = []
    difference_text = ""
    for index in candidate_indices:
        for group in scan_groups:
            separation_reason = _reason_for_separation(scans, array_locations, pixel_samples, group[0], index)
            if not separation_reason:
                group.append(index)
                break
            difference_text = difference_text or separation_reason
        else:
            scan_groups.append([index])
    if len(scan_groups) < 2:
        return
    path = str(location).rpartition("::")[0] or str(location)
    scan_texts = [_describe_group(path, scans, array_locations, group) for group in scan_groups]
    raise ScanError(
        f"Cannot read {location} as one scan: it contains {len(scan_groups)} scans ({difference_text}). Choose one "
        f"of them: {'; '.join(scan_texts)}."
    )


def _describe_group(
    path: str, scans: Sequence[Scan], array_locations: Sequence[ArrayLocation], group: Sequence[int]
) -> str:
    entry_path, shape = array_locations[group[0]].entry, scans[group[0]].shape
    size_text = f"({shape[0]} x {shape[1]} pixels)"
    if entry_path and all(array_locations[index].entry == entry_path for index in group):
        return f"{path}::{entry_path} {size_text}"
    return ", ".join(f"{scans[index].source} {size_text}" for index in group)


def _reason_for_separation(
    scans: Sequence[Scan],
    array_locations: Sequence[ArrayLocation],
    pixel_samples: Sequence[NDArray[np.float64] | str],
    first_index: int,
    second_index: int,
) -> str:
    """Return the reason why two arrays must be from different scans, or "" if they can be from the same scan."""
    first_location, second_location = array_locations[first_index], array_locations[second_index]
    if scans[first_index].shape[:2] != scans[second_index].shape[:2]:
        return "they differ in rows and columns"
    if first_location.entry != second_location.entry:
        return f"{first_location.entry} and {second_location.entry} are separate measurements"
    if first_location.positions is not None and second_location.positions is not None:
        for first_positions, second_positions in zip(first_location.positions, second_location.positions, strict=True):
            max_position_step = np.abs(np.diff(first_positions)).max(initial=0.0)
            if (
                first_positions.shape != second_positions.shape
                or np.abs(first_positions - second_positions).max(initial=0.0) > 0.5 * max_position_step
            ):
                return "their positions differ"
    sample_pair = pixel_samples[first_index], pixel_samples[second_index]
    if (
        isinstance(sample_pair[0], str)
        or isinstance(sample_pair[1], str)
        or LOCATION_KEY not in scans[first_index].metadata
    ):
        return ""
    return (
        "they show different images"
        if _image_correlation(_as_counts(sample_pair[0]), _as_counts(sample_pair[1])) < _MIN_IMAGE_CORRELATION
        else ""
    )


def _image_correlation(first_counts: NDArray[np.float64], second_counts: NDArray[np.float64]) -> float:
    """Return the correlation of two arrays over pixels and energy bands, or 1 if one is uniform within its noise."""
    normalised_images = []
    for counts in (first_counts, second_counts):
        band_counts = np.add.reduceat(counts, np.arange(0, counts.shape[1], max(counts.shape[1] // 8, 1)), axis=1)
        mean_counts = band_counts.mean(axis=0)
        bright_bands = mean_counts > 25
        relative_deviation = (band_counts - mean_counts)[:, bright_bands] / np.sqrt(mean_counts[bright_bands])
        if len(counts) < 16 or not bright_bands.any() or (relative_deviation**2).mean() < 10:
            return 1.0
        normalised_images.append(
            np.where(bright_bands, (band_counts - mean_counts) / np.sqrt(np.maximum(mean_counts, 1e-9)), 0.0)
        )
    if normalised_images[0].shape != normalised_images[1].shape:
        return 1.0
    image_covariance = (normalised_images[0] * normalised_images[1]).sum()
    return float(image_covariance / np.sqrt((normalised_images[0] ** 2).sum() * (normalised_images[1] ** 2).sum()))


def _have_same_channels(scans: Sequence[Scan], pixel_samples: Sequence[NDArray[np.float64] | str]) -> bool:
    """Return whether detectors without energy axes have their peaks in the same channels as the first detector."""
    if len(scans) < 2 or any(scan.axis is not None or scan.metadata.get(SAME_CHANNELS) for scan in scans):
        return False
    detector_spectra = [pixel_sample.sum(axis=0) for pixel_sample in pixel_samples if not isinstance(pixel_sample, str)]
    if (
        len(detector_spectra) < len(scans)
        or len({detector_spectrum.size for detector_spectrum in detector_spectra}) > 1
        or detector_spectra[0].size < _MIN_PEAK_CHANNELS
    ):
        return False
    spectrum_slopes = [
        np.diff(np.convolve(np.sqrt(detector_spectrum), np.full(5, 0.2), "valid"))
        for detector_spectrum in detector_spectra
    ]
    half_channel = int(np.searchsorted(np.cumsum(spectrum_slopes[0] ** 2), 0.5 * (spectrum_slopes[0] ** 2).sum()))
    return all(
        _is_aligned(spectrum_slopes[0][channel_half], detector_spectrum[channel_half])
        for detector_spectrum in spectrum_slopes[1:]
        for channel_half in (slice(half_channel), slice(half_channel, None))
    )


def _is_aligned(first_slopes: NDArray[np.float64], second_slopes: NDArray[np.float64]) -> bool:
    slope_norm = float(np.sqrt((first_slopes**2).sum() * (second_slopes**2).sum()))
    if first_slopes.size < 8 or slope_norm == 0:
        return False
    channel_shifts = range(-3, 4)
    slope_correlations = [
        float((first_slopes * np.roll(second_slopes, shift)).sum()) / slope_norm for shift in channel_shifts
    ]
    return (
        slope_correlations[3] > _MIN_PEAK_CORRELATION and abs(channel_shifts[int(np.argmax(slope_correlations))]) <= 1
    )


# --- detectors that do not work -----------------------------------------------------------------------


def _exclude_faulty(
    pixel_samples: Sequence[NDArray[np.float64] | str],
    candidate_indices: Sequence[int],
    exclusion_reasons: dict[int, str],
) -> None:
    """Exclude detectors that have no counts, are faulty, or count over 100 times more or less than the others."""
    samples_by_index = {
        index: pixel_sample for index in candidate_indices if not isinstance(pixel_sample := pixel_samples[index], str)
    }
    faults_by_index = {
        index: fault_text for index, pixel_sample in samples_by_index.items() if (fault_text := _fault_of(pixel_sample))
    }
    working_indices = [index for index in samples_by_index if index not in faults_by_index]
    mean_counts = {index: float(samples_by_index[index].sum(axis=1).mean()) for index in working_indices}
    for index in working_indices:
        other_mean_counts = [mean_counts[other_index] for other_index in working_indices if other_index != index]
        if not other_mean_counts or (len(working_indices) == 2 and mean_counts[index] >= other_mean_counts[0]):
            continue
        typical_counts = float(np.median(other_mean_counts))
        if mean_counts[index] * _MAX_COUNT_RATE_RATIO < typical_counts and typical_counts > _MIN_SAMPLE_COUNTS:
            faults_by_index[index] = (
                f"{mean_counts[index]:.3g} counts per pixel, while the others have {typical_counts:.3g}: it was off "
                "or blocked"
            )
        elif mean_counts[index] > _MAX_COUNT_RATE_RATIO * typical_counts > 0:
            faults_by_index[index] = (
                f"{mean_counts[index]:.3g} counts per pixel, while the others have {typical_counts:.3g}: it is "
                "saturated"
            )
    max_total_counts = max((pixel_sample.sum() for pixel_sample in samples_by_index.values()), default=0.0)
    if len(faults_by_index) < len(candidate_indices) and max_total_counts > _MIN_SAMPLE_COUNTS // 4:
        exclusion_reasons.update(
            {index: f"a detector that does not work: {fault_text}" for index, fault_text in faults_by_index.items()}
        )


def _fault_of(pixel_sample: NDArray[np.float64]) -> str:
    """Return the fault of a detector, or "" if it works."""
    if not pixel_sample.any():
        return "it has no counts"
    if (pixel_sample == pixel_sample.flat[0]).all():
        return f"the same number, {pixel_sample.flat[0]:g}, in all channels and pixels"
    nonzero_counts = pixel_sample[:, pixel_sample.any(axis=0)]
    if (
        len(pixel_sample) > 1
        and nonzero_counts.sum() > _MIN_SAMPLE_COUNTS
        and (nonzero_counts == nonzero_counts[0]).all()
    ):
        return "the same spectrum in all pixels: it is stuck"
    max_value = pixel_sample.max()
    if max_value in _FULL_SCALE_VALUES and (pixel_sample == max_value).mean() > 0.01:
        max_share = (pixel_sample == max_value).mean()
        return f"{max_share:.0%} of its channels are at {max_value:g}, the maximum that can be stored"
    return ""


_FULL_SCALE_VALUES: frozenset[Any] = frozenset(float(2**bits - 1) for bits in (7, 8, 15, 16, 31, 32, 63, 64))
