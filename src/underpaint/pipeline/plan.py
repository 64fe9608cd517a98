"""Plan and execution of the analysis of a scan, with outputs that are known before any block is processed."""

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
from underpaint.pipeline.pooling import has_few_counts, plan_pooling
from underpaint.repair import note_mirrored_rows
from underpaint.runtime.progress import Progress, no_progress
from underpaint.runtime.threads import one_blas_thread

if TYPE_CHECKING:
    from underpaint.elements import LineEvidence, QuantityRequest, VariableFit
    from underpaint.elements.diffraction import Diffraction

NO_MODEL = "none"
"""Model name for analyses of elements without a network."""
_MIN_PIXELS_FOR_NOTE = 4


@dataclass(frozen=True)
class Settings:
    """Settings of an analysis.

    Parameters
    ----------
    model : str or Path
        Name of an included model or ``.onnx`` file, or "none" for elements only.
    palette : str, Path, Palette, sequence of str, or None
        Palette by name or TOML file, or names of pigments. None means all pigments.
    instrument : str, Path, Instrument or None
        Instrument as preset, file or object. The energy axis of the instrument is used.
    engine : {"underpaint", "fixed", "pymca"}
        Program that fits the elements.
    calibrated : bool
        Whether the energy axis is determined from the lines of the scan. If false, the axis of the file is used.
    detector, shape : str or None, (int, int) or None
        As for :func:`underpaint.load`.
    detectability : bool or None
        Whether the groups that cannot be excluded are mapped. None means that these groups are mapped only if an
        instrument is given.
    elements : bool
        Whether elements are mapped and unassigned peaks are searched for. If false, only pigments are identified.
    counts_scale : float or None
        As for :func:`underpaint.load`.
    trust_instrument : bool
        Use a given instrument even if the scan's spectra contradict it.
    beam_kev : float or None
        Energy of a monochromatic beam, in keV. None means the value from the scan's file or its spectra.
    pool : {"auto", "off"}
        Whether the input of the network is summed over similar neighbouring pixels in scans with few counts.
    families, add, drop : sequence of str
        Elements or line families to map, to add, and to omit as absent, as for :func:`underpaint.fit_elements`.
    quantities : QuantityRequest or None
        Quantities of the elements to compute: mass fractions or areal densities.
    paints : bool
        Whether paints are found, which requires pigments and elements.
    step_mm : (float, float) or None
        Distance between pixels along rows and columns, in mm. None means the value of the scan's file.

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
        """Return the settings as stored with results, as JSON values."""
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
    calibrated_scan : CalibratedScan
        Scan on its energy axis.
    survey : Survey
        Result of the first reading of the scan.
    settings : Settings
        Settings of the analysis.
    block_work : BlockWork
        Processing of each block.
    """

    calibrated_scan: CalibratedScan
    survey: Survey
    settings: Settings
    block_work: BlockWork

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Outputs of each block. Paints and quantities of elements are excluded, since they need all blocks."""
        return self.block_work.outputs

    def run(
        self, store: Store | None = None, *, scheduler: str | None = None, progress: Progress | None = None
    ) -> Results:
        """Process all blocks and return the results.

        Parameters
        ----------
        store : Store or None
            Store of the blocks, from which an interrupted run is resumed, or None for memory.
        scheduler : str or None
            Address of a dask scheduler whose workers compute, or None for threads of this process.
        progress : callable or None
            Called with (task, steps done, total steps).

        Raises
        ------
        ScanError, ClusterError, MissingExtraError, OutputError
            A block cannot be read, the cluster cannot be reached, or the disk is full.
        """
        report_progress, scan = progress or no_progress, self.calibrated_scan.scan
        store = MemoryStore(scan.shape[:2]) if store is None else store
        task = "Fitting the elements" if self.block_work.answer_plan is None else "Identifying pigments"
        process_blocks(
            scan,
            self.block_work,
            store,
            self.survey.pixel_counts,
            halo=self.block_work.halo,
            detectors=() if self._diffraction is None else [detector.counts for detector in scan.detectors],
            scheduler=scheduler,
            progress=lambda n_done, n_total: report_progress(task, n_done, n_total),
            on_waiting=lambda: report_progress(f"Waiting for a worker of the cluster {scheduler}", 0, 1),
        )
        results = self.block_work.read(store)
        results = self._with_assumption_note(replace(results, summary=self._summary(results)))
        results |= self._quantities(results, report_progress)
        if not (results.has_pigments and results.has_elements):
            return results
        from underpaint.display.report import explain_lines

        report_progress("Searching for unassigned peaks", 0, 1)
        results = explain_lines(results, anode=self.calibrated_scan.known_conditions().anode)
        if not self.settings.paints:
            return results
        from underpaint.pipeline.paints import with_paints

        report_progress("Finding the paints", 0, 1)
        return with_paints(results)

    def _quantities(self, results: Results, report_progress: Progress) -> Results:
        """Return the requested quantities of the elements, computed from all maps, or empty results."""
        request, instrument = self.settings.quantities, self.calibrated_scan.instrument
        if request is None or instrument is None:
            return Results()
        from underpaint.elements import quantify

        report_progress("Computing quantities", 0, 1)
        return quantify(
            self.calibrated_scan.scan,
            instrument,
            kind=request.kind,
            maps=results,
            matrix=request.matrix,
            thickness_um=request.thickness_um,
        )

    @property
    def _diffraction(self) -> "Diffraction | None":
        return None if self.block_work.element_fit is None else self.block_work.element_fit.diffraction

    def _summary(self, results: Results) -> dict[str, Any]:
        """Return the properties of the scan, the settings, and the values determined by the analysis."""
        calibrated = self.calibrated_scan
        alerts = [*calibrated.alerts, *(() if self._diffraction is None else self._diffraction.findings(results))]
        settings = self.settings.record() | {"source": calibrated.scan.source, "alerts": alerts}
        settings["calibration"] = calibrated.facts()
        palette = self.block_work.palette
        palette_pigments = palette.pigments if isinstance(palette, Palette) else palette
        settings["palette_pigments"] = None if palette_pigments is None else list(palette_pigments)
        if calibrated.instrument is not None:
            settings["instrument_settings"] = calibrated.instrument.model_dump(mode="json")
        if self.block_work.answer_plan is not None and "instrument_told" in self.block_work.answer_plan.settings:
            settings["instrument_told"] = self.block_work.answer_plan.settings["instrument_told"]
        energy_record = {"energy_kev": calibrated.scan.require_axis().energy_kev}
        return summarise_scan(scan_info(self.survey)) | energy_record | {"settings": settings}

    def _with_assumption_note(self, results: Results) -> Results:
        """Return results with a note if maps of groups that cannot be excluded use default instrument values."""
        knowledge, is_given = self.calibrated_scan.knowledge, self.settings.instrument is not None
        if not results.knows_hiding or (is_given and knowledge is not None and knowledge.knows_excitation):
            return results
        note = (
            "The instrument was not given. The anode was determined from scattered lines, and other values are "
            "defaults. "
            "The map is approximate."
        )
        if is_given and knowledge is not None:
            tube = knowledge.instrument.tube
            note = (
                f"The instrument {knowledge.instrument.name!r} has no tube voltage and no beam. A tube with "
                f"{tube.anode} "
                f"anode at {tube.voltage_kv:g} kV and defaults for other missing values were assumed. The map is "
                "approximate."
            )
        notes = {**results.process_notes, "detectability": (*results.process_notes["detectability"], note)}
        return replace(results, process_notes=notes)


@one_blas_thread()  # threads slow down the small matrices
def plan(
    scan: Scan,
    settings: Settings | None = None,
    *,
    surveyed: Survey | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Plan the analysis of a scan: its energy axis, the outputs of the network and the line families.

    Parameters
    ----------
    scan : Scan
        Scan, for example from :func:`underpaint.load`.
    settings : Settings or None
        Settings of the analysis, or None for the defaults.
    surveyed : Survey or None
        Result of the first reading of the scan, if available.
    progress : callable or None
        Called with (task, steps done, total steps).

    Raises
    ------
    InstrumentError
        The scan's spectra contradict the instrument.
    CoverageError
        Only pigments are requested, but networks are not valid for the scan. The scan was excited by a monochromatic
        beam, or its lines do not fit the energy axis of the file.
    ScanError
        ``scan`` is not a scan, but for example a path.
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
    scan, settings, report_progress = require_scan(scan), settings or Settings(), progress or no_progress
    palette = settings.palette
    if isinstance(palette, str | Path):
        palette = load_palette(palette)
    if surveyed is None:
        surveyed = read_survey(scan, report_progress)
    report_progress("Finding the energy axis", 0, 1)
    calibrated = resolve_energy_axis(
        surveyed.scan,
        instrument=settings.instrument,
        calibrated=settings.calibrated,
        total=surveyed.sum_spectrum(),
        tube=settings.pigments and bool(load_card(settings.model).instrument_inputs),
        trust_instrument=settings.trust_instrument,
        beam_kev=settings.beam_kev,
        progress=report_progress,
    )
    if settings.quantities is not None and calibrated.instrument is None:
        raise InstrumentError(
            f"Cannot compute quantities of {scan.name!r}: the instrument is unknown, whose tube and geometry "
            "the model needs. Run `underpaint calibrate` on the scan and give its file with --instrument."
        )
    calibrated = replace(calibrated, notes=(*calibrated.notes, *_dominant_pixel_notes(surveyed)))
    identifies_pigments = settings.pigments
    if identifies_pigments and (calibrated.beam_kev is not None or calibrated.is_doubted):
        if not settings.elements:
            raise CoverageError(
                _not_covered_message(calibrated, "Map its elements: `underpaint elements`, or underpaint.fit_elements.")
            )
        alert = _not_covered_message(calibrated, "Only its elements are mapped.")
        calibrated, identifies_pigments = replace(calibrated, alerts=(*calibrated.alerts, alert)), False
    report_progress("Choosing the lines to fit", 0, 1)
    return Plan(
        calibrated,
        surveyed,
        settings,
        _block_work(calibrated, settings, palette, surveyed, identifies_pigments=identifies_pigments),
    )


def read_survey(scan: Scan, report_progress: Progress) -> Survey:
    """Read a scan once to compute its sum spectrum and other properties of the whole scan."""
    report_progress("Reading the spectra", 0, scan.n_pixel)
    return survey(
        note_mirrored_rows(scan),
        progress=lambda n_done, n_total: report_progress("Reading the spectra", n_done, n_total),
    )


def identify(
    scan: Scan,
    *,
    model: str | Path = "default",
    palette: str | Path | Palette | Sequence[str] | None = None,
    instrument: str | Path | Instrument | None = None,
    calibrated: bool = True,
    trust_instrument: bool = False,
) -> Results:
    """Identify the pigments of a scan, on an energy axis determined from its lines.

    Parameters
    ----------
    scan : Scan
        Scan, for example from :func:`underpaint.load`.
    model : str or Path
        Name of an included model, or ``.onnx`` file with its model card beside it.
    palette : str, Path, Palette, sequence of str, or None
        Palette by name or TOML file, or names of pigments. None means all pigments. The probability of a group is
        divided between its pigments by the palette, as in :func:`underpaint.pigments.limits.share_members`.
    instrument : str, Path, Instrument or None
        Instrument as preset, file or object. The energy axis of the instrument is used. The values of the instrument
        are inputs of some networks. Without an instrument, these inputs are values derived from the spectra.
    calibrated : bool
        Whether the energy axis is determined from the lines of the scan. If false, the axis of the file is used.
    trust_instrument : bool
        Use the instrument even if the spectra of the scan contradict it.

    Returns
    -------
    Results
        Results with probabilities, as in ``results.probability.sel(group="mercury_red", place="surface")``. NaN means
        no answer. Networks that predict layers also give ``results.thickness`` and ``results.share``.

    Raises
    ------
    InstrumentError
        The scan's spectra contradict the instrument.
    CoverageError
        The scan was excited by a monochromatic beam, or its lines do not fit the energy axis of the file.
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
    """Return a note if one pixel has most of the counts of a scan and dominates the sum spectrum."""
    pixel_counts = surveyed.pixel_counts
    total_counts, max_counts = float(np.nansum(pixel_counts)), float(np.nanmax(pixel_counts, initial=0.0))
    if pixel_counts.size < _MIN_PIXELS_FOR_NOTE or max_counts <= 0.5 * total_counts:
        return ()
    row, column = np.unravel_index(int(np.nanargmax(pixel_counts)), pixel_counts.shape)
    return (
        f"The pixel (row {row}, column {column}) has {max_counts:.3g} of all {total_counts:.3g} counts. The energy "
        "axis "
        "and the elements were determined from this pixel alone. If the pixel is faulty, remove it with `underpaint "
        "repair --mask` and run again.",
    )


