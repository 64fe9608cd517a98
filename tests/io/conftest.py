"""Small scans written by hand or by named libraries."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from mca_files import mca_text
from numpy.typing import NDArray

AURORA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "aurora"


@pytest.fixture
def cube() -> NDArray[np.int64]:
    """(3, 4, 8) counts, each pixel different."""
    return np.random.default_rng(7).integers(0, 50, (3, 4, 8))


@pytest.fixture
def mca_folder(tmp_path: Path, cube: NDArray[np.int64]) -> Path:
    """An archive as the instrument leaves it, in a path with a space and letters beyond ASCII."""
    top = tmp_path / "pittura été 画"
    spectra = top / "10264"
    spectra.mkdir(parents=True)
    (top / "colonneXrighe.txt").write_text("righe  3\ncolonne  4\ndwell-time 3,500000\n", "latin-1")
    for index, counts in enumerate(cube.reshape(-1, cube.shape[2])):
        (spectra / f"None_{index + 1}.mca").write_text(mca_text(counts), "latin-1")
    (spectra / "SPOT_1.mca").write_text(mca_text(cube[0, 0]), "latin-1")
    return top


@pytest.fixture(scope="session")
def aurora_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real archive, unpacked."""
    packed = AURORA / "prova1_10264_mca.tar.xz"
    if not packed.is_file():
        pytest.skip("the aurora scan is not there (shared/data/aurora)")
    folder = tmp_path_factory.mktemp("aurora")
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    return folder
