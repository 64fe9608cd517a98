"""The way back from an ONNX file to a torch network: the exporter keeps the names of the weights."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from underpaint.errors import TrainingError
from underpaint.lab.training.exporting import check_export
from underpaint.pigments.weights import ModelCard, read_network

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
    wanted = {name: value for name, value in network.state_dict().items() if not name.endswith(_COUNTER)}
    # The exporter drops a bias that is zero throughout; the comparison at the end would tell if it was not.
    zero = {name: torch.zeros_like(value) for name, value in wanted.items() if name.endswith(".bias")}
    found = zero | _weights(path)
    misfit = [name for name, value in wanted.items() if name not in found or found[name].shape != value.shape]
    if misfit:
        raise TrainingError(_unusable(path, f"it has no weights of the right size for {', '.join(misfit)}"))
    network.load_state_dict({name: found[name] for name in wanted}, strict=False)
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
    found = {name.removeprefix(_PREFIX): value for name, value in values.items() if name.startswith(_PREFIX)}
    for node in graph.node:
        if node.op_type == "GRU" and node.input[3:4] and node.input[3] in values:
            found |= _biases(values[node.input[3]])
    return {name: torch.from_numpy(value) for name, value in found.items()}


def _biases(packed: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Unpack a recurrent layer's biases, which the exporter keeps as one constant with the update gate before reset."""
    found = {}
    for suffix, direction in zip(("", "_reverse"), packed, strict=False):
        for side, gates in zip(("ih", "hh"), np.split(direction, 2), strict=True):
            update, reset, new = np.split(gates, 3)
            found[f"recurrent.bias_{side}_l0{suffix}"] = np.concatenate((reset, update, new))
    return found


def _unusable(path: Path, reason: str) -> str:
    return (
        f"Cannot train {path} further: {reason}. Give a model that this package wrote: default, xu2022, or the .onnx "
        "or .ckpt file of `underpaint train` or `underpaint finetune`."
    )
