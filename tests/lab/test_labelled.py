"""Known pixels of a scan as a library for fine-tuning."""

from pathlib import Path

import numpy as np
import pytest

from underpaint.data import EnergyAxis, Scan
from underpaint.errors import CalibrationError, CoverageError, TrainingError
from underpaint.lab.training import labelled_library, labelled_scan, labelled_spectra
from underpaint.lab.training.library import UNKNOWN
from underpaint.pigments.weights import ModelAxis, ModelCard

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
    assert library.has_noise


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
    with pytest.raises(TrainingError, match=r"none\.csv: it is missing"):
        labelled_scan(SCAN, tmp_path / "none.csv", CARD)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row,column,pigments\n0,0,smalt,vermilion\n", "line 2 of .* has 4 cells, the first line 3"),
        ("row,column,pigments\n0,0\n", "line 2 of .* has 2 cells"),
        ("row,column,pigments\n", "no row under its first line"),
        ("row,column,pigments,pigments\n0,0,smalt,\n", "two of its columns have the same name"),
        ("row,column,pigments\n0,0,Vermillion\n", r"Vermillion \(near: vermilion\)"),
        ("row,column,pigments\n0,0,smalt\n0,0,vermilion\n", "line 3 .* has the same spectrum as line 2"),
    ],
)
def test_a_row_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        labelled_scan(SCAN, write(tmp_path, text), CARD)


def test_a_spreadsheet_may_part_cells_by_semicolons(tmp_path: Path) -> None:
    table = write(tmp_path, 'Row; Column; Pigments\n0;1;"vermilion;smalt"\n\n1;1;smalt + vermilion\n')
    assert labelled_scan(SCAN, table, CARD).labels.tolist() == [[1, 1, 1], [1, 1, 1]]


def test_a_group_without_its_members_leaves_open_which_it_is(tmp_path: Path) -> None:
    table = write(tmp_path, "row,column,pigments\n0,0,mercury\n0,1,mercury;vermilion\n0,2,smalt\n")
    assert labelled_scan(SCAN, table, CARD).labels.tolist() == [[1, UNKNOWN, 0], [1, 1, 0], [0, 0, 1]]


def test_presence_alone_leaves_open_what_it_does_not_name(tmp_path: Path) -> None:
    table = write(tmp_path, "row,column,present,absent\n0,0,mercury,\n0,1,,mercury\n0,2,smalt,vermilion\n1,0,,\n")
    unknown = [UNKNOWN] * 3
    known = [[1, UNKNOWN, UNKNOWN], [0, 0, UNKNOWN], [UNKNOWN, 0, 1], unknown]
    assert labelled_scan(SCAN, table, CARD).labels.tolist() == known
    alone = write(tmp_path, "row,column,absent\n0,0,smalt\n")
    assert labelled_scan(SCAN, alone, CARD).labels.tolist() == [[UNKNOWN, UNKNOWN, 0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row,column,present,absent\n0,0,mercury,mercury\n", "line 2 .* calls mercury both present and absent"),
        ("row,column,present,pigments\n0,0,mercury,\n", "Keep one of the two"),
        ("row,column,absent\n0,0,ochre\n", "Cannot use the labels ochre"),
    ],
)
def test_presence_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        labelled_scan(SCAN, write(tmp_path, text), CARD)


def test_where_no_place_is_named_the_place_is_open(tmp_path: Path) -> None:
    update = {
        "names": (*CARD.names, "mercury.surface", "mercury.below"),
        "kinds": (*CARD.kinds, "group", "group"),
        "groups": (*CARD.groups, ("mercury.surface",), ("mercury.below",)),
        "labels": (*CARD.labels, "mercury", "mercury"),
        "elements": (*CARD.elements, ("Hg_L",), ("Hg_L",)),
    }
    table = write(tmp_path, "row,column,pigments\n0,0,vermilion\n0,1,mercury.below\n0,2,smalt\n")
    labels = labelled_scan(SCAN, table, CARD.model_copy(update=update)).labels
    assert labels[:, 3:].tolist() == [[UNKNOWN, UNKNOWN], [UNKNOWN, 1], [0, 0]]
    assert labels[:, 0].tolist() == [1, 1, 0]


def test_a_pixel_without_counts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"line 3 of .* its spectrum has no counts in the energy range of the model"
    ):
        labelled_scan(
            Scan(np.eye(2)[:, :, None] * np.ones(20), SCAN.axis),
            write(tmp_path, "row,column,pigments\n0,0,smalt\n0,1,smalt\n"),
            CARD,
        )


def test_spectra_that_end_too_early_are_refused() -> None:
    with pytest.raises(CoverageError, match=r"it needs 1\.00-2\.00 keV, but the spectra cover 1\.00-1\.50 keV"):
        labelled_spectra(np.ones((1, 10)), EnergyAxis(0.05, 1.025, 10), [["smalt"]], CARD)


@pytest.fixture
def spots(tmp_path: Path) -> Path:
    folder = tmp_path / "spots"
    folder.mkdir()
    for name, n_channel in (("fine", 20), ("coarse", 10)):
        np.savez(folder / f"{name}.npz", counts=np.full((1, 1, n_channel), 40 / n_channel))
    return folder


def on_an_axis(scan: Scan) -> Scan:
    gain = 1.0 / scan.shape[2]
    return scan.with_axis(EnergyAxis(gain, 1.0 + gain / 2, scan.shape[2]))


def test_files_of_different_lengths_meet_on_the_models_axis(spots: Path, tmp_path: Path) -> None:
    table = write(tmp_path, "file,pigments,structure\nfine.npz,smalt,a\ncoarse.npz,,a\n")
    library = labelled_library(spots, table, CARD, on_axis=on_an_axis)
    np.testing.assert_allclose(library.spectra, 4.0)
    np.testing.assert_allclose(library.recorded, [[1, 2], [1, 2]], rtol=1e-6)
    assert library.labels.tolist() == [[0, 0, 1], [0, 0, 0]]
    assert library.source.tolist() == [0, 0]
    assert library.origin == ("spots",)


def test_files_without_an_axis_are_refused(spots: Path, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no energy axis"):
        labelled_library(spots, write(tmp_path, "file,pigments\nfine.npz,smalt\n"), CARD)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,pigments\nfime.npz,smalt\n", r"line 2 .* there is no file 'fime.npz' .* for instance: fine.npz"),
        ("file,pigments\n,smalt\n", "there is no file ''"),
        ("file\nfine.npz\n", "it has no pigments"),
        ("file,pigments\nfine.npz,ochre\n", "Cannot use the labels ochre"),
        ("file,pigments\nfine.npz,smalt\n./fine.npz,\n", "same spectrum as line 2"),
    ],
)
def test_files_that_cannot_be_meant_are_refused(spots: Path, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        labelled_library(spots, write(tmp_path, text), CARD, on_axis=on_an_axis)


def test_a_scan_among_the_files_is_refused(spots: Path, tmp_path: Path) -> None:
    np.savez(spots / "scan.npz", counts=np.ones((2, 3, 20)))
    with pytest.raises(TrainingError, match="it is a scan of 2 x 3 pixels"):
        labelled_library(spots, write(tmp_path, "file,pigments\nscan.npz,smalt\n"), CARD)
