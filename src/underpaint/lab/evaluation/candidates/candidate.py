"""Candidate stratigraphies and their free parameters."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import SampleError
from underpaint.physics.materials import Layer, Paint, Stratigraphy, ground_layer, library

Numbers = NDArray[np.float64]
PAINT_THICKNESS_UM = (0.3, 400.0)
GROUND_THICKNESS_UM = (10.0, 1000.0)
MAX_LOG_ODDS = float(np.log(1e3))
"""Largest log-odds of a mass fraction. Mass fractions are therefore about 0.001 to 0.999."""


@dataclass(frozen=True)
class Film:
    """One layer of a candidate.

    Parameters
    ----------
    layer : Layer
        Initial composition and thickness.
    paint : Paint or None
        Paint of the layer, whose mass fractions are fitted, or None if the composition is fixed.
    thickness_limits_um : pair of float or None
        Limits of the thickness, in um, or None if the thickness is fixed.
    """

    layer: Layer
    paint: Paint | None = None
    thickness_limits_um: tuple[float, float] | None = PAINT_THICKNESS_UM

    @property
    def free_pigments(self) -> tuple[str, ...]:
        """Pigments whose mass fractions are fitted, or empty for a paint of one pigment."""
        names = () if self.paint is None else tuple(self.paint.pigments)
        return names if len(names) > 1 else ()

    @property
    def paint_pigments(self) -> tuple[str, ...]:
        """Pigments of the paint, or empty for a ground, a support or a coating."""
        return () if self.paint is None else tuple(self.layer.pigments)


@dataclass(frozen=True)
class FreeParameter:
    """One free parameter: the logarithm of a thickness (um), or the log-odds of a mass fraction.

    Parameters
    ----------
    film : int
        Index of the layer, 0 at the surface.
    pigment : str
        Name of the pigment, or an empty string for a thickness.
        The value of a film's first pigment is the log-odds of its mass fraction. The second pigment has no parameter.
        The value of every further pigment is the logarithm of its mass divided by the mass of the second pigment.
    min_value, max_value : float
        Limits of the value.
    """

    film: int
    pigment: str
    min_value: float
    max_value: float


@dataclass(frozen=True)
class Candidate:
    """A stratigraphy with free thicknesses and mass fractions.

    Parameters
    ----------
    name : str
        Name for messages and plots.
    films : tuple of Film
        Layers from the surface down.
    """

    name: str
    films: tuple[Film, ...]

    @property
    def parameters(self) -> tuple[FreeParameter, ...]:
        """Free parameters of the films from the surface down. In each film, thickness precedes mass fractions."""
        parameters: list[FreeParameter] = []
        for film_index, film in enumerate(self.films):
            if film.thickness_limits_um is not None:
                min_log_thickness, max_log_thickness = np.log(film.thickness_limits_um)
                parameters.append(FreeParameter(film_index, "", float(min_log_thickness), float(max_log_thickness)))
            pigment_names = film.free_pigments[:1] + film.free_pigments[2:]
            parameters += [FreeParameter(film_index, name, -MAX_LOG_ODDS, MAX_LOG_ODDS) for name in pigment_names]
        return tuple(parameters)

    @property
    def bounds(self) -> Numbers:
        """Limits of the parameters, with the shape (n_free, 2)."""
        return np.asarray(
            [(free_parameter.min_value, free_parameter.max_value) for free_parameter in self.parameters]
        ).reshape(-1, 2)

    @property
    def initial_parameters(self) -> Numbers:
        """Parameters of the initial layers, with the shape (n_free,)."""
        initial_values: list[float] = []
        for film in self.films:
            if film.thickness_limits_um is not None:
                initial_values.append(float(np.log(film.layer.thickness_um)))
            if film.free_pigments and film.paint is not None:
                pigment_weights = np.asarray(
                    [film.paint.pigments[name] for name in film.free_pigments], dtype=np.float64
                )
                initial_values += fraction_parameters(pigment_weights / pigment_weights.sum())
        return np.clip(np.asarray(initial_values), *self.bounds.T) if initial_values else np.zeros(0)

    @property
    def pigments(self) -> frozenset[str]:
        """Pigments of all layers of paint."""
        return frozenset(name for film in self.films for name in film.paint_pigments)

    def thickness_um(self, parameter_values: Numbers) -> Numbers:
        """Return the (n_layer,) thicknesses, in um, for the given parameters."""
        thicknesses_um = np.asarray([film.layer.thickness_um for film in self.films], dtype=np.float64)
        for parameter, parameter_value in zip(self.parameters, parameter_values, strict=True):
            if not parameter.pigment:
                thicknesses_um[parameter.film] = np.exp(parameter_value)
        return thicknesses_um

    def mass_fractions(self, parameter_values: Numbers) -> list[dict[str, float]]:
        """Return the mass fraction of each pigment in the dry paint of each layer, for the given parameters."""
        fractions_by_layer = []
        for film_index, film in enumerate(self.films):
            fraction_values = [
                parameter_value
                for parameter, parameter_value in zip(self.parameters, parameter_values, strict=True)
                if parameter.film == film_index and parameter.pigment
            ]
            fractions_by_layer.append(
                dict(
                    zip(
                        film.free_pigments, fractions_from_parameters(np.asarray(fraction_values)).tolist(), strict=True
                    )
                )
                if film.free_pigments
                else dict.fromkeys(film.paint_pigments, 1.0)
            )
        return fractions_by_layer

    def stratigraphy_at(self, parameter_values: Numbers) -> Stratigraphy:
        """Return the stratigraphy for the given (n_free,) parameters."""
        thicknesses_um, fractions_by_layer = self.thickness_um(parameter_values), self.mass_fractions(parameter_values)
        layers = [
            _film_layer(film, fractions, float(film_thickness_um))
            for film, fractions, film_thickness_um in zip(self.films, fractions_by_layer, thicknesses_um, strict=True)
        ]
        return Stratigraphy(tuple(layers), self.name)


def paint_film(paint: Paint, thickness_um: float) -> Film:
    """Return a film of paint with free thickness and, if it has several pigments, free mass fractions.

    Raises
    ------
    SampleError
        The thickness lies outside ``PAINT_THICKNESS_UM``.
    """
    min_thickness_um, max_thickness_um = PAINT_THICKNESS_UM
    if not min_thickness_um <= thickness_um <= max_thickness_um:
        raise SampleError(
            f"Cannot start from a paint of {thickness_um:g} um: "
            f"its thickness may be {min_thickness_um:g} to {max_thickness_um:g} um."
        )
    fraction_by_name: dict[str, float] = {}
    for name, mass_fraction in paint.pigments.items():
        library_name = library()[name].name
        fraction_by_name[library_name] = fraction_by_name.get(library_name, 0.0) + mass_fraction
    return Film(paint.layer(thickness_um), replace(paint, pigments=fraction_by_name))


def ground_film(name: str, thickness_um: float) -> Film:
    """Return a film of a library ground, with free thickness.

    Raises
    ------
    SampleError
        The library has no such ground.
    """
    return Film(ground_layer(name, thickness_um), None, GROUND_THICKNESS_UM)


def fraction_parameters(fractions: Numbers) -> list[float]:
    """Return the (n - 1) parameters of n mass fractions that sum to one, as ``FreeParameter`` defines them."""
    positive_fractions = np.clip(fractions, np.exp(-2 * MAX_LOG_ODDS), None)
    other_fractions = positive_fractions[1:]
    return [
        float(np.log(positive_fractions[0] / other_fractions.sum())),
        *np.log(other_fractions[1:] / other_fractions[0]).tolist(),
    ]


def fractions_from_parameters(parameters: Numbers) -> Numbers:
    """Return the n mass fractions for (n - 1) parameters."""
    first_fraction = 1.0 / (1.0 + np.exp(-parameters[0]))
    relative_masses = np.exp(np.concatenate([[0.0], parameters[1:]]))
    return np.concatenate([[first_fraction], (1.0 - first_fraction) * relative_masses / relative_masses.sum()])


def without_pigment(candidate: Candidate, pigment: str) -> Candidate | None:
    """Remove a pigment and the films of this pigment alone. Return None if no paint remains."""
    films: list[Film] = []
    for film in candidate.films:
        remaining_pigments = [name for name in film.paint_pigments if name != pigment]
        if film.paint is None or len(remaining_pigments) == len(film.paint_pigments):
            films.append(film)
        elif remaining_pigments:
            pigments = {name: fraction for name, fraction in film.paint.pigments.items() if name in remaining_pigments}
            films.append(paint_film(replace(film.paint, pigments=pigments), film.layer.thickness_um))
    if not any(film.paint_pigments for film in films):
        return None
    return Candidate(f"{stack_name(films)} (without {joined_labels([pigment])})", tuple(films))


def stack_name(films: Sequence[Film]) -> str:
    """Return a name of the layers for messages, for example "vermilion + lead white over azurite"."""
    pigments_by_layer = [film.paint_pigments for film in films if film.paint_pigments]
    single_layer_suffix = ", one layer" if len(pigments_by_layer) == 1 and len(pigments_by_layer[0]) > 1 else ""
    return " over ".join(joined_labels(names) for names in pigments_by_layer) + single_layer_suffix


def joined_labels(pigments: Sequence[str]) -> str:
    """Return the joined labels of the pigments, for example "vermilion + lead white"."""
    return " + ".join(library()[name].label for name in pigments)


def _film_layer(film: Film, fractions: dict[str, float], thickness_um: float) -> Layer:
    if film.paint is None or not film.free_pigments:
        return replace(film.layer, thickness_um=thickness_um)
    return replace(film.paint, pigments=fractions).layer(thickness_um)
