"""Inputs are opened to be read alone, followed no further than their folder, and never unpickled."""

import ast
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mca_files import mca_text
from robust_samples import MAKERS
from test_damaged_stacks import CUBE
from test_edf import fabio_edf

from underpaint import io
from underpaint.errors import ScanError, UnderpaintError
from underpaint.lab.training.label_table import read_label_table
from underpaint.repair import read_positions
from underpaint.simulate.photons import open_photons

SOURCE = Path(io.__file__).resolve().parents[1]
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
Facts = dict[str, tuple[bytes, int, int]]


def facts(folder: Path) -> Facts:
    """Content, mode and time of change of every file; a folder counts as one without content."""
    return {
        str(path.relative_to(folder)): (
            path.read_bytes() if path.is_file() else b"",
            path.stat().st_mode,
            path.stat().st_mtime_ns,
        )
        for path in (folder, *folder.rglob("*"))
    }


@pytest.mark.parametrize("kind", MAKERS)
def test_a_scan_that_may_only_be_read_stays_as_it_is(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "scan"
    folder.mkdir()
    target = MAKERS[kind](folder)
    entries = [folder, *folder.rglob("*")]
    for entry in entries:
        entry.chmod(0o555 if entry.is_dir() else 0o444)
    try:
        before = facts(folder)
        scan = io.load_all(folder / target)[0]
        assert scan.counts.compute(scheduler="synchronous").sum() > 0
        io.photographs_of(folder / target)
        assert facts(folder) == before
    finally:
        for entry in entries:
            entry.chmod(0o755 if entry.is_dir() else 0o644)


# --- nothing is unpickled --------------------------------------------------------------------------


def unpickling(tree: ast.AST) -> list[str]:
    """Imports of modules that unpickle, and calls that allow it."""
    faults = []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        faults += [name for name in names if name.partition(".")[0] in UNPICKLERS]
        if isinstance(node, ast.Call):
            called, words = (
                ast.unparse(node.func),
                {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords},
            )
            if words.get("allow_pickle", "False") != "False":
                faults.append(f"{called}(allow_pickle={words['allow_pickle']})")
            if called == "torch.load" and words.get("weights_only") != "True":
                faults.append("torch.load without weights_only=True")
            if called.endswith("read_pickle"):
                faults.append(called)
    return faults


def test_no_source_unpickles() -> None:
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 50
    faults = {str(file.relative_to(SOURCE)): unpickling(ast.parse(file.read_text("utf-8"))) for file in files}
    assert {name: file_faults for name, file_faults in faults.items() if file_faults} == {}


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from dill import loads",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "pd.read_pickle(a)",
    ],
)
def test_unpickling_would_be_found(text: str) -> None:
    assert len(unpickling(ast.parse(text))) == 1


# --- links and names lead nowhere else -------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


@pytest.fixture
def scan_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "scan"
    folder.mkdir()
    return folder


def linked(source: Path, folder: Path) -> None:
    try:
        (folder / source.name).symlink_to(source)
    except OSError:
        pytest.skip("this system makes no links")


def test_mca_folder_with_a_link_that_leads_out(scan_folder: Path, elsewhere: Path) -> None:
    (scan_folder / "colonneXrighe.txt").write_text("righe 1\ncolonne 2\n")
    (scan_folder / "None_1.mca").write_text(mca_text(CUBE[0, 0]), "latin-1")
    (elsewhere / "None_2.mca").write_text(mca_text(CUBE[0, 1]), "latin-1")
    linked(elsewhere / "None_2.mca", scan_folder)
    with pytest.raises(ScanError, match=r"None_2\.mca in it is a link to another place"):
        io.load(scan_folder)


def test_mca_folder_whose_detector_is_elsewhere(scan_folder: Path, elsewhere: Path) -> None:
    (elsewhere / "10264").mkdir()
    (elsewhere / "10264" / "None_1.mca").write_text(mca_text(CUBE[0, 0]), "latin-1")
    linked(elsewhere / "10264", scan_folder)
    with pytest.raises(ScanError, match="10264 in it is a link to another place"):
        io.load(scan_folder)


