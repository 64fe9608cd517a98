import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from underpaint.data import EnergyAxis
from underpaint.errors import OutputError, ScanError
from underpaint.physics.forward import Emission, emit, render
from underpaint.physics.instrument import Detector, load_instrument, save_instrument
from underpaint.simulate import LibrarySettings, read_photons, simulate_library
from underpaint.simulate.jobs import with_file_contents
from underpaint.simulate.library import make_chunk, render_chunk, transport_chunk
from underpaint.simulate.photons import PHOTON_FIELDS, photons_from_bytes, photons_to_bytes

SETTINGS = LibrarySettings(n_stratigraphies=10, renders=2, chunk=4, seed=3)
ONE_CHUNK = LibrarySettings(n_stratigraphies=2, renders=1, chunk=2)
DATASETS = ("expected", "recorded", "labels", "counts_needed", "source")


def same_spectra(first_file: Path, second_file: Path) -> None:
    with h5py.File(first_file) as first, h5py.File(second_file) as second:
        for name in DATASETS:
            np.testing.assert_array_equal(first[name][()], second[name][()], err_msg=name)


@pytest.fixture(scope="module")
def library_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_library(SETTINGS, tmp_path_factory.mktemp("library") / "small.h5", workers=1)


@pytest.fixture(scope="module")
def photons_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photons")
    simulate_library(SETTINGS, folder / "first.h5", photons=folder / "photons.h5", workers=1)
    return folder / "photons.h5"


def test_spectra_sum_to_one_over_what_was_recorded(library_file: Path) -> None:
    with h5py.File(library_file) as file:
        expected, recorded = file["expected"][:], file["recorded"][:]
        centre = file.attrs["start_kev"] + file.attrs["bin_kev"] * (np.arange(file.attrs["n_bin"]) + 0.5)
    assert expected.shape[0] == 20
    np.testing.assert_allclose(expected.sum(axis=1), 1.0, rtol=1e-5)
    outside = (centre < recorded[:, :1]) | (centre > recorded[:, 1:])
    assert np.all(expected[outside] == 0)


def test_absent_labels_are_never_visible(library_file: Path) -> None:
    with h5py.File(library_file) as file:
        labels, needed = file["labels"][:], file["counts_needed"][:]
    assert np.all(np.isinf(needed[labels == 0]))
    assert np.any(np.isfinite(needed[labels == 1]))
    assert np.all(needed > 0)


def test_a_chunk_depends_on_seed_and_index_alone() -> None:
    np.testing.assert_array_equal(make_chunk(SETTINGS, 1).expected, make_chunk(SETTINGS, 1).expected)


def test_two_processes_make_the_same_library_as_one(library_file: Path, tmp_path: Path) -> None:
    same_spectra(simulate_library(SETTINGS, tmp_path / "two.h5", workers=2), library_file)


