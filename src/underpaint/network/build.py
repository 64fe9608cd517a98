"""A network by its kind and sizes."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from underpaint.network.default import DefaultNetwork
from underpaint.network.xu2022 import XuNetwork


@dataclass(frozen=True)
class NetworkSpec:
    """What has to be known to build a network again.

    Parameters
    ----------
    kind : {"default", "xu2022"}
        Architecture.
    n_bin, n_output : int
        Bins of the network's axis and names in its answer.
    start_kev, bin_kev : float
        Lower border of the first bin and width of the bins, keV.
    """

    kind: Literal["default", "xu2022"]
    n_bin: int
    n_output: int
    start_kev: float
    bin_kev: float


def build_network(spec: NetworkSpec) -> DefaultNetwork | XuNetwork:
    """Build the network of ``spec`` with fresh weights."""
    if spec.kind == "xu2022":
        return XuNetwork(spec.n_bin, spec.n_output)
    return DefaultNetwork(spec.n_bin, spec.n_output, spec.start_kev, spec.bin_kev)


def dense_layers(network: nn.Module) -> tuple[str, ...]:
    """Names of the fully connected layers that fine-tuning trains first."""
    return tuple(name for name in ("dense", "linear") if hasattr(network, name))
