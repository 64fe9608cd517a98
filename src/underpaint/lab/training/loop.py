"""Training runs: split, loop with checkpoints and early stopping, scores."""

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
from underpaint.lab.training.calibration import calibrate_network, uncalibrate
from underpaint.lab.training.checkpoint import (
    TrainedNetwork,
    card_for,
    checkpoint_facts,
    config_of,
    load_checkpoint,
    spec_for,
    with_training,
)
from underpaint.lab.training.library import Library, load_library
from underpaint.lab.training.metrics import NameScores, macro_mean, scores_by_name
from underpaint.lab.training.module import PigmentModule, ReconstructionModule, log_odds, loss_of, silence_messages
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
        Number of epochs, those before a resumption included.
    resumed_from_epoch : int
        First epoch of this call; 0 for a new run.
    validation_loss : float
        Loss of the best network on the validation set.
    validation_scores, test_scores : tuple of NameScores
        Scores by name; those of the test set are empty if there is no test set.
    """

    trained_model: TrainedNetwork
    checkpoint: Path
    epochs: int
    resumed_from_epoch: int
    validation_loss: float
    validation_scores: tuple[NameScores, ...]
    test_scores: tuple[NameScores, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the scores for JSON; NaN becomes null."""
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
    """Train a network; the same call continues an interrupted run.

    Parameters
    ----------
    settings : TrainSettings
        Library and settings of the training. ``last.ckpt``, ``best.ckpt`` and ``report.json`` are written to
        ``settings.out``.
    library : Library or None
        Spectra in memory; None reads ``settings.library``.
    network : Module or None
        Initial network, for example a pre-trained autoencoder, with the kind of the settings and the axis and names of
        the library. It is trained in place. None for random initial weights.

    Returns
    -------
    TrainReport
        The best network and its scores on the validation and the test set.

    Raises
    ------
    TrainingError
        The library cannot be used, ``network`` does not fit it, or ``settings.out`` contains a run with
        other settings.
    """
    data = _load_libraries(settings) if library is None else library
    split = split_by_settings(data.source, settings)
    lightning.seed_everything(settings.seed, verbose=False)
    model_card = card_for(data, settings, split.train.size)
    new_network = build_network(spec_for(model_card))
    start_network = load_checkpoint(settings.start).network if network is None and settings.start else network
    return run_training(
        new_network if start_network is None else _require_same_weights(new_network, start_network),
        model_card,
        data,
        split,
        settings,
    )


def _load_libraries(settings: TrainSettings) -> Library:
    return load_library(settings.library, half_precision=not settings.paper_protocol, lines=settings.present == "lines")


def _require_same_weights(new_network: nn.Module, network: nn.Module) -> nn.Module:
    """Return ``network``; raise an error if names or sizes of its weights are not those of the settings."""
    expected_shapes, given_shapes = (
        {name: value.shape for name, value in module.state_dict().items()} for module in (new_network, network)
    )
    differing_names = sorted(
        name for name in expected_shapes | given_shapes if expected_shapes.get(name) != given_shapes.get(name)
    )
    if differing_names:
        raise TrainingError(
            f"Cannot train the given {type(network).__name__}: settings and library need another "
            f"{type(new_network).__name__} (they differ in {', '.join(differing_names[:3])}). Build it for this kind, "
            "these bins and these names."
        )
    return network


def cross_validate(settings: TrainSettings, library: Library | None = None) -> tuple[TrainReport, ...]:
    """Train once per fold, as in the paper; the validation set changes, the test set does not.

    Parameters
    ----------
    settings : TrainSettings
        Settings as for :func:`train`. There are ``1 / validation_share`` folds, each in a folder ``fold_<k>`` of
        ``settings.out``.
    library : Library or None
        Spectra in memory; None reads ``settings.library``.

    References
    ----------
    X. Xu et al., J. Anal. At. Spectrom. (2022), doi 10.1039/d2ja00246a, section 2.4 (five folds).
    """
    data = _load_libraries(settings) if library is None else library
    return tuple(
        train(settings.model_copy(update={"fold": fold, "out": settings.out / f"fold_{fold}"}), data)
        for fold in range(settings.n_fold)
    )


