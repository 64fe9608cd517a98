"""Commands that read a scan: identify, elements, fit, info, explain."""

import math
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from enum import StrEnum
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from underpaint._version import __version__
from underpaint.cli._console import (
    FAILED,
    list_table,
    progress,
    say,
    say_error,
    say_warning,
    show,
    show_json,
    two_columns,
)
from underpaint.cli._outputs import check_new_files, new_file, new_folder
from underpaint.errors import UnderpaintError

if TYPE_CHECKING:
    from underpaint.cli._info import InfoAxis
    from underpaint.data.maps import Results
    from underpaint.io import Format, ScanInfo
    from underpaint.pipeline.compare import Comparison

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]
Scans = Annotated[list[str], typer.Argument(metavar="SCAN...", help="Folder or file; FILE::NAME picks an array.")]
OneScan = Annotated[str, typer.Argument(metavar="SCAN", help="Folder or file; FILE::NAME picks an array.")]
InstrumentOption = Annotated[
    str | None,
    typer.Option(
        metavar="PRESET|FILE",
        help="Trust this instrument's axis, and tell the network of it; an instrument file or PyMca's .cfg.",
    ),
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


Engine = StrEnum("Engine", ["underpaint", "fixed", "pymca"])
"""What fits the elements."""


EngineOption = Annotated[
    Engine,
    typer.Option(
        help="What fits the elements: line ratios as the forward model says, fixed ones, or PyMca (needs that extra)."
    ),
]
PixelOption = Annotated[str | None, typer.Option(metavar="ROW,COLUMN", help="One pixel, counted from 0.")]
RegionOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Sum these pixels: a mask (.npy, .png, .tif) or rows and columns (.csv)."),
]
ElementsOption = Annotated[
    str | None, typer.Option(metavar="Fe,Pb,...", help="Only these elements; by default those that the scan shows.")
]
LinesOption = Annotated[
    str | None, typer.Option(metavar="Pb_L3,...", help="Only these line families, or lines of one shell.")
]
AddOption = Annotated[str | None, typer.Option(metavar="As,...", help="These elements or lines, too.")]
DropOption = Annotated[str | None, typer.Option(metavar="Br,...", help="These are known to be absent.")]


def named_lines(*lists: str | None) -> tuple[str, ...] | None:
    """Return the elements and line families of comma-separated lists; None where none is given.

    Raises
    ------
    typer.BadParameter
        One is neither an element nor a line family.
    """
    from underpaint.physics.atomic import SHELLS, atomic_number

    parts = [part.split() for text in lists if text is not None for part in text.split(",") if part.strip()]
    written = [re.split("_", "_".join(part), maxsplit=1) for part in parts]
    given = ["_".join((name[:1].upper() + name[1:], *(shell.upper() for shell in rest))) for name, *rest in written]
    if not given and any(text is not None for text in lists):
        raise typer.BadParameter(
            "the list is empty. Name elements or lines, such as Fe,Pb_L, or leave the option away."
        )
    for name in given:
        symbol, _, shell = name.partition("_")
        try:
            atomic_number(symbol)
        except ValueError as error:
            raise typer.BadParameter(f"{name!r} names no element: {error}") from error
        if shell not in {"", "L", "M", *SHELLS}:
            raise typer.BadParameter(
                f"{name!r} names no lines: {shell!r} is no shell. Write an element, Pb, a family, Pb_L, or one of its "
                "shells, Pb_L3."
            )
    return tuple(given) if any(text is not None for text in lists) else None


def refuse_both(asked: Iterable[str], drop: Iterable[str]) -> None:
    """Refuse lines that are to be fitted and to be left out.

    Raises
    ------
    typer.BadParameter
        A name stands in both lists.
    """
    both = sorted(set(asked) & set(drop))
    if both:
        raise typer.BadParameter(
            f"{', '.join(both)}: asked for and left out with --drop in one call. Take it out of one of the lists."
        )


