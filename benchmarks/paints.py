"""How well the paints of a painting are found: on virtual paintings, and between two detectors of a real scan.

    python benchmarks/paints.py [SCAN SCAN2] --json FILE [--explained 0] [--large]

Virtual: the panel of Fig. 7 of Xu et al. 2022, and the two virtual case studies (paintings after the paper's, of two
layers and of one), their thicknesses smooth. A structure is a top paint over a lower one over the ground.

``ari``: adjusted Rand index (Hubert & Arabie 1985) of the paints against structures of which those are one that the
bound cannot part: where one, under any thickness of its layers and any scale and level of scatter, imitates the other
up to a deviance of 25 at its area's counts (at most 1e6, above which no simulation is right). ``ari_unmerged``: against
all structures. ``merged``: which ones. ``kappa_parted``: Cohen's kappa of "same paint" over the pairs of pixels of one
structure or of two that the bound can part (over all pairs, this kappa is the adjusted Rand index: Warrens 2008, J.
Classif. 25, 177); structures that are merged only through a third count there. Pixels of no paint are a paint of their
own; ``ari_assigned`` leaves them out. ``groups_right``: share of the paints of which every group is given whose lines
are detectable in its commonest structure at a pixel's counts, and none whose lines are not; ``groups_missed``,
``groups_false``: which are not, and by how many paints. ``--explained N`` samples the layers of the N largest paints of
each painting: ``pairs_given``, ``pairs_wrong``, and ``explanations``. ``seconds``: of finding the paints in the maps.

SCAN and SCAN2 are scans of the same pixels by two detectors: ``ari`` of their paints, all pixels, and those that both
assign. ``--large``: ``seconds_1000x1000``, for maps of so many pixels. Virtual paintings that FILE holds are not
measured anew.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from scipy.sparse.csgraph import connected_components
from sklearn.metrics import adjusted_rand_score

import underpaint as up
from underpaint.data import Scan, Spectrum
from underpaint.data.maps import NO_ANSWER, Results
from underpaint.data.paint_areas import MIXED, PaintArea
from underpaint.lab.reproduction.figure_panels import (
    BARE,
    GROUND_UM,
    LOWER_UM,
    TOP_UM,
    Painting,
    crossed_strips,
    scan_painting,
)
from underpaint.lab.reproduction.figures import (
    CELL_PIXELS,
    GAP_PIXELS,
    LAYERED_PIXELS,
    SINGLE_PIXELS,
    layered_painting,
    single_layered_painting,
)
from underpaint.physics.forward import emit, render
from underpaint.physics.forward.response import axis_of
from underpaint.physics.instrument import Instrument, load_instrument
from underpaint.physics.materials import Paint, Stratigraphy, ground_layer, library
from underpaint.pigments.explain import explain
from underpaint.pigments.limits import MODEL_COUNTS
from underpaint.pigments.limits._paint_models import component_spectra
from underpaint.pigments.limits.comparison import Channels, channels_for
from underpaint.pigments.limits.deviance import fit_paint_model
from underpaint.pigments.paints import find_paints, with_summed_spectra
from underpaint.pipeline.paints import candidate_groups_of
from underpaint.simulate.labels import lines_needed
from underpaint.simulate.mockups import perturbed_instrument
from underpaint.simulate.recipes import figure7_recipe

SEED = 7
COUNTS, FEW_COUNTS = 1e5, 1e3
SMOOTH_PIXELS, SMOOTH_STRIP = 2.0, 4.0
STEP_UM = 1.0
GROUND_RANGE_UM = (100.0, 300.0)
START_KEV = 1.0
FINITE = 0.01
TINY = 1e-300
TRACE = 0.05
LARGE = 1000

Numbers = NDArray[np.float64]
Structure = tuple[str, str]


@dataclass(frozen=True)
class Virtual:
    """A virtual painting, the ranges of its thicknesses, and the mean counts of its scan."""

    name: str
    painting: Painting
    top_um: tuple[float, float]
    lower_um: tuple[float, float]
    counts: float


def virtual_paintings() -> list[Virtual]:
    """Return the panel and the two case studies, with thicknesses that vary smoothly."""
    recipe = figure7_recipe()
    strips = crossed_strips(CELL_PIXELS, GAP_PIXELS, np.random.default_rng(SEED))
    top, lower = (
        gaussian_filter1d(each, SMOOTH_STRIP, axis=axis, mode="nearest")
        for each, axis in ((strips.upper_um, 1), (strips.lower_um, 0))
    )
    panel = Virtual("fig7", _rounded(strips, top, lower), recipe.top_thickness_um, recipe.bottom_thickness_um, COUNTS)
    studies = [
        Virtual(name, _smooth(painting), TOP_UM, LOWER_UM, counts)
        for name, painting, counts in (
            ("layered", layered_painting(*LAYERED_PIXELS), COUNTS),
            ("single", single_layered_painting(*SINGLE_PIXELS), FEW_COUNTS),
        )
    ]
    return [panel, *studies]


def _smooth(painting: Painting) -> Painting:
    top, lower = (gaussian_filter(each, SMOOTH_PIXELS) for each in (painting.upper_um, painting.lower_um))
    return _rounded(painting, top, lower)


def _rounded(painting: Painting, top_um: Numbers, lower_um: Numbers) -> Painting:
    """Return a painting with thicknesses to the micrometre, so that equal stratigraphies are simulated once."""
    top, lower = (STEP_UM * np.round(each / STEP_UM) for each in (top_um, lower_um))
    return replace(
        painting,
        upper_um=np.where(painting.upper_paint == BARE, 0.0, top),
        lower_um=np.where(painting.lower_paint == BARE, 0.0, lower),
    )


@dataclass(frozen=True)
class StackPaintModel:
    """A structure whose thicknesses are free, as :func:`fit_paint_model` takes it.

    Parameters
    ----------
    make : callable
        Stratigraphy of the logarithms of the thicknesses, um.
    limits_um : (n_layer, 2) array
    """

    make: Callable[[Numbers], Stratigraphy]
    limits_um: Numbers
    instrument: Instrument
    channels: Channels

    @property
    def bounds(self) -> Numbers:
        """(n_layer, 2) logarithms."""
        return np.asarray(np.log(self.limits_um))

    def initial_parameters(self, share: Numbers) -> list[Numbers]:
        """Return the middle of the ranges."""
        del share
        return [np.asarray(self.bounds.mean(axis=1))]

    def log_spectra(self, place: Numbers) -> tuple[Numbers, Numbers]:
        """Return logarithms (4, n_bin) of the parts, and (n_layer, 4, n_bin) derivatives."""
        moves = FINITE * np.eye(len(place))
        stacks = [self.make(each) for each in (place, *(place + moves), *(place - moves))]
        logs = np.log(np.maximum(component_spectra(stacks, self.instrument, self.channels), TINY))
        count = len(place)
        return logs[0], (logs[1 : count + 1] - logs[count + 1 :]) / (2.0 * FINITE)


def maker(virtual: Virtual, structure: Structure) -> tuple[Callable[[Numbers], Stratigraphy], Numbers]:
    """Return what makes a structure from the logarithms of its thicknesses, and their ranges."""
    painting = virtual.painting
    rows = (
        (painting.upper_paints, structure[0], virtual.top_um),
        (painting.lower_paints, structure[1], virtual.lower_um),
    )
    paints = [
        (Paint(dict(shares[name]), formulas=painting.formulas), limits) for shares, name, limits in rows if name != BARE
    ]

    def make(place: Numbers) -> Stratigraphy:
        um = np.exp(place)
        layers = [paint.layer(float(each)) for (paint, _), each in zip(paints, um, strict=False)]
        return Stratigraphy((*layers, ground_layer("chalk", float(um[-1]))))

    return make, np.asarray([*(limits for _, limits in paints), GROUND_RANGE_UM])


def structures_of(virtual: Virtual) -> dict[Structure, NDArray[np.bool_]]:
    """Return the pixels of each structure."""
    painting = virtual.painting
    pairs = sorted(
        {
            (str(top), str(lower))
            for top, lower in zip(painting.upper_paint.flat, painting.lower_paint.flat, strict=True)
        }
    )
    return {pair: (painting.upper_paint == pair[0]) & (painting.lower_paint == pair[1]) for pair in pairs}


def merged_pairs(
    virtual: Virtual, areas: dict[Structure, NDArray[np.bool_]], scan: Scan, instrument: Instrument
) -> list[tuple[Structure, Structure]]:
    """Return the pairs of structures that the bound cannot part; tops of other paints are told by their own lines."""
    channels = channels_for(instrument, START_KEV)
    counts = np.asarray(scan.counts.sum(axis=2))
    paint_models = {pair: StackPaintModel(*maker(virtual, pair), instrument, channels) for pair in areas}
    parts, total = {}, {}
    for pair, mask in areas.items():
        um = [
            float(each[mask].mean())
            for each, name in zip((virtual.painting.upper_um, virtual.painting.lower_um), pair, strict=True)
            if name != BARE
        ]
        parts[pair] = component_spectra([paint_models[pair].make(np.log([*um, GROUND_UM]))], instrument, channels)[0]
        total[pair] = min(float(counts[mask].sum()), MODEL_COUNTS)
    merged = []
    for first, second in combinations(areas, 2):
        if first[0] == second[0]:
            directions = ((first, second), (second, first))
            needed = (
                fit_paint_model(parts[a], paint_models[b], channels.middle_kev).counts_needed for a, b in directions
            )
            # if either can pass for the other, the answer stays open
            if any(each > total[a] for each, (a, _) in zip(needed, directions, strict=True)):
                merged.append((first, second))
    return merged


def numbered(areas: dict[Structure, NDArray[np.bool_]], merged: Sequence[tuple[Structure, Structure]]) -> Any:
    """Return (n_row, n_column) numbers of structures, those that are merged, directly or by others, with one number."""
    index = {pair: number for number, pair in enumerate(areas)}
    links = np.zeros((len(index), len(index)))
    for first, second in merged:
        links[index[first], index[second]] = 1.0
    component = connected_components(links, directed=False)[1]
    return np.select(list(areas.values()), [component[number] for number in index.values()])


def agreement(truth: NDArray[Any], label: NDArray[np.uint8]) -> tuple[float, float]:
    """Return the adjusted Rand index over all pixels, and over those of a paint."""
    assigned = (label != MIXED) & (label != NO_ANSWER)
    pairs = ((truth.ravel(), label.ravel()), (truth[assigned], label[assigned]))
    return tuple(float(adjusted_rand_score(*pair)) for pair in pairs)  # type: ignore[return-value]


def kappa_parted(
    areas: dict[Structure, NDArray[np.bool_]], merged: Sequence[tuple[Structure, Structure]], label: NDArray[np.uint8]
) -> float:
    """Return Cohen's kappa of "same paint" over the pairs of pixels, without pairs of structures that are merged."""
    counts = np.stack([np.bincount(label[mask], minlength=256) for mask in areas.values()]).astype(np.float64)
    n_pixel = counts.sum(axis=1)
    n_pairs, n_same_paint = np.outer(n_pixel, n_pixel), counts @ counts.T
    np.fill_diagonal(n_pairs, n_pixel * (n_pixel - 1))
    np.fill_diagonal(n_same_paint, (counts * (counts - 1)).sum(axis=1))
    is_decided, names = np.ones(n_pairs.shape, dtype=np.bool_), list(areas)
    for pair in merged:
        first, second = (names.index(name) for name in pair)
        is_decided[first, second] = is_decided[second, first] = False
    n_structure, n_paint = np.trace(n_pairs), n_same_paint[is_decided].sum()
    by_chance = n_structure * n_paint / n_pairs[is_decided].sum()
    return float((np.trace(n_same_paint) - by_chance) / ((n_structure + n_paint) / 2 - by_chance))