def test_an_interrupted_library_is_resumed_to_the_same_file(library_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.h5"

    def stop_after_the_first(task: str, done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_library(SETTINGS, out, workers=1, progress=stop_after_the_first)
    assert not out.exists()
    reported: list[int] = []
    simulate_library(SETTINGS, out, workers=1, progress=lambda _task, done, _total: reported.append(done))
    assert reported[0] == 4
    same_spectra(out, library_file)
    assert [entry.name for entry in tmp_path.iterdir()] == ["again.h5"]


def test_a_library_begun_with_other_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    def stop(task: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_library(SETTINGS, tmp_path / "a.h5", workers=1, progress=stop)
    other = SETTINGS.model_copy(update={"seed": 4})
    with pytest.raises(OutputError, match=r"other settings: seed"):
        simulate_library(other, tmp_path / "a.h5", workers=1)


def test_an_existing_library_is_not_overwritten(library_file: Path) -> None:
    with pytest.raises(OutputError, match="exists"):
        simulate_library(SETTINGS, library_file, workers=1)


def test_a_kill_between_the_last_renaming_and_the_clearing_up_leaves_a_finished_library(
    tmp_path: Path,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("underpaint.runtime.files.remove_working_folder", lambda _: None)
        out = simulate_library(ONE_CHUNK, tmp_path / "a.h5", workers=1)
    assert len(list(tmp_path.iterdir())) == 2
    before = out.stat().st_mtime_ns
    assert simulate_library(ONE_CHUNK, out, workers=1) == out
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.h5"]
    assert out.stat().st_mtime_ns == before


def test_a_neighbour_that_looks_like_ours_is_left_alone(tmp_path: Path) -> None:
    left = tmp_path / "a.h5.part"
    left.mkdir()
    (left / "000000.h5").write_text("mine")
    (left / "job.json").write_text("{}")
    simulate_library(ONE_CHUNK, tmp_path / "a.h5", workers=1)
    assert sorted(entry.name for entry in left.iterdir()) == ["000000.h5", "job.json"]


def test_the_paper_set_has_its_axis_and_classes() -> None:
    chunk = make_chunk(LibrarySettings(kind="paper", chunk=4), 0)
    assert chunk.expected.shape == (4, 3815)
    assert chunk.labels.shape == (4, 11)
    assert chunk.lines_needed.shape == chunk.lines_hidden.shape == (4, 0)  # it has no groups


def test_photons_from_a_file_render_to_the_same_bits(library_file: Path, photons_file: Path, tmp_path: Path) -> None:
    same_spectra(photons_file.with_name("first.h5"), library_file)
    same_spectra(simulate_library(SETTINGS, tmp_path / "b.h5", photons=photons_file, workers=2), library_file)


def test_photons_are_not_computed_twice(photons_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr("underpaint.simulate.library.transport_chunk", never)
    detector = Detector(thickness_um=300.0, noise_fwhm_kev=0.12)
    other = SETTINGS.model_copy(update={"detector": detector, "renders": 1, "render_seed": 8, "gain_error": 0.0})
    out = simulate_library(other, tmp_path / "other.h5", photons=photons_file, workers=1)
    direct = render_chunk(other, 0, transport_chunk(other, 0)).expected
    with h5py.File(out) as file:
        assert len(file["expected"]) == 10
        np.testing.assert_array_equal(file["expected"][:4], direct)


def test_photons_of_another_job_are_refused(photons_file: Path, tmp_path: Path) -> None:
    other = SETTINGS.model_copy(update={"seed": 4})
    with pytest.raises(OutputError, match="seed: 3 in the file, 4 requested"):
        simulate_library(other, tmp_path / "b.h5", photons=photons_file, workers=1)


def test_a_file_without_photons_is_refused(library_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="no photons"):
        next(read_photons(library_file))
    with pytest.raises(ScanError, match="Cannot read"):
        next(read_photons(tmp_path / "none.h5"))


def test_photons_hold_all_that_made_them(photons_file: Path) -> None:
    """Stratigraphies and instrument from the file give the same photons, to the precision kept."""
    held = list(read_photons(photons_file))
    assert sum(len(chunk.stratigraphies) for chunk in held) == 10
    again = emit(held[0].stratigraphies, held[0].instrument, single=True)
    for name in PHOTON_FIELDS:
        stored, direct = getattr(held[0].emission, name), getattr(again, name)
        np.testing.assert_allclose(stored, direct, rtol=2**-23, atol=1e-37, err_msg=name)
    with h5py.File(photons_file) as file:
        assert json.loads(file.attrs["versions"]).keys() >= {"underpaint", "numpy", "xraylib"}
        assert file.attrs["seed"] == 3


def test_any_detector_and_axis_can_look_at_kept_photons(photons_file: Path) -> None:
    first = next(read_photons(photons_file))
    spectra = render(first.emission, Detector(), EnergyAxis(0.02, 0.1, 1500))
    assert spectra.shape == (4, 1500)
    assert np.all(spectra.sum(axis=1) > 0)


def test_photons_survive_the_journey_to_a_worker() -> None:
    photons = transport_chunk(SETTINGS, 2)
    back = photons_from_bytes(photons_to_bytes(photons))
    assert back.stratigraphies == photons.stratigraphies
    assert back.instrument == photons.instrument
    for field in Emission.__dataclass_fields__:
        if field != "lines":
            np.testing.assert_array_equal(getattr(back.emission, field), getattr(photons.emission, field))
    assert back.emission.lines.name == photons.emission.lines.name


def test_files_that_settings_name_are_read_before_workers_are_needed(tmp_path: Path) -> None:
    elio = load_instrument("elio")
    save_instrument(elio, tmp_path / "mine.toml")
    job = with_file_contents(LibrarySettings(instrument=str(tmp_path / "mine.toml"), detector="elio"))
    assert job.instrument == elio
    assert job.detector == elio.detector
    assert with_file_contents(LibrarySettings(instrument="elio")).instrument == "elio"
    assert with_file_contents(LibrarySettings()).palette == "easel_15_to_20"
