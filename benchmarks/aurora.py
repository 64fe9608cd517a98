"""Pigment maps of a real scan against line evidence from PyMca's fit, and of two scans against each other.

    python benchmarks/aurora.py SCAN [SCAN2] [--model default] --json FILE

Labels of a real painting are unknown, so the network's answer is compared with evidence that is not the network's:

- ``auroc`` of a group's log-odds, for each line family that PyMca sees over 10 standard deviations in at least 100
  pixels and under 2 in at least 100 others; ``baseline_auroc`` is that of the line area from our own fit.
- ``spearman`` correlation of the log-odds with PyMca's line area, for elements that are nearly everywhere;
  ``baseline_spearman`` is that of our line area.
- ``kappa`` (Cohen) between two scans of the same pixels at a threshold of one half, for groups that either scan finds
  in 5 to 95 % of the pixels.
- ``seconds`` and ``peak_mb`` of the whole command ``underpaint identify`` on one scan, maps and report included.

With two scans the figures at the top are the worse of the two; both stand under ``scans``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata

from underpaint import __version__
from underpaint.calibrate import calibrate, calibrated_instrument, with_calibration
from underpaint.elements import fit_elements
from underpaint.evaluate import auroc, cohen_kappa
from underpaint.instrument import Instrument
from underpaint.io import load
from underpaint.maps import ElementMaps, PigmentMaps
from underpaint.predict import identify
from underpaint.spectrum import Scan

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
SMALLEST = 1e-12


@dataclass(frozen=True)
class Run:
    """One scan identified, with its cost."""

    source: str
    scan: Scan
    instrument: Instrument
    pigments: PigmentMaps
    elements: ElementMaps
    seconds: float
    peak_mb: float


def run(source: str, model: str) -> Run:
    """Time the command on one scan, then make its maps here: the log-odds are not in the result files."""
    seconds, peak = cost(source, model)
    raw = load(source)
    calibration = calibrate(raw)
    scan, instrument = with_calibration(raw, calibration), calibrated_instrument(raw, calibration)
    return Run(
        Path(source).name,
        scan,
        instrument,
        identify(scan, model=model),
        fit_elements(scan, instrument=instrument),
        seconds,
        peak,
    )


def cost(source: str, model: str) -> tuple[float, float]:
    """Seconds and highest resident memory, MB, of ``underpaint identify`` on one scan, report included."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [sys.executable, "-m", "underpaint", "identify", source, "--model", model, "--quiet"]
        subprocess.run([*command, "--out", str(Path(folder) / "result")], check=True)
        return time.perf_counter() - start, peak_mb()


def peak_mb() -> float:
    """Highest resident memory of the commands run so far, MB; NaN on Windows, which does not keep it."""
    try:
        import resource
    except ImportError:
        return float("nan")
    # Linux counts in kibibytes, macOS in bytes.
    unit = 1.0 if sys.platform == "darwin" else 1024.0
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 1e6


def log_odds(maps: PigmentMaps, name: str) -> Array:
    """Log-odds of a name at each pixel, (n_pixel,)."""
    if maps.log_odds is not None:
        return maps.log_odds[:, :, maps.names.index(name)].ravel().astype(np.float64)
    probability = np.clip(maps[name].ravel().astype(np.float64), SMALLEST, 1 - SMALLEST)
    return np.asarray(np.log(probability) - np.log1p(-probability))


def spearman(one: Array, other: Array) -> float:
    """Rank correlation; NaN where one side is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def presence(own: Run, evidence: ElementMaps) -> tuple[dict[str, float], dict[str, float], dict[str, Any]]:
    """AUROC and its baseline per group, and how many pixels each side has."""
    found: dict[str, float] = {}
    baseline: dict[str, float] = {}
    pixels: dict[str, Any] = {}
    for group, family in PRESENCE_GROUPS.items():
        if group not in own.pigments.names or family not in evidence.names:
            continue
        score, area = log_odds(own.pigments, group), own.elements[family].ravel().astype(np.float64)
        sigma = evidence[family].ravel() / evidence.uncertainty[:, :, evidence.names.index(family)].ravel()
        sure = ((sigma > CERTAIN_SIGMAS) | (sigma < ABSENT_SIGMAS)) & np.isfinite(score) & np.isfinite(area)
        positive = (sigma > CERTAIN_SIGMAS)[sure]
        pixels[group] = {"present": int(positive.sum()), "absent": int((~positive).sum())}
        if min(pixels[group].values()) < LEAST_PIXELS:
            continue
        found[group], baseline[group] = auroc(score[sure], positive), auroc(area[sure], positive)
    return found, baseline, pixels


def correlation(own: Run, evidence: ElementMaps) -> tuple[dict[str, float], dict[str, float]]:
    """Spearman correlation with PyMca's line area and its baseline, per group."""
    found: dict[str, float] = {}
    baseline: dict[str, float] = {}
    for group, family in AREA_GROUPS.items():
        if group not in own.pigments.names or family not in evidence.names:
            continue
        score, area = log_odds(own.pigments, group), evidence[family].ravel().astype(np.float64)
        known = np.isfinite(score) & np.isfinite(area)
        found[group] = spearman(score[known], area[known])
        baseline[group] = spearman(own.elements[family].ravel()[known].astype(np.float64), area[known])
    return found, baseline


