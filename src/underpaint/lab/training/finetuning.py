"""Fine-tuning in the paper's two steps: first only the dense layers, then all layers."""

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
from underpaint.lab.training.checkpoint import TrainedNetwork, config_of, load_trainable
from underpaint.lab.training.labelled import labelled_library
from underpaint.lab.training.library import UNKNOWN, Library, load_library
from underpaint.lab.training.loop import TrainReport, run_training, score, score_summary, validation_loss
from underpaint.lab.training.metrics import NameScores
from underpaint.lab.training.module import run_network
from underpaint.lab.training.settings import FinetuneSettings
from underpaint.lab.training.split import Split, split_by_settings
from underpaint.physics.materials import library as pigments
from underpaint.pigments.weights import ModelCard, Training
from underpaint.runtime.files import claim_folder, json_types, write_json
from underpaint.runtime.job import resume_folder

VISIBLE_SIGMAS = 3.0
"""Area of a key line family above which its group is visible, in standard deviations."""


def hide_invisible_labels(data: Library) -> Library:
    """Set labels that are present but not visible in the spectrum to unknown.

    Labels of a mock-up include pigments that a thick layer hides. If they are trained as present, the network learns to
    claim pigments that it cannot detect. A label is visible if, in a linear fit of line families, each of its groups
    has a key family whose area exceeds ``VISIBLE_SIGMAS`` standard deviations. All other labels become ``UNKNOWN``.

    Parameters
    ----------
    data : Library
        Measured spectra with labels by group and member.
    """
    library_groups = {group.name for group in pigments().groups}
    groups = sorted(library_groups & {split_place(name)[0] for member_groups in data.groups for name in member_groups})
    is_visible = _visible_groups(data, groups)
    labels = data.labels.copy()
    for column, groups_of_name in enumerate(data.groups):
        group_names = {split_place(group)[0] for group in groups_of_name}
        is_group_hidden = [~is_visible[:, groups.index(group)] for group in group_names & set(groups)]
        if is_group_hidden:
            is_present = labels[:, column] == 1
            labels[is_present & np.any(is_group_hidden, axis=0), column] = UNKNOWN
    return replace(data, labels=labels)


def fill_amounts(start_model: TrainedNetwork, data: Library, settings: FinetuneSettings) -> Library:
    """Fill missing labels of amounts with the answers of a network, so that fine-tuning preserves these answers."""
    network = deepcopy(start_model.network).eval()
    calibration = network.get_submodule("calibration")
    if isinstance(calibration, Calibration):
        calibration.reset()  # training does not use it
    rows, shape = np.arange(len(data)), (len(data), len(start_model.card.amounts), len(start_model.card.amount_edges))
    with torch.inference_mode():
        logits = [run_network(network, batch)[3] for batch in Batches(data, rows, settings, shuffle=False)]
    p_reached = torch.sigmoid(torch.cat(logits).float()).numpy().reshape(shape)
    return replace(data, amount=p_reached, amount_names=start_model.card.amounts)


def _visible_groups(data: Library, groups: list[str]) -> NDArray[np.bool_]:
    """Return the (n, n_group) mask of groups with a significant key family; all True if no fit is possible."""
    axis = EnergyAxis(data.axis.bin_kev, data.axis.start_kev + 0.5 * data.axis.bin_kev, data.axis.n_bin)
    scan = Scan(data.spectra.astype(np.float32)[None], axis=axis, name="labelled spectra")
    try:
        results = fit_elements(scan)
    except (CoverageError, ScanError):
        return np.ones((len(data), len(groups)), dtype=np.bool_)
    is_visible = np.zeros((len(data), len(groups)), dtype=np.bool_)
    for column, group in enumerate(groups):
        is_visible[:, column] = results.max_significance(pigments().group(group).key_families)[0] > VISIBLE_SIGMAS
    return is_visible


_MIN_UNITS = 5


