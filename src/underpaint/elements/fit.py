"""Element maps: net counts of line families in every pixel, with deviations that know what interferes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint._version import __version__
from underpaint.data import EnergyAxis, Scan, Survey, sound_spectra, survey
from underpaint.data.maps import Results
from underpaint.elements._families import ANODES, CANDIDATES, Template, family_templates, scatter_templates
from underpaint.elements._pymca import PymcaFit
from underpaint.elements.diffraction import Diffraction, plan_diffraction
from underpaint.elements.fixed_fit import (
    FixedFit,
    Stage,
    candidates_of,
    chosen_families,
    plan_fit,
    resolution_known,
    stage_of,
    with_noise,
    with_resolution,
)
from underpaint.elements.known import families_of_element
from underpaint.elements.line_ratios import N_STRATIGRAPHIES, USUAL_INSTRUMENTS, simulate_line_counts
from underpaint.elements.scatter import ScatterPeaks, plan_scatter
from underpaint.elements.variable_fit import Evidence, VariableFit, fitted_noise
from underpaint.errors import CoverageError, ScanError
from underpaint.physics.instrument import Detector, Instrument
from underpaint.runtime.blocks import over_blocks

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]

ENGINES = ("underpaint", "fixed", "pymca")
_LEAST_COUNTS = 100
_MOST_WORSE = 1.05
"""Misfit of the sum spectrum over that by the best of the usual instruments, from which one is not it."""
_LIKE_SCATTER = ("Nb_K", "Mo_K", "Ag_K")
"""Families whose lines lie where anodes' lines are scattered: with them, another anode's scatter could be described."""
_SCATTER_ANGLES_DEG = (90.0, 115.0, 140.0)
"""Angles of Compton scatter that stand for one that is not known, between beam and detected photon."""


@dataclass(frozen=True)
class ElementFit:
    """A fit that is planned, ready for the counts of any pixels of the scan; it can be sent to another process.

    Parameters
    ----------
    names : tuple of str
        Families that are returned, ``Fe_K``.
    engine : VariableFit, FixedFit or PymcaFit
        Turns (n, n_channel) counts into (n, n_family) areas and deviations of its own families.
    notes, settings
        As :meth:`~underpaint.data.maps.Results.of_lines` takes them.
    diffraction : Diffraction or None
        How the scan's detectors compare; None where there is one.
    scatter : ScatterPeaks or None
        Takes the source's scattered lines out of spectra; None where they are not known.
    """

    names: tuple[str, ...]
    engine: VariableFit | FixedFit | PymcaFit
    notes: tuple[str, ...]
    settings: dict[str, Any]
    diffraction: Diffraction | None = None
    scatter: ScatterPeaks | None = None

    @property
    def n_map(self) -> int:
        """Number of maps: of families, then of scatter."""
        return len(self.names) + (0 if self.scatter is None else len(self.scatter.names))

    def __call__(
        self, counts: NDArray[Any], present: NDArray[np.bool_] | None = None, shown: Evidence | None = None
    ) -> NDArray[np.float32]:
        """Return (n_row, n_column, n_map, 2) areas and deviations; NaN where there is no spectrum, or no sound one.

        ``shown`` is what the engine makes of the sound spectra, where that is known.
        """
        sound, spectra = sound_part(counts, present)
        result = np.full((sound.size, self.n_map, 2), np.nan, np.float32)
        columns = [self.engine.names.index(name) for name in self.names]
        for index, values in enumerate((self.engine(spectra) if shown is None else shown)[:2]):
            result[sound, : len(columns), index] = values[:, columns]
        if self.scatter is not None:
            result[sound, len(columns) :] = self.scatter(spectra)
        return result.reshape(*counts.shape[:2], self.n_map, 2)

    def without_diffraction(
        self,
        counts: NDArray[Any],
        present: NDArray[np.bool_] | None,
        detectors: Sequence[NDArray[Any]],
        shown: Evidence | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return areas and deviations that peaks of one detector alone do not touch, and maps of these peaks.

        Parameters
        ----------
        counts : (n_row, n_column, n_channel) array
        present : (n_row, n_column) bool array or None
        detectors : sequence of (n_row, n_column, n_channel) arrays
            Those whose sum the counts are; empty where they are not compared.
        shown : Evidence or None
            What the engine makes of the sound spectra, where that is known.

        Returns
        -------
        fitted : (n_row, n_column, n_map, 2) array
            Where one detector alone has a peak, areas are what the others show, and deviations are raised by what the
            peak would have changed.
        maps : (n_row, n_column, n_detector, 2) array or None
            As of :class:`~underpaint.elements.diffraction.Diffraction`.
        """
        fitted = self(counts, present, shown)
        if self.diffraction is None:
            return fitted, None
        maps, clean, where = self.diffraction(detectors, present)
        if where.any():
            without = self(clean[None])[0]
            without[:, :, 1] = np.hypot(without[:, :, 1], fitted[where][:, :, 0] - without[:, :, 0])
            fitted[where] = without
        return fitted, maps

    def nothing(self) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return what :meth:`without_diffraction` returns of no pixel."""
        n_detector = 0 if self.diffraction is None else len(self.diffraction.detectors)
        empty = [np.empty((0, 0, n, 2), np.float32) for n in (self.n_map, n_detector)]
        return empty[0], empty[1] if n_detector else None

    def results(
        self,
        values: NDArray[np.float32],
        step_mm: tuple[float, float] | None,
        diffraction: NDArray[np.float32] | None = None,
    ) -> Results:
        """Return (n_row, n_column, n_map, 2) areas and deviations as results, with maps of scatter and diffraction."""
        facts: dict[str, Any] = {"step_mm": step_mm, "notes": self.notes, "settings": self.settings}
        n_name = len(self.names)
        results = Results.of_lines(self.names, values[..., :n_name, 0], values[..., :n_name, 1], **facts)
        if self.scatter is not None:
            results |= self.scatter.results(values[..., n_name:, :], step_mm)
        if self.diffraction is None or diffraction is None:
            return results
        return results | self.diffraction.results(diffraction, step_mm)


def sound_part(counts: NDArray[Any], present: NDArray[np.bool_] | None) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Return which of (n_row, n_column, n_channel) counts are sound spectra, (n_row * n_column,), and those."""
    flat = np.asarray(counts).reshape(-1, counts.shape[-1])
    sound = sound_spectra(flat)
    if present is not None:
        sound &= present.ravel()
    return sound, flat if sound.all() else flat[sound]


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
        Counts with an energy axis (see ``underpaint.calibrate``).
    families : sequence of str, optional
        Maps to return: families ``"Fe_K"``, the lines of one shell ``"Pb_L3"``, or elements ``"Fe"``. By default all
        families that the scan shows. The fit holds all others, too, so that a deviation knows what may interfere.
    add : sequence of str
        Families to return besides.
    drop : sequence of str
        Families that are known to be absent: they are left out of the fit.
    instrument : Instrument, optional
        Source, geometry and detector. Without it those of the usual instruments stand for it that describe the sum
        spectrum; where they have one anode, its scattered lines are no elements. The resolution is fitted.
    engine : {"underpaint", "fixed", "pymca"}
        "underpaint" lets line ratios vary as the forward model says they do. "fixed" holds one ratio for the whole
        scan: faster to plan, and wrong where paint absorbs. "pymca" runs PyMca's ``FastXRFLinearFit``. The last two
        fit what they return and no more.
    progress : callable, optional
        Called with (rows done, rows in all).

    Returns
    -------
    Results
        ``area`` and ``area_sigma``: net counts of each family over all its lines, and one standard deviation: counting,
        interference of other families through the ratios of their lines, background and model. NaN where a pixel is
        missing, or has counts that are no numbers. Areas may be negative: their mean over pixels without an element is
        zero. Where the source's lines are known, also ``scatter``: counts of its Compton and Rayleigh peaks.

    Raises
    ------
    CalibrationError
        The scan has no energy axis.
    ScanError
        The scan has next to no counts.
    CoverageError
        No family stands out, or one that was named lies outside the recorded range.
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
    axis = scan.require_axis()
    seen = survey(scan)
    fit = prepare_fit(seen, axis, families=families, add=add, drop=drop, instrument=instrument, engine=engine)
    results = fit.results(*_fit_blocks(seen.scan, fit, progress))
    alerts = [] if fit.diffraction is None else list(fit.diffraction.findings(results))
    settings = {"source": scan.source, "alerts": alerts}
    return replace(results, summary={"name": scan.name, "notes": list(seen.scan.notes), "settings": settings})


