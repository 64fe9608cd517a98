"""Candidate stratigraphies: what they hold, and what of it a fit may change."""

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
        As it is to begin with.
    paint : Paint or None
        What it is painted with; the shares of its pigments are free. None: the composition is fixed.
    range_um : pair of float or None
        What its thickness may take; None: fixed.
    """

    layer: Layer
    paint: Paint | None = None
    range_um: tuple[float, float] | None = PAINT_UM

    @property
    def pigments(self) -> tuple[str, ...]:
        """Pigments whose shares are free: of a paint of two or more, all."""
        names = () if self.paint is None else tuple(self.paint.pigments)
        return names if len(names) > 1 else ()

    @property
    def painted(self) -> tuple[str, ...]:
        """Pigments that a painter put here; none of a ground, a support or a coating."""
        return () if self.paint is None else tuple(self.layer.pigments)


@dataclass(frozen=True)
class Coordinate:
    """One number that a fit changes: the logarithm of a thickness (um), or of the odds of a mass share.

    Parameters
    ----------
    film : int
        Layer, 0 at the surface.
    pigment : str
        Empty for a thickness. The first pigment of a film has the odds against all others of the film; of those,
        each after the first has the logarithm of its mass over that of the first of them.
    low, high : float
        What it may take.
    """

    film: int
    pigment: str
    low: float
    high: float


@dataclass(frozen=True)
class Candidate:
    """A stratigraphy whose thicknesses and mass shares are to be found.

    Parameters
    ----------
    name : str
        For people.
    films : tuple of Film
        From the surface down.
    """

    name: str
    films: tuple[Film, ...]

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        """What is free, from the surface down: of each film the thickness, then the shares."""
        found: list[Coordinate] = []
        for index, film in enumerate(self.films):
            if film.range_um is not None:
                low, high = np.log(film.range_um)
                found.append(Coordinate(index, "", float(low), float(high)))
            shares = film.pigments[:1] + film.pigments[2:]
            found += [Coordinate(index, name, -SHARE_LOGS, SHARE_LOGS) for name in shares]
        return tuple(found)

    @property
    def bounds(self) -> Numbers:
        """(n_free, 2) array."""
        return np.asarray([(own.low, own.high) for own in self.coordinates]).reshape(-1, 2)

    @property
    def start(self) -> Numbers:
        """(n_free,) coordinates of the layers as they are given."""
        found: list[float] = []
        for film in self.films:
            if film.range_um is not None:
                found.append(float(np.log(film.layer.thickness_um)))
            if film.pigments and film.paint is not None:
                weights = np.asarray([film.paint.pigments[name] for name in film.pigments], dtype=np.float64)
                found += share_coordinates(weights / weights.sum())
        return np.clip(np.asarray(found), *self.bounds.T) if found else np.zeros(0)

    @property
    def pigments(self) -> frozenset[str]:
        """All pigments that a painter put somewhere."""
        return frozenset(name for film in self.films for name in film.painted)

    def thickness_um(self, place: Numbers) -> Numbers:
        """Return (n_layer,) thicknesses at a place, um."""
        found = np.asarray([film.layer.thickness_um for film in self.films], dtype=np.float64)
        for own, value in zip(self.coordinates, place, strict=True):
            if not own.pigment:
                found[own.film] = np.exp(value)
        return found

    def shares(self, place: Numbers) -> list[dict[str, float]]:
        """Return, for each layer, the mass share of the dry mixture by pigment at a place."""
        found = []
        for index, film in enumerate(self.films):
            coordinates = [
                value for own, value in zip(self.coordinates, place, strict=True) if own.film == index and own.pigment
            ]
            found.append(
                dict(zip(film.pigments, shares_at(np.asarray(coordinates)).tolist(), strict=True))
                if film.pigments
                else dict.fromkeys(film.painted, 1.0)
            )
        return found

    def at(self, place: Numbers) -> Stratigraphy:
        """Return the stratigraphy at a place, (n_free,)."""
        thickness, shares = self.thickness_um(place), self.shares(place)
        layers = [
            _layer(film, own, float(value)) for film, own, value in zip(self.films, shares, thickness, strict=True)
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
    """Return a candidate less one pigment, less the film where it was alone; None where no paint would be left."""
    films: list[Film] = []
    for film in candidate.films:
        kept = [name for name in film.painted if name != pigment]
        if film.paint is None or len(kept) == len(film.painted):
            films.append(film)
        elif kept:
            pigments = {name: share for name, share in film.paint.pigments.items() if name in kept}
            films.append(paint_film(replace(film.paint, pigments=pigments), film.layer.thickness_um))
    if not any(film.painted for film in films):
        return None
    return Candidate(f"{laid_name(films)} (without {label_of([pigment])})", tuple(films))


def laid_name(films: Sequence[Film]) -> str:
    """Return what lies over what, for people: "vermilion + lead white over azurite"."""
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
