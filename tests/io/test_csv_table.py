"""Spectra and tables of pixels as text."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from underpaint import io
from underpaint.errors import ScanError

Cube = NDArray[np.int64]
COUNTS = [1.0, 2.0, 0.0, 5.0]


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "channel,counts\n0,1\n1,2\n2,0\n3,5\n",
        "0,1\n1,2\n2,0\n3,5",
        "# of a sample\n1;1\n2;2\n3;0\n4;5\n",
        "0\t1.0\n1\t2.0\n2\t0\n3\t5e0\n",
        "  0   1 \n  1   2 \n\n 2 0\n3 5\n",
        'channel,"counts"\r0,"1"\r1,"2"\r2,"0"\r3,"5"\r',
        "\ufeffChannel;Counts\r\n0;1,0\r\n1;2,0\r\n2;0,0\r\n3;5,0\r\n",
    ],
)
def test_spectrum_of_channels(tmp_path: Path, text: str) -> None:
    spectrum = io.read_spectrum(write(tmp_path / "spectrum", text))
    np.testing.assert_array_equal(spectrum.counts, COUNTS)
    assert spectrum.axis is None


@pytest.mark.parametrize(
    ("text", "gain", "zero"),
    [
        ("energy (keV),counts\n1,1\n2,2\n3,0\n4,5\n", 1.0, 1.0),
        ("0.10,1\n0.12,2\n0.14,0\n0.16,5\n", 0.02, 0.1),
        ("eV;n\n100;1\n120;2\n140;0\n160;5\n", 0.02, 0.1),
        ("1000 1\n1020 2\n1040 0\n1060 5\n", 0.02, 1.0),
        ("0,10;1\n0,12;2\n0,14;0\n0,16;5\n", 0.02, 0.1),
    ],
)
def test_spectrum_of_energies(tmp_path: Path, text: str, gain: float, zero: float) -> None:
    spectrum = io.read_spectrum(write(tmp_path / "a.csv", text))
    np.testing.assert_array_equal(spectrum.counts, COUNTS)
    assert spectrum.axis is not None
    assert [spectrum.axis.gain_kev, spectrum.axis.zero_kev] == pytest.approx([gain, zero])


def table(cube: Cube, headings: list[str], order: NDArray[np.int64], first: int = 0) -> str:
    lines = [",".join(["row", "column", *headings])] if headings else []
    for number in order:
        row, column = divmod(int(number), cube.shape[1])
        lines.append(",".join(map(str, [row + first, column + first, *cube[row, column]])))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("first", [0, 1])
def test_pixels_in_any_order(tmp_path: Path, cube: Cube, first: int) -> None:
    headings = [f"{0.1 + 0.5 * channel:.1f} keV" for channel in range(8)]
    order = np.random.default_rng(1).permutation(12)
    scan = io.load(write(tmp_path / "a.csv", table(cube, headings, order, first)))
    np.testing.assert_array_equal(scan.counts.compute(), cube)
    np.testing.assert_array_equal(scan.counts[1:, 2:].compute(), cube[1:, 2:])
    assert scan.axis is not None
    assert [scan.axis.gain_kev, scan.axis.zero_kev] == pytest.approx([0.5, 0.1])
    assert scan.present is None


def test_missing_and_repeated_pixels(tmp_path: Path, cube: Cube) -> None:
    headings = [f"ch{channel}" for channel in range(8)]
    without = np.delete(np.arange(12), 5)
    scan = io.load(write(tmp_path / "a.csv", table(cube, headings, without)))
    assert scan.present is not None
    assert not scan.present[1, 1]
    assert scan.axis is None
    with pytest.raises(ScanError, match="12 lines belong to 11 pixels; some pixels occur twice"):
        io.load(write(tmp_path / "b.csv", table(cube, headings, np.append(without, 0))))


def test_lines_are_pixels(tmp_path: Path, cube: Cube) -> None:
    path = tmp_path / "lines"
    wide = np.tile(cube, 4)
    np.savetxt(path, wide.reshape(12, 32), fmt="%d")
    np.testing.assert_array_equal(io.load(path, shape=(3, 4)).counts.compute(), wide)
    assert io.load(path).shape == (1, 12, 32)
    with pytest.raises(ScanError, match="12 lines do not fill 2 x 5 pixels"):
        io.load(path, shape=(2, 5))


def test_a_heading_longer_than_a_head(tmp_path: Path) -> None:
    counts = np.arange(4 * 2048).reshape(2, 2, 2048)
    headings = [f"{0.02 * channel:.2f}" for channel in range(2048)]
    scan = io.load(write(tmp_path / "wide.csv", table(counts, headings, np.arange(4))))
    np.testing.assert_array_equal(scan.counts.compute(), counts)
    assert scan.axis is not None
    assert scan.axis.gain_kev == pytest.approx(0.02)


CHANNELS = np.arange(64)
ENERGIES = 0.02 * CHANNELS - 0.1
SPECTRUM = CHANNELS * 7 % 23


def columns(heading: str, line: str) -> str:
    """Text of a line for each channel; in ``line`` the channel ``c``, energy ``e``, counts ``n``, its comma ``k``."""
    lines = [
        line.format(c=channel, e=energy, n=count, k=f"{energy:.2f}".replace(".", ","))
        for channel, energy, count in zip(CHANNELS, ENERGIES, SPECTRUM, strict=True)
    ]
    return "\n".join([heading, *lines] if heading else lines) + "\n"


@pytest.mark.parametrize(
    ("heading", "line"),
    [
        ('"channel","counts","energy"', "{c:.7E},{n:.7E},{e:.7E}"),  # as PyMca saves it
        ('"channel"  "counts"  "energy"', "{c:.7E}  {n:.7E}  {e:.7E}"),
        ("", "{c:.7E}  {n:.7E}  {e:.7E}"),
        ("", "{c},{e:.2f},{n}"),
        ("channel;energy;counts", "{c};{k};{n}"),
        ("counts,energy", "{n},{e:.2f}"),
        ("energy,counts,fit", "{e:.2f},{n},0.5"),
        ("Energy (keV),fit,Counts", "{e:.2f},0.5,{n}"),
        ("energy,counts", '"{k}",{n}'),
    ],
)
def test_columns_of_one_spectrum(tmp_path: Path, heading: str, line: str) -> None:
    scan = io.load(write(tmp_path / "a.csv", columns(heading, line)))
    np.testing.assert_array_equal(scan.counts.compute(), SPECTRUM[None, None])
    axis = scan.require_axis()
    assert [axis.gain_kev, axis.zero_kev] == pytest.approx([0.02, -0.1])
    assert ("columns ignored: fit" in scan.notes) == ("fit" in heading)


def test_columns_of_detectors(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", columns("energy,det1,det2", "{e:.2f},{n},{c}"))
    assert [scan.detector for scan in io.load_all(path)] == ["det1", "det2"]
    np.testing.assert_array_equal(io.load(path).counts.compute()[0, 0], SPECTRUM + CHANNELS)
    np.testing.assert_array_equal(io.load(path, detector="det1").counts.compute()[0, 0], SPECTRUM)


@pytest.mark.parametrize(
    ("heading", "line", "message"),
    [
        ("energy,a,fit", "{e:.2f},{n},{n}", r"2 columns are next to the channels or energies \(a, fit\)"),
        ("", "{e:.2f},{n},0.5", "of its three columns without known headings"),
        ("", "{e:.2f},{n},0.5,1", "which have 32 channels or more"),
        ("energy,counts", "{k},{n}", "decimal commas look like separators"),
        ("id,row,column,a", "{c},0,{c},{n}", "its column 'row' is a coordinate"),
        ("x,a,b", "{c},{n},{n}", "its column 'x' is a coordinate"),
    ],
)
def test_columns_that_are_no_spectra(tmp_path: Path, heading: str, line: str, message: str) -> None:
    with pytest.raises(ScanError, match=message):
        io.load(write(tmp_path / "a.csv", columns(heading, line)))


@pytest.mark.parametrize(
    ("first", "second", "step"),
    [
        ("row", "column", 0),
        ("Y", "X", 0),
        ("column", "row", 0),
        ("x", "y", 0),
        ("y_mm", "x_mm", 0.3),
        ("X (um)", "Y (um)", 50),
    ],
)
def test_coordinates_in_either_order(tmp_path: Path, cube: Cube, first: str, second: str, step: float) -> None:
    lines = [",".join([first, second, *[f"{0.1 + 0.5 * channel:.1f}" for channel in range(8)]])]
    for row, column in np.ndindex(3, 4):
        pair = (row, column) if first[0] in "rRyY" else (column, row)
        coordinates = [f"{5 + step * index:.2f}" if step else str(index) for index in pair]
        lines.append(",".join([*coordinates, *map(str, cube[row, column])]))
    scan = io.load(write(tmp_path / "a.csv", "\n".join(lines)))
    np.testing.assert_array_equal(scan.counts.compute(), cube)
    assert scan.require_axis().gain_kev == pytest.approx(0.5)
    step_mm = step / 1000 if "um" in first else step
    assert (scan.step_mm or (0, 0)) == pytest.approx((step_mm, step_mm))


def test_maps_of_elements_are_no_spectra(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"its 2 columns of numbers \(ca, hg l\) are not the channels of a spectrum"):
        io.load(write(tmp_path / "a.csv", "row,column,Ca,Hg L\n0,0,1,2\n0,1,3,4\n"))


def test_positions_that_are_not_even(tmp_path: Path) -> None:
    text = "y_mm,x_mm,0.1,0.2\n0,0,1,2\n0,1,1,2\n0,2.5,1,2\n0,3,1,2\n"
    with pytest.raises(ScanError, match="positions are not regular"):
        io.load(write(tmp_path / "a.csv", text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,1\n1,-2\n2,0\n", "holds -2 counts in channel 1"),
        ("0,1\n1,nan\n2,0\n", "holds nan counts"),
        ("0.0,1\n0.5,2\n9.0,0\n", "does not increase in equal steps"),
        ("row,column,a,b\n0,0,1,2\n0,1.5,3,4\n", "both must be integers"),
        ("row,column,a,b\n0,0,1,2\n0,900000,3,4\n", "must be integers, not positions"),
    ],
)
def test_tables_with_nonsense(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ScanError, match=message):
        io.load(write(tmp_path / "a.csv", text))


def test_a_line_with_too_few_numbers(tmp_path: Path, cube: Cube) -> None:
    lines = table(cube, [f"ch{channel}" for channel in range(8)], np.repeat(np.arange(12), 1)).splitlines()
    wide = [lines[0]] + [line if number != 10 else line.rsplit(",", 3)[0] for number, line in enumerate(lines[1:])]
    with pytest.raises(ScanError):
        io.load(write(tmp_path / "a.csv", "\n".join(wide))).counts.compute()


@pytest.mark.parametrize("text", ["hello, world\n", "name,age\nx,3\n", "1\n2\n3\n", "1,2\n3,4,5\n"])
def test_other_texts_are_no_tables(tmp_path: Path, text: str) -> None:
    with pytest.raises(ScanError, match="it is text that begins"):
        io.load(write(tmp_path / "a.csv", text))


def test_places_without_counts(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("row,column,0.02 keV\n0,0\n0,1\n1,0\n1,1\n")
    with pytest.raises(ScanError, match="after row and column its lines have no counts"):
        io.load(tmp_path / "a.csv")


@settings(max_examples=60)
@given(
    separator=st.sampled_from([",", ";", "\t", " "]),
    comma=st.booleans(),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    energies=st.sampled_from(["ch0 ch1 ch2 ch3", "0.02 0.04 0.06 0.08", "1000 1020 1040 1060"]),
    order=st.permutations(range(6)),
    first=st.integers(0, 1),
)
def test_tables_in_every_manner(
    tmp_path: Path, separator: str, comma: bool, end: str, energies: str, order: list[int], first: int
) -> None:
    cube = np.random.default_rng(1).integers(0, 9, (2, 3, 4)) + 0.5
    lines = [["row", "column", *energies.split()]]
    lines += [
        [str(number // 3 + first), str(number % 3 + first), *map(str, cube[divmod(number, 3)])] for number in order
    ]
    text = end.join(separator.join(words) for words in lines) + end
    path = write(tmp_path / "a", text.replace(".", ",") if comma and separator != "," else text)
    scan = io.load(path)
    np.testing.assert_array_equal(scan.counts.compute(), cube)
    if energies.startswith("ch"):
        assert scan.axis is None
    else:
        assert scan.require_axis().gain_kev == pytest.approx(0.02)


def test_a_second_heading_of_units(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).poisson(9.0, 256)
    lines = "".join(f"{20 * channel:g};{each}\n" for channel, each in enumerate(counts))
    for units in ("eV;cps", "[eV];counts/s", "ev;-"):
        scan = io.load(write(tmp_path / "a.csv", f"Energy;Counts\n{units}\n{lines}"))
        np.testing.assert_array_equal(scan.counts.compute().ravel(), counts)
        assert scan.axis is not None
        assert scan.axis.gain_kev == pytest.approx(0.02)


def test_text_in_utf_16_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Energy;Counts\n0.1;2\n0.2;3\n", "utf-16")
    with pytest.raises(ScanError, match=r"text in UTF-16\. Save the text as UTF-8"):
        io.load(tmp_path / "a.csv")
