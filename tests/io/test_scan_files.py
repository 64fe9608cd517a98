"""What a scan consists of, and what tells that any of it has changed."""

import os
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from underpaint.data import EnergyAxis, Scan
from underpaint.errors import OutputError, ScanError
from underpaint.io import convert_scan, read_summary, save_scan
from underpaint.io._scan_files import scan_files
from underpaint.io.results import provenance
from underpaint.io.results.provenance import file_facts, refuse_change
from underpaint.pipeline.plan import Settings
from underpaint.pipeline.run import elements_to_folder

KEYS = {"width": 4, "height": 3, "depth": 8, "offset": 0, "data-type": "unsigned", "data-length": 2}
CUBE = np.arange(96, dtype="<u2").reshape(3, 4, 8)
OF_ELEMENTS = Settings("none", calibrated=False, engine="fixed")  # the engine that plans fastest


def ripple(folder: Path) -> Path:
    CUBE.tofile(folder / "cube.raw")
    text = "key\tvalue\n" + "".join(f"{key}\t{value}\n" for key, value in KEYS.items())
    (folder / "cube.rpl").write_text(text + "byte-order\tlittle-endian\nrecord-by\tvector\n")
    return folder / "cube.rpl"


def virtual(folder: Path) -> Path:
    with h5py.File(folder / "source.h5", "w") as file:
        file["counts"] = CUBE
    layout = h5py.VirtualLayout(CUBE.shape, CUBE.dtype)
    layout[:] = h5py.VirtualSource("source.h5", "counts", CUBE.shape)
    with h5py.File(folder / "master.h5", "w") as file:
        file.create_virtual_dataset("entry/counts", layout)
    return folder / "master.h5"


def linked(folder: Path) -> Path:
    virtual(folder)
    with h5py.File(folder / "link.h5", "w") as file:
        file["entry/counts"] = h5py.ExternalLink("master.h5", "entry/counts")
    return folder / "link.h5"


