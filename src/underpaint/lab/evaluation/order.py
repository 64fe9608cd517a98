"""Layer order: pairs of pigments whose order a spectrum can determine, and the claims of network and fit."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from underpaint.data import Spectrum
from underpaint.data.maps import PLACES, Results, at_place
from underpaint.lab.evaluation.answering import ModelAnswers, Spectra, count_spectra
from underpaint.lab.evaluation.candidates.candidate import Candidate, ground_film, paint_film
from underpaint.lab.evaluation.candidates.fit import StratigraphyFit, fit_candidates
from underpaint.lab.evaluation.candidates.measured import Measured, measured
from underpaint.lab.evaluation.candidates.proposals import (
    layer_pigments,
    propose,
    rearrangements,
    suspects,
    with_pure_pigments,
)
from underpaint.lab.evaluation.groups import mean
from underpaint.physics.forward import axis_of, emit, render
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import Paint, Stratigraphy, library
from underpaint.pigments.limits import MIN_DEVIANCE
from underpaint.pigments.predict.order import BOTH_AT_SURFACE, FIRST_ON_TOP, SECOND_ON_TOP, order_map

Numbers = NDArray[np.float64]
TOP_UM, BELOW_UM, GROUND_UM, GROUND = 35.0, 60.0, 150.0, "chalk"
REFERENCE_COUNTS = 1e5
"""Counts at which the deviance is computed; without a model error it is proportional to them."""
OVER = " over "


@dataclass(frozen=True)
class Pair:
    """One pigment over another, with the deviance of other orders.

    Parameters
    ----------
    top, below : str
        Pigments.
    expected : (n_channel,) array
        Spectrum, on the instrument's channels, any scale.
    deviance : dict of str to float
        Of the best fit of ``swapped`` and of ``mixed``, one layer of both, at ``REFERENCE_COUNTS`` of expected counts.
    """

    top: str
    below: str
    expected: Numbers
    deviance: dict[str, float]

    def deviance_at(self, counts: float) -> float:
        """Return the deviance of the better of the two rivals."""
        return min(self.deviance.values()) * counts / REFERENCE_COUNTS

    @property
    def counts_needed(self) -> float:
        """Counts of the whole spectrum at which the deviance is ``CLAIM``."""
        return MIN_DEVIANCE * REFERENCE_COUNTS / max(min(self.deviance.values()), 1e-9)


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
        rivals = _not_fitted(rearrangements(fits[0].candidate), fits)
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


def rivals_of(
    pigments: Sequence[str], instrument: Instrument, progress: Callable[[int, int], None] | None = None
) -> dict[str, dict[str, float]]:
    """Fit the swapped order and one mixed layer to the expected spectrum of every ordered pair.

    Thicknesses, mass shares, scale and scatter of the fits are free; the model is exact (Asimov data, no model
    error).

    Returns
    -------
    dict
        By "top over below" the ``deviance`` of :class:`Pair`.
    """
    deviances = {}
    pairs = list(permutations(pigments, 2))
    for number, (top, below) in enumerate(pairs):
        expected = _spectrum(_stack((top,), (below,)), instrument)
        deviances[OVER.join((top, below))] = _deviances(top, below, expected, instrument)
        if progress is not None:
            progress(number + 1, len(pairs))
    return deviances


def pairs_of(rivals: Mapping[str, Mapping[str, float]], instrument: Instrument) -> list[Pair]:
    """Return the pairs of :func:`rivals_of` with their expected spectra."""
    pairs = []
    for name, deviance in rivals.items():
        top, _, below = name.partition(OVER)
        pairs.append(Pair(top, below, _spectrum(_stack((top,), (below,)), instrument), dict(deviance)))
    return pairs


def bound(pairs: Sequence[Pair], counts: float) -> dict[str, Any]:
    """Return which pairs are resolvable, and how often the likelihood ratio is right on them.

    With an expected deviance D between the truth and its best rival, the likelihood ratio of a drawn spectrum is
    normal with mean D and variance 4 D: it is right with the probability ``Phi(sqrt(D) / 2)``.
    """
    deviance = np.asarray([pair.deviance_at(counts) for pair in pairs])
    resolvable = deviance >= MIN_DEVIANCE
    right = norm.cdf(0.5 * np.sqrt(deviance))
    return {
        "resolvable_share": float(resolvable.mean()),
        "accuracy": mean(right[resolvable].tolist()),
        "resolvable": [_name(pair) for pair, is_resolvable in zip(pairs, resolvable, strict=True) if is_resolvable],
        "not_resolvable": [
            _name(pair) for pair, is_resolvable in zip(pairs, resolvable, strict=True) if not is_resolvable
        ],
    }


def drawn(pairs: Sequence[Pair], instrument: Instrument, counts: float, draws: int, seed: int) -> Spectra:
    """Return each pair's spectrum ``draws`` times in a row, counted."""
    rng = np.random.default_rng((seed, round(counts)))
    expected = np.repeat(np.stack([pair.expected for pair in pairs]), draws, axis=0)
    return count_spectra(instrument, expected, counts, rng)


