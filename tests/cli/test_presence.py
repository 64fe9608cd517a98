"""`underpaint evaluate --monte-carlo`, on panels in the files' form that our own forward model made."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from underpaint.cli import app
from underpaint.data import EnergyAxis
from underpaint.lab.evaluation import presence
from underpaint.physics.forward import efficiency, emit, render
from underpaint.physics.instrument import Detector, Geometry, Instrument
from underpaint.physics.materials import Paint, Stratigraphy, library

SAMPLES = {
    "red over chalk": ({"vermilion": 1.0}, {"chalk": 1.0}),
    "blue over lead white": ({"azurite": 1.0}, {"lead_white": 1.0}),
}
PATHS = {"detector_air_cm": 1.5, "source_air_cm": 0.0}


def write_panels(folder: Path) -> None:
    """Write two samples as ``mc_panels.json`` and ``mc_panels.npz``."""
    instrument = Instrument(
        geometry=Geometry(incidence_angle_deg=60, takeoff_angle_deg=60, scatter_angle_deg=120, **PATHS),
        detector=Detector(noise_fwhm_kev=0.07),
    )
    layers = [[Paint(dict(top)).layer(40.0), Paint(dict(below)).layer(100.0)] for top, below in SAMPLES.values()]
    emission = emit([Stratigraphy(tuple(each)) for each in layers], instrument)
    expected = np.asarray(render(emission, instrument.detector, EnergyAxis(0.01, 0.005, 4096)))
    np.savez(folder / "mc_panels.npz", conv=np.stack([1e10 * expected] * 3, axis=1))
    counts = 1e10 * emission.line_photons * efficiency(instrument.detector, emission.lines.energy_kev)
    lines = [
        [
            {"el": name.split("-")[0], "line": name.split("-")[1], "counts": float(value), "energy_keV": float(energy)}
            for name, value, energy in zip(emission.lines.name, row, emission.lines.energy_kev, strict=True)
            if value > 0
        ]
        for row in counts
    ]
    facts = {
        "samples": [
            {
                "name": name,
                "layers_from_surface": [
                    {
                        "components": dict(layer.pigments),
                        "elements": dict(layer.mass_fractions),
                        "density": layer.density,
                        "thickness_um": layer.thickness_um,
                    }
                    for layer in layers[row]
                ],
                "lines": lines[row],
            }
            for row, name in enumerate(SAMPLES)
        ],
        "materials": {
            name: {"formula": dict(library()[name].mass_fractions)}
            for name in ("vermilion", "chalk", "azurite", "lead_white")
        },
        "tube": {"anode": "Rh", "kV": 40},
        "geometry": {"take_in_deg": 60.0, "take_off_deg": 60.0, "scattering_angle_deg": 120.0},
        "detector": {"gain_keV": 0.01, "zero_keV": 0.0, "air_path_cm": 1.5, "noise_fwhm_keV": 0.07, "fano": 0.114},
    }
    (folder / "mc_panels.json").write_text(json.dumps(facts), encoding="utf-8")


def test_presence_is_scored_beside_the_rule_that_needs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "SCORED_COUNTS", (1e5,))
    write_panels(tmp_path)
    file = tmp_path / "presence.json"
    result = CliRunner().invoke(app, ["evaluate", "--monte-carlo", str(tmp_path), str(tmp_path), "--json", str(file)])
    assert result.exit_code == 0, result.output
    record = json.loads(file.read_text("utf-8"))
    assert record["about"]["samples"] == 4
    assert set(record) == {
        "about",
        "model",
        "with_evidence",
        "line_over_5_sigma",
        "always_yes",
    }  # the shipped one is the model
    model, rule, always = (record[method]["1e5"] for method in ("model", "line_over_5_sigma", "always_yes"))
    assert model["exact_sets"] > 0.9
    assert model["present_missed_over_10_sigma"] == 0
    assert (rule["false_claims"], rule["exact_sets"]) == (0, 1.0)
    assert always["false_share"] == 1.0
    assert 0 <= model["below_f1"] <= 1
    assert "Monte Carlo panels" in result.output


def test_folders_alone_are_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", str(tmp_path)])
    assert result.exit_code != 0
    assert "--monte-carlo" in result.output
