"""Which claims of the network on Monte Carlo panels are withheld because a line is missing.

    python benchmarks/withheld.py REFERENCE [REFERENCE ...] [--model default] [--draws 10] [--seed 0] --json FILE

By counts: ``right`` claims of groups whose lines show (three deviations, no model error) and how many of them are
withheld, ``false`` claims of groups that no material of the sample carries, ``unseen`` claims of those whose lines do
not show. The instrument is told.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from underpaint.data import Scan, survey
from underpaint.data.maps import split_place
from underpaint.elements import line_evidence, plan_all_families
from underpaint.lab.evaluation.monte_carlo import Panels, read_panels
from underpaint.pigments.predict import OnnxModel, open_model, plan_answers
from underpaint.simulate.instrument_inputs import conditions_of

COUNTS = (1e3, 1e4, 1e5, 1e6)
KINDS = ("right", "false", "unseen")


def withheld(panels: Panels, model: OnnxModel, counts: float, draws: int, seed: int) -> dict[str, int]:
    """Return by kind the number of claims, and of those that are withheld."""
    card = model.card
    keys = {
        name: families
        for name, kind, families in zip(card.names, card.kinds, card.elements, strict=True)
        if kind == "group" and families and split_place(name)[1] == "anywhere"
    }
    groups = [split_place(name)[0] for name in keys]
    spectra = np.asarray(panels.draw_spectra(counts, draws, seed).counts)
    answers = plan_answers(panels.axis, model, instrument=conditions_of(panels.instrument))
    results = answers.results(answers(spectra[None]), step_mm=None)
    log_odds = np.stack([results.map("log_odds", *split_place(name))[0] for name in keys], axis=1)
    claimed = log_odds > 0
    shows = np.repeat(panels.counts_needed(groups) < counts, draws, axis=0)
    carried = np.repeat(panels.labels(groups), draws, axis=0) > 0
    summary = survey(Scan(spectra[None], panels.axis))
    fit = plan_all_families(summary, panels.axis, panels.instrument, peaks=False)
    evidence = line_evidence(keys, fit, summary, panels.axis, panels.instrument, voltage_known=True)
    needed = np.full(claimed.shape, -np.inf)
    needed[:, [list(keys).index(name) for name in evidence.groups]] = evidence(fit(spectra))
    kinds = {"right": carried & shows, "false": ~carried, "unseen": carried & ~shows}
    result = {}
    for kind in KINDS:
        result[kind] = int((claimed & kinds[kind]).sum())
        result[f"{kind}_withheld"] = int((claimed & kinds[kind] & (log_odds < needed)).sum())
    return result


def main() -> None:
    """Parse, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path, nargs="+")
    parser.add_argument("--model", default="default")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    model, every = open_model(arguments.model), [read_panels(folder) for folder in arguments.reference]
    table, result = Table("counts", *(f"{kind}, withheld" for kind in KINDS)), {}
    for counts in COUNTS:
        parts = [withheld(panels, model, counts, arguments.draws, arguments.seed) for panels in every]
        sums = {key: sum(part[key] for part in parts) for key in parts[0]}
        result[f"{counts:g}"] = sums
        table.add_row(f"{counts:g}", *(f"{sums[kind]}, {sums[f'{kind}_withheld']}" for kind in KINDS))
    Console().print(table)
    about = {"model": arguments.model, "draws": arguments.draws, "seed": arguments.seed}
    arguments.json.write_text(json.dumps({**about, "by_counts": result}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
