"""How often explain's intervals hold the truth, how often it finds the order of layers, and how long a region takes.

    python benchmarks/explain.py --json FILE [--samples 200] [--regions 20] [--counts 3e4 3e5]

Intervals: random paints in one or two layers over a chalk ground, counted with Poisson noise, fitted from the candidate
that is true but for its thicknesses and shares (these start where proposals do). Counts differ from sample to sample,
log-uniform between the two given. "Both ends": intervals that the spectrum closes on either side; at 90 % they should
hold the truth in 90 % of the cases. "One end": at least so much, or at most; one side of 95 %.

Regions: the same kind of spectra through the whole of `underpaint explain`: the network proposes, all is fitted. The
order counts as right when every group lies in the layer where it is; "claimed" are answers that say it is determined.
Seconds are those of one process, proposals to evidence, without reading the scan; "cpu" is what to believe on a busy
machine.
"""

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from underpaint.data import Spectrum
from underpaint.errors import SampleError
from underpaint.physics.forward import count, emit, render
from underpaint.physics.forward.response import axis_of
from underpaint.physics.instrument import Instrument, load_instrument
from underpaint.physics.materials import Paint, library
from underpaint.pigments.explain import (
    Candidate,
    Explanation,
    Interval,
    explain,
    fit_candidates,
    ground_film,
    intervals,
    measured,
    paint_film,
    propose_from_network,
)
from underpaint.pigments.explain.proposals import BELOW_UM, GROUND_UM, TOP_UM

PIGMENTS = (
    "lead_white", "vermilion", "azurite", "iron_oxide_red", "chrome_oxide_green", "zinc_white", "titanium_white",
    "cobalt_blue", "lead_tin_yellow", "cadmium_yellow", "umber", "emerald_green",
)  # fmt: skip
PAINT_UM, CHALK_UM = (4.0, 60.0), (60.0, 300.0)
LEAST_SHARE = 0.1
MODEL_ERROR = 0.01


