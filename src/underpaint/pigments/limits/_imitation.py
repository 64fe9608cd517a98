"""Spectra of a paint with free parameters: simulated, or interpolated on a grid of stratigraphies."""

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
N_NODES = (8, 7, 5)
"""Nodes along thickness, pigment and ground, in the coordinates of ``GridImitation``."""
N_COMPONENTS = 4
"""Number of components: lines of the paint, lines of the ground, coherent scatter, other scatter."""
MIN_COUNTS = 1e-300
DIFFERENCE_STEP = 0.01


class Imitation(Protocol):
    """Spectra of a paint with free parameters."""

    @property
    def bounds(self) -> Numbers:
        """(n_free, 2) limits of the free parameters."""

    def starts(self, share: Numbers) -> list[Numbers]:
        """Return (n_free,) initial parameters for the fit of an (n_bin,) spectrum."""

    def logs(self, place: Numbers) -> tuple[Numbers, Numbers]:
        """Return logarithms (4, n_bin) of the parts, and (n_free, 4, n_bin) derivatives."""


def component_spectra(stratigraphies: Sequence[Stratigraphy], instrument: Instrument, channels: Channels) -> Numbers:
    """Return (n, 4, n_bin) counts: lines of the first layer, lines of those below, coherent and other scatter."""
    emission = emit(stratigraphies, instrument)
    no_photons = {name: np.zeros_like(getattr(emission, name)) for name in (*ORDERS, *SCATTER)}
    no_scatter = {name: no_photons[name] for name in SCATTER}
    first_layer = {name: getattr(emission, name).copy() for name in ORDERS}
    for photons in first_layer.values():
        photons[:, 1:] = 0.0
    paint = replace(emission, **no_scatter | first_layer)
    ground = replace(emission, **no_scatter | {name: getattr(emission, name) - first_layer[name] for name in ORDERS})
    coherent = replace(emission, **no_photons | {"coherent": emission.coherent})
    other_scatter = replace(emission, **{name: no_photons[name] for name in (*ORDERS, "coherent")})
    return np.stack(
        [_detected_counts(component, instrument, channels) for component in (paint, ground, coherent, other_scatter)],
        axis=1,
    )


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
    position : (3,) array
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
    position: Numbers
    pigment_over_binder: float
    nodes: Numbers
    spectra: Numbers
    coefficients: Numbers

    def starts(self, share: Numbers) -> list[Numbers]:
        """Return the node whose spectrum is nearest, and the paint that is asked about.

        Thickness and binder can stand in for each other, so that the deviance has valleys with more than one end.
        """
        normalised = self.spectra / self.spectra.sum(axis=1, keepdims=True)
        # where only one has counts the distance stays finite
        distance = np.sum((normalised - share) ** 2 / (normalised + share + 1e-9), axis=1)
        return [self.nodes[int(np.argmin(distance))], self.position]

    def logs(self, place: Numbers) -> tuple[Numbers, Numbers]:
        """Return logarithms (4, n_bin) of the parts, and (3, 4, n_bin) derivatives."""
        unit_coordinates, coordinate_derivatives = _unit_coordinates(place, self.bounds, self.pigment_over_binder)
        values = [chebyshev.chebvander(unit_coordinates[axis], count - 1) for axis, count in enumerate(N_NODES)]
        slopes = [
            _chebyshev_derivatives(float(unit_coordinates[axis]), count) * coordinate_derivatives[axis]
            for axis, count in enumerate(N_NODES)
        ]
        axes = range(len(N_NODES))
        axis_derivatives = [
            _outer_product([slopes[index] if index == axis else values[index] for index in axes]) for axis in axes
        ]
        polynomials = (np.stack([_outer_product(values), *axis_derivatives]) @ self.coefficients).reshape(
            4, N_COMPONENTS, -1
        )
        return polynomials[0], polynomials[1:]


def grid_imitation(pigment: str, instrument: Instrument, channels: Channels, question: Question) -> GridImitation:
    """Simulate a paint on a grid of thickness, share of pigment and ground."""
    ranges = question.ranges
    density_ratio = library()[pigment].density / float(named_row("binder", DEFAULT_BINDER)["density"])
    units = [np.cos(np.pi * (np.arange(count) + 0.5) / count) for count in N_NODES]
    mesh = np.stack([axis.ravel() for axis in np.meshgrid(*units, indexing="ij")], axis=1)
    node_logs = _logs_of_unit(mesh, ranges, density_ratio)
    parts = component_spectra([question.paint({pigment: 1.0}, place) for place in node_logs], instrument, channels)
    vandermonde = [chebyshev.chebvander(axis, count - 1) for axis, count in zip(units, N_NODES, strict=True)]
    inverse = np.linalg.inv(np.kron(np.kron(vandermonde[0], vandermonde[1]), vandermonde[2]))
    logs = np.log(np.maximum(parts, MIN_COUNTS)).reshape(len(parts), -1)
    return GridImitation(ranges, question.position, density_ratio, node_logs, parts.sum(axis=1), inverse @ logs)


