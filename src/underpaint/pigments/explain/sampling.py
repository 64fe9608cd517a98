"""Sequential Monte Carlo from a mixture around the modes to the posterior, with moves between structures."""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from underpaint.pigments.explain.mixture import Mixture, Modes
from underpaint.pigments.explain.search import BETA, exchange_group, insert_layer, remove_layer, swap_layers
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

N_STATE, INITIAL_FACTOR = 200, 4
"""Number of posterior draws, and the factor by which more states are drawn from the mixture."""
SWEEPS, LAST_SWEEPS = 2, 5
"""Moves of every state at each temperature, and at the final one."""
MIN_EFFECTIVE_FRACTION = 0.5
"""Minimum effective fraction of the draws after a change of temperature."""
P_ENTERING = 0.35
"""Probability of each group to be in a proposed layer."""


@dataclass
class Sample:
    """Draws of the posterior, equally likely.

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
        Modes from a search; their likelihoods are computed again.
    rng : Generator
        Random number generator.
    n : int, optional
        Number of draws; ``N_STATE`` by default.

    Notes
    -----
    Tempering by effective sample size (Del Moral, Doucet & Jasra 2006), starting at the power ``BETA`` of the
    likelihood, where the mixture is close to the posterior. Moves: preconditioned Crank-Nicolson around the mixture's
    components and the prior, differential evolution (ter Braak 2006), draws from the mixture, and reversible changes of
    structure (Green 1995) with new coordinates from the prior.
    """
    prior, n = model.prior, n or N_STATE
    modes = Modes(modes.states, model.log_likelihood(modes.states), modes.jacobians)
    beta, mixture = BETA, Mixture(prior, modes, BETA)
    states = mixture.draw(INITIAL_FACTOR * n, rng)
    log_like = model.log_likelihood(states)
    log_weight = _log_target(model, states, log_like, beta) - mixture.log_density(states)
    log_evidence = float(logsumexp(log_weight) - np.log(len(states)))
    rows = _resample(log_weight, n, rng)
    states, log_like = states.rows(rows), log_like[rows]
    while True:
        _move_states(model, states, log_like, beta, mixture, rng, SWEEPS if beta < 1 else LAST_SWEEPS)
        if beta >= 1:
            return Sample(states, log_like, log_evidence)
        next_beta = _next_temperature(log_like, beta)
        log_weight = (next_beta - beta) * log_like
        log_evidence += float(logsumexp(log_weight) - np.log(n))
        rows = _resample(log_weight, n, rng)
        states, log_like, beta = states.rows(rows), log_like[rows], next_beta
        mixture = Mixture(prior, modes, beta)


def _log_target(model: SpectrumModel, states: States, log_like: FloatArray, beta: float) -> FloatArray:
    of_x = log_prior_of_x(states, states.active())
    return np.asarray(beta * log_like + of_x + model.prior.log_discrete(states))


def _resample(log_weight: FloatArray, n: int, rng: np.random.Generator) -> IntArray:
    """Return the rows of a systematic resampling, which adds little noise."""
    weight = np.exp(log_weight - log_weight.max())
    steps = (rng.random() + np.arange(n)) / n
    return np.minimum(np.searchsorted(np.cumsum(weight / weight.sum()), steps), len(weight) - 1)


def _next_temperature(log_like: FloatArray, beta: float) -> float:
    """Return the largest power of the likelihood at which enough draws remain effective."""

    def effective_fraction(trial_beta: float) -> float:
        weight = np.exp((trial_beta - beta) * (log_like - log_like.max()))
        return float(weight.sum() ** 2 / (weight**2).sum() / len(weight))

    if effective_fraction(1.0) >= MIN_EFFECTIVE_FRACTION:
        return 1.0
    lower, upper = beta, 1.0
    for _ in range(30):
        middle = (lower + upper) / 2
        lower, upper = (middle, upper) if effective_fraction(middle) > MIN_EFFECTIVE_FRACTION else (lower, middle)
    return max(lower, beta + 1e-6)


