"""Layer order: pairs of pigments whose order a spectrum determines, and the orders that networks and fits claim."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from underpaint.data import Spectrum
from underpaint.data.maps import PLACES, Results, at_place
from underpaint.lab.evaluation.answering import ModelAnswers, Spectra, draw_spectra
from underpaint.lab.evaluation.candidates.candidate import Candidate, ground_film, paint_film
from underpaint.lab.evaluation.candidates.fit import StratigraphyFit, fit_candidates
from underpaint.lab.evaluation.candidates.measured import MergedSpectrum, merge_channels
from underpaint.lab.evaluation.candidates.proposals import (
    layer_pigments,
    propose_candidates,
    rearrangements,
    suspect_pigments,
    with_pure_pigments,
)
from underpaint.lab.evaluation.groups import mean
from underpaint.physics.forward import axis_of, emit, render
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import Paint, Stratigraphy, library
from underpaint.pigments.limits import MIN_DEVIANCE
from underpaint.pigments.predict.order import BOTH_AT_SURFACE, FIRST_ON_TOP, SECOND_ON_TOP, order_map

Numbers = NDArray[np.float64]
UPPER_LAYER_UM, LOWER_LAYER_UM, GROUND_LAYER_UM, GROUND = 35.0, 60.0, 150.0, "chalk"
REFERENCE_COUNTS = 1e5
"""Total counts for which deviances are computed. Without model error, deviances are proportional to the counts."""
PAIR_SEPARATOR = " over "


@dataclass(frozen=True)
class PigmentPair:
    """Pair of pigments in two layers, and the deviances of fits with wrong layer orders.

    Parameters
    ----------
    upper_pigment, lower_pigment : str
        Pigments of the upper and of the lower layer.
    expected_counts : (n_channel,) array
        Expected spectrum in the channels of the instrument, in arbitrary units.
    deviance : dict of str to float
        Deviance of the best fit with the layers ``swapped``, and of the best fit with both pigments ``mixed`` in one
        layer. Both deviances are for ``REFERENCE_COUNTS`` total counts.
    """

    upper_pigment: str
    lower_pigment: str
    expected_counts: Numbers
    deviance: dict[str, float]

    def deviance_at(self, counts: float) -> float:
        """Return the smaller of the two deviances at the given total counts."""
        return min(self.deviance.values()) * counts / REFERENCE_COUNTS

    @property
    def counts_needed(self) -> float:
        """Total counts at which the smaller of the two deviances reaches ``MIN_DEVIANCE``."""
        return MIN_DEVIANCE * REFERENCE_COUNTS / max(min(self.deviance.values()), 1e-9)


N_REPLICA_SPECTRA = 200
N_PURE_FITS, MAX_REARRANGEMENTS = 3, 3
"""Number of best fits that are repeated with pure pigments, and maximum number of rearrangement rounds."""
MIN_ORDER_DEVIANCE = 9.0
"""A layer order is determined if all other orders increase the deviance by this value (three standard deviations).

