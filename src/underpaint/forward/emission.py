"""What leaves the painting towards the detector: lines by layer of origin, and scattered tube radiation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.atomic import LineTable

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Emission:
    """Photons that reach the detector's window, on one common scale for lines and scatter.

    All are per photon-weight of the source and per 4 pi of emission (a detector that sees the solid angle
    ``omega`` records ``omega / 4 pi`` of them), after absorption in the layers above and the air path.

    Parameters
    ----------
    lines : LineTable
        n_line lines.
    primary, secondary : (n_sample, n_layer, n_line) arrays
        By layer of origin, from the surface down; zero for layers that a sample does not have.
    source_kev, width_kev : (n_energy,) arrays
        Energies of the coherent scatter, keV, and the widths of their bins (zero for lines).
    compton_kev, compton_sigma_kev : (n_energy,) arrays
        Energies of the Compton scatter and its spread by the electrons' motion, keV.
    coherent, compton : (n_sample, n_energy) arrays
        First-order scatter.
    """

    lines: LineTable
    primary: Array
    secondary: Array
    source_kev: Array
    width_kev: Array
    compton_kev: Array
    compton_sigma_kev: Array
    coherent: Array
    compton: Array

    @property
    def line_photons(self) -> Array:
        """(n_sample, n_line) primary and secondary photons from all layers."""
        return np.asarray((self.primary + self.secondary).sum(axis=1))
