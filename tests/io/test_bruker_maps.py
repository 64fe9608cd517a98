"""Bruker .bcf against rosettasciio, with damage, and the container it is in."""

import pickle
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bruker_samples import sample
from hypothesis import given, settings
from hypothesis import strategies as st

from underpaint import io
from underpaint.errors import MissingExtraError, ScanError
from underpaint.io._single import FileSpectrum
from underpaint.io.readers import bcf
from underpaint.io.readers.bcf import Container

SAMPLES = (
    "16x16_12bit_packed_8bit.bcf",
    "30x30_instructively_packed_16bit_compressed.bcf",
    "P45_the_default_job.bcf",
    "bcf-edx-ebsd.bcf",
    "bcf_v2_50x50px.bcf",
    "over16bit.bcf",
    "test_TEM.bcf",
)
HEADER, MAP = "EDSDatabase/HeaderData", "EDSDatabase/SpectrumData0"
SFS_HEAD = 0x118


def others_map(path: Path) -> dict[str, Any]:
    reader = pytest.importorskip("rsciio.bruker").file_reader
    return next(signal for signal in reader(str(path)) if signal["data"].ndim == 3)


def place_of(path: Path, name: str) -> int:
    """Byte at which a file inside a container that is not packed begins."""
    container = Container(path)
    return SFS_HEAD + int(container.files[name].chunks[0]) * container.chunk_bytes + 32


def changed(path: Path, tmp_path: Path, place: int, content: bytes) -> Path:
    file_content = bytearray(path.read_bytes())
    file_content[place : place + len(content)] = content
    (tmp_path / "changed.bcf").write_bytes(file_content)
    return tmp_path / "changed.bcf"


@pytest.mark.parametrize("name", SAMPLES)
def test_bcf_as_rosettasciio_reads_it(name: str) -> None:
    path = sample(name)
    other, scan = others_map(path), io.load(path)
    np.testing.assert_array_equal(scan.counts.compute(), other["data"])
    assert scan.axis is not None
    assert [scan.axis.gain_kev, scan.axis.zero_kev] == [other["axes"][2]["scale"], other["axes"][2]["offset"]]
    if scan.step_mm is not None:
        assert scan.step_mm[0] == pytest.approx(other["axes"][0]["scale"] / 1000)


@pytest.mark.parametrize(
    "name", [sample_name for sample_name in SAMPLES if sample_name != "bcf-edx-ebsd.bcf"]
)  # that was stopped midway
def test_bcf_sum_is_the_sum_spectrum_that_the_file_holds_but_for_its_last_moment(name: str) -> None:
    path = sample(name)
    total = bcf._sum_spectrum(bcf._database(Container(path)), 0, path).counts
    held = io.load(path).counts.sum(axis=(0, 1)).compute()
    # Esprit's own sum counts on for some microseconds after the last pixel; a lost pixel would be far more.
    assert np.abs(held - total).sum() <= 1e-3 * total.sum()


def test_bcf_row_by_row_is_bcf_at_once() -> None:
    cube: Any = bcf.read(sample("bcf_v2_50x50px.bcf"), None, None)[0].counts
    counts = cube.compute()
    rows = np.concatenate([cube[row : row + 1].compute() for row in range(counts.shape[0])])
    np.testing.assert_array_equal(rows, counts)
    np.testing.assert_array_equal(cube[7:9, 3:5].compute(), counts[7:9, 3:5])


def test_bcf_travels_to_other_processes() -> None:
    counts = io.load(sample("over16bit.bcf")).counts
    copy: Any = pickle.loads(pickle.dumps(counts))  # noqa: S301
    np.testing.assert_array_equal(copy.compute(), counts.compute())


def test_bcf_without_the_fast_unpacker(monkeypatch: pytest.MonkeyPatch) -> None:
    path = sample("16x16_12bit_packed_8bit.bcf")
    counts = io.load(path).counts.compute()
    monkeypatch.setattr(bcf, "_decompressor", bcf._slow_decompressor)
    np.testing.assert_array_equal(io.load(path).counts.compute(), counts)


def test_bcf_times_are_those_of_the_file() -> None:
    scan = io.load(sample("bcf-edx-ebsd.bcf"))
    assert scan.real_time_s is not None
    assert np.nanmedian(scan.real_time_s) == pytest.approx(5.6e-3, rel=0.02)
    assert np.nanstd(scan.real_time_s) > 0  # each pixel has its own
    visited = io.load(sample("P45_the_default_job.bcf"))
    other = others_map(sample("P45_the_default_job.bcf"))["metadata"]["Acquisition_instrument"]["SEM"]["Detector"]
    assert visited.real_time_s is not None
    assert visited.real_time_s.sum() == pytest.approx(other["EDS"]["real_time"])


def test_bcf_live_time_is_a_share_of_the_real_time() -> None:
    real = np.array([[1.0, 2.0]])
    total = FileSpectrum(np.ones(4), None, 9.0, 10.0, "", "")
    live = bcf._live_time_s(real, total)
    assert live is not None
    np.testing.assert_allclose(live, [[0.9, 1.8]])


def test_bcf_photographs() -> None:
    path = sample("bcf_v2_50x50px.bcf")
    photographs = {photograph.name: photograph.pixels for photograph in bcf.read_photographs(path)}
    reader = pytest.importorskip("rsciio.bruker").file_reader
    expected = [signal["data"] for signal in reader(str(path)) if signal["data"].ndim == 2]
    assert [pixels.shape for pixels in photographs.values()] == [(50, 50), (825, 1100)]
    for pixels, reference in zip(photographs.values(), expected, strict=True):
        np.testing.assert_array_equal(pixels, reference)


