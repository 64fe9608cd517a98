"""From one spectrum to the stratigraphies that could have made it, and what speaks for and against each pigment."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan, Spectrum
from underpaint.errors import SampleError
from underpaint.physics.forward.breakdown import Breakdown
from underpaint.physics.instrument import Instrument
from underpaint.pigments.explain.candidate import Candidate
from underpaint.pigments.explain.evidence import (
    Evidence,
    Line,
    Order,
    find_order,
    in_their_place,
    measured_lines,
    pigment_lines,
    unexplained,
    wanted_families,
)
from underpaint.pigments.explain.fit import StratigraphyFit, fit_candidates
from underpaint.pigments.explain.intervals import LEVEL, Interval, intervals
from underpaint.pigments.explain.measured import Measured
from underpaint.pigments.explain.model import levelled_breakdown
from underpaint.pigments.explain.proposals import (
    Suspects,
    laid,
    less_each_pigment,
    made_pure,
    propose,
    rivals_of,
    suspects,
)
from underpaint.pigments.predict import identify
from underpaint.runtime.progress import Progress, no_progress
from underpaint.simulate.instrument_inputs import InstrumentConditions, conditions_of

Numbers = NDArray[np.float64]
REPLICAS = 200
PURE_OF, CLIMBS = 3, 3
"""How many of the best are tried with pure pigments; how often the best may give way to a rival."""


@dataclass(frozen=True)
class Goodness:
    """Whether the best stratigraphy could have made the spectrum.

    Parameters
    ----------
    deviance, poisson_deviance : float
        With the model's error allowed for, and without.
    usual, spread : float
        Mean and standard deviation of the deviance of spectra drawn from the fitted model, less the number of
        parameters: chi-squared's own mean fails where channels hold few counts.
    """

    deviance: float
    poisson_deviance: float
    usual: float
    spread: float

    @property
    def excess(self) -> float:
        """How many standard deviations the deviance lies above the usual one."""
        return (self.deviance - self.usual) / self.spread

    @property
    def dispersion(self) -> float:
        """The deviance over the usual one; one where it is usual.

        Where no candidate fits, differences of deviance and intervals are as much too sure: claims divide by it
        (quasi-likelihood, McCullagh & Nelder 1989, section 9.2).
        """
        return 1.0 if self.fits else self.deviance / max(self.usual, 1.0)

    @property
    def fits(self) -> bool:
        """Whether nothing speaks against it: three standard deviations."""
        return self.excess < 3.0


@dataclass(frozen=True)
class Explanation:
    """What a spectrum says of the layers under it.

    Parameters
    ----------
    spectrum : Spectrum
    measured : Measured
        What was fitted of it.
    fits : tuple of StratigraphyFit
        All candidates, the best (smallest AIC) first.
    intervals : tuple of Interval
        Of the best.
    evidence : tuple of Evidence
        Of every pigment of a candidate; those of the best stratigraphy first.
    order : Order
    goodness : Goodness
    parts : Breakdown
        The best stratigraphy's spectrum, taken apart, on the spectrum's own channels and scale.
    unexplained : tuple of Line
        Families that stand out and that nothing in the best stratigraphy brings.
    suspects : Suspects or None
        What the network spoke for; None where the candidates were given.
    """

    spectrum: Spectrum
    measured: Measured
    fits: tuple[StratigraphyFit, ...]
    intervals: tuple[Interval, ...]
    evidence: tuple[Evidence, ...]
    order: Order
    goodness: Goodness
    parts: Breakdown
    unexplained: tuple[Line, ...]
    suspects: Suspects | None = None

    @property
    def best(self) -> StratigraphyFit:
        """The best candidate."""
        return self.fits[0]


def ask_network(
    spectrum: Spectrum,
    ground: str,
    model: str | Path = "default",
    instrument: Instrument | InstrumentConditions | None = None,
) -> Suspects:
    """Ask a trained network for the pigments of a spectrum.

    Parameters
    ----------
    spectrum : Spectrum
        With an energy axis.
    ground : str
        That lies under all candidates.
    model : str or Path
        As of ``predict.identify``.
    instrument : Instrument, InstrumentConditions or None
        That made the spectrum, or what is known of it; networks that ask for it are told.

    Raises
    ------
    SampleError
        The network sees no pigment.
    UnderpaintError
        As ``predict.identify``.
    """
    scan = Scan(np.asarray(spectrum.counts, dtype=np.float32)[None, None], axis=spectrum.axis, name=spectrum.name)
    known = conditions_of(instrument) if isinstance(instrument, Instrument) else instrument
    found = suspects(identify(scan, model, instrument=known), ground)
    if not found.pigments and not found.hidden:
        best = max(found.probability, key=lambda name: found.probability[name], default="")
        nearest = f" (most likely: {best}, {found.probability[best]:.2f})" if best else ""
        raise SampleError(
            f"Cannot propose stratigraphies for {spectrum.name or 'the spectrum'}: the network sees no pigment group "
            f"with a probability of one half{nearest}. Sum more pixels, or propose stratigraphies with --layers."
        )
    return found


def explain(
    spectrum: Spectrum,
    measured: Measured,
    candidates: Sequence[Candidate],
    instrument: Instrument,
    *,
    level: float = LEVEL,
    found: Suspects | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """Fit candidates to a spectrum, compare them, and weigh what speaks for and against each pigment.

    Parameters
    ----------
    spectrum : Spectrum
        With an energy axis.
    measured : Measured
        From ``measured``: channels, start and model error.
    candidates : sequence of Candidate
        From ``propose``, or written by hand.
    instrument : Instrument
    level : float
        Probability of the intervals.
    found : Suspects, optional
        What the candidates were made of.
    progress : callable, optional
        Told (what, done, in all).

    Raises
    ------
    SampleError
        There is no candidate.
    ScanError
        The spectrum has too few counts for its lines to be fitted.
    """
    if not candidates:
        raise SampleError("Cannot compare stratigraphies: there is none. Propose some.")
    step = progress or no_progress
    fits = compare(measured, candidates, instrument, rivals=found is not None, progress=progress)
    step("Leaving pigments out", 0, 1)
    less = less_each_pigment(fits[0]) if len(fits[0].candidate.pigments) > 1 else []
    fits = _sorted([*fits, *fit_candidates(measured, less, instrument)])
    step("Intervals", 0, 1)
    quality = goodness(fits[0], measured)
    best, found_intervals = intervals(fits[0], measured, instrument, level=level, dispersion=quality.dispersion)
    fits = [best, *fits[1:]]
    step("Putting others in their place", 0, 1)
    others = in_their_place(best, measured, instrument)
    step("Fitting the lines", 0, 1)
    pigments = sorted({name for fit in fits for name in fit.candidate.pigments})
    lines, there = measured_lines(spectrum, instrument, wanted_families(pigments), measured.axis.start_kev)
    parts = levelled_breakdown(best.stratigraphy, best.levels, measured, instrument, spectrum.axis or measured.axis)
    evidence = [
        _evidence(name, fits, measured, instrument, lines, others, parts, quality.dispersion) for name in pigments
    ]
    return Explanation(
        spectrum,
        measured,
        tuple(fits),
        tuple(found_intervals),
        tuple(sorted(evidence, key=lambda own: (not own.present, own.layers, -(own.difference or 0.0)))),
        find_order(fits, quality.dispersion),
        quality,
        parts,
        unexplained(lines, there, parts, best, measured, instrument),
        found,
    )


def compare(
    measured: Measured,
    candidates: Sequence[Candidate],
    instrument: Instrument,
    *,
    rivals: bool = True,
    progress: Progress | None = None,
) -> list[StratigraphyFit]:
    """Fit candidates to a spectrum, and what they leave open; return the fits, the best (smallest AIC) first.

    Parameters
    ----------
    rivals : bool
        Whether other ways to lay the pigments of the best, and pure pigments for composite ones, are tried, too.
    measured, candidates, instrument, progress
        As of ``explain``.
    """
    step = progress or no_progress
    fits = fit_candidates(measured, candidates, instrument, progress=lambda done, most: step("Comparing", done, most))
    if not rivals:
        return fits
    step("Comparing rivals", 0, 1)
    return _with_rivals(fits, measured, instrument)


def _with_rivals(fits: list[StratigraphyFit], measured: Measured, instrument: Instrument) -> list[StratigraphyFit]:
    """Add what the first round left open: pure pigments in place of composite ones, and other ways to lay them."""
    pure = [own for own in (made_pure(fit.candidate) for fit in fits[:PURE_OF]) if own is not None]
    fits = _sorted([*fits, *fit_candidates(measured, _new(pure, fits), instrument)])
    for _ in range(CLIMBS):
        rivals = _new(rivals_of(fits[0].candidate), fits)
        if not rivals:
            break
        fits = _sorted([*fits, *fit_candidates(measured, rivals, instrument)])
    return fits


def _new(candidates: Sequence[Candidate], fits: Sequence[StratigraphyFit]) -> list[Candidate]:
    """Return the candidates that were not fitted yet, each way to lay the pigments once."""
    known = {laid(fit.candidate) for fit in fits}
    return [own for way, own in {laid(own): own for own in candidates}.items() if way not in known]


def _sorted(fits: Sequence[StratigraphyFit]) -> list[StratigraphyFit]:
    return sorted(fits, key=lambda fit: fit.aic)


def propose_from_network(
    spectrum: Spectrum,
    ground: str,
    model: str | Path = "default",
    instrument: Instrument | InstrumentConditions | None = None,
) -> tuple[Suspects, list[Candidate]]:
    """Ask the network, and return what it speaks for with the candidates; see ``ask_network`` and ``propose``."""
    found = ask_network(spectrum, ground, model, instrument)
    return found, propose(found, ground)


def goodness(fit: StratigraphyFit, measured: Measured, *, seed: int = 0) -> Goodness:
    """Hold a fit's deviance against those of spectra drawn from it.

    Parameters
    ----------
    seed : int
        Of the draws.
    """
    rng = np.random.default_rng(seed)
    expected = np.tile(fit.expected, (REPLICAS, 1))
    if measured.model_error > 0:
        shape = measured.model_error**-2
        expected = rng.gamma(shape, expected / shape)
    drawn = rng.poisson(expected).astype(np.float64)
    deviances = [measured.of(counts).deviance(fit.expected) for counts in drawn]
    usual = float(np.mean(deviances)) - fit.n_parameter
    return Goodness(fit.deviance, fit.poisson_deviance, usual, float(np.std(deviances)))


def _evidence(
    name: str,
    fits: Sequence[StratigraphyFit],
    measured: Measured,
    instrument: Instrument,
    lines: dict[str, tuple[float, float]],
    others: dict[str, dict[str, float]],
    parts: Breakdown,
    dispersion: float,
) -> Evidence:
    best = fits[0]
    layers = tuple(index for index, film in enumerate(best.candidate.films) if name in film.painted)
    lacking = [(fit.deviance - best.deviance) / dispersion for fit in fits if name not in fit.candidate.pigments]
    holding = [fit for fit in fits if name in fit.candidate.pigments]
    if layers:
        own = pigment_lines(name, best.stratigraphy, parts, lines)
        alike = {other: more / dispersion for other, more in others.get(name, {}).items()}
        return Evidence(name, layers, min(lacking, default=None), own, alike)
    nearest = min(holding, key=lambda fit: fit.deviance)
    nearest_parts = levelled_breakdown(nearest.stratigraphy, nearest.levels, measured, instrument, parts.axis)
    own = pigment_lines(name, nearest.stratigraphy, nearest_parts, lines)
    return Evidence(name, (), (nearest.deviance - best.deviance) / dispersion, own, {})