def run_training(
    network: nn.Module,
    model_card: ModelCard,
    data: Library,
    split: Split,
    settings: TrainSettings,
    *,
    trainable: tuple[str, ...] | None = None,
    progress: Progress | None = None,
) -> TrainReport:
    """Train ``network`` on a split, and score the network of the best epoch; files are written to ``settings.out``.

    ``trainable`` has the names of the layers to train; None for all. ``progress`` is called with ("Training", number of
    finished steps, total number of steps).
    """
    last_checkpoint = open_folder(settings)
    resume_checkpoint = last_checkpoint if last_checkpoint.is_file() else None
    start_epoch = first_epoch(resume_checkpoint)
    if not is_finished(resume_checkpoint, settings):
        uncalibrate(network)
        network.train()
        module = PigmentModule(network, settings, checkpoint_facts(network, model_card), trainable=trainable)
        fit(module, data, split, settings, resume_checkpoint, progress=progress)
    best_model = _calibrated(load_checkpoint(settings.out / "best.ckpt"), data, split.validation, settings)
    validation_scores = score(best_model.network, data, split.validation, settings)
    test_scores = score(best_model.network, data, split.test, settings) if split.test.size else ()
    epochs = first_epoch(last_checkpoint)
    scores = {"validation": score_summary(validation_scores), "test": score_summary(test_scores)}
    report = TrainReport(
        trained_model=TrainedNetwork(best_model.network, with_training(best_model.card, epochs=epochs, scores=scores)),
        checkpoint=settings.out / "best.ckpt",
        epochs=epochs,
        resumed_from_epoch=start_epoch,
        validation_loss=best_loss(last_checkpoint),
        validation_scores=validation_scores,
        test_scores=test_scores,
    )
    write_json(settings.out / "report.json", report.as_dict())
    return report


def _calibrated(
    best_model: TrainedNetwork, data: Library, rows: NDArray[np.int64], settings: TrainSettings
) -> TrainedNetwork:
    """Calibrate a network of layers, unless there are too few structures or the spectra are measured."""
    if settings.has_layers and settings.calibration is not None:
        calibration_library = load_library(settings.calibration, half_precision=True, lines=settings.present == "lines")
        return calibrate_network(best_model, calibration_library, np.arange(len(calibration_library)), settings)
    if not settings.has_layers or data.has_noise or np.unique(data.source[rows]).size < _MIN_CALIBRATION_SOURCES:
        return replace(best_model, card=best_model.card.model_copy(update={"sets": None}))
    return calibrate_network(best_model, data, rows, settings)


def fit(
    module: lightning.LightningModule,
    data: Library,
    split: Split,
    settings: TrainSettings,
    resume: Path | None,
    *,
    progress: Progress | None = None,
) -> None:
    """Run the Lightning loop, from the checkpoint ``resume`` if given; the module must log "validation_loss"."""
    # Lightning recommends more workers, which batches from memory do not need
    ignored_warnings = (".*does not have many workers.*", ".*exists and is not empty.*", ".*isinstance.treespec.*")
    with _threads(settings.threads), silence_messages("lightning.pytorch", logging.WARNING, *ignored_warnings):
        trainer = _trainer(settings, progress)
        try:
            trainer.fit(
                module,
                train_dataloaders=Batches(data, split.train, settings, shuffle=True),
                val_dataloaders=Batches(data, split.validation, settings, shuffle=False),
                ckpt_path=None if resume is None else str(resume),
                weights_only=True,
            )
        except SystemExit as exit_error:
            # Lightning turns Ctrl-C into SystemExit; the caller handles interruptions
            raise KeyboardInterrupt from exit_error


