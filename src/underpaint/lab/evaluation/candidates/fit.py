"""Fit candidate stratigraphies to a spectrum by likelihood, all with the same calls of the forward model."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from underpaint.lab.evaluation.candidates.candidate import Candidate
from underpaint.lab.evaluation.candidates.measured import FAINTEST, Measured, poisson_deviance
from underpaint.physics.forward import ORDERS, SCATTER, Emission, emit, render
from underpaint.physics.instrument import Instrument

Numbers = NDArray[np.float64]
STEP = 0.02
"""Step of the finite differences of logarithms: the counts' curvature stays under 1e-2 of their slope."""
LEVELS = ("scale", "coherent", "other scatter", "slope of the scatter", "curvature of the scatter")
"""Free parameters besides the stratigraphy, as in ``limits``: support, air and holders scatter, too."""
FARTHEST = np.asarray([30.0, 2.0, 2.0, 2.0, 1.0])
"""Limits of these logarithms; slope and curvature are in ln(energy)."""


@dataclass(frozen=True)
class Question:
    """A candidate at coordinates whose spectrum and derivatives are needed.

    Parameters
    ----------
    candidate : Candidate
    place : (n_free,) array
        Coordinates of the candidate.
    levels : (5,) array
        ``LEVELS``.
    """

    candidate: Candidate
    place: Numbers
    levels: Numbers


@dataclass(frozen=True)
class Answer:
    """Expected counts and their derivatives.

    Parameters
    ----------
    expected : (n_bin,) array
    jacobian : (n_bin, n_free + 5) array
        Derivatives to the coordinates, then to ``LEVELS``.
    """

    expected: Numbers
    jacobian: Numbers


def answers(questions: Sequence[Question], measured: Measured, instrument: Instrument) -> list[Answer]:
    """Return the spectrum and the derivatives of every question.

    All stratigraphies, moved ones included, go through one call of ``emit``: they share the atomic tables.

    Parameters
    ----------
    questions : sequence of Question
    measured : Measured
        Supplies the channels.
    instrument : Instrument
    """
    moves = [_steps(question) for question in questions]
    places = [
        np.concatenate([question.place[None], question.place + np.diag(move)])
        for question, move in zip(questions, moves, strict=True)
    ]
    batch = [question.candidate.at(place) for question, rows in zip(questions, places, strict=True) for place in rows]
    levels = np.concatenate(
        [np.tile(question.levels, (len(rows), 1)) for question, rows in zip(questions, places, strict=True)]
    )
    # single precision is within 2e-5 of any line, a thousandth of the steps
    emission = with_levels(emit(batch, instrument, single=True), levels, measured)
    scale = np.exp(levels[:, :1])
    modelled = scale * _rendered(emission, measured, instrument)
    firsts = np.cumsum([0, *(len(rows) for rows in places)])
    bases = rows_of(emission, firsts[:-1])
    coherent = scale[firsts[:-1]] * _rendered(only(bases, "coherent"), measured, instrument)
    other = scale[firsts[:-1]] * _rendered(only(bases, "compton", "multiple", "air"), measured, instrument)
    bend = _curvature_terms(measured.energy_kev, measured)
    results = []
    for index, move in enumerate(moves):
        spectra = modelled[firsts[index] : firsts[index + 1]]
        by_place = (spectra[1:] - spectra[0]) / move[:, None]
        by_levels = [spectra[0], coherent[index], other[index], *((coherent[index] + other[index]) * bend)]
        results.append(Answer(np.maximum(spectra[0], FAINTEST), np.stack([*by_place, *by_levels], axis=1)))
    return results


def with_levels(emission: Emission, levels: Numbers, measured: Measured) -> Emission:
    """Return an emission with the scatter, and not the total, of each sample scaled by its levels, (n_sample, 5)."""
    shifted = np.exp(levels[:, 2:3] + levels[:, 3:] @ _curvature_terms(emission.compton_kev, measured))
    return replace(
        emission,
        coherent=emission.coherent
        * np.exp(levels[:, 1:2] + levels[:, 3:] @ _curvature_terms(emission.source_kev, measured)),
        **{name: getattr(emission, name) * shifted for name in ("compton", "multiple", "air")},
    )


def only(emission: Emission, *components: str) -> Emission:
    """Return an emission with the named orders and kinds of scatter alone."""
    dark = {name: np.zeros_like(getattr(emission, name)) for name in (*ORDERS, *SCATTER) if name not in components}
    return replace(emission, **dark)


