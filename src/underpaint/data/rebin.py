"""Rebin counts to another energy axis. The total counts in the range of the new axis are conserved."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data.axis import EnergyAxis
from underpaint.data.scan import Scan, name_of_sum
from underpaint.errors import CalibrationError, ScanError

if TYPE_CHECKING:
    from scipy import sparse

_BATCH_SIZE = 128
"""Number of spectra per batch. A batch fits into the processor's cache."""


def rebin_matrix(axis_from: EnergyAxis, edges_kev_to: NDArray[np.float64]) -> "sparse.csr_array":
    """Return the fraction of each recorded channel that lies in each new bin.

    The counts of a channel are assumed to be distributed uniformly over its width.

    Parameters
    ----------
    axis_from : EnergyAxis
        Axis of the recorded channels.
    edges_kev_to : (n_bin + 1,) array
        Borders of the new bins, increasing, in keV.

    Returns
    -------
    (n_channel, n_bin) sparse array
        Matrix for which ``counts @ matrix`` are the rebinned counts. The sum of a row is the fraction of the channel
        within the new range.

    Raises
    ------
    CalibrationError
        The borders do not increase.
    """
    new_edges = np.asarray(edges_kev_to, dtype=np.float64)
    if new_edges.ndim != 1 or new_edges.size < 2 or not np.all(np.diff(new_edges) > 0):
        raise CalibrationError(
            f"Cannot rebin: the new borders (shape {new_edges.shape}) must be at least two increasing energies in keV."
        )
    old_edges = axis_from.edges_kev
    all_edges = np.union1d(old_edges, new_edges)
    interval_centres, interval_widths = 0.5 * (all_edges[1:] + all_edges[:-1]), np.diff(all_edges)
    channel_index = np.searchsorted(old_edges, interval_centres, side="right") - 1
    new_bin_index = np.searchsorted(new_edges, interval_centres, side="right") - 1
    is_inside = (
        (channel_index >= 0)
        & (channel_index < axis_from.n_channel)
        & (new_bin_index >= 0)
        & (new_bin_index < new_edges.size - 1)
    )
    channel_fraction = interval_widths[is_inside] / axis_from.gain_kev
    matrix_shape = (axis_from.n_channel, new_edges.size - 1)
    from scipy import sparse  # the import takes a fifth of a second, and loading a scan rarely needs it

    return sparse.csr_array(
        sparse.coo_array((channel_fraction, (channel_index[is_inside], new_bin_index[is_inside])), shape=matrix_shape)
    )


def rebin(counts: NDArray[Any], axis: EnergyAxis, edges_kev: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return counts in new bins. The total counts in the new range are conserved.

    Parameters
    ----------
    counts : (..., n_channel) array
        Counts per channel of ``axis``.
    axis : EnergyAxis
        Axis of ``counts``.
    edges_kev : (n_bin + 1,) array
        Borders of the new bins, increasing, in keV. Bins outside the recorded range have zero counts.

    Returns
    -------
    (..., n_bin) float32 array
        Counts per new bin, in general not integers.

    Raises
    ------
    CalibrationError
        ``counts`` and ``axis`` have different numbers of channels, or the borders do not increase.
    """
    spectra = np.asarray(counts)
    if spectra.shape[-1] != axis.n_channel:
        raise CalibrationError(
            f"Cannot rebin: the counts have {spectra.shape[-1]} channels, but their energy axis has {axis.n_channel}."
        )
    return apply_rebin(spectra, rebin_matrix(axis, edges_kev))


def apply_rebin(counts: NDArray[Any], matrix: "sparse.csr_array") -> NDArray[np.float32]:
    """Return counts, (..., n_channel), multiplied by a matrix from :func:`rebin_matrix`."""
    spectra = counts.reshape(-1, counts.shape[-1])
    rebinned_spectra = np.empty((len(spectra), matrix.shape[1]), np.float32)
    float32_matrix = matrix.astype(np.float32)
    for first_spectrum in range(0, len(spectra), _BATCH_SIZE):
        batch = slice(first_spectrum, first_spectrum + _BATCH_SIZE)
        rebinned_spectra[batch] = spectra[batch].astype(np.float32, copy=False) @ float32_matrix
    return rebinned_spectra.reshape(*counts.shape[:-1], matrix.shape[1])


def rebin_scan(scan: Scan, axis: EnergyAxis) -> Scan:
    """Return a scan whose counts are rebinned to another energy axis when they are read.

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
    return scan.replace(counts=counts, axis=axis)


def sum_scans(scans: Sequence[Scan]) -> Scan:
    """Return the sum of the detectors of a scan, on the energy axis of the first detector.

    Parameters
    ----------
    scans : sequence of Scan
        Detectors of one scan, each with an energy axis. All detectors must have the same numbers of rows and columns.

    Returns
    -------
    Scan
        Scan with the name of the first detector. The live time is the sum of the detectors' live times, if all are
        known. A pixel is missing if it is missing for any detector.

    Raises
    ------
    CalibrationError
        A scan has no energy axis.
    ScanError
        ``scans`` is empty, or the scans differ in their numbers of rows or columns.
    """
    if not scans:
        raise ScanError("Cannot add scans: the list is empty. Give at least one scan.")
    first_scan = scans[0]
    if any(scan.shape[:2] != first_scan.shape[:2] for scan in scans):
        scan_sizes = ", ".join(f"{scan.name}: {scan.shape[0]} x {scan.shape[1]}" for scan in scans)
        raise ScanError(f"Cannot add scans of different size ({scan_sizes}). Give the detectors of one scan.")
    if len(scans) == 1:
        return first_scan
    rebinned_scans = [rebin_scan(scan, first_scan.require_axis()) for scan in scans]
    detector_names = [scan.detector or scan.name for scan in scans]
    rebinned_scans = [scan.replace(counts=scan.counts.rechunk(first_scan.counts.chunks)) for scan in rebinned_scans]
    from underpaint.data.dask_array import da

    sum_counts = da.map_blocks(
        _summed_counts, *(scan.counts for scan in rebinned_scans), dtype=np.float32, name=name_of_sum(rebinned_scans)
    )
    return first_scan.replace(
        counts=sum_counts,
        source=" + ".join(scan.source for scan in scans),
        detector=" + ".join(detector_names),
        live_time_s=_sum_times([scan.live_time_s for scan in scans]),
        present=_common_mask([scan.present for scan in scans]),
        notes=(
            *dict.fromkeys(note for scan in scans for note in scan.notes),
            f"the counts of {len(scans)} detectors ({', '.join(detector_names)}) are added on the energy axis of "
            f"{detector_names[0]}",
        ),
        detectors=tuple(rebinned_scans),
    )


def _summed_counts(*counts: NDArray[Any]) -> NDArray[np.float32]:
    sum_counts = counts[0].astype(np.float32)
    for detector_counts in counts[1:]:
        sum_counts += detector_counts
    return sum_counts


def _sum_times(times: list[NDArray[np.float64] | None]) -> NDArray[np.float64] | None:
    known_times = [time for time in times if time is not None]
    return np.sum(known_times, axis=0) if len(known_times) == len(times) else None


def _common_mask(masks: list[NDArray[np.bool_] | None]) -> NDArray[np.bool_] | None:
    known_masks = [mask for mask in masks if mask is not None]
    return np.logical_and.reduce(known_masks) if known_masks else None
