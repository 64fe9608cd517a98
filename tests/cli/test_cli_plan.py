"""The command ``plan``: from a quick scan to the time that a question needs."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from underpaint import io
from underpaint.cli import app
from underpaint.data import Scan
from underpaint.data.maps import PRESENT, Results
from underpaint.physics.forward import axis_of, emit, render
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import Paint, Stratigraphy, ground_layer
from underpaint.pigments.explain import planning, search
from underpaint.pipeline import scan_plan
from underpaint.pipeline.paints import with_paints

SHAPE, COUNTS, SECONDS = (12, 12), 4000.0, 0.5
NAMES = ("copper_green_blue", "lead_pigment")
QUESTION = ["--question", "lead_white under azurite"]


@pytest.fixture(scope="module", autouse=True)
def short_search() -> Iterator[None]:
    """Search few structures, and try few numbers of counts and scans."""
    sizes = {"N_SCREENED": 60, "N_NEIGHBOURS": 10, "N_OPTIMISED": 3, "N_VARIANTS": 2, "N_OPTIMISATION_ROUNDS": 4}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in sizes.items():
            patch.setattr(search, name, value)
        patch.setattr(planning, "N_SCAN", 100)
        patch.setattr(scan_plan, "COUNTS", (2e3, 1e5))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a scan with few counts of azurite over lead white; tests do not change them."""
    tmp_path = tmp_path_factory.mktemp("plan")
    detector = load_instrument("silver_30kv").detector
    paints = [Paint({name: 1.0}).layer(30.0) for name in ("azurite", "lead_white")]
    stack = Stratigraphy((*paints, ground_layer("chalk", 150.0)))
    expected = np.asarray(render(emit([stack], load_instrument("silver_30kv")), detector, axis_of(detector)))[0]
    counts = np.random.default_rng(0).poisson(np.tile(expected / expected.sum() * COUNTS, (*SHAPE, 1)))
    time = np.full(SHAPE, SECONDS)
    scan = Scan(counts.astype(np.uint16), axis_of(detector), "quick", live_time_s=time, step_mm=(1.0, 1.0))
    io.save_scan(scan, tmp_path / "quick.h5")
    area = np.random.default_rng(1).poisson(900.0, (*SHAPE, 2)).astype(np.float32)
    lines = Results.of_lines(("Cu_K", "Pb_L"), area, np.sqrt(area), step_mm=(1.0, 1.0))
    groups = Results.of_pigments(
        NAMES, np.ones((*SHAPE, 2), np.float32), kinds=("group",) * 2, groups=[(name,) for name in NAMES],
        labels=NAMES, elements=[("Cu_K",), ("Pb_L",)],
    )  # fmt: skip
    state = Results.of_states(NAMES, NAMES, np.full((*SHAPE, 2), PRESENT, np.uint8))
    io.write_results(tmp_path / "results", with_paints(lines | groups | state))
    return tmp_path / "results"


def run(folder: Path, *more: str) -> "tuple[int, str]":
    scan = ["--scan", str(folder.parent / "quick.h5"), "--instrument", "silver_30kv"]
    done = CliRunner().invoke(app, ["plan", str(folder), *scan, *more])
    return done.exit_code, done.output


def test_a_plan_gives_time_step_voltage_curve_and_other_methods(folder: Path, tmp_path: Path) -> None:
    picture = tmp_path / "plan.png"
    code, output = run(
        folder, *QUESTION, "--voltages", "30,40", "--steps", "0.5,2", "--out-figure", str(picture), "--json"
    )
    assert code == 0, output
    plan = json.loads(output)
    assert plan["question"] == {"below": "lead_pigment", "above": "copper_green_blue"}
    assert plan["counts_now"] == pytest.approx(COUNTS, rel=0.02)
    assert plan["seconds_now"] == SECONDS
    assert picture.stat().st_size > 5000
    assert [row["voltage_kv"] for row in plan["table"]] == [30.0, 40.0]
    for row in plan["table"]:
        assert 2e3 < row["counts_needed"] < 1e5
        assert row["counts_needed_9_in_10"] is None or row["counts_needed"] < row["counts_needed_9_in_10"]
        # half the step takes sixteen times as long as the fourfold step
        hours = row["hours_by_step_mm"]
        assert hours["0.5"] == pytest.approx(16 * hours["2"])
        assert hours["2"] == pytest.approx(row["seconds_per_pixel"] * SHAPE[0] * SHAPE[1] / 4 / 3600)
        assert row["pixels_to_sum"] == np.ceil(row["counts_needed"] / plan["counts_now"])
    # more voltage, more counts in a time
    rate = [row["counts_needed"] / row["seconds_per_pixel"] for row in plan["table"]]
    assert rate[1] > 1.2 * rate[0]
    for curve in plan["curve"]:
        assert np.all(np.diff(curve["seconds"]) > 0)
        assert curve["share_answered"][0] < 0.5 < curve["share_answered"][-1]
    assert all(method["source"] for method in plan["other_methods"])


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (["--question", "is there lead"], "lead_pigment under mercury_red"),
        (["--question", "lead_white under vermilion"], "no paint contains it"),
        ([*QUESTION, "--paint", "9"], "there are paints 1 to"),
        ([*QUESTION, "--voltages", "30,x"], "positive numbers"),
        ([*QUESTION, "--voltages", "3000"], "voltage_kv"),
        ([*QUESTION, "--steps", "0"], "positive numbers"),
        ([*QUESTION, "--seconds", "-1"], "Give a number of seconds"),
    ],
)
def test_what_cannot_be_planned_is_refused(folder: Path, more: list[str], fault: str) -> None:
    code, output = run(folder, *more)
    assert code in {1, 2}
    assert fault in " ".join(output.replace("│", " ").split())


def test_without_layers_of_the_order_the_error_says_what_was_tried(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_plan, "likeliest_layers", lambda *_: (None, 0.003, 14))
    code, output = run(folder, "--question", "azurite under lead_white")
    assert code == 1
    assert "14 layer structures of copper_green_blue, lead_pigment fit its summed spectrum" in output
    assert "none has this order (probability 0.003). Paints with both groups: 1." in output