def rows_of(emission: Emission, rows: NDArray[np.int64]) -> Emission:
    """Return some samples of an emission."""
    return replace(emission, **{name: getattr(emission, name)[rows] for name in (*ORDERS, *SCATTER)})


def _steps(question: Question) -> Numbers:
    """Return (n_free,) steps, away from the nearer bound."""
    low, high = question.candidate.bounds.T
    return np.asarray(np.where(question.place + STEP <= high, STEP, -STEP) * np.ones_like(low))


def _curvature_terms(energy_kev: Numbers, measured: Measured) -> Numbers:
    """Return (2, n) the logarithm of the energy over the middle of the range, and its square."""
    start, stop = measured.axis.start_kev, measured.axis.stop_kev
    level = np.log(energy_kev / np.sqrt(start * stop))
    # beyond the fitted channels the curve would diverge
    level = np.clip(level, np.log(np.sqrt(start / stop)), np.log(np.sqrt(stop / start)))
    return np.stack([level, level**2])


def _rendered(emission: Emission, measured: Measured, instrument: Instrument) -> Numbers:
    return np.asarray(render(emission, instrument.detector, measured.axis), dtype=np.float64)


LARGEST_MOVE = 1.0
"""Largest change of a logarithm in one step, against divergence."""
SETTLED = 0.02
"""A fit ends when the next step promises to lower the deviance by less."""
ROUNDS = 30
PATIENCE, HOPELESS = 8, 1000.0
"""Rounds after which a fit ends if its deviance is so far above the best."""
DAMPING = 1e-3
FAR_OFF = 5.0
"""Standard deviations."""


@dataclass(frozen=True)
class Task:
    """A candidate and its initial coordinates.

    Parameters
    ----------
    candidate : Candidate
    place : (n_free,) array
    """

    candidate: Candidate
    place: Numbers


@dataclass(frozen=True)
class StratigraphyFit:
    """A candidate fitted to one spectrum.

    Parameters
    ----------
    candidate : Candidate
    place : (n_free,) array
        Fitted coordinates.
    levels : (5,) array
        Fitted ``LEVELS``.
    deviance : float
        Twice the log-likelihood ratio against a model that matches every channel, with the model's error
        (``Measured``).
    poisson_deviance : float
        The same without it (Baker & Cousins 1984, eq. 3).
    n_channel, n_parameter : int
        Numbers of merged channels and of free parameters (coordinates and levels).
    expected : (n_channel,) array
        Fitted counts in the merged channels.
    covariance : (n_free + 5, n_free + 5) array
        Of coordinates and levels, from the Fisher information; large where the spectrum has no information.
    settled : bool
        False where the fit ended before convergence.
    """

    candidate: Candidate
    place: Numbers
    levels: Numbers
    deviance: float
    poisson_deviance: float
    n_channel: int
    n_parameter: int
    expected: Numbers
    covariance: Numbers
    settled: bool

    @property
    def aic(self) -> float:
        """Akaike's criterion but for a constant of the spectrum: deviance plus twice the number of parameters."""
        return self.deviance + 2.0 * self.n_parameter

    @property
    def thickness_um(self) -> Numbers:
        """(n_layer,) fitted thicknesses, um."""
        return self.candidate.thickness_um(self.place)


def fit_candidates(
    measured: Measured,
    candidates: Sequence[Candidate],
    instrument: Instrument,
) -> list[StratigraphyFit]:
    """Fit every candidate and return them, best first (smallest AIC).

    Parameters
    ----------
    measured : Measured
        From ``measured``.
    candidates : sequence of Candidate
        Each fit starts from the candidate's layers.
    instrument : Instrument
    """
    fits = solve([Task(candidate, candidate.start) for candidate in candidates], measured, instrument)
    return sorted(fits, key=lambda fit: fit.aic)


def solve(
    tasks: Sequence[Task],
    measured: Measured,
    instrument: Instrument,
) -> list[StratigraphyFit]:
    """Fit every task by damped Fisher scoring within its bounds, in step, and return the fits in their order.

    A fit whose deviance is more than ``HOPELESS`` above the best ends after ``PATIENCE`` rounds.

    Notes
    -----
    Levenberg and Marquardt's damping on the expected information of the likelihood of ``Measured``: each round computes
    one spectrum and its derivatives for every task that has not converged, in one call of the forward model.
    """
    runs = [_Run(task) for task in tasks]
    for done in range(ROUNDS):
        worth = HOPELESS + (min(run.deviance for run in runs) if done >= PATIENCE else np.inf)
        active = [run for run in runs if not run.settled and run.deviance <= worth]
        if not active:
            break
        evaluations = answers([run.question for run in active], measured, instrument)
        for run, answer in zip(active, evaluations, strict=True):
            run.take(answer, measured)
    return [run.result(measured) for run in runs]


