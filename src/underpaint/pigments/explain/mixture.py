"""Modes of the posterior, and a mixture of heavy-tailed Laplace approximations around these modes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

from underpaint.physics.forward import Detail
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
MEMBER_PROBABILITY = 0.3
"""Probability that the mixture draws a group's member in a layer from the prior. It is that of the mode otherwise."""
DIFFERENCE_STEP = 0.05
"""Step of finite differences, in prior standard deviations."""
DERIVATIVE_DETAIL = Detail(orders=1, scatter=False)
"""Detail of the transport for derivatives. Primary photons change as all photons do, at a third of the time."""
MAX_COORDINATE_STEP, MAX_COORDINATE = 1.2, 4.0
"""Maximum change of a coordinate per step, and maximum absolute coordinate, in prior standard deviations."""
MIN_LOG_DENSITY_GAIN = 0.1
"""Minimum gain in log density per step. The optimisation of a state ends at a smaller gain."""


@dataclass
class Modes:
    """Modes of ``prior x likelihood**beta``, each within one layer structure.

    Parameters
    ----------
    states : States
    log_likelihood : (n,) array
    jacobians : list of (n_active, n_residual) arrays
        Derivatives of the residuals with respect to the active coordinates of each state.
    """

    states: States
    log_likelihood: FloatArray
    jacobians: list[NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.states)

    def select(self, index: NDArray[np.integer]) -> "Modes":
        """Return the modes at the given indices."""
        return Modes(self.states.select(index), self.log_likelihood[index], [self.jacobians[row] for row in index])


def concatenate_modes(searches: Sequence[Modes]) -> Modes:
    """Concatenate the modes of several searches."""
    jacobians = [jacobian for search_modes in searches for jacobian in search_modes.jacobians]
    return Modes(
        concatenate_states([search_modes.states for search_modes in searches]),
        np.concatenate([search_modes.log_likelihood for search_modes in searches]),
        jacobians,
    )


def optimise_modes(model: SpectrumModel, states: States, beta: float, n_rounds: int) -> Modes:
    """Optimise states within their layer structures, and return the modes of ``prior x likelihood**beta``.

    All states take Levenberg-Marquardt steps in parallel. Derivatives are finite differences. States without a finite
    likelihood are omitted.
    """
    n_state, is_active_coordinate = len(states), states.is_active()
    best_x, trial_x = states.x.copy(), states.x.copy()
    damping, best_costs, log_like = np.full(n_state, 0.1), np.full(n_state, np.inf), np.full(n_state, -1e30)
    jacobians: list[NDArray[np.float32] | None] = [None] * n_state
    gradients: list[FloatArray] = [np.zeros(0)] * n_state
    is_done = np.zeros(n_state, dtype=np.bool_)
    for _ in range(n_rounds):
        pending_rows = np.flatnonzero(~is_done)
        if not pending_rows.size:
            break
        residuals, new_log_like = model.evaluate(_with_coordinates(states, pending_rows, trial_x[pending_rows]))
        prior_term = np.where(is_active_coordinate[pending_rows], trial_x[pending_rows] ** 2, 0.0).sum(axis=1)
        new_costs = 0.5 * beta * (residuals**2).sum(axis=1) + 0.5 * prior_term
        is_better = new_costs < best_costs[pending_rows] - 1e-9
        damping[pending_rows[~is_better]] *= 6.0
        is_done |= damping > 1e5
        improved_rows = pending_rows[is_better]
        log_density_gains = best_costs[improved_rows] - new_costs[is_better]
        best_costs[improved_rows], best_x[improved_rows], log_like[improved_rows] = (
            new_costs[is_better],
            trial_x[improved_rows],
            new_log_like[is_better],
        )
        damping[improved_rows] = np.maximum(damping[improved_rows] / 4.0, 1e-4)
        new_derivatives = residual_derivatives(
            model,
            _with_coordinates(states, improved_rows, best_x[improved_rows]),
            is_active_coordinate[improved_rows],
        )
        for improved_index, (row, derivative) in enumerate(zip(improved_rows, new_derivatives, strict=True)):
            jacobians[row] = derivative.astype(np.float32)
            gradients[row] = derivative @ residuals[is_better][improved_index]
            is_done[row] |= log_density_gains[improved_index] < MIN_LOG_DENSITY_GAIN
        for row in pending_rows:
            row_jacobian = jacobians[row]
            if is_done[row] or row_jacobian is None:
                continue
            is_active_in_row = is_active_coordinate[row]
            hessian = beta * (row_jacobian @ row_jacobian.T).astype(np.float64) + np.eye(int(is_active_in_row.sum()))
            damped_hessian = hessian + damping[row] * np.diag(np.diag(hessian))
            trial_x[row] = best_x[row]
            trial_x[row, is_active_in_row] = take_step(
                best_x[row, is_active_in_row],
                -np.linalg.solve(damped_hessian, beta * gradients[row] + best_x[row, is_active_in_row]),
            )
    computed_rows = np.flatnonzero([row_jacobian is not None for row_jacobian in jacobians])
    return Modes(
        _with_coordinates(states, computed_rows, best_x[computed_rows]),
        log_like[computed_rows],
        [row_jacobian for row_jacobian in jacobians if row_jacobian is not None],
    )


