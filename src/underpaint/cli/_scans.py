"""Commands that read a scan: identify, elements, fit, info, explain, compare, formats, convert."""

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
        help="Use the energy axis and the other values of this instrument; instrument file or PyMca's .cfg.",
    ),
]
TrustInstrument = Annotated[
    bool, typer.Option("--trust-instrument", help="Use the instrument even if the scan's spectra contradict it.")
]
BeamOption = Annotated[float | None, typer.Option("--beam", metavar="KEV", help="Energy of a monochromatic beam, keV.")]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Keep finished results of the same scan and settings; continue interrupted runs."),
]
SchedulerOption = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Compute on a dask cluster, e.g. tcp://host:8786.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")]
NoCalibrate = Annotated[bool, typer.Option("--no-calibrate", help="Use the file's energy axis.")]
Out = Annotated[
    Path | None,
    new_folder("DIR", "Results folder; for several scans, the parent of their results folders."),
]
DetectorOption = Annotated[
    str | None,
    typer.Option(metavar="NAME|NUMBER|sum", help="One of several detectors (numbered from 1), or the sum of all."),
]
ShapeOption = Annotated[
    str | None, typer.Option(metavar="ROWSxCOLUMNS", help="Pixels of a list of spectra without a grid, e.g. 120x80.")
]
CountsScaleOption = Annotated[
    float | None,
    typer.Option(metavar="VALUE", help="Stored value per count, for rates and rescaled scans; estimated by default."),
]


MAX_INFO_BYTES = 32e6
"""Maximum size of the part of a scan that `info` reads: large enough to find lines, and small enough to be quick."""


def rows_and_columns(text: str | None, option: str = "--shape", example: str = "120x80") -> tuple[int, int] | None:
    """Parse --shape, or another option of two numbers.

    Raises
    ------
    typer.BadParameter
        The text is not two integers above 0.
    """
    if text is None:
        return None
    number_texts = text.lower().replace("×", "x").split("x")
    if len(number_texts) != 2 or not all(
        number_text.strip().isdecimal() and int(number_text) > 0 for number_text in number_texts
    ):
        raise typer.BadParameter(
            f"{option} {text!r} is not ROWSxCOLUMNS. Give two integers above 0, such as {example}."
        )
    return int(number_texts[0]), int(number_texts[1])


DetectabilityOption = Annotated[
    bool | None,
    typer.Option(
        "--detectability/--no-detectability",
        help="Map the groups that cannot be excluded; the default with --instrument.",
    ),
]


Engine = StrEnum("Engine", ["underpaint", "fixed", "pymca"])
"""Program that fits the elements."""


EngineOption = Annotated[
    Engine,
    typer.Option(
        help="Element fit: line ratios from the forward model, fixed line ratios, or PyMca (needs the extra `pymca`)."
    ),
]
PixelOption = Annotated[str | None, typer.Option(metavar="ROW,COLUMN", help="One pixel, counted from 0.")]
RegionOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Sum these pixels: a mask (.npy, .png, .tif) or rows and columns (.csv)."),
]
ElementsOption = Annotated[
    str | None,
    typer.Option(metavar="Fe,Pb,...", help="Only these elements; by default, elements detected in the scan."),
]
LinesOption = Annotated[
    str | None, typer.Option(metavar="Pb_L3,...", help="Only these line families, or families of one subshell.")
]
AddOption = Annotated[str | None, typer.Option(metavar="As,...", help="Additional elements or lines.")]
DropOption = Annotated[str | None, typer.Option(metavar="Br,...", help="Elements or lines known to be absent.")]


def named_lines(*lists: str | None) -> tuple[str, ...] | None:
    """Return the elements and line families of comma-separated lists; None if no list is given.

    Raises
    ------
    typer.BadParameter
        A name is neither an element nor a line family.
    """
    from underpaint.physics.atomic import SHELLS, atomic_number

    words = [
        word_list.split() for text in lists if text is not None for word_list in text.split(",") if word_list.strip()
    ]
    split_names = [re.split("_", "_".join(word_list), maxsplit=1) for word_list in words]
    line_names = [
        "_".join((name[:1].upper() + name[1:], *(shell.upper() for shell in shells))) for name, *shells in split_names
    ]
    if not line_names and any(text is not None for text in lists):
        raise typer.BadParameter("the list is empty. Name elements or lines, such as Fe,Pb_L, or omit the option.")
    for name in line_names:
        symbol, _, shell = name.partition("_")
        try:
            atomic_number(symbol)
        except ValueError as error:
            raise typer.BadParameter(f"{name!r} is not an element: {error}") from error
        if shell not in {"", "L", "M", *SHELLS}:
            raise typer.BadParameter(
                f"{name!r} is not a line family: {shell!r} is not a shell. Write an element (Pb), a family (Pb_L), "
                "or a subshell (Pb_L3)."
            )
    return tuple(line_names) if any(text is not None for text in lists) else None


