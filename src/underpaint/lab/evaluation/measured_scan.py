"""Pigment maps of a real scan against line evidence from an independent fit, and of two scans against each other.

Labels of a real painting are unknown, so a network's answer is compared with evidence that is not the network's: line
areas by PyMca's fit (Sole et al. 2007), and the same pixels as another detector saw them.
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
"""An answer is sure where the network gives it, yes or no, so much probability."""
LINE_SIGMAS = 3.0
AREA_BINS = 20
SMALLEST = 1e-12


@dataclass(frozen=True)
class Identified:
    """One scan, calibrated, with what is known of its instrument, its pigments and our own line areas."""

    scan: Scan
    instrument: Instrument
    known: InstrumentConditions
    results: Results


def identify_scan(source: str, model: str | OnnxModel) -> Identified:
    """Calibrate a scan from its own data, find its pigments, and fit its lines.

    A network that asks for it is told what the scan's file and its lines tell of the instrument.
    """
    raw = load(source)
    calibration = calibrate(raw)
    scan, knowledge = with_calibration(raw, calibration), merge_knowledge(raw, calibration=calibration)
    instrument, known = knowledge.instrument, knowledge.known()
    results = identify(scan, model=model, instrument=known) | fit_elements(scan, instrument=instrument)
    return Identified(scan, instrument, known, results)


def log_odds(results: Results, name: str) -> Array:
    """Log-odds of a name at each pixel, (n_pixel,)."""
    if "log_odds" in results.stacks:
        return results.map("log_odds", name, "anywhere").ravel().astype(np.float64)
    probability = np.clip(results[name].ravel().astype(np.float64), SMALLEST, 1 - SMALLEST)
    return np.asarray(np.log(probability) - np.log1p(-probability))


def presence(own: Identified, evidence: Results) -> tuple[dict[str, float], dict[str, float], dict[str, Any]]:
    """AUROC and its baseline per group, and how many pixels each side has."""
    found: dict[str, float] = {}
    baseline: dict[str, float] = {}
    pixels: dict[str, Any] = {}
    for group, family in PRESENCE_GROUPS.items():
        if not own.results.holds(group) or family not in evidence.lines:
            continue
        score, area = log_odds(own.results, group), own.results[family].ravel().astype(np.float64)
        sigma = evidence[family].ravel() / evidence.map("area_sigma", family).ravel()
        sure = ((sigma > CERTAIN_SIGMAS) | (sigma < ABSENT_SIGMAS)) & np.isfinite(score) & np.isfinite(area)
        positive = (sigma > CERTAIN_SIGMAS)[sure]
        pixels[group] = {"present": int(positive.sum()), "absent": int((~positive).sum())}
        if min(pixels[group].values()) < LEAST_PIXELS:
            continue
        found[group], baseline[group] = auroc(score[sure], positive), auroc(area[sure], positive)
    return found, baseline, pixels


def correlation(own: Identified, evidence: Results) -> tuple[dict[str, float], dict[str, float]]:
    """Spearman correlation with PyMca's line area and its baseline, per group."""
    found: dict[str, float] = {}
    baseline: dict[str, float] = {}
    for group, family in AREA_GROUPS.items():
        if not own.results.holds(group) or family not in evidence.lines:
            continue
        score, area = log_odds(own.results, group), evidence[family].ravel().astype(np.float64)
        known = np.isfinite(score) & np.isfinite(area)
        found[group] = spearman(score[known], area[known])
        baseline[group] = spearman(own.results[family].ravel()[known].astype(np.float64), area[known])
    return found, baseline


def agreement(one: Results, other: Results, *, sure: float | None = None) -> dict[str, float]:
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
    if one.shape != other.shape:
        raise ScanError(
            f"Cannot compare the scans: {one.shape} and {other.shape} pixels. Both must be of the same pixels."
        )
    result: dict[str, float] = {}
    for name in one.groups:
        known = np.isfinite(one[name]) & np.isfinite(other[name])
        if sure is not None:
            known &= (np.abs(one[name] - THRESHOLD) >= sure - 0.5) & (np.abs(other[name] - THRESHOLD) >= sure - 0.5)
        if not known.any():
            continue
        result |= _kappa(name, one[name][known] > THRESHOLD, other[name][known] > THRESHOLD)
    return result


def counting_agreement(own: Identified, model: str | OnnxModel, seed: int) -> dict[str, float]:
    """Cohen's kappa between the two halves of one detector's counts: what counting statistics leave of an agreement.

    Each count goes to one half or the other by chance, so the halves are independent spectra of the same paint, by the
    same instrument, with half of the counts (binomial thinning of a Poisson process).
    """
    counts = np.asarray(own.scan.counts).astype(np.int64)
    one = np.random.default_rng(seed).binomial(counts, 0.5)
    halves = (replace(own.scan, counts=da.from_array(half.astype(np.float32))) for half in (one, counts - one))
    return agreement(*(identify(half, model=model, instrument=own.known) for half in halves))


def line_agreement(one: Identified, other: Identified) -> dict[str, float]:
    """Cohen's kappa between two scans of the same pixels, were a group there where a key line stands out.

    What counting statistics leave of an agreement: by :data:`LINE_SIGMAS` standard deviations of the strongest key
    family of a group, for groups that either scan finds so in 5 to 95 % of the pixels.
    """
    result: dict[str, float] = {}
    for name in one.results.groups:
        families = library().group(name).key_families
        seen = [own.results.strongest(families).ravel() > LINE_SIGMAS for own in (one, other)]
        result |= _kappa(name, *seen)
    return result


