"""Templates of line families: the spectrum of one count of a family in the detector's channels."""

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
"""Families of paints, grounds, metal leaf, restorations and air between 1.4 and 30 keV."""
FIXED_CANDIDATES = tuple(
    name for name in CANDIDATES if name not in ("V_K", "Ga_K", "Ge_K", "Y_K", "Nb_K", "Bi_L", "Th_L", "U_L")
)
"""Those among which a fit with fixed line ratios may choose.

Vanadium overlaps titanium's K-beta and bismuth the flank of lead's L-alpha, where an error of one per cent in the
strong line has the same shape.
"""
ANODES = ("Mo", "Rh", "Pd", "Ag")
"""Of the usual tubes, the hard ones: where the anode is not known, their lines may be scattered."""

MIN_RECORDED = 0.05
"""Share of a family's counts in the channels used, below which it has no area."""
_GROUP_GAP_KEV = 0.15
_COMPTON_SIGMA_PER_KEV = 0.016


@dataclass(frozen=True)
class Template:
    """A family's shape, split into groups of lines that the detector cannot separate.

    Parameters
    ----------
    name : str
        ``Fe_K``.
    groups : (n_group, n_channel) array
        Counts per channel; the groups add up to one count in the family. The strongest comes first.
    """

    name: str
    groups: NDArray[np.float64]

    @property
    def counts(self) -> NDArray[np.float64]:
        """(n_channel,) counts per channel for one count in the family."""
        return np.asarray(self.groups.sum(axis=0))

    def with_ratios(self, factor: NDArray[np.float64]) -> "Template":
        """Return the template with its groups' shares multiplied, and one count in all again."""
        share = self.groups.sum(axis=1)
        return Template(self.name, self.groups * (factor * share.sum() / (factor @ share))[:, None])


@lru_cache(maxsize=256)
def family_template(name: str, detector: Detector, axis: EnergyAxis, excitation_kev: float) -> Template | None:
    """Make a family's template; None if its strongest line is outside the axis or is not excited."""
    symbol, shell = name.split("_")
    energy, rate = family_lines(symbol, shell, excitation_kev)
    if energy.size == 0 or not axis.start_kev < energy[rate.argmax()] < axis.stop_kev:
        return None
    detected = rate * efficiency(detector, energy)
    order = np.argsort(energy)
    energy, detected = energy[order], detected[order]
    # The response includes the efficiency; areas are detected counts, so it is divided out.
    lines = (
        response_matrix(detector, axis, energy) * (detected / efficiency(detector, energy) / detected.sum())[:, None]
    )
    cuts = np.flatnonzero(np.diff(energy) > _GROUP_GAP_KEV) + 1
    parts = sorted(np.split(np.arange(energy.size), cuts), key=lambda part: -float(detected[part].sum()))
    return Template(name, np.stack([lines[part].sum(axis=0) for part in parts]))


def is_recorded(counts: NDArray[np.float64], used: NDArray[np.float64]) -> bool:
    """Whether enough of a family's counts are in the channels or bins used."""
    return bool(used.sum() >= MIN_RECORDED * counts.sum())


def family_templates(
    names: Sequence[str], detector: Detector, axis: EnergyAxis, excitation_kev: float
) -> list[Template]:
    """Make the templates of all families within the axis."""
    templates = (family_template(name, detector, axis, excitation_kev) for name in names)
    return [template for template in templates if template is not None]


def scatter_templates(instrument: Instrument, axis: EnergyAxis) -> list[Template]:
    """Make the source's lines as the sample scatters them: unshifted, and the hard ones with Compton shift.

    Of a tube these are the anode's K and L lines, of an explicit spectrum its monochromatic entries ("Elastic").
    """
    detector, source = instrument.detector, instrument.source_spectrum
    if source is None:
        anode, excitation = instrument.tube.anode, instrument.tube.voltage_kv
        unshifted = family_templates([f"{anode}_K", f"{anode}_L"], detector, axis, excitation)
        energy, rate = family_lines(anode, "K", excitation)
    else:
        widths = np.zeros(len(source.energy_kev)) if source.width_kev is None else np.asarray(source.width_kev)
        energy, rate = np.asarray(source.energy_kev)[widths == 0], np.asarray(source.weight)[widths == 0]
        unshifted = [Template("Elastic", profile) for profile in _one_group(detector, axis, energy, rate)]
    if energy.size == 0:
        return unshifted
    shifted = compton_energy(energy, instrument.geometry.scattering_angle_deg)
    # The profile's width is that of light atoms (oil, chalk): about 0.8 keV FWHM at 21 keV.
    spread = _COMPTON_SIGMA_PER_KEV * shifted
    return [
        *unshifted,
        *(Template("Compton", profile) for profile in _one_group(detector, axis, shifted, rate, spread)),
    ]


def _one_group(
    detector: Detector,
    axis: EnergyAxis,
    energy_kev: NDArray[np.float64],
    rate: NDArray[np.float64],
    spread_kev: NDArray[np.float64] | float = 0.0,
) -> list[NDArray[np.float64]]:
    """Return lines as one group of one count, (1, n_channel); empty where none is recorded."""
    inside = (energy_kev > axis.start_kev) & (energy_kev < axis.stop_kev)
    if not rate[inside].sum() > 0:
        return []
    spread = spread_kev if isinstance(spread_kev, float) else spread_kev[inside]
    lines = response_matrix(detector, axis, energy_kev[inside], spread) * rate[inside, None]
    return [lines.sum(axis=0, keepdims=True) / lines.sum()]


def fwhm_channels(detector: Detector, axis: EnergyAxis) -> NDArray[np.float64]:
    """Peak width along the axis, channels."""
    fwhm = resolution_fwhm_kev(axis.energy_kev, detector.noise_fwhm_kev, detector.fano)
    return np.asarray(np.maximum(fwhm / axis.gain_kev, 1.5))
