"""Modes of the posterior, and a mixture of heavy-tailed Laplace approximations about them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

from underpaint.pigments.explain.spectrum_model import SpectrumModel
from underpaint.pigments.explain.states import Flags, Numbers, PaintPrior, States, joined, log_prior_of_x

DEGREES_OF_FREEDOM = 6
STEP = 0.05
"""Of the finite differences, in prior standard deviations."""
LARGEST_MOVE, FARTHEST = 1.2, 4.0
"""Of any coordinate in one step, and in all, in prior standard deviations."""
SETTLED = 0.1
"""A climb ends when a step gains less in log density."""


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
    log_likelihood: Numbers
    jacobians: list[NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.states)

    def rows(self, index: NDArray[np.integer]) -> "Modes":
        """Return some of the modes."""
        return Modes(self.states.rows(index), self.log_likelihood[index], [self.jacobians[row] for row in index])


def joined_modes(parts: Sequence[Modes]) -> Modes:
    """Return the modes of several searches in one."""
    jacobians = [jacobian for part in parts for jacobian in part.jacobians]
    return Modes(
        joined([part.states for part in parts]), np.concatenate([part.log_likelihood for part in parts]), jacobians
    )


def climb(model: SpectrumModel, states: States, beta: float, rounds: int) -> Modes:
    """Climb to the modes of ``prior x likelihood**beta``, each within its structure, all states at once.

    Levenberg and Marquardt's steps on finite differences; states that cannot be computed are left out.
    """
    n, active = len(states), states.active()
    best, trial = states.x.copy(), states.x.copy()
    damping, cost, log_like = np.full(n, 0.1), np.full(n, np.inf), np.full(n, -1e30)
    jacobians: list[NDArray[np.float32] | None] = [None] * n
    gradients: list[Numbers] = [np.zeros(0)] * n
    done = np.zeros(n, dtype=np.bool_)
    for _ in range(rounds):
        todo = np.flatnonzero(~done)
        if not todo.size:
            break
        residuals, reached = model.evaluate(_at(states, todo, trial[todo]))
        prior = np.where(active[todo], trial[todo] ** 2, 0.0).sum(axis=1)
        new = 0.5 * beta * (residuals**2).sum(axis=1) + 0.5 * prior
        better = new < cost[todo] - 1e-9
        damping[todo[~better]] *= 6.0
        done |= damping > 1e5
        improved = todo[better]
        gain = cost[improved] - new[better]
        cost[improved], best[improved], log_like[improved] = new[better], trial[improved], reached[better]
        damping[improved] = np.maximum(damping[improved] / 4.0, 1e-4)
        slopes = slopes_of(model, _at(states, improved, best[improved]), active[improved], residuals[better])
        for place, (row, slope) in enumerate(zip(improved, slopes, strict=True)):
            jacobians[row] = slope.astype(np.float32)
            gradients[row] = slope @ residuals[better][place]
            done[row] |= gain[place] < SETTLED
        for row in todo:
            jacobian = jacobians[row]
            if done[row] or jacobian is None:
                continue
            on = active[row]
            hessian = beta * (jacobian @ jacobian.T).astype(np.float64) + np.eye(int(on.sum()))
            damped = hessian + damping[row] * np.diag(np.diag(hessian))
            trial[row] = best[row]
            trial[row, on] = moved(best[row, on], -np.linalg.solve(damped, beta * gradients[row] + best[row, on]))
    kept = np.flatnonzero([jacobian is not None for jacobian in jacobians])
    return Modes(
        _at(states, kept, best[kept]), log_like[kept], [jacobian for jacobian in jacobians if jacobian is not None]
    )


def _at(states: States, rows: NDArray[np.integer], x: Numbers) -> States:
    picked = states.rows(rows)
    return States(picked.n_layer, picked.holds, picked.member, x)


def moved(x: Numbers, step: Numbers) -> Numbers:
    """Return coordinates after a step, which is shortened to ``LARGEST_MOVE``."""
    step = step * min(1.0, LARGEST_MOVE / max(float(np.abs(step).max(initial=0.0)), 1e-12))
    return np.clip(x + step, -FARTHEST, FARTHEST)


def slopes_of(model: SpectrumModel, states: States, active: Flags, residuals: Numbers) -> list[Numbers]:
    """Return, of each state, the derivatives of its residuals to some coordinates by finite differences."""
    owner, coordinate = np.nonzero(active)
    if not owner.size:
        return [np.zeros((0, residuals.shape[1]))] * len(states)
    shifted = states.rows(owner)
    shifted.x[np.arange(owner.size), coordinate] += STEP
    slopes = (model.evaluate(shifted)[0] - residuals[owner]) / STEP
    return [slopes[owner == row] for row in range(len(states))]


class Mixture:
    """Laplace approximations of ``prior x likelihood**beta`` about modes, as a mixture of Student's t.

    Densities leave out the normal's constant, as ``log_prior_of_x`` does.

    Parameters
    ----------
    prior : PaintPrior
    modes : Modes
    beta : float
        Temperature: the power of the likelihood.
    sharpness : float
        Weights are the components' evidences to this power.
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
        self._of_composition: dict[bytes, list[int]] = {}
        for index, composition in enumerate(modes.states.compositions()):
            self._of_composition.setdefault(composition, []).append(index)

    def components(self, composition: bytes) -> list[int]:
        """Return the components of a composition."""
        return self._of_composition.get(composition, [])

    def draw(self, n: int, rng: np.random.Generator) -> States:
        """Draw states."""
        picked = rng.choice(len(self.modes), n, p=np.exp(self.log_weight))
        states = self.modes.states.rows(picked)
        states.x[:] = rng.normal(size=states.x.shape)
        for row, component in enumerate(picked):
            on = self.active[component]
            spread = np.sqrt(DEGREES_OF_FREEDOM / rng.chisquare(DEGREES_OF_FREEDOM))
            bell = self.cholesky[component] @ rng.normal(size=int(on.sum()))
            states.x[row, on] = self.modes.states.x[component, on] + spread * bell
        return states

    def log_density(self, states: States) -> Numbers:
        """Return (n,) log densities; minus infinity where no component has the composition."""
        density = np.full(len(states), -np.inf)
        rows_of: dict[bytes, list[int]] = {}
        for row, composition in enumerate(states.compositions()):
            rows_of.setdefault(composition, []).append(row)
        for composition, rows in rows_of.items():
            parts = [
                self.log_weight[component] + self._student(component, states.x[rows])
                for component in self.components(composition)
            ]
            if parts:
                density[rows] = logsumexp(parts, axis=0)
        return density

    def _student(self, component: int, x: Numbers) -> Numbers:
        on = self.active[component]
        n, nu = int(on.sum()), DEGREES_OF_FREEDOM
        constant = gammaln((nu + n) / 2) - gammaln(nu / 2) - n / 2 * np.log(nu / 2) - self.log_scale[component]
        return np.asarray(constant - (nu + n) / 2 * np.log1p(self._distance(component, x[:, on]) / nu))

    def log_bell(self, component: int, x: Numbers) -> float:
        """Return the log density of the component's normal at one state's coordinates."""
        distance = self._distance(component, x[None, self.active[component]])
        return float(-0.5 * distance[0] - self.log_scale[component])

    def _distance(self, component: int, x: Numbers) -> Numbers:
        off = x - self.modes.states.x[component, self.active[component]]
        return np.asarray(np.einsum("ni,ij,nj->n", off, self.precision[component], off))