def group_faults(
    areas: Sequence[PaintArea], structure_of: dict[int, Structure], virtual: Virtual, instrument: Instrument
) -> list[tuple[list[str], list[str]]]:
    """Return of each paint the groups that are missed, and those that are false."""
    names = [group.name for group in library().groups if group.visible]
    axis, faults = axis_of(instrument.detector), []
    for area in areas:
        make, limits = maker(virtual, structure_of[area.number])
        stacks = [make(np.log(limits).mean(axis=1))]
        emission = emit(stacks, instrument)
        expected = np.asarray(render(emission, instrument.detector, axis), dtype=np.float64)
        needed, hidden = (
            each[0] for each in lines_needed(stacks, emission, expected, names, instrument.detector, axis)
        )
        counts = virtual.counts
        missed = [
            name for name, least in zip(names, needed, strict=True) if least <= counts and name not in area.groups
        ]
        false = [name for name, most in zip(names, hidden, strict=True) if counts <= most and name in area.groups]
        faults.append((missed, false))
    return faults


def judged_layers(
    areas: Sequence[PaintArea], structure_of: dict[int, Structure], virtual: Virtual, results: Results, scan: Scan
) -> list[dict[str, Any]]:
    """Sample the layers of paints, and hold what is stated against the structure that is commonest there."""
    rows = []
    for area in areas:
        if area.spectrum is None:
            continue
        make, limits = maker(virtual, structure_of[area.number])
        layers = make(np.log(limits).mean(axis=1)).layers[:-1]
        started = time.perf_counter()
        spectrum = Spectrum(area.spectrum, scan.require_axis(), name=f"paint {area.number}")
        explanation = explain(spectrum, load_instrument("elio"), candidate_groups_of(area, results, "chalk"))
        top: dict[str, int] = {}
        for name in explanation.candidates.groups:
            element = library().group(name).element
            masses = [layer.mass_fractions.get(element, 0.0) * layer.areal_density for layer in layers]
            holding = [number for number, mass in enumerate(masses) if mass > TRACE * sum(masses)]
            top[name] = holding[0] if holding else len(layers)
        stated = [pair for pair in explanation.orders if pair.determined and explanation.is_stated]
        wrong = [f"{pair.above} over {pair.below}" for pair in stated if not top[pair.above] < top[pair.below]]
        rows.append(
            {
                "paint": area.number,
                "structure": list(structure_of[area.number]),
                "counts": float(area.spectrum.sum()),
                "describes": explanation.is_stated,
                "pairs_given": len(stated),
                "pairs_wrong": wrong,
                "seconds": time.perf_counter() - started,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def measure(virtual: Virtual, instrument: Instrument, explained: int) -> dict[str, Any]:
    """Scan a virtual painting, find its paints, and hold them against its structures."""
    rng = np.random.default_rng((SEED, len(virtual.name)))
    scan = scan_painting(virtual.painting, instrument, virtual.counts, rng, virtual.name, 10.0)
    results = up.plan(scan, up.Settings(paints=False)).run()
    started = time.process_time()
    paints = find_paints(results)
    seconds = time.process_time() - started
    label, areas = paints.map("paint"), structures_of(virtual)
    merged = merged_pairs(virtual, areas, scan, instrument)
    truth, unmerged = numbered(areas, merged), numbered(areas, [])
    names = list(areas)
    structure_of = {
        area.number: names[int(np.bincount(unmerged[label == area.number]).argmax())] for area in paints.paints
    }
    faults = group_faults(paints.paints, structure_of, virtual, instrument)
    ari, ari_assigned = agreement(truth, label)
    layers = judged_layers(
        with_summed_spectra(scan, label, paints.paints[:explained]), structure_of, virtual, results | paints, scan
    )
    return {
        "pixels": list(label.shape),
        "mean_counts": virtual.counts,
        "structures": len(areas),
        "structures_merged": len(np.unique(truth)),
        "paints": len(paints.paints),
        "ari": ari,
        "ari_assigned": ari_assigned,
        "ari_unmerged": agreement(unmerged, label)[0],
        "kappa_parted": kappa_parted(areas, merged, label),
        "assigned_share": float((label != MIXED).mean()),
        "groups_right": float(np.mean([not missed and not false for missed, false in faults])),
        "groups_missed": dict(Counter(name for missed, _ in faults for name in missed)),
        "groups_false": dict(Counter(name for _, false in faults for name in false)),
        "seconds": seconds,
        "merged": [[" over ".join(first), " over ".join(second)] for first, second in merged],
        "pairs_given": sum(row["pairs_given"] for row in layers),
        "pairs_wrong": sum(len(row["pairs_wrong"]) for row in layers),
        "explanations": layers,
    }


def two_detectors(first: str, second: str) -> dict[str, Any]:
    """Find the paints of two detectors' scans of the same pixels, and compare them."""
    labels, facts = [], []
    for source in (first, second):
        results = up.plan(up.load(source), up.Settings(paints=False)).run()
        started = time.process_time()
        paints = find_paints(results)
        labels.append(paints.map("paint"))
        facts.append(
            {
                "paints": len(paints.paints),
                "seconds": time.process_time() - started,
                "largest_shares": [area.share for area in paints.paints[:5]],
            }
        )
    both = np.logical_and(*(label != MIXED for label in labels))
    return {
        "ari": float(adjusted_rand_score(*(label.ravel() for label in labels))),
        "ari_assigned": float(adjusted_rand_score(*(label[both] for label in labels))),
        "detectors": facts,
    }


def large_seconds(instrument: Instrument) -> float:
    """Return the processor seconds for maps of 1000 x 1000 pixels, those of a case study over and over."""
    virtual = virtual_paintings()[1]
    scan = scan_painting(virtual.painting, instrument, virtual.counts, np.random.default_rng(SEED), "tiles", 10.0)
    results = up.plan(scan, up.Settings(model="none")).run()
    n_row, n_column = results.shape
    tiled = [
        np.tile(np.asarray(results.stacks[name].values), (-(-LARGE // n_row), -(-LARGE // n_column), 1))[:LARGE, :LARGE]
        for name in ("area", "area_sigma")
    ]
    started = time.process_time()
    find_paints(Results.of_lines(results.lines, *tiled))
    return time.process_time() - started


def main() -> None:
    """Measure, print a table, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scans", nargs="*")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--explained", type=int, default=0)
    parser.add_argument("--large", action="store_true")
    arguments = parser.parse_args()
    if len(arguments.scans) not in {0, 2}:
        parser.error("give two scans of the same pixels, or none")
    instrument = perturbed_instrument(np.random.default_rng(SEED))
    result = json.loads(arguments.json.read_text("utf-8")) if arguments.json.exists() else {}
    measured = result.setdefault("virtual", {})
    for virtual in reversed(virtual_paintings()):
        if virtual.name not in measured:
            measured[virtual.name] = measure(virtual, instrument, arguments.explained)
            arguments.json.write_text(json.dumps(result, indent=1), "utf-8")
    if arguments.scans:
        result["two_detectors"] = two_detectors(*arguments.scans)
    if arguments.large:
        result["seconds_1000x1000"] = large_seconds(instrument)
    arguments.json.write_text(json.dumps(result, indent=1), "utf-8")
    show(result)


def show(result: dict[str, Any]) -> None:
    """Print the figures of the virtual paintings, and of the detectors."""
    table = Table("figure", *result["virtual"])
    for name in list(result["virtual"].values())[-1]:
        cells = [each.get(name) for each in result["virtual"].values()]
        if not isinstance(cells[0], list):
            table.add_row(name, *(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells))
    Console().print(table)
    Console().print({name: value for name, value in result.items() if name != "virtual"})


if __name__ == "__main__":
    main()
