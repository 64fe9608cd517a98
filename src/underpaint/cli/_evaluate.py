"""The command that measures a model: a virtual panel, or the whole suite."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from underpaint.cli._console import list_table, progress, say, show
from underpaint.cli._scans import Overwrite, Quiet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from underpaint.lab.evaluation.suite import Inputs

BASELINES = ("always_yes", "xu2022", "element_thresholds", "likelihood_fit")


class SuiteName(StrEnum):
    """What is measured together."""

    trust = "trust"


def evaluate(
    panel: Annotated[str, typer.Option(metavar="table2|fig7|CONFIG", help="Virtual panel to answer.")] = "table2",
    model: Annotated[str, typer.Option(metavar="NAME|FILE", help="default, xu2022, or an .onnx file.")] = "default",
    counts: Annotated[float, typer.Option(min=1, help="Counts a spectrum (panel).")] = 1e5,
    instrument: Annotated[str, typer.Option(metavar="PRESET|FILE", help="The scanner (panel).")] = "elio",
    monte_carlo: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR [DIR ...]",
            help="In place of a panel: presence, place and amount on Monte Carlo panels (mc_panels.json and .npz).",
        ),
    ] = None,
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="[DIR ...]", help="Further folders of Monte Carlo panels.")
    ] = None,
    suite: Annotated[
        SuiteName | None, typer.Option(help="In place of a panel: everything that says how far answers can be trusted.")
    ] = None,
    small: Annotated[bool, typer.Option("--quick", help="The suite in minutes; its figures mean little.")] = False,
    reference: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The suite's Monte Carlo panels (mc_panels.json and .npz).")
    ] = None,
    scan: Annotated[
        list[str] | None,
        typer.Option(metavar="SCAN", help="The suite's measured scan; given twice, once for each of two detectors."),
    ] = None,
    own_model: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A model by `train --instrument`: the suite notes its minutes and loss."),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the figures as JSON.", writable=True, dir_okay=False),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model on a virtual panel that no training has seen, beside the always-yes baseline.

    `--suite trust` measures more, in one or two hours on two cores: held-out and unseen instruments, structures left
    out, Monte Carlo panels, layer order against its bound, calibration, the open set, a measured scan, speed, and the
    baselines. The same call goes on where it stopped.

    **Examples**

        underpaint evaluate --panel table2 --json table2.json

        underpaint evaluate --monte-carlo reference reference/more --json presence.json

        underpaint evaluate --suite trust --quick --json trust.json
    """
    del overwrite  # looked at with the outputs
    from underpaint.lab.evaluation.suite import Inputs

    if more and monte_carlo is None:
        raise typer.BadParameter(
            f"{more[0]} cannot be used: folders belong to --monte-carlo; give the first one after it"
        )
    if monte_carlo is not None:
        _presence(json_file, model, [monte_carlo, *(more or ())], quiet=quiet)
        return
    if suite is not None:
        _trust(json_file, Inputs(model, reference, tuple(scan or ()), own_model), small=small, quiet=quiet)
        return
    if small or reference is not None or scan or own_model is not None:
        raise typer.BadParameter("--quick, --reference, --scan and --own-model belong to --suite trust")
    _panel(json_file, model, panel, counts, instrument, quiet=quiet)


def _panel(json_file: Path | None, model: str, panel: str, counts: float, instrument: str, *, quiet: bool) -> None:

    from underpaint.lab.evaluation import evaluate_panel
    from underpaint.runtime.files import write_json

    with progress(quiet=quiet) as step:
        step("Simulating the panel", 0, 1)
        figures = evaluate_panel(panel, model=model, counts=counts, instrument=instrument, progress=step)
    if json_file is not None:
        write_json(json_file, figures)
    if not quiet:
        show(_scores_table(figures))
        for key in ("group_macro_f1", "always_yes_macro_f1"):
            say(f"{key.replace('_', ' ')}: {figures[key]:.3f}")


def _presence(json_file: Path | None, model: str, folders: list[Path], *, quiet: bool) -> None:
    from underpaint.lab.evaluation.presence import evaluate_monte_carlo
    from underpaint.runtime.files import write_json

    with progress(quiet=quiet) as step:
        record = evaluate_monte_carlo(folders, model, progress=step)
    if json_file is not None:
        write_json(json_file, record)
    if quiet:
        return
    heads = {
        "exact_sets": "exact sets",
        "macro_f1": "F1",
        "present_missed": "missed",
        "present_missed_over_10_sigma": "over 10 sigma",
        "false_claims": "false",
        "below_f1": "F1 below",
    }
    table = list_table("Monte Carlo panels", ("of", "counts", *heads.values()))
    for who, by_counts in record.items():
        for counts, figures in by_counts.items() if who != "about" else ():
            table.add_row(who.replace("_", " "), counts, *(_number(figures.get(key)) for key in heads))
    show(table)


def _trust(json_file: Path | None, inputs: "Inputs", *, small: bool, quiet: bool) -> None:
    from underpaint.lab.evaluation.plan import TrustPlan, quick_plan
    from underpaint.lab.evaluation.suite import evaluate_trust

    if json_file is None:
        raise typer.BadParameter("--suite trust needs --json FILE: it is long, and keeps what is finished beside it")
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
    _say_rest(record)
    parts = json_file.with_suffix(".parts")
    say(f"Wrote {json_file}. {parts} holds the finished stages, for a call that goes on; it may be deleted.")


