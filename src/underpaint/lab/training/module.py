"""The Lightning modules: loss, optimiser and schedule."""

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
_LAST_SHARE_OF_RATE = 0.01
_QUANTITY_SHARE = 0.02
"""Weight of a quantity's mean loss beside that of a label, which is a tenth as large: presence comes first."""
_AMOUNT_SHARE = 0.1
"""Weight of the mean loss of an amount's edge beside that of a label."""
_KEPT_SHARE = 3.0
"""The same where the amounts are a network's earlier answers, which are to stay."""
_EXCESS_SHARE = 0.005
_EXCESS_WIDTH = 4.0
_SURE_FROM, _SURER_BY = 2.0, 1.5
"""Log-odds of a group that is just visible, and what e times the counts add: a fit's would grow faster and mislead."""


class PigmentModule(lightning.LightningModule):
    """A network with the paper's loss over visible labels.

    Parameters
    ----------
    network : Module
        The network to train, of any kind of :func:`underpaint.lab.networks.build_network`.
    settings : TrainSettings
        Learning rate, decay, schedule.
    about : dict
        What has to lie in the checkpoint to build the network and its card again; JSON-serialisable.
    trainable : tuple of str or None
        Names of the layers that may change; None frees all.

    References
    ----------
    X. Xu et al., J. Anal. At. Spectrom. (2022), doi 10.1039/d2ja00246a, equation 2 (binary cross-entropy).
    """

    def __init__(
        self,
        network: nn.Module,
        settings: TrainSettings,
        about: dict[str, Any],
        *,
        trainable: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.settings, self.about, self.trainable = network, settings, about, trainable
        for name, parameter in network.named_parameters():
            parameter.requires_grad = trainable is None or name.split(".")[0] in trainable

    def on_train_epoch_start(self) -> None:
        """Hold the running means of frozen layers, which no gradient would protect."""
        if self.trainable is None:
            return
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.eval()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        del batch_idx
        loss = loss_of(self.network, batch)
        self.log("training_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(batch.labels))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss of one batch."""
        del batch_idx
        loss = loss_of(self.network, batch)
        self.log("validation_loss", loss, prog_bar=True, batch_size=len(batch.labels))

    def configure_optimizers(self) -> Any:
        """Return Adam, with the cosine schedule where the settings have it."""
        free = [parameter for parameter in self.parameters() if parameter.requires_grad]
        decay = self.settings.weight_decay
        optimizer = (
            torch.optim.AdamW(free, self.settings.learning_rate, weight_decay=decay)
            if decay
            else torch.optim.Adam(free, self.settings.learning_rate)
        )
        if self.settings.schedule == "constant":
            return optimizer
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._share_of_rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _share_of_rate(self, step: int) -> float:
        n_step = max(1, int(self.trainer.estimated_stepping_batches))
        warm_up = min(_WARM_UP_EPOCHS * n_step / self.settings.epochs, 0.3 * n_step)
        if step < warm_up:
            return (step + 1) / (warm_up + 1)
        cosine = 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * min(1.0, step / n_step)))))
        return _LAST_SHARE_OF_RATE + (1 - _LAST_SHARE_OF_RATE) * cosine

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the description of the network with its weights."""
        checkpoint["underpaint"] = self.about


class ReconstructionModule(lightning.LightningModule):
    """An encoder and a decoder with the mean squared error between the transformed spectrum and its copy.

    Parameters
    ----------
    network : AutoencoderNetwork
        Its transform and its encoder are used; its dense layer stays as it is.
    n_channel : int
        Channels of a spectrum.
    settings : TrainSettings
        Learning rate; seed of the epochs.
    """

    def __init__(self, network: AutoencoderNetwork, n_channel: int, settings: TrainSettings) -> None:
        super().__init__()
        self.encoder, self.transform, self.decoder = network.encoder, network.transform, Decoder(n_channel)
        self.settings = settings

    def loss(self, counts: Tensor) -> Tensor:
        """Return the mean squared error of the copies of (n, n_channel) counts."""
        values = self.transform(counts)
        return mse_loss(self.decoder(self.encoder(values)).float(), values)

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
        """Return Adam, at the constant rate of the paper's protocol."""
        return torch.optim.Adam(self.parameters(), self.settings.learning_rate)


