"""Networks that answer by place, with quantities, told about the instrument."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm

from underpaint.data import DEFAULT_NETWORK_AXIS, Scan
from underpaint.data.maps import SURFACE_UM, at_place, from_unbounded, share_of, to_unbounded
from underpaint.errors import TrainingError
from underpaint.lab.networks import LayersNetwork
from underpaint.lab.training import (
    FinetuneSettings,
    Library,
    TrainSettings,
    export,
    finetune,
    load_library,
    load_trainable,
    train,
)
from underpaint.lab.training.batches import Batches
from underpaint.lab.training.checkpoint import ELEMENTS, composition
from underpaint.lab.training.module import excess_loss, quantity_loss, run_network
from underpaint.pigments.predict import identify
from underpaint.pigments.predict.model import open_model
from underpaint.pigments.weights import LayersKind
from underpaint.simulate import LibrarySettings, simulate_library

PALETTE = ("vermilion", "lead_white", "azurite", "zinc_white", "chalk")
WITHOUT_A_WAY_BACK = ("layers_recurrent", "layers_composition")
"""The exporter computes with their weights, so that they are not in the file: trained further from a checkpoint."""
KINDS: tuple[LayersKind, ...] = ("layers", "layers_dense", "layers_recurrent", "layers_composition")


@pytest.fixture(scope="module")
def with_places(tmp_path_factory: pytest.TempPathFactory) -> Library:
    out = tmp_path_factory.mktemp("layers") / "library.h5"
    settings = LibrarySettings(palette=PALETTE, n_stratigraphies=48, renders=2, chunk=16, seed=1, places=True)
    return load_library(simulate_library(settings, out, workers=1))


def settings_of(kind: LayersKind, out: Path, *, epochs: int = 1) -> TrainSettings:
    return TrainSettings(
        library=(Path("library"),), out=out, kind=kind, name=kind, epochs=epochs, batch=16, threads=1,
        validation_share=0.2, precision="32", progress=False, counts_min=1e5,
    )  # fmt: skip


def test_quantities_have_no_bounds_on_their_scales() -> None:
    um, share = np.array([0.1, 30.0, 500.0]), np.array([0.002, 0.3, 0.998])
    np.testing.assert_allclose(from_unbounded(SURFACE_UM, to_unbounded(SURFACE_UM, um)), um, rtol=1e-5)
    np.testing.assert_allclose(
        from_unbounded(share_of("chalk"), to_unbounded(share_of("chalk"), share)), share, rtol=1e-5
    )
    assert np.isfinite(to_unbounded(share_of("chalk"), np.array([0.0, 1.0]))).all()
    assert np.isnan(to_unbounded(SURFACE_UM, np.array([np.nan]))).all()


def test_composition_is_that_of_the_formula() -> None:
    table = composition(["vermilion", "mercury_red"])
    mercury = ELEMENTS.index("Hg")
    assert table[0, mercury] ** 2 == pytest.approx(200.59 / (200.59 + 32.06), rel=1e-3)
    assert (table[0, -1], table[1, -1], table[1, mercury]) == (0.0, 1.0, 1.0)


def test_a_quantity_counts_by_the_normal_distribution_where_it_is_known() -> None:
    mean, sigma = torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, 0.5]])
    truth = torch.tensor([[1.0, torch.nan]])
    expected = -norm.logpdf(1.0, loc=0.0, scale=2.0) - 0.5 * np.log(2 * np.pi)
    assert float(quantity_loss(mean, sigma, truth)) == pytest.approx(expected, rel=1e-6)
    assert float(quantity_loss(mean, sigma, torch.full_like(truth, torch.nan))) == 0.0


def test_batches_ask_for_what_can_be_seen(with_places: Library, tmp_path: Path) -> None:
    batches = Batches(with_places, np.arange(len(with_places)), settings_of("layers", tmp_path), shuffle=True)
    conditions, anode = [], [name.startswith("anode_") for name in with_places.instrument_inputs]
    for batch in batches:
        for column, name in enumerate(with_places.quantity_names[1:], start=1):
            label = with_places.names.index(at_place(name.removeprefix("share."), "surface"))
            visible = (batch.labels[:, label] == 1) & (batch.weight[:, label] == 1)
            torch.testing.assert_close(~torch.isnan(batch.quantity[:, column]), visible)
        assert not torch.isnan(batch.quantity[:, 0]).any()
        unknown = torch.isnan(batch.instrument).numpy()[:, anode]
        assert (unknown.all(axis=1) | ~unknown.any(axis=1)).all()
        conditions.append(~torch.isnan(batch.instrument))
    share = torch.cat(conditions).float().mean()
    assert 0.55 < float(share) < 0.8  # 0.75 * 0.9 expected, 96 spectra


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind == "layers" else pytest.mark.slow) for kind in KINDS]
)
def test_each_kind_trains_and_answers_alike_from_its_file(
    kind: LayersKind, with_places: Library, tmp_path: Path
) -> None:
    trained = train(settings_of(kind, tmp_path / "run"), with_places).trained_model
    model = open_model(export(trained.network, trained.card, tmp_path), threads=1)
    counts, recorded = with_places.spectra[:3].astype(np.float32) * 1e5, with_places.recorded[:3]
    assert with_places.instrument is not None
    conditions = with_places.instrument[0]
    for instrument in (conditions, None):
        log_odds, probability, quantity, sigma = model(counts, recorded, instrument)
        assert log_odds.shape == probability.shape == (3, len(with_places.names))
        assert quantity.shape == sigma.shape == (3, 1 + len(with_places.names) // 3)
        assert (sigma > 0).all()
    maps = identify(_scan(counts), model)
    assert tuple(at_place(*key) for key in maps.named_places) == with_places.names
    if kind in WITHOUT_A_WAY_BACK:
        with pytest.raises(TrainingError, match="no weights of the right size"):
            load_trainable(tmp_path / f"{kind}.onnx")
        return
    again = load_trainable(tmp_path / f"{kind}.onnx")
    batch = next(iter(Batches(with_places, np.arange(4), settings_of(kind, tmp_path), shuffle=False)))
    with torch.inference_mode():
        for first, second in zip(run_network(trained.network, batch), run_network(again.network, batch), strict=True):
            torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4)


def test_a_second_training_begins_where_the_first_ended(with_places: Library, tmp_path: Path) -> None:
    first = train(settings_of("layers_dense", tmp_path / "first"), with_places)
    settings = settings_of("layers_dense", tmp_path / "second").model_copy(
        update={"start": first.checkpoint, "learning_rate": 1e-12}
    )
    second = train(settings, with_places)
    after, before = (each.trained_model.network.state_dict() for each in (second, first))
    torch.testing.assert_close(after["quantity.weight"], before["quantity.weight"])
    assert second.trained_model.card.training.config["start"] == "best.ckpt"


def test_instrument_conditions_change_the_answers(with_places: Library, tmp_path: Path) -> None:
    network = train(settings_of("layers", tmp_path / "run"), with_places).trained_model.network
    batch = next(iter(Batches(with_places, np.arange(4), settings_of("layers", tmp_path), shuffle=False)))
    with torch.inference_mode():
        known = run_network(network, batch._replace(instrument=torch.zeros_like(batch.instrument)))[0]
        unknown = run_network(network, batch._replace(instrument=torch.full_like(batch.instrument, torch.nan)))[0]
    assert not torch.allclose(known, unknown)


def test_a_composition_outside_the_training_can_be_answered(with_places: Library, tmp_path: Path) -> None:
    network = train(settings_of("layers_composition", tmp_path / "run"), with_places).trained_model.network
    assert isinstance(network, LayersNetwork)
    batch = next(iter(Batches(with_places, np.arange(4), settings_of("layers", tmp_path), shuffle=False)))
    with torch.inference_mode():
        before = run_network(network, batch)[0].reshape(4, 3, -1)
        network.composition = torch.cat((network.composition, torch.from_numpy(composition(["malachite"]))))
        after = run_network(network, batch)[0].reshape(4, 3, -1)
    assert after.shape[2] == before.shape[2] + 1
    torch.testing.assert_close(after[:, :, :-1], before)


def test_a_library_without_places_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "plain.h5"
    simulate_library(LibrarySettings(palette=PALETTE, n_stratigraphies=4, renders=1, chunk=4), out, workers=1)
    with pytest.raises(TrainingError, match="places = true"):
        train(settings_of("layers", tmp_path / "run"), load_library(out))


def _scan(counts: np.ndarray) -> Scan:
    return Scan(np.rint(counts)[None].astype(np.uint32), axis=DEFAULT_NETWORK_AXIS, name="toy")


def test_log_odds_of_a_visible_group_grow_with_what_shows_it(with_places: Library, tmp_path: Path) -> None:
    rows = np.arange(len(with_places))
    batch = next(iter(Batches(with_places, rows, settings_of("layers", tmp_path), shuffle=False)))
    assert batch.log_counts_over_needed is not None
    known = ~torch.isnan(batch.log_counts_over_needed)
    groups = torch.tensor([kind == "group" and "." not in name for name, kind in _named(with_places)])
    torch.testing.assert_close(known, (batch.labels * batch.weight > 0) & groups)
    assert (batch.log_counts_over_needed[known] >= 0).all()  # none is asked for that cannot be seen
    expected = 2.0 + 1.5 * torch.nan_to_num(batch.log_counts_over_needed)
    assert float(excess_loss(expected, batch.log_counts_over_needed)) == pytest.approx(0.0, abs=1e-9)
    assert float(excess_loss(expected + 10.0, batch.log_counts_over_needed)) == pytest.approx(
        8.0
    )  # linear far off: |10| - 4 / 2
    assert float(excess_loss(expected, torch.full_like(expected, torch.nan))) == 0.0


def _named(library: Library) -> list[tuple[str, str]]:
    return list(zip(library.names, library.kinds, strict=True))


def test_spectra_without_places_and_instrument_fine_tune_a_network_of_layers(
    with_places: Library, tmp_path: Path
) -> None:
    trained = train(settings_of("layers_dense", tmp_path / "run"), with_places).trained_model
    anywhere = [index for index, name in enumerate(with_places.names) if "." not in name]
    plain = replace(
        with_places, instrument=None, quantities=None, instrument_inputs=(), quantity_names=(),
        names=tuple(with_places.names[index] for index in anywhere),
        kinds=tuple(with_places.kinds[index] for index in anywhere),
        groups=tuple(with_places.groups[index] for index in anywhere),
        labels_for_people=tuple(with_places.labels_for_people[index] for index in anywhere),
        elements=tuple(with_places.elements[index] for index in anywhere), labels=with_places.labels[:, anywhere],
        counts_needed=with_places.counts_needed[:, anywhere],
    )  # fmt: skip
    settings = FinetuneSettings(
        library=(Path("library"),), out=tmp_path / "tuned", epochs=1, dense_epochs=1, batch=16, progress=False,
        precision="32", threads=1, counts_min=1e5, counts_max=1e5, test_share=0.5,
    )  # fmt: skip
    worse = finetune(trained, settings.model_copy(update={"learning_rate": 10.0, "out": tmp_path / "worse"}), plain)
    assert worse.chosen_network == "before"
    assert worse.trained_model.card == trained.card
    weak_settings = settings_of("layers_dense", tmp_path / "weak").model_copy(update={"learning_rate": 1e-6})
    report = finetune(train(weak_settings, with_places).trained_model, settings, plain)
    assert report.trained_model.card.names == with_places.names
    assert report.chosen_network != "before"
    assert report.trained_model.card.sets is None  # nothing was held out that could state a coverage
    assert np.isfinite(report.second_step.validation_loss)
