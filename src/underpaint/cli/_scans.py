"""Commands that read scans or results: identify, elements, fit, info, explain, compare, formats, convert."""

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
    EXIT_FAILED,
    list_table,
    progress,
    say,
    say_error,
    say_warning,
    show,
    show_json,
    two_column_table,
)
from underpaint.cli._outputs import check_new_files, new_file, new_folder
from underpaint.errors import UnderpaintError

if TYPE_CHECKING:
    from underpaint.cli._info import InfoAxis
    from underpaint.data.maps import Results
    from underpaint.io import Format, ScanInfo
    from underpaint.pipeline.compare import Comparison

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]
ScansArgument = Annotated[
    list[str], typer.Argument(metavar="SCAN...", help="Folder or file of each scan. FILE::NAME selects an array.")
]
ScanArgument = Annotated[
    str, typer.Argument(metavar="SCAN", help="Folder or file of the scan. FILE::NAME selects an array.")
]
InstrumentOption = Annotated[
    str | None,
    typer.Option(
        metavar="PRESET|FILE",
        help="Instrument that recorded the scan: preset, instrument file, or PyMca configuration (.cfg).",
    ),
]
LayersInstrumentOption = Annotated[
    str | None,
    typer.Option(
        metavar="PRESET|FILE", help="Instrument of the scan. Values that it does not state are those of elio."
    ),
]
GroundOption = Annotated[str, typer.Option(help="Ground below the paint.")]
MovedScanOption = Annotated[
    str | None, typer.Option(metavar="SCAN", help="New path of the scan if it was moved after the analysis.")
]
TrustInstrumentOption = Annotated[
    bool, typer.Option("--trust-instrument", help="Use the given instrument even if the scan's spectra contradict it.")
]
BeamOption = Annotated[
    float | None, typer.Option("--beam", metavar="KEV", help="Energy in keV, if the beam was monochromatic.")
]
ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume", help="Keep finished results if scan and settings are the same, and continue interrupted runs."
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Compute on the dask cluster at this address, e.g. tcp://host:8786."),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")]
NoCalibrateOption = Annotated[
    bool, typer.Option("--no-calibrate", help="Use the file's energy axis without calibration.")
]
OutOption = Annotated[
    Path | None,
    new_folder("DIR", "Results folder. For several scans, the folder in which each gets a results folder."),
]
DetectorOption = Annotated[
    str | None,
    typer.Option(metavar="NAME|NUMBER|sum", help="Detector to read: its name, its number (from 1), or the sum of all."),
]
ShapeOption = Annotated[
    str | None,
    typer.Option(metavar="ROWSxCOLUMNS", help="Rows and columns, e.g. 120x80, if the file is a list of spectra."),
]
CountsScaleOption = Annotated[
    float | None,
    typer.Option(
        metavar="VALUE", help="Value that is stored for one count, if the file has rates. By default, an estimate."
    ),
]


MAX_INFO_BYTES = 32e6
"""Maximum number of bytes that ``info`` reads from a scan, to save time."""


def rows_and_columns(
    option_text: str | None, option: str = "--shape", example: str = "120x80"
) -> tuple[int, int] | None:
    """Parse the value of --shape or of another option with two integers.

    Raises
    ------
    typer.BadParameter
        The text is not two integers above 0.
    """
    if option_text is None:
        return None
    number_texts = option_text.lower().replace("×", "x").split("x")
    if len(number_texts) != 2 or not all(
        number_text.strip().isdecimal() and int(number_text) > 0 for number_text in number_texts
    ):
        raise typer.BadParameter(
            f"{option} {option_text!r} is not ROWSxCOLUMNS. Give two integers above 0, such as {example}."
        )
    return int(number_texts[0]), int(number_texts[1])


DetectabilityOption = Annotated[
    bool | None,
    typer.Option(
        "--detectability/--no-detectability",
        help="Map the groups that cannot be excluded. By default, only with --instrument.",
    ),
]


FitEngine = StrEnum("FitEngine", ["underpaint", "fixed", "pymca"])
"""Program and line ratios of the element fit."""


