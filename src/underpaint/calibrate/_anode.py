"""Estimate of the tube's anode from its K lines, scattered by the sample as pairs of Rayleigh and Compton peaks."""

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
"""Anodes whose scattered K lines do not overlap lines of pigments. The K lines of Cr and Cu and the L lines of W and Au
overlap them, and their Compton shift is about the width of a peak."""
SHARP_LINE_FAMILIES = ("Sr_K", "Zr_K", "Mo_K", "Rh_K", "Pd_K", "Ag_K", "Cd_K", "Sn_K", "Sb_K")
"""Families with sharp lines in the fitted range, from fluorescence or Rayleigh scatter."""
_RANGE_KEV = (14.8, 27.5)
_MIN_CHANNELS = 40
_ANGLES_DEG = np.arange(75.0, 168.0, 3.0)
_OUTER_ANGLES_DEG = np.append(np.arange(60.0, 75.0, 3.0), np.arange(168.0, 176.0, 3.0))
"""Angles that are fitted in addition if the best of ``_ANGLES_DEG`` is the first or the last."""
_COMPTON_SIGMA_PER_KEV = 0.012
"""Standard deviation of the Compton peak from the motion of electrons in light elements, keV per keV."""
_BACKGROUND_FWHM = 6.0
_HUMP_CENTRES_KEV = np.linspace(*_RANGE_KEV, 6)
_HUMP_SIGMA_KEV = 1.7
_MODEL_ERROR = 0.03
_MIN_SIGNIFICANCE = 6.0
_MIN_CHI_SQUARED_DROP = 25.0
_MIN_RATIO_AT_EDGE = 0.05


@dataclass(frozen=True)
class Anode:
    """An anode and the angle through which its lines were scattered.

    Parameters
    ----------
    symbol : str
        Element symbol.
    scatter_angle_deg : float
        Angle between beam and detected photon, in degrees.
    significance : float
        Significance of the weaker of Rayleigh and Compton peak, in standard deviations.
    gain : float
        Decrease of chi squared by the Compton peaks, relative to a fit with sharp lines only.
    rayleigh : float
        Significance of the Rayleigh peak, in standard deviations.
    """

    symbol: str
    scatter_angle_deg: float
    significance: float
    gain: float
    rayleigh: float


def guess_anode(counts: Array, response: Response) -> Anode | None:
    """Return the anode whose scattered K lines fit best; None without a pair of Rayleigh and Compton peaks.

    The range of the scattered lines is fitted with sharp lines and background, then also with the Compton lines of each
    anode at each scattering angle. Sharp lines alone do not prove an anode, since they may be fluorescence.

    Parameters
    ----------
    counts : (n_channel,) array
        Sum spectrum in counts.
    response : Response
        Energy axis and resolution of the spectrum.

    Returns
    -------
    Anode or None
    """
    window = _scatter_window(counts, response)
    if window is None:
        return None
    misfit_without = window.fit(window.columns)[1]
    excited = [
        symbol for symbol in ANODES if f"{symbol}_K" in window.names and _excites_k_lines(counts, response, symbol)
    ]
    fits = [_best_angle(window, symbol, misfit_without) for symbol in excited]
    candidates = [
        anode
        for anode in fits
        if anode.significance > _MIN_SIGNIFICANCE and anode.gain > _MIN_CHI_SQUARED_DROP and _is_inner_angle(anode)
    ]
    # The Compton lines of two anodes may coincide at different angles; the Rayleigh peak then distinguishes them.
    return max(candidates, key=lambda anode: min(anode.gain, anode.rayleigh**2), default=None)


def _is_inner_angle(anode: Anode) -> bool:
    """Return whether the angle is not at a limit, where a hump of the continuum is fitted as a Compton peak."""
    return bool(_OUTER_ANGLES_DEG[0] < anode.scatter_angle_deg < _OUTER_ANGLES_DEG[-1])


def _excites_k_lines(counts: Array, response: Response, symbol: str) -> bool:
    """Return whether the tube's continuum extends above the anode's K edge, which K lines require."""
    edge_kev = edge_energy(atomic_number(symbol), SHELLS.index("K"))
    energy_kev = response.axis(counts.size).energy_kev
    if energy_kev[-1] < edge_kev + 1.0:
        return True
    counts_above = float(counts[(energy_kev > edge_kev + 0.3) & (energy_kev < edge_kev + 1.0)].mean())
    counts_below = float(counts[(energy_kev > edge_kev - 0.4) & (energy_kev < edge_kev - 0.2)].mean())
    return counts_above > _MIN_RATIO_AT_EDGE * counts_below


