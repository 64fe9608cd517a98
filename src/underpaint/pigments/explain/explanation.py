"""Explanation of a spectrum by layers: two independent posterior samples, and the results on which both agree."""

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
    LayerVerdict,
    PairOrder,
    draws_of,
    layer_verdict,
    number_of_layers,
    pair_orders,
    pool_draws,
    presence,
)
from underpaint.runtime.executors import make_executor, ordered_results
from underpaint.runtime.progress import Progress, no_progress

RUNS = 2
MAX_MISFITS = 3
MISFIT_SIGMAS = 4.0
"""Minimum deviation of a reported misfit, in sigmas."""
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
        Counts within one standard deviation of a peak.
    sigmas : float
        Difference over the standard deviation of counting noise and model error.
    family : str
        Line family at this energy of an element that is in no draw; "" without one.
    """

    energy_kev: float
    measured: float
    expected: float
    sigmas: float
    family: str = ""


@dataclass(frozen=True)
class Fit:
    """Comparison of the spectrum with the best draw.

    Parameters
    ----------
    axis : EnergyAxis
        Merged channels.
    counts, expected, pulls : (n_channel,) arrays
        Measured counts, counts of the best draw, and their difference in standard deviations, including model error.
    low, high : (n_channel,) arrays
        Limits of 90 % of the draws.
    chi_square : float
        Chi-square of the best draw, with the model error and its correlations.
    n_bin : int
        Number of bins.
    misfits : tuple of Misfit
        The largest deviations.
    """

    axis: EnergyAxis
    counts: FloatArray
    expected: FloatArray
    pulls: FloatArray
    low: FloatArray
    high: FloatArray
    chi_square: float
    n_bin: int
    misfits: tuple[Misfit, ...] = ()

    @property
    def ratio(self) -> float:
        """Chi-square over the number of bins."""
        return self.chi_square / self.n_bin

    @property
    def describes(self) -> bool:
        """Whether the best draw describes the spectrum within the model's error: three standard deviations."""
        return self.ratio <= 1.0 + 3.0 * float(np.sqrt(2.0 / self.n_bin))


@dataclass(frozen=True)
class Explanation:
    """Layers that are consistent with a spectrum.

    Parameters
    ----------
    spectrum : Spectrum
        The spectrum.
    candidates : CandidateGroups
        The groups that were considered.
    ground : str
        Ground of the library.
    fit : Fit
        The best draw compared with the spectrum.
    runs : tuple of Draws
        Posterior draws of the independent runs.
    """

    spectrum: Spectrum
    candidates: CandidateGroups
    ground: str
    fit: Fit
    runs: tuple[Draws, ...]
    draws: Draws = field(init=False)
    number: LayerNumber = field(init=False)
    orders: tuple[PairOrder, ...] = field(init=False)
    layers: tuple[LayerVerdict, ...] = field(init=False)
    presence: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        number = number_of_layers(self.runs)
        # deeper layers can be compared between draws only if the number of layers is known
        layer_verdicts = [layer_verdict(self.runs, layer) for layer in range(number.determined or 1)]
        known = self.candidates.known
        # an order from another method is not an answer
        orders = tuple(
            pair for pair in pair_orders(self.runs) if known is None or not known.settles(pair.above, pair.below)
        )
        values = (
            pool_draws(self.runs),
            number,
            orders,
            tuple(layer_verdicts),
            presence(self.runs),
        )
        for name, value in zip(("draws", "number", "orders", "layers", "presence"), values, strict=True):
            object.__setattr__(self, name, value)

    @property
    def stated(self) -> bool:
        """Whether results are stated at all: only if the best draw describes the spectrum."""
        return self.fit.describes

    def members(self, group: str, layer: int) -> dict[str, float]:
        """Return the probabilities of a group's likely pigments, given that the layer contains the group."""
        posterior_draws, column = self.draws, self.draws.groups.index(group)
        member = posterior_draws.member[posterior_draws.holds[:, layer, column], layer, column]
        names = posterior_draws.members[column]
        probability = np.bincount(member, minlength=len(names)) / max(member.size, 1)
        return {
            names[index]: float(probability[index])
            for index in np.argsort(-probability)
            if probability[index] >= MIN_PIGMENT_PROBABILITY
        }


