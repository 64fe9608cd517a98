"""Element maps: net counts of line families in every pixel, with deviations that include interference."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint._version import __version__
from underpaint.data import EnergyAxis, Scan, Survey, require_scan, survey, valid_spectra
from underpaint.data.maps import Results
from underpaint.elements._families import ANODES, CANDIDATES, Template, scatter_templates
from underpaint.elements._pymca import PymcaFit
from underpaint.elements.diffraction import Diffraction, plan_diffraction
from underpaint.elements.element_sources import families_of_element
from underpaint.elements.fixed_fit import (
    FixedFit,
    Stage,
    candidates_of,
    chosen_families,
    plan_fit,
    recorded_templates,
    resolution_known,
    stage_of,
    with_noise,
    with_resolution,
)
from underpaint.elements.line_ratios import N_STRATIGRAPHIES, USUAL_INSTRUMENTS, simulate_line_counts
from underpaint.elements.scatter import ScatterPeaks, plan_scatter
from underpaint.elements.variable_fit import Evidence, VariableFit, fitted_noise
from underpaint.errors import CoverageError, ScanError
from underpaint.physics.instrument import Detector, Instrument
from underpaint.runtime.blocks import map_blocks

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]

ENGINES = ("underpaint", "fixed", "pymca")
_MIN_COUNTS = 100
_MAX_MISFIT_RATIO = 1.05
"""Largest misfit of the sum spectrum by a common instrument, relative to the best one, at which it is used."""
_SCATTER_LIKE_FAMILIES = ("Nb_K", "Mo_K", "Ag_K")
"""Families whose lines coincide with scattered anode lines, so that they could replace the scatter of an anode."""
_SCATTER_ANGLES_DEG = (90.0, 115.0, 140.0)
"""Scattering angles used for an unknown geometry."""


@dataclass(frozen=True)
class ElementFit:
    """Planned fit of a scan, for the counts of any pixels; it can be sent to other processes.

    Parameters
    ----------
    names : tuple of str
        Families of the maps, ``Fe_K``.
    engine : VariableFit, FixedFit or PymcaFit
        Fit from (n, n_channel) counts to (n, n_family) areas and standard deviations.
    notes, settings
        Arguments of :meth:`~underpaint.data.maps.Results.of_lines`.
    diffraction : Diffraction or None
        Comparison of the detectors of the scan; None for a single detector.
    scatter : ScatterPeaks or None
        Fit of the scattered lines of the source; None if they are unknown.
    """

    names: tuple[str, ...]
    engine: VariableFit | FixedFit | PymcaFit
    notes: tuple[str, ...]
    settings: dict[str, Any]
    diffraction: Diffraction | None = None
    scatter: ScatterPeaks | None = None

    @property
    def n_map(self) -> int:
        """Number of maps of families and scatter."""
        return len(self.names) + (0 if self.scatter is None else len(self.scatter.names))

    def __call__(
        self, counts: NDArray[Any], present: NDArray[np.bool_] | None = None, shown: Evidence | None = None
    ) -> NDArray[np.float32]:
        """Return (n_row, n_column, n_map, 2) areas and standard deviations; NaN for missing and invalid spectra.

        ``shown`` is the result of the engine for the valid spectra, if already computed.
        """
        valid, spectra = valid_part(counts, present)
        maps = np.full((valid.size, self.n_map, 2), np.nan, np.float32)
        columns = [self.engine.names.index(name) for name in self.names]
        for index, values in enumerate((self.engine(spectra) if shown is None else shown)[:2]):
            maps[valid, : len(columns), index] = values[:, columns]
        if self.scatter is not None:
            maps[valid, len(columns) :] = self.scatter(spectra)
        return maps.reshape(*counts.shape[:2], self.n_map, 2)

    def without_diffraction(
        self,
        counts: NDArray[Any],
        present: NDArray[np.bool_] | None,
        detectors: Sequence[NDArray[Any]],
        shown: Evidence | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return areas and standard deviations corrected for diffraction peaks, and maps of these peaks.

        Parameters
        ----------
        counts : (n_row, n_column, n_channel) array
            Counts, summed over the detectors.
        present : (n_row, n_column) bool array or None
            Mask of present spectra.
        detectors : sequence of (n_row, n_column, n_channel) arrays
            Counts of each detector; empty if detectors are not compared.
        shown : Evidence or None
            Result of the engine for the valid spectra, if already computed.

        Returns
        -------
        fitted : (n_row, n_column, n_map, 2) array
            Areas and standard deviations. In pixels with a peak in a single detector, areas are those of the other
            detectors, and standard deviations include the change due to the peak.
        maps : (n_row, n_column, n_detector, 2) array or None
            Maps of :class:`~underpaint.elements.diffraction.Diffraction`.
        """
        fitted = self(counts, present, shown)
        if self.diffraction is None:
            return fitted, None
        maps, corrected_counts, is_diffraction = self.diffraction(detectors, present)
        if is_diffraction.any():
            corrected = self(corrected_counts[None])[0]
            corrected[:, :, 1] = np.hypot(corrected[:, :, 1], fitted[is_diffraction][:, :, 0] - corrected[:, :, 0])
            fitted[is_diffraction] = corrected
        return fitted, maps

    def empty_maps(self) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return an empty result of :meth:`without_diffraction` (zero pixels)."""
        n_detector = 0 if self.diffraction is None else len(self.diffraction.detectors)
        empty = [np.empty((0, 0, n, 2), np.float32) for n in (self.n_map, n_detector)]
        return empty[0], empty[1] if n_detector else None

    def results(
        self,
        values: NDArray[np.float32],
        step_mm: tuple[float, float] | None,
        diffraction: NDArray[np.float32] | None = None,
    ) -> Results:
        """Return (n_row, n_column, n_map, 2) areas and standard deviations, and maps of diffraction, as results."""
        facts: dict[str, Any] = {"step_mm": step_mm, "notes": self.notes, "settings": self.settings}
        n_name = len(self.names)
        results = Results.of_lines(self.names, values[..., :n_name, 0], values[..., :n_name, 1], **facts)
        if self.scatter is not None:
            results |= self.scatter.results(values[..., n_name:, :], step_mm)
        if self.diffraction is None or diffraction is None:
            return results
        return results | self.diffraction.results(diffraction, step_mm)


def valid_part(counts: NDArray[Any], present: NDArray[np.bool_] | None) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Return the (n_row * n_column,) mask of valid spectra, and the valid spectra, (n, n_channel)."""
    flat = np.asarray(counts).reshape(-1, counts.shape[-1])
    valid = valid_spectra(flat)
    if present is not None:
        valid &= present.ravel()
    return valid, flat if valid.all() else flat[valid]


