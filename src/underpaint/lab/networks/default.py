"""The default network, which has 1.5 million multiply-adds per spectrum."""

import math

import torch
from torch import Tensor, nn

TOKEN_WIDTH = 64
_SPECTRUM_SHAPE_FACTOR = 10.0
_LOG_COUNTS_FACTOR = 0.2
"""Factors that scale the features to values of about 1."""
LOG10_COUNTS_OFFSET = math.log10(3e4)
"""Offset subtracted from the logarithm of the total counts."""
_EDGE_TOLERANCE_BINS = 0.01


def use_channels_last(network: nn.Module) -> None:
    """Store convolution kernels with channels last, which makes training on CPUs up to 2.8 times faster."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)


class Features(nn.Module):
    """Input features of the default network: shape of the spectrum, counts, and recorded range.

    Parameters
    ----------
    n_bin : int
        Number of bins of the fixed axis.
    start_kev, bin_kev : float
        Lower edge of the first bin and width of the bins, in keV.

    Notes
    -----
    Square roots make the standard deviation of Poisson noise uniform. The shape of a spectrum (counts divided by their
    total) does not show its noise level. Therefore the logarithm of the counts is also a feature.
    """

    lower_kev: Tensor
    upper_kev: Tensor

    def __init__(self, n_bin: int, start_kev: float, bin_kev: float) -> None:
        super().__init__()
        lower_kev = start_kev + bin_kev * torch.arange(n_bin, dtype=torch.float64)
        edge_tolerance_kev = _EDGE_TOLERANCE_BINS * bin_kev
        self.register_buffer("lower_kev", (lower_kev + edge_tolerance_kev).float(), persistent=False)
        self.register_buffer("upper_kev", (lower_kev + bin_kev - edge_tolerance_kev).float(), persistent=False)

    def forward(self, counts: Tensor, recorded_kev: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (n, 3, n_bin) features of the bins and the (n, 1) logarithm of the total counts.

        Each bin has three features: spectrum shape, logarithm of counts, and mask of recorded bins.

        Parameters
        ----------
        counts : (n, n_bin) tensor
            Counts per bin. Bins that are not fully within the recorded range are ignored.
        recorded_kev : (n, 2) tensor
            Lowest and highest recorded energy, in keV.
        """
        recorded_mask = ((self.lower_kev >= recorded_kev[:, :1]) & (self.upper_kev <= recorded_kev[:, 1:])).to(
            counts.dtype
        )
        recorded_counts = counts.clamp_min(0.0) * recorded_mask
        total_counts = recorded_counts.sum(dim=1, keepdim=True)
        spectrum_shape = _SPECTRUM_SHAPE_FACTOR * torch.sqrt(recorded_counts / total_counts.clamp_min(1e-6))
        log_counts = _LOG_COUNTS_FACTOR * torch.log1p(recorded_counts)
        return torch.stack((spectrum_shape, log_counts, recorded_mask), dim=1), torch.log10(
            total_counts.clamp_min(1.0)
        ) - LOG10_COUNTS_OFFSET


class DefaultNetwork(nn.Module):
    """Network with a deep path of strided convolutions and dense layers, and a parallel linear path from all bins.

    Parameters
    ----------
    n_bin, n_output : int
        Number of bins of the fixed axis, and number of outputs (groups and members).
    start_kev, bin_kev : float
        Lower edge of the first bin and width of the bins, in keV.

    Notes
    -----
    The logits are the sum of the deep path and the linear path. Because of the linear path, a stronger line increases
    the log-odds of its pigment even if the deep path is saturated.
    """

    def __init__(self, n_bin: int, n_output: int, start_kev: float = 1.0, bin_kev: float = 0.04) -> None:
        super().__init__()
        self.n_bin = n_bin
        self.features = Features(n_bin, start_kev, bin_kev)
        self.stem = nn.Sequential(*token_convolutions(), nn.Flatten())
        self.head = two_dense_layers(TOKEN_WIDTH * token_count(n_bin) + 1, 192, 128)
        self.dense = nn.Linear(128, n_output)
        self.linear = nn.Linear(3 * n_bin + 1, n_output)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        use_channels_last(self)

    def forward(self, counts: Tensor, recorded_kev: Tensor) -> Tensor:
        """Return (n, n_output) logits.

        Parameters
        ----------
        counts : (n, n_bin) tensor
            Counts per bin of the fixed axis.
        recorded_kev : (n, 2) tensor
            Lowest and highest recorded energy, in keV.
        """
        # half precision would round counts and sums over many bins
        with torch.autocast(counts.device.type, enabled=False):
            features, log10_counts = self.features(counts.float(), recorded_kev.float())
            linear_logits = self.linear(torch.cat((features.flatten(1), log10_counts), dim=1))
        deep_logits = self.dense(self.head(torch.cat((self.stem(features.unsqueeze(2)), log10_counts), dim=1)))
        return torch.as_tensor(linear_logits + deep_logits)


def token_convolutions() -> nn.Sequential:
    """Return three strided convolutions that convert features to tokens of :data:`TOKEN_WIDTH` values."""
    return nn.Sequential(
        strided_convolution(3, 32, kernel_size=9, stride=4),
        strided_convolution(32, 48, kernel_size=5, stride=4),
        strided_convolution(48, TOKEN_WIDTH, kernel_size=3, stride=2),
    )


def token_count(n_bin: int) -> int:
    """Return the number of tokens that :func:`token_convolutions` produces."""
    return math.ceil(math.ceil(math.ceil(n_bin / 4) / 4) / 2)


def two_dense_layers(n_in: int, n_hidden: int, n_out: int) -> nn.Sequential:
    """Return two dense layers with batch normalisation and leaky ReLU, and dropout between them."""
    return nn.Sequential(
        nn.Linear(n_in, n_hidden),
        nn.BatchNorm1d(n_hidden),
        nn.LeakyReLU(0.1),
        nn.Dropout(0.1),
        nn.Linear(n_hidden, n_out),
        nn.BatchNorm1d(n_out),
        nn.LeakyReLU(0.1),
    )


def strided_convolution(
    n_in: int, n_out: int, *, kernel_size: int, stride: int, negative_slope: float = 0.1
) -> nn.Sequential:
    """Return a strided convolution along the spectrum, with batch normalisation and leaky ReLU."""
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, (1, kernel_size), stride=(1, stride), padding=(0, kernel_size // 2)),
        nn.BatchNorm2d(n_out),
        nn.LeakyReLU(negative_slope),
    )
