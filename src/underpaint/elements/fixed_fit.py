"""Linear fit of line families with fixed ratios, from the sum and maximum spectra of a scan.

It selects families and resolution quickly, but its areas are wrong where paint absorbs: see ``variable_fit``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from underpaint.data import EnergyAxis
from underpaint.elements._families import (
    FIXED_CANDIDATES,
    Template,
    family_templates,
    fwhm_channels,
    is_recorded,
    scatter_templates,
)
from underpaint.elements._selection import (
    Problem,
    Recorded,
    fit_noise,
    max_spectrum,
    refine_ratios,
    significant,
    sum_spectrum,
)
from underpaint.errors import CoverageError
from underpaint.physics.instrument import Detector, Instrument

Array = NDArray[np.float64]

_LOWEST_KEV = 1.2
_EXCITATION_KEV = 40.0


@dataclass(frozen=True)
class FitPlan:
    """The linear fit, ready to be applied to any number of pixels.

    Parameters
    ----------
    names : tuple of str
        Families, ``Fe_K``.
    design : (n_channel, n_column) array
        Templates, then scatter, then background; zero in channels that are not used.
    weight : (n_channel,) array
        Inverse variance, from the mean spectrum; zero in channels that are not used.
    detector : Detector
        Resolution and crystal in use.
    excitation_kev : float
        Highest photon energy, keV.
    scatter : tuple of str
        Scatter peaks that are fitted along.
    """

    names: tuple[str, ...]
    design: Array
    weight: Array
    detector: Detector
    excitation_kev: float
    scatter: tuple[str, ...] = ()

    @property
    def channels(self) -> tuple[int, int]:
        """First and last channel of the fit."""
        used = np.flatnonzero(self.weight > 0)
        return int(used[0]), int(used[-1])

    def solver(self, n_column: int | None = None) -> Array:
        """(n_column, n_channel) matrix that turns counts into the areas of the first columns of the design."""
        root = np.sqrt(self.weight)[:, None]
        return np.asarray(np.linalg.pinv(self.design[:, :n_column] * root, rcond=1e-10) * root.T)


@dataclass(frozen=True)
class Stage:
    """Input of the selection of families."""

    total: Array
    highest: Array
    axis: EnergyAxis
    used: NDArray[np.bool_]
    detector: Detector
    excitation_kev: float
    scatter: tuple[Template, ...]

    def sum_spectrum(self) -> Recorded:
        """Sum spectrum for fitting at the resolution assumed."""
        return sum_spectrum(self.total, fwhm_channels(self.detector, self.axis), self.axis.energy_kev, self.used)

    def max_spectrum(self) -> Recorded:
        """Maximum spectrum for fitting at the resolution assumed."""
        return max_spectrum(self.highest, fwhm_channels(self.detector, self.axis), self.axis.energy_kev, self.used)


def plan_fit(
    total: Array,
    highest: Array,
    axis: EnergyAxis,
    n_pixel: int,
    *,
    families: Sequence[str] | None = None,
    instrument: Instrument | None = None,
) -> FitPlan:
    """Choose families, resolution, line ratios, background and weights from the sum and maximum spectra.

    Parameters
    ----------
    total, highest : (n_channel,) arrays
        Sum and maximum over the pixels, counts.
    axis : EnergyAxis
        Energy axis.
    n_pixel : int
        Number of pixels in the sum.
    families, instrument
        As in :func:`fit_elements`.

    Returns
    -------
    FitPlan
        Ready for every pixel.

    Raises
    ------
    CoverageError
        No family is detected, or a requested one is outside the recorded range.
    """
    stage = stage_of(total, highest, axis, instrument)
    names = candidates_of(families, stage)
    stage = with_resolution(stage, names, instrument)
    chosen = names if families is not None else chosen_families(stage, names, rare_pixels=True)
    if not chosen:
        raise CoverageError(
            "Cannot fit elements: no line family is detected. Name the families, or check the energy axis."
        )
    plan = _plan(stage, chosen, n_pixel)
    if families is not None:
        return plan
    # A negative area in the sum spectrum is due to an error in the shape of a strong neighbour.
    areas = plan.solver() @ total
    positive = [name for name, area in zip(plan.names, areas, strict=False) if area > 0]
    return plan if len(positive) in (0, len(plan.names)) else _plan(stage, positive, n_pixel)


def _plan(stage: Stage, chosen: Sequence[str], n_pixel: int) -> FitPlan:
    problem, templates = _final_templates(stage, chosen)
    columns = [*(template.counts for template in templates), *problem.background.T]
    return FitPlan(
        names=tuple(chosen),
        design=np.stack(columns, axis=1) * stage.used[:, None],
        weight=_weight(stage.total / n_pixel, stage.used),
        detector=stage.detector,
        excitation_kev=stage.excitation_kev,
        scatter=tuple(template.name for template in stage.scatter),
    )


def _final_templates(stage: Stage, chosen: Sequence[str]) -> tuple[Problem, list[Template]]:
    """Chosen families, then scatter, with ratios adapted to the sum spectrum."""
    n_scatter = len(stage.scatter)
    problem, adapted = stage.sum_spectrum().cleaned([*stage.scatter, *recorded_templates(stage, chosen)], n_scatter)
    return problem, refine_ratios(problem, [*adapted[n_scatter:], *adapted[:n_scatter]])


def stage_of(total: Array, highest: Array, axis: EnergyAxis, instrument: Instrument | None) -> Stage:
    """Return the input of the selection of families, at the instrument's resolution or the default."""
    base_detector = Detector.model_validate({}) if instrument is None else instrument.detector
    detector = base_detector.model_copy(
        update={"gain_kev": axis.gain_kev, "zero_kev": axis.zero_kev, "n_channel": axis.n_channel}
    )
    excitation = _EXCITATION_KEV if instrument is None else instrument.highest_kev
    scatter = () if instrument is None else tuple(scatter_templates(instrument, axis))
    return Stage(total, highest, axis, _used_channels(total, axis), detector, excitation, scatter)


