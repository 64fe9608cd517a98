"""Pigment maps of a real scan against line evidence from an independent fit, and of two scans against each other.

Labels of a real painting are unknown, so a network's answer is compared with evidence that is not the network's: line
areas by PyMca's fit (Sole et al. 2007), and the same pixels recorded by another detector.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from underpaint.calibrate import calibrate, merge_knowledge, with_calibration
from underpaint.data import Scan
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
CERTAIN_SIGMAS, ABSENT_SIGMAS, LEAST_PIXELS = 10.0, 2.0, 100
THRESHOLD, PREVALENCE = 0.5, (0.05, 0.95)
SURE = 0.9
"""Least probability of a sure answer, yes or no."""
LINE_SIGMAS = 3.0
AREA_BINS = 20
SMALLEST = 1e-12


@dataclass(frozen=True)
class IdentifiedScan:
    """A calibrated scan with its instrument, known conditions, pigments and the line areas of our fit."""

    scan: Scan
    instrument: Instrument
    known: InstrumentConditions
    results: Results


def identify_scan(source: str, model: str | OnnxModel) -> IdentifiedScan:
    """Calibrate a scan from its own data, identify its pigments, and fit its lines.

    A network with instrument inputs receives the conditions known from the scan's file and lines.
    """
    raw = load(source)
    calibration = calibrate(raw)
    scan, knowledge = with_calibration(raw, calibration), merge_knowledge(raw, calibration=calibration)
    instrument, known = knowledge.instrument, knowledge.known()
    results = identify(scan, model=model, instrument=known) | fit_elements(scan, instrument=instrument)
    return IdentifiedScan(scan, instrument, known, results)


def log_odds(results: Results, name: str) -> Array:
    """Log-odds of a name at each pixel, (n_pixel,)."""
    if "log_odds" in results.stacks:
        return results.map("log_odds", name, "anywhere").ravel().astype(np.float64)
    probability = np.clip(results[name].ravel().astype(np.float64), SMALLEST, 1 - SMALLEST)
    return np.asarray(np.log(probability) - np.log1p(-probability))


def presence(
    identified: IdentifiedScan, evidence: Results
) -> tuple[dict[str, float], dict[str, float], dict[str, Any]]:
    """AUROC and its baseline per group, and how many pixels each side has."""
    auroc_by_group: dict[str, float] = {}
    baseline: dict[str, float] = {}
    pixels: dict[str, Any] = {}
    for group, family in PRESENCE_GROUPS.items():
        if not identified.results.holds(group) or family not in evidence.lines:
            continue
        score, area = log_odds(identified.results, group), identified.results[family].ravel().astype(np.float64)
        sigma = evidence[family].ravel() / evidence.map("area_sigma", family).ravel()
        sure = ((sigma > CERTAIN_SIGMAS) | (sigma < ABSENT_SIGMAS)) & np.isfinite(score) & np.isfinite(area)
        positive = (sigma > CERTAIN_SIGMAS)[sure]
        pixels[group] = {"present": int(positive.sum()), "absent": int((~positive).sum())}
        if min(pixels[group].values()) < LEAST_PIXELS:
            continue
        auroc_by_group[group], baseline[group] = auroc(score[sure], positive), auroc(area[sure], positive)
    return auroc_by_group, baseline, pixels


def correlation(identified: IdentifiedScan, evidence: Results) -> tuple[dict[str, float], dict[str, float]]:
    """Spearman correlation with PyMca's line area and its baseline, per group."""
    correlations: dict[str, float] = {}
    baseline: dict[str, float] = {}
    for group, family in AREA_GROUPS.items():
        if not identified.results.holds(group) or family not in evidence.lines:
            continue
        score, area = log_odds(identified.results, group), evidence[family].ravel().astype(np.float64)
        known = np.isfinite(score) & np.isfinite(area)
        correlations[group] = spearman(score[known], area[known])
        baseline[group] = spearman(identified.results[family].ravel()[known].astype(np.float64), area[known])
    return correlations, baseline


