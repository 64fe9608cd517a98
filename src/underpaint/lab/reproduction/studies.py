"""Studies of the reproduction, and their tables. A repeated call reuses the files of finished training runs."""

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
from underpaint.lab.reproduction.arms import Answers, EvaluatedModel, finetune_on_splits, predict_mockups, pretrain
from underpaint.lab.reproduction.contestants import default_network, paper_network
from underpaint.lab.reproduction.figures import Networks, figure5, figure6, figure8, figure9, figure10
from underpaint.lab.reproduction.limits import study_limits
from underpaint.lab.reproduction.measured import get_mockups, mockup_digest
from underpaint.lab.reproduction.mockups import Mockups
from underpaint.lab.reproduction.plan import Plan
from underpaint.lab.reproduction.scoring import SCORE_NAMES, pooled_scores, scores_over_folds
from underpaint.lab.reproduction.simulation import (
    REPLACED_PIGMENTS,
    draw_counts,
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
TABLE_STYLE = (
    "body{font:14px/1.5 sans-serif;margin:2em auto;max-width:75em;padding:0 1em}table{border-collapse:collapse}"
    "td,th{padding:.2em .7em;text-align:right;border-bottom:1px solid #eee}td:first-child,th:first-child,"
    "td:nth-child(2),th:nth-child(2){text-align:left}tr.mean{font-weight:bold;background:#f6f6f6}img{max-width:100%}"
)
PAPER_SCORES = ("accuracy", "sensitivity", "f1")
VIRTUAL_NOTE = (
    "All experimental results are from virtual mock-ups and paintings, because those of the paper are not public."
)
MEASURED_NOTE = "Experimental results are from the user's measured mock-ups. Paintings are virtual."
FIGURE_STUDIES: dict[str, Callable[[Plan, Networks, Progress], dict[str, Any]]] = {
    "figure5": figure5,
    "figure6": figure6,
    "figure8": figure8,
    "figure9": figure9,
    "figure10": figure10,
    "limits": study_limits,
}
STUDIES = ("table3", *FIGURE_STUDIES, "comparison")


def write_result(study_result: dict[str, Any], path: Path) -> None:
    """Write a result as JSON, with numbers rounded to five significant digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, _round_floats(study_result))


def write_table(header: Sequence[str], rows: Sequence[Row], path: Path, *, title: str, note: str) -> None:
    """Write a table as CSV and HTML. Numbers have three decimals, and None gives an empty cell."""
    cell_texts = [[_cell_text(cell_value) for cell_value in row_values] for row_values in rows]
    csv_stream = StringIO()
    write_csv(csv_stream, [header, *cell_texts], line_end="\n")
    for file_suffix, file_text in (
        (".csv", csv_stream.getvalue()),
        (".html", _html_page(header, cell_texts, title, note)),
    ):
        with atomic_write(path.with_suffix(file_suffix)) as temporary_path:
            temporary_path.write_text(file_text, "utf-8")


def table3_rows(scores_by_arm: dict[str, Any]) -> tuple[list[str], list[Row]]:
    """Return the header and rows of Table 3: reproduced scores, the paper's scores, and scores of baselines."""
    header = ["arm", "name", *SCORE_NAMES, "F1 spread", *(f"paper {name}" for name in PAPER_SCORES)]
    rows: list[Row] = []
    for arm, arm_scores in scores_by_arm.items():
        if arm == "about":
            continue
        pigment_rows = {name: name_scores for name, name_scores in arm_scores.items() if name != "groups"}
        group_rows = {f"group: {name}": name_scores for name, name_scores in arm_scores["groups"].items()}
        for name, name_scores in (pigment_rows | group_rows).items():
            paper_scores = name_scores.get("paper", [None] * len(PAPER_SCORES))
            scores = [name_scores[score_name] for score_name in SCORE_NAMES]
            baseline_scores = (name_scores["always_yes"]["f1"], name_scores["majority_accuracy"])
            rows.append(
                [arm.replace("_", " "), name, *scores, name_scores["f1_spread"], *paper_scores, *baseline_scores]
            )
    return [*header, "always yes F1", "majority accuracy"], rows


def column_rows(values_by_name: dict[str, dict[str, Any]], name_column_header: str) -> tuple[list[str], list[Row]]:
    """Return the header and rows of a table in the form ``{name: {column: value}}``."""
    column_names = list(next(iter(values_by_name.values())))
    return [name_column_header, *column_names], [
        [name, *(row_values[column_name] for column_name in column_names)]
        for name, row_values in values_by_name.items()
    ]


def _round_floats(result_value: Any) -> Any:
    if isinstance(result_value, dict):
        return {str(result_key): _round_floats(nested_value) for result_key, nested_value in result_value.items()}
    if isinstance(result_value, list | tuple):
        return [_round_floats(nested_value) for nested_value in result_value]
    return float(f"{result_value:.5g}") if isinstance(result_value, float) else result_value


def _cell_text(cell_value: str | float | None) -> str:
    if cell_value is None or (isinstance(cell_value, float) and np.isnan(cell_value)):
        return ""
    return f"{cell_value:.3f}" if isinstance(cell_value, float) else str(cell_value)


def _html_page(column_names: Sequence[str], cell_texts: Sequence[Sequence[str]], title: str, note: str) -> str:
    header_cells = "".join(f"<th>{escape(header_cell)}</th>" for header_cell in column_names)
    body_rows = "\n".join(_html_row(row_cells) for row_cells in cell_texts)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{TABLE_STYLE}</style>"
        f"<h1>{escape(title)}</h1><p>{escape(note)}</p>"
        f"<table><thead><tr>{header_cells}</tr></thead>\n<tbody>{body_rows}</tbody></table></html>\n"
    )