@dataclass(frozen=True)
class _Task:
    """Arguments from which a worker builds the model of a spectrum."""

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
    """Sample the layers that are consistent with a spectrum in two independent runs; state results of both.

    Parameters
    ----------
    spectrum : Spectrum
        Counts with an energy axis.
    instrument : Instrument
    candidates : CandidateGroups
        The candidate groups.
    ground : str
        Ground of the library.
    error : ModelError, optional
        Error of the simulation.
    seed : int
        Seed of the random numbers.
    workers : int
        Number of processes; two run in parallel. The result is the same.
    progress : callable, optional
        Called with (task, steps done, total steps).

    Raises
    ------
    CalibrationError, ScanError
        The spectrum has no axis, no counts in the range of the fit, or invalid counts.
    SampleError
        A group or the ground is unknown, or the model error is not between 0 and 100 %.
    """
    step = progress or no_progress
    task = _Task(spectrum, instrument, candidates, ground, error or ModelError())
    step("Preparing the forward model", 0, 2 * RUNS)
    model = task.model()
    seeds = np.random.SeedSequence(seed).spawn(2 * RUNS)
    with make_executor(min(workers, RUNS)) as executor:
        step("Searching structures", 0, 2 * RUNS)
        modes_of_runs: list[Modes] = []
        for _, modes in ordered_results(
            executor, _search_modes, enumerate((task, run_seed) for run_seed in seeds[:RUNS])
        ):
            modes_of_runs.append(modes)
            step("Searching structures", len(modes_of_runs), 2 * RUNS)
        reference = _reference(model, modes_of_runs)
        step("Sampling", RUNS, 2 * RUNS)
        samples: list[Sample] = []
        tasks = enumerate((task, reference, *run) for run in zip(modes_of_runs, seeds[RUNS:], strict=True))
        for _, posterior_sample in ordered_results(executor, _sample_posterior, tasks):
            samples.append(posterior_sample)
            step("Sampling", RUNS + len(samples), 2 * RUNS)
    model.refer_to(reference)
    runs = tuple(
        replace(
            draws_of(model.prior, posterior_sample),
            families=model.families,
            from_surface=model.surface_shares(posterior_sample.states),
        )
        for posterior_sample in samples
    )
    return Explanation(spectrum, candidates, ground, _fit(model, samples, instrument), runs)


def _search_modes(task: _Task, seed: np.random.SeedSequence) -> Modes:
    return search(task.model(), np.random.default_rng(seed))


def _sample_posterior(task: _Task, reference: FloatArray, modes: Modes, seed: np.random.SeedSequence) -> Sample:
    model = task.model()
    model.refer_to(reference)
    return sample(model, modes, np.random.default_rng(seed))


def _reference(model: SpectrumModel, searched: Sequence[Modes]) -> FloatArray:
    """Return the expected spectrum of the likeliest mode, from which both runs derive the same covariance."""
    likeliest = max(searched, key=lambda modes: float(modes.log_likelihood.max()))
    row = int(likeliest.log_likelihood.argmax())
    return np.asarray(model.expected(likeliest.states.rows([row]))[0])


def _fit(model: SpectrumModel, samples: Sequence[Sample], instrument: Instrument) -> Fit:
    states = concatenate_states([posterior_sample.states for posterior_sample in samples])
    best_row = int(np.concatenate([posterior_sample.log_likelihood for posterior_sample in samples]).argmax())
    residuals, _ = model.evaluate(states.rows([best_row]))
    shown_rows = np.linspace(0, len(states) - 1, N_SHOWN_DRAWS).astype(np.int64)
    expected = model.expected(states.rows(np.append(shown_rows, best_row)))
    low, high = np.quantile(expected, [0.05, 0.95], axis=0)
    pulls = (model.counts - expected[-1]) / model.channel_sigma
    return Fit(
        model.axis,
        model.counts,
        expected[-1],
        pulls,
        low,
        high,
        float((residuals**2).sum()),
        model.n_bin,
        tuple(_misfits(model, expected[-1], instrument)),
    )


def _misfits(model: SpectrumModel, expected: FloatArray, instrument: Instrument) -> list[Misfit]:
    """Return the largest deviations; each is more than a peak's width away from larger ones."""
    energy = model.energy_kev
    width = resolution_sigma(instrument.detector, energy)
    in_peak = (np.abs(energy[:, None] - energy) <= np.maximum(width, model.axis.gain_kev)[:, None]).astype(np.float64)
    difference = in_peak @ (model.counts - expected)
    sigmas = difference / np.sqrt(np.einsum("ij,jk,ik->i", in_peak, model.covariance, in_peak))
    misfits: list[Misfit] = []
    for row in np.argsort(-np.abs(sigmas)):
        if abs(sigmas[row]) < MISFIT_SIGMAS or len(misfits) == MAX_MISFITS:
            break
        if all(abs(energy[row] - misfit.energy_kev) > 3.0 * width[row] for misfit in misfits):
            measured_counts, expected_counts = (float(in_peak[row] @ spectrum) for spectrum in (model.counts, expected))
            family = _family_at(float(energy[row]), float(width[row]), model, instrument) if sigmas[row] > 0 else ""
            misfits.append(Misfit(float(energy[row]), measured_counts, expected_counts, float(sigmas[row]), family))
    return misfits


def _family_at(energy_kev: float, width_kev: float, model: SpectrumModel, instrument: Instrument) -> str:
    """Return the family with the nearest strongest line, of elements that are in no state; "" if none is near."""
    nearest, nearest_distance_kev = "", max(width_kev, model.axis.gain_kev)
    for family in CANDIDATES:
        element, shell = family.split("_")
        if element in model.prior.elements:
            continue
        lines, strength = family_lines(element, shell, instrument.highest_kev)
        distance_kev = abs(float(lines[strength.argmax()]) - energy_kev) if lines.size else np.inf
        if distance_kev <= nearest_distance_kev:
            nearest, nearest_distance_kev = family, distance_kev
    return nearest
