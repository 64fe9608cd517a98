"""Search for the layer structures that are consistent with a spectrum."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from underpaint.pigments.explain.mixture import (
    Mixture,
    Modes,
    climb,
    concatenate_modes,
    residual_derivatives,
    take_step,
)
from underpaint.pigments.explain.spectrum_model import SpectrumModel
from underpaint.pigments.explain.states import MAX_LAYERS, N_LAYER_COORDINATES, PaintPrior, States, concatenate_states

BETA = 0.15
"""Power of the likelihood in the search; at full power, optimisations would not leave their initial mode."""
N_SCREENED, MAX_MODES = 400, 40
CLIMB_ROUNDS, REFINE_ROUNDS = 6, 3
N_NEIGHBOURS, N_CLIMBED = 60, 8
"""Number of neighbours in each round, and of those that are optimised."""
N_VARIANTS = 16
"""Number of alternative members that are optimised in the likeliest mode."""


def search(model: SpectrumModel, rng: np.random.Generator) -> Modes:
    """Return modes of likely structures, the likeliest first.

    Draws from the prior are screened, and the best draws of different structures are optimised. Then neighbours of the
    likeliest modes, which differ in one change, are ranked by two linear steps, and the best are optimised. Finally,
    other members are tried in the likeliest mode.
    """
    prior = model.prior
    simple = simple_starts(prior)
    valid_starts = simple.rows(np.flatnonzero(prior.is_valid(simple)))
    start_states = concatenate_states([_screened_draws(model, rng), valid_starts])
    log_like = model.log_likelihood(start_states)
    n_group = len(prior.groups)
    modes = climb(model, start_states.rows(np.argsort(-log_like)[: 6 + 2 * n_group]), BETA, CLIMB_ROUNDS)
    modes = _best_modes(prior, modes, BETA)
    for beta in (BETA, 0.4, *(1.0,) * n_group):
        neighbours = promising_neighbours(model, modes, beta, rng)
        if neighbours is None:
            break
        modes = _best_modes(prior, concatenate_modes([modes, climb(model, neighbours, beta, REFINE_ROUNDS)]), beta)
    return with_other_members(model, modes, int(Mixture(prior, modes, 1.0).evidence.argmax()))


def _best_modes(prior: PaintPrior, modes: Modes, beta: float) -> Modes:
    evidence = Mixture(prior, modes, beta).evidence
    return modes.rows(np.argsort(-evidence)[:MAX_MODES])


def _screened_draws(model: SpectrumModel, rng: np.random.Generator) -> States:
    """Return the best draws from the prior, each with a different structure."""
    states = model.prior.draw(N_SCREENED, rng)
    ranked_rows = np.argsort(-model.log_likelihood(states))
    structures = states.structures()
    row_by_structure = {structures[row]: row for row in ranked_rows[::-1]}
    return states.rows(sorted(row_by_structure.values(), key=list(ranked_rows).index)[:20])


def simple_starts(prior: PaintPrior) -> States:
    """Return a state with all groups in one layer, and states with one group alone above or below all others."""
    n_group = len(prior.groups)
    n = 1 + 2 * n_group if n_group > 1 else 1
    holds = np.zeros((n, MAX_LAYERS, n_group), dtype=np.bool_)
    holds[0, 0] = True
    for group in range(n_group if n > 1 else 0):
        for layer in (0, 1):
            row = 1 + 2 * group + layer
            holds[row, 1 - layer] = True
            holds[row, :2, group] = np.arange(2) == layer
    n_layer = np.where(np.arange(n) > 0, 2, 1)
    return States(n_layer, holds, np.zeros(holds.shape, dtype=np.int64), np.zeros((n, prior.n_coordinate)))


def promising_neighbours(model: SpectrumModel, modes: Modes, beta: float, rng: np.random.Generator) -> States | None:
    """Return the best neighbours of likely modes; None if none is new."""
    evidence = Mixture(model.prior, modes, beta).evidence
    parent_weight = np.exp(0.4 * (evidence - evidence.max()))
    parents = rng.choice(len(modes), N_NEIGHBOURS, p=parent_weight / parent_weight.sum())
    candidates = [neighbour(model.prior, modes.states.rows([parent]), rng) for parent in parents]
    return _most_promising(model, modes, parents, candidates, beta, N_CLIMBED)


def with_other_members(model: SpectrumModel, modes: Modes, row: int) -> Modes:
    """Return modes, and the best variants of one of them in which a group is represented by another member."""
    prior, changed = model.prior, []
    for group, members in enumerate(prior.members):
        for member in range(len(members)):
            changed.append(modes.states.rows([row]))
            set_member(prior, changed[-1], 0, group, member)
    variants = _most_promising(model, modes, np.full(len(changed), row), changed, 1.0, N_VARIANTS)
    return modes if variants is None else concatenate_modes([modes, climb(model, variants, 1.0, REFINE_ROUNDS)])


def _most_promising(
    model: SpectrumModel,
    modes: Modes,
    parents: NDArray[np.integer],
    candidates: Sequence[States],
    beta: float,
    max_states: int,
) -> States | None:
    """Return the best of some candidates after two linear steps; None if none is new.

    The derivatives of a candidate are those of its parent, except for coordinates that become active.
    """
    known_compositions, new_rows = set(modes.states.compositions()), []
    for row, candidate in enumerate(candidates):
        composition = candidate.compositions()[0]
        if composition not in known_compositions:
            known_compositions.add(composition)
            new_rows.append(row)
    if not new_rows:
        return None
    states, parents = concatenate_states([candidates[row] for row in new_rows]), parents[new_rows]
    active, was_active = states.active(), modes.states.active()[parents]
    is_new, scores, gains = active & ~was_active, model.prior.log_discrete(states), np.zeros(len(states))
    for _ in range(2):
        residuals, _ = model.evaluate(states)
        new_derivatives = residual_derivatives(model, states, is_new, residuals)
        for row, parent in enumerate(parents):
            is_shared = was_active[row] & active[row]
            parent_derivatives = modes.jacobians[parent][is_shared[was_active[row]]].astype(np.float64)
            derivatives = np.concatenate([parent_derivatives, new_derivatives[row]])
            free_indices = np.concatenate([np.flatnonzero(is_shared), np.flatnonzero(is_new[row])])
            hessian = beta * derivatives @ derivatives.T + np.eye(free_indices.size)
            gradient = beta * derivatives @ residuals[row] + states.x[row, free_indices]
            step = -np.linalg.solve(hessian, gradient)
            log_density = -0.5 * beta * (residuals[row] ** 2).sum() - 0.5 * (states.x[row, active[row]] ** 2).sum()
            gains[row] = log_density - 0.5 * gradient @ step - 0.5 * np.linalg.slogdet(hessian)[1]
            states.x[row, free_indices] = take_step(states.x[row, free_indices], step)
    return states.rows(np.argsort(-(scores + gains))[:max_states])


def neighbour(prior: PaintPrior, state: States, rng: np.random.Generator) -> States:
    """Return a valid state that differs by one change; the given state if none is found."""
    start_composition = state.compositions()
    for _ in range(50):
        changed_state = state.rows([0])
        _change_structure(prior, changed_state, rng)
        if prior.is_valid(changed_state)[0] and changed_state.compositions() != start_composition:
            return changed_state
    return state


def _change_structure(prior: PaintPrior, state: States, rng: np.random.Generator) -> None:
    """Make one change: add, remove or move a group; swap, split or merge layers; or replace a member."""
    n_layer, n_group = int(state.n_layer[0]), state.n_group
    holds, layers, choice = state.holds[0], state.layers[0], rng.random()
    layer, group = int(rng.integers(n_layer)), int(rng.integers(n_group))
    if choice < 0.3:
        holds[layer, group] ^= True
        layers[layer, N_LAYER_COORDINATES + group] = -1.5 if holds[layer, group] else 0.0
    elif choice < 0.5 and n_layer > 1:
        exchange_group(state, 0, group, layer, int((layer + 1 + rng.integers(n_layer - 1)) % n_layer))
    elif choice < 0.6 and n_layer > 1:
        swap_layers(state, 0, int(rng.integers(n_layer - 1)))
    elif choice < 0.72:
        set_member(prior, state, 0, group, int(rng.integers(len(prior.members[group]))))
    elif choice < 0.9 and n_layer < MAX_LAYERS:
        insert_layer(state, 0, layer, layer)
        is_upper = rng.random(n_group) < 0.5
        holds[layer] &= is_upper
        holds[layer + 1] &= ~is_upper | (rng.random(n_group) < 0.2)
    elif n_layer > 1:
        upper_layer = int(rng.integers(n_layer - 1))
        holds[upper_layer] |= holds[upper_layer + 1]
        remove_layer(state, 0, upper_layer + 1)


def set_member(prior: PaintPrior, state: States, row: int, group: int, member: int) -> None:
    """Replace a group's members in all layers of a state, with the same mass of the group's element."""
    unchanged = state.rows(np.arange(len(state)))
    state.member[row, :, group] = member
    for layer in np.flatnonzero(state.holds[row, :, group]):
        prior.keep_mass(unchanged, state, row, int(layer), group)


def swap_layers(state: States, row: int, upper: int) -> None:
    """Swap a layer of a state with the one below it."""
    order = list(range(MAX_LAYERS))
    order[upper], order[upper + 1] = upper + 1, upper
    state.permute_layers(row, order)


def exchange_group(state: States, row: int, group: int, first: int, second: int) -> None:
    """Exchange a group between two layers."""
    for values in (
        state.holds[row, :, group],
        state.member[row, :, group],
        state.layers[row, :, N_LAYER_COORDINATES + group],
    ):
        values[[first, second]] = values[[second, first]]


def insert_layer(state: States, row: int, position: int, source_layer: int) -> None:
    """Insert a layer, a copy of layer ``source_layer``, above the one at ``position``."""
    n_layer = int(state.n_layer[row])
    order = [*range(position), source_layer, *range(position, n_layer), *range(n_layer + 1, MAX_LAYERS)]
    state.permute_layers(row, order[:MAX_LAYERS])
    state.n_layer[row] += 1


def remove_layer(state: States, row: int, position: int) -> None:
    """Remove a layer of a state."""
    n_layer = int(state.n_layer[row])
    order = [*range(position), *range(position + 1, n_layer), position, *range(n_layer, MAX_LAYERS)]
    state.permute_layers(row, order)
    state.n_layer[row] -= 1
    state.holds[row, n_layer - 1] = False
