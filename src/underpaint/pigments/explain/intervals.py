"""How well thicknesses and mass shares are known: intervals from the profile of the likelihood."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from underpaint.physics.instrument import Instrument
from underpaint.pigments.explain.candidate import Candidate, shares_at
from underpaint.pigments.explain.fit import StratigraphyFit, Task, solve
from underpaint.pigments.explain.measured import Measured

Numbers = NDArray[np.float64]
LEVEL = 0.9
SEARCHES = 6
"""Places that are tried on either side."""
CLOSE = 0.04
"""A side is found when the root of its deviance is within this share of what is asked for."""
ROUNDS = 8
"""Of each fit with one coordinate held; it begins near its end."""
WORTH_STARTING_AGAIN = 0.5
"""A profile that finds a deviance lower than the fit's by more than this has found a better fit."""
RESTARTS = 3


@dataclass(frozen=True)
class Interval:
    """A thickness or a mass share with what the spectrum says of it.

    Parameters
    ----------
    layer : int
        0 at the surface.
    pigment : str
        Whose share of the dry mixture it is; empty for the layer's thickness.
    value : float
        Best fit: um, or share.
    low, high : float or None
        Ends of the interval; None where the spectrum sets no end within what was allowed.
    level : float
        Probability with which the interval holds the truth, if the candidate is true.
    """

    layer: int
    pigment: str
    value: float
    low: float | None
    high: float | None
    level: float = LEVEL

    @property
    def determined(self) -> bool:
        """False where the spectrum sets neither end."""
        return self.low is not None or self.high is not None

    def holds(self, truth: float) -> bool:
        """Tell whether a value lies inside."""
        return (self.low is None or self.low <= truth) and (self.high is None or truth <= self.high)


@dataclass
class _Side:
    """The search for one end of one interval."""

    fit: StratigraphyFit
    coordinate: int
    toward: float
    target: float
    place: float = 0.0
    inside: tuple[float, float] = (0.0, 0.0)
    outside: tuple[float, float] | None = None
    near: Numbers | None = None
    done: bool = False
    open: bool = False

    def __post_init__(self) -> None:
        self.inside = (self.centre, 0.0)
        self.near = self.fit.whole
        sigma = float(np.sqrt(self.fit.covariance[self.coordinate, self.coordinate]))
        self.place = self.centre + self.toward * float(np.sqrt(self.target)) * min(sigma, 10.0)
        self._within_bounds()

    @property
    def centre(self) -> float:
        """The best fit."""
        return float(self.fit.place[self.coordinate])

    @property
    def bound(self) -> float:
        """How far the coordinate may go."""
        own = self.fit.candidate.coordinates[self.coordinate]
        return own.high if self.toward > 0 else own.low

    @property
    def task(self) -> Task:
        """The fit with the coordinate held at the place that is tried."""
        count = len(self.fit.place)
        covariance, near = self.fit.covariance, self.fit.whole if self.near is None else self.near
        along = covariance[:, self.coordinate] / covariance[self.coordinate, self.coordinate]
        begin = near + np.clip(along * (self.place - near[self.coordinate]), -1.0, 1.0)
        begin[self.coordinate] = self.place
        place = np.clip(begin[:count], *self.fit.candidate.bounds.T)
        return Task(self.fit.candidate, place, begin[count:], (self.coordinate,))

    def take(self, found: StratigraphyFit) -> None:
        """Judge what was tried, and choose what to try next."""
        root = float(np.sqrt(max(found.deviance - self.fit.deviance, 0.0)))
        wanted = float(np.sqrt(self.target))
        self.near = found.whole
        if self.place == self.bound and root < (1.0 + CLOSE) * wanted:
            self.open = self.done = True
            return
        if abs(root / wanted - 1.0) < CLOSE:
            self.done = True
            return
        if root < wanted:
            self.inside = (self.place, root)
        else:
            self.outside = (self.place, root)
        self.place = self._next(wanted)
        self._within_bounds()

    def _next(self, wanted: float) -> float:
        """Return where the root of the deviance, straight between or beyond what is known, is the one wanted."""
        near, low = self.inside
        if self.outside is None:
            # no end yet: as far again, at least by half and at most threefold
            grown = float(np.clip(wanted / max(low, 1e-3), 1.5, 4.0))
            return self.centre + (near - self.centre) * grown
        far, high = self.outside
        share = (wanted - low) / (high - low)
        return near + (far - near) * float(np.clip(share, 0.1, 0.9))

    def _within_bounds(self) -> None:
        if self.toward * (self.place - self.bound) >= 0:
            self.place = self.bound


