"""Characteristic line patterns that a painting's spectrum is searched for."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from underpaint.physics.atomic import family_lines, line_table

SEARCH_EXCITATION_KEV = 35.0
_CLUSTER_WIDTH_KEV = 0.15
_MIN_SHARE = 0.01
# Lines farther apart are absorbed so differently by paint and air that their ratio is uncertain.
_FLANK = 0.05

COMMON_FAMILIES = (
    "Ar_K", "K_K", "Ca_K", "Ti_K", "Cr_K", "Mn_K", "Fe_K", "Co_K", "Ni_K", "Cu_K", "Zn_K", "As_K", "Sr_K",
    "Ba_L", "Sn_L", "Cd_L", "Hg_L", "Pb_L",
)  # fmt: skip
RARE_FAMILIES = (
    "P_K", "S_K", "Cl_K", "V_K", "Se_K", "Br_K", "Rb_K", "Zr_K", "Mo_K", "Rh_K", "Pd_K", "Ag_K", "Cd_K",
    "Sn_K", "Sb_L", "W_L", "Au_L", "Bi_L", "Pb_M", "Hg_M",
)  # fmt: skip
SCATTERED_L_FAMILIES = ("Mo_L", "Rh_L", "Pd_L", "Ag_L")
"""The anode's L lines, scattered by the sample; silver's hide under argon's K lines."""


@dataclass(frozen=True)
class LineGroup:
    """Lines of one family that a silicon detector cannot separate.

    Parameters
    ----------
    family : str
        ``Fe_K``.
    energy_kev, share : (n_line,) arrays
        Energies, keV, and photons relative to those of the family.
    leading : bool
        True for the strongest group of its family.
    common : bool
        True for elements common in paintings.
    satellite_kev, satellite_share : (n_aside,) arrays
        Lines too weak for a separate group, with the same vacancies as some of this one: lead's L1-O2,3 (15.77 keV),
        0.3 % of its family, could otherwise be mistaken for zirconium.
    """

    family: str
    energy_kev: NDArray[np.float64]
    share: NDArray[np.float64]
    leading: bool
    common: bool
    satellite_kev: NDArray[np.float64]
    satellite_share: NDArray[np.float64]

    @property
    def strength(self) -> float:
        """Share of the family's photons."""
        return float(self.share.sum())

    @property
    def centre_kev(self) -> float:
        """Mean energy, keV, weighted by intensity."""
        return float(np.average(self.energy_kev, weights=self.share))


def line_groups(family: str, excitation_kev: float = SEARCH_EXCITATION_KEV) -> tuple[LineGroup, ...]:
    """Split a family into groups of lines closer than 150 eV, strongest first."""
    return _line_groups(family, excitation_kev)


@lru_cache(maxsize=512)
def _line_groups(family: str, excitation_kev: float) -> tuple[LineGroup, ...]:
    symbol, shell = family.split("_")
    energy, share = family_lines(symbol, shell, excitation_kev)
    order = np.argsort(energy)
    energy, share = np.asarray(energy)[order], np.asarray(share)[order] / max(float(np.sum(share)), 1e-30)
    keep = share > 1e-4
    energy, share = energy[keep], share[keep]
    if energy.size == 0:
        return ()
    cuts = np.flatnonzero(np.diff(energy) > _CLUSTER_WIDTH_KEV) + 1
    parts = np.split(np.arange(energy.size), cuts)
    strong = sorted((part for part in parts if share[part].sum() > _MIN_SHARE), key=lambda part: -share[part].sum())
    hosts = _hosts(symbol, energy, strong)
    common = family in COMMON_FAMILIES
    return tuple(
        LineGroup(family, energy[part], share[part], rank == 0, common, energy[hosts == rank], share[hosts == rank])
        for rank, part in enumerate(strong)
    )


def _hosts(symbol: str, energy: NDArray[np.float64], strong: list[NDArray[np.intp]]) -> NDArray[np.intp]:
    """Return the (n_line,) nearest group of each weak line within its subshell; -1: none, or a strong line."""
    table = line_table([symbol])
    shell = table.shell[np.abs(energy[:, None] - table.energy_kev).argmin(axis=1)]
    hosts = np.full(energy.size, -1)
    for line in set(range(energy.size)) - {int(line_index) for part in strong for line_index in part}:
        separate = [
            min(
                (
                    abs(energy[line_index] / energy[line] - 1.0)
                    for line_index in part
                    if shell[line_index] == shell[line]
                ),
                default=np.inf,
            )
            for part in strong
        ]
        if min(separate, default=np.inf) < _FLANK:
            hosts[line] = int(np.argmin(separate))
    return hosts
