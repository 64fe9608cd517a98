"""Baselines: always yes, the paper's network, element thresholds, a fit of the forward model."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan, Spectrum
from underpaint.elements import fit_elements
from underpaint.errors import CoverageError, ScanError
from underpaint.lab.evaluation.answering import Spectra, count_spectra
from underpaint.lab.evaluation.candidates.fit import StratigraphyFit, fit_candidates
from underpaint.lab.evaluation.candidates.measured import measured
from underpaint.lab.evaluation.candidates.proposals import MOST_PIGMENTS, Suspects, propose, without_each_pigment
from underpaint.lab.evaluation.groups import group_outputs, macro_f1, score_names
from underpaint.lab.evaluation.plan import TrustPlan
from underpaint.lab.evaluation.simulated import HeldOut
from underpaint.physics.forward import axis_of, emit, render, resolution_sigma
from underpaint.physics.instrument import Detector, Instrument, Tube
from underpaint.physics.materials import Stratigraphy, library
from underpaint.pigments.limits import MIN_DEVIANCE
from underpaint.pigments.limits.exclusion import typical_pigment
from underpaint.simulate import RandomStratigraphies, StratigraphySampler
from underpaint.simulate.instrument_inputs import InstrumentConditions
from underpaint.simulate.labels import labels_shown, present_at
from underpaint.units import FWHM_PER_SIGMA, MN_K_ALPHA_KEV

Numbers = NDArray[np.float64]
SIGMAS = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 14.0, 20.0, 30.0)
"""Thresholds that are tried."""
GROUND = "chalk"
"""Under all candidates of the likelihood fit."""


def always_yes(spectra: Spectra, groups: Sequence[str]) -> NDArray[np.float32]:
    """Return (n, n_group) ones."""
    return np.ones((len(spectra), len(groups)), dtype=np.float32)


def line_sigmas(spectra: Spectra, groups: Sequence[str]) -> NDArray[np.float32]:
    """Return (n, n_group) area of each group's strongest key family, in standard deviations.

    Areas and deviations come from the linear fit of the line families under the known instrument conditions; zero where
    no key family is above the background. The family with the highest ratio counts.
    """
    sigmas = np.zeros((len(spectra), len(groups)), dtype=np.float32)
    for rows, conditions in spectra.by_conditions():
        instrument = None if conditions is None else instrument_from_conditions(conditions)
        scan = Scan(np.asarray(spectra.counts)[rows][None], axis=spectra.axis, name="baseline")
        try:
            maps = fit_elements(scan, instrument=instrument)
        except (CoverageError, ScanError):
            continue  # hardly any counts: no line is significant
        for column, group in enumerate(groups):
            sigmas[rows, column] = maps.max_significance(library().group(group).key_families)[0]
    return np.nan_to_num(sigmas, nan=0.0)


def choose_threshold(held: HeldOut, counts: Sequence[float], seed: int) -> float:
    """Return the number of standard deviations with the best mean macro F1 over some counts."""
    columns = held.columns(held.groups)
    sigmas = [line_sigmas(held.counted(total, (seed, round(total))), held.groups) for total in counts]
    visible = [held.visible(total)[:, columns] for total in counts]

    labels = [held.present(total)[:, columns] for total in counts]

    def reached(threshold: float) -> float:
        claims = [(sigma > threshold).astype(np.float32) for sigma in sigmas]
        tables = [score_names(*each, held.groups) for each in zip(claims, labels, visible, strict=True)]
        return float(np.nanmean([macro_f1(table) for table in tables]))

    return max(SIGMAS, key=reached)


@dataclass(frozen=True)
class FitSet:
    """Spectra of random structures from one known instrument, with their labels.

    Parameters
    ----------
    spectra : Spectra
    instrument : Instrument
    groups : tuple of str
    labels : (n, n_group) uint8 array
    visible : (n, n_group) bool array
    """

    spectra: Spectra
    instrument: Instrument
    groups: tuple[str, ...]
    labels: NDArray[np.uint8]
    visible: NDArray[np.bool_]


def fit_set(plan: TrustPlan, palette: Sequence[str], instrument: Instrument, *, lines: bool = False) -> FitSet:
    """Draw the test set of the likelihood fit: random structures like the held-out ones.

    With ``lines`` a group is present where the lines of its element show.
    """
    rng = np.random.default_rng((plan.seed, 4))
    sampler = StratigraphySampler(RandomStratigraphies(palette=tuple(palette)))
    samples: list[Stratigraphy] = [sampler.draw(rng) for _ in range(plan.fitted_spectra)]
    outputs = group_outputs(palette)
    emission, detector = emit(samples, instrument), instrument.detector
    expected = np.asarray(render(emission, detector), dtype=np.float64)
    axis = axis_of(detector)
    labels, needed, hidden = labels_shown(samples, emission, expected, outputs, detector, axis, lines=lines)
    spectra = count_spectra(instrument, expected, plan.fitted_counts, rng)
    present = present_at(labels, hidden, plan.fitted_counts)
    visible = present & (needed <= plan.fitted_counts)
    return FitSet(spectra, instrument, outputs.names, present.astype(np.uint8), visible)


def likelihood_fit(
    data: FitSet, threshold: float, progress: Callable[[int, int], None]
) -> tuple[NDArray[np.float32], float]:
    """Fit the forward model to every spectrum and return the groups that it needs.

    Candidates have one or two layers over chalk, with one common pigment for each group whose lines exceed the
    threshold; the best has the lowest AIC. A group is present where the deviance rises by 25 without it, or where the
    ground contains it and its lines exceed the threshold.

    Returns
    -------
    (n, n_group) array
        One or zero.
    float
        Seconds a spectrum.
    """
    sigmas = line_sigmas(data.spectra, data.groups)
    presence = np.zeros((len(data.spectra), len(data.groups)), dtype=np.float32)
    start = time.perf_counter()
    for row, spectrum in enumerate(np.asarray(data.spectra.counts, dtype=np.float64)):
        progress(row, len(presence))
        needed = _needed_groups(Spectrum(spectrum, data.spectra.axis), data, sigmas[row], threshold)
        presence[row] = [name in needed for name in data.groups]
    return presence, (time.perf_counter() - start) / max(len(presence), 1)


def _needed_groups(spectrum: Spectrum, data: FitSet, sigma: NDArray[np.float32], threshold: float) -> set[str]:
    ground = set(library()[GROUND].groups)
    strong = [data.groups[column] for column in np.argsort(-sigma) if sigma[column] > threshold]
    of_ground = ground.intersection(strong)
    painted = [name for name in strong if name not in ground][:MOST_PIGMENTS]
    pigments = tuple(dict.fromkeys(typical_pigment(name) for name in painted))
    if not pigments:
        return of_ground
    merged = measured(spectrum, data.instrument)
    suspects = Suspects(pigments)
    best = fit_candidates(merged, propose(suspects, GROUND), data.instrument)[0]
    return of_ground | {group for name in _significant_pigments(best, data, merged) for group in library()[name].groups}


def _significant_pigments(best: StratigraphyFit, data: FitSet, merged: Any) -> set[str]:
    """Return the pigments without which the deviance rises by ``CLAIM``."""
    names = best.candidate.pigments
    if len(names) == 1:
        return set(names)
    pigments: set[str] = set()
    for fit in fit_candidates(merged, without_each_pigment(best), data.instrument):
        if fit.deviance - best.deviance >= MIN_DEVIANCE:
            pigments |= names - fit.candidate.pigments
    return pigments


def instrument_from_conditions(conditions: NDArray[np.float32]) -> Instrument | None:
    """Return an instrument of given conditions, with usual values for the rest; None where the anode is unknown.

    Parameters
    ----------
    conditions : (n_input,) array
        In the order of :class:`~underpaint.simulate.instrument_inputs.InstrumentConditions`.
    """
    known = InstrumentConditions.from_inputs(conditions)
    if known.anode is None:
        return None
    usual = Instrument.model_validate({})
    geometry = {
        "incidence_angle_deg": known.incidence_deg or usual.geometry.incidence_angle_deg,
        "takeoff_angle_deg": known.takeoff_deg or usual.geometry.takeoff_angle_deg,
        "scatter_angle_deg": known.scatter_deg,
    }
    return usual.model_copy(
        update={
            "tube": Tube(anode=known.anode, voltage_kv=known.voltage_kv or usual.tube.voltage_kv),
            "geometry": usual.geometry.model_copy(update=geometry),
            "detector": _resolving(usual.detector, known.fwhm_kev),
        }
    )


def _resolving(detector: Detector, fwhm_kev: float | None) -> Detector:
    """Return a detector of this resolution at Mn K-alpha."""
    if fwhm_kev is None:
        return detector
    crystal = detector.model_copy(update={"noise_fwhm_kev": 0.0})
    without = float(resolution_sigma(crystal, np.asarray(MN_K_ALPHA_KEV))) * FWHM_PER_SIGMA
    noise = float(np.sqrt(max(fwhm_kev**2 - without**2, 0.0)))
    return detector.model_copy(update={"noise_fwhm_kev": noise})
