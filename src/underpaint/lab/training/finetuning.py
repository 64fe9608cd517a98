"""Fine-tuning in the paper's two steps: the dense layers first, then all."""

import hashlib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from underpaint._version import __version__
from underpaint.data import EnergyAxis, Scan
from underpaint.data.maps import split_place
from underpaint.elements import fit_elements
from underpaint.errors import CoverageError, ScanError, TrainingError
from underpaint.lab.networks import Calibration, dense_layers
from underpaint.lab.training.batches import Batches
from underpaint.lab.training.checkpoint import Trained, config_of, load_trainable
from underpaint.lab.training.labelled import labelled
from underpaint.lab.training.library import UNKNOWN, Library, load_library
from underpaint.lab.training.loop import TrainReport, run, score, summary, validation_loss
from underpaint.lab.training.metrics import NameFigures
from underpaint.lab.training.module import ask
from underpaint.lab.training.settings import FinetuneSettings
from underpaint.lab.training.split import Split, split_by_settings
from underpaint.physics.materials import library as pigments
from underpaint.pigments.weights import ModelCard, Training
from underpaint.runtime.files import claim_folder, plain, write_json
from underpaint.runtime.job import resume_folder

SIGMAS = 3.0
"""Area of a key line family from which a group is visible, in standard deviations."""


def hide_invisible_labels(data: Library) -> Library:
    """Set the labels of pigments that are present but not visible in the spectrum to unknown.

    Labels of a mock-up include pigments that a thick layer hides. Trained as present, they teach a network to claim
    what it cannot detect. A label counts where, in the linear fit of the line families that the spectra
    show, a key family of each of its groups has an area over ``SIGMAS`` standard deviations; else it is ``UNKNOWN``.

    Parameters
    ----------
    data : Library
        Measured spectra with labels by group and member.
    """
    known = {group.name for group in pigments().groups}
    groups = sorted(known & {split_place(name)[0] for member_groups in data.groups for name in member_groups})
    shows = _visible_groups(data, groups)
    labels = data.labels.copy()
    for column, counted_as in enumerate(data.groups):
        counted = {split_place(group)[0] for group in counted_as}
        hidden = [~shows[:, groups.index(group)] for group in counted & set(groups)]
        if hidden:
            present = labels[:, column] == 1
            labels[present & np.any(hidden, axis=0), column] = UNKNOWN
    return replace(data, labels=labels)


def fill_amounts(start: Trained, data: Library, settings: FinetuneSettings) -> Library:
    """Fill missing labels of amounts with a network's answers, which fine-tuning is to keep."""
    network = deepcopy(start.network).eval()
    calibration = network.get_submodule("calibration")
    if isinstance(calibration, Calibration):
        calibration.reset()  # not used in training
    rows, shape = np.arange(len(data)), (len(data), len(start.card.amounts), len(start.card.amount_edges))
    with torch.inference_mode():
        logits = [ask(network, batch)[3] for batch in Batches(data, rows, settings, shuffle=False)]
    reached = torch.sigmoid(torch.cat(logits).float()).numpy().reshape(shape)
    return replace(data, amount=reached, amount_names=start.card.amounts)


def _visible_groups(data: Library, groups: list[str]) -> NDArray[np.bool_]:
    """Return (n, n_group) whether a key family of each group is significant; True where no fit is possible."""
    axis = EnergyAxis(data.axis.bin_kev, data.axis.start_kev + 0.5 * data.axis.bin_kev, data.axis.n_bin)
    scan = Scan(data.spectra.astype(np.float32)[None], axis=axis, name="labelled spectra")
    try:
        maps = fit_elements(scan)
    except (CoverageError, ScanError):
        return np.ones((len(data), len(groups)), dtype=np.bool_)
    shows = np.zeros((len(data), len(groups)), dtype=np.bool_)
    for column, group in enumerate(groups):
        shows[:, column] = maps.max_significance(pigments().group(group).key_families)[0] > SIGMAS
    return shows


_FEWEST = 5