def fit_elements(
    scan: Scan,
    *,
    families: Sequence[str] | None = None,
    add: Sequence[str] = (),
    drop: Sequence[str] = (),
    instrument: Instrument | None = None,
    engine: str = "underpaint",
    progress: Progress | None = None,
) -> Results:
    """Fit the net counts of line families in every pixel of a scan.

    Parameters
    ----------
    scan : Scan
        Scan whose energy axis is right; :func:`underpaint.calibrate.resolve_energy_axis` finds it from the lines.
    families : sequence of str, optional
        Maps to return: families ``"Fe_K"``, the lines of one shell ``"Pb_L3"``, or elements ``"Fe"``. By default all
        families of the scan. The fit always includes the other families, so that uncertainties account for
        interference.
    add : sequence of str
        Additional families to return.
    drop : sequence of str
        Families that are known to be absent; they are excluded from the fit.
    instrument : Instrument, optional
        Source, geometry and detector. Without an instrument, the common instruments that describe the sum spectrum are
        used, and the resolution is fitted. If these have the same anode, its scattered lines are modelled.
    engine : {"underpaint", "fixed", "pymca"}
        "underpaint" lets line ratios vary as predicted by the forward model. "fixed" uses constant line ratios: faster
        to plan, but wrong where paint absorbs lines. "pymca" runs PyMca's ``FastXRFLinearFit``. The last two fit only
        the returned families.
    progress : callable, optional
        Called with the number of rows done and the total number.

    Returns
    -------
    Results
        ``area``: net counts of each family over all its lines; NaN for missing and invalid pixels. Areas may be
        negative; their mean over pixels without the element is zero. ``area_sigma``: their standard deviation, from
        counting statistics, interference, background and model. ``scatter``: counts of the Compton and Rayleigh peaks
        of the source, if its lines are known.

    Raises
    ------
    CalibrationError
        The scan has no energy axis.
    ScanError
        The scan has too few counts, or ``scan`` is no scan, for example a path.
    CoverageError
        No family is detected, or a requested one is outside the recorded range.
    MissingExtraError
        ``engine="pymca"`` and PyMca is not installed.

    Examples
    --------
    >>> import underpaint as up
    >>> results = up.fit_elements(up.load("panel.h5"), families=["Ca_K", "Hg_L", "Pb_L"])
    >>> results.lines
    ('Ca_K', 'Hg_L', 'Pb_L')
    >>> results.area.sel(line="Hg_L").shape
    (7, 7)
    """
    axis = require_scan(scan).require_axis()
    summary = survey(scan)
    fit = prepare_fit(summary, axis, families=families, add=add, drop=drop, instrument=instrument, engine=engine)
    results = fit.results(*_fit_blocks(summary.scan, fit, progress))
    alerts = [] if fit.diffraction is None else list(fit.diffraction.findings(results))
    settings = {"source": scan.source, "alerts": alerts}
    return replace(results, summary={"name": scan.name, "notes": list(summary.scan.notes), "settings": settings})


