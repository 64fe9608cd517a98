"""Networks that Xu et al. 2022 name as future work: an autoencoder, and one that reads patch by patch."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from underpaint.lab.networks.memory import channels_last
from underpaint.lab.networks.xu2022 import LogLogRoot

_WIDTHS = (1, 32, 48, 64)
_SIZES = (9, 5, 3)
_STRIDES = (4, 4, 2)
_BOTTLENECK = 64
_DECODER_UNITS = 256
_DROPOUT = 0.25
_LEAK = 0.01


class Encoder(nn.Module):
    """Three strided convolutions and a bottleneck of 64 numbers.

    Parameters
    ----------
    n_channel : int
        Channels of a spectrum.
    """

    def __init__(self, n_channel: int) -> None:
        super().__init__()
        sizes = zip(_WIDTHS, _WIDTHS[1:], _SIZES, _STRIDES, strict=False)
        self.convolutions = nn.Sequential(*(_convolution(*each) for each in sizes))
        length = n_channel
        for stride in _STRIDES:
            length = math.ceil(length / stride)
        self.bottleneck = nn.Linear(_WIDTHS[-1] * length, _BOTTLENECK)
        channels_last(self)

    def forward(self, values: Tensor) -> Tensor:
        """Return (n, 64) codes of (n, n_channel) transformed spectra."""
        # Half precision would drop the small differences between spectra before any filter has seen them.
        with torch.autocast(values.device.type, enabled=False):
            first = self.convolutions[0](values[:, None, None, :])
        return torch.as_tensor(self.bottleneck(self.convolutions[1:](first).flatten(1)))


class Decoder(nn.Sequential):
    """Two dense layers from a code back to the transformed spectrum; needed for the pre-training alone.

    Parameters
    ----------
    n_channel : int
        Channels of a spectrum.
    """

    def __init__(self, n_channel: int) -> None:
        super().__init__(
            nn.Linear(_BOTTLENECK, _DECODER_UNITS), nn.LeakyReLU(_LEAK), nn.Linear(_DECODER_UNITS, n_channel)
        )


class AutoencoderNetwork(nn.Module):
    """An autoencoder's encoder with a dense layer on its bottleneck.

    Parameters
    ----------
    n_channel : int
        Channels of a spectrum.
    n_class : int
        Pigments.

    Notes
    -----
    Built alone it has fresh weights; the encoder is meant to have learned to reconstruct spectra first, see
    :func:`underpaint.lab.training.loop.pretrain_autoencoder`. Xu et al. name autoencoders as future work and
    give no sizes; input, dropout and output are those of their convolutional network.

    References
    ----------
    X. Xu et al., J. Anal. At. Spectrom. (2022), doi 10.1039/d2ja00246a, section 5 (outlook).
    """

    def __init__(self, n_channel: int = 3815, n_class: int = 11) -> None:
        super().__init__()
        self.transform = LogLogRoot()
        self.encoder = Encoder(n_channel)
        self.dropout = nn.Dropout(_DROPOUT)
        self.dense = nn.Linear(_BOTTLENECK, n_class)

    def forward(self, counts: Tensor) -> Tensor:
        """Return (n, n_class) logits of (n, n_channel) counts."""
        return torch.as_tensor(self.dense(self.dropout(self.encoder(self.transform(counts)))))


def _convolution(n_in: int, n_out: int, size: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, (1, size), stride=(1, stride), padding=(0, size // 2)),
        nn.BatchNorm2d(n_out),
        nn.LeakyReLU(_LEAK),
    )


_PATCH = 35
_FEATURES = 64
_UNITS = 96


class RecurrentNetwork(nn.Module):
    """Patches of 35 channels, a bidirectional GRU over them, and a dense layer on what it says at each patch.

    Parameters
    ----------
    n_channel : int
        Channels of a spectrum; the paper's 3815 make 109 patches of 0.35 keV. The last patch is filled up with zeros.
    n_class : int
        Pigments.

    Notes
    -----
    Xu et al. name recurrent networks as future work and give no sizes; input, dropout and output are those of their
    convolutional network. The dense layer sees the states at every patch, not the last ones alone: which line was
    met is told by where it was met.

    References
    ----------
    X. Xu et al., J. Anal. At. Spectrom. (2022), doi 10.1039/d2ja00246a, section 5 (outlook).
    K. Cho et al., Proc. EMNLP (2014), doi 10.3115/v1/D14-1179 (the gated recurrent unit).
    """

    def __init__(self, n_channel: int = 3815, n_class: int = 11) -> None:
        super().__init__()
        n_patch = -(-n_channel // _PATCH)
        self.fill = n_patch * _PATCH - n_channel
        self.transform = LogLogRoot()
        self.patches = nn.Sequential(
            nn.Conv1d(1, _FEATURES, _PATCH, stride=_PATCH), nn.LeakyReLU(_LEAK), nn.BatchNorm1d(_FEATURES)
        )
        self.recurrent = nn.GRU(_FEATURES, _UNITS, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(_DROPOUT)
        self.dense = nn.Linear(2 * _UNITS * n_patch, n_class)

    def forward(self, counts: Tensor) -> Tensor:
        """Return (n, n_class) logits of (n, n_channel) counts."""
        values = pad(self.transform(counts), (0, self.fill))[:, None, :]
        # Half precision would drop the small differences between spectra before any filter has seen them, and its
        # rounding would add up along the patches.
        with torch.autocast(counts.device.type, enabled=False):
            states, _ = self.recurrent(self.patches(values).transpose(1, 2))
        return torch.as_tensor(self.dense(self.dropout(states.flatten(1))))