def _move_states(
    model: SpectrumModel,
    states: States,
    log_like: FloatArray,
    beta: float,
    mixture: Mixture,
    rng: np.random.Generator,
    sweeps: int,
) -> None:
    """Move all states in place; each half uses the other half as its population."""
    n = len(states)
    for sweep in range(sweeps):
        if sweep % 3 == 1:
            _propose_from_mixture(model, states, log_like, beta, mixture, rng)
        # inactive coordinates follow their prior
        states.x[:] = np.where(states.active(), states.x, rng.normal(size=states.x.shape))
        shuffled = rng.permutation(n)
        first_half, second_half = shuffled[: n // 2], shuffled[n // 2 :]
        for moving, population in ((first_half, second_half), (second_half, first_half)):
            current = states.rows(moving)
            proposed, log_ratio = _Proposals(model, current, states.rows(population), mixture, rng).make()
            possible_rows = np.flatnonzero(np.isfinite(log_ratio))
            log_like_of_new = np.full(len(moving), -1e30)
            log_like_of_new[possible_rows] = model.log_likelihood(proposed.rows(possible_rows))
            accepted = np.log(rng.random(len(moving))) < beta * (log_like_of_new - log_like[moving]) + log_ratio
            states.replace(moving[accepted], proposed, np.flatnonzero(accepted))
            log_like[moving[accepted]] = log_like_of_new[accepted]


def _propose_from_mixture(
    model: SpectrumModel, states: States, log_like: FloatArray, beta: float, mixture: Mixture, rng: np.random.Generator
) -> None:
    """Propose independent draws from the mixture for all states, across structures and members."""
    new = mixture.draw(len(states), rng)
    log_like_of_new = model.log_likelihood(new)
    gain = _log_target(model, new, log_like_of_new, beta) - _log_target(model, states, log_like, beta)
    gain += mixture.log_density(states) - mixture.log_density(new)
    accepted = np.flatnonzero(np.log(rng.random(len(states))) < gain)
    states.replace(accepted, new, accepted)
    log_like[accepted] = log_like_of_new[accepted]


class _Proposals:
    """One proposal for every state, with the log ratio of priors and proposal densities."""

    def __init__(
        self, model: SpectrumModel, states: States, population: States, mixture: Mixture, rng: np.random.Generator
    ) -> None:
        self.prior, self.old, self.mixture, self.rng = model.prior, states, mixture, rng
        self.new = states.rows(np.arange(len(states)))
        self.active: BoolArray = states.active()
        self.composition = states.compositions()
        self.population = population
        self.peers: dict[bytes, list[int]] = {}
        for row, structure in enumerate(population.structures()):
            self.peers.setdefault(structure, []).append(row)
        self.structure = states.structures()

    def make(self) -> tuple[States, FloatArray]:
        """Return the proposals and the log ratios; minus infinity for impossible proposals."""
        n, rng = len(self.old), self.rng
        log_ratio, in_place = np.zeros(n), rng.random(n) < 0.7
        for row in range(n):
            log_ratio[row] = self._change_amounts(row) if in_place[row] else self._change_structure(row)
        layout = self.prior.log_layout(self.new) - self.prior.log_layout(self.old)
        # new amounts and members come from the prior, so that their densities cancel
        before, after = log_prior_of_x(self.old, self.active), log_prior_of_x(self.new, self.active)
        return self.new, log_ratio + layout + np.where(in_place, after - before, 0.0)

    def _change_amounts(self, row: int) -> float:
        rng, kind = self.rng, self.rng.random()
        components, peers = self.mixture.components(self.composition[row]), self.peers.get(self.structure[row], [])
        if components and kind < 0.45:
            return self._about_component(row, components[rng.integers(len(components))])
        if len(peers) >= 4 and kind < 0.85:
            return self._along_difference(row, peers)
        active_indices = np.flatnonzero(self.active[row])
        changed_indices = np.unique(rng.choice(active_indices, rng.integers(1, 4)))
        size = rng.choice([0.05, 0.2, 0.6])
        old_x = self.old.x[row, changed_indices]
        self.new.x[row, changed_indices] = np.sqrt(1 - size**2) * old_x + size * rng.normal(size=changed_indices.size)
        # the move leaves the prior invariant: subtract the prior ratio that the caller adds
        return float(0.5 * (self.new.x[row, changed_indices] ** 2).sum() - 0.5 * (old_x**2).sum())

    def _about_component(self, row: int, component: int) -> float:
        is_active, mixture = self.active[row], self.mixture
        mode_x = mixture.modes.states.x[component, is_active]
        size = self.rng.choice([0.15, 0.35, 0.7])
        offset = mixture.cholesky[component] @ self.rng.normal(size=int(is_active.sum()))
        self.new.x[row, is_active] = (
            mode_x + np.sqrt(1 - size**2) * (self.old.x[row, is_active] - mode_x) + size * offset
        )
        return mixture.log_normal(component, self.old.x[row]) - mixture.log_normal(component, self.new.x[row])

    def _along_difference(self, row: int, peers: list[int]) -> float:
        rng, is_active = self.rng, self.active[row]
        first_peer, second_peer = rng.choice(peers, 2, replace=False)
        is_changed = is_active if rng.random() < 0.5 else is_active & (rng.random(is_active.size) < 0.4)
        size = (
            2.38 / np.sqrt(2 * max(int(is_changed.sum()), 1)) * rng.choice([0.3, 0.6, 1.0])
            if rng.random() < 0.9
            else 1.0
        )
        step = size * (self.population.x[first_peer] - self.population.x[second_peer]) + rng.normal(
            0, 1e-3, is_active.size
        )
        self.new.x[row] += np.where(is_changed, step, 0.0)
        return 0.0

    def _change_structure(self, row: int) -> float:
        rng, new, kind = self.rng, self.new, self.rng.random()
        n_layer, n_group = int(self.old.n_layer[row]), self.old.n_group
        layer, group = int(rng.integers(n_layer)), int(rng.integers(n_group))
        if kind < 0.3:
            new.member[row, layer, group] = rng.integers(len(self.prior.members[group]))
            return self.prior.keep_mass(self.old, new, row, layer, group)
        if kind < 0.6:
            new.holds[row, layer, group] ^= True
            if new.holds[row, layer, group]:
                new.layers[row, layer, N_LAYER_COORDINATES + group] = rng.normal()
                new.member[row, layer, group] = rng.integers(len(self.prior.members[group]))
            return 0.0
        if kind < 0.8:
            if n_layer == 1:
                return -np.inf
            if kind < 0.75:
                exchange_group(new, row, group, layer, int((layer + 1 + rng.integers(n_layer - 1)) % n_layer))
            else:
                swap_layers(new, row, int(rng.integers(n_layer - 1)))
            return 0.0
        return self._change_number(row, layer)

    def _change_number(self, row: int, layer: int) -> float:
        """Insert a layer drawn from the prior, or remove a layer."""
        rng, new, n_layer = self.rng, self.new, int(self.old.n_layer[row])
        if rng.random() < 0.5:
            if n_layer == MAX_LAYERS:
                return -np.inf
            position = int(rng.integers(n_layer + 1))
            insert_layer(new, row, position, 0)
            is_entering = rng.random(new.n_group) < P_ENTERING
            new.holds[row, position] = is_entering
            new.member[row, position] = self.prior.draw_members(1, rng)[0, 0]
            new.layers[row, position] = rng.normal(size=new.layers.shape[2])
            return -_log_probability_of_entering(is_entering)
        if n_layer == 1:
            return -np.inf
        log_probability_removed = _log_probability_of_entering(self.old.holds[row, layer])
        remove_layer(new, row, layer)
        return log_probability_removed


def _log_probability_of_entering(entering: BoolArray) -> float:
    return float(np.sum(np.where(entering, np.log(P_ENTERING), np.log1p(-P_ENTERING))))