@dataclass(frozen=True)
class FinetuneReport:
    """Changes of the layers by fine-tuning, and its scores.

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
    before : tuple of NameFigures
        The given model's figures on the test set; empty when its share is zero.
    before_loss : float or None
        Its validation loss; None where new dense layers took the place of its own.
    n_spectra : mapping of str to int
        Number of spectra for "training", "validation" and "test".
    absent : tuple of str
        Names that no training spectrum holds: the network can only have learned that they are not there.
    n_hidden : int
        Labels of what is there and does not show, which were left open (:func:`hide_invisible_labels`).
    """

    trained: Trained
    loaded: tuple[str, ...]
    reinitialised: tuple[str, ...]
    frozen_in_first_step: tuple[str, ...]
    first: TrainReport
    second: TrainReport
    before: tuple[NameFigures, ...] = ()
    before_loss: float | None = None
    n_spectra: Mapping[str, int] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    n_hidden: int = 0

    @property
    def chosen(self) -> Literal["before", "first", "second"]:
        """The best network by validation loss: that of a step, or the given one if neither is better."""
        steps: tuple[tuple[float, Literal["first", "second"]], ...] = (
            (self.first.validation_loss, "first"),
            (self.second.validation_loss, "second"),
        )
        loss, step = min(steps)
        return "before" if self.before_loss is not None and self.before_loss <= loss else step

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON; NaN becomes null."""
        return {
            "loaded": list(self.loaded),
            "reinitialised": list(self.reinitialised),
            "frozen_in_first_step": list(self.frozen_in_first_step),
            "weights": {name: _n_weight(self.trained.network, name) for name in (*self.loaded, *self.reinitialised)},
            "n_spectra": dict(self.n_spectra),
            "absent": list(self.absent),
            "n_hidden_labels": self.n_hidden,
            "chosen": self.chosen,
            "before": plain({"validation_loss": self.before_loss, "test": summary(self.before)}),
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
        Folder, epochs, learning rate, split. The folder receives ``dense/`` and ``all/``, one per step, and
        ``report.json``.
    library : Library or None
        Labelled spectra on the model's axis (see :func:`labelled_spectra`); None reads ``settings.library``.

    Returns
    -------
    FinetuneReport
        What was loaded, frozen and re-initialised, and the figures of both steps.

    Raises
    ------
    TrainingError
        A label is not among the model's names, the axis differs, the spectra are too few to split, or the folder
        holds a run with other settings or labels.

    References
    ----------
    X. Xu et al., J. Anal. At. Spectrom. (2022), doi 10.1039/d2ja00246a, sections 2.3 and 2.4.
    """
    # a network that was passed stays as it is: it may be the start of further runs
    start = Trained(deepcopy(model.network), model.card) if isinstance(model, Trained) else load_trainable(model)
    data = _match_card(_read(settings, start.card) if library is None else library, start.card)
    n_label = int((data.labels == 1).sum())
    if data.counted and "group" in start.card.kinds and not settings.hidden_labels:
        data = hide_invisible_labels(data)
    if start.card.amounts and data.amount is None:
        data = fill_amounts(start, data, settings)
    run_settings = settings.model_copy(update={"kind": start.card.kind})
    claim_folder(run_settings.out, notes=("labels.json", "dense/settings.json"))
    split = _split(data, run_settings)
    if run_settings.labels is not None:
        _refuse_other_labels(data, run_settings.out)
    before = score(start.network, data, split.test, run_settings) if split.test.size else ()
    before_loss = None if settings.fresh_dense else validation_loss(start.network, data, split.validation, run_settings)
    given = Trained(deepcopy(start.network), start.card)
    lightning.seed_everything(settings.seed, verbose=False)
    dense = dense_layers(start.network)
    if settings.fresh_dense:
        _reinitialise(start.network, dense)
    absent = _absent(data, split)
    card = _card(start.card, data, run_settings, split.train.size, absent)
    step = run_settings.model_copy(update={"out": run_settings.out / "dense", "epochs": run_settings.dense_epochs})
    first = run(start.network, card, data, split, step, trainable=dense)
    step = run_settings.model_copy(update={"out": run_settings.out / "all"})
    second = run(first.trained.network, card, data, split, step)
    layers = tuple(name for name, layer in start.network.named_children() if any(True for _ in layer.parameters()))
    report = FinetuneReport(
        trained=given,
        loaded=tuple(name for name in layers if not (settings.fresh_dense and name in dense)),
        reinitialised=dense if settings.fresh_dense else (),
        frozen_in_first_step=tuple(name for name in layers if name not in dense),
        first=first,
        second=second,
        before=before,
        before_loss=before_loss,
        n_spectra={"training": split.train.size, "validation": split.validation.size, "test": split.test.size},
        absent=absent,
        n_hidden=n_label - int((data.labels == 1).sum()),
    )
    steps = {"before": given, "first": first.trained, "second": second.trained}
    report = replace(report, trained=steps[report.chosen])
    write_json(run_settings.out / "report.json", report.as_dict())
    return report