def prepare_fit(
    summary: Survey,
    axis: EnergyAxis,
    *,
    families: Sequence[str] | None = None,
    add: Sequence[str] = (),
    drop: Sequence[str] = (),
    instrument: Instrument | None = None,
    engine: str = "underpaint",
    peaks: bool = False,
) -> ElementFit:
    """Return the planned fit of a scan, from its survey.

    Parameters are those of :func:`fit_elements`. With ``peaks``, the engine "underpaint" also fits unassigned peaks.

    Raises
    ------
    ScanError, CoverageError, MissingExtraError
        See :func:`fit_elements`.
    """
    check_names(families, add, drop)
    if engine not in ENGINES:
        raise ValueError(f"Cannot fit elements with engine {engine!r}; engines are {', '.join(map(repr, ENGINES))}.")
    _check_counts(summary)
    if engine == "underpaint":
        fit = _prepare_variable(summary, axis, families, add, drop, instrument, peaks=peaks)
    else:
        fit = _prepare_fixed(summary, axis, families, add, drop, instrument, engine)
    diffraction = plan_diffraction(summary.scan, axis, fit.settings["noise_fwhm_kev"], fit.settings["fano"])
    return replace(fit, diffraction=diffraction)


def _prepare_fixed(
    summary: Survey,
    axis: EnergyAxis,
    families: Sequence[str] | None,
    add: Sequence[str],
    drop: Sequence[str],
    instrument: Instrument | None,
    engine: str,
) -> ElementFit:
    stage = stage_of(summary.total, summary.highest, axis, instrument)
    added_families, excluded_families = (
        _expand_names(add, stage),
        {family for name in drop for family in _families_of_name(name)},
    )
    requested_families = None if families is None else [*_expand_names(families, stage), *added_families]
    plan = plan_fit(
        summary.total, summary.highest, axis, summary.n_pixel, families=requested_families, instrument=instrument
    )
    if drop or (add and families is None):
        selected_families = [
            name for name in dict.fromkeys((*plan.names, *added_families)) if name not in excluded_families
        ]
        plan = plan_fit(
            summary.total, summary.highest, axis, summary.n_pixel, families=selected_families, instrument=instrument
        )
    notes = _anode_notes(plan.names, is_known=bool(plan.scatter))
    scatter = plan_scatter(summary.total, axis, stage.used, stage.scatter)
    if engine == "pymca":
        fit = PymcaFit.planned(
            axis,
            plan.names,
            plan.detector,
            plan.excitation_kev,
            plan.channels,
            plan.scatter,
            summary.total / summary.n_pixel,
        )
        return ElementFit(plan.names, fit, (), fit.settings, scatter=scatter)
    settings = _settings("fixed", plan.detector, plan.scatter, plan.names, axis)
    return ElementFit(plan.names, FixedFit(plan), notes, settings, scatter=scatter)


def plan_all_families(
    summary: Survey, axis: EnergyAxis, instrument: Instrument | None = None, *, peaks: bool = True
) -> VariableFit:
    """Return the planned fit of all families and of unassigned peaks, for results other than element maps.

    Raises
    ------
    ScanError
        The scan has too few counts.
    """
    _check_counts(summary)
    choice = choose_families(summary.total, summary.highest, axis, None, (), (), instrument)
    return choice.make(summary.sample, choice.stage.detector, peaks=peaks)


def _check_counts(summary: Survey) -> None:
    if summary.total.sum() < _MIN_COUNTS:
        raise ScanError(
            f"Cannot fit elements: the scan has {summary.total.sum():.0f} counts in total, at least {_MIN_COUNTS} are "
            "needed."
        )


