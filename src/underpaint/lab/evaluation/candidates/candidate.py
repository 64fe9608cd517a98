"""Candidate stratigraphies and their free parameters."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import SampleError
from underpaint.physics.materials import Layer, Paint, Stratigraphy, ground_layer, library

Numbers = NDArray[np.float64]
PAINT_UM = (0.3, 400.0)
GROUND_UM = (10.0, 1000.0)
SHARE_LOGS = float(np.log(1e3))
"""Mass shares run from a thousandth to all but a thousandth."""


@dataclass(frozen=True)
class Film:
    """One layer of a candidate.

    Parameters
    ----------
    layer : Layer
        Initial values.
    paint : Paint or None
        Its paint, whose mass shares are free; None: fixed composition.
    range_um : pair of float or None
        Limits of its thickness; None: fixed thickness.
    """

    layer: Layer
    paint: Paint | None = None
    range_um: tuple[float, float] | None = PAINT_UM

    @property
    def pigments(self) -> tuple[str, ...]:
        """Pigments whose shares are free; none for a paint of one pigment."""
        names = () if self.paint is None else tuple(self.paint.pigments)
        return names if len(names) > 1 else ()

    @property
    def painted(self) -> tuple[str, ...]:
        """Pigments of a paint; empty for a ground, a support or a coating."""
        return () if self.paint is None else tuple(self.layer.pigments)


@dataclass(frozen=True)
class Coordinate:
    """One free parameter: the logarithm of a thickness (um), or of the odds of a mass share.

    Parameters
    ----------
    film : int
        Layer, 0 at the surface.
    pigment : str
        Empty for a thickness. The first pigment of a film has the odds against all others of the film; of those,
        each after the first has the logarithm of its mass over that of the first of them.
    low, high : float
        Limits.
    """

    film: int
    pigment: str
    low: float
    high: float


@dataclass(frozen=True)
class Candidate:
    """A stratigraphy with free thicknesses and mass shares.

    Parameters
    ----------
    name : str
        Readable name.
    films : tuple of Film
        From the surface down.
    """

    name: str
    films: tuple[Film, ...]

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        """Free parameters from the surface down: thickness, then shares, of each film."""
        free: list[Coordinate] = []
        for index, film in enumerate(self.films):
            if film.range_um is not None:
                low, high = np.log(film.range_um)
                free.append(Coordinate(index, "", float(low), float(high)))
            shares = film.pigments[:1] + film.pigments[2:]
            free += [Coordinate(index, name, -SHARE_LOGS, SHARE_LOGS) for name in shares]
        return tuple(free)

    @property
    def bounds(self) -> Numbers:
        """(n_free, 2) array."""
        return np.asarray([(coordinate.low, coordinate.high) for coordinate in self.coordinates]).reshape(-1, 2)

    @property
    def start(self) -> Numbers:
        """(n_free,) coordinates of the initial layers."""
        values: list[float] = []
        for film in self.films:
            if film.range_um is not None:
                values.append(float(np.log(film.layer.thickness_um)))
            if film.pigments and film.paint is not None:
                weights = np.asarray([film.paint.pigments[name] for name in film.pigments], dtype=np.float64)
                values += share_coordinates(weights / weights.sum())
        return np.clip(np.asarray(values), *self.bounds.T) if values else np.zeros(0)

    @property
    def pigments(self) -> frozenset[str]:
        """Pigments of all layers of paint."""
        return frozenset(name for film in self.films for name in film.painted)

    def thickness_um(self, place: Numbers) -> Numbers:
        """Return (n_layer,) thicknesses at given coordinates, um."""
        thickness = np.asarray([film.layer.thickness_um for film in self.films], dtype=np.float64)
        for coordinate, value in zip(self.coordinates, place, strict=True):
            if not coordinate.pigment:
                thickness[coordinate.film] = np.exp(value)
        return thickness

    def shares(self, place: Numbers) -> list[dict[str, float]]:
        """Return, for each layer, the mass share of the dry mixture by pigment at given coordinates."""
        shares = []
        for index, film in enumerate(self.films):
            coordinates = [
                value
                for coordinate, value in zip(self.coordinates, place, strict=True)
                if coordinate.film == index and coordinate.pigment
            ]
            shares.append(
                dict(zip(film.pigments, shares_at(np.asarray(coordinates)).tolist(), strict=True))
                if film.pigments
                else dict.fromkeys(film.painted, 1.0)
            )
        return shares

    def at(self, place: Numbers) -> Stratigraphy:
        """Return the stratigraphy at given coordinates, (n_free,)."""
        thickness, shares = self.thickness_um(place), self.shares(place)
        layers = [
            _layer(film, share, float(value)) for film, share, value in zip(self.films, shares, thickness, strict=True)
        ]
        return Stratigraphy(tuple(layers), self.name)


def paint_film(paint: Paint, thickness_um: float) -> Film:
    """Return a film of paint whose thickness, and shares where it has several pigments, are free.

    Raises
    ------
    SampleError
        The thickness lies outside ``PAINT_UM``.
    """
    low, high = PAINT_UM
    if not low <= thickness_um <= high:
        raise SampleError(
            f"Cannot begin with a paint of {thickness_um:g} um: its thickness may be {low:g} to {high:g} um."
        )
    named: dict[str, float] = {}
    for name, share in paint.pigments.items():
        key = library()[name].name
        named[key] = named.get(key, 0.0) + share
    return Film(paint.layer(thickness_um), replace(paint, pigments=named))


def ground_film(name: str, thickness_um: float) -> Film:
    """Return a ground of the library whose thickness is free.

    Raises
    ------
    SampleError
        There is no such ground.
    """
    return Film(ground_layer(name, thickness_um), None, GROUND_UM)


def share_coordinates(shares: Numbers) -> list[float]:
    """Return the (n - 1) coordinates of n mass shares that sum to one: see ``Coordinate``."""
    safe = np.clip(shares, np.exp(-2 * SHARE_LOGS), None)
    rest = safe[1:]
    return [float(np.log(safe[0] / rest.sum())), *np.log(rest[1:] / rest[0]).tolist()]


def shares_at(coordinates: Numbers) -> Numbers:
    """Return the n mass shares of (n - 1) coordinates."""
    first = 1.0 / (1.0 + np.exp(-coordinates[0]))
    weights = np.exp(np.concatenate([[0.0], coordinates[1:]]))
    return np.concatenate([[first], (1.0 - first) * weights / weights.sum()])


def without(candidate: Candidate, pigment: str) -> Candidate | None:
    """Return a candidate without one pigment, and without a film of that pigment alone; None where no paint is left."""
    films: list[Film] = []
    for film in candidate.films:
        remaining = [name for name in film.painted if name != pigment]
        if film.paint is None or len(remaining) == len(film.painted):
            films.append(film)
        elif remaining:
            pigments = {name: share for name, share in film.paint.pigments.items() if name in remaining}
            films.append(paint_film(replace(film.paint, pigments=pigments), film.layer.thickness_um))
    if not any(film.painted for film in films):
        return None
    return Candidate(f"{stack_name(films)} (without {label_of([pigment])})", tuple(films))


def stack_name(films: Sequence[Film]) -> str:
    """Return a readable name of the layers: "vermilion + lead white over azurite"."""
    painted = [film.painted for film in films if film.painted]
    single = ", one layer" if len(painted) == 1 and len(painted[0]) > 1 else ""
    return " over ".join(label_of(names) for names in painted) + single


def label_of(pigments: Sequence[str]) -> str:
    """Return the pigments' labels, joined: "vermilion + lead white"."""
    return " + ".join(library()[name].label for name in pigments)


def _layer(film: Film, shares: dict[str, float], thickness_um: float) -> Layer:
    if film.paint is None or not film.pigments:
        return replace(film.layer, thickness_um=thickness_um)
    return replace(film.paint, pigments=shares).layer(thickness_um)
