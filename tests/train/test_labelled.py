"""Known pixels of a scan as a library for fine-tuning."""

from pathlib import Path

import numpy as np
import pytest

from underpaint.errors import TrainingError
from underpaint.spectrum import EnergyAxis, Scan
from underpaint.train import labelled_scan
from underpaint.weights import ModelAxis, ModelCard

CARD = ModelCard(
    name="toy",
    axis=ModelAxis(start_kev=1.0, bin_kev=0.1, n_bin=10),
    names=("mercury", "vermilion", "smalt"),
    kinds=("group", "member", "member"),
    groups=(("mercury",), ("mercury",), ()),
    labels=("mercury", "vermilion", "smalt"),
    elements=(("Hg_L",), ("Hg_L",), ("Co_K",)),
)
SCAN = Scan(np.arange(2 * 3 * 20).reshape(2, 3, 20), EnergyAxis(0.05, 1.025, 20))


def write(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_of_the_table_meet_their_pixels(tmp_path: Path) -> None:
    table = write(tmp_path, "row,column,pigments,structure\n1,2,vermilion; smalt,b\n0,1,,a\n1,0,smalt,b\n")
    library = labelled_scan(SCAN, table, CARD)
    np.testing.assert_allclose(library.spectra[0], np.arange(100, 120).reshape(10, 2).sum(axis=1))
    assert library.labels.tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 1]]
    assert library.source.tolist() == [1, 0, 1]
    assert library.counted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row,pigments\n1,smalt\n", "it has no column"),
        ("", "it has no row, column, pigments"),
        ("row,column,pigments\n0,0,smalt\n0,3,smalt\n", "line 3 of .* column is '3', the scan has columns 0 to 2"),
        ("row,column,pigments\n-1,0,smalt\n", "row is '-1', the scan has rows 0 to 1"),
        ("row,column,pigments\n0,0,ochre\n", "Cannot use the labels ochre"),
    ],
)
def test_a_table_with_a_fault_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        labelled_scan(SCAN, write(tmp_path, text), CARD)


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="Cannot read the table of labels"):
        labelled_scan(SCAN, tmp_path / "none.csv", CARD)
