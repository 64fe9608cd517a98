"""Characteristic lines that are expected in spectra of paintings, grouped for the energy calibration."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from underpaint.physics.atomic import family_lines, line_table

SEARCH_EXCITATION_KEV = 35.0
_MAX_LINE_DISTANCE_KEV = 0.15
_MIN_GROUP_FRACTION = 0.01
_MAX_SATELLITE_DISTANCE = 0.05
"""Maximum relative energy difference between a satellite and its group, so that absorption is about equal for both."""

COMMON_FAMILIES = (
    "Ar_K", "K_K", "Ca_K", "Ti_K", "Cr_K", "Mn_K", "Fe_K", "Co_K", "Ni_K", "Cu_K", "Zn_K", "As_K", "Sr_K",
    "Ba_L", "Sn_L", "Cd_L", "Hg_L", "Pb_L",
)  # fmt: skip
RARE_FAMILIES = (
    "P_K", "S_K", "Cl_K", "V_K", "Se_K", "Br_K", "Rb_K", "Zr_K", "Mo_K", "Rh_K", "Pd_K", "Ag_K", "Cd_K",
    "Sn_K", "Sb_L", "W_L", "Au_L", "Bi_L", "Pb_M", "Hg_M",
)  # fmt: skip
SCATTERED_L_FAMILIES = ("Mo_L", "Rh_L", "Pd_L", "Ag_L")
"""Anode families whose L lines, scattered by the sample, appear in spectra. The L lines of silver overlap the K lines
of argon.
"""


@dataclass(frozen=True)
class LineGroup:
    """Lines of one family that a silicon detector cannot separate.

    Parameters
    ----------
    family : str
        Line family, ``Fe_K``.
    energy_kev, photon_fraction : (n_line,) arrays
        Energies of the lines in keV, and their photons as fractions of the family's photons.
    is_leading : bool
        Whether no other group of the family is stronger.
    is_common : bool
        Whether the element is common in paintings.
    satellite_kev, satellite_fraction : (n_satellite,) arrays
        Energies and photon fractions of the group's satellites. Satellites are weak lines that fill the same vacancies
        as the lines of the group. Without satellites, lead's L1-O2,3 (15.77 keV, 0.3 % of the family) could be mistaken
        for zirconium.
    """

    family: str
    energy_kev: NDArray[np.float64]
    photon_fraction: NDArray[np.float64]
    is_leading: bool
    is_common: bool
    satellite_kev: NDArray[np.float64]
    satellite_fraction: NDArray[np.float64]

    @property
    def strength(self) -> float:
        """Photons of the group as a fraction of the family's photons."""
        return float(self.photon_fraction.sum())

    @property
    def centre_kev(self) -> float:
        """Mean energy of the lines in keV, weighted by their photons."""
        return float(np.average(self.energy_kev, weights=self.photon_fraction))


def line_groups(family: str, excitation_kev: float = SEARCH_EXCITATION_KEV) -> tuple[LineGroup, ...]:
    """Return the line groups of a family, strongest first. Lines less than 150 eV apart are in one group."""
    return _line_groups(family, excitation_kev)


@lru_cache(maxsize=512)
def _line_groups(family: str, excitation_kev: float) -> tuple[LineGroup, ...]:
    symbol, shell = family.split("_")
    energy_kev, photon_fraction = family_lines(symbol, shell, excitation_kev)
    energy_order = np.argsort(energy_kev)
    energy_kev, photon_fraction = (
        np.asarray(energy_kev)[energy_order],
        np.asarray(photon_fraction)[energy_order] / max(float(np.sum(photon_fraction)), 1e-30),
    )
    is_strong_line = photon_fraction > 1e-4
    energy_kev, photon_fraction = energy_kev[is_strong_line], photon_fraction[is_strong_line]
    if energy_kev.size == 0:
        return ()
    cluster_borders = np.flatnonzero(np.diff(energy_kev) > _MAX_LINE_DISTANCE_KEV) + 1
    line_clusters = np.split(np.arange(energy_kev.size), cluster_borders)
    groups = sorted(
        (line_indices for line_indices in line_clusters if photon_fraction[line_indices].sum() > _MIN_GROUP_FRACTION),
        key=lambda line_indices: -photon_fraction[line_indices].sum(),
    )
    satellite_group = _satellite_groups(symbol, energy_kev, groups)
    is_common = family in COMMON_FAMILIES
    return tuple(
        LineGroup(
            family,
            energy_kev[line_indices],
            photon_fraction[line_indices],
            group_index == 0,
            is_common,
            energy_kev[satellite_group == group_index],
            photon_fraction[satellite_group == group_index],
        )
        for group_index, line_indices in enumerate(groups)
    )


def _satellite_groups(symbol: str, energy_kev: NDArray[np.float64], groups: list[NDArray[np.intp]]) -> NDArray[np.intp]:
    """Return the index of each satellite's group as an (n_line,) array. The index is -1 for all other lines."""
    element_lines = line_table([symbol])
    vacancy_shells = element_lines.shell[np.abs(energy_kev[:, None] - element_lines.energy_kev).argmin(axis=1)]
    satellite_group = np.full(energy_kev.size, -1)
    for line in set(range(energy_kev.size)) - {int(line_index) for group in groups for line_index in group}:
        relative_distances = [
            min(
                (
                    abs(energy_kev[line_index] / energy_kev[line] - 1.0)
                    for line_index in group
                    if vacancy_shells[line_index] == vacancy_shells[line]
                ),
                default=np.inf,
            )
            for group in groups
        ]
        if min(relative_distances, default=np.inf) < _MAX_SATELLITE_DISTANCE:
            satellite_group[line] = int(np.argmin(relative_distances))
    return satellite_group
