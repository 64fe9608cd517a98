"""``underpaint simulate`` from its command line: jobs, photons, explanations, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from underpaint.cli import app
from underpaint.io import load
from underpaint.physics.instrument import (
    Detector,
    Geometry,
    Instrument,
    SourceSpectrum,
    load_instrument,
    save_instrument,
)

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TWO_PAINTS = EXAMPLES / "two_paints.toml"
SMALL = 'kind = "random"\nn_stratigraphies = 6\nrenders = 1\nchunk = 3\nseed = 2\n'
COPPER = "elements = { Cu = 1.0 }\ndensity = 8.9\nthickness_um = 5"


def simulate(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["simulate", *(str(argument) for argument in arguments)])


def job(folder: Path, layer: str, head: str = "") -> Path:
    path = folder / "job.toml"
    path.write_text(f"{head}\n[[stratigraphy]]\n[[stratigraphy.layer]]\n{layer}\n")
    return path


def output_text(result: Any) -> str:
    return " ".join(result.output.split())


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ("elements = { Cu = 0.9, Sn = 0.2 }\ndensity = 8.8\nthickness_um = 5", "sum to 1.1; they must sum to 1 within"),
        ("elements = { Cu = 0.9, Sn = 0.100002 }\ndensity = 8.8\nthickness_um = 5", "must sum to 1 within 1e-6"),
        ("elements = { Cu = 1.1, Sn = -0.1 }\ndensity = 8.8\nthickness_um = 5", "fraction is negative"),
        ("elements = { Cu = 1.0 }\ndensity = 8.8\nthickness_um = -5.0", "greater than 0 (it is -5.0)"),
        ("elements = { Cu = 1.0 }\ndensity = 8.8\nthickness_um = nan", "thickness_um"),
        ("elements = { Cu = 1.0 }\ndensity = 0.0\nthickness_um = 5", "density: Input should be greater than 0"),
        ("elements = { Qq = 1.0 }\ndensity = 8.8\nthickness_um = 5", "No element has the symbol 'Qq'"),
        ("elements = { Fm = 1.0 }\ndensity = 8.8\nthickness_um = 5", "Cannot simulate Fm: the tables"),
        ("pigments = { unobtainium_blue = 1.0 }\nthickness_um = 5", "unobtainium_blue"),
        ("elements = { C = 0.9, H = 0.1 }\ndensity = 1.0\nthickness_um = 5", "below every edge"),
    ],
)
def test_a_layer_that_cannot_be_is_refused_with_the_reason(tmp_path: Path, layer: str, reason: str) -> None:
    result = simulate(job(tmp_path, layer), "--out", tmp_path / "out.h5", "--quiet")
    assert result.exit_code == 1, result.output
    assert reason in output_text(result)
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize("text", ["stratigraphy = []\n", "[[stratigraphy]]\nlayer = []\n", "n_stratigraphies = 0\n"])
def test_an_empty_batch_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.toml").write_text(text)
    result = simulate(tmp_path / "job.toml", "--out", tmp_path / "out.h5", "--quiet")
    assert result.exit_code == 1
    assert "at least 1" in output_text(result) or "greater than or equal to 1" in output_text(result)


def test_a_job_that_says_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text("# nothing yet\n")
    result = simulate(tmp_path / "job.toml", "--out", tmp_path / "out.h5", "--quiet")
    assert result.exit_code == 1
    assert "the file is empty" in output_text(result)


@pytest.mark.parametrize("palette", ["[]", '["carbon_black"]'])
def test_a_palette_without_lines_is_refused(tmp_path: Path, palette: str) -> None:
    (tmp_path / "job.toml").write_text(f"palette = {palette}\nn_stratigraphies = 2\n")
    result = simulate(tmp_path / "job.toml", "--out", tmp_path / "out.h5", "--quiet")
    assert result.exit_code == 1
    assert "no pigment of the palette has a detectable line" in output_text(result)


@pytest.mark.parametrize("angle", ["incidence_angle_deg = -10", "takeoff_angle_deg = 95", "scatter_angle_deg = 181"])
def test_angles_out_of_range_are_refused(tmp_path: Path, angle: str) -> None:
    (tmp_path / "mine.toml").write_text(f"[geometry]\n{angle}\n")
    config = job(tmp_path, COPPER, f'instrument = "{tmp_path / "mine.toml"}"')
    result = simulate(config, "--out", tmp_path / "out.h5", "--quiet")
    assert result.exit_code == 1
    assert angle.split(maxsplit=1)[0] in output_text(result)


def test_an_angle_out_of_range_in_the_job_itself_is_refused(tmp_path: Path) -> None:
    config = job(tmp_path, COPPER, "[instrument.geometry]\ntakeoff_angle_deg = 0")
    result = simulate(config, "--out", tmp_path / "out.h5", "--quiet")
    assert result.exit_code == 1
    assert "takeoff_angle_deg: Input should be greater than 0 (it is 0)" in output_text(result)


def test_a_fault_in_a_table_is_reported_once(tmp_path: Path) -> None:
    """Not that the table is no name of a preset, nor that lists are too short without their faulty entries."""
    head = "[instrument.geometry]\ntakeoff_angle_deg = 95"
    config = job(tmp_path, "elements = { Cu = 1.0 }\ndensity = -1\nthickness_um = 5", head)
    result = simulate(config, "--out", tmp_path / "out.h5", "--quiet")
    assert result.exit_code == 1
    assert output_text(result).count("Input should be") == 2
    assert "valid string" not in output_text(result)
    assert "Tuple" not in output_text(result)


@pytest.mark.parametrize(
    ("layer", "head", "reason"),
    [
        (COPPER, "seed = -1", "seed: Input should be greater than or equal to 0 (it is -1)"),
        (COPPER.replace("5", "1e-300"), "", "no photon is recorded"),
        (COPPER, "[instrument.geometry]\ndetector_air_cm = 1e9", "no photon is recorded"),
        (COPPER, "[instrument.detector]\nzero_kev = 1000.0", "between 1000 and 1040.96 keV"),
    ],
)
def test_what_no_detector_sees_is_refused(tmp_path: Path, layer: str, head: str, reason: str) -> None:
    result = simulate(job(tmp_path, layer, head), "--out", tmp_path / "out.h5", "--quiet")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert reason in output_text(result)
    assert not (tmp_path / "out.h5").exists()


def test_an_excitation_below_every_edge_is_refused(tmp_path: Path) -> None:
    soft = Instrument(source_spectrum=SourceSpectrum(energy_kev=(0.8,), weight=(1.0,)), geometry=Geometry())
    save_instrument(soft, tmp_path / "soft.toml")
    config = job(tmp_path, COPPER, f'instrument = "{tmp_path / "soft.toml"}"')
    result = simulate(config, "--out", tmp_path / "out.h5", "--quiet")
    assert result.exit_code == 1
    assert "below every edge of Cu" in output_text(result)


def test_a_job_or_an_option_is_required() -> None:
    result = simulate(TWO_PAINTS)
    assert result.exit_code == 2
    assert "--explain" in result.output


def test_a_figure_is_of_an_explanation(tmp_path: Path) -> None:
    result = simulate(TWO_PAINTS, "--out", tmp_path / "a.h5", "--out-figure", tmp_path / "a.png")
    assert result.exit_code == 2
    assert "--explain" in result.output


def test_named_stratigraphies_become_a_scan_and_are_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "two.h5"
    result = simulate(TWO_PAINTS, "--out", out)
    assert result.exit_code == 0, result.output
    assert load(out).shape[:2] == (1, 2)
    again = simulate(TWO_PAINTS, "--out", out)
    assert again.exit_code == 1
    assert "exists" in output_text(again)


def test_photons_of_named_stratigraphies_serve_other_detectors(tmp_path: Path) -> None:
    elio = load_instrument("elio")
    poor = elio.detector.model_copy(update={"noise_fwhm_kev": 0.25})
    save_instrument(elio.model_copy(update={"detector": poor}), tmp_path / "poor.toml")
    photons = tmp_path / "photons.h5"
    for name, more in (
        ("direct.h5", ()),
        ("first.h5", ("--photons", photons)),
        ("second.h5", ("--photons", photons)),
        ("poor.h5", ("--photons", photons, "--detector", tmp_path / "poor.toml")),
    ):
        result = simulate(TWO_PAINTS, "--out", tmp_path / name, "--quiet", *more)
        assert result.exit_code == 0, result.output
    counts = {name: np.asarray(load(tmp_path / f"{name}.h5").counts) for name in ("direct", "first", "second", "poor")}
    np.testing.assert_array_equal(counts["direct"], counts["first"])
    np.testing.assert_array_equal(counts["direct"], counts["second"])
    assert counts["poor"][0, 1].max() < 0.8 * counts["direct"][0, 1].max()


def test_photons_of_other_stratigraphies_are_refused(tmp_path: Path) -> None:
    photons = tmp_path / "photons.h5"
    assert simulate(TWO_PAINTS, "--out", tmp_path / "a.h5", "--photons", photons).exit_code == 0
    result = simulate(job(tmp_path, COPPER), "--out", tmp_path / "b.h5", "--photons", photons)
    assert result.exit_code == 1
    assert "another job" in output_text(result)


def test_a_library_by_the_command_line_with_photons_and_another_detector(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(SMALL)
    photons = tmp_path / "photons.h5"
    first = simulate(tmp_path / "job.toml", "--out", tmp_path / "a.h5", "--photons", photons, "--workers", "1")
    assert first.exit_code == 0, first.output
    more = ("--photons", photons, "--workers", "1", "--detector", "elio")
    second = simulate(tmp_path / "job.toml", "--out", tmp_path / "b.h5", *more)
    assert second.exit_code == 0, second.output
    with h5py.File(tmp_path / "a.h5") as file_a, h5py.File(tmp_path / "b.h5") as file_b:
        assert file_a["expected"].shape == file_b["expected"].shape
        assert np.any(file_a["expected"][()] != file_b["expected"][()])
        detector = Detector.model_validate(json.loads(file_b.attrs["config"])["detector"])
    assert detector == load_instrument("elio").detector


def test_explain_prints_tables_and_draws_a_figure_for_each(tmp_path: Path) -> None:
    result = simulate(TWO_PAINTS, "--explain", "--out-figure", tmp_path / "figure.png")
    assert result.exit_code == 0, result.output
    for words in ("Hg L", "by element", "by layer", "by order", "Compton", "lead white", "100,000"):
        assert words in result.output, words
    for number in (1, 2):
        assert (tmp_path / f"figure-{number}.png").read_bytes().startswith(b"\x89PNG")


def test_an_explanation_as_json_sums_to_the_spectrum() -> None:
    result = simulate(TWO_PAINTS, "--explain", "--json")
    assert result.exit_code == 0, result.output
    for parts in json.loads(result.stdout).values():
        for split in ("by_element", "by_layer", "by_order"):
            assert sum(parts[split].values()) == pytest.approx(parts["counts"], rel=1e-9)
        assert sum(part["counts"] for part in parts["parts"]) == pytest.approx(parts["counts"], rel=1e-9)


def test_a_training_library_cannot_be_explained() -> None:
    result = simulate(EXAMPLES / "default_library.toml", "--explain")
    assert result.exit_code == 1
    assert "two_paints.toml" in output_text(result)
