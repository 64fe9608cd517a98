"""Plan of the analysis of a scan, with its outputs, made before any block is processed; and its execution."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from underpaint.calibrate import ORIGINS, CalibratedScan, resolve_energy_axis
from underpaint.data import Scan, Survey, require_scan, survey
from underpaint.data.maps import Results, split_place
from underpaint.errors import CalibrationError, CoverageError, InstrumentError, ScanError
from underpaint.io import scan_info, summarise_scan
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import Palette, load_palette
from underpaint.pigments.weights import load_card
from underpaint.pipeline.blocks import BlockWork, MemoryStore, Output, Store, process_blocks
from underpaint.pipeline.pooling import few_counts, plan_pooling
from underpaint.repair import note_mirrored_rows
from underpaint.runtime.progress import Progress, no_progress
from underpaint.runtime.threads import one_blas_thread

if TYPE_CHECKING:
    from underpaint.elements import LineEvidence, QuantityRequest, VariableFit
    from underpaint.elements.diffraction import Diffraction

NO_MODEL = "none"
"""Model name for analyses without a network: only elements."""
_MIN_PIXELS_FOR_NOTE = 4


@dataclass(frozen=True)
class Settings:
    """Settings of an analysis.

    Parameters
    ----------
    model : str or Path
        Built-in name or ``.onnx`` file; "none" for elements only.
    palette : str, Path, Palette, sequence of str, or None
        Palette by name or TOML file, or the names of pigments; None for all pigments.
    instrument : str, Path, Instrument or None
        Preset, file or instrument, whose axis is used.
    engine : {"underpaint", "fixed", "pymca"}
        Program that fits the elements.
    calibrated : bool
        Whether the energy axis is found from the scan's lines; if false, the file's axis is used.
    detector, shape : str or None, (int, int) or None
        As for :func:`underpaint.load`.
    detectability : bool or None
        Whether to map the groups that cannot be excluded; None: if an instrument is given.
    elements : bool
        Whether elements are mapped and unassigned peaks are searched; if false, only pigments are identified.
    counts_scale : float or None
        As for :func:`underpaint.load`.
    trust_instrument : bool
        Use a given instrument even if the scan's spectra contradict it.
    beam_kev : float or None
        Energy of a monochromatic beam, in keV; None: from the scan's file or its spectra.
    pool : {"auto", "off"}
        Whether the network's input is the sum of a pixel and its similar neighbours if pixels have few counts.
    families, add, drop : sequence of str
        Elements or line families to map, to add, and known to be absent, as for :func:`underpaint.fit_elements`.
    quantities : QuantityRequest or None
        Quantities of the elements to compute: mass fractions or areal masses.
    paints : bool
        Whether the paints of the painting are found, if pigments are identified and elements are mapped.
    step_mm : (float, float) or None
        Distance between pixels along rows and columns, in mm; None: as the scan's file says.

    Examples
    --------
    >>> import underpaint as up
    >>> up.Settings(palette="baroque", instrument="elio").model
    'default'
    """

    model: str | Path = "default"
    palette: str | Path | Palette | Sequence[str] | None = None
    instrument: str | Path | Instrument | None = None
    engine: str = "underpaint"
    calibrated: bool = True
    detector: str | None = None
    shape: tuple[int, int] | None = None
    detectability: bool | None = None
    elements: bool = True
    counts_scale: float | None = None
    trust_instrument: bool = False
    beam_kev: float | None = None
    pool: str = "auto"
    families: tuple[str, ...] | None = None
    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    quantities: "QuantityRequest | None" = None
    paints: bool = True
    step_mm: tuple[float, float] | None = None

    @property
    def pigments(self) -> bool:
        """Whether pigments are identified by a network."""
        return self.model != NO_MODEL

    def record(self) -> dict[str, Any]:
        """Return the settings as stored with results, as values for JSON."""
        instrument_name = self.instrument.name if isinstance(self.instrument, Instrument) else self.instrument
        palette = self.palette.pigments if isinstance(self.palette, Palette) else self.palette
        return asdict(replace(self, instrument=None, palette=None)) | {
            "model": str(self.model),
            "instrument": None if instrument_name is None else str(instrument_name),
            "palette": str(palette) if isinstance(palette, str | Path) else palette and list(palette),
            "quantities": self.quantities and self.quantities.record(),
        }


@dataclass(frozen=True)
class Plan:
    """Plan of the analysis of a scan.

    Parameters
    ----------
    calibrated : CalibratedScan
        The scan on its energy axis.
    survey : Survey
        Result of the first reading of the scan.
    settings : Settings
        Settings of the analysis.
    work : BlockWork
        Processing of each block.
    """

    calibrated: CalibratedScan
    survey: Survey
    settings: Settings
    work: BlockWork

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Outputs of each block; quantities of elements, and paints, are computed from all blocks and not included."""
        return self.work.outputs

    def run(
        self, store: Store | None = None, *, scheduler: str | None = None, progress: Progress | None = None
    ) -> Results:
        """Process all blocks and return the results.

        Parameters
        ----------
        store : Store or None
            Store of the blocks, from which an interrupted run is resumed; None for memory.
        scheduler : str or None
            Address of a dask scheduler whose workers compute; None for threads of this process.
        progress : callable or None
            Called with (task, steps done, total steps).

        Raises
        ------
        ScanError, ClusterError, MissingExtraError, OutputError
            A block cannot be read, there is no such cluster, or the disk is full.
        """
        step, scan = progress or no_progress, self.calibrated.scan
        store = MemoryStore(scan.shape[:2]) if store is None else store
        task = "Fitting the elements" if self.work.answers is None else "Identifying pigments"
        process_blocks(
            scan,
            self.work,
            store,
            self.survey.pixel_counts,
            halo=self.work.halo,
            detectors=() if self._diffraction is None else [detector.counts for detector in scan.detectors],
            scheduler=scheduler,
            progress=lambda done, total: step(task, done, total),
            on_waiting=lambda: step(f"Waiting for a worker of the cluster {scheduler}", 0, 1),
        )
        results = self.work.read(store)
        results = self._with_assumption_note(replace(results, summary=self._summary(results)))
        results |= self._quantities(results, step)
        if not (results.has_pigments and results.has_elements):
            return results
        from underpaint.display.report import explain_lines

        step("Looking for what nothing explains", 0, 1)
        results = explain_lines(results, anode=self.calibrated.known().anode)
        if not self.settings.paints:
            return results
        from underpaint.pipeline.paints import with_paints

        step("Finding the paints", 0, 1)
        return with_paints(results)

    def _quantities(self, results: Results, step: Progress) -> Results:
        """Return the requested quantities of the elements, computed from all maps; empty results if none."""
        request, instrument = self.settings.quantities, self.calibrated.instrument
        if request is None or instrument is None:
            return Results()
        from underpaint.elements import quantify

        step("Computing quantities", 0, 1)
        return quantify(
            self.calibrated.scan,
            instrument,
            kind=request.kind,
            maps=results,
            matrix=request.matrix,
            thickness_um=request.thickness_um,
        )

    @property
    def _diffraction(self) -> "Diffraction | None":
        return None if self.work.elements is None else self.work.elements.diffraction

    def _summary(self, results: Results) -> dict[str, Any]:
        """Return the facts of the scan, the settings, and the values found during the analysis."""
        calibrated = self.calibrated
        alerts = [*calibrated.alerts, *(() if self._diffraction is None else self._diffraction.findings(results))]
        settings = self.settings.record() | {"source": calibrated.scan.source, "alerts": alerts}
        settings["calibration"] = calibrated.facts()
        palette = self.work.palette
        palette_pigments = palette.pigments if isinstance(palette, Palette) else palette
        settings["palette_pigments"] = None if palette_pigments is None else list(palette_pigments)
        if calibrated.instrument is not None:
            settings["instrument_settings"] = calibrated.instrument.model_dump(mode="json")
        if self.work.answers is not None and "instrument_told" in self.work.answers.settings:
            settings["instrument_told"] = self.work.answers.settings["instrument_told"]
        energy = {"energy_kev": calibrated.scan.require_axis().energy_kev}
        return summarise_scan(scan_info(self.survey)) | energy | {"settings": settings}

    def _with_assumption_note(self, results: Results) -> Results:
        """Add a note if the maps of groups that cannot be excluded are based on default values of the instrument."""
        knowledge, is_given = self.calibrated.knowledge, self.settings.instrument is not None
        if not results.knows_hiding or (is_given and knowledge is not None and knowledge.knows_excitation):
            return results
        note = (
            "The instrument was not given: anode from the scattered lines, default values otherwise. The map is "
            "approximate."
        )
        if is_given and knowledge is not None:
            tube = knowledge.instrument.tube
            note = (
                f"The instrument {knowledge.instrument.name!r} names no tube voltage and no beam: {tube.anode} at "
                f"{tube.voltage_kv:g} kV was assumed, with default values for all else that is missing. "
                "The map is approximate."
            )
        notes = {**results.process_notes, "detectability": (*results.process_notes["detectability"], note)}
        return replace(results, process_notes=notes)


