"""Calibration of log-odds and deviations by the counts of the spectrum, the last step of a network."""

import torch
from torch import Tensor, nn

LOG10_COUNTS = (3.0, 4.0, 5.0, 6.0)
"""Total counts, as powers of ten, at which scales and shifts are fitted; linear in between."""


class Calibration(nn.Module):
    """Scales and shifts each log-odds, and scales each deviation, fitted to held-out spectra of similar counts.

    Parameters
    ----------
    n_output, n_quantity, n_amount : int
        Log-odds, quantities and amounts of the network; one log-odds if none are given.

    Notes
    -----
    Platt scaling (J. Platt 1999) for each name and level of counts: a network is overconfident for weak spectra and
    underconfident for strong ones, and no single temperature corrects both. Initial values are the identity. They are
    outside the gradient's graph: training ignores them, and the network uses them only where it answers (evaluation
    mode).
    """

    log10_counts: Tensor
    scale: Tensor
    shift: Tensor
    widen: Tensor
    amount_scale: Tensor
    amount_shift: Tensor

    def __init__(self, n_output: int, n_quantity: int, n_amount: int = 0) -> None:
        super().__init__()
        n_level = len(LOG10_COUNTS)
        self.register_buffer("log10_counts", torch.tensor(LOG10_COUNTS), persistent=False)
        self.register_buffer("scale", torch.ones(n_level, n_output))
        self.register_buffer("shift", torch.zeros(n_level, n_output))
        self.register_buffer("widen", torch.ones(n_level, n_quantity))
        if n_amount:
            self.register_buffer("amount_scale", torch.ones(n_level, n_amount))
            self.register_buffer("amount_shift", torch.zeros(n_level, n_amount))

    def reset(self) -> None:
        """Reset to the identity."""
        for name, values in self.named_buffers():
            if name != "log10_counts":
                values.fill_(0.0 if name.endswith("shift") else 1.0)

    def amount(self, logits: Tensor, log10_counts: Tensor) -> Tensor:
        """Return calibrated (n, n_amount, n_edge) log-odds; a common scale and shift preserves the order of the edges.

        Parameters
        ----------
        logits : (n, n_amount, n_edge) tensor
        log10_counts : (n, 1) tensor
            Total counts within the recorded range.
        """
        near = self._near(log10_counts)
        return logits * (near @ self.amount_scale).unsqueeze(2) + (near @ self.amount_shift).unsqueeze(2)

    def _near(self, log10_counts: Tensor) -> Tensor:
        first, last = LOG10_COUNTS[0], LOG10_COUNTS[-1]
        return (1.0 - torch.abs(log10_counts.clamp(first, last) - self.log10_counts)).clamp_min(0.0)

    def forward(self, logits: Tensor, sigma: Tensor, log10_counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return calibrated log-odds and deviations.

        Parameters
        ----------
        logits : (n, n_output) tensor
        sigma : (n, n_quantity) tensor
        log10_counts : (n, 1) tensor
            Total counts within the recorded range.
        """
        near = self._near(log10_counts)
        return logits * (near @ self.scale) + near @ self.shift, sigma * (near @ self.widen)
