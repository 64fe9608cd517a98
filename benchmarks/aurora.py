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

from rich.console import Console
from rich.table import Table

from underpaint import __version__
from underpaint.lab.evaluation.measured_scan import (
    Identified,
    against_lines,
    agreement,
    contradictions,
    counting_agreement,
    identify_scan,
    line_agreement,
    thinned,
    worst,
)

SEED = 0


@dataclass(frozen=True)
class Run:
    """One scan identified, with what the command costs."""

    source: str
    identified: Identified
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
        own.source: {
            **against_lines(own.identified),
            "contradictions": contradictions(own.identified.scan, model),
            "thinned": thinned(own.identified.scan, model, SEED),
            "seconds": own.seconds,
            "peak_mb": own.peak_mb,
        }
        for own in runs
    }
    keys = ("auroc", "baseline_auroc", "spearman", "baseline_spearman")
    result: dict[str, Any] = {key: worst([part[key] for part in scans.values()]) for key in keys}
    result["kappa_of_halves"] = worst([counting_agreement(own.identified, model, SEED) for own in runs], max)
    one, other = runs[0].identified, runs[-1].identified
    result["kappa"] = agreement(one.results, other.results) if len(runs) > 1 else {}
    result["baseline_kappa"] = line_agreement(one, other) if len(runs) > 1 else {}
    result["contradictions"] = {
        kind: sum(group[kind] for part in scans.values() for group in part["contradictions"].values())
        for kind in ("missed", "unproven")
    }
    result["thinned"] = {
        share: {way: min(part["thinned"][share][way]["mean"] for part in scans.values()) for way in ways}
        for share, ways in next(iter(scans.values()))["thinned"].items()
    }
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
    kappa = Table("group", "kappa", "halves of one scan", "by lines", title="Agreement of the two scans")
    for group, value in result["kappa"].items():
        beside = (result[key].get(group, float("nan")) for key in ("kappa_of_halves", "baseline_kappa"))
        kappa.add_row(group, f"{value:.3f}", *(f"{own:.3f}" for own in beside))
    lines = Table("figure", "value", title="Answers against the lines, and few counts")
    for kind, n_pixel in result["contradictions"].items():
        lines.add_row(f"contradictions, {kind}", str(n_pixel))
    for share, ways in result["thinned"].items():
        for way, value in ways.items():
            lines.add_row(f"kappa at {share} of the counts, {way}", f"{value:.3f}")
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