def test_bcf_colours_are_turned_to_red_green_blue() -> None:
    raw = bytes([3, 2, 1, 0, 6, 5, 4, 0])  # Windows bitmaps hold blue, green, red and a spare byte
    np.testing.assert_array_equal(bcf._image_pixels(raw, 1, 2, 4), [[[1, 2, 3], [4, 5, 6]]])


def test_bcf_of_two_detectors_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    # No file with two maps is at hand: the one map is shown twice, as a container with two would show them.
    path = sample("over16bit.bcf")
    counts = io.load(path).counts.compute()
    opened, total = Container.__init__, bcf._sum_spectrum

    def twice(self: Container, source: Path) -> None:
        opened(self, source)
        self.files["EDSDatabase/SpectrumData1"] = self.files[MAP]

    monkeypatch.setattr(Container, "__init__", twice)
    monkeypatch.setattr(bcf, "_sum_spectrum", lambda database, _, source: total(database, 0, source))
    assert [scan.name for scan in io.load_all(path)] == ["over16bit_0", "over16bit_1"]
    np.testing.assert_allclose(io.load(path).counts.compute(), 2.0 * counts)


def test_bcf_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("rsciio.bruker.unbcf_fast", "rsciio.bruker._api"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"underpaint\[bruker\]"):
        io.load(sample("over16bit.bcf"))


# --- damage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "content", "message"),
    [
        (0x128, struct.pack("<I", 2**31), "chunks have 2147483648 bytes"),
        (0x144, struct.pack("<I", 2**30), "1073741824 files are declared"),
        (0x140, struct.pack("<I", 2**31), "is requested, the file has"),
    ],
)
def test_container_that_promises_more_than_it_holds(tmp_path: Path, place: int, content: bytes, message: str) -> None:
    with pytest.raises(ScanError, match=message):
        io.load(changed(sample("P45_the_default_job.bcf"), tmp_path, place, content))


def test_container_whose_folders_go_round(tmp_path: Path) -> None:
    path = sample("P45_the_default_job.bcf")
    tree = path.read_bytes().index(b"EDSDatabase") - 224
    with pytest.raises(ScanError, match="are inconsistent"):
        io.load(changed(path, tmp_path, tree + 40, struct.pack("<i", 0)))


@pytest.mark.parametrize(
    ("offset", "content", "message"),
    [
        (0x1A4, struct.pack("<I", 100000), "column 100000 of 100"),
        (0x1A0, struct.pack("<I", 2**31), "which is impossible|ends within row"),
        (0x1A4 + 18, struct.pack("<I", 2**31), "which is impossible|ends within row"),
        (0, struct.pack("<i", 2**30), "ends within row|which is impossible"),
        (0, struct.pack("<i", -1), "a map of -1 x 100"),
        (4, struct.pack("<i", 2**30), "does not fit into memory"),
    ],
)
def test_packed_pixels_that_cannot_be(tmp_path: Path, offset: int, content: bytes, message: str) -> None:
    path = sample("P45_the_default_job.bcf")
    with pytest.raises(ScanError, match=message):
        io.load(changed(path, tmp_path, place_of(path, MAP) + offset, content))


def test_bcf_that_is_cut_off(tmp_path: Path) -> None:
    content = sample("P45_the_default_job.bcf").read_bytes()
    for keep in (9, 400, 5000, len(content) // 2, len(content) - 40000):
        (tmp_path / "cut.bcf").write_bytes(content[:keep])
        with pytest.raises(ScanError, match=r"Bruker|inside is damaged|ends within"):
            io.load(tmp_path / "cut.bcf")


def test_container_of_something_else(tmp_path: Path) -> None:
    path = sample("P45_the_default_job.bcf")
    content = path.read_bytes().replace(b"HeaderData", b"LeaderData")
    (tmp_path / "other.bcf").write_bytes(content)
    with pytest.raises(ScanError, match=r"container of a Bruker \.bcf file, but it contains EDSDatabase/LeaderData"):
        io.load(tmp_path / "other.bcf")


@pytest.mark.parametrize("name", ["over16bit.bcf", "16x16_12bit_packed_8bit.bcf", "test_TEM.bcf"])
@settings(max_examples=80)
@given(data=st.data())
def test_damaged_bcf_is_refused_or_read(tmp_path: Path, name: str, data: st.DataObject) -> None:
    path = sample(name)
    content = bytearray(path.read_bytes())
    places = st.one_of(
        st.integers(0, 0x160),
        st.integers(0, len(content) - 1),
        st.integers(0, 3000).map(lambda offset: place_of(path, MAP) + offset),
    )
    for _ in range(data.draw(st.integers(1, 12), "bytes changed")):
        content[data.draw(places) % len(content)] = data.draw(st.integers(0, 255))
    stop = data.draw(st.one_of(st.none(), st.integers(1, len(content))), "cut at")
    (tmp_path / "damaged.bcf").write_bytes(content[:stop])
    try:
        io.load(tmp_path / "damaged.bcf").counts.compute()
        bcf.read_photographs(tmp_path / "damaged.bcf")
    except ScanError:
        return