def prepare_fit(
    seen: Survey,
    axis: EnergyAxis,
    *,
    families: Sequence[str] | None = None,
    add: Sequence[str] = (),
    drop: Sequence[str] = (),
    instrument: Instrument | None = None,
    engine: str = "underpaint",
    peaks: bool = False,
) -> ElementFit:
    """Plan a fit from the survey of a scan; all else as for :func:`fit_elements`.

    ``peaks`` has the fit with variable ratios look for peaks of no family, too.

    Raises
    ------
    ScanError, CoverageError, MissingExtraError
        As there.
    """
    check_names(families, add, drop)
    if engine not in ENGINES:
        raise ValueError(f"Cannot fit elements with engine {engine!r}; engines are {', '.join(map(repr, ENGINES))}.")
    _check_counts(seen)
    if engine == "underpaint":
        fit = _prepare_variable(seen, axis, families, add, drop, instrument, peaks=peaks)
    else:
        fit = _prepare_fixed(seen, axis, families, add, drop, instrument, engine)
    compared = plan_diffraction(seen.scan, axis, fit.settings["noise_fwhm_kev"], fit.settings["fano"])
    return replace(fit, diffraction=compared)


def _prepare_fixed(
    seen: Survey,
    axis: EnergyAxis,
    families: Sequence[str] | None,
    add: Sequence[str],
    drop: Sequence[str],
    instrument: Instrument | None,
    engine: str,
) -> ElementFit:
    stage = stage_of(seen.total, seen.highest, axis, instrument)
    added, left_out = _families_of(add, stage), {one for name in drop for one in _parts(name)}
    named = None if families is None else [*_families_of(families, stage), *added]
    plan = plan_fit(seen.total, seen.highest, axis, seen.n_pixel, families=named, instrument=instrument)
    if drop or (add and families is None):
        kept = [name for name in dict.fromkeys((*plan.names, *added)) if name not in left_out]
        plan = plan_fit(seen.total, seen.highest, axis, seen.n_pixel, families=kept, instrument=instrument)
    notes = _anode_notes(plan.names, known=bool(plan.scatter))
    scatter = plan_scatter(seen.total, axis, stage.used, stage.scatter)
    if engine == "pymca":
        fit = PymcaFit.planned(
            axis, plan.names, plan.detector, plan.excitation_kev, plan.channels, plan.scatter, seen.total / seen.n_pixel
        )
        return ElementFit(plan.names, fit, (), fit.settings, scatter=scatter)
    settings = _settings("fixed", plan.detector, plan.scatter, plan.names, axis)
    return ElementFit(plan.names, FixedFit(plan), notes, settings, scatter=scatter)


