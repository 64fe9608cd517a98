"""Maps of a virtual painting from networks and from the element fit, and scores of these maps."""

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
from underpaint.lab.reproduction.simulation import REPLACED_PIGMENTS, paper_outputs
from underpaint.lab.training import load_checkpoint
from underpaint.physics.instrument import load_instrument
from underpaint.pigments.predict import identify

FAMILIES = ("Ca_K", "Cr_K", "Fe_K", "Co_K", "Cu_K", "Zn_K", "As_K", "Hg_L", "Pb_L", "Sn_K")
"""One line family for each element (except light elements) in the paints and grounds of the figures."""
BEFORE_FINETUNING, AFTER_FINETUNING, DEFAULT_NETWORK = "before fine-tuning", "after fine-tuning", "default network"
PRESENT_PROBABILITY = 0.5

ProbabilityMap = NDArray[np.float32]
PlaceCodes = NDArray[np.int64]
_PLACE_CODES = {"above": ABOVE, "below": BELOW, "absent": ABSENT}


@dataclass(frozen=True)
class Networks:
    """Checkpoints of the paper's network before and after fine-tuning on the virtual mock-ups."""

    before_finetuning: Path
    after_finetuning: Path


@dataclass(frozen=True)
class PaintingMaps:
    """A virtual painting, its scan, its element maps, and its probability maps by network and output."""

    painting: Painting
    scan: Scan
    elements: Results
    maps: Mapping[str, Mapping[str, ProbabilityMap]]


def map_painting(
    plan: Plan,
    networks: Networks,
    painting: Painting,
    scan: Scan,
    *,
    members: Sequence[str] = (),
) -> PaintingMaps:
    """Map a painting with the paper's network before and after fine-tuning, the default network and the element fit.

    Parameters
    ----------
    plan, networks : Plan, Networks
        Settings and checkpoints.
    painting, scan : Painting, Scan
        The painting and its scan.
    members : sequence of str
        Pigments for which the default network is evaluated by name, not by elementary group.
    """
    map_sets = {
        BEFORE_FINETUNING: paper_maps(plan, networks.before_finetuning, scan),
        AFTER_FINETUNING: paper_maps(plan, networks.after_finetuning, scan),
        DEFAULT_NETWORK: default_maps(scan, members=members),
    }
    # the fit uses the preset instrument, because the true simulated instrument would be unknown in practice
    element_maps = fit_elements(scan, families=FAMILIES, instrument=load_instrument(INSTRUMENT))
    return PaintingMaps(painting, scan, element_maps, map_sets)


def paper_maps(plan: Plan, checkpoint: Path, scan: Scan) -> dict[str, ProbabilityMap]:
    """Return the probability map of each of the paper's eleven pigments, for a scan in the paper's channels."""
    counts = np.asarray(scan.counts, dtype=np.float32).reshape(scan.n_pixel, -1)
    probabilities = paper_answers(plan, load_checkpoint(checkpoint), counts).reshape(*scan.shape[:2], -1)
    return {name: probabilities[:, :, pigment_column] for pigment_column, name in enumerate(paper_outputs().names)}


def default_maps(scan: Scan, *, members: Sequence[str] = ()) -> dict[str, ProbabilityMap]:
    """Return the default network's maps of its groups and of the paper's pigments.

    The map of a pigment is the minimum over the maps of its groups. For a pigment in ``members``, the map is that of
    the network's output for this pigment.
    """
    maps, outputs = identify(scan), paper_outputs()
    outputs_of_pigment = {
        name: (name,) if name in members else groups for name, groups in zip(outputs.names, outputs.groups, strict=True)
    }
    pigment_maps = {
        name: np.min([maps[output] for output in output_names], axis=0)
        for name, output_names in outputs_of_pigment.items()
    }
    return {**{group: maps[group] for group in maps.groups}, **pigment_maps}


def map_scores(
    probability: ProbabilityMap, place_codes: PlaceCodes, line_area: NDArray[np.float64]
) -> dict[str, float | None]:
    """Return the scores of one map.

    Parameters
    ----------
    probability : (n_row, n_column) array
        Probabilities. NaN counts as absent.
    place_codes : (n_row, n_column) int array
        Code of the pigment's place in each pixel. A pigment in either layer is present, whether it is detectable or
        not.
    line_area : (n_row, n_column) array
        Net counts of the pigment's line. For two lines, the smaller of the two areas after division by their 99th
        percentiles.

    Returns
    -------
    dict
        ``f1``, ``always_yes_f1``, ``auroc``, ``sensitivity_above``, ``sensitivity_below``, ``false_share`` and
        ``spearman``.
        ``false_share`` is the false-positive rate. ``spearman`` is the correlation between probability and line area.
        Undefined scores are None.
    """
    is_present = (place_codes != ABSENT).ravel()
    scores = score(probability.ravel(), is_present, np.ones(is_present.size, dtype=bool), PRESENT_PROBABILITY)
    scores_by_name = {
        "f1": scores.f1,
        "always_yes_f1": scores.always_yes_f1,
        "auroc": scores.auroc,
        "sensitivity_above": fraction_above(probability, place_codes == ABOVE),
        "sensitivity_below": fraction_above(probability, place_codes == BELOW),
        "false_share": fraction_above(probability, place_codes == ABSENT),
        "spearman": spearman(probability, line_area),
    }
    return {name: json_number(score_value) for name, score_value in scores_by_name.items()}


def pigment_scores(painting_maps: PaintingMaps, pigment: str) -> dict[str, Any]:
    """Return the scores of a pigment's map from each network, and the numbers of pixels at each place."""
    families, place_codes = pigment_families(pigment), pigment_place_codes(painting_maps, pigment)
    line_area = min_scaled_area([painting_maps.elements[family] for family in families])
    return {
        "families": list(families),
        **{f"n_{name}": int((place_codes == place_code).sum()) for name, place_code in _PLACE_CODES.items()},
        "networks": {
            name: map_scores(maps[pigment], place_codes, line_area) for name, maps in painting_maps.maps.items()
        },
    }


def pigment_place_codes(painting_maps: PaintingMaps, pigment: str) -> PlaceCodes:
    """Return the (n_row, n_column) place codes of a pigment, or of the pigments that replace it in the mock-ups."""
    return painting_maps.painting.places(
        (
            pigment,
            *(
                substitute_pigment
                for substitute_pigment, replaced_pigment in REPLACED_PIGMENTS.items()
                if replaced_pigment == pigment
            ),
        )
    )


def pigment_families(pigment: str) -> tuple[str, ...]:
    """Return one line family for each element of a pigment, at most two."""
    outputs = paper_outputs()
    families = outputs.elements[outputs.names.index(pigment)]
    return tuple(family for family in families if family in FAMILIES)[:2]


def fraction_above(probability: ProbabilityMap, pixel_mask: NDArray[np.bool_]) -> float:
    """Return the fraction of the pixels in a mask with a probability above 0.5, or NaN without pixels."""
    return float((probability[pixel_mask] > PRESENT_PROBABILITY).mean()) if pixel_mask.any() else float("nan")


def json_number(numeric_value: float) -> float | None:
    """Return the number for JSON, or None if it is not finite."""
    return float(numeric_value) if np.isfinite(numeric_value) else None


def figure_path(plan: Plan, name: str) -> Path:
    """Return the path of a figure in the plan's folder, and create the folder if it is missing."""
    plan.out.mkdir(parents=True, exist_ok=True)
    return plan.out / f"{name}.png"
