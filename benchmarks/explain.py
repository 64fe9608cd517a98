"""How often statements of `explain` on layers are right, on Monte Carlo paints and on our own simulations.

    python benchmarks/explain.py REFERENCE [REFERENCE ...] --json FILE [--counts 1e5] [--simulated 0] [--most 0]

REFERENCE are folders of Monte Carlo panels (``mc_panels.json`` and ``.npz``); those of two layers of paint are taken,
one draw of each at ``--counts``, and explained with their visible groups given. ``--simulated N`` adds N paints of our
own forward model, of one to three layers, under instruments that no network learned. ``--most`` limits the samples of
each kind. Samples with fewer groups come first; FILE is written after each, and one that is there is gone on from.

``n``: samples. ``coverage_thickness``: share of the determined intervals of the top layer that hold its thickness.
``median_interval_factor``: of their ends. ``thickness_determined``: share of all samples; ``thickness_bounded``: only
"at least" or "at most". ``order_given``: share of the samples in which a pair of groups is in order for which at least
one is stated; ``order_right``, ``order_wrong``: samples with all, not all, of the stated ones right. ``pairs_given``,
``pairs_wrong``, ``pairs``: stated pairs, wrong ones, and pairs that are in order. ``not_determined``: samples without
a thickness and without a pair. ``coverage_shares``: share of the ranges of the top layer's shares that hold the truth.
``layers_given``, ``layers_wrong``: stated numbers of layers. ``seconds``: median, of both runs in ``--workers``
processes. ``of``: how many a share is of; ``bootstrap``: its 90 % interval over samples. The same stands under
``by_groups``, and of our own simulations under ``simulated``.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from underpaint.data import Spectrum
from underpaint.lab.evaluation.monte_carlo import FILE_NAMES, read_panels
from underpaint.physics.forward import count, emit, render
from underpaint.physics.forward.response import axis_of
from underpaint.physics.instrument import Instrument, load_instrument
from underpaint.physics.materials import Layer, Paint, Stratigraphy, ground_layer, library
from underpaint.pigments.explain import explain, given_groups
from underpaint.simulate import visibility
from underpaint.simulate.outputs import outputs_for

SEED = 77
FEW_GROUPS = 5
TRACE = 0.05
INSTRUMENTS = ("silver_30kv", "elio")
PIGMENTS = (
    "lead_white", "vermilion", "azurite", "iron_oxide_red", "chrome_oxide_green", "zinc_white", "titanium_white",
    "cobalt_blue", "cadmium_yellow", "umber", "prussian_blue", "malachite", "strontium_yellow", "barium_white",
)  # fmt: skip
BOOTSTRAPS = 2000


@dataclass(frozen=True)
class Case:
    """A spectrum whose layers are known.

    Parameters
    ----------
    top_um : float
    top_layer : dict of str to int
        Uppermost layer of each visible group with more than a trace of it.
    shares : dict of str to float
        Of the dry pigments of the top layer, by visible group.
    n_layer : int
    """

    name: str
    kind: str
    spectrum: Spectrum
    instrument: Instrument
    top_um: float
    top_layer: dict[str, int]
    shares: dict[str, float]
    n_layer: int


def main() -> None:
    """Measure, print tables, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path, nargs="+")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--counts", type=float, default=1e5)
    parser.add_argument("--simulated", type=int, default=0)
    parser.add_argument("--most", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    panels = [case for folder in arguments.reference for case in panel_cases(folder, arguments.counts)]
    cases = [_spread(panels, arguments.most), list(simulated_cases(arguments.simulated, arguments.counts))]
    done = json.loads(arguments.json.read_text("utf-8")) if arguments.json.exists() else {}
    rows: list[dict[str, Any]] = done["rows"] if done.get("counts") == arguments.counts else []
    known = {(row["kind"], row["name"]) for row in rows}
    for case in sorted((case for kind in cases for case in kind), key=lambda case: (case.kind, len(case.top_layer))):
        if (case.kind, case.name) in known:
            continue
        rows.append(judged(case, arguments.workers))
        print(json.dumps(rows[-1]), flush=True)
        write(arguments.json, arguments.counts, rows)
    write(arguments.json, arguments.counts, rows)
    show(figures(rows))


def write(path: Path, counts: float, rows: list[dict[str, Any]]) -> None:
    """Write the figures and the rows that they are of."""
    path.write_text(json.dumps({"counts": counts, **figures(rows), "rows": rows}, indent=1), "utf-8")


def _spread(cases: list[Case], most: int) -> list[Case]:
    """Return ``most`` of the cases, evenly over their number of groups; all where it is zero."""
    ordered = sorted(cases, key=lambda case: len(case.top_layer))
    if not most or most >= len(ordered):
        return ordered
    return [ordered[index] for index in np.linspace(0, len(ordered) - 1, most).astype(int)]


def panel_cases(folder: Path, counts: float) -> Iterator[Case]:
    """Return the panels of two layers of paint on a ground, without pile-up."""
    panels = read_panels(folder)
    materials = json.loads((folder / FILE_NAMES[0]).read_text("utf-8"))["materials"]
    every = [group.name for group in library().groups if group.name != "calcium_white"]
    visible = (panels.labels(every) == 1) & (panels.counts_needed(every) <= counts)
    drawn = panels.draw_spectra(counts, 1, SEED).counts
    facts = {group.name: group.element for group in library().groups}
    for row, (name, layers) in enumerate(zip(panels.names, panels.layers, strict=True)):
        if len(layers) != 3 or name.startswith("pileup"):
            continue
        groups = [group for group, shown in zip(every, visible[row], strict=True) if shown]
        masses = np.asarray(
            [
                [
                    layer["elements"].get(facts[group], 0.0) * layer["density"] * layer["thickness_um"]
                    for group in groups
                ]
                for layer in layers[:-1]
            ]
        )
        pigments = {key: share for key, share in layers[0]["components"].items() if key != "OIL"}
        yield Case(
            name,
            "monte_carlo",
            Spectrum(drawn[row].astype(np.float64), panels.axis, name=name),
            panels.instrument,
            float(layers[0]["thickness_um"]),
            _top_layer(groups, masses),
            {
                group: sum(mass for key, mass in pigments.items() if facts[group] in materials[key]["formula"])
                / sum(pigments.values())
                for group in groups
            },
            2,
        )


def simulated_cases(number: int, counts: float) -> Iterator[Case]:
    """Return random paints of one to three layers of our own forward model."""
    rng = np.random.default_rng(SEED)
    outputs = outputs_for(PIGMENTS)
    kinds = zip(outputs.names, outputs.kinds, strict=True)
    outputs = outputs.select_output_names([name for name, kind in kinds if kind == "group"])
    for index in range(number):
        instrument = load_instrument(INSTRUMENTS[index % len(INSTRUMENTS)])
        layers = [_random_paint(rng) for _ in range(rng.choice([1, 2, 3], p=[0.25, 0.5, 0.25]))]
        chalk = ground_layer("chalk", float(np.exp(rng.uniform(np.log(80), np.log(400)))))
        axis = axis_of(instrument.detector)
        stratigraphy = Stratigraphy((*layers, chalk))
        emission = emit([stratigraphy], instrument)
        expected = np.asarray(render(emission, instrument.detector, axis))
        scaled = expected / expected.sum() * counts
        labels, needed = visibility([stratigraphy], emission, expected, outputs, instrument.detector, axis)
        shown = (labels[0] == 1) & (needed[0] <= counts)
        groups = [
            name for name, visible in zip(outputs.names, shown, strict=True) if visible and name != "calcium_white"
        ]
        element = {group: library().group(group).element for group in groups}
        masses = np.asarray(
            [
                [layer.mass_fractions.get(element[group], 0.0) * layer.areal_density for group in groups]
                for layer in layers
            ]
        )
        solid = sum(layers[0].pigments.values())
        yield Case(
            " over ".join(" + ".join(layer.pigments) for layer in layers),
            "simulated",
            Spectrum(count(scaled[0], rng=rng).astype(np.float64), axis),
            instrument,
            layers[0].thickness_um,
            _top_layer(groups, masses),
            {
                group: sum(mass for name, mass in layers[0].pigments.items() if group in library()[name].groups) / solid
                for group in groups
            },
            len(layers),
        )


def _random_paint(rng: np.random.Generator) -> Layer:
    names = rng.choice(PIGMENTS, rng.integers(1, 4), replace=False)
    shares = rng.dirichlet(np.full(names.size, 2.0))
    ratio = rng.uniform(0.6, 0.85)
    return Paint(dict(zip(names.tolist(), shares.tolist(), strict=True)), ratio / (1 - ratio)).layer(
        float(np.exp(rng.uniform(np.log(8), np.log(150))))
    )


def _top_layer(groups: Sequence[str], masses: np.ndarray) -> dict[str, int]:
    contained = masses > TRACE * masses.sum(axis=0)
    return {group: int(layers.argmax()) for group, layers in zip(groups, contained.T, strict=True)}


def judged(case: Case, workers: int) -> dict[str, Any]:
    """Return the statements on a case, and whether they are right."""
    start = time.perf_counter()
    explanation = explain(case.spectrum, case.instrument, given_groups(list(case.top_layer)), workers=workers)
    took = {"seconds": time.perf_counter() - start}
    top = explanation.layers[0].thickness
    stated = [pair for pair in explanation.orders if pair.determined and explanation.is_stated]
    wrong = [pair for pair in stated if not case.top_layer[pair.above] < case.top_layer[pair.below]]
    places = list(case.top_layer.values())
    shares = {
        name: share
        for name, share in explanation.layers[0].shares.items()
        if explanation.is_stated and share.determined
    }
    bounded = top.open_low or top.open_high
    return {
        "name": case.name,
        "kind": case.kind,
        "groups": len(places),
        "describes": explanation.is_stated,
        "chi_square_ratio": explanation.fit.reduced_chi_square,
        "truth_um": case.top_um,
        "interval_um": [top.low, top.median, top.high],
        "medians_um": [float(np.median(run.thickness_um[:, 0])) for run in explanation.runs],
        "thickness_determined": explanation.is_stated and top.determined and not bounded,
        "thickness_bounded": explanation.is_stated and top.determined and bounded,
        "thickness_reason": top.reason,
        "thickness_right": bool(
            (top.open_low or top.low <= case.top_um) and (top.open_high or case.top_um <= top.high)
        ),
        "pairs": sum(first < second for first in places for second in places),
        "pairs_given": len(stated),
        "pairs_wrong": [f"{pair.above} over {pair.below}" for pair in wrong],
        "shares": {name: [share.low, share.high, case.shares[name]] for name, share in shares.items()},
        "layers": case.n_layer,
        "layers_stated": explanation.layer_number.determined if explanation.is_stated else None,
        "layers_probability": explanation.layer_number.probability,
        "log_evidence": [run.log_evidence for run in explanation.runs],
        **took,
    }


def figures(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of the Monte Carlo samples, of those by their number of groups, and of the simulated ones."""
    panels = [row for row in rows if row["kind"] == "monte_carlo"]
    simulated = [row for row in rows if row["kind"] == "simulated"]
    return (_with_parts(panels) if panels else {}) | ({"simulated": _with_parts(simulated)} if simulated else {})


def _with_parts(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    few = [row for row in rows if row["groups"] <= FEW_GROUPS]
    more = [row for row in rows if row["groups"] > FEW_GROUPS]
    parts = {f"up to {FEW_GROUPS} groups": few, f"more than {FEW_GROUPS} groups": more}
    return {**_figures(rows), "by_groups": {name: _figures(part) for name, part in parts.items() if part}}


def _figures(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    sized = [row for row in rows if row["thickness_determined"]]
    ordered = [row for row in rows if row["pairs"]]
    stated = [row for row in ordered if row["pairs_given"]]
    silent = [
        row for row in rows if not (row["thickness_determined"] or row["thickness_bounded"] or row["pairs_given"])
    ]
    shares = {
        "coverage_thickness": [[row["thickness_right"]] for row in sized],
        "coverage_bounds": [[row["thickness_right"]] for row in rows if row["thickness_bounded"]],
        "thickness_determined": [[row["thickness_determined"]] for row in rows],
        "thickness_bounded": [[row["thickness_bounded"]] for row in rows],
        "order_given": [[bool(row["pairs_given"])] for row in ordered],
        # a layer of one group has a share of one by construction
        "coverage_shares": [
            [low <= truth <= high for low, high, truth in row["shares"].values() if low < high] for row in rows
        ],
    }
    factors = [row["interval_um"][2] / row["interval_um"][0] for row in sized]
    return {
        "n": len(rows),
        **{name: _mean(values) for name, values in shares.items()},
        "of": {name: sum(map(len, values)) for name, values in shares.items()},
        "bootstrap": {name: _bootstrap(values) for name, values in shares.items()},
        "median_interval_factor": float(np.median(factors)) if factors else None,
        "order_right": sum(not row["pairs_wrong"] for row in stated),
        "order_wrong": sum(bool(row["pairs_wrong"]) for row in stated),
        "pairs": sum(row["pairs"] for row in rows),
        "pairs_given": sum(row["pairs_given"] for row in rows),
        "pairs_wrong": sum(len(row["pairs_wrong"]) for row in rows),
        "not_determined": len(silent),
        "withheld": sum(not row["describes"] for row in rows),
        "layers_given": sum(row["layers_stated"] is not None for row in rows),
        "layers_wrong": sum(row["layers_stated"] not in (None, row["layers"]) for row in rows),
        "seconds": float(np.median([row["seconds"] for row in rows])),
    }


def _mean(values: Sequence[Sequence[bool]]) -> float | None:
    every = [value for of_sample in values for value in of_sample]
    return float(np.mean(every)) if every else None


def _bootstrap(values: Sequence[Sequence[bool]]) -> list[float] | None:
    """Return the 90 % interval of a share, by resampling samples."""
    if _mean(values) is None:
        return None
    rng = np.random.default_rng(0)
    means = [_mean([values[row] for row in rng.integers(len(values), size=len(values))]) for _ in range(BOOTSTRAPS)]
    low, high = np.quantile([mean for mean in means if mean is not None], [0.05, 0.95])
    return [float(low), float(high)]


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    for kind, figures_of_kind in (("Monte Carlo", result), ("simulated", result.get("simulated", {}))):
        if "n" not in figures_of_kind:
            continue
        parts = {"all": figures_of_kind, **figures_of_kind["by_groups"]}
        table = Table(title=kind, title_justify="left")
        for head in ("figure", *parts):
            table.add_column(head)
        for name, value in figures_of_kind.items():
            if not isinstance(value, dict):
                table.add_row(name, *(_text(name, part) for part in parts.values()))
        Console().print(table)


def _text(name: str, part: dict[str, Any]) -> str:
    value = part[name]
    text = f"{value:.2f}" if isinstance(value, float) else str(value)
    if part["bootstrap"].get(name) is None:
        return text
    low, high = part["bootstrap"][name]
    return f"{text} ({low:.2f}-{high:.2f}) of {part['of'][name]}"


if __name__ == "__main__":
    main()
