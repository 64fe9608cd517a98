"""Reading, joining and splitting training libraries; batches with noise and masks."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from toy_training_library import write_toy_library

from underpaint.errors import TrainingError
from underpaint.lab.training import Library, TrainSettings, load_library, load_settings
from underpaint.lab.training.batches import Batches, draw_poisson, make_batch
from underpaint.lab.training.library import UNKNOWN
from underpaint.lab.training.split import split_by_source


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return load_library(write_toy_library(tmp_path / "toy.h5"))


def settings(**changes: object) -> TrainSettings:
    return TrainSettings.model_validate({"library": "toy.h5", "out": "out", "batch": 32, "epochs": 1, **changes})


def test_two_files_join_with_their_stratigraphies_apart(tmp_path: Path) -> None:
    path = write_toy_library(tmp_path / "toy.h5")
    joined = load_library([path, path])
    assert len(joined) == 400
    assert np.unique(joined.source).size == 200


def test_half_precision_keeps_the_shape(tmp_path: Path) -> None:
    path = write_toy_library(tmp_path / "toy.h5")
    half, full = load_library(path, half_precision=True), load_library(path)
    assert half.spectra.dtype == np.float16
    np.testing.assert_allclose(half.spectra.astype(float) / 64, full.spectra.astype(float), rtol=2e-3, atol=1e-7)


def test_a_file_without_labels_is_refused(tmp_path: Path) -> None:
    path = write_toy_library(tmp_path / "toy.h5")
    with h5py.File(path, "a") as file:
        del file["labels"]
    with pytest.raises(TrainingError, match="the file lacks labels"):
        load_library(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"Cannot read the training library .*none\.h5"):
        load_library(tmp_path / "none.h5")


def test_a_wrong_shape_is_refused(tmp_path: Path) -> None:
    path = write_toy_library(tmp_path / "toy.h5")
    with h5py.File(path, "a") as file:
        file.attrs["n_bin"] = 63
    with pytest.raises(TrainingError, match=r"spectra has the shape \(200, 64\), but the shape \(200, 63\)"):
        load_library(path)


def test_unknown_label_names_are_refused(library: Library) -> None:
    with pytest.raises(TrainingError, match="Cannot use the labels pigment_2"):
        library.with_names(("pigment_0", "pigment_1"))


def test_names_that_a_library_lacks_are_unknown_and_do_not_count(library: Library) -> None:
    wider = library.with_names(("other", *library.names))
    assert np.all(wider.labels[:, 0] == UNKNOWN)
    batch = make_batch(wider, np.arange(20), settings(), np.random.default_rng(0))
    assert np.all(batch.weight[:, 0].numpy() == 0)
    assert np.all(batch.labels[:, 0].numpy() == 0)


def test_the_split_keeps_stratigraphies_together(library: Library) -> None:
    split = split_by_source(library.source, seed=1, validation_share=0.2, test_share=0.2)
    parts = [set(library.source[rows].tolist()) for rows in (split.train, split.validation, split.test)]
    assert [len(part) for part in parts] == [64, 16, 20]
    assert len(set().union(*parts)) == 100


def test_folds_cover_all_but_the_test_once() -> None:
    folds = [
        split_by_source(np.arange(50), seed=3, validation_share=0.2, test_share=0.2, fold=fold) for fold in range(5)
    ]
    held = np.concatenate([fold.validation for fold in folds])
    assert np.unique(held).size == held.size == 40
    assert all(np.array_equal(fold.test, folds[0].test) for fold in folds)


def test_a_split_without_training_data_is_refused() -> None:
    with pytest.raises(TrainingError, match="none remains for training"):
        split_by_source(np.array([0, 0, 1]), seed=0, validation_share=0.5, test_share=0.5)


def test_invisible_labels_count_neither_for_nor_against(library: Library) -> None:
    batch = make_batch(library, np.arange(100), settings(counts_min=100.0, counts_max=400.0), np.random.default_rng(0))
    assert np.array_equal(batch.weight.numpy() == 0, library.labels[:100] == 1)
    batch = make_batch(library, np.arange(100), settings(counts_min=600.0), np.random.default_rng(0))
    assert np.all(batch.weight.numpy() == 1)


def test_totals_are_log_uniform_in_their_range(library: Library) -> None:
    batch = make_batch(library, np.arange(200), settings(), np.random.default_rng(0))
    total = batch.counts.sum(dim=1).numpy()
    assert 900 < total.min() < 3e3
    assert 3e5 < total.max() < 1.01e6
    assert np.median(np.log10(total)) == pytest.approx(4.5, abs=0.3)


def test_the_papers_network_sees_no_noise(library: Library) -> None:
    batch = make_batch(library, np.arange(10), settings(kind="xu2022"), np.random.default_rng(0))
    np.testing.assert_allclose(batch.counts.sum(dim=1).numpy(), 1e5, rtol=1e-5)
    expected = library.spectra[:10].astype(float)
    np.testing.assert_allclose(batch.counts.numpy() / 1e5, expected / expected.sum(1, keepdims=True), rtol=1e-5)
    assert np.all(batch.weight.numpy() == 1)


@pytest.mark.parametrize("mean", [0.3, 5.0, 29.0, 31.0, 1000.0])
def test_poisson_has_the_mean_and_the_variance_of_its_name(mean: float) -> None:
    draws = draw_poisson(np.full(200_000, mean, dtype=np.float32), np.random.default_rng(0)).astype(float)
    assert draws.mean() == pytest.approx(mean, abs=5 * np.sqrt(mean / 2e5))
    assert draws.var() == pytest.approx(mean, rel=0.02)
    assert np.all(draws == np.rint(draws))


def test_an_epoch_shows_every_row_once_and_anew(library: Library) -> None:
    batches = Batches(library, np.arange(100), settings(), shuffle=True)
    first = [batch.counts.numpy() for batch in batches]
    again = [batch.counts.numpy() for batch in batches]
    batches.epoch = 1
    other = [batch.counts.numpy() for batch in batches]
    assert len(first) == len(batches) == 4
    assert sum(map(len, first)) == 100
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_the_papers_settings_are_the_defaults_of_its_network() -> None:
    train_settings = settings(kind="xu2022", epochs=150, batch=64)
    assert (
        train_settings.learning_rate,
        train_settings.schedule,
        train_settings.test_share,
        train_settings.n_fold,
    ) == (1e-3, "constant", 0.2, 5)


def test_settings_come_from_a_file_with_paths_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "train.toml").write_text('library = "a.h5"\nout = "run"\nepochs = 3\n', encoding="utf-8")
    train_settings = load_settings(tmp_path / "train.toml")
    assert (train_settings.library, train_settings.out, train_settings.epochs) == (
        (tmp_path / "a.h5",),
        tmp_path / "run",
        3,
    )


@pytest.mark.parametrize("text", ["epoch = 3\n", "epochs = 0\n", "epochs = [\n"])
def test_settings_with_a_fault_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "train.toml").write_text(f'library = "a.h5"\nout = "run"\n{text}', encoding="utf-8")
    with pytest.raises(TrainingError, match=r"Cannot read the training settings .*train\.toml"):
        load_settings(tmp_path / "train.toml")
