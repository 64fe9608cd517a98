"""What will be done with a scan, and what will come out: planned before any block is worked on, then run."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from underpaint.calibrate import ORIGINS, CalibratedScan, resolve_energy_axis
from underpaint.data import Scan, Survey, survey
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

if TYPE_CHECKING:
    from underpaint.elements import LineEvidence, QuantityRequest, VariableFit
    from underpaint.elements.diffraction import Diffraction

NO_MODEL = "none"
"""Stands for no network: elements alone."""
_FEW_PIXELS = 4


@dataclass(frozen=True)
class Settings:
    """What a run depends on.

    Parameters
    ----------
    model : str or Path
        Shipped name or ``.onnx`` file; "none": elements alone.
    palette : str, Path, Palette, sequence of str, or None
        Palette by name or TOML file, or the names of pigments; None asks for all.
    instrument : str, Path, Instrument or None
        Preset, file or instrument; its axis is trusted.
    engine : {"underpaint", "fixed", "pymca"}
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
    pool : {"auto", "off"}
        Whether the network is asked about the sum of a pixel and its like neighbours where pixels have few counts.
    families, add, drop : sequence of str
        Elements or line families to map, to map besides, and known to be absent, as for
        :func:`underpaint.fit_elements`.
    quantities : QuantityRequest or None
        Quantities of the elements, too: mass fractions or areal masses.
    paints : bool
        Whether the paints of the painting are found, where pigments are identified and elements are mapped.
    step_mm : (float, float) or None
        Distance between pixels along rows and columns, mm; None: as the scan's file says.

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
        """Whether a network is asked."""
        return self.model != NO_MODEL

    def record(self) -> dict[str, Any]:
        """Return them as they are kept with results, JSON-serialisable."""
        named = self.instrument.name if isinstance(self.instrument, Instrument) else self.instrument
        palette = self.palette.pigments if isinstance(self.palette, Palette) else self.palette
        return asdict(replace(self, instrument=None, palette=None)) | {
            "model": str(self.model),
            "instrument": None if named is None else str(named),
            "palette": str(palette) if isinstance(palette, str | Path) else palette and list(palette),
            "quantities": self.quantities and self.quantities.record(),
        }


@dataclass(frozen=True)
class Plan:
    """What is done with a scan.

    Parameters
    ----------
    calibrated : CalibratedScan
        On the energy axis to use.
    survey : Survey
        The result of one reading of the scan.
    settings : Settings
    work : BlockWork
        What is done with each block.
    """

    calibrated: CalibratedScan
    survey: Survey
    settings: Settings
    work: BlockWork

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What each block gives: names, dimensions, units; quantities of elements, and paints, need all blocks."""
        return self.work.outputs

    def run(
        self, store: Store | None = None, *, scheduler: str | None = None, progress: Progress | None = None
    ) -> Results:
        """Work on all blocks and return what is concluded.

        Parameters
        ----------
        store : Store or None
            Where the numbers go, block by block, and from which an interrupted run goes on; None: memory.
        scheduler : str or None
            Address of a dask scheduler whose workers compute; None: threads of this process.
        progress : callable or None
            Called with (what is being done, done, in all).

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
            progress=lambda done, every: step(task, done, every),
            waiting=lambda: step(f"Waiting for a worker of the cluster {scheduler}", 0, 1),
        )
        results = self.work.read(store)
        results = self._with_guess(replace(results, summary=self._summary(results)))
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
        """Return the elements' quantities, computed from all of their maps; nothing where none are wanted."""
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
        """Return the facts of the scan, and of the settings what was found out."""
        calibrated = self.calibrated
        alerts = [*calibrated.alerts, *(() if self._diffraction is None else self._diffraction.findings(results))]
        settings = self.settings.record() | {"source": calibrated.scan.source, "alerts": alerts}
        settings["calibration"] = calibrated.facts()
        palette = self.work.palette
        named = palette.pigments if isinstance(palette, Palette) else palette
        settings["palette_pigments"] = None if named is None else list(named)
        if calibrated.instrument is not None:
            settings["instrument_settings"] = calibrated.instrument.model_dump(mode="json")
        if self.work.answers is not None and "instrument_told" in self.work.answers.settings:
            settings["instrument_told"] = self.work.answers.settings["instrument_told"]
        energy = {"energy_kev": calibrated.scan.require_axis().energy_kev}
        return summarise_scan(scan_info(self.survey)) | energy | {"settings": settings}

    def _with_guess(self, results: Results) -> Results:
        """Add a note where the maps of what cannot be excluded rest on usual values of the instrument."""
        known, given = self.calibrated.knowledge, self.settings.instrument is not None
        if not results.knows_hiding or (given and known is not None and known.knows_excitation):
            return results
        guess = (
            "The instrument was not given: anode from the scattered lines, all else as usual. Take the map as rough."
        )
        if given and known is not None:
            tube = known.instrument.tube
            guess = (
                f"The instrument {known.instrument.name!r} names no tube voltage and no beam: {tube.anode} at "
                f"{tube.voltage_kv:g} kV was assumed, and all else that it leaves out is as usual. "
                "Take the map as rough."
            )
        notes = {**results.process_notes, "detectability": (*results.process_notes["detectability"], guess)}
        return replace(results, process_notes=notes)


