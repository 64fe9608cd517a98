"""Templates of line families: what one count of a family looks like in the detector's channels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.atomic import compton_energy, family_lines
from underpaint.forward import efficiency, response_matrix
from underpaint.instrument import Detector, Instrument
from underpaint.spectrum import EnergyAxis
from underpaint.spectrum.peaks import resolution_fwhm_kev

CANDIDATES = (
    "Al_K", "Si_K", "P_K", "S_K", "Cl_K", "Ar_K", "K_K", "Ca_K", "Ti_K", "Cr_K", "Mn_K", "Fe_K", "Co_K",
    "Ni_K", "Cu_K", "Zn_K", "As_K", "Se_K", "Br_K", "Rb_K", "Sr_K", "Zr_K", "Mo_K", "Ag_K", "Cd_K", "Sn_K", "Sb_K",
    "Cd_L", "Sn_L", "Sb_L", "Ba_L", "W_L", "Au_L", "Hg_L", "Pb_L", "Hg_M", "Pb_M",
)  # fmt: skip
"""Families that paints, grounds, metal leaf, restorations and air show between 1.4 and 30 keV.

Vanadium hides under titanium's K-beta and bismuth on the flank of lead's L-alpha, where a fault of one per cent in the
strong line looks like them: they are fitted only when asked for.
"""

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


def family_template(name: str, detector: Detector, axis: EnergyAxis, excitation_kev: float) -> Template | None:
    """Make a family's template; None where its strongest line lies outside the axis or cannot be excited."""
    symbol, shell = name.split("_")
    energy, rate = family_lines(symbol, shell, excitation_kev)
    if energy.size == 0 or not axis.start_kev < energy[rate.argmax()] < axis.stop_kev:
        return None
    seen = rate * efficiency(detector, energy)
    order = np.argsort(energy)
    energy, seen = energy[order], seen[order]
    # The response counts lost photons; a count of the area is a count seen, so the efficiency is divided out.
    lines = response_matrix(detector, axis, energy) * (seen / efficiency(detector, energy) / seen.sum())[:, None]
    cuts = np.flatnonzero(np.diff(energy) > _GROUP_GAP_KEV) + 1
    parts = sorted(np.split(np.arange(energy.size), cuts), key=lambda part: -float(seen[part].sum()))
    return Template(name, np.stack([lines[part].sum(axis=0) for part in parts]))


def family_templates(
    names: Sequence[str], detector: Detector, axis: EnergyAxis, excitation_kev: float
) -> list[Template]:
    """Make the templates of all families that the axis can show."""
    made = (family_template(name, detector, axis, excitation_kev) for name in names)
    return [template for template in made if template is not None]


def scatter_templates(instrument: Instrument, axis: EnergyAxis) -> list[Template]:
    """Make the anode's K and L lines as the sample scatters them: unshifted, and the K lines with Compton shift."""
    anode, detector = instrument.tube.anode, instrument.detector
    excitation = instrument.tube.voltage_kv
    unshifted = family_templates([f"{anode}_K", f"{anode}_L"], detector, axis, excitation)
    energy, rate = family_lines(anode, "K", excitation)
    if energy.size == 0:
        return unshifted
    shifted = compton_energy(energy, instrument.geometry.scattering_angle_deg)
    inside = (shifted > axis.start_kev) & (shifted < axis.stop_kev)
    if not inside.any():
        return unshifted
    # The profile's width is that of light atoms (oil, chalk): about 0.8 keV FWHM at 21 keV.
    spread = _COMPTON_SIGMA_PER_KEV * shifted[inside]
    lines = response_matrix(detector, axis, shifted[inside], spread) * rate[inside, None]
    return [*unshifted, Template("Compton", lines.sum(axis=0, keepdims=True) / lines.sum())]


def fwhm_channels(detector: Detector, axis: EnergyAxis) -> NDArray[np.float64]:
    """Peak width along the axis, channels."""
    fwhm = resolution_fwhm_kev(axis.energy_kev, detector.noise_fwhm_kev, detector.fano)
    return np.asarray(np.maximum(fwhm / axis.gain_kev, 1.5))
