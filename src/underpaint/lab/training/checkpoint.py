"""Checkpoints, which contain a network's weights, the parameters to build the network, and its model card."""

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
"""Pigment elements whose lines a scanner can record."""
FAMILIES = (
    *(f"{element}_K" for element in ELEMENTS[: ELEMENTS.index("Ba") + 1]),
    *("Ar_K", "Rh_K", "Pd_K", "Rb_K", "Ga_K"),
    *("Ag_L", "Cd_L", "Sn_L", "Sb_L", "Ba_L", "W_L", "Au_L", "Hg_L", "Pb_L", "Bi_L", "Tl_L", "Pb_M", "Hg_M", "Rh_L"),
)
"""Line families whose areas are inputs of networks with an ``Evidence`` layer."""


def composition(materials: Sequence[str]) -> NDArray[np.float32]:
    """Return (n_material, n_element + 1) square roots of mass fractions. The last column is 1 for groups.

    The composition of a group is its element alone. The square root emphasises elements with mass fractions of a few
    per cent, because their lines can be strong.
    """
    groups = {group.name: group.element for group in library().groups}
    composition_rows = np.zeros((len(materials), len(ELEMENTS) + 1), dtype=np.float32)
    for material_row, name in zip(composition_rows, materials, strict=True):
        mass_fractions = {groups[name]: 1.0} if name in groups else library()[name].mass_fractions
        material_row[:-1] = [np.sqrt(mass_fractions.get(element, 0.0)) for element in ELEMENTS]
        material_row[-1] = name in groups
    return composition_rows


_WEIGHT_PREFIX = "network."
_BATCH_COUNTER = "num_batches_tracked"


def load_onnx_weights(network: nn.Module, model_card: ModelCard, path: Path) -> None:
    """Load the weights of an exported ONNX file into a network with folded normalisations.

    Parameters
    ----------
    network : Module
        Network built with ``folded=True``, which is changed in place.
    model_card : ModelCard
        Model card of the file.
    path : Path
        ONNX file.

    Raises
    ------
    TrainingError
        The file is damaged or lacks a weight, or the outputs of network and file differ.
    """
    expected_weights = {
        weight_name: weight
        for weight_name, weight in network.state_dict().items()
        if not weight_name.endswith(_BATCH_COUNTER)
    }
    # the exporter omits zero biases, and the check at the end fails if a missing bias was not zero
    zero_biases = {
        weight_name: torch.zeros_like(weight)
        for weight_name, weight in expected_weights.items()
        if weight_name.endswith(".bias")
    }
    weights = zero_biases | _read_onnx_weights(path)
    mismatched_weights = [
        weight_name
        for weight_name, weight in expected_weights.items()
        if weight_name not in weights or weights[weight_name].shape != weight.shape
    ]
    if mismatched_weights:
        raise TrainingError(
            _unusable_message(path, f"it has no weights of the right size for {', '.join(mismatched_weights)}")
        )
    network.load_state_dict({weight_name: weights[weight_name] for weight_name in expected_weights}, strict=False)
    try:
        check_export(network.eval(), model_card, path)
    except TrainingError as error:
        raise TrainingError(_unusable_message(path, "a network with its weights has other outputs")) from error


def _read_onnx_weights(path: Path) -> dict[str, Tensor]:
    import onnx

    try:
        onnx_graph = onnx.load_from_string(read_network(path)).graph
    except Exception as error:  # protobuf errors have no public base class
        raise TrainingError(_unusable_message(path, f"it cannot be read ({error})")) from error
    array_by_name = {tensor.name: np.array(onnx.numpy_helper.to_array(tensor)) for tensor in onnx_graph.initializer}
    weights = {
        name.removeprefix(_WEIGHT_PREFIX): weight_array
        for name, weight_array in array_by_name.items()
        if name.startswith(_WEIGHT_PREFIX)
    }
    for graph_node in onnx_graph.node:
        if graph_node.op_type == "GRU" and graph_node.input[3:4] and graph_node.input[3] in array_by_name:
            weights |= _unpack_biases(array_by_name[graph_node.input[3]])
    return {name: torch.from_numpy(weight_array) for name, weight_array in weights.items()}


