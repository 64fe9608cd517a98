"""``underpaint explain``: pixel or region, groups of the network or given, words, table, JSON and picture."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from underpaint.cli import app
from underpaint.data import Scan
from underpaint.data.maps import Results
from underpaint.io import save_scan
from underpaint.physics.forward import count, emit, render
from underpaint.physics.forward.response import axis_of
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import Paint, Stratigraphy, ground_layer
from underpaint.pigments.explain import candidate_groups


def explained(scan: Path, *arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["explain", str(scan), *map(str, arguments)])


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """(2, 3) pixels of vermilion over azurite, 1e5 counts each."""
    instrument = load_instrument("elio")
    layers = (Paint({"vermilion": 1.0}).layer(20.0), Paint({"azurite": 1.0}).layer(25.0), ground_layer("chalk", 150.0))
    axis = axis_of(instrument.detector)
    expected = np.asarray(render(emit([Stratigraphy(layers)], instrument), instrument.detector, axis))[0]
    counts = count(np.tile(expected / expected.sum() * 1e5, (2, 3, 1)), rng=np.random.default_rng(6))
    path = tmp_path_factory.mktemp("painted") / "panel.h5"
    save_scan(Scan(counts, axis=axis, name="panel"), path)
    return path


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    names, kinds = ("mercury_red", "copper_green_blue", "vermilion", "azurite"), ("group", "group", "member", "member")
    groups = (("mercury_red",), ("copper_green_blue",), ("mercury_red",), ("copper_green_blue",))
    values = np.asarray([[[0.99, 0.9, 0.8, 0.7]]], np.float32)
    results = Results.of_pigments(names, values, kinds=kinds, groups=groups, labels=names, elements=((),) * 4)
    monkeypatch.setattr(candidate_groups, "identify", lambda *_, **__: results)


@pytest.mark.usefixtures("network", "short_explanation")
def test_a_region_is_explained_from_the_network_with_words_table_and_picture(painted: Path) -> None:
    Path("region.csv").write_text("row,column\n0,0\n0,1\n1,2\n")
    result = explained(painted, "--region", "region.csv", "--no-calibrate", "--out-figure", "spot.png")
    assert result.exit_code == 0, result.output
    assert result.stdout.lstrip().startswith("- ")
    assert result.stdout.index("Thickness of the top layer (mercury red") < result.stdout.index("region of 3 pixels")
    for part in ("thickness, 90 %", "range", "The network's probabilities: mercury red 0.99", "Wrote"):
        assert part in result.stdout
    assert Path("spot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("short_explanation")
def test_an_explanation_of_given_pigments_as_json(painted: Path) -> None:
    result = explained(painted, "--pixel", "1,2", "--pigments", "vermilion, azurite", "--no-calibrate", "--json")
    assert result.exit_code == 0, result.output
    explanation = json.loads(result.stdout)
    assert explanation["describes"]
    assert explanation["network"] is None
    assert set(explanation["groups"]) == {"mercury_red", "copper_green_blue"}
    (order,) = explanation["order"]
    assert (order["above"], order["below"]) == ("mercury_red", "copper_green_blue")
    thickness = explanation["layers"][0]["thickness_um"]
    assert thickness["determined"] or thickness["reason"]
    assert explanation["words"]
    assert Path("spot.png").exists() is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give either --pixel"),
        (["--pixel", "0,0", "--region", "r.csv"], "give either --pixel"),
        (["--pixel", "0;0"], "--pixel 12,40"),
        (["--pixel", "0,3"], "columns 0 to 2"),
        (["--region", "absent.png"], "no such file"),
        (["--pixel", "0,0", "--pigments", "vermilon"], "No pigment is called 'vermilon'"),
        (["--pixel", "0,0", "--ground", "plaster"], "No ground is called 'plaster'"),
        (["--pixel", "0,0", "--instrument", "nonsense"], "nonsense"),
        (["--pixel", "0,0", "--model", "nonsense", "--no-calibrate"], "Cannot open model 'nonsense'"),
    ],
)
def test_a_spot_that_cannot_be_explained_is_a_message(painted: Path, arguments: list[str], words: str) -> None:
    result = explained(painted, *arguments)
    assert result.exit_code == 1
    assert words in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
