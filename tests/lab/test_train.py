"""A tiny training run: figures, resuming, fine-tuning, export."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_training_library import write_toy_library

from underpaint.data import EnergyAxis
from underpaint.errors import CalibrationError, OutputError, TrainingError
from underpaint.lab.networks import XuNetwork
from underpaint.lab.training import (
    FinetuneSettings,
    TrainReport,
    TrainSettings,
    cross_validate,
    export,
    finetune,
    labelled_spectra,
    load_checkpoint,
    train,
)
from underpaint.lab.training.exporting import example_inputs
from underpaint.lab.training.metrics import average_precision, macro_mean, scores_by_name
from underpaint.lab.training.module import masked_loss
from underpaint.pigments.predict import open_model
from underpaint.pigments.weights import ModelAxis, ModelCard, load_card
from underpaint.runtime.job import resume_folder


def settings(library: Path, out: Path, **changes: object) -> TrainSettings:
    fields = {"library": library, "out": out, "batch": 32, "epochs": 1, "progress": False, "accelerator": "cpu"}
    return TrainSettings.model_validate({**fields, "precision": "32", **changes})


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_library(tmp_path_factory.mktemp("library") / "toy.h5")


@pytest.fixture(scope="module")
def trained(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainReport:
    return train(settings(toy, tmp_path_factory.mktemp("run"), epochs=3))


def test_a_run_leaves_checkpoints_and_a_report(trained: TrainReport) -> None:
    folder = trained.checkpoint.parent
    assert {path.name for path in folder.iterdir()} == {"best.ckpt", "last.ckpt", "report.json", "settings.json"}
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["validation"]["by_name"]["pigment_0"]["n_spectra"] == 10
    assert trained.epochs == 3
    assert trained.trained_model.card.training.epochs == 3


def test_the_network_learns_single_lines(toy: Path, tmp_path: Path) -> None:
    report = train(settings(toy, tmp_path, epochs=12, validation_share=0.2))
    assert macro_mean(report.validation_scores, "auprc") > 0.9
    assert macro_mean(report.validation_scores, "f1") > macro_mean(report.validation_scores, "always_yes_f1")


def test_resuming_continues_where_the_run_stopped(toy: Path, tmp_path: Path) -> None:
    plain = {"schedule": "constant"}
    train(settings(toy, tmp_path / "two", epochs=1, **plain))
    resumed = train(settings(toy, tmp_path / "two", epochs=2, **plain))
    unbroken = train(settings(toy, tmp_path / "one", epochs=2, **plain))
    assert (resumed.resumed_from_epoch, resumed.epochs) == (1, 2)
    for name, value in unbroken.trained_model.network.state_dict().items():
        torch.testing.assert_close(resumed.trained_model.network.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    again = train(settings(toy, tmp_path / "two", epochs=2, **plain))
    assert (again.resumed_from_epoch, again.epochs) == (2, 2)


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_a_damaged_checkpoint_is_reported_before_the_work(
    trained: TrainReport, toy: Path, tmp_path: Path, name: str
) -> None:
    shutil.copytree(trained.checkpoint.parent, tmp_path / "run")
    content = (tmp_path / "run" / name).read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"no checkpoint"):
        (tmp_path / "run" / name).write_bytes(damaged)
        with pytest.raises(TrainingError, match=rf"the checkpoint {name} is damaged .*Delete this file"):
            train(settings(toy, tmp_path / "run", epochs=3))
        assert (tmp_path / "run" / name).read_bytes() == damaged


def test_a_folder_of_other_things_is_not_trained_into(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("mine")
    with pytest.raises(OutputError, match="contains files of other origin"):
        train(settings(toy, tmp_path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_a_folder_of_another_run_is_refused(trained: TrainReport, toy: Path, tmp_path: Path) -> None:
    shutil.copytree(trained.checkpoint.parent, tmp_path / "run")
    with pytest.raises(OutputError, match=r"started with other settings: learning_rate \(0.002 before, 0.01 now\)"):
        train(settings(toy, tmp_path / "run", epochs=3, learning_rate=0.01))


def test_ctrl_c_reaches_the_caller_and_keeps_the_last_epoch(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(settings(toy, tmp_path))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("underpaint.lab.training.module.PigmentModule.training_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(settings(toy, tmp_path, epochs=2))
    assert train(settings(toy, tmp_path, epochs=2)).resumed_from_epoch == 1


def test_the_papers_network_trains(tmp_path: Path) -> None:
    library = write_toy_library(tmp_path / "toy.h5", n=40)
    report = train(settings(library, tmp_path / "run", kind="xu2022", batch=16, epochs=1, precision="bf16"))
    assert report.trained_model.card.needs_full_axis
    assert len(report.test_scores) == 3


def test_each_fold_validates_on_other_spectra_and_tests_on_the_same(toy: Path, tmp_path: Path) -> None:
    reports = cross_validate(settings(toy, tmp_path, validation_share=0.5, test_share=0.1))
    assert [report.checkpoint.parent.name for report in reports] == ["fold_0", "fold_1"]
    first, second = (report.test_scores[0] for report in reports)
    assert (first.n_spectra, first.prevalence) == (second.n_spectra, second.prevalence)
    assert reports[0].validation_scores[0].n_spectra == 90


def test_finetune_says_what_it_froze_and_froze_it(trained: TrainReport, toy: Path, tmp_path: Path) -> None:
    finetune_settings = FinetuneSettings.model_validate(
        {**settings(toy, tmp_path).model_dump(), "dense_epochs": 1, "test_share": 0.5, "learning_rate": 5e-4}
    )
    before = load_checkpoint(trained.checkpoint).network.state_dict()
    report = finetune(trained.checkpoint, finetune_settings)
    assert report.frozen_layers == ("stem", "head")
    assert report.loaded_layers == ("stem", "head", "dense", "linear")
    assert report.reinitialised_layers == ()
    first = load_checkpoint(tmp_path / "dense" / "best.ckpt").network.state_dict()
    same = {name for name, value in first.items() if torch.equal(value, before[name])}
    assert same == {name for name in before if name.split(".")[0] in ("stem", "head")}
    second = load_checkpoint(tmp_path / "all" / "best.ckpt").network.state_dict()
    assert not torch.equal(second["stem.0.0.weight"], before["stem.0.0.weight"])


def test_finetune_can_begin_with_fresh_dense_layers(trained: TrainReport, toy: Path, tmp_path: Path) -> None:
    finetune_settings = FinetuneSettings.model_validate(
        {**settings(toy, tmp_path).model_dump(), "dense_epochs": 1, "test_share": 0.5, "fresh_dense": True}
    )
    report = finetune(trained.checkpoint, finetune_settings)
    assert report.reinitialised_layers == ("dense", "linear")
    assert report.loaded_layers == ("stem", "head")


def test_labelled_spectra_add_the_groups_of_their_pigments(trained: TrainReport) -> None:
    library = labelled_spectra(
        np.ones((2, 128), dtype=np.int64), EnergyAxis(0.02, 1.01, 128), [["pigment_1"], []], trained.trained_model.card
    )
    assert library.labels.tolist() == [[1, 1, 0], [0, 0, 0]]
    np.testing.assert_allclose(library.spectra.sum(axis=1), 128, rtol=1e-5)


def test_labelled_spectra_refuse_an_unknown_pigment(trained: TrainReport) -> None:
    with pytest.raises(TrainingError, match="Cannot use the labels smalt: they are no outputs of the model"):
        labelled_spectra(np.ones((1, 128)), EnergyAxis(0.02, 1.01, 128), [["smalt"]], trained.trained_model.card)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.ckpt").write_bytes(b"no")
    with pytest.raises(TrainingError, match=r"Cannot read the checkpoint .*no\.ckpt"):
        load_checkpoint(tmp_path / "no.ckpt")


def test_export_answers_as_torch_does(trained: TrainReport, tmp_path: Path) -> None:
    network, card = trained.trained_model.network, trained.trained_model.card
    path = export(network, card, tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["default.json", "default.onnx"]
    assert load_card(path) == card
    inputs = example_inputs(network, card, 7)
    with torch.inference_mode():
        expected = network(*inputs).numpy()
    log_odds, probability = open_model(path)(*(each.numpy() for each in inputs))
    np.testing.assert_allclose(log_odds, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-expected.astype(float))), atol=1e-5)


def test_export_of_the_papers_network(tmp_path: Path) -> None:
    names = tuple(f"pigment_{index}" for index in range(11))
    card = ModelCard(
        name="xu2022",
        kind="xu2022",
        axis=ModelAxis(start_kev=2.8, bin_kev=0.01, n_bin=3815),
        needs_full_axis=True,
        names=names,
        kinds=("member",) * 11,
        groups=((),) * 11,
        labels=names,
        elements=((),) * 11,
    )
    assert open_model(export(XuNetwork(), card, tmp_path)).card == card


def test_nothing_half_written_stays_when_the_export_fails(
    trained: TrainReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("underpaint.lab.training.exporting._TOLERANCE", -1.0)
    with pytest.raises(TrainingError, match="differs from torch"):
        export(trained.trained_model.network, trained.trained_model.card, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_loss_leaves_masked_labels_out() -> None:
    logits, labels = torch.tensor([[0.0, 9.0]]), torch.tensor([[1.0, 0.0]])
    assert float(masked_loss(logits, labels, torch.tensor([[1.0, 0.0]]))) == pytest.approx(np.log(2), rel=1e-6)
    assert float(masked_loss(logits, labels, torch.zeros(1, 2))) == 0.0


def test_average_precision_of_known_rankings() -> None:
    truth = np.array([True, False, True, False])
    assert average_precision(np.array([4.0, 3.0, 2.0, 1.0]), truth) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert average_precision(np.zeros(4), truth) == pytest.approx(0.5)
    assert np.isnan(average_precision(np.zeros(2), np.array([False, False])))


def test_figures_are_over_the_labels_that_count() -> None:
    log_odds = np.array([[2.0], [-1.0], [3.0], [-4.0]], dtype=np.float32)
    labels, weight = np.array([[1], [1], [0], [0]]), np.array([[1], [1], [0], [1]])
    (figures,) = scores_by_name(("a",), log_odds, labels, weight)
    assert figures.n_spectra == 3
    assert figures.prevalence == pytest.approx(2 / 3)
    assert (figures.accuracy, figures.sensitivity, figures.precision) == pytest.approx((2 / 3, 0.5, 1.0))
    assert (figures.f1, figures.always_yes_f1) == pytest.approx((2 / 3, 0.8))


def test_finetune_reads_a_scan_with_a_table_of_labels(trained: TrainReport, tmp_path: Path) -> None:
    counts = np.random.default_rng(0).poisson(20.0, (5, 4, 128))
    np.savez(tmp_path / "scan.npz", counts=counts)
    rows = "".join(f"{row},{column},{'pigment_1' if column else ''}\n" for row in range(5) for column in range(4))
    (tmp_path / "labels.csv").write_text("row,column,pigments\n" + rows, encoding="utf-8")
    finetune_settings = FinetuneSettings.model_validate(
        {
            **settings(tmp_path / "scan.npz", tmp_path / "run").model_dump(),
            "labels": tmp_path / "labels.csv",
            "dense_epochs": 1,
            "test_share": 0.2,
        }
    )
    with pytest.raises(CalibrationError, match="no energy axis"):
        finetune(trained.checkpoint, finetune_settings)


@pytest.mark.parametrize("content", ["", "{", "null", "[1]", "5", "[" * 100_000, "\xff"])
def test_a_damaged_note_of_a_training_is_refused_in_words(tmp_path: Path, content: str) -> None:
    (tmp_path / "plan.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(OutputError, match=r"plan\.json is damaged .*Choose another folder"):
        resume_folder(tmp_path, {}, settings_file="plan.json")
