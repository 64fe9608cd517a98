"""Maps over the pixels of a scan."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PigmentMaps:
    """Probability of each pigment and pigment group at each pixel.

    Parameters
    ----------
    names : tuple of str
        Snake-case names in the order of ``probability``'s last axis: groups first, then members.
    probability : (n_row, n_column, n_name) float32 array
        Probability that the pigment (or any member of the group) is in the paint at that pixel; NaN means "no answer".
    kinds : tuple of str
        "group" or "member" for each name.
    groups : tuple of tuple of str
        For each name the groups it counts as (a group counts as itself; chrome yellow as lead and chromium).
    labels : tuple of str
        For people: "vermilion or calomel (mercury)".
    elements : tuple of tuple of str
        For each name the line families that show it, strongest first, as in ``ElementMaps.names`` (``Hg_L``).
    notes : tuple of str
        What the user has to know (what the model cannot tell, pixels without an answer ...).
    settings : dict
        Configuration, model card, versions and seeds; JSON-serialisable.
    log_odds : (n_row, n_column, n_name) float32 array, or None
        Logarithm of the odds, ``ln(p / (1 - p))``; tells strong answers apart where the probability rounds to 1.
    """

    names: tuple[str, ...]
    probability: NDArray[np.float32]
    kinds: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    labels: tuple[str, ...]
    elements: tuple[tuple[str, ...], ...]
    step_mm: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    log_odds: NDArray[np.float32] | None = None

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """Return the (n_row, n_column) probability map of a pigment or group."""
        if name not in self.names:
            message = f"No map is called {name!r}; there are: {', '.join(self.names)}."
            raise KeyError(message)
        return self.probability[:, :, self.names.index(name)]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.names)

    def select(self, kind: str) -> tuple[str, ...]:
        """Names of one kind: "group" or "member"."""
        return tuple(name for name, own in zip(self.names, self.kinds, strict=True) if own == kind)


@dataclass(frozen=True)
class ElementMaps:
    """Net counts of each line family at each pixel.

    Parameters
    ----------
    names : tuple of str
        Line families: ``Fe_K``, ``Hg_L``.
    area : (n_row, n_column, n_name) float32 array
        Net counts of the whole family (all its lines), counts; NaN where the pixel has no answer.
    uncertainty : (n_row, n_column, n_name) float32 array
        One standard deviation, counts.
    settings : dict
        Engine, energy axis, versions; JSON-serialisable.
    """

    names: tuple[str, ...]
    area: NDArray[np.float32]
    uncertainty: NDArray[np.float32]
    step_mm: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """Return the (n_row, n_column) map of a line family."""
        if name not in self.names:
            message = f"No element map is called {name!r}; there are: {', '.join(self.names)}."
            raise KeyError(message)
        return self.area[:, :, self.names.index(name)]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.names)
