"""Spectra of a paint with free parameters, simulated or interpolated on a grid of stratigraphies."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from underpaint.physics.forward import ORDERS, SCATTER, Emission, emit, render
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import Stratigraphy, library
from underpaint.physics.materials.paint import DEFAULT_BINDER, material_table_row
from underpaint.pigments.limits.comparison import Channels, ComparisonSettings

Numbers = NDArray[np.float64]
N_NODES = (8, 7, 5)
"""Numbers of nodes along thickness, pigment and ground, in the coordinates of ``GridImitation``."""
N_COMPONENTS = 4
"""Number of components of a spectrum: lines of the paint, lines of the ground, coherent scatter, other scatter."""
MIN_COUNTS = 1e-300
DIFFERENCE_STEP = 0.01


class Imitation(Protocol):
    """Spectra of a paint with free parameters."""

    @property
    def bounds(self) -> Numbers:
        """(n_free, 2) limits of the free parameters."""

    def initial_parameters(self, count_fractions: Numbers) -> list[Numbers]:
        """Return sets of (n_free,) initial parameters for the fit of an (n_bin,) spectrum."""

    def log_spectra(self, parameters: Numbers) -> tuple[Numbers, Numbers]:
        """Return the (4, n_bin) logarithms of the components, and their (n_free, 4, n_bin) derivatives."""


def component_spectra(stratigraphies: Sequence[Stratigraphy], instrument: Instrument, channels: Channels) -> Numbers:
    """Return the (n, 4, n_bin) counts of the components.

    These are the lines of the first layer, the lines of the layers below, coherent scatter and other scatter.
    """
    emission = emit(stratigraphies, instrument)
    zero_photons = {name: np.zeros_like(getattr(emission, name)) for name in (*ORDERS, *SCATTER)}
    no_scatter = {name: zero_photons[name] for name in SCATTER}
    first_layer_photons = {name: getattr(emission, name).copy() for name in ORDERS}
    for photons in first_layer_photons.values():
        photons[:, 1:] = 0.0
    upper_paint_lines = replace(emission, **no_scatter | first_layer_photons)
    lower_layer_lines = replace(
        emission, **no_scatter | {name: getattr(emission, name) - first_layer_photons[name] for name in ORDERS}
    )
    coherent_scatter = replace(emission, **zero_photons | {"coherent": emission.coherent})
    other_scatter = replace(emission, **{name: zero_photons[name] for name in (*ORDERS, "coherent")})
    return np.stack(
        [
            _detected_counts(component, instrument, channels)
            for component in (upper_paint_lines, lower_layer_lines, coherent_scatter, other_scatter)
        ],
        axis=1,
    )


@dataclass(frozen=True)
class GridImitation:
    """A paint of one pigment, interpolated between stratigraphies.

    The logarithms of the four components are polynomials (Chebyshev nodes) in the fourth roots of both thicknesses and
    the cube root of the pigment's volume fraction. In these coordinates the logarithm of the attenuation, which is
    proportional to thickness times volume fraction, is a polynomial, and the logarithm of the amount is smooth.

    Parameters
    ----------
    bounds : (3, 2) array
        Limits of the logarithms of thickness, mass ratio and ground thickness (``ComparisonSettings.log_ranges``).
    log_parameters : (3,) array
        Logarithms of the expected paint's parameters (``ComparisonSettings.log_parameters``).
    pigment_over_binder : float
        Ratio of the density of the pigment to that of the binder.
    nodes : (n_node, 3) array
        Logarithms of the parameters at the nodes.
    spectra : (n_node, n_bin) array
        Expected counts at the nodes.
    coefficients : (n_node, 4 n_bin) array
        Coefficients of the polynomials.
    """

    bounds: Numbers
    log_parameters: Numbers
    pigment_over_binder: float
    nodes: Numbers
    spectra: Numbers
    coefficients: Numbers

    def initial_parameters(self, count_fractions: Numbers) -> list[Numbers]:
        """Return the node with the most similar spectrum, and the expected paint.

        Thickness and binder can compensate each other, so that the deviance has valleys with several minima.
        """
        normalised_spectra = self.spectra / self.spectra.sum(axis=1, keepdims=True)
        # the small addend keeps the distance finite in channels without counts
        distance = np.sum(
            (normalised_spectra - count_fractions) ** 2 / (normalised_spectra + count_fractions + 1e-9), axis=1
        )
        return [self.nodes[int(np.argmin(distance))], self.log_parameters]

    def log_spectra(self, parameters: Numbers) -> tuple[Numbers, Numbers]:
        """Return the (4, n_bin) logarithms of the components, and their (3, 4, n_bin) derivatives."""
        unit_coordinates, coordinate_derivatives = _unit_coordinates(parameters, self.bounds, self.pigment_over_binder)
        values = [chebyshev.chebvander(unit_coordinates[axis], count - 1) for axis, count in enumerate(N_NODES)]
        derivatives = [
            _chebyshev_derivatives(float(unit_coordinates[axis]), count) * coordinate_derivatives[axis]
            for axis, count in enumerate(N_NODES)
        ]
        axes = range(len(N_NODES))
        axis_derivatives = [
            _outer_product([derivatives[index] if index == axis else values[index] for index in axes]) for axis in axes
        ]
        polynomials = (np.stack([_outer_product(values), *axis_derivatives]) @ self.coefficients).reshape(
            4, N_COMPONENTS, -1
        )
        return polynomials[0], polynomials[1:]


def grid_imitation(
    pigment: str, instrument: Instrument, channels: Channels, settings: ComparisonSettings
) -> GridImitation:
    """Simulate a paint on a grid of thickness, pigment fraction and ground thickness."""
    log_ranges = settings.log_ranges
    density_ratio = library()[pigment].density / float(material_table_row("binder", DEFAULT_BINDER)["density"])
    unit_nodes = [np.cos(np.pi * (np.arange(count) + 0.5) / count) for count in N_NODES]
    node_grid = np.stack([axis.ravel() for axis in np.meshgrid(*unit_nodes, indexing="ij")], axis=1)
    node_log_parameters = _log_parameters_of_unit(node_grid, log_ranges, density_ratio)
    components = component_spectra(
        [settings.paint({pigment: 1.0}, parameters) for parameters in node_log_parameters], instrument, channels
    )
    vandermonde = [chebyshev.chebvander(axis, count - 1) for axis, count in zip(unit_nodes, N_NODES, strict=True)]
    inverse_vandermonde = np.linalg.inv(np.kron(np.kron(vandermonde[0], vandermonde[1]), vandermonde[2]))
    log_spectra = np.log(np.maximum(components, MIN_COUNTS)).reshape(len(components), -1)
    return GridImitation(
        log_ranges,
        settings.log_parameters,
        density_ratio,
        node_log_parameters,
        components.sum(axis=1),
        inverse_vandermonde @ log_spectra,
    )


@dataclass(frozen=True)
class MixedImitation:
    """A mixture of pigments in one layer, simulated for each set of parameters.

    The free parameters are the logarithms of thickness, mass ratio and ground thickness, and the logarithms of the
    ratios of each further share to the first.
    """

    pigments: tuple[str, ...]
    instrument: Instrument
    channels: Channels
    settings: ComparisonSettings
    initial_log_shares: Numbers

    @property
    def bounds(self) -> Numbers:
        """(n_free, 2) limits of the free parameters."""
        shares = np.tile(np.log([1e-3, 1e3]), (len(self.pigments) - 1, 1))
        return np.concatenate([self.settings.log_ranges, shares])

    def initial_parameters(self, count_fractions: Numbers) -> list[Numbers]:
        """Return the parameters of the expected paint, with the initial shares."""
        del count_fractions
        return [np.clip(np.concatenate([self.settings.log_parameters, self.initial_log_shares]), *self.bounds.T)]

    def dry_fractions(self, parameters: Numbers) -> dict[str, float]:
        """Return the mass fraction of each dry pigment; the fractions sum to one."""
        weights = np.exp(np.concatenate([[0.0], parameters[3:]]))
        return dict(zip(self.pigments, (weights / weights.sum()).tolist(), strict=True))

    def log_spectra(self, parameters: Numbers) -> tuple[Numbers, Numbers]:
        """Return the (4, n_bin) logarithms of the components, and their (n_free, 4, n_bin) derivatives."""
        shifts = DIFFERENCE_STEP * np.eye(len(parameters))
        shifted_parameter_sets = np.concatenate([parameters[None], parameters + shifts, parameters - shifts])
        paints = [
            self.settings.paint(self.dry_fractions(shifted_parameters), shifted_parameters[:3])
            for shifted_parameters in shifted_parameter_sets
        ]
        log_spectra = np.log(np.maximum(component_spectra(paints, self.instrument, self.channels), MIN_COUNTS))
        n_free = len(parameters)
        return log_spectra[0], (log_spectra[1 : n_free + 1] - log_spectra[n_free + 1 :]) / (2.0 * DIFFERENCE_STEP)


def _detected_counts(emission: Emission, instrument: Instrument, channels: Channels) -> Numbers:
    return channels.merge(np.asarray(render(emission, instrument.detector, channels.axis), dtype=np.float64))


def _root_coordinates(log_parameters: Numbers, density_ratio: float) -> tuple[Numbers, Numbers]:
    """Return the (..., 3) roots of thickness, pigment volume and ground thickness.

    The second array contains their derivatives with respect to the logarithms of the parameters.
    """
    volume = 1.0 / (1.0 + density_ratio * np.exp(-log_parameters[..., 1]))
    thickness_roots = np.exp(log_parameters / 4.0)
    root_coordinates = np.stack([thickness_roots[..., 0], np.cbrt(volume), thickness_roots[..., 2]], axis=-1)
    derivatives = np.stack(
        [thickness_roots[..., 0] / 4.0, np.cbrt(volume) * (1.0 - volume) / 3.0, thickness_roots[..., 2] / 4.0], axis=-1
    )
    return root_coordinates, derivatives


def _unit_coordinates(parameters: Numbers, bounds: Numbers, density_ratio: float) -> tuple[Numbers, Numbers]:
    """Return (3,) coordinates from -1 to 1, and their derivatives with respect to the logarithms of the parameters."""
    min_roots, max_roots = _root_coordinates(bounds.T, density_ratio)[0]
    root_coordinates, derivatives = _root_coordinates(parameters, density_ratio)
    return np.clip(
        2.0 * (root_coordinates - min_roots) / (max_roots - min_roots) - 1.0, -1.0, 1.0
    ), derivatives * 2.0 / (max_roots - min_roots)


def _log_parameters_of_unit(unit_coordinate: Numbers, bounds: Numbers, density_ratio: float) -> Numbers:
    """Return the (..., 3) logarithms of the parameters for coordinates from -1 to 1."""
    min_roots, max_roots = _root_coordinates(bounds.T, density_ratio)[0]
    root_coordinates = min_roots + 0.5 * (unit_coordinate + 1.0) * (max_roots - min_roots)
    volume = root_coordinates[..., 1] ** 3
    log_ratio = np.log(density_ratio * volume / (1.0 - volume))
    return np.stack(
        [4.0 * np.log(root_coordinates[..., 0]), log_ratio, 4.0 * np.log(root_coordinates[..., 2])], axis=-1
    )


def _chebyshev_derivatives(unit_coordinate: float, count: int) -> Numbers:
    """Return the (1, count) derivatives of the Chebyshev polynomials."""
    angle = np.arccos(np.clip(unit_coordinate, -1.0, 1.0))
    order = np.arange(count)
    interior_derivative = order * np.sin(order * angle) / max(float(np.sin(angle)), 1e-9)
    return np.asarray(
        np.where(
            abs(unit_coordinate) < 1.0 - 1e-12, interior_derivative, order**2 * np.sign(unit_coordinate) ** (order + 1)
        )
    )[None]


def _outer_product(rows: Sequence[Numbers]) -> Numbers:
    return np.asarray(np.einsum("i,j,k->ijk", *(np.ravel(row) for row in rows)).ravel())
