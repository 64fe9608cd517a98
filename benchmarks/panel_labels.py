"""F1 of one group on the held-out virtual panel, and how many of the missed are visible at its counts.

    python benchmarks/panel_labels.py [--group zinc_pigment] [--model NAME|FILE ...] [--panel table2] [--json FILE]

Labels by pigment (the group is painted, and its lines show) and by lines (they show, whatever brings them, with a model
error of 2 %). By model ``f1`` and ``always_yes_f1`` with both; ``f1_with_evidence``, by pigment, without claims that
the spectrum contradicts and with those that it proves; ``best_f1``, by pigment at the best threshold: what the order
of the answers allows. Of the ``missed`` by pigment, ``within_model_error``, those that do not show if what lies under
the lines is known to 2 %, and ``counts_needed``, the median and 5 % point of counts that the missed need by lines, over
those that the spectra have (over one: it does not show).
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from underpaint.lab.evaluation import score
from underpaint.pigments.predict import identify
from underpaint.simulate import PanelSettings, make_panel, outputs_for
from underpaint.simulate.labels import present_at

COUNTS = 1e5
THRESHOLDS = np.linspace(0.02, 0.98, 49)


def main() -> None:
    """Paint, identify, score, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", default="zinc_pigment")
    parser.add_argument("--member", default="zinc_white", help="any pigment of the group")
    parser.add_argument("--model", nargs="+", default=["default"])
    parser.add_argument("--panel", default="table2")
    parser.add_argument("--cell-pixels", type=int, default=10)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    outputs = outputs_for([arguments.member]).select_output_names([arguments.group])
    settings = PanelSettings(
        recipe=arguments.panel,
        cell_pixels=arguments.cell_pixels,
        gap_pixels=0,
        counts=COUNTS,
        equal_counts=True,
        seed=20220717,
    )
    panels = {lines: make_panel(settings, outputs=outputs, lines=lines) for lines in (False, True)}
    labels = {
        lines: (present_at(panel.labels, panel.max_absent_counts, COUNTS)[:, 0], panel.counts_needed[:, 0])
        for lines, panel in panels.items()
        if panel.labels is not None and panel.counts_needed is not None
    }
    figures = {}
    for model in arguments.model:
        answer = identify(panels[False].scan, model=model)[arguments.group].ravel()
        figures[model] = of_model(answer, labels[False], labels[True])
    table = Table(
        "model",
        "F1",
        "always yes",
        "best F1",
        "F1, lines",
        "always yes",
        "missed",
        "within model error",
    )
    for model, values in figures.items():
        keys = ("f1", "always_yes_f1", "best_f1", "f1_by_lines", "always_yes_f1_by_lines")
        cells = (f"{values[key]:.3f}" for key in keys)
        table.add_row(model, *cells, str(values["missed"]), str(values["within_model_error"]))
    Console(width=140).print(table)
    if arguments.json is not None:
        record = {"panel": arguments.panel, "group": arguments.group, "counts": COUNTS, "by_model": figures}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def of_model(
    answer: NDArray[np.floating],
    by_pigment: tuple[NDArray[np.bool_], NDArray[np.floating]],
    by_lines: tuple[NDArray[np.bool_], NDArray[np.floating]],
) -> dict[str, Any]:
    """Return the figures of the (n,) answers of a model, by labels and the counts that each needs."""
    pigment, lines = (score(answer, label, needed <= COUNTS) for label, needed in (by_pigment, by_lines))
    label, needed = by_pigment
    missed = label & (needed <= COUNTS) & ~(answer > 0.5)
    share = by_lines[1][missed] / COUNTS
    best = max(score((answer > at).astype(float), label, needed <= COUNTS).f1 for at in THRESHOLDS)
    return {
        "f1": pigment.f1,
        "always_yes_f1": pigment.always_yes_f1,
        "best_f1": best,
        "f1_by_lines": lines.f1,
        "always_yes_f1_by_lines": lines.always_yes_f1,
        "shown": int((label & (needed <= COUNTS)).sum()),
        "missed": int(missed.sum()),
        "within_model_error": int((share > 1.0).sum()),
        "counts_needed": np.quantile(share, (0.5, 0.05)).tolist() if missed.any() else None,
    }


if __name__ == "__main__":
    main()
