"""Sequential Monte Carlo from a mixture about the modes to the posterior, with moves between structures."""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from underpaint.pigments.explain.mixture import Mixture, Modes
from underpaint.pigments.explain.search import BETA, exchange, insert_layer, remove_layer, swap_layers
from underpaint.pigments.explain.spectrum_model import SpectrumModel
from underpaint.pigments.explain.states import LAYER_HEAD, MOST_LAYERS, Flags, Integers, Numbers, States, log_prior_of_x

N_STATE, INITIAL = 200, 4
"""Draws of the posterior, and how many times as many are drawn of the mixture."""
SWEEPS, LAST_SWEEPS = 2, 5
"""Moves of every state at each temperature, and at the last."""
LEAST_EFFECTIVE = 0.5
"""Share of effective draws that a change of temperature leaves."""
ENTERING = 0.35
"""Chance of each group to be in a layer that is proposed."""


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
    log_likelihood: Numbers
    log_evidence: float


def sample(model: SpectrumModel, modes: Modes, rng: np.random.Generator, *, n: int | None = None) -> Sample:
    """Draw states of the posterior.

    Parameters
    ----------
    model : SpectrumModel
    modes : Modes
        Of a search; their likelihoods are computed anew.
    rng : Generator
    n : int, optional
        Draws; ``N_STATE`` by default.

    Notes
    -----
    Tempering by effective sample size (Del Moral, Doucet & Jasra 2006), here from the power ``BETA`` of the likelihood,
    where the mixture is nearly the posterior. Moves: preconditioned Crank-Nicolson about the mixture's components and
    the prior, differential evolution (ter Braak 2006), draws of the mixture, and reversible changes of structure
    (Green 1995) whose new coordinates come from the prior.
    """
    prior, n = model.prior, n or N_STATE
    modes = Modes(modes.states, model.log_likelihood(modes.states), modes.jacobians)
    beta, mixture = BETA, Mixture(prior, modes, BETA)
    states = mixture.draw(INITIAL * n, rng)
    log_like = model.log_likelihood(states)
    log_weight = _log_target(model, states, log_like, beta) - mixture.log_density(states)
    log_evidence = float(logsumexp(log_weight) - np.log(len(states)))
    rows = _systematic(log_weight, n, rng)
    states, log_like = states.rows(rows), log_like[rows]
    while True:
        _move(model, states, log_like, beta, mixture, rng, SWEEPS if beta < 1 else LAST_SWEEPS)
        if beta >= 1:
            return Sample(states, log_like, log_evidence)
        after = _next_temperature(log_like, beta)
        log_weight = (after - beta) * log_like
        log_evidence += float(logsumexp(log_weight) - np.log(n))
        rows = _systematic(log_weight, n, rng)
        states, log_like, beta = states.rows(rows), log_like[rows], after
        mixture = Mixture(prior, modes, beta)


def _log_target(model: SpectrumModel, states: States, log_like: Numbers, beta: float) -> Numbers:
    of_x = log_prior_of_x(states, states.active())
    return np.asarray(beta * log_like + of_x + model.prior.log_discrete(states))


def _systematic(log_weight: Numbers, n: int, rng: np.random.Generator) -> Integers:
    """Resample with little noise (systematic resampling)."""
    weight = np.exp(log_weight - log_weight.max())
    steps = (rng.random() + np.arange(n)) / n
    return np.minimum(np.searchsorted(np.cumsum(weight / weight.sum()), steps), len(weight) - 1)


def _next_temperature(log_like: Numbers, beta: float) -> float:
    """Return the largest power at which enough draws stay effective."""

    def effective(other: float) -> float:
        weight = np.exp((other - beta) * (log_like - log_like.max()))
        return float(weight.sum() ** 2 / (weight**2).sum() / len(weight))

    if effective(1.0) >= LEAST_EFFECTIVE:
        return 1.0
    low, high = beta, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if effective(middle) > LEAST_EFFECTIVE else (low, middle)
    return max(low, beta + 1e-6)


