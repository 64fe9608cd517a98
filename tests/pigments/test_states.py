"""What is believed of layers before a spectrum is seen, and the arrays that hold them."""

from itertools import product

import numpy as np
import pytest

from underpaint.errors import SampleError
from underpaint.physics.materials import Paint, library
from underpaint.pigments.explain.search import exchange_group, insert_layer, neighbour, remove_layer, simple_starts
from underpaint.pigments.explain.states import (
    MAX_LAYERS,
    N_LAYER_COORDINATES,
    P_LAYERS,
    THICKNESS_RANGE_UM,
    PaintPrior,
    States,
    concatenate_states,
)

TWO = PaintPrior(["mercury_red", "copper_green_blue"])
SIX = PaintPrior(["lead_pigment", "mercury_red", "iron_pigment", "zinc_pigment", "cobalt_pigment", "tin_pigment"])


def layout(prior: PaintPrior, *layers: tuple[int, ...]) -> States:
    """Return one state whose layers hold these groups, all coordinates at the prior's middle."""
    holds = np.zeros((1, MAX_LAYERS, len(prior.groups)), dtype=np.bool_)
    for layer, groups in enumerate(layers):
        holds[0, layer, list(groups)] = True
    return States(np.asarray([len(layers)]), holds, np.zeros(holds.shape, np.int64), np.zeros((1, prior.n_coordinate)))


def test_a_group_may_lie_in_several_layers_and_equal_neighbours_are_never_drawn() -> None:
    states = SIX.draw(2000, np.random.default_rng(1))
    assert SIX.is_valid(states).all()
    assert (states.holds.sum(axis=1) > 1).any(axis=0).all()
    for n_layer, holds in zip(states.n_layer, states.holds, strict=True):
        assert holds[:n_layer].any(axis=1).all()
        assert all((holds[layer] != holds[layer + 1]).any() for layer in range(n_layer - 1))
    assert TWO.is_valid(layout(TWO, (0,), (1,), (0,)))[0]
    assert not TWO.is_valid(layout(TWO, (0, 1), (0, 1)))[0]
    assert np.isneginf(TWO.log_layout(layout(TWO, (0, 1), (0, 1)))[0])
    # a group that is known to be there cannot be missing
    assert not TWO.is_valid(layout(TWO, (0,)))[0]


def test_layouts_are_drawn_as_their_prior_density_says() -> None:
    states = TWO.draw(20_000, np.random.default_rng(2))
    drawn: dict[tuple[int, object], int] = {}
    for n_layer, structure in zip(states.n_layer, states.structures(), strict=True):
        drawn[n_layer, structure] = drawn.get((n_layer, structure), 0) + 1
    every = [layout(TWO, *layers) for number in (2, 3) for layers in product([(0,), (1,), (0, 1)], repeat=number)]
    valid = [state for state in every if TWO.is_valid(state)[0]]
    density = np.exp([TWO.log_layout(state)[0] for state in valid])
    counts = np.asarray([drawn.get((state.n_layer[0], state.structures()[0]), 0) for state in valid])
    assert counts.sum() + drawn[1, layout(TWO, (0, 1)).structures()[0]] == len(states)
    expected = density / density.sum() * counts.sum()
    # chi-square of right densities is as large as its degrees of freedom; five times would be far off
    assert ((counts - expected) ** 2 / expected).sum() < 5 * len(valid)
    assert P_LAYERS[1] > P_LAYERS[2]


def test_stacks_are_the_layers_of_the_library() -> None:
    state = layout(TWO, (0,), (1,))
    fractions, areal = TWO.stack(state)
    physical = TWO.physical(state)
    binder = float(physical.binder[0, 0])
    paint = Paint({TWO.members[0][0].name: 1.0}, (1.0 - binder) / binder).layer(float(physical.thickness_um[0, 0]))
    assert areal[0, 0] == pytest.approx(paint.areal_density)
    for element, fraction in paint.mass_fractions.items():
        assert fractions[0, 0, TWO.elements.index(element)] == pytest.approx(fraction)
    np.testing.assert_allclose(fractions.sum(axis=2)[0, :3], 1.0)
    # the ground lies below the last layer, and nothing lies below it
    assert areal[0, 2] > 0 == areal[0, 3]
    assert np.isnan(physical.thickness_um[0, 2])


def test_another_member_keeps_the_mass_of_its_element() -> None:
    column = SIX.groups.index("iron_pigment")
    old = layout(SIX, (0, 1, column), (3, 4, 5))
    new = old.rows([0])
    new.member[0, 0, column] = len(SIX.members[column]) - 1
    before = SIX.masses(old)[0, 0, column]
    assert SIX.masses(new)[0, 0, column] != pytest.approx(before, rel=1e-2)
    SIX.keep_mass(old, new, 0, 0, column)
    assert SIX.masses(new)[0, 0, column] == pytest.approx(before, rel=0.02)
    low, high = THICKNESS_RANGE_UM
    assert low < SIX.physical(new).thickness_um[0, 0] < high


def test_the_uppermost_layer_of_a_group_is_where_more_than_a_trace_of_it_lies() -> None:
    state = layout(TWO, (0, 1), (1,))
    assert SIX.top_layer(simple_starts(SIX)).max() == 1
    assert TWO.top_layer(state).tolist() == [[0, 0]]
    state.layers[0, 0, N_LAYER_COORDINATES + 1] = -4.0
    assert TWO.top_layer(state).tolist() == [[0, 1]]


def test_layers_are_inserted_removed_and_exchanged() -> None:
    state = layout(TWO, (0,), (1,))
    state.layers[0, :, 0] = [1.0, 2.0, 3.0]
    insert_layer(state, 0, 1, 0)
    assert state.holds[0].tolist() == [[True, False], [True, False], [False, True]]
    assert state.layers[0, :, 0].tolist() == [1.0, 1.0, 2.0]
    remove_layer(state, 0, 0)
    assert state.n_layer[0] == 2
    assert state.holds[0].tolist() == [[True, False], [False, True], [False, False]]
    exchange_group(state, 0, 0, 0, 1)
    assert state.holds[0, :2].tolist() == [[False, False], [True, True]]


def test_neighbours_are_valid_and_another_composition() -> None:
    rng = np.random.default_rng(3)
    start = layout(SIX, (0, 1, 2), (3, 4, 5))
    changed = concatenate_states([neighbour(SIX, start, rng) for _ in range(200)])
    assert SIX.is_valid(changed).all()
    assert start.compositions()[0] not in changed.compositions()
    assert set(changed.n_layer) == {1, 2, 3}


def test_a_prior_needs_groups_and_takes_known_pigments() -> None:
    with pytest.raises(SampleError, match="at least one"):
        PaintPrior([])
    known = PaintPrior(["iron_pigment"], pigments={"iron_pigment": ["prussian_blue"]})
    assert [pigment.name for pigment in known.members[0]] == ["prussian_blue"]
    # a member that would bring a group that is not there is left out
    assert all(set(pigment.groups) <= set(SIX.groups) for members in SIX.members for pigment in members)
    assert any(len(pigment.groups) > 1 for pigment in library().members("lead_pigment"))
