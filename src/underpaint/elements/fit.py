"""Element maps: net counts of line families in every pixel. Standard deviations include interference."""

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
from underpaint.elements.diffraction import Diffraction, plan_diffraction
from underpaint.elements.element_sources import families_of_element
from underpaint.elements.fixed_fit import (
    FixedFit,
    PymcaFit,
    SelectionInput,
    candidate_families,
    fit_resolution,
    is_resolution_known,
    make_selection_input,
    plan_fit,
    recorded_templates,
    replace_noise,
    select_families,
)
from underpaint.elements.line_ratios import COMMON_INSTRUMENTS, N_STRATIGRAPHIES, simulate_line_counts
from underpaint.elements.scatter import ScatterPeaks, plan_scatter
from underpaint.elements.variable_fit import Evidence, VariableFit, fit_noise_fwhm
from underpaint.errors import CoverageError, ScanError
from underpaint.physics.instrument import Detector, Instrument
from underpaint.runtime.blocks import map_blocks

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]

ENGINES = ("underpaint", "fixed", "pymca")
_MIN_TOTAL_COUNTS = 100
_MAX_MISFIT_RATIO = 1.05
"""Maximum misfit of a common instrument that is used, as a multiple of the smallest misfit."""
_SCATTER_LIKE_FAMILIES = ("Nb_K", "Mo_K", "Ag_K")
"""Families whose lines coincide with scattered lines of common anodes, so that a fit could confuse them."""
_SCATTER_ANGLES_DEG = (90.0, 115.0, 140.0)
"""Scattering angles of the Compton peaks that are fitted if the geometry is unknown."""


