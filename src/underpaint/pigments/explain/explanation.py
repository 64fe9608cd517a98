"""From one spectrum to what is known of the layers under it: two independent runs, and what both say."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from underpaint.data import EnergyAxis, Spectrum
from underpaint.elements import CANDIDATES
from underpaint.physics.atomic import family_lines
from underpaint.physics.forward import resolution_sigma
from underpaint.physics.instrument import Instrument
from underpaint.pigments.explain.mixture import Modes
from underpaint.pigments.explain.sampling import Sample, sample
from underpaint.pigments.explain.search import search
from underpaint.pigments.explain.spectrum_model import ModelError, SpectrumModel
from underpaint.pigments.explain.states import Numbers, joined
from underpaint.pigments.explain.verdict import (
    LIKELY,
    Draws,
    LayerNumber,
    LayerVerdict,
    PairOrder,
    draws_of,
    layer_verdict,
    number_of_layers,
    pair_orders,
    pooled,
    presence,
)
from underpaint.pigments.explain.wanted import Wanted, prior_of
from underpaint.runtime.executors import make_executor, ordered_results
from underpaint.runtime.progress import Progress, no_progress

RUNS = 2
MOST_MISFITS = 3
MISFIT_SIGMAS = 4.0
"""Standard deviations from which a bin is named."""
N_SHOWN = 60
"""Draws of which the expected spectra are kept."""


@dataclass(frozen=True)
class Misfit:
    """Where a spectrum departs from the best draw.

    Parameters
    ----------
    energy_kev : float
    measured, expected : float
        Counts within half the width of a peak.
    sigmas : float
        Difference over counting noise and the model's error.
    family : str
        A line family there of an element that no draw holds; empty where there is none.
    """

    energy_kev: float
    measured: float
    expected: float
    sigmas: float
    family: str = ""


@dataclass(frozen=True)
class Fit:
    """The best draw beside the spectrum.

    Parameters
    ----------
    axis : EnergyAxis
        Merged channels.
    counts, expected, pulls : (n_channel,) arrays
        Measured, of the best draw, and their difference in standard deviations, model error included.
    low, high : (n_channel,) arrays
        Between them lie 90 % of the draws.
    chi_square : float
        Of the best draw, with the model's error and its correlations.
    n_bin : int
    misfits : tuple of Misfit
    """

    axis: EnergyAxis
    counts: Numbers
    expected: Numbers
    pulls: Numbers
    low: Numbers
    high: Numbers
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
    """What a spectrum says of the layers under it.

    Parameters
    ----------
    spectrum : Spectrum
    wanted : Wanted
        Which groups were looked for, and why.
    ground : str
    fit : Fit
    runs : tuple of Draws
        Of the independent runs.
    """

    spectrum: Spectrum
    wanted: Wanted
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
        # the deeper layers are the same ones in all draws only where their number is known
        judged = [layer_verdict(self.runs, layer) for layer in range(number.determined or 1)]
        known = self.wanted.known
        # an order that was put in is no answer
        orders = tuple(
            pair for pair in pair_orders(self.runs) if known is None or not known.settles(pair.above, pair.below)
        )
        values = (pooled(self.runs), number, orders, tuple(judged), presence(self.runs))
        for name, value in zip(("draws", "number", "orders", "layers", "presence"), values, strict=True):
            object.__setattr__(self, name, value)

    @property
    def stated(self) -> bool:
        """Whether numbers and orders are given at all: not where nothing describes the spectrum."""
        return self.fit.describes

    def members(self, group: str, layer: int) -> dict[str, float]:
        """Return the probability of each pigment of a group, given that the layer holds one, the likely ones only."""
        draws, column = self.draws, self.draws.groups.index(group)
        member = draws.member[draws.holds[:, layer, column], layer, column]
        names = draws.members[column]
        chance = np.bincount(member, minlength=len(names)) / max(member.size, 1)
        return {names[index]: float(chance[index]) for index in np.argsort(-chance) if chance[index] >= LIKELY}


@dataclass(frozen=True)
class _Task:
    """What a worker needs to build the model of a spectrum."""

    spectrum: Spectrum
    instrument: Instrument
    wanted: Wanted
    ground: str
    error: ModelError

    def model(self) -> SpectrumModel:
        return SpectrumModel(self.spectrum, self.instrument, prior_of(self.wanted, self.ground), self.error)


def explain(
    spectrum: Spectrum,
    instrument: Instrument,
    wanted: Wanted,
    *,
    ground: str = "chalk",
    error: ModelError | None = None,
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
) -> Explanation:
    """Sample the layers that could have made a spectrum, twice independently, and say what both runs agree on.

    Parameters
    ----------
    spectrum : Spectrum
        Counts with an energy axis.
    instrument : Instrument
    wanted : Wanted
        The groups to look for.
    ground : str
        Of the library.
    error : ModelError, optional
        How far the simulation may be off.
    seed : int
    workers : int
        Processes; with two, the runs go side by side. The result does not depend on it.
    progress : callable, optional
        Called with (what, done, in all).

    Raises
    ------
    CalibrationError, ScanError
        The spectrum has no axis; no counts in the range of the fit; or counts that are negative or no numbers.
    SampleError
        There is no such group or ground, or the model error is not between 0 and 100 %.
    """
    step = progress or no_progress
    task = _Task(spectrum, instrument, wanted, ground, error or ModelError())
    step("Preparing the forward model", 0, 2 * RUNS)
    model = task.model()
    seeds = np.random.SeedSequence(seed).spawn(2 * RUNS)
    with make_executor(min(workers, RUNS)) as crew:
        step("Searching structures", 0, 2 * RUNS)
        searched: list[Modes] = []
        for _, modes in ordered_results(
            crew, _searched, enumerate((task, seed_of_run) for seed_of_run in seeds[:RUNS])
        ):
            searched.append(modes)
            step("Searching structures", len(searched), 2 * RUNS)
        reference = _reference(model, searched)
        step("Sampling", RUNS, 2 * RUNS)
        samples: list[Sample] = []
        tasks = enumerate((task, reference, *run) for run in zip(searched, seeds[RUNS:], strict=True))
        for _, drawn in ordered_results(crew, _sampled, tasks):
            samples.append(drawn)
            step("Sampling", RUNS + len(samples), 2 * RUNS)
    model.refer_to(reference)
    runs = tuple(
        replace(draws_of(model.prior, drawn), families=model.families, from_surface=model.surface_shares(drawn.states))
        for drawn in samples
    )
    return Explanation(spectrum, wanted, ground, _fit(model, samples, instrument), runs)


def _searched(task: _Task, seed: np.random.SeedSequence) -> Modes:
    return search(task.model(), np.random.default_rng(seed))


def _sampled(task: _Task, reference: Numbers, modes: Modes, seed: np.random.SeedSequence) -> Sample:
    model = task.model()
    model.refer_to(reference)
    return sample(model, modes, np.random.default_rng(seed))


def _reference(model: SpectrumModel, searched: Sequence[Modes]) -> Numbers:
    """Return the expected spectrum of the likeliest mode: both runs then have the same covariance."""
    best = max(searched, key=lambda modes: float(modes.log_likelihood.max()))
    row = int(best.log_likelihood.argmax())
    return np.asarray(model.expected(best.states.rows([row]))[0])


def _fit(model: SpectrumModel, samples: Sequence[Sample], instrument: Instrument) -> Fit:
    states = joined([drawn.states for drawn in samples])
    best = int(np.concatenate([drawn.log_likelihood for drawn in samples]).argmax())
    residuals, _ = model.evaluate(states.rows([best]))
    shown = np.linspace(0, len(states) - 1, N_SHOWN).astype(np.int64)
    expected = model.expected(states.rows(np.append(shown, best)))
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


def _misfits(model: SpectrumModel, expected: Numbers, instrument: Instrument) -> list[Misfit]:
    """Return the peaks of the difference, the greatest first; each no nearer than a peak's width to a greater one."""
    energy = model.energy_kev
    width = resolution_sigma(instrument.detector, energy)
    over = (np.abs(energy[:, None] - energy) <= np.maximum(width, model.axis.gain_kev)[:, None]).astype(np.float64)
    difference = over @ (model.counts - expected)
    sigmas = difference / np.sqrt(np.einsum("ij,jk,ik->i", over, model.covariance, over))
    misfits: list[Misfit] = []
    for row in np.argsort(-np.abs(sigmas)):
        if abs(sigmas[row]) < MISFIT_SIGMAS or len(misfits) == MOST_MISFITS:
            break
        if all(abs(energy[row] - misfit.energy_kev) > 3.0 * width[row] for misfit in misfits):
            measured, wanted = (float(over[row] @ spectrum) for spectrum in (model.counts, expected))
            family = _family_at(float(energy[row]), float(width[row]), model, instrument) if sigmas[row] > 0 else ""
            misfits.append(Misfit(float(energy[row]), measured, wanted, float(sigmas[row]), family))
    return misfits


def _family_at(energy_kev: float, width_kev: float, model: SpectrumModel, instrument: Instrument) -> str:
    """Return the family, of elements that no state holds, whose strongest line is nearest; empty where none is near."""
    nearest, distance = "", max(width_kev, model.axis.gain_kev)
    for family in CANDIDATES:
        element, shell = family.split("_")
        if element in model.prior.elements:
            continue
        lines, strength = family_lines(element, shell, instrument.highest_kev)
        off = abs(float(lines[strength.argmax()]) - energy_kev) if lines.size else np.inf
        if off <= distance:
            nearest, distance = family, off
    return nearest
