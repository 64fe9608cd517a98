"""Counts at which a spectrum shows that one group begins above another."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betainc, expit, logsumexp, ndtri

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
from underpaint.pigments.explain.states import MAX_LAYERS, BoolArray, FloatArray, PaintPrior, States
from underpaint.pigments.explain.verdict import MIN_PROBABILITY
from underpaint.units import CM_PER_UM

N_SCAN = 400
"""Number of simulated scans at each number of counts."""
COUNTS = tuple(float(f"{10.0**power:.3g}") for power in (3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5))
"""Counts of the whole spectrum at which scans are simulated."""
N_MODE_DRAW = 200
"""Number of draws of each mode; the fraction that has the order in question is estimated from them."""
N_RIVALS = 3
"""Number of structures against the answer in which other pigments are tried."""
N_TEMPERATURE = 3
"""Typical number of temperatures in a run of an explanation."""
HALF, MOST = 0.5, 0.9
"""Fractions of the scans for which the counts are given; simulation ends when the second is reached."""


@dataclass(frozen=True)
class OrderQuestion:
    """Question whether the uppermost layer of one group is below the uppermost layer of another.

    Parameters
    ----------
    below, above : str
        Groups of the library.

    Raises
    ------
    SampleError
        ``below`` and ``above`` are the same group.
    """

    below: str
    above: str

    def __post_init__(self) -> None:
        if self.below == self.above:
            raise SampleError(
                f"Cannot plan for {self.below} under itself: a question needs two different groups. Name another group."
            )

    @classmethod
    def of_text(cls, text: str) -> "OrderQuestion":
        """Parse a question such as "lead_pigment under mercury_red"; a pigment stands for its group.

        Raises
        ------
        SampleError
            The text has another form, or the library does not contain a name.
        """
        names = text.split(" under ")
        if len(names) != 2:
            raise SampleError(
                f'Cannot plan for the question {text!r}: it must have the form "lead_pigment under mercury_red". '
                "`underpaint groups` lists the groups."
            )
        below, above = (group_of(name.strip()) for name in names)
        return cls(below, above)

    def holds(self, prior: PaintPrior, states: States) -> BoolArray:
        """Return a boolean (n,) array, true where both groups are present in the order in question."""
        top = prior.top_layer(states)
        above, below = (top[:, prior.groups.index(name)] for name in (self.above, self.below))
        return np.asarray((above < below) & (below < MAX_LAYERS))


@dataclass(frozen=True)
class Planned:
    """Fraction of simulated scans that answer a question, by counts.

    Parameters
    ----------
    counts : (n,) array
        Counts of the whole spectrum, ascending.
    share : (n,) array
        Fraction of the scans in which both runs of an explanation would give at least ``MIN_PROBABILITY``.
    probability : (n,) array
        Median over the scans of the probability of the answer.
    """

    counts: FloatArray
    share: FloatArray
    probability: FloatArray

    def counts_needed(self, share: float = HALF) -> float:
        """Return the counts above which at least the fraction ``share`` of the scans give the answer.

        Infinite if no simulated counts suffice. Between simulated counts, the normal quantile of the fraction is
        interpolated linearly in the logarithm of the counts.
        """
        is_enough = self.share >= share
        if not is_enough[-1]:
            return float("inf")
        first = int(np.flatnonzero(~is_enough).max(initial=-1)) + 1
        if first == 0:
            return float(self.counts[0])
        pair = slice(first - 1, first + 1)
        low, high = ndtri(np.clip(self.share[pair], 1 / N_SCAN, 1 - 1 / N_SCAN))
        position = float((ndtri(share) - low) / (high - low))
        return float(np.exp(np.interp(position, (0.0, 1.0), np.log(self.counts[pair]))))


def likeliest_layers(
    spectrum: Spectrum,
    instrument: Instrument,
    candidates: CandidateGroups,
    question: OrderQuestion,
    ground: str = "chalk",
) -> tuple[Stratigraphy, float]:
    """Return the likeliest layers with the order of a question, and the probability of that order.

    Parameters
    ----------
    spectrum : Spectrum
    instrument : Instrument
    candidates : CandidateGroups
        Candidate groups, including those of the question.
    question : OrderQuestion
    ground : str
        Ground of the library.

    Raises
    ------
    SampleError
        The search found no layers with that order.
    UnderpaintError
        As for :func:`underpaint.pigments.explain.explain`.
    """
    model = _model(spectrum, instrument, candidates, ground)
    modes = _distinct(model.prior, search(model, np.random.default_rng(0)))
    mixture = Mixture(model.prior, modes, 1.0)
    evidence, (log_yes, _) = mixture.evidence, _log_fractions(mixture, question, model.prior)
    is_yes = question.holds(model.prior, modes.states)
    if not is_yes.any():
        raise SampleError(
            f"Cannot plan for {question.below} under {question.above}: no layers with that order were found that are "
            "consistent with the spectrum. Choose another paint, or other groups."
        )
    best = int(np.where(is_yes, evidence, -np.inf).argmax())
    probability = float(np.exp(logsumexp(evidence + log_yes) - logsumexp(evidence)))
    return stratigraphy_of(model.prior, modes.states.rows([best])), probability


def stratigraphy_of(prior: PaintPrior, state: States) -> Stratigraphy:
    """Return the layers of a single state, over the ground."""
    fractions, areal_density = (array[0] for array in prior.stack(state))
    physical, n_layer = prior.physical(state), int(state.n_layer[0])
    layers = []
    for index in range(n_layer + 1):
        thickness_um = float(physical.thickness_um[0, index] if index < n_layer else physical.ground_um[0])
        pigments = [
            prior.members[group][state.member[0, index, group]].label
            for group in np.flatnonzero(state.holds[0, min(index, MAX_LAYERS - 1)])
        ]
        name = " + ".join(pigments) if index < n_layer else prior.ground
        elements = {
            element: float(fraction)
            for element, fraction in zip(prior.elements, fractions[index], strict=True)
            if fraction
        }
        layers.append(Layer(elements, float(areal_density[index] / (thickness_um * CM_PER_UM)), thickness_um, name))
    return Stratigraphy(tuple(layers))


def expected_spectrum(layers: Stratigraphy, instrument: Instrument) -> tuple[FloatArray, EnergyAxis]:
    """Return (n_channel,) count rates at an arbitrary tube current, and their energy axis."""
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
    """Simulate scans with increasing counts, and return the fraction that answer a question.

    Parameters
    ----------
    layers : Stratigraphy
        Layers that have the order in question.
    instrument : Instrument
    candidates : CandidateGroups
        Candidate groups, including those of the question.
    question : OrderQuestion
    counts : sequence of float
        Counts of the whole spectrum, ascending. Simulation ends when the fraction reaches ``MOST``.
    ground : str
        Ground of the library.

    Notes
    -----
    At each number of counts, structures that are consistent with the expected spectrum are searched as for an
    explanation. Each simulated scan adds Poisson noise. The evidence of every structure after this change follows from
    one linear step (Laplace's approximation), and so does the probability of the answer, without a new search.
    """
    rate, axis = expected_spectrum(layers, instrument)
    shares, medians = [], []
    for total in counts:
        spectrum = Spectrum(rate * (total / rate.sum()), axis, name=f"a scan of {total:,.0f} counts")
        model = _model(spectrum, instrument, candidates, ground)
        model.refer_to(model.counts)
        modes = _with_rivals(model, search(model, np.random.default_rng(0)), question)
        log_odds = _simulated_log_odds(model, modes, question, np.random.default_rng(0))
        shares.append(float(_both_runs_sure(expit(log_odds)).mean()))
        medians.append(float(expit(np.median(log_odds))))
        if shares[-1] >= MOST:
            break
    return Planned(np.asarray(counts[: len(shares)], dtype=np.float64), np.asarray(shares), np.asarray(medians))


def _with_rivals(model: SpectrumModel, modes: Modes, question: OrderQuestion) -> Modes:
    """Return modes, and variants of the likeliest structures against the answer with other pigments.

    The search tries other pigments in the likeliest structure alone, which would favour that structure.
    """
    is_yes, evidence = question.holds(model.prior, modes.states), Mixture(model.prior, modes, 1.0).evidence
    structures, rivals = modes.states.structures(), set[bytes]()
    for row in np.argsort(-evidence):
        if not is_yes[row] and structures[row] not in rivals and len(rivals) < N_RIVALS:
            rivals.add(structures[row])
            modes = with_other_members(model, modes, int(row))
    return _distinct(model.prior, modes)


def _distinct(prior: PaintPrior, modes: Modes) -> Modes:
    """Return the likeliest mode of each composition: several starts of a search may end in the same mode."""
    compositions, best_row = modes.states.compositions(), dict[bytes, int]()
    for row in np.argsort(-Mixture(prior, modes, 1.0).evidence):
        best_row.setdefault(compositions[row], int(row))
    return modes.rows(np.sort(list(best_row.values())))


def _simulated_log_odds(
    model: SpectrumModel, modes: Modes, question: OrderQuestion, rng: np.random.Generator
) -> FloatArray:
    """Return (N_SCAN,) log odds of the answer in scans with the counts of the model as their expectation."""
    residuals, _ = model.evaluate(modes.states)
    noise = rng.poisson(model.counts, size=(N_SCAN, model.counts.size)) - model.counts
    change = model.residual_changes(modes.states, noise)
    mixture = Mixture(model.prior, modes, 1.0)
    log_evidence = np.empty((N_SCAN, len(modes)))
    for row, evidence in enumerate(mixture.evidence):
        residuals_of_scans = residuals[row] + change[:, row]
        jacobian, x = modes.jacobians[row].astype(np.float64), modes.states.x[row, mixture.active[row]]
        gradient = residuals_of_scans @ jacobian.T + x
        step = gradient @ mixture.cholesky[row]
        log_evidence[:, row] = (
            evidence
            + 0.5 * (residuals[row] ** 2).sum()
            - 0.5 * (residuals_of_scans**2).sum(axis=1)
            + 0.5 * (step**2).sum(axis=1)
        )
    yes, no = _log_fractions(mixture, question, model.prior)
    return np.asarray(logsumexp(log_evidence + yes, axis=1) - logsumexp(log_evidence + no, axis=1))


def _log_fractions(mixture: Mixture, question: OrderQuestion, prior: PaintPrior) -> tuple[FloatArray, FloatArray]:
    """Return the (n_mode,) log fractions of each mode's draws with the order of a question, and without it.

    A mode is a distribution: of a group with a small share in an upper layer, only some draws have more than a trace.
    """
    rng, fraction = np.random.default_rng(0), np.empty(len(mixture.modes))
    for row, (is_active, cholesky) in enumerate(zip(mixture.active, mixture.cholesky, strict=True)):
        draws = mixture.modes.states.rows(np.full(N_MODE_DRAW, row))
        draws.x[:, is_active] += rng.normal(size=(N_MODE_DRAW, len(cholesky))) @ cholesky.T
        fraction[row] = question.holds(prior, draws).mean()
    with np.errstate(divide="ignore"):
        return np.log(fraction), np.log1p(-fraction)


def _both_runs_sure(probability: FloatArray) -> FloatArray:
    """Return the probability that an answer holds in ``MIN_PROBABILITY`` of the draws of both runs of an explanation.

    The draws of a run are few, and fewer are independent: each change of temperature adds the variance of
    ``MIN_EFFECTIVE_FRACTION`` of the draws, and draws change their structure too rarely to recover from it. The number
    of independent draws is no integer: the incomplete beta function continues the binomial distribution.
    """
    n_draw = MIN_EFFECTIVE_FRACTION * N_STATE / N_TEMPERATURE
    n_needed = MIN_PROBABILITY * n_draw
    return np.asarray(betainc(n_needed, n_draw - n_needed + 1.0, probability) ** RUNS)


def _model(spectrum: Spectrum, instrument: Instrument, candidates: CandidateGroups, ground: str) -> SpectrumModel:
    return SpectrumModel(spectrum, instrument, prior_of(candidates, ground), ModelError())
