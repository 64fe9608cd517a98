"""Table 3 of Xu et al. 2022 and beside it what it does not show: prevalence, calibration, structures held out."""

import csv
import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.evaluate import Scores, score
from underpaint.files import whole_file
from underpaint.reproduce.arms import Answers, Progress, finetuned, pretrain, structures_held_out, without_finetuning
from underpaint.reproduce.mockups import Mockups, make_mockups
from underpaint.reproduce.plan import Plan
from underpaint.reproduce.simulation import mockup_library, paper_outputs, simulation_set
from underpaint.synth.recipes import paper_table3

PAPER_ARMS = ("simulation", "experimental_no_finetune", "experimental_finetune")
SCORES = ("accuracy", "sensitivity", "f1", "auprc", "ece")
PAPER_SCORES = ("accuracy", "sensitivity", "f1")


def table3(plan: Plan, progress: Progress) -> dict[str, Any]:
    """Run the arms of Table 3 and write ``table3.json``, ``.csv`` and ``.html`` into ``plan.out``.

    Parameters
    ----------
    plan : Plan
        Sizes, epochs, seeds; what was trained is found again in ``plan.out/networks`` by the next call.
    progress : callable
        Called with what is being done, and how much of it is done.

    Returns
    -------
    dict
        ``{arm: {pigment: {accuracy, sensitivity, f1, auprc, ece, ..., paper, always_yes}, "mean": {...}}}`` with the
        plan and the times. All experimental figures are of virtual mock-ups.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    progress("Measuring the virtual mock-ups", 0, 1)
    mockups = make_mockups(plan)
    progress("Simulating the paper's set", 0, 1)
    simulated, measured = simulation_set(plan, mockups), mockup_library(mockups)
    checkpoints, simulation = pretrain(plan, simulated, progress)
    arms = {
        "simulation": simulation,
        "experimental_no_finetune": without_finetuning(plan, checkpoints, measured),
        "experimental_finetune": finetuned(plan, checkpoints, measured, progress),
        "structure_out_paper_network": structures_held_out(plan, checkpoints, measured, families(mockups), progress),
    }
    result: dict[str, Any] = {name: arm_figures(name, found) for name, found in arms.items()}
    result["seconds"] = {name: found.seconds for name, found in arms.items()}
    result["epochs"] = {name: found.epochs for name, found in arms.items()}
    result["plan"] = json.loads(plan.model_dump_json(exclude={"out"}))
    result["note"] = "Experimental figures are of virtual mock-ups: the paper's are not public."
    write(result, plan.out)
    return result


def families(mockups: Mockups) -> dict[str, NDArray[np.bool_]]:
    """Return which spectra belong to each top and each family of bottoms (1 to 6), to be held out in turn."""
    held_out = {str(top): mockups.top == top for top in np.unique(mockups.top)}
    numbers = np.asarray([name.removeprefix("Bottom ")[0] for name in mockups.bottom])
    return held_out | {f"Bottom {number}": numbers == number for number in np.unique(numbers)}


def arm_figures(arm: str, found: Answers) -> dict[str, Any]:
    """Return the figures of an arm by pigment: mean and spread over its folds, the paper's, and the baselines.

    Structures that are held out in turn are pooled, as each fold lacks most pigments.
    """
    folds = list(zip(found.probability, found.label, strict=True))
    if arm.startswith("structure_out"):
        folds = [(np.concatenate(found.probability), np.concatenate(found.label))]
    figures: dict[str, Any] = {}
    paper = paper_table3()
    for column, name in enumerate(paper_outputs().names):
        scores = [_scores(probability[:, column], label[:, column]) for probability, label in folds]
        figures[name] = {key: float(np.nanmean([getattr(each, key) for each in scores])) for key in SCORES}
        figures[name]["f1_spread"] = float(np.nanstd([each.f1 for each in scores]))
        figures[name]["always_yes"] = {"f1": scores[0].always_yes_f1}
        figures[name]["majority_accuracy"] = scores[0].majority_accuracy
        if arm in PAPER_ARMS:
            figures[name]["paper"] = paper[name][PAPER_ARMS.index(arm)]
    figures["mean"] = _mean(figures)
    return figures


def write(result: dict[str, Any], out: Path) -> None:
    """Write the table as JSON, CSV and HTML; each appears whole or not at all."""
    texts = {"json": json.dumps(result, indent=1) + "\n", "csv": _as_csv(result), "html": _as_html(result)}
    for suffix, text in texts.items():
        with whole_file(out / f"table3.{suffix}") as part:
            part.write_text(text, "utf-8")


def _scores(probability: NDArray[np.float32], label: NDArray[np.bool_]) -> Scores:
    return score(probability, label, np.ones(label.size, dtype=bool))


def _mean(figures: dict[str, Any]) -> dict[str, Any]:
    rows = list(figures.values())
    mean: dict[str, Any] = {key: float(np.nanmean([row[key] for row in rows])) for key in SCORES}
    mean["always_yes"] = {"f1": float(np.nanmean([row["always_yes"]["f1"] for row in rows]))}
    if "paper" in rows[0]:
        mean["paper"] = np.mean([row["paper"] for row in rows], axis=0).tolist()
    return mean


def _rows(result: dict[str, Any]) -> list[list[str]]:
    rows = [["arm", "pigment", *SCORES, "F1 spread", *(f"paper {name}" for name in PAPER_SCORES), "always yes F1"]]
    for arm, figures in result.items():
        if not isinstance(figures, dict) or "mean" not in figures:
            continue
        for name, row in figures.items():
            paper = row.get("paper", [float("nan")] * 3)
            values = [
                *(row[key] for key in SCORES),
                row.get("f1_spread", float("nan")),
                *paper,
                row["always_yes"]["f1"],
            ]
            rows.append([arm, name, *("" if np.isnan(value) else f"{value:.3f}" for value in values)])
    return rows


def _as_csv(result: dict[str, Any]) -> str:
    stream = StringIO()
    csv.writer(stream, lineterminator="\n").writerows(_rows(result))
    return stream.getvalue()


def _as_html(result: dict[str, Any]) -> str:
    header, *rows = _rows(result)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    titles = "".join(f"<th>{cell}</th>" for cell in header)
    style = "body{font:14px sans-serif;margin:2em}td,th{padding:.2em .6em;text-align:right}tr:hover{background:#eee}"
    return (
        f"<!doctype html><meta charset=utf-8><title>Table 3, virtual</title><style>{style}</style>"
        f"<h1>Table 3 of Xu et al. 2022, reproduced</h1><p>{result['note']}</p>"
        f"<table><thead><tr>{titles}</tr></thead>\n<tbody>{body}</tbody></table>\n"
    )
