"""Commands that score: evaluate (a panel, Monte Carlo panels or the test suite) and benchmark."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from underpaint.cli._console import PlainHelp, list_table, progress, say, show
from underpaint.cli._outputs import careful, new_folder
from underpaint.cli._scans import Overwrite, Quiet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from underpaint.lab.evaluation.suite import Inputs

BASELINES = ("always_yes", "xu2022", "element_thresholds", "likelihood_fit")
ScoresFile = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write the scores as JSON.", writable=True, dir_okay=False),
]
benchmark_commands = typer.Typer(cls=PlainHelp, no_args_is_help=True)


class SuiteName(StrEnum):
    """Name of a test suite."""

    trust = "trust"


def evaluate(
    panel: Annotated[str, typer.Option(metavar="table2|fig7|CONFIG", help="Virtual panel to analyse.")] = "table2",
    model: Annotated[str, typer.Option(metavar="NAME|FILE", help="default, xu2022, or an .onnx file.")] = "default",
    counts: Annotated[float, typer.Option(min=1, help="Counts per spectrum (panel).")] = 1e5,
    instrument: Annotated[str, typer.Option(metavar="PRESET|FILE", help="The scanner (panel).")] = "elio",
    monte_carlo: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR [DIR ...]",
            help="Instead of a panel: presence, place and amount on Monte Carlo panels (mc_panels.json and .npz).",
        ),
    ] = None,
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="[DIR ...]", help="Further folders of Monte Carlo panels.")
    ] = None,
    suite: Annotated[
        SuiteName | None, typer.Option(help="Instead of a panel: all tests of the reliability of answers.")
    ] = None,
    small: Annotated[
        bool, typer.Option("--quick", help="A short version of the suite, in minutes; its scores are unreliable.")
    ] = False,
    reference: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The suite's Monte Carlo panels (mc_panels.json and .npz).")
    ] = None,
    scan: Annotated[
        list[str] | None,
        typer.Option(metavar="SCAN", help="Measured scan for the suite; give the option twice for two detectors."),
    ] = None,
    instrument_model: Annotated[
        Path | None,
        typer.Option(
            "--own-model",
            metavar="FILE",
            help="A model by `train --instrument`: the suite records its training time and loss.",
        ),
    ] = None,
    json_file: ScoresFile = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Score a model on a virtual panel that was not used in training, and compare it with the always-yes baseline.

    `--suite trust` runs more tests, in one or two hours on two cores: held-out and unseen instruments, structures left
    out, Monte Carlo panels, layer order against its bound, calibration, the open set, a measured scan, speed, and the
    baselines. The same command resumes an interrupted run.

    For example:

        underpaint evaluate --panel table2 --json table2.json

        underpaint evaluate --monte-carlo reference reference/more --json presence.json

        underpaint evaluate --suite trust --quick --json trust.json
    """
    del overwrite  # already checked with the outputs
    from underpaint.lab.evaluation.suite import Inputs

    if more and monte_carlo is None:
        raise typer.BadParameter(
            f"{more[0]} cannot be used without --monte-carlo; give the first folder after this option"
        )
    if monte_carlo is not None:
        _evaluate_presence(json_file, model, [monte_carlo, *(more or ())], quiet=quiet)
        return
    if suite is not None:
        _evaluate_trust(
            json_file, Inputs(model, reference, tuple(scan or ()), instrument_model), small=small, quiet=quiet
        )
        return
    if small or reference is not None or scan or instrument_model is not None:
        raise typer.BadParameter("--quick, --reference, --scan and --own-model belong to --suite trust")
    _evaluate_panel(json_file, model, panel, counts, instrument, quiet=quiet)


def _evaluate_panel(
    json_file: Path | None, model: str, panel: str, counts: float, instrument: str, *, quiet: bool
) -> None:

    from underpaint.lab.evaluation import evaluate_panel
    from underpaint.runtime.files import write_json

    with progress(quiet=quiet) as step:
        step("Simulating the panel", 0, 1)
        scores = evaluate_panel(panel, model=model, counts=counts, instrument=instrument, progress=step)
    if json_file is not None:
        write_json(json_file, scores)
    if not quiet:
        show(_scores_table(scores))
        for key in ("group_macro_f1", "always_yes_macro_f1"):
            say(f"{key.replace('_', ' ')}: {scores[key]:.3f}")


