"""Training runs with a split, checkpoints, early stopping and scores."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, RichProgressBar
from numpy.typing import NDArray
from torch import nn

from underpaint.errors import TrainingError
from underpaint.lab.networks import AutoencoderNetwork, build_network
from underpaint.lab.training.batches import Batches
from underpaint.lab.training.calibration import calibrate_network, reset_calibration
from underpaint.lab.training.checkpoint import (
    TrainedNetwork,
    card_for,
    card_with_training,
    checkpoint_description,
    load_checkpoint,
    portable_settings,
    spec_for,
)
from underpaint.lab.training.library import Library, load_library
from underpaint.lab.training.metrics import NameScores, macro_mean, scores_by_name
from underpaint.lab.training.module import PigmentModule, ReconstructionModule, batch_loss, log_odds, silence_messages
from underpaint.lab.training.settings import TrainSettings
from underpaint.lab.training.split import Split, split_by_settings, split_by_source
from underpaint.pigments.weights import ModelCard
from underpaint.runtime.files import json_types, write_json
from underpaint.runtime.job import resume_folder
from underpaint.runtime.progress import Progress

_CHANGEABLE_SETTINGS = ("epochs", "patience", "precision", "calibration")
_MIN_CALIBRATION_SOURCES = 400
"""Minimum number of held-out stratigraphies for the calibration of a network."""
_MACRO_SCORES = ("auprc", "accuracy", "sensitivity", "f1", "always_yes_f1")


@dataclass(frozen=True)
class TrainReport:
    """Results of a training run.

    Parameters
    ----------
    trained_model : TrainedNetwork
        The best network with its model card.
    checkpoint : Path
        File of the best network.
    epochs : int
        Number of epochs, including those before a resumption.
    resumed_from_epoch : int
        First epoch of this call, or 0 for a new run.
    validation_loss : float
        Loss of the best network on the validation set.
    validation_scores, test_scores : tuple of NameScores
        Scores by name. ``test_scores`` is empty without a test set.
    """

    trained_model: TrainedNetwork
    checkpoint: Path
    epochs: int
    resumed_from_epoch: int
    validation_loss: float
    validation_scores: tuple[NameScores, ...]
    test_scores: tuple[NameScores, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the scores for JSON, with None instead of NaN."""
        scores: dict[str, Any] = json_types(
            {
                "epochs": self.epochs,
                "validation_loss": self.validation_loss,
                "validation": score_summary(self.validation_scores),
                "test": score_summary(self.test_scores),
            }
        )
        return scores


def train(settings: TrainSettings, library: Library | None = None, *, network: nn.Module | None = None) -> TrainReport:
    """Train a network. The same call resumes an interrupted run.

    Parameters
    ----------
    settings : TrainSettings
        Library and settings of the training. ``last.ckpt``, ``best.ckpt`` and ``report.json`` are written to
        ``settings.out``.
    library : Library or None
        Spectra in memory, or None to read ``settings.library``.
    network : Module or None
        Initial network, which is trained in place, or None for random initial weights.
        The initial network must have the kind in the settings, and the axis and names of the library.

    Returns
    -------
    TrainReport
        The best network and its scores on the validation and the test set.

    Raises
    ------
    TrainingError
        The library cannot be used, ``network`` does not match the library, or ``settings.out`` contains another run.
    """
    training_library = _load_libraries(settings) if library is None else library
    split = split_by_settings(training_library.source, settings)
    lightning.seed_everything(settings.seed, verbose=False)
    model_card = card_for(training_library, settings, split.train.size)
    new_network = build_network(spec_for(model_card))
    start_network = load_checkpoint(settings.start).network if network is None and settings.start else network
    return run_training(
        new_network if start_network is None else _require_same_weights(new_network, start_network),
        model_card,
        training_library,
        split,
        settings,
    )


def _load_libraries(settings: TrainSettings) -> Library:
    return load_library(
        settings.library, half_precision=not settings.follows_paper_protocol, lines=settings.present == "lines"
    )


def _require_same_weights(new_network: nn.Module, network: nn.Module) -> nn.Module:
    """Return ``network``, or raise an error if its weights do not have the names and sizes of ``new_network``."""
    expected_shapes, given_shapes = (
        {weight_name: weight_tensor.shape for weight_name, weight_tensor in module.state_dict().items()}
        for module in (new_network, network)
    )
    differing_weights = sorted(
        weight_name
        for weight_name in expected_shapes | given_shapes
        if expected_shapes.get(weight_name) != given_shapes.get(weight_name)
    )
    if differing_weights:
        raise TrainingError(
            f"Cannot train the given {type(network).__name__}: settings and library need another "
            f"{type(new_network).__name__} with other weights ({', '.join(differing_weights[:3])}). Build a network "
            "for this kind, these bins and these names."
        )
    return network


