"""Studies by name, and their tables; each writes its files, and the next call reuses finished ones."""

import json
import time
from collections.abc import Callable, Sequence
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np

from underpaint._version import __version__
from underpaint.errors import TrainingError
from underpaint.io.results.csv_text import write_csv
from underpaint.lab.evaluation.parts import random_splits, splits_by_group, structure_families, thickness_thirds
from underpaint.lab.networks import parameter_count
from underpaint.lab.reproduction.arms import Answers, EvaluatedModel, finetuned, predict_mockups, pretrain
from underpaint.lab.reproduction.contestants import default_network, paper_network
from underpaint.lab.reproduction.figures import Networks, figure5, figure6, figure8, figure9, figure10
from underpaint.lab.reproduction.limits import limits
from underpaint.lab.reproduction.measured import fingerprint, get_mockups
from underpaint.lab.reproduction.mockups import Mockups
from underpaint.lab.reproduction.plan import Plan
from underpaint.lab.reproduction.scoring import SCORES, over_folds, pooled
from underpaint.lab.reproduction.simulation import (
    MIXED_FROM,
    counted,
    mockup_library,
    paper_outputs,
    simulated_as_in_paper,
    simulation_set,
    study_grid,
)
from underpaint.lab.training import Library, answers
from underpaint.physics.materials import Stratigraphy, library
from underpaint.pigments.weights import NetworkKind
from underpaint.runtime.files import atomic_write, write_json
from underpaint.runtime.job import resume_folder
from underpaint.runtime.progress import Progress
from underpaint.simulate import outputs_for
from underpaint.simulate.recipes import paper_grid, paper_layers

Row = Sequence[str | float | None]
STYLE = (
    "body{font:14px/1.5 sans-serif;margin:2em auto;max-width:75em;padding:0 1em}table{border-collapse:collapse}"
    "td,th{padding:.2em .7em;text-align:right;border-bottom:1px solid #eee}td:first-child,th:first-child,"
    "td:nth-child(2),th:nth-child(2){text-align:left}tr.mean{font-weight:bold;background:#f6f6f6}img{max-width:100%}"
)
PAPER_SCORES = ("accuracy", "sensitivity", "f1")
VIRTUAL = "Every experimental figure is of virtual mock-ups and paintings: the paper's are not public."
MEASURED = "Experimental figures are of the user's measured mock-ups; paintings are virtual."
DRAWN: dict[str, Callable[[Plan, Networks, Progress], dict[str, Any]]] = {
    "figure5": figure5,
    "figure6": figure6,
    "figure8": figure8,
    "figure9": figure9,
    "figure10": figure10,
    "limits": limits,
}
STUDIES = ("table3", *DRAWN, "comparison")


def write_result(result: dict[str, Any], path: Path) -> None:
    """Write a result as JSON, to five digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, _rounded(result))


def write_table(header: Sequence[str], rows: Sequence[Row], path: Path, *, title: str, note: str) -> None:
    """Write ``path`` with the suffixes .csv and .html; values with three decimals, None as an empty cell."""
    cells = [[_cell(value) for value in row] for row in rows]
    stream = StringIO()
    write_csv(stream, [header, *cells], line_end="\n")
    for suffix, text in ((".csv", stream.getvalue()), (".html", _page(header, cells, title, note))):
        with atomic_write(path.with_suffix(suffix)) as part:
            part.write_text(text, "utf-8")


def arm_rows(result: dict[str, Any]) -> tuple[list[str], list[Row]]:
    """Return Table 3 as a header and rows: arm, pigment or group, our scores, the paper's, the baselines."""
    header = ["arm", "name", *SCORES, "F1 spread", *(f"paper {name}" for name in PAPER_SCORES)]
    rows: list[Row] = []
    for arm, figures in result.items():
        if arm == "about":
            continue
        named = {name: row for name, row in figures.items() if name != "groups"}
        groups = {f"group: {name}": row for name, row in figures["groups"].items()}
        for name, row in (named | groups).items():
            paper = row.get("paper", [None] * len(PAPER_SCORES))
            scores = [row[key] for key in SCORES]
            baselines = (row["always_yes"]["f1"], row["majority_accuracy"])
            rows.append([arm.replace("_", " "), name, *scores, row["f1_spread"], *paper, *baselines])
    return [*header, "always yes F1", "majority accuracy"], rows