def _block_work(
    calibrated: CalibratedScan,
    settings: Settings,
    palette: Palette | Sequence[str] | None,
    surveyed: Survey,
    *,
    identifies_pigments: bool,
) -> BlockWork:
    from underpaint.elements import VariableFit, known_families, plan_all_families, prepare_fit, unlikeness

    scan, instrument = calibrated.scan, calibrated.instrument
    axis, step_mm = scan.require_axis(), scan.step_mm
    element_fit = family_fit = line_evidence_of_scan = unlikeness_score = None
    if settings.elements or not identifies_pigments:
        element_fit = prepare_fit(
            surveyed,
            axis,
            families=settings.families,
            add=settings.add,
            drop=settings.drop,
            instrument=instrument,
            engine=settings.engine,
            peaks=identifies_pigments,
        )
    if not identifies_pigments:
        return BlockWork(axis, step_mm, palette=palette, element_fit=element_fit)
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

    answer_plan = plan_answers(axis, settings.model, palette, instrument=calibrated.known_conditions(), threads=1)
    exclusion_instrument = _instrument_for_exclusion(calibrated, settings)
    pooling = None
    if family_fit is not None and settings.pool == "auto" and has_few_counts(surveyed.pixel_counts):
        pooling = plan_pooling(family_fit, surveyed.sample)
    return BlockWork(
        axis,
        step_mm,
        answer_plan,
        palette,
        element_fit,
        family_fit,
        line_evidence_of_scan,
        unlikeness_score,
        pooling,
        exclusion_instrument,
    )


