"""``plan``: how long a scan must last to answer a question about layers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from underpaint.cli._console import list_table, progress, say, show, show_json
from underpaint.cli._outputs import new_file
from underpaint.cli._scans import Json, Overwrite, Quiet

if TYPE_CHECKING:
    from underpaint.pipeline.scan_plan import ScanPlan


def plan(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of results of a quick scan.")],
    question: Annotated[
        str, typer.Option(metavar='"LOWER under UPPER"', help="Two groups, such as: lead_pigment under mercury_red.")
    ],
    paint: Annotated[
        int | None, typer.Option(min=1, help="The paint to plan for; else the largest one with the upper group.")
    ] = None,
    voltages: Annotated[
        str | None, typer.Option(metavar="KV,...", help="Of the tube; else the scan's, and 10 kV more.")
    ] = None,
    steps: Annotated[
        str | None, typer.Option(metavar="MM,...", help="Steps; else half the scan's, and the scan's.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(metavar="S", help="Time of a pixel of the quick scan, if its file does not say.")
    ] = None,
    scan: Annotated[
        str | None, typer.Option(metavar="SCAN", help="The scan, if it was moved since it was analysed.")
    ] = None,
    instrument: Annotated[
        str | None, typer.Option(metavar="PRESET|FILE", help="The scanner; what is not known of it is as of elio.")
    ] = None,
    ground: Annotated[str, typer.Option(help="The ground under the paint.")] = "chalk",
    out_figure: Annotated[
        Path | None, new_file("FILE.png", "Draw the share of scans that give the answer, by time.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Plan a scan: the time per pixel, step and voltage at which it tells that one group lies under another.

    A quick scan gives the paint. Scans of it are simulated, with the lower group under the upper one, and judged as by
    `underpaint explain`: at which time do half of the pixels, or nine in ten, give that order with 95 %? Where no time
    suffices, the methods are named that would settle it; `underpaint paints --known` takes in what they give.

    For example:

        underpaint plan painting_underpaint --question "lead_pigment under mercury_red"

        underpaint plan painting_underpaint --question "lead_white under azurite" --paint 3 --voltages 30,50

        underpaint plan painting_underpaint --question "lead_pigment under mercury_red" --out-figure plan.png --json
    """
    del overwrite  # looked at with the outputs
    from underpaint.pipeline.scan_plan import plan_scan

    kilovolts, millimetres = _positive(voltages, "--voltages"), _positive(steps, "--steps")
    if seconds is not None and not 0 < seconds < float("inf"):
        raise typer.BadParameter(f"--seconds {seconds:g} is no time of a pixel. Give seconds, above 0.")
    with progress(quiet=quiet or as_json) as step:
        result = plan_scan(
            folder,
            question,
            scan=scan,
            paint=paint,
            voltages_kv=kilovolts,
            steps_mm=millimetres,
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
    heads = ("kV", "counts", "times longer", "s per pixel, half", "s, 9 in 10", "or sum pixels")
    table = list_table("plan", (*heads, *(f"hours at {step:g} mm" for step in plan.steps_mm)))
    for row in plan.rows():
        cells = [row[name] for name in ("counts_needed", "times_longer", "seconds_per_pixel")]
        cells += [row["seconds_per_pixel_9_in_10"], row["pixels_to_sum"], *row["hours_by_step_mm"].values()]
        table.add_row(f"{row['voltage_kv']:g}", *("-" if cell is None else _three_digits(cell) for cell in cells))
    show(table)
    for sentence in plan.words():
        say(f"- {sentence}")


def _three_digits(value: float) -> str:
    return f"{float(f'{value:.3g}'):,g}"


def _draw(plan: "ScanPlan", question: str, path: Path) -> None:
    from underpaint.display.plot import save_png
    from underpaint.display.plot.limits import plan_figure

    timed = plan.seconds_now is not None
    curves = [
        (f"{each.voltage_kv:g} kV", plan.curve_seconds(each) if timed else each.planned.counts, each.planned.share)
        for each in plan.voltages
    ]
    x_label = "time of a pixel, s" if timed else "counts of a pixel"
    save_png(plan_figure(curves, x_label=x_label, title=f"{question}, paint {plan.paint}"), path)


def _positive(text: str | None, option: str) -> tuple[float, ...]:
    """Read a list of positive numbers.

    Raises
    ------
    typer.BadParameter
        It is none.
    """
    try:
        values = tuple(float(part) for part in text.split(",")) if text is not None else ()
    except ValueError:
        values = (0.0,)
    if not all(0 < value < float("inf") for value in values):
        raise typer.BadParameter(f"{option} {text!r} is no list of positive numbers. Give some, such as 0.5,1.")
    return values
