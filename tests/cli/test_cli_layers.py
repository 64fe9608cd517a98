"""From a scan to layers through the real command line, by a network that always says vermilion over lead."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from underpaint.cli import app
from underpaint.data import DEFAULT_NETWORK_AXIS, EnergyAxis, Scan
from underpaint.data.maps import SURFACE_UM, share_of
from underpaint.display.report import write_report
from underpaint.io import read_results, save_scan
from underpaint.lab.networks import LayersNetwork
from underpaint.lab.training import export
from underpaint.lab.training.checkpoint import composition
from underpaint.physics.atomic import family_lines
from underpaint.physics.instrument import load_instrument
from underpaint.pigments.limits.members import OUT_OF_USE_WEIGHT
from underpaint.pigments.predict.order import ORDER_TEXTS, order_map
from underpaint.pigments.weights import ModelAxis, ModelCard
from underpaint.simulate import outputs_for
from underpaint.simulate.instrument_inputs import INSTRUMENT_INPUTS

PIGMENTS = ("vermilion", "calomel", "lead_white", "red_lead", "azurite")
POSITIVE_NAMES = {"mercury_red", "mercury_red.surface", "lead_pigment", "lead_pigment.below"}
THICKNESS_UM, SIGMA = 20.0, 0.3


def card() -> ModelCard:
    outputs = outputs_for(PIGMENTS)
    placed, axis = outputs.with_places(), DEFAULT_NETWORK_AXIS
    return ModelCard(
        name="toy_layers", kind="layers_dense", names=placed.names, kinds=placed.kinds, groups=placed.groups,
        labels=placed.labels, elements=placed.elements, instrument_inputs=INSTRUMENT_INPUTS,
        axis=ModelAxis(start_kev=axis.start_kev, bin_kev=axis.gain_kev, n_bin=axis.n_channel),
        narrowest_kev=(1.0, 15.0), quantities=(SURFACE_UM, *(share_of(name) for name in outputs.names)),
        composition=tuple(map(tuple, composition(outputs.names).tolist())),
    )  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of layers whose last biases alone speak."""
    model_card = card()
    network = LayersNetwork(
        model_card.axis.n_bin, torch.tensor(model_card.composition), n_instrument=len(model_card.instrument_inputs),
        n_quantity=len(model_card.quantities), start_kev=model_card.axis.start_kev, bin_kev=model_card.axis.bin_kev,
        body="dense",
    )  # fmt: skip
    head: Any = network.presence.dense
    n_quantity = len(model_card.quantities)
    with torch.no_grad():
        for layer in (head, network.quantity):
            layer.weight.zero_()
            layer.bias.zero_()
        head.bias.copy_(torch.tensor([4.0 if name in POSITIVE_NAMES else -4.0 for name in model_card.names]))
        network.quantity.bias[0] = np.log(THICKNESS_UM)
        network.quantity.bias[n_quantity] = np.log(SIGMA)
    return export(network, model_card, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def scan_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    detector = load_instrument("elio").detector
    axis = EnergyAxis(detector.gain_kev, detector.zero_kev, 2048)
    expected = 5.0 * np.exp(-axis.energy_kev / 12)
    for element, shell, area in (("Hg", "L", 3e3), ("Pb", "L", 5e3)):
        for line, share in zip(*family_lines(element, shell), strict=True):
            expected += area * share * axis.gain_kev * np.exp(-0.5 * ((axis.energy_kev - line) / 0.065) ** 2) / 0.163
    counts = np.random.default_rng(0).poisson(expected, (4, 5, 2048)).astype(np.uint32)
    counts[3, 4] = 0
    path = tmp_path_factory.mktemp("scan") / "painting.h5"
    save_scan(Scan(counts, axis, name="painting", step_mm=(1.0, 1.0)), path)
    return path


def test_a_scan_becomes_layers(model: Path, scan_file: Path, tmp_path: Path) -> None:
    palette = tmp_path / "ours.toml"
    palette.write_text('name = "ours"\nfirst = 1850\nlast = 1860\npigments = ["vermilion", "calomel", "lead white"]\n')
    arguments = ["identify", scan_file, "--model", model, "--instrument", "elio", "--palette", palette]
    done = CliRunner().invoke(
        app, [*map(str, arguments), "--no-detectability", "--json", "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    (layer,) = record["layers"]
    assert layer["text"] == "mercury red at the surface, about 20 µm (12 to 33); lead pigment below"
    maps = read_results(tmp_path / "out", lazily=False)
    instrument_inputs = maps.settings_of("pigments")["instrument_told"]
    elio = load_instrument("elio")
    assert maps.summary["settings"]["instrument_told"] == instrument_inputs
    assert instrument_inputs["anode"] == elio.tube.anode
    assert instrument_inputs["voltage_kv"] == elio.tube.voltage_kv
    np.testing.assert_allclose(maps.estimate(SURFACE_UM).value[:3], THICKNESS_UM, rtol=1e-3)
    assert np.isnan(maps.estimate(SURFACE_UM).value[3, 4])
    assert np.isnan(maps["lead_pigment"][3, 4])
    # calomel was out of use by then
    np.testing.assert_allclose(maps["vermilion"][:3], maps["mercury_red"][:3] / (1 + OUT_OF_USE_WEIGHT), rtol=1e-5)
    np.testing.assert_allclose(maps["lead_white", "below"][:3], maps["lead_pigment", "below"][:3], rtol=1e-5)
    assert "azurite" not in maps.pigments
    assert ORDER_TEXTS[int(order_map(maps, "mercury_red", "lead_pigment")[0, 0])] == "the first on top"
    assert (tmp_path / "out" / "pigments" / "lead_pigment.below.tif").is_file()
    assert not (tmp_path / "out" / "pigments" / "mercury_red.below.tif").exists()
    with h5py.File(tmp_path / "out" / "results.h5") as file:
        assert "thickness_um.surface" in file["entry/pigments/results/quantities"]
    report = write_report(tmp_path / "out", full=True).read_text("utf-8")
    assert all(
        words in report
        for words in ('id="layers"', "Order of pairs", "prior-driven", "1850 to 1860", "Instrument parameters used")
    )
