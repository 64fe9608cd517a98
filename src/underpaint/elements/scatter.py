"""Maps of scatter: counts of the source's line that comes back unshifted (Rayleigh), and with Compton shift.

They tell of what emits no lines of its own: light matter, its thickness, and what lies behind it. The fit of elements
takes scatter, with the background, from the forward model as one; here the two peaks are taken apart by a fit of their
shapes over a straight background between them and around them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.data.maps import Results
from underpaint.elements._families import Template

Array = NDArray[np.float64]
COMPTON, RAYLEIGH = "Compton", "Rayleigh"
SHAPE_ERROR = 0.01
"""Of both peaks together: what their shapes do not describe, and takes from one to the other."""
SHOWN_SIGMAS = 5.0
"""Standard deviations from which the sum spectrum shows a peak."""
_LEAST_APART_FWHM = 1.0
_MARGIN_FWHM = 1.5


@dataclass(frozen=True)
class ScatterPeaks:
    """Takes counts of scatter out of spectra.

    Parameters
    ----------
    names : tuple of str
        :data:`COMPTON` and :data:`RAYLEIGH`, or the one that the scan shows.
    gain : (n_name, n_channel) array
        Counts of a peak, over all its lines, are ``gain @ counts``.
    energy_kev : tuple of float
        Of the peaks, keV.
    """

    names: tuple[str, ...]
    gain: NDArray[np.float32]
    energy_kev: tuple[float, ...]

    def __call__(self, counts: NDArray[Any]) -> NDArray[np.float32]:
        """Return (n, n_name, 2) counts of peaks and one standard deviation, of (n, n_channel) counts."""
        inside = np.flatnonzero(self.gain.any(axis=0))
        part = slice(int(inside[0]), int(inside[-1]) + 1)
        spectra, gain = counts[:, part].astype(np.float32), self.gain[:, part]
        area = spectra @ gain.T
        model = SHAPE_ERROR * np.abs(area).sum(axis=1, keepdims=True)
        return np.stack([area, np.hypot(np.sqrt(spectra @ (gain**2).T), model)], axis=-1)

    def results(self, values: NDArray[np.float32], step_mm: tuple[float, float] | None) -> Results:
        """Return (n_row, n_column, n_name, 2) counts and deviations as results."""
        settings = {"energy_kev": dict(zip(self.names, self.energy_kev, strict=True))}
        return Results.of_scatter(self.names, values[..., 0], values[..., 1], step_mm=step_mm, settings=settings)


def plan_scatter(
    total: Array, axis: EnergyAxis, used: NDArray[np.bool_], templates: Sequence[Template]
) -> ScatterPeaks | None:
    """Prepare the maps of scatter; None where the source's K lines, or its beam, are not known or not seen.

    Parameters
    ----------
    total : (n_channel,) array
        Sum spectrum, counts.
    axis : EnergyAxis
    used : (n_channel,) bool array
        Channels used.
    templates : sequence of Template
        As of :func:`~underpaint.elements._families.scatter_templates`; of several Compton peaks the one is taken that
        describes the sum spectrum best.
    """
    shifted = [one.counts for one in templates if one.name == COMPTON]
    unshifted = [one.counts for one in templates if one.name == "Elastic" or one.name.endswith("_K")]
    fits = [fit for pair in product(shifted, unshifted) if (fit := _fit(total, axis, used, *pair)) is not None]
    if not fits:
        return None
    _, gain, energy = min(fits, key=lambda fit: fit[0])
    whole = ScatterPeaks((COMPTON, RAYLEIGH), gain.astype(np.float32), energy)
    summed = whole(total[None])[0]
    shown = [index for index in range(2) if summed[index, 0] > SHOWN_SIGMAS * summed[index, 1]]
    if not shown:
        return None
    return ScatterPeaks(
        tuple(whole.names[index] for index in shown), whole.gain[shown], tuple(energy[index] for index in shown)
    )


def _fit(
    total: Array, axis: EnergyAxis, used: NDArray[np.bool_], shifted: Array, unshifted: Array
) -> tuple[float, Array, tuple[float, float]] | None:
    """Return the misfit of the sum spectrum, (2, n_channel) what turns counts into those of the peaks, and energies.

    None where the peaks are not apart, or lie where nothing was recorded.
    """
    places = [int(one.argmax()) for one in (shifted, unshifted)]
    widths = [float((one > 0.5 * one.max()).sum()) for one in (shifted, unshifted)]
    first, last = places[0] - round(_MARGIN_FWHM * widths[0]), places[1] + round(_MARGIN_FWHM * widths[1])
    if places[1] - places[0] < _LEAST_APART_FWHM * widths[1] or first < 0 or last >= axis.n_channel:
        return None
    inside = np.zeros(axis.n_channel, bool)
    inside[first : last + 1] = True
    if not used[inside].all():
        return None
    place = np.linspace(-1.0, 1.0, int(inside.sum()))
    columns = np.stack([shifted[inside], unshifted[inside], np.ones_like(place), place])
    weight = 1.0 / np.maximum(total[inside], 1.0)
    gain = np.linalg.solve((columns * weight) @ columns.T, columns * weight)
    misfit = float((weight * (total[inside] - (gain @ total[inside]) @ columns) ** 2).sum() / inside.sum())
    whole = np.zeros((2, axis.n_channel))
    whole[:, inside] = gain[:2]
    return misfit, whole, (float(axis.energy_kev[places[0]]), float(axis.energy_kev[places[1]]))