def _used_channels(total: Array, axis: EnergyAxis) -> NDArray[np.bool_]:
    """Channels above the electronic threshold and 1.2 keV, up to the last one with counts."""
    occupied = np.flatnonzero(total > 0)
    index = np.arange(total.size)
    margin = int(np.ceil(0.15 / axis.gain_kev)) if occupied[0] > 0 else 0
    inside = (index >= occupied[0] + margin) & (index <= occupied[-1])
    return np.asarray(inside & (axis.energy_kev > _LOWEST_KEV))


def recorded_templates(stage: Stage, names: Sequence[str]) -> list[Template]:
    """Make the templates of all families in the channels used."""
    templates = family_templates(names, stage.detector, stage.axis, stage.excitation_kev)
    return [template for template in templates if is_recorded(template.counts, template.counts[stage.used])]


def candidates_of(families: Sequence[str] | None, stage: Stage) -> list[str]:
    """Requested families, or all within the axis except the anode's."""
    if families is None:
        anode = {template.name for template in stage.scatter}
        return [
            template.name
            for template in recorded_templates(stage, [name for name in FIXED_CANDIDATES if name not in anode])
        ]
    names = list(dict.fromkeys(families))
    shown = {template.name for template in recorded_templates(stage, names)}
    hidden = [name for name in names if name not in shown]
    if hidden or not names:
        used_kev = stage.axis.energy_kev[stage.used]
        raise CoverageError(
            f"Cannot fit {', '.join(hidden) or 'no family'}: the strongest line is not in the recorded range "
            f"{used_kev[0]:.2f}-{used_kev[-1]:.2f} keV, or {stage.excitation_kev:.0f} keV do not excite it. "
            "Leave it out of the list; families are written like 'Fe_K' or 'Pb_L'."
        )
    return names


def resolution_known(instrument: Instrument | None) -> bool:
    """Whether the detector's resolution is known, from the user or a calibration."""
    return instrument is not None and "noise_fwhm_kev" in instrument.detector.model_fields_set


def with_resolution(stage: Stage, names: Sequence[str], instrument: Instrument | None) -> Stage:
    """Fit the electronic noise, unless known, on the families of the sum spectrum at the default noise."""
    if resolution_known(instrument):
        return stage
    chosen = chosen_families(stage, names, rare_pixels=False)
    if not chosen:
        return stage
    cleaned, _ = stage.sum_spectrum().cleaned(recorded_templates(stage, chosen))
    return with_noise(stage, fit_noise(cleaned, lambda value: recorded_templates(with_noise(stage, value), chosen)))


def with_noise(stage: Stage, noise_fwhm_kev: float) -> Stage:
    """Return the stage at another electronic noise."""
    return replace(stage, detector=stage.detector.model_copy(update={"noise_fwhm_kev": noise_fwhm_kev}))


def chosen_families(stage: Stage, names: Sequence[str], *, rare_pixels: bool) -> list[str]:
    """Families of the sum spectrum, and those of a few pixels from the maximum spectrum."""
    templates = [*stage.scatter, *recorded_templates(stage, names)]
    n_scatter = len(stage.scatter)
    spectra = [stage.sum_spectrum(), stage.max_spectrum()] if rare_pixels else [stage.sum_spectrum()]
    selected: set[int] = set()
    for spectrum in spectra:
        problem, adapted = spectrum.cleaned(templates, n_scatter)
        selected.update(significant(problem, adapted, n_scatter))
    return [template.name for index, template in enumerate(templates) if index in selected and index >= n_scatter]


def _weight(mean: Array, used: NDArray[np.bool_]) -> Array:
    """Inverse Poisson variance of the mean spectrum, smoothed: an empty channel has no infinite weight."""
    smooth = gaussian_filter1d(mean, 1.0)
    return np.asarray(used / np.maximum(smooth, 1e-3 * float(smooth[used].max()) + 1e-12))


class FixedFit:
    """The plan applied to any block of spectra: one matrix product for all pixels.

    With one set of weights, from the mean spectrum, ``area = P counts`` and ``variance = P**2 counts``. The deviation
    includes only counting statistics.
    """

    def __init__(self, plan: FitPlan) -> None:
        self.names = plan.names
        first, last = plan.channels
        self.channels = slice(first, last + 1)
        solver = plan.solver()[: len(plan.names), self.channels].T
        self.solver = np.ascontiguousarray(solver, np.float32)
        self.squared = np.ascontiguousarray(solver**2, np.float32)

    def __call__(self, counts: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (n, n_family) areas and deviations of (n, n_channel) counts."""
        # Rounding to 24 bits is far below counting noise, and halves the work.
        used = counts[:, self.channels].astype(np.float32)
        return used @ self.solver, np.sqrt(used @ self.squared)
