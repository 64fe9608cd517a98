"""Element maps: one weighted linear fit of line families for all pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from underpaint._version import __version__
from underpaint.data import EnergyAxis, Scan, sound_spectra, survey
from underpaint.data.background import snip
from underpaint.data.maps import Results
from underpaint.elements._families import (
    CANDIDATES,
    Template,
    family_templates,
    fwhm_channels,
    scatter_templates,
)
from underpaint.elements._pymca import PymcaFit
from underpaint.elements._selection import (
    Problem,
    Recorded,
    fit_noise,
    max_spectrum,
    refine_ratios,
    significant,
    sum_spectrum,
)
from underpaint.errors import CoverageError, ScanError
from underpaint.physics.instrument import Detector, Instrument
from underpaint.runtime.blocks import over_blocks

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]

_LOWEST_KEV = 1.2
_EXCITATION_KEV = 40.0
_SWEEPS = 80
_LEAST_COUNTS = 100
_ANODES = ("Mo_K", "Rh_K", "Pd_K", "Ag_K")


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
class _Stage:
    """What the choice of families works with."""

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


@dataclass(frozen=True)
class ElementFit:
    """A fit that is planned, ready for the counts of any pixels of the scan; it can be sent to another process.

    Parameters
    ----------
    names : tuple of str
        Families, ``Fe_K``.
    fit : callable
        Turns (n_row, n_column, n_channel) counts into (n_row, n_column, n_name, 2) areas and deviations.
    notes, settings
        As :meth:`~underpaint.data.maps.Results.of_lines` takes them.
    """

    names: tuple[str, ...]
    fit: Callable[[NDArray[Any]], NDArray[np.float32]]
    notes: tuple[str, ...]
    settings: dict[str, Any]

    def __call__(self, counts: NDArray[Any], present: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """Return (n_row, n_column, n_name, 2) areas and deviations; NaN where there is no spectrum, or no sound one."""
        result = self.fit(counts)
        if present is not None:
            result[~present] = np.nan
        return result

    def results(self, values: NDArray[np.float32], step_mm: tuple[float, float] | None) -> Results:
        """Return (n_row, n_column, n_name, 2) areas and deviations as results."""
        facts: dict[str, Any] = {"step_mm": step_mm, "notes": self.notes, "settings": self.settings}
        return Results.of_lines(self.names, values[..., 0], values[..., 1], **facts)


def fit_elements(
    scan: Scan,
    *,
    families: Sequence[str] | None = None,
    instrument: Instrument | None = None,
    engine: str = "underpaint",
    background: str = "fit",
    non_negative: bool = False,
    progress: Progress | None = None,
) -> Results:
    """Fit the net counts of line families in every pixel of a scan.

    Parameters
    ----------
    scan : Scan
        Counts with an energy axis (see ``underpaint.calibrate``).
    families : sequence of str, optional
        ``("Fe_K", "Pb_L")``; by default those that the sum or the maximum spectrum shows significantly.
    instrument : Instrument, optional
        Supplies resolution, efficiency, and, from its anode and scattering angle, the scatter peaks.
        Without it a common detector is assumed, its noise is fitted, and scatter is left to the background.
    engine : {"underpaint", "pymca"}
        "pymca" runs PyMca's ``FastXRFLinearFit`` on the same families.
    background : {"fit", "snip"}
        "fit" takes the sum spectrum's clipped background times splines as part of the linear fit: areas have no
        bias at few counts. "snip" clips each pixel's spectrum by itself.
    non_negative : bool
        Hold areas at zero or above. Areas of absent elements are then no longer centred on zero.
    progress : callable, optional
        Called with (rows done, rows in all).

    Returns
    -------
    Results
        ``area`` and ``area_sigma``: net counts of each family over all its lines, and one standard deviation by
        propagation of the pixel's Poisson counts. NaN where a pixel is missing, empty, or has counts that are no
        numbers.

    Raises
    ------
    CalibrationError
        The scan has no energy axis.
    ScanError
        The scan has next to no counts.
    CoverageError
        No family stands out, or one that was asked for lies outside the recorded range.
    MissingExtraError
        ``engine="pymca"`` and PyMca is not installed.

    Notes
    -----
    With one set of weights, from the mean spectrum, the fit is one matrix product for all pixels:
    ``area = P counts`` and ``variance = P**2 counts``. The areas are unbiased for every pixel; only where a pixel
    differs much from the mean are they a little noisier than with its own weights.

    Examples
    --------
    >>> import underpaint as up
    >>> results = up.fit_elements(up.load("panel.h5"), families=["Ca_K", "Hg_L", "Pb_L"])
    >>> results.lines
    ('Ca_K', 'Hg_L', 'Pb_L')
    >>> results.area.sel(line="Hg_L").shape
    (7, 7)
    """
    axis = scan.require_axis()
    _check_options(engine, background)
    seen = survey(scan)
    fit = prepare_fit(
        seen.total,
        seen.highest,
        axis,
        seen.n_pixel,
        families=families,
        instrument=instrument,
        engine=engine,
        background=background,
        non_negative=non_negative,
    )
    results = fit.results(_fit_blocks(seen.scan, fit, progress), scan.step_mm)
    facts = {"name": scan.name, "notes": list(seen.scan.notes), "settings": {"source": scan.source}}
    return replace(results, summary=facts)


def prepare_fit(
    total: Array,
    highest: Array,
    axis: EnergyAxis,
    n_pixel: int,
    *,
    families: Sequence[str] | None = None,
    instrument: Instrument | None = None,
    engine: str = "underpaint",
    background: str = "fit",
    non_negative: bool = False,
) -> ElementFit:
    """Plan a fit from the sum and maximum spectra of ``n_pixel`` pixels; all else as for :func:`fit_elements`.

    Raises
    ------
    ScanError, CoverageError, MissingExtraError
        As there.
    """
    _check_options(engine, background)
    if total.sum() < _LEAST_COUNTS:
        raise ScanError(
            f"Cannot fit elements: the scan has {total.sum():.0f} counts in all, at least {_LEAST_COUNTS} are needed."
        )
    plan = plan_fit(total, highest, axis, n_pixel, families=families, instrument=instrument)
    if engine == "pymca":
        own = PymcaFit.planned(
            axis, plan.names, plan.detector, plan.excitation_kev, plan.channels, plan.scatter, total / n_pixel
        )
        return ElementFit(plan.names, own, (), own.settings)
    fwhm = fwhm_channels(plan.detector, axis) if background == "snip" else None
    settings = {**_settings(plan, axis), "background": background, "non_negative": non_negative}
    return ElementFit(plan.names, _PixelFit(plan, fwhm, non_negative=non_negative), _notes(plan), settings)


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
        No family stands out, or one that was asked for lies outside the recorded range.
    """
    stage = _stage(total, highest, axis, instrument)
    names = _candidates(families, stage)
    if instrument is None or "noise_fwhm_kev" not in instrument.detector.model_fields_set:
        stage = _with_fitted_noise(stage, names)
    chosen = names if families is not None else _chosen(stage, names, rare_pixels=True)
    if not chosen:
        raise CoverageError(
            "Cannot fit elements: no line family stands out. Name the families, or check the energy axis."
        )
    plan = _plan(stage, chosen, n_pixel)
    if families is not None:
        return plan
    # What the pixels' weights turn negative over the whole scan was a fault of a strong neighbour's shape.
    whole = plan.solver() @ total
    kept = [name for name, area in zip(plan.names, whole, strict=False) if area > 0]
    return plan if len(kept) in (0, len(plan.names)) else _plan(stage, kept, n_pixel)


