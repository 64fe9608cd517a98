"""A model for one instrument and palette."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from underpaint.data import DEFAULT_NETWORK_AXIS
from underpaint.data.maps import at_place
from underpaint.errors import OutputError, TrainingError
from underpaint.lab.networks import build_network
from underpaint.lab.training import load_trainable
from underpaint.lab.training.batches import Batches
from underpaint.lab.training.calibration import calibrate_outputs
from underpaint.lab.training.checkpoint import TrainedNetwork, spec_for
from underpaint.lab.training.instrument_model import (
    InstrumentModelSettings,
    Sizes,
    measure_sizes,
    similar_instruments,
    simulate_or_read,
    train_instrument_model,
    transfer_weights,
)
from underpaint.lab.training.library import load_library
from underpaint.lab.training.paired import Answers, answers_of, compare
from underpaint.lab.training.settings import TrainSettings
from underpaint.physics.instrument import load_instrument
from underpaint.pigments.predict.model import open_model
from underpaint.pigments.weights import ModelCard
from underpaint.simulate import LibrarySettings, outputs_for
from underpaint.simulate.instrument_inputs import INSTRUMENT_INPUTS
from underpaint.simulate.library import transport_chunk

PALETTE = ("vermilion", "lead_white", "azurite", "chalk")
NEWCOMER = "orpiment"
SIZES = Sizes(n_stratigraphies=32, n_held_out=16, epochs=1)


def settings(out: Path, **changes: object) -> InstrumentModelSettings:
    given = {"instrument": load_instrument("elio"), "palette": PALETTE, "sizes": SIZES, "workers": 1, "threads": 1}
    return InstrumentModelSettings.model_validate({**given, "out": out, **changes})


def untrained(pigments: tuple[str, ...]) -> TrainedNetwork:
    """Return a default network for some pigments as it is before training."""
    outputs, axis = outputs_for(pigments), DEFAULT_NETWORK_AXIS
    card = ModelCard.model_validate(
        {
            "name": "untrained", "names": outputs.names, "kinds": outputs.kinds, "groups": outputs.groups,
            "labels": outputs.labels, "elements": outputs.elements,
            "axis": {"start_kev": axis.start_kev, "bin_kev": axis.gain_kev, "n_bin": axis.n_channel},
        }
    )  # fmt: skip
    torch.manual_seed(5)
    return TrainedNetwork(build_network(spec_for(card)).eval(), card)


def without(start: TrainedNetwork, name: str) -> ModelCard:
    columns = [index for index, each in enumerate(start.card.names) if each != name]
    fields = ("names", "kinds", "groups", "labels", "elements")
    return start.card.model_copy(
        update={field: tuple(getattr(start.card, field)[index] for index in columns) for field in fields}
    )


def test_rows_are_transferred_by_name_and_the_rest_as_it_is() -> None:
    start = untrained((*PALETTE, NEWCOMER))
    fewer = transfer_weights(start, without(start, NEWCOMER))
    assert NEWCOMER not in fewer.transferred_names
    counts = torch.full((2, start.card.axis.n_bin), 3.0)
    recorded = torch.tensor([[1.0, 41.0]] * 2)
    columns = [index for index, name in enumerate(start.card.names) if name != NEWCOMER]
    with torch.inference_mode():
        torch.testing.assert_close(fewer.network(counts, recorded), start.network(counts, recorded)[:, columns])
    again = transfer_weights(TrainedNetwork(fewer.network, without(start, NEWCOMER)), start.card)
    assert again.new_names == (NEWCOMER,)
    with torch.inference_mode():
        torch.testing.assert_close(
            again.network(counts, recorded)[:, columns], start.network(counts, recorded)[:, columns]
        )


def test_rows_by_place_are_taken_over_and_calibrations_are_not() -> None:
    materials = ("copper_blue", "azurite", "chalk")
    cards = [layers_card(names) for names in (materials, materials[1:])]
    network = build_network(spec_for(cards[0]))
    for name, buffer in network.named_buffers():
        if name.startswith("calibration."):
            buffer.fill_(7.0)
    weights = transfer_weights(TrainedNetwork(network.eval(), cards[0]), cards[1]).network.state_dict()
    rows = [cards[0].names.index(name) for name in cards[1].names]
    torch.testing.assert_close(weights["presence.dense.weight"], network.state_dict()["presence.dense.weight"][rows])
    torch.testing.assert_close(weights["linear.bias"], network.state_dict()["linear.bias"][rows])
    means_and_deviations = [0, 2, 3, 4, 6, 7]
    torch.testing.assert_close(
        weights["quantity.weight"], network.state_dict()["quantity.weight"][means_and_deviations]
    )
    assert not any((value == 7).all() for name, value in weights.items() if name.startswith("calibration."))


def layers_card(materials: tuple[str, ...]) -> ModelCard:
    names = tuple(at_place(name, place) for place in ("anywhere", "surface", "below") for name in materials)
    n = len(names)
    return ModelCard.model_validate(
        {
            "name": "toy", "kind": "layers", "axis": {"start_kev": 1.0, "bin_kev": 0.04, "n_bin": 64},
            "names": names, "kinds": ("member",) * n, "groups": (("toy",),) * n, "labels": names,
            "elements": (("Cu_K",),) * n, "instrument_inputs": INSTRUMENT_INPUTS,
            "quantities": ("thickness_um.surface", *(f"share.{name}" for name in materials)),
            "composition": ((0.5, 0.5),) * len(materials),
        }
    )  # fmt: skip


def test_answers_are_calibrated_in_their_rows(tmp_path: Path) -> None:
    start = untrained(PALETTE)
    job = LibrarySettings(palette=PALETTE, instrument=load_instrument("elio"), n_stratigraphies=32, chunk=32, renders=1)
    library = simulate_or_read(job, tmp_path / "library.h5", 1, lambda *_: None)
    level = TrainSettings(library=(tmp_path,), out=tmp_path, counts_min=1e4, counts_max=1e5)
    calibrated_model = calibrate_outputs(start, library, np.arange(len(library)), level)
    before, after = (answers_of(each.network, each.card.names, library, level) for each in (start, calibrated_model))
    assert after.loss() < before.loss()
    order = [np.argsort(np.argsort(each.log_odds[:, 0])) for each in (before, after)]
    assert (order[0] == order[1]).all()


def test_another_kind_cannot_begin() -> None:
    start = untrained(PALETTE)
    with pytest.raises(TrainingError, match="its kind, axis, instrument_inputs differ"):
        transfer_weights(start, layers_card(("azurite",)))


def test_machines_of_a_kind_take_turns() -> None:
    machines = similar_instruments(load_instrument("elio"), 2, seed=3)
    job = LibrarySettings(palette=PALETTE, instrument=machines, n_stratigraphies=6, chunk=2)
    assert [transport_chunk(job, index).instrument for index in range(3)] == [*machines, machines[0]]
    assert machines[0].geometry != machines[1].geometry
    assert machines[0].tube == load_instrument("elio").tube


def toy_answers(log_odds: np.ndarray) -> Answers:
    labels = np.tile(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), (len(log_odds) // 2, 1))
    return Answers(("a", "b"), log_odds, labels, np.ones_like(labels), np.arange(len(labels)) // 2)


def test_a_difference_is_one_beyond_its_noise() -> None:
    right = np.tile(np.array([[1.0, -1.0], [-1.0, 1.0]], np.float32), (100, 1))
    flawed = right.copy()
    flawed[:60] *= -1
    comparison = compare(toy_answers(flawed), toy_answers(right))
    assert comparison.after == 1.0
    assert comparison.before == pytest.approx(0.7)
    # 100 stratigraphies, three in ten wrong: a binomial's standard deviation
    assert comparison.standard_error == pytest.approx(np.sqrt(0.3 * 0.7 / 100), rel=0.2)
    assert comparison.is_better
    assert not compare(toy_answers(right), toy_answers(flawed)).is_better
    same = compare(toy_answers(flawed), toy_answers(flawed))
    assert (same.gain, same.is_better) == (0.0, False)


def test_an_interrupted_model_goes_on_to_one_that_identify_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*anything: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("underpaint.lab.training.instrument_model.run_training", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_instrument_model(settings(tmp_path))
    before = (tmp_path / "training.h5").stat().st_mtime_ns
    with pytest.raises(OutputError, match="other settings: palette"):
        train_instrument_model(settings(tmp_path, palette=PALETTE[:2]))
    report = train_instrument_model(settings(tmp_path, sizes=None))  # the folder knows its sizes
    assert (report.model, report.sizes) == (tmp_path / "own.onnx", SIZES)
    assert (tmp_path / "training.h5").stat().st_mtime_ns == before
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["sizes"] == SIZES.model_dump()
    model = open_model(report.model, threads=1)
    assert set(PALETTE) < set(model.card.names)
    assert "Trained only for the instrument 'elio' and a palette of 4 pigments" in model.card.limits[0]
    figures = model.card.figures["own_model"]["against_start"]
    assert set(figures) == {f"{kind} at {n}" for kind in ("groups", "pigments") for n in ("1e+04", "1e+05")}
    assert figures["groups at 1e+05"]["after"] > 0.5
    held_out = load_library(tmp_path / "held_out.h5")
    assert len(held_out) == 2 * SIZES.n_held_out
    batch = next(iter(Batches(held_out, np.arange(4), TrainSettings(library=(tmp_path,), out=tmp_path), shuffle=False)))
    assert model(batch.counts.numpy(), batch.recorded_kev.numpy())[0].shape == (4, len(model.card.names))


def test_sizes_grow_with_the_minutes() -> None:
    job = LibrarySettings(palette=PALETTE, instrument=load_instrument("elio"))
    start = load_trainable("default")
    few, many = (measure_sizes(job, start, minutes, 1, 1) for minutes in (0.01, 1e4))
    assert (few.n_stratigraphies, few.epochs) == (512, 4)
    assert (many.n_stratigraphies, many.n_held_out) == (60_000, 2000)


def test_a_palette_that_no_x_rays_show_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="XRF can detect none of these pigments"):
        train_instrument_model(settings(tmp_path, palette=("carbon_black",)))


def test_a_finished_library_is_not_simulated_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = LibrarySettings(palette=PALETTE, instrument=load_instrument("elio"), n_stratigraphies=2, renders=1, chunk=2)
    simulate_or_read(job, tmp_path / "one.h5", 1, lambda *_: None)
    monkeypatch.setattr("underpaint.lab.training.instrument_model.simulate_library", None)
    assert len(simulate_or_read(job, tmp_path / "one.h5", 1, lambda *_: None)) == 2
