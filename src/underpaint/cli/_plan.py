"""``plan``: the scan time that a question about layers needs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from underpaint.cli._console import list_table, progress, say, show, show_json
from underpaint.cli._outputs import new_file
from underpaint.cli._scans import Json, Overwrite, Quiet

if TYPE_CHECKING:
    from underpaint.pipeline.scan_plan import ScanPlan


def plan(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Results folder of a quick scan.")],
    question: Annotated[
        str,
        typer.Option(metavar='"LOWER under UPPER"', help="Two groups, such as: lead_pigment under mercury_red."),
    ],
    paint: Annotated[
        int | None, typer.Option(min=1, help="Number of the paint; by default the largest with the upper group.")
    ] = None,
    voltages: Annotated[
        str | None, typer.Option(metavar="KV,...", help="Tube voltages; by default that of the scan, and 10 kV more.")
    ] = None,
    steps: Annotated[
        str | None, typer.Option(metavar="MM,...", help="Steps; by default that of the scan, and half of it.")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(metavar="S", help="Time per pixel of the quick scan, if not in its file."),
    ] = None,
    scan: Annotated[
        str | None, typer.Option(metavar="SCAN", help="The scan, if it was moved since it was analysed.")
    ] = None,
    instrument: Annotated[
        str | None, typer.Option(metavar="PRESET|FILE", help="The scanner; unknown values are those of elio.")
    ] = None,
    ground: Annotated[str, typer.Option(help="The ground under the paint.")] = "chalk",
    out_figure: Annotated[
        Path | None, new_file("FILE.png", "Draw the fraction of scans that give the answer, by time.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Plan a scan: the time per pixel, step and voltage at which it shows that one group lies under another.

    The paint is that of a quick scan. Scans of this paint are simulated, with the lower group under the upper one, and
    evaluated as by `underpaint explain`. The plan gives the times at which half of the pixels, or nine in ten, show
    that order with a probability of 95 %. It also names other methods that settle the question; their results are read
    by `underpaint paints --known`.

    For example:

        underpaint plan painting_underpaint --question "lead_pigment under mercury_red"

        underpaint plan painting_underpaint --question "lead_white under azurite" --paint 3 --voltages 30,50

        underpaint plan painting_underpaint --question "lead_pigment under mercury_red" --out-figure plan.png --json
    """
    del overwrite  # checked with the outputs
    from underpaint.pipeline.scan_plan import plan_scan

    voltages_kv, steps_mm = _positive_numbers(voltages, "--voltages"), _positive_numbers(steps, "--steps")
    if seconds is not None and not 0 < seconds < float("inf"):
        raise typer.BadParameter(f"--seconds {seconds:g} is not a time per pixel. Give seconds, above 0.")
    with progress(quiet=quiet or as_json) as step:
        result = plan_scan(
            folder,
            question,
            scan=scan,
            paint=paint,
            voltages_kv=voltages_kv,
            steps_mm=steps_mm,
            seconds=seconds,
            instrument=instrument,
            ground=ground,
            progress=step,
        )
    if as_json:
        show_json(result.record())
    elif not quiet:
        _show(result)
    if out_figure is not None:
        _draw(result, question, out_figure)
        say(f"Curve: {out_figure}", quiet=quiet or as_json)


def _show(plan: "ScanPlan") -> None:
    headings = ("kV", "counts", "times longer", "s per pixel, half", "s, 9 in 10", "or sum pixels")
    table = list_table("plan", (*headings, *(f"hours at {step:g} mm" for step in plan.steps_mm)))
    for row in plan.rows():
        cells = [row[name] for name in ("counts_needed", "times_longer", "seconds_per_pixel")]
        cells += [row["seconds_per_pixel_9_in_10"], row["pixels_to_sum"], *row["hours_by_step_mm"].values()]
        table.add_row(f"{row['voltage_kv']:g}", *("-" if cell is None else _three_digits(cell) for cell in cells))
    show(table)
    for sentence in plan.sentences():
        say(f"- {sentence}")


def _three_digits(value: float) -> str:
    return f"{float(f'{value:.3g}'):,g}"


def _draw(plan: "ScanPlan", question: str, path: Path) -> None:
    from underpaint.display.plot import save_png
    from underpaint.display.plot.limits import plan_figure

    has_times = plan.seconds_now is not None
    curves = [
        (
            f"{voltage.voltage_kv:g} kV",
            plan.curve_seconds(voltage) if has_times else voltage.answered_shares.counts,
            voltage.answered_shares.answered_share,
        )
        for voltage in plan.voltages
    ]
    x_label = "time per pixel, s" if has_times else "counts per pixel"
    save_png(plan_figure(curves, x_label=x_label, title=f"{question}, paint {plan.paint}"), path)


def _positive_numbers(text: str | None, option: str) -> tuple[float, ...]:
    """Parse a comma-separated list of positive numbers.

    Raises
    ------
    typer.BadParameter
        The text is not such a list.
    """
    try:
        values = tuple(float(part) for part in text.split(",")) if text is not None else ()
    except ValueError:
        values = (0.0,)
    if not all(0 < value < float("inf") for value in values):
        raise typer.BadParameter(f"{option} {text!r} is not a list of positive numbers. Give numbers, such as 0.5,1.")
    return values