def _plan(stage: _Stage, chosen: Sequence[str], n_pixel: int) -> FitPlan:
    own, templates = _final_templates(stage, chosen)
    columns = [*(template.counts for template in templates), *own.background.T]
    return FitPlan(
        names=tuple(chosen),
        design=np.stack(columns, axis=1) * stage.used[:, None],
        weight=_weight(stage.total / n_pixel, stage.used),
        detector=stage.detector,
        excitation_kev=stage.excitation_kev,
        scatter=tuple(template.name for template in stage.scatter),
    )


def _final_templates(stage: _Stage, chosen: Sequence[str]) -> tuple[Problem, list[Template]]:
    """Chosen families, then scatter, with ratios adapted to the sum spectrum."""
    n_scatter = len(stage.scatter)
    own, adapted = stage.sum_spectrum().cleaned([*stage.scatter, *_build(stage, chosen)], n_scatter)
    return own, refine_ratios(own, [*adapted[n_scatter:], *adapted[:n_scatter]])


def _check_options(engine: str, background: str) -> None:
    if engine not in ("underpaint", "pymca"):
        raise ValueError(f"Cannot fit elements with engine {engine!r}; engines are 'underpaint' and 'pymca'.")
    if background not in ("fit", "snip"):
        raise ValueError(f"Cannot fit elements over background {background!r}; choose 'fit' or 'snip'.")


