"""Table 3 of Xu et al. 2022 and beside it what it does not show: prevalence, calibration, what was held out."""

from typing import Any, Literal

from underpaint.lab.evaluation.parts import families, held_out, random_pixels, thicknesses
from underpaint.lab.reproduction.arms import (
    Answers,
    Contestant,
    Progress,
    asked,
    finetuned,
    pretrain,
)
from underpaint.lab.reproduction.contestants import default_network, paper_network
from underpaint.lab.reproduction.measured import the_mockups
from underpaint.lab.reproduction.mockups import Mockups
from underpaint.lab.reproduction.plan import Plan
from underpaint.lab.reproduction.scoring import over_folds, pooled
from underpaint.lab.reproduction.simulation import counted, mockup_library, simulation_set
from underpaint.lab.training import Library

N_SEED = 5
"""Perturbations of the mock-ups that fine-tuning is tried on."""


def table3(plan: Plan, progress: Progress) -> dict[str, Any]:
    """Run the arms of Table 3 and those beside it; what was trained is found again by the next call.

    Parameters
    ----------
    plan : Plan
        Sizes, epochs, seeds, folder.
    progress : callable
        Called with what is being done, and how much of it is done.

    Returns
    -------
    dict
        ``{arm: figures, ..., "about": {"seeds": ..., "seconds": ..., "epochs": ...}}``, figures by pigment as
        ``over_folds`` and ``pooled`` describe them.
    """
    progress("Measuring the virtual mock-ups", 0, 1)
    mockups = the_mockups(plan)
    progress("Simulating the paper's set", 0, 1)
    simulated = simulation_set(plan, mockups)
    checkpoints, simulation = pretrain(plan, simulated, progress)
    paper, ours = paper_network(checkpoints, mockups), default_network(mockups)
    random = random_pixels(len(mockups), plan.seed, plan.folds)
    found = {
        "simulation": simulation,
        "experimental_no_finetune": asked(plan, paper),
        "experimental_finetune": finetuned(plan, paper, "pixels", random, progress),
        "no_finetune_default_network": asked(plan, ours),
        "finetune_default_network": finetuned(plan, ours, "pixels", random, progress),
    }
    tables = {name: over_folds(each, name) for name, each in found.items()}
    for what, groups in (("structure", families(mockups)), ("thickness", thicknesses(mockups))):
        for contestant in (paper, ours) if groups else ():
            name = f"{what}_out_{contestant.name}"
            found[name] = finetuned(plan, contestant, what, held_out(groups, plan.seed), progress)
            tables[name] = pooled(found[name])
    by_seed = seeds(plan, paper, progress)
    # one fold each: what noise does, and the other reading of the thirteen materials
    for name, other in _other_sets(plan, simulated, mockups).items():
        (checkpoint,), found[name] = pretrain(plan, other, progress, name=name, folds=1)
        tables[name] = over_folds(found[name])
        there = asked(plan, paper_network([checkpoint], mockups))
        tables[name.replace("simulation", "no_finetune")] = over_folds(there)
    about = {
        "seeds": by_seed,
        "seconds": {name: round(each.seconds, 1) for name, each in found.items()},
        "epochs": {name: each.epochs for name, each in found.items()},
    }
    return {**tables, "about": about}


def _other_sets(plan: Plan, simulated: Library, mockups: Mockups) -> dict[str, Library]:
    materials: Literal["table1", "table2"] = "table1" if plan.materials == "table2" else "table2"
    reading = simulation_set(plan.model_copy(update={"materials": materials}), mockups)
    return {"simulation_counted": counted(simulated, plan), f"simulation_{materials}": reading}


def seeds(plan: Plan, paper: Contestant, progress: Progress) -> dict[str, dict[str, float]]:
    """Return mean F1 without and with fine-tuning for several perturbations of the mock-ups, on the same test spectra.

    The networks stay those that were trained with the background of the first. Measured mock-ups have no seed: empty.
    """
    table: dict[str, dict[str, float]] = {}
    if plan.mockups is not None:
        return table
    for seed in range(plan.mockup_seed, plan.mockup_seed + min(N_SEED, plan.folds)):
        own = plan.model_copy(update={"mockup_seed": seed})
        mockups = Contestant(paper.name, paper.starts[:1], mockup_library(the_mockups(own)))
        (part,) = random_pixels(len(mockups.mockups), plan.seed, 1)
        before = asked(plan, mockups)
        tested = Answers([before.probability[0][part.tested]], [before.label[0][part.tested]], before.learned, 0.0, 0)
        what = "pixels" if seed == plan.mockup_seed else f"pixels_seed_{seed}"
        after = finetuned(plan, mockups, what, [part], progress)
        no, yes = over_folds(tested)["mean"], over_folds(after)["mean"]
        table[str(seed)] = {"no_finetune": no["f1"], "finetune": yes["f1"], "always_yes": yes["always_yes"]["f1"]}
    return table
