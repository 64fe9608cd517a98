"""The training run: split, loop with checkpoints and early stopping, figures."""

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
    Trained,
    about,
    card_for,
    config_of,
    load_checkpoint,
    spec_for,
    with_training,
)
from underpaint.lab.training.library import Library, load_library
from underpaint.lab.training.metrics import NameFigures, figures_by_name, macro_mean
from underpaint.lab.training.module import PigmentModule, ReconstructionModule, log_odds, loss_of, quiet
from underpaint.lab.training.settings import TrainSettings
from underpaint.lab.training.split import Split, split_by_settings, split_by_source
from underpaint.pigments.weights import ModelCard
from underpaint.runtime.files import plain, write_json
from underpaint.runtime.job import resume_folder
from underpaint.runtime.progress import Progress

_MAY_CHANGE = ("epochs", "patience", "precision", "calibration")
_CALIBRATES = 400
"""Held-out stratigraphies from which a network is calibrated."""
_MACRO = ("auprc", "accuracy", "sensitivity", "f1", "always_yes_f1")


@dataclass(frozen=True)
class TrainReport:
    """Results of a training run.

    Parameters
    ----------
    trained : Trained
        The best network with its card.
    checkpoint : Path
        File of the best network.
    epochs : int
        Epochs run in all, resumed ones included.
    resumed_from_epoch : int
        First epoch of this call; 0 for a fresh run.
    validation_loss : float
        Loss of the best network on the validation set.
    validation, test : tuple of NameFigures
        Figures by name; the test is empty when its share is zero.
    """

    trained: Trained
    checkpoint: Path
    epochs: int
    resumed_from_epoch: int
    validation_loss: float
    validation: tuple[NameFigures, ...]
    test: tuple[NameFigures, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for JSON; NaN becomes null."""
        figures: dict[str, Any] = plain(
            {
                "epochs": self.epochs,
                "validation_loss": self.validation_loss,
                "validation": summary(self.validation),
                "test": summary(self.test),
            }
        )
        return figures


def train(settings: TrainSettings, library: Library | None = None, *, network: nn.Module | None = None) -> TrainReport:
    """Train a network; the same call continues a run that was interrupted.

    Parameters
    ----------
    settings : TrainSettings
        What to train on and how. ``settings.out`` receives ``last.ckpt``, ``best.ckpt`` and ``report.json``.
    library : Library or None
        Spectra in memory; None reads ``settings.library``.
    network : Module or None
        Network of ``settings.kind`` and of the library's axis and names to begin with, an autoencoder that has learned
        to reconstruct for instance; trained in place. None begins with fresh weights.

    Returns
    -------
    TrainReport
        The best network and its figures on the validation and the test set.

    Raises
    ------
    TrainingError
        The library cannot be used, ``network`` does not fit it, or ``settings.out`` holds a run with other settings.
    """
    data = _libraries(settings) if library is None else library
    split = split_by_settings(data.source, settings)
    lightning.seed_everything(settings.seed, verbose=False)
    card = card_for(data, settings, split.train.size)
    fresh = build_network(spec_for(card))
    begin = load_checkpoint(settings.start).network if network is None and settings.start else network
    return run(fresh if begin is None else _like(fresh, begin), card, data, split, settings)


def _libraries(settings: TrainSettings) -> Library:
    return load_library(settings.library, half=not settings.paper_protocol, lines=settings.present == "lines")


def _like(fresh: nn.Module, network: nn.Module) -> nn.Module:
    """Return ``network`` if its weights are those of the settings' network in name and size."""
    expected, given = ({name: value.shape for name, value in each.state_dict().items()} for each in (fresh, network))
    differing = sorted(name for name in expected | given if expected.get(name) != given.get(name))
    if differing:
        raise TrainingError(
            f"Cannot train the given {type(network).__name__}: settings and library ask for another "
            f"{type(fresh).__name__} (they differ in {', '.join(differing[:3])}). Build it for this kind, these bins "
            "and these names."
        )
    return network


def cross_validate(settings: TrainSettings, library: Library | None = None) -> tuple[TrainReport, ...]:
    """Train once per fold, as the paper does: another share validates each time, the test set stays.

    Parameters
    ----------
    settings : TrainSettings
        As for :func:`train`; ``1 / validation_share`` folds, each in a folder ``fold_<k>`` of ``settings.out``.
    library : Library or None
        Spectra in memory; None reads ``settings.library``.

    References
    ----------
    X. Xu et al., J. Anal. At. Spectrom. (2022), doi 10.1039/d2ja00246a, section 2.4 (five folds).
    """
    data = _libraries(settings) if library is None else library
    return tuple(
        train(settings.model_copy(update={"fold": fold, "out": settings.out / f"fold_{fold}"}), data)
        for fold in range(settings.n_fold)
    )


def run(
    network: nn.Module,
    card: ModelCard,
    data: Library,
    split: Split,
    settings: TrainSettings,
    *,
    trainable: tuple[str, ...] | None = None,
    progress: Progress | None = None,
) -> TrainReport:
    """Train ``network`` on a split and score the best epoch; writes into ``settings.out``.

    ``trainable`` names the layers that may change; None frees all. ``progress`` is called with ("Training", steps done,
    steps in all), for callers that show one bar for many things.
    """
    last = open_folder(settings)
    resume = last if last.is_file() else None
    start = first_epoch(resume)
    if not finished(resume, settings):
        uncalibrate(network)
        network.train()
        module = PigmentModule(network, settings, about(network, card), trainable=trainable)
        fit(module, data, split, settings, resume, progress=progress)
    best = _calibrate(load_checkpoint(settings.out / "best.ckpt"), data, split.validation, settings)
    validation = score(best.network, data, split.validation, settings)
    test = score(best.network, data, split.test, settings) if split.test.size else ()
    epochs = first_epoch(last)
    figures = {"validation": summary(validation), "test": summary(test)}
    report = TrainReport(
        trained=Trained(best.network, with_training(best.card, epochs=epochs, figures=figures)),
        checkpoint=settings.out / "best.ckpt",
        epochs=epochs,
        resumed_from_epoch=start,
        validation_loss=best_loss(last),
        validation=validation,
        test=test,
    )
    write_json(settings.out / "report.json", report.as_dict())
    return report


def _calibrate(best: Trained, data: Library, rows: NDArray[np.int64], settings: TrainSettings) -> Trained:
    """Calibrate a network of layers, unless there are too few structures, or measured spectra of one count level."""
    if settings.has_layers and settings.calibration is not None:
        held = load_library(settings.calibration, half=True, lines=settings.present == "lines")
        return calibrate_network(best, held, np.arange(len(held)), settings)
    if not settings.has_layers or data.counted or np.unique(data.source[rows]).size < _CALIBRATES:
        return replace(best, card=best.card.model_copy(update={"sets": None}))
    return calibrate_network(best, data, rows, settings)


def fit(
    module: lightning.LightningModule,
    data: Library,
    split: Split,
    settings: TrainSettings,
    resume: Path | None,
    *,
    progress: Progress | None = None,
) -> None:
    """Run the Lightning loop, from ``resume`` where given; the module has ``settings`` and logs "validation_loss"."""
    # Lightning advises on workers and devices: the batches come from memory by intent.
    advice = (".*does not have many workers.*", ".*exists and is not empty.*", ".*isinstance.treespec.*")
    with _threads(settings.threads), quiet("lightning.pytorch", logging.WARNING, *advice):
        trainer = _trainer(settings, progress)
        try:
            trainer.fit(
                module,
                train_dataloaders=Batches(data, split.train, settings, shuffle=True),
                val_dataloaders=Batches(data, split.validation, settings, shuffle=False),
                ckpt_path=None if resume is None else str(resume),
                weights_only=True,
            )
        except SystemExit as stopped:
            # Lightning turns Ctrl-C into an exit; the caller decides what an interruption means.
            raise KeyboardInterrupt from stopped


def score(network: nn.Module, data: Library, rows: Any, settings: TrainSettings) -> tuple[NameFigures, ...]:
    """Score a network on some rows, each with one draw of counts."""
    network.eval()
    answers, labels, weights = [], [], []
    with torch.inference_mode():
        for batch in Batches(data, rows, settings, shuffle=False):
            answers.append(log_odds(network, batch).float().numpy())
            labels.append(batch.labels.numpy())
            weights.append(batch.weight.numpy())
    return figures_by_name(data.names, *(np.concatenate(each) for each in (answers, labels, weights)))


def validation_loss(network: nn.Module, data: Library, rows: NDArray[np.int64], settings: TrainSettings) -> float:
    """Return the mean loss over some rows, as a training run logs it after every epoch."""
    network.eval()
    losses, sizes = [], []
    with torch.inference_mode():
        for batch in Batches(data, rows, settings, shuffle=False):
            losses.append(float(loss_of(network, batch)))
            sizes.append(len(batch.labels))
    return float(np.average(losses, weights=sizes))


def answers(trained: Trained, data: Library, rows: NDArray[np.int64], settings: TrainSettings) -> NDArray[np.float32]:
    """Return a network's (n, n_name) probabilities for some rows of a library, each with one draw of counts."""
    with torch.inference_mode():
        probability = [
            torch.sigmoid(log_odds(trained.network, batch)).float().numpy()
            for batch in Batches(data, rows, settings, shuffle=False)
        ]
    return np.concatenate(probability)


def summary(figures: tuple[NameFigures, ...]) -> dict[str, Any]:
    """Return macro means and the figures by name."""
    if not figures:
        return {}
    macro = {f"macro_{quantity}": macro_mean(figures, quantity) for quantity in _MACRO}
    return {**macro, "by_name": {each.name: each.as_dict() for each in figures}}


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


def finished(checkpoint: Path | None, settings: TrainSettings) -> bool:
    """Whether a run has had all its epochs, or was stopped early."""
    if checkpoint is None:
        return False
    waited = int(_early_stopping(checkpoint)["wait_count"])
    return first_epoch(checkpoint) >= settings.epochs or waited >= settings.patience


def open_folder(settings: TrainSettings) -> Path:
    """Create the folder, or check that it holds a run of the same settings; return its last checkpoint."""
    resume_folder(settings.out, {key: value for key, value in config_of(settings).items() if key not in _MAY_CHANGE})
    for name in ("last.ckpt", "best.ckpt"):
        if (settings.out / name).is_file():
            _read_checkpoint(settings.out / name)  # a damaged one is found before the work, not after it
    return settings.out / "last.ckpt"


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        return {"epoch": int(saved["epoch"]), "callbacks": dict(saved["callbacks"])}
    except Exception as error:  # torch raises whatever error its reader met
        raise TrainingError(
            f"Cannot continue the training in {path.parent}: the checkpoint {path.name} is damaged "
            f"({type(error).__name__}). Delete that file to begin this training again; what else is there stays."
        ) from error


class _EpochOfBatches(Callback):
    """Seed each epoch by its number, so that a resumed run has the draws of an unbroken one."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        trainer.train_dataloader.epoch = trainer.current_epoch
        # dropout draws from torch's own generator, which no checkpoint holds
        torch.manual_seed(pl_module.settings.seed + trainer.current_epoch)


class _Steps(Callback):
    """Report the number of finished steps."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_train_batch_end(self, trainer: Any, *ignored: Any) -> None:
        del ignored
        self.progress("Training", trainer.global_step, int(trainer.estimated_stepping_batches))


def _trainer(settings: TrainSettings, progress: Progress | None) -> Any:
    best = ModelCheckpoint(settings.out, filename="best", monitor="validation_loss", enable_version_counter=False)
    last = ModelCheckpoint(settings.out, filename="last", enable_version_counter=False)
    stop = EarlyStopping("validation_loss", patience=settings.patience)
    callbacks: list[Callback] = [_EpochOfBatches(), stop, best, last]
    if settings.progress:
        callbacks.append(RichProgressBar())
    if progress is not None:
        callbacks.append(_Steps(progress))
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
    before = torch.get_num_threads()
    torch.set_num_threads(n_thread or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pretrain_autoencoder(library: Library, rows: NDArray[np.int64], settings: TrainSettings) -> AutoencoderNetwork:
    """Train an autoencoder to reconstruct spectra; the same call resumes an interrupted run.

    Parameters
    ----------
    library : Library
        Spectra; their labels are not used.
    rows : (n,) array
        Rows to learn from; leave those of a test out. ``settings.validation_share`` of their stratigraphies are kept
        for early stopping.
    settings : TrainSettings
        Of kind "autoencoder". ``settings.out`` receives ``last.ckpt``, ``best.ckpt`` and ``reconstruction.json``; it
        has to be another folder than that of the training that follows.

    Returns
    -------
    AutoencoderNetwork
        The encoder of the best epoch under a fresh dense layer: what :func:`underpaint.lab.training.train` takes as
        ``network``.

    Raises
    ------
    TrainingError
        The settings are of another kind, there are no pigments to answer, the rows are too few to split, or the
        folder holds a run with other settings.
    """
    n_class = len(library.names)
    _check(settings, n_class)
    lightning.seed_everything(settings.seed, verbose=False)
    network = AutoencoderNetwork(library.axis.n_bin, n_class)
    module = ReconstructionModule(network, library.axis.n_bin, settings)
    last = open_folder(settings)
    resume = last if last.is_file() else None
    if not finished(resume, settings):
        fit(module, library, _split(library, rows, settings), settings, resume)
    best = torch.load(settings.out / "best.ckpt", map_location="cpu", weights_only=True)
    module.cpu().load_state_dict(best["state_dict"])
    figures = {"epochs": first_epoch(last), "validation_loss": best_loss(last)}
    write_json(settings.out / "reconstruction.json", figures)
    return network


def _check(settings: TrainSettings, n_class: int) -> None:
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


def _split(library: Library, rows: NDArray[np.int64], settings: TrainSettings) -> Split:
    part = split_by_source(
        library.source[rows], seed=settings.seed, validation_share=settings.validation_share, test_share=0.0
    )
    return Split(train=rows[part.train], validation=rows[part.validation], test=rows[part.test])
