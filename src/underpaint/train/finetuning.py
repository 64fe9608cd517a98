"""Fine-tuning in the paper's two steps: the dense layers first, then all."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
from torch import nn

from underpaint import __version__
from underpaint.errors import TrainingError
from underpaint.io import load
from underpaint.network import dense_layers
from underpaint.train.checkpoint import Trained, config_of, load_trainable
from underpaint.train.labelled import labelled_scan
from underpaint.train.library import Library, load_library
from underpaint.train.loop import TrainReport, run
from underpaint.train.settings import FinetuneSettings
from underpaint.train.split import split_by_source
from underpaint.weights import ModelCard, Training


@dataclass(frozen=True)
class FinetuneReport:
    """What fine-tuning did to the layers, and what it reached.

    Parameters
    ----------
    trained : Trained
        The better network of the two steps, by validation loss, with its card.
    loaded : tuple of str
        Layers that came from the given model.
    reinitialised : tuple of str
        Layers that began anew.
    frozen_in_first_step : tuple of str
        Layers that only the second step could change.
    first, second : TrainReport
        The two steps: dense layers alone, all layers.
    """

    trained: Trained
    loaded: tuple[str, ...]
    reinitialised: tuple[str, ...]
    frozen_in_first_step: tuple[str, ...]
    first: TrainReport
    second: TrainReport

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "loaded": list(self.loaded),
            "reinitialised": list(self.reinitialised),
            "frozen_in_first_step": list(self.frozen_in_first_step),
            "first": self.first.as_dict(),
            "second": self.second.as_dict(),
        }


def finetune(model: Trained | str | Path, settings: FinetuneSettings, library: Library | None = None) -> FinetuneReport:
    """Fit a trained network to labelled spectra; the same call continues a run that was interrupted.

    Parameters
    ----------
    model : Trained, str or Path
        The network, or what :func:`load_trainable` takes: a shipped name, an ``.onnx`` or a ``.ckpt`` file.
    settings : FinetuneSettings
        Folder, epochs, learning rate, split. The folder receives ``dense/`` and ``all/``, one per step.
    library : Library or None
        Labelled spectra on the model's axis (see :func:`labelled_spectra`); None reads ``settings.library``.

    Returns
    -------
    FinetuneReport
        What was loaded, frozen and re-initialised, and the figures of both steps.

    Raises
    ------
    TrainingError
        A label is not among the model's names, the axis differs, or the spectra are too few to split.

    References
    ----------
    X. Xu et al., J. Anal. At. Spectrom. (2022), doi 10.1039/d2ja00246a, sections 2.3 and 2.4.
    """
    start = model if isinstance(model, Trained) else load_trainable(model)
    data = _fitting(_read(settings, start.card) if library is None else library, start.card)
    own = settings.model_copy(update={"kind": start.card.kind})
    split = split_by_source(
        data.source if settings.split == "structure" else np.arange(len(data)),
        seed=settings.seed,
        validation_share=settings.validation_share,
        test_share=settings.test_share,
        fold=settings.fold or 0,
    )
    lightning.seed_everything(settings.seed, verbose=False)
    dense = dense_layers(start.network)
    if settings.fresh_dense:
        _reinitialise(start.network, dense)
    card = _card(start.card, data, own, split.train.size)
    step = own.model_copy(update={"out": own.out / "dense", "epochs": own.dense_epochs})
    first = run(start.network, card, data, split, step, trainable=dense)
    step = own.model_copy(update={"out": own.out / "all"})
    second = run(first.trained.network, card, data, split, step)
    layers = tuple(name for name, layer in start.network.named_children() if any(True for _ in layer.parameters()))
    report = FinetuneReport(
        trained=min(first, second, key=lambda each: each.validation_loss).trained,
        loaded=tuple(name for name in layers if not (settings.fresh_dense and name in dense)),
        reinitialised=dense if settings.fresh_dense else (),
        frozen_in_first_step=tuple(name for name in layers if name not in dense),
        first=first,
        second=second,
    )
    (own.out / "report.json").write_text(json.dumps(report.as_dict(), indent=2) + "\n", encoding="utf-8")
    return report


def _read(settings: FinetuneSettings, card: ModelCard) -> Library:
    if settings.labels is None:
        return load_library(settings.library)
    return labelled_scan(load(settings.library[0]), settings.labels, card)


def _fitting(library: Library, card: ModelCard) -> Library:
    if library.axis != card.axis:
        message = (
            f"Cannot fine-tune {card.name!r}: its axis has {card.axis.n_bin} bins of {card.axis.bin_kev:g} keV from "
            f"{card.axis.start_kev:g} keV, the spectra have {library.axis.n_bin} of {library.axis.bin_kev:g} keV "
            f"from {library.axis.start_kev:g} keV. Rebin them with `labelled_spectra`."
        )
        raise TrainingError(message)
    return library.with_names(card.names)


def _reinitialise(network: nn.Module, layers: tuple[str, ...]) -> None:
    for name in layers:
        layer = network.get_submodule(name)
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()


def _card(card: ModelCard, library: Library, settings: FinetuneSettings, n_train: int) -> ModelCard:
    training = Training(
        library=(*card.training.library, *library.origin),
        n_spectra=n_train,
        seed=settings.seed,
        config={"finetuned_from": card.training.model_dump(mode="json"), **config_of(settings)},
    )
    update = {"name": settings.name, "training": training, "package_version": __version__, "figures": {}}
    return card.model_copy(update=update)