def _read(settings: FinetuneSettings, card: ModelCard) -> Library:
    if settings.labels is None:
        return load_library(settings.library, lines=settings.present == "lines")
    return labelled(settings.library[0], settings.labels, card)


def _split(data: Library, settings: FinetuneSettings) -> Split:
    unit = data.source if settings.split == "structure" else np.arange(len(data))
    n_unit = np.unique(unit).size
    if n_unit < _FEWEST:
        available = (
            f"{n_unit} structures ({len(data)} spectra)" if settings.split == "structure" else f"{n_unit} spectra"
        )
        mixed = ", or mix the spectra of a structure with split = pixel, which flatters the figures"
        raise TrainingError(
            f"Cannot fine-tune on {available}: at least {_FEWEST} are needed, so that training, early stopping and the "
            f"test each have their own. Label more{mixed if len(data) >= _FEWEST else ''}."
        )
    return split_by_settings(unit, settings)


def _refuse_other_labels(data: Library, folder: Path) -> None:
    """Refuse to resume with other spectra or labels: an earlier test set could become training data."""
    total = np.rint(data.spectra.sum(axis=1)).astype(np.int64)
    digest = hashlib.sha256(b"".join(each.tobytes() for each in (data.labels, data.source, total))).hexdigest()
    resume_folder(
        folder,
        {"spectra_and_labels": digest, "n_spectra": len(data)},
        note="labels.json",
        markers=("dense/settings.json",),
    )


def _absent(data: Library, split: Split) -> tuple[str, ...]:
    held = (data.labels[split.train] == 1).any(axis=0)
    denied = (data.labels[split.train] == 0).any(axis=0)
    return tuple(name for name, no in zip(data.names, denied & ~held, strict=True) if no)


def _n_weight(network: nn.Module, name: str) -> int:
    return sum(each.numel() for each in network.get_submodule(name).parameters())


def _match_card(library: Library, card: ModelCard) -> Library:
    if library.axis != card.axis:
        raise TrainingError(
            f"Cannot fine-tune {card.name!r}: its axis has {card.axis.n_bin} bins of {card.axis.bin_kev:g} keV from "
            f"{card.axis.start_kev:g} keV, the spectra have {library.axis.n_bin} of {library.axis.bin_kev:g} keV "
            f"from {library.axis.start_kev:g} keV. Rebin them with `labelled_spectra`."
        )
    return library.with_names(card.names)


def _reinitialise(network: nn.Module, layers: tuple[str, ...]) -> None:
    for name in layers:
        layer = network.get_submodule(name)
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()


def _card(
    card: ModelCard, library: Library, settings: FinetuneSettings, n_train: int, absent: tuple[str, ...]
) -> ModelCard:
    training = Training(
        library=(*card.training.library, *library.origin),
        n_spectra=n_train,
        seed=settings.seed,
        config={"finetuned_from": card.training.model_dump(mode="json"), **config_of(settings)},
    )
    update = {
        "name": settings.name,
        "training": training,
        "limits": (_limit(library, card, n_train, absent), *card.limits),
        "package_version": __version__,
        "figures": {},
    }
    return card.model_copy(update=update)


def _limit(library: Library, card: ModelCard, n_train: int, absent: tuple[str, ...]) -> str:
    sentence = f"Fine-tuned from {card.name!r} on {n_train} spectra of {', '.join(library.origin)}"
    if absent:
        held = [name for name, any_ in zip(library.names, (library.labels == 1).any(axis=0), strict=True) if any_]
        sentence += (
            f", which held {', '.join(held) or 'none of its names'}; it has learned to deny {len(absent)} others"
        )
    return f"{sentence}. The limits that follow were stated before that."