def plan(
    scan: Scan,
    settings: Settings | None = None,
    *,
    surveyed: Survey | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Plan what is done with a scan: its energy axis, the network's answers, the line families.

    Parameters
    ----------
    scan : Scan
        As from :func:`underpaint.load`.
    settings : Settings or None
    surveyed : Survey or None
        The result of one reading of the scan, if it is known already; saves reading it.
    progress : callable or None
        Called with (what is being done, done, in all).

    Raises
    ------
    InstrumentError
        The scan's spectra contradict the instrument.
    CoverageError
        Pigments alone are wanted, and a monochromatic beam excited the scan, or its lines do not lie where the file's
        energy axis has any.
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
    settings, step = settings or Settings(), progress or no_progress
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
            f"Cannot compute quantities of {scan.name!r}: nothing is known of the instrument, whose tube and geometry "
            "the model needs. Run `underpaint calibrate` on the scan and give its file with --instrument."
        )
    calibrated = replace(calibrated, notes=(*calibrated.notes, *_outshone(surveyed)))
    pigments = settings.pigments
    if pigments and (calibrated.beam_kev is not None or calibrated.is_doubted):
        if not settings.elements:
            raise CoverageError(
                _withheld(calibrated, "Map its elements: `underpaint elements`, or underpaint.fit_elements.")
            )
        alert = _withheld(calibrated, "Its elements are mapped, and no pigment is claimed.")
        calibrated, pigments = replace(calibrated, alerts=(*calibrated.alerts, alert)), False
    step("Choosing the lines to fit", 0, 1)
    return Plan(calibrated, surveyed, settings, _work(calibrated, settings, palette, surveyed, pigments=pigments))


def read_survey(scan: Scan, step: Progress) -> Survey:
    """Read a scan once for all that concerns it as a whole."""
    step("Reading the spectra", 0, scan.n_pixel)
    return survey(note_mirrored_rows(scan), progress=lambda done, every: step("Reading the spectra", done, every))


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
        Shipped name, or an ``.onnx`` file with its card beside it.
    palette : str, Path, Palette, sequence of str, or None
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
    Results
        ``results.probability.sel(group="mercury_red", place="surface")``, NaN where there is no answer; of a network of
        layers also ``results.thickness`` and ``results.share``.

    Raises
    ------
    InstrumentError
        The scan's spectra contradict the instrument.
    CoverageError
        A monochromatic beam excited the scan, or its lines do not lie where the file's energy axis has any.
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