The limit for layer orders is less than ``MIN_DEVIANCE``, because only a few arrangements of the same pigments are
compared.
"""


@dataclass(frozen=True)
class GoodnessOfFit:
    """Goodness of fit of the best stratigraphy.

    Parameters
    ----------
    deviance, poisson_deviance : float
        Deviance with and without the model error.
    mean_deviance, std_deviance : float
        Mean and standard deviation of the deviance of spectra drawn from the fitted model.
        The number of parameters is subtracted from the mean. Simulated spectra are used because the chi-squared
        distribution is not valid for few counts per channel.
    """

    deviance: float
    poisson_deviance: float
    mean_deviance: float
    std_deviance: float

    @property
    def excess_sigmas(self) -> float:
        """Deviance minus its expected mean, in standard deviations of the deviance."""
        return (self.deviance - self.mean_deviance) / self.std_deviance

    @property
    def dispersion(self) -> float:
        """Ratio of the deviance to its expected mean, or 1 for a good fit.

        If no candidate fits well, differences between deviances are too large by this ratio. The differences are
        therefore divided by the ratio (quasi-likelihood, McCullagh & Nelder 1989, section 9.2).
        """
        return 1.0 if self.is_good else self.deviance / max(self.mean_deviance, 1.0)

    @property
    def is_good(self) -> bool:
        """Whether the deviance is less than three standard deviations above its expected mean."""
        return self.excess_sigmas < 3.0


@dataclass(frozen=True)
class OrderResult:
    """Whether the spectrum determines the order of the layers.

    Parameters
    ----------
    is_layered : bool
        Whether the best stratigraphy has more than one layer of paint.
    mixed_deviance_rise, swapped_deviance_rise, other_deviance_rise : float or None
        Deviance minus that of the best fit, for one mixed layer, for swapped layers, and for the best other
        arrangement. All arrangements have the same pigments. None means that the arrangement was not fitted.
    is_fitted : bool
        Whether the best stratigraphy fits well. If the fit is poor, the layer order is no evidence.
    """

    is_layered: bool
    mixed_deviance_rise: float | None
    swapped_deviance_rise: float | None
    other_deviance_rise: float | None
    is_fitted: bool = True

    @property
    def is_determined(self) -> bool:
        """Whether the best stratigraphy fits well, and all other deviances are higher by ``MIN_ORDER_DEVIANCE``."""
        deviance_rises = [
            deviance_rise
            for deviance_rise in (self.mixed_deviance_rise, self.swapped_deviance_rise, self.other_deviance_rise)
            if deviance_rise is not None
        ]
        return (
            self.is_fitted
            and self.is_layered
            and self.swapped_deviance_rise is not None
            and min(deviance_rises) >= MIN_ORDER_DEVIANCE
        )


def find_layer_order(fits: Sequence[StratigraphyFit], dispersion: float = 1.0) -> OrderResult:
    """Compare the best fit with fits of other arrangements of its pigments.

    Parameters
    ----------
    fits : sequence of StratigraphyFit
        Fits in order of their AIC, the best one first.
    dispersion : float
        Dispersion of the best fit, by which differences between deviances are divided.
        If the dispersion exceeds 1, no order is determined.
    """
    best_fit = fits[0]
    best_layers = layer_pigments(best_fit.candidate)
    same_pigment_fits = [fit for fit in fits[1:] if fit.candidate.pigments == best_fit.candidate.pigments]
    deviance_rises = [
        (layer_pigments(fit.candidate), (fit.deviance - best_fit.deviance) / dispersion)
        for fit in same_pigment_fits
        if layer_pigments(fit.candidate) != best_layers
    ]
    return OrderResult(
        len(best_layers) > 1,
        _min_or_none(deviance_rise for arrangement, deviance_rise in deviance_rises if len(arrangement) == 1),
        _min_or_none(
            deviance_rise for arrangement, deviance_rise in deviance_rises if arrangement == best_layers[::-1]
        ),
        _min_or_none(
            deviance_rise
            for arrangement, deviance_rise in deviance_rises
            if len(arrangement) > 1 and arrangement != best_layers[::-1]
        ),
        is_fitted=dispersion <= 1.0,
    )


def _min_or_none(deviance_rises: Iterable[float]) -> float | None:
    return min(deviance_rises, default=None)


def fit_arrangements(
    spectrum: MergedSpectrum,
    candidates: Sequence[Candidate],
    instrument: Instrument,
) -> list[StratigraphyFit]:
    """Fit candidates and their rearrangements to a spectrum, and return the fits sorted by AIC, the lowest first.

    Composite pigments are also replaced by pure pigments of one group, and the resulting candidates are fitted.

    Parameters
    ----------
    spectrum : MergedSpectrum
        Merged channels of a measured spectrum, from ``merge_channels``.
    candidates : sequence of Candidate
        Candidates, for example from ``propose_candidates``.
    instrument : Instrument
    """
    return _with_rearrangements(fit_candidates(spectrum, candidates, instrument), spectrum, instrument)


def _with_rearrangements(
    fits: list[StratigraphyFit], spectrum: MergedSpectrum, instrument: Instrument
) -> list[StratigraphyFit]:
    """Add fits with pure pigments instead of composite pigments, and fits of other arrangements of the pigments."""
    pure_candidates = [
        candidate
        for candidate in (with_pure_pigments(fit.candidate) for fit in fits[:N_PURE_FITS])
        if candidate is not None
    ]
    fits = _sorted_by_aic([*fits, *fit_candidates(spectrum, _new_arrangements(pure_candidates, fits), instrument)])
    for _ in range(MAX_REARRANGEMENTS):
        new_candidates = _new_arrangements(rearrangements(fits[0].candidate), fits)
        if not new_candidates:
            break
        fits = _sorted_by_aic([*fits, *fit_candidates(spectrum, new_candidates, instrument)])
    return fits


def _new_arrangements(candidates: Sequence[Candidate], fits: Sequence[StratigraphyFit]) -> list[Candidate]:
    """Return one candidate for each arrangement of pigments that has not been fitted."""
    fitted_arrangements = {layer_pigments(fit.candidate) for fit in fits}
    return [
        candidate
        for arrangement, candidate in {layer_pigments(candidate): candidate for candidate in candidates}.items()
        if arrangement not in fitted_arrangements
    ]


def _sorted_by_aic(fits: Sequence[StratigraphyFit]) -> list[StratigraphyFit]:
    return sorted(fits, key=lambda fit: fit.aic)


def goodness_of_fit(fit: StratigraphyFit, spectrum: MergedSpectrum, *, seed: int = 0) -> GoodnessOfFit:
    """Compare the deviance of a fit with the deviances of spectra drawn from the fitted model.

    Parameters
    ----------
    seed : int
        Seed of the random spectra.
    """
    rng = np.random.default_rng(seed)
    expected_counts = np.tile(fit.expected_counts, (N_REPLICA_SPECTRA, 1))
    if spectrum.model_error > 0:
        gamma_shape = spectrum.model_error**-2
        expected_counts = rng.gamma(gamma_shape, expected_counts / gamma_shape)
    replica_counts = rng.poisson(expected_counts).astype(np.float64)
    deviances = [spectrum.with_counts(counts).deviance(fit.expected_counts) for counts in replica_counts]
    mean_deviance = float(np.mean(deviances)) - fit.n_parameter
    return GoodnessOfFit(fit.deviance, fit.poisson_deviance, mean_deviance, float(np.std(deviances)))


def rival_deviances(
    pigments: Sequence[str], instrument: Instrument, progress: Callable[[int, int], None] | None = None
) -> dict[str, dict[str, float]]:
    """Fit swapped layers and one mixed layer to the expected spectrum of every ordered pair of pigments.

    Thicknesses, mass fractions, scale and scatter are free parameters. The fitted data are expected counts without
    noise (Asimov data). The model error is zero.

    Returns
    -------
    dict
        The ``deviance`` of each :class:`PigmentPair`, by keys such as "azurite over vermilion".
    """
    deviances = {}
    pairs = list(permutations(pigments, 2))
    for pair_number, (upper_pigment, lower_pigment) in enumerate(pairs):
        expected_counts = _expected_spectrum(_layered_candidate((upper_pigment,), (lower_pigment,)), instrument)
        deviances[PAIR_SEPARATOR.join((upper_pigment, lower_pigment))] = _rival_deviances(
            upper_pigment, lower_pigment, expected_counts, instrument
        )
        if progress is not None:
            progress(pair_number + 1, len(pairs))
    return deviances


def pairs_from_deviances(rivals: Mapping[str, Mapping[str, float]], instrument: Instrument) -> list[PigmentPair]:
    """Return the pairs of pigments with their expected spectra and the deviances from :func:`rival_deviances`."""
    pairs = []
    for name, deviance in rivals.items():
        upper_pigment, _, lower_pigment = name.partition(PAIR_SEPARATOR)
        pairs.append(
            PigmentPair(
                upper_pigment,
                lower_pigment,
                _expected_spectrum(_layered_candidate((upper_pigment,), (lower_pigment,)), instrument),
                dict(deviance),
            )
        )
    return pairs


def order_bound(pairs: Sequence[PigmentPair], counts: float) -> dict[str, Any]:
    """Return the resolvable pairs, and how often the likelihood ratio gives their true order.

    Let D be the expected deviance of the best wrong order. Twice the log-likelihood ratio of a random spectrum has a
    normal distribution with mean D and variance 4 D. The likelihood ratio gives the true order with the probability
    ``Phi(sqrt(D) / 2)``.
    """
    pair_deviance = np.asarray([pair.deviance_at(counts) for pair in pairs])
    is_resolvable_pair = pair_deviance >= MIN_DEVIANCE
    true_order_probability = norm.cdf(0.5 * np.sqrt(pair_deviance))
    return {
        "resolvable_share": float(is_resolvable_pair.mean()),
        "accuracy": mean(true_order_probability[is_resolvable_pair].tolist()),
        "resolvable": [
            _pair_name(pair) for pair, is_resolvable in zip(pairs, is_resolvable_pair, strict=True) if is_resolvable
        ],
        "not_resolvable": [
            _pair_name(pair) for pair, is_resolvable in zip(pairs, is_resolvable_pair, strict=True) if not is_resolvable
        ],
    }


def draw_pair_spectra(
    pairs: Sequence[PigmentPair], instrument: Instrument, counts: float, n_draw: int, seed: int
) -> Spectra:
    """Draw ``n_draw`` spectra of each pair, in consecutive rows."""
    rng = np.random.default_rng((seed, round(counts)))
    expected_counts = np.repeat(np.stack([pair.expected_counts for pair in pairs]), n_draw, axis=0)
    return draw_spectra(instrument, expected_counts, counts, rng)


def network_order_claims(answers: ModelAnswers, pairs: Sequence[PigmentPair], n_draw: int) -> NDArray[np.int8] | None:
    """Return the (n_pair, n_draw) claims of a network: 1 for the true order, -1 for a wrong order, 0 for no claim.

    A claim of one layer with both pigments is a wrong order. :func:`~.order_map` derives the claims from the network's
    answers. The result is None for a network that does not predict places.
    """
    groups = sorted({_group_of(name) for pair in pairs for name in (pair.upper_pigment, pair.lower_pigment)})
    names = tuple(at_place(group, place) for place in PLACES for group in groups)
    if not set(names) <= set(answers.card.names):
        return None
    answer_maps = _answer_maps(answers, names, (len(pairs), n_draw))
    claims = np.zeros((len(pairs), n_draw), dtype=np.int8)
    for pair_index, pair in enumerate(pairs):
        order_codes = order_map(answer_maps, _group_of(pair.upper_pigment), _group_of(pair.lower_pigment))[pair_index]
        claims[pair_index] = np.where(
            order_codes == FIRST_ON_TOP,
            1,
            np.where((order_codes == SECOND_ON_TOP) | (order_codes == BOTH_AT_SURFACE), -1, 0),
        )
    return claims


def fit_order_claims(
    answers: ModelAnswers,
    spectra: Spectra,
    pairs: Sequence[PigmentPair],
    n_draw: int,
    instrument: Instrument,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.int8]:
    """Return the (n_pair, n_draw) claims of fits of the forward model: 1 true order, -1 wrong order, 0 no claim.

    The network proposes the pigments. Arrangements of the proposed pigments over the ground are fitted. An order is
    claimed if every other arrangement has a deviance that is higher by ``MIN_ORDER_DEVIANCE``.

    Parameters
    ----------
    answers : ModelAnswers
        Answers of the network for the spectra.
    spectra : Spectra
        Spectra from :func:`draw_pair_spectra`.
    """
    axis = spectra.axis
    claims = np.zeros(len(pairs) * n_draw, dtype=np.int8)
    for spectrum_index, counts in enumerate(np.asarray(spectra.counts, dtype=np.float64)):
        suspected_pigments = suspect_pigments(
            _answer_maps(answers.select_row(spectrum_index), answers.card.names, (1, 1)), GROUND
        )
        spectrum = merge_channels(Spectrum(counts, axis), instrument)
        pair = pairs[spectrum_index // n_draw]
        claims[spectrum_index] = _fitted_order(
            spectrum,
            propose_candidates(suspected_pigments, GROUND),
            instrument,
            _group_of(pair.upper_pigment),
            _group_of(pair.lower_pigment),
        )
        if progress is not None:
            progress(spectrum_index + 1, len(claims))
    return claims.reshape(len(pairs), n_draw)


def order_scores(claims: NDArray[np.int8] | None, pairs: Sequence[PigmentPair], counts: float) -> dict[str, Any]:
    """Return how often the claims of :func:`network_order_claims` are right, wrong or absent.

    Returns
    -------
    dict
        Fractions of draws, and ``pairs`` with the scores of each pair.
        ``accuracy``, ``abstained`` and ``wrong`` are the fractions of right claims, abstentions and wrong claims for
        resolvable pairs. ``abstained_on_rest`` and ``wrong_on_rest`` are the fractions of abstentions and wrong claims
        for all other pairs.
    """
    is_resolvable_pair = np.asarray([pair.deviance_at(counts) >= MIN_DEVIANCE for pair in pairs])
    scores_by_pair = {_pair_name(pair): {"counts_needed": pair.counts_needed} for pair in pairs}
    if claims is None:
        return {"accuracy": None, "pairs": scores_by_pair}
    for pair, pair_claims in zip(pairs, claims, strict=True):
        scores_by_pair[_pair_name(pair)] |= {
            "right": float((pair_claims == 1).mean()),
            "wrong": float((pair_claims == -1).mean()),
        }
    resolvable_claims, unresolvable_claims = (
        claims[is_resolvable_pair].ravel().tolist(),
        claims[~is_resolvable_pair].ravel().tolist(),
    )
    return {
        "accuracy": mean([order_claim == 1 for order_claim in resolvable_claims]),
        "abstained": mean([order_claim == 0 for order_claim in resolvable_claims]),
        "wrong": mean([order_claim == -1 for order_claim in resolvable_claims]),
        "abstained_on_rest": mean([order_claim == 0 for order_claim in unresolvable_claims]),
        "wrong_on_rest": mean([order_claim == -1 for order_claim in unresolvable_claims]),
        "pairs": scores_by_pair,
    }


def _fitted_order(
    spectrum: MergedSpectrum,
    candidates: Sequence[Candidate],
    instrument: Instrument,
    upper_group: str,
    lower_group: str,
) -> int:
    """Return 1 if the fits show ``upper_group`` above ``lower_group``, -1 for another order, and 0 for no order."""
    if not candidates:
        return 0
    fits = fit_arrangements(spectrum, candidates, instrument)
    if not find_layer_order(fits, goodness_of_fit(fits[0], spectrum).dispersion).is_determined:
        return 0
    surface_groups, *lower_groups = [
        {group for name in names for group in library()[name].groups} for names in layer_pigments(fits[0].candidate)
    ]
    is_true_order = (
        upper_group in surface_groups
        and lower_group not in surface_groups
        and any(lower_group in groups for groups in lower_groups)
    )
    return 1 if is_true_order else -1


def _answer_maps(answers: ModelAnswers, names: Sequence[str], map_shape: tuple[int, int]) -> Results:
    model_card = answers.card
    place_probability = answers.probability_by_name(names).reshape(*map_shape, len(names))
    return Results.of_pigments(
        probability=place_probability, **model_card.entries_of([model_card.names.index(name) for name in names])
    )


def _rival_deviances(
    upper_pigment: str, lower_pigment: str, expected_counts: Numbers, instrument: Instrument
) -> dict[str, float]:
    axis = axis_of(instrument.detector)
    counts = expected_counts * (REFERENCE_COUNTS / expected_counts.sum())
    spectrum = merge_channels(Spectrum(counts, axis), instrument, model_error=0.0)
    rival_candidates = {
        "swapped": _layered_candidate((lower_pigment,), (upper_pigment,)),
        "mixed": _layered_candidate((upper_pigment, lower_pigment), ()),
    }
    return {
        name: float(fit_candidates(spectrum, [rival_candidate], instrument)[0].poisson_deviance)
        for name, rival_candidate in rival_candidates.items()
    }


def _layered_candidate(upper_pigments: Sequence[str], lower_pigments: Sequence[str]) -> Candidate:
    films = [paint_film(Paint(dict.fromkeys(upper_pigments, 1.0)), UPPER_LAYER_UM)]
    if lower_pigments:
        films.append(paint_film(Paint(dict.fromkeys(lower_pigments, 1.0)), LOWER_LAYER_UM))
    return Candidate(
        PAIR_SEPARATOR.join((*upper_pigments, *lower_pigments)), (*films, ground_film(GROUND, GROUND_LAYER_UM))
    )


def _expected_spectrum(candidate: Candidate, instrument: Instrument) -> Numbers:
    candidate_layers = tuple(film.layer for film in candidate.films)
    spectra = render(emit([Stratigraphy(candidate_layers)], instrument), instrument.detector)
    return np.asarray(spectra[0], dtype=np.float64)


def _group_of(pigment: str) -> str:
    return library()[pigment].groups[0]


def _pair_name(pair: PigmentPair) -> str:
    return PAIR_SEPARATOR.join((pair.upper_pigment, pair.lower_pigment))
