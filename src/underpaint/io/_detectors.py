"""Selection of the arrays of a file that are the detectors of one scan.

Files also contain sums of detectors; copies corrected for dead time, normalised, smoothed, shifted, fitted or without
background; other areas; and detectors that were off or faulty. Names differ between beamlines, so arrays are classified
by the values of some pixels: two detectors have independent noise, a derived array has the noise of its source.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Scan, rebin
from underpaint.data.poisson import COUNTS_SCALE_RANGE, scale_from_variance, sum_channels
from underpaint.errors import ScanError
from underpaint.io._source import SAME_CHANNELS

LOCATION_KEY = "place"
"""Temporary key in a scan's metadata: location of its array in the file."""
NUMBERED_DETECTOR = re.compile(r"(.+ )?detector \d+")
"""Name of one of the detectors of an array."""
_DERIVED_NAME = re.compile(r"corr|dtc|norm|fit|process|result|background|residual|smooth|deconv|copy", re.IGNORECASE)
_SUM_NAME = re.compile(r"sum|total|_all\b|average|mean", re.IGNORECASE)
_N_SAMPLE_BLOCKS, _BLOCK_COLUMNS = 8, 8
_MIN_COUNTS = 200
_MAX_DISTINCT_LEVELS = 1e6
_MIN_PEAK_CHANNELS = 64
_MIN_PEAK_CORRELATION = 0.6
_MAX_RATE_RATIO = 100.0
_MIN_IMAGE_CORRELATION = 0.4
_N_FILTER_WEIGHTS = 13
_MAX_SHIFT = 128
_SEGMENT_CHANNELS, _MIN_VALUES_PER_WEIGHT = 64, 20
_MAX_RESIDUAL_RATIO = 0.6
_MIN_SHARED_NOISE = 0.5


@dataclass(frozen=True)
class ArrayLocation:
    """Location of an array in its file.

    Parameters
    ----------
    entry : str
        Path of its measurement in the file; "" if the file has no separate measurements.
    positions : tuple of (n,) arrays, or None
        Positions along rows and columns; None if the file has none.
    computed : bool
        Whether the file marks the array as computed from other arrays.
    gathered : tuple of str
        Names of the arrays that it combines.
    """

    entry: str = ""
    positions: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    computed: bool = False
    gathered: tuple[str, ...] = ()


def detectors_of_one_scan(scans: Sequence[Scan], location: str | Path, *, faulty: bool = False) -> list[Scan]:
    """Return the detectors of one scan, with notes on the arrays that were left out.

    Parameters
    ----------
    scans : sequence of Scan
        Every array of a file or folder.
    location : str or Path
        The file, for messages.
    faulty : bool
        Whether faulty detectors are included.

    Raises
    ------
    ScanError
        The arrays belong to several scans.
    """
    if len(scans) == 1:
        return [_without_location(scans[0], ())]
    array_locations: list[ArrayLocation] = [scan.metadata.get(LOCATION_KEY, ArrayLocation()) for scan in scans]
    samples = [_sample(scan) for scan in scans]
    reasons: dict[int, str] = {}
    _exclude_parts(scans, array_locations, reasons)
    for group in _group_by_shape(scans):
        _exclude_computed(scans, array_locations, samples, group, reasons)
    _exclude_filtered(scans, array_locations, samples, reasons)
    remaining = [index for index in range(len(scans)) if index not in reasons]
    _refuse_several_scans(scans, array_locations, samples, remaining, location)
    if not faulty:
        _exclude_faulty(samples, remaining, reasons)
    selected = [scan for index, scan in enumerate(scans) if index not in reasons]
    if _have_same_channels(selected, [samples[index] for index in range(len(scans)) if index not in reasons]):
        note = (
            "without energy calibration: added channel by channel, since all detectors have peaks in the same channels"
        )
        selected = [
            replace(scan, metadata={**scan.metadata, SAME_CHANNELS: True}, notes=(*scan.notes, note))
            for scan in selected
        ]
    notes = tuple(f"left out: {name_of(scans[index])}, {reason}" for index, reason in sorted(reasons.items()))
    return [_without_location(scan, notes) for scan in _with_unique_names(selected)]


