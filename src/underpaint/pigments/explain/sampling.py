"""Sequential Monte Carlo sampling of the posterior, from a mixture around the modes, with moves between structures."""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from underpaint.pigments.explain.mixture import Mixture, Modes
from underpaint.pigments.explain.search import FEW_GROUPS, exchange_group, insert_layer, remove_layer, swap_layers
from underpaint.pigments.explain.spectrum_model import SpectrumModel
from underpaint.pigments.explain.states import (
    MAX_LAYERS,
    N_LAYER_COORDINATES,
    BoolArray,
    FloatArray,
    IntArray,
    States,
    log_prior_of_x,
)

N_STATE, N_STATE_OF_MANY_GROUPS, INITIAL_STATES_FACTOR = 200, 400, 4
"""Number of posterior draws, this number for more than ``FEW_GROUPS`` groups, and ratio of the number of initial states
to the number of draws."""
START_BETA = 0.3
"""First power of the likelihood. At lower powers, few draws would be of the likely structures."""
N_SWEEPS, N_FINAL_SWEEPS = 3, 6
"""Number of moves of every state at each earlier temperature, and at the final temperature."""
MIN_EFFECTIVE_FRACTION = 0.5
"""Minimum ratio of the effective sample size to the number of draws after a change of temperature."""
P_AMOUNTS_MOVE, P_MEMBER_MOVE = 0.5, 0.25
"""Probabilities of moves that change amounts and members. All other moves change the groups of the layers."""
P_GROUP_IN_NEW_LAYER = 0.35
"""Probability that a proposed layer contains a group."""


@dataclass
class Sample:
    """Equally weighted draws of the posterior.

    Parameters
    ----------
    states : States
    log_likelihood : (n,) array
    log_evidence : float
    """

    states: States
    log_likelihood: FloatArray
    log_evidence: float


def sample(model: SpectrumModel, modes: Modes, rng: np.random.Generator, *, n: int | None = None) -> Sample:
    """Draw states from the posterior.

    Parameters
    ----------
    model : SpectrumModel
    modes : Modes
        Modes from a search. The likelihoods of the modes are computed again.
    rng : Generator
        Random number generator.
    n : int, optional
        Number of draws, by default ``N_STATE`` or ``N_STATE_OF_MANY_GROUPS``.

    Notes
    -----
    Temperatures are chosen by effective sample size (Del Moral, Doucet & Jasra 2006). Within a structure, states move
    by preconditioned Crank-Nicolson steps around the mixture's components and the prior, by differential evolution
    (ter Braak 2006), and by other members with the same masses of the groups' elements. Between structures, states
    move by draws from the mixture and by reversible jumps (Green 1995) with new coordinates from the prior.
    """
    prior = model.prior
    n = n or (N_STATE if len(prior.groups) <= FEW_GROUPS else N_STATE_OF_MANY_GROUPS)
    modes = Modes(modes.states, model.log_likelihood(modes.states), modes.jacobians)
    beta, mixture = START_BETA, Mixture(prior, modes, START_BETA)
    states = mixture.draw(INITIAL_STATES_FACTOR * n, rng)
    log_like = model.log_likelihood(states)
    log_weights = _log_target(model, states, log_like, beta) - mixture.log_density(states)
    log_evidence = float(logsumexp(log_weights) - np.log(len(states)))
    rows = _resample(log_weights, n, rng)
    states, log_like = states.select(rows), log_like[rows]
    while True:
        _move_states(model, states, log_like, beta, mixture, rng, N_SWEEPS if beta < 1 else N_FINAL_SWEEPS)
        if beta >= 1:
            return Sample(states, log_like, log_evidence)
        next_beta = _next_temperature(log_like, beta)
        log_weights = (next_beta - beta) * log_like
        log_evidence += float(logsumexp(log_weights) - np.log(n))
        rows = _resample(log_weights, n, rng)
        states, log_like, beta = states.select(rows), log_like[rows], next_beta
        mixture = Mixture(prior, modes, beta)


