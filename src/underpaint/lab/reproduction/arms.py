"""Training and evaluation of networks: the arms of Table 3, and additional ones that test its protocol."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.lab.evaluation.parts import Split
from underpaint.lab.networks import AutoencoderNetwork
from underpaint.lab.reproduction.plan import Plan
from underpaint.lab.reproduction.simulation import paper_outputs
from underpaint.lab.training import (
    FinetuneSettings,
    Library,
    Trained,
    TrainSettings,
    answers,
    finetune,
    load_checkpoint,
    train,
)
from underpaint.lab.training.labelled import absent_as_unknown
from underpaint.lab.training.loop import pretrain_autoencoder
from underpaint.lab.training.split import split_by_settings
from underpaint.pigments.weights import NetworkKind
from underpaint.runtime.files import claim_folder, write_json
from underpaint.runtime.progress import Progress

COUNTS_SCALE = 1e5
"""Total counts that the noise-free simulated spectra are scaled to."""


@dataclass(frozen=True)
class Answers:
    """Predictions of the networks of one arm for spectra outside their training.

    Parameters
    ----------
    probability, label : lists of (n, n_name) arrays
        One of each per fold, for the paper's eleven pigments.
    learned : list of (n_name,) bool arrays
        Whether a fold's training included the pigment.
    seconds : float
        Training, in all calls that it took.
    epochs : int
        Epochs of all folds together.
    """

    probability: list[NDArray[np.float32]]
    label: list[NDArray[np.bool_]]
    learned: list[NDArray[np.bool_]]
    seconds: float
    epochs: int


@dataclass(frozen=True)
class EvaluatedModel:
    """A pre-trained network with the mock-ups on its energy axis.

    Parameters
    ----------
    name : str
        Name of its folders.
    starts : sequence of Trained or Path
        Initial networks by fold, used cyclically.
    mockups : Library
        Counts on the network's axis, labelled with its names.
    in_palette : bool
        Before fine-tuning, restrict the predictions to the paper's pigments.
    open_minded : bool
        Outputs without a positive spectrum in fine-tuning are kept, not learned as absent.
    """

    name: str
    starts: Sequence[Trained | Path]
    mockups: Library
    in_palette: bool = False
    open_minded: bool = False

    def start(self, fold: int) -> Trained:
        """Return the initial network of a fold."""
        start = self.starts[fold % len(self.starts)]
        return load_checkpoint(start) if isinstance(start, Path) else start

    def settings(self, plan: Plan, label_of_run: str) -> FinetuneSettings:
        """Return the paper's settings of fine-tuning, for a folder named after the network and the run."""
        return FinetuneSettings(
            library=(Path("mockups"),),
            out=plan.out / "networks" / f"{self.name}_{label_of_run}",
            kind=self.start(0).card.kind,
            epochs=plan.finetune_epochs,
            dense_epochs=plan.dense_epochs,
            patience=plan.patience,
            precision=plan.precision,
            split="pixel",
            hidden_labels=True,
            test_share=0.0,
            seed=plan.seed,
            progress=False,
        )


def pretrain(
    plan: Plan,
    simulated: Library,
    progress: Progress,
    *,
    name: str = "simulation",
    folds: int | None = None,
    kind: NetworkKind = "xu2022",
) -> tuple[list[Path], Answers]:
    """Train a network on a simulation set, fold by fold; return checkpoints and predictions for its test set.

    Parameters
    ----------
    plan, progress : Plan, callable
        As everywhere.
    simulated : Library
        A fifth of its stratigraphies is the test, whatever the fold.
    name : str
        Folder of the networks.
    folds : int or None
        Fewer folds than the plan has.
    kind : str
        The paper's network, or another one trained in the same way.
    """
    settings = pretrain_settings(plan, name, kind)
    test = test_rows(simulated, plan)
    checkpoints, probability, seconds, epochs = [], [], 0.0, 0
    n_fold = plan.folds if folds is None else min(folds, plan.folds)
    for fold in range(n_fold):
        progress(f"Training, {name.replace('_', ' ')}", fold, n_fold)
        fold_settings = settings.model_copy(update={"fold": fold, "out": settings.out / f"fold_{fold}"})
        with timed(fold_settings.out) as clock:
            report = train(fold_settings, simulated, network=_reconstructing(fold_settings, simulated))
        epochs += report.epochs
        seconds += clock.seconds
        checkpoints.append(fold_settings.out / "best.ckpt")
        probability.append(of_paper(simulated, answers(report.trained, simulated, test, settings)))
    label = of_paper(simulated, simulated.labels[test]) == 1
    learned = np.ones(label.shape[1], dtype=bool)
    return checkpoints, Answers(probability, [label] * n_fold, [learned] * n_fold, seconds, epochs)


