"""A network by its kind and sizes."""

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from torch import nn

from underpaint.network.autoencoder import AutoencoderNetwork
from underpaint.network.default import DefaultNetwork
from underpaint.network.recurrent import RecurrentNetwork
from underpaint.network.xu2022 import LogLogRoot, Root, XuNetwork
from underpaint.weights import NetworkKind

Network: TypeAlias = DefaultNetwork | XuNetwork | RecurrentNetwork | AutoencoderNetwork


@dataclass(frozen=True)
class NetworkSpec:
    """What has to be known to build a network again.

    Parameters
    ----------
    kind : {"default", "xu2022", "xu2022_root", "xu2022_unscaled", "recurrent", "autoencoder"}
        Architecture; two are the paper's with another transform of the counts.
    n_bin, n_output : int
        Bins of the network's axis and names in its answer.
    start_kev, bin_kev : float
        Lower border of the first bin and width of the bins, keV.
    folded : bool
        True for a network read from an ONNX file: the exporter has multiplied each batch normalisation that follows a
        convolution or a linear layer into that layer, so nothing stands in its place. Normalisations that follow an
        activation stay as they are.
    """

    kind: NetworkKind
    n_bin: int
    n_output: int
    start_kev: float
    bin_kev: float
    folded: bool = False


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
    return DefaultNetwork(spec.n_bin, spec.n_output, spec.start_kev, spec.bin_kev)


def _foldable(network: nn.Module) -> list[tuple[nn.Sequential, str]]:
    """Find the batch normalisations that the exporter folds: each as the sequence that holds it and its name there."""
    return [
        (sequence, name)
        for sequence in network.modules()
        if isinstance(sequence, nn.Sequential)
        for (_, before), (name, layer) in pairwise(sequence.named_children())
        if isinstance(before, nn.Conv2d | nn.Linear) and isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)
    ]


def dense_layers(network: nn.Module) -> tuple[str, ...]:
    """Names of the fully connected layers that fine-tuning trains first."""
    return tuple(name for name in ("dense", "linear") if hasattr(network, name))


def parameter_count(network: nn.Module) -> int:
    """Count the numbers that training can change, those of frozen layers included."""
    return sum(each.numel() for each in network.parameters())
