"""Fine-tuning as in the paper, first of the dense layers alone and then of all layers."""

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
from underpaint.lab.training.checkpoint import TrainedNetwork, load_trainable, portable_settings
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
"""Area of a key line family, in standard deviations, above which its group is visible."""


def hide_invisible_labels(labelled_set: Library) -> Library:
    """Set labels that are present but not visible in the spectrum to unknown.

    Labels of a mock-up include pigments that a thick layer hides. Training on labels of hidden pigments would teach the
    network to claim pigments that it cannot detect. A label is visible if each of its groups has a key line family with
    an area above ``VISIBLE_SIGMAS`` standard deviations. Present labels that are not visible become ``UNKNOWN``.

    Parameters
    ----------
    labelled_set : Library
        Measured spectra with labels by group and member.
    """
    library_groups = {group.name for group in pigments().groups}
    groups = sorted(
        library_groups & {split_place(name)[0] for member_groups in labelled_set.groups for name in member_groups}
    )
    is_visible = _visible_groups(labelled_set, groups)
    labels = labelled_set.labels.copy()
    for name_column, groups_of_name in enumerate(labelled_set.groups):
        group_names = {split_place(group)[0] for group in groups_of_name}
        is_group_hidden = [~is_visible[:, groups.index(group)] for group in group_names & set(groups)]
        if is_group_hidden:
            is_present = labels[:, name_column] == 1
            labels[is_present & np.any(is_group_hidden, axis=0), name_column] = UNKNOWN
    return replace(labelled_set, labels=labels)


def fill_amounts(start_model: TrainedNetwork, labelled_set: Library, settings: FinetuneSettings) -> Library:
    """Use a network's answers as labels of amounts, so that fine-tuning preserves these answers."""
    network = deepcopy(start_model.network).eval()
    calibration = network.get_submodule("calibration")
    if isinstance(calibration, Calibration):
        calibration.reset()  # training does not use the calibration
    rows, amount_shape = (
        np.arange(len(labelled_set)),
        (len(labelled_set), len(start_model.card.amounts), len(start_model.card.amount_edges)),
    )
    with torch.inference_mode():
        logits = [run_network(network, batch)[3] for batch in Batches(labelled_set, rows, settings, shuffle=False)]
    p_reached = torch.sigmoid(torch.cat(logits).float()).numpy().reshape(amount_shape)
    return replace(labelled_set, amount=p_reached, amount_names=start_model.card.amounts)


def _visible_groups(labelled_set: Library, groups: list[str]) -> NDArray[np.bool_]:
    """Return the (n, n_group) mask of groups with a significant key family, or all True if no fit is possible."""
    axis = EnergyAxis(
        labelled_set.axis.bin_kev,
        labelled_set.axis.start_kev + 0.5 * labelled_set.axis.bin_kev,
        labelled_set.axis.n_bin,
    )
    scan = Scan(labelled_set.spectra.astype(np.float32)[None], axis=axis, name="labelled spectra")
    try:
        element_maps = fit_elements(scan)
    except (CoverageError, ScanError):
        return np.ones((len(labelled_set), len(groups)), dtype=np.bool_)
    is_visible = np.zeros((len(labelled_set), len(groups)), dtype=np.bool_)
    for group_column, group in enumerate(groups):
        is_visible[:, group_column] = (
            element_maps.max_significance(pigments().group(group).key_families)[0] > VISIBLE_SIGMAS
        )
    return is_visible


_MIN_SPLIT_UNITS = 5


