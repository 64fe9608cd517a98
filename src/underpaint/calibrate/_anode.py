"""The tube's anode from the pair of peaks that the sample scatters back: Rayleigh and, below it, Compton."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from underpaint.calibrate._patterns import line_groups
from underpaint.calibrate._refine import Response
from underpaint.data.background import snip
from underpaint.data.peaks import peak_counts
from underpaint.physics.atomic import SHELLS, atomic_number, compton_energy, edge_energy
from underpaint.units import FWHM_PER_SIGMA

Array = NDArray[np.float64]

ANODES = ("Mo", "Rh", "Pd", "Ag")
"""Anodes whose scattered K lines do not overlap the lines of pigments; L lines of others (W, Au) and the K lines of Cr
and Cu do, with a Compton shift of about the width of a peak."""
SHARP = ("Sr_K", "Zr_K", "Mo_K", "Rh_K", "Pd_K", "Ag_K", "Cd_K", "Sn_K", "Sb_K")
"""Families with lines in the range, by fluorescence or Rayleigh scatter."""
_RANGE_KEV = (14.8, 27.5)
_MIN_CHANNELS = 40
_ANGLES_DEG = np.arange(75.0, 168.0, 3.0)
_OUTER_ANGLES_DEG = np.append(np.arange(60.0, 75.0, 3.0), np.arange(168.0, 176.0, 3.0))
"""Angles tried if the best of the usual ones is the first or the last."""
# Spread by the motion of the electrons of light elements, one standard deviation per keV.
_COMPTON_SIGMA_PER_KEV = 0.012
_BACKGROUND_FWHM = 6.0
_HUMPS_KEV = np.linspace(*_RANGE_KEV, 6)
_HUMP_SIGMA_KEV = 1.7
_MODEL_ERROR = 0.03
_MIN_SIGNIFICANCE = 6.0
_MIN_GAIN = 25.0
_MIN_ABOVE_EDGE = 0.05


@dataclass(frozen=True)
class Anode:
    """An anode and the angle through which its lines were scattered.

    Parameters
    ----------
    symbol : str
        Element symbol.
    scatter_angle_deg : float
        Angle between beam and detected photon, degree.
    significance : float
        The weaker of the Rayleigh and the Compton peak over its deviation.
    gain : float
        Decrease of chi squared by the Compton peaks, relative to sharp lines alone.
    rayleigh : float
        Rayleigh peak over its deviation.
    """

    symbol: str
    scatter_angle_deg: float
    significance: float
    gain: float
    rayleigh: float


def guess_anode(counts: Array, response: Response) -> Anode | None:
    """Return the anode whose scattered K lines fit best; None without a pair of Rayleigh and Compton peaks.

    The range of the scattered lines is fitted with sharp lines and background, then also with each anode's Compton
    lines at each scattering angle, since sharp lines alone could be fluorescence.

    Parameters
    ----------
    counts : (n_channel,) array
        Sum spectrum, counts.
    response : Response
        Its axis and resolution.
    """
    window = _window(counts, response)
    if window is None:
        return None
    plain = window.fit(window.columns)[1]
    excited = [symbol for symbol in ANODES if f"{symbol}_K" in window.names and _reaches(counts, response, symbol)]
    best = [_best_angle(window, symbol, plain) for symbol in excited]
    candidates = [
        anode for anode in best if anode.significance > _MIN_SIGNIFICANCE and anode.gain > _MIN_GAIN and _inside(anode)
    ]
    # Compton lines of two anodes may coincide, at two angles: the Rayleigh peak then distinguishes them.
    return max(candidates, key=lambda anode: min(anode.gain, anode.rayleigh**2), default=None)


def _inside(anode: Anode) -> bool:
    """Whether the best angle is none of the last: there, a hump of the continuum is fitted as a Compton peak."""
    return bool(_OUTER_ANGLES_DEG[0] < anode.scatter_angle_deg < _OUTER_ANGLES_DEG[-1])


def _reaches(counts: Array, response: Response, symbol: str) -> bool:
    """Whether the tube's continuum extends above the anode's K edge, as K lines require."""
    edge = edge_energy(atomic_number(symbol), SHELLS.index("K"))
    energy = response.axis(counts.size).energy_kev
    if energy[-1] < edge + 1.0:
        return True
    above = float(counts[(energy > edge + 0.3) & (energy < edge + 1.0)].mean())
    below = float(counts[(energy > edge - 0.4) & (energy < edge - 0.2)].mean())
    return above > _MIN_ABOVE_EDGE * below


def _best_angle(window: "_Window", symbol: str, plain: float) -> Anode:
    def best_of(angles: Array) -> Anode:
        return max((_at_angle(window, symbol, float(angle), plain) for angle in angles), key=lambda fit: fit.gain)

    best = best_of(_ANGLES_DEG)
    if best.scatter_angle_deg in (_ANGLES_DEG[0], _ANGLES_DEG[-1]):
        best = max(best, best_of(_OUTER_ANGLES_DEG), key=lambda fit: fit.gain)
    return best


@dataclass(frozen=True)
class _Window:
    """The part of a spectrum with scattered lines, weighted by the deviation of its channels.

    Parameters
    ----------
    used : (n_channel,) array of bool
        Channels of the window.
    deviation, target : (n_used,) arrays
        One standard deviation, counts, and the net counts over it.
    names : tuple of str
        Family of the strongest lines in a column; empty for other columns.
    columns : (n_used, n_column) array
        Sharp lines, and wide humps that correct the clipped background.
    """

    response: Response
    used: NDArray[np.bool_]
    deviation: Array
    target: Array
    names: tuple[str, ...] = ()
    columns: Array = field(default_factory=lambda: np.zeros((0, 0)))

    def peak(self, energy_kev: Array, share: Array, spread_kev: Array | float = 0.0) -> Array:
        """One count of a pattern."""
        width = np.hypot(self.response.fwhm_kev(energy_kev), FWHM_PER_SIGMA * spread_kev)
        counts = peak_counts(self.response.axis(self.used.size), energy_kev, share / share.sum(), width)
        return np.asarray(counts[self.used] / self.deviation)

    def fit(self, columns: Array) -> tuple[Array, float]:
        """Areas, counts, that fit best, and the squared misfit."""
        scale = np.maximum(np.sqrt((columns**2).sum(axis=0)), 1e-12)
        areas, misfit = nnls(columns / scale, self.target, maxiter=50 * scale.size)
        return areas / scale, float(misfit**2)


def _window(counts: Array, response: Response) -> _Window | None:
    axis = response.axis(counts.size)
    used = (axis.energy_kev > _RANGE_KEV[0]) & (axis.energy_kev < _RANGE_KEV[1])
    if used.sum() < _MIN_CHANNELS:
        return None
    energy = axis.energy_kev[used]
    background = snip(counts, response.fwhm_kev(axis.energy_kev) / axis.gain_kev, window_per_fwhm=_BACKGROUND_FWHM)
    deviation = np.sqrt(np.maximum(counts[used], 1.0) + (_MODEL_ERROR * counts[used]) ** 2)
    bare = _Window(response, used, deviation, (counts - background)[used] / deviation)
    groups = [group for family in SHARP for group in line_groups(family) if group.centre_kev < energy[-1]]
    peaks = [bare.peak(group.energy_kev, group.share) for group in groups]
    humps = [np.exp(-0.5 * ((energy - middle) / _HUMP_SIGMA_KEV) ** 2) / deviation for middle in _HUMPS_KEV]
    names = tuple(group.family if group.leading else "" for group in groups) + ("",) * len(humps)
    return replace(bare, names=names, columns=np.column_stack([*peaks, *humps]))


def _at_angle(window: _Window, symbol: str, angle_deg: float, plain: float) -> Anode:
    """Fit one anode's Compton lines along; ``plain`` is the squared misfit without them."""
    lines = line_groups(f"{symbol}_K")
    shifted = compton_energy(np.concatenate([group.energy_kev for group in lines]), angle_deg)
    share = np.concatenate([group.share for group in lines])
    compton = window.peak(shifted, share, _COMPTON_SIGMA_PER_KEV * shifted)
    areas, misfit = window.fit(np.column_stack([window.columns, compton]))
    index = window.names.index(f"{symbol}_K")
    rayleigh = float(areas[index] * np.linalg.norm(window.columns[:, index]))
    significance = min(rayleigh, float(areas[-1] * np.linalg.norm(compton)))
    return Anode(symbol, angle_deg, significance, plain - misfit, rayleigh)
