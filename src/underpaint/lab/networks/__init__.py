"""The networks as torch modules from tensors to logits, independent of files and pigments."""

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import nn

from underpaint.lab.networks.calibration import Calibration
from underpaint.lab.networks.default import DefaultNetwork
from underpaint.lab.networks.layers import Body, LayersNetwork
from underpaint.lab.networks.xu2022 import AutoencoderNetwork, Decoder, LogLogRoot, RecurrentNetwork, Root, XuNetwork
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
        Architecture. "xu2022_root" and "xu2022_unscaled" are the paper's with another transform of the counts, those
        after "layers" that network with another body or head.
    n_bin, n_output : int
        Bins of the network's axis and number of its outputs.
    start_kev, bin_kev : float
        Lower border of the first bin and width of the bins, keV.
    folded : bool
        True for a network read from an ONNX file: the exporter has multiplied each batch normalisation that follows a
        convolution or a linear layer into that layer, and it is absent. Normalisations that follow an activation are
        kept.
    n_instrument, n_quantity : int
        Number of instrument inputs and of quantities of a network of layers.
    n_amount, n_edge : int
        Amounts answered by a network of layers, and mass shares that bound their classes.
    families : tuple of str
        Line families whose areas are inputs.
    composition : tuple of n_output / 3 tuples of float
        Composition of the materials of a network of layers.
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
    """Build the network of ``spec`` with fresh weights."""
    network = _build(spec)
    if spec.folded:
        for part in _foldable(network):
            setattr(*part, nn.Identity())
    return network


def is_folded(network: nn.Module) -> bool:
    """Whether a network came from an ONNX file, its foldable normalisations gone (see :class:`NetworkSpec`)."""
    return not _foldable(network)


def _build(spec: NetworkSpec) -> Network:
    match spec.kind:
        case "xu2022":
            return XuNetwork(spec.n_bin, spec.n_output)
        case "xu2022_root":
            return XuNetwork(spec.n_bin, spec.n_output, transform=Root())
        case "xu2022_unscaled":
            return XuNetwork(spec.n_bin, spec.n_output, transform=LogLogRoot(scaled=False))
        case "recurrent":
            return RecurrentNetwork(spec.n_bin, spec.n_output)
        case "autoencoder":
            return AutoencoderNetwork(spec.n_bin, spec.n_output)
        case "layers" | "layers_dense" | "layers_recurrent" | "layers_composition" | "layers_evidence":
            return _layers(spec)
    return DefaultNetwork(spec.n_bin, spec.n_output, spec.start_kev, spec.bin_kev)


def _layers(spec: NetworkSpec) -> LayersNetwork:
    bodies: dict[str, Body] = {"layers_dense": "dense", "layers_recurrent": "recurrent", "layers_evidence": "dense"}
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
        body=bodies.get(spec.kind, "attention"),
        head="composition" if spec.kind == "layers_composition" else "free",
    )


def _foldable(network: nn.Module) -> list[tuple[nn.Sequential, str]]:
    """Find the batch normalisations that the exporter folds: each with its sequence and its name there."""
    return [
        (sequence, name)
        for sequence in network.modules()
        if isinstance(sequence, nn.Sequential)
        for (_, before), (name, layer) in pairwise(sequence.named_children())
        if isinstance(before, nn.Conv2d | nn.Linear) and isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)
    ]


def dense_layers(network: nn.Module) -> tuple[str, ...]:
    """Names of the fully connected layers that fine-tuning trains first."""
    return tuple(name for name in ("dense", "linear", "presence", "quantity", "amount") if hasattr(network, name))


def parameter_count(network: nn.Module) -> int:
    """Count the numbers that training can change, those of frozen layers included."""
    return sum(each.numel() for each in network.parameters())