def network_order(answered: ModelAnswers, pairs: Sequence[Pair], draws: int) -> NDArray[np.int8] | None:
    """Return (n_pair, draws) claims of a network: 1 the true order, -1 another or one mixed layer, 0 none.

    Its answers are read as by :func:`~.order_map`. None where the network does not answer by place.
    """
    groups = sorted({_group(name) for pair in pairs for name in (pair.top, pair.below)})
    names = tuple(at_place(group, place) for place in PLACES for group in groups)
    if not set(names) <= set(answered.card.names):
        return None
    maps = _as_maps(answered, names, (len(pairs), draws))
    claims = np.zeros((len(pairs), draws), dtype=np.int8)
    for row, pair in enumerate(pairs):
        order = order_map(maps, _group(pair.top), _group(pair.below))[row]
        claims[row] = np.where(
            order == FIRST_ON_TOP, 1, np.where((order == SECOND_ON_TOP) | (order == BOTH_AT_SURFACE), -1, 0)
        )
    return claims


def refined_order(
    answered: ModelAnswers,
    spectra: Spectra,
    pairs: Sequence[Pair],
    draws: int,
    instrument: Instrument,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.int8]:
    """Return (n_pair, draws) claims of a fit, coded as by :func:`network_order`.

    The network proposes the pigments, the forward model is fitted with their arrangements over the ground, and an order
    is claimed where every other arrangement is worse by ``candidates.compare.ORDER_CLAIM``.

    Parameters
    ----------
    answered : Answered
        To the spectra.
    spectra : Spectra
        Of :func:`drawn`.
    """
    axis = spectra.axis
    claims = np.zeros(len(pairs) * draws, dtype=np.int8)
    for row, counts in enumerate(np.asarray(spectra.counts, dtype=np.float64)):
        suspected = suspects(_as_maps(answered.only(row), answered.card.names, (1, 1)), GROUND)
        merged = measured(Spectrum(counts, axis), instrument)
        pair = pairs[row // draws]
        claims[row] = _fitted_order(
            merged, propose(suspected, GROUND), instrument, _group(pair.top), _group(pair.below)
        )
        if progress is not None:
            progress(row + 1, len(claims))
    return claims.reshape(len(pairs), draws)


def order_figures(claims: NDArray[np.int8] | None, pairs: Sequence[Pair], counts: float) -> dict[str, Any]:
    """Return how often the claims of :func:`network_order` are right, wrong or absent.

    Returns
    -------
    dict
        ``accuracy``: share of right claims over all draws of resolvable pairs (an abstention is not right);
        ``abstained``, ``wrong`` on the same; ``abstained_on_rest``, ``wrong_on_rest``; by pair under ``pairs``.
    """
    resolvable = np.asarray([pair.deviance_at(counts) >= MIN_DEVIANCE for pair in pairs])
    table = {_name(pair): {"counts_needed": pair.counts_needed} for pair in pairs}
    if claims is None:
        return {"accuracy": None, "pairs": table}
    for pair, row in zip(pairs, claims, strict=True):
        table[_name(pair)] |= {"right": float((row == 1).mean()), "wrong": float((row == -1).mean())}
    sure, rest = claims[resolvable].ravel().tolist(), claims[~resolvable].ravel().tolist()
    return {
        "accuracy": mean([claim == 1 for claim in sure]),
        "abstained": mean([claim == 0 for claim in sure]),
        "wrong": mean([claim == -1 for claim in sure]),
        "abstained_on_rest": mean([claim == 0 for claim in rest]),
        "wrong_on_rest": mean([claim == -1 for claim in rest]),
        "pairs": table,
    }


def _fitted_order(
    merged: Measured, candidates: Sequence[Candidate], instrument: Instrument, top: str, below: str
) -> int:
    """Return 1 where the first group is claimed to lie on top, -1 for another claim, 0 for none."""
    if not candidates:
        return 0
    fits = compare(merged, candidates, instrument)
    if not find_order(fits, goodness(fits[0], merged).dispersion).determined:
        return 0
    surface, *under = [
        {group for name in names for group in library()[name].groups} for names in layer_pigments(fits[0].candidate)
    ]
    is_so = top in surface and below not in surface and any(below in groups for groups in under)
    return 1 if is_so else -1


def _as_maps(answered: ModelAnswers, names: Sequence[str], shape: tuple[int, int]) -> Results:
    card = answered.card
    probability = answered.by_name(names).reshape(*shape, len(names))
    return Results.of_pigments(probability=probability, **card.entries_of([card.names.index(name) for name in names]))


def _deviances(top: str, below: str, expected: Numbers, instrument: Instrument) -> dict[str, float]:
    axis = axis_of(instrument.detector)
    counts = expected * (REFERENCE_COUNTS / expected.sum())
    merged = measured(Spectrum(counts, axis), instrument, model_error=0.0)
    rivals = {"swapped": _stack((below,), (top,)), "mixed": _stack((top, below), ())}
    return {
        name: float(fit_candidates(merged, [rival], instrument)[0].poisson_deviance) for name, rival in rivals.items()
    }


def _stack(top: Sequence[str], below: Sequence[str]) -> Candidate:
    films = [paint_film(Paint(dict.fromkeys(top, 1.0)), TOP_UM)]
    if below:
        films.append(paint_film(Paint(dict.fromkeys(below, 1.0)), BELOW_UM))
    return Candidate(OVER.join((*top, *below)), (*films, ground_film(GROUND, GROUND_UM)))


def _spectrum(candidate: Candidate, instrument: Instrument) -> Numbers:
    layers = tuple(film.layer for film in candidate.films)
    spectra = render(emit([Stratigraphy(layers)], instrument), instrument.detector)
    return np.asarray(spectra[0], dtype=np.float64)


def _group(pigment: str) -> str:
    return library()[pigment].groups[0]


def _name(pair: Pair) -> str:
    return OVER.join((pair.top, pair.below))
