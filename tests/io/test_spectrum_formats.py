"""Formats of single spectra and lists of them: as written by hand, with other line ends and decimal signs, and real."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spectrum_files import COUNTS, emsa_text, gsecars_text, iaea_text, rtx_text, s1pxrf_text, spec_text

from underpaint import io
from underpaint.data import EnergyAxis, Scan
from underpaint.errors import ScanError
from underpaint.io.readers._bruker_xml import parse_xml, spectrum_nodes

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
LINE_ENDS = ["\n", "\r\n", "\r"]


def write(path: Path, text: str, encoding: str = "cp1252") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def assert_axis(scan: Scan, expected: EnergyAxis) -> None:
    axis = scan.require_axis()
    assert [axis.gain_kev, axis.zero_kev] == pytest.approx([expected.gain_kev, expected.zero_kev])


def real(*names: str) -> Path:
    path = DATA.joinpath(*names)
    if not path.exists():
        pytest.skip(f"{'/'.join(names)} is not there (shared/data)")
    return path


# --- Bruker ARTAX ----------------------------------------------------------------------------------


def test_artax_project(tmp_path: Path) -> None:
    scan = io.load(write(tmp_path / "a", rtx_text()))
    np.testing.assert_array_equal(scan.counts.compute(), COUNTS[None])
    assert scan.axis == EnergyAxis(0.02, -0.1, 64)
    assert scan.live_time_s is not None
    np.testing.assert_allclose(scan.live_time_s, [[1.0, 1.001, 1.002, 1.003]])
    assert scan.metadata["names"] == [f"point {number}" for number in (1, 2, 3, 4)]
    assert "4 spectra (point 1, point 2, point 3, point 4), read as one row" in scan.notes[0]
    assert io.load(tmp_path / "a", shape=(2, 2)).shape == (2, 2, 64)


@pytest.mark.parametrize("name", ["3", "point 3"])
def test_one_spectrum_of_a_project(tmp_path: Path, name: str) -> None:
    spectrum = io.read_spectrum(f"{write(tmp_path / 'a.rtx', rtx_text())}::{name}")
    np.testing.assert_array_equal(spectrum.counts, COUNTS[2])
    assert spectrum.live_time_s == pytest.approx(1.002)


def test_spectra_of_a_project_on_other_axes_are_moved_to_the_first(tmp_path: Path) -> None:
    peaks = np.zeros((2, 64), dtype=np.int64)
    peaks[0, 20] = peaks[1, 15] = 1000
    # 0.3 keV is channel 20 of the first axis and channel 15.4 of the second.
    scan = io.load(write(tmp_path / "a.rtx", rtx_text(peaks, gains=(0.02, 0.026))))
    counts = scan.counts.compute()
    assert counts[0, 0].argmax() == 20
    assert abs((counts[0, 1] * np.arange(64)).sum() / counts[0, 1].sum() - 19.5) < 0.1
    assert counts[0, 1].sum() == pytest.approx(1000)
    assert any("1 of 2 spectra have another energy axis" in note for note in scan.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("<TRTProject>", '<!DOCTYPE a [<!ENTITY b "c">]><TRTProject>'), "declares entities"),
        (lambda text: text[:-2000], "Bruker XML is damaged"),
        (lambda text: text.replace("<ChannelCount>64", "<ChannelCount>65"), "::1: a Bruker spectrum of 64 channels"),
        (lambda text: text.replace("TRTSpectrum", "TRTNothing"), "without a spectrum in it"),
    ],
)
def test_artax_project_with_nonsense(tmp_path: Path, change: object, message: str) -> None:
    assert callable(change)
    with pytest.raises(ScanError, match=message):
        io.load(write(tmp_path / "a.rtx", change(rtx_text())))


def test_a_faulty_spectrum_of_a_project_does_not_cost_the_others(tmp_path: Path) -> None:
    path = write(tmp_path / "a.rtx", rtx_text().replace("<ChannelCount>64", "<ChannelCount>65", 1))
    scan = io.load(path)
    np.testing.assert_array_equal(scan.counts.compute(), COUNTS[None, 1:])
    assert any("1 of 4 spectra are skipped" in note and "::1: a Bruker spectrum" in note for note in scan.notes)


@pytest.mark.parametrize("text", [rtx_text(), "<TRTSpectrum><ClassInstance/></TRTSpectrum>"])
def test_entities_are_refused_in_any_encoding(tmp_path: Path, text: str) -> None:
    bomb = re.sub(r"^<\?xml.*?\?>\s*", "", text)
    start = f'<?xml version="1.0" encoding="UTF-16"?>{" " * 10}<!DOCTYPE a [<!ENTITY b "c">]>'
    path = write(tmp_path / "a", start + bomb, "utf-16")
    with pytest.raises(ScanError, match="declares entities"):
        parse_xml(path.read_bytes(), "a")
    with pytest.raises(ScanError, match="declares entities"):
        list(spectrum_nodes(path))


# --- S1PXRF, IAEA, SPEC, GSECARS, one column -------------------------------------------------------


@pytest.mark.parametrize("end", LINE_ENDS)
def test_s1pxrf(tmp_path: Path, end: str) -> None:
    scan = io.load(write(tmp_path / "a", s1pxrf_text(end=end)))
    np.testing.assert_array_equal(scan.counts.compute()[0, 0], COUNTS[0])
    assert scan.axis == EnergyAxis(0.0205, 0.0, 64)
    assert (scan.pixel(0, 0).live_time_s, scan.pixel(0, 0).real_time_s) == (57.25, 60.5)
    assert scan.metadata["HV ADC"] == "40.000000"
    assert any("does not state the zero of its energy axis" in note for note in scan.notes)


@pytest.mark.parametrize("end", LINE_ENDS)
@pytest.mark.parametrize(
    ("energies", "axis"),
    [
        ("$MCA_CAL:\n3\n-0.1 0.02 0.0 keV\n", EnergyAxis(0.02, -0.1, 64)),
        ("$MCA_CAL:\n2\n-100 20 eV\n", EnergyAxis(0.02, -0.1, 64)),
        ("$ENER_FIT:\n-0.1 0.02\n", EnergyAxis(0.02, -0.1, 64)),
        ("", None),
    ],
)
def test_iaea(tmp_path: Path, energies: str, axis: EnergyAxis | None, end: str) -> None:
    scan = io.load(write(tmp_path / "a", iaea_text(energies=energies, end=end)))
    np.testing.assert_array_equal(scan.counts.compute()[0, 0], COUNTS[0])
    if axis is None:
        assert scan.axis is None
    else:
        assert_axis(scan, axis)
    assert (scan.pixel(0, 0).live_time_s, scan.pixel(0, 0).real_time_s) == (57.25, 60.5)


def test_iaea_whose_data_begin_later_keep_their_energies(tmp_path: Path) -> None:
    text = iaea_text().replace("0 63\n", "10 73\n")
    assert io.load(write(tmp_path / "a", text)).require_axis().zero_kev == pytest.approx(0.1)


def test_spec_file_of_several_scans(tmp_path: Path) -> None:
    scan = io.load(write(tmp_path / "a", spec_text()))
    np.testing.assert_array_equal(scan.counts.compute(), COUNTS[None])
    assert scan.axis == EnergyAxis(0.02, -0.1, 64)
    assert scan.live_time_s is not None
    assert scan.live_time_s.tolist() == [[8, 9, 10, 11]]
    assert scan.metadata["names"] == ["1.1", "2.1", "3.1", "4.1"]
    np.testing.assert_array_equal(io.read_spectrum(f"{tmp_path / 'a'}::3.1").counts, COUNTS[2])


def test_spec_scan_of_several_detectors(tmp_path: Path) -> None:
    text = "#S 1 mesh\n#@CALIB -0.1 0.02 0\n#@CALIB 0 0.021 0\n" + "".join(
        f"{place} 1\n@A {' '.join(map(str, counts))}\n" for place, counts in enumerate(COUNTS)
    )
    scans = io.load_all(write(tmp_path / "a", text))
    assert [scan.detector for scan in scans] == ["1", "2"]
    for place, gain in ((0, 0.02), (1, 0.021)):
        np.testing.assert_array_equal(scans[place].counts.compute(), COUNTS[None, place::2])
        assert scans[place].require_axis().gain_kev == gain


@pytest.mark.parametrize("calibration", ["-100 20 0", "-0.1 0.02 0"])
def test_spec_spectrum_without_a_scan(tmp_path: Path, calibration: str) -> None:
    text = f"#F a\n#@CALIB {calibration}\n@A {' '.join(map(str, COUNTS[0]))}\n"
    assert_axis(io.load(write(tmp_path / "a", text)), EnergyAxis(0.02, -0.1, 64))


def test_spec_columns_of_one_spectrum(tmp_path: Path) -> None:
    lines = "".join(f"{channel}  {count}  {0.02 * channel - 0.1:.7g}\n" for channel, count in enumerate(COUNTS[0]))
    head = "#F a.mca\n#D Thu Oct 10 2024\n\n#S 1 sample 3\n#D Thu Oct 10 2024\n#N 3\n#L channel  counts  energy\n"
    for text in (head, head[head.index("#S") :]):
        scan = io.load(write(tmp_path / "a", text + lines))
        np.testing.assert_array_equal(scan.counts.compute()[0, 0], COUNTS[0])
        assert_axis(scan, EnergyAxis(0.02, -0.1, 64))
    with pytest.raises(ScanError, match="scan 1 does not have 3 numbers"):
        io.load(write(tmp_path / "b", head + lines + "64  1"))


@pytest.mark.parametrize("end", LINE_ENDS)
def test_gsecars_detectors_are_those_of_one_spectrum(tmp_path: Path, end: str) -> None:
    path = write(tmp_path / "a", gsecars_text(end=end))
    scans = io.load_all(path)
    for place, scan in enumerate(scans):
        np.testing.assert_array_equal(scan.counts.compute()[0, 0], COUNTS[place])
        axis = scan.require_axis()
        assert [axis.gain_kev, axis.zero_kev] == pytest.approx([0.02 + 0.0001 * place, -0.1 + 0.001 * place])
        assert scan.pixel(0, 0).live_time_s == 8.25 + place
    assert io.load(path).shape == (1, 1, 64)
    np.testing.assert_array_equal(io.load(path, detector="3").counts.compute()[0, 0], COUNTS[2])
    np.testing.assert_array_equal(io.read_spectrum(f"{path}::2").counts, COUNTS[1])


def test_gsecars_detector_whose_energies_curve(tmp_path: Path) -> None:
    slight, strong = (
        write(tmp_path / name, gsecars_text(quadratic=value)) for name, value in (("a", 5e-6), ("b", 1e-4))
    )
    assert any("read as a linear axis" in note for note in io.load(slight).notes)
    assert all(scan.axis is None and "from a linear axis" in scan.notes[1] for scan in io.load_all(strong))


def test_one_column_is_a_spectrum(tmp_path: Path) -> None:
    scan = io.load(write(tmp_path / "a", "# a spectrum\n" + "\r\n".join(f"{count:.8E}" for count in COUNTS[0])))
    np.testing.assert_array_equal(scan.counts.compute()[0, 0], COUNTS[0])
    assert scan.axis is None
    with pytest.raises(ScanError, match="only column increases regularly from 0 to"):
        io.load(write(tmp_path / "b", "\n".join(f"{0.02 * channel}" for channel in range(64))))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (s1pxrf_text()[:-40], "S1PXRF spectrum of 64 channels whose"),
        (s1pxrf_text().replace("\r5,", "\r7,"), "do not hold each of them"),
        (iaea_text()[:-200], "declares the channels 0 to 63, and holds"),
        (iaea_text().replace("0 63\n", "0 63\nx "), "'x' in place of a number"),
        (spec_text()[:-30], "a spectrum of .* channels, where 64 were declared"),
        ("#F a\n#S 1 scan\n#L a  b\n1 2\n", "SPEC file without spectra in it"),
        (gsecars_text()[:-30], "4 detectors that holds"),
        (gsecars_text().replace("ELEMENTS:   4", "ELEMENTS:   4000"), "64 channels and 4000 detectors"),
    ],
)
def test_what_is_cut_off_or_edited(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ScanError, match=message):
        io.load(write(tmp_path / "a", text))


def test_no_such_spectrum_of_a_list(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"none of its 4 spectra has this name. Give a number from 1 to 4"):
        io.load(f"{write(tmp_path / 'a', spec_text())}::9")


def test_spec_file_as_silx_reads_it(tmp_path: Path) -> None:
    silx = pytest.importorskip("silx.io.specfile", reason="silx is not installed")
    file = silx.SpecFile(str(write(tmp_path / "a.mca", spec_text())))
    theirs = np.stack([scan.mca[0] for scan in file])
    calibration = file[0].mca.calibration[0]
    file.close()
    scan = io.load(tmp_path / "a.mca")
    np.testing.assert_array_equal(scan.counts.compute()[0], theirs)
    assert [scan.require_axis().zero_kev, scan.require_axis().gain_kev] == calibration[:2]


# --- EMSA ------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    comma=st.booleans(),
    pairs=st.booleans(),
    columns=st.integers(1, 6),
    unit=st.sampled_from(["keV", "eV", ""]),
    end=st.sampled_from(LINE_ENDS),
    separator=st.sampled_from([" ", "\t", ", ", " ; "]),
    promised=st.booleans(),
)
def test_emsa_in_every_manner(
    tmp_path: Path, comma: bool, pairs: bool, columns: int, unit: str, end: str, separator: str, promised: bool
) -> None:
    text = emsa_text(comma=comma, pairs=pairs, columns=columns, unit=unit)
    head, body = text.split("#SPECTRUM")
    body = body.replace(" ; " if comma else ", ", separator)
    if not promised:
        head = re.sub(r"#NPOINTS.*\n", "", head)
    scan = io.load(write(tmp_path / "a", f"{head}#SPECTRUM{body}".replace("\n", end)))
    np.testing.assert_array_equal(scan.counts.compute()[0, 0], COUNTS[0] + 0.5)
    axis = scan.require_axis()
    assert [axis.gain_kev, axis.zero_kev] == pytest.approx([0.02, -0.1])
    assert (scan.pixel(0, 0).live_time_s, scan.pixel(0, 0).real_time_s) == (57.25, 60.5)


def test_emsa_zero_from_the_channel_of_zero_energy(tmp_path: Path) -> None:
    text = re.sub(r"#OFFSET.*", "#CHOFFSET : 5", emsa_text())
    assert io.load(write(tmp_path / "a", text)).axis == EnergyAxis(0.02, -0.1, 64)


# --- real files ------------------------------------------------------------------------------------

REAL = [
    ("spectrum_formats/Steel.spe", (1, 1, 2048), 5_607_017, None, None),
    ("spectrum_formats/XRFSpectrum.mca", (1, 1, 4096), 56_640_073, None, None),
    ("spectrum_formats/s1pxrf_sdo1_15kv.CSV", (1, 1, 2048), 5_070_688, (0.0198362, 0.0), 167.47702),
    ("spectrum_formats/s1pxrf_sdo1_40kv.CSV", (1, 1, 2048), 949_113, (0.0198371, 0.0), 57.717003),
    ("spectrum_formats/artax_six_spectra.rtx", (1, 6, 2048), 21_014_536, (0.02, 0.0), 106.571),
    ("spectrum_formats/srm1832.mca", (1, 1, 2048), 22_468_034, (0.01465549, -0.01068655), 357.652191),
    ("spectrum_formats/axorf4_21kev_i050.xrf", (1, 1, 2048), 1_944_405, (0.01479939, -0.025184151), 457.9483566),
    ("spectrum_formats/xrf_spectra.mca", (1, 1, 2048), 380_924, (0.013900329, 0.022052931), 1.7931432),
    ("bruker_m4/Cu_50kv_50_ma_Rh_vac_D1.msa", (1, 1, 4096), 8_565_281, (0.009999, -0.9553045), 120.023),
    ("pure_elements/Cu.txt", (1, 1, 4096), 682_907, (0.01, -0.4), 30.0),
]


@pytest.mark.parametrize(("name", "shape", "total", "axis", "live_s"), REAL, ids=[entry[0] for entry in REAL])
def test_real_files(
    name: str, shape: tuple[int, ...], total: int, axis: tuple[float, float] | None, live_s: float | None
) -> None:
    scan = io.load(real(*name.split("/")))
    assert scan.shape == shape
    assert float(scan.counts.sum().compute()) == pytest.approx(total, rel=1e-5)
    assert (scan.axis and (scan.axis.gain_kev, scan.axis.zero_kev)) == (axis and pytest.approx(axis))
    assert (None if scan.live_time_s is None else float(scan.live_time_s.sum())) == (live_s and pytest.approx(live_s))


def test_lines_of_the_s1pxrf_file_lie_where_its_axis_says() -> None:
    """Calcium and iron of a shale: the channel of zero energy, which the file leaves out, is channel 0."""
    spectrum = io.read_spectrum(real("spectrum_formats", "s1pxrf_sdo1_15kv.CSV"))
    assert spectrum.axis is not None
    for energy_kev in (3.692, 6.404):
        near = np.abs(spectrum.axis.energy_kev - energy_kev) < 0.08
        peak = spectrum.counts[near] - spectrum.counts[near].min()
        assert (peak * spectrum.axis.energy_kev[near]).sum() / peak.sum() == pytest.approx(energy_kev, abs=0.02)