def _with_coordinates(states: States, rows: NDArray[np.integer], x: FloatArray) -> States:
    selected_states = states.select(rows)
    return States(selected_states.n_layer, selected_states.is_in_layer, selected_states.member_index, x)


def take_step(x: FloatArray, step: FloatArray) -> FloatArray:
    """Return the coordinates after a step, which is shortened if a component exceeds ``MAX_COORDINATE_STEP``."""
    step = step * min(1.0, MAX_COORDINATE_STEP / max(float(np.abs(step).max(initial=0.0)), 1e-12))
    return np.clip(x + step, -MAX_COORDINATE, MAX_COORDINATE)


def residual_derivatives(model: SpectrumModel, states: States, is_active: BoolArray) -> list[FloatArray]:
    """Return the finite-difference derivatives of each state's residuals with respect to its active coordinates."""
    if not len(states):
        return []
    state_index, coordinate_index = np.nonzero(is_active)
    shifted_states = states.select(np.concatenate([np.arange(len(states)), state_index]))
    shifted_states.x[len(states) + np.arange(state_index.size), coordinate_index] += DIFFERENCE_STEP
    residuals, _ = model.evaluate(shifted_states, DERIVATIVE_DETAIL)
    residual_slopes = (residuals[len(states) :] - residuals[state_index]) / DIFFERENCE_STEP
    return [residual_slopes[state_index == row] for row in range(len(states))]