@dataclass(frozen=True)
class ElementFit:
    """Picklable fit of a scan, which is planned once and applied to the counts of any pixels.

    Parameters
    ----------
    names : tuple of str
        Families of the maps, such as ``Fe_K``.
    engine : VariableFit, FixedFit or PymcaFit
        Fit that turns (n, n_channel) counts into (n, n_family) areas and standard deviations.
    notes, settings
        Arguments of :meth:`~underpaint.data.maps.Results.of_lines`.
    diffraction : Diffraction or None
        Comparison of the detectors of the scan; None for a single detector.
    scatter : ScatterPeaks or None
        Fit of the scattered lines of the source; None if the lines are unknown.
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
        self, counts: NDArray[Any], is_present: NDArray[np.bool_] | None = None, evidence: Evidence | None = None
    ) -> NDArray[np.float32]:
        """Return (n_row, n_column, n_map, 2) areas and standard deviations; NaN for missing and invalid spectra.

        ``evidence`` is the result of the engine for the valid spectra, if already computed.
        """
        is_valid, spectra = valid_part(counts, is_present)
        maps = np.full((is_valid.size, self.n_map, 2), np.nan, np.float32)
        columns = [self.engine.names.index(name) for name in self.names]
        for index, engine_output in enumerate((self.engine(spectra) if evidence is None else evidence)[:2]):
            maps[is_valid, : len(columns), index] = engine_output[:, columns]
        if self.scatter is not None:
            maps[is_valid, len(columns) :] = self.scatter(spectra)
        return maps.reshape(*counts.shape[:2], self.n_map, 2)

    def without_diffraction(
        self,
        counts: NDArray[Any],
        is_present: NDArray[np.bool_] | None,
        detectors: Sequence[NDArray[Any]],
        evidence: Evidence | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return areas and standard deviations, corrected for diffraction peaks, and maps of the diffraction peaks.

        Parameters
        ----------
        counts : (n_row, n_column, n_channel) array
            Counts, summed over the detectors.
        is_present : (n_row, n_column) bool array or None
            Mask of present spectra.
        detectors : sequence of (n_row, n_column, n_channel) arrays
            Counts of each detector; empty if detectors are not compared.
        evidence : Evidence or None
            Result of the engine for the valid spectra, if already computed.

        Returns
        -------
        fitted : (n_row, n_column, n_map, 2) array
            Areas and standard deviations. In pixels with a diffraction peak, the counts at the peak are those that the
            other detectors predict. In these pixels, standard deviations include the change of the areas due to the
            diffraction peak.
        maps : (n_row, n_column, n_detector, 2) array or None
            Maps that :class:`~underpaint.elements.diffraction.Diffraction` returns.
        """
        fitted_maps = self(counts, is_present, evidence)
        if self.diffraction is None:
            return fitted_maps, None
        maps, corrected_counts, is_diffraction = self.diffraction(detectors, is_present)
        if is_diffraction.any():
            corrected_maps = self(corrected_counts[None])[0]
            corrected_maps[:, :, 1] = np.hypot(
                corrected_maps[:, :, 1], fitted_maps[is_diffraction][:, :, 0] - corrected_maps[:, :, 0]
            )
            fitted_maps[is_diffraction] = corrected_maps
        return fitted_maps, maps

    def empty_maps(self) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return the result of :meth:`without_diffraction` for zero pixels."""
        n_detector = 0 if self.diffraction is None else len(self.diffraction.detectors)
        zero_pixel_arrays = [np.empty((0, 0, n_maps, 2), np.float32) for n_maps in (self.n_map, n_detector)]
        return zero_pixel_arrays[0], zero_pixel_arrays[1] if n_detector else None

    def results(
        self,
        maps: NDArray[np.float32],
        step_mm: tuple[float, float] | None,
        diffraction: NDArray[np.float32] | None = None,
    ) -> Results:
        """Convert (n_row, n_column, n_map, 2) areas and standard deviations, and maps of diffraction, to results."""
        result_fields: dict[str, Any] = {"step_mm": step_mm, "notes": self.notes, "settings": self.settings}
        n_name = len(self.names)
        results = Results.of_lines(self.names, maps[..., :n_name, 0], maps[..., :n_name, 1], **result_fields)
        if self.scatter is not None:
            results |= self.scatter.results(maps[..., n_name:, :], step_mm)
        if self.diffraction is None or diffraction is None:
            return results
        return results | self.diffraction.results(diffraction, step_mm)


def valid_part(counts: NDArray[Any], is_present: NDArray[np.bool_] | None) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Return the (n_row * n_column,) mask of valid spectra, and the (n, n_channel) valid spectra."""
    spectra = np.asarray(counts).reshape(-1, counts.shape[-1])
    is_valid = valid_spectra(spectra)
    if is_present is not None:
        is_valid &= is_present.ravel()
    return is_valid, spectra if is_valid.all() else spectra[is_valid]


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
        Scan with a correct energy axis, for example from :func:`underpaint.calibrate.resolve_energy_axis`.
    families : sequence of str, optional
        Maps to return: families ``"Fe_K"``, the lines of one shell ``"Pb_L3"``, or elements ``"Fe"``. By default, all
        families of the scan are returned. The default engine also fits families that are not returned, so that
        uncertainties account for interference.
    add : sequence of str
        Additional families to return.
    drop : sequence of str
        Families that are known to be absent; they are excluded from the fit.
    instrument : Instrument, optional
        Source, geometry and detector. By default, the common instruments that describe the sum spectrum are used, and
        the resolution is fitted. Scattered anode lines are modelled if all instruments used have the same anode.
    engine : {"underpaint", "fixed", "pymca"}
        "underpaint" lets line ratios vary as the forward model predicts. "fixed" uses constant line ratios. This engine
        is faster, but areas are wrong where paint absorbs lines. "pymca" runs PyMca's ``FastXRFLinearFit``. The engines
        "fixed" and "pymca" fit only the returned families.
    progress : callable, optional
        Function that is called with the number of finished rows and the total number of rows.

    Returns
    -------
    Results
        ``area``: net counts of each family, summed over the family's lines; NaN for missing and invalid pixels. Areas
        may be negative; the mean area of pixels without the element is zero. ``area_sigma``: standard deviation of
        ``area``, from counting statistics, interference, background and model. ``scatter``: counts of the Compton and
        Rayleigh peaks of the source, if its lines are known.

    Raises
    ------
    CalibrationError
        The scan has no energy axis.
    ScanError
        The scan has too few counts, or the argument is not a scan but, for example, a path.
    CoverageError
        No family is detected, or a requested family is outside the recorded range.
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
    scan_survey = survey(scan)
    fit = prepare_fit(scan_survey, axis, families=families, add=add, drop=drop, instrument=instrument, engine=engine)
    results = fit.results(*_fit_blocks(scan_survey.scan, fit, progress))
    alerts = [] if fit.diffraction is None else list(fit.diffraction.findings(results))
    settings = {"source": scan.source, "alerts": alerts}
    return replace(results, summary={"name": scan.name, "notes": list(scan_survey.scan.notes), "settings": settings})


