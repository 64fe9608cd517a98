"""Templates of line families: the expected spectrum of one count of a family."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.data.peaks import resolution_fwhm_kev
from underpaint.physics.atomic import compton_energy, family_lines
from underpaint.physics.forward import efficiency, response_matrix
from underpaint.physics.instrument import Detector, Instrument

CANDIDATES = (
    "Al_K", "Si_K", "P_K", "S_K", "Cl_K", "Ar_K", "K_K", "Ca_K", "Ti_K", "V_K", "Cr_K", "Mn_K", "Fe_K", "Co_K",
    "Ni_K", "Cu_K", "Zn_K", "Ga_K", "Ge_K", "As_K", "Se_K", "Br_K", "Rb_K", "Sr_K", "Y_K", "Zr_K", "Nb_K", "Mo_K",
    "Ag_K", "Cd_K", "Sn_K", "Sb_K", "Cd_L", "Sn_L", "Sb_L", "Ba_L", "W_L", "Au_L", "Hg_L", "Pb_L", "Bi_L", "Th_L",
    "U_L", "Hg_M", "Pb_M",
)  # fmt: skip
"""Families of elements in paints, grounds, metal leaf, restorations and air, between 1.4 and 30 keV."""
FIXED_CANDIDATES = tuple(
    name for name in CANDIDATES if name not in ("V_K", "Ga_K", "Ge_K", "Y_K", "Nb_K", "Bi_L", "Th_L", "U_L")
)
"""Families among which a fit with fixed line ratios may select.

Vanadium overlaps titanium's K-beta, and bismuth the flank of lead's L-alpha, where an error of one per cent in the
strong line has the same shape.
"""
ANODES = ("Mo", "Rh", "Pd", "Ag")
"""Anodes of common tubes whose K lines may be scattered by the sample, if the anode is unknown."""

MIN_RECORDED_SHARE = 0.05
"""Smallest fraction of a family's counts in the fitted channels for which an area is fitted."""
_GROUP_GAP_KEV = 0.15
_COMPTON_SIGMA_PER_KEV = 0.016


@dataclass(frozen=True)
class Template:
    """Expected spectrum of a family, by groups of lines that the detector cannot separate.

    Parameters
    ----------
    name : str
        Line family, ``Fe_K``.
    groups : (n_group, n_channel) array
        Counts per channel of each group, strongest first; their sum is one count.
    """

    name: str
    groups: NDArray[np.float64]

    @property
    def counts(self) -> NDArray[np.float64]:
        """(n_channel,) counts per channel for one count of the family."""
        return np.asarray(self.groups.sum(axis=0))

    def with_ratios(self, factor: NDArray[np.float64]) -> "Template":
        """Return the template with the fraction of each group multiplied by a factor, normalised to one count."""
        share = self.groups.sum(axis=1)
        return Template(self.name, self.groups * (factor * share.sum() / (factor @ share))[:, None])


@lru_cache(maxsize=256)
def family_template(name: str, detector: Detector, axis: EnergyAxis, excitation_kev: float) -> Template | None:
    """Return the template of a family; None if its strongest line is outside the axis or is not excited."""
    symbol, shell = name.split("_")
    energy_kev, rate = family_lines(symbol, shell, excitation_kev)
    if energy_kev.size == 0 or not axis.start_kev < energy_kev[rate.argmax()] < axis.stop_kev:
        return None
    detected = rate * efficiency(detector, energy_kev)
    order = np.argsort(energy_kev)
    energy_kev, detected = energy_kev[order], detected[order]
    # Areas are detected counts: the efficiency, which the response includes, is divided out.
    line_spectra = (
        response_matrix(detector, axis, energy_kev)
        * (detected / efficiency(detector, energy_kev) / detected.sum())[:, None]
    )
    borders = np.flatnonzero(np.diff(energy_kev) > _GROUP_GAP_KEV) + 1
    groups = sorted(np.split(np.arange(energy_kev.size), borders), key=lambda group: -float(detected[group].sum()))
    return Template(name, np.stack([line_spectra[group].sum(axis=0) for group in groups]))


def is_recorded(counts: NDArray[np.float64], used_counts: NDArray[np.float64]) -> bool:
    """Return whether a sufficient fraction of a family's counts is in the fitted channels or bins."""
    return bool(used_counts.sum() >= MIN_RECORDED_SHARE * counts.sum())


def family_templates(
    names: Sequence[str], detector: Detector, axis: EnergyAxis, excitation_kev: float
) -> list[Template]:
    """Return the templates of the families whose strongest line is within the axis and excited."""
    templates = (family_template(name, detector, axis, excitation_kev) for name in names)
    return [template for template in templates if template is not None]


def scatter_templates(instrument: Instrument, axis: EnergyAxis) -> list[Template]:
    """Return the templates of the scattered lines of the source: Rayleigh scatter, and Compton scatter of K lines.

    For a tube these are the K and L lines of the anode, for a tabulated spectrum its monochromatic entries ("Elastic").
    """
    detector, source = instrument.detector, instrument.source_spectrum
    if source is None:
        anode, excitation_kev = instrument.tube.anode, instrument.tube.voltage_kv
        unshifted = family_templates([f"{anode}_K", f"{anode}_L"], detector, axis, excitation_kev)
        energy_kev, rate = family_lines(anode, "K", excitation_kev)
    else:
        widths = np.zeros(len(source.energy_kev)) if source.width_kev is None else np.asarray(source.width_kev)
        energy_kev, rate = np.asarray(source.energy_kev)[widths == 0], np.asarray(source.weight)[widths == 0]
        unshifted = [Template("Elastic", profile) for profile in _single_group(detector, axis, energy_kev, rate)]
    if energy_kev.size == 0:
        return unshifted
    compton_kev = compton_energy(energy_kev, instrument.geometry.scattering_angle_deg)
    # The Compton profile is that of light atoms (oil, chalk): about 0.8 keV FWHM at 21 keV.
    spread_kev = _COMPTON_SIGMA_PER_KEV * compton_kev
    return [
        *unshifted,
        *(Template("Compton", profile) for profile in _single_group(detector, axis, compton_kev, rate, spread_kev)),
    ]


def _single_group(
    detector: Detector,
    axis: EnergyAxis,
    energy_kev: NDArray[np.float64],
    rate: NDArray[np.float64],
    spread_kev: NDArray[np.float64] | float = 0.0,
) -> list[NDArray[np.float64]]:
    """Return lines as a single group with one count, (1, n_channel); empty if no line is within the axis."""
    in_range = (energy_kev > axis.start_kev) & (energy_kev < axis.stop_kev)
    if not rate[in_range].sum() > 0:
        return []
    used_spread_kev = spread_kev if isinstance(spread_kev, float) else spread_kev[in_range]
    lines = response_matrix(detector, axis, energy_kev[in_range], used_spread_kev) * rate[in_range, None]
    return [lines.sum(axis=0, keepdims=True) / lines.sum()]


def fwhm_channels(detector: Detector, axis: EnergyAxis) -> NDArray[np.float64]:
    """Return the (n_channel,) FWHM of peaks, channels."""
    fwhm = resolution_fwhm_kev(axis.energy_kev, detector.noise_fwhm_kev, detector.fano)
    return np.asarray(np.maximum(fwhm / axis.gain_kev, 1.5))
