"""Networks as torch modules, which convert input tensors to logits and use neither files nor pigment names."""

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import nn

from underpaint.lab.networks.calibration import Calibration
from underpaint.lab.networks.default import DefaultNetwork
from underpaint.lab.networks.layers import Body, LayersNetwork
from underpaint.lab.networks.xu2022 import (
    AutoencoderNetwork,
    Decoder,
    LogLogRootTransform,
    RecurrentNetwork,
    SquareRootTransform,
    XuNetwork,
)
from underpaint.pigments.weights import NetworkKind

__all__ = [
    "AutoencoderNetwork",
    "Calibration",
    "Decoder",
    "DefaultNetwork",
    "LayersNetwork",
    "NetworkSpec",
    "RecurrentNetwork",
    "XuNetwork",
    "build_network",
    "dense_layers",
    "is_folded",
    "parameter_count",
]

Network: TypeAlias = DefaultNetwork | XuNetwork | RecurrentNetwork | AutoencoderNetwork | LayersNetwork


@dataclass(frozen=True)
class NetworkSpec:
    """Parameters to build a network.

    Parameters
    ----------
    kind : str
        Architecture. "xu2022_root" and "xu2022_unscaled" are the network "xu2022" with other transforms of the counts.
        Kinds that begin with "layers" are variants of the network of layers, with different bodies or heads.
    n_bin, n_output : int
        Number of bins of the axis, and number of outputs.
    start_kev, bin_kev : float
        Lower edge of the first bin and width of the bins, in keV.
    folded : bool
        True for a network from an ONNX file.
        The exporter folds a batch normalisation into the weights of the convolution or linear layer before it.
        Batch normalisations after an activation are kept.
    n_instrument, n_quantity : int
        Numbers of instrument inputs and of predicted quantities; 0 unless the network predicts layers.
    n_amount, n_edge : int
        Number of amounts that a network of layers predicts, and number of class edges (mass fractions between classes).
    families : tuple of str
        Line families whose areas are inputs of the network.
    composition : tuple of n_output / 3 tuples of float
        Composition of each material of a network of layers.
    """

    kind: NetworkKind
    n_bin: int
    n_output: int
    start_kev: float
    bin_kev: float
    folded: bool = False
    n_instrument: int = 0
    n_quantity: int = 0
    n_amount: int = 0
    n_edge: int = 0
    families: tuple[str, ...] = ()
    composition: tuple[tuple[float, ...], ...] = ()


def build_network(spec: NetworkSpec) -> Network:
    """Build the network of ``spec`` with random initial weights."""
    network = _build_network(spec)
    if spec.folded:
        for sequence_and_name in _foldable_normalisations(network):
            setattr(*sequence_and_name, nn.Identity())
    return network


def is_folded(network: nn.Module) -> bool:
    """Return whether batch normalisations are folded into weights, as in networks from ONNX files."""
    return not _foldable_normalisations(network)


def _build_network(spec: NetworkSpec) -> Network:
    match spec.kind:
        case "xu2022":
            return XuNetwork(spec.n_bin, spec.n_output)
        case "xu2022_root":
            return XuNetwork(spec.n_bin, spec.n_output, transform=SquareRootTransform())
        case "xu2022_unscaled":
            return XuNetwork(spec.n_bin, spec.n_output, transform=LogLogRootTransform(is_scaled=False))
        case "recurrent":
            return RecurrentNetwork(spec.n_bin, spec.n_output)
        case "autoencoder":
            return AutoencoderNetwork(spec.n_bin, spec.n_output)
        case "layers" | "layers_dense" | "layers_recurrent" | "layers_composition" | "layers_evidence":
            return _build_layers_network(spec)
    return DefaultNetwork(spec.n_bin, spec.n_output, spec.start_kev, spec.bin_kev)


def _build_layers_network(spec: NetworkSpec) -> LayersNetwork:
    body_by_kind: dict[str, Body] = {
        "layers_dense": "dense",
        "layers_recurrent": "recurrent",
        "layers_evidence": "dense",
    }
    return LayersNetwork(
        spec.n_bin,
        torch.tensor(spec.composition),
        n_instrument=spec.n_instrument,
        n_quantity=spec.n_quantity,
        n_amount=spec.n_amount,
        n_edge=spec.n_edge,
        families=spec.families,
        start_kev=spec.start_kev,
        bin_kev=spec.bin_kev,
        body=body_by_kind.get(spec.kind, "attention"),
        head="composition" if spec.kind == "layers_composition" else "free",
    )


def _foldable_normalisations(network: nn.Module) -> list[tuple[nn.Sequential, str]]:
    """List the batch normalisations that the exporter folds, each as its ``Sequential`` and its name."""
    return [
        (sequence, name)
        for sequence in network.modules()
        if isinstance(sequence, nn.Sequential)
        for (_, previous_layer), (name, layer) in pairwise(sequence.named_children())
        if isinstance(previous_layer, nn.Conv2d | nn.Linear) and isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)
    ]


def dense_layers(network: nn.Module) -> tuple[str, ...]:
    """Return the names of the fully connected layers, which are fine-tuned first."""
    return tuple(name for name in ("dense", "linear", "presence", "quantity", "amount") if hasattr(network, name))


def parameter_count(network: nn.Module) -> int:
    """Return the number of parameters of a network, including those of frozen layers."""
    return sum(parameter.numel() for parameter in network.parameters())
