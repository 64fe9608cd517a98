"""Lightning modules: loss, optimiser and learning-rate schedule."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss, smooth_l1_loss

from underpaint.lab.networks import AutoencoderNetwork, Decoder, DefaultNetwork, LayersNetwork
from underpaint.lab.training.batches import Batch
from underpaint.lab.training.library import UNKNOWN
from underpaint.lab.training.settings import TrainSettings

_WARM_UP_EPOCHS = 1.0
_FINAL_RATE_FRACTION = 0.01
_QUANTITY_WEIGHT = 0.02
"""Weight of the mean loss of quantities, relative to the mean loss of labels.

The weight is small because the loss of a quantity is ten times as large and presence is more important.
"""
_AMOUNT_WEIGHT = 0.1
"""Weight of the mean loss of amounts, relative to the mean loss of labels."""
_PRESERVED_AMOUNT_WEIGHT = 3.0
"""Weight of the loss of amounts if their labels are earlier answers of the network, to preserve these answers."""
_LOG_ODDS_LOSS_WEIGHT = 0.005
_SMOOTH_L1_WIDTH = 4.0
_VISIBLE_LOG_ODDS, _LOG_ODDS_SLOPE = 2.0, 1.5
"""Target log-odds of a group that is just visible, and their increase when the counts increase by a factor e."""


class PigmentModule(lightning.LightningModule):
    """Lightning module that trains a network with binary cross-entropy over visible labels, as in the paper.

    Parameters
    ----------
    network : Module
        Network to train, of any kind that :func:`underpaint.lab.networks.build_network` builds.
    settings : TrainSettings
        Learning rate, weight decay and schedule.
    checkpoint_description : dict
        JSON-serialisable description of the network and its model card, for the checkpoint.
    trainable : tuple of str or None
        Names of the layers to train, or None for all.

    References
    ----------
    X. Xu et al., J. Anal. At. Spectrom. (2022), doi 10.1039/d2ja00246a, equation 2 (binary cross-entropy).
    """

    def __init__(
        self,
        network: nn.Module,
        settings: TrainSettings,
        checkpoint_description: dict[str, Any],
        *,
        trainable: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.settings, self.checkpoint_description, self.trainable = (
            network,
            settings,
            checkpoint_description,
            trainable,
        )
        for name, parameter in network.named_parameters():
            parameter.requires_grad = trainable is None or name.split(".")[0] in trainable

    def on_train_epoch_start(self) -> None:
        """Freeze the running statistics of batch normalisations if only some layers are trained."""
        if self.trainable is None:
            return
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.eval()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        del batch_idx
        loss = batch_loss(self.network, batch)
        self.log("training_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(batch.labels))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss of one batch."""
        del batch_idx
        loss = batch_loss(self.network, batch)
        self.log("validation_loss", loss, prog_bar=True, batch_size=len(batch.labels))

    def configure_optimizers(self) -> Any:
        """Return the optimiser, Adam or AdamW, and the learning-rate schedule of the settings."""
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        weight_decay = self.settings.weight_decay
        optimizer = (
            torch.optim.AdamW(parameters, self.settings.learning_rate, weight_decay=weight_decay)
            if weight_decay
            else torch.optim.Adam(parameters, self.settings.learning_rate)
        )
        if self.settings.schedule == "constant":
            return optimizer
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._learning_rate_fraction)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _learning_rate_fraction(self, step_number: int) -> float:
        n_step = max(1, int(self.trainer.estimated_stepping_batches))
        n_warm_up_step = min(_WARM_UP_EPOCHS * n_step / self.settings.epochs, 0.3 * n_step)
        if step_number < n_warm_up_step:
            return (step_number + 1) / (n_warm_up_step + 1)
        cosine_factor = 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * min(1.0, step_number / n_step)))))
        return _FINAL_RATE_FRACTION + (1 - _FINAL_RATE_FRACTION) * cosine_factor

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the description of the network in the checkpoint."""
        checkpoint["underpaint"] = self.checkpoint_description


class ReconstructionModule(lightning.LightningModule):
    """Lightning module that trains an encoder and a decoder to reconstruct transformed spectra.

    Parameters
    ----------
    network : AutoencoderNetwork
        Network whose encoder is trained, but not its dense layer.
    n_channel : int
        Number of channels of a spectrum.
    settings : TrainSettings
        Settings of which the learning rate and the seed are used.
    """

    def __init__(self, network: AutoencoderNetwork, n_channel: int, settings: TrainSettings) -> None:
        super().__init__()
        self.encoder, self.transform, self.decoder = network.encoder, network.transform, Decoder(n_channel)
        self.settings = settings

    def loss(self, counts: Tensor) -> Tensor:
        """Return the mean squared error of the reconstruction of (n, n_channel) counts."""
        transformed_counts = self.transform(counts)
        return mse_loss(self.decoder(self.encoder(transformed_counts)).float(), transformed_counts)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        del batch_idx
        loss = self.loss(batch.counts)
        self.log("training_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(batch.counts))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss of one batch."""
        del batch_idx
        self.log("validation_loss", self.loss(batch.counts), prog_bar=True, batch_size=len(batch.counts))

    def configure_optimizers(self) -> Any:
        """Return the optimiser, Adam with a constant learning rate."""
        return torch.optim.Adam(self.parameters(), self.settings.learning_rate)