def prepare_fit(
    scan_survey: Survey,
    axis: EnergyAxis,
    *,
    families: Sequence[str] | None = None,
    add: Sequence[str] = (),
    drop: Sequence[str] = (),
    instrument: Instrument | None = None,
    engine: str = "underpaint",
    peaks: bool = False,
) -> ElementFit:
    """Plan the fit of a scan from the scan's survey.

    Parameters are those of :func:`fit_elements`. If ``peaks`` is true, the engine "underpaint" also fits unassigned
    peaks.

    Raises
    ------
    ScanError, CoverageError, MissingExtraError
        See :func:`fit_elements`.
    """
    check_names(families, add, drop)
    if engine not in ENGINES:
        raise ValueError(f"Cannot fit elements with engine {engine!r}; engines are {', '.join(map(repr, ENGINES))}.")
    _check_counts(scan_survey)
    if engine == "underpaint":
        fit = _prepare_variable(scan_survey, axis, families, add, drop, instrument, peaks=peaks)
    else:
        fit = _prepare_fixed(scan_survey, axis, families, add, drop, instrument, engine)
    diffraction = plan_diffraction(scan_survey.scan, axis, fit.settings["noise_fwhm_kev"], fit.settings["fano"])
    return replace(fit, diffraction=diffraction)


def _prepare_fixed(
    scan_survey: Survey,
    axis: EnergyAxis,
    families: Sequence[str] | None,
    add: Sequence[str],
    drop: Sequence[str],
    instrument: Instrument | None,
    engine: str,
) -> ElementFit:
    selection_input = make_selection_input(scan_survey.total, scan_survey.highest, axis, instrument)
    added_families, excluded_families = (
        _families_of_names(add, selection_input),
        {family for name in drop for family in _families_of_one_name(name)},
    )
    requested_families = None if families is None else [*_families_of_names(families, selection_input), *added_families]
    fit_plan = plan_fit(
        scan_survey.total,
        scan_survey.highest,
        axis,
        scan_survey.n_pixel,
        families=requested_families,
        instrument=instrument,
    )
    if drop or (add and families is None):
        selected_families = [
            name for name in dict.fromkeys((*fit_plan.names, *added_families)) if name not in excluded_families
        ]
        fit_plan = plan_fit(
            scan_survey.total,
            scan_survey.highest,
            axis,
            scan_survey.n_pixel,
            families=selected_families,
            instrument=instrument,
        )
    notes = _anode_notes(fit_plan.names, is_known=bool(fit_plan.scatter))
    scatter = plan_scatter(scan_survey.total, axis, selection_input.is_fitted, selection_input.scatter)
    if engine == "pymca":
        fit = PymcaFit.plan(
            axis,
            fit_plan.names,
            fit_plan.detector,
            fit_plan.excitation_kev,
            fit_plan.channels,
            fit_plan.scatter,
            scan_survey.total / scan_survey.n_pixel,
        )
        return ElementFit(fit_plan.names, fit, (), fit.settings, scatter=scatter)
    settings = _fit_settings("fixed", fit_plan.detector, fit_plan.scatter, fit_plan.names, axis)
    return ElementFit(fit_plan.names, FixedFit(fit_plan), notes, settings, scatter=scatter)


def plan_all_families(
    scan_survey: Survey, axis: EnergyAxis, instrument: Instrument | None = None, *, peaks: bool = True
) -> VariableFit:
    """Plan the fit of all families and of unassigned peaks, for results other than element maps.

    Raises
    ------
    ScanError
        The scan has too few counts.
    """
    _check_counts(scan_survey)
    family_choice = choose_families(scan_survey.total, scan_survey.highest, axis, None, (), (), instrument)
    return family_choice.plan_spectra(scan_survey.sample, family_choice.selection_input.detector, peaks=peaks)


def _check_counts(scan_survey: Survey) -> None:
    if scan_survey.total.sum() < _MIN_TOTAL_COUNTS:
        raise ScanError(
            f"Cannot fit elements: the scan has {scan_survey.total.sum():.0f} counts in total, at least "
            f"{_MIN_TOTAL_COUNTS} are needed."
        )


