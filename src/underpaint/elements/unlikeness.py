"""How unlike each spectrum is to all that known elements can make: the strongest peak that they leave over."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, sound_spectra
from underpaint.data.maps import Results
from underpaint.data.peaks import peak_columns, resolution_fwhm_kev
from underpaint.elements._families import Template, family_templates, scatter_templates
from underpaint.elements.fixed_fit import FitPlan, plan_fit
from underpaint.physics.instrument import Instrument

Array = NDArray[np.float64]
Single = NDArray[np.float32]

K_RATIO_ERROR, L_RATIO_ERROR = 0.15, 0.3
"""Of the share of each group of lines in its family: what paint above and the source's spectrum do to it."""
SHIFT_KEV, SCATTER_SHIFT_KEV, SCATTER_SPREAD_KEV = 0.003, 0.1, 0.3
"""Faults of the axis, of the Compton peak's place, and of its width."""
COUNTS_ERROR = 0.02
"""Of the counts under a peak: what the background's smooth columns do not follow."""
_STEP_FWHM = 0.5
_MERGED_FWHM = 0.25
_LEAST_LEFT = 0.02
_MARGIN_KEV = 0.1
_REFERENCE_KEV = 5.9
_AT_ONCE = 1024


@dataclass(frozen=True)
class Leftovers:
    """Matrices that turn spectra into what is left over at each energy, and its error.

    Parameters
    ----------
    known : tuple of str
        Families that are fitted along.
    energy_kev : (n_probe,) array
        Where peaks are looked for.
    merge : int
        Channels that are merged.
    peaks : (n_merged, n_probe) array
        Area of a peak beside all known columns, a count at a time.
    areas : (n_merged, n_known) array
        Areas of the known columns.
    errors : (n_known, n_probe) array
        Variance at each energy that a known column of area one brings through its faults of shape.
    windows : (n_merged, n_probe) array
        One within half a FWHM of each energy.
    settings : dict
        Known families, errors of the model, axis; JSON-serialisable.
    """

    known: tuple[str, ...]
    energy_kev: Array
    merge: int
    peaks: Single
    areas: Single
    errors: Single
    windows: Single
    settings: dict[str, Any]

    def __call__(self, counts: NDArray[Any], present: NDArray[np.bool_] | None = None) -> Single:
        """Return (n_row, n_column, 2) scores and their energies, keV, of (n_row, n_column, n_channel) counts."""
        flat = counts.reshape(-1, counts.shape[-1])
        found = [np.stack(self.score(flat[first : first + _AT_ONCE]), 1) for first in range(0, len(flat), _AT_ONCE)]
        result = np.concatenate(found).reshape(*counts.shape[:2], 2)
        if present is not None:
            result[~present] = np.nan
        return result

    def results(self, values: Single, step_mm: tuple[float, float] | None) -> Results:
        """Return (n_row, n_column, 2) scores and energies as results."""
        return Results.of_unlikeness(values[..., :1], values[..., 1:], step_mm=step_mm, settings=self.settings)

    def score(self, counts: NDArray[Any]) -> tuple[Single, Single]:
        """Return (n,) scores and their energies, keV, of (n, n_channel) spectra; NaN for spectra that are no counts."""
        sound = sound_spectra(counts)
        merged = merge_spectra(counts, self.merge, len(self.peaks))
        merged[~sound] = 0.0
        known = np.maximum(merged @ self.areas, 0.0)
        variance = merged @ self.peaks**2
        variance += known**2 @ self.errors
        variance += (COUNTS_ERROR * (merged @ self.windows)) ** 2
        left = merged @ self.peaks
        left /= np.sqrt(np.maximum(variance, 1e-12, out=variance), out=variance)
        best = left.argmax(axis=1)
        score = np.where(sound, left[np.arange(len(left)), best], np.nan)
        return score.astype(np.float32), np.where(sound, self.energy_kev[best], np.nan).astype(np.float32)


def leftovers(
    known: Sequence[str], total: NDArray[Any], axis: EnergyAxis, n_pixel: int, instrument: Instrument | None = None
) -> Leftovers:
    """Prepare scoring spectra by the strongest peak that known line families, scatter and background leave over.

    Parameters
    ----------
    known : sequence of str
        Families that may be there, ``Fe_K``; those that the axis cannot show are left out.
    total : (n_channel,) array
        Sum spectrum of the scan's pixels that are there, as from :func:`~underpaint.data.survey`.
    axis : EnergyAxis
    n_pixel : int
        Spectra in the sum.
    instrument : Instrument, optional
        As for :func:`fit_elements`; without it the tube's scattered lines count as unlike.

    Raises
    ------
    CoverageError
        None of the families lies in the recorded range.

    Notes
    -----
    At each energy, half a FWHM apart, a Gaussian peak is fitted jointly with all known columns. Its area over its
    standard deviation is the score; to the Poisson variance come what wrong ratios of lines, wrong positions and a
    background that is not smooth would feign: the known areas times ``errors``, and 2 % of the counts there.
    All this is a matrix product, as the element maps are.
    """
    counts = np.asarray(total, dtype=np.float64)
    plan = plan_fit(
        counts, counts, axis, n_pixel, families=_shown(known, axis, instrument) or known, instrument=instrument
    )
    fwhm = resolution_fwhm_kev(_REFERENCE_KEV, plan.detector.noise_fwhm_kev, plan.detector.fano)
    merge = max(int(_MERGED_FWHM * float(fwhm) / axis.gain_kev), 1)
    weight = merged_weight(plan.weight, merge)
    used = (weight > 0)[:, None]
    energy = _energies(plan, axis)
    probes = merge_channels(_peaks(plan, axis, energy), merge) * used
    root = np.sqrt(weight)[:, None]
    design = merge_channels(plan.design, merge) * used
    solver = np.linalg.pinv(design * root, rcond=1e-10) * root.T
    beside = probes - design @ (solver @ probes)
    length = np.sum(beside**2 * weight[:, None], axis=0)
    # a peak that known ones make up together cannot be looked for
    free = length > _LEAST_LEFT * np.sum(probes**2 * weight[:, None], axis=0)
    peaks = (beside * weight[:, None])[:, free] / length[free]
    n_known = len(plan.names) + len(plan.scatter)
    faults = [merge_channels(fault, merge) * used for fault in column_faults(plan, axis, instrument)]
    errors = np.stack([np.sum((peaks.T @ fault) ** 2, axis=1) for fault in faults])
    windows = probes[:, free] > 0.5 * probes[:, free].max(axis=0)
    single = tuple(own.astype(np.float32) for own in (peaks, solver[:n_known].T, errors, windows))
    return Leftovers(
        plan.names, energy[free], merge, single[0], single[1], single[2], single[3], _settings(known, axis)
    )


