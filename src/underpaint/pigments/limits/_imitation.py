"""The spectra that a paint can take: exactly, or from a grid of stratigraphies."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from underpaint.physics.forward import ORDERS, SCATTER, Emission, emit, render
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import Stratigraphy, library
from underpaint.physics.materials.paint import DEFAULT_BINDER, named_row
from underpaint.pigments.limits.question import Channels, Question

Numbers = NDArray[np.float64]
NODES = (8, 7, 5)
"""Nodes along thickness, pigment and ground, in the coordinates of ``GridImitation``."""
PARTS = 4
"""Lines of the paint, lines of the ground, coherent scatter, other scatter."""
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
        """Return logarithms (4, n_bin) of the parts, and (n_free, 4, n_bin) derivatives."""


def parts_of(stratigraphies: Sequence[Stratigraphy], instrument: Instrument, channels: Channels) -> Numbers:
    """Return (n, 4, n_bin) counts: lines of the first layer, lines of those below, coherent and other scatter."""
    emission = emit(stratigraphies, instrument)
    dark = {name: np.zeros_like(getattr(emission, name)) for name in (*ORDERS, *SCATTER)}
    without = {name: dark[name] for name in SCATTER}
    first = {name: getattr(emission, name).copy() for name in ORDERS}
    for photons in first.values():
        photons[:, 1:] = 0.0
    paint = replace(emission, **without | first)
    ground = replace(emission, **without | {name: getattr(emission, name) - first[name] for name in ORDERS})
    coherent = replace(emission, **dark | {"coherent": emission.coherent})
    other = replace(emission, **{name: dark[name] for name in (*ORDERS, "coherent")})
    return np.stack([_seen(part, instrument, channels) for part in (paint, ground, coherent, other)], axis=1)


@dataclass(frozen=True)
class GridImitation:
    """A paint of one pigment, interpolated between stratigraphies.

    The logarithms of the four parts are polynomials (Chebyshev nodes) in the fourth roots of both thicknesses and the
    cube root of the pigment's share of the volume: what attenuates, an exponential of thickness times volume, then is
    a polynomial itself, and what rises with the amount, a logarithm, is smooth.

    Parameters
    ----------
    bounds : (3, 2) array
        Logarithms of thickness, ratio and ground, as of ``Question.ranges``.
    usual : (3,) array
        ``Question.position``.
    pigment_over_binder : float
        Ratio of the densities.
    nodes : (n_node, 3) array
        Logarithms as in ``bounds``.
    spectra : (n_node, n_bin) array
        Expected counts there.
    coefficients : (n_node, 4 n_bin) array
        Of the polynomials.
    """

    bounds: Numbers
    usual: Numbers
    pigment_over_binder: float
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
        """Return logarithms (4, n_bin) of the parts, and (3, 4, n_bin) derivatives."""
        unit, slope = _unit(place, self.bounds, self.pigment_over_binder)
        values = [chebyshev.chebvander(unit[axis], count - 1) for axis, count in enumerate(NODES)]
        slopes = [_slopes(float(unit[axis]), count) * slope[axis] for axis, count in enumerate(NODES)]
        axes = range(len(NODES))
        along = [_outer([slopes[own] if own == axis else values[own] for own in axes]) for axis in axes]
        found = (np.stack([_outer(values), *along]) @ self.coefficients).reshape(4, PARTS, -1)
        return found[0], found[1:]


def grid_imitation(pigment: str, instrument: Instrument, channels: Channels, question: Question) -> GridImitation:
    """Simulate a paint on a grid of thickness, share of pigment and ground."""
    ranges = question.ranges
    denser = library()[pigment].density / float(named_row("binder", DEFAULT_BINDER)["density"])
    units = [np.cos(np.pi * (np.arange(count) + 0.5) / count) for count in NODES]
    mesh = np.stack([axis.ravel() for axis in np.meshgrid(*units, indexing="ij")], axis=1)
    places = _places(mesh, ranges, denser)
    parts = parts_of([question.paint({pigment: 1.0}, place) for place in places], instrument, channels)
    vander = [chebyshev.chebvander(axis, count - 1) for axis, count in zip(units, NODES, strict=True)]
    inverse = np.linalg.inv(np.kron(np.kron(vander[0], vander[1]), vander[2]))
    logs = np.log(np.maximum(parts, TINY)).reshape(len(parts), -1)
    return GridImitation(ranges, question.position, denser, places, parts.sum(axis=1), inverse @ logs)


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
        """Return logarithms (4, n_bin) of the parts, and (n_free, 4, n_bin) derivatives."""
        moves = STEP * np.eye(len(place))
        places = np.concatenate([place[None], place + moves, place - moves])
        paints = [self.question.paint(self.dry(own), own[:3]) for own in places]
        logs = np.log(np.maximum(parts_of(paints, self.instrument, self.channels), TINY))
        count = len(place)
        return logs[0], (logs[1 : count + 1] - logs[count + 1 :]) / (2.0 * STEP)


def _seen(emission: Emission, instrument: Instrument, channels: Channels) -> Numbers:
    return channels.merge(np.asarray(render(emission, instrument.detector, channels.axis), dtype=np.float64))


def _roots(logs: Numbers, denser: float) -> tuple[Numbers, Numbers]:
    """Return (..., 3) roots of thickness, pigment's volume and ground, and their derivatives to the logarithms."""
    volume = 1.0 / (1.0 + denser * np.exp(-logs[..., 1]))
    thick = np.exp(logs / 4.0)
    roots = np.stack([thick[..., 0], np.cbrt(volume), thick[..., 2]], axis=-1)
    slopes = np.stack([thick[..., 0] / 4.0, np.cbrt(volume) * (1.0 - volume) / 3.0, thick[..., 2] / 4.0], axis=-1)
    return roots, slopes


def _unit(place: Numbers, bounds: Numbers, denser: float) -> tuple[Numbers, Numbers]:
    """Return (3,) coordinates from -1 to 1, and their derivatives to the logarithms."""
    low, high = _roots(bounds.T, denser)[0]
    roots, slopes = _roots(place, denser)
    return np.clip(2.0 * (roots - low) / (high - low) - 1.0, -1.0, 1.0), slopes * 2.0 / (high - low)


def _places(unit: Numbers, bounds: Numbers, denser: float) -> Numbers:
    """Return (..., 3) logarithms of coordinates from -1 to 1."""
    low, high = _roots(bounds.T, denser)[0]
    roots = low + 0.5 * (unit + 1.0) * (high - low)
    volume = roots[..., 1] ** 3
    ratio = np.log(denser * volume / (1.0 - volume))
    return np.stack([4.0 * np.log(roots[..., 0]), ratio, 4.0 * np.log(roots[..., 2])], axis=-1)


def _slopes(unit: float, count: int) -> Numbers:
    """Return (1, count) derivatives of the Chebyshev polynomials."""
    angle = np.arccos(np.clip(unit, -1.0, 1.0))
    order = np.arange(count)
    inside = order * np.sin(order * angle) / max(float(np.sin(angle)), 1e-9)
    return np.asarray(np.where(abs(unit) < 1.0 - 1e-12, inside, order**2 * np.sign(unit) ** (order + 1)))[None]


def _outer(rows: Sequence[Numbers]) -> Numbers:
    return np.asarray(np.einsum("i,j,k->ijk", *(np.ravel(row) for row in rows)).ravel())
