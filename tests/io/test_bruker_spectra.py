"""Bruker .spx and .pdz against the libraries that know them, and damaged ones."""

from pathlib import Path

import numpy as np
import pytest
from bruker_samples import sample
from hypothesis import given, settings
from hypothesis import strategies as st

from underpaint import io
from underpaint.data import EnergyAxis
from underpaint.errors import ScanError

SPX = ("bruker_m6_jetstream_file_example.spx", "bruker_nano.spx", "extracted_from_bcf.spx")
PDZ = ("pdz24_example.pdz", "pdz25_example.pdz")
SMALL_SPX = """<?xml version="1.0" encoding="WINDOWS-1252" standalone="yes"?>
<TRTSpectrum><ClassInstance Type="TRTSpectrum" Name="a">{headers}
<ClassInstance Type="TRTSpectrumHeader"><ChannelCount>4</ChannelCount><CalibLin>{gain}</CalibLin></ClassInstance>
<Channels>{channels}</Channels></ClassInstance></TRTSpectrum>
"""


def small_spx(path: Path, channels: str = "1,2,0,5", gain: str = "1E-2", headers: str = "") -> Path:
    path.write_text(SMALL_SPX.format(channels=channels, gain=gain, headers=headers))
    return path


@pytest.mark.parametrize("name", SPX)
def test_spx_as_rosettasciio_reads_it(name: str) -> None:
    bruker = pytest.importorskip("rsciio.bruker")
    path = sample(name)
    scan, (other,) = io.load(path), bruker.file_reader(str(path))
    axis = other["axes"][0]
    np.testing.assert_array_equal(scan.counts.compute()[0, 0], other["data"])
    assert scan.axis == EnergyAxis(axis["scale"], axis["offset"], axis["size"])
    hardware = other["original_metadata"]["Hardware"]
    assert scan.live_time_s is not None
    assert scan.real_time_s is not None
    assert [scan.live_time_s[0, 0], scan.real_time_s[0, 0]] == pytest.approx(
        [hardware["LifeTime"] / 1000, hardware["RealTime"] / 1000]
    )
    assert scan.format == "Bruker .spx"


def test_spx_of_a_jetstream_tells_its_tube() -> None:
    scan = io.load(sample(SPX[0]))
    assert (scan.metadata["xrf.Voltage"], scan.metadata["xrf.Anode"], scan.detector) == ("50", "45", "13859M6_36")


def test_spx_with_decimal_commas(tmp_path: Path) -> None:
    assert io.load(small_spx(tmp_path / "a.spx", gain="0,02")).axis == EnergyAxis(0.02, 0.0, 4)


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ("1,2,3", "spectrum of 3 channels, where the header declares 4"),
        ("1,2,x,4", "channels must hold numbers"),
        ("1,-20000,3,4", "-20000 counts in channel 1"),
        ("1,nan,3,4", "channel 1 holds nan counts"),
    ],
)
def test_spx_with_nonsense(tmp_path: Path, channels: str, message: str) -> None:
    with pytest.raises(ScanError, match=message):
        io.load(small_spx(tmp_path / "a.spx", channels))


def test_spx_that_is_cut_off(tmp_path: Path) -> None:
    path = small_spx(tmp_path / "a.spx")
    path.write_text(path.read_text()[:-40])
    with pytest.raises(ScanError, match=r"Bruker XML is damaged .*line"):
        io.load(path)


def test_spx_that_is_a_bomb(tmp_path: Path) -> None:
    path = small_spx(tmp_path / "a.spx")
    entities = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    path.write_text(path.read_text().replace("?>\n", f"?>\n{entities}", 1))
    with pytest.raises(ScanError, match="declares entities"):
        io.load(path)


@pytest.mark.parametrize("name", PDZ)
def test_pdz_as_pdz_tool_reads_it(name: str) -> None:
    tool = pytest.importorskip("pdz_tool.pdz_tool")
    path = sample(name)
    scan, other = io.load(path), tool.PDZTool(str(path)).parse()["XRF Spectrum"]
    np.testing.assert_array_equal(scan.counts.compute()[0, 0], other["spectrum_data"])
    assert scan.axis is not None
    assert scan.axis.gain_kev == pytest.approx(other["ev_per_channel"] / 1000)
    assert scan.live_time_s is not None
    assert scan.live_time_s[0, 0] == pytest.approx(other.get("live_time", other.get("total_live")))
    assert scan.metadata["tube_voltage_kv"] == other.get("xray_voltage_kv", other.get("tube_voltage"))


@pytest.mark.parametrize("name", PDZ)
def test_pdz_lines_are_where_they_belong(name: str) -> None:
    spectrum = io.read_spectrum(sample(name))
    assert spectrum.axis is not None
    energy = spectrum.axis.energy_kev
    for line_kev in (3.691, 6.40):  # Ca and Fe, K-alpha
        near = np.abs(energy - line_kev) < 0.08
        peak = spectrum.counts[near] - spectrum.counts[near].min()
        assert (energy[near] * peak).sum() / peak.sum() == pytest.approx(line_kev, abs=0.02)


def test_pdz_with_two_phases_shows_one_and_names_the_other(tmp_path: Path) -> None:
    content = sample("pdz25_example.pdz").read_bytes()
    start = content.index(b"\x03\x00\x74\x20\x00\x00")
    record = content[start : start + 6 + 0x2074]
    path = tmp_path / "two.pdz"
    path.write_bytes(content + record[:46] + np.float32(15.0).tobytes() + record[50:])
    assert io.load(path).metadata["tube_voltage_kv"] == 40.0
    assert any("one phase of 2; the others: ::2" in note for note in io.load(path).notes)
    assert io.load(f"{path}::2").metadata["tube_voltage_kv"] == 15.0
    with pytest.raises(ScanError, match="has the phases 1, 2"):
        io.load(f"{path}::3")


@pytest.mark.parametrize("name", PDZ)
@pytest.mark.parametrize("keep", [200, 400, 5000])
def test_pdz_that_is_cut_off(tmp_path: Path, name: str, keep: int) -> None:
    (tmp_path / "a.pdz").write_bytes(sample(name).read_bytes()[:keep])
    with pytest.raises(ScanError, match=r"\.pdz .*(cut off|there are bytes for|without)"):
        io.load(tmp_path / "a.pdz")


@pytest.mark.parametrize("name", [*SPX, *PDZ])
@settings(max_examples=60)
@given(data=st.data())
def test_damaged_bruker_spectra_are_refused_or_read(tmp_path: Path, name: str, data: st.DataObject) -> None:
    content = bytearray(sample(name).read_bytes())
    head = data.draw(st.booleans(), "in the head")
    for _ in range(data.draw(st.integers(1, 8), "bytes changed")):
        place = data.draw(st.integers(0, 400 if head else len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    stop = data.draw(st.one_of(st.none(), st.integers(1, len(content))), "cut at")
    path = tmp_path / "damaged"
    path.write_bytes(content[:stop])
    try:
        counts = io.load(path).counts.compute()
    except ScanError:
        return
    assert (counts >= 0).all()
