"""Comparison of the pigment maps of a measured scan with line areas, and of two scans with each other.

The true pigments of a measured painting are unknown. Therefore the answers of a network are compared with line areas
from a fit with PyMca (Sole et al. 2007). Answers for two detectors that recorded the same pixels are also compared.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.calibrate import calibrate, merge_knowledge, with_calibration
from underpaint.data import Scan
from underpaint.data.dask_array import da
from underpaint.data.maps import PLACED_PROBABILITY, Place, Results, cohen_kappa, share_present
from underpaint.elements import fit_elements
from underpaint.errors import ScanError
from underpaint.io import load
from underpaint.lab.evaluation.scores import auroc, spearman
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import library
from underpaint.pigments.predict import OnnxModel, identify
from underpaint.simulate.instrument_inputs import InstrumentConditions

Array = NDArray[np.float64]
PRESENCE_GROUPS = {"mercury_red": "Hg_L", "copper_green_blue": "Cu_K"}
AREA_GROUPS = {
    "lead_pigment": "Pb_L",
    "titanium_pigment": "Ti_K",
    "calcium_white": "Ca_K",
    "iron_pigment": "Fe_K",
    "zinc_pigment": "Zn_K",
}
PRESENT_SIGMAS, ABSENT_SIGMAS, MIN_PIXELS = 10.0, 2.0, 100
"""Line areas, in sigma, above which a group is present and below which it is absent, and minimum number of pixels."""
PRESENT_PROBABILITY, PREVALENCE_LIMITS = 0.5, (0.05, 0.95)
"""Probability above which a group is present, and range of prevalence in which kappa is computed."""
CONFIDENT_PROBABILITY = 0.9
"""Minimum probability of a confident answer "present" or "absent"."""
LINE_SIGMAS = 3.0
N_AREA_BIN = 20
MIN_PROBABILITY = 1e-12


@dataclass(frozen=True)
class IdentifiedScan:
    """A calibrated scan, its instrument and known conditions, its pigment maps and its line areas."""

    scan: Scan
    instrument: Instrument
    conditions: InstrumentConditions
    results: Results


def identify_scan(scan_path: str, model: str | OnnxModel) -> IdentifiedScan:
    """Calibrate a scan from its emission lines, identify its pigments, and fit its line areas.

    A network with instrument inputs receives the conditions that are known from the scan's file and lines.
    """
    uncalibrated_scan = load(scan_path)
    calibration = calibrate(uncalibrated_scan)
    scan, instrument_knowledge = (
        with_calibration(uncalibrated_scan, calibration),
        merge_knowledge(uncalibrated_scan, calibration=calibration),
    )
    instrument, conditions = instrument_knowledge.instrument, instrument_knowledge.known_conditions()
    results = identify(scan, model=model, instrument=conditions) | fit_elements(scan, instrument=instrument)
    return IdentifiedScan(scan, instrument, conditions, results)


def log_odds(results: Results, name: str) -> Array:
    """Return the (n_pixel,) log-odds of one output of a network."""
    if "log_odds" in results.stacks:
        return results.map("log_odds", name, "anywhere").ravel().astype(np.float64)
    probability = np.clip(results[name].ravel().astype(np.float64), MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    return np.asarray(np.log(probability) - np.log1p(-probability))


def presence_auroc(
    identified_scan: IdentifiedScan, pymca_results: Results
) -> tuple[dict[str, float], dict[str, float], dict[str, Any]]:
    """Return the AUROC of the network, the AUROC of the baseline and the numbers of pixels, each by group."""
    auroc_by_group: dict[str, float] = {}
    baseline_auroc: dict[str, float] = {}
    n_pixels: dict[str, Any] = {}
    for group, family in PRESENCE_GROUPS.items():
        if not identified_scan.results.holds(group) or family not in pymca_results.lines:
            continue
        pigment_log_odds, line_area = (
            log_odds(identified_scan.results, group),
            identified_scan.results[family].ravel().astype(np.float64),
        )
        area_sigmas = pymca_results[family].ravel() / pymca_results.map("area_sigma", family).ravel()
        is_certain = (
            ((area_sigmas > PRESENT_SIGMAS) | (area_sigmas < ABSENT_SIGMAS))
            & np.isfinite(pigment_log_odds)
            & np.isfinite(line_area)
        )
        is_present = (area_sigmas > PRESENT_SIGMAS)[is_certain]
        n_pixels[group] = {"present": int(is_present.sum()), "absent": int((~is_present).sum())}
        if min(n_pixels[group].values()) < MIN_PIXELS:
            continue
        auroc_by_group[group], baseline_auroc[group] = (
            auroc(pigment_log_odds[is_certain], is_present),
            auroc(line_area[is_certain], is_present),
        )
    return auroc_by_group, baseline_auroc, n_pixels


def area_correlations(
    identified_scan: IdentifiedScan, pymca_results: Results
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the Spearman correlations of log-odds and of the baseline with PyMca's line area, each by group."""
    correlations: dict[str, float] = {}
    baseline_correlations: dict[str, float] = {}
    for group, family in AREA_GROUPS.items():
        if not identified_scan.results.holds(group) or family not in pymca_results.lines:
            continue
        pigment_log_odds, line_area = (
            log_odds(identified_scan.results, group),
            pymca_results[family].ravel().astype(np.float64),
        )
        is_finite = np.isfinite(pigment_log_odds) & np.isfinite(line_area)
        correlations[group] = spearman(pigment_log_odds[is_finite], line_area[is_finite])
        baseline_correlations[group] = spearman(
            identified_scan.results[family].ravel()[is_finite].astype(np.float64), line_area[is_finite]
        )
    return correlations, baseline_correlations


