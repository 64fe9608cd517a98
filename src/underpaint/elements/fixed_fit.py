"""Linear fit of line families with fixed line ratios, planned from the sum and maximum spectra of a scan.

The plan is fast, but areas are wrong where paint absorbs lines; ``variable_fit`` avoids this.
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
    FitProblem,
    FittedSpectrum,
    fit_noise,
    max_spectrum,
    refine_ratios,
    significant,
    sum_spectrum,
)
from underpaint.errors import CoverageError
from underpaint.physics.instrument import Detector, Instrument

Array = NDArray[np.float64]

_MIN_ENERGY_KEV = 1.2
_DEFAULT_EXCITATION_KEV = 40.0


@dataclass(frozen=True)
class FitPlan:
    """Plan of a linear fit that can be applied to any number of pixels.

    Parameters
    ----------
    names : tuple of str
        Families, ``Fe_K``.
    design : (n_channel, n_column) array
        Components: templates, scatter, background; zero in channels that are not fitted.
    weight : (n_channel,) array
        Inverse variance of the mean spectrum; zero in channels that are not fitted.
    detector : Detector
        Detector with the resolution of the fit.
    excitation_kev : float
        Highest photon energy in keV.
    scatter : tuple of str
        Scatter peaks that are fitted as well.
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
        """Return the (n_column, n_channel) matrix from counts to areas, for the first columns of the design."""
        root = np.sqrt(self.weight)[:, None]
        return np.asarray(np.linalg.pinv(self.design[:, :n_column] * root, rcond=1e-10) * root.T)


@dataclass(frozen=True)
class Stage:
    """Input of the selection of families: spectra, fitted channels, detector and templates of scatter."""

    total: Array
    highest: Array
    axis: EnergyAxis
    used: NDArray[np.bool_]
    detector: Detector
    excitation_kev: float
    scatter: tuple[Template, ...]

    def sum_spectrum(self) -> FittedSpectrum:
        """Return the sum spectrum to fit, with the resolution of the detector."""
        return sum_spectrum(self.total, fwhm_channels(self.detector, self.axis), self.axis.energy_kev, self.used)

    def max_spectrum(self) -> FittedSpectrum:
        """Return the maximum spectrum to fit, with the resolution of the detector."""
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
    """Return a plan with families, resolution, line ratios, background and weights from sum and maximum spectra.

    Parameters
    ----------
    total, highest : (n_channel,) arrays
        Sum and maximum over the pixels, in counts.
    axis : EnergyAxis
        Energy axis.
    n_pixel : int
        Number of pixels in the sum.
    families, instrument
        See :func:`fit_elements`.

    Returns
    -------
    FitPlan

    Raises
    ------
    CoverageError
        No family is detected, or a requested one is outside the recorded range.
    """
    stage = stage_of(total, highest, axis, instrument)
    names = candidates_of(families, stage)
    stage = with_resolution(stage, names, instrument)
    selected_families = names if families is not None else chosen_families(stage, names, rare_pixels=True)
    if not selected_families:
        raise CoverageError(
            "Cannot fit elements: no line family is detected. Give the families, or check the energy axis."
        )
    plan = _plan_families(stage, selected_families, n_pixel)
    if families is not None:
        return plan
    # A negative area in the sum spectrum is due to an error in the shape of a strong neighbour.
    areas = plan.solver() @ total
    positive = [name for name, area in zip(plan.names, areas, strict=False) if area > 0]
    return plan if len(positive) in (0, len(plan.names)) else _plan_families(stage, positive, n_pixel)


def _plan_families(stage: Stage, selected_families: Sequence[str], n_pixel: int) -> FitPlan:
    problem, templates = _final_templates(stage, selected_families)
    columns = [*(template.counts for template in templates), *problem.background.T]
    return FitPlan(
        names=tuple(selected_families),
        design=np.stack(columns, axis=1) * stage.used[:, None],
        weight=_channel_weights(stage.total / n_pixel, stage.used),
        detector=stage.detector,
        excitation_kev=stage.excitation_kev,
        scatter=tuple(template.name for template in stage.scatter),
    )


def _final_templates(stage: Stage, selected_families: Sequence[str]) -> tuple[FitProblem, list[Template]]:
    """Return the templates of families, then of scatter, with line ratios adapted to the sum spectrum."""
    n_scatter = len(stage.scatter)
    problem, adapted = stage.sum_spectrum().cleaned(
        [*stage.scatter, *recorded_templates(stage, selected_families)], n_scatter
    )
    return problem, refine_ratios(problem, [*adapted[n_scatter:], *adapted[:n_scatter]])


