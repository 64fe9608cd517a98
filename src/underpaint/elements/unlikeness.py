"""Unlikeness: how badly known elements explain each spectrum, by its strongest unassigned peak."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.data.maps import Results
from underpaint.data.peaks import resolution_fwhm_kev
from underpaint.elements._families import family_templates
from underpaint.elements.evidence import BACKGROUND_ERROR, MIN_SIGMA
from underpaint.elements.variable_fit import Evidence, VariableFit
from underpaint.physics.instrument import Detector, Instrument

_MIN_GROUP = 0.02
"""Share of a family above which no unassigned peak is sought on a group of its lines."""
_CLEAR_FWHM = 1.0


@dataclass(frozen=True)
class Unlikeness:
    """Columns of a fit that no known element explains.

    Parameters
    ----------
    columns : (n,) int array
        Columns of families of unknown elements and of unassigned peaks.
    energy_kev : (n,) array
        Their energies, keV.
    errors : (n,) array
        Relative error of the counts under each; for unassigned peaks, that of the background.
    settings : dict
        Known families and axis; JSON-serialisable.
    """

    columns: NDArray[np.intp]
    energy_kev: NDArray[np.float64]
    errors: NDArray[np.float32]
    settings: dict[str, Any]

    def __call__(self, shown: Evidence) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (n,) scores of spectra, standard deviations of the strongest such peak, and its energies, keV."""
        area, sigma, under = (part[:, self.columns] for part in (shown.area, shown.sigma_if_absent, shown.under))
        deviations = area / np.maximum(np.hypot(sigma, self.errors * under), MIN_SIGMA)
        best = deviations.argmax(axis=1)
        return deviations[np.arange(len(deviations)), best], self.energy_kev[best].astype(np.float32)

    def results(self, values: NDArray[np.float32], step_mm: tuple[float, float] | None) -> Results:
        """Return (n_row, n_column, 2) scores and energies as results."""
        return Results.of_unlikeness(values[..., :1], values[..., 1:], step_mm=step_mm, settings=self.settings)


def unlikeness(
    families: Sequence[str], fit: VariableFit, axis: EnergyAxis, instrument: Instrument | None = None
) -> Unlikeness:
    """Prepare a score of spectra by the strongest peak that known families, scatter and background do not explain.

    Parameters
    ----------
    families : sequence of str
        Families that may be there, ``Fe_K``.
    fit : VariableFit
        Planned for the scan, with peaks of no family.
    axis : EnergyAxis
    instrument : Instrument, optional
        As for :func:`fit_elements`; without it the tube's scattered lines count as unlike.

    Notes
    -----
    The score is area over standard deviation in the fit of all families, so interference is part of the deviation.
    The score covers families of unknown elements and Gaussian peaks in addition to all columns of the fit, except on
    lines of a known family that is not fitted.
    """
    detector = fit.detector
    highest = Instrument().highest_kev if instrument is None else instrument.highest_kev
    strongest = {
        template.name: float(axis.energy_kev[template.groups[0].argmax()])
        for template in family_templates(fit.names, detector, axis, highest)
    }
    strange = [name for name in fit.names if name not in families and name in strongest]
    additional = [name for name in families if name not in fit.names]
    explained = [
        float(axis.energy_kev[group.argmax()])
        for template in family_templates(additional, detector, axis, highest)
        for group in template.groups
        if group.sum() > _MIN_GROUP
    ]
    clear = np.ones(fit.peak_kev.size, bool)
    for energy in explained:
        clear &= np.abs(fit.peak_kev - energy) > _CLEAR_FWHM * _fwhm(energy, detector)
    first = len(fit.names) + fit.n_source
    return Unlikeness(
        np.asarray([*map(fit.names.index, strange), *(first + np.flatnonzero(clear))], np.intp),
        np.asarray([*(strongest[name] for name in strange), *fit.peak_kev[clear]]),
        np.where(np.arange(len(strange) + clear.sum()) < len(strange), 0.0, BACKGROUND_ERROR).astype(np.float32),
        {"known": list(families), "gain_kev": axis.gain_kev, "zero_kev": axis.zero_kev},
    )


def _fwhm(energy_kev: float, detector: Detector) -> float:
    return float(resolution_fwhm_kev(energy_kev, detector.noise_fwhm_kev, detector.fano))
