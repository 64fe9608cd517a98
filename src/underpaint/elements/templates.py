"""What each line family looks like in a detector: the columns of the fit."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.atomic import compton_energy, family_lines
from underpaint.forward import efficiency, response_matrix
from underpaint.instrument import Detector
from underpaint.spectrum import EnergyAxis

Array = NDArray[np.float64]
ESCAPE_AND_PEAK = {"shelf_fraction": 0.0, "tail_fraction": 0.0}
"""Shelf and tail vary slowly and go with the background."""
COMPTON_SIGMA_PER_KEV = 0.014
"""Compton peaks of paint are 0.3 keV wide (standard deviation) at 20 keV: the electrons' motion, Cooper 1985."""


@dataclass(frozen=True)
class Templates:
    """Columns of the linear fit.

    Parameters
    ----------
    names : tuple of str
        Line families, then scatter peaks (names that begin with ``scatter``).
    columns : (n_name, n_channel) array
        Each sums to one over all energies, escape peak included; less where the axis ends earlier.
    """

    names: tuple[str, ...]
    columns: Array

    def without(self, dropped: set[str]) -> "Templates":
        """Return the templates but some."""
        keep = [index for index, name in enumerate(self.names) if name not in dropped]
        return Templates(tuple(self.names[index] for index in keep), self.columns[keep])


def family_templates(
    families: tuple[str, ...], detector: Detector, axis: EnergyAxis, excitation_kev: float
) -> Templates:
    """Return the templates of line families that a source of ``excitation_kev`` excites on this axis."""
    names, columns = [], []
    for family in families:
        element, shell = family.split("_")
        energy, ratio = family_lines(element, shell, excitation_kev)
        inside = (energy > axis.start_kev) & (energy < axis.stop_kev)
        if ratio[inside].sum() > 0.05:
            names.append(family)
            columns.append(_column(detector, axis, energy, ratio))
    return Templates(tuple(names), np.asarray(columns).reshape(len(names), axis.n_channel))


def scatter_templates(anode: str, detector: Detector, axis: EnergyAxis, angle_deg: float) -> Templates:
    """Return the coherent and the Compton peaks of the anode's lines."""
    names, columns = [], []
    for shell, highest in (("K", axis.stop_kev + 20.0), ("L", 60.0)):
        energy, ratio = family_lines(anode, shell, highest)
        if not np.any((energy > axis.start_kev) & (energy < axis.stop_kev)):
            continue
        shifted = compton_energy(energy, angle_deg)
        names += [f"scatter_{anode}_{shell}_coherent", f"scatter_{anode}_{shell}_compton"]
        columns += [
            _column(detector, axis, energy, ratio),
            _column(detector, axis, shifted, ratio, COMPTON_SIGMA_PER_KEV * shifted),
        ]
    return Templates(tuple(names), np.asarray(columns).reshape(len(names), axis.n_channel))


def _column(detector: Detector, axis: EnergyAxis, energy: Array, ratio: Array, spread: Array | float = 0.0) -> Array:
    peaked = detector.model_copy(update=ESCAPE_AND_PEAK)
    weight = ratio / ratio.sum()
    matrix = response_matrix(peaked, axis, energy, spread)
    # the efficiency has its place in the ratios between lines; the family as a whole is counted as detected
    whole = np.sum(weight * efficiency(peaked, energy))
    return np.asarray(weight @ matrix / whole)