def _evaluate_presence(json_file: Path | None, model: str, folders: list[Path], *, quiet: bool) -> None:
    from underpaint.lab.evaluation.presence import evaluate_monte_carlo
    from underpaint.runtime.files import write_json

    with progress(quiet=quiet) as step:
        record = evaluate_monte_carlo(folders, model, progress=step)
    if json_file is not None:
        write_json(json_file, record)
    if quiet:
        return
    headings = {
        "exact_sets": "exact sets",
        "macro_f1": "F1",
        "present_missed": "missed",
        "present_missed_over_10_sigma": "over 10 sigma",
        "false_claims": "false",
        "below_f1": "F1 below",
    }
    table = list_table("Monte Carlo panels", ("of", "counts", *headings.values()))
    for method, by_counts in record.items():
        for counts, scores in by_counts.items() if method != "about" else ():
            table.add_row(method.replace("_", " "), counts, *(_score_text(scores.get(key)) for key in headings))
    show(table)


def _evaluate_trust(json_file: Path | None, inputs: "Inputs", *, small: bool, quiet: bool) -> None:
    from underpaint.lab.evaluation.plan import TrustPlan, quick_plan
    from underpaint.lab.evaluation.suite import evaluate_trust

    if json_file is None:
        raise typer.BadParameter(
            "--suite trust needs --json FILE: the suite is long, and finished stages are stored next to this file"
        )
    if len(inputs.scans) > 2:
        raise typer.BadParameter(f"--scan was given {len(inputs.scans)} times; give the two detectors of one scan")
    plan = quick_plan() if small else TrustPlan()
    with progress(quiet=quiet) as step:
        record = evaluate_trust(json_file, inputs, plan, step)
    if quiet:
        return
    for table in (_f1_table(record), _group_table(record), _order_table(record), _scan_table(record)):
        if table.row_count:
            show(table)
    _print_remaining_scores(record)
    parts_folder = json_file.with_suffix(".parts")
    say(f"Wrote {json_file}. {parts_folder} holds the finished stages of the suite; it may be deleted.")


def _f1_table(record: dict[str, Any]) -> "Table":
    """Return a table of macro F1 of the groups by set and counts, with the baselines."""
    baselines = record["baselines"]
    title = "Group macro F1" + (" (quick: unreliable scores)" if record["about"]["quick"] else "")
    headings = ("set", "counts", "model", *(name.replace("_", " ") for name in BASELINES))
    table = list_table(title, headings)
    for name, counts, value in _f1_rows(record):
        baseline_set = "simulated" if name.startswith("  ") else name
        baseline_scores = (
            _baseline_score(baselines, baseline, baseline_set, counts) if name != "simulated" else None
            for baseline in BASELINES
        )
        table.add_row(name, counts, _score_text(value), *map(_score_text, baseline_scores))
    return table


def _f1_rows(record: dict[str, Any]) -> "list[tuple[str, str, Any]]":
    """Return set, counts and the model's macro F1; sets whose names begin with a space are the baselines' set."""
    model_scores, details = record["group_macro_f1"], record["details"]
    baseline_details = details["baselines"]
    scores_by_counts = baseline_details["by_contestant"]["model"]["by_counts"]
    unseen = [
        (kind, counts, value)
        for kind, scores in model_scores["unseen_instrument"].items()
        for counts, value in scores.items()
    ]
    return [
        *(("simulated", counts, value) for counts, value in model_scores["simulated"].items()),
        *(
            (f"  {baseline_details['n']} of them", counts, scores["macro_f1"])
            for counts, scores in scores_by_counts.items()
        ),
        *((f"unseen instrument, {kind}", counts, value) for kind, counts, value in unseen),
        *(("monte_carlo", counts, value) for counts, value in (model_scores["monte_carlo"] or {}).items()),
        ("structure_out", "1e5", model_scores["structure_out"]),
        ("structure_out_finetuned", "1e5", model_scores["structure_out_finetuned"]),
        ("fitted", "1e5", details["likelihood_fit"]["by_contestant"]["model"]["macro_f1"]),
    ]


def _baseline_score(baselines: dict[str, Any], baseline: str, key: str, counts: str) -> float | None:
    score = baselines[baseline]["group_macro_f1"].get(key)
    return score.get(counts) if isinstance(score, dict) else score