def pigment_agreement(
    first_results: Results, second_results: Results, *, confident_probability: float | None = None
) -> dict[str, float]:
    """Return Cohen's kappa between two scans of the same pixels, by group.

    The result has the groups that are present in 5 to 95 % of the pixels of either scan.

    Parameters
    ----------
    confident_probability : float, optional
        Minimum probability of the answer "present" or "absent". Pixels with less confident answers are left out.

    Raises
    ------
    ScanError
        The scans differ in size.
    """
    if first_results.shape != second_results.shape:
        raise ScanError(
            f"Cannot compare scans of {first_results.shape} and {second_results.shape} pixels. "
            "Give two scans of the same pixels."
        )
    kappa_by_group: dict[str, float] = {}
    for name in first_results.groups:
        is_finite = np.isfinite(first_results[name]) & np.isfinite(second_results[name])
        if confident_probability is not None:
            is_finite &= (np.abs(first_results[name] - PRESENT_PROBABILITY) >= confident_probability - 0.5) & (
                np.abs(second_results[name] - PRESENT_PROBABILITY) >= confident_probability - 0.5
            )
        if not is_finite.any():
            continue
        kappa_by_group |= _kappa_if_prevalent(
            name,
            first_results[name][is_finite] > PRESENT_PROBABILITY,
            second_results[name][is_finite] > PRESENT_PROBABILITY,
        )
    return kappa_by_group


def counting_agreement(identified_scan: IdentifiedScan, model: str | OnnxModel, seed: int) -> dict[str, float]:
    """Return Cohen's kappa between two random halves of a scan's counts.

    Because of counting statistics, two scans cannot agree better than the two halves. Each photon is assigned to one
    half at random (binomial thinning of a Poisson process). The two halves are independent spectra of the same paint
    and instrument.
    """
    counts = np.asarray(identified_scan.scan.counts).astype(np.int64)
    first_half_counts = np.random.default_rng(seed).binomial(counts, 0.5)
    half_scans = (
        identified_scan.scan.replace(counts=da.from_array(half_counts.astype(np.float32)))
        for half_counts in (first_half_counts, counts - first_half_counts)
    )
    return pigment_agreement(
        *(identify(half_scan, model=model, instrument=identified_scan.conditions) for half_scan in half_scans)
    )


