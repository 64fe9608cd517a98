"""Photons that leave the painting towards the detector: lines, by layer and order, and scattered tube radiation."""

from dataclasses import dataclass
from typing import Any

from underpaint.physics.atomic import LineTable

Array = Any
"""A numpy or torch array."""
ORDERS = ("primary", "secondary", "tertiary", "by_scatter", "rescattered")
"""Fields of ``Emission`` that hold line photons, by excitation; ``rescattered`` photons are scattered afterwards."""
SCATTER = ("coherent", "compton", "multiple", "air")
"""Fields of ``Emission`` that hold photons other than line photons of the sample."""


@dataclass(frozen=True)
class Emission:
    """Photons that reach the detector's window; lines and scatter have the same scale.

    All values are numbers of photons after absorption in the layers above and in air. All values are for unit weight of
    the source and a solid angle of 4 pi. A detector with the solid angle ``omega`` receives the fraction ``omega / 4
    pi`` of the photons.

    Parameters
    ----------
    lines : LineTable
        The n_line lines.
    primary, secondary, tertiary, by_scatter : (n_sample, n_layer, n_line) arrays
        Line photons, by layer of origin from the surface down. The photons are excited by the beam, by primary
        fluorescence, by secondary fluorescence, and by scattered tube radiation, respectively. Entries for layers that
        a sample lacks are zero.
    rescattered : (n_sample, n_layer, n_line) array
        Line photons that are scattered coherently before they leave the sample, by layer of origin.
    source_kev, width_kev : (n_energy,) arrays
        Energies of coherent scatter, and the bin widths at these energies (zero for lines), in keV.
    coherent : (n_sample, n_energy) array
        First-order Rayleigh scatter.
    compton_kev, compton_width_kev : (n_grid,) arrays
        Centres and widths of the bins of ``compton``, ``multiple`` and ``air``, in keV.
    compton : (n_sample, n_grid) array
        First-order Compton scatter, broadened by the motion of electrons.
    multiple : (n_sample, n_grid) array
        Tube radiation that is scattered more than once, and lines after Compton scatter.
    air : (n_sample, n_grid) array
        Argon lines and scatter from the air in the detector's field of view. Photons from the air are the same for all
        samples.
    """

    lines: LineTable
    primary: Array
    secondary: Array
    tertiary: Array
    by_scatter: Array
    rescattered: Array
    source_kev: Array
    width_kev: Array
    coherent: Array
    compton_kev: Array
    compton_width_kev: Array
    compton: Array
    multiple: Array
    air: Array

    @property
    def layer_photons(self) -> Array:
        """(n_sample, n_layer, n_line) line photons, summed over the orders, by layer of origin."""
        return self.primary + self.secondary + self.tertiary + self.by_scatter + self.rescattered

    @property
    def shifted(self) -> Array:
        """(n_sample, n_grid) sum of Compton, multiple and air scatter, on the grid ``compton_kev``."""
        return self.compton + self.multiple + self.air

    @property
    def line_photons(self) -> Array:
        """(n_sample, n_line) line photons, summed over orders and layers."""
        return self.layer_photons.sum(1)
