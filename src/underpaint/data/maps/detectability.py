"""What an answer of "no" is worth at each pixel."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

ABSENT, PRESENT, CANNOT_EXCLUDE, UNDECIDED, NO_ANSWER = 0, 1, 2, 3, 255
STATES = {
    ABSENT: "absent",
    PRESENT: "present",
    CANNOT_EXCLUDE: "cannot be excluded",
    UNDECIDED: "undecided",
    NO_ANSWER: "no answer",
}
"""What the numbers in ``DetectabilityMaps.state`` mean."""


@dataclass(frozen=True)
class DetectabilityMaps:
    """Whether each pigment group is present, absent, or would not be seen, at each pixel.

    Parameters
    ----------
    names, labels : tuple of str
        Groups (or pigments, of a model without groups) as in ``PigmentMaps``.
    state : (n_row, n_column, n_name) uint8 array
        Keys of ``STATES``.
    settings : dict
        What was assumed (cover, hidden layer, ground, thresholds); JSON-serialisable.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    state: NDArray[np.uint8]
    step_mm: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> NDArray[np.uint8]:
        """Return the (n_row, n_column) map of a group."""
        if name not in self.names:
            raise KeyError(f"No map of detectability is called {name!r}; there are: {', '.join(self.names)}.")
        return self.state[:, :, self.names.index(name)]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.names)

    def share(self, name: str, state: int) -> float:
        """Return the share of the answered pixels in a state; 0 where there is no answer at all."""
        known = self[name] != NO_ANSWER
        return float((self[name][known] == state).mean()) if known.any() else 0.0
