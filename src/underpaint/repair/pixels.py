"""Repairs of pixels: replacement of dead and short pixels by the mean of valid neighbouring pixels.

The module also crops, masks and bins scans, normalises them to equal live time, and corrects pile-up.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve, generic_filter
from scipy.special import lambertw

from underpaint.data import EnergyAxis, Scan, survey
from underpaint.errors import ScanError
from underpaint.repair.record import Step

Array = NDArray[np.float64]

MAX_SHORT_COUNT_RATIO = 0.5
"""Maximum ratio of the counts of a short pixel to the counts of each neighbour."""
_MIN_SHORT_SIGMAS = 8.0
_MAX_FAULTY_SHARE = 0.05
_NEIGHBOUR_FOOTPRINT = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]])


@dataclass(frozen=True)
class FaultyPixels:
    """Pixels without counts, and pixels with far fewer counts than all their neighbours.

    Parameters
    ----------
    is_dead : (n_row, n_column) bool array
        True for pixels without counts, and for missing pixels.
    is_short : (n_row, n_column) bool array
        True for pixels with far fewer counts than all their neighbours.
    """

    is_dead: NDArray[np.bool_]
    is_short: NDArray[np.bool_]

    @property
    def is_faulty(self) -> NDArray[np.bool_]:
        """(n_row, n_column) boolean array, true for dead and for short pixels."""
        return np.asarray(self.is_dead | self.is_short)


def find_faulty_pixels(scan: Scan) -> FaultyPixels:
    """Return dead pixels, and short pixels that have significantly fewer than half the counts of each neighbour.

    A difference of eight standard deviations shows that the read-out lost part of the dwell time. Pixels with a short
    recorded live time are not included, since :func:`with_equal_live_time` corrects them.

    Parameters
    ----------
    scan : Scan
        Scan, which is read once.
    """
    pixel_counts = survey(scan).pixel_counts  # 0 for missing pixels
    is_dead = pixel_counts <= 0
    count_rate = (
        pixel_counts
        if scan.live_time_s is None
        else pixel_counts / np.where(scan.live_time_s > 0, scan.live_time_s, np.nan)
    )
    count_rate = np.where(is_dead | ~np.isfinite(count_rate), np.inf, count_rate)
    lowest_neighbour_rate = generic_filter(
        count_rate, np.min, footprint=_NEIGHBOUR_FOOTPRINT, mode="constant", cval=np.inf
    )
    max_short_rate = np.where(np.isfinite(lowest_neighbour_rate), MAX_SHORT_COUNT_RATIO * lowest_neighbour_rate, 0.0)
    live_time_s = 1.0 if scan.live_time_s is None else np.nan_to_num(scan.live_time_s)
    missing_counts = (max_short_rate - np.where(np.isfinite(count_rate), count_rate, 0.0)) * live_time_s
    is_short = (
        ~is_dead
        & np.isfinite(count_rate)
        & (missing_counts > _MIN_SHORT_SIGMAS * np.sqrt(np.maximum(max_short_rate * live_time_s, 1.0)))
    )
    return FaultyPixels(np.asarray(is_dead), np.asarray(is_short))


def with_pixels_repaired(scan: Scan, faulty_pixels: FaultyPixels) -> tuple[Scan, Step]:
    """Return the scan with faulty pixels replaced by the mean of valid neighbours, and a record of the repair.

    Up to eight neighbours are averaged. Live and real times are also replaced by the mean of the neighbouring pixels.
    Pixels without a valid neighbour are not changed. The replaced counts are not integers and have less noise than
    measured counts.

    Raises
    ------
    ScanError
        More than a twentieth of the pixels are faulty.
    """
    is_faulty = faulty_pixels.is_faulty
    if is_faulty.sum() > _MAX_FAULTY_SHARE * is_faulty.size:
        raise ScanError(
            f"Cannot repair pixels: {is_faulty.sum()} of {is_faulty.size} are dead or short; up to "
            f"{_MAX_FAULTY_SHARE:.0%} can be repaired. Mask these pixels, or crop the scan."
        )
    n_valid_neighbours = convolve((~is_faulty).astype(np.int64), _NEIGHBOUR_FOOTPRINT, mode="constant")
    is_replaced = is_faulty & (n_valid_neighbours > 0)
    counts = scan.counts.astype(np.float32) if is_replaced.any() else scan.counts
    counts = counts.rechunk({1: -1, 2: -1})
    if is_replaced.any():
        counts = counts.map_overlap(
            _repaired_block, depth={0: 1, 1: 0, 2: 0}, boundary="none", trim=False, is_replaced=is_replaced,
            is_faulty=is_faulty, chunks=counts.chunks, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32),
            first_rows=_first_rows(counts),
        )  # fmt: skip
    repaired_times: dict[str, Any] = {
        name: _repaired_times(getattr(scan, name), is_replaced, ~is_faulty) for name in ("live_time_s", "real_time_s")
    }
    present = None if scan.present is None else scan.present | is_replaced
    masks_by_kind = (
        ("dead", faulty_pixels.is_dead & is_replaced),
        ("short", faulty_pixels.is_short & is_replaced),
        ("left", is_faulty & ~is_replaced),
    )
    pixels_by_kind = {name: np.argwhere(mask).tolist() for name, mask in masks_by_kind}
    n_dead_pixels, n_short_pixels = len(pixels_by_kind["dead"]), len(pixels_by_kind["short"])
    note = f"{n_dead_pixels} dead and {n_short_pixels} short pixels replaced by the mean of their neighbours"
    if pixels_by_kind["left"]:
        note += f"; {len(pixels_by_kind['left'])} have no valid neighbour and are unchanged"
    notes = (*scan.notes, note) if is_faulty.any() else scan.notes
    return scan.replace(counts=counts, present=present, notes=notes, **repaired_times), Step(
        "pixels", note, pixels_by_kind
    )


def _first_rows(counts: Any) -> tuple[int, ...]:
    return tuple(np.concatenate([[0], np.cumsum(counts.chunks[0])[:-1]]).tolist())


def _repaired_block(
    block: NDArray[Any], *, is_replaced: NDArray[np.bool_], is_faulty: NDArray[np.bool_], first_rows: tuple[int, ...],
    block_info: Any = None,
) -> NDArray[np.float32]:  # fmt: skip
    """Return the repaired rows of a block, which is given with its neighbouring rows."""
    index = block_info[0]["chunk-location"][0] if block_info else 0
    first_row = first_rows[index]
    n_rows_above = 1 if index > 0 else 0
    n_rows_below = 1 if index < len(first_rows) - 1 else 0
    repaired_block = block[n_rows_above : len(block) - n_rows_below].copy()
    for row, column in np.argwhere(is_replaced[first_row : first_row + len(repaired_block)]):
        rows = slice(max(row + n_rows_above - 1, 0), row + n_rows_above + 2)
        columns = slice(max(column - 1, 0), column + 2)
        is_valid = ~is_faulty[first_row - n_rows_above :][rows, columns]
        repaired_block[row, column] = block[rows, columns][is_valid].mean(axis=0)
    return repaired_block


def _repaired_times(time_s: Array | None, is_replaced: NDArray[np.bool_], is_valid: NDArray[np.bool_]) -> Array | None:
    if time_s is None:
        return None
    is_usable = is_valid & np.isfinite(time_s)
    summed_time_s = convolve(np.where(is_usable, time_s, 0.0), _NEIGHBOUR_FOOTPRINT, mode="constant")
    n_usable = convolve(is_usable.astype(np.int64), _NEIGHBOUR_FOOTPRINT, mode="constant")
    return np.where(is_replaced, np.where(n_usable > 0, summed_time_s / np.maximum(n_usable, 1), np.nan), time_s)


_MAX_LIVE_TIME_RATIO = 20.0


def with_equal_live_time(scan: Scan) -> tuple[Scan, Step]:
    """Return the scan with the counts of each pixel scaled to the median live time, and a record of the repair.

    Pixels whose live time is unknown or less than a twentieth of the median are marked as missing and not scaled.
    Scaled counts are not integers, but have the relative noise of the recorded counts.

    Raises
    ------
    ScanError
        The scan has no live times.
    """
    if scan.live_time_s is None or not (scan.live_time_s > 0).any():
        raise ScanError(
            f"Cannot make the live times of scan {scan.name!r} equal: its file has none. Omit --live-time, or "
            "convert the scan from the original files of the instrument, which contain them."
        )
    live_time_s = scan.live_time_s
    median_s = float(np.median(live_time_s[live_time_s > 0]))
    is_usable = np.isfinite(live_time_s) & (live_time_s > median_s / _MAX_LIVE_TIME_RATIO)
    time_factors = np.where(is_usable, median_s / np.where(is_usable, live_time_s, 1.0), 1.0).astype(np.float32)
    counts = scan.counts.astype(np.float32) * time_factors[:, :, None]
    present = is_usable if scan.present is None else is_usable & scan.present
    used_factors = time_factors[is_usable]
    note = (
        f"counts scaled by {used_factors.min():.3f} to {used_factors.max():.3f}, to {median_s:.4g} s of live time in "
        "every pixel"
    )
    if not is_usable.all():
        n_unusable = int((~is_usable).sum())
        note += (
            f"; {n_unusable} of {is_usable.size} pixels of unknown or very short live time are now marked as missing"
        )
    step = Step("live_time", note, {"live_time_s": median_s, "unknown": np.argwhere(~is_usable).tolist()})
    return (
        scan.replace(
            counts=counts,
            live_time_s=np.where(is_usable, median_s, live_time_s),
            real_time_s=None if scan.real_time_s is None else scan.real_time_s * time_factors,
            present=None if present.all() else present,
            notes=(*scan.notes, note),
        ),
        step,
    )


_MAX_PHOTONS_IN_WINDOW = 0.3
_SECONDS_PER_US = 1e-6


def without_sum_peaks(scan: Scan, pulse_pair_us: float) -> tuple[Scan, Step]:
    """Return the scan corrected for pile-up, and a record of the repair.

    Parameters
    ----------
    scan : Scan
        Scan with energy axis and live times.
    pulse_pair_us : float
        Pulse-pair resolution in us, from the manual of the electronics.

    Raises
    ------
    ScanError
        The pulse-pair resolution is not positive, or live times are missing. The rate times the resolution exceeds 0.3,
        the limit of the model.
    CalibrationError
        The scan has no energy axis.

    Notes
    -----
    A pulse contains one photon and a Poisson-distributed number of photons within the pulse-pair resolution after it.
    Let x be the rate of photons times the resolution. Let p and q be the Fourier transforms of the spectra of single
    photons and of pulses. The transforms are related by ``q = p exp(x (p - 1))`` and ``p = W(x q exp(x)) / x``, with
    Lambert's W function. The number of photons is ``1 + x`` times the number of pulses. Hence x follows from the rate
    of pulses. Pulses beyond the last channel were not recorded and cannot be recovered.
    """
    axis = scan.require_axis()
    if not (np.isfinite(pulse_pair_us) and pulse_pair_us > 0):
        raise ScanError(
            f"Cannot remove sum peaks: the pulse-pair resolution is {pulse_pair_us:g} µs; it must be positive."
        )
    if scan.live_time_s is None or not np.all((scan.live_time_s > 0)[... if scan.present is None else scan.present]):
        raise ScanError(
            f"Cannot remove sum peaks of scan {scan.name!r}: they depend on the rate, and the file lacks the live "
            "time of some pixels. Convert the scan from the original files of the instrument, which contain them."
        )
    pulse_counts = survey(scan).pixel_counts
    pulses_in_window = (
        pulse_counts / np.where(scan.live_time_s > 0, scan.live_time_s, np.inf) * pulse_pair_us * _SECONDS_PER_US
    )
    photons_in_window = pulses_in_window / np.maximum(1.0 - pulses_in_window, 1e-9)
    if photons_in_window.max() > _MAX_PHOTONS_IN_WINDOW or pulses_in_window.max() >= 1.0:
        raise ScanError(
            f"Cannot remove sum peaks: {pulses_in_window.max():.2f} photons arrive in {pulse_pair_us:g} µs in "
            f"the pixel with the highest rate; up to {_MAX_PHOTONS_IN_WINDOW} are possible. "
            "Check the pulse-pair resolution."
        )
    spectra = scan.counts.rechunk({1: -1, 2: -1})
    counts = spectra.map_blocks(
        _separate_photons, photons_in_window, axis, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)
    )
    note = (
        f"sum peaks removed for {pulse_pair_us:g} µs: "
        f"at most {photons_in_window.max():.2%} of the pulses had two photons"
    )
    step = Step("sum_peaks", note, {"pulse_pair_us": pulse_pair_us, "most_chance": float(photons_in_window.max())})
    return scan.replace(counts=counts, notes=(*scan.notes, note)), step


def _separate_photons(
    block: NDArray[Any], photons_in_window: NDArray[np.float64], axis: EnergyAxis, block_info: Any = None
) -> NDArray[np.float32]:
    first_row = block_info[0]["array-location"][0][0] if block_info else 0
    row_photons_in_window = photons_in_window[first_row : first_row + len(block)][:, :, None]
    n_pulses = block.sum(axis=2, keepdims=True, dtype=np.float64)
    fft_length = 1 << int(np.ceil(np.log2(3 * axis.n_channel)))
    frequencies = np.arange(fft_length // 2 + 1) / fft_length
    # energies of coincident photons add up, but channel numbers do not, since channel 0 is not at 0 keV
    phase_factors = np.exp(-2j * np.pi * frequencies * axis.zero_kev / axis.gain_kev)
    pulse_transform = np.fft.rfft(block / np.maximum(n_pulses, 1.0), n=fft_length, axis=2) * phase_factors
    positive_photons_in_window = np.maximum(row_photons_in_window, 1e-12)
    photon_transform = (
        lambertw(positive_photons_in_window * pulse_transform * np.exp(positive_photons_in_window))
        / positive_photons_in_window
    )
    photon_spectra = np.fft.irfft(photon_transform / phase_factors, n=fft_length, axis=2)[:, :, : axis.n_channel]
    return np.asarray(np.maximum(photon_spectra, 0.0) * n_pulses * (1.0 + row_photons_in_window), dtype=np.float32)


def cropped(scan: Scan, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[Scan, Step]:
    """Return the scan cropped to a rectangle of pixels, and a record of the repair.

    Parameters
    ----------
    scan : Scan
    rows, columns : (int, int)
        First index, and last index plus 1, counted from 0.

    Raises
    ------
    ScanError
        The rectangle is empty or exceeds the scan.
    """
    for axis_name, (start, stop), axis_length in zip(("rows", "columns"), (rows, columns), scan.shape[:2], strict=True):
        if not 0 <= start < stop <= axis_length:
            raise ScanError(
                f"Cannot crop to {axis_name} {start}:{stop}: the scan has {axis_name} 0 to {axis_length - 1}. "
                f"Give START:STOP with START below STOP, and STOP at most {axis_length}."
            )
    pixel_slices = slice(*rows), slice(*columns)
    note = f"cropped to rows {rows[0]} to {rows[1] - 1} and columns {columns[0]} to {columns[1] - 1}"
    cropped_scan = scan.replace(
        counts=scan.counts[pixel_slices],
        notes=(*scan.notes, note),
        **_changed_images(scan, lambda image: image[pixel_slices]),
    )
    return cropped_scan, Step("crop", note, {"rows": list(rows), "columns": list(columns), "shape": list(scan.shape)})


def masked(scan: Scan, mask: NDArray[np.bool_]) -> tuple[Scan, Step]:
    """Return the scan with pixels outside a mask marked as missing, and a record of the repair.

    Raises
    ------
    ScanError
        The mask is empty, or its size is not that of the scan.
    """
    if mask.shape != scan.shape[:2] or not mask.any():
        raise ScanError(
            f"Cannot mask a scan of {scan.shape[0]} x {scan.shape[1]} pixels with a mask of "
            f"{' x '.join(map(str, mask.shape))} pixels, {int(mask.sum())} of them true. Give a mask of the size of "
            "the scan with at least one true pixel."
        )
    present = mask if scan.present is None else mask & scan.present
    note = f"masked: {int(mask.sum())} of {mask.size} pixels kept"
    return scan.replace(present=present, notes=(*scan.notes, note)), Step("mask", note, {"kept": int(mask.sum())})


def binned(scan: Scan, rows: int, columns: int) -> tuple[Scan, Step]:
    """Return the scan with counts and times summed over blocks of pixels, and a record of the repair.

    A pixel of the result is missing if any pixel of its block is missing. Rows and columns of incomplete blocks are
    omitted.

    Parameters
    ----------
    scan : Scan
    rows, columns : int
        Size of the blocks, in pixels.

    Raises
    ------
    ScanError
        A block has no pixels, or is larger than the scan.
    """
    n_row, n_column, n_channel = scan.shape
    if not (1 <= rows <= n_row and 1 <= columns <= n_column):
        raise ScanError(
            f"Cannot bin {rows} x {columns} pixels: the scan has {n_row} x {n_column}. "
            f"Give two integers, rows from 1 to {n_row} and columns from 1 to {n_column}."
        )
    used_shape = n_row // rows * rows, n_column // columns * columns

    def block_sums(image: Array) -> Array:
        blocks = image[: used_shape[0], : used_shape[1]].reshape(
            used_shape[0] // rows, rows, used_shape[1] // columns, columns
        )
        return np.asarray(blocks.sum(axis=(1, 3)))

    rows_per_chunk = np.add.reduceat(
        np.ones(used_shape[0], int), np.arange(0, used_shape[0], max(rows * (16 // rows or 1), 1))
    )
    counts = scan.counts[: used_shape[0], : used_shape[1]].rechunk(
        {0: tuple(rows_per_chunk.tolist()), 1: -1, 2: n_channel}
    )
    from underpaint.data.dask_array import da

    summed_counts = da.coarsen(np.sum, counts, {0: rows, 1: columns}, dtype=_sum_dtype(scan.counts.dtype))
    present = None if scan.present is None else block_sums((~scan.present).astype(np.float64)) == 0
    binned_times: dict[str, Any] = {
        field_name: None if getattr(scan, field_name) is None else block_sums(getattr(scan, field_name))
        for field_name in _TIME_FIELDS
    }
    step_mm = None if scan.step_mm is None else (scan.step_mm[0] * rows, scan.step_mm[1] * columns)
    note = f"{rows} x {columns} pixels summed to one"
    if used_shape != (n_row, n_column):
        note += f"; {n_row - used_shape[0]} rows and {n_column - used_shape[1]} columns omitted"
    binned_scan = scan.replace(
        counts=summed_counts, present=present, step_mm=step_mm, notes=(*scan.notes, note), **binned_times
    )
    return binned_scan, Step("bin", note, {"rows": rows, "columns": columns, "shape": list(scan.shape)})


_TIME_FIELDS = ("live_time_s", "real_time_s")


def _changed_images(scan: Scan, change_image: Any) -> dict[str, Any]:
    field_names = (*_TIME_FIELDS, "present")
    return {
        field_name: None if getattr(scan, field_name) is None else change_image(getattr(scan, field_name))
        for field_name in field_names
    }


def _sum_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a data type that is large enough for sums of counts."""
    return np.dtype(np.uint32) if dtype.kind == "u" and dtype.itemsize < 4 else dtype
