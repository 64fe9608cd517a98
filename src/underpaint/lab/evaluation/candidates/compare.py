"""Compare given stratigraphies by likelihood: which fits best, and whether the order of its layers is settled."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from underpaint.lab.evaluation.candidates.candidate import Candidate
from underpaint.lab.evaluation.candidates.fit import StratigraphyFit, fit_candidates
from underpaint.lab.evaluation.candidates.measured import Measured
from underpaint.lab.evaluation.candidates.proposals import laid, made_pure, rivals_of
from underpaint.physics.instrument import Instrument

REPLICAS = 200
PURE_OF, CLIMBS = 3, 3
"""How many of the best are tried with pure pigments; how often the best may give way to a rival."""
ORDER_CLAIM = 9.0
"""Rise of the deviance that settles how given pigments are laid: three standard deviations.

Less than ``CLAIM``, which guards against whatever else could be in the paint: here a handful of ways to lay the same
pigments are compared.
"""


@dataclass(frozen=True)
class Goodness:
    """Whether the best stratigraphy could have made the spectrum.

    Parameters
    ----------
    deviance, poisson_deviance : float
        With the model's error allowed for, and without.
    usual, spread : float
        Mean and standard deviation of the deviance of spectra drawn from the fitted model, less the number of
        parameters: chi-squared's own mean fails where channels hold few counts.
    """

    deviance: float
    poisson_deviance: float
    usual: float
    spread: float

    @property
    def excess(self) -> float:
        """How many standard deviations the deviance lies above the usual one."""
        return (self.deviance - self.usual) / self.spread

    @property
    def dispersion(self) -> float:
        """The deviance over the usual one; one where it is usual.

        Where no candidate fits, differences of deviance and intervals are as much too sure: claims divide by it
        (quasi-likelihood, McCullagh & Nelder 1989, section 9.2).
        """
        return 1.0 if self.fits else self.deviance / max(self.usual, 1.0)

    @property
    def fits(self) -> bool:
        """Whether nothing speaks against it: three standard deviations."""
        return self.excess < 3.0


@dataclass(frozen=True)
class Order:
    """Whether the spectrum says which layer lies above.

    Parameters
    ----------
    layered : bool
        Whether the best stratigraphy has more than one layer of paint.
    mixed, swapped, other : float or None
        How much larger the deviance is of one layer of all, of the layers the other way round, and of the best other
        way to lay the same pigments; None where that was not among the candidates.
    explained : bool
        Whether the best stratigraphy fits at all: ways to lay the wrong pigments say nothing of the right ones.
    """

    layered: bool
    mixed: float | None
    swapped: float | None
    other: float | None
    explained: bool = True

    @property
    def determined(self) -> bool:
        """Whether the best stratigraphy fits, and every other way is worse by ``ORDER_CLAIM``."""
        rivals = [value for value in (self.mixed, self.swapped, self.other) if value is not None]
        return self.explained and self.layered and self.swapped is not None and min(rivals) >= ORDER_CLAIM


def find_order(fits: Sequence[StratigraphyFit], dispersion: float = 1.0) -> Order:
    """Compare the ways in which the candidates lay the pigments of the best one.

    Parameters
    ----------
    fits : sequence of StratigraphyFit
        The best one first.
    dispersion : float
        Of the best one (``Goodness``): differences of deviance are divided by it. Above one nothing is determined.
    """
    best = fits[0]
    own = laid(best.candidate)
    rivals = [fit for fit in fits[1:] if fit.candidate.pigments == best.candidate.pigments]
    rises = [
        (laid(fit.candidate), (fit.deviance - best.deviance) / dispersion)
        for fit in rivals
        if laid(fit.candidate) != own
    ]
    return Order(
        len(own) > 1,
        _least(more for way, more in rises if len(way) == 1),
        _least(more for way, more in rises if way == own[::-1]),
        _least(more for way, more in rises if len(way) > 1 and way != own[::-1]),
        explained=dispersion <= 1.0,
    )


def _least(values: Iterable[float]) -> float | None:
    return min(values, default=None)


def compare(
    measured: Measured,
    candidates: Sequence[Candidate],
    instrument: Instrument,
) -> list[StratigraphyFit]:
    """Fit candidates to a spectrum, and what they leave open; return the fits, the best (smallest AIC) first.

    Other ways to lay the pigments of the best, and pure pigments for composite ones, are tried, too.

    Parameters
    ----------
    measured : Measured
        From ``measured``.
    candidates : sequence of Candidate
        From ``propose``, or written by hand.
    instrument : Instrument
    """
    return _with_rivals(fit_candidates(measured, candidates, instrument), measured, instrument)


def _with_rivals(fits: list[StratigraphyFit], measured: Measured, instrument: Instrument) -> list[StratigraphyFit]:
    """Add what the first round left open: pure pigments in place of composite ones, and other ways to lay them."""
    pure = [own for own in (made_pure(fit.candidate) for fit in fits[:PURE_OF]) if own is not None]
    fits = _sorted([*fits, *fit_candidates(measured, _new(pure, fits), instrument)])
    for _ in range(CLIMBS):
        rivals = _new(rivals_of(fits[0].candidate), fits)
        if not rivals:
            break
        fits = _sorted([*fits, *fit_candidates(measured, rivals, instrument)])
    return fits


def _new(candidates: Sequence[Candidate], fits: Sequence[StratigraphyFit]) -> list[Candidate]:
    """Return the candidates that were not fitted yet, each way to lay the pigments once."""
    known = {laid(fit.candidate) for fit in fits}
    return [own for way, own in {laid(own): own for own in candidates}.items() if way not in known]


def _sorted(fits: Sequence[StratigraphyFit]) -> list[StratigraphyFit]:
    return sorted(fits, key=lambda fit: fit.aic)


def goodness(fit: StratigraphyFit, measured: Measured, *, seed: int = 0) -> Goodness:
    """Hold a fit's deviance against those of spectra drawn from it.

    Parameters
    ----------
    seed : int
        Of the draws.
    """
    rng = np.random.default_rng(seed)
    expected = np.tile(fit.expected, (REPLICAS, 1))
    if measured.model_error > 0:
        shape = measured.model_error**-2
        expected = rng.gamma(shape, expected / shape)
    drawn = rng.poisson(expected).astype(np.float64)
    deviances = [measured.of(counts).deviance(fit.expected) for counts in drawn]
    usual = float(np.mean(deviances)) - fit.n_parameter
    return Goodness(fit.deviance, fit.poisson_deviance, usual, float(np.std(deviances)))
