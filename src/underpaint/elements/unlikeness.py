"""Unlikeness of a spectrum: significance of the strongest peak that known elements do not explain."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.data.maps import Results
from underpaint.data.peaks import resolution_fwhm_kev
from underpaint.elements._families import family_templates
from underpaint.elements.evidence import BACKGROUND_ERROR, MIN_AREA_SIGMA
from underpaint.elements.variable_fit import Evidence, VariableFit
from underpaint.physics.instrument import Detector, Instrument

_MIN_LINE_GROUP_FRACTION = 0.02
"""Minimum fraction of its family's counts for a line group to exclude unassigned peaks at the group's energy."""
_MIN_LINE_DISTANCE_FWHM = 1.0


@dataclass(frozen=True)
class Unlikeness:
    """Test of fitted spectra for peaks that no known element explains.

    Parameters
    ----------
    columns : (n,) int array
        Columns of the fit for families of unknown elements and for unassigned peaks.
    energy_kev : (n,) array
        Energies of the tested peaks, in keV.
    errors : (n,) array
        Relative error of the background counts below each peak; zero for families.
    settings : dict
        Known families and axis; JSON-serialisable.
    """

    columns: NDArray[np.intp]
    energy_kev: NDArray[np.float64]
    errors: NDArray[np.float32]
    settings: dict[str, Any]

    def __call__(self, fit: Evidence) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the (n,) significance of the strongest unexplained peak, in sigmas, and the peak's energy in keV."""
        area, sigma, background = (
            evidence_array[:, self.columns] for evidence_array in (fit.area, fit.sigma_if_absent, fit.background)
        )
        deviations = area / np.maximum(np.hypot(sigma, self.errors * background), MIN_AREA_SIGMA)
        best_column = deviations.argmax(axis=1)
        return deviations[np.arange(len(deviations)), best_column], self.energy_kev[best_column].astype(np.float32)

    def results(self, score_maps: NDArray[np.float32], step_mm: tuple[float, float] | None) -> Results:
        """Convert (n_row, n_column, 2) scores and peak energies to results."""
        return Results.of_unlikeness(score_maps[..., :1], score_maps[..., 1:], step_mm=step_mm, settings=self.settings)


def unlikeness(
    families: Sequence[str], fit: VariableFit, axis: EnergyAxis, instrument: Instrument | None = None
) -> Unlikeness:
    """Return the test for peaks that known families, scatter and background do not explain.

    Parameters
    ----------
    families : sequence of str
        Known families, such as ``Fe_K``.
    fit : VariableFit
        Fit of the scan with unassigned peaks.
    axis : EnergyAxis
        Energy axis of the scan.
    instrument : Instrument, optional
        See :func:`fit_elements`; without an instrument, scattered tube lines count as unexplained peaks.

    Notes
    -----
    The score is a peak's area divided by the standard deviation of the area in the fit of all families. The standard
    deviation includes interference. Tested peaks are families of unknown elements, and unassigned Gaussian peaks.
    Unassigned peaks near lines of known families without a fit are not tested.
    """
    detector = fit.detector
    highest_kev = Instrument().highest_kev if instrument is None else instrument.highest_kev
    strongest_line_kev = {
        template.name: float(axis.energy_kev[template.groups[0].argmax()])
        for template in family_templates(fit.names, detector, axis, highest_kev)
    }
    unknown_families = [name for name in fit.names if name not in families and name in strongest_line_kev]
    unfitted_families = [name for name in families if name not in fit.names]
    explained_kev = [
        float(axis.energy_kev[group_counts.argmax()])
        for template in family_templates(unfitted_families, detector, axis, highest_kev)
        for group_counts in template.groups
        if group_counts.sum() > _MIN_LINE_GROUP_FRACTION
    ]
    is_clear = np.ones(fit.peak_kev.size, bool)
    for energy_kev in explained_kev:
        is_clear &= np.abs(fit.peak_kev - energy_kev) > _MIN_LINE_DISTANCE_FWHM * _peak_fwhm_kev(energy_kev, detector)
    first_peak_column = len(fit.names) + fit.n_source
    return Unlikeness(
        np.asarray([*map(fit.names.index, unknown_families), *(first_peak_column + np.flatnonzero(is_clear))], np.intp),
        np.asarray([*(strongest_line_kev[name] for name in unknown_families), *fit.peak_kev[is_clear]]),
        np.where(
            np.arange(len(unknown_families) + is_clear.sum()) < len(unknown_families), 0.0, BACKGROUND_ERROR
        ).astype(np.float32),
        {"known": list(families), "gain_kev": axis.gain_kev, "zero_kev": axis.zero_kev},
    )


def _peak_fwhm_kev(energy_kev: float, detector: Detector) -> float:
    return float(resolution_fwhm_kev(energy_kev, detector.noise_fwhm_kev, detector.fano))