def _prepare_variable(
    summary: Survey,
    axis: EnergyAxis,
    families: Sequence[str] | None,
    add: Sequence[str],
    drop: Sequence[str],
    instrument: Instrument | None,
    *,
    peaks: bool,
) -> ElementFit:
    choice = choose_families(summary.total, summary.highest, axis, families, add, drop, instrument)
    fit = choice.make(summary.sample, choice.stage.detector, peaks=peaks)
    names = choice.names
    if families is None:
        # families of few pixels, in the sample or in other pixels
        detected = {*fit.shown(), *fit.shown_by_pixels(summary.sample)}
        if len(summary.sample) < summary.n_pixel or not detected:
            detected |= {*chosen_families(choice.stage, candidates_of(None, choice.stage), rare_pixels=True)}
        names = [name for name in fit.names if name in {*detected, *names}]
    if not names:
        raise CoverageError(
            "Cannot fit elements: no line family is detected. Give the families, or check the energy axis."
        )
    stage, is_known = choice.stage, instrument is not None or bool(choice.stage.scatter)
    settings = _settings("underpaint", stage.detector, stage.scatter, names, axis) | {"fitted": list(fit.names)}
    scatter = plan_scatter(summary.total, axis, stage.used, stage.scatter)
    return ElementFit(tuple(names), fit, _anode_notes(names, is_known=is_known), settings, scatter=scatter)


@dataclass(frozen=True)
class FitChoice:
    """Families to fit and to return, and the function that plans the fit.

    Parameters
    ----------
    names : list of str
        Requested families.
    families : list of str
        All families to fit.
    stage : Stage
        Spectra, fitted channels, and the detector with its resolution.
    make : callable
        Function that plans the fit of (n, n_channel) spectra for a detector.
    """

    names: list[str]
    families: list[str]
    stage: Stage
    make: Callable[..., VariableFit]