def line_agreement(first_scan: IdentifiedScan, second_scan: IdentifiedScan) -> dict[str, float]:
    """Return Cohen's kappa between two scans of the same pixels, from line areas instead of a network's answers.

    A group is present where its most significant key line family exceeds :data:`LINE_SIGMAS` standard deviations. The
    result has the groups that are present in 5 to 95 % of the pixels of either scan.
    """
    kappa_by_group: dict[str, float] = {}
    for name in first_scan.results.groups:
        families = library().group(name).key_families
        visible_by_scan = [
            identified_scan.results.max_significance(families).ravel() > LINE_SIGMAS
            for identified_scan in (first_scan, second_scan)
        ]
        kappa_by_group |= _kappa_if_prevalent(name, *visible_by_scan)
    return kappa_by_group


def below_scatter_correlation(results: Results, group: str = "lead_pigment", family: str = "Pb_L") -> float | None:
    """Return the correlation of Compton scatter with the probability that a group is below, at constant line area.

    Light materials behind the canvas scatter X-rays, but emit no lines of pigments. An answer that is correlated with
    scatter is no evidence of a pigment. The Spearman correlation is computed in :data:`N_AREA_BIN` bins of line area
    with equal numbers of pixels, and averaged over the bins. The result is None if the scan has no maps of places or of
    scatter.
    """
    if not results.holds(group, "below") or "Compton" not in results.scatter_peaks or family not in results.lines:
        return None
    value_maps = (results[family], results.map("scatter", "Compton"), results[group, "below"])
    line_area, compton_counts, probability_below = (
        np.asarray(pixel_values, dtype=np.float64).ravel() for pixel_values in value_maps
    )
    is_finite = np.isfinite(line_area) & np.isfinite(compton_counts) & np.isfinite(probability_below)
    pixel_bins = np.array_split(np.flatnonzero(is_finite)[np.argsort(line_area[is_finite])], N_AREA_BIN)
    correlations = [
        spearman(probability_below[bin_pixels], compton_counts[bin_pixels])
        for bin_pixels in pixel_bins
        if bin_pixels.size > 2
    ]
    return float(np.nanmean(correlations)) if np.isfinite(correlations).any() else None


def determined_places(results: Results) -> dict[str, float]:
    """Return, by group, the fraction of pixels in which the network states whether the group is at each place.

    The result has the groups that are present in at least :data:`MIN_PIXELS` pixels, and the mean over these groups.
    """
    fraction_by_group = {}
    for group in _groups_with_places(results):
        is_present = results[group] > PRESENT_PROBABILITY
        if is_present.sum() >= MIN_PIXELS:
            fraction_by_group[group] = float(_is_placed(results, group)[is_present].mean())
    return _add_mean(fraction_by_group)


def contradicting_places(first_results: Results, second_results: Results) -> dict[str, float]:
    """Return, by group, the fraction of pixels in which one scan states "only surface" and the other "only below".

    Pixels count only if both scans have the group and state its places. The result has the groups with at least
    :data:`MIN_PIXELS` counted pixels, and the mean over these groups.
    """
    fraction_by_group = {}
    for group in set(_groups_with_places(first_results)) & set(_groups_with_places(second_results)):
        is_in_both = (first_results[group] > PRESENT_PROBABILITY) & (second_results[group] > PRESENT_PROBABILITY)
        is_in_both &= _is_placed(first_results, group) & _is_placed(second_results, group)
        is_contradiction = _is_only_at(first_results, group, "surface") & _is_only_at(second_results, group, "below")
        is_contradiction |= _is_only_at(first_results, group, "below") & _is_only_at(second_results, group, "surface")
        if is_in_both.sum() >= MIN_PIXELS:
            fraction_by_group[group] = float(is_contradiction[is_in_both].mean())
    return _add_mean(dict(sorted(fraction_by_group.items())))


