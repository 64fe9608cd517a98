"""How many counts it takes until a spectrum tells that one group begins above another."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logsumexp, ndtri
from scipy.stats import binom

from underpaint.data import EnergyAxis, Spectrum
from underpaint.errors import SampleError
from underpaint.physics.forward import axis_of, emit, render
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import Layer, Stratigraphy
from underpaint.pigments.explain.candidate_groups import CandidateGroups, prior_of
from underpaint.pigments.explain.explanation import RUNS
from underpaint.pigments.explain.known import group_of
from underpaint.pigments.explain.mixture import Mixture, Modes
from underpaint.pigments.explain.sampling import MIN_EFFECTIVE_FRACTION, N_STATE
from underpaint.pigments.explain.search import search, with_other_members
from underpaint.pigments.explain.spectrum_model import ModelError, SpectrumModel
from underpaint.pigments.explain.states import MAX_LAYERS, Flags, Numbers, PaintPrior, States
from underpaint.pigments.explain.verdict import MIN_PROBABILITY
from underpaint.units import CM_PER_UM

N_SCAN = 400
"""Simulated scans at each number of counts."""
COUNTS = tuple(float(f"{10.0**power:.3g}") for power in (3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5))
"""Of the whole spectrum, at which scans are simulated."""
RIVALS = 3
"""Structures against the answer in which other members are tried."""
HALF, MOST = 0.5, 0.9
"""Shares of the scans that give the answer, for which counts are given; no more counts are tried after the second."""


@dataclass(frozen=True)
class OrderQuestion:
    """Whether a group lies under another: its uppermost layer below the other's.

    Parameters
    ----------
    below, above : str
        Groups of the library.

    Raises
    ------
    SampleError
        They are the same group.
    """

    below: str
    above: str

    def __post_init__(self) -> None:
        if self.below == self.above:
            raise SampleError(
                f"Cannot plan for {self.below} under itself: a group is not told apart from itself. Name two groups."
            )

    @classmethod
    def of_text(cls, text: str) -> "OrderQuestion":
        """Read "lead_pigment under mercury_red"; pigments stand for their group.

        Raises
        ------
        SampleError
            The text is none, or the library does not know a name.
        """
        names = text.split(" under ")
        if len(names) != 2:
            raise SampleError(
                f'Cannot plan for the question {text!r}: one of the form "lead_pigment under mercury_red" can be '
                "planned for. `underpaint groups` lists the groups."
            )
        below, above = (group_of(name.strip()) for name in names)
        return cls(below, above)

    def holds(self, prior: PaintPrior, states: States) -> Flags:
        """Return (n,) whether both groups are there and the one begins above the other."""
        top = prior.top_layer(states)
        above, below = (top[:, prior.groups.index(name)] for name in (self.above, self.below))
        return np.asarray((above < below) & (below < MAX_LAYERS))


@dataclass(frozen=True)
class Planned:
    """In how many simulated scans a question is answered, by counts.

    Parameters
    ----------
    counts : (n,) array
        Of the whole spectrum, ascending.
    share : (n,) array
        Of the scans in which both runs of an explanation would give the probability ``MIN_PROBABILITY``.
    probability : (n,) array
        Of the answer, in the middle one of the scans.
    """

    counts: Numbers
    share: Numbers
    probability: Numbers

    def counts_needed(self, share: float = HALF) -> float:
        """Return the least counts from which on at least a share of the scans give the answer; infinite for never.

        Between the counts that were simulated the share's normal quantile is linear in the logarithm of the counts.
        """
        reached = self.share >= share
        if not reached[-1]:
            return float("inf")
        first = int(np.flatnonzero(~reached).max(initial=-1)) + 1
        if first == 0:
            return float(self.counts[0])
        pair = slice(first - 1, first + 1)
        low, high = ndtri(np.clip(self.share[pair], 1 / N_SCAN, 1 - 1 / N_SCAN))
        part = float((ndtri(share) - low) / (high - low))
        return float(np.exp(np.interp(part, (0.0, 1.0), np.log(self.counts[pair]))))


def likeliest_layers(
    spectrum: Spectrum,
    instrument: Instrument,
    candidates: CandidateGroups,
    question: OrderQuestion,
    ground: str = "chalk",
) -> tuple[Stratigraphy, float]:
    """Return the likeliest layers of which a question's answer is yes, and the probability of that answer.

    Parameters
    ----------
    spectrum : Spectrum
    instrument : Instrument
    candidates : CandidateGroups
        The groups to look for, those of the question among them.
    question : OrderQuestion
    ground : str

    Raises
    ------
    SampleError
        No such layers were found.
    UnderpaintError
        As :func:`underpaint.pigments.explain.explain`.
    """
    model = _model(spectrum, instrument, candidates, ground)
    modes = search(model, np.random.default_rng(0))
    evidence, yes = Mixture(model.prior, modes, 1.0).evidence, question.holds(model.prior, modes.states)
    if not yes.any():
        raise SampleError(
            f"Cannot plan for {question.below} under {question.above}: no layers with that order were found that come "
            "near the spectrum. Sum another paint, or ask for other groups."
        )
    best = int(np.where(yes, evidence, -np.inf).argmax())
    probability = float(np.exp(logsumexp(evidence[yes]) - logsumexp(evidence)))
    return stratigraphy_of(model.prior, modes.states.rows([best])), probability


def stratigraphy_of(prior: PaintPrior, state: States) -> Stratigraphy:
    """Return one state as layers over the ground."""
    fractions, areal = (values[0] for values in prior.stack(state))
    physical, n_layer = prior.physical(state), int(state.n_layer[0])
    layers = []
    for place in range(n_layer + 1):
        thickness = float(physical.thickness_um[0, place] if place < n_layer else physical.ground_um[0])
        pigments = [
            prior.members[group][state.member[0, place, group]].label
            for group in np.flatnonzero(state.holds[0, min(place, MAX_LAYERS - 1)])
        ]
        name = " + ".join(pigments) if place < n_layer else prior.ground
        elements = {
            element: float(part) for element, part in zip(prior.elements, fractions[place], strict=True) if part
        }
        layers.append(Layer(elements, float(areal[place] / (thickness * CM_PER_UM)), thickness, name))
    return Stratigraphy(tuple(layers))


def expected_spectrum(layers: Stratigraphy, instrument: Instrument) -> tuple[Numbers, EnergyAxis]:
    """Return (n_channel,) counts per second at a current of which only ratios matter, and the channels."""
    axis = axis_of(instrument.detector)
    rate = render(emit([layers], instrument), instrument.detector, axis)
    return np.asarray(rate, dtype=np.float64)[0], axis


def answered_shares(
    layers: Stratigraphy,
    instrument: Instrument,
    candidates: CandidateGroups,
    question: OrderQuestion,
    counts: Sequence[float],
    ground: str = "chalk",
) -> Planned:
    """Simulate scans of layers with a growing number of counts, and return in how many a question is answered.

    Parameters
    ----------
    layers : Stratigraphy
        Of which the answer is yes.
    instrument : Instrument
    candidates : CandidateGroups
    question : OrderQuestion
    counts : sequence of float
        Of the whole spectrum, ascending; none after those at which ``MOST`` of the scans give the answer.
    ground : str

    Notes
    -----
    At each number of counts the structures that could have made the expected spectrum are searched as for an
    explanation. Each scan adds Poisson noise to it; the evidence of every structure follows by one linear step, and so
    does the probability of the answer (Laplace's approximation), without a search for every scan.
    """
    rate, axis = expected_spectrum(layers, instrument)
    shares, middles = [], []
    for total in counts:
        spectrum = Spectrum(rate * (total / rate.sum()), axis, name=f"a scan of {total:,.0f} counts")
        model = _model(spectrum, instrument, candidates, ground)
        model.refer_to(model.counts)
        modes = _with_rivals(model, search(model, np.random.default_rng(0)), question)
        log_odds = _simulated_log_odds(model, modes, question, np.random.default_rng(0))
        shares.append(float(_both_runs_sure(expit(log_odds)).mean()))
        middles.append(float(expit(np.median(log_odds))))
        if shares[-1] >= MOST:
            break
    return Planned(np.asarray(counts[: len(shares)], dtype=np.float64), np.asarray(shares), np.asarray(middles))


def _with_rivals(model: SpectrumModel, modes: Modes, question: OrderQuestion) -> Modes:
    """Return modes with other members in the likeliest structures against the answer, as the search has for the best.

    A structure of which every member was tried would else weigh more than its rivals.
    """
    yes, evidence = question.holds(model.prior, modes.states), Mixture(model.prior, modes, 1.0).evidence
    structures, tried = modes.states.structures(), set[bytes]()
    for row in np.argsort(-evidence):
        if not yes[row] and structures[row] not in tried and len(tried) < RIVALS:
            tried.add(structures[row])
            modes = with_other_members(model, modes, int(row))
    return modes


def _simulated_log_odds(
    model: SpectrumModel, modes: Modes, question: OrderQuestion, rng: np.random.Generator
) -> Numbers:
    """Return (N_SCAN,) log odds of the answer in scans whose expected counts are the model's."""
    residuals, _ = model.evaluate(modes.states)
    noise = rng.poisson(model.counts, size=(N_SCAN, model.counts.size)) - model.counts
    change = model.residual_changes(modes.states, noise)
    mixture = Mixture(model.prior, modes, 1.0)
    log_evidence = np.empty((N_SCAN, len(modes)))
    for row, evidence in enumerate(mixture.evidence):
        after = residuals[row] + change[:, row]
        gradient = after @ modes.jacobians[row].T.astype(np.float64) + modes.states.x[row, mixture.active[row]]
        step = gradient @ mixture.cholesky[row]
        log_evidence[:, row] = (
            evidence + 0.5 * (residuals[row] ** 2).sum() - 0.5 * (after**2).sum(axis=1) + 0.5 * (step**2).sum(axis=1)
        )
    yes = question.holds(model.prior, modes.states)
    no_chance = np.full(N_SCAN, -np.inf)
    for_it = logsumexp(log_evidence[:, yes], axis=1) if yes.any() else no_chance
    against = logsumexp(log_evidence[:, ~yes], axis=1) if not yes.all() else no_chance
    return np.asarray(for_it - against)


def _both_runs_sure(probability: Numbers) -> Numbers:
    """Return the chance that both runs of an explanation count ``MIN_PROBABILITY`` of their draws for an answer.

    A run has few draws: no fewer than ``MIN_EFFECTIVE_FRACTION`` of them are independent.
    """
    draws = round(MIN_EFFECTIVE_FRACTION * N_STATE)
    return np.asarray(binom.sf(np.ceil(MIN_PROBABILITY * draws) - 1, draws, probability) ** RUNS)


def _model(spectrum: Spectrum, instrument: Instrument, candidates: CandidateGroups, ground: str) -> SpectrumModel:
    return SpectrumModel(spectrum, instrument, prior_of(candidates, ground), ModelError())
