from pathlib import Path

import h5py
import numpy as np
import pytest

from underpaint.errors import OutputError
from underpaint.synth import LibrarySettings, simulate_library
from underpaint.synth.library import make_chunk

SETTINGS = LibrarySettings(n_stratigraphies=12, renders=2, chunk=6, seed=3)


@pytest.fixture(scope="module")
def library_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_library(SETTINGS, tmp_path_factory.mktemp("library") / "small.h5", workers=1)


def test_spectra_sum_to_one_over_what_was_recorded(library_file: Path) -> None:
    with h5py.File(library_file) as file:
        expected, recorded = file["expected"][:], file["recorded"][:]
        centre = file.attrs["start_kev"] + file.attrs["bin_kev"] * (np.arange(file.attrs["n_bin"]) + 0.5)
    assert expected.shape[0] == 24
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


def test_an_interrupted_library_is_resumed_to_the_same_file(library_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.h5"

    def stop_after_the_first(done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_library(SETTINGS, out, workers=1, progress=stop_after_the_first)
    assert not out.exists()
    simulate_library(SETTINGS, out, workers=1)
    with h5py.File(out) as again, h5py.File(library_file) as once:
        np.testing.assert_array_equal(again["expected"][:], once["expected"][:])


def test_an_existing_library_is_not_overwritten(library_file: Path) -> None:
    with pytest.raises(OutputError, match="exists"):
        simulate_library(SETTINGS, library_file, workers=1)


def test_the_paper_set_has_its_axis_and_classes() -> None:
    chunk = make_chunk(LibrarySettings(kind="paper", chunk=4), 0)
    assert chunk.expected.shape == (4, 3815)
    assert chunk.labels.shape == (4, 11)
