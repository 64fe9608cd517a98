"""Maps of the scattered source line: counts of the Rayleigh peak and of the Compton peak.

The maps show materials without recorded lines: light materials, their thickness, and the support. The element fit
models scatter and background together. This module fits the two peaks above a linear background.
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
"""Error of a peak's counts due to errors of the peak shapes, as a fraction of the counts of both peaks."""
MIN_DETECTED_SIGMAS = 5.0
"""Smallest significance, in standard deviations, of a detected peak in the sum spectrum."""
_MIN_PEAK_DISTANCE_FWHM = 1.0
_WINDOW_MARGIN_FWHM = 1.5


@dataclass(frozen=True)
class ScatterPeaks:
    """Fit of the Rayleigh and Compton peaks of spectra.

    Parameters
    ----------
    names : tuple of str
        Detected peaks among :data:`COMPTON` and :data:`RAYLEIGH`.
    counts_matrix : (n_name, n_channel) array
        Matrix that converts the counts of a spectrum to the counts of the peaks.
    energy_kev : tuple of float
        Energies of the peaks, in keV.
    """

    names: tuple[str, ...]
    counts_matrix: NDArray[np.float32]
    energy_kev: tuple[float, ...]

    def __call__(self, counts: NDArray[Any]) -> NDArray[np.float32]:
        """Return (n, n_name, 2) peak counts and standard deviations, from (n, n_channel) counts."""
        nonzero_channels = np.flatnonzero(self.counts_matrix.any(axis=0))
        channel_range = slice(int(nonzero_channels[0]), int(nonzero_channels[-1]) + 1)
        spectra, counts_matrix = counts[:, channel_range].astype(np.float32), self.counts_matrix[:, channel_range]
        area = spectra @ counts_matrix.T
        model_error = SHAPE_ERROR * np.abs(area).sum(axis=1, keepdims=True)
        return np.stack([area, np.hypot(np.sqrt(spectra @ (counts_matrix**2).T), model_error)], axis=-1)

    def results(self, maps: NDArray[np.float32], step_mm: tuple[float, float] | None) -> Results:
        """Convert (n_row, n_column, n_name, 2) peak counts and standard deviations to results."""
        settings = {"energy_kev": dict(zip(self.names, self.energy_kev, strict=True))}
        return Results.of_scatter(self.names, maps[..., 0], maps[..., 1], step_mm=step_mm, settings=settings)


def plan_scatter(
    sum_counts: Array, axis: EnergyAxis, is_fitted: NDArray[np.bool_], templates: Sequence[Template]
) -> ScatterPeaks | None:
    """Plan the fit of the scatter peaks; return None if the source lines are unknown or not detected.

    Parameters
    ----------
    sum_counts : (n_channel,) array
        Sum spectrum in counts.
    axis : EnergyAxis
        Energy axis of the spectrum.
    is_fitted : (n_channel,) bool array
        Channels to fit.
    templates : sequence of Template
        Result of :func:`~underpaint.elements._families.scatter_templates`. Of several Compton peaks, the peak that fits
        the sum spectrum best is used.
    """
    compton_shapes = [template.counts for template in templates if template.name == COMPTON]
    rayleigh_shapes = [
        template.counts for template in templates if template.name == "Elastic" or template.name.endswith("_K")
    ]
    peak_pairs = [
        peak_pair
        for shape_pair in product(compton_shapes, rayleigh_shapes)
        if (peak_pair := _fit_peak_pair(sum_counts, axis, is_fitted, *shape_pair)) is not None
    ]
    if not peak_pairs:
        return None
    _, counts_matrix, energy_kev = min(peak_pairs, key=lambda peak_pair: peak_pair[0])
    peaks = ScatterPeaks((COMPTON, RAYLEIGH), counts_matrix.astype(np.float32), energy_kev)
    sum_counts_of_peaks = peaks(sum_counts[None])[0]
    detected_indices = [
        index
        for index in range(2)
        if sum_counts_of_peaks[index, 0] > MIN_DETECTED_SIGMAS * sum_counts_of_peaks[index, 1]
    ]
    if not detected_indices:
        return None
    return ScatterPeaks(
        tuple(peaks.names[index] for index in detected_indices),
        peaks.counts_matrix[detected_indices],
        tuple(energy_kev[index] for index in detected_indices),
    )


def _fit_peak_pair(
    sum_counts: Array, axis: EnergyAxis, is_fitted: NDArray[np.bool_], compton_shape: Array, rayleigh_shape: Array
) -> tuple[float, Array, tuple[float, float]] | None:
    """Return the misfit, the (2, n_channel) matrix from spectra to peak counts, and the peak energies in keV.

    The result is None if the peaks overlap or are outside the recorded range.
    """
    peak_channels = [int(peak_shape.argmax()) for peak_shape in (compton_shape, rayleigh_shape)]
    peak_widths = [float((peak_shape > 0.5 * peak_shape.max()).sum()) for peak_shape in (compton_shape, rayleigh_shape)]
    first_channel, last_channel = (
        peak_channels[0] - round(_WINDOW_MARGIN_FWHM * peak_widths[0]),
        peak_channels[1] + round(_WINDOW_MARGIN_FWHM * peak_widths[1]),
    )
    if (
        peak_channels[1] - peak_channels[0] < _MIN_PEAK_DISTANCE_FWHM * peak_widths[1]
        or first_channel < 0
        or last_channel >= axis.n_channel
    ):
        return None
    is_in_range = np.zeros(axis.n_channel, bool)
    is_in_range[first_channel : last_channel + 1] = True
    if not is_fitted[is_in_range].all():
        return None
    relative_position = np.linspace(-1.0, 1.0, int(is_in_range.sum()))
    fit_columns = np.stack(
        [compton_shape[is_in_range], rayleigh_shape[is_in_range], np.ones_like(relative_position), relative_position]
    )
    weight = 1.0 / np.maximum(sum_counts[is_in_range], 1.0)
    counts_matrix = np.linalg.solve((fit_columns * weight) @ fit_columns.T, fit_columns * weight)
    misfit = float(
        (weight * (sum_counts[is_in_range] - (counts_matrix @ sum_counts[is_in_range]) @ fit_columns) ** 2).sum()
        / is_in_range.sum()
    )
    channel_matrix = np.zeros((2, axis.n_channel))
    channel_matrix[:, is_in_range] = counts_matrix[:2]
    return misfit, channel_matrix, (float(axis.energy_kev[peak_channels[0]]), float(axis.energy_kev[peak_channels[1]]))
