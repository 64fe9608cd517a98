"""The mixture around modes, and replacements of members that it is made of."""

import numpy as np
import pytest

from underpaint.pigments.explain.mixture import Mixture, Modes
from underpaint.pigments.explain.states import PaintPrior, States, log_prior_of_x

IRON = PaintPrior(["iron_pigment"])
IRON_AND_LEAD = PaintPrior(["iron_pigment", "lead_pigment"])


def paint(prior: PaintPrior, *layers: tuple[int, ...]) -> States:
    state = prior.draw(1, np.random.default_rng(0))
    state.n_layer[0], state.is_in_layer[0], state.x[:] = len(layers), False, 0.0
    for index, groups in enumerate(layers):
        state.is_in_layer[0, index, list(groups)] = True
    return state


def test_replaced_members_keep_all_masses_and_can_be_put_back() -> None:
    rng = np.random.default_rng(1)
    states = IRON_AND_LEAD.draw(300, rng)
    changed, log_determinant = IRON_AND_LEAD.replace_members(states, IRON_AND_LEAD.draw_members(300, rng))
    before, after = (IRON_AND_LEAD.element_areal_densities(batch) for batch in (states, changed))
    fits = (np.abs(changed.layer_coordinates[..., 0]) < 4).all(axis=1)
    # densities have a factor of their own, and a thickness at the end of its range goes to the other end
    same = np.isclose(before, after, rtol=1e-6).all(axis=(1, 2)) & fits
    assert same.mean() > 0.6
    again, log_determinant_back = IRON_AND_LEAD.replace_members(changed, states.member_index)
    np.testing.assert_allclose(again.x, states.x, atol=1e-6)
    np.testing.assert_allclose(log_determinant + log_determinant_back, 0.0, atol=1e-6)


def test_the_log_determinant_is_that_of_finite_differences() -> None:
    state = paint(IRON_AND_LEAD, (0, 1), (1,))
    state.x[:] = np.random.default_rng(2).normal(0, 0.5, state.x.shape)
    members = state.member_index.copy()
    members[0, 0] = [2, 1]
    n, step = state.x.shape[1], 1e-4
    shifted = state.select(np.zeros(2 * n, dtype=np.int64))
    shifted.x[np.arange(n), np.arange(n)] += step
    shifted.x[n + np.arange(n), np.arange(n)] -= step
    changed = IRON_AND_LEAD.replace_members(shifted, np.broadcast_to(members, shifted.member_index.shape))[0].x
    derivatives = (changed[:n] - changed[n:]) / (2 * step)
    assert IRON_AND_LEAD.replace_members(state, members)[1][0] == pytest.approx(
        np.linalg.slogdet(derivatives)[1], abs=1e-5
    )


@pytest.mark.parametrize(
    ("prior", "layers"), [(IRON, [(0,)]), (IRON_AND_LEAD, [(0, 1)]), (IRON_AND_LEAD, [(0,), (1,)])]
)
def test_draws_have_the_density_of_the_mixture(prior: PaintPrior, layers: list[tuple[int, ...]]) -> None:
    """Weights of draws for the prior have the mean that is the prior probability of the mixture's structure."""
    state = paint(prior, *layers)
    n_active = int(state.is_active().sum())
    mixture = Mixture(prior, Modes(state, np.zeros(1), [np.zeros((n_active, 4), np.float32)]), 1.0)
    draws = mixture.draw(6000, np.random.default_rng(3))
    log_prior = log_prior_of_x(draws, draws.is_active()) + prior.log_discrete_prior(draws)
    mean_weight = np.exp(log_prior - mixture.log_density(draws)).mean()
    # three standard errors of the mean are below 10 % with these draws
    assert mean_weight == pytest.approx(np.exp(prior.log_layout_prior(state)[0]), rel=0.1)
