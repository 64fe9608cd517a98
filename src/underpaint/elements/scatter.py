"""Maps of the scattered line of the source: counts of its Rayleigh and Compton peaks.

They contain information on materials without lines: light materials, their thickness, and the support. The element fit
models scatter together with the background; here the two peaks are fitted with a linear background.
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
"""Error of the counts of a peak from errors of the shapes, relative to the sum of both peaks."""
MIN_DETECTED_SIGMAS = 5.0
"""Smallest significance, standard deviations, of a detected peak in the sum spectrum."""
_MIN_DISTANCE_FWHM = 1.0
_MARGIN_FWHM = 1.5


@dataclass(frozen=True)
class ScatterPeaks:
    """Fit of the scatter peaks in spectra.

    Parameters
    ----------
    names : tuple of str
        Detected peaks among :data:`COMPTON` and :data:`RAYLEIGH`.
    gain : (n_name, n_channel) array
        Matrix from the counts of a spectrum to the counts of the peaks.
    energy_kev : tuple of float
        Energies of the peaks, in keV.
    """

    names: tuple[str, ...]
    gain: NDArray[np.float32]
    energy_kev: tuple[float, ...]

    def __call__(self, counts: NDArray[Any]) -> NDArray[np.float32]:
        """Return (n, n_name, 2) counts of peaks and their standard deviation, from (n, n_channel) counts."""
        used_channels = np.flatnonzero(self.gain.any(axis=0))
        channel_range = slice(int(used_channels[0]), int(used_channels[-1]) + 1)
        spectra, gain = counts[:, channel_range].astype(np.float32), self.gain[:, channel_range]
        area = spectra @ gain.T
        model_error = SHAPE_ERROR * np.abs(area).sum(axis=1, keepdims=True)
        return np.stack([area, np.hypot(np.sqrt(spectra @ (gain**2).T), model_error)], axis=-1)

    def results(self, values: NDArray[np.float32], step_mm: tuple[float, float] | None) -> Results:
        """Return (n_row, n_column, n_name, 2) counts and standard deviations as results."""
        settings = {"energy_kev": dict(zip(self.names, self.energy_kev, strict=True))}
        return Results.of_scatter(self.names, values[..., 0], values[..., 1], step_mm=step_mm, settings=settings)


def plan_scatter(
    total: Array, axis: EnergyAxis, used: NDArray[np.bool_], templates: Sequence[Template]
) -> ScatterPeaks | None:
    """Return the fit of the scatter peaks; None if the lines of the source are unknown or not detected.

    Parameters
    ----------
    total : (n_channel,) array
        Sum spectrum in counts.
    axis : EnergyAxis
        Energy axis of the spectrum.
    used : (n_channel,) bool array
        Channels to fit.
    templates : sequence of Template
        Result of :func:`~underpaint.elements._families.scatter_templates`; of several Compton peaks, the one that fits
        the sum spectrum best is used.
    """
    compton_shapes = [template.counts for template in templates if template.name == COMPTON]
    rayleigh_shapes = [
        template.counts for template in templates if template.name == "Elastic" or template.name.endswith("_K")
    ]
    fits = [
        fit for pair in product(compton_shapes, rayleigh_shapes) if (fit := _fit(total, axis, used, *pair)) is not None
    ]
    if not fits:
        return None
    _, gain, energy = min(fits, key=lambda fit: fit[0])
    peaks = ScatterPeaks((COMPTON, RAYLEIGH), gain.astype(np.float32), energy)
    summed = peaks(total[None])[0]
    detected = [index for index in range(2) if summed[index, 0] > MIN_DETECTED_SIGMAS * summed[index, 1]]
    if not detected:
        return None
    return ScatterPeaks(
        tuple(peaks.names[index] for index in detected),
        peaks.gain[detected],
        tuple(energy[index] for index in detected),
    )


def _fit(
    total: Array, axis: EnergyAxis, used: NDArray[np.bool_], compton: Array, rayleigh: Array
) -> tuple[float, Array, tuple[float, float]] | None:
    """Return the misfit of the sum spectrum, the (2, n_channel) matrix from spectra to peaks, and their energies, keV.

    The result is None if the peaks overlap or are outside the recorded range.
    """
    peak_channels = [int(peak.argmax()) for peak in (compton, rayleigh)]
    widths = [float((peak > 0.5 * peak.max()).sum()) for peak in (compton, rayleigh)]
    first_channel, last_channel = (
        peak_channels[0] - round(_MARGIN_FWHM * widths[0]),
        peak_channels[1] + round(_MARGIN_FWHM * widths[1]),
    )
    if (
        peak_channels[1] - peak_channels[0] < _MIN_DISTANCE_FWHM * widths[1]
        or first_channel < 0
        or last_channel >= axis.n_channel
    ):
        return None
    in_range = np.zeros(axis.n_channel, bool)
    in_range[first_channel : last_channel + 1] = True
    if not used[in_range].all():
        return None
    position = np.linspace(-1.0, 1.0, int(in_range.sum()))
    columns = np.stack([compton[in_range], rayleigh[in_range], np.ones_like(position), position])
    weight = 1.0 / np.maximum(total[in_range], 1.0)
    gain = np.linalg.solve((columns * weight) @ columns.T, columns * weight)
    misfit = float((weight * (total[in_range] - (gain @ total[in_range]) @ columns) ** 2).sum() / in_range.sum())
    full_gain = np.zeros((2, axis.n_channel))
    full_gain[:, in_range] = gain[:2]
    return misfit, full_gain, (float(axis.energy_kev[peak_channels[0]]), float(axis.energy_kev[peak_channels[1]]))