def flat_rows(table: dict[str, dict[str, Any]], first: str) -> tuple[list[str], list[Row]]:
    """Return ``{name: {column: value}}`` as a header and rows."""
    columns = list(next(iter(table.values())))
    return [first, *columns], [[name, *(row[column] for column in columns)] for name, row in table.items()]


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _cell(value: str | float | None) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _page(header: Sequence[str], cells: Sequence[Sequence[str]], title: str, note: str) -> str:
    titles = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "\n".join(_line(row) for row in cells)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
        f"<h1>{escape(title)}</h1><p>{escape(note)}</p>"
        f"<table><thead><tr>{titles}</tr></thead>\n<tbody>{body}</tbody></table></html>\n"
    )


def _line(row: Sequence[str]) -> str:
    kind = " class=mean" if "mean" in row[1] else ""
    return f"<tr{kind}>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"


N_SEED = 5
"""Perturbations of the mock-ups that fine-tuning is tried on."""


def table3(plan: Plan, progress: Progress) -> dict[str, Any]:
    """Run the arms of Table 3 and the additional ones; the next call reuses trained networks.

    Parameters
    ----------
    plan : Plan
        Sizes, epochs, seeds, folder.
    progress : callable
        Called with (task, completed, total).

    Returns
    -------
    dict
        ``{arm: figures, ..., "about": {"seeds": ..., "seconds": ..., "epochs": ...}}``, figures by pigment as
        ``over_folds`` and ``pooled`` describe them.
    """
    progress("Measuring the virtual mock-ups", 0, 1)
    mockups = get_mockups(plan)
    progress("Simulating the paper's set", 0, 1)
    simulated = simulation_set(plan, mockups)
    checkpoints, simulation = pretrain(plan, simulated, progress)
    paper, ours = paper_network(checkpoints, mockups), default_network(mockups)
    random = random_splits(len(mockups), plan.seed, plan.folds)
    contestants = {
        "simulation": simulation,
        "experimental_no_finetune": predict_mockups(plan, paper),
        "experimental_finetune": finetuned(plan, paper, "pixels", random, progress),
        "no_finetune_default_network": predict_mockups(plan, ours),
        "finetune_default_network": finetuned(plan, ours, "pixels", random, progress),
    }
    tables = {name: over_folds(each, name) for name, each in contestants.items()}
    for division, groups in (("structure", structure_families(mockups)), ("thickness", thickness_thirds(mockups))):
        for contestant in (paper, ours) if groups else ():
            name = f"{division}_out_{contestant.name}"
            contestants[name] = finetuned(plan, contestant, division, splits_by_group(groups, plan.seed), progress)
            tables[name] = pooled(contestants[name])
    by_seed = seeds(plan, paper, progress)
    # one fold each: the effect of noise, and the other interpretation of the thirteen materials
    for name, training_set in _other_sets(plan, simulated, mockups).items():
        (checkpoint,), contestants[name] = pretrain(plan, training_set, progress, name=name, folds=1)
        tables[name] = over_folds(contestants[name])
        mockup_scores = predict_mockups(plan, paper_network([checkpoint], mockups))
        tables[name.replace("simulation", "no_finetune")] = over_folds(mockup_scores)
    about = {
        "seeds": by_seed,
        "seconds": {name: round(each.seconds, 1) for name, each in contestants.items()},
        "epochs": {name: each.epochs for name, each in contestants.items()},
    }
    return {**tables, "about": about}


def _other_sets(plan: Plan, simulated: Library, mockups: Mockups) -> dict[str, Library]:
    materials: Literal["table1", "table2"] = "table1" if plan.materials == "table2" else "table2"
    reading = simulation_set(plan.model_copy(update={"materials": materials}), mockups)
    return {"simulation_counted": counted(simulated, plan), f"simulation_{materials}": reading}


def seeds(plan: Plan, paper: EvaluatedModel, progress: Progress) -> dict[str, dict[str, float]]:
    """Return mean F1 without and with fine-tuning for several perturbations of the mock-ups, on the same test spectra.

    The networks stay those that were trained with the background of the first. Measured mock-ups have no seed: empty.
    """
    table: dict[str, dict[str, float]] = {}
    if plan.mockups is not None:
        return table
    for seed in range(plan.mockup_seed, plan.mockup_seed + min(N_SEED, plan.folds)):
        seed_plan = plan.model_copy(update={"mockup_seed": seed})
        mockups = EvaluatedModel(paper.name, paper.starts[:1], mockup_library(get_mockups(seed_plan)))
        (split,) = random_splits(len(mockups.mockups), plan.seed, 1)
        before = predict_mockups(plan, mockups)
        tested = Answers(
            [before.probability[0][split.test_rows]], [before.label[0][split.test_rows]], before.learned, 0.0, 0
        )
        key = "pixels" if seed == plan.mockup_seed else f"pixels_seed_{seed}"
        after = finetuned(plan, mockups, key, [split], progress)
        no, yes = over_folds(tested)["mean"], over_folds(after)["mean"]
        table[str(seed)] = {"no_finetune": no["f1"], "finetune": yes["f1"], "always_yes": yes["always_yes"]["f1"]}
    return table


