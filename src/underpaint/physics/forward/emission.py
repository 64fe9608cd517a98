"""Photons that leave the painting towards the detector: lines by layer and order, and scatter of the tube radiation."""

from dataclasses import dataclass
from typing import Any

from underpaint.physics.atomic import LineTable

Array = Any
"""Array of numpy or torch."""
ORDERS = ("primary", "secondary", "tertiary", "by_scatter", "rescattered")
"""Fields of ``Emission`` that hold line photons, by their excitation."""
SCATTER = ("coherent", "compton", "multiple", "air")
"""Fields of ``Emission`` with contributions other than lines of the sample."""


@dataclass(frozen=True)
class Emission:
    """Photons that reach the detector's window, with the same scale for lines and scatter.

    All values are per unit weight of the source and per 4 pi of emission, after absorption in the layers above and in
    air. A detector with the solid angle ``omega`` records the fraction ``omega / 4 pi`` of these photons.

    Parameters
    ----------
    lines : LineTable
        The n_line lines.
    primary, secondary, tertiary, by_scatter : (n_sample, n_layer, n_line) arrays
        Line photons excited by the beam, by primary fluorescence, by secondary fluorescence and by scattered tube
        radiation, by layer of origin from the surface down; zero for layers that a sample lacks.
    rescattered : (n_sample, n_layer, n_line) array
        Line photons that are scattered coherently on their way out, by layer of origin.
    source_kev, width_kev : (n_energy,) arrays
        Energies of the coherent scatter and the widths of their bins (zero for lines), in keV.
    coherent : (n_sample, n_energy) array
        Rayleigh scatter, first order.
    compton_kev, compton_width_kev : (n_grid,) arrays
        Centres and widths of the bins of ``compton``, ``multiple`` and ``air``, in keV.
    compton : (n_sample, n_grid) array
        Compton scatter, first order, broadened by the motion of the electrons.
    multiple : (n_sample, n_grid) array
        Tube radiation scattered more than once, and lines after Compton scatter.
    air : (n_sample, n_grid) array
        Argon lines and scatter from the air in the detector's field of view; the same for all samples.
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
        """(n_sample, n_layer, n_line) photons of all orders by layer of origin."""
        return self.primary + self.secondary + self.tertiary + self.by_scatter + self.rescattered

    @property
    def shifted(self) -> Array:
        """(n_sample, n_grid) sum of Compton, multiple and air scatter, on the grid ``compton_kev``."""
        return self.compton + self.multiple + self.air

    @property
    def line_photons(self) -> Array:
        """(n_sample, n_line) photons of all orders from all layers."""
        return self.layer_photons.sum(1)