def _prepare_variable(
    scan_survey: Survey,
    axis: EnergyAxis,
    families: Sequence[str] | None,
    add: Sequence[str],
    drop: Sequence[str],
    instrument: Instrument | None,
    *,
    peaks: bool,
) -> ElementFit:
    family_choice = choose_families(scan_survey.total, scan_survey.highest, axis, families, add, drop, instrument)
    fit = family_choice.plan_spectra(scan_survey.sample, family_choice.selection_input.detector, peaks=peaks)
    names = family_choice.names
    if families is None:
        # also find families that only few pixels contain, whether or not the sample includes these pixels
        detected_families = {*fit.detected_families(), *fit.families_in_pixels(scan_survey.sample)}
        if len(scan_survey.sample) < scan_survey.n_pixel or not detected_families:
            detected_families |= {
                *select_families(
                    family_choice.selection_input,
                    candidate_families(None, family_choice.selection_input),
                    include_rare_pixels=True,
                )
            }
        names = [name for name in fit.names if name in {*detected_families, *names}]
    if not names:
        raise CoverageError(
            "Cannot fit elements: no line family is detected. Give the families, or check the energy axis."
        )
    selection_input, is_known = (
        family_choice.selection_input,
        instrument is not None or bool(family_choice.selection_input.scatter),
    )
    settings = _fit_settings("underpaint", selection_input.detector, selection_input.scatter, names, axis) | {
        "fitted": list(fit.names)
    }
    scatter = plan_scatter(scan_survey.total, axis, selection_input.is_fitted, selection_input.scatter)
    return ElementFit(tuple(names), fit, _anode_notes(names, is_known=is_known), settings, scatter=scatter)


@dataclass(frozen=True)
class FitChoice:
    """Families to fit, families to return, and the function that plans the fit.

    Parameters
    ----------
    names : list of str
        Requested families.
    families : list of str
        All families to fit.
    selection_input : Stage
        Spectra, fitted channels, and the detector with its resolution.
    plan_spectra : callable
        Function that plans the fit of (n, n_channel) spectra for a detector.
    """

    names: list[str]
    families: list[str]
    selection_input: SelectionInput
    plan_spectra: Callable[..., VariableFit]


