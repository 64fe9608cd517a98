"""Where the paper's network goes wrong on its own simulated spectra: covered by what, taken for what."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.lab.reproduction.arms import Progress, pretrain, test_rows
from underpaint.lab.reproduction.mockups import Mockups
from underpaint.lab.reproduction.plan import Plan
from underpaint.lab.reproduction.simulation import grid_pigments, paper_outputs, simulation_set


def mistakes(plan: Plan, mockups: Mockups, progress: Progress) -> dict[str, Any]:
    """Return, for each pigment, where it was missed and where it was seen without being there.

    Returns
    -------
    dict
        ``{pigment: {"missed_on_top", "missed_below", "missed_under": {cover: share}, "said_with": {other: share}}}``:
        shares of the test spectra of all folds, answers over one half; ``said_with`` of the spectra that hold the
        material and not the pigment. Not a number where no spectrum is of that kind.
    """
    simulated = simulation_set(plan, mockups)
    _, found = pretrain(plan, simulated, progress)
    pairs = np.asarray(grid_pigments(plan))[test_rows(simulated, plan)]
    said = np.stack([probability > 0.5 for probability in found.probability])
    return {
        name: _of_one(name, said[:, :, column], found.label[0][:, column], pairs[:, 0], pairs[:, 1])
        for column, name in enumerate(paper_outputs().names)
    }


def _of_one(
    name: str,
    said: NDArray[np.bool_],
    there: NDArray[np.bool_],
    upper: NDArray[np.str_],
    lower: NDArray[np.str_],
) -> dict[str, Any]:
    """Return the mistakes about one pigment from (n_fold, n) answers and the (n,) materials of both layers."""
    top, below = upper == name, there & (upper != name)
    materials = sorted({*upper, *lower} - {name})
    return {
        "missed_on_top": _share(~said, top),
        "missed_below": _share(~said, below),
        "missed_under": {str(each): _share(~said, below & (upper == each)) for each in materials},
        "said_with": {str(each): _share(said, ~there & ((upper == each) | (lower == each))) for each in materials},
    }


def _share(answers: NDArray[np.bool_], where: NDArray[np.bool_]) -> float:
    return float(answers[:, where].mean()) if where.any() else float("nan")
