"""Selection of the arrays of a file that are the detectors of one scan.

Files also contain sums of detectors; copies corrected for dead time, normalised, smoothed, shifted, fitted or without
background; other areas; and detectors that were off or faulty. Names differ between beamlines, so arrays are classified
by the values of some pixels: the noise of two detectors is independent, that of derived arrays is not.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Scan, rebin
from underpaint.data.poisson import AS_COUNTS, scatter
from underpaint.errors import ScanError
from underpaint.io._source import SAME_CHANNELS

PLACE = "place"
"""Temporary key in a scan's metadata: location of its array in the file."""
SEVERAL = re.compile(r"(.+ )?detector \d+")
"""Name of one of the detectors of an array."""
_DERIVED_NAME = re.compile(r"corr|dtc|norm|fit|process|result|background|residual|smooth|deconv|copy", re.IGNORECASE)
_SUM_NAME = re.compile(r"sum|total|_all\b|average|mean", re.IGNORECASE)
_N_BLOCKS, _BLOCK = 8, 8
_MIN_COUNTS = 200
_MAX_LEVELS = 1e6
_MIN_PEAKED = 64
_MIN_ALIGNED = 0.6
_MAX_RATIO = 100.0
_MIN_AGREEMENT = 0.4
_N_TAP = 13
_MAX_SHIFT = 128
_SEGMENT, _MIN_PER_WEIGHT = 64, 20
_MAX_LEFT = 0.6
_MIN_SHARED = 0.5


@dataclass(frozen=True)
class Place:
    """Location of an array in its file.

    Parameters
    ----------
    entry : str
        Path of its measurement in the file; "" if the file has no separate measurements.
    positions : tuple of (n,) arrays, or None
        Positions along rows and columns, if in the file.
    computed : bool
        Whether the file marks it as computed from other arrays.
    gathered : tuple of str
        Names of the arrays that it combines.
    """

    entry: str = ""
    positions: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    computed: bool = False
    gathered: tuple[str, ...] = ()


def detectors_of_one_scan(scans: Sequence[Scan], location: str | Path, *, faulty: bool = False) -> list[Scan]:
    """Exclude arrays that are not detectors, with notes.

    Parameters
    ----------
    scans : sequence of Scan
        Every array of a file or folder.
    location : str or Path
        The file, for messages.
    faulty : bool
        Whether faulty detectors are included.

    Returns
    -------
    list of Scan
        The detectors of one scan.

    Raises
    ------
    ScanError
        They are of several scans.
    """
    if len(scans) == 1:
        return [_bare(scans[0], ())]
    places: list[Place] = [scan.metadata.get(PLACE, Place()) for scan in scans]
    samples = [_sample(scan) for scan in scans]
    reasons: dict[int, str] = {}
    _leave_out_pieces(scans, places, reasons)
    for group in _group_by_shape(scans):
        _leave_out_computed(scans, places, samples, group, reasons)
    _leave_out_filtered(scans, places, samples, reasons)
    rest = [number for number in range(len(scans)) if number not in reasons]
    _refuse_several_scans(scans, places, samples, rest, location)
    if not faulty:
        _leave_out_faulty(samples, rest, reasons)
    selected = [scan for number, scan in enumerate(scans) if number not in reasons]
    if _share_channels(selected, [samples[number] for number in range(len(scans)) if number not in reasons]):
        note = "without energy calibration: added channel by channel, since the detectors' peaks lie in the same ones"
        selected = [
            replace(scan, metadata={**scan.metadata, SAME_CHANNELS: True}, notes=(*scan.notes, note))
            for scan in selected
        ]
    notes = tuple(f"left out: {name_of(scans[number])}, {reason}" for number, reason in sorted(reasons.items()))
    return [_bare(scan, notes) for scan in _with_names_apart(selected)]


def _with_names_apart(scans: list[Scan]) -> list[Scan]:
    """Distinguish detectors of the same name, such as a repeated serial number, by their path in the file."""
    names = [scan.detector for scan in scans]
    twice = [bool(name) and names.count(name) > 1 for name in names]
    note = "detectors of one name: if they are one that measured twice, read them one by one (--detector)"
    return [
        replace(scan, detector=f"{scan.detector} ({_last_part(scan)})", notes=(*scan.notes, note)) if is_twice else scan
        for scan, is_twice in zip(scans, twice, strict=True)
    ]


