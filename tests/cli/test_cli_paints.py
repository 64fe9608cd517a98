"""The command ``paints``: areas and legend from a folder of results."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from underpaint import io
from underpaint.cli import app
from underpaint.data.maps import Results


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Results of two paints of 300 and 100 pixels of 4 mm2."""
    level = np.full((20, 20, 2), 400.0)
    level[:, 15:, 0] = 2500.0
    counts = np.random.default_rng(0).poisson(level).astype(np.float32)
    place = tmp_path / "results"
    io.write_results(
        place, Results.of_lines(("Fe_K", "Pb_L"), counts, np.sqrt(np.maximum(counts, 1.0)), step_mm=(2.0, 2.0))
    )
    return place


def test_paints_are_listed_written_and_reported(folder: Path) -> None:
    done = CliRunner().invoke(app, ["paints", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    areas = json.loads(done.stdout)["paints"]
    assert [area["number"] for area in areas] == [1, 2]
    assert [area["n_pixel"] for area in areas] == pytest.approx([300, 100], abs=4)
    assert areas[1]["area_mm2"] == pytest.approx(400.0, rel=0.05)
    assert areas[1]["lines"]["Fe_K"] == pytest.approx(2500.0, rel=0.05)
    page = (folder / "report.html").read_text("utf-8")
    assert "The paints" in page
    assert page.count("in the picture, with all other pixels faded") == 2
    table = (folder / "paints.csv").read_text("utf-8").splitlines()
    assert table[0].startswith("paint,pixels,share_percent,area_mm2")
    assert len(table) == 3


def test_layers_need_the_scan_and_numbers(folder: Path) -> None:
    done = CliRunner().invoke(app, ["paints", str(folder), "--explain", "one"])
    assert done.exit_code == 2
    assert "--explain 'one' names no paints" in done.output.replace("\n", " ")
    assert CliRunner().invoke(app, ["paints", str(folder), "--explain", "all"]).exit_code == 1
    assert not (folder / "paints.csv").exists()


def test_what_another_method_has_shown_is_listed_as_such(folder: Path) -> None:
    """In the list, in JSON and in the table; what is no such file is refused, and changes nothing."""
    known = folder.parent / "sections.toml"
    known.write_text('[[known]]\npaint = 2\nmethod = "cross-section"\nsource = "S2"\nthickness_um = [20, 30]\n')
    listed = CliRunner().invoke(app, ["paints", str(folder), "--known", str(known)])
    assert listed.exit_code == 0, listed.output
    assert "paint 2: Given by another method" in " ".join(listed.output.split())
    done = CliRunner().invoke(app, ["paints", str(folder), "--known", str(known), "--json"])
    first, second = json.loads(done.stdout)["paints"]
    assert first["known"] == ""
    assert "20 to 30 um thick (cross-section; S2)" in second["known"]
    assert "not a result of this program" in (folder / "paints.csv").read_text("utf-8")
    before = (folder / "paints.csv").read_bytes()
    known.write_text("[[known]]\npaint = 2\n")
    refused = CliRunner().invoke(app, ["paints", str(folder), "--known", str(known)])
    assert refused.exit_code == 1
    assert "known.0.method" in refused.output
    assert (folder / "paints.csv").read_bytes() == before