@dataclass(frozen=True)
class FinetuneReport:
    """Result of fine-tuning: changed layers and scores.

    Parameters
    ----------
    trained_model : TrainedNetwork
        Network with the lowest validation loss of the given one and the two steps.
    loaded_layers : tuple of str
        Layers with weights of the given model.
    reinitialised_layers : tuple of str
        Layers with new initial weights.
    frozen_layers : tuple of str
        Layers that only the second step trained.
    first_step, second_step : TrainReport
        Reports of the two steps: only dense layers, all layers.
    scores_before : tuple of NameScores
        Scores of the given model on the test set; empty without a test set.
    loss_before : float or None
        Validation loss of the given model; None if its dense layers were re-initialised.
    n_spectra : mapping of str to int
        Number of spectra for "training", "validation" and "test".
    absent_names : tuple of str
        Names without a positive training spectrum; the network can only have learned that they are absent.
    n_hidden_label : int
        Number of present labels that were set to unknown, because they are not visible
        (:func:`hide_invisible_labels`).
    """

    trained_model: TrainedNetwork
    loaded_layers: tuple[str, ...]
    reinitialised_layers: tuple[str, ...]
    frozen_layers: tuple[str, ...]
    first_step: TrainReport
    second_step: TrainReport
    scores_before: tuple[NameScores, ...] = ()
    loss_before: float | None = None
    n_spectra: Mapping[str, int] = field(default_factory=dict)
    absent_names: tuple[str, ...] = ()
    n_hidden_label: int = 0

    @property
    def chosen_network(self) -> Literal["before", "first", "second"]:
        """Network with the lowest validation loss: the given one ("before"), or that of the first or second step."""
        steps: tuple[tuple[float, Literal["first", "second"]], ...] = (
            (self.first_step.validation_loss, "first"),
            (self.second_step.validation_loss, "second"),
        )
        loss, step = min(steps)
        return "before" if self.loss_before is not None and self.loss_before <= loss else step

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON; NaN becomes null."""
        return {
            "loaded": list(self.loaded_layers),
            "reinitialised": list(self.reinitialised_layers),
            "frozen_in_first_step": list(self.frozen_layers),
            "weights": {
                name: _n_weight(self.trained_model.network, name)
                for name in (*self.loaded_layers, *self.reinitialised_layers)
            },
            "n_spectra": dict(self.n_spectra),
            "absent": list(self.absent_names),
            "n_hidden_labels": self.n_hidden_label,
            "chosen": self.chosen_network,
            "before": json_types({"validation_loss": self.loss_before, "test": score_summary(self.scores_before)}),
            "first": self.first_step.as_dict(),
            "second": self.second_step.as_dict(),
        }


def finetune(
    model: TrainedNetwork | str | Path, settings: FinetuneSettings, library: Library | None = None
) -> FinetuneReport:
    """Fine-tune a trained network on labelled spectra; the same call continues an interrupted run.

    Parameters
    ----------
    model : TrainedNetwork, str or Path
        Network, name of a shipped model, or path of an ``.onnx`` or ``.ckpt`` file.
    settings : FinetuneSettings
        Folder, epochs, learning rate and split. The steps write to ``dense/`` and ``all/`` in the folder, which also
        receives ``report.json``.
    library : Library or None
        Labelled spectra on the axis of the model (see :func:`labelled_spectra`); None to read ``settings.library``.

    Returns
    -------
    FinetuneReport
        Names of the loaded, frozen and re-initialised layers, and the scores of both steps.

    Raises
    ------
    TrainingError
        A label is no output of the model, the energy axis differs, there are too few spectra to split, or the folder
        contains a run with other settings or labels.

    References
    ----------
    X. Xu et al., J. Anal. At. Spectrom. (2022), doi 10.1039/d2ja00246a, sections 2.3 and 2.4.
    """
    # the given network is not changed, because other runs may start from it
    start_model = (
        TrainedNetwork(deepcopy(model.network), model.card)
        if isinstance(model, TrainedNetwork)
        else load_trainable(model)
    )
    data = _with_names_of(_read_library(settings, start_model.card) if library is None else library, start_model.card)
    n_positive = int((data.labels == 1).sum())
    if data.has_noise and "group" in start_model.card.kinds and not settings.hidden_labels:
        data = hide_invisible_labels(data)
    if start_model.card.amounts and data.amount is None:
        data = fill_amounts(start_model, data, settings)
    run_settings = settings.model_copy(update={"kind": start_model.card.kind})
    claim_folder(run_settings.out, known_files=("labels.json", "dense/settings.json"))
    split = _split_units(data, run_settings)
    if run_settings.labels is not None:
        _refuse_other_labels(data, run_settings.out)
    scores_before = score(start_model.network, data, split.test, run_settings) if split.test.size else ()
    loss_before = (
        None if settings.fresh_dense else validation_loss(start_model.network, data, split.validation, run_settings)
    )
    given_model = TrainedNetwork(deepcopy(start_model.network), start_model.card)
    lightning.seed_everything(settings.seed, verbose=False)
    dense_names = dense_layers(start_model.network)
    if settings.fresh_dense:
        _reinitialise(start_model.network, dense_names)
    absent_names = _absent_names(data, split)
    model_card = _finetuned_card(start_model.card, data, run_settings, split.train.size, absent_names)
    step_settings = run_settings.model_copy(
        update={"out": run_settings.out / "dense", "epochs": run_settings.dense_epochs}
    )
    first_report = run_training(start_model.network, model_card, data, split, step_settings, trainable=dense_names)
    step_settings = run_settings.model_copy(update={"out": run_settings.out / "all"})
    second_report = run_training(first_report.trained_model.network, model_card, data, split, step_settings)
    layer_names = tuple(
        name for name, layer in start_model.network.named_children() if any(True for _ in layer.parameters())
    )
    report = FinetuneReport(
        trained_model=given_model,
        loaded_layers=tuple(name for name in layer_names if not (settings.fresh_dense and name in dense_names)),
        reinitialised_layers=dense_names if settings.fresh_dense else (),
        frozen_layers=tuple(name for name in layer_names if name not in dense_names),
        first_step=first_report,
        second_step=second_report,
        scores_before=scores_before,
        loss_before=loss_before,
        n_spectra={"training": split.train.size, "validation": split.validation.size, "test": split.test.size},
        absent_names=absent_names,
        n_hidden_label=n_positive - int((data.labels == 1).sum()),
    )
    networks = {"before": given_model, "first": first_report.trained_model, "second": second_report.trained_model}
    report = replace(report, trained_model=networks[report.chosen_network])
    write_json(run_settings.out / "report.json", report.as_dict())
    return report


def _read_library(settings: FinetuneSettings, model_card: ModelCard) -> Library:
    if settings.labels is None:
        return load_library(settings.library, lines=settings.present == "lines")
    return labelled_library(settings.library[0], settings.labels, model_card)


def _split_units(data: Library, settings: FinetuneSettings) -> Split:
    unit_of_row = data.source if settings.split == "structure" else np.arange(len(data))
    n_unit = np.unique(unit_of_row).size
    if n_unit < _MIN_UNITS:
        available_text = (
            f"{n_unit} structures ({len(data)} spectra)" if settings.split == "structure" else f"{n_unit} spectra"
        )
        mixing_hint = ", or mix the spectra of a structure with split = pixel, which makes the scores too high"
        raise TrainingError(
            f"Cannot fine-tune on {available_text}: at least {_MIN_UNITS} are needed, so that training, validation and "
            f"test set each have some. Label more{mixing_hint if len(data) >= _MIN_UNITS else ''}."
        )
    return split_by_settings(unit_of_row, settings)


def _refuse_other_labels(data: Library, folder: Path) -> None:
    """Refuse to resume with other spectra or labels, because spectra of the test set could become training data."""
    total_counts = np.rint(data.spectra.sum(axis=1)).astype(np.int64)
    digest = hashlib.sha256(b"".join(array.tobytes() for array in (data.labels, data.source, total_counts))).hexdigest()
    resume_folder(
        folder,
        {"spectra_and_labels": digest, "n_spectra": len(data)},
        settings_file="labels.json",
        marker_files=("dense/settings.json",),
    )


def _absent_names(data: Library, split: Split) -> tuple[str, ...]:
    has_positive = (data.labels[split.train] == 1).any(axis=0)
    has_negative = (data.labels[split.train] == 0).any(axis=0)
    return tuple(name for name, is_absent in zip(data.names, has_negative & ~has_positive, strict=True) if is_absent)


def _n_weight(network: nn.Module, name: str) -> int:
    return sum(parameter.numel() for parameter in network.get_submodule(name).parameters())


def _with_names_of(library: Library, model_card: ModelCard) -> Library:
    if library.axis != model_card.axis:
        raise TrainingError(
            f"Cannot fine-tune {model_card.name!r}: its axis has {model_card.axis.n_bin} bins of "
            f"{model_card.axis.bin_kev:g} keV from {model_card.axis.start_kev:g} keV, the spectra have "
            f"{library.axis.n_bin} of {library.axis.bin_kev:g} keV from {library.axis.start_kev:g} keV. "
            "Rebin them with `labelled_spectra`."
        )
    return library.with_names(model_card.names)


def _reinitialise(network: nn.Module, layers: tuple[str, ...]) -> None:
    for name in layers:
        layer = network.get_submodule(name)
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()


def _finetuned_card(
    model_card: ModelCard, library: Library, settings: FinetuneSettings, n_train: int, absent_names: tuple[str, ...]
) -> ModelCard:
    training = Training(
        library=(*model_card.training.library, *library.origin),
        n_spectra=n_train,
        seed=settings.seed,
        config={"finetuned_from": model_card.training.model_dump(mode="json"), **config_of(settings)},
    )
    update = {
        "name": settings.name,
        "training": training,
        "limits": (_limit_sentence(library, model_card, n_train, absent_names), *model_card.limits),
        "package_version": __version__,
        "figures": {},
    }
    return model_card.model_copy(update=update)


def _limit_sentence(library: Library, model_card: ModelCard, n_train: int, absent_names: tuple[str, ...]) -> str:
    sentence = f"Fine-tuned from {model_card.name!r} on {n_train} spectra of {', '.join(library.origin)}"
    if absent_names:
        positive_names = [
            name
            for name, has_positive in zip(library.names, (library.labels == 1).any(axis=0), strict=True)
            if has_positive
        ]
        sentence += f" with {', '.join(positive_names) or 'none of its names'}; it has learned that "
        sentence += f"{len(absent_names)} others are absent"
    return f"{sentence}. The following limits were stated before fine-tuning."
