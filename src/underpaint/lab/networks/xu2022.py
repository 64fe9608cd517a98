"""The network of Xu et al. 2022 by its section 2.3, and the two that they name as future work.

Those are an autoencoder's encoder under a dense layer, and one that reads spectra patch by patch.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from underpaint.lab.networks.default import channels_last, strided_convolution

_KERNELS = (64, 64, 64, 64, 128)
_SIZES = (5, 3, 3, 3, 3)
_POST_KERNELS = 128
_POST_SIZE = 3
_DROPOUT = 0.25
_LEAK = 0.01


class LogLogRoot(nn.Module):
    """``X' = ln(1 + ln(1 + sqrt(X)))`` over its own maximum, spectrum by spectrum.

    How the paper normalises is not stated; the maximum of each spectrum is the likeliest reading.

    Parameters
    ----------
    scaled : bool
        False leaves the normalisation out.

    References
    ----------
    X. Xu et al., J. Anal. At. Spectrom. (2022), doi 10.1039/d2ja00246a, equation 1.
    """

    def __init__(self, *, scaled: bool = True) -> None:
        super().__init__()
        self.scaled = scaled

    def forward(self, counts: Tensor) -> Tensor:
        """Transform (n, n_channel) counts; a spectrum without counts stays zero."""
        values = torch.log1p(torch.log1p(torch.sqrt(counts.clamp_min(0.0))))
        if not self.scaled:
            return values
        return values / values.amax(dim=-1, keepdim=True).clamp_min(1e-12)


class Root(nn.Module):
    """The square root of the counts over its own maximum: even Poisson noise, empty channels not raised."""

    def forward(self, counts: Tensor) -> Tensor:
        """Transform (n, n_channel) counts; a spectrum without counts stays zero."""
        values = torch.sqrt(counts.clamp_min(0.0))
        return values / values.amax(dim=-1, keepdim=True).clamp_min(1e-12)


class XuNetwork(nn.Module):
    """Five convolutional blocks, one more convolution and a dense layer: 3815 channels to 11 pigments.

    Parameters
    ----------
    n_channel : int
        Channels of a spectrum; the paper has 3815 from 2.80 keV.
    n_class : int
        Pigments; the paper has 11.
    transform : Module or None
        What is done to the counts; None is the paper's :class:`LogLogRoot`.

    Notes
    -----
    The paper leaves three things open. Padding: zeros that keep the length ("same"), so that pooling alone
    shortens the spectrum. The "normalization layer" after the last convolution: batch normalisation, as in
    the blocks. The normalisation of the input: by the maximum, see :class:`LogLogRoot`.

    The convolutions along the spectrum are written with two dimensions, the second of height 1, in memory with
    the channels last: the same arithmetic, 2.8 times faster to train on a CPU.

    References
    ----------
    X. Xu et al., J. Anal. At. Spectrom. (2022), doi 10.1039/d2ja00246a, section 2.3 and Fig. 2.
    """

    def __init__(self, n_channel: int = 3815, n_class: int = 11, *, transform: nn.Module | None = None) -> None:
        super().__init__()
        self.n_channel = n_channel
        self.transform = LogLogRoot() if transform is None else transform
        widths = (1, *_KERNELS)
        self.blocks = nn.Sequential(*(_block(*pair, size) for pair, size in zip(pairwise(widths), _SIZES, strict=True)))
        self.post = nn.Sequential(
            _convolution(_KERNELS[-1], _POST_KERNELS, _POST_SIZE),
            nn.BatchNorm2d(_POST_KERNELS),
            nn.Dropout(_DROPOUT),
            nn.Flatten(),
        )
        self.dense = nn.Linear(_POST_KERNELS * (n_channel // 2 ** len(_KERNELS)), n_class)
        channels_last(self)

    def forward(self, counts: Tensor) -> Tensor:
        """Return (n, n_class) logits of (n, n_channel) counts."""
        values = self.transform(counts)[:, None, None, :]
        device = counts.device.type
        first = self.blocks.get_submodule("0.0")
        # Half precision would drop the small differences between spectra before any filter has seen them.
        with torch.autocast(device, enabled=False):
            filtered = first(values)
        if torch.is_autocast_enabled(device):
            # the largest arrays of the network: half as wide, they train a third faster
            filtered = filtered.to(torch.get_autocast_dtype(device))
        for layer in list(self.blocks.get_submodule("0").children())[1:]:
            filtered = layer(filtered)
        return torch.as_tensor(self.dense(self.post(self.blocks[1:](filtered))))


def _block(n_in: int, n_out: int, size: int) -> nn.Sequential:
    return nn.Sequential(
        _convolution(n_in, n_out, size), nn.LeakyReLU(_LEAK), nn.BatchNorm2d(n_out), nn.MaxPool2d((1, 2))
    )


def _convolution(n_in: int, n_out: int, size: int) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, (1, size), padding=(0, size // 2))


_ENCODER_WIDTHS = (1, 32, 48, 64)
_ENCODER_SIZES = (9, 5, 3)
_STRIDES = (4, 4, 2)
_BOTTLENECK = 64
_DECODER_UNITS = 256


class Encoder(nn.Module):
    """Three strided convolutions and a bottleneck of 64 numbers.

    Parameters
    ----------
    n_channel : int
        Channels of a spectrum.
    """

    def __init__(self, n_channel: int) -> None:
        super().__init__()
        sizes = zip(pairwise(_ENCODER_WIDTHS), _ENCODER_SIZES, _STRIDES, strict=True)
        self.convolutions = nn.Sequential(
            *(strided_convolution(*pair, size=size, stride=stride, leak=_LEAK) for pair, size, stride in sizes)
        )
        length = n_channel
        for stride in _STRIDES:
            length = math.ceil(length / stride)
        self.bottleneck = nn.Linear(_ENCODER_WIDTHS[-1] * length, _BOTTLENECK)
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


_PATCH = 35
_FEATURES = 64
_UNITS = 96


class RecurrentNetwork(nn.Module):
    """Patches of 35 channels, a bidirectional GRU over them, and a dense layer on its outputs at all patches.

    Parameters
    ----------
    n_channel : int
        Channels of a spectrum; the paper's 3815 make 109 patches of 0.35 keV. The last patch is filled up with zeros.
    n_class : int
        Pigments.

    Notes
    -----
    Xu et al. name recurrent networks as future work and give no sizes; input, dropout and output are those of their
    convolutional network. The dense layer sees the states at every patch, not the last ones alone: a line is identified
    by its position.

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