def cross_validate(settings: TrainSettings, library: Library | None = None) -> tuple[TrainReport, ...]:
    """Train once per fold, as in the paper. Folds have different validation sets but the same test set.

    Parameters
    ----------
    settings : TrainSettings
        Settings as for :func:`train`. There are ``1 / validation_share`` folds, each in a folder ``fold_<k>`` of
        ``settings.out``.
    library : Library or None
        Spectra in memory, or None to read ``settings.library``.

    References
    ----------
    X. Xu et al., J. Anal. At. Spectrom. (2022), doi 10.1039/d2ja00246a, section 2.4 (five folds).
    """
    training_library = _load_libraries(settings) if library is None else library
    return tuple(
        train(settings.model_copy(update={"fold": fold, "out": settings.out / f"fold_{fold}"}), training_library)
        for fold in range(settings.n_fold)
    )


def run_training(
    network: nn.Module,
    model_card: ModelCard,
    library: Library,
    split: Split,
    settings: TrainSettings,
    *,
    trainable: tuple[str, ...] | None = None,
    progress: Progress | None = None,
) -> TrainReport:
    """Train a network on a split, score the network of the best epoch, and write this network and its scores.

    The results are written to ``settings.out``. ``trainable`` has the names of the layers to train. If None, all layers
    are trained. ``progress`` is called with ("Training", number of finished steps, total number of steps).
    """
    last_checkpoint = open_folder(settings)
    resume_checkpoint = last_checkpoint if last_checkpoint.is_file() else None
    start_epoch = next_epoch(resume_checkpoint)
    if not is_finished(resume_checkpoint, settings):
        reset_calibration(network)
        network.train()
        pigment_module = PigmentModule(
            network, settings, checkpoint_description(network, model_card), trainable=trainable
        )
        fit(pigment_module, library, split, settings, resume_checkpoint, progress=progress)
    best_model = _calibrate_if_possible(
        load_checkpoint(settings.out / "best.ckpt"), library, split.validation, settings
    )
    validation_scores = score(best_model.network, library, split.validation, settings)
    test_scores = score(best_model.network, library, split.test, settings) if split.test.size else ()
    epochs = next_epoch(last_checkpoint)
    scores_by_set = {"validation": score_summary(validation_scores), "test": score_summary(test_scores)}
    report = TrainReport(
        trained_model=TrainedNetwork(
            best_model.network, card_with_training(best_model.card, epochs=epochs, scores=scores_by_set)
        ),
        checkpoint=settings.out / "best.ckpt",
        epochs=epochs,
        resumed_from_epoch=start_epoch,
        validation_loss=best_loss(last_checkpoint),
        validation_scores=validation_scores,
        test_scores=test_scores,
    )
    write_json(settings.out / "report.json", report.as_dict())
    return report


def _calibrate_if_possible(
    best_model: TrainedNetwork, library: Library, rows: NDArray[np.int64], settings: TrainSettings
) -> TrainedNetwork:
    """Calibrate the network, unless structures are too few or spectra are measured."""
    if settings.has_layers and settings.calibration is not None:
        calibration_library = load_library(settings.calibration, half_precision=True, lines=settings.present == "lines")
        return calibrate_network(best_model, calibration_library, np.arange(len(calibration_library)), settings)
    if not settings.has_layers or library.has_noise or np.unique(library.source[rows]).size < _MIN_CALIBRATION_SOURCES:
        return replace(best_model, card=best_model.card.model_copy(update={"sets": None}))
    return calibrate_network(best_model, library, rows, settings)


def fit(
    module: lightning.LightningModule,
    library: Library,
    split: Split,
    settings: TrainSettings,
    resume_checkpoint: Path | None,
    *,
    progress: Progress | None = None,
) -> None:
    """Run the Lightning loop for a module that logs "validation_loss", from ``resume_checkpoint`` if it is given."""
    # Lightning recommends worker processes, which are not needed for batches from memory
    ignored_warnings = (".*does not have many workers.*", ".*exists and is not empty.*", ".*isinstance.treespec.*")
    with _set_threads(settings.threads), silence_messages("lightning.pytorch", logging.WARNING, *ignored_warnings):
        trainer = _trainer(settings, progress)
        try:
            trainer.fit(
                module,
                train_dataloaders=Batches(library, split.train, settings, shuffle=True),
                val_dataloaders=Batches(library, split.validation, settings, shuffle=False),
                ckpt_path=None if resume_checkpoint is None else str(resume_checkpoint),
                weights_only=True,
            )
        except SystemExit as exit_error:
            # Lightning converts Ctrl-C to SystemExit, but the caller handles KeyboardInterrupt
            raise KeyboardInterrupt from exit_error


