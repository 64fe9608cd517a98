"""Dead and short pixels: detected by comparison with their neighbours, replaced by the mean of valid ones.

Also cropping, masking and binning of a scan, and normalisation of its counts to equal live time.
"""

from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve, generic_filter
from scipy.special import lambertw

from underpaint.data import EnergyAxis, Scan, survey
from underpaint.errors import ScanError
from underpaint.repair.record import Step

Array = NDArray[np.float64]

SHORT_SHARE = 0.5
"""A pixel with less than this share of every neighbour's counts was cut short."""
_SHORT_SIGMAS = 8.0
_MAX_SHARE = 0.05
_AROUND = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]])


@dataclass(frozen=True)
class FaultyPixels:
    """Pixels without counts, or with far fewer than all their neighbours.

    Parameters
    ----------
    dead, short : (n_row, n_column) bool arrays
        Without counts (or missing); with too few.
    """

    dead: NDArray[np.bool_]
    short: NDArray[np.bool_]

    @property
    def any(self) -> NDArray[np.bool_]:
        """(n_row, n_column) dead or short."""
        return np.asarray(self.dead | self.short)


def find_faulty_pixels(scan: Scan) -> FaultyPixels:
    """Find dead pixels, and short ones: under half of every neighbour's counts, by eight deviations.

    Paint does not make one pixel darker than all eight neighbours by so much, a read-out that lost part of its dwell
    time does. Pixels with a short recorded live time are not included: :func:`with_equal_live_time` corrects them from
    their own counts.

    Parameters
    ----------
    scan : Scan
        Read once.
    """
    total = survey(scan).pixel_counts  # 0 for missing pixels
    dead = total <= 0
    rate = total if scan.live_time_s is None else total / np.where(scan.live_time_s > 0, scan.live_time_s, np.nan)
    rate = np.where(dead | ~np.isfinite(rate), np.inf, rate)
    least = generic_filter(rate, np.min, footprint=_AROUND, mode="constant", cval=np.inf)
    expected = np.where(np.isfinite(least), SHORT_SHARE * least, 0.0)
    seconds = 1.0 if scan.live_time_s is None else np.nan_to_num(scan.live_time_s)
    missing_counts = (expected - np.where(np.isfinite(rate), rate, 0.0)) * seconds
    short = ~dead & np.isfinite(rate) & (missing_counts > _SHORT_SIGMAS * np.sqrt(np.maximum(expected * seconds, 1.0)))
    return FaultyPixels(np.asarray(dead), np.asarray(short))


def with_pixels_repaired(scan: Scan, faulty: FaultyPixels) -> tuple[Scan, Step]:
    """Return the scan with each faulty pixel replaced by the mean of its (up to eight) valid neighbours, and the step.

    Pixels without a valid neighbour are unchanged. Times are the neighbours' mean as well. The replaced counts are not
    integers and have less noise than measured ones.

    Raises
    ------
    ScanError
        More than a twentieth of the pixels is faulty, too many to interpolate.
    """
    wrong = faulty.any
    if wrong.sum() > _MAX_SHARE * wrong.size:
        raise ScanError(
            f"Cannot repair pixels: {wrong.sum()} of {wrong.size} are dead or short; up to {_MAX_SHARE:.0%} can be "
            "repaired. Mask them instead, or crop."
        )
    n_sound = convolve((~wrong).astype(np.int64), _AROUND, mode="constant")
    replaced = wrong & (n_sound > 0)
    counts = scan.counts.astype(np.float32) if replaced.any() else scan.counts
    counts = counts.rechunk({1: -1, 2: -1})
    if replaced.any():
        counts = counts.map_overlap(
            _repaired_block, depth={0: 1, 1: 0, 2: 0}, boundary="none", trim=False, replaced=replaced, wrong=wrong,
            chunks=counts.chunks, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32), starts=_starts(counts),
        )  # fmt: skip
    times: dict[str, Any] = {
        name: _repaired_times(getattr(scan, name), replaced, ~wrong) for name in ("live_time_s", "real_time_s")
    }
    present = None if scan.present is None else scan.present | replaced
    kinds = (("dead", faulty.dead & replaced), ("short", faulty.short & replaced), ("left", wrong & ~replaced))
    facts = {name: np.argwhere(mask_of_kind).tolist() for name, mask_of_kind in kinds}
    note = f"{len(facts['dead'])} dead and {len(facts['short'])} short pixels replaced by the mean of their neighbours"
    if facts["left"]:
        note += f"; {len(facts['left'])} have no valid neighbour and are unchanged"
    notes = (*scan.notes, note) if wrong.any() else scan.notes
    return replace(scan, counts=counts, present=present, notes=notes, **times), Step("pixels", note, facts)