def _log_target(model: SpectrumModel, states: States, log_like: FloatArray, beta: float) -> FloatArray:
    log_coordinate_prior = log_prior_of_x(states, states.is_active())
    return np.asarray(beta * log_like + log_coordinate_prior + model.prior.log_discrete_prior(states))


def _resample(log_weight: FloatArray, n: int, rng: np.random.Generator) -> IntArray:
    """Return the indices of the draws that systematic resampling selects."""
    draw_weights = np.exp(log_weight - log_weight.max())
    sampling_points = (rng.random() + np.arange(n)) / n
    return np.minimum(
        np.searchsorted(np.cumsum(draw_weights / draw_weights.sum()), sampling_points), len(draw_weights) - 1
    )


def _next_temperature(log_like: FloatArray, beta: float) -> float:
    """Return the largest power of the likelihood at which the effective sample size is sufficient."""

    def effective_fraction(trial_beta: float) -> float:
        draw_weights = np.exp((trial_beta - beta) * (log_like - log_like.max()))
        return float(draw_weights.sum() ** 2 / (draw_weights**2).sum() / len(draw_weights))

    if effective_fraction(1.0) >= MIN_EFFECTIVE_FRACTION:
        return 1.0
    min_beta, max_beta = beta, 1.0
    for _ in range(30):
        middle_beta = (min_beta + max_beta) / 2
        min_beta, max_beta = (
            (middle_beta, max_beta)
            if effective_fraction(middle_beta) > MIN_EFFECTIVE_FRACTION
            else (min_beta, middle_beta)
        )
    return max(min_beta, beta + 1e-6)