def intervals(
    fit: StratigraphyFit,
    measured: Measured,
    instrument: Instrument,
    *,
    level: float = LEVEL,
    dispersion: float = 1.0,
) -> tuple[StratigraphyFit, list[Interval]]:
    """Return intervals of every thickness and mass share; and the fit, which the search may have bettered.

    Parameters
    ----------
    fit : StratigraphyFit
    measured, instrument
        What it was fitted to, and with.
    level : float
        Probability.
    dispersion : float
        What the deviance is divided by: above one where the fit is worse than chance.

    Notes
    -----
    An end is where the deviance, with everything else fitted anew, has risen by the quantile of chi-squared with one
    degree of freedom (Wilks 1938): 2.71 at 90 %. Unlike errors from the curvature they know that a layer may be
    opaque: then there is no upper end, and ``high`` is None. All ends are sought side by side.
    """
    target = 2.0 * float(gammaincinv(0.5, level)) * dispersion
    for _ in range(RESTARTS):
        variants = _variants(fit, measured, instrument)
        sides = [_Side(own, index, toward, target) for own, index in _targets(variants, fit) for toward in (-1.0, 1.0)]
        better = _search(sides, measured, instrument)
        if better is None:
            break
        place = better.candidate.translated(better.place, fit.candidate)
        fit = solve([Task(fit.candidate, place, better.levels)], measured, instrument)[0]
    return fit, _intervals(sides, level)


def _search(sides: Sequence[_Side], measured: Measured, instrument: Instrument) -> StratigraphyFit | None:
    """Find the ends; return a better fit where one is met."""
    for _ in range(SEARCHES):
        active = [side for side in sides if not side.done]
        if not active:
            break
        found = solve([side.task for side in active], measured, instrument, rounds=ROUNDS)
        best = min(found, key=lambda own: own.deviance)
        if best.deviance < active[0].fit.deviance - WORTH_STARTING_AGAIN:
            return best
        for side, own in zip(active, found, strict=True):
            side.take(own)
    return None


def _variants(fit: StratigraphyFit, measured: Measured, instrument: Instrument) -> list[StratigraphyFit]:
    """Return the fit in coordinates that every share is one of: the fit itself, and with other pigments first."""
    others: list[Candidate] = []
    for index, film in enumerate(fit.candidate.films):
        # of two pigments the one's share is what the other leaves
        names = film.pigments[1:] if len(film.pigments) > 2 else ()
        others += [fit.candidate.led_by(index, name) for name in names]
    tasks = [Task(own, fit.candidate.translated(fit.place, own), fit.levels) for own in (fit.candidate, *others)]
    return solve(tasks, measured, instrument, rounds=3)


def _targets(variants: Sequence[StratigraphyFit], fit: StratigraphyFit) -> list[tuple[StratigraphyFit, int]]:
    """Return each coordinate that is a thickness or a share, in the variant where it is one."""
    first = variants[0]
    found = []
    for index, own in enumerate(first.candidate.coordinates):
        leads = own.pigment and own.pigment == first.candidate.films[own.film].pigments[0]
        if not own.pigment or leads:
            found.append((first, index))
    for variant in variants[1:]:
        for index, own in enumerate(variant.candidate.coordinates):
            leading = variant.candidate.films[own.film].pigments[:1]
            changed = leading != fit.candidate.films[own.film].pigments[:1]
            if own.pigment and changed and (own.pigment,) == leading:
                found.append((variant, index))
    return found


def _intervals(sides: Sequence[_Side], level: float) -> list[Interval]:
    found: list[Interval] = []
    for low, high in zip(sides[::2], sides[1::2], strict=True):
        own = low.fit.candidate.coordinates[low.coordinate]
        ends = [None if side.open else side.place for side in (low, high)]
        if not own.pigment:
            value, *um = (None if end is None else float(np.exp(end)) for end in (low.centre, *ends))
            found.append(Interval(own.film, "", float(value or 0.0), um[0], um[1], level))
            continue
        value, *shares = (None if end is None else _first_share(end) for end in (low.centre, *ends))
        found.append(Interval(own.film, own.pigment, float(value or 0.0), shares[0], shares[1], level))
        names = low.fit.candidate.films[own.film].pigments
        if len(names) == 2:
            rest = [None if end is None else 1.0 - end for end in shares]
            found.append(Interval(own.film, names[1], 1.0 - float(value or 0.0), rest[1], rest[0], level))
    return sorted(found, key=lambda interval: (interval.layer, bool(interval.pigment)))


def _first_share(logit: float) -> float:
    return float(shares_at(np.asarray([logit]))[0])