def agreement(first: Results, second: Results, *, sure: float | None = None) -> dict[str, float]:
    """Cohen's kappa per group between two scans of the same pixels.

    Groups that either scan finds in 5 to 95 % of the pixels.

    Parameters
    ----------
    sure : float, optional
        Only pixels where both scans' answers, yes or no, have at least this probability.

    Raises
    ------
    ScanError
        The scans differ in size.
    """
    if first.shape != second.shape:
        raise ScanError(
            f"Cannot compare the scans: {first.shape} and {second.shape} pixels. Both must be of the same pixels."
        )
    result: dict[str, float] = {}
    for name in first.groups:
        known = np.isfinite(first[name]) & np.isfinite(second[name])
        if sure is not None:
            known &= (np.abs(first[name] - THRESHOLD) >= sure - 0.5) & (np.abs(second[name] - THRESHOLD) >= sure - 0.5)
        if not known.any():
            continue
        result |= _kappa(name, first[name][known] > THRESHOLD, second[name][known] > THRESHOLD)
    return result


def counting_agreement(identified: IdentifiedScan, model: str | OnnxModel, seed: int) -> dict[str, float]:
    """Cohen's kappa between two halves of one detector's counts: the agreement that counting statistics allow.

    Each count goes to one half or the other by chance, so the halves are independent spectra of the same paint, by the
    same instrument, with half of the counts (binomial thinning of a Poisson process).
    """
    counts = np.asarray(identified.scan.counts).astype(np.int64)
    first_half = np.random.default_rng(seed).binomial(counts, 0.5)
    halves = (
        replace(identified.scan, counts=da.from_array(half.astype(np.float32)))
        for half in (first_half, counts - first_half)
    )
    return agreement(*(identify(half, model=model, instrument=identified.known) for half in halves))


def line_agreement(first: IdentifiedScan, second: IdentifiedScan) -> dict[str, float]:
    """Cohen's kappa between two scans of the same pixels, with a group present where a key line is significant.

    The agreement that counting statistics allow: the strongest key family of a group exceeds :data:`LINE_SIGMAS`
    standard deviations. Groups present so in 5 to 95 % of the pixels of either scan.
    """
    result: dict[str, float] = {}
    for name in first.results.groups:
        families = library().group(name).key_families
        visible = [
            identified.results.max_significance(families).ravel() > LINE_SIGMAS for identified in (first, second)
        ]
        result |= _kappa(name, *visible)
    return result


def below_against_scatter(results: Results, group: str = "lead_pigment", family: str = "Pb_L") -> float | None:
    """Spearman correlation of "below" of a group with Compton counts, in pixels of equal area of its family.

    Light matter behind the canvas scatters and emits no lines of paint: an answer correlated with it is no evidence of
    paint. The
    mean over :data:`AREA_BINS` bins of as many pixels; None without places or scatter.
    """
    if not results.holds(group, "below") or "Compton" not in results.scatter_peaks or family not in results.lines:
        return None
    maps = (results[family], results.map("scatter", "Compton"), results[group, "below"])
    area, scatter, below = (np.asarray(values, dtype=np.float64).ravel() for values in maps)
    known = np.isfinite(area) & np.isfinite(scatter) & np.isfinite(below)
    bins = np.array_split(np.flatnonzero(known)[np.argsort(area[known])], AREA_BINS)
    correlations = [spearman(below[rows], scatter[rows]) for rows in bins if rows.size > 2]
    return float(np.nanmean(correlations)) if np.isfinite(correlations).any() else None


def place_determined(results: Results) -> dict[str, float]:
    """Share of the pixels with a group in which it is stated whether it lies at the surface, and whether below.

    By group, of those in at least :data:`LEAST_PIXELS` pixels, and their ``mean``.
    """
    result = {}
    for group in _with_places(results):
        present = results[group] > THRESHOLD
        if present.sum() >= LEAST_PIXELS:
            result[group] = float(_is_placed(results, group)[present].mean())
    return _with_mean(result)


