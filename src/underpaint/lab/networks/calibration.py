"""Last step of a network: calibration of log-odds and standard deviations as a function of total counts."""

import torch
from torch import Tensor, nn

LOG10_COUNTS = (3.0, 4.0, 5.0, 6.0)
"""Logarithms (base 10) of the total counts at which scales and shifts are fitted.

Scales and shifts are interpolated between these total counts.
"""


class Calibration(nn.Module):
    """Scale and shift of each log-odds, and scale of each standard deviation, as a function of total counts.

    Parameters
    ----------
    n_output, n_quantity, n_amount : int
        Numbers of log-odds, quantities and amounts that the network predicts.

    Notes
    -----
    The calibration is Platt scaling (Platt, 1999) for each output at each level of total counts. A network is
    overconfident for spectra with few counts and underconfident for spectra with many counts. A single temperature
    cannot correct both. The initial calibration changes nothing. The network applies the calibration in evaluation
    mode, not in training.
    """

    log10_counts: Tensor
    scale: Tensor
    shift: Tensor
    widen: Tensor
    amount_scale: Tensor
    amount_shift: Tensor

    def __init__(self, n_output: int, n_quantity: int, n_amount: int = 0) -> None:
        super().__init__()
        n_count_level = len(LOG10_COUNTS)
        self.register_buffer("log10_counts", torch.tensor(LOG10_COUNTS), persistent=False)
        self.register_buffer("scale", torch.ones(n_count_level, n_output))
        self.register_buffer("shift", torch.zeros(n_count_level, n_output))
        self.register_buffer("widen", torch.ones(n_count_level, n_quantity))
        if n_amount:
            self.register_buffer("amount_scale", torch.ones(n_count_level, n_amount))
            self.register_buffer("amount_shift", torch.zeros(n_count_level, n_amount))

    def reset(self) -> None:
        """Reset to a calibration that changes nothing."""
        for buffer_name, buffer in self.named_buffers():
            if buffer_name != "log10_counts":
                buffer.fill_(0.0 if buffer_name.endswith("shift") else 1.0)

    def calibrate_amounts(self, logits: Tensor, log10_counts: Tensor) -> Tensor:
        """Return calibrated log-odds of amounts. All class edges have the same scale and shift.

        Parameters
        ----------
        logits : (n, n_amount, n_edge) tensor
            Log-odds that the mass fraction reaches each class edge.
        log10_counts : (n, 1) tensor
            Logarithm (base 10) of the total counts within the recorded range.
        """
        level_weights = self._level_weights(log10_counts)
        return logits * (level_weights @ self.amount_scale).unsqueeze(2) + (
            level_weights @ self.amount_shift
        ).unsqueeze(2)

    def _level_weights(self, log10_counts: Tensor) -> Tensor:
        min_log10_counts, max_log10_counts = LOG10_COUNTS[0], LOG10_COUNTS[-1]
        return (1.0 - torch.abs(log10_counts.clamp(min_log10_counts, max_log10_counts) - self.log10_counts)).clamp_min(
            0.0
        )

    def forward(self, logits: Tensor, sigma: Tensor, log10_counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return calibrated log-odds and standard deviations.

        Parameters
        ----------
        logits : (n, n_output) tensor
            Log-odds of the outputs.
        sigma : (n, n_quantity) tensor
            Standard deviations of the quantities.
        log10_counts : (n, 1) tensor
            Logarithm (base 10) of the total counts within the recorded range.
        """
        level_weights = self._level_weights(log10_counts)
        return logits * (level_weights @ self.scale) + level_weights @ self.shift, sigma * (level_weights @ self.widen)
