"""Values that are no counts: missing pixels, negative residues, and backgrounds that were removed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from underpaint import io
from underpaint.data import survey
from underpaint.errors import ScanError

CASES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "bruker_m4"
RNG = np.random.default_rng(8)
SHAPE = 40.0 * np.exp(-np.arange(500) / 150.0) + 300.0 * np.exp(-0.5 * ((np.arange(500) - 200) / 6.0) ** 2)
TRUE = RNG.poisson(SHAPE, (6, 5, 500))


def saved(path: Path, counts: NDArray[Any]) -> Path:
    np.savez(path / "a.npz", cube=counts, gain_kev=0.02, zero_kev=0.0)
    return path / "a.npz"


@pytest.mark.parametrize("channels", [slice(None), slice(7, 9)], ids=["the pixel", "two channels of it"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_pixel_of_no_numbers_is_a_missing_pixel(tmp_path: Path, channels: slice, bad: float) -> None:
    counts = TRUE.astype(np.float32)
    counts[2, 3, channels] = bad
    surveyed = survey(io.load(saved(tmp_path, counts)))
    sound = np.ones((6, 5), bool)
    sound[2, 3] = False
    np.testing.assert_array_equal(surveyed.scan.present, sound)
    np.testing.assert_array_equal(surveyed.total, TRUE[sound].sum(axis=0))
    info = io.describe(tmp_path / "a.npz")
    assert (info.n_missing, info.total_counts) == (1, TRUE[sound].sum())
    assert info.notes[0].startswith("1 of 30 pixels contain values that are not counts")


def test_negative_residues_of_a_zero_peak_are_set_to_zero(tmp_path: Path) -> None:
    counts = TRUE.astype(np.int32)
    counts[1:, :, 3:9] = RNG.integers(-20, 0, (5, 5, 6))
    surveyed = survey(io.load(saved(tmp_path, counts)))
    np.testing.assert_array_equal(surveyed.total, np.maximum(counts, 0).sum(axis=(0, 1)))
    assert surveyed.n_pixel == 30
    assert surveyed.scan.notes == ("small negative values, in 25 of 30 pixels, are set to zero",)


def test_a_constant_that_was_subtracted_leaves_residues(tmp_path: Path) -> None:
    counts = TRUE.astype(np.float32) - 1
    surveyed = survey(io.load(saved(tmp_path, counts)))
    np.testing.assert_array_equal(surveyed.total, np.maximum(counts, 0).sum(axis=(0, 1)))
    assert surveyed.scan.notes[0] == "small negative values, in 30 of 30 pixels, are set to zero"


def test_a_removed_background_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, TRUE - 40.0 * np.exp(-np.arange(500) / 150.0))
    with pytest.raises(ScanError, match=r"pixel \(row 0, column 0\) holds -.*background removal"):
        survey(io.load(path))
    with pytest.raises(ScanError, match="none of its 30 pixels"):
        survey(io.load(saved(tmp_path, np.full((6, 5, 500), np.nan))))


def test_a_single_spectrum_with_residues_is_read(tmp_path: Path) -> None:
    lines = ["#FORMAT : EMSA/MAS", "#VERSION : 1.0", "#NPOINTS : 500", "#XUNITS : keV", "#XPERCHAN : 0.02"]
    lines += ["#OFFSET : 0.0", "#DATATYPE : Y", "#NCOLUMNS : 1", "#SPECTRUM :"]
    counts = TRUE[0, 0].copy()
    counts[4] = -3
    (tmp_path / "a.msa").write_text("\n".join([*lines, *map(str, counts), "#ENDOFDATA :"]))
    surveyed = survey(io.load(tmp_path / "a.msa"))
    np.testing.assert_array_equal(surveyed.total, np.maximum(counts, 0))
    assert "small negative values, in 1 of 1 pixels, are set to zero" in surveyed.scan.notes


@pytest.mark.skipif(not CASES.is_dir(), reason="the measured spectra are not beside this checkout")
def test_measured_spectra_with_a_zero_peak_are_read() -> None:
    for path in sorted(CASES.glob("*.msa")):
        assert survey(io.load(path)).total.sum() > 1e6