FitEngineOption = Annotated[
    FitEngine,
    typer.Option(help="Element fit: line ratios of the forward model, fixed line ratios, or PyMca (extra `pymca`)."),
]
PixelOption = Annotated[
    str | None, typer.Option(metavar="ROW,COLUMN", help="Pixel to analyse. Rows and columns are counted from 0.")
]
RegionOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Pixels to sum: a mask (.npy, .png, .tif), or a list of rows and columns (.csv)."
    ),
]
ElementsOption = Annotated[
    str | None,
    typer.Option(metavar="Fe,Pb,...", help="Elements to fit. By default, all elements that are detected in the scan."),
]
LinesOption = Annotated[
    str | None, typer.Option(metavar="Pb_L3,...", help="Line families to fit (Pb_L), or lines of one subshell (Pb_L3).")
]
AddOption = Annotated[
    str | None, typer.Option(metavar="As,...", help="Elements or line families that are fitted in addition.")
]
DropOption = Annotated[
    str | None,
    typer.Option(
        metavar="Br,...", help="Elements or line families that are not fitted, because they are known to be absent."
    ),
]


def named_lines(*name_lists: str | None) -> tuple[str, ...] | None:
    """Return the elements and line families in comma-separated lists, or None if no list is given.

    Raises
    ------
    typer.BadParameter
        A name is neither an element nor a line family.
    """
    from underpaint.physics.atomic import SHELLS, atomic_number

    words_by_name = [
        name_words.split()
        for name_list in name_lists
        if name_list is not None
        for name_words in name_list.split(",")
        if name_words.strip()
    ]
    split_names = [re.split("_", "_".join(name_words), maxsplit=1) for name_words in words_by_name]
    line_names = [
        "_".join((name[:1].upper() + name[1:], *(shell_name.upper() for shell_name in shell_words)))
        for name, *shell_words in split_names
    ]
    if not line_names and any(name_list is not None for name_list in name_lists):
        raise typer.BadParameter("the list is empty. Name elements or lines, such as Fe,Pb_L, or omit the option.")
    for name in line_names:
        symbol, _, shell_name = name.partition("_")
        try:
            atomic_number(symbol)
        except ValueError as error:
            raise typer.BadParameter(f"{name!r} is not an element: {error}") from error
        if shell_name not in {"", "L", "M", *SHELLS}:
            raise typer.BadParameter(
                f"{name!r} is not a line family: {shell_name!r} is not a shell. Write an element (Pb), a family "
                f"(Pb_L), "
                "or a subshell (Pb_L3)."
            )
    return tuple(line_names) if any(name_list is not None for name_list in name_lists) else None


def refuse_contradictory_lines(fitted_lines: Iterable[str], dropped_lines: Iterable[str]) -> None:
    """Raise an error if a line family is both requested and dropped.

    Raises
    ------
    typer.BadParameter
        A name occurs in both lists.
    """
    contradictory_lines = sorted(set(fitted_lines) & set(dropped_lines))
    if contradictory_lines:
        raise typer.BadParameter(
            f"{', '.join(contradictory_lines)}: requested, and left out with --drop, in one command. Remove each "
            f"name from one of the lists."
        )