def _last_part(scan: Scan) -> str:
    """Return the folder or group of a detector's counts, or their name."""
    parts = [part for part in re.split(r"[/\\]", name_of(scan)) if part]
    return parts[-2] if len(parts) > 1 and "::" in scan.source else parts[-1]


def name_of(scan: Scan) -> str:
    """Return the name of an array in its file, with the detector if it has several; else its source."""
    name = scan.source.rpartition("::")[2] or scan.source
    return f"{name} {scan.detector}" if SEVERAL.fullmatch(scan.detector) else name


def _bare(scan: Scan, notes: tuple[str, ...]) -> Scan:
    if PLACE not in scan.metadata and not notes:
        return scan
    metadata = {key: value for key, value in scan.metadata.items() if key != PLACE}
    return replace(scan, metadata=metadata, notes=(*scan.notes, *notes))


def _group_by_shape(scans: Sequence[Scan]) -> list[list[int]]:
    """Numbers of the scans of each shape."""
    return [
        [number for number, scan in enumerate(scans) if scan.shape == shape]
        for shape in dict.fromkeys(scan.shape for scan in scans)
    ]


def _sample(scan: Scan) -> NDArray[np.float64] | str:
    """(n_pixel, n_channel) counts of pixels across the scan, the same ones for scans of one shape; else the reason."""
    n_row, n_column, n_channel = scan.shape
    width = min(n_column, _BLOCK)
    rows = np.unique(np.linspace(0, n_row - 1, _N_BLOCKS).round().astype(int))
    # Columns advance with rows, in steps of three, so that the pixels are not on the diagonal.
    starts = [round((3 * number % _N_BLOCKS) / (_N_BLOCKS - 1) * (n_column - width)) for number in range(len(rows))]
    try:
        parts = [
            np.asarray(scan.counts[int(row), start : start + width], dtype=np.float64).reshape(-1, n_channel)
            for row, start in zip(rows, starts, strict=True)
        ]
    except ScanError as error:
        return str(error)
    return np.nan_to_num(np.concatenate(parts))


