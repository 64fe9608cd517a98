"""Search for the layer structures that are consistent with a spectrum."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from underpaint.pigments.explain.mixture import (
    DERIVATIVE_DETAIL,
    Mixture,
    Modes,
    concatenate_modes,
    optimise_modes,
    residual_derivatives,
    take_step,
)
from underpaint.pigments.explain.spectrum_model import SpectrumModel
from underpaint.pigments.explain.states import (
    MAX_LAYERS,
    N_LAYER_COORDINATES,
    BoolArray,
    PaintPrior,
    States,
    concatenate_states,
)

SEARCH_BETA = 0.15
"""Power of the likelihood in the search. With a power of 1, optimisations would not leave their initial mode."""
FEW_GROUPS = 5
"""Maximum number of groups whose structures one search covers."""
N_SCREENED, MAX_MODES, MAX_MODES_PER_STRUCTURE = 400, 40, 2
N_OPTIMISATION_ROUNDS, N_REFINEMENT_ROUNDS = 6, 3
N_NEIGHBOURS, N_OPTIMISED = 60, 8
"""Number of neighbouring states that are drawn in each round, and number that are optimised."""
SHARE_CHANGES = (-4.0, -2.5, -1.25, 0.0, 1.25, 2.5)
"""Changes of the coordinate of a share that are tried for a group that is new in a layer."""
MAX_GROUP_MOVES = 4
"""Maximum number of times that groups of the likeliest mode are moved to other layers."""
N_VARIANTS = 16
"""Number of optimised variants of the likeliest mode in which a group has another member."""


def search(model: SpectrumModel, rng: np.random.Generator) -> Modes:
    """Return modes of likely structures, from two searches if there are more than ``FEW_GROUPS`` groups."""
    return concatenate_modes([_search_once(model, rng) for _ in range(1 + (len(model.prior.groups) > FEW_GROUPS))])


def _search_once(model: SpectrumModel, rng: np.random.Generator) -> Modes:
    """Return modes of likely structures.

    First, the likeliest prior draws of different structures are optimised. Then states that differ from the likeliest
    modes by one change are ranked by two linear steps. The best of these states are optimised. In between, each group
    of the likeliest mode is moved to other layers. Finally, other members of its groups are tried.
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
    modes = _with_neighbours(model, modes, (SEARCH_BETA, 0.4, *(1.0,) * (n_group // 2)), rng)
    modes = _with_moved_groups(model, modes)
    modes = _with_neighbours(model, modes, (1.0,) * (n_group - n_group // 2), rng)
    return with_other_members(model, modes, int(Mixture(prior, modes, 1.0).log_evidence.argmax()))


def _with_neighbours(model: SpectrumModel, modes: Modes, betas: Sequence[float], rng: np.random.Generator) -> Modes:
    """Return the likeliest modes after a round of neighbouring states for each power of the likelihood."""
    for beta in betas:
        neighbours = promising_neighbours(model, modes, beta, rng)
        if neighbours is None:
            break
        modes = concatenate_modes([modes, optimise_modes(model, neighbours, beta, N_REFINEMENT_ROUNDS)])
        modes = _best_modes(model.prior, modes, beta)
    return modes


def _best_modes(prior: PaintPrior, modes: Modes, beta: float) -> Modes:
    """Return the likeliest modes, at most ``MAX_MODES_PER_STRUCTURE`` of each structure."""
    structures, best_rows, n_kept = modes.states.structure_keys(), [], Counter[bytes]()
    for row in np.argsort(-Mixture(prior, modes, beta).log_evidence):
        n_kept[structures[row]] += 1
        if n_kept[structures[row]] <= MAX_MODES_PER_STRUCTURE:
            best_rows.append(row)
    return modes.select(np.asarray(best_rows[:MAX_MODES]))


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
    # a pigment of two groups would place both of them: start from the first member that belongs to one group only
    n_group_of_member = prior.is_pigment_of_group.sum(axis=2)
    first_member = np.where(n_group_of_member == 1, 0, 1).argmin(axis=1)
    member_index = np.broadcast_to(first_member, is_in_layer.shape).copy()
    return States(n_layer, is_in_layer, member_index, np.zeros((n, prior.n_coordinate)))


def promising_neighbours(model: SpectrumModel, modes: Modes, beta: float, rng: np.random.Generator) -> States | None:
    """Return the best states that differ from likely modes by one change, or None if no such state is new."""
    log_evidence = Mixture(model.prior, modes, beta).log_evidence
    parent_weight = np.exp(0.4 * (log_evidence - log_evidence.max()))
    parents = rng.choice(len(modes), N_NEIGHBOURS, p=parent_weight / parent_weight.sum())
    candidates = [random_neighbour(model.prior, modes.states.select([parent]), rng) for parent in parents]
    return _best_candidates(model, modes, parents, candidates, beta, N_OPTIMISED)


def _with_moved_groups(model: SpectrumModel, modes: Modes) -> Modes:
    """Return the modes, plus modes in which one group of the likeliest mode is in another layer.

    A linear step does not predict what such a change gains, because shares and thicknesses change much.
    """
    prior, previous_mode = model.prior, -1
    for _ in range(MAX_GROUP_MOVES):
        best_mode = int(Mixture(prior, modes, 1.0).log_evidence.argmax())
        if best_mode == previous_mode:
            break
        previous_mode = best_mode
        parent, known_structures = modes.states.select([best_mode]), set(modes.states.structure_keys())
        candidates = []
        for layer, group in np.argwhere(parent.is_in_layer[0]):
            for other_layer in np.flatnonzero(~parent.is_in_layer[0, : parent.n_layer[0], group]):
                candidates.append(parent.select([0]))
                exchange_group(candidates[-1], 0, int(group), int(layer), int(other_layer))
        states = concatenate_states([parent, *candidates])
        is_new = np.asarray([structure not in known_structures for structure in states.structure_keys()])
        states = states.select(np.flatnonzero(prior.is_valid(states) & is_new))
        if not len(states):
            break
        _choose_new_shares(model, states, states.is_active() & ~parent.is_active(), 1.0)
        modes = concatenate_modes([modes, optimise_modes(model, states, 1.0, N_OPTIMISATION_ROUNDS)])
    return modes


def with_other_members(model: SpectrumModel, modes: Modes, mode_index: int) -> Modes:
    """Return the modes, plus the best variants of one mode that contain another member of a group."""
    prior, mode_state = model.prior, modes.states.select([mode_index])
    changed_states = [
        with_member(prior, mode_state, group, member_index)
        for group, members in enumerate(prior.members)
        for member_index in range(len(members))
    ]
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
    _choose_new_shares(model, states, is_newly_active, beta)
    for _ in range(2):
        residuals, _ = model.evaluate(states)
        new_derivatives = residual_derivatives(model, states, is_newly_active)
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


def _choose_new_shares(model: SpectrumModel, states: States, is_newly_active: BoolArray, beta: float) -> None:
    """Change the shares of groups that are new in a layer, in place, to the best of ``SHARE_CHANGES``.

    A group that moves below another layer needs a larger share for the same counts.
    """
    is_new_share = is_newly_active.copy()
    is_new_share[:, -2:] = False
    is_new_share[:, :-2].reshape(len(states), MAX_LAYERS, -1)[..., :N_LAYER_COORDINATES] = False
    rows = np.flatnonzero(is_new_share.any(axis=1))
    if not rows.size:
        return
    changes = np.multiply.outer(SHARE_CHANGES, is_new_share[rows]).reshape(-1, states.x.shape[1])
    trial_states = states.select(np.tile(rows, len(SHARE_CHANGES)))
    trial_states.x += changes
    residuals, _ = model.evaluate(trial_states, DERIVATIVE_DETAIL)
    costs = beta * (residuals**2).sum(axis=1) + np.where(trial_states.is_active(), trial_states.x**2, 0.0).sum(axis=1)
    best_change = costs.reshape(len(SHARE_CHANGES), rows.size).argmin(axis=0)
    states.x[rows] = trial_states.x[best_change * rows.size + np.arange(rows.size)]


def random_neighbour(prior: PaintPrior, state: States, rng: np.random.Generator) -> States:
    """Return a valid state that differs by one change, or the given state if no such state is drawn."""
    start_composition = state.composition_keys()
    for _ in range(50):
        changed_state = _changed_structure(prior, state.select([0]), rng)
        if prior.is_valid(changed_state)[0] and changed_state.composition_keys() != start_composition:
            return changed_state
    return state


def _changed_structure(prior: PaintPrior, state: States, rng: np.random.Generator) -> States:
    """Return a state after a group was added, removed or moved, layers swapped, split or merged, or a member replaced.

    All changes except that of a member are made in ``state``.
    """
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
        return with_member(prior, state, group, int(rng.integers(len(prior.members[group]))))
    elif move_choice < 0.9 and n_layer < MAX_LAYERS:
        insert_layer(state, 0, layer, layer)
        is_upper = rng.random(n_group) < 0.5
        is_in_layer[layer] &= is_upper
        is_in_layer[layer + 1] &= ~is_upper | (rng.random(n_group) < 0.2)
    elif n_layer > 1:
        upper_layer = int(rng.integers(n_layer - 1))
        is_in_layer[upper_layer] |= is_in_layer[upper_layer + 1]
        remove_layer(state, 0, upper_layer + 1)
    return state


def with_member(prior: PaintPrior, state: States, group: int, member_index: int) -> States:
    """Return a state with another member of a group in all layers, and the same masses of the groups' elements."""
    new_members = state.member_index.copy()
    new_members[..., group] = member_index
    return prior.replace_members(state, new_members)[0]


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