def raw_beside(folder: Path) -> Path:
    with h5py.File(folder / "outside.h5", "w") as file:
        external = [("outside.bin", 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("counts", CUBE.shape, CUBE.dtype, external=external)[:] = CUBE
    if not (folder / "outside.bin").exists():  # as seen from where the process stands
        Path("outside.bin").rename(folder / "outside.bin")
    return folder / "outside.h5"


def many(folder: Path) -> Path:
    (folder / "many" / "below").mkdir(parents=True)
    for number in range(1500):
        (folder / "many" / "below" / f"{number}.mca").write_text(f"{number}")
    return folder / "many"


MAKERS = {
    "ripple": (ripple, ["cube.raw", "cube.rpl"]),
    "virtual": (virtual, ["master.h5", "source.h5"]),
    "linked": (linked, ["link.h5", "master.h5", "source.h5"]),
    "raw": (raw_beside, ["outside.bin", "outside.h5"]),
}


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", MAKERS)
def test_all_files_of_a_scan_are_known(kind: str, tmp_path: Path) -> None:
    make, names = MAKERS[kind]
    assert sorted(file.name for file, _ in scan_files(make(tmp_path))) == names


@pytest.mark.parametrize("kind", MAKERS)
def test_a_change_of_any_of_its_files_is_seen(kind: str, tmp_path: Path) -> None:
    """By time where the size stays, by size where the time was set back, by content where both were."""
    make, names = MAKERS[kind]
    source = make(tmp_path)
    for name in names:
        before, path = file_facts(source), tmp_path / name
        stat, content = path.stat(), path.read_bytes()
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
        assert file_facts(source) != before
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert file_facts(source) == before
        if name == source.name and source.suffix == ".h5":
            continue  # a header that is damaged points nowhere
        path.write_bytes(content + b"x")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert file_facts(source) != before
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        changed = file_facts(source)
        assert changed["scan sample"] != before["scan sample"]
        assert changed["scan files"] == before["scan files"]
        path.write_bytes(content)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert file_facts(source) == before


def test_a_large_file_and_a_folder_of_many_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(20_000_000))
    stat, before = path.stat(), file_facts(path)
    offsets = provenance._block_offsets(20_000_000, 64, 0)
    assert len(offsets) == 64
    with path.open("r+b") as stream:
        stream.seek(offsets[31] + 7)
        stream.write(b"x")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file_facts(path)["scan sample"] != before["scan sample"]
    folder, sampled, block_offsets = many(tmp_path), list[int](), provenance._block_offsets

    def counted_offsets(size: int, max_blocks: int, file_index: int) -> list[int]:
        sampled.append(file_index)
        return block_offsets(size, max_blocks, file_index)

    monkeypatch.setattr(provenance, "_block_offsets", counted_offsets)
    known = file_facts(folder)
    assert 500 < len(sampled) <= provenance._MAX_BLOCKS
    (folder / "below" / "777.mca").write_text("xyz")
    assert file_facts(folder)["scan files"] != known["scan files"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
def test_pipes_and_files_elsewhere_are_no_part_of_a_scan(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    source = linked(tmp_path / "in")
    (tmp_path / "elsewhere.h5").write_bytes((tmp_path / "in" / "source.h5").read_bytes())
    os.mkfifo(tmp_path / "in" / "pipe.h5")
    with h5py.File(source, "a") as file:
        file["entry/pipe"] = h5py.ExternalLink("pipe.h5", "counts")
        file["entry/out"] = h5py.ExternalLink("../elsewhere.h5", "counts")
        file["entry/self"] = h5py.ExternalLink("link.h5", "entry")
        file["entry/gone"] = h5py.ExternalLink("gone.h5", "counts")
        file["again"] = file["entry"]
    assert sorted(file.name for file, _ in scan_files(source)) == ["link.h5", "master.h5", "source.h5"]


def small_scan(path: Path) -> Path:
    axis = EnergyAxis(0.02, 0.0, 1024)
    iron = sum(area * np.exp(-0.5 * ((axis.energy_kev - line) / 0.06) ** 2) for line, area in ((6.40, 80), (7.06, 10)))
    counts = np.random.default_rng(2).poisson(3.0 + iron, (4, 5, 1024)).astype(np.uint16)
    save_scan(Scan(counts, axis=axis, name="scan"), path)
    return path


def test_stale_results_are_never_passed_for_finished(without_report: None, tmp_path: Path) -> None:
    scan = small_scan(tmp_path / "scan.h5")
    elements_to_folder(scan, "out", OF_ELEMENTS)
    assert elements_to_folder(scan, "out", OF_ELEMENTS, resume=True).summary["skipped"]
    stat, content = scan.stat(), bytearray(scan.read_bytes())
    content[len(content) // 2] ^= 1
    scan.write_bytes(content)
    os.utime(scan, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(OutputError, match=r"of another scan or other settings \(scan sample \(changed\)\)"):
        elements_to_folder(scan, "out", OF_ELEMENTS, resume=True)


def test_results_of_an_earlier_version_are_gone_on_from_where_nothing_contradicts(
    without_report: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = small_scan(tmp_path / "scan.h5")
    with pytest.MonkeyPatch.context() as patch:
        known = {name: value for name, value in file_facts(scan).items() if name in {"scan size", "scan time"}}
        patch.setattr("underpaint.pipeline.run.file_facts", lambda _: known)
        patch.setattr("underpaint.pipeline.run.refuse_change", lambda *_: None)
        elements_to_folder(scan, "out", OF_ELEMENTS)
    assert "scan sample" not in read_summary("out")["settings"]["depends_on"]
    assert elements_to_folder(scan, "out", OF_ELEMENTS, resume=True).summary["skipped"]
    os.utime(scan, ns=(1, 1))
    with pytest.raises(OutputError, match="scan time"):
        elements_to_folder(scan, "out", OF_ELEMENTS, resume=True)


def test_a_scan_that_changes_meanwhile_ends_the_run(without_report: None, tmp_path: Path) -> None:
    scan = small_scan(tmp_path / "scan.h5")

    def touch(task: str, done: int, total: int) -> None:
        if task == "Writing the maps":
            os.utime(scan, ns=(1, 1))

    with pytest.raises(ScanError, match=r"Cannot finish out: the scan .* changed while it was read .*scan time"):
        elements_to_folder(scan, "out", OF_ELEMENTS, progress=touch)
    assert not Path("out").exists()
    os.utime(scan, ns=(2, 2))
    with pytest.raises(OutputError, match="started with other settings"):  # its blocks are of the scan as it was
        elements_to_folder(scan, "out", OF_ELEMENTS, resume=True)
    elements_to_folder(scan, "out", OF_ELEMENTS)

    def touch_again(*_: object) -> None:
        os.utime(scan, ns=(time.time_ns(), time.time_ns()))

    with pytest.raises(ScanError, match="changed while it was read"):
        convert_scan(scan, "new.h5", step=touch_again)
    assert not Path("new.h5").exists()
    scan_facts = file_facts(scan)
    scan.unlink()
    with pytest.raises(ScanError, match="no such file"):
        refuse_change(scan, scan_facts, "out")


def test_a_name_that_is_not_utf8_is_refused_before_the_work(tmp_path: Path) -> None:
    scan = small_scan(tmp_path / "scan.h5")
    odd = tmp_path / os.fsdecode(b"caf\xe9.h5")
    try:
        scan.rename(odd)
    except OSError:
        pytest.skip("this file system has UTF-8 names alone")
    for work in (lambda: elements_to_folder(odd, "out", OF_ELEMENTS), lambda: convert_scan(odd, "new.h5")):
        with pytest.raises(ScanError, match=r"caf\\xe9\.h5: its name is not valid UTF-8"):
            work()


def test_a_scan_called_results_is_never_replaced(without_report: None, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    scan = small_scan(tmp_path / "data" / "results.h5")
    content = scan.read_bytes()
    choices: tuple[dict[str, Any], ...] = ({"overwrite": True}, {"resume": True, "overwrite": True})
    for flags in choices:
        with pytest.raises(OutputError, match="was not written by underpaint"):
            elements_to_folder(scan, tmp_path / "data", OF_ELEMENTS, **flags)
    assert scan.read_bytes() == content


def test_one_pixel_that_outshines_all_others_is_reported(without_report: None, tmp_path: Path) -> None:
    scan = small_scan(tmp_path / "scan.h5")
    assert not any("of all" in note for note in elements_to_folder(scan, "plain", OF_ELEMENTS).notes)
    with h5py.File(scan, "r") as file:
        counts = file["entry/measurement/counts"][()].astype(np.uint32)
    counts[2, 3, 320] = 1_000_000_000
    save_scan(Scan(counts, axis=EnergyAxis(0.02, 0.0, 1024), name="scan"), tmp_path / "bright.h5")
    notes = elements_to_folder(tmp_path / "bright.h5", "bright", OF_ELEMENTS).notes
    assert any("The pixel (row 2, column 3) has 1e+09 of all 1e+09 counts" in note for note in notes)
