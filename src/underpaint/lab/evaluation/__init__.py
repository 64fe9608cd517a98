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
    """Simulate a virtual panel that is in no training set, run a model on it, and score each output of the model.

    Present labels are scored only if they are visible at the given counts. A composite pigment counts as its elementary
    groups. For example, lead pigment and chromium pigment are right answers for chrome yellow. For a network that
    predicts amounts, a group is present where the lines of its element, from any material, are visible. Groups in every
    pixel, such as the chalk ground, have no negatives and are left out of macro averages. Groups that are in no pixel
    are also left out of macro averages. ``false_alarms`` has the false-positive rates of groups that are in no pixel.

    Returns
    -------
    dict
        ``group_macro_f1``, ``always_yes_macro_f1``, ``groups``, ``members``, ``false_alarms`` and the settings.
    """
    model_card = load_card(model)
    outputs = _model_outputs(model_card.names, model_card.kinds)
    settings = PanelSettings(
        recipe=panel,
        instrument=instrument,
        cell_pixels=cell_pixels,
        gap_pixels=0,
        counts=counts,
        equal_counts=True,
        seed=seed,
    )
    virtual_panel = make_panel(settings, outputs=outputs, lines=bool(model_card.amounts), progress=progress)
    probability_maps = identify(virtual_panel.scan, model=model)
    if virtual_panel.labels is None or virtual_panel.counts_needed is None:
        raise RuntimeError("the panel was made without labels")
    output_probability = np.stack([probability_maps[name].ravel() for name in outputs.names], axis=1)
    labels = present_at(virtual_panel.labels, virtual_panel.max_absent_counts, counts)
    scores_by_name = score_names(output_probability, labels, virtual_panel.counts_needed <= counts, outputs.names)
    return _panel_record(scores_by_name, outputs) | {
        "panel": panel,
        "data": "simulated",
        "model": model,
        "model_version": model_card.version,
        "counts": counts,
        "seed": seed,
        "instrument": virtual_panel.instrument.name,
        "n_spectra": len(virtual_panel.labels),
        "package_version": __version__,
    }


def _model_outputs(names: tuple[str, ...], output_kinds: tuple[str, ...]) -> Outputs:
    """Return the model outputs that have no place. If the model predicts only members, also return the groups."""
    kind_by_name = {
        name: output_kind
        for name, output_kind in zip(names, output_kinds, strict=True)
        if split_place(name)[1] == "anywhere"
    }
    members = [name for name, output_kind in kind_by_name.items() if output_kind == "member"]
    all_outputs = outputs_for(members, with_groups="group" in output_kinds)
    return all_outputs.select_output_names(names)


def _panel_record(scores_by_name: dict[str, Scores], outputs: Outputs) -> dict[str, Any]:
    kind_by_name = dict(zip(outputs.names, outputs.kinds, strict=True))
    scores_of_present_names = {
        name: scores for name, scores in scores_by_name.items() if scores.n_positive + scores.n_invisible > 0
    }
    group_scores, member_scores = (
        {name: scores for name, scores in scores_of_present_names.items() if kind_by_name[name] == output_kind}
        for output_kind in ("group", "member")
    )
    return {
        "group_macro_f1": macro_f1(group_scores),
        "always_yes_macro_f1": mean([group_scores[name].always_yes_f1 for name in names_with_score(group_scores)]),
        "member_macro_f1": macro_f1(member_scores),
        "groups": {name: scores.as_dict() for name, scores in group_scores.items()},
        "members": {name: scores.as_dict() for name, scores in member_scores.items()},
        "false_alarms": {
            name: 1.0 - scores.accuracy
            for name, scores in scores_by_name.items()
            if name not in scores_of_present_names and scores.n_negative
        },
        "labels": {name: _pigment_label(name) for name in scores_of_present_names},
    }


def _pigment_label(name: str) -> str:
    label_by_group = {group.name: group.label for group in library().groups}
    return label_by_group[name] if name in label_by_group else library()[name].label
