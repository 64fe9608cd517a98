"""What is finished is not done twice; a smaller run does not replace a whole one."""

import json
from pathlib import Path

import numpy as np
import pytest

from underpaint.errors import OutputError
from underpaint.lab.evaluation.plan import TrustPlan, quick_plan
from underpaint.lab.evaluation.scores import counts_key
from underpaint.lab.evaluation.suite import Inputs, Stages, evaluate_trust


def test_a_stage_is_taken_up_again_as_long_as_its_facts_hold(tmp_path: Path) -> None:
    made = []

    def make() -> dict[str, object]:
        made.append(1)
        return {"value": np.float32(0.5), "missing": float("nan"), "pair": (1, 2)}

    first = Stages(tmp_path / "parts", {"seed": 1}).result_of("one", make, {"model": "a"})
    again = Stages(tmp_path / "parts", {"seed": 1}).result_of("one", make, {"model": "a"})
    assert first == again == {"value": 0.5, "missing": None, "pair": [1, 2]}
    assert len(made) == 1
    Stages(tmp_path / "parts", {"seed": 1}).result_of("one", make, {"model": "b"})
    Stages(tmp_path / "parts", {"seed": 2}).result_of("one", make, {"model": "b"})
    assert len(made) == 3


def test_a_stage_that_failed_leaves_nothing(tmp_path: Path) -> None:
    stages = Stages(tmp_path / "parts", {})

    def fail() -> dict[str, object]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stages.result_of("one", fail)
    assert not (tmp_path / "parts" / "one.json").exists()
    assert stages.seconds() == {}


def test_a_damaged_stage_is_run_again(tmp_path: Path) -> None:
    stages = Stages(tmp_path, {})
    stages.result_of("one", lambda: {"value": 1})
    (tmp_path / "one.json").write_text('{"facts": {}, "fig', encoding="utf-8")
    assert stages.result_of("one", lambda: {"value": 2}) == {"value": 2}


@pytest.mark.parametrize(
    ("inputs", "plan"),
    [
        (Inputs(reference=Path("panels"), scans=("one", "two")), quick_plan()),
        (Inputs(scans=("one", "two")), TrustPlan()),
        (Inputs(reference=Path("panels"), scans=("one",)), TrustPlan()),
    ],
)
def test_a_smaller_run_never_replaces_a_whole_record(tmp_path: Path, inputs: Inputs, plan: TrustPlan) -> None:
    target = tmp_path / "trust.json"
    target.write_text(json.dumps({"about": {"complete": True}}), encoding="utf-8")
    with pytest.raises(OutputError, match="contains the record of a complete run"):
        evaluate_trust(target, inputs, plan)
    assert json.loads(target.read_text("utf-8")) == {"about": {"complete": True}}


def test_counts_are_named_in_short() -> None:
    assert [counts_key(counts) for counts in (1e3, 1e4, 1e5, 1e6)] == ["1e3", "1e4", "1e5", "1e6"]
