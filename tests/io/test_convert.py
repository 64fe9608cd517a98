"""Conversion to HDF5 and zarr: lossless, checked, never over something; zarr stores that are not to be trusted."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from bruker_samples import sample
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from typer.testing import CliRunner

from underpaint import io
from underpaint.cli import app
from underpaint.data import EnergyAxis
from underpaint.errors import OutputError, ScanError
from underpaint.io import convert as module
from underpaint.io.convert import convert_scan
from underpaint.io.readers import Photograph, formats

Cube = NDArray[np.int64]
ENDINGS = (".h5", ".zarr")
TIMES = np.arange(1.0, 13.0).reshape(3, 4)


@pytest.fixture
def source(tmp_path: Path, cube: Cube) -> Path:
    """Return a scan with all the facts that a file can have."""
    path = tmp_path / "à la source.npz"
    np.savez(path, cube=cube.astype(np.uint16), gain_kev=0.02, zero_kev=-0.1, live_time_s=TIMES, step_mm=[0.5, 0.25])
    return path


def target_in(tmp_path: Path, ending: str) -> Path:
    if ending == ".zarr":
        pytest.importorskip("zarr")
    return tmp_path / f"done{ending}"


@pytest.mark.parametrize("ending", ENDINGS)
def test_conversion_keeps_every_count_and_fact(tmp_path: Path, source: Path, ending: str) -> None:
    before, steps = io.load(source), []
    done = convert_scan(source, target_in(tmp_path, ending), step=lambda *step: steps.append(step))
    after = io.load(done.target)
    np.testing.assert_array_equal(after.counts.compute(), before.counts.compute())
    assert (after.counts.dtype, after.axis, after.step_mm) == (np.uint16, EnergyAxis(0.02, -0.1, 8), (0.5, 0.25))
    np.testing.assert_array_equal(after.live_time_s, TIMES)
    assert after.real_time_s is None
    assert steps[-1][1:] == (3, 3)
    assert not [entry for entry in tmp_path.iterdir() if entry.suffix == ".part"]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("dtype", ["u1", "i2", ">u2", "u4", "i8", "f4", ">f8"])
def test_conversion_of_every_type(tmp_path: Path, cube: Cube, ending: str, dtype: str) -> None:
    np.savez(tmp_path / "a.npz", cube=cube.astype(dtype))
    after = io.load(convert_scan(tmp_path / "a.npz", target_in(tmp_path, ending)).target).counts
    np.testing.assert_array_equal(after.compute(), cube)
    assert after.dtype.newbyteorder("=") == np.dtype(dtype).newbyteorder("=")


@pytest.mark.parametrize("ending", ENDINGS)
def test_conversion_keeps_detectors_apart(tmp_path: Path, cube: Cube, ending: str) -> None:
    other = np.random.default_rng(8).integers(0, 90, cube.shape)
    np.savez(tmp_path / "two.npz", det_1=cube, det_2=other)
    scans = io.load_all(convert_scan(tmp_path / "two.npz", target_in(tmp_path, ending)).target)
    assert [scan.detector for scan in scans] == ["1", "2"]
    for expected, scan in zip((cube, other), scans, strict=True):
        np.testing.assert_array_equal(scan.counts.compute(), expected)


@pytest.mark.parametrize("ending", ENDINGS)
def test_conversion_of_unknown_times_and_missing_pixels(tmp_path: Path, mca_folder: Path, ending: str) -> None:
    (mca_folder / "10264" / "None_6.mca").unlink()
    after = io.load(convert_scan(mca_folder, target_in(tmp_path, ending)).target)
    before = io.load(mca_folder)
    np.testing.assert_array_equal(after.present, before.present)
    np.testing.assert_array_equal(after.real_time_s, before.real_time_s)
    np.testing.assert_array_equal(after.counts.compute(), before.counts.compute())


def test_pymca_reads_what_was_converted(tmp_path: Path, source: Path, cube: Cube) -> None:
    stacks = pytest.importorskip("PyMca5.PyMcaIO.HDF5Stack1D")
    path = convert_scan(source, tmp_path / "done.h5").target
    stack = stacks.HDF5Stack1D([str(path)], {"x": [], "y": "/measurement/counts"})
    np.testing.assert_array_equal(stack.data, cube)
    with h5py.File(path) as file:
        counts = file["/entry/measurement/counts"]
        assert (counts.compression, counts.chunks) == ("gzip", (1, 4, 8))


@pytest.mark.parametrize("ending", ENDINGS)
def test_conversion_never_replaces(tmp_path: Path, source: Path, ending: str) -> None:
    target = target_in(tmp_path, ending)
    target.write_text("mine")
    with pytest.raises(OutputError, match="already exists and is not replaced"):
        convert_scan(source, target)
    assert target.read_text() == "mine"


@pytest.mark.parametrize("ending", ENDINGS)
def test_conversion_that_reads_back_wrong_is_not_kept(
    tmp_path: Path, source: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill = module._write_rows

    def worn(dataset: Any, scan: Any, report: Any) -> list[bytes]:
        digests = fill(dataset, scan, report)
        dataset[1, 2, 3] = 77
        return digests

    monkeypatch.setattr(module, "_write_rows", worn)
    with pytest.raises(OutputError, match="differs when it is read back"):
        convert_scan(source, target_in(tmp_path, ending))
    assert [entry.name for entry in tmp_path.iterdir()] == [source.name]


@pytest.mark.parametrize("ending", ENDINGS)
def test_conversion_that_is_stopped_leaves_nothing(tmp_path: Path, source: Path, ending: str) -> None:
    def stop(task: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_scan(source, target_in(tmp_path, ending), step=stop)
    assert [entry.name for entry in tmp_path.iterdir()] == [source.name]


def test_nothing_is_written_into_the_folder_of_a_scan(tmp_path: Path, cube: Cube) -> None:
    store = convert_to_zarr(tmp_path, cube)
    before = sorted(tmp_path.rglob("*"))
    commands = (
        ["convert", str(store), str(store / "in.h5")],
        ["identify", str(store), "--out", str(store / "results")],
        ["repair", str(store), "--crop", "0:1,0:1", "--out", str(store / "in.h5")],
    )
    for command in commands:
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 1
        assert "it is in the scan" in done.output
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_a_killed_conversion_left_goes_with_the_next(tmp_path: Path, source: Path, ending: str) -> None:
    target = target_in(tmp_path, ending)
    code = (
        "import os, sys; from underpaint.io import convert_scan\n"
        "convert_scan(*sys.argv[1:], step=lambda what, done, total: done and os._exit(9))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(source), str(target)], check=False).returncode == 9
    assert len(list(tmp_path.iterdir())) > 1
    assert convert_scan(source, target).target == target
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([source.name, target.name])


def test_conversion_of_damaged_counts_tells_the_pixel(tmp_path: Path, cube: Cube) -> None:
    wrong = cube.astype(float)
    wrong[2, 1, 5] = -1
    np.savez(tmp_path / "a.npz", cube=wrong)
    with pytest.raises(ScanError, match=r"row 2, column 1"):
        convert_scan(tmp_path / "a.npz", tmp_path / "done.h5")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.npz"]


def test_conversion_to_what_is_not_written(tmp_path: Path, source: Path) -> None:
    with pytest.raises(OutputError, match=r"ending \.bcf names no format to convert to\. Use \.h5"):
        convert_scan(source, tmp_path / "a.bcf")
    with pytest.raises(OutputError, match="Cannot write"):
        convert_scan(source, tmp_path / "no folder" / "a.h5")


@pytest.mark.parametrize("ending", ENDINGS)
def test_conversion_of_a_bruker_map_brings_its_photographs(tmp_path: Path, ending: str) -> None:
    path, target = sample("bcf_v2_50x50px.bcf"), target_in(tmp_path, ending)
    arguments = ["convert", str(path), str(target), "--photographs", str(tmp_path / "photographs"), "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["photographs"] == ["Ch 1", "42 Ch 1"]
    assert [tifffile.imread(name).shape for name in record["photograph_files"]] == [(50, 50), (825, 1100)]
    np.testing.assert_array_equal(io.load(target).counts.compute(), io.load(path).counts.compute())
    assert io.load(target).real_time_s is not None


def test_photographs_stay_in_their_folder(tmp_path: Path) -> None:
    photograph = Photograph("../../etc/evil", np.ones((2, 3), np.uint8))
    (file,) = module.save_photographs([photograph], tmp_path / "here")
    assert file.resolve().parent == (tmp_path / "here").resolve()


def test_formats_command_lists_all() -> None:
    table = CliRunner().invoke(app, ["formats"], env={"COLUMNS": "200"})
    records = json.loads(CliRunner().invoke(app, ["formats", "--json"]).stdout)
    assert table.exit_code == 0
    assert len(records) == len(formats()) == len({known.name for known in formats()})
    for record in records:
        assert record["source"]
        assert record["recognised_by"]
    endings = {ending for known in formats() for ending in known.endings}
    assert {".mca", ".rpl", ".h5", ".bcf", ".spx", ".pdz", ".msa", ".npz", ".zarr"} <= endings


# --- zarr stores from elsewhere --------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_of_others(tmp_path: Path, cube: Cube, version: int) -> None:
    zarr = pytest.importorskip("zarr")
    root = zarr.create_group(tmp_path / "other.zarr", zarr_format=version)
    root.create_array("scan/data", data=cube, chunks=(2, 2, 8))
    root.create_array("flat", data=cube[0])
    for name in (tmp_path / "other.zarr", f"{tmp_path / 'other.zarr'}::scan/data"):
        np.testing.assert_array_equal(io.load(name).counts.compute(), cube)
    with pytest.raises(ScanError, match=r"contains scan/data \(3, 4, 8\)"):
        io.load(f"{tmp_path / 'other.zarr'}::flat")


def test_zarr_that_would_unpickle(tmp_path: Path, cube: Cube) -> None:
    pytest.importorskip("zarr")
    folder = convert_to_zarr(tmp_path, cube)
    record = json.loads((folder / "counts" / "zarr.json").read_text())
    record["codecs"].append({"name": "numcodecs.pickle"})
    (folder / "counts" / "zarr.json").write_text(json.dumps(record))
    with pytest.raises(ScanError, match=r"encoded with numcodecs\.pickle, which is not allowed"):
        io.load(folder)


def test_zarr_with_a_link_that_leads_out(tmp_path: Path, cube: Cube) -> None:
    pytest.importorskip("zarr")
    folder = convert_to_zarr(tmp_path, cube)
    (tmp_path / "secret").write_text("x")
    (folder / "counts" / "c" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(ScanError, match=r"counts/c/link is a link that leads out"):
        io.load(folder)


def test_zarr_with_a_chunk_missing(tmp_path: Path, cube: Cube) -> None:
    pytest.importorskip("zarr")
    folder = convert_to_zarr(tmp_path, cube)
    (folder / "counts" / "c" / "1" / "0" / "0").unlink()
    with pytest.raises(ScanError, match="3 chunks were written, 2 exist"):
        io.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [3, 2**40, 8]}, "does not fit into memory"),
        ({"shape": [3, 4]}, "of the same number of dimensions"),
        ({"shape": "many"}, "metadata is incomplete"),
        ({"data_type": "object"}, "needed; the zarr store contains none"),
        ({"chunk_grid": {"configuration": {"chunk_shape": [2**20, 2**20, 8]}}}, "at most 1073741824 bytes"),
        (
            {"chunk_grid": {"configuration": {"chunk_shape": [3, 2**22, 8]}}},
            r"805 MB each, and all its files hold 0\.00",
        ),
    ],
)
def test_zarr_metadata_that_cannot_be(tmp_path: Path, cube: Cube, change: dict[str, Any], message: str) -> None:
    pytest.importorskip("zarr")
    folder = convert_to_zarr(tmp_path, cube)
    record = json.loads((folder / "counts" / "zarr.json").read_text())
    (folder / "counts" / "zarr.json").write_text(json.dumps(record | change))
    with pytest.raises(ScanError, match=message):
        io.load(folder)


@pytest.fixture(scope="module")
def whole_store(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    pytest.importorskip("zarr")
    folder = convert_to_zarr(tmp_path_factory.mktemp("whole"), np.arange(96).reshape(3, 4, 8))
    return {
        str(entry.relative_to(folder)): entry.read_bytes() for entry in sorted(folder.rglob("*")) if entry.is_file()
    }


@settings(max_examples=80)
@given(
    file=st.integers(0, 10**6),
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=6),
    keep=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_damaged_zarr_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory,
    whole_store: dict[str, bytes],
    file: int,
    changes: list[tuple[float, int]],
    keep: float,
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    for index, (name, content) in enumerate(whole_store.items()):
        damaged = bytearray(content)
        if index == file % len(whole_store):
            for place, value in changes:
                damaged[int(place * len(content))] = value
            damaged = damaged[: int(keep * len(content))]
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(damaged)
    try:
        io.load(folder).counts.compute()
    except ScanError:
        return


def convert_to_zarr(tmp_path: Path, cube: Cube) -> Path:
    np.savez(tmp_path / "cube.npz", cube=cube, live_time_s=TIMES)
    return convert_scan(tmp_path / "cube.npz", tmp_path / "cube.zarr").target


@pytest.mark.parametrize("ending", ENDINGS)
def test_detectors_that_are_alike_stay_detectors_when_converted(tmp_path: Path, mca_folder: Path, ending: str) -> None:
    """A folder of spectra a detector says what they are; so does the file that they are converted to."""
    shutil.copytree(mca_folder / "10264", mca_folder / "19511")
    target = convert_scan(mca_folder, target_in(tmp_path, ending)).target
    assert [scan.detector for scan in io.load_all(target)] == [scan.detector for scan in io.load_all(mca_folder)]


def test_an_axis_that_is_not_found_is_not_written(tmp_path: Path) -> None:
    np.savez(tmp_path / "flat.npz", cube=np.ones((2, 3, 64), np.uint16))
    arguments = ["convert", str(tmp_path / "flat.npz"), str(tmp_path / "flat.h5"), "--axis", "found"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code != 0
    assert "none was found" in " ".join(done.output.split())
    assert not (tmp_path / "flat.h5").exists()
    assert "--axis" not in CliRunner().invoke(app, arguments[:3]).output
