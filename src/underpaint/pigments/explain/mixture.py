"""Modes of the posterior, and a mixture of heavy-tailed Laplace approximations around them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

from underpaint.pigments.explain.spectrum_model import SpectrumModel
from underpaint.pigments.explain.states import (
    BoolArray,
    FloatArray,
    PaintPrior,
    States,
    concatenate_states,
    log_prior_of_x,
)

DEGREES_OF_FREEDOM = 6
DIFFERENCE_STEP = 0.05
"""Step of the finite differences, in prior standard deviations."""
MAX_MOVE, MAX_COORDINATE = 1.2, 4.0
"""Maximum change of a coordinate in one step, and maximum coordinate, in prior standard deviations."""
MIN_GAIN = 0.1
"""Minimum gain in log density of a step; below it the optimisation ends."""


@dataclass
class Modes:
    """Modes of ``prior x likelihood**beta`` in given structures.

    Parameters
    ----------
    states : States
    log_likelihood : (n,) array
    jacobians : list of (n_active, n_residual) arrays
        Derivatives of the residuals to the active coordinates of each state.
    """

    states: States
    log_likelihood: FloatArray
    jacobians: list[NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.states)

    def rows(self, index: NDArray[np.integer]) -> "Modes":
        """Return some of the modes."""
        return Modes(self.states.rows(index), self.log_likelihood[index], [self.jacobians[row] for row in index])


def concatenate_modes(parts: Sequence[Modes]) -> Modes:
    """Concatenate the modes of several searches."""
    jacobians = [jacobian for part in parts for jacobian in part.jacobians]
    return Modes(
        concatenate_states([part.states for part in parts]),
        np.concatenate([part.log_likelihood for part in parts]),
        jacobians,
    )


def climb(model: SpectrumModel, states: States, beta: float, rounds: int) -> Modes:
    """Climb to the modes of ``prior_term x likelihood**beta``, each within its structure, all states at once.

    Levenberg and Marquardt's steps on finite differences; states that cannot be computed are left out.
    """
    n_state, active = len(states), states.active()
    best_x, trial_x = states.x.copy(), states.x.copy()
    damping, cost, log_like = np.full(n_state, 0.1), np.full(n_state, np.inf), np.full(n_state, -1e30)
    jacobians: list[NDArray[np.float32] | None] = [None] * n_state
    gradients: list[FloatArray] = [np.zeros(0)] * n_state
    is_done = np.zeros(n_state, dtype=np.bool_)
    for _ in range(rounds):
        pending = np.flatnonzero(~is_done)
        if not pending.size:
            break
        residuals, log_like_reached = model.evaluate(_with_coordinates(states, pending, trial_x[pending]))
        prior_term = np.where(active[pending], trial_x[pending] ** 2, 0.0).sum(axis=1)
        new_cost = 0.5 * beta * (residuals**2).sum(axis=1) + 0.5 * prior_term
        is_better = new_cost < cost[pending] - 1e-9
        damping[pending[~is_better]] *= 6.0
        is_done |= damping > 1e5
        improved = pending[is_better]
        gain = cost[improved] - new_cost[is_better]
        cost[improved], best_x[improved], log_like[improved] = (
            new_cost[is_better],
            trial_x[improved],
            log_like_reached[is_better],
        )
        damping[improved] = np.maximum(damping[improved] / 4.0, 1e-4)
        derivatives = residual_derivatives(
            model, _with_coordinates(states, improved, best_x[improved]), active[improved], residuals[is_better]
        )
        for position, (row, derivative) in enumerate(zip(improved, derivatives, strict=True)):
            jacobians[row] = derivative.astype(np.float32)
            gradients[row] = derivative @ residuals[is_better][position]
            is_done[row] |= gain[position] < MIN_GAIN
        for row in pending:
            jacobian = jacobians[row]
            if is_done[row] or jacobian is None:
                continue
            is_active_row = active[row]
            hessian = beta * (jacobian @ jacobian.T).astype(np.float64) + np.eye(int(is_active_row.sum()))
            damped = hessian + damping[row] * np.diag(np.diag(hessian))
            trial_x[row] = best_x[row]
            trial_x[row, is_active_row] = take_step(
                best_x[row, is_active_row], -np.linalg.solve(damped, beta * gradients[row] + best_x[row, is_active_row])
            )
    computed = np.flatnonzero([jacobian is not None for jacobian in jacobians])
    return Modes(
        _with_coordinates(states, computed, best_x[computed]),
        log_like[computed],
        [jacobian for jacobian in jacobians if jacobian is not None],
    )


def _with_coordinates(states: States, rows: NDArray[np.integer], x: FloatArray) -> States:
    selected_states = states.rows(rows)
    return States(selected_states.n_layer, selected_states.holds, selected_states.member, x)


def take_step(x: FloatArray, limited_step: FloatArray) -> FloatArray:
    """Return coordinates after a step, whose largest component is limited to ``MAX_MOVE``."""
    limited_step = limited_step * min(1.0, MAX_MOVE / max(float(np.abs(limited_step).max(initial=0.0)), 1e-12))
    return np.clip(x + limited_step, -MAX_COORDINATE, MAX_COORDINATE)


def residual_derivatives(
    model: SpectrumModel, states: States, is_active: BoolArray, residuals: FloatArray
) -> list[FloatArray]:
    """Return the finite-difference derivatives of each state's residuals with respect to its active coordinates."""
    state_index, coordinate_index = np.nonzero(is_active)
    if not state_index.size:
        return [np.zeros((0, residuals.shape[1]))] * len(states)
    shifted_states = states.rows(state_index)
    shifted_states.x[np.arange(state_index.size), coordinate_index] += DIFFERENCE_STEP
    slopes = (model.evaluate(shifted_states)[0] - residuals[state_index]) / DIFFERENCE_STEP
    return [slopes[state_index == row] for row in range(len(states))]