def _html_row(row_cells: Sequence[str]) -> str:
    row_class = " class=mean" if "mean" in row_cells[1] else ""
    return f"<tr{row_class}>" + "".join(f"<td>{escape(cell_text)}</td>" for cell_text in row_cells) + "</tr>"


N_SEED = 5
"""Number of random mock-up sets on which fine-tuning is repeated."""


def table3(plan: Plan, progress: Progress) -> dict[str, Any]:
    """Run the arms of Table 3 and additional arms, reusing the networks of earlier calls.

    Parameters
    ----------
    plan : Plan
        Sizes, epochs, seeds, folder.
    progress : callable
        Called with (description, number of steps done, total number of steps).

    Returns
    -------
    dict
        ``{arm: scores, ..., "about": {"seeds": ..., "seconds": ..., "epochs": ...}}``.
        The scores of an arm are those of ``scores_over_folds`` or ``pooled_scores``.
    """
    progress("Simulating the virtual mock-ups", 0, 1)
    mockups = get_mockups(plan)
    progress("Simulating the paper's simulation set", 0, 1)
    spectra_set = simulation_set(plan, mockups)
    checkpoints, simulation_answers = pretrain(plan, spectra_set, progress)
    paper_model, default_model = paper_network(checkpoints, mockups), default_network(mockups)
    splits = random_splits(len(mockups), plan.seed, plan.folds)
    answers_by_arm = {
        "simulation": simulation_answers,
        "experimental_no_finetune": predict_mockups(plan, paper_model),
        "experimental_finetune": finetune_on_splits(plan, paper_model, "pixels", splits, progress),
        "no_finetune_default_network": predict_mockups(plan, default_model),
        "finetune_default_network": finetune_on_splits(plan, default_model, "pixels", splits, progress),
    }
    scores_by_arm = {name: scores_over_folds(arm_answers, name) for name, arm_answers in answers_by_arm.items()}
    for split_kind, groups in (("structure", structure_families(mockups)), ("thickness", thickness_thirds(mockups))):
        for contestant in (paper_model, default_model) if groups else ():
            name = f"{split_kind}_out_{contestant.name}"
            answers_by_arm[name] = finetune_on_splits(
                plan, contestant, split_kind, splits_by_group(groups, plan.seed), progress
            )
            scores_by_arm[name] = pooled_scores(answers_by_arm[name])
    seed_scores = scores_by_seed(plan, paper_model, progress)
    # additional training sets, with one fold each, show the effects of noise and of other materials in the grid
    for name, training_set in _additional_training_sets(plan, spectra_set, mockups).items():
        (checkpoint,), answers_by_arm[name] = pretrain(plan, training_set, progress, name=name, folds=1)
        scores_by_arm[name] = scores_over_folds(answers_by_arm[name])
        mockup_scores = predict_mockups(plan, paper_network([checkpoint], mockups))
        scores_by_arm[name.replace("simulation", "no_finetune")] = scores_over_folds(mockup_scores)
    provenance = {
        "seeds": seed_scores,
        "seconds": {name: round(arm_answers.seconds, 1) for name, arm_answers in answers_by_arm.items()},
        "epochs": {name: arm_answers.epochs for name, arm_answers in answers_by_arm.items()},
    }
    return {**scores_by_arm, "about": provenance}