def agreement(one: PigmentMaps, other: PigmentMaps) -> dict[str, float]:
    """Cohen's kappa per group between two scans of the same pixels."""
    if one.probability.shape[:2] != other.probability.shape[:2]:
        message = (
            f"Cannot compare the scans: {one.probability.shape[:2]} and {other.probability.shape[:2]} pixels. "
            "Both must be of the same pixels."
        )
        raise SystemExit(message)
    low, high = PREVALENCE
    result = {}
    for name in one.select("group"):
        known = np.isfinite(one[name]) & np.isfinite(other[name])
        present = one[name][known] > THRESHOLD, other[name][known] > THRESHOLD
        if any(low <= map_.mean() <= high for map_ in present):
            result[name] = cohen_kappa(*present)
    return result


def prevalence(maps: PigmentMaps, name: str) -> float:
    """Share of the answered pixels over the threshold."""
    known = np.isfinite(maps[name])
    return float((maps[name][known] > THRESHOLD).mean()) if known.any() else float("nan")


def measure(own: Run) -> dict[str, Any]:
    """All figures of one scan."""
    evidence = fit_elements(own.scan, families=own.elements.names, instrument=own.instrument, engine="pymca")
    found, baseline, pixels = presence(own, evidence)
    rank, baseline_rank = correlation(own, evidence)
    return {
        "auroc": found,
        "baseline_auroc": baseline,
        "pixels": pixels,
        "spearman": rank,
        "baseline_spearman": baseline_rank,
        "prevalence": {
            name: float(np.nanmean(own.pigments[name] > THRESHOLD)) for name in own.pigments.select("group")
        },
        "seconds": own.seconds,
        "peak_mb": own.peak_mb,
    }


def worst(parts: Sequence[dict[str, float]], choose: Callable[[list[float]], float] = min) -> dict[str, float]:
    """Worst figure of each group over the scans."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: choose([part[name] for part in parts if name in part]) for name in names}


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """Figures over all scans, and of each."""
    scans = {own.source: measure(own) for own in runs}
    keys = ("auroc", "baseline_auroc", "spearman", "baseline_spearman")
    result: dict[str, Any] = {key: worst([part[key] for part in scans.values()]) for key in keys}
    result["kappa"] = agreement(runs[0].pigments, runs[1].pigments) if len(runs) > 1 else {}
    result["seconds"] = max(own.seconds for own in runs)
    result["peak_mb"] = max(own.peak_mb for own in runs)
    return {**result, "scans": scans, "version": __version__}


def tables(result: dict[str, Any]) -> list[Table]:
    """The figures to read."""
    rows = [
        (title, source, group, part[key][group], part[f"baseline_{key}"][group])
        for key, title in (("auroc", "AUROC"), ("spearman", "Spearman"))
        for source, part in result["scans"].items()
        for group in part[key]
    ]
    scores = Table("figure", "scan", "group", "network", "line area", title="Against PyMca's line evidence")
    for title, source, group, own, baseline in rows:
        scores.add_row(title, Path(source).name, group, f"{own:.3f}", f"{baseline:.3f}")
    kappa = Table("group", "kappa", title="Agreement of the two scans")
    for group, value in result["kappa"].items():
        kappa.add_row(group, f"{value:.3f}")
    cost = Table("scan", "seconds", "peak MB", title="underpaint identify, report included")
    for source, part in result["scans"].items():
        cost.add_row(Path(source).name, f"{part['seconds']:.1f}", f"{part['peak_mb']:.0f}")
    return [scores, kappa, cost] if result["kappa"] else [scores, cost]


def main() -> None:
    """Parse, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", nargs="+", help="one or two scans of the same pixels; FILE::NAME picks an array")
    parser.add_argument("--model", default="default")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if len(options.scan) > 2:
        parser.error("one or two scans")
    result = summary([run(source, options.model) for source in options.scan])
    result["model"] = options.model
    console = Console()
    for table in tables(result):
        console.print(table)
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