def _unpack_biases(packed_biases: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return the biases of a recurrent layer from the exporter's array, where the update gate is first."""
    biases = {}
    for direction_suffix, direction_biases in zip(("", "_reverse"), packed_biases, strict=False):
        for bias_kind, gate_biases in zip(("ih", "hh"), np.split(direction_biases, 2), strict=True):
            update_gate, reset_gate, candidate_gate = np.split(gate_biases, 3)
            biases[f"recurrent.bias_{bias_kind}_l0{direction_suffix}"] = np.concatenate(
                (reset_gate, update_gate, candidate_gate)
            )
    return biases


def _unusable_message(path: Path, fault: str) -> str:
    return (
        f"Cannot train {path} further: {fault}. Give a model that this package wrote: default, xu2022, or the .onnx "
        "or .ckpt file of `underpaint train` or `underpaint finetune`."
    )


_PROTOCOL_LIMITATIONS = (
    "Needs spectra that cover its whole axis.",
    "Trained without noise, as in the paper. Fine-tune it on spectra of your instrument before use.",
    "Each spectrum is divided by its maximum, which enlarges the noise of weak spectra.",
)
_KIND_LIMITATIONS = {
    "default": (
        "Trained on simulated spectra alone.",
        "A spectrum hardly distinguishes pigments with the same key elements. Rely on the group.",
        "A pigment that is too deep to be visible at the given counts is neither confirmed nor excluded.",
    ),
    "xu2022": (
        "Needs spectra from 2.80 to 40.95 keV.",
        "Trained on noise-free spectra of two layers over chalk with one pigment per layer.",
        "Each spectrum is divided by its maximum, which enlarges the noise of weak spectra.",
        "Trained without noise, as in the paper. On noisy spectra, it claims nearly every pigment. On virtual panels "
        "at 1e5 counts, it is no better than always yes. Fine-tune it on spectra of your instrument before use.",
        "Prussian blue and verdigris are simulated as their hydrates, with 0.77 and 0.68 times the metal of the "
        "paper's formulas.",
    ),
    "xu2022_root": _PROTOCOL_LIMITATIONS,
    "xu2022_unscaled": _PROTOCOL_LIMITATIONS,
    "recurrent": _PROTOCOL_LIMITATIONS,
    "autoencoder": _PROTOCOL_LIMITATIONS,
}


@dataclass(frozen=True)
class TrainedNetwork:
    """A network in evaluation mode, and its model card."""

    network: nn.Module
    card: ModelCard


def checkpoint_description(network: nn.Module, model_card: ModelCard) -> dict[str, Any]:
    """Return the description of a network for its checkpoint, as plain values."""
    return {"spec": asdict(spec_for(model_card, folded=is_folded(network))), "card": model_card.model_dump_json()}


def card_for(library: Library, settings: TrainSettings, n_train: int) -> ModelCard:
    """Return the model card of a network before its training."""
    needs_full_axis = settings.follows_paper_protocol
    return ModelCard(
        name=settings.name,
        kind=settings.kind,
        axis=library.axis,
        needs_full_axis=needs_full_axis,
        narrowest_kev=None if needs_full_axis else _narrowest_range_kev(library),
        names=library.names,
        kinds=library.kinds,
        groups=library.groups,
        labels=library.labels_for_people,
        elements=library.elements,
        **_layer_fields(library, settings),
        training=Training(
            library=library.origin, n_spectra=n_train, seed=settings.seed, config=portable_settings(settings)
        ),
        limits=(*_KIND_LIMITATIONS["default" if settings.has_layers else settings.kind], *_line_limitations(settings)),
        package_version=__version__,
    )


def _line_limitations(settings: TrainSettings) -> tuple[str, ...]:
    if settings.present == "pigment":
        return ()
    return (
        "A group is present where lines of its element are visible, from any source (paint, ground, trace, support).",
        "The amount of an element in the paint is a posterior with the training paintings as prior.",
    )


def _layer_fields(library: Library, settings: TrainSettings) -> dict[str, Any]:
    if not settings.has_layers:
        return {}
    if library.instrument is None:
        raise TrainingError(
            f"Cannot train a network of layers from {', '.join(library.origin)}: it has no labels by place. "
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


def _narrowest_range_kev(library: Library) -> tuple[float, float]:
    axis = library.axis
    start_kev = max(axis.start_kev, float(library.recorded[:, 0].max()))
    stop_kev = min(axis.stop_kev, float(library.recorded[:, 1].min()))
    return round(start_kev, 4), round(stop_kev, 4)


def portable_settings(settings: TrainSettings) -> dict[str, Any]:
    """Return the settings as plain values, without machine-dependent settings such as folders and threads."""
    settings_record: dict[str, Any] = json.loads(
        settings.model_dump_json(exclude={"out", "threads", "progress", "accelerator"})
    )
    settings_record["library"] = [Path(path).name for path in settings_record["library"]]
    for setting_name in ("labels", "start", "calibration"):
        if settings_record.get(setting_name) is not None:
            settings_record[setting_name] = Path(settings_record[setting_name]).name
    return settings_record


def spec_for(model_card: ModelCard, *, folded: bool = False) -> NetworkSpec:
    """Return the parameters to build the network of a model card."""
    return NetworkSpec(
        kind=model_card.kind,
        n_bin=model_card.axis.n_bin,
        n_output=len(model_card.names),
        start_kev=model_card.axis.start_kev,
        bin_kev=model_card.axis.bin_kev,
        folded=folded,
        n_instrument=len(model_card.instrument_inputs),
        n_quantity=len(model_card.quantities),
        n_amount=len(model_card.amounts),
        n_edge=len(model_card.amount_edges),
        families=model_card.families,
        composition=model_card.composition,
    )


def load_checkpoint(path: str | Path) -> TrainedNetwork:
    """Load the network of a checkpoint from :func:`underpaint.lab.training.train`.

    Parameters
    ----------
    path : str or Path
        Path of a ``.ckpt`` file.

    Raises
    ------
    TrainingError
        The file is missing, damaged, or was not written by this package.
    """
    try:
        checkpoint = torch.load(Path(path), map_location="cpu", weights_only=True)
        network = build_network(NetworkSpec(**checkpoint["underpaint"]["spec"]))
        weights = {
            weight_name.removeprefix("network."): weight for weight_name, weight in checkpoint["state_dict"].items()
        }
        network.load_state_dict(weights)
        model_card = ModelCard.model_validate_json(checkpoint["underpaint"]["card"])
    except Exception as error:  # torch raises exceptions of many classes
        raise TrainingError(
            f"Cannot read the checkpoint {path}: {error}. Give a .ckpt file that `underpaint train` wrote."
        ) from error
    return TrainedNetwork(network.eval(), model_card)


def load_trainable(name_or_path: str | Path) -> TrainedNetwork:
    """Load a network for further training.

    Parameters
    ----------
    name_or_path : str or Path
        Name of a shipped model ("default", "xu2022"), or path of an ``.onnx`` or ``.ckpt`` file.
        An ``.onnx`` file needs its model card in the same folder.

    Returns
    -------
    TrainedNetwork
        Network with the outputs of the file.
        A network from an ONNX file has no batch normalisations after its convolutions and linear layers.

    Raises
    ------
    TrainingError
        The checkpoint cannot be read, or the ONNX file contains no network of this package.
    ModelError
        The model does not exist, or its model card is damaged.
    """
    if Path(name_or_path).suffix == ".ckpt":
        return load_checkpoint(name_or_path)
    model_card, path = load_card(name_or_path), model_path(name_or_path)
    network = build_network(spec_for(model_card, folded=True))
    load_onnx_weights(network, model_card, path)
    return TrainedNetwork(network.eval(), model_card)


def card_with_training(model_card: ModelCard, *, epochs: int, scores: dict[str, Any]) -> ModelCard:
    """Return a model card with the number of epochs and the scores of a training run."""
    training_record = model_card.training.model_copy(update={"epochs": epochs})
    return model_card.model_copy(update={"training": training_record, "figures": {**model_card.figures, **scores}})
