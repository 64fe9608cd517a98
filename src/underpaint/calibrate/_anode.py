"""Identification of the tube's anode: the sample scatters its K lines as pairs of Rayleigh and Compton peaks."""

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
"""Anodes whose scattered K lines do not overlap lines of pigments. The lines of Cr, Cu, W and Au anodes overlap lines
of pigments. The Compton shift of these lines is only about one peak width.
"""
SHARP_LINE_FAMILIES = ("Sr_K", "Zr_K", "Mo_K", "Rh_K", "Pd_K", "Ag_K", "Cd_K", "Sn_K", "Sb_K")
"""Families whose lines give sharp peaks in the fitted range, by fluorescence or Rayleigh scatter."""
_SCATTER_RANGE_KEV = (14.8, 27.5)
_MIN_FITTED_CHANNELS = 40
_SCATTER_ANGLES_DEG = np.arange(75.0, 168.0, 3.0)
_OUTER_SCATTER_ANGLES_DEG = np.append(np.arange(60.0, 75.0, 3.0), np.arange(168.0, 176.0, 3.0))
"""Angles that are also fitted if the best angle is the first or the last of ``_SCATTER_ANGLES_DEG``."""
_COMPTON_SIGMA_PER_KEV = 0.012
"""Doppler broadening of Compton peaks of light elements: standard deviation in keV per keV of photon energy."""
_BACKGROUND_WINDOW_FWHM = 6.0
_HUMP_CENTRES_KEV = np.linspace(*_SCATTER_RANGE_KEV, 6)
_HUMP_SIGMA_KEV = 1.7
_RELATIVE_MODEL_ERROR = 0.03
_MIN_PEAK_SIGMAS = 6.0
_MIN_CHI_SQUARED_DROP = 25.0
_MIN_EDGE_COUNTS_RATIO = 0.05


@dataclass(frozen=True)
class Anode:
    """The anode of a tube, and the scattering angle calculated from the Compton shift of the anode's lines.

    Parameters
    ----------
    symbol : str
        Element symbol.
    scatter_angle_deg : float
        Angle between beam and detected photon, in degrees.
    significance : float
        Significance of the Rayleigh or the Compton peak, whichever is less significant, in standard deviations.
    misfit_drop : float
        Decrease of chi squared when the Compton peaks are added to a fit of sharp lines and background.
    rayleigh_significance : float
        Significance of the Rayleigh peak, in standard deviations.
    """

    symbol: str
    scatter_angle_deg: float
    significance: float
    misfit_drop: float
    rayleigh_significance: float


