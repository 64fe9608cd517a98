"""Counts moved from one energy axis to another; no count is made or lost inside the target's range."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from underpaint.data.axis import EnergyAxis
from underpaint.data.scan import Scan, name_of_sum
from underpaint.errors import CalibrationError, ScanError

_AT_ONCE = 128
"""Spectra rebinned at once: they are transposed, which is fast if they fit the cache."""


def rebin_matrix(axis_from: EnergyAxis, edges_kev_to: NDArray[np.float64]) -> sparse.csr_array:
    """Share of each old channel that falls into each new bin.

    Counts are distributed uniformly over the width of their channel.

    Parameters
    ----------
    axis_from : EnergyAxis
        Axis of the recorded channels.
    edges_kev_to : (n_bin + 1,) array
        Rising borders of the new bins, keV.

    Returns
    -------
    (n_channel, n_bin) sparse array
        ``counts @ matrix`` are the new counts; each row sums to the share of the channel
        inside the new range.

    Raises
    ------
    CalibrationError
        The borders do not rise.
    """
    edges = np.asarray(edges_kev_to, dtype=np.float64)
    if edges.ndim != 1 or edges.size < 2 or not np.all(np.diff(edges) > 0):
        raise CalibrationError(
            f"Cannot rebin: the new borders (shape {edges.shape}) must be at least two rising energies in keV."
        )
    old = axis_from.edges_kev
    knots = np.union1d(old, edges)
    middle, width = 0.5 * (knots[1:] + knots[:-1]), np.diff(knots)
    channel = np.searchsorted(old, middle, side="right") - 1
    bin_to = np.searchsorted(edges, middle, side="right") - 1
    inside = (channel >= 0) & (channel < axis_from.n_channel) & (bin_to >= 0) & (bin_to < edges.size - 1)
    share = width[inside] / axis_from.gain_kev
    shape = (axis_from.n_channel, edges.size - 1)
    return sparse.csr_array(sparse.coo_array((share, (channel[inside], bin_to[inside])), shape=shape))


def rebin(counts: NDArray[Any], axis: EnergyAxis, edges_kev: NDArray[np.float64]) -> NDArray[np.float32]:
    """Move counts to new bins, conserving their number inside the new range.

    Parameters
    ----------
    counts : (..., n_channel) array
        Counts per channel of ``axis``.
    axis : EnergyAxis
        Axis of ``counts``.
    edges_kev : (n_bin + 1,) array
        Rising borders of the new bins, keV. Bins outside the recorded range get zero.

    Returns
    -------
    (..., n_bin) float32 array
        Counts per new bin (not integers).

    Raises
    ------
    CalibrationError
        ``counts`` and ``axis`` differ in length, or the borders do not rise.
    """
    values = np.asarray(counts)
    if values.shape[-1] != axis.n_channel:
        raise CalibrationError(
            f"Cannot rebin: the counts have {values.shape[-1]} channels, their energy axis {axis.n_channel}."
        )
    return apply_rebin(values, rebin_matrix(axis, edges_kev))


def apply_rebin(counts: NDArray[Any], matrix: sparse.csr_array) -> NDArray[np.float32]:
    """Multiply (..., n_channel) counts by a matrix of :func:`rebin_matrix`."""
    flat = counts.reshape(-1, counts.shape[-1])
    moved = np.empty((len(flat), matrix.shape[1]), np.float32)
    single = matrix.astype(np.float32)
    for first in range(0, len(flat), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        moved[part] = flat[part].astype(np.float32, copy=False) @ single
    return moved.reshape(*counts.shape[:-1], matrix.shape[1])


def rebin_scan(scan: Scan, axis: EnergyAxis) -> Scan:
    """Move a scan's counts to another energy axis, block by block when computed.

    Raises
    ------
    CalibrationError
        The scan has no energy axis.
    """
    source_axis = scan.require_axis()
    if source_axis == axis:
        return scan
    matrix = rebin_matrix(source_axis, axis.edges_kev)
    chunks = (*scan.counts.chunks[:2], (axis.n_channel,))
    counts = scan.counts.map_blocks(
        apply_rebin, matrix, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0, 0), "f4")
    )
    return replace(scan, counts=counts, axis=axis)


def sum_scans(scans: Sequence[Scan]) -> Scan:
    """Add the detectors of one scan after rebinning each to the first one's energy axis.

    Parameters
    ----------
    scans : sequence of Scan
        Of equal rows and columns, each with an energy axis.

    Returns
    -------
    Scan
        Named after the first; its live time is the sum if all are known. A pixel is present if it is in all.

    Raises
    ------
    CalibrationError
        A scan has no energy axis.
    ScanError
        None is given, or rows and columns differ.
    """
    if not scans:
        raise ScanError("Cannot add scans: none was given.")
    first = scans[0]
    if any(scan.shape[:2] != first.shape[:2] for scan in scans):
        sizes = ", ".join(f"{scan.name}: {scan.shape[0]} x {scan.shape[1]}" for scan in scans)
        raise ScanError(f"Cannot add scans of different size ({sizes}). The detectors of one scan see the same pixels.")
    if len(scans) == 1:
        return first
    moved = [rebin_scan(scan, first.require_axis()) for scan in scans]
    names = [scan.detector or scan.name for scan in scans]
    moved = [replace(scan, counts=scan.counts.rechunk(first.counts.chunks)) for scan in moved]
    total = da.map_blocks(_total, *(scan.counts for scan in moved), dtype=np.float32, name=name_of_sum(moved))
    return replace(
        first,
        counts=total,
        source=" + ".join(scan.source for scan in scans),
        detector=" + ".join(names),
        live_time_s=_sum_times([scan.live_time_s for scan in scans]),
        present=_all_present([scan.present for scan in scans]),
        notes=(
            *dict.fromkeys(note for scan in scans for note in scan.notes),
            f"the counts of {len(scans)} detectors ({', '.join(names)}) are added on the energy axis of {names[0]}",
        ),
        detectors=tuple(moved),
    )


def _total(*counts: NDArray[Any]) -> NDArray[np.float32]:
    total = counts[0].astype(np.float32)
    for addend in counts[1:]:
        total += addend
    return total


def _sum_times(times: list[NDArray[np.float64] | None]) -> NDArray[np.float64] | None:
    times_used = [time for time in times if time is not None]
    return np.sum(times_used, axis=0) if len(times_used) == len(times) else None


def _all_present(masks: list[NDArray[np.bool_] | None]) -> NDArray[np.bool_] | None:
    masks_used = [mask for mask in masks if mask is not None]
    return np.logical_and.reduce(masks_used) if masks_used else None