@dataclass(frozen=True)
class FinetuneReport:
    """Result of fine-tuning: the chosen network, the trained layers and the scores.

    Parameters
    ----------
    trained_model : TrainedNetwork
        Network with the lowest validation loss: the given network, or the network after the first or second step.
    loaded_layers : tuple of str
        Layers that started with the weights of the given model.
    reinitialised_layers : tuple of str
        Layers that started with new random weights.
    frozen_layers : tuple of str
        Layers that only the second step trained.
    first_step, second_step : TrainReport
        Report of the first step (only dense layers) and of the second step (all layers).
    scores_before : tuple of NameScores
        Scores of the given model on the test set, or empty without a test set.
    loss_before : float or None
        Validation loss of the given model, or None if its dense layers were re-initialised.
    n_spectra : mapping of str to int
        Number of spectra for "training", "validation" and "test".
    absent_names : tuple of str
        Names without a positive training spectrum. The network can only learn that such names are absent.
    n_hidden_label : int
        Number of present labels that were set to unknown because they are not visible (see
        :func:`hide_invisible_labels`).
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
        """Step with the lowest validation loss: "before" for the given network, "first" or "second"."""
        loss_and_step: tuple[tuple[float, Literal["first", "second"]], ...] = (
            (self.first_step.validation_loss, "first"),
            (self.second_step.validation_loss, "second"),
        )
        validation_loss, step_name = min(loss_and_step)
        return "before" if self.loss_before is not None and self.loss_before <= validation_loss else step_name

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON, with None instead of NaN."""
        return {
            "loaded": list(self.loaded_layers),
            "reinitialised": list(self.reinitialised_layers),
            "frozen_in_first_step": list(self.frozen_layers),
            "weights": {
                name: _n_layer_weights(self.trained_model.network, name)
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
    """Fine-tune a trained network on labelled spectra. The same call resumes an interrupted run.

    Parameters
    ----------
    model : TrainedNetwork, str or Path
        Network, name of a shipped model, or path of an ``.onnx`` or ``.ckpt`` file.
    settings : FinetuneSettings
        Folder, epochs, learning rate and split. The two steps write to ``dense/`` and ``all/`` in the folder. The
        folder also receives ``report.json``.
    library : Library or None
        Labelled spectra on the axis of the model (see :func:`labelled_spectra`), or None to read ``settings.library``.

    Returns
    -------
    FinetuneReport
        Names of the loaded, frozen and re-initialised layers, and the scores of both steps.

    Raises
    ------
    TrainingError
        A label is not an output of the model, the energy axis differs, or there are too few spectra to split.
        The error is also raised if the folder contains a run with other settings or labels.

    References
    ----------
    X. Xu et al., J. Anal. At. Spectrom. (2022), doi 10.1039/d2ja00246a, sections 2.3 and 2.4.
    """
    # the given network is copied, because other runs may start from it
    start_model = (
        TrainedNetwork(deepcopy(model.network), model.card)
        if isinstance(model, TrainedNetwork)
        else load_trainable(model)
    )
    labelled_set = _with_names_of(
        _read_library(settings, start_model.card) if library is None else library, start_model.card
    )
    n_positive = int((labelled_set.labels == 1).sum())
    if labelled_set.has_noise and "group" in start_model.card.kinds and not settings.hidden_labels:
        labelled_set = hide_invisible_labels(labelled_set)
    if start_model.card.amounts and labelled_set.amount is None:
        labelled_set = fill_amounts(start_model, labelled_set, settings)
    run_settings = settings.model_copy(update={"kind": start_model.card.kind})
    claim_folder(run_settings.out, known_files=("labels.json", "dense/settings.json"))
    split = _split_units(labelled_set, run_settings)
    if run_settings.labels is not None:
        _refuse_other_labels(labelled_set, run_settings.out)
    scores_before = score(start_model.network, labelled_set, split.test, run_settings) if split.test.size else ()
    loss_before = (
        None
        if settings.fresh_dense
        else validation_loss(start_model.network, labelled_set, split.validation, run_settings)
    )
    given_model = TrainedNetwork(deepcopy(start_model.network), start_model.card)
    lightning.seed_everything(settings.seed, verbose=False)
    dense_names = dense_layers(start_model.network)
    if settings.fresh_dense:
        _reinitialise(start_model.network, dense_names)
    absent_names = _absent_names(labelled_set, split)
    model_card = _finetuned_card(start_model.card, labelled_set, run_settings, split.train.size, absent_names)
    step_settings = run_settings.model_copy(
        update={"out": run_settings.out / "dense", "epochs": run_settings.dense_epochs}
    )
    first_report = run_training(
        start_model.network, model_card, labelled_set, split, step_settings, trainable=dense_names
    )
    step_settings = run_settings.model_copy(update={"out": run_settings.out / "all"})
    second_report = run_training(first_report.trained_model.network, model_card, labelled_set, split, step_settings)
    layer_names = tuple(
        name
        for name, named_layer in start_model.network.named_children()
        if any(True for _ in named_layer.parameters())
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
        n_hidden_label=n_positive - int((labelled_set.labels == 1).sum()),
    )
    networks = {"before": given_model, "first": first_report.trained_model, "second": second_report.trained_model}
    report = replace(report, trained_model=networks[report.chosen_network])
    write_json(run_settings.out / "report.json", report.as_dict())
    return report


def _read_library(settings: FinetuneSettings, model_card: ModelCard) -> Library:
    if settings.labels is None:
        return load_library(settings.library, lines=settings.present == "lines")
    return labelled_library(settings.library[0], settings.labels, model_card)


def _split_units(labelled_set: Library, settings: FinetuneSettings) -> Split:
    unit_of_row = labelled_set.source if settings.split == "structure" else np.arange(len(labelled_set))
    n_unit = np.unique(unit_of_row).size
    if n_unit < _MIN_SPLIT_UNITS:
        units_text = (
            f"{n_unit} structures ({len(labelled_set)} spectra)"
            if settings.split == "structure"
            else f"{n_unit} spectra"
        )
        pixel_hint = ", or split the spectra of each structure with split = pixel, which makes the scores too high"
        raise TrainingError(
            f"Cannot fine-tune on {units_text}: at least {_MIN_SPLIT_UNITS} are needed for training, validation and "
            f"test set. Label more{pixel_hint if len(labelled_set) >= _MIN_SPLIT_UNITS else ''}."
        )
    return split_by_settings(unit_of_row, settings)


def _refuse_other_labels(labelled_set: Library, folder: Path) -> None:
    """Raise an error if a resumed run has other spectra or labels, which would change the test set."""
    total_counts = np.rint(labelled_set.spectra.sum(axis=1)).astype(np.int64)
    label_digest = hashlib.sha256(
        b"".join(array.tobytes() for array in (labelled_set.labels, labelled_set.source, total_counts))
    ).hexdigest()
    resume_folder(
        folder,
        {"spectra_and_labels": label_digest, "n_spectra": len(labelled_set)},
        settings_file="labels.json",
        marker_files=("dense/settings.json",),
    )


def _absent_names(labelled_set: Library, split: Split) -> tuple[str, ...]:
    has_positive = (labelled_set.labels[split.train] == 1).any(axis=0)
    has_negative = (labelled_set.labels[split.train] == 0).any(axis=0)
    return tuple(
        name for name, is_absent in zip(labelled_set.names, has_negative & ~has_positive, strict=True) if is_absent
    )


def _n_layer_weights(network: nn.Module, name: str) -> int:
    return sum(parameter.numel() for parameter in network.get_submodule(name).parameters())


def _with_names_of(library: Library, model_card: ModelCard) -> Library:
    if library.axis != model_card.axis:
        raise TrainingError(
            f"Cannot fine-tune {model_card.name!r}: its axis has {model_card.axis.n_bin} bins of "
            f"{model_card.axis.bin_kev:g} keV from {model_card.axis.start_kev:g} keV, but the spectra have "
            f"{library.axis.n_bin} of {library.axis.bin_kev:g} keV from {library.axis.start_kev:g} keV. "
            "Rebin them with `labelled_spectra`."
        )
    return library.with_names(model_card.names)


def _reinitialise(network: nn.Module, layer_names: tuple[str, ...]) -> None:
    for layer_name in layer_names:
        named_layer = network.get_submodule(layer_name)
        if isinstance(named_layer, nn.Linear):
            named_layer.reset_parameters()


def _finetuned_card(
    model_card: ModelCard, library: Library, settings: FinetuneSettings, n_train: int, absent_names: tuple[str, ...]
) -> ModelCard:
    training_record = Training(
        library=(*model_card.training.library, *library.origin),
        n_spectra=n_train,
        seed=settings.seed,
        config={"finetuned_from": model_card.training.model_dump(mode="json"), **portable_settings(settings)},
    )
    card_update = {
        "name": settings.name,
        "training": training_record,
        "limits": (_limitation_sentence(library, model_card, n_train, absent_names), *model_card.limits),
        "package_version": __version__,
        "figures": {},
    }
    return model_card.model_copy(update=card_update)


def _limitation_sentence(library: Library, model_card: ModelCard, n_train: int, absent_names: tuple[str, ...]) -> str:
    limit_sentence = f"Fine-tuned from {model_card.name!r} on {n_train} spectra of {', '.join(library.origin)}"
    if absent_names:
        positive_names = [
            name
            for name, has_positive in zip(library.names, (library.labels == 1).any(axis=0), strict=True)
            if has_positive
        ]
        limit_sentence += f" with {', '.join(positive_names) or 'none of its pigments'}. In these spectra, "
        limit_sentence += f"{len(absent_names)} other names are labelled absent"
    return f"{limit_sentence}. The following limits were stated before fine-tuning."