def guess_anode(counts: Array, response: Response) -> Anode | None:
    """Return the anode whose scattered K lines fit best, or None if no anode's Rayleigh and Compton peaks are detected.

    Sharp lines and background are fitted to the energy range of the scattered lines. The Compton lines of each anode at
    each scattering angle are then added to this fit. Sharp lines alone do not prove an anode, because they may be
    fluorescence lines of the sample.

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
    scatter_window = _scatter_window(counts, response)
    if scatter_window is None:
        return None
    misfit_without_compton = scatter_window.fit_components(scatter_window.component_columns)[1]
    excited_anodes = [
        symbol
        for symbol in ANODES
        if f"{symbol}_K" in scatter_window.column_families and _excites_k_lines(counts, response, symbol)
    ]
    anode_fits = [_best_angle(scatter_window, symbol, misfit_without_compton) for symbol in excited_anodes]
    candidate_anodes = [
        anode
        for anode in anode_fits
        if anode.significance > _MIN_PEAK_SIGMAS
        and anode.misfit_drop > _MIN_CHI_SQUARED_DROP
        and _is_inner_angle(anode)
    ]
    # If the Compton lines of two anodes coincide at different angles, the Rayleigh peaks distinguish the anodes.
    return max(candidate_anodes, key=lambda anode: min(anode.misfit_drop, anode.rayleigh_significance**2), default=None)


def _is_inner_angle(anode: Anode) -> bool:
    """Return whether the angle is not an extreme of the search, where humps of the continuum resemble Compton peaks."""
    return bool(_OUTER_SCATTER_ANGLES_DEG[0] < anode.scatter_angle_deg < _OUTER_SCATTER_ANGLES_DEG[-1])


def _excites_k_lines(counts: Array, response: Response, symbol: str) -> bool:
    """Return whether the tube's continuum extends above the anode's K edge, which K lines require."""
    edge_kev = edge_energy(atomic_number(symbol), SHELLS.index("K"))
    energy_kev = response.axis(counts.size).energy_kev
    if energy_kev[-1] < edge_kev + 1.0:
        return True
    counts_above_edge = float(counts[(energy_kev > edge_kev + 0.3) & (energy_kev < edge_kev + 1.0)].mean())
    counts_below_edge = float(counts[(energy_kev > edge_kev - 0.4) & (energy_kev < edge_kev - 0.2)].mean())
    return counts_above_edge > _MIN_EDGE_COUNTS_RATIO * counts_below_edge


def _best_angle(scatter_window: "_ScatterWindow", symbol: str, misfit_without_compton: float) -> Anode:
    def best_fit_of(angles_deg: Array) -> Anode:
        return max(
            (_fit_at_angle(scatter_window, symbol, float(angle), misfit_without_compton) for angle in angles_deg),
            key=lambda angle_fit: angle_fit.misfit_drop,
        )

    best_fit = best_fit_of(_SCATTER_ANGLES_DEG)
    if best_fit.scatter_angle_deg in (_SCATTER_ANGLES_DEG[0], _SCATTER_ANGLES_DEG[-1]):
        best_fit = max(best_fit, best_fit_of(_OUTER_SCATTER_ANGLES_DEG), key=lambda angle_fit: angle_fit.misfit_drop)
    return best_fit


@dataclass(frozen=True)
class _ScatterWindow:
    """Energy range of the scattered lines, with counts and components in units of the counts' standard deviation.

    Parameters
    ----------
    response : Response
        Energy axis and resolution.
    is_fitted : (n_channel,) array of bool
        Channels within the range. Their number is n_used.
    deviation : (n_used,) array
        Standard deviation of the counts of each channel, including the model error.
    scaled_net_counts : (n_used,) array
        Counts above the background, divided by ``deviation``.
    column_families : tuple of str
        Line family of each component that is a family's strongest line group. Other components have "".
    component_columns : (n_used, n_column) array
        Sharp lines, and wide humps that correct the background.
    """

    response: Response
    is_fitted: NDArray[np.bool_]
    deviation: Array
    scaled_net_counts: Array
    column_families: tuple[str, ...] = ()
    component_columns: Array = field(default_factory=lambda: np.zeros((0, 0)))

    def line_component(self, energy_kev: Array, photon_fraction: Array, line_spread_kev: Array | float = 0.0) -> Array:
        """Return the peaks of lines with one count in total, divided by ``deviation``."""
        fwhm_kev = np.hypot(self.response.fwhm_kev(energy_kev), FWHM_PER_SIGMA * line_spread_kev)
        counts = peak_counts(
            self.response.axis(self.is_fitted.size), energy_kev, photon_fraction / photon_fraction.sum(), fwhm_kev
        )
        return np.asarray(counts[self.is_fitted] / self.deviation)

    def fit_components(self, component_columns: Array) -> tuple[Array, float]:
        """Return the least-squares areas of the components (non-negative, in counts) and chi squared of the fit."""
        column_norms = np.maximum(np.sqrt((component_columns**2).sum(axis=0)), 1e-12)
        areas, misfit = nnls(component_columns / column_norms, self.scaled_net_counts, maxiter=50 * column_norms.size)
        return areas / column_norms, float(misfit**2)


def _scatter_window(counts: Array, response: Response) -> _ScatterWindow | None:
    axis = response.axis(counts.size)
    is_fitted = (axis.energy_kev > _SCATTER_RANGE_KEV[0]) & (axis.energy_kev < _SCATTER_RANGE_KEV[1])
    if is_fitted.sum() < _MIN_FITTED_CHANNELS:
        return None
    energy_kev = axis.energy_kev[is_fitted]
    background = snip(
        counts, response.fwhm_kev(axis.energy_kev) / axis.gain_kev, window_per_fwhm=_BACKGROUND_WINDOW_FWHM
    )
    deviation = np.sqrt(np.maximum(counts[is_fitted], 1.0) + (_RELATIVE_MODEL_ERROR * counts[is_fitted]) ** 2)
    scatter_window = _ScatterWindow(response, is_fitted, deviation, (counts - background)[is_fitted] / deviation)
    line_groups_in_range = [
        line_group
        for family in SHARP_LINE_FAMILIES
        for line_group in line_groups(family)
        if line_group.centre_kev < energy_kev[-1]
    ]
    line_components = [
        scatter_window.line_component(line_group.energy_kev, line_group.photon_fraction)
        for line_group in line_groups_in_range
    ]
    hump_components = [
        np.exp(-0.5 * ((energy_kev - hump_centre_kev) / _HUMP_SIGMA_KEV) ** 2) / deviation
        for hump_centre_kev in _HUMP_CENTRES_KEV
    ]
    column_families = tuple(
        line_group.family if line_group.is_leading else "" for line_group in line_groups_in_range
    ) + ("",) * len(hump_components)
    return replace(
        scatter_window,
        column_families=column_families,
        component_columns=np.column_stack([*line_components, *hump_components]),
    )


def _fit_at_angle(
    scatter_window: _ScatterWindow, symbol: str, angle_deg: float, misfit_without_compton: float
) -> Anode:
    """Fit an anode's Compton lines at a scattering angle and compare chi squared with the fit without these lines."""
    anode_groups = line_groups(f"{symbol}_K")
    compton_kev = compton_energy(np.concatenate([line_group.energy_kev for line_group in anode_groups]), angle_deg)
    photon_fraction = np.concatenate([line_group.photon_fraction for line_group in anode_groups])
    compton_component = scatter_window.line_component(
        compton_kev, photon_fraction, _COMPTON_SIGMA_PER_KEV * compton_kev
    )
    areas, misfit = scatter_window.fit_components(
        np.column_stack([scatter_window.component_columns, compton_component])
    )
    rayleigh_column = scatter_window.column_families.index(f"{symbol}_K")
    rayleigh_significance = float(
        areas[rayleigh_column] * np.linalg.norm(scatter_window.component_columns[:, rayleigh_column])
    )
    significance = min(rayleigh_significance, float(areas[-1] * np.linalg.norm(compton_component)))
    return Anode(symbol, angle_deg, significance, misfit_without_compton - misfit, rayleigh_significance)
