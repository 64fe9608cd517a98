"""Training and evaluation of networks for the arms of the paper's Table 3, and for additional arms."""

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
    TrainedNetwork,
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
"""Total counts to which the noise-free simulated spectra are scaled."""


@dataclass(frozen=True)
class Answers:
    """Predictions of the networks of one arm for spectra outside their training sets.

    Parameters
    ----------
    probability, label : lists of (n, n_name) arrays
        Predicted probabilities and true labels of each fold, for the paper's eleven pigments.
    is_learned : list of (n_name,) bool arrays
        For each fold, whether its training set contained the pigment.
    seconds : float
        Training time, in s, summed over interrupted runs.
    epochs : int
        Number of epochs, summed over the folds.
    """

    probability: list[NDArray[np.float32]]
    label: list[NDArray[np.bool_]]
    is_learned: list[NDArray[np.bool_]]
    seconds: float
    epochs: int


@dataclass(frozen=True)
class EvaluatedModel:
    """A pre-trained network, and the mock-ups on its energy axis.

    Parameters
    ----------
    name : str
        Name of the model and of its folders.
    initial_networks : sequence of TrainedNetwork or Path
        Initial networks, which the folds use in turn.
    mockups : Library
        Spectra of the mock-ups on the axis of the network, with labels for its outputs.
    is_restricted_to_palette : bool
        Whether the predictions before fine-tuning are restricted to the paper's pigments.
    marks_missing_as_unknown : bool
        Whether outputs without a positive spectrum in fine-tuning get unknown instead of absent labels.
    """

    name: str
    initial_networks: Sequence[TrainedNetwork | Path]
    mockups: Library
    is_restricted_to_palette: bool = False
    marks_missing_as_unknown: bool = False

    def initial_network(self, fold: int) -> TrainedNetwork:
        """Return the initial network of a fold."""
        initial_network = self.initial_networks[fold % len(self.initial_networks)]
        return load_checkpoint(initial_network) if isinstance(initial_network, Path) else initial_network

    def settings(self, plan: Plan, run_label: str) -> FinetuneSettings:
        """Return the paper's settings for fine-tuning, with a folder named after the network and the run."""
        return FinetuneSettings(
            library=(Path("mockups"),),
            out=plan.out / "networks" / f"{self.name}_{run_label}",
            kind=self.initial_network(0).card.kind,
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
    library: Library,
    progress: Progress,
    *,
    name: str = "simulation",
    folds: int | None = None,
    network_kind: NetworkKind = "xu2022",
) -> tuple[list[Path], Answers]:
    """Train a network on each fold of a simulation set, and return checkpoints and predictions for the test set.

    Parameters
    ----------
    plan : Plan
        Sizes, epochs and seeds.
    library : Library
        Simulation set. The test set, a fifth of the stratigraphies, is the same for all folds.
    progress : callable
        Called with (description, number of steps done, total number of steps).
    name : str
        Name of the networks' folder.
    folds : int or None
        Maximum number of folds, if it is less than that of the plan.
    network_kind : str
        Kind of the network, by default that of the paper.
    """
    settings = pretrain_settings(plan, name, network_kind)
    rows_for_test = test_rows(library, plan)
    checkpoints, probability, seconds, epochs = [], [], 0.0, 0
    n_fold = plan.folds if folds is None else min(folds, plan.folds)
    for fold in range(n_fold):
        progress(f"Training, {name.replace('_', ' ')}", fold, n_fold)
        fold_settings = settings.model_copy(update={"fold": fold, "out": settings.out / f"fold_{fold}"})
        with measure_seconds(fold_settings.out) as training_clock:
            training_report = train(fold_settings, library, network=_pretrained_autoencoder(fold_settings, library))
        epochs += training_report.epochs
        seconds += training_clock.seconds
        checkpoints.append(fold_settings.out / "best.ckpt")
        probability.append(
            paper_columns(library, answers(training_report.trained_model, library, rows_for_test, settings))
        )
    true_labels = paper_columns(library, library.labels[rows_for_test]) == 1
    is_learned = np.ones(true_labels.shape[1], dtype=bool)
    return checkpoints, Answers(probability, [true_labels] * n_fold, [is_learned] * n_fold, seconds, epochs)


def _pretrained_autoencoder(settings: TrainSettings, library: Library) -> AutoencoderNetwork | None:
    """Return an autoencoder that is pre-trained on the training spectra, or None for other kinds of networks."""
    if settings.kind != "autoencoder":
        return None
    training_rows = np.setdiff1d(np.arange(len(library)), split_by_settings(library.source, settings).test)
    claim_folder(settings.out)  # raises an error for a folder with other files before training starts
    return pretrain_autoencoder(
        library, training_rows, settings.model_copy(update={"out": settings.out / "reconstruction"})
    )


def test_rows(library: Library, plan: Plan) -> NDArray[np.int64]:
    """Return the rows of a simulation set that are the test set of all folds."""
    return split_by_settings(library.source, pretrain_settings(plan)).test