def amount_agreement(first_results: Results, second_results: Results) -> dict[str, float]:
    """Return, by group, the fraction of pixels in which the 90 % intervals of the amount overlap between two scans.

    Pixels count only if both scans have the group. The result has the groups with at least :data:`MIN_PIXELS` counted
    pixels, and the mean over these groups. The result is empty for networks that do not predict amounts.
    """
    fraction_by_group = {}
    for group in first_results.groups:
        if not (first_results.knows_amount(group) and second_results.knows_amount(group)):
            continue
        is_in_both = (first_results[group] > PRESENT_PROBABILITY) & (second_results[group] > PRESENT_PROBABILITY)
        first_amount, second_amount = (
            results.estimate(f"amount.{group}") for results in (first_results, second_results)
        )
        intervals_overlap = (first_amount.low <= second_amount.high) & (second_amount.low <= first_amount.high)
        if is_in_both.sum() >= MIN_PIXELS:
            fraction_by_group[group] = float(intervals_overlap[is_in_both].mean())
    return _add_mean(fraction_by_group)


def _add_mean(fraction_by_group: dict[str, float]) -> dict[str, float]:
    return fraction_by_group | ({"mean": float(np.mean(list(fraction_by_group.values())))} if fraction_by_group else {})


def _groups_with_places(results: Results) -> list[str]:
    return [group for group in results.groups if results.holds(group, "surface") and results.holds(group, "below")]


def _is_placed(results: Results, group: str) -> NDArray[np.bool_]:
    places: tuple[Place, ...] = ("surface", "below")
    return np.asarray(
        np.all(
            [
                np.abs(results[group, place] - PRESENT_PROBABILITY) >= PLACED_PROBABILITY - PRESENT_PROBABILITY
                for place in places
            ],
            axis=0,
        )
    )


def _is_only_at(results: Results, group: str, place: Place) -> NDArray[np.bool_]:
    other_place: Place = "below" if place == "surface" else "surface"
    return np.asarray(
        (results[group, place] >= PLACED_PROBABILITY) & (results[group, other_place] <= 1.0 - PLACED_PROBABILITY)
    )


def _kappa_if_prevalent(name: str, first_mask: NDArray[np.bool_], second_mask: NDArray[np.bool_]) -> dict[str, float]:
    min_prevalence, max_prevalence = PREVALENCE_LIMITS
    return (
        {name: cohen_kappa(first_mask, second_mask)}
        if any(min_prevalence <= presence_mask.mean() <= max_prevalence for presence_mask in (first_mask, second_mask))
        else {}
    )


def compare_with_lines(identified_scan: IdentifiedScan) -> dict[str, Any]:
    """Compare the pigments of a scan with line areas from PyMca.

    Returns
    -------
    dict
        Scores by group.
        ``auroc`` is the AUROC of the network's log-odds.
        For the AUROC, a group is present where PyMca's line area is above 10 sigma, and absent where it is below 2
        sigma. ``pixels`` has the numbers of present and absent pixels, which must both be at least 100.
        ``spearman`` is the correlation of the log-odds with PyMca's line area, for elements in nearly all pixels.
        ``baseline_auroc`` and ``baseline_spearman`` are the scores of the line area from the fit of this package.
        ``prevalence`` is the fraction of pixels with the group.

    Raises
    ------
    MissingExtraError
        PyMca is not installed.
    """
    pymca_results = fit_elements(
        identified_scan.scan,
        families=identified_scan.results.lines,
        instrument=identified_scan.instrument,
        engine="pymca",
    )
    auroc_by_group, baseline_auroc, n_pixels = presence_auroc(identified_scan, pymca_results)
    spearman_by_group, baseline_spearman = area_correlations(identified_scan, pymca_results)
    return {
        "auroc": auroc_by_group,
        "baseline_auroc": baseline_auroc,
        "pixels": n_pixels,
        "spearman": spearman_by_group,
        "baseline_spearman": baseline_spearman,
        "prevalence": {name: share_present(identified_scan.results[name]) for name in identified_scan.results.groups},
    }


def worst_scores(
    scores_by_scan: Sequence[dict[str, float]], select_worst: Callable[[list[float]], float] = min
) -> dict[str, float]:
    """Return the worst score of each group over the scans."""
    names = dict.fromkeys(name for scores in scores_by_scan for name in scores)
    return {name: select_worst([scores[name] for scores in scores_by_scan if name in scores]) for name in names}
