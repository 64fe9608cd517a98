"""Checkpoints: a network with what is needed to build it and its card again."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from underpaint import __version__
from underpaint.errors import TrainingError
from underpaint.lab.networks import NetworkSpec, build_network, is_folded
from underpaint.lab.training.library import Library
from underpaint.lab.training.onnx_weights import fill_from_onnx
from underpaint.lab.training.settings import TrainSettings
from underpaint.pigments.weights import ModelCard, Training, load_card, model_path
from underpaint.simulate.composition import composition
from underpaint.simulate.labels import materials

_OF_THE_PROTOCOL = (
    "Needs spectra that cover its whole axis.",
    "Trained without noise, as the paper trains its network: fine-tune it on spectra of your instrument before use.",
    "Each spectrum is divided by its maximum: weak spectra have their noise enlarged.",
)
_LIMITS = {
    "default": (
        "Trained on simulated spectra alone.",
        "Pigments of the same key elements are told apart by priors more than by the spectrum; trust the group first.",
        "A pigment too deep to be seen at the counts at hand is neither confirmed nor excluded.",
    ),
    "xu2022": (
        "Needs spectra from 2.80 to 40.95 keV.",
        "Trained on one pigment per layer, two layers over chalk, noise-free.",
        "Each spectrum is divided by its maximum: weak spectra have their noise enlarged.",
        "Trained without noise, as in the paper: on noisy spectra it says yes to nearly everything (virtual panels at "
        "1e5 counts: no better than always yes). Fine-tune it on spectra of your instrument before use.",
        "Prussian blue and verdigris are simulated as their hydrates, with 0.77 and 0.68 times the metal of the "
        "paper's formulas.",
    ),
    "xu2022_root": _OF_THE_PROTOCOL,
    "xu2022_unscaled": _OF_THE_PROTOCOL,
    "recurrent": _OF_THE_PROTOCOL,
    "autoencoder": _OF_THE_PROTOCOL,
}


@dataclass(frozen=True)
class Trained:
    """A network in evaluation mode with its card."""

    network: nn.Module
    card: ModelCard


def about(network: nn.Module, card: ModelCard) -> dict[str, Any]:
    """Return the plain values that go into a checkpoint."""
    return {"spec": asdict(spec_for(card, folded=is_folded(network))), "card": card.model_dump_json()}


def card_for(library: Library, settings: TrainSettings, n_train: int) -> ModelCard:
    """Describe a network that is about to be trained."""
    full = settings.paper_protocol
    return ModelCard(
        name=settings.name,
        kind=settings.kind,
        axis=library.axis,
        needs_full_axis=full,
        narrowest_kev=None if full else _narrowest(library),
        names=library.names,
        kinds=library.kinds,
        groups=library.groups,
        labels=library.labels_for_people,
        elements=library.elements,
        **_of_layers(library, settings),
        training=Training(library=library.origin, n_spectra=n_train, seed=settings.seed, config=config_of(settings)),
        limits=_LIMITS["default" if settings.has_layers else settings.kind],
        package_version=__version__,
    )


def _of_layers(library: Library, settings: TrainSettings) -> dict[str, Any]:
    if not settings.has_layers:
        return {}
    if library.instrument is None:
        raise TrainingError(
            f"Cannot train a network of layers from {', '.join(library.origin)}: no labels by place are in it. "
            "Simulate with `places = true`."
        )
    return {
        "instrument_inputs": library.instrument_inputs,
        "quantities": library.quantity_names,
        "composition": tuple(map(tuple, composition(materials(library.names)).tolist())),
    }


def _narrowest(library: Library) -> tuple[float, float]:
    axis = library.axis
    start = max(axis.start_kev, float(library.recorded[:, 0].max()))
    stop = min(axis.stop_kev, float(library.recorded[:, 1].min()))
    return round(start, 4), round(stop, 4)


def config_of(settings: TrainSettings) -> dict[str, Any]:
    """Return the settings without what belongs to one machine: folders, threads, progress."""
    config: dict[str, Any] = json.loads(settings.model_dump_json(exclude={"out", "threads", "progress", "accelerator"}))
    config["library"] = [Path(each).name for each in config["library"]]
    for named in ("labels", "start", "calibration"):
        if config.get(named) is not None:
            config[named] = Path(config[named]).name
    return config


def spec_for(card: ModelCard, *, folded: bool = False) -> NetworkSpec:
    """Sizes of the network that a card describes."""
    return NetworkSpec(
        kind=card.kind,
        n_bin=card.axis.n_bin,
        n_output=len(card.names),
        start_kev=card.axis.start_kev,
        bin_kev=card.axis.bin_kev,
        folded=folded,
        n_instrument=len(card.instrument_inputs),
        n_quantity=len(card.quantities),
        composition=card.composition,
    )


def load_checkpoint(path: str | Path) -> Trained:
    """Build the network of a checkpoint of :func:`underpaint.lab.training.train`.

    Parameters
    ----------
    path : str or Path
        A ``.ckpt`` file.

    Raises
    ------
    TrainingError
        The file is missing, damaged, or was not written by this package.
    """
    try:
        saved = torch.load(Path(path), map_location="cpu", weights_only=True)
        network = build_network(NetworkSpec(**saved["underpaint"]["spec"]))
        weights = {key.removeprefix("network."): value for key, value in saved["state_dict"].items()}
        network.load_state_dict(weights)
        card = ModelCard.model_validate_json(saved["underpaint"]["card"])
    except Exception as error:  # torch passes on whatever its reader met
        raise TrainingError(
            f"Cannot read the checkpoint {path}: {error}. Give a .ckpt file that `underpaint train` wrote."
        ) from error
    return Trained(network.eval(), card)


def load_trainable(name_or_path: str | Path) -> Trained:
    """Build a network from where it lies, to train it further.

    Parameters
    ----------
    name_or_path : str or Path
        A shipped name ("default", "xu2022"), the path of an ``.onnx`` file with its card beside it, or a ``.ckpt``
        file of :func:`underpaint.lab.training.train`.

    Returns
    -------
    Trained
        The network answers as the file does. One from an ONNX file has no batch normalisation behind its
        convolutions and linear layers, see :class:`underpaint.lab.networks.NetworkSpec`.

    Raises
    ------
    TrainingError
        The checkpoint cannot be read, or the ONNX file does not hold one of this package's networks.
    ModelError
        There is no such model, or its card is damaged.
    """
    if Path(name_or_path).suffix == ".ckpt":
        return load_checkpoint(name_or_path)
    card, path = load_card(name_or_path), model_path(name_or_path)
    network = build_network(spec_for(card, folded=True))
    fill_from_onnx(network, card, path)
    return Trained(network.eval(), card)


def with_training(card: ModelCard, *, epochs: int, figures: dict[str, Any]) -> ModelCard:
    """Return the card with what the run has found."""
    training = card.training.model_copy(update={"epochs": epochs})
    return card.model_copy(update={"training": training, "figures": {**card.figures, **figures}})
