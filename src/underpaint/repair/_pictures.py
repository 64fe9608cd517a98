"""Images of a scan in a few bands of energy, by which its pixels and tiles are compared."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan, survey

N_BAND = 12
_TAPERED_SHARE = 0.3


def band_images(scan: Scan, n_band: int = N_BAND) -> NDArray[np.float64]:
    """Return (n_band, n_row, n_column) counts in bands of channels with equal total counts.

    Bands separate elements, whose edges could vanish in a sum over all channels.

    Parameters
    ----------
    scan : Scan
        Read twice: for the borders of the bands, and for the images.
    n_band : int
        Number of bands; fewer if single channels exceed a band's share.
    """
    return bands_between(scan, band_edges(survey(scan).total, n_band))


def band_edges(total: NDArray[np.float64], n_band: int = N_BAND) -> NDArray[np.intp]:
    """Return the channels that divide a sum spectrum into equal counts, and both ends."""
    borders = np.searchsorted(np.cumsum(total), np.linspace(0.0, total.sum(), n_band + 1)[1:-1], side="left")
    return np.unique(np.concatenate([[0], borders, [total.size]]))


def bands_between(scan: Scan, edges: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return (n_edge - 1, n_row, n_column) counts between channels, and 0 where a pixel is missing."""
    counts = scan.present_counts().rechunk({2: -1})
    chunks = (*counts.chunks[:2], (len(edges) - 1,))
    bands = counts.map_blocks(band_sums, edges, chunks=chunks, dtype=np.float64, meta=np.empty((0, 0, 0)))
    return np.moveaxis(np.asarray(bands.compute()), 2, 0)


def band_sums(block: NDArray[Any], edges: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return (n_row, n_column, n_edge - 1) sums of counts between channels."""
    return np.stack([block[:, :, low:high].sum(axis=2, dtype=np.float64) for low, high in pairwise(edges)], axis=2)


def cosine_taper(n_column: int) -> NDArray[np.float64]:
    """Return a Tukey window that falls to 0 over 15 % of the columns at each end."""
    column = np.arange(n_column)
    from_the_end = np.minimum(column, column[::-1]) / (0.5 * _TAPERED_SHARE * (n_column - 1))
    return np.asarray(np.sin(0.5 * np.pi * np.minimum(from_the_end, 1.0)) ** 2)
