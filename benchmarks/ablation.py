"""What each part of the third generation of networks brings, at equal processor time, on Monte Carlo panels.

    underpaint simulate examples/ablation_library_gap.toml --out runs/ablation_gap.h5
    underpaint simulate examples/default_library.toml --out runs/default.h5
    python benchmarks/ablation.py runs REFERENCE [REFERENCE ...] --json FILE

RUNS is a folder with both libraries, of which 32,000 stratigraphies are used; the arms' networks go to RUNS/ablation.
REFERENCE are folders of Monte Carlo panels. Every arm trains on one thread, for the same processor time: the speed of
each is measured first, and it makes as many passes over the spectra as the time allows. A call that was interrupted
goes on. Each network stands alone, and with the rules of the line evidence.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from underpaint.lab.evaluation.presence import evaluate_monte_carlo
from underpaint.lab.networks import build_network
from underpaint.lab.training.batches import Batches
from underpaint.lab.training.checkpoint import card_for, spec_for
from underpaint.lab.training.exporting import export
from underpaint.lab.training.library import Library, load_library
from underpaint.lab.training.loop import train
from underpaint.lab.training.module import batch_loss
from underpaint.lab.training.settings import TrainSettings

STRATIGRAPHIES = 32_000
SEED = 1
_STEPS_TIMED = 12
_KEYS = ("exact_sets", "macro_f1", "present_missed", "present_missed_over_10_sigma", "false_claims", "below_f1")


class Arm(NamedTuple):
    """Training data and settings of an arm."""

    library: Literal["ablation_gap", "default"]
    present: Literal["pigment", "lines"]
    kind: Literal["layers_dense", "layers_evidence"]


ARMS = {
    "as before": Arm("ablation_gap", "pigment", "layers_dense"),
    "presence label": Arm("ablation_gap", "lines", "layers_dense"),
    "gapless draw": Arm("default", "pigment", "layers_dense"),
    "evidence input": Arm("ablation_gap", "pigment", "layers_evidence"),
    "all": Arm("default", "lines", "layers_evidence"),
}


def main() -> None:
    """Train the arms, score them, print a table, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("reference", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, default=5.0, help="processor time of each arm")
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    spent = {name: trained(name, arm, arguments.runs, 60.0 * arguments.minutes) for name, arm in ARMS.items()}
    paths = {name: arguments.runs / "ablation" / file_name(name) / f"{file_name(name)}.onnx" for name in ARMS}
    figures = evaluate_monte_carlo(arguments.reference, paths["all"], other_models={**paths, "shipped": "default"})
    for name in ("model", "with_evidence"):
        del figures[name]  # of "all", which stands under its own name
    record = {"minutes": arguments.minutes, "seed": SEED, "training": spent, **figures}
    arguments.json.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    show(record)


def trained(name: str, arm: Arm, runs: Path, seconds: float) -> dict[str, Any]:
    """Train an arm for some processor time, and return its cost."""
    folder = runs / "ablation" / file_name(name)
    note = folder / "spent.json"
    if note.is_file():
        return dict(json.loads(note.read_text("utf-8")))
    library = load_library(runs / f"{arm.library}.h5", half_precision=True, lines=arm.present == "lines")
    library = library.select_rows(np.flatnonzero(library.source < STRATIGRAPHIES))
    settings = TrainSettings(
        library=(runs / f"{arm.library}.h5",),
        out=folder,
        name=file_name(name),
        kind=arm.kind,
        present=arm.present,
        seed=SEED,
        threads=1,
        progress=False,
    )
    per_s = spectra_per_s(library, settings)
    # the last share of a pass is taken off the library
    epochs = int(np.ceil(seconds * per_s / len(library)))
    selected = library.source < seconds * per_s / epochs / len(library) * STRATIGRAPHIES
    settings = settings.model_copy(update={"epochs": epochs, "patience": epochs})
    begin = time.process_time()
    report = train(settings, library.select_rows(np.flatnonzero(selected)))
    export(report.trained_model.network, report.trained_model.card, folder)
    spent = {
        **arm._asdict(),
        "processor_s": time.process_time() - begin,
        "spectra_per_s": per_s,
        "epochs": epochs,
        "spectra": epochs * int(selected.sum()),
        "validation_loss": report.validation_loss,
    }
    note.write_text(json.dumps(spent), "utf-8")
    return spent


def spectra_per_s(library: Library, settings: TrainSettings) -> float:
    """Return spectra drawn and trained on in a second of processor time."""
    network = build_network(spec_for(card_for(library, settings, len(library)))).train()
    optimiser = torch.optim.AdamW(network.parameters(), 1e-4)
    batches = iter(Batches(library, np.arange(_STEPS_TIMED * settings.batch), settings, shuffle=True))
    begin = 0.0
    for step, batch in enumerate(batches):
        if step == 2:  # the first ones are slower
            begin = time.process_time()
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
            loss = batch_loss(network, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return (_STEPS_TIMED - 2) * settings.batch / (time.process_time() - begin)


def file_name(name: str) -> str:
    """Return an arm's name as that of a file."""
    return name.replace(" ", "_")


def show(record: dict[str, Any]) -> None:
    """Print the arms by counts."""
    table = Table("network", "counts", *(key.replace("_", " ") for key in _KEYS), title="Monte Carlo panels")
    networks = [name + fusion for name in (*ARMS, "shipped") for fusion in ("", "_with_evidence")]
    for name in (*networks, "line_over_5_sigma"):
        for counts, figures in record[name].items():
            values = (figures.get(key) for key in _KEYS)
            table.add_row(name, counts, *(f"{each:.3f}" if isinstance(each, float) else str(each) for each in values))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