class Mixture:
    """Mixture of Student's t distributions, from Laplace approximations of ``prior x likelihood**beta`` around modes.

    A group's member in a layer is replaced with a probability of ``MEMBER_PROBABILITY``, with the masses of the groups'
    elements as in the mode. Log densities omit the constant of the normal distribution, as in ``log_prior_of_x``.

    Parameters
    ----------
    prior : PaintPrior
    modes : Modes
    beta : float
        Power of the likelihood.
    weight_exponent : float
        Exponent of the evidence in the weights of the components.
    """

    def __init__(self, prior: PaintPrior, modes: Modes, beta: float, weight_exponent: float = 0.6) -> None:
        self.prior, self.modes, self.is_active = prior, modes, modes.states.is_active()
        self.precision = [
            beta * (jacobian @ jacobian.T).astype(np.float64) + np.eye(len(jacobian)) for jacobian in modes.jacobians
        ]
        self.cholesky = [np.linalg.cholesky(np.linalg.inv(precision)) for precision in self.precision]
        self.log_scale = np.asarray([np.log(np.diag(cholesky)).sum() for cholesky in self.cholesky])
        self.log_evidence = (
            beta * modes.log_likelihood
            + prior.log_discrete_prior(modes.states)
            + log_prior_of_x(modes.states, self.is_active)
            + self.log_scale
        )
        component_weights = np.exp(weight_exponent * (self.log_evidence - self.log_evidence.max())) + 1e-3
        self.log_weight = np.log(component_weights / component_weights.sum())
        self._components_by_structure: dict[bytes, list[int]] = {}
        for component, structure in enumerate(modes.states.structure_keys()):
            self._components_by_structure.setdefault(structure, []).append(component)

    def components_with(self, structure: bytes) -> list[int]:
        """Return the indices of the components that have a structure."""
        return self._components_by_structure.get(structure, [])

    def draw(self, n_state: int, rng: np.random.Generator) -> States:
        """Draw states from the mixture."""
        component_indices = rng.choice(len(self.modes), n_state, p=np.exp(self.log_weight))
        states = self.modes.states.select(component_indices)
        states.x[:] = rng.normal(size=states.x.shape)
        for row, component in enumerate(component_indices):
            is_active = self.is_active[component]
            student_scale = np.sqrt(DEGREES_OF_FREEDOM / rng.chisquare(DEGREES_OF_FREEDOM))
            coordinate_offset = self.cholesky[component] @ rng.normal(size=int(is_active.sum()))
            states.x[row, is_active] = self.modes.states.x[component, is_active] + student_scale * coordinate_offset
        is_replaced = rng.random(states.member_index.shape) < MEMBER_PROBABILITY
        new_members = np.where(is_replaced, self.prior.draw_members(n_state, rng), states.member_index)
        return self.prior.replace_members(states, new_members)[0]

    def log_density(self, states: States) -> FloatArray:
        """Return the (n,) log densities of states, -inf if no component has the structure of a state."""
        log_densities = np.full(len(states), -np.inf)
        rows_by_structure: dict[bytes, list[int]] = {}
        for row, structure in enumerate(states.structure_keys()):
            rows_by_structure.setdefault(structure, []).append(row)
        for structure, rows in rows_by_structure.items():
            component_log_densities = [
                self.log_weight[component] + self._log_density_of_component(component, states.select(rows))
                for component in self.components_with(structure)
            ]
            if component_log_densities:
                log_densities[rows] = logsumexp(component_log_densities, axis=0)
        return log_densities

    def _log_density_of_component(self, component: int, states: States) -> FloatArray:
        states_with_members, log_jacobian = self.with_members_of(component, states)
        is_same_member = states.member_index == states_with_members.member_index
        probability = MEMBER_PROBABILITY * np.exp(-self.prior.log_members) + (1 - MEMBER_PROBABILITY) * is_same_member
        log_member_density = np.where(states.is_in_layer, np.log(probability), 0.0).sum(axis=(1, 2))
        log_student_t = self._log_student_t(component, states_with_members.x)
        return np.asarray(log_student_t + log_jacobian + log_member_density)

    def with_members_of(self, component: int, states: States) -> tuple[States, FloatArray]:
        """Return states with the members of a component, and the log determinants, as of ``replace_members``."""
        members = np.broadcast_to(self.modes.states.member_index[component], states.member_index.shape)
        return self.prior.replace_members(states, members)

    def _log_student_t(self, component: int, x: FloatArray) -> FloatArray:
        is_active = self.is_active[component]
        n_active, degrees_of_freedom = int(is_active.sum()), DEGREES_OF_FREEDOM
        log_norm = (
            gammaln((degrees_of_freedom + n_active) / 2)
            - gammaln(degrees_of_freedom / 2)
            - n_active / 2 * np.log(degrees_of_freedom / 2)
            - self.log_scale[component]
        )
        return np.asarray(
            log_norm
            - (degrees_of_freedom + n_active)
            / 2
            * np.log1p(self._squared_distance(component, x[:, is_active]) / degrees_of_freedom)
        )

    def log_normal(self, component: int, x: FloatArray) -> float:
        """Return the log density of a component's normal distribution at the coordinates of one state."""
        squared_distance = self._squared_distance(component, x[None, self.is_active[component]])
        return float(-0.5 * squared_distance[0] - self.log_scale[component])

    def _squared_distance(self, component: int, coordinates: FloatArray) -> FloatArray:
        x_difference = coordinates - self.modes.states.x[component, self.is_active[component]]
        return np.asarray(np.einsum("ni,ij,nj->n", x_difference, self.precision[component], x_difference))