def plan_all_families(
    seen: Survey, axis: EnergyAxis, instrument: Instrument | None = None, *, peaks: bool = True
) -> VariableFit:
    """Plan the fit of all families and of peaks of no family, for what it shows beside element maps.

    Raises
    ------
    ScanError
        The scan has next to no counts.
    """
    _check_counts(seen)
    chosen = choose(seen.total, seen.highest, axis, None, (), (), instrument)
    return chosen.make(seen.sample, chosen.stage.detector, peaks=peaks)


def _check_counts(seen: Survey) -> None:
    if seen.total.sum() < _LEAST_COUNTS:
        raise ScanError(
            f"Cannot fit elements: the scan has {seen.total.sum():.0f} counts in all, at least {_LEAST_COUNTS} are "
            "needed."
        )


def _prepare_variable(
    seen: Survey,
    axis: EnergyAxis,
    families: Sequence[str] | None,
    add: Sequence[str],
    drop: Sequence[str],
    instrument: Instrument | None,
    *,
    peaks: bool,
) -> ElementFit:
    chosen = choose(seen.total, seen.highest, axis, families, add, drop, instrument)
    fit = chosen.make(seen.sample, chosen.stage.detector, peaks=peaks)
    names = chosen.names
    if families is None:
        # what only a few pixels show: among the sample, and among those that were not sampled
        shown = {*fit.shown(), *fit.shown_by_pixels(seen.sample)}
        if len(seen.sample) < seen.n_pixel or not shown:
            shown |= {*chosen_families(chosen.stage, candidates_of(None, chosen.stage), rare_pixels=True)}
        names = [name for name in fit.names if name in {*shown, *names}]
    if not names:
        raise CoverageError(
            "Cannot fit elements: no line family stands out. Name the families, or check the energy axis."
        )
    stage, known = chosen.stage, instrument is not None or bool(chosen.stage.scatter)
    settings = _settings("underpaint", stage.detector, stage.scatter, names, axis) | {"fitted": list(fit.names)}
    scatter = plan_scatter(seen.total, axis, stage.used, stage.scatter)
    return ElementFit(tuple(names), fit, _anode_notes(names, known=known), settings, scatter=scatter)