def _stage(total: Array, highest: Array, axis: EnergyAxis, instrument: Instrument | None) -> _Stage:
    own = Detector.model_validate({}) if instrument is None else instrument.detector
    detector = own.model_copy(
        update={"gain_kev": axis.gain_kev, "zero_kev": axis.zero_kev, "n_channel": axis.n_channel}
    )
    excitation = _EXCITATION_KEV if instrument is None else instrument.highest_kev
    scatter = () if instrument is None else tuple(scatter_templates(instrument, axis))
    return _Stage(total, highest, axis, _used_channels(total, axis), detector, excitation, scatter)


def _used_channels(total: Array, axis: EnergyAxis) -> NDArray[np.bool_]:
    """Channels above the electronic threshold and 1.2 keV, up to the last one with counts."""
    occupied = np.flatnonzero(total > 0)
    index = np.arange(total.size)
    margin = int(np.ceil(0.15 / axis.gain_kev)) if occupied[0] > 0 else 0
    inside = (index >= occupied[0] + margin) & (index <= occupied[-1])
    return np.asarray(inside & (axis.energy_kev > _LOWEST_KEV))


def _build(stage: _Stage, names: Sequence[str]) -> list[Template]:
    return family_templates(names, stage.detector, stage.axis, stage.excitation_kev)


def _candidates(families: Sequence[str] | None, stage: _Stage) -> list[str]:
    """Families asked for, or all that the axis can show and that are not the anode's."""
    if families is None:
        anode = {template.name for template in stage.scatter}
        return [template.name for template in _build(stage, [name for name in CANDIDATES if name not in anode])]
    names = list(dict.fromkeys(families))
    shown = {template.name for template in _build(stage, names)}
    hidden = [name for name in names if name not in shown]
    if hidden or not names:
        axis = stage.axis
        raise CoverageError(
            f"Cannot fit {', '.join(hidden) or 'no family'}: the strongest line is not in the recorded range "
            f"{axis.start_kev:.2f}-{axis.stop_kev:.2f} keV, or {stage.excitation_kev:.0f} keV do not excite it. "
            "Leave it out of the list; families are written like 'Fe_K' or 'Pb_L'."
        )
    return names


def _with_fitted_noise(stage: _Stage, names: Sequence[str]) -> _Stage:
    """Fit the electronic noise on the families that the sum spectrum shows at the default noise."""
    chosen = _chosen(stage, names, rare_pixels=False)
    if not chosen:
        return stage
    own, _ = stage.sum_spectrum().cleaned(_build(stage, chosen))
    noise = fit_noise(own, lambda value: _build(_with_noise(stage, value), chosen))
    return _with_noise(stage, noise)


def _with_noise(stage: _Stage, noise_fwhm_kev: float) -> _Stage:
    detector = stage.detector.model_copy(update={"noise_fwhm_kev": noise_fwhm_kev})
    return _Stage(stage.total, stage.highest, stage.axis, stage.used, detector, stage.excitation_kev, stage.scatter)


def _chosen(stage: _Stage, names: Sequence[str], *, rare_pixels: bool) -> list[str]:
    """Families that the sum spectrum shows, and those of a few pixels that the maximum spectrum shows."""
    everything = [*stage.scatter, *_build(stage, names)]
    n_scatter = len(stage.scatter)
    spectra = [stage.sum_spectrum(), stage.max_spectrum()] if rare_pixels else [stage.sum_spectrum()]
    kept: set[int] = set()
    for spectrum in spectra:
        own, adapted = spectrum.cleaned(everything, n_scatter)
        kept.update(significant(own, adapted, n_scatter))
    return [template.name for index, template in enumerate(everything) if index in kept and index >= n_scatter]


