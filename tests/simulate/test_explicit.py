from pathlib import Path

import numpy as np
import pytest

from underpaint.errors import SampleError
from underpaint.io import load
from underpaint.simulate import LibrarySettings, load_job, simulate

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_named_stratigraphies_become_a_scan_that_can_be_loaded(tmp_path: Path) -> None:
    out = simulate(EXAMPLES / "two_paints.toml", tmp_path / "two.h5")
    scan = load(out)
    assert scan.shape[:2] == (1, 2)
    totals = np.asarray(scan.counts.sum(axis=2))
    # five standard deviations of a Poisson total of 1e5
    np.testing.assert_allclose(totals, 1e5, atol=5 * np.sqrt(1e5))


def test_the_example_jobs_can_be_read() -> None:
    assert isinstance(load_job(EXAMPLES / "default_library.toml"), LibrarySettings)
    paper = load_job(EXAMPLES / "xu2022_library.toml")
    assert isinstance(paper, LibrarySettings)
    assert paper.kind == "paper"


@pytest.mark.parametrize(
    ("layer", "fault"),
    [
        ("pigments = { vermilion = 1 }", "thickness_um"),
        ("elements = { Cu = 1.0 }\nthickness_um = 5", "density"),
        ('pigments = { vermilion = 1 }\nground = "chalk"\nthickness_um = 5', "exactly one"),
        ("pigments = { vermilion = 1 }\nthickness_um = -5", "greater than 0"),
        ("colour = 3", "colour"),
    ],
)
def test_a_wrong_layer_is_refused_with_its_fault(tmp_path: Path, layer: str, fault: str) -> None:
    path = tmp_path / "job.toml"
    path.write_text(f"[[stratigraphy]]\n[[stratigraphy.layer]]\n{layer}\n")
    with pytest.raises(SampleError, match=fault):
        load_job(path)


def test_a_missing_job_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SampleError, match="Cannot read"):
        load_job(tmp_path / "none.toml")
