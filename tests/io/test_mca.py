"""Folders of .mca files: what is read, what is told, what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from mca_files import mca_text
from numpy.typing import NDArray

from underpaint import io
from underpaint.errors import ScanError

Cube = NDArray[np.int64]


def test_top_folder_and_spectra_folder_give_the_same(mca_folder: Path, cube: Cube) -> None:
    for place in (mca_folder, mca_folder / "10264"):
        scan = io.load(place)
        np.testing.assert_array_equal(scan.counts.compute(), cube)
        assert (scan.name, scan.detector, scan.format) == ("10264", "77", "Amptek .mca")


def test_facts(mca_folder: Path) -> None:
    scan = io.load(mca_folder)
    axis = scan.require_axis()
    assert [axis.gain_kev, axis.zero_kev] == pytest.approx([0.5, 0.0])
    assert scan.live_time_s is None
    assert scan.real_time_s is not None
    np.testing.assert_allclose(scan.real_time_s, 3.004)
    assert scan.present is None
    assert scan.metadata["dwell_time_s"] == "3.5"
    assert any("SPOT_1.mca" in note for note in scan.notes)
    assert any("live time is unknown" in note for note in scan.notes)


def test_one_pixel_is_read_alone(mca_folder: Path, cube: Cube) -> None:
    scan = io.load(mca_folder)
    np.testing.assert_array_equal(scan.pixel(2, 1).counts, cube[2, 1])
    np.testing.assert_array_equal(scan.counts[1:, ::2, 3:5].compute(), cube[1:, ::2, 3:5])
    np.testing.assert_array_equal(scan.counts[:, -1].compute(), cube[:, -1])


def test_live_time_per_pixel_with_decimal_comma(mca_folder: Path, cube: Cube) -> None:
    (mca_folder / "10264" / "None_2.mca").write_text(mca_text(cube[0, 1], live="2,75"), "latin-1")
    live = io.load(mca_folder).live_time_s
    assert live is not None
    assert live[0, 1] == 2.75
    assert np.isnan(live).sum() == 11
    scan = io.load(mca_folder)
    assert (scan.pixel(0, 1).live_time_s, scan.pixel(0, 0).live_time_s) == (2.75, None)


def test_shape_in_place_of_the_grid_file(mca_folder: Path, cube: Cube) -> None:
    (mca_folder / "colonneXrighe.txt").unlink()
    with pytest.raises(ScanError, match=r"12 spectra, but no grid file"):
        io.load(mca_folder)
    np.testing.assert_array_equal(io.load(mca_folder, shape=(4, 3)).counts.compute(), cube.reshape(4, 3, 8))


def test_grid_file_beside_the_spectra(mca_folder: Path, cube: Cube) -> None:
    spectra = mca_folder / "10264"
    shutil.move(mca_folder / "colonneXrighe.txt", spectra / "colonneXrighe.txt")
    np.testing.assert_array_equal(io.load(spectra).counts.compute(), cube)


@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (2, 4), (30, 40)])
def test_grid_that_does_not_match(mca_folder: Path, rows: int, columns: int) -> None:
    (mca_folder / "colonneXrighe.txt").write_text(f"righe {rows}\ncolonne {columns}\n")
    message = rf"{rows} rows x {columns} columns = {rows * columns} pixels, but there are 12 spectra"
    with pytest.raises(ScanError, match=message):
        io.load(mca_folder)


@pytest.mark.parametrize("text", ["righe 3\ncolonne many\n", "righe 0\ncolonne 4\n", "righe 2.5\ncolonne 4\n"])
def test_grid_file_with_nonsense(mca_folder: Path, text: str) -> None:
    (mca_folder / "colonneXrighe.txt").write_text(text)
    with pytest.raises(ScanError, match="is not a number of rows or columns"):
        io.load(mca_folder)


@pytest.mark.parametrize("number", [1, 6, 12])
def test_missing_pixel(mca_folder: Path, cube: Cube, number: int) -> None:
    (mca_folder / "10264" / f"None_{number}.mca").unlink()
    scan = io.load(mca_folder)
    expected = cube.copy().reshape(12, 8)
    expected[number - 1] = 0
    np.testing.assert_array_equal(scan.counts.compute(), expected.reshape(cube.shape))
    assert scan.present is not None
    assert np.flatnonzero(~scan.present.ravel()).tolist() == [number - 1]
    assert any("1 of 12 pixels have no file" in note for note in scan.notes)


def test_more_than_half_missing(mca_folder: Path) -> None:
    for number in range(2, 9):
        (mca_folder / "10264" / f"None_{number}.mca").unlink()
    with pytest.raises(ScanError, match="there are 5 spectra, numbered 1 to 12"):
        io.load(mca_folder)


def test_scan_that_stopped_early_is_read_with_its_planned_shape(mca_folder: Path) -> None:
    for number in range(9, 13):
        (mca_folder / "10264" / f"None_{number}.mca").unlink()
    with pytest.raises(ScanError, match="8 spectra"):
        io.load(mca_folder)
    present = io.load(mca_folder, shape=(3, 4)).present
    assert present is not None
    assert present.sum() == 8


def damage(folder: Path, number: int, text: str) -> None:
    (folder / "10264" / f"None_{number}.mca").write_text(text, "latin-1")


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (lambda text: text[:-20], "cut off"),
        (lambda text: text[:30], "not an .mca spectrum"),
        (lambda _: "", "not an .mca"),
    ],
)
def test_truncated_pixel(mca_folder: Path, cube: Cube, keep: object, message: str) -> None:
    assert callable(keep)
    damage(mca_folder, 7, keep(mca_text(cube[1, 2])))
    scan = io.load(mca_folder)
    with pytest.raises(ScanError, match=message) as caught:
        scan.counts.compute()
    assert "None_7.mca (pixel row 1, column 2)" in str(caught.value)


def test_truncated_first_file_is_refused_at_once(mca_folder: Path, cube: Cube) -> None:
    damage(mca_folder, 1, mca_text(cube[0, 0], end=""))
    with pytest.raises(ScanError, match=r"None_1\.mca: the file is cut off"):
        io.load(mca_folder)


def test_mixed_channel_counts(mca_folder: Path) -> None:
    damage(mca_folder, 7, mca_text(np.ones(9, dtype=int)))
    with pytest.raises(ScanError, match=r"None_7\.mca.*it has 9 channels, the scan's first spectrum has 8"):
        io.load(mca_folder).counts.compute()


@pytest.mark.parametrize("word", ["-3", "nan", "4.5", "x"])
def test_what_is_no_count(mca_folder: Path, cube: Cube, word: str) -> None:
    damage(mca_folder, 7, mca_text(cube[1, 2]).replace("<<DATA>>\r\n", f"<<DATA>>\r\n1\r\n{word}\r\n"))
    with pytest.raises(ScanError, match=rf"None_7\.mca \(pixel row 1, column 2\): channel 1 holds '{word}'"):
        io.load(mca_folder).counts.compute()


@pytest.mark.parametrize("number", ["4294967296", "9" * 30])
def test_counts_that_no_detector_counts(mca_folder: Path, cube: Cube, number: str) -> None:
    path = mca_folder / "10264" / "None_7.mca"
    path.write_text(
        mca_text(cube[1, 2]).replace(f"<<DATA>>\r\n{cube[1, 2, 0]}\r", f"<<DATA>>\r\n{number}\r"), "latin-1"
    )
    with pytest.raises(ScanError, match=rf"channel 0 holds {number} counts, more than"):
        io.load(mca_folder).counts.compute()
    with pytest.raises(ScanError, match=rf"channel 0 holds {number} counts, more than"):
        io.read_spectrum(path)


def test_empty_data_section(mca_folder: Path) -> None:
    damage(mca_folder, 1, mca_text(np.zeros(0, dtype=int)))
    with pytest.raises(ScanError, match="its data section is empty"):
        io.load(mca_folder)


def test_only_spots(mca_folder: Path) -> None:
    for path in (mca_folder / "10264").glob("None_*"):
        path.unlink()
    with pytest.raises(ScanError, match=r"no numbered \.mca files"):
        io.load(mca_folder)


def test_two_series_of_names(mca_folder: Path, cube: Cube) -> None:
    (mca_folder / "10264" / "Other_1.mca").write_text(mca_text(cube[0, 0]), "latin-1")
    with pytest.raises(ScanError, match="None: 12, Other: 1"):
        io.load(mca_folder)


def test_without_calibration(mca_folder: Path, cube: Cube) -> None:
    damage(mca_folder, 1, mca_text(cube[0, 0], points="5 2.0"))
    scan = io.load(mca_folder)
    assert scan.axis is None
    assert any("no energy calibration" in note for note in scan.notes)
    assert any("11 spectra have another calibration" in note for note in scan.notes)


def test_falling_calibration_is_not_used(mca_folder: Path, cube: Cube) -> None:
    damage(mca_folder, 1, mca_text(cube[0, 0], points="2 3.0\r\n6 1.0"))
    scan = io.load(mca_folder)
    assert scan.axis is None
    assert any("calibration ignored" in note for note in scan.notes)


def test_two_detector_folders_are_added_or_kept_apart(mca_folder: Path, cube: Cube) -> None:
    second = np.random.default_rng(4).integers(0, 50, cube.shape)
    (mca_folder / "19511").mkdir()
    for number, counts in enumerate(second.reshape(12, -1), start=1):
        (mca_folder / "19511" / f"None_{number}.mca").write_text(mca_text(counts), "latin-1")
    scans = io.load_all(mca_folder)
    assert [scan.name for scan in scans] == ["10264", "19511"]
    summed = io.load(mca_folder)
    np.testing.assert_allclose(summed.counts.compute(), cube + second, rtol=1e-6)
    assert any("2 detectors" in note for note in summed.notes)
    with pytest.raises(ScanError, match="Choose one by its name"):
        io.load(mca_folder, detectors="separate")
    assert len(io.load_all([mca_folder / "10264", mca_folder / "19511"])) == 2
    np.testing.assert_array_equal(io.load(f"{mca_folder}::19511").counts.compute(), second)


def test_single_file(mca_folder: Path, cube: Cube) -> None:
    spectrum = io.read_spectrum(mca_folder / "10264" / "None_3.mca")
    np.testing.assert_array_equal(spectrum.counts, cube[0, 2])
    assert spectrum.live_time_s is None
    assert spectrum.real_time_s == 3.004
    assert io.load(mca_folder / "10264" / "None_3.mca").shape == (1, 1, 8)


def test_aurora(aurora_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_names, read_bytes = list[str](), Path.read_bytes

    def counted_read(path: Path) -> bytes:
        read_names.append(path.name)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", counted_read)
    scan = io.load(aurora_folder)
    counts = scan.counts.compute(scheduler="synchronous")
    assert len(set(read_names)) >= 7200
    assert len(read_names) < 1.1 * len(set(read_names))
    array = io.load(f"{Path(__file__).resolve().parents[2].parent / 'shared/data/aurora/prova1.npz'}::det_10264")
    np.testing.assert_array_equal(counts, array.counts.compute())
    assert scan.detector == "10264"
    assert any("4 spectra are not pixels" in note for note in scan.notes)


def test_from_inside_the_folder(mca_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mca_folder / "10264")
    scan = io.load(".")
    assert (scan.shape, scan.name) == ((3, 4, 8), "10264")


def test_calibration_in_ev_without_a_label(mca_folder: Path, cube: Cube) -> None:
    damage(mca_folder, 1, mca_text(cube[0, 0], points="2 1000\r\n6 3000"))
    scan = io.load(mca_folder)
    assert scan.require_axis().gain_kev == pytest.approx(0.5)
    assert any("read as eV" in note for note in scan.notes)


def test_calibration_points_that_are_channels(mca_folder: Path, cube: Cube) -> None:
    damage(mca_folder, 1, mca_text(cube[0, 0], points="0 0\r\n731 731\r\n2047 2047"))
    scan = io.load(mca_folder)
    assert scan.axis is None
    assert "no energy calibration in the file" in scan.notes


def test_calibration_points_off_a_line(mca_folder: Path, cube: Cube) -> None:
    damage(mca_folder, 1, mca_text(cube[0, 0], points="0 0\r\n100 2\r\n200 4.5\r\n400 8"))
    scan = io.load(mca_folder)
    assert scan.axis is None
    assert any("channels from a line" in note for note in scan.notes)


def test_calibration_in_ev(mca_folder: Path, cube: Cube) -> None:
    text = mca_text(cube[0, 0], points="2 1000\r\n6 3000").replace("LABEL - Channel", "LABEL - eV")
    damage(mca_folder, 1, text)
    assert io.load(mca_folder).require_axis().gain_kev == pytest.approx(0.5)


def test_a_file_of_millions_of_channels_is_no_spectrum(tmp_path: Path) -> None:
    (tmp_path / "list.mca").write_text(mca_text(np.ones(200_000, int)), "latin-1")
    with pytest.raises(ScanError, match=r"200000 channels\. Detectors have at most 131072"):
        io.load(tmp_path / "list.mca")
