"""The command that measures a model: a virtual panel, or the whole suite."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from underpaint.cli._console import chunk_progress, progress, say, show
from underpaint.cli._scans import Overwrite, Quiet

if TYPE_CHECKING:
    from rich.table import Table


def evaluate(
    panel: Annotated[str, typer.Option(metavar="table2|fig7|CONFIG", help="Virtual panel to answer.")] = "table2",
    model: Annotated[str, typer.Option(metavar="NAME|FILE", help="default, xu2022, or an .onnx file.")] = "default",
    counts: Annotated[float, typer.Option(min=1, help="Counts a spectrum.")] = 1e5,
    instrument: Annotated[str, typer.Option(metavar="PRESET|FILE", help="The scanner.")] = "elio",
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures as JSON.")] = None,
    overwrite: Overwrite = True,
    quiet: Quiet = False,
) -> None:
    """Measure a model on a virtual panel that no training has seen, beside the always-yes baseline.

    **Example**

        underpaint evaluate --panel table2 --json table2.json
    """
    import json

    from underpaint.api import check_new_file
    from underpaint.evaluate import evaluate_panel

    if json_file is not None:
        check_new_file(json_file, overwrite=overwrite)
    with progress(quiet=quiet) as step:
        step("Simulating the panel", 0, 1)
        own = chunk_progress(step, "Simulating the panel")
        figures = evaluate_panel(panel, model=model, counts=counts, instrument=instrument, progress=own)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2, default=str) + "\n", encoding="utf-8")
    if not quiet:
        show(_scores_table(figures))
        for key in ("group_macro_f1", "always_yes_macro_f1"):
            say(f"{key.replace('_', ' ')}: {figures[key]:.3f}")


def _scores_table(figures: dict[str, Any]) -> "Table":
    from rich.table import Table

    keys = ("f1", "always_yes_f1", "sensitivity", "precision", "n_positive", "n_negative", "n_invisible")
    table = Table(
        title=f"{figures.get('panel', 'panel')}, {figures.get('n_spectra', '?')} spectra", title_justify="left"
    )
    table.add_column("name")
    for key in keys:
        table.add_column(key.replace("_", " "), justify="right")
    for name, own in {**figures["groups"], **figures.get("members", {})}.items():
        table.add_row(name, *(_number(own.get(key)) for key in keys))
    return table


def _number(value: Any) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.3f}"
