"""The networks as torch modules: tensors in, logits out; nothing here knows files or pigments."""

from underpaint.lab.networks.autoencoder import AutoencoderNetwork, Decoder
from underpaint.lab.networks.build import NetworkSpec, build_network, dense_layers, is_folded, parameter_count
from underpaint.lab.networks.calibration import Calibration
from underpaint.lab.networks.default import DefaultNetwork
from underpaint.lab.networks.layers import LayersNetwork
from underpaint.lab.networks.recurrent import RecurrentNetwork
from underpaint.lab.networks.xu2022 import XuNetwork

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
