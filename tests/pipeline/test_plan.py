"""What a run will make is known before any spectrum is read, and is what it makes."""

import numpy as np

from underpaint.data import EnergyAxis, Scan, survey
from underpaint.elements import prepare_fit
from underpaint.physics.instrument import load_instrument
from underpaint.pigments.predict import open_model, plan_answers
from underpaint.pipeline.blocks import Plan
from underpaint.simulate import PanelSettings, make_panel

SCAN: Scan = make_panel(PanelSettings(recipe="fig7", cell_pixels=1, counts=1e4, perturb=False)).scan


def test_outputs_are_declared_and_kept() -> None:
    axis: EnergyAxis = SCAN.require_axis()
    elio, seen = load_instrument("elio"), survey(SCAN)
    elements = prepare_fit(seen, axis, instrument=elio)
    answers = plan_answers(axis, open_model("default", threads=1))
    plan = Plan(axis, answers=answers, elements=elements, instrument=elio)
    declared = {output.stack: output for output in plan.outputs}
    assert set(declared) == {"probability", "value", "sigma", "area", "uncertainty", "state"}
    assert declared["area"].units == "counts"
    assert "mercury_red.surface" in declared["probability"].names
    counts = np.asarray(SCAN.counts[:1, :2].compute())
    made = plan(counts, None, counts.sum(axis=2, dtype=float))
    assert {name: stack.shape[2] for name, stack in made.items()} == {
        name: len(output.names) for name, output in declared.items()
    }