@dataclass(frozen=True)
class MixedImitation:
    """A mixture of pigments in one layer, simulated anew at every place.

    What is free: thickness, ratio, ground, and the logarithms of the shares over that of the first.
    """

    pigments: tuple[str, ...]
    instrument: Instrument
    channels: Channels
    question: Question
    initial_log_shares: Numbers

    @property
    def bounds(self) -> Numbers:
        """(n_free, 2) array."""
        shares = np.tile(np.log([1e-3, 1e3]), (len(self.pigments) - 1, 1))
        return np.concatenate([self.question.ranges, shares])

    def starts(self, share: Numbers) -> list[Numbers]:
        """Return the paint that is asked about, with the shares to begin with."""
        del share
        return [np.clip(np.concatenate([self.question.position, self.initial_log_shares]), *self.bounds.T)]

    def dry(self, place: Numbers) -> dict[str, float]:
        """Return the shares by pigment; they sum to one."""
        weights = np.exp(np.concatenate([[0.0], place[3:]]))
        return dict(zip(self.pigments, (weights / weights.sum()).tolist(), strict=True))

    def logs(self, place: Numbers) -> tuple[Numbers, Numbers]:
        """Return logarithms (4, n_bin) of the parts, and (n_free, 4, n_bin) derivatives."""
        shifts = DIFFERENCE_STEP * np.eye(len(place))
        shifted_places = np.concatenate([place[None], place + shifts, place - shifts])
        paints = [self.question.paint(self.dry(shifted), shifted[:3]) for shifted in shifted_places]
        logs = np.log(np.maximum(component_spectra(paints, self.instrument, self.channels), MIN_COUNTS))
        n_free = len(place)
        return logs[0], (logs[1 : n_free + 1] - logs[n_free + 1 :]) / (2.0 * DIFFERENCE_STEP)


def _detected_counts(emission: Emission, instrument: Instrument, channels: Channels) -> Numbers:
    return channels.merge(np.asarray(render(emission, instrument.detector, channels.axis), dtype=np.float64))


def _roots(logs: Numbers, density_ratio: float) -> tuple[Numbers, Numbers]:
    """Return (..., 3) roots of thickness, pigment's volume and ground, and their derivatives to the logarithms."""
    volume = 1.0 / (1.0 + density_ratio * np.exp(-logs[..., 1]))
    thickness_roots = np.exp(logs / 4.0)
    roots = np.stack([thickness_roots[..., 0], np.cbrt(volume), thickness_roots[..., 2]], axis=-1)
    slopes = np.stack(
        [thickness_roots[..., 0] / 4.0, np.cbrt(volume) * (1.0 - volume) / 3.0, thickness_roots[..., 2] / 4.0], axis=-1
    )
    return roots, slopes


def _unit_coordinates(place: Numbers, bounds: Numbers, density_ratio: float) -> tuple[Numbers, Numbers]:
    """Return (3,) coordinates from -1 to 1, and their derivatives to the logarithms."""
    low, high = _roots(bounds.T, density_ratio)[0]
    roots, slopes = _roots(place, density_ratio)
    return np.clip(2.0 * (roots - low) / (high - low) - 1.0, -1.0, 1.0), slopes * 2.0 / (high - low)


def _logs_of_unit(unit: Numbers, bounds: Numbers, density_ratio: float) -> Numbers:
    """Return (..., 3) logarithms of coordinates from -1 to 1."""
    low, high = _roots(bounds.T, density_ratio)[0]
    roots = low + 0.5 * (unit + 1.0) * (high - low)
    volume = roots[..., 1] ** 3
    ratio = np.log(density_ratio * volume / (1.0 - volume))
    return np.stack([4.0 * np.log(roots[..., 0]), ratio, 4.0 * np.log(roots[..., 2])], axis=-1)


def _chebyshev_derivatives(unit: float, count: int) -> Numbers:
    """Return (1, count) derivatives of the Chebyshev polynomials."""
    angle = np.arccos(np.clip(unit, -1.0, 1.0))
    order = np.arange(count)
    interior_derivative = order * np.sin(order * angle) / max(float(np.sin(angle)), 1e-9)
    return np.asarray(np.where(abs(unit) < 1.0 - 1e-12, interior_derivative, order**2 * np.sign(unit) ** (order + 1)))[
        None
    ]


def _outer_product(rows: Sequence[Numbers]) -> Numbers:
    return np.asarray(np.einsum("i,j,k->ijk", *(np.ravel(row) for row in rows)).ravel())
