"""Total counts at which a spectrum shows that one group begins above another group."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from scipy.special import betainc, expit, logsumexp, ndtri

from underpaint.data import EnergyAxis, Spectrum
from underpaint.errors import SampleError
from underpaint.physics.forward import axis_of, emit, render
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import Layer, Stratigraphy, library
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
"""Number of simulated scans for each number of counts."""
COUNTS = tuple(float(f"{10.0**power:.3g}") for power in (3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5))
"""Total counts per spectrum at which scans are simulated."""
N_DRAWS_PER_MODE = 200
"""Number of draws from each mode. The draws give the fraction with the order in question."""
N_RIVAL_STRUCTURES = 3
"""Other pigments are tried in this number of the likeliest structures without the order in question."""
N_TEMPERATURE = 3
"""Typical number of temperatures in one run of an explanation."""
MIN_SIMILARITY = 0.4
"""Minimum similarity (difflib) of a name to that of a group that is suggested for it."""
HALF_OF_SCANS, MOST_SCANS = 0.5, 0.9
"""Fractions of scans that give the answer. The needed counts are reported for both fractions, and the simulation ends
at the second."""


@dataclass(frozen=True)
class OrderQuestion:
    """Question of whether the uppermost layer of one group is below the uppermost layer of another group.

    Parameters
    ----------
    lower_group, upper_group : str
        Groups of the library.

    Raises
    ------
    SampleError
        ``lower_group`` and ``upper_group`` are the same group.
    """

    lower_group: str
    upper_group: str

    def __post_init__(self) -> None:
        if self.lower_group == self.upper_group:
            raise SampleError(
                f"Cannot plan for {self.lower_group} under itself: a question needs two different groups. "
                "Name another group."
            )

    @classmethod
    def from_text(cls, text: str, groups: Sequence[str] = ()) -> "OrderQuestion":
        """Parse a question such as "lead_pigment under mercury_red", with names of groups or pigments.

        Parameters
        ----------
        text : str
        groups : sequence of str
            Groups that an error message suggests, by default all groups of the library.

        Raises
        ------
        SampleError
            The text does not have this form, or the library does not contain a name. The message names the groups, and
            the question with the most similar groups.
        """
        suggested_groups = tuple(groups) or tuple(group.name for group in library().groups)
        names = [name.strip() for name in text.split(" under ")]
        known_names, elements = zip(*((group.name, group.element) for group in library().groups), strict=True)
        # an element is not a pigment, although Pb is an abbreviation of Prussian blue
        unknown_names = [
            name for name in names if name in elements or (name not in known_names and name not in library())
        ]
        if len(names) != 2 or unknown_names:
            similar_groups = [_similar_group(name, suggested_groups) for name in names]
            reason = (
                'it must have the form "LOWER under UPPER"'
                if len(names) != 2
                else f"{' and '.join(map(repr, unknown_names))} {'names' if len(unknown_names) == 1 else 'name'} no "
                "group or pigment"
            )
            suggestion = (
                f' Did you mean "{" under ".join(map(str, similar_groups))}"?'
                if len(names) == 2 and all(similar_groups)
                else ' An example is "lead_pigment under mercury_red".'
            )
            raise SampleError(
                f"Cannot plan for the question {text!r}: {reason}.{suggestion} The groups are "
                f"{', '.join(suggested_groups)}."
            )
        return cls(*map(group_of, names))

    def has_order(self, prior: PaintPrior, states: States) -> BoolArray:
        """Return a boolean (n,) array, true where both groups are present in the order in question."""
        uppermost_layers = prior.uppermost_layers(states)
        upper_layer, lower_layer = (
            uppermost_layers[:, prior.groups.index(name)] for name in (self.upper_group, self.lower_group)
        )
        return np.asarray((upper_layer < lower_layer) & (lower_layer < MAX_LAYERS))


def _similar_group(name: str, groups: Sequence[str]) -> str | None:
    """Return the group with this name, of this element or of this pigment, or the one with the most similar name."""
    similar_groups = [name, *(group.name for group in library().groups if group.element == name)]
    if len(similar_groups) == 1 and name in library():
        similar_groups += library()[name].groups
    similar_groups += get_close_matches(name.lower().replace(" ", "_"), groups, n=1, cutoff=MIN_SIMILARITY)
    return next((group for group in similar_groups if group in groups), None)


@dataclass(frozen=True)
class AnsweredShares:
    """Fraction of simulated scans that answer a question, for each number of counts.

    Parameters
    ----------
    counts : (n,) array
        Total counts of a spectrum, ascending.
    answered_share : (n,) array
        Fraction of the scans in which both runs would give the answer a probability of at least ``MIN_PROBABILITY``.
    median_probability : (n,) array
        Median probability of the answer over the scans.
    """

    counts: FloatArray
    answered_share: FloatArray
    median_probability: FloatArray

    def counts_needed(self, share: float = HALF_OF_SCANS) -> float:
        """Return the counts above which at least the fraction ``share`` of the scans gives the answer.

        The result is infinite if no simulated counts suffice. Between simulated counts, the normal quantile of the
        fraction is interpolated linearly in the logarithm of the counts.
        """
        is_share_reached = self.answered_share >= share
        if not is_share_reached[-1]:
            return float("inf")
        first_index = int(np.flatnonzero(~is_share_reached).max(initial=-1)) + 1
        if first_index == 0:
            return float(self.counts[0])
        index_pair = slice(first_index - 1, first_index + 1)
        low_quantile, high_quantile = ndtri(np.clip(self.answered_share[index_pair], 1 / N_SCAN, 1 - 1 / N_SCAN))
        interpolation_fraction = float((ndtri(share) - low_quantile) / (high_quantile - low_quantile))
        return float(np.exp(np.interp(interpolation_fraction, (0.0, 1.0), np.log(self.counts[index_pair]))))


def likeliest_layers(
    spectrum: Spectrum,
    instrument: Instrument,
    candidates: CandidateGroups,
    question: OrderQuestion,
    ground: str = "chalk",
) -> tuple[Stratigraphy | None, float, int]:
    """Return the most probable layers with the order of a question, the order's probability, and how many layers fit.

    If none of the layer structures that fit the spectrum has the order, the first value is None.

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
    UnderpaintError
        As for :func:`underpaint.pigments.explain.explain`.
    """
    model = _spectrum_model(spectrum, instrument, candidates, ground)
    modes = _distinct_modes(model.prior, search(model, np.random.default_rng(0)))
    mixture = Mixture(model.prior, modes, 1.0)
    log_evidence, (log_fraction_with_order, _) = mixture.log_evidence, _log_fractions(mixture, question, model.prior)
    order_probability = float(np.exp(logsumexp(log_evidence + log_fraction_with_order) - logsumexp(log_evidence)))
    has_order = question.has_order(model.prior, modes.states)
    if not has_order.any():
        return None, order_probability, len(modes)
    best_mode = int(np.where(has_order, log_evidence, -np.inf).argmax())
    return stratigraphy_of(model.prior, modes.states.select([best_mode])), order_probability, len(modes)


def stratigraphy_of(prior: PaintPrior, state: States) -> Stratigraphy:
    """Convert a single state to a stratigraphy, including the ground."""
    mass_fractions, areal_density = (batch_array[0] for batch_array in prior.mass_fractions_and_densities(state))
    physical_states, n_layer = prior.to_physical_units(state), int(state.n_layer[0])
    layers = []
    for layer in range(n_layer + 1):
        thickness_um = float(
            physical_states.thickness_um[0, layer] if layer < n_layer else physical_states.ground_thickness_um[0]
        )
        pigments = [
            prior.members[group][state.member_index[0, layer, group]].label
            for group in np.flatnonzero(state.is_in_layer[0, min(layer, MAX_LAYERS - 1)])
        ]
        layer_name = " + ".join(pigments) if layer < n_layer else prior.ground
        elements = {
            element: float(mass_fraction)
            for element, mass_fraction in zip(prior.elements, mass_fractions[layer], strict=True)
            if mass_fraction
        }
        layers.append(
            Layer(elements, float(areal_density[layer] / (thickness_um * CM_PER_UM)), thickness_um, layer_name)
        )
    return Stratigraphy(tuple(layers))


def expected_spectrum(layers: Stratigraphy, instrument: Instrument) -> tuple[FloatArray, EnergyAxis]:
    """Return (n_channel,) count rates for an arbitrary tube current, and the energy axis."""
    axis = axis_of(instrument.detector)
    count_rates = render(emit([layers], instrument), instrument.detector, axis)
    return np.asarray(count_rates, dtype=np.float64)[0], axis


def answered_shares(
    layers: Stratigraphy,
    instrument: Instrument,
    candidates: CandidateGroups,
    question: OrderQuestion,
    counts: Sequence[float],
    ground: str = "chalk",
) -> AnsweredShares:
    """Simulate scans with increasing counts, and return the fraction of scans that answer a question.

    Parameters
    ----------
    layers : Stratigraphy
        Layers that have the order in question.
    instrument : Instrument
    candidates : CandidateGroups
        Candidate groups, including those of the question.
    question : OrderQuestion
    counts : sequence of float
        Total counts of a spectrum, ascending. The simulation ends when the fraction reaches 90 %.
    ground : str
        Ground of the library.

    Notes
    -----
    At each number of counts, the search that explanations use finds structures that are consistent with the expected
    spectrum. Each simulated scan adds Poisson noise to this spectrum. One linear step (Laplace's approximation) gives
    the evidence of every structure for the noisy spectrum. Hence the probability of the answer needs no new search.
    """
    count_rates, axis = expected_spectrum(layers, instrument)
    fractions, median_probabilities = [], []
    for total_counts in counts:
        spectrum = Spectrum(
            count_rates * (total_counts / count_rates.sum()), axis, name=f"a scan of {total_counts:,.0f} counts"
        )
        model = _spectrum_model(spectrum, instrument, candidates, ground)
        model.set_reference(model.counts)
        modes = _with_rival_modes(model, search(model, np.random.default_rng(0)), question)
        log_odds = _simulated_log_odds(model, modes, question, np.random.default_rng(0))
        fractions.append(float(_both_runs_certain_probability(expit(log_odds)).mean()))
        median_probabilities.append(float(expit(np.median(log_odds))))
        if fractions[-1] >= MOST_SCANS:
            break
    return AnsweredShares(
        np.asarray(counts[: len(fractions)], dtype=np.float64), np.asarray(fractions), np.asarray(median_probabilities)
    )


def _with_rival_modes(model: SpectrumModel, modes: Modes, question: OrderQuestion) -> Modes:
    """Add modes in which other pigments are tried in the likeliest structures without the order in question.

    The search tries other pigments only in the likeliest structure. Without the added modes, the likeliest structure
    would be favoured.
    """
    has_order, log_evidence = (
        question.has_order(model.prior, modes.states),
        Mixture(model.prior, modes, 1.0).log_evidence,
    )
    structures, rival_structures = modes.states.structure_keys(), set[bytes]()
    for row in np.argsort(-log_evidence):
        if (
            not has_order[row]
            and structures[row] not in rival_structures
            and len(rival_structures) < N_RIVAL_STRUCTURES
        ):
            rival_structures.add(structures[row])
            modes = with_other_members(model, modes, int(row))
    return _distinct_modes(model.prior, modes)


def _distinct_modes(prior: PaintPrior, modes: Modes) -> Modes:
    """Return the likeliest mode of each composition. Several starts of a search may end in one mode."""
    compositions, row_by_composition = modes.states.composition_keys(), dict[bytes, int]()
    for row in np.argsort(-Mixture(prior, modes, 1.0).log_evidence):
        row_by_composition.setdefault(compositions[row], int(row))
    return modes.select(np.sort(list(row_by_composition.values())))


def _simulated_log_odds(
    model: SpectrumModel, modes: Modes, question: OrderQuestion, rng: np.random.Generator
) -> FloatArray:
    """Return the (N_SCAN,) log-odds of the answer for scans with Poisson noise around the counts of the model."""
    residuals, _ = model.evaluate(modes.states)
    noise = rng.poisson(model.counts, size=(N_SCAN, model.counts.size)) - model.counts
    residual_changes = model.residual_changes(modes.states, noise)
    mixture = Mixture(model.prior, modes, 1.0)
    simulated_log_evidence = np.empty((N_SCAN, len(modes)))
    for mode_index, mode_log_evidence in enumerate(mixture.log_evidence):
        residuals_of_scans = residuals[mode_index] + residual_changes[:, mode_index]
        jacobian, mode_coordinates = (
            modes.jacobians[mode_index].astype(np.float64),
            modes.states.x[mode_index, mixture.is_active[mode_index]],
        )
        gradient = residuals_of_scans @ jacobian.T + mode_coordinates
        laplace_step = gradient @ mixture.cholesky[mode_index]
        simulated_log_evidence[:, mode_index] = (
            mode_log_evidence
            + 0.5 * (residuals[mode_index] ** 2).sum()
            - 0.5 * (residuals_of_scans**2).sum(axis=1)
            + 0.5 * (laplace_step**2).sum(axis=1)
        )
    log_fraction_with_order, log_fraction_without_order = _log_fractions(mixture, question, model.prior)
    return np.asarray(
        logsumexp(simulated_log_evidence + log_fraction_with_order, axis=1)
        - logsumexp(simulated_log_evidence + log_fraction_without_order, axis=1)
    )


def _log_fractions(mixture: Mixture, question: OrderQuestion, prior: PaintPrior) -> tuple[FloatArray, FloatArray]:
    """Return the (n_mode,) log fractions of draws with the order of a question, and of draws without this order.

    Draws of one mode can differ in order, because a group with a small share may be more than a trace in only some
    draws.
    """
    rng, fraction = np.random.default_rng(0), np.empty(len(mixture.modes))
    for row, (is_active, cholesky) in enumerate(zip(mixture.is_active, mixture.cholesky, strict=True)):
        draws = mixture.modes.states.select(np.full(N_DRAWS_PER_MODE, row))
        draws.x[:, is_active] += rng.normal(size=(N_DRAWS_PER_MODE, len(cholesky))) @ cholesky.T
        fraction[row] = question.has_order(prior, draws).mean()
    with np.errstate(divide="ignore"):
        return np.log(fraction), np.log1p(-fraction)


def _both_runs_certain_probability(probability: FloatArray) -> FloatArray:
    """Return the probability that in each of two runs a fraction ``MIN_PROBABILITY`` of the draws gives the answer.

    Not all draws of a run are independent. Draws rarely change structure after a change of temperature. Each change
    therefore adds the variance of a sample of ``MIN_EFFECTIVE_FRACTION`` of the draws. The incomplete beta function
    extends the binomial distribution to non-integer numbers of independent draws.
    """
    n_draw = MIN_EFFECTIVE_FRACTION * N_STATE / N_TEMPERATURE
    n_needed = MIN_PROBABILITY * n_draw
    return np.asarray(betainc(n_needed, n_draw - n_needed + 1.0, probability) ** RUNS)


def _spectrum_model(
    spectrum: Spectrum, instrument: Instrument, candidates: CandidateGroups, ground: str
) -> SpectrumModel:
    return SpectrumModel(spectrum, instrument, prior_of(candidates, ground), ModelError())