class Mixture:
    """Laplace approximations of ``prior x likelihood**beta`` around modes, as a mixture of Student's t.

    Densities omit the constant of the normal distribution, as ``log_prior_of_x`` does.

    Parameters
    ----------
    prior : PaintPrior
    modes : Modes
    beta : float
        Temperature: the power of the likelihood.
    sharpness : float
        Exponent of the components' evidences in the weights.
    """

    def __init__(self, prior: PaintPrior, modes: Modes, beta: float, sharpness: float = 0.6) -> None:
        self.modes, self.active = modes, modes.states.active()
        self.precision = [
            beta * (jacobian @ jacobian.T).astype(np.float64) + np.eye(len(jacobian)) for jacobian in modes.jacobians
        ]
        self.cholesky = [np.linalg.cholesky(np.linalg.inv(precision)) for precision in self.precision]
        self.log_scale = np.asarray([np.log(np.diag(cholesky)).sum() for cholesky in self.cholesky])
        self.evidence = (
            beta * modes.log_likelihood
            + prior.log_discrete(modes.states)
            + log_prior_of_x(modes.states, self.active)
            + self.log_scale
        )
        weight = np.exp(sharpness * (self.evidence - self.evidence.max())) + 1e-3
        self.log_weight = np.log(weight / weight.sum())
        self._components_by_composition: dict[bytes, list[int]] = {}
        for index, composition in enumerate(modes.states.compositions()):
            self._components_by_composition.setdefault(composition, []).append(index)

    def components(self, composition: bytes) -> list[int]:
        """Return the components of a composition."""
        return self._components_by_composition.get(composition, [])

    def draw(self, n_state: int, rng: np.random.Generator) -> States:
        """Draw states."""
        component_indices = rng.choice(len(self.modes), n_state, p=np.exp(self.log_weight))
        states = self.modes.states.rows(component_indices)
        states.x[:] = rng.normal(size=states.x.shape)
        for row, component in enumerate(component_indices):
            is_active = self.active[component]
            t_scale = np.sqrt(DEGREES_OF_FREEDOM / rng.chisquare(DEGREES_OF_FREEDOM))
            offset = self.cholesky[component] @ rng.normal(size=int(is_active.sum()))
            states.x[row, is_active] = self.modes.states.x[component, is_active] + t_scale * offset
        return states

    def log_density(self, states: States) -> FloatArray:
        """Return (n,) log densities; minus infinity if no component has the composition."""
        density = np.full(len(states), -np.inf)
        rows_of: dict[bytes, list[int]] = {}
        for row, composition in enumerate(states.compositions()):
            rows_of.setdefault(composition, []).append(row)
        for composition, rows in rows_of.items():
            log_terms = [
                self.log_weight[component] + self._student(component, states.x[rows])
                for component in self.components(composition)
            ]
            if log_terms:
                density[rows] = logsumexp(log_terms, axis=0)
        return density

    def _student(self, component: int, x: FloatArray) -> FloatArray:
        is_active = self.active[component]
        n_active, degrees = int(is_active.sum()), DEGREES_OF_FREEDOM
        constant = (
            gammaln((degrees + n_active) / 2)
            - gammaln(degrees / 2)
            - n_active / 2 * np.log(degrees / 2)
            - self.log_scale[component]
        )
        return np.asarray(
            constant - (degrees + n_active) / 2 * np.log1p(self._distance(component, x[:, is_active]) / degrees)
        )

    def log_normal(self, component: int, x: FloatArray) -> float:
        """Return the log density of the component's normal distribution at one state's coordinates."""
        distance = self._distance(component, x[None, self.active[component]])
        return float(-0.5 * distance[0] - self.log_scale[component])

    def _distance(self, component: int, coordinates: FloatArray) -> FloatArray:
        difference = coordinates - self.modes.states.x[component, self.active[component]]
        return np.asarray(np.einsum("ni,ij,nj->n", difference, self.precision[component], difference))
