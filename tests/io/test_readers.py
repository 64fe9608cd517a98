"""Readers are found, not listed: those of the package by a walk, those of others by their entry points."""

import inspect
import json
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from underpaint import io
from underpaint.cli import app
from underpaint.data import EnergyAxis
from underpaint.errors import ScanError
from underpaint.io.readers import formats, readers

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "extending.md"
Announce = Callable[[str, str], None]


@pytest.fixture
def announce(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Announce]:
    """Make a module that another package announces as a reader: its name and its text."""
    entries: list[metadata.EntryPoint] = []

    def add(name: str, text: str) -> None:
        (tmp_path / "site" / f"{name}.py").write_text(text, "utf-8")
        entries.append(metadata.EntryPoint(name, name, "underpaint.readers"))
        readers.cache_clear()

    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(metadata, "entry_points", lambda group: [entry for entry in entries if entry.group == group])
    yield add
    for entry in entries:
        sys.modules.pop(entry.name, None)
    readers.cache_clear()


def example() -> str:
    """The reader of the page that shows how to write one."""
    return PAGE.read_text("utf-8").split("```python\n")[1].split("```")[0]


def toy_map(path: Path, cube: NDArray[np.int64]) -> Path:
    path.write_bytes(b"TOYMAP1" + struct.pack("<3Id", *cube.shape, 0.02) + cube.astype("<u2").tobytes())
    return path


def test_the_reader_of_the_page_reads(tmp_path: Path, announce: Announce, cube: NDArray[np.int64]) -> None:
    path = toy_map(tmp_path / "scan.bin", cube)
    with pytest.raises(ScanError, match=r"begins|binary data"):
        io.load(path)
    announce("toy", example())
    scan = io.load(path)
    np.testing.assert_array_equal(scan.counts.compute(), cube)
    assert (scan.axis, scan.format) == (EnergyAxis(0.02, 0.0, 8), "Toy")
    listed = json.loads(CliRunner().invoke(app, ["formats", "--json"]).stdout)
    assert "Map of the Toy scanner" in {known["name"] for known in listed}
    with pytest.raises(ScanError, match=r"scan\.bin is none of them\. Drop ::a"):
        io.load(f"{path}::a")
    content = path.read_bytes()
    for size in (10, 30, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(ScanError, match="cut off"):
            io.load(path)


def test_priority_decides_between_two_that_recognise_a_file(tmp_path: Path, announce: Announce) -> None:
    path = tmp_path / "panel.npz"
    np.savez(path, cube=np.ones((2, 2, 64)))
    greedy = example().replace('head.startswith(b"TOYMAP1")', "bool(head)")
    announce("late", greedy.replace('2026"', '2026", priority=60'))
    assert io.load(path).format == "numpy .npz"
    announce("early", greedy.replace('2026"', '2026", priority=10'))
    with pytest.raises(ScanError, match="a Toy map"):
        io.load(path)


def test_a_reader_that_cannot_be_used_is_left_out(announce: Announce, mca_folder: Path) -> None:
    announce("broken", "import a_module_that_is_not_there")
    announce("incomplete", example().replace("def sniff", "def recognise"))
    with pytest.warns(UserWarning, match=r"'broken' \(broken\).* is skipped: No module named|'incomplete'.*sniff"):
        assert io.load(mca_folder).shape == (3, 4, 8)


def test_all_readers_have_one_signature() -> None:
    for reader in readers():
        assert list(inspect.signature(reader.sniff).parameters) == ["path", "head"]
        assert list(inspect.signature(reader.read).parameters) == ["path", "part_name", "shape"]
        assert not reader.sniff(PAGE.parent, b""), reader.FORMAT.name
    assert len({known.name for known in formats()}) == len(readers())


def test_layouts_are_tried_before_their_container() -> None:
    order = [reader.FORMAT.name for reader in readers()]
    assert all(order.index(name) < order.index("HDF5") for name in order if name.startswith("HDF5 ("))
    assert order.index("maxrf4u .datastack") < order.index("numpy .npz")
    assert order[-1] == "CSV"


def test_recognising_a_format_imports_no_library_of_another(mca_folder: Path) -> None:
    code = (
        f"import sys, underpaint; underpaint.load({str(mca_folder)!r}); "
        "print(*{'zarr', 'tifffile', 'rsciio'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