def main() -> None:
    """Measure, print tables, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=200, help="spectra whose intervals are held against the truth")
    parser.add_argument("--regions", type=int, default=20, help="spectra through all of explain")
    parser.add_argument("--counts", type=float, nargs=2, default=(3e4, 3e5), metavar=("LEAST", "MOST"))
    parser.add_argument("--instrument", default="elio")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    instrument = load_instrument(arguments.instrument)
    rng = np.random.default_rng(arguments.seed)
    result: dict[str, Any] = {
        "seed": arguments.seed,
        "instrument": instrument.name,
        "counts": list(arguments.counts),
        "coverage": coverage(arguments.samples, arguments.counts, instrument, rng),
        "regions": regions(arguments.regions, arguments.counts, instrument, rng),
    }
    arguments.json.write_text(json.dumps(result, indent=1), "utf-8")
    show(result)


def coverage(
    samples: int, counts: tuple[float, float], instrument: Instrument, rng: np.random.Generator
) -> dict[str, Any]:
    """Return how many intervals hold the truth, by what they are of."""
    held: dict[str, list[bool]] = defaultdict(list)
    unknown, seconds = 0, 0.0
    for _ in range(samples):
        truth = draw(rng)
        own = measured(counted(truth, log_uniform(rng, *counts), instrument, rng), instrument, model_error=0.0)
        began = time.process_time()
        (fit,) = fit_candidates(own, [begun(truth)], instrument)
        _, found = intervals(fit, own, instrument)
        seconds += time.process_time() - began
        for entry in found:
            unknown += not entry.determined
            if entry.determined:
                held[_kind(entry, truth)].append(entry.holds(_true_value(entry, truth)))
    return {
        "samples": samples,
        "cpu_s": seconds / max(samples, 1),
        "not_determined": unknown,
        "held": {
            name: {"n": len(own), "share": float(np.mean(own)), "error": float(np.sqrt(0.09 / len(own)))}
            for name, own in sorted(held.items())
        },
    }


def regions(
    samples: int, counts: tuple[float, float], instrument: Instrument, rng: np.random.Generator
) -> dict[str, Any]:
    """Return how often the whole of explain finds pigments and order, and how long it takes."""
    rows: list[dict[str, Any]] = []
    for _ in range(samples):
        truth = draw(rng, layers=2)
        spectrum = counted(truth, log_uniform(rng, *counts), instrument, rng)
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            found, candidates = propose_from_network(spectrum, "chalk")
        except SampleError:
            rows.append({"truth": truth.name, "best": None})
            continue
        own = measured(spectrum, instrument, model_error=MODEL_ERROR)
        answer = explain(spectrum, own, candidates, instrument, found=found)
        took = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        rows.append({"truth": truth.name, "counts": float(spectrum.counts.sum())} | judged(truth, answer) | took)
    answered = [row for row in rows if row["best"] is not None]
    known = [row for row in answered if row["groups_right"]]
    claimed = [row for row in known if row["claimed"]]
    return {
        "samples": samples,
        "groups_right": len(known),
        "order_right": sum(row["order_right"] for row in known),
        "order_claimed": len(claimed),
        "order_right_of_claimed": sum(row["order_right"] for row in claimed),
        "cpu_s": _spread([row["cpu_s"] for row in answered]),
        "wall_s": _spread([row["wall_s"] for row in answered]),
        "rows": rows,
    }


def draw(rng: np.random.Generator, layers: int | None = None) -> Candidate:
    """Return one or two layers of one or two pigments each, no group twice, over chalk."""
    number = int(rng.integers(1, 3)) if layers is None else layers
    names = list(rng.permutation(PIGMENTS))
    used: set[str] = set()
    films = []
    for _ in range(number):
        chosen: list[str] = []
        for _ in range(int(rng.integers(1, 3))):
            name = next(own for own in names if not used & set(library()[own].groups))
            used |= set(library()[name].groups)
            chosen.append(str(name))
        shares = rng.dirichlet(np.ones(len(chosen))) * (1.0 - LEAST_SHARE * len(chosen)) + LEAST_SHARE
        films.append(paint_film(Paint(dict(zip(chosen, shares.tolist(), strict=True))), log_uniform(rng, *PAINT_UM)))
    name = " over ".join(" + ".join(film.painted) for film in films)
    return Candidate(name, (*films, ground_film("chalk", log_uniform(rng, *CHALK_UM))))


def begun(truth: Candidate) -> Candidate:
    """Return the true candidate with the thicknesses and shares that proposals begin with."""
    painted = [film.painted for film in truth.films if film.painted]
    first = TOP_UM if len(painted) > 1 else BELOW_UM
    films = [
        paint_film(Paint(dict.fromkeys(names, 1.0)), BELOW_UM if index else first)
        for index, names in enumerate(painted)
    ]
    return Candidate(truth.name, (*films, ground_film("chalk", GROUND_UM)))


def counted(truth: Candidate, counts: float, instrument: Instrument, rng: np.random.Generator) -> Spectrum:
    """Return a spectrum with Poisson noise."""
    axis = axis_of(instrument.detector)
    expected = np.asarray(render(emit([truth.at(truth.start)], instrument), instrument.detector, axis))[0]
    return Spectrum(count(expected / expected.sum() * counts, rng=rng).astype(np.float64), axis, name=truth.name)


def judged(truth: Candidate, answer: Explanation) -> dict[str, Any]:
    """Return whether an explanation has the true groups, each in its layer."""
    best = answer.best.candidate
    return {
        "best": best.name,
        "groups_right": _groups(truth.pigments) == _groups(best.pigments),
        "order_right": [_groups(film.painted) for film in truth.films]
        == [_groups(film.painted) for film in best.films],
        "claimed": answer.order.determined,
        "fits": answer.goodness.fits,
    }


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    held = Table(title=f"intervals at 90 %, {result['coverage']['samples']} spectra", title_justify="left")
    for head in ("of", "number", "hold the truth", "sampling error"):
        held.add_column(head)
    for name, own in result["coverage"]["held"].items():
        held.add_row(name, str(own["n"]), f"{100 * own['share']:.1f} %", f"{100 * own['error']:.1f} %")
    whole = Table(title="all of explain, two layers", title_justify="left")
    for head in ("figure", "value"):
        whole.add_column(head)
    for name, value in result["regions"].items():
        if name != "rows":
            whole.add_row(name, str(value))
    console = Console()
    console.print(held, f"not determined: {result['coverage']['not_determined']}", whole)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw one number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _kind(own: Interval, truth: Candidate) -> str:
    of = "share" if own.pigment else "thickness" if truth.films[own.layer].painted else "ground"
    ends = "both ends" if own.low is not None and own.high is not None else "one end"
    return f"{of}, {ends}"


def _true_value(own: Interval, truth: Candidate) -> float:
    if not own.pigment:
        return float(truth.films[own.layer].layer.thickness_um)
    return truth.shares(truth.start)[own.layer][own.pigment]


def _groups(pigments: "frozenset[str] | tuple[str, ...]") -> frozenset[str]:
    return frozenset(group for name in pigments for group in library()[name].groups)


def _spread(values: list[float]) -> dict[str, float]:

    return {"median": float(np.median(values)), "most": max(values)} if values else {}


if __name__ == "__main__":
    main()