@one_blas_thread()  # the matrices are small
def plan(
    scan: Scan,
    settings: Settings | None = None,
    *,
    surveyed: Survey | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Plan the analysis of a scan: energy axis, outputs of the network, line families.

    Parameters
    ----------
    scan : Scan
        A scan, e.g. from :func:`underpaint.load`.
    settings : Settings or None
        Settings of the analysis; None for the defaults.
    surveyed : Survey or None
        Result of the first reading of the scan, if available.
    progress : callable or None
        Called with (task, steps done, total steps).

    Raises
    ------
    InstrumentError
        The scan's spectra contradict the instrument.
    CoverageError
        Only pigments are requested, and the scan was excited by a monochromatic beam, or its lines do not fit the
        file's energy axis.
    ScanError
        ``scan`` is no scan, for example a path.
    UnderpaintError
        No axis can be found, or the model does not fit the scan.

    Examples
    --------
    >>> import underpaint as up
    >>> planned = up.plan(up.load("panel.h5"), up.Settings(model="none"))
    >>> [(output.quantity, output.dimensions, output.units) for output in planned.outputs][::2]
    [('area', ('line',), 'counts'), ('scatter', ('peak',), 'counts')]
    >>> planned.run().shape
    (7, 7)
    """
    scan, settings, step = require_scan(scan), settings or Settings(), progress or no_progress
    palette = settings.palette
    if isinstance(palette, str | Path):
        palette = load_palette(palette)
    if surveyed is None:
        surveyed = read_survey(scan, step)
    step("Finding the energy axis", 0, 1)
    calibrated = resolve_energy_axis(
        surveyed.scan,
        instrument=settings.instrument,
        calibrated=settings.calibrated,
        total=surveyed.sum_spectrum(),
        tube=settings.pigments and bool(load_card(settings.model).instrument_inputs),
        trust_instrument=settings.trust_instrument,
        beam_kev=settings.beam_kev,
        progress=step,
    )
    if settings.quantities is not None and calibrated.instrument is None:
        raise InstrumentError(
            f"Cannot compute quantities of {scan.name!r}: the instrument is unknown, whose tube and geometry "
            "the model needs. Run `underpaint calibrate` on the scan and give its file with --instrument."
        )
    calibrated = replace(calibrated, notes=(*calibrated.notes, *_dominant_pixel_notes(surveyed)))
    pigments = settings.pigments
    if pigments and (calibrated.beam_kev is not None or calibrated.is_doubted):
        if not settings.elements:
            raise CoverageError(
                _not_covered_message(calibrated, "Map its elements: `underpaint elements`, or underpaint.fit_elements.")
            )
        alert = _not_covered_message(calibrated, "Its elements are mapped, and no pigment is claimed.")
        calibrated, pigments = replace(calibrated, alerts=(*calibrated.alerts, alert)), False
    step("Choosing the lines to fit", 0, 1)
    return Plan(calibrated, surveyed, settings, _block_work(calibrated, settings, palette, surveyed, pigments=pigments))


def read_survey(scan: Scan, step: Progress) -> Survey:
    """Read a scan once for its sum spectrum and other properties of the whole scan."""
    step("Reading the spectra", 0, scan.n_pixel)
    return survey(note_mirrored_rows(scan), progress=lambda done, total: step("Reading the spectra", done, total))


def identify(
    scan: Scan,
    *,
    model: str | Path = "default",
    palette: str | Path | Palette | Sequence[str] | None = None,
    instrument: str | Path | Instrument | None = None,
    calibrated: bool = True,
    trust_instrument: bool = False,
) -> Results:
    """Find the pigments of a scan, on an energy axis found from its own lines.

    Parameters
    ----------
    scan : Scan
        As from :func:`underpaint.load`.
    model : str or Path
        Built-in name, or an ``.onnx`` file with its card next to it.
    palette : str, Path, Palette, sequence of str, or None
        Palette by name or TOML file, or the names of pigments; None for all pigments. The probability of a group is
        distributed over its pigments by the palette: :func:`underpaint.pigments.limits.share_members`.
    instrument : str, Path, Instrument or None
        Preset, file or instrument, whose axis is used, and which is an input of networks that have such inputs. Without
        one, the inputs are values derived from the spectra.
    calibrated : bool
        Whether the energy axis is found from the scan's lines; if false, the file's axis is used.
    trust_instrument : bool
        Use the instrument even if the scan's spectra contradict it.

    Returns
    -------
    Results
        ``results.probability.sel(group="mercury_red", place="surface")``, NaN for no answer; for a network of layers
        also ``results.thickness`` and ``results.share``.

    Raises
    ------
    InstrumentError
        The scan's spectra contradict the instrument.
    CoverageError
        The scan was excited by a monochromatic beam, or its lines do not fit the file's energy axis.
    UnderpaintError
        No axis can be found, or the model does not fit the scan.

    Examples
    --------
    >>> import underpaint as up
    >>> results = up.identify(up.load("panel.h5"), palette=["vermilion", "lead_white", "chalk"], calibrated=False)
    >>> results.groups
    ('lead_pigment', 'mercury_red', 'calcium_white')
    >>> bool((results.probability.sel(group="mercury_red", place="surface") > 0.5).any())
    True
    """
    settings = Settings(
        model,
        palette,
        instrument,
        calibrated=calibrated,
        detectability=False,
        elements=False,
        trust_instrument=trust_instrument,
    )
    return plan(scan, settings).run()


def _dominant_pixel_notes(surveyed: Survey) -> tuple[str, ...]:
    """Return a note if one pixel has most counts of a scan and so dominates the sum spectrum."""
    counts = surveyed.pixel_counts
    total, highest = float(np.nansum(counts)), float(np.nanmax(counts, initial=0.0))
    if counts.size < _MIN_PIXELS_FOR_NOTE or highest <= 0.5 * total:
        return ()
    row, column = np.unravel_index(int(np.nanargmax(counts)), counts.shape)
    return (
        f"The pixel (row {row}, column {column}) holds {highest:.3g} of all {total:.3g} counts: the energy axis "
        "and the elements were found from that pixel alone. If it is faulty, remove it with `underpaint repair "
        "--mask` and run again.",
    )


def _block_work(
    calibrated: CalibratedScan,
    settings: Settings,
    palette: Palette | Sequence[str] | None,
    surveyed: Survey,
    *,
    pigments: bool,
) -> BlockWork:
    from underpaint.elements import VariableFit, known_families, plan_all_families, prepare_fit, unlikeness

    scan, instrument = calibrated.scan, calibrated.instrument
    axis, step_mm = scan.require_axis(), scan.step_mm
    element_fit = family_fit = line_evidence_of_scan = unlikeness_score = None
    if settings.elements or not pigments:
        element_fit = prepare_fit(
            surveyed,
            axis,
            families=settings.families,
            add=settings.add,
            drop=settings.drop,
            instrument=instrument,
            engine=settings.engine,
            peaks=pigments,
        )
    if not pigments:
        return BlockWork(axis, step_mm, palette=palette, elements=element_fit)
    if element_fit is not None and isinstance(element_fit.engine, VariableFit):
        family_fit = element_fit.engine
    else:
        with suppress(ScanError):
            family_fit = plan_all_families(surveyed, axis, instrument, peaks=settings.elements)
    if family_fit is not None:
        line_evidence_of_scan = _line_evidence(calibrated, surveyed, settings.model, family_fit)
    if family_fit is not None and settings.elements:
        palette_families = known_families(palette.pigments if isinstance(palette, Palette) else palette)
        unlikeness_score = unlikeness(palette_families, family_fit, axis, instrument)
    from underpaint.pigments.predict import plan_answers

    answers = plan_answers(axis, settings.model, palette, instrument=calibrated.known(), threads=1)
    exclusion_instrument = _instrument_for_exclusion(calibrated, settings)
    pooling = None
    if family_fit is not None and settings.pool == "auto" and few_counts(surveyed.pixel_counts):
        pooling = plan_pooling(family_fit, surveyed.sample)
    return BlockWork(
        axis,
        step_mm,
        answers,
        palette,
        element_fit,
        family_fit,
        line_evidence_of_scan,
        unlikeness_score,
        pooling,
        exclusion_instrument,
    )


def _line_evidence(
    calibrated: CalibratedScan, surveyed: Survey, model: str | Path, fit: "VariableFit"
) -> "LineEvidence | None":
    """Return the line evidence by which the network's answers are checked; None for fine-tuned networks.

    The answers of networks trained on a user's labels are not checked.
    """
    from underpaint.elements import line_evidence

    card = load_card(model)
    key_families = {
        name: families
        for name, kind, families in zip(card.names, card.kinds, card.elements, strict=True)
        if kind == "group" and families and split_place(name)[1] == "anywhere"
    }
    if not key_families or "finetuned_from" in card.training.config:
        return None
    voltage_known = calibrated.knowledge is not None and calibrated.knowledge.knows_excitation
    axis = calibrated.scan.require_axis()
    return line_evidence(key_families, fit, surveyed, axis, calibrated.instrument, voltage_known=voltage_known)


def _instrument_for_exclusion(calibrated: CalibratedScan, settings: Settings) -> Instrument | None:
    """Return the instrument if groups that cannot be excluded are mapped: if it was given, or by request."""
    is_given = settings.instrument is not None
    is_requested = is_given if settings.detectability is None else settings.detectability
    if is_requested and is_given and calibrated.instrument is None and calibrated.knowledge is not None:
        return calibrated.knowledge.instrument  # complete, with default values for unknown ones
    if is_requested and calibrated.instrument is None:
        raise CalibrationError(
            "Cannot map what cannot be excluded: the instrument is unknown. Give it with --instrument."
        )
    return calibrated.instrument if is_requested else None


def _not_covered_message(calibrated: CalibratedScan, alternative: str) -> str:
    """Return a message that networks are not valid for a monochromatic beam or a doubtful axis, and what to do."""
    scan = calibrated.scan
    if calibrated.is_doubted:
        energy = scan.require_axis()
        return (
            f"Cannot identify pigments: the lines of scan {scan.name!r} do not lie where the file's energy axis "
            f"({1e3 * energy.gain_kev:.2f} eV per channel from {energy.zero_kev:.3f} keV) has lines of any element. "
            "Give the right axis with an instrument file, or use the file's axis with --no-calibrate "
            "(calibrated=False). "
            f"{alternative}"
        )
    origin = "" if calibrated.knowledge is None else ORIGINS[calibrated.knowledge.origin["source_spectrum"]]
    return (
        f"Cannot identify pigments: scan {scan.name!r} was excited by a monochromatic beam of "
        f"{calibrated.beam_kev:.2f} keV ({origin}); the networks were trained on spectra of X-ray tubes. {alternative}"
    )
