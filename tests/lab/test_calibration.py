"""Probabilities that are kept, intervals that cover, sets of stated coverage."""

from pathlib import Path

import numpy as np
import pytest
import torch

from underpaint.data import DEFAULT_NETWORK_AXIS
from underpaint.errors import TrainingError
from underpaint.lab.networks import Calibration, DefaultNetwork, LayersNetwork
from underpaint.lab.training import (
    Library,
    TrainedNetwork,
    TrainSettings,
    calibrate_network,
    export,
    load_library,
    load_trainable,
    train,
)
from underpaint.lab.training.calibration import _set_threshold, fit_platt_scaling
from underpaint.pigments.weights import ModelAxis, ModelCard, load_card
from underpaint.simulate import LibrarySettings, simulate_library

PALETTE = ("vermilion", "lead_white", "zinc_white", "chalk")


@pytest.fixture(scope="module")
def library_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("calibration") / "library.h5"
    settings = LibrarySettings(palette=PALETTE, n_stratigraphies=64, renders=1, chunk=16, seed=3, places=True)
    return simulate_library(settings, out, workers=1)


@pytest.fixture(scope="module")
def library(library_file: Path) -> Library:
    return load_library(library_file)


def calibration_of(trained: TrainedNetwork) -> Calibration:
    assert isinstance(trained.network, LayersNetwork)
    return trained.network.calibration


def settings_in(folder: Path) -> TrainSettings:
    return TrainSettings(
        library=(Path("library"),), out=folder, kind="layers_dense", name="small", epochs=1, batch=16, threads=1,
        validation_share=0.2, precision="32", progress=False,
    )  # fmt: skip


@pytest.mark.parametrize(("sure", "moved"), [(1.0, 0.0), (3.0, 0.0), (0.5, 1.0)])
def test_platt_finds_how_sure_log_odds_should_have_been(sure: float, moved: float) -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(0.0, 2.0, 40_000)
    truth = rng.random(honest.size) < 1.0 / (1.0 + np.exp(-honest))
    scale, shift = fit_platt_scaling(sure * honest + moved, truth)
    # the statistical error of 40,000 answers is under 2 %
    assert scale == pytest.approx(1.0 / sure, rel=0.05)
    assert shift == pytest.approx(-moved / sure, abs=0.05)


def test_platt_leaves_alone_what_it_knows_nothing_about() -> None:
    assert fit_platt_scaling(np.empty(0), np.empty(0, dtype=bool)) == pytest.approx((1.0, 0.0))


def test_calibration_goes_over_linearly_between_levels_and_stays_beyond_them() -> None:
    calibration = Calibration(1, 1)
    calibration.scale[:, 0] = torch.tensor([1.0, 2.0, 4.0, 8.0])
    calibration.widen[:, 0] = torch.tensor([1.0, 3.0, 3.0, 3.0])
    ones, counts = torch.ones((5, 1)), torch.tensor([[2.0], [3.0], [3.5], [5.0], [9.0]])
    log_odds, sigma = calibration(ones, ones, counts)
    torch.testing.assert_close(log_odds[:, 0], torch.tensor([1.0, 1.0, 1.5, 4.0, 8.0]))
    torch.testing.assert_close(sigma[:, 0], torch.tensor([1.0, 1.0, 2.0, 3.0, 3.0]))


def test_a_calibrated_network_keeps_its_numbers_in_its_file(library: Library, tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "run")
    rows = np.arange(len(library))
    raw = train(settings, library).trained_model
    trained = calibrate_network(raw, library, rows, settings)
    path = export(trained.network, trained.card, tmp_path)
    again, sets = load_trainable(path), load_card(path).sets
    torch.testing.assert_close(calibration_of(again).scale, calibration_of(trained).scale)
    assert not torch.allclose(calibration_of(trained).scale, torch.ones(()))
    assert sets is not None
    assert sets == trained.card.sets
    assert all("." in name or name in library.names for name in sets.names)
    loose, strict = np.array(sets.present_from)
    assert (strict <= loose).all()  # the more they shall cover, the sooner they say "present"


def test_a_separate_library_calibrates_at_the_end_of_a_training(
    library: Library, library_file: Path, tmp_path: Path
) -> None:
    settings = settings_in(tmp_path / "run")
    few = train(settings, library).trained_model
    assert few.card.sets is None  # thirteen stratigraphies are held out here
    calibrated_network = train(
        settings.model_copy(update={"calibration": library_file}), library
    ).trained_model  # goes on: nothing to train
    assert calibrated_network.card.sets is not None
    assert not torch.allclose(calibration_of(calibrated_network).scale, torch.ones(()))


def test_training_does_not_see_the_calibration(library: Library, tmp_path: Path) -> None:
    trained = train(settings_in(tmp_path / "run"), library).trained_model
    network = trained.network
    counts, recorded = torch.full((2, library.axis.n_bin), 50.0), torch.tensor([[1.0, 41.0]] * 2)
    conditions = torch.full((2, len(library.instrument_inputs)), torch.nan)
    calibration_of(trained).shift.fill_(5.0)
    for part in network.modules():
        part.train(part is network)  # dropout and normalisation as they are when it answers
    uncalibrated = network(counts, recorded, conditions)[0]
    shifted = network.eval()(counts, recorded, conditions)[0]
    torch.testing.assert_close(shifted, uncalibrated + 5.0)


def test_a_network_without_calibration_is_refused(library: Library, tmp_path: Path) -> None:
    axis = ModelAxis(start_kev=1.0, bin_kev=0.04, n_bin=DEFAULT_NETWORK_AXIS.n_channel)
    card = ModelCard(
        name="old", axis=axis, names=("vermilion",), kinds=("member",), groups=((),), labels=("vermilion",),
        elements=((),),
    )  # fmt: skip
    with pytest.raises(TrainingError, match="has no calibration"):
        calibrate_network(
            TrainedNetwork(DefaultNetwork(axis.n_bin, 1), card), library, np.arange(4), settings_in(tmp_path)
        )


def test_sets_cover_what_they_state_in_nineteen_of_twenty_calibrations() -> None:
    rng, coverage = np.random.default_rng(5), 0.9
    reached = []
    for _ in range(400):
        threshold = _set_threshold(np.sort(rng.random(500)), coverage)
        reached.append(1.0 - threshold)  # of uniform scores, exactly
    # 5 % are allowed to fall short; 400 draws have a standard error of 1.1 %
    assert np.mean(np.asarray(reached) < coverage) < 0.05 + 3 * 0.011
    assert np.mean(reached) < coverage + 0.04
    assert _set_threshold(np.sort(rng.random(5)), coverage) < 0.0  # too few to leave any out