def stage_of(total: Array, highest: Array, axis: EnergyAxis, instrument: Instrument | None) -> Stage:
    """Return the input of the selection of families, with the resolution of the instrument or the default one."""
    base_detector = Detector.model_validate({}) if instrument is None else instrument.detector
    detector = base_detector.model_copy(
        update={"gain_kev": axis.gain_kev, "zero_kev": axis.zero_kev, "n_channel": axis.n_channel}
    )
    excitation_kev = _DEFAULT_EXCITATION_KEV if instrument is None else instrument.highest_kev
    scatter = () if instrument is None else tuple(scatter_templates(instrument, axis))
    return Stage(total, highest, axis, _used_channels(total, axis), detector, excitation_kev, scatter)


def _used_channels(total: Array, axis: EnergyAxis) -> NDArray[np.bool_]:
    """Return the mask of channels above the electronic threshold and 1.2 keV, up to the last one with counts."""
    occupied = np.flatnonzero(total > 0)
    index = np.arange(total.size)
    margin = int(np.ceil(0.15 / axis.gain_kev)) if occupied[0] > 0 else 0
    in_range = (index >= occupied[0] + margin) & (index <= occupied[-1])
    return np.asarray(in_range & (axis.energy_kev > _MIN_ENERGY_KEV))


def recorded_templates(stage: Stage, names: Sequence[str]) -> list[Template]:
    """Return the templates of the families in the fitted channels."""
    templates = family_templates(names, stage.detector, stage.axis, stage.excitation_kev)
    return [template for template in templates if is_recorded(template.counts, template.counts[stage.used])]


def candidates_of(families: Sequence[str] | None, stage: Stage) -> list[str]:
    """Return the requested families, or all within the axis except those of the anode."""
    if families is None:
        scatter_names = {template.name for template in stage.scatter}
        return [
            template.name
            for template in recorded_templates(stage, [name for name in FIXED_CANDIDATES if name not in scatter_names])
        ]
    names = list(dict.fromkeys(families))
    available = {template.name for template in recorded_templates(stage, names)}
    unavailable = [name for name in names if name not in available]
    if unavailable or not names:
        used_kev = stage.axis.energy_kev[stage.used]
        raise CoverageError(
            f"Cannot fit {', '.join(unavailable) or 'no family'}: the strongest line is not in the recorded range "
            f"{used_kev[0]:.2f}-{used_kev[-1]:.2f} keV, or {stage.excitation_kev:.0f} keV do not excite it. "
            "Omit it; families are written like 'Fe_K' or 'Pb_L'."
        )
    return names


def resolution_known(instrument: Instrument | None) -> bool:
    """Return whether the resolution of the detector is known, from the user or a calibration."""
    return instrument is not None and "noise_fwhm_kev" in instrument.detector.model_fields_set


def with_resolution(stage: Stage, names: Sequence[str], instrument: Instrument | None) -> Stage:
    """Return the stage with the electronic noise fitted to the sum spectrum, unless it is known."""
    if resolution_known(instrument):
        return stage
    selected_families = chosen_families(stage, names, rare_pixels=False)
    if not selected_families:
        return stage
    cleaned, _ = stage.sum_spectrum().cleaned(recorded_templates(stage, selected_families))
    return with_noise(
        stage, fit_noise(cleaned, lambda value: recorded_templates(with_noise(stage, value), selected_families))
    )


def with_noise(stage: Stage, noise_fwhm_kev: float) -> Stage:
    """Return the stage with another electronic noise."""
    return replace(stage, detector=stage.detector.model_copy(update={"noise_fwhm_kev": noise_fwhm_kev}))


def chosen_families(stage: Stage, names: Sequence[str], *, rare_pixels: bool) -> list[str]:
    """Return the families of the sum spectrum and, with ``rare_pixels``, of the maximum spectrum."""
    templates = [*stage.scatter, *recorded_templates(stage, names)]
    n_scatter = len(stage.scatter)
    spectra = [stage.sum_spectrum(), stage.max_spectrum()] if rare_pixels else [stage.sum_spectrum()]
    selected_indices: set[int] = set()
    for spectrum in spectra:
        problem, adapted = spectrum.cleaned(templates, n_scatter)
        selected_indices.update(significant(problem, adapted, n_scatter))
    return [
        template.name for index, template in enumerate(templates) if index in selected_indices and index >= n_scatter
    ]


def _channel_weights(mean: Array, used: NDArray[np.bool_]) -> Array:
    """Return the inverse Poisson variance of the smoothed mean spectrum; smoothing avoids infinite weights."""
    smoothed = gaussian_filter1d(mean, 1.0)
    return np.asarray(used / np.maximum(smoothed, 1e-3 * float(smoothed[used].max()) + 1e-12))


class FixedFit:
    """Linear fit of a plan, applied to blocks of spectra as a matrix product.

    The weights are the same for all pixels: ``area = P counts`` and ``variance = P**2 counts``. The standard deviation
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
        """Return the (n, n_family) areas and standard deviations of (n, n_channel) counts."""
        # single precision: rounding errors are far below counting noise
        used = counts[:, self.channels].astype(np.float32)
        return used @ self.solver, np.sqrt(used @ self.squared)
