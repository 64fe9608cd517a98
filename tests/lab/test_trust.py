"""The suite end to end, as small as it can be, on a network of layers that has hardly learned."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from underpaint.cli import app
from underpaint.lab.evaluation import baselines
from underpaint.lab.evaluation import plan as plan_module
from underpaint.lab.evaluation import suite as suite_module
from underpaint.lab.evaluation.plan import TrustPlan
from underpaint.lab.evaluation.simulated import held_out_set, palette_for, tuning_set
from underpaint.lab.evaluation.suite import Inputs, evaluate_trust
from underpaint.lab.training import TrainSettings, export, load_library, train
from underpaint.pigments.weights import load_card
from underpaint.simulate import LibrarySettings, simulate_library

KEYS = {
    "group_macro_f1", "order_accuracy", "order_bound", "ece", "coverage", "openset_auroc", "auroc_aurora",
    "spearman_aurora", "kappa_aurora", "per_s", "train_minutes", "baselines", "details", "about",
}  # fmt: skip
PALETTE = (
    "vermilion", "lead_white", "azurite", "zinc_white", "chalk", "lead_tin_yellow", "emerald_green", "cobalt_blue",
    "iron_oxide_red", "chrome_oxide_green", "chrome_yellow", "prussian_blue", "red_lead", "verdigris",
)  # fmt: skip
PLAN = TrustPlan(
    quick=True, workers=1, threads=1, stratigraphies=32, per_instrument=16, counts=(1e4, 1e5), baseline_spectra=16,
    tuning_stratigraphies=8, unseen_stratigraphies=8, mockup_spectra=64, folds=1, dense_epochs=1, finetune_epochs=1,
    panel_draws=1, order_pigments=("vermilion", "azurite"), order_draws=2, open_set_spectra=40, open_set_counts=(1e5,),
    fitted_spectra=1, speed_seconds=0.01,
)  # fmt: skip


@pytest.fixture(scope="module")
def layers_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    library = LibrarySettings(palette=PALETTE, n_stratigraphies=32, renders=1, chunk=16, seed=1, places=True)
    data = load_library(simulate_library(library, folder / "library.h5", workers=1))
    settings = TrainSettings(
        library=(Path("library"),), out=folder / "run", kind="layers_dense", name="toy", epochs=1, batch=16, threads=1,
        validation_share=0.2, precision="32", progress=False,
    )  # fmt: skip
    trained = train(settings, data).trained_model
    # so few instruments do not reach the ends of the ranges that training knows
    card = trained.card.model_copy(update={"narrowest_kev": (2.8, 20.0)})
    return export(trained.network, card, folder)


@pytest.mark.slow
def test_the_suite_runs_end_to_end_and_is_taken_up_again(
    layers_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "trust.json"
    monkeypatch.setattr(plan_module, "quick_plan", lambda: PLAN)
    options = ["--suite", "trust", "--quick", "--model", str(layers_model), "--json", str(target)]
    done = CliRunner().invoke(app, ["evaluate", *options])
    assert done.exit_code == 0, done.output
    for words in ("Group macro F1 (quick", "Layer order", "spectra a second", "Left out: monte_carlo, aurora"):
        assert words in done.output
    record = json.loads(target.read_text("utf-8"))
    assert set(record) == KEYS
    assert set(record["group_macro_f1"]["simulated"]) == {"1e4", "1e5"}
    assert set(record["group_macro_f1"]["unseen_instrument"]) == {"told", "untold"}
    assert 0.0 <= record["group_macro_f1"]["structure_out_finetuned"] <= 1.0
    assert record["group_macro_f1"]["monte_carlo"] is None
    assert 0.0 <= record["order_accuracy"]["1e5"] <= 1.0
    assert record["order_bound"]["1e5"] == pytest.approx(1.0, abs=0.01)
    assert set(record["coverage"]) == {"0.9", "0.99"}
    assert set(record["baselines"]) == {"always_yes", "xu2022", "element_thresholds", "likelihood_fit", "line_area"}
    assert record["details"]["calibration"]["intervals"]["thickness_um"]["1e4-1e5"]["n"] == 32
    assert not record["about"]["complete"]
    assert record["about"]["left_out"] == ["monte_carlo", "aurora"]

    def not_again(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(suite_module, "held_out_set", not_again)
    monkeypatch.setattr(baselines, "likelihood_fit", not_again)
    again = evaluate_trust(target, Inputs(layers_model), PLAN)
    assert again["details"] == record["details"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--suite", "trust"], "needs --json FILE"),
        (["--suite", "trust", "--json", "trust.json", *["--scan", "one"] * 3], "two detectors"),
        (["--quick"], "belong to --suite"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["evaluate", *options])
    assert done.exit_code == 2
    assert words in " ".join(done.output.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


def test_the_held_out_set_is_another_than_any_other(tmp_path: Path, layers_model: Path) -> None:
    card = load_card(layers_model)
    assert set(palette_for(card)) == set(PALETTE)
    assert len(palette_for(load_card("default"))) > len(card.names) // 3
    plan = PLAN.model_copy(update={"stratigraphies": 8})
    first, second = (make(plan, card, tmp_path, lambda *_: None) for make in (held_out_set, tuning_set))
    assert first.expected.shape == second.expected.shape == (8, 1000)
    assert not np.allclose(first.expected, second.expected)
    changed = held_out_set(plan.model_copy(update={"seed": 1}), card, tmp_path, lambda *_: None)
    assert not np.allclose(first.expected, changed.expected)
    assert first.is_visible(1e6).sum() >= first.is_visible(1e3).sum() > 0


def test_of_a_network_with_amounts_what_shows_is_right(tmp_path: Path, layers_model: Path) -> None:
    card = load_card(layers_model)
    by_lines = card.model_copy(update={"amounts": ("mercury_red",)})
    plan = PLAN.model_copy(update={"stratigraphies": 16})
    pigments, lines = (held_out_set(plan, each, tmp_path, lambda *_: None) for each in (card, by_lines))
    assert np.array_equal(pigments.expected, lines.expected)
    column = lines.columns(lines.groups)
    present, all_contained = (lines.is_present(counts)[:, column] for counts in (1e3, 1e9))
    assert present.sum() < all_contained.sum()  # what would show with twenty times the counts is absent
    assert not (lines.is_visible(1e3) & ~lines.is_present(1e3)).any()
    # a trace, or what the ground brings, is there as a pigment is
    assert (all_contained & (pigments.labels[:, column] == 0)).any()
    members = [name for name, kind in zip(lines.names, lines.kinds, strict=True) if kind == "member"]
    assert np.array_equal(
        lines.labels[:, lines.columns(tuple(members))], pigments.labels[:, lines.columns(tuple(members))]
    )
