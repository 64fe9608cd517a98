"""Areas of line families by a linear fit with constant shapes, as an input of a network."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from underpaint.data.peaks import resolution_fwhm_kev
from underpaint.physics.atomic import family_lines
from underpaint.units import FWHM_PER_SIGMA

_NOISE_FWHM_KEV, _FANO = 0.09, 0.114
_HIGHEST_KEV = 40.0
_N_KNOT = 40
_RIDGE, _RIDGE_OF_SHIFTS = 1e-6, 1e-2
_SHIFT_KEV = 0.03
"""Shift of a peak, by the gain or another shape, that the ridge does not penalise."""
_MODEL_ERROR = 0.02
_MIN_VARIANCE = 0.25
_AREA_SCALE = 0.2


class Evidence(nn.Module):
    """Result of a linear fit for each family: its area over its standard deviation, and its area.

    The deviation includes the counts' noise and 2 % of the counts added to or subtracted from the area, the error of
    shapes.

    Parameters
    ----------
    families : sequence of str
        Line families (``Fe_K``).
    n_bin : int
        Bins of the fixed axis.
    start_kev, bin_kev : float
        Lower border of the first bin and width of the bins, keV.
    """

    fit: Tensor

    def __init__(self, families: Sequence[str], n_bin: int, start_kev: float, bin_kev: float) -> None:
        super().__init__()
        matrix = fit_matrix(families, n_bin, start_kev, bin_kev)
        self.register_buffer("fit", torch.from_numpy(matrix.astype(np.float32)), persistent=False)

    @property
    def n_feature(self) -> int:
        """Number of features of a spectrum."""
        return 2 * len(self.fit)

    def forward(self, counts: Tensor) -> Tensor:
        """Return (n, n_feature) features of (n, n_bin) counts, of order one."""
        area = counts @ self.fit.T
        wrong = _MODEL_ERROR * (counts @ torch.abs(self.fit.T))
        sigma = torch.sqrt(counts @ (self.fit.T**2) + wrong**2 + _MIN_VARIANCE)
        over = area / sigma
        significance = torch.sign(over) * torch.log1p(torch.abs(over))
        return torch.cat((significance, _AREA_SCALE * torch.log1p(area.clamp_min(0.0))), dim=1)


def fit_matrix(families: Sequence[str], n_bin: int, start_kev: float, bin_kev: float) -> NDArray[np.float64]:
    """Return the (n_family, n_bin) matrix that takes counts to the families' areas.

    Notes
    -----
    Least squares of peaks, with line ratios of an infinitely thin sample and each free to shift a little, over a
    continuous background of straight pieces, weighted by the inverse of a usual spectrum's shape. Families without a
    line on the axis have areas of zero.
    """
    edges = start_kev + bin_kev * np.arange(n_bin + 1)
    centre = 0.5 * (edges[1:] + edges[:-1])
    peaks = np.stack([_peak(family, centre, bin_kev) for family in families])
    knots = np.geomspace(edges[0], edges[-1], _N_KNOT)
    smooth = np.stack([np.interp(centre, knots, row) for row in np.eye(_N_KNOT)])
    usual = np.exp(-(((centre - 8.0) / 9.0) ** 2)) + 0.03
    shifted = _SHIFT_KEV * np.gradient(peaks, bin_kev, axis=1)
    shapes = np.concatenate((peaks, smooth, shifted))
    ridge = np.repeat((_RIDGE, _RIDGE_OF_SHIFTS), (len(peaks) + _N_KNOT, len(peaks)))
    weighted = shapes / usual
    normal = weighted @ shapes.T
    scale = np.sqrt(np.maximum(np.diag(normal), 1e-12))
    scaled = normal / scale[:, None] / scale + np.diag(ridge)
    return np.asarray((np.linalg.solve(scaled, weighted / scale[:, None]) / scale[:, None])[: len(families)])


def _peak(family: str, centre: NDArray[np.float64], bin_kev: float) -> NDArray[np.float64]:
    """Return (n_bin,) a family's peaks on an axis; one count in all."""
    element, _, shell = family.partition("_")
    energy, ratio = family_lines(element, shell, _HIGHEST_KEV)
    sigma = resolution_fwhm_kev(energy, _NOISE_FWHM_KEV, _FANO) / FWHM_PER_SIGMA
    offset = (centre[:, None] - energy) / sigma
    return np.asarray((np.exp(-0.5 * offset**2) / (sigma * np.sqrt(2 * np.pi))) @ ratio * bin_kev / ratio.sum())