def place_contradictions(first: Results, second: Results) -> dict[str, float]:
    """Share of the pixels in which one scan has a group at the surface only, the other below only.

    Of the pixels where both have the group and state its place; by group, of those with at least
    :data:`LEAST_PIXELS` such pixels, and their ``mean``.
    """
    result = {}
    for group in set(_with_places(first)) & set(_with_places(second)):
        both = (first[group] > THRESHOLD) & (second[group] > THRESHOLD)
        both &= _is_placed(first, group) & _is_placed(second, group)
        against = _only(first, group, "surface") & _only(second, group, "below")
        against |= _only(first, group, "below") & _only(second, group, "surface")
        if both.sum() >= LEAST_PIXELS:
            result[group] = float(against[both].mean())
    return _with_mean(dict(sorted(result.items())))


def amounts_agree(first: Results, second: Results) -> dict[str, float]:
    """Share of the pixels in which the 90 % intervals of two scans' amounts overlap.

    Of the pixels where both have the group; by group, of those with at least :data:`LEAST_PIXELS` such pixels, and
    their ``mean``. Empty for networks that answer no amounts.
    """
    result = {}
    for group in first.groups:
        if not (first.knows_amount(group) and second.knows_amount(group)):
            continue
        both = (first[group] > THRESHOLD) & (second[group] > THRESHOLD)
        first_amount, second_amount = (results.estimate(f"amount.{group}") for results in (first, second))
        overlap = (first_amount.low <= second_amount.high) & (second_amount.low <= first_amount.high)
        if both.sum() >= LEAST_PIXELS:
            result[group] = float(overlap[both].mean())
    return _with_mean(result)


def _with_mean(shares: dict[str, float]) -> dict[str, float]:
    return shares | ({"mean": float(np.mean(list(shares.values())))} if shares else {})


def _with_places(results: Results) -> list[str]:
    return [group for group in results.groups if results.holds(group, "surface") and results.holds(group, "below")]


def _is_placed(results: Results, group: str) -> NDArray[np.bool_]:
    places: tuple[Place, ...] = ("surface", "below")
    return np.asarray(
        np.all(
            [np.abs(results[group, place] - THRESHOLD) >= PLACED_PROBABILITY - THRESHOLD for place in places], axis=0
        )
    )


def _only(results: Results, group: str, place: Place) -> NDArray[np.bool_]:
    other_place: Place = "below" if place == "surface" else "surface"
    return np.asarray(
        (results[group, place] >= PLACED_PROBABILITY) & (results[group, other_place] <= 1.0 - PLACED_PROBABILITY)
    )


def _kappa(name: str, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> dict[str, float]:
    low, high = PREVALENCE
    return {name: cohen_kappa(first, second)} if any(low <= mask.mean() <= high for mask in (first, second)) else {}


def compare_with_lines(identified: IdentifiedScan) -> dict[str, Any]:
    """Compare a scan's pigments with PyMca's line areas.

    Returns
    -------
    dict
        By group: ``auroc`` of the log-odds, for each line family that PyMca finds over 10 standard deviations in at
        least 100 pixels and under 2 in at least 100 others, and ``baseline_auroc``, that of the line area from our own
        fit; ``spearman`` correlation of the log-odds with PyMca's line area, for elements that are nearly everywhere,
        and ``baseline_spearman``; ``pixels`` on each side; ``prevalence``.

    Raises
    ------
    MissingExtraError
        PyMca is not installed.
    """
    evidence = fit_elements(
        identified.scan, families=identified.results.lines, instrument=identified.instrument, engine="pymca"
    )
    auroc_by_group, baseline, pixels = presence(identified, evidence)
    rank, baseline_rank = correlation(identified, evidence)
    return {
        "auroc": auroc_by_group,
        "baseline_auroc": baseline,
        "pixels": pixels,
        "spearman": rank,
        "baseline_spearman": baseline_rank,
        "prevalence": {name: share_present(identified.results[name]) for name in identified.results.groups},
    }


def worst(parts: Sequence[dict[str, float]], choose: Callable[[list[float]], float] = min) -> dict[str, float]:
    """Worst figure of each group over the scans."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: choose([part[name] for part in parts if name in part]) for name in names}