def _weight(mean: Array, used: NDArray[np.bool_]) -> Array:
    """Inverse Poisson variance of the mean spectrum, smoothed: an empty channel has no infinite weight."""
    smooth = gaussian_filter1d(mean, 1.0)
    return np.asarray(used / np.maximum(smooth, 1e-3 * float(smooth[used].max()) + 1e-12))


class _PixelFit:
    """The plan applied to a block of spectra."""

    def __init__(self, plan: FitPlan, fwhm: Array | None, *, non_negative: bool) -> None:
        self.fwhm = fwhm
        self.n_name = len(plan.names)
        self.n_free = self.n_name + len(plan.scatter)
        # A background that was clipped off before needs no columns.
        design = plan.design if fwhm is None else plan.design[:, : self.n_free]
        first, last = plan.channels
        self.channels = slice(first, last + 1)
        solver = plan.solver(design.shape[1])[:, self.channels].T
        self.solver = np.ascontiguousarray(solver if non_negative else solver[:, : self.n_name], np.float32)
        self.squared = np.ascontiguousarray(solver[:, : self.n_name] ** 2, np.float32)
        self.normal = design.T @ (design * plan.weight[:, None]) if non_negative else None

    def __call__(self, block: NDArray[Any]) -> NDArray[np.float32]:
        """(row, column, channel) counts -> (row, column, name, 2) areas and deviations."""
        flat = np.asarray(block).reshape(-1, block.shape[-1])
        sound = sound_spectra(flat)
        # Rounding to 24 bits is far below a count's own noise, and half the work.
        used = flat[:, self.channels].astype(np.float32)
        used[~sound] = 0.0
        areas = (used if self.fwhm is None else self._net(flat, sound, self.fwhm)) @ self.solver
        if self.normal is not None:
            areas = _non_negative(areas.astype(np.float64), self.normal, self.n_free)
        result = np.empty((len(flat), self.n_name, 2), np.float32)
        result[..., 0] = areas[:, : self.n_name]
        np.sqrt(used @ self.squared, out=result[..., 1])
        result[~sound] = np.nan
        return result.reshape(*block.shape[:2], self.n_name, 2)

    def _net(self, flat: NDArray[Any], sound: NDArray[np.bool_], fwhm: Array) -> NDArray[np.float32]:
        spectra = flat.astype(np.float64)
        spectra[~sound] = 0.0
        net = spectra - snip(spectra, fwhm, low_statistics=True)
        return np.asarray(net[:, self.channels], np.float32)


def _non_negative(areas: Array, normal: Array, n_bounded: int) -> Array:
    """Coordinate descent on the normal equations, all spectra at once; the background stays free."""
    right = areas @ normal
    solution = areas.copy()
    solution[:, :n_bounded] = np.maximum(solution[:, :n_bounded], 0.0)
    for _ in range(_SWEEPS):
        for column in range(solution.shape[1]):
            moved = solution[:, column] + (right[:, column] - solution @ normal[:, column]) / normal[column, column]
            solution[:, column] = np.maximum(moved, 0.0) if column < n_bounded else moved
    return solution


def _fit_blocks(scan: Scan, fit: ElementFit, progress: Progress | None) -> NDArray[np.float32]:
    n_row, n_column, _ = scan.shape
    result = np.empty((n_row, n_column, len(fit.names), 2), dtype=np.float32)
    for _, block, values in over_blocks(scan, fit):
        result[block] = values
        if progress is not None:
            progress(block[0].stop, n_row)
    return result


def _notes(plan: FitPlan) -> tuple[str, ...]:
    anodes = [name for name in plan.names if name in _ANODES]
    if plan.scatter or not anodes:
        return ()
    return (f"{', '.join(anodes)} may be the tube's own lines scattered by the paint; name the anode to tell.",)


def _settings(plan: FitPlan, axis: EnergyAxis) -> dict[str, Any]:
    return {
        "engine": "underpaint",
        "version": __version__,
        "gain_kev": axis.gain_kev,
        "zero_kev": axis.zero_kev,
        "noise_fwhm_kev": plan.detector.noise_fwhm_kev,
        "fano": plan.detector.fano,
        "families": list(plan.names),
        "scatter": list(plan.scatter),
    }
