"""The networks as torch modules: tensors in, logits out; nothing here knows files or pigments."""

from underpaint.network.build import NetworkSpec, build_network, dense_layers, is_folded
from underpaint.network.default import DefaultNetwork
from underpaint.network.xu2022 import XuNetwork

__all__ = ["DefaultNetwork", "NetworkSpec", "XuNetwork", "build_network", "dense_layers", "is_folded"]