def refuse_contradictory_lines(fitted: Iterable[str], dropped: Iterable[str]) -> None:
    """Raise an error for lines that are both to be fitted and to be left out.

    Raises
    ------
    typer.BadParameter
        A name occurs in both lists.
    """
    contradictory = sorted(set(fitted) & set(dropped))
    if contradictory:
        raise typer.BadParameter(
            f"{', '.join(contradictory)}: requested, and left out with --drop, in one command. Remove it from one of "
            "the lists."
        )


def identify(
    scan: Scans,
    instrument: InstrumentOption = None,
    palette: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Only the pigments of a palette.")] = None,
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
        bool, typer.Option("--no-elements", help="Only pigments: no element maps, no search for unassigned peaks.")
    ] = False,
    pool: Annotated[
        Literal["auto", "off"],
        typer.Option(help="For scans with few counts, analyse the sum of a pixel and similar neighbours."),
    ] = "auto",
    no_paints: Annotated[bool, typer.Option("--no-paints", help="Do not search for areas of one paint.")] = False,
    trust_instrument: TrustInstrument = False,
    beam: BeamOption = None,
    scheduler: SchedulerOption = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Map the pigments and elements of one scan or many, and write a report.

    The energy axis is found from the scan's lines. Without --out, the results are written to the folder
    NAME_underpaint. --resume continues an interrupted run.

    For example:

        underpaint identify painting.h5

        underpaint identify a.h5 b.h5 --out results --palette old_master
    """
    from underpaint.pipeline.plan import Settings
    from underpaint.pipeline.run import identify_to_folder

    pixel_shape = rows_and_columns(shape)
    settings = Settings(
        model,
        palette,
        instrument,
        engine.value,
        not no_calibrate,
        detector,
        pixel_shape,
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
    refuse_contradictory_lines(settings.add, settings.drop)
    run_analysis = partial(
        identify_to_folder, settings=settings, resume=resume, overwrite=overwrite, scheduler=scheduler
    )
    _analyse_scans(scan, out, run_analysis, quiet=quiet, as_json=as_json)


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
        Literal["paint", "oxides"], typer.Option(help="Material without detected lines: binder, or oxides of minerals.")
    ] = "paint",
    thickness: Annotated[
        str | None, typer.Option(metavar="LOW-HIGH", help="Thickness of the layer, um, e.g. 20-100 or 500-inf.")
    ] = None,
    scheduler: SchedulerOption = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Map the elements of one scan or many: net counts of each line family, with uncertainties.

    For example:

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
            "--thickness and --matrix are assumptions of the quantities, and no quantities were requested. Add "
            "--quantities mass_percent, surface or ug_cm2."
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
    refuse_contradictory_lines((*(settings.families or ()), *settings.add), settings.drop)
    run_analysis = partial(
        elements_to_folder, settings=settings, resume=resume, overwrite=overwrite, scheduler=scheduler
    )
    _analyse_scans(scan, out, run_analysis, quiet=quiet, as_json=as_json)


def _thickness_range(text: str | None) -> tuple[float, float] | None:
    """Parse --thickness in um.

    Raises
    ------
    typer.BadParameter
        The text is not two numbers in ascending order.
    """
    if text is None:
        return None
    min_text, _, max_text = text.replace("\u2013", "-").partition("-")
    try:
        limits_um = float(min_text), float(max_text)
    except ValueError:
        limits_um = (0.0, 0.0)
    if not 0 < limits_um[0] <= limits_um[1]:
        raise typer.BadParameter(f"--thickness {text!r} is not LOW-HIGH. Give two thicknesses in um, such as 20-100.")
    return limits_um


MIN_POOR_CHI_SQUARE = 3.0
"""Minimum chi-square per channel at which faint lines may be artefacts of the model."""


def fit(
    scan: OneScan,
    pixel: PixelOption = None,
    region: RegionOption = None,
    elements: ElementsOption = None,
    lines: LinesOption = None,
    add: AddOption = None,
    drop: DropOption = None,
    instrument: InstrumentOption = None,
    out_figure: Annotated[Path | None, new_file("FILE.png", "Draw spectrum, fit, components and residual.")] = None,
    no_calibrate: NoCalibrate = False,
    detector: DetectorOption = None,
    counts_scale: CountsScaleOption = None,
    trust_instrument: TrustInstrument = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit one spectrum and show net counts by element, limits of detection, and the quality of the fit.

    Without --pixel or --region, the sum of the whole scan is fitted. With --elements or --lines, only these are fitted;
    --add and --drop change the default list.

    For example:

        underpaint fit painting.h5 --pixel 12,40 --out-figure pixel.png

        underpaint fit painting.h5 --region sleeve.png --drop As

        underpaint fit painting.h5 --elements Fe,Pb,Hg
    """
    del overwrite  # already checked with the outputs
    from underpaint.calibrate import resolve_energy_axis
    from underpaint.data import survey
    from underpaint.elements import fit_spectrum
    from underpaint.io import load
    from underpaint.pigments.explain import read_spot, region_spectrum

    # before the scan is read, which may take minutes
    families, added, dropped = named_lines(elements, lines), named_lines(add) or (), named_lines(drop) or ()
    refuse_contradictory_lines((*(families or ()), *added), dropped)
    with progress(quiet=quiet or as_json) as step:
        step("Opening the scan", 0, 1)
        scan_read = load(scan, detector=detector, counts_scale=counts_scale)
        mask = None if pixel is None and region is None else read_spot(pixel, region, scan_read.shape[:2])
        step("Finding the energy axis", 0, 1)
        calibrated = resolve_energy_axis(
            scan_read, instrument=instrument, calibrated=not no_calibrate, trust_instrument=trust_instrument
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
                        "hardness": _finite_or_none(family.hardness),
                        "hardness_sigma": _finite_or_none(family.hardness_sigma),
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
        say(f"Residual: chi-square {result.chi_square:.2f} per channel (1 or less: the model describes the spectrum).")
        if result.chi_square > MIN_POOR_CHI_SQUARE:
            say_warning(
                "The model does not describe this spectrum. Check the residual (--out-figure) before trusting faint "
                "lines: a wrong axis or instrument, a metal, a pure salt, sum peaks, or omitted elements may be the "
                "cause."
            )
    if out_figure is not None:
        from underpaint.display.plot import save_png
        from underpaint.display.plot.spectra import spectrum_fit_figure

        save_png(spectrum_fit_figure(result), out_figure)
        say(f"Wrote {out_figure}.", quiet=quiet or as_json)


def _finite_or_none(value: float) -> float | None:
    """Return a finite number, else None, since JSON has no NaN."""
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
    every: Annotated[bool, typer.Option("--all", help="Read all spectra of a large scan.")] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Show the content of a file: size, calibration, counts, detector, sum and maximum spectrum.

    Only an evenly distributed part of scans larger than 32 MB is read. Without a file, the versions of underpaint,
    Python and the packages are shown, for bug reports.

    For example:

        underpaint info painting.h5

        underpaint info cube.npz::det_1 --picture spectrum.png
    """
    from underpaint.cli._info import facts_table, spectrum_lines

    if file is None:
        _show_environment(as_json=as_json)
        return
    pixel_shape = rows_and_columns(shape)
    max_bytes = math.inf if every else MAX_INFO_BYTES
    infos = _axes_from_lines(
        file, detector, pixel_shape, counts_scale=counts_scale, max_bytes=max_bytes, quiet=quiet or as_json
    )
    if as_json:
        facts = [scan_info_read.facts() | {"calibration": axis.facts()} for scan_info_read, axis in infos]
        show_json(facts[0] if len(facts) == 1 else facts)
    for scan_info_read, axis in infos if not (as_json or quiet) else ():
        show(facts_table(scan_info_read, axis))
        for line in spectrum_lines(scan_info_read, axis):
            say(line)
    if picture is not None:
        for path in _save_spectrum_figures(infos, picture, overwrite=overwrite):
            say(f"Wrote {path}", quiet=quiet or as_json)


def _show_environment(*, as_json: bool) -> None:
    """Print the versions of the program, Python, the system and all packages that underpaint may use."""
    import platform
    from importlib.metadata import PackageNotFoundError, requires, version

    versions = {"underpaint": __version__, "Python": platform.python_version(), "system": platform.platform()}
    names = (re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in requires("underpaint") or ())
    for name in sorted({name for name in names if name != "underpaint"}, key=str.lower):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    if as_json:
        show_json(versions)
        return
    table = two_columns("underpaint")
    for name, requirement in versions.items():
        table.add_row(name, requirement)
    show(table)


def explain(
    scan: OneScan,
    pixel: PixelOption = None,
    region: RegionOption = None,
    pigments: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...", help="Groups or pigments that are present, instead of those found by the network."
        ),
    ] = None,
    instrument: Annotated[
        str | None, typer.Option(metavar="PRESET|FILE", help="The scanner; unknown values are those of elio.")
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="The network that identifies the pigments.")
    ] = "default",
    ground: Annotated[str, typer.Option(help="The ground under the paint.")] = "chalk",
    model_error: Annotated[
        float, typer.Option(metavar="PERCENT", min=0, max=50, help="Relative error of the simulation in a bin.")
    ] = 0.5,
    no_calibrate: NoCalibrate = False,
    counts_scale: CountsScaleOption = None,
    trust_instrument: TrustInstrument = False,
    out_figure: Annotated[Path | None, new_file("FILE.png", "Draw the spectrum and the sampled layers.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the layer structures that are consistent with the spectrum of a pixel or region, with probabilities.

    Layers, pigments, thicknesses and shares are sampled in two independent runs; only results on which both agree are
    stated. The groups are found by the network, or given by --pigments.

    For example:

        underpaint explain painting.h5 --pixel 12,40 --instrument ours.toml

        underpaint explain painting.h5 --region sleeve.png --out-figure sleeve_layers.png

        underpaint explain painting.h5 --pixel 12,40 --pigments mercury_red,azurite
    """
    del overwrite  # already checked with the outputs
    from underpaint.cli._explain import Request, explain_spot, layer_table
    from underpaint.pigments.explain.record import explanation_record
    from underpaint.pigments.explain.words import explanation_sentences

    names = tuple(name.strip() for name in pigments.split(",")) if pigments else ()
    request = Request(
        pixel, region, names, instrument, model, ground, not no_calibrate, model_error, counts_scale, trust_instrument
    )
    with progress(quiet=quiet or as_json) as step:
        explanation = explain_spot(scan, request, step)
    if as_json:
        show_json(explanation_record(explanation))
    elif not quiet:
        for sentence in explanation_sentences(explanation):
            say(f"- {sentence}")
        if (layers := layer_table(explanation)) is not None:
            show(layers)
    if out_figure is not None:
        from underpaint.display.plot import save_png
        from underpaint.display.plot.spectra import explanation_figure

        save_png(explanation_figure(explanation), out_figure)
        say(f"Wrote {out_figure}.", quiet=quiet or as_json)


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="Results folder.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Results folder with the same pixels.")],
    out: Annotated[Path | None, new_folder("DIR", "Write a page with maps, JSON and CSV to this folder.")] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare the results of two detectors, or of two scans of one painting: agreement and contradictions.

    A and B are folders written by identify or elements, with the same pixels. Contradictions are listed first: groups
    with a clear line in one of the two results only, places that exclude each other, and lines in one result only.

    For example:

        underpaint compare det_1_underpaint det_2_underpaint

        underpaint compare det_1_underpaint det_2_underpaint --out comparison
    """
    from underpaint.io import read_results
    from underpaint.pipeline.compare import check_folder, write_comparison
    from underpaint.pipeline.compare import compare as compare_results

    if out is not None:
        check_folder(out, overwrite=overwrite)
    with progress(quiet=quiet or as_json) as step:
        step("Comparing", 0, 1)
        results = [read_results(folder) for folder in (a, b)]
        comparison = compare_results(*results)
        page = None if out is None else write_comparison(comparison, out, overwrite=overwrite)
    if as_json:
        show_json(comparison.record() | {"page": None if page is None else str(page)})
        return
    if not quiet:
        _show_comparison(comparison)
    say(f"Page: {page}" if page else "--out DIR writes a page with maps, JSON and CSV.", quiet=quiet)


_MAX_CONTRADICTIONS, _MIN_SHOWN_FRACTION = 12, 0.001
_MAX_NAMED_CONTRADICTIONS, _MAX_PAIRS = 2, 3


def _show_comparison(comparison: "Comparison") -> None:
    first_name, second_name = comparison.names
    groups = [
        group_comparison
        for group_comparison in comparison.groups
        if max(group_comparison.present) >= _MIN_SHOWN_FRACTION
    ]
    if groups:
        table = list_table("pigment groups", ("group", "place", first_name, second_name, "kappa"))
        for group_comparison in groups:
            shares = (f"{100 * share:.1f} %" for share in group_comparison.present)
            table.add_row(
                group_comparison.group, group_comparison.place, *shares, _rounded_text(group_comparison.kappa)
            )
        show(table)
    if comparison.lines:
        table = list_table("lines", ("line", f"{second_name} over {first_name}", "rms z", "pixels over 5 sigma"))
        for line in comparison.lines:
            table.add_row(line.family, _rounded_text(line.ratio), _rounded_text(line.rms_z), f"{line.n_different:,}")
        show(table)
    for contradiction in comparison.contradictions[:_MAX_CONTRADICTIONS]:
        say(f"! {contradiction.text}")
    n_remaining = len(comparison.contradictions) - _MAX_CONTRADICTIONS
    if n_remaining > 0:
        say(f"! {n_remaining} more contradictions in fewer pixels.")
    if not comparison.contradictions:
        say("No contradictions.")


def _rounded_text(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "-"


def _analyse_scans(
    scans: list[str],
    out: Path | None,
    run_analysis: Callable[..., "Results"],
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    from underpaint.cli._pace import pace
    from underpaint.pipeline.run import default_folder, distinct_folders

    is_single = len(scans) == 1
    if not is_single:
        _check_summary((out or Path()) / SUMMARY_FILE)
    folders = [out or default_folder(scans[0])] if is_single else distinct_folders(scans, out or Path())
    records: list[dict[str, Any]] = []
    with pace(quiet=quiet or as_json, unit="spectra") as step:
        for scan, folder in zip(scans, folders, strict=True):
            try:
                records.append(scan_record(scan, run_analysis(scan, folder, progress=step)))
            except (UnderpaintError, OSError, MemoryError) as error:
                if is_single:
                    raise
                # A scan that fails does not prevent the analysis of the others.
                records.append(scan_record(scan, error=str(error) or type(error).__name__))
    if not is_single:
        _write_summary(records, out or Path())
    _show_records(records, quiet=quiet, as_json=as_json)
    if not (quiet or as_json):
        _say_contradictions(records)
    if any(scan_entry["error"] for scan_entry in records):
        raise typer.Exit(FAILED)


def _say_contradictions(records: list[dict[str, Any]]) -> None:
    """Print the worst contradictions between detectors of one file, which recorded the same pixels."""
    from itertools import combinations, islice

    from underpaint.io import read_results, split_location
    from underpaint.pipeline.compare import compare as compare_results

    finished = [
        (split_location(scan_entry["source"]), scan_entry["folder"])
        for scan_entry in records
        if not scan_entry["error"]
    ]
    pairs = (
        (a, b)
        for (first_location, a), (second_location, b) in combinations(finished, 2)
        if first_location[0] == second_location[0] and first_location[1] != second_location[1]
    )
    for a, b in islice(pairs, _MAX_PAIRS):
        results = [read_results(folder) for folder in (a, b)]
        if results[0].shape != results[1].shape:
            continue
        contradictions = compare_results(*results).contradictions
        for first_location in contradictions[:_MAX_NAMED_CONTRADICTIONS]:
            say_warning(first_location.text)
        count_text = f"{len(contradictions) or 'No'} contradiction{'s' * (len(contradictions) != 1)}"
        say(f"{count_text} between {Path(a).name} and {Path(b).name}. All: underpaint compare {quote(a)} {quote(b)}")


def _show_records(records: list[dict[str, Any]], *, quiet: bool, as_json: bool) -> None:
    from underpaint.cli._info import scans_table

    if as_json:
        show_json(records[0] if len(records) == 1 else records)
        return
    if not quiet and len(records) > 1:
        show(scans_table(records))
    elif not quiet:
        _show_record(records[0])
    failures = [failure for failure in records if failure["error"]]
    for failure in failures:
        say_error(
            failure["error"] if failure["source"] in failure["error"] else f"{failure['source']}: {failure['error']}"
        )
    if failures and len(records) > 1:
        say(f"{len(failures)} of {len(records)} scans failed; the others are done.", quiet=quiet)


def _show_record(scan_entry: dict[str, Any]) -> None:
    if scan_entry["skipped"]:
        say(f"{scan_entry['folder']} holds finished results, which were kept. --overwrite repeats the analysis.")
        return
    for name, share in sorted(scan_entry["share_above_half"].items(), key=lambda item: item[::-1], reverse=True):
        if share >= _MIN_SHOWN_FRACTION:
            answer_text = scan_entry["answers"].get(name)
            say(f"  {name:<24} {100 * share:5.1f} % of the area{f': {answer_text}' if answer_text else ''}")
    for layer in scan_entry["layers"][:6]:
        say(f"  {100 * layer['share']:5.1f} % of the area: {layer['text']}")
    for text in scan_entry["unexplained"]:
        say(f"! {text}")
    for alert in scan_entry["alerts"]:
        say_warning(alert)
    for note in scan_entry["notes"][:8]:
        say(f"- {note}")
    if scan_entry["aside"]:
        say(f"! {scan_entry['aside']}")
    say(f"Report: {scan_entry['report']}")
    say(f"Next: underpaint view {scan_entry['folder']}")


def scan_record(scan: str, results: "Results | None" = None, *, error: str | None = None) -> dict[str, Any]:
    """Return the outcome of a scan's analysis as values for JSON; ``error`` is the message of a failed one."""
    from underpaint.data.maps import Results, share_present
    from underpaint.display.report import find_arrangements, unexplained_text

    summary = {} if results is None else results.summary
    folder, skipped = summary.get("folder"), summary.get("skipped", False)
    results = Results() if results is None or skipped else results  # results that were kept are not read again
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