MAX_IN_A_LAYER = 4
N_PIGMENT = 30
Samples = tuple[list[Stratigraphy], list[set[str]]]


def comparison(plan: Plan, progress: Progress) -> dict[str, Any]:
    """Train every kind of network on a share of the grid, one fold each, and compare them.

    Returns
    -------
    dict
        ``{model: {"parameters", "outputs", "seconds", "epochs", "spectra_per_second", "f1_simulation", "f1_mockups",
        "f1_finetuned", "always_yes_f1"}}``: mean F1 of the paper's eleven pigments on simulated test spectra of the
        model's own set, and on virtual mock-ups without fine-tuning and after the paper's, one random fifth. Seconds
        are those of training, fine-tuning apart; what trained the default network is not counted here.
    """
    mockups = get_mockups(plan)
    grid = simulated_as_in_paper(*study_grid(plan), mockups)
    mixtures = simulated_as_in_paper(*mixed_layers(plan), mockups)
    outputs = outputs_for(thirty_names(), with_groups=False)
    thirty = simulated_as_in_paper(*thirty_pigments(plan), mockups, outputs=outputs)
    sets: dict[str, tuple[NetworkKind, Library]] = {
        "paper": ("xu2022", grid),
        "recurrent": ("recurrent", grid),
        "autoencoder": ("autoencoder", grid),
        "paper_mixtures": ("xu2022", mixtures),
        "paper_thirty_pigments": ("xu2022", thirty),
    }
    table = {}
    for name, (kind, simulated) in sets.items():
        checkpoints, answers_simulated = pretrain(
            plan, simulated, progress, name=f"comparison_{name}", folds=1, kind=kind
        )
        contestant = paper_network(checkpoints, mockups, name=f"comparison_{name}", of=simulated)
        table[name] = _row(plan, contestant, mockups, answers_simulated, progress)
    table["default"] = _row(plan, default_network(mockups), mockups, None, progress)
    return table


def mixed_layers(plan: Plan) -> Samples:
    """Return stratigraphies like the paper's with one to four of its pigments in each layer, at random."""
    rng = np.random.default_rng((plan.seed, 5))
    grid = paper_grid(plan.materials)[:: plan.grid_step * plan.study_step]
    names = sorted({upper for upper, *_ in grid})
    samples, contents = [], []
    for *_, top_um, bottom_um in grid:
        paints = [_mixture(names, rng) for _ in range(2)]
        samples.append(paper_layers(paints, (top_um, bottom_um)))
        contents.append({MIXED_FROM.get(name, name) for paint in paints for name in paint})
    return samples, contents


def thirty_names() -> tuple[str, ...]:
    """Return the paper's eleven pigments and nineteen more detectable ones of the library, in its order."""
    paper = list(paper_outputs().names)
    visible = {group.name for group in library().groups if group.visible}
    other_names = [each.name for each in library() if each.name not in paper and visible.intersection(each.groups)]
    return (*paper, *other_names[: N_PIGMENT - len(paper)])


def thirty_pigments(plan: Plan) -> Samples:
    """Return stratigraphies like the paper's, one pigment per layer, from thirty pigments."""
    rng = np.random.default_rng((plan.seed, 6))
    samples, contents = [], []
    for *_, top_um, bottom_um in paper_grid(plan.materials)[:: plan.grid_step * plan.study_step]:
        pair = [str(name) for name in rng.choice(thirty_names(), size=2)]
        samples.append(paper_layers([{name: 1.0} for name in pair], (top_um, bottom_um)))
        contents.append(set(pair))
    return samples, contents


def _mixture(names: Sequence[str], rng: np.random.Generator) -> dict[str, float]:
    picked = rng.choice(names, size=int(rng.integers(1, MAX_IN_A_LAYER + 1)), replace=False)
    return dict(zip(map(str, picked), rng.dirichlet(np.ones(picked.size)).tolist(), strict=True))


