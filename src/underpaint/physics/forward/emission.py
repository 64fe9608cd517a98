"""Photons that leave the painting towards the detector: lines by layer and order, and scattered tube radiation."""

from dataclasses import dataclass
from typing import Any

from underpaint.physics.atomic import LineTable

Array = Any
"""An array of numpy or torch."""
ORDERS = ("primary", "secondary", "tertiary", "by_scatter", "rescattered")
"""Origins of a line's photons, the fields of ``Emission``."""
SCATTER = ("coherent", "compton", "multiple", "air")
"""Contributions other than lines of the sample, the fields of ``Emission``."""


@dataclass(frozen=True)
class Emission:
    """Photons that reach the detector's window, on one common scale for lines and scatter.

    All values are per unit weight of the source and per 4 pi of emission (a detector with the solid angle ``omega``
    records ``omega / 4 pi`` of them), after absorption in the layers above and in air.

    Parameters
    ----------
    lines : LineTable
        n_line lines.
    primary, secondary, tertiary, by_scatter, rescattered : (n_sample, n_layer, n_line) arrays
        Lines excited by the beam, by primary fluorescence, by secondary fluorescence and by scattered tube radiation;
        and lines scattered coherently on their way out. By layer of origin, from the surface down; zero for layers that
        a sample lacks.
    source_kev, width_kev : (n_energy,) arrays
        Energies of the coherent scatter, keV, and the widths of their bins (zero for lines).
    coherent : (n_sample, n_energy) array
        Rayleigh scatter, first order.
    compton_kev, compton_width_kev : (n_grid,) arrays
        Middles and widths of the bins of ``compton``, ``multiple`` and ``air``, keV.
    compton : (n_sample, n_grid) array
        Compton scatter, first order, spread by the electrons' motion.
    multiple : (n_sample, n_grid) array
        Tube radiation scattered more than once, and lines after Compton scatter.
    air : (n_sample, n_grid) array
        Argon lines and scatter of the air that the detector sees; the same for all samples.
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
        """(n_sample, n_grid) sum of all that is given on the grid ``compton_kev``."""
        return self.compton + self.multiple + self.air

    @property
    def line_photons(self) -> Array:
        """(n_sample, n_line) photons of all orders from all layers."""
        return self.layer_photons.sum(1)