def identify(
    scan: ScansArgument,
    instrument: InstrumentOption = None,
    palette: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Palette: consider only its pigments.")
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="Network: default, xu2022, or an .onnx file.")
    ] = "default",
    out: OutOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    engine: FitEngineOption = FitEngine.underpaint,
    add: AddOption = None,
    drop: DropOption = None,
    no_calibrate: NoCalibrateOption = False,
    detector: DetectorOption = None,
    shape: ShapeOption = None,
    counts_scale: CountsScaleOption = None,
    detectability: DetectabilityOption = None,
    no_elements: Annotated[
        bool,
        typer.Option("--no-elements", help="Map only pigments. Skip element maps and the search for unassigned peaks."),
    ] = False,
    pool: Annotated[
        Literal["auto", "off"],
        typer.Option(help="If a scan has few counts, sum each pixel with similar neighbours. off prevents this."),
    ] = "auto",
    no_paints: Annotated[
        bool, typer.Option("--no-paints", help="Skip the search for areas of the same paint.")
    ] = False,
    trust_instrument: TrustInstrumentOption = False,
    beam: BeamOption = None,
    scheduler: SchedulerOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Map the pigments and elements of one or more scans, and write a report.

    The energy axis is calibrated from the scan's lines. Without --out, the results of the scan NAME are written to the
    folder NAME_underpaint. --resume continues an interrupted run.

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
    scan: ScansArgument,
    elements: ElementsOption = None,
    lines: LinesOption = None,
    add: AddOption = None,
    drop: DropOption = None,
    engine: FitEngineOption = FitEngine.underpaint,
    out: OutOption = None,
    instrument: InstrumentOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    no_calibrate: NoCalibrateOption = False,
    detector: DetectorOption = None,
    shape: ShapeOption = None,
    counts_scale: CountsScaleOption = None,
    trust_instrument: TrustInstrumentOption = False,
    beam: BeamOption = None,
    quantities: Annotated[
        Literal["mass_percent", "surface", "ug_cm2"] | None,
        typer.Option(
            help="Also map mass per cent (of one layer or of the surface paint), or ug/cm2 (of a thin layer)."
        ),
    ] = None,
    matrix: Annotated[
        Literal["paint", "oxides"],
        typer.Option(help="Material that XRF does not detect: the binder of a paint, or the light oxides of minerals."),
    ] = "paint",
    thickness: Annotated[
        str | None, typer.Option(metavar="LOW-HIGH", help="Thickness of the layer in um, e.g. 20-100 or 500-inf.")
    ] = None,
    scheduler: SchedulerOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Map the elements of one or more scans: net counts of each line family, and their uncertainties.

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
        quantities=None
        if quantities is None
        else QuantityRequest(quantities, matrix, _parse_thickness_range(thickness)),
    )
    refuse_contradictory_lines((*(settings.families or ()), *settings.add), settings.drop)
    run_analysis = partial(
        elements_to_folder, settings=settings, resume=resume, overwrite=overwrite, scheduler=scheduler
    )
    _analyse_scans(scan, out, run_analysis, quiet=quiet, as_json=as_json)


def _parse_thickness_range(option_text: str | None) -> tuple[float, float] | None:
    """Parse the thickness range of --thickness, in um.

    Raises
    ------
    typer.BadParameter
        The text is not two numbers in ascending order.
    """
    if option_text is None:
        return None
    min_text, _, max_text = option_text.replace("\u2013", "-").partition("-")
    try:
        limits_um = float(min_text), float(max_text)
    except ValueError:
        limits_um = (0.0, 0.0)
    if not 0 < limits_um[0] <= limits_um[1]:
        raise typer.BadParameter(
            f"--thickness {option_text!r} is not LOW-HIGH. Give two thicknesses in um, such as 20-100."
        )
    return limits_um


MIN_POOR_CHI_SQUARE = 3.0
"""Chi-square per channel above which faint lines may be artefacts of the model."""