def score(network: nn.Module, data: Library, rows: Any, settings: TrainSettings) -> tuple[NameScores, ...]:
    """Return the scores of a network on the given rows, with one random spectrum per row."""
    network.eval()
    logits, labels, weights = [], [], []
    with torch.inference_mode():
        for batch in Batches(data, rows, settings, shuffle=False):
            logits.append(log_odds(network, batch).float().numpy())
            labels.append(batch.labels.numpy())
            weights.append(batch.weight.numpy())
    return scores_by_name(data.names, *(np.concatenate(parts) for parts in (logits, labels, weights)))


def validation_loss(network: nn.Module, data: Library, rows: NDArray[np.int64], settings: TrainSettings) -> float:
    """Return the mean loss over the given rows, as logged after every epoch of a training."""
    network.eval()
    losses, sizes = [], []
    with torch.inference_mode():
        for batch in Batches(data, rows, settings, shuffle=False):
            losses.append(float(loss_of(network, batch)))
            sizes.append(len(batch.labels))
    return float(np.average(losses, weights=sizes))


def answers(
    trained_model: TrainedNetwork, data: Library, rows: NDArray[np.int64], settings: TrainSettings
) -> NDArray[np.float32]:
    """Return the (n, n_name) probabilities of a network for the given rows, with one random spectrum per row."""
    with torch.inference_mode():
        probability = [
            torch.sigmoid(log_odds(trained_model.network, batch)).float().numpy()
            for batch in Batches(data, rows, settings, shuffle=False)
        ]
    return np.concatenate(probability)


def score_summary(scores: tuple[NameScores, ...]) -> dict[str, Any]:
    """Return the macro means of the scores, and the scores by name."""
    if not scores:
        return {}
    macro_means = {f"macro_{score_name}": macro_mean(scores, score_name) for score_name in _MACRO_SCORES}
    return {**macro_means, "by_name": {name_scores.name: name_scores.as_dict() for name_scores in scores}}


def first_epoch(checkpoint: Path | None) -> int:
    """Return the epoch that follows a checkpoint; 0 without one."""
    if checkpoint is None:
        return 0
    return int(_read_checkpoint(checkpoint)["epoch"]) + 1


def best_loss(checkpoint: Path) -> float:
    """Return the lowest validation loss of a run so far."""
    return float(_early_stopping(checkpoint)["best_score"])


def _early_stopping(checkpoint: Path) -> dict[str, Any]:
    callbacks = _read_checkpoint(checkpoint)["callbacks"]
    state: dict[str, Any] = next(values for name, values in callbacks.items() if name.startswith("EarlyStopping"))
    return state


def is_finished(checkpoint: Path | None, settings: TrainSettings) -> bool:
    """Return whether a run has finished all its epochs or was stopped early."""
    if checkpoint is None:
        return False
    n_waited = int(_early_stopping(checkpoint)["wait_count"])
    return first_epoch(checkpoint) >= settings.epochs or n_waited >= settings.patience


def open_folder(settings: TrainSettings) -> Path:
    """Create the folder, or check that its run has the same settings; return the path of its last checkpoint."""
    resume_folder(
        settings.out, {key: value for key, value in config_of(settings).items() if key not in _CHANGEABLE_SETTINGS}
    )
    for name in ("last.ckpt", "best.ckpt"):
        if (settings.out / name).is_file():
            _read_checkpoint(settings.out / name)  # finds damaged files before the training starts
    return settings.out / "last.ckpt"


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {"epoch": int(state["epoch"]), "callbacks": dict(state["callbacks"])}
    except Exception as error:  # torch raises errors of any class
        raise TrainingError(
            f"Cannot continue the training in {path.parent}: the checkpoint {path.name} is damaged "
            f"({type(error).__name__}). Delete that file to start this training again; other files are kept."
        ) from error


