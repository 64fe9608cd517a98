"""The page on results.h5 names all that is in the file, and tube, geometry, dwell time and object lie where it says."""

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import underpaint as up
from underpaint.data.maps import Results
from underpaint.io.results.conditions import INSTRUMENT_FIELDS

ROOT = Path(__file__).resolve().parents[2]
OLD = ROOT / "tests" / "old_files" / "0.1.0"
PAGE = (ROOT / "docs" / "reference" / "results.md").read_text(encoding="utf-8").partition("## Results: results.h5")[2]


def written(folder: Path, calibration: dict[str, Any], **facts: Any) -> Any:
    maps = np.ones((2, 3, 1), np.float32)
    summary = {"name": "panel", "settings": {"calibration": calibration}} | facts
    results = Results.of_lines(("Fe_K",), maps, maps) | Results(summary=summary)
    up.io.write_results(folder, results)
    return h5py.File(folder / "results.h5", "r")


def test_the_page_names_every_group_and_every_field(tmp_path: Path) -> None:
    instrument_fields = {path: {"value": 1.0, "origin": "given"} for path in INSTRUMENT_FIELDS}
    instrument_fields["source_spectrum"] = {"value": {"energy_kev": [20.0]}, "origin": "file"}
    up.io.write_results(tmp_path / "old", up.read_results(OLD / "default"))
    files = (
        written(tmp_path / "new", instrument_fields, live_time_s=0.1, real_time_s=0.2, detector="SDD"),
        h5py.File(tmp_path / "old" / "results.h5", "r"),
    )
    named = set(re.findall(r"[A-Za-z_0-9]+", " ".join(re.findall(r"`([^`]+)`", PAGE))))
    for file in files:
        with file:
            names: list[str] = []
            file.visit(names.append)
            # names of maps are free: under results/MAPS
            parts = {part for name in names for part in name.split("/")[: 4 if "/results/" in name else None]}
            attributes = {key for name in names for key in file[name].attrs}
        assert parts - named == set()
        assert attributes - named == set()


def test_what_is_known_of_the_instrument_is_written_with_its_origin(tmp_path: Path) -> None:
    known = {
        "tube.anode": {"value": "Rh", "origin": "spectrum"},
        "tube.voltage_kv": {"value": 40.0, "origin": "given"},
        "geometry.takeoff_angle_deg": {"value": 50.0, "origin": "given"},
    }
    with written(tmp_path, {"known": known}, live_time_s=0.25, detector="SDD 1") as file:
        instrument = file["entry/instrument"]
        assert instrument["source/target_material"].asstr()[()] == "Rh"
        assert instrument["source/target_material"].attrs["origin"] == "spectrum"
        assert instrument["source/voltage"][()] == 40.0
        assert instrument["source/voltage"].attrs["units"] == "kV"
        assert instrument["geometry/takeoff_angle"].attrs["units"] == "deg"
        assert instrument["detector/count_time"][()] == 0.25
        assert instrument["detector/description"].asstr()[()] == "SDD 1"
        assert "incidence_angle" not in instrument["geometry"]
        assert "beam" not in instrument
        assert file["entry/sample/name"].asstr()[()] == "panel"


@pytest.mark.parametrize("energies", [[20.0], [10.0, 20.0]])
def test_only_a_single_energy_is_a_monochromatic_beam(tmp_path: Path, energies: list[float]) -> None:
    known = {"source_spectrum": {"value": {"energy_kev": energies}, "origin": "file"}}
    with written(tmp_path, {"known": known}) as file:
        assert ("beam" in file["entry/instrument"]) == (len(energies) == 1)
        if len(energies) == 1:
            assert file["entry/instrument/beam/incident_energy"][()] == 20.0


def test_nothing_known_is_nothing_written(tmp_path: Path) -> None:
    with written(tmp_path, {}) as file:
        assert set(file["entry/instrument/source"]) == {"probe"}
        assert set(file["entry/instrument/detector"]) == set()
