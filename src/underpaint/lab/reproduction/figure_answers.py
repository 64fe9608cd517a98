"""Maps of a virtual painting by networks and the element fit, and their scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.data.maps import Results
from underpaint.display.plot.comparison import min_scaled_area
from underpaint.elements import fit_elements
from underpaint.lab.evaluation import score
from underpaint.lab.evaluation.scores import spearman
from underpaint.lab.reproduction.contestants import paper_answers
from underpaint.lab.reproduction.figure_panels import ABOVE, ABSENT, BELOW, Painting
from underpaint.lab.reproduction.mockups import INSTRUMENT
from underpaint.lab.reproduction.plan import Plan
from underpaint.lab.reproduction.simulation import MIXED_FROM, paper_outputs
from underpaint.lab.training import load_checkpoint
from underpaint.physics.instrument import load_instrument
from underpaint.pigments.predict import identify

FAMILIES = ("Ca_K", "Cr_K", "Fe_K", "Co_K", "Cu_K", "Zn_K", "As_K", "Hg_L", "Pb_L", "Sn_K")
"""One line family of each element of the figures' paints and ground, except light ones."""
BEFORE, AFTER, DEFAULT = "before fine-tuning", "after fine-tuning", "default network"
THRESHOLD = 0.5

Map = NDArray[np.float32]
Place = NDArray[np.int64]
_MARKS = {"above": ABOVE, "below": BELOW, "absent": ABSENT}


@dataclass(frozen=True)
class Networks:
    """Checkpoints of the paper's network, before and after its fine-tuning on the virtual mock-ups."""

    before: Path
    after: Path


@dataclass(frozen=True)
class Case:
    """A painting with its scan and its probability maps by network and name."""

    painting: Painting
    scan: Scan
    elements: Results
    maps: Mapping[str, Mapping[str, Map]]


def ask(
    plan: Plan,
    networks: Networks,
    painting: Painting,
    scan: Scan,
    *,
    members: Sequence[str] = (),
) -> Case:
    """Ask the paper's network before and after fine-tuning, the default network and the element fit.

    Parameters
    ----------
    plan, networks : Plan, Networks
        Settings and checkpoints.
    painting, scan : Painting, Scan
        The painting and its scan.
    members : sequence of str
        Pigments for which the default network is evaluated by name, not by elementary group.
    """
    maps = {
        BEFORE: paper_maps(plan, networks.before, scan),
        AFTER: paper_maps(plan, networks.after, scan),
        DEFAULT: default_maps(scan, members=members),
    }
    # the fit uses the preset: deviations of the instrument from it are unknown
    elements = fit_elements(scan, families=FAMILIES, instrument=load_instrument(INSTRUMENT))
    return Case(painting, scan, elements, maps)


def paper_maps(plan: Plan, checkpoint: Path, scan: Scan) -> dict[str, Map]:
    """Return the paper's network's probability map of each of its eleven pigments; the scan is on its channels."""
    counts = np.asarray(scan.counts, dtype=np.float32).reshape(scan.n_pixel, -1)
    probabilities = paper_answers(plan, load_checkpoint(checkpoint), counts).reshape(*scan.shape[:2], -1)
    return {name: probabilities[:, :, column] for column, name in enumerate(paper_outputs().names)}


def default_maps(scan: Scan, *, members: Sequence[str] = ()) -> dict[str, Map]:
    """Return the default network's maps: of its groups, and of the paper's pigments the least of a pigment's groups.

    ``members`` are evaluated by name in place of their groups.
    """
    maps, outputs = identify(scan), paper_outputs()
    labels_of = {
        name: (name,) if name in members else groups for name, groups in zip(outputs.names, outputs.groups, strict=True)
    }
    pigments = {name: np.min([maps[each] for each in labels], axis=0) for name, labels in labels_of.items()}
    return {**{group: maps[group] for group in maps.groups}, **pigments}


def map_scores(probability: Map, place: Place, area: NDArray[np.float64]) -> dict[str, float | None]:
    """Return the scores of one map.

    Parameters
    ----------
    probability : (n_row, n_column) array
        Probabilities; NaN counts as absent.
    place : (n_row, n_column) int array
        Place of the pigment; either layer counts as present, detectable or not.
    area : (n_row, n_column) array
        Net counts of its line, or the lesser of two in units of their 99th percentiles.

    Returns
    -------
    dict
        ``f1``, ``always_yes_f1``, ``auroc``, ``sensitivity_above``, ``sensitivity_below``, ``false_share`` (of the
        pixels without the pigment) and ``spearman`` of probability against area; None where undefined.
    """
    truth = (place != ABSENT).ravel()
    scores = score(probability.ravel(), truth, np.ones(truth.size, dtype=bool), THRESHOLD)
    figures = {
        "f1": scores.f1,
        "always_yes_f1": scores.always_yes_f1,
        "auroc": scores.auroc,
        "sensitivity_above": share_over(probability, place == ABOVE),
        "sensitivity_below": share_over(probability, place == BELOW),
        "false_share": share_over(probability, place == ABSENT),
        "spearman": spearman(probability, area),
    }
    return {name: number(value) for name, value in figures.items()}


def figures_of(case: Case, pigment: str) -> dict[str, Any]:
    """Return the scores of a pigment's maps, by network, and the number of its pixels."""
    families, place = families_of(pigment), place_of(case, pigment)
    area = min_scaled_area([case.elements[family] for family in families])
    return {
        "families": list(families),
        **{f"n_{name}": int((place == mark).sum()) for name, mark in _MARKS.items()},
        "networks": {name: map_scores(maps[pigment], place, area) for name, maps in case.maps.items()},
    }


def place_of(case: Case, pigment: str) -> Place:
    """Return where a pigment, or its substitute in the mock-ups, was painted."""
    return case.painting.places(
        (pigment, *(mixture for mixture, stands_for in MIXED_FROM.items() if stands_for == pigment))
    )


def families_of(pigment: str) -> tuple[str, ...]:
    """Return the line family that shows each of a pigment's elements, at most two."""
    outputs = paper_outputs()
    families = outputs.elements[outputs.names.index(pigment)]
    return tuple(family for family in families if family in FAMILIES)[:2]


def share_over(probability: Map, mask: NDArray[np.bool_]) -> float:
    """Return the share of some pixels whose probability exceeds one half; NaN without pixels."""
    return float((probability[mask] > THRESHOLD).mean()) if mask.any() else float("nan")


def number(value: float) -> float | None:
    """Return a value for JSON: None if undefined."""
    return float(value) if np.isfinite(value) else None


def picture(plan: Plan, name: str) -> Path:
    """Return the path of a figure in the plan's folder, which is made if missing."""
    plan.out.mkdir(parents=True, exist_ok=True)
    return plan.out / f"{name}.png"