def score(network: nn.Module, library: Library, rows: Any, settings: TrainSettings) -> tuple[NameScores, ...]:
    """Return the scores of a network on the given rows, with one random spectrum per row."""
    network.eval()
    logits, labels, label_weights = [], [], []
    with torch.inference_mode():
        for batch in Batches(library, rows, settings, shuffle=False):
            logits.append(log_odds(network, batch).float().numpy())
            labels.append(batch.labels.numpy())
            label_weights.append(batch.weight.numpy())
    return scores_by_name(
        library.names, *(np.concatenate(batch_arrays) for batch_arrays in (logits, labels, label_weights))
    )


def validation_loss(network: nn.Module, library: Library, rows: NDArray[np.int64], settings: TrainSettings) -> float:
    """Return the mean loss over the given rows, computed as the validation loss in training."""
    network.eval()
    batch_losses, batch_sizes = [], []
    with torch.inference_mode():
        for batch in Batches(library, rows, settings, shuffle=False):
            batch_losses.append(float(batch_loss(network, batch)))
            batch_sizes.append(len(batch.labels))
    return float(np.average(batch_losses, weights=batch_sizes))


def answers(
    trained_model: TrainedNetwork, library: Library, rows: NDArray[np.int64], settings: TrainSettings
) -> NDArray[np.float32]:
    """Return the (n, n_name) probabilities of a network for the given rows, with one random spectrum per row."""
    with torch.inference_mode():
        batch_probabilities = [
            torch.sigmoid(log_odds(trained_model.network, batch)).float().numpy()
            for batch in Batches(library, rows, settings, shuffle=False)
        ]
    return np.concatenate(batch_probabilities)


def score_summary(scores: tuple[NameScores, ...]) -> dict[str, Any]:
    """Return the macro averages of the scores, and the scores by name."""
    if not scores:
        return {}
    macro_means = {f"macro_{score_name}": macro_mean(scores, score_name) for score_name in _MACRO_SCORES}
    return {**macro_means, "by_name": {name_scores.name: name_scores.as_dict() for name_scores in scores}}


def next_epoch(checkpoint_path: Path | None) -> int:
    """Return the epoch that follows a checkpoint, or 0 without a checkpoint."""
    if checkpoint_path is None:
        return 0
    return int(_read_checkpoint(checkpoint_path)["epoch"]) + 1


def best_loss(checkpoint_path: Path) -> float:
    """Return the lowest validation loss of a run so far."""
    return float(_early_stopping_state(checkpoint_path)["best_score"])


def _early_stopping_state(checkpoint_path: Path) -> dict[str, Any]:
    callback_states = _read_checkpoint(checkpoint_path)["callbacks"]
    stopping_state: dict[str, Any] = next(
        callback_state
        for callback_name, callback_state in callback_states.items()
        if callback_name.startswith("EarlyStopping")
    )
    return stopping_state


def is_finished(checkpoint_path: Path | None, settings: TrainSettings) -> bool:
    """Return whether a run has finished all its epochs or was stopped early."""
    if checkpoint_path is None:
        return False
    n_epoch_without_gain = int(_early_stopping_state(checkpoint_path)["wait_count"])
    return next_epoch(checkpoint_path) >= settings.epochs or n_epoch_without_gain >= settings.patience


def open_folder(settings: TrainSettings) -> Path:
    """Create the folder of a run, or check the settings in the folder. Return the path of the last checkpoint."""
    resume_folder(
        settings.out,
        {
            setting_name: setting_value
            for setting_name, setting_value in portable_settings(settings).items()
            if setting_name not in _CHANGEABLE_SETTINGS
        },
    )
    for name in ("last.ckpt", "best.ckpt"):
        if (settings.out / name).is_file():
            _read_checkpoint(settings.out / name)  # raises an error for a damaged file before training starts
    return settings.out / "last.ckpt"


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        return {"epoch": int(checkpoint["epoch"]), "callbacks": dict(checkpoint["callbacks"])}
    except Exception as error:  # torch raises exceptions of many classes
        raise TrainingError(
            f"Cannot continue the training in {path.parent}: the checkpoint {path.name} is damaged "
            f"({type(error).__name__}). Delete this file to start the training again. All other files are kept."
        ) from error