def _as_counts(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each pixel's values as integer multiples of a unit; unchanged if they are not."""
    if _is_whole(values):
        common = int(np.gcd.reduce(values[values > 0].astype(np.int64), initial=0))
        return values / common if common > 1 else values
    steps = np.ones(len(values))
    for number, spectrum in enumerate(values):
        levels = np.unique(spectrum[spectrum > 0])
        if levels.size == 0:
            continue
        gaps = np.append(np.diff(levels), levels[0])
        steps[number] = gaps[gaps > 1e-3 * levels[0]].min()
        if levels[-1] > _MAX_LEVELS * steps[number]:
            return values
    counts = values / steps[:, None]
    return np.round(counts) if (np.abs(counts - np.round(counts)) <= 0.02).all() else values


# --- arrays derived from others -----------------------------------------------------------------------


def _leave_out_pieces(scans: Sequence[Scan], places: Sequence[Place], reasons: dict[int, str]) -> None:
    """Exclude arrays that are parts of another one."""
    for full_scan, place in zip(scans, places, strict=True):
        for number, scan in enumerate(scans):
            if scan is not full_scan and name_of(scan) in place.gathered:
                reasons[number] = f"a part of {name_of(full_scan)}"


def _leave_out_computed(
    scans: Sequence[Scan],
    places: Sequence[Place],
    samples: Sequence[NDArray[np.float64] | str],
    group: Sequence[int],
    reasons: dict[int, str],
) -> None:
    """Exclude copies, sums and corrected copies of other arrays of the same shape."""
    values: dict[int, NDArray[np.float64]] = {}
    readable = [number for number in group if not isinstance(samples[number], str)]
    for number in group:
        sample = samples[number]
        if number in reasons:
            continue
        if not isinstance(sample, str):
            values[number] = sample
        elif readable:
            reasons[number] = f"no counts: {sample}"
    # Raw counts come first, so that they are kept of two related arrays.
    order = sorted(values, key=lambda number: (places[number].computed, *_rawness(scans[number], values[number])))
    is_integer = {number: _is_whole(sample) for number, sample in values.items()}
    values = {number: _as_counts(sample) for number, sample in values.items()}
    selected: list[int] = []
    for number in order:
        twin = next((reference for reference in selected if _is_proportional(values[number], values[reference])), None)
        if twin is None:
            selected.append(number)
        else:
            reasons[number] = f"a copy of {name_of(scans[twin])}, or the same counts scaled"
    for number in sorted(selected, key=lambda each: -values[each].sum()):
        other_numbers = [
            reference
            for reference in selected
            if reference != number
            and reference not in reasons
            and is_integer[reference] >= is_integer[number]
            and _is_derived(scans[reference]) <= _is_derived(scans[number])
        ]
        parts = _parts_of_sum(values[number], [values[reference] for reference in other_numbers])
        if parts:
            names = ", ".join(name_of(scans[other_numbers[part]]) for part in parts)
            reasons[number] = f"the sum, or the average, of {names}"
            continue
        is_sum = places[number].computed or _SUM_NAME.search(name_of(scans[number])) is not None
        inside = [
            reference
            for reference in other_numbers
            if _contains(values[number], values[reference]) and (is_sum or _is_part(values[number], values[reference]))
        ]
        if sum(values[reference].sum() for reference in inside) > 0.75 * values[number].sum() and len(inside) > 1:
            reasons[number] = (
                f"the sum of {', '.join(name_of(scans[reference]) for reference in inside)}, by its name and size"
            )
            continue
        for reference in inside:
            reasons[reference] = (
                f"contained in the sum {name_of(scans[number])}, which has more detectors than the file"
            )
        if is_sum and not inside and len(other_numbers) > 1 and places[number].computed:
            reasons[number] = "the file marks it as computed from others"
    rest = [number for number in selected if number not in reasons]
    for position, number in enumerate(rest):
        raw = next(
            (each for each in rest[:position] if each not in reasons and _follows(values[number], values[each])), None
        )
        if raw is not None:
            reasons[number] = f"computed from {name_of(scans[raw])}: corrected, fitted or without background"


def _rawness(scan: Scan, values: NDArray[np.float64]) -> tuple[bool, bool, float]:
    """Sort key: integers first, then names of raw data, then fewer counts."""
    return not _is_whole(values), _is_derived(scan), float(values.sum())


def _is_derived(scan: Scan) -> bool:
    return _DERIVED_NAME.search(name_of(scan)) is not None


def _is_proportional(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    """Whether each pixel's spectrum is the other's but for a factor."""
    factor = np.divide(first.sum(axis=1), second.sum(axis=1), out=np.zeros(len(first)), where=second.sum(axis=1) > 0)
    if np.count_nonzero(second) < _MIN_COUNTS // 4 or not (factor > 0).any():
        return bool(second.any() and np.array_equal(first, second))
    return bool((np.abs(first - factor[:, None] * second) <= 1e-4 * first + 1e-6 * first.max()).all())


def _parts_of_sum(total: NDArray[np.float64], parts: Sequence[NDArray[np.float64]]) -> list[int]:
    """Return the parts that add up to the total with separate weights; empty if it is not a sum."""
    if len(parts) < 2 or total.sum() < _MIN_COUNTS:
        return []
    flat = np.stack([part.ravel() for part in parts], axis=1)
    weights = _weights(flat, total.ravel())
    used = [number for number, share in enumerate(weights * flat.sum(axis=0)) if share > 0.02 * total.sum()]
    if len(used) < 2:
        return []
    if _scatter(total.ravel(), flat, weights) < 0.1:
        return used
    if total.shape[1] < 16 * len(parts):
        return []
    # Corrections differ from pixel to pixel.
    row_weights = [_weights(np.stack([part[row] for part in parts], axis=1), total[row]) for row in range(len(total))]
    left = sum(
        _scatter(total[row], np.stack([part[row] for part in parts], axis=1), each) * total[row].sum()
        for row, each in enumerate(row_weights)
    )
    return used if left < 0.1 * total.sum() else []


def _weights(parts: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.optimize import nnls  # its import takes 0.1 s, and few files have several detectors

    # Through the normal equations: as few numbers as there are parts.
    square = parts.T @ parts
    scale = np.sqrt(np.diag(square))
    positive = scale > 0
    weights = np.zeros(parts.shape[1])
    if positive.any():
        near = square[np.ix_(positive, positive)] / np.outer(scale[positive], scale[positive]) + 1e-9 * np.eye(
            int(positive.sum())
        )
        root = np.linalg.cholesky(near)
        weights[positive] = (
            nnls(root.T, np.linalg.solve(root, parts.T[positive] @ total / scale[positive]))[0] / scale[positive]
        )
    return weights


def _scatter(total: NDArray[np.float64], parts: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Squared residual over the variance of independent counts."""
    left = total - parts @ weights
    expected = total.sum() + (parts @ weights**2).sum()
    return float((left**2).sum() / expected) if expected > 0 else 0.0


def _contains(total: NDArray[np.float64], part: NDArray[np.float64]) -> bool:
    return bool(np.count_nonzero(part) >= _MIN_COUNTS and (total >= part * (1 - 1e-6)).all())


def _follows(first: NDArray[np.float64], raw: NDArray[np.float64]) -> bool:
    """Whether an array was computed from raw counts: it scatters from channel to channel as they do, or not at all.

    The second difference of counts along the channels has a variance of six times the counts. The residual of that of
    the raw counts, after subtraction of a multiple of the other array's, has at least this variance for two detectors,
    almost none for a corrected copy or one without its smooth background, and exactly this one for a fit, which is free
    of noise. Corrections may differ from pixel to pixel.
    """
    n_enough = min(np.count_nonzero(first), np.count_nonzero(raw)) >= _MIN_COUNTS and raw.sum() >= 5 * _MIN_COUNTS
    if not _is_whole(raw) or not n_enough:
        return False
    factors = np.divide(raw.sum(axis=1), first.sum(axis=1), out=np.zeros(len(first)), where=first.sum(axis=1) > 0)
    rough_raw = np.diff(raw, 2, axis=1)
    if (rough_raw**2).sum() < 0.7 * 6 * raw.sum():
        return False  # smoothed: no raw counts
    for rough in (np.diff(first, 2, axis=1), np.diff(factors[:, None] * first, 2, axis=1)):
        best = float((rough * rough_raw).sum() / max((rough**2).sum(), 1e-30))
        if best > 0 and ((rough_raw - best * rough) ** 2).sum() < 0.3 * 6 * raw.sum():
            return True
    scale = raw.sum() / first.sum()
    if _is_whole(first) or not 0.5 < scale < 2.0:
        return False
    # The noise of a smoothed detector appears when channels are added up.
    rest = [np.diff(_merged(raw - scale * first, size), 2, axis=1) for size in (1, 4, 8)]
    return all((each**2).sum() < 1.25 * 6 * raw.sum() for each in rest)


def _merged(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    n_used = values.shape[1] // size * size
    return np.asarray(values[:, :n_used].reshape(len(values), -1, size).sum(axis=2))


def _leave_out_filtered(
    scans: Sequence[Scan],
    places: Sequence[Place],
    samples: Sequence[NDArray[np.float64] | str],
    reasons: dict[int, str],
) -> None:
    """Exclude copies that were smoothed, shifted or rebinned."""
    values = {
        number: _as_counts(sample)
        for number, sample in enumerate(samples)
        if number not in reasons and not isinstance(sample, str) and sample.sum() >= 5 * _MIN_COUNTS
    }
    values = {number: sample[:: 1 + len(values) // 8] for number, sample in values.items()}
    order = sorted(values, key=lambda number: (places[number].computed, *_rawness(scans[number], values[number])))
    for position, first in enumerate(order):
        for second in order[:position]:
            of_one_array = scans[first].source == scans[second].source
            if scans[first].shape[:2] != scans[second].shape[:2] or of_one_array or {first, second} & set(reasons):
                continue
            for copy, raw in ((first, second), (second, first)):
                grids = _on_channels(scans[raw], scans[copy], values[raw])
                if any(_is_filtered(values[copy], counts, _noise(values[raw])) for counts in grids):
                    reasons[copy] = (
                        f"computed from {name_of(scans[raw])}: smoothed, moved or put on other channels, since it "
                        "has the same noise"
                    )
                    break


def _on_channels(scan: Scan, target: Scan, counts: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Counts of a scan on the channels of another one: as they are, by the files' axes, or stretched."""
    n_channel, n_target = counts.shape[1], target.shape[2]
    grids = [counts] if n_channel == n_target else []
    if scan.axis is not None and target.axis is not None and scan.axis != target.axis:
        grids.append(rebin(counts, scan.axis, target.axis.edges_kev).astype(np.float64))
    if n_channel != n_target:
        edges = np.linspace(-0.5, n_channel - 0.5, n_target + 1)
        grids.append(rebin(counts, EnergyAxis(1.0, 0.0, n_channel), edges).astype(np.float64))
    return grids


def _noise(values: NDArray[np.float64]) -> float:
    """Variance over mean of counts; limited to 1, since lines bias the estimate for non-integers."""
    scale = scatter(values)
    return 1.0 if scale is None else min(1.0, scale.value)


def _is_filtered(copy: NDArray[np.float64], raw: NDArray[np.float64], noise: float) -> bool:
    """Whether each channel is a weighted sum of the other array's channels nearby, but for much less than noise.

    For any weights, also varying along the spectrum, the residual of two detectors has at least the variance that the
    weights propagate from the noise of one of them.
    """
    length = max(_SEGMENT, _MIN_PER_WEIGHT * 2 * _N_TAP // len(copy))
    reach = min(_MAX_SHIFT, copy.shape[1] // 4) + _N_TAP // 2
    padded = np.pad(raw, ((0, 0), (reach, reach)))
    starts = np.arange(0, max(copy.shape[1] - length, 0) + 1, length)
    starts = starts[np.argsort([-copy[:, start : start + length].sum() for start in starts], kind="stable")]
    shares: list[float] = []
    for start in starts:
        part = copy[:, start : start + length]
        if np.count_nonzero(part) < _MIN_PER_WEIGHT * _N_TAP or (len(shares) > 1 and min(shares) > _MAX_LEFT):
            break
        near = padded[:, start : start + part.shape[1] + 2 * reach]
        windows = np.lib.stride_tricks.sliding_window_view(near, part.shape[1], axis=1)
        shares.append(min(_left(part, windows[:, each : each + _N_TAP], noise) for each in _shifts(part, windows)))
    return bool(shares) and float(np.median(shares)) <= _MAX_LEFT


def _shifts(part: NDArray[np.float64], windows: NDArray[np.float64]) -> set[int]:
    """Return the starts of the windows that fit a part best, by its noise, and the unshifted ones."""
    middle, reach = windows.shape[1] // 2, _N_TAP // 2
    rough = np.diff(windows, 2, axis=2)
    size = np.sqrt(np.einsum("plc,plc->l", rough, rough))
    likeness = np.einsum("pc,plc->l", np.diff(part, 2, axis=1), rough) / np.maximum(size, 1e-30)
    best = int(np.argmax(likeness[reach : likeness.size - reach]))
    return {best, middle - reach}


def _left(part: NDArray[np.float64], windows: NDArray[np.float64], noise: float) -> float:
    """Squared residual of a part after subtraction of the windows' weighted sum, over the propagated variance."""
    terms = np.moveaxis(windows, 1, 2).reshape(-1, _N_TAP)
    along = np.tile(np.linspace(-1, 1, part.shape[1]), len(part))[:, None]
    weights = np.linalg.lstsq(np.hstack([terms, along * terms]), part.ravel(), rcond=1e-9)[0]
    local = weights[:_N_TAP] + along * weights[_N_TAP:]
    left = float(((part.ravel() - (local * terms).sum(axis=1)) ** 2).sum())
    return left / max(noise * float((local**2 * terms).sum()), 1e-30)


def _is_part(total: NDArray[np.float64], part: NDArray[np.float64]) -> bool:
    """Whether an array is a part of a larger one, which is no corrected copy of it, by their noise."""
    scales = [scatter(values) for values in (total, part)]
    if any(scale is None or not AS_COUNTS[0] <= scale.value <= AS_COUNTS[1] for scale in scales):
        return False
    return _shared_noise(total, part) > _MIN_SHARED and not _follows(total, part)


def _shared_noise(total: NDArray[np.float64], part: NDArray[np.float64]) -> float:
    """Return how much of the noise of an array is in a larger one: 0 of two detectors, 1 of a detector in a sum.

    The variance of a difference, in which the spectra cancel, is the sum of both if they are independent. Median over
    parts of the spectrum.
    """
    if min(total.sum(), part.sum()) < 5 * _MIN_COUNTS:
        return 0.0
    noises = _noise(total), _noise(part)
    shares = []
    edges = np.searchsorted(np.cumsum(part.sum(axis=0)), np.linspace(0, part.sum(), 17)[1:-1])
    for first, second in zip(*(np.split(each, np.unique(edges), axis=1) for each in (total, part)), strict=True):
        if first.shape[1] < 8 or second.sum() <= 0:
            continue
        ratio = first.sum() / second.sum()
        shared = ratio * noises[1] * np.convolve(second.sum(axis=0), [1, 4, 1], "valid")
        expected = noises[0] * np.convolve(first.sum(axis=0), [1, 4, 1], "valid") + ratio * shared
        squares = (np.diff(first - ratio * second, 2, axis=1) ** 2).sum(axis=0)
        weights = 1 / np.maximum(expected, 1e-30)
        shares.append(float((weights * (expected - squares)).sum() / (2 * weights * shared).sum()))
    return float(np.median(shares)) if shares else 0.0


def _is_whole(values: NDArray[np.float64]) -> bool:
    return bool(np.array_equal(values, np.round(values)))


# --- several scans -----------------------------------------------------------------------------------


def _refuse_several_scans(
    scans: Sequence[Scan],
    places: Sequence[Place],
    samples: Sequence[NDArray[np.float64] | str],
    rest: Sequence[int],
    location: str | Path,
) -> None:
    groups: list[list[int]] = []
    explanation = ""
    for number in rest:
        for group in groups:
            reason = _difference(scans, places, samples, group[0], number)
            if not reason:
                group.append(number)
                break
            explanation = explanation or reason
        else:
            groups.append([number])
    if len(groups) < 2:
        return
    path = str(location).rpartition("::")[0] or str(location)
    named = [_named(path, scans, places, group) for group in groups]
    raise ScanError(
        f"Cannot read {location} as one scan: it contains {len(groups)} scans ({explanation}). Choose one of them: "
        f"{'; '.join(named)}."
    )


def _named(path: str, scans: Sequence[Scan], places: Sequence[Place], group: Sequence[int]) -> str:
    entry, shape = places[group[0]].entry, scans[group[0]].shape
    size = f"({shape[0]} x {shape[1]} pixels)"
    if entry and all(places[number].entry == entry for number in group):
        return f"{path}::{entry} {size}"
    return ", ".join(f"{scans[number].source} {size}" for number in group)


def _difference(
    scans: Sequence[Scan],
    places: Sequence[Place],
    samples: Sequence[NDArray[np.float64] | str],
    number_a: int,
    number_b: int,
) -> str:
    """Return why two arrays are not of one scan; "" where they can be."""
    first, second = places[number_a], places[number_b]
    if scans[number_a].shape[:2] != scans[number_b].shape[:2]:
        return "they differ in rows and columns"
    if first.entry != second.entry:
        return f"{first.entry} and {second.entry} are separate measurements"
    if first.positions is not None and second.positions is not None:
        for mine, its in zip(first.positions, second.positions, strict=True):
            step = np.abs(np.diff(mine)).max(initial=0.0)
            if mine.shape != its.shape or np.abs(mine - its).max(initial=0.0) > 0.5 * step:
                return "their positions differ"
    pair = samples[number_a], samples[number_b]
    if isinstance(pair[0], str) or isinstance(pair[1], str) or PLACE not in scans[number_a].metadata:
        return ""
    return (
        "they show different pictures" if _agreement(_as_counts(pair[0]), _as_counts(pair[1])) < _MIN_AGREEMENT else ""
    )


def _agreement(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Correlation of two arrays over pixels and energy bands; 1 if one has no structure above noise."""
    pictures = []
    for values in (first, second):
        bands = np.add.reduceat(values, np.arange(0, values.shape[1], max(values.shape[1] // 8, 1)), axis=1)
        mean = bands.mean(axis=0)
        bright = mean > 25
        deviation = (bands - mean)[:, bright] / np.sqrt(mean[bright])
        if len(values) < 16 or not bright.any() or (deviation**2).mean() < 10:
            return 1.0
        pictures.append(np.where(bright, (bands - mean) / np.sqrt(np.maximum(mean, 1e-9)), 0.0))
    if pictures[0].shape != pictures[1].shape:
        return 1.0
    product = (pictures[0] * pictures[1]).sum()
    return float(product / np.sqrt((pictures[0] ** 2).sum() * (pictures[1] ** 2).sum()))


def _share_channels(scans: Sequence[Scan], samples: Sequence[NDArray[np.float64] | str]) -> bool:
    """Whether detectors without energy axes have their peaks in the same channels, at either end of the spectrum."""
    if len(scans) < 2 or any(scan.axis is not None or scan.metadata.get(SAME_CHANNELS) for scan in scans):
        return False
    spectra = [sample.sum(axis=0) for sample in samples if not isinstance(sample, str)]
    if len(spectra) < len(scans) or len({each.size for each in spectra}) > 1 or spectra[0].size < _MIN_PEAKED:
        return False
    peaked = [np.diff(np.convolve(np.sqrt(each), np.full(5, 0.2), "valid")) for each in spectra]
    middle = int(np.searchsorted(np.cumsum(peaked[0] ** 2), 0.5 * (peaked[0] ** 2).sum()))
    return all(
        _is_aligned(peaked[0][part], each[part]) for each in peaked[1:] for part in (slice(middle), slice(middle, None))
    )


def _is_aligned(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    if first.size < 8 or scale == 0:
        return False
    shifts = range(-3, 4)
    agreement = [float((first * np.roll(second, shift)).sum()) / scale for shift in shifts]
    return agreement[3] > _MIN_ALIGNED and abs(shifts[int(np.argmax(agreement))]) <= 1


# --- detectors that do not work -----------------------------------------------------------------------


def _leave_out_faulty(
    samples: Sequence[NDArray[np.float64] | str], rest: Sequence[int], reasons: dict[int, str]
) -> None:
    """Exclude detectors without counts, faulty ones, and those whose rates differ from all others."""
    values = {number: sample for number in rest if not isinstance(sample := samples[number], str)}
    faults = {number: fault for number, sample in values.items() if (fault := _fault(sample))}
    working = [number for number in values if number not in faults]
    means = {number: float(values[number].sum(axis=1).mean()) for number in working}
    for number in working:
        other_means = [means[second] for second in working if second != number]
        if not other_means or (len(working) == 2 and means[number] >= other_means[0]):
            continue
        typical = float(np.median(other_means))
        if means[number] * _MAX_RATIO < typical and typical > _MIN_COUNTS:
            faults[number] = (
                f"{means[number]:.3g} counts a pixel where the others have {typical:.3g}: it was off or blocked"
            )
        elif means[number] > _MAX_RATIO * typical > 0:
            faults[number] = f"{means[number]:.3g} counts a pixel where the others have {typical:.3g}: it is saturated"
    brightest = max((sample.sum() for sample in values.values()), default=0.0)
    if len(faults) < len(rest) and brightest > _MIN_COUNTS // 4:
        reasons.update({number: f"a detector that does not work: {fault}" for number, fault in faults.items()})


def _fault(sample: NDArray[np.float64]) -> str:
    """Return why a detector is faulty; "" if it works."""
    if not sample.any():
        return "it has no counts"
    if (sample == sample.flat[0]).all():
        return f"the same number, {sample.flat[0]:g}, in all channels and pixels"
    filled = sample[:, sample.any(axis=0)]
    if len(sample) > 1 and filled.sum() > _MIN_COUNTS and (filled == filled[0]).all():
        return "the same spectrum in all pixels: it is stuck"
    top = sample.max()
    if top in _FULL and (sample == top).mean() > 0.01:
        return f"{(sample == top).mean():.0%} of its channels are at {top:g}, the most that can be stored"
    return ""


_FULL: frozenset[Any] = frozenset(float(2**bits - 1) for bits in (7, 8, 15, 16, 31, 32, 63, 64))