@dataclass
class _Run:
    """The state of one fit."""

    task: Task
    trial: Numbers = field(init=False)
    best: Numbers = field(init=False)
    answer: Answer | None = None
    deviance: float = np.inf
    damping: float = DAMPING
    settled: bool = False

    def __post_init__(self) -> None:
        self.trial = self.best = np.concatenate([self.task.place, np.zeros(FARTHEST.size)])

    @property
    def question(self) -> Question:
        count = len(self.task.place)
        return Question(self.task.candidate, self.trial[:count], self.trial[count:])

    @property
    def bounds(self) -> tuple[Numbers, Numbers]:
        low, high = self.task.candidate.bounds.T
        return np.concatenate([low, -FARTHEST]), np.concatenate([high, FARTHEST])

    def take(self, answer: Answer, measured: Measured) -> None:
        """Evaluate the trial and choose the next one."""
        if self.answer is None:
            answer = self._scaled(answer, measured)
        deviance = measured.deviance(answer.expected)
        if deviance < self.deviance:
            self.best, self.answer, self.deviance = self.trial, answer, deviance
            self.damping = max(self.damping / 5.0, 1e-7)
        else:
            self.damping *= 8.0
        step, promised = self._step(measured)
        self.trial = np.clip(self.best + step, *self.bounds)
        self.settled = promised < SETTLED or self.damping > 1e7

    def _scaled(self, answer: Answer, measured: Measured) -> Answer:
        """Scale the initial model to the counts of the spectrum."""
        factor = measured.counts.sum() / answer.expected.sum()
        count = len(self.task.place)
        self.trial = self.trial.copy()
        self.trial[count] += np.log(factor)
        return Answer(answer.expected * factor, answer.jacobian * factor)

    def _step(self, measured: Measured) -> tuple[Numbers, float]:
        """Return the next step and the expected decrease of the deviance."""
        information, gradient = self._fisher(measured, steep=True)
        low, high = (bound - self.best for bound in self.bounds)
        held = np.zeros(self.best.size, dtype=np.bool_)
        damped = information + np.diag(self.damping * np.diag(information) + 1e-10)
        step = np.zeros_like(self.best)
        for _ in range(self.best.size):
            # parameters stop at their bounds, and the others are solved again
            free = np.flatnonzero(~held)
            rest = gradient[free] - damped[np.ix_(free, np.flatnonzero(held))] @ step[held]
            step[free] = np.linalg.solve(damped[np.ix_(free, free)], rest)
            outside = (step < low) | (step > high)
            if not outside.any():
                break
            step = np.clip(step, low, high)
            held |= outside
        step *= min(LARGEST_MOVE / max(float(np.abs(step).max()), 1e-12), 1.0)
        return step, float(2.0 * gradient @ step - step @ information @ step)

    def _fisher(self, measured: Measured, *, steep: bool = False) -> tuple[Numbers, Numbers]:
        """Return the Fisher information and half the negative gradient of the deviance.

        ``steep``: use the observed curvature where counts far exceed the model; the expected one would overshoot.
        """
        if self.answer is None:
            raise RuntimeError("no trial was evaluated yet")
        expected, jacobian = self.answer.expected, self.answer.jacobian
        weight = 1.0 / measured.variance(expected)
        gradient = (jacobian * weight[:, None]).T @ (measured.counts - expected)
        if steep:
            weight = weight * np.where(measured.pulls(expected) > FAR_OFF, measured.counts / expected, 1.0)
        return (jacobian * weight[:, None]).T @ jacobian, gradient

    def result(self, measured: Measured) -> StratigraphyFit:
        count = len(self.task.place)
        information, _ = self._fisher(measured)
        # a trace of prior (a standard deviation of a factor e**10) keeps the inverse finite
        covariance = np.asarray(np.linalg.inv(information + 0.01 * np.eye(len(information))), dtype=np.float64)
        expected = self.answer.expected if self.answer is not None else measured.counts
        return StratigraphyFit(
            self.task.candidate,
            self.best[:count],
            self.best[count:],
            self.deviance,
            poisson_deviance(measured.counts, expected),
            len(expected),
            len(self.best),
            expected,
            covariance,
            self.settled,
        )
