"""Pigment maps of a real scan against line evidence from PyMca's fit, and of two scans against each other.

    python benchmarks/aurora.py SCAN [SCAN2] [--model default] --json FILE

Labels of a real painting are unknown, so the network's answer is compared with evidence that is not the network's:

- ``auroc`` of a group's log-odds, for each line family that PyMca sees over 10 standard deviations in at least 100
  pixels and under 2 in at least 100 others; ``baseline_auroc`` is that of the line area from our own fit.
- ``spearman`` correlation of the log-odds with PyMca's line area, for elements that are nearly everywhere;
  ``baseline_spearman`` is that of our line area.
- ``kappa`` (Cohen) between two scans of the same pixels at a threshold of one half, for groups that either scan finds
  in 5 to 95 % of the pixels. Beside it ``baseline_kappa``, of key lines over 3 standard deviations, and
  ``kappa_of_halves``, of the network on the two halves of one scan's counts: what counting statistics leave (the better
  of the scans).
- ``contradictions`` between lines and answers of the whole program: pixels with a line over ten standard deviations
  whose group is not claimed (``missed``), and claims without a line over two (``unproven``).
- ``below_against_scatter``: Spearman correlation of "lead below" with the Compton counts where Pb L has one area; the
  scan in which it is strongest. What lies behind the canvas is no answer about paint.
- ``place_determined``: share of a group's pixels in which it is stated whether it lies at the surface, and whether
  below; ``place_contradictions``: of pixels where both scans state it, those where one has it at the surface only and
  the other below only. By group, and the mean.
- ``amounts_agree``: share of a group's pixels in which the 90 % intervals of both scans' amounts overlap.
- ``kappa_under_halves``: how far ``kappa`` lies under ``kappa_of_halves``, by group; the largest is ``highest``.
- ``thinned``: kappa of answers from 10 % and 3 % of the counts with those from the rest, single pixels and pooled, mean
  over seven groups; the worse of the scans.
- ``seconds`` and ``peak_mb`` of the whole command ``underpaint identify`` on one scan, maps and report included.

With two scans the figures at the top are the worse of the two; both stand under ``scans``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from underpaint import __version__
from underpaint.calibrate import calibrate
from underpaint.data import Scan
from underpaint.data.maps import Results, cohen_kappa
from underpaint.lab.evaluation.measured_scan import (
    ABSENT_SIGMAS,
    PRESENT_PROBABILITY,
    PRESENT_SIGMAS,
    IdentifiedScan,
    amount_agreement,
    below_scatter_correlation,
    compare_with_lines,
    contradicting_places,
    counting_agreement,
    determined_places,
    identify_scan,
    line_agreement,
    pigment_agreement,
    worst_scores,
)
from underpaint.pipeline.plan import Settings, plan
from underpaint.pipeline.pooling import BlockEvidence

SEED = 0
THINNED_GROUPS = (
    "mercury_red", "iron_pigment", "copper_green_blue", "chromium_pigment", "zinc_pigment", "tin_pigment",
    "antimony_pigment",
)  # fmt: skip
"""Those whose agreement is averaged: groups that are neither nowhere nor everywhere on the scan of the aurora."""
THINNED_SHARES = (0.1, 0.03)
LEAST_SIGMA = 1e-12


@dataclass(frozen=True)
class Run:
    """One scan identified, with what the command costs."""

    source: str
    identified: IdentifiedScan
    seconds: float
    peak_mb: float


def run(source: str, model: str) -> Run:
    """Time the command on one scan, then make its maps here: the log-odds are not in the result files."""
    seconds, peak = cost(source, model)
    return Run(Path(source).name, identify_scan(source, model), seconds, peak)


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


def summary(runs: Sequence[Run], model: str) -> dict[str, Any]:
    """Figures over all scans, and of each."""
    scans = {
        run.source: {
            **compare_with_lines(run.identified),
            "contradictions": contradictions(run.identified.scan, model),
            "thinned": thinned(run.identified.scan, model, SEED),
            "below_against_scatter": below_scatter_correlation(run.identified.results),
            "place_determined": determined_places(run.identified.results),
            "seconds": run.seconds,
            "peak_mb": run.peak_mb,
        }
        for run in runs
    }
    keys = ("auroc", "baseline_auroc", "spearman", "baseline_spearman")
    result: dict[str, Any] = {key: worst_scores([part[key] for part in scans.values()]) for key in keys}
    result["kappa_of_halves"] = worst_scores([counting_agreement(run.identified, model, SEED) for run in runs], max)
    first, second = runs[0].identified, runs[-1].identified
    result["kappa"] = pigment_agreement(first.results, second.results) if len(runs) > 1 else {}
    result["baseline_kappa"] = line_agreement(first, second) if len(runs) > 1 else {}
    result["contradictions"] = {
        kind: sum(group[kind] for part in scans.values() for group in part["contradictions"].values())
        for kind in ("missed", "unproven")
    }
    result["thinned"] = {
        share: {way: min(part["thinned"][share][way]["mean"] for part in scans.values()) for way in ways}
        for share, ways in next(iter(scans.values()))["thinned"].items()
    }
    against = [part["below_against_scatter"] for part in scans.values() if part["below_against_scatter"] is not None]
    result["below_against_scatter"] = max(against, key=abs, default=None)
    result["place_determined"] = worst_scores([part["place_determined"] for part in scans.values()])
    result["place_contradictions"] = contradicting_places(first.results, second.results) if len(runs) > 1 else {}
    result["amounts_agree"] = amount_agreement(first.results, second.results) if len(runs) > 1 else {}
    halves = result["kappa_of_halves"]
    under = {name: halves[name] - value for name, value in result["kappa"].items() if name in halves}
    result["kappa_under_halves"] = under | ({"highest": max(under.values())} if under else {})
    result["seconds"] = max(run.seconds for run in runs)
    result["peak_mb"] = max(run.peak_mb for run in runs)
    return {**result, "scans": scans, "version": __version__}


def contradictions(scan: Scan, model: str | Path) -> dict[str, dict[str, int]]:
    """Count pixels in which the answers of the whole program contradict the lines, by group.

    Returns
    -------
    dict
        ``missed``: a family of the group over ten standard deviations, and the group not present; ``unproven``:
        present, and neither one of its families over two nor all together (root of the sum of squares). In the spectra
        that were answered. Groups without either are left
        out.
    """
    planned = plan(scan, Settings(model, elements=False))
    fit, results = planned.block_work.family_fit, planned.run()
    counts = planned.calibrated_scan.scan.counts.compute()
    if fit is None:
        return {}
    shown = BlockEvidence.of_block(fit, counts, scan.present)
    if planned.block_work.pooling is not None:
        core = slice(0, scan.shape[0]), slice(0, scan.shape[1])
        pooled, _, _ = planned.block_work.pooling(shown, counts, planned.survey.pixel_counts, core)
        shown = BlockEvidence.of_block(fit, pooled, scan.present)
    deviations = shown.to_grid(shown.evidence.area / np.maximum(shown.evidence.sigma_if_absent, LEAST_SIGMA))
    result = {}
    for group in results.groups:
        families = [fit.names.index(name) for name in results.materials[group].elements if name in fit.names]
        if not families:
            continue
        of_group, present = deviations[:, :, families], results[group] > PRESENT_PROBABILITY
        together = np.linalg.norm(np.maximum(of_group, 0.0), axis=2)
        n_pixel = {
            "missed": int((~present & (of_group.max(axis=2) > PRESENT_SIGMAS)).sum()),
            "unproven": int((present & (together < ABSENT_SIGMAS)).sum()),
        }
        if any(n_pixel.values()):
            result[group] = n_pixel
    return result


def thinned(scan: Scan, model: str | Path, seed: int) -> dict[str, dict[str, Any]]:
    """Cohen's kappa of answers from a share of a scan's counts with those from the rest, plain and pooled.

    Each count goes to one part or the other by chance (binomial thinning), so the parts are independent spectra of the
    same paint by the same instrument. The rest is answered pixel by pixel. Both have the axis of the whole scan.

    Returns
    -------
    dict
        By share, ``"0.1"``, and ``plain`` or ``pooled``: kappa by group of :data:`THINNED_GROUPS`, and their ``mean``.
        A group that neither part shows anywhere is left out.
    """
    axis = calibrate(scan).axis
    counts, rng = np.asarray(scan.counts.compute()).astype(np.int64), np.random.default_rng(seed)

    def answered(part: NDArray[np.int64], pool: str) -> Results:
        spectra = scan.replace(counts=da.from_array(part.astype(np.float32), chunks=scan.counts.chunks), axis=axis)
        return plan(spectra, Settings(model, elements=False, calibrated=False, pool=pool)).run()

    result: dict[str, dict[str, Any]] = {}
    for share in THINNED_SHARES:
        few = rng.binomial(counts, share)
        rest = answered(counts - few, "off")
        for name, pool in (("plain", "off"), ("pooled", "auto")):
            answer, kappa = answered(few, pool), {}
            for group in THINNED_GROUPS:
                both = answer[group] > PRESENT_PROBABILITY, rest[group] > PRESENT_PROBABILITY
                if any(part.any() for part in both):
                    kappa[group] = cohen_kappa(both[0].ravel(), both[1].ravel())
            values = [value for value in kappa.values() if np.isfinite(value)]
            result.setdefault(f"{share:g}", {})[name] = {**kappa, "mean": float(np.mean(values)) if values else None}
    return result


def tables(result: dict[str, Any]) -> list[Table]:
    """The figures to read."""
    rows = [
        (title, source, group, part[key][group], part[f"baseline_{key}"][group])
        for key, title in (("auroc", "AUROC"), ("spearman", "Spearman"))
        for source, part in result["scans"].items()
        for group in part[key]
    ]
    scores = Table("figure", "scan", "group", "network", "line area", title="Against PyMca's line evidence")
    for title, source, group, network, baseline in rows:
        scores.add_row(title, Path(source).name, group, f"{network:.3f}", f"{baseline:.3f}")
    kappa = Table("group", "kappa", "halves of one scan", "by lines", title="Agreement of the two scans")
    for group, value in result["kappa"].items():
        bounds = (result[key].get(group, float("nan")) for key in ("kappa_of_halves", "baseline_kappa"))
        kappa.add_row(group, f"{value:.3f}", *(f"{bound:.3f}" for bound in bounds))
    lines = Table("figure", "value", title="Answers against the lines, and few counts")
    for kind, n_pixel in result["contradictions"].items():
        lines.add_row(f"contradictions, {kind}", str(n_pixel))
    for share, ways in result["thinned"].items():
        for way, value in ways.items():
            lines.add_row(f"kappa at {share} of the counts, {way}", f"{value:.3f}")
    for key in (
        "below_against_scatter", "place_determined", "place_contradictions", "amounts_agree", "kappa_under_halves",
    ):  # fmt: skip
        figure = result[key]
        figure = figure.get("mean", figure.get("highest")) if isinstance(figure, dict) else figure
        lines.add_row(key.replace("_", " "), "" if figure is None else f"{figure:.3f}")
    cost = Table("scan", "seconds", "peak MB", title="underpaint identify, report included")
    for source, part in result["scans"].items():
        cost.add_row(Path(source).name, f"{part['seconds']:.1f}", f"{part['peak_mb']:.0f}")
    return [scores, kappa, lines, cost] if result["kappa"] else [scores, lines, cost]


def main() -> None:
    """Parse, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", nargs="+", help="one or two scans of the same pixels; FILE::NAME picks an array")
    parser.add_argument("--model", default="default")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if len(options.scan) > 2:
        parser.error("one or two scans")
    result = summary([run(source, options.model) for source in options.scan], options.model)
    result["model"] = options.model
    console = Console()
    for table in tables(result):
        console.print(table)
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