def _shown(known: Sequence[str], axis: EnergyAxis, instrument: Instrument | None) -> list[str]:
    """Families that the axis can show and the source excites, but for the anode's own, which scatter brings."""
    machine = Instrument() if instrument is None else instrument
    anode = {template.name for template in scatter_templates(machine, axis)} if instrument is not None else set()
    shown = family_templates(known, machine.detector, axis, machine.highest_kev)
    return [template.name for template in shown if template.name not in anode]


def _energies(plan: FitPlan, axis: EnergyAxis) -> Array:
    first, last = plan.channels
    energy, stop = float(axis.energy_kev[first]) + _MARGIN_KEV, float(axis.energy_kev[last]) - _MARGIN_KEV
    result = []
    while energy < stop:
        result.append(energy)
        energy += _STEP_FWHM * float(resolution_fwhm_kev(energy, plan.detector.noise_fwhm_kev, plan.detector.fano))
    return np.asarray(result)


def _peaks(plan: FitPlan, axis: EnergyAxis, energy_kev: Array) -> Array:
    fwhm = resolution_fwhm_kev(energy_kev, plan.detector.noise_fwhm_kev, plan.detector.fano)
    each = np.arange(energy_kev.size)
    return peak_columns(axis, energy_kev, np.ones(energy_kev.size), fwhm, each, energy_kev.size)


def column_faults(plan: FitPlan, axis: EnergyAxis, instrument: Instrument | None) -> list[Array]:
    """Return (n_channel, n_fault) wrong counts per count of each known column."""
    families = family_templates(plan.names, plan.detector, axis, plan.excitation_kev)
    scatter = [] if instrument is None else scatter_templates(instrument, axis)
    return [_faults_of(template, axis) for template in (*families, *scatter)]


def _faults_of(template: Template, axis: EnergyAxis) -> Array:
    slope = np.gradient(template.counts) / axis.gain_kev
    if template.name == "Compton":
        return np.stack([SCATTER_SHIFT_KEV * slope, 0.5 * SCATTER_SPREAD_KEV**2 * _curvature(slope, axis)], axis=1)
    ratio = K_RATIO_ERROR if template.name.endswith("_K") else L_RATIO_ERROR
    ratios = ratio * template.groups if len(template.groups) > 1 else np.zeros((0, axis.n_channel))
    return np.stack([*ratios, SHIFT_KEV * slope], axis=1)


def _curvature(slope: Array, axis: EnergyAxis) -> Array:
    return np.asarray(np.gradient(slope) / axis.gain_kev)


def merge_channels(columns: NDArray[Any], merge: int) -> NDArray[Any]:
    """Add up neighbouring channels of (n_channel, ...); what is left over at the end is dropped."""
    whole = len(columns) // merge
    return np.asarray(columns[: whole * merge].reshape(whole, merge, *columns.shape[1:]).sum(axis=1))


def merge_spectra(counts: NDArray[Any], merge: int, n_merged: int) -> Single:
    """Add up neighbouring channels of (n, n_channel) counts, as :func:`merge_channels` does; less is moved about."""
    merged = np.zeros((len(counts), n_merged), np.float32)
    for offset in range(merge):
        merged += counts[:, offset : offset + n_merged * merge : merge]
    return merged


def merged_weight(weight: Array, merge: int) -> Array:
    """Inverse variance of merged channels; zero where one of them is not used."""
    variance = merge_channels(1.0 / np.where(weight > 0, weight, np.inf), merge)
    whole = merge_channels((weight > 0).astype(np.float64), merge) == merge
    return np.asarray(np.where(whole, 1.0 / np.maximum(variance, 1e-300), 0.0))


def _settings(known: Sequence[str], axis: EnergyAxis) -> dict[str, Any]:
    return {
        "known": list(known),
        "k_ratio_error": K_RATIO_ERROR,
        "l_ratio_error": L_RATIO_ERROR,
        "shift_kev": SHIFT_KEV,
        "counts_error": COUNTS_ERROR,
        "gain_kev": axis.gain_kev,
        "zero_kev": axis.zero_kev,
    }
