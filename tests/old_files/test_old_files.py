"""Files that earlier versions wrote (write.sh) open, and hold the same numbers.

The mock-ups, the simulation set and the network of Xu et al. 2022 do not move: their reproduction is not run again.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import underpaint as up
from underpaint.data import XU_NETWORK_AXIS
from underpaint.data.maps import at_place
from underpaint.io import read_results
from underpaint.io.results.regions import read_regions
from underpaint.lab.reproduction.simulation import simulated_as_in_paper
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import load_palette
from underpaint.pigments.predict import open_model
from underpaint.pigments.weights import model_path
from underpaint.pipeline.plan import Settings
from underpaint.simulate.mockups import Mockups, paint_mockups
from underpaint.simulate.photons import read_photons
from underpaint.simulate.recipes import paper_grid, paper_stratigraphy

OLD = Path(__file__).parent / "0.1.0"
XU2022_SHA256 = "a700595c155b240acd637b87ab5711e99441b421e385c68fcba7f618efd76c25"


@pytest.fixture(scope="module")
def paper() -> dict[str, NDArray[Any]]:
    with np.load(OLD / "paper.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def mockups() -> Mockups:
    return paint_mockups(64, 1e5, 2022)


@pytest.mark.parametrize("folder", ["default", "xu2022", "pymca"])
@pytest.mark.parametrize("lazily", [False, True])
def test_results_open_with_the_same_numbers(folder: str, lazily: bool) -> None:
    results = read_results(OLD / folder, lazily=lazily)
    means = {at_place(*key): float(np.mean(results[key])) for key in results.named_places}
    means |= {name: float(np.mean(results[name])) for name in results.lines}
    assert means == pytest.approx(json.loads((OLD / "means.json").read_text())[folder], rel=1e-5)


def test_a_scan_and_its_palette_and_instrument_open() -> None:
    scan = up.load(OLD / "panel.h5")
    with h5py.File(OLD / "panel.h5") as file:
        assert scan.sum_spectrum().counts.sum() == file["entry/measurement/counts"][()].sum()
    assert load_palette(OLD / "palette.toml").pigments == ("vermilion", "lead_white", "zinc_white", "chalk")
    assert load_instrument(OLD / "instrument.toml") == load_instrument("elio")


def test_regions_open() -> None:
    robe, connected = read_regions(OLD / "default")
    assert robe.name == "robe"
    assert robe.mask((7, 7)).sum() == 12
    assert connected.mask((7, 7)).sum() == 4


def test_a_library_its_photons_and_a_checkpoint_open() -> None:
    pytest.importorskip("torch")
    from underpaint.lab.training import load_checkpoint, load_library

    assert len(load_library(OLD / "library.h5")) == 4
    assert sum(len(chunk.stratigraphies) for chunk in read_photons(OLD / "photons.h5")) == 4
    trained = load_checkpoint(OLD / "training" / "best.ckpt")
    assert trained.card.names == ("pigment_0", "pigment_1", "pigment_2")


def test_an_interrupted_run_is_done_anew_and_stays(tmp_path: Path, without_report: None) -> None:
    shutil.copytree(OLD / "interrupted.part", tmp_path / "interrupted.part")
    settings = Settings(instrument="elio", elements=False)
    up.identify_to_folder(OLD / "panel.h5", tmp_path / "interrupted", settings, resume=True)
    assert read_results(tmp_path / "interrupted").has_pigments
    assert contents(tmp_path / "interrupted.part") == contents(OLD / "interrupted.part")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_papers_network_is_the_same_file() -> None:
    assert hashlib.sha256(model_path("xu2022").read_bytes()).hexdigest() == XU2022_SHA256


def test_the_papers_network_answers_alike(paper: dict[str, NDArray[Any]]) -> None:
    recorded = np.tile(np.array([XU_NETWORK_AXIS.start_kev, XU_NETWORK_AXIS.stop_kev], np.float32), (64, 1))
    log_odds, probability = open_model("xu2022")(paper["mockup_counts"].astype(np.float32), recorded)[:2]
    np.testing.assert_allclose(probability, paper["probability"], atol=1e-5)
    np.testing.assert_allclose(log_odds, paper["log_odds"], rtol=1e-4, atol=1e-4)  # single precision, sums in any order


def test_mock_ups_are_the_same(paper: dict[str, NDArray[Any]], mockups: Mockups) -> None:
    # A Poisson draw jumps where the last bit of its mean differs between processors: one count in a few channels.
    difference = np.abs(mockups.counts - paper["mockup_counts"])
    assert difference.max() <= 3
    assert (difference > 0).mean() < 1e-4


def test_the_simulation_set_is_the_same(paper: dict[str, NDArray[Any]], mockups: Mockups) -> None:
    grid = paper_grid()[:: int(paper["grid_step"])]
    simulated = simulated_as_in_paper(
        [paper_stratigraphy(*entry) for entry in grid], [set(entry[:2]) for entry in grid], mockups
    )
    np.testing.assert_array_equal(simulated.labels, paper["labels"])
    # The spectra are kept in single precision; their float64 sums differ by some ulps between processors.
    np.testing.assert_allclose(simulated.spectra, paper["simulated"], rtol=1e-5, atol=1e-12)
