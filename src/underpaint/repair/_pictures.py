"""Images of a scan in a few bands of energy, by which its pixels and tiles are compared."""

from itertools import pairwise

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan, survey

N_BAND = 12


def band_images(scan: Scan, n_band: int = N_BAND) -> NDArray[np.float64]:
    """Return (n_band, n_row, n_column) counts in bands of channels that hold equal counts each.

    Bands part elements, whose edges a sum over all channels may blur away.

    Parameters
    ----------
    scan : Scan
        Read twice: for the borders of the bands, and for the images.
    n_band : int
        Bands; fewer where single channels hold more than a band's share.
    """
    total = survey(scan).total
    borders = np.searchsorted(np.cumsum(total), np.linspace(0.0, total.sum(), n_band + 1)[1:-1], side="left")
    edges = np.unique(np.concatenate([[0], borders, [total.size]]))
    return bands_between(scan, edges)


def bands_between(scan: Scan, edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (n_edge - 1, n_row, n_column) counts between channels, and 0 where a pixel is missing."""
    counts = scan.present_counts()
    sums = [counts[:, :, low:high].sum(axis=2, dtype=np.float64) for low, high in pairwise(edges)]
    return np.asarray(da.stack(sums).compute())
