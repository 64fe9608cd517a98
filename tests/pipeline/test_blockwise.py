"""Scans block by block: the same maps whoever computes them, and whatever stopped on the way."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from underpaint.data import EnergyAxis, Scan
from underpaint.errors import OutputError
from underpaint.io import BlockStore, describe, describe_all, load, read_results, save_scan
from underpaint.pipeline.blocks import process_blocks
from underpaint.pipeline.plan import Settings
from underpaint.pipeline.run import elements_to_folder, identify_to_folder

N_BLOCK = 6
AXIS = EnergyAxis(0.02, 0.0, 1024)
FEW_KILLS, MANY_KILLS = 3, 20
SETTINGS = Settings(calibrated=False)
ELEMENTS = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that started this in the background ignores it
import dask.array as da
import underpaint.io._source as source
source.BLOCK_BYTES = 1 << 15
from underpaint.io import BlockStore
put = BlockStore.put
def slow_put(*arguments):
    put(*arguments)
    print("block", flush=True)
    time.sleep(0.03)
BlockStore.put = slow_put
if "--without-report" in sys.argv:
    sys.argv.remove("--without-report")
    import underpaint.display.report
    underpaint.display.report.write_report = lambda *_, **__: None
print("begun", flush=True)
from underpaint.cli import main
sys.argv = ["underpaint", *sys.argv[1:]]
main()
"""