def ask(network: nn.Module, batch: Batch) -> tuple[Tensor, ...]:
    """Run a network of any kind: log-odds, and of one of layers mean and deviation of its quantities, and amounts."""
    given = inputs_of(network, batch.counts, batch.recorded, batch.instrument)
    outputs = network(*given)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def inputs_of(network: nn.Module, counts: Tensor, recorded: Tensor, instrument: Tensor) -> tuple[Tensor, ...]:
    """Return the inputs of a network of this kind."""
    if isinstance(network, LayersNetwork):
        has_inputs = instrument.shape[1] == network.n_instrument
        return (
            counts,
            recorded,
            instrument if has_inputs else counts.new_full((len(counts), network.n_instrument), torch.nan),
        )
    return (counts, recorded) if isinstance(network, DefaultNetwork) else (counts,)


def log_odds(network: nn.Module, batch: Batch) -> Tensor:
    """Return the (n, n_name) log-odds of a network of any kind."""
    return ask(network, batch)[0]


def loss_of(network: nn.Module, batch: Batch) -> Tensor:
    """Return the loss of a batch: presence, and of a network of layers its quantities and amounts, too."""
    logits, *quantities = ask(network, batch)
    loss = masked_loss(logits, batch.labels, batch.weight)
    if not quantities:
        return loss
    mean, sigma, *amounts = quantities
    loss = loss + _QUANTITY_SHARE * quantity_loss(mean, sigma, batch.quantity)
    if amounts and batch.amount is not None and batch.amount.shape[1]:
        share = _AMOUNT_SHARE if batch.amount.ndim == 2 else _KEPT_SHARE
        loss = loss + share * amount_loss(amounts[0], batch.amount)
    return loss if batch.excess is None else loss + _EXCESS_SHARE * excess_loss(logits, batch.excess)


def excess_loss(logits: Tensor, excess: Tensor) -> Tensor:
    """Distance of log-odds from those that grow with the counts over the ones needed, where ``excess`` is not NaN.

    Cross-entropy alone is flat where the network is sure, and the log-odds of an element that lies everywhere follow
    noise. With this loss they rise with the counts of its lines, so that their map has contrast.
    """
    known = ~torch.isnan(excess)
    if not known.any():
        return logits.new_zeros(())
    target = _SURE_FROM + _SURER_BY * excess[known]
    return smooth_l1_loss(logits[known].float(), target, beta=_EXCESS_WIDTH)


def amount_loss(logits: Tensor, amount: Tensor) -> Tensor:
    """Binary cross-entropy of every edge: whether the share reaches it, visible or not.

    Parameters
    ----------
    logits : (n, n_amount n_edge) tensor
    amount : (n, n_amount) or (n, n_amount, n_edge) tensor
        How many edges each share reaches (UNKNOWN counts neither for nor against), or how likely it reaches each.
    """
    each = logits.reshape(len(logits), amount.shape[1], -1)
    if amount.ndim == each.ndim:
        return binary_cross_entropy_with_logits(each, amount.to(each.dtype))
    reached = amount.unsqueeze(2) > torch.arange(each.shape[2], device=amount.device)
    known = (amount != UNKNOWN).unsqueeze(2).expand_as(each)
    return masked_loss(each, reached.to(each.dtype), known.to(each.dtype))


def quantity_loss(mean: Tensor, sigma: Tensor, quantity: Tensor) -> Tensor:
    """Negative log-likelihood of a normal distribution over the quantities that are not NaN."""
    if quantity.shape != mean.shape:  # a library without quantities
        return mean.new_zeros(())
    known = ~torch.isnan(quantity)
    distance = (torch.where(known, quantity, mean) - mean) / sigma
    each = torch.where(known, 0.5 * distance**2 + torch.log(sigma), torch.zeros_like(sigma))
    return each.sum() / known.sum().clamp_min(1)


def masked_loss(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy over the labels that count."""
    total = binary_cross_entropy_with_logits(logits.float(), labels, weight=weight, reduction="sum")
    return total / weight.sum().clamp_min(1.0)


@contextmanager
def quiet(name: str, level: int, *messages: str) -> Iterator[None]:
    """Limit a logger to ``level`` and above, and ignore warnings that begin with these expressions."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    with warnings.catch_warnings():
        for message in messages:
            warnings.filterwarnings("ignore", message=message)
        try:
            yield
        finally:
            logger.setLevel(before)
