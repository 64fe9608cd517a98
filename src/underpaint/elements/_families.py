"""Templates of line families: the expected spectrum of each family, normalised to one count."""

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
FIXED_RATIO_CANDIDATES = tuple(
    name for name in CANDIDATES if name not in ("V_K", "Ga_K", "Ge_K", "Y_K", "Nb_K", "Bi_L", "Th_L", "U_L")
)
"""Candidate families of a fit with fixed line ratios.

Families that overlap strong lines are excluded. Vanadium overlaps titanium's K-beta, and bismuth overlaps lead's
L-alpha. An error of one per cent in the modelled strong line looks like the excluded family.
"""
ANODES = ("Mo", "Rh", "Pd", "Ag")
"""Anodes of common tubes. If the anode is unknown, K lines of these elements may be scattered tube radiation."""

MIN_RECORDED_FRACTION = 0.05
"""Minimum fraction of a family's counts that must be in the fitted channels for the family to be fitted."""
_MIN_GROUP_DISTANCE_KEV = 0.15
_COMPTON_SIGMA_PER_KEV = 0.016


@dataclass(frozen=True)
class Template:
    """Expected spectrum of a line family, split into groups of lines that the detector cannot separate.

    Parameters
    ----------
    name : str
        Line family, such as ``Fe_K``.
    groups : (n_group, n_channel) array
        Counts per channel of each group, strongest group first. The counts of all groups sum to one.
    """

    name: str
    groups: NDArray[np.float64]

    @property
    def counts(self) -> NDArray[np.float64]:
        """(n_channel,) expected counts of the family; they sum to one count."""
        return np.asarray(self.groups.sum(axis=0))

    def scale_group_ratios(self, ratio_factors: NDArray[np.float64]) -> "Template":
        """Multiply the fraction of each group by a factor, and normalise the template to one count."""
        group_counts = self.groups.sum(axis=1)
        return Template(
            self.name, self.groups * (ratio_factors * group_counts.sum() / (ratio_factors @ group_counts))[:, None]
        )


@lru_cache(maxsize=256)
def family_template(name: str, detector: Detector, axis: EnergyAxis, excitation_kev: float) -> Template | None:
    """Return the template of a family; None if the strongest line is outside the axis or not excited."""
    symbol, shell = name.split("_")
    energy_kev, line_intensity = family_lines(symbol, shell, excitation_kev)
    if energy_kev.size == 0 or not axis.start_kev < energy_kev[line_intensity.argmax()] < axis.stop_kev:
        return None
    detected_intensity = line_intensity * efficiency(detector, energy_kev)
    energy_order = np.argsort(energy_kev)
    energy_kev, detected_intensity = energy_kev[energy_order], detected_intensity[energy_order]
    # Areas are detected counts, so the efficiency in the response matrix is divided out.
    line_spectra = (
        response_matrix(detector, axis, energy_kev)
        * (detected_intensity / efficiency(detector, energy_kev) / detected_intensity.sum())[:, None]
    )
    group_borders = np.flatnonzero(np.diff(energy_kev) > _MIN_GROUP_DISTANCE_KEV) + 1
    line_groups = sorted(
        np.split(np.arange(energy_kev.size), group_borders),
        key=lambda line_indices: -float(detected_intensity[line_indices].sum()),
    )
    return Template(name, np.stack([line_spectra[line_indices].sum(axis=0) for line_indices in line_groups]))


def is_recorded(counts: NDArray[np.float64], fitted_counts: NDArray[np.float64]) -> bool:
    """Return whether at least ``MIN_RECORDED_FRACTION`` of a family's counts is in the fitted channels or bins."""
    return bool(fitted_counts.sum() >= MIN_RECORDED_FRACTION * counts.sum())


def family_templates(
    names: Sequence[str], detector: Detector, axis: EnergyAxis, excitation_kev: float
) -> list[Template]:
    """Return the templates of the families whose strongest line is within the axis and excited."""
    templates = (family_template(name, detector, axis, excitation_kev) for name in names)
    return [template for template in templates if template is not None]


def scatter_templates(instrument: Instrument, axis: EnergyAxis) -> list[Template]:
    """Return the templates of scattered source lines: Rayleigh peaks, and Compton peaks of the K lines.

    The source lines of a tube are the K and L lines of the anode. The source lines of a tabulated spectrum are the
    monochromatic entries.
    """
    detector, source_spectrum = instrument.detector, instrument.source_spectrum
    if source_spectrum is None:
        anode, excitation_kev = instrument.tube.anode, instrument.tube.voltage_kv
        rayleigh_templates = family_templates([f"{anode}_K", f"{anode}_L"], detector, axis, excitation_kev)
        energy_kev, line_intensity = family_lines(anode, "K", excitation_kev)
    else:
        bin_widths = (
            np.zeros(len(source_spectrum.energy_kev))
            if source_spectrum.width_kev is None
            else np.asarray(source_spectrum.width_kev)
        )
        energy_kev, line_intensity = (
            np.asarray(source_spectrum.energy_kev)[bin_widths == 0],
            np.asarray(source_spectrum.weight)[bin_widths == 0],
        )
        rayleigh_templates = [
            Template("Elastic", group_counts)
            for group_counts in _lines_as_one_group(detector, axis, energy_kev, line_intensity)
        ]
    if energy_kev.size == 0:
        return rayleigh_templates
    compton_kev = compton_energy(energy_kev, instrument.geometry.scattering_angle_deg)
    # The Compton profile is that of light atoms (oil, chalk): about 0.8 keV FWHM at 21 keV.
    spread_kev = _COMPTON_SIGMA_PER_KEV * compton_kev
    return [
        *rayleigh_templates,
        *(
            Template("Compton", group_counts)
            for group_counts in _lines_as_one_group(detector, axis, compton_kev, line_intensity, spread_kev)
        ),
    ]


def _lines_as_one_group(
    detector: Detector,
    axis: EnergyAxis,
    energy_kev: NDArray[np.float64],
    line_intensity: NDArray[np.float64],
    spread_kev: NDArray[np.float64] | float = 0.0,
) -> list[NDArray[np.float64]]:
    """Return a list of the (1, n_channel) sum of all lines, normalised to one count; empty if the sum is zero."""
    is_on_axis = (energy_kev > axis.start_kev) & (energy_kev < axis.stop_kev)
    if not line_intensity[is_on_axis].sum() > 0:
        return []
    spread_on_axis_kev = spread_kev if isinstance(spread_kev, float) else spread_kev[is_on_axis]
    line_counts = (
        response_matrix(detector, axis, energy_kev[is_on_axis], spread_on_axis_kev) * line_intensity[is_on_axis, None]
    )
    return [line_counts.sum(axis=0, keepdims=True) / line_counts.sum()]


def fwhm_channels(detector: Detector, axis: EnergyAxis) -> NDArray[np.float64]:
    """Return the (n_channel,) FWHM of a peak at each channel, in channels."""
    fwhm = resolution_fwhm_kev(axis.energy_kev, detector.noise_fwhm_kev, detector.fano)
    return np.asarray(np.maximum(fwhm / axis.gain_kev, 1.5))