def pretrain_settings(plan: Plan, name: str = "simulation", network_kind: NetworkKind = "xu2022") -> TrainSettings:
    """Return the paper's settings for pre-training, such as five folds and a fifth of the spectra as test set."""
    return TrainSettings(
        library=(Path("simulation"),),
        out=plan.out / "networks" / name,
        kind=network_kind,
        epochs=plan.epochs,
        patience=plan.patience,
        precision=plan.precision,
        counts_scale=COUNTS_SCALE,
        seed=plan.seed,
        progress=False,
    )


def predict_mockups(plan: Plan, contestant: EvaluatedModel) -> Answers:
    """Return the predictions for every mock-up spectrum by the pre-trained network of each fold."""
    rows = np.arange(len(contestant.mockups))
    settings = contestant.settings(plan, "asked")
    select_columns = restrict_to_palette if contestant.is_restricted_to_palette else paper_columns
    predictions = [
        select_columns(
            contestant.mockups, answers(contestant.initial_network(fold), contestant.mockups, rows, settings)
        )
        for fold in range(len(contestant.initial_networks))
    ]
    true_labels = paper_columns(contestant.mockups, contestant.mockups.labels) == 1
    n_fold = len(predictions)
    return Answers(predictions, [true_labels] * n_fold, [np.ones(true_labels.shape[1], dtype=bool)] * n_fold, 0.0, 0)


def finetune_on_splits(
    plan: Plan, contestant: EvaluatedModel, run_label: str, splits: Sequence[Split], progress: Progress
) -> Answers:
    """Fine-tune a network on the fine-tuning set of each split, and return predictions for the test sets."""
    probability, true_labels, is_learned, seconds, epochs = [], [], [], 0.0, 0
    for split_number, split in enumerate(splits):
        progress(f"Fine-tuning {contestant.name}, {run_label}", split_number, len(splits))
        settings = contestant.settings(plan, f"{run_label}_{split_number}")
        with measure_seconds(settings.out) as training_clock:
            report = finetune(
                contestant.initial_network(split_number), settings, _finetuning_spectra(contestant, split.finetune_rows)
            )
        epochs += report.first_step.epochs + report.second_step.epochs
        seconds += training_clock.seconds
        mockups = contestant.mockups
        probability.append(paper_columns(mockups, answers(report.trained_model, mockups, split.test_rows, settings)))
        true_labels.append(paper_columns(mockups, mockups.labels[split.test_rows]) == 1)
        is_learned.append((paper_columns(mockups, mockups.labels[split.finetune_rows]) == 1).any(axis=0))
    return Answers(probability, true_labels, is_learned, seconds, epochs)


def paper_columns(library: Library, output_columns: NDArray[Any]) -> NDArray[Any]:
    """Return the columns of the paper's eleven pigments."""
    return output_columns[:, [library.names.index(name) for name in paper_outputs().names]]


def restrict_to_palette(library: Library, probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the (n, 11) probabilities of the paper's pigments, given that no other pigments were used.

    The most probable pigment of a group gets the probability of the group. The probabilities of the group's other
    pigments are scaled by the factor of the most probable pigment. A pigment of two groups gets the smaller of its two
    probabilities.
    """
    outputs = paper_outputs()
    member_probability = paper_columns(library, probability)
    probability_in_palette = np.ones_like(member_probability)
    for group_name in sorted({group_name for group in outputs.groups for group_name in group}):
        member_columns = [member_column for member_column, group in enumerate(outputs.groups) if group_name in group]
        relative_probability = member_probability[:, member_columns] / np.maximum(
            member_probability[:, member_columns].max(axis=1, keepdims=True), 1e-9
        )
        group_probability = probability[:, [library.names.index(group_name)]]
        probability_in_palette[:, member_columns] = np.minimum(
            probability_in_palette[:, member_columns], group_probability * relative_probability
        )
    return probability_in_palette


@dataclass
class TrainingClock:
    """Training time of the networks in a folder, in s."""

    seconds: float


@contextmanager
def measure_seconds(folder: Path) -> Iterator[TrainingClock]:
    """Measure the training time of the networks in a folder, summed over interrupted runs.

    The duration of a call without training is not added.
    """
    record_path, checkpoints = folder / "seconds.json", sorted(folder.rglob("last.ckpt"))
    training_clock = TrainingClock(
        json.loads(record_path.read_text("utf-8"))["seconds"] if record_path.is_file() else 0.0
    )
    times_of_checkpoints = {path: path.stat().st_mtime_ns for path in checkpoints}
    start_time = time.perf_counter()
    yield training_clock
    if {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("last.ckpt"))} == times_of_checkpoints:
        return
    training_clock.seconds += time.perf_counter() - start_time
    write_json(record_path, {"seconds": training_clock.seconds})


def _finetuning_spectra(contestant: EvaluatedModel, rows: NDArray[np.int64]) -> Library:
    """Return the spectra for fine-tuning, with their labels."""
    spectra = contestant.mockups.select_rows(rows)
    return absent_as_unknown(spectra) if contestant.marks_missing_as_unknown else spectra