def fit(
    scan: ScanArgument,
    pixel: PixelOption = None,
    region: RegionOption = None,
    elements: ElementsOption = None,
    lines: LinesOption = None,
    add: AddOption = None,
    drop: DropOption = None,
    instrument: InstrumentOption = None,
    out_figure: Annotated[
        Path | None, new_file("FILE.png", "Draw the spectrum, the fit, its components and the residual.")
    ] = None,
    no_calibrate: NoCalibrateOption = False,
    detector: DetectorOption = None,
    counts_scale: CountsScaleOption = None,
    trust_instrument: TrustInstrumentOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fit one spectrum. Show net counts and limit of detection of each line family, and the quality of the fit.

    Without --pixel or --region, the sum spectrum of the scan is fitted. By default, the elements detected in this
    spectrum are fitted, and --add and --drop change this list. With --elements or --lines, only the named elements or
    lines are fitted.

    For example:

        underpaint fit painting.h5 --pixel 12,40 --out-figure pixel.png

        underpaint fit painting.h5 --region sleeve.png --drop As

        underpaint fit painting.h5 --elements Fe,Pb,Hg
    """
    del overwrite  # checked by ``with_output_check``
    from underpaint.calibrate import resolve_energy_axis
    from underpaint.data import survey
    from underpaint.elements import fit_spectrum
    from underpaint.io import load
    from underpaint.pigments.explain import read_spot, region_spectrum

    # Names of lines are checked first, because reading the scan may take minutes.
    families, added_lines, dropped_lines = named_lines(elements, lines), named_lines(add) or (), named_lines(drop) or ()
    refuse_contradictory_lines((*(families or ()), *added_lines), dropped_lines)
    with progress(quiet=quiet or as_json) as report_progress:
        report_progress("Opening the scan", 0, 1)
        scan_read = load(scan, detector=detector, counts_scale=counts_scale)
        mask = None if pixel is None and region is None else read_spot(pixel, region, scan_read.shape[:2])
        report_progress("Finding the energy axis", 0, 1)
        calibrated_scan = resolve_energy_axis(
            scan_read, instrument=instrument, calibrated=not no_calibrate, trust_instrument=trust_instrument
        )
        report_progress("Reading the spectra", 0, 1)
        spectrum = (
            survey(calibrated_scan.scan).sum_spectrum() if mask is None else region_spectrum(calibrated_scan.scan, mask)
        )
        report_progress("Fitting", 0, 1)
        result = fit_spectrum(
            spectrum,
            families=families,
            add=added_lines,
            drop=dropped_lines,
            instrument=calibrated_scan.instrument,
        )
    for alert in calibrated_scan.alerts:
        say_warning(alert)
    sorted_families = sorted(result.families.items(), key=lambda name_and_family: -name_and_family[1].area)
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
                    for name, family in sorted_families
                },
            }
        )
    elif not quiet:
        family_table = list_table(result.name, ("lines", "net counts", "one sigma", "limit of detection"))
        for name, family in sorted_families:
            if family.present:
                family_counts: tuple[Any, ...] = (family.area, family.sigma, family.detection_limit)
                family_table.add_row(name, *(f"{count:,.0f}" for count in family_counts))
        show(family_table)
        absent_families = [name for name, family in sorted_families if not family.present]
        if absent_families:
            say(f"Not detected: {', '.join(sorted(absent_families))}.")
        say(
            f"Residual: chi-square {result.chi_square:.2f} per channel (at most 1 if the model describes the spectrum)."
        )
        if result.chi_square > MIN_POOR_CHI_SQUARE:
            say_warning(
                "The model does not describe this spectrum. Check the residual (--out-figure) before trusting faint "
                "lines. Possible causes are a wrong axis or instrument, a metal, a pure salt, sum peaks, and omitted "
                "elements."
            )
    if out_figure is not None:
        from underpaint.display.plot import save_png
        from underpaint.display.plot.spectra import spectrum_fit_figure

        save_png(spectrum_fit_figure(result), out_figure)
        say(f"Wrote {out_figure}.", quiet=quiet or as_json)


def _finite_or_none(numeric_value: float) -> float | None:
    """Return the number, or None if it is not finite, because JSON has no NaN."""
    return numeric_value if math.isfinite(numeric_value) else None


def info(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE]",
            help="Scan or spectrum. FILE::NAME selects an array. Without FILE, versions of packages are shown.",
        ),
    ] = None,
    picture: Annotated[Path | None, new_file("FILE.png", "Write a figure of the spectra.")] = None,
    detector: DetectorOption = None,
    shape: ShapeOption = None,
    counts_scale: CountsScaleOption = None,
    every: Annotated[bool, typer.Option("--all", help="Read all spectra, even of a large scan.")] = False,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show what is in a file: size, counts, detector, energy axis, sum spectrum and maximum spectrum.

    If a scan is larger than 32 MB, only some evenly distributed pixels are read. Without FILE, the versions of
    underpaint, Python and packages are shown, for bug reports.

    For example:

        underpaint info painting.h5

        underpaint info cube.npz::det_1 --picture spectrum.png
    """
    from underpaint.cli._info import scan_facts_table, spectrum_lines

    if file is None:
        _show_environment(as_json=as_json)
        return
    pixel_shape = rows_and_columns(shape)
    max_bytes = math.inf if every else MAX_INFO_BYTES
    infos = _infos_with_axes(
        file, detector, pixel_shape, counts_scale=counts_scale, max_bytes=max_bytes, quiet=quiet or as_json
    )
    if as_json:
        info_records = [scan_info_read.facts() | {"calibration": axis.as_record()} for scan_info_read, axis in infos]
        show_json(info_records[0] if len(info_records) == 1 else info_records)
    for scan_info_read, axis in infos if not (as_json or quiet) else ():
        show(scan_facts_table(scan_info_read, axis))
        for text_line in spectrum_lines(scan_info_read, axis):
            say(text_line)
    if picture is not None:
        for path in _save_spectrum_figures(infos, picture, overwrite=overwrite):
            say(f"Wrote {path}", quiet=quiet or as_json)


def _show_environment(*, as_json: bool) -> None:
    """Print the versions of underpaint, Python, the operating system, and all packages that underpaint may use."""
    import platform
    from importlib.metadata import PackageNotFoundError, requires, version

    versions = {"underpaint": __version__, "Python": platform.python_version(), "system": platform.platform()}
    package_names = (
        re.split(r"[^\w.-]", requirement_text, maxsplit=1)[0] for requirement_text in requires("underpaint") or ()
    )
    for package in sorted({package for package in package_names if package != "underpaint"}, key=str.lower):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    if as_json:
        show_json(versions)
        return
    version_table = two_column_table("underpaint")
    for package, version_text in versions.items():
        version_table.add_row(package, version_text)
    show(version_table)


def explain(
    scan: ScanArgument,
    pixel: PixelOption = None,
    region: RegionOption = None,
    pigments: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Groups or pigments that are present. By default, those that the network identifies.",
        ),
    ] = None,
    instrument: LayersInstrumentOption = None,
    model: Annotated[str, typer.Option(metavar="NAME|FILE", help="Network that identifies the groups.")] = "default",
    ground: GroundOption = "chalk",
    model_error: Annotated[
        float,
        typer.Option(metavar="PERCENT", min=0, max=50, help="Error of the simulated counts in each bin, in per cent."),
    ] = 0.5,
    no_calibrate: NoCalibrateOption = False,
    counts_scale: CountsScaleOption = None,
    trust_instrument: TrustInstrumentOption = False,
    out_figure: Annotated[
        Path | None, new_file("FILE.png", "Draw the spectrum and the layers that were found.")
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find the layer structures that are consistent with the spectrum of a pixel or region. State their probabilities.

    Two independent runs sample layers, pigments, thicknesses and pigment shares. Only results on which both runs agree
    are stated. The network identifies the pigment groups, unless --pigments names them.

    For example:

        underpaint explain painting.h5 --pixel 12,40 --instrument ours.toml

        underpaint explain painting.h5 --region sleeve.png --out-figure sleeve_layers.png

        underpaint explain painting.h5 --pixel 12,40 --pigments mercury_red,azurite
    """
    del overwrite  # checked by ``with_output_check``
    from underpaint.cli._explain import ExplainRequest, explain_spot, layer_table
    from underpaint.pigments.explain.record import explanation_record
    from underpaint.pigments.explain.words import explanation_sentences

    pigment_names = tuple(pigment_name.strip() for pigment_name in pigments.split(",")) if pigments else ()
    request = ExplainRequest(
        pixel,
        region,
        pigment_names,
        instrument,
        model,
        ground,
        not no_calibrate,
        model_error,
        counts_scale,
        trust_instrument,
    )
    with progress(quiet=quiet or as_json) as report_progress:
        explanation = explain_spot(scan, request, report_progress)
    if as_json:
        show_json(explanation_record(explanation))
    elif not quiet:
        for sentence in explanation_sentences(explanation):
            say(f"- {sentence}")
        if (layers_table := layer_table(explanation)) is not None:
            show(layers_table)
    if out_figure is not None:
        from underpaint.display.plot import save_png
        from underpaint.display.plot.spectra import explanation_figure

        save_png(explanation_figure(explanation), out_figure)
        say(f"Wrote {out_figure}.", quiet=quiet or as_json)


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="First results folder.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Second results folder, with the same pixels as the first.")],
    out: Annotated[
        Path | None, new_folder("DIR", "Write a page with maps, a JSON file and CSV files to this folder.")
    ] = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare the results of two detectors, or of two scans of one painting. Show all contradictions.

    A and B are folders that `identify` or `elements` wrote. There are three kinds of contradictions. A group has a
    clear line in only one of the results. The places of a group in both results exclude each other. Only one of the
    results contains a line.

    For example:

        underpaint compare det_1_underpaint det_2_underpaint

        underpaint compare det_1_underpaint det_2_underpaint --out comparison
    """
    from underpaint.io import read_results
    from underpaint.pipeline.compare import check_folder, write_comparison
    from underpaint.pipeline.compare import compare as compare_results

    if out is not None:
        check_folder(out, overwrite=overwrite)
    with progress(quiet=quiet or as_json) as report_progress:
        report_progress("Comparing", 0, 1)
        results = [read_results(folder) for folder in (a, b)]
        comparison = compare_results(*results)
        page_path = None if out is None else write_comparison(comparison, out, overwrite=overwrite)
    if as_json:
        show_json(comparison.record() | {"page": None if page_path is None else str(page_path)})
        return
    if not quiet:
        _show_comparison(comparison)
    say(f"Page: {page_path}" if page_path else "--out DIR writes a page with maps, JSON and CSV.", quiet=quiet)


_MAX_CONTRADICTIONS, _MIN_SHOWN_FRACTION = 12, 0.001
_MAX_NAMED_CONTRADICTIONS, _MAX_PAIRS = 2, 3


def _show_comparison(comparison: "Comparison") -> None:
    first_name, second_name = comparison.names
    shown_groups = [
        group_comparison
        for group_comparison in comparison.groups
        if max(group_comparison.present) >= _MIN_SHOWN_FRACTION
    ]
    if shown_groups:
        comparison_table = list_table("pigment groups", ("group", "place", first_name, second_name, "kappa"))
        for group_comparison in shown_groups:
            share_texts = (f"{100 * share:.1f} %" for share in group_comparison.present)
            comparison_table.add_row(
                group_comparison.group, group_comparison.place, *share_texts, _three_digit_text(group_comparison.kappa)
            )
        show(comparison_table)
    if comparison.lines:
        comparison_table = list_table(
            "lines", ("line", f"{second_name} over {first_name}", "rms z", "pixels over 5 sigma")
        )
        for line_comparison in comparison.lines:
            comparison_table.add_row(
                line_comparison.family,
                _three_digit_text(line_comparison.ratio),
                _three_digit_text(line_comparison.rms_z),
                f"{line_comparison.n_different:,}",
            )
        show(comparison_table)
    for contradiction in comparison.contradictions[:_MAX_CONTRADICTIONS]:
        say(f"! {contradiction.text}")
    n_remaining = len(comparison.contradictions) - _MAX_CONTRADICTIONS
    if n_remaining > 0:
        say(f"! {n_remaining} more contradictions in fewer pixels.")
    if not comparison.contradictions:
        say("No contradictions.")


def _three_digit_text(numeric_value: float) -> str:
    return f"{numeric_value:.3g}" if math.isfinite(numeric_value) else "-"


def _analyse_scans(
    scans: list[str],
    out: Path | None,
    run_analysis: Callable[..., "Results"],
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    from underpaint.cli._progress_rate import progress_with_rate
    from underpaint.pipeline.run import default_folder, distinct_folders

    is_single = len(scans) == 1
    if not is_single:
        _check_summary_file((out or Path()) / SUMMARY_FILE)
    folders = [out or default_folder(scans[0])] if is_single else distinct_folders(scans, out or Path())
    records: list[dict[str, Any]] = []
    with progress_with_rate(quiet=quiet or as_json, unit="spectra") as report_progress:
        for scan, folder in zip(scans, folders, strict=True):
            try:
                records.append(scan_record(scan, run_analysis(scan, folder, progress=report_progress)))
            except (UnderpaintError, OSError, MemoryError) as error:
                if is_single:
                    raise
                # If one scan fails, the other scans are still analysed.
                records.append(scan_record(scan, error=str(error) or type(error).__name__))
    if not is_single:
        _write_summary(records, out or Path())
    _show_records(records, quiet=quiet, as_json=as_json)
    if not (quiet or as_json):
        _warn_of_contradictions(records)
    if any(scan_entry["error"] for scan_entry in records):
        raise typer.Exit(EXIT_FAILED)


def _warn_of_contradictions(records: list[dict[str, Any]]) -> None:
    """Print the worst contradictions between detectors that recorded the same pixels in one file."""
    from itertools import combinations, islice

    from underpaint.io import read_results, split_location
    from underpaint.pipeline.compare import compare as compare_results

    finished_scans = [
        (split_location(scan_entry["source"]), scan_entry["folder"])
        for scan_entry in records
        if not scan_entry["error"]
    ]
    detector_pairs = (
        (a, b)
        for (first_location, a), (second_location, b) in combinations(finished_scans, 2)
        if first_location[0] == second_location[0] and first_location[1] != second_location[1]
    )
    for a, b in islice(detector_pairs, _MAX_PAIRS):
        results = [read_results(folder) for folder in (a, b)]
        if results[0].shape != results[1].shape:
            continue
        contradictions = compare_results(*results).contradictions
        for contradiction in contradictions[:_MAX_NAMED_CONTRADICTIONS]:
            say_warning(contradiction.text)
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
    failed_records = [failed_record for failed_record in records if failed_record["error"]]
    for failed_record in failed_records:
        say_error(
            failed_record["error"]
            if failed_record["source"] in failed_record["error"]
            else f"{failed_record['source']}: {failed_record['error']}"
        )
    if failed_records and len(records) > 1:
        say(
            f"{len(failed_records)} of {len(records)} scans failed, and the analysis of all others is complete.",
            quiet=quiet,
        )


def _show_record(scan_entry: dict[str, Any]) -> None:
    if scan_entry["skipped"]:
        say(f"The finished results in {scan_entry['folder']} were kept. --overwrite repeats the analysis.")
        return
    for name, share in sorted(
        scan_entry["share_above_half"].items(), key=lambda group_share: group_share[::-1], reverse=True
    ):
        if share >= _MIN_SHOWN_FRACTION:
            answer_text = scan_entry["answers"].get(name)
            say(f"  {name:<24} {100 * share:5.1f} % of the area{f': {answer_text}' if answer_text else ''}")
    for layer in scan_entry["layers"][:6]:
        say(f"  {100 * layer['share']:5.1f} % of the area: {layer['text']}")
    for peak_text in scan_entry["unexplained"]:
        say(f"! {peak_text}")
    for alert in scan_entry["alerts"]:
        say_warning(alert)
    for note in scan_entry["notes"][:8]:
        say(f"- {note}")
    if scan_entry["aside"]:
        say(f"! {scan_entry['aside']}")
    say(f"Report: {scan_entry['report']}")
    say(f"Next: underpaint view {scan_entry['folder']}")


def scan_record(scan: str, results: "Results | None" = None, *, error: str | None = None) -> dict[str, Any]:
    """Return the outcome of a scan's analysis as a JSON-serialisable record.

    If the analysis failed, ``error`` is its error message.
    """
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


def _check_summary_file(path: Path) -> None:
    """Raise an error if the summary file exists and is not a summary that an earlier call wrote."""
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
    group_names = sorted({group for scan_entry in records for group in scan_entry["share_above_half"]})
    with (
        atomic_write(base_folder / SUMMARY_FILE) as temporary_path,
        temporary_path.open("w", newline="", encoding="utf-8") as stream,
    ):
        write_csv(
            stream,
            [[*_SUMMARY_COLUMNS, *group_names], *(_summary_row(scan_entry, group_names) for scan_entry in records)],
        )


def _summary_row(scan_entry: dict[str, Any], group_names: list[str]) -> list[Any]:
    outcome = "failed" if scan_entry["error"] else "left alone" if scan_entry["skipped"] else "done"
    share_texts = [
        f"{scan_entry['share_above_half'][group]:.6g}" if group in scan_entry["share_above_half"] else ""
        for group in group_names
    ]
    return [scan_entry["source"], scan_entry["folder"] or "", outcome, scan_entry["error"] or "", *share_texts]


def _save_spectrum_figures(infos: list[Any], picture_file: Path, *, overwrite: bool) -> list[Path]:
    """Write a figure of each detector's spectra. Return the paths of the figures."""
    from underpaint.display.plot import save_png, spectrum

    file_stems = (
        [picture_file.stem]
        if len(infos) == 1
        else [f"{picture_file.stem}_{index}" for index in range(1, len(infos) + 1)]
    )
    paths = [picture_file.with_stem(file_stem) for file_stem in file_stems]
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


def formats(as_json: JsonOption = False) -> None:
    """List the file formats that underpaint reads and writes, and how it recognises them.

    Files are recognised by their content, not by the ending of their name.

    For example:

        underpaint formats

        underpaint formats --json
    """
    from underpaint.io import formats as known_formats

    format_records = [_format_record(file_format) for file_format in known_formats()]
    if as_json:
        show_json(format_records)
        return
    format_table = list_table("formats", ("format", "endings", "recognised by", "extra", "source of the specification"))
    for file_format in known_formats():
        title = f"{file_format.title} (also written)" if file_format.written else file_format.title
        format_table.add_row(
            title,
            " ".join(file_format.endings),
            file_format.recognised_by,
            file_format.extra or "-",
            file_format.source,
        )
    show(format_table)
    say('Extras are installed with `pip install "underpaint[NAME]"`. For other formats, export as ripple or HDF5.')


def convert(
    scan: ScanArgument,
    target: Annotated[
        Path,
        typer.Argument(
            metavar="TARGET", help="HDF5 file to write (ending .h5), or zarr folder to write (ending .zarr)."
        ),
    ],
    photographs: Annotated[
        Path | None, new_folder("DIR", "Write the photographs in a .bcf file to this new folder, as TIFF.")
    ] = None,
    detector: DetectorOption = None,
    shape: ShapeOption = None,
    axis: Annotated[
        Literal["file", "found"],
        typer.Option("--axis", help="Energy axis of the copy: that of the file, or that found from the lines."),
    ] = "file",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a copy of a scan as HDF5, which PyMca reads, or as zarr. The compression is lossless.

    The copy is read again to verify it. Each detector is written separately, unless --detector selects one or the sum.
    TARGET appears only when it is complete, and an existing file is never replaced. If the axis from the lines differs
    from the file's axis, both are printed. --axis found writes the axis from the lines.

    For example:

        underpaint convert painting.bcf painting.h5 --photographs photographs

        underpaint convert scan_folder painting.zarr
    """
    from underpaint.cli._info import axis_from_lines, axis_offer_lines
    from underpaint.cli._progress_rate import progress_with_rate
    from underpaint.io import convert_scan, photographs_of, save_photographs
    from underpaint.io.convert import refuse_existing

    pixel_shape = rows_and_columns(shape)
    if photographs is not None:
        refuse_existing(photographs)
    written_axes = None
    if axis == "found":
        refuse_existing(target)
        written_axes = [
            axis_from_lines(*info_and_axis)
            for info_and_axis in _infos_with_axes(scan, detector, pixel_shape, quiet=quiet or as_json)
        ]
    with progress_with_rate(quiet=quiet or as_json, unit="rows") as report_progress:
        conversion = convert_scan(
            scan, target, detector=detector, shape=pixel_shape, axes=written_axes, step=report_progress
        )
    saved_photographs = [] if photographs is None else save_photographs(photographs_of(scan), photographs)
    if as_json:
        show_json(
            {
                "target": str(conversion.target),
                "shapes": [list(scan_shape) for scan_shape in conversion.shapes],
                "size_bytes": conversion.size_bytes,
                "counts_bytes": conversion.counts_bytes,
                "photographs": list(conversion.photographs),
                "photograph_files": [str(photograph_file) for photograph_file in saved_photographs],
            }
        )
        return
    shape_text = "; ".join(" x ".join(map(str, scan_shape)) for scan_shape in conversion.shapes)
    say(
        f"{conversion.target}: {shape_text}, {conversion.size_bytes / 1e6:.1f} MB for "
        f"{conversion.counts_bytes / 1e6:.1f} "
        "MB",
        quiet=quiet,
    )
    for photograph_file in saved_photographs:
        say(f"{photograph_file}", quiet=quiet)
    if axis == "file" and not quiet:
        with suppress(UnderpaintError):  # The conversion is complete, so an axis that was not found is no error.
            for info_and_axis in _infos_with_axes(scan, detector, pixel_shape, quiet=False):
                for text_line in axis_offer_lines(*info_and_axis):
                    say(text_line)


def _infos_with_axes(
    scan: str | Path,
    detector: str | None,
    pixel_shape: tuple[int, int] | None,
    *,
    counts_scale: float | None = None,
    max_bytes: float = MAX_INFO_BYTES,
    quiet: bool,
) -> "list[tuple[ScanInfo, InfoAxis]]":
    """Survey each detector of a scan, and calibrate its energy axis from the lines."""
    from underpaint.cli._info import find_info_axis
    from underpaint.data import survey
    from underpaint.io import scan_info
    from underpaint.io.load import load_each
    from underpaint.repair import note_mirrored_rows

    with progress(quiet=quiet) as report_progress:
        report_progress("Reading the spectra", 0, 1)
        scans = load_each(scan, detector=detector, shape=pixel_shape, counts_scale=counts_scale)
        surveys = [
            survey(note_mirrored_rows(detector_scan), max_bytes=max_bytes / len(scans)) for detector_scan in scans
        ]
        return [(info, find_info_axis(info)) for info in map(scan_info, surveys)]


def _format_record(file_format: "Format") -> dict[str, object]:
    return {
        "name": file_format.title,
        "endings": list(file_format.endings),
        "recognised_by": file_format.recognised_by,
        "extra": file_format.extra,
        "source": file_format.source,
        "written": file_format.written,
    }
