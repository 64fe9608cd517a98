"""Commands that read a scan: identify, elements, info, explain."""

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from underpaint.cli._console import FAILED, progress, say, say_error, say_warning, show, show_json
from underpaint.cli._outputs import check_new_files, new_file, new_folder

if TYPE_CHECKING:
    from underpaint.pipeline.quantities import Request
    from underpaint.pipeline.run import Outcome, Settings

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]
Scans = Annotated[list[str], typer.Argument(metavar="SCAN...", help="Folder or file; FILE::NAME picks an array.")]
OneScan = Annotated[str, typer.Argument(metavar="SCAN", help="Folder or file; FILE::NAME picks an array.")]
InstrumentOption = Annotated[
    str | None, typer.Option(metavar="PRESET|FILE", help="Trust this instrument's axis, and tell the network of it.")
]
TrustInstrument = Annotated[
    bool, typer.Option("--trust-instrument", help="Use the instrument although the scan's spectra contradict it.")
]
BeamOption = Annotated[float | None, typer.Option("--beam", metavar="KEV", help="Energy of a monochromatic beam, keV.")]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", help="Leave finished results of the same scan and settings alone, go on with what was interrupted."
    ),
]
SchedulerOption = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Compute on a dask cluster, e.g. tcp://host:8786.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
NoCalibrate = Annotated[bool, typer.Option("--no-calibrate", help="Trust the file's energy axis.")]
Out = Annotated[
    Path | None,
    new_folder("DIR", "Folder of the results; of several scans: the folder of their folders."),
]
DetectorOption = Annotated[
    str | None,
    typer.Option(metavar="NAME|NUMBER|sum", help="Of several detectors: this one (counted from 1), or all added."),
]
ShapeOption = Annotated[
    str | None, typer.Option(metavar="ROWSxCOLUMNS", help="Pixels of a list of spectra without a grid, e.g. 120x80.")
]
CountsScaleOption = Annotated[
    float | None,
    typer.Option(metavar="VALUE", help="Stored value per count, for rates and rescaled scans; estimated by default."),
]


READ_BYTES = 32e6
"""What `info` reads of a scan: enough for its lines, and done in a fraction of a second."""


def rows_and_columns(text: str | None, option: str = "--shape", example: str = "120x80") -> tuple[int, int] | None:
    """Read --shape, or another option of two numbers.

    Raises
    ------
    typer.BadParameter
        It is not two whole numbers above 0.
    """
    if text is None:
        return None
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) != 2 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise typer.BadParameter(
            f"{option} {text!r} is not ROWSxCOLUMNS. Give two whole numbers above 0, such as {example}."
        )
    return int(parts[0]), int(parts[1])


DetectabilityOption = Annotated[
    bool | None,
    typer.Option(
        "--detectability/--no-detectability",
        help="Map what cannot be excluded; by default where --instrument is given.",
    ),
]


class Engine(StrEnum):
    """What fits the elements."""

    underpaint = "underpaint"
    pymca = "pymca"

    @property
    def name_for_fit(self) -> Literal["underpaint", "pymca"]:
        """Its name as the fit knows it."""
        return "pymca" if self is Engine.pymca else "underpaint"


EngineOption = Annotated[Engine, typer.Option(help="What fits the elements; pymca needs the extra of that name.")]