def _reconstructing(settings: TrainSettings, simulated: Library) -> AutoencoderNetwork | None:
    """Return an autoencoder that has learned to reconstruct the spectra of the training; None for other kinds."""
    if settings.kind != "autoencoder":
        return None
    rows = np.setdiff1d(np.arange(len(simulated)), split_by_settings(simulated.source, settings).test)
    claim_folder(settings.out)  # files of other origin in the folder; the training checks it before it starts
    return pretrain_autoencoder(simulated, rows, settings.model_copy(update={"out": settings.out / "reconstruction"}))


def test_rows(simulated: Library, plan: Plan) -> NDArray[np.int64]:
    """Return the rows of a simulation set that no fold is trained on."""
    return split_by_settings(simulated.source, pretrain_settings(plan)).test


def pretrain_settings(plan: Plan, name: str = "simulation", kind: NetworkKind = "xu2022") -> TrainSettings:
    """Return the paper's settings of pre-training: Adam 1e-3, batch 64, five folds, a fifth held out as the test."""
    return TrainSettings(
        library=(Path("simulation"),),
        out=plan.out / "networks" / name,
        kind=kind,
        epochs=plan.epochs,
        patience=plan.patience,
        precision=plan.precision,
        counts_scale=COUNTS_SCALE,
        seed=plan.seed,
        progress=False,
    )


def predict_mockups(plan: Plan, contestant: EvaluatedModel) -> Answers:
    """Return the predictions of the pre-trained networks for every mock-up spectrum."""
    rows = np.arange(len(contestant.mockups))
    settings = contestant.settings(plan, "asked")
    read = read_in_palette if contestant.in_palette else of_paper
    predictions = [
        read(contestant.mockups, answers(contestant.start(fold), contestant.mockups, rows, settings))
        for fold in range(len(contestant.starts))
    ]
    label = of_paper(contestant.mockups, contestant.mockups.labels) == 1
    n_fold = len(predictions)
    return Answers(predictions, [label] * n_fold, [np.ones(label.shape[1], dtype=bool)] * n_fold, 0.0, 0)


def finetuned(
    plan: Plan, contestant: EvaluatedModel, label_of_run: str, splits: Sequence[Split], progress: Progress
) -> Answers:
    """Fine-tune in the paper's two steps on one half of each split and predict the other."""
    probability, label, learned, seconds, epochs = [], [], [], 0.0, 0
    for number, split in enumerate(splits):
        progress(f"Fine-tuning {contestant.name}, {label_of_run}", number, len(splits))
        settings = contestant.settings(plan, f"{label_of_run}_{number}")
        with timed(settings.out) as clock:
            report = finetune(contestant.start(number), settings, _shown(contestant, split.finetune_rows))
        epochs += report.first.epochs + report.second.epochs
        seconds += clock.seconds
        mockups = contestant.mockups
        probability.append(of_paper(mockups, answers(report.trained, mockups, split.test_rows, settings)))
        label.append(of_paper(mockups, mockups.labels[split.test_rows]) == 1)
        learned.append((of_paper(mockups, mockups.labels[split.finetune_rows]) == 1).any(axis=0))
    return Answers(probability, label, learned, seconds, epochs)


def of_paper(library: Library, values: NDArray[Any]) -> NDArray[Any]:
    """Return the columns of the paper's eleven pigments."""
    return values[:, [library.names.index(name) for name in paper_outputs().names]]


def read_in_palette(library: Library, probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the (n, 11) probabilities of the paper's pigments, knowing that no others were used.

    The most probable pigment of a group gets the group's probability, the others are scaled by the same factor; a
    pigment of two groups gets the smaller probability.
    """
    outputs = paper_outputs()
    member = of_paper(library, probability)
    probability_in_palette = np.ones_like(member)
    for name in sorted({name for group in outputs.groups for name in group}):
        columns = [column for column, group in enumerate(outputs.groups) if name in group]
        share = member[:, columns] / np.maximum(member[:, columns].max(axis=1, keepdims=True), 1e-9)
        group_probability = probability[:, [library.names.index(name)]]
        probability_in_palette[:, columns] = np.minimum(probability_in_palette[:, columns], group_probability * share)
    return probability_in_palette


@dataclass
class Clock:
    """Seconds of work in all calls so far."""

    seconds: float


@contextmanager
def timed(folder: Path) -> Iterator[Clock]:
    """Accumulate the training time of a folder over all calls, without reading of finished results."""
    note, last = folder / "seconds.json", sorted(folder.rglob("last.ckpt"))
    clock = Clock(json.loads(note.read_text("utf-8"))["seconds"] if note.is_file() else 0.0)
    before = {path: path.stat().st_mtime_ns for path in last}
    start = time.perf_counter()
    yield clock
    if {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("last.ckpt"))} == before:
        return
    clock.seconds += time.perf_counter() - start
    write_json(note, {"seconds": clock.seconds})


def _shown(contestant: EvaluatedModel, rows: NDArray[np.int64]) -> Library:
    """Return the spectra that fine-tune, with their labels."""
    shown = contestant.mockups.rows(rows)
    return absent_as_unknown(shown) if contestant.open_minded else shown
