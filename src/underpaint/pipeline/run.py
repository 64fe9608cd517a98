"""The pipeline as functions: load, find the energy axis, identify, fit the elements, write, report.

The command line calls these; they print nothing. ``progress`` is called with (what is being done, done, in all).
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from underpaint import __version__
from underpaint.calibrate import (
    BEAM_RANGE_KEV,
    Beam,
    Calibration,
    DoubtedAxisError,
    Knowledge,
    beam_contradiction,
    calibrate,
    calibration_notes,
    contradiction,
    deviation_note,
    find_beam,
    what_is_known,
)
from underpaint.data import EnergyAxis, Scan, Spectrum
from underpaint.data.maps import OpenSet, PigmentMaps, Results, split_place
from underpaint.data.peaks import resolution_fwhm_kev
from underpaint.errors import (
    CalibrationError,
    CoverageError,
    InstrumentError,
    OutputError,
    ScanError,
    UnderpaintError,
)
from underpaint.io import (
    BlockStore,
    Survey,
    is_finished,
    load,
    recover,
    result_folder,
    scan_info,
    summarise_scan,
    survey,
    write_results,
)
from underpaint.io.load import refuse_inside
from underpaint.io.results.nexus import check_map_names
from underpaint.io.results.provenance import DEPENDS, check_origin, file_facts, folders_of, refuse_change
from underpaint.io.results.sidecars import carry_over
from underpaint.physics.instrument import Instrument, SourceSpectrum, load_instrument
from underpaint.physics.materials import Palette, load_palette
from underpaint.pigments.weights import load_card, model_path
from underpaint.pipeline.blocks import Plan, do_blocks, load_survey, save_survey, shared
from underpaint.repair import noting_mirrored_rows
from underpaint.runtime.files import sha256_of
from underpaint.runtime.progress import Progress, silent
from underpaint.simulate.instrument_inputs import KnownInstrument

if TYPE_CHECKING:
    from underpaint.display.report import Arrangement
    from underpaint.elements import LineEvidence

_BYTES_PER_MAP_VALUE = 12
_USUAL_FAMILIES = 40
_FEW_PIXELS = 4
_NO_ANODE = (
    "The tube's anode is not known. Its lines, scattered by the sample, may look like a pigment's (chromium, copper). "
    "Give it with an instrument file (tube.anode)."
)
_ORIGINS = {"given": "given", "file": "by the scan's file", "spectrum": "by its elastic and Compton peaks"}


@dataclass(frozen=True)
class Settings:
    """What a run depends on.

    Parameters
    ----------
    model : str
        Shipped name or ``.onnx`` file.
    palette, instrument : str or None
        Name or file; a given instrument's axis is trusted.
    engine : {"underpaint", "pymca"}
        What fits the elements.
    calibrated : bool
        False: trust the file's energy axis.
    detector, shape : str or None, (int, int) or None
        As for :func:`underpaint.load`.
    detectability : bool or None
        Whether to say what cannot be excluded; None: where an instrument is given.
    elements : bool
        False: of pigments alone, without element maps and without a look for what nothing explains.
    counts_scale : float or None
        As for :func:`underpaint.load`.
    trust_instrument : bool
        Use a given instrument although the scan's spectra contradict it.
    beam_kev : float or None
        Energy of a monochromatic beam, keV; None: as the scan's file says, or as its spectra show.
    """

    model: str = "default"
    palette: str | None = None
    instrument: str | None = None
    engine: Literal["underpaint", "pymca"] = "underpaint"
    calibrated: bool = True
    detector: str | None = None
    shape: tuple[int, int] | None = None
    detectability: bool | None = None
    elements: bool = True
    counts_scale: float | None = None
    trust_instrument: bool = False
    beam_kev: float | None = None


@dataclass(frozen=True)
class Axis:
    """A scan on the energy axis to use, with how that axis was come by.

    Parameters
    ----------
    scan : Scan
        With an axis.
    knowledge : Knowledge or None
        What is known of the instrument: given, else in the scan's file, else found in its lines.
    calibration : Calibration or None
        What was found; None where the axis was given.
    notes : tuple of str
        What the user should know, in words.
    alerts : tuple of str
        What the user must know, because results may be wrong or are withheld.
    is_doubted : bool
        The axis is the file's, and the scan's lines do not lie where it has any: no pigment is claimed on it.
    """

    scan: Scan
    knowledge: Knowledge | None = None
    calibration: Calibration | None = None
    notes: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()
    is_doubted: bool = False

    @property
    def instrument(self) -> Instrument | None:
        """The instrument; None where neither its resolution nor what excites is known."""
        knowledge = self.knowledge
        if knowledge is None or not (knowledge.knows_excitation or "detector.noise_fwhm_kev" in knowledge.origin):
            return None
        return knowledge.instrument

    @property
    def beam_kev(self) -> float | None:
        """Energy of the monochromatic beam, keV; None: a tube, or not known."""
        return None if self.knowledge is None else self.knowledge.beam_kev

    def known(self) -> KnownInstrument:
        """What is known of the instrument, as a network is told it."""
        return KnownInstrument() if self.knowledge is None else self.knowledge.known()

    def facts(self) -> dict[str, Any]:
        """JSON-serialisable record for the results."""
        axis = self.scan.require_axis()
        found = self.calibration
        record: dict[str, Any] = {
            "source": "given" if found is None else "found in the scan's lines",
            "gain_kev": axis.gain_kev,
            "zero_kev": axis.zero_kev,
            "notes": list(self.notes),
            "known": {} if self.knowledge is None else self.knowledge.facts(),
        }
        if found is not None:
            record |= {
                "noise_fwhm_kev": found.noise_fwhm_kev,
                "fano": found.fano,
                "residual_ev": found.residual_ev,
                "axis_uncertainty_ev": found.axis_uncertainty_ev,
                "found": list(found.found),
                "missing": list(found.missing),
                "anode": found.anode,
                "scatter_angle_deg": found.scatter_angle_deg,
            }
        return record


@dataclass(frozen=True)
class Outcome:
    """What became of one scan.

    Parameters
    ----------
    source : str
        As given.
    folder : Path or None
        Where the results are; None when it failed.
    error : str
        Why it failed; "" when it did not.
    skipped : bool
        True where finished results were there already and were left alone.
    groups : dict of str to float
        Share of the answered pixels where each group's probability is over one half.
    unexplained : tuple of str
        In words: lines that no pigment found there carries, and spectra unlike anything known.
    layers : tuple of Arrangement
        What lies at the surface over what, the most widespread first; empty where the model knows no places.
    aside : str
        In words: where regions and photograph of replaced results are that do not fit these; "" where there are none.
    alerts : tuple of str
        What the user must know, because results may be wrong or are withheld.
    """

    source: str
    folder: Path | None = None
    error: str = ""
    notes: tuple[str, ...] = ()
    groups: dict[str, float] = field(default_factory=dict)
    skipped: bool = False
    unexplained: tuple[str, ...] = ()
    layers: "tuple[Arrangement, ...]" = ()
    aside: str = ""
    alerts: tuple[str, ...] = ()


def identify(
    scan: Scan,
    *,
    model: str | Path = "default",
    palette: str | Path | Sequence[str] | None = None,
    instrument: str | Path | Instrument | None = None,
    calibrated: bool = True,
    trust_instrument: bool = False,
) -> PigmentMaps:
    """Find the pigments of a scan, on an energy axis found from its own lines.

    Parameters
    ----------
    scan : Scan
        As from :func:`underpaint.load`.
    model : str or Path
        Shipped name, or an ``.onnx`` file with its card beside it.
    palette : str, Path, sequence of str, or None
        Palette by name or TOML file, or the names of pigments; None asks for all. Inside a group its pigments share the
        group's probability by what the palette says: :func:`underpaint.pigments.limits.share_members`.
    instrument : str, Path, Instrument or None
        Preset, file or instrument whose axis is to be trusted; told to networks that ask for it. Without one, they are
        told what the spectrum shows of it.
    calibrated : bool
        False trusts the file's axis.
    trust_instrument : bool
        Use the instrument although the scan's spectra contradict it.

    Returns
    -------
    PigmentMaps
        Probability maps; ``maps["vermilion"]`` is (row, column), NaN where there is no answer. Of a network of layers
        also ``maps.at("vermilion", "surface")`` and ``maps.thickness_um()``.

    Raises
    ------
    InstrumentError
        The scan's spectra contradict the instrument.
    CoverageError
        A monochromatic beam excited the scan, or its lines do not lie where the file's energy axis has any.
    UnderpaintError
        No axis can be found, or the model does not fit the scan.
    """
    seen = survey(noting_mirrored_rows(scan))
    axis = on_its_energy_axis(
        seen.scan,
        instrument=instrument,
        calibrated=calibrated,
        total=seen.sum_spectrum(),
        tube=asks_for_the_tube(model),
        trust_instrument=trust_instrument,
    )
    if axis.beam_kev is not None or axis.is_doubted:
        raise CoverageError(_withheld(axis, "Map its elements with underpaint.fit_elements."))
    named = load_palette(palette) if isinstance(palette, str | Path) else palette
    from underpaint.pigments.predict import identify as answer

    doubt = _line_evidence(axis, seen, model)
    maps = shared(answer(axis.scan, model, named, instrument=axis.known(), doubt=doubt), named)
    return replace(maps, notes=(*axis.alerts, *axis.notes, *maps.notes))


def asks_for_the_tube(model: str | Path) -> bool:
    """Whether a network wants to be told about the instrument, so that its tube is worth looking for.

    Raises
    ------
    ModelError
        There is no such model.
    """
    return bool(load_card(model).instrument_inputs)


def on_its_energy_axis(
    scan: Scan,
    *,
    instrument: str | Path | Instrument | None = None,
    calibrated: bool = True,
    total: Spectrum | None = None,
    tube: bool = False,
    trust_instrument: bool = False,
    beam_kev: float | None = None,
) -> Axis:
    """Return a scan on the axis to use, with what is known of its instrument.

    The axis is the given instrument's, where that sets one; else it is found from the lines.

    Parameters
    ----------
    scan : Scan
        With or without an axis.
    instrument : str, Path, Instrument or None
        Preset, file or instrument.
    calibrated : bool
        False trusts the file's axis.
    total : Spectrum or None
        The scan's sum spectrum, if it is known already; saves reading the scan.
    tube : bool
        Look for the tube's voltage, too; some seconds more.
    trust_instrument : bool
        Use the instrument although the spectra contradict it; an alert says so.
    beam_kev : float or None
        Energy of a monochromatic beam, keV.

    Raises
    ------
    CalibrationError
        There is no axis and none can be found.
    InstrumentError
        The beam's energy is not between 0.5 and 200 keV; or the spectra contradict the instrument: its axis is more
        than 50 eV off the lines, or it has a tube and they show a monochromatic beam.
    """
    given = load_instrument(instrument) if isinstance(instrument, str | Path) else instrument
    _check_beam(beam_kev)
    counts = survey(scan).total if total is None else np.asarray(total.counts, dtype=np.float64)
    placed, lines, faults = _placed(scan, given, total, calibrated=calibrated, tube=tube)
    if beam_kev is not None:
        source = SourceSpectrum(energy_kev=(beam_kev,), weight=(1.0,))
        given = (given or Instrument.model_validate({})).model_copy(update={"source_spectrum": source})
    known = what_is_known(scan, given=given, found=placed.calibration)
    detector, axis = known.instrument.detector, placed.scan.require_axis()
    beam = find_beam(counts, axis, resolution_fwhm_kev(axis.energy_kev, detector.noise_fwhm_kev, detector.fano))
    beam_alerts: tuple[str, ...] = ()
    if known.beam_kev is not None:
        beam_alerts = _beam_alerts(known, beam, lines)
    elif "source_spectrum" not in known.origin:
        known = what_is_known(scan, given=given, found=placed.calibration, beam=beam)
        if beam is not None and known.beam_kev is None:
            faults.append(f"it has a tube, and the spectra show a monochromatic beam of {beam.energy_kev:.1f} keV")
    alerts = (*placed.alerts, *beam_alerts, *_contradicted(given, faults, trusted=trust_instrument))
    unknown = (_NO_ANODE,) if tube and known.beam_kev is None and "tube.anode" not in known.origin else ()
    return replace(placed, knowledge=known, notes=(*placed.notes, *known.notes, *unknown), alerts=alerts)


def _check_beam(beam_kev: float | None) -> None:
    """Refuse an energy that no monochromatic beam has."""
    low, high = BEAM_RANGE_KEV
    if beam_kev is not None and not low <= beam_kev <= high:
        remedy = "Give the energy of the monochromatic beam, or leave it out if the source is a tube."
        if low <= beam_kev / 1000 <= high:
            remedy = f"Is it in eV? Then give {beam_kev / 1000:g}."
        raise InstrumentError(f"Cannot use a beam of {beam_kev:g} keV: {low:g} to {high:g} keV are allowed. {remedy}")


def _placed(
    scan: Scan, given: Instrument | None, total: Spectrum | None, *, calibrated: bool, tube: bool
) -> tuple[Axis, Calibration | None, list[str]]:
    """Put a scan on its axis; also return what its lines tell and how they contradict the given axis."""
    single = scan if total is None else _one_pixel(scan, total)
    if given is not None and "gain_kev" in given.detector.model_fields_set:
        placed = _on_given_axis(scan, given)
        axis = placed.scan.require_axis()
        try:
            found_axis = calibrate(single)
        except CalibrationError:
            note = "It could not be checked against lines: those of the scan fit no axis with certainty."
            return replace(placed, notes=(*placed.notes, note)), None, []
        fault = contradiction(axis, found_axis)
        note = "" if fault else deviation_note(axis, found_axis)
        placed = replace(placed, notes=(*placed.notes, note) if note else placed.notes)
        return placed, found_axis, [fault] if fault else []
    if not calibrated:
        scan.require_axis()
        return Axis(scan, notes=("The energy axis is the file's own; it was not checked against the lines.",)), None, []
    try:
        found_axis = calibrate(single, tube=tube)
    except CalibrationError as error:
        if scan.axis is None:
            raise
        alert = f"The energy axis of the file could not be checked against lines, and all answers rest on it. {error}"
        return Axis(scan, alerts=(alert,), is_doubted=isinstance(error, DoubtedAxisError)), None, []
    notes = calibration_notes(scan.axis, found_axis)
    return Axis(scan.with_axis(found_axis.axis), calibration=found_axis, notes=notes), found_axis, []


def _beam_alerts(known: Knowledge, shown: Beam | None, lines: Calibration | None) -> tuple[str, ...]:
    """Return an alert where the spectra contradict the beam that was given or that the file names."""
    beam_kev = known.beam_kev
    families, anode = ((), None) if lines is None else (lines.found, lines.anode)
    fault = "" if beam_kev is None else beam_contradiction(beam_kev, shown, families, anode)
    if not fault:
        return ()
    origin = _ORIGINS[known.origin["source_spectrum"]]
    return (
        f"The spectra contradict the monochromatic beam of {beam_kev:g} keV ({origin}): {fault}. It was used "
        "nevertheless: what follows may be wrong. Give the right energy with --beam (beam_kev=), or none for a tube.",
    )


def _contradicted(given: Instrument | None, faults: list[str], *, trusted: bool) -> tuple[str, ...]:
    """Refuse an instrument that the spectra contradict, or return the alert that it was used nevertheless."""
    if given is None or not faults:
        return ()
    what = f"The spectra contradict the instrument {given.name!r}: {'; '.join(faults)}."
    if not trusted:
        raise InstrumentError(
            f"{what} Leave the instrument out, name the right one, put what `underpaint calibrate` finds into its "
            "file, or use it nevertheless with --trust-instrument (trust_instrument=True)."
        )
    return (f"{what} It was used nevertheless, as asked: what follows may be wrong.",)


def check_instrument(axis: Axis, given: Instrument, *, trusted: bool) -> tuple[str, ...]:
    """Hold a given instrument against the axis that was found in the lines; return alerts where it was trusted.

    Raises
    ------
    InstrumentError
        The lines contradict it, and it is not trusted.
    """
    if axis.calibration is None or "gain_kev" not in given.detector.model_fields_set:
        return ()
    scan_axis = EnergyAxis(given.detector.gain_kev, given.detector.zero_kev, axis.scan.shape[2])
    fault = contradiction(scan_axis, axis.calibration)
    return _contradicted(given, [fault] if fault else [], trusted=trusted)


def _withheld(axis: Axis, instead: str) -> str:
    """Say that a network does not cover a monochromatic beam or an axis that is doubted, and what to do."""
    if axis.is_doubted:
        energy = axis.scan.require_axis()
        return (
            f"Cannot identify pigments: the lines of scan {axis.scan.name!r} do not lie where the file's energy axis "
            f"({1e3 * energy.gain_kev:.2f} eV per channel from {energy.zero_kev:.3f} keV) has lines of any element. "
            "Give the right one with an instrument file, or trust the file's with --no-calibrate (calibrated=False). "
            f"{instead}"
        )
    origin = "" if axis.knowledge is None else _ORIGINS[axis.knowledge.origin["source_spectrum"]]
    return (
        f"Cannot identify pigments: scan {axis.scan.name!r} was excited by a monochromatic beam of "
        f"{axis.beam_kev:.2f} keV ({origin}); the networks learned on spectra of X-ray tubes. {instead}"
    )


def identify_to_folder(
    source: str | Path,
    out: str | Path,
    settings: Settings | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Identify one scan and write maps and report to a folder.

    Parameters
    ----------
    source : str or Path
        Scan; ``FILE::NAME`` picks an array.
    out : str or Path
        Folder to make; it appears whole or not at all.
    settings : Settings or None
        Model, palette, instrument, engine.
    resume : bool
        Leave finished results of the same scan and settings alone, and go on with the next block of what was
        interrupted.
    overwrite : bool
        Replace finished results; with ``resume``, those of another scan or other settings alone.
    scheduler : str or None
        Address of a dask scheduler whose workers compute; None: threads of this process.
    progress : callable or None
        Called with (what is being done, done, in all), of spectra where there are many.

    Raises
    ------
    UnderpaintError
        The scan, the model or the folder cannot be used, or what is to be resumed was begun, or finished, with another
        scan, model or settings. The folder is whole or not there; finished blocks stay beside it, in ``<out>.part``.

    Notes
    -----
    The scan is read twice, block by block: for its sum, and for all else. Memory does not grow with the number of maps.
    """
    return _to_folder(source, out, settings or Settings(), resume, overwrite, scheduler, progress, pigments=True)


