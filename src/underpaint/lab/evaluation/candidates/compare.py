"""Compare given stratigraphies by likelihood: which fits best, and whether the order of its layers is determined."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from underpaint.lab.evaluation.candidates.candidate import Candidate
from underpaint.lab.evaluation.candidates.fit import StratigraphyFit, fit_candidates
from underpaint.lab.evaluation.candidates.measured import Measured
from underpaint.lab.evaluation.candidates.proposals import layer_pigments, rivals_of, with_pure_pigments
from underpaint.physics.instrument import Instrument

REPLICAS = 200
PURE_OF, CLIMBS = 3, 3
"""Number of best fits to repeat with pure pigments; most rounds of fits of rivals to the best."""
ORDER_CLAIM = 9.0
"""Rise of the deviance that determines the order of given pigments: three standard deviations.

Less than ``CLAIM``, which allows for any other pigments: here a few arrangements of the same pigments are compared.
"""


@dataclass(frozen=True)
class Goodness:
    """Goodness of fit of the best stratigraphy.

    Parameters
    ----------
    deviance, poisson_deviance : float
        With and without the model's error.
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
        """Deviance above the usual one, in standard deviations."""
        return (self.deviance - self.usual) / self.spread

    @property
    def dispersion(self) -> float:
        """The deviance over the usual one; one where it is usual.

        Where no candidate fits, differences of deviance are too large by this factor and are divided by it
        (quasi-likelihood, McCullagh & Nelder 1989, section 9.2).
        """
        return 1.0 if self.fits else self.deviance / max(self.usual, 1.0)

    @property
    def fits(self) -> bool:
        """Whether the excess is below three standard deviations."""
        return self.excess < 3.0


@dataclass(frozen=True)
class Order:
    """Whether the spectrum determines the order of the layers.

    Parameters
    ----------
    layered : bool
        Whether the best stratigraphy has more than one layer of paint.
    mixed, swapped, other : float or None
        Rise of the deviance for a single layer, for the swapped layers, and for the best other arrangement of the same
        pigments; None where that was not among the candidates.
    explained : bool
        Whether the best stratigraphy fits: without a fit its order is no evidence.
    """

    layered: bool
    mixed: float | None
    swapped: float | None
    other: float | None
    explained: bool = True

    @property
    def determined(self) -> bool:
        """Whether the best stratigraphy fits, and every other arrangement is worse by ``ORDER_CLAIM``."""
        rivals = [value for value in (self.mixed, self.swapped, self.other) if value is not None]
        return self.explained and self.layered and self.swapped is not None and min(rivals) >= ORDER_CLAIM


def find_order(fits: Sequence[StratigraphyFit], dispersion: float = 1.0) -> Order:
    """Compare the arrangements of the best candidate's pigments.

    Parameters
    ----------
    fits : sequence of StratigraphyFit
        The best one first.
    dispersion : float
        Of the best one (``Goodness``): differences of deviance are divided by it. Above one nothing is determined.
    """
    best = fits[0]
    best_layers = layer_pigments(best.candidate)
    rivals = [fit for fit in fits[1:] if fit.candidate.pigments == best.candidate.pigments]
    rises = [
        (layer_pigments(fit.candidate), (fit.deviance - best.deviance) / dispersion)
        for fit in rivals
        if layer_pigments(fit.candidate) != best_layers
    ]
    return Order(
        len(best_layers) > 1,
        _minimum(more for way, more in rises if len(way) == 1),
        _minimum(more for way, more in rises if way == best_layers[::-1]),
        _minimum(more for way, more in rises if len(way) > 1 and way != best_layers[::-1]),
        explained=dispersion <= 1.0,
    )


def _minimum(values: Iterable[float]) -> float | None:
    return min(values, default=None)


def compare(
    measured: Measured,
    candidates: Sequence[Candidate],
    instrument: Instrument,
) -> list[StratigraphyFit]:
    """Fit candidates to a spectrum and return the fits, the best (smallest AIC) first.

    Other arrangements of the best candidate's pigments, and pure pigments in place of composite ones, are fitted, too.

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
    """Add fits with pure pigments in place of composite ones, and of other arrangements."""
    pure = [
        candidate
        for candidate in (with_pure_pigments(fit.candidate) for fit in fits[:PURE_OF])
        if candidate is not None
    ]
    fits = _sorted([*fits, *fit_candidates(measured, _not_fitted(pure, fits), instrument)])
    for _ in range(CLIMBS):
        rivals = _not_fitted(rivals_of(fits[0].candidate), fits)
        if not rivals:
            break
        fits = _sorted([*fits, *fit_candidates(measured, rivals, instrument)])
    return fits


def _not_fitted(candidates: Sequence[Candidate], fits: Sequence[StratigraphyFit]) -> list[Candidate]:
    """Return the candidates not fitted yet, one for each arrangement of pigments."""
    known = {layer_pigments(fit.candidate) for fit in fits}
    return [
        candidate
        for way, candidate in {layer_pigments(candidate): candidate for candidate in candidates}.items()
        if way not in known
    ]


def _sorted(fits: Sequence[StratigraphyFit]) -> list[StratigraphyFit]:
    return sorted(fits, key=lambda fit: fit.aic)


def goodness(fit: StratigraphyFit, measured: Measured, *, seed: int = 0) -> Goodness:
    """Compare a fit's deviance with those of spectra drawn from it.

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