def choose_families(
    sum_counts: Array,
    max_counts: Array,
    axis: EnergyAxis,
    families: Sequence[str] | None,
    add: Sequence[str],
    drop: Sequence[str],
    instrument: Instrument | None,
) -> FitChoice:
    """Choose the families to fit from the sum and maximum spectra; options are those of :func:`fit_elements`.

    Raises
    ------
    CoverageError
        A requested family is outside the recorded range.
    """
    selection_input = make_selection_input(sum_counts, max_counts, axis, instrument)
    requested_families = _families_of_names([*(families or ()), *add], selection_input)
    dropped_families = {family for name in drop for family in _families_of_one_name(name)}
    if requested_families:
        candidate_families(requested_families, selection_input)
    selection_input = fit_resolution(selection_input, candidate_families(None, selection_input), instrument)
    instruments = _likely_instruments(selection_input) if instrument is None else (instrument,)
    if instrument is None and len({likely_instrument.tube.anode for likely_instrument in instruments}) == 1:
        # scattered lines are modelled if all likely instruments have the same anode
        selection_input = replace(selection_input, scatter=_scatter_at_any_angle(instruments[0], selection_input))
    scatter_names = {template.name for template in selection_input.scatter}
    # if single shells of a family are requested, the family is fitted shell by shell
    split_families = {name[:-1] for name in requested_families if name[-1].isdigit()}
    subshells = [f"{name}{subshell}" for name in sorted(split_families) for subshell in range(1, 6)]
    candidates = dict.fromkeys(
        (*(name for name in CANDIDATES if name not in scatter_names | split_families), *subshells, *requested_families)
    )
    line_counts = [
        simulate_line_counts(likely_instrument, N_STRATIGRAPHIES // len(instruments))
        for likely_instrument in instruments
    ]
    fitted_families = [name for name in candidates if name not in dropped_families]
    plan_spectra = partial(
        VariableFit,
        axis=axis,
        is_fitted=selection_input.is_fitted,
        families=fitted_families,
        simulations=line_counts,
        excitation_kev=max(likely_instrument.highest_kev for likely_instrument in instruments),
        anode_templates=np.reshape([template.counts for template in selection_input.scatter], (-1, axis.n_channel)),
    )
    if not is_resolution_known(instrument):
        reduced_line_counts = [simulate_line_counts(instruments[0], N_STRATIGRAPHIES // 2)]
        selection_input = replace_noise(
            selection_input,
            fit_noise_fwhm(
                sum_counts, selection_input.detector, partial(plan_spectra, simulations=reduced_line_counts)
            ),
        )
    return FitChoice(
        [name for name in dict.fromkeys(requested_families) if name not in dropped_families],
        fitted_families,
        selection_input,
        plan_spectra,
    )


def _likely_instruments(selection_input: SelectionInput) -> tuple[Instrument, ...]:
    """Return the common instruments that describe the sum spectrum, best instrument first.

    The instruments differ mainly in scatter, that is in anode lines and Compton shift.
    """
    misfits = []
    families = [name for name in CANDIDATES if name not in _SCATTER_LIKE_FAMILIES]
    for instrument in COMMON_INSTRUMENTS:
        line_counts = simulate_line_counts(instrument, N_STRATIGRAPHIES // 5)
        no_templates = np.zeros((0, selection_input.axis.n_channel))
        fit_arguments = (selection_input.is_fitted, families, [line_counts], instrument.highest_kev, no_templates)
        misfits.append(
            VariableFit(
                selection_input.sum_counts[None], selection_input.detector, selection_input.axis, *fit_arguments
            ).first.misfit
        )
    misfit_order = np.argsort(misfits)
    return tuple(
        COMMON_INSTRUMENTS[index]
        for index in misfit_order
        if misfits[index] <= _MAX_MISFIT_RATIO * misfits[misfit_order[0]]
    )


def _scatter_at_any_angle(instrument: Instrument, selection_input: SelectionInput) -> tuple[Template, ...]:
    """Return the templates of scattered anode lines, including Compton peaks for several scattering angles."""
    templates = []
    for angle_deg in _SCATTER_ANGLES_DEG:
        geometry = instrument.geometry.model_copy(update={"scatter_angle_deg": angle_deg})
        instrument_at_angle = instrument.model_copy(update={"detector": selection_input.detector, "geometry": geometry})
        angle_templates = scatter_templates(instrument_at_angle, selection_input.axis)
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
        A string is given in place of a list, the list of families is empty, or all families are dropped.
    """
    if any(isinstance(names, str) for names in (families, add, drop)):
        raise CoverageError(
            f"Cannot fit elements: families, add and drop must be lists, but {families or add or drop!r} is a string. "
            'Give a list, ["Fe", "Pb_L"].'
        )
    if families is not None and not {*families, *add} - {*drop}:
        raise CoverageError(
            "Cannot fit elements: the list of families is empty, or all families are dropped. Give at least one, such "
            "as Fe or Pb_L, or omit the list to map all families of the scan."
        )


def _families_of_names(names: Sequence[str], selection_input: SelectionInput) -> list[str]:
    """Return the named families; the name of an element stands for all families of the element within the axis."""
    families: list[str] = []
    for name in names:
        families_of_name = [name]
        if "_" not in name:
            families_of_name = [
                template.name for template in recorded_templates(selection_input, _families_of_one_name(name))
            ] or [f"{name}_K"]
        families += families_of_name
    return families


def _families_of_one_name(name: str) -> tuple[str, ...]:
    """Return the families of an element, or the family itself."""
    return (name,) if "_" in name else families_of_element(name)


def _fit_blocks(
    scan: Scan, fit: ElementFit, progress: Progress | None
) -> tuple[NDArray[np.float32], tuple[float, float] | None, NDArray[np.float32] | None]:
    """Fit all blocks of a scan; return the arguments of :meth:`ElementFit.results`."""
    n_row, n_column, _ = scan.shape
    area_maps = np.empty((n_row, n_column, fit.n_map, 2), dtype=np.float32)
    detectors = () if fit.diffraction is None else tuple(detector.counts for detector in scan.detectors)
    maps = np.empty((n_row, n_column, len(detectors), 2), np.float32) if detectors else None

    def fit_block(counts: NDArray[Any], is_present: NDArray[np.bool_] | None, *detector_counts: NDArray[Any]) -> Any:
        return fit.without_diffraction(counts, is_present, detector_counts)

    for _, block, (block_maps, diffraction_maps) in map_blocks(scan, fit_block, arrays=detectors):
        area_maps[block] = block_maps
        if maps is not None:
            maps[block] = diffraction_maps
        if progress is not None:
            progress(block[0].stop, n_row)
    return area_maps, scan.step_mm, maps


def _anode_notes(names: Sequence[str], *, is_known: bool) -> tuple[str, ...]:
    anode_families = [name for name in names if name.removesuffix("_K") in ANODES]
    if is_known or not anode_families:
        return ()
    return (f"{', '.join(anode_families)} may be tube lines scattered by the paint; give the anode to decide.",)


def _fit_settings(
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
        "scatter": [getattr(template, "name", template) for template in scatter],
    }