@pytest.fixture(scope="module")
def scan_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan of lines of calcium, iron, copper and lead over a smooth background."""
    energy, rng = AXIS.energy_kev, np.random.default_rng(1)
    expected = 6.0 * np.exp(-energy / 10) * np.ones((48, 10, 1))
    for line, area in ((3.69, 200), (4.01, 25), (6.40, 500), (7.06, 65), (8.05, 300), (8.90, 40), (10.55, 900)):
        strength = rng.uniform(0.5, 1.5, (48, 10, 1)) * area
        expected = expected + strength * np.exp(-0.5 * ((energy - line) / 0.06) ** 2) * 0.02 / (0.06 * 2.507)
    path = tmp_path_factory.mktemp("scan") / "panel.h5"
    save_scan(Scan(rng.poisson(expected).astype(np.uint16), axis=AXIS, name="panel"), path)
    return path


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("underpaint.io._source.BLOCK_BYTES", 1 << 17)


def arrays(folder: Path) -> dict[str, Any]:
    """Return all numbers of a result."""
    numbers: dict[str, Any] = {}

    def take(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "fu":
            numbers[name] = item[()]

    with h5py.File(folder / "results.h5") as file:
        file.visititems(take)
    return numbers


def same_numbers(first_folder: Path, second_folder: Path) -> None:
    first, second = arrays(first_folder), arrays(second_folder)
    assert first.keys() == second.keys()
    assert len(first) > 10
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)


def test_the_scan_is_cut_into_blocks(scan_file: Path) -> None:
    assert len(list(load(scan_file).blocks())) >= N_BLOCK


def test_no_block_lies_twice_or_not_at_all() -> None:
    n_block = np.zeros((7, 9), int)
    scan = Scan(np.zeros((7, 9, 4)), axis=None)
    for block in Scan(scan.counts.rechunk((3, 4, -1))).blocks():
        n_block[block] += 1
    assert (n_block == 1).all()


def test_a_cluster_gives_the_same_bits(
    scan_file: Path, without_report: None, patient_cluster: None, tmp_path: Path
) -> None:
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    identify_to_folder(scan_file, tmp_path / "threads", SETTINGS)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=":0"
    ) as cluster:
        identify_to_folder(scan_file, tmp_path / "cluster", SETTINGS, scheduler=cluster.scheduler_address)
    same_numbers(tmp_path / "threads", tmp_path / "cluster")


def first_channels(counts: Any, *_: Any) -> dict[str, Any]:
    return {"first": counts[:, :, :2].astype(np.float32)}


def test_a_cluster_without_workers_is_reported_and_waited_for(
    scan_file: Path, patient_cluster: None, tmp_path: Path
) -> None:
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    scan, events = load(scan_file), list[str]()
    with distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster:

        def waiting() -> None:
            events.append("waiting")
            cluster.scale(1)

        process_blocks(
            scan,
            first_channels,
            BlockStore(tmp_path, scan.shape[:2]),
            np.zeros(scan.shape[:2]),
            scheduler=cluster.scheduler_address,
            progress=lambda done, _: events.append(str(done)),
            on_waiting=waiting,
        )
    assert events[0] == "waiting"
    assert events[-1] == str(scan.n_pixel)


class StopError(Exception):
    """As a kill, but of one call."""


def stopped_after(n_block: int, scan: Path, out: Path) -> None:
    """Fit elements, and stop when some blocks are finished."""
    put, done = BlockStore.put, list[int]()

    def counted(*arguments: Any) -> None:
        if len(done) == n_block:
            raise StopError
        put(*arguments)
        done.append(1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BlockStore, "put", counted)
        with pytest.raises(StopError):
            elements_to_folder(scan, out, SETTINGS)


def test_resume_does_the_blocks_that_are_missing_alone(scan_file: Path, without_report: None, tmp_path: Path) -> None:
    elements_to_folder(scan_file, tmp_path / "quiet", SETTINGS)
    stopped_after(2, scan_file, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(OutputError, match=r"engine \('underpaint' before, 'pymca' now\)"):
        elements_to_folder(scan_file, tmp_path / "out", replace(SETTINGS, engine="pymca"), resume=True)
    steps: list[tuple[str, int, int]] = []
    elements_to_folder(scan_file, tmp_path / "out", SETTINGS, resume=True, progress=lambda *step: steps.append(step))
    fitted = [done for task, done, _ in steps if task == "Fitting the elements"]
    n_block = len(list(load(scan_file).blocks()))
    assert fitted[0] > 0
    assert len(fitted) == n_block - 2 + 1
    assert not any(task == "Reading the spectra" for task, _, _ in steps)
    same_numbers(tmp_path / "quiet", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == ["out"]


def test_another_scan_of_the_same_name_is_not_gone_on_with(
    scan_file: Path, without_report: None, tmp_path: Path
) -> None:
    copied_file = tmp_path / "scan.h5"
    copied_file.write_bytes(scan_file.read_bytes())
    stopped_after(1, copied_file, tmp_path / "out")
    os.utime(copied_file, ns=(1, 1))
    with pytest.raises(OutputError, match="scan time"):
        elements_to_folder(copied_file, tmp_path / "out", SETTINGS, resume=True)


def test_pigments_alone_leave_elements_out(scan_file: Path, without_report: None, tmp_path: Path) -> None:
    identify_to_folder(scan_file, tmp_path / "out", replace(SETTINGS, elements=False))
    lazily, at_once = read_results(tmp_path / "out"), read_results(tmp_path / "out", lazily=False)
    assert not lazily.has_elements
    for name in ("lead_pigment", "iron_pigment"):
        np.testing.assert_array_equal(lazily[name], at_once[name])
    np.testing.assert_allclose(lazily.thickness, at_once.thickness, rtol=1e-5)
    assert lazily.summary["settings"]["elements"] is False


def test_a_large_scan_is_described_from_a_part(scan_file: Path) -> None:
    complete = describe(scan_file)
    (part,) = describe_all(scan_file, max_bytes=complete.size_bytes / 3)
    assert 0.2 < part.read_share < 0.8
    assert complete.read_share == 1
    assert part.total_counts == pytest.approx(complete.total_counts, rel=0.05)
    assert part.mean_pixel_counts == pytest.approx(complete.mean_pixel_counts, rel=0.05)
    assert part.sum_spectrum.counts.sum() == pytest.approx(part.read_share * complete.total_counts, rel=0.05)
    assert any("read in part" in note for note in part.notes)


def test_killed_at_random_moments_it_ends_as_if_never_stopped(scan_file: Path, tmp_path: Path) -> None:
    kill_and_compare(scan_file, tmp_path, FEW_KILLS, "--without-report")


@pytest.mark.robust
def test_killed_twenty_times_it_ends_as_if_never_stopped(scan_file: Path, tmp_path: Path) -> None:
    kill_and_compare(scan_file, tmp_path, MANY_KILLS)


def kill_and_compare(scan_file: Path, place: Path, n_kill: int, *options: str) -> None:
    """Kill `elements --resume`, by turns with SIGKILL and SIGINT, at random moments after its first block or before."""
    quiet, out, moments = place / "quiet", place / "out", np.random.default_rng(7)
    kills = 0
    while kills < n_kill:
        code = killed(scan_file, out, kills, moments, *options)
        assert code in {0, 130, -signal.SIGKILL, -signal.SIGINT}
        kills += code != 0
        if out.exists() and kills < n_kill:  # it came to its end before, or a kill met the very end
            shutil.rmtree(out)
    for folder in (out, quiet):
        with started(scan_file, folder, *options) as process:
            assert process.communicate(timeout=300)[0]
            assert process.returncode == 0
    same_numbers(quiet, out)
    assert sorted(path.name for path in place.iterdir()) == ["out", "quiet"]
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in quiet.iterdir())


def killed(scan_file: Path, out: Path, number: int, moments: np.random.Generator, *options: str) -> int:
    """Start, wait until it has begun or for a new block or two and a moment more, kill, and return how it ended."""
    with started(scan_file, out, *options) as process:
        assert process.stdout is not None
        for _ in range(int(moments.integers(0, 4))):
            if not process.stdout.readline():
                break
        time.sleep(moments.uniform(0.0, 0.1))
        process.send_signal(signal.SIGINT if number % 2 else signal.SIGKILL)
        process.communicate(timeout=120)
        return process.returncode


def started(scan_file: Path, out: Path, *options: str) -> "subprocess.Popen[str]":
    arguments = ["elements", str(scan_file), "--out", str(out), "--resume", "--quiet", "--no-calibrate", *options]
    command = [sys.executable, "-c", ELEMENTS, *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Children compute on one thread each, beside each other on few cores."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    if before is None:
        del os.environ["OMP_NUM_THREADS"]
