"""Scans whose values are no counts, and masked scans: the commands and the Python calls say and do the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

import underpaint as up
from underpaint.cli import app
from underpaint.data import EnergyAxis, Scan, survey
from underpaint.data.maps import Results
from underpaint.display.report import unexplained_text
from underpaint.errors import OutputError, ScanError
from underpaint.io import describe, load, read_results, save_scan
from underpaint.pigments.weights import model_path
from underpaint.pipeline.plan import Settings
from underpaint.pipeline.run import elements_to_folder, identify_to_folder

AXIS = EnergyAxis(0.02, 0.0, 2048)
LINES = ((3.69, 200), (4.01, 25), (6.40, 500), (7.06, 65), (8.05, 300), (8.90, 40), (10.55, 900), (12.61, 700))


def line(energy_kev: float, area: float) -> NDArray[np.float64]:
    return area * np.exp(-0.5 * ((AXIS.energy_kev - energy_kev) / 0.06) ** 2) * 0.02 / (0.06 * 2.507)


@pytest.fixture(scope="module")
def counts() -> NDArray[np.uint16]:
    """Calcium, iron, copper and lead over a smooth background, (16, 6, 2048)."""
    rng = np.random.default_rng(1)
    expected = 6.0 * np.exp(-AXIS.energy_kev / 10) + sum(
        rng.uniform(0.5, 1.5, (16, 6, 1)) * line(*parameters) for parameters in LINES
    )
    return rng.poisson(expected).astype(np.uint16)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    def save(values: NDArray[Any], **more: Any) -> Path:
        with h5py.File(tmp_path / "scan.h5", "w") as file:
            file["counts"] = values
            file["gain_kev"], file["zero_kev"] = AXIS.gain_kev, AXIS.zero_kev
            for name, value in more.items():
                file[name] = value
        return tmp_path / "scan.h5"

    return save


@pytest.fixture
def masked(tmp_path: Path, counts: NDArray[np.uint16]) -> Path:
    """A scan whose frame, strong zinc and brass, is marked as missing, yet has counts."""
    frame = np.random.default_rng(2).poisson(line(8.64, 30000) + line(9.57, 5000) + 5, (16, 2, 2048))
    values = np.concatenate([counts, frame.astype(np.uint16)], axis=1)
    present = np.ones((16, 8), bool)
    present[:, 6:] = False
    save_scan(Scan(values, AXIS, "masked", present=present), tmp_path / "masked.h5")
    return tmp_path / "masked.h5"


def same_maps(first: Results, second: Results) -> None:
    assert first.lines == second.lines
    np.testing.assert_allclose(first.area, second.area, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(first.area_sigma, second.area_sigma, rtol=1e-5, atol=1e-5)


def test_elements_of_a_masked_scan_from_python_and_from_the_command(
    masked: Path, counts: NDArray[np.uint16], tmp_path: Path, without_report: None
) -> None:
    elements_to_folder(masked, tmp_path / "out", Settings(calibrated=False))
    maps, written = up.fit_elements(up.load(masked)), read_results(tmp_path / "out")
    same_maps(maps, written)
    assert np.isnan(maps.area[..., 6:]).all()
    assert "Zn_K" not in maps.lines
    assert maps.lines == up.fit_elements(Scan(counts, AXIS)).lines


def test_pigments_of_a_masked_scan_from_python_and_from_the_command(
    masked: Path, tmp_path: Path, without_report: None
) -> None:
    written, maps = identify_to_folder(masked, tmp_path / "out"), up.identify(up.load(masked))
    np.testing.assert_allclose(maps.probability, written.probability, atol=1e-4)
    np.testing.assert_allclose(maps.pigment_probability, written.pigment_probability, atol=1e-4)
    assert np.isnan(maps.probability[..., 6:]).all()
    assert "Zn_K" not in written.summary["settings"]["calibration"]["found"]
    assert not any("Zn" in text or "zinc" in text for text in unexplained_text(written))


def test_a_masked_frame_is_in_no_fact(masked: Path, counts: NDArray[np.uint16]) -> None:
    info = describe(masked)
    np.testing.assert_array_equal(info.sum_spectrum.counts, counts.sum(axis=(0, 1)))
    np.testing.assert_array_equal(info.max_spectrum.counts, counts.max(axis=(0, 1)))
    assert (info.total_counts, info.n_missing) == (counts.sum(), 32)
    assert info.max_pixel_counts == counts.sum(axis=2).max()


@pytest.mark.parametrize(
    ("change", "scale", "words"),
    [
        (lambda counts: counts / 0.1, 10.0, "integer multiples of 10 and are divided by it"),
        (lambda counts: counts.astype(np.uint32) * 2000, 2000.0, "integer multiples of 2000 and"),
        (lambda counts: counts * 2, 2.0, "integer multiples of 2 and"),
        (lambda counts: counts * 1e-6, 1e-6, "integer multiples of 1e-06 and"),
    ],
    ids=["rates", "rescaled", "added twice", "normalised"],
)
def test_stacks_that_are_no_counts_become_counts(
    saved: Callable[..., Path], counts: NDArray[np.uint16], change: Callable[[Any], Any], scale: float, words: str
) -> None:
    path = saved(change(counts))
    scan = load(path)
    np.testing.assert_allclose(scan.counts.compute(), counts, rtol=1e-6)
    assert scan.counts_scale == pytest.approx(scale)
    assert words in scan.notes[0]
    shown = CliRunner().invoke(app, ["info", str(path), "--json"])
    facts = json.loads(shown.stdout)
    assert facts["counts_scale"] == pytest.approx(scale)
    assert facts["total_counts"] == pytest.approx(counts.sum(), rel=1e-6)
    assert words in facts["notes"][0]


def test_rates_by_pixel_become_counts(saved: Callable[..., Path], counts: NDArray[np.uint16]) -> None:
    live_s = np.random.default_rng(5).uniform(0.05, 0.2, (16, 6, 1))
    scan = load(saved((counts / live_s).astype(np.float32)))
    np.testing.assert_array_equal(scan.counts.compute(), counts)
    assert scan.notes[0].startswith("the stored values are not counts")
    assert "in each pixel" in scan.notes[0]


def test_a_scale_from_scatter_alone_is_reported_with_its_uncertainty(
    saved: Callable[..., Path], counts: NDArray[np.uint16]
) -> None:
    moved = 7.3 * (0.6 * counts + 0.4 * np.roll(counts, 1, axis=0))
    scan = load(saved(moved))
    assert scan.counts_scale == pytest.approx(7.3 * (0.6**2 + 0.4**2), rel=0.1)
    assert " +- " in scan.notes[0]
    given = load(saved(np.rint(7.3 * counts.astype(np.float64))), counts_scale=7.3)
    np.testing.assert_allclose(given.counts.compute(), counts, atol=0.5 / 7.3 + 1e-3)
    assert given.notes[0] == "the stored values are divided by 7.3, the value per count that was given"


@pytest.mark.parametrize("rounded", [np.rint, np.floor])
def test_counts_that_were_scaled_up_and_rounded_come_back(
    saved: Callable[..., Path], counts: NDArray[np.uint16], rounded: Callable[..., Any]
) -> None:
    scan = load(saved(rounded(1.7 * counts.astype(np.float64)).astype(np.uint32)))
    np.testing.assert_array_equal(scan.counts.compute(), counts)
    assert "counts times 1.7, rounded" in scan.notes[0]


def test_counts_that_were_scaled_down_and_rounded_are_reported(
    saved: Callable[..., Path], counts: NDArray[np.uint16]
) -> None:
    for scale, rounded in ((0.3, np.rint), (0.5, np.rint), (100 / counts.max(), np.floor)):
        scan = load(saved(rounded(scale * counts).astype(np.uint8)))
        assert scan.counts_scale == pytest.approx(scale, rel=0.15)
        assert "with less noise than counts" in scan.notes[0]
        assert "export the counts themselves" in scan.notes[0]


@pytest.mark.parametrize(
    ("transform", "name"), [(np.sqrt, "square root"), (np.log1p, "logarithm"), (lambda n: np.log10(n + 1), "logarithm")]
)
def test_functions_of_counts_are_refused(
    saved: Callable[..., Path], counts: NDArray[np.uint16], transform: Callable[..., Any], name: str
) -> None:
    path = saved(transform(counts.astype(np.float64)))
    with pytest.raises(ScanError, match=f"that of the {name} of counts, independent.*Export the counts"):
        load(path)
    assert load(path, counts_scale=1).notes == ()


def test_counts_are_left_alone(saved: Callable[..., Path], counts: NDArray[np.uint16]) -> None:
    for values in (counts, counts.astype(np.float32), counts * np.float32(1.2)):
        scan = load(saved(values))
        assert (scan.counts_scale, scan.notes) == (1.0, ())
        np.testing.assert_array_equal(scan.counts.compute(), values)
    unscaled = load(saved(counts / 0.1), counts_scale=1)
    assert (unscaled.counts_scale, unscaled.notes) == (1.0, ())


def test_values_of_unknown_scale_are_reported(saved: Callable[..., Path]) -> None:
    smooth = np.ones((4, 4, 1)) * 5.5 * np.exp(-AXIS.energy_kev / 10)
    scan = load(saved(smooth))
    np.testing.assert_array_equal(scan.counts.compute(), smooth)
    assert "it is unknown whether they are counts" in scan.notes[0]
    assert "--counts-scale" in scan.notes[0]


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_a_scale_that_cannot_be_is_refused(
    saved: Callable[..., Path], counts: NDArray[np.uint16], scale: float
) -> None:
    with pytest.raises(ScanError, match="a number above 0"):
        load(saved(counts), counts_scale=scale)


def test_element_maps_of_rates_have_the_deviations_of_their_counts(
    saved: Callable[..., Path], counts: NDArray[np.uint16], tmp_path: Path, without_report: None
) -> None:
    path = saved(counts / 0.1)
    written = elements_to_folder(path, tmp_path / "out", Settings(calibrated=False))
    same_maps(written, up.fit_elements(Scan(counts, AXIS)))
    assert written.notes[0].startswith("the stored values are not counts")
    assert read_results(tmp_path / "out").notes == written.notes


def test_a_run_that_goes_on_remembers_what_was_missing(
    saved: Callable[..., Path], counts: NDArray[np.uint16], tmp_path: Path
) -> None:
    from underpaint.pipeline.blocks import load_survey, save_survey

    values = counts.astype(np.float32)
    values[3, 4] = np.nan
    scan = load(saved(values))
    surveyed = survey(scan)
    save_survey(tmp_path, surveyed)
    again = load_survey(tmp_path, scan)
    assert again is not None
    np.testing.assert_array_equal(again.scan.present, surveyed.scan.present)
    assert again.scan.notes == surveyed.scan.notes
    np.testing.assert_array_equal(again.tiles, surveyed.tiles)


def test_a_network_whose_names_are_no_files_is_found_before_the_work(tmp_path: Path) -> None:
    card = json.loads(model_path("default").with_suffix(".json").read_text("utf-8"))
    card["names"][0] = "lead white"
    (tmp_path / "mine.json").write_text(json.dumps(card))
    (tmp_path / "mine.onnx").write_bytes(model_path("default").read_bytes())
    with pytest.raises(OutputError, match="Cannot write a map called 'lead white'"):
        identify_to_folder(tmp_path / "nowhere.h5", tmp_path / "out", Settings(model=str(tmp_path / "mine.onnx")))