def choose_families(
    total: Array,
    highest: Array,
    axis: EnergyAxis,
    families: Sequence[str] | None,
    add: Sequence[str],
    drop: Sequence[str],
    instrument: Instrument | None,
) -> FitChoice:
    """Return the families to fit, from the sum and maximum spectra; other parameters as for :func:`fit_elements`.

    Raises
    ------
    CoverageError
        A requested family is outside the recorded range.
    """
    stage = stage_of(total, highest, axis, instrument)
    requested = _expand_names([*(families or ()), *add], stage)
    dropped = {family for name in drop for family in _families_of_name(name)}
    if requested:
        candidates_of(requested, stage)
    stage = with_resolution(stage, candidates_of(None, stage), instrument)
    instruments = _likely_instruments(stage) if instrument is None else (instrument,)
    if instrument is None and len({candidate.tube.anode for candidate in instruments}) == 1:
        # all likely instruments have the same anode, whose lines are scattered
        stage = replace(stage, scatter=_scatter_at_any_angle(instruments[0], stage))
    scatter_names = {template.name for template in stage.scatter}
    # a family of which single shells are requested is fitted shell by shell
    split_families = {name[:-1] for name in requested if name[-1].isdigit()}
    subshells = [f"{name}{subshell}" for name in sorted(split_families) for subshell in range(1, 6)]
    candidates = dict.fromkeys(
        (*(name for name in CANDIDATES if name not in scatter_names | split_families), *subshells, *requested)
    )
    simulated = [simulate_line_counts(candidate, N_STRATIGRAPHIES // len(instruments)) for candidate in instruments]
    to_fit = [name for name in candidates if name not in dropped]
    make = partial(
        VariableFit,
        axis=axis,
        used=stage.used,
        families=to_fit,
        simulated=simulated,
        excitation_kev=max(candidate.highest_kev for candidate in instruments),
        anode=np.reshape([template.counts for template in stage.scatter], (-1, axis.n_channel)),
    )
    if not resolution_known(instrument):
        sample = [simulate_line_counts(instruments[0], N_STRATIGRAPHIES // 2)]
        stage = with_noise(stage, fitted_noise(total, stage.detector, partial(make, simulated=sample)))
    return FitChoice([name for name in dict.fromkeys(requested) if name not in dropped], to_fit, stage, make)


def _likely_instruments(stage: Stage) -> tuple[Instrument, ...]:
    """Return the common instruments that describe the sum spectrum, the best one first.

    They are distinguished mainly by scatter: the lines of the anode and their Compton shift.
    """
    misfits = []
    families = [name for name in CANDIDATES if name not in _SCATTER_LIKE_FAMILIES]
    for instrument in USUAL_INSTRUMENTS:
        simulated = simulate_line_counts(instrument, N_STRATIGRAPHIES // 5)
        empty = np.zeros((0, stage.axis.n_channel))
        arguments = (stage.used, families, [simulated], instrument.highest_kev, empty)
        misfits.append(VariableFit(stage.total[None], stage.detector, stage.axis, *arguments).first.misfit)
    order = np.argsort(misfits)
    return tuple(USUAL_INSTRUMENTS[index] for index in order if misfits[index] <= _MAX_MISFIT_RATIO * misfits[order[0]])


def _scatter_at_any_angle(instrument: Instrument, stage: Stage) -> tuple[Template, ...]:
    """Return the templates of the scattered lines of the anode, with Compton peaks for several angles."""
    templates = []
    for angle_deg in _SCATTER_ANGLES_DEG:
        geometry = instrument.geometry.model_copy(update={"scatter_angle_deg": angle_deg})
        instrument_at_angle = instrument.model_copy(update={"detector": stage.detector, "geometry": geometry})
        angle_templates = scatter_templates(instrument_at_angle, stage.axis)
        templates += [
            template
            for template in angle_templates
            if template.name == "Compton" or angle_deg == _SCATTER_ANGLES_DEG[0]
        ]
    return tuple(templates)


def check_names(families: Sequence[str] | None, add: Sequence[str] = (), drop: Sequence[str] = ()) -> None:
    """Raise an error for invalid lists of families.

    Raises
    ------
    CoverageError
        A list is a single string, or the list of families is empty, or all families are dropped.
    """
    if any(isinstance(names, str) for names in (families, add, drop)):
        raise CoverageError(
            f"Cannot fit elements: families, add and drop must be lists, but {families or add or drop!r} is a string. "
            'Give a list, ["Fe", "Pb_L"].'
        )
    if families is not None and not {*families, *add} - {*drop}:
        raise CoverageError(
            "Cannot fit elements: the list of families is empty, or all are dropped. Give at least one, such as "
            "Fe or Pb_L, or omit the list to map all families of the scan."
        )


def _expand_names(names: Sequence[str], stage: Stage) -> list[str]:
    """Return the families of names: a family itself, and all families within the axis for an element."""
    families: list[str] = []
    for name in names:
        name_families = [name]
        if "_" not in name:
            name_families = [template.name for template in recorded_templates(stage, _families_of_name(name))] or [
                f"{name}_K"
            ]
        families += name_families
    return families


def _families_of_name(name: str) -> tuple[str, ...]:
    """Return the families of an element, or the family itself."""
    return (name,) if "_" in name else families_of_element(name)


def _fit_blocks(
    scan: Scan, fit: ElementFit, progress: Progress | None
) -> tuple[NDArray[np.float32], tuple[float, float] | None, NDArray[np.float32] | None]:
    """Return the arrays for :meth:`ElementFit.results`."""
    n_row, n_column, _ = scan.shape
    area_maps = np.empty((n_row, n_column, fit.n_map, 2), dtype=np.float32)
    detectors = () if fit.diffraction is None else tuple(detector.counts for detector in scan.detectors)
    maps = np.empty((n_row, n_column, len(detectors), 2), np.float32) if detectors else None

    def work(counts: NDArray[Any], present: NDArray[np.bool_] | None, *parts: NDArray[Any]) -> Any:
        return fit.without_diffraction(counts, present, parts)

    for _, block, (values, peaks) in map_blocks(scan, work, arrays=detectors):
        area_maps[block] = values
        if maps is not None:
            maps[block] = peaks
        if progress is not None:
            progress(block[0].stop, n_row)
    return area_maps, scan.step_mm, maps


def _anode_notes(names: Sequence[str], *, is_known: bool) -> tuple[str, ...]:
    anodes = [name for name in names if name.removesuffix("_K") in ANODES]
    if is_known or not anodes:
        return ()
    return (f"{', '.join(anodes)} may be tube lines scattered by the paint; give the anode to decide.",)


def _settings(
    engine: str, detector: Detector, scatter: Sequence[Any], names: Sequence[str], axis: EnergyAxis
) -> dict[str, Any]:
    return {
        "engine": engine,
        "version": __version__,
        "gain_kev": axis.gain_kev,
        "zero_kev": axis.zero_kev,
        "noise_fwhm_kev": detector.noise_fwhm_kev,
        "fano": detector.fano,
        "families": list(names),
        "scatter": [getattr(entry, "name", entry) for entry in scatter],
    }