def _starts(counts: Any) -> tuple[int, ...]:
    return tuple(np.concatenate([[0], np.cumsum(counts.chunks[0])[:-1]]).tolist())


def _repaired_block(
    block: NDArray[Any], *, replaced: NDArray[np.bool_], wrong: NDArray[np.bool_], starts: tuple[int, ...],
    block_info: Any = None,
) -> NDArray[np.float32]:  # fmt: skip
    """Repair a block of complete rows, given with one more row on either side where there is one."""
    index = block_info[0]["chunk-location"][0] if block_info else 0
    first = starts[index]
    above = 1 if index > 0 else 0
    below = 1 if index < len(starts) - 1 else 0
    part = block[above : len(block) - below].copy()
    for row, column in np.argwhere(replaced[first : first + len(part)]):
        rows = slice(max(row + above - 1, 0), row + above + 2)
        columns = slice(max(column - 1, 0), column + 2)
        valid = ~wrong[first - above :][rows, columns]
        part[row, column] = block[rows, columns][valid].mean(axis=0)
    return part


def _repaired_times(time_s: Array | None, replaced: NDArray[np.bool_], valid: NDArray[np.bool_]) -> Array | None:
    if time_s is None:
        return None
    usable = valid & np.isfinite(time_s)
    total = convolve(np.where(usable, time_s, 0.0), _AROUND, mode="constant")
    number = convolve(usable.astype(np.int64), _AROUND, mode="constant")
    return np.where(replaced, np.where(number > 0, total / np.maximum(number, 1), np.nan), time_s)


_MAX_FACTOR = 20.0


def with_equal_live_time(scan: Scan) -> tuple[Scan, Step]:
    """Return the scan with each pixel's counts scaled to the median live time, and the step.

    Pixels of unknown live time, and those measured for less than a twentieth of the median, are unchanged and marked as
    missing. Counts are no longer integers; their noise is that of the recorded counts.

    Raises
    ------
    ScanError
        The scan has no live times.
    """
    if scan.live_time_s is None or not (scan.live_time_s > 0).any():
        raise ScanError(
            f"Cannot make the live times of scan {scan.name!r} equal: its file has none. Leave out --live-time, or "
            "convert the scan from the instrument's original files, which contain them."
        )
    live = scan.live_time_s
    median = float(np.median(live[live > 0]))
    usable = np.isfinite(live) & (live > median / _MAX_FACTOR)
    factor = np.where(usable, median / np.where(usable, live, 1.0), 1.0).astype(np.float32)
    counts = scan.counts.astype(np.float32) * factor[:, :, None]
    present = usable if scan.present is None else usable & scan.present
    used = factor[usable]
    note = f"counts times {used.min():.3f} to {used.max():.3f}, as for {median:.4g} s of live time in every pixel"
    if not usable.all():
        note += f"; {int((~usable).sum())} of {usable.size} pixels of unknown or very short live time are now missing"
    step = Step("live_time", note, {"live_time_s": median, "unknown": np.argwhere(~usable).tolist()})
    return (
        replace(
            scan,
            counts=counts,
            live_time_s=np.where(usable, median, live),
            real_time_s=None if scan.real_time_s is None else scan.real_time_s * factor,
            present=None if present.all() else present,
            notes=(*scan.notes, note),
        ),
        step,
    )


_MAX_CHANCE = 0.3
_SECONDS_PER_US = 1e-6


