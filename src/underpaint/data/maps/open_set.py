"""What in a scan nothing explains: lines without a carrier, and spectra unlike all that the tool knows."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

UNLIKE_SIGMA = 5.0
LEAST_PIXELS, LEAST_SHARE = 3, 0.001


@dataclass(frozen=True)
class UnlikenessMap:
    """How far each spectrum is from all that the known elements can make.

    Parameters
    ----------
    score : (n_row, n_column) float32 array
        Standard deviations of the strongest peak that a fit of all known line families, scatter and a smooth
        background leaves over; NaN where there is no answer.
    energy_kev : (n_row, n_column) float32 array
        Where that peak lies, keV.
    settings : dict
        Known families, errors of the model, axis; JSON-serialisable.
    """

    score: NDArray[np.float32]
    energy_kev: NDArray[np.float32]
    step_mm: tuple[float, float] | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def flagged(self) -> NDArray[np.bool_]:
        """(n_row, n_column) True where the score exceeds ``UNLIKE_SIGMA``."""
        return np.asarray(self.score > UNLIKE_SIGMA)

    @property
    def is_remarkable(self) -> bool:
        """Whether more pixels are flagged than chance and single faults bring: three, and one in a thousand."""
        return int(self.flagged.sum()) >= LEAST_PIXELS and self.share >= LEAST_SHARE

    @property
    def share(self) -> float:
        """Share of the answered pixels that are flagged."""
        known = np.isfinite(self.score)
        return float(self.flagged[known].mean()) if known.any() else 0.0


@dataclass(frozen=True)
class UnexplainedLine:
    """A line family that is there where nothing that was found carries it.

    Parameters
    ----------
    family : str
        ``Ti_K``.
    n_pixel : int
        Pixels above five standard deviations where no pigment that was found there carries the element.
    share : float
        These pixels over all that have an answer.
    median_counts : float
        Median net counts of these pixels; of the whole scan where it stands out in the sum alone.
    sum_sigma : float
        Standard deviations of the sum over all pixels.
    carried : {"not found there", "not in the palette"}
        Whether the pigments that were asked for could carry it at all.
    carriers : tuple of str
        Labels of pigments that would: of the palette, or of the library where the palette has none.
    """

    family: str
    n_pixel: int
    share: float
    median_counts: float
    sum_sigma: float
    carried: Literal["not found there", "not in the palette"]
    carriers: tuple[str, ...] = ()


@dataclass(frozen=True)
class OpenSet:
    """What in a scan nothing explains.

    Parameters
    ----------
    lines : tuple of UnexplainedLine
        The most widespread first.
    ordinary : tuple of (str, str)
        Families that no pigment that was found carries, and their ordinary source: air, tube, ground, impurity.
    unlikeness : UnlikenessMap or None
        None: not asked for.
    """

    lines: tuple[UnexplainedLine, ...] = ()
    ordinary: tuple[tuple[str, str], ...] = ()
    unlikeness: UnlikenessMap | None = None
