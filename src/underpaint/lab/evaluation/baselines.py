"""Baselines without a trained network: "always yes", element thresholds, and a fit of the forward model."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan, Spectrum
from underpaint.elements import fit_elements
from underpaint.errors import CoverageError, ScanError
from underpaint.lab.evaluation.answering import Spectra, draw_spectra
from underpaint.lab.evaluation.candidates.fit import StratigraphyFit, fit_candidates
from underpaint.lab.evaluation.candidates.measured import merge_channels
from underpaint.lab.evaluation.candidates.proposals import (
    MAX_PIGMENTS,
    SuspectedPigments,
    propose_candidates,
    without_each_pigment,
)
from underpaint.lab.evaluation.groups import group_outputs, macro_f1, score_names
from underpaint.lab.evaluation.plan import TrustPlan
from underpaint.lab.evaluation.simulated import HeldOutSet
from underpaint.physics.forward import axis_of, emit, render, resolution_sigma
from underpaint.physics.instrument import Detector, Instrument, Tube
from underpaint.physics.materials import Stratigraphy, library
from underpaint.pigments.limits import MIN_DEVIANCE
from underpaint.pigments.limits.exclusion import typical_pigment
from underpaint.simulate import RandomStratigraphies, StratigraphySampler
from underpaint.simulate.instrument_inputs import InstrumentConditions
from underpaint.simulate.labels import present_at, visible_labels
from underpaint.units import FWHM_PER_SIGMA, MN_K_ALPHA_KEV

Numbers = NDArray[np.float64]
CANDIDATE_THRESHOLDS = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 14.0, 20.0, 30.0)
"""Candidate thresholds of the line area, in standard deviations."""
GROUND = "chalk"
"""Ground of all candidates in the likelihood fit."""


def always_yes(spectra: Spectra, groups: Sequence[str]) -> NDArray[np.float32]:
    """Return (n, n_group) ones as the answers of the baseline that claims every group."""
    return np.ones((len(spectra), len(groups)), dtype=np.float32)


def line_sigmas(spectra: Spectra, groups: Sequence[str]) -> NDArray[np.float32]:
    """Return the (n, n_group) area of each group's most significant key line family, in standard deviations.

    Areas and standard deviations are from a linear fit of line families with the known instrument conditions. Groups
    without a key family above the background have a value of zero.
    """
    area_sigmas = np.zeros((len(spectra), len(groups)), dtype=np.float32)
    for rows, conditions in spectra.rows_by_conditions():
        instrument = None if conditions is None else instrument_from_conditions(conditions)
        scan = Scan(np.asarray(spectra.counts)[rows][None], axis=spectra.axis, name="baseline")
        try:
            element_maps = fit_elements(scan, instrument=instrument)
        except (CoverageError, ScanError):
            continue  # the spectra have too few counts for a significant line
        for group_index, group in enumerate(groups):
            area_sigmas[rows, group_index] = element_maps.max_significance(library().group(group).key_families)[0]
    return np.nan_to_num(area_sigmas, nan=0.0)


def choose_threshold(held_out_spectra: HeldOutSet, counts: Sequence[float], seed: int) -> float:
    """Return the threshold, in standard deviations, that has the highest mean macro F1 over the given total counts."""
    group_columns = held_out_spectra.columns(held_out_spectra.groups)
    sigmas_by_counts = [
        line_sigmas(held_out_spectra.draw_spectra(total_counts, (seed, round(total_counts))), held_out_spectra.groups)
        for total_counts in counts
    ]
    is_visible = [held_out_spectra.is_visible(total_counts)[:, group_columns] for total_counts in counts]

    is_present = [held_out_spectra.is_present(total_counts)[:, group_columns] for total_counts in counts]

    def mean_macro_f1(threshold: float) -> float:
        claims = [(area_sigmas > threshold).astype(np.float32) for area_sigmas in sigmas_by_counts]
        scores_by_counts = [
            score_names(*claims_and_labels, held_out_spectra.groups)
            for claims_and_labels in zip(claims, is_present, is_visible, strict=True)
        ]
        return float(np.nanmean([macro_f1(group_scores) for group_scores in scores_by_counts]))

    return max(CANDIDATE_THRESHOLDS, key=mean_macro_f1)


@dataclass(frozen=True)
class FitSet:
    """Spectra of random structures from one known instrument, with their labels.

    Parameters
    ----------
    spectra : Spectra
    instrument : Instrument
    groups : tuple of str
    labels : (n, n_group) uint8 array
        Presence of each group.
    is_visible : (n, n_group) bool array
        Whether the group is present and visible.
    """

    spectra: Spectra
    instrument: Instrument
    groups: tuple[str, ...]
    labels: NDArray[np.uint8]
    is_visible: NDArray[np.bool_]


def simulate_fit_set(
    plan: TrustPlan, palette: Sequence[str], instrument: Instrument, *, with_line_labels: bool = False
) -> FitSet:
    """Simulate the test set of the likelihood fit, with random structures as in the held-out set.

    With ``with_line_labels``, a group is present if the lines of its element are visible.
    """
    rng = np.random.default_rng((plan.seed, 4))
    stratigraphy_sampler = StratigraphySampler(RandomStratigraphies(palette=tuple(palette)))
    stratigraphies: list[Stratigraphy] = [stratigraphy_sampler.draw(rng) for _ in range(plan.fitted_spectra)]
    outputs = group_outputs(palette)
    emission, detector = emit(stratigraphies, instrument), instrument.detector
    expected_counts = np.asarray(render(emission, detector), dtype=np.float64)
    axis = axis_of(detector)
    labels, counts_needed, max_absent_counts = visible_labels(
        stratigraphies, emission, expected_counts, outputs, detector, axis, by_lines=with_line_labels
    )
    spectra = draw_spectra(instrument, expected_counts, plan.fitted_counts, rng)
    is_present = present_at(labels, max_absent_counts, plan.fitted_counts)
    is_visible = is_present & (counts_needed <= plan.fitted_counts)
    return FitSet(spectra, instrument, outputs.names, is_present.astype(np.uint8), is_visible)


def likelihood_fit(
    test_set: FitSet, threshold: float, progress: Callable[[int, int], None]
) -> tuple[NDArray[np.float32], float]:
    """Fit the forward model to every spectrum, and return which groups the fit needs.

    Candidates have one or two layers over chalk. The candidates contain one common pigment for each group whose lines
    exceed the threshold. The best candidate has the lowest AIC. A group is present if its removal increases the
    deviance by at least 25. A group of the ground is present if its lines exceed the threshold.

    Returns
    -------
    (n, n_group) array
        1 for present groups, else 0.
    float
        Run time per spectrum in s.
    """
    area_sigmas = line_sigmas(test_set.spectra, test_set.groups)
    is_group_needed = np.zeros((len(test_set.spectra), len(test_set.groups)), dtype=np.float32)
    start_time = time.perf_counter()
    for spectrum_index, spectrum in enumerate(np.asarray(test_set.spectra.counts, dtype=np.float64)):
        progress(spectrum_index, len(is_group_needed))
        needed_groups = _needed_groups(
            Spectrum(spectrum, test_set.spectra.axis), test_set, area_sigmas[spectrum_index], threshold
        )
        is_group_needed[spectrum_index] = [name in needed_groups for name in test_set.groups]
    return is_group_needed, (time.perf_counter() - start_time) / max(len(is_group_needed), 1)


def _needed_groups(
    spectrum: Spectrum, test_set: FitSet, group_sigmas: NDArray[np.float32], threshold: float
) -> set[str]:
    ground_groups = set(library()[GROUND].groups)
    significant_groups = [
        test_set.groups[group_index]
        for group_index in np.argsort(-group_sigmas)
        if group_sigmas[group_index] > threshold
    ]
    significant_ground_groups = ground_groups.intersection(significant_groups)
    paint_groups = [name for name in significant_groups if name not in ground_groups][:MAX_PIGMENTS]
    pigments = tuple(dict.fromkeys(typical_pigment(name) for name in paint_groups))
    if not pigments:
        return significant_ground_groups
    merged_spectrum = merge_channels(spectrum, test_set.instrument)
    suspected_pigments = SuspectedPigments(pigments)
    best_fit = fit_candidates(merged_spectrum, propose_candidates(suspected_pigments, GROUND), test_set.instrument)[0]
    return significant_ground_groups | {
        group for name in _significant_pigments(best_fit, test_set, merged_spectrum) for group in library()[name].groups
    }


def _significant_pigments(best_fit: StratigraphyFit, test_set: FitSet, merged_spectrum: Any) -> set[str]:
    """Return the pigments whose removal increases the deviance by at least ``MIN_DEVIANCE``."""
    all_pigments = best_fit.candidate.pigments
    if len(all_pigments) == 1:
        return set(all_pigments)
    significant_pigments: set[str] = set()
    for fit_without_pigment in fit_candidates(merged_spectrum, without_each_pigment(best_fit), test_set.instrument):
        if fit_without_pigment.deviance - best_fit.deviance >= MIN_DEVIANCE:
            significant_pigments |= all_pigments - fit_without_pigment.candidate.pigments
    return significant_pigments


def instrument_from_conditions(conditions: NDArray[np.float32]) -> Instrument | None:
    """Return an instrument with the known conditions, or None if the anode is unknown. Other conditions are defaults.

    Parameters
    ----------
    conditions : (n_input,) array
        Conditions in the order of :class:`~underpaint.simulate.instrument_inputs.InstrumentConditions`.
    """
    known_conditions = InstrumentConditions.from_inputs(conditions)
    if known_conditions.anode is None:
        return None
    default_instrument = Instrument.model_validate({})
    known_geometry = {
        "incidence_angle_deg": known_conditions.incidence_deg or default_instrument.geometry.incidence_angle_deg,
        "takeoff_angle_deg": known_conditions.takeoff_deg or default_instrument.geometry.takeoff_angle_deg,
        "scatter_angle_deg": known_conditions.scatter_deg,
    }
    return default_instrument.model_copy(
        update={
            "tube": Tube(
                anode=known_conditions.anode,
                voltage_kv=known_conditions.voltage_kv or default_instrument.tube.voltage_kv,
            ),
            "geometry": default_instrument.geometry.model_copy(update=known_geometry),
            "detector": _with_resolution(default_instrument.detector, known_conditions.fwhm_kev),
        }
    )


def _with_resolution(detector: Detector, fwhm_kev: float | None) -> Detector:
    """Return a detector with the given FWHM at Mn K-alpha, or the same detector if the FWHM is unknown."""
    if fwhm_kev is None:
        return detector
    noiseless_detector = detector.model_copy(update={"noise_fwhm_kev": 0.0})
    noiseless_fwhm_kev = float(resolution_sigma(noiseless_detector, np.asarray(MN_K_ALPHA_KEV))) * FWHM_PER_SIGMA
    noise_fwhm_kev = float(np.sqrt(max(fwhm_kev**2 - noiseless_fwhm_kev**2, 0.0)))
    return detector.model_copy(update={"noise_fwhm_kev": noise_fwhm_kev})