def test_grid_file_elsewhere_is_not_read(scan_folder: Path, elsewhere: Path) -> None:
    (scan_folder / "None_1.mca").write_text(mca_text(CUBE[0, 0]), "latin-1")
    (elsewhere / "colonneXrighe.txt").write_text("righe 1\ncolonne 1\n")
    linked(elsewhere / "colonneXrighe.txt", scan_folder)
    with pytest.raises(ScanError, match="no grid file"):
        io.load(scan_folder)


def test_edf_folder_with_a_link_that_leads_out(scan_folder: Path, elsewhere: Path) -> None:
    fabio_edf(scan_folder / "line_1.edf", CUBE[:1].astype(np.int32))
    fabio_edf(elsewhere / "line_2.edf", CUBE[1:2].astype(np.int32))
    linked(elsewhere / "line_2.edf", scan_folder)
    with pytest.raises(ScanError, match=r"line_2\.edf in it is a link to another place"):
        io.load(scan_folder)


def test_tiff_whose_energies_are_elsewhere(scan_folder: Path, elsewhere: Path) -> None:
    target = MAKERS["tiff with energies"](scan_folder)
    (scan_folder / "a.txt").rename(elsewhere / "a.txt")
    linked(elsewhere / "a.txt", scan_folder)
    with pytest.raises(ScanError, match=r"a\.txt in it is a link to another place"):
        io.load(scan_folder / target)
    scan = io.load(f"{scan_folder / target}::{elsewhere / 'a.txt'}")  # named by the person who asks
    assert scan.axis is not None


def test_tiff_folder_with_a_link_that_leads_out(scan_folder: Path, elsewhere: Path) -> None:
    MAKERS["tiff folder"](scan_folder)
    (scan_folder / "c_2.tif").rename(elsewhere / "c_2.tif")
    linked(elsewhere / "c_2.tif", scan_folder)
    with pytest.raises(ScanError, match=r"c_2\.tif in it is a link to another place"):
        io.load(scan_folder)


def test_links_within_a_folder_are_followed(scan_folder: Path) -> None:
    fabio_edf(scan_folder / "line_1.edf", CUBE[:1].astype(np.int32))
    (scan_folder / "line_2.edf").symlink_to("line_1.edf")
    assert io.load(scan_folder).shape == (2, 5, 16)


def test_names_in_an_archive_are_no_paths(scan_folder: Path, elsewhere: Path) -> None:
    np.save(elsewhere / "out.npy", CUBE)
    with zipfile.ZipFile(scan_folder / "a.npz", "w") as archive:
        archive.write(elsewhere / "out.npy", "../elsewhere/written.npy")
        archive.write(elsewhere / "out.npy", "/written.npy")
    scans = io.load_all(scan_folder / "a.npz")
    for scan in scans:
        np.testing.assert_array_equal(scan.counts.compute(), CUBE)
    assert os.listdir(elsewhere) == ["out.npy"]  # noqa: PTH208
    assert not Path("/written.npy").exists()


def test_an_archive_that_unpacks_to_far_more_than_counts_do_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As 8 MB of 8 GB of zeros would be; a scan of one count in a hundred channels is read."""
    monkeypatch.setattr("underpaint.io.readers.npz._MAX_UNCHECKED_BYTES", 10**5)
    few = np.random.default_rng(0).poisson(0.01, (10, 40, 1024)).astype(np.uint16)
    np.savez_compressed(tmp_path / "few.npz", counts=few)
    np.savez_compressed(tmp_path / "bomb.npz", counts=np.zeros_like(few))
    np.testing.assert_array_equal(io.load(tmp_path / "few.npz").counts.compute(), few)
    monkeypatch.setattr("underpaint.io.readers.npz._read_member", None)
    with pytest.raises(ScanError, match=r"bomb.npz::counts: it is compressed \d+ times .*numpy\.savez, which does not"):
        io.load(tmp_path / "bomb.npz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("read", [io.load, read_positions, read_label_table, open_photons])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "scan.h5")
    with pytest.raises(UnderpaintError, match="Cannot read"):
        read(tmp_path / "scan.h5")


@pytest.mark.parametrize("read", [read_positions, read_label_table])
def test_a_table_without_end_is_refused(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with (tmp_path / "table.csv").open("wb") as stream:
        stream.truncate(2**30)
    with pytest.raises(UnderpaintError, match="has 1073741824 bytes, up to"):
        read(tmp_path / "table.csv")
