"""Maps of scatter: counts of the source's line that comes back unshifted (Rayleigh), and with Compton shift.

They carry information on material without lines: light matter, its thickness, and the support behind it. The element
fit models scatter together with the background; here the two peaks are separated by a fit of their shapes over a linear
background.
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
"""Relative error of both peaks together, from the error of their shapes."""
SHOWN_SIGMAS = 5.0
"""Standard deviations from which a peak is detected in the sum spectrum."""
_MIN_APART_FWHM = 1.0
_MARGIN_FWHM = 1.5


@dataclass(frozen=True)
class ScatterPeaks:
    """Fit of the scatter peaks in spectra.

    Parameters
    ----------
    names : tuple of str
        :data:`COMPTON` and :data:`RAYLEIGH`, or the detected one.
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
    """Prepare the maps of scatter; None if the source's K lines or beam are unknown or not detected.

    Parameters
    ----------
    total : (n_channel,) array
        Sum spectrum, counts.
    axis : EnergyAxis
    used : (n_channel,) bool array
        Channels used.
    templates : sequence of Template
        From :func:`~underpaint.elements._families.scatter_templates`; of several Compton peaks, the best fit to the sum
        spectrum is used.
    """
    shifted = [template.counts for template in templates if template.name == COMPTON]
    unshifted = [
        template.counts for template in templates if template.name == "Elastic" or template.name.endswith("_K")
    ]
    fits = [fit for pair in product(shifted, unshifted) if (fit := _fit(total, axis, used, *pair)) is not None]
    if not fits:
        return None
    _, gain, energy = min(fits, key=lambda fit: fit[0])
    peaks = ScatterPeaks((COMPTON, RAYLEIGH), gain.astype(np.float32), energy)
    summed = peaks(total[None])[0]
    shown = [index for index in range(2) if summed[index, 0] > SHOWN_SIGMAS * summed[index, 1]]
    if not shown:
        return None
    return ScatterPeaks(
        tuple(peaks.names[index] for index in shown), peaks.gain[shown], tuple(energy[index] for index in shown)
    )


def _fit(
    total: Array, axis: EnergyAxis, used: NDArray[np.bool_], shifted: Array, unshifted: Array
) -> tuple[float, Array, tuple[float, float]] | None:
    """Return the misfit of the sum spectrum, the (2, n_channel) matrix from counts to peak counts, and the energies.

    None if the peaks overlap, or are outside the recorded range.
    """
    places = [int(peak.argmax()) for peak in (shifted, unshifted)]
    widths = [float((peak > 0.5 * peak.max()).sum()) for peak in (shifted, unshifted)]
    first, last = places[0] - round(_MARGIN_FWHM * widths[0]), places[1] + round(_MARGIN_FWHM * widths[1])
    if places[1] - places[0] < _MIN_APART_FWHM * widths[1] or first < 0 or last >= axis.n_channel:
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
    spectra = np.zeros((2, axis.n_channel))
    spectra[:, inside] = gain[:2]
    return misfit, spectra, (float(axis.energy_kev[places[0]]), float(axis.energy_kev[places[1]]))