def _move_states(
    model: SpectrumModel,
    states: States,
    log_like: FloatArray,
    beta: float,
    mixture: Mixture,
    rng: np.random.Generator,
    n_sweeps: int,
) -> None:
    """Move all states in place. Each half is the population for the differential evolution of the other half."""
    n = len(states)
    for sweep in range(n_sweeps):
        if sweep % 2:
            _propose_from_mixture(model, states, log_like, beta, mixture, rng)
        # inactive coordinates are drawn from the prior
        states.x[:] = np.where(states.is_active(), states.x, rng.normal(size=states.x.shape))
        shuffled_rows = rng.permutation(n)
        first_rows, second_rows = shuffled_rows[: n // 2], shuffled_rows[n // 2 :]
        for moving_rows, population in ((first_rows, second_rows), (second_rows, first_rows)):
            current_states = states.select(moving_rows)
            proposed_states, log_ratio = _Proposals(
                model, current_states, states.select(population), mixture, rng
            ).make_proposals()
            possible_rows = np.flatnonzero(np.isfinite(log_ratio))
            new_log_like = np.full(len(moving_rows), -1e30)
            new_log_like[possible_rows] = model.log_likelihood(proposed_states.select(possible_rows))
            is_accepted = (
                np.log(rng.random(len(moving_rows))) < beta * (new_log_like - log_like[moving_rows]) + log_ratio
            )
            states.replace(moving_rows[is_accepted], proposed_states, np.flatnonzero(is_accepted))
            log_like[moving_rows[is_accepted]] = new_log_like[is_accepted]


def _propose_from_mixture(
    model: SpectrumModel, states: States, log_like: FloatArray, beta: float, mixture: Mixture, rng: np.random.Generator
) -> None:
    """Propose independent draws from the mixture for all states, across structures and members."""
    new_states = mixture.draw(len(states), rng)
    new_log_like = model.log_likelihood(new_states)
    log_acceptance = _log_target(model, new_states, new_log_like, beta) - _log_target(model, states, log_like, beta)
    log_acceptance += mixture.log_density(states) - mixture.log_density(new_states)
    accepted_rows = np.flatnonzero(np.log(rng.random(len(states))) < log_acceptance)
    states.replace(accepted_rows, new_states, accepted_rows)
    log_like[accepted_rows] = new_log_like[accepted_rows]


class _Proposals:
    """Proposals for all states, with the log ratios of priors and proposal densities."""

    def __init__(
        self, model: SpectrumModel, states: States, population: States, mixture: Mixture, rng: np.random.Generator
    ) -> None:
        self.prior, self.old_states, self.mixture, self.rng = model.prior, states, mixture, rng
        self.new_states = states.select(np.arange(len(states)))
        self.is_active: BoolArray = states.is_active()
        self.population = population
        self.peer_rows: dict[bytes, list[int]] = {}
        for row, structure in enumerate(population.structure_keys()):
            self.peer_rows.setdefault(structure, []).append(row)
        self.structure_keys = states.structure_keys()

    def make_proposals(self) -> tuple[States, FloatArray]:
        """Return the proposals and their log ratios, -inf for impossible proposals."""
        n_state, rng = len(self.old_states), self.rng
        log_ratio, move_choice = np.zeros(n_state), rng.random(n_state)
        keeps_structure = move_choice < P_AMOUNTS_MOVE + P_MEMBER_MOVE
        for row in range(n_state):
            if move_choice[row] < P_AMOUNTS_MOVE:
                log_ratio[row] = self._change_amounts(row)
            elif keeps_structure[row]:
                log_ratio[row] = self._change_members(row)
            else:
                log_ratio[row] = self._change_structure(row)
        log_layout_ratio = self.prior.log_layout_prior(self.new_states) - self.prior.log_layout_prior(self.old_states)
        # new members, and amounts in new layers, are drawn from the prior: prior and proposal densities cancel
        old_log_prior, new_log_prior = (
            log_prior_of_x(self.old_states, self.is_active),
            log_prior_of_x(self.new_states, self.is_active),
        )
        return self.new_states, log_ratio + log_layout_ratio + np.where(
            keeps_structure, new_log_prior - old_log_prior, 0.0
        )

    def _change_amounts(self, row: int) -> float:
        rng, move_choice = self.rng, self.rng.random()
        components, peer_rows = (
            self.mixture.components_with(self.structure_keys[row]),
            self.peer_rows.get(self.structure_keys[row], []),
        )
        if components and move_choice < 0.45:
            return self._step_about_component(row, components[rng.integers(len(components))])
        if len(peer_rows) >= 4 and move_choice < 0.85:
            return self._step_along_difference(row, peer_rows)
        active_indices = np.flatnonzero(self.is_active[row])
        changed_indices = np.unique(rng.choice(active_indices, rng.integers(1, 4)))
        step_size = rng.choice([0.05, 0.2, 0.6])
        old_x = self.old_states.x[row, changed_indices]
        self.new_states.x[row, changed_indices] = np.sqrt(1 - step_size**2) * old_x + step_size * rng.normal(
            size=changed_indices.size
        )
        # the move leaves the prior invariant, so that the prior ratio that the caller adds is subtracted here
        return float(0.5 * (self.new_states.x[row, changed_indices] ** 2).sum() - 0.5 * (old_x**2).sum())

    def _step_about_component(self, row: int, component: int) -> float:
        is_active, mixture, old_state = self.is_active[row], self.mixture, self.old_states.select([row])
        mode_coordinates = mixture.modes.states.x[component, is_active]
        step_size = self.rng.choice([0.15, 0.35, 0.7])
        coordinate_offset = mixture.cholesky[component] @ self.rng.normal(size=int(is_active.sum()))
        state, log_jacobian = mixture.with_members_of(component, old_state)
        log_ratio = mixture.log_normal(component, state.x[0])
        state.x[0, is_active] = (
            mode_coordinates
            + np.sqrt(1 - step_size**2) * (state.x[0, is_active] - mode_coordinates)
            + step_size * coordinate_offset
        )
        log_ratio -= mixture.log_normal(component, state.x[0])
        new_state, new_log_jacobian = self.prior.replace_members(state, old_state.member_index)
        self.new_states.x[row] = new_state.x[0]
        return log_ratio + float(log_jacobian[0] + new_log_jacobian[0])

    def _step_along_difference(self, row: int, peer_rows: list[int]) -> float:
        rng, is_active = self.rng, self.is_active[row]
        first_peer, second_peer = rng.choice(peer_rows, 2, replace=False)
        is_changed_coordinate = is_active if rng.random() < 0.5 else is_active & (rng.random(is_active.size) < 0.4)
        step_size = (
            2.38 / np.sqrt(2 * max(int(is_changed_coordinate.sum()), 1)) * rng.choice([0.3, 0.6, 1.0])
            if rng.random() < 0.9
            else 1.0
        )
        coordinate_step = step_size * (self.population.x[first_peer] - self.population.x[second_peer]) + rng.normal(
            0, 1e-3, is_active.size
        )
        self.new_states.x[row] += np.where(is_changed_coordinate, coordinate_step, 0.0)
        return 0.0

    def _change_members(self, row: int) -> float:
        """Draw the members of one to three groups in a layer from the prior, and keep the masses of their elements."""
        rng, state = self.rng, self.old_states.select([row])
        new_members = state.member_index.copy()
        for layer, group in rng.permutation(np.argwhere(state.is_in_layer[0]))[: rng.integers(1, 4)]:
            new_members[0, layer, group] = rng.integers(len(self.prior.members[group]))
        new_state, log_jacobian = self.prior.replace_members(state, new_members)
        self.new_states.replace(np.asarray([row]), new_state, np.asarray([0]))
        return float(log_jacobian[0])

    def _change_structure(self, row: int) -> float:
        rng, new_states, move_choice = self.rng, self.new_states, self.rng.random()
        n_layer, n_group = int(self.old_states.n_layer[row]), self.old_states.n_group
        layer, group = int(rng.integers(n_layer)), int(rng.integers(n_group))
        if move_choice < 0.45:
            new_states.is_in_layer[row, layer, group] ^= True
            if new_states.is_in_layer[row, layer, group]:
                new_states.layer_coordinates[row, layer, N_LAYER_COORDINATES + group] = rng.normal()
                new_states.member_index[row, layer, group] = rng.integers(len(self.prior.members[group]))
            return 0.0
        if move_choice < 0.7:
            if n_layer == 1:
                return -np.inf
            if move_choice < 0.62:
                exchange_group(new_states, row, group, layer, int((layer + 1 + rng.integers(n_layer - 1)) % n_layer))
            else:
                swap_layers(new_states, row, int(rng.integers(n_layer - 1)))
            return 0.0
        return self._change_number(row, layer)

    def _change_number(self, row: int, layer: int) -> float:
        """Insert a layer drawn from the prior, or remove a layer."""
        rng, new_states, n_layer = self.rng, self.new_states, int(self.old_states.n_layer[row])
        if rng.random() < 0.5:
            if n_layer == MAX_LAYERS:
                return -np.inf
            position = int(rng.integers(n_layer + 1))
            insert_layer(new_states, row, position, 0)
            is_entering = rng.random(new_states.n_group) < P_GROUP_IN_NEW_LAYER
            new_states.is_in_layer[row, position] = is_entering
            new_states.member_index[row, position] = self.prior.draw_members(1, rng)[0, 0]
            new_states.layer_coordinates[row, position] = rng.normal(size=new_states.layer_coordinates.shape[2])
            return -_log_probability_of_entering(is_entering)
        if n_layer == 1:
            return -np.inf
        log_probability_removed = _log_probability_of_entering(self.old_states.is_in_layer[row, layer])
        remove_layer(new_states, row, layer)
        return log_probability_removed


def _log_probability_of_entering(is_entering: BoolArray) -> float:
    return float(np.sum(np.where(is_entering, np.log(P_GROUP_IN_NEW_LAYER), np.log1p(-P_GROUP_IN_NEW_LAYER))))
