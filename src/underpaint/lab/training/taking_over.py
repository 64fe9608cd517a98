"""A network for other names that begins with the weights of a trained one."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from underpaint.errors import TrainingError
from underpaint.lab.networks import build_network, is_folded
from underpaint.lab.training.checkpoint import Trained, spec_for
from underpaint.pigments.weights import ModelCard

_MEANS_AND_DEVIATIONS = 2
_NOT_TAKEN = "calibration."
"""What was fitted to the other network's answers says nothing about the new ones."""


@dataclass(frozen=True)
class TakenOver:
    """A network that has been given what another one knows.

    Parameters
    ----------
    network : Module
        Of the new card's names.
    taken : tuple of str
        Names whose rows of weights came from the other network.
    fresh : tuple of str
        Names that it did not know; their rows begin anew.
    """

    network: nn.Module
    taken: tuple[str, ...]
    fresh: tuple[str, ...]


def take_over(start: Trained, card: ModelCard) -> TakenOver:
    """Build the network of a card with the weights of a trained one; rows of the answers are taken over by name.

    Parameters
    ----------
    start : Trained
        The network to begin with; it stays as it is.
    card : ModelCard
        What the new network answers; same kind, axis and inputs.

    Raises
    ------
    TrainingError
        Kind, axis or inputs differ, or the network answers through what its pigments are made of and so has no rows.
    """
    _check(start.card, card)
    network = build_network(replace(spec_for(card), folded=is_folded(start.network)))
    rows, known = _rows(card), _rows(start.card)
    old, new = start.network.state_dict(), network.state_dict()
    for key, value in new.items():
        if (part := _part(key, rows)) is not None:
            new[key] = _by_name(value, old[key], rows[part], known[part])
        elif not key.startswith(_NOT_TAKEN) and key in old and old[key].shape == value.shape:
            new[key] = old[key].clone()
    network.load_state_dict(new)
    fresh = tuple(name for name in card.names if name not in start.card.names)
    return TakenOver(network.eval(), tuple(name for name in card.names if name not in fresh), fresh)


def _check(known: ModelCard, wanted: ModelCard) -> None:
    differing = [
        name for name in ("kind", "axis", "instrument_inputs") if getattr(known, name) != getattr(wanted, name)
    ]
    if differing:
        raise TrainingError(
            f"Cannot begin with {known.name!r}: its {', '.join(differing)} differ from what is to be trained. "
            "Begin with another model, or with the shipped default."
        )


def _rows(card: ModelCard) -> dict[str, tuple[str, ...]]:
    """Name the rows of those layers that have one for each answer."""
    if card.kind == "default":
        return {"dense": card.names, "linear": card.names}
    if card.kind == "layers_composition":
        return {"quantity": card.quantities * _MEANS_AND_DEVIATIONS}
    return {
        "presence.dense": card.names,
        "linear": card.names,
        "quantity": _MEANS_AND_DEVIATIONS * card.quantities,
    }


def _part(key: str, rows: dict[str, tuple[str, ...]]) -> str | None:
    return next((part for part in rows if key in {f"{part}.weight", f"{part}.bias"}), None)


def _by_name(fresh: Tensor, old: Tensor, names: tuple[str, ...], known: tuple[str, ...]) -> Tensor:
    """Return the fresh rows with those known by name put in their place; a name that comes twice keeps its order."""
    filled, places = fresh.clone(), _numbered(known)
    for row, name in _numbered_rows(names):
        if name in places:
            filled[row] = old[places[name]]
    return torch.as_tensor(filled)


def _numbered(names: tuple[str, ...]) -> dict[tuple[str, int], int]:
    return {name: row for row, name in _numbered_rows(names)}


def _numbered_rows(names: tuple[str, ...]) -> list[tuple[int, tuple[str, int]]]:
    return [(row, (name, names[:row].count(name))) for row, name in enumerate(names)]
