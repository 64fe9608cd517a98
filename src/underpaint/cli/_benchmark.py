"""Commands of the public benchmark: make the panels, and score answers."""

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

    **Examples**

        underpaint benchmark make --quick --out benchmark

        underpaint benchmark score benchmark benchmark/sheet.csv
    """


@benchmark_commands.command()
@careful
def make(
    out: Annotated[Path, new_folder("DIR", "Folder to create; must be missing or empty.")],
    small: Annotated[bool, typer.Option("--quick", help="Small panels, for a trial in a minute.")] = False,
    quiet: Quiet = False,
) -> None:
    """Simulate the panels; write them with the ground truth and an empty sheet for answers, under CC0.

    **Example**

        underpaint benchmark make --quick --out benchmark
    """
    from underpaint.lab.evaluation.benchmark import make_benchmark

    with progress(quiet=quiet) as step:
        make_benchmark(out, quick=small, progress=step)
    say(f"Wrote {out}: scans, ground truth, and sheet.csv to fill in; README.md explains how.", quiet=quiet)
    say(f"Next: underpaint benchmark score {out} {out / 'sheet.csv'}", quiet=quiet)
    say("Without a sheet, the built-in methods are scored.", quiet=quiet)


@benchmark_commands.command()
@careful
def score(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder written by `benchmark make`.")],
    sheets: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[SHEET ...]", help="Answers, CSV or JSON; without any, the built-in methods are scored."
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the scores as JSON.", writable=True, dir_okay=False),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Score answers for the benchmark's panels.

    Without a sheet, the built-in methods analyse the scans and are scored: the default network, the network of Xu et
    al. 2022, element maps, and PyMca if installed.

    **Examples**

        underpaint benchmark score benchmark

        underpaint benchmark score benchmark benchmark/sheet.csv --json scores.json
    """
    del overwrite  # already checked with the outputs
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
    description_facts = {key: description[key] for key in ("format", "made_by", "quick")}
    if json_file is not None:
        write_json(
            json_file, {"benchmark": description_facts | {"panels": list(description["panels"])}, "methods": scores}
        )
    if quiet:
        return
    title = f"{description['format']}{', quick' if description['quick'] else ''}"
    columns = ("answers of", "panel", *(f"F1 {place}" for place in description["places"]), "missed", "false claims")
    table = list_table(title, columns)
    for name, panels in scores.items():
        if panels is None:
            table.add_row(name, "PyMca is not installed")
        for panel, places in (panels or {}).items():
            anywhere_cells = [_score_text(places["anywhere"], key) for key in ("missed", "false_claims")]
            table.add_row(
                name,
                panel,
                *(_score_text(place_scores, "macro_f1") for place_scores in places.values()),
                *anywhere_cells,
            )
    show(table)
    say("-: no answer. Missed: fraction of the visible labels; false claims: fraction of the absent labels, anywhere.")


def _score_text(scores: dict[str, Any] | None, key: str) -> str:
    return "-" if scores is None else f"{scores[key]:.3f}"