def below_against_scatter(own: Results, group: str = "lead_pigment", family: str = "Pb_L") -> float | None:
    """Spearman correlation of "below" of a group with Compton counts, in pixels of equal area of its family.

    Light matter behind the canvas scatters and emits no lines of paint: an answer that follows it is none of paint. The
    mean over :data:`AREA_BINS` bins of as many pixels; None without places or scatter.
    """
    if not own.holds(group, "below") or "Compton" not in own.scatter_peaks or family not in own.lines:
        return None
    maps = (own[family], own.map("scatter", "Compton"), own[group, "below"])
    area, scatter, below = (np.asarray(one, dtype=np.float64).ravel() for one in maps)
    known = np.isfinite(area) & np.isfinite(scatter) & np.isfinite(below)
    bins = np.array_split(np.flatnonzero(known)[np.argsort(area[known])], AREA_BINS)
    each = [spearman(below[one], scatter[one]) for one in bins if one.size > 2]
    return float(np.nanmean(each)) if np.isfinite(each).any() else None


def place_determined(own: Results) -> dict[str, float]:
    """Share of the pixels with a group in which it is stated whether it lies at the surface, and whether below.

    By group, of those in at least :data:`LEAST_PIXELS` pixels, and their ``mean``.
    """
    result = {}
    for group in _with_places(own):
        present = own[group] > THRESHOLD
        if present.sum() >= LEAST_PIXELS:
            result[group] = float(_is_placed(own, group)[present].mean())
    return result | ({"mean": float(np.mean(list(result.values())))} if result else {})


def place_contradictions(one: Results, other: Results) -> dict[str, float]:
    """Share of the pixels in which one scan has a group at the surface only, the other below only.

    Of the pixels where both have the group and state its place; by group, of those with at least
    :data:`LEAST_PIXELS` such pixels, and their ``mean``.
    """
    result = {}
    for group in set(_with_places(one)) & set(_with_places(other)):
        both = (one[group] > THRESHOLD) & (other[group] > THRESHOLD)
        both &= _is_placed(one, group) & _is_placed(other, group)
        against = _only(one, group, "surface") & _only(other, group, "below")
        against |= _only(one, group, "below") & _only(other, group, "surface")
        if both.sum() >= LEAST_PIXELS:
            result[group] = float(against[both].mean())
    return dict(sorted(result.items())) | ({"mean": float(np.mean(list(result.values())))} if result else {})


def amounts_agree(one: Results, other: Results) -> dict[str, float]:
    """Share of the pixels in which the 90 % intervals of two scans' amounts overlap.

    Of the pixels where both have the group; by group, of those with at least :data:`LEAST_PIXELS` such pixels, and
    their ``mean``. Empty for networks that answer no amounts.
    """
    result = {}
    for group in one.groups:
        if not (one.knows_amount(group) and other.knows_amount(group)):
            continue
        both = (one[group] > THRESHOLD) & (other[group] > THRESHOLD)
        first, second = (results.estimate(f"amount.{group}") for results in (one, other))
        overlap = (first.low <= second.high) & (second.low <= first.high)
        if both.sum() >= LEAST_PIXELS:
            result[group] = float(overlap[both].mean())
    return result | ({"mean": float(np.mean(list(result.values())))} if result else {})


def _with_places(own: Results) -> list[str]:
    return [group for group in own.groups if own.holds(group, "surface") and own.holds(group, "below")]


def _is_placed(own: Results, group: str) -> NDArray[np.bool_]:
    places: tuple[Place, ...] = ("surface", "below")
    return np.asarray(
        np.all([np.abs(own[group, place] - THRESHOLD) >= PLACED_PROBABILITY - THRESHOLD for place in places], axis=0)
    )


def _only(own: Results, group: str, here: Place) -> NDArray[np.bool_]:
    there: Place = "below" if here == "surface" else "surface"
    return np.asarray((own[group, here] >= PLACED_PROBABILITY) & (own[group, there] <= 1.0 - PLACED_PROBABILITY))


def _kappa(name: str, one: NDArray[np.bool_], other: NDArray[np.bool_]) -> dict[str, float]:
    low, high = PREVALENCE
    return {name: cohen_kappa(one, other)} if any(low <= own.mean() <= high for own in (one, other)) else {}


def against_lines(own: Identified) -> dict[str, Any]:
    """Hold a scan's pigments against PyMca's line areas.

    Returns
    -------
    dict
        By group: ``auroc`` of the log-odds, for each line family that PyMca sees over 10 standard deviations in at
        least 100 pixels and under 2 in at least 100 others, and ``baseline_auroc``, that of the line area from our own
        fit; ``spearman`` correlation of the log-odds with PyMca's line area, for elements that are nearly everywhere,
        and ``baseline_spearman``; ``pixels`` on each side; ``prevalence``.

    Raises
    ------
    MissingExtraError
        PyMca is not installed.
    """
    evidence = fit_elements(own.scan, families=own.results.lines, instrument=own.instrument, engine="pymca")
    found, baseline, pixels = presence(own, evidence)
    rank, baseline_rank = correlation(own, evidence)
    return {
        "auroc": found,
        "baseline_auroc": baseline,
        "pixels": pixels,
        "spearman": rank,
        "baseline_spearman": baseline_rank,
        "prevalence": {name: share_present(own.results[name]) for name in own.results.groups},
    }


def worst(parts: Sequence[dict[str, float]], choose: Callable[[list[float]], float] = min) -> dict[str, float]:
    """Worst figure of each group over the scans."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: choose([part[name] for part in parts if name in part]) for name in names}