def _outshone(surveyed: Survey) -> tuple[str, ...]:
    """Say so where one pixel holds most counts of a scan, whose sum is then that pixel's."""
    counts = surveyed.pixel_counts
    total, highest = float(np.nansum(counts)), float(np.nanmax(counts, initial=0.0))
    if counts.size < _FEW_PIXELS or highest <= 0.5 * total:
        return ()
    row, column = np.unravel_index(int(np.nanargmax(counts)), counts.shape)
    return (
        f"The pixel (row {row}, column {column}) holds {highest:.3g} of all {total:.3g} counts: the energy axis "
        "and the elements were found from that pixel alone. If it is faulty, take it out with `underpaint repair "
        "--mask` and run again.",
    )


def _work(
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
    elements = fit = lines = unlike = None
    if settings.elements or not pigments:
        elements = prepare_fit(
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
        return BlockWork(axis, step_mm, palette=palette, elements=elements)
    if elements is not None and isinstance(elements.engine, VariableFit):
        fit = elements.engine
    else:
        with suppress(ScanError):
            fit = plan_all_families(surveyed, axis, instrument, peaks=settings.elements)
    if fit is not None:
        lines = _line_evidence(calibrated, surveyed, settings.model, fit)
    if fit is not None and settings.elements:
        known = known_families(palette.pigments if isinstance(palette, Palette) else palette)
        unlike = unlikeness(known, fit, axis, instrument)
    from underpaint.pigments.predict import plan_answers

    answers = plan_answers(axis, settings.model, palette, instrument=calibrated.known(), threads=1)
    hiding = _instrument_to_hide_from(calibrated, settings)
    pooling = None
    if fit is not None and settings.pool == "auto" and few_counts(surveyed.pixel_counts):
        pooling = plan_pooling(fit, surveyed.sample)
    return BlockWork(axis, step_mm, answers, palette, elements, fit, lines, unlike, pooling, hiding)


def _line_evidence(
    calibrated: CalibratedScan, surveyed: Survey, model: str | Path, fit: "VariableFit"
) -> "LineEvidence | None":
    """Return what holds spectra against a network's claims.

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
    known = calibrated.knowledge is not None and calibrated.knowledge.knows_excitation
    axis = calibrated.scan.require_axis()
    return line_evidence(keys, fit, surveyed, axis, calibrated.instrument, voltage_known=known)


def _instrument_to_hide_from(calibrated: CalibratedScan, settings: Settings) -> Instrument | None:
    """Return the instrument if it is to be said what cannot be excluded: where it was given, or when asked for."""
    given = settings.instrument is not None
    is_stated = given if settings.detectability is None else settings.detectability
    if is_stated and given and calibrated.instrument is None and calibrated.knowledge is not None:
        return calibrated.knowledge.instrument  # complete: the usual values stand for those that are not known
    if is_stated and calibrated.instrument is None:
        raise CalibrationError(
            "Cannot say what cannot be excluded: the instrument is not known. Name it with --instrument."
        )
    return calibrated.instrument if is_stated else None


def _withheld(calibrated: CalibratedScan, instead: str) -> str:
    """Say that a network does not cover a monochromatic beam or an axis that is doubted, and what to do."""
    scan = calibrated.scan
    if calibrated.is_doubted:
        energy = scan.require_axis()
        return (
            f"Cannot identify pigments: the lines of scan {scan.name!r} do not lie where the file's energy axis "
            f"({1e3 * energy.gain_kev:.2f} eV per channel from {energy.zero_kev:.3f} keV) has lines of any element. "
            "Give the right one with an instrument file, or trust the file's with --no-calibrate (calibrated=False). "
            f"{instead}"
        )
    origin = "" if calibrated.knowledge is None else ORIGINS[calibrated.knowledge.origin["source_spectrum"]]
    return (
        f"Cannot identify pigments: scan {scan.name!r} was excited by a monochromatic beam of "
        f"{calibrated.beam_kev:.2f} keV ({origin}); the networks learned on spectra of X-ray tubes. {instead}"
    )
