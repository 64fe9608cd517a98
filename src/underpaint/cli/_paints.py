"""Commands on the paints of a painting, ``paints`` and ``plan``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from underpaint.cli._console import list_table, progress, say, show, show_json
from underpaint.cli._outputs import new_file
from underpaint.cli._scans import (
    GroundOption,
    JsonOption,
    LayersInstrumentOption,
    MovedScanOption,
    OverwriteOption,
    QuietOption,
)

if TYPE_CHECKING:
    from underpaint.data.maps import Results
    from underpaint.pipeline.scan_plan import ScanPlan

MAX_LISTED_PAINTS = 20


def plan(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Results folder for a quick scan.")],
    question: Annotated[
        str,
        typer.Option(
            metavar='"LOWER under UPPER"', help="Lower and upper group, for example: lead_pigment under mercury_red."
        ),
    ],
    paint: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of the paint. By default, the largest with both groups, or else with the upper group."
        ),
    ] = None,
    voltages: Annotated[
        str | None,
        typer.Option(
            metavar="KV,...", help="Tube voltages in kV. By default, the voltage of the scan, and 10 kV more."
        ),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            metavar="MM,...", help="Distances between pixels in mm. By default, the scan's step, and half of it."
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            metavar="S", help="Time per pixel of the quick scan in seconds, if its file does not state this time."
        ),
    ] = None,
    scan: MovedScanOption = None,
    instrument: LayersInstrumentOption = None,
    ground: GroundOption = "chalk",
    out_figure: Annotated[
        Path | None,
        new_file(
            "FILE.png", "Draw how often simulated pixels show the layer order, as a function of the time per pixel."
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Plan a scan that shows that one pigment group lies below another: time per pixel, step and voltage.

    The paint is taken from the results of a quick scan. Spectra of this paint, with the lower group below the upper
    group, are simulated and evaluated as by `underpaint explain`. The plan states two times per pixel. After the first,
    half of the pixels show this layer order with a probability of 95 %. After the second, nine in ten pixels show this
    order. The plan also names other methods that answer the question. `underpaint paints --known` reads the results of
    such methods.

    For example:

        underpaint plan painting_underpaint --question "lead_pigment under mercury_red"

        underpaint plan painting_underpaint --question "lead_white under azurite" --paint 3 --voltages 30,50

        underpaint plan painting_underpaint --question "lead_pigment under mercury_red" --out-figure plan.png --json
    """
    del overwrite  # checked by ``with_output_check``
    from underpaint.pipeline.scan_plan import plan_scan

    voltages_kv, steps_mm = _parse_positive_numbers(voltages, "--voltages"), _parse_positive_numbers(steps, "--steps")
    if seconds is not None and not 0 < seconds < float("inf"):
        raise typer.BadParameter(f"--seconds {seconds:g} is not a time per pixel. Give a number of seconds above 0.")
    with progress(quiet=quiet or as_json) as report_progress:
        scan_plan = plan_scan(
            folder,
            question,
            scan=scan,
            paint=paint,
            voltages_kv=voltages_kv,
            steps_mm=steps_mm,
            seconds=seconds,
            instrument=instrument,
            ground=ground,
            progress=report_progress,
        )
    if as_json:
        show_json(scan_plan.record())
    elif not quiet:
        _show_plan(scan_plan)
    if out_figure is not None:
        _draw_plan(scan_plan, question, out_figure)
        say(f"Curve: {out_figure}", quiet=quiet or as_json)


def _show_plan(scan_plan: "ScanPlan") -> None:
    headings = ("kV", "counts", "times longer", "s per pixel, half", "s, 9 in 10", "or sum pixels")
    plan_table = list_table("plan", (*headings, *(f"hours at {step_mm:g} mm" for step_mm in scan_plan.steps_mm)))
    for voltage_row in scan_plan.rows():
        row_cells = [voltage_row[quantity] for quantity in ("counts_needed", "times_longer", "seconds_per_pixel")]
        row_cells += [
            voltage_row["seconds_per_pixel_9_in_10"],
            voltage_row["pixels_to_sum"],
            *voltage_row["hours_by_step_mm"].values(),
        ]
        plan_table.add_row(
            f"{voltage_row['voltage_kv']:g}",
            *("-" if quantity_value is None else _three_digit_text(quantity_value) for quantity_value in row_cells),
        )
    show(plan_table)
    for sentence in scan_plan.sentences():
        say(f"- {sentence}")


def _three_digit_text(numeric_value: float) -> str:
    return f"{float(f'{numeric_value:.3g}'):,g}"


def _draw_plan(scan_plan: "ScanPlan", question: str, figure_path: Path) -> None:
    from underpaint.display.plot import save_png
    from underpaint.display.plot.limits import plan_figure

    has_times = scan_plan.seconds_now is not None
    fraction_curves = [
        (
            f"{voltage_plan.voltage_kv:g} kV",
            scan_plan.curve_seconds(voltage_plan) if has_times else voltage_plan.answered_shares.counts,
            voltage_plan.answered_shares.answered_share,
        )
        for voltage_plan in scan_plan.voltages
    ]
    x_label = "time per pixel, s" if has_times else "counts per pixel"
    save_png(plan_figure(fraction_curves, x_label=x_label, title=f"{question}, paint {scan_plan.paint}"), figure_path)


