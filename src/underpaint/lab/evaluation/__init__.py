"""Evaluation of networks: virtual panels, the suite and its baselines."""

from typing import Any

import numpy as np

from underpaint._version import __version__
from underpaint.data.maps import split_place
from underpaint.lab.evaluation.groups import macro_f1, mean, names_with_score, score_names
from underpaint.lab.evaluation.scores import (
    Scores,
    auroc,
    average_precision,
    expected_calibration_error,
    score,
)
from underpaint.physics.materials import library
from underpaint.pigments.predict import identify
from underpaint.pigments.weights import load_card
from underpaint.runtime.progress import Progress
from underpaint.simulate import Outputs, PanelSettings, make_panel, outputs_for
from underpaint.simulate.labels import present_at

__all__ = [
    "Scores",
    "auroc",
    "average_precision",
    "evaluate_panel",
    "expected_calibration_error",
    "score",
]


def evaluate_panel(
    panel: str = "table2",
    *,
    model: str = "default",
    counts: float = 1e5,
    instrument: str = "elio",
    seed: int = 20220717,
    cell_pixels: int = 10,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Paint and scan a virtual panel that no training set holds, identify it, and score every name.

    A label counts when it is visible at these counts; a composite pigment counts as its elementary groups
    (chrome yellow is right as lead and chromium pigment). For a network with amounts a group is present where the lines
    of its element are visible, from any material. Groups that are everywhere (the chalk ground) have
    no negatives and stay out of the macro figures, and so do groups that the panel lacks: their false alarms
    are listed by themselves.

    Returns
    -------
    dict
        ``group_macro_f1``, ``always_yes_macro_f1``, ``groups``, ``members``, ``false_alarms`` and the settings.
    """
    card = load_card(model)
    outputs = _outputs(card.names, card.kinds)
    settings = PanelSettings(
        recipe=panel,
        instrument=instrument,
        cell_pixels=cell_pixels,
        gap_pixels=0,
        counts=counts,
        equal_counts=True,
        seed=seed,
    )
    painted = make_panel(settings, outputs=outputs, lines=bool(card.amounts), progress=progress)
    results = identify(painted.scan, model=model)
    if painted.labels is None or painted.counts_needed is None:
        raise RuntimeError("the panel was made without labels")
    answers = np.stack([results[name].ravel() for name in outputs.names], axis=1)
    labels = present_at(painted.labels, painted.hidden, counts)
    table = score_names(answers, labels, painted.counts_needed <= counts, outputs.names)
    return _summary(table, outputs) | {
        "panel": panel,
        "data": "simulated",
        "model": model,
        "model_version": card.version,
        "counts": counts,
        "seed": seed,
        "instrument": painted.instrument.name,
        "n_spectra": len(painted.labels),
        "package_version": __version__,
    }


def _outputs(names: tuple[str, ...], kinds: tuple[str, ...]) -> Outputs:
    """Return the model's outputs anywhere in the paint, and the groups of its members where it has members alone."""
    anywhere = {name: kind for name, kind in zip(names, kinds, strict=True) if split_place(name)[1] == "anywhere"}
    members = [name for name, kind in anywhere.items() if kind == "member"]
    full = outputs_for(members, with_groups="group" in kinds)
    return full.only(names)


def _summary(table: dict[str, Scores], outputs: Outputs) -> dict[str, Any]:
    kinds = dict(zip(outputs.names, outputs.kinds, strict=True))
    present = {name: entry for name, entry in table.items() if entry.n_positive + entry.n_invisible > 0}
    groups, members = (
        {name: entry for name, entry in present.items() if kinds[name] == kind} for kind in ("group", "member")
    )
    return {
        "group_macro_f1": macro_f1(groups),
        "always_yes_macro_f1": mean([groups[name].always_yes_f1 for name in names_with_score(groups)]),
        "member_macro_f1": macro_f1(members),
        "groups": {name: entry.as_dict() for name, entry in groups.items()},
        "members": {name: entry.as_dict() for name, entry in members.items()},
        "false_alarms": {
            name: 1.0 - entry.accuracy for name, entry in table.items() if name not in present and entry.n_negative
        },
        "labels": {name: _label(name) for name in present},
    }


def _label(name: str) -> str:
    groups = {group.name: group.label for group in library().groups}
    return groups[name] if name in groups else library()[name].label