def _f1_table(record: dict[str, Any]) -> "Table":
    """Return macro F1 of the groups by set and counts, the baselines beside."""
    baselines = record["baselines"]
    title = "Group macro F1" + (" (quick: figures mean little)" if record["about"]["quick"] else "")
    heads = ("set", "counts", "model", *(name.replace("_", " ") for name in BASELINES))
    table = list_table(title, heads)
    for name, counts, value in _f1_rows(record):
        key = "simulated" if name.startswith("  ") else name
        others = (_baseline(baselines, who, key, counts) if name != "simulated" else None for who in BASELINES)
        table.add_row(name, counts, _number(value), *map(_number, others))
    return table


def _f1_rows(record: dict[str, Any]) -> "list[tuple[str, str, Any]]":
    """Return set, counts and the model's macro F1; a set that begins with a space is that of the baselines."""
    ours, details = record["group_macro_f1"], record["details"]
    beside = details["baselines"]
    same = beside["by_contestant"]["model"]["by_counts"]
    unseen = [(way, counts, value) for way, own in ours["unseen_instrument"].items() for counts, value in own.items()]
    return [
        *(("simulated", counts, value) for counts, value in ours["simulated"].items()),
        *((f"  {beside['n']} of them", counts, own["macro_f1"]) for counts, own in same.items()),
        *((f"unseen instrument, {way}", counts, value) for way, counts, value in unseen),
        *(("monte_carlo", counts, value) for counts, value in (ours["monte_carlo"] or {}).items()),
        ("structure_out", "1e5", ours["structure_out"]),
        ("structure_out_finetuned", "1e5", ours["structure_out_finetuned"]),
        ("fitted", "1e5", details["likelihood_fit"]["by_contestant"]["model"]["macro_f1"]),
    ]


def _baseline(baselines: dict[str, Any], who: str, key: str, counts: str) -> float | None:
    own = baselines[who]["group_macro_f1"].get(key)
    return own.get(counts) if isinstance(own, dict) else own


def _group_table(record: dict[str, Any]) -> "Table":
    """Return what is known of each group: scores, calibration, coverage."""
    details = record["details"]
    counts, scores = list(details["simulated"]["by_counts"].items())[-2]
    columns = ("F1", "always yes", "prevalence", "n", "ECE", "coverage 90 %", "set size", "coverage 99 %", "set size")
    table = list_table(f"Held-out simulation, scores at {counts} counts, sets over all decades", ("group", *columns))
    for group, own in scores["names"].items():
        cells = [own["f1"], own["always_yes_f1"], own["prevalence"], own["n_positive"], record["ece"].get(group)]
        for level in record["coverage"].values():
            cells += [_mean(row[key] for row in level[group].values()) for key in ("coverage", "set_size")]
        table.add_row(group, *map(_number, cells))
    return table


def _order_table(record: dict[str, Any]) -> "Table":
    """Return layer order against its bound."""
    columns = ("resolvable", "bound", "right", "abstained", "abstained on the rest", "wrong on the rest")
    table = list_table("Layer order, pairs of pigments", ("counts", "answer of", *columns))
    for counts, own in record["details"]["order"]["by_counts"].items():
        bound = own["bound"]
        for who, title in (("network", "network"), ("refined", "network and fit")):
            said = (own[who].get(key) for key in ("accuracy", "abstained", "abstained_on_rest", "wrong_on_rest"))
            table.add_row(counts, title, *map(_number, (bound["resolvable_share"], bound["accuracy"], *said)))
    return table


def _scan_table(record: dict[str, Any]) -> "Table":
    """Return the measured scan's figures."""
    table = list_table("Measured scan, the worse of its detectors", ("figure", "group", "model", "line area", "xu2022"))
    aurora, paper = record["details"]["aurora"], record["details"]["aurora_xu2022"]
    for key in ("auroc", "spearman", "kappa", "kappa_where_both_are_sure"):
        for group, value in (aurora.get(key) or {}).items():
            others = ((source.get(own) or {}).get(group) for source, own in ((aurora, f"baseline_{key}"), (paper, key)))
            table.add_row(key.replace("_", " "), group, *map(_number, (value, *others)))
    return table


def _say_rest(record: dict[str, Any]) -> None:
    least = sorted(record["openset_auroc"].items(), key=lambda pair: pair[1])[:3]
    say("Open set, least AUROC: " + ", ".join(f"{element} {value:.3f}" for element, value in least))
    say(f"{record['per_s']:,.0f} spectra a second")
    finetuned = record["details"]["structure_out_finetuned"]
    if "left_out" in finetuned:
        say(f"Not fine-tuned: {finetuned['left_out']}")
    if record["about"]["left_out"]:
        say(f"Left out: {', '.join(record['about']['left_out'])}")


def _scores_table(figures: dict[str, Any]) -> "Table":
    keys = ("f1", "always_yes_f1", "sensitivity", "precision", "n_positive", "n_negative", "n_invisible")
    title = f"{figures.get('panel', 'panel')}, {figures.get('n_spectra', '?')} spectra"
    table = list_table(title, ("name", *(key.replace("_", " ") for key in keys)))
    for name, own in {**figures["groups"], **figures.get("members", {})}.items():
        table.add_row(name, *(_number(own.get(key)) for key in keys))
    return table


def _number(value: Any) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _mean(values: "Iterable[float | None]") -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
