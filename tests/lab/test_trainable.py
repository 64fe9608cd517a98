"""Networks read back from their ONNX files, the shipped ones first."""

from pathlib import Path

import pytest
import torch
from toy_training_library import write_toy_library

from underpaint.errors import ModelError, TrainingError
from underpaint.lab.networks import DefaultNetwork, NetworkSpec, XuNetwork, build_network, is_folded
from underpaint.lab.training import FinetuneSettings, TrainedNetwork, export, finetune, load_checkpoint, load_trainable
from underpaint.lab.training.exporting import check_export
from underpaint.pigments.weights import ModelAxis, ModelCard, load_card, model_path


def toy_card(library_bins: int = 64) -> ModelCard:
    return ModelCard(
        name="toy",
        axis=ModelAxis(start_kev=1.0, bin_kev=0.04, n_bin=library_bins),
        names=("pigment_0", "pigment_1", "pigment_2"),
        kinds=("group", "member", "member"),
        groups=(("pigment_0",),) * 3,
        labels=("pigment 0", "pigment 1", "pigment 2"),
        elements=(("Hg_L",),) * 3,
    )


@pytest.fixture(scope="module")
def toy_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = DefaultNetwork(64, 3)
    for layer in network.modules():  # normalisations as a training would leave them
        if isinstance(layer, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.uniform_(-0.5, 0.5)
            layer.running_var.uniform_(0.5, 2)
    return export(network, toy_card(), tmp_path_factory.mktemp("toy"))


def assert_same_answers(trained: TrainedNetwork, model: str | Path) -> None:
    check_export(trained.network, trained.card, model_path(model))


@pytest.mark.parametrize("name", ["default", "xu2022"])
def test_a_shipped_network_answers_in_torch_as_in_onnxruntime(name: str) -> None:
    trained = load_trainable(name)
    assert trained.card == load_card(name)
    assert not trained.network.training
    assert_same_answers(trained, name)


def test_only_normalisations_behind_an_activation_stay_when_folded() -> None:
    spec = NetworkSpec("xu2022", 3815, 11, 2.8, 0.01, folded=True)
    folded = build_network(spec)
    assert is_folded(folded)
    assert not is_folded(XuNetwork())
    norms = [name for name, layer in folded.named_modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert norms == [f"blocks.{number}.2" for number in range(5)]


def test_an_onnx_file_is_fine_tuned_and_exported_again(toy_onnx: Path, tmp_path: Path) -> None:
    library = write_toy_library(tmp_path / "toy.h5", n=60)
    settings = FinetuneSettings(
        library=(library,), out=tmp_path / "run", name="mine", epochs=1, dense_epochs=1, test_share=0.2, batch=8,
        precision="32", accelerator="cpu", progress=False,
    )  # fmt: skip
    report = finetune(toy_onnx, settings)
    assert report.loaded_layers == ("stem", "head", "dense", "linear")
    assert is_folded(load_checkpoint(report.second_step.checkpoint).network)
    written = export(report.trained_model.network, report.trained_model.card, tmp_path / "out")
    assert_same_answers(report.trained_model, written)
    assert_same_answers(load_trainable(written), written)


def test_a_model_that_is_not_there_cannot_be_trained(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Cannot open model"):
        load_trainable(tmp_path / "none.onnx")


def test_a_damaged_onnx_file_cannot_be_trained(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    toy_card().write(tmp_path / "bad.json")
    with pytest.raises(TrainingError, match=r"Cannot train .*bad\.onnx further: it cannot be read"):
        load_trainable(tmp_path / "bad.onnx")


def test_a_card_of_another_network_is_noticed(toy_onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "other.onnx").write_bytes(toy_onnx.read_bytes())
    load_card("default").write(tmp_path / "other.json")
    with pytest.raises(TrainingError, match=r"no weights of the right size for .*dense\.weight"):
        load_trainable(model_path(tmp_path / "other.onnx"))


def test_weights_that_answer_otherwise_are_noticed(toy_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("underpaint.lab.training.exporting._TOLERANCE", -1.0)
    with pytest.raises(TrainingError, match="has other outputs"):
        load_trainable(toy_onnx)