def _line_evidence(
    calibrated: CalibratedScan, surveyed: Survey, model: str | Path, family_fit: "VariableFit"
) -> "LineEvidence | None":
    """Return the line evidence to check the network's predictions, or None for fine-tuned networks.

    Predictions of networks trained on a user's labels are not checked.
    """
    from underpaint.elements import line_evidence

    card = load_card(model)
    key_families = {
        name: families
        for name, output_kind, families in zip(card.names, card.kinds, card.elements, strict=True)
        if output_kind == "group" and families and split_place(name)[1] == "anywhere"
    }
    if not key_families or "finetuned_from" in card.training.config:
        return None
    is_voltage_known = calibrated.knowledge is not None and calibrated.knowledge.knows_excitation
    axis = calibrated.scan.require_axis()
    return line_evidence(
        key_families, family_fit, surveyed, axis, calibrated.instrument, voltage_known=is_voltage_known
    )


def _instrument_for_exclusion(calibrated: CalibratedScan, settings: Settings) -> Instrument | None:
    """Return the instrument if groups that cannot be excluded are mapped, by default only if it is given."""
    is_given = settings.instrument is not None
    is_requested = is_given if settings.detectability is None else settings.detectability
    if is_requested and is_given and calibrated.instrument is None and calibrated.knowledge is not None:
        return calibrated.knowledge.instrument  # unknown values are defaults
    if is_requested and calibrated.instrument is None:
        raise CalibrationError(
            "Cannot map the groups that cannot be excluded: the instrument is unknown. Give the instrument with "
            "--instrument."
        )
    return calibrated.instrument if is_requested else None


def _not_covered_message(calibrated: CalibratedScan, advice: str) -> str:
    """Return a message that networks are not valid for a monochromatic beam or a doubtful axis, with advice."""
    scan = calibrated.scan
    if calibrated.is_doubted:
        energy_axis = scan.require_axis()
        return (
            f"Cannot identify pigments: the lines of scan {scan.name!r} do not lie where the file's energy axis "
            f"({1e3 * energy_axis.gain_kev:.2f} eV per channel from {energy_axis.zero_kev:.3f} keV) has lines "
            "of any element. Give the right axis with an instrument file, or use the file's axis with --no-calibrate "
            "(calibrated=False). "
            f"{advice}"
        )
    origin = "" if calibrated.knowledge is None else ORIGINS[calibrated.knowledge.origin["source_spectrum"]]
    return (
        f"Cannot identify pigments: scan {scan.name!r} was excited by a monochromatic beam of "
        f"{calibrated.beam_kev:.2f} keV ({origin}); the networks were trained on spectra of X-ray tubes. {advice}"
    )
