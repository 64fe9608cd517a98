"""Models of a paint's spectrum as a function of free parameters, simulated or interpolated on a grid."""

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

FloatArray = NDArray[np.float64]
N_GRID_NODES = (8, 7, 5)
"""Numbers of grid nodes in thickness, pigment fraction and ground thickness."""
N_COMPONENTS = 4
"""Number of components of a spectrum: lines of the paint, lines of the ground, coherent scatter and other scatter."""
MIN_COUNTS = 1e-300
DIFFERENCE_STEP = 0.01


class PaintModel(Protocol):
    """Model of a paint's spectrum as a function of free parameters."""

    @property
    def bounds(self) -> FloatArray:
        """(n_free, 2) array of the lower and upper limits of the free parameters."""

    def initial_parameters(self, count_fractions: FloatArray) -> list[FloatArray]:
        """Return one or more (n_free,) sets of initial parameters for the fit to an (n_bin,) spectrum."""

    def log_spectra(self, parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the (4, n_bin) log counts of the components, and their (n_free, 4, n_bin) derivatives."""


def component_spectra(stratigraphies: Sequence[Stratigraphy], instrument: Instrument, channels: Channels) -> FloatArray:
    """Return the (n, 4, n_bin) expected counts of the components of each stratigraphy's spectrum.

    The components are the lines of the first layer, the lines of the layers below, coherent scatter and other scatter.
    """
    emission = emit(stratigraphies, instrument)
    zero_photons = {field_name: np.zeros_like(getattr(emission, field_name)) for field_name in (*ORDERS, *SCATTER)}
    no_scatter = {field_name: zero_photons[field_name] for field_name in SCATTER}
    first_layer_photons = {field_name: getattr(emission, field_name).copy() for field_name in ORDERS}
    for photons in first_layer_photons.values():
        photons[:, 1:] = 0.0
    upper_paint_lines = replace(emission, **no_scatter | first_layer_photons)
    lower_layer_lines = replace(
        emission,
        **no_scatter
        | {field_name: getattr(emission, field_name) - first_layer_photons[field_name] for field_name in ORDERS},
    )
    coherent_scatter = replace(emission, **zero_photons | {"coherent": emission.coherent})
    other_scatter = replace(emission, **{field_name: zero_photons[field_name] for field_name in (*ORDERS, "coherent")})
    return np.stack(
        [
            _detected_counts(component, instrument, channels)
            for component in (upper_paint_lines, lower_layer_lines, coherent_scatter, other_scatter)
        ],
        axis=1,
    )


@dataclass(frozen=True)
class GridPaintModel:
    """Model of the spectrum of a paint of one pigment, interpolated between simulated stratigraphies.

    The log counts of each component are a polynomial, fitted at Chebyshev nodes. The variables of the polynomial are
    the fourth roots of both thicknesses and the cube root of the pigment's volume fraction. The logarithm of the
    attenuation is proportional to thickness times volume fraction, and is therefore a polynomial in these variables.
    The logarithm of the pigment's amount is smooth in these variables.

    Parameters
    ----------
    bounds : (3, 2) array
        Limits of the logarithms of thickness, mass ratio and ground thickness (``ComparisonSettings.log_ranges``).
    log_parameters : (3,) array
        Logarithms of the expected paint's parameters (``ComparisonSettings.log_parameters``).
    pigment_over_binder : float
        Ratio of the density of the pigment to that of the binder.
    nodes : (n_node, 3) array
        Logarithms of the parameters at the grid nodes.
    spectra : (n_node, n_bin) array
        Expected counts at the grid nodes.
    coefficients : (n_node, 4 n_bin) array
        Coefficients of the polynomials.
    """

    bounds: FloatArray
    log_parameters: FloatArray
    pigment_over_binder: float
    nodes: FloatArray
    spectra: FloatArray
    coefficients: FloatArray

    def initial_parameters(self, count_fractions: FloatArray) -> list[FloatArray]:
        """Return the parameters of the grid node with the most similar spectrum, and those of the expected paint.

        A change of thickness can compensate a change of binder, so that the deviance can have several minima.
        """
        normalised_spectra = self.spectra / self.spectra.sum(axis=1, keepdims=True)
        # the constant 1e-9 keeps the distance finite in channels without counts
        distance = np.sum(
            (normalised_spectra - count_fractions) ** 2 / (normalised_spectra + count_fractions + 1e-9), axis=1
        )
        return [self.nodes[int(np.argmin(distance))], self.log_parameters]

    def log_spectra(self, parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the (4, n_bin) log counts of the components, and their (3, 4, n_bin) derivatives."""
        unit_coordinates, coordinate_derivatives = _unit_coordinates(parameters, self.bounds, self.pigment_over_binder)
        polynomial_values = [
            chebyshev.chebvander(unit_coordinates[axis], n_nodes - 1) for axis, n_nodes in enumerate(N_GRID_NODES)
        ]
        polynomial_derivatives = [
            _chebyshev_derivatives(float(unit_coordinates[axis]), n_nodes) * coordinate_derivatives[axis]
            for axis, n_nodes in enumerate(N_GRID_NODES)
        ]
        axes = range(len(N_GRID_NODES))
        axis_derivatives = [
            _outer_product(
                [polynomial_derivatives[index] if index == axis else polynomial_values[index] for index in axes]
            )
            for axis in axes
        ]
        polynomials = (np.stack([_outer_product(polynomial_values), *axis_derivatives]) @ self.coefficients).reshape(
            4, N_COMPONENTS, -1
        )
        return polynomials[0], polynomials[1:]


def grid_paint_model(
    pigment: str, instrument: Instrument, channels: Channels, settings: ComparisonSettings
) -> GridPaintModel:
    """Simulate a paint on a grid of thickness, pigment fraction and ground thickness."""
    log_ranges = settings.log_ranges
    density_ratio = library()[pigment].density / float(material_table_row("binder", DEFAULT_BINDER)["density"])
    unit_nodes = [np.cos(np.pi * (np.arange(n_nodes) + 0.5) / n_nodes) for n_nodes in N_GRID_NODES]
    node_grid = np.stack([axis.ravel() for axis in np.meshgrid(*unit_nodes, indexing="ij")], axis=1)
    node_log_parameters = _log_parameters_of_unit(node_grid, log_ranges, density_ratio)
    components = component_spectra(
        [settings.paint({pigment: 1.0}, parameters) for parameters in node_log_parameters], instrument, channels
    )
    vandermonde = [
        chebyshev.chebvander(axis, n_nodes - 1) for axis, n_nodes in zip(unit_nodes, N_GRID_NODES, strict=True)
    ]
    inverse_vandermonde = np.linalg.inv(np.kron(np.kron(vandermonde[0], vandermonde[1]), vandermonde[2]))
    log_spectra = np.log(np.maximum(components, MIN_COUNTS)).reshape(len(components), -1)
    return GridPaintModel(
        log_ranges,
        settings.log_parameters,
        density_ratio,
        node_log_parameters,
        components.sum(axis=1),
        inverse_vandermonde @ log_spectra,
    )


@dataclass(frozen=True)
class MixturePaintModel:
    """Model of the spectrum of a layer of mixed pigments, simulated for each set of parameters.

    The first three parameters are the logarithms of thickness, mass ratio and ground thickness. The other parameters
    are the logarithms of each further pigment's share divided by the first pigment's share.
    """

    pigments: tuple[str, ...]
    instrument: Instrument
    channels: Channels
    settings: ComparisonSettings
    initial_log_shares: FloatArray

    @property
    def bounds(self) -> FloatArray:
        """(n_free, 2) array of the lower and upper limits of the free parameters."""
        share_bounds = np.tile(np.log([1e-3, 1e3]), (len(self.pigments) - 1, 1))
        return np.concatenate([self.settings.log_ranges, share_bounds])

    def initial_parameters(self, count_fractions: FloatArray) -> list[FloatArray]:
        """Return the parameters of the expected paint with the initial shares."""
        del count_fractions
        return [np.clip(np.concatenate([self.settings.log_parameters, self.initial_log_shares]), *self.bounds.T)]

    def dry_fractions(self, parameters: FloatArray) -> dict[str, float]:
        """Return the mass fraction of each pigment in the dry mixture."""
        relative_masses = np.exp(np.concatenate([[0.0], parameters[3:]]))
        return dict(zip(self.pigments, (relative_masses / relative_masses.sum()).tolist(), strict=True))

    def log_spectra(self, parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the (4, n_bin) log counts of the components, and their (n_free, 4, n_bin) derivatives."""
        parameter_shifts = DIFFERENCE_STEP * np.eye(len(parameters))
        shifted_parameter_sets = np.concatenate(
            [parameters[None], parameters + parameter_shifts, parameters - parameter_shifts]
        )
        shifted_paints = [
            self.settings.paint(self.dry_fractions(shifted_parameters), shifted_parameters[:3])
            for shifted_parameters in shifted_parameter_sets
        ]
        log_spectra = np.log(np.maximum(component_spectra(shifted_paints, self.instrument, self.channels), MIN_COUNTS))
        n_free = len(parameters)
        return log_spectra[0], (log_spectra[1 : n_free + 1] - log_spectra[n_free + 1 :]) / (2.0 * DIFFERENCE_STEP)


def _detected_counts(emission: Emission, instrument: Instrument, channels: Channels) -> FloatArray:
    return channels.merge(np.asarray(render(emission, instrument.detector, channels.axis), dtype=np.float64))


def _root_coordinates(log_parameters: FloatArray, density_ratio: float) -> tuple[FloatArray, FloatArray]:
    """Return the (..., 3) roots of thickness, pigment volume fraction and ground thickness.

    The second array contains the derivatives of the roots with respect to the logarithms of the parameters.
    """
    volume_fraction = 1.0 / (1.0 + density_ratio * np.exp(-log_parameters[..., 1]))
    thickness_roots = np.exp(log_parameters / 4.0)
    root_coordinates = np.stack([thickness_roots[..., 0], np.cbrt(volume_fraction), thickness_roots[..., 2]], axis=-1)
    derivatives = np.stack(
        [
            thickness_roots[..., 0] / 4.0,
            np.cbrt(volume_fraction) * (1.0 - volume_fraction) / 3.0,
            thickness_roots[..., 2] / 4.0,
        ],
        axis=-1,
    )
    return root_coordinates, derivatives


def _unit_coordinates(
    parameters: FloatArray, bounds: FloatArray, density_ratio: float
) -> tuple[FloatArray, FloatArray]:
    """Return the (3,) roots scaled to the range -1 to 1, and their derivatives with respect to the log parameters."""
    min_roots, max_roots = _root_coordinates(bounds.T, density_ratio)[0]
    root_coordinates, derivatives = _root_coordinates(parameters, density_ratio)
    return np.clip(
        2.0 * (root_coordinates - min_roots) / (max_roots - min_roots) - 1.0, -1.0, 1.0
    ), derivatives * 2.0 / (max_roots - min_roots)


def _log_parameters_of_unit(unit_coordinate: FloatArray, bounds: FloatArray, density_ratio: float) -> FloatArray:
    """Return the (..., 3) logarithms of the parameters for roots scaled to the range -1 to 1."""
    min_roots, max_roots = _root_coordinates(bounds.T, density_ratio)[0]
    root_coordinates = min_roots + 0.5 * (unit_coordinate + 1.0) * (max_roots - min_roots)
    volume_fraction = root_coordinates[..., 1] ** 3
    log_mass_ratio = np.log(density_ratio * volume_fraction / (1.0 - volume_fraction))
    return np.stack(
        [4.0 * np.log(root_coordinates[..., 0]), log_mass_ratio, 4.0 * np.log(root_coordinates[..., 2])], axis=-1
    )


def _chebyshev_derivatives(unit_coordinate: float, n_polynomials: int) -> FloatArray:
    """Return the (1, n_polynomials) derivatives of the Chebyshev polynomials at a coordinate."""
    polynomial_angle = np.arccos(np.clip(unit_coordinate, -1.0, 1.0))
    polynomial_orders = np.arange(n_polynomials)
    interior_derivative = (
        polynomial_orders * np.sin(polynomial_orders * polynomial_angle) / max(float(np.sin(polynomial_angle)), 1e-9)
    )
    return np.asarray(
        np.where(
            abs(unit_coordinate) < 1.0 - 1e-12,
            interior_derivative,
            polynomial_orders**2 * np.sign(unit_coordinate) ** (polynomial_orders + 1),
        )
    )[None]


def _outer_product(factor_vectors: Sequence[FloatArray]) -> FloatArray:
    return np.asarray(np.einsum("i,j,k->ijk", *(np.ravel(factor_vector) for factor_vector in factor_vectors)).ravel())
