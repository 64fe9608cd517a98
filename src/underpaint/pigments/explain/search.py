"""Which structures of layers could have made a spectrum: screened, climbed, and improved change by change."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from underpaint.pigments.explain.mixture import Mixture, Modes, climb, joined_modes, moved, slopes_of
from underpaint.pigments.explain.spectrum_model import SpectrumModel
from underpaint.pigments.explain.states import LAYER_HEAD, MOST_LAYERS, PaintPrior, States, joined

BETA = 0.15
"""Power of the likelihood at which structures are searched: at full power no climb leaves where it began."""
SCREENED, KEPT = 400, 40
CLIMB_ROUNDS, REFINE_ROUNDS = 6, 3
JUDGED, CLIMBED = 60, 8
"""Neighbours of a round, and those of them that are climbed."""
VARIANTS = 16
"""Other members that are tried in the likeliest mode."""


def search(model: SpectrumModel, rng: np.random.Generator) -> Modes:
    """Return modes of likely structures, the likeliest first.

    Draws of the prior are screened, the best of different structures are climbed, and then neighbours of the likeliest,
    which differ in one place, are judged by two linear steps, and the best of them are climbed. Last, other members are
    tried in the likeliest mode.
    """
    prior = model.prior
    simple = simple_starts(prior)
    starts = joined([_screened(model, rng), simple.rows(np.flatnonzero(prior.is_valid(simple)))])
    log_like = model.log_likelihood(starts)
    n_group = len(prior.groups)
    modes = climb(model, starts.rows(np.argsort(-log_like)[: 6 + 2 * n_group]), BETA, CLIMB_ROUNDS)
    modes = _best(prior, modes, BETA)
    for beta in (BETA, 0.4, *(1.0,) * n_group):
        new = promising_neighbours(model, modes, beta, rng)
        if new is None:
            break
        modes = _best(prior, joined_modes([modes, climb(model, new, beta, REFINE_ROUNDS)]), beta)
    return with_other_members(model, modes, int(Mixture(prior, modes, 1.0).evidence.argmax()))


def _best(prior: PaintPrior, modes: Modes, beta: float) -> Modes:
    evidence = Mixture(prior, modes, beta).evidence
    return modes.rows(np.argsort(-evidence)[:KEPT])


def _screened(model: SpectrumModel, rng: np.random.Generator) -> States:
    """Return the best draws of the prior, each of another structure."""
    states = model.prior.draw(SCREENED, rng)
    order = np.argsort(-model.log_likelihood(states))
    structures = states.structures()
    first = {structures[row]: row for row in order[::-1]}
    return states.rows(sorted(first.values(), key=list(order).index)[:20])


def simple_starts(prior: PaintPrior) -> States:
    """Return one layer of all, and each group alone above and alone below all others, of the commonest pigments."""
    n_group = len(prior.groups)
    n = 1 + 2 * n_group if n_group > 1 else 1
    holds = np.zeros((n, MOST_LAYERS, n_group), dtype=np.bool_)
    holds[0, 0] = True
    for group in range(n_group if n > 1 else 0):
        for layer in (0, 1):
            row = 1 + 2 * group + layer
            holds[row, 1 - layer] = True
            holds[row, :2, group] = np.arange(2) == layer
    n_layer = np.where(np.arange(n) > 0, 2, 1)
    return States(n_layer, holds, np.zeros(holds.shape, dtype=np.int64), np.zeros((n, prior.n_coordinate)))


def promising_neighbours(model: SpectrumModel, modes: Modes, beta: float, rng: np.random.Generator) -> States | None:
    """Return the best of some neighbours of likely modes; None where none is new."""
    evidence = Mixture(model.prior, modes, beta).evidence
    chance = np.exp(0.4 * (evidence - evidence.max()))
    parents = rng.choice(len(modes), JUDGED, p=chance / chance.sum())
    changed = [neighbour(model.prior, modes.states.rows([parent]), rng) for parent in parents]
    return _most_promising(model, modes, parents, changed, beta, CLIMBED)


def with_other_members(model: SpectrumModel, modes: Modes, row: int) -> Modes:
    """Return modes, and the best of one of them with each other member of each group in place of what it holds."""
    prior, changed = model.prior, []
    for group, members in enumerate(prior.members):
        for member in range(len(members)):
            changed.append(modes.states.rows([row]))
            put_member(prior, changed[-1], 0, group, member)
    variants = _most_promising(model, modes, np.full(len(changed), row), changed, 1.0, VARIANTS)
    return modes if variants is None else joined_modes([modes, climb(model, variants, 1.0, REFINE_ROUNDS)])


def _most_promising(
    model: SpectrumModel,
    modes: Modes,
    parents: NDArray[np.integer],
    changed: Sequence[States],
    beta: float,
    most: int,
) -> States | None:
    """Return the best of some states, moved by two linear steps; None where none is new.

    A state's derivatives are taken to be its parent's, but for those to the shares that entered.
    """
    known, rows = set(modes.states.compositions()), []
    for row, state in enumerate(changed):
        composition = state.compositions()[0]
        if composition not in known:
            known.add(composition)
            rows.append(row)
    if not rows:
        return None
    states, parents = joined([changed[row] for row in rows]), parents[rows]
    active, before = states.active(), modes.states.active()[parents]
    entered, scores, gains = active & ~before, model.prior.log_discrete(states), np.zeros(len(states))
    for _ in range(2):
        residuals, _ = model.evaluate(states)
        slopes = slopes_of(model, states, entered, residuals)
        for row, parent in enumerate(parents):
            shared = before[row] & active[row]
            kept = modes.jacobians[parent][shared[before[row]]].astype(np.float64)
            slope = np.concatenate([kept, slopes[row]])
            free = np.concatenate([np.flatnonzero(shared), np.flatnonzero(entered[row])])
            hessian = beta * slope @ slope.T + np.eye(free.size)
            gradient = beta * slope @ residuals[row] + states.x[row, free]
            step = -np.linalg.solve(hessian, gradient)
            height = -0.5 * beta * (residuals[row] ** 2).sum() - 0.5 * (states.x[row, active[row]] ** 2).sum()
            gains[row] = height - 0.5 * gradient @ step - 0.5 * np.linalg.slogdet(hessian)[1]
            states.x[row, free] = moved(states.x[row, free], step)
    return states.rows(np.argsort(-(scores + gains))[:most])


def neighbour(prior: PaintPrior, state: States, rng: np.random.Generator) -> States:
    """Return a valid state that differs from a given one in one place; the same where none is met."""
    start = state.compositions()
    for _ in range(50):
        new = state.rows([0])
        _change(prior, new, rng)
        if prior.is_valid(new)[0] and new.compositions() != start:
            return new
    return state


def _change(prior: PaintPrior, state: States, rng: np.random.Generator) -> None:
    """Change one thing in a state: a group in or out of a layer or moved, layers swapped, split or merged, a member."""
    n_layer, n_group = int(state.n_layer[0]), state.n_group
    holds, layers, choice = state.holds[0], state.layers[0], rng.random()
    layer, group = int(rng.integers(n_layer)), int(rng.integers(n_group))
    if choice < 0.3:
        holds[layer, group] ^= True
        layers[layer, LAYER_HEAD + group] = -1.5 if holds[layer, group] else 0.0
    elif choice < 0.5 and n_layer > 1:
        exchange(state, 0, group, layer, int((layer + 1 + rng.integers(n_layer - 1)) % n_layer))
    elif choice < 0.6 and n_layer > 1:
        swap_layers(state, 0, int(rng.integers(n_layer - 1)))
    elif choice < 0.72:
        put_member(prior, state, 0, group, int(rng.integers(len(prior.members[group]))))
    elif choice < 0.9 and n_layer < MOST_LAYERS:
        insert_layer(state, 0, layer, layer)
        upper_part = rng.random(n_group) < 0.5
        holds[layer] &= upper_part
        holds[layer + 1] &= ~upper_part | (rng.random(n_group) < 0.2)
    elif n_layer > 1:
        upper = int(rng.integers(n_layer - 1))
        holds[upper] |= holds[upper + 1]
        remove_layer(state, 0, upper + 1)


def put_member(prior: PaintPrior, state: States, row: int, group: int, member: int) -> None:
    """Put a member of a group in the place of what a state holds of it, with as much of the group's element."""
    old = state.rows(np.arange(len(state)))
    state.member[row, :, group] = member
    for layer in np.flatnonzero(state.holds[row, :, group]):
        prior.keep_mass(old, state, row, int(layer), group)


def swap_layers(state: States, row: int, upper: int) -> None:
    """Swap a layer of a state with the one below it."""
    order = list(range(MOST_LAYERS))
    order[upper], order[upper + 1] = upper + 1, upper
    state.permute_layers(row, order)


def exchange(state: States, row: int, group: int, first: int, second: int) -> None:
    """Exchange what two layers hold of a group."""
    for values in (state.holds[row, :, group], state.member[row, :, group], state.layers[row, :, LAYER_HEAD + group]):
        values[[first, second]] = values[[second, first]]


def insert_layer(state: States, row: int, at: int, like: int) -> None:
    """Insert a layer, a copy of layer ``like``, above the one at ``at``."""
    last = int(state.n_layer[row])
    order = [*range(at), like, *range(at, last), *range(last + 1, MOST_LAYERS)]
    state.permute_layers(row, order[:MOST_LAYERS])
    state.n_layer[row] += 1


def remove_layer(state: States, row: int, at: int) -> None:
    """Remove a layer of a state."""
    last = int(state.n_layer[row])
    order = [*range(at), *range(at + 1, last), at, *range(last, MOST_LAYERS)]
    state.permute_layers(row, order)
    state.n_layer[row] -= 1
    state.holds[row, last - 1] = False
