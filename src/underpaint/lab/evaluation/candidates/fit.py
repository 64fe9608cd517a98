"""Maximum-likelihood fits of candidate stratigraphies to a spectrum. The fits share calls of the forward model."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from underpaint.lab.evaluation.candidates.candidate import Candidate
from underpaint.lab.evaluation.candidates.measured import MIN_EXPECTED, MergedSpectrum, poisson_deviance
from underpaint.physics.forward import ORDERS, SCATTER, Emission, emit, render
from underpaint.physics.instrument import Instrument

Numbers = NDArray[np.float64]
DIFFERENCE_STEP = 0.02
"""Step of logarithms in finite differences. In one step, curvature changes the slope of counts by less than 1 %."""
SCALE_NAMES = ("scale", "coherent", "other scatter", "slope of the scatter", "curvature of the scatter")
"""Names of the free scales, which are fitted as logarithms.

Scatter has free scales because support, air and sample holder also scatter X-rays.
"""
MAX_LOG_SCALES = np.asarray([30.0, 2.0, 2.0, 2.0, 1.0])
"""Largest absolute value of each logarithm in ``SCALE_NAMES``.

The slope and the curvature multiply ln(energy) and its square.
"""


@dataclass(frozen=True)
class EvaluationPoint:
    """Parameter values at which the model spectrum of a candidate and its derivatives are computed.

    Parameters
    ----------
    candidate : Candidate
    parameter_values : (n_free,) array
        Parameters of the candidate.
    scales : (5,) array
        Logarithms of the scales named in ``SCALE_NAMES``.
    """

    candidate: Candidate
    parameter_values: Numbers
    scales: Numbers


@dataclass(frozen=True)
class ModelledSpectrum:
    """Expected counts and their derivatives.

    Parameters
    ----------
    expected_counts : (n_bin,) array
    jacobian : (n_bin, n_free + 5) array
        Derivatives with respect to the parameters, then to the logarithms of the scales.
    """

    expected_counts: Numbers
    jacobian: Numbers


def evaluate_models(
    evaluations: Sequence[EvaluationPoint], spectrum: MergedSpectrum, instrument: Instrument
) -> list[ModelledSpectrum]:
    """Return the model spectrum and its derivatives at every evaluation point.

    One call of ``emit`` computes the emission of all stratigraphies, including those for the finite differences.

    Parameters
    ----------
    evaluations : sequence of EvaluationPoint
    spectrum : MergedSpectrum
        Spectrum that defines the channels.
    instrument : Instrument
    """
    steps_by_evaluation = [_difference_steps(evaluation_point) for evaluation_point in evaluations]
    trial_values_by_evaluation = [
        np.concatenate(
            [evaluation_point.parameter_values[None], evaluation_point.parameter_values + np.diag(parameter_steps)]
        )
        for evaluation_point, parameter_steps in zip(evaluations, steps_by_evaluation, strict=True)
    ]
    stratigraphies = [
        evaluation_point.candidate.stratigraphy_at(parameter_values)
        for evaluation_point, trial_values in zip(evaluations, trial_values_by_evaluation, strict=True)
        for parameter_values in trial_values
    ]
    scale_rows = np.concatenate(
        [
            np.tile(evaluation_point.scales, (len(trial_values), 1))
            for evaluation_point, trial_values in zip(evaluations, trial_values_by_evaluation, strict=True)
        ]
    )
    # single precision has an error of 2e-5 in every line, which is a thousandth of the finite-difference step
    emission = with_scales(emit(stratigraphies, instrument, single=True), scale_rows, spectrum)
    total_scale = np.exp(scale_rows[:, :1])
    model_counts = total_scale * _render_counts(emission, spectrum, instrument)
    first_sample_rows = np.cumsum([0, *(len(trial_values) for trial_values in trial_values_by_evaluation)])
    unshifted_emission = select_samples(emission, first_sample_rows[:-1])
    coherent_counts = total_scale[first_sample_rows[:-1]] * _render_counts(
        with_components(unshifted_emission, "coherent"), spectrum, instrument
    )
    other_scatter_counts = total_scale[first_sample_rows[:-1]] * _render_counts(
        with_components(unshifted_emission, "compton", "multiple", "air"), spectrum, instrument
    )
    log_energy_terms = _log_energy_terms(spectrum.energy_kev, spectrum)
    model_spectra = []
    for evaluation_index, parameter_steps in enumerate(steps_by_evaluation):
        spectra = model_counts[first_sample_rows[evaluation_index] : first_sample_rows[evaluation_index + 1]]
        parameter_derivatives = (spectra[1:] - spectra[0]) / parameter_steps[:, None]
        scale_derivatives = [
            spectra[0],
            coherent_counts[evaluation_index],
            other_scatter_counts[evaluation_index],
            *((coherent_counts[evaluation_index] + other_scatter_counts[evaluation_index]) * log_energy_terms),
        ]
        model_spectra.append(
            ModelledSpectrum(
                np.maximum(spectra[0], MIN_EXPECTED), np.stack([*parameter_derivatives, *scale_derivatives], axis=1)
            )
        )
    return model_spectra


def with_scales(emission: Emission, scales: Numbers, spectrum: MergedSpectrum) -> Emission:
    """Multiply the scatter of an emission by (n_sample, 5) scales. The total scale is not applied."""
    other_scatter_factor = np.exp(scales[:, 2:3] + scales[:, 3:] @ _log_energy_terms(emission.compton_kev, spectrum))
    return replace(
        emission,
        coherent=emission.coherent
        * np.exp(scales[:, 1:2] + scales[:, 3:] @ _log_energy_terms(emission.source_kev, spectrum)),
        **{name: getattr(emission, name) * other_scatter_factor for name in ("compton", "multiple", "air")},
    )


def with_components(emission: Emission, *component_names: str) -> Emission:
    """Return an emission with only the named orders of fluorescence and kinds of scatter."""
    zeroed_components = {
        name: np.zeros_like(getattr(emission, name)) for name in (*ORDERS, *SCATTER) if name not in component_names
    }
    return replace(emission, **zeroed_components)


def select_samples(emission: Emission, sample_rows: NDArray[np.int64]) -> Emission:
    """Return the emission of the samples in the given rows."""
    return replace(emission, **{name: getattr(emission, name)[sample_rows] for name in (*ORDERS, *SCATTER)})


def _difference_steps(evaluation: EvaluationPoint) -> Numbers:
    """Return the (n_free,) steps of the finite differences. Parameters near their upper bound have negative steps."""
    lower_bounds, upper_bounds = evaluation.candidate.bounds.T
    return np.asarray(
        np.where(evaluation.parameter_values + DIFFERENCE_STEP <= upper_bounds, DIFFERENCE_STEP, -DIFFERENCE_STEP)
        * np.ones_like(lower_bounds)
    )


def _log_energy_terms(energy_kev: Numbers, spectrum: MergedSpectrum) -> Numbers:
    """Return ln(E / E0) and its square as a (2, n) array, where E0 is the geometric centre of the fitted range."""
    start_kev, stop_kev = spectrum.axis.start_kev, spectrum.axis.stop_kev
    log_energy = np.log(energy_kev / np.sqrt(start_kev * stop_kev))
    # ln(E / E0) is clipped, because the exponential of its square diverges outside the fitted channels
    log_energy = np.clip(log_energy, np.log(np.sqrt(start_kev / stop_kev)), np.log(np.sqrt(stop_kev / start_kev)))
    return np.stack([log_energy, log_energy**2])


def _render_counts(emission: Emission, spectrum: MergedSpectrum, instrument: Instrument) -> Numbers:
    return np.asarray(render(emission, instrument.detector, spectrum.axis), dtype=np.float64)


MAX_LOG_STEP = 1.0
"""Maximum change of a logarithm in one step. This limit prevents divergence."""
MIN_DEVIANCE_DECREASE = 0.02
"""Expected decrease of the deviance below which a fit has converged."""
MAX_ROUNDS = 30
MIN_ROUNDS, MAX_DEVIANCE_EXCESS = 8, 1000.0
"""Rounds after which a fit is stopped if its deviance exceeds the lowest deviance by ``MAX_DEVIANCE_EXCESS``."""
INITIAL_DAMPING = 1e-3
"""Initial damping, relative to the diagonal of the Fisher information."""
MAX_PULL = 5.0
"""Residual, in standard deviations, above which observed curvature of the likelihood replaces expected curvature."""


@dataclass(frozen=True)
class FitTask:
    """A candidate and its initial parameters.

    Parameters
    ----------
    candidate : Candidate
    parameter_values : (n_free,) array
    """

    candidate: Candidate
    parameter_values: Numbers


@dataclass(frozen=True)
class StratigraphyFit:
    """A candidate fitted to one spectrum.

    Parameters
    ----------
    candidate : Candidate
    parameter_values : (n_free,) array
        Fitted parameters.
    scales : (5,) array
        Fitted logarithms of the scales named in ``SCALE_NAMES``.
    deviance : float
        Twice the log-likelihood ratio of a model that matches every channel to the fitted model. The likelihood
        includes the model error (``MergedSpectrum``).
    poisson_deviance : float
        Deviance without the model error (Baker & Cousins 1984, eq. 3).
    n_channel, n_parameter : int
        Numbers of merged channels and of free parameters, including the scales.
    expected_counts : (n_channel,) array
        Fitted counts in the merged channels.
    covariance : (n_free + 5, n_free + 5) array
        Covariance of parameters and scales, from the Fisher information.
        Parameters that the spectrum does not constrain have a large variance.
    is_converged : bool
        Whether the fit converged.
    """

    candidate: Candidate
    parameter_values: Numbers
    scales: Numbers
    deviance: float
    poisson_deviance: float
    n_channel: int
    n_parameter: int
    expected_counts: Numbers
    covariance: Numbers
    is_converged: bool

    @property
    def aic(self) -> float:
        """Akaike information criterion up to a constant: the deviance plus twice the number of parameters."""
        return self.deviance + 2.0 * self.n_parameter

    @property
    def thickness_um(self) -> Numbers:
        """Fitted thicknesses of the layers, in um, with the shape (n_layer,)."""
        return self.candidate.thickness_um(self.parameter_values)


def fit_candidates(
    spectrum: MergedSpectrum,
    candidates: Sequence[Candidate],
    instrument: Instrument,
) -> list[StratigraphyFit]:
    """Fit every candidate, and return the fits sorted by AIC, the lowest first.

    Parameters
    ----------
    spectrum : MergedSpectrum
        Merged channels of a measured spectrum, from ``merge_channels``.
    candidates : sequence of Candidate
        Candidates. Each fit starts from the layers of its candidate.
    instrument : Instrument
    """
    fits = solve_fit_tasks(
        [FitTask(candidate, candidate.initial_parameters) for candidate in candidates], spectrum, instrument
    )
    return sorted(fits, key=lambda fit: fit.aic)


def solve_fit_tasks(
    fit_tasks: Sequence[FitTask],
    spectrum: MergedSpectrum,
    instrument: Instrument,
) -> list[StratigraphyFit]:
    """Fit all tasks simultaneously by damped Fisher scoring within bounds, and return the fits in task order.

    After ``MIN_ROUNDS`` rounds, a fit is stopped if its deviance exceeds the lowest deviance by more than
    ``MAX_DEVIANCE_EXCESS``.

    Notes
    -----
    Levenberg-Marquardt damping is applied to the expected Fisher information of ``MergedSpectrum``. In each round, one
    call of the forward model computes the spectra and derivatives of all tasks that have not converged.
    """
    fit_states = [_FitState(fit_task) for fit_task in fit_tasks]
    for round_number in range(MAX_ROUNDS):
        max_deviance = MAX_DEVIANCE_EXCESS + (
            min(fit_state.deviance for fit_state in fit_states) if round_number >= MIN_ROUNDS else np.inf
        )
        active_states = [
            fit_state for fit_state in fit_states if not fit_state.is_converged and fit_state.deviance <= max_deviance
        ]
        if not active_states:
            break
        model_spectra = evaluate_models([fit_state.evaluation for fit_state in active_states], spectrum, instrument)
        for fit_state, model_spectrum in zip(active_states, model_spectra, strict=True):
            fit_state.update_trial_point(model_spectrum, spectrum)
    return [fit_state.as_fit(spectrum) for fit_state in fit_states]


@dataclass
class _FitState:
    """Current parameters, deviance and damping of one fit."""

    task: FitTask
    trial_point: Numbers = field(init=False)
    best_point: Numbers = field(init=False)
    model_spectrum: ModelledSpectrum | None = None
    deviance: float = np.inf
    damping: float = INITIAL_DAMPING
    is_converged: bool = False

    def __post_init__(self) -> None:
        self.trial_point = self.best_point = np.concatenate([self.task.parameter_values, np.zeros(len(SCALE_NAMES))])

    @property
    def evaluation(self) -> EvaluationPoint:
        n_free = len(self.task.parameter_values)
        return EvaluationPoint(self.task.candidate, self.trial_point[:n_free], self.trial_point[n_free:])

    @property
    def bounds(self) -> tuple[Numbers, Numbers]:
        lower_bounds, upper_bounds = self.task.candidate.bounds.T
        return np.concatenate([lower_bounds, -MAX_LOG_SCALES]), np.concatenate([upper_bounds, MAX_LOG_SCALES])

    def update_trial_point(self, model_spectrum: ModelledSpectrum, spectrum: MergedSpectrum) -> None:
        """Keep the trial point if it lowers the deviance, and choose the next trial point."""
        if self.model_spectrum is None:
            model_spectrum = self._scaled_to_counts(model_spectrum, spectrum)
        deviance = spectrum.deviance(model_spectrum.expected_counts)
        if deviance < self.deviance:
            self.best_point, self.model_spectrum, self.deviance = self.trial_point, model_spectrum, deviance
            self.damping = max(self.damping / 5.0, 1e-7)
        else:
            self.damping *= 8.0
        parameter_step, expected_decrease = self._next_step(spectrum)
        self.trial_point = np.clip(self.best_point + parameter_step, *self.bounds)
        self.is_converged = expected_decrease < MIN_DEVIANCE_DECREASE or self.damping > 1e7

    def _scaled_to_counts(self, model_spectrum: ModelledSpectrum, spectrum: MergedSpectrum) -> ModelledSpectrum:
        """Scale the initial model spectrum to the total counts of the measured spectrum."""
        scale_factor = spectrum.counts.sum() / model_spectrum.expected_counts.sum()
        n_free = len(self.task.parameter_values)
        self.trial_point = self.trial_point.copy()
        self.trial_point[n_free] += np.log(scale_factor)
        return ModelledSpectrum(model_spectrum.expected_counts * scale_factor, model_spectrum.jacobian * scale_factor)

    def _next_step(self, spectrum: MergedSpectrum) -> tuple[Numbers, float]:
        """Return the next step and the expected decrease of the deviance."""
        fisher_information, half_gradient = self._fisher_information(spectrum, use_observed_curvature=True)
        lowest_step, highest_step = (parameter_bound - self.best_point for parameter_bound in self.bounds)
        is_at_bound = np.zeros(self.best_point.size, dtype=np.bool_)
        damped_information = fisher_information + np.diag(self.damping * np.diag(fisher_information) + 1e-10)
        parameter_step = np.zeros_like(self.best_point)
        for _ in range(self.best_point.size):
            # parameters beyond a bound are fixed at the bound, and the step of all free parameters is computed again
            free_indices = np.flatnonzero(~is_at_bound)
            right_hand_side = (
                half_gradient[free_indices]
                - damped_information[np.ix_(free_indices, np.flatnonzero(is_at_bound))] @ parameter_step[is_at_bound]
            )
            parameter_step[free_indices] = np.linalg.solve(
                damped_information[np.ix_(free_indices, free_indices)], right_hand_side
            )
            out_of_bounds = (parameter_step < lowest_step) | (parameter_step > highest_step)
            if not out_of_bounds.any():
                break
            parameter_step = np.clip(parameter_step, lowest_step, highest_step)
            is_at_bound |= out_of_bounds
        parameter_step *= min(MAX_LOG_STEP / max(float(np.abs(parameter_step).max()), 1e-12), 1.0)
        return parameter_step, float(
            2.0 * half_gradient @ parameter_step - parameter_step @ fisher_information @ parameter_step
        )

    def _fisher_information(
        self, spectrum: MergedSpectrum, *, use_observed_curvature: bool = False
    ) -> tuple[Numbers, Numbers]:
        """Return the Fisher information and half the negative gradient of the deviance.

        With ``use_observed_curvature``, the observed curvature replaces the expected curvature in channels whose counts
        far exceed the model. Otherwise, the steps of the fit would be too large.
        """
        if self.model_spectrum is None:
            raise RuntimeError("no trial point was evaluated yet")
        expected_counts, jacobian = self.model_spectrum.expected_counts, self.model_spectrum.jacobian
        channel_weights = 1.0 / spectrum.variance(expected_counts)
        half_gradient = (jacobian * channel_weights[:, None]).T @ (spectrum.counts - expected_counts)
        if use_observed_curvature:
            channel_weights = channel_weights * np.where(
                spectrum.pulls(expected_counts) > MAX_PULL, spectrum.counts / expected_counts, 1.0
            )
        return (jacobian * channel_weights[:, None]).T @ jacobian, half_gradient

    def as_fit(self, spectrum: MergedSpectrum) -> StratigraphyFit:
        n_free = len(self.task.parameter_values)
        fisher_information, _ = self._fisher_information(spectrum)
        # a weak prior with a standard deviation of 10 in each logarithm keeps the covariance finite
        covariance = np.asarray(
            np.linalg.inv(fisher_information + 0.01 * np.eye(len(fisher_information))), dtype=np.float64
        )
        expected_counts = self.model_spectrum.expected_counts if self.model_spectrum is not None else spectrum.counts
        return StratigraphyFit(
            self.task.candidate,
            self.best_point[:n_free],
            self.best_point[n_free:],
            self.deviance,
            poisson_deviance(spectrum.counts, expected_counts),
            len(expected_counts),
            len(self.best_point),
            expected_counts,
            covariance,
            self.is_converged,
        )