SUMMARY_FILE = "underpaint_summary.csv"
_SUMMARY_COLUMNS = ("scan", "folder", "state", "why")


def _check_summary(path: Path) -> None:
    """Raise an error if the file of the summary exists and was not written by an earlier call."""
    from underpaint.errors import OutputError

    if not path.exists():
        return
    with path.open("rb") as stream:
        if stream.read(200).startswith(",".join(_SUMMARY_COLUMNS).encode()):
            return
    raise OutputError(f"Cannot write {path}: it exists and is not a summary of scans. Move it, or give another --out.")


def _write_summary(records: list[dict[str, Any]], base_folder: Path) -> None:
    from underpaint.io.results.csv_text import write_csv
    from underpaint.runtime.files import atomic_write

    base_folder.mkdir(parents=True, exist_ok=True)
    names = sorted({name for scan_entry in records for name in scan_entry["share_above_half"]})
    with (
        atomic_write(base_folder / SUMMARY_FILE) as temporary_path,
        temporary_path.open("w", newline="", encoding="utf-8") as stream,
    ):
        write_csv(stream, [[*_SUMMARY_COLUMNS, *names], *(_summary_row(scan_entry, names) for scan_entry in records)])


def _summary_row(scan_entry: dict[str, Any], names: list[str]) -> list[Any]:
    state = "failed" if scan_entry["error"] else "left alone" if scan_entry["skipped"] else "done"
    shares = [
        f"{scan_entry['share_above_half'][name]:.6g}" if name in scan_entry["share_above_half"] else ""
        for name in names
    ]
    return [scan_entry["source"], scan_entry["folder"] or "", state, scan_entry["error"] or "", *shares]


