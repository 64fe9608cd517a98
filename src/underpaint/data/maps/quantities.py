"""Quantities that a network answers beside presence: their names, and the scales on which their errors are even."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

SURFACE_UM = "thickness_um.surface"
"""Thickness of the uppermost layer of paint, um."""
_SHARE = "share."
_LEAST_SHARE = 0.002
_LEAST_UM = 0.1
LEVEL = 0.9
"""Probability with which an interval is to hold the truth, unless another is asked for."""
WIDEST_FACTOR = 10.0
"""Upper over lower end of a thickness' interval beyond which it counts as not determined."""
WIDEST_SHARE = 0.5
"""Width of a share's interval beyond which it counts as not determined."""


def share_of(material: str) -> str:
    """Return the name of a material's share of the mass of the dry pigments at the surface."""
    return f"{_SHARE}{material}"


def material_of(quantity: str) -> str | None:
    """Return the material whose share a quantity is; None for the thickness."""
    return quantity.removeprefix(_SHARE) if quantity.startswith(_SHARE) else None


def on_scale(quantity: str, value: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return values without bounds: ln(um) of a thickness, ln(s / (1 - s)) of a share; NaN stays."""
    if material_of(quantity) is None:
        return np.asarray(np.log(np.maximum(value, _LEAST_UM)), dtype=np.float32)
    share = np.clip(value, _LEAST_SHARE, 1.0 - _LEAST_SHARE)
    return np.asarray(np.log(share / (1.0 - share)), dtype=np.float32)


def from_scale(quantity: str, value: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return what :func:`on_scale` was given."""
    if material_of(quantity) is None:
        return np.asarray(np.exp(value), dtype=np.float32)
    return np.asarray(1.0 / (1.0 + np.exp(-value)), dtype=np.float32)


def slope(quantity: str, value: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return how fast a value grows on the scale of :func:`on_scale`."""
    if material_of(quantity) is None:
        return np.asarray(np.maximum(value, _LEAST_UM), dtype=np.float32)
    share = np.clip(value, _LEAST_SHARE, 1.0 - _LEAST_SHARE)
    return np.asarray(share * (1.0 - share), dtype=np.float32)


class Estimate(NamedTuple):
    """Maps of a quantity: its median, and the ends of an interval; um of a thickness, 0 to 1 of a share."""

    value: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]


@dataclass(frozen=True)
class QuantityMaps:
    """Thickness and mass shares of the layer at the surface, at each pixel.

    Parameters
    ----------
    names : tuple of str
        :data:`SURFACE_UM`, and :func:`share_of` materials.
    value : (n_row, n_column, n_name) float32 array
        Median of what the network thinks possible: um of the thickness, 0 to 1 of a share; NaN for no answer.
    sigma : (n_row, n_column, n_name) float32 array
        One standard deviation, on the scale of :func:`on_scale`: of the thickness' logarithm, of a share's log-odds.
    """

    names: tuple[str, ...]
    value: NDArray[np.float32]
    sigma: NDArray[np.float32]

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """Return the (n_row, n_column) map of a quantity's median."""
        return self.value[:, :, self._index(name)]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.names)

    def estimate(self, name: str, level: float = LEVEL) -> Estimate:
        """Return the median and the interval that holds the truth with a probability of ``level``.

        Raises
        ------
        KeyError
            There is no such quantity.
        ValueError
            ``level`` does not lie between 0 and 1.
        """
        if not 0 < level < 1:
            raise ValueError(f"Cannot give an interval of level {level:g}: it lies between 0 and 1; 0.9 is usual.")
        index = self._index(name)
        value = self.value[:, :, index]
        middle, half = on_scale(name, value), ndtri(0.5 + 0.5 * level) * self.sigma[:, :, index]
        return Estimate(value, from_scale(name, middle - half), from_scale(name, middle + half))

    def determined(self, name: str) -> NDArray[np.bool_]:
        """Return (n_row, n_column) where the 90 % interval is narrow enough to say something.

        A thickness' ends lie within :data:`WIDEST_FACTOR` of each other, a share's within :data:`WIDEST_SHARE`.
        """
        _, low, high = self.estimate(name)
        if material_of(name) is None:
            return np.asarray(high <= WIDEST_FACTOR * low)
        return np.asarray(high - low <= WIDEST_SHARE)

    def deviation(self, name: str) -> NDArray[np.float32]:
        """Return (n_row, n_column) one standard deviation in the unit of the value, to first order."""
        index = self._index(name)
        return self.sigma[:, :, index] * slope(name, self.value[:, :, index])

    def _index(self, name: str) -> int:
        if name not in self.names:
            raise KeyError(f"No quantity is called {name!r}; there are: {', '.join(self.names)}.")
        return self.names.index(name)