def _with_unique_names(scans: list[Scan]) -> list[Scan]:
    """Distinguish detectors of the same name, such as a repeated serial number, by their path in the file."""
    names = [scan.detector for scan in scans]
    is_repeated = [bool(name) and names.count(name) > 1 for name in names]
    note = "detectors of one name: if they are one that measured twice, read them one by one (--detector)"
    return [
        replace(scan, detector=f"{scan.detector} ({_last_part(scan)})", notes=(*scan.notes, note)) if is_twice else scan
        for scan, is_twice in zip(scans, is_repeated, strict=True)
    ]


def _last_part(scan: Scan) -> str:
    """Return the folder or group of a detector's counts, or their name."""
    parts = [part for part in re.split(r"[/\\]", name_of(scan)) if part]
    return parts[-2] if len(parts) > 1 and "::" in scan.source else parts[-1]


def name_of(scan: Scan) -> str:
    """Return an array's name within its file, with the detector for arrays of several; without a name, the file."""
    name = scan.source.rpartition("::")[2] or scan.source
    return f"{name} {scan.detector}" if NUMBERED_DETECTOR.fullmatch(scan.detector) else name


def _without_location(scan: Scan, notes: tuple[str, ...]) -> Scan:
    if LOCATION_KEY not in scan.metadata and not notes:
        return scan
    metadata = {key: value for key, value in scan.metadata.items() if key != LOCATION_KEY}
    return replace(scan, metadata=metadata, notes=(*scan.notes, *notes))


def _group_by_shape(scans: Sequence[Scan]) -> list[list[int]]:
    """Return the indices of the scans of each shape."""
    return [
        [index for index, scan in enumerate(scans) if scan.shape == shape]
        for shape in dict.fromkeys(scan.shape for scan in scans)
    ]


def _sample(scan: Scan) -> NDArray[np.float64] | str:
    """Return (n_pixel, n_channel) counts of pixels spread over the scan; the error message if they cannot be read.

    Scans of one shape are sampled at the same pixels.
    """
    n_row, n_column, n_channel = scan.shape
    width = min(n_column, _BLOCK_COLUMNS)
    rows = np.unique(np.linspace(0, n_row - 1, _N_SAMPLE_BLOCKS).round().astype(int))
    # Columns advance with rows, in steps of three, so that the pixels are not on the diagonal.
    starts = [
        round((3 * index % _N_SAMPLE_BLOCKS) / (_N_SAMPLE_BLOCKS - 1) * (n_column - width))
        for index in range(len(rows))
    ]
    try:
        parts = [
            np.asarray(scan.counts[int(row), start : start + width], dtype=np.float64).reshape(-1, n_channel)
            for row, start in zip(rows, starts, strict=True)
        ]
    except ScanError as error:
        return str(error)
    return np.nan_to_num(np.concatenate(parts))


