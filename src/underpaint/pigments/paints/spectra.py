"""Summation of the spectra of each paint."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.data.paint_areas import PaintArea
from underpaint.errors import ScanError
from underpaint.runtime.progress import Progress, no_progress


def with_summed_spectra(
    scan: Scan, paint_map: NDArray[np.uint8], areas: Sequence[PaintArea], progress: Progress | None = None
) -> tuple[PaintArea, ...]:
    """Return the paints with their summed spectra, which have Poisson noise.

    Parameters
    ----------
    scan : Scan
        Scan, which is read once, block by block.
    paint_map : (n_row, n_column) array
        Number of the paint of each pixel.
    areas : sequence of PaintArea
    progress : callable, optional
        Called with the task, the number of completed pixels and the total number.

    Raises
    ------
    ScanError
        The scan and the map have different shapes.
    """
    if scan.shape[:2] != paint_map.shape:
        raise ScanError(
            f"Cannot sum the spectra of the paints: the scan has {scan.shape[0]} rows x {scan.shape[1]} columns, the "
            f"map of paints {paint_map.shape[0]} x {paint_map.shape[1]}. Give the scan from which the results were "
            "computed."
        )
    labels = paint_map if scan.present is None else np.where(scan.present, paint_map, 0)
    report_progress, n_done = progress or no_progress, 0
    summed_spectra = np.zeros((1 + max((area.number for area in areas), default=0), scan.shape[2]))
    for rows, columns in scan.blocks():
        block_labels = labels[rows, columns].ravel()
        counts = np.asarray(scan.present_counts()[rows, columns]).reshape(block_labels.size, -1)
        for paint_number in np.unique(block_labels[(block_labels > 0) & (block_labels < len(summed_spectra))]):
            summed_spectra[paint_number] += counts[block_labels == paint_number].sum(axis=0, dtype=np.float64)
        n_done += block_labels.size
        report_progress("Summing the spectra of the paints", n_done, scan.n_pixel)
    return tuple(replace(area, spectrum=summed_spectra[area.number]) for area in areas)
