"""Places, quantities and the instrument told, by a hand-made network: its thickness is the voltage that it was told."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from underpaint.data import EnergyAxis, Scan
from underpaint.data.maps import PLACES, SURFACE_UM, at_place, share_of
from underpaint.pigments.predict import identify
from underpaint.pigments.weights import ModelAxis, ModelCard
from underpaint.simulate.instrument_inputs import InstrumentConditions

AXIS = EnergyAxis(gain_kev=0.1, zero_kev=1.05, n_channel=20)
MATERIALS = {"mercury": "group", "lead": "group", "vermilion": "member", "lead_white": "member"}
GROUPS = {"mercury": "mercury", "vermilion": "mercury", "lead": "lead", "lead_white": "lead"}
NAMES = tuple(at_place(name, place) for place in PLACES for name in MATERIALS)
INPUTS = ("anode_Rh", "voltage_kv", "of_tomorrow")


def placed_card() -> ModelCard:
    return ModelCard(
        name="toy", axis=ModelAxis(start_kev=1.0, bin_kev=0.1, n_bin=20), names=NAMES, labels=NAMES,
        kinds=tuple(kind for _ in PLACES for kind in MATERIALS.values()),
        groups=tuple((at_place(GROUPS[name], place),) for place in PLACES for name in MATERIALS),
        elements=((),) * len(NAMES), instrument_inputs=INPUTS, quantities=(SURFACE_UM, *map(share_of, MATERIALS)),
    )  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    card, n_name = placed_card(), len(NAMES)
    n_quantity = len(card.quantities)
    weight = np.zeros((20, n_name), np.float32)
    weight[np.arange(n_name), np.arange(n_name)] = 1.0
    inputs = np.zeros((len(INPUTS), n_quantity), np.float32)
    inputs[1] = 1.0
    no_inputs = np.zeros((20, n_quantity), np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["counts", "weight"], ["log_odds"]),
            helper.make_node("Sigmoid", ["log_odds"], ["probability"]),
            helper.make_node("IsNaN", ["instrument"], ["unknown"]),
            helper.make_node("Where", ["unknown", "minus", "instrument"], ["known"]),
            helper.make_node("MatMul", ["known", "told"], ["quantity"]),
            helper.make_node("MatMul", ["counts", "nothing"], ["none"]),
            helper.make_node("Exp", ["none"], ["sigma"]),
        ],
        "toy",
        [
            helper.make_tensor_value_info("counts", TensorProto.FLOAT, ["n", 20]),
            helper.make_tensor_value_info("instrument", TensorProto.FLOAT, ["n", len(INPUTS)]),
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
            for name, size in zip(card.output_names, (n_name, n_name, n_quantity, n_quantity), strict=True)
        ],
        [
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(inputs, "told"),
            numpy_helper.from_array(no_inputs, "nothing"),
            numpy_helper.from_array(np.asarray([-1.0], np.float32), "minus"),
        ],
    )
    path = tmp_path / "toy.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    card.write(path.with_suffix(".json"))
    return path


def toy_scan() -> Scan:
    counts = np.random.default_rng(0).poisson(2.0, (3, 4, 20)) + 1
    counts[1, 2] = 0
    return Scan(counts, AXIS)


def test_known_instrument_values_are_passed_by_name_and_unknown_ones_are_not(model: Path) -> None:
    known = InstrumentConditions(anode="Rh", voltage_kv=40.0)
    maps = identify(toy_scan(), model, instrument=known)
    assert maps.estimate(SURFACE_UM).value[0, 0] == pytest.approx(np.exp(40.0 / 50.0), rel=1e-5)
    assert maps.settings_of("pigments")["instrument_told"] == known.facts()
    untold = identify(toy_scan(), model)
    assert untold.estimate(SURFACE_UM).value[0, 0] == pytest.approx(np.exp(-1.0), rel=1e-5)
    assert set(untold.settings_of("pigments")["instrument_told"].values()) == {None}


def test_places_and_quantities_are_those_of_the_network(model: Path) -> None:
    scan = toy_scan()
    maps, counts = identify(scan, model), np.asarray(scan.counts)
    assert maps.places == PLACES
    indices = [NAMES.index("lead"), NAMES.index("lead.below")]
    by_place = 1 / (1 + np.exp(-counts[:, :, indices].astype(float)))
    expected = by_place.min(axis=2)  # a group is below no more probably than anywhere
    assert (by_place[..., 1] > by_place[..., 0]).any()
    expected[1, 2] = np.nan
    np.testing.assert_allclose(maps["lead", "below"], expected, rtol=1e-5)
    quantities = maps.stacks["quantity"]
    assert quantities.keys == ((SURFACE_UM,), ("share.mercury",), ("share.lead",))
    assert np.isnan(quantities.values[1, 2]).all()
    assert quantities.values[0, 0, 1] == pytest.approx(1 / (1 + np.e), rel=1e-5)


def test_a_palette_keeps_its_pigments_at_every_place(model: Path) -> None:
    maps = identify(toy_scan(), model, ("vermilion",))
    assert maps.stacks["probability"].keys == tuple(
        (name, place) for place in PLACES for name in ("mercury", "vermilion")
    )
    assert maps.stacks["quantity"].keys == ((SURFACE_UM,), ("share.mercury",))
