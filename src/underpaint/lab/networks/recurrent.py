"""A recurrent network: the spectrum read patch by patch, from both ends."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from underpaint.lab.networks.xu2022 import LogLogRoot

_PATCH = 35
_FEATURES = 64
_UNITS = 96
_DROPOUT = 0.25
_LEAK = 0.01


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
