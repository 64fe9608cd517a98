"""Studies by name; each writes its files, and the next call reuses finished ones."""

import json
from collections.abc import Callable
from typing import Any

from underpaint._version import __version__
from underpaint.errors import TrainingError
from underpaint.lab.evaluation.parts import random_pixels
from underpaint.lab.reproduction.arms import finetuned, pretrain
from underpaint.lab.reproduction.contestants import paper_network
from underpaint.lab.reproduction.figures import Networks, figure5, figure6, figure8, figure9, figure10
from underpaint.lab.reproduction.limits import limits
from underpaint.lab.reproduction.measured import fingerprint, get_mockups
from underpaint.lab.reproduction.plan import Plan
from underpaint.lab.reproduction.simulation import simulation_set
from underpaint.lab.reproduction.tables import arm_rows, comparison, flat_rows, table3, write_result, write_table
from underpaint.runtime.job import resume_folder
from underpaint.runtime.progress import Progress

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
    finetuned(plan, paper, "pixels", random_pixels(len(mockups), plan.seed, 1), progress)
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
