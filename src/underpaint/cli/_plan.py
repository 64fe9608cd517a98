"""Command ``plan``, which computes the scan time that a question about layers requires."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from underpaint.cli._console import list_table, progress, say, show, show_json
from underpaint.cli._outputs import new_file
from underpaint.cli._scans import JsonOption, OverwriteOption, QuietOption

if TYPE_CHECKING:
    from underpaint.pipeline.scan_plan import ScanPlan


def plan(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Results folder of a quick scan.")],
    question: Annotated[
        str,
        typer.Option(metavar='"LOWER under UPPER"', help="Two groups, such as: lead_pigment under mercury_red."),
    ],
    paint: Annotated[
        int | None,
        typer.Option(min=1, help="Number of the paint. The default is the largest paint with the upper group."),
    ] = None,
    voltages: Annotated[
        str | None,
        typer.Option(
            metavar="KV,...", help="Tube voltages in kV. The defaults are the voltage of the scan and 10 kV more."
        ),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(metavar="MM,...", help="Steps in mm. The defaults are the step of the scan and half of it."),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(metavar="S", help="Time per pixel of the quick scan in s, if its file does not state it."),
    ] = None,
    scan: Annotated[
        str | None, typer.Option(metavar="SCAN", help="New path of the scan if it was moved after the analysis.")
    ] = None,
    instrument: Annotated[
        str | None,
        typer.Option(metavar="PRESET|FILE", help="Instrument of the scan, with unknown values from elio."),
    ] = None,
    ground: Annotated[str, typer.Option(help="Ground below the paint.")] = "chalk",
    out_figure: Annotated[
        Path | None, new_file("FILE.png", "Draw the fraction of simulated scans that give the answer against time.")
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Plan the time per pixel, step and voltage of a scan that shows that one group lies below another.

    The paint comes from the results of a quick scan. Scans of this paint with the lower group below the upper group are
    simulated and evaluated as by `underpaint explain`. The plan gives the times at which half of the pixels, or nine in
    ten, show this layer order with a probability of 95 %. The plan also names other methods that answer the question.
    `underpaint paints --known` reads their results.

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


def _three_digit_text(number: float) -> str:
    return f"{float(f'{number:.3g}'):,g}"


def _draw_plan(scan_plan: "ScanPlan", question: str, path: Path) -> None:
    from underpaint.display.plot import save_png
    from underpaint.display.plot.limits import plan_figure

    has_times = scan_plan.seconds_now is not None
    curves = [
        (
            f"{voltage_plan.voltage_kv:g} kV",
            scan_plan.curve_seconds(voltage_plan) if has_times else voltage_plan.answered_shares.counts,
            voltage_plan.answered_shares.answered_share,
        )
        for voltage_plan in scan_plan.voltages
    ]
    x_label = "time per pixel, s" if has_times else "counts per pixel"
    save_png(plan_figure(curves, x_label=x_label, title=f"{question}, paint {scan_plan.paint}"), path)


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
