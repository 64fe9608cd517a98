"""The paper's "future work", as far as it is a choice of model, and this package's network: one table."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from underpaint.lab.evaluation.parts import random_pixels
from underpaint.lab.networks import parameter_count
from underpaint.lab.reproduction.arms import Answers, Contestant, Progress, asked, finetuned, pretrain
from underpaint.lab.reproduction.contestants import default_network, paper_network
from underpaint.lab.reproduction.measured import the_mockups
from underpaint.lab.reproduction.mockups import Mockups
from underpaint.lab.reproduction.plan import Plan
from underpaint.lab.reproduction.scoring import over_folds
from underpaint.lab.reproduction.simulation import MIXED_FROM, paper_outputs, simulated_as_in_paper, study_grid
from underpaint.lab.training import Library, answers
from underpaint.physics.materials import Stratigraphy, library
from underpaint.pigments.weights import NetworkKind
from underpaint.simulate import outputs_for
from underpaint.simulate.recipes import paper_grid, paper_layers

MOST_IN_A_LAYER = 4
N_PIGMENT = 30
Samples = tuple[list[Stratigraphy], list[set[str]]]


def comparison(plan: Plan, progress: Progress) -> dict[str, Any]:
    """Train every kind of network on a share of the grid, one fold each, and set them side by side.

    Returns
    -------
    dict
        ``{model: {"parameters", "outputs", "seconds", "epochs", "spectra_per_second", "f1_simulation", "f1_mockups",
        "f1_finetuned", "always_yes_f1"}}``: mean F1 of the paper's eleven pigments on simulated test spectra of the
        model's own set, and on virtual mock-ups without fine-tuning and after the paper's, one random fifth. Seconds
        are those of training, fine-tuning apart; what trained the default network is not counted here.
    """
    mockups = the_mockups(plan)
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
        checkpoints, own = pretrain(plan, simulated, progress, name=f"comparison_{name}", folds=1, kind=kind)
        contestant = paper_network(checkpoints, mockups, name=f"comparison_{name}", of=simulated)
        table[name] = _row(plan, contestant, mockups, own, progress)
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
    """Return the paper's eleven pigments and nineteen more of the library that X-rays show, in its order."""
    paper = list(paper_outputs().names)
    visible = {group.name for group in library().groups if group.visible}
    others = [each.name for each in library() if each.name not in paper and visible.intersection(each.groups)]
    return (*paper, *others[: N_PIGMENT - len(paper)])


def thirty_pigments(plan: Plan) -> Samples:
    """Return stratigraphies like the paper's, one pigment a layer, drawn from thirty."""
    rng = np.random.default_rng((plan.seed, 6))
    samples, contents = [], []
    for *_, top_um, bottom_um in paper_grid(plan.materials)[:: plan.grid_step * plan.study_step]:
        pair = [str(name) for name in rng.choice(thirty_names(), size=2)]
        samples.append(paper_layers([{name: 1.0} for name in pair], (top_um, bottom_um)))
        contents.append(set(pair))
    return samples, contents


def _mixture(names: Sequence[str], rng: np.random.Generator) -> dict[str, float]:
    picked = rng.choice(names, size=int(rng.integers(1, MOST_IN_A_LAYER + 1)), replace=False)
    return dict(zip(map(str, picked), rng.dirichlet(np.ones(picked.size)).tolist(), strict=True))


def _row(
    plan: Plan, contestant: Contestant, mockups: Mockups, own: Answers | None, progress: Progress
) -> dict[str, Any]:
    (part,) = random_pixels(len(mockups), plan.seed, 1)
    after = finetuned(plan, contestant, "pixels", [part], progress)
    return {
        "parameters": parameter_count(contestant.start(0).network),
        "outputs": len(contestant.mockups.names),
        "seconds": None if own is None else round(own.seconds, 1),
        "epochs": None if own is None else own.epochs,
        "spectra_per_second": _speed(plan, contestant),
        "f1_simulation": None if own is None else over_folds(own)["mean"]["f1"],
        "f1_mockups": over_folds(asked(plan, contestant))["mean"]["f1"],
        "f1_finetuned": over_folds(after)["mean"]["f1"],
        "always_yes_f1": over_folds(after)["mean"]["always_yes"]["f1"],
    }


def _speed(plan: Plan, contestant: Contestant) -> float:
    rows = np.arange(min(len(contestant.mockups), 1000))
    trained, settings = contestant.start(0), contestant.settings(plan, "asked")
    answers(trained, contestant.mockups, rows[:64], settings)
    start = time.perf_counter()
    answers(trained, contestant.mockups, rows, settings)
    return round(len(rows) / (time.perf_counter() - start), 1)