class _SeedEpochs(Callback):
    """Seed each epoch by its number, so that a resumed run has the random numbers of an uninterrupted one."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        trainer.train_dataloader.epoch = trainer.current_epoch
        # dropout uses torch's generator, whose state is in no checkpoint
        torch.manual_seed(pl_module.settings.seed + trainer.current_epoch)


class _ReportSteps(Callback):
    """Report the number of is_finished steps."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_train_batch_end(self, trainer: Any, *ignored: Any) -> None:
        del ignored
        self.progress("Training", trainer.global_step, int(trainer.estimated_stepping_batches))


def _trainer(settings: TrainSettings, progress: Progress | None) -> Any:
    save_best = ModelCheckpoint(settings.out, filename="best", monitor="validation_loss", enable_version_counter=False)
    save_last = ModelCheckpoint(settings.out, filename="last", enable_version_counter=False)
    stop_early = EarlyStopping("validation_loss", patience=settings.patience)
    callbacks: list[Callback] = [_SeedEpochs(), stop_early, save_best, save_last]
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
        gradient_clip_val=None if settings.paper_protocol else 5.0,
    )


@contextmanager
def _threads(n_thread: int | None) -> Iterator[None]:
    n_thread_before = torch.get_num_threads()
    torch.set_num_threads(n_thread or n_thread_before)
    try:
        yield
    finally:
        torch.set_num_threads(n_thread_before)


def pretrain_autoencoder(library: Library, rows: NDArray[np.int64], settings: TrainSettings) -> AutoencoderNetwork:
    """Train an autoencoder to reconstruct spectra; the same call resumes an interrupted run.

    Parameters
    ----------
    library : Library
        Spectra; their labels are not used.
    rows : (n,) array
        Rows for training, without those of a test set. The fraction ``settings.validation_share`` of their
        stratigraphies is the validation set for early stopping.
    settings : TrainSettings
        Settings of the kind "autoencoder". ``last.ckpt``, ``best.ckpt`` and ``reconstruction.json`` are written to
        ``settings.out``, which must not be the folder of the training that follows.

    Returns
    -------
    AutoencoderNetwork
        Network with the encoder of the best epoch and a new dense layer, for the parameter ``network`` of
        :func:`underpaint.lab.training.train`.

    Raises
    ------
    TrainingError
        The settings are of another kind, the library has no names, there are too few rows to split, or the folder
        contains a run with other settings.
    """
    n_class = len(library.names)
    _require_autoencoder(settings, n_class)
    lightning.seed_everything(settings.seed, verbose=False)
    network = AutoencoderNetwork(library.axis.n_bin, n_class)
    module = ReconstructionModule(network, library.axis.n_bin, settings)
    last_checkpoint = open_folder(settings)
    resume_checkpoint = last_checkpoint if last_checkpoint.is_file() else None
    if not is_finished(resume_checkpoint, settings):
        fit(module, library, _reconstruction_split(library, rows, settings), settings, resume_checkpoint)
    best_state = torch.load(settings.out / "best.ckpt", map_location="cpu", weights_only=True)
    module.cpu().load_state_dict(best_state["state_dict"])
    results = {"epochs": first_epoch(last_checkpoint), "validation_loss": best_loss(last_checkpoint)}
    write_json(settings.out / "reconstruction.json", results)
    return network


def _require_autoencoder(settings: TrainSettings, n_class: int) -> None:
    if settings.kind != "autoencoder":
        raise TrainingError(
            f'Cannot learn to reconstruct spectra with a network of kind {settings.kind!r}: only "autoencoder" has a '
            'bottleneck. Set kind = "autoencoder".'
        )
    if n_class < 1:
        raise TrainingError(
            f"Cannot build the dense layer for {n_class} pigments: the library has no names. Give one that has "
            "those of the training that follows."
        )


def _reconstruction_split(library: Library, rows: NDArray[np.int64], settings: TrainSettings) -> Split:
    row_split = split_by_source(
        library.source[rows], seed=settings.seed, validation_share=settings.validation_share, test_share=0.0
    )
    return Split(train=rows[row_split.train], validation=rows[row_split.validation], test=rows[row_split.test])