def _additional_training_sets(plan: Plan, spectra_set: Library, mockups: Mockups) -> dict[str, Library]:
    materials: Literal["table1", "table2"] = "table1" if plan.materials == "table2" else "table2"
    other_materials_set = simulation_set(plan.model_copy(update={"materials": materials}), mockups)
    return {"simulation_counted": draw_counts(spectra_set, plan), f"simulation_{materials}": other_materials_set}


def scores_by_seed(plan: Plan, paper_model: EvaluatedModel, progress: Progress) -> dict[str, dict[str, float]]:
    """Return the mean F1 without and with fine-tuning for several random sets of mock-ups.

    All sets have the same split into fine-tuning and test spectra. The networks were trained with the background of the
    first set. The result is empty for measured mock-ups.
    """
    f1_by_seed: dict[str, dict[str, float]] = {}
    if plan.mockups is not None:
        return f1_by_seed
    for seed in range(plan.mockup_seed, plan.mockup_seed + min(N_SEED, plan.folds)):
        seed_plan = plan.model_copy(update={"mockup_seed": seed})
        mockups = EvaluatedModel(
            paper_model.name, paper_model.initial_networks[:1], mockup_library(get_mockups(seed_plan))
        )
        (split,) = random_splits(len(mockups.mockups), plan.seed, 1)
        answers_before = predict_mockups(plan, mockups)
        test_answers = Answers(
            [answers_before.probability[0][split.test_rows]],
            [answers_before.label[0][split.test_rows]],
            answers_before.is_learned,
            0.0,
            0,
        )
        run_label = "pixels" if seed == plan.mockup_seed else f"pixels_seed_{seed}"
        answers_after = finetune_on_splits(plan, mockups, run_label, [split], progress)
        scores_before, scores_after = scores_over_folds(test_answers)["mean"], scores_over_folds(answers_after)["mean"]
        f1_by_seed[str(seed)] = {
            "no_finetune": scores_before["f1"],
            "finetune": scores_after["f1"],
            "always_yes": scores_after["always_yes"]["f1"],
        }
    return f1_by_seed


MAX_LAYER_PIGMENTS = 4
N_PALETTE_PIGMENT = 30
Samples = tuple[list[Stratigraphy], list[set[str]]]


def compare_networks(plan: Plan, progress: Progress) -> dict[str, Any]:
    """Train every kind of network on a part of the grid, with one fold, and return scores of the networks.

    Returns
    -------
    dict
        ``{model: {"parameters", "outputs", "seconds", "epochs", "spectra_per_second", "f1_simulation", "f1_mockups",
        "f1_finetuned", "always_yes_f1"}}``. F1 is the mean over the paper's eleven pigments. ``f1_simulation`` is for
        test spectra of the model's simulation set. ``f1_mockups`` is for mock-ups without fine-tuning. ``f1_finetuned``
        is for mock-ups after fine-tuning on a random fifth of the mock-up spectra. ``seconds`` is the training time
        without fine-tuning, or None for the default network.
    """
    mockups = get_mockups(plan)
    grid_set = simulated_as_in_paper(*study_grid(plan), mockups)
    mixture_set = simulated_as_in_paper(*mixed_layers(plan), mockups)
    outputs = outputs_for(palette_names(), with_groups=False)
    palette_set = simulated_as_in_paper(*palette_stratigraphies(plan), mockups, outputs=outputs)
    training_sets: dict[str, tuple[NetworkKind, Library]] = {
        "paper": ("xu2022", grid_set),
        "recurrent": ("recurrent", grid_set),
        "autoencoder": ("autoencoder", grid_set),
        "paper_mixtures": ("xu2022", mixture_set),
        "paper_thirty_pigments": ("xu2022", palette_set),
    }
    rows_by_model = {}
    for name, (network_kind, spectra_set) in training_sets.items():
        checkpoints, answers_simulated = pretrain(
            plan, spectra_set, progress, name=f"comparison_{name}", folds=1, network_kind=network_kind
        )
        contestant = paper_network(checkpoints, mockups, name=f"comparison_{name}", simulation_set=spectra_set)
        rows_by_model[name] = _comparison_row(plan, contestant, mockups, answers_simulated, progress)
    rows_by_model["default"] = _comparison_row(plan, default_network(mockups), mockups, None, progress)
    return rows_by_model


