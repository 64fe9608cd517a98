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
    """Return the paints with the sums of their spectra; sums of counts, so their noise is Poisson's.

    Parameters
    ----------
    scan : Scan
        Read once, block by block.
    paint : (n_row, n_column) array
        Number of the paint of each pixel.
    areas : sequence of PaintArea
    progress : callable, optional
        Called with (what is being done, done, in all).

    Raises
    ------
    ScanError
        The scan has other pixels than the map.
    """
    if scan.shape[:2] != paint.shape:
        raise ScanError(
            f"Cannot sum the spectra of the paints: the scan has {scan.shape[0]} rows x {scan.shape[1]} columns, the "
            f"map of paints {paint.shape[0]} x {paint.shape[1]}. Give the scan that the results are of."
        )
    label = paint if scan.present is None else np.where(scan.present, paint, 0)
    step, done = progress or no_progress, 0
    totals = np.zeros((1 + max((area.number for area in areas), default=0), scan.shape[2]))
    for rows, columns in scan.blocks():
        number = label[rows, columns].ravel()
        counts = np.asarray(scan.present_counts()[rows, columns]).reshape(number.size, -1)
        for each in np.unique(number[(number > 0) & (number < len(totals))]):
            totals[each] += counts[number == each].sum(axis=0, dtype=np.float64)
        done += number.size
        step("Summing the spectra of the paints", done, scan.n_pixel)
    return tuple(replace(area, spectrum=totals[area.number]) for area in areas)