def _as_counts(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide each pixel's values by their common unit; return them unchanged if they are not multiples of one."""
    if _is_integer(values):
        common_divisor = int(np.gcd.reduce(values[values > 0].astype(np.int64), initial=0))
        return values / common_divisor if common_divisor > 1 else values
    units = np.ones(len(values))
    for index, spectrum in enumerate(values):
        levels = np.unique(spectrum[spectrum > 0])
        if levels.size == 0:
            continue
        gaps = np.append(np.diff(levels), levels[0])
        units[index] = gaps[gaps > 1e-3 * levels[0]].min()
        if levels[-1] > _MAX_DISTINCT_LEVELS * units[index]:
            return values
    counts = values / units[:, None]
    return np.round(counts) if (np.abs(counts - np.round(counts)) <= 0.02).all() else values


# --- arrays derived from others -----------------------------------------------------------------------


def _exclude_parts(scans: Sequence[Scan], array_locations: Sequence[ArrayLocation], reasons: dict[int, str]) -> None:
    """Exclude arrays that are parts of another one."""
    for full_scan, array_location in zip(scans, array_locations, strict=True):
        for index, scan in enumerate(scans):
            if scan is not full_scan and name_of(scan) in array_location.gathered:
                reasons[index] = f"a part of {name_of(full_scan)}"


def _exclude_computed(
    scans: Sequence[Scan],
    array_locations: Sequence[ArrayLocation],
    samples: Sequence[NDArray[np.float64] | str],
    group: Sequence[int],
    reasons: dict[int, str],
) -> None:
    """Exclude copies, sums and corrected copies of other arrays of the same shape."""
    values: dict[int, NDArray[np.float64]] = {}
    readable = [index for index in group if not isinstance(samples[index], str)]
    for index in group:
        sample = samples[index]
        if index in reasons:
            continue
        if not isinstance(sample, str):
            values[index] = sample
        elif readable:
            reasons[index] = f"no counts: {sample}"
    # Raw counts come first, so that of two related arrays the raw one is kept.
    by_rawness = sorted(
        values, key=lambda index: (array_locations[index].computed, *_rawness(scans[index], values[index]))
    )
    is_integer = {index: _is_integer(sample) for index, sample in values.items()}
    values = {index: _as_counts(sample) for index, sample in values.items()}
    selected: list[int] = []
    for index in by_rawness:
        copied = next((reference for reference in selected if _is_proportional(values[index], values[reference])), None)
        if copied is None:
            selected.append(index)
        else:
            reasons[index] = f"a copy of {name_of(scans[copied])}, or the same counts scaled"
    for index in sorted(selected, key=lambda earlier: -values[earlier].sum()):
        other_numbers = [
            reference
            for reference in selected
            if reference != index
            and reference not in reasons
            and is_integer[reference] >= is_integer[index]
            and _is_derived(scans[reference]) <= _is_derived(scans[index])
        ]
        parts = _parts_of_sum(values[index], [values[reference] for reference in other_numbers])
        if parts:
            names = ", ".join(name_of(scans[other_numbers[part]]) for part in parts)
            reasons[index] = f"the sum, or the average, of {names}"
            continue
        is_sum = array_locations[index].computed or _SUM_NAME.search(name_of(scans[index])) is not None
        summands = [
            reference
            for reference in other_numbers
            if _contains(values[index], values[reference]) and (is_sum or _is_summand(values[index], values[reference]))
        ]
        if sum(values[reference].sum() for reference in summands) > 0.75 * values[index].sum() and len(summands) > 1:
            reasons[index] = (
                f"the sum of {', '.join(name_of(scans[reference]) for reference in summands)}, by its name and size"
            )
            continue
        for reference in summands:
            reasons[reference] = f"contained in the sum {name_of(scans[index])}, which has more detectors than the file"
        if is_sum and not summands and len(other_numbers) > 1 and array_locations[index].computed:
            reasons[index] = "the file marks it as computed from others"
    remaining = [index for index in selected if index not in reasons]
    for n_before, index in enumerate(remaining):
        raw = next(
            (
                earlier
                for earlier in remaining[:n_before]
                if earlier not in reasons and _follows(values[index], values[earlier])
            ),
            None,
        )
        if raw is not None:
            reasons[index] = f"computed from {name_of(scans[raw])}: corrected, fitted or without background"


def _rawness(scan: Scan, values: NDArray[np.float64]) -> tuple[bool, bool, float]:
    """Return a sort key: integers first, then names of raw data, then fewer counts."""
    return not _is_integer(values), _is_derived(scan), float(values.sum())


def _is_derived(scan: Scan) -> bool:
    return _DERIVED_NAME.search(name_of(scan)) is not None


def _is_proportional(spectra: NDArray[np.float64], reference: NDArray[np.float64]) -> bool:
    """Return whether the spectra of each pixel are equal except for a factor."""
    factor = np.divide(
        spectra.sum(axis=1), reference.sum(axis=1), out=np.zeros(len(spectra)), where=reference.sum(axis=1) > 0
    )
    if np.count_nonzero(reference) < _MIN_COUNTS // 4 or not (factor > 0).any():
        return bool(reference.any() and np.array_equal(spectra, reference))
    return bool((np.abs(spectra - factor[:, None] * reference) <= 1e-4 * spectra + 1e-6 * spectra.max()).all())


def _parts_of_sum(total: NDArray[np.float64], parts: Sequence[NDArray[np.float64]]) -> list[int]:
    """Return the indices of the parts whose weighted sum is the total; empty if it is not a sum."""
    if len(parts) < 2 or total.sum() < _MIN_COUNTS:
        return []
    flat = np.stack([part.ravel() for part in parts], axis=1)
    weights = _weights(flat, total.ravel())
    used_parts = [index for index, share in enumerate(weights * flat.sum(axis=0)) if share > 0.02 * total.sum()]
    if len(used_parts) < 2:
        return []
    if _residual_over_variance(total.ravel(), flat, weights) < 0.1:
        return used_parts
    if total.shape[1] < 16 * len(parts):
        return []
    # Corrections differ from pixel to pixel.
    row_weights = [_weights(np.stack([part[row] for part in parts], axis=1), total[row]) for row in range(len(total))]
    residual = sum(
        _residual_over_variance(total[row], np.stack([part[row] for part in parts], axis=1), each) * total[row].sum()
        for row, each in enumerate(row_weights)
    )
    return used_parts if residual < 0.1 * total.sum() else []


def _weights(parts: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.optimize import nnls  # its import takes 0.1 s, and few files have several detectors

    # The normal equations are as small as the number of parts.
    gram = parts.T @ parts
    scale = np.sqrt(np.diag(gram))
    positive = scale > 0
    weights = np.zeros(parts.shape[1])
    if positive.any():
        normal_matrix = gram[np.ix_(positive, positive)] / np.outer(scale[positive], scale[positive]) + 1e-9 * np.eye(
            int(positive.sum())
        )
        cholesky = np.linalg.cholesky(normal_matrix)
        weights[positive] = (
            nnls(cholesky.T, np.linalg.solve(cholesky, parts.T[positive] @ total / scale[positive]))[0]
            / scale[positive]
        )
    return weights


def _residual_over_variance(
    total: NDArray[np.float64], parts: NDArray[np.float64], weights: NDArray[np.float64]
) -> float:
    """Return the squared residual over the variance of independent counts."""
    residual = total - parts @ weights
    expected = total.sum() + (parts @ weights**2).sum()
    return float((residual**2).sum() / expected) if expected > 0 else 0.0


def _contains(total: NDArray[np.float64], part: NDArray[np.float64]) -> bool:
    return bool(np.count_nonzero(part) >= _MIN_COUNTS and (total >= part * (1 - 1e-6)).all())


def _follows(candidate: NDArray[np.float64], raw: NDArray[np.float64]) -> bool:
    """Return whether an array was computed from raw counts: it has the noise of the raw counts, or no noise.

    The second difference of counts along the channels has a variance of six times the counts. After subtraction of a
    multiple of the candidate's second differences, the residual of those of the raw counts has at least this variance
    for two detectors, almost none for a corrected copy or a copy without its smooth background, and exactly this
    variance for a noise-free fit. Corrections may differ from pixel to pixel.
    """
    has_enough_counts = (
        min(np.count_nonzero(candidate), np.count_nonzero(raw)) >= _MIN_COUNTS and raw.sum() >= 5 * _MIN_COUNTS
    )
    if not _is_integer(raw) or not has_enough_counts:
        return False
    factors = np.divide(
        raw.sum(axis=1), candidate.sum(axis=1), out=np.zeros(len(candidate)), where=candidate.sum(axis=1) > 0
    )
    raw_differences = np.diff(raw, 2, axis=1)
    if (raw_differences**2).sum() < 0.7 * 6 * raw.sum():
        return False  # smoothed: no raw counts
    for candidate_differences in (np.diff(candidate, 2, axis=1), np.diff(factors[:, None] * candidate, 2, axis=1)):
        factor = float((candidate_differences * raw_differences).sum() / max((candidate_differences**2).sum(), 1e-30))
        if factor > 0 and ((raw_differences - factor * candidate_differences) ** 2).sum() < 0.3 * 6 * raw.sum():
            return True
    scale = raw.sum() / candidate.sum()
    if _is_integer(candidate) or not 0.5 < scale < 2.0:
        return False
    # The noise of a smoothed detector appears when channels are added up.
    difference_curves = [np.diff(sum_channels(raw - scale * candidate, size), 2, axis=1) for size in (1, 4, 8)]
    return all((each**2).sum() < 1.25 * 6 * raw.sum() for each in difference_curves)


def _exclude_filtered(
    scans: Sequence[Scan],
    array_locations: Sequence[ArrayLocation],
    samples: Sequence[NDArray[np.float64] | str],
    reasons: dict[int, str],
) -> None:
    """Exclude copies that were smoothed, shifted or rebinned."""
    values = {
        index: _as_counts(sample)
        for index, sample in enumerate(samples)
        if index not in reasons and not isinstance(sample, str) and sample.sum() >= 5 * _MIN_COUNTS
    }
    values = {index: sample[:: 1 + len(values) // 8] for index, sample in values.items()}
    order = sorted(values, key=lambda index: (array_locations[index].computed, *_rawness(scans[index], values[index])))
    for n_before, first in enumerate(order):
        for second in order[:n_before]:
            of_one_array = scans[first].source == scans[second].source
            if scans[first].shape[:2] != scans[second].shape[:2] or of_one_array or {first, second} & set(reasons):
                continue
            for copy, raw in ((first, second), (second, first)):
                resampled = _rebinned_to(scans[raw], scans[copy], values[raw])
                if any(_is_filtered(values[copy], counts, _noise(values[raw])) for counts in resampled):
                    reasons[copy] = (
                        f"computed from {name_of(scans[raw])}: smoothed, shifted or rebinned, since it has the same "
                        "noise"
                    )
                    break


def _rebinned_to(scan: Scan, target: Scan, counts: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return counts of a scan on the channels of another one: unchanged, by the energy axes, and stretched."""
    n_channel, n_target = counts.shape[1], target.shape[2]
    grids = [counts] if n_channel == n_target else []
    if scan.axis is not None and target.axis is not None and scan.axis != target.axis:
        grids.append(rebin(counts, scan.axis, target.axis.edges_kev).astype(np.float64))
    if n_channel != n_target:
        edges = np.linspace(-0.5, n_channel - 0.5, n_target + 1)
        grids.append(rebin(counts, EnergyAxis(1.0, 0.0, n_channel), edges).astype(np.float64))
    return grids


def _noise(values: NDArray[np.float64]) -> float:
    """Return variance over mean of counts, at most 1, since lines bias the estimate for non-integers."""
    scale = scale_from_variance(values)
    return 1.0 if scale is None else min(1.0, scale.value)


def _is_filtered(copy: NDArray[np.float64], raw: NDArray[np.float64], noise: float) -> bool:
    """Return whether each channel is, to much less than the noise, a weighted sum of nearby channels of the raw array.

    For two detectors and any weights, constant or varying along the spectrum, the residual has at least the variance
    that the weights propagate from the noise of one detector.
    """
    segment_channels = max(_SEGMENT_CHANNELS, _MIN_VALUES_PER_WEIGHT * 2 * _N_FILTER_WEIGHTS // len(copy))
    margin = min(_MAX_SHIFT, copy.shape[1] // 4) + _N_FILTER_WEIGHTS // 2
    padded = np.pad(raw, ((0, 0), (margin, margin)))
    starts = np.arange(0, max(copy.shape[1] - segment_channels, 0) + 1, segment_channels)
    starts = starts[np.argsort([-copy[:, start : start + segment_channels].sum() for start in starts], kind="stable")]
    residual_ratios: list[float] = []
    for start in starts:
        segment = copy[:, start : start + segment_channels]
        if np.count_nonzero(segment) < _MIN_VALUES_PER_WEIGHT * _N_FILTER_WEIGHTS or (
            len(residual_ratios) > 1 and min(residual_ratios) > _MAX_RESIDUAL_RATIO
        ):
            break
        neighbourhood = padded[:, start : start + segment.shape[1] + 2 * margin]
        windows = np.lib.stride_tricks.sliding_window_view(neighbourhood, segment.shape[1], axis=1)
        residual_ratios.append(
            min(
                _residual_ratio(segment, windows[:, each : each + _N_FILTER_WEIGHTS], noise)
                for each in _best_window_starts(segment, windows)
            )
        )
    return bool(residual_ratios) and float(np.median(residual_ratios)) <= _MAX_RESIDUAL_RATIO


def _best_window_starts(part: NDArray[np.float64], windows: NDArray[np.float64]) -> set[int]:
    """Return the first windows of the shift that correlates best with the noise of a segment, and of no shift."""
    unshifted, half_width = windows.shape[1] // 2, _N_FILTER_WEIGHTS // 2
    second_differences = np.diff(windows, 2, axis=2)
    norm = np.sqrt(np.einsum("plc,plc->l", second_differences, second_differences))
    correlation = np.einsum("pc,plc->l", np.diff(part, 2, axis=1), second_differences) / np.maximum(norm, 1e-30)
    best_start = int(np.argmax(correlation[half_width : correlation.size - half_width]))
    return {best_start, unshifted - half_width}


def _residual_ratio(part: NDArray[np.float64], windows: NDArray[np.float64], noise: float) -> float:
    """Return the squared residual after subtraction of the windows' weighted sum, over the propagated variance."""
    terms = np.moveaxis(windows, 1, 2).reshape(-1, _N_FILTER_WEIGHTS)
    position = np.tile(np.linspace(-1, 1, part.shape[1]), len(part))[:, None]
    weights = np.linalg.lstsq(np.hstack([terms, position * terms]), part.ravel(), rcond=1e-9)[0]
    local_weights = weights[:_N_FILTER_WEIGHTS] + position * weights[_N_FILTER_WEIGHTS:]
    residual = float(((part.ravel() - (local_weights * terms).sum(axis=1)) ** 2).sum())
    return residual / max(noise * float((local_weights**2 * terms).sum()), 1e-30)


def _is_summand(total: NDArray[np.float64], part: NDArray[np.float64]) -> bool:
    """Return whether an array is a summand of a larger one, by their noise; a corrected copy is not a sum."""
    scales = [scale_from_variance(values) for values in (total, part)]
    if any(scale is None or not COUNTS_SCALE_RANGE[0] <= scale.value <= COUNTS_SCALE_RANGE[1] for scale in scales):
        return False
    return _shared_noise(total, part) > _MIN_SHARED_NOISE and not _follows(total, part)


def _shared_noise(total: NDArray[np.float64], part: NDArray[np.float64]) -> float:
    """Return the fraction of an array's noise that a larger one contains: 0 for two detectors, 1 for a summand.

    The spectra cancel in the difference; its variance is the sum of both variances if these are independent. The median
    over segments of the spectrum is returned.
    """
    if min(total.sum(), part.sum()) < 5 * _MIN_COUNTS:
        return 0.0
    noise_levels = _noise(total), _noise(part)
    shared_fractions = []
    edges = np.searchsorted(np.cumsum(part.sum(axis=0)), np.linspace(0, part.sum(), 17)[1:-1])
    for first, second in zip(*(np.split(each, np.unique(edges), axis=1) for each in (total, part)), strict=True):
        if first.shape[1] < 8 or second.sum() <= 0:
            continue
        ratio = first.sum() / second.sum()
        shared_variance = ratio * noise_levels[1] * np.convolve(second.sum(axis=0), [1, 4, 1], "valid")
        expected = noise_levels[0] * np.convolve(first.sum(axis=0), [1, 4, 1], "valid") + ratio * shared_variance
        squared_differences = (np.diff(first - ratio * second, 2, axis=1) ** 2).sum(axis=0)
        weights = 1 / np.maximum(expected, 1e-30)
        shared_fractions.append(
            float((weights * (expected - squared_differences)).sum() / (2 * weights * shared_variance).sum())
        )
    return float(np.median(shared_fractions)) if shared_fractions else 0.0


def _is_integer(values: NDArray[np.float64]) -> bool:
    return bool(np.array_equal(values, np.round(values)))


# --- several scans -----------------------------------------------------------------------------------


def _refuse_several_scans(
    scans: Sequence[Scan],
    array_locations: Sequence[ArrayLocation],
    samples: Sequence[NDArray[np.float64] | str],
    candidates: Sequence[int],
    location: str | Path,
) -> None:
    groups: list[list[int]] = []
    explanation = ""
    for index in candidates:
        for group in groups:
            reason = _difference(scans, array_locations, samples, group[0], index)
            if not reason:
                group.append(index)
                break
            explanation = explanation or reason
        else:
            groups.append([index])
    if len(groups) < 2:
        return
    path = str(location).rpartition("::")[0] or str(location)
    described = [_describe_group(path, scans, array_locations, group) for group in groups]
    raise ScanError(
        f"Cannot read {location} as one scan: it contains {len(groups)} scans ({explanation}). Choose one of them: "
        f"{'; '.join(described)}."
    )


def _describe_group(
    path: str, scans: Sequence[Scan], array_locations: Sequence[ArrayLocation], group: Sequence[int]
) -> str:
    entry, shape = array_locations[group[0]].entry, scans[group[0]].shape
    size_text = f"({shape[0]} x {shape[1]} pixels)"
    if entry and all(array_locations[index].entry == entry for index in group):
        return f"{path}::{entry} {size_text}"
    return ", ".join(f"{scans[index].source} {size_text}" for index in group)


def _difference(
    scans: Sequence[Scan],
    array_locations: Sequence[ArrayLocation],
    samples: Sequence[NDArray[np.float64] | str],
    number_a: int,
    number_b: int,
) -> str:
    """Return why two arrays cannot be of one scan; "" if they can."""
    first, second = array_locations[number_a], array_locations[number_b]
    if scans[number_a].shape[:2] != scans[number_b].shape[:2]:
        return "they differ in rows and columns"
    if first.entry != second.entry:
        return f"{first.entry} and {second.entry} are separate measurements"
    if first.positions is not None and second.positions is not None:
        for first_positions, second_positions in zip(first.positions, second.positions, strict=True):
            step = np.abs(np.diff(first_positions)).max(initial=0.0)
            if (
                first_positions.shape != second_positions.shape
                or np.abs(first_positions - second_positions).max(initial=0.0) > 0.5 * step
            ):
                return "their positions differ"
    sample_pair = samples[number_a], samples[number_b]
    if (
        isinstance(sample_pair[0], str)
        or isinstance(sample_pair[1], str)
        or LOCATION_KEY not in scans[number_a].metadata
    ):
        return ""
    return (
        "they show different images"
        if _agreement(_as_counts(sample_pair[0]), _as_counts(sample_pair[1])) < _MIN_IMAGE_CORRELATION
        else ""
    )


def _agreement(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the correlation of two arrays over pixels and energy bands; 1 if one has no structure above noise."""
    images = []
    for values in (first, second):
        bands = np.add.reduceat(values, np.arange(0, values.shape[1], max(values.shape[1] // 8, 1)), axis=1)
        mean = bands.mean(axis=0)
        bright_bands = mean > 25
        deviation = (bands - mean)[:, bright_bands] / np.sqrt(mean[bright_bands])
        if len(values) < 16 or not bright_bands.any() or (deviation**2).mean() < 10:
            return 1.0
        images.append(np.where(bright_bands, (bands - mean) / np.sqrt(np.maximum(mean, 1e-9)), 0.0))
    if images[0].shape != images[1].shape:
        return 1.0
    covariance = (images[0] * images[1]).sum()
    return float(covariance / np.sqrt((images[0] ** 2).sum() * (images[1] ** 2).sum()))


def _have_same_channels(scans: Sequence[Scan], samples: Sequence[NDArray[np.float64] | str]) -> bool:
    """Whether detectors without energy axes have their peaks in the same channels, at either end of the spectrum."""
    if len(scans) < 2 or any(scan.axis is not None or scan.metadata.get(SAME_CHANNELS) for scan in scans):
        return False
    spectra = [sample.sum(axis=0) for sample in samples if not isinstance(sample, str)]
    if len(spectra) < len(scans) or len({each.size for each in spectra}) > 1 or spectra[0].size < _MIN_PEAK_CHANNELS:
        return False
    slopes = [np.diff(np.convolve(np.sqrt(each), np.full(5, 0.2), "valid")) for each in spectra]
    half_channel = int(np.searchsorted(np.cumsum(slopes[0] ** 2), 0.5 * (slopes[0] ** 2).sum()))
    return all(
        _is_aligned(slopes[0][part], each[part])
        for each in slopes[1:]
        for part in (slice(half_channel), slice(half_channel, None))
    )


def _is_aligned(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    if first.size < 8 or scale == 0:
        return False
    shifts = range(-3, 4)
    agreement = [float((first * np.roll(second, shift)).sum()) / scale for shift in shifts]
    return agreement[3] > _MIN_PEAK_CORRELATION and abs(shifts[int(np.argmax(agreement))]) <= 1


# --- detectors that do not work -----------------------------------------------------------------------


def _exclude_faulty(
    samples: Sequence[NDArray[np.float64] | str], candidates: Sequence[int], reasons: dict[int, str]
) -> None:
    """Exclude detectors that have no counts, are faulty, or have a count rate unlike all others."""
    values = {index: sample for index in candidates if not isinstance(sample := samples[index], str)}
    faults = {index: fault for index, sample in values.items() if (fault := _fault_of(sample))}
    working = [index for index in values if index not in faults]
    means = {index: float(values[index].sum(axis=1).mean()) for index in working}
    for index in working:
        other_means = [means[second] for second in working if second != index]
        if not other_means or (len(working) == 2 and means[index] >= other_means[0]):
            continue
        typical = float(np.median(other_means))
        if means[index] * _MAX_RATE_RATIO < typical and typical > _MIN_COUNTS:
            faults[index] = (
                f"{means[index]:.3g} counts per pixel where the others have {typical:.3g}: it was off or blocked"
            )
        elif means[index] > _MAX_RATE_RATIO * typical > 0:
            faults[index] = f"{means[index]:.3g} counts per pixel where the others have {typical:.3g}: it is saturated"
    brightest = max((sample.sum() for sample in values.values()), default=0.0)
    if len(faults) < len(candidates) and brightest > _MIN_COUNTS // 4:
        reasons.update({index: f"a detector that does not work: {fault}" for index, fault in faults.items()})


def _fault_of(sample: NDArray[np.float64]) -> str:
    """Return why a detector is faulty; "" if it works."""
    if not sample.any():
        return "it has no counts"
    if (sample == sample.flat[0]).all():
        return f"the same number, {sample.flat[0]:g}, in all channels and pixels"
    recorded = sample[:, sample.any(axis=0)]
    if len(sample) > 1 and recorded.sum() > _MIN_COUNTS and (recorded == recorded[0]).all():
        return "the same spectrum in all pixels: it is stuck"
    max_value = sample.max()
    if max_value in _FULL_SCALE_VALUES and (sample == max_value).mean() > 0.01:
        return (
            f"{(sample == max_value).mean():.0%} of its channels are at {max_value:g}, the maximum that can be stored"
        )
    return ""


_FULL_SCALE_VALUES: frozenset[Any] = frozenset(float(2**bits - 1) for bits in (7, 8, 15, 16, 31, 32, 63, 64))