def identify(
    scan: Scans,
    instrument: InstrumentOption = None,
    palette: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Only these pigments, used then.")] = None,
    model: Annotated[str, typer.Option(metavar="NAME|FILE", help="default, xu2022, or an .onnx file.")] = "default",
    out: Out = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    engine: EngineOption = Engine.underpaint,
    no_calibrate: NoCalibrate = False,
    detector: DetectorOption = None,
    shape: ShapeOption = None,
    counts_scale: CountsScaleOption = None,
    detectability: DetectabilityOption = None,
    no_elements: Annotated[
        bool, typer.Option("--no-elements", help="Pigments alone: no element maps, no look for what nothing explains.")
    ] = False,
    trust_instrument: TrustInstrument = False,
    beam: BeamOption = None,
    scheduler: SchedulerOption = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Map the pigments and elements of one scan or many, and write a report.

    The energy axis is found from the scan's own lines. Without --out the results go to NAME_underpaint here. What is
    interrupted goes on with --resume.

    **Examples**

        underpaint identify painting.h5

        underpaint identify a.h5 b.h5 --out results --palette old_master
    """
    from underpaint.pipeline.run import Settings, identify_to_folder

    grid = rows_and_columns(shape)
    own_engine = engine.name_for_fit
    settings = Settings(
        model,
        palette,
        instrument,
        own_engine,
        not no_calibrate,
        detector,
        grid,
        detectability,
        not no_elements,
        counts_scale,
        trust_instrument,
        beam,
    )
    run = partial(identify_to_folder, settings=settings, resume=resume, overwrite=overwrite, scheduler=scheduler)
    _run_all(scan, out, run, quiet=quiet, as_json=as_json)


def elements(
    scan: Scans,
    engine: EngineOption = Engine.underpaint,
    out: Out = None,
    instrument: InstrumentOption = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    no_calibrate: NoCalibrate = False,
    detector: DetectorOption = None,
    shape: ShapeOption = None,
    counts_scale: CountsScaleOption = None,
    trust_instrument: TrustInstrument = False,
    beam: BeamOption = None,
    quantities: Annotated[
        Literal["mass_percent", "surface", "ug_cm2"] | None,
        typer.Option(help="Also mass per cent of one layer, of the uppermost paint, or ug/cm2 of a thin layer."),
    ] = None,
    matrix: Annotated[
        Literal["paint", "oxides"], typer.Option(help="What has no recorded lines: binder and such, or minerals.")
    ] = "paint",
    thickness: Annotated[
        str | None, typer.Option(metavar="LOW-HIGH", help="Thickness of the layer, um, e.g. 20-100 or 500-inf.")
    ] = None,
    scheduler: SchedulerOption = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Map the elements of one scan or many: net counts of each line family, with uncertainties.

    **Examples**

        underpaint elements painting.h5 --out painting_elements

        underpaint elements painting.h5 --engine pymca

        underpaint elements painting.h5 --instrument ours.toml --quantities mass_percent
    """
    from underpaint.pipeline.run import Settings, elements_to_folder

    grid = rows_and_columns(shape)
    settings = Settings(
        "none", None, instrument, engine.name_for_fit, not no_calibrate, detector, grid, counts_scale=counts_scale,
        trust_instrument=trust_instrument, beam_kev=beam,
    )  # fmt: skip
    run: Callable[..., Outcome] = partial(
        elements_to_folder, settings=settings, resume=resume, overwrite=overwrite, scheduler=scheduler
    )
    if quantities is not None:
        from underpaint.pipeline.quantities import Request

        request = Request(quantities, matrix, _thickness_range(thickness))
        request.check(instrument)
        run = partial(_with_quantities, run, settings, request)
    _run_all(scan, out, run, quiet=quiet, as_json=as_json)


def _with_quantities(
    run: "Callable[..., Outcome]",
    settings: "Settings",
    request: "Request",
    source: str,
    folder: Path,
    **options: Any,
) -> "Outcome":
    """Run, and add quantities to what was written; what they rest on is among the notes."""
    from underpaint.pipeline.quantities import add_quantities

    outcome = run(source, folder, **options)
    return replace(outcome, notes=(*add_quantities(source, folder, settings, request).notes, *outcome.notes))


def _thickness_range(text: str | None) -> tuple[float, float] | None:
    """Read --thickness.

    Raises
    ------
    typer.BadParameter
        It is not two numbers of which the second is not the smaller one.
    """
    if text is None:
        return None
    low, _, high = text.replace("\u2013", "-").partition("-")
    try:
        ends = float(low), float(high)
    except ValueError:
        ends = (0.0, 0.0)
    if not 0 < ends[0] <= ends[1]:
        raise typer.BadParameter(f"--thickness {text!r} is not LOW-HIGH. Give two thicknesses in um, such as 20-100.")
    return ends


def info(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Scan or spectrum; FILE::NAME picks an array.")],
    picture: Annotated[Path | None, new_file("FILE.png", "Save the spectra as a picture.")] = None,
    detector: DetectorOption = None,
    shape: ShapeOption = None,
    counts_scale: CountsScaleOption = None,
    every: Annotated[bool, typer.Option("--all", help="Read every spectrum of a large scan, too.")] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Show what is in a file: size, calibration, counts, detector, sum and maximum spectrum.

    Of a scan larger than 32 MB a part is read, spread evenly over it.

    **Examples**

        underpaint info painting.h5

        underpaint info cube.npz::det_1 --picture spectrum.png
    """
    from underpaint.cli._info import facts_table, found_axis, spectrum_lines
    from underpaint.data import survey
    from underpaint.io import scan_info
    from underpaint.io.load import load_each
    from underpaint.repair import noting_mirrored_rows

    grid = rows_and_columns(shape)
    with progress(quiet=quiet or as_json) as step:
        step("Reading the spectra", 0, 1)
        most = math.inf if every else READ_BYTES
        scans = load_each(file, detector=detector, shape=grid, counts_scale=counts_scale)
        surveys = [survey(noting_mirrored_rows(scan), most_bytes=most / len(scans)) for scan in scans]
        found = [(facts, found_axis(facts)) for facts in map(scan_info, surveys)]
    if as_json:
        facts = [own.facts() | {"calibration": axis.facts()} for own, axis in found]
        show_json(facts[0] if len(facts) == 1 else facts)
    for own, axis in found if not (as_json or quiet) else ():
        show(facts_table(own, axis))
        for line in spectrum_lines(own, axis):
            say(line)
    if picture is not None:
        for path in _save_pictures(found, picture, overwrite=overwrite):
            say(f"Wrote {path}", quiet=quiet or as_json)


def explain(
    scan: OneScan,
    pixel: Annotated[str | None, typer.Option(metavar="ROW,COLUMN", help="One pixel, counted from 0.")] = None,
    region: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Sum these pixels: a mask (.npy, .png, .tif) or rows and columns (.csv)."),
    ] = None,
    layers: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Stratigraphies to compare, in place of the network's.")
    ] = None,
    instrument: Annotated[
        str | None, typer.Option(metavar="PRESET|FILE", help="The scanner; what is not known of it is as of elio.")
    ] = None,
    model: Annotated[str, typer.Option(metavar="NAME|FILE", help="The network that proposes.")] = "default",
    ground: Annotated[str, typer.Option(help="The ground under what the network proposes.")] = "chalk",
    model_error: Annotated[
        float, typer.Option(metavar="PERCENT", min=0, max=50, help="What the simulation may be off in a channel.")
    ] = 1.0,
    no_calibrate: NoCalibrate = False,
    counts_scale: CountsScaleOption = None,
    trust_instrument: TrustInstrument = False,
    out_figure: Annotated[Path | None, new_file("FILE.png", "Draw the spectrum, the fit and its parts.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the layers that could have made the spectrum of a pixel or region, and say how sure that is.

    The network proposes pigments; layers of them, in every order, are fitted to the counts. FILE.toml of --layers
    holds one `[[stratigraphy]]` per proposal with `layers`, the top one first.

    **Examples**

        underpaint explain painting.h5 --pixel 12,40 --instrument ours.toml

        underpaint explain painting.h5 --region sleeve.png --out-figure sleeve_layers.png

        underpaint explain painting.h5 --pixel 12,40 --layers proposals.toml
    """
    del overwrite  # looked at with the outputs
    from underpaint.cli._explain import Request, explained_spot, record, tables
    from underpaint.pigments.explain.words import in_words

    asked = Request(
        pixel, region, layers, instrument, model, ground, not no_calibrate, model_error, counts_scale, trust_instrument
    )
    with progress(quiet=quiet or as_json) as step:
        found = explained_spot(scan, asked, step)
    if as_json:
        show_json(record(found))
    elif not quiet:
        show(tables(found))
        for sentence in in_words(found):
            say(f"- {sentence}")
    if out_figure is not None:
        from underpaint.display.plot import save_png
        from underpaint.display.plot.explanation import explanation_figure

        save_png(explanation_figure(found), out_figure)
        say(f"Wrote {out_figure}.", quiet=quiet or as_json)


def _run_all(
    scans: list[str],
    out: Path | None,
    run: Callable[..., "Outcome"],
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    from underpaint.cli._pace import pace
    from underpaint.pipeline.run import default_folder, distinct_folders, identify_many

    single = len(scans) == 1
    if not single:
        _check_summary((out or Path()) / SUMMARY)
    folders = [out or default_folder(scans[0])] if single else distinct_folders(scans, out or Path())
    with pace(quiet=quiet or as_json, unit="spectra") as step:
        run = partial(run, progress=step)
        outcomes = [run(scans[0], folders[0])] if single else identify_many(scans, folders, run)
    if not single:
        _write_summary(outcomes, out or Path())
    _show_outcomes(outcomes, quiet=quiet, as_json=as_json)
    if any(own.error for own in outcomes):
        raise typer.Exit(FAILED)


def _show_outcomes(outcomes: "list[Outcome]", *, quiet: bool, as_json: bool) -> None:
    from underpaint.cli._info import outcomes_table

    if as_json:
        records = [_record(own) for own in outcomes]
        show_json(records[0] if len(records) == 1 else records)
    elif not quiet and len(outcomes) > 1:
        show(outcomes_table(outcomes))
    elif not quiet:
        _show_one(outcomes[0])
    for own in outcomes if not as_json else ():
        if own.error:
            say_error(own.error if str(own.source) in own.error else f"{own.source}: {own.error}")
    failed = sum(bool(own.error) for own in outcomes)
    if failed and len(outcomes) > 1 and not as_json:
        say(f"{failed} of {len(outcomes)} scans failed; the others are done.", quiet=quiet)


def _show_one(own: "Outcome") -> None:
    if own.skipped:
        say(f"{own.folder} holds finished results; left alone. --overwrite does it again.")
        return
    present = sorted(((share, name) for name, share in own.groups.items() if share >= 0.001), reverse=True)
    for share, name in present:
        say(f"  {name:<24} {100 * share:5.1f} % of the surface")
    for layer in own.layers[:6]:
        say(f"  {100 * layer.share:5.1f} % of the area: {layer.text}")
    for text in own.unexplained:
        say(f"! {text}")
    for alert in own.alerts:
        say_warning(alert)
    for note in own.notes[:8]:
        say(f"- {note}")
    if own.aside:
        say(f"! {own.aside}")
    say(f"Report: {Path(own.folder or '.') / 'report.html'}")


def _record(own: "Outcome") -> dict[str, Any]:
    return {
        "source": own.source,
        "folder": None if own.folder is None else str(own.folder),
        "report": None if own.folder is None else str(own.folder / "report.html"),
        "error": own.error or None,
        "skipped": own.skipped,
        "share_above_half": own.groups,
        "layers": [asdict(layer) | {"text": layer.text} for layer in own.layers],
        "unexplained": list(own.unexplained),
        "alerts": list(own.alerts),
        "notes": list(own.notes),
        "aside": own.aside,
    }


SUMMARY = "underpaint_summary.csv"
_SUMMARY_HEAD = ("scan", "folder", "state", "why")


def _check_summary(path: Path) -> None:
    """Refuse to replace a table of another kind by that of many scans; one of an earlier call is replaced."""
    from underpaint.errors import OutputError

    if not path.exists():
        return
    with path.open("rb") as stream:
        if stream.read(200).startswith(",".join(_SUMMARY_HEAD).encode()):
            return
    raise OutputError(f"Cannot write {path}: it is there, and no table of many scans. Move it, or give another --out.")


def _write_summary(outcomes: "list[Outcome]", base: Path) -> None:
    from underpaint.io.results.csv_text import write_csv
    from underpaint.runtime.files import whole_file

    base.mkdir(parents=True, exist_ok=True)
    names = sorted({name for own in outcomes for name in own.groups})
    with whole_file(base / SUMMARY) as part, part.open("w", newline="", encoding="utf-8") as stream:
        write_csv(stream, [[*_SUMMARY_HEAD, *names], *(_summary_row(outcome, names) for outcome in outcomes)])


def _summary_row(outcome: "Outcome", names: list[str]) -> list[Any]:
    state = "failed" if outcome.error else "left alone" if outcome.skipped else "done"
    shares = [f"{outcome.groups[name]:.6g}" if name in outcome.groups else "" for name in names]
    return [outcome.source, outcome.folder or "", state, outcome.error, *shares]


def _save_pictures(found: list[Any], picture: Path, *, overwrite: bool) -> list[Path]:
    """Save a picture for each detector; return their files."""
    from underpaint.display.plot import save_png, spectrum

    stems = [picture.stem] if len(found) == 1 else [f"{picture.stem}_{number}" for number in range(1, len(found) + 1)]
    paths = [picture.with_stem(stem) for stem in stems]
    check_new_files(paths, overwrite=overwrite)
    for path, (own, axis) in zip(paths, found, strict=True):
        families = () if axis.calibration is None else axis.calibration.found
        figure = spectrum(axis.scan_axis, own.sum_spectrum.counts, own.max_spectrum.counts, families, title=own.name)
        save_png(figure, path)
    return paths
