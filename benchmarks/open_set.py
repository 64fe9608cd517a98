"""How well the score of unlikeness separates spectra with an unknown element from those without.

    python benchmarks/open_set.py [--spectra 1500] [--counts 1e5] [--instrument elio] [--seed 5] --json FILE

Random paintings of all pigments of the library, impurities included, are simulated for one instrument. Each element in
turn is left out of the line families that the score knows, as if no pigment held it. Positive are the spectra in which
its own lines exceed ``5 sqrt(2 B)``, B the other counts under them; negative those without a trace of it; the rest
is left out. ``auroc_fit`` asks of the positive that the true counts of its lines exceed five standard deviations of
a fit that knows the element, which differs where other elements' lines lie at the same energies. ``alarms`` is the
share of the spectra that are flagged when every element is known.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from underpaint import __version__
from underpaint.lab.evaluation.simulated import draw_samples, leave_each_out
from underpaint.physics.instrument import load_instrument


def table(counts: str, figures: dict[str, Any]) -> Table:
    """The figures to read."""
    result = Table(
        "element", "AUROC", "of a fit's 5 sigma", "present", "flagged", "absent", "flagged",
        title=f"Left out in turn, {counts} counts; {figures['alarms']:.1%} flagged with all known",
    )  # fmt: skip
    for name, value in sorted(figures["auroc"].items(), key=lambda pair: pair[1]):
        row, fit = figures["spectra"][name], figures["auroc_fit"][name]
        shares = (f"{row['present_flagged']:.2f}", f"{row['absent_flagged']:.3f}")
        result.add_row(
            name, f"{value:.3f}", "" if fit is None else f"{fit:.3f}",
            str(row["present"]), shares[0], str(row["absent"]), shares[1],
        )  # fmt: skip
    return result


def main() -> None:
    """Parse, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spectra", type=int, default=1500)
    parser.add_argument("--counts", type=float, nargs="+", default=[1e4, 1e5])
    parser.add_argument("--instrument", default="elio")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    instrument = load_instrument(options.instrument)
    samples = draw_samples(options.spectra, instrument, options.seed)
    by_counts = {f"{level:g}": leave_each_out(samples, level, instrument, options.seed) for level in options.counts}
    for counts, level in by_counts.items():
        Console().print(table(counts, level))
    if options.json is not None:
        about = {
            "version": __version__,
            "seed": options.seed,
            "spectra": options.spectra,
            "instrument": instrument.name,
        }
        options.json.write_text(json.dumps({"by_counts": by_counts, **about}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
