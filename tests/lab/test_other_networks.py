"""The recurrent and the autoencoder-pretrained network under the paper's protocol."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_training_library import write_toy_library

from underpaint.errors import TrainingError
from underpaint.lab.networks import AutoencoderNetwork, RecurrentNetwork
from underpaint.lab.training import (
    FinetuneSettings,
    Library,
    TrainSettings,
    answers,
    export,
    finetune,
    load_checkpoint,
    load_library,
    load_trainable,
    train,
)
from underpaint.lab.training.batches import make_batch
from underpaint.lab.training.loop import pretrain_autoencoder
from underpaint.lab.training.metrics import macro_mean

FUTURE_NETWORKS = ("recurrent", "autoencoder")


def others_settings(out: Path, **changes: object) -> TrainSettings:
    fields = {"library": "toy.h5", "out": out, "kind": "autoencoder", "progress": False, "accelerator": "cpu"}
    return TrainSettings.model_validate({**fields, "precision": "32", "batch": 32, "epochs": 3, **changes})


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return load_library(write_toy_library(tmp_path_factory.mktemp("library") / "toy.h5", n=240, n_bin=96))


@pytest.mark.parametrize("kind", FUTURE_NETWORKS)
def test_the_defaults_are_those_of_the_papers_network(kind: str) -> None:
    settings, paper = (TrainSettings(library="a.h5", out="b", kind=each) for each in (kind, "xu2022"))
    assert settings.model_dump(exclude={"kind", "name"}) == paper.model_dump(exclude={"kind", "name"})
    assert settings.name == kind
    assert settings.follows_paper_protocol
    assert not TrainSettings(library="a.h5", out="b").follows_paper_protocol


@pytest.mark.parametrize("kind", FUTURE_NETWORKS)
def test_the_batches_are_those_of_the_papers_network(toy: Library, kind: str, tmp_path: Path) -> None:
    batches = [
        make_batch(toy, np.arange(5), others_settings(tmp_path, kind=each), np.random.default_rng(0))
        for each in (kind, "xu2022")
    ]
    for batch, paper in zip(*batches, strict=True):
        torch.testing.assert_close(batch, paper, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("kind", FUTURE_NETWORKS)
def test_the_other_networks_learn_single_lines(toy: Library, kind: str, tmp_path: Path) -> None:
    report = train(others_settings(tmp_path, kind=kind, epochs=15, batch=16, learning_rate=3e-3), toy)
    assert macro_mean(report.test_scores, "f1") > macro_mean(report.test_scores, "always_yes_f1") + 0.1
    again = load_checkpoint(report.checkpoint)
    assert again.card.kind == kind
    rows, settings = np.arange(10), others_settings(tmp_path, kind=kind)
    first, second = (answers(each, toy, rows, settings) for each in (report.trained_model, again))
    np.testing.assert_array_equal(first, second)
    assert train(others_settings(tmp_path, kind=kind, epochs=15, batch=16, learning_rate=3e-3), toy).epochs == 15


@pytest.mark.parametrize(("kind", "frozen"), [("recurrent", ("patches", "recurrent")), ("autoencoder", ("encoder",))])
def test_fine_tuning_begins_with_their_dense_layer(
    toy: Library, kind: str, frozen: Sequence[str], tmp_path: Path
) -> None:
    start = train(others_settings(tmp_path / "start", kind=kind, epochs=1), toy)
    before = {name: value.clone() for name, value in start.trained_model.network.state_dict().items()}
    fields = {"library": "toy.h5", "out": tmp_path / "tuned", "epochs": 1, "dense_epochs": 1, "progress": False}
    settings = FinetuneSettings.model_validate({**fields, "accelerator": "cpu", "precision": "32"})
    report = finetune(start.trained_model, settings, toy)
    assert report.frozen_layers == frozen
    first = load_checkpoint(tmp_path / "tuned" / "dense" / "best.ckpt").network.state_dict()
    assert {name for name in before if not torch.equal(before[name], first[name])} == {"dense.weight", "dense.bias"}
    second = load_checkpoint(tmp_path / "tuned" / "all" / "best.ckpt").network.state_dict()
    assert any(not torch.equal(first[name], second[name]) for name in before if name.startswith(frozen[0]))


@pytest.mark.parametrize("kind", FUTURE_NETWORKS)
def test_their_onnx_files_answer_as_they_do(toy: Library, kind: str, tmp_path: Path) -> None:
    trained = train(others_settings(tmp_path, kind=kind, epochs=1), toy).trained_model
    path = export(trained.network, trained.card, tmp_path)
    again = load_trainable(path)
    rows, settings = np.arange(10), others_settings(tmp_path, kind=kind)
    np.testing.assert_allclose(answers(again, toy, rows, settings), answers(trained, toy, rows, settings), atol=1e-4)


def reconstruction(folder: Path) -> dict[str, float]:
    record: dict[str, float] = json.loads((folder / "reconstruction.json").read_text("utf-8"))
    return record


def test_the_reconstruction_gets_better_and_goes_on_where_it_stopped(toy: Library, tmp_path: Path) -> None:
    rows = np.arange(200)
    pretrain_autoencoder(toy, rows, others_settings(tmp_path / "two", epochs=1))
    first = reconstruction(tmp_path / "two")
    resumed = pretrain_autoencoder(toy, rows, others_settings(tmp_path / "two", epochs=12))
    last = reconstruction(tmp_path / "two")
    assert (first["epochs"], last["epochs"]) == (1, 12)
    assert last["validation_loss"] < 0.5 * first["validation_loss"]
    unbroken = pretrain_autoencoder(toy, rows, others_settings(tmp_path / "one", epochs=12))
    assert reconstruction(tmp_path / "one")["validation_loss"] == pytest.approx(last["validation_loss"], rel=1e-3)
    torch.testing.assert_close(resumed.dense.weight, unbroken.dense.weight)


def test_an_encoder_taught_without_labels_is_what_training_begins_with(toy: Library, tmp_path: Path) -> None:
    taught = pretrain_autoencoder(toy, np.arange(200), others_settings(tmp_path / "taught"))
    before = {name: value.clone() for name, value in taught.state_dict().items()}
    report = train(others_settings(tmp_path / "run", epochs=1, learning_rate=1e-9), toy, network=taught)
    after = report.trained_model.network.state_dict()
    weights = [name for name in before if name.endswith((".weight", ".bias"))]
    for name in weights:
        torch.testing.assert_close(after[name], before[name], atol=1e-6, rtol=1e-5)


def test_reconstruction_looks_at_no_row_that_was_not_given(toy: Library, tmp_path: Path) -> None:
    spectra = toy.spectra.astype(np.float32).copy()
    spectra[200:] = np.nan
    changed = replace(toy, spectra=spectra)
    network = pretrain_autoencoder(changed, np.arange(200), others_settings(tmp_path, epochs=1))
    assert all(torch.isfinite(each).all() for each in network.parameters())


def test_reconstruction_refuses_another_kind_and_no_pigments(toy: Library, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match="kind 'recurrent' to reconstruct spectra: only the kind \"autoencoder\" has a bottleneck"
    ):
        pretrain_autoencoder(toy, np.arange(9), others_settings(tmp_path, kind="recurrent"))
    with pytest.raises(TrainingError, match="for 0 pigments: the library has no names"):
        pretrain_autoencoder(toy.select_output_names([]), np.arange(9), others_settings(tmp_path))


@pytest.mark.parametrize("network", [RecurrentNetwork(96, 3), AutoencoderNetwork(96, 4), AutoencoderNetwork(200, 3)])
def test_a_network_that_does_not_fit_is_refused(toy: Library, network: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="need another AutoencoderNetwork"):
        train(others_settings(tmp_path), toy, network=network)