def elements_to_folder(
    source: str | Path,
    out: str | Path,
    settings: Settings | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Fit the elements of one scan and write maps and report to a folder; as :func:`identify_to_folder`."""
    return _to_folder(source, out, settings or Settings(), resume, overwrite, scheduler, progress, pigments=False)


def _to_folder(
    source: str | Path,
    out: str | Path,
    settings: Settings,
    resume: bool,
    overwrite: bool,
    scheduler: str | None,
    progress: Progress | None,
    *,
    pigments: bool,
) -> Outcome:
    # What can be wrong with the call is found out before the scan is read.
    palette = None if settings.palette is None else load_palette(settings.palette)
    instrument = None if settings.instrument is None else load_instrument(settings.instrument)
    _check_beam(settings.beam_kev)
    tube = pigments and asks_for_the_tube(settings.model)
    check_map_names(load_card(settings.model).names if pigments else ())
    refuse_inside(out, source)
    facts = file_facts(source)
    depends = {
        **facts,
        "network": sha256_of(model_path(settings.model))[:16] if pigments else None,
        "palette holds": palette and asdict(palette),
        "instrument is": instrument and instrument.model_dump(mode="json"),
    }
    about = {"source": str(source), "version": __version__, **asdict(settings), DEPENDS: depends}
    flat = {name: own for name, own in about.items() if name != DEPENDS} | depends
    if resume:
        recover(out)
    if resume and is_finished(out) and _is_left_alone(out, flat, overwrite=overwrite):
        return Outcome(str(source), Path(out), skipped=True)
    step = progress or silent
    step("Opening the scan", 0, 1)
    scan = load(source, detector=settings.detector, shape=settings.shape, counts_scale=settings.counts_scale)
    scan = noting_mirrored_rows(scan)
    needed = _needed_bytes(scan, settings if pigments else None)
    flat["scan blocks"] = [list(own) for own in scan.counts.chunks]
    with result_folder(out, resume=resume, overwrite=overwrite, needed_bytes=needed, settings=flat) as place:
        seen = _surveyed(scan, place.blocks, step)
        scan, info = seen.scan, scan_info(seen)
        step("Finding the energy axis", 0, 1)
        axis = on_its_energy_axis(
            scan,
            instrument=instrument,
            calibrated=settings.calibrated,
            total=info.sum_spectrum,
            tube=tube,
            trust_instrument=settings.trust_instrument,
            beam_kev=settings.beam_kev,
        )
        axis = replace(axis, notes=(*axis.notes, *_outshone(seen)))
        if pigments and (axis.beam_kev is not None or axis.is_doubted):
            axis, pigments = _without_pigments(axis, settings), False
        plan = _plan(axis, settings, palette, seen, pigments=pigments)
        store = BlockStore(place.blocks / "maps", scan.shape[:2])
        what = "Identifying pigments" if pigments else "Fitting the elements"
        do_blocks(
            axis.scan,
            plan,
            store,
            seen.pixel_counts,
            scheduler=scheduler,
            progress=lambda done, every: step(what, done, every),
            waiting=lambda: step(f"Waiting for a worker of the cluster {scheduler}", 0, 1),
        )
        found = _with_guess(plan.read(store), axis, settings)
        open_set = _open_set(axis, found, step)
        step("Writing the maps", 0, 1)
        summary = summarise_scan(info)
        summary["energy_kev"] = axis.scan.require_axis().energy_kev
        about |= {"alerts": list(axis.alerts), "calibration": axis.facts()}
        about |= {"palette_pigments": None if palette is None else list(palette.pigments)}
        if axis.instrument is not None:
            about["instrument_settings"] = axis.instrument.model_dump(mode="json")
        if found.pigment_maps is not None and "instrument_told" in found.pigment_maps.settings:
            about["instrument_told"] = found.pigment_maps.settings["instrument_told"]
        write_results(
            place.path,
            pigments=found.pigment_maps,
            elements=found.element_maps,
            scan_summary=summary,
            settings=about,
            detectability=found.detectability_maps,
            open_set=open_set,
        )
        # Before the report, which tells of regions and photograph, too.
        aside = carry_over(place.earlier, place.path)
        step("Writing the report", 0, 1)
        _write_report(place.path, axis.scan)
        outcome = _outcome(source, Path(out), axis, found)
        refuse_change(source, facts, out)
    if aside is not None:
        outcome = replace(outcome, aside=_put_aside(Path(out) / aside.name))
    return outcome if open_set is None else replace(outcome, unexplained=_in_words(open_set))


def _write_report(folder: Path, scan: Scan) -> None:
    # Reports draw, and what draws takes a second to be imported: `underpaint info` does without.
    from underpaint.display.report import write_report

    write_report(folder, scan=scan)


def _surveyed(scan: Scan, folder: Path, step: Progress) -> Survey:
    """Read the scan for its sum, unless an interrupted run had done it."""
    found = load_survey(folder, scan)
    if found is None:
        step("Reading the spectra", 0, scan.n_pixel)
        found = survey(scan, progress=lambda done, every: step("Reading the spectra", done, every))
        save_survey(folder, found)
    return found


def _outshone(seen: Survey) -> tuple[str, ...]:
    """Say so where one pixel holds most counts of a scan, whose sum is then that pixel's."""
    total, highest = float(np.nansum(seen.pixel_counts)), float(np.nanmax(seen.pixel_counts, initial=0.0))
    if seen.pixel_counts.size < _FEW_PIXELS or highest <= 0.5 * total:
        return ()
    row, column = np.unravel_index(int(np.nanargmax(seen.pixel_counts)), seen.pixel_counts.shape)
    return (
        f"The pixel (row {row}, column {column}) holds {highest:.3g} of all {total:.3g} counts: the energy axis "
        "and the elements were found from that pixel alone. If it is faulty, take it out with `underpaint repair "
        "--mask` and run again.",
    )


def _without_pigments(axis: Axis, settings: Settings) -> Axis:
    """Withhold pigments of a scan that the networks do not cover, with an alert; its elements can be mapped.

    Raises
    ------
    CoverageError
        Pigments alone were asked for.
    """
    if not settings.elements:
        raise CoverageError(_withheld(axis, "Map its elements: `underpaint elements`."))
    alert = _withheld(axis, "Its elements are mapped, and no pigment is claimed.")
    return replace(axis, alerts=(*axis.alerts, alert))


def _plan(axis: Axis, settings: Settings, palette: Palette | None, seen: Survey, *, pigments: bool) -> Plan:
    """Plan what is done with a block."""
    from underpaint.elements import known_families, leftovers, prepare_fit

    energies, step_mm = axis.scan.require_axis(), axis.scan.step_mm
    elements = unlike = None
    if settings.elements or not pigments:
        elements = prepare_fit(
            seen.total, seen.highest, energies, seen.n_pixel, instrument=axis.instrument, engine=settings.engine
        )
    if not pigments:
        return Plan(energies, step_mm, elements=elements)
    if settings.elements:
        known = known_families(None if palette is None else palette.pigments)
        unlike = leftovers(known, seen.total, energies, seen.n_pixel, axis.instrument)
    from underpaint.pigments.predict import plan_answers

    doubt = _line_evidence(axis, seen, settings.model)
    answers = plan_answers(energies, settings.model, palette, instrument=axis.known(), doubt=doubt, threads=1)
    return Plan(energies, step_mm, answers, palette, elements, unlike, _instrument_to_hide_from(axis, settings))


def _line_evidence(axis: Axis, seen: Survey, model: str | Path) -> "LineEvidence | None":
    """Return what holds spectra against a network's claims; None where there is nothing to hold on to.

    What a network learned from a user's labels stands as it is.
    """
    from underpaint.elements import line_evidence

    card = load_card(model)
    keys = {
        name: families
        for name, kind, families in zip(card.names, card.kinds, card.elements, strict=True)
        if kind == "group" and families and split_place(name)[1] == "anywhere"
    }
    if not keys or "finetuned_from" in card.training.config:
        return None
    known = axis.knowledge is not None and axis.knowledge.knows_excitation
    try:
        return line_evidence(keys, seen, axis.scan.require_axis(), axis.instrument, voltage_known=known)
    except (CoverageError, ScanError):
        return None


def _instrument_to_hide_from(axis: Axis, settings: Settings) -> Instrument | None:
    """Return the instrument if it is to be said what cannot be excluded: where it was given, or when asked for."""
    given = settings.instrument is not None
    wanted = given if settings.detectability is None else settings.detectability
    if wanted and given and axis.instrument is None and axis.knowledge is not None:
        return axis.knowledge.instrument  # complete: the usual values stand for those that are not known
    if wanted and axis.instrument is None:
        raise CalibrationError(
            "Cannot say what cannot be excluded: the instrument is not known. Name it with --instrument."
        )
    return axis.instrument if wanted else None


def _with_guess(found: Results, axis: Axis, settings: Settings) -> Results:
    """Add a note where the maps of what cannot be excluded rest on usual values of the instrument."""
    known = axis.knowledge
    if found.detectability_maps is None or (
        settings.instrument is not None and known is not None and known.knows_excitation
    ):
        return found
    guess = "The instrument was not given: anode from the scattered lines, all else as usual. Take the map as rough."
    if settings.instrument is not None and known is not None:
        tube = known.instrument.tube
        guess = (
            f"The instrument {known.instrument.name!r} names no tube voltage and no beam: {tube.anode} at "
            f"{tube.voltage_kv:g} kV was assumed, and all else that it leaves out is as usual. Take the map as rough."
        )
    return replace(
        found, detectability_maps=replace(found.detectability_maps, notes=(*found.detectability_maps.notes, guess))
    )


def _is_left_alone(out: str | Path, depends: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Whether finished results are those that are asked for; others may be replaced, or it is an error."""
    try:
        check_origin(out, depends)
    except UnderpaintError:
        if overwrite:
            return False
        raise
    return True


def _open_set(axis: Axis, found: Results, step: Progress) -> OpenSet | None:
    from underpaint.display.report import explain_lines

    if found.pigment_maps is None or found.element_maps is None:
        return None
    step("Looking for what nothing explains", 0, 1)
    unlikeness = None if found.open_set is None else found.open_set.unlikeness
    return replace(
        explain_lines(found.pigment_maps, found.element_maps, anode=axis.known().anode), unlikeness=unlikeness
    )


def _in_words(open_set: OpenSet) -> tuple[str, ...]:
    from underpaint.display.report import line_text

    words = [line_text(own) for own in open_set.lines]
    unlike = open_set.unlikeness
    if unlike is not None and unlike.is_remarkable:
        n_pixel = int(unlike.flagged.sum())
        words.append(f"{n_pixel} spectra hold a peak that nothing known explains: see unlikeness.tif and the report.")
    return tuple(words)


def identify_many(
    sources: Sequence[str | Path],
    folders: Sequence[str | Path],
    run: Callable[[str | Path, str | Path], Outcome],
) -> list[Outcome]:
    """Run one scan after the other; one that fails does not keep the others from their results."""
    outcomes = []
    for source, folder in zip(sources, folders, strict=True):
        try:
            outcomes.append(run(source, folder))
        except (UnderpaintError, OSError, MemoryError) as error:
            outcomes.append(Outcome(str(source), error=str(error) or type(error).__name__))
    return outcomes


def default_folder(source: str | Path, base: str | Path = ".") -> Path:
    """Return ``<scan name>_underpaint`` in a folder, for results."""
    text = str(source)
    path, _, array = (text, "", "") if Path(text).exists() else text.rpartition("::")
    stem = Path(path or text).resolve()
    name = stem.name if stem.is_dir() else stem.stem
    own = "_".join(part for part in (name, array.strip("/").replace("/", "_")) if part)
    return Path(base) / f"{own}_underpaint"


def distinct_folders(sources: Sequence[str | Path], base: str | Path = ".") -> list[Path]:
    """Return a results folder for each scan: that of its earlier results, or one of its name, numbered if need be."""
    return folders_of(sources, [default_folder(source, base) for source in sources])


def _on_given_axis(scan: Scan, given: Instrument) -> Axis:
    detector, n_channel = given.detector, scan.shape[2]
    notes = [f"The energy axis is that of the instrument {given.name!r}."]
    if "n_channel" in detector.model_fields_set and detector.n_channel != n_channel:
        notes.append(
            f"The scan has {n_channel} channels, the instrument {detector.n_channel}; the first ones are used."
        )
    return Axis(scan.with_axis(EnergyAxis(detector.gain_kev, detector.zero_kev, n_channel)), notes=tuple(notes))


def _one_pixel(scan: Scan, total: Spectrum) -> Scan:
    """Make a scan of the sum alone, which is all that the calibration looks at."""
    return Scan(total.counts[None, None, :], axis=scan.axis, name=scan.name)


def _outcome(source: str | Path, folder: Path, axis: Axis, found: Results) -> Outcome:
    from underpaint.display.report import find_arrangements

    pigments, elements = found.pigment_maps, found.element_maps
    groups = {} if pigments is None else {name: _share(pigments, name) for name in pigments.select("group")}
    of_maps = (() if own is None else own.notes for own in (elements, pigments))
    notes = (*axis.scan.notes, *axis.notes, *(note for own in of_maps for note in own))
    layers = () if pigments is None else tuple(find_arrangements(pigments))
    return Outcome(str(source), folder, "", tuple(dict.fromkeys(notes)), groups, layers=layers, alerts=axis.alerts)


def _put_aside(folder: Path) -> str:
    return (
        "Regions and photograph of the earlier results lie on maps of other rows and columns than these; "
        f"they are kept in {folder}."
    )


def _share(maps: PigmentMaps, name: str) -> float:
    known = maps[name][np.isfinite(maps[name])]
    return float((known > 0.5).mean()) if known.size else 0.0


def _needed_bytes(scan: Scan, settings: Settings | None) -> int:
    # Maps once as blocks, once in HDF5 and once as TIFF, at most; of elements and quantities also their errors.
    n_map = 2 * _USUAL_FAMILIES
    if settings is not None:
        card = load_card(settings.model)
        n_map += len(card.names) + 2 * len(card.quantities)
    return scan.n_pixel * n_map * _BYTES_PER_MAP_VALUE + 32 * 2**20


def check_new_file(path: str | Path, *, overwrite: bool | None = None) -> None:
    """Refuse to replace a file before an hour was spent on making its contents.

    Parameters
    ----------
    path : str or Path
        The file to write.
    overwrite : bool or None
        Whether it may be replaced; None: never, and there is no option for it.

    Raises
    ------
    OutputError
        It exists and ``overwrite`` is false, is a device or a pipe, or its folder is not there or not writable.
    """
    target = Path(path)
    if os.path.lexists(target) and not overwrite:
        remedy = "or move it away" if overwrite is None else "or add --overwrite to replace it"
        raise OutputError(
            f"Cannot write {target}: it is already there, and is not replaced. Give another name, {remedy}."
        )
    if os.path.lexists(target) and not (target.is_symlink() or target.is_file() or target.is_dir()):
        raise OutputError(f"Cannot write {target}: it is a device or a pipe, not a file. Give the name of a file.")
    folder = target.resolve().parent
    if not folder.is_dir():
        raise OutputError(f"Cannot write {target}: the folder {folder} does not exist. Make it first.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"Cannot write {target}: you may not write in the folder {folder}. Give a place where you may."
        )