def _group_table(record: dict[str, Any]) -> "Table":
    """Return a table of scores, calibration and coverage of each group."""
    details = record["details"]
    counts, scores = list(details["simulated"]["by_counts"].items())[-2]
    columns = ("F1", "always yes", "prevalence", "n", "ECE", "coverage 90 %", "set size", "coverage 99 %", "set size")
    table = list_table(f"Held-out simulation, scores at {counts} counts, sets over all decades", ("group", *columns))
    for group, group_scores in scores["names"].items():
        cells = [
            group_scores["f1"],
            group_scores["always_yes_f1"],
            group_scores["prevalence"],
            group_scores["n_positive"],
            record["ece"].get(group),
        ]
        for level in record["coverage"].values():
            cells += [_mean(row[key] for row in level[group].values()) for key in ("coverage", "set_size")]
        table.add_row(group, *map(_score_text, cells))
    return table


def _order_table(record: dict[str, Any]) -> "Table":
    """Return a table of the accuracy of layer order, with its upper bound."""
    columns = ("resolvable", "bound", "right", "abstained", "abstained on the rest", "wrong on the rest")
    table = list_table("Layer order, pairs of pigments", ("counts", "answer of", *columns))
    for counts, order_scores in record["details"]["order"]["by_counts"].items():
        bound = order_scores["bound"]
        for method, method_label in (("network", "network"), ("refined", "network and fit")):
            method_scores = (
                order_scores[method].get(key) for key in ("accuracy", "abstained", "abstained_on_rest", "wrong_on_rest")
            )
            table.add_row(
                counts, method_label, *map(_score_text, (bound["resolvable_share"], bound["accuracy"], *method_scores))
            )
    return table


def _scan_table(record: dict[str, Any]) -> "Table":
    """Return a table of the scores on the measured scan."""
    table = list_table("Measured scan, the worse of its detectors", ("figure", "group", "model", "line area", "xu2022"))
    underpaint_scores, xu2022_scores = record["details"]["aurora"], record["details"]["aurora_xu2022"]
    for key in ("auroc", "spearman", "kappa", "kappa_where_both_are_sure"):
        for group, value in (underpaint_scores.get(key) or {}).items():
            other_scores = (
                (scores.get(score_key) or {}).get(group)
                for scores, score_key in ((underpaint_scores, f"baseline_{key}"), (xu2022_scores, key))
            )
            table.add_row(key.replace("_", " "), group, *map(_score_text, (value, *other_scores)))
    return table


def _print_remaining_scores(record: dict[str, Any]) -> None:
    lowest = sorted(record["openset_auroc"].items(), key=lambda pair: pair[1])[:3]
    say("Open set, lowest AUROC: " + ", ".join(f"{element} {value:.3f}" for element, value in lowest))
    say(f"{record['per_s']:,.0f} spectra per second")
    finetuned = record["details"]["structure_out_finetuned"]
    if "left_out" in finetuned:
        say(f"Not fine-tuned: {finetuned['left_out']}")
    if record["about"]["left_out"]:
        say(f"Left out: {', '.join(record['about']['left_out'])}")


def _scores_table(panel_scores: dict[str, Any]) -> "Table":
    score_names = ("f1", "always_yes_f1", "sensitivity", "precision", "n_positive", "n_negative", "n_invisible")
    title = f"{panel_scores.get('panel', 'panel')}, {panel_scores.get('n_spectra', '?')} spectra"
    table = list_table(title, ("name", *(key.replace("_", " ") for key in score_names)))
    for name, scores in {**panel_scores["groups"], **panel_scores.get("members", {})}.items():
        table.add_row(name, *(_score_text(scores.get(key)) for key in score_names))
    return table


def _score_text(value: Any) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _mean(values: "Iterable[float | None]") -> float | None:
    defined_values = [value for value in values if value is not None]
    return sum(defined_values) / len(defined_values) if defined_values else None


@benchmark_commands.callback()
def start() -> None:
    """Make virtual panels with known layers, and score the answers of any method.

    For example:

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

    For example:

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
    json_file: ScoresFile = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Score answers for the benchmark's panels.

    Without a sheet, the built-in methods analyse the scans and are scored: the default network, the network of Xu et
    al. 2022, element maps, and PyMca if installed.

    For example:

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
            from underpaint.lab.evaluation.benchmark import score_methods

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
            anywhere_cells = [_benchmark_score_text(places["anywhere"], key) for key in ("missed", "false_claims")]
            table.add_row(
                name,
                panel,
                *(_benchmark_score_text(place_scores, "macro_f1") for place_scores in places.values()),
                *anywhere_cells,
            )
    show(table)
    say("-: no answer. Missed: fraction of the visible labels; false claims: fraction of the absent labels, anywhere.")


def _benchmark_score_text(scores: dict[str, Any] | None, key: str) -> str:
    return "-" if scores is None else f"{scores[key]:.3f}"