def _best_angle(window: "_Window", symbol: str, misfit_without: float) -> Anode:
    def best_of(angles: Array) -> Anode:
        return max(
            (_fit_at_angle(window, symbol, float(angle), misfit_without) for angle in angles), key=lambda fit: fit.gain
        )

    best_fit = best_of(_ANGLES_DEG)
    if best_fit.scatter_angle_deg in (_ANGLES_DEG[0], _ANGLES_DEG[-1]):
        best_fit = max(best_fit, best_of(_OUTER_ANGLES_DEG), key=lambda fit: fit.gain)
    return best_fit


@dataclass(frozen=True)
class _Window:
    """The range of a spectrum with scattered lines, and its components, divided by the deviation of the channels.

    Parameters
    ----------
    response : Response
        Energy axis and resolution.
    used : (n_channel,) array of bool
        Channels of the range.
    deviation : (n_used,) array
        Standard deviation of the counts.
    target : (n_used,) array
        Net counts divided by their deviation.
    names : tuple of str
        Family of each component that is a family's strongest line group; empty for other components.
    columns : (n_used, n_column) array
        Components: sharp lines, and wide humps that correct the background.
    """

    response: Response
    used: NDArray[np.bool_]
    deviation: Array
    target: Array
    names: tuple[str, ...] = ()
    columns: Array = field(default_factory=lambda: np.zeros((0, 0)))

    def peak(self, energy_kev: Array, share: Array, spread_kev: Array | float = 0.0) -> Array:
        """Return the component of lines with a total of one count."""
        fwhm_kev = np.hypot(self.response.fwhm_kev(energy_kev), FWHM_PER_SIGMA * spread_kev)
        counts = peak_counts(self.response.axis(self.used.size), energy_kev, share / share.sum(), fwhm_kev)
        return np.asarray(counts[self.used] / self.deviation)

    def fit(self, columns: Array) -> tuple[Array, float]:
        """Return the best non-negative areas of components, counts, and chi squared."""
        scale = np.maximum(np.sqrt((columns**2).sum(axis=0)), 1e-12)
        areas, misfit = nnls(columns / scale, self.target, maxiter=50 * scale.size)
        return areas / scale, float(misfit**2)


def _scatter_window(counts: Array, response: Response) -> _Window | None:
    axis = response.axis(counts.size)
    used = (axis.energy_kev > _RANGE_KEV[0]) & (axis.energy_kev < _RANGE_KEV[1])
    if used.sum() < _MIN_CHANNELS:
        return None
    energy_kev = axis.energy_kev[used]
    background = snip(counts, response.fwhm_kev(axis.energy_kev) / axis.gain_kev, window_per_fwhm=_BACKGROUND_FWHM)
    deviation = np.sqrt(np.maximum(counts[used], 1.0) + (_MODEL_ERROR * counts[used]) ** 2)
    window = _Window(response, used, deviation, (counts - background)[used] / deviation)
    groups = [
        group for family in SHARP_LINE_FAMILIES for group in line_groups(family) if group.centre_kev < energy_kev[-1]
    ]
    peaks = [window.peak(group.energy_kev, group.share) for group in groups]
    humps = [
        np.exp(-0.5 * ((energy_kev - centre_kev) / _HUMP_SIGMA_KEV) ** 2) / deviation
        for centre_kev in _HUMP_CENTRES_KEV
    ]
    names = tuple(group.family if group.leading else "" for group in groups) + ("",) * len(humps)
    return replace(window, names=names, columns=np.column_stack([*peaks, *humps]))


def _fit_at_angle(window: _Window, symbol: str, angle_deg: float, misfit_without: float) -> Anode:
    """Return the fit with an anode's Compton lines at an angle; ``misfit_without`` is chi squared without them."""
    lines = line_groups(f"{symbol}_K")
    compton_kev = compton_energy(np.concatenate([group.energy_kev for group in lines]), angle_deg)
    share = np.concatenate([group.share for group in lines])
    compton = window.peak(compton_kev, share, _COMPTON_SIGMA_PER_KEV * compton_kev)
    areas, misfit = window.fit(np.column_stack([window.columns, compton]))
    index = window.names.index(f"{symbol}_K")
    rayleigh = float(areas[index] * np.linalg.norm(window.columns[:, index]))
    significance = min(rayleigh, float(areas[-1] * np.linalg.norm(compton)))
    return Anode(symbol, angle_deg, significance, misfit_without - misfit, rayleigh)
