"""Images of a scan in a few energy bands, for the comparison of rows and tiles."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan, survey

N_BAND = 12
_TAPER_SHARE = 0.3


def band_images(scan: Scan, n_band: int = N_BAND) -> NDArray[np.float64]:
    """Return the (n_band, n_row, n_column) counts in bands that divide the total counts of the scan equally.

    Bands separate elements. A sum over all channels could hide the structure of a single element.

    Parameters
    ----------
    scan : Scan
        Scan, which is read twice.
    n_band : int
        Number of bands. The result has fewer bands if a single channel has more counts than a band.
    """
    return bands_between(scan, band_edges(survey(scan).total, n_band))


def band_edges(sum_spectrum: NDArray[np.float64], n_band: int = N_BAND) -> NDArray[np.intp]:
    """Return the channels that divide the counts of a sum spectrum equally into bands, including both ends."""
    inner_edges = np.searchsorted(
        np.cumsum(sum_spectrum), np.linspace(0.0, sum_spectrum.sum(), n_band + 1)[1:-1], side="left"
    )
    return np.unique(np.concatenate([[0], inner_edges, [sum_spectrum.size]]))


def bands_between(scan: Scan, edges: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return (n_edge - 1, n_row, n_column) counts in the bands between edge channels, 0 for missing pixels."""
    counts = scan.present_counts().rechunk({2: -1})
    chunks = (*counts.chunks[:2], (len(edges) - 1,))
    bands = counts.map_blocks(band_sums, edges, chunks=chunks, dtype=np.float64, meta=np.empty((0, 0, 0)))
    return np.moveaxis(np.asarray(bands.compute()), 2, 0)


def band_sums(block: NDArray[Any], edges: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return (n_row, n_column, n_edge - 1) counts in the bands between edge channels."""
    return np.stack([block[:, :, start:stop].sum(axis=2, dtype=np.float64) for start, stop in pairwise(edges)], axis=2)


def cosine_taper(n_column: int) -> NDArray[np.float64]:
    """Return a Tukey window that decreases to 0 over 15 % of the columns at each end."""
    column_indices = np.arange(n_column)
    edge_distance = np.minimum(column_indices, column_indices[::-1]) / (0.5 * _TAPER_SHARE * (n_column - 1))
    return np.asarray(np.sin(0.5 * np.pi * np.minimum(edge_distance, 1.0)) ** 2)
