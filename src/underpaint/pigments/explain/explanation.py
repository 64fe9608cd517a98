"""Explanation of a spectrum by layers, from the results on which two independent posterior samples agree."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from underpaint.data import EnergyAxis, Spectrum
from underpaint.elements import CANDIDATES
from underpaint.physics.atomic import family_lines
from underpaint.physics.forward import resolution_sigma
from underpaint.physics.instrument import Instrument
from underpaint.pigments.explain.candidate_groups import CandidateGroups, prior_of
from underpaint.pigments.explain.mixture import Modes
from underpaint.pigments.explain.sampling import Sample, sample
from underpaint.pigments.explain.search import search
from underpaint.pigments.explain.spectrum_model import ModelError, SpectrumModel
from underpaint.pigments.explain.states import FloatArray, concatenate_states
from underpaint.pigments.explain.verdict import (
    MIN_PIGMENT_PROBABILITY,
    Draws,
    LayerNumber,
    LayerResult,
    PairOrder,
    draws_of,
    layer_result,
    number_of_layers,
    pair_orders,
    pool_draws,
    presence,
)
from underpaint.runtime.executors import make_executor, ordered_results
from underpaint.runtime.progress import Progress, no_progress

RUNS = 2
MAX_MISFITS = 3
MIN_MISFIT_SIGMAS = 4.0
"""Minimum deviation of a reported misfit, in standard deviations."""
N_SHOWN_DRAWS = 60
"""Number of posterior draws whose expected spectra are computed."""


@dataclass(frozen=True)
class Misfit:
    """Deviation of a spectrum from the best draw at one energy.

    Parameters
    ----------
    energy_kev : float
        Energy of the deviation.
    measured, expected : float
        Counts from one peak standard deviation below the energy to one above it.
    sigmas : float
        Difference of the counts, divided by the standard deviation of counting noise and model error.
    family : str
        Line family at this energy whose element is in no draw, or "" if there is none.
    """

    energy_kev: float
    measured: float
    expected: float
    sigmas: float
    family: str = ""

    @property
    def error(self) -> float:
        """Standard deviation of the difference, in counts."""
        return (self.measured - self.expected) / self.sigmas


@dataclass(frozen=True)
class Fit:
    """Comparison of a spectrum with the best posterior draw.

    Parameters
    ----------
    axis : EnergyAxis
        Energy axis of the merged channels.
    counts, expected_counts, pulls : (n_channel,) arrays
        Measured counts, counts of the best draw, and their difference in standard deviations of noise and model error.
    low_counts, high_counts : (n_channel,) arrays
        Limits of the central 90 % of the counts that the draws predict.
    chi_square : float
        Chi-square of the best draw, including the correlated model error.
    n_bin : int
        Number of bins of the fit.
    misfits : tuple of Misfit
        Largest deviations of the spectrum from the best draw.
    """

    axis: EnergyAxis
    counts: FloatArray
    expected_counts: FloatArray
    pulls: FloatArray
    low_counts: FloatArray
    high_counts: FloatArray
    chi_square: float
    n_bin: int
    misfits: tuple[Misfit, ...] = ()

    @property
    def reduced_chi_square(self) -> float:
        """Chi-square divided by the number of bins."""
        return self.chi_square / self.n_bin

    @property
    def describes_spectrum(self) -> bool:
        """Whether the reduced chi-square of the best draw is within three standard deviations of 1."""
        return self.reduced_chi_square <= 1.0 + 3.0 * float(np.sqrt(2.0 / self.n_bin))


@dataclass(frozen=True)
class Explanation:
    """Layers that are consistent with a spectrum.

    Parameters
    ----------
    spectrum : Spectrum
        Explained spectrum.
    candidates : CandidateGroups
        Candidate groups of the explanation.
    ground : str
        Ground of the library.
    fit : Fit
        Comparison of the spectrum with the best draw.
    runs : tuple of Draws
        Posterior draws of the independent runs.
    """

    spectrum: Spectrum
    candidates: CandidateGroups
    ground: str
    fit: Fit
    runs: tuple[Draws, ...]
    draws: Draws = field(init=False)
    layer_number: LayerNumber = field(init=False)
    orders: tuple[PairOrder, ...] = field(init=False)
    layers: tuple[LayerResult, ...] = field(init=False)
    presence: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        layer_number = number_of_layers(self.runs)
        # deeper layers of different draws correspond only if the number of layers is known
        layer_results = [layer_result(self.runs, layer) for layer in range(layer_number.determined or 1)]
        known_layers = self.candidates.known_layers
        # an order from another method is not a result of the spectrum
        orders = tuple(
            pair_order
            for pair_order in pair_orders(self.runs)
            if known_layers is None or not known_layers.gives_order_of(pair_order.above, pair_order.below)
        )
        field_values = (
            pool_draws(self.runs),
            layer_number,
            orders,
            tuple(layer_results),
            presence(self.runs),
        )
        for field_name, field_value in zip(
            ("draws", "layer_number", "orders", "layers", "presence"), field_values, strict=True
        ):
            object.__setattr__(self, field_name, field_value)

    @property
    def is_stated(self) -> bool:
        """Whether results are stated. The best draw must describe the spectrum."""
        return self.fit.describes_spectrum

    def members(self, group: str, layer: int) -> dict[str, float]:
        """Return the probability of each likely pigment of a group, given that a layer contains the group."""
        posterior_draws, group_index = self.draws, self.draws.groups.index(group)
        member_index = posterior_draws.member_index[
            posterior_draws.is_in_layer[:, layer, group_index], layer, group_index
        ]
        member_names = posterior_draws.members[group_index]
        probability = np.bincount(member_index, minlength=len(member_names)) / max(member_index.size, 1)
        return {
            member_names[member]: float(probability[member])
            for member in np.argsort(-probability)
            if probability[member] >= MIN_PIGMENT_PROBABILITY
        }


@dataclass(frozen=True)
class _ExplanationTask:
    """Arguments with which a worker builds the model of a spectrum."""

    spectrum: Spectrum
    instrument: Instrument
    candidates: CandidateGroups
    ground: str
    error: ModelError

    def model(self) -> SpectrumModel:
        return SpectrumModel(self.spectrum, self.instrument, prior_of(self.candidates, self.ground), self.error)


def explain(
    spectrum: Spectrum,
    instrument: Instrument,
    candidates: CandidateGroups,
    *,
    ground: str = "chalk",
    error: ModelError | None = None,
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
) -> Explanation:
    """Sample layers that are consistent with a spectrum in two independent runs, and return the joint results.

    Parameters
    ----------
    spectrum : Spectrum
        Counts with an energy axis.
    instrument : Instrument
    candidates : CandidateGroups
        Candidate groups.
    ground : str
        Ground of the library.
    error : ModelError, optional
        Errors of the simulation.
    seed : int
        Seed of the random numbers.
    workers : int
        Maximum number of processes. At most two processes are used. The result does not depend on the number of
        processes.
    progress : callable, optional
        Called with the name of the task, the number of completed steps and the total number.

    Raises
    ------
    CalibrationError, ScanError
        The spectrum has no energy axis, no counts in the range of the fit, or invalid counts.
    SampleError
        A group or the ground is unknown, or the model error is not between 0 and 100 %.
    """
    report_progress = progress or no_progress
    task = _ExplanationTask(spectrum, instrument, candidates, ground, error or ModelError())
    report_progress("Preparing the forward model", 0, 2 * RUNS)
    model = task.model()
    seeds = np.random.SeedSequence(seed).spawn(2 * RUNS)
    with make_executor(min(workers, RUNS)) as executor:
        report_progress("Searching structures", 0, 2 * RUNS)
        modes_of_runs: list[Modes] = []
        for _, modes in ordered_results(
            executor, _search_modes, enumerate((task, run_seed) for run_seed in seeds[:RUNS])
        ):
            modes_of_runs.append(modes)
            report_progress("Searching structures", len(modes_of_runs), 2 * RUNS)
        reference = _reference_counts(model, modes_of_runs)
        report_progress("Sampling", RUNS, 2 * RUNS)
        samples: list[Sample] = []
        tasks = enumerate(
            (task, reference, *run_arguments) for run_arguments in zip(modes_of_runs, seeds[RUNS:], strict=True)
        )
        for _, posterior_sample in ordered_results(executor, _sample_posterior, tasks):
            samples.append(posterior_sample)
            report_progress("Sampling", RUNS + len(samples), 2 * RUNS)
    model.set_reference(reference)
    runs = tuple(
        replace(
            draws_of(model.prior, posterior_sample),
            line_families=model.line_families,
            surface_share=model.surface_shares(posterior_sample.states),
        )
        for posterior_sample in samples
    )
    return Explanation(spectrum, candidates, ground, _fit(model, samples, instrument), runs)


def _search_modes(task: _ExplanationTask, seed: np.random.SeedSequence) -> Modes:
    return search(task.model(), np.random.default_rng(seed))


def _sample_posterior(
    task: _ExplanationTask, reference_counts: FloatArray, modes: Modes, seed: np.random.SeedSequence
) -> Sample:
    model = task.model()
    model.set_reference(reference_counts)
    return sample(model, modes, np.random.default_rng(seed))


def _reference_counts(model: SpectrumModel, modes_of_runs: Sequence[Modes]) -> FloatArray:
    """Return the expected spectrum of the likeliest mode, from which the covariance of both runs is derived."""
    likeliest_modes = max(modes_of_runs, key=lambda modes: float(modes.log_likelihood.max()))
    likeliest_row = int(likeliest_modes.log_likelihood.argmax())
    return np.asarray(model.expected_counts(likeliest_modes.states.select([likeliest_row]))[0])


def _fit(model: SpectrumModel, samples: Sequence[Sample], instrument: Instrument) -> Fit:
    states = concatenate_states([posterior_sample.states for posterior_sample in samples])
    best_row = int(np.concatenate([posterior_sample.log_likelihood for posterior_sample in samples]).argmax())
    residuals, _ = model.evaluate(states.select([best_row]))
    shown_rows = np.linspace(0, len(states) - 1, N_SHOWN_DRAWS).astype(np.int64)
    expected_counts = model.expected_counts(states.select(np.append(shown_rows, best_row)))
    low_counts, high_counts = np.quantile(expected_counts, [0.05, 0.95], axis=0)
    pulls = (model.counts - expected_counts[-1]) / model.channel_sigma
    return Fit(
        model.axis,
        model.counts,
        expected_counts[-1],
        pulls,
        low_counts,
        high_counts,
        float((residuals**2).sum()),
        model.n_bin,
        tuple(_misfits(model, expected_counts[-1], instrument)),
    )


def _misfits(model: SpectrumModel, model_counts: FloatArray, instrument: Instrument) -> list[Misfit]:
    """Return the largest deviations from the fit that lie more than three peak widths (sigma) from each other."""
    energy_kev = model.energy_kev
    peak_sigma_kev = resolution_sigma(instrument.detector, energy_kev)
    is_in_peak = (
        np.abs(energy_kev[:, None] - energy_kev) <= np.maximum(peak_sigma_kev, model.axis.gain_kev)[:, None]
    ).astype(np.float64)
    count_difference = is_in_peak @ (model.counts - model_counts)
    sigmas = count_difference / np.sqrt(np.einsum("ij,jk,ik->i", is_in_peak, model.covariance, is_in_peak))
    misfits: list[Misfit] = []
    for channel in np.argsort(-np.abs(sigmas)):
        if abs(sigmas[channel]) < MIN_MISFIT_SIGMAS or len(misfits) == MAX_MISFITS:
            break
        if all(abs(energy_kev[channel] - misfit.energy_kev) > 3.0 * peak_sigma_kev[channel] for misfit in misfits):
            measured_counts, expected_counts = (
                float(is_in_peak[channel] @ spectrum) for spectrum in (model.counts, model_counts)
            )
            family = (
                _family_at(float(energy_kev[channel]), float(peak_sigma_kev[channel]), model, instrument)
                if sigmas[channel] > 0
                else ""
            )
            misfits.append(
                Misfit(float(energy_kev[channel]), measured_counts, expected_counts, float(sigmas[channel]), family)
            )
    return misfits


def _family_at(energy_kev: float, peak_sigma_kev: float, model: SpectrumModel, instrument: Instrument) -> str:
    """Return the family whose strongest line is nearest, among elements outside the prior, or "" if none is near."""
    nearest_family, nearest_distance_kev = "", max(peak_sigma_kev, model.axis.gain_kev)
    for family in CANDIDATES:
        element, shell = family.split("_")
        if element in model.prior.elements:
            continue
        line_energy_kev, line_strength = family_lines(element, shell, instrument.highest_kev)
        distance_kev = (
            abs(float(line_energy_kev[line_strength.argmax()]) - energy_kev) if line_energy_kev.size else np.inf
        )
        if distance_kev <= nearest_distance_kev:
            nearest_family, nearest_distance_kev = family, distance_kev
    return nearest_family
