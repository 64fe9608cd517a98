"""The arms of Table 3, and those that show what its protocol hides: networks trained, and what they answer."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from underpaint.reproduce.plan import Plan
from underpaint.train import (
    FinetuneSettings,
    Library,
    TrainSettings,
    answers,
    finetune,
    load_checkpoint,
    train,
)
from underpaint.train.split import split_by_source

Progress = Callable[[str, int, int], None]
FINETUNE_SHARE = 0.2
COUNTS_SCALE = 1e5
"""Total counts that the noise-free simulated spectra are scaled to."""


@dataclass(frozen=True)
class Answers:
    """What the networks of one arm say about spectra that they were not trained on.

    Parameters
    ----------
    probability, label : lists of (n, n_name) arrays
        One of each per fold.
    seconds : float
        Training and answering.
    epochs : int
        Epochs of all folds together.
    """

    probability: list[NDArray[np.float32]]
    label: list[NDArray[np.bool_]]
    seconds: float
    epochs: int


def pretrain(plan: Plan, simulated: Library, progress: Progress) -> tuple[list[Path], Answers]:
    """Train the paper's network on the simulation set, fold by fold; return checkpoints and answers to its test set."""
    settings = pretrain_settings(plan)
    start = time.perf_counter()
    checkpoints, probability, label, epochs = [], [], [], 0
    test = _test_rows(simulated, settings)
    for fold in range(plan.folds):
        progress("Training on the simulation set", fold, plan.folds)
        own = settings.model_copy(update={"fold": fold, "out": settings.out / f"fold_{fold}"})
        report = train(own, simulated)
        epochs += report.epochs
        checkpoints.append(own.out / "best.ckpt")
        probability.append(answers(report.trained, simulated, test, settings))
        label.append(simulated.labels[test] == 1)
    return checkpoints, Answers(probability, label, time.perf_counter() - start, epochs)


def pretrain_settings(plan: Plan) -> TrainSettings:
    """Return the paper's settings of pre-training: Adam 1e-3, batch 64, five folds, a fifth held out as the test."""
    return TrainSettings(
        library=(Path("simulation"),),
        out=plan.out / "networks" / "simulation",
        kind="xu2022",
        epochs=plan.epochs,
        patience=plan.patience,
        precision=plan.precision,
        counts_scale=COUNTS_SCALE,
        seed=plan.seed,
        progress=False,
    )


def without_finetuning(plan: Plan, checkpoints: list[Path], mockups: Library) -> Answers:
    """Return what the pre-trained networks say about every mock-up spectrum."""
    start = time.perf_counter()
    rows = np.arange(len(mockups))
    found = [answers(load_checkpoint(path), mockups, rows, pretrain_settings(plan)) for path in checkpoints]
    return Answers(found, [mockups.labels == 1] * len(found), time.perf_counter() - start, 0)


def finetuned(plan: Plan, checkpoints: list[Path], mockups: Library, progress: Progress) -> Answers:
    """Fine-tune on a random fifth of the mock-up spectra, as the paper does, and test on the others."""
    tests = [_random_fifth(mockups, plan.seed + fold) for fold in range(plan.folds)]
    return _finetuned(plan, "pixels", checkpoints, mockups, tests, progress)


def structures_held_out(
    plan: Plan, checkpoints: list[Path], mockups: Library, families: dict[str, NDArray[np.bool_]], progress: Progress
) -> Answers:
    """Fine-tune on a fifth of the spectra of all structures but a family's, and test on that family, each in turn."""
    tests = []
    for number, held_out in enumerate(families.values()):
        others = np.flatnonzero(~held_out)
        rng = np.random.default_rng((plan.seed, number))
        used = rng.choice(others, size=max(round(FINETUNE_SHARE * len(mockups)), 10), replace=False)
        tests.append((np.sort(used), np.flatnonzero(held_out)))
    return _finetuned(plan, "structures", checkpoints, mockups, tests, progress)


def _finetuned(
    plan: Plan,
    name: str,
    checkpoints: list[Path],
    mockups: Library,
    parts: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
    progress: Progress,
) -> Answers:
    start = time.perf_counter()
    probability, label, epochs = [], [], 0
    for number, (used, tested) in enumerate(parts):
        progress(f"Fine-tuning, {name} held out", number, len(parts))
        model = load_checkpoint(checkpoints[number % len(checkpoints)])
        settings = _finetune_settings(plan, plan.out / "networks" / f"{name}_{number}")
        report = finetune(model, settings, _rows(mockups, used))
        epochs += report.first.epochs + report.second.epochs
        probability.append(answers(report.trained, mockups, tested, settings))
        label.append(mockups.labels[tested] == 1)
    return Answers(probability, label, time.perf_counter() - start, epochs)


def _finetune_settings(plan: Plan, out: Path) -> FinetuneSettings:
    return FinetuneSettings(
        library=(Path("mockups"),),
        out=out,
        kind="xu2022",
        epochs=plan.finetune_epochs,
        dense_epochs=plan.dense_epochs,
        patience=plan.patience,
        precision=plan.precision,
        split="pixel",
        test_share=0.0,
        seed=plan.seed,
        progress=False,
    )


def _rows(library: Library, rows: NDArray[np.int64]) -> Library:
    """Return some of a library's spectra."""
    names = ("spectra", "recorded", "labels", "counts_needed", "source")
    return replace(library, **{name: getattr(library, name)[rows] for name in names})


def _random_fifth(library: Library, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.random.default_rng(seed).permutation(len(library))
    n_used = round(FINETUNE_SHARE * order.size)
    return np.sort(order[:n_used]), np.sort(order[n_used:])


def _test_rows(library: Library, settings: TrainSettings) -> NDArray[np.int64]:
    split = split_by_source(
        library.source,
        seed=settings.seed,
        validation_share=settings.validation_share,
        test_share=settings.test_share,
    )
    return split.test