@dataclass(frozen=True)
class Choice:
    """Families to fit and to return, and what plans the fit.

    Parameters
    ----------
    names : list of str
        Families that were named.
    stage : Stage
        Spectra, channels used, and the detector at the resolution to use.
    make : callable
        Plans the fit of (n, n_channel) spectra for a detector.
    """

    names: list[str]
    stage: Stage
    make: Callable[..., VariableFit]


def choose(
    total: Array,
    highest: Array,
    axis: EnergyAxis,
    families: Sequence[str] | None,
    add: Sequence[str],
    drop: Sequence[str],
    instrument: Instrument | None,
) -> Choice:
    """Choose what is fitted, from the sum and maximum spectra; all else as for :func:`fit_elements`.

    Raises
    ------
    CoverageError
        A family that was named lies outside the recorded range.
    """
    stage = stage_of(total, highest, axis, instrument)
    named = _families_of([*(families or ()), *add], stage)
    left_out = {one for name in drop for one in _parts(name)}
    if named:
        candidates_of(named, stage)
    stage = with_resolution(stage, candidates_of(None, stage), instrument)
    instruments = _likely_instruments(stage) if instrument is None else (instrument,)
    if instrument is None and len({one.tube.anode for one in instruments}) == 1:
        # all that may be it have one anode: its lines are scatter
        stage = replace(stage, scatter=_scatter_at_any_angle(instruments[0], stage))
    anode = {template.name for template in stage.scatter}
    # a family whose shells are named one by one is fitted shell by shell
    split = {name[:-1] for name in named if name[-1].isdigit()}
    shells = [f"{name}{number}" for name in sorted(split) for number in range(1, 6)]
    fitted = dict.fromkeys((*(name for name in CANDIDATES if name not in anode | split), *shells, *named))
    simulated = [simulate_line_counts(one, N_STRATIGRAPHIES // len(instruments)) for one in instruments]
    make = partial(
        VariableFit,
        axis=axis,
        used=stage.used,
        families=[name for name in fitted if name not in left_out],
        simulated=simulated,
        excitation_kev=max(one.highest_kev for one in instruments),
        anode=np.reshape([one.counts for one in stage.scatter], (-1, axis.n_channel)),
    )
    if not resolution_known(instrument):
        one = [simulate_line_counts(instruments[0], N_STRATIGRAPHIES // 2)]
        stage = with_noise(stage, fitted_noise(total, stage.detector, partial(make, simulated=one)))
    return Choice([name for name in dict.fromkeys(named) if name not in left_out], stage, make)


def _likely_instruments(stage: Stage) -> tuple[Instrument, ...]:
    """Return the usual instruments that describe the sum spectrum, the best one first.

    Above all their scatter tells them: an anode's lines, and where Compton scatter shifts them.
    """
    misfits = []
    families = [name for name in CANDIDATES if name not in _LIKE_SCATTER]
    for one in USUAL_INSTRUMENTS:
        simulated = simulate_line_counts(one, N_STRATIGRAPHIES // 5)
        nothing = np.zeros((0, stage.axis.n_channel))
        arguments = (stage.used, families, [simulated], one.highest_kev, nothing)
        misfits.append(VariableFit(stage.total[None], stage.detector, stage.axis, *arguments).first.misfit)
    order = np.argsort(misfits)
    return tuple(USUAL_INSTRUMENTS[index] for index in order if misfits[index] <= _MOST_WORSE * misfits[order[0]])


def _scatter_at_any_angle(instrument: Instrument, stage: Stage) -> tuple[Template, ...]:
    """Return the anode's lines as they are scattered, their Compton peak at angles that stand for all."""
    templates = []
    for angle in _SCATTER_ANGLES_DEG:
        geometry = instrument.geometry.model_copy(update={"scatter_angle_deg": angle})
        known = instrument.model_copy(update={"detector": stage.detector, "geometry": geometry})
        of_angle = scatter_templates(known, stage.axis)
        templates += [one for one in of_angle if one.name == "Compton" or angle == _SCATTER_ANGLES_DEG[0]]
    return tuple(templates)


def check_names(families: Sequence[str] | None, add: Sequence[str] = (), drop: Sequence[str] = ()) -> None:
    """Refuse lists of families that cannot be meant.

    Raises
    ------
    CoverageError
        The list of families is empty, or one text; or all of them are dropped.
    """
    if any(isinstance(names, str) for names in (families, add, drop)):
        raise CoverageError(
            f"Cannot fit elements: families, add and drop are lists, {families or add or drop!r} is one text. "
            'Give a list, ["Fe", "Pb_L"].'
        )
    if families is not None and not {*families, *add} - {*drop}:
        raise CoverageError(
            "Cannot fit elements: the list of families is empty, or all of it is dropped. Name at least one, such as "
            "Fe or Pb_L, or leave the list away: then all that the scan shows are mapped."
        )


def _families_of(names: Sequence[str], stage: Stage) -> list[str]:
    """Return families as they are, and of elements all those that the axis can show."""
    families: list[str] = []
    for name in names:
        shown = [name]
        if "_" not in name:
            templates = family_templates(_parts(name), stage.detector, stage.axis, stage.excitation_kev)
            shown = [template.name for template in templates] or [f"{name}_K"]
        families += shown
    return families


def _parts(name: str) -> tuple[str, ...]:
    """Return the families of an element; a family is its own."""
    return (name,) if "_" in name else families_of_element(name)


def _fit_blocks(
    scan: Scan, fit: ElementFit, progress: Progress | None
) -> tuple[NDArray[np.float32], tuple[float, float] | None, NDArray[np.float32] | None]:
    """Return what :meth:`ElementFit.results` takes."""
    n_row, n_column, _ = scan.shape
    result = np.empty((n_row, n_column, fit.n_map, 2), dtype=np.float32)
    detectors = () if fit.diffraction is None else tuple(one.counts for one in scan.detectors)
    maps = np.empty((n_row, n_column, len(detectors), 2), np.float32) if detectors else None

    def work(counts: NDArray[Any], present: NDArray[np.bool_] | None, *parts: NDArray[Any]) -> Any:
        return fit.without_diffraction(counts, present, parts)

    for _, block, (values, peaks) in over_blocks(scan, work, beside=detectors):
        result[block] = values
        if maps is not None:
            maps[block] = peaks
        if progress is not None:
            progress(block[0].stop, n_row)
    return result, scan.step_mm, maps


def _anode_notes(names: Sequence[str], *, known: bool) -> tuple[str, ...]:
    anodes = [name for name in names if name.removesuffix("_K") in ANODES]
    if known or not anodes:
        return ()
    return (f"{', '.join(anodes)} may be the tube's own lines scattered by the paint; name the anode to tell.",)


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
        "scatter": [getattr(one, "name", one) for one in scatter],
    }
