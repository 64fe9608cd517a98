"""Ripple and EMSA files that rosettasciio wrote, and damaged ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from underpaint import io
from underpaint.data import EnergyAxis
from underpaint.errors import ScanError

Cube = NDArray[np.int64]
WRITTEN_AS = {"i1": "u1", ">i2": ">u2", "<u4": "<i4", ">u4": ">i4", "<u8": "<i8"}
"""Types that the library reads but does not write: it writes the other sign, and the header is changed."""
INCA = """(MLX::INCA
(MLX::width : 4)
(MLX::height : 3)
(MLX::depth : 8)
(MLX::offset : 0)
(MLX::data-length : 2)
(MLX::data-type : unsigned)
(MLX::byte-order : little-endian)
(MLX::record-by : 'vector')
"""


def axis(name: str, size: int, *, navigate: bool, **scale: Any) -> dict[str, Any]:
    known = {"offset": 0.0, "scale": 1.0, "units": ""} | scale
    return {"name": name, "size": size, "navigate": navigate, **known}


def signal(counts: NDArray[Any], *, by_vector: bool) -> dict[str, Any]:
    """What rosettasciio's writers take."""
    energy = {"offset": -0.1, "scale": 0.02, "units": "keV"}
    n_row, n_column, n_channel = counts.shape
    rows = axis("height", n_row, navigate=by_vector, scale=0.5, units="mm")
    columns = axis("width", n_column, navigate=by_vector, scale=0.25, units="mm")
    channels = axis("Energy", n_channel, navigate=not by_vector, **energy)
    return {
        "data": counts if by_vector else np.ascontiguousarray(np.moveaxis(counts, 2, 0)),
        "axes": [rows, columns, channels] if by_vector else [channels, rows, columns],
        "metadata": {"Signal": {"signal_type": ""}, "General": {"title": "a"}},
        "original_metadata": {},
    }


@pytest.mark.parametrize("by_vector", [True, False], ids=["vector", "image"])
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<u4", ">u4", "<u8", "i1", ">i2", "<i4", ">i8", "<f4", ">f8"])
def test_ripple_that_rosettasciio_wrote(tmp_path: Path, cube: Cube, dtype: str, *, by_vector: bool) -> None:
    ripple = pytest.importorskip("rsciio.ripple")
    header = tmp_path / "a.rpl"
    ripple.file_writer(str(header), signal(cube.astype(WRITTEN_AS.get(dtype, dtype)), by_vector=by_vector))
    if dtype in WRITTEN_AS:
        other_sign = {"i": ("unsigned", "signed"), "u": ("signed", "unsigned")}[np.dtype(dtype).kind]
        header.write_text(
            header.read_text().replace("data-type\t{}".format(*other_sign), f"data-type\t{other_sign[1]}")
        )
    scan = io.load(header)
    np.testing.assert_array_equal(scan.counts.compute(), cube)
    assert scan.counts.dtype.newbyteorder("=") == np.dtype(dtype).newbyteorder("=")
    if by_vector:
        assert scan.axis == EnergyAxis(0.02, -0.1, 8)
        assert scan.step_mm == (0.5, 0.25)


@pytest.mark.parametrize(
    ("stored", "header", "reason"),
    [
        (("<u2", "vector"), ("unsigned", 2, "big-endian", "vector"), "as unsigned, little-endian .* byte-order"),
        ((">i4", "image"), ("signed", 4, "little-endian", "image"), "as unsigned, big-endian"),
        (("<f4", "vector"), ("unsigned", 4, "little-endian", "vector"), "as float, little-endian .* Correct data-type"),
        (("<u4", "vector"), ("float", 4, "little-endian", "vector"), "as unsigned, little-endian"),
        ((">f8", "vector"), ("float", 8, "little-endian", "vector"), "as float, big-endian"),
        (("<u2", "vector"), ("unsigned", 2, "little-endian", "image"), r"by vector\. Correct record-by"),
        (("<u2", "image"), ("unsigned", 2, "little-endian", "vector"), r"by image\. Correct record-by"),
    ],
)
def test_headers_that_the_numbers_contradict(
    tmp_path: Path, stored: tuple[str, str], header: tuple[str, int, str, str], reason: str
) -> None:
    channel = np.arange(512)
    lines = np.array([[100, 220, 300], [120, 180, 380], [90, 260, 400]])
    peaks = np.exp(-0.5 * ((channel - lines[..., None]) / 3) ** 2).sum(axis=1)
    paint = np.random.default_rng(1).integers(0, 3, (6, 8))
    counts = np.random.default_rng(0).poisson(2 + 300 * peaks[paint])
    numbers = counts if stored[1] == "vector" else np.moveaxis(counts, 2, 0)
    (tmp_path / "a.raw").write_bytes(np.ascontiguousarray(numbers).astype(stored[0]).tobytes())
    kind, length, order, record = header
    for name, words in (("a", (kind, length, order, record)), ("b", (*true_words(stored[0]), stored[1]))):
        (tmp_path / f"{name}.rpl").write_text(
            "key\tvalue\nwidth\t8\nheight\t6\ndepth\t512\noffset\t0\n"
            "data-type\t{}\ndata-length\t{}\nbyte-order\t{}\nrecord-by\t{}\n".format(*words)
        )
    with pytest.raises(ScanError, match=reason):
        io.load(tmp_path / "a.rpl")
    (tmp_path / "a.raw").rename(tmp_path / "b.raw")
    np.testing.assert_array_equal(io.load(tmp_path / "b.rpl").counts.compute(), counts)


def true_words(dtype: str) -> tuple[str, int, str]:
    kind = {"u": "unsigned", "i": "signed", "f": "float"}[dtype[1]]
    return kind, int(dtype[2]), "big-endian" if dtype[0] == ">" else "little-endian"


@pytest.mark.parametrize("by_vector", [True, False], ids=["vector", "image"])
def test_ripple_in_parts(tmp_path: Path, cube: Cube, *, by_vector: bool) -> None:
    ripple = pytest.importorskip("rsciio.ripple")
    ripple.file_writer(str(tmp_path / "a.rpl"), signal(cube.astype("<u2"), by_vector=by_vector))
    counts = io.load(tmp_path / "a.rpl").counts
    np.testing.assert_array_equal(counts[1:3, 2].compute(), cube[1:3, 2])


def test_ripple_of_inca(tmp_path: Path, cube: Cube) -> None:
    (tmp_path / "a.rpl").write_text(INCA)
    (tmp_path / "a.raw").write_bytes(cube.astype("<u2").tobytes())
    np.testing.assert_array_equal(io.load(tmp_path / "a.rpl").counts.compute(), cube)


def test_other_files_of_the_name_of_a_ripple_are_read_as_themselves(tmp_path: Path, cube: Cube) -> None:
    (tmp_path / "a.rpl").write_text(INCA)
    (tmp_path / "a.raw").write_bytes(cube.astype("<u2").tobytes())
    counts = np.arange(64) % 7
    for name in ("a.csv", "a.txt"):
        (tmp_path / name).write_text("".join(f"{0.02 * channel:.2f},{count}\n" for channel, count in enumerate(counts)))
        spectrum = io.read_spectrum(tmp_path / name)
        np.testing.assert_array_equal(spectrum.counts, counts)
    (tmp_path / "a.docx").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(ScanError, match="Known are"):
        io.load(tmp_path / "a.docx")
    for name in ("a.rpl", "a.raw"):
        np.testing.assert_array_equal(io.load(tmp_path / name).counts.compute(), cube)


def test_ripple_with_comments(tmp_path: Path, cube: Cube) -> None:
    lines = INCA.replace("(MLX::", "").replace(" : ", "\t").replace(")", "\t; of the map").replace("'", "")
    (tmp_path / "a.rpl").write_text(f"; by hand\n{lines}")
    (tmp_path / "a.raw").write_bytes(cube.astype("<u2").tobytes())
    np.testing.assert_array_equal(io.load(tmp_path / "a.raw").counts.compute(), cube)


HEAD = "key{0}value\nwidth{0}4\nheight{0}3\ndepth{0}8\noffset{0}0\ndata-length{0}{1}\ndata-type{0}{2}\n"
HEAD += "byte-order{0}little-endian\nrecord-by{0}vector\n"
ESPRIT = "depthbinsize      1\ndepthscaleorigin    -0.056\ndepthscaleincrement 0.020\ndepthscaleunits  keV\n"
ESPRIT += "widthscaleincrement 0.5\nwidthscaleunits mm\nheightscaleincrement 250\nheightscaleunits um\n"


@pytest.mark.parametrize(
    ("scales", "expected"),
    [
        (ESPRIT, EnergyAxis(0.02, -0.056, 8)),
        ("depth-scale 0,02\ndepth-origin -0,1\ndepth-units keV", EnergyAxis(0.02, -0.1, 8)),
        ("depth-scale 20\ndepth-origin -100\ndepth-units eV", EnergyAxis(0.02, -0.1, 8)),
        ("depth-scale 20\ndepth-origin -100", EnergyAxis(0.02, -0.1, 8)),
        ("ev-per-chan 20", EnergyAxis(0.02, 0.0, 8)),
        ("depth-scale 1\ndepth-origin 0", None),
        ("depth-scale 80\ndepth-units keV", None),
        ("", None),
    ],
)
@pytest.mark.parametrize(("separator", "end"), [("\t", "\r\n"), (" ", "\n"), (",", "\r"), (" = ", "\n")])
def test_ripple_scales(
    tmp_path: Path, cube: Cube, scales: str, expected: EnergyAxis | None, separator: str, end: str
) -> None:
    text = HEAD.format(separator, 2, "unsigned") + scales
    (tmp_path / "a.rpl").write_bytes(text.replace("\n", end).encode())
    (tmp_path / "a.raw").write_bytes(cube.astype("<u2").tobytes())
    scan = io.load(tmp_path / "a.rpl")
    np.testing.assert_array_equal(scan.counts.compute(), cube)
    if expected is None:
        assert scan.axis is None
        assert "energy calibration" in scan.notes[0]
    else:
        axis = scan.require_axis()
        assert [axis.gain_kev, axis.zero_kev] == pytest.approx([expected.gain_kev, expected.zero_kev])
    assert scan.step_mm == ((0.25, 0.5) if scales is ESPRIT else None)


def test_ripple_of_real_numbers(tmp_path: Path, cube: Cube) -> None:
    (tmp_path / "a.rpl").write_text(HEAD.format("\t", 4, "real"))
    (tmp_path / "a.raw").write_bytes(cube.astype("<f4").tobytes())
    np.testing.assert_array_equal(io.load(tmp_path / "a.rpl").counts.compute(), cube)


def test_ripple_whose_numbers_are_a_link(tmp_path: Path, cube: Cube) -> None:
    linked, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for folder in (linked, elsewhere):
        folder.mkdir()
    (linked / "a.rpl").write_text(INCA)
    (elsewhere / "a.raw").write_bytes(cube.astype("<u2").tobytes())
    (linked / "a.raw").symlink_to(elsewhere / "a.raw")
    with pytest.raises(ScanError, match="a link to another place"):
        io.load(linked / "a.rpl")
    (elsewhere / "a.rpl").write_text(INCA)
    (linked / "a.rpl").unlink()
    (linked / "a.rpl").symlink_to(elsewhere / "a.rpl")  # both belong together there
    np.testing.assert_array_equal(io.load(linked / "a.rpl").counts.compute(), cube)


@pytest.mark.parametrize("offset", ["nan", "inf", "-1", "1e300", "2.5"])
def test_ripple_whose_offset_cannot_be(tmp_path: Path, cube: Cube, offset: str) -> None:
    (tmp_path / "a.rpl").write_text(INCA.replace("offset : 0", f"offset : {offset}"))
    (tmp_path / "a.raw").write_bytes(cube.astype("<u2").tobytes())
    with pytest.raises(ScanError, match=r"offset is .*must be an integer, 0 or more"):
        io.load(tmp_path / "a.rpl")


@pytest.mark.parametrize("form", ["Y", "XY"])
def test_emsa_that_rosettasciio_wrote(tmp_path: Path, cube: Cube, form: str) -> None:
    msa = pytest.importorskip("rsciio.msa")
    energy = axis("Energy", 8, navigate=False, offset=-0.1, scale=0.02, units="keV")
    metadata = {"Signal": {"signal_type": "EDS_SEM"}, "General": {"title": "a"}}
    record = {"data": cube[0, 0], "axes": [energy], "metadata": metadata, "original_metadata": {}}
    msa.file_writer(str(tmp_path / "a.msa"), record, format=form)
    spectrum, (other,) = io.read_spectrum(tmp_path / "a.msa"), msa.file_reader(str(tmp_path / "a.msa"))
    np.testing.assert_array_equal(spectrum.counts, cube[0, 0])
    np.testing.assert_array_equal(spectrum.counts, other["data"])
    assert spectrum.axis == EnergyAxis(other["axes"][0]["scale"], other["axes"][0]["offset"], 8)


def test_emsa_whose_axis_is_its_first_column(tmp_path: Path) -> None:
    text = "#FORMAT : EMSA/MAS Spectral Data File\n#XUNITS : eV\n#DATATYPE : XY\n#SPECTRUM : here\n{}\n#ENDOFDATA : \n"
    (tmp_path / "a.msa").write_text(text.format("100, 1\n120, 2\n140, 5"))
    assert io.read_spectrum(tmp_path / "a.msa").axis == EnergyAxis(0.02, 0.1, 3)
    (tmp_path / "b.msa").write_text(text.format("100, 1\n120, 2\n190, 5"))
    assert io.read_spectrum(tmp_path / "b.msa").axis is None


@pytest.mark.parametrize("form", ["ripple", "msa"])
@settings(max_examples=100)
@given(
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.binary(min_size=1, max_size=4)), min_size=1, max_size=5),
    keep=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_damaged_headers_are_refused_or_read(
    tmp_path: Path, form: str, changes: list[tuple[float, bytes]], keep: float
) -> None:
    text = INCA.replace("(MLX::", "").replace(" : ", "\t").replace(")", "").encode()
    emsa = b"#FORMAT : EMSA/MAS\n#NPOINTS : 3\n#XPERCHAN : 0.1\n#OFFSET : 0\n#SPECTRUM : x\n1, 2, 3\n#ENDOFDATA :\n"
    content = bytearray(text if form == "ripple" else emsa)
    for place, new in changes:
        start = int(place * len(content))
        content[start : start + len(new)] = new
    path = tmp_path / ("a.rpl" if form == "ripple" else "a.msa")
    path.write_bytes(content[: int(keep * len(content))])
    path.with_suffix(".raw").write_bytes(bytes(192))
    try:
        io.load(path).counts.compute()
    except ScanError:
        return