class _SeedEpochs(Callback):
    """Callback that seeds each epoch by its number, so that resumed runs have the same random numbers."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        trainer.train_dataloader.epoch = trainer.current_epoch
        # dropout uses torch's random generator, and checkpoints do not contain its state
        torch.manual_seed(pl_module.settings.seed + trainer.current_epoch)


class _ReportSteps(Callback):
    """Callback that reports the number of finished steps."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_train_batch_end(self, trainer: Any, *ignored_arguments: Any) -> None:
        del ignored_arguments
        self.progress("Training", trainer.global_step, int(trainer.estimated_stepping_batches))


def _trainer(settings: TrainSettings, progress: Progress | None) -> Any:
    best_callback = ModelCheckpoint(
        settings.out, filename="best", monitor="validation_loss", enable_version_counter=False
    )
    last_callback = ModelCheckpoint(settings.out, filename="last", enable_version_counter=False)
    stopping_callback = EarlyStopping("validation_loss", patience=settings.patience)
    callbacks: list[Callback] = [_SeedEpochs(), stopping_callback, best_callback, last_callback]
    if settings.progress:
        callbacks.append(RichProgressBar())
    if progress is not None:
        callbacks.append(_ReportSteps(progress))
    return lightning.Trainer(
        accelerator=settings.accelerator,
        devices=1,
        precision="bf16-mixed" if settings.precision == "bf16" else "32-true",
        max_epochs=settings.epochs,
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=settings.progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        gradient_clip_val=None if settings.follows_paper_protocol else 5.0,
    )


@contextmanager
def _set_threads(n_cpu_thread: int | None) -> Iterator[None]:
    n_thread_before = torch.get_num_threads()
    torch.set_num_threads(n_cpu_thread or n_thread_before)
    try:
        yield
    finally:
        torch.set_num_threads(n_thread_before)


def pretrain_autoencoder(library: Library, rows: NDArray[np.int64], settings: TrainSettings) -> AutoencoderNetwork:
    """Train an autoencoder to reconstruct spectra. The same call resumes an interrupted run.

    Parameters
    ----------
    library : Library
        Library of spectra. Labels are not used.
    rows : (n,) array
        Rows for training, without those of a test set.
        A fraction ``settings.validation_share`` of the stratigraphies is the validation set for early stopping.
    settings : TrainSettings
        Settings of the kind "autoencoder".
        ``last.ckpt``, ``best.ckpt`` and ``reconstruction.json`` are written to ``settings.out``. The subsequent
        training needs another folder.

    Returns
    -------
    AutoencoderNetwork
        Network with the encoder of the best epoch and a new dense layer, for the parameter ``network`` of
        :func:`underpaint.lab.training.train`.

    Raises
    ------
    TrainingError
        The settings are of another kind, the library has no names, or there are too few rows to split.
        The error is also raised if the folder contains a run with other settings.
    """
    n_pigment = len(library.names)
    _require_autoencoder(settings, n_pigment)
    lightning.seed_everything(settings.seed, verbose=False)
    network = AutoencoderNetwork(library.axis.n_bin, n_pigment)
    module = ReconstructionModule(network, library.axis.n_bin, settings)
    last_checkpoint = open_folder(settings)
    resume_checkpoint = last_checkpoint if last_checkpoint.is_file() else None
    if not is_finished(resume_checkpoint, settings):
        fit(module, library, _reconstruction_split(library, rows, settings), settings, resume_checkpoint)
    best_state = torch.load(settings.out / "best.ckpt", map_location="cpu", weights_only=True)
    module.cpu().load_state_dict(best_state["state_dict"])
    reconstruction_record = {"epochs": next_epoch(last_checkpoint), "validation_loss": best_loss(last_checkpoint)}
    write_json(settings.out / "reconstruction.json", reconstruction_record)
    return network


def _require_autoencoder(settings: TrainSettings, n_pigment: int) -> None:
    if settings.kind != "autoencoder":
        raise TrainingError(
            f'Cannot train a network of kind {settings.kind!r} to reconstruct spectra: only the kind "autoencoder" has '
            'a bottleneck. Set kind = "autoencoder".'
        )
    if n_pigment < 1:
        raise TrainingError(
            f"Cannot build the dense layer for {n_pigment} pigments: the library has no names. Give a library with the "
            "names for the subsequent training."
        )


def _reconstruction_split(library: Library, rows: NDArray[np.int64], settings: TrainSettings) -> Split:
    row_split = split_by_source(
        library.source[rows], seed=settings.seed, validation_share=settings.validation_share, test_share=0.0
    )
    return Split(train=rows[row_split.train], validation=rows[row_split.validation], test=rows[row_split.test])