def _row(
    plan: Plan, contestant: EvaluatedModel, mockups: Mockups, answers_simulated: Answers | None, progress: Progress
) -> dict[str, Any]:
    (split,) = random_splits(len(mockups), plan.seed, 1)
    after = finetuned(plan, contestant, "pixels", [split], progress)
    return {
        "parameters": parameter_count(contestant.start(0).network),
        "outputs": len(contestant.mockups.names),
        "seconds": None if answers_simulated is None else round(answers_simulated.seconds, 1),
        "epochs": None if answers_simulated is None else answers_simulated.epochs,
        "spectra_per_second": _speed(plan, contestant),
        "f1_simulation": None if answers_simulated is None else over_folds(answers_simulated)["mean"]["f1"],
        "f1_mockups": over_folds(predict_mockups(plan, contestant))["mean"]["f1"],
        "f1_finetuned": over_folds(after)["mean"]["f1"],
        "always_yes_f1": over_folds(after)["mean"]["always_yes"]["f1"],
    }


def _speed(plan: Plan, contestant: EvaluatedModel) -> float:
    rows = np.arange(min(len(contestant.mockups), 1000))
    trained, settings = contestant.start(0), contestant.settings(plan, "asked")
    answers(trained, contestant.mockups, rows[:64], settings)
    start = time.perf_counter()
    answers(trained, contestant.mockups, rows, settings)
    return round(len(rows) / (time.perf_counter() - start), 1)


def reproduce(study: str, plan: Plan, progress: Progress) -> dict[str, Any]:
    """Run one study, or ``all``, and write ``NAME.json`` with its tables and pictures into ``plan.out``.

    Returns
    -------
    dict
        The figures of the study, or of each by name.

    Raises
    ------
    TrainingError
        There is no such study.
    """
    if study == "all":
        return {name: reproduce(name, plan, progress) for name in STUDIES}
    if study not in STUDIES:
        raise TrainingError(f"Cannot reproduce {study!r}; there are all, {', '.join(STUDIES)}.")
    keep_to_plan(plan)
    if study == "table3":
        result = table3(plan, progress)
    elif study == "comparison":
        result = {"models": comparison(plan, progress)}
    else:
        result = DRAWN[study](plan, trained_networks(plan, progress), progress)
    settings = json.loads(plan.model_dump_json(exclude={"out", "mockups", "labels"}))
    about = {"note": note(plan), "version": __version__, "plan": settings}
    result["about"] = {**result.get("about", {}), **about}
    write_result(result, plan.out / f"{study}.json")
    _write_tables(study, result, plan)
    return result


def keep_to_plan(plan: Plan) -> None:
    """Write the plan into its folder, or check that the folder was started with the same plan.

    Raises
    ------
    TrainingError
        The folder belongs to another plan, or to other spectra or labels: its networks would be confused with these.
    """
    current = plan.model_dump(mode="json", exclude={"out"})
    if plan.mockups is not None:
        current["contents"] = fingerprint(get_mockups(plan))  # refuses invalid input before anything is written
    resume_folder(plan.out, current, note="plan.json")


def note(plan: Plan) -> str:
    """Return the note on mock-ups for all tables."""
    return VIRTUAL if plan.mockups is None else MEASURED


def trained_networks(plan: Plan, progress: Progress) -> Networks:
    """Return the paper's network of the first fold before and after fine-tuning, trained if missing."""
    before, after = (plan.out / "networks" / name for name in ("simulation/fold_0", "paper_network_pixels_0"))
    networks = Networks(before=before / "best.ckpt", after=after / "all" / "best.ckpt")
    # reports are written when a training has ended
    if all((folder / "report.json").is_file() for folder in (before, after)):
        return networks
    mockups = get_mockups(plan)
    checkpoints, _ = pretrain(plan, simulation_set(plan, mockups), progress, folds=1)
    paper = paper_network(checkpoints, mockups)
    finetuned(plan, paper, "pixels", random_splits(len(mockups), plan.seed, 1), progress)
    return networks


def _write_tables(study: str, result: dict[str, Any], plan: Plan) -> None:
    if study == "table3":
        title = "Table 3 of Xu et al. 2022, and what it does not show"
        write_table(*arm_rows(result), plan.out / "table3", title=title, note=note(plan))
    elif study == "comparison":
        title = "Models by the paper's protocol, trained on a share of its grid"
        write_table(*flat_rows(result["models"], "model"), plan.out / "comparison", title=title, note=note(plan))
    elif study == "limits":
        title = "What the paper's choices change"
        write_table(*flat_rows(result["ablation"], "choice"), plan.out / "limits", title=title, note=note(plan))
