"""Search for the layer structures that are consistent with a spectrum."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from underpaint.pigments.explain.mixture import (
    Mixture,
    Modes,
    concatenate_modes,
    optimise_modes,
    residual_derivatives,
    take_step,
)
from underpaint.pigments.explain.spectrum_model import SpectrumModel
from underpaint.pigments.explain.states import MAX_LAYERS, N_LAYER_COORDINATES, PaintPrior, States, concatenate_states

SEARCH_BETA = 0.15
"""Power of the likelihood in the search. With a power of 1, optimisations would not leave their initial mode."""
N_SCREENED, MAX_MODES = 400, 40
N_OPTIMISATION_ROUNDS, N_REFINEMENT_ROUNDS = 6, 3
N_NEIGHBOURS, N_OPTIMISED = 60, 8
"""Number of neighbouring states that are drawn in each round, and number that are optimised."""
N_VARIANTS = 16
"""Number of optimised variants of the likeliest mode in which a group has another member."""


def search(model: SpectrumModel, rng: np.random.Generator) -> Modes:
    """Return modes of likely structures, the likeliest first.

    First, the likeliest prior draws of different structures are optimised. Then states that differ from the likeliest
    modes by one change are ranked by two linear steps. The best of these states are optimised. Finally, other members
    of the groups are tried in the likeliest mode.
    """
    prior = model.prior
    simple_states = simple_start_states(prior)
    valid_starts = simple_states.select(np.flatnonzero(prior.is_valid(simple_states)))
    start_states = concatenate_states([_screened_draws(model, rng), valid_starts])
    log_like = model.log_likelihood(start_states)
    n_group = len(prior.groups)
    modes = optimise_modes(
        model, start_states.select(np.argsort(-log_like)[: 6 + 2 * n_group]), SEARCH_BETA, N_OPTIMISATION_ROUNDS
    )
    modes = _best_modes(prior, modes, SEARCH_BETA)
    for beta in (SEARCH_BETA, 0.4, *(1.0,) * n_group):
        neighbours = promising_neighbours(model, modes, beta, rng)
        if neighbours is None:
            break
        modes = _best_modes(
            prior, concatenate_modes([modes, optimise_modes(model, neighbours, beta, N_REFINEMENT_ROUNDS)]), beta
        )
    return with_other_members(model, modes, int(Mixture(prior, modes, 1.0).log_evidence.argmax()))


def _best_modes(prior: PaintPrior, modes: Modes, beta: float) -> Modes:
    log_evidence = Mixture(prior, modes, beta).log_evidence
    return modes.select(np.argsort(-log_evidence)[:MAX_MODES])


def _screened_draws(model: SpectrumModel, rng: np.random.Generator) -> States:
    """Return the likeliest draws from the prior, at most one for each structure."""
    states = model.prior.draw(N_SCREENED, rng)
    ranked_rows = np.argsort(-model.log_likelihood(states))
    structures = states.structure_keys()
    row_by_structure = {structures[draw_row]: draw_row for draw_row in ranked_rows[::-1]}
    return states.select(sorted(row_by_structure.values(), key=list(ranked_rows).index)[:20])


def simple_start_states(prior: PaintPrior) -> States:
    """Return a state with all groups in one layer, and states with one group above or below all other groups."""
    n_group = len(prior.groups)
    n = 1 + 2 * n_group if n_group > 1 else 1
    is_in_layer = np.zeros((n, MAX_LAYERS, n_group), dtype=np.bool_)
    is_in_layer[0, 0] = True
    for group in range(n_group if n > 1 else 0):
        for layer in (0, 1):
            state_index = 1 + 2 * group + layer
            is_in_layer[state_index, 1 - layer] = True
            is_in_layer[state_index, :2, group] = np.arange(2) == layer
    n_layer = np.where(np.arange(n) > 0, 2, 1)
    return States(n_layer, is_in_layer, np.zeros(is_in_layer.shape, dtype=np.int64), np.zeros((n, prior.n_coordinate)))


def promising_neighbours(model: SpectrumModel, modes: Modes, beta: float, rng: np.random.Generator) -> States | None:
    """Return the best states that differ from likely modes by one change, or None if no such state is new."""
    log_evidence = Mixture(model.prior, modes, beta).log_evidence
    parent_weight = np.exp(0.4 * (log_evidence - log_evidence.max()))
    parents = rng.choice(len(modes), N_NEIGHBOURS, p=parent_weight / parent_weight.sum())
    candidates = [random_neighbour(model.prior, modes.states.select([parent]), rng) for parent in parents]
    return _best_candidates(model, modes, parents, candidates, beta, N_OPTIMISED)


def with_other_members(model: SpectrumModel, modes: Modes, mode_index: int) -> Modes:
    """Return the modes, plus the best variants of one mode that contain another member of a group."""
    prior, changed_states = model.prior, []
    for group, members in enumerate(prior.members):
        for member_index in range(len(members)):
            changed_states.append(modes.states.select([mode_index]))
            set_member(prior, changed_states[-1], 0, group, member_index)
    variants = _best_candidates(model, modes, np.full(len(changed_states), mode_index), changed_states, 1.0, N_VARIANTS)
    return (
        modes
        if variants is None
        else concatenate_modes([modes, optimise_modes(model, variants, 1.0, N_REFINEMENT_ROUNDS)])
    )


def _best_candidates(
    model: SpectrumModel,
    modes: Modes,
    parents: NDArray[np.integer],
    candidates: Sequence[States],
    beta: float,
    max_states: int,
) -> States | None:
    """Return the best candidate states after two linear steps, or None if no candidate is new.

    The derivatives of a candidate are those of its parent, except for coordinates that become active.
    """
    known_compositions, new_indices = set(modes.states.composition_keys()), []
    for candidate_index, candidate in enumerate(candidates):
        composition = candidate.composition_keys()[0]
        if composition not in known_compositions:
            known_compositions.add(composition)
            new_indices.append(candidate_index)
    if not new_indices:
        return None
    states, parents = (
        concatenate_states([candidates[candidate_index] for candidate_index in new_indices]),
        parents[new_indices],
    )
    is_active_now, is_active_before = states.is_active(), modes.states.is_active()[parents]
    is_newly_active, discrete_log_priors, log_density_gains = (
        is_active_now & ~is_active_before,
        model.prior.log_discrete_prior(states),
        np.zeros(len(states)),
    )
    for _ in range(2):
        residuals, _ = model.evaluate(states)
        new_derivatives = residual_derivatives(model, states, is_newly_active, residuals)
        for state_index, parent in enumerate(parents):
            is_active_in_both = is_active_before[state_index] & is_active_now[state_index]
            parent_derivatives = modes.jacobians[parent][is_active_in_both[is_active_before[state_index]]].astype(
                np.float64
            )
            derivatives = np.concatenate([parent_derivatives, new_derivatives[state_index]])
            free_indices = np.concatenate(
                [np.flatnonzero(is_active_in_both), np.flatnonzero(is_newly_active[state_index])]
            )
            hessian = beta * derivatives @ derivatives.T + np.eye(free_indices.size)
            gradient = beta * derivatives @ residuals[state_index] + states.x[state_index, free_indices]
            coordinate_step = -np.linalg.solve(hessian, gradient)
            log_density = (
                -0.5 * beta * (residuals[state_index] ** 2).sum()
                - 0.5 * (states.x[state_index, is_active_now[state_index]] ** 2).sum()
            )
            log_density_gains[state_index] = (
                log_density - 0.5 * gradient @ coordinate_step - 0.5 * np.linalg.slogdet(hessian)[1]
            )
            states.x[state_index, free_indices] = take_step(states.x[state_index, free_indices], coordinate_step)
    return states.select(np.argsort(-(discrete_log_priors + log_density_gains))[:max_states])


def random_neighbour(prior: PaintPrior, state: States, rng: np.random.Generator) -> States:
    """Return a valid state that differs by one change, or the given state if no such state is drawn."""
    start_composition = state.composition_keys()
    for _ in range(50):
        changed_state = state.select([0])
        _change_structure(prior, changed_state, rng)
        if prior.is_valid(changed_state)[0] and changed_state.composition_keys() != start_composition:
            return changed_state
    return state


def _change_structure(prior: PaintPrior, state: States, rng: np.random.Generator) -> None:
    """Add, remove or move a group, swap, split or merge layers, or replace a member."""
    n_layer, n_group = int(state.n_layer[0]), state.n_group
    is_in_layer, layer_coordinates, move_choice = state.is_in_layer[0], state.layer_coordinates[0], rng.random()
    layer, group = int(rng.integers(n_layer)), int(rng.integers(n_group))
    if move_choice < 0.3:
        is_in_layer[layer, group] ^= True
        layer_coordinates[layer, N_LAYER_COORDINATES + group] = -1.5 if is_in_layer[layer, group] else 0.0
    elif move_choice < 0.5 and n_layer > 1:
        exchange_group(state, 0, group, layer, int((layer + 1 + rng.integers(n_layer - 1)) % n_layer))
    elif move_choice < 0.6 and n_layer > 1:
        swap_layers(state, 0, int(rng.integers(n_layer - 1)))
    elif move_choice < 0.72:
        set_member(prior, state, 0, group, int(rng.integers(len(prior.members[group]))))
    elif move_choice < 0.9 and n_layer < MAX_LAYERS:
        insert_layer(state, 0, layer, layer)
        is_upper = rng.random(n_group) < 0.5
        is_in_layer[layer] &= is_upper
        is_in_layer[layer + 1] &= ~is_upper | (rng.random(n_group) < 0.2)
    elif n_layer > 1:
        upper_layer = int(rng.integers(n_layer - 1))
        is_in_layer[upper_layer] |= is_in_layer[upper_layer + 1]
        remove_layer(state, 0, upper_layer + 1)


def set_member(prior: PaintPrior, state: States, row: int, group: int, member_index: int) -> None:
    """Replace the member of a group in all layers of a state, and keep the mass of the group's element."""
    unchanged_states = state.select(np.arange(len(state)))
    state.member_index[row, :, group] = member_index
    for layer in np.flatnonzero(state.is_in_layer[row, :, group]):
        prior.keep_mass(unchanged_states, state, row, int(layer), group)