def without_sum_peaks(scan: Scan, pulse_pair_us: float) -> tuple[Scan, Step]:
    """Return the scan corrected for pile-up, and the step.

    Parameters
    ----------
    scan : Scan
        With energy axis and live times.
    pulse_pair_us : float
        Pulse-pair resolution, microseconds, from the manual of the electronics.

    Raises
    ------
    ScanError
        The resolving time is not positive; live times are missing; a pixel's rate times the resolving time is over 0.3,
        where the model is not valid.
    CalibrationError
        The scan has no energy axis.

    Notes
    -----
    A pulse contains one photon and those that follow within the resolving time, Poisson distributed in number; with x
    the rate times that time and q, p the spectra of a pulse and of a photon as Fourier transforms, ``q = p exp(x (p -
    1))``, so ``p = W(x q exp(x)) / x`` with Lambert's W; n pulses are ``n (1 + x)`` photons, so sums are counted as
    separate photons. Sums beyond the last channel were not recorded and cannot be recovered. The rate of photons is ``n
    (1 + x)`` over the live time, which gives x from the pulses.
    """
    axis = scan.require_axis()
    if not (np.isfinite(pulse_pair_us) and pulse_pair_us > 0):
        raise ScanError(f"Cannot remove sum peaks: a resolving time of {pulse_pair_us:g} µs; it must be positive.")
    if scan.live_time_s is None or not np.all((scan.live_time_s > 0)[... if scan.present is None else scan.present]):
        raise ScanError(
            f"Cannot remove sum peaks of scan {scan.name!r}: they depend on the rate, and its file lacks the live "
            "time of some pixels. Convert the scan from the instrument's original files, which contain them."
        )
    pulses = survey(scan).pixel_counts
    pulses_per_window = (
        pulses / np.where(scan.live_time_s > 0, scan.live_time_s, np.inf) * pulse_pair_us * _SECONDS_PER_US
    )
    chance = pulses_per_window / np.maximum(1.0 - pulses_per_window, 1e-9)
    if chance.max() > _MAX_CHANCE or pulses_per_window.max() >= 1.0:
        raise ScanError(
            f"Cannot remove sum peaks: {pulses_per_window.max():.2f} photons arrive in {pulse_pair_us:g} µs in the "
            f"fastest pixel; up to {_MAX_CHANCE} can be resolved. Check the resolving time."
        )
    spectra = scan.counts.rechunk({1: -1, 2: -1})
    counts = spectra.map_blocks(_parted, chance, axis, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    note = f"sum peaks removed for {pulse_pair_us:g} µs: {chance.max():.2%} of the pulses at most contained two photons"
    step = Step("sum_peaks", note, {"pulse_pair_us": pulse_pair_us, "most_chance": float(chance.max())})
    return replace(scan, counts=counts, notes=(*scan.notes, note)), step


def _parted(
    block: NDArray[Any], chance: NDArray[np.float64], axis: EnergyAxis, block_info: Any = None
) -> NDArray[np.float32]:
    first = block_info[0]["array-location"][0][0] if block_info else 0
    x = chance[first : first + len(block)][:, :, None]
    pulses = block.sum(axis=2, keepdims=True, dtype=np.float64)
    length = 1 << int(np.ceil(np.log2(3 * axis.n_channel)))
    frequency = np.arange(length // 2 + 1) / length
    # energies add up, channel numbers do not: the axis' zero shifts a sum
    phase = np.exp(-2j * np.pi * frequency * axis.zero_kev / axis.gain_kev)
    pulse = np.fft.rfft(block / np.maximum(pulses, 1.0), n=length, axis=2) * phase
    small = np.maximum(x, 1e-12)
    single = lambertw(small * pulse * np.exp(small)) / small
    photons = np.fft.irfft(single / phase, n=length, axis=2)[:, :, : axis.n_channel]
    return np.asarray(np.maximum(photons, 0.0) * pulses * (1.0 + x), dtype=np.float32)


def cropped(scan: Scan, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[Scan, Step]:
    """Return some rows and columns of a scan, and the step.

    Parameters
    ----------
    scan : Scan
        The scan.
    rows, columns : (int, int)
        First, and the one after the last; counted from 0.

    Raises
    ------
    ScanError
        They are empty or outside the scan.
    """
    for name, (first, stop), size in zip(("rows", "columns"), (rows, columns), scan.shape[:2], strict=True):
        if not 0 <= first < stop <= size:
            raise ScanError(
                f"Cannot crop to {name} {first}:{stop}: the scan has {name} 0 to {size - 1}. "
                f"Give a first and, above it, a last plus one of at most {size}."
            )
    part = slice(*rows), slice(*columns)
    note = f"cropped to rows {rows[0]} to {rows[1] - 1} and columns {columns[0]} to {columns[1] - 1}"
    repaired = replace(
        scan, counts=scan.counts[part], notes=(*scan.notes, note), **_each_image(scan, lambda image: image[part])
    )
    return repaired, Step("crop", note, {"rows": list(rows), "columns": list(columns), "shape": list(scan.shape)})


def masked(scan: Scan, mask: NDArray[np.bool_]) -> tuple[Scan, Step]:
    """Return the scan with the pixels outside a mask marked as missing, and the step; counts are unchanged.

    Raises
    ------
    ScanError
        The mask has another size or is empty.
    """
    if mask.shape != scan.shape[:2] or not mask.any():
        raise ScanError(
            f"Cannot mask a scan of {scan.shape[0]} x {scan.shape[1]} pixels by {int(mask.sum())} pixels of "
            f"{' x '.join(map(str, mask.shape))}. Give a mask of the scan's size with at least one pixel."
        )
    present = mask if scan.present is None else mask & scan.present
    note = f"masked: {int(mask.sum())} of {mask.size} pixels kept"
    return replace(scan, present=present, notes=(*scan.notes, note)), Step("mask", note, {"kept": int(mask.sum())})


def binned(scan: Scan, rows: int, columns: int) -> tuple[Scan, Step]:
    """Return the scan with the counts and times of blocks of pixels added up, and the step.

    A pixel of the result is missing if one of its block is; rows and columns of incomplete blocks are omitted.

    Raises
    ------
    ScanError
        A block has no pixel, or more than the scan.
    """
    n_row, n_column, n_channel = scan.shape
    if not (1 <= rows <= n_row and 1 <= columns <= n_column):
        raise ScanError(
            f"Cannot bin {rows} x {columns} pixels: the scan has {n_row} x {n_column}. "
            "Give two whole numbers from 1 to these."
        )
    n_used = n_row // rows * rows, n_column // columns * columns

    def added(image: Array) -> Array:
        blocks = image[: n_used[0], : n_used[1]].reshape(n_used[0] // rows, rows, n_used[1] // columns, columns)
        return np.asarray(blocks.sum(axis=(1, 3)))

    n_block = np.add.reduceat(np.ones(n_used[0], int), np.arange(0, n_used[0], max(rows * (16 // rows or 1), 1)))
    counts = scan.counts[: n_used[0], : n_used[1]].rechunk({0: tuple(n_block.tolist()), 1: -1, 2: n_channel})
    total = da.coarsen(np.sum, counts, {0: rows, 1: columns}, dtype=_wide(scan.counts.dtype))
    present = None if scan.present is None else added((~scan.present).astype(np.float64)) == 0
    times: dict[str, Any] = {
        name: None if getattr(scan, name) is None else added(getattr(scan, name)) for name in _TIMES
    }
    step = None if scan.step_mm is None else (scan.step_mm[0] * rows, scan.step_mm[1] * columns)
    note = f"{rows} x {columns} pixels added to one"
    if n_used != (n_row, n_column):
        note += f"; {n_row - n_used[0]} rows and {n_column - n_used[1]} columns left over"
    repaired = replace(scan, counts=total, present=present, step_mm=step, notes=(*scan.notes, note), **times)
    return repaired, Step("bin", note, {"rows": rows, "columns": columns, "shape": list(scan.shape)})


_TIMES = ("live_time_s", "real_time_s")


def _each_image(scan: Scan, change: Any) -> dict[str, Any]:
    names = (*_TIMES, "present")
    return {name: None if getattr(scan, name) is None else change(getattr(scan, name)) for name in names}


def _wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a data type for sums of such counts."""
    return np.dtype(np.uint32) if dtype.kind == "u" and dtype.itemsize < 4 else dtype
