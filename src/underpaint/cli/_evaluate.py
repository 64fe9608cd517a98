"""Commands ``evaluate`` and ``benchmark``: scores of models and of answers."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from underpaint.cli._console import PlainHelp, list_table, progress, say, show
from underpaint.cli._outputs import new_folder, with_output_check
from underpaint.cli._scans import OverwriteOption, QuietOption

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from underpaint.lab.evaluation.suite import Inputs

BASELINES = ("always_yes", "xu2022", "element_thresholds", "likelihood_fit")
ScoresFileOption = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE.json", help="Write the scores to a JSON file.", writable=True, dir_okay=False),
]
benchmark_commands = typer.Typer(cls=PlainHelp, no_args_is_help=True)


class SuiteName(StrEnum):
    """Name of a suite of tests."""

    trust = "trust"


def evaluate(
    panel: Annotated[str, typer.Option(metavar="table2|fig7|CONFIG", help="Virtual panel to analyse.")] = "table2",
    model: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="Network to score: default, xu2022, or an .onnx file.")
    ] = "default",
    counts: Annotated[float, typer.Option(min=1, help="Counts per spectrum of the panel.")] = 1e5,
    instrument: Annotated[str, typer.Option(metavar="PRESET|FILE", help="Scanner of the panel.")] = "elio",
    monte_carlo: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR [DIR ...]",
            help="Score presence, place and amount on Monte Carlo panels (folder with mc_panels.json and .npz).",
        ),
    ] = None,
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="[DIR ...]", help="Further folders with Monte Carlo panels.")
    ] = None,
    suite: Annotated[
        SuiteName | None, typer.Option(help="Run all tests of how reliable the answers are, instead of a panel.")
    ] = None,
    small: Annotated[
        bool,
        typer.Option(
            "--quick", help="Run a short version of the suite, which takes minutes. Its scores are unreliable."
        ),
    ] = False,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder with the suite's Monte Carlo panels (mc_panels.json and .npz)."),
    ] = None,
    scan: Annotated[
        list[str] | None,
        typer.Option(metavar="SCAN", help="Measured scan for the suite. Give the option twice for two detectors."),
    ] = None,
    instrument_model: Annotated[
        Path | None,
        typer.Option(
            "--own-model",
            metavar="FILE",
            help="Model made by `train --instrument`. The suite records the training time and the loss of this model.",
        ),
    ] = None,
    json_file: ScoresFileOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score a model on a virtual panel that was not used in training. The baseline always answers yes.

    `--suite trust` runs many more tests, which take one or two hours on two cores. The tests cover held-out and unseen
    instruments, left-out structures, Monte Carlo panels, layer order and calibration. The tests also cover the open
    set, a measured scan, speed and baselines. The same command resumes an interrupted run.

    For example:

        underpaint evaluate --panel table2 --json table2.json

        underpaint evaluate --monte-carlo reference reference/more --json presence.json

        underpaint evaluate --suite trust --quick --json trust.json
    """
    del overwrite  # checked by ``with_output_check``
    from underpaint.lab.evaluation.suite import Inputs

    if more and monte_carlo is None:
        raise typer.BadParameter(
            f"{more[0]} cannot be used without --monte-carlo. Give the first folder after this option."
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

    with progress(quiet=quiet) as report_progress:
        report_progress("Simulating the panel", 0, 1)
        panel_scores = evaluate_panel(
            panel, model=model, counts=counts, instrument=instrument, progress=report_progress
        )
    if json_file is not None:
        write_json(json_file, panel_scores)
    if not quiet:
        show(_scores_table(panel_scores))
        for score_name in ("group_macro_f1", "always_yes_macro_f1"):
            say(f"{score_name.replace('_', ' ')}: {panel_scores[score_name]:.3f}")


def _evaluate_presence(json_file: Path | None, model: str, folders: list[Path], *, quiet: bool) -> None:
    from underpaint.lab.evaluation.presence import evaluate_monte_carlo
    from underpaint.runtime.files import write_json

    with progress(quiet=quiet) as report_progress:
        presence_record = evaluate_monte_carlo(folders, model, progress=report_progress)
    if json_file is not None:
        write_json(json_file, presence_record)
    if quiet:
        return
    heading_by_score = {
        "exact_sets": "exact sets",
        "macro_f1": "F1",
        "present_missed": "missed",
        "present_missed_over_10_sigma": "over 10 sigma",
        "false_claims": "false",
        "below_f1": "F1 below",
    }
    score_table = list_table("Monte Carlo panels", ("of", "counts", *heading_by_score.values()))
    for method, scores_by_counts in presence_record.items():
        for counts, scores in scores_by_counts.items() if method != "about" else ():
            score_table.add_row(
                method.replace("_", " "),
                counts,
                *(_score_text(scores.get(score_name)) for score_name in heading_by_score),
            )
    show(score_table)


def _evaluate_trust(json_file: Path | None, suite_inputs: "Inputs", *, small: bool, quiet: bool) -> None:
    from underpaint.lab.evaluation.plan import TrustPlan, quick_plan
    from underpaint.lab.evaluation.suite import evaluate_trust

    if json_file is None:
        raise typer.BadParameter(
            "--suite trust needs --json FILE, because finished stages of the long suite are stored next to this file."
        )
    if len(suite_inputs.scans) > 2:
        raise typer.BadParameter(
            f"--scan was given {len(suite_inputs.scans)} times. Give it at most twice, for the two detectors of one "
            f"scan."
        )
    trust_plan = quick_plan() if small else TrustPlan()
    with progress(quiet=quiet) as report_progress:
        suite_record = evaluate_trust(json_file, suite_inputs, trust_plan, report_progress)
    if quiet:
        return
    for score_table in (
        _f1_table(suite_record),
        _group_table(suite_record),
        _order_table(suite_record),
        _scan_table(suite_record),
    ):
        if score_table.row_count:
            show(score_table)
    _print_remaining_scores(suite_record)
    stages_folder = json_file.with_suffix(".parts")
    say(f"Wrote {json_file}. The folder {stages_folder} of finished stages may be deleted.")


def _f1_table(suite_record: dict[str, Any]) -> "Table":
    """Return a table of the groups' macro F1 for each test set and total counts, for the model and the baselines."""
    baselines = suite_record["baselines"]
    title = "Group macro F1" + (" (quick: unreliable scores)" if suite_record["about"]["quick"] else "")
    headings = ("set", "counts", "model", *(set_name.replace("_", " ") for set_name in BASELINES))
    score_table = list_table(title, headings)
    for set_name, counts, f1 in _f1_rows(suite_record):
        baseline_set = "simulated" if set_name.startswith("  ") else set_name
        baseline_scores = (
            _baseline_score(baselines, baseline, baseline_set, counts) if set_name != "simulated" else None
            for baseline in BASELINES
        )
        score_table.add_row(set_name, counts, _score_text(f1), *map(_score_text, baseline_scores))
    return score_table


def _f1_rows(suite_record: dict[str, Any]) -> "list[tuple[str, str, Any]]":
    """Return rows of the F1 table: test set, total counts, and the model's macro F1.

    A name with leading spaces stands for the part of the test set on which the baselines were scored.
    """
    model_scores, score_details = suite_record["group_macro_f1"], suite_record["details"]
    baseline_details = score_details["baselines"]
    scores_by_counts = baseline_details["by_contestant"]["model"]["by_counts"]
    unseen_instrument_scores = [
        (instrument_kind, counts, f1)
        for instrument_kind, scores in model_scores["unseen_instrument"].items()
        for counts, f1 in scores.items()
    ]
    return [
        *(("simulated", counts, f1) for counts, f1 in model_scores["simulated"].items()),
        *(
            (f"  {baseline_details['n']} of them", counts, scores["macro_f1"])
            for counts, scores in scores_by_counts.items()
        ),
        *(
            (f"unseen instrument, {instrument_kind}", counts, f1)
            for instrument_kind, counts, f1 in unseen_instrument_scores
        ),
        *(("monte_carlo", counts, f1) for counts, f1 in (model_scores["monte_carlo"] or {}).items()),
        ("structure_out", "1e5", model_scores["structure_out"]),
        ("structure_out_finetuned", "1e5", model_scores["structure_out_finetuned"]),
        ("fitted", "1e5", score_details["likelihood_fit"]["by_contestant"]["model"]["macro_f1"]),
    ]


def _baseline_score(baselines: dict[str, Any], baseline: str, set_name: str, counts: str) -> float | None:
    score = baselines[baseline]["group_macro_f1"].get(set_name)
    return score.get(counts) if isinstance(score, dict) else score


def _group_table(suite_record: dict[str, Any]) -> "Table":
    """Return a table with the scores, the calibration error and the coverage of each group."""
    score_details = suite_record["details"]
    counts, scores = list(score_details["simulated"]["by_counts"].items())[-2]
    headings = ("F1", "always yes", "prevalence", "n", "ECE", "coverage 90 %", "set size", "coverage 99 %", "set size")
    score_table = list_table(
        f"Held-out simulation, scores at {counts} counts, coverage over all counts", ("group", *headings)
    )
    for group, group_scores in scores["names"].items():
        score_cells = [
            group_scores["f1"],
            group_scores["always_yes_f1"],
            group_scores["prevalence"],
            group_scores["n_positive"],
            suite_record["ece"].get(group),
        ]
        for coverage_by_group in suite_record["coverage"].values():
            score_cells += [
                _mean_of_defined(coverage_scores[score_name] for coverage_scores in coverage_by_group[group].values())
                for score_name in ("coverage", "set_size")
            ]
        score_table.add_row(group, *map(_score_text, score_cells))
    return score_table


def _order_table(suite_record: dict[str, Any]) -> "Table":
    """Return a table with the accuracy of the layer order, and its upper bound."""
    headings = ("resolvable", "bound", "right", "abstained", "abstained on the rest", "wrong on the rest")
    score_table = list_table("Layer order of pairs of pigments", ("counts", "answer of", *headings))
    for counts, order_scores in suite_record["details"]["order"]["by_counts"].items():
        order_bound = order_scores["bound"]
        for method, method_label in (("network", "network"), ("refined", "network and fit")):
            method_scores = (
                order_scores[method].get(score_name)
                for score_name in ("accuracy", "abstained", "abstained_on_rest", "wrong_on_rest")
            )
            score_table.add_row(
                counts,
                method_label,
                *map(_score_text, (order_bound["resolvable_share"], order_bound["accuracy"], *method_scores)),
            )
    return score_table


def _scan_table(suite_record: dict[str, Any]) -> "Table":
    """Return a table with the scores for the measured scan."""
    score_table = list_table(
        "Measured scan, scores of the worse detector", ("figure", "group", "model", "line area", "xu2022")
    )
    underpaint_scores, xu2022_scores = suite_record["details"]["aurora"], suite_record["details"]["aurora_xu2022"]
    for score_name in ("auroc", "spearman", "kappa", "kappa_where_both_are_sure"):
        for group, underpaint_score in (underpaint_scores.get(score_name) or {}).items():
            baseline_cells = (
                (scores.get(other_score_name) or {}).get(group)
                for scores, other_score_name in (
                    (underpaint_scores, f"baseline_{score_name}"),
                    (xu2022_scores, score_name),
                )
            )
            score_table.add_row(
                score_name.replace("_", " "), group, *map(_score_text, (underpaint_score, *baseline_cells))
            )
    return score_table


def _print_remaining_scores(suite_record: dict[str, Any]) -> None:
    lowest_scores = sorted(suite_record["openset_auroc"].items(), key=lambda element_score: element_score[1])[:3]
    say("Open set, lowest AUROC: " + ", ".join(f"{element} {auroc:.3f}" for element, auroc in lowest_scores))
    say(f"{suite_record['per_s']:,.0f} spectra per second")
    finetuned_scores = suite_record["details"]["structure_out_finetuned"]
    if "left_out" in finetuned_scores:
        say(f"Not fine-tuned: {finetuned_scores['left_out']}")
    if suite_record["about"]["left_out"]:
        say(f"Left out: {', '.join(suite_record['about']['left_out'])}")


def _scores_table(panel_scores: dict[str, Any]) -> "Table":
    score_names = ("f1", "always_yes_f1", "sensitivity", "precision", "n_positive", "n_negative", "n_invisible")
    title = f"{panel_scores.get('panel', 'panel')}, {panel_scores.get('n_spectra', '?')} spectra"
    score_table = list_table(title, ("name", *(score_name.replace("_", " ") for score_name in score_names)))
    for label_name, scores in {**panel_scores["groups"], **panel_scores.get("members", {})}.items():
        score_table.add_row(label_name, *(_score_text(scores.get(score_name)) for score_name in score_names))
    return score_table


def _score_text(score_value: Any) -> str:
    if score_value is None:
        return ""
    return str(score_value) if isinstance(score_value, int) else f"{score_value:.3f}"


def _mean_of_defined(scores: "Iterable[float | None]") -> float | None:
    defined_scores = [label_score for label_score in scores if label_score is not None]
    return sum(defined_scores) / len(defined_scores) if defined_scores else None


@benchmark_commands.callback()
def start_benchmark() -> None:
    """Simulate virtual panels with known layers, and score the answers of any method for these panels.

    For example:

        underpaint benchmark make --quick --out benchmark

        underpaint benchmark score benchmark benchmark/sheet.csv
    """


@benchmark_commands.command()
@with_output_check
def make(
    out: Annotated[Path, new_folder("DIR", "Folder to create, or an empty folder.")],
    small: Annotated[
        bool, typer.Option("--quick", help="Simulate small panels, for a trial that takes a minute.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Simulate the panels. Write scans, ground truth and an empty answer sheet. The licence is CC0.

    For example:

        underpaint benchmark make --quick --out benchmark
    """
    from underpaint.lab.evaluation.benchmark import make_benchmark

    with progress(quiet=quiet) as report_progress:
        make_benchmark(out, quick=small, progress=report_progress)
    say(f"Wrote {out}: scans, ground truth, and sheet.csv to fill in as README.md explains.", quiet=quiet)
    say(f"Next: underpaint benchmark score {out} {out / 'sheet.csv'}", quiet=quiet)
    say("Without a sheet, the built-in methods are scored.", quiet=quiet)


@benchmark_commands.command()
@with_output_check
def score(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `benchmark make` wrote.")],
    sheets: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[SHEET ...]", help="CSV or JSON files with answers. By default, the built-in methods are scored."
        ),
    ] = None,
    json_file: ScoresFileOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score answers for the panels of a benchmark.

    If no sheet is given, the built-in methods analyse the scans and are scored. The built-in methods are the default
    network, element maps, PyMca (if it is installed), and the network of Xu et al. 2022.

    For example:

        underpaint benchmark score benchmark

        underpaint benchmark score benchmark benchmark/sheet.csv --json scores.json
    """
    del overwrite  # checked by ``with_output_check``
    from underpaint.lab.evaluation.benchmark import read_description, read_sheet, read_truths, score_answers
    from underpaint.runtime.files import write_json

    benchmark_description = read_description(folder)
    scores: dict[str, Any]
    with progress(quiet=quiet) as report_progress:
        if sheets:
            ground_truths = read_truths(folder)
            scores = {
                str(sheet_path): score_answers(read_sheet(sheet_path, ground_truths), ground_truths)
                for sheet_path in sheets
            }
        else:
            from underpaint.lab.evaluation.benchmark import score_methods

            scores = score_methods(folder, report_progress)
    benchmark_header = {field_name: benchmark_description[field_name] for field_name in ("format", "made_by", "quick")}
    if json_file is not None:
        write_json(
            json_file,
            {"benchmark": benchmark_header | {"panels": list(benchmark_description["panels"])}, "methods": scores},
        )
    if quiet:
        return
    title = f"{benchmark_description['format']}{', quick' if benchmark_description['quick'] else ''}"
    headings = (
        "answers of",
        "panel",
        *(f"F1 {place}" for place in benchmark_description["places"]),
        "missed",
        "false claims",
    )
    score_table = list_table(title, headings)
    for method_name, panels_by_name in scores.items():
        if panels_by_name is None:
            score_table.add_row(method_name, "PyMca is not installed")
        for panel, scores_by_place in (panels_by_name or {}).items():
            anywhere_cells = [
                _benchmark_score_text(scores_by_place["anywhere"], field_name)
                for field_name in ("missed", "false_claims")
            ]
            score_table.add_row(
                method_name,
                panel,
                *(_benchmark_score_text(place_scores, "macro_f1") for place_scores in scores_by_place.values()),
                *anywhere_cells,
            )
    show(score_table)
    say(
        "-: no answer. Missed is the fraction of visible labels, and false claims the fraction of absent labels, at "
        "any place."
    )


def _benchmark_score_text(scores: dict[str, Any] | None, score_name: str) -> str:
    return "-" if scores is None else f"{scores[score_name]:.3f}"
