"""Links and virtual datasets: followed within the folder for counts and facts alike, refused where they lead out."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from underpaint import io
from underpaint.data import EnergyAxis
from underpaint.errors import ScanError

Cube = NDArray[np.int64]


def detector(path: Path, cube: Cube) -> Path:
    """A file of one detector, with its facts beside the counts."""
    with h5py.File(path, "w") as file:
        group = file.create_group("entry/instrument/det")
        group["data"], group["calibration"], group["live_time"] = cube, [-0.1, 0.5, 0.0], np.full(cube.shape[:2], 0.25)
        group["notes"] = "written by hand"
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "scan"
    inside.mkdir()
    (tmp_path / "elsewhere").mkdir()
    return inside


def check(scan: Any, cube: Cube) -> None:
    np.testing.assert_array_equal(scan.counts.compute(), cube)
    assert scan.axis == EnergyAxis(0.5, -0.1, 8)
    np.testing.assert_array_equal(scan.live_time_s, np.full((3, 4), 0.25))
    assert "written by hand" in scan.notes


@pytest.mark.parametrize("kind", ["dataset", "group", "chain"])
def test_facts_are_read_where_an_external_link_leads(folder: Path, cube: Cube, kind: str) -> None:
    detector(folder / "raw.h5", cube)
    with h5py.File(folder / "master.h5", "w") as file:
        if kind == "dataset":
            file["counts"] = h5py.ExternalLink("raw.h5", "/entry/instrument/det/data")
        elif kind == "group":
            file["scan"] = h5py.ExternalLink("raw.h5", "/entry")
        else:
            with h5py.File(folder / "middle.h5", "w") as middle:
                middle["there"] = h5py.ExternalLink("raw.h5", "/entry")
                middle["soft"] = h5py.SoftLink("/there/instrument")
            file["scan"] = h5py.ExternalLink("middle.h5", "/soft/det")
    check(io.load(folder / "master.h5"), cube)


def test_facts_are_read_where_a_soft_link_leads(folder: Path, cube: Cube) -> None:
    with h5py.File(detector(folder / "a.h5", cube), "r+") as file:
        group = file.create_group("entry/measurement")
        group.attrs.update({"NX_class": "NXdata", "signal": "fluo"})
        group["fluo"] = h5py.SoftLink("/entry/instrument/det/data")
    for location in ("a.h5", "a.h5::/entry/measurement", "a.h5::/entry/measurement/fluo"):
        check(io.load(folder / location), cube)


@pytest.mark.parametrize("curve", [0.0, 1e-8])
def test_stack_exported_by_pymca(tmp_path: Path, curve: float) -> None:
    export = pytest.importorskip("PyMca5.PyMcaCore.McaStackExport", reason="PyMca5 is not installed")
    from PyMca5.PyMcaCore.DataObject import DataObject

    counts = np.random.default_rng(0).poisson(3.0, (6, 8, 2048)).astype(np.float32)
    stack = DataObject()
    stack.data, stack.x = counts, [np.arange(2048.0)]
    stack.info = {"McaCalib": [-0.1, 0.02, curve], "McaLiveTime": np.full(48, 0.1), "McaIndex": -1, "FileIndex": 0}
    stack.info |= {"Size": counts.size, "NumberOfFiles": 1, "SourceName": "x", "SourceType": "y"}
    stack.info |= {"xScale": [0.0, 0.5], "yScale": [0.0, 0.25], "positioners": {}}
    export.exportStackList([stack], str(tmp_path / "a.h5"))
    scan = io.load(tmp_path / "a.h5")
    np.testing.assert_array_equal(scan.counts.compute(), counts)
    assert scan.axis is not None
    assert scan.axis.gain_kev == pytest.approx(0.02, rel=0.002)
    assert scan.axis.zero_kev == pytest.approx(-0.1, abs=0.02)
    np.testing.assert_allclose(np.asarray(scan.live_time_s), 0.1)
    nonlinear = [note for note in scan.notes if "not linear" in note]
    assert bool(nonlinear) == (curve > 0)


# --- nothing leads out -------------------------------------------------------------------------------


ELSEWHERE = "a secret of another folder"


def other_file(path: Path, cube: Cube) -> Path:
    with h5py.File(path, "w") as file:
        file["data"], file["text"], file["times"], file["calibration"] = (
            cube,
            ELSEWHERE,
            np.full((3, 4), 7.0),
            [0.0, 0.3, 0],
        )
    return path


@pytest.mark.parametrize("way", ["relative", "absolute", "symbolic link", "external raw file", "virtual"])
@pytest.mark.parametrize("fact", ["notes", "live_time", "calibration", "detector"])
def test_no_fact_is_read_from_another_folder(folder: Path, cube: Cube, way: str, fact: str) -> None:
    outside = other_file(folder.parent / "elsewhere" / "secret.h5", cube)
    place = {"notes": "text", "detector": "text", "live_time": "times", "calibration": "calibration"}[fact]
    target = {"relative": "../elsewhere/secret.h5", "absolute": str(outside)}.get(way, "inside.h5")
    if way == "symbolic link":
        (folder / "inside.h5").symlink_to(outside)
    shape, dtype = {"live_time": ((3, 4), "f8"), "calibration": ((3,), "f8")}.get(fact, ((1,), "S8"))
    with h5py.File(folder / "a.h5", "w") as file:
        file["counts"] = cube
        if way == "external raw file":
            (folder.parent / "elsewhere" / "bytes").write_bytes(np.full(12, 7.0).tobytes())
            file.create_dataset(fact, shape, dtype, external=[("../elsewhere/bytes", 0, h5py.h5f.UNLIMITED)])
        elif way == "virtual":
            layout = h5py.VirtualLayout(shape, dtype)
            layout[...] = h5py.VirtualSource(str(outside), place, shape)
            file.create_virtual_dataset(fact, layout)
        else:
            file[fact] = h5py.ExternalLink(target, f"/{place}")
    scan = io.load(folder / "a.h5")
    np.testing.assert_array_equal(scan.counts.compute(), cube)
    assert (scan.live_time_s, scan.axis, scan.detector) == (None, None, "")
    assert not any(ELSEWHERE in note for note in scan.notes)
    assert any(fact in note and "outside the file's folder" in note for note in scan.notes)


@pytest.mark.parametrize("way", ["relative", "absolute", "symbolic link", "through a source", "second step"])
def test_no_counts_are_read_from_another_folder(folder: Path, cube: Cube, way: str) -> None:
    outside = other_file(folder.parent / "elsewhere" / "secret.h5", cube)
    with h5py.File(folder / "a.h5", "w") as file:
        if way == "symbolic link":
            (folder / "inside.h5").symlink_to(outside)
            file["counts"] = h5py.ExternalLink("inside.h5", "/data")
        elif way in {"through a source", "second step"}:
            with h5py.File(folder / "inside.h5", "w") as inside:
                inside["data"] = h5py.ExternalLink(str(outside), "/data")
            if way == "second step":
                file["counts"] = h5py.ExternalLink("inside.h5", "/data")
            else:
                layout = h5py.VirtualLayout(cube.shape, cube.dtype)
                layout[...] = h5py.VirtualSource("inside.h5", "data", cube.shape)
                file.create_virtual_dataset("counts", layout)
        else:
            target = "../elsewhere/secret.h5" if way == "relative" else str(outside)
            file["counts"] = h5py.ExternalLink(target, "/data")
    for location in ("a.h5", "a.h5::/counts"):
        with pytest.raises(ScanError, match="outside the file's folder"):
            io.load(folder / location)


def test_counts_in_a_bare_file_are_read_from_the_files_folder(
    folder: Path, cube: Cube, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "bytes").write_bytes(cube.tobytes())
    (folder.parent / "bytes").write_bytes(np.zeros_like(cube).tobytes())
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("counts", cube.shape, cube.dtype, external=[("bytes", 0, h5py.h5f.UNLIMITED)])
    monkeypatch.chdir(folder.parent)
    np.testing.assert_array_equal(io.load("scan/a.h5").counts.compute(), cube)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_link_to_a_pipe_does_not_block(folder: Path) -> None:
    os.mkfifo(folder / "pipe.h5")
    with h5py.File(folder / "a.h5", "w") as file:
        file["counts"] = h5py.ExternalLink("pipe.h5", "/data")
    with pytest.raises(ScanError, match="which does not exist"):
        io.load(folder / "a.h5")


# --- circles and sizes that cannot be ------------------------------------------------------------------


def virtual(file: Any, name: str, target: str, source: str, shape: tuple[int, ...] = (3, 4, 8)) -> None:
    layout = h5py.VirtualLayout(shape, "i8")
    layout[...] = h5py.VirtualSource(target, source, shape)
    file.create_virtual_dataset(name, layout)


def circle(folder: Path, kind: str) -> None:
    with h5py.File(folder / "a.h5", "w") as file:
        if kind == "soft links":
            file["counts"], file["other"] = h5py.SoftLink("/other"), h5py.SoftLink("/counts")
        elif kind == "external links":
            file["counts"] = h5py.ExternalLink("a.h5", "/counts")
        elif kind == "itself":
            virtual(file, "counts", ".", "counts")
        elif kind == "itself by name":
            virtual(file, "counts", "a.h5", "counts")
        elif kind == "a number in the name":
            layout = h5py.VirtualLayout((3, 4, 8), "i8", maxshape=(None, 4, 8))
            layout[: h5py.h5s.UNLIMITED : 1] = h5py.VirtualSource("%b.h5", "counts", (1, 4, 8))
            file.create_virtual_dataset("counts", layout)
        elif kind == "through a link":
            virtual(file, "counts", ".", "alias")
            file["alias"] = h5py.SoftLink("/counts")
        elif kind == "each other":
            virtual(file, "counts", ".", "other")
            virtual(file, "other", ".", "counts")
        elif kind == "a time":
            file["counts"] = np.ones((3, 4, 8))
            virtual(file, "live_time", ".", "live_time", (3, 4))
        else:
            virtual(file, "counts", "b.h5", "counts")
    if kind == "another file":
        with h5py.File(folder / "b.h5", "w") as file:
            virtual(file, "counts", "a.h5", "counts")
    if kind == "a number in the name":
        (folder / "a.h5").rename(folder / "0.h5")


CIRCLES = [
    "soft links",
    "external links",
    "itself",
    "itself by name",
    "a number in the name",
    "through a link",
    "each other",
    "another file",
    "a time",
]


def test_circles_are_refused(folder: Path) -> None:
    """In another process, since HDF5 ends it where a circle is read."""
    for kind in CIRCLES:
        (folder / kind).mkdir()
        circle(folder / kind, kind)
    code = """
    import sys
    from underpaint import io
    from underpaint.errors import ScanError
    for path in sys.argv[1:]:
        print(path, flush=True)
        try:
            scan = io.load(path)
            scan.counts.compute()
            print(repr(scan.notes))
        except ScanError as error:
            print(repr(str(error)))
    """
    paths = [str(next((folder / kind).glob("[a0].h5"))) for kind in CIRCLES]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *paths], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[::2] == paths
    refused = ("refers to itself", "leads in a circle")
    assert [line for line in lines[1::2] if not any(words in line for words in refused)] == []


def test_a_virtual_dataset_larger_than_its_sources(folder: Path) -> None:
    with h5py.File(folder / "a.h5", "w") as file:
        file["small"] = np.ones((2, 2, 8), "i8")
        layout = h5py.VirtualLayout((1000, 1000, 960), "i8")
        layout[:2, :2, :8] = h5py.VirtualSource(".", "small", (2, 2, 8))
        file.create_virtual_dataset("counts", layout)
    with pytest.raises(ScanError, match=r"declares \(1000, 1000, 960\) numbers, 7680 MB; its sources contain"):
        io.load(folder / "a.h5")


def test_a_virtual_dataset_with_gaps_says_so(folder: Path, cube: Cube) -> None:
    with h5py.File(folder / "a.h5", "w") as file:
        file["part"] = np.ones((2, 4, 8), "i8")
        layout = h5py.VirtualLayout((4, 4, 8), "i8")
        layout[:2] = h5py.VirtualSource(".", "part", (2, 4, 8))
        file.create_virtual_dataset("counts", layout)
    scan = io.load(folder / "a.h5")
    assert scan.shape == (4, 4, 8)
    assert "50% of the counts are in none of the source files and are read as zero" in scan.notes


def test_virtual_datasets_of_numbered_files(folder: Path) -> None:
    counts = np.random.default_rng(0).integers(0, 50, (3, 4, 8))
    for number, row in enumerate(counts):
        with h5py.File(folder / f"row_{number}.h5", "w") as file:
            file["d"] = row
    with h5py.File(folder / "a.h5", "w") as file:
        layout = h5py.VirtualLayout(counts.shape, counts.dtype)
        for number in range(3):
            layout[number] = h5py.VirtualSource(f"row_{number}.h5", "d", (4, 8))
        file.create_virtual_dataset("counts", layout)
    np.testing.assert_array_equal(io.load(folder / "a.h5").counts.compute(), counts)


def test_a_scan_that_another_file_took_the_place_of_is_refused_in_words(folder: Path, cube: Cube) -> None:
    scan = io.load(detector(folder / "scan.h5", cube))
    with h5py.File(folder / "scan.h5", "w") as file:
        file["other"] = 1
    with pytest.raises(ScanError, match=r"the dataset .* no longer exists.*was changed"):
        scan.counts.compute()