def mixed_layers(plan: Plan) -> Samples:
    """Return stratigraphies as in the paper's grid, but with one to four random pigments in each layer."""
    rng = np.random.default_rng((plan.seed, 5))
    paper_structures = paper_grid(plan.materials)[:: plan.grid_step * plan.study_step]
    names = sorted({upper_pigment for upper_pigment, *_ in paper_structures})
    samples, pigments_by_sample = [], []
    for *_, top_um, bottom_um in paper_structures:
        paints = [_random_mixture(names, rng) for _ in range(2)]
        samples.append(paper_layers(paints, (top_um, bottom_um)))
        pigments_by_sample.append({REPLACED_PIGMENTS.get(name, name) for paint in paints for name in paint})
    return samples, pigments_by_sample


def palette_names() -> tuple[str, ...]:
    """Return the paper's eleven pigments and the first nineteen other detectable pigments of the library."""
    paper_names = list(paper_outputs().names)
    visible_groups = {group.name for group in library().groups if group.visible}
    other_names = [
        pigment.name
        for pigment in library()
        if pigment.name not in paper_names and visible_groups.intersection(pigment.groups)
    ]
    return (*paper_names, *other_names[: N_PALETTE_PIGMENT - len(paper_names)])


def palette_stratigraphies(plan: Plan) -> Samples:
    """Return stratigraphies as in the paper's grid, but with one of thirty pigments in each layer."""
    rng = np.random.default_rng((plan.seed, 6))
    samples, pigments_by_sample = [], []
    for *_, top_um, bottom_um in paper_grid(plan.materials)[:: plan.grid_step * plan.study_step]:
        layer_pigments = [str(name) for name in rng.choice(palette_names(), size=2)]
        samples.append(paper_layers([{name: 1.0} for name in layer_pigments], (top_um, bottom_um)))
        pigments_by_sample.append(set(layer_pigments))
    return samples, pigments_by_sample


def _random_mixture(names: Sequence[str], rng: np.random.Generator) -> dict[str, float]:
    pigments = rng.choice(names, size=int(rng.integers(1, MAX_LAYER_PIGMENTS + 1)), replace=False)
    return dict(zip(map(str, pigments), rng.dirichlet(np.ones(pigments.size)).tolist(), strict=True))


def _comparison_row(
    plan: Plan, contestant: EvaluatedModel, mockups: Mockups, answers_simulated: Answers | None, progress: Progress
) -> dict[str, Any]:
    (split,) = random_splits(len(mockups), plan.seed, 1)
    finetuned_answers = finetune_on_splits(plan, contestant, "pixels", [split], progress)
    return {
        "parameters": parameter_count(contestant.initial_network(0).network),
        "outputs": len(contestant.mockups.names),
        "seconds": None if answers_simulated is None else round(answers_simulated.seconds, 1),
        "epochs": None if answers_simulated is None else answers_simulated.epochs,
        "spectra_per_second": _spectra_per_second(plan, contestant),
        "f1_simulation": None if answers_simulated is None else scores_over_folds(answers_simulated)["mean"]["f1"],
        "f1_mockups": scores_over_folds(predict_mockups(plan, contestant))["mean"]["f1"],
        "f1_finetuned": scores_over_folds(finetuned_answers)["mean"]["f1"],
        "always_yes_f1": scores_over_folds(finetuned_answers)["mean"]["always_yes"]["f1"],
    }


