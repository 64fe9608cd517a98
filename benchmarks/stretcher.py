"""Whether "lead below" changes at the edge of the stretcher behind a canvas: it is no paint.

    python benchmarks/stretcher.py [--model NAME|FILE ...] [--instrument elio] [--json FILE]

Paints over chalk or lead white on canvas, of one live time: on the left air lies behind the canvas, on the right 20 mm
of pine behind 5 mm of air. By model and counts (of the left side), ``difference``: by paint the mean probability that
lead lies below, right less left; ``highest``: the largest of them without its sign; ``left``: the mean on the left.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from underpaint.data.maps import at_place
from underpaint.lab.evaluation.answering import Spectra, run_model
from underpaint.physics.forward import axis_of, count, emit, render
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import Layer, Paint, Stratigraphy, ground_layer, support_layer
from underpaint.pigments.predict import open_model
from underpaint.simulate.instrument_inputs import instrument_inputs

LEAD_BELOW = at_place("lead_pigment", "below")
COUNTS = (1e4, 1e5)
DRAWS = 100
AIR = Layer({"N": 0.755, "O": 0.232, "Ar": 0.013}, 1.2e-3, 5e3, "air")
WOOD_UM = 2e4
CHALK = ground_layer("chalk", 150.0)
PAINTS: dict[str, tuple[Layer, ...]] = {
    "lead white": (Paint({"lead_white": 1.0}).layer(30.0), CHALK),
    "lead white and vermilion": (Paint({"lead_white": 0.7, "vermilion": 0.3}).layer(25.0), CHALK),
    "ochre over lead white": (Paint({"yellow_ochre": 1.0}).layer(30.0), Paint({"lead_white": 1.0}).layer(80.0), CHALK),
    "azurite over lead white": (Paint({"azurite": 1.0}).layer(40.0), Paint({"lead_white": 1.0}).layer(30.0), CHALK),
    "ochre": (Paint({"yellow_ochre": 1.0}).layer(30.0), CHALK),
    "ochre with little lead white": (Paint({"yellow_ochre": 0.9, "lead_white": 0.1}).layer(60.0), CHALK),
}


def edge(instrument_name: str) -> tuple[dict[str, np.ndarray], Any]:
    """Return by paint the (2, n_channel) expected spectra left and right of the edge, and the instrument."""
    instrument = load_instrument(instrument_name)
    behind = ((), (AIR, support_layer("wood", WOOD_UM)))
    samples = [Stratigraphy((*layers, support_layer("canvas"), *back)) for layers in PAINTS.values() for back in behind]
    expected = np.asarray(render(emit(samples, instrument), instrument.detector), dtype=np.float64)
    return dict(zip(PAINTS, expected.reshape(len(PAINTS), 2, -1), strict=True)), instrument


def differences(model: str, instrument_name: str) -> dict[str, Any]:
    """Return the figures of a model by counts."""
    network = open_model(model, threads=1)
    spectra, instrument = edge(instrument_name)
    axis, inputs = axis_of(instrument.detector), instrument_inputs(instrument)
    result: dict[str, Any] = {}
    for counts in COUNTS:
        rng, difference, left = np.random.default_rng(round(counts)), {}, {}
        for paint, pair in spectra.items():
            drawn = count(np.repeat(pair * (counts / pair[0].sum()), DRAWS, axis=0), rng=rng)
            recorded = np.tile(np.asarray([[axis.start_kev, axis.stop_kev]], np.float32), (len(drawn), 1))
            answers = run_model(network, Spectra(drawn, axis, recorded, np.tile(inputs, (len(drawn), 1))))
            below = answers.probability_by_name([LEAD_BELOW])[:, 0].reshape(2, DRAWS).mean(axis=1)
            difference[paint], left[paint] = float(below[1] - below[0]), float(below[0])
        highest = max(abs(value) for value in difference.values())
        result[f"{counts:.0e}".replace("e+0", "e")] = {"difference": difference, "left": left, "highest": highest}
    return result


def main() -> None:
    """Parse, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["default"])
    parser.add_argument("--instrument", default="elio")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures = {model: differences(model, arguments.instrument) for model in arguments.model}
    table = Table("model", "counts", *PAINTS, "highest", title="Lead below, right of the stretcher's edge less left")
    for model, by_counts in figures.items():
        for counts, result in by_counts.items():
            values = [f"{result['left'][paint]:.2f} {value:+.3f}" for paint, value in result["difference"].items()]
            table.add_row(model, counts, *values, f"{result['highest']:.3f}")
    Console(width=150).print(table)
    if arguments.json is not None:
        record = {"instrument": arguments.instrument, "draws": DRAWS, "by_model": figures}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
