"""What is believed of layers before a spectrum is seen, and the arrays that hold them."""

from itertools import product

import numpy as np
import pytest

from underpaint.errors import SampleError
from underpaint.physics.materials import Paint, library
from underpaint.pigments.explain.search import (
    exchange_group,
    insert_layer,
    random_neighbour,
    remove_layer,
    simple_start_states,
)
from underpaint.pigments.explain.states import (
    LAYER_NUMBER_PRIOR,
    MAX_LAYERS,
    N_LAYER_COORDINATES,
    THICKNESS_RANGE_UM,
    PaintPrior,
    States,
    concatenate_states,
)

TWO = PaintPrior(["mercury_red", "copper_green_blue"])
SIX = PaintPrior(["lead_pigment", "mercury_red", "iron_pigment", "zinc_pigment", "cobalt_pigment", "tin_pigment"])


def layout(prior: PaintPrior, *layer_coordinates: tuple[int, ...]) -> States:
    """Return one state whose layers hold these groups, all coordinates at the prior's middle."""
    is_in_layer = np.zeros((1, MAX_LAYERS, len(prior.groups)), dtype=np.bool_)
    for layer, groups in enumerate(layer_coordinates):
        is_in_layer[0, layer, list(groups)] = True
    return States(
        np.asarray([len(layer_coordinates)]),
        is_in_layer,
        np.zeros(is_in_layer.shape, np.int64),
        np.zeros((1, prior.n_coordinate)),
    )


def test_a_group_may_lie_in_several_layers_and_equal_neighbours_are_never_drawn() -> None:
    states = SIX.draw(2000, np.random.default_rng(1))
    assert SIX.is_valid(states).all()
    assert (states.is_in_layer.sum(axis=1) > 1).any(axis=0).all()
    for n_layer, is_in_layer in zip(states.n_layer, states.is_in_layer, strict=True):
        assert is_in_layer[:n_layer].any(axis=1).all()
        assert all((is_in_layer[layer] != is_in_layer[layer + 1]).any() for layer in range(n_layer - 1))
    assert TWO.is_valid(layout(TWO, (0,), (1,), (0,)))[0]
    assert not TWO.is_valid(layout(TWO, (0, 1), (0, 1)))[0]
    assert np.isneginf(TWO.log_layout_prior(layout(TWO, (0, 1), (0, 1)))[0])
    # a group that is known to be there cannot be missing
    assert not TWO.is_valid(layout(TWO, (0,)))[0]


def test_layouts_are_drawn_as_their_prior_density_says() -> None:
    states = TWO.draw(20_000, np.random.default_rng(2))
    drawn: dict[tuple[int, object], int] = {}
    for n_layer, structure in zip(states.n_layer, states.structure_keys(), strict=True):
        drawn[n_layer, structure] = drawn.get((n_layer, structure), 0) + 1
    every = [
        layout(TWO, *layer_coordinates)
        for number in (2, 3)
        for layer_coordinates in product([(0,), (1,), (0, 1)], repeat=number)
    ]
    valid = [state for state in every if TWO.is_valid(state)[0]]
    density = np.exp([TWO.log_layout_prior(state)[0] for state in valid])
    counts = np.asarray([drawn.get((state.n_layer[0], state.structure_keys()[0]), 0) for state in valid])
    assert counts.sum() + drawn[1, layout(TWO, (0, 1)).structure_keys()[0]] == len(states)
    expected = density / density.sum() * counts.sum()
    # chi-square of right densities is as large as its degrees of freedom; five times would be far off
    assert ((counts - expected) ** 2 / expected).sum() < 5 * len(valid)
    assert LAYER_NUMBER_PRIOR[1] > LAYER_NUMBER_PRIOR[2]


def test_stacks_are_the_layers_of_the_library() -> None:
    state = layout(TWO, (0,), (1,))
    fractions, areal = TWO.mass_fractions_and_densities(state)
    physical = TWO.to_physical_units(state)
    binder = float(physical.binder_fraction[0, 0])
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
    new = old.select([0])
    new.member_index[0, 0, column] = len(SIX.members[column]) - 1
    before = SIX.element_areal_densities(old)[0, 0, column]
    assert SIX.element_areal_densities(new)[0, 0, column] != pytest.approx(before, rel=1e-2)
    new, _ = SIX.replace_members(old, new.member_index)
    assert SIX.element_areal_densities(new)[0, 0, column] == pytest.approx(before, rel=0.02)
    low, high = THICKNESS_RANGE_UM
    assert low < SIX.to_physical_units(new).thickness_um[0, 0] < high


def test_the_uppermost_layer_of_a_group_is_where_more_than_a_trace_of_it_lies() -> None:
    state = layout(TWO, (0, 1), (1,))
    assert SIX.uppermost_layers(simple_start_states(SIX)).max() == 1
    assert TWO.uppermost_layers(state).tolist() == [[0, 0]]
    state.layer_coordinates[0, 0, N_LAYER_COORDINATES + 1] = -4.0
    assert TWO.uppermost_layers(state).tolist() == [[0, 1]]


def test_layers_are_inserted_removed_and_exchanged() -> None:
    state = layout(TWO, (0,), (1,))
    state.layer_coordinates[0, :, 0] = [1.0, 2.0, 3.0]
    insert_layer(state, 0, 1, 0)
    assert state.is_in_layer[0].tolist() == [[True, False], [True, False], [False, True]]
    assert state.layer_coordinates[0, :, 0].tolist() == [1.0, 1.0, 2.0]
    remove_layer(state, 0, 0)
    assert state.n_layer[0] == 2
    assert state.is_in_layer[0].tolist() == [[True, False], [False, True], [False, False]]
    exchange_group(state, 0, 0, 0, 1)
    assert state.is_in_layer[0, :2].tolist() == [[False, False], [True, True]]


def test_neighbours_are_valid_and_another_composition() -> None:
    rng = np.random.default_rng(3)
    start = layout(SIX, (0, 1, 2), (3, 4, 5))
    changed = concatenate_states([random_neighbour(SIX, start, rng) for _ in range(200)])
    assert SIX.is_valid(changed).all()
    assert start.composition_keys()[0] not in changed.composition_keys()
    assert set(changed.n_layer) == {1, 2, 3}


def test_a_prior_needs_groups_and_takes_known_pigments() -> None:
    with pytest.raises(SampleError, match="at least one"):
        PaintPrior([])
    known = PaintPrior(["iron_pigment"], pigments={"iron_pigment": ["prussian_blue"]})
    assert [pigment.name for pigment in known.members[0]] == ["prussian_blue"]
    # a member that would bring a group that is not there is left out
    assert all(set(pigment.groups) <= set(SIX.groups) for members in SIX.members for pigment in members)
    assert any(len(pigment.groups) > 1 for pigment in library().members("lead_pigment"))