def _spectra_per_second(plan: Plan, contestant: EvaluatedModel) -> float:
    rows = np.arange(min(len(contestant.mockups), 1000))
    trained_model, settings = contestant.initial_network(0), contestant.settings(plan, "asked")
    answers(trained_model, contestant.mockups, rows[:64], settings)
    start_time = time.perf_counter()
    answers(trained_model, contestant.mockups, rows, settings)
    return round(len(rows) / (time.perf_counter() - start_time), 1)


def reproduce(study: str, plan: Plan, progress: Progress) -> dict[str, Any]:
    """Run one study, or ``all``, and write its ``NAME.json``, tables and plots to ``plan.out``.

    Returns
    -------
    dict
        Result of the study, or for ``all`` the results of all studies by name.

    Raises
    ------
    TrainingError
        The study does not exist.
    """
    if study == "all":
        return {name: reproduce(name, plan, progress) for name in STUDIES}
    if study not in STUDIES:
        raise TrainingError(f"Cannot reproduce {study!r}: there is no such study. Give all, {', '.join(STUDIES)}.")
    check_plan(plan)
    if study == "table3":
        study_result = table3(plan, progress)
    elif study == "comparison":
        study_result = {"models": compare_networks(plan, progress)}
    else:
        study_result = FIGURE_STUDIES[study](plan, trained_networks(plan, progress), progress)
    settings = json.loads(plan.model_dump_json(exclude={"out", "mockups", "labels"}))
    provenance = {"note": mockup_note(plan), "version": __version__, "plan": settings}
    study_result["about"] = {**study_result.get("about", {}), **provenance}
    write_result(study_result, plan.out / f"{study}.json")
    _write_tables(study, study_result, plan)
    return study_result


def check_plan(plan: Plan) -> None:
    """Write the plan into its folder, or check that the folder was started with the same plan.

    Raises
    ------
    TrainingError
        The folder has networks of another plan, or of other spectra or labels.
    """
    current_plan = plan.model_dump(mode="json", exclude={"out"})
    if plan.mockups is not None:
        current_plan["contents"] = mockup_digest(get_mockups(plan))  # raises an error for invalid input
    resume_folder(plan.out, current_plan, settings_file="plan.json")


def mockup_note(plan: Plan) -> str:
    """Return the note on the origin of the mock-ups. All tables contain this note."""
    return VIRTUAL_NOTE if plan.mockups is None else MEASURED_NOTE


def trained_networks(plan: Plan, progress: Progress) -> Networks:
    """Return the checkpoints of the paper's network before and after fine-tuning, and train missing ones."""
    folder_before, folder_after = (
        plan.out / "networks" / name for name in ("simulation/fold_0", "paper_network_pixels_0")
    )
    networks = Networks(
        before_finetuning=folder_before / "best.ckpt", after_finetuning=folder_after / "all" / "best.ckpt"
    )
    # each training run writes its report last
    if all((folder / "report.json").is_file() for folder in (folder_before, folder_after)):
        return networks
    mockups = get_mockups(plan)
    checkpoints, _ = pretrain(plan, simulation_set(plan, mockups), progress, folds=1)
    paper_model = paper_network(checkpoints, mockups)
    finetune_on_splits(plan, paper_model, "pixels", random_splits(len(mockups), plan.seed, 1), progress)
    return networks


def _write_tables(study: str, study_result: dict[str, Any], plan: Plan) -> None:
    if study == "table3":
        title = "Table 3 of Xu et al. 2022, with additional arms"
        write_table(*table3_rows(study_result), plan.out / "table3", title=title, note=mockup_note(plan))
    elif study == "comparison":
        title = "Models trained with the paper's protocol on a part of its grid"
        write_table(
            *column_rows(study_result["models"], "model"), plan.out / "comparison", title=title, note=mockup_note(plan)
        )
    elif study == "limits":
        title = "Effect of the paper's choices"
        write_table(
            *column_rows(study_result["ablation"], "choice"), plan.out / "limits", title=title, note=mockup_note(plan)
        )
