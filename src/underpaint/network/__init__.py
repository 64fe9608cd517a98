"""The networks as torch modules: tensors in, logits out; nothing here knows files or pigments."""

from underpaint.network.autoencoder import AutoencoderNetwork, Decoder
from underpaint.network.build import NetworkSpec, build_network, dense_layers, is_folded, parameter_count
from underpaint.network.calibration import Calibration
from underpaint.network.default import DefaultNetwork
from underpaint.network.layers import LayersNetwork
from underpaint.network.recurrent import RecurrentNetwork
from underpaint.network.xu2022 import XuNetwork

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