def swap_layers(state: States, row: int, upper_layer: int) -> None:
    """Swap a layer of a state with the layer below it."""
    layer_order = list(range(MAX_LAYERS))
    layer_order[upper_layer], layer_order[upper_layer + 1] = upper_layer + 1, upper_layer
    state.permute_layers(row, layer_order)


def exchange_group(state: States, row: int, group: int, first_layer: int, second_layer: int) -> None:
    """Exchange a group between two layers."""
    for layer_values in (
        state.is_in_layer[row, :, group],
        state.member_index[row, :, group],
        state.layer_coordinates[row, :, N_LAYER_COORDINATES + group],
    ):
        layer_values[[first_layer, second_layer]] = layer_values[[second_layer, first_layer]]


def insert_layer(state: States, row: int, position: int, source_layer: int) -> None:
    """Insert a copy of layer ``source_layer`` above the layer at ``position``."""
    n_layer = int(state.n_layer[row])
    layer_order = [*range(position), source_layer, *range(position, n_layer), *range(n_layer + 1, MAX_LAYERS)]
    state.permute_layers(row, layer_order[:MAX_LAYERS])
    state.n_layer[row] += 1


def remove_layer(state: States, row: int, position: int) -> None:
    """Remove a layer of a state."""
    n_layer = int(state.n_layer[row])
    layer_order = [*range(position), *range(position + 1, n_layer), position, *range(n_layer, MAX_LAYERS)]
    state.permute_layers(row, layer_order)
    state.n_layer[row] -= 1
    state.is_in_layer[row, n_layer - 1] = False