def _save_spectrum_figures(infos: list[Any], picture_file: Path, *, overwrite: bool) -> list[Path]:
    """Save a figure of the spectra of each detector; return the paths."""
    from underpaint.display.plot import save_png, spectrum

    stems = (
        [picture_file.stem]
        if len(infos) == 1
        else [f"{picture_file.stem}_{index}" for index in range(1, len(infos) + 1)]
    )
    paths = [picture_file.with_stem(stem) for stem in stems]
    check_new_files(paths, overwrite=overwrite)
    for path, (info_of_scan, axis) in zip(paths, infos, strict=True):
        families = () if axis.calibration is None else axis.calibration.families
        figure = spectrum(
            axis.scan_axis,
            info_of_scan.sum_spectrum.counts,
            info_of_scan.max_spectrum.counts,
            families,
            title=info_of_scan.name,
        )
        save_png(figure, path)
    return paths


def formats(as_json: Json = False) -> None:
    """List the file formats that can be read and written, and how they are recognised.

    Files are recognised by content; the ending of the name does not matter.

    For example:

        underpaint formats

        underpaint formats --json
    """
    from underpaint.io import formats as known_formats

    records = [_format_record(file_format) for file_format in known_formats()]
    if as_json:
        show_json(records)
        return
    table = list_table("formats", ("format", "endings", "recognised by", "extra", "source of the specification"))
    for file_format in known_formats():
        title = f"{file_format.title} (also written)" if file_format.written else file_format.title
        table.add_row(
            title,
            " ".join(file_format.endings),
            file_format.recognised_by,
            file_format.extra or "-",
            file_format.source,
        )
    show(table)
    say('Extras are installed with `pip install "underpaint[NAME]"`. For other formats, export as ripple or HDF5.')


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
    """Write a scan as HDF5 (which PyMca reads) or zarr: lossless, compressed, and verified by reading back.

    Detectors are written separately, unless --detector selects one or the sum. TARGET appears only when complete; an
    existing file is never replaced.
    Where the lines give another axis than the file, it is shown, and --axis found writes it.

    For example:

        underpaint convert painting.bcf painting.h5 --photographs photographs

        underpaint convert scan_folder painting.zarr
    """
    from underpaint.cli._info import axis_offer, written_axis
    from underpaint.cli._pace import pace
    from underpaint.io import convert_scan, photographs_of, save_photographs
    from underpaint.io.convert import refuse_existing

    pixel_shape = rows_and_columns(shape)
    if photographs is not None:
        refuse_existing(photographs)
    axes = None
    if axis == "found":
        refuse_existing(target)
        axes = [written_axis(*each) for each in _axes_from_lines(scan, detector, pixel_shape, quiet=quiet or as_json)]
    with pace(quiet=quiet or as_json, unit="rows") as step:
        conversion = convert_scan(scan, target, detector=detector, shape=pixel_shape, axes=axes, step=step)
    saved = [] if photographs is None else save_photographs(photographs_of(scan), photographs)
    if as_json:
        show_json(
            {
                "target": str(conversion.target),
                "shapes": [list(shape_or_path) for shape_or_path in conversion.shapes],
                "size_bytes": conversion.size_bytes,
                "counts_bytes": conversion.counts_bytes,
                "photographs": list(conversion.photographs),
                "photograph_files": [str(shape_or_path) for shape_or_path in saved],
            }
        )
        return
    sizes = "; ".join(" x ".join(map(str, shape_or_path)) for shape_or_path in conversion.shapes)
    say(
        f"{conversion.target}: {sizes}, {conversion.size_bytes / 1e6:.1f} MB for {conversion.counts_bytes / 1e6:.1f} "
        "MB",
        quiet=quiet,
    )
    for shape_or_path in saved:
        say(f"{shape_or_path}", quiet=quiet)
    if axis == "file" and not quiet:
        with suppress(UnderpaintError):  # the conversion is done; without an axis there is nothing to offer
            for each in _axes_from_lines(scan, detector, pixel_shape, quiet=False):
                for line in axis_offer(*each):
                    say(line)


def _axes_from_lines(
    scan: str | Path,
    detector: str | None,
    pixel_shape: tuple[int, int] | None,
    *,
    counts_scale: float | None = None,
    max_bytes: float = MAX_INFO_BYTES,
    quiet: bool,
) -> "list[tuple[ScanInfo, InfoAxis]]":
    """Survey each detector of a scan, and find its energy axis in the lines."""
    from underpaint.cli._info import find_info_axis
    from underpaint.data import survey
    from underpaint.io import scan_info
    from underpaint.io.load import load_each
    from underpaint.repair import note_mirrored_rows

    with progress(quiet=quiet) as step:
        step("Reading the spectra", 0, 1)
        scans = load_each(scan, detector=detector, shape=pixel_shape, counts_scale=counts_scale)
        surveys = [survey(note_mirrored_rows(each), max_bytes=max_bytes / len(scans)) for each in scans]
        return [(facts, find_info_axis(facts)) for facts in map(scan_info, surveys)]


def _format_record(file_format: "Format") -> dict[str, object]:
    return {
        "name": file_format.title,
        "endings": list(file_format.endings),
        "recognised_by": file_format.recognised_by,
        "extra": file_format.extra,
        "source": file_format.source,
        "written": file_format.written,
    }
