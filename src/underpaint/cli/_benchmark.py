"""Commands of the public benchmark: make it, and score answers."""

from pathlib import Path
from typing import Annotated, Any

import typer

from underpaint.cli._console import list_table, progress, say, show
from underpaint.cli._outputs import careful, new_folder
from underpaint.cli._scans import Overwrite, Quiet

benchmark_commands = typer.Typer(no_args_is_help=True)


@benchmark_commands.callback()
def start() -> None:
    """Make virtual panels with known layers, and score the answers of any method.

    **Example**

        underpaint benchmark make --quick --out benchmark

        underpaint benchmark score benchmark sheet.csv
    """


@benchmark_commands.command()
@careful
def make(
    out: Annotated[Path, new_folder("DIR", "Folder to make; missing or empty.")],
    small: Annotated[bool, typer.Option("--quick", help="Small panels, to try it in a minute.")] = False,
    quiet: Quiet = False,
) -> None:
    """Simulate the panels, and write them with their truth and an empty sheet for answers; all is CC0.

    **Example**

        underpaint benchmark make --quick --out benchmark
    """
    from underpaint.lab.evaluation.benchmark import make_benchmark

    with progress(quiet=quiet) as step:
        make_benchmark(out, quick=small, progress=step)
    say(f"Wrote {out}: scans, their truth, and sheet.csv to fill in; README.md says how.", quiet=quiet)
    say(f"Next: underpaint benchmark score {out} sheet.csv, or without a sheet to score what ships.", quiet=quiet)


@benchmark_commands.command()
@careful
def score(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="As `benchmark make` wrote it.")],
    sheets: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[SHEET ...]", help="Answers, CSV or JSON; none: the methods that ship are scored."),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the figures as JSON.", writable=True, dir_okay=False),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Score answers about the benchmark's panels.

    Without a sheet the methods that ship answer the scans and are scored: the default network, that of Xu et al. 2022,
    element maps, and PyMca where it is installed.

    **Examples**

        underpaint benchmark score benchmark

        underpaint benchmark score benchmark sheet.csv --json scores.json
    """
    del overwrite  # looked at with the outputs
    from underpaint.lab.evaluation.benchmark import read_description, read_sheet, read_truths, score_answers
    from underpaint.runtime.files import write_json

    description = read_description(folder)
    scores: dict[str, Any]
    with progress(quiet=quiet) as step:
        if sheets:
            truths = read_truths(folder)
            scores = {str(path): score_answers(read_sheet(path, truths), truths) for path in sheets}
        else:
            from underpaint.lab.evaluation.benchmark_methods import score_methods

            scores = score_methods(folder, step)
    about = {key: description[key] for key in ("format", "made_by", "quick")}
    if json_file is not None:
        write_json(json_file, {"benchmark": about | {"panels": list(description["panels"])}, "methods": scores})
    if quiet:
        return
    title = f"{description['format']}{', quick' if description['quick'] else ''}"
    heads = ("answers of", "panel", *(f"F1 {place}" for place in description["places"]), "missed", "false claims")
    table = list_table(title, heads)
    for name, panels in scores.items():
        if panels is None:
            table.add_row(name, "PyMca is not installed")
        for panel, places in (panels or {}).items():
            anywhere = [_shown(places["anywhere"], key) for key in ("missed", "false_claims")]
            table.add_row(name, panel, *(_shown(scored, "macro_f1") for scored in places.values()), *anywhere)
    show(table)
    say("-: not answered. Missed: share of the visible labels; false claims: share of the absent ones, anywhere.")


def _shown(scores: dict[str, Any] | None, key: str) -> str:
    return "-" if scores is None else f"{scores[key]:.3f}"
