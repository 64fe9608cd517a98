"""The spectra that a paint can take: exactly, or from a grid of stratigraphies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from underpaint.forward import ORDERS, SCATTER, Emission, emit, render
from underpaint.instrument import Instrument
from underpaint.limits.question import Channels, Question
from underpaint.sample import Stratigraphy

Numbers = NDArray[np.float64]
NODES = (8, 6, 5)
"""Nodes in the logarithms of thickness, ratio and ground."""
PARTS = 3
"""Lines, coherent scatter, other scatter."""
TINY = 1e-300
STEP = 0.01


class Imitation(Protocol):
    """Spectra of a paint that may vary."""

    @property
    def bounds(self) -> Numbers:
        """(n_free, 2) array: the range of what is free."""

    def starts(self, share: Numbers) -> list[Numbers]:
        """Return (n_free,) places to begin from, for an (n_bin,) spectrum to be imitated."""

    def logs(self, place: Numbers) -> tuple[Numbers, Numbers]:
        """Return logarithms (3, n_bin) of the parts, and (n_free, 3, n_bin) derivatives."""


def parts_of(stratigraphies: Sequence[Stratigraphy], instrument: Instrument, channels: Channels) -> Numbers:
    """Return (n, 3, n_bin) counts of lines, coherent scatter and other scatter."""
    emission = emit(stratigraphies, instrument)
    dark = {name: np.zeros_like(getattr(emission, name)) for name in (*ORDERS, *SCATTER)}
    lines = replace(emission, **{name: dark[name] for name in SCATTER})
    coherent = replace(emission, **dark | {"coherent": emission.coherent})
    other = replace(emission, **{name: dark[name] for name in (*ORDERS, "coherent")})
    return np.stack([_seen(part, instrument, channels) for part in (lines, coherent, other)], axis=1)


@dataclass(frozen=True)
class GridImitation:
    """A paint of one pigment, interpolated between stratigraphies.

    The logarithms of the three parts are polynomials (Chebyshev nodes) in those of thickness, ratio and ground.
    """

    bounds: Numbers
    usual: Numbers
    nodes: Numbers
    spectra: Numbers
    coefficients: Numbers

    def starts(self, share: Numbers) -> list[Numbers]:
        """Return the node whose spectrum is nearest, and the paint that is asked about.

        Thickness and binder can stand in for each other, so that the deviance has valleys with more than one end.
        """
        whole = self.spectra / self.spectra.sum(axis=1, keepdims=True)
        # where only one has counts the distance stays finite
        apart = np.sum((whole - share) ** 2 / (whole + share + 1e-9), axis=1)
        return [self.nodes[int(np.argmin(apart))], self.usual]

    def logs(self, place: Numbers) -> tuple[Numbers, Numbers]:
        """Return logarithms (3, n_bin) of the parts, and (3, 3, n_bin) derivatives."""
        low, high = self.bounds[:, 0], self.bounds[:, 1]
        unit = np.clip(2.0 * (place - low) / (high - low) - 1.0, -1.0, 1.0)
        values = [chebyshev.chebvander(unit[axis], count - 1) for axis, count in enumerate(NODES)]
        slopes = [_slopes(float(unit[axis]), count) * 2.0 / (high - low)[axis] for axis, count in enumerate(NODES)]
        axes = range(len(NODES))
        along = [_outer([slopes[own] if own == axis else values[own] for own in axes]) for axis in axes]
        rows = [_outer(values), *along]
        found = (np.stack(rows) @ self.coefficients).reshape(4, PARTS, -1)
        return found[0], found[1:]


def grid_imitation(
    dry: Mapping[str, float], instrument: Instrument, channels: Channels, question: Question
) -> GridImitation:
    """Simulate a paint on a grid of thickness, ratio and ground."""
    ranges = question.ranges
    units = [np.cos(np.pi * (np.arange(count) + 0.5) / count) for count in NODES]
    mesh = np.stack([axis.ravel() for axis in np.meshgrid(*units, indexing="ij")], axis=1)
    places = ranges[:, 0] + 0.5 * (mesh + 1.0) * (ranges[:, 1] - ranges[:, 0])
    parts = parts_of([question.paint(dry, place) for place in places], instrument, channels)
    vander = [chebyshev.chebvander(axis, count - 1) for axis, count in zip(units, NODES, strict=True)]
    inverse = np.linalg.inv(np.kron(np.kron(vander[0], vander[1]), vander[2]))
    logs = np.log(np.maximum(parts, TINY)).reshape(len(parts), -1)
    return GridImitation(ranges, question.position, places, parts.sum(axis=1), inverse @ logs)


@dataclass(frozen=True)
class MixedImitation:
    """A mixture of pigments in one layer, simulated anew at every place.

    What is free: thickness, ratio, ground, and the logarithms of the shares over that of the first.
    """

    pigments: tuple[str, ...]
    instrument: Instrument
    channels: Channels
    question: Question
    first: Numbers

    @property
    def bounds(self) -> Numbers:
        """(n_free, 2) array."""
        shares = np.tile(np.log([1e-3, 1e3]), (len(self.pigments) - 1, 1))
        return np.concatenate([self.question.ranges, shares])

    def starts(self, share: Numbers) -> list[Numbers]:
        """Return the paint that is asked about, with the shares to begin with."""
        del share
        return [np.clip(np.concatenate([self.question.position, self.first]), *self.bounds.T)]

    def dry(self, place: Numbers) -> dict[str, float]:
        """Return the shares by pigment; they sum to one."""
        weights = np.exp(np.concatenate([[0.0], place[3:]]))
        return dict(zip(self.pigments, (weights / weights.sum()).tolist(), strict=True))

    def logs(self, place: Numbers) -> tuple[Numbers, Numbers]:
        """Return logarithms (3, n_bin) of the parts, and (n_free, 3, n_bin) derivatives."""
        moves = STEP * np.eye(len(place))
        places = np.concatenate([place[None], place + moves, place - moves])
        paints = [self.question.paint(self.dry(own), own[:3]) for own in places]
        logs = np.log(np.maximum(parts_of(paints, self.instrument, self.channels), TINY))
        count = len(place)
        return logs[0], (logs[1 : count + 1] - logs[count + 1 :]) / (2.0 * STEP)


def _seen(emission: Emission, instrument: Instrument, channels: Channels) -> Numbers:
    return channels.merge(np.asarray(render(emission, instrument.detector, channels.axis), dtype=np.float64))


def _slopes(unit: float, count: int) -> Numbers:
    """Return (1, count) derivatives of the Chebyshev polynomials."""
    angle = np.arccos(np.clip(unit, -1.0, 1.0))
    order = np.arange(count)
    inside = order * np.sin(order * angle) / max(float(np.sin(angle)), 1e-9)
    return np.asarray(np.where(abs(unit) < 1.0 - 1e-12, inside, order**2 * np.sign(unit) ** (order + 1)))[None]


def _outer(rows: Sequence[Numbers]) -> Numbers:
    return np.asarray(np.einsum("i,j,k->ijk", *(np.ravel(row) for row in rows)).ravel())