def _move(
    model: SpectrumModel,
    states: States,
    log_like: Numbers,
    beta: float,
    mixture: Mixture,
    rng: np.random.Generator,
    sweeps: int,
) -> None:
    """Move all states in place; each half takes the other as its population."""
    n = len(states)
    for turn in range(sweeps):
        if turn % 3 == 1:
            _draw_anew(model, states, log_like, beta, mixture, rng)
        # what does not act follows its prior
        states.x[:] = np.where(states.active(), states.x, rng.normal(size=states.x.shape))
        shuffled = rng.permutation(n)
        first, second = shuffled[: n // 2], shuffled[n // 2 :]
        for moving, population in ((first, second), (second, first)):
            old = states.rows(moving)
            new, log_ratio = _Proposals(model, old, states.rows(population), mixture, rng).make()
            possible = np.flatnonzero(np.isfinite(log_ratio))
            log_like_of_new = np.full(len(moving), -1e30)
            log_like_of_new[possible] = model.log_likelihood(new.rows(possible))
            accepted = np.log(rng.random(len(moving))) < beta * (log_like_of_new - log_like[moving]) + log_ratio
            states.replace(moving[accepted], new, np.flatnonzero(accepted))
            log_like[moving[accepted]] = log_like_of_new[accepted]


def _draw_anew(
    model: SpectrumModel, states: States, log_like: Numbers, beta: float, mixture: Mixture, rng: np.random.Generator
) -> None:
    """Propose independent draws of the mixture for all states, across structures and members."""
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
        self.active: Flags = states.active()
        self.composition = states.compositions()
        self.population = population
        self.peers: dict[bytes, list[int]] = {}
        for row, structure in enumerate(population.structures()):
            self.peers.setdefault(structure, []).append(row)
        self.structure = states.structures()

    def make(self) -> tuple[States, Numbers]:
        """Return the proposals and the log ratios; minus infinity where one is impossible."""
        n, rng = len(self.old), self.rng
        log_ratio, in_place = np.zeros(n), rng.random(n) < 0.7
        for row in range(n):
            log_ratio[row] = self._change_amounts(row) if in_place[row] else self._change_structure(row)
        layout = self.prior.log_layout(self.new) - self.prior.log_layout(self.old)
        # what enters comes from the prior, amounts and members alike, so that its density cancels
        before, after = log_prior_of_x(self.old, self.active), log_prior_of_x(self.new, self.active)
        return self.new, log_ratio + layout + np.where(in_place, after - before, 0.0)

    def _change_amounts(self, row: int) -> float:
        rng, kind = self.rng, self.rng.random()
        components, peers = self.mixture.components(self.composition[row]), self.peers.get(self.structure[row], [])
        if components and kind < 0.45:
            return self._about_component(row, components[rng.integers(len(components))])
        if len(peers) >= 4 and kind < 0.85:
            return self._along_difference(row, peers)
        on = np.flatnonzero(self.active[row])
        some = np.unique(rng.choice(on, rng.integers(1, 4)))
        size = rng.choice([0.05, 0.2, 0.6])
        old = self.old.x[row, some]
        self.new.x[row, some] = np.sqrt(1 - size**2) * old + size * rng.normal(size=some.size)
        # the move leaves the prior as it is: take back what the caller adds
        return float(0.5 * (self.new.x[row, some] ** 2).sum() - 0.5 * (old**2).sum())

    def _about_component(self, row: int, component: int) -> float:
        on, mixture = self.active[row], self.mixture
        middle = mixture.modes.states.x[component, on]
        size = self.rng.choice([0.15, 0.35, 0.7])
        bell = mixture.cholesky[component] @ self.rng.normal(size=int(on.sum()))
        self.new.x[row, on] = middle + np.sqrt(1 - size**2) * (self.old.x[row, on] - middle) + size * bell
        return mixture.log_bell(component, self.old.x[row]) - mixture.log_bell(component, self.new.x[row])

    def _along_difference(self, row: int, peers: list[int]) -> float:
        rng, on = self.rng, self.active[row]
        one, other = rng.choice(peers, 2, replace=False)
        some = on if rng.random() < 0.5 else on & (rng.random(on.size) < 0.4)
        size = 2.38 / np.sqrt(2 * max(int(some.sum()), 1)) * rng.choice([0.3, 0.6, 1.0]) if rng.random() < 0.9 else 1.0
        step = size * (self.population.x[one] - self.population.x[other]) + rng.normal(0, 1e-3, on.size)
        self.new.x[row] += np.where(some, step, 0.0)
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
                new.layers[row, layer, LAYER_HEAD + group] = rng.normal()
                new.member[row, layer, group] = rng.integers(len(self.prior.members[group]))
            return 0.0
        if kind < 0.8:
            if n_layer == 1:
                return -np.inf
            if kind < 0.75:
                exchange(new, row, group, layer, int((layer + 1 + rng.integers(n_layer - 1)) % n_layer))
            else:
                swap_layers(new, row, int(rng.integers(n_layer - 1)))
            return 0.0
        return self._change_number(row, layer)

    def _change_number(self, row: int, layer: int) -> float:
        """Insert a layer of the prior, or remove one."""
        rng, new, n_layer = self.rng, self.new, int(self.old.n_layer[row])
        if rng.random() < 0.5:
            if n_layer == MOST_LAYERS:
                return -np.inf
            at = int(rng.integers(n_layer + 1))
            insert_layer(new, row, at, 0)
            entering = rng.random(new.n_group) < ENTERING
            new.holds[row, at] = entering
            new.member[row, at] = self.prior.draw_members(1, rng)[0, 0]
            new.layers[row, at] = rng.normal(size=new.layers.shape[2])
            return -_log_chance(entering)
        if n_layer == 1:
            return -np.inf
        gone = _log_chance(self.old.holds[row, layer])
        remove_layer(new, row, layer)
        return gone


def _log_chance(entering: Flags) -> float:
    return float(np.sum(np.where(entering, np.log(ENTERING), np.log1p(-ENTERING))))