def _parse_positive_numbers(option_text: str | None, option: str) -> tuple[float, ...]:
    """Parse a comma-separated list of positive numbers.

    Raises
    ------
    typer.BadParameter
        The text is not a list of positive numbers.
    """
    try:
        numbers = tuple(float(number_text) for number_text in option_text.split(",")) if option_text is not None else ()
    except ValueError:
        numbers = (0.0,)
    if not all(0 < number < float("inf") for number in numbers):
        raise typer.BadParameter(
            f"{option} {option_text!r} is not a list of positive numbers. Give numbers, such as 0.5,1."
        )
    return numbers


def paints(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Results folder to which the paints are added.")],
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="all|1,2,...",
            help="Compute the layer structure of these paints (one or two minutes per paint).",
        ),
    ] = None,
    known: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Results of other methods that constrain the layers, such as a cross-section.",
        ),
    ] = None,
    scan: MovedScanOption = None,
    instrument: LayersInstrumentOption = None,
    ground: GroundOption = "chalk",
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the segmentation into paints. Another seed may give other areas.")
    ] = 0,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find the paints of a painting. A paint is an area of similar pixels, with its groups, sum spectrum and layers.

    `identify` also finds the paints. The command `paints` adds their sum spectra. With --explain, the layers of the
    paints are added as well. The map and the table of paints are added to the folder (results.h5, paint.tif,
    paints.csv) and to the report.

    --known reads results of other methods from a file. The file has one entry for each paint:

        [[known]]
        pixel = [12, 40]                          # or paint = 3
        method = "cross-section, SEM-EDX"
        source = "sample S2, 4 March 2026"
        order = ["mercury_red", "lead_pigment"]   # from the surface down
        thickness_um = [20, 30]                   # of the top layer
        absent = ["copper_green_blue"]

    These results constrain the layers that are computed. The answers state which results were used.

    For example:

        underpaint paints painting_underpaint

        underpaint paints painting_underpaint --explain 1,4 --instrument ours.toml

        underpaint paints painting_underpaint --explain all --known sections.toml
    """
    from underpaint.pipeline.paints import paints_of_folder

    with progress(quiet=quiet or as_json) as report_progress:
        results = paints_of_folder(
            folder,
            scan=scan,
            explained=_parse_paint_numbers(explain),
            known=known,
            instrument=instrument,
            ground=ground,
            seed=seed,
            progress=report_progress,
        )
    if as_json:
        show_json({"paints": [paint.record() for paint in results.paints], "assigned_share": assigned_share(results)})
    elif not quiet:
        _show_paints(results)
        say(f"Report: {folder / 'report.html'}")


def assigned_share(results: "Results") -> float:
    """Return the number of pixels that belong to a paint, divided by the number of pixels with an answer."""
    return sum(paint.share for paint in results.paints)


def _show_paints(results: "Results") -> None:
    paint_table = list_table("paints", ("paint", "share", "area", "counts", "groups"))
    for paint in results.paints[:MAX_LISTED_PAINTS]:
        group_labels = ", ".join(results.short_label(group) for group in paint.groups) or "-"
        paint_table.add_row(
            str(paint.number),
            f"{100 * paint.share:.1f} %",
            "-" if paint.area_mm2 is None else f"{paint.area_mm2:,.0f} mm2",
            "-" if paint.spectrum is None else f"{paint.spectrum.sum():,.0f}",
            group_labels,
        )
    show(paint_table)
    n_unlisted = len(results.paints) - MAX_LISTED_PAINTS
    unlisted_text = f" paints.csv also lists smaller paints: {n_unlisted}." if n_unlisted > 0 else ""
    say(f"{100 * (1 - assigned_share(results)):.1f} % of the pixels are mixed or belong to no paint.{unlisted_text}")
    for paint in results.paints:
        for sentence in paint.stratigraphy:
            say(f"- paint {paint.number}: {sentence}")
    for note in results.process_notes.get("paints", ()):
        say(f"- {note}")


def _parse_paint_numbers(option_text: str | None) -> tuple[int, ...]:
    """Parse the paint numbers of --explain.

    Raises
    ------
    typer.BadParameter
        The text is neither "all" nor a list of numbers.
    """
    from underpaint.pipeline.paints import ALL_PAINTS

    if option_text is None:
        return ()
    if option_text.strip() == "all":
        return (ALL_PAINTS,)
    number_texts: list[Any] = [number_text.strip() for number_text in option_text.split(",")]
    if not all(number_text.isdecimal() and int(number_text) > 0 for number_text in number_texts):
        raise typer.BadParameter(
            f"--explain {option_text!r} names no paints. Give their numbers, counted from 1, such as 1,4, or all."
        )
    return tuple(int(number_text) for number_text in number_texts)