def run_network(network: nn.Module, batch: Batch) -> tuple[Tensor, ...]:
    """Return the outputs of a network for a batch. The first output is the log-odds."""
    inputs = network_inputs(network, batch.counts, batch.recorded_kev, batch.instrument)
    outputs = network(*inputs)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def network_inputs(network: nn.Module, counts: Tensor, recorded_kev: Tensor, instrument: Tensor) -> tuple[Tensor, ...]:
    """Return the input tensors that the network needs."""
    if isinstance(network, LayersNetwork):
        has_inputs = instrument.shape[1] == network.n_instrument
        return (
            counts,
            recorded_kev,
            instrument if has_inputs else counts.new_full((len(counts), network.n_instrument), torch.nan),
        )
    return (counts, recorded_kev) if isinstance(network, DefaultNetwork) else (counts,)


def log_odds(network: nn.Module, batch: Batch) -> Tensor:
    """Return the (n, n_name) log-odds of a network for a batch."""
    return run_network(network, batch)[0]


def batch_loss(network: nn.Module, batch: Batch) -> Tensor:
    """Return the loss of a batch. For networks of layers, the loss includes losses of quantities and amounts."""
    logits, *layer_outputs = run_network(network, batch)
    loss = masked_loss(logits, batch.labels, batch.weight)
    if not layer_outputs:
        return loss
    quantity_mean, quantity_sigma, *amounts = layer_outputs
    loss = loss + _QUANTITY_WEIGHT * quantity_loss(quantity_mean, quantity_sigma, batch.quantity)
    if amounts and batch.amount is not None and batch.amount.shape[1]:
        amount_weight = _AMOUNT_WEIGHT if batch.amount.ndim == 2 else _PRESERVED_AMOUNT_WEIGHT
        loss = loss + amount_weight * amount_loss(amounts[0], batch.amount)
    return (
        loss
        if batch.log_counts_over_needed is None
        else loss + _LOG_ODDS_LOSS_WEIGHT * excess_loss(logits, batch.log_counts_over_needed)
    )


def excess_loss(logits: Tensor, log_counts_over_needed: Tensor) -> Tensor:
    """Return the smooth L1 loss between the log-odds and a target that increases with ``log_counts_over_needed``.

    Cross-entropy hardly constrains confident answers. With cross-entropy alone, the log-odds of confident answers would
    vary with noise. With the smooth L1 loss, log-odds increase with the counts of the element's lines, and maps of
    log-odds have contrast.
    """
    is_defined = ~torch.isnan(log_counts_over_needed)
    if not is_defined.any():
        return logits.new_zeros(())
    target_log_odds = _VISIBLE_LOG_ODDS + _LOG_ODDS_SLOPE * log_counts_over_needed[is_defined]
    return smooth_l1_loss(logits[is_defined].float(), target_log_odds, beta=_SMOOTH_L1_WIDTH)


def amount_loss(logits: Tensor, amount: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of the log-odds that each mass fraction reaches each class edge.

    Parameters
    ----------
    logits : (n, n_amount n_edge) tensor
    amount : (n, n_amount) or (n, n_amount, n_edge) tensor
        Number of class edges that each mass fraction reaches, or the probability that it reaches each class edge.
        Values of ``UNKNOWN`` are left out.
    """
    edge_logits = logits.reshape(len(logits), amount.shape[1], -1)
    if amount.ndim == edge_logits.ndim:
        return binary_cross_entropy_with_logits(edge_logits, amount.to(edge_logits.dtype))
    is_reached = amount.unsqueeze(2) > torch.arange(edge_logits.shape[2], device=amount.device)
    is_known = (amount != UNKNOWN).unsqueeze(2).expand_as(edge_logits)
    return masked_loss(edge_logits, is_reached.to(edge_logits.dtype), is_known.to(edge_logits.dtype))


def quantity_loss(quantity_mean: Tensor, quantity_sigma: Tensor, quantity: Tensor) -> Tensor:
    """Return the mean negative log-likelihood of a normal distribution over all known quantities."""
    if quantity.shape != quantity_mean.shape:  # the library has no quantities
        return quantity_mean.new_zeros(())
    is_defined = ~torch.isnan(quantity)
    pulls = (torch.where(is_defined, quantity, quantity_mean) - quantity_mean) / quantity_sigma
    quantity_losses = torch.where(
        is_defined, 0.5 * pulls**2 + torch.log(quantity_sigma), torch.zeros_like(quantity_sigma)
    )
    return quantity_losses.sum() / is_defined.sum().clamp_min(1)


def masked_loss(logits: Tensor, labels: Tensor, label_weights: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of labels with the given weights."""
    loss_sum = binary_cross_entropy_with_logits(logits.float(), labels, weight=label_weights, reduction="sum")
    return loss_sum / label_weights.sum().clamp_min(1.0)


@contextmanager
def silence_messages(logger_name: str, min_level: int, *message_patterns: str) -> Iterator[None]:
    """Limit a logger to ``min_level``, and ignore warnings that match the given regular expressions."""
    logger = logging.getLogger(logger_name)
    level_before = logger.level
    logger.setLevel(min_level)
    with warnings.catch_warnings():
        for message_pattern in message_patterns:
            warnings.filterwarnings("ignore", message=message_pattern)
        try:
            yield
        finally:
            logger.setLevel(level_before)