def identify(
    scan: Scans,
    instrument: InstrumentOption = None,
    palette: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Only these pigments, used then.")] = None,
    model: Annotated[str, typer.Option(metavar="NAME|FILE", help="default, xu2022, or an .onnx file.")] = "default",
    out: Out = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    engine: EngineOption = Engine.underpaint,
    add: AddOption = None,
    drop: DropOption = None,
    no_calibrate: NoCalibrate = False,
    detector: DetectorOption = None,
    shape: ShapeOption = None,
    counts_scale: CountsScaleOption = None,
    detectability: DetectabilityOption = None,
    no_elements: Annotated[
        bool, typer.Option("--no-elements", help="Pigments alone: no element maps, no look for what nothing explains.")
    ] = False,
    pool: Annotated[
        Literal["auto", "off"],
        typer.Option(help="Of a scan with few counts, identify the sum of a pixel and its like neighbours."),
    ] = "auto",
    no_paints: Annotated[bool, typer.Option("--no-paints", help="Do not look for areas of one paint.")] = False,
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
    from underpaint.pipeline.plan import Settings
    from underpaint.pipeline.run import identify_to_folder

    grid = rows_and_columns(shape)
    settings = Settings(
        model,
        palette,
        instrument,
        engine.value,
        not no_calibrate,
        detector,
        grid,
        detectability,
        not no_elements,
        counts_scale,
        trust_instrument,
        beam,
        pool,
        add=named_lines(add) or (),
        drop=named_lines(drop) or (),
        paints=not no_paints,
    )
    refuse_both(settings.add, settings.drop)
    run = partial(identify_to_folder, settings=settings, resume=resume, overwrite=overwrite, scheduler=scheduler)
    _run_all(scan, out, run, quiet=quiet, as_json=as_json)


def map_elements(
    scan: Scans,
    elements: ElementsOption = None,
    lines: LinesOption = None,
    add: AddOption = None,
    drop: DropOption = None,
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

        underpaint elements painting.h5 --elements Fe,Hg,Pb --add As

        underpaint elements painting.h5 --engine pymca

        underpaint elements painting.h5 --instrument ours.toml --quantities mass_percent
    """
    from underpaint.elements import QuantityRequest
    from underpaint.pipeline.plan import Settings
    from underpaint.pipeline.run import elements_to_folder

    if quantities is None and (thickness is not None or matrix != "paint"):
        raise typer.BadParameter(
            "--thickness and --matrix say what quantities rest on, and none are asked for. Add --quantities "
            "mass_percent, surface or ug_cm2."
        )
    settings = Settings(
        instrument=instrument,
        engine=engine.value,
        calibrated=not no_calibrate,
        detector=detector,
        shape=rows_and_columns(shape),
        counts_scale=counts_scale,
        trust_instrument=trust_instrument,
        beam_kev=beam,
        families=named_lines(elements, lines),
        add=named_lines(add) or (),
        drop=named_lines(drop) or (),
        quantities=None if quantities is None else QuantityRequest(quantities, matrix, _thickness_range(thickness)),
    )
    refuse_both((*(settings.families or ()), *settings.add), settings.drop)
    run = partial(elements_to_folder, settings=settings, resume=resume, overwrite=overwrite, scheduler=scheduler)
    _run_all(scan, out, run, quiet=quiet, as_json=as_json)


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


POOR_FIT = 3.0
"""Chi-square a channel from which faint lines may be faults of the model."""


def fit(
    scan: OneScan,
    pixel: PixelOption = None,
    region: RegionOption = None,
    elements: ElementsOption = None,
    lines: LinesOption = None,
    add: AddOption = None,
    drop: DropOption = None,
    instrument: InstrumentOption = None,
    out_figure: Annotated[Path | None, new_file("FILE.png", "Draw spectrum, fit, parts and residual.")] = None,
    no_calibrate: NoCalibrate = False,
    detector: DetectorOption = None,
    counts_scale: CountsScaleOption = None,
    trust_instrument: TrustInstrument = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit one spectrum and show what it is made of: net counts by element, limits of detection, how well it fits.

    Without --pixel or --region the sum of the whole scan is fitted. With --elements or --lines only these are fitted,
    as a test of what they explain; --add and --drop change what is fitted by default.

    **Examples**

        underpaint fit painting.h5 --pixel 12,40 --out-figure pixel.png

        underpaint fit painting.h5 --region sleeve.png --drop As

        underpaint fit painting.h5 --elements Fe,Pb,Hg
    """
    del overwrite  # looked at with the outputs
    from underpaint.calibrate import resolve_energy_axis
    from underpaint.data import survey
    from underpaint.elements import fit_spectrum
    from underpaint.io import load
    from underpaint.pigments.explain import read_spot, region_spectrum

    # before the scan is read, which may take minutes
    families, added, dropped = named_lines(elements, lines), named_lines(add) or (), named_lines(drop) or ()
    refuse_both((*(families or ()), *added), dropped)
    with progress(quiet=quiet or as_json) as step:
        step("Opening the scan", 0, 1)
        raw = load(scan, detector=detector, counts_scale=counts_scale)
        mask = None if pixel is None and region is None else read_spot(pixel, region, raw.shape[:2])
        step("Finding the energy axis", 0, 1)
        calibrated = resolve_energy_axis(
            raw, instrument=instrument, calibrated=not no_calibrate, trust_instrument=trust_instrument
        )
        step("Reading the spectra", 0, 1)
        spectrum = survey(calibrated.scan).sum_spectrum() if mask is None else region_spectrum(calibrated.scan, mask)
        step("Fitting", 0, 1)
        result = fit_spectrum(
            spectrum,
            families=families,
            add=added,
            drop=dropped,
            instrument=calibrated.instrument,
        )
    for alert in calibrated.alerts:
        say_warning(alert)
    rows = sorted(result.families.items(), key=lambda entry: -entry[1].area)
    if as_json:
        show_json(
            {
                "spectrum": result.name,
                "chi_square": result.chi_square,
                "families": {
                    name: {
                        "area_counts": family.area,
                        "sigma_counts": family.sigma,
                        "detection_limit_counts": family.detection_limit,
                        "present": family.present,
                        "hardness": _number(family.hardness),
                        "hardness_sigma": _number(family.hardness_sigma),
                    }
                    for name, family in rows
                },
            }
        )
    elif not quiet:
        table = list_table(result.name, ("lines", "net counts", "one sigma", "limit of detection"))
        for name, family in rows:
            if family.present:
                cells: tuple[Any, ...] = (family.area, family.sigma, family.detection_limit)
                table.add_row(name, *(f"{value:,.0f}" for value in cells))
        show(table)
        absent = [name for name, family in rows if not family.present]
        if absent:
            say(f"Not detected: {', '.join(sorted(absent))}.")
        say(f"Residual: chi-square {result.chi_square:.2f} a channel (1 or less: the model describes the spectrum).")
        if result.chi_square > POOR_FIT:
            say_warning(
                "The model does not describe this spectrum. Look at the residual (--out-figure) before you believe "
                "faint lines: another axis or instrument, a metal, a pure salt, sum peaks, or elements left out may be "
                "the cause."
            )
    if out_figure is not None:
        from underpaint.display.plot import save_png
        from underpaint.display.plot.spectra import spectrum_fit_figure

        save_png(spectrum_fit_figure(result), out_figure)
        say(f"Wrote {out_figure}.", quiet=quiet or as_json)


def _number(value: float) -> float | None:
    """Return a number, or None where there is none: JSON has no NaN."""
    return value if math.isfinite(value) else None


def info(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE]", help="Scan or spectrum; FILE::NAME picks an array. None: this program and its packages."
        ),
    ] = None,
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

    Of a scan larger than 32 MB a part is read, spread evenly over it. Without a file the versions of underpaint, Python
    and the packages that it uses are shown, for reports of faults.

    **Examples**

        underpaint info painting.h5

        underpaint info cube.npz::det_1 --picture spectrum.png
    """
    from underpaint.cli._info import facts_table, spectrum_lines

    if file is None:
        _show_environment(as_json=as_json)
        return
    grid = rows_and_columns(shape)
    most = math.inf if every else READ_BYTES
    found = _found_axes(file, detector, grid, counts_scale=counts_scale, max_bytes=most, quiet=quiet or as_json)
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


def _show_environment(*, as_json: bool) -> None:
    """Show versions of the program, Python, the system and all packages that underpaint may use."""
    import platform
    from importlib.metadata import PackageNotFoundError, requires, version

    versions = {"underpaint": __version__, "Python": platform.python_version(), "system": platform.platform()}
    names = (re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in requires("underpaint") or ())
    for name in sorted({name for name in names if name != "underpaint"}, key=str.lower):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    if as_json:
        show_json(versions)
        return
    table = two_columns("underpaint")
    for name, text in versions.items():
        table.add_row(name, text)
    show(table)


def explain(
    scan: OneScan,
    pixel: PixelOption = None,
    region: RegionOption = None,
    pigments: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Groups or pigments that are there, in place of the network's."),
    ] = None,
    instrument: Annotated[
        str | None, typer.Option(metavar="PRESET|FILE", help="The scanner; what is not known of it is as of elio.")
    ] = None,
    model: Annotated[str, typer.Option(metavar="NAME|FILE", help="The network that names the pigments.")] = "default",
    ground: Annotated[str, typer.Option(help="The ground under the paint.")] = "chalk",
    model_error: Annotated[
        float, typer.Option(metavar="PERCENT", min=0, max=50, help="What the simulation may be off in a bin.")
    ] = 0.5,
    no_calibrate: NoCalibrate = False,
    counts_scale: CountsScaleOption = None,
    trust_instrument: TrustInstrument = False,
    out_figure: Annotated[
        Path | None, new_file("FILE.png", "Draw the spectrum and the layers that were drawn.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the layers that could have made the spectrum of a pixel or region, and say how sure that is.

    Layers, pigments, thicknesses and shares are sampled twice, independently; only what both runs give is stated. The
    groups are those that the network sees, or those of --pigments.

    **Examples**

        underpaint explain painting.h5 --pixel 12,40 --instrument ours.toml

        underpaint explain painting.h5 --region sleeve.png --out-figure sleeve_layers.png

        underpaint explain painting.h5 --pixel 12,40 --pigments mercury_red,azurite
    """
    del overwrite  # looked at with the outputs
    from underpaint.cli._explain import Request, explained_spot, table
    from underpaint.pigments.explain.record import record
    from underpaint.pigments.explain.words import in_words

    names = tuple(name.strip() for name in pigments.split(",")) if pigments else ()
    request = Request(
        pixel, region, names, instrument, model, ground, not no_calibrate, model_error, counts_scale, trust_instrument
    )
    with progress(quiet=quiet or as_json) as step:
        found = explained_spot(scan, request, step)
    if as_json:
        show_json(record(found))
    elif not quiet:
        for sentence in in_words(found):
            say(f"- {sentence}")
        if (layers := table(found)) is not None:
            show(layers)
    if out_figure is not None:
        from underpaint.display.plot import save_png
        from underpaint.display.plot.explanation import explanation_figure

        save_png(explanation_figure(found), out_figure)
        say(f"Wrote {out_figure}.", quiet=quiet or as_json)


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="Folder of results.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Folder of results of the same pixels.")],
    out: Annotated[Path | None, new_folder("DIR", "Write a page with maps, JSON and CSV to this folder.")] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare the results of two detectors, or of two scans of one painting: where they agree and where not.

    A and B are folders that identify or elements wrote, of the same pixels. Contradictions come first: groups that one
    claims by a clear line and the other does not, places that exclude each other, lines of one alone.

    **Examples**

        underpaint compare det_1_underpaint det_2_underpaint

        underpaint compare det_1_underpaint det_2_underpaint --out comparison
    """
    from underpaint.io import read_results
    from underpaint.pipeline.compare import check_folder, write_comparison
    from underpaint.pipeline.compare import compare as compared

    if out is not None:
        check_folder(out, overwrite=overwrite)
    with progress(quiet=quiet or as_json) as step:
        step("Comparing", 0, 1)
        results = [read_results(folder) for folder in (a, b)]
        comparison = compared(*results)
        page = None if out is None else write_comparison(comparison, out, overwrite=overwrite)
    if as_json:
        show_json(comparison.record() | {"page": None if page is None else str(page)})
        return
    if not quiet:
        _show_comparison(comparison)
    say(f"Page: {page}" if page else "--out DIR writes a page with maps, JSON and CSV.", quiet=quiet)


_MOST_CONTRADICTIONS, _LEAST_SHARE = 12, 0.001
_MOST_NAMED, _MOST_PAIRS = 2, 3


def _show_comparison(comparison: "Comparison") -> None:
    first, second = comparison.names
    groups = [one for one in comparison.groups if max(one.present) >= _LEAST_SHARE]
    if groups:
        table = list_table("pigment groups", ("group", "place", first, second, "kappa"))
        for one in groups:
            shares = (f"{100 * share:.1f} %" for share in one.present)
            table.add_row(one.group, one.place, *shares, _rounded(one.kappa))
        show(table)
    if comparison.lines:
        table = list_table("lines", ("line", f"{second} over {first}", "rms z", "pixels over 5 sigma"))
        for line in comparison.lines:
            table.add_row(line.family, _rounded(line.ratio), _rounded(line.rms_z), f"{line.n_different:,}")
        show(table)
    for contradiction in comparison.contradictions[:_MOST_CONTRADICTIONS]:
        say(f"! {contradiction.text}")
    n_more = len(comparison.contradictions) - _MOST_CONTRADICTIONS
    if n_more > 0:
        say(f"! {n_more} more contradictions in fewer pixels.")
    if not comparison.contradictions:
        say("No contradictions.")


def _rounded(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "-"


def _run_all(
    scans: list[str],
    out: Path | None,
    run: Callable[..., "Results"],
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    from underpaint.cli._pace import pace
    from underpaint.pipeline.run import default_folder, distinct_folders

    single = len(scans) == 1
    if not single:
        _check_summary((out or Path()) / SUMMARY)
    folders = [out or default_folder(scans[0])] if single else distinct_folders(scans, out or Path())
    records: list[dict[str, Any]] = []
    with pace(quiet=quiet or as_json, unit="spectra") as step:
        for scan, folder in zip(scans, folders, strict=True):
            try:
                records.append(record(scan, run(scan, folder, progress=step)))
            except (UnderpaintError, OSError, MemoryError) as error:
                if single:
                    raise
                # One that fails does not keep the others from their results.
                records.append(record(scan, error=str(error) or type(error).__name__))
    if not single:
        _write_summary(records, out or Path())
    _show_records(records, quiet=quiet, as_json=as_json)
    if not (quiet or as_json):
        _say_contradictions(records)
    if any(each["error"] for each in records):
        raise typer.Exit(FAILED)


def _say_contradictions(records: list[dict[str, Any]]) -> None:
    """Name the worst contradictions between arrays of one file, which its detectors recorded of the same pixels."""
    from itertools import combinations, islice

    from underpaint.io import read_results, split_location
    from underpaint.pipeline.compare import compare as compared

    done = [(split_location(each["source"]), each["folder"]) for each in records if not each["error"]]
    pairs = ((a, b) for (one, a), (other, b) in combinations(done, 2) if one[0] == other[0] and one[1] != other[1])
    for a, b in islice(pairs, _MOST_PAIRS):
        results = [read_results(folder) for folder in (a, b)]
        if results[0].shape != results[1].shape:
            continue
        contradictions = compared(*results).contradictions
        for one in contradictions[:_MOST_NAMED]:
            say_warning(one.text)
        number = f"{len(contradictions) or 'No'} contradiction{'s' * (len(contradictions) != 1)}"
        say(f"{number} between {Path(a).name} and {Path(b).name}. All: underpaint compare {quote(a)} {quote(b)}")


def _show_records(records: list[dict[str, Any]], *, quiet: bool, as_json: bool) -> None:
    from underpaint.cli._info import scans_table

    if as_json:
        show_json(records[0] if len(records) == 1 else records)
        return
    if not quiet and len(records) > 1:
        show(scans_table(records))
    elif not quiet:
        _show_one(records[0])
    failures = [each for each in records if each["error"]]
    for each in failures:
        say_error(each["error"] if each["source"] in each["error"] else f"{each['source']}: {each['error']}")
    if failures and len(records) > 1:
        say(f"{len(failures)} of {len(records)} scans failed; the others are done.", quiet=quiet)


def _show_one(known: dict[str, Any]) -> None:
    if known["skipped"]:
        say(f"{known['folder']} holds finished results; left alone. --overwrite does it again.")
        return
    for name, share in sorted(known["share_above_half"].items(), key=lambda item: item[::-1], reverse=True):
        if share >= _LEAST_SHARE:
            answers = known["answers"].get(name)
            say(f"  {name:<24} {100 * share:5.1f} % of the surface{f': {answers}' if answers else ''}")
    for layer in known["layers"][:6]:
        say(f"  {100 * layer['share']:5.1f} % of the area: {layer['text']}")
    for text in known["unexplained"]:
        say(f"! {text}")
    for alert in known["alerts"]:
        say_warning(alert)
    for note in known["notes"][:8]:
        say(f"- {note}")
    if known["aside"]:
        say(f"! {known['aside']}")
    say(f"Report: {known['report']}")


def record(scan: str, results: "Results | None" = None, *, error: str | None = None) -> dict[str, Any]:
    """Return what became of a scan, JSON-serialisable; of one that failed, why."""
    from underpaint.data.maps import Results, share_present
    from underpaint.display.report import find_arrangements, unexplained_text

    summary = {} if results is None else results.summary
    folder, skipped = summary.get("folder"), summary.get("skipped", False)
    results = Results() if results is None or skipped else results  # what was left alone is not read again
    return {
        "source": scan,
        "folder": folder,
        "report": None if folder is None else str(Path(folder) / "report.html"),
        "error": error,
        "skipped": skipped,
        "share_above_half": {name: share_present(results[name]) for name in results.groups},
        "answers": {name: results.answer_summary(name) for name in results.groups},
        "layers": [asdict(layer) | {"text": layer.text} for layer in find_arrangements(results)],
        "unexplained": unexplained_text(results),
        "alerts": list(results.alerts),
        "notes": [note for note in results.notes if note not in results.alerts],
        "aside": summary.get("aside", ""),
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


def _write_summary(records: list[dict[str, Any]], base: Path) -> None:
    from underpaint.io.results.csv_text import write_csv
    from underpaint.runtime.files import atomic_write

    base.mkdir(parents=True, exist_ok=True)
    names = sorted({name for each in records for name in each["share_above_half"]})
    with atomic_write(base / SUMMARY) as part, part.open("w", newline="", encoding="utf-8") as stream:
        write_csv(stream, [[*_SUMMARY_HEAD, *names], *(_summary_row(each, names) for each in records)])


def _summary_row(known: dict[str, Any], names: list[str]) -> list[Any]:
    state = "failed" if known["error"] else "left alone" if known["skipped"] else "done"
    shares = [f"{known['share_above_half'][name]:.6g}" if name in known["share_above_half"] else "" for name in names]
    return [known["source"], known["folder"] or "", state, known["error"] or "", *shares]


def _save_pictures(found: list[Any], picture: Path, *, overwrite: bool) -> list[Path]:
    """Save a picture for each detector; return their files."""
    from underpaint.display.plot import save_png, spectrum

    stems = [picture.stem] if len(found) == 1 else [f"{picture.stem}_{number}" for number in range(1, len(found) + 1)]
    paths = [picture.with_stem(stem) for stem in stems]
    check_new_files(paths, overwrite=overwrite)
    for path, (own, axis) in zip(paths, found, strict=True):
        families = () if axis.calibration is None else axis.calibration.families
        figure = spectrum(axis.scan_axis, own.sum_spectrum.counts, own.max_spectrum.counts, families, title=own.name)
        save_png(figure, path)
    return paths


def formats(as_json: Json = False) -> None:
    """List the file formats that can be read and written, and how each is recognised.

    A file is known by its content; its ending does not matter.

    **Example**

        underpaint formats

        underpaint formats --json
    """
    from underpaint.io import formats as known_formats

    records = [_format_record(known) for known in known_formats()]
    if as_json:
        show_json(records)
        return
    table = list_table("formats", ("format", "endings", "recognised by", "extra", "source of the specification"))
    for known in known_formats():
        title = f"{known.title} (also written)" if known.written else known.title
        table.add_row(title, " ".join(known.endings), known.recognised_by, known.extra or "-", known.source)
    show(table)
    say('Extras are installed with `pip install "underpaint[NAME]"`. Not among them? Export as ripple or HDF5.')


def convert(
    scan: OneScan,
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="File ending in .h5 (HDF5), or folder in .zarr.")],
    photographs: Annotated[
        Path | None, new_folder("DIR", "Also save the photographs in the file (.bcf) as TIFF here, in a new folder.")
    ] = None,
    detector: DetectorOption = None,
    shape: ShapeOption = None,
    axis: Annotated[
        Literal["file", "found"],
        typer.Option("--axis", help="Energy axis to write: the file's, or the one found in the lines."),
    ] = "file",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a scan as HDF5 (which PyMca reads) or zarr: compressed, every count as it was, checked by reading back.

    Each detector stays on its own, unless --detector picks one or their sum. TARGET appears when it is whole; one
    that is there is never replaced. Where the lines give another axis than the file, it is shown, and --axis found
    writes it.

    **Examples**

        underpaint convert painting.bcf painting.h5 --photographs photographs

        underpaint convert scan_folder painting.zarr
    """
    from underpaint.cli._info import axis_offer, written_axis
    from underpaint.cli._pace import pace
    from underpaint.io import convert_scan, photographs_of, save_photographs
    from underpaint.io.convert import refuse_existing

    grid = rows_and_columns(shape)
    if photographs is not None:
        refuse_existing(photographs)
    axes = None
    if axis == "found":
        refuse_existing(target)
        axes = [written_axis(*each) for each in _found_axes(scan, detector, grid, quiet=quiet or as_json)]
    with pace(quiet=quiet or as_json, unit="rows") as step:
        done = convert_scan(scan, target, detector=detector, shape=grid, axes=axes, step=step)
    saved = [] if photographs is None else save_photographs(photographs_of(scan), photographs)
    if as_json:
        show_json(
            {
                "target": str(done.target),
                "shapes": [list(own) for own in done.shapes],
                "size_bytes": done.size_bytes,
                "counts_bytes": done.counts_bytes,
                "photographs": list(done.photographs),
                "photograph_files": [str(own) for own in saved],
            }
        )
        return
    sizes = "; ".join(" x ".join(map(str, own)) for own in done.shapes)
    say(f"{done.target}: {sizes}, {done.size_bytes / 1e6:.1f} MB for {done.counts_bytes / 1e6:.1f} MB", quiet=quiet)
    for own in saved:
        say(f"{own}", quiet=quiet)
    if axis == "file" and not quiet:
        with suppress(UnderpaintError):  # the conversion is done; without an axis there is nothing to offer
            for each in _found_axes(scan, detector, grid, quiet=False):
                for line in axis_offer(*each):
                    say(line)


def _found_axes(
    scan: str | Path,
    detector: str | None,
    grid: tuple[int, int] | None,
    *,
    counts_scale: float | None = None,
    max_bytes: float = READ_BYTES,
    quiet: bool,
) -> "list[tuple[ScanInfo, InfoAxis]]":
    """Survey each detector of a scan, and find its energy axis in the lines."""
    from underpaint.cli._info import found_axis
    from underpaint.data import survey
    from underpaint.io import scan_info
    from underpaint.io.load import load_each
    from underpaint.repair import note_mirrored_rows

    with progress(quiet=quiet) as step:
        step("Reading the spectra", 0, 1)
        scans = load_each(scan, detector=detector, shape=grid, counts_scale=counts_scale)
        surveys = [survey(note_mirrored_rows(each), max_bytes=max_bytes / len(scans)) for each in scans]
        return [(facts, found_axis(facts)) for facts in map(scan_info, surveys)]


def _format_record(known: "Format") -> dict[str, object]:
    return {
        "name": known.title,
        "endings": list(known.endings),
        "recognised_by": known.recognised_by,
        "extra": known.extra,
        "source": known.source,
        "written": known.written,
    }
