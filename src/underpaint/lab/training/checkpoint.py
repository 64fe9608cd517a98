"""Checkpoints: a network with the settings to rebuild it and its card."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from underpaint._version import __version__
from underpaint.data.maps import AMOUNT_EDGES
from underpaint.errors import TrainingError
from underpaint.lab.networks import NetworkSpec, build_network, is_folded
from underpaint.lab.training.exporting import check_export
from underpaint.lab.training.library import Library
from underpaint.lab.training.settings import TrainSettings
from underpaint.physics.materials import library
from underpaint.pigments.weights import ModelCard, Training, load_card, model_path, read_network
from underpaint.simulate.labels import materials

ELEMENTS = (
    *("Al", "Si", "P", "S", "Cl", "K", "Ca", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "As", "Se", "Br"),
    *("Sr", "Y", "Zr", "Mo", "Ag", "Cd", "Sn", "Sb", "Ba", "W", "Au", "Hg", "Pb", "Bi"),
)
"""Elements of pigments whose lines a scanner may record."""
FAMILIES = (
    *(f"{element}_K" for element in ELEMENTS[: ELEMENTS.index("Ba") + 1]),
    *("Ar_K", "Rh_K", "Pd_K", "Rb_K", "Ga_K"),
    *("Ag_L", "Cd_L", "Sn_L", "Sb_L", "Ba_L", "W_L", "Au_L", "Hg_L", "Pb_L", "Bi_L", "Tl_L", "Pb_M", "Hg_M", "Rh_L"),
)
"""Line families whose areas are inputs of a network."""


def composition(materials: Sequence[str]) -> NDArray[np.float32]:
    """Return (n_material, n_element + 1) square roots of mass fractions, and whether it is a group.

    A group is one part of its element. The root keeps a few per cent of an element, whose lines may be the strongest
    of all, in view.
    """
    groups = {group.name: group.element for group in library().groups}
    table = np.zeros((len(materials), len(ELEMENTS) + 1), dtype=np.float32)
    for row, name in zip(table, materials, strict=True):
        fractions = {groups[name]: 1.0} if name in groups else library()[name].mass_fractions
        row[:-1] = [np.sqrt(fractions.get(element, 0.0)) for element in ELEMENTS]
        row[-1] = name in groups
    return table


_PREFIX = "network."
_COUNTER = "num_batches_tracked"


def fill_from_onnx(network: nn.Module, card: ModelCard, path: Path) -> None:
    """Give a folded network the weights of an ONNX file that :func:`underpaint.lab.training.export` wrote.

    Parameters
    ----------
    network : Module
        Built with ``folded=True``; changed in place.
    card : ModelCard
        The file's card.
    path : Path
        The ONNX file.

    Raises
    ------
    TrainingError
        The file is damaged or lacks a weight, or the filled network does not answer as the file does.
    """
    expected = {name: value for name, value in network.state_dict().items() if not name.endswith(_COUNTER)}
    # The exporter drops a bias of zeros; the check at the end fails where it was not zero.
    zero = {name: torch.zeros_like(value) for name, value in expected.items() if name.endswith(".bias")}
    weights = zero | _weights(path)
    misfit = [name for name, value in expected.items() if name not in weights or weights[name].shape != value.shape]
    if misfit:
        raise TrainingError(_unusable(path, f"it has no weights of the right size for {', '.join(misfit)}"))
    network.load_state_dict({name: weights[name] for name in expected}, strict=False)
    try:
        check_export(network.eval(), card, path)
    except TrainingError as error:
        raise TrainingError(_unusable(path, "the network built from its weights answers otherwise")) from error


def _weights(path: Path) -> dict[str, Tensor]:
    import onnx

    try:
        graph = onnx.load_from_string(read_network(path)).graph
    except Exception as error:  # protobuf's own errors share no public base with Python's
        raise TrainingError(_unusable(path, f"it cannot be read ({error})")) from error
    values = {each.name: np.array(onnx.numpy_helper.to_array(each)) for each in graph.initializer}
    weights = {name.removeprefix(_PREFIX): value for name, value in values.items() if name.startswith(_PREFIX)}
    for node in graph.node:
        if node.op_type == "GRU" and node.input[3:4] and node.input[3] in values:
            weights |= _biases(values[node.input[3]])
    return {name: torch.from_numpy(value) for name, value in weights.items()}


def _biases(packed: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Unpack a recurrent layer's biases, which the exporter keeps as one constant with the update gate before reset."""
    biases = {}
    for suffix, direction in zip(("", "_reverse"), packed, strict=False):
        for side, gates in zip(("ih", "hh"), np.split(direction, 2), strict=True):
            update, reset, new = np.split(gates, 3)
            biases[f"recurrent.bias_{side}_l0{suffix}"] = np.concatenate((reset, update, new))
    return biases


def _unusable(path: Path, reason: str) -> str:
    return (
        f"Cannot train {path} further: {reason}. Give a model that this package wrote: default, xu2022, or the .onnx "
        "or .ckpt file of `underpaint train` or `underpaint finetune`."
    )


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
    """Return the plain values of a checkpoint."""
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
        limits=(*_LIMITS["default" if settings.has_layers else settings.kind], *_limits_of_lines(settings)),
        package_version=__version__,
    )


def _limits_of_lines(settings: TrainSettings) -> tuple[str, ...]:
    if settings.present == "pigment":
        return ()
    return (
        "A group counts as present where lines of its element are detected, from paint, ground, support or a trace.",
        "The amount of an element is estimated for paintings like those of the training.",
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
        "amounts": library.amount_names,
        "amount_edges": AMOUNT_EDGES if library.amount_names else (),
        "families": FAMILIES if settings.kind == "layers_evidence" else (),
    }


def _narrowest(library: Library) -> tuple[float, float]:
    axis = library.axis
    start = max(axis.start_kev, float(library.recorded[:, 0].max()))
    stop = min(axis.stop_kev, float(library.recorded[:, 1].min()))
    return round(start, 4), round(stop, 4)


def config_of(settings: TrainSettings) -> dict[str, Any]:
    """Return the settings that do not depend on the machine: no folders, threads or progress."""
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
        n_amount=len(card.amounts),
        n_edge=len(card.amount_edges),
        families=card.families,
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
    except Exception as error:  # torch raises whatever error its reader met
        raise TrainingError(
            f"Cannot read the checkpoint {path}: {error}. Give a .ckpt file that `underpaint train` wrote."
        ) from error
    return Trained(network.eval(), card)


def load_trainable(name_or_path: str | Path) -> Trained:
    """Load a network for further training.

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
    """Return the card with the results of the run."""
    training = card.training.model_copy(update={"epochs": epochs})
    return card.model_copy(update={"training": training, "figures": {**card.figures, **figures}})
