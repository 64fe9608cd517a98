"""The summed spectrum of each paint."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.data.paint_areas import PaintArea
from underpaint.errors import ScanError
from underpaint.runtime.progress import Progress, no_progress


def summed(
    scan: Scan, paint: NDArray[np.uint8], areas: Sequence[PaintArea], progress: Progress | None = None
) -> tuple[PaintArea, ...]:
    """Return the paints with their summed spectra; sums of counts keep Poisson noise.

    Parameters
    ----------
    scan : Scan
        The scan, which is read once, block by block.
    paint : (n_row, n_column) array
        Number of the paint of each pixel.
    areas : sequence of PaintArea
    progress : callable, optional
        Called with (task, pixels done, number of pixels).

    Raises
    ------
    ScanError
        The scan has another shape than the map.
    """
    if scan.shape[:2] != paint.shape:
        raise ScanError(
            f"Cannot sum the spectra of the paints: the scan has {scan.shape[0]} rows x {scan.shape[1]} columns, the "
            f"map of paints {paint.shape[0]} x {paint.shape[1]}. Give the scan from which the results were computed."
        )
    label = paint if scan.present is None else np.where(scan.present, paint, 0)
    step, n_done = progress or no_progress, 0
    totals = np.zeros((1 + max((area.number for area in areas), default=0), scan.shape[2]))
    for rows, columns in scan.blocks():
        block_labels = label[rows, columns].ravel()
        counts = np.asarray(scan.present_counts()[rows, columns]).reshape(block_labels.size, -1)
        for number in np.unique(block_labels[(block_labels > 0) & (block_labels < len(totals))]):
            totals[number] += counts[block_labels == number].sum(axis=0, dtype=np.float64)
        n_done += block_labels.size
        step("Summing the spectra of the paints", n_done, scan.n_pixel)
    return tuple(replace(area, spectrum=totals[area.number]) for area in areas)
