"""The statistics of a network's layers, made on one set of spectra what they are on another; no label is needed."""

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from underpaint.lab.training.batches import Batch
from underpaint.lab.training.module import log_odds

_PARTS = ("stem", "head", "code")
_SCALES = (0.5, 2.0)
"""How far a channel may be stretched: one that some scan hardly excites says little."""
_LEAST_DEVIATION = 1e-6


def aligned(network: nn.Module, source: Sequence[Batch], target: Sequence[Batch]) -> nn.Module:
    """Return a copy whose layers' channels have, on the target, the mean and deviation that they had on the source.

    Parameters
    ----------
    network : Module
        Default network or one of layers, folded or not; it stays as it is.
    source : sequence of Batch
        Spectra of the kind that it was trained on.
    target : sequence of Batch
        Spectra to align to; their labels are not looked at.

    Notes
    -----
    Adaptive batch normalisation (Y. Li et al., arXiv:1603.04779), written into the weights of the layer before: the
    shipped networks are read back without their normalisations. Layer by layer from the spectrum on, so that each is
    aligned behind those already aligned.
    """
    found = deepcopy(network).eval()
    network.eval()
    for name, layer in found.named_modules():
        if name.split(".")[0] in _PARTS and isinstance(layer, nn.Conv2d | nn.Linear):
            wanted, met = _moments(network, name, source), _moments(found, name, target)
            _restate(layer, wanted, met)
    return found


def _restate(layer: nn.Conv2d | nn.Linear, wanted: tuple[Tensor, Tensor], met: tuple[Tensor, Tensor]) -> None:
    scale = (wanted[1] / met[1].clamp_min(_LEAST_DEVIATION)).clamp(*_SCALES)
    with torch.no_grad():
        layer.weight.mul_(scale.reshape(-1, *[1] * (layer.weight.ndim - 1)))
        if layer.bias is not None:
            layer.bias.copy_((layer.bias - met[0]) * scale + wanted[0])


def _moments(network: nn.Module, name: str, batches: Sequence[Batch]) -> tuple[Tensor, Tensor]:
    """Return (n_channel,) mean and standard deviation of what a layer gives over all spectra and places."""
    sums: list[Tensor] = []
    hook = network.get_submodule(name).register_forward_hook(_adder(sums))
    try:
        with torch.inference_mode():
            for batch in batches:
                log_odds(network, batch)
    finally:
        hook.remove()
    number, first, second = torch.stack(sums).sum(dim=0)
    mean = first / number
    deviation = (second / number - mean**2).clamp_min(0.0).sqrt()
    return mean.float().clone(), deviation.float().clone()


def _adder(sums: list[Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def add(layer: nn.Module, given: tuple[Tensor, ...], answers: Tensor) -> None:
        del layer, given
        each = answers.double().transpose(0, 1).flatten(1)
        sums.append(torch.stack((torch.full_like(each[:, 0], each.shape[1]), each.sum(1), (each**2).sum(1))))

    return add
