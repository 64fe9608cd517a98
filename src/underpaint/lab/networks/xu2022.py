"""The network of Xu et al., 2022 (section 2.3), and two networks that the authors propose as future work.

The two proposed networks are an autoencoder's encoder with a dense layer, and a recurrent network over patches of the
spectrum.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from underpaint.lab.networks.default import strided_convolution, use_channels_last

_N_KERNEL = (64, 64, 64, 64, 128)
_KERNEL_SIZES = (5, 3, 3, 3, 3)
_N_POST_KERNEL = 128
_POST_KERNEL_SIZE = 3
_DROPOUT = 0.25
_RELU_SLOPE = 0.01


class LogLogRootTransform(nn.Module):
    """Transform of the counts, ``X' = ln(1 + ln(1 + sqrt(X)))``. Each transformed spectrum is divided by its maximum.

    The paper does not state how spectra are normalised. Division by the maximum is an assumption.

    Parameters
    ----------
    is_scaled : bool
        Whether to divide each transformed spectrum by its maximum.

    References
    ----------
    X. Xu et al., J. Anal. At. Spectrom. (2022), doi 10.1039/d2ja00246a, equation 1.
    """

    def __init__(self, *, is_scaled: bool = True) -> None:
        super().__init__()
        self.is_scaled = is_scaled

    def forward(self, counts: Tensor) -> Tensor:
        """Transform (n, n_channel) counts. A spectrum without counts stays zero."""
        transformed_counts = torch.log1p(torch.log1p(torch.sqrt(counts.clamp_min(0.0))))
        if not self.is_scaled:
            return transformed_counts
        return transformed_counts / transformed_counts.amax(dim=-1, keepdim=True).clamp_min(1e-12)


class SquareRootTransform(nn.Module):
    """Square root of the counts in a spectrum, divided by the largest square root.

    The square root makes the standard deviation of Poisson noise uniform. Empty channels stay zero.
    """

    def forward(self, counts: Tensor) -> Tensor:
        """Transform (n, n_channel) counts. A spectrum without counts stays zero."""
        transformed_counts = torch.sqrt(counts.clamp_min(0.0))
        return transformed_counts / transformed_counts.amax(dim=-1, keepdim=True).clamp_min(1e-12)


class XuNetwork(nn.Module):
    """The paper's network: five convolutional blocks, a further convolution and a dense layer.

    Parameters
    ----------
    n_channel : int
        Number of channels of a spectrum, 3815 in the paper.
    n_class : int
        Number of pigments, 11 in the paper.
    transform : Module or None
        Transform of the counts, or None for the paper's :class:`LogLogRootTransform`.

    Notes
    -----
    The paper does not specify the padding, the normalisation layer and the normalisation of the input. In this class,
    zero padding preserves the length of the spectrum, so that only pooling shortens it. The "normalization layer" after
    the last convolution is a batch normalisation, as in the blocks. Each spectrum is divided by its maximum.

    The convolutions are two-dimensional, with one dimension of size 1, and store channels last. The memory layout does
    not change the outputs, but makes training on a CPU 2.8 times faster.

    References
    ----------
    X. Xu et al., J. Anal. At. Spectrom. (2022), doi 10.1039/d2ja00246a, section 2.3 and Fig. 2.
    """

    def __init__(self, n_channel: int = 3815, n_class: int = 11, *, transform: nn.Module | None = None) -> None:
        super().__init__()
        self.n_channel = n_channel
        self.transform = LogLogRootTransform() if transform is None else transform
        channel_widths = (1, *_N_KERNEL)
        self.blocks = nn.Sequential(
            *(
                _convolution_block(*in_out_widths, kernel_size)
                for in_out_widths, kernel_size in zip(pairwise(channel_widths), _KERNEL_SIZES, strict=True)
            )
        )
        self.post = nn.Sequential(
            _convolution(_N_KERNEL[-1], _N_POST_KERNEL, _POST_KERNEL_SIZE),
            nn.BatchNorm2d(_N_POST_KERNEL),
            nn.Dropout(_DROPOUT),
            nn.Flatten(),
        )
        self.dense = nn.Linear(_N_POST_KERNEL * (n_channel // 2 ** len(_N_KERNEL)), n_class)
        use_channels_last(self)

    def forward(self, counts: Tensor) -> Tensor:
        """Return (n, n_class) logits for (n, n_channel) counts."""
        transformed_counts = self.transform(counts)[:, None, None, :]
        device_type = counts.device.type
        first_convolution = self.blocks.get_submodule("0.0")
        # half precision would round small differences between spectra before the first convolution
        with torch.autocast(device_type, enabled=False):
            filter_output = first_convolution(transformed_counts)
        if torch.is_autocast_enabled(device_type):
            # the outputs of the first convolution are large, so half precision makes training a third faster
            filter_output = filter_output.to(torch.get_autocast_dtype(device_type))
        for layer in list(self.blocks.get_submodule("0").children())[1:]:
            filter_output = layer(filter_output)
        return torch.as_tensor(self.dense(self.post(self.blocks[1:](filter_output))))


def _convolution_block(n_in: int, n_out: int, kernel_size: int) -> nn.Sequential:
    return nn.Sequential(
        _convolution(n_in, n_out, kernel_size), nn.LeakyReLU(_RELU_SLOPE), nn.BatchNorm2d(n_out), nn.MaxPool2d((1, 2))
    )


def _convolution(n_in: int, n_out: int, kernel_size: int) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, (1, kernel_size), padding=(0, kernel_size // 2))


_ENCODER_WIDTHS = (1, 32, 48, 64)
_ENCODER_SIZES = (9, 5, 3)
_ENCODER_STRIDES = (4, 4, 2)
_N_BOTTLENECK = 64
_N_DECODER_UNIT = 256


class Encoder(nn.Module):
    """Encoder with three strided convolutions and a bottleneck of 64 values.

    Parameters
    ----------
    n_channel : int
        Number of channels of a spectrum.
    """

    def __init__(self, n_channel: int) -> None:
        super().__init__()
        layer_sizes = zip(pairwise(_ENCODER_WIDTHS), _ENCODER_SIZES, _ENCODER_STRIDES, strict=True)
        self.convolutions = nn.Sequential(
            *(
                strided_convolution(*in_out_widths, kernel_size=kernel_size, stride=stride, negative_slope=_RELU_SLOPE)
                for in_out_widths, kernel_size, stride in layer_sizes
            )
        )
        n_output_position = n_channel
        for stride in _ENCODER_STRIDES:
            n_output_position = math.ceil(n_output_position / stride)
        self.bottleneck = nn.Linear(_ENCODER_WIDTHS[-1] * n_output_position, _N_BOTTLENECK)
        use_channels_last(self)

    def forward(self, transformed_counts: Tensor) -> Tensor:
        """Return (n, 64) codes of (n, n_channel) transformed spectra."""
        # half precision would round small differences between spectra before the first convolution
        with torch.autocast(transformed_counts.device.type, enabled=False):
            first_output = self.convolutions[0](transformed_counts[:, None, None, :])
        return torch.as_tensor(self.bottleneck(self.convolutions[1:](first_output).flatten(1)))


class Decoder(nn.Sequential):
    """Decoder for pre-training. Two dense layers reconstruct the transformed spectrum from its code.

    Parameters
    ----------
    n_channel : int
        Number of channels of a spectrum.
    """

    def __init__(self, n_channel: int) -> None:
        super().__init__(
            nn.Linear(_N_BOTTLENECK, _N_DECODER_UNIT), nn.LeakyReLU(_RELU_SLOPE), nn.Linear(_N_DECODER_UNIT, n_channel)
        )


class AutoencoderNetwork(nn.Module):
    """Network with the encoder of an autoencoder and a dense layer.

    Parameters
    ----------
    n_channel : int
        Number of channels of a spectrum.
    n_class : int
        Number of pigments.

    Notes
    -----
    The initial weights are random. The function :func:`underpaint.lab.training.loop.pretrain_autoencoder` first trains
    the encoder to reconstruct spectra. Xu et al. propose autoencoders as future work, but state no sizes. The transform
    of the input, the dropout and the dense layer are those of the paper's convolutional network.

    References
    ----------
    X. Xu et al., J. Anal. At. Spectrom. (2022), doi 10.1039/d2ja00246a, section 5 (outlook).
    """

    def __init__(self, n_channel: int = 3815, n_class: int = 11) -> None:
        super().__init__()
        self.transform = LogLogRootTransform()
        self.encoder = Encoder(n_channel)
        self.dropout = nn.Dropout(_DROPOUT)
        self.dense = nn.Linear(_N_BOTTLENECK, n_class)

    def forward(self, counts: Tensor) -> Tensor:
        """Return (n, n_class) logits of (n, n_channel) counts."""
        return torch.as_tensor(self.dense(self.dropout(self.encoder(self.transform(counts)))))


_PATCH_CHANNELS = 35
_N_PATCH_FEATURE = 64
_N_RECURRENT_UNIT = 96


class RecurrentNetwork(nn.Module):
    """Network with a bidirectional GRU over patches of 35 channels, and a dense layer.

    Parameters
    ----------
    n_channel : int
        Number of channels of a spectrum. The 3815 channels of the paper give 109 patches of 0.35 keV. If necessary,
        zeros fill the last patch.
    n_class : int
        Number of pigments.

    Notes
    -----
    Xu et al. propose recurrent networks as future work, but state no sizes. The transform of the input, the dropout and
    the dense layer are those of the paper's convolutional network. The dense layer receives the states of the GRU at
    all patches, because the position of a line identifies its element.

    References
    ----------
    X. Xu et al., J. Anal. At. Spectrom. (2022), doi 10.1039/d2ja00246a, section 5 (outlook).
    K. Cho et al., Proc. EMNLP (2014), doi 10.3115/v1/D14-1179 (the gated recurrent unit).
    """

    def __init__(self, n_channel: int = 3815, n_class: int = 11) -> None:
        super().__init__()
        n_patch = -(-n_channel // _PATCH_CHANNELS)
        self.fill = n_patch * _PATCH_CHANNELS - n_channel
        self.transform = LogLogRootTransform()
        self.patches = nn.Sequential(
            nn.Conv1d(1, _N_PATCH_FEATURE, _PATCH_CHANNELS, stride=_PATCH_CHANNELS),
            nn.LeakyReLU(_RELU_SLOPE),
            nn.BatchNorm1d(_N_PATCH_FEATURE),
        )
        self.recurrent = nn.GRU(_N_PATCH_FEATURE, _N_RECURRENT_UNIT, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(_DROPOUT)
        self.dense = nn.Linear(2 * _N_RECURRENT_UNIT * n_patch, n_class)

    def forward(self, counts: Tensor) -> Tensor:
        """Return (n, n_class) logits of (n, n_channel) counts."""
        transformed_counts = pad(self.transform(counts), (0, self.fill))[:, None, :]
        # half precision would round small differences between spectra, and rounding errors would accumulate along
        # patches
        with torch.autocast(counts.device.type, enabled=False):
            hidden_states, _ = self.recurrent(self.patches(transformed_counts).transpose(1, 2))
        return torch.as_tensor(self.dense(self.dropout(hidden_states.flatten(1))))
