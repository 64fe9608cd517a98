"""Maps over the pixels of a scan."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps.places import PLACES, Place, at_place, split_place
from underpaint.data.maps.quantities import LEVEL, SURFACE_UM, Estimate, QuantityMaps, share_of

PRESENT_PROBABILITY = 0.5
"""Above it a pigment or group counts as there."""
_LEAST_DEVIATION = 1e-6


@dataclass(frozen=True)
class PigmentMaps:
    """Probability of each pigment and pigment group at each pixel.

    Parameters
    ----------
    names : tuple of str
        Snake-case names in the order of ``probability``'s last axis: groups first, then members. Of a model that knows
        places also ``vermilion.surface`` and ``vermilion.below`` (:func:`~.at_place`), after all others.
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
    quantities : QuantityMaps or None
        Thickness and shares of the layer at the surface, of a model that answers them.

    Examples
    --------
    ``maps["vermilion"]`` is the probability that it is anywhere in the paint, ``maps.at("vermilion", "surface")`` that
    it is in the uppermost layer; ``maps.thickness_um().low`` the lower end of that layer's thickness, um.
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
    quantities: QuantityMaps | None = None

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """Return the (n_row, n_column) probability map of a pigment or group, or of one at a place."""
        if name not in self.names:
            raise KeyError(f"No map is called {name!r}; there are: {', '.join(self.names)}.")
        return self.probability[:, :, self.names.index(name)]

    def at(self, name: str, place: Place) -> NDArray[np.float32]:
        """Return the (n_row, n_column) probability that a pigment or group is at a place.

        Raises
        ------
        KeyError
            There is no such map: the model knows no places, or results kept none as it is nowhere likely there.
        """
        if name in self.names and place not in self.places:
            raise KeyError(f"Cannot say where {name} lies: the model {self.model_name!r} knows no places.")
        if name in self.names and at_place(name, place) not in self.names:
            raise KeyError(
                f"No map of {name} at place {place!r} was kept: results hold those that exceed "
                f"{PRESENT_PROBABILITY:g} somewhere."
            )
        return self[at_place(name, place)]

    @property
    def places(self) -> tuple[Place, ...]:
        """Places that the names speak of: "anywhere" alone, or "surface" and "below", too."""
        spoken = {split_place(name)[1] for name in self.names}
        return tuple(place for place in PLACES if place in spoken)

    @property
    def model_name(self) -> str:
        """Name of the model as its card says it; "" where it is not known."""
        model = self.settings.get("model", "")
        return str(model.get("name", "")) if isinstance(model, dict) else str(model)

    def thickness_um(self, level: float = LEVEL) -> Estimate:
        """Return median and interval of the thickness of the uppermost layer of paint, um.

        Raises
        ------
        KeyError
            The model answers no quantities.
        """
        return self._quantities().estimate(SURFACE_UM, level)

    def surface_share(self, name: str, level: float = LEVEL) -> Estimate:
        """Return median and interval of a group's share of the mass of the dry pigments at the surface.

        It means something only where the group is at the surface.

        Raises
        ------
        KeyError
            The model answers no quantities, or not this one.
        """
        return self._quantities().estimate(share_of(name), level)

    def present_somewhere(self, name: str) -> bool:
        """Whether any pixel's probability exceeds one half."""
        return bool((self[name] > PRESENT_PROBABILITY).any())

    def _quantities(self) -> QuantityMaps:
        if self.quantities is None:
            raise KeyError(f"No thickness and no shares: the model {self.model_name!r} does not answer them.")
        return self.quantities

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.names)

    def select(self, kind: str, place: Place = "anywhere") -> tuple[str, ...]:
        """Names of one kind ("group" or "member") that speak of a place."""
        return tuple(
            name
            for name, own in zip(self.names, self.kinds, strict=True)
            if own == kind and split_place(name)[1] == place
        )


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
        One standard deviation of counting, counts.
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
            raise KeyError(f"No element map is called {name!r}; there are: {', '.join(self.names)}.")
        return self.area[:, :, self.names.index(name)]

    def strongest(self, families: Iterable[str]) -> NDArray[np.float32]:
        """Return (n_row, n_column) by how many standard deviations the strongest of some families stands out.

        Zero where none of them was fitted, and where there is no answer.
        """
        # one map at a time: results may lie on disk
        found = [
            np.nan_to_num(self.area[:, :, index] / np.maximum(self.uncertainty[:, :, index], _LEAST_DEVIATION))
            for index in (self.names.index(name) for name in families if name in self.names)
        ]
        none = np.zeros(self.area.shape[:2], dtype=np.float32)
        return np.asarray(np.maximum.reduce(found), dtype=np.float32) if found else none

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.names)
